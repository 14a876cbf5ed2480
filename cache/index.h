/*
 * A shard's table from key to response, which many read without a lock while one writes.
 *
 * Buckets of a cache line each; a response is in one of the two that its hash gives. Words carry sixteen bits of the
 * hash above the pointer: a lookup looks at no response but (nearly always) the one that it finds. With two buckets to
 * choose from four of five slots can be taken, of eight bytes each.
 *
 * Threads  index_get: any thread in an epoch section, or under the shard's lock. All else under the shard's lock.
 */
#ifndef WEIR_CACHE_INDEX_H
#define WEIR_CACHE_INDEX_H

#include "cache/stored.h"

struct index_map;

/* What a lookup compares. */
struct index_key {
    uint64_t hash;
    struct bytes key; /* whole */
};

struct index {
    struct index_map *_Atomic map;
    /* not in the line that lookups read: */
    size_t count __attribute__((aligned(128)));
};

bool index_init(struct index *x, size_t slots) MUST_USE; /* not charged to the budget */
void index_fini(struct index *x);

struct stored *index_get(struct index *x, const struct index_key *key);
/* False: there is no place for it, for (very nearly) all are taken. *previous: what it took the place of, or NULL. */
bool index_set(struct index *x, struct stored *s, struct stored **previous) MUST_USE;
void index_remove(struct index *x, struct stored *s); /* it is there */

/* Is that very object in it? Nothing of s is looked at: it may be anything. */
bool index_has(struct index *x, const struct stored *s, uint64_t hash);
void index_replace(struct index *x, const struct stored *from, struct stored *to); /* of the same key; from is there */

/* As many as find their places with a probability that is as good as one. */
static inline size_t index_usable(size_t slots)
{
    return slots * 80 / 100;
}

size_t index_slots(const struct index *x);

/* To at least that many slots. Charged to the budget; the old map goes through the thread's epoch. False: out of
 * memory. */
bool index_grow(struct index *x, struct store_thread *t, size_t slots) MUST_USE;
size_t index_bytes(size_t slots); /* of a map, about */

#endif
