/*
 * A list of responses, newest first: by last use, or by arrival where eviction is SIEVE's. There a hand stands in it,
 * at the one that is looked at next when room is needed; it goes on by itself when that one leaves.
 *
 * Threads  Under the shard's lock.
 */
#ifndef WEIR_CACHE_LRU_H
#define WEIR_CACHE_LRU_H

#include "cache/stored.h"

struct lru {
    struct stored *newest, *oldest;
    struct stored *hand; /* NULL: at the oldest */
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
    if (lru->hand == s)
        lru->hand = s->lru_prev;
    if (s->lru_prev != NULL)
        s->lru_prev->lru_next = s->lru_next;
    else
        lru->newest = s->lru_next;
    if (s->lru_next != NULL)
        s->lru_next->lru_prev = s->lru_prev;
    else
        lru->oldest = s->lru_prev;
}

/* `to`, a copy, where `from` was; the hand too. */
static inline void lru_replace(struct lru *lru, const struct stored *from, struct stored *to)
{
    to->lru_prev = from->lru_prev;
    to->lru_next = from->lru_next;
    *(to->lru_prev != NULL ? &to->lru_prev->lru_next : &lru->newest) = to;
    *(to->lru_next != NULL ? &to->lru_next->lru_prev : &lru->oldest) = to;
    if (lru->hand == from)
        lru->hand = to;
}

#endif
