"""SIGTERM: what was accepted is answered, then the program ends with 0."""
import json
import os
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

import client
import weir
from origin import Reply
from weir import SLOW, base_conf

MINUTE = (("Cache-Control", "max-age=60"),)


def draining(w):
    """Waits until it has begun: the admin listener says so, or is closed."""
    deadline = time.monotonic() + 5 * SLOW
    while time.monotonic() < deadline:
        try:
            r = w.admin("GET", "/health")
            if r.status == 503:
                assert json.loads(r.body)["status"] != "ok"
                return
        except (OSError, AssertionError):
            return
    raise AssertionError("it does not drain")


def test_an_idle_program_ends_at_once(origin, start):
    w = start(origin)
    begun = time.monotonic()
    assert w.terminate() == 0
    assert time.monotonic() - begun < 2 * SLOW


def test_idle_connections_do_not_hold_it_up(origin, start, certificates):
    origin.default = lambda q: Reply(b"x", headers=MINUTE)
    w = start(origin)
    held = [w.http1() for _ in range(5)]
    for c in held[:3]:
        c.get("/x")
    h = w.http2()
    h.get("/x")
    begun = time.monotonic()
    assert w.terminate() == 0
    assert time.monotonic() - begun < 5 * SLOW
    assert all(c.at_end(1) for c in held)
    assert h.at_end(1) and h.goaway == 0


def test_requests_in_flight_are_answered(origin, start):
    gate = origin.gate()
    origin.default = lambda q: Reply(q.path.encode(), headers=MINUTE, gate=gate)
    w = start(origin)
    h = client.Herd(w.address, [client.build("GET", f"/{i % 4}") for i in range(20)]).go()
    two = w.http2()
    sids = [two.start("GET", f"/{i}") for i in range(4)]
    origin.wait(4)
    w.signal(signal.SIGTERM)
    draining(w)
    gate.open()
    for i, r in enumerate(h.gather().answers()):
        assert r.status == 200 and r.clean and r.body == f"/{i % 4}".encode()
        assert r.get("connection", "").lower() == "close"
    for i, r in enumerate(two.results(sids)):
        assert r.status == 200 and r.clean and r.body == f"/{i}".encode()
    h.close()
    assert w.wait() == 0


def test_a_stream_in_flight_is_finished(origin, start):
    streams = origin.streams(headers=(("Cache-Control", "no-store"),))
    origin.on("/x", streams)
    w = start(origin)
    c = w.http1()
    c.send(client.build("GET", "/x"))
    s = streams.wait()
    s.send(b"begin ")
    r = c.head()
    pieces = c.pieces(r)
    assert next(pieces) == b"begin "
    w.signal(signal.SIGTERM)
    for i in range(5):
        s.send(b"%d " % i)
        assert next(pieces) == b"%d " % i
        time.sleep(0.1)
    s.end()
    assert list(pieces) == [] and r.clean
    assert w.wait() == 0


def test_a_post_in_flight_is_finished(origin, start):
    gate = origin.gate()
    origin.on("/x", lambda q: Reply(q.body, 201, gate=gate))
    w = start(origin)
    c = w.http1()
    c.send(client.build("POST", "/x", [], b"content"))
    origin.wait(1)
    w.signal(signal.SIGTERM)
    draining(w)
    gate.open()
    r = c.response()
    assert (r.status, r.body) == (201, b"content") and r.get("connection") == "close"
    assert w.wait() == 0


def test_sigterm_under_load_answers_whatever_was_accepted(origin, start):
    """What the origin saw, its client got whole; and no answer is cut."""
    answered = set()
    origin.default = lambda q: Reply(q.target.encode() * 100, headers=(("Cache-Control", "no-store"),), delay=0.03)
    w = start(origin, backend={"max_connections": 200})
    stop, lock, faults = threading.Event(), threading.Lock(), []

    def load(k):
        i = 0
        while not stop.is_set():
            path = f"/{k}/{i}"
            i += 1
            try:
                c = client.Http1(w.address)
            except OSError:
                break
            try:
                c.send(client.build("GET", path))
                r = c.head()
                if r is None:
                    continue
                r.body = b"".join(c.pieces(r))
                if r.status == 200 and r.clean and r.body == path.encode() * 100:
                    with lock:
                        answered.add(path)
                elif r.status != 503:
                    faults.append((path, r))
            except client.Malformed as e:
                faults.append((path, e))
            except OSError:
                pass
            finally:
                c.close()
    threads = [threading.Thread(target=load, args=(k,)) for k in range(16)]
    for t in threads:
        t.start()
    origin.wait(200, timeout=30 * SLOW)
    w.signal(signal.SIGTERM)
    assert w.wait() == 0
    stop.set()
    for t in threads:
        t.join(20)
    assert not faults, faults[:5]
    lost = {q.target for q in origin.seen()} - answered
    assert not lost, f"{len(lost)} requests reached the origin and their clients got nothing: {sorted(lost)[:5]}"


def test_keep_alive_and_http2_clients_under_load_lose_no_request_in_flight(origin, start):
    answered = set()
    origin.default = lambda q: Reply(q.target.encode(), headers=(("Cache-Control", "no-store"),), delay=0.01)
    w = start(origin, backend={"max_connections": 200})
    lock, faults = threading.Lock(), []

    def one(k):
        c = w.http1()
        for i in range(100000):
            try:
                c.send(client.build("GET", f"/a{k}/{i}"))
                r = c.head()
            except OSError:
                return
            if r is None:
                return
            r.body = b"".join(c.pieces(r))
            if not r.clean or r.body != f"/a{k}/{i}".encode():
                faults.append(r)
                return
            with lock:
                answered.add(f"/a{k}/{i}")
            if r.get("connection", "").lower() == "close":
                return

    def two(k):
        c = w.http2()
        i = 0
        while not c.closed and c.goaway is None:
            try:
                sids = []
                for _ in range(5):
                    sids.append((i, c.start("GET", f"/b{k}/{i}")))
                    i += 1
                c.results([s for _, s in sids])
            except (OSError, client.GoneAway):
                pass
            for n, s in sids:
                r = c.streams[s]
                if r.clean and r.body == f"/b{k}/{n}".encode():
                    with lock:
                        answered.add(f"/b{k}/{n}")
    threads = [threading.Thread(target=f, args=(k,)) for f in (one, two) for k in range(4)]
    for t in threads:
        t.start()
    origin.wait(100, timeout=30 * SLOW)
    w.signal(signal.SIGTERM)
    assert w.wait() == 0
    for t in threads:
        t.join(20)
    assert not faults, faults[:5]
    lost = {q.target for q in origin.seen()} - answered
    assert not lost, f"{len(lost)} lost: {sorted(lost)[:5]}"


def test_a_second_sigterm_does_no_harm(origin, start):
    gate = origin.gate()
    origin.default = lambda q: Reply(b"x", gate=gate)
    w = start(origin)
    c = w.http1()
    c.send(client.build("GET", "/x"))
    origin.wait(1)
    w.signal(signal.SIGTERM)
    w.signal(signal.SIGHUP)
    gate.open()
    assert c.response().status == 200
    assert w.wait() == 0


def refused(address, family=socket.AF_INET):
    """At once, or after the moment that the last handshakes are given."""
    with socket.socket(family) as s:
        s.settimeout(3)
        try:
            s.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except (TimeoutError, ConnectionResetError):
            pass
    return False


def test_who_comes_while_it_drains_is_refused_at_once(origin, start, tmp_path):
    gate = origin.gate()
    origin.on("/x", body=b"x", gate=gate)
    conf = base_conf(origin)
    path = str(tmp_path / "weir.sock")
    conf["listen"].append({"address": "unix:" + path})
    w = start(conf=conf)
    c, u = w.http1(), w.http1(address=path)
    for k in (c, u):
        k.send(client.build("GET", "/x"))
    origin.wait(1)
    w.signal(signal.SIGTERM)
    w.wait_log("SIGTERM")
    deadline = time.monotonic() + 5 * SLOW
    while not refused(w.address):
        assert time.monotonic() < deadline, "it still listens"
    assert refused(path, socket.AF_UNIX) and not os.path.exists(path)
    begun = time.monotonic()
    assert all(refused(w.address) for _ in range(20)) and time.monotonic() - begun < 1
    assert w.admin("GET", "/health").status == 503, "the admin listener stays"
    gate.open()
    assert c.response().status == 200 and u.response().status == 200
    assert w.wait() == 0


def test_no_client_is_left_hanging_or_cut_off_by_the_end(origin, start):
    """Clients that connect anew for each request, all the time: answered or refused, nothing else."""
    origin.default = lambda q: Reply(q.target.encode() * 20, headers=MINUTE)
    w = start(origin, threads=4)
    faults, answered, lock, began = [], [0], threading.Lock(), threading.Barrier(9)

    def load(k):
        began.wait()
        for i in range(100000):
            path = f"/{(i + k) % 50}"
            try:
                c = client.Http1(w.address)
            except OSError:
                return
            try:
                r = c.get(path)
                if r.status != 200 or not r.clean or r.body != path.encode() * 20:
                    faults.append((path, r))
                with lock:
                    answered[0] += 1
            except (OSError, AssertionError) as e:
                faults.append((path, repr(e)))
                return
            finally:
                c.close()
    threads = [threading.Thread(target=load, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    began.wait()
    deadline = time.monotonic() + 20 * SLOW
    while answered[0] < 500 and time.monotonic() < deadline:
        time.sleep(0.01)
    w.signal(signal.SIGTERM)
    assert w.wait() == 0
    for t in threads:
        t.join(20)
    assert answered[0] >= 500 and not faults, faults[:5]


@pytest.mark.timeout(90)
def test_what_does_not_end_is_cut_after_30_s_and_the_socket_file_is_gone(origin, start, tmp_path):
    origin.on("/x", hang=True)
    path = str(tmp_path / "weir.sock")
    conf = base_conf(origin, limits={"idle_timeout": "2m"}, backend={"timeouts": {"first_byte": "2m"}})
    conf["listen"].append({"address": "unix:" + path})
    w = start(conf=conf)
    c = w.http1()
    c.send(client.build("GET", "/x"))
    origin.wait(1)
    begun = time.monotonic()
    w.signal(signal.SIGTERM)
    assert w.wait(40) == 0
    assert 25 < time.monotonic() - begun < 32
    assert not os.path.exists(path)


def test_a_thread_without_clients_stays_for_what_others_wait_for(origin, start):
    """The fetch belongs to the thread of the client that came first and has left; who waits may be on another. Which
    thread a client gets is chance: five tries."""
    for n in range(5):
        gate = origin.gate()
        origin.on(f"/{n}", lambda q, gate=gate: Reply(b"fine", headers=MINUTE, gate=gate))
        w = start(origin, threads=2)
        first, second = w.http1(), w.http1()
        first.send(client.build("GET", f"/{n}"))
        origin.wait(1, f"/{n}")
        second.send(client.build("GET", f"/{n}"))
        first.close()
        w.signal(signal.SIGTERM)
        draining(w)
        assert not select.select([second.sock], [], [], 0.3)[0], "it was given up"
        gate.open()
        assert second.response().body == b"fine"
        assert w.wait() == 0


@pytest.mark.parametrize("errors", ["apart", "with it"])
def test_an_output_that_nobody_reads_does_not_hold_it_up(origin, tmp_path, errors):
    """The access log goes into a pipe that is full (and the events, too): 5 s are given to its reader."""
    origin.default = lambda q: Reply(b"x", headers=MINUTE)
    w = weir.Weir(tmp_path, base_conf(origin, log={"access": "-"}))
    reader, writer = os.pipe()
    p = subprocess.Popen([weir.BINARY, "run", "-c", w.path], stdout=writer, stderr=subprocess.DEVNULL if errors == "apart" else writer, env=weir.environment())
    os.close(writer)
    try:
        deadline = time.monotonic() + 10 * SLOW
        while True:
            try:
                k = client.Http1(w.address)
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        for _ in range(400):
            assert k.get("/x", [("User-Agent", "u" * 400)]).status == 200
        k.close()
        begun = time.monotonic()
        p.send_signal(signal.SIGTERM)
        assert p.wait(20 * SLOW) == 0
        assert time.monotonic() - begun > 3, "the reader was given no time"
    finally:
        p.kill()
        p.wait()
        os.close(reader)
