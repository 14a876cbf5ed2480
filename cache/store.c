#include "cache/store.h"

#include <string.h>

#include "cache/alloc.h"
#include "cache/store_private.h"
#include "cache/tsan.h"

enum {
    SHARDS_PER_THREAD = 8,
    SHARDS_MIN = 16,
    SHARDS_MAX = 256,
    SHARD_BYTES = 16 * 1024 * 1024, /* large budgets get more shards: growing a shard's index stops its writers */
};

_Static_assert(sizeof(((struct stored *)0)->epoch_entry) >= sizeof(ck_epoch_entry_t), "room for the epoch's entry");

/* ---- life ---- */

static size_t shards_wanted(const struct store_options *o)
{
    size_t wanted = o->shards, n = 1;

    if (wanted == 0) {
        wanted = (size_t)o->threads * SHARDS_PER_THREAD;
        if (wanted < o->bytes_max / SHARD_BYTES)
            wanted = o->bytes_max / SHARD_BYTES;
        if (wanted < SHARDS_MIN)
            wanted = SHARDS_MIN;
        if (wanted > SHARDS_MAX)
            wanted = SHARDS_MAX;
    }
    while (n < wanted)
        n *= 2;
    return n;
}

static bool shards_create(struct store *store, size_t n)
{
    store->shards = alloc_aligned(CACHE_LINE, n * sizeof store->shards[0]);
    if (store->shards == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (shard_init(&store->shards[i]))
            continue;
        while (i-- > 0)
            shard_fini(&store->shards[i]);
        alloc_free(store->shards);
        return false;
    }
    store->shard_mask = n - 1;
    return true;
}

struct store *store_create(const struct store_options *options)
{
    struct store *store;

    alloc_prepare(options->threads);
    store = alloc_aligned(CACHE_LINE, sizeof *store);
    if (store == NULL)
        return NULL;
    memset(store, 0, sizeof *store);
    store->seed = options->seed;
    atomic_init(&store->eviction, options->eviction);
    atomic_init(&store->limit, options->bytes_max);
    if (!shards_create(store, shards_wanted(options))) {
        alloc_free(store);
        return NULL;
    }
    ck_epoch_init(&store->epoch);
    purge_log_init(&store->purges);
    slabs_init(&store->slabs, options->bytes_max);
    pages_init(&store->pages, PAGE_BYTES, options->bytes_max / PAGES_SHARE);
    if (options->bytes_max < PAGES_STORE_MIN)
        store->pages.max = 0;
    head_table_init(&store->heads);
    pthread_mutex_init(&store->threads_lock, NULL);
    pthread_mutex_init(&store->resize_lock, NULL);
    store->resizer = store_thread_create(store);
    if (store->resizer == NULL) {
        store_destroy(store);
        return NULL;
    }
    return store;
}

void store_destroy(struct store *store)
{
    for (size_t i = 0; i < shard_count(store); i++)
        shard_empty(store, &store->shards[i]);
    while (store->threads != NULL) {
        struct store_thread *t = store->threads;

        store->threads = t->next;
        ck_epoch_reclaim(&t->record);
        alloc_free(t);
    }
    for (size_t i = 0; i < shard_count(store); i++)
        shard_fini(&store->shards[i]);
    head_table_fini(&store->heads);
    slabs_fini(&store->slabs);
    pages_fini(&store->pages);
    purge_log_fini(&store->purges);
    pthread_mutex_destroy(&store->threads_lock);
    pthread_mutex_destroy(&store->resize_lock);
    alloc_free(store->shards);
    alloc_free(store);
}

static uint32_t touch_ms_of(enum store_eviction eviction)
{
    return eviction == STORE_LRU ? LRU_TOUCH_MS : UINT32_MAX;
}

static struct store_thread *thread_register(struct store *store)
{
    struct store_thread *t = alloc_aligned(CACHE_LINE, sizeof *t);

    if (t == NULL)
        return NULL;
    memset(t, 0, sizeof *t);
    t->store = store;
    atomic_init(&t->touch_ms, touch_ms_of(eviction_of(store)));
    t->habits.seed = store->seed;
    t->next = store->threads;
    store->threads = t;
    ck_epoch_register(&store->epoch, &t->record, NULL);
    return t;
}

/* Epoch records live as long as the store: one that is not in use is given out again. */
struct store_thread *store_thread_create(struct store *store)
{
    struct store_thread *t;
    unsigned n = 0;

    pthread_mutex_lock(&store->threads_lock);
    for (t = store->threads; t != NULL && t->in_use; t = t->next)
        n++;
    if (t == NULL)
        t = thread_register(store);
    if (t != NULL) {
        t->in_use = true;
        t->evict_shard = t->expire_shard = n * SHARDS_PER_THREAD;
    }
    pthread_mutex_unlock(&store->threads_lock);
    return t;
}

void store_thread_destroy(struct store_thread *t)
{
    struct store *store = t->store;

    ck_epoch_barrier(&t->record);
    pthread_mutex_lock(&store->threads_lock);
    t->in_use = false;
    pthread_mutex_unlock(&store->threads_lock);
}

void store_thread_poll(struct store_thread *t)
{
    t->retired = 0;
    ck_epoch_poll(&t->record);
}

void store_resize(struct store *store, size_t bytes_max)
{
    /* No time: what is useless leaves by its place in the LRU list like all else. */
    const struct mono_ms never = {INT64_MIN};

    pthread_mutex_lock(&store->resize_lock);
    atomic_store_explicit(&store->limit, bytes_max, memory_order_relaxed);
    /* What is left over then is in the air, or held by readers. */
    if (!store_make_room(store->resizer, SIZE_MAX, never))
        store_thread_poll(store->resizer);
    slabs_resize(&store->slabs, bytes_max);
    pages_keep(&store->pages, bytes_max / PAGES_SHARE);
    pthread_mutex_unlock(&store->resize_lock);
}

void store_set_eviction(struct store *store, enum store_eviction eviction)
{
    pthread_mutex_lock(&store->threads_lock);
    atomic_store_explicit(&store->eviction, eviction, memory_order_relaxed);
    for (struct store_thread *t = store->threads; t != NULL; t = t->next)
        atomic_store_explicit(&t->touch_ms, touch_ms_of(eviction), memory_order_relaxed);
    pthread_mutex_unlock(&store->threads_lock);
}

void store_figures(struct store *store, struct store_figures *out)
{
    *out = (struct store_figures){
        .used_bytes = atomic_load_explicit(&store->used, memory_order_relaxed),
        .limit_bytes = atomic_load_explicit(&store->limit, memory_order_relaxed),
    };
    for (size_t i = 0; i < shard_count(store); i++)
        out->objects += atomic_load_explicit(&store->shards[i].responses, memory_order_relaxed);
    pthread_mutex_lock(&store->threads_lock);
    for (struct store_thread *t = store->threads; t != NULL; t = t->next) {
        out->evicted += atomic_load_explicit(&t->evicted, memory_order_relaxed);
        out->expired += atomic_load_explicit(&t->expired, memory_order_relaxed);
    }
    pthread_mutex_unlock(&store->threads_lock);
}

/* ---- giving up ---- */

static void table_reference_end(ck_epoch_entry_t *entry)
{
    struct stored *s = (struct stored *)(void *)((char *)entry - offsetof(struct stored, epoch_entry));

    TSAN_ACQUIRE(&s->head->store->epoch);
    stored_release(s);
}

void store_retire(struct store_thread *t, struct stored *s)
{
    /* ck_epoch_call reads the epoch without a fence: the removal has to be visible first, or a lookup of the next epoch
     * could still find the response while its reference goes with this one. */
    ck_pr_fence_memory();
    ck_epoch_call(&t->record, (ck_epoch_entry_t *)(void *)s->epoch_entry, table_reference_end);
    if (++t->retired >= RETIRED_MAX)
        store_thread_poll(t);
}

void batch_retire(struct store_thread *t, struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        store_retire(t, batch->v[i]);
}

/* ---- use ---- */

/* Renews the place in the LRU list, now and then and only if nobody is in the way. Not inline: a hit that does not come
 * to it is not to pay for its registers. */
static __attribute__((noinline)) void touch(struct store_thread *t, struct stored *s, struct mono_ms now)
{
    struct shard *shard = shard_of(t->store, s->hash);

    if (pthread_mutex_trylock(&shard->lock) != 0)
        return;
    if (s->place == PLACE_TABLE)
        shard_touch(shard, s, (uint32_t)now.ms);
    pthread_mutex_unlock(&shard->lock);
}

/* What is being moved is there, for whoever waits for the lock. */
static __attribute__((noinline)) struct stored *peek_locked(struct store_thread *t, const struct index_key *id)
{
    struct shard *shard = shard_of(t->store, id->hash);

    pthread_mutex_lock(&shard->lock);
    struct stored *s = index_get(&shard->index, id);

    if (s != NULL)
        stored_retain(s);
    pthread_mutex_unlock(&shard->lock);
    return s;
}

struct stored *store_peek(struct store_thread *t, struct key_hash hash, struct bytes key)
{
    const struct index_key id = {hash.lo, key};
    bool frozen = false;
    struct stored *s;

    ck_epoch_begin(&t->record, NULL);
    s = index_get(&shard_of(t->store, hash.lo)->index, &id);
    /* The table's reference cannot go before the section ends, nor what is moved away meanwhile. */
    if (s != NULL) {
        frozen = (atomic_fetch_add_explicit(&s->refs, 1, memory_order_acquire) & REFS_FROZEN) != 0;
        if (frozen)
            atomic_fetch_sub_explicit(&s->refs, 1, memory_order_relaxed);
    }
    TSAN_RELEASE(&t->store->epoch);
    ck_epoch_end(&t->record, NULL);
    return __builtin_expect(frozen, 0) ? peek_locked(t, &id) : s;
}

void store_use(struct store_thread *t, struct stored *s, struct mono_ms now)
{
    uint32_t now_ms = (uint32_t)now.ms;

    if (atomic_load_explicit(&s->used, memory_order_relaxed) != now_ms)
        atomic_store_explicit(&s->used, now_ms, memory_order_relaxed);
    if (use_ms_since(atomic_load_explicit(&s->touched, memory_order_relaxed), now_ms) >=
        atomic_load_explicit(&t->touch_ms, memory_order_relaxed))
        touch(t, s, now);
}

struct stored *store_acquire(struct store_thread *t, struct key_hash hash, struct bytes key, struct mono_ms now)
{
    struct stored *s = store_peek(t, hash, key);

    if (s != NULL)
        store_use(t, s, now);
    return s;
}

static bool is_storable(const struct store *store, const struct stored *s)
{
    return s->head->store == store && stored_body_state(s) == BODY_COMPLETE && !s->discarded &&
           stored_weight(s) <= atomic_load_explicit(&((struct store *)store)->limit, memory_order_relaxed);
}

/* Locks the shard with room for s in its indices, which grow inside the budget. False: not locked. */
static bool lock_with_room(struct store_thread *t, struct shard *shard, const struct stored *s, struct mono_ms now)
{
    size_t bytes;
    bool ok = true;

    pthread_mutex_lock(&shard->lock);
    while (ok && shard_is_full(shard, s)) {
        bytes = shard_growth_bytes(shard, s);
        pthread_mutex_unlock(&shard->lock);
        if (!store_charge(t, bytes, now))
            return false;
        pthread_mutex_lock(&shard->lock);
        if (shard_is_full(shard, s))
            ok = shard_grow(t, shard, s);
        store_discharge(t, bytes);
    }
    if (!ok)
        pthread_mutex_unlock(&shard->lock);
    return ok;
}

/* Under the shard's lock. *previous: what is to be retired. */
static bool put(struct store_thread *t, struct shard *shard, struct stored *s, struct mono_ms now,
                struct stored **previous)
{
    if (s->place == PLACE_TABLE)
        return true;
    if (s->place == PLACE_LEFT || store_is_purged(t->store, s))
        return false;
    if (!index_set(&shard->index, s, previous))
        return false;
    if (*previous != NULL)
        shard_unlink(t->store, shard, *previous);
    shard_link(t->store, shard, stored_retain(s), now);
    /* What was asked for again is not new to SIEVE. */
    if (*previous != NULL && eviction_of(t->store) == STORE_SIEVE)
        atomic_store_explicit(&s->used, (uint32_t)now.ms, memory_order_relaxed);
    return true;
}

bool store_put(struct store_thread *t, struct stored *s, struct mono_ms now)
{
    struct shard *shard = shard_of(t->store, s->hash);
    struct stored *previous = NULL;

    if (!is_storable(t->store, s) || !lock_with_room(t, shard, s, now))
        return false;
    bool stored = put(t, shard, s, now, &previous);

    pthread_mutex_unlock(&shard->lock);
    if (previous != NULL)
        store_retire(t, previous);
    return stored;
}

bool store_holds(struct store_thread *t, const struct stored *s)
{
    struct shard *shard = shard_of(t->store, s->hash);

    pthread_mutex_lock(&shard->lock);
    bool holds = s->place == PLACE_TABLE;

    pthread_mutex_unlock(&shard->lock);
    return holds;
}

enum store_swap store_swap(struct store_thread *t, struct stored *s, const struct stored *old, struct mono_ms now)
{
    struct shard *shard = shard_of(t->store, s->hash);
    struct stored *previous = NULL;
    enum store_swap result = STORE_CHANGED;

    if (!is_storable(t->store, s) || !lock_with_room(t, shard, s, now))
        return STORE_REFUSED;
    if (index_get(&shard->index, &(struct index_key){s->hash, stored_key(s)}) == old)
        result = put(t, shard, s, now, &previous) ? STORE_SWAPPED : STORE_REFUSED;
    pthread_mutex_unlock(&shard->lock);
    if (previous != NULL)
        store_retire(t, previous);
    return result;
}

void store_remove(struct store_thread *t, struct stored *s)
{
    struct shard *shard = shard_of(t->store, s->hash);
    bool taken;

    pthread_mutex_lock(&shard->lock);
    taken = s->place == PLACE_TABLE;
    if (taken)
        shard_take(t->store, shard, s);
    pthread_mutex_unlock(&shard->lock);
    if (taken)
        store_retire(t, s);
}
