/* What is moved, out of slabs that are nearly empty or one by one, is what it was to everyone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "cache/alloc.h"
#include "cache/form.h"
#include "cache/store_private.h"
#include "cache/tsan.h"
#include "tests/unit/stored_make.h"

enum { N = 3000, KEPT_EACH = 10, BODY = 700, LIMIT = 16 * 1024 * 1024 };

struct fixture {
    struct store *store;
    struct store_thread *t;
};

static struct fixture set_up(void)
{
    struct fixture f;

    f.store = store_create(&(struct store_options){.bytes_max = LIMIT, .shards = 4, .threads = 4, .seed = 42});
    assert_non_null(f.store);
    f.t = store_thread_create(f.store);
    return f;
}

static void tear_down(struct fixture *f)
{
    store_thread_poll(f->t);
    assert_int_equal(atomic_load(&f->store->lingering), 0);
    store_thread_destroy(f->t);
    store_destroy(f->store);
}

/* Under AddressSanitizer there are no slabs. */
static bool has_slabs(const struct fixture *f)
{
    return slab_holds(&f->store->slabs, BODY);
}

static const char *path_of(unsigned n)
{
    static _Thread_local char path[32];

    snprintf(path, sizeof path, "/%s/%u", n % KEPT_EACH == 0 ? "kept" : "gone", n);
    return path;
}

static uint64_t tag_of(unsigned n)
{
    return (n + 1) * (uint64_t)2;
}

static void put(struct fixture *f, unsigned n)
{
    struct stored_options o = options_of(f->store, path_of(n));
    uint64_t tags[] = {tag_of(n), tag_of(N)};

    o.tags = tags;
    o.ntags = 2;
    o.useful_ms = n % (2 * KEPT_EACH) == 0 ? 1000 : 2000;
    assert_true(put_complete(f->t, o, BODY, T0));
}

/* All are put, and all but every tenth leave. */
static void fill(struct fixture *f)
{
    for (unsigned n = 0; n < N; n++)
        put(f, n);
    for (unsigned n = 0; n < N; n++)
        if (n % KEPT_EACH != 0) {
            struct stored *s = acquire(f->t, f->store, path_of(n), T0);

            store_remove(f->t, s);
            stored_release(s);
        }
    store_thread_poll(f->t);
}

static unsigned compact(struct fixture *f)
{
    unsigned rounds = 0;

    while (store_compact(f->t)) {
        rounds++;
        store_thread_poll(f->t);
    }
    return rounds;
}

static void is_right(struct fixture *f, unsigned n)
{
    struct stored *s = acquire(f->t, f->store, path_of(n), T0);

    assert_non_null(s);
    assert_int_equal(stored_length(s), BODY);
    assert_true(body_is_right(s));
    assert_true(store_holds(f->t, s));
    assert_int_equal(stored_tags(s)[0].tag, tag_of(n));
    assert_int_equal(s->ntags, 2);
    stored_release(s);
}

static void slabs_go_and_responses_stay(void **state)
{
    struct fixture f = set_up();
    uint64_t before;

    (void)state;
    fill(&f);
    before = used_bytes(f.store);
    struct stored *held = acquire(f.t, f.store, path_of(10), T0);
    unsigned rounds = compact(&f);

    if (has_slabs(&f)) {
        assert_true(rounds > 10);
        assert_true(used_bytes(f.store) < before / 4);
    }
    assert_int_equal(held->place, PLACE_TABLE); /* who is held stays */
    stored_release(held);
    for (unsigned n = 0; n < N; n += KEPT_EACH)
        is_right(&f, n);
    tear_down(&f);
}

/* In each of the lists the copy stands where the other stood. */
static void lists_are_right(struct fixture *f)
{
    struct store_figures figures;
    struct made_key m;

    store_expire(f->t, at_ms(1000), UINT32_MAX);
    store_figures(f->store, &figures);
    assert_int_equal(figures.objects, N / KEPT_EACH / 2);
    make_key(&m, path_of(10), NULL);
    assert_int_equal(store_purge_url(f->t, m.key.url, true), 1);
    assert_int_equal(store_purge_url(f->t, m.key.url, false), 1);
    struct tag_target one = {.hash = tag_of(30), .log_id = 1}, all = {.hash = tag_of(N), .log_id = 2};

    assert_int_equal(store_purge_tag(f->t, &one, false), 1);
    assert_int_equal(store_purge_tag(f->t, &all, false), N / KEPT_EACH / 2 - 2);
    store_thread_poll(f->t);
    for (unsigned i = 0; i < 4; i++) {
        assert_null(f->store->shards[i].lru[0].oldest);
        assert_null(f->store->shards[i].lru[0].newest);
    }
}

static void the_lists_are_what_they_were(void **state)
{
    struct fixture f = set_up();

    (void)state;
    fill(&f);
    compact(&f);
    lists_are_right(&f);
    tear_down(&f);
}

/* One by one: that needs no slabs. Returns what has been moved. */
static bool move_to_other_room(struct store_thread *t, enum slab_use use, void *p, size_t bytes)
{
    void *room = budget_alloc_over(t, use, bytes);

    assert_non_null(room);
    if (store_move(t, use, p, room))
        return true;
    budget_free(budget_store(t), room, bytes);
    return false;
}

static size_t move_everything(struct fixture *f)
{
    static struct stored *v[N];
    size_t n = 0, moved = 0;

    for (size_t i = 0; i < shard_count(f->store); i++)
        for (struct stored *s = f->store->shards[i].lru[0].newest; s != NULL; s = s->lru_next)
            v[n++] = s;
    for (size_t i = 0; i < n; i++)
        moved += move_to_other_room(f->t, SLAB_STORED, v[i], stored_bytes(v[i]));
    store_thread_poll(f->t);
    return moved;
}

static void the_lists_are_what_they_were_one_by_one(void **state)
{
    struct fixture f = set_up();
    uint64_t before;

    (void)state;
    fill(&f);
    before = atomic_load(&f.store->pools[0]);
    assert_int_equal(move_everything(&f), N / KEPT_EACH);
    assert_int_equal(atomic_load(&f.store->pools[0]), before);
    for (unsigned n = 0; n < N; n += KEPT_EACH)
        is_right(&f, n);
    lists_are_right(&f);
    tear_down(&f);
}

/* What is known of a list: who stands where, its hand, and who was used. */
struct order {
    uint64_t hash[N];
    uint32_t used[N], touched[N];
    size_t n, hand;
};

static void order_of(const struct lru *list, struct order *o)
{
    memset(o, 0, sizeof *o);
    for (struct stored *s = list->newest; s != NULL; s = s->lru_next) {
        if (s == list->hand)
            o->hand = o->n;
        o->hash[o->n] = s->hash;
        o->used[o->n] = atomic_load(&s->used);
        o->touched[o->n++] = atomic_load(&s->touched);
    }
    size_t n = o->n;

    for (struct stored *s = list->oldest; s != NULL; s = s->lru_prev)
        assert_int_equal(s->hash, o->hash[--n]);
    assert_int_equal(n, 0);
}

/* The order of eviction does not change, nor whom SIEVE's hand has passed. */
static void the_order_of_eviction_stays(void **state)
{
    struct fixture f = set_up();
    static struct order before[4], after;

    (void)state;
    fill(&f);
    for (unsigned n = 0; n < N; n += 3 * KEPT_EACH)
        stored_release(acquire(f.t, f.store, path_of(n), at_ms(5)));
    for (unsigned i = 0; i < 4; i++) {
        struct lru *list = &f.store->shards[i].lru[0];

        list->hand = list->oldest->lru_prev->lru_prev;
        order_of(list, &before[i]);
    }
    assert_int_equal(move_everything(&f), N / KEPT_EACH);
    for (unsigned i = 0; i < 4; i++) {
        order_of(&f.store->shards[i].lru[0], &after);
        assert_int_equal(after.hand, after.n - 3);
        assert_memory_equal(&after, &before[i], sizeof after);
    }
    tear_down(&f);
}

/* A purge on its way along a chain keeps its place in it. */
static void the_order_in_chains_of_tags_stays(void **state)
{
    struct fixture f = set_up();
    uint64_t before[N / KEPT_EACH];
    size_t n = 0, i = 0;

    (void)state;
    fill(&f);
    const struct tag_index *tags = &f.store->shards[0].tags;

    for (struct stored_tag *t = *tag_chain(tags, tag_of(N)); t != NULL; t = t->next)
        before[n++] = t->owner->hash;
    assert_true(n > 10);
    move_everything(&f);
    for (struct stored_tag *t = *tag_chain(tags, tag_of(N)); t != NULL; t = t->next)
        assert_int_equal(t->owner->hash, before[i++]);
    assert_int_equal(i, n);
    tear_down(&f);
}

static void who_is_held_stays(void **state)
{
    struct fixture f = set_up();

    (void)state;
    put(&f, 0);
    struct stored *s = acquire(f.t, f.store, path_of(0), T0), *found;

    assert_false(move_to_other_room(f.t, SLAB_STORED, s, stored_bytes(s)));
    found = acquire(f.t, f.store, path_of(0), T0);
    assert_ptr_equal(found, s);
    stored_release(found);
    stored_release(s);
    assert_true(move_to_other_room(f.t, SLAB_STORED, s, stored_bytes(s)));
    is_right(&f, 0);
    tear_down(&f);
}

/* A lookup that meets one which is being moved looks again under the lock, and leaves no trace. */
static void who_is_frozen_is_looked_for_again(void **state)
{
    struct fixture f = set_up();

    (void)state;
    put(&f, 0);
    struct stored *s = acquire(f.t, f.store, path_of(0), T0);

    assert_false(stored_freeze(s));
    stored_release(s);
    assert_true(stored_freeze(s));
    assert_ptr_equal(acquire(f.t, f.store, path_of(0), T0), s);
    assert_int_equal(atomic_load(&s->refs), 2 | REFS_FROZEN);
    stored_thaw(s);
    stored_release(s);
    assert_int_equal(atomic_load(&s->refs), 1);
    is_right(&f, 0);
    tear_down(&f);
}

/* ---- bodies in chunks ---- */

static void put_in_pieces(struct fixture *f, const char *path, size_t bytes)
{
    struct stored_options o = options_of(f->store, path);
    struct stored *s = stored_create(f->t, &o, T0);

    assert_non_null(s);
    for (size_t at = 0; at < bytes; at += 1000)
        assert_true(append_body(f->t, s, bytes - at < 1000 ? bytes - at : 1000, T0));
    stored_finish_body(s, BODY_COMPLETE);
    assert_true(store_put(f->t, s, T0));
    stored_release(s);
}

static struct stored *find(struct fixture *f, const char *path)
{
    struct stored *s = acquire(f->t, f->store, path, T0);

    assert_non_null(s);
    stored_release(s);
    return s;
}

static unsigned move_chunks(struct fixture *f, const char *path)
{
    struct chunk *c = stored_chunks(find(f, path))->first->next;
    unsigned n = 0;

    for (struct chunk *next; c != NULL; c = next, n++) {
        next = c->next;
        assert_true(move_to_other_room(f->t, SLAB_CHUNKS, c, sizeof *c + c->capacity));
    }
    return n;
}

static void chunks_are_moved_alone_and_with_their_response(void **state)
{
    static const size_t bytes[] = {1, 999, 5000, 20000, STORED_INLINE_MAX, 300000};
    struct fixture f = set_up();

    (void)state;
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
        put_in_pieces(&f, "/a", bytes[i]);
        struct stored *s = find(&f, "/a");
        size_t charged = stored_chunks(s)->charged;

        assert_true(move_chunks(&f, "/a") >= (bytes[i] > 1000 ? 2 : 1));
        assert_true(move_to_other_room(f.t, SLAB_STORED, s, stored_bytes(s)));
        assert_true(move_chunks(&f, "/a") >= 1);
        store_thread_poll(f.t);
        s = acquire(f.t, f.store, "/a", T0);
        assert_int_equal(stored_length(s), bytes[i]);
        assert_int_equal(stored_chunks(s)->charged, charged);
        assert_true(body_is_right(s));
        struct chunk *c = stored_chunks(s)->first->next;

        assert_false(move_to_other_room(f.t, SLAB_CHUNKS, c, sizeof *c + c->capacity)); /* held */
        stored_release(s);
    }
    tear_down(&f);
}

/* A body that another has taken over lies where it lay. */
static void a_body_that_was_taken_over_stays(void **state)
{
    struct fixture f = set_up();
    struct stored_options o = options_of(f.store, "/a");

    (void)state;
    put_in_pieces(&f, "/a", 100000);
    struct stored *old = acquire(f.t, f.store, "/a", T0), *s = stored_create_freshened(f.t, &o, old, T0);
    struct chunk *c = stored_chunks(old)->first->next;

    assert_true(store_put(f.t, s, T0));
    stored_release(old);
    stored_release(s);
    store_thread_poll(f.t);
    assert_false(move_to_other_room(f.t, SLAB_CHUNKS, c, sizeof *c + c->capacity));
    assert_true(move_to_other_room(f.t, SLAB_STORED, s, stored_bytes(s)));
    store_thread_poll(f.t);
    s = acquire(f.t, f.store, "/a", T0);
    assert_true(body_is_right(s));
    stored_release(s);
    tear_down(&f);
}

/* ---- forms ---- */

static struct stored *put_with_form(struct fixture *f, struct stored **form)
{
    struct stored_options o = options_of(f->store, "/a");

    o.forms = 1;
    assert_true(put_complete(f->t, o, BODY, T0));
    struct stored *s = acquire(f->t, f->store, "/a", T0);

    assert_true(form_claim(f->t, s, 2, T0));
    o = options_of(f->store, "");
    o.key = BYTES_LIT("");
    o.key_url_n = 0;
    *form = make_complete(f->t, o, 300, T0);
    assert_true(store_put_form(f->t, s, 2, *form));
    stored_release(s);
    return s;
}

static void forms_are_moved_alone_and_stay_with_their_parent(void **state)
{
    struct fixture f = set_up();
    struct stored *form, *s = put_with_form(&f, &form);
    size_t weight = stored_weight(s);

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        s = find(&f, "/a");
        assert_true(move_to_other_room(f.t, SLAB_STORED, s, stored_bytes(s)));
        store_thread_poll(f.t);
        s = acquire(f.t, f.store, "/a", T0);
        form = stored_form(s, 2);
        assert_false(move_to_other_room(f.t, SLAB_STORED, form, stored_bytes(form))); /* its parent is held */
        stored_retain(form);
        stored_release(s);
        assert_false(move_to_other_room(f.t, SLAB_STORED, form, stored_bytes(form))); /* it is held */
        stored_release(form);
        assert_true(move_to_other_room(f.t, SLAB_STORED, form, stored_bytes(form)));
        s = acquire(f.t, f.store, "/a", T0);
        assert_ptr_not_equal(stored_form(s, 2), form);
        assert_int_equal(stored_form_state(s, 2), FORM_MADE);
        assert_int_equal(stored_length(stored_form(s, 2)), 300);
        assert_true(body_is_right(stored_form(s, 2)) && body_is_right(s));
        assert_int_equal(stored_weight(s), weight);
        stored_release(s);
    }
    store_remove(f.t, find(&f, "/a"));
    assert_int_equal(atomic_load(&f.store->pools[0]), 0);
    tear_down(&f);
}

/* ---- with others at it ---- */

enum { READERS = 3, LOOKUPS = 40000, MOVED = 64, MOVED_BODY = 2500 };

static struct store *shared;
static _Atomic unsigned missed, wrong, reading;

static bool is_whole(struct store_thread *t, struct stored *s, unsigned random)
{
    bool right = stored_length(s) == MOVED_BODY && body_is_right(s);
    struct stored *form = stored_form(s, 1);

    if (form == NULL && random % 8 == 0 && form_claim(t, s, 1, T0)) {
        struct stored_options o = options_of(shared, "");

        o.key = BYTES_LIT("");
        o.key_url_n = 0;
        form = make_complete(t, o, 300, T0);
        if (form != NULL)
            store_put_form(t, s, 1, form);
        else
            form_give_up(s, 1, false);
        return right;
    }
    if (form != NULL)
        right = right && stored_length(form) == 300 && body_is_right(form);
    return right;
}

static const char *moved_path(unsigned n)
{
    static _Thread_local char path[32];

    snprintf(path, sizeof path, "/moved/%u", n % MOVED);
    return path;
}

/* Some with a length, some without. */
static void put_moved(struct store_thread *t, unsigned n)
{
    struct stored_options o = options_of(shared, moved_path(n));
    uint64_t tags[] = {tag_of(n % MOVED), tag_of(N)};
    struct stored *s;

    o.tags = tags;
    o.ntags = 2;
    o.forms = 1;
    o.content_length = n % 2 ? MOVED_BODY : -1;
    s = stored_create(t, &o, T0);
    if (s == NULL || !append_body(t, s, 500, T0) || !append_body(t, s, MOVED_BODY - 500, T0)) {
        missed++;
        return;
    }
    stored_finish_body(s, BODY_COMPLETE);
    (void)!store_put(t, s, T0);
    stored_release(s);
}

static void *look_up(void *data)
{
    struct store_thread *t = store_thread_create(shared);
    unsigned random = (unsigned)(uintptr_t)data;

    for (unsigned i = 0; i < LOOKUPS; i++) {
        random = random * 1103515245 + 12345;
        unsigned n = random / 65536;
        struct stored *s = acquire(t, shared, moved_path(n), T0);

        if (s == NULL)
            missed++;
        else if (!is_whole(t, s, n >> 6))
            wrong++;
        stored_release(s);
        if (n % 64 == 0)
            put_moved(t, n);
        store_thread_poll(t);
    }
    reading--;
    store_thread_destroy(t);
    return NULL;
}

/* Finds out about one, without a reference: what it is to move must not be held. Its memory stays while the section
 * lasts, and its chunks are moved by this thread alone. */
static bool move_one(struct store_thread *t, unsigned n)
{
    struct made_key m;
    void *p = NULL;
    size_t bytes = 0;
    enum slab_use use = n / MOVED % 3 == 0 ? SLAB_CHUNKS : SLAB_STORED;
    bool moved = false;

    make_key(&m, moved_path(n), NULL);
    const struct key_hash hash = store_hash(shared, m.key.whole);
    struct shard *shard = shard_of(shared, hash.lo);

    ck_epoch_begin(&t->record, NULL);
    pthread_mutex_lock(&shard->lock);
    struct stored *s = index_get(&shard->index, &(struct index_key){hash.lo, m.key.whole});
    struct stored *form = s != NULL && n / MOVED % 3 == 1 ? stored_form(s, 1) : NULL;

    if (s != NULL && use == SLAB_STORED) {
        p = form != NULL ? form : s;
        bytes = stored_bytes(p);
    } else if (s != NULL && s->chunked) {
        struct chunk *c = stored_chunks(s)->first->next;

        p = c;
        bytes = sizeof *c + c->capacity;
    }
    pthread_mutex_unlock(&shard->lock);
    if (p != NULL) {
        void *room = budget_alloc_over(t, use, bytes);

        moved = store_move(t, use, p, room);
        if (!moved)
            budget_free(shared, room, bytes);
    }
    TSAN_RELEASE(&shared->epoch);
    ck_epoch_end(&t->record, NULL);
    store_thread_poll(t);
    return moved;
}

/* A lookup finds what is there at all times, whole, while it is moved, replaced and given forms again and again. */
static void readers_notice_nothing(void **state)
{
    struct fixture f = set_up();
    pthread_t readers[READERS];
    unsigned moved = 0;

    (void)state;
    shared = f.store;
    for (unsigned n = 0; n < MOVED; n++)
        put_moved(f.t, n);
    reading = READERS;
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, look_up, (void *)(uintptr_t)i), 0);
    for (unsigned n = 0; reading > 0; n++)
        moved += move_one(f.t, n);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    print_message("moved %u\n", moved);
    assert_int_equal(missed, 0);
    assert_int_equal(wrong, 0);
    assert_true(moved > 100);
    store_thread_poll(f.t);
    struct tag_target all = {.hash = tag_of(N), .log_id = 1};

    assert_int_equal(store_purge_tag(f.t, &all, false), MOVED);
    for (unsigned i = 0; i < 4; i++)
        store_thread_poll(f.t);
    assert_int_equal(atomic_load(&shared->pools[0]), 0);
    tear_down(&f);
}

/* The same by compaction, where there are slabs. */
static void *look_up_kept(void *data)
{
    struct store_thread *t = store_thread_create(shared);
    unsigned random = (unsigned)(uintptr_t)data;

    for (unsigned i = 0; i < LOOKUPS; i++) {
        random = random * 1103515245 + 12345;
        struct stored *s = acquire(t, shared, path_of(random / 65536 % (N / KEPT_EACH) * KEPT_EACH), T0);

        if (s == NULL)
            missed++;
        else if (stored_length(s) != BODY || !body_is_right(s))
            wrong++;
        stored_release(s);
    }
    reading--;
    store_thread_destroy(t);
    return NULL;
}

static void readers_notice_no_compaction(void **state)
{
    struct fixture f = set_up();
    pthread_t readers[READERS];
    unsigned rounds = 0;

    (void)state;
    fill(&f);
    shared = f.store;
    reading = READERS;
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, look_up_kept, (void *)(uintptr_t)i), 0);
    for (unsigned round = 0; reading > 0; round++) {
        for (unsigned n = 1 + round % 9; n < N; n += KEPT_EACH)
            put(&f, n);
        for (unsigned n = 1 + round % 9; n < N; n += KEPT_EACH) {
            struct stored *s = acquire(f.t, f.store, path_of(n), T0);

            store_remove(f.t, s);
            stored_release(s);
        }
        store_thread_poll(f.t);
        rounds += compact(&f);
        slabs_retry(&f.store->slabs);
    }
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(missed, 0);
    assert_int_equal(wrong, 0);
    if (has_slabs(&f))
        assert_true(rounds > 0);
    store_thread_poll(f.t);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slabs_go_and_responses_stay),
        cmocka_unit_test(the_lists_are_what_they_were),
        cmocka_unit_test(the_lists_are_what_they_were_one_by_one),
        cmocka_unit_test(the_order_of_eviction_stays),
        cmocka_unit_test(the_order_in_chains_of_tags_stays),
        cmocka_unit_test(who_is_held_stays),
        cmocka_unit_test(who_is_frozen_is_looked_for_again),
        cmocka_unit_test(chunks_are_moved_alone_and_with_their_response),
        cmocka_unit_test(a_body_that_was_taken_over_stays),
        cmocka_unit_test(forms_are_moved_alone_and_stay_with_their_parent),
        cmocka_unit_test(readers_notice_nothing),
        cmocka_unit_test(readers_notice_no_compaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
