/*
 * A shard's responses by when their usefulness ends: a heap of four children a node. Times are kept beside the
 * pointers, in steps of EXPIRY_STEP_MS, so that moving in it looks at no response but where two are of one step.
 *
 * Threads  Under the shard's lock.
 */
#ifndef WEIR_CACHE_EXPIRY_H
#define WEIR_CACHE_EXPIRY_H

#include "cache/stored.h"

enum { EXPIRY_STEP_MS = 256 };

struct expiry {
    struct stored **v;
    uint32_t *when; /* in the same allocation */
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
    return e->count == 0 ? EXPIRY_NEVER : expiry_of(e->v[0]);
}

static inline size_t expiry_bytes(size_t capacity)
{
    return capacity * (sizeof(struct stored *) + sizeof(uint32_t));
}

/* Empty, in the memory that is given: expiry_bytes of it. */
static inline struct expiry expiry_in(void *memory, size_t capacity)
{
    struct stored **v = memory;

    return (struct expiry){.v = v, .when = (uint32_t *)(void *)(v + capacity), .capacity = (uint32_t)capacity};
}

void expiry_add(struct expiry *e, struct stored *s); /* not full */
void expiry_remove(struct expiry *e, struct stored *s);
void expiry_replace(struct expiry *e, const struct stored *from, struct stored *to); /* to: useful as long */
void expiry_move(const struct expiry *from, struct expiry *to);                      /* to: empty, not smaller */

#endif
