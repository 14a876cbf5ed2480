"""Response heads on HTTP/2: what stands in the client's dynamic table (RFC 7541, RFC 9113 section 4.3.1)."""
import h2.settings
import pytest

import client
from origin import Reply

MINUTE = ("Cache-Control", "max-age=60")
TABLE_SIZE = h2.settings.SettingCodes.HEADER_TABLE_SIZE


def heads(c, paths):
    return [fields(r) for r in c.results([c.start("GET", p) for p in paths])]


def fields(r):
    """All that neither time nor the protocol changes."""
    return sorted((n.lower(), v) for n, v in r.headers
                  if n.lower() not in ("date", "age", "cache-status", "connection") and not v.endswith(" weir"))


@pytest.mark.parametrize("sizes", [[0], [33], [100], [4095], [4096], [65536], [300, 100, 50, 0], [0, 4096], [100, 4096]])
def test_a_client_may_have_a_small_table_or_none(origin, start, sizes):
    """Sections 4.2 and 6.3. A decoder that was made smaller takes no head until it has been told so."""
    origin.default = lambda q: Reply(b"x", headers=(MINUTE, ("Content-Type", "text/plain"), ("X-Path", q.target)))
    w = start(origin)
    paths = [f"/{i}" for i in range(5)]
    expected = [[("x-path", p)] for p in paths]
    c = w.http2()

    def own(got):
        return [[f for f in h if f[0] == "x-path"] for h in got]
    assert own(heads(c, paths)) == expected
    for size in sizes:
        c.h2.update_settings({TABLE_SIZE: size})
        c.flush()
        for _ in range(3):
            assert own(heads(c, paths)) == expected
    c.close()


def test_heads_are_the_same_however_often_the_table_is_full(origin, start):
    """More values than it has entries, in turn, some too long for it, on more connections than one."""
    def reply(q):
        n = int(q.path[1:])
        return Reply(b"x" * n, headers=(("Cache-Control", f"max-age={600 + n % 23}"), ("Content-Type", f"text/x-{n % 19}" + "y" * (n % 7 * 40)),
                                        ("Via", f"1.1 far-{n % 5}"), ("ETag", f'"{n}"'), ("X-Other", f"o{n % 3}")))
    origin.default = reply
    w = start(origin)
    plain = w.http1()
    paths = [f"/{i}" for i in range(90)]
    expected = {}
    for p in paths:
        expected[p] = fields(plain.get(p))
    for _ in range(2):
        c = w.http2()
        for order in (paths, paths[::-1], paths[::3] * 2):
            for p, got in zip(order, heads(c, order)):
                assert got == expected[p], p
        c.close()


def test_what_comes_again_takes_little_room(origin, start):
    origin.default = lambda q: Reply(b"x", headers=(MINUTE, ("Content-Type", "application/json")))
    w = start(origin)
    w.get("/x")
    c = w.http2()
    lengths = []
    c.h2._frame_dispatch_table[client.hyperframe.frame.HeadersFrame] = _watched(c, lengths)
    for _ in range(3):
        c.result(c.start("GET", "/x"))
    c.close()
    assert lengths[1] < 50 < lengths[0] and lengths[2] < 50


def _watched(c, lengths):
    theirs = c.h2._frame_dispatch_table[client.hyperframe.frame.HeadersFrame]

    def receive(frame):
        lengths.append(len(frame.data))
        return theirs(frame)
    return receive
