"""Bodies that are passed through, not kept: who is waited for, who is cut off, and who has gone."""
import time

import pytest

import client
from origin import Reply
from weir import SLOW

MINUTE = (("Cache-Control", "max-age=60"),)
NO_STORE = (("Cache-Control", "no-store"),)
GET_X = client.build("GET", "/x")
MIB = 1 << 20


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("max_object", ["256kb", "1mb"])
def test_a_sole_reader_is_never_cut_off(origin, start, max_object, framing):
    """It reads more slowly than the origin sends: then the origin waits."""
    body = bytes(12 * MIB)
    origin.on("/x", Reply(body, framing=framing, headers=NO_STORE))
    w = start(origin, memory={"size": "64mb", "max_object": max_object})
    c = w.http1(receive_buffer=65536)
    c.send(GET_X)
    r, total = c.head(), 0
    for piece in c.pieces(r):
        total += len(piece)
        if total < 3 * MIB:
            time.sleep(0.005)  # the pace of this reader
    assert r.clean and total == len(body)


def _both(w, streams, kind):
    """A reader that takes nothing after its window or buffer is full, and one that is fast, of one fetch."""
    if kind == "http2":
        deaf = w.http2(window=False)
        deaf.start("GET", "/x")
    else:
        deaf = w.http1(receive_buffer=4096)
        deaf.send(GET_X)
    stream = streams.wait()
    stream.send(b"x")
    fast = w.http1()
    fast.send(GET_X)
    r = fast.head()
    return deaf, stream, fast, r


def _until_the_end(c):
    while c.fill():
        pass
    return len(c.buffer)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("kind", ["http1", "http2"])
@pytest.mark.parametrize("size,max_object", [("64mb", "8mb"), ("16mb", "16mb")])
def test_a_reader_that_takes_nothing_neither_stalls_the_others_nor_empties_memory(origin, start, kind, size, max_object):
    streams = origin.streams(headers=MINUTE)
    origin.on("/x", streams)
    origin.default = Reply(b"o" * 50000, headers=MINUTE)
    w = start(origin, memory={"size": size, "max_object": max_object})
    for i in range(20):
        w.get(f"/other/{i}")
    deaf, stream, fast, r = _both(w, streams, kind)
    for _ in range(100):
        stream.send(bytes(MIB))
    stream.end()
    total = sum(len(piece) for piece in fast.pieces(r))
    assert r.clean and total == 100 * MIB + 1
    assert origin.count("/x") == 1
    if size == "64mb":
        assert w.get("/other/0").hit and origin.count() == 21, "others' responses went for what one does not read"
    if kind == "http2":
        deaf.wait(lambda: deaf.streams[1].reset is not None)
        deaf.h2.increment_flow_control_window(MIB)
        assert deaf.get("/other/0").status == 200, "the connection's other streams go on"
    else:
        assert _until_the_end(deaf) < 50 * MIB and deaf.ended == "reset"


def test_a_client_that_leaves_in_the_middle_is_noticed(origin, start):
    """The origin says nothing more meanwhile: no write fails."""
    streams = origin.streams(headers=NO_STORE)
    origin.on("/x", streams)
    w = start(origin)
    c = w.http1()
    c.send(GET_X)
    stream = streams.wait()
    stream.send(b"begin")
    assert next(c.pieces(c.head())) == b"begin"
    c.reset()
    assert stream.gone.wait(5 * SLOW)
    stream.end()


def test_who_stays_in_the_middle_gets_all_whatever_the_silence(origin, start):
    streams = origin.streams(headers=NO_STORE)
    origin.on("/x", streams)
    w = start(origin)
    c = w.http1()
    for n in (1, 2):  # on the same connection
        c.send(GET_X)
        stream = streams.wait(n)
        for _ in range(3):
            stream.send(b"some")
            time.sleep(0.1)  # longer than the program waits before it looks whether the client leaves
        stream.end()
        assert c.response().body == b"some" * 3
