"""What passes through weir, and how."""
import json
import re
import time

import pytest

import client
from origin import Reply
from weir import HOST, SLOW, free_port


def problem(r, status):
    """The answer is a problem that weir made itself (RFC 9457)."""
    assert r.status == status, r
    assert r.clean
    assert r.get("content-type", "").startswith("application/problem+json"), r.headers
    body = json.loads(r.body)
    assert body.get("status", status) == status and body.get("title")
    return body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("size", [0, 1, 5000, 300_000])
def test_methods_with_bodies_pass(origin, start, method, size):
    """RFC 9110 section 8.6."""
    origin.on("/x", lambda q: Reply(b"got %d" % len(q.body), 201))
    w = start(origin)
    body = bytes(i * 7 % 251 for i in range(size))
    r = w.request(method, "/x?q=1", [("Content-Type", "application/x-thing")], body)
    assert (r.status, r.body, r.clean) == (201, b"got %d" % size, True)
    q, = origin.seen("/x")
    assert (q.method, q.target, q.body, q.get("content-type")) == (method, "/x?q=1", body, "application/x-thing")
    assert q.get("content-length") == str(size) and q.get("transfer-encoding") is None
    r = w.http2().request(method, "/x", [], body)
    assert (r.status, r.clean, origin.seen("/x")[1].body) == (201, True, body)


def test_a_chunked_request_body_arrives_whole(origin, start):
    """RFC 9112 section 7.1."""
    origin.on("/x", body=b"ok")
    r = start(origin).request("POST", "/x", [], b"abc" * 3000, chunked=True)
    assert r.status == 200
    assert origin.seen("/x")[0].body == b"abc" * 3000


def test_delete_without_a_body_has_none(origin, start):
    origin.on("/x", status=204)
    r = start(origin).request("DELETE", "/x")
    assert (r.status, r.body) == (204, b"")
    assert origin.seen("/x")[0].get("transfer-encoding") is None


def test_options_passes(origin, start):
    origin.on("/x", status=204, headers=(("Allow", "GET"),))
    r = start(origin).request("OPTIONS", "/x")
    assert (r.status, r.get("allow")) == (204, "GET")


def test_end_to_end_headers_pass_byte_for_byte_and_in_order(origin, start):
    """RFC 9110 sections 5.3 and 7.6.1."""
    sent = (("X-Odd-Case", "a  b;c=\"d, e\""), ("x-lower", "\u00e9\u00ff"), ("X-Empty", ""), ("Link", "<a>; rel=x"), ("Link", "<b>; rel=y"),
            ("Content-Type", "Text/Plain;  charset=UTF-8"), ("ETag", 'W/"a,b"'), ("Server", "origin/1"), ("X-Last", "1"))
    origin.on("/x", body=b"hello", headers=sent)
    w = start(origin)
    for c in (w.http1(), w.http1()):  # a miss and a hit
        r = c.get("/x")
        names = {n.lower() for n, _ in sent}
        assert [(n, v) for n, v in r.headers if n.lower() in names] == list(sent)
    r = w.http2().get("/x")
    assert [(n, v) for n, v in r.headers if n in names] == [(n.lower(), v) for n, v in sent]


def test_request_headers_pass_as_they_are(origin, start):
    """RFC 9110 sections 5.3 and 7.6.1."""
    origin.on("/x", body=b"")
    sent = [("X-Odd", "a  b"), ("Accept", "*/*"), ("X-Twice", "1"), ("X-Twice", "2"), ("User-Agent", "Test/1 (x; y)"), ("TE", "trailers")]
    start(origin).get("/x", sent)
    q, = origin.seen("/x")
    assert q.all("x-odd") == ["a  b"] and q.get("x-twice") == "1, 2" and q.all("accept") == ["*/*"]
    assert q.all("user-agent") == ["Test/1 (x; y)"] and q.all("host") == [HOST]
    assert q.all("te") == []


def test_hop_by_hop_fields_stay_on_their_hop(origin, start):
    """RFC 9110 section 7.6.1."""
    origin.on("/x", body=b"x", headers=(("Connection", "X-Hop, keep-alive"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"),
                                       ("Proxy-Connection", "keep-alive"), ("Upgrade", "h2c"), ("Proxy-Authenticate", "Basic"), ("X-End", "1")))
    w = start(origin)
    hop = {"x-hop", "keep-alive", "proxy-connection", "upgrade", "te", "trailer"}
    for _ in range(2):
        r = w.get("/x", [("Connection", "X-Mine, close"), ("X-Mine", "1"), ("Keep-Alive", "5"), ("Proxy-Connection", "x"),
                         ("TE", "gzip"), ("X-Pass", "1")])
        assert not hop & set(r.names()), r.headers
        assert r.get("x-end") == "1"
    q = origin.seen("/x")[0]
    assert q.get("x-pass") == "1"
    assert not (hop | {"x-mine"}) & {n.lower() for n, _ in q.headers}, q.headers


def test_via_and_forwarding_fields_are_added(origin, start):
    """RFC 9110 section 7.6.3, RFC 7239 section 4."""
    origin.on("/x", body=b"x", headers=(("Via", "1.0 inner"),))
    w = start(origin)
    r = w.get("/x?1")
    assert r.get("via") in ("1.0 inner, 1.1 weir",)
    q = origin.seen("/x")[0]
    assert q.get("via") == "1.1 weir"
    assert q.get("x-forwarded-for") == "127.0.0.1" and q.get("x-forwarded-proto") == "http"
    assert re.search(r"for=\"?127\.0\.0\.1\"?", q.get("forwarded")) and "proto=http" in q.get("forwarded")
    assert w.get("/x?1").get("via") == "1.0 inner, 1.1 weir"  # from memory too
    w.http2().get("/x?2")
    assert origin.seen("/x")[-1].get("via") in ("2 weir", "2.0 weir")


def test_a_forwarded_chain_is_continued(origin, start):
    """RFC 9110 section 7.6.3, RFC 7239 section 4."""
    origin.on("/x", body=b"x")
    start(origin).get("/x", [("X-Forwarded-For", "192.0.2.7"), ("Via", "1.1 front"), ("Forwarded", "for=192.0.2.7")])
    q = origin.seen("/x")[0]
    assert q.get("x-forwarded-for") == "192.0.2.7, 127.0.0.1"
    assert q.get("via") == "1.1 front, 1.1 weir"
    assert q.get("forwarded").startswith("for=192.0.2.7,") and "127.0.0.1" in q.get("forwarded")


def test_a_claimed_scheme_is_not_believed(origin, start):
    origin.on("/x", body=b"x")
    start(origin).get("/x", [("X-Forwarded-Proto", "https")])
    assert origin.seen("/x")[0].all("x-forwarded-proto") == ["http"]


def test_the_origins_date_is_kept_once(origin, start):
    """RFC 9110 section 6.6.1."""
    date = "Tue, 15 Nov 1994 08:12:31 GMT"
    origin.on("/x", body=b"x", headers=(("Date", date), ("Cache-Control", "no-store")))
    w = start(origin)
    for r in (w.get("/x"), w.http2().get("/x")):
        assert r.all("date") == [date]


def test_an_answer_without_date_gets_one(origin, start):
    """RFC 9110 section 6.6.1."""
    origin.on("/x", body=b"x", date=False, headers=(("Cache-Control", "max-age=60"),))
    w = start(origin)
    for _ in range(2):
        r = w.get("/x")
        assert len(r.all("date")) == 1 and r.get("date").endswith(" GMT")


def test_a_hit_keeps_the_date_of_the_stored_answer(origin, start):
    """RFC 9110 section 6.6.1."""
    origin.on("/x", body=b"x", headers=(("Cache-Control", "max-age=60"), ("Date", "Tue, 15 Nov 1994 08:12:31 GMT")))
    w = start(origin, route={"ttl": "t", "origin_cache_control": "ignore"}, ttl={"t": "1m"})
    for _ in range(3):
        assert w.get("/x").all("date") == ["Tue, 15 Nov 1994 08:12:31 GMT"]


@pytest.mark.parametrize("status", [200, 201, 203, 206, 301, 400, 404, 418, 500, 599])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_every_status_and_framing_passes(origin, start, status, framing):
    """RFC 9112 section 6.3."""
    origin.on("/x", body=b"body " * 100, status=status, framing=framing, headers=(("Cache-Control", "no-store"),))
    w = start(origin)
    for r in (w.get("/x"), w.http2().get("/x")):
        assert (r.status, r.body, r.clean) == (status, b"body " * 100, True)


def test_bodyless_statuses_have_no_body(origin, start):
    """RFC 9112 section 6.3."""
    origin.on("/204", status=204)
    origin.on("/304", status=304, headers=(("ETag", '"a"'),))
    w = start(origin)
    c = w.http1()
    for path, status in (("/204", 204), ("/304", 304), ("/204", 204)):
        r = c.get(path, [("If-None-Match", '"a"')])
        assert (r.status, r.body) == (status, b"")
        assert r.get("transfer-encoding") is None
    h = w.http2()
    assert [(r.status, r.body, r.clean) for r in (h.get("/204"), h.get("/304", [("if-none-match", '"a"')]))] == [(204, b"", True), (304, b"", True)]


def test_head_passes_and_has_no_body(origin, start):
    """RFC 9110 section 9.3.2, RFC 9112 section 6.3."""
    origin.on("/x", body=b"12345", headers=(("Cache-Control", "no-store"),))
    w = start(origin)
    c = w.http1()
    for _ in range(2):
        r = c.request("HEAD", "/x")
        assert (r.status, r.get("content-length"), r.body) == (200, "5", b"")
    r = w.http2().request("HEAD", "/x")
    assert (r.status, r.get("content-length"), r.body, r.clean) == (200, "5", b"", True)
    assert {q.method for q in origin.seen("/x")} <= {"HEAD", "GET"}


def test_informational_answers_do_not_confuse(origin, start):
    """RFC 9110 section 15.2."""
    origin.on("/x", raw=b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
                        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    r = start(origin).get("/x")
    assert (r.status, r.body) == (200, b"ok")


def test_expect_continue_is_answered_and_the_body_passes(origin, start):
    """RFC 9110 section 10.1.1."""
    origin.on("/x", lambda q: Reply(q.body))
    c = start(origin).http1()
    c.send(client.build("POST", "/x", [("Expect", "100-continue"), ("Content-Length", "4")]))
    while b"\r\n\r\n" not in c.buffer:
        assert c.fill()
    assert c.buffer.startswith(b"HTTP/1.1 100 ")
    c.send(b"body")
    assert c.response("POST").body == b"body"


def test_keep_alive_serves_request_after_request_and_pipelined_ones_in_order(origin, start):
    """RFC 9112 sections 9.3 and 9.3.2."""
    for i in range(20):
        origin.on(f"/{i}", body=b"%d" % i, headers=(("Cache-Control", "max-age=60" if i % 2 else "no-store"),))
    c = start(origin).http1()
    for _ in range(3):
        assert [c.get(f"/{i}").body for i in range(20)] == [b"%d" % i for i in range(20)]
    c.send(b"".join(client.build("GET", f"/{i}") for i in range(20)))
    assert [c.response().body for _ in range(20)] == [b"%d" % i for i in range(20)]


def test_http_1_0_is_served_without_chunks_and_closed(origin, start):
    """RFC 9112 section 6.1."""
    origin.on("/x", body=b"hello", framing="chunked", headers=(("Cache-Control", "no-store"),))
    c = start(origin).http1()
    c.send(b"GET /x HTTP/1.0\r\nHost: api.test\r\n\r\n")
    r = c.head()
    assert r.get("transfer-encoding") is None
    assert b"".join(c.pieces(r)) == b"hello" and r.clean
    assert c.at_end()


def test_connection_close_is_heeded(origin, start):
    """RFC 9112 section 9.6."""
    origin.on("/x", body=b"hello")
    c = start(origin).http1()
    r = c.get("/x", [("Connection", "close")])
    assert r.status == 200 and r.get("connection", "").lower() == "close"
    assert c.at_end()


@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_server_sent_events_pass_as_they_come(origin, start, protocol):
    streams = origin.streams(headers=(("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")))
    origin.on("/events", streams)
    w = start(origin, route={"ttl": "t"}, ttl={"t": "1m"})
    if protocol == "h1":
        c = w.http1()
        c.send(client.build("GET", "/events"))
        s = streams.wait()
        r = c.head()  # the head comes before any event
        it = c.pieces(r)
        for i in range(5):
            s.send(b"data: %d\n\n" % i)
            assert next(it) == b"data: %d\n\n" % i
        s.end()
        assert list(it) == [] and r.clean
    else:
        c = w.http2()
        sid = c.start("GET", "/events")
        s = streams.wait()
        c.wait(lambda: c.streams[sid].status)
        for i in range(5):
            s.send(b"data: %d\n\n" % i)
            c.wait(lambda i=i: c.streams[sid].body.endswith(b"data: %d\n\n" % i))
        s.end()
        assert c.result(sid).clean


def test_a_client_that_leaves_an_event_stream_ends_it_at_the_origin(origin, start):
    streams = origin.streams(headers=(("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")))
    origin.on("/events", streams)
    w = start(origin)
    c = w.http1()
    c.send(client.build("GET", "/events"))
    s = streams.wait(1)
    s.send(b"data\n\n")
    c.head()
    c.close()
    deadline = time.monotonic() + 5 * SLOW
    while not s.gone.wait(0.05):  # a closed connection takes one piece more before it answers with a reset
        s.send(b"data\n\n")
        assert time.monotonic() < deadline
    h = w.http2()
    sid = h.start("GET", "/events")
    s = streams.wait(2)
    s.send(b"data\n\n")
    h.wait(lambda: h.streams[sid].body)
    h.reset(sid)
    assert s.gone.wait(5 * SLOW)


def test_large_bodies_pass_whole(origin, start):
    body = bytes(i % 253 for i in range(1 << 20)) * 12
    for framing in ("length", "chunked", "close"):
        origin.on("/" + framing, body=body, framing=framing)
    w = start(origin, memory={"size": "64mb", "max_object": "4mb"})
    for framing in ("length", "chunked", "close"):
        for r in (w.get("/" + framing), w.http2().get("/" + framing)):
            assert r.clean and r.body == body
    assert origin.count() == 6, "larger than max_object: never stored"


def test_no_route_is_a_problem_404_and_a_wrong_method_405(origin, start):
    """RFC 9110 sections 15.5.6 and 10.2.1."""
    w = start(origin, routes=[{"path": "/a"}, {"path": "/b", "methods": ["GET", "PUT"]}])
    problem(w.get("/nowhere"), 404)
    r = w.request("POST", "/b", [], b"x")
    problem(r, 405)
    assert {"GET", "PUT"} <= {m.strip() for m in r.get("allow").split(",")}
    problem(w.http2().get("/nowhere"), 404)
    assert origin.count() == 0


@pytest.mark.parametrize("status", [200, 203, 299, 404, 418, 500, 503, 599])
def test_a_head_over_http2_comes_as_it_is(origin, start, status):
    """RFC 7541 section 5: lengths on both sides of each boundary; RFC 9113 section 6.10: more than fits into one frame."""
    sizes = [0, 1, 126, 127, 128, 129, 253, 254, 255, 256, 16000, 16384, 16500]
    sent = [(f"x-{n}", "v" * n) for n in sizes] + [("y" * 130, "long"), ("set-cookie", "a=b"), ("etag", '"é"')]
    origin.on("/x", body=b"body", status=status, headers=(*sent, ("Cache-Control", "max-age=60")))
    w = start(origin)
    c = w.http2()
    for _ in range(3):
        r = c.get("/x")
        assert r.status == status and r.clean
        got = dict(r.headers)
        for name, value in sent:
            assert got[name] == value, name
        assert len(got["date"]) == 29 and "cache-status" in got


def test_options_goes_only_as_far_as_it_may(origin, start):
    """RFC 9110 section 7.6.2."""
    origin.default = lambda q: Reply(status=204, headers=(("Allow", "GET"), ("X-Left", q.get("max-forwards", "none"))))
    w = start(origin, routes=[{"path": "/a"}, {"path": "/b", "methods": ["GET", "OPTIONS"]}])
    for c in (w.http1(), w.http2()):
        seen = origin.count()
        r = c.request("OPTIONS", "/a", [("max-forwards", "0")])
        assert r.status == 204 and {"GET", "POST", "OPTIONS"} <= set(r.get("allow").split(", "))
        r = c.request("OPTIONS", "/b", [("max-forwards", "0")])
        assert r.status == 204 and set(r.get("allow").split(", ")) == {"GET", "OPTIONS"}
        assert origin.count() == seen
        for sent, left in (("1", "0"), ("10", "9"), ("2147483648", "2147483646"), ("a", "a"), ("", "")):
            assert c.request("OPTIONS", "/a", [("max-forwards", sent)]).get("x-left") == left
        assert c.request("OPTIONS", "/a").get("x-left") == "none"
        assert c.request("POST", "/a", [("max-forwards", "0")], b"x").get("x-left") == "0"


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_methods_that_no_route_takes_name_those_that_are_taken(origin, start, method):
    """RFC 9110 section 15.5.6."""
    w = start(origin)
    c = w.http1()
    c.send(f"{method} {'/x' if method == 'TRACE' else 'api.test:80'} HTTP/1.1\r\nHost: api.test:80\r\n\r\n".encode())
    r = c.response()
    problem(r, 405)
    assert {"GET", "HEAD", "POST"} <= set(r.get("allow").split(", "))


def test_the_name_of_the_chunked_coding_knows_no_case(origin, start):
    """RFC 9112 section 7."""
    origin.default = lambda q: Reply(q.body)
    c = start(origin).http1()
    c.send(b"POST /x HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert c.response().body == b"abc"


def test_routes_are_chosen_by_host_and_method(make_origin, start):
    one, two, three = make_origin(), make_origin(), make_origin()
    for o, name in ((one, b"one"), (two, b"two"), (three, b"three")):
        o.default = lambda q, name=name: Reply(name, headers=(("Cache-Control", "no-store"),))
    w = start(one, backends={"api": {"servers": [one.url]}, "two": {"servers": [two.url]}, "three": {"servers": [three.url]}},
              routes=[{"path": "/**"}, {"path": "/**", "host": "two.test", "backend": "two"}, {"path": "/**", "methods": ["POST"], "backend": "three"}])
    assert w.get("/x").body == b"one"
    assert w.get("/x", host="TWO.test:123").body == b"two"
    assert w.request("POST", "/x", [], b"").body == b"three"


def test_strip_prefix_changes_what_goes_upstream_only(origin, start):
    origin.default = lambda q: Reply(q.target.encode())
    w = start(origin, routes=[{"path": "/api/**", "strip_prefix": "/api"}])
    assert w.get("/api/clips/1?a=b").body == b"/clips/1?a=b"
    assert w.get("/api").body == b"/"


def test_an_origin_that_refuses_is_a_502(start):
    """RFC 9110 section 15.6.3."""
    class Nowhere:
        url = f"http://127.0.0.1:{free_port()}"
    w = start(Nowhere)
    problem(w.get("/x"), 502)
    problem(w.http2().get("/x"), 502)
    problem(w.request("POST", "/x", [], b"x"), 502)


@pytest.mark.parametrize("raw", [
    b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nabcde", b"HTTP/1.1 999999 X\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nX",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
], ids=range(8))
def test_an_origin_that_talks_nonsense_is_a_502_and_does_no_harm(origin, start, raw):
    """RFC 9112 sections 4 and 6.3, RFC 9110 section 15.6.3."""
    origin.on("/bad", raw=raw, end="close")
    origin.on("/good", body=b"ok")
    w = start(origin)
    c = w.http1()
    problem(c.get("/bad"), 502)
    assert c.get("/good").body == b"ok"


def test_an_origin_that_never_answers_is_a_504(origin, start):
    """RFC 9110 section 15.6.5."""
    origin.on("/x", hang=True)
    w = start(origin, backend={"timeouts": {"connect": "1s", "first_byte": "300ms", "idle": "1s", "total": "5s"}})
    problem(w.get("/x"), 504)
    assert origin.count() == 1, "an origin that is slow is not asked twice"


def test_a_problem_is_never_stored(origin, start):
    answers = [Reply(drop=True), Reply(drop=True), Reply(b"well again")]
    origin.on("/x", lambda q: answers.pop(0))
    w = start(origin, route={"ttl": "t"}, ttl={"t": "1m"})
    problem(w.get("/x"), 502)
    assert w.get("/x").body == b"well again"


def test_a_problem_says_so_in_cache_status_and_has_one_date(origin, start):
    w = start(origin, routes=[{"path": "/a"}])
    r = w.get("/b")
    problem(r, 404)
    assert len(r.all("date")) == 1 and not r.hit


def test_head_of_a_problem_has_no_body(origin, start):
    """RFC 9110 section 9.3.2."""
    w = start(origin, routes=[{"path": "/a"}])
    c = w.http1()
    for _ in range(2):
        r = c.request("HEAD", "/nowhere")
        assert (r.status, r.body) == (404, b"")


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_a_head_without_a_length_is_given_none(origin, start, protocol):
    """RFC 9110 section 8.6."""
    origin.on("/x", lambda q: Reply(b"hello", framing="chunked", headers=(("Cache-Control", "max-age=60"),)))
    w = start(origin)
    r = getattr(w, protocol)().request("HEAD", "/x")
    assert r.status == 200 and r.get("content-length") in (None, "5"), r.headers


OVERRIDES = [("Forwarded", "for=192.0.2.1;host=evil.test;proto=https"), ("X-Forwarded-Host", "evil.test"), ("X_Forwarded_Host", "evil.test"),
             ("X_Original_URL", "/evil"), ("X-Forwarded-Ssl", "evil"), ("Front-End-Https", "evil"), ("X-Forwarded-Protocol", "evil"),
             ("X-HTTP-Host-Override", "evil.test"), ("X-Url-Scheme", "evil"), ("X-Scheme", "evil"), ("X-Script-Name", "/evil")]


@pytest.mark.parametrize("name,value", OVERRIDES)
def test_what_overrides_host_scheme_or_path_is_not_in_what_is_stored(origin, start, name, value):
    origin.on("/x", lambda q: Reply(f"{name}={q.get(name)}".encode(), headers=(("Cache-Control", "max-age=60"),)))
    w = start(origin)
    w.get("/x", [(name, value)])
    assert b"evil" not in w.get("/x").body


def test_cookies_that_http2_took_apart_are_one_line_again(origin, start):
    """RFC 9113 section 8.2.3."""
    origin.default = lambda q: Reply(repr(q.all("cookie")).encode())
    w = start(origin)
    assert w.http2().get("/x", [("cookie", "a=1"), ("x-a", "b"), ("cookie", "b=2")]).body == b"['a=1; b=2']"


def test_more_fields_than_are_judged_are_refused(origin, start):
    origin.on("/many", lambda q: Reply(b"x", headers=tuple((f"X-{i}", "a") for i in range(300)) + (("Cache-Control", "no-store"),)))
    w = start(origin, route={"ttl": "t"}, ttl={"t": "1m"})
    problem(w.get("/many"), 502)


def test_a_path_that_begins_with_two_slashes_is_invalidated_too(origin, start):
    """RFC 9111 section 4.4."""
    origin.default = lambda q: Reply(b"%d" % origin.count(), headers=(("Cache-Control", "max-age=60"),))
    w = start(origin)
    w.get("//x")
    assert w.get("//x").hit
    w.request("POST", "//x", body=b"a")
    assert not w.get("//x").hit


def test_vary_stays_whatever_the_client_calls_itself(origin, start):
    origin.default = lambda q: Reply(b"x", headers=(("Cache-Control", "max-age=60"), ("Vary", "Accept-Language")))
    w = start(origin)
    r = w.get("/x", [("User-Agent", "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1)")])
    assert (r.get("vary"), r.get("cache-control")) == ("Accept-Language", "max-age=60")
