"""SIGHUP: a new configuration without a lost connection, request or stored answer."""
import json
import os
import signal
import threading
import time

import pytest

from origin import Reply
from weir import SLOW, base_conf, free_port

MINUTE = (("Cache-Control", "max-age=60"),)


def until(condition, what):
    deadline = time.monotonic() + 5 * SLOW
    while not condition():
        assert time.monotonic() < deadline, what


def test_routes_and_tiers_change_and_the_cache_stays(origin, start):
    origin.default = lambda q: Reply(b"%d" % origin.count())
    conf = base_conf(origin, routes=[{"path": "/a", "ttl": "t"}], ttl={"t": "10s"})
    w = start(conf=conf)
    w.get("/a")
    kept = w.http1()
    assert kept.get("/a").hit and kept.get("/b").status == 404
    w.reload_and_wait(dict(conf, ttl={"t": "1h"}, routes=[*conf["routes"], {"path": "/b", "backend": "api", "ttl": "t"}]))
    assert kept.get("/b").status == 200
    assert w.get("/a").hit, "the cache was lost"
    assert w.get("/b").cache["ttl"] > 3000
    w.reload(dict(conf))
    until(lambda: kept.get("/b").status == 404, "the old route never went")


def test_an_invalid_file_is_reported_and_the_old_one_stays(origin, start):
    origin.default = lambda q: Reply(b"x")
    w = start(origin)
    c = w.http1()
    assert c.get("/x").status == 200
    good = w.conf
    w.reload("listen: [\n")
    at = w.wait_log(r"weir\.conf:\d+:\d+: ")
    assert c.get("/x").status == 200 and w.get("/x").status == 200
    w.reload(dict(good, routes=[{"path": "/**", "backend": "nobody"}]))
    w.wait_log(r"weir\.conf:\d+:\d+: .*nobody", after=at + 1)
    assert c.get("/x").status == 200
    w.reload(dict(good, routes=[{"path": "/only", "backend": "api"}]))
    until(lambda: c.get("/x").status == 404, "a good file was not taken after a bad one")


def test_backends_and_limits_change(make_origin, start):
    one, two = make_origin(), make_origin()
    for o, name in ((one, b"one"), (two, b"two")):
        o.default = lambda q, name=name: Reply(name, headers=(("Cache-Control", "no-store"),))
    conf = base_conf(one, limits={"request_body": "1kb"})
    w = start(conf=conf)
    assert w.get("/x").body == b"one" and w.request("POST", "/x", [], b"x" * 2000).status == 413
    w.reload_and_wait(dict(conf, backends={"api": {"servers": [two.url]}}, limits={"request_body": "4kb"}))
    assert w.get("/x").body == b"two"
    until(lambda: w.request("POST", "/x", [], b"x" * 2000).status == 200, "one thread keeps to the old limit")


def test_a_request_keeps_the_configuration_it_began_with(make_origin, start):
    one, two = make_origin(), make_origin()
    streams = one.streams(headers=MINUTE)
    one.on("/x", streams)
    two.default = lambda q: Reply(b"two", headers=(("Cache-Control", "no-store"),))
    conf = base_conf(one)
    w = start(conf=conf)
    c = w.http1()
    c.send(b"GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n")
    s = streams.wait()
    s.send(b"begin ")
    w.reload_and_wait(dict(conf, backends={"other": {"servers": [two.url]}}, routes=[{"path": "/**", "backend": "other"}]))
    assert w.get("/y").body == b"two"
    s.send(b"end")
    s.end()
    r = c.response()
    assert r.clean and r.body == b"begin end"


def test_listeners_come_and_go_without_losing_connections(origin, start):
    origin.default = lambda q: Reply(b"x", headers=MINUTE)
    conf = base_conf(origin)
    w = start(conf=conf)
    kept = w.http1()
    assert kept.get("/x").status == 200
    port = free_port()
    w.reload(dict(conf, listen=[*conf["listen"], {"address": f"127.0.0.1:{port}"}]))

    def answers():
        try:
            return w.http1(address=("127.0.0.1", port)).get("/x").status == 200
        except OSError:
            return False
    until(answers, "the new listener never came")
    there = w.http1(address=("127.0.0.1", port))
    assert there.get("/x").status == 200
    w.reload(dict(conf))
    until(lambda: not answers(), "the old listener never went")
    assert kept.get("/x").status == 200


def test_an_address_in_use_at_reload_changes_nothing(origin, start, make_origin):
    origin.default = lambda q: Reply(b"x")
    other = make_origin()
    w = start(origin)
    w.reload(dict(w.conf, listen=[*w.conf["listen"], {"address": f"127.0.0.1:{other.port}"}], routes=[{"path": "/none", "backend": "api"}]))
    w.wait_log(str(other.port))
    assert w.get("/x").status == 200


def test_a_smaller_memory_is_kept_to_after_a_reload(origin, start):
    origin.default = lambda q: Reply(b"x" * 100_000, headers=MINUTE)
    w = start(origin, memory={"size": "64mb"})
    c = w.http1()
    for i in range(300):
        c.get(f"/{i}")
    w.reload(dict(w.conf, memory={"size": "8mb"}))
    until(lambda: w.figures()["memory"]["limit_bytes"] == 8 << 20, "the limit did not change")
    c.get("/one-more")
    until(lambda: w.figures()["memory"]["used_bytes"] <= 8 << 20, "nothing was evicted")


def scan_around_used_ones(w, c, name):
    for _ in range(2):
        for i in range(10):
            assert c.get(f"/{name}/used/{i}").status == 200
    for i in range(200):
        c.get(f"/{name}/scan/{i}")
    for i in range(10):
        c.get(f"/{name}/used/{i}")


@pytest.mark.parametrize("first,second", [("lru", "sieve"), ("sieve", "lru")])
def test_another_way_of_evicting_takes_effect_with_the_reload(origin, start, first, second):
    """A scan of more than memory holds pushes out what was used before it, or does not."""
    origin.default = lambda q: Reply(b"x" * 100_000, headers=MINUTE)
    memory = {"size": "8mb", "shards": 1, "eviction": first}
    w = start(origin, memory=memory)
    c = w.http1()
    scan_around_used_ones(w, c, first)
    w.reload(dict(w.conf, memory=dict(memory, eviction=second)))
    w.wait_log("is in force")
    scan_around_used_ones(w, c, second)
    assert [origin.count(f"/sieve/used/{i}") for i in range(10)] == [1] * 10
    assert [origin.count(f"/lru/used/{i}") for i in range(10)] == [2] * 10


def read(path):
    try:
        with open(path, encoding="utf-8") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def test_the_access_log_is_reopened_and_follows_the_file(origin, start):
    origin.default = lambda q: Reply(b"x", headers=MINUTE)
    w = start(origin, log={"access": "access.log", "format": "json"})
    path = os.path.join(w.dir, "access.log")
    w.get("/before")
    until(lambda: "/before" in read(path), "no line was written")
    line = json.loads(read(path).splitlines()[0])
    assert "/before" in json.dumps(line) and "miss" in json.dumps(line)
    os.rename(path, path + ".1")
    w.signal(signal.SIGUSR1)
    w.wait_log("open anew")
    w.get("/after")
    until(lambda: "/after" in read(path), "the new log is not written to")
    w.reload(dict(w.conf, log={"access": "second.log", "format": "combined"}))
    second = os.path.join(w.dir, "second.log")
    w.wait_log("is in force")
    w.get("/third")
    until(lambda: '"GET /third HTTP/1.1" 200' in read(second), "no combined line")


@pytest.mark.timeout(180)
def test_a_reload_every_200_ms_under_load_loses_nothing(origin, start):
    origin.default = lambda q: Reply(q.target.encode() * 20, delay=0.002)
    conf = base_conf(origin, route={"ttl": "t"}, ttl={"t": "50ms"}, backend={"max_connections": 100})
    w = start(conf=conf)
    stop = threading.Event()
    faults, counts = [], [0]

    def fail(what):
        faults.append(what)
        stop.set()

    def check(r, path):
        counts[0] += 1
        if r.status != 200 or not r.clean or r.body != path.encode() * 20:
            fail((path, r))

    def keep_alive(k):
        c = w.http1()
        i = 0
        while not stop.is_set():
            path = f"/{(i * 7 + k) % 13}"
            check(c.get(path), path)
            i += 1

    def anew(k):
        i = 0
        while not stop.is_set():
            path = f"/{(i * 5 + k) % 13}"
            check(w.get(path), path)
            i += 1

    def http2(k):
        c = w.http2()
        i = 0
        while not stop.is_set():
            paths = [f"/{(i * 3 + j + k) % 13}" for j in range(10)]
            for path, r in zip(paths, c.results([c.start("GET", p) for p in paths])):
                check(r, path)
            i += 1

    def guarded(f, k):
        try:
            f(k)
        except Exception as e:  # pylint: disable=broad-except
            fail(repr(e))
    threads = [threading.Thread(target=guarded, args=(f, k)) for f in (keep_alive, keep_alive, anew, http2) for k in range(2)]
    for t in threads:
        t.start()
    reloads = 0
    while reloads < 45 and not stop.wait(0.2):  # 10 s, on a machine that has the time
        reloads += 1
        w.reload(dict(conf, ttl={"t": f"{20 + reloads % 5 * 40}ms"}, routes=[*conf["routes"], *({"path": f"/r{i}", "backend": "api"} for i in range(reloads % 4))]))
    stop.set()
    for t in threads:
        t.join(30)
    print(f"{counts[0]} requests, {reloads} reloads")
    assert not faults, faults[:5]
    assert counts[0] > 10 * reloads


def test_a_log_file_that_cannot_be_opened_changes_no_backend(origin, start):
    """What can fail comes before what takes effect."""
    gate = origin.gate()
    origin.default = lambda q: Reply(b"x", headers=(("Cache-Control", "no-store"),), gate=gate)
    conf = base_conf(origin, backend={"max_connections": 1})
    w = start(conf=conf)
    api = dict(conf["backends"]["api"], max_connections=9)
    w.reload(dict(conf, backends={"api": api}, log={"access": "/nowhere/at/all.log"}))
    w.wait_log(r"the old configuration stays")
    clients = [w.http1() for _ in range(3)]
    for i, c in enumerate(clients):
        c.send(b"GET /%d HTTP/1.1\r\nHost: api.test\r\n\r\n" % i)
    until(lambda: w.figures()["backends"][0]["queued"] == 2, "the limit changed")
    origin.wait(1)
    assert origin.count() == 1
    gate.open()
    assert [c.response().status for c in clients] == [200] * 3


@pytest.mark.serial
def cpu_s(w):
    """What the program has had of the processors, for a busy machine's clock says little."""
    with open(f"/proc/{w.process.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_ten_thousand_routes_are_read_in_less_than_a_second(origin, start):
    origin.default = lambda q: Reply(b"x")
    conf = base_conf(origin, routes=[*({"path": f"/r{i}/*", "ttl": "t"} for i in range(5000)),
                                     *({"path": "/**", "host": f"h{i}.test", "ttl": "t"} for i in range(4999)), {"path": "/**"}], ttl={"t": "1s"})
    w = start(conf=conf)
    assert cpu_s(w) < 1 * SLOW
    before = cpu_s(w)
    w.reload()
    w.wait_log("is in force")
    assert cpu_s(w) - before < 1 * SLOW
    names = [r["route"] for r in w.figures()["routes"]]
    assert len(set(names)) == 10000 and names[0] == "/r0/*" and names[5000] == "h0.test/**"
    assert w.get("/r7/x").status == 200


def test_an_address_written_otherwise_stays_open(origin, start):
    origin.default = lambda q: Reply(b"x")
    w = start(origin)
    kept = w.http1()
    assert kept.get("/x").status == 200
    w.reload(dict(w.conf, listen=[{"address": f"127.0.0.1:0{w.port}"}]))
    w.wait_log("is in force")
    assert w.get("/x").status == 200 and kept.get("/x").status == 200
    w.reload(dict(w.conf, listen=[{"address": f"127.0.0.1:{w.port}"}]))
    w.wait_log("is in force", after=w.wait_log("is in force") + 1)
    assert w.get("/x").status == 200


@pytest.mark.parametrize("which", ["listen", "admin"])
def test_an_address_that_overlaps_with_an_open_one_takes_two_reloads(origin, start, which):
    """Every address of 127.0.0.1's port would be 0.0.0.0's: which of the two sockets a client came to would be chance."""
    origin.default = lambda q: Reply(b"x")
    conf = base_conf(origin)
    w = start(conf=conf, files={"admin.token": "t0ken\n"})
    port = w.port if which == "listen" else w.admin_port
    all_addresses = {"address": f"0.0.0.0:{port}", **({"token_file": "admin.token"} if which == "admin" else {})}
    other = {"address": f"127.0.0.1:{free_port()}"}
    new = dict(conf, **{which: [all_addresses] if which == "listen" else all_addresses})
    w.reload(new)
    at = w.wait_log(rf"weir\.conf:\d+:\d+: cannot listen on 0\.0\.0\.0:{port} beside 127\.0\.0\.1:{port}, .*overlaps.*reload once without")
    w.reload(dict(conf, **{which: [other] if which == "listen" else other}))
    at = w.wait_log("is in force", after=at)
    w.reload(new)
    w.wait_log("is in force", after=at + 1)
    assert w.http1(address=("127.0.0.1", port)).get("/health", [("Authorization", "Bearer t0ken")], host="127.0.0.1").status in (200, 404)
