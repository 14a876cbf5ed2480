"""Nothing stored for one user is ever given to another."""
import random
import threading

import pytest

import client
from origin import Reply

MINUTE = (("Cache-Control", "max-age=60"),)
PRIVATE = (("Cache-Control", "private, max-age=60"),)


def by_user(origin, headers=PRIVATE):
    origin.default = lambda q: Reply(f"for {q.get('authorization')} {q.get('cookie')}: {origin.count()}".encode(), headers=headers)


def token(user):
    return [("Authorization", f"Bearer {user}")]


def test_a_user_route_keeps_private_answers_for_each_user_apart(origin, start):
    """RFC 9111 section 5.2.2.7."""
    by_user(origin)
    w = start(origin, route={"scope": "user", "user": {"header": "Authorization"}})
    for _ in range(2):
        for user in ("ann", "bob"):
            assert f"Bearer {user} ".encode() in w.get("/x", token(user)).body
        assert b"for None" in w.get("/x").body
    assert origin.count() == 3
    assert w.get("/x", token("ann")).hit and w.get("/x").hit


def test_a_user_may_be_told_by_a_cookie(origin, start):
    by_user(origin)
    w = start(origin, route={"scope": "user", "user": {"cookie": "sid"}, "ignore_cookies": True})
    for _ in range(2):
        for user in ("ann", "bob"):
            r = w.get("/x", [("Cookie", f"theme=dark; sid={user}")])
            assert f"sid={user}:".encode() in r.body
    assert origin.count() == 2
    assert w.get("/x", [("Cookie", "sid=ann; theme=light")]).hit, "another cookie does not make another user"


def test_the_whole_credential_counts(origin, start):
    by_user(origin)
    w = start(origin, route={"scope": "user", "user": {"header": "Authorization"}})
    long = "a" * 3000
    for one, two in (("x", "x "), ("abc", "abd"), (long + "1", long + "2")):
        w.get("/y", token(one))
        if one.strip() != two.strip():
            assert not w.get("/y", token(two)).hit
    assert not w.get("/y", [("Authorization", "Basic abc")]).hit


def test_auto_is_shared_without_a_credential_and_the_users_own_with_one(origin, start):
    by_user(origin, MINUTE)
    w = start(origin, route={"scope": "auto", "user": {"header": "Authorization"}})
    assert w.get("/x").body == w.get("/x").body
    ann = w.get("/x", token("ann"))
    assert not ann.hit and b"ann" in ann.body
    assert w.get("/x", token("ann")).hit
    assert not w.get("/x", token("bob")).hit
    assert b"None" in w.get("/x").body and w.get("/x").hit


def test_auto_does_not_store_private_answers_for_everybody(origin, start):
    """RFC 9111 section 5.2.2.7."""
    by_user(origin, PRIVATE)
    w = start(origin, route={"scope": "auto", "user": {"header": "Authorization"}})
    w.get("/x")
    assert not w.get("/x").hit


def test_requests_with_authorization_bypass_a_shared_route(origin, start):
    """RFC 9111 section 3.5."""
    by_user(origin, MINUTE)
    w = start(origin)
    for user in ("ann", "bob", "ann"):
        r = w.get("/x", token(user))
        assert f"Bearer {user} ".encode() in r.body
        assert r.cache["fwd"] == "bypass" and r.cache["detail"] == "scope", r
    assert origin.count() == 3
    assert b"None" in w.get("/x").body, "nor do they feed it"
    assert b"None" in w.get("/x").body


@pytest.mark.parametrize("control, shared", [
    ("public, max-age=60", True), ("s-maxage=60", True), ("must-revalidate, max-age=60", True), ("max-age=60", False), ("private, max-age=60", False),
])
def test_the_origin_may_say_that_authorization_does_not_matter(origin, start, control, shared):
    """RFC 9111 section 3.5."""
    origin.default = lambda q: Reply(b"the same for all", headers=(("Cache-Control", control),))
    w = start(origin)
    w.get("/x", token("ann"))
    assert w.get("/x", token("bob")).hit == shared
    w.get("/y")
    assert w.get("/y", token("bob")).hit == shared


def test_requests_with_a_cookie_bypass_a_shared_route_without_explicit_lifetime(origin, start):
    by_user(origin, ())
    w = start(origin, route={"ttl": "t", "ignore_cookies": ["_ga*"]}, ttl={"t": "1m"})
    w.get("/x")
    assert w.get("/x").hit and w.get("/x", [("Cookie", "_ga_1=2")]).hit
    for _ in range(2):
        r = w.get("/x", [("Cookie", "sid=ann")])
        assert b"sid=ann" in r.body and r.cache["fwd"] == "bypass", r
    assert b"None" in w.get("/x").body
    w.get("/y", [("Cookie", "sid=ann")])
    assert b"None" in w.get("/y").body


def test_an_explicit_lifetime_makes_a_cookie_harmless(origin, start):
    origin.default = lambda q: Reply(b"same", headers=MINUTE)
    w = start(origin)
    w.get("/x", [("Cookie", "sid=ann")])
    assert w.get("/x", [("Cookie", "sid=bob")]).hit


def test_all_cookies_may_be_ignored(origin, start):
    origin.default = lambda q: Reply(b"same")
    w = start(origin, route={"ttl": "t", "ignore_cookies": True}, ttl={"t": "1m"})
    w.get("/x", [("Cookie", "sid=ann")])
    assert w.get("/x", [("Cookie", "sid=bob")]).hit


def test_a_personal_request_never_joins_anothers_fetch(origin, start):
    gate = origin.gate()
    origin.default = lambda q: Reply(f"for {q.get('authorization')}".encode(), headers=MINUTE, gate=gate)
    w = start(origin)
    users = [None, "ann", "bob", "ann", None]
    h = client.Herd(w.address, [client.build("GET", "/x", token(u) if u else []) for u in users]).go()
    origin.wait(4)
    gate.open()
    for user, r in zip(users, h.gather().answers()):
        assert r.body == f"for {'Bearer ' + user if user else None}".encode()
    h.close()


def test_a_private_verdict_during_a_shared_flight_lets_everybody_fetch_alone(origin, start):
    """RFC 9111 section 4: collapsed requests for which the response cannot be used."""
    gate = origin.gate()
    origin.default = lambda q: Reply(b"%d" % origin.count(), headers=(("Cache-Control", "private"),), gate=gate if origin.count() == 1 else None)
    w = start(origin)
    h = client.Herd(w.address, [client.build("GET", "/x")] * 30).go()
    origin.wait(1)
    gate.open()
    bodies = [r.body for r in h.gather().answers()]
    assert len(set(bodies)) == 30, "an answer for one was given to another"
    h.close()


def test_unsafe_requests_invalidate_for_all_users(origin, start):
    """RFC 9111 section 4.4."""
    by_user(origin)
    w = start(origin, route={"scope": "user", "user": {"header": "Authorization"}})
    for user in ("ann", "bob"):
        w.get("/x", token(user))
        assert w.get("/x", token(user)).hit
    w.request("POST", "/x", token("ann"), b"like")
    for user in ("ann", "bob"):
        assert not w.get("/x", token(user)).hit


def test_credentials_are_nowhere_to_be_seen(origin, start):
    origin.default = lambda q: Reply(b"x", headers=PRIVATE)
    w = start(origin, route={"scope": "user", "user": {"header": "Authorization"}}, log={"access": "access.log", "level": "debug"})
    secret = "s3cr3tcredential"
    for _ in range(2):
        w.get("/x", token(secret) + [("Cookie", f"sid={secret}")])
    explained = w.admin("GET", "/explain?url=http://api.test/x&method=GET")
    w.terminate()
    with open(w.dir + "/access.log", encoding="utf-8") as f:
        log = f.read()
    assert "/x" in log and secret not in log and secret not in w.stderr and secret.encode() not in explained.body


USERS = [f"user-{i}" for i in range(30)]


def test_30_users_and_3000_mixed_requests_over_http1_are_30_fetches(origin, start):
    origin.default = lambda q: Reply(f"for {q.get('authorization')} ".encode() * 50, headers=PRIVATE, delay=0.2)
    w = start(origin, route={"scope": "user", "user": {"header": "Authorization"}}, backend={"max_connections": 64})
    order = USERS * 100
    random.Random(7).shuffle(order)
    faults = []

    def client_thread(users):
        for at in range(0, len(users), 250):
            part = users[at:at + 250]
            for user, r in zip(part, client.herd(w.address, [client.build("GET", "/x", token(u)) for u in part])):
                if r is None or r.status != 200 or r.body != f"for Bearer {user} ".encode() * 50:
                    faults.append((user, r))
    threads = [threading.Thread(target=client_thread, args=(order[i::3],)) for i in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults, faults[:5]
    assert origin.count() == 30


def test_30_users_and_3000_requests_over_one_http2_connection_each_are_30_fetches(origin, start):
    gate = origin.gate()
    origin.default = lambda q: Reply(f"for {q.get('authorization')} ".encode() * 50, headers=PRIVATE, gate=gate)
    w = start(origin, route={"scope": "user", "user": {"header": "Authorization"}}, backend={"max_connections": 64})
    connections = {u: w.http2() for u in USERS}
    sids = {u: [connections[u].start("GET", "/x", [("authorization", f"Bearer {u}")]) for _ in range(100)] for u in USERS}
    origin.wait(30)
    gate.open()
    for user in USERS:
        for r in connections[user].results(sids[user]):
            assert r.status == 200 and r.clean and r.body == f"for Bearer {user} ".encode() * 50, (user, r)
    assert origin.count() == 30


def test_one_http2_connection_may_carry_many_users(origin, start):
    origin.default = lambda q: Reply(f"for {q.get('authorization')}".encode(), headers=PRIVATE, delay=0.05)
    w = start(origin, route={"scope": "user", "user": {"header": "Authorization"}})
    c = w.http2()
    order = USERS * 3
    random.Random(11).shuffle(order)
    sids = [c.start("GET", "/x", [("authorization", f"Bearer {u}")]) for u in order]
    for user, r in zip(order, c.results(sids)):
        assert r.body == f"for Bearer {user}".encode()
    assert origin.count() == 30


@pytest.mark.parametrize("first,second", [("sid=ann", None), ("sid=ann", "sid=bob"), (None, "sid=bob")])
def test_a_private_answer_without_the_credential_is_not_for_other_cookies(origin, start, first, second):
    """The key says "anonymous" for all of them: what one of them was given is personal by its cookie, which it does not hold."""
    by_user(origin)
    w = start(origin, route={"scope": "user", "user": {"header": "Authorization"}})
    for cookie in (first, second):
        r = w.get("/me", [("Cookie", cookie)] if cookie else [])
        assert r.body.startswith(b"for None %s:" % str(cookie).encode()), r


def test_all_cookies_of_the_identity_s_name_count(origin, start):
    """An origin that takes the last of two, and a browser that somebody has given a second one."""
    def who(q):
        return [p.split("=")[1] for p in q.get("cookie").split("; ") if p.startswith("sid=")][-1]
    origin.default = lambda q: Reply(f"account of {who(q)}".encode(), headers=PRIVATE)
    w = start(origin, route={"scope": "user", "user": {"cookie": "sid"}})
    assert w.get("/me", [("Cookie", "sid=mallory; sid=victim")]).body == b"account of victim"
    assert w.get("/me", [("Cookie", "sid=mallory")]).body == b"account of mallory"
    assert w.get("/me", [("Cookie", "a=b; sid=mallory")]).hit


@pytest.mark.parametrize("scope", ["user", "auto"])
def test_an_empty_first_line_hides_no_identity(origin, start, scope):
    origin.default = lambda q: Reply(f"account of {q.all('x-api-key')}".encode(),
                                     headers=PRIVATE if scope == "user" else MINUTE)
    w = start(origin, route={"scope": scope, "user": {"header": "X-Api-Key"}})
    assert b"alice" in w.get("/me", [("X-Api-Key", ""), ("X-Api-Key", "alice")]).body
    assert b"alice" not in w.get("/me").body
    assert b"alice" not in w.get("/me", [("X-Api-Key", "")]).body
