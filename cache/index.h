/*
 * A shard's table from key to response: a ck_rhs that many read without a lock while one writes.
 *
 * The table holds words that carry sixteen bits of the hash above the pointer: a lookup looks at no response but
 * (nearly always) the one that it finds. (libck's own packing is off in Debian's build.)
 *
 * Threads  index_get: any thread in an epoch section, or under the shard's lock. All else under the shard's lock.
 */
#ifndef WEIR_CACHE_INDEX_H
#define WEIR_CACHE_INDEX_H

#include <ck_rhs.h>

#include "cache/stored.h"

/* What a lookup compares. */
struct index_key {
    uint64_t hash;
    struct bytes key; /* whole */
};

struct index {
    ck_rhs_t table;
};

bool index_init(struct index *x, size_t capacity) MUST_USE; /* not charged to the budget */
void index_fini(struct index *x);

struct stored *index_get(struct index *x, const struct index_key *key);
/* False: out of memory. *previous: what it took the place of, or NULL. */
bool index_set(struct index *x, struct store_thread *t, struct stored *s, struct stored **previous) MUST_USE;
void index_remove(struct index *x, struct stored *s); /* it is there */

static inline size_t index_count(struct index *x)
{
    return ck_rhs_count(&x->table);
}

/* To at least that many slots, a power of two. Charged to the budget; the old map goes through the thread's epoch.
 * False: out of memory. */
bool index_grow(struct index *x, struct store_thread *t, size_t capacity) MUST_USE;
size_t index_bytes(size_t capacity); /* of a map, about */

#endif
