"""Interim responses (RFC 9110 section 15.2): passed on to the HTTP/1.1 client whose request was sent, and to nothing
else."""
import array
import fcntl
import select
import signal
import socket
import ssl
import termios
import time

import client
import pytest
from origin import Reply
from test_drain import draining
from weir import SLOW, free_port

MINUTE = ("Cache-Control", "max-age=60")
NO_STORE = ("Cache-Control", "no-store")


def hint(status=103, *fields, reason="Early Hints"):
    return (f"HTTP/1.1 {status} {reason}\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields) + "\r\n").encode()


LINK = ("Link", "</a.css>; rel=preload; as=style")
EARLY = hint(103, LINK, ("X-Early", "yes"))


def assert_early(r):
    assert (r.status, r.get("link"), r.get("x-early")) == (103, LINK[1], "yes")


def assert_untouched(r, body=b"hello"):
    assert (r.status, r.body, r.clean) == (200, body, True)
    assert not {"link", "x-early"} & set(r.names())


def wait_for(condition):
    deadline = time.monotonic() + 5 * SLOW
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def pass_all_threads(w):
    """What was sent to any thread before this has been read by then."""
    for _ in range(24):
        assert w.get("/nowhere").status == 404


def test_it_comes_before_the_answer_and_is_no_part_of_what_is_stored(origin, start):
    """RFC 9110 section 15.2, RFC 8297 section 2."""
    gate = origin.gate()
    origin.on("/x", body=b"hello", headers=(MINUTE,), before=(EARLY, gate))
    w = start(origin)
    c = w.http1()
    c.send(client.build("GET", "/x"))
    early = c.any_head()
    assert_early(early)
    assert early.get("via") == "1.1 weir" and "date" not in early.names()  # RFC 9110 section 7.6.3
    gate.open()
    r = c.response()
    assert_untouched(r)
    assert r.interim == [] and r.cache == {"fwd": "uri-miss", "stored": True}
    for one in (c, w.http1()):
        r = one.get("/x")
        assert_untouched(r)
        assert r.hit and r.interim == []
    assert_untouched(w.http2().get("/x"))
    assert origin.count() == 1
    requests = w.figures()["requests"]
    assert (requests["miss"], requests["hit"], sum(requests[n] for n in ("stale", "coalesced", "bypass", "error"))) == (1, 3, 0)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_it_passes_over_tls(origin, start, certificates, version):
    gate, port, c = origin.gate(), free_port(), certificates["api.test"]
    origin.on("/x", body=b"hello", headers=(MINUTE,), before=(EARLY, gate))
    w = start(origin, listen=[{"address": f"127.0.0.1:{port}", "tls": {"certificate": c.certificate, "key": c.key}}])
    context = ssl.create_default_context(cafile=c.ca)
    context.minimum_version = context.maximum_version = version
    one = w.http1(address=("127.0.0.1", port), tls=context, server_name="api.test")
    one.send(client.build("GET", "/x"))
    assert_early(one.any_head())
    gate.open()
    assert_untouched(one.response())
    r = one.get("/x")
    assert_untouched(r)
    assert r.hit and r.interim == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("control", [MINUTE, NO_STORE], ids=["stored", "no-store"])
def test_all_kinds_pass_in_order(origin, start, method, control):
    """RFC 9110 section 15.2."""
    first = [hint(102, reason="Processing"), EARLY, hint(199, ("X-What", ""), reason=""), hint(103, LINK)]
    origin.on("/x", body=b"hello", headers=(control,), before=(b"".join(first[:2]), *first[2:]))
    r = start(origin).request(method, "/x", body=b"content" if method == "POST" else None)
    assert [i.status for i in r.interim] == [102, 103, 199, 103]
    assert [i.raw_head.split(b"\r\n")[0] for i in r.interim[:2]] == [b"HTTP/1.1 102 Processing", b"HTTP/1.1 103 Early Hints"]
    assert_early(r.interim[1])
    assert r.interim[2].all("x-what") == [""]
    assert_untouched(r, b"" if method == "HEAD" else b"hello")


def test_only_end_to_end_fields_pass(origin, start):
    """RFC 9110 sections 7.6.1, 7.6.3 and 8.6."""
    origin.on("/x", before=(hint(103, LINK, ("Connection", "x-hop, close"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("TE", "trailers"),
                                 ("Upgrade", "h2c"), ("Content-Length", "7"), ("x-MIXED", " a  b "), ("Link", "<b>")),))
    r = start(origin).get("/x")
    assert r.status == 200 and len(r.interim) == 1
    assert [(n, v) for n, v in r.interim[0].headers] == [LINK, ("x-MIXED", "a  b"), ("Link", "<b>"), ("Via", "1.1 weir")]


def test_100_is_not_passed_on(origin, start):
    """RFC 9110 section 10.1.1: by then the client has had its own."""
    origin.on("/x", body=b"hello", before=(hint(100, ("X-A", "1"), reason="Continue"), EARLY, hint(100, reason="Continue")))
    r = start(origin).get("/x")
    assert_untouched(r)
    assert [i.status for i in r.interim] == [103]


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_a_client_that_expects_100_gets_it_once_and_the_origins_103(origin, start, size):
    """RFC 9110 section 10.1.1: the origin is not asked for 100, since the content is there when it is asked."""
    origin.on("/x", lambda q: Reply(b"%d" % len(q.body), before=(hint(100, reason="Continue"), EARLY)))
    c = start(origin).http1()
    c.send(client.build("POST", "/x", [("Expect", "100-continue"), ("Content-Length", str(size))]))
    assert c.any_head().status == 100
    assert origin.count() == 0 or size == 0
    c.send(b"x" * size)
    r = c.response("POST")
    assert (r.status, r.body, [i.status for i in r.interim]) == (200, b"%d" % size, [103])
    assert origin.seen("/x")[0].get("expect") is None


def test_http_1_0_clients_get_none(origin, start):
    """RFC 9110 section 15.2: a server must not send one to them."""
    origin.on("/x", body=b"hello", headers=(MINUTE,), before=(EARLY,))
    c = start(origin).http1()
    c.send(b"GET /x HTTP/1.0\r\nHost: api.test\r\nConnection: keep-alive\r\n\r\n")
    r = c.response()
    assert_untouched(r)
    assert r.interim == []


@pytest.mark.parametrize("how", ["prior knowledge", "upgrade"])
def test_http2_clients_get_the_answer_alone(origin, start, how):
    """RFC 9110 section 15.2 would have them forwarded; libh2o has no call for it."""
    origin.on("/x", body=b"hello", headers=(MINUTE,), before=(EARLY, hint(102, reason="Processing")))
    w = start(origin)
    h = w.http2(upgrade=("GET", "/x", [], None)) if how == "upgrade" else w.http2()
    r = h.result(1) if how == "upgrade" else h.get("/x")
    assert_untouched(r)
    assert r.cache["fwd"] == "uri-miss"


def test_only_the_one_whose_request_was_sent_gets_it(origin, start):
    first, last = origin.gate(), origin.gate()
    origin.on("/x", body=b"hello", headers=(MINUTE,), before=(EARLY, first, hint(102, reason="Processing"), last))
    w = start(origin, threads=2)
    leader = w.http1()
    leader.send(client.build("GET", "/x"))
    assert_early(leader.any_head())
    others = [w.http1() for _ in range(12)]
    for c in others:
        c.send(client.build("GET", "/x"))
    pass_all_threads(w)
    first.open()
    assert leader.any_head().status == 102
    last.open()
    assert_untouched(leader.response())
    for c in others:
        r = c.response()
        assert_untouched(r)
        assert r.interim == [] and r.cache.get("collapsed")
    assert origin.count("/x") == 1


@pytest.mark.parametrize("unnoticed", [True, False])
def test_when_the_leader_has_gone_nobody_gets_it(origin, start, unnoticed):
    first, last = origin.gate(), origin.gate()
    origin.on("/x", body=b"hello", headers=(MINUTE,), before=(EARLY, first, hint(102, reason="Processing"), last))
    w = start(origin)
    leader, other = w.http1(), w.http1()
    leader.send(client.build("GET", "/x"))
    assert_early(leader.any_head())
    other.send(client.build("GET", "/x"))
    pass_all_threads(w)
    leader.reset()
    if not unnoticed:
        w.until_waiting(1)
    first.open()
    last.open()
    r = other.response()
    assert_untouched(r)
    assert r.interim == [] and origin.count("/x") == 1


def test_pipelined_requests_get_theirs_in_order(origin, start):
    """RFC 9112 section 9.3.2."""
    for i in range(12):
        origin.on(f"/{i}", body=b"%d" % i, headers=(MINUTE if i % 2 else NO_STORE,), before=(hint(103, ("X-Of", str(i))),) * (i % 3))
    c = start(origin).http1()
    c.send(b"".join(client.build("GET", f"/{i}") for i in range(12)))
    for i in range(12):
        r = c.response()
        assert (r.status, r.body) == (200, b"%d" % i)
        assert [q.get("x-of") for q in r.interim] == [str(i)] * (i % 3)
    for i in range(12):
        r = c.get(f"/{i}")
        assert r.body == b"%d" % i and len(r.interim) == (0 if i % 2 else i % 3)


@pytest.mark.parametrize("control", [MINUTE, NO_STORE], ids=["stored", "no-store"])
@pytest.mark.parametrize("size", [0, 5, 70_000, 3_000_000])
@pytest.mark.parametrize("number", [1, 7])
def test_what_comes_together_goes_out_in_order(origin, start, control, size, number):
    """The answer's head, and much of it, comes while the interim response is still being written."""
    date = "Tue, 15 Nov 1994 08:12:31 GMT"
    body = bytes(i % 251 for i in range(size))
    head = f"HTTP/1.1 200 OK\r\n{control[0]}: {control[1]}\r\nDate: {date}\r\nContent-Length: {size}\r\n\r\n".encode()
    origin.on("/x", raw=EARLY * number + head + body)
    w = start(origin)
    for _ in range(3):
        r = w.request("POST", "/x", body=b"")
        assert_untouched(r, body)
        assert len(r.interim) == number and r.all("date") == [date]
    r = w.get("/x")
    assert_untouched(r, body)
    assert len(r.interim) == number and r.all("date") == [date]


def test_a_failure_after_it_is_a_failure(origin, start):
    origin.on("/cut", raw=EARLY + b"HTTP/1.1 200 OK\r\nContent-Le", end="close")
    origin.on("/drop", raw=EARLY, end="reset")
    origin.on("/bad", raw=EARLY + b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
    w = start(origin)
    c = w.http1()
    for path in ("/cut", "/drop", "/bad"):
        r = c.get(path)
        assert (r.status, [i.status for i in r.interim]) == (502, [103]), path
        assert origin.count(path) == 1  # what has begun to be answered is not asked again
    assert c.get("/drop").status == 502


def test_something_stale_may_follow(origin, start):
    good = Reply(b"hello", headers=(("ETag", '"1"'),))
    bad = Reply(raw=EARLY + b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    origin.on("/x", lambda q: good if origin.count("/x") == 1 else bad)
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "200ms", "stale_if_error": "1h"}})
    c = w.http1()
    assert c.get("/x").body == b"hello"
    time.sleep(0.4)
    r = c.get("/x")
    assert_untouched(r)
    assert r.cache["detail"] == "stale-if-error" and len(r.interim) == 1


def test_a_refresh_behind_the_clients_back_has_nobody_to_tell(origin, start):
    origin.on("/x", lambda q: Reply(b"%d" % origin.count("/x"), before=(EARLY,)))
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "200ms", "stale_while_revalidate": "1h"}})
    c = w.http1()
    assert len(c.get("/x").interim) == 1
    time.sleep(0.4)
    r = c.get("/x")
    assert r.body == b"1" and r.interim == []
    origin.wait(2)
    wait_for(lambda: c.get("/x").body == b"2")


def test_a_client_gets_a_bounded_number_and_the_answer(origin, start):
    origin.on("/x", body=b"hello", headers=(MINUTE,), before=(hint(102, reason="P") * 500,))
    origin.on("/large", body=b"hello", headers=(MINUTE,), before=(hint(103, ("X-A", "a" * 4000)) * 16,))
    w = start(origin)
    r = w.get("/x")
    assert_untouched(r)
    assert len(r.interim) == 32
    r = w.get("/large")
    assert_untouched(r)
    assert len(r.interim) == 15 and all(i.get("x-a") == "a" * 4000 for i in r.interim)


def test_without_end_they_are_no_answer(origin, start):
    """64 KiB of heads is all that an origin may say; and however few they are, first_byte goes on counting."""
    origin.on("/flood", before=(EARLY * 10_000,))
    gates = [origin.gate() for _ in range(3)]
    origin.on("/drip", before=tuple(step for g in gates for step in (EARLY, g)))
    w = start(origin, backend={"timeouts": {"connect": "1s", "first_byte": "1s", "idle": "20s", "total": "30s"}})
    assert w.get("/flood").status == 502
    c = w.http1()
    c.send(client.build("GET", "/drip"))
    begun = time.monotonic()
    assert_early(c.any_head())
    time.sleep(0.7)
    gates[0].open()
    assert_early(c.any_head())
    r = c.response()
    assert r.status == 504 and r.interim == []
    assert time.monotonic() - begun < 1.65 * SLOW  # 1.7 if it had begun again


# A client that takes nothing. On unix sockets it is known how much the kernel takes for it: an answer of that length fills
# the socket, and the interim responses to the next request are stuck.

def waiting_bytes(sock):
    n = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), termios.FIONREAD, n)
    return n[0]


def room_of_a_unix_socket():
    a, b = socket.socketpair(socket.AF_UNIX)
    with a, b:
        a.setblocking(False)
        return a.send(b"x" * (1 << 24))


@pytest.fixture(name="stuck")
def _stuck(origin, start, certificates, tmp_path):
    """stuck(the second request's Reply, ...): a client with two requests on their way, the first one's answer complete in
    its socket and nothing of the second one's."""
    def begin(limits=None, method="GET", tls=False, **reply):
        path, certificate = str(tmp_path / "sock"), certificates["api.test"]
        listen = {"address": "unix:" + path, **({"tls": {"certificate": certificate.certificate, "key": certificate.key}} if tls else {})}
        secure = {"tls": ssl.create_default_context(cafile=certificate.ca), "server_name": "api.test"} if tls else {}
        w = start(origin, threads=1, limits=limits, listen=[listen, {"address": f"127.0.0.1:{free_port()}"}])
        w.port = int(w.conf["listen"][1]["address"].rsplit(":", 1)[1])

        def connect():
            return w.http1(address=path, **secure)

        def send(data):
            c = connect()
            c.send(data)
            pass_all_threads(w)
            return c
        for size in (100_000, 150_000):  # how many bytes of the socket's an answer takes
            origin.on(f"/{size}", body=b"x" * size, headers=(MINUTE,))
            connect().get(f"/{size}")
        less, more = (waiting_bytes(send(client.build("GET", f"/{size}")).sock) for size in (100_000, 150_000))
        room = room_of_a_unix_socket()
        first = 150_000 + (room - 300 - more) * 50_000 // (more - less)
        origin.on("/first", body=b"x" * first, headers=(MINUTE,))
        whole = connect().get("/first")
        origin.on("/second", **reply)
        c = send(client.build("GET", "/first") + client.build(method, "/second", body=b"" if method == "POST" else None))
        origin.wait(1, "/second")
        pass_all_threads(w)
        c.first, c.full, c.another = whole.body, waiting_bytes(c.sock), connect
        assert room - 600 < c.full <= room
        return w, c
    return begin


def still_stuck(w, c):
    pass_all_threads(w)
    return waiting_bytes(c.sock) == c.full


BIG = ("X-Big", "b" * 20_000)


@pytest.mark.parametrize("tls, method, control, framing", [
    (False, "GET", MINUTE, "length"), (False, "GET", NO_STORE, "chunked"), (False, "POST", NO_STORE, "length"), (False, "GET", NO_STORE, "close"),
    (True, "GET", MINUTE, "length"), (True, "POST", NO_STORE, "chunked")])
@pytest.mark.parametrize("size", [0, 70_000, 3_000_000])
def test_the_answer_waits_until_a_slow_client_has_taken_them(origin, stuck, method, control, framing, size, tls):
    first, second = origin.gate(), origin.gate()
    body = bytes(i % 251 for i in range(size))
    date = "Tue, 15 Nov 1994 08:12:31 GMT"
    w, c = stuck(tls=tls, method=method, body=body, framing=framing, headers=(control, ("Date", date)),
                 before=(hint(103, BIG), first, EARLY, hint(103, BIG), second))
    assert still_stuck(w, c)
    first.open()
    assert still_stuck(w, c)
    second.open()
    assert still_stuck(w, c)
    r = c.response()
    assert r.body == c.first
    r = c.response(method)
    assert_untouched(r, body)
    assert [i.get("x-big") for i in r.interim] == [BIG[1], None, BIG[1]] and r.all("date") == [date]
    assert c.get("/first").hit


@pytest.mark.parametrize("held", [True, False], ids=["with the answer held", "before the answer"])
@pytest.mark.parametrize("tls, control", [(False, MINUTE), (False, NO_STORE), (True, NO_STORE)], ids=["stored", "no-store", "tls"])
@pytest.mark.parametrize("how", ["close", "reset", "half close"])
def test_a_client_may_leave_while_they_are_written(origin, stuck, held, control, how, tls):
    gate = origin.gate()
    w, c = stuck(tls=tls, body=b"hello" * 30_000, headers=(control,), before=(hint(103, BIG), gate))
    if held:
        gate.open()
        origin.wait_idle()
    assert still_stuck(w, c)
    if how == "half close":
        c.sock.shutdown(socket.SHUT_WR)
    else:
        c.reset() if how == "reset" else c.close()
    pass_all_threads(w)
    gate.open()
    assert_untouched(c.another().get("/second"), b"hello" * 30_000)
    assert c.another().get("/first").hit
    if control == MINUTE:
        assert origin.count("/second") == 1


@pytest.mark.parametrize("held", [True, False], ids=["with the answer held", "before the answer"])
def test_a_client_that_takes_nothing_is_given_up(origin, stuck, held):
    gate = origin.gate()
    w, c = stuck(limits={"idle_timeout": "1s"}, body=b"hello", headers=(MINUTE,), before=(hint(103, BIG), gate))
    if held:
        gate.open()
    c.sock.settimeout(10 * SLOW)
    wait_for(lambda: not_connected(c.sock))
    gate.open()
    r = c.response()
    assert r.body == c.first
    assert c.at_end()
    assert_untouched(w.get("/second"))


def not_connected(sock):
    """Has the other side closed?"""
    p = select.poll()
    p.register(sock, select.POLLRDHUP)
    return bool(p.poll(0))


def test_what_is_in_flight_is_drained(origin, stuck):
    gate = origin.gate()
    w, c = stuck(body=b"hello", headers=(MINUTE,), before=(hint(103, BIG), gate))
    w.signal(signal.SIGTERM)
    draining(w)
    gate.open()
    assert c.response().body == c.first
    r = c.response()
    assert_untouched(r)
    assert len(r.interim) == 1 and r.get("connection") == "close"
    assert c.at_end() and w.wait() == 0
