#include "proxy/invalidate.h"

#include <stdio.h>
#include <stdlib.h>

#include "policies/groups.h"
#include "policies/uri.h"
#include "proxy/no_vary.h"
#include "proxy/redis_purge.h"

static const struct conf_route *route_of(const struct ask *ask, struct bytes authority, struct bytes path)
{
    const struct snapshot *s = ask->hold->snapshot;
    size_t route = route_find(s->index, BYTES_LIT("GET"), authority, path);

    return route < s->conf->nroutes ? s->routes[route].conf : ask->route->conf;
}

struct target {
    struct key key;
    char *memory;                   /* what it lies in, to be freed in any case */
    const struct conf_route *route; /* of a GET */
};

/* An absolute URL of the request's own origin: no other may be invalidated (RFC 9111 section 4.4). */
static bool target_of_url(const struct ask *ask, struct bytes url, struct target *out)
{
    struct uri_parts parts;
    char *buf = out->memory = malloc(5 * url.n + 64), *path = buf + 3 * url.n + 64, *authority = path + url.n;
    size_t path_n, authority_n;

    if (buf == NULL)
        abort();
    if (!uri_parse(url, &parts) || !uri_authority_normalize(parts.authority, parts.https, authority, &authority_n) ||
        parts.https != ask->https || !bytes_eq((struct bytes){authority, authority_n}, ask->authority) ||
        !uri_path_normalize(parts.path, path, &path_n))
        return false;
    out->route = route_of(ask, ask->authority, (struct bytes){path, path_n});
    return key_url_of(&out->route->key, url, buf, &out->key);
}

/* RFC 3986 section 4.1: what begins so is no relative reference. */
static bool has_scheme(struct bytes reference)
{
    size_t n = 0;

    while (n < reference.n && ((ascii_lower(reference.p[n]) >= 'a' && ascii_lower(reference.p[n]) <= 'z') ||
                               (n > 0 && memchr("0123456789+-.", reference.p[n], 13) != NULL)))
        n++;
    return n > 0 && n < reference.n && reference.p[n] == ':';
}

/* What of the target stands before a reference that is resolved against it (RFC 3986 section 5.2.2): nothing, its path,
 * or that up to the last segment. */
static struct bytes base_of(struct bytes target, struct bytes reference)
{
    const char *query = memchr(target.p, '?', target.n), *slash;
    size_t path_n = query != NULL ? (size_t)(query - target.p) : target.n;

    if (reference.p[0] == '/')
        return BYTES_LIT("");
    if (reference.p[0] == '?')
        return (struct bytes){target.p, path_n};
    slash = memrchr(target.p, '/', path_n);
    return (struct bytes){target.p, slash != NULL ? (size_t)(slash - target.p) + 1 : 0};
}

/* A reference as Location and Content-Location have them (RFC 9110 sections 8.7 and 10.2.2), made absolute. is_path: it
 * is one, whatever it begins with. */
static bool target_of_reference(const struct ask *ask, struct bytes reference, bool is_path, struct target *out)
{
    const char *fragment = reference.n > 0 ? memchr(reference.p, '#', reference.n) : NULL;
    struct bytes authority = ask->authority, base;

    if (fragment != NULL)
        reference.n = (size_t)(fragment - reference.p);
    if (reference.n == 0 || (!is_path && has_scheme(reference)))
        return target_of_url(ask, reference, out);
    base = base_of(ask->target, reference);
    if (!is_path && bytes_starts(reference, BYTES_LIT("//"))) {
        authority = BYTES_LIT("");
        reference = (struct bytes){reference.p + 2, reference.n - 2};
    }
    size_t cap = authority.n + base.n + reference.n + 16;
    char *url = malloc(cap);

    if (url == NULL)
        abort();
    int n = snprintf(url, cap, "%s://%.*s%.*s%.*s", ask->https ? "https" : "http", (int)authority.n, authority.p,
                     (int)base.n, base.p, (int)reference.n, reference.p);
    bool found = target_of_url(ask, (struct bytes){url, (size_t)n}, out);

    free(url);
    return found;
}

bool reference_is_target(const struct ask *ask, struct bytes reference)
{
    struct target target;
    bool is = target_of_reference(ask, reference, false, &target) &&
              bytes_eq(target.key.url, (struct bytes){ask->primary.p, ask->url_n});

    free(target.memory);
    return is;
}

/* Also what lies under the key that its query is reduced to (draft-ietf-httpbis-no-vary-search-05 section 7). */
static void invalidate_reduced(const struct ask *ask, const struct target *target)
{
    struct worker *w = ask->worker;

    if (!target->route->no_vary_search)
        return;
    char *buf = malloc(no_vary_bytes_max(&target->key));

    if (buf == NULL)
        abort();
    struct key key = no_vary_reduce_by_marker(w->store, w->shared->store, &target->key, loop_now(w->loop), buf);

    if (key.url.p != target->key.url.p) {
        redis_purge_url(w->shared->redis, key.url);
        store_purge_url(w->store, key.url, false);
        flights_doom_url(w->shared->flights, key.url);
    }
    free(buf);
}

/* RFC 9111 section 4.4: the target in any case. */
static void invalidate_target(const struct ask *ask, uint64_t *born)
{
    struct target target;

    if (target_of_reference(ask, ask->target, true, &target)) {
        redis_purge_url(ask->worker->shared->redis, target.key.url);
        store_purge_target(ask->worker->store, target.key.url, born);
        flights_doom_url(ask->worker->shared->flights, target.key.url);
        invalidate_reduced(ask, &target);
    }
    free(target.memory);
}

/* RFC 9111 section 4.4: what Location and Content-Location name. */
static void invalidate_reference(const struct ask *ask, struct bytes reference)
{
    struct target target;

    if (target_of_reference(ask, reference, false, &target) &&
        !bytes_eq(target.key.url, (struct bytes){ask->primary.p, ask->url_n})) {
        redis_purge_url(ask->worker->shared->redis, target.key.url);
        store_purge_url(ask->worker->store, target.key.url, false);
        flights_doom_url(ask->worker->shared->flights, target.key.url);
        invalidate_reduced(ask, &target);
    }
    free(target.memory);
}

/* Those of the target's origin alone; a group that goes takes no others with it (RFC 9875 sections 2.2.1 and 3). */
static void invalidate_groups(const struct ask *ask, struct fields answer)
{
    struct worker *w = ask->worker;
    struct groups groups = groups_of(answer, GROUPS_INVALIDATION);
    char buf[GROUP_BYTES_MAX];
    struct bytes group;

    while (groups_next(&groups, buf, &group)) {
        struct tag_target target =
            tag_target_group(w->shared->store, (struct bytes){ask->primary.p, ask->url_n}, group);

        redis_purge_all(w->shared->redis);
        store_purge_tag(w->store, &target, false);
        flights_doom_tag(w->shared->flights, &target);
    }
}

void invalidate(const struct ask *ask, struct fields answer, uint64_t *born)
{
    invalidate_target(ask, born);
    invalidate_reference(ask, fields_value(answer, BYTES_LIT("location")));
    invalidate_reference(ask, fields_value(answer, BYTES_LIT("content-location")));
    invalidate_groups(ask, answer);
}
