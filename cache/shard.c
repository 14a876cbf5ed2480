#include <string.h>

#include "cache/alloc.h"
#include "cache/store_private.h"

/* Three indices grow together: the table's slots give the measure. The one by tag grows by itself. */
enum { SLOTS_MIN = 64, SLOTS_PER_CHAIN = 2 };

static size_t slots_usable(size_t slots)
{
    return slots * INDEX_LOAD_PERCENT / 100;
}

static void lists_free(struct shard_lists *l)
{
    alloc_free(l->expiry.entries);
    alloc_free(l->urls.chains);
}

static bool lists_alloc(struct shard_lists *l, size_t slots)
{
    size_t entries = slots_usable(slots), chains = slots / SLOTS_PER_CHAIN;

    *l = (struct shard_lists){.slots = slots};
    l->expiry.entries = alloc_bytes(entries * sizeof l->expiry.entries[0]);
    l->urls.chains = alloc_bytes(chains * sizeof l->urls.chains[0]);
    if (l->expiry.entries == NULL || l->urls.chains == NULL) {
        lists_free(l);
        return false;
    }
    l->expiry.capacity = (uint32_t)entries;
    l->urls.size = (uint32_t)chains;
    memset(l->urls.chains, 0, chains * sizeof l->urls.chains[0]);
    l->cost = alloc_cost(l->expiry.entries) + alloc_cost(l->urls.chains);
    return true;
}

bool shard_init(struct shard *shard)
{
    memset(shard, 0, sizeof *shard);
    if (!lists_alloc(&shard->lists, SLOTS_MIN))
        return false;
    if (!index_init(&shard->index, SLOTS_MIN)) {
        lists_free(&shard->lists);
        return false;
    }
    shard->lists.cost = 0;
    atomic_init(&shard->expiry_next_ms, EXPIRY_NEVER);
    pthread_mutex_init(&shard->lock, NULL);
    return true;
}

void shard_fini(struct shard *shard)
{
    index_fini(&shard->index);
    lists_free(&shard->lists);
    alloc_free(shard->tags.chains);
    pthread_mutex_destroy(&shard->lock);
}

void shard_empty(struct store *store, struct shard *shard)
{
    while (shard->lists.expiry.count > 0) {
        struct stored *s = shard->lists.expiry.entries[0].s;

        shard_take(store, shard, s);
        stored_release(s);
    }
}

static bool lists_are_full(struct shard *shard)
{
    return index_count(&shard->index) >= slots_usable(shard->lists.slots);
}

static size_t lists_growth_bytes(const struct shard *shard)
{
    size_t slots = shard->lists.slots * 2;

    return index_bytes(slots) + slots_usable(slots) * sizeof(struct expiry_entry) +
           slots / SLOTS_PER_CHAIN * sizeof(struct stored *);
}

static bool lists_grow(struct store_thread *t, struct shard *shard)
{
    struct shard_lists *old = &shard->lists, grown;

    if (!lists_alloc(&grown, old->slots * 2))
        return false;
    if (!index_grow(&shard->index, t, grown.slots)) {
        lists_free(&grown);
        return false;
    }
    expiry_move(&old->expiry, &grown.expiry);
    url_index_move(&old->urls, &grown.urls);
    budget_take(t->store, grown.cost);
    budget_return(t->store, old->cost);
    lists_free(old);
    *old = grown;
    return true;
}

static bool tags_grow(struct store_thread *t, struct shard *shard, uint32_t size)
{
    struct tag_index *old = &shard->tags, grown = {.size = size};

    grown.chains = alloc_bytes(size * sizeof grown.chains[0]);
    if (grown.chains == NULL)
        return false;
    memset(grown.chains, 0, size * sizeof grown.chains[0]);
    tag_index_move(old, &grown);
    budget_take(t->store, alloc_cost(grown.chains));
    if (old->chains != NULL)
        budget_return(t->store, alloc_cost(old->chains));
    alloc_free(old->chains);
    *old = grown;
    return true;
}

bool shard_is_full(struct shard *shard, const struct stored *s)
{
    return lists_are_full(shard) || tag_index_wanted(&shard->tags, s->ntags) != shard->tags.size;
}

size_t shard_growth_bytes(struct shard *shard, const struct stored *s)
{
    return lists_are_full(shard) ? lists_growth_bytes(shard)
                                 : tag_index_wanted(&shard->tags, s->ntags) * sizeof shard->tags.chains[0];
}

bool shard_grow(struct store_thread *t, struct shard *shard, const struct stored *s)
{
    return lists_are_full(shard) ? lists_grow(t, shard) : tags_grow(t, shard, tag_index_wanted(&shard->tags, s->ntags));
}

static size_t own_weight(const struct stored *s)
{
    size_t cost = budget_cost(s, stored_bytes(s));

    return s->chunked ? cost + atomic_load_explicit(&stored_chunks(s)->charged, memory_order_relaxed) : cost;
}

size_t stored_weight(const struct stored *s)
{
    struct stored *body_of = s->chunked ? stored_chunks(s)->body_of : NULL;

    return own_weight(s) + (body_of == NULL ? 0 : own_weight(body_of));
}

static void expiry_changed(struct shard *shard)
{
    atomic_store_explicit(&shard->expiry_next_ms, expiry_next(&shard->lists.expiry), memory_order_relaxed);
}

static void responses_changed(struct shard *shard, const struct stored *s, int change)
{
    uint64_t n = atomic_load_explicit(&shard->responses, memory_order_relaxed);

    if (s->head->kind == STORED_RESPONSE)
        atomic_store_explicit(&shard->responses, n + (uint64_t)(int64_t)change, memory_order_relaxed);
}

/* Not used since, until the next use. */
void shard_touch(struct shard *shard, struct stored *s, uint32_t used)
{
    lru_remove(&shard->lru[s->head->user_scope], s);
    lru_add(&shard->lru[s->head->user_scope], s);
    atomic_store_explicit(&s->touched, used + 1, memory_order_relaxed);
}

void shard_link(struct store *store, struct shard *shard, struct stored *s, struct mono_ms now)
{
    atomic_store_explicit(&s->touched, (uint32_t)now.ms, memory_order_relaxed);
    atomic_store_explicit(&s->used, (uint32_t)now.ms - 1, memory_order_relaxed);
    lru_add(&shard->lru[s->head->user_scope], s);
    url_index_add(&shard->lists.urls, s);
    tag_index_add(&shard->tags, s);
    expiry_add(&shard->lists.expiry, s);
    expiry_changed(shard);
    responses_changed(shard, s, 1);
    atomic_fetch_add_explicit(&store->pools[s->head->user_scope], stored_weight(s), memory_order_relaxed);
    s->place = PLACE_TABLE;
}

/* A body that a newer response has taken over is there to stay; one that was taken over itself goes, or stays, with its
 * owner. */
static size_t lingering_of(const struct stored *s)
{
    return s->chunked && atomic_load_explicit(&stored_chunks(s)->lent, memory_order_acquire) ? 0 : own_weight(s);
}

void shard_unlink(struct store *store, struct shard *shard, struct stored *s)
{
    size_t weight = stored_weight(s);

    s->place = PLACE_LEFT;
    lru_remove(&shard->lru[s->head->user_scope], s);
    url_index_remove(s);
    tag_index_remove(&shard->tags, s);
    expiry_remove(&shard->lists.expiry, s);
    expiry_changed(shard);
    responses_changed(shard, s, -1);
    atomic_fetch_sub_explicit(&store->pools[s->head->user_scope], weight, memory_order_relaxed);
    s->lingering = lingering_of(s);
    budget_take_lingering(store, s->lingering);
}

void shard_take(struct store *store, struct shard *shard, struct stored *s)
{
    index_remove(&shard->index, s);
    shard_unlink(store, shard, s);
}

void shard_drop(struct store *store, struct shard *shard, struct stored *s, struct batch *batch)
{
    batch->bytes += stored_weight(s);
    batch->v[batch->count++] = s;
    shard_take(store, shard, s);
}
