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

/* The key of an absolute URL of the request's own origin. `memory`: what it lies in, to be freed in any case. */
static bool key_of_url(const struct ask *ask, struct bytes url, char **memory, struct key *key)
{
    struct uri_parts parts;
    char *buf = *memory = malloc(5 * url.n + 64), *path = buf + 3 * url.n + 64, *authority = path + url.n;
    size_t path_n, authority_n;

    if (buf == NULL)
        abort();
    return uri_parse(url, &parts) && uri_authority_normalize(parts.authority, parts.https, authority, &authority_n) &&
           parts.https == ask->https && bytes_eq((struct bytes){authority, authority_n}, ask->authority) &&
           uri_path_normalize(parts.path, path, &path_n) &&
           key_url_of(rules_of(ask, ask->authority, (struct bytes){path, path_n}), url, buf, key);
}

/* A reference as Location and Content-Location have them, made absolute: with a scheme, or with an absolute path.
 * Others (relative paths, which hardly occur there) are left alone. is_path: it is one, whatever it begins with. */
static bool key_of_reference(const struct ask *ask, struct bytes reference, bool is_path, char **memory,
                             struct key *key)
{
    const char *scheme = ask->https ? "https" : "http";
    const char *fragment = reference.n > 0 ? memchr(reference.p, '#', reference.n) : NULL;
    size_t cap = reference.n + ask->authority.n + 16;

    if (fragment != NULL)
        reference.n = (size_t)(fragment - reference.p);
    if (reference.n == 0 || reference.p[0] != '/')
        return key_of_url(ask, reference, memory, key);
    char *url = malloc(cap);
    bool is_network_path = !is_path && reference.n > 1 && reference.p[1] == '/';

    if (url == NULL)
        abort();
    int n = is_network_path ? snprintf(url, cap, "%s:%.*s", scheme, (int)reference.n, reference.p)
                            : snprintf(url, cap, "%s://%.*s%.*s", scheme, (int)ask->authority.n, ask->authority.p,
                                       (int)reference.n, reference.p);
    bool found = key_of_url(ask, (struct bytes){url, (size_t)n}, memory, key);

    free(url);
    return found;
}

bool reference_is_target(const struct ask *ask, struct bytes reference)
{
    struct key key;
    char *memory;
    bool is = key_of_reference(ask, reference, false, &memory, &key) &&
              bytes_eq(key.url, (struct bytes){ask->primary.p, ask->url_n});

    free(memory);
    return is;
}

static void invalidate_reference(const struct ask *ask, struct bytes reference, bool is_path)
{
    struct key key;
    char *memory;

    if (key_of_reference(ask, reference, is_path, &memory, &key)) {
        store_purge_url(ask->worker->store, key.url, false);
        flights_doom_url(ask->worker->shared->flights, key.url);
    }
    free(memory);
}

/* The target, and what the answer names of the same origin (RFC 9111 section 4.4). Before the answer is passed on:
 * whoever has seen it finds nothing older. */
void invalidate(const struct ask *ask, struct fields answer)
{
    invalidate_reference(ask, ask->target, true);
    invalidate_reference(ask, fields_value(answer, BYTES_LIT("location")), false);
    invalidate_reference(ask, fields_value(answer, BYTES_LIT("content-location")), false);
}
