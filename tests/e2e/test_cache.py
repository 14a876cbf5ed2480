"""What is stored, for how long, and what is served from memory."""
import email.utils
import json
import time

import pytest

import client
from origin import Reply
from weir import SLOW

MINUTE = (("Cache-Control", "max-age=60"),)


def counted(origin, path, headers=(), **reply):
    """Each answer says how many-th it is."""
    origin.on(path, lambda q: Reply(b"%d" % origin.count(path), headers=tuple(headers), **reply))


def past(seconds):
    return email.utils.formatdate(time.time() - seconds, usegmt=True)


def test_a_fresh_answer_is_served_from_memory(origin, start):
    """RFC 9111 section 4.2."""
    counted(origin, "/x", MINUTE)
    w = start(origin)
    first = w.get("/x")
    assert first.cache == {"fwd": "uri-miss", "stored": True} and first.age in (None, 0)
    for r in (w.get("/x"), w.http2().get("/x"), w.http1().get("/x")):
        assert (r.status, r.body) == (200, b"1")
        assert r.cache == {"hit": True, "ttl": r.cache["ttl"]} and r.cache["ttl"] in (58, 59, 60) and r.age in (0, 1)
    assert origin.count() == 1


def test_age_grows_and_starts_from_the_origins(origin, start):
    """RFC 9111 section 4: what is used without validation has an Age; section 4.2.3."""
    counted(origin, "/x", [*MINUTE, ("Age", "10")])
    w = start(origin)
    assert w.get("/x").age in (10, 11)
    time.sleep(1.1)
    r = w.get("/x")
    assert r.age in (11, 12) and r.cache["ttl"] in (60 - r.age, 59 - r.age)


def test_an_old_date_counts_as_age(origin, start):
    """RFC 9111 section 4.2.3."""
    counted(origin, "/x", [*MINUTE, ("Date", past(30))])
    w = start(origin)
    w.get("/x")
    assert w.get("/x").age in (30, 31, 32)


def test_no_lifetime_and_no_validator_is_not_stored(origin, start):
    counted(origin, "/x")
    w = start(origin)
    for n in (b"1", b"2", b"3"):
        r = w.get("/x")
        assert r.body == n and not r.hit and "stored" not in r.cache
    assert origin.count() == 3


@pytest.mark.parametrize("control", ["no-store", "private", "no-store, max-age=60", "private, max-age=60", "max-age=0", "s-maxage=0, max-age=60"])
def test_what_the_origin_forbids_is_not_served_again(origin, start, control):
    counted(origin, "/x", [("Cache-Control", control)])
    w = start(origin, route={"ttl": "t"}, ttl={"t": "1m"})
    assert [w.get("/x").body for _ in range(3)] == [b"1", b"2", b"3"]


def test_s_maxage_beats_max_age_and_expires_counts_without_both(origin, start):
    counted(origin, "/s", [("Cache-Control", "max-age=0, s-maxage=50")])
    counted(origin, "/e", [("Expires", email.utils.formatdate(time.time() + 40, usegmt=True))])
    counted(origin, "/both", [("Expires", past(40)), ("Cache-Control", "max-age=30")])
    w = start(origin)
    for path, ttl in (("/s", 50), ("/e", 40), ("/both", 30)):
        w.get(path)
        r = w.get(path)
        assert r.hit and ttl - 3 <= r.cache["ttl"] <= ttl, path


def test_an_unreadable_expires_is_in_the_past(origin, start):
    counted(origin, "/x", [("Expires", "0"), ("ETag", '"a"')])
    w = start(origin, route={"ttl": "t"}, ttl={"t": "1m"})
    w.get("/x")
    assert not w.get("/x").hit


def test_heuristic_freshness_is_a_part_of_the_age_since_last_modified(origin, start):
    counted(origin, "/x", [("Last-Modified", past(1000))])
    w = start(origin)
    w.get("/x")
    r = w.get("/x")
    assert r.hit and 1 <= r.cache["ttl"] <= 500


def test_a_tier_gives_a_lifetime_where_the_origin_states_none(origin, start):
    counted(origin, "/x")
    counted(origin, "/own", [("Cache-Control", "max-age=5")])
    counted(origin, "/old", [("Last-Modified", past(1000))])
    w = start(origin, route={"ttl": "t"}, ttl={"t": "1m"})
    for path, ttl in (("/x", 60), ("/own", 5), ("/old", 60)):
        w.get(path)
        r = w.get(path)
        assert r.hit and ttl - 2 <= r.cache["ttl"] <= ttl, (path, r)


def test_a_tier_of_less_than_a_second_ends_in_time(origin, start):
    counted(origin, "/x")
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "400ms"}})
    assert w.get("/x").body == b"1"
    begun = time.monotonic()
    r = w.get("/x")
    assert r.body == b"1" or time.monotonic() - begun > 0.3
    time.sleep(0.5)
    assert w.get("/x").body == b"2"


def test_lifetimes_by_status(origin, start):
    for status in (200, 404, 410, 500, 503, 302):
        counted(origin, f"/{status}", status=status)
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "0s", "status": {404: "30s", 410: "1h", "5xx": "20s"}}})
    for status, ttl in ((404, 30), (410, 3600), (500, 20), (503, 20)):
        assert w.get(f"/{status}").status == status
        r = w.get(f"/{status}")
        assert (r.status, r.hit) == (status, True) and ttl - 2 <= r.cache["ttl"] <= ttl, (status, r)
    for status in (200, 302):
        w.get(f"/{status}")
        assert not w.get(f"/{status}").hit


def test_a_tiers_plain_lifetime_is_not_for_errors(origin, start):
    counted(origin, "/500", status=500)
    w = start(origin, route={"ttl": "t"}, ttl={"t": "1m"})
    w.get("/500")
    assert not w.get("/500").hit


def test_ignore_lets_the_tier_alone_decide_and_never_stores_set_cookie(origin, start):
    counted(origin, "/x", [("Cache-Control", "no-store, private"), ("Expires", "0"), ("Pragma", "no-cache")])
    counted(origin, "/long", [("Cache-Control", "max-age=9999")])
    counted(origin, "/cookie", [("Cache-Control", "max-age=60"), ("Set-Cookie", "id=1")])
    w = start(origin, route={"ttl": "t", "origin_cache_control": "ignore"}, ttl={"t": "30s"})
    for path in ("/x", "/long"):
        w.get(path)
        r = w.get(path)
        assert r.hit and 28 <= r.cache["ttl"] <= 30, path
    assert w.get("/x").get("cache-control") == "no-store, private", "the header itself is the origin's"
    w.get("/cookie")
    r = w.get("/cookie")
    assert not r.hit and r.body == b"2" and r.get("set-cookie") == "id=1"


def test_set_cookie_is_not_stored_without_an_explicit_word(origin, start):
    counted(origin, "/x", [("Set-Cookie", "id=1")])
    w = start(origin, route={"ttl": "t"}, ttl={"t": "1m"})
    w.get("/x")
    assert not w.get("/x").hit


def test_jitter_only_shortens_and_by_no_more_than_it_may(origin, start):
    origin.default = lambda q: Reply(b"x")
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "1000s", "jitter": "20%"}})
    c = w.http1()
    ttls = []
    for i in range(100):
        c.get(f"/{i}")
        ttls.append(c.get(f"/{i}").cache["ttl"])
    assert 798 <= min(ttls) and max(ttls) <= 1000
    assert len(set(ttls)) > 20 and max(ttls) - min(ttls) > 50, "no jitter at all"


def test_cache_off_passes_everything(origin, start):
    counted(origin, "/x", MINUTE)
    w = start(origin, route={"cache": False})
    assert [w.get("/x").body for _ in range(3)] == [b"1", b"2", b"3"]
    assert w.get("/x").cache["fwd"] == "bypass"


def test_stale_while_revalidate_serves_at_once_and_refreshes_once(origin, start):
    """RFC 5861 section 3."""
    gate = origin.gate()
    origin.on("/x", lambda q: Reply(b"%d" % origin.count("/x"), gate=gate if origin.count("/x") == 2 else None))
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "300ms", "stale_while_revalidate": "60s"}})
    assert w.get("/x").body == b"1"
    time.sleep(0.5)
    answers = [w.get("/x") for _ in range(20)]  # the refresh is held back: none of these waits for it
    assert {a.body for a in answers} == {b"1"}
    for a in answers:
        assert a.cache["hit"] and a.cache["ttl"] <= 0 and a.cache["detail"] == "stale-while-revalidate", a
    origin.wait(2, "/x")
    assert origin.count("/x") == 2
    gate.open()
    origin.wait_idle()
    deadline = time.monotonic() + 5
    while (r := w.get("/x")).body == b"1" and time.monotonic() < deadline:
        pass
    assert int(r.body) >= 2


def test_stale_while_revalidate_of_the_origin_counts_and_ends(origin, start):
    """RFC 5861 section 3."""
    counted(origin, "/x", [("Cache-Control", "max-age=1, stale-while-revalidate=1")])
    w = start(origin)
    w.get("/x")
    time.sleep(3.2)
    r = w.get("/x")
    assert r.body == b"2" and not r.hit


def test_must_revalidate_forbids_the_tiers_stale_window(origin, start):
    """RFC 9111 section 5.2.2.2."""
    counted(origin, "/x", [("Cache-Control", "max-age=1, must-revalidate")])
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "1s", "stale_while_revalidate": "60s", "stale_if_error": "60s"}})
    w.get("/x")
    time.sleep(2.1)
    assert w.get("/x").body == b"2"


@pytest.mark.parametrize("failure", ["drop", "500", "503", "hang", "refuse", "cut head"])
def test_stale_if_error_stands_in_for_a_failing_origin(origin, start, failure):
    """RFC 5861 section 4, RFC 9111 section 4.3.3."""
    good = Reply(b"good", headers=(("ETag", '"1"'),))
    bad = {"drop": Reply(drop=True), "500": Reply(b"bad", 500), "503": Reply(b"bad", 503), "hang": Reply(hang=True),
           "refuse": None, "cut head": Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Le", end="close")}[failure]
    origin.on("/x", lambda q: good if origin.count("/x") == 1 else bad)
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "200ms", "stale_if_error": "1h"}},
              backend={"timeouts": {"connect": "1s", "first_byte": "500ms", "idle": "1s", "total": "5s"}})
    assert w.get("/x").body == b"good"
    time.sleep(0.4)
    if failure == "refuse":
        origin.refuse()
    for _ in range(2):
        r = w.get("/x")
        assert (r.status, r.body) == (200, b"good")
        assert r.age is not None and r.cache.get("detail") == "stale-if-error", r


def test_without_stale_if_error_the_failure_shows(origin, start):
    """RFC 9111 section 4.2.4."""
    origin.on("/x", lambda q: Reply(b"good") if origin.count("/x") == 1 else Reply(drop=True))
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "200ms"}})
    w.get("/x")
    time.sleep(0.4)
    assert w.get("/x").status == 502


def test_a_404_is_no_error_to_hide(origin, start):
    """RFC 5861 section 4: an error is what gives 500, 502, 503 or 504."""
    origin.on("/x", lambda q: Reply(b"good") if origin.count("/x") == 1 else Reply(b"gone", 404))
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "200ms", "stale_if_error": "1h"}})
    w.get("/x")
    time.sleep(0.4)
    assert w.get("/x").status == 404


@pytest.mark.parametrize("validator, asked, value", [
    ("ETag", "if-none-match", '"v1"'), ("ETag", "if-none-match", 'W/"v1"'),
    ("Last-Modified", "if-modified-since", "Tue, 15 Nov 1994 08:12:31 GMT"),
])
def test_a_stale_answer_is_validated_and_freshened_by_304(origin, start, validator, asked, value):
    """RFC 9111 sections 4.3.1 and 4.3.4."""
    def answer(q):
        if q.get(asked) == value:
            return Reply(status=304, headers=((validator, value), ("Cache-Control", "max-age=1"), ("X-New", "yes"),
                                              ("Content-Type", "text/html"), ("Content-Encoding", "gzip")))
        return Reply(b"body", headers=((validator, value), ("Cache-Control", "max-age=1"), ("X-New", "no"),
                                       ("Content-Type", "text/plain"), ("Content-Language", "en")))
    origin.on("/x", answer)
    w = start(origin)
    assert w.get("/x").get("x-new") == "no"
    time.sleep(2.05)
    r = w.get("/x")
    assert (r.status, r.body, r.get("content-language")) == (200, b"body", "en")
    assert r.cache["fwd"] == "stale" and r.cache["fwd-status"] == 304
    # RFC 9111 section 3.2
    assert (r.get("x-new"), r.get("content-type")) == ("yes", "text/html"), "the 304's fields replace the stored ones"
    assert r.get("content-encoding") is None, "but not where the stored bytes depend on them"
    assert origin.count() == 2
    r = w.get("/x")
    assert r.hit and r.get("x-new") == "yes" and r.body == b"body"
    assert origin.count() == 2


def test_a_stale_answer_that_changed_is_replaced(origin, start):
    """RFC 9111 section 4.3.3."""
    origin.on("/x", lambda q: Reply(b"v%d" % origin.count("/x"), headers=(("ETag", '"%d"' % origin.count("/x")), ("Cache-Control", "max-age=1"))))
    w = start(origin)
    w.get("/x")
    time.sleep(2.05)
    r = w.get("/x")
    assert r.body == b"v2" and r.cache["fwd"] == "stale"
    assert w.get("/x").body == b"v2" and origin.count() == 2


def test_no_cache_is_stored_and_always_validated(origin, start):
    """RFC 9111 section 5.2.2.4."""
    origin.on("/x", lambda q: Reply(status=304, headers=(("ETag", '"a"'),)) if q.get("if-none-match") == '"a"' else
              Reply(b"body", headers=(("ETag", '"a"'), ("Cache-Control", "no-cache"))))
    w = start(origin)
    for n in (1, 2, 3):
        r = w.get("/x")
        assert r.body == b"body" and not r.hit and origin.count() == n
    assert [q.get("if-none-match") for q in origin.seen("/x")] == [None, '"a"', '"a"']


def test_a_304_nobody_asked_for_is_no_answer_to_a_plain_request(origin, start):
    """RFC 9110 section 15.4.5."""
    origin.on("/x", status=304)
    r = start(origin).get("/x")
    assert r.status in (502, 304)
    assert not r.hit


def test_conditional_requests_are_answered_from_memory(origin, start):
    """RFC 9111 section 4.3.2, RFC 9110 sections 13.2.2 and 15.4.5."""
    modified = "Tue, 15 Nov 1994 08:12:31 GMT"
    counted(origin, "/x", [*MINUTE, ("ETag", '"v1"'), ("Last-Modified", modified), ("Content-Type", "text/x"), ("Vary", "X"), ("Expires", "0")])
    w = start(origin)
    w.get("/x")
    for c in (w.http1(), w.http2()):
        for yes in ([("if-none-match", '"v1"')], [("if-none-match", 'W/"v1"')], [("if-none-match", '"a", "v1"')], [("if-none-match", "*")],
                    [("if-modified-since", modified)], [("if-modified-since", past(5))],
                    [("if-none-match", '"v1"'), ("if-modified-since", "Mon, 14 Nov 1994 08:12:31 GMT")]):
            r = c.get("/x", yes)
            assert (r.status, r.body, r.clean) == (304, b"", True), yes
            assert r.hit and r.get("etag") == '"v1"' and r.get("vary") == "X" and r.get("cache-control") == "max-age=60"
            assert r.get("date") and r.get("content-length") in (None, "1")
        for no in ([("if-none-match", '"v2"')], [("if-modified-since", "Mon, 14 Nov 1994 08:12:31 GMT")], [("if-modified-since", "nonsense")],
                   [("if-none-match", '"v2"'), ("if-modified-since", modified)]):
            r = c.get("/x", no)
            assert (r.status, r.body) == (200, b"1"), no
    assert origin.count() == 1


# RFC 9111 section 4.3.2: without Last-Modified by Date, and without that by the time of receipt.
def test_if_modified_since_is_judged_by_date_or_receipt_where_nothing_says_when_it_was_modified(origin, start):
    counted(origin, "/dated", [*MINUTE, ("Date", past(30))])
    origin.on("/undated", body=b"1", headers=tuple(MINUTE), date=False)
    origin.on("/misdated", body=b"1", headers=(("Date", "today"), *MINUTE), date=False)
    w = start(origin)
    for path, before, after in (("/dated", past(35), past(25)), ("/undated", past(5), past(-5)), ("/misdated", past(5), past(-5))):
        assert w.get(path).status == 200
        assert w.get(path, [("If-Modified-Since", before)]).status == 200, path
        assert w.get(path, [("If-Modified-Since", after)]).status == 304, path
    assert origin.count() == 3


# RFC 9110 section 13.2.2, RFC 9111 section 4.3.2: these are for origin servers, and a cache must not evaluate them.
def test_preconditions_for_origin_servers_go_to_the_origin_and_what_is_stored_stays(origin, start):
    def answer(q):
        if q.get("if-match") == '"v1"' or q.get("if-unmodified-since"):
            return Reply(b"changed meanwhile", status=412)
        return Reply(b"body", headers=(("ETag", '"v1"'), *MINUTE))

    origin.on("/x", answer)
    w = start(origin)
    assert w.get("/x").status == 200
    for condition in (("If-Match", '"v1"'), ("If-Unmodified-Since", past(5))):
        r = w.get("/x", [condition])
        assert (r.status, r.body) == (412, b"changed meanwhile"), condition
        assert "fwd=bypass" in r.get("cache-status") and "detail=precondition" in r.get("cache-status")
    assert w.get("/x", [("If-Match", '"v2"')]).status == 200
    assert origin.count() == 4
    assert w.get("/x").hit


def test_a_clients_condition_on_a_cold_key_does_not_leave_others_with_a_304(origin, start):
    """RFC 9110 section 15.4.5: a 304 is for who has the representation."""
    origin.on("/x", lambda q: Reply(status=304, headers=(("ETag", '"a"'), *MINUTE)) if q.get("if-none-match") else
              Reply(b"body", headers=(("ETag", '"a"'), *MINUTE)))
    w = start(origin)
    assert w.get("/x", [("If-None-Match", '"a"')]).status == 304
    assert [(r.status, r.body) for r in (w.get("/x"), w.get("/x"))] == [(200, b"body")] * 2
    assert origin.count() <= 2


def test_head_is_answered_from_a_stored_get(origin, start):
    """RFC 9110 section 9.3.1."""
    counted(origin, "/x", [*MINUTE, ("X-A", "1")])
    w = start(origin)
    w.get("/x")
    for c in (w.http1(), w.http2()):
        r = c.request("HEAD", "/x")
        assert (r.status, r.body, r.get("content-length"), r.get("x-a"), r.clean) == (200, b"", "1", "1", True) and r.hit
    assert origin.count() == 1


def test_a_head_on_a_cold_key_does_not_store_an_empty_get(origin, start):
    """RFC 9110 section 9.3.2."""
    origin.on("/x", lambda q: Reply(b"body", headers=MINUTE))
    w = start(origin)
    assert w.request("HEAD", "/x").get("content-length") == "4"
    assert w.get("/x").body == b"body"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_successful_unsafe_request_invalidates_its_url(origin, start, method):
    """RFC 9111 section 4.4."""
    origin.on("/x", lambda q: Reply(b"%d" % origin.count("/x"), headers=MINUTE))
    w = start(origin)
    w.get("/x?a=1")
    assert w.get("/x?a=1").hit
    r = w.request(method, "/x?a=1", [], b"change")
    assert r.status == 200 and r.cache["fwd"] == "method" and not r.hit
    r = w.get("/x?a=1")
    assert not r.hit and r.body == b"3"


def test_a_failed_unsafe_request_invalidates_nothing(origin, start):
    """RFC 9111 section 4.4."""
    origin.on("/x", lambda q: Reply(b"no", 500 if q.method == "POST" else 200, headers=MINUTE))
    w = start(origin)
    w.get("/x")
    assert w.request("POST", "/x", [], b"x").status == 500
    assert w.get("/x").hit


def test_an_unsafe_request_invalidates_what_location_names_on_the_same_host(origin, start):
    """RFC 9111 section 4.4."""
    origin.on("/a", lambda q: Reply(b"%d" % origin.count("/a"), headers=MINUTE))
    origin.on("/b", lambda q: Reply(b"%d" % origin.count("/b"), headers=MINUTE))
    origin.on("/make", status=201, headers=(("Location", "/a"), ("Content-Location", "http://other.test/b")))
    w = start(origin)
    w.get("/a"), w.get("/b")
    w.request("POST", "/make", [], b"x")
    assert not w.get("/a").hit
    assert w.get("/b").hit


def test_post_is_never_served_from_memory(origin, start):
    """RFC 9111 section 4: unsafe methods are written through."""
    origin.on("/x", lambda q: Reply(b"%d" % origin.count("/x"), headers=MINUTE))
    w = start(origin)
    assert [w.request("POST", "/x", [], b"x").body for _ in range(3)] == [b"1", b"2", b"3"]


def test_partial_answers_are_not_stored(origin, start):
    origin.on("/x", lambda q: Reply(b"23", 206, headers=(("Content-Range", "bytes 1-2/5"), *MINUTE)) if q.get("range") else Reply(b"12345", headers=MINUTE))
    w = start(origin)
    r = w.get("/x", [("Range", "bytes=1-2")])
    assert (r.status, r.body) in ((206, b"23"), (200, b"12345"))
    r = w.get("/x")
    assert (r.status, r.body) == (200, b"12345")


def test_a_clients_cache_control_is_ignored(origin, start):
    """RFC 9111 section 5.2.1: it is advisory."""
    counted(origin, "/x", MINUTE)
    w = start(origin)
    w.get("/x")
    for value in ("no-cache", "no-store", "max-age=0"):
        assert w.get("/x", [("Cache-Control", value)]).hit
    assert w.get("/x", [("Pragma", "no-cache")]).hit


def test_an_object_over_max_object_is_not_stored_and_one_below_is(origin, start):
    origin.on("/big", body=b"x" * 66000, headers=MINUTE)
    origin.on("/chunked", body=b"x" * 66000, headers=MINUTE, framing="chunked")
    origin.on("/fits", body=b"x" * 60000, headers=MINUTE)
    w = start(origin, memory={"size": "64mb", "max_object": "64kb"})
    for _ in range(2):
        for path, n in (("/big", 66000), ("/chunked", 66000), ("/fits", 60000)):
            r = w.get(path)
            assert r.clean and len(r.body) == n
    assert (origin.count("/big"), origin.count("/chunked"), origin.count("/fits")) == (2, 2, 1)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_max_object_holds_for_what_comes_with_its_head(origin, start, framing):
    origin.on("/over", body=b"x" * 4097, headers=MINUTE, framing=framing)
    origin.on("/at", body=b"x" * 4096, headers=MINUTE, framing=framing)
    w = start(origin, memory={"size": "64mb", "max_object": "4kb"})
    for _ in range(2):
        assert len(w.get("/over").body) == 4097 and len(w.get("/at").body) == 4096
    assert (origin.count("/over"), origin.count("/at")) == (2, 1)


def test_cache_status_of_others_is_kept(origin, start):
    """RFC 9211 section 2."""
    counted(origin, "/x", [*MINUTE, ("Cache-Status", "inner; hit; ttl=5")])
    w = start(origin)
    for _ in range(2):
        r = w.get("/x")
        assert r.get("cache-status").startswith("inner; hit; ttl=5") and r.cache


def test_different_bodies_of_all_sizes_are_served_from_memory_as_they_were(origin, start):
    sizes = [0, 1, 100, 4095, 4096, 4097, 16384, 65535, 65536, 65537, 262144, 262145, 1_000_000]
    for n in sizes:
        for framing in ("length", "chunked"):
            origin.on(f"/{framing}/{n}", body=bytes(i % 251 for i in range(1000)) * (n // 1000) + b"z" * (n % 1000), framing=framing, headers=MINUTE)
    w = start(origin)
    h1, h2 = w.http1(), w.http2()
    for n in sizes:
        for framing in ("length", "chunked"):
            path = f"/{framing}/{n}"
            for c in (h1, h1, h2):
                r = c.get(path)
                assert r.clean and r.body == origin.routes[path].body, (path, len(r.body))
            assert r.hit and r.get("content-length") == str(n)
            assert origin.count(path) == 1


def test_a_route_that_does_not_coalesce_validates_all_the_same(origin, start):
    """RFC 9111 section 4.3.1."""
    origin.on("/x", lambda q: Reply(status=304, headers=(("ETag", '"a"'),)) if q.get("if-none-match") == '"a"' else
              Reply(b"body", headers=(("ETag", '"a"'), ("Cache-Control", "max-age=0"))))
    w = start(origin, route={"coalesce": "off"})
    assert w.get("/x").body == b"body"
    r = w.get("/x")
    assert r.body == b"body" and r.cache.get("fwd") == "stale" and r.cache.get("fwd-status") == 304
    assert origin.count() == 2


def test_overrides_that_the_key_does_not_hold_do_not_reach_the_origin(origin, start):
    """What is stored for everybody must not depend on them."""
    origin.on("/x", lambda q: Reply(repr([q.get(n) for n in ("x-forwarded-host", "x-original-url", "x-http-method-override")]).encode(),
                                    headers=(("Cache-Control", "max-age=60"),)))
    w = start(origin)
    poison = [("X-Forwarded-Host", "evil.test"), ("X-Original-URL", "/admin"), ("X-HTTP-Method-Override", "DELETE")]
    assert b"evil" not in w.get("/x", poison).body
    assert w.get("/x").hit


def test_validations_keep_their_connection(origin, start):
    origin.on("/x", lambda q: Reply(status=304, headers=(("ETag", '"a"'),)) if q.get("if-none-match") == '"a"' else
              Reply(b"body", headers=(("ETag", '"a"'), ("Cache-Control", "max-age=0"))))
    w = start(origin, threads=1)
    for _ in range(5):
        assert w.get("/x").body == b"body"
    assert origin.count() == 5 and len({q.connection for q in origin.seen("/x")}) == 1


@pytest.mark.parametrize("extra", [("Set-Cookie", "sid=secret-of-leader"), ("Cache-Control", "private"), ("Cache-Control", "no-store")])
def test_a_304_that_is_for_one_client_is_given_to_one(origin, start, extra):
    gate = origin.gate()

    def answer(q):
        if q.get("if-none-match"):
            return Reply(status=304, headers=(("ETag", '"a"'), extra), gate=gate)
        return Reply(b"x", headers=(("ETag", '"a"'), ("Cache-Control", "max-age=0")))
    origin.on("/x", answer)
    w = start(origin)
    w.get("/x")
    h = client.Herd(w.address, [client.build("GET", "/x")] * 6).go()
    origin.wait(2)
    w.until_waiting(6)
    gate.open()
    answers = h.gather().answers()
    h.close()
    got = sum(1 for r in answers if any(extra[1] in v for v in r.all(extra[0])))
    assert got <= origin.count() - 1, f"{got} clients got what the origin sent {origin.count() - 1} times"


def test_a_304_of_another_validator_is_asked_about_once(origin, start):
    """RFC 9111 section 4.3.4: it updates nothing."""
    def answer(q):
        if q.get("if-none-match"):
            return Reply(status=304, headers=(("ETag", '"other"'),))
        return Reply(b"x", headers=(("ETag", '"a"'), ("Cache-Control", "max-age=0")))
    origin.on("/x", answer)
    w = start(origin)
    w.get("/x")
    origin.forget()
    assert w.get("/x").body == b"x"
    assert [q.get("if-none-match") for q in origin.requests] == ['"a"', None]


def test_a_soft_purge_alone_allows_no_stale_answer(origin, start):
    status = [200]
    origin.on("/x", lambda q: Reply(b"x", status=status[0], headers=MINUTE))
    w = start(origin)
    w.get("/x")
    assert w.purge_path("/x", soft=True) == 1
    status[0] = 503
    assert w.get("/x").status == 503


def test_an_answer_turned_into_a_304_names_the_origin_s_status(origin, start):
    """RFC 9211 section 2.3."""
    origin.on("/x", lambda q: Reply(b"abc", headers=MINUTE + (("ETag", '"a"'),)))
    w = start(origin)
    r = w.get("/x", [("If-None-Match", '"a"')])
    assert (r.status, r.cache.get("fwd-status")) == (304, 200)
    r = w.get("/x", [("If-None-Match", '"a"')])
    assert r.status == 304 and r.hit and "fwd-status" not in r.cache


def settles(w, used):
    """What readers may still have looked at is given back a little later."""
    end = time.monotonic() + 5 * SLOW
    while w.figures()["memory"]["used_bytes"] >= used:
        assert time.monotonic() < end, w.figures()["memory"]
        time.sleep(0.05)


def test_what_a_stale_answer_was_found_beside_is_given_back(origin, start):
    """A request that first waited for one variant and then was served another, stale: each of them counts."""
    state = {"headers": None, "gate": None}
    origin.on("/x", lambda q: Reply(b"z" * 300000, headers=state["headers"], gate=state["gate"]))
    w = start(origin)
    stale = (("Vary", "X"), ("Cache-Control", "max-age=0, stale-while-revalidate=3600"))
    for i in range(3):
        state["gate"] = None
        state["headers"] = stale + (("ETag", '"v2"'),)
        w.get("/x", [("X", "2")])
        state["headers"] = (("Vary", "Y"), ("Cache-Control", "max-age=0"), ("ETag", '"e"'))
        w.get("/x", [("X", f"9{i}"), ("Y", f"1{i}")])
        gate = state["gate"] = origin.gate()
        state["headers"] = stale + (("ETag", '"a"'),)
        n = origin.count()
        first = client.Herd(w.address, [client.build("GET", "/x", [("X", "1"), ("Y", f"1{i}")])]).go()
        origin.wait(n + 1)
        second = client.Herd(w.address, [client.build("GET", "/x", [("X", "2"), ("Y", f"1{i}")])]).go()
        w.until_waiting(2)
        gate.open()
        first.gather(), second.gather()
        first.close(), second.close()
        origin.wait_idle()
        w.purge(all=True)
    settles(w, 600_000)


def test_memory_that_a_purge_took_is_given_back(origin, start):
    origin.default = lambda q: Reply(b"z" * 600_000, headers=MINUTE)
    w = start(origin, memory={"size": "16mb"})
    for i in range(27):
        w.get(f"/{i}")
    assert w.purge(all=True) > 0
    settles(w, 2_000_000)


COOKIE = (("Set-Cookie", "a=b"),)


def test_set_cookie_is_stored_only_where_the_route_says_so(origin, start):
    counted(origin, "/explicit", MINUTE + COOKIE)
    counted(origin, "/silent", COOKIE + (("Last-Modified", past(100_000)),))
    never = start(origin)
    for path in ("/explicit", "/silent"):
        assert never.get(path).get("set-cookie") == "a=b" and not never.get(path).hit
    store = start(origin, route={"set_cookie": "store"})
    for path in ("/explicit", "/silent"):
        assert store.get(path).get("set-cookie") == "a=b"
    assert store.get("/explicit").hit and store.get("/explicit").get("set-cookie") == "a=b"
    assert not store.get("/silent").hit
    strip = start(origin, route={"set_cookie": "strip"})
    for path in ("/explicit", "/silent"):
        assert strip.get(path).get("set-cookie") is None
        assert strip.get(path).hit and strip.get(path).get("set-cookie") is None


def test_stripping_takes_no_cookie_from_what_is_for_one_client(origin, start):
    counted(origin, "/x", COOKIE + (("Cache-Control", "private"),))
    w = start(origin, route={"set_cookie": "strip"})
    assert w.get("/x").get("set-cookie") == "a=b"


def test_the_answer_to_a_post_is_stored_for_get_where_it_says_so(origin, start):
    """RFC 9110 section 9.3.3: Content-Location is the target, and the lifetime is explicit."""
    origin.on("/x", lambda q: Reply(b"%s %d" % (q.method.encode(), origin.count("/x")),
                                    headers=MINUTE + (("Content-Location", q.get("x-location")),)))
    w = start(origin)
    r = w.request("POST", "/x", [("X-Location", "/x")], b"a")
    assert r.cache == {"fwd": "method", "stored": True}
    r = w.get("/x")
    assert r.hit and r.body == b"POST 1"
    w.request("POST", "/x", [("X-Location", "http://api.test/x")], b"a")
    assert w.get("/x").body == b"POST 2" and w.request("HEAD", "/x").hit
    w.request("POST", "/x", [("X-Location", "/y")], b"a")
    assert w.get("/x", [("X-Location", "/z")]).body == b"GET 4"
    w.request("POST", "/x", [("X-Location", "http://other.test/x")], b"a")
    assert w.get("/x", [("X-Location", "/z")]).body == b"GET 6"
    w.request("POST", "/x", [("X-Location", "/x"), ("X-Original-URL", "/evil")], b"a")
    assert w.get("/x", [("X-Location", "/z")]).body == b"GET 8"


def test_a_content_range_on_a_whole_answer_means_nothing(origin, start):
    counted(origin, "/x", MINUTE + (("Content-Range", "bytes 0-1/9"),))
    w = start(origin)
    w.get("/x")
    assert w.get("/x").hit


def ask(w, value, path="/x", name="Cache-Control"):
    return w.get(path, [(name, value)])


def test_a_client_s_wishes_count_for_nothing_unless_the_route_honours_them(origin, start):
    """RFC 9111 section 5.2.1: they are advisory."""
    counted(origin, "/x", MINUTE)
    w = start(origin)
    w.get("/x")
    for value in ("no-cache", "max-age=0", "no-store", "min-fresh=100"):
        assert ask(w, value).hit
    assert ask(w, "no-cache", name="Pragma").hit
    assert ask(w, "only-if-cached", "/other").status == 404 or origin.count("/other") == 1


def test_a_client_s_wishes_are_honoured_where_the_route_says_so(origin, start):
    """RFC 9111 section 5.2.1."""
    counted(origin, "/x", MINUTE + (("ETag", '"a"'),))
    w = start(origin, route={"client_cache_control": "honor"})
    w.get("/x")
    assert ask(w, "max-age=30").hit and ask(w, "min-fresh=30").hit and ask(w, "no-store").hit
    n = origin.count()
    for value in ("no-cache", "min-fresh=100"):
        r = ask(w, value)
        assert r.cache["fwd"] == "request" and not r.hit
        assert origin.seen("/x")[-1].get("if-none-match") == '"a"'
    assert ask(w, "no-cache", name="Pragma").cache["fwd"] == "request"
    assert origin.count() == n + 3
    r = ask(w, "no-store", "/y")
    assert r.cache == {"fwd": "request", "detail": "no-store"}
    r = ask(w, "only-if-cached", "/z")
    assert r.status == 504 and r.cache == {"fwd": "request", "detail": "only-if-cached"}
    assert ask(w, "only-if-cached").hit
    assert origin.count("/z") == 0


def test_max_stale_is_honoured_but_not_against_the_origin(origin, start):
    """RFC 9111 sections 5.2.1.2, 5.2.1.7 and 4.2.4."""
    counted(origin, "/x", (("Cache-Control", "max-age=0"), ("ETag", '"a"')))
    counted(origin, "/must", (("Cache-Control", "max-age=0, must-revalidate"), ("ETag", '"a"')))
    w = start(origin, route={"client_cache_control": "honor"})
    w.get("/x"), w.get("/must")
    r = ask(w, "max-stale=100")
    assert r.hit and r.cache["detail"] == "max-stale" and r.cache["ttl"] < 0
    assert not ask(w, "max-stale", "/must").hit
    assert ask(w, "max-stale=100, only-if-cached").hit
    assert ask(w, "only-if-cached").status == 504


def used_for(origin, w, seconds):
    """Fetches a path and uses it every 5 ms for a while; (path, answers). Where the machine held that up, so that uses
    came too rarely or after the end, another path is taken."""
    for path in ("/1", "/2", "/3", "/4"):
        origin.wait_idle()
        w.get(path)
        last, answers, longest = time.monotonic(), [], 0
        end = last + seconds
        while last < end:
            answers.append(w.get(path))
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            time.sleep(0.005)
        if longest < 0.1 * SLOW:
            break
    return path, answers


def test_what_is_used_is_refreshed_before_its_end(origin, start):
    """XFetch: with a fetch as long as the lifetime every other use or so starts a refresh, one at a time."""
    origin.default = lambda q: Reply(b"x", delay=0.2)
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "1s", "early_refresh": "on"}})
    path, answers = used_for(origin, w, 3)
    assert all(r.hit for r in answers), "somebody waited"
    assert 3 <= origin.count(path) <= 16 and origin.in_flight_max == 1


@pytest.mark.parametrize("control,refreshed", [("max-age=3", True), ("max-age=3, immutable", False)])
def test_what_is_immutable_is_not_refreshed_before_its_end(origin, start, control, refreshed):
    """RFC 8246 section 2.1."""
    origin.default = lambda q: Reply(b"x", headers=(("Cache-Control", control),), delay=0.5)
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "3s", "early_refresh": "on"}})
    path, _ = used_for(origin, w, 2)
    assert (origin.count(path) > 1) == refreshed


def test_explain_shows_the_arithmetic(origin, start):
    counted(origin, "/explicit", MINUTE + (("Vary", "Accept-Language"),))
    counted(origin, "/tier")
    counted(origin, "/no", (("Cache-Control", "no-store"),))
    w = start(origin, route={"ttl": "t"}, ttl={"t": "30s"})
    for path in ("/explicit", "/tier", "/no"):
        w.get(path)

    def explain(path):
        return json.loads(w.admin("GET", f"/explain?url=http://api.test{path}").body)
    e = explain("/explicit")
    assert e["variants_by"] == "accept-language" and e["freshness"]["lifetime_seconds"] == 60
    assert e["freshness"]["lifetime_from"].startswith("max-age") and e["freshness"]["use"].startswith("served")
    assert explain("/tier")["freshness"]["lifetime_from"] == "the tier's lifetime"
    e = explain("/no")
    assert e["stored"] is False and e["not_stored_because"] == "no-store"


def test_head_renews_what_is_stored(origin, start):
    """RFC 9111 section 4.3.5."""
    state = {"age": 0, "etag": '"a"'}

    def answer(q):
        return Reply(b"hello", headers=(("Cache-Control", f"max-age={state['age']}"), ("ETag", state["etag"]), ("X-N", str(origin.count()))))
    origin.on("/x", answer)
    w = start(origin)
    w.get("/x")
    state["age"] = 60
    assert w.request("HEAD", "/x").get("x-n") == "2"
    r = w.get("/x")
    assert r.hit and r.body == b"hello" and r.get("x-n") == "2"


def test_head_of_something_else_makes_what_is_stored_stale(origin, start):
    """RFC 9111 section 4.3.5."""
    state = {"etag": '"a"'}
    origin.on("/x", lambda q: Reply(b"hello", headers=(("Cache-Control", "max-age=60"), ("ETag", state["etag"]))))
    w = start(origin, route={"client_cache_control": "honor"})
    w.get("/x")
    assert w.get("/x").hit
    state["etag"] = '"b"'
    w.request("HEAD", "/x", [("Cache-Control", "no-cache")])
    r = w.get("/x")
    assert not r.hit and r.get("etag") == '"b"'
