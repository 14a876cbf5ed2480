#include <string.h>

#include "cache/alloc.h"
#include "cache/form.h"
#include "cache/store_private.h"

/* Each of the indices grows by itself: by half, so that not much of it is empty. */
enum { SLOTS_MIN = 64, CHAINS_MIN = 16, RESPONSES_PER_CHAIN = 4 };

static size_t by_half(size_t n)
{
    return n + n / 2;
}

static struct stored **chains_alloc(size_t n)
{
    struct stored **chains = alloc_bytes(n * sizeof chains[0]);

    if (chains != NULL)
        memset(chains, 0, n * sizeof chains[0]);
    return chains;
}

static bool lists_init(struct shard_lists *l)
{
    void *memory = alloc_bytes(expiry_bytes(SLOTS_MIN));

    l->urls.chains = chains_alloc(CHAINS_MIN);
    if (memory == NULL || l->urls.chains == NULL) {
        alloc_free(memory);
        alloc_free(l->urls.chains);
        return false;
    }
    l->expiry = expiry_in(memory, SLOTS_MIN);
    l->urls.size = l->urls.capacity = CHAINS_MIN;
    return true;
}

static void lists_free(struct shard_lists *l)
{
    alloc_free(l->expiry.v);
    alloc_free(l->urls.chains);
}

bool shard_init(struct shard *shard)
{
    memset(shard, 0, sizeof *shard);
    if (!lists_init(&shard->lists))
        return false;
    if (!index_init(&shard->index, SLOTS_MIN)) {
        lists_free(&shard->lists);
        return false;
    }
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
        struct stored *s = shard->lists.expiry.v[0];

        shard_take(store, shard, s);
        stored_release(s);
    }
}

static bool index_is_full(const struct shard *shard)
{
    return shard->index.count >= index_usable(index_slots(&shard->index));
}

static bool urls_are_full(const struct shard *shard)
{
    return shard->index.count >= (size_t)shard->lists.urls.capacity * RESPONSES_PER_CHAIN;
}

/* *cost: what is charged by now; the first allocation is not. */
static void recharge(struct store *store, size_t *cost, size_t now)
{
    budget_take(store, now);
    budget_return(store, *cost);
    *cost = now;
}

static bool expiry_grow(struct store *store, struct shard_lists *l)
{
    struct expiry old = l->expiry;
    size_t capacity = by_half(old.capacity);
    void *memory = alloc_bytes(expiry_bytes(capacity));

    if (memory == NULL)
        return false;
    l->expiry = expiry_in(memory, capacity);
    expiry_move(&old, &l->expiry);
    recharge(store, &l->expiry_cost, alloc_cost(memory));
    alloc_free(old.v);
    return true;
}

static bool urls_grow(struct store *store, struct shard_lists *l)
{
    struct url_index old = l->urls;

    l->urls.capacity = (uint32_t)by_half(old.capacity);
    l->urls.chains = chains_alloc(l->urls.capacity);
    if (l->urls.chains == NULL) {
        l->urls = old;
        return false;
    }
    memcpy(l->urls.chains, old.chains, old.size * sizeof old.chains[0]);
    recharge(store, &l->urls_cost, alloc_cost(l->urls.chains));
    alloc_free(old.chains);
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

static bool tags_are_full(const struct shard *shard, const struct stored *s)
{
    return tag_index_wanted(&shard->tags, s->ntags) != shard->tags.size;
}

bool shard_is_full(struct shard *shard, const struct stored *s)
{
    return index_is_full(shard) || expiry_is_full(&shard->lists.expiry) || urls_are_full(shard) ||
           tags_are_full(shard, s);
}

size_t shard_growth_bytes(struct shard *shard, const struct stored *s)
{
    if (index_is_full(shard))
        return index_bytes(by_half(index_slots(&shard->index)));
    if (expiry_is_full(&shard->lists.expiry))
        return expiry_bytes(by_half(shard->lists.expiry.capacity));
    if (urls_are_full(shard))
        return by_half(shard->lists.urls.capacity) * sizeof shard->lists.urls.chains[0];
    return tag_index_wanted(&shard->tags, s->ntags) * sizeof shard->tags.chains[0];
}

bool shard_grow(struct store_thread *t, struct shard *shard, const struct stored *s)
{
    if (index_is_full(shard))
        return index_grow(&shard->index, t, by_half(index_slots(&shard->index)));
    if (expiry_is_full(&shard->lists.expiry))
        return expiry_grow(t->store, &shard->lists);
    if (urls_are_full(shard))
        return urls_grow(t->store, &shard->lists);
    return tags_grow(t, shard, tag_index_wanted(&shard->tags, s->ntags));
}

static size_t own_weight(const struct stored *s)
{
    size_t cost = budget_cost(s->head->store, s, stored_bytes(s));

    return s->chunked ? cost + atomic_load_explicit(&stored_chunks(s)->charged, memory_order_relaxed) : cost;
}

size_t stored_weight(const struct stored *s)
{
    struct stored *body_of = s->chunked ? stored_chunks(s)->body_of : NULL;

    return own_weight(s) + forms_sum(s, stored_weight) + (body_of == NULL ? 0 : own_weight(body_of));
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

void shard_unuse(struct stored *s, uint32_t used)
{
    atomic_store_explicit(&s->touched, used + 1, memory_order_relaxed);
}

/* Not used since, until the next use. */
void shard_touch(struct shard *shard, struct stored *s, uint32_t used)
{
    lru_remove(&shard->lru[s->head->user_scope], s);
    lru_add(&shard->lru[s->head->user_scope], s);
    shard_unuse(s, used);
}

void shard_link(struct store *store, struct shard *shard, struct stored *s, struct mono_ms now)
{
    atomic_store_explicit(&s->touched, (uint32_t)now.ms, memory_order_relaxed);
    atomic_store_explicit(&s->used, (uint32_t)now.ms - 1, memory_order_relaxed);
    lru_add(&shard->lru[s->head->user_scope], s);
    url_index_add(&shard->lists.urls, s);
    if (shard->index.count > (size_t)shard->lists.urls.size * RESPONSES_PER_CHAIN)
        url_index_split(&shard->lists.urls);
    tag_index_add(&shard->tags, s);
    expiry_add(&shard->lists.expiry, s);
    expiry_changed(shard);
    responses_changed(shard, s, 1);
    atomic_fetch_add_explicit(&store->pools[s->head->user_scope], stored_weight(s), memory_order_relaxed);
    s->place = PLACE_TABLE;
}

/* What will be free for anything, once it is: not a cell in a slab. */
static size_t cost_outside(const struct store *store, const void *p, size_t bytes)
{
    return slab_holds(&store->slabs, bytes) ? 0 : budget_cost(store, p, bytes);
}

static size_t chunks_outside(const struct stored *s)
{
    size_t sum = 0;

    for (const struct chunk *c = stored_chunks(s)->first; c != NULL; c = c->next)
        if (c != &stored_chunks(s)->start)
            sum += cost_outside(s->head->store, c, sizeof *c + c->capacity);
    return sum;
}

/* A body that a newer response has taken over is there to stay; one that was taken over itself goes, or stays, with its
 * owner. */
static size_t lingering_of(const struct stored *s)
{
    size_t forms = forms_sum(s, lingering_of), own = cost_outside(s->head->store, s, stored_bytes(s));

    if (!s->chunked || stored_chunks(s)->body_of != NULL)
        return forms + own;
    return atomic_load_explicit(&stored_chunks(s)->lent, memory_order_acquire) ? forms
                                                                               : forms + own + chunks_outside(s);
}

void shard_unlink(struct store *store, struct shard *shard, struct stored *s)
{
    size_t weight = stored_weight(s);

    s->place = PLACE_LEFT;
    lru_remove(&shard->lru[s->head->user_scope], s);
    url_index_remove(&shard->lists.urls, s);
    tag_index_remove(&shard->tags, s);
    expiry_remove(&shard->lists.expiry, s);
    expiry_changed(shard);
    responses_changed(shard, s, -1);
    atomic_fetch_sub_explicit(&store->pools[s->head->user_scope], weight, memory_order_relaxed);
    s->lingering = lingering_of(s);
    budget_take_lingering(store, s->lingering);
}

void shard_replace(struct shard *shard, struct stored *from, struct stored *to)
{
    lru_replace(&shard->lru[from->head->user_scope], from, to);
    url_index_replace(&shard->lists.urls, from, to);
    tag_index_replace(from, to);
    expiry_replace(&shard->lists.expiry, from, to);
    index_replace(&shard->index, from, to);
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
