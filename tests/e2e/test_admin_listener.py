"""The admin listener as a socket and as a door: what it binds to, what may come in, and how it ends."""
import json
import os
import re
import stat
import subprocess
import time

import pytest

import client
import weir
from origin import Reply
from weir import SLOW, base_conf, free_port

MINUTE = (("Cache-Control", "max-age=60"),)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def admin_client(w, **kw):
    return client.Http1(("127.0.0.1", w.admin_port), **kw)


@pytest.mark.parametrize("sent", [b"", b"GET /hea", PREFACE, b"POST /purge HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
                                  b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"])
def test_whatever_is_open_there_the_program_ends_well(origin, start, sent):
    w = start(origin)
    k = admin_client(w)
    k.send(sent)
    w.admin("GET", "/health")  # what was sent before has been read
    assert w.terminate() == 0
    k.close()


def test_a_client_that_does_not_read_does_not_hold_up_the_end(origin, start):
    w = start(origin, routes=[{"path": f"/r{i}/*"} for i in range(1500)])
    k = admin_client(w, receive_buffer=4096)
    k.send(client.build("GET", "/health/cache", host="127.0.0.1") * 50)
    w.admin("GET", "/health")
    assert w.terminate() == 0
    k.close()


def test_it_speaks_http1_only(origin, start):
    w = start(origin)
    k = admin_client(w)
    k.send(PREFACE)
    r = k.head()
    assert r is None or r.status == 400
    k.close()
    k = admin_client(w)
    r = k.request("GET", "/health", [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")], host="127.0.0.1")
    assert r.status == 200 and json.loads(r.body) == {"status": "ok"}
    k.close()


def test_a_file_in_the_place_of_its_socket_is_left_alone(origin, tmp_path):
    (tmp_path / "precious").write_text("data\n")
    (tmp_path / "weir.conf").write_text(weir.yaml(base_conf(origin, admin={"address": f"unix:{tmp_path}/precious"})) + "\n")
    r = weir.run("run", "-c", "weir.conf", cwd=tmp_path)
    assert r.returncode == 1 and re.search(r"weir\.conf:\d+:12: .*not a socket", r.stderr), r
    assert (tmp_path / "precious").read_text() == "data\n"


def test_its_unix_socket_is_for_owner_and_group_the_public_one_for_all(origin, start, tmp_path):
    admin, public = tmp_path / "admin.sock", tmp_path / "public.sock"
    conf = base_conf(origin, admin={"address": f"unix:{admin}"})
    conf["listen"].append({"address": f"unix:{public}"})
    before = os.umask(0o077)
    try:
        w = start(conf=conf)
    finally:
        os.umask(before)
    assert stat.S_IMODE(admin.stat().st_mode) == 0o660
    assert stat.S_IMODE(public.stat().st_mode) == 0o666
    (tmp_path / "other.conf").write_text(weir.yaml(base_conf(origin, admin=conf["admin"])) + "\n")
    r = weir.run("run", "-c", str(tmp_path / "other.conf"))
    assert r.returncode == 1 and "use" in r.stderr, "its socket was taken from it"
    assert stat.S_ISSOCK(admin.stat().st_mode)
    assert w.terminate() == 0
    assert not admin.exists() and not public.exists()


def test_it_does_not_turn_in_circles_without_descriptors(origin, tmp_path):
    conf = base_conf(origin)
    w = weir.Weir(tmp_path, conf)
    p = subprocess.Popen(["bash", "-c", f"ulimit -n 64; exec {weir.BINARY} run -c {w.path}"], stderr=subprocess.PIPE, text=True, env=weir.environment())
    try:
        while "ready" not in p.stderr.readline():
            pass
        held = []
        while len(os.listdir(f"/proc/{p.pid}/fd")) < 64:
            c = client.Http1(w.address)
            c.send(b"GET /x HTTP/1.1\r\n")
            held.append(c)
            assert len(held) < 100
        k = client.Http1(("127.0.0.1", w.admin_port))
        k.send(client.build("GET", "/health", host="127.0.0.1"))

        def cpu_s():
            with open(f"/proc/{p.pid}/stat", encoding="ascii") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        begun = cpu_s()
        time.sleep(1)
        assert cpu_s() - begun < 0.3, "it spins"
        for c in held:
            c.close()
        assert k.head().status == 200
        k.close()
        p.terminate()
        assert p.wait(10 * SLOW) == 0
    finally:
        p.kill()
        p.wait()
        p.stderr.close()


def test_a_reload_may_write_its_address_otherwise(origin, start):
    w = start(origin)
    w.reload(dict(w.conf, admin={"address": f"127.0.0.1:0{w.admin_port}"}))
    w.wait_log("is in force")
    assert w.admin("GET", "/health").status == 200


@pytest.mark.parametrize("fields", [[("Origin", "https://evil.example")], [("Origin", "null")], [("Sec-Fetch-Site", "cross-site")], [("Sec-Fetch-Site", "same-site")],
                                    [("Sec-Fetch-Site", "")], [("Sec-Fetch-Site", "none"), ("Origin", "http://127.0.0.1:1")]])
def test_no_page_in_a_browser_purges(origin, start, fields):
    origin.default = lambda q: Reply(b"x", headers=MINUTE)
    w = start(origin)
    w.get("/x")
    r = w.admin("POST", "/purge", b'{"all":true}', [("Content-Type", "text/plain"), *fields])
    assert r.status == 403 and r.get("content-type") == "application/problem+json"
    assert w.get("/x").hit


def test_tools_purge_and_who_has_the_token_from_wherever(origin, start):
    w = start(origin)
    for fields in ([], [("Sec-Fetch-Site", "none")], [("Sec-Fetch-Site", "same-origin")]):
        assert w.admin("POST", "/purge", b'{"all":true}', fields).status == 200
    conf = base_conf(origin)
    conf["admin"]["token_file"] = "admin.token"
    w = start(conf=conf, files={"admin.token": "t0ken\n"})
    fields = [("Authorization", "Bearer t0ken"), ("Origin", "https://console.example"), ("Sec-Fetch-Site", "cross-site")]
    assert w.admin("POST", "/purge", b'{"all":true}', fields).status == 200


@pytest.mark.parametrize("prefix", ["http://API.test/a", "http://api.test:80/a", "HTTP://api.test/a", "http://api.test/a%7e", "http://api.test/a~", "http://api.test/%61"])
def test_a_prefix_may_be_written_in_any_way_a_url_may(origin, start, prefix):
    origin.default = lambda q: Reply(b"x", headers=MINUTE)
    w = start(origin)
    w.get("/a~b")
    assert w.purge(prefix=prefix) == 1


def test_weir_purge_takes_the_admin_url_with_a_slash(origin, start):
    w = start(origin)
    r = weir.run("purge", "--admin", f"http://127.0.0.1:{w.admin_port}/", "--all")
    assert r.returncode == 0, r.stderr


def test_explained_times_have_three_decimals(origin, start):
    origin.default = lambda q: Reply(b"x", headers=MINUTE)
    w = start(origin)
    w.get("/x")
    for _ in range(30):
        body = w.admin("GET", f"/explain?url=http://{weir.HOST}/x").body.decode()
        assert re.fullmatch(r"\d+\.\d{1,3}", re.search(r'"age_seconds":([^,}]*)', body)[1]), body
        assert re.fullmatch(r"\d+\.\d{1,3}", re.search(r'"fresh_for_seconds":([^,}]*)', body)[1]), body
        time.sleep(0.003)


@pytest.mark.parametrize("url", ["http://api.test/%00", "http://api.test/a%0ab", "http://api.test/a%20b", "http://api.test/a+b", "http://api.test/%ff"])
def test_a_url_that_no_request_can_have_is_not_explained(origin, start, url):
    """The query decodes to that byte itself."""
    r = start(origin).admin("GET", "/explain?url=" + url)
    assert r.status == 400 and r.get("content-type") == "application/problem+json"
