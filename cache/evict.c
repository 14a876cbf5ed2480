#include <time.h>

#include "cache/alloc.h"
#include "cache/store_private.h"

static size_t load(const _Atomic size_t *n)
{
    return atomic_load_explicit((_Atomic size_t *)n, memory_order_relaxed);
}

bool store_charge(struct store_thread *t, size_t bytes, struct mono_ms now)
{
    if (bytes > load(&t->store->limit))
        return false;
    /* Charged first, so that threads that make room at the same time know of each other. */
    budget_take(t->store, bytes);
    if (store_make_room(t, bytes, now))
        return true;
    budget_return(t->store, bytes);
    return false;
}

void store_discharge(struct store_thread *t, size_t bytes)
{
    budget_return(t->store, bytes);
}

static bool lingers_too_much(const struct store *store)
{
    return load(&store->lingering) > load(&store->limit) / LINGER_SHARE;
}

/* Bytes that have to go. What was evicted and lingers is about to be free, but not without end: a crowd of slow readers
 * costs room for others. */
static size_t excess(const struct store *store)
{
    size_t used = load(&store->used), limit = load(&store->limit);
    size_t lingering = lingers_too_much(store) ? limit / LINGER_SHARE : load(&store->lingering);

    return used > limit + lingering ? used - limit - lingering : 0;
}

static void count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* Takes what is useless by now out of one shard: at most `max`, and no more once `bytes` are reached. */
static void expire_shard(struct store_thread *t, struct shard *shard, struct mono_ms now, size_t max, size_t bytes,
                         struct batch *batch)
{
    batch->count = batch->bytes = 0;
    if (atomic_load_explicit(&shard->expiry_next_ms, memory_order_relaxed) > now.ms)
        return;
    pthread_mutex_lock(&shard->lock);
    while (batch->count < max && batch->bytes < bytes && expiry_next(&shard->lists.expiry) <= now.ms)
        shard_drop(t->store, shard, shard->lists.expiry.v[0], batch);
    pthread_mutex_unlock(&shard->lock);
    count(&t->expired, batch->count);
}

void store_expire(struct store_thread *t, struct mono_ms now, unsigned max)
{
    struct batch batch;
    size_t passed = 0;

    while (passed < shard_count(t->store) && max > 0) {
        struct shard *shard = &t->store->shards[t->expire_shard & t->store->shard_mask];

        expire_shard(t, shard, now, max < BATCH_MAX ? max : BATCH_MAX, SIZE_MAX, &batch);
        max -= (unsigned)batch.count;
        if (batch.count < BATCH_MAX) {
            t->expire_shard++;
            passed++;
        }
        batch_retire(t, &batch);
    }
}

/* From all shards, before anything live goes. Returns the bytes. */
static size_t evict_useless(struct store_thread *t, struct mono_ms now, size_t bytes)
{
    struct batch batch;
    size_t freed = 0;

    for (size_t i = 0; i < shard_count(t->store) && freed < bytes; i++) {
        expire_shard(t, &t->store->shards[(t->evict_shard + i) & t->store->shard_mask], now, BATCH_MAX, bytes - freed,
                     &batch);
        freed += batch.bytes;
        batch_retire(t, &batch);
    }
    return freed;
}

/* Was it used since it was placed, or since the hand passed it? *used: when it was last. */
static bool is_used(const struct stored *s, uint32_t *used)
{
    *used = atomic_load_explicit(&((struct stored *)s)->used, memory_order_relaxed);

    /* not where it seems to have been used a little earlier than it was placed */
    uint32_t before = atomic_load_explicit(&((struct stored *)s)->touched, memory_order_relaxed) - *used;

    return before == 0 || before > USE_SLACK_MS;
}

/* The oldest that was not used since it was placed; used ones are placed anew, as they would be had every use moved
 * them. */
static struct stored *lru_victim(struct shard *shard, unsigned pool)
{
    struct stored *s = shard->lru[pool].oldest;
    uint32_t used;

    for (unsigned i = 0; s != NULL && i < REQUEUED_MAX && is_used(s, &used); i++, s = shard->lru[pool].oldest)
        shard_touch(shard, s, used);
    return s;
}

/* SIEVE's (store.h). Whom the hand passes stays where it is, and counts as not used from then on. *found: false where
 * the hand has stopped at one that it has not looked at, since it had passed so many. */
static struct stored *sieve_victim(struct lru *list, bool *found)
{
    struct stored *s = list->hand != NULL ? list->hand : list->oldest;
    unsigned passed = 0;
    uint32_t used;

    for (; s != NULL && passed < PASSED_MAX && is_used(s, &used); passed++) {
        shard_unuse(s, used);
        s = s->lru_prev != NULL ? s->lru_prev : list->oldest;
    }
    list->hand = s;
    *found = passed < PASSED_MAX;
    return s;
}

static struct stored *victim_of(const struct store *store, struct shard *shard, unsigned pool, bool *found)
{
    if (eviction_of(store) == STORE_SIEVE)
        return sieve_victim(&shard->lru[pool], found);
    *found = true;
    return lru_victim(shard, pool);
}

/* In a second round whoever the hand stands at goes: no more than so many are passed, however much is used. */
static size_t evict_from_pool(struct store_thread *t, unsigned pool)
{
    struct batch batch = {0};
    size_t shards = shard_count(t->store), rounds = 1;

    for (size_t i = 0; i < rounds * shards && batch.count == 0; i++) {
        struct shard *shard = &t->store->shards[t->evict_shard++ & t->store->shard_mask];
        bool found;

        pthread_mutex_lock(&shard->lock);
        struct stored *s = victim_of(t->store, shard, pool, &found);

        if (s != NULL && (found || i >= shards))
            shard_drop(t->store, shard, s, &batch);
        else if (s != NULL)
            rounds = 2;
        pthread_mutex_unlock(&shard->lock);
    }
    count(&t->evicted, batch.count);
    batch_retire(t, &batch);
    return batch.bytes;
}

/* From the larger pool: one that is over half of the limit is the larger, and a flood of the other cannot empty it
 * below that. */
static size_t evict_one(struct store_thread *t)
{
    unsigned larger = load(&t->store->pools[1]) > load(&t->store->pools[0]);
    size_t freed = evict_from_pool(t, larger);

    return freed > 0 ? freed : evict_from_pool(t, !larger);
}

static size_t evict(struct store_thread *t, struct mono_ms now, size_t bytes)
{
    size_t freed = evict_useless(t, now, bytes);

    while (freed < bytes) {
        size_t more = evict_one(t);

        if (more == 0)
            break;
        freed += more;
    }
    return freed;
}

/* Has what this thread retired freed, as far as no reader holds it. False: another thread stopped in the middle of a
 * lookup, without a processor to run on, and did not get on for the whole time. */
static bool settle(struct store_thread *t)
{
    enum { SPINS = 8, SLEEPS = 50, SLEEP_NS = 100000 };

    for (unsigned i = 0; i < SPINS + SLEEPS && ck_pr_load_uint(&t->record.n_pending) > 0; i++) {
        if (i >= SPINS)
            nanosleep(&(struct timespec){.tv_nsec = SLEEP_NS}, NULL);
        ck_epoch_poll(&t->record);
    }
    t->retired = 0;
    return ck_pr_load_uint(&t->record.n_pending) == 0;
}

/* As a rule what was retired is free after a few polls: it is not to be evicted for once more. */
static void poll_until_free(struct store_thread *t)
{
    enum { POLLS = 4, PENDING_MAX = 512 };

    for (unsigned i = 0; i < POLLS && (i == 0 || ck_pr_load_uint(&t->record.n_pending) > 0); i++)
        store_thread_poll(t);
    if (ck_pr_load_uint(&t->record.n_pending) > PENDING_MAX)
        settle(t);
}

enum room store_make_some_room(struct store_thread *t, size_t wanted, struct mono_ms now)
{
    if (excess(t->store) == 0)
        return ROOM_MADE;
    bool stuck = lingers_too_much(t->store) && !settle(t);
    size_t bytes = excess(t->store);

    if (bytes == 0)
        return ROOM_MADE;
    /* What is as good as free already is not to be evicted for again. */
    if (stuck && bytes > wanted)
        bytes = wanted;
    bool evicted = store_compact(t) || evict(t, now, bytes) > 0;

    poll_until_free(t);
    if (stuck || !evicted)
        return evicted || (settle(t) && excess(t->store) == 0) ? ROOM_MADE : ROOM_NONE;
    return ROOM_SOME;
}

bool store_make_room(struct store_thread *t, size_t wanted, struct mono_ms now)
{
    enum room room = ROOM_SOME;

    while (room == ROOM_SOME)
        room = store_make_some_room(t, wanted, now);
    return room == ROOM_MADE;
}

void store_trim(struct store *store)
{
    size_t share = load(&store->limit) / IDLE_SHARE;

    alloc_trim(share < IDLE_MAX ? share : IDLE_MAX);
    slabs_retry(&store->slabs);
}
