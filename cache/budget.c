#include "cache/budget.h"

#include "cache/alloc.h"
#include "cache/store_private.h"

struct store *budget_store(const struct store_thread *t)
{
    return t->store;
}

void budget_take(struct store *store, size_t bytes)
{
    atomic_fetch_add_explicit(&store->used, bytes, memory_order_relaxed);
}

void budget_return(struct store *store, size_t bytes)
{
    atomic_fetch_sub_explicit(&store->used, bytes, memory_order_relaxed);
}

void budget_take_lingering(struct store *store, size_t bytes)
{
    atomic_fetch_add_explicit(&store->lingering, bytes, memory_order_relaxed);
}

void budget_return_lingering(struct store *store, size_t bytes)
{
    if (bytes > 0)
        atomic_fetch_sub_explicit(&store->lingering, bytes, memory_order_relaxed);
}

size_t budget_cost(const struct store *store, const void *p, size_t bytes)
{
    if (slab_holds(&store->slabs, bytes))
        return slab_cost_of(&store->slabs, bytes);
    return pages_hold(&store->pages, bytes) ? pages_cost_of(bytes) : alloc_cost((void *)p);
}

void *budget_alloc_cell(struct store_thread *t, enum slab_use use, size_t bytes)
{
    return slab_holds(&t->store->slabs, bytes) ? slabs_take(&t->store->slabs, use, bytes) : NULL;
}

static void *alloc_large(struct store *store, size_t bytes)
{
    void *p = NULL;

    if (!pages_hold(&store->pages, bytes))
        p = alloc_bytes(bytes);
    else if (!alloc_is_refused(bytes))
        p = pages_alloc(&store->pages, bytes);
    if (p != NULL)
        budget_take(store, budget_cost(store, p, bytes));
    return p;
}

static void *alloc_cell_anyway(struct store *store, enum slab_use use, size_t bytes)
{
    size_t grown;
    void *p = slabs_alloc(&store->slabs, use, bytes, &grown);

    budget_take(store, grown);
    return p;
}

void *budget_alloc_over(struct store_thread *t, enum slab_use use, size_t bytes)
{
    if (!slab_holds(&t->store->slabs, bytes))
        return alloc_large(t->store, bytes);
    return alloc_is_refused(bytes) ? NULL : alloc_cell_anyway(t->store, use, bytes);
}

/* Until there is room for a slab, or a cell of another has become free: among evicted responses of all sizes the
 * latter comes first, mostly. */
static void *cell_alloc(struct store_thread *t, enum slab_use use, size_t bytes, struct mono_ms now)
{
    struct store *store = t->store;
    enum room room = ROOM_SOME;
    void *p = budget_alloc_cell(t, use, bytes);

    if (p != NULL || store->slabs.bytes > atomic_load_explicit(&store->limit, memory_order_relaxed))
        return p;
    /* Charged first, so that threads that make room at the same time know of each other. */
    budget_take(store, store->slabs.bytes);
    while (p == NULL && room == ROOM_SOME) {
        room = store_make_some_room(t, store->slabs.bytes, now);
        if (room != ROOM_MADE)
            p = budget_alloc_cell(t, use, bytes);
    }
    if (p == NULL && room == ROOM_MADE)
        p = alloc_cell_anyway(store, use, bytes);
    budget_return(store, store->slabs.bytes);
    return p;
}

void *budget_alloc(struct store_thread *t, enum slab_use use, size_t bytes, struct mono_ms now)
{
    size_t reserved = pages_hold(&t->store->pages, bytes) ? pages_cost_of(bytes) : alloc_cost_of(bytes);
    void *p;

    if (slab_holds(&t->store->slabs, bytes))
        return alloc_is_refused(bytes) ? NULL : cell_alloc(t, use, bytes, now);
    if (!store_charge(t, reserved, now))
        return NULL;
    p = alloc_large(t->store, bytes);
    store_discharge(t, reserved);
    return p;
}

void budget_free(struct store *store, void *p, size_t bytes)
{
    size_t cost = budget_cost(store, p, bytes);

    if (slab_holds(&store->slabs, bytes))
        cost = slabs_free(&store->slabs, p);
    else if (pages_hold(&store->pages, bytes))
        pages_free(&store->pages, p);
    else
        alloc_free(p);
    budget_return(store, cost);
}
