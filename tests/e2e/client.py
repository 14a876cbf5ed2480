"""Clients that believe nothing: HTTP/1.1 on raw sockets, read strictly; many at once; and HTTP/2 on python3-h2."""
import gc
import os
import re
import select
import socket
import ssl
import struct
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hyperframe.frame

TIMEOUT = 10 if not os.environ.get("WEIR_SANITIZER") else 60
HOST = "api.test"
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Malformed(AssertionError):
    """What came is no well-formed HTTP."""


class GoneAway(Exception):
    """The other side has said that it takes no more streams."""


class Response:
    def __init__(self, status, headers, raw_head=b""):
        self.status = status
        self.headers = headers  # (name, value) pairs in order, names as they came
        self.raw_head = raw_head
        self.body = b""
        self.clean = False      # the body came to its proper end
        self.trailers = []
        self.interim = []       # the interim responses before it
        self.framing = None
        self.reset = None       # HTTP/2: error code of RST_STREAM
        self.sent = self.first = self.done = None  # time.monotonic()

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        return ", ".join(values) if values else default

    def names(self):
        return [n.lower() for n, _ in self.headers]

    @property
    def age(self):
        values = self.all("age")
        assert len(values) <= 1, f"several Age fields: {values}"
        return int(values[0]) if values else None

    @property
    def cache(self):
        """weir's member of Cache-Status, as a dict of its parameters."""
        members = [m.strip() for m in re.split(r",(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", self.get("cache-status", ""))]
        mine = [m for m in members if re.match(r"weir($|\s*;)", m)]
        assert len(mine) == 1, f"not one member of weir's in Cache-Status: {self.get('cache-status')!r}"
        out = {}
        for parameter in mine[0].split(";")[1:]:
            name, equals, value = parameter.strip().partition("=")
            assert re.fullmatch(r"[a-z*][a-z0-9_.*-]*", name), f"no structured field: {mine[0]!r}"
            assert name not in out, f"a parameter twice: {mine[0]!r}"
            out[name] = True if not equals else int(value) if re.fullmatch(r"-?\d+", value) else value.strip('"')
        return out

    @property
    def hit(self):
        return self.cache.get("hit", False)

    def __repr__(self):
        return f"<{self.status} {self.get('cache-status')!r} {self.body[:60]!r}{'' if self.clean else ' BROKEN'}>"


def build(method, target, headers=(), body=None, host=HOST, chunked=False):
    lines = [f"{method} {target} HTTP/1.1"]
    if host is not None and not any(n.lower() == "host" for n, _ in headers):
        lines.append(f"Host: {host}")
    lines += [f"{n}: {v}" for n, v in headers]
    data = body or b""
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        pieces = [data[i:i + 1000] for i in range(0, len(data), 1000)]
        data = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    elif body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + data


def parse_head(raw):
    """The head up to and including the empty line, read strictly."""
    text = raw.decode("latin-1")
    if not text.endswith("\r\n\r\n") or re.search(r"(?<!\r)\n|\r(?!\n)|\0", text):
        raise Malformed(f"bad line ends in {text!r}")
    lines = text[:-4].split("\r\n")
    m = re.fullmatch(r"HTTP/1\.1 (\d{3}) [^\x00-\x08\x0a-\x1f\x7f]*", lines[0])
    if not m:
        raise Malformed(f"bad status line {lines[0]!r}")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not TOKEN.fullmatch(name):
            raise Malformed(f"bad header line {line!r}")
        headers.append((name, value.strip(" \t")))
    r = Response(int(m.group(1)), headers, raw)
    lengths, codings = r.all("content-length"), r.all("transfer-encoding")
    if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
        raise Malformed(f"ambiguous framing in {text!r}")
    if lengths and not re.fullmatch(r"\d+", lengths[0]):
        raise Malformed(f"bad Content-Length in {text!r}")
    if codings and codings[0].lower() != "chunked":
        raise Malformed(f"bad Transfer-Encoding in {text!r}")
    for name in ("date", "age", "content-type", "etag"):
        if len(r.all(name)) > 1:
            raise Malformed(f"{name} twice in {text!r}")
    return r


class Http1:
    """One connection."""

    def __init__(self, address, tls=None, server_name=None, timeout=TIMEOUT, session=None, receive_buffer=None):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        if family == socket.AF_INET:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=server_name, session=session)
        self.buffer = b""
        self.ended = None  # "fin" or "reset" once the other side has closed

    def send(self, data):
        self.sock.sendall(data)

    def request(self, method, target, headers=(), body=None, host=HOST, chunked=False):
        sent = time.monotonic()
        self.send(build(method, target, headers, body, host, chunked))
        r = self.response(method)
        r.sent = sent
        return r

    def get(self, target, headers=(), **kw):
        return self.request("GET", target, headers, **kw)

    def fill(self):
        """Reads some more. False at the end of the connection."""
        if self.ended:
            return False
        try:
            data = self.sock.recv(262144)
        except (ConnectionResetError, ssl.SSLError, BrokenPipeError) as e:
            if isinstance(e, TimeoutError):
                raise
            self.ended = "reset"
            return False
        if not data:
            self.ended = "fin"
            return False
        self.buffer += data
        return True

    def any_head(self):
        """The next head, be it interim; None if the connection ended before."""
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > 1 << 20:
                raise Malformed("a head without an end")
            if not self.fill():
                if self.buffer:
                    raise Malformed(f"half a head: {self.buffer!r}")
                return None
        raw, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        r = parse_head(raw + b"\r\n\r\n")
        r.first = time.monotonic()
        return r

    def head(self):
        """The next head of an answer; None if the connection ended before."""
        interim = []
        while True:
            r = self.any_head()
            if r is None or r.status >= 200:
                break
            interim.append(r)
        if r is not None:
            r.interim = interim
        return r

    def pieces(self, r, method="GET"):
        """The body, piece by piece as it comes; sets r.clean at a proper end."""
        coding, length = r.get("transfer-encoding"), r.get("content-length")
        if method == "HEAD" or r.status in (204, 304):
            r.framing, r.clean = "none", True
            return
        if coding:
            r.framing = "chunked"
            while True:
                line = self._line()
                if line is None:
                    return
                if not re.fullmatch(rb"[0-9a-fA-F]+", line):
                    raise Malformed(f"bad chunk size {line!r}")
                size = int(line, 16)
                if size == 0:
                    while True:
                        line = self._line()
                        if line is None:
                            return
                        if line == b"":
                            r.clean = True
                            return
                        r.trailers.append(line)
                left = size
                while left > 0:
                    if not self.buffer and not self.fill():
                        return
                    piece, self.buffer = self.buffer[:left], self.buffer[left:]
                    left -= len(piece)
                    yield piece
                while len(self.buffer) < 2:
                    if not self.fill():
                        return
                if self.buffer[:2] != b"\r\n":
                    raise Malformed("no CRLF after a chunk")
                self.buffer = self.buffer[2:]
        elif length is not None:
            r.framing = "length"
            left = int(length)
            while left > 0:
                if not self.buffer and not self.fill():
                    return
                piece, self.buffer = self.buffer[:left], self.buffer[left:]
                left -= len(piece)
                yield piece
            r.clean = True
        else:
            r.framing = "close"
            while True:
                if self.buffer:
                    piece, self.buffer = self.buffer, b""
                    yield piece
                if not self.fill():
                    r.clean = self.ended == "fin"
                    return

    def _line(self):
        while b"\r\n" not in self.buffer:
            if not self.fill():
                return None
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def response(self, method="GET"):
        r = self.head()
        assert r is not None, "the connection ended without an answer"
        r.body = b"".join(self.pieces(r, method))
        r.done = time.monotonic()
        return r

    def at_end(self, timeout=None):
        """Waits for the other side to close; True if it does, False if it says something or stays."""
        if timeout is not None:
            self.sock.settimeout(timeout)
        try:
            return not self.buffer and not self.fill()
        except (TimeoutError, socket.timeout):
            return False

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()


class _Member:
    __slots__ = ("sock", "request", "data", "head_end", "left", "chunked", "sent", "first", "done", "ended", "eof", "first_body")

    def __init__(self, sock, request):
        self.sock, self.request = sock, request
        self.data = bytearray()
        self.head_end = self.left = self.sent = self.first = self.done = self.ended = self.first_body = None
        self.chunked = self.eof = False


class Herd:
    """Many HTTP/1.1 clients with one request each, in one thread: connected first, then all let go at once.

    Bytes are only gathered while it runs, so that the measured times are the server's; they are parsed afterwards."""

    def __init__(self, address, requests):
        self.members = []
        self.poll = select.epoll()
        self.by_fd = {}
        for request in requests:
            sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
            sock.connect(address)
            sock.setblocking(False)
            if not isinstance(address, str):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            m = _Member(sock, request)
            self.members.append(m)
            self.by_fd[sock.fileno()] = m
            self.poll.register(sock.fileno(), select.EPOLLIN)

    def go(self):
        self.begun = time.monotonic()
        for m in self.members:
            m.sent = time.monotonic()
            m.sock.send(m.request)
        return self

    def gather(self, timeout=None, until=None):
        """Until every member has its whole answer or has been closed (or until() says so)."""
        deadline = time.monotonic() + (timeout or TIMEOUT)
        collect = gc.isenabled()
        gc.disable()
        try:
            waiting = sum(1 for m in self.members if m.ended is None)
            while waiting and not (until and until()):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"{waiting} of {len(self.members)} had no whole answer in time")
                for fd, _ in self.poll.poll(min(left, 0.05) if until else left):
                    m = self.by_fd.get(fd)
                    if m and self._take(m):
                        waiting -= 1
        finally:
            if collect:
                gc.enable()
        return self

    def _take(self, m):
        try:
            data = m.sock.recv(262144)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
            m.ended = "reset"
        now = time.monotonic()
        if not data:
            m.ended = m.ended or "fin"
            m.eof = True
            m.done = now
            self.leave(m)
            return True
        if m.first is None:
            m.first = now
        m.data += data
        if m.head_end is None:
            at = m.data.find(b"\r\n\r\n")
            if at < 0:
                return False
            m.head_end = at + 4
            head = bytes(m.data[:m.head_end]).lower()
            m.chunked = b"\r\ntransfer-encoding:" in head
            length = re.search(rb"\r\ncontent-length: *(\d+)", head)
            m.left = int(length.group(1)) if length else None
        if m.first_body is None and len(m.data) > m.head_end:
            m.first_body = now
        if (m.chunked and (m.data.endswith(b"\r\n0\r\n\r\n") or bytes(m.data[m.head_end:]) == b"0\r\n\r\n")) or (
                m.left is not None and len(m.data) >= m.head_end + m.left):
            m.ended = "whole"
            m.done = now
            self.poll.unregister(m.sock.fileno())
            return True
        return False

    def leave(self, m, reset=False):
        """One member goes away in the middle."""
        fd = m.sock.fileno()
        if fd >= 0:
            self.by_fd.pop(fd, None)
            self.poll.unregister(fd)
            if reset:
                m.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            m.sock.close()
        m.ended = m.ended or "left"

    def answers(self):
        """A Response for each member; None for one that left or was closed without a word."""
        return [self.answer(m) for m in self.members]

    @staticmethod
    def answer(m):
        if not m.data or m.ended == "left":
            return None
        c = Http1.__new__(Http1)
        c.buffer, c.ended = bytes(m.data), m.ended if m.eof else "fin"
        r = c.head()
        if r is None:
            return None
        r.body = b"".join(c.pieces(r, m.request.split(b" ", 1)[0].decode()))
        if c.buffer:
            raise Malformed(f"bytes after the end of the answer: {c.buffer[:100]!r}")
        if m.ended == "whole":
            assert r.clean
        r.sent, r.first, r.done = m.sent, m.first, m.done
        return r

    def close(self):
        for m in self.members:
            m.sock.close()
        self.poll.close()


def herd(address, requests, timeout=None):
    """All at once; returns the answers."""
    h = Herd(address, requests)
    try:
        return h.go().gather(timeout).answers()
    finally:
        h.close()


class Http2:
    """One connection, many streams. Nothing is checked on the way out, so that tests may send nonsense."""

    def __init__(self, address, tls=None, server_name=None, timeout=TIMEOUT, settings=None, upgrade=None, window=True):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        if family == socket.AF_INET:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.scheme = "http"
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=server_name)
            assert self.sock.selected_alpn_protocol() == "h2", self.sock.selected_alpn_protocol()
            self.scheme = "https"
        self.timeout = timeout
        self.window = window  # give credit back as DATA comes
        self.streams = {}
        self.goaway = None
        self.closed = False
        config = h2.config.H2Configuration(client_side=True, header_encoding="latin-1", validate_outbound_headers=False,
                                           normalize_outbound_headers=False, validate_inbound_headers=True)
        self.h2 = h2.connection.H2Connection(config)
        # python3-h2 would take GOAWAY for the end of everything; the streams that run are finished after it.
        self.h2._frame_dispatch_table[hyperframe.frame.GoAwayFrame] = self._on_goaway  # pylint: disable=protected-access
        self.h2.local_settings.update({h2.settings.SettingCodes.ENABLE_PUSH: 0})
        if settings:
            self.h2.local_settings.update(settings)
        if upgrade:
            self.upgraded = self._upgrade(*upgrade)
        else:
            self.h2.initiate_connection()
            self.flush()

    def _on_goaway(self, frame):
        self.goaway = frame.error_code
        return [], []

    def _upgrade(self, method, target, headers, body):
        """HTTP/1.1 Upgrade: the answer comes as stream 1."""
        settings = self.h2.initiate_upgrade_connection()
        self.send(build(method, target, [*headers, ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"),
                                         ("HTTP2-Settings", settings.decode())], body))
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.sock.recv(65536)
            assert piece, f"no 101 but {data!r}"
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.streams[1] = Response(None, [])
        self.flush()
        if rest:
            self._events(self.h2.receive_data(rest))
            self.flush()
        return 1

    def send(self, data):
        self.sock.sendall(data)

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            try:
                self.sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                self.closed = True

    def start(self, method, path, headers=(), body=None, host=HOST, pseudo=None, end=None):
        """Sends a request; returns the stream's id. pseudo: the pseudo-header fields instead of the usual ones."""
        if self.goaway is not None or self.closed:
            raise GoneAway
        sid = self.h2.get_next_available_stream_id()
        if pseudo is None:
            pseudo = [(":method", method), (":scheme", self.scheme), (":authority", host), (":path", path)]
        end = body is None if end is None else end
        r = self.streams[sid] = Response(None, [])
        r.sent = time.monotonic()
        self.h2.send_headers(sid, [*pseudo, *headers], end_stream=end)
        self.flush()
        if body is not None:
            at = 0
            while at < len(body):
                room = min(self.h2.local_flow_control_window(sid), self.h2.max_outbound_frame_size, len(body) - at)
                if room <= 0:
                    if not self.pump():
                        break
                    if r.reset is not None or r.clean:
                        return sid
                    continue
                self.h2.send_data(sid, body[at:at + room])
                at += room
                self.flush()
            self.h2.end_stream(sid)
            self.flush()
        return sid

    def reset(self, sid, code=h2.errors.ErrorCodes.CANCEL):
        self.h2.reset_stream(sid, code)
        self.flush()

    def pump(self, timeout=None):
        """Reads once and works on what came. False at the end of the connection."""
        if self.closed:
            return False
        self.sock.settimeout(self.timeout if timeout is None else timeout)
        try:
            data = self.sock.recv(262144)
        except (ConnectionResetError, ssl.SSLError) as e:
            if isinstance(e, TimeoutError):
                raise
            data = b""
        if not data:
            self.closed = True
            return False
        self._events(self.h2.receive_data(data))
        self.flush()
        return True

    def _events(self, events):
        now = time.monotonic()
        for e in events:
            r = self.streams.get(getattr(e, "stream_id", None))
            if isinstance(e, h2.events.ResponseReceived):
                fields = [(str(n), str(v)) for n, v in e.headers]
                r.status = int(dict(fields)[":status"])
                r.headers = [(n, v) for n, v in fields if not n.startswith(":")]
                r.first = now
                for name in ("date", "age", "content-type", "etag", "content-length"):
                    if len(r.all(name)) > 1:
                        raise Malformed(f"{name} twice in {fields}")
            elif isinstance(e, h2.events.DataReceived):
                if not r.body:
                    r.body = bytearray()  # grows in place; made bytes at the end
                r.body += e.data
                if self.window and e.flow_controlled_length:
                    self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
            elif isinstance(e, h2.events.StreamEnded):
                r.clean, r.done, r.body = True, now, bytes(r.body)
            elif isinstance(e, h2.events.StreamReset):
                if r is not None:
                    r.reset, r.done = e.error_code, now

    def over(self, sid):
        r = self.streams[sid]
        return r.clean or r.reset is not None

    def result(self, sid, timeout=None):
        """Waits for the stream's end, its reset, or the connection's end."""
        self.results([sid], timeout)
        return self.streams[sid]

    def results(self, sids, timeout=None):
        deadline = time.monotonic() + (timeout or self.timeout)
        waiting = {s for s in sids if not self.over(s)}
        while waiting:
            left = deadline - time.monotonic()
            assert left > 0, f"streams {sorted(waiting)[:10]} had no end in time"
            if not self.pump(left):
                break
            waiting = {s for s in waiting if not self.over(s)}
        return [self.streams[s] for s in sids]

    def wait(self, condition, timeout=None):
        deadline = time.monotonic() + (timeout or self.timeout)
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, "it did not come in time"
            if not self.pump(left):
                assert condition(), "the connection ended"

    def request(self, method, path, headers=(), body=None, **kw):
        return self.result(self.start(method, path, headers, body, **kw))

    def get(self, path, headers=(), **kw):
        return self.request("GET", path, headers, **kw)

    def at_end(self, timeout):
        """True if the other side closes in time."""
        deadline = time.monotonic() + timeout
        try:
            while self.pump(max(0.01, deadline - time.monotonic())):
                if time.monotonic() > deadline:
                    return False
        except (TimeoutError, socket.timeout):
            return False
        return True

    def close(self):
        self.sock.close()
