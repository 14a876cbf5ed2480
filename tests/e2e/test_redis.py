"""The tier in Redis: what several weirs share, what outlives them, and what becomes of requests when Redis does not do
what it should."""
import json
import os
import random
import re
import threading
import time

import pytest

import client
import weir
from origin import Reply
from weir import HOST

MINUTE = ("Cache-Control", "max-age=60")
BACK_S = 2  # Redis is used again so soon after it is back
PATIENT = "10s"  # where Redis works: a busy machine is no reason to go on without it
BRIEF_S = 0.3 * weir.SLOW  # where it does not
BRIEF = f"{int(BRIEF_S * 1000)}ms"


def serial(origin, path, *headers, **kw):
    """Each answer is the number of the request."""
    origin.on(path, lambda q: Reply(b"%d" % origin.count(path), headers=headers or (MINUTE,), **kw))


def until(what, message, seconds=10):
    deadline = time.monotonic() + seconds * weir.SLOW
    while True:
        seen = what()
        if seen:
            return seen
        assert time.monotonic() < deadline, message
        time.sleep(0.005)


def until_state(w, state, seconds=10):
    until(lambda: w.figures()["redis"]["state"] == state, f"redis is never {state}", seconds)


def until_written(w, n=1):
    until(lambda: w.figures()["redis"]["written"] >= n, f"never {n} records written: {w.figures()['redis']}")


def until_told(w):
    """Until Redis has confirmed all purges: what is fetched before that is not written."""
    until(lambda: w.figures()["redis"]["owed"] == 0, "a purge stays owed")


def until_forgotten(w):
    """Until memory has dropped all, by ttl.memory."""
    until(lambda: w.figures()["memory"]["objects"] == 0, "memory keeps what it should drop")


@pytest.fixture
def begin(start, origin, redis):
    """begin(...): one more weir at that origin and Redis, once it is up there."""
    def one(server=redis, up=True, settings=None, **parts):
        parts["redis"] = {"servers": [server.address], "timeout": PATIENT, **(settings or {})}
        w = start(origin, **parts)
        if up:
            until_state(w, "up")
        return w
    return one


# --- reading and writing ---

def test_what_one_has_fetched_the_others_find(origin, begin):
    serial(origin, "/a", MINUTE, ("ETag", '"1"'), ("X-Own", "kept"), ("Age", "7"))
    one, other = begin(), begin()
    first = one.get("/a")
    assert first.cache == {"fwd": "uri-miss", "stored": True}
    until_written(one)
    r = other.get("/a")
    assert r.status == 200 and r.body == b"1" and r.clean
    assert r.cache["hit"] is True and r.cache["detail"] == "redis" and r.cache["ttl"] <= 53
    assert r.age >= 7 and r.age + r.cache["ttl"] == 60
    assert r.get("etag") == '"1"' and r.get("x-own") == "kept" and r.get("date") == first.get("date")
    again = other.get("/a")
    assert again.hit and "detail" not in again.cache
    assert origin.count("/a") == 1
    f = other.figures()
    assert f["redis"] == {"state": "up", "hit": 1, "miss": 0, "error": 0, "written": 0, "dropped": 0, "owed": 0}
    assert f["requests"]["hit"] == 2 and f["requests"]["miss"] == 0 and f["status"] == "ok"
    assert one.figures()["redis"]["miss"] == 1


def test_a_herd_asks_redis_once_and_all_of_it_hits(origin, begin):
    serial(origin, "/a")
    one, other = begin(), begin()
    one.get("/a")
    until_written(one)
    answers = client.herd(other.address, [client.build("GET", "/a")] * 50)
    assert all(r.hit and r.body == b"1" for r in answers)
    assert origin.count("/a") == 1 and other.figures()["redis"]["hit"] == 1


def test_what_it_knew_outlives_a_restart(origin, begin):
    serial(origin, "/a")
    one = begin()
    one.get("/a")
    until_written(one)
    one.terminate()
    assert begin().get("/a").cache["detail"] == "redis"
    assert origin.count("/a") == 1


@pytest.mark.parametrize("way", ["name", "unix"])
def test_ways_to_a_server(origin, start, make_redis, tmp_path, way):
    path = tmp_path / "redis.sock"
    server = make_redis("--unixsocket", str(path), "--unixsocketperm", "777")
    serial(origin, "/a")
    w = start(origin, redis={"servers": [f"localhost:{server.port}" if way == "name" else f"unix:{path}"]})
    until_state(w, "up")
    w.get("/a")
    until_written(w)
    assert len(server.records()) == 1


def test_a_reload_says_that_settings_wait_for_the_next_start(origin, begin, redis):
    serial(origin, "/a")
    w = begin()
    conf = {**w.conf, "redis": {**w.conf["redis"], "namespace": "other"}}
    w.reload_and_wait(conf)
    assert "redis: takes effect at the next start" in w.stderr
    w.get("/a")
    until_written(w)
    assert len(redis.records()) == 1
    before = len(w.lines)
    w.reload_and_wait({**conf, "redis": {**conf["redis"], "namespace": "weir"}})
    assert "next start" not in "".join(w.lines[before:])


@pytest.mark.parametrize("size", [0, 1, 70_000, 1024 * 1024])
def test_bodies_come_back_as_they_were(origin, begin, size):
    body = bytes(i * 7 % 251 for i in range(size))
    origin.on("/a", lambda q: Reply(body, headers=(MINUTE,), framing="chunked"))
    one, other = begin(), begin()
    assert one.get("/a").body == body
    until_written(one)
    r = other.get("/a")
    assert r.cache.get("detail") == "redis" and r.body == body and r.clean


def test_a_larger_body_is_not_written(origin, begin, redis):
    origin.on("/large", lambda q: Reply(b"x" * (1024 * 1024 + 1), headers=(MINUTE,)))
    serial(origin, "/small")
    one = begin()
    one.get("/large")
    one.get("/small")
    until_written(one)
    assert one.get("/large").hit and len(redis.records()) == 1


def test_variants_are_found_by_their_marker(origin, begin):
    origin.on("/a", lambda q: Reply(q.get("accept-language", "none").encode(),
                                    headers=(MINUTE, ("Vary", "Accept-Language, X-Other"))))
    one, other = begin(), begin()
    for language in ("de", "en"):
        one.get("/a", [("Accept-Language", language)])
    until_written(one, 4)
    for language in ("en", "de"):
        r = other.get("/a", [("Accept-Language", language)])
        assert r.cache.get("detail") == "redis" and r.body == language.encode()
    assert origin.count("/a") == 2
    assert other.get("/a", [("Accept-Language", "fr")]).body == b"fr"
    assert other.get("/a", [("Accept-Language", "de"), ("X-Other", "x")]).body == b"de"
    assert origin.count("/a") == 4


def test_what_is_stale_is_validated(origin, begin):
    origin.on("/a", lambda q: Reply(status=304, headers=(("ETag", '"1"'), MINUTE)) if q.get("if-none-match") else
              Reply(b"old", headers=(("ETag", '"1"'), ("Cache-Control", "max-age=1"), ("Age", "5"))))
    one, other = begin(), begin()
    one.get("/a")
    until_written(one)
    r = other.get("/a")
    assert r.body == b"old" and r.cache["fwd"] == "stale" and r.cache["fwd-status"] == 304
    assert origin.count("/a") == 2 and other.figures()["requests"]["revalidated"] == 1
    until_written(other)  # what a 304 has freshened is written again
    third = begin().get("/a")
    assert third.cache.get("detail") == "redis" and third.body == b"old" and origin.count("/a") == 2


def test_what_is_stale_goes_out_while_it_is_refreshed(origin, begin):
    serial(origin, "/a", ("Cache-Control", "max-age=1, stale-while-revalidate=600"), ("Age", "5"))
    one, other = begin(), begin()
    one.get("/a")
    until_written(one)
    r = other.get("/a")
    assert r.body == b"1" and r.cache["detail"] == "stale-while-revalidate"
    until(lambda: origin.count("/a") == 2, "nobody refreshes it")


def test_what_is_stale_stands_in_for_an_error(origin, begin):
    origin.on("/a", lambda q: Reply(b"good", headers=(("Cache-Control", "max-age=1, stale-if-error=600"), ("Age", "5")))
              if origin.count("/a") == 1 else Reply(status=503))
    one, other = begin(), begin()
    one.get("/a")
    until_written(one)
    r = other.get("/a")
    assert r.status == 200 and r.body == b"good" and r.cache["detail"] == "stale-if-error"


def test_a_verdict_against_storing_is_known_to_all(origin, begin):
    serial(origin, "/a", ("Cache-Control", "private"))
    one, other = begin(), begin()
    one.get("/a")
    until_written(one)
    r = other.get("/a")
    assert r.body == b"2" and r.cache["detail"] == "hit-for-miss"


def test_a_record_lives_as_long_as_it_is_of_use(origin, begin, redis):
    serial(origin, "/a", ("Cache-Control", "max-age=100, stale-while-revalidate=200, stale-if-error=50"))
    one = begin()
    one.get("/a")
    until_written(one)
    record, = redis.records()
    left = redis.command("PTTL", record)
    assert 300_000 < left <= 311_000, left
    token = record.rsplit(b":", 1)[0]
    assert redis.command("PTTL", token) >= left - 1000 and redis.command("PTTL", "weir:1:all") == -1


def test_names_and_settings(origin, begin, redis):
    serial(origin, "/a")
    one = begin(settings={"namespace": "team:x", "database": 3})
    one.get("/a?token=s3cret&user=ann")
    until_written(one)
    assert redis.names() == []
    names = redis.command("EVAL", "redis.call('SELECT', 3) return redis.call('KEYS', '*')", 0)
    assert len(names) == 3 and all(re.fullmatch(rb"team:x:1:(all|\{[0-9a-f]{32}\}(:[0-9a-f]{32})?)", n) for n in names)
    assert begin(settings={"namespace": "team"}).get("/a?token=s3cret&user=ann").body == b"2"


@pytest.mark.parametrize("case", ["user", "cookie", "range", "alone", "no-store"])
def test_what_is_not_for_all_never_goes_to_redis(origin, begin, redis, case):
    origin.on("/a", lambda q: Reply(b"0123456789", headers=(MINUTE if case != "no-store" else ("Cache-Control", "no-store"),)))
    serial(origin, "/b")
    route = {"user": {"path": "/a", "scope": "user", "user": {"header": "Authorization"}},
             "cookie": {"path": "/a", "key": {"cookies": ["session"]}}}.get(case, {"path": "/a"})
    headers = {"user": [("Authorization", "Bearer ann")], "cookie": [("Cookie", "session=ann")],
               "range": [("Range", "bytes=1-2")], "alone": [("Authorization", "Bearer ann")]}.get(case, [])
    one = begin(routes=[route, {"path": "/b"}])
    assert one.get("/a", headers).status in (200, 206)
    one.get("/b")
    until_written(one)
    bodies = [redis.command("GET", n) for n in redis.records()]
    assert all(b"0123456789" not in b and b"ann" not in b for b in bodies)
    assert sum(b"/b" in b for b in bodies) == 1


def test_memory_asks_redis_again_after_the_tiers_time(origin, begin):
    origin.on("/a", lambda q: Reply(b"%d" % origin.count("/a")))
    one = begin(ttl={"t": {"fresh": "1h", "memory": "1s"}}, route={"ttl": "t"})
    one.get("/a")
    until_written(one)
    for _ in range(2):
        until_forgotten(one)
        r = one.get("/a")
        assert r.body == b"1" and r.cache["detail"] == "redis" and r.cache["ttl"] > 3500
    assert origin.count("/a") == 1


# --- purges ---

@pytest.mark.parametrize("what", [{"url": f"http://{HOST}/a"}, {"prefix": f"http://{HOST}/a"}, {"tag": "red"}, {"all": True},
                                  {"all": True, "soft": True}])
def test_nothing_from_before_a_purge_is_read_again(origin, begin, what):
    origin.on("/a", lambda q: Reply(b"%d" % origin.count("/a"),
                                    headers=(MINUTE, ("Vary", "X-V"), ("Surrogate-Key", "red"))))
    one = begin()
    for v in "xy":
        one.get("/a", [("X-V", v)])
    until_written(one, 4)
    other = begin()
    assert other.get("/a", [("X-V", "x")]).cache["detail"] == "redis"
    assert one.purge(**what) == 2
    until_told(one)
    assert [one.get("/a", [("X-V", v)]).body for v in "xy"] == [b"3", b"4"]
    until_written(one, 8)
    third = begin()
    assert [third.get("/a", [("X-V", v)]).body for v in "xy"] == [b"3", b"4"]
    assert origin.count("/a") == 4


def test_an_unsafe_request_invalidates_in_redis_too(origin, begin):
    serial(origin, "/a")
    one = begin()
    one.get("/a")
    until_written(one)
    one.request("POST", "/a")
    until_told(one)
    assert one.get("/a").body == b"3"
    until_written(one, 2)
    assert begin().get("/a").body == b"3"


def test_who_fetched_before_a_purge_elsewhere_writes_in_vain(origin, begin, redis):
    gate = origin.gate()
    origin.on("/a", lambda q: Reply(b"%d" % origin.count("/a"), headers=(MINUTE,), gate=gate if origin.count("/a") == 1 else None))
    one, other = begin(), begin()
    c = one.http1()
    c.send(client.build("GET", "/a"))
    until(lambda: origin.count("/a") == 1, "the origin is never asked")
    other.purge_path("/a")
    until(lambda: not any(n.endswith(b"}") for n in redis.names()), "the url's token stays")
    gate.open()
    assert c.response().body == b"1"
    until_written(one)
    assert begin().get("/a").body == b"2"


def test_a_purge_is_owed_while_redis_is_away(origin, begin, redis):
    serial(origin, "/a")
    one = begin(settings={"timeout": BRIEF})
    one.get("/a")
    until_written(one)
    redis.pause()
    one.purge_path("/a")
    assert one.get("/a").body == b"2"
    redis.resume()
    until_state(one, "up")
    until(lambda: redis.records() and not any(n.endswith(b"}") for n in redis.names()), "the purge is never made up for")
    assert begin().get("/a").body == b"3"


def at_random(seed, trials):
    """A generator of its own, and its seed in the test's output."""
    seed = int(os.environ.get("WEIR_REDIS_SEED", seed))
    print(f"WEIR_REDIS_SEED={seed}")
    return random.Random(seed), int(os.environ.get("WEIR_REDIS_TRIALS", trials))


class Background:
    """Calls something again and again in a thread of its own, until the end; what it raises is raised there."""
    def __init__(self, call):
        self.over, self.error, self.calls = False, None, 0
        self.thread = threading.Thread(target=self._run, args=(call,))

    def _run(self, call):
        try:
            while not self.over:
                call()
                self.calls += 1
        except BaseException as e:
            self.error = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.thread.join()
        if self.error:
            raise self.error


@pytest.mark.timeout(120)
def test_nothing_older_than_a_purge_is_read_whatever_others_write(origin, begin):
    """The other one fetches, purges and writes all the time: what it fetched before a purge here must not come back."""
    dice, trials = at_random(1, 300)
    paths = ["/0", "/1", "/2"]
    version = dict.fromkeys(paths, 0)
    for path in paths:
        origin.on(path, lambda q: Reply(b"%d" % version[q.path], headers=(MINUTE, ("Cache-Tag", "t" + q.path[1:]))))
    one, other = begin(), begin()
    theirs = random.Random(2)

    def churn():
        path = theirs.choice(paths)
        other.purge_path(path)
        other.get(path)
    with Background(churn) as background:
        for _ in range(trials):
            path = dice.choice(paths)
            version[path] += 1
            one.purge(**dice.choice([{"url": f"http://{HOST}{path}"}] * 4 + [{"tag": "t" + path[1:]}, {"all": True}]))
            assert int(one.get(path).body) == version[path]
    assert background.calls > trials / 20
    assert one.figures()["redis"]["hit"] + other.figures()["redis"]["hit"] > 0


# --- trouble ---

def all_is_well(w, origin, n=20):
    """Requests that nobody has made yet: each is fetched, and none of them fails."""
    for i in range(n):
        path = f"/well/{origin.count()}/{i}"
        serial(origin, path)
        r = w.get(path)
        assert r.status == 200 and r.clean, r
        assert w.get(path).hit


def test_redis_may_come_later(origin, begin, make_redis):
    late = make_redis(start=False)
    w = begin(late, up=False)
    all_is_well(w, origin)
    f = w.figures()
    assert f["redis"]["state"] == "down" and f["status"] == "degraded" and f["reasons"] == ["redis is down"]
    assert json.loads(w.admin("GET", "/health").body) == {"status": "ok"}
    late.start()
    until_state(w, "up", BACK_S)
    serial(origin, "/a")
    w.get("/a")
    until_written(w)
    assert w.figures()["status"] == "ok"


def test_one_that_does_not_answer_costs_a_timeout_and_then_nothing(origin, begin, redis):
    serial(origin, "/a")
    w = begin(settings={"timeout": BRIEF}, threads=1)
    w.get("/a")
    until_written(w)
    redis.pause()
    took = []
    for i in range(10):
        serial(origin, f"/{i}")
        began = time.monotonic()
        assert w.get(f"/{i}").status == 200
        took.append(time.monotonic() - began)
        assert w.get("/a").hit
    until_state(w, "down")
    assert max(took) < 2 * BRIEF_S, took
    assert sum(t >= BRIEF_S for t in took) <= 3 and took[-1] < BRIEF_S, took
    all_is_well(w, origin)
    redis.resume()
    until_state(w, "up", BACK_S)
    all_is_well(w, origin)


def test_one_that_is_killed_and_comes_back_empty(origin, begin, redis):
    serial(origin, "/a")
    w = begin()
    w.get("/a")
    until_written(w)
    redis.kill()
    until_state(w, "down")
    all_is_well(w, origin)
    redis.start()
    until_state(w, "up", BACK_S)
    assert w.get("/a").hit
    before = w.figures()["redis"]["written"]
    serial(origin, "/b")
    w.get("/b")
    until_written(w, before + 1)
    assert begin().get("/b").cache["detail"] == "redis"


def test_one_that_is_full_still_answers(origin, begin, make_redis):
    full = make_redis("--maxmemory-policy", "noeviction")
    serial(origin, "/a")
    w, other = begin(full), begin(full)
    w.get("/a")
    until_written(w)
    full.command("CONFIG", "SET", "maxmemory", "1")
    assert other.get("/a").cache["detail"] == "redis"
    all_is_well(w, origin)
    f = w.figures()["redis"]
    assert f["state"] == "up" and f["error"] > 0
    full.command("CONFIG", "SET", "maxmemory", "0")
    serial(origin, "/b")
    w.get("/b")
    until_written(w, 2)


def test_one_that_is_loading_is_waited_for_by_nobody(origin, begin, make_redis):
    slow = make_redis("--enable-debug-command", "yes")
    serial(origin, "/a")
    w = begin(slow)
    w.get("/a")
    until_written(w)
    slow.command("DEBUG", "POPULATE", "3000")
    slow.command("SAVE")
    slow.kill()
    until_state(w, "down")
    slow.start("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    all_is_well(w, origin, 5)
    assert w.figures()["redis"]["state"] == "down"
    until_state(w, "up", 20)
    assert begin(slow).get("/a").cache["detail"] == "redis"


def test_a_replica_that_may_not_be_written_to_is_read(origin, begin, redis, make_redis):
    serial(origin, "/a")
    w = begin()
    w.get("/a")
    until_written(w)
    replica = make_redis("--replicaof", "127.0.0.1", str(redis.port))
    until(lambda: len(replica.names()) == 3, "nothing is replicated")
    other = begin(replica)
    assert other.get("/a").cache["detail"] == "redis"
    all_is_well(other, origin)
    other.purge_path("/a")  # which it cannot be told: so it is not asked about it any more
    assert other.get("/a").body == b"2"
    other.purge_path("/a")
    assert other.get("/a").body == b"3"
    assert other.figures()["redis"]["state"] == "up" and other.figures()["redis"]["owed"] == 2


def test_passwords(origin, begin, make_redis, start):
    closed = make_redis("--requirepass", "right")
    for files, settings in (({}, {}), ({"p": "wrong\n"}, {"password_file": "p"})):
        w = begin(closed, up=False, files=files, settings=settings)
        w.wait_log("redis .*(NOAUTH|WRONGPASS)")
        all_is_well(w, origin, 3)
        assert w.figures()["redis"]["state"] == "down"
        assert "right" not in w.stderr and "wrong" not in w.stderr
    serial(origin, "/a")
    w = begin(closed, files={"p": "right\n"}, settings={"password_file": "p"})
    w.get("/a")
    until_written(w)


def test_what_is_no_record_is_a_miss_and_is_removed(origin, begin, redis):
    for i in range(5):
        serial(origin, f"/{i}")
    w = begin()
    for i in range(5):
        w.get(f"/{i}")
        until_written(w, i + 1)
    names = redis.records()
    whole = redis.command("GET", names[0])
    redis.command("SET", names[0], b"garbage")
    redis.command("SET", names[1], b"")
    redis.command("DEL", names[2])
    redis.command("LPUSH", names[2], "not", "a", "string")
    redis.command("SETRANGE", names[3], 60, b"\xff")
    redis.command("SET", names[4], whole)  # another's
    other = begin()
    for i in range(5):
        assert other.get(f"/{i}").body == b"2", i
    assert other.figures()["redis"]["hit"] == 0 and other.figures()["redis"]["error"] == 3
    until_written(other, 5)
    third = begin()
    assert all(third.get(f"/{i}").body == b"2" for i in range(5))
    assert third.figures()["redis"]["hit"] == 5


@pytest.mark.timeout(120)
def test_no_client_sees_redis_come_and_go(origin, begin, redis):
    for i in range(40):
        serial(origin, f"/{i}")
    w = begin(settings={"timeout": BRIEF})
    dice = random.Random(3)

    def ask():
        r = w.get(f"/{dice.randrange(40)}")
        assert r.status == 200 and r.clean
        if dice.random() < 0.2:
            w.purge_path(f"/{dice.randrange(40)}")
    with Background(ask) as background:
        for _ in range(3):
            for away, back in ((redis.pause, redis.resume), (redis.kill, redis.start)):
                away()
                until_state(w, "down")
                seen = background.calls
                until(lambda: background.calls > seen + 20, "requests stand still")
                back()
                until_state(w, "up", BACK_S)


@pytest.mark.parametrize("where", ["all", "url"])
@pytest.mark.parametrize("what", ["list", "text"])
def test_what_is_no_token_is_removed(origin, begin, redis, where, what):
    serial(origin, "/a")
    serial(origin, "/b")
    w = begin()
    w.get("/a")
    until_written(w)
    token = b"weir:1:all" if where == "all" else redis.records()[0].rsplit(b":", 1)[0]
    redis.command("DEL", token)
    redis.command(*(["LPUSH", token, "x"] if what == "list" else ["SET", token, "x"]))
    other = begin()
    assert other.get("/a").body == b"2"
    until(lambda: token not in redis.names(), "it stays")
    all_is_well(other, origin, 3)
    assert begin().get("/a").body == b"3"


def test_without_redis_there_is_none(origin, start):
    w = start(origin)
    serial(origin, "/a")
    w.get("/a")
    assert w.figures()["redis"] == {"state": "off", "hit": 0, "miss": 0, "error": 0, "written": 0, "dropped": 0, "owed": 0}
    assert w.figures()["status"] == "ok" and "reasons" not in w.figures()
