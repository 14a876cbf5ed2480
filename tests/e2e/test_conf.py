"""The configuration's errors, `weir check` and `weir explain`."""
import re
import socket
import textwrap

import pytest

import weir

GOOD = """
threads: 2
listen:
  - address: 127.0.0.1:8080
ttl:
  list: { fresh: 10s, stale_while_revalidate: 30s, stale_if_error: 1h }
  detail: { fresh: 1h, jitter: 10% }
  errors: { fresh: 0s, status: { 404: 30s, 410: 1h, 5xx: 1s } }
  session: 30m
backends:
  api:
    servers:
      - http://127.0.0.1:9000
      - { url: "https://10.0.0.7", weight: 2, tls: { verify: on, server_name: api.example } }
    balance: round_robin
    max_connections: 64
    queue: { size: 1024, timeout: 2s }
    timeouts: { connect: 1s, first_byte: 30s, idle: 30s, total: 5m }
    circuit_breaker: { errors: 50%, minimum: 20, window: 10s, open: 5s }
routes:
  - path: /api/clips/*
    host: api.example.com
    methods: [GET, HEAD]
    backend: api
    ttl: detail
    scope: user
    user: { header: Authorization }
    key: { query: [page, limit], headers: [Accept-Language], cookies: [currency] }
    ignore_cookies: [_ga*, _gid]
  - path: /**
    backend: api
    cache: off
    key: { query: { except: [utm_*, fbclid] } }
"""

MINIMAL = """
listen: [{ address: 127.0.0.1:8080 }]
backends: { api: { servers: [http://127.0.0.1:9000] } }
routes: [{ path: /**, backend: api }]
"""


def check(directory, text, name="weir.conf"):
    (directory / name).write_text(textwrap.dedent(text))
    r = weir.run("check", "-c", name, cwd=directory)
    assert r.returncode in (0, 1, 2), (r.returncode, r.stderr)
    assert not weir.FAULTS.search(r.stderr), r.stderr
    errors = [(m[1], int(m[2]), int(m[3]), m[4]) for m in
              re.finditer(r"^(\S+?):(\d+):(\d+): (.*)$", r.stdout + r.stderr, re.M)]
    return r, errors


def errors_of(directory, text):
    r, errors = check(directory, text)
    assert r.returncode == 2, (r.returncode, r.stdout, r.stderr)
    assert errors, r.stderr
    return errors


def test_a_good_file_passes_the_check(tmp_path):
    r, errors = check(tmp_path, GOOD)
    assert (r.returncode, errors) == (0, []), r.stdout + r.stderr


def test_the_smallest_file_passes_the_check(tmp_path):
    r, errors = check(tmp_path, MINIMAL)
    assert (r.returncode, errors) == (0, []), r.stdout + r.stderr


def place(text, needle):
    """Line and column of the first character of needle."""
    at = text.index(needle)
    line = text.count("\n", 0, at) + 1
    return line, at - text.rfind("\n", 0, at)


@pytest.mark.parametrize("old, new, at, says", [
    ("threads: 2", "thread: 2", "thread:", r"threads"),
    ("    balance: round_robin", "    balanse: round_robin", "balanse", r"balance"),
    ("max_connections: 64", "max_conections: 64", "max_conections", r"max_connections"),
    ("ignore_cookies: [_ga*, _gid]", "ignore_cookie: [_ga*, _gid]", "ignore_cookie", r"ignore_cookies"),
    ("stale_if_error: 1h", "stale_if_eror: 1h", "stale_if_eror", r"stale_if_error"),
    ("first_byte: 30s", "first_bite: 30s", "first_bite", r"first_byte"),
    ("    ttl: detail", "    ttl: detial", "detial", r"detail"),
    ("    backend: api\n    ttl", "    backend: appi\n    ttl", "appi", r"api"),
    ("balance: round_robin", "balance: round_robbin", "round_robbin", r"round_robin"),
    ("scope: user", "scope: usr", "usr", r"user"),
    ("fresh: 10s", "fresh: 10 parsecs", "10 parsecs", r"parsecs|duration|10s|250ms"),
    ("fresh: 10s", "fresh: -10s", "-10s", r""),
    ("fresh: 10s", "fresh: 10", "10,", r""),
    ("jitter: 10%", "jitter: 110%", "110%", r""),
    ("jitter: 10%", "jitter: much", "much", r""),
    ("max_connections: 64", "max_connections: 0", "0\n    queue", r""),
    ("max_connections: 64", "max_connections: many", "many", r""),
    ("max_connections: 64", "max_connections: [64]", "[64]", r""),
    ("circuit_breaker:", "circuit_braker:", "circuit_braker", r"circuit_breaker"),
    ("errors: 50%", "error: 50%", "error: 50%", r"errors"),
    ("errors: 50%", "errors: 0%", "0%, minimum", r"1% to 100%"),
    ("open: 5s", "open: 5ms", "5ms", r"100ms to 1h"),
    ("cache: off", "cache: perhaps", "perhaps", r"on"),
    ("404: 30s", "404: soon", "soon", r""),
    ("404: 30s", "44: 30s", "44:", r""),
    ("404: 30s", "9xx: 30s", "9xx", r""),
    ("address: 127.0.0.1:8080", "address: 127.0.0.1:99999", "127.0.0.1:99999", r""),
    ("address: 127.0.0.1:8080", "address: nowhere", "nowhere", r""),
    ("path: /api/clips/*", "path: api/clips", "api/clips", r"/"),
    ("path: /api/clips/*", "path: /api/**/x", "/api/**/x", r"\*\*"),
    ("http://127.0.0.1:9000", "ftp://127.0.0.1:9000", "ftp:", r"http"),
    ("weight: 2", "weight: 0", "0, tls", r""),
    ("methods: [GET, HEAD]", "methods: GET HEAD", "GET HEAD", r""),
    ("user: { header: Authorization }", "user: { heeder: Authorization }", "heeder", r"header"),
    ("query: [page, limit]", "query: some", "some", r""),
])
def test_an_error_names_its_place_and_what_would_be_right(tmp_path, old, new, at, says):
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    errors = errors_of(tmp_path, text)
    line, column = place(text, at)
    assert errors[0][:3] == ("weir.conf", line, column), errors
    assert len(errors) == 1 or old == "scope: user", errors  # there the user that follows has become superfluous
    assert re.search(says, errors[0][3]), errors


def test_all_errors_of_a_file_come_in_one_go(tmp_path):
    text = """
    listne: [{ address: 127.0.0.1:8080 }]
    listen:
      - address: 127.0.0.1:8081
        tsl: {}
    ttl: { a: { fresh: 1 day } }
    backends: { api: { servers: [], balance: nobody } }
    routes:
      - path: /**
        backend: other
        ttl: b
      - pth: /x
        backend: api
    """
    errors = errors_of(tmp_path, text)
    lines = {e[1] for e in errors}
    assert {2, 5, 6, 7, 10, 11, 12} <= lines, errors
    assert [e[1] for e in errors] == sorted(e[1] for e in errors), "not in the order of the file"


def test_keys_given_twice_are_errors(tmp_path):
    errors = errors_of(tmp_path, MINIMAL + "threads: 1\nthreads: 2\n")
    assert [e[1:3] for e in errors] == [(6, 1)], errors
    errors = errors_of(tmp_path, MINIMAL.replace("backend: api }", "backend: api, backend: api }"))
    assert len(errors) == 1, errors


def test_two_routes_for_the_same_requests_are_an_error(tmp_path):
    errors = errors_of(tmp_path, MINIMAL.replace("routes: [", "routes: [{ path: /**, backend: api }, "))
    assert len(errors) == 1, errors


def test_what_is_missing_is_an_error(tmp_path):
    for absent in ("listen", "backend:", "path"):
        text = re.sub(r"^listen.*\n", "", MINIMAL, flags=re.M) if absent == "listen" else \
            MINIMAL.replace("path: /**, ", "") if absent == "path" else MINIMAL.replace(", backend: api", "")
        errors = errors_of(tmp_path, text)
        assert absent.rstrip(":") in errors[0][3], errors


def test_broken_yaml_is_an_error_with_its_place(tmp_path):
    errors = errors_of(tmp_path, "listen: [\n  { address: 127.0.0.1:1 \n")
    assert len(errors) == 1, errors
    errors = errors_of(tmp_path, MINIMAL + "\tthreads: 2\n")
    assert errors[0][1] == 5, errors


def test_an_empty_file_and_one_that_is_not_there_are_errors(tmp_path):
    assert errors_of(tmp_path, "")
    r = weir.run("check", "-c", "missing.conf", cwd=tmp_path)
    assert r.returncode == 2 and "missing.conf" in r.stderr


@pytest.mark.parametrize("extra", [
    "redis: { servers: [127.0.0.1:6379], mode: cluster }",
    "admin: { address: 127.0.0.1:9090, profiling: on }",
    "redis: { servers: [127.0.0.1:6379], lease: 5s }",
])
def test_what_this_version_lacks_is_refused_and_not_ignored(tmp_path, extra):
    errors = errors_of(tmp_path, MINIMAL + extra + "\n")
    assert len(errors) == 1 and "not supported by this version" in errors[0][3], errors


@pytest.mark.parametrize("key", [
    "retry: { attempts: 2 }", "hedge: { after: p95, budget: 5% }", "health: { path: /healthz }", "balance: consistent_hash",
])
def test_backend_keys_that_this_version_lacks_are_refused(tmp_path, key):
    errors = errors_of(tmp_path, MINIMAL.replace("9000] }", "9000], " + key + " }"))
    assert len(errors) == 1 and "not supported by this version" in errors[0][3], errors


@pytest.mark.parametrize("key", [
    "limits: { rate: 100/s }",
    "scope: user, user: { jwt: { header: Authorization, claim: sub, key_file: k } }",
])
def test_route_keys_that_this_version_lacks_are_refused(tmp_path, key):
    errors = errors_of(tmp_path, MINIMAL.replace("backend: api }", "backend: api, " + key + " }"))
    assert len(errors) == 1 and "not supported by this version" in errors[0][3], errors


def test_a_proxy_protocol_listener_is_refused(tmp_path):
    errors = errors_of(tmp_path, MINIMAL.replace("8080 }", "8080, proxy_protocol: on }"))
    assert len(errors) == 1 and "not supported by this version" in errors[0][3], errors


def test_included_files_add_routes_backends_and_tiers(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "b.conf").write_text("routes: [{ path: /b, backend: second, ttl: short }]\n")
    (tmp_path / "conf.d" / "a.conf").write_text("backends: { second: { servers: [http://127.0.0.1:9001] } }\nttl: { short: 1s }\n")
    (tmp_path / "conf.d" / "ignored.yaml").write_text("nonsense: [\n")
    r, errors = check(tmp_path, "include: conf.d/*.conf\n" + MINIMAL)
    assert (r.returncode, errors) == (0, []), r.stderr
    (tmp_path / "conf.d" / "c.conf").write_text("routes:\n  - path: /c\n    backend: third\n")
    _, errors = check(tmp_path, "include: conf.d/*.conf\n" + MINIMAL)
    assert [(e[0], e[1], e[2]) for e in errors] == [("conf.d/c.conf", 3, 14)], errors


def test_an_included_file_may_not_set_what_belongs_to_the_main_file(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text("threads: 3\n")
    _, errors = check(tmp_path, "include: conf.d/*.conf\n" + MINIMAL)
    assert [(e[0], e[1]) for e in errors] == [("conf.d/a.conf", 1)], errors


def test_relative_names_are_relative_to_the_file_that_names_them(tmp_path, certificates):
    c = certificates["api.test"]
    (tmp_path / "etc").mkdir()
    for name, source in (("site.crt", c.certificate), ("site.key", c.key)):
        with open(source, encoding="ascii") as f:
            (tmp_path / "etc" / name).write_text(f.read())
    text = MINIMAL.replace("8080 }", "8080, tls: { certificate: site.crt, key: site.key } }")
    (tmp_path / "etc" / "weir.conf").write_text(text)
    r = weir.run("check", "-c", "etc/weir.conf", cwd=tmp_path)
    assert r.returncode == 0, r.stderr


def test_all_errors_of_certificates_come_in_the_same_go_from_check_and_run(tmp_path, certificates):
    one, two = certificates["api.test"], certificates["other.test"]
    (tmp_path / "junk").write_text("junk")
    text = f"""
    listen:
      - address: 127.0.0.1:8081
        tls: {{ certificate: junk, key: junk }}
      - address: 127.0.0.1:8082
        tls:
          - certificate: {one.certificate}
            key: {one.key}
            ciphers: NOPE
            ciphersuites: NONE
          - certificate: {one.certificate}
            key: {two.key}
          - certificate: none.crt
            key: {two.key}
    bogus: 1
    backends: {{ api: {{ servers: [http://127.0.0.1:9000] }} }}
    routes: [{{ path: /**, backend: api }}]
    """
    errors = errors_of(tmp_path, text)
    assert [e[1:3] for e in errors] == [(4, 25), (4, 36), (9, 18), (10, 23), (12, 14), (13, 22), (15, 1)], errors
    r = weir.run("run", "-c", "weir.conf", cwd=tmp_path)
    assert r.returncode == 2 and r.stderr == "".join(f"{f}:{l}:{c}: {t}\n" for f, l, c, t in errors)


def test_what_is_no_fault_of_the_configuration_ends_with_1_and_its_place(tmp_path):
    """An address in use, public or admin, and a log that cannot be opened."""
    free, admin = weir.free_port(), weir.free_port()
    with socket.create_server(("127.0.0.1", 0)) as s:
        taken = s.getsockname()[1]
        for listen, other, log, at, says in ((taken, admin, "log", (2, 10), "use"), (free, taken, "log", (3, 19), "use"),
                                             (free, admin, "/nowhere/at/all.log", (4, 16), "No such file")):
            text = (f"\nlisten: [{{ address: 127.0.0.1:{listen} }}]\nadmin: {{ address: 127.0.0.1:{other} }}\nlog: {{ access: {log} }}\n" + MINIMAL.split("\n", 2)[2])
            (tmp_path / "weir.conf").write_text(text)
            r = weir.run("run", "-c", "weir.conf", cwd=tmp_path)
            m = re.match(r"weir\.conf:(\d+):(\d+): (.*)\n$", r.stderr)
            assert r.returncode == 1 and m and says in m[3], (r.returncode, r.stderr)
            assert (int(m[1]), int(m[2])) == at, r.stderr


def test_run_with_a_bad_file_starts_nothing_and_says_the_same(tmp_path):
    text = MINIMAL.replace("backend: api", "backend: apo")
    _, errors = check(tmp_path, text)
    r = weir.run("run", "-c", "weir.conf", cwd=tmp_path)
    assert r.returncode == 2
    assert f"weir.conf:{errors[0][1]}:{errors[0][2]}: {errors[0][3]}" in r.stderr
    assert "ready" not in r.stderr


@pytest.mark.parametrize("arguments", [
    [], ["fly"], ["run"], ["check"], ["run", "-c"], ["check", "--nonsense"], ["explain", "-c", "weir.conf"], ["purge"],
])
def test_wrong_usage_exits_with_2(tmp_path, arguments):
    (tmp_path / "weir.conf").write_text(MINIMAL)
    if arguments in (["run"], ["check"]):
        arguments = arguments + ["superfluous"]
    r = weir.run(*arguments, cwd=tmp_path)
    assert r.returncode == 2, (r.returncode, r.stdout, r.stderr)
    assert r.stderr


@pytest.mark.parametrize("command", ["run", "check", "explain", "purge", "version"])
def test_every_command_tells_its_usage(command):
    r = weir.run(command, "-h")
    assert r.returncode == 0 and command in r.stdout + r.stderr


def test_version_names_the_program():
    r = weir.run("version")
    assert r.returncode == 0 and re.search(r"weir \d+\.\d+", r.stdout)


def test_explain_names_route_backend_tier_scope_and_key(tmp_path):
    (tmp_path / "weir.conf").write_text(GOOD)
    r = weir.run("explain", "-c", "weir.conf", "-H", "Authorization: Bearer s3cr3t", "-H", "Accept-Language: de",
                 "-H", "Cookie: currency=EUR; _ga_1=2", "http://API.example.com:80/api/clips/%41?limit=5&utm_x=1&page=2",
                 cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    out = "\n".join(line for line in r.stdout.splitlines() if "http://" not in line)  # without the URL as it was asked for
    for word in ("/api/clips/*", "api", "detail", "user", "/api/clips/A", "limit=5", "page=2", "api.example.com", "EUR", "de"):
        assert word in out, (word, out)
    assert "s3cr3t" not in out and "utm_x" not in out and "_ga_1" not in out
    assert out.index("limit=5") < out.index("page=2")


def test_explain_follows_method_and_host(tmp_path):
    (tmp_path / "weir.conf").write_text(GOOD)
    r = weir.run("explain", "-c", "weir.conf", "-X", "POST", "http://api.example.com/api/clips/1", cwd=tmp_path)
    assert "/api/clips/*" not in r.stdout, r.stdout
    r = weir.run("explain", "-c", "weir.conf", "http://elsewhere.example/api/clips/1", cwd=tmp_path)
    assert r.returncode == 0 and "/**" in r.stdout, r.stdout


def test_explain_says_which_coding_a_request_wants(tmp_path):
    (tmp_path / "weir.conf").write_text(MINIMAL)
    for fields, words in ((["Accept-Encoding: gzip, br"], r"wanted +br\n +why +Accept-Encoding"), ([], r"wanted +identity\n +why +the request has no")):
        r = weir.run("explain", "-c", "weir.conf", *[w for f in fields for w in ("-H", f)], "http://h/x", cwd=tmp_path)
        assert re.search(words, r.stdout), r.stdout


def test_the_most_specific_route_wins_whatever_the_order(tmp_path):
    text = MINIMAL.replace("routes: [{ path: /**, backend: api }]", """
routes:
  - { path: /**, backend: api, ttl: rest }
  - { path: /a/**, backend: api, ttl: a_rest }
  - { path: /a/*, backend: api, ttl: a_any }
  - { path: /a/b, backend: api, ttl: a_b }
  - { path: /a/*/c, backend: api, ttl: a_any_c }
  - { path: /a/b/**, backend: api, ttl: a_b_rest }
ttl: { rest: 1s, a_rest: 2s, a_any: 3s, a_b: 4s, a_any_c: 5s, a_b_rest: 6s }
""")
    (tmp_path / "weir.conf").write_text(text)
    for path, tier in (("/", "rest"), ("/x", "rest"), ("/a", "a_rest"), ("/a/", "a_rest"), ("/a/x", "a_any"), ("/a/b", "a_b"),
                       ("/a/x/c", "a_any_c"), ("/a/b/c", "a_b_rest"), ("/a/x/y", "a_rest"), ("/a/%62", "a_b"),
                       ("/x/../a/b", "a_b")):
        r = weir.run("explain", "-c", "weir.conf", f"http://h{path}", cwd=tmp_path)
        assert re.search(rf"\b{tier}\b", r.stdout), (path, tier, r.stdout)


@pytest.mark.parametrize("method", ["G T", "", "GET\n", "G\xe9T"])
def test_explain_refuses_what_is_no_method(tmp_path, method):
    (tmp_path / "weir.conf").write_text(MINIMAL)
    r = weir.run("explain", "-c", "weir.conf", "-X", method, "http://a/", cwd=tmp_path)
    assert r.returncode == 2 and "method" in r.stderr and not r.stdout


def test_stats_says_that_it_is_not_there():
    r = weir.run("stats")
    assert r.returncode == 2 and "not supported by this version" in r.stderr
