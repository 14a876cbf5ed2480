"""The circuit breaker: a server that fails too often is left alone, and one request finds out when it is well again."""
import time

import pytest

import client
from origin import Reply
from test_proxy import problem
from test_upstream import until_queued
from weir import SLOW, base_conf

NO_STORE = (("Cache-Control", "no-store"),)
LONG = {"errors": "50%", "minimum": 4, "window": "10m", "open": "1h"}    # until the test is over
SHORT = {"errors": "50%", "minimum": 4, "window": "10m", "open": "300ms"}
TIMEOUTS = {"connect": "1s", "first_byte": "300ms", "idle": "300ms", "total": "10s"}


class Patient:
    """What an origin answers: 500 while it is ill."""

    def __init__(self, *origins, ill=True):
        self.ill = ill
        for o in origins:
            o.default = self

    def __call__(self, request):
        return Reply(b"ill", 500, headers=NO_STORE, end="close") if self.ill else Reply(b"well", headers=NO_STORE)


def backend(w):
    figures, = w.figures()["backends"]
    return figures


def until_breaker(w, state):
    deadline = time.monotonic() + 10 * SLOW
    while backend(w)["breaker"] != state:
        assert time.monotonic() < deadline, f"never {state}: {backend(w)}"
        time.sleep(0.01)


def fail(w, n, path="/fails"):
    for i in range(n):
        assert w.get(f"{path}/{i}").status == 500


def logged(w, what, n):
    """So many lines in all say that."""
    deadline = time.monotonic() + 5 * SLOW
    while w.stderr.count(what) < n and time.monotonic() < deadline:
        time.sleep(0.01)
    assert w.stderr.count(what) == n


def refused(r, after=None):
    problem(r, 503)
    assert r.get("retry-after", "").isdigit() and int(r.get("retry-after")) >= 1
    assert after is None or int(r.get("retry-after")) in after
    assert r.cache["detail"] == "breaker_open", r


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_it_opens_after_the_minimum_and_the_origin_sees_no_more(origin, start, status):
    origin.default = lambda q: Reply(b"ill", status, headers=NO_STORE)
    w = start(origin, backend={"circuit_breaker": LONG})
    for i in range(4):
        assert backend(w)["breaker"] == "closed"
        assert w.get(f"/{i}").status == status
    assert backend(w)["breaker"] == "open" and backend(w)["state"] == "down"
    for i in range(10):
        refused(w.get(f"/{i}"), after=range(3500, 3601))
    assert origin.count() == 4
    w.wait_log(r"breaker open .*" + str(origin.port) + r".* 4 of 4 ")
    logged(w, "breaker open", 1)


FAILURES = {
    "dropped": lambda: Reply(drop=True),
    "no answer": lambda: Reply(hang=True),
    "no http": lambda: Reply(raw=b"what?\r\n\r\n", end="close"),
    "half a head": lambda: Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Le", end="close"),
    "two lengths": lambda: Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", end="close"),
    "cut body": lambda: Reply(b"x" * 1000, headers=NO_STORE, cut=10),
    "cut large body": lambda: Reply(b"x" * 300000, headers=NO_STORE, cut=200000),
    "cut chunked body": lambda: Reply(b"x" * 1000, headers=NO_STORE, framing="chunked", cut=10),
    "reset": lambda: Reply(b"x" * 1000, headers=NO_STORE, cut=10, end="reset"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_each_kind_of_failure_counts(origin, start, failure):
    origin.default = lambda q: FAILURES[failure]()
    w = start(origin, backend={"circuit_breaker": LONG, "timeouts": TIMEOUTS})
    requests = 0
    while backend(w)["breaker"] == "closed":
        assert requests < 4, "it does not count"
        w.get(f"/{requests}")
        requests += 1
    assert requests >= 2, "what is tried again counts twice, and no more"
    before = origin.count()
    refused(w.get("/after"))
    assert origin.count() == before


@pytest.mark.parametrize("timeouts", [{"idle": "300ms", "total": "10s"}, {"idle": "10s", "total": "300ms"}], ids=["idle", "total"])
def test_a_body_that_takes_too_long_counts(origin, start, timeouts):
    streams = origin.streams(headers=NO_STORE)
    origin.default = streams
    w = start(origin, backend={"circuit_breaker": {**LONG, "minimum": 1}, "timeouts": {"connect": "1s", "first_byte": "5s", **timeouts}})
    c = w.http1()
    c.send(client.build("GET", "/x"))
    streams.wait().send(b"begin")
    r = c.head()
    assert b"".join(c.pieces(r)) == b"begin" and not r.clean
    until_breaker(w, "open")


def test_a_server_that_cannot_be_reached_counts(origin, start):
    w = start(origin, backend={"circuit_breaker": LONG})
    origin.refuse()
    for i in range(4):
        problem(w.get(f"/{i}"), 502)
    refused(w.get("/x"))
    assert backend(w)["breaker"] == "open" and backend(w)["state"] == "down"


@pytest.mark.parametrize("status", [400, 401, 404, 410, 429, 501, 505])
def test_other_errors_are_answers(origin, start, status):
    origin.default = lambda q: Reply(b"no", status, headers=NO_STORE)
    w = start(origin, backend={"circuit_breaker": {**LONG, "minimum": 1}})
    for i in range(5):
        assert w.get(f"/{i}").status == status
    assert origin.count() == 5 and backend(w)["breaker"] == "closed"


def test_the_share_of_errors_decides(origin, start):
    origin.default = lambda q: Reply(b"x", 500 if q.path.startswith("/bad") else 200, headers=NO_STORE)
    w = start(origin, backend={"circuit_breaker": LONG})
    for i in range(4):
        w.get(f"/good{i}")
    for i in range(3):
        w.get(f"/bad{i}")
    assert backend(w)["breaker"] == "closed"  # 3 of 7
    w.get("/bad3")
    assert backend(w)["breaker"] == "open"    # 4 of 8


def test_what_its_client_has_left_counts_for_nothing(origin, start):
    gate = origin.gate()
    origin.default = lambda q: Reply(b"x", 500, gate=gate)
    w = start(origin, route={"cache": False}, backend={"circuit_breaker": {**LONG, "minimum": 1}})
    for i in range(5):
        c = w.http1()
        c.send(client.build("GET", f"/{i}"))
        origin.wait(i + 1)
        c.reset()
    origin.wait_idle()
    assert backend(w)["breaker"] == "closed"


def test_a_kept_connection_that_has_died_counts_for_nothing(origin, start):
    origin.default = lambda q: Reply(drop=True) if q.nth > 1 else Reply(b"ok", headers=NO_STORE)
    w = start(origin, threads=1, backend={"circuit_breaker": {**LONG, "minimum": 1}})
    for i in range(6):
        assert w.get(f"/{i}").status == 200
    assert origin.count() > 6, "no connection was kept: nothing was tested"
    assert backend(w)["breaker"] == "closed"


def test_nor_does_one_that_dies_under_a_request_which_has_been_tried_before(make_origin, start):
    gone, other = make_origin(), make_origin()
    gone.default = Reply(b"ok", headers=NO_STORE, end="close")
    other.default = lambda q: Reply(drop=True) if q.nth > 1 else Reply(b"ok", headers=NO_STORE)
    w = start(gone, threads=1, backend={"servers": [gone.url, other.url], "circuit_breaker": {**LONG, "minimum": 1}})
    for i in range(2):  # by turns
        assert w.get(f"/{i}").status == 200
    gone.refuse()
    problem(w.get("/2"), 502)
    assert other.count("/2") == 1, "no connection was kept: nothing was tested"
    assert backend(w)["breaker"] == "open"  # the first one's
    assert w.get("/3").status == 200


def test_the_time_that_a_slow_reader_takes_is_not_the_servers_fault(origin, start):
    streams = origin.streams(headers=NO_STORE)
    origin.default = streams
    w = start(origin, backend={"circuit_breaker": {**LONG, "minimum": 1},
                               "timeouts": {"connect": "1s", "first_byte": "5s", "idle": "10s", "total": "1s"}})
    c = w.http1(receive_buffer=65536)
    c.send(client.build("GET", "/x"))
    s = streams.wait()
    for _ in range(64):
        s.send(bytes(1 << 20))
    assert s.gone.wait(10 * SLOW)
    assert c.head().status == 200
    assert backend(w)["breaker"] == "closed"


# While it is open

def with_stale(origin, start, patient, breaker, **tier):
    """/x is stored and stale, and the breaker open."""
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "1h", **tier}}, backend={"circuit_breaker": breaker})
    origin.on("/x", lambda q: Reply(b"old", headers=(("ETag", '"1"'),)))
    assert w.get("/x").body == b"old"
    assert w.get("/x").hit
    origin.on("/x", lambda q: patient(q) if patient.ill else Reply(b"new", headers=(("ETag", '"2"'),)))
    while backend(w)["breaker"] == "closed":
        fail(w, 1)
    w.purge_path("/x", soft=True)
    origin.forget()
    return w


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_something_stale_is_served_at_once(origin, start, method):
    w = with_stale(origin, start, Patient(origin), LONG, stale_if_error="1h")
    for i in range(3):
        r = w.request(method, "/x")
        if method == "GET":
            assert r.cache.get("fwd") == ("stale" if i == 0 else None), "held down for as long as it is open"
        assert r.status == 200 and r.cache["detail"] == "stale-if-error" and r.age is not None, r
        assert r.body == (b"old" if method == "GET" else b"")
        assert r.done - r.sent < 1 * SLOW
    assert origin.count() == 0


def test_all_who_wait_for_the_same_get_something_stale(origin, start):
    w = with_stale(origin, start, Patient(origin), LONG, stale_if_error="1h")
    answers = client.herd(w.address, [client.build("GET", "/x")] * 50)
    assert {(r.status, r.body, r.cache["detail"]) for r in answers} == {(200, b"old", "stale-if-error")}
    assert origin.count() == 0


def test_what_is_fresh_is_no_concern_of_it(origin, start):
    patient = Patient(origin)
    origin.on("/fresh", body=b"fresh", headers=(("Cache-Control", "max-age=60"),))
    w = start(origin, backend={"circuit_breaker": LONG})
    w.get("/fresh")
    while backend(w)["breaker"] == "closed":
        fail(w, 1)
    assert patient.ill and w.get("/fresh").hit


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
def test_without_something_stale_any_method_is_refused(origin, start, method):
    w = with_stale(origin, start, Patient(origin), {**LONG, "open": "90s"})
    r = w.request(method, "/x", [], b"once" if method in ("POST", "PUT") else None)
    if method == "HEAD":
        assert r.status == 503 and int(r.get("retry-after")) in range(30, 91)
    else:
        refused(r, after=range(30, 91))
    assert r.done - r.sent < 1 * SLOW
    assert origin.count() == 0


def test_a_refresh_behind_the_clients_back_is_refused_and_held_down(origin, start):
    patient = Patient(origin)
    w = with_stale(origin, start, patient, {**SHORT, "open": "2s"}, stale_while_revalidate="1h")
    patient.ill = False
    for _ in range(5):
        r = w.get("/x")
        assert r.body == b"old" and r.cache["detail"] == "stale-while-revalidate"
    asked = origin.count()
    assert asked == 0 or backend(w)["breaker"] == "closed"
    until_breaker(w, "half-open" if asked == 0 else "closed")
    deadline = time.monotonic() + 10 * SLOW
    while w.get("/x").body == b"old":
        assert time.monotonic() < deadline, "never refreshed"
    assert backend(w)["breaker"] == "closed" and origin.count() == 1


def test_who_waits_in_the_queue_when_it_opens_is_refused_at_once(origin, start):
    gate = origin.gate()
    origin.default = lambda q: Reply(b"ill", 500, headers=NO_STORE, gate=gate)
    w = start(origin, backend={"circuit_breaker": {**LONG, "minimum": 1}, "max_connections": 2,
                               "queue": {"size": 100, "timeout": "40s"}})
    first = [w.http1() for _ in range(2)]
    for i, c in enumerate(first):
        c.send(client.build("GET", f"/first/{i}"))
    origin.wait(2)
    h = client.Herd(w.address, [client.build("GET", f"/{i}") for i in range(20)] + [client.build("GET", "/same")] * 30).go()
    until_queued(w, 21)
    gate.open()
    for r in h.gather().answers():
        refused(r, after=range(3500, 3601))
    h.close()
    assert [c.response().status for c in first] == [500, 500]
    assert origin.count() == 2


# And then

def opened(origin, start, breaker=None, timeouts=None, **more):
    """The breaker is open, and its time has passed: who comes next finds out."""
    patient = Patient(origin)
    w = start(origin, backend={"circuit_breaker": breaker or SHORT, "timeouts": timeouts or {"connect": "1s"}}, **more)
    fail(w, 4)
    until_breaker(w, "half-open")
    return w, patient


def test_it_closes_when_a_request_succeeds_and_counts_anew(origin, start):
    w, patient = opened(origin, start)
    patient.ill = False
    assert w.get("/x").body == b"well"
    assert backend(w)["breaker"] == "closed" and backend(w)["state"] == "up"
    w.wait_log(r"breaker closed .*" + str(origin.port))
    patient.ill = True
    fail(w, 3)
    assert backend(w)["breaker"] == "closed"
    fail(w, 1)
    assert backend(w)["breaker"] != "closed"
    logged(w, "breaker closed", 1)
    logged(w, "breaker open", 2)


@pytest.mark.parametrize("failure", [None, "dropped", "cut body", "no answer"])
def test_it_opens_again_when_that_request_fails(origin, start, failure):
    """None: with a 500."""
    w, patient = opened(origin, start, {**SHORT, "open": f"{SLOW}s"}, TIMEOUTS)
    if failure:
        origin.on("/probe", lambda q: FAILURES[failure]())
    before = origin.count()
    r = w.get("/probe")
    assert r.status >= 500 or not r.clean
    assert origin.count() == before + 1, "nobody tries twice"
    until_breaker(w, "open")
    until_breaker(w, "half-open")
    patient.ill = False
    assert w.get("/x").status == 200
    logged(w, "breaker closed", 1)
    logged(w, "breaker open", 1)


def test_one_request_tries_however_many_come_at_once(origin, start):
    w, _ = opened(origin, start)
    gate = origin.gate()
    origin.default = lambda q: Reply(b"well", headers=NO_STORE, gate=gate)
    origin.forget()
    h = client.Herd(w.address, [client.build("GET", f"/{i}") for i in range(200)]).go()
    origin.wait(1)
    h.gather(until=lambda: sum(m.ended is not None for m in h.members) == 199)
    assert origin.count() == 1
    gate.open()
    answers = h.gather().answers()
    assert sorted(r.status for r in answers) == [200] + [503] * 199
    for r in answers:
        if r.status == 503:
            refused(r, after=[1])
    h.close()
    assert backend(w)["breaker"] == "closed"
    assert [w.get(f"/after{i}").status for i in range(5)] == [200] * 5


def test_one_that_its_client_leaves_makes_place_for_the_next(origin, start):
    w, patient = opened(origin, start, route={"cache": False})
    gate = origin.gate()
    origin.on("/left", body=b"late", gate=gate)
    patient.ill = False
    c = w.http1()
    c.send(client.build("GET", "/left"))
    origin.wait(1, "/left")
    refused(w.get("/meanwhile"), after=[1])
    c.reset()
    origin.wait_idle()
    deadline = time.monotonic() + 5 * SLOW
    while w.get("/next").status != 200:
        assert time.monotonic() < deadline, "its place was never free again"
    assert backend(w)["breaker"] == "closed"


def test_an_answer_that_goes_on_for_long_closes_it_before_its_end(origin, start):
    w, patient = opened(origin, start)
    patient.ill = False
    streams = origin.streams(headers=NO_STORE)
    origin.on("/events", streams)
    c = w.http1()
    c.send(client.build("GET", "/events"))
    s = streams.wait()
    s.send(b"one ")
    r = c.head()
    until_breaker(w, "closed")
    assert w.get("/x").status == 200
    s.send(b"two")
    s.end()
    assert b"".join(c.pieces(r)) == b"one two" and r.clean


def test_of_two_servers_only_the_bad_one_is_left_out(make_origin, start):
    good, bad = make_origin(), make_origin()
    Patient(good, ill=False)
    patient = Patient(bad)
    w = start(good, backend={"servers": [good.url, bad.url], "circuit_breaker": {**SHORT, "open": f"{2 * SLOW}s"}})
    i = 0
    while backend(w)["breaker"] == "closed":
        w.get(f"/{i}")
        i += 1
    assert backend(w)["state"] == "up"
    before = bad.count()
    assert before == 4
    for i in range(20):
        assert w.get(f"/more{i}").body == b"well"
    assert bad.count() == before
    patient.ill = False
    until_breaker(w, "half-open")
    for i in range(10):
        assert w.get(f"/again{i}").body == b"well"
    assert backend(w)["breaker"] == "closed" and bad.count() > before + 1


def test_it_stays_open_across_a_reload_that_does_not_concern_it(origin, start):
    Patient(origin)
    conf = base_conf(origin, routes=[{"path": "/a/**"}], backend={"circuit_breaker": LONG})
    w = start(conf=conf)
    fail(w, 4, "/a")
    w.reload_and_wait({**conf, "routes": [*conf["routes"], {"path": "/b/**", "backend": "api"}]})
    refused(w.get("/b/x"))
    assert origin.count() == 4 and backend(w)["breaker"] == "open"
    w.reload({**conf, "backends": {"api": {"servers": [origin.url], "circuit_breaker": {**LONG, "minimum": 5}}}})
    until_breaker(w, "closed")
    fail(w, 4, "/a")
    assert origin.count() == 8


def test_what_a_server_that_has_gone_still_answers_counts_for_nothing(origin, make_origin, start):
    """Its backend is without a breaker, or with another, by the time that it answers."""
    gate, other = origin.gate(), make_origin()
    origin.default = lambda q: Reply(b"late", headers=(("Cache-Control", "no-store"),), gate=gate)
    other.default = lambda q: Reply(b"other", headers=(("Cache-Control", "no-store"),))
    conf = base_conf(origin, backend={"circuit_breaker": LONG})
    w = start(conf=conf)
    c = w.http1()
    c.send(client.build("GET", "/x"))
    origin.wait(1)
    w.reload({**conf, "backends": {"api": {"servers": [other.url]}}})
    until_breaker(w, "off")
    gate.open()
    assert c.response().body == b"late"
    assert w.get("/y").body == b"other"


def test_without_one_nothing_is_refused(origin, start):
    Patient(origin)
    w = start(origin)
    fail(w, 50)
    assert backend(w)["breaker"] == "off" and origin.count() == 50
