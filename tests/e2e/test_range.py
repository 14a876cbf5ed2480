"""Requests for a part (RFC 9110 section 14), and stored parts (RFC 9111 sections 3.3 and 3.4)."""
import json
import re

import pytest

import client
from origin import Reply

MINUTE = (("Cache-Control", "max-age=60"),)
TEXT = bytes(i * 7 % 251 for i in range(100_000))


def wants(q):
    """first and last of a single range, as the origin reads it, or None."""
    m = re.fullmatch(r"bytes=(\d*)-(\d*)", q.get("range") or "")
    if not m:
        return None
    if not m[1]:
        return max(0, len(TEXT) - int(m[2])), len(TEXT) - 1
    return int(m[1]), min(int(m[2]) if m[2] else len(TEXT) - 1, len(TEXT) - 1)


def ranged(origin, path="/x", headers=MINUTE + (("ETag", '"a"'),), gate=None):
    """An origin that answers ranges as it should."""
    def answer(q):
        span = wants(q)
        if span is None or q.get("if-range", '"a"') != '"a"':
            return Reply(TEXT, headers=headers, gate=gate)
        return Reply(TEXT[span[0]:span[1] + 1], 206, headers=headers + (("Content-Range", f"bytes {span[0]}-{span[1]}/{len(TEXT)}"),), gate=gate)
    origin.on(path, answer)


def part(text, headers=()):
    return [("range", f"bytes={text}")] + list(headers)


def is_part(r, first, last, body=TEXT):
    assert (r.status, r.get("content-range")) == (206, f"bytes {first}-{last}/{len(body)}"), (r.status, r.headers)
    assert r.body == body[first:last + 1] and r.get("content-length") == str(last - first + 1) and r.clean
    return True


@pytest.mark.parametrize("protocol", ["http1", "http2"])
@pytest.mark.parametrize("size", [100, 100_000])
def test_parts_of_what_is_stored(origin, start, protocol, size):
    """RFC 9110 sections 14.2, 15.3.7 and 15.5.17."""
    body = TEXT[:size]
    origin.on("/x", body=body, headers=MINUTE)
    w = start(origin)
    c = getattr(w, protocol)()
    c.get("/x")
    for text, first, last in (("0-1", 0, 1), ("1-", 1, size - 1), ("-3", size - 3, size - 1), (f"{size - 1}-{size + 5}", size - 1, size - 1),
                              ("50-60", 50, 60), (f"-{size + 5}", 0, size - 1)):
        r = c.get("/x", part(text))
        assert r.hit and is_part(r, first, last, body)
    r = c.get("/x", part(f"{size}-"))
    assert (r.status, r.get("content-range")) == (416, f"bytes */{size}")
    assert json.loads(r.body)["status"] == 416
    for text in ("0-1,3-4", "x", "5-2"):
        r = c.get("/x", part(text))
        assert r.status == 200 and r.body == body and r.get("content-range") is None
    r = c.request("HEAD", "/x", part("0-1"))
    assert r.status == 200 and r.get("content-length") == str(size)
    assert origin.count() == 1


def test_if_range_and_conditions_come_first(origin, start):
    """RFC 9110 sections 13.1.5 and 13.2.2."""
    origin.on("/x", body=TEXT, headers=MINUTE + (("ETag", '"a"'),))
    w = start(origin)
    w.get("/x")
    assert is_part(w.get("/x", part("0-1", [("If-Range", '"a"')])), 0, 1)
    assert w.get("/x", part("0-1", [("If-Range", '"b"')])).status == 200
    assert w.get("/x", part("0-1", [("If-None-Match", '"a"')])).status == 304
    assert origin.count() == 1


def test_parts_of_what_is_still_arriving(origin, start):
    streams = origin.streams(headers=MINUTE + (("Content-Length", str(len(TEXT))),), framing="none")
    origin.on("/x", streams)
    w = start(origin, threads=2)
    whole = client.Herd(w.address, [client.build("GET", "/x")]).go()
    s = streams.wait()
    ranges = {"0-9": (0, 9), "49990-50009": (49990, 50009), "-10": (len(TEXT) - 10, len(TEXT) - 1), "10-": (10, len(TEXT) - 1)}
    parts = client.Herd(w.address, [client.build("GET", "/x", part(t)) for t in ranges]).go()
    s.send(TEXT[:50_000])
    parts.gather(until=lambda: parts.members[0].done is not None)
    assert is_part(parts.answer(parts.members[0]), 0, 9), "what has come is sent before the rest has"
    s.send(TEXT[50_000:])
    s.end()
    for r, (first, last) in zip(parts.gather().answers(), ranges.values()):
        assert is_part(r, first, last)
    assert whole.gather().answers()[0].body == TEXT
    whole.close(), parts.close()
    assert origin.count() == 1


def test_what_breaks_off_before_the_part_ends_is_broken_off(origin, start):
    """RFC 9112 section 8."""
    origin.on("/x", lambda q: Reply(TEXT, headers=MINUTE, cut=90_000))
    w = start(origin, route={"coalesce": "off"})
    assert not w.get("/x", part("40000-95000")).clean


def test_a_part_is_fetched_stored_and_used(origin, start):
    """RFC 9111 sections 3.3 and 3.4."""
    ranged(origin)
    w = start(origin)
    r = w.get("/x", part("10-19"))
    assert r.cache == {"fwd": "uri-miss", "stored": True} and is_part(r, 10, 19)
    assert origin.seen("/x")[0].get("range") == "bytes=10-19"
    for text, first, last in (("10-19", 10, 19), ("12-13", 12, 13)):
        r = w.get("/x", part(text))
        assert r.hit and is_part(r, first, last)
    assert origin.count() == 1
    r = w.get("/x", part("5-12"))
    assert r.cache["fwd"] == "partial" and is_part(r, 5, 12)
    r = w.get("/x", part("5-19"))
    assert r.hit and is_part(r, 5, 19), "the two parts are one"
    assert w.get("/x", part(f"{len(TEXT)}-")).status == 416
    assert origin.count() == 2


def test_parts_without_a_strong_validator_stay_apart(origin, start):
    """RFC 9111 section 3.4."""
    ranged(origin, headers=MINUTE + (("ETag", 'W/"a"'),))
    w = start(origin)
    w.get("/x", part("10-19"))
    w.get("/x", part("20-29"))
    assert w.get("/x", part("20-29")).hit and not w.get("/x", part("10-29")).hit


def test_parts_of_another_representation_stay_apart(origin, start):
    """RFC 9111 section 3.4."""
    ranged(origin)
    w = start(origin)
    w.get("/x", part("10-19"))
    ranged(origin, headers=MINUTE + (("ETag", '"b"'),))
    w.get("/x", part("20-29"))
    assert not w.get("/x", part("15-25")).hit


@pytest.mark.parametrize("text,rest", [("0-49999", "bytes=50000-"), ("-50000", "bytes=0-49999")])
def test_a_part_is_made_whole_by_its_rest(origin, start, text, rest):
    """RFC 9111 section 3.3, RFC 9110 section 13.1.5."""
    ranged(origin)
    w = start(origin)
    w.get("/x", part(text))
    r = w.get("/x")
    q = origin.seen("/x")[1]
    assert (q.get("range"), q.get("if-range")) == (rest, '"a"')
    assert (r.status, r.body, r.get("content-range"), r.get("content-length")) == (200, TEXT, None, str(len(TEXT)))
    assert r.cache["fwd"] == "partial" and r.cache["stored"]
    r = w.get("/x")
    assert r.hit and r.body == TEXT
    assert origin.count() == 2


def test_three_parts_that_are_everything_are_the_whole(origin, start):
    """RFC 9111 section 3.4, RFC 9110 section 15.3.7.3."""
    ranged(origin)
    w = start(origin)
    for text in ("0-39999", "40000-69999", "60000-"):
        w.get("/x", part(text))
    r = w.get("/x")
    assert r.hit and r.status == 200 and r.body == TEXT and origin.count() == 3


def test_a_rest_of_something_else_makes_nothing_whole(origin, start):
    """RFC 9110 section 13.1.5."""
    ranged(origin)
    w = start(origin)
    w.get("/x", part("0-49999"))
    other = bytes(reversed(TEXT))
    origin.on("/x", lambda q: Reply(other, headers=MINUTE + (("ETag", '"b"'),)) if q.get("if-range") != '"b"' else None)
    r = w.get("/x")
    assert r.body == other and w.get("/x").body == other


def test_an_origin_that_ignores_if_range_is_asked_again(origin, start):
    """A 206 with another validator must not be put after what is there. RFC 9111 section 3.4."""
    ranged(origin)
    w = start(origin)
    w.get("/x", part("0-49999"))
    other = bytes(reversed(TEXT))

    def answer(q):
        span = wants(q)
        if span is None:
            return Reply(other, headers=MINUTE + (("ETag", '"b"'),))
        return Reply(other[span[0]:span[1] + 1], 206, headers=MINUTE + (("ETag", '"b"'), ("Content-Range", f"bytes {span[0]}-{span[1]}/{len(TEXT)}")))
    origin.on("/x", answer)
    r = w.get("/x")
    assert (r.status, r.body) == (200, other)
    assert [q.get("range") for q in origin.seen("/x")] == ["bytes=0-49999", "bytes=50000-", None]


def test_the_same_part_is_fetched_once_for_all(origin, start):
    gate = origin.gate()
    ranged(origin, gate=gate)
    w = start(origin, threads=2)
    h = client.Herd(w.address, [client.build("GET", "/x", part("10-19"))] * 50).go()
    origin.wait(1)
    gate.open()
    for r in h.gather().answers():
        assert is_part(r, 10, 19)
    h.close()
    assert origin.count() == 1


def until_stored(w):
    """A client has its bytes before the fetch has ended and its response lies in memory."""
    while w.figures()["memory"]["objects"] == 0:
        pass


def test_an_origin_without_ranges_gives_the_whole_once(origin, start):
    """RFC 9110 section 14.2: a server may ignore Range."""
    origin.on("/x", body=TEXT, headers=MINUTE)
    w = start(origin)
    assert is_part(w.get("/x", part("10-19")), 10, 19)
    until_stored(w)
    assert w.get("/x").hit and w.get("/x", part("-1")).hit and origin.count() == 1


def test_if_range_on_what_is_not_stored_fetches_the_whole(origin, start):
    """RFC 9110 section 13.1.5, RFC 9111 section 4.3.2: judged by what is stored."""
    ranged(origin)
    w = start(origin)
    assert is_part(w.get("/x", part("10-19", [("If-Range", '"a"')])), 10, 19)
    assert origin.seen("/x")[0].get("range") is None
    until_stored(w)
    assert w.get("/x").body == TEXT
    assert w.get("/x").hit and origin.count() == 1


def test_parts_of_variants_are_not_mixed(origin, start):
    """RFC 9111 section 4.1."""
    def answer(q):
        body = (q.get("accept-language") or "none").encode() * 1000
        m = wants(q)
        headers = MINUTE + (("Vary", "Accept-Language"), ("ETag", '"%s"' % (q.get("accept-language") or "none")))
        if m is None:
            return Reply(body, headers=headers)
        return Reply(body[m[0]:m[1] + 1], 206, headers=headers + (("Content-Range", f"bytes {m[0]}-{m[1]}/{len(body)}"),))
    origin.on("/x", answer)
    w = start(origin)
    for lang in ("de", "fr"):
        assert w.get("/x", part("0-3", [("Accept-Language", lang)])).body == lang.encode() * 2
    for lang in ("de", "fr"):
        r = w.get("/x", part("0-1", [("Accept-Language", lang)]))
        assert r.hit and r.body == lang.encode()
        assert w.get("/x", [("Accept-Language", lang)]).body == lang.encode() * 1000


def test_no_store_and_private_parts_are_not_stored(origin, start):
    for value in ("no-store", "private"):
        ranged(origin, "/" + value, headers=(("Cache-Control", value),))
    w = start(origin)
    for value in ("no-store", "private"):
        for _ in range(2):
            r = w.get("/" + value, part("0-9"))
            assert not r.hit and is_part(r, 0, 9)


def test_a_stale_part_is_validated(origin, start):
    """RFC 9111 sections 4.3.1 and 4.3.4."""
    def answer(q):
        if q.get("if-none-match") == '"a"':
            return Reply(status=304, headers=MINUTE + (("ETag", '"a"'),))
        span = wants(q)
        return Reply(TEXT[span[0]:span[1] + 1], 206, headers=(("Cache-Control", "max-age=0"), ("ETag", '"a"'), ("Content-Range", f"bytes {span[0]}-{span[1]}/{len(TEXT)}")))
    origin.on("/x", answer)
    w = start(origin)
    w.get("/x", part("10-19"))
    r = w.get("/x", part("12-15"))
    assert r.cache["fwd-status"] == 304 and is_part(r, 12, 15)
    r = w.get("/x", part("10-19"))
    assert r.hit and is_part(r, 10, 19)


def test_a_purge_takes_parts_too(origin, start):
    ranged(origin)
    w = start(origin)
    w.get("/x", part("10-19"))
    assert w.purge_path("/x") == 1
    assert not w.get("/x", part("10-19")).hit


def test_where_nothing_is_cached_ranges_pass(origin, start):
    ranged(origin)
    w = start(origin, route={"cache": "off"})
    r = w.get("/x", part("10-19,30-39"))
    assert r.status == 200 and origin.seen("/x")[0].get("range") == "bytes=10-19,30-39"
    assert is_part(w.get("/x", part("10-19")), 10, 19)
