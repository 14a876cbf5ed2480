"""Purges and invalidations against slow fetches, at random: nothing older than an answered purge is ever served.

Every resource has a version, which the origin writes into its answers as they begin: what it sends slowly may be old by
the time it arrives. Whoever purges changes the versions of what the purge covers first, as an application would, and once
the purge has been answered no request that is sent from then on may see an older one. Origin, clients and purgers live in
one thread, so that this order is exact; the program runs beside them.

A race is a purge (or an answer to an unsafe request) that covers a fetch which is in the air meanwhile.

    WEIR_RACES=100000 /usr/bin/python3 -m pytest tests/e2e/test_races.py -s
"""
import asyncio
import collections
import json
import os
import random
import time

import pytest

from weir import HOST, SANITIZER, SLOW, base_conf, free_port

RACES = int(os.environ.get("WEIR_RACES", "300" if SANITIZER else "3000"))
SEED = int(os.environ.get("WEIR_STORM_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
CLIENTS, PURGERS = 40, 6
HOSTS = [HOST, "other.test"]
KINDS = ["plain", "etag", "vary", "user", "slow", "part", "query"]  # the first part of a path
EACH = 3                                                            # resources of a kind and host
QUERIES = ["", "?utm=1", "?utm=2"]  # of the kind "query": No-Vary-Search says that they are one, mostly
LANGUAGES = ["de", "en"]
USERS = ["ann", "bob"]


def resources():
    return [(host, f"/{kind}/{i}{query}") for host in HOSTS for kind in KINDS for i in range(EACH)
            for query in (QUERIES if kind == "query" else [""])]


def whole(r):
    """Without its query: what has a version."""
    return r[0], r[1].partition("?")[0]


def number_of(path):
    return int(path.partition("?")[0].rsplit("/", 1)[1])


def kind_of(path):
    return path.split("/")[1]


UNIT, UNITS = 8, 40


def parts_of(version):
    """A body each of whose units tells the version."""
    return b"%08d" % version * UNITS


class Message:
    """A request or an answer, read from bytes as they come; strict enough to notice what is cut or mixed up."""

    def __init__(self):
        self.data = b""
        self.head = None

    def feed(self, data):
        """The next whole message as (first line, fields, body), or None."""
        self.data += data
        if self.head is None:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return None
            lines = self.data[:end].decode("latin-1").split("\r\n")
            self.head = (lines[0], {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])})
            self.data = self.data[end + 4:]
        line, fields = self.head
        if "chunked" in fields.get("transfer-encoding", ""):
            body = self._chunks()
        else:
            length = 0 if " 304 " in line or " 204 " in line else int(fields.get("content-length", 0))
            body = self.data[:length] if len(self.data) >= length else None
            if body is not None:
                self.data = self.data[length:]
        if body is None:
            return None
        self.head = None
        return line, fields, body

    def _chunks(self):
        at, out = 0, b""
        while True:
            end = self.data.find(b"\r\n", at)
            if end < 0:
                return None
            size = int(self.data[at:end], 16)
            at = end + 2 + size
            if len(self.data) < at + 2:
                return None
            assert self.data[at:at + 2] == b"\r\n"
            out += self.data[end + 2:at]
            at += 2
            if size == 0:
                self.data = self.data[at:]
                return out


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self):
        self.message, self.answer, self.transport = Message(), None, None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        got = self.message.feed(data)
        if got and self.answer and not self.answer.done():
            self.answer.set_result(got)

    def connection_lost(self, exc):
        if self.answer and not self.answer.done():
            self.answer.set_exception(ConnectionError(f"closed in the middle: {exc}"))

    def send(self, method, host, target, fields=(), body=None):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"] + [f"{n}: {v}" for n, v in fields]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))
        return self.answer


class World:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.version = dict.fromkeys(map(whole, resources()), 1)
        self.floor = dict.fromkeys(resources(), 0)  # what a request that is sent now must see at least
        self.in_air = collections.Counter()         # fetches at the origin
        self.counts = collections.Counter()
        self.races = collections.Counter()
        self.faults = []
        self.stop = False

    def change(self, covered):
        for r in set(map(whole, covered)):
            self.version[r] += 1
        return {r: self.version[whole(r)] for r in covered}

    def answered(self, changed):
        for r, version in changed.items():
            self.floor[r] = max(self.floor[r], version)

    def racing(self, covered):
        return any(self.in_air[whole(r)] for r in covered)


class Origin(asyncio.Protocol):
    def __init__(self, world):
        self.world, self.message, self.transport = world, Message(), None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        got = self.message.feed(data)
        if got:
            line, fields, _ = got
            method, target, _ = line.split(" ")
            if method == "GET":
                self._get(fields["host"], target, fields)
            else:
                self._change(fields["host"], target)

    def _write(self, data):
        if not self.transport.is_closing():
            self.transport.write(data)

    def _change(self, host, target):
        """An unsafe request has its effect when it arrives."""
        w = self.world
        if target.startswith("/do/"):
            group = target.split("/")[2]
            covered = in_group(host, group)
            extra = f'Cache-Group-Invalidation: "none", "{group}"\r\n'
        elif target.startswith("/make/"):
            covered = [(host, target[len("/make"):])]
            extra = f"Location: {target[len('/make'):]}\r\n"
        else:
            covered, extra = [(host, target)], ""
        changed = w.change(covered)
        reply = f"HTTP/1.1 200 OK\r\n{extra}X-Changed: {json.dumps([[h, p, v] for (h, p), v in changed.items()])}\r\nContent-Length: 0\r\n\r\n"
        asyncio.get_running_loop().call_later(w.rng.random() * 0.003, self._write, reply.encode())

    def _get(self, host, target, fields):
        w, r, kind, n = self.world, whole((host, target)), kind_of(target), number_of(target)
        version, user, language = w.version[r], fields.get("authorization"), fields.get("accept-language")
        only = target if kind == "query" and w.rng.random() < 0.2 else None  # for this query alone
        tag = f'"{version}{language if kind == "vary" else only or ""}"'
        head = [f'Cache-Groups: "g{n}", "every"', f"Surrogate-Key: t{n} {kind}", f"Cache-Tag: {kind}-{n}"]
        if kind == "etag" or (kind == "query" and n == 0):
            head += ["Cache-Control: no-cache", f"ETag: {tag}"]
        else:
            head.append("Cache-Control: private, max-age=60" if kind == "user" else "Cache-Control: max-age=60")
        if kind == "vary":
            head.append("Vary: Accept-Language")
        if kind == "part":
            head.append(f"ETag: {tag}")
        if kind == "query" and only is None:
            head.append('No-Vary-Search: params=("utm")')
        facts = [*r, version, user if kind == "user" else None, language if kind == "vary" else None, only]
        body = parts_of(version) if kind == "part" else json.dumps(facts).encode()
        w.in_air[r] += 1
        w.counts["fetches"] += 1
        loop = asyncio.get_running_loop()

        def over():
            w.in_air[r] -= 1
        delay = w.rng.random() ** 2 * 0.02
        if fields.get("if-none-match") == tag:
            w.counts["304"] += 1
            pieces = ["HTTP/1.1 304 Not Modified\r\n" + "\r\n".join(head) + "\r\n\r\n"]
        elif "range" in fields and kind == "part" and fields.get("if-range", tag) == tag:
            w.counts["206"] += 1
            first, last = fields["range"][len("bytes="):].split("-")
            first, last = int(first), int(last or len(body) - 1)
            piece = body[first:last + 1].decode()
            pieces = [f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{len(body)}\r\n" + "\r\n".join(head) +
                      f"\r\nContent-Length: {len(piece)}\r\n\r\n{piece}"]
        elif kind == "slow":  # the head comes long before the body's end
            half = len(body) // 2
            pieces = ["HTTP/1.1 200 OK\r\n" + "\r\n".join(head) + "\r\nTransfer-Encoding: chunked\r\n\r\n"] + [
                f"{len(p):x}\r\n{p.decode()}\r\n" for p in (body[:half], body[half:])] + ["0\r\n\r\n"]
        else:
            pieces = ["HTTP/1.1 200 OK\r\n" + "\r\n".join(head) + f"\r\nContent-Length: {len(body)}\r\n\r\n{body.decode()}"]
        for piece in pieces:
            loop.call_later(delay, self._write, piece.encode())
            delay += w.rng.random() * 0.005
        loop.call_later(delay, over)


def in_group(host, group):
    return [r for r in resources() if r[0] == host and (group == "every" or group == f"g{number_of(r[1])}")]


def ask(world):
    host, path = r = world.rng.choice(list(world.floor))
    fields = []
    if kind_of(path) == "vary":
        fields.append(("Accept-Language", world.rng.choice(LANGUAGES)))
    if kind_of(path) == "user":
        fields.append(("Authorization", world.rng.choice(USERS)))
    if kind_of(path) == "part" and world.rng.random() < 0.8:
        first = world.rng.randrange(UNITS)
        fields.append(("Range", f"bytes={first * UNIT}-{world.rng.randrange(first + 1, UNITS + 1) * UNIT - 1}"))
    return r, host, path, fields


def judge(world, r, fields, floor, answer):
    line, head, body = answer
    wanted = dict(fields)
    if " 200 " not in line and not (" 206 " in line and "Range" in wanted):
        world.faults.append(f"{line} {head} {body[:200]}")
        return
    if kind_of(r[1]) == "part":
        (host, path), version, user, language, only = r, int(body[:UNIT]), None, None, None
        first, last = wanted["Range"][len("bytes="):].split("-") if " 206 " in line else (0, UNITS * UNIT - 1)
        if body != parts_of(version)[int(first):int(last) + 1]:
            world.faults.append(f"bytes of two versions: {r} {fields}, got {head}, {body}")
    else:
        host, path, version, user, language, only = json.loads(body)
    if (host, path) != whole(r) or only not in (None, r[1]) or user != wanted.get("Authorization") or language != wanted.get("Accept-Language"):
        world.faults.append(f"another one's answer: {r} {fields}, got {body}, {head}")
    elif version < floor:
        world.faults.append(f"{r} {fields}: version {version}, older than {floor} of a purge that was answered; {head.get('cache-status')}")
    status = head.get("cache-status", "")
    world.counts["hit" if "; hit" in status else "collapsed" if "collapsed" in status else "fetched"] += 1


async def connect(world, address):
    _, c = await asyncio.get_running_loop().create_connection(Client, *address)
    return c


async def client(world, address):
    c = await connect(world, address)
    while not world.stop:
        r, host, path, fields = ask(world)
        floor = world.floor[r]
        waiting = c.send("GET", host, path, fields)
        if world.rng.random() < 0.01:  # asks and leaves
            await asyncio.sleep(world.rng.random() * 0.005)
            waiting.cancel()
            c.transport.abort()
            c = await connect(world, address)
            continue
        judge(world, r, fields, floor, await waiting)
    c.transport.close()


def choose_purge(world):
    """What to purge, and what that covers."""
    host, path = r = world.rng.choice(list(world.floor))
    everything, dice = list(world.floor), world.rng.random()
    if dice < 0.3:
        return "url", {"url": f"http://{host}{path}"}, [r]
    if dice < 0.42:
        prefix = path[:-1]
        return "prefix", {"prefix": f"http://{host}{prefix}"}, [x for x in everything if x[0] == host and x[1].startswith(prefix)]
    if dice < 0.6:
        tag = f"t{number_of(path)}"
        return "tag", {"tag": tag}, [x for x in everything if number_of(x[1]) == number_of(path)]
    if dice < 0.8:
        tag = f"{kind_of(path)}-{number_of(path)}"
        return "tag", {"tag": tag}, [x for x in everything if whole(x)[1] == whole(r)[1]]
    if dice < 0.9:
        return "tag", {"tag": f"g{number_of(path)}"}, [x for x in everything if number_of(x[1]) == number_of(path)]
    if dice < 0.98:
        return "tag", {"tag": kind_of(path)}, [x for x in everything if kind_of(x[1]) == kind_of(path)]
    return "all", {"all": True}, everything


async def purge(world, admin, admin_host):
    kind, what, covered = choose_purge(world)
    if world.rng.random() < 0.25:
        kind, what = "soft " + kind, {**what, "soft": True}
    changed, racing = world.change(covered), world.racing(covered)
    line, _, body = await admin.send("POST", admin_host, "/purge", (), json.dumps(what).encode())
    assert " 200 " in line, (line, body)
    world.answered(changed)
    return kind, racing or world.racing(covered)


async def unsafe(world, c):
    host, path = r = world.rng.choice(list(world.floor))
    dice = world.rng.random()
    if dice < 0.4:
        kind, target, covered = "unsafe", path, [r]
    elif dice < 0.6:
        kind, target, covered = "location", "/make" + path, [r]
    else:
        group = world.rng.choice(["every", f"g{number_of(path)}"])
        kind, target, covered = "group", f"/do/{group}", in_group(host, group)
    racing = world.racing(covered)
    line, head, body = await c.send(world.rng.choice(["POST", "PUT", "DELETE"]), host, target, (), b"")
    assert " 200 " in line, (line, body)
    world.answered({(h, p): v for h, p, v in json.loads(head["x-changed"])})
    return kind, racing or world.racing(covered)


async def purger(world, address, admin_address):
    c, admin = await connect(world, address), await connect(world, admin_address)
    while not world.stop:
        if world.rng.random() < 0.7:
            kind, racing = await purge(world, admin, f"127.0.0.1:{admin_address[1]}")
        else:
            kind, racing = await unsafe(world, c)
        world.counts["purges"] += 1
        if racing:
            world.races[kind] += 1
        # Now and then nothing is purged for a while, so that something is stored.
        await asyncio.sleep(world.rng.choice([0, 0, 0.001, 0.02]) * world.rng.random())
    c.transport.close()
    admin.transport.close()


def missing(world):
    """What has not happened, or hardly, so that it was not tested."""
    return ([kind for kind in ("url", "prefix", "tag", "all", "soft url", "soft tag", "unsafe", "location", "group") if not world.races[kind]] +
            [what for what in ("hit", "collapsed", "fetched", "304", "206") if world.counts[what] <= RACES / 30])


async def run(world, port, w):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Origin(world), "127.0.0.1", port, backlog=1024)
    await loop.run_in_executor(None, w.start)
    tasks = [asyncio.ensure_future(client(world, w.address)) for _ in range(CLIENTS)]
    tasks += [asyncio.ensure_future(purger(world, w.address, ("127.0.0.1", w.admin_port))) for _ in range(PURGERS)]
    begun = time.monotonic()
    while (sum(world.races.values()) < RACES or missing(world)) and not world.faults and not any(t.done() for t in tasks):
        await asyncio.sleep(0.05)
    took = time.monotonic() - begun
    world.stop = True
    await asyncio.wait_for(asyncio.gather(*tasks), 30 * SLOW)
    server.close()
    return took


@pytest.mark.timeout(RACES / 20 + 60)
def test_nothing_older_than_an_answered_purge_is_served(tmp_path):
    from weir import Weir
    print(f"WEIR_STORM_SEED={SEED}")
    world, port = World(SEED), free_port()

    class Address:
        url = f"http://127.0.0.1:{port}"
    routes = [{"path": "/user/*", "scope": "user", "user": {"header": "Authorization"}},
              {"path": "/query/*", "no_vary_search": True}, {"path": "/**"}]
    w = Weir(tmp_path, base_conf(Address, threads=3, routes=routes, backend={"max_connections": 200}))
    try:
        took = asyncio.run(run(world, port, w))
    finally:
        w.finish()
    n = sum(world.races.values())
    print(f"{n} races in {took:.1f} s, {n / took:.0f} a second:", json.dumps(world.races), json.dumps(world.counts))
    assert not world.faults, f"WEIR_STORM_SEED={SEED}, {len(world.faults)} faults:\n" + "\n".join(world.faults[:10])
    assert not missing(world)
