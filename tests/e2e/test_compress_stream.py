"""Answers packed on their way out, where a route asks for it (compress: stream): each piece can be decoded as it comes."""
import os
import time

import pytest

import client
from decoder import Decoder
from origin import Reply
from weir import SLOW

CODINGS = ["gzip", "br", "zstd"]
FRESH = (("Content-Type", "text/plain"), ("Cache-Control", "max-age=600"), ("ETag", '"a"'), ("Accept-Ranges", "bytes"))
TEXT = b"".join(b"line %d of a text that says much the same again and again\n" % i for i in range(400))
LARGE = (b"".join(b'{"id": %d, "text": "%x"},\n' % (i, i * i * 2654435761 & 0xffffffffff) for i in range(260000)))[:8 << 20]
NOISE = os.urandom(1 << 20)


def accept(value):
    return [("Accept-Encoding", value)]


def on(start, origin, **kw):
    kw.setdefault("compress", {"stream": True})
    return start(origin, **kw)


def is_packed(r, coding):
    assert r.status == 200 and r.get("content-encoding") == coding and r.get("content-length") is None, r.headers
    assert "Accept-Encoding" in r.get("vary") and r.get("etag") in ('W/"a"', None) and r.get("accept-ranges") is None
    return True


def decode(coding, data):
    d = Decoder(coding)
    out = d.add(data)
    assert d.ended
    d.close()
    return out


class Reader:
    """A client over either protocol that decodes what it gets so far."""

    def __init__(self, w, protocol, coding, path="/x", headers=()):
        self.text, self.decoder, self.protocol = b"", Decoder(coding), protocol
        fields = [("accept-encoding", coding or "identity"), *headers]
        if protocol == "http2":
            self.client = w.http2()
            self.sid, self.taken = self.client.start("GET", path, fields), 0
        else:
            self.client = w.http1()
            self.client.send(client.build("GET", path, fields))

    def head(self):
        if self.protocol == "http2":
            self.client.wait(lambda: self.client.streams[self.sid].status is not None)
            self.response = self.client.streams[self.sid]
        else:
            self.response = self.client.head()
            self.pieces = self.client.pieces(self.response)
        return self.response

    def more(self):
        if self.protocol == "http2":
            self.client.wait(lambda: len(self.response.body) > self.taken or self.client.over(self.sid))
            piece = bytes(self.response.body[self.taken:])
            self.taken += len(piece)
        else:
            piece = next(self.pieces, b"")
        self.text += self.decoder.add(piece) if piece else b""
        return bool(piece)

    def until(self, n):
        while len(self.text) < n:
            assert self.more(), f"it ended after {len(self.text)} of {n} bytes"

    def rest(self):
        while self.more():
            pass
        return self.text


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("coding", CODINGS)
def test_each_piece_can_be_decoded_when_the_origin_has_sent_it(origin, start, coding, protocol):
    """The next one is sent only when the last has been read: what sat in an encoder would hold up everything."""
    streams = origin.streams(headers=FRESH)
    origin.on("/x", streams)
    w = on(start, origin)
    r = Reader(w, protocol, coding)
    s = streams.wait()
    s.send(b"first;")
    assert is_packed(r.head(), coding)
    r.until(6)
    joined = [Reader(w, "http1", c) for c in (*CODINGS, None)]
    sent = b"first;"
    for j in joined:
        assert j.head().get("content-encoding") == j.response.get("content-encoding")
    for i in range(12):
        piece = b"piece %d;" % i * (1 + i * 400 * (i % 3))
        at = time.monotonic()
        s.send(piece)
        sent += piece
        for reader in (r, *joined):
            reader.until(len(sent))
            assert reader.text == sent
        assert time.monotonic() - at < 0.5 * SLOW
    s.end()
    for reader in (r, *joined):
        assert reader.rest() == sent and reader.response.clean and reader.decoder.ended
    assert origin.count() == 1 and w.figures()["compressions"]["streamed"] == 4
    assert w.get("/x").hit


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("end", ["cut", "reset"])
def test_what_the_origin_breaks_off_breaks_off_for_the_client(origin, start, coding, protocol, end):
    streams = origin.streams(headers=FRESH)
    origin.on("/x", streams)
    w = on(start, origin)
    r = Reader(w, protocol, coding)
    s = streams.wait()
    s.send(TEXT)
    assert is_packed(r.head(), coding)
    r.until(len(TEXT))
    getattr(s, end)()
    assert r.rest() == TEXT and not r.response.clean and not r.decoder.ended
    if protocol == "http2":
        assert r.response.reset is not None
    origin.on("/x", Reply(b"whole", headers=FRESH))
    assert w.get("/x").body == b"whole"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_body_comes_back_byte_for_byte(origin, start, coding, protocol, framing):
    origin.on("/x", body=LARGE, headers=FRESH, framing=framing)
    w = on(start, origin, memory={"size": "64mb", "max_object": "8mb"})
    r = (w.http2() if protocol == "http2" else w.http1()).get("/x", [("accept-encoding", coding)])
    assert is_packed(r, coding) and r.clean and len(r.body) < len(LARGE) / 2
    assert decode(coding, r.body) == LARGE
    hit = w.get("/x", accept("identity"))
    assert hit.hit and hit.body == LARGE and hit.get("etag") == '"a"' and hit.get("vary") == "Accept-Encoding"


@pytest.mark.parametrize("body", [b"x" * 1024, TEXT, NOISE], ids=["1k", "text", "noise"])
@pytest.mark.parametrize("coding", CODINGS)
def test_what_is_complete_at_once_is_packed_too(origin, start, coding, body):
    """And for the next one a form is made that is kept."""
    origin.on("/x", body=body, headers=FRESH)
    w = on(start, origin)
    r = w.get("/x", accept(coding))
    assert is_packed(r, coding) and r.get("transfer-encoding") == "chunked" and decode(coding, r.body) == body
    deadline = time.monotonic() + 20 * SLOW
    while True:
        r = w.get("/x", accept(coding))
        assert r.hit and int(r.get("content-length")) == len(r.body)
        if r.get("content-encoding") or body is NOISE:
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert decode(r.get("content-encoding"), r.body) == body
    assert w.figures()["compressions"]["streamed"] == 1


def test_who_refuses_identity_need_not_wait_for_the_whole(origin, start):
    """RFC 9110 section 12.5.3."""
    streams = origin.streams(headers=FRESH)
    origin.on("/x", streams)
    w = on(start, origin)
    r = Reader(w, "http1", "br", headers=[("Accept-Encoding", "identity;q=0")])
    s = streams.wait()
    s.send(TEXT)
    assert is_packed(r.head(), "br")
    r.until(len(TEXT))
    s.end()
    assert r.rest() == TEXT


@pytest.mark.parametrize("what,request_headers,headers,status", [
    ("no Accept-Encoding", [], (), 200), ("identity first", accept("gzip;q=0.5, identity"), (), 200),
    ("X-No-Compression", [*accept("gzip"), ("X-No-Compression", "1")], (), 200),
    ("no-transform in the request", [*accept("gzip"), ("Cache-Control", "no-transform")], (), 200),
    ("a range", [*accept("gzip"), ("Range", "bytes=0-99")], (), 200),
    ("another type", accept("gzip"), (("Content-Type", "image/png"),), 200),
    ("no-transform", accept("gzip"), (("Cache-Control", "no-transform, max-age=9"),), 200),
    ("a digest", accept("gzip"), (("Content-Digest", "sha-256=:AAAA:"),), 200),
    ("a coding of its own", accept("gzip"), (("Content-Encoding", "deflate"),), 200),
    ("a part", accept("gzip"), (("Content-Range", f"bytes 0-{len(TEXT) - 1}/100000"),), 206),
])
def test_what_goes_out_as_it_came(origin, start, what, request_headers, headers, status):
    names = [n for n, _ in headers]
    origin.on("/x", body=TEXT, status=status, headers=(*(f for f in FRESH if f[0] not in names), *headers))
    w = on(start, origin)
    r = w.get("/x", request_headers)
    assert r.body in (TEXT, TEXT[:100]) and r.get("content-encoding") == dict(headers).get("Content-Encoding"), what
    assert int(r.get("content-length")) == len(r.body)
    assert r.get("etag") == '"a"' and w.figures()["compressions"]["streamed"] == 0


def test_nothing_is_packed_unless_the_route_says_so(origin, start):
    for path in ("/silent", "/off", "/on"):
        origin.on(path, body=TEXT, headers=FRESH)
    w = start(origin, routes=[{"path": "/silent"}, {"path": "/off", "compress": {"stream": False}},
                              {"path": "/on", "compress": {"stream": True}}])
    for path, coding in (("/silent", None), ("/off", None), ("/on", "gzip")):
        assert w.get(path, accept("gzip")).get("content-encoding") == coding


def test_a_client_of_http_1_0_gets_it_as_it_came(origin, start):
    """It could not tell an end from a break."""
    origin.on("/x", body=TEXT, headers=FRESH)
    w = on(start, origin)
    c = w.http1()
    c.send(b"GET /x HTTP/1.0\r\nHost: api.test\r\nAccept-Encoding: gzip\r\n\r\n")
    r = c.response()
    assert r.body == TEXT and r.get("content-encoding") is None and r.get("vary") == "Accept-Encoding"


def test_what_is_not_stored_is_packed_where_the_route_itself_asks_for_that(origin, start):
    """It may be one client's own: BREACH."""
    for path in ("/said", "/whole", "/off", "/personal"):
        origin.on(path, body=TEXT, headers=(("Content-Type", "text/plain"), ("Cache-Control", "no-store")))
    user = {"scope": "user", "user": {"header": "Authorization"}}
    w = start(origin, compress={"stream": True}, routes=[
        {"path": "/said", "compress": True}, {"path": "/off", "cache": False, "compress": {"stream": True}},
        {"path": "/whole"}, {"path": "/personal", **user}])
    for path, coding in (("/said", "gzip"), ("/off", "gzip"), ("/whole", None), ("/personal", None)):
        for _ in range(2):
            r = w.get(path, [*accept("gzip"), ("Authorization", "Bearer ann")])
            assert not r.hit and r.get("content-encoding") == coding and decode(coding, r.body) == TEXT
            assert r.get("vary") == ("Accept-Encoding" if coding else None)
            head = w.request("HEAD", path, [*accept("gzip"), ("Authorization", "Bearer ann")])
            assert head.get("content-encoding") == coding and head.get("vary") == r.get("vary")
        plain = w.get(path, [("Authorization", "Bearer ann")])
        assert plain.body == TEXT and plain.get("vary") == r.get("vary")
    figures = w.figures()["compressions"]
    assert figures["streamed"] == 4 and figures["total"] == 0


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_server_sent_events_are_packed_as_they_come(origin, start, protocol):
    streams = origin.streams(headers=(("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")))
    origin.on("/x", streams)
    w = start(origin, route={"cache": False, "compress": {"stream": True}})
    r = Reader(w, protocol, "br")
    s = streams.wait()
    assert is_packed(r.head(), "br")  # before the first event
    for i in range(5):
        s.send(b"data: %d\n\n" % i)
        r.until(9 * (i + 1))
    r.client.close()
    assert s.gone.wait(10 * SLOW)


def test_head_agrees_with_get(origin, start):
    origin.on("/x", body=TEXT, headers=FRESH)
    origin.on("/y", body=TEXT, headers=FRESH)
    w = on(start, origin)
    head, get = w.request("HEAD", "/x", accept("br")), w.get("/y", accept("br"))
    for name in ("content-encoding", "content-length", "etag", "vary", "accept-ranges", "content-type"):
        assert head.get(name) == get.get(name), name
    assert is_packed(head, "br") and head.body == b""
    plain = w.request("HEAD", "/x", accept("br;q=0"))
    assert int(plain.get("content-length")) == len(TEXT) and plain.get("etag") == '"a"' and plain.get("vary") == "Accept-Encoding"


def test_conditions_match_either_tag(origin, start):
    """RFC 9110 section 13.1.2. A 304 has the tag that a 200 would have."""
    for n, (tag, coding) in enumerate((t, c) for t in ('"a"', 'W/"a"') for c in ("br", None)):
        origin.on(f"/{n}", body=TEXT, headers=FRESH)
        w = on(start, origin) if n == 0 else w
        r = w.get(f"/{n}", [("If-None-Match", tag), *(accept(coding) if coding else [])])
        assert r.status == 304 and r.get("etag") == ('W/"a"' if coding else '"a"') and r.get("vary") == "Accept-Encoding"
        assert r.get("content-encoding") is None
    assert w.figures()["compressions"]["streamed"] == 0


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_a_client_may_leave_in_the_middle(origin, start, protocol):
    streams = origin.streams(headers=FRESH)
    origin.on("/x", streams)
    w = on(start, origin)
    r, other = Reader(w, protocol, "zstd"), Reader(w, "http1", "gzip")
    s = streams.wait()
    s.send(TEXT)
    r.head(), r.until(len(TEXT))
    other.head(), other.until(len(TEXT))
    r.client.close()
    for _ in range(20):
        s.send(TEXT)
    s.end()
    assert other.rest() == TEXT * 21 and other.response.clean
    assert w.get("/x").body == TEXT * 21


@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_a_slow_reader_delays_nobody_and_gets_everything(origin, start, protocol):
    origin.on("/x", body=LARGE, headers=FRESH)
    w = on(start, origin, memory={"size": "64mb"})
    if protocol == "http2":
        slow = w.http2(window=False)
        sid = slow.start("GET", "/x", [("accept-encoding", "gzip")])
        slow.wait(lambda: len(slow.streams[sid].body) >= 65535)
    else:
        slow = w.http1(receive_buffer=4096)
        slow.send(client.build("GET", "/x", accept("gzip")))
        head = slow.head()
    assert decode("br", w.get("/x", accept("identity;q=0, br")).body) == LARGE
    assert w.get("/x").body == LARGE
    if protocol == "http1":
        got = b"".join(slow.pieces(head))
        assert head.clean and decode("gzip", got) == LARGE
        return
    slow.window = True
    slow.h2.increment_flow_control_window(1 << 24)
    slow.h2.increment_flow_control_window(1 << 24, sid)
    slow.flush()
    r = slow.result(sid)
    assert r.clean and decode("gzip", r.body) == LARGE


def test_a_purge_meanwhile_changes_nothing_for_who_reads(origin, start):
    streams = origin.streams(headers=FRESH)
    origin.on("/x", streams)
    w = on(start, origin)
    r = Reader(w, "http1", "br")
    s = streams.wait()
    s.send(TEXT)
    r.head(), r.until(len(TEXT))
    w.purge_path("/x")
    s.send(TEXT)
    s.end()
    assert r.rest() == TEXT * 2 and r.response.clean and r.decoder.ended
    origin.on("/x", body=b"new", headers=FRESH)
    assert w.get("/x").body == b"new"


def test_more_than_a_thread_packs_at_once_go_out_as_they_came(origin, start):
    streams = origin.streams(headers=FRESH)
    origin.on("/x", streams)
    w = on(start, origin, threads=1)
    c = w.http2()
    sids = [c.start("GET", "/x", [("accept-encoding", "gzip")]) for _ in range(70)]
    s = streams.wait()
    s.send(TEXT)
    c.wait(lambda: all(c.streams[sid].status for sid in sids))  # none has ended yet
    s.end()
    answers = c.results(sids)
    packed = [r for r in answers if r.get("content-encoding") == "gzip"]
    assert len(packed) == 64 and all(decode(r.get("content-encoding"), r.body) == TEXT and r.clean for r in answers)
    assert {r.get("vary") for r in answers} == {"Accept-Encoding"}
    # They have ended, so there is room again.
    origin.on("/y", body=TEXT, headers=FRESH)
    assert w.get("/y", accept("gzip")).get("content-encoding") == "gzip"


def test_what_turns_out_too_large_to_store_goes_on_packed(origin, start):
    origin.on("/x", body=LARGE, headers=FRESH, framing="chunked")
    w = on(start, origin, memory={"size": "64mb", "max_object": "1mb"})
    r = w.get("/x", accept("zstd"))
    assert is_packed(r, "zstd") and r.clean and decode("zstd", r.body) == LARGE
