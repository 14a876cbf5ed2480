#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cache/alloc.h"
#include "cache/store_private.h"
#include "tests/unit/stored_make.h"

struct fixture {
    struct store *store;
    struct store_thread *t;
};

static struct fixture *fixture_create(size_t bytes_max, unsigned shards)
{
    struct fixture *f = malloc(sizeof *f);

    f->store =
        store_create(&(struct store_options){.bytes_max = bytes_max, .shards = shards, .threads = 2, .seed = 42});
    assert_non_null(f->store);
    f->t = store_thread_create(f->store);
    assert_non_null(f->t);
    return f;
}

static void fixture_destroy(struct fixture *f)
{
    store_thread_destroy(f->t);
    store_destroy(f->store);
    free(f);
}

static struct store_figures figures(struct fixture *f)
{
    struct store_figures out;

    store_figures(f->store, &out);
    return out;
}

static bool put(struct fixture *f, const char *path, size_t bytes, struct mono_ms now)
{
    struct stored_options o = options_of(f->store, path);

    o.response_time = now;
    return put_complete(f->t, o, bytes, now);
}

static bool has(struct fixture *f, const char *path, struct mono_ms now)
{
    struct stored *s = acquire(f->t, f->store, path, now);
    bool found = s != NULL;

    stored_release(s);
    return found;
}

static char *numbered(char buf[32], const char *what, unsigned n)
{
    snprintf(buf, 32, "/%s/%u", what, n);
    return buf;
}

/* ---- finding ---- */

static void finds_what_was_put_and_nothing_else(void **state)
{
    struct fixture *f = fixture_create(64 << 20, 0);
    char path[32];

    (void)state;
    for (unsigned i = 0; i < 20000; i++)
        assert_true(put(f, numbered(path, "n", i), 10, T0));
    assert_int_equal(figures(f).objects, 20000);
    for (unsigned i = 0; i < 20000; i++) {
        struct stored *s = acquire(f->t, f->store, numbered(path, "n", i), T0);
        struct made_key m;

        assert_non_null(s);
        make_key(&m, path, NULL);
        assert_true(bytes_eq(stored_key(s), m.key.whole));
        stored_release(s);
        assert_false(has(f, numbered(path, "m", i), T0));
    }
    fixture_destroy(f);
}

/* Two keys with one hash are two keys: an attacker who finds a collision gets a miss. */
static void a_hash_collision_is_no_hit(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 1);
    struct stored_options a = options_of(f->store, "/a");
    struct made_key m;

    (void)state;
    assert_true(put_complete(f->t, a, 10, T0));
    make_key(&m, "/b", NULL);
    struct stored_options b = options_for(f->store, &m);

    b.hash = a.hash;
    assert_null(store_acquire(f->t, b.hash, b.key, T0));
    assert_true(put_complete(f->t, b, 20, T0));
    struct stored *s = store_acquire(f->t, b.hash, b.key, T0);

    assert_int_equal(stored_length(s), 20);
    stored_release(s);
    s = acquire(f->t, f->store, "/a", T0);
    assert_int_equal(stored_length(s), 10);
    stored_release(s);
    fixture_destroy(f);
}

static void the_hash_depends_on_the_seed(void **state)
{
    struct store *one = store_create(&(struct store_options){.bytes_max = 1 << 20, .threads = 1, .seed = 1});
    struct store *two = store_create(&(struct store_options){.bytes_max = 1 << 20, .threads = 1, .seed = 2});

    (void)state;
    assert_true(store_hash(one, BYTES_LIT("key")).lo != store_hash(two, BYTES_LIT("key")).lo);
    store_destroy(one);
    store_destroy(two);
}

static void a_put_takes_the_place_of_the_old(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 0);
    struct stored *old;

    (void)state;
    assert_true(put(f, "/a", 10, T0));
    old = acquire(f->t, f->store, "/a", T0);
    assert_true(put(f, "/a", 20, T0));
    assert_int_equal(figures(f).objects, 1);
    struct stored *now = acquire(f->t, f->store, "/a", T0);

    assert_int_equal(stored_length(now), 20);
    assert_true(body_is_right(old)); /* whoever still reads the old one keeps it */
    assert_true(store_holds(f->t, now) && !store_holds(f->t, old));
    store_remove(f->t, old); /* is not the one stored */
    assert_true(has(f, "/a", T0));
    assert_false(store_put(f->t, old, T0)); /* what has left never comes back */
    assert_true(store_put(f->t, now, T0));  /* is there already */
    store_remove(f->t, now);
    assert_false(has(f, "/a", T0) || store_holds(f->t, now));
    assert_int_equal(figures(f).objects, 0);
    stored_release(old);
    stored_release(now);
    fixture_destroy(f);
}

static struct stored *complete(struct fixture *f, const char *path)
{
    struct stored_options o = options_of(f->store, path);
    struct stored *s = make_complete(f->t, o, 10, T0);

    assert_non_null(s);
    return s;
}

static void a_swap_takes_the_place_of_what_was_seen_and_no_other(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 0);
    struct stored *a = complete(f, "/a"), *b = complete(f, "/a"), *c = complete(f, "/a"), *open;
    struct stored_options options = options_of(f->store, "/a");

    (void)state;
    assert_int_equal(store_swap(f->t, a, b, T0), STORE_CHANGED); /* nothing is there yet */
    assert_false(has(f, "/a", T0));
    assert_int_equal(store_swap(f->t, a, NULL, T0), STORE_SWAPPED);
    assert_int_equal(store_swap(f->t, b, NULL, T0), STORE_CHANGED);
    assert_int_equal(store_swap(f->t, b, a, T0), STORE_SWAPPED);
    assert_int_equal(store_swap(f->t, c, a, T0), STORE_CHANGED);
    assert_int_equal(store_swap(f->t, a, b, T0), STORE_REFUSED); /* what has left never comes back */
    struct stored *now = acquire(f->t, f->store, "/a", T0);

    assert_ptr_equal(now, b);
    assert_int_equal(figures(f).objects, 1);
    open = stored_create(f->t, &options, T0);
    assert_int_equal(store_swap(f->t, open, b, T0), STORE_REFUSED);
    stored_finish_body(open, BODY_BROKEN);
    assert_int_equal(store_purge_url(f->t, (struct bytes){options.key.p, options.key_url_n}, false), 1);
    assert_int_equal(store_swap(f->t, c, NULL, T0), STORE_REFUSED); /* born before the purge */
    stored_release(a);
    stored_release(b);
    stored_release(c);
    stored_release(open);
    stored_release(now);
    fixture_destroy(f);
}

static void only_complete_bodies_are_stored(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 0);
    struct stored_options o = options_of(f->store, "/a");
    struct stored *s = stored_create(f->t, &o, T0);

    (void)state;
    assert_false(store_put(f->t, s, T0));
    stored_finish_body(s, BODY_BROKEN);
    assert_false(store_put(f->t, s, T0));
    stored_release(s);
    assert_false(has(f, "/a", T0));
    fixture_destroy(f);
}

static void markers_are_kept_but_not_counted(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 0);
    struct stored_options o = options_of(f->store, "/a");

    (void)state;
    o.kind = STORED_VARY;
    o.spec = BYTES_LIT("accept");
    assert_true(put_complete(f->t, o, 0, T0));
    assert_int_equal(figures(f).objects, 0);
    struct stored *s = acquire(f->t, f->store, "/a", T0);

    assert_int_equal(s->head->kind, STORED_VARY);
    stored_release(s);
    struct stored_options url = options_of(f->store, "/a");

    assert_int_equal(store_purge_url(f->t, (struct bytes){url.key.p, url.key_url_n}, true), 0);
    assert_true(has(f, "/a", T0));
    assert_int_equal(store_purge_url(f->t, (struct bytes){url.key.p, url.key_url_n}, false), 0);
    assert_false(has(f, "/a", T0));
    fixture_destroy(f);
}

/* ---- budget ---- */

static void the_budget_holds(void **state)
{
    struct fixture *f = fixture_create(4 << 20, 0);
    char path[32];
    unsigned evicted = 0;

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        assert_true(put(f, numbered(path, "n", i), 1 + (i * 7919) % 60000, T0));
        struct store_figures now = figures(f);

        assert_true(now.used_bytes <= now.limit_bytes + now.limit_bytes / 8);
        assert_true(now.evicted >= evicted);
        evicted = (unsigned)now.evicted;
    }
    assert_true(evicted > 2500);
    assert_int_equal(figures(f).expired, 0);
    assert_true(figures(f).used_bytes > (4 << 20) * 3 / 4);
    assert_true(has(f, path, T0));
    fixture_destroy(f);
}

static void everything_charged_is_given_back(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 4);
    char path[32];

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        assert_true(put(f, numbered(path, "n", i), i * 997, T0));
    assert_true(figures(f).used_bytes > 4 << 20);
    assert_int_equal(store_purge_all(f->t, false), 100);
    store_thread_poll(f->t);
    assert_int_equal(figures(f).used_bytes, 0);
    assert_int_equal(atomic_load(&f->store->lingering), 0);
    assert_int_equal(atomic_load(&f->store->pools[0]), 0);
    fixture_destroy(f);
}

/* The indices count at what they are now: what they grew from is given back. */
static void the_indices_are_charged(void **state)
{
    struct fixture *f = fixture_create(64 << 20, 4);
    size_t expected = 0;
    char path[32];

    (void)state;
    for (unsigned i = 0; i < 20000; i++)
        assert_true(put(f, numbered(path, "n", i), 1, T0));
    assert_int_equal(store_purge_all(f->t, false), 20000);
    store_thread_poll(f->t);
    for (unsigned i = 0; i < 4; i++) {
        struct shard *shard = &f->store->shards[i];

        expected += shard->lists.expiry_cost + shard->lists.urls_cost + index_bytes(index_slots(&shard->index));
    }
    assert_in_range(expected, 20000 * 22, 20000 * 32);
    assert_in_range(figures(f).used_bytes, expected - 4 * 1024, expected + 4 * 1024);
    fixture_destroy(f);
}

static void what_is_too_large_is_refused(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 0);

    (void)state;
    assert_false(put(f, "/large", 2 << 20, T0));
    assert_true(put(f, "/fits", 900 << 10, T0));
    assert_false(store_charge(f->t, (1 << 20) + 1, T0));
    assert_true(store_charge(f->t, 1 << 20, T0)); /* by evicting everything else */
    assert_false(has(f, "/fits", T0));
    assert_false(store_charge(f->t, 1, T0));
    assert_false(put(f, "/small", 1, T0));
    store_discharge(f->t, 1 << 20);
    assert_true(put(f, "/small", 1, T0));
    fixture_destroy(f);
}

/* What slow readers hold costs room for others, but for an eighth. */
static void evicted_responses_that_are_read_still_count(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 1);
    struct stored *held[10];
    char path[32];

    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        assert_true(put(f, numbered(path, "held", i), 60000, T0));
        held[i] = acquire(f->t, f->store, path, T0);
    }
    assert_int_equal(store_purge_all(f->t, false), 10);
    store_thread_poll(f->t);
    assert_true(figures(f).used_bytes >= 600000);
    for (unsigned i = 0; i < 100; i++)
        assert_true(put(f, numbered(path, "n", i), 10000, T0));
    assert_true(figures(f).used_bytes <= (1 << 20) * 9 / 8);
    for (unsigned i = 0; i < 10; i++) {
        assert_true(body_is_right(held[i]));
        stored_release(held[i]);
    }
    assert_int_equal(atomic_load(&f->store->lingering), 0);
    fixture_destroy(f);
}

/* A thread that loses its processor in the middle of a lookup holds up what was evicted, all of it. That is not evicted
 * for a second time: the store would be empty in no time, and then refuse. */
static void a_lookup_that_stops_does_not_empty_the_store(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 4);
    struct store_thread *stopped = store_thread_create(f->store);
    char path[32];
    uint64_t before;

    (void)state;
    for (unsigned i = 0; figures(f).evicted == 0; i++)
        assert_true(put(f, numbered(path, "n", i), 10000, T0));
    before = figures(f).objects;
    ck_epoch_begin(&stopped->record, NULL);
    for (unsigned i = 0; i < 50; i++)
        assert_true(put(f, numbered(path, "m", i), 10000, T0));
    assert_true(figures(f).used_bytes > 1 << 20);
    assert_in_range(figures(f).objects, before * 3 / 4, before + 13);
    ck_epoch_end(&stopped->record, NULL);
    assert_true(put(f, "/last", 10000, T0));
    store_thread_poll(f->t);
    assert_true(figures(f).used_bytes <= 1 << 20);
    store_thread_destroy(stopped);
    fixture_destroy(f);
}

static void eviction_spares_what_was_used(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 1);
    char path[32];

    (void)state;
    assert_true(put(f, "/used", 10000, T0));
    assert_true(put(f, "/unused", 10000, T0));
    for (unsigned i = 0; i < 1000; i++) {
        assert_true(put(f, numbered(path, "n", i), 10000, at_ms(i / 10)));
        assert_true(has(f, "/used", at_ms(i / 10)));
    }
    assert_false(has(f, "/unused", at_ms(0)));
    fixture_destroy(f);
}

static void a_peek_is_no_use(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 1);
    struct stored *s;
    struct made_key m;
    char path[32];

    (void)state;
    assert_true(put(f, "/seen", 10000, T0));
    make_key(&m, "/seen", NULL);
    s = store_peek(f->t, store_hash(f->store, m.key.whole), m.key.whole);
    assert_non_null(s);
    assert_int_equal(stored_idle_ms(s, T0), 1);
    stored_release(s);
    for (unsigned i = 0; i < 1000; i++)
        assert_true(put(f, numbered(path, "n", i), 10000, at_ms(i / 10)));
    assert_null(store_peek(f->t, store_hash(f->store, m.key.whole), m.key.whole));
    assert_true(put(f, "/used", 10000, T0));
    s = acquire(f->t, f->store, "/used", at_ms(5));
    assert_int_equal(stored_idle_ms(s, at_ms(5)), 0);
    store_use(f->t, s, at_ms(6));
    assert_int_equal(stored_idle_ms(s, at_ms(6)), 0);
    stored_release(s);
    fixture_destroy(f);
}

/* At most once in LRU_TOUCH_MS, and never waiting for the lock. */
static void a_use_renews_the_place_now_and_then(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 1);
    struct shard *shard = &f->store->shards[0];

    (void)state;
    assert_true(put(f, "/old", 10, T0));
    assert_true(put(f, "/new", 10, T0));
    struct stored *old = shard->lru[0].oldest;

    assert_true(has(f, "/old", at_ms(LRU_TOUCH_MS - 1)));
    assert_ptr_equal(shard->lru[0].oldest, old);
    pthread_mutex_lock(&shard->lock);
    assert_true(has(f, "/old", at_ms(LRU_TOUCH_MS)));
    pthread_mutex_unlock(&shard->lock);
    assert_ptr_equal(shard->lru[0].oldest, old);
    assert_true(has(f, "/old", at_ms(LRU_TOUCH_MS)));
    assert_ptr_equal(shard->lru[0].newest, old);
    assert_true(has(f, "/new", at_ms(2 * LRU_TOUCH_MS)));
    assert_ptr_equal(shard->lru[0].oldest, old);
    assert_true(has(f, "/old", at_ms(2 * LRU_TOUCH_MS)));
    assert_ptr_equal(shard->lru[0].oldest, old);
    fixture_destroy(f);
}

/* The times of use wrap after 49 days: what comes back after weeks is as good as new. */
static void a_use_after_a_long_time_renews_the_place(void **state)
{
    static const int64_t days[] = {1, 24, 25, 30, 49};

    (void)state;
    for (size_t i = 0; i < sizeof days / sizeof days[0]; i++) {
        struct fixture *f = fixture_create(1 << 20, 1);
        struct shard *shard = &f->store->shards[0];
        int64_t later = days[i] * 86400000;

        assert_true(put(f, "/old", 10, T0));
        assert_true(put(f, "/new", 10, T0));
        struct stored *old = shard->lru[0].oldest;

        assert_true(stored_idle_ms(old, at_ms(later)) >= later);
        assert_true(has(f, "/old", at_ms(later)));
        assert_ptr_equal(shard->lru[0].newest, old);
        fixture_destroy(f);
    }
}

/* Evicting takes none for unused that has been used since it was placed, whenever that was. */
static void what_was_used_after_a_long_time_is_not_evicted_for_it(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 1);
    struct shard *shard = &f->store->shards[0];
    int64_t later = INT64_C(30) * 86400000;

    (void)state;
    assert_true(put(f, "/old", 10, T0));
    assert_true(put(f, "/next", 10, T0));
    pthread_mutex_lock(&shard->lock);
    assert_true(has(f, "/old", at_ms(later))); /* its place cannot be renewed now */
    pthread_mutex_unlock(&shard->lock);
    struct store_figures figures = {0};

    for (unsigned i = 0; figures.evicted == 0; i++) {
        char path[32];

        snprintf(path, sizeof path, "/more/%u", i);
        assert_true(put(f, path, 10000, T0));
        assert_true(i < 200);
        store_figures(f->store, &figures);
    }
    assert_false(has(f, "/next", T0));
    assert_true(has(f, "/old", at_ms(later)));
    fixture_destroy(f);
}

static void put_for_user(struct fixture *f, unsigned n, struct mono_ms now)
{
    struct made_key m;
    char user[32];

    snprintf(user, sizeof user, "user%u", n);
    make_key(&m, "/me", user);
    struct stored_options o = options_for(f->store, &m);

    o.user_scope = true;
    assert_true(put_complete(f->t, o, 10000, now));
}

/* A flood in one pool leaves the other what it has, up to half of the limit. */
static void a_flood_of_user_responses_leaves_shared_ones(void **state)
{
    struct fixture *f = fixture_create(2 << 20, 4);
    char path[32];
    unsigned left = 0;

    (void)state;
    for (unsigned i = 0; i < 80; i++)
        assert_true(put(f, numbered(path, "n", i), 10000, T0));
    for (unsigned i = 0; i < 1000; i++)
        put_for_user(f, i, T0);
    for (unsigned i = 0; i < 80; i++)
        left += has(f, numbered(path, "n", i), T0);
    assert_int_equal(left, 80);
    assert_true(atomic_load(&f->store->pools[1]) > 1000000);
    fixture_destroy(f);
}

static void a_flood_of_shared_responses_leaves_user_ones(void **state)
{
    struct fixture *f = fixture_create(2 << 20, 4);
    char path[32];
    size_t before;

    (void)state;
    for (unsigned i = 0; i < 80; i++)
        put_for_user(f, i, T0);
    before = atomic_load(&f->store->pools[1]);
    for (unsigned i = 0; i < 1000; i++)
        assert_true(put(f, numbered(path, "n", i), 10000, T0));
    assert_int_equal(atomic_load(&f->store->pools[1]), before);
    fixture_destroy(f);
}

static void one_pool_may_use_everything(void **state)
{
    struct fixture *f = fixture_create(2 << 20, 4);

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        put_for_user(f, i, T0);
    assert_true(atomic_load(&f->store->pools[1]) > (2 << 20) * 3 / 4);
    fixture_destroy(f);
}

static void shrinking_evicts(void **state)
{
    struct fixture *f = fixture_create(4 << 20, 0);
    char path[32];

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        assert_true(put(f, numbered(path, "n", i), 30000, T0));
    assert_int_equal(figures(f).objects, 100);
    store_resize(f->store, 1 << 20);
    assert_int_equal(figures(f).limit_bytes, 1 << 20);
    assert_in_range(figures(f).objects, 20, 40);
    assert_true(figures(f).used_bytes <= 1 << 20);
    store_resize(f->store, 4 << 20);
    for (unsigned i = 100; i < 180; i++)
        assert_true(put(f, numbered(path, "n", i), 30000, T0));
    assert_in_range(figures(f).objects, 100, 120);
    fixture_destroy(f);
}

/* ---- expiry ---- */

static bool put_until(struct fixture *f, const char *path, int64_t useful_ms, int64_t initial_age_ms)
{
    struct stored_options o = options_of(f->store, path);

    o.useful_ms = useful_ms;
    o.lifetimes.initial_age_ms = initial_age_ms;
    return put_complete(f->t, o, 10000, T0);
}

static void expires_at_the_end_of_usefulness(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 0);

    (void)state;
    assert_true(put_until(f, "/a", 1000, 0));
    assert_true(put_until(f, "/aged", 1000, 400));
    assert_true(put_until(f, "/ever", INT64_MAX, 5));
    assert_true(put_until(f, "/ever2", INT64_MAX, -5));
    store_expire(f->t, at_ms(599), 100);
    assert_true(has(f, "/aged", T0));
    store_expire(f->t, at_ms(600), 100);
    assert_false(has(f, "/aged", T0));
    store_expire(f->t, at_ms(999), 100);
    assert_true(has(f, "/a", T0));
    store_expire(f->t, at_ms(1000), 100);
    assert_false(has(f, "/a", T0));
    store_expire(f->t, (struct mono_ms){INT64_MAX - 1}, 100);
    assert_int_equal(figures(f).objects, 2);
    assert_int_equal(figures(f).expired, 2);
    assert_int_equal(figures(f).evicted, 0);
    fixture_destroy(f);
}

static void expires_at_most_so_many(void **state)
{
    struct fixture *f = fixture_create(64 << 20, 4);
    char path[32];

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        assert_true(put_until(f, numbered(path, "n", i), 10, 0));
    store_expire(f->t, at_ms(10), 7);
    assert_int_equal(figures(f).objects, 993);
    for (int i = 0; i < 11; i++)
        store_expire(f->t, at_ms(10), 100);
    assert_int_equal(figures(f).objects, 0);
    fixture_destroy(f);
}

/* The order of times is the heap's, not that of arrival or of eviction. Method: random times, random removals, and a
 * clock that goes on step by step; after each step exactly those remain that are useful. */
static void expires_in_the_order_of_time(void **state)
{
    enum { N = 3000 };
    struct fixture *f = fixture_create(256 << 20, 2);
    static int64_t until[N];
    char path[32];
    unsigned random = 1;

    (void)state;
    for (unsigned i = 0; i < N; i++) {
        random = random * 1103515245 + 12345;
        until[i] = random / 65536 % 1000;
        assert_true(put_until(f, numbered(path, "n", i), until[i], 0));
    }
    for (int64_t now = 0; now <= 1000; now += 50) {
        store_expire(f->t, at_ms(now), UINT32_MAX);
        for (unsigned i = 0; i < N; i++)
            assert_int_equal(has(f, numbered(path, "n", i), T0), until[i] > now);
        for (unsigned i = (unsigned)now; i < N; i += 97) {
            struct stored *s = acquire(f->t, f->store, numbered(path, "n", i), T0);

            if (s != NULL)
                store_remove(f->t, s);
            stored_release(s);
            until[i] = 0;
        }
    }
    assert_int_equal(figures(f).objects, 0);
    fixture_destroy(f);
}

static void the_useless_leave_before_the_useful(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 8);
    char path[32];

    (void)state;
    for (unsigned i = 0; i < 40; i++)
        assert_true(put_until(f, numbered(path, "live", i), 100000, 0));
    for (unsigned i = 0; i < 40; i++)
        assert_true(put_until(f, numbered(path, "dead", i), 500, 0));
    assert_int_equal(figures(f).evicted, 0);
    for (unsigned i = 0; i < 40; i++)
        assert_true(put(f, numbered(path, "new", i), 10000, at_ms(500)));
    assert_int_equal(figures(f).evicted, 0);
    assert_in_range(figures(f).expired, 15, 40);
    for (unsigned i = 0; i < 40; i++)
        assert_true(has(f, numbered(path, "live", i), T0));
    fixture_destroy(f);
}

/* ---- 304s ---- */

/* Two 304s in a row: the body is the newest's, whoever reads the one between. */
static void a_body_that_lives_on_does_not_linger(void **state)
{
    struct fixture *f = fixture_create(64 << 20, 0);
    struct stored_options o = options_of(f->store, "/a");
    struct stored *s[3];

    (void)state;
    assert_true(put_complete(f->t, o, 1 << 20, T0));
    s[0] = acquire(f->t, f->store, "/a", T0);
    for (int i = 1; i < 3; i++) {
        o.born = store_birth(f->store);
        s[i] = stored_create_freshened(f->t, &o, s[i - 1], T0);
        assert_true(store_put(f->t, s[i], T0));
        store_thread_poll(f->t);
        assert_true(atomic_load(&f->store->lingering) < 8192);
    }
    for (int i = 0; i < 3; i++)
        stored_release(s[i]);
    fixture_destroy(f);
}

/* ---- purges ---- */

static struct bytes url_of(struct made_key *m, const char *path)
{
    make_key(m, path, NULL);
    return m->key.url;
}

static void purges_a_url_in_all_scopes(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 0);
    struct made_key m;

    (void)state;
    for (unsigned i = 0; i < 200; i++)
        put_for_user(f, i, T0);
    assert_true(put(f, "/me", 10, T0));
    assert_true(put(f, "/me/not", 10, T0));
    assert_int_equal(store_purge_url(f->t, url_of(&m, "/me"), false), 201);
    assert_int_equal(figures(f).objects, 1);
    assert_true(has(f, "/me/not", T0));
    assert_int_equal(store_purge_url(f->t, url_of(&m, "/me"), false), 0);
    fixture_destroy(f);
}

static void a_soft_purge_marks(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 0);
    struct made_key m;

    (void)state;
    assert_true(put(f, "/a", 10, T0));
    assert_true(put(f, "/b", 10, T0));
    assert_int_equal(store_purge_url(f->t, url_of(&m, "/a"), true), 1);
    assert_int_equal(store_purge_url(f->t, url_of(&m, "/a"), true), 0); /* is marked already */
    struct stored *a = acquire(f->t, f->store, "/a", T0), *b = acquire(f->t, f->store, "/b", T0);

    assert_true(atomic_load(&a->expired));
    assert_false(atomic_load(&b->expired));
    assert_int_equal(store_purge_all(f->t, true), 1);
    assert_true(atomic_load(&b->expired));
    stored_release(a);
    stored_release(b);
    fixture_destroy(f);
}

static void purges_a_prefix(void **state)
{
    struct fixture *f = fixture_create(64 << 20, 0);
    char path[32];

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        assert_true(put(f, numbered(path, "in", i), 10, T0));
        assert_true(put(f, numbered(path, "out", i), 10, T0));
    }
    assert_int_equal(store_purge_prefix(f->t, BYTES_LIT("http://example.org/in/29"), true), 111);
    assert_int_equal(store_purge_prefix(f->t, BYTES_LIT("http://example.org/in/"), false), 3000);
    assert_int_equal(store_purge_prefix(f->t, BYTES_LIT("http://example.com/out/"), false), 0);
    assert_int_equal(figures(f).objects, 3000);
    assert_int_equal(store_purge_all(f->t, false), 3000);
    assert_int_equal(figures(f).objects, 0);
    fixture_destroy(f);
}

/* A fetch that began before a purge must not store what it brings; one that began after it may. Also where nothing was
 * stored at the time of the purge. */
static void a_purge_wins_over_an_older_birth(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 0);
    struct made_key a;

    (void)state;
    url_of(&a, "/a");
    for (unsigned kind = 0; kind < 3; kind++) {
        for (unsigned soft = 0; soft < 2; soft++) {
            struct stored_options before = options_for(f->store, &a);
            struct made_key m;
            size_t purged = kind == 0   ? store_purge_url(f->t, a.key.url, soft)
                            : kind == 1 ? store_purge_prefix(f->t, BYTES_LIT("http://example.org/a"), soft)
                                        : store_purge_all(f->t, soft);

            assert_int_equal(purged, 0);
            assert_true(store_purged_since(f->store, a.key.url, before.born));
            assert_int_equal(store_purged_since(f->store, url_of(&m, "/other"), before.born), kind == 2);
            assert_false(put_complete(f->t, before, 10, T0));
            assert_false(has(f, "/a", T0));
            struct stored_options after = options_for(f->store, &a);

            assert_false(store_purged_since(f->store, a.key.url, after.born));
            struct stored *s = make_complete(f->t, after, 10, T0);

            assert_true(store_put(f->t, s, T0));
            store_remove(f->t, s);
            stored_release(s);
        }
    }
    fixture_destroy(f);
}

/* The log forgets, and then says yes for too many; never no. */
static void the_purge_log_errs_on_the_safe_side(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 1);
    char prefix[64];
    struct made_key m;
    uint64_t birth = store_birth(f->store);

    (void)state;
    assert_int_equal(store_purge_prefix(f->t, BYTES_LIT("http://example.org/first/"), false), 0);
    uint64_t second = store_birth(f->store);

    for (unsigned i = 1; i < PURGE_LOG_PREFIXES; i++) {
        snprintf(prefix, sizeof prefix, "http://example.org/p%u/", i);
        assert_int_equal(store_purge_prefix(f->t, bytes_of(prefix), false), 0);
    }
    assert_true(store_purged_since(f->store, url_of(&m, "/first/x"), birth));
    assert_false(store_purged_since(f->store, url_of(&m, "/other"), birth));
    assert_false(store_purged_since(f->store, url_of(&m, "/first/x"), second));
    assert_int_equal(store_purge_prefix(f->t, BYTES_LIT("http://example.org/last/"), false), 0);
    assert_true(store_purged_since(f->store, url_of(&m, "/first/x"), birth));
    assert_true(store_purged_since(f->store, url_of(&m, "/other"), birth));
    assert_false(store_purged_since(f->store, url_of(&m, "/other"), second));
    for (unsigned i = 0; i < 20000; i++) {
        char path[32];
        uint64_t b = store_birth(f->store);

        (void)store_purge_url(f->t, url_of(&m, numbered(path, "u", i)), false);
        assert_true(store_purged_since(f->store, m.key.url, b));
        assert_false(store_purged_since(f->store, m.key.url, store_birth(f->store)));
    }
    assert_true(store_purged_since(f->store, url_of(&m, "/u0"), second));
    fixture_destroy(f);
}

/* Each unsafe request is a purge: those that came while a response was fetched must not keep it from being stored. */
static void a_few_purged_urls_are_told_from_others(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 1);
    struct made_key m;
    uint64_t birth = store_birth(f->store);
    unsigned taken = 0;
    char path[32];

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        (void)store_purge_url(f->t, url_of(&m, numbered(path, "few", i)), false);
    for (unsigned i = 0; i < 100; i++)
        assert_true(store_purged_since(f->store, url_of(&m, numbered(path, "few", i)), birth));
    for (unsigned i = 0; i < 2000; i++)
        taken += store_purged_since(f->store, url_of(&m, numbered(path, "other", i)), birth);
    assert_in_range(taken, 0, 5);
    fixture_destroy(f);
}

static bool refuse_all(size_t bytes)
{
    (void)bytes;
    return true;
}

static void a_prefix_purge_without_memory_covers_all(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 1);
    struct made_key m;
    uint64_t birth = store_birth(f->store);

    (void)state;
    assert_true(put(f, "/in/1", 10, T0));
    assert_true(put(f, "/out/1", 10, T0));
    alloc_set_fault(refuse_all);
    assert_int_equal(store_purge_prefix(f->t, BYTES_LIT("http://example.org/in/"), false), 1);
    alloc_set_fault(NULL);
    assert_true(has(f, "/out/1", T0));
    assert_true(store_purged_since(f->store, url_of(&m, "/other"), birth));
    fixture_destroy(f);
}

/* ---- memory, threads ---- */

static unsigned long allocations, refuse_at;

static bool refuse_nth(size_t bytes)
{
    (void)bytes;
    return allocations++ == refuse_at;
}

static void create_survives_when_memory_runs_out(void **state)
{
    struct store *store;

    (void)state;
    refuse_at = 0;
    do {
        allocations = 0;
        alloc_set_fault(refuse_nth);
        store = store_create(&(struct store_options){.bytes_max = 1 << 20, .shards = 4, .threads = 1, .seed = 1});
        alloc_set_fault(NULL);
        refuse_at++;
    } while (store == NULL);
    assert_true(refuse_at > 10);
    store_destroy(store);
}

/* A put whose index cannot grow keeps what is stored and leaks nothing. Method: enough puts that all indices grow some
 * times, every seventh allocation fails. */
static bool refuse_sevenths(size_t bytes)
{
    (void)bytes;
    return ++allocations % 7 == 0;
}

static void put_survives_when_memory_runs_out(void **state)
{
    struct fixture *f = fixture_create(64 << 20, 2);
    static bool stored[5000];
    char path[32];
    unsigned refused = 0;

    (void)state;
    allocations = 0;
    alloc_set_fault(refuse_sevenths);
    for (unsigned i = 0; i < 5000; i++) {
        stored[i] = put(f, numbered(path, "n", i), 10, T0);
        refused += !stored[i];
    }
    alloc_set_fault(NULL);
    assert_in_range(refused, 1200, 1600);
    for (unsigned i = 0; i < 5000; i++)
        assert_int_equal(has(f, numbered(path, "n", i), T0), stored[i]);
    assert_int_equal(figures(f).objects, 5000 - refused);
    fixture_destroy(f);
}

static void threads_come_and_go(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 2);

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        struct store_thread *t = store_thread_create(f->store);

        assert_true(put_complete(t, options_of(f->store, "/a"), 10, T0));
        store_thread_destroy(t);
    }
    assert_int_equal(figures(f).objects, 1);
    unsigned n = 0;

    for (struct store_thread *t = f->store->threads; t != NULL; t = t->next)
        n++;
    assert_int_equal(n, 3); /* the fixture's, the store's own, one that was given out again and again */
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_put_and_nothing_else),
        cmocka_unit_test(a_hash_collision_is_no_hit),
        cmocka_unit_test(the_hash_depends_on_the_seed),
        cmocka_unit_test(a_put_takes_the_place_of_the_old),
        cmocka_unit_test(a_swap_takes_the_place_of_what_was_seen_and_no_other),
        cmocka_unit_test(only_complete_bodies_are_stored),
        cmocka_unit_test(markers_are_kept_but_not_counted),
        cmocka_unit_test(the_budget_holds),
        cmocka_unit_test(everything_charged_is_given_back),
        cmocka_unit_test(the_indices_are_charged),
        cmocka_unit_test(what_is_too_large_is_refused),
        cmocka_unit_test(evicted_responses_that_are_read_still_count),
        cmocka_unit_test(a_lookup_that_stops_does_not_empty_the_store),
        cmocka_unit_test(eviction_spares_what_was_used),
        cmocka_unit_test(a_peek_is_no_use),
        cmocka_unit_test(a_use_renews_the_place_now_and_then),
        cmocka_unit_test(a_use_after_a_long_time_renews_the_place),
        cmocka_unit_test(what_was_used_after_a_long_time_is_not_evicted_for_it),
        cmocka_unit_test(a_flood_of_user_responses_leaves_shared_ones),
        cmocka_unit_test(a_flood_of_shared_responses_leaves_user_ones),
        cmocka_unit_test(one_pool_may_use_everything),
        cmocka_unit_test(shrinking_evicts),
        cmocka_unit_test(expires_at_the_end_of_usefulness),
        cmocka_unit_test(expires_at_most_so_many),
        cmocka_unit_test(expires_in_the_order_of_time),
        cmocka_unit_test(the_useless_leave_before_the_useful),
        cmocka_unit_test(a_body_that_lives_on_does_not_linger),
        cmocka_unit_test(purges_a_url_in_all_scopes),
        cmocka_unit_test(a_soft_purge_marks),
        cmocka_unit_test(purges_a_prefix),
        cmocka_unit_test(a_purge_wins_over_an_older_birth),
        cmocka_unit_test(the_purge_log_errs_on_the_safe_side),
        cmocka_unit_test(a_few_purged_urls_are_told_from_others),
        cmocka_unit_test(a_prefix_purge_without_memory_covers_all),
        cmocka_unit_test(create_survives_when_memory_runs_out),
        cmocka_unit_test(put_survives_when_memory_runs_out),
        cmocka_unit_test(threads_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
