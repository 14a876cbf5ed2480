/*
 * A list of responses by last use, newest first.
 *
 * Threads  Under the shard's lock.
 */
#ifndef WEIR_CACHE_LRU_H
#define WEIR_CACHE_LRU_H

#include "cache/stored.h"

struct lru {
    struct stored *newest, *oldest;
};

static inline void lru_add(struct lru *lru, struct stored *s)
{
    s->lru_prev = NULL;
    s->lru_next = lru->newest;
    if (lru->newest != NULL)
        lru->newest->lru_prev = s;
    else
        lru->oldest = s;
    lru->newest = s;
}

static inline void lru_remove(struct lru *lru, struct stored *s)
{
    if (s->lru_prev != NULL)
        s->lru_prev->lru_next = s->lru_next;
    else
        lru->newest = s->lru_next;
    if (s->lru_next != NULL)
        s->lru_next->lru_prev = s->lru_prev;
    else
        lru->oldest = s->lru_prev;
}

#endif
