/* Who leaves when room is needed: least recently used, and SIEVE. All on the real store, of one shard where the order
 * of leaving matters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cache/store_private.h"
#include "tests/unit/stored_make.h"

enum { BODY = 10000, FEW = 20, FULL = 300 }; /* so many of BODY bytes fill LIMIT more than twice */
#define LIMIT ((size_t)1 << 20)

struct fixture {
    struct store *store;
    struct store_thread *t;
};

static struct fixture fixture_create(enum store_eviction eviction, unsigned shards)
{
    struct fixture f;

    f.store = store_create(
        &(struct store_options){.bytes_max = LIMIT, .shards = shards, .threads = 2, .seed = 42, .eviction = eviction});
    assert_non_null(f.store);
    f.t = store_thread_create(f.store);
    assert_non_null(f.t);
    return f;
}

static void fixture_destroy(struct fixture *f)
{
    store_thread_destroy(f->t);
    store_destroy(f->store);
}

static struct store_figures figures(struct fixture *f)
{
    struct store_figures out;

    store_figures(f->store, &out);
    return out;
}

static void make(struct made_key *m, const char *what, unsigned n, bool user)
{
    char path[64], name[32];

    snprintf(path, sizeof path, "/%s/%u", what, n);
    snprintf(name, sizeof name, "user%u", n);
    make_key(m, path, user ? name : NULL);
}

static bool put_until(struct fixture *f, const char *what, unsigned n, int64_t useful_ms, struct mono_ms now)
{
    struct made_key m;

    make(&m, what, n, false);
    struct stored_options o = options_for(f->store, &m);

    o.response_time = now;
    o.useful_ms = useful_ms;
    return put_complete(f->t, o, BODY, now);
}

static void put(struct fixture *f, const char *what, unsigned n, struct mono_ms now)
{
    assert_true(put_until(f, what, n, 3600 * 1000, now));
}

static void put_for_user(struct fixture *f, const char *what, unsigned n, struct mono_ms now)
{
    struct made_key m;

    make(&m, what, n, true);
    struct stored_options o = options_for(f->store, &m);

    o.user_scope = true;
    assert_true(put_complete(f->t, o, BODY, now));
}

static struct stored *peek(struct fixture *f, const char *what, unsigned n)
{
    struct made_key m;

    make(&m, what, n, false);
    return store_peek(f->t, store_hash(f->store, m.key.whole), m.key.whole);
}

/* Is no use. */
static bool has(struct fixture *f, const char *what, unsigned n)
{
    struct stored *s = peek(f, what, n);

    stored_release(s);
    return s != NULL;
}

static unsigned how_many(struct fixture *f, const char *what, unsigned n)
{
    unsigned found = 0;

    for (unsigned i = 0; i < n; i++)
        found += has(f, what, i);
    return found;
}

static void use(struct fixture *f, const char *what, unsigned n, struct mono_ms now)
{
    struct made_key m;
    struct stored *s;

    make(&m, what, n, false);
    s = store_acquire(f->t, store_hash(f->store, m.key.whole), m.key.whole, now);
    assert_non_null(s);
    stored_release(s);
}

static void take_out(struct fixture *f, const char *what, unsigned n)
{
    struct stored *s = peek(f, what, n);

    assert_non_null(s);
    store_remove(f->t, s);
    stored_release(s);
}

/* Puts until another one has been evicted. */
static void evict_one(struct fixture *f, const char *what, struct mono_ms now)
{
    static unsigned n;
    uint64_t before = figures(f).evicted;

    while (figures(f).evicted == before)
        put(f, what, n++, now);
    assert_int_equal(figures(f).evicted, before + 1);
}

/* ---- what SIEVE is for ---- */

/* Twenty are used once; then comes five times what the store holds, each asked for once. SIEVE's hand passes the used
 * ones in its first round, and the newcomers leave behind it ever after; LRU's order forgets them. */
static void scan(struct fixture *f)
{
    for (unsigned i = 0; i < FEW; i++)
        put(f, "used", i, T0);
    for (unsigned i = 0; i < FEW; i++)
        use(f, "used", i, at_ms(1));
    for (unsigned i = 0; i < 2 * FULL; i++)
        put(f, "scan", i, at_ms(2 + i));
}

static void a_scan_does_not_flush_what_is_used(void **state)
{
    struct fixture sieve = fixture_create(STORE_SIEVE, 1), lru = fixture_create(STORE_LRU, 1);

    (void)state;
    scan(&sieve);
    scan(&lru);
    assert_int_equal(how_many(&sieve, "used", FEW), FEW);
    assert_int_equal(how_many(&lru, "used", FEW), 0);
    fixture_destroy(&sieve);
    fixture_destroy(&lru);
}

/* Old ones that were used stay, newer ones that were not leave, in the order of their coming. */
static void one_hit_wonders_leave_first(void **state)
{
    struct fixture f = fixture_create(STORE_SIEVE, 1);
    unsigned left;

    (void)state;
    for (unsigned i = 0; i < FEW; i++) {
        put(&f, "used", i, T0);
        put(&f, "once", i, T0);
        use(&f, "used", i, at_ms(1));
    }
    for (unsigned i = 0; figures(&f).evicted < FEW / 2; i++)
        put(&f, "new", i, at_ms(2));
    left = how_many(&f, "once", FEW);
    assert_int_equal(left, FEW - figures(&f).evicted);
    for (unsigned i = FEW - left; i < FEW; i++)
        assert_true(has(&f, "once", i));
    assert_int_equal(how_many(&f, "used", FEW), FEW);
    fixture_destroy(&f);
}

/* One use is one more round of the hand, not more: when it comes by again it takes who has not been used since. */
static void a_use_is_one_more_round(void **state)
{
    struct fixture f = fixture_create(STORE_SIEVE, 1);
    unsigned n = 0;

    (void)state;
    while (figures(&f).evicted == 0)
        put(&f, "all", n++, T0);
    assert_false(has(&f, "all", 0));
    for (unsigned i = 1; i < n; i++)
        use(&f, "all", i, at_ms(1));
    /* The hand passes them all, and comes to the oldest again. */
    evict_one(&f, "new", at_ms(2));
    assert_false(has(&f, "all", 1));
    assert_int_equal(how_many(&f, "all", n), n - 2);
    use(&f, "all", 2, at_ms(3));
    evict_one(&f, "new", at_ms(4));
    assert_true(has(&f, "all", 2));
    assert_false(has(&f, "all", 3));
    assert_int_equal(how_many(&f, "all", n), n - 3);
    fixture_destroy(&f);
}

/* Uses move nothing, however long ago the last one was, and wait for no lock: the order is that of arrival. */
static void a_use_moves_nothing(void **state)
{
    struct fixture f = fixture_create(STORE_SIEVE, 1);
    struct lru *list = &f.store->shards[0].lru[0];

    (void)state;
    put(&f, "a", 1, T0);
    put(&f, "a", 2, T0);
    struct stored *oldest = list->oldest;

    use(&f, "a", 1, at_ms(LRU_TOUCH_MS));
    use(&f, "a", 1, at_ms(INT64_C(40) * 86400000));
    assert_ptr_equal(list->oldest, oldest);
    assert_ptr_not_equal(list->newest, oldest);
    fixture_destroy(&f);
}

/* ---- the hand ---- */

/* Fills, and lets the hand pass some used ones, so that it stands in the middle. Returns where. */
static unsigned bring_the_hand_to_the_middle(struct fixture *f)
{
    struct stored *s;
    unsigned at;

    for (unsigned i = 0; figures(f).evicted == 0; i++)
        put(f, "all", i, T0);
    for (unsigned i = 1; i < FEW; i++)
        use(f, "all", i, at_ms(1));
    evict_one(f, "new", at_ms(2));
    for (at = FEW; !has(f, "all", at); at++)
        assert_true(at < FULL);
    s = peek(f, "all", at);
    assert_ptr_equal(f->store->shards[0].lru[0].hand, s);
    stored_release(s);
    return at;
}

/* It goes on from the next newer one, whichever way the one that it stood at has left. */
static void the_hand_survives_removals(void **state)
{
    struct fixture f = fixture_create(STORE_SIEVE, 1);
    struct lru *list = &f.store->shards[0].lru[0];
    unsigned at = bring_the_hand_to_the_middle(&f);
    struct made_key m;
    struct stored *next;

    (void)state;
    take_out(&f, "all", at);
    next = peek(&f, "all", at + 1);
    assert_ptr_equal(list->hand, next);
    stored_release(next);
    make(&m, "all", at + 1, false);
    assert_int_equal(store_purge_url(f.t, m.key.url, false), 1);
    put(&f, "all", at + 2, at_ms(3)); /* takes the place of the one that the hand stands at now */
    next = peek(&f, "all", at + 3);
    assert_ptr_equal(list->hand, next);
    stored_release(next);
    take_out(&f, "all", 1); /* one behind it does not matter */
    evict_one(&f, "more", at_ms(4));
    assert_false(has(&f, "all", at + 3));
    fixture_destroy(&f);
}

static void the_hand_survives_a_purge_of_everything(void **state)
{
    struct fixture f = fixture_create(STORE_SIEVE, 1);

    (void)state;
    (void)bring_the_hand_to_the_middle(&f);
    assert_true(store_purge_all(f.t, false) > FEW);
    assert_null(f.store->shards[0].lru[0].hand);
    store_thread_poll(f.t);
    for (unsigned i = 0; i < FULL; i++)
        put(&f, "again", i, at_ms(5));
    assert_true(has(&f, "again", FULL - 1));
    assert_true(figures(&f).used_bytes <= LIMIT);
    fixture_destroy(&f);
}

/* Where all is used, the hand passes a bounded number under each lock, and room is made all the same. Method: one shard
 * with more used ones than that, all used again before each put. */
static void room_is_made_where_all_is_used(void **state)
{
    struct fixture f = fixture_create(STORE_SIEVE, 1);
    unsigned n = 0;

    (void)state;
    while (figures(&f).evicted == 0)
        put(&f, "all", n++, T0);
    assert_true(n > PASSED_MAX + FEW);
    for (unsigned round = 1; round < FEW; round++) {
        for (unsigned i = 0; i < n; i++)
            if (has(&f, "all", i))
                use(&f, "all", i, at_ms(round));
        put(&f, "all", n++, at_ms(round));
        assert_true(has(&f, "all", n - 1));
        assert_true(figures(&f).used_bytes <= LIMIT);
    }
    fixture_destroy(&f);
}

/* What takes another's place was asked for again: it has a round, as if it had been used. */
static void what_is_stored_anew_counts_as_used(void **state)
{
    struct fixture f = fixture_create(STORE_SIEVE, 1);

    (void)state;
    put(&f, "anew", 1, T0);
    put(&f, "anew", 1, at_ms(1));
    put(&f, "once", 1, at_ms(1));
    evict_one(&f, "new", at_ms(2));
    assert_true(has(&f, "anew", 1));
    assert_false(has(&f, "once", 1));
    fixture_destroy(&f);
}

/* ---- with both ---- */

static const enum store_eviction both[] = {STORE_LRU, STORE_SIEVE};

static void used_ones_stay_while_they_are_used(void **state)
{
    (void)state;
    for (size_t e = 0; e < 2; e++) {
        struct fixture f = fixture_create(both[e], 1);

        put(&f, "used", 0, T0);
        put(&f, "once", 0, T0);
        for (unsigned i = 0; i < 2 * FULL; i++) {
            put(&f, "new", i, at_ms(i));
            use(&f, "used", 0, at_ms(i));
        }
        assert_false(has(&f, "once", 0));
        fixture_destroy(&f);
    }
}

/* In all shards, used or not, and in either pool. */
static void what_is_useless_leaves_before_what_is_not(void **state)
{
    (void)state;
    for (size_t e = 0; e < 2; e++) {
        struct fixture f = fixture_create(both[e], 8);

        for (unsigned i = 0; i < 40; i++)
            assert_true(put_until(&f, "live", i, 100000, T0));
        for (unsigned i = 0; i < 40; i++)
            assert_true(put_until(&f, "dead", i, 500, T0));
        for (unsigned i = 0; i < 40; i++)
            use(&f, "dead", i, at_ms(499));
        assert_int_equal(figures(&f).evicted, 0);
        for (unsigned i = 0; i < 20; i++)
            put(&f, "new", i, at_ms(500));
        for (unsigned i = 0; i < 20; i++)
            put_for_user(&f, "new", i, at_ms(500));
        assert_int_equal(figures(&f).evicted, 0);
        assert_in_range(figures(&f).expired, 15, 40);
        assert_int_equal(how_many(&f, "live", 40), 40);
        /* A moment earlier nothing is useless: the live have to leave. */
        for (unsigned i = 0; i < FULL; i++)
            assert_true(put_until(&f, "soon", i, 2, at_ms(501)));
        assert_true(figures(&f).evicted > 0);
        fixture_destroy(&f);
    }
}

/* Neither pool presses the other below half of the limit, used or not. */
static void a_flood_in_one_pool_leaves_the_other(void **state)
{
    (void)state;
    for (size_t e = 0; e < 2; e++) {
        struct fixture f = fixture_create(both[e], 4);
        struct made_key m;

        for (unsigned i = 0; i < 2 * FEW; i++)
            put(&f, "shared", i, T0);
        for (unsigned i = 0; i < 2 * FULL; i++) {
            put_for_user(&f, "me", i, at_ms(1));
            make(&m, "me", i, true);
            stored_release(store_acquire(f.t, store_hash(f.store, m.key.whole), m.key.whole, at_ms(2)));
        }
        assert_int_equal(how_many(&f, "shared", 2 * FEW), 2 * FEW);
        fixture_destroy(&f);
    }
}

static void large_ones_cost_as_much_room_as_they_take(void **state)
{
    (void)state;
    for (size_t e = 0; e < 2; e++) {
        struct fixture f = fixture_create(both[e], 4);

        for (unsigned i = 0; i < 4 * FULL; i++) {
            struct made_key m;

            make(&m, "n", i, false);
            assert_true(put_complete(f.t, options_for(f.store, &m), 1 + (i * 7919) % 100000, T0));
            assert_true(figures(&f).used_bytes <= LIMIT + LIMIT / 8);
        }
        assert_true(figures(&f).used_bytes > LIMIT / 2);
        fixture_destroy(&f);
    }
}

/* A reload may change it: what is stored stays, and the next eviction goes by the other. */
static void it_can_be_changed_at_any_time(void **state)
{
    struct fixture f = fixture_create(STORE_LRU, 1);
    struct lru *list = &f.store->shards[0].lru[0];

    (void)state;
    for (unsigned i = 0; i < FEW; i++)
        put(&f, "used", i, T0);
    store_set_eviction(f.store, STORE_SIEVE);
    for (unsigned i = 0; i < FEW; i++)
        use(&f, "used", i, at_ms(2 * LRU_TOUCH_MS));
    struct stored *first = peek(&f, "used", 0);

    assert_ptr_equal(list->oldest, first); /* SIEVE's now: not moved */
    for (unsigned i = 0; i < FULL; i++)
        put(&f, "scan", i, at_ms(2 * LRU_TOUCH_MS + i));
    assert_int_equal(how_many(&f, "used", FEW), FEW);
    store_set_eviction(f.store, STORE_LRU);
    use(&f, "used", 0, at_ms(4 * LRU_TOUCH_MS));
    assert_ptr_equal(list->newest, first); /* LRU's again */
    stored_release(first);
    for (unsigned i = 0; i < FULL; i++)
        put(&f, "more", i, at_ms(4 * LRU_TOUCH_MS + i));
    assert_int_equal(how_many(&f, "used", FEW), 0);
    struct store_thread *later = store_thread_create(f.store);

    assert_int_equal(atomic_load(&later->touch_ms), LRU_TOUCH_MS);
    store_set_eviction(f.store, STORE_SIEVE);
    assert_int_equal(atomic_load(&later->touch_ms), UINT32_MAX);
    store_thread_destroy(later);
    fixture_destroy(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scan_does_not_flush_what_is_used),
        cmocka_unit_test(one_hit_wonders_leave_first),
        cmocka_unit_test(a_use_is_one_more_round),
        cmocka_unit_test(a_use_moves_nothing),
        cmocka_unit_test(the_hand_survives_removals),
        cmocka_unit_test(the_hand_survives_a_purge_of_everything),
        cmocka_unit_test(room_is_made_where_all_is_used),
        cmocka_unit_test(what_is_stored_anew_counts_as_used),
        cmocka_unit_test(used_ones_stay_while_they_are_used),
        cmocka_unit_test(what_is_useless_leaves_before_what_is_not),
        cmocka_unit_test(a_flood_in_one_pool_leaves_the_other),
        cmocka_unit_test(large_ones_cost_as_much_room_as_they_take),
        cmocka_unit_test(it_can_be_changed_at_any_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
