/*
 * The store's insides, shared by store.c (lookups, insertion, threads), shard.c, evict.c (room, expiry) and purge.c.
 *
 * Locks    A shard's lock is a leaf but for the purge log's. At most one shard's lock is held at a time, and none while
 * references are given up or epochs are polled.
 */
#ifndef WEIR_CACHE_STORE_PRIVATE_H
#define WEIR_CACHE_STORE_PRIVATE_H

#include <ck_epoch.h>
#include <pthread.h>

#include "cache/budget.h"
#include "cache/expiry.h"
#include "cache/habits.h"
#include "cache/head_table.h"
#include "cache/index.h"
#include "cache/lru.h"
#include "cache/pages.h"
#include "cache/purge_log.h"
#include "cache/slab.h"
#include "cache/store.h"
#include "cache/tag_index.h"
#include "cache/url_index.h"

enum {
    LRU_TOUCH_MS = 1000,
    RETIRED_MAX = 32,           /* a thread polls its epoch at the latest after so many */
    BATCH_MAX = 64,             /* removed under a lock at once */
    IDLE_SHARE = 32,            /* the part of the limit that may lie idle in the allocator, */
    IDLE_MAX = 4 * 1024 * 1024, /* or so much, where that is less */
    PAGES_SHARE = 20,           /* the part of the limit that may lie idle among what is large */
    LINGER_SHARE = 8, /* the part of the limit that evicted responses may occupy beside it until their readers go */
    REQUEUED_MAX = 8, /* used ones that an eviction passes over */
    PASSED_MAX = 64,  /* used ones that SIEVE's hand passes under a lock at once */
    CACHE_LINE = 128, /* two: the prefetcher fetches pairs */
};

/* What grows beside the index. */
struct shard_lists {
    struct expiry expiry;
    struct url_index urls;
    size_t expiry_cost, urls_cost; /* charged */
};

struct shard {
    struct index index; /* read by all */

    /* under the lock */
    pthread_mutex_t lock __attribute__((aligned(CACHE_LINE)));
    struct lru lru[2]; /* shared, user-scoped */
    struct shard_lists lists;
    struct tag_index tags;

    /* any thread reads, written under the lock */
    _Atomic int64_t expiry_next_ms;
    _Atomic uint64_t responses;
} __attribute__((aligned(CACHE_LINE)));

struct store_thread {
    ck_epoch_record_t record;
    struct store *store;
    struct store_thread *next;
    bool in_use; /* store.threads_lock */

    /* any thread writes, under store.threads_lock; this thread reads */
    _Atomic uint32_t touch_ms; /* the place in the list is renewed at most once in so many */

    /* this thread only */
    unsigned evict_shard, expire_shard;
    unsigned retired; /* since the last poll */
    struct habits habits;

    /* this thread writes, any reads */
    _Atomic uint64_t evicted, expired;
} __attribute__((aligned(CACHE_LINE)));

struct store {
    struct shard *shards;
    uint64_t shard_mask;
    uint64_t seed;
    _Atomic size_t limit;
    _Atomic int eviction; /* enum store_eviction; threads_lock to write */
    struct purge_log purges;
    struct slabs slabs;
    struct pages pages;
    struct head_table heads;
    ck_epoch_t epoch;

    pthread_mutex_t threads_lock;
    struct store_thread *threads;
    pthread_mutex_t resize_lock;
    struct store_thread *resizer; /* resize_lock */

    _Atomic uint64_t births __attribute__((aligned(CACHE_LINE)));
    _Atomic size_t used __attribute__((aligned(CACHE_LINE)));
    _Atomic size_t lingering; /* of used */
    _Atomic size_t pools[2];  /* of used: what is in the table, shared and user-scoped */
};

/* Responses that have left a shard and whose reference is to be given up once its lock is released. */
struct batch {
    size_t count, bytes;
    struct stored *v[BATCH_MAX];
};

/* By bits of the hash that neither place a response in the shard's table nor tag it there. */
static inline struct shard *shard_of(const struct store *store, uint64_t hash)
{
    return &store->shards[hash >> 32 & store->shard_mask];
}

static inline size_t shard_count(const struct store *store)
{
    return (size_t)store->shard_mask + 1;
}

/* Has a purge that covers it happened since its birth? */
bool store_is_purged(struct store *store, const struct stored *s);

/* What it occupies of the budget, its forms included; once it is complete it changes by store_put_form alone. */
size_t stored_weight(const struct stored *s);

bool shard_init(struct shard *shard) MUST_USE;
void shard_fini(struct shard *shard);
void shard_empty(struct store *store, struct shard *shard); /* no thread uses it any more */

static inline enum store_eviction eviction_of(const struct store *store)
{
    return (enum store_eviction)atomic_load_explicit(&((struct store *)store)->eviction, memory_order_relaxed);
}

/* Under the shard's lock, all that follows. */
bool shard_is_full(struct shard *shard, const struct stored *s); /* for s: one of its indices has to grow */
size_t shard_growth_bytes(struct shard *shard, const struct stored *s);
bool shard_grow(struct store_thread *t, struct shard *shard, const struct stored *s) MUST_USE; /* false: no memory */
void shard_touch(struct shard *shard, struct stored *s, uint32_t used);
void shard_unuse(struct stored *s, uint32_t used); /* as if it had been placed after its last use */
/* The lists alone, with index_set. */
void shard_link(struct store *store, struct shard *shard, struct stored *s, struct mono_ms now);
void shard_unlink(struct store *store, struct shard *shard, struct stored *s);
/* `to` (stored_move) in the place of `from` everywhere. */
void shard_replace(struct shard *shard, struct stored *from, struct stored *to);
/* Out of the table and the lists. drop: into a batch that is not full. */
void shard_take(struct store *store, struct shard *shard, struct stored *s);
void shard_drop(struct store *store, struct shard *shard, struct stored *s, struct batch *batch);

/* Gives the table's reference up once no lookup can be on its way to it. No lock held. */
void store_retire(struct store_thread *t, struct stored *s);
void batch_retire(struct store_thread *t, struct batch *batch);

/* Evicts until the budget holds, in which `wanted` bytes are charged already. False: nothing is left to evict. */
bool store_make_room(struct store_thread *t, size_t wanted, struct mono_ms now) MUST_USE;

/* A step of that. */
enum room {
    ROOM_MADE, /* the budget holds */
    ROOM_SOME, /* something was evicted */
    ROOM_NONE, /* nothing is left to evict */
};
enum room store_make_some_room(struct store_thread *t, size_t wanted, struct mono_ms now) MUST_USE;

/* Moves what is left in a sparse slab into others. False: nothing was moved. */
bool store_compact(struct store_thread *t);
/* Moves what lies there, in a cell of a slab of that use, into room as large. False: it stays, because it is not
 * stored, or because somebody holds it. */
bool store_move(struct store_thread *t, enum slab_use use, void *cell, void *room) MUST_USE;

#endif
