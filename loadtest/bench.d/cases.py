"""The cases. A case takes a sample of one system at a time; the systems take turns."""
import os
import random
import time

import load
import process
from process import Failure

WARM_S = 0.3


class Case:
    name = title = None
    group = "one thread"  # the cases of a group share the running systems; "fresh": an instance for each case and system
    figure = "cpu_us"     # the one by which systems are compared
    rounds = None         # where not as many as asked for

    def lacks(self, system):
        """Why a system does not take part; None if it does."""
        if self.needs_origin() and not system.has_origin:
            return "it stores nothing"
        return system.lacks.get(self.name)

    def needs_origin(self):
        return False

    def prepare(self, bench, instance):
        """Before the first sample of an instance."""

    def sample(self, bench, instance, round_number):
        raise NotImplementedError


def check_document(instance, size, name):
    """One response, each byte of it. The floor's has no meaning but its length."""
    status, _, body = load.get(instance.place.port, load.path_of(size, name))
    if status != 200 or len(body) != size:
        raise Failure(f"status {status} and {len(body)} bytes")
    if instance.system.has_origin and body != load.document(size, name):
        raise Failure("it is another body than the origin's")


class Meter:
    """What a system uses while its block runs, and how often the origin is asked meanwhile."""

    def __init__(self, instance):
        self._instance, self._process = instance, instance.process

    def _read(self):
        self._process.check_alive()
        return self._process.cpu_ns() / 1e9, process.busy_s(self._process.cores), time.monotonic(), self._instance.origin_count()

    def __enter__(self):
        self._before = self._read()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.cpu_s, self.busy_s, self.wall_s, self.asked = (b - a for a, b in zip(self._before, self._read()))

    def figures(self, result):
        cores = len(self._process.cores)
        return {"cpu_us": self.cpu_s * 1e6 / result["requests"], "rps": result.get("rps") or result["requests"] / result["seconds"],
                **{name: result[name] for name in ("p50_us", "p99_us", "p999_us") if name in result},
                "core": self.cpu_s / self.wall_s / cores, "others": max(0, self.busy_s - self.cpu_s) / self.wall_s / cores}


def check_hits(asked):
    if asked:
        raise Failure(f"these were no hits: the origin was asked {asked} times")


class HitHttp1(Case):
    """One stored response to all connections."""

    def __init__(self, name, size, what, group="one thread", **request):
        self.name, self.size, self.group, self.request = name, size, group, request
        self.title = f"{what}, HTTP/1.1, {load.CONNECTIONS} connections"

    def count(self, bench, instance, requests):
        """So many of these requests, for a count of instructions."""
        return bench.load.http1(instance.place.port, self.source(), count=requests, connections=1, waits=True,
                                **self.expected())

    def source(self):
        return "-u", load.path_of(self.size, "hot")

    def expected(self):
        return {"length": self.size} | self.request

    def sample(self, bench, instance, round_number):
        check_document(instance, self.size, "hot")
        port, waits = instance.place.port, not bench.cores.disjoint(instance.place.threads)
        bench.load.http1(port, self.source(), seconds=WARM_S, waits=waits, **self.expected())
        with Meter(instance) as meter:
            result = bench.load.http1(port, self.source(), seconds=bench.seconds, waits=waits, **self.expected())
        check_hits(meter.asked)
        return meter.figures(result)


class Rate(HitHttp1):
    def __init__(self, name, size, rate):
        super().__init__(name, size, f"one object of 1 KiB, {rate:,} requests a second and no more", rate=rate)


class HitMany(HitHttp1):
    """Many stored responses, some much more often than others."""
    skew, drawn = 0.9, 500_000

    def __init__(self, name, size):
        super().__init__(name, size, f"100,000 objects of 1 KiB by Zipf's law (s = {self.skew})")

    def prepare(self, bench, instance):
        self.list = os.path.join(bench.directory, "many")
        if not os.path.exists(self.list):
            self._draw(bench.many_objects)
        if instance.system.has_origin:
            self._store_all(bench, instance)

    def _draw(self, objects):
        chance = random.Random(1)
        numbers = list(range(objects))
        chance.shuffle(numbers)
        weights = [1 / rank ** self.skew for rank in range(1, objects + 1)]
        with open(self.list, "w") as f:
            for number in chance.choices(numbers, weights, k=self.drawn):
                f.write(load.path_of(self.size, f"many-{number}") + "\n")

    def _store_all(self, bench, instance):
        source = "-q", load.path_of(self.size, "many-")
        bench.load.http1(instance.place.port, source, count=bench.many_objects, waits=True)
        before = instance.origin_count()
        bench.load.http1(instance.place.port, source, count=bench.many_objects, waits=True)
        if instance.origin_count() != before:
            raise Failure(f"{instance.origin_count() - before} of {bench.many_objects} were not stored")

    def source(self):
        return "-f", self.list


class HitHttp2(Case):
    size = 1024

    def __init__(self, name, tls):
        self.name, self.tls = name, tls
        how = "over TLS 1.3" if tls else "in the clear"
        self.title = f"one object of 1 KiB, HTTP/2 {how}, {load.H2_CONNECTIONS} connections of {load.H2_STREAMS} streams"

    def url(self, instance):
        place, path = instance.place, load.path_of(self.size, "hot")
        if self.tls:
            return f"https://127.0.0.1:{place.tls_port}{path}"
        return f"http://127.0.0.1:{instance.system.h2c_port(place)}{path}"

    def count(self, bench, instance, requests):
        return bench.load.http2(self.url(instance), count=requests, connections=1)

    def sample(self, bench, instance, round_number):
        check_document(instance, self.size, "hot")
        bench.load.http2(self.url(instance), count=load.H2_WARM_REQUESTS)
        with Meter(instance) as meter:
            result = bench.load.http2(self.url(instance), seconds=bench.seconds)
        check_hits(meter.asked)
        return meter.figures(result) | bench.load.http2_latency(self.url(instance), 1)


class Miss(Case):
    name = "miss-1k"
    title = f"each request for another object of 1 KiB, fetched and stored, HTTP/1.1, {load.CONNECTIONS} connections"

    def needs_origin(self):
        return True

    def sample(self, bench, instance, round_number):
        port = instance.place.port

        def run(name, seconds):
            # Waiting, not spinning: the origin needs the core too.
            source = "-q", load.path_of(1024, f"{name}-{round_number}-")
            return bench.load.http1(port, source, seconds=seconds, length=1024, waits=True)
        run("warm", WARM_S)
        with Meter(instance) as meter:
            result = run("miss", bench.seconds)
        if meter.asked != result["requests"]:
            raise Failure(f"{result['requests']} requests, of which {meter.asked} reached the origin")
        before = instance.origin_count()
        check_document(instance, 1024, f"miss-{round_number}-7")
        if instance.origin_count() != before:
            raise Failure("what was fetched was not stored")
        return meter.figures(result)


class Idle(Case):
    name = "idle"
    group = "fresh"
    figure = "bytes"
    rounds = 1
    clients = 10_000
    title = f"{clients:,} clients with idle keep-alive connections: bytes of memory for each"

    def sample(self, bench, instance, round_number):
        place = instance.place
        check_document(instance, 1024, "hot")
        bench.load.http1(place.port, ("-u", load.path_of(1024, "hot")), seconds=WARM_S)
        before = settled_bytes(instance)
        with bench.load.idle(place.port, load.path_of(1024, "hot"), self.clients):
            after = settled_bytes(instance)
            if instance.process.files() < self.clients:
                raise Failure("it has closed connections")
        return {"bytes": (after - before) / self.clients}


def settled_bytes(instance):
    """Its memory once it has stopped growing."""
    size, before = instance.process.pss_bytes(), None
    for _ in range(20):
        time.sleep(0.25)
        before, size = size, instance.process.pss_bytes()
        if size == before:
            break
    return size


def directory_bytes(top):
    return sum(os.stat(os.path.join(where, name)).st_blocks * 512 for where, _, names in os.walk(top) for name in names)


def slab_bytes():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("Slab:"))


class Memory(Case):
    name = "memory"
    group = "fresh"
    figure = "bytes"
    rounds = 1
    size, settling, probed_each = 1024, 5_000, 100
    title = "500,000 stored JSON objects of 1 KiB: bytes of memory for each, beyond those of the body"

    def needs_origin(self):
        return True

    def store(self, bench, instance, name, count):
        source = "-q", load.path_of(self.size, name)
        bench.load.http1(instance.place.port, source, count=count, length=self.size, waits=True)

    def sample(self, bench, instance, round_number):
        objects = 50_000 if bench.small else 500_000
        self.store(bench, instance, "settle-", self.settling)
        before = self.taken(instance)
        with Meter(instance) as meter:
            self.store(bench, instance, "object-", objects)
        if meter.asked != objects:
            raise Failure(f"{objects} requests, of which {meter.asked} reached the origin")
        each = (self.taken(instance) - before) / objects + (instance.system.stored_bytes(instance.place) or 0)
        before = instance.origin_count()
        self.store(bench, instance, "object-", objects // self.probed_each)  # the oldest
        if instance.origin_count() - before > objects // self.probed_each // 1000:
            raise Failure("not all of it is stored")
        return {"bytes": each - self.size, "fill_cpu_us": meter.cpu_s * 1e6 / objects}

    @staticmethod
    def taken(instance):
        """Process memory; files on tmpfs and what the kernel needs to know of them, for whoever stores in files."""
        files = instance.system.file_store(instance.place)
        return settled_bytes(instance) + (directory_bytes(files) + slab_bytes() if files else 0)


ALL = [
    HitHttp1("hit-1k-h1", 1024, "one object of 1 KiB"),
    HitHttp1("hit-16k-h1", 16384, "one object of 16 KiB"),
    HitHttp1("hit-100k-h1", 102400, "one object of 100 KiB"),
    HitHttp2("hit-1k-h2c", tls=False),
    HitHttp2("hit-1k-h2tls", tls=True),
    HitMany("hit-1k-many", 1024),
    HitHttp1("hit-304", 1024, "one object of 1 KiB, If-None-Match and 304", status=304, length=None,
             fields=["If-None-Match: " + load.ETAG % 1024]),
    HitHttp1("hit-head", 1024, "one object of 1 KiB, HEAD", method="HEAD"),
    Rate("rate-5k", 1024, 5000),
    Miss(),
    HitHttp1("hit-1k-2threads", 1024, "one object of 1 KiB, servers with 2 threads", group="two threads"),
    Idle(),
    Memory(),
]
