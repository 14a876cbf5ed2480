"""Bodies that are passed through, not kept: who is waited for, who is cut off, and who has gone."""
import threading
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
