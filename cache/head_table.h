/*
 * The heads of a store (head.h), by their contents.
 *
 * Threads  Any thread. Locks are taken when responses are created and when they end, never at a use.
 */
#ifndef WEIR_CACHE_HEAD_TABLE_H
#define WEIR_CACHE_HEAD_TABLE_H

#include <pthread.h>

#include "cache/head.h"
#include "cache/thread.h"
#include "policies/clock.h"

struct store_thread;
struct stored_options;

enum { HEAD_LOCKS = 16, HEAD_CHAINS_MIN = 16 };

struct head_chains {
    pthread_mutex_t lock;
    struct head **v; /* size, a power of two */
    uint32_t size, count;
    struct head *first[HEAD_CHAINS_MIN]; /* v at the beginning */
};

struct head_table {
    struct head_chains parts[HEAD_LOCKS];
};

void head_table_init(struct head_table *table);
void head_table_fini(struct head_table *table); /* no response is left */

/* The one of such a response, with a reference for it. A new one is charged to the budget, making room. NULL: no room
 * or no memory. */
const struct head *head_acquire(struct store_thread *t, const struct stored_options *o, struct mono_ms now) MUST_USE;
void head_release(const struct head *head);

#endif
