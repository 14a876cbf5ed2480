#include "proxy/redis_flight.h"

#include <stdlib.h>

#include "proxy/answer.h"
#include "proxy/pass_marker.h"
#include "proxy/redis_lookup.h"
#include "proxy/redis_write.h"
#include "proxy/respond.h"
#include "proxy/tagging.h"
#include "proxy/variant.h"
#include "proxy/vary_marker.h"
#include "proxy/wall_clock.h"

enum { NEWER_MS = 1000 }; /* a record of the response that memory has may seem newer by this: clocks are set */

struct redis_flight {
    struct redis_lookup lookup;
    bool looking;
    const struct ask *ask;
    struct flight *flight;
    struct stored *stale;
    redis_flight_done *done;
    void *data;
    struct record_epoch epoch;
    bool has_epoch;
    struct fetch_request request;
    char *memory; /* of the request */
};

/* --- the request that waits --- */

static struct bytes copy(char **to, struct bytes what)
{
    struct bytes copied = {*to, what.n};

    if (what.n > 0)
        memcpy(*to, what.p, what.n);
    *to += what.n;
    return copied;
}

static void copy_request(struct redis_flight *rf, const struct fetch_request *request)
{
    struct fields in = request->fields;
    size_t n = in.n * sizeof(struct field) + request->method.n + request->target.n + request->authority.n;

    for (size_t i = 0; i < in.n; i++)
        n += in.v[i].name.n * 2 + in.v[i].value.n;
    rf->memory = malloc(n);
    if (rf->memory == NULL)
        abort();
    struct field *fields = (struct field *)rf->memory;
    char *text = (char *)(fields + in.n);

    for (size_t i = 0; i < in.n; i++) {
        fields[i].name = copy(&text, in.v[i].name);
        fields[i].orig_name =
            in.v[i].orig_name != NULL ? copy(&text, (struct bytes){in.v[i].orig_name, in.v[i].name.n}).p : NULL;
        fields[i].value = copy(&text, in.v[i].value);
    }
    rf->request = *request;
    rf->request.fields = (struct fields){fields, in.n};
    rf->request.method = copy(&text, request->method);
    rf->request.target = copy(&text, request->target);
    rf->request.authority = copy(&text, request->authority);
}

const struct fetch_request *redis_flight_request(const struct redis_flight *rf)
{
    return &rf->request;
}

/* --- from Redis into memory --- */

/* When the record's response came, on this process' clock; what was before that began counts as age. */
static struct mono_ms response_time(const struct record *r, struct mono_ms now, struct lifetimes *lifetimes)
{
    int64_t ago = wall_clock_ms() - r->response_ms;
    struct mono_ms then = {now.ms - (ago > 0 ? ago : 0)};

    *lifetimes = r->lifetimes;
    if (then.ms >= 0)
        return then;
    lifetimes->initial_age_ms -= then.ms;
    return (struct mono_ms){0};
}

static bool is_newer(struct mono_ms than, const struct stored *in_memory)
{
    return in_memory == NULL || mono_since_ms(in_memory->response_time, than) > NEWER_MS;
}

static struct stored *make_response(const struct redis_flight *rf, const struct record *r,
                                    const struct stored_options *options)
{
    struct worker *w = rf->ask->worker;
    struct mono_ms now = loop_now(w->loop);
    struct stored *s = stored_create(w->store, options, now);

    if (s == NULL || (r->body.n > 0 && !stored_append(w->store, s, r->body, now))) {
        stored_release(s);
        return NULL;
    }
    s->early_ms = rf->ask->route->conf->ttl != NULL && rf->ask->route->conf->ttl->early_refresh ? r->early_ms : 0;
    stored_finish_body(s, BODY_COMPLETE);
    return s;
}

static bool put_response(const struct redis_flight *rf, struct stored *s)
{
    struct worker *w = rf->ask->worker;
    bool put = s != NULL && store_put(w->store, s, loop_now(w->loop));

    if (put)
        vary_marker_enlist(rf->ask, rf->flight->born, s);
    stored_release(s);
    return put;
}

/* fresh: for the figures. */
static bool take_response(const struct redis_flight *rf, const struct record *r, bool *fresh)
{
    const struct conf_route *route = rf->ask->route->conf;
    const struct flight_entry *entry = &rf->flight->entries[0];
    struct mono_ms now = loop_now(rf->ask->worker->loop);
    struct lifetimes lifetimes;
    struct mono_ms then = response_time(r, now, &lifetimes);
    int64_t age = freshness_age_ms(&lifetimes, then, now);
    struct tags tags;

    if (!is_newer(then, rf->stale) || age >= answer_useful_ms(&lifetimes, r->fields) ||
        r->body.n > rf->ask->hold->snapshot->conf->memory_object_bytes_max)
        return false;
    *fresh = freshness_reuse(&lifetimes, age) == REUSE_FRESH;
    tagging_read(rf->ask->worker->shared->store, r->fields, &tags);
    return put_response(rf, make_response(rf, r,
                                          &(struct stored_options){
                                              .kind = STORED_RESPONSE,
                                              .hash = entry->hash,
                                              .key = entry->key,
                                              .key_url_n = entry->key_url_n,
                                              .with_authorization = r->with_authorization,
                                              .with_cookie = r->with_cookie,
                                              .forms = answer_forms(route, r->status, r->fields, (int64_t)r->body.n),
                                              .status = r->status,
                                              .fields = r->fields,
                                              .date = r->date,
                                              .prepared = &prepared_heads,
                                              .tags = tags.v,
                                              .ntags = tags.n,
                                              .lifetimes = lifetimes,
                                              .response_time = then,
                                              .useful_ms = answer_useful_here_ms(route, &lifetimes, age, r->fields),
                                              .born = rf->flight->born,
                                              .content_length = (int64_t)r->body.n,
                                          }));
}

/* As weir writes them: lower case, sorted, each once. */
static bool is_spec(struct bytes text)
{
    const struct field vary = {BYTES_LIT("vary"), NULL, text};
    char spec[VARY_SPEC_MAX];
    size_t n;

    return vary_spec_of((struct fields){&vary, 1}, spec, &n) == VARY_SOME && bytes_eq((struct bytes){spec, n}, text);
}

/* Those who wait look again under the keys of their variants, each of which is asked for in Redis then. */
static bool take_vary(const struct redis_flight *rf, const struct record *r)
{
    const struct ask *ask = rf->ask;
    struct worker *w = ask->worker;
    struct stored *marker;
    bool put;

    if (!bytes_eq(rf->flight->entries[0].key, ask->primary) || !is_spec(r->spec))
        return false;
    char *buf = malloc(variant_key_bytes_max(ask->primary, r->spec, ask->request));

    if (buf == NULL)
        abort();
    vary_marker_put(ask, rf->flight->born, r->spec,
                    variant_key(ask->route->conf, w->hasher, ask->primary, r->spec, ask->request, buf));
    free(buf);
    marker = store_peek(w->store, ask->primary_hash, ask->primary);
    put = marker != NULL && marker->head->kind == STORED_VARY && bytes_eq(stored_spec(marker), r->spec);
    stored_release(marker);
    return put;
}

static bool take_pass(const struct redis_flight *rf, const struct record *r)
{
    const struct flight_entry *entry = &rf->flight->entries[0];
    struct mono_ms now = loop_now(rf->ask->worker->loop);
    struct lifetimes lifetimes;
    struct mono_ms then = response_time(r, now, &lifetimes);

    return mono_since_ms(then, now) < PASS_MS && r->status <= STORING_PURGED &&
           pass_marker_put(rf->ask, rf->flight->born, entry->key, entry->key_url_n, r->status, then);
}

static bool take(const struct redis_flight *rf, const struct record *r)
{
    struct redis_state *state = &rf->lookup.thread->tier->state;
    bool fresh = false, taken = false;

    switch (r->kind) {
    case RECORD_RESPONSE:
        taken = take_response(rf, r, &fresh);
        break;
    case RECORD_VARY:
        if (take_vary(rf, r))
            return true; /* the variant's look-up counts */
        break;
    case RECORD_PASS:
        taken = take_pass(rf, r);
        break;
    }
    redis_count(taken && fresh ? &state->hit : &state->miss);
    return taken;
}

static void on_found(struct redis_lookup *lookup, const struct redis_found *found)
{
    struct redis_flight *rf = (struct redis_flight *)((char *)lookup - offsetof(struct redis_flight, lookup));
    bool taken = false;

    rf->looking = false;
    rf->has_epoch = found->epoch != NULL;
    if (rf->has_epoch)
        rf->epoch = *found->epoch;
    if (found->record != NULL)
        taken = take(rf, found->record);
    else if (rf->has_epoch)
        redis_count(&lookup->thread->tier->state.miss);
    rf->done(rf->data, taken);
}

/* A hash in the variant is made with this process' secret. */
static bool is_variant_known_elsewhere(struct bytes key, struct bytes primary)
{
    struct bytes names = variant_names(key, primary.n), values;

    return key.n == primary.n || variant_values(variant_of(key, primary, names), &values);
}

static bool may_share(const struct ask *ask, const struct flight *f)
{
    const struct conf_route *route = ask->route->conf;

    return ask->worker->redis != NULL && ask->cacheable && !ask->alone && !ask->asked_range && !ask->user_scope &&
           !ask->personal_authorization && !ask->personal_cookie && !route->no_vary_search &&
           !key_is_sealed(&route->key) && is_variant_known_elsewhere(f->entries[0].key, ask->primary);
}

struct redis_flight *redis_flight_start(const struct ask *ask, struct flight *f, const struct stored *stale,
                                        const struct fetch_request *request, redis_flight_done *done, void *data)
{
    struct redis_flight *rf;

    if (!may_share(ask, f))
        return NULL;
    rf = calloc(1, sizeof *rf);
    if (rf == NULL)
        abort();
    rf->lookup.done = on_found;
    if (!redis_lookup_start(&rf->lookup, ask->worker->redis, f->entries[0].key, f->entries[0].key_url_n)) {
        free(rf);
        return NULL;
    }
    rf->looking = true;
    rf->ask = ask;
    rf->flight = f;
    rf->stale = stale != NULL ? stored_retain((struct stored *)stale) : NULL;
    rf->done = done;
    rf->data = data;
    copy_request(rf, request);
    return rf;
}

void redis_flight_free(struct redis_flight *rf)
{
    if (rf == NULL)
        return;
    if (rf->looking)
        redis_lookup_cancel(&rf->lookup);
    stored_release(rf->stale);
    free(rf->memory);
    free(rf);
}

/* --- from memory into Redis --- */

/* Who reads the record learns its tags from its fields: all of them must be there, and those kept from others are not.
 */
static bool has_all_its_tags(const struct ask *ask, const struct stored *s)
{
    struct stored_view view;
    struct tags tags;

    tagging_read(ask->worker->shared->store, stored_fields(s, &view), &tags);
    return tags.n == s->ntags;
}

void redis_flight_write(struct redis_flight *rf, struct stored *s)
{
    const struct ask *ask = rf != NULL ? rf->ask : NULL;
    struct bytes key = stored_key(s);

    if (rf == NULL || !rf->has_epoch || !is_variant_known_elsewhere(key, ask->primary) || !has_all_its_tags(ask, s))
        return;
    redis_write_response(ask->worker->redis, &rf->epoch, s);
    if (key.n > ask->primary.n)
        redis_write_vary(ask->worker->redis, &rf->epoch, ask->primary, s->key_url_n,
                         variant_names(key, ask->primary.n));
}

void redis_flight_write_pass(struct redis_flight *rf, struct bytes key, size_t key_url_n, int why)
{
    if (rf != NULL && rf->has_epoch)
        redis_write_pass(rf->ask->worker->redis, &rf->epoch, key, key_url_n, why, PASS_MS);
}
