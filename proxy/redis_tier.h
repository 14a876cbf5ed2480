/*
 * The tier in Redis: what several weirs share, and what outlives their restarts. Memory's second: a look-up goes there
 * only in a flight's way, and what it brings goes into memory first (redis_read.h).
 *
 * Without `redis:` there is no tier: then a struct redis_tier * or struct redis_thread * is NULL, which all functions
 * take.
 *
 * Threads  Marked.
 */
#ifndef WEIR_PROXY_REDIS_TIER_H
#define WEIR_PROXY_REDIS_TIER_H

#include "proxy/redis_link.h"

struct redis_purges;
struct redis_writer;

struct redis_tier {
    struct conf *conf; /* a use of the snapshot that weir began with */
    struct redis_address *address;
    struct redis_state state;
    struct redis_purges *purges;
};

/* A worker's part of it. */
struct redis_thread {
    struct redis_tier *tier;
    struct loop *loop;
    struct redis_link *link;
    struct redis_writer *writer;
};

static inline const struct conf_redis *redis_conf(const struct redis_tier *tier)
{
    return tier->conf->redis;
}

/* NULL where the configuration has none. Main, with its loop: purges are sent from there. */
struct redis_tier *redis_tier_create(struct conf *conf, struct loop *loop, struct log *log);
void redis_tier_destroy(struct redis_tier *tier); /* no thread uses it any more; the loop still lives */

/* The worker's own thread. */
struct redis_thread *redis_thread_create(struct redis_tier *tier, struct loop *loop);
void redis_thread_destroy(struct redis_thread *t);

struct redis_figures {
    const char *state; /* off, up, down: some thread's connection does not work */
    uint64_t hit, miss, error, written, dropped;
    uint64_t owed; /* purges that it has not confirmed */
};
void redis_figures(const struct redis_tier *tier, struct redis_figures *out); /* any thread */

#endif
