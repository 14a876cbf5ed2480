"""Started as root, with `user:`: what was opened as root goes on when the process is no longer root's."""
import os
import pwd
import shutil
import signal
import tempfile

import pytest

import weir
from origin import Reply
from weir import base_conf, free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
USER = "nobody"


@pytest.fixture
def place():
    """A directory that any user may enter (pytest's own are the tester's alone)."""
    path = tempfile.mkdtemp(prefix="weir-user-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def run(place):
    started = []

    def begin(conf, files=None):
        w = weir.Weir(place, conf, files)
        started.append(w)
        return w.start()
    yield begin
    for w in started:
        w.finish()


def uid_of(path):
    return os.stat(path).st_uid


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def signal_and_wait(w, number, pattern):
    after = len(w.lines)
    w.signal(number)
    return w.wait_log(pattern, after=after)


def test_the_access_log_is_the_users_and_survives_reloads_and_rotation(origin, place, run):
    origin.default = lambda q: Reply(b"x")
    os.mkdir(place + "/log")
    os.chown(place + "/log", pwd.getpwnam(USER).pw_uid, -1)
    log = place + "/log/access.log"
    w = run(base_conf(origin, user=USER, log={"access": log}))
    assert uid_of(log) == pwd.getpwnam(USER).pw_uid
    signal_and_wait(w, signal.SIGHUP, "is in force")
    signal_and_wait(w, signal.SIGUSR1, "open anew")
    os.rename(log, log + ".1")
    signal_and_wait(w, signal.SIGUSR1, "open anew")
    assert uid_of(log) == pwd.getpwnam(USER).pw_uid
    w.get("/x")
    w.terminate()
    assert "/x" in read(log)


def test_a_reload_needs_no_right_to_open_the_same_log_again_but_rotation_does(origin, place, run):
    """The directory is root's."""
    origin.default = lambda q: Reply(b"x")
    log = place + "/access.log"
    w = run(base_conf(origin, user=USER, log={"access": log}))
    signal_and_wait(w, signal.SIGHUP, "is in force")
    os.rename(log, log + ".1")
    at = signal_and_wait(w, signal.SIGUSR1, "the old log file stays open")
    assert "directory must be writable" in w.lines[at]
    w.get("/x")
    w.terminate()
    assert "/x" in read(log + ".1")


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_a_link_in_the_place_of_the_log_gives_nothing_away(origin, place, run, link):
    (precious := place + "/precious", open(precious, "w", encoding="ascii").close())
    (os.symlink if link == "symbolic" else os.link)(precious, place + "/access.log")
    run(base_conf(origin, user=USER, log={"access": place + "/access.log"}))
    assert uid_of(precious) == 0


def tls_conf(origin, place, certificates, mode, port, name="api.test"):
    c = certificates[name]
    shutil.copy(c.certificate, place + "/site.crt")
    shutil.copy(c.key, place + "/site.key")
    os.chmod(place + "/site.crt", 0o644)
    os.chmod(place + "/site.key", mode)
    return base_conf(origin, user=USER, listen=[{"address": f"127.0.0.1:{free_port()}"},
                                                {"address": f"127.0.0.1:{port}", "tls": {"certificate": place + "/site.crt", "key": place + "/site.key"}}])


def test_a_key_of_roots_alone_is_warned_of_and_stays_in_a_reload(origin, place, run, certificates):
    origin.default = lambda q: Reply(b"x")
    port = free_port()
    conf = tls_conf(origin, place, certificates, 0o600, port)
    w = run(conf)
    assert f"'{place}/site.key' cannot be read by user '{USER}'" in w.stderr
    assert "site.crt" not in w.stderr
    after = len(w.lines)
    w.reload(dict(conf, routes=[{"path": "/only", "backend": "api"}]))
    w.wait_log(r"weir\.conf:\d+:\d+: cannot read '.*site\.key'.*stay in use", after=after)
    w.wait_log("is in force", after=after)
    assert (w.get("/only").status, w.get("/x").status) == (200, 404)
    from test_listeners import trusting
    assert w.http1(address=("127.0.0.1", port), tls=trusting(certificates["api.test"]), server_name="api.test").get("/only").status == 200


def test_other_settings_than_the_loaded_ones_cannot_do_without_the_key(origin, place, run, certificates):
    conf = tls_conf(origin, place, certificates, 0o600, free_port())
    w = run(conf)
    other = dict(conf, listen=[dict(conf["listen"][0]), dict(conf["listen"][1], tls=dict(conf["listen"][1]["tls"], min_version="1.3"))])
    after = len(w.lines)
    w.reload(other)
    at = w.wait_log("the old configuration stays", after=after)
    assert "site.key: cannot be used as a private key: Permission denied" in "".join(w.lines[after:at])


def test_a_readable_key_is_not_warned_of_and_renewed(origin, place, run, certificates):
    port = free_port()
    w = run(tls_conf(origin, place, certificates, 0o644, port))
    tls_conf(origin, place, certificates, 0o644, port, "renewed.test")
    signal_and_wait(w, signal.SIGHUP, "is in force")
    from test_listeners import trusting
    w.http1(address=("127.0.0.1", port), tls=trusting(certificates["api.test"]), server_name="renewed.test")
    assert "warn" not in w.stderr


def test_files_that_only_root_reads_are_warned_of(origin, place, run):
    conf = base_conf(origin, user=USER)
    conf["admin"]["token_file"] = "admin.token"
    with open(place + "/admin.token", "w", encoding="ascii") as f:
        f.write("t0ken\n")
    os.chmod(place + "/admin.token", 0o600)
    w = run(conf)
    assert f"'{place}/admin.token' cannot be read by user '{USER}': reloads will fail" in w.stderr
    signal_and_wait(w, signal.SIGHUP, "the old configuration stays")


def test_another_user_takes_effect_at_the_next_start(origin, place, run):
    conf = base_conf(origin, user=USER)
    w = run(conf)
    w.reload(dict(conf, user="daemon"))
    w.wait_log("user: daemon takes effect at the next start")
    w.wait_log("is in force")
