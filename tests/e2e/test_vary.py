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
    """RFC 9111 section 4.1."""
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
    """RFC 9211 section 2.2."""
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
    """RFC 9111 section 4.1."""
    varied(origin, "*")
    w = start(origin)
    assert [w.get("/x").body for _ in range(3)] == [b"None 1", b"None 2", b"None 3"]


def test_an_origin_that_changes_its_mind_is_followed(origin, start):
    """RFC 9111 section 4.1: of several stored responses the most recent."""
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
    """RFC 9111 section 4.3.1."""
    def answer(q):
        tag = f'"{q.get("x-a")}"'
        if q.get("if-none-match") == tag:
            return Reply(status=304, headers=(("ETag", tag), ("Vary", "X-A"), ("Cache-Control", "no-cache")))
        return Reply(q.get("x-a").encode(), headers=(("ETag", tag), ("Vary", "X-A"), ("Cache-Control", "no-cache")))
    origin.on("/x", answer)
    w = start(origin)
    for _ in range(3):
        for value in ("1", "2"):
            r = w.get("/x", [("X-A", value)])
            assert (r.status, r.body) == (200, value.encode())
    assert [q.get("if-none-match") for q in origin.seen("/x")] == [None, '"1"', '"1"', '"2"', '"1"', '"2"']


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
    """The origin never sees it: its answer must not be stored as the one for that value. RFC 9110 section 7.6.1."""
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


# Weighted lists (RFC 9110 sections 12.4.2 and 12.5) and choosing among variants (RFC 9111 sections 4.1 and 4.3.1).

def encoding(value):
    return [("Accept-Encoding", value)]


def negotiating(origin, choose, path="/x", vary="Accept-Language", **reply):
    """choose(request) -> (body, headers) of the representation that fits it."""
    def answer(q):
        body, headers = choose(q)
        tag = dict(headers).get("ETag")
        headers = (("Vary", vary), ("Cache-Control", "max-age=60"), *headers)
        if tag and tag in [t.strip() for t in q.get("if-none-match", "").split(",")]:
            return Reply(status=304, headers=headers, **reply)
        return Reply(body, headers=headers, **reply)
    origin.on(path, answer)


@pytest.mark.parametrize("name,first,others", [
    ("Accept-Language", "en, de", ["de,en", " DE ,\ten", "en;q=1, de;q=1.000", "de, en, de"]),
    ("Accept-Language", "de, en;q=0.5, fr;q=0", ["fr;q=0.0,en;q=0.50,de"]),
    ("Accept-Encoding", "gzip, br", ["br, x-gzip"]),
    ("Accept", "text/html, a/b;q=0.5", ["Text/HTML,A/B ; q=0.5"]),
])
def test_lists_that_mean_the_same_share_a_variant(origin, start, name, first, others):
    """RFC 9111 section 4.1."""
    varied(origin, vary=name)
    w = start(origin)
    w.get("/x", [(name, first)])
    assert all(w.get("/x", [(name, other)]).hit for other in others)
    assert w.get("/x", [(name, v) for v in first.split(",")]).hit
    assert origin.count() == 1


@pytest.mark.parametrize("name,first,other", [
    ("Accept-Language", "en, de", "en, de;q=0.9"),
    ("Accept-Language", "en", "en, de;q=0"),
    ("Accept-Encoding", "gzip;level=1", "GZIP;level=1"),
    ("Accept-Encoding", "", None),
    ("Accept", "a/b, c/d", "c/d, a/b"),
])
def test_lists_that_mean_something_else_do_not(origin, start, name, first, other):
    """RFC 9111 section 4.1."""
    origin.on("/x", lambda q: Reply(f"{q.get(name)}".encode(), headers=(("Vary", name), ("Cache-Control", "max-age=60"), ("Content-Encoding", "any"))))
    w = start(origin)
    w.get("/x", [(name, first)])
    r = w.get("/x", [(name, other)] if other is not None else [])
    assert not r.hit and r.body == str(other).encode()


def test_the_one_language_wanted_most_is_taken_from_what_is_stored(origin, start):
    """RFC 9111 section 4.1, RFC 9110 section 12.5.4."""
    negotiating(origin, lambda q: (f"for {q.get('accept-language')}".encode(), [("Content-Language", "de")]))
    w = start(origin)
    w.get("/x", lang("en, de"))
    r = w.get("/x", lang("fr;q=0.5, de;q=1.0"))
    assert r.hit and r.body == b"for en, de"
    for other in ("de, fr", "de;q=0.4, fr;q=0.5", "*"):
        assert w.get("/x", lang(other)).body == b"for " + other.encode()


def test_a_coding_wanted_most_is_taken_from_what_is_stored(origin, start):
    """RFC 9111 section 4.1, RFC 9110 section 12.5.3."""
    def choose(q):
        coding = "gzip" if "gzip" in q.get("accept-encoding", "") else None
        return f"{coding} for {q.get('accept-encoding')}".encode(), [("Content-Encoding", coding)] if coding else []
    negotiating(origin, choose, vary="Accept-Encoding")
    w = start(origin)
    w.get("/x", encoding("gzip"))
    r = w.get("/x", encoding("br, gzip"))
    assert r.hit and r.body == b"gzip for gzip"
    assert w.get("/x", encoding("br, gzip;q=0.5")).body == b"gzip for br, gzip;q=0.5"
    assert w.get("/x", encoding("br")).body == b"None for br"
    r = w.get("/x")  # the plain one: who says nothing may not understand a coding
    assert r.hit and r.body == b"None for br"


def test_a_variant_of_another_value_elsewhere_is_not_taken(origin, start):
    negotiating(origin, lambda q: (f"{q.get('origin')}".encode(), [("Content-Language", "de")]), vary="Accept-Language, Origin")
    w = start(origin)
    w.get("/x", [*lang("en, de"), ("Origin", "a")])
    assert w.get("/x", [*lang("de"), ("Origin", "b")]).body == b"b"
    assert w.get("/x", [*lang("de"), ("Origin", "a")]).hit


def test_what_was_taken_is_validated_once_stale_and_then_has_a_variant_of_its_own(origin, start):
    negotiating(origin, lambda q: (b"deutsch", [("Content-Language", "de"), ("ETag", '"de"'), ("Cache-Control", "no-cache")]))
    w = start(origin)
    w.get("/x", lang("en, de"))
    r = w.get("/x", lang("de"))
    assert r.body == b"deutsch" and r.cache["fwd"] == "stale" and r.cache["fwd-status"] == 304
    assert w.figures()["memory"]["objects"] == 2


def test_the_tags_of_all_variants_are_offered_and_the_one_named_is_used(origin, start):
    """Representations are fewer than values: two user agents get the same one. RFC 9111 sections 4.3.1 and 4.3.4."""
    negotiating(origin, lambda q: (q.get("x-agent")[0].encode() * 100_000, [("ETag", f'"{q.get("x-agent")[0]}"'), ("X-Count", str(origin.count()))]),
                vary="X-Agent")
    w = start(origin)

    def get(agent):
        return w.get("/x", [("X-Agent", agent)])
    assert get("a1").body == b"a" * 100_000 and get("b1").body == b"b" * 100_000
    r = get("a2")
    assert (r.status, r.body, r.get("x-count")) == (200, b"a" * 100_000, "3")
    assert r.cache["fwd"] == "vary-miss" and r.cache["fwd-status"] == 304
    assert origin.seen("/x")[-1].get("if-none-match") == '"b", "a"'
    r = get("a2")
    assert r.hit and r.body == b"a" * 100_000
    assert get("c1").body == b"c" * 100_000 and origin.count() == 4
    for agent in ("a1", "b1", "a2", "c1"):
        r = get(agent)
        assert r.hit and r.body == agent[0].encode() * 100_000
    f = w.figures()["requests"]
    assert f["revalidated"] == 1 and f["miss"] == 3


def test_a_weak_tag_that_a_304_names_is_found(origin, start):
    """More lenient than RFC 9111 section 4.3.4, by which a strong tag names a strong one alone."""
    def answer(q):
        headers = (("Vary", "X-A"), ("Cache-Control", "max-age=60"))
        if q.get("if-none-match"):
            return Reply(status=304, headers=(*headers, ("ETag", '"1"')))
        return Reply(b"one", headers=(*headers, ("ETag", 'W/"1"')))
    origin.on("/x", answer)
    w = start(origin)
    w.get("/x", [("X-A", "1")])
    r = w.get("/x", [("X-A", "2")])
    assert r.body == b"one" and r.cache["fwd-status"] == 304 and origin.seen()[-1].get("if-none-match") == 'W/"1"'


@pytest.mark.parametrize("etag", [None, '"other"'])
def test_a_304_that_names_none_of_them_is_asked_again_without(origin, start, etag):
    """RFC 9111 section 4.3.4, but that a single one which was offered needs no tag."""
    def answer(q):
        headers = (("Vary", "X-A"), ("Cache-Control", "max-age=60"))
        if q.get("if-none-match"):
            return Reply(status=304, headers=(*headers, ("ETag", etag)) if etag else headers)
        return Reply(q.get("x-a").encode(), headers=(*headers, ("ETag", f'"{q.get("x-a")}"')))
    origin.on("/x", answer)
    w = start(origin)
    first = [w.get("/x", [("X-A", value)]).body for value in "12"]
    if etag is None:  # one tag was offered: nothing else can be meant
        assert first == [b"1", b"1"] and origin.count() == 2
        return
    assert first == [b"1", b"2"]
    assert [q.get("if-none-match") for q in origin.seen()] == [None, '"1"', None]
    assert w.get("/x", [("X-A", "3")]).body == b"3"  # "1" is withdrawn, "2" offered
    assert [q.get("if-none-match") for q in origin.seen()][3:] == ['"2"', None]
    assert all(w.get("/x", [("X-A", value)]).hit for value in "123")


def test_a_304_that_does_not_say_which_of_several_it_means_is_asked_again_without(origin, start):
    """RFC 9111 section 4.3.4."""
    silent = []

    def answer(q):
        headers = (("Vary", "X-A"), ("Cache-Control", "max-age=60"))
        if silent and q.get("if-none-match"):
            return Reply(status=304, headers=headers)
        return Reply(q.get("x-a").encode(), headers=(*headers, ("ETag", f'"{q.get("x-a")}"')))
    origin.on("/x", answer)
    w = start(origin)
    for value in "12":
        w.get("/x", [("X-A", value)])
    silent.append(True)
    assert w.get("/x", [("X-A", "3")]).body == b"3"
    assert [q.get("if-none-match") for q in origin.seen()][2:] == ['"2", "1"', None]
    assert all(w.get("/x", [("X-A", value)]).hit for value in "123")


def test_a_compressed_form_with_the_tag_of_the_plain_one_reaches_nobody_who_does_not_take_it(origin, start):
    """RFC 9110 section 8.8.3.3 forbids it of strong tags, and many origins do it."""
    def choose(q):
        coding = "gzip" if "gzip" in q.get("accept-encoding", "") else None
        return str(coding).encode(), [("ETag", 'W/"same"')] + ([("Content-Encoding", coding)] if coding else [])
    negotiating(origin, choose, vary="Accept-Encoding")
    w = start(origin)
    assert w.get("/x", encoding("gzip")).body == b"gzip"
    assert w.get("/x").body == b"None"
    assert w.get("/x", encoding("br")).body == b"None"
    assert [q.get("if-none-match") for q in origin.seen()] == [None, None, 'W/"same"']


def test_another_language_or_format_with_the_same_tag_is_not_taken(origin, start):
    negotiating(origin, lambda q: (f"{q.get('accept-language')} {q.get('accept')}".encode(),
                                   [("ETag", '"same"'), ("Content-Language", q.get("accept-language"))]), vary="Accept-Language, Accept")
    w = start(origin)
    for language in ("de", "en"):
        for accept in ("text/html", "application/json"):
            assert w.get("/x", [*lang(language), ("Accept", accept)]).body == f"{language} {accept}".encode()
    assert origin.count() == 4


def test_a_clients_own_condition_is_not_offered_but_answered(origin, start):
    """RFC 9111 section 4.3.2."""
    negotiating(origin, lambda q: (b"one", [("ETag", '"1"')]), vary="X-A")
    w = start(origin)
    w.get("/x", [("X-A", "1")])
    r = w.get("/x", [("X-A", "2"), ("If-None-Match", '"mine", "1"')])
    assert r.status == 304 and origin.seen()[-1].get("if-none-match") == '"1"'
    r = w.get("/x", [("X-A", "3"), ("If-None-Match", '"mine"')])
    assert r.status == 200 and r.body == b"one"


def test_waiters_share_what_a_304_confirmed(origin, start):
    gate = origin.gate()
    gates = [None]
    origin.on("/x", lambda q: Reply(status=304, gate=gates[0], headers=(("ETag", '"1"'), ("Vary", "X-A"), ("Cache-Control", "max-age=60")))
              if q.get("if-none-match") else Reply(b"one", headers=(("ETag", '"1"'), ("Vary", "X-A"), ("Cache-Control", "max-age=60"))))
    w = start(origin)
    w.get("/x", [("X-A", "1")])
    gates[0] = gate
    h = client.Herd(w.address, [client.build("GET", "/x", [("X-A", "2")])] * 30).go()
    origin.wait(2, "/x")
    gate.open()
    assert all(r.status == 200 and r.body == b"one" for r in h.gather().answers())
    h.close()
    assert origin.count() == 2


def test_a_failing_origin_makes_no_other_variant_stand_in(origin, start):
    """RFC 9111 section 4.1, RFC 5861 section 4."""
    broken = []
    origin.on("/x", lambda q: Reply(b"down", 503) if broken else
              Reply(q.get("x-a").encode(), headers=(("ETag", '"1"'), ("Vary", "X-A"), ("Cache-Control", "max-age=60, stale-if-error=60"))))
    w = start(origin)
    w.get("/x", [("X-A", "1")])
    broken.append(True)
    r = w.get("/x", [("X-A", "2")])
    assert r.status == 503 and r.body == b"down"


def test_what_users_vary_on_is_offered_to_nobody_else(origin, start):
    """Vary names the credential: whose a variant was is not to be guessed from a tag."""
    negotiating(origin, lambda q: (f"{q.get('cookie')}".encode(), [("ETag", '"same"'), ("Content-Language", "de")]), vary="Cookie, Accept-Language")
    w = start(origin, route={"scope": "user", "user": {"cookie": "sid"}})
    for cookie in ("sid=ann", "sid=bob", "sid=bob; theme=dark", "theme=dark"):
        for language in ("de, en", "de"):
            assert w.get("/x", [("Cookie", cookie), *lang(language)]).body == cookie.encode()
    assert all(q.get("if-none-match") is None for q in origin.seen())


def test_one_users_variants_are_not_offered_for_another(origin, start):
    negotiating(origin, lambda q: (f"{q.get('authorization')}".encode(), [("ETag", '"same"'), ("Content-Language", "de")]))
    w = start(origin, route={"scope": "user", "user": {"header": "Authorization"}})
    for who in ("ann", "bob"):
        assert w.get("/x", [("Authorization", who), *lang("de, en")]).body == who.encode()
        assert w.get("/x", [("Authorization", who), *lang("de")]).body == who.encode()
        assert w.get("/x", [("Authorization", who), *lang("fr, de;q=0.1")]).body == who.encode()
    assert [q.get("if-none-match") for q in origin.seen()] == [None, '"same"'] * 2


def objects(w):
    return w.figures()["memory"]["objects"]


def test_sixteen_variants_are_kept_and_the_seventeenth_takes_the_place_of_the_least_used(origin, start):
    varied(origin)
    w = start(origin)
    for i in range(16):
        w.get("/x", lang(f"l{i}"))
    assert objects(w) == 16
    assert all(w.get("/x", lang(f"l{i}")).hit for i in range(16) if i != 7)
    w.get("/x", lang("l16"))
    assert objects(w) == 16
    assert all(w.get("/x", lang(f"l{i}")).hit for i in range(17) if i != 7)
    assert not w.get("/x", lang("l7")).hit


def test_variants_that_come_at_once_are_bounded_too(origin, start):
    varied(origin)
    w = start(origin, backend={"max_connections": 256})
    w.get("/x", lang("first"))
    for r in range(3):
        values = [f"l{r}-{i}" for i in range(60)]
        for value, answer in zip(values, client.herd(w.address, [client.build("GET", "/x", lang(v)) for v in values])):
            assert answer.body.split()[0] == value.encode()
        origin.wait_idle()
        assert objects(w) == 16


def test_new_names_leave_no_old_variants_behind(origin, start):
    vary = ["X-A"]
    origin.on("/x", lambda q: Reply(f"{q.get('x-a')} {q.get('x-b')}".encode(), headers=(("Vary", vary[0]), ("Cache-Control", "max-age=60"))))
    w = start(origin)
    for i in range(5):
        w.get("/x", [("X-A", str(i)), ("X-B", "0")])
    assert objects(w) == 5
    vary[0] = "X-B"
    w.get("/x", [("X-A", "9"), ("X-B", "1")])
    assert objects(w) == 1
    vary[0] = "X-A"
    w.get("/x", [("X-A", "9"), ("X-B", "2")])
    assert w.get("/x", [("X-A", "3"), ("X-B", "3")]).body == b"3 3"


def test_very_long_values_have_variants_too(origin, start):
    origin.on("/x", lambda q: Reply(q.get("x-a")[-3:].encode(), headers=(("ETag", '"same"'), ("Vary", "X-A"), ("Cache-Control", "max-age=60"))))
    w = start(origin)
    for _ in range(2):
        for end in ("one", "two"):
            assert w.get("/x", [("X-A", "v" * 3000 + end)]).body == end.encode()
    assert origin.count() == 2 and all(q.get("if-none-match") is None for q in origin.seen())


def test_seventeen_names_are_too_many(origin, start):
    for n in (16, 17):
        names = ", ".join(f"X-{i}" for i in range(n))
        origin.on(f"/{n}", headers=(("Vary", names), ("Cache-Control", "max-age=60")))
    w = start(origin)
    for n in (16, 17):
        w.get(f"/{n}")
        assert w.get(f"/{n}").hit == (n == 16)


def test_explain_says_what_responses_vary_on(origin, start):
    varied(origin, "Origin, Accept-Language")
    w = start(origin)
    w.get("/x", lang("de"))
    e = w.admin("GET", "/explain?url=http%3A%2F%2Fapi.test%2Fx").body
    assert b'"variants_by":"accept-language,origin"' in e.replace(b'": ', b'":') and b'"variants":1' in e.replace(b'": ', b'":')
    assert b'"stored":false' in e.replace(b'": ', b'":')


@pytest.mark.parametrize("soft", [False, True])
def test_what_is_purged_while_its_tag_is_offered_is_not_used(origin, start, soft):
    gates = [None]
    origin.on("/x", lambda q: Reply(status=304, gate=gates[0], headers=(("ETag", '"1"'), ("Vary", "X-A"), ("Cache-Control", "max-age=60")))
              if q.get("if-none-match") else
              Reply(str(origin.count()).encode(), headers=(("ETag", '"1"'), ("Vary", "X-A"), ("Cache-Control", "max-age=60"))))
    w = start(origin)
    w.get("/x", [("X-A", "1")])
    gates[0] = gate = origin.gate()
    c = w.http1()
    c.send(client.build("GET", "/x", [("X-A", "2")]))
    origin.wait(2, "/x")
    w.purge_path("/x", soft=soft)
    gate.open()
    assert c.response().body == b"3"
    assert [q.get("if-none-match") for q in origin.seen()] == [None, '"1"', None]
    r = w.get("/x", [("X-A", "2")])
    assert r.hit and r.body == b"3"


def test_what_asks_for_a_range_offers_nothing(origin, start):
    origin.on("/x", lambda q: Reply(b"0123456789", headers=(("ETag", '"1"'), ("Vary", "X-A"), ("Cache-Control", "max-age=60"))))
    w = start(origin)
    w.get("/x", [("X-A", "1")])
    r = w.get("/x", [("X-A", "2"), ("Range", "bytes=2-4")])
    assert r.status == 206 and r.body == b"234"
    assert all(q.get("if-none-match") is None for q in origin.seen())
    assert objects(w) == 2
