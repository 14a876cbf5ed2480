"""Everything at once, at random, for a while; every answer is held against a model of what was allowed.

The origin writes into each body what it is an answer to and when it was made. A client knows when it asked and when it
was answered. From these two the model says, without knowing what weir did:

  right       the body is for this path, this user (on user routes) and this variant;
  whole       a body that ended cleanly is all there; a cut one never ends cleanly;
  not too old the origin made it, or confirmed it by 304, no longer before the request than its lifetime and stale windows;
              weir reads the clock once for all that came together, so that one which was held up in between may serve
              what ended meanwhile: few answers, and not by much;
  not purged  it was made after the sending of the last purge (or successful unsafe request) that had been answered when
              the request was sent.
"""
import hashlib
import json
import os
import random
import threading
import time

import pytest

import client
from origin import Reply
from weir import SLOW, base_conf

SECONDS = float(os.environ.get("WEIR_STORM_SECONDS", "20"))
SEED = int(os.environ.get("WEIR_STORM_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
SLACK = 0.3 * SLOW   # between the origin's clock reading and weir's, both ways
HELD_UP = 5 * SLOW   # the longest that the machine may hold a process up
KEYS = 6
USERS = ["ann", "bob", "eve", None]
# What is asked for, and which of the origin's languages it gets. Some mean the same, some are not known to.
LANGUAGES = {"de": "de", "en": "en", "fr": "fr", "de, en;q=0.5": "de", "en;q=0.5,DE": "de", "de-AT, de;q=0.9": "de",
             "fr, *;q=0.1": "fr", "fr;x": "fr", "en-GB": "en"}
LANGUAGES.update({f"{c}, x-{i};q=0.1": c for c in ("de", "en", "fr") for i in range(10)})
# What a route's answers may be used for, in seconds: lifetime and the longer of the stale windows, over all reloads.
FRESH = {"plain": 0.4, "user": 0.4, "vary": 0.4, "etag": 0.4, "swr": 0.4, "sie": 0.4, "flaky": 0.4, "nostore": 0}
STALE = {"swr": 1.0, "sie": 3.0}


class Model:
    def __init__(self):
        self.lock = threading.Lock()
        self.purges = {}     # path -> time the last answered purge was sent
        self.purge_all = 0.0
        self.confirmed = {}  # identity of a body -> when the origin last stood by it
        self.versions = {}   # path -> version, for validators
        self.faults = []
        self.counts = {}

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def fault(self, what, *facts):
        with self.lock:
            self.faults.append(f"{what}: {facts}")

    def purged(self, path, sent):
        with self.lock:
            if path is None:
                self.purge_all = max(self.purge_all, sent)
            else:
                self.purges[path] = max(self.purges.get(path, 0.0), sent)

    def purge_before(self, path):
        with self.lock:
            return max(self.purges.get(path, 0.0), self.purge_all)


def script(model, rng):
    """The origin. It runs in one thread; rng and versions are its own."""
    serial = [0]

    def answer(q):
        kind = q.path.split("/")[1]
        if q.method != "GET":
            model.versions[q.path] = model.versions.get(q.path, 0) + 1
            return Reply(b"changed", 200 if rng.random() < 0.9 else 500)
        now = time.monotonic()
        user, language = q.get("authorization"), LANGUAGES.get(q.get("accept-language"))
        if rng.random() < 0.05:
            model.versions[q.path] = model.versions.get(q.path, 0) + 1
        version = f'"{model.versions.get(q.path, 0)}.{language if kind == "vary" else ""}"'
        headers = [("X-Made", f"{now:.6f}")]
        if kind == "vary":
            headers += [("Vary", "Accept-Language"), ("Content-Language", language)]
        if kind == "user":
            headers.append(("Cache-Control", "private"))
        if kind == "nostore":
            headers.append(("Cache-Control", "no-store"))
        if kind in ("etag", "vary"):
            headers.append(("ETag", version))
            if version in q.get("if-none-match", "").split(", "):
                with model.lock:
                    model.confirmed[(q.path, version)] = now
                return Reply(status=304, headers=tuple(headers), delay=rng.random() * 0.05)
            with model.lock:
                model.confirmed[(q.path, version)] = now
        serial[0] += 1
        facts = {"path": q.path, "kind": kind, "user": user if kind == "user" else None, "language": language if kind == "vary" else None,
                 "made": now, "serial": serial[0], "version": version}
        head = json.dumps(facts).encode() + b"\n"
        filler = hashlib.sha256(head).hexdigest().encode() * rng.choice([1, 10, 300, 3000])
        body = head + filler + b"\nend"
        reply = Reply(body, headers=tuple(headers), framing=rng.choice(["length", "chunked"]), delay=rng.random() * 0.08)
        if kind in ("flaky", "sie"):
            dice = rng.random()
            if dice < 0.08:
                reply.cut, reply.end = rng.randrange(len(body)), rng.choice(["close", "reset"])
            elif dice < 0.14:
                reply = Reply(drop=True)
            elif dice < 0.2:
                reply = Reply(b"failure", 503, delay=0.02)
        return reply
    return answer


def whole(body):
    head, newline, rest = body.partition(b"\n")
    if not newline or not rest.endswith(b"\nend"):
        return None
    digest = hashlib.sha256(head + b"\n").hexdigest().encode()
    filler = rest[:-4]
    if len(filler) % len(digest) or filler != digest * (len(filler) // len(digest)):
        return None
    return json.loads(head)


def judge(model, asked, r, sent, floor):
    """asked: kind, path, user, language. floor: the last purge that had been answered when the request was sent."""
    kind, path, user, language = asked
    if not r.clean:
        if kind not in ("flaky", "sie"):
            model.fault("broken although the origin was well", asked, r)
        model.count("broken")
        return
    if r.status in (502, 503, 504):
        if kind not in ("flaky", "sie"):
            model.fault("an error although the origin was well", asked, r.status, r.body[:200], r.get("cache-status"))
        model.count("errors")
        return
    if r.status != 200:
        model.fault("a strange status", asked, r)
        return
    facts = whole(r.body)
    if facts is None:
        model.fault("a clean end of a body that is not whole", asked, len(r.body), r.headers)
        return
    if facts["path"] != path:
        model.fault("another path's answer", asked, facts, r.get("cache-status"))
    if kind == "user" and facts["user"] != user:
        model.fault("ANOTHER USER'S ANSWER", asked, facts, r.get("cache-status"))
    if kind == "vary" and facts["language"] != LANGUAGES[language]:
        model.fault("another variant", asked, facts, r.get("cache-status"))
    made = facts["made"]
    if made < floor:
        model.fault(f"older by {floor - made:.3f} s than a purge that was answered", asked, facts, r.get("cache-status"))
    stood_by = made
    if kind in ("etag", "vary"):
        with model.lock:
            stood_by = max(made, model.confirmed.get((path, facts["version"]), 0.0))
    late = sent - stood_by - FRESH[kind] - STALE.get(kind, 0)
    if late > HELD_UP:
        model.fault(f"{sent - stood_by:.3f} s old", asked, facts, r.get("cache-status"), r.age)
    elif late > SLACK:
        model.count("late")
    if kind == "nostore" and r.hit:
        model.fault("a no-store answer served again", asked, facts)
    model.count("hit" if r.hit else r.cache.get("fwd", "?"))


def choose(rng):
    kind = rng.choice(list(FRESH))
    path = f"/{kind}/{rng.randrange(KEYS)}"
    user = rng.choice(USERS) if kind == "user" else None
    language = rng.choice(list(LANGUAGES)) if kind == "vary" else None
    headers = ([("authorization", user)] if user else []) + ([("accept-language", language)] if language else [])
    return (kind, path, user, language), headers


def by_http1(w, model, rng, stop):
    c = w.http1()
    while not stop.is_set():
        asked, headers = choose(rng)
        floor, sent = model.purge_before(asked[1]), time.monotonic()
        dice = rng.random()
        if dice < 0.03:  # asks and leaves
            c.send(client.build("GET", asked[1], headers))
            rng.choice([c.close, c.reset])()
            c = w.http1()
            continue
        if dice < 0.06:
            method = rng.choice(["POST", "PUT", "DELETE"])
            r = c.request(method, asked[1], headers, b"change")
            if r.status == 200:
                model.purged(asked[1], sent)
                model.count("unsafe")
        else:
            r = c.get(asked[1], headers)
            judge(model, asked, r, sent, floor)
        if not r.clean or r.get("connection", "").lower() == "close" or c.ended:
            c.close()
            c = w.http1()


def by_herd(w, model, rng, stop):
    while not stop.is_set():
        asked = [choose(rng) for _ in range(3)] * 10
        floors = [model.purge_before(a[1]) for a, _ in asked]
        for (a, _), floor, r in zip(asked, floors, client.herd(w.address, [client.build("GET", a[1], h) for a, h in asked])):
            if r is None:
                if a[0] not in ("flaky", "sie"):
                    model.fault("closed without an answer", a)
            else:
                judge(model, a, r, r.sent, floor)


def by_http2(w, model, rng, stop):
    c = w.http2()
    requests = 0
    while not stop.is_set():
        batch = []
        for _ in range(rng.randrange(1, 20)):
            asked, headers = choose(rng)
            floor, sent = model.purge_before(asked[1]), time.monotonic()
            sid = c.start("GET", asked[1], headers)
            if rng.random() < 0.02:
                c.reset(sid)
            else:
                batch.append((asked, sid, floor, sent))
        for (asked, sid, floor, sent), r in zip(batch, c.results([b[1] for b in batch])):
            if r.reset is None and not r.clean:
                model.fault("the HTTP/2 connection ended", asked, c.goaway)
                return
            judge(model, asked, r, sent, floor)
        c.streams.clear()
        requests += len(batch)
        if requests > 500:
            c.close()
            c, requests = w.http2(), 0


def purger(w, model, rng, stop):
    while not stop.wait(0.05 + rng.random() * 0.2):
        kind, path, _, _ = choose(rng)[0]
        sent = time.monotonic()
        if rng.random() < 0.1:
            w.purge(all=True)
            model.purged(None, sent)
        elif rng.random() < 0.3:
            w.purge(prefix=f"http://api.test/{kind}/")
            for i in range(KEYS):
                model.purged(f"/{kind}/{i}", sent)
        else:
            w.purge_path(path)
            model.purged(path, sent)
        model.count("purges")


def storm_conf(origin, variation=0):
    routes = [{"path": f"/{kind}/*", "ttl": kind if kind in STALE else "t"} for kind in FRESH]
    routes[list(FRESH).index("user")].update(scope="user", user={"header": "Authorization"})
    routes += [{"path": f"/extra{i}", "ttl": "t"} for i in range(variation % 3)]
    fresh = f"{[400, 300, 200][variation % 3]}ms"
    return base_conf(origin, threads=3, routes=routes, memory={"size": "16mb"},
                     ttl={"t": {"fresh": fresh, "jitter": f"{variation % 4 * 10}%"}, "swr": {"fresh": fresh, "stale_while_revalidate": "1s"},
                          "sie": {"fresh": fresh, "stale_if_error": "3s"}},
                     limits={"h2_resets": "10000/10s"},
                     backend={"max_connections": 300, "queue": {"size": 10000, "timeout": "20s"},
                              "timeouts": {"connect": "5s", "first_byte": "20s", "idle": "20s", "total": "60s"}})


@pytest.mark.timeout(SECONDS + 100)
def test_storm(origin, start):
    print(f"WEIR_STORM_SEED={SEED}")
    rng = random.Random(SEED)
    model = Model()
    origin.default = script(model, random.Random(rng.random()))
    conf = storm_conf(origin)
    w = start(conf=conf)
    stop = threading.Event()

    def guarded(f, seed):
        try:
            f(w, model, random.Random(seed), stop)
        except Exception as e:  # pylint: disable=broad-except
            model.fault(f"{f.__name__} failed", repr(e))

    def reloader(_w, _model, own, _stop):
        n = 0
        while not stop.wait(0.1 + own.random() * 0.5):
            n += 1
            w.reload({**storm_conf(origin, n), "listen": conf["listen"], "admin": conf["admin"]})
            model.count("reloads")
    workers = [by_http1] * 5 + [by_herd] + [by_http2] * 2 + [purger, reloader]
    threads = [threading.Thread(target=guarded, args=(f, rng.random())) for f in workers]
    for t in threads:
        t.start()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and not model.faults:
        time.sleep(0.1)
    stop.set()
    for t in threads:
        t.join(40 * SLOW)
    print(json.dumps(model.counts), "at the origin:", origin.count())
    assert not any(t.is_alive() for t in threads), "a client hangs"
    assert not model.faults, f"WEIR_STORM_SEED={SEED}, {len(model.faults)} faults:\n" + "\n".join(model.faults[:10])
    assert model.counts.get("late", 0) <= model.counts["hit"] / 10, "what had ended was served"
    for what in ("hit", "purges", "reloads", "unsafe", "uri-miss", "vary-miss"):
        assert model.counts.get(what, 0) > 5, f"nothing of the kind {what!r} happened: nothing was tested"
    origin.wait_idle()
    f = w.figures()
    kinds = ("hit", "miss", "stale", "coalesced", "revalidated", "bypass", "error")
    assert f["requests"]["total"] == sum(f["requests"][k] for k in kinds)
    assert f["memory"]["used_bytes"] <= 16 << 20
    assert all(b["in_flight"] == 0 and b["queued"] == 0 for b in f["backends"]), f["backends"]
