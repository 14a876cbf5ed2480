/* What routes name, and routes that say the same: known once all files are read. */
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

static void check_unique(struct loader *l, size_t at)
{
    const struct conf_route *route = &l->conf->routes[at];

    if (route->pattern.path.n == 0)
        return;
    for (size_t i = 0; i < at; i++) {
        const struct conf_route *other = &l->conf->routes[i];

        /* Equal paths first: that is cheap, and the same requests never match two different ones. */
        if (bytes_eq(other->pattern.path, route->pattern.path) &&
            route_pattern_compare(&other->pattern, &route->pattern) == 0) {
            conf_problem(l, route->mark, "'%s' matches the same requests as the route at %s:%u:%u",
                         conf_show(l, route->pattern.path), other->mark.file, other->mark.line, other->mark.column);
            return;
        }
    }
}

void conf_check_routes(struct loader *l)
{
    struct conf *conf = l->conf;

    for (size_t i = 0; i < conf->nroutes; i++) {
        check_unique(l, i);
        if (l->names_unknown)
            continue;
        if (l->pending[i].backend != NULL)
            conf->routes[i].backend = find_backend(l, l->pending[i].backend);
        if (l->pending[i].ttl != NULL)
            conf->routes[i].ttl = find_tier(l, l->pending[i].ttl);
    }
    if (conf->nroutes == 0 && !l->names_unknown)
        conf_problem(l, (struct conf_mark){conf->file, 1, 1},
                     "there is no route; expected at least one, such as routes: [{ path: /**, backend: api }]");
}
