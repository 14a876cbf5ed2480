/*
 * Replays a trace on the store, once with each way of evicting, and on models beside it (model.h); prints hit ratios,
 * one line for each cache size. loadtest/eviction runs it over all traces and makes the table and the plot.
 */
#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/store_private.h"
#include "loadtest/replay.d/model.h"
#include "loadtest/replay.d/trace.h"

enum { POLL_EVERY = 64, SIZES_MAX = 8, KEY_BYTES = 16 };

struct options {
    struct zipf_options zipf;
    const char *file; /* NULL: Zipf */
    double percents[SIZES_MAX];
    size_t npercents;
    bool cost;
};

static const char *const usage =
    "usage: replay [--zipf S] [--objects N] [--requests N] [--seed N] [--scans] [--wonders] [--file TRACE.csv]\n"
    "              [--sizes PERCENT,...] [--cost]\n";

/* ---- the store ---- */

struct cache {
    struct store *store;
    struct store_thread *t;
};

static char body[OBJECT_BYTES_MAX];

static struct cache cache_create(uint64_t bytes, enum store_eviction eviction)
{
    struct cache c;

    c.store = store_create(&(struct store_options){.bytes_max = bytes, .threads = 1, .seed = 1, .eviction = eviction});
    c.t = c.store == NULL ? NULL : store_thread_create(c.store);
    if (c.t == NULL)
        errx(1, "out of memory");
    return c;
}

static void cache_destroy(struct cache *c)
{
    store_thread_destroy(c->t);
    store_destroy(c->store);
}

static struct bytes key_of(uint32_t object, char buf[KEY_BYTES + 1])
{
    snprintf(buf, KEY_BYTES + 1, "%016x", object);
    return (struct bytes){buf, KEY_BYTES};
}

/* As a fetch leaves it; NULL: no room. */
static struct stored *make(struct cache *c, struct bytes key, uint32_t bytes, struct mono_ms now)
{
    const struct stored_options o = {
        .kind = STORED_RESPONSE,
        .hash = store_hash(c->store, key),
        .key = key,
        .key_url_n = key.n,
        .status = 200,
        .response_time = now,
        .useful_ms = INT64_MAX,
        .born = store_birth(c->store),
        .content_length = bytes,
    };
    struct stored *s = stored_create(c->t, &o, now);

    if (s == NULL)
        return NULL;
    if (!stored_append(c->t, s, (struct bytes){body, bytes}, now)) {
        stored_release(s);
        return NULL;
    }
    stored_finish_body(s, BODY_COMPLETE);
    return s;
}

static bool request(struct cache *c, uint32_t object, uint32_t bytes, struct mono_ms now)
{
    char buf[KEY_BYTES + 1];
    struct bytes key = key_of(object, buf);
    struct stored *s = store_acquire(c->t, store_hash(c->store, key), key, now);
    bool hit = s != NULL;

    if (!hit) {
        s = make(c, key, bytes, now);
        /* What is refused is answered all the same. */
        bool stored = s != NULL && store_put(c->t, s, now);

        (void)stored;
    }
    stored_release(s);
    return hit;
}

/* A thousand requests a second: places in an LRU list are renewed by time. */
static struct hits store_run(enum store_eviction eviction, const struct trace *t, uint64_t capacity)
{
    struct cache c = cache_create(capacity, eviction);
    struct hits hits = {0};

    for (size_t i = 0; i < t->nrequests; i++) {
        const struct object *o = &t->objects[t->requests[i]];

        if (request(&c, t->requests[i], o->bytes, (struct mono_ms){1000000 + (int64_t)i})) {
            hits.requests += 1;
            hits.bytes += o->bytes;
            hits.fetch_s += o->fetch_s;
        }
        if (i % POLL_EVERY == 0)
            store_thread_poll(c.t);
    }
    cache_destroy(&c);
    return hits;
}

/* An object's share of what the store charges, for each size, asked of the store itself. */
static void store_weights(struct trace *t)
{
    struct cache c = cache_create(UINT64_C(1) << 30, STORE_LRU);
    uint32_t *weights = calloc(OBJECT_BYTES_MAX + 1, sizeof *weights);
    char buf[KEY_BYTES + 1];

    if (weights == NULL)
        errx(1, "out of memory");
    for (size_t i = 0; i < t->nobjects; i++) {
        uint32_t bytes = t->objects[i].bytes;

        if (weights[bytes] == 0) {
            struct stored *s = make(&c, key_of(1, buf), bytes, (struct mono_ms){1000000});

            if (s == NULL)
                errx(1, "out of memory");
            weights[bytes] = (uint32_t)stored_weight(s);
            stored_release(s);
        }
        t->objects[i].weight = weights[bytes];
    }
    free(weights);
    cache_destroy(&c);
}

/* ---- the run ---- */

struct totals {
    struct hits all;
    uint64_t footprint; /* weights of all objects that are asked for */
    size_t objects;
};

static struct totals totals_of(const struct trace *t)
{
    struct totals sum = {.footprint = 0};
    bool *seen = calloc(t->nobjects, sizeof *seen);

    if (seen == NULL)
        errx(1, "out of memory");
    for (size_t i = 0; i < t->nrequests; i++) {
        const struct object *o = &t->objects[t->requests[i]];

        sum.all.requests += 1;
        sum.all.bytes += o->bytes;
        sum.all.fetch_s += o->fetch_s;
        if (seen[t->requests[i]])
            continue;
        seen[t->requests[i]] = true;
        sum.footprint += o->weight;
        sum.objects++;
    }
    free(seen);
    return sum;
}

static void print(const char *what, double percent, const struct hits *hits, const struct totals *sum)
{
    printf("%s\t%g\t%.4f\t%.4f\t%.4f\n", what, percent, hits->requests / sum->all.requests,
           hits->bytes / sum->all.bytes, hits->fetch_s / sum->all.fetch_s);
    fflush(stdout);
}

static void run_size(const struct options *o, const struct trace *t, const uint32_t *next, double percent,
                     uint64_t capacity, const struct totals *sum)
{
    static const struct {
        const char *name;
        enum model model;
        bool cost;
    } models[] = {
        {"lru-exact", MODEL_LRU, false},        {"belady", MODEL_BELADY, false}, {"sieve-exact", MODEL_SIEVE, true},
        {"sieve-cost", MODEL_SIEVE_COST, true}, {"gdsf", MODEL_GDSF, true},      {"gdsf-cost", MODEL_GDSF_COST, true},
    };
    struct hits hits = store_run(STORE_LRU, t, capacity);

    print("lru", percent, &hits, sum);
    hits = store_run(STORE_SIEVE, t, capacity);
    print("sieve", percent, &hits, sum);
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        if (models[i].cost && !o->cost)
            continue;
        hits = model_run(models[i].model, t, next, capacity);
        print(models[i].name, percent, &hits, sum);
    }
}

static void run(const struct options *o, struct trace *t)
{
    uint64_t capacities[SIZES_MAX];
    struct hits bounds[SIZES_MAX] = {{0}};
    struct totals sum;
    uint32_t *next;

    store_weights(t);
    sum = totals_of(t);
    next = trace_next(t);
    printf("# requests\t%zu\n# objects\t%zu\n# footprint\t%llu\n", t->nrequests, sum.objects,
           (unsigned long long)sum.footprint);
    for (size_t i = 0; i < o->npercents; i++) {
        capacities[i] = (uint64_t)((double)sum.footprint * o->percents[i] / 100);
        run_size(o, t, next, o->percents[i], capacities[i], &sum);
    }
    bound_run(t, next, capacities, o->npercents, bounds);
    for (size_t i = 0; i < o->npercents; i++)
        print("bound", o->percents[i], &bounds[i], &sum);
    free(next);
}

/* ---- command line ---- */

static double number(const char *text, double from, double to)
{
    char *end;
    double n = strtod(text, &end);

    if (end == text || *end != '\0' || !(n >= from && n <= to))
        errx(2, "'%s': a number from %g to %g is expected", text, from, to);
    return n;
}

static void read_sizes(struct options *o, char *list)
{
    o->npercents = 0;
    for (char *word = strtok(list, ","); word != NULL; word = strtok(NULL, ",")) {
        if (o->npercents == SIZES_MAX)
            errx(2, "at most %d sizes", SIZES_MAX);
        o->percents[o->npercents++] = number(word, 0.001, 100);
    }
}

static void read_options(struct options *o, int argc, char **argv)
{
    static const struct option known[] = {
        {"zipf", required_argument, NULL, 'z'},     {"objects", required_argument, NULL, 'o'},
        {"requests", required_argument, NULL, 'r'}, {"seed", required_argument, NULL, 's'},
        {"scans", no_argument, NULL, 'c'},          {"wonders", no_argument, NULL, 'w'},
        {"file", required_argument, NULL, 'f'},     {"sizes", required_argument, NULL, 'p'},
        {"cost", no_argument, NULL, '$'},           {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 'z':
            o->zipf.s = number(optarg, 0, 10);
            break;
        case 'o':
            o->zipf.objects = (size_t)number(optarg, 1, 1e8);
            break;
        case 'r':
            o->zipf.requests = (size_t)number(optarg, 1, 1e9);
            break;
        case 's':
            o->zipf.seed = (uint64_t)number(optarg, 0, 1e15);
            break;
        case 'c':
            o->zipf.scans = true;
            break;
        case 'w':
            o->zipf.wonders = true;
            break;
        case 'f':
            o->file = optarg;
            break;
        case 'p':
            read_sizes(o, optarg);
            break;
        case '$':
            o->cost = true;
            break;
        default:
            fputs(usage, stderr);
            exit(2);
        }
    }
    if (optind != argc) {
        fputs(usage, stderr);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct options o = {
        .zipf = {.s = 1, .objects = 250000, .requests = 1000000, .seed = 1},
        .percents = {0.1, 1, 10},
        .npercents = 3,
    };
    struct trace t;

    read_options(&o, argc, argv);
    t = o.file != NULL ? trace_read(o.file) : trace_zipf(&o.zipf);
    run(&o, &t);
    trace_free(&t);
    return 0;
}
