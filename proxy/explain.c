#include "proxy/explain.h"

#include <stdlib.h>

#include "policies/storing.h"
#include "policies/uri.h"
#include "proxy/explain_coding.h"
#include "proxy/identity.h"
#include "proxy/no_vary.h"
#include "proxy/selection.h"
#include "proxy/snapshot.h"
#include "proxy/variant.h"
#include "proxy/vary_marker.h"

static json_t *text(struct bytes b)
{
    json_t *s = json_stringn(b.p == NULL ? "" : b.p, b.n);

    return s != NULL ? s : json_string("(not UTF-8)");
}

static void set(json_t *o, const char *name, json_t *value)
{
    json_object_set_new(o, name, value);
}

static const char *scope_word(enum conf_scope scope)
{
    return scope == CONF_SHARED ? "shared" : scope == CONF_USER ? "user" : "auto";
}

struct asked {
    const struct conf_route *route;
    char *memory;
    struct bytes authority, path;
    struct uri_parts parts;
    struct identity who;
    struct personal personal;
    struct key key;
};

static bool is_visible(struct bytes text)
{
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] < 0x21 || text.p[i] > 0x7e)
            return false;
    return true;
}

static bool normalize(struct asked *a, struct bytes url, const char **why)
{
    size_t n;

    *why = "the URL has a byte that no request line can: spaces, controls and what is not ASCII are written as %XX";
    if (!is_visible(url))
        return false;
    *why = "not an absolute http:// or https:// URL";
    if (!uri_parse(url, &a->parts))
        return false;
    a->memory = malloc(2 * url.n + 2);
    if (a->memory == NULL)
        abort();
    if (!uri_authority_normalize(a->parts.authority, a->parts.https, a->memory, &n))
        return false;
    a->authority = (struct bytes){a->memory, n};
    *why = "the URL's path has an invalid escape or climbs above its root";
    if (!uri_path_normalize(a->parts.path, a->memory + n, &a->path.n))
        return false;
    a->path.p = a->memory + n;
    return true;
}

static json_t *key_json(const struct asked *a, const struct explain_request *q)
{
    const struct key_rules *rules = &a->route->key;
    json_t *key = json_object(), *headers = json_object(), *cookies = json_object();
    size_t query = 0;

    while (query < a->key.target.n && a->key.target.p[query] != '?')
        query++;
    set(key, "scheme", json_string(a->parts.https ? "https" : "http"));
    set(key, "host", text(a->authority));
    set(key, "path", text(a->path));
    set(key, "query",
        query < a->key.target.n ? text((struct bytes){a->key.target.p + query + 1, a->key.target.n - query - 1})
                                : json_null());
    set(key, "scope", json_string(!a->who.user_scope ? "shared" : a->who.known ? "user" : "anonymous user"));
    for (size_t i = 0; i < rules->nheaders; i++) {
        char name[256];

        snprintf(name, sizeof name, "%.*s", (int)rules->headers[i].n, rules->headers[i].p);
        set(headers, name,
            fields_has(q->fields, rules->headers[i]) ? text(fields_value(q->fields, rules->headers[i])) : json_null());
    }
    for (size_t i = 0; i < rules->ncookies; i++) {
        struct bytes value = cookie_value(q->fields, rules->cookies[i]);
        char name[256];

        snprintf(name, sizeof name, "%.*s", (int)rules->cookies[i].n, rules->cookies[i].p);
        set(cookies, name, value.p != NULL ? text(value) : json_null());
    }
    set(key, "headers", headers);
    set(key, "cookies", cookies);
    return key;
}

/* Why the cache is not used, or NULL. */
static const char *why_not_cached(const struct asked *a, struct bytes method)
{
    if (!bytes_eq(method, BYTES_LIT("GET")) && !bytes_eq(method, BYTES_LIT("HEAD")))
        return "the method is passed through";
    if (!a->route->cache)
        return "cache: off";
    if (!a->who.user_scope || !a->who.known) {
        if (a->personal.authorization)
            return "personal (Authorization) on what is shared: only where the origin allows it";
        if (a->personal.cookie)
            return "personal (a cookie) on what is shared: only where the origin states a lifetime";
    }
    return NULL;
}

/* As the backend gets it: where nothing is cached the query goes out as it came. */
static json_t *target_json(const struct asked *a, struct bytes method)
{
    bool keyed = a->route->cache && (bytes_eq(method, BYTES_LIT("GET")) || bytes_eq(method, BYTES_LIT("HEAD")));
    struct bytes path = a->path, query = a->parts.query, prefix = a->route->strip_prefix;
    bool has_query = a->parts.has_query;

    if (keyed) {
        const char *mark = memchr(a->key.target.p, '?', a->key.target.n);

        has_query = mark != NULL;
        query =
            has_query ? (struct bytes){mark + 1, a->key.target.n - (size_t)(mark + 1 - a->key.target.p)} : BYTES_NONE;
    }
    if (prefix.n > 0 && bytes_starts(path, prefix)) {
        path.p += prefix.n;
        path.n -= prefix.n;
    }
    return json_sprintf("%s%.*s%s%.*s", path.n > 0 ? "" : "/", (int)path.n, path.p, has_query ? "?" : "", (int)query.n,
                        has_query ? query.p : "");
}

/* Where it would look first: under the key with its query reduced (no_vary.h). *reduced: that query. */
static struct key reduce(const struct asked *a, struct shared *shared, struct store_thread *store, struct mono_ms now,
                         char *buf, json_t **reduced)
{
    struct bytes query = BYTES_LIT("");

    if (!a->route->no_vary_search)
        return a->key;
    struct key key = no_vary_reduce_by_marker(store, shared->store, &a->key, now, buf);

    if (key.url.p != a->key.url.p) {
        key_url_query(key.url, &query);
        *reduced = text(query);
    }
    return key;
}

/* Also says which fields select among variants, and how many there are. */
static struct stored *find_under(struct bytes primary, const struct asked *a, struct hasher *hasher,
                                 const struct explain_request *q, struct shared *shared, struct store_thread *store,
                                 struct mono_ms now, json_t *out)
{
    struct stored *s = store_acquire(store, store_hash(shared->store, primary), primary, now), *marker = s;

    if (s == NULL || s->head->kind != STORED_VARY)
        return s;
    set(out, "variants_by", text(stored_spec(marker)));
    set(out, "variants", json_integer((json_int_t)variants_count(vary_marker_list(marker))));
    char *buf = malloc(variant_key_bytes_max(primary, stored_spec(marker), q->fields));

    if (buf == NULL)
        abort();
    struct selection selection = {
        .store = shared->store,
        .thread = store,
        .now = now,
        .primary = primary,
        .variant = variant_key(a->route, hasher, primary, stored_spec(marker), q->fields, buf),
        .request = q->fields,
        .own = primary.p != a->key.whole.p ? &a->key : NULL,
    };

    s = store_acquire(store, store_hash(shared->store, selection.variant), selection.variant, now);
    if (s == NULL)
        s = selection_match(&selection, marker);
    stored_release(marker);
    free(buf);
    return s;
}

/* Of what lies under the two keys, what is used (request.c). Takes and gives a reference. */
static struct stored *prefer_own(struct stored *found, const struct asked *a, struct hasher *hasher,
                                 const struct explain_request *q, struct shared *shared, struct store_thread *store,
                                 struct mono_ms now, json_t *out)
{
    json_t *said = json_object();
    struct stored *own = find_under(a->key.whole, a, hasher, q, shared, store, now, said);
    bool preferred = no_vary_prefers_own(own, found);

    if (preferred) {
        set(out, "variants_by", json_null());
        json_object_del(out, "variants");
        json_object_update(out, said);
    }
    json_decref(said);
    stored_release(preferred ? found : own);
    return preferred ? own : found;
}

static struct stored *find(const struct asked *a, struct hasher *hasher, const struct explain_request *q,
                           struct shared *shared, struct store_thread *store, struct mono_ms now, json_t *out)
{
    char *buf = malloc(no_vary_bytes_max(&a->key));
    json_t *query = json_null();

    if (buf == NULL)
        abort();
    struct key key = reduce(a, shared, store, now, buf, &query);
    bool reduced = key.whole.p != a->key.whole.p;
    struct stored *s = find_under(key.whole, a, hasher, q, shared, store, now, out);

    if (reduced && s != NULL && s->head->kind == STORED_RESPONSE &&
        !no_vary_is_for(shared->store, s, &a->key, key.whole)) {
        stored_release(s);
        s = NULL;
    }
    if (reduced)
        s = prefer_own(s, a, hasher, q, shared, store, now, out);
    set(json_object_get(out, "key"), "query_reduced", query);
    free(buf);
    return s;
}

/* How it comes to what is done with it now (RFC 9111 section 4.2). */
static const char *use_word(const struct stored *s, const struct lifetimes *l, int64_t age)
{
    if (atomic_load(&((struct stored *)s)->expired))
        return "stale by a soft purge";
    switch (freshness_reuse(l, age)) {
    case REUSE_FRESH:
        return "served: age < lifetime";
    case REUSE_STALE_WHILE_REVALIDATE:
        return "served stale and refreshed: age < lifetime + stale_while_revalidate";
    default:
        break;
    }
    if (l->revalidate_always)
        return "validated at each use: no-cache";
    if (l->must_revalidate)
        return "validated: age >= lifetime, and must-revalidate, proxy-revalidate or s-maxage allows nothing stale";
    return freshness_stale_if_error(l, age) ? "validated; served stale if the origin fails"
                                            : "validated: age >= lifetime";
}

static json_t *seconds(int64_t ms)
{
    return json_real((double)ms / 1000);
}

static json_t *arithmetic(const struct stored *s, const struct lifetimes *l, int64_t age, struct mono_ms now)
{
    json_t *a = json_object();

    set(a, "lifetime_seconds", seconds(l->fresh_ms));
    set(a, "lifetime_from", json_string(freshness_rule_word((enum lifetime_rule)l->rule)));
    set(a, "age_on_arrival_seconds", seconds(l->initial_age_ms));
    set(a, "time_in_storage_seconds", seconds(mono_since_ms(s->response_time, now)));
    set(a, "stale_while_revalidate_seconds", seconds(l->stale_while_revalidate_ms));
    set(a, "stale_if_error_seconds", seconds(l->stale_if_error_ms));
    set(a, "use", json_string(use_word(s, l, age)));
    return a;
}

static void set_stored(json_t *out, struct stored *s, struct mono_ms now)
{
    bool response = s != NULL && s->head->kind == STORED_RESPONSE;

    set(out, "stored", json_boolean(response));
    if (s != NULL && s->head->kind == STORED_PASS) {
        set(out, "note", json_string("hit-for-miss: the last answer could not be shared"));
        set(out, "not_stored_because", json_string(storing_word((enum storing)s->head->status)));
    }
    if (!response)
        return;
    struct lifetimes lifetimes = stored_lifetimes(s);
    int64_t age = freshness_age_ms(&lifetimes, s->response_time, now);

    set(out, "tier_of_storage", json_string("memory"));
    set(out, "status", json_integer(s->head->status));
    set(out, "age_seconds", json_real((double)age / 1000));
    set(out, "fresh_for_seconds", json_real((double)(lifetimes.fresh_ms - age) / 1000));
    set(out, "useful_for_seconds", json_real((double)(stored_useful_ms(s) - age) / 1000));
    set(out, "freshness", arithmetic(s, &lifetimes, age, now));
}

size_t explain_route(const struct route_index *index, struct bytes method, struct bytes url)
{
    struct asked a = {.memory = NULL};
    const char *why;
    size_t route = normalize(&a, url, &why) ? route_find(index, method, a.authority, a.path) : ROUTE_NONE;

    free(a.memory);
    return route;
}

json_t *explain(const struct conf *conf, const struct route_index *index, const struct explain_request *q,
                struct shared *shared, struct store_thread *store, struct mono_ms now, const char **why)
{
    static const unsigned char no_secret[32];
    struct asked a = {.memory = NULL};
    json_t *out = NULL;
    char name[512];
    size_t i;

    if (!normalize(&a, q->url, why))
        goto free_memory;
    out = json_object();
    set(out, "url", text(q->url));
    set(out, "method", text(q->method));
    i = route_find(index, q->method, a.authority, a.path);
    if (i >= conf->nroutes) {
        set(out, "route", json_null());
        set(out, "answer",
            json_string(i == ROUTE_METHOD ? "405: no route of this path takes this method"
                                          : "404: no route matches this host and path"));
        goto free_memory;
    }
    a.route = &conf->routes[i];
    struct hasher *hasher = hasher_create(shared != NULL ? shared->user_secret : no_secret);

    identity_judge(a.route, q->fields, hasher, &a.who);
    a.personal = personal_judge(&a.route->personal, q->fields);

    struct key_request k = {
        .https = a.parts.https,
        .authority = a.authority,
        .path = a.path,
        .query = a.parts.query,
        .has_query = a.parts.has_query,
        .fields = q->fields,
        .user_scope = a.who.user_scope,
        .user =
            a.who.known && a.who.user_scope ? (struct bytes){(const char *)a.who.hash, USER_HASH_BYTES} : BYTES_NONE,
    };
    char *buf = malloc(key_bytes_max(&a.route->key, &k) + USER_HASH_BYTES);

    if (buf == NULL)
        abort();
    key_build(&a.route->key, &k, buf, &a.key);
    key_seal(&a.route->key, hasher, buf, &a.key);
    snapshot_route_name(a.route, name, sizeof name);
    const char *not_cached = why_not_cached(&a, q->method);

    set(out, "route", json_string(name));
    set(out, "defined", json_sprintf("%s:%u", a.route->mark.file, a.route->mark.line));
    set(out, "backend", json_string(a.route->backend->name));
    set(out, "tier", a.route->ttl != NULL ? json_string(a.route->ttl->tier.name) : json_null());
    set(out, "scope", json_string(scope_word(a.route->scope)));
    set(out, "cache", not_cached == NULL ? json_true() : json_false());
    if (not_cached != NULL)
        set(out, "why", json_string(not_cached));
    set(out, "key", key_json(&a, q));
    set(out, "upstream_target", target_json(&a, q->method));
    struct stored *s = NULL;

    if (store != NULL) {
        set(out, "variants_by", json_null());
        s = find(&a, hasher, q, shared, store, now, out);
        set_stored(out, s, now);
    }
    set(out, "compression",
        explain_coding(a.route, q->fields, a.who.user_scope, not_cached == NULL,
                       s != NULL && s->head->kind == STORED_RESPONSE ? s : NULL));
    stored_release(s);
    hasher_destroy(hasher);
    free(buf);

free_memory:
    free(a.memory);
    return out;
}

static void print_value(const char *indent, const char *name, json_t *value, FILE *to)
{
    char *other;

    if (json_is_string(value))
        fprintf(to, "%s%-16s %s\n", indent, name, json_string_value(value));
    else if (json_is_null(value))
        fprintf(to, "%s%-16s -\n", indent, name);
    else if (json_is_boolean(value))
        fprintf(to, "%s%-16s %s\n", indent, name, json_is_true(value) ? "yes" : "no");
    else {
        other = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        fprintf(to, "%s%-16s %s\n", indent, name, other);
        free(other);
    }
}

void explain_print(json_t *explanation, FILE *to)
{
    const char *name, *inner;
    json_t *value, *part;

    json_object_foreach(explanation, name, value)
    {
        if (!json_is_object(value)) {
            print_value("", name, value, to);
            continue;
        }
        fprintf(to, "%s\n", name);
        json_object_foreach(value, inner, part) if (!json_is_object(part) || json_object_size(part) > 0)
            print_value("  ", inner, part, to);
    }
}
