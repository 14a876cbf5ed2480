// The suite's own modules at work, as its command line has them, in the layout of its repository and of its release on npm.
//
//   node suite.mjs DIRECTORY origin               its origin, on a free port of 127.0.0.1: it says which
//   node suite.mjs DIRECTORY list                 its tests, as JSON
//   node suite.mjs DIRECTORY run BASE FILE [ID..] its client against BASE; what came of each test goes into FILE
//
// A test is changed by being run, so a second try at one takes a second process. With SUITE_DUMP set, all messages of the
// tests that are run are shown.
import { existsSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import net from 'node:net'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const TESTS_AT_ONCE = 25
const REQUEST_TIMEOUT_MS = 10000

const [directory, command, ...words] = process.argv.slice(2)
const root = resolve(directory)
const isRepository = existsSync(join(root, 'test-engine'))
const engine = isRepository ? join(root, 'test-engine') : root

const module = file => import(pathToFileURL(file).href)

// Browsers' tests are not for a proxy. The release leaves one section to its command line to add.
async function sections () {
  const all = [...(await module(join(root, 'tests', 'index.mjs'))).default]
  const extra = join(root, 'tests', 'surrogate-control.mjs')
  if (!isRepository && existsSync(extra)) all.push((await module(extra)).default)
  return all.map(section => ({ ...section, tests: section.tests.filter(test => !test.browser_only) }))
}

// The suite's server listens on all addresses, on a port that must be named before.
async function origin () {
  const listen = net.Server.prototype.listen
  net.Server.prototype.listen = function () { return listen.call(this, 0, '127.0.0.1') }
  Object.assign(process.env, { npm_config_protocol: 'http', npm_config_port: '0', npm_config_pidfile: '/dev/null' })
  await module(join(engine, 'server', 'server.mjs'))
}

async function list () {
  const tests = (await sections()).flatMap(section => section.tests.map(test => ({
    id: test.id,
    section: section.id,
    kind: test.kind ?? 'required',
    name: test.name,
    needs: test.depends_on ?? []
  })))
  process.stdout.write(JSON.stringify(tests))
}

async function run ([base, file, ...ids]) {
  const chosen = (await sections()).map(section => ({
    ...section, tests: section.tests.filter(test => ids.length === 0 || ids.includes(test.id))
  }))
  for (const test of chosen.flatMap(section => section.tests)) test.dump = Boolean(process.env.SUITE_DUMP)
  const { runTests, getResults } = await module(join(engine, 'client', 'runner.mjs'))
  if (isRepository) {
    await runTests(chosen, false, base, TESTS_AT_ONCE)
  } else {
    const fetch = createRequire(join(root, 'package.json'))('node-fetch')
    const patient = (url, init) => fetch(url, { ...init, signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) })
    await runTests(chosen, patient, false, base, TESTS_AT_ONCE)
  }
  writeFileSync(file, JSON.stringify(getResults()))
  process.exit(0) // idle connections would hold it
}

await { origin, list, run }[command](words)
