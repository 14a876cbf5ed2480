/*
 * A shard's responses by url: chains through the responses themselves. Their number grows one by one (linear hashing),
 * so that no put pays for many: the last chain takes its share of one before it.
 *
 * Threads  Under the shard's lock.
 */
#ifndef WEIR_CACHE_URL_INDEX_H
#define WEIR_CACHE_URL_INDEX_H

#include "cache/hash.h"
#include "cache/stored.h"

struct url_index {
    struct stored **chains;
    uint32_t size;     /* in use; never 0 */
    uint32_t capacity; /* there is room for */
};

/* The largest power of two that is no more. */
static inline uint32_t url_index_base(uint32_t size)
{
    return (uint32_t)1 << (31 - __builtin_clz(size));
}

static inline struct stored **url_chain(const struct url_index *u, uint32_t url_hash)
{
    uint32_t base = url_index_base(u->size), chain = url_hash & (2 * base - 1);

    return &u->chains[chain < u->size ? chain : chain - base];
}

static inline struct stored **url_chain_of(const struct url_index *u, const struct stored *s)
{
    return url_chain(u, url_hash_of(s->head->store, stored_key_url(s)));
}

static inline void url_index_add(struct url_index *u, struct stored *s)
{
    struct stored **chain = url_chain_of(u, s);

    s->url_next = *chain;
    *chain = s;
}

/* Where it hangs. */
static inline struct stored **url_index_at(struct url_index *u, const struct stored *s)
{
    struct stored **at = url_chain_of(u, s);

    while (*at != s)
        at = &(*at)->url_next;
    return at;
}

static inline void url_index_remove(struct url_index *u, const struct stored *s)
{
    *url_index_at(u, s) = s->url_next;
}

/* `to`, of the same url, where `from` was. */
static inline void url_index_replace(struct url_index *u, const struct stored *from, struct stored *to)
{
    to->url_next = from->url_next;
    *url_index_at(u, from) = to;
}

/* One chain more; there is room for it. What is in a chain stays there or comes into the new one: who goes along all of
 * them, up to the last, meets everything. */
static inline void url_index_split(struct url_index *u)
{
    uint32_t added = u->size++;
    struct stored *s = u->chains[added - url_index_base(added)];

    u->chains[added] = u->chains[added - url_index_base(added)] = NULL;
    for (struct stored *next; s != NULL; s = next) {
        next = s->url_next;
        url_index_add(u, s);
    }
}

#endif
