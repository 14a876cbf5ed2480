"""One request to the origin for what many ask for at once."""
import socket
import threading
import time

import pytest

import client
from origin import QuickOrigin, Reply
from test_proxy import problem
from weir import SLOW

MINUTE = (("Cache-Control", "max-age=60"),)
NO_STORE = (("Cache-Control", "no-store"),)
GET_X = client.build("GET", "/x")


@pytest.fixture(name="quick")
def _quick():
    made = []

    def make(*args):
        made.append(QuickOrigin(*args))
        return made[-1]
    yield make
    for o in made:
        o.close()


def best_of(tries, attempt, seconds):
    """attempt(i) gives a time; one of them must be short enough, for the machine may be busy with something else."""
    times = []
    for i in range(tries):
        times.append(attempt(i))
        if times[-1] < seconds * SLOW:
            break
    print("; ".join(f"{t * 1000:.1f} ms" for t in times), f"of {seconds * 1000:.0f}")
    assert min(times) < seconds * SLOW, times


def test_a_thousand_clients_on_a_cold_key_are_one_request(origin, start):
    gate = origin.gate()
    origin.on("/x", body=b"the answer " * 100, headers=MINUTE, gate=gate)
    w = start(origin)
    h = client.Herd(w.address, [GET_X] * 1000).go()
    origin.wait(1)
    gate.open()
    answers = h.gather().answers()
    h.close()
    assert origin.count() == 1
    assert {(r.status, r.body, r.clean) for r in answers} == {(200, b"the answer " * 100, True)}
    kinds = [("collapsed" in r.cache, "stored" in r.cache, r.hit) for r in answers]
    assert kinds.count((False, True, False)) == 1, "one of them fetched"
    for r in answers:
        if "collapsed" in r.cache:
            assert r.cache["fwd"] == "uri-miss"
    figures = w.figures()
    assert figures["requests"]["miss"] == 1 and figures["requests"]["coalesced"] + figures["requests"]["hit"] == 999


@pytest.mark.serial
def test_the_last_of_a_thousand_is_served_within_100_ms_of_the_origin(start, quick):
    o = quick(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000, 0.3)
    w = start(o)

    def attempt(i):
        h = client.Herd(w.address, [client.build("GET", f"/{i}")] * 1000).go().gather()
        last = max(m.done for m in h.members) - h.begun
        assert o.count == i + 1
        assert {(r.status, r.body) for r in h.answers()} == {(200, b"x" * 1000)}
        h.close()
        return last
    best_of(5, attempt, 0.4)


@pytest.mark.serial
def test_an_uncacheable_herd_does_not_stand_in_line(start, quick):
    o = quick(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000, 0.3)
    w = start(o, backend={"max_connections": 200})

    def attempt(path, address=w.address):
        h = client.Herd(address, [client.build("GET", path)] * 200).go().gather()
        assert {(r.status, r.body) for r in h.answers()} == {(200, b"x" * 1000)}
        last = max(m.done for m in h.members) - h.begun
        h.close()
        return last
    # Straight at the origin the same herd takes 300 ms and what these two need in Python; on a busy machine that is more
    # than a little, and is not weir's.
    floor = min(attempt("/", o.address) for _ in range(2))
    print(f"without weir {floor * 1000:.1f} ms")
    best_of(8, lambda i: attempt(f"/{i}"), max(0.65, 2 * floor + 0.05))
    best_of(8, lambda i: attempt("/0"), max(0.33, floor + 0.03))
    assert o.in_flight_max <= 200


@pytest.mark.serial
@pytest.mark.parametrize("nuisance", ["none", "a reader that never reads", "the first client leaves"])
def test_a_dribbling_origin_reaches_all_clients_at_once(origin, start, nuisance):
    w = start(origin, threads=4)
    whole = b"".join(b"%02d" % i * 500 for i in range(20))

    def attempt(n):
        path, request = f"/{n}", client.build("GET", f"/{n}")
        streams = origin.streams(headers=MINUTE)
        origin.on(path, streams)
        first = client.Herd(w.address, [request]).go()
        s = streams.wait()
        h = client.Herd(w.address, [request] * 200)
        deaf = None
        if nuisance.startswith("a reader"):
            deaf = socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(w.address)
            deaf.send(request)
        h.go()
        w.until_waiting(1 + 200 + nuisance.startswith("a reader"))

        def dribble():
            for i in range(20):
                s.send(b"%02d" % i * 500)
                time.sleep(0.1)
            s.end()
        dribbler = threading.Thread(target=dribble)
        dribbler.start()
        if nuisance.startswith("the first"):
            first.gather(until=lambda: first.members[0].first_body is not None)
            first.leave(first.members[0], reset=True)
        h.gather(10 * SLOW)
        dribbler.join()
        begin = min(m.first_body for m in h.members)
        spread = max(m.first_body for m in h.members) - begin
        assert all(r.body == whole and r.clean for r in h.answers())
        assert max(m.done for m in h.members) - begin > 1.5, "it was not streamed"
        assert origin.count(path) == 1
        assert w.get(path).hit
        h.close(), first.close()
        if deaf:
            deaf.close()
        return spread
    best_of(5, attempt, 0.02)


def test_every_piece_comes_when_the_origin_sends_it(origin, start):
    streams = origin.streams(headers=MINUTE)
    origin.on("/x", streams)
    w = start(origin, threads=4)
    clients = [w.http1() for _ in range(10)]
    for c in clients:
        c.send(GET_X)
    s = streams.wait()
    heads = [c.head() for c in clients]
    bodies = [c.pieces(r) for c, r in zip(clients, heads)]
    h = w.http2()
    sid = h.start("GET", "/x")
    for i in range(10):
        s.send(b"piece %d;" % i)
        assert [next(b) for b in bodies] == [b"piece %d;" % i] * 10
        h.wait(lambda i=i: h.streams[sid].body.endswith(b"piece %d;" % i))
    s.end()
    assert [b"".join(b) for b in bodies] == [b""] * 10 and all(r.clean for r in heads)
    assert h.result(sid).clean and origin.count() == 1


def test_a_client_that_comes_in_the_middle_gets_everything(origin, start):
    streams = origin.streams(headers=MINUTE)
    origin.on("/x", streams)
    w = start(origin)
    one = w.http1()
    one.send(GET_X)
    s = streams.wait()
    s.send(b"begin ")
    r = one.head()
    assert next(one.pieces(r)) == b"begin "
    two = w.http1()
    two.send(GET_X)
    r2 = two.head()
    pieces = two.pieces(r2)
    assert next(pieces) == b"begin "
    s.send(b"end")
    s.end()
    assert b"".join(pieces) == b"end" and r2.clean
    assert r2.cache.get("collapsed") or r2.hit
    assert origin.count() == 1


def test_a_reader_that_reads_nothing_delays_nobody_even_with_a_large_body(origin, start):
    piece = bytes(range(256)) * 256
    streams = origin.streams(headers=MINUTE)
    origin.on("/x", streams)
    w = start(origin, memory={"size": "128mb", "max_object": "16mb"})
    deaf = [w.http1(receive_buffer=4096) for _ in range(2)]
    for c in deaf:
        c.send(GET_X)
    s = streams.wait()
    readers = [w.http1() for _ in range(5)]
    for c in readers:
        c.send(GET_X)
    for _ in range(160):  # 10 MiB: more than sockets buffer
        s.send(piece)
    s.end()
    for c in readers:
        r = c.response()
        assert r.clean and r.body == piece * 160
    assert w.get("/x").hit, "stored although somebody still reads"
    for c in deaf:
        r = c.response()
        assert r.clean and r.body == piece * 160
    assert origin.count() == 1


def test_the_first_client_may_leave_before_the_head(origin, start):
    gate = origin.gate()
    origin.on("/x", body=b"answer", headers=MINUTE, gate=gate)
    w = start(origin)
    for leave in ("close", "reset"):
        origin.forget()
        w.purge_path("/x")
        gate = origin.gate()
        origin.on("/x", body=b"answer", headers=MINUTE, gate=gate)
        first = w.http1()
        first.send(GET_X)
        origin.wait(1)
        h = client.Herd(w.address, [GET_X] * 20).go()
        # Their requests have been seen when a later one on another path has been answered on the same loops.
        for _ in range(8):
            w.get("/other")
        getattr(first, leave)()
        for _ in range(8):
            w.get("/other")
        gate.open()
        assert all(r.body == b"answer" and r.clean for r in h.gather().answers())
        h.close()
        assert origin.count("/x") == 1


def test_an_http2_client_may_leave_too(origin, start):
    streams = origin.streams(headers=MINUTE)
    origin.on("/x", streams)
    w = start(origin)
    first = w.http2()
    sid = first.start("GET", "/x")
    s = streams.wait()
    second = w.http2()
    other = second.start("GET", "/x")
    s.send(b"one ")
    second.wait(lambda: second.streams[other].body == b"one ")
    first.reset(sid)
    assert first.get("/other").status == 404
    s.send(b"two")
    s.end()
    r = second.result(other)
    assert r.clean and r.body == b"one two" and origin.count("/x") == 1


def test_what_everybody_left_is_stored_all_the_same(origin, start):
    streams = origin.streams(headers=MINUTE)
    origin.on("/x", streams)
    w = start(origin)
    c = w.http1()
    c.send(GET_X)
    s = streams.wait()
    s.send(b"one ")
    r = c.head()
    assert next(c.pieces(r)) == b"one "
    c.close()
    for _ in range(4):
        w.get("/other")
    s.send(b"two")
    s.end()
    r = w.get("/x")
    assert r.body == b"one two" and r.clean and origin.count("/x") == 1


def test_coalescing_may_be_off(origin, start):
    gate = origin.gate()
    origin.on("/x", body=b"answer", headers=MINUTE, gate=gate)
    w = start(origin, route={"coalesce": False})
    h = client.Herd(w.address, [GET_X] * 10).go()
    origin.wait(10)
    gate.open()
    assert all(r.body == b"answer" for r in h.gather().answers())
    h.close()
    assert w.get("/x").hit


def test_streams_of_one_http2_connection_are_coalesced(origin, start):
    gate = origin.gate()
    origin.on("/x", body=b"answer" * 1000, headers=MINUTE, gate=gate)
    c = start(origin).http2()
    sids = [c.start("GET", "/x") for _ in range(100)]
    origin.wait(1)
    gate.open()
    assert all(r.clean and r.body == b"answer" * 1000 for r in c.results(sids))
    assert origin.count() == 1


def test_an_uncacheable_verdict_frees_everybody_at_once_and_the_next_do_not_wait(origin, start):
    first, second = origin.gate(), origin.gate()
    origin.on("/x", lambda q: Reply(b"%d" % origin.count(), headers=NO_STORE, gate=first if origin.count() == 1 else second))
    w = start(origin, backend={"max_connections": 100})
    h = client.Herd(w.address, [GET_X] * 40).go()
    origin.wait(1)
    first.open()
    origin.wait(40)  # all the others are at the origin at the same time, none behind another
    more = client.Herd(w.address, [GET_X] * 20).go()
    origin.wait(60)
    second.open()
    bodies = [r.body for r in h.gather().answers() + more.gather().answers()]
    assert len(set(bodies)) == 60
    assert origin.count() == 60
    h.close(), more.close()


@pytest.mark.parametrize("status", [400, 401, 404, 429, 503])
def test_a_herd_on_an_error_without_a_lifetime_gets_one_and_so_does_the_next(origin, start, status):
    gates = [origin.gate(), origin.gate()]
    origin.on("/x", lambda q: Reply(b"%d" % origin.count(), status, gate=gates[origin.count() - 1]))
    w = start(origin, backend={"max_connections": 100})
    for n, gate in enumerate(gates, 1):
        h = client.Herd(w.address, [GET_X] * 40).go()
        origin.wait(n)
        w.until_waiting(40)
        gate.open()
        answers = h.gather().answers()
        h.close()
        assert {(r.status, r.body) for r in answers} == {(status, b"%d" % n)}
        assert sum(r.cache.get("collapsed", False) for r in answers) == 39
        assert not any(r.cache.get("stored") for r in answers)
    assert origin.count() == 2


@pytest.mark.parametrize("status,fields", [(417, ()), (431, ()), (302, ()), (400, NO_STORE), (400, (("Cache-Control", "private"),)),
                                           (400, (("Set-Cookie", "a=b"),)), (404, (("Cache-Control", "max-age=0"),))])
def test_what_may_be_about_one_request_is_for_that_one(origin, start, status, fields):
    gate = origin.gate()
    origin.on("/x", lambda q: Reply(b"%d" % origin.count(), status, headers=fields, gate=gate))
    w = start(origin, backend={"max_connections": 100})
    h = client.Herd(w.address, [GET_X] * 10).go()
    w.until_waiting(10)
    gate.open()
    assert {r.body for r in h.gather().answers()} == {b"%d" % (n + 1) for n in range(10)}
    h.close()


def test_an_error_that_varies_is_shared_with_those_it_is_for(origin, start):
    gates = [origin.gate(), origin.gate()]
    origin.on("/x", lambda q: Reply(q.get("accept-language").encode(), 429, headers=(("Vary", "Accept-Language"),),
                                    gate=gates[origin.count() - 1]))
    w = start(origin)
    h = client.Herd(w.address, [client.build("GET", "/x", [("Accept-Language", lang)]) for lang in ("de", "fr") * 10]).go()
    for n, waiting in enumerate((20, 10), 1):
        origin.wait(n)
        w.until_waiting(waiting)
        gates[n - 1].open()
    assert [r.body for r in h.gather().answers()] == [b"de", b"fr"] * 10
    h.close()
    assert origin.count() == 2


def test_the_backends_limit_holds_when_a_herd_is_let_go(origin, start):
    first, second = origin.gate(), origin.gate()
    origin.on("/x", lambda q: Reply(b"%d" % origin.count(), headers=NO_STORE, gate=first if origin.count() == 1 else second))
    w = start(origin, backend={"max_connections": 7, "queue": {"size": 1000, "timeout": "20s"}})
    h = client.Herd(w.address, [GET_X] * 100).go()
    origin.wait(1)
    first.open()
    origin.wait(8)
    second.open()
    assert all(r.status == 200 for r in h.gather().answers())
    h.close()
    assert origin.in_flight_max <= 7 and origin.count() == 100


def test_a_key_that_becomes_cacheable_again_is_cached_again(origin, start):
    origin.on("/x", lambda q: Reply(b"%d" % origin.count(), headers=NO_STORE if origin.count() < 3 else MINUTE))
    w = start(origin)
    assert [w.get("/x").body for _ in range(5)] == [b"1", b"2", b"3", b"3", b"3"]


CUTS = {
    "length, closed": dict(framing="length", end="close"), "length, reset": dict(framing="length", end="reset"),
    "chunked, closed": dict(framing="chunked", end="close"), "chunked, reset": dict(framing="chunked", end="reset"),
}


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("control", [MINUTE, NO_STORE], ids=["cacheable", "no-store"])
def test_a_body_cut_short_is_never_stored_and_never_ends_cleanly(origin, start, how, control):
    gate = origin.gate()
    whole = b"0123456789" * 1000
    bad = Reply(whole, headers=control, cut=5000, body_gate=gate, **CUTS[how])
    good = Reply(whole, headers=control, framing=CUTS[how]["framing"])
    cutting = [True]
    origin.on("/x", lambda q: bad if cutting[0] else good)
    w = start(origin, backend={"max_connections": 100})
    h = client.Herd(w.address, [GET_X] * 20).go()
    old = w.http1()
    old.send(b"GET /x HTTP/1.0\r\nHost: api.test\r\n\r\n")
    c = w.http2()
    sids = [c.start("GET", "/x") for _ in range(5)]
    origin.wait(1)
    gate.open()
    for r in h.gather().answers():
        assert r is None or not r.clean or r.status in (502, 503), r
    for r in c.results(sids):
        assert not r.clean or r.status in (502, 503), r
    r = old.head()
    if r is not None and r.status == 200:
        b"".join(old.pieces(r))
        assert not r.clean, "HTTP/1.0 must see a reset, not an end"
    h.close()
    cutting[0] = False
    before = origin.count()
    r = w.get("/x")
    assert r.clean and r.body == whole and not r.hit and origin.count() == before + 1


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_cut_error_does_not_end_cleanly_either(origin, start, status):
    origin.on("/x", Reply(b"0123456789", status, framing="chunked", cut=5))
    w = start(origin)
    r = client.herd(w.address, [GET_X])[0]
    assert r is None or not r.clean or r.status == 502
    r = w.http2().get("/x")
    assert not r.clean or r.status == 502


def test_a_body_that_ends_with_a_reset_instead_of_a_close_is_cut_short(origin, start):
    origin.on("/x", Reply(b"0123456789" * 100, framing="close", cut=500, end="reset", headers=MINUTE))
    w = start(origin)
    for _ in range(2):
        r = client.herd(w.address, [GET_X])[0]
        assert r is None or not r.clean or r.status == 502
    assert origin.count() >= 2, "it was stored"


def test_waiters_of_a_fetch_that_fails_before_its_head_all_get_the_error(origin, start):
    gate = origin.gate()
    origin.on("/x", Reply(drop=True, gate=gate))
    w = start(origin)
    h = client.Herd(w.address, [GET_X] * 50).go()
    origin.wait(1)
    gate.open()
    for r in h.gather().answers():
        problem(r, 502)
    h.close()
    # One attempt and one more; and as many for those whose requests weir reads only after that.
    assert origin.count() <= 12 * SLOW, "not one for each waiter"


def test_waiters_of_a_failing_refresh_get_the_stale_answer(origin, start):
    gate = origin.gate()
    origin.on("/x", lambda q: Reply(b"good") if origin.count() == 1 else Reply(drop=True, gate=gate))
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "200ms", "stale_if_error": "1h"}})
    w.get("/x")
    time.sleep(0.4)
    h = client.Herd(w.address, [GET_X] * 50).go()
    origin.wait(2)
    gate.open()
    assert {(r.status, r.body) for r in h.gather().answers()} == {(200, b"good")}
    h.close()
    assert origin.count() <= 4 * SLOW


def test_waiters_of_a_validation_share_it(origin, start):
    gate = origin.gate()
    origin.on("/x", lambda q: Reply(status=304, headers=(("ETag", '"a"'),), gate=gate) if q.get("if-none-match") else
              Reply(b"body", headers=(("ETag", '"a"'), ("Cache-Control", "max-age=0, s-maxage=1"))))
    w = start(origin)
    w.get("/x")
    time.sleep(2.05)
    h = client.Herd(w.address, [GET_X] * 50).go()
    origin.wait(2)
    gate.open()
    assert {(r.status, r.body) for r in h.gather().answers()} == {(200, b"body")}
    h.close()
    assert origin.count() == 2


@pytest.mark.parametrize("what", ["url", "prefix", "all", "post"])
def test_a_purge_during_a_flight_wins(origin, start, what):
    gate = origin.gate()
    origin.on("/x", lambda q: Reply(b"%d" % origin.count("/x"), headers=MINUTE, gate=gate if origin.count("/x") == 1 else None))
    w = start(origin)
    c = w.http1()
    c.send(GET_X)
    origin.wait(1, "/x")
    if what == "post":
        r = w.request("POST", "/x", [], b"change")
        assert r.status == 200
    else:
        w.purge(**{"url": {"url": "http://api.test/x"}, "prefix": {"prefix": "http://api.test/"}, "all": {"all": True}}[what])
    after = w.get("/x")  # does not join the flight from before; were it to, this would hang
    assert int(after.body) > 1
    gate.open()
    r = c.response()
    assert r.body == b"1" and r.clean, "the old flight's answer is delivered"
    r = w.get("/x")
    assert r.body == after.body and r.hit, "and not stored over the newer one"


def test_a_purge_during_a_flight_leaves_nothing_stored(origin, start):
    gate = origin.gate()
    origin.on("/x", lambda q: Reply(b"%d" % origin.count(), headers=MINUTE, gate=gate if origin.count() == 1 else None))
    w = start(origin)
    c = w.http1()
    c.send(GET_X)
    origin.wait(1)
    w.purge_path("/x")
    gate.open()
    assert c.response().body == b"1"
    assert w.get("/x").body == b"2"


def test_a_purge_during_a_validation_is_not_undone_by_its_304(origin, start):
    gate = origin.gate()
    origin.on("/x", lambda q: Reply(status=304, headers=(("ETag", '"a"'), *MINUTE), gate=gate) if q.get("if-none-match") else
              Reply(b"%d" % origin.count(), headers=(("ETag", '"a"'), ("Cache-Control", "no-cache"))))
    w = start(origin)
    w.get("/x")
    c = w.http1()
    c.send(GET_X)
    origin.wait(2)
    w.purge_path("/x")
    gate.open()
    assert c.response().status == 200
    assert w.get("/x").body == b"3" and origin.seen("/x")[2].get("if-none-match") is None


def _stale_for_two(origin, start, answer_to_leader, answer_then):
    """A stale response of two who wait for its validation, purged meanwhile; the second is let go by the answer."""
    gate = origin.gate()

    def answer(q):
        if origin.count() == 1:
            return Reply(b"old", headers=(("Cache-Control", "max-age=0, stale-if-error=60"), ("ETag", '"v"'), ("Vary", "Accept-Language")))
        return Reply(gate=gate, **answer_to_leader) if origin.count() == 2 else answer_then(q)
    origin.on("/x", answer)
    w = start(origin)
    german = [("Accept-Language", "de")]
    assert w.get("/x", german + [("X-Foo", "2")]).body == b"old"
    clients = []
    for foo in ("1", "2"):
        clients.append(w.http1())
        clients[-1].send(client.build("GET", "/x", german + [("X-Foo", foo)]))
        origin.wait(2)
    w.until_waiting(2)
    w.purge_path("/x")
    gate.open()
    return w, [c.response() for c in clients], german


def test_what_was_purged_while_one_waited_is_not_brought_back_by_a_304(origin, start):
    """The leader's answer varies on more than was known, so that the second begins again, with the purged response at
    hand, whose validator the origin would confirm."""
    vary = ("Vary", "Accept-Language, X-Foo")

    def then(q):
        if q.get("if-none-match"):
            return Reply(status=304, headers=(("ETag", '"v"'), *MINUTE, vary))
        return Reply(b"new", headers=(("ETag", '"v"'), *MINUTE, vary))
    w, answers, german = _stale_for_two(origin, start, {"body": b"for the first", "headers": (*MINUTE, ("ETag", '"w"'), vary)}, then)
    assert [r.body for r in answers] == [b"for the first", b"new"]
    assert w.get("/x", german + [("X-Foo", "2")]).body == b"new"


def test_what_was_purged_while_one_waited_does_not_stand_in_for_a_failing_origin(origin, start):
    _, answers, _ = _stale_for_two(origin, start, {"drop": True}, lambda q: Reply(drop=True))
    assert {r.status for r in answers} == {502}


def test_slow_and_fast_keys_do_not_hold_each_other_up(origin, start):
    gate = origin.gate()
    origin.on("/slow", body=b"slow", headers=MINUTE, gate=gate)
    origin.on("/fast", body=b"fast", headers=MINUTE)
    w = start(origin)
    h = client.Herd(w.address, [client.build("GET", "/slow")] * 20).go()
    origin.wait(1, "/slow")
    for _ in range(20):
        assert w.get("/fast").body == b"fast"
    gate.open()
    assert {r.body for r in h.gather().answers()} == {b"slow"}
    h.close()


# RFC 9111 sections 5.2.2.4 and 5.2.2.7: what no-cache and private name is for the client whose request brought it; the
# rest is stored and shared.
@pytest.mark.parametrize("status, control", [(200, 'max-age=60, no-cache="Set-Cookie, X-User"'), (200, 'max-age=60, private="set-cookie,x-user"'),
                                             (503, 'private="Set-Cookie, X-User"')])
def test_fields_that_the_origin_names_are_for_the_first_client_alone(origin, start, status, control):
    gate = origin.gate()
    origin.on("/x", body=b"rest", status=status, gate=gate,
              headers=(("Cache-Control", control), ("Set-Cookie", "s=1"), ("X-User", "ann"), ("X-All", "y"), ("Set-Cookie", "t=2")))
    w = start(origin)
    h = client.Herd(w.address, [GET_X] * 20).go()
    origin.wait(1)
    gate.open()
    answers = h.gather().answers()
    h.close()
    shared = [r for r in answers if "collapsed" in r.cache or r.hit]
    assert {(r.status, r.body, r.get("x-all"), r.get("set-cookie"), r.get("x-user")) for r in shared} <= {(status, b"rest", "y", None, None)}
    assert len(answers) - len(shared) == origin.count()
    for r in answers:
        if r not in shared:
            assert (r.all("set-cookie"), r.get("x-user"), r.get("x-all")) == (["s=1", "t=2"], "ann", "y")
    if status == 200:
        r = w.get("/x")
        assert r.hit and r.get("x-all") == "y" and r.get("set-cookie") is None and r.get("x-user") is None
        assert origin.count() == 1


def test_the_first_client_gets_what_is_named_over_http2_too(origin, start):
    origin.on("/x", body=b"rest", headers=(("Cache-Control", 'max-age=60, private="X-User"'), ("X-User", "ann")))
    c = start(origin).http2()
    assert c.get("/x").get("x-user") == "ann"
    r = c.get("/x")
    assert r.hit and r.get("x-user") is None


# A response without its Vary, or without its coding, would be another one: then the whole is private.
def test_what_a_response_cannot_be_used_without_is_not_left_out(origin, start):
    origin.on("/x", body=b"rest", headers=(("Cache-Control", 'max-age=60, private="X-User, Content-Type"'), ("Content-Type", "text/x"), ("X-User", "ann")))
    w = start(origin)
    for _ in range(2):
        r = w.get("/x")
        assert not r.hit and (r.get("content-type"), r.get("x-user")) == ("text/x", "ann")
    assert origin.count() == 2


def test_who_comes_as_a_fetch_ends_does_not_fetch_again(origin, start):
    """It has looked before the answer was stored, and finds no flight any more."""
    origin.default = Reply(b"x" * 100, headers=MINUTE)
    w = start(origin, threads=4)
    rounds, n = 300, 8
    clients = [w.http1() for _ in range(n)]
    barrier = threading.Barrier(n)

    def ask(c):
        for i in range(rounds):
            barrier.wait()
            for _ in range(3):
                c.get(f"/{i}")
    threads = [threading.Thread(target=ask, args=(c,)) for c in clients]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [i for i in range(rounds) if origin.count(f"/{i}") != 1] == []
