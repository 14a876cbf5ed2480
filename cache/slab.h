/*
 * Memory for what is small and comes in great numbers: slabs of SLAB_BYTES, each cut into cells of one size. The sizes
 * are those of which whole numbers fill a slab, a few percent apart, so that less is lost by rounding than in a general
 * allocator (which has steps of 12 to 25 %); a slab goes back as soon as its last cell is free, but for a few that are
 * kept for whatever comes next.
 *
 * Errors   NULL: out of memory.
 * Threads  Any thread.
 */
#ifndef WEIR_CACHE_SLAB_H
#define WEIR_CACHE_SLAB_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/thread.h"

enum {
    SLAB_BYTES = 32 * 1024,
    SLAB_HEAD = 64,
    SLAB_CELLS_MIN = 8,
    SLAB_CELLS_MAX = 256,
    SLAB_SPARES = 4,                                                      /* empty ones that are kept */
    SLAB_BYTES_MAX = (SLAB_BYTES - SLAB_HEAD) / SLAB_CELLS_MIN / 16 * 16, /* of one allocation */
};

struct slab;

struct slabs {
    pthread_mutex_t lock;
    struct slab *partial[SLAB_CELLS_MAX + 1]; /* with a free cell; by how many cells a slab of theirs has */
    struct slab *spares[SLAB_SPARES];
    unsigned nspares;
};

void slabs_init(struct slabs *slabs);
void slabs_fini(struct slabs *slabs); /* asserts: all is free */

void *slabs_alloc(struct slabs *slabs, size_t bytes) MUST_USE; /* at most SLAB_BYTES_MAX; aligned to 16 */
void slabs_free(struct slabs *slabs, void *p);

/* Is that small enough? AddressSanitizer is to see each allocation by itself: there nothing is. */
static inline bool slab_holds(size_t bytes)
{
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
    return bytes == 0;
#endif
#elif defined(__SANITIZE_ADDRESS__)
    return bytes == 0;
#endif
    return bytes <= SLAB_BYTES_MAX;
}

/* A cell's part of its slab. */
size_t slab_cost_of(size_t bytes);

#endif
