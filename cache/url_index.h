/*
 * A shard's responses by url: chains through the responses themselves.
 *
 * Threads  Under the shard's lock.
 */
#ifndef WEIR_CACHE_URL_INDEX_H
#define WEIR_CACHE_URL_INDEX_H

#include "cache/hash.h"
#include "cache/stored.h"

struct url_index {
    struct stored **chains; /* size, a power of two */
    uint32_t size;
};

static inline struct stored **url_chain(const struct url_index *u, uint32_t url_hash)
{
    return &u->chains[url_hash & (u->size - 1)];
}

static inline void url_index_add(struct url_index *u, struct stored *s)
{
    struct stored **chain = url_chain(u, url_hash_of(s->head->store, stored_key_url(s)));

    s->url_next = *chain;
    s->url_pprev = chain;
    if (*chain != NULL)
        (*chain)->url_pprev = &s->url_next;
    *chain = s;
}

static inline void url_index_remove(struct stored *s)
{
    *s->url_pprev = s->url_next;
    if (s->url_next != NULL)
        s->url_next->url_pprev = s->url_pprev;
}

/* Moves everything over to `to`, which is empty. */
static inline void url_index_move(struct url_index *from, struct url_index *to)
{
    for (uint32_t i = 0; i < from->size; i++) {
        struct stored *s;

        while ((s = from->chains[i]) != NULL) {
            url_index_remove(s);
            url_index_add(to, s);
        }
    }
}

#endif
