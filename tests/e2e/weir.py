"""The program under test: its configuration written, started on free ports, watched, stopped and judged."""
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import client

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.path.abspath(os.environ.get("WEIR") or os.path.join(ROOT, "build", "release", "weir"))
SANITIZER = os.environ.get("WEIR_SANITIZER", "")
# How much longer things may take: a sanitized build is several times slower. What is right never changes.
SLOW = 6 if SANITIZER else 1
HOST = "api.test"

FAULTS = re.compile(
    r"ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|SUMMARY: \w+Sanitizer|runtime error:|Assertion .* failed|assertion failed|"
    r"stack smashing|double free|corrupted|terminate called", re.I)

# Between the choice of a port and its use nobody else may take it: each test process has ports of its own, as long as it
# lives, over all that run on the machine.
PORTS_FIRST, PORTS_EACH, PORTS_SHARES = 10000, 200, 110
_ports = None


def _own_ports():
    for share in range(PORTS_SHARES):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0weir-test-ports-{share}")
        except OSError:
            claim.close()
            continue
        first = PORTS_FIRST + share * PORTS_EACH
        for port in itertools.cycle(range(first, first + PORTS_EACH)):
            yield port
    raise RuntimeError("all shares of ports are taken")


def free_port():
    global _ports
    _ports = _ports or _own_ports()
    for port in itertools.islice(_ports, PORTS_EACH):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("all ports are taken")


def _scalar(value):
    if value is True:
        return "on"
    if value is False:
        return "off"
    text = str(value)
    if isinstance(value, str) and not re.fullmatch(r"(?![\d.]+$)[A-Za-z0-9_/][A-Za-z0-9_./*%+-]*(:[A-Za-z0-9_./*%+-]+)*", text):
        return json.dumps(text)
    return text


def yaml(value, indent=0):
    """Writes dicts, lists, strings, numbers and switches as YAML in block style."""
    pad = " " * indent
    if isinstance(value, dict) and value:
        out = []
        for k, v in value.items():
            nested = isinstance(v, (dict, list)) and v
            out.append(f"{pad}{_scalar(k)}:" + ("\n" + yaml(v, indent + 2) if nested else " " + yaml(v)))
        return "\n".join(out)
    if isinstance(value, list) and value:
        return "\n".join(f"{pad}- " + yaml(v, indent + 2).lstrip() for v in value)
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return "[]"
    return _scalar(value)


def environment():
    env = dict(os.environ)
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0:exitcode=66")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1:exitcode=66")
    env.setdefault("TSAN_OPTIONS", "halt_on_error=0:exitcode=66:second_deadlock_stack=1")
    return env


def run(*args, cwd=None, timeout=20):
    """One command of the program, to its end: returncode, stdout, stderr."""
    return subprocess.run([BINARY, *args], cwd=cwd, env=environment(), timeout=timeout * SLOW, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, check=False)


class Weir:
    def __init__(self, directory, conf, files=None):
        """conf: a dict, or the text of the file itself. The ports used are read from a dict's listen and admin."""
        self.dir = str(directory)
        self.path = os.path.join(self.dir, "weir.conf")
        self.conf = conf
        self.port = self.admin_port = None
        self.process = None
        self.lines = []
        self._news = threading.Condition()
        self._open = []
        self.expect_exit = 0
        for name, text in (files or {}).items():
            self.write(name, text)
        self.configure(conf)

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = path + ".new"
        with open(temporary, "wb" if isinstance(text, bytes) else "w") as f:
            f.write(text)
        os.replace(temporary, path)
        return path

    def configure(self, conf):
        self.conf = conf
        if isinstance(conf, dict):
            for listen in conf.get("listen", []):
                if isinstance(listen, dict) and str(listen.get("address", "")).startswith("127.") and self.port is None:
                    self.port = int(listen["address"].rsplit(":", 1)[1])
            admin = conf.get("admin")
            if isinstance(admin, dict) and str(admin.get("address", "")).startswith("127."):
                self.admin_port = int(admin["address"].rsplit(":", 1)[1])
            conf = yaml(conf) + "\n"
        self.write("weir.conf", conf)

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def stderr(self):
        with self._news:
            return "".join(self.lines)

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        with open(os.path.join(self.dir, "stdout"), "wb") as out:
            self.process = subprocess.Popen([BINARY, "run", "-c", self.path], cwd=self.dir, env=environment(),
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_log(r"\bready\b", 10 * SLOW)
        return self

    def _read(self):
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line.decode("utf-8", "replace"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    _ended = False

    def wait_log(self, pattern, timeout=5 * SLOW, after=0):
        """Waits for a line on stderr; returns its index."""
        deadline = time.monotonic() + timeout
        with self._news:
            at = after
            while True:
                while at < len(self.lines):
                    if re.search(pattern, self.lines[at]):
                        return at
                    at += 1
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    raise AssertionError(f"no line /{pattern}/ on stderr; it says:\n" + "".join(self.lines[-50:]))
                self._news.wait(left)

    def signal(self, number):
        self.process.send_signal(number)

    def reload(self, conf=None):
        if conf is not None:
            self.configure(conf)
        self.signal(signal.SIGHUP)

    def reload_and_wait(self, conf):
        """Until all threads have it: they take it one after the other."""
        after = len(self.lines)
        self.reload(conf)
        self.wait_log("is in force", 10 * SLOW, after)

    # Clients. Those made here are closed before the program is stopped.
    def http1(self, **kw):
        kw.setdefault("address", self.address)
        c = client.Http1(**kw)
        self._open.append(c)
        return c

    def http2(self, **kw):
        kw.setdefault("address", self.address)
        c = client.Http2(**kw)
        self._open.append(c)
        return c

    def request(self, method, target, headers=(), body=None, **kw):
        c = client.Http1(address=self.address)
        try:
            return c.request(method, target, headers, body, **kw)
        finally:
            c.close()

    def get(self, target, headers=(), **kw):
        return self.request("GET", target, headers, **kw)

    # The admin listener.
    def admin(self, method, target, body=None, headers=()):
        c = client.Http1(address=("127.0.0.1", self.admin_port))
        try:
            return c.request(method, target, headers, body, host=f"127.0.0.1:{self.admin_port}")
        finally:
            c.close()

    def figures(self):
        r = self.admin("GET", "/health/cache")
        assert r.status == 200, r
        return json.loads(r.body)

    def until_waiting(self, n):
        """Until so many requests are answered by fetches that can be joined, those who began them included."""
        deadline = time.monotonic() + 10 * SLOW
        while self.figures()["flights"]["waiting"] != n:
            assert time.monotonic() < deadline, f"never {n} waiting: {self.figures()['flights']}"
            time.sleep(0.01)

    def purge(self, **what):
        r = self.admin("POST", "/purge", json.dumps(what).encode(), [("Content-Type", "application/json")])
        assert r.status == 200, (r.status, r.body)
        return json.loads(r.body)["purged"]

    def purge_path(self, path, **kw):
        return self.purge(url=f"http://{HOST}{path}", **kw)

    def rss_kb(self, field="VmRSS"):
        with open(f"/proc/{self.pid}/status") as f:
            return int(re.search(rf"^{field}:\s+(\d+) kB", f.read(), re.M).group(1))

    # The end.
    def close_clients(self):
        while self._open:
            self._open.pop().close()

    def terminate(self, timeout=15):
        """SIGTERM, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout=15):
        try:
            code = self.process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            self._stacks()
            self.process.kill()
            self.process.wait()
            self._reader.join(10)
            raise AssertionError(f"it did not end within {timeout * SLOW} s; stderr:\n{self.stderr[-4000:]}") from None
        self._reader.join(10)
        self.process.stderr.close()
        return code

    def _stacks(self):
        gdb = shutil.which("gdb")
        if gdb:
            out = subprocess.run([gdb, "-p", str(self.pid), "-batch", "-ex", "thread apply all bt 12"], text=True,
                                 capture_output=True, timeout=60, check=False)
            print(out.stdout[-8000:])

    def finish(self):
        """Stops it if it still runs. Any crash, other exit status or sanitizer's report fails the test."""
        self.close_clients()
        if self.process is None:
            return
        code = self.terminate() if self.process.poll() is None else self.wait()
        errors = self.stderr
        if errors:
            print(f"--- stderr of {self.path}\n{errors[-6000:]}")
        assert not FAULTS.search(errors), "a fault was reported:\n" + errors[-12000:]
        assert code == self.expect_exit, f"exit status {code}; stderr:\n{errors[-4000:]}"


def base_conf(origin, *, routes=None, route=None, ttl=None, backend=None, limits=None, memory=None, listen=None, **more):
    """A configuration with one plain listener, an admin listener and one backend `api` in front of origin."""
    conf = {
        "threads": 2,
        "listen": listen or [{"address": f"127.0.0.1:{free_port()}"}],
        "admin": {"address": f"127.0.0.1:{free_port()}"},
        "memory": memory or {"size": "64mb"},
        "backends": {"api": {"servers": [origin.url] if origin else ["http://127.0.0.1:9"], **(backend or {})}},
        "routes": [{"backend": "api", **r} for r in (routes or [{"path": "/**", **(route or {})}])],
    }
    if ttl:
        conf["ttl"] = ttl
    if limits:
        conf["limits"] = limits
    conf.update(more)
    return conf
