#include "proxy/fill.h"

#include <assert.h>
#include <stdlib.h>

#include "policies/conditional.h"
#include "policies/forward.h"
#include "policies/http_date.h"
#include "policies/storing.h"
#include "policies/uri.h"
#include "policies/vary.h"
#include "proxy/respond.h"
#include "proxy/variant.h"

enum {
    PASS_MS = 120 * 1000,       /* hit-for-miss: how long nobody waits for a key whose answers cannot be shared */
    VARY_MARKER_MS = INT32_MAX, /* 24 days: a marker lost too early costs fetches */
    WINDOW = 1024 * 1024, /* of a body that is passed through: so far may the origin be ahead of the fastest reader */
    VALIDATE_MS = 3600 * 1000, /* stale responses are kept so much longer for their validators */
    HOLD_DOWN_MS = 1000,       /* after a failed refresh, doubled each time */
    HOLD_DOWN_MAX_MS = 30 * 1000,
    FIELDS_MAX = 256, /* of an answer */
};

struct fill {
    struct worker *worker;
    struct fill *next, *prev; /* the worker's list */
    struct flight *flight;
    struct fetch *fetch;
    struct hold *hold;
    const struct snapshot_route *route;
    bool cacheable, https, user_scope, personal_authorization, personal_cookie, unsafe, head;
    bool alone;      /* nobody can join: the answer is its one waiter's, though it may be stored */
    bool validating; /* our validators went out with the request */
    bool kept;       /* the body stays whole */
    bool storing;    /* ... and is to be stored */
    struct stored *stale;
    struct stored *response; /* the flight's; borrowed */
    struct bytes method, authority, target;
    struct fields request; /* for Vary; copied */
    struct bytes primary;  /* the key without what the answer varies on */
    struct key_hash primary_hash;
    size_t url_n;
    uint64_t produced;
    struct mono_ms sent;
    struct wall_s sent_wall;
    uint64_t sent_us;
    char *memory; /* what the copies lie in */
};

static uint64_t clock_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void link_fill(struct fill *fill)
{
    fill->next = fill->worker->fills;
    if (fill->next != NULL)
        fill->next->prev = fill;
    fill->worker->fills = fill;
}

static void unlink_fill(struct fill *fill)
{
    if (fill->prev != NULL)
        fill->prev->next = fill->next;
    else
        fill->worker->fills = fill->next;
    if (fill->next != NULL)
        fill->next->prev = fill->prev;
}

static void fill_free(struct fill *fill)
{
    unlink_fill(fill);
    stored_release(fill->stale);
    hold_drop(fill->hold);
    free(fill->memory);
    free(fill);
}

/* --- the request that goes out --- */

struct outgoing {
    struct field v[FIELDS_MAX];
    size_t n;
};

static void add_field(struct outgoing *out, struct bytes name, struct bytes value)
{
    if (out->n < FIELDS_MAX)
        out->v[out->n++] = (struct field){name, NULL, value};
}

static bool is_one_of(struct bytes name, const struct bytes *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes_eq(name, names[i]))
            return true;
    return false;
}

/* weir's own business, or written anew below. */
static bool is_rewritten(struct bytes name)
{
    static const struct bytes names[] = {
        BYTES_LIT("host"),
        BYTES_LIT("content-length"),
        BYTES_LIT("via"),
        BYTES_LIT("forwarded"),
        BYTES_LIT("x-forwarded-for"),
        BYTES_LIT("x-forwarded-proto"),
        BYTES_LIT("x-forwarded-host"),
        BYTES_LIT("expect"),
    };
    return is_one_of(name, names, sizeof names / sizeof names[0]);
}

/* One client's conditions and ranges have no place in a request whose answer others get. */
static bool is_selective(struct bytes name)
{
    static const struct bytes names[] = {
        BYTES_LIT("if-none-match"),       BYTES_LIT("if-modified-since"), BYTES_LIT("if-match"),
        BYTES_LIT("if-unmodified-since"), BYTES_LIT("if-range"),          BYTES_LIT("range"),
    };
    return is_one_of(name, names, sizeof names / sizeof names[0]);
}

/* Overrides of method, host or path that an origin may heed and the key does not hold: what is stored must not depend
 * on them (cache poisoning). */
static bool is_unkeyed_override(struct bytes name)
{
    static const struct bytes names[] = {
        BYTES_LIT("x-http-method-override"),
        BYTES_LIT("x-http-method"),
        BYTES_LIT("x-method-override"),
        BYTES_LIT("x-original-url"),
        BYTES_LIT("x-rewrite-url"),
        BYTES_LIT("x-original-host"),
        BYTES_LIT("x-host"),
        BYTES_LIT("x-forwarded-server"),
        BYTES_LIT("x-forwarded-port"),
        BYTES_LIT("x-forwarded-prefix"),
        BYTES_LIT("x-forwarded-scheme"),
        BYTES_LIT("x-forwarded-path"),
    };
    return is_one_of(name, names, sizeof names / sizeof names[0]);
}

/* All lines of a list field in the request, then one member more. */
static struct bytes append_member(h2o_mem_pool_t *pool, struct fields request, struct bytes name, struct bytes member)
{
    size_t n = member.n;

    for (size_t i = fields_find(request, name, 0); i < request.n; i = fields_find(request, name, i + 1))
        n += request.v[i].value.n + 2;
    char *text = h2o_mem_alloc_pool(pool, n), *p = text;

    for (size_t i = fields_find(request, name, 0); i < request.n; i = fields_find(request, name, i + 1)) {
        if (request.v[i].value.n == 0)
            continue;
        memcpy(p, request.v[i].value.p, request.v[i].value.n);
        p += request.v[i].value.n;
        *p++ = ',';
        *p++ = ' ';
    }
    memcpy(p, member.p, member.n);
    return (struct bytes){text, (size_t)(p - text) + member.n};
}

static struct bytes forwarded_member(struct request *r, struct bytes peer)
{
    char node[64];
    size_t node_n = forward_node(peer, node), cap = node_n + r->in.authority.n + 32;
    char *text = h2o_mem_alloc_pool(&r->req->pool, cap);
    int n = snprintf(text, cap, "for=%.*s;host=\"%.*s\";proto=%s", (int)node_n, node, (int)r->in.authority.n,
                     r->in.authority.p, r->in.https ? "https" : "http");

    return (struct bytes){text, (size_t)n};
}

static void add_proxy_fields(struct request *r, struct outgoing *out)
{
    h2o_mem_pool_t *pool = &r->req->pool;
    struct fields in = r->in.fields;
    char *text = h2o_mem_alloc_pool(pool, 64);
    struct bytes peer = {text, connection_peer(r->req, text)};

    add_field(out, BYTES_LIT("via"),
              append_member(pool, in, BYTES_LIT("via"), r->in.http2 ? BYTES_LIT("2 weir") : BYTES_LIT("1.1 weir")));
    add_field(out, BYTES_LIT("x-forwarded-for"), append_member(pool, in, BYTES_LIT("x-forwarded-for"), peer));
    add_field(out, BYTES_LIT("x-forwarded-proto"), r->in.https ? BYTES_LIT("https") : BYTES_LIT("http"));
    add_field(out, BYTES_LIT("x-forwarded-host"), r->in.authority);
    add_field(out, BYTES_LIT("forwarded"), append_member(pool, in, BYTES_LIT("forwarded"), forwarded_member(r, peer)));
}

static void collect(struct request *r, struct fill *fill, struct outgoing *out)
{
    for (size_t i = 0; i < r->in.fields.n; i++) {
        const struct field *f = &r->in.fields.v[i];

        if (is_rewritten(f->name) || forward_is_hop_by_hop(f->name, r->in.fields) ||
            (fill->cacheable && is_unkeyed_override(f->name)) ||
            (fill->cacheable && !fill->alone && is_selective(f->name)))
            continue;
        if (out->n < FIELDS_MAX)
            out->v[out->n++] = *f;
    }
    add_proxy_fields(r, out);
    if (fill->validating) {
        struct fields stale = stored_fields(fill->stale);
        struct bytes etag = fields_value(stale, BYTES_LIT("etag"));
        struct bytes modified = fields_value(stale, BYTES_LIT("last-modified"));

        if (etag.n > 0)
            add_field(out, BYTES_LIT("if-none-match"), etag);
        if (modified.n > 0)
            add_field(out, BYTES_LIT("if-modified-since"), modified);
    }
}

/* --- copies of the request, which may be gone before its answer comes --- */

static struct bytes copy(char **to, struct bytes what)
{
    struct bytes copied = {*to, what.n};

    memcpy(*to, what.p, what.n);
    *to += what.n;
    return copied;
}

static void copy_request(struct fill *fill, struct request *r)
{
    struct fields in = r->in.fields;
    size_t n = in.n * sizeof(struct field) + r->in.method.n + r->in.authority.n + r->key.target.n + r->key.whole.n;

    for (size_t i = 0; i < in.n; i++)
        n += in.v[i].name.n + in.v[i].value.n;
    fill->memory = malloc(n);
    if (fill->memory == NULL)
        abort();
    struct field *fields = (struct field *)fill->memory;
    char *text = (char *)(fields + in.n);

    for (size_t i = 0; i < in.n; i++) {
        struct bytes name = copy(&text, in.v[i].name);

        fields[i] = (struct field){name, NULL, copy(&text, in.v[i].value)};
    }
    fill->request = (struct fields){fields, in.n};
    fill->method = copy(&text, r->in.method);
    fill->authority = copy(&text, r->in.authority);
    fill->target = copy(&text, r->key.target);
    fill->primary = copy(&text, r->key.whole);
    fill->primary_hash = r->hash;
    fill->url_n = r->key.url.n;
}

/* --- outcomes --- */

static void tell_and_end(struct fill *fill, enum flight_state state)
{
    struct flight *f = fill->flight;

    flight_close(f);
    flight_tell(f, state);
    flight_end(f);
    fill_free(fill);
}

/* One failure holds back the next tries, for everybody who has this stale response. */
static void hold_down(struct fill *fill, int64_t at_least_ms)
{
    struct prepared *p = prepared_of(fill->stale);
    unsigned failures = atomic_fetch_add(&p->refresh_failures, 1);
    int64_t delay = HOLD_DOWN_MS << (failures < 5 ? failures : 5);

    delay = delay < HOLD_DOWN_MAX_MS ? delay : HOLD_DOWN_MAX_MS;
    delay = delay > at_least_ms ? delay : at_least_ms;
    atomic_store(&p->refresh_after_ms, loop_now(fill->worker->loop).ms + delay);
}

static void fail(struct fill *fill, int failure, int status)
{
    if (fill->stale != NULL)
        hold_down(fill, 0);
    fill->flight->failure = failure;
    fill->flight->failure_status = status;
    tell_and_end(fill, FLIGHT_FAILED);
}

static const struct key_rules *rules_of(struct fill *fill, struct bytes authority, struct bytes path)
{
    const struct snapshot *s = fill->hold->snapshot;
    size_t route = route_find(s->index, BYTES_LIT("GET"), authority, path);

    return route < s->conf->nroutes ? &s->routes[route].conf->key : &fill->route->conf->key;
}

static void invalidate_url(struct fill *fill, struct bytes url)
{
    struct uri_parts parts;
    char *memory = malloc(5 * url.n + 64), *path = memory + 3 * url.n + 64, *authority = path + url.n;
    size_t path_n, authority_n;
    struct key key;

    if (memory == NULL)
        abort();
    if (uri_parse(url, &parts) && uri_authority_normalize(parts.authority, parts.https, authority, &authority_n) &&
        parts.https == fill->https && bytes_eq((struct bytes){authority, authority_n}, fill->authority) &&
        uri_path_normalize(parts.path, path, &path_n) &&
        key_url_of(rules_of(fill, fill->authority, (struct bytes){path, path_n}), url, memory, &key)) {
        store_purge_url(fill->worker->store, key.url, false);
        flights_doom_url(fill->worker->shared->flights, key.url);
    }
    free(memory);
}

/* A reference as Location and Content-Location have them, made absolute: with a scheme, or with an absolute path.
 * Others (relative paths, which hardly occur there) are left alone. */
static void invalidate_reference(struct fill *fill, struct bytes reference)
{
    const char *scheme = fill->https ? "https" : "http";
    size_t cap = reference.n + fill->authority.n + 16;
    char *url;
    int n;

    const char *fragment = reference.n > 0 ? memchr(reference.p, '#', reference.n) : NULL;

    if (fragment != NULL)
        reference.n = (size_t)(fragment - reference.p);
    if (reference.n == 0)
        return;
    if (reference.p[0] != '/') {
        invalidate_url(fill, reference);
        return;
    }
    url = malloc(cap);
    if (url == NULL)
        abort();
    n = reference.n > 1 && reference.p[1] == '/' ? snprintf(url, cap, "%s:%.*s", scheme, (int)reference.n, reference.p)
                                                 : snprintf(url, cap, "%s://%.*s%.*s", scheme, (int)fill->authority.n,
                                                            fill->authority.p, (int)reference.n, reference.p);
    invalidate_url(fill, (struct bytes){url, (size_t)n});
    free(url);
}

/* The target, and what the answer names of the same origin (RFC 9111 section 4.4). Before the answer is passed on:
 * whoever has seen it finds nothing older. */
static void invalidate(struct fill *fill, struct fields answer)
{
    invalidate_reference(fill, fill->target);
    invalidate_reference(fill, fields_value(answer, BYTES_LIT("location")));
    invalidate_reference(fill, fields_value(answer, BYTES_LIT("content-location")));
}

/* --- the answer's head --- */

/* End-to-end fields, without those that weir writes itself. Returns how many. */
static size_t end_to_end(struct fields in, struct field out[FIELDS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < in.n && n < FIELDS_MAX; i++) {
        struct bytes name = in.v[i].name;

        if (forward_is_hop_by_hop(name, in) || bytes_eq(name, BYTES_LIT("content-length")))
            continue;
        out[n++] = in.v[i];
    }
    return n;
}

/* What is stored has its age reckoned anew for each answer (RFC 9111 section 4.2.3). */
static size_t without_age(struct field *fields, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        if (!bytes_eq(fields[i].name, BYTES_LIT("age")))
            fields[kept++] = fields[i];
    return kept;
}

static struct wall_s date_of(struct fields fields, struct wall_s now)
{
    struct wall_s date;

    return http_date_parse(fields_value(fields, BYTES_LIT("date")), now, &date) ? date : now;
}

struct answer {
    int status;
    struct fields fields; /* end to end */
    struct cache_control cc;
    struct lifetimes lifetimes;
    enum storing storing;
    struct wall_s date;
    int64_t content_length;
    bool respec; /* the marker under the primary key is missing or says something else */
    char spec[VARY_SPEC_MAX];
    size_t spec_n;
    struct bytes key; /* under which it is stored */
    struct key_hash hash;
    char *key_memory;
};

static struct lifetimes lifetimes_of(struct fill *fill, int status, struct fields fields,
                                     const struct cache_control *cc)
{
    const struct conf_route *route = fill->route->conf;
    struct mono_ms now = loop_now(fill->worker->loop);

    struct lifetimes l = freshness_of(&(struct freshness_facts){
        .status = status,
        .fields = fields,
        .cc = cc,
        .tier = route->ttl != NULL ? &route->ttl->tier : NULL,
        .ignore_origin = route->ignore_origin,
        .user_scope = fill->user_scope,
        .request_time = fill->sent_wall,
        .response_time = loop_wall(fill->worker->loop),
        .response_delay_ms = mono_since_ms(fill->sent, now),
        .random = (uint32_t)worker_random(fill->worker),
    });

    /* The fields that no-cache="..." lists must not be reused without validation (RFC 9111 section 5.2.2.4); neither is
     * the rest. */
    if (cc->no_cache_qualified && !route->ignore_origin)
        l.revalidate_always = true;
    return l;
}

static bool has_validator(struct fields f)
{
    return fields_has(f, BYTES_LIT("etag")) || fields_has(f, BYTES_LIT("last-modified"));
}

/* Past its windows a response that can be validated still saves a body. */
static int64_t useful_ms_of(const struct answer *a)
{
    int64_t useful = freshness_useful_ms(&a->lifetimes);

    return has_validator(a->fields) && useful < INT64_MAX - VALIDATE_MS ? useful + VALIDATE_MS : useful;
}

static void decide(struct fill *fill, struct answer *a)
{
    const struct conf *conf = fill->hold->snapshot->conf;

    if (!fill->cacheable) {
        a->storing = STORING_OFF;
        return;
    }
    a->storing = storing_decide(&(struct storing_facts){
        .method = fill->method,
        .status = a->status,
        .fields = a->fields,
        .cc = &a->cc,
        .lifetimes = &a->lifetimes,
        .ignore_origin = fill->route->conf->ignore_origin,
        .user_scope = fill->user_scope,
        .has_authorization = fill->personal_authorization,
        .has_personal_cookie = fill->personal_cookie,
    });
    if (a->storing == STORING_OK && a->content_length > (int64_t)conf->memory_object_bytes_max)
        a->storing = STORING_TOO_LARGE;
}

/* The answer names nothing that the marker does not name already (many an error page has no Vary at all): the marker
 * stays, which costs hits at most. A spec that names something else takes its place (RFC 9111 section 4.1: the newest
 * counts). */
static void keep_spec(struct answer *a, struct bytes marker)
{
    char text[2 * VARY_SPEC_MAX + 1], united[VARY_SPEC_MAX];
    struct field vary = {BYTES_LIT("vary"), NULL, {text, 0}};
    size_t n = a->spec_n, united_n;

    if (n > 0) {
        memcpy(text, a->spec, n);
        text[n++] = ',';
    }
    memcpy(text + n, marker.p, marker.n);
    vary.value.n = n + marker.n;
    if (vary_spec_of((struct fields){&vary, 1}, united, &united_n) == VARY_SOME &&
        bytes_eq((struct bytes){united, united_n}, marker)) {
        memcpy(a->spec, marker.p, marker.n);
        a->spec_n = marker.n;
    }
}

/* Under which key: the primary one, or with the values of the fields that the answer varies on. */
static void choose_key(struct fill *fill, struct answer *a)
{
    struct worker *w = fill->worker;
    struct stored *marker;

    a->spec_n = 0;
    a->key = fill->primary;
    a->hash = fill->primary_hash;
    if (vary_spec_of(a->fields, a->spec, &a->spec_n) == VARY_STAR && a->storing == STORING_OK)
        a->storing = STORING_VARY_STAR;
    if (a->storing != STORING_OK)
        return;
    marker = store_acquire(w->store, fill->primary_hash, fill->primary, loop_now(w->loop));
    if (marker != NULL && marker->kind == STORED_VARY) {
        keep_spec(a, marker->spec);
        a->respec = !bytes_eq(marker->spec, (struct bytes){a->spec, a->spec_n});
    } else
        a->respec = true;
    stored_release(marker);
    if (a->spec_n == 0 || a->storing != STORING_OK)
        return;
    struct bytes spec = {a->spec, a->spec_n};

    a->key_memory = malloc(variant_key_bytes_max(fill->primary, spec, fill->request));
    if (a->key_memory == NULL)
        abort();
    a->key = variant_key(fill->route->conf, w->hasher, fill->primary, spec, fill->request, a->key_memory);
    a->hash = store_hash(w->shared->store, a->key);
}

static struct stored_options options_for(struct fill *fill, const struct answer *a)
{
    return (struct stored_options){
        .kind = STORED_RESPONSE,
        .hash = a->hash,
        .key = a->key,
        .key_url_n = fill->url_n,
        .user_scope = fill->user_scope,
        .with_authorization = storing_usable_with_authorization(&a->cc),
        .with_cookie = storing_usable_with_cookie(&a->lifetimes),
        .status = a->status,
        .fields = a->fields,
        .prepared_bytes = prepared_bytes(a->fields.n),
        .lifetimes = a->lifetimes,
        .response_time = loop_now(fill->worker->loop),
        .useful_ms = useful_ms_of(a),
        .born = fill->flight->born,
        .content_length = fill->head ? 0 : a->content_length,
    };
}

/* A key may hold, in place of a response, a word to those who come next. Losing it costs them a round, no more. */
static void put_marker(struct fill *fill, enum stored_kind kind, struct bytes key, struct key_hash hash,
                       struct bytes spec, int64_t useful_ms)
{
    struct mono_ms now = loop_now(fill->worker->loop);
    struct stored *marker = stored_create(fill->worker->store,
                                          &(struct stored_options){
                                              .kind = kind,
                                              .hash = hash,
                                              .key = key,
                                              .key_url_n = fill->url_n,
                                              .user_scope = fill->user_scope,
                                              .spec = spec,
                                              .response_time = now,
                                              .useful_ms = useful_ms,
                                              .born = fill->flight->born,
                                          },
                                          now);

    if (marker == NULL)
        return;
    stored_finish_body(marker, BODY_COMPLETE);
    if (!store_put(fill->worker->store, marker, now))
        log_event(fill->worker->shared->log, CONF_LOG_DEBUG, "a marker was not stored");
    stored_release(marker);
}

/* Others are sent to the variant's key by a marker under the primary one. The marker comes last: whoever
 * reads it finds the flight there. False: no memory. */
static bool nominate(struct fill *fill, const struct answer *a)
{
    struct flight *f = fill->flight;

    if (a->spec_n == 0)
        return true;
    char *spec = malloc(a->spec_n);

    if (spec == NULL)
        return false;
    memcpy(spec, a->spec, a->spec_n);
    f->spec = (struct bytes){spec, a->spec_n};
    if (!bytes_eq(f->entries[0].key, a->key) && !flight_add_variant(f, a->hash, a->key))
        return false;
    if (a->respec)
        put_marker(fill, STORED_VARY, fill->primary, fill->primary_hash, f->spec, VARY_MARKER_MS);
    return true;
}

static bool is_gateway_error(int status)
{
    return status == 500 || status == 502 || status == 503 || status == 504;
}

static bool may_stand_in(struct fill *fill)
{
    struct stored *s = fill->stale;

    return s != NULL && freshness_stale_if_error(&s->lifetimes, freshness_age_ms(&s->lifetimes, s->response_time,
                                                                                 loop_now(fill->worker->loop)));
}

/* No prohibition, only nothing to keep: those who wait for a failing origin get its error too, instead of asking it one
 * by one. */
static bool may_share_unstored(const struct fill *fill, const struct answer *a)
{
    return !fill->alone && a->status >= 500 && a->storing == STORING_STATUS;
}

static void discard_body(struct fill *fill)
{
    pthread_mutex_lock(&fill->flight->body);
    stored_discard_body(fill->response);
    pthread_mutex_unlock(&fill->flight->body);
    fill->kept = fill->storing = false;
}

/* The client that asked has gone and nobody else may have this answer. */
static bool end_if_abandoned(struct fill *fill)
{
    if (fill->kept || atomic_load(&fill->flight->waiters) > 0)
        return false;
    fetch_cancel(fill->fetch);
    stored_finish_body(fill->response, BODY_BROKEN);
    flight_end(fill->flight);
    fill_free(fill);
    return true;
}

static void give_to_leader(struct fill *fill)
{
    struct flight *f = fill->flight;

    if (!fill->alone)
        put_marker(fill, STORED_PASS, f->entries[0].key, f->entries[0].hash, BYTES_NONE, PASS_MS);
    flight_close(f);
    flight_tell(f, FLIGHT_LEADER); /* the leader, in this thread, starts to read in here */
    if (!fill->kept) {
        discard_body(fill);
        end_if_abandoned(fill);
    }
}

static void publish(struct fill *fill, const struct answer *a, struct stored *response)
{
    struct flight *f = fill->flight;

    response->content_length = a->content_length;
    prepared_fill(response, a->date);
    f->response = response;
    f->answer_key = f->entries[0].key;
    f->note = (int)a->storing;
    fill->response = response;
    fill->storing = a->storing == STORING_OK && nominate(fill, a);
    fill->kept = fill->storing || may_share_unstored(fill, a);
    if (fill->alone || !fill->kept) {
        give_to_leader(fill);
        return;
    }
    if (!fill->storing)
        flight_close(f);
    flight_tell(f, FLIGHT_SHARED);
}

/* --- validation --- */

/* The fields of a 304 take the place of the stored ones, but for those that describe the body that is kept (RFC 9111
 * section 3.2). */
static bool describes_body(struct bytes name)
{
    static const struct bytes names[] = {BYTES_LIT("content-encoding"), BYTES_LIT("content-type"),
                                         BYTES_LIT("content-range")};
    return is_one_of(name, names, sizeof names / sizeof names[0]);
}

static size_t merge_fields(struct fields stored, struct fields update, struct field out[FIELDS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < stored.n && n < FIELDS_MAX; i++) {
        struct bytes name = stored.v[i].name;

        /* an old Date would make what has just been confirmed look old */
        if (describes_body(name) || (!fields_has(update, name) && !bytes_eq(name, BYTES_LIT("date"))))
            out[n++] = stored.v[i];
    }
    for (size_t i = 0; i < update.n && n < FIELDS_MAX; i++)
        if (!describes_body(update.v[i].name))
            out[n++] = update.v[i];
    return n;
}

static struct bytes without_weakness(struct bytes etag)
{
    return bytes_starts(etag, BYTES_LIT("W/")) ? (struct bytes){etag.p + 2, etag.n - 2} : etag;
}

/* A 304 that names another validator than was asked about speaks of a response that is not here. */
static bool confirms(struct fields not_modified, struct fields stored)
{
    struct bytes theirs = fields_value(not_modified, BYTES_LIT("etag")), ours = fields_value(stored, BYTES_LIT("etag"));

    return theirs.n == 0 || ours.n == 0 || bytes_eq(without_weakness(theirs), without_weakness(ours));
}

static void put_response(struct fill *fill)
{
    struct worker *w = fill->worker;

    if (fill->storing && !atomic_load(&fill->flight->doomed) && !store_put(w->store, fill->response, loop_now(w->loop)))
        log_event(w->shared->log, CONF_LOG_DEBUG, "a response was not stored: purged meanwhile, or no room");
}

static void freshen(struct fill *fill, struct answer *a)
{
    struct worker *w = fill->worker;
    struct stored_options options = options_for(fill, a);
    struct stored *response = stored_create_freshened(w->store, &options, fill->stale, loop_now(w->loop));

    fetch_cancel(fill->fetch); /* a 304 has no body: there is nothing left to wait for */
    if (response == NULL) {
        fail(fill, FILL_NO_ROOM, 0);
        return;
    }
    a->content_length = response->content_length;
    fill->flight->validated = true;
    fill->kept = true;
    prepared_fill(response, a->date);
    fill->flight->response = fill->response = response;
    fill->flight->answer_key = fill->flight->entries[0].key;
    fill->flight->note = (int)a->storing;
    fill->storing = a->storing == STORING_OK && nominate(fill, a);
    if (fill->storing)
        put_response(fill);
    else
        store_remove(w->store, fill->stale);
    tell_and_end(fill, FLIGHT_SHARED);
}

static void decline(struct fill *fill)
{
    fetch_cancel(fill->fetch);
    store_remove(fill->worker->store, fill->stale);
    tell_and_end(fill, FLIGHT_DECLINED);
}

/* --- callbacks of the fetch --- */

static int64_t retry_after_ms(struct fields fields)
{
    struct bytes text = fields_value(fields, BYTES_LIT("retry-after"));
    int64_t s = 0;

    for (size_t i = 0; i < text.n && i < 6; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return 0;
        s = s * 10 + (text.p[i] - '0');
    }
    return s * 1000;
}

static void on_head(struct fetch *fetch, void *data, int status, struct fields fields, int64_t content_length)
{
    struct fill *fill = data;
    struct worker *w = fill->worker;
    struct field own[FIELDS_MAX], merged[FIELDS_MAX];
    struct answer a = {.status = status, .content_length = content_length};

    (void)fetch;
    histogram_add(&fill->route->counters->threads[w->index].origin, clock_us() - fill->sent_us);
    if (fill->unsafe && status >= 200 && status < 400)
        invalidate(fill, fields);
    if (is_gateway_error(status) && may_stand_in(fill)) {
        hold_down(fill, retry_after_ms(fields));
        fill->flight->failure = FILL_ORIGIN_ERROR;
        fill->flight->failure_status = status;
        fetch_cancel(fill->fetch);
        tell_and_end(fill, FLIGHT_FAILED);
        return;
    }
    bool validated = fill->validating && status == 304;

    if (validated && !confirms(fields, stored_fields(fill->stale))) {
        decline(fill);
        return;
    }
    a.fields = (struct fields){own, end_to_end(fields, own)};
    if (validated) {
        a.status = fill->stale->status;
        a.fields = (struct fields){merged, merge_fields(stored_fields(fill->stale), a.fields, merged)};
    }
    a.date = date_of(a.fields, loop_wall(w->loop));
    a.cc = cache_control_parse(a.fields);
    a.lifetimes = lifetimes_of(fill, a.status, a.fields, &a.cc);
    decide(fill, &a);
    choose_key(fill, &a);
    if (a.storing == STORING_OK)
        a.fields.n = without_age((struct field *)a.fields.v, a.fields.n);
    if (validated)
        freshen(fill, &a);
    else {
        struct stored_options options = options_for(fill, &a);
        struct stored *response = stored_create(w->store, &options, loop_now(w->loop));

        if (response != NULL)
            publish(fill, &a, response);
        else {
            fetch_cancel(fill->fetch);
            fail(fill, FILL_NO_ROOM, 0);
        }
    }
    free(a.key_memory);
}

/* What turns out too large to be kept is passed through: those who wait go on, the next ones do not join. */
static void keep_no_longer(struct fill *fill)
{
    struct flight *f = fill->flight;

    if (!fill->alone)
        put_marker(fill, STORED_PASS, f->answer_key, store_hash(fill->worker->shared->store, f->answer_key), BYTES_NONE,
                   PASS_MS);
    flight_close(f);
    discard_body(fill);
}

/* Nobody holds the origin up but the fastest reader; one that is too far behind is cut off instead of filling memory.
 */
static bool must_pause(struct fill *fill)
{
    struct flight *f = fill->flight;
    size_t lag_max = fill->hold->snapshot->conf->memory_object_bytes_max;

    if (stored_body_bytes(fill->response) > lag_max && fill->produced > lag_max / 2)
        atomic_store(&f->cut_below, fill->produced - lag_max / 2);
    if (fill->produced < atomic_load(&f->consumed) + WINDOW)
        return false;
    atomic_store(&f->paused, true);
    /* a reader that has come on meanwhile may have missed the flag */
    if (fill->produced >= atomic_load(&f->consumed) + WINDOW)
        return true;
    atomic_store(&f->paused, false);
    return false;
}

static bool append(struct fill *fill, struct bytes piece)
{
    return stored_append(fill->worker->store, fill->response, piece, loop_now(fill->worker->loop));
}

static bool on_body(struct fetch *fetch, void *data, struct bytes piece)
{
    struct fill *fill = data;
    bool appended = false;

    (void)fetch;
    if (fill->kept) {
        bool fits = fill->produced + piece.n <= fill->hold->snapshot->conf->memory_object_bytes_max;

        appended = fits && append(fill, piece);
        if (!appended)
            keep_no_longer(fill);
        if (end_if_abandoned(fill))
            return true;
    }
    if (!appended && must_pause(fill))
        return false;
    if (!appended && !append(fill, piece)) {
        /* until readers have taken more of it (flight_consumed); one that just did may have missed the flag */
        atomic_store(&fill->flight->paused, true);
        if (!append(fill, piece))
            return false;
        atomic_store(&fill->flight->paused, false);
    }
    fill->produced += piece.n;
    flight_tell_body(fill->flight);
    return true;
}

static void on_done(struct fetch *fetch, void *data, enum fetch_end end)
{
    struct fill *fill = data;
    struct flight *f = fill->flight;

    (void)fetch;
    if (fill->response == NULL) {
        fail(fill, (int)end, 0);
        return;
    }
    if (end == FETCH_OK) {
        stored_finish_body(fill->response, BODY_COMPLETE);
        put_response(fill);
    } else {
        stored_finish_body(fill->response, BODY_BROKEN);
        log_event(fill->worker->shared->log, CONF_LOG_WARN, "origin answer broken off: %s after %llu bytes, %.*s",
                  fetch_end_word(end), (unsigned long long)fill->produced, (int)fill->target.n, fill->target.p);
    }
    /* stored before it is closed: whoever comes in between finds one or the other */
    flight_close(f);
    flight_tell_body(f);
    flight_end(f);
    fill_free(fill);
}

static void on_sent(struct fetch *fetch, void *data)
{
    struct fill *fill = data;

    (void)fetch;
    fill->sent = loop_now(fill->worker->loop);
    fill->sent_wall = loop_wall(fill->worker->loop);
    fill->sent_us = clock_us();
    counter_add(&fill->route->counters->threads[fill->worker->index].origin_requests, 1);
}

static const struct fetch_callbacks callbacks = {.head = on_head, .body = on_body, .done = on_done, .sent = on_sent};

static struct bytes without_prefix(struct bytes target, struct bytes prefix)
{
    if (prefix.n == 0 || !bytes_starts(target, prefix))
        return target;
    target.p += prefix.n;
    target.n -= prefix.n;
    return target.n > 0 ? target : BYTES_LIT("/");
}

/* The target as the backend knows it: always with a leading slash, also where the whole path was the prefix. */
static struct bytes upstream_target(struct request *r)
{
    struct bytes target = without_prefix(r->key.target, r->route->conf->strip_prefix);

    if (target.p[0] == '/')
        return target;
    char *text = h2o_mem_alloc_pool(&r->req->pool, target.n + 1);

    text[0] = '/';
    memcpy(text + 1, target.p, target.n);
    return (struct bytes){text, target.n + 1};
}

void fill_start(struct request *r, struct flight *f, bool cacheable)
{
    struct worker *w = r->worker;
    struct fill *fill = calloc(1, sizeof *fill);
    struct outgoing out;

    if (fill == NULL)
        abort();
    fill->worker = w;
    link_fill(fill);
    fill->flight = f;
    fill->hold = hold_use(r->hold);
    fill->route = r->route;
    fill->cacheable = cacheable;
    fill->alone = r->alone && !r->refreshing;
    fill->https = r->in.https;
    fill->user_scope = r->user_scope;
    fill->personal_authorization = r->personal_authorization;
    fill->personal_cookie = r->personal_cookie;
    fill->head = r->in.head;
    fill->unsafe = !r->in.get && !r->in.head && !bytes_eq(r->in.method, BYTES_LIT("OPTIONS"));
    if (!fill->alone && r->stale != NULL) {
        fill->stale = stored_retain(r->stale);
        fill->validating = has_validator(stored_fields(r->stale));
    }
    fill->sent = loop_now(w->loop);
    fill->sent_wall = loop_wall(w->loop);
    fill->sent_us = clock_us();
    copy_request(fill, r);
    out.n = 0;
    collect(r, fill, &out);
    f->home_data = fill;
    fill->fetch = fetch_start(w->upstream,
                              &(struct fetch_request){
                                  .backend = r->route->backend,
                                  .method = r->in.method,
                                  .target = upstream_target(r),
                                  .authority = r->in.authority,
                                  .fields = {out.v, out.n},
                                  .body = r->in.body,
                                  .has_body = r->in.has_body,
                                  .safe = !fill->unsafe,
                              },
                              &callbacks, fill);
}

void fills_cancel(struct worker *w)
{
    while (w->fills != NULL) {
        struct fill *fill = w->fills;

        fetch_cancel(fill->fetch);
        if (fill->response != NULL)
            stored_finish_body(fill->response, BODY_BROKEN);
        flight_end(fill->flight);
        fill_free(fill);
    }
}

void fill_look(struct flight *f)
{
    struct fill *fill = f->home_data;

    flight_home_begin(f);
    if (fill != NULL) {
        bool begun = fill->response != NULL;
        /* An unsafe request is not taken back once it may have had its effect; what may be stored is fetched to its
         * end. */
        bool abandoned = atomic_load(&f->waiters) == 0 && !fill->kept && (begun || (!fill->unsafe && !fill->cacheable));

        if (abandoned && begun)
            end_if_abandoned(fill);
        else if (abandoned) {
            fetch_cancel(fill->fetch);
            flight_end(f);
            fill_free(fill);
        } else if (atomic_load(&f->paused) && fill->produced < atomic_load(&f->consumed) + WINDOW / 2) {
            atomic_store(&f->paused, false);
            fetch_resume(fill->fetch);
        }
    }
    flight_home_done(f);
}
