#include "cache/hash.h"
#include "cache/store_private.h"
#include "policies/key.h"

enum { CHAINS_MAX = 256 }; /* looked through under a lock at once */

struct purge {
    uint64_t stamp; /* covers what was born before */
    bool soft;
    struct bytes what;
    bool (*matches)(const struct stored *s, struct bytes what);
    size_t responses; /* dropped or marked */
};

uint64_t store_birth(struct store *store)
{
    return atomic_fetch_add(&store->births, 1) + 1;
}

bool store_purged_since(struct store *store, struct bytes key_url, uint64_t birth)
{
    return purge_log_covers(&store->purges, url_hash_of(store, key_url), key_url, birth);
}

static bool is_url(const struct stored *s, struct bytes url)
{
    return bytes_eq((struct bytes){s->key.p, s->key_url_n}, url);
}

static bool has_prefix(const struct stored *s, struct bytes prefix)
{
    return key_url_has_prefix((struct bytes){s->key.p, s->key_url_n}, prefix);
}

static bool is_any(const struct stored *s, struct bytes nothing)
{
    (void)s, (void)nothing;
    return true;
}

/* Markers hold nothing that could be stale. */
static bool mark(struct stored *s)
{
    return s->kind == STORED_RESPONSE && !atomic_exchange_explicit(&s->expired, true, memory_order_acq_rel);
}

/* Under the shard's lock. False: the batch is full before the chain's end. */
static bool purge_chain(struct store *store, struct shard *shard, struct stored *chain, struct purge *p,
                        struct batch *batch)
{
    for (struct stored *s = chain, *next; s != NULL; s = next) {
        next = s->url_next;
        if (s->born >= p->stamp || !p->matches(s, p->what))
            continue;
        if (p->soft) {
            p->responses += mark(s);
            continue;
        }
        if (batch->count == BATCH_MAX)
            return false;
        p->responses += s->kind == STORED_RESPONSE;
        shard_drop(store, shard, s, batch);
    }
    return true;
}

static void purge_url_in(struct store_thread *t, struct shard *shard, uint32_t url_hash, struct purge *p)
{
    struct batch batch;
    bool done;

    do {
        batch.count = batch.bytes = 0;
        pthread_mutex_lock(&shard->lock);
        done = purge_chain(t->store, shard, *url_chain(&shard->lists.urls, url_hash), p, &batch);
        pthread_mutex_unlock(&shard->lock);
        batch_retire(t, &batch);
    } while (!done);
}

/* Chains are stable between the steps but when their number grows: then it begins anew. What is put meanwhile into a
 * chain that was passed has met the purge log. */
static void purge_shard(struct store_thread *t, struct shard *shard, struct purge *p)
{
    struct batch batch;
    uint32_t chain = 0, chains = 0;

    do {
        batch.count = batch.bytes = 0;
        pthread_mutex_lock(&shard->lock);
        if (shard->lists.urls.size != chains) {
            chains = shard->lists.urls.size;
            chain = 0;
        }
        for (uint32_t end = chain + CHAINS_MAX; chain < chains && chain < end; chain++)
            if (!purge_chain(t->store, shard, shard->lists.urls.chains[chain], p, &batch))
                break;
        pthread_mutex_unlock(&shard->lock);
        batch_retire(t, &batch);
    } while (chain < chains);
}

static size_t purge_shards(struct store_thread *t, struct purge *p)
{
    for (size_t i = 0; i < shard_count(t->store); i++)
        purge_shard(t, &t->store->shards[i], p);
    return p->responses;
}

/* The log comes first: a put that did not find the purge there has finished before the purge takes its shard's lock. */

size_t store_purge_url(struct store_thread *t, struct bytes key_url, bool soft)
{
    struct purge p = {.stamp = store_birth(t->store), .soft = soft, .what = key_url, .matches = is_url};
    uint32_t url_hash = url_hash_of(t->store, key_url);

    purge_log_url(&t->store->purges, url_hash, p.stamp);
    for (size_t i = 0; i < shard_count(t->store); i++)
        purge_url_in(t, &t->store->shards[i], url_hash, &p);
    return p.responses;
}

size_t store_purge_prefix(struct store_thread *t, struct bytes url_prefix, bool soft)
{
    struct purge p = {.stamp = store_birth(t->store), .soft = soft, .what = url_prefix, .matches = has_prefix};

    purge_log_prefix(&t->store->purges, url_prefix, p.stamp);
    return purge_shards(t, &p);
}

size_t store_purge_all(struct store_thread *t, bool soft)
{
    struct purge p = {.stamp = store_birth(t->store), .soft = soft, .matches = is_any};

    purge_log_all(&t->store->purges, p.stamp);
    return purge_shards(t, &p);
}
