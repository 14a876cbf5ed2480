"""No-Vary-Search in the keys of later requests (draft-ietf-httpbis-no-vary-search section 5), where a route says so."""
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
    says(origin, field)
    w = start(origin, route=ON)
    w.get("/x?id=1")
    assert w.get(same).hit
    assert other is None or not w.get(other).hit


@pytest.mark.parametrize("field", ["params=?0", 'params=("utm"', 'params=(utm)', "params=1", 'params=("%s")' % ("u" * 2000)])
def test_a_field_without_effect(origin, start, field):
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
    """The error page of another query does not take the policy away, nor is it anybody else's."""
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


def test_explain_shows_the_reduced_query(origin, start):
    says(origin)
    w = start(origin, route=ON)
    assert explain(w, "/x?id=1&utm=1")["key"]["query_reduced"] is None
    w.get("/x?id=1&utm=1")
    e = explain(w, "/x?utm=2&id=1")
    assert e["stored"] and e["key"]["query"] == "id=1&utm=2" and e["key"]["query_reduced"] == "id=1"
    assert e["upstream_target"] == "/x?id=1&utm=2"
    assert explain(w, "/x?id=2")["stored"] is False
