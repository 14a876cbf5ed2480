#include "cache/hash.h"
#include "cache/store_private.h"
#include "policies/key.h"

enum { CHAINS_MAX = 256, NODES_MAX = 256 }; /* looked through under a lock at once */

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

bool store_tags_purged_since(struct store *store, const struct stored *s, uint64_t birth)
{
    const struct stored_tag *tags = stored_tags(s);
    struct bytes key_url = stored_key_url(s);

    if (s->ntags == 0 || !purge_log_any_tag(&store->purges, birth))
        return false;
    for (size_t i = 0; i < s->ntags; i++) {
        uint64_t tag = tags[i].tag;

        if (tag_hash(tag) == TAG_ANY || purge_log_covers_tag(&store->purges, tag_hash(tag), birth) ||
            ((tag & TAG_GROUP) != 0 && purge_log_covers_tag(&store->purges, tag_group_id(store, tag, key_url), birth)))
            return true;
    }
    return false;
}

bool store_is_purged(struct store *store, const struct stored *s)
{
    return purge_log_covers(&store->purges, url_hash_of(store, stored_key_url(s)), stored_key_url(s), s->born) ||
           store_tags_purged_since(store, s, s->born);
}

static bool is_url(const struct stored *s, struct bytes url)
{
    return bytes_eq(stored_key_url(s), url);
}

static bool has_prefix(const struct stored *s, struct bytes prefix)
{
    return key_url_has_prefix(stored_key_url(s), prefix);
}

static bool is_any(const struct stored *s, struct bytes nothing)
{
    (void)s, (void)nothing;
    return true;
}

/* Markers hold nothing that could be stale. */
static bool mark(struct stored *s)
{
    return s->head->kind == STORED_RESPONSE && !atomic_exchange_explicit(&s->expired, true, memory_order_acq_rel);
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
        p->responses += s->head->kind == STORED_RESPONSE;
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

/* Between the steps chains are added at the end, with what was in others. What is put meanwhile into a chain that was
 * passed has met the purge log. */
static void purge_shard(struct store_thread *t, struct shard *shard, struct purge *p)
{
    struct batch batch;
    uint32_t chain = 0, chains;

    do {
        batch.count = batch.bytes = 0;
        pthread_mutex_lock(&shard->lock);
        chains = shard->lists.urls.size;
        for (uint32_t end = chain + CHAINS_MAX; chain < chains && chain < end; chain++)
            if (!purge_chain(t->store, shard, shard->lists.urls.chains[chain], p, &batch))
                break;
        pthread_mutex_unlock(&shard->lock);
        batch_retire(t, &batch);
    } while (chain < chains);
}

/* A node of its own in the chain says how far it has come; who walks there meanwhile passes it by. */
struct tag_walk {
    const struct tag_target *target;
    struct stored_tag place; /* linked while chains is not 0 */
    uint32_t chains;
};

/* Chains are mixed when their number grows: then it begins anew. What is put meanwhile before the place in the chain
 * has met the purge log. */
static void find_place(struct tag_index *tags, struct tag_walk *walk)
{
    if (walk->chains == tags->size)
        return;
    if (walk->chains != 0)
        tag_unlink(&walk->place);
    tag_link(tag_chain(tags, walk->place.tag), &walk->place);
    walk->chains = tags->size;
}

static bool is_covered(const struct stored_tag *node, const struct purge *p, const struct tag_target *target)
{
    const struct stored *s = node->owner;

    return s != NULL && s->born < p->stamp && tag_matches(node->tag, stored_key_url(s), target);
}

/* Under the shard's lock. False: there is more. */
static bool walk_on(struct store *store, struct shard *shard, struct tag_walk *walk, struct purge *p,
                    struct batch *batch)
{
    struct stored_tag *node;

    find_place(&shard->tags, walk);
    for (unsigned n = 0; n < NODES_MAX && batch->count < BATCH_MAX; n++) {
        node = walk->place.next;
        tag_unlink(&walk->place);
        if (node == NULL)
            return true;
        tag_link(&node->next, &walk->place);
        if (!is_covered(node, p, walk->target))
            continue;
        if (p->soft)
            p->responses += mark(node->owner);
        else {
            p->responses += node->owner->head->kind == STORED_RESPONSE;
            shard_drop(store, shard, node->owner, batch);
        }
    }
    return false;
}

static void purge_tag_in(struct store_thread *t, struct shard *shard, uint64_t tag, const struct tag_target *target,
                         struct purge *p)
{
    struct tag_walk walk = {.target = target, .place.tag = tag};
    struct batch batch;
    bool done;

    do {
        batch.count = batch.bytes = 0;
        pthread_mutex_lock(&shard->lock);
        done = shard->tags.size == 0 || walk_on(t->store, shard, &walk, p, &batch);
        pthread_mutex_unlock(&shard->lock);
        batch_retire(t, &batch);
    } while (!done);
}

static size_t purge_shards(struct store_thread *t, struct purge *p)
{
    for (size_t i = 0; i < shard_count(t->store); i++)
        purge_shard(t, &t->store->shards[i], p);
    return p->responses;
}

/* The log comes first: a put that did not find the purge there has finished before the purge takes its shard's lock.
 * Stamps are taken under its lock, so that whoever has one finds all older ones there. */

static size_t purge_url(struct store_thread *t, uint32_t url_hash, struct purge *p)
{
    for (size_t i = 0; i < shard_count(t->store); i++)
        purge_url_in(t, &t->store->shards[i], url_hash, p);
    return p->responses;
}

size_t store_purge_url(struct store_thread *t, struct bytes key_url, bool soft)
{
    struct purge p = {.soft = soft, .what = key_url, .matches = is_url};
    struct purge_log *log = &t->store->purges;
    uint32_t url_hash = url_hash_of(t->store, key_url);

    pthread_mutex_lock(&log->order);
    p.stamp = store_birth(t->store);
    purge_log_url(log, url_hash, p.stamp);
    pthread_mutex_unlock(&log->order);
    return purge_url(t, url_hash, &p);
}

size_t store_purge_target(struct store_thread *t, struct bytes key_url, uint64_t *birth)
{
    struct purge p = {.what = key_url, .matches = is_url};
    struct purge_log *log = &t->store->purges;
    uint32_t url_hash = url_hash_of(t->store, key_url);

    pthread_mutex_lock(&log->order);
    p.stamp = store_birth(t->store);
    if (!purge_log_covers(log, url_hash, key_url, *birth))
        *birth = p.stamp;
    purge_log_url(log, url_hash, p.stamp);
    pthread_mutex_unlock(&log->order);
    return purge_url(t, url_hash, &p);
}

size_t store_purge_prefix(struct store_thread *t, struct bytes url_prefix, bool soft)
{
    struct purge p = {.soft = soft, .what = url_prefix, .matches = has_prefix};
    struct purge_log *log = &t->store->purges;

    pthread_mutex_lock(&log->order);
    p.stamp = store_birth(t->store);
    purge_log_prefix(log, url_prefix, p.stamp);
    pthread_mutex_unlock(&log->order);
    return purge_shards(t, &p);
}

size_t store_purge_all(struct store_thread *t, bool soft)
{
    struct purge p = {.soft = soft, .matches = is_any};
    struct purge_log *log = &t->store->purges;

    pthread_mutex_lock(&log->order);
    p.stamp = store_birth(t->store);
    purge_log_all(log, p.stamp);
    pthread_mutex_unlock(&log->order);
    return purge_shards(t, &p);
}

size_t store_purge_tag(struct store_thread *t, const struct tag_target *target, bool soft)
{
    struct purge p = {.soft = soft};
    struct purge_log *log = &t->store->purges;

    pthread_mutex_lock(&log->order);
    p.stamp = store_birth(t->store);
    purge_log_tag(log, target->log_id, p.stamp);
    pthread_mutex_unlock(&log->order);
    for (size_t i = 0; i < shard_count(t->store); i++) {
        purge_tag_in(t, &t->store->shards[i], target->hash, target, &p);
        purge_tag_in(t, &t->store->shards[i], TAG_ANY, target, &p);
    }
    return p.responses;
}
