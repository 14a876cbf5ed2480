/*
 * Memory for what is large and comes in all sizes: runs of pages, in regions of PAGES_REGION bytes. Runs that lie side
 * by side and are free become one, and what is free goes back to the system but for `keep` bytes: so what the process
 * takes is what is in use and little more, whatever sizes come and go. A general allocator keeps some of each size.
 * Slabs, which have to be aligned, have regions of their own, where all runs are multiples of a slab.
 *
 * Errors   NULL: out of memory.
 * Threads  Any thread.
 */
#ifndef WEIR_CACHE_PAGES_H
#define WEIR_CACHE_PAGES_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/thread.h"

enum {
    PAGE_BYTES = 4096,
    PAGES_REGION = 16 * 1024 * 1024,
    PAGES_MAX = 256, /* of one run */
    PAGES_BINS = PAGES_MAX + 1,
    PAGES_STORE_MIN = 4 * 1024 * 1024, /* a smaller store, which only tests have, would be all slabs just begun */
    PAGES_GIVEN_BACK = 32,             /* runs that are given back in one go */
};

struct region;

struct pages {
    pthread_mutex_t lock;
    struct region **regions;
    uint32_t nregions, capacity;
    uint32_t bins[PAGES_BINS];            /* free runs by their length, the last: longer ones too; PAGE_NONE */
    uint64_t any[(PAGES_BINS + 63) / 64]; /* bins with a run in them */
    uint32_t unit;                        /* in pages */
    size_t max;                           /* bytes of one run; 0: what is smaller than PAGES_STORE_MIN has none */
    size_t idle, keep;                    /* pages that are free and not given back; so many at most */
    uint32_t hand;                        /* where giving back goes on: a page */
};

/* All runs are multiples of a unit, a power of two, and aligned to it. */
void pages_init(struct pages *pages, size_t unit_bytes, size_t keep_bytes);
void pages_fini(struct pages *pages);                    /* asserts: all is free */
void pages_keep(struct pages *pages, size_t keep_bytes); /* from now on, and of what is free already */

void *pages_alloc(struct pages *pages, size_t bytes) MUST_USE; /* pages_hold them */
void pages_free(struct pages *pages, void *p);

static inline size_t pages_cost_of(size_t bytes)
{
    return (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
}

/* AddressSanitizer is to see each allocation by itself: there nothing is. */
static inline bool pages_hold(const struct pages *pages, size_t bytes)
{
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
    return pages == NULL && bytes == 0;
#endif
#elif defined(__SANITIZE_ADDRESS__)
    return pages == NULL && bytes == 0;
#endif
    return bytes <= pages->max;
}

#endif
