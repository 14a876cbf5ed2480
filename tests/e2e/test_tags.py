"""Tags and groups: purges by what responses carry, and invalidation by what answers to unsafe requests name."""
import json
import ssl

import pytest

import client
import weir
from origin import Reply
from weir import HOST, base_conf, free_port

MINUTE = ("Cache-Control", "max-age=60")
FIELDS = ["Surrogate-Key", "Cache-Tag", "Cache-Groups"]


def tagged(name, *tags):
    return (name, ", ".join(f'"{t}"' for t in tags) if name == "Cache-Groups" else " ".join(tags))


def serial(origin, path, *headers):
    """Each answer is the number of the request."""
    origin.on(path, lambda q: Reply(b"%d" % origin.count(path), headers=(MINUTE, *headers)))


def fill(w, *paths, **kw):
    for p in paths:
        assert w.get(p, **kw).status == 200
        assert w.get(p, **kw).hit


def hits(w, *paths, **kw):
    return [w.get(p, **kw).hit for p in paths]


# --- by an operator ---

@pytest.mark.parametrize("field", FIELDS)
def test_a_purge_by_tag_takes_all_that_carry_it(origin, start, field):
    serial(origin, "/1", tagged(field, "red", "big"))
    serial(origin, "/2", tagged(field, "red"))
    serial(origin, "/3", tagged(field, "blue", "red-ish"))
    serial(origin, "/4")
    w = start(origin)
    fill(w, "/1", "/2", "/3", "/4")
    fill(w, "/1", host="other.test")
    assert w.purge(tag="re") == w.purge(tag="Red") == w.purge(tag="unknown") == 0
    assert w.purge(tag="red") == 3
    assert hits(w, "/1", "/2", "/3", "/4") == [False, False, True, True]
    assert not w.get("/1", host="other.test").hit
    assert w.purge(tag="big") == 2


def test_one_tag_is_one_tag_in_whichever_field(origin, start):
    for i, field in enumerate(FIELDS):
        serial(origin, f"/{i}", tagged(field, "x", "y"))
    serial(origin, "/all", *[tagged(field, "x") for field in FIELDS])
    w = start(origin)
    fill(w, "/0", "/1", "/2", "/all")
    assert w.purge(tag="x") == 4


def test_tags_stand_between_spaces_commas_and_lines(origin, start):
    serial(origin, "/x", ("Surrogate-Key", "a b  c,d , e"), ("Surrogate-Key", "f"), ("Cache-Tag", "g,h"))
    w = start(origin)
    for tag in "abcdefgh":
        fill(w, "/x")
        assert w.purge(tag=tag) == 1, tag
    fill(w, "/x")
    assert w.purge(tag="a b") == w.purge(tag="d ") == w.purge(tag=",") == 0


def test_a_purge_by_tag_takes_all_users_and_variants(origin, start):
    origin.on("/x", lambda q: Reply(b"x", headers=(("Cache-Control", "private, max-age=60"), ("Vary", "Accept-Language"), ("Cache-Tag", "t"))))
    w = start(origin, route={"scope": "user", "user": {"header": "Authorization"}})
    who = [[("Authorization", user), ("Accept-Language", language)] for user in ("ann", "bob") for language in ("de", "en")]
    for headers in who:
        w.get("/x", headers)
    assert all(w.get("/x", headers).hit for headers in who)
    assert w.purge(tag="t") == 4
    assert not any(w.get("/x", headers).hit for headers in who)


def test_tags_go_to_the_client_byte_for_byte(origin, start):
    sent = (("Surrogate-Key", "a  b,c"), ("Cache-Tag", "d"), ("Cache-Groups", '"e";p, "f"'))
    serial(origin, "/x", *sent)
    w = start(origin)
    for r in (w.get("/x"), w.get("/x")):
        assert [(n, r.get(n.lower())) for n, _ in sent] == list(sent)


def test_a_response_with_very_many_tags_goes_with_any(origin, start):
    serial(origin, "/many", ("Surrogate-Key", " ".join(f"t{i}" for i in range(500))))
    serial(origin, "/few", ("Surrogate-Key", " ".join(f"t{i}" for i in range(100))))
    w = start(origin)
    for tag, left in (("t499", True), ("elsewhere", True), ("t99", False)):
        fill(w, "/many", "/few")
        assert w.purge(tag=tag) == 2 - left
        assert hits(w, "/many", "/few") == [False, left], tag


def test_a_replaced_response_counts_by_its_new_tags(origin, start):
    origin.on("/x", lambda q: Reply(b"x", headers=(MINUTE, ("Cache-Tag", "old" if origin.count("/x") == 1 else "new"))))
    w = start(origin)
    fill(w, "/x")
    w.purge_path("/x")
    fill(w, "/x")
    assert w.purge(tag="old") == 0 and hits(w, "/x") == [True]
    assert w.purge(tag="new") == 1 and hits(w, "/x") == [False]


def test_a_304_may_bring_new_tags(origin, start):
    """RFC 9111 sections 3.2 and 4.3.4."""
    origin.on("/kept", lambda q: Reply(status=304, headers=(MINUTE, ("ETag", '"a"'))) if q.get("if-none-match") else
              Reply(b"x", headers=(("Cache-Control", "no-cache"), ("ETag", '"a"'), ("Cache-Tag", "old"))))
    origin.on("/changed", lambda q: Reply(status=304, headers=(MINUTE, ("ETag", '"a"'), ("Cache-Tag", "new"))) if q.get("if-none-match") else
              Reply(b"x", headers=(("Cache-Control", "no-cache"), ("ETag", '"a"'), ("Cache-Tag", "old"))))
    w = start(origin)
    for path in ("/kept", "/changed"):
        w.get(path), w.get(path)
    assert hits(w, "/kept", "/changed") == [True, True]
    assert w.purge(tag="old") == 1 and hits(w, "/changed") == [True]
    assert w.purge(tag="new") == 1 and hits(w, "/changed") == [False]


# --- soft ---

@pytest.mark.parametrize("what", [{"tag": "t"}, {"url": f"http://{HOST}/x"}, {"prefix": f"http://{HOST}/"}, {"all": True}])
def test_a_soft_purge_keeps_stale_while_revalidate(origin, start, what):
    gate = origin.gate()
    headers = (("Cache-Control", "max-age=60, stale-while-revalidate=60"), ("Cache-Tag", "t"), ("ETag", '"a"'))
    origin.on("/x", lambda q: Reply(b"%d" % origin.count("/x"), headers=headers, gate=gate if origin.count("/x") == 2 else None))
    w = start(origin)
    fill(w, "/x")
    assert w.purge(soft=True, **what) == 1
    assert w.purge(soft=True, **what) == 0, "it is marked already"
    r = w.get("/x")
    assert (r.body, r.cache.get("detail")) == (b"1", "stale-while-revalidate"), r
    assert origin.wait(2, "/x")[1].get("if-none-match") == '"a"'
    gate.open()
    origin.wait_idle()
    while not (r := w.get("/x")).hit or r.cache.get("detail"):
        assert r.body in (b"1", b"2")
    assert r.body == b"2" and origin.count("/x") == 2


def test_a_soft_purge_by_tag_without_a_window_has_it_validated(origin, start):
    origin.on("/x", lambda q: Reply(status=304, headers=(MINUTE, ("ETag", '"a"'))) if q.get("if-none-match") else
              Reply(b"body", headers=(MINUTE, ("ETag", '"a"'), ("Surrogate-Key", "t"))))
    serial(origin, "/y", ("Surrogate-Key", "u"))
    w = start(origin)
    fill(w, "/x", "/y")
    assert w.purge(tag="t", soft=True) == 1
    r = w.get("/x")
    assert r.body == b"body" and r.cache["fwd"] == "stale" and not r.hit
    assert origin.seen("/x")[1].get("if-none-match") == '"a"'
    assert hits(w, "/x", "/y") == [True, True]
    assert w.purge(tag="t") == 1, "what was confirmed carries its tags still"


# --- while a fetch is in the air ---

def hold_first(origin, path, *headers, body=False):
    gate = origin.gate()
    which = "body_gate" if body else "gate"
    origin.on(path, lambda q: Reply(b"%d" % origin.count(path), headers=(MINUTE, *headers), **{which: gate if origin.count(path) == 1 else None}))
    return gate


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("field", FIELDS)
def test_a_slow_fetch_that_turns_out_to_carry_a_purged_tag_is_not_stored(origin, start, field, soft):
    gate = hold_first(origin, "/x", tagged(field, "a", "t"))
    w = start(origin)
    c = w.http1()
    c.send(client.build("GET", "/x"))
    origin.wait(1, "/x")
    w.purge(tag="t", soft=soft)
    gate.open()
    r = c.response()
    assert (r.body, r.clean) == (b"1", True), "who asked before is answered"
    assert "stored" not in r.cache
    assert w.get("/x").body == b"2"
    assert w.get("/x").hit


def test_a_slow_fetch_with_other_tags_is_stored(origin, start):
    gate = hold_first(origin, "/x", ("Cache-Tag", "a b"))
    w = start(origin)
    c = w.http1()
    c.send(client.build("GET", "/x"))
    origin.wait(1, "/x")
    for tag in ("c", "A", "ab"):
        w.purge(tag=tag)
    gate.open()
    assert c.response().body == b"1"
    assert w.get("/x").body == b"1" and w.get("/x").hit


@pytest.mark.parametrize("length", [10, 200000])
def test_who_comes_after_a_purge_by_tag_does_not_get_the_fetch_from_before(origin, start, length):
    """The fetch could be joined, for nobody knew its tags. Who joined it after the purge asks anew, all of them in one fetch."""
    gate = origin.gate()
    origin.on("/x", lambda q: Reply((b"%d" % origin.count("/x")).ljust(length), headers=(MINUTE, ("Cache-Tag", "t")),
                                    gate=gate if origin.count("/x") == 1 else None))
    w = start(origin, threads=1)
    c = w.http1()
    c.send(client.build("GET", "/x"))
    origin.wait(1, "/x")
    w.purge(tag="t")
    late = client.Herd(w.address, [client.build("GET", "/x")] * 50).go()
    w.get("/another")  # the one thread has seen the herd when it answers this
    gate.open()
    answers = late.gather().answers()
    late.close()
    assert c.response().body.strip() == b"1"
    assert {r.body.strip() for r in answers} == {b"2"}, "an answer from before the purge"
    assert origin.count("/x") == 2
    assert w.get("/x").hit


def test_who_comes_after_a_purge_by_tag_on_other_threads(origin, start):
    gate = hold_first(origin, "/x", ("Cache-Tag", "t"))
    w = start(origin, threads=4)
    c = w.http1()
    c.send(client.build("GET", "/x"))
    origin.wait(1, "/x")
    w.purge(tag="t")
    late = client.Herd(w.address, [client.build("GET", "/x")] * 50).go()
    for _ in range(10):
        w.get("/another")
    gate.open()
    answers = late.gather().answers()
    late.close()
    assert c.response().body == b"1"
    assert b"1" not in {r.body for r in answers}, "an answer from before the purge"


def test_a_purge_by_tag_between_head_and_body_wins(origin, start):
    gate = hold_first(origin, "/x", ("Cache-Tag", "t"), body=True)
    w = start(origin)
    c = w.http1()
    c.send(client.build("GET", "/x"))
    assert c.head().status == 200
    assert w.purge(tag="t") == 0
    assert w.get("/x").body == b"2", "does not join; were it to, this would hang"
    gate.open()
    r = w.get("/x")
    assert r.body == b"2" and r.hit


def test_a_purge_by_tag_during_a_validation_is_not_undone_by_its_304(origin, start):
    gate = origin.gate()
    origin.on("/x", lambda q: Reply(status=304, headers=(("ETag", '"a"'), MINUTE), gate=gate) if q.get("if-none-match") else
              Reply(b"%d" % origin.count("/x"), headers=(("ETag", '"a"'), ("Cache-Control", "no-cache"), ("Cache-Tag", "t"))))
    w = start(origin)
    w.get("/x")
    c = w.http1()
    c.send(client.build("GET", "/x"))
    origin.wait(2, "/x")
    assert w.purge(tag="t") == 1
    gate.open()
    assert c.response().status == 200
    assert int(w.get("/x").body) > 2
    assert [q.get("if-none-match") for q in origin.seen("/x")[2:]][0] is None


def test_a_304_with_other_tags_does_not_undo_a_purge_of_the_old_one(origin, start):
    gate = origin.gate()
    origin.on("/x", lambda q: Reply(status=304, headers=(("ETag", '"a"'), MINUTE, ("Cache-Tag", "new")), gate=gate) if q.get("if-none-match") else
              Reply(b"%d" % origin.count("/x"), headers=(("ETag", '"a"'), ("Cache-Control", "no-cache"), ("Cache-Tag", "old"))))
    w = start(origin)
    w.get("/x")
    c = w.http1()
    c.send(client.build("GET", "/x"))
    origin.wait(2, "/x")
    assert w.purge(tag="old") == 1
    gate.open()
    assert c.response().body == b"3"
    assert origin.seen("/x")[2].get("if-none-match") is None


WHOLE = b"0123456789"


def in_parts(origin, path, gates, *tags):
    """Answers ranges; the n-th answer has the n-th of the tags, and waits for the n-th gate."""
    def answer(q):
        n = origin.count(path) - 1
        headers = (MINUTE, ("ETag", '"a"'), ("Cache-Tag", tags[min(n, len(tags) - 1)]))
        first, _, last = q.get("range", "bytes=-").partition("=")[2].partition("-")
        if not q.get("range"):
            return Reply(WHOLE, headers=headers, gate=gates.get(n))
        first, last = int(first), int(last or 9)
        return Reply(WHOLE[first:last + 1], 206, headers=(("Content-Range", f"bytes {first}-{last}/10"), *headers), gate=gates.get(n))
    origin.on(path, answer)


def test_parts_carry_their_tags(origin, start):
    in_parts(origin, "/x", {}, "one", "two")
    w = start(origin)
    assert w.get("/x", [("Range", "bytes=0-4")]).status == 206
    assert w.get("/x", [("Range", "bytes=0-3")]).hit
    assert w.get("/x", [("Range", "bytes=5-7")]).body == b"567"
    assert w.get("/x", [("Range", "bytes=0-7")]).hit
    assert w.purge(tag="two") == 1, "the joined part carries the tags of both"
    assert not w.get("/x", [("Range", "bytes=0-3")]).hit


@pytest.mark.parametrize("then", ["range", "whole"])
def test_a_part_whose_tag_was_purged_is_not_built_on(origin, start, then):
    gate = origin.gate()
    in_parts(origin, "/x", {1: gate}, "old", "new")
    w = start(origin)
    assert w.get("/x", [("Range", "bytes=0-4")]).body == b"01234"
    c = w.http1()
    c.send(client.build("GET", "/x", [("Range", "bytes=5-9")] if then == "range" else []))
    origin.wait(2, "/x")
    assert origin.seen("/x")[1].get("range") in ("bytes=5-9", "bytes=5-")
    assert w.purge(tag="old") == 1
    gate.open()
    assert c.response().body == (WHOLE[5:] if then == "range" else WHOLE)
    r = w.get("/x", [("Range", "bytes=0-4")])
    assert r.body == b"01234" and r.hit == (then == "whole")
    assert origin.count("/x") == 3
    if then == "whole":
        assert origin.seen("/x")[2].get("range") is None, "all of it was fetched anew"


def test_a_shared_failure_with_a_purged_tag_is_not_for_late_comers(origin, start):
    gate = origin.gate()
    origin.on("/x", lambda q: Reply(b"%d" % origin.count("/x"), 503 if origin.count("/x") == 1 else 200, headers=(MINUTE, ("Cache-Tag", "t")),
                                    gate=gate if origin.count("/x") == 1 else None))
    w = start(origin, threads=1)
    c = w.http1()
    c.send(client.build("GET", "/x"))
    origin.wait(1, "/x")
    w.purge(tag="t")
    late = client.Herd(w.address, [client.build("GET", "/x")] * 10).go()
    w.get("/another")
    gate.open()
    assert {r.body for r in late.gather().answers()} == {b"2"}
    late.close()
    assert c.response().status == 503


# --- by answers to unsafe requests ---

def group(name="g"):
    return ("Cache-Groups", f'"{name}"')


def naming(origin, path, *groups, status=200, method=None):
    value = ", ".join(f'"{g}"' for g in groups)
    origin.on(path, lambda q: Reply(b"done", status, headers=(("Cache-Group-Invalidation", value),)))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "X-UNKNOWN"])
def test_an_unsafe_request_invalidates_the_groups_its_answer_names(origin, start, method):
    """RFC 9875 section 3."""
    serial(origin, "/1", group(), group("other"))
    serial(origin, "/2", group())
    serial(origin, "/3", group("other"))
    serial(origin, "/4", ("Cache-Tag", "g"))
    naming(origin, "/do", "nothing", "g")
    w = start(origin)
    fill(w, "/1", "/2", "/3", "/4")
    r = w.request(method, "/do", [], b"x")
    assert r.get("cache-group-invalidation") == '"nothing", "g"'
    assert hits(w, "/1", "/2", "/3", "/4") == [False, False, True, True]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_safe_request_invalidates_no_group(origin, start, method):
    """RFC 9875 section 3: it MUST be ignored on responses to safe methods."""
    serial(origin, "/1", group())
    naming(origin, "/do", "g")
    w = start(origin)
    fill(w, "/1")
    assert w.request(method, "/do").status == 200
    assert hits(w, "/1") == [True]


@pytest.mark.parametrize("status,gone", [(200, True), (201, True), (204, True), (303, True), (400, False), (404, False), (500, False), (503, False)])
def test_only_a_response_that_is_no_error_invalidates(origin, start, status, gone):
    """RFC 9111 section 4.4."""
    serial(origin, "/1", group())
    naming(origin, "/do", "g", status=status)
    w = start(origin)
    fill(w, "/1")
    assert w.request("POST", "/do", [], b"x").status == status
    assert hits(w, "/1") == [not gone]


def test_groups_of_other_origins_stay(origin, start):
    """RFC 9875 section 2.1: scheme, host and port."""
    serial(origin, "/1", group())
    naming(origin, "/do", "g")
    w = start(origin)
    hosts = (HOST, "other.test", f"{HOST}:81", f"sub.{HOST}")
    for host in hosts:
        fill(w, "/1", host=host)
    w.request("POST", "/do", [], b"x", host="other.test")
    assert [w.get("/1", host=h).hit for h in hosts] == [True, False, True, True]
    w.request("POST", "/do", [], b"x", host=HOST.upper() + ":80")
    assert [w.get("/1", host=h).hit for h in hosts] == [False, True, True, True]


def test_http_and_https_are_two_origins(origin, start, certificates):
    """RFC 9875 section 2.1, RFC 9110 section 4.3.1."""
    c = certificates["api.test"]
    serial(origin, "/1", group())
    naming(origin, "/do", "g")
    conf = base_conf(origin, listen=[{"address": f"127.0.0.1:{free_port()}"},
                                     {"address": f"127.0.0.1:{free_port()}", "tls": [{"certificate": c.certificate, "key": c.key}]}])
    w = start(conf=conf)
    secure = ("127.0.0.1", int(conf["listen"][1]["address"].rsplit(":", 1)[1]))

    def over_tls(method, path, body=None):
        k = w.http1(address=secure, tls=ssl.create_default_context(cafile=c.ca), server_name="api.test")
        try:
            return k.request(method, path, [], body)
        finally:
            k.close()
    fill(w, "/1")
    over_tls("GET", "/1")
    assert over_tls("GET", "/1").hit
    over_tls("POST", "/do", b"x")
    assert hits(w, "/1") == [True] and not over_tls("GET", "/1").hit
    w.request("POST", "/do", [], b"x")
    assert hits(w, "/1") == [False] and over_tls("GET", "/1").hit
    assert w.purge(tag="g") == 2, "an operator's purge takes all origins"


def test_a_malformed_list_names_nothing(origin, start):
    """RFC 9651 section 4.2: a field that does not parse is ignored; RFC 9875 sections 2 and 3: a List of Strings."""
    serial(origin, "/1", group())
    serial(origin, "/2", ("Cache-Groups", '"g", h'))
    w = start(origin)
    fill(w, "/1", "/2")
    for value in ("g", '"g", h', '"g', '("g")', '"g",', '"g" "h"'):
        origin.on("/do", status=200, headers=(("Cache-Group-Invalidation", value),))
        w.request("POST", "/do", [], b"x")
        assert hits(w, "/1") == [True], value
    assert w.purge(tag="g") == 1


def test_many_groups_and_parameters(origin, start):
    """RFC 9875 sections 2 and 3: at least 32 groups of 32 characters, parameters ignored."""
    names = [f"{i:032d}" for i in range(100)]
    for i in (0, 31, 99):
        serial(origin, f"/{i}", ("Cache-Groups", f'"{names[i]}";a=1;b'))
    serial(origin, "/all", ("Cache-Groups", ", ".join(f'"{n}"' for n in names)))
    origin.on("/do", headers=(("Cache-Group-Invalidation", ", ".join(f'"{n}";x' for n in names[:50])), ("Cache-Group-Invalidation", ", ".join(f'"{n}"' for n in names[50:]))))
    w = start(origin)
    fill(w, "/0", "/31", "/99", "/all")
    w.request("POST", "/do", [], b"x")
    assert hits(w, "/0", "/31", "/99", "/all") == [False] * 4


def test_a_group_that_goes_takes_no_others_with_it(origin, start):
    """RFC 9875 section 2.2.1 does not cascade."""
    serial(origin, "/1", ("Cache-Groups", '"a", "b"'))
    serial(origin, "/2", ("Cache-Groups", '"b"'))
    naming(origin, "/do", "a")
    w = start(origin)
    fill(w, "/1", "/2")
    w.request("POST", "/do", [], b"x")
    assert hits(w, "/1", "/2") == [False, True]


def test_a_slow_fetch_with_an_invalidated_group_is_not_stored(origin, start):
    gate = hold_first(origin, "/x", group())
    naming(origin, "/do", "g")
    w = start(origin)
    c, other = w.http1(), w.http1()
    c.send(client.build("GET", "/x"))
    origin.wait(1, "/x")
    w.request("POST", "/do", [], b"x", host="other.test")
    w.request("POST", "/do", [], b"x")
    gate.open()
    assert c.response().body == b"1"
    assert w.get("/x").body == b"2"
    assert w.get("/x").hit
    other.close()


def test_a_slow_fetch_is_stored_although_another_origins_group_went(origin, start):
    gate = hold_first(origin, "/x", group())
    naming(origin, "/do", "g")
    w = start(origin)
    c = w.http1()
    c.send(client.build("GET", "/x"))
    origin.wait(1, "/x")
    w.request("POST", "/do", [], b"x", host="other.test")
    gate.open()
    assert c.response().body == b"1"
    assert w.get("/x").body == b"1"


@pytest.mark.parametrize("what", [None, {"url": f"http://{HOST}/x"}, {"prefix": f"http://{HOST}/"}, {"tag": "t"}, {"all": True}, "post"])
def test_a_purge_during_an_unsafe_request_wins_against_its_storable_answer(origin, start, what):
    """RFC 9110 section 9.3.3: such an answer to POST may be stored for GET. It is no newer than when it was asked for."""
    gate = origin.gate()
    headers = (MINUTE, ("Content-Location", "/x"), ("Cache-Tag", "t"))
    origin.on("/x", lambda q: Reply(b"%d" % origin.count("/x"), headers=headers, gate=gate if origin.count("/x") == 1 else None))
    w = start(origin)
    c = w.http1()
    c.send(client.build("POST", "/x", [], b"a"))
    origin.wait(1, "/x")
    if what == "post":
        w.request("DELETE", "/x")
        w.purge_path("/x")
    elif what:
        w.purge(**what)
    gate.open()
    assert c.response().body == b"1"
    r = w.get("/x")
    assert (r.body, r.hit) == ((b"1", True) if what is None else (b"3" if what == "post" else b"2", False))


@pytest.mark.parametrize("field", ["Location", "Content-Location"])
@pytest.mark.parametrize("reference,gone", [
    ("/dir/a", True), ("a", True), ("./a", True), ("../dir/a", True), ("/dir/a#part", True), (f"http://{HOST}/dir/a", True),
    (f"HTTP://{HOST.upper()}:80/dir/a", True), (f"//{HOST}/dir/a", True), (f"//{HOST}:80/dir/a", True), ("/dir/%61", True),
    ("b", False), ("../a", False), ("a/", False), ("?a", False), ("x:a", False), (f"https://{HOST}/dir/a", False), ("http://other.test/dir/a", False),
    ("//other.test/dir/a", False), (f"http://{HOST}:81/dir/a", False), (f"//{HOST}.evil/dir/a", False), ("", False)])
def test_what_an_unsafe_answer_names_is_invalidated_within_the_origin(origin, start, field, reference, gone):
    """RFC 9111 section 4.4, RFC 3986 section 5.2."""
    serial(origin, "/dir/a")
    origin.on("/dir/make", status=201, headers=((field, reference),))
    w = start(origin)
    fill(w, "/dir/a")
    w.request("POST", "/dir/make", [], b"x")
    assert hits(w, "/dir/a") == [not gone]


def test_a_query_reference_is_the_targets_own(origin, start):
    """RFC 9111 section 4.4, RFC 3986 section 5.2.2."""
    origin.default = lambda q: Reply(b"x", headers=(MINUTE,)) if q.method == "GET" else Reply(status=201, headers=(("Location", "?id=7"),))
    w = start(origin)
    fill(w, "/list?id=7", "/list?id=8", "/list")
    w.request("POST", "/list?id=8", [], b"x")
    assert hits(w, "/list?id=7", "/list?id=8", "/list") == [False, False, True]


def test_a_target_that_begins_with_two_slashes_is_invalidated(origin, start):
    """RFC 9111 section 4.4."""
    origin.default = lambda q: Reply(b"x", headers=(MINUTE,))
    w = start(origin)
    fill(w, "//x/y", "/x/y")
    w.request("POST", "//x/y", [], b"x")
    assert hits(w, "//x/y", "/x/y") == [False, True]


# --- the command ---

def test_weir_purge_takes_a_tag(origin, start):
    serial(origin, "/1", ("Cache-Tag", "t"))
    serial(origin, "/2", ("Cache-Groups", '"two words"'))
    w = start(origin)
    fill(w, "/1", "/2")
    admin = f"http://127.0.0.1:{w.admin_port}"
    for arguments, said, left in ((["--tag", "u"], "purged 0", [True, True]), (["--tag", "two words"], "purged 1", [True, False]),
                                  (["--soft", "--tag", "t"], "purged 1", [False, True])):
        r = weir.run("purge", "--admin", admin, *arguments)
        assert (r.returncode, r.stdout.strip()) == (0, said), r.stderr
        assert hits(w, "/1", "/2") == left
    r = weir.run("purge", "--admin", admin, "--tag", "")
    assert r.returncode == 1 and "empty" in r.stderr
    assert weir.run("purge", "--admin", admin, "--tag", "a", "--all").returncode == 2


def test_the_admin_listener_says_how_many(origin, start):
    serial(origin, "/1", ("Cache-Tag", "ä"))
    w = start(origin)
    fill(w, "/1")
    r = w.admin("POST", "/purge", json.dumps({"tag": "x"}).encode())
    assert (r.status, json.loads(r.body)) == (200, {"purged": 0})
    assert w.figures()["memory"]["objects"] == 1
