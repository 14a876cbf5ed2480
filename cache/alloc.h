/*
 * The one seam through which cache/ gets memory, so that tests can make it fail.
 *
 * Errors   NULL: out of memory.
 * Threads  Any thread. alloc_set_fault: while nobody else allocates.
 */
#ifndef WEIR_CACHE_ALLOC_H
#define WEIR_CACHE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

#include "cache/thread.h"

/* Before there are threads. Whoever evicts frees what other threads allocated: glibc's arenas, one for each thread,
 * would each keep the holes of its worst time (measured: half as much again as is in use). tcmalloc keeps what a thread
 * frees in a cache of that thread, 32 MiB in all unless told less: 2 GB of bodies of 1 to 200 KiB through a store of
 * 64 MiB by two threads left 94 MiB with that, 88 MiB with one MiB a thread. */
void alloc_prepare(unsigned threads);

/* Gives memory that is free, beyond `keep` bytes of it, back to the system: tcmalloc alone takes its time, and what was
 * freed as objects of one size it may not be able to use for those of another. */
void alloc_trim(size_t keep);

void *alloc_bytes(size_t bytes) MUST_USE;
void *alloc_aligned(size_t alignment, size_t bytes) MUST_USE; /* bytes: a multiple of the alignment */
void alloc_free(void *p);                                     /* NULL is allowed */

/* What the allocation really costs: the allocator's rounding and its own header included. */
size_t alloc_cost(void *p);
/* What it will cost at least, for making room beforehand. */
size_t alloc_cost_of(size_t bytes);

/* Asked by those that hand memory out in pieces. */
bool alloc_is_refused(size_t bytes);

/* `refuse` is asked before each allocation; true makes it fail. NULL: none (the default). */
void alloc_set_fault(bool (*refuse)(size_t bytes));

#endif
