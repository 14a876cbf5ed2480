#include "proxy/invalidate.h"

#include <stdio.h>
#include <stdlib.h>

#include "policies/uri.h"

static const struct key_rules *rules_of(const struct ask *ask, struct bytes authority, struct bytes path)
{
    const struct snapshot *s = ask->hold->snapshot;
    size_t route = route_find(s->index, BYTES_LIT("GET"), authority, path);

    return route < s->conf->nroutes ? &s->routes[route].conf->key : &ask->route->conf->key;
}

static void invalidate_url(const struct ask *ask, struct bytes url)
{
    struct uri_parts parts;
    char *memory = malloc(5 * url.n + 64), *path = memory + 3 * url.n + 64, *authority = path + url.n;
    size_t path_n, authority_n;
    struct key key;

    if (memory == NULL)
        abort();
    if (uri_parse(url, &parts) && uri_authority_normalize(parts.authority, parts.https, authority, &authority_n) &&
        parts.https == ask->https && bytes_eq((struct bytes){authority, authority_n}, ask->authority) &&
        uri_path_normalize(parts.path, path, &path_n) &&
        key_url_of(rules_of(ask, ask->authority, (struct bytes){path, path_n}), url, memory, &key)) {
        store_purge_url(ask->worker->store, key.url, false);
        flights_doom_url(ask->worker->shared->flights, key.url);
    }
    free(memory);
}

/* A reference as Location and Content-Location have them, made absolute: with a scheme, or with an absolute path.
 * Others (relative paths, which hardly occur there) are left alone. */
static void invalidate_reference(const struct ask *ask, struct bytes reference, bool path_only)
{
    const char *scheme = ask->https ? "https" : "http";
    size_t cap = reference.n + ask->authority.n + 16;
    char *url;
    int n;

    const char *fragment = reference.n > 0 ? memchr(reference.p, '#', reference.n) : NULL;

    if (fragment != NULL)
        reference.n = (size_t)(fragment - reference.p);
    if (reference.n == 0)
        return;
    if (reference.p[0] != '/') {
        invalidate_url(ask, reference);
        return;
    }
    url = malloc(cap);
    if (url == NULL)
        abort();
    n = !path_only && reference.n > 1 && reference.p[1] == '/'
            ? snprintf(url, cap, "%s:%.*s", scheme, (int)reference.n, reference.p)
            : snprintf(url, cap, "%s://%.*s%.*s", scheme, (int)ask->authority.n, ask->authority.p, (int)reference.n,
                       reference.p);
    invalidate_url(ask, (struct bytes){url, (size_t)n});
    free(url);
}

/* The target, and what the answer names of the same origin (RFC 9111 section 4.4). Before the answer is passed on:
 * whoever has seen it finds nothing older. */
void invalidate(const struct ask *ask, struct fields answer)
{
    invalidate_reference(ask, ask->target, true);
    invalidate_reference(ask, fields_value(answer, BYTES_LIT("location")), false);
    invalidate_reference(ask, fields_value(answer, BYTES_LIT("content-location")), false);
}
