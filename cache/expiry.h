/*
 * A shard's responses by when their usefulness ends: a heap of four children a node, times kept beside the pointers so
 * that moving in it looks at no response.
 *
 * Threads  Under the shard's lock.
 */
#ifndef WEIR_CACHE_EXPIRY_H
#define WEIR_CACHE_EXPIRY_H

#include "cache/stored.h"

struct expiry_entry {
    int64_t when_ms;
    struct stored *s;
};

struct expiry {
    struct expiry_entry *entries;
    uint32_t count, capacity;
};

#define EXPIRY_NEVER INT64_MAX

int64_t expiry_of(const struct stored *s); /* on the monotonic clock, milliseconds */

static inline bool expiry_is_full(const struct expiry *e)
{
    return e->count == e->capacity;
}

/* Of the earliest; EXPIRY_NEVER when there is none. */
static inline int64_t expiry_next(const struct expiry *e)
{
    return e->count == 0 ? EXPIRY_NEVER : e->entries[0].when_ms;
}

void expiry_add(struct expiry *e, struct stored *s); /* not full */
void expiry_remove(struct expiry *e, struct stored *s);
void expiry_move(const struct expiry *from, struct expiry *to); /* to: empty, not smaller */

#endif
