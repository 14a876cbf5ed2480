"""Targeted fields (RFC 9213) and Surrogate-Control: what comes before Cache-Control, and what becomes of it."""
import email.utils
import time

import pytest

from origin import Reply


def date(seconds):
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def serve(origin, headers, path="/x"):
    """Each answer says how many-th it is."""
    origin.on(path, lambda q: Reply(b"%d" % origin.count(path), headers=tuple(headers)))


def reused(w, path="/x"):
    """Is the second of two answers the first again? What it is, then, or None."""
    first, second = w.get(path), w.get(path)
    assert (first.body, second.body) in ((b"1", b"1"), (b"1", b"2"))
    assert second.hit == (second.body == b"1")
    return second if second.hit else None


@pytest.mark.parametrize("control,beside,expected", [
    ("max-age=3600", (), 3600),
    ("max-age=2147483648", (), 2147483648),
    ("max-age=99999999999", (), 2147483648),
    ("foobar, max-age=3600", (), 3600),
    ("max-age=3600;a=1", (), 3600),
    ("max-age=3600", ("Cache-Control: max-age=1",), 3600),
    ("max-age=3600", ("Cache-Control: no-store",), 3600),
    ("max-age=3600", ("Cache-Control: private", "Pragma: no-cache"), 3600),
    ("max-age=3600", ("Expires: 0",), 3600),
    ("s-maxage=5, max-age=3600", (), 5),
    ("no-store=?0, max-age=3600", ("Cache-Control: no-store",), 3600),
])
def test_its_lifetime_counts_in_place_of_cache_controls(origin, start, control, beside, expected):
    """RFC 9213 section 2.2."""
    serve(origin, [("CDN-Cache-Control", control), *(h.split(": ") for h in beside)])
    r = reused(start(origin))
    assert r and expected - 3 <= r.cache["ttl"] <= expected


@pytest.mark.parametrize("control", [
    "max-age=0", "private", "no-cache", "no-store", "no-store, max-age=3600", "max-age=3600, no-cache", 'private="x-a"',
    'max-age="10000"', "max-age=1.5", "max-age=-1", "none"])
def test_what_it_forbids_or_does_not_say_is_not_allowed_by_the_others(origin, start, control):
    """RFC 9213 section 2.2."""
    serve(origin, [("CDN-Cache-Control", control), ("Cache-Control", "public, max-age=3600"), ("Expires", date(3600))])
    assert reused(start(origin)) is None


@pytest.mark.parametrize("control", [
    "", "max-age=10000, &&&&&", "max-age =100", "max-age= 100", "max-age=100,", "MaX-aGe=3600", "no-store;"])
def test_one_with_an_error_counts_as_if_it_were_not_there(origin, start, control):
    """RFC 9213 sections 2.1 and 2.2."""
    serve(origin, [("CDN-Cache-Control", control), ("Cache-Control", "max-age=50")], "/kept")
    serve(origin, [("CDN-Cache-Control", control), ("Cache-Control", "no-store")], "/not")
    serve(origin, [("CDN-Cache-Control", control), ("Expires", date(50))], "/expires")
    w = start(origin)
    assert reused(w, "/kept").cache["ttl"] in (48, 49, 50)
    assert reused(w, "/not") is None
    assert reused(w, "/expires").cache["ttl"] in (48, 49, 50)


def test_an_older_age_than_its_lifetime_is_stale(origin, start):
    """RFC 9213 section 2.3."""
    serve(origin, [("CDN-Cache-Control", "max-age=3600"), ("Age", "7200")])
    assert reused(start(origin)) is None


def test_one_error_in_a_second_line_is_an_error_of_the_field(origin, start):
    """RFC 9651 section 4.2."""
    serve(origin, [("CDN-Cache-Control", "max-age=3600"), ("CDN-Cache-Control", "=")], "/wrong")
    serve(origin, [("CDN-Cache-Control", "max-age=3600"), ("CDN-Cache-Control", "max-age=20")], "/last")
    w = start(origin)
    assert reused(w, "/wrong") is None
    assert reused(w, "/last").cache["ttl"] in (18, 19, 20)


def test_weirs_own_comes_first_and_a_route_has_its_own_list(origin, start):
    """RFC 9213 section 2.2: the target list."""
    fields = [("CDN-Cache-Control", "max-age=20"), ("Weir-Cache-Control", "max-age=10"), ("My-Control", "max-age=30"),
              ("Surrogate-Control", "max-age=40+5"), ("Cache-Control", "max-age=50")]
    lists = {"/standard": None, "/none": [], "/mine": ["My-Control", "Weir-Cache-Control"], "/absent": ["Nobodys-Control"],
             "/surrogate": ["Nobodys-Control", "surrogate-control"]}
    for path in lists:
        serve(origin, fields, path)
    w = start(origin, routes=[{"path": p, **({} if v is None else {"targeted": v})} for p, v in lists.items()])
    ttl = {p: reused(w, p).cache["ttl"] for p in lists}
    assert all(expected - 3 <= ttl[p] <= expected for p, expected in
               (("/standard", 10), ("/none", 50), ("/mine", 30), ("/absent", 50), ("/surrogate", 40))), ttl


@pytest.mark.parametrize("control,expected", [
    ("max-age=600;weir, max-age=60", 600),
    ("max-age=600;other, max-age=60", 60),
    ('content="ESI/1.0"', 1000),
    ("no-store-remote", 1000),
    ("no-store;other", 1000),
    ('MAX-AGE=60, content="ESI/1.0"', 60),
    ("no-store", None),
    ("no-store;weir, max-age=60", None),
    ("max-age=x", None),
])
def test_surrogate_control(origin, start, control, expected):
    serve(origin, [("Surrogate-Control", control), ("Cache-Control", "max-age=1000")])
    r = reused(start(origin, route={"targeted": ["Surrogate-Control"]}))
    assert (r is None) == (expected is None) and (r is None or expected - 3 <= r.cache["ttl"] <= expected)


def test_surrogate_controls_second_number_is_a_time_to_be_served_stale(origin, start):
    serve(origin, [("Surrogate-Control", "max-age=1+60"), ("Cache-Control", "no-store")])
    w = start(origin, route={"targeted": ["Surrogate-Control"]})
    w.get("/x")
    time.sleep(1.1)
    assert w.get("/x").body == b"1"
    assert origin.wait(2)


def test_all_of_it_is_passed_on_as_it_came(origin, start):
    """RFC 9213 sections 2.2 and 3."""
    fields = [("CDN-Cache-Control", "max-age=3600 ,  x;y"), ("Weir-Cache-Control", "&"), ("Cache-Control", "max-age=1"),
              ("Expires", date(1)), ("Pragma", "no-cache"), ("Surrogate-Control", "no-store")]
    serve(origin, fields)
    w = start(origin)
    for r in (w.get("/x"), w.get("/x"), w.http2().get("/x")):
        assert r.body == b"1"
        for name, value in fields:
            assert [v for n, v in r.headers if n.lower() == name.lower()] == [value], name


def test_what_a_304_brings_counts_from_then_on(origin, start):
    """RFC 9111 section 4.3.4."""
    def answer(q):
        if q.get("If-None-Match"):
            return Reply(status=304, headers=(("CDN-Cache-Control", "max-age=500"), ("ETag", '"a"')))
        return Reply(b"body", headers=(("CDN-Cache-Control", "max-age=0"), ("Cache-Control", "max-age=9"), ("ETag", '"a"')))
    origin.on("/x", answer)
    w = start(origin)
    assert not w.get("/x").hit
    w.get("/x")
    r = w.get("/x")
    assert r.hit and r.body == b"body" and 497 <= r.cache["ttl"] <= 500


def test_a_route_that_ignores_the_origin_ignores_these_too(origin, start):
    serve(origin, [("CDN-Cache-Control", "no-store")])
    assert reused(start(origin, route={"ttl": "t", "origin_cache_control": "ignore"}, ttl={"t": "20s"})).cache["ttl"] in (18, 19, 20)
