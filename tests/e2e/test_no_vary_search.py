"""No-Vary-Search in the keys of later requests (draft-ietf-httpbis-no-vary-search-05), where a route says so. Sections are the draft's."""
import json
import urllib.parse

import pytest

import client
from origin import Reply
from weir import HOST

ON = {"no_vary_search": True}
UTM = 'params=("utm")'


def says(origin, field=UTM, path="/x", life="max-age=60", headers=(), **kw):
    """Each answer is the number of the request; `field` is a text, or a function of the request that gives one."""
    def answer(q):
        value = field(q) if callable(field) else field
        return Reply(b"%d" % origin.count(path), headers=(
            ("Cache-Control", life), *([("No-Vary-Search", value)] if value else []), *headers), **kw)
    origin.on(path, answer)


def explain(w, target):
    r = w.admin("GET", "/explain?url=" + urllib.parse.quote(f"http://{HOST}{target}", safe=""))
    assert r.status == 200
    return json.loads(r.body)


def test_off_by_default(origin, start):
    says(origin)
    w = start(origin)
    assert w.get("/x?utm=1").body == b"1"
    assert not w.get("/x?utm=2").hit


def test_parameters_that_do_not_count(origin, start):
    """Section 6."""
    says(origin)
    w = start(origin, route=ON)
    assert w.get("/x?id=1&utm=1").body == b"1"
    for target in ("/x?id=1&utm=1", "/x?id=1&utm=2", "/x?id=1", "/x?utm=3&id=1", "/x?%69d=1"):
        r = w.get(target)
        assert r.hit and r.body == b"1", target
    r = w.get("/x?id=2&utm=1")
    assert not r.hit and r.body == b"2"
    assert w.get("/x?id=1&utm=9").body == b"1" and w.get("/x?id=2").body == b"2"
    assert not w.get("/other?id=1").hit and not w.get("/x?id=1&utm=1", host="other.test").hit


def test_an_absent_query_is_an_empty_one(origin, start):
    """Section 6.1."""
    says(origin)
    w = start(origin, route=ON)
    assert w.get("/x?utm=1").body == b"1"
    assert w.get("/x").hit and w.get("/x?").hit
    says(origin, path="/y")
    assert w.get("/y").body == b"1"
    assert w.get("/y?utm=1").hit and w.get("/y?").hit


@pytest.mark.parametrize("field,same,other", [
    ("params", "/x?b=1", None),
    ('params, except=("id")', "/x?id=1&z=2", "/x?id=2"),
    ('except=("id")', "/x?z=2&id=1", "/x?id=2"),
])
def test_all_but_some(origin, start, field, same, other):
    """Sections 5.1 and 6; `params` as a Boolean is from earlier versions."""
    says(origin, field)
    w = start(origin, route=ON)
    w.get("/x?id=1")
    assert w.get(same).hit
    assert other is None or not w.get(other).hit


@pytest.mark.parametrize("field", [
    "params=?0", 'params=("utm"', "params=(utm)", "params=1", 'params=("utm"), key-order=1', 'params=("utm"), except=("id")',
    'key-order, params=("utm" 1)', 'params=("utm"), except=(1)', '"utm"', 'params=("%s")' % ("u" * 2000)])
def test_a_field_without_effect(origin, start, field):
    """Section 5.1."""
    says(origin, field)
    w = start(origin, route=ON)
    w.get("/x?utm=1")
    assert w.get("/x?utm=1").hit and not w.get("/x?utm=2").hit


def test_the_origin_gets_the_clients_own_query(origin, start):
    says(origin)
    w = start(origin, route=ON)
    w.get("/x?utm=1")
    w.get("/x?id=7&utm=2")
    assert [q.target for q in origin.seen("/x")] == ["/x?utm=1", "/x?id=7&utm=2"]


def test_what_does_not_say_so_is_for_its_own_query(origin, start):
    """The error page of another query does not take the policy away, nor is it anybody else's. Section 7."""
    says(origin, lambda q: None if "bad" in q.query else UTM)
    w = start(origin, route=ON)
    assert w.get("/x?utm=1").body == b"1"
    assert w.get("/x?bad=1&utm=1").body == b"2"
    assert w.get("/x?bad=1&utm=1").hit
    assert not w.get("/x?bad=1&utm=2").hit
    assert not w.get("/x?bad=1").hit  # lies where bad=1 with any utm would, and is for itself
    assert w.get("/x?bad=1").hit and w.get("/x?bad=1&utm=1").body == b"2"
    assert not w.get("/x?bad=1&utm=3").hit
    assert w.get("/x?utm=5").hit


def test_the_newest_counts(origin, start):
    """Section 7."""
    says(origin, lambda q: 'params=("b")' if "new" in q.query else 'params=("a")')
    w = start(origin, route=ON)
    w.get("/x?a=1")
    assert w.get("/x?a=2").hit
    w.get("/x?new=1&b=1")
    assert w.get("/x?new=1&b=2").hit
    assert not w.get("/x?a=3").hit  # until it says so again
    assert w.get("/x?a=4").hit


def test_requests_at_once_share_where_the_answer_lets_them(origin, start):
    gate = origin.gate()
    says(origin)
    w = start(origin, route=ON)
    w.get("/x?id=0")
    says(origin, gate=gate)
    clients = [w.http1() for _ in range(6)]
    for i, c in enumerate(clients):
        c.send(client.build("GET", f"/x?id=1&utm={i}"))
    origin.wait(2, "/x")
    gate.open()
    assert [c.response().body for c in clients] == [b"2"] * 6
    assert origin.count("/x") == 2


def test_requests_at_once_are_let_go_where_it_does_not(origin, start):
    gate = origin.gate()
    says(origin)
    w = start(origin, route=ON)
    w.get("/x?id=0")
    origin.on("/x", lambda q: Reply(q.query.encode(), headers=(("Cache-Control", "max-age=60"),), gate=gate))
    clients = [w.http1() for _ in range(4)]
    for i, c in enumerate(clients):
        c.send(client.build("GET", f"/x?id=1&utm={i}"))
    origin.wait(2, "/x")
    gate.open()
    assert [c.response().body for c in clients] == [b"id=1&utm=%d" % i for i in range(4)]
    for i in range(4):
        r = w.get(f"/x?id=1&utm={i}")
        assert r.hit and r.body == b"id=1&utm=%d" % i


def test_the_first_ones_at_once_share_one_fetch(origin, start):
    gate = origin.gate()
    says(origin, gate=gate)
    w = start(origin, route=ON)
    clients = [w.http1() for _ in range(4)]
    for c in clients:
        c.send(client.build("GET", "/x?utm=1"))
    origin.wait(1, "/x")
    gate.open()
    assert [c.response().body for c in clients] == [b"1"] * 4


def test_it_goes_together_with_vary(origin, start):
    says(origin, headers=(("Vary", "X-A"),))
    w = start(origin, route=ON)
    for a, n in (("p", b"1"), ("q", b"2")):
        assert w.get("/x?id=1&utm=1", [("X-A", a)]).body == n
    for a, n in (("p", b"1"), ("q", b"2")):
        r = w.get("/x?id=1&utm=2", [("X-A", a)])
        assert r.hit and r.body == n
    assert explain(w, "/x?id=1&utm=3")["variants_by"] == "x-a"


def test_a_stale_one_is_validated_by_any_of_its_urls(origin, start):
    origin.on("/x", lambda q: Reply(b"" if q.get("if-none-match") else b"body", 304 if q.get("if-none-match") else 200, headers=(
        ("Cache-Control", "max-age=60" if q.get("if-none-match") else "max-age=0"), ("ETag", '"a"'), ("No-Vary-Search", UTM))))
    w = start(origin, route=ON)
    w.get("/x?id=1&utm=1")
    r = w.get("/x?id=1&utm=2")
    assert r.body == b"body" and r.cache["fwd-status"] == 304
    assert w.get("/x?id=1&utm=3").hit


def test_users_stay_apart(origin, start):
    says(origin, life="private, max-age=60")
    w = start(origin, route={**ON, "scope": "user", "user": {"header": "Authorization"}})
    ann, bob = [("Authorization", "ann")], [("Authorization", "bob")]
    assert w.get("/x?utm=1", ann).body == b"1"
    assert w.get("/x?utm=2", bob).body == b"2"
    assert w.get("/x?utm=3", ann).body == b"1" and w.get("/x?utm=3", bob).body == b"2"


@pytest.mark.parametrize("field", ["key-order", 'key-order, params=("utm")', 'except=("a" "b"), key-order'])
def test_key_order(origin, start, field):
    """Spelling does not count with it, nor the order of different names; that of equal ones does (section 6)."""
    says(origin, field)
    w = start(origin, route=ON)
    assert w.get("/x?a=1&b=%20&a=0").body == b"1"
    for target in ("/x?b=+&a=1&a=0", "/x?a=1&a=0&b=%20"):
        assert w.get(target).hit, target
    assert not w.get("/x?a=0&a=1&b=+").hit


def test_several_names(origin, start):
    """Section 5.3."""
    says(origin, 'params=("a" "b c" "%C3%A9")')
    w = start(origin, route=ON)
    assert w.get("/x?id=1").body == b"1"
    for target in ("/x?a=1&id=1&b+c=2", "/x?b%20c=3&id=1", "/x?id=1&%c3%a9=4"):
        assert w.get(target).hit, target
    assert not w.get("/x?id=1&b=2").hit


def test_the_routes_own_rules_come_first(origin, start):
    says(origin, 'params=("b")')
    w = start(origin, route={**ON, "key": {"query": {"except": ["a"]}}})
    assert w.get("/x?a=1&b=1&c=1").body == b"1"
    assert w.get("/x?a=2&b=2&c=1").hit and not w.get("/x?c=2").hit
    assert origin.seen("/x")[0].target == "/x?b=1&c=1"


def test_no_query_in_the_key(origin, start):
    says(origin)
    w = start(origin, route={**ON, "key": {"query": "none"}})
    assert w.get("/x?a=1&utm=1").body == b"1"
    assert w.get("/x?a=2").hit


def test_chosen_headers_stay_in_the_key(origin, start):
    says(origin)
    w = start(origin, route={**ON, "key": {"headers": ["X-A"]}})
    assert w.get("/x?utm=1", [("X-A", "p")]).body == b"1"
    assert not w.get("/x?utm=2", [("X-A", "q")]).hit
    assert w.get("/x?utm=3", [("X-A", "p")]).body == b"1" and w.get("/x?utm=3", [("X-A", "q")]).body == b"2"


def test_head(origin, start):
    """A HEAD for any of its urls is answered by it; one that is sent on says what GET would get."""
    says(origin, headers=(("ETag", '"a"'),))
    w = start(origin, route=ON)
    w.get("/x?id=1&utm=1")
    assert w.request("HEAD", "/x?id=1&utm=2").hit
    assert not w.request("HEAD", "/x?id=2&utm=2").hit
    assert w.get("/x?id=1&utm=3").hit


def test_a_head_renews_what_is_stored(origin, start):
    """RFC 9111 section 4.3.5."""
    origin.on("/x", lambda q: Reply(b"body", headers=(
        ("Cache-Control", "max-age=0" if q.method == "GET" else "max-age=60"), ("ETag", '"a"'), ("No-Vary-Search", UTM))))
    w = start(origin, route=ON)
    w.get("/x?id=1&utm=1")
    assert not w.request("HEAD", "/x?id=1&utm=2").hit
    assert w.get("/x?id=1&utm=3").hit


def test_ranges_of_what_is_stored(origin, start):
    origin.on("/x", lambda q: Reply(b"0123456789", headers=(("Cache-Control", "max-age=60"), ("No-Vary-Search", UTM))))
    w = start(origin, route=ON)
    w.get("/x?id=1&utm=1")
    r = w.get("/x?id=1&utm=2", [("Range", "bytes=2-4")])
    assert r.status == 206 and r.body == b"234" and r.hit


def parts(origin, field, **kw):
    """To a range: that of ten times the last digit of the query."""
    def answer(q):
        whole = q.query[-1:].encode() * 10
        headers = [("Cache-Control", "max-age=60"), ("ETag", f'"{q.query[-1:]}"')]
        value = field(q) if callable(field) else field
        headers += [("No-Vary-Search", value)] if value else []
        if q.get("range") is None:
            return Reply(whole, headers=tuple(headers), **kw)
        first, last = (int(n) for n in q.get("range")[6:].split("-"))
        return Reply(whole[first:last + 1], 206, (*headers, ("Content-Range", f"bytes {first}-{last}/10")), **kw)
    origin.on("/x", answer)


def test_stored_parts(origin, start):
    parts(origin, UTM)
    w = start(origin, route=ON)
    assert w.get("/x?id=1&utm=1", [("Range", "bytes=0-4")]).status == 206
    r = w.get("/x?id=1&utm=2", [("Range", "bytes=1-2")])
    assert r.hit and r.status == 206 and r.body == b"11"
    assert not w.get("/x?id=2&utm=2", [("Range", "bytes=1-2")]).hit


def test_ranges_at_once_share_where_the_answer_lets_them(origin, start):
    parts(origin, UTM)
    w = start(origin, route=ON)
    w.get("/x?id=0")
    gate = origin.gate()
    parts(origin, UTM, gate=gate)
    clients = [w.http1() for _ in range(3)]
    for i, c in enumerate(clients):
        c.send(client.build("GET", f"/x?id=1&utm={i}", [("Range", "bytes=0-1")]))
        origin.wait(2, "/x")
    gate.open()
    assert [c.response().body for c in clients] == [b"00"] * 3
    assert origin.count("/x") == 2


def test_ranges_at_once_are_let_go_where_it_does_not(origin, start):
    """The one that is fetched has the very query that the others are reduced to."""
    parts(origin, UTM)
    w = start(origin, route=ON)
    w.get("/x?id=0")
    gate = origin.gate()
    parts(origin, None, gate=gate)
    clients = [w.http1() for _ in range(3)]
    for i, c in enumerate(clients):
        c.send(client.build("GET", "/x?id=1" + f"&utm={i + 5}" * (i > 0), [("Range", "bytes=0-1")]))
        origin.wait(2, "/x")
    gate.open()
    assert [c.response().body for c in clients] == [b"11", b"66", b"77"]


def test_what_is_newest_is_used(origin, start):
    """RFC 9111 section 4: the most recent of those that are suitable, also where the older one is for more queries."""
    says(origin, life="max-age=0", headers=(("ETag", '"a"'),))
    w = start(origin, route=ON)
    w.get("/x?id=1&utm=1")
    says(origin, None, headers=(("ETag", '"b"'),))
    assert w.get("/x?id=1&utm=2").body == b"2"
    r = w.get("/x?id=1&utm=2")
    assert r.hit and r.body == b"2"
    says(origin, headers=(("ETag", '"c"'),))
    assert w.get("/x?id=1&utm=3").body == b"3"
    assert w.get("/x?id=1&utm=2").body == b"3"


def test_what_cannot_be_shared_is_no_word_to_others(origin, start):
    """A hit-for-miss marker for the query that others are reduced to: what they have of their own is used."""
    says(origin)
    w = start(origin, route=ON)
    w.get("/x?id=0")
    origin.on("/x", lambda q: Reply(q.query.encode(), headers=(
        ("Cache-Control", "max-age=60" if "utm" in q.query else "no-store"),)))
    w.get("/x?id=1")
    assert w.get("/x?id=1&utm=2").body == b"id=1&utm=2"
    assert w.get("/x?id=1&utm=2").hit
    assert not w.get("/x?id=1").hit


def test_validators_of_another_query_are_not_offered(origin, start):
    """Variants of the query that this one is reduced to, but which do not say that they are for it: a 304 for this url
    would not be about them."""
    says(origin)
    w = start(origin, route=ON)
    w.get("/x?id=0")
    origin.on("/x", lambda q: Reply(b"", 304, (("ETag", '"e"'),)) if q.get("if-none-match") else Reply(
        q.query.encode(), headers=(("Cache-Control", "max-age=60"), ("Vary", "Accept-Language"), ("ETag", '"e"'),
                                   ("Content-Language", "en"))))
    w.get("/x?id=1", [("Accept-Language", "en")])
    r = w.get("/x?id=1&utm=2", [("Accept-Language", "en, de;q=0.5")])
    assert r.body == b"id=1&utm=2"
    assert origin.seen("/x")[-1].get("if-none-match") is None


def test_variants_of_this_query_are_offered(origin, start):
    says(origin)
    w = start(origin, route=ON)
    w.get("/x?id=0")
    origin.on("/x", lambda q: Reply(b"", 304, (("ETag", '"e"'),)) if q.get("if-none-match") else Reply(
        q.query.encode(), headers=(("Cache-Control", "max-age=60"), ("Vary", "X-A"), ("ETag", '"e"'),
                                   ("No-Vary-Search", UTM))))
    w.get("/x?id=1&utm=1", [("X-A", "p")])
    r = w.get("/x?id=1&utm=2", [("X-A", "q")])
    assert r.body == b"id=1&utm=1" and r.cache["fwd-status"] == 304
    for a in "pq":
        assert w.get("/x?utm=4&id=1", [("X-A", a)]).hit
    assert explain(w, "/x?id=1&utm=3")["variants"] == 2


# --- purges ---

@pytest.mark.parametrize("purged", ["/x?id=1&utm=7", "/x?id=1&utm=1", "/x?id=1"])
@pytest.mark.parametrize("soft", [False, True])
def test_a_purge_of_any_of_its_urls_reaches_it(origin, start, purged, soft):
    says(origin)
    w = start(origin, route=ON)
    w.get("/x?id=1&utm=1")
    w.get("/x?id=2&utm=1")
    assert w.purge_path(purged, soft=soft) == 1
    r = w.get("/x?id=1&utm=2")
    assert not r.hit and r.body == b"3"
    assert w.get("/x?id=2").hit and w.get("/x?id=1&utm=7").body == b"3"


@pytest.mark.parametrize("what", ["prefix", "unsafe"])
def test_other_ways_to_lose_it(origin, start, what):
    says(origin)
    w = start(origin, route=ON)
    w.get("/x?utm=1")
    if what == "prefix":
        w.purge(prefix=f"http://{HOST}/x?utm=2")
    else:
        origin.on("/x", lambda q: Reply(b"done"))
        w.request("POST", "/x?utm=2", body=b"1")
        says(origin)
    assert not w.get("/x?utm=2").hit


def test_a_purge_without_the_marker_reaches_the_url_itself(origin, start):
    """The marker has gone with the path's own url; when it is back, what is older than the purge is not used."""
    says(origin)
    w = start(origin, route=ON)
    assert w.get("/x?id=1&utm=1").body == b"1"
    w.purge_path("/x")
    assert explain(w, "/x?id=1&utm=2")["key"]["query_reduced"] is None
    assert w.purge_path("/x?id=1&utm=2") == 0
    assert w.get("/x?id=2").body == b"2"
    assert explain(w, "/x?id=1&utm=2")["key"]["query_reduced"] == "id=1"
    assert w.get("/x?id=1&utm=2").body == b"3"
    assert w.get("/x?id=1&utm=1").body == b"3"


def test_a_purge_while_it_is_fetched(origin, start):
    gate = origin.gate()
    says(origin)
    w = start(origin, route=ON)
    w.get("/x?id=0")
    says(origin, gate=gate)
    c = w.http1()
    c.send(client.build("GET", "/x?id=1&utm=1"))
    origin.wait(2, "/x")
    w.purge_path("/x?id=1&utm=2")
    gate.open()
    assert c.response().body == b"2"
    r = w.get("/x?id=1&utm=2")
    assert not r.hit and r.body == b"3"
    assert w.get("/x?id=1&utm=1").body == b"3"


@pytest.mark.parametrize("purged", ["/x?id=1&utm=7", "/x?id=1"])
def test_a_purge_reaches_all_variants_and_users(origin, start, purged):
    says(origin, life="private, max-age=60", headers=(("Vary", "X-A"),))
    w = start(origin, route={**ON, "scope": "user", "user": {"header": "Authorization"}})
    everybody = [[("Authorization", user), ("X-A", a)] for user in ("ann", "bob") for a in "pq"]
    for who in everybody:
        w.get("/x?id=1&utm=1", who)
    assert all(w.get("/x?id=1&utm=2", who).hit for who in everybody)
    assert w.purge_path(purged) == 4
    assert not any(w.get("/x?id=1&utm=3", who).hit for who in everybody)


def forget(w):
    """The path's marker goes with the path's own url."""
    w.purge_path("/x")
    assert explain(w, "/x?id=1&utm=2")["key"]["query_reduced"] is None


def purge_one(w, target, how):
    if how == "purge":
        w.purge_path(target)
    elif how == "prefix":
        w.purge(prefix=f"http://{HOST}{target}")
    else:
        assert w.request("POST", target, body=b"1").status == 200


@pytest.mark.parametrize("how", ["purge", "prefix", "unsafe"])
@pytest.mark.parametrize("known", [True, False])
def test_a_purge_of_one_url_while_another_is_fetched(origin, start, how, known):
    """Also before anything is known of the path: the answer that comes then is not for that url."""
    gate = origin.gate()
    says(origin)
    w = start(origin, route=ON)
    if known:
        w.get("/x?id=0")
    before = origin.count("/x")
    origin.on("/x", lambda q: Reply(b"%d" % origin.count("/x"), gate=gate if q.method == "GET" else None, headers=(
        ("Cache-Control", "max-age=60"), ("No-Vary-Search", UTM))))
    c = w.http1()
    c.send(client.build("GET", "/x?id=1&utm=1"))
    origin.wait(before + 1, "/x")
    purge_one(w, "/x?id=1&utm=2", how)
    gate.open()
    assert c.response().body == b"%d" % (before + 1)
    r = w.get("/x?id=1&utm=2")
    assert not r.hit and int(r.body) > before + 1
    assert w.get("/x?id=1&utm=2").body == r.body


@pytest.mark.parametrize("range", [(), (("Range", "bytes=0-3"),)])
@pytest.mark.parametrize("how", ["purge", "prefix", "unsafe"])
def test_nobody_joins_what_is_older_than_their_purge(origin, start, range, how):
    """The fetch of another of its urls is in the air, and the marker that would have led the purge there was gone."""
    parts(origin, UTM)
    w = start(origin, route=ON)
    w.get("/x?id=0")
    gate = origin.gate()
    parts(origin, UTM, body_gate=gate)
    c = w.http1()
    c.send(client.build("GET", "/x?id=1&utm=1", range))
    origin.wait(2, "/x")
    parts(origin, UTM)
    forget(w)
    if how == "unsafe":
        origin.on("/x", lambda q: Reply(b"done"))
    purge_one(w, "/x?id=1&utm=2", how)
    parts(origin, UTM)
    w.get("/x?id=9")
    n = origin.count("/x")
    d = w.http1()
    d.send(client.build("GET", "/x?id=1&utm=2", range))
    origin.wait(n + 1, "/x")
    assert d.response().body == b"2" * (4 if range else 10)
    gate.open()
    assert c.response().body == b"1" * (4 if range else 10)
    assert w.get("/x?id=1&utm=2").body == b"2" * 10


@pytest.mark.parametrize("status", [304, 500])
def test_a_purge_while_it_is_validated(origin, start, status):
    """The marker had gone: neither does what was purged stand in for an error, nor is it stored anew for that url."""
    says(origin, life="max-age=0, stale-if-error=60", headers=(("ETag", '"a"'),))
    w = start(origin, route=ON)
    assert w.get("/x?id=1&utm=1").body == b"1"
    gate = origin.gate()
    life = "max-age=60" if status == 304 else "no-store"
    origin.on("/x", lambda q: Reply(b"late", status, (("Cache-Control", life),), gate=gate))
    c = w.http1()
    c.send(client.build("GET", "/x?id=1&utm=2"))
    origin.wait(2, "/x")
    forget(w)
    assert w.purge_path("/x?id=1&utm=2") == 0
    gate.open()
    r = c.response()
    if status == 500:
        assert r.status == 500 and r.body == b"late"
    says(origin)
    w.get("/x?id=9")
    r = w.get("/x?id=1&utm=2")
    assert not r.hit and int(r.body) > 2 and r.cache.get("fwd") != "stale"


def test_explain_shows_the_reduced_query(origin, start):
    says(origin)
    w = start(origin, route=ON)
    assert explain(w, "/x?id=1&utm=1")["key"]["query_reduced"] is None
    w.get("/x?id=1&utm=1")
    e = explain(w, "/x?utm=2&id=1")
    assert e["stored"] and e["key"]["query"] == "id=1&utm=2" and e["key"]["query_reduced"] == "id=1"
    assert e["upstream_target"] == "/x?id=1&utm=2"
    assert explain(w, "/x?id=2")["stored"] is False
