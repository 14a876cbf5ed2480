"""The memory limit holds."""
import random
import threading
import time

import pytest

import client
from origin import Reply
from weir import SANITIZER, SLOW

MB = 1024
MINUTE = (("Cache-Control", "max-age=600"),)
MATERIAL = random.Random(3).randbytes(1 << 20)


def body_of(path):
    """1 to 200 KiB, always the same for a path."""
    r = random.Random(path)
    n = r.randrange(1 << 10, 200 << 10)
    at = r.randrange(len(MATERIAL) - n)
    return MATERIAL[at:at + n]


@pytest.mark.timeout(180)
def test_many_distinct_objects_stay_within_the_limit(origin, start):
    origin.default = lambda q: Reply(body_of(q.path), headers=MINUTE)
    w = start(origin, memory={"size": "64mb"})
    total = 300 << 20 if not SANITIZER else 120 << 20
    peak, faults = [0], []

    def load(k):
        c = w.http1()
        moved = i = 0
        while moved < total // 3 and not faults:
            path = f"/{k}/{i}"
            r = c.get(path)
            if not r.clean or r.body != body_of(path):
                faults.append(path)
            moved += len(r.body)
            if i % 20 == 0:
                hot = c.get("/hot")
                if hot.body != body_of("/hot"):
                    faults.append("/hot")
                peak[0] = max(peak[0], w.rss_kb())
            i += 1
    threads = [threading.Thread(target=load, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(170 * SLOW)
    assert not faults
    f = w.figures()["memory"]
    print(f"peak {peak[0] / MB:.1f} MB, {f}")
    assert f["used_bytes"] <= f["limit_bytes"] == 64 << 20
    assert f["evicted"] > 500 and f["objects"] > 100
    assert f["used_bytes"] > 40 << 20, "the room is not used"
    if not SANITIZER:
        assert max(peak[0], w.rss_kb("VmHWM")) < (64 + 32) * MB
    assert origin.count("/hot") <= 3, "what is asked for all the time was evicted"


def test_small_objects_count_with_their_overhead(origin, start):
    origin.default = lambda q: Reply(b"x" * 50, headers=MINUTE)
    w = start(origin, memory={"size": "16mb"})
    before = w.rss_kb()
    connections = [w.http2() for _ in range(2)]
    batches = 200 if not SANITIZER else 40
    for batch in range(batches):
        for c in connections:
            c.results([c.start("GET", f"/{id(c)}/{batch}/{i}") for i in range(50)])
            c.streams.clear()
    f = w.figures()["memory"]
    print(f, w.rss_kb() - before)
    assert f["used_bytes"] <= 16 << 20 and f["objects"] + f["evicted"] == 100 * batches
    assert f["used_bytes"] / f["objects"] > 150
    if not SANITIZER:
        assert w.rss_kb() - before < (16 + 20) * MB


def test_a_small_store_keeps_to_its_limit_while_sizes_shift(origin, start):
    """What is hot of one size is in the way of another: its memory has to come free all the same."""
    origin.default = lambda q: Reply(MATERIAL[:int(q.path.rsplit("/", 1)[1])], headers=MINUTE)
    w = start(origin, memory={"size": "8mb"})
    before, most, hot = w.rss_kb(), 0, []
    c = w.http2()
    for phase, size in enumerate((1500, 5000, 2500, 20000, 1000)):
        hot.append(f"/{phase}/hot/{size}")
        for batch in range((9 << 20) // (size * 3 // 2 + 400) // 50 + 1):
            paths = [f"/{phase}/{batch}/{i}/{size + i * size // 50}" for i in range(50)]
            c.results([c.start("GET", path) for path in hot + paths])
            c.streams.clear()
            if batch % 10 == 0:
                most = max(most, w.figures()["memory"]["used_bytes"])
    f = w.figures()["memory"]
    print(f, most, w.rss_kb() - before)
    assert f["used_bytes"] <= f["limit_bytes"] == 8 << 20 and most <= 9 << 20
    assert f["used_bytes"] > 6 << 20 and f["objects"] > 1000, "the room is not used"
    assert all(origin.count(path) <= 10 for path in hot), "what is asked for all the time was evicted"
    if not SANITIZER:
        assert w.rss_kb() - before < 16 * MB


def test_what_expired_leaves(origin, start):
    origin.default = lambda q: Reply(b"x" * 10000)
    w = start(origin, route={"ttl": "t"}, ttl={"t": "300ms"})
    c = w.http1()
    for i in range(200):
        c.get(f"/{i}")
    deadline = time.monotonic() + 20 * SLOW
    while w.figures()["memory"]["objects"] > 0:
        assert time.monotonic() < deadline, w.figures()["memory"]
        time.sleep(0.1)
    f = w.figures()["memory"]
    assert f["expired"] == 200 and f["evicted"] == 0 and f["used_bytes"] < 4 << 20


def test_bodies_in_flight_count_too(origin, start):
    """More in the air than there is room for: nobody fails, and memory stays bounded."""
    gate = origin.gate()
    origin.default = lambda q: Reply(MATERIAL * 4, headers=MINUTE, framing="chunked", body_gate=gate)
    w = start(origin, memory={"size": "16mb", "max_object": "8mb"}, backend={"max_connections": 50})
    h = client.Herd(w.address, [client.build("GET", f"/{i}") for i in range(20)]).go()
    origin.wait(20)
    gate.open()
    for r in h.gather(30 * SLOW).answers():
        assert r.clean and r.body == MATERIAL * 4
    h.close()
    assert w.figures()["memory"]["used_bytes"] <= 16 << 20
    if not SANITIZER:
        assert w.rss_kb("VmHWM") < 16 * MB + 80 * MB


def test_one_users_flood_does_not_empty_the_shared_pool(origin, start):
    origin.default = lambda q: Reply(b"x" * 20000, headers=(("Cache-Control", "private, max-age=600"),) if q.path.startswith("/u") else MINUTE)
    w = start(origin, memory={"size": "16mb"}, routes=[{"path": "/**"}, {"path": "/u/**", "scope": "user", "user": {"header": "Authorization"}}])
    c = w.http1()
    for i in range(100):
        c.get(f"/s{i}")
    for i in range(2000):
        c.get(f"/u/{i}", [("Authorization", "flood")])
    kept = sum(c.get(f"/s{i}").hit for i in range(100))
    assert kept >= 50, f"only {kept} of 100 shared answers survived"
