"""The admin listener, and that its numbers agree with those who counted."""
import json
import os
import stat
import time

import pytest

import client
import weir
from origin import Reply
from weir import HOST, SLOW, base_conf, free_port

MINUTE = (("Cache-Control", "max-age=60"),)


def test_health_is_ok(origin, start):
    r = start(origin).admin("GET", "/health")
    assert r.status == 200 and json.loads(r.body)["status"] == "ok"
    assert r.get("content-type").startswith("application/json")


def test_health_cache_has_every_field(origin, start):
    w = start(origin, routes=[{"path": "/a"}, {"path": "/b"}])
    f = w.figures()
    assert f["status"] == "ok" and f["uptime_seconds"] >= 0
    assert f["hit_rate"] is None and "hit_rate_1m" in f and "hit_rate_5m" in f
    counters = {"hit", "miss", "stale", "coalesced", "revalidated", "bypass", "error"}
    assert set(f["requests"]) == counters | {"total"} and not any(f["requests"].values())
    assert set(f["memory"]) >= {"used_bytes", "limit_bytes", "objects", "evicted", "expired"}
    assert f["memory"]["limit_bytes"] == 64 << 20 and f["memory"]["objects"] == 0
    assert f["redis"]["state"] == "off"
    assert set(f["origin"]) >= {"requests", "saved"}
    assert f["flights"] == {"open": 0, "waiting": 0}
    assert isinstance(f["routes"], list) and {r["route"] for r in f["routes"]} >= {"/a", "/b"}
    for r in f["routes"]:
        assert set(r) >= counters | {"route", "hit_rate", "p50_ms", "p95_ms", "p99_ms", "origin_p95_ms"}, r
    backend, = f["backends"]
    assert set(backend) >= {"backend", "state", "in_flight", "queued"} and backend["backend"] == "api"


def check_sums(f):
    r = f["requests"]
    kinds = ("hit", "miss", "stale", "coalesced", "revalidated", "bypass", "error")
    assert r["total"] == sum(r[k] for k in kinds), r
    served, asked = r["hit"] + r["stale"] + r["coalesced"], r["revalidated"] + r["miss"]
    if served + asked:
        assert abs(f["hit_rate"] - served / (served + asked)) < 0.001
    for k in kinds:
        assert sum(route[k] for route in f["routes"]) <= r[k]


def test_the_figures_agree_to_the_request(origin, start):
    gate = origin.gate()
    origin.on("/hit", body=b"x", headers=MINUTE)
    origin.on("/herd", body=b"x", headers=MINUTE, gate=gate)
    origin.on("/no-store", body=b"x", headers=(("Cache-Control", "no-store"),))
    origin.on("/validated", lambda q: Reply(status=304, headers=(("ETag", '"a"'),)) if q.get("if-none-match") else
              Reply(b"x", headers=(("ETag", '"a"'), ("Cache-Control", "no-cache"))))
    origin.on("/swr", body=b"x", headers=(("Cache-Control", "max-age=0, stale-while-revalidate=60"),))
    origin.on("/dead", drop=True)
    w = start(origin)
    c = w.http1()
    sent = 0

    def get(path, n=1, method="GET", body=None):
        nonlocal sent
        for _ in range(n):
            last = c.request(method, path, [], body)
            sent += 1
        return last
    get("/hit", 11)                         # 1 miss, 10 hits
    h = client.Herd(w.address, [client.build("GET", "/herd")] * 50).go()
    origin.wait(1, "/herd")
    gate.open()
    h.gather()                              # 1 miss, 49 coalesced or hits
    collapsed = sum("collapsed" in r.cache for r in h.answers())
    sent += 50
    h.close()
    get("/no-store", 5)                     # 5 bypass
    get("/hit", 3, "POST", b"x")            # 3 bypass
    get("/validated", 4)                    # 1 miss, 3 revalidated
    get("/dead", 1)                         # 1 error
    h2 = w.http2()
    for _ in range(7):
        h2.get("/herd")                     # 7 hits
        sent += 1
    get("/swr", 3)                          # 1 miss, 2 stale (and refreshes behind)
    deadline = time.monotonic() + 5 * SLOW
    f = w.figures()
    while f["origin"]["requests"] != origin.count() and time.monotonic() < deadline:
        f = w.figures()  # the last refresh was sent, and the origin has not read it yet
    r = f["requests"]
    check_sums(f)
    assert r["total"] == sent
    assert r["error"] == 1 and r["revalidated"] == 3 and r["coalesced"] == collapsed
    assert r["hit"] + r["coalesced"] + r["stale"] == 10 + 49 + 7 + 2
    assert r["miss"] + r["bypass"] == 1 + 1 + 5 + 3 + 1 + 1
    assert r["bypass"] >= 7
    assert f["origin"]["requests"] == origin.count()
    assert f["origin"]["saved"] == r["hit"] + r["stale"] + r["coalesced"]
    assert f["memory"]["objects"] >= 3 and 0 < f["memory"]["used_bytes"] <= f["memory"]["limit_bytes"]


def test_routes_count_their_own(origin, start):
    origin.default = lambda q: Reply(b"x", headers=MINUTE, delay=0.02)
    w = start(origin, routes=[{"path": "/a"}, {"path": "/b/**"}])
    for path, n in (("/a", 5), ("/b/1", 3), ("/b/2", 2)):
        for _ in range(n):
            w.get(path)
    f = w.figures()
    routes = {r["route"]: r for r in f["routes"]}
    assert (routes["/a"]["miss"], routes["/a"]["hit"]) == (1, 4) and (routes["/b/**"]["miss"], routes["/b/**"]["hit"]) == (2, 3)
    assert abs(routes["/a"]["hit_rate"] - 0.8) < 0.001
    a = routes["/a"]
    assert 0 <= a["p50_ms"] <= a["p95_ms"] <= a["p99_ms"] and a["origin_p95_ms"] >= 15
    check_sums(f)


def test_figures_of_a_storm_of_herds_agree(origin, start):
    origin.default = lambda q: Reply(b"x" * 500, headers=MINUTE, delay=0.05)
    w = start(origin, threads=4)
    for i in range(5):
        answers = client.herd(w.address, [client.build("GET", f"/{i}/{k % 10}") for k in range(200)])
        assert all(r.status == 200 for r in answers)
    f = w.figures()
    check_sums(f)
    assert f["requests"]["total"] == 1000 and f["requests"]["miss"] == origin.count() == 50 == f["origin"]["requests"]
    assert f["memory"]["objects"] == 50


def test_purge_by_url_takes_one_url_in_all_scopes(origin, start):
    origin.default = lambda q: Reply(b"%d" % origin.count(), headers=MINUTE)
    w = start(origin, route={"scope": "auto", "user": {"header": "Authorization"}})
    for path in ("/x", "/y", "/x?a=1"):
        w.get(path)
    w.get("/x", [("Authorization", "ann")])
    assert w.purge_path("/x") == 2
    assert not w.get("/x").hit and not w.get("/x", [("Authorization", "ann")]).hit
    assert w.get("/y").hit and w.get("/x?a=1").hit
    assert w.purge_path("/nothing") == 0
    assert w.purge(url=f"http://{HOST.upper()}:80/%79") == 1, "the url is taken in canonical form"
    assert not w.get("/y").hit


def test_purge_by_url_follows_the_routes_query_choice(origin, start):
    origin.default = lambda q: Reply(b"%d" % origin.count(), headers=MINUTE)
    w = start(origin, route={"key": {"query": {"except": ["utm_*"]}}})
    w.get("/x?b=2&a=1")
    assert w.purge_path("/x?utm_source=q&a=1&b=2") == 1


def test_purge_by_prefix_and_all(origin, start):
    origin.default = lambda q: Reply(b"%d" % origin.count(), headers=MINUTE)
    w = start(origin)
    paths = ["/a", "/a/1", "/a/2", "/ab", "/b"]
    for p in paths:
        w.get(p)
    w.get("/a/1", host="other.test")
    assert w.purge(prefix=f"http://{HOST}/a/") == 2
    assert [w.get(p).hit for p in paths] == [True, False, False, True, True]
    assert w.get("/a/1", host="other.test").hit
    assert w.purge(prefix=f"http://{HOST}/a") == 4
    assert w.purge(all=True) == 2
    assert not w.get("/b").hit and not w.get("/a/1", host="other.test").hit
    assert w.figures()["memory"]["objects"] == 2


def test_a_soft_purge_marks_stale_and_keeps_the_validator(origin, start):
    origin.on("/x", lambda q: Reply(status=304, headers=(("ETag", '"a"'), *MINUTE)) if q.get("if-none-match") else Reply(b"body", headers=(("ETag", '"a"'), *MINUTE)))
    w = start(origin)
    w.get("/x")
    assert w.purge_path("/x", soft=True) == 1
    r = w.get("/x")
    assert not r.hit and r.body == b"body" and r.cache["fwd"] == "stale"
    assert origin.seen("/x")[1].get("if-none-match") == '"a"'
    assert w.get("/x").hit


def test_a_soft_purge_leaves_the_stale_windows(origin, start):
    origin.on("/x", lambda q: Reply(b"body", headers=MINUTE) if origin.count() == 1 else Reply(drop=True))
    w = start(origin, route={"ttl": "t"}, ttl={"t": {"fresh": "1m", "stale_if_error": "1h"}})
    w.get("/x")
    w.purge(all=True, soft=True)
    assert (w.get("/x").status, w.get("/x").body) == (200, b"body")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'"all"', b'{"all":false}', b'{"url":5}', b'{"url":"not a url"}', b'{"url":"/x"}', b'{"prefix":""}',
                                  b'{"unknown":1}', b'{"all":true,"url":"http://a/"}', b'{"all":true,"soft":"yes"}', b'{"tag":5}', b'{"tag":""}', b'{"tag":null}', b'{"tag":["a"]}', b'{"tag":"a","all":true}', b'{"tag":"a","soft":1}', b"\xff\xfe", b'{"a":' * 5000])
def test_a_bad_purge_is_refused_and_drops_nothing(origin, start, body):
    origin.default = lambda q: Reply(b"x", headers=MINUTE)
    w = start(origin)
    w.get("/x")
    r = w.admin("POST", "/purge", body)
    assert r.status == 400, (body, r)
    assert w.get("/x").hit


def test_unknown_admin_paths_and_methods(origin, start):
    w = start(origin)
    assert w.admin("GET", "/nothing").status == 404
    assert w.admin("GET", "/purge").status == 405
    assert w.admin("POST", "/health", b"").status == 405
    assert w.admin("HEAD", "/health").status == 200


def test_a_token_is_asked_for_when_there_is_one(origin, start):
    conf = base_conf(origin)
    conf["admin"]["token_file"] = "admin.token"
    w = start(conf=conf, files={"admin.token": "t0ken\n"})
    for headers in ([], [("Authorization", "Bearer wrong")], [("Authorization", "Bearer t0ken2")], [("Authorization", "Bearer t0ke")],
                    [("Authorization", "Basic t0ken")], [("Authorization", "t0ken")]):
        for method, path in (("POST", "/purge"), ("GET", "/health/cache"), ("GET", "/explain?url=http://a/")):
            r = w.admin(method, path, b'{"all":true}' if method == "POST" else None, headers)
            assert r.status == 401 and r.get("www-authenticate", "").startswith("Bearer"), (path, headers, r)
    good = [("Authorization", "Bearer t0ken")]
    assert w.admin("POST", "/purge", b'{"all":true}', good).status == 200
    assert w.admin("GET", "/health/cache", None, good).status == 200


def test_an_admin_address_open_to_the_world_needs_a_token(tmp_path):
    text = weir.yaml(base_conf(None, admin={"address": "0.0.0.0:9090"})) + "\n"
    (tmp_path / "weir.conf").write_text(text)
    r = weir.run("check", "-c", "weir.conf", cwd=tmp_path)
    assert r.returncode == 2 and "token_file" in r.stderr


def test_admin_may_be_off_and_on_a_unix_socket(origin, start, tmp_path):
    conf = base_conf(origin)
    conf["admin"] = {"address": "off"}
    w = start(conf=conf)
    assert w.get("/x").status == 404
    conf = base_conf(origin)
    conf["admin"] = {"address": f"unix:{tmp_path}/admin.sock"}
    w = start(conf=conf)
    r = w.http1(address=f"{tmp_path}/admin.sock").get("/health", host="x")
    assert r.status == 200
    assert stat.S_ISSOCK((tmp_path / "admin.sock").stat().st_mode)


def test_health_is_shown_to_the_public_only_when_exposed(origin, start):
    origin.default = lambda q: Reply(b"from the origin", 404)
    w = start(origin)
    assert w.get("/health").body == b"from the origin" and w.get("/health/cache").body == b"from the origin"
    w = start(origin, expose_health=True)
    assert json.loads(w.get("/health").body)["status"] == "ok"
    assert "requests" in json.loads(w.get("/health/cache").body)
    assert w.request("POST", "/purge", [], b'{"all":true}').body == b"from the origin"


def test_the_admin_endpoints_are_not_on_the_public_listener(origin, start):
    origin.default = lambda q: Reply(b"from the origin", 404)
    w = start(origin)
    for path in ("/explain?url=http://a/", "/metrics", "/purge"):
        assert w.get(path).body == b"from the origin"


def test_weir_purge_asks_the_admin_listener(origin, start):
    origin.default = lambda q: Reply(b"x", headers=MINUTE)
    w = start(origin)
    admin = f"http://127.0.0.1:{w.admin_port}"
    paths = ["/a", "/b", "/c"]
    for arguments, left in ((["--url", f"http://{HOST}/a"], 2), (["--prefix", f"http://{HOST}/b"], 2), (["--all"], 0)):
        for p in paths:
            w.get(p)
        r = weir.run("purge", "--admin", admin, *arguments)
        assert r.returncode == 0, r.stderr
        assert str(3 - left) in r.stdout
        assert w.figures()["memory"]["objects"] == left
    r = weir.run("purge", "--admin", f"http://127.0.0.1:{free_port()}", "--all")
    assert r.returncode == 1 and r.stderr


def explain(w, path, method="GET"):
    r = w.admin("GET", f"/explain?url=http%3A%2F%2F{HOST}{path.replace('/', '%2F').replace('?', '%3F').replace('=', '%3D').replace('&', '%26')}&method={method}")
    assert r.status == 200, (r.status, r.body)
    return json.loads(r.body), r.body.decode()


def test_explain_tells_route_tier_key_and_what_is_stored(origin, start):
    origin.default = lambda q: Reply(b"x")
    w = start(origin, routes=[{"path": "/a/*", "ttl": "short"}], ttl={"short": "1m"})
    e, text = explain(w, "/a/1?b=2&a=1")
    assert e["route"] == "/a/*" and e["tier"] == "short" and e["stored"] is False
    assert "/a/1" in text and "a=1" in text
    w.get("/a/1?b=2&a=1")
    time.sleep(1.1)
    e, _ = explain(w, "/a/1?a=1&b=2")
    assert e["stored"] is True and 1 <= e["age_seconds"] <= 5 and 50 <= e["fresh_for_seconds"] <= 59, e


@pytest.mark.parametrize("query", ["", "?url=", "?url=nonsense", "?url=http%3A%2F%2Fa%2F%25zz", "?method=GET", "?url=http%3A%2F%2Fa%2F&method=G%20T"])
def test_a_bad_explain_is_refused(origin, start, query):
    assert start(origin).admin("GET", "/explain" + query).status == 400


def test_a_backends_state_is_what_the_last_attempts_to_connect_came_to(make_origin, start, tmp_path):
    path = str(tmp_path / "origin.sock")
    one = make_origin(unix=path)
    one.default = lambda q: Reply(b"x", headers=(("Cache-Control", "no-store"),))
    conf = base_conf(one, backend={"keepalive": "0s"})
    w = start(conf=conf)

    def state():
        return w.figures()["backends"][0]["state"]
    assert state() == "unknown"
    assert w.get("/x").status == 200 and state() == "up"
    one.close()
    assert w.get("/x").status == 502 and state() == "down"
    if os.path.exists(path):
        os.unlink(path)
    two = make_origin(unix=path)
    two.default = one.default
    assert w.get("/x").status == 200 and state() == "up"
    w.reload(dict(conf, backends={"api": {"servers": ["http://127.0.0.1:9", two.url]}}))
    w.wait_log("is in force")
    for _ in range(4):
        assert w.get("/x").status == 200
    assert state() == "up", "one of two is enough"
