#include "cache/index.h"

#include <assert.h>
#include <stddef.h>

#include "cache/alloc.h"
#include "cache/store_private.h"
#include "cache/tsan.h"

enum { TAG_SHIFT = 48, BUCKET = 8, LINE = 64 };

/* A pointer, and above it the hash's upper bits; 0: none. */
typedef _Atomic uint64_t word;

struct index_map {
    ck_epoch_entry_t entry;
    struct store *store; /* NULL: not charged */
    size_t cost;
    uint32_t buckets;
    _Atomic uint32_t moves; /* counted before the old place of one that has been moved is written over */
    word words[] __attribute__((aligned(LINE)));
};

static size_t map_bytes(size_t buckets)
{
    return sizeof(struct index_map) + buckets * BUCKET * sizeof(word);
}

static size_t buckets_for(size_t slots)
{
    return (slots + BUCKET - 1) / BUCKET;
}

static struct index_map *map_create(struct store *store, size_t buckets)
{
    struct index_map *m = alloc_aligned(LINE, map_bytes(buckets));

    if (m == NULL)
        return NULL;
    memset(m, 0, map_bytes(buckets));
    m->store = store;
    m->cost = alloc_cost(m);
    m->buckets = (uint32_t)buckets;
    if (store != NULL)
        budget_take(store, m->cost);
    return m;
}

static void map_free(struct index_map *m)
{
    struct store *store = m->store;
    size_t cost = m->cost;

    alloc_free(m);
    if (store != NULL)
        budget_return(store, cost);
}

static void map_free_later(ck_epoch_entry_t *entry)
{
    struct index_map *m = (struct index_map *)(void *)((char *)entry - offsetof(struct index_map, entry));

    if (m->store != NULL)
        TSAN_ACQUIRE(&m->store->epoch);
    map_free(m);
}

static uint64_t word_for(const struct stored *s, uint64_t hash)
{
    return (uintptr_t)s | hash >> TAG_SHIFT << TAG_SHIFT;
}

static uint64_t word_of(const struct stored *s)
{
    assert((uintptr_t)s >> TAG_SHIFT == 0);
    return word_for(s, s->hash);
}

static struct stored *stored_of(uint64_t w)
{
    return (struct stored *)(uintptr_t)(w & (((uint64_t)1 << TAG_SHIFT) - 1));
}

static uint64_t load(const word *w)
{
    return atomic_load_explicit((word *)w, memory_order_acquire);
}

/* The hash's lower half alone: of the upper, the shard and the tag are made. */
static uint32_t bucket_of(const struct index_map *m, uint32_t hash)
{
    return (uint32_t)((uint64_t)hash * m->buckets >> 32);
}

static word *first_bucket(struct index_map *m, uint64_t hash)
{
    return m->words + (size_t)bucket_of(m, (uint32_t)hash) * BUCKET;
}

/* Never the first: who has but one finds it full too often. */
static word *second_bucket(struct index_map *m, uint64_t hash)
{
    uint32_t second = bucket_of(m, (uint32_t)hash * 0x9e3779b1u);

    if (second == bucket_of(m, (uint32_t)hash))
        second = second + 1 < m->buckets ? second + 1 : 0;
    return m->words + (size_t)second * BUCKET;
}

static word *find_in(word *b, const struct index_key *key, struct stored **found)
{
    uint64_t tag = key->hash >> TAG_SHIFT;

#pragma GCC unroll 8
    for (unsigned i = 0; i < BUCKET; i++) {
        uint64_t w = load(&b[i]);

        if (__builtin_expect(w >> TAG_SHIFT != tag || w == 0, 1))
            continue;
        struct stored *s = stored_of(w);

        /* Most likely it is the one: its key's text, which follows the struct, and its counters come along with the
         * hash. */
        __builtin_prefetch(s + 1);
        __builtin_prefetch(&s->refs, 1);
        if (s->hash == key->hash && bytes_eq(stored_key(s), key->key)) {
            *found = s;
            return &b[i];
        }
    }
    return NULL;
}

static word *find(struct index_map *m, const struct index_key *key, struct stored **found)
{
    word *at = find_in(first_bucket(m, key->hash), key, found);

    return at != NULL ? at : find_in(second_bucket(m, key->hash), key, found);
}

struct stored *index_get(struct index *x, const struct index_key *key)
{
    struct index_map *m = atomic_load_explicit(&x->map, memory_order_acquire);
    struct stored *s;
    uint32_t moves;

    do {
        moves = atomic_load_explicit(&m->moves, memory_order_acquire);
        if (find(m, key, &s) != NULL)
            return s;
        /* it may have been moved from the second to the first in between */
    } while (atomic_load_explicit(&m->moves, memory_order_acquire) != moves);
    return NULL;
}

static word *empty_in(word *b, unsigned *n)
{
    word *empty = NULL;

    *n = 0;
    for (unsigned i = 0; i < BUCKET; i++)
        if (load(&b[i]) == 0) {
            empty = &b[i];
            ++*n;
        }
    return empty;
}

/* Makes a place in a full bucket, where one in it has room in its other. */
static word *empty_by_moving(struct index_map *m, word *b)
{
    unsigned n;

    for (unsigned i = 0; i < BUCKET; i++) {
        uint64_t w = load(&b[i]), hash = stored_of(w)->hash;
        word *first = first_bucket(m, hash), *to = empty_in(first != b ? first : second_bucket(m, hash), &n);

        if (to == NULL)
            continue;
        atomic_store_explicit(to, w, memory_order_release);
        atomic_fetch_add_explicit(&m->moves, 1, memory_order_acq_rel);
        return &b[i];
    }
    return NULL;
}

static bool add(struct index_map *m, uint64_t w)
{
    uint64_t hash = stored_of(w)->hash;
    word *first = first_bucket(m, hash), *second = second_bucket(m, hash), *to;
    unsigned first_n, second_n;
    word *first_empty = empty_in(first, &first_n), *second_empty = empty_in(second, &second_n);

    to = first_n >= second_n ? first_empty : second_empty;
    if (to == NULL)
        to = empty_by_moving(m, first);
    if (to == NULL)
        to = empty_by_moving(m, second);
    if (to != NULL)
        atomic_store_explicit(to, w, memory_order_release);
    return to != NULL;
}

/* Under the lock. */
static struct index_map *map_of(const struct index *x)
{
    return atomic_load_explicit(&((struct index *)x)->map, memory_order_relaxed);
}

bool index_init(struct index *x, size_t slots)
{
    struct index_map *m = map_create(NULL, buckets_for(slots));

    x->count = 0;
    atomic_init(&x->map, m);
    return m != NULL;
}

void index_fini(struct index *x)
{
    map_free(map_of(x));
}

size_t index_slots(const struct index *x)
{
    return (size_t)map_of(x)->buckets * BUCKET;
}

bool index_set(struct index *x, struct stored *s, struct stored **previous)
{
    const struct index_key key = {s->hash, stored_key(s)};
    word *at = find(map_of(x), &key, previous);

    if (at != NULL) {
        atomic_store_explicit(at, word_of(s), memory_order_release);
        return true;
    }
    *previous = NULL;
    if (!add(map_of(x), word_of(s)))
        return false;
    x->count++;
    return true;
}

void index_remove(struct index *x, struct stored *s)
{
    const struct index_key key = {s->hash, stored_key(s)};
    struct stored *found = NULL;
    word *at = find(map_of(x), &key, &found);

    assert(found == s);
    atomic_store_explicit(at, 0, memory_order_release);
    x->count--;
}

static word *place_in(word *b, uint64_t w)
{
    for (unsigned i = 0; i < BUCKET; i++)
        if (load(&b[i]) == w)
            return &b[i];
    return NULL;
}

static word *place_of(struct index_map *m, const struct stored *s, uint64_t hash)
{
    uint64_t w = word_for(s, hash);
    word *at = place_in(first_bucket(m, hash), w);

    return at != NULL ? at : place_in(second_bucket(m, hash), w);
}

bool index_has(struct index *x, const struct stored *s, uint64_t hash)
{
    return (uintptr_t)s >> TAG_SHIFT == 0 && place_of(map_of(x), s, hash) != NULL;
}

void index_replace(struct index *x, const struct stored *from, struct stored *to)
{
    word *at = place_of(map_of(x), from, from->hash);

    assert(at != NULL);
    atomic_store_explicit(at, word_of(to), memory_order_release);
}

static bool add_all(struct index_map *to, struct index_map *from)
{
    for (size_t i = 0; i < (size_t)from->buckets * BUCKET; i++) {
        uint64_t w = load(&from->words[i]);

        if (w != 0 && !add(to, w))
            return false;
    }
    return true;
}

/* With all of `from`; where one finds no place, a larger one. */
static struct index_map *map_grow(struct index_map *from, struct store *store, size_t slots)
{
    enum { TRIES = 8 };

    for (unsigned i = 0; i < TRIES; i++, slots += slots / 8) {
        struct index_map *grown = map_create(store, buckets_for(slots));

        if (grown == NULL || add_all(grown, from))
            return grown;
        map_free(grown);
    }
    return NULL;
}

bool index_grow(struct index *x, struct store_thread *t, size_t slots)
{
    struct index_map *old = map_of(x), *grown = map_grow(old, t->store, slots);

    if (grown == NULL)
        return false;
    atomic_store_explicit(&x->map, grown, memory_order_release);
    ck_pr_fence_memory(); /* as in store_retire */
    ck_epoch_call(&t->record, &old->entry, map_free_later);
    return true;
}

size_t index_bytes(size_t slots)
{
    return map_bytes(buckets_for(slots));
}
