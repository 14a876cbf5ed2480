/*
 * The store's budget of bytes, as cache/ itself uses it (others: store_charge and store_discharge).
 *
 * Threads  Any thread.
 */
#ifndef WEIR_CACHE_BUDGET_H
#define WEIR_CACHE_BUDGET_H

#include <stddef.h>

#include "cache/slab.h"
#include "cache/thread.h"
#include "policies/clock.h"

struct store;
struct store_thread;

struct store *budget_store(const struct store_thread *t);

/* Makes room, allocates and charges what it really takes: of a cell that is there nothing more, for slabs are charged
 * as a whole. NULL: no room or no memory. */
void *budget_alloc(struct store_thread *t, enum slab_use use, size_t bytes, struct mono_ms now) MUST_USE;

/* Allocates and charges whether there is room or not. NULL: no memory. */
void *budget_alloc_over(struct store_thread *t, enum slab_use use, size_t bytes) MUST_USE;

/* A cell of a slab that is there, or NULL. */
void *budget_alloc_cell(struct store_thread *t, enum slab_use use, size_t bytes) MUST_USE;

/* Of what was allocated so; bytes: as it was then. */
void budget_free(struct store *store, void *p, size_t bytes);

/* Its share of what is charged. */
size_t budget_cost(const struct store *store, const void *p, size_t bytes);

/* Charges without making room, for what cannot wait; the next who wants room makes it. */
void budget_take(struct store *store, size_t bytes);
void budget_return(struct store *store, size_t bytes);

/* Lingering bytes: charged for responses that have left the table and that somebody still holds. */
void budget_take_lingering(struct store *store, size_t bytes);
void budget_return_lingering(struct store *store, size_t bytes);

#endif
