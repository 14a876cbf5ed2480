"""A real redis-server on a port of its own, and a client that speaks as much RESP2 as the tests need."""
import shutil
import signal
import socket
import subprocess
import time

import weir


class Error(Exception):
    """Redis said -ERR or the like."""


class Redis:
    def __init__(self, directory, *options):
        self.dir = directory
        self.port = weir.free_port()
        self.options = options
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self, *options):
        """Until it listens: it may be loading yet, or want a password."""
        binary = shutil.which("redis-server")
        assert binary, "there is no redis-server: ./dev deps"
        self.process = subprocess.Popen(
            [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.dir), "--save", "",
             "--appendonly", "no", "--loglevel", "warning", *self.options, *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10 * weir.SLOW
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, "redis-server does not start"
                time.sleep(0.01)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def command(self, *words, password=None):
        with socket.create_connection(("127.0.0.1", self.port), 10 * weir.SLOW) as s, s.makefile("rb") as f:
            if password:
                s.sendall(_encode("AUTH", password))
                _decode(f)
            s.sendall(_encode(*words))
            return _decode(f)

    def names(self):
        return sorted(self.command("KEYS", "*"))

    def records(self, namespace=b"weir"):
        return [n for n in self.names() if n.startswith(namespace + b":1:{") and not n.endswith(b"}")]


def _encode(*words):
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def _decode(f):
    line = f.readline()
    assert line.endswith(b"\r\n"), f"no answer: {line!r}"
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise Error(rest.decode())
    if kind == b"+":
        return rest
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if int(rest) < 0 else f.read(int(rest) + 2)[:-2]
    assert kind == b"*", line
    return [_decode(f) for _ in range(int(rest))]
