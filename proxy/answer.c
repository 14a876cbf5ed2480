#include "proxy/answer.h"

#include <stdlib.h>

#include "policies/forward.h"
#include "policies/qualified.h"
#include "policies/targeted.h"
#include "proxy/forms.h"
#include "proxy/invalidate.h"
#include "proxy/no_vary.h"
#include "proxy/respond.h"
#include "proxy/tagging.h"
#include "proxy/variant.h"

enum { VALIDATE_MS = 3600 * 1000 }; /* stale responses are kept so much longer for their validators */

/* End-to-end fields, without those that weir writes itself. Returns how many. */
static size_t end_to_end(struct fields in, struct field out[ANSWER_FIELDS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < in.n; i++) {
        struct bytes name = in.v[i].name;

        if (forward_is_hop_by_hop(name, in) || bytes_eq(name, BYTES_LIT("content-length")))
            continue;
        out[n++] = in.v[i];
    }
    return n;
}

static size_t without(struct field *fields, size_t n, struct bytes name)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        if (!bytes_eq(fields[i].name, name))
            fields[kept++] = fields[i];
    return kept;
}

/* In the place of a Date that is missing or unreadable, or not of this age (stored.h), stands the time of receipt (RFC
 * 9110 section 6.6.1): later conditions and ranges are judged by it (RFC 9111 section 4.3.2). */
static void settle_date(struct answer *a, struct wall_s now)
{
    const struct bytes name = BYTES_LIT("date");

    if (http_date_parse(fields_value(a->fields, name), now, &a->date) && a->date.s >= 0 && a->date.s <= UINT32_MAX)
        return;
    a->date = now;
    http_date_format(now, a->date_text);
    a->fields.n = without(a->v, a->fields.n, name);
    a->v[a->fields.n++] = (struct field){name, "Date", {a->date_text, HTTP_DATE_LEN}};
}

/* On a route of scope user, a request without the credential is the anonymous user's; one that is personal by another
 * field or cookie is nobody's that the key could name, and judged as on a shared route. */
static bool is_one_users(const struct ask *ask)
{
    return ask->user_scope && !ask->personal_authorization && !ask->personal_cookie;
}

/* What the origin says about caching: in a targeted field, or else in Cache-Control (RFC 9213 section 2.2). */
static struct cache_control directives_of(const struct conf_route *route, struct fields fields)
{
    struct cache_control cc;

    if (!targeted_cache_control(fields, route->targeted, route->ntargeted, &cc))
        cc = cache_control_parse(fields);
    return cc;
}

static struct lifetimes lifetimes_of(const struct ask *ask, int status, struct fields fields,
                                     const struct cache_control *cc)
{
    const struct conf_route *route = ask->route->conf;
    struct mono_ms now = loop_now(ask->worker->loop);

    return freshness_of(&(struct freshness_facts){
        .status = status,
        .fields = fields,
        .cc = cc,
        .tier = route->ttl != NULL ? &route->ttl->tier : NULL,
        .ignore_origin = route->ignore_origin,
        .user_scope = is_one_users(ask),
        .request_time = ask->sent_wall,
        .response_time = loop_wall(ask->worker->loop),
        .response_delay_ms = mono_since_ms(ask->sent, now),
        .random = (uint32_t)worker_random(ask->worker),
    });
}

bool answer_has_validator(struct fields f)
{
    return fields_has(f, BYTES_LIT("etag")) || fields_has(f, BYTES_LIT("last-modified"));
}

/* Past its windows a response that can be validated still saves a body. */
int64_t answer_useful_ms(const struct lifetimes *lifetimes, struct fields fields)
{
    int64_t useful = freshness_useful_ms(lifetimes);

    return answer_has_validator(fields) && useful < INT64_MAX - VALIDATE_MS ? useful + VALIDATE_MS : useful;
}

int64_t answer_useful_here_ms(const struct conf_route *route, const struct lifetimes *lifetimes, int64_t age_ms,
                              struct fields fields)
{
    int64_t useful = answer_useful_ms(lifetimes, fields);

    if (route->ttl == NULL || route->ttl->memory_ms < 0 || useful - age_ms <= route->ttl->memory_ms)
        return useful;
    return age_ms + route->ttl->memory_ms;
}

/* Does a POST's answer say that it is what GET would get: with its target as Content-Location? */
static bool is_for_get(const struct ask *ask, struct fields fields)
{
    struct bytes location = fields_value(fields, BYTES_LIT("content-location"));

    return ask->may_answer_get && location.n > 0 && reference_is_target(ask, location);
}

static enum storing judge_storing(const struct ask *ask, const struct answer *a, struct bytes method, bool answers_get)
{
    enum storing storing = storing_decide(&(struct storing_facts){
        .method = method,
        .answers_get = answers_get,
        .asked_range = ask->asked_range,
        .content_length = a->content_length,
        .set_cookie = ask->route->conf->set_cookie,
        .status = a->status,
        .fields = a->fields,
        .cc = &a->cc,
        .lifetimes = &a->lifetimes,
        .ignore_origin = ask->route->conf->ignore_origin,
        .user_scope = is_one_users(ask),
        .has_authorization = ask->personal_authorization,
        .has_personal_cookie = ask->personal_cookie,
    });
    bool too_large = a->content_length > (int64_t)ask->hold->snapshot->conf->memory_object_bytes_max ||
                     a->fields.n > ANSWER_FIELDS_MAX;

    return storing == STORING_OK && too_large ? STORING_TOO_LARGE : storing;
}

static void decide(const struct ask *ask, struct answer *a)
{
    bool answers_get = !ask->cacheable && is_for_get(ask, a->fields);

    a->storing = ask->cacheable || answers_get ? judge_storing(ask, a, ask->method, answers_get) : STORING_OFF;
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

/* What the origin sees in these weir has written, of each client's address and way: the client's own field, of which a
 * key could be made, says nothing about it. */
static bool varies_on_the_way(struct bytes spec)
{
    static const struct bytes names[] = {BYTES_LIT("forwarded"), BYTES_LIT("via"), BYTES_LIT("x-forwarded-for")};

    while (spec.n > 0) {
        const char *comma = memchr(spec.p, ',', spec.n);
        size_t n = comma != NULL ? (size_t)(comma - spec.p) : spec.n;

        if (bytes_is_one_of((struct bytes){spec.p, n}, names, sizeof names / sizeof names[0]))
            return true;
        n += comma != NULL;
        spec.p += n;
        spec.n -= n;
    }
    return false;
}

bool answer_is_shared_error(const struct answer *a)
{
    bool silent = a->storing == STORING_STATUS ||
                  (a->storing == STORING_NO_LIFETIME && !a->lifetimes.explicit_ && !a->cc.no_cache);

    return silent && storing_may_be_shared(a->status);
}

static bool is_for_others(const struct answer *a)
{
    return a->storing == STORING_OK || answer_is_shared_error(a);
}

/* On a route with no_vary_search the answer's own field says for which queries it is (no_vary.h). */
static void choose_primary(const struct ask *ask, struct answer *a)
{
    a->primary = (struct key){.whole = ask->primary, .url = {ask->primary.p, ask->url_n}};
    a->primary_hash = ask->primary_hash;
    a->primary_memory = NULL;
    a->rekeyed = false;
    if (!ask->route->conf->no_vary_search || !ask->cacheable)
        return;
    a->primary_memory = malloc(no_vary_bytes_max(&ask->own));
    if (a->primary_memory == NULL)
        abort();
    struct key key = no_vary_reduce(&ask->own, a->fields, a->primary_memory);

    if (bytes_eq(key.whole, ask->primary))
        return;
    a->primary = key;
    a->primary_hash = store_hash(ask->worker->shared->store, key.whole);
    a->rekeyed = true;
}

/* Under which key: the primary one, or with the values of the fields that the answer varies on. */
static void choose_key(const struct ask *ask, struct answer *a)
{
    struct worker *w = ask->worker;
    struct stored *marker;

    a->spec_n = 0;
    choose_primary(ask, a);
    a->key = a->primary.whole;
    a->hash = a->primary_hash;
    if (is_for_others(a) && (vary_spec_of(a->fields, a->spec, &a->spec_n) == VARY_STAR ||
                             varies_on_the_way((struct bytes){a->spec, a->spec_n})))
        a->storing = STORING_VARY_STAR;
    if (!is_for_others(a))
        return;
    marker = store_acquire(w->store, a->primary_hash, a->primary.whole, loop_now(w->loop));
    if (marker != NULL && marker->head->kind == STORED_VARY) {
        keep_spec(a, stored_spec(marker));
        a->respec = !bytes_eq(stored_spec(marker), (struct bytes){a->spec, a->spec_n});
    } else
        a->respec = true;
    stored_release(marker);
    a->respec &= a->storing == STORING_OK;
    if (a->spec_n == 0)
        return;
    struct bytes spec = {a->spec, a->spec_n};

    a->key_memory = malloc(variant_key_bytes_max(a->primary.whole, spec, ask->request));
    if (a->key_memory == NULL)
        abort();
    a->key = variant_key(ask->route->conf, w->hasher, a->primary.whole, spec, ask->request, a->key_memory);
    a->hash = store_hash(w->shared->store, a->key);
}

static bool is_private(const struct answer *a)
{
    return a->cc.private_ || a->cc.private_qualified;
}

/* Or would be, if it were asked for by GET. */
static bool is_stored(const struct answer *a, const struct ask *ask)
{
    if (ask->head && ask->route->conf->cache)
        return judge_storing(ask, a, BYTES_LIT("GET"), false) == STORING_OK;
    return a->storing == STORING_OK;
}

/* What is not stored may be packed on its way out (packer.h). It may be one client's own, so the route itself has to
 * say something of compression, as where the scope is the user. */
static bool may_be_streamed(const struct compress_rules *rules, const struct ask *ask)
{
    return rules->stream && rules->user && (ask->head || bytes_eq(ask->method, BYTES_LIT("GET")));
}

/* What may be had in other codings: what is stored, and some of what is not. The answer to a HEAD, and a part, say of
 * the whole that it could differ (RFC 9110 sections 9.3.2 and 15.3.7). no-transform counts in Cache-Control even where
 * a targeted field is read in its place (RFC 9213 section 2.1: it is not about caching alone). */
static uint8_t forms_of(const struct answer *a, const struct ask *ask)
{
    const struct compress_rules *rules = &ask->route->conf->compress;
    bool part = a->status == 206, stored = is_stored(a, ask);

    if (!stored && !may_be_streamed(rules, ask))
        return 0;
    uint8_t forms =
        forms_of_answer(rules, &(struct compress_facts){
                                   .status = part ? 200 : a->status,
                                   .fields = a->fields,
                                   .content_length = part ? -1 : a->content_length,
                                   .no_transform = a->cc.no_transform || cache_control_parse(a->fields).no_transform,
                                   .user_scope = ask->user_scope,
                               });

    if (!stored && forms != coder_forms_of(COMPRESS_MAY, CODING_IDENTITY))
        return 0;
    return forms != 0 && (part || ask->head) ? forms + FORMS_OF_THE_WHOLE : forms;
}

uint8_t answer_forms(const struct conf_route *route, int status, struct fields fields, int64_t content_length)
{
    return forms_of_answer(&route->compress, &(struct compress_facts){
                                                 .status = status,
                                                 .fields = fields,
                                                 .content_length = content_length,
                                                 .no_transform = directives_of(route, fields).no_transform ||
                                                                 cache_control_parse(fields).no_transform,
                                             });
}

struct stored_options answer_options(const struct answer *a, const struct ask *ask, uint64_t born)
{
    return (struct stored_options){
        .kind = STORED_RESPONSE,
        .hash = a->hash,
        .key = a->key,
        .key_url_n = a->primary.url.n,
        .user_scope = ask->user_scope,
        .with_authorization = storing_usable_with_authorization(&a->cc) && !is_private(a),
        .with_cookie = storing_usable_with_cookie(&a->lifetimes) && !is_private(a),
        .forms = forms_of(a, ask),
        .status = a->status,
        .fields = a->fields,
        .date = a->date,
        .prepared = &prepared_heads,
        .tags = a->tags.v,
        .ntags = a->tags.n,
        .lifetimes = a->lifetimes,
        .response_time = loop_now(ask->worker->loop),
        .useful_ms = answer_useful_here_ms(ask->route->conf, &a->lifetimes, a->lifetimes.initial_age_ms, a->fields),
        .born = born,
        .content_length = a->content_length,
        .no_body = ask->head,
    };
}

/* The fields of a 304 take the place of the stored ones, but for those that say how to read the bytes that are kept
 * (RFC 9111 section 3.2). Content-Type is not one of them here: nothing in the store was made by way of it. */
static bool describes_body(struct bytes name)
{
    static const struct bytes names[] = {BYTES_LIT("content-encoding"), BYTES_LIT("content-range")};

    return bytes_is_one_of(name, names, sizeof names / sizeof names[0]);
}

static size_t merge_fields(struct fields stored, struct fields update, struct field out[2 * ANSWER_FIELDS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < stored.n; i++) {
        struct bytes name = stored.v[i].name;

        /* an old Date would make what has just been confirmed look old */
        if (describes_body(name) || (!fields_has(update, name) && !bytes_eq(name, BYTES_LIT("date"))))
            out[n++] = stored.v[i];
    }
    for (size_t i = 0; i < update.n; i++)
        if (!describes_body(update.v[i].name))
            out[n++] = update.v[i];
    return n;
}

/* Only the leader gets the fields that the origin keeps from others; what is stored never has them. */
static void withhold(struct answer *a, const struct ask *ask)
{
    size_t kept = 0;

    a->withheld = (struct fields){a->withheld_v, 0};
    if (ask->route->conf->ignore_origin || !(ask->cacheable || ask->may_answer_get))
        return;
    qualified_settle(&a->cc, a->fields);
    for (size_t i = 0; i < a->fields.n; i++)
        if (qualified_withholds(&a->cc, is_one_users(ask), a->v[i].name))
            a->withheld_v[a->withheld.n++] = a->v[i];
        else
            a->v[kept++] = a->v[i];
    a->fields.n = kept;
}

/* Where a route stores what has Set-Cookie without it, those that share the answer get none either. */
static bool strips_set_cookie(const struct ask *ask, const struct answer *a)
{
    return ask->route->conf->set_cookie == SET_COOKIE_STRIP && is_for_others(a);
}

void answer_judge(struct answer *a, const struct ask *ask, const struct stored *updated, int status,
                  struct fields fields, int64_t content_length)
{
    struct field fresh[ANSWER_FIELDS_MAX];
    struct stored_view view;
    bool completed = updated != NULL && status == 206;

    a->status = completed ? 200 : updated != NULL ? updated->head->status : status;
    a->content_length = content_length;
    a->key_memory = NULL;
    a->respec = false;
    a->fields = (struct fields){a->v, end_to_end(fields, updated != NULL ? fresh : a->v)};
    if (updated != NULL)
        a->fields.n = merge_fields(stored_fields(updated, &view), (struct fields){fresh, a->fields.n}, a->v);
    if (completed)
        a->fields.n = without(a->v, a->fields.n, BYTES_LIT("content-range"));
    settle_date(a, loop_wall(ask->worker->loop));
    a->cc = directives_of(ask->route->conf, a->fields);
    tagging_read(ask->worker->shared->store, a->fields, &a->tags);
    withhold(a, ask);
    a->lifetimes = lifetimes_of(ask, a->status, a->fields, &a->cc);
    decide(ask, a);
    choose_key(ask, a);
    /* what is stored has its age reckoned anew for each answer (RFC 9111 section 4.2.3) */
    if (a->storing == STORING_OK)
        a->fields.n = without(a->v, a->fields.n, BYTES_LIT("age"));
    if (strips_set_cookie(ask, a)) {
        a->fields.n = without(a->v, a->fields.n, BYTES_LIT("set-cookie"));
        a->withheld.n = without(a->withheld_v, a->withheld.n, BYTES_LIT("set-cookie"));
    }
}

struct fields answer_withheld(const struct answer *a)
{
    size_t bytes = 0;

    for (size_t i = 0; i < a->withheld.n; i++)
        bytes += sizeof(struct field) + 2 * a->withheld_v[i].name.n + a->withheld_v[i].value.n;
    if (bytes == 0)
        return (struct fields){NULL, 0};
    struct field *v = malloc(bytes);

    if (v == NULL)
        abort();
    char *p = (char *)(v + a->withheld.n);

    for (size_t i = 0; i < a->withheld.n; i++) {
        const struct field *f = &a->withheld_v[i];

        v[i] = (struct field){{p, f->name.n}, p + f->name.n, {p + 2 * f->name.n, f->value.n}};
        memcpy(p, f->name.p, f->name.n);
        memcpy(p + f->name.n, f->orig_name != NULL ? f->orig_name : f->name.p, f->name.n);
        if (f->value.n > 0)
            memcpy(p + 2 * f->name.n, f->value.p, f->value.n);
        p += 2 * f->name.n + f->value.n;
    }
    return (struct fields){v, a->withheld.n};
}

void answer_fini(struct answer *a)
{
    free(a->key_memory);
    free(a->primary_memory);
}
