#include "proxy/snapshot.h"

#include <stdio.h>
#include <stdlib.h>

/* Fields: libh2o takes at most 100 on HTTP/1; HTTP/2 gets the same limit. */
enum { FIELDS_MAX = 100 };

size_t snapshot_route_name(const struct conf_route *route, char *out, size_t cap)
{
    const struct route_pattern *p = &route->pattern;
    size_t n = 0;

    if (!route->shares_path)
        return (size_t)snprintf(out, cap, "%.*s", (int)p->path.n, p->path.p);
    for (size_t i = 0; i < p->nmethods && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%.*s%s", (int)p->methods[i].n, p->methods[i].p,
                              i + 1 < p->nmethods ? "," : " ");
    if (n < cap)
        n += (size_t)snprintf(out + n, cap - n, "%.*s%.*s", (int)p->host.n, p->host.n > 0 ? p->host.p : "",
                              (int)p->path.n, p->path.p);
    return n;
}

struct snapshot *snapshot_create(struct conf *conf, struct counters *counters)
{
    struct snapshot *s = calloc(1, sizeof *s);
    struct route_pattern *patterns = calloc(conf->nroutes, sizeof *patterns);

    if (s == NULL || patterns == NULL)
        goto free_patterns;
    s->routes = calloc(conf->nroutes, sizeof *s->routes);
    if (s->routes == NULL)
        goto free_patterns;
    for (size_t i = 0; i < conf->nroutes; i++)
        patterns[i] = conf->routes[i].pattern;
    s->index = route_index_create(patterns, conf->nroutes);
    if (s->index == NULL)
        goto free_routes;
    for (size_t i = 0; i < conf->nroutes; i++) {
        char name[512];

        snapshot_route_name(&conf->routes[i], name, sizeof name);
        s->routes[i].conf = &conf->routes[i];
        s->routes[i].counters = counters_route(counters, name);
    }
    s->limits = (struct request_limits){
        .header_bytes_max = conf->request_header_bytes_max,
        .fields_max = FIELDS_MAX,
        .body_bytes_max = conf->request_body_bytes_max,
    };
    s->conf = conf;
    s->patterns = patterns;
    s->refs = 1;
    return s;

free_routes:
    free(s->routes);
free_patterns:
    free(patterns);
    free(s);
    return NULL;
}

void snapshot_connect(struct snapshot *s, struct backends *backends)
{
    for (size_t i = 0; i < s->conf->nroutes; i++)
        s->routes[i].backend = backends_apply(backends, s->routes[i].conf->backend);
}

void snapshot_retain(struct snapshot *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
}

void snapshot_release(struct snapshot *s)
{
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    route_index_destroy(s->index);
    free(s->patterns);
    free(s->routes);
    conf_release(s->conf);
    free(s);
}

struct hold *hold_create(struct snapshot *s)
{
    struct hold *h = malloc(sizeof *h);

    if (h == NULL)
        abort();
    snapshot_retain(s);
    h->snapshot = s;
    h->users = 1;
    return h;
}

struct hold *hold_use(struct hold *h)
{
    h->users++;
    return h;
}

void hold_drop(struct hold *h)
{
    if (--h->users > 0)
        return;
    snapshot_release(h->snapshot);
    free(h);
}
