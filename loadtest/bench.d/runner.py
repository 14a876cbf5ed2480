"""Starts what a run needs, lets the systems take turns at each case, and stops all of it."""
import atexit
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import cases
import load
import process
import systems
from process import Failure

START_S = 30
STORE_MB = 3072
STORE_SMALL_MB = 512
BUILT = os.path.join(systems.ROOT, "build", "bench", "bin")


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def build(name):
    """A program of bench.d, compiled if it is older than its source."""
    source, out = os.path.join(systems.HERE, name + ".c"), os.path.join(BUILT, name)
    if os.path.exists(out) and os.path.getmtime(out) > os.path.getmtime(source):
        return out
    os.makedirs(BUILT, exist_ok=True)
    flags = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-D_GNU_SOURCE"]
    libraries = []
    if name == "floor":
        shown = subprocess.run(["pkg-config", "--cflags", "--libs", "libh2o-evloop"], capture_output=True, text=True, check=True)
        # libh2o's headers describe another library where this is not said, and its package lacks a header.
        flags += ["-DH2O_USE_LIBUV=0", "-I" + os.path.join(systems.ROOT, "proxy", "libh2o")]
        libraries = shlex.split(shown.stdout) + ["-lssl", "-lcrypto", "-lpthread"]
    new = f"{out}.{os.getpid()}"
    subprocess.run([os.environ.get("CC", "cc"), *flags, source, "-o", new, *libraries], check=True)
    os.replace(new, out)
    return out


def make_keys(directory):
    certificate, key, both = (os.path.join(directory, name) for name in ("certificate.pem", "key.pem", "both.pem"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
                    "-subj", "/CN=" + load.HOST, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with open(both, "w") as out:
        for name in (certificate, key):
            os.chmod(name, 0o644)
            with open(name) as f:
                out.write(f.read())
    return {"certificate": certificate, "key": key, "both": both, "key_directory": directory}


class Instance:
    """A system that runs."""

    def __init__(self, system, place, bench, before=()):
        self.system, self.place, self.origin_port = system, place, bench.origin_port
        command = [*before, *system.command(place)]
        self.process = process.Process(system.name, command, bench.cores.server(place.threads), place.directory)
        try:
            self._wait()
        except BaseException:
            self.process.stop()
            raise
        self.process.bind()

    def _wait(self):
        until = time.monotonic() + START_S
        while True:
            self.process.check_alive()
            try:
                if load.get(self.place.port, load.path_of(1024, "ready"))[0] == 200:
                    return
            except Failure:
                pass
            if time.monotonic() > until:
                raise Failure(f"{self.system.name} does not answer: {self.process.log_end()}")
            time.sleep(0.05)

    def origin_count(self):
        """How often the origin was asked for a document, by whomever."""
        return int(load.get(self.origin_port, "/_count")[2])


class Bench:
    def __init__(self, chosen, seconds, rounds, small, many_objects=None):
        self.seconds, self.rounds, self.small = seconds, rounds, small
        self.many_objects = many_objects or (10_000 if small else 100_000)
        self.cores = process.Cores()
        self.directory = tempfile.mkdtemp(prefix="bench-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        atexit.register(shutil.rmtree, self.directory, ignore_errors=True)
        os.chmod(self.directory, 0o755)
        self._running = []
        self._places = 0
        self.keys = make_keys(self.directory)
        self.load = load.Load(build("client"), self.cores.load, self.directory)
        self.left_out = {}
        self.systems = self._present(chosen)
        self.origin_port = process.free_ports(1)[0]
        self._running.append(process.Process("origin", [build("origin"), str(self.origin_port)], self.cores.load, self.directory))

    def _present(self, names):
        present = []
        for name in names:
            system = systems.make(name, build("floor") if name == "floor" else None)
            why = system.missing()
            if why:
                self.left_out[name] = why
                say(f"{name} is left out: {why}")
            else:
                present.append(system)
        return present

    def start(self, system, threads, before=()):
        self._places += 1
        place = systems.Place(os.path.join(self.directory, f"{system.name}-{self._places}"), threads,
                              STORE_SMALL_MB if self.small else STORE_MB, self.origin_port, self.keys)
        instance = Instance(system, place, self, before)
        self._running.append(instance.process)
        return instance

    def stop(self, instance):
        self._running.remove(instance.process)
        instance.process.stop()
        shutil.rmtree(instance.place.directory, ignore_errors=True)

    def stop_all(self):
        # Whoever asked to stop has asked once; what follows must not be cut short.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        while self._running:
            self._running.pop().stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Results:
    """By case and system: samples, or why there are none."""

    def __init__(self, wanted, bench):
        self.cases, self.systems, self.left_out = wanted, bench.systems, bench.left_out
        self.samples = {case.name: {s.name: [] for s in bench.systems} for case in wanted}
        self.lacking = {case.name: {s.name: case.lacks(s) for s in bench.systems if case.lacks(s)} for case in wanted}
        self.failed = {case.name: {} for case in wanted}

    def takes_part(self, case, system):
        return system.name not in self.lacking[case.name] and system.name not in self.failed[case.name]

    def attempt(self, affected, system, call):
        """What call() gives; None if it fails, which ends the system's part in the affected cases."""
        try:
            return call()
        except (Failure, OSError, ValueError) as e:
            for case in affected:
                self.failed[case.name][system.name] = str(e)
            say(f"FAIL {' '.join(case.name for case in affected)} {system.name}: {e}")
            return None

    def add(self, case, system, sample):
        self.samples[case.name][system.name].append(sample)
        shown = "  ".join(f"{name} {value:,.2f}" for name, value in sample.items())
        say(f"{case.name:16} {system.name:8} {shown}")


def run(bench, wanted):
    results = Results(wanted, bench)
    for group, threads in (("one thread", 1), ("two threads", 2)):
        _take_turns(bench, results, [case for case in wanted if case.group == group], threads)
    for case in wanted:
        if case.group == "fresh":
            for system in bench.systems:
                if results.takes_part(case, system):
                    results.attempt([case], system, lambda: _one_sample(bench, results, case, system))
    return results


def _one_sample(bench, results, case, system):
    instance = bench.start(system, threads=1)
    try:
        results.add(case, system, case.sample(bench, instance, 0))
    finally:
        bench.stop(instance)


def _take_turns(bench, results, group, threads):
    instances = {}
    for system in bench.systems:
        mine = [case for case in group if results.takes_part(case, system)]
        if not mine:
            continue
        instance = results.attempt(mine, system, lambda: bench.start(system, threads))
        if instance is not None:
            instances[system] = instance
    for case in group:
        for system, instance in instances.items():
            if results.takes_part(case, system):
                results.attempt([case], system, lambda: case.prepare(bench, instance))
        for number in range(bench.rounds):
            for system, instance in instances.items():
                if results.takes_part(case, system):
                    results.attempt([case], system, lambda: results.add(case, system, case.sample(bench, instance, number)))
    for instance in instances.values():
        bench.stop(instance)
