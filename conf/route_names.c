/* What routes name, and routes that say the same: known once all files are read. */
#include <stdlib.h>

#include "conf/sections.h"

static const struct conf_backend *find_backend(struct loader *l, const struct node *name)
{
    const struct conf *conf = l->conf;
    const char **names;

    for (size_t i = 0; i < conf->nbackends; i++)
        if (bytes_eq(name->text, bytes_of(conf->backends[i].name)))
            return &conf->backends[i];
    names = arena_array(l->scratch, conf->nbackends, sizeof(*names));
    for (size_t i = 0; i < conf->nbackends; i++)
        names[i] = conf->backends[i].name;
    conf_problem(l, name->mark, "unknown backend '%s'%s; expected a name from 'backends'", conf_show(l, name->text),
                 conf_hint(l, name->text, names, conf->nbackends));
    return NULL;
}

static const struct conf_tier *find_tier(struct loader *l, const struct node *name)
{
    const struct conf *conf = l->conf;
    const char **names;

    for (size_t i = 0; i < conf->ntiers; i++)
        if (bytes_eq(name->text, bytes_of(conf->tiers[i].tier.name)))
            return &conf->tiers[i];
    names = arena_array(l->scratch, conf->ntiers, sizeof(*names));
    for (size_t i = 0; i < conf->ntiers; i++)
        names[i] = conf->tiers[i].tier.name;
    conf_problem(l, name->mark, "unknown tier '%s'%s; expected a name from 'ttl' at top level",
                 conf_show(l, name->text), conf_hint(l, name->text, names, conf->ntiers));
    return NULL;
}

static int compare_bytes(struct bytes a, struct bytes b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n == 0 ? 0 : memcmp(a.p, b.p, n);

    return order != 0 ? order : a.n < b.n ? -1 : a.n > b.n;
}

/* By path and host, and in the order read where both are the same: routes lie in one array. */
static int by_path(const void *a, const void *b)
{
    const struct conf_route *x = *(struct conf_route *const *)a, *y = *(struct conf_route *const *)b;
    int order = compare_bytes(x->pattern.path, y->pattern.path);

    if (order == 0)
        order = compare_bytes(x->pattern.host, y->pattern.host);
    return order != 0 ? order : x < y ? -1 : x > y;
}

/* Those before it that might match the same requests lie right before it. */
static void check_unique(struct loader *l, struct conf_route *const *sorted, size_t at)
{
    const struct conf_route *route = sorted[at], *same = NULL;

    for (size_t i = at; i > 0 && bytes_eq(sorted[i - 1]->pattern.path, route->pattern.path) &&
                        bytes_eq(sorted[i - 1]->pattern.host, route->pattern.host);
         i--)
        if (route_pattern_compare(&sorted[i - 1]->pattern, &route->pattern) == 0)
            same = sorted[i - 1];
    if (same != NULL)
        conf_problem(l, route->mark, "'%s' matches the same requests as the route at %s:%u:%u",
                     conf_show(l, route->pattern.path), same->mark.file, same->mark.line, same->mark.column);
}

static void check_paths(struct loader *l)
{
    size_t n = l->conf->nroutes;
    struct conf_route **sorted = arena_array(l->scratch, n, sizeof(*sorted));

    for (size_t i = 0; i < n; i++)
        sorted[i] = &l->conf->routes[i];
    if (n > 0)
        qsort(sorted, n, sizeof(*sorted), by_path);
    for (size_t i = 0; i < n; i++) {
        if (sorted[i]->pattern.path.n == 0) /* there was none, or not a good one */
            continue;
        check_unique(l, sorted, i);
        if (i > 0 && bytes_eq(sorted[i - 1]->pattern.path, sorted[i]->pattern.path))
            sorted[i]->shares_path = sorted[i - 1]->shares_path = true;
    }
}

void conf_check_routes(struct loader *l)
{
    struct conf *conf = l->conf;

    check_paths(l);
    for (size_t i = 0; i < conf->nroutes; i++)
        conf_settle_compress(l, l->pending[i].compress, &conf->routes[i]);
    for (size_t i = 0; i < conf->nroutes && !l->names_unknown; i++) {
        if (l->pending[i].backend != NULL)
            conf->routes[i].backend = find_backend(l, l->pending[i].backend);
        if (l->pending[i].ttl != NULL)
            conf->routes[i].ttl = find_tier(l, l->pending[i].ttl);
    }
    if (conf->nroutes == 0 && !l->names_unknown)
        conf_problem(l, (struct conf_mark){conf->file, 1, 1},
                     "there is no route; expected at least one, such as routes: [{ path: /**, backend: api }]");
}
