"""Answers that depend on request headers (RFC 9111 section 4.1)."""
import socket

import pytest

import client
from origin import Reply


def varied(origin, vary="Accept-Language", path="/x", gate=None, headers=()):
    name = vary.split(",")[0].strip()
    origin.on(path, lambda q: Reply(f"{q.get(name)} {origin.count(path)}".encode(), gate=gate,
                                    headers=(("Vary", vary), ("Cache-Control", "max-age=60"), *headers)))


def lang(value):
    return [("Accept-Language", value)]


def test_each_value_has_a_variant_of_its_own(origin, start):
    varied(origin)
    w = start(origin)
    assert w.get("/x", lang("de")).body == b"de 1"
    r = w.get("/x", lang("en"))
    assert r.body == b"en 2" and r.cache["fwd"] in ("vary-miss", "uri-miss")
    assert w.get("/x").body == b"None 3"
    for value, body in (("de", b"de 1"), ("en", b"en 2")):
        r = w.get("/x", lang(value))
        assert r.hit and r.body == body and r.get("vary") == "Accept-Language"
    assert w.get("/x").body == b"None 3" and w.http2().get("/x", [("accept-language", "de")]).body == b"de 1"
    assert origin.count() == 3


def test_a_new_variant_is_called_a_vary_miss(origin, start):
    varied(origin)
    w = start(origin)
    w.get("/x", lang("de"))
    assert w.get("/x", lang("en")).cache["fwd"] == "vary-miss"


def test_values_that_mean_the_same_share_a_variant(origin, start):
    varied(origin)
    w = start(origin)
    w.get("/x", lang("de,en;q=0.5"))
    assert w.get("/x", lang("DE, en;q=0.5")).hit
    assert w.get("/x", [("Accept-Language", "de"), ("Accept-Language", "en;q=0.5")]).hit


def test_several_names_count_together_in_any_order(origin, start):
    origin.on("/x", lambda q: Reply(f"{q.get('x-a')} {q.get('x-b')} {origin.count()}".encode(),
                                    headers=(("Vary", "X-A, X-B" if origin.count() % 2 else "x-b,x-a"), ("Cache-Control", "max-age=60"))))
    w = start(origin)
    w.get("/x", [("X-A", "1"), ("X-B", "2")])
    w.get("/x", [("X-A", "2"), ("X-B", "1")])
    assert w.get("/x", [("X-A", "1"), ("X-B", "2")]).body == b"1 2 1"
    assert w.get("/x", [("X-B", "1"), ("X-A", "2")]).body == b"2 1 2"
    assert w.get("/x", [("X-A", "1"), ("X-B", "1")]).body == b"1 1 3"


def test_a_star_is_never_served_again(origin, start):
    varied(origin, "*")
    w = start(origin)
    assert [w.get("/x").body for _ in range(3)] == [b"None 1", b"None 2", b"None 3"]


def test_an_origin_that_changes_its_mind_is_followed(origin, start):
    names = ["X-A", "X-B"]
    origin.on("/x", lambda q: Reply(f"{q.get('x-a')} {q.get('x-b')} {origin.count()}".encode(),
                                    headers=(("Vary", names[0]), ("Cache-Control", "max-age=60"))))
    w = start(origin)
    assert w.get("/x", [("X-A", "1"), ("X-B", "1")]).body == b"1 1 1"
    names[0] = "X-B"
    assert w.get("/x", [("X-A", "2"), ("X-B", "2")]).body == b"2 2 2"
    r = w.get("/x", [("X-A", "9"), ("X-B", "2")])
    assert r.hit and r.body == b"2 2 2"
    assert w.get("/x", [("X-A", "2"), ("X-B", "3")]).body == b"2 3 3"


def test_waiters_with_other_values_get_their_own_answers(origin, start):
    """While the first fill runs nobody knows yet that the answer varies; when it turns out, those who wait for another
    value fetch their own, once for each value."""
    gate = origin.gate()
    varied(origin, gate=gate)
    w = start(origin, backend={"max_connections": 64})
    values = [f"l{i}" for i in range(5)] * 20
    h = client.Herd(w.address, [client.build("GET", "/x", lang(v)) for v in values]).go()
    origin.wait(1, "/x")
    gate.open()
    for value, r in zip(values, h.gather().answers()):
        assert r.status == 200 and r.body.split()[0] == value.encode(), (value, r)
    h.close()
    assert origin.count("/x") == 5


def test_a_known_spec_keeps_values_in_flights_of_their_own(origin, start):
    varied(origin)
    w = start(origin, backend={"max_connections": 64})
    w.get("/x", lang("first"))
    gate = origin.gate()
    varied(origin, gate=gate)
    values = [f"l{i}" for i in range(5)] * 20
    h = client.Herd(w.address, [client.build("GET", "/x", lang(v)) for v in values]).go()
    origin.wait(6, "/x")
    gate.open()
    for value, r in zip(values, h.gather().answers()):
        assert r.body.split()[0] == value.encode()
    h.close()
    assert origin.count("/x") == 6


def test_a_stale_variant_is_validated_with_its_own_validator(origin, start):
    def answer(q):
        tag = f'"{q.get("x-a")}"'
        if q.get("if-none-match"):
            assert q.get("if-none-match") == tag
            return Reply(status=304, headers=(("ETag", tag), ("Vary", "X-A"), ("Cache-Control", "no-cache")))
        return Reply(q.get("x-a").encode(), headers=(("ETag", tag), ("Vary", "X-A"), ("Cache-Control", "no-cache")))
    origin.on("/x", answer)
    w = start(origin)
    for _ in range(3):
        for value in ("1", "2"):
            r = w.get("/x", [("X-A", value)])
            assert (r.status, r.body) == (200, value.encode())
    assert [q.get("if-none-match") for q in origin.seen("/x")] == [None, None, '"1"', '"2"', '"1"', '"2"']


def test_a_purge_takes_all_variants(origin, start):
    varied(origin)
    w = start(origin)
    for value in ("de", "en"):
        w.get("/x", lang(value))
    assert w.purge_path("/x") == 2
    for value in ("de", "en"):
        assert not w.get("/x", lang(value)).hit


def test_vary_on_a_credential_outside_user_scope_is_not_shared(origin, start):
    origin.on("/x", lambda q: Reply(f"{q.get('cookie')} {origin.count()}".encode(), headers=(("Vary", "Cookie"), ("Cache-Control", "max-age=60"))))
    w = start(origin)
    for user in ("ann", "bob", "ann"):
        assert w.get("/x", [("Cookie", f"sid={user}")]).body.startswith(f"sid={user} ".encode())


def test_very_many_variants_are_all_right_and_bounded(origin, start):
    varied(origin)
    w = start(origin, memory={"size": "16mb"})
    c = w.http1()
    for i in range(500):
        assert c.get("/x", lang(f"l{i}")).body.split()[0] == f"l{i}".encode()
    assert c.get("/x", lang("l499")).body.split()[0] == b"l499"


def test_what_a_connection_field_names_chooses_no_variant(origin, start):
    """The origin never sees it: its answer must not be stored as the one for that value."""
    varied(origin)
    w = start(origin)
    assert w.get("/x", [("Connection", "Accept-Language"), *lang("de")]).body == b"None 1"
    assert w.get("/x", lang("de")).body == b"de 2"
    r = w.get("/x")
    assert r.hit and r.body == b"None 1"


def test_users_vary_by_their_credential_and_share_nothing(origin, start):
    varied(origin, vary="Authorization", headers=())
    w = start(origin, route={"scope": "user", "user": {"header": "Authorization"}})
    for who in ("a", "b"):
        assert w.get("/x", [("Authorization", who)]).body.startswith(who.encode())
        r = w.get("/x", [("Authorization", who)])
        assert r.hit and r.body.startswith(who.encode())
    assert origin.count() == 2


def test_an_absent_field_of_one_name_is_not_an_absent_field_of_another(origin, start):
    """Variant keys made under an older spec must not be taken for those of the new one."""
    vary = ["Accept-Language"]
    origin.on("/x", lambda q: Reply(f"lang={q.get('accept-language')} dev={q.get('x-device')}".encode(),
                                    headers=(("Vary", vary[0]), ("Cache-Control", "max-age=60"))))
    w = start(origin)
    w.get("/x", [("X-Device", "phone")])
    vary[0] = "X-Device"
    w.get("/x", [("X-Device", "tv"), ("Accept-Language", "de")])
    assert w.get("/x", [("Accept-Language", "fr")]).body == b"lang=fr dev=None"


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "Via"])
def test_what_weir_writes_itself_makes_no_variants(origin, start, name):
    origin.on("/x", lambda q: Reply(f"for {q.get(name)}".encode(), headers=(("Vary", name), ("Cache-Control", "max-age=60"))))
    w = start(origin)

    def get(source):
        with socket.create_connection(w.address, source_address=(source, 0)) as s:
            s.sendall(client.build("GET", "/x", [("Connection", "close")]))
            return b"".join(iter(lambda: s.recv(4096), b""))
    get("127.0.0.2")
    assert b"127.0.0.2" not in get("127.0.0.3")
    assert origin.count() == 2
