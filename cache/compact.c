/*
 * What is left in slabs that are nearly empty is moved into others, so that the slabs go: hot responses would keep them
 * for ever.
 *
 * Only what nobody but the table holds is moved. It is frozen first (stored_freeze): one compare-and-swap says that
 * nobody holds it, and that nobody will. A lookup that finds it at this moment takes no reference, but waits for the
 * shard's lock, under which it is thawed, or found where it is by then. So all of it may be changed, and nobody ever
 * holds one that has been moved. A response's old memory stays as it is until no lookup can be on its way through it;
 * chunks and forms are found through a response alone, and theirs is free at once.
 */
#include <string.h>

#include "cache/form.h"
#include "cache/store_private.h"
#include "cache/tsan.h"

/* What a cell says of itself: whose it is, by the address and the hash under which that is in the table. */
struct claim {
    struct stored *owner;
    uint64_t hash;
};

/* Whoever has the cell may be writing it, or have given it back: then it says anything, and the table has no such
 * address under such a hash. */
#if defined(__GNUC__)
__attribute__((no_sanitize("thread")))
#endif
static struct claim
claim_of(enum slab_use use, const void *cell)
{
    const struct stored *s = cell;
    const struct chunk *c = cell;

    return use == SLAB_CHUNKS ? (struct claim){c->owner, c->owner_hash} : (struct claim){s->form_of, s->hash};
}

static void moved_end(ck_epoch_entry_t *entry)
{
    struct stored *s = (struct stored *)(void *)((char *)entry - offsetof(struct stored, epoch_entry));
    struct store *store = s->store;

    TSAN_ACQUIRE(&store->epoch);
    budget_free(store, s, stored_bytes(s));
}

/* Under the shard's lock. */
static bool move_stored(struct shard *shard, struct stored *s, struct stored *to)
{
    if (!stored_freeze(s))
        return false;
    stored_move(s, to);
    shard_replace(shard, s, to);
    return true;
}

/* Under the shard's lock. Returns the bytes of what was moved; 0: none. */
static size_t move_part(enum slab_use use, struct stored *owner, void *cell, void *room)
{
    size_t bytes;

    if (!stored_freeze(owner))
        return 0;
    bytes = use == SLAB_CHUNKS ? stored_move_chunk(owner, cell, room) : form_move(owner, cell, room);
    stored_thaw(owner);
    return bytes;
}

static void retire_memory(struct store_thread *t, struct stored *s)
{
    s->store = t->store;
    ck_pr_fence_memory(); /* as in store_retire */
    ck_epoch_call(&t->record, (ck_epoch_entry_t *)(void *)s->epoch_entry, moved_end);
    t->retired++;
}

bool store_move(struct store_thread *t, enum slab_use use, void *cell, void *room)
{
    struct claim claim = claim_of(use, cell);
    struct shard *shard = shard_of(t->store, claim.hash);
    bool whole = false;
    size_t part = 0;

    pthread_mutex_lock(&shard->lock);
    if (use == SLAB_STORED && index_has(&shard->index, cell, claim.hash))
        whole = move_stored(shard, cell, room);
    else if (claim.owner != NULL && index_has(&shard->index, claim.owner, claim.hash))
        part = move_part(use, claim.owner, cell, room);
    pthread_mutex_unlock(&shard->lock);
    if (whole)
        retire_memory(t, cell);
    else if (part > 0)
        budget_free(t->store, cell, part);
    return whole || part > 0;
}

bool store_compact(struct store_thread *t)
{
    struct store *store = t->store;
    struct slab *slab = slabs_sparse(&store->slabs);
    void *room = NULL;
    unsigned moved = 0;

    if (slab == NULL)
        return false;
    for (unsigned i = 0; i < slab_cells(slab); i++) {
        if (room == NULL)
            room = slabs_take_beside(&store->slabs, slab);
        if (room == NULL)
            break;
        if (store_move(t, slab_use_of(slab), slab_cell(&store->slabs, slab, i), room)) {
            room = NULL;
            moved++;
        }
    }
    if (room != NULL)
        budget_return(store, slabs_free(&store->slabs, room));
    budget_return(store, slabs_put_back(&store->slabs, slab));
    return moved > 0;
}
