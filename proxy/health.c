#include "proxy/health.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>

#include "proxy/respond.h"

enum { RATE_SECONDS = 301 };

/* The outcomes so far, once a second. */
struct rates {
    pthread_mutex_t lock;
    uint64_t samples[RATE_SECONDS][OUTCOMES];
    uint64_t ticks;
};

struct rates *rates_create(void)
{
    struct rates *rates = calloc(1, sizeof *rates);

    if (rates == NULL)
        abort();
    pthread_mutex_init(&rates->lock, NULL);
    return rates;
}

void rates_destroy(struct rates *rates)
{
    pthread_mutex_destroy(&rates->lock);
    free(rates);
}

void rates_tick(struct rates *rates, struct shared *shared)
{
    struct route_totals totals;

    counters_totals(shared->counters, &totals);
    pthread_mutex_lock(&rates->lock);
    memcpy(rates->samples[rates->ticks % RATE_SECONDS], totals.outcomes, sizeof totals.outcomes);
    rates->ticks++;
    pthread_mutex_unlock(&rates->lock);
}

/* Over the last so many seconds, or since the start where that is shorter. */
static double rate_over(struct rates *rates, const uint64_t now[OUTCOMES], unsigned seconds)
{
    uint64_t then[OUTCOMES] = {0};

    pthread_mutex_lock(&rates->lock);
    if (rates->ticks > seconds)
        memcpy(then, rates->samples[(rates->ticks - 1 - seconds) % RATE_SECONDS], sizeof then);
    pthread_mutex_unlock(&rates->lock);
    return hit_rate_between(then, now);
}

static json_t *number_or_null(double x)
{
    return x < 0 ? json_null() : json_real(x);
}

static void set_counts(json_t *to, const struct route_totals *t)
{
    json_object_set_new(to, "total", json_integer((json_int_t)t->total));
    for (int i = 0; i < OUTCOMES; i++)
        json_object_set_new(to, outcome_word((enum outcome)i), json_integer((json_int_t)t->outcomes[i]));
}

static json_t *route_json(const struct route_counters *c)
{
    struct route_totals t;
    json_t *route = json_object();

    route_totals(c, &t);
    json_object_set_new(route, "route", json_string(c->name));
    set_counts(route, &t);
    json_object_set_new(route, "hit_rate", number_or_null(hit_rate(t.outcomes)));
    json_object_set_new(route, "p50_ms", number_or_null(t.p50_ms));
    json_object_set_new(route, "p95_ms", number_or_null(t.p95_ms));
    json_object_set_new(route, "p99_ms", number_or_null(t.p99_ms));
    json_object_set_new(route, "origin_p95_ms", number_or_null(t.origin_p95_ms));
    return route;
}

static json_t *memory_json(struct shared *shared)
{
    struct store_figures f;

    store_figures(shared->store, &f);
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "used_bytes", (json_int_t)f.used_bytes, "limit_bytes",
                     (json_int_t)f.limit_bytes, "objects", (json_int_t)f.objects, "evicted", (json_int_t)f.evicted,
                     "expired", (json_int_t)f.expired);
}

/* How often a response was put into a coding, and what that saved; identity: unpacked. */
static json_t *compressions_json(struct shared *shared)
{
    struct coder_figures f;
    json_t *all = json_object();
    json_int_t total = 0;

    coder_figures(shared->coder, &f);
    for (enum coding c = 0; c < CODINGS; c++) {
        total += c == CODING_IDENTITY ? 0 : (json_int_t)f.codings[c].made;
        json_object_set_new(all, coding_name(c).p,
                            json_pack("{s:I, s:I, s:I, s:I}", "made", (json_int_t)f.codings[c].made, "bytes_before",
                                      (json_int_t)f.codings[c].bytes_before, "bytes_after",
                                      (json_int_t)f.codings[c].bytes_after, "refused",
                                      (json_int_t)f.codings[c].refused));
    }
    json_object_set_new(all, "total", json_integer(total));
    json_object_set_new(all, "streamed", json_integer((json_int_t)f.streamed));
    return all;
}

static json_t *flights_json(struct shared *shared)
{
    struct flights_figures f;

    flights_figures(shared->flights, &f);
    return json_pack("{s:I, s:I}", "open", (json_int_t)f.flights, "waiting", (json_int_t)f.waiters);
}

static json_t *backend_json(const struct conf_backend *conf, struct backend *backend)
{
    struct backend_figures f;

    backend_figures(backend, &f);
    return json_pack("{s:s, s:s, s:I, s:I, s:s}", "backend", conf->name, "state", f.state, "in_flight",
                     (json_int_t)f.in_flight, "queued", (json_int_t)f.queued, "breaker", f.breaker);
}

static json_t *backends_json(const struct snapshot *s)
{
    json_t *list = json_array();

    /* those that a route uses, each once, in conf's order */
    for (size_t i = 0; i < s->conf->nbackends; i++)
        for (size_t j = 0; j < s->conf->nroutes; j++)
            if (s->routes[j].conf->backend == &s->conf->backends[i]) {
                json_array_append_new(list, backend_json(&s->conf->backends[i], s->routes[j].backend));
                break;
            }
    return list;
}

static json_t *routes_json(const struct snapshot *s)
{
    json_t *list = json_array();

    for (size_t i = 0; i < s->conf->nroutes; i++)
        json_array_append_new(list, route_json(s->routes[i].counters));
    return list;
}

static json_t *redis_json(const struct redis_figures *f)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "state", f->state, "hit", (json_int_t)f->hit, "miss",
                     (json_int_t)f->miss, "error", (json_int_t)f->error, "written", (json_int_t)f->written, "dropped",
                     (json_int_t)f->dropped, "owed", (json_int_t)f->owed);
}

static void set_status(json_t *health, const struct redis_figures *redis)
{
    bool degraded = strcmp(redis->state, "down") == 0;

    json_object_set_new(health, "status", json_string(degraded ? "degraded" : "ok"));
    if (degraded)
        json_object_set_new(health, "reasons", json_pack("[s]", "redis is down"));
}

char *health_json(struct shared *shared, int *status)
{
    bool draining = atomic_load(&shared->draining);

    *status = draining ? 503 : 200;
    return strdup(draining ? "{\"status\":\"draining\"}" : "{\"status\":\"ok\"}");
}

char *health_cache_json(struct shared *shared, const struct snapshot *snapshot, struct mono_ms now)
{
    struct route_totals t;
    struct redis_figures redis;
    json_t *health = json_object(), *requests = json_object();

    counters_totals(shared->counters, &t);
    uint64_t saved = t.outcomes[OUTCOME_HIT] + t.outcomes[OUTCOME_STALE] + t.outcomes[OUTCOME_COALESCED];

    redis_figures(shared->redis, &redis);
    set_status(health, &redis);
    json_object_set_new(health, "uptime_seconds", json_integer(mono_since_ms(shared->started, now) / 1000));
    json_object_set_new(health, "hit_rate", number_or_null(hit_rate(t.outcomes)));
    json_object_set_new(health, "hit_rate_1m", number_or_null(rate_over(shared->rates, t.outcomes, 60)));
    json_object_set_new(health, "hit_rate_5m", number_or_null(rate_over(shared->rates, t.outcomes, 300)));
    set_counts(requests, &t);
    json_object_set_new(health, "requests", requests);
    json_object_set_new(health, "memory", memory_json(shared));
    json_object_set_new(health, "redis", redis_json(&redis));
    json_object_set_new(health, "origin",
                        json_pack("{s:I, s:I}", "requests", (json_int_t)t.origin_requests, "saved", (json_int_t)saved));
    json_object_set_new(health, "compressions", compressions_json(shared));
    json_object_set_new(health, "flights", flights_json(shared));
    json_object_set_new(health, "routes", routes_json(snapshot));
    json_object_set_new(health, "backends", backends_json(snapshot));
    char *text = json_dumps(health, JSON_COMPACT | JSON_REAL_PRECISION(6));

    json_decref(health);
    return text;
}

bool health_public(struct request *r)
{
    bool brief = bytes_eq(r->in.path, BYTES_LIT("/health"));
    int status = 200;

    if (!(r->in.get || r->in.head) || (!brief && !bytes_eq(r->in.path, BYTES_LIT("/health/cache"))))
        return false;
    char *text = brief ? health_json(r->worker->shared, &status)
                       : health_cache_json(r->worker->shared, r->hold->snapshot, loop_now(r->worker->loop));

    r->unlisted = true;
    respond_text(r, status, BYTES_LIT("application/json"), bytes_of(text));
    free(text);
    return true;
}
