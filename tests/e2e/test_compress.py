"""Content codings (RFC 9110 sections 8.4 and 12.5.3): made once, kept with the response, and undone for who cannot."""
import gzip
import itertools
import json
import subprocess
import threading
import time
import zlib

import pytest

from origin import Reply
from weir import HOST, SLOW

CODINGS = ["gzip", "br", "zstd"]
TEXT = b"".join(b"line %d of a text that says much the same again and again\n" % i for i in range(400))


def tool(command, data):
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def decode(coding, data):
    """By the system's own tools."""
    if coding is None:
        return data
    if coding == "gzip":
        d = zlib.decompressobj(wbits=31)
        out = d.decompress(data) + d.flush()
        assert d.eof and not d.unused_data
        return out
    return tool({"br": ["brotli", "-dc"], "zstd": ["zstd", "-dcq"]}[coding], data)


def encode(coding, data):
    if coding == "gzip":
        return gzip.compress(data)
    return tool({"br": ["brotli", "-c"], "zstd": ["zstd", "-cq"]}[coding], data)


def accept(value):
    return [("Accept-Encoding", value)]


def text(origin, path="/x", body=TEXT, headers=(), **kw):
    kind = () if any(n == "Content-Type" for n, _ in headers) else (("Content-Type", "text/plain"),)
    fresh = () if any(n == "Cache-Control" for n, _ in headers) else (("Cache-Control", "max-age=600"),)
    return origin.on(path, body=body, headers=(*kind, *fresh, *headers), **kw)


def jobs(w, coding=None):
    """How many were made or refused."""
    all_of = w.figures()["compressions"]
    return sum(all_of[c]["made"] + all_of[c]["refused"] for c in ([coding] if coding else [*CODINGS, "identity"]))


def until_jobs(w, n, coding=None):
    deadline = time.monotonic() + 20 * SLOW
    while jobs(w, coding) < n:
        assert time.monotonic() < deadline, w.figures()["compressions"]
        time.sleep(0.005)
    assert jobs(w, coding) == n, w.figures()["compressions"]


def until_coded(w, path, coding, headers=(), get=None):
    """Asks until the answer has the coding."""
    deadline = time.monotonic() + 20 * SLOW
    while True:
        r = (get or w.get)(path, [*accept(coding), *headers])
        assert r.status == 200, r
        if r.get("content-encoding") == coding:
            return r
        assert r.get("content-encoding") is None
        assert time.monotonic() < deadline, w.figures()["compressions"]
        time.sleep(0.005)


def bodies():
    noise = itertools.count()
    large = b"".join(b'{"id": %d, "text": "%x"},\n' % (i, hash((i, next(noise))) & 0xffffffff) for i in range(260000))
    return {"empty": b"", "one": b"x", "1k": TEXT[:1024], "8m": (large * 2)[:8 << 20]}


BODIES = bodies()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("size", list(BODIES))
@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_comes_back_byte_for_byte(origin, start, coding, size):
    body = BODIES[size]
    text(origin, body=body)
    w = start(origin, compress={"min_size": "1"}, memory={"size": "128mb", "max_object": "8mb"})
    first = w.get("/x", accept(coding))
    assert first.body == body and first.get("content-encoding") is None
    w.get("/x", accept(coding))
    if body:
        until_jobs(w, 1)
    for r in (w.get("/x", accept(coding)), w.http2().get("/x", [("accept-encoding", coding)])):
        assert r.status == 200 and r.hit
        assert r.get("content-encoding") == (coding if len(body) > 1 else None)
        assert decode(r.get("content-encoding"), r.body) == body
        assert int(r.get("content-length")) == len(r.body)
        assert r.get("vary") == ("Accept-Encoding" if body else None)
    plain = w.get("/x")
    assert plain.body == body and plain.get("content-encoding") is None and plain.get("vary") == r.get("vary")
    assert jobs(w) == (1 if body else 0) and origin.count() == 1


def test_a_hit_compresses_nothing(origin, start):
    text(origin)
    w = start(origin)
    until_coded(w, "/x", "gzip")
    before = w.figures()["compressions"]
    assert before["gzip"]["made"] == before["total"] == 1
    assert before["gzip"]["bytes_before"] == len(TEXT) > 5 * before["gzip"]["bytes_after"]
    for _ in range(20):
        assert w.get("/x", accept("gzip")).get("content-encoding") == "gzip"
    assert w.figures()["compressions"] == before


@pytest.mark.parametrize("accepts,expected", [
    ("gzip, deflate, br, zstd", "zstd"), ("gzip, br", "br"), ("x-gzip", "gzip"), ("br;q=0.5, gzip", "gzip"), ("*", "zstd"),
    ("zstd;q=0, *", "br"), ("identity, gzip;q=0.5", None), ("gzip;q=0", None), ("deflate", None), ("", None),
    ("gzip;q=nonsense", None), ("identity;q=0, gzip", "gzip"), ("*;q=0", None),
])
def test_the_client_gets_what_it_wants_most(origin, start, accepts, expected):
    """RFC 9110 section 12.5.3."""
    text(origin)
    w = start(origin)
    for coding in CODINGS:
        until_coded(w, "/x", coding)
    r = w.get("/x", accept(accepts))
    assert r.get("content-encoding") == expected and decode(expected, r.body) == TEXT
    assert r.get("vary") == "Accept-Encoding"


def test_who_does_not_take_identity_waits_for_the_coding(origin, start):
    """RFC 9110 section 12.5.3. On the first answer, which is complete by then, and on a hit."""
    text(origin)
    w = start(origin)
    first = w.get("/x", accept("identity;q=0, br"))
    assert first.get("content-encoding") == "br" and decode("br", first.body) == TEXT
    r = w.http2().get("/x", [("accept-encoding", "gzip, *;q=0")])
    assert r.get("content-encoding") == "gzip" and decode("gzip", r.body) == TEXT
    assert w.request("HEAD", "/x", accept("zstd, *;q=0")).get("content-encoding") == "zstd"
    # Nothing that it takes: section 12.4.1 lets a server disregard the field.
    r = w.get("/x", accept("*;q=0"))
    assert r.status == 200 and r.body == TEXT and r.get("content-encoding") is None


@pytest.mark.parametrize("http2", [False, True])
def test_who_waits_for_a_coding_may_leave(origin, start, http2):
    text(origin, body=BODIES["8m"])
    w = start(origin, compress={"br_level": 11, "encodings": ["br"]}, memory={"size": "128mb"})
    w.get("/x")
    c = w.http2() if http2 else w.http1()
    if http2:
        c.start("GET", "/x", [("accept-encoding", "identity;q=0, br")])
        c.flush()
    else:
        c.send(b"GET /x HTTP/1.1\r\nHost: api.test\r\nAccept-Encoding: identity;q=0, br\r\n\r\n")
    time.sleep(0.05)
    c.close()
    assert w.get("/x").body == BODIES["8m"]


def test_a_herd_is_one_job(origin, start):
    text(origin, body=BODIES["8m"][:2 << 20])
    w = start(origin)
    w.get("/x")
    answers = []

    def ask():
        for _ in range(10):
            answers.append(w.get("/x", accept("br")))
    threads = [threading.Thread(target=ask) for _ in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    until_coded(w, "/x", "br")
    assert jobs(w) == 1 and origin.count() == 1
    for r in answers:
        assert decode(r.get("content-encoding"), r.body) == BODIES["8m"][:2 << 20]


def test_what_does_not_pay_is_not_kept_and_not_tried_again(origin, start):
    noise = zlib.compress(BODIES["8m"][:400000], 9)
    text(origin, body=noise)
    w = start(origin)
    w.get("/x")
    for _ in range(3):
        w.get("/x", accept("gzip"))
        until_jobs(w, 1)
    assert w.figures()["compressions"]["gzip"] == {"made": 0, "bytes_before": 0, "bytes_after": 0, "refused": 1}
    r = w.get("/x", accept("identity;q=0, gzip"))
    assert r.body == noise and r.get("content-encoding") is None


@pytest.mark.parametrize("what,headers", [
    ("type", (("Content-Type", "image/png"),)), ("no type", (("Content-Type", ""),)),
    ("no-transform", (("Cache-Control", "max-age=600, no-transform"),)),
    ("no-transform beside a targeted field", (("Cache-Control", "no-transform"), ("CDN-Cache-Control", "max-age=600"))),
    ("Content-Digest", (("Content-Digest", "sha-256=:AAAA:"),)), ("Repr-Digest", (("Repr-Digest", "sha-256=:AAAA:"),)),
    ("a coding of its own that is not known", (("Content-Encoding", "deflate"),)),
])
def test_what_is_never_compressed(origin, start, what, headers):
    """RFC 9110 section 7.7, RFC 9530."""
    text(origin, headers=headers)
    w = start(origin)
    for _ in range(3):
        r = w.get("/x", accept("gzip"))
        assert r.body == TEXT and r.get("vary") is None, what
    assert r.hit and jobs(w) == 0


def test_small_bodies_are_left_alone(origin, start):
    text(origin, "/small", TEXT[:1023])
    text(origin, "/enough", TEXT[:1024])
    w = start(origin)
    for _ in range(2):
        assert w.get("/small", accept("gzip")).get("vary") is None
    until_coded(w, "/enough", "gzip")
    assert jobs(w) == 1


@pytest.mark.parametrize("headers", [[("X-No-Compression", "1")], [("Cache-Control", "no-transform")], [("Range", "bytes=0-9")]])
def test_a_client_may_ask_for_the_body_as_it_came(origin, start, headers):
    """RFC 9111 section 5.2.1.6; a range is one of the body as it came (RFC 9110 section 14.2)."""
    text(origin, headers=(("ETag", '"a"'),))
    w = start(origin)
    until_coded(w, "/x", "gzip")
    r = w.get("/x", [*accept("gzip"), *headers])
    assert r.hit and r.get("content-encoding") is None and r.get("vary") == "Accept-Encoding" and r.get("etag") == '"a"'
    assert r.body == (TEXT[:10] if r.status == 206 else TEXT)
    w.get("/x", [*accept("br"), *headers])
    assert jobs(w) == 1


def test_a_coded_body_has_a_weak_tag_and_conditions_match_either(origin, start):
    """RFC 9110 sections 8.8.3.3 and 13.1.2."""
    text(origin, headers=(("ETag", '"a"'), ("Accept-Ranges", "bytes")))
    w = start(origin)
    r = until_coded(w, "/x", "gzip")
    assert r.get("etag") == 'W/"a"' and r.get("accept-ranges") is None
    plain = w.get("/x")
    assert plain.get("etag") == '"a"' and plain.get("accept-ranges") == "bytes"
    for tag in ('"a"', 'W/"a"', '"b", W/"a"', "*"):
        for h, etag in (([], '"a"'), (accept("gzip"), 'W/"a"')):
            n = w.get("/x", [("If-None-Match", tag), *h])
            assert n.status == 304 and n.get("etag") == etag and n.get("vary") == "Accept-Encoding"
            assert n.get("content-encoding") is None and n.body == b""
    assert w.get("/x", [("If-None-Match", '"b"'), *accept("gzip")]).get("content-encoding") == "gzip"
    assert jobs(w) == 1


def test_a_conditional_request_that_needs_no_body_makes_none(origin, start):
    text(origin, headers=(("ETag", '"a"'),))
    w = start(origin)
    w.get("/x")
    for _ in range(3):
        r = w.get("/x", [("If-None-Match", '"a"'), *accept("gzip")])
        assert r.status == 304 and r.get("etag") == '"a"'
        assert w.request("HEAD", "/x", accept("gzip")).status == 200
    assert jobs(w) == 0


@pytest.mark.parametrize("kind,vary", [("text/plain", "Accept-Encoding"), ("image/png", None)])
def test_a_head_and_a_part_from_the_origin_say_that_the_whole_could_differ(origin, start, kind, vary):
    """RFC 9110 sections 9.3.2 and 15.3.7: the fields that a 200 to a GET would have."""
    def answer(q):
        fields = (("ETag", '"a"'), ("Content-Type", kind), ("Cache-Control", "max-age=600"))
        if q.get("range") is None:
            return Reply(TEXT, headers=fields)
        first, last = (int(n) for n in q.get("range").removeprefix("bytes=").split("-"))
        return Reply(TEXT[first:last + 1], 206, (*fields, ("Content-Range", f"bytes {first}-{last}/{len(TEXT)}")))
    origin.on("/x", answer)
    w = start(origin)
    head = w.request("HEAD", "/x", accept("gzip"))
    assert head.get("vary") == vary and head.get("content-encoding") is None and int(head.get("content-length")) == len(TEXT)
    half = len(TEXT) // 2
    for _ in range(2):
        for part, body in ((f"bytes=0-{half - 1}", TEXT[:half]), (f"bytes={half}-{len(TEXT) - 1}", TEXT[half:])):
            r = w.get("/x", [("Range", part), *accept("gzip")])
            assert r.status == 206 and r.get("vary") == vary and r.body == body and r.get("content-encoding") is None
    # Joined, they are the whole.
    r = until_coded(w, "/x", "gzip") if vary else w.get("/x", accept("gzip"))
    assert decode(r.get("content-encoding"), r.body) == TEXT and r.get("vary") == vary
    assert origin.count() == 3


def test_head_agrees_with_get(origin, start):
    text(origin, headers=(("ETag", '"a"'),))
    w = start(origin)
    until_coded(w, "/x", "br")
    for h in ([], accept("br"), accept("gzip;q=0"), [*accept("br"), ("X-No-Compression", "")]):
        get, head = w.get("/x", h), w.request("HEAD", "/x", h)
        for name in ("content-length", "content-encoding", "etag", "vary", "content-type"):
            assert get.get(name) == head.get(name), (name, h)
        assert head.body == b""


def test_ranges_are_of_the_body_as_it_came(origin, start):
    """RFC 9110 sections 13.1.5 and 14.2: a weak tag never matches in If-Range."""
    text(origin, headers=(("ETag", '"a"'),))
    w = start(origin)
    until_coded(w, "/x", "gzip")
    for h in ([], [("If-Range", '"a"')]):
        r = w.get("/x", [("Range", "bytes=100-199"), *h, *accept("gzip")])
        assert r.status == 206 and r.body == TEXT[100:200] and r.get("content-encoding") is None
        assert r.get("etag") == '"a"' and r.get("vary") == "Accept-Encoding"
    r = w.get("/x", [("Range", "bytes=100-199"), ("If-Range", 'W/"a"'), *accept("gzip")])
    assert r.status == 200 and r.body == TEXT and r.get("etag") == '"a"'


def test_who_fetched_it_has_the_coding_made_for_the_next(origin, start):
    """It gets what comes as it comes; nobody else need ask in vain."""
    text(origin)
    w = start(origin)
    assert w.get("/x", accept("br")).get("content-encoding") is None
    until_jobs(w, 1, "br")
    assert w.get("/x", accept("br")).get("content-encoding") == "br"
    w.get("/y")
    assert jobs(w) == 1


def test_a_304_that_freshens_keeps_the_codings(origin, start):
    """RFC 9111 section 4.3.4: all that is stored of it has the new fields."""
    for path, body in (("/x", TEXT), ("/large", BODIES["8m"][:1 << 20]), ("/noise", zlib.compress(BODIES["8m"][:400000]))):
        def answer(q, body=body, path=path):
            fields = (("ETag", '"a"'), ("X-Nth", str(origin.count(path))), ("Cache-Control", "max-age=0, must-revalidate"),
                      ("Content-Type", "text/plain"))
            return Reply(status=304, headers=fields) if q.get("if-none-match") == '"a"' else Reply(body, headers=fields)
        origin.on(path, answer)
        w = start(origin)
        w.get(path)  # whoever wants a coding of what a 304 is about to freshen may have it made for nothing
        for n in range(2, 8):
            r = w.get(path, accept("gzip"))
            assert r.get("x-nth") == str(n) and r.cache["fwd-status"] == 304
            assert decode(r.get("content-encoding"), r.body) == body
            until_jobs(w, 1)
        assert r.get("content-encoding") == (None if path == "/noise" else "gzip")
        assert origin.count(path) == 7


def test_codings_leave_with_their_response(origin, start):
    bodies_ = [TEXT + b"1", TEXT + b"2", TEXT + b"3"]
    origin.on("/x", lambda q: Reply(bodies_[origin.count() - 1], headers=(("Content-Type", "text/plain"), ("Cache-Control", "max-age=600"))))
    w = start(origin)
    assert decode("gzip", until_coded(w, "/x", "gzip").body) == bodies_[0]
    for nth in (1, 2):
        w.purge_path("/x")
        assert decode("gzip", until_coded(w, "/x", "gzip").body) == bodies_[nth]
    assert jobs(w) == 3


def test_codings_count_in_the_memory_limit_and_are_given_back(origin, start):
    body = BODIES["8m"][:1 << 20]
    for i in range(40):
        text(origin, f"/{i}", body)
    w = start(origin, memory={"size": "16mb"}, compress={"zstd_level": 1, "br_level": 1, "gzip_level": 1})
    w.get("/0")
    one = w.figures()["memory"]["used_bytes"]
    r = until_coded(w, "/0", "gzip")
    grown = w.figures()["memory"]["used_bytes"] - one
    assert len(r.body) <= grown < len(r.body) * 1.3 + 20000
    for i in range(40):
        for coding in CODINGS:
            r = w.get(f"/{i}", accept(coding))
            assert decode(r.get("content-encoding"), r.body) == body
        memory = w.figures()["memory"]
        assert memory["used_bytes"] <= memory["limit_bytes"] * 1.15
    assert w.figures()["memory"]["evicted"] > 20
    w.purge(all=True)
    deadline = time.monotonic() + 10 * SLOW
    while w.figures()["memory"]["used_bytes"] > 200000:
        assert time.monotonic() < deadline, w.figures()["memory"]
        time.sleep(0.05)


def test_the_routes_word_counts(origin, start):
    for path in ("/off", "/gzip", "/svg", "/on"):
        text(origin, path, headers=(("Content-Type", "image/svg+xml"),) if path == "/svg" else ())
    w = start(origin, compress={"encodings": ["br", "gzip"]}, routes=[
        {"path": "/off", "compress": False}, {"path": "/gzip", "compress": {"encodings": ["gzip"]}},
        {"path": "/svg", "compress": {"types": ["image/svg+xml"]}}, {"path": "/on", "compress": True}])
    until_coded(w, "/on", "br")
    until_coded(w, "/gzip", "gzip")
    until_coded(w, "/svg", "br")
    assert w.get("/gzip", accept("br")).get("content-encoding") is None
    for _ in range(3):
        r = w.get("/off", accept("gzip, br"))
        assert r.get("content-encoding") is None and r.get("vary") is None
    assert w.get("/on", accept("zstd")).get("content-encoding") is None
    assert jobs(w) == 3


def test_users_responses_are_compressed_only_where_the_route_says_so(origin, start):
    """BREACH: the length of a compressed body betrays what is in it."""
    for path in ("/silent", "/set"):
        text(origin, path, headers=(("Cache-Control", "private, max-age=600"),))
    user = {"scope": "user", "user": {"header": "Authorization"}}
    w = start(origin, compress={"encodings": ["gzip"]}, routes=[{"path": "/silent", **user}, {"path": "/set", "compress": True, **user}])
    ann = [("Authorization", "Bearer ann")]
    until_coded(w, "/set", "gzip", ann)
    for _ in range(3):
        r = w.get("/silent", [*accept("gzip"), *ann])
        assert r.get("content-encoding") is None and r.get("vary") is None
    assert r.hit and jobs(w) == 1
    assert not w.get("/set", [*accept("gzip"), ("Authorization", "Bearer bob")]).hit


def test_an_origins_vary_stays_and_names_it_too(origin, start):
    """RFC 9110 section 12.5.5. What the responses are told apart by is the origin's word alone."""
    text(origin, headers=(("Vary", "Accept-Language"),))
    w = start(origin)
    r = until_coded(w, "/x", "gzip", [("Accept-Language", "de")])
    assert r.get("vary") == "Accept-Language, Accept-Encoding"
    r = w.get("/x", [("Accept-Language", "de")])
    assert r.hit and r.body == TEXT and r.get("vary") == "Accept-Language, Accept-Encoding"
    assert not w.get("/x", [("Accept-Language", "en")]).hit
    assert origin.count() == 2


def test_an_origin_that_varies_on_it_itself_says_so_once(origin, start):
    text(origin, headers=(("Vary", "accept-encoding"),))
    w = start(origin)
    r = until_coded(w, "/x", "gzip")
    assert r.get("vary") == "accept-encoding"
    assert w.get("/x", accept("gzip;q=0.9")).get("vary") == "accept-encoding"


# What the origin has encoded


@pytest.mark.parametrize("name", [*CODINGS, "x-gzip"])
def test_what_came_in_a_coding_stays_in_it_and_is_unpacked_for_others(origin, start, name):
    coding = name.removeprefix("x-")
    packed = encode(coding, TEXT)
    text(origin, body=packed, headers=(("Content-Encoding", name), ("ETag", '"a"')))
    w = start(origin)
    for first in ([], accept("deflate"), accept(f"{coding};q=0")):
        r = w.get("/x", first)
        assert r.body == TEXT and r.get("content-encoding") is None and r.get("etag") == 'W/"a"', first
        assert r.get("vary") == "Accept-Encoding" and int(r.get("content-length")) == len(TEXT)
    r = w.get("/x", accept(coding))
    assert r.hit and r.body == packed and r.get("content-encoding") == name and r.get("etag") == '"a"'
    assert r.get("vary") == "Accept-Encoding"
    r = w.http2().get("/x", [("accept-encoding", "identity")])
    assert r.hit and r.body == TEXT
    head = w.request("HEAD", "/x")
    assert head.get("content-encoding") is None and int(head.get("content-length")) == len(TEXT)
    assert w.get("/x", [("If-None-Match", '"a"')]).status == 304
    assert w.figures()["compressions"]["identity"]["made"] == 1 and w.figures()["compressions"]["total"] == 0
    assert origin.count() == 1


def test_what_is_unpacked_may_be_asked_for_in_parts(origin, start):
    text(origin, body=gzip.compress(TEXT), headers=(("Content-Encoding", "gzip"), ("ETag", '"a"')))
    w = start(origin)
    assert w.get("/x").body == TEXT
    r = w.get("/x", [("Range", "bytes=100-199")])
    assert r.status == 206 and r.body == TEXT[100:200] and r.get("content-encoding") is None
    packed = gzip.compress(TEXT)
    r = w.get("/x", [("Range", "bytes=0-9"), *accept("gzip")])
    assert r.status == 206 and r.get("content-encoding") == "gzip" and len(r.body) == 10 and packed


@pytest.mark.timeout(120)
def test_a_large_body_is_unpacked_on_a_hit(origin, start):
    body = BODIES["8m"]
    text(origin, body=encode("zstd", body), headers=(("Content-Encoding", "zstd"),))
    w = start(origin, memory={"size": "128mb", "max_object": "8mb"})
    w.get("/x", accept("zstd"))
    assert w.get("/x").body == body


@pytest.mark.parametrize("what,max_object", [("a bomb", "8mb"), ("too large", "1mb")])
def test_bombs_go_out_as_they_came(origin, start, what, max_object):
    body = bytes(4 << 20) if what == "a bomb" else BODIES["8m"][:2 << 20]
    packed = gzip.compress(body)
    text(origin, body=packed, headers=(("Content-Encoding", "gzip"),))
    w = start(origin, memory={"size": "64mb", "max_object": max_object})
    before = w.rss_kb()
    for _ in range(5):
        r = w.get("/x")
        assert r.status == 200 and r.body == packed and r.get("content-encoding") == "gzip", what
    assert w.figures()["compressions"]["identity"] == {"made": 0, "bytes_before": 0, "bytes_after": 0, "refused": 1}
    assert SLOW > 1 or w.rss_kb() - before < 20000


@pytest.mark.parametrize("what", ["no gzip", "short", "longer", "empty"])
def test_what_cannot_be_unpacked_goes_out_as_it_came(origin, start, what):
    packed = {"no gzip": b"no gzip at all", "short": gzip.compress(TEXT)[:-9], "longer": gzip.compress(TEXT) + b"more", "empty": b""}[what]
    text(origin, body=packed, headers=(("Content-Encoding", "gzip"),))
    w = start(origin)
    for _ in range(3):
        r = w.get("/x")
        assert r.status == 200 and r.body == packed and r.get("content-encoding") == "gzip"


def test_several_members_are_one_body(origin, start):
    """RFC 1952 section 2.2."""
    text(origin, body=gzip.compress(TEXT) + gzip.compress(b"") + gzip.compress(TEXT), headers=(("Content-Encoding", "gzip"),))
    w = start(origin)
    assert w.get("/x").body == TEXT + TEXT


@pytest.mark.parametrize("headers", [(("Cache-Control", "max-age=600, no-transform"),), (("Content-Digest", "sha-256=:AAAA:"),),
                                     (("Content-Encoding", "gzip, gzip"),)])
def test_what_must_not_be_changed_is_not_unpacked(origin, start, headers):
    packed = gzip.compress(TEXT)
    coding = () if headers[0][0] == "Content-Encoding" else (("Content-Encoding", "gzip"),)
    text(origin, body=packed, headers=(*coding, *headers))
    w = start(origin)
    for _ in range(3):
        r = w.get("/x")
        assert r.body == packed and r.get("content-encoding").startswith("gzip") and r.get("vary") is None
    assert jobs(w) == 0


# All at once


@pytest.mark.timeout(120)
def test_a_storm_of_purges_while_compressing(origin, start):
    counts = itertools.count()

    def answer(q):
        n = next(counts)
        return Reply(b"%08d" % n + TEXT * (1 + n % 7), headers=(("Content-Type", "text/plain"), ("Cache-Control", f"max-age={n % 3}"), ("ETag", f'"{n}"')))
    for i in range(8):
        origin.on(f"/{i}", answer)
    w = start(origin, memory={"size": "8mb"})
    ends = time.monotonic() + 4 * (2 if SLOW > 1 else 1)
    faults = []

    def ask(seed):
        try:
            c = w.http1()
            for i in itertools.count(seed):
                if time.monotonic() > ends:
                    break
                coding = ["gzip", "br", "zstd", "identity;q=0, br", "identity"][i % 5]
                r = c.get(f"/{i * 7 % 8}", accept(coding))
                plain = decode(r.get("content-encoding"), r.body) if i % 3 == 0 or "gzip" in coding else None
                assert r.status == 200 and int(r.get("content-length")) == len(r.body)
                if plain is not None:
                    n = int(plain[:8])
                    assert plain[8:] == TEXT * (1 + n % 7)
                    assert r.get("etag") == (f'W/"{n}"' if r.get("content-encoding") else f'"{n}"')
        except Exception as e:  # pylint: disable=broad-except
            faults.append(e)
            raise

    def purge():
        while time.monotonic() < ends:
            w.purge(all=True)
            for i in range(8):
                w.purge(url=f"http://{HOST}/{i}", soft=bool(i % 2))
            time.sleep(0.01)
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)] + [threading.Thread(target=purge)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults, faults
    assert w.figures()["compressions"]["total"] > 0


def test_it_stops_in_the_middle_of_its_work(origin, start):
    for i in range(6):
        text(origin, f"/{i}", BODIES["8m"])
    w = start(origin, compress={"br_level": 11, "encodings": ["br"]}, memory={"size": "128mb"})
    for i in range(6):
        w.get(f"/{i}")
        w.get(f"/{i}", accept("br"))
    assert w.terminate(timeout=30) == 0


# While it arrives


@pytest.mark.parametrize("http2", [False, True])
def test_who_needs_it_unpacked_waits_until_it_is_whole_and_others_do_not(origin, start, http2):
    packed, gate = gzip.compress(BODIES["8m"][:1 << 20]), origin.gate()
    text(origin, body=packed, headers=(("Content-Encoding", "gzip"),), body_gate=gate)
    w = start(origin)
    c = w.http2() if http2 else w.http1()
    other = w.http1()
    other.send(b"GET /x HTTP/1.1\r\nHost: api.test\r\nAccept-Encoding: gzip\r\n\r\n")
    r = other.head()
    assert r.get("content-encoding") == "gzip"
    if http2:
        sid = c.start("GET", "/x")
        c.flush()
    else:
        c.send(b"GET /x HTTP/1.1\r\nHost: api.test\r\n\r\n")
    w.until_waiting(2)
    gate.open()
    r = c.result(sid) if http2 else c.response("GET")
    assert r.status == 200 and r.body == BODIES["8m"][:1 << 20] and r.get("content-encoding") is None
    assert origin.count() == 1


def test_what_turns_out_too_large_goes_out_as_it_came(origin, start):
    packed = gzip.compress(zlib.compress(BODIES["8m"], 1))
    assert len(packed) > 1 << 20
    text(origin, body=packed, headers=(("Content-Encoding", "gzip"),), framing="chunked")
    w = start(origin, memory={"size": "64mb", "max_object": "1mb"})
    r = w.get("/x")
    assert r.status == 200 and r.body == packed and r.get("content-encoding") == "gzip"
    assert origin.count() <= 2


# What explain says of it


def explained(w, path, *headers):
    query = "".join(f"&header={n}:%20{v.replace(' ', '%20')}" for n, v in headers)
    r = w.admin("GET", f"/explain?url=http://{HOST}{path}{query}")
    assert r.status == 200, r.body
    return json.loads(r.body)["compression"]


def test_explain_says_which_coding_goes_out_and_why(origin, start):
    text(origin)
    w = start(origin, route={"compress": {"encodings": ["br", "gzip"]}})
    assert explained(w, "/x", *accept("gzip")) == {
        "wanted": "gzip", "why": "Accept-Encoding wants it most of those that the route makes", "first_answer": "as it comes"}
    w.get("/x")
    e = explained(w, "/x", *accept("gzip, br"))
    assert (e["wanted"], e["sends"], e["forms"]) == ("br", "identity", {"br": "not made yet", "gzip": "not made yet"})
    assert jobs(w) == 0
    until_coded(w, "/x", "br")
    e = explained(w, "/x", *accept("gzip, br"))
    assert (e["wanted"], e["sends"], e["forms"]["br"], e["forms"]["gzip"]) == ("br", "br", "made", "not made yet")
    for headers, word in (([], "no Accept-Encoding"), (accept("zstd"), "names nothing"), (accept("identity, br;q=0.5"), "wants identity"),
                          ([*accept("br"), ("X-No-Compression", "1")], "X-No-Compression"), ([*accept("br"), ("Range", "bytes=0-1")], "Range"),
                          ([*accept("br"), ("Cache-Control", "no-transform")], "no-transform")):
        e = explained(w, "/x", *headers)
        assert e["wanted"] == e["sends"] == "identity" and word in e["why"], (headers, e)
    assert w.admin("GET", f"/explain?url=http://{HOST}/x&header=nonsense").status == 400


@pytest.mark.parametrize("body,headers,word", [
    (TEXT, (("Content-Type", "image/png"),), "Content-Type"), (TEXT[:1023], (), "min_size"),
    (TEXT, (("Cache-Control", "max-age=60, no-transform"),), "no-transform"), (TEXT, (("Content-Encoding", "deflate"),), "Content-Encoding"),
    (TEXT, (("Repr-Digest", "sha-256=:AAAA:"),), "digest"),
])
def test_explain_says_why_never(origin, start, body, headers, word):
    text(origin, body=body, headers=headers)
    w = start(origin)
    w.get("/x")
    e = explained(w, "/x", *accept("br"))
    assert e["wanted"] == "br" and e["sends"] == "as it came" and word in e["never"]


def test_explain_says_what_did_not_pay_and_what_is_a_users_own_and_what_is_unpacked(origin, start):
    text(origin, "/noise", zlib.compress(BODIES["8m"][:400000], 9))
    text(origin, "/packed", gzip.compress(TEXT), (("Content-Encoding", "gzip"),))
    text(origin, "/user", headers=(("Cache-Control", "private, max-age=60"),))
    w = start(origin, routes=[{"path": "/user", "scope": "user", "user": {"header": "Authorization"}}, {"path": "/**"}])
    w.get("/noise", accept("gzip"))
    until_jobs(w, 1)
    e = explained(w, "/noise", *accept("gzip"))
    assert e["sends"] == "identity" and "saves too little" in e["forms"]["gzip"]
    w.get("/packed", accept("gzip"))
    e = explained(w, "/packed")
    assert (e["came_in"], e["unpacked"], e["sends"]) == ("gzip", "not made yet", "identity")
    assert explained(w, "/packed", *accept("gzip"))["sends"] == "gzip"
    assert "compress" in explained(w, "/user", *accept("gzip"))["why"]
