/*
 * Memory for what is small and comes in great numbers: slabs, each cut into cells of one size. The sizes are those of
 * which whole numbers fill a slab, a few percent apart, in large stores less, so that less is lost by rounding than in
 * a general allocator (which has steps of 12 to 25 %). A slab goes back as soon as its last cell is free, but for a few
 * that are kept for whatever comes next. Cells are taken from the fullest slabs, so that the others have time to become
 * empty; and the emptiest can be given to whoever moves what is left in them (slabs_sparse).
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

#include "cache/pages.h"
#include "cache/thread.h"

enum {
    SLAB_BYTES_MIN = 32 * 1024,
    SLAB_BYTES_MAX = 256 * 1024,
    SLAB_SHARE = 2048, /* the part of a store that one slab is of, so that small ones have slabs of many sizes */
    SLAB_HEAD = 64,
    SLAB_CELLS_MIN = 4,
    SLAB_CELLS_MAX = 2048,
    SLAB_STEPS_MIN = 32, /* the more slabs, the finer the sizes */
    SLAB_STEPS_MAX = 128,
    SLAB_CLASSES = SLAB_STEPS_MAX + 4 * (SLAB_STEPS_MAX / 2) + 1,
    SLAB_FILLS = 4,    /* how full: by quarters */
    SLAB_SPARES = 64,  /* the part of a store that empty ones may be which are kept */
    SLAB_WASTE = 32,   /* the part of the cells of a size that may be free in slabs that others are in */
    SLAB_RETRIES = 64, /* slabs that are given out again at once, of one size */
};

/* What lies in one slab. Who finds a cell knows by this what to take its bytes for. */
enum slab_use {
    SLAB_STORED, /* struct stored */
    SLAB_CHUNKS, /* struct chunk */
    SLAB_FIXED,  /* what cannot be moved elsewhere */
    SLAB_USES,
};

struct slab;

/* The slabs of one use and size. */
struct slab_class {
    struct slab *lists[SLAB_FILLS + 1]; /* with a free cell; the last: those that were not to be emptied */
    uint32_t cells;                     /* of a slab; 0: there was none yet */
    uint32_t slabs, used;               /* used: cells */
    bool wasteful;                      /* more are free than should be */
};

struct slabs {
    uint32_t bytes; /* of a slab; a power of two */
    uint32_t steps; /* likewise: so many cells are counted one by one; of more, half as many numbers each doubling */
    struct pages pages; /* where they come from */
    pthread_mutex_t lock;
    struct slab_class classes[SLAB_USES][SLAB_CLASSES];
    unsigned nwasteful; /* of those that can be moved */
};

void slabs_init(struct slabs *slabs, size_t store_bytes);
void slabs_fini(struct slabs *slabs);                       /* asserts: all is free */
void slabs_resize(struct slabs *slabs, size_t store_bytes); /* what is kept; the sizes stay */

/* A cell of a slab that is there; NULL: there is none. bytes: slab_holds them; aligned to 16. */
void *slabs_take(struct slabs *slabs, enum slab_use use, size_t bytes) MUST_USE;
/* The same; where there is none of a new slab. *grown: by so many bytes. */
void *slabs_alloc(struct slabs *slabs, enum slab_use use, size_t bytes, size_t *grown) MUST_USE;
/* Returns by how many bytes what slabs take has become less. */
size_t slabs_free(struct slabs *slabs, void *p);

/* Bytes of the largest cell; 0: the store has no slabs (PAGES_STORE_MIN). */
static inline size_t slab_cell_max(const struct slabs *slabs)
{
    return slabs->bytes == 0 ? 0 : (slabs->bytes - SLAB_HEAD) / SLAB_CELLS_MIN / 16 * 16;
}

/* Is that small enough? AddressSanitizer is to see each allocation by itself: there nothing is. */
static inline bool slab_holds(const struct slabs *slabs, size_t bytes)
{
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
    return bytes == 0;
#endif
#elif defined(__SANITIZE_ADDRESS__)
    return bytes == 0;
#endif
    return bytes <= slab_cell_max(slabs);
}

/* A cell's part of its slab. */
size_t slab_cost_of(const struct slabs *slabs, size_t bytes);

/* Of what can be moved, the emptiest slab of the size of which the most is free, if all that is in it finds place in
 * others and much would be won; else NULL. No cell of it is given out, and it stays, until it is put back. */
struct slab *slabs_sparse(struct slabs *slabs);
enum slab_use slab_use_of(const struct slab *slab);
/* A cell as large, in another; NULL: there is none. */
void *slabs_take_beside(struct slabs *slabs, const struct slab *slab) MUST_USE;
/* How many of its cells there are, given out or not. */
unsigned slab_cells(const struct slab *slab);
void *slab_cell(const struct slabs *slabs, struct slab *slab, unsigned i);
/* It is not given out as sparse again before one of its cells is free, or slabs_retry. Returns as slabs_free does. */
size_t slabs_put_back(struct slabs *slabs, struct slab *slab);
/* Some of those that could not be emptied are given out again: what was held then may not be any more. */
void slabs_retry(struct slabs *slabs);

#endif
