"""The sample API, and weir in front of it with the configuration that people copy (conf/weir.conf)."""
import json
import os
import re
import signal
import subprocess

import pytest

import client
from weir import ROOT, SANITIZER, SLOW, free_port, run


class Sample:
    """loadtest/sample-api on a port of its own."""

    def __init__(self, scale):
        self.process = subprocess.Popen([os.path.join(ROOT, "loadtest", "sample-api"), "--port", "0", "--scale", str(scale)],
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(re.fullmatch(r"sample-api ready on http://127\.0\.0\.1:(\d+)\n", self.process.stdout.readline()).group(1))

    def request(self, method, target, headers=(), **kw):
        c = client.Http1(address=("127.0.0.1", self.port), **kw)
        try:
            return c.request(method, target, headers)
        finally:
            c.close()

    def get(self, target, headers=(), **kw):
        return self.request("GET", target, headers, **kw)

    def counts(self):
        return json.loads(self.get("/_counts").body)

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(10 * SLOW) == 0
        self.process.stdout.close()


@pytest.fixture
def make_sample():
    made = []

    def make(scale=0):
        made.append(Sample(scale))
        return made[-1]
    yield make
    for s in made:
        s.close()


def reference_conf(sample):
    """conf/weir.conf and what it includes, on free ports, in front of the sample API."""
    ports = {"9000": sample.port, "8080": free_port(), "9090": free_port()}

    def on_free_ports(*name):
        with open(os.path.join(ROOT, "conf", *name), encoding="utf-8") as f:
            return re.sub(r"127\.0\.0\.1:(9000|8080|9090)", lambda m: f"127.0.0.1:{ports[m.group(1)]}", f.read())
    parts = {f"conf.d/{name}": on_free_ports("conf.d", name) for name in os.listdir(os.path.join(ROOT, "conf", "conf.d"))}
    return on_free_ports("weir.conf"), parts, ports


@pytest.fixture
def behind(make_sample, start):
    """(sample, weir in front of it)"""
    sample = make_sample()
    text, parts, ports = reference_conf(sample)
    # The ports are in the text: only what is in a dict is found there.
    w = start(conf=text, files=parts)
    w.port, w.admin_port = ports["8080"], ports["9090"]
    return sample, w


def get(w, path, headers=()):
    """An answer, once its fetch has ended: who asks a moment before that shares it, and is no hit."""
    r = w.get(path, headers)
    w.until_waiting(0)
    return r


def test_the_reference_configuration_has_no_error():
    checked = run("check", "-c", os.path.join(ROOT, "conf", "weir.conf"))
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("path,least,most", [
    ("/api/feed", 1024, 61440), ("/api/clips/42", 2048, 16384), ("/api/clips/42/comments", 8192, 61440), ("/api/search?q=weir", 1024, 61440)])
def test_what_is_for_all_is_fetched_once(behind, path, least, most):
    sample, w = behind
    first, second = get(w, path), get(w, path)
    assert first.status == second.status == 200 and not first.hit and second.hit
    assert first.body == second.body and least <= len(first.body) <= most and json.loads(first.body)
    assert first.get("etag") or first.get("last-modified") or first.get("vary")
    assert sample.counts()["total"] == 1


def test_each_route_does_what_its_file_says(behind):
    sample, w = behind
    ann, bob = [("Authorization", "Bearer ann")], [("Authorization", "Bearer bob")]
    bodies = [get(w, "/api/me", who).body for who in (ann, bob, ann, bob)]
    assert bodies[0] == bodies[2] != bodies[1] == bodies[3] and sample.counts()["paths"]["/api/me"] == 2
    assert get(w, "/api/me").status == 401
    assert [get(w, "/api/clips/100").hit for _ in range(2)] == [False, False], "an unlisted clip is private"
    assert get(w, "/api/feed", [("Cookie", "_ga_x=1; _gid=2")]).status == 200 and get(w, "/api/feed?utm=1").hit
    german, english = [("Accept-Language", "de")], [("Accept-Language", "en")]
    assert [get(w, "/api/search?q=a", h).hit for h in (german, english, german, english)] == [False, False, True, True]
    # A like is passed through, and its answer's Content-Location lets the clip go.
    before = get(w, "/api/clips/7").body
    assert get(w, "/api/clips/7").hit
    assert w.request("POST", "/api/clips/7/like").status == 200
    after = get(w, "/api/clips/7")
    assert not after.hit and json.loads(after.body)["likes"] == json.loads(before)["likes"] + 1
    assert w.request("GET", "/api/clips/7/like").status == 405
    assert get(w, "/api/elsewhere").status == 404
    events = get(w, "/api/events?count=3&every=10")
    assert events.clean and events.body.count(b"event: liked") == 3 and events.get("content-type") == "text/event-stream"


@pytest.mark.parametrize("field", [True, False], ids=["by field", "by query"])
def test_its_switches(make_sample, field):
    sample = make_sample()

    def ask(name, value, **kw):
        if field:
            return sample.get("/api/clips/42", [(f"X-Sample-{name}", value)], **kw)
        return sample.get(f"/api/clips/42?sample-{name}={value}", **kw)
    plain = sample.get("/api/clips/42")
    assert ask("fail", "503").status == 503 and ask("fail", "503").get("retry-after") == "1"
    slow = ask("delay", "300")
    assert slow.status == 200 and slow.first - slow.sent >= 0.3
    dribbled = ask("dribble", "10,300")
    assert dribbled.body == plain.body and dribbled.get("transfer-encoding") == "chunked" and dribbled.done - dribbled.first >= 0.25
    assert not ask("cut", "100").clean and len(ask("cut", "100").body) == 100
    assert ask("cache", "no-store").get("cache-control") == "no-store"
    refused = ask("nonsense", "1")
    assert refused.status == 400 and b"nonsense" in refused.body
    assert ask("delay", "long").status == 400
    for hang in ("head", "body"):  # until the client leaves
        with pytest.raises(TimeoutError):
            ask("hang", hang, timeout=0.3)
    with pytest.raises(AssertionError, match="without an answer"):
        ask("cut", "head")


def test_it_counts_its_requests(make_sample):
    sample = make_sample()
    tag = sample.get("/api/feed").get("etag")
    assert sample.get("/api/feed", [("If-None-Match", tag)]).status == 304
    sample.get("/api/clips/1")
    counts = sample.counts()
    assert counts["total"] == 3 and counts["not_modified"] == 1 and counts["in_flight"] == 0
    assert counts["kinds"] == {"feed": 2, "clip": 1} and counts["paths"] == {"/api/feed": 2, "/api/clips/1": 1}
    assert sample.request("POST", "/_reset").status == 200 and sample.counts()["total"] == 0


def test_it_is_slow_as_apis_are(make_sample):
    """Log-normal around 80 to 400 ms by kind: the medians lie there, and no two latencies are the same."""
    sample = make_sample(scale=1)
    for path in ("/api/feed", "/api/clips/1", "/api/search?q=a"):
        took = sorted(r.first - r.sent for r in (sample.get(path) for _ in range(5)))
        assert 0.06 < took[2] < 0.6 * SLOW and took[4] - took[0] > 0.005, took


@pytest.mark.skipif(bool(SANITIZER), reason="builds and runs the release build")
def test_dev_run_takes_another_conf_and_ends_on_ctrl_c(tmp_path, make_sample):
    sample = make_sample()
    text, parts, ports = reference_conf(sample)
    (tmp_path / "conf.d").mkdir()
    for name, part in {**parts, "weir.conf": text}.items():
        (tmp_path / name).write_text(part, encoding="utf-8")
    # A shell cannot trap what is ignored when it starts, as SIGINT is where a script started the tests by "&".
    dev = subprocess.Popen(["env", "--default-signal=INT", os.path.join(ROOT, "dev"), "run", "-c", str(tmp_path / "weir.conf")],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    said = []
    for line in dev.stdout:
        said.append(line)
        if "Ctrl-C stops it" in line:
            break
    else:
        pytest.fail("".join(said))
    c = client.Http1(address=("127.0.0.1", ports["8080"]))
    assert c.get("/api/feed").status == 200
    c.close()
    dev.send_signal(signal.SIGINT)
    rest = dev.communicate(timeout=30)[0]
    assert dev.returncode == 0, rest
    with pytest.raises(ConnectionRefusedError):
        client.Http1(address=("127.0.0.1", ports["8080"]))
