/*
 * Many threads do everything with the store at once, for a bounded time; each answer is checked against what was
 * allowed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "tests/unit/stored_make.h"

#ifndef STRESS_MS
#define STRESS_MS 1500 /* more with -DSTRESS_MS */
#endif

enum {
    THREADS = 4,
    GROUPS = 8,
    KEYS = 2000,
    HOT = 16,
    TAGS = 10,
    HELD = 8, /* references that a thread keeps for a while */
    LIVE = 4, /* bodies that grow while others read them */
    RUN_MS = STRESS_MS,
    PATIENCE_MS = 20000, /* a busy machine may need longer to come to everything */
    LIMIT = 4 << 20,
    LARGEST = 200 * 1024,
    MARK = 16, /* bytes at the beginning of a body that say whose it is */
};

struct live {
    pthread_mutex_t lock; /* keeps starting to read and discarding apart */
    struct stored *s;
    unsigned key;
};

static struct store *store;
static struct made_key keys[KEYS];
static struct tags key_tags[KEYS];
static struct live lives[LIVE];
/* No response born before these may be found any more (or only marked as stale). Raised once the purge has returned. */
static _Atomic uint64_t hard_floor[KEYS], soft_floor[KEYS];
static _Atomic bool stop;
static _Atomic int failures;
static _Atomic uint64_t largest_use, hits, stores, refusals, live_bytes;

struct worker {
    pthread_t thread;
    struct store_thread *t;
    uint64_t random;
    struct stored *held[HELD];
};

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            atomic_fetch_add(&failures, 1);                                                                            \
        }                                                                                                              \
    } while (0)

static uint64_t dice(struct worker *w)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random >> 11;
}

static struct mono_ms now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (struct mono_ms){ts.tv_sec * 1000 + ts.tv_nsec / 1000000};
}

static unsigned any_key(struct worker *w)
{
    return (unsigned)(dice(w) % (dice(w) % 2 ? HOT : KEYS));
}

static bool is_user_key(unsigned key)
{
    return key % 3 == 0;
}

static char expected_byte(unsigned key, uint64_t born, uint64_t at)
{
    uint64_t mark[2] = {key, born};

    return at < MARK ? ((const char *)mark)[at] : (char)((at + key) * 37 >> 3);
}

static bool raise_floor(_Atomic uint64_t *floor, uint64_t to)
{
    uint64_t seen = atomic_load(floor);

    while (seen < to && !atomic_compare_exchange_weak(floor, &seen, to))
        ;
    return seen < to;
}

/* A body that was freshened carries the mark of the fetch that brought it. */
static void check_run(unsigned key, struct bytes run, uint64_t at)
{
    for (size_t i = 0; i < run.n; i += 1 + run.n / 50)
        if (at + i >= MARK || at + i < 8)
            CHECK(run.p[i] == expected_byte(key, 0, at + i));
}

static void check_body(struct stored *s, unsigned key)
{
    struct stored_reader r;
    struct bytes runs[4];
    size_t count;

    if (!stored_reader_start(&r, s)) {
        CHECK(!"a body to read");
        return;
    }
    while ((count = stored_reader_peek(&r, runs, 4, 100000)) > 0) {
        size_t total = 0;

        for (size_t i = 0; i < count; i++) {
            check_run(key, runs[i], r.position + total);
            total += runs[i].n;
        }
        stored_reader_advance(&r, total);
    }
    CHECK(r.position == stored_length(s));
    stored_reader_stop(&r);
}

static void keep_for_a_while(struct worker *w, struct stored *s)
{
    struct stored **slot = &w->held[dice(w) % HELD];

    stored_release(*slot);
    *slot = s;
}

static struct stored *look_up(struct worker *w, unsigned key)
{
    uint64_t hard = atomic_load(&hard_floor[key]), soft = atomic_load(&soft_floor[key]);
    struct bytes whole = keys[key].key.whole;
    struct stored *s = store_acquire(w->t, store_hash(store, whole), whole, now_ms());

    if (s == NULL)
        return NULL;
    CHECK(bytes_eq(stored_key(s), whole));
    CHECK(s->head->user_scope == is_user_key(key));
    CHECK(s->born >= hard);
    CHECK(s->born >= soft || s->head->kind != STORED_RESPONSE || atomic_load(&s->expired));
    CHECK(stored_body_state(s) == BODY_COMPLETE);
    atomic_fetch_add(&hits, 1);
    return s;
}

static void do_look_up(struct worker *w)
{
    unsigned key = any_key(w);
    struct stored *s = look_up(w, key);

    if (s == NULL)
        return;
    if (dice(w) % 4 == 0)
        check_body(s, key);
    if (dice(w) % 16 == 0)
        keep_for_a_while(w, stored_retain(s));
    stored_release(s);
}

/* "all"; the rest of the key's number by TAGS, a group; a tag of its own. */
static void tag_key(unsigned key)
{
    char text[32];

    tags_add(&key_tags[key], store, bytes_of("all"), false);
    snprintf(text, sizeof text, "t%u", key % TAGS);
    tags_add(&key_tags[key], store, bytes_of(text), true);
    snprintf(text, sizeof text, "own%u", key);
    tags_add(&key_tags[key], store, bytes_of(text), false);
}

static void set_tags(struct stored_options *o, unsigned key)
{
    o->tags = key_tags[key].v;
    o->ntags = key_tags[key].n;
}

static struct stored_options options_for_key(struct worker *w, unsigned key)
{
    struct stored_options o = options_for(store, &keys[key]);

    set_tags(&o, key);

    o.user_scope = is_user_key(key);
    o.response_time = now_ms();
    o.useful_ms = (int64_t)(dice(w) % (dice(w) % 4 ? 20000 : 500));
    return o;
}

static void put(struct worker *w, struct stored *s, unsigned key)
{
    uint64_t hard = atomic_load(&hard_floor[key]), soft = atomic_load(&soft_floor[key]);

    if (store_put(w->t, s, now_ms())) {
        CHECK(s->born >= hard && s->born >= soft);
        atomic_fetch_add(&stores, 1);
    } else {
        atomic_fetch_add(&refusals, 1);
    }
}

static bool append(struct worker *w, struct stored *s, unsigned key, size_t bytes)
{
    static _Thread_local char piece[LARGEST];
    uint64_t from = stored_length(s);

    for (size_t i = 0; i < bytes; i++)
        piece[i] = expected_byte(key, s->born, from + i);
    return stored_append(w->t, s, (struct bytes){piece, bytes}, now_ms());
}

static void live_show(struct live *l, struct stored *s, unsigned key)
{
    pthread_mutex_lock(&l->lock);
    struct stored *old = l->s;

    l->s = s == NULL ? NULL : stored_retain(s);
    l->key = key;
    pthread_mutex_unlock(&l->lock);
    stored_release(old);
}

static void live_discard(struct live *l, struct stored *s)
{
    pthread_mutex_lock(&l->lock);
    stored_discard_body(s);
    pthread_mutex_unlock(&l->lock);
}

/* A fetch: now and then in the open, so that others read along, and now and then passed through. */
static void do_fetch(struct worker *w)
{
    unsigned key = any_key(w);
    struct stored_options o = options_for_key(w, key);
    size_t size = dice(w) % (dice(w) % 16 ? 4000 : LARGEST), done = 0;
    struct live *shown = dice(w) % 4 == 0 ? &lives[(size_t)(w->random >> 40) % LIVE] : NULL;
    bool discarded = false, ok = true;

    o.kind = dice(w) % 16 == 0 ? STORED_PASS : STORED_RESPONSE;
    o.content_length = dice(w) % 2 ? (int64_t)size : -1;
    struct stored *s = stored_create(w->t, &o, now_ms());

    if (s == NULL)
        return;
    if (o.kind != STORED_RESPONSE)
        size = 0;
    else if (shown != NULL)
        live_show(shown, s, key);
    while (ok && done < size) {
        size_t piece = 1 + dice(w) % (size - done);

        ok = append(w, s, key, piece);
        done += piece;
        if (shown != NULL && dice(w) % 32 == 0) {
            live_discard(shown, s);
            discarded = true;
        }
        if (shown != NULL)
            sched_yield();
    }
    stored_finish_body(s, ok ? BODY_COMPLETE : BODY_BROKEN);
    if (ok && !discarded)
        put(w, s, key);
    else
        CHECK(!store_put(w->t, s, now_ms()));
    stored_release(s);
}

static void do_read_along(struct worker *w)
{
    struct live *l = &lives[dice(w) % LIVE];
    struct stored_reader r;
    struct stored *s = NULL;
    unsigned key;

    pthread_mutex_lock(&l->lock);
    key = l->key;
    if (l->s != NULL && stored_reader_start(&r, l->s))
        s = stored_retain(l->s);
    pthread_mutex_unlock(&l->lock);
    if (s == NULL)
        return;
    for (unsigned turns = dice(w) % 50; turns > 0; turns--) {
        struct bytes run;

        if (stored_reader_peek(&r, &run, 1, 1 + dice(w) % 50000) == 0) {
            if (stored_body_state(s) != BODY_OPEN)
                break;
            sched_yield();
            continue;
        }
        check_run(key, run, r.position);
        atomic_fetch_add(&live_bytes, run.n);
        stored_reader_advance(&r, run.n);
    }
    stored_reader_stop(&r);
    stored_release(s);
}

static void do_freshen(struct worker *w)
{
    unsigned key = any_key(w);
    struct stored_options o = options_for_key(w, key);
    struct stored *old = look_up(w, key), *s;

    if (old == NULL || old->head->kind != STORED_RESPONSE) {
        stored_release(old);
        return;
    }
    s = stored_create_freshened(w->t, &o, old, now_ms());
    stored_release(old);
    if (s == NULL)
        return;
    check_body(s, key);
    put(w, s, key);
    stored_release(s);
}

static void do_remove(struct worker *w)
{
    struct stored *s = look_up(w, any_key(w));

    if (s != NULL)
        store_remove(w->t, s);
    stored_release(s);
}

static void do_purge_url(struct worker *w)
{
    unsigned key = any_key(w);
    bool soft = dice(w) % 2;
    uint64_t before = store_birth(store);

    (void)store_purge_url(w->t, keys[key].key.url, soft);
    CHECK(store_purged_since(store, keys[key].key.url, before));
    raise_floor(soft ? &soft_floor[key] : &hard_floor[key], before);
}

static void do_purge_many(struct worker *w)
{
    unsigned group = (unsigned)(dice(w) % (GROUPS + 1)); /* the last: all of them */
    bool soft = dice(w) % 2;
    char prefix[64];
    uint64_t before = store_birth(store);

    snprintf(prefix, sizeof prefix, "http://example.org/g%u/", group);
    (void)(group == GROUPS ? store_purge_all(w->t, soft) : store_purge_prefix(w->t, bytes_of(prefix), soft));
    for (unsigned key = 0; key < KEYS; key++)
        if (group == GROUPS || key % GROUPS == group)
            raise_floor(soft ? &soft_floor[key] : &hard_floor[key], before);
}

static void raise_floors(bool soft, unsigned step, unsigned from, uint64_t to)
{
    for (unsigned key = from; key < KEYS; key += step)
        raise_floor(soft ? &soft_floor[key] : &hard_floor[key], to);
}

static void do_purge_tag(struct worker *w)
{
    unsigned key = any_key(w), what = (unsigned)(dice(w) % 16);
    bool soft = dice(w) % 2, group = dice(w) % 2;
    char text[32];
    uint64_t before = store_birth(store);

    if (what == 0)
        snprintf(text, sizeof text, "all");
    else if (what < 4)
        snprintf(text, sizeof text, "t%u", key % TAGS);
    else
        snprintf(text, sizeof text, "own%u", key);
    group = group && what > 0 && what < 4;
    struct tag_target target =
        group ? tag_target_group(store, keys[0].key.url, bytes_of(text)) : tag_target_anywhere(store, bytes_of(text));

    (void)store_purge_tag(w->t, &target, soft);
    raise_floors(soft, what == 0 ? 1 : what < 4 ? TAGS : KEYS, what == 0 ? 0 : what < 4 ? key % TAGS : key, before);
}

static void do_charge(struct worker *w)
{
    size_t bytes = dice(w) % LARGEST;

    if (store_charge(w->t, bytes, now_ms()))
        store_discharge(w->t, bytes);
}

static void drop_held(struct worker *w)
{
    for (size_t i = 0; i < HELD; i++) {
        stored_release(w->held[i]);
        w->held[i] = NULL;
    }
}

static void do_come_anew(struct worker *w)
{
    store_thread_destroy(w->t);
    w->t = store_thread_create(store);
}

static void do_watch(void)
{
    raise_floor(&largest_use, used_bytes(store));
}

static void do_something(struct worker *w)
{
    unsigned what = (unsigned)(dice(w) % 1000);

    if (what < 500)
        do_look_up(w);
    else if (what < 750)
        do_fetch(w);
    else if (what < 850)
        do_read_along(w);
    else if (what < 900)
        do_freshen(w);
    else if (what < 920)
        do_remove(w);
    else if (what < 940)
        do_purge_url(w);
    else if (what < 942)
        do_purge_many(w);
    else if (what < 950)
        do_purge_tag(w);
    else if (what < 960)
        store_expire(w->t, now_ms(), 10);
    else if (what < 975)
        store_thread_poll(w->t);
    else if (what < 985)
        do_charge(w);
    else if (what < 998)
        do_watch();
    else
        do_come_anew(w);
}

static void *work(void *argument)
{
    struct worker *w = argument;

    w->t = store_thread_create(store);
    while (!atomic_load(&stop))
        do_something(w);
    drop_held(w);
    store_thread_destroy(w->t);
    return NULL;
}

static void make_keys(void)
{
    for (unsigned i = 0; i < KEYS; i++) {
        char path[32], user[32];

        snprintf(path, sizeof path, "/g%u/%u", i % GROUPS, i);
        snprintf(user, sizeof user, "u%u", i);
        make_key(&keys[i], path, is_user_key(i) ? user : NULL);
        tag_key(i);
    }
}

/* With every key stored once the indices have their final size: what is used when all is dropped again is theirs. */
static uint64_t bytes_of_the_indices(void)
{
    struct store_thread *t = store_thread_create(store);

    for (unsigned i = 0; i < KEYS; i++) {
        struct stored_options o = options_for(store, &keys[i]);

        o.user_scope = is_user_key(i);
        set_tags(&o, i);
        assert_true(put_complete(t, o, 0, now_ms()));
    }
    assert_int_equal(store_purge_all(t, false), KEYS);
    store_thread_destroy(t);
    return used_bytes(store);
}

static bool came_to_everything(void)
{
    struct store_figures f;

    store_figures(store, &f);
    return hits > 0 && stores > 0 && refusals > 0 && live_bytes > 0 && f.evicted > 0 && f.expired > 0;
}

/* Both at once: now the one, now the other. */
enum { EVICT_LRU = STORE_LRU, EVICT_SIEVE = STORE_SIEVE, EVICT_BOTH };

static void run_for_a_while(int eviction)
{
    struct worker workers[THREADS] = {0};
    int64_t end = now_ms().ms + RUN_MS;

    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].random = 88172645463325252ull + i * 7777777;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; now_ms().ms < end || (now_ms().ms < end + PATIENCE_MS && !came_to_everything()); i++) {
        store_resize(store, i % 2 ? LIMIT : LIMIT / 2);
        if (eviction == EVICT_BOTH)
            store_set_eviction(store, i % 4 < 2 ? STORE_LRU : STORE_SIEVE);
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
}

static void begin_anew(int eviction)
{
    store = store_create(&(struct store_options){
        .bytes_max = LIMIT,
        .shards = 16,
        .threads = THREADS,
        .seed = 3,
        .eviction = eviction == EVICT_SIEVE ? STORE_SIEVE : STORE_LRU,
    });
    assert_non_null(store);
    for (unsigned i = 0; i < KEYS; i++)
        hard_floor[i] = soft_floor[i] = 0;
    stop = false;
    hits = stores = refusals = live_bytes = largest_use = 0;
    memset(key_tags, 0, sizeof key_tags);
    make_keys();
}

static void everything_at_once(int eviction)
{
    struct store_figures f;
    uint64_t indices;

    begin_anew(eviction);
    for (unsigned i = 0; i < LIVE; i++)
        pthread_mutex_init(&lives[i].lock, NULL);
    indices = bytes_of_the_indices();
    run_for_a_while(eviction);
    store_figures(store, &f);
    print_message("hits %lu, stored %lu, refused %lu, evicted %lu, expired %lu, read along %lu, most used %lu of %u\n",
                  (unsigned long)hits, (unsigned long)stores, (unsigned long)refusals, (unsigned long)f.evicted,
                  (unsigned long)f.expired, (unsigned long)live_bytes, (unsigned long)largest_use, (unsigned)LIMIT);
    assert_int_equal(failures, 0);
    assert_true(came_to_everything());
    /* Beside the limit: what lingers, and what each thread has charged while it makes room. */
    assert_true(largest_use <= LIMIT + LIMIT / 8 + (THREADS + 1) * 2 * LARGEST);

    for (unsigned i = 0; i < LIVE; i++)
        live_show(&lives[i], NULL, 0);
    struct store_thread *t = store_thread_create(store);

    (void)store_purge_all(t, false);
    store_thread_destroy(t);
    assert_int_equal(used_bytes(store), indices);
    store_figures(store, &f);
    assert_int_equal(f.objects, 0);
    store_destroy(store);
    for (unsigned i = 0; i < LIVE; i++)
        pthread_mutex_destroy(&lives[i].lock);
}

static void everything_at_once_with_lru(void **state)
{
    (void)state;
    everything_at_once(EVICT_LRU);
}

static void everything_at_once_with_sieve(void **state)
{
    (void)state;
    everything_at_once(EVICT_SIEVE);
}

static void everything_at_once_while_it_changes(void **state)
{
    (void)state;
    everything_at_once(EVICT_BOTH);
}

/* What is read, counted up and swapped loses no count, whoever comes in between. */
enum { COUNTS = 2000 };

static uint64_t counted(const struct stored *s)
{
    uint64_t n;

    memcpy(&n, stored_list(s).p, sizeof n);
    return n;
}

static void count_up(struct store_thread *t)
{
    enum store_swap swapped;

    do {
        struct stored *old = store_peek(t, store_hash(store, keys[0].key.whole), keys[0].key.whole);
        struct stored_options o = options_for(store, &keys[0]);
        uint64_t n = 1;

        o.kind = STORED_VARY;
        if (old != NULL)
            n += counted(old);
        o.list = (struct bytes){(const char *)&n, sizeof n};
        struct stored *s = stored_create(t, &o, now_ms());

        stored_finish_body(s, BODY_COMPLETE);
        sched_yield(); /* here others are to come in between */
        swapped = store_swap(t, s, old, now_ms());
        CHECK(swapped != STORE_REFUSED);
        stored_release(s);
        stored_release(old);
    } while (swapped == STORE_CHANGED);
}

static void *count(void *all)
{
    struct store_thread *t = store_thread_create(store);

    pthread_barrier_wait(all);
    for (unsigned i = 0; i < COUNTS; i++)
        count_up(t);
    store_thread_destroy(t);
    return NULL;
}

static void swaps_lose_nothing(void **state)
{
    pthread_t threads[THREADS];
    pthread_barrier_t all;

    (void)state;
    store = store_create(&(struct store_options){.bytes_max = LIMIT, .shards = 16, .threads = THREADS, .seed = 3});
    make_keys();
    pthread_barrier_init(&all, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count, &all), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&all);
    struct store_thread *t = store_thread_create(store);
    struct stored *s = store_peek(t, store_hash(store, keys[0].key.whole), keys[0].key.whole);

    assert_int_equal(counted(s), THREADS * COUNTS);
    stored_release(s);
    store_thread_destroy(t);
    store_destroy(store);
    assert_int_equal(failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_at_once_with_lru),
        cmocka_unit_test(everything_at_once_with_sieve),
        cmocka_unit_test(everything_at_once_while_it_changes),
        cmocka_unit_test(swaps_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
