"""What makes two requests the same."""
import ssl

import pytest

from origin import Reply
from weir import free_port

MINUTE = (("Cache-Control", "max-age=60"),)


def echo(origin):
    origin.default = lambda q: Reply(f"{origin.count()} {q.get('host')} {q.target}".encode(), headers=MINUTE)


def same(w, origin, first, second, headers=((), ()), **kw):
    """Are the two requests one to the cache? (And never mixed up.)"""
    before = origin.count()
    w.get(first, list(headers[0]), **kw)
    assert origin.count() == before + 1, "the first of them was stored already"
    r = w.get(second, list(headers[1]), **kw)
    assert r.status == 200
    assert r.hit == (origin.count() == before + 1)
    return r.hit


def test_the_whole_query_counts_by_default_sorted_by_name(origin, start):
    echo(origin)
    w = start(origin)
    assert same(w, origin, "/x?b=2&a=1", "/x?a=1&b=2")
    assert not same(w, origin, "/x?a=1&b=3", "/x?a=1&b=4")
    assert not same(w, origin, "/z?a=1&a=2", "/z?a=2&a=1"), "the order among equals may matter"
    assert not same(w, origin, "/q?a", "/q?a=1")
    assert not same(w, origin, "/r?A=1", "/r?a=1")


def test_no_query_counts_when_told_so(origin, start):
    echo(origin)
    w = start(origin, route={"key": {"query": "none"}})
    assert same(w, origin, "/x?a=1", "/x?b=2")
    assert w.get("/x").hit
    assert origin.seen()[0].target == "/x", "what does not count does not go upstream either"


def test_only_the_named_parameters_count(origin, start):
    echo(origin)
    w = start(origin, route={"key": {"query": ["page", "limit"]}})
    assert same(w, origin, "/x?page=1&x=1", "/x?y=2&page=1")
    assert not same(w, origin, "/y?page=1", "/y?page=2")
    assert origin.seen("/x")[0].target == "/x?page=1"


def test_the_excepted_parameters_do_not_count(origin, start):
    echo(origin)
    w = start(origin, route={"key": {"query": {"except": ["utm_*", "fbclid"]}}})
    assert same(w, origin, "/x?a=1&utm_source=q&fbclid=1", "/x?utm_medium=z&a=1")
    assert not same(w, origin, "/y?fbclid_=1", "/y?fbclid_=2")
    assert not same(w, origin, "/z?utm=1", "/z?utm=2")
    assert "utm" not in origin.seen("/x")[0].target


def test_named_headers_count_and_others_do_not(origin, start):
    echo(origin)
    w = start(origin, route={"key": {"headers": ["Accept-Language"]}})
    assert not same(w, origin, "/x", "/x", ([("Accept-Language", "de")], [("Accept-Language", "en")]))
    assert same(w, origin, "/y", "/y", ([("X-A", "1")], [("X-A", "2")]))
    assert same(w, origin, "/z", "/z", ([("Accept-Language", "de")], [("accept-language", "de")]))
    assert not same(w, origin, "/q", "/q", ([], [("Accept-Language", "en")]))


def test_named_cookies_count_and_ignored_ones_do_not(origin, start):
    echo(origin)
    w = start(origin, route={"key": {"cookies": ["currency"]}, "ignore_cookies": ["_ga*"]})
    assert not same(w, origin, "/x", "/x", ([("Cookie", "currency=EUR")], [("Cookie", "currency=USD")]))
    assert same(w, origin, "/y", "/y", ([("Cookie", "currency=EUR; _ga_1=2")], [("Cookie", "_gat=3; currency=EUR")]))
    assert not same(w, origin, "/z", "/z", ([("Cookie", "currency=EUR")], []))


def test_a_value_cannot_be_made_to_look_like_two(origin, start):
    echo(origin)
    w = start(origin, route={"key": {"headers": ["X-A", "X-B"]}})
    for one, two in (([("X-A", "1"), ("X-B", "23")], [("X-A", "12"), ("X-B", "3")]), ([("X-A", "1")], [("X-B", "1")])):
        assert not same(w, origin, f"/{len(one)}", f"/{len(one)}", (one, two))


@pytest.mark.parametrize("one, two, equal", [
    ("/%7euser", "/~user", True), ("/a%2db", "/a-b", True), ("/a/./b", "/a/b", True), ("/a/x/../b", "/a/b", True),
    ("/a/%2e%2e/b", "/b", True), ("/%e4", "/%E4", True), ("/a%2fb", "/a/b", False), ("/a%2Fb", "/a%2fb", True), ("/a;b", "/a", False),
    ("/a//b", "/a/b", False), ("/A", "/a", False), ("/a/", "/a", False), ("/a%20b", "/a+b", False), ("/?a=%7e", "/?a=~", True),
    ("/?a=%2f", "/?a=/", False),
])
def test_paths_are_compared_in_canonical_form(origin, start, one, two, equal):
    echo(origin)
    w = start(origin)
    assert same(w, origin, one, two) == equal


def test_the_canonical_form_is_what_goes_upstream(origin, start):
    echo(origin)
    w = start(origin)
    for sent, arrives in (("/a/./b/../%7ec%2f%e4;x//y?b=2&a=1", "/a/~c%2F%E4;x//y?a=1&b=2"), ("/a/%2e%2e/b", "/b")):
        w.get(sent)
        assert origin.seen()[-1].target == arrives


def test_hosts_are_apart_and_compared_in_canonical_form(origin, start):
    echo(origin)
    w = start(origin)
    w.get("/x", host="a.test")
    assert not w.get("/x", host="b.test").hit
    assert w.get("/x", host="A.Test").hit and w.get("/x", host="a.test:80").hit
    assert not w.get("/x", host="a.test:81").hit
    assert w.http2().get("/x", host="a.test").hit


def test_forwarding_headers_of_a_client_do_not_poison(origin, start):
    origin.default = lambda q: Reply(f"{q.get('x-forwarded-host')} {q.get('x-original-url')}".encode(), headers=MINUTE)
    w = start(origin)
    w.get("/x", [("X-Forwarded-Host", "evil.test"), ("X-Original-URL", "/evil"), ("X-Rewrite-URL", "/evil")])
    assert b"evil" not in w.get("/x").body


def test_schemes_are_apart(origin, start, certificates):
    echo(origin)
    c = certificates["api.test"]
    port, tls_port = free_port(), free_port()
    w = start(origin, listen=[{"address": f"127.0.0.1:{port}"},
                              {"address": f"127.0.0.1:{tls_port}", "tls": {"certificate": c.certificate, "key": c.key}}])
    context = ssl.create_default_context(cafile=c.ca)
    w.get("/x")
    https = w.http1(address=("127.0.0.1", tls_port), tls=context, server_name="api.test")
    assert not https.get("/x").hit
    assert https.get("/x").hit and w.get("/x").hit
    assert origin.seen()[1].get("x-forwarded-proto") == "https" and "proto=https" in origin.seen()[1].get("forwarded")


def test_get_with_a_body_is_not_mixed_up_with_one_without(origin, start):
    origin.default = lambda q: Reply(b"body=" + q.body, headers=MINUTE)
    w = start(origin)
    r = w.request("GET", "/x", [], b"evil")
    assert r.status in (200, 400)
    assert w.get("/x").body == b"body="


@pytest.mark.parametrize("kind", ["http1", "http2"])
def test_the_host_of_each_request_counts_whatever_its_connection_asked_for_before(origin, start, kind):
    """RFC 9110 section 7.2; the first one of a connection is remembered in its canonical form."""
    origin.default = lambda q: Reply(q.get("host").encode(), headers=MINUTE)
    w = start(origin)
    c = getattr(w, kind)()
    hosts = ["A.Test:80", "a.test", "b.test", "A.Test:80", "A.Test:81", "a.test.", "B.test:080", "a.tes", "A.Test:8", "a.test"]
    bodies = [c.request("GET", "/x", host=h).body.decode() for h in hosts]
    assert bodies == ["a.test", "a.test", "b.test", "a.test", "a.test:81", "a.test", "b.test", "a.tes", "a.test:8", "a.test"]
    assert origin.count("/x") == 5
    c.close()
