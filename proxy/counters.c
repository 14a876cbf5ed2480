#include "proxy/counters.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_MIN = 64 };

struct counters {
    unsigned nthreads;
    struct route_counters unrouted;
    struct route_counters *_Atomic first;
    /* by name; the main thread's */
    struct route_counters **buckets;
    size_t nbuckets, n; /* a power of two; no fewer than there are names */
};

const char *outcome_word(enum outcome o)
{
    static const char *const words[OUTCOMES] = {"hit", "miss", "stale", "coalesced", "revalidated", "bypass", "error"};
    return words[o];
}

static void init(struct route_counters *c, const char *name, unsigned nthreads)
{
    size_t bytes = nthreads * sizeof c->threads[0];

    c->name = strdup(name);
    c->nthreads = nthreads;
    c->threads = aligned_alloc(64, bytes);
    if (c->name == NULL || c->threads == NULL)
        abort();
    memset(c->threads, 0, bytes);
}

/* FNV-1a: the names are the operator's. */
static struct route_counters **bucket_for(const struct counters *all, const char *name)
{
    uint32_t hash = 2166136261u;

    for (const char *p = name; *p != '\0'; p++)
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    return &all->buckets[hash & (all->nbuckets - 1)];
}

static void hang_in(struct counters *all, struct route_counters *c)
{
    struct route_counters **bucket = bucket_for(all, c->name);

    c->same_bucket = *bucket;
    *bucket = c;
}

static void make_buckets(struct counters *all)
{
    all->nbuckets = all->nbuckets == 0 ? BUCKETS_MIN : all->nbuckets * 2;
    free(all->buckets);
    all->buckets = calloc(all->nbuckets, sizeof(struct route_counters *));
    if (all->buckets == NULL)
        abort();
    for (struct route_counters *c = all->first; c != NULL; c = c->next)
        hang_in(all, c);
}

struct counters *counters_create(unsigned nthreads)
{
    struct counters *all = calloc(1, sizeof *all);

    if (all == NULL)
        abort();
    all->nthreads = nthreads;
    make_buckets(all);
    init(&all->unrouted, "", nthreads);
    return all;
}

void counters_destroy(struct counters *all)
{
    struct route_counters *next;

    for (struct route_counters *c = all->first; c != NULL; c = next) {
        next = c->next;
        free(c->name);
        free(c->threads);
        free(c);
    }
    free(all->buckets);
    free(all->unrouted.name);
    free(all->unrouted.threads);
    free(all);
}

struct route_counters *counters_route(struct counters *all, const char *name)
{
    struct route_counters *c;

    for (c = *bucket_for(all, name); c != NULL; c = c->same_bucket)
        if (strcmp(c->name, name) == 0)
            return c;
    if (++all->n > all->nbuckets)
        make_buckets(all);
    c = calloc(1, sizeof *c);
    if (c == NULL)
        abort();
    init(c, name, all->nthreads);
    hang_in(all, c);
    c->next = all->first;
    atomic_store_explicit(&all->first, c, memory_order_release);
    return c;
}

struct route_counters *counters_unrouted(struct counters *all)
{
    return &all->unrouted;
}

struct route_counters *counters_first(struct counters *all)
{
    return atomic_load_explicit(&all->first, memory_order_acquire);
}

static unsigned bucket_of(uint64_t us)
{
    if (us < 16)
        return (unsigned)us;
    unsigned exponent = 63 - (unsigned)__builtin_clzll(us); /* >= 4 */
    unsigned b = (exponent - 3) * 16 + (unsigned)((us >> (exponent - 4)) & 15);

    return b < HISTOGRAM_BUCKETS ? b : HISTOGRAM_BUCKETS - 1;
}

/* The middle of a bucket, in microseconds. */
static double bucket_middle(unsigned b)
{
    if (b < 16)
        return b;
    unsigned exponent = b / 16 + 3;
    double width = (double)(UINT64_C(1) << (exponent - 4));

    return (16 + b % 16) * width + width / 2;
}

void histogram_add(struct histogram *h, uint64_t us)
{
    counter_add(&h->buckets[bucket_of(us)], 1);
}

static void add_up(uint64_t sum[HISTOGRAM_BUCKETS], const struct histogram *h)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum[i] += atomic_load_explicit(&((struct histogram *)h)->buckets[i], memory_order_relaxed);
}

static double quantile_ms(const uint64_t sum[HISTOGRAM_BUCKETS], double q)
{
    uint64_t n = 0, seen = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        n += sum[i];
    if (n == 0)
        return -1;
    uint64_t rank = (uint64_t)ceil(q * (double)n); /* nearest rank */

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        if ((seen += sum[i]) >= rank && seen > 0)
            return bucket_middle(i) / 1000;
    return -1;
}

static void add_counts(const struct route_counters *c, struct route_totals *out)
{
    for (unsigned t = 0; t < c->nthreads; t++) {
        struct route_counters_thread *part = &c->threads[t];

        for (unsigned i = 0; i < OUTCOMES; i++) {
            uint64_t n = atomic_load_explicit(&part->outcomes[i], memory_order_relaxed);

            out->outcomes[i] += n;
            out->total += n;
        }
        out->origin_requests += atomic_load_explicit(&part->origin_requests, memory_order_relaxed);
    }
}

void route_totals(const struct route_counters *c, struct route_totals *out)
{
    uint64_t latency[HISTOGRAM_BUCKETS] = {0}, origin[HISTOGRAM_BUCKETS] = {0};

    memset(out, 0, sizeof *out);
    add_counts(c, out);
    for (unsigned t = 0; t < c->nthreads; t++) {
        add_up(latency, &c->threads[t].latency);
        add_up(origin, &c->threads[t].origin);
    }
    out->p50_ms = quantile_ms(latency, 0.50);
    out->p95_ms = quantile_ms(latency, 0.95);
    out->p99_ms = quantile_ms(latency, 0.99);
    out->origin_p95_ms = quantile_ms(origin, 0.95);
}

void counters_totals(struct counters *all, struct route_totals *out)
{
    memset(out, 0, sizeof *out);
    out->p50_ms = out->p95_ms = out->p99_ms = out->origin_p95_ms = -1;
    add_counts(&all->unrouted, out);
    for (struct route_counters *c = counters_first(all); c != NULL; c = c->next)
        add_counts(c, out);
}

double hit_rate_between(const uint64_t then[OUTCOMES], const uint64_t now[OUTCOMES])
{
    uint64_t d[OUTCOMES];

    for (unsigned i = 0; i < OUTCOMES; i++)
        d[i] = now[i] - then[i];
    uint64_t saved = d[OUTCOME_HIT] + d[OUTCOME_STALE] + d[OUTCOME_COALESCED];
    uint64_t cacheable = saved + d[OUTCOME_REVALIDATED] + d[OUTCOME_MISS];

    return cacheable == 0 ? -1 : (double)saved / (double)cacheable;
}

double hit_rate(const uint64_t outcomes[OUTCOMES])
{
    static const uint64_t zero[OUTCOMES];

    return hit_rate_between(zero, outcomes);
}
