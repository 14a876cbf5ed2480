/*
 * What happened, counted for each route and thread, and added up when somebody asks.
 *
 * Ownership  The registry owns the counters of every route that was ever configured; they live as long as it, across
 * reloads. Threads    counters_route in the main thread. A thread writes only its own part (plain relaxed stores, no
 * lock prefix); reading adds up and may be done by any thread at any time.
 */
#ifndef WEIR_PROXY_COUNTERS_H
#define WEIR_PROXY_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "policies/bytes.h"

/* Disjoint: every request ends as exactly one of them. */
enum outcome {
    OUTCOME_HIT,         /* fresh, from memory */
    OUTCOME_MISS,        /* fetched */
    OUTCOME_STALE,       /* served stale */
    OUTCOME_COALESCED,   /* joined another request's fetch */
    OUTCOME_REVALIDATED, /* a 304 from the origin */
    OUTCOME_BYPASS,      /* not cacheable by rule or verdict */
    OUTCOME_ERROR,       /* an answer that weir made itself */
    OUTCOMES,
};

const char *outcome_word(enum outcome o);

/* Log-linear: 16 steps to a power of two, from 1 us to 2^32 us; a quantile is right within 1/16. */
enum { HISTOGRAM_BUCKETS = 16 * 30 };

struct histogram {
    _Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
};

struct route_counters_thread {
    _Atomic uint64_t outcomes[OUTCOMES];
    _Atomic uint64_t origin_requests;
    struct histogram latency;
    struct histogram origin;
} __attribute__((aligned(64)));

struct route_counters {
    struct route_counters *next;
    struct route_counters *same_bucket; /* counters.c's */
    char *name;
    unsigned nthreads;
    struct route_counters_thread *threads;
};

struct counters;

struct counters *counters_create(unsigned nthreads);
void counters_destroy(struct counters *all);

/* Found by name, or made. */
struct route_counters *counters_route(struct counters *all, const char *name);
struct route_counters *counters_unrouted(struct counters *all); /* requests that no route took */
struct route_counters *counters_first(struct counters *all);    /* then ->next; any thread */

static inline void counter_add(_Atomic uint64_t *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

void histogram_add(struct histogram *h, uint64_t us);

struct route_totals {
    uint64_t outcomes[OUTCOMES], total, origin_requests;
    double p50_ms, p95_ms, p99_ms, origin_p95_ms; /* < 0: nothing measured yet */
};

void route_totals(const struct route_counters *c, struct route_totals *out);
void counters_totals(struct counters *all, struct route_totals *out); /* quantiles are left at -1 */

/* (hit + stale + coalesced) / (those + revalidated + miss); < 0 before the first cacheable request. */
double hit_rate(const uint64_t outcomes[OUTCOMES]);
double hit_rate_between(const uint64_t then[OUTCOMES], const uint64_t now[OUTCOMES]);

#endif
