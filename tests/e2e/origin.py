"""A scripted origin inside the test process: what it answers on each path is set by the test, and it remembers
every request it saw."""
import asyncio
import collections
import dataclasses
import email.utils
import inspect
import os
import select
import socket
import struct
import threading
import time
import traceback

WAIT = 10 if not os.environ.get("WEIR_SANITIZER") else 60


@dataclasses.dataclass
class Request:
    method: str
    target: str
    headers: list
    body: bytes
    connection: int  # which connection it came on
    nth: int         # how many-th of that connection, from 1
    at: float        # time.monotonic() when it had arrived

    @property
    def path(self):
        return self.target.partition("?")[0]

    @property
    def query(self):
        return self.target.partition("?")[2]

    def get(self, name, default=None):
        values = self.all(name)
        return ", ".join(values) if values else default

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]


@dataclasses.dataclass
class Reply:
    body: bytes = b""
    status: int = 200
    headers: tuple = ()       # (name, value) pairs, sent as they are
    framing: str = "length"   # length, chunked, close, or none (the headers given say all)
    gate: object = None       # Gate: waited for before anything is sent
    body_gate: object = None  # Gate: waited for between head and body
    before: tuple = ()        # before the answer: bytes are sent (interim responses), Gates waited for
    delay: float = 0          # seconds before the head
    stream: object = None     # Stream: the body, driven by the test (chunked or close framing)
    cut: int = None           # only that many bytes of the body, then the end of the connection
    end: str = "keep"         # keep, close (FIN), reset (RST): what comes after the answer
    raw: bytes = None         # these bytes in place of everything
    drop: bool = False        # no answer at all: the connection is closed
    hang: bool = False        # no answer at all: the connection stays
    date: bool = True

    def head(self):
        lines = [f"HTTP/1.1 {self.status} Scripted"]
        if self.date and not any(n.lower() == "date" for n, _ in self.headers):
            lines.append("Date: " + email.utils.formatdate(usegmt=True))
        lines += [f"{n}: {v}" for n, v in self.headers]
        bodyless = self.status in (204, 304)
        if self.framing == "length" and not bodyless:
            lines.append(f"Content-Length: {len(self.body)}")
        elif self.framing == "chunked" and not bodyless:
            lines.append("Transfer-Encoding: chunked")
        if self.end != "keep" or self.framing == "close":
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Gate:
    """Opens once, from any thread."""

    def __init__(self, loop):
        self._loop = loop
        self._event = asyncio.Event()

    def open(self):
        self._loop.call_soon_threadsafe(self._event.set)

    def wait(self):
        return self._event.wait()


class Stream:
    """A body whose pieces come when the test says so."""

    def __init__(self, loop, request):
        self._loop = loop
        self._queue = asyncio.Queue()
        self.request = request
        self.gone = threading.Event()  # weir closed the connection

    def _put(self, what):
        self._loop.call_soon_threadsafe(self._queue.put_nowait, what)

    def send(self, data):
        self._put(data)

    def end(self):
        self._put("end")

    def cut(self):
        self._put("cut")

    def reset(self):
        self._put("reset")

    def get(self):
        return self._queue.get()


class Streams:
    """A handler that gives every request a Stream of its own; the test picks them up in order."""

    def __init__(self, origin, **reply):
        self._origin = origin
        self._reply = {"framing": "chunked", **reply}
        self._streams = []
        self._news = threading.Condition()

    def __call__(self, request):
        stream = Stream(self._origin.loop, request)
        with self._news:
            self._streams.append(stream)
            self._news.notify_all()
        return Reply(stream=stream, **self._reply)

    def wait(self, n=1, timeout=WAIT):
        """The n-th stream, from 1."""
        with self._news:
            assert self._news.wait_for(lambda: len(self._streams) >= n, timeout), f"only {len(self._streams)} requests came"
            return self._streams[n - 1]

    def __len__(self):
        with self._news:
            return len(self._streams)


class Reader(asyncio.StreamReader):
    """Tells at once when the other side has closed, also while nobody reads."""

    def __init__(self, loop):
        super().__init__(limit=1 << 20, loop=loop)
        self.gone = asyncio.Event()

    def feed_eof(self):
        super().feed_eof()
        self.gone.set()

    def set_exception(self, exc):
        super().set_exception(exc)
        self.gone.set()


class Origin:
    def __init__(self, tls=None, unix=None, host="127.0.0.1", port=0):
        self.tls, self.unix, self.host, self.port = tls, unix, host, port
        self.requests = []
        self.faults = []
        self.routes = {}
        self.default = lambda request: Reply(b"no such thing\n", 404)
        self.connections = self.connections_max = self.connections_total = 0
        self.in_flight = self.in_flight_max = 0
        self._paths = collections.Counter()
        self._news = threading.Condition()
        self._stopping = False
        self.loop = None
        self._tasks = set()
        started = threading.Event()
        self._thread = threading.Thread(target=self._main, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    @property
    def url(self):
        if self.unix:
            return "unix:" + self.unix
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    # What it answers.
    def on(self, path, answer=None, **reply):
        """answer: a Reply, a callable (plain or async) of the request, or the parts of a Reply."""
        self.routes[path] = answer if answer is not None else Reply(**reply)
        return self.routes[path]

    def gate(self):
        return self._call(lambda: Gate(self.loop))

    def streams(self, **reply):
        return Streams(self, **reply)

    # What it saw.
    def seen(self, path=None, method=None):
        with self._news:
            return [r for r in self.requests if (path is None or r.path == path) and (method is None or r.method == method)]

    def count(self, path=None):
        with self._news:
            return len(self.requests) if path is None else self._paths[path]

    def wait(self, n, path=None, timeout=WAIT):
        """Waits until n requests (for path) have arrived in all."""
        with self._news:
            ok = self._news.wait_for(lambda: (len(self.requests) if path is None else self._paths[path]) >= n, timeout)
            assert ok, f"waited for {n} requests, saw {[r.target for r in self.requests][:20]}"
            return [r for r in self.requests if path is None or r.path == path]

    def wait_idle(self, timeout=WAIT):
        with self._news:
            assert self._news.wait_for(lambda: self.in_flight == 0, timeout), f"{self.in_flight} requests still in flight"

    def wait_no_connections(self, timeout=WAIT):
        with self._news:
            assert self._news.wait_for(lambda: self.connections == 0, timeout), f"{self.connections} connections still open"

    def forget(self):
        with self._news:
            self.requests.clear()
            self._paths.clear()
            self.in_flight_max, self.connections_max = self.in_flight, self.connections

    # The machinery.
    def _call(self, f):
        out, done = [], threading.Event()

        def run():
            out.append(f())
            done.set()
        self.loop.call_soon_threadsafe(run)
        assert done.wait(10)
        return out[0]

    def _main(self, started):
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._listen())
        started.set()
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    async def _listen(self):
        def protocol():
            return asyncio.StreamReaderProtocol(Reader(self.loop), self._serve, loop=self.loop)
        if self.unix:
            self._server = await self.loop.create_unix_server(protocol, self.unix, backlog=4096)
        else:
            self._server = await self.loop.create_server(protocol, self.host, self.port, ssl=self.tls, backlog=4096)
            self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self):
        """From now on connections are refused, and the open ones are closed."""
        def run():
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
        self._call(run)
        self.wait_no_connections()

    def accept_again(self):
        asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(10)

    def close(self):
        if not self._stopping:
            self._stopping = True

            def stop():
                self._server.close()
                self.loop.stop()
            self.loop.call_soon_threadsafe(stop)
            self._thread.join(20)
        assert not self.faults, "\n".join(self.faults)

    def _change(self, **by):
        with self._news:
            for name, n in by.items():
                setattr(self, name, getattr(self, name) + n)
            self.connections_max = max(self.connections_max, self.connections)
            self.in_flight_max = max(self.in_flight_max, self.in_flight)
            self._news.notify_all()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self._change(connections=1, connections_total=1)
        number = self.connections_total
        sock = writer.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        nth = 0
        try:
            while True:
                nth += 1
                request = await self._read(reader, number, nth)
                if request is None:
                    break
                with self._news:
                    self.requests.append(request)
                    self._paths[request.path] += 1
                self._change(in_flight=1)
                try:
                    if not await self._answer(request, reader, writer):
                        break
                finally:
                    self._change(in_flight=-1)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, TimeoutError):
            pass
        except Exception:  # pylint: disable=broad-except
            if not self._stopping:
                self.faults.append("the origin's script failed:\n" + traceback.format_exc())
        finally:
            self._tasks.discard(task)
            writer.close()
            self._change(connections=-1)

    async def _read(self, reader, number, nth):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as e:
            if e.partial:
                self.faults.append(f"half a request came: {e.partial[:200]!r}")
            return None
        lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ")
        headers = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                self.faults.append(f"a bad header line came: {line!r}")
            headers.append((name, value.strip(" \t")))
        length = [v for n, v in headers if n.lower() == "content-length"]
        coding = [v for n, v in headers if n.lower() == "transfer-encoding"]
        if len(length) > 1 or len(coding) > 1 or (length and coding) or version != "HTTP/1.1":
            self.faults.append(f"an ambiguous request came: {head!r}")
        if len([n for n, _ in headers if n.lower() == "host"]) != 1:
            self.faults.append(f"a request without exactly one Host came: {head!r}")
        body = b""
        if coding:
            while True:
                size = int((await reader.readline()).split(b";")[0], 16)
                piece = await reader.readexactly(size + 2)
                if size == 0:
                    break
                body += piece[:-2]
        elif length:
            body = await reader.readexactly(int(length[0]))
        return Request(method, target, headers, body, number, nth, time.monotonic())

    async def _answer(self, request, reader, writer):
        """False: the connection ends."""
        handler = self.routes.get(request.path, self.default)
        reply = handler
        if callable(handler):
            reply = handler(request)
            if inspect.isawaitable(reply):
                reply = await reply
        for step in reply.before:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            else:
                await self._or_gone(step.wait(), reader)
        if reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.gate:
            await self._or_gone(reply.gate.wait(), reader)
        if reply.drop:
            return False
        if reply.hang:
            await reader.gone.wait()
            return False
        if reply.raw is not None:
            writer.write(reply.raw)
            await writer.drain()
            return self._close(reply.end, writer)
        head_only = request.method == "HEAD" or reply.status in (204, 304)
        data = reply.head()
        if reply.stream:
            writer.write(data)
            return await self._stream(reply, reader, writer)
        if reply.body_gate:
            writer.write(data)
            data = b""
            await writer.drain()
            await self._or_gone(reply.body_gate.wait(), reader)
        body = b"" if head_only else reply.body
        whole = reply.cut is None
        if not whole:
            body = body[:reply.cut]
        if reply.framing == "chunked" and not head_only:
            body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if whole else b"")
        writer.write(data + body)
        await writer.drain()
        if not whole:
            return self._close("close" if reply.end == "keep" else reply.end, writer)
        if reply.framing == "close":
            return self._close("close" if reply.end == "keep" else reply.end, writer)
        return self._close(reply.end, writer)

    @staticmethod
    def _close(how, writer):
        if how == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return how == "keep"

    async def _stream(self, reply, reader, writer):
        gone = asyncio.ensure_future(reader.gone.wait())
        gone.add_done_callback(lambda f: f.cancelled() or reply.stream.gone.set())
        try:
            while True:
                piece = asyncio.ensure_future(reply.stream.get())
                await asyncio.wait({piece, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not piece.done():
                    piece.cancel()
                    return False
                what = piece.result()
                if what == "end":
                    if reply.framing == "chunked":
                        writer.write(b"0\r\n\r\n")
                        await writer.drain()
                    return self._close("close" if reply.framing == "close" else reply.end, writer)
                if what in ("cut", "reset"):
                    return self._close("close" if what == "cut" else "reset", writer)
                writer.write(b"%x\r\n%s\r\n" % (len(what), what) if reply.framing == "chunked" else what)
                await writer.drain()
        except ConnectionError:
            reply.stream.gone.set()
            return False
        finally:
            gone.cancel()

    @staticmethod
    async def _or_gone(what, reader):
        """Waits for something; when the other side leaves meanwhile, that ends the connection (as a real server's write
        would find out)."""
        waiting = asyncio.ensure_future(what)
        gone = asyncio.ensure_future(reader.gone.wait())
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not waiting.done():
            waiting.cancel()
            raise ConnectionResetError


class QuickOrigin:
    """One fixed answer after a fixed delay, as quickly as Python can: for tests that measure weir's time and not ours."""

    def __init__(self, answer, delay):
        self.answer, self.delay = answer, delay
        self.count = self.in_flight = self.in_flight_max = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.address = self._listener.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self._stop = threading.Event()
        self._wake, self._wake_far = socket.socketpair()
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def _main(self):
        poll = select.epoll()
        sockets = {}
        due = collections.deque()  # the delay is always the same, so the order of arrival is the order of answers
        self._listener.setblocking(False)
        poll.register(self._listener, select.EPOLLIN)
        poll.register(self._wake_far, select.EPOLLIN)
        while not self._stop.is_set():
            wait = max(0, due[0][0] - time.monotonic()) if due else 1
            for fd, _ in poll.poll(wait):
                if fd == self._listener.fileno():
                    try:
                        while True:
                            s, _ = self._listener.accept()
                            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                            sockets[s.fileno()] = s
                            poll.register(s, select.EPOLLIN)
                    except BlockingIOError:
                        pass
                elif fd in sockets:
                    try:
                        data = sockets[fd].recv(65536)
                    except OSError:
                        data = b""
                    if not data:
                        sockets.pop(fd).close()
                    elif data.endswith(b"\r\n\r\n"):
                        self.count += 1
                        self.in_flight += 1
                        self.in_flight_max = max(self.in_flight_max, self.in_flight)
                        due.append((time.monotonic() + self.delay, sockets[fd]))
            now = time.monotonic()
            while due and due[0][0] <= now:
                self.in_flight -= 1
                try:
                    due.popleft()[1].send(self.answer)
                except OSError:
                    pass
        for s in (*sockets.values(), self._listener, self._wake, self._wake_far):
            s.close()
        poll.close()

    def close(self):
        self._stop.set()
        self._wake.send(b"x")
        self._thread.join(10)
