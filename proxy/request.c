#include "proxy/request.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "policies/conditional.h"
#include "policies/forward.h"
#include "policies/range.h"
#include "policies/storing.h"
#include "proxy/fill.h"
#include "proxy/forms.h"
#include "proxy/health.h"
#include "proxy/identity.h"
#include "proxy/no_vary.h"
#include "proxy/outgoing.h"
#include "proxy/packer.h"
#include "proxy/respond.h"
#include "proxy/selection.h"
#include "proxy/variant.h"

/* So often may a request begin again (let go, other variant, purged meanwhile) before it goes alone. */
enum {
    ROUNDS_MAX = 4,
    ALLOW_MAX = 256,
    WATCH_AFTER_MS = 50, /* parked for so long, a client is looked after */
};

static const struct client_wish NO_WISH = {.max_age_s = -1, .min_fresh_s = -1, .max_stale_s = -1};

static void look_up(struct request *r);

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* --- the end --- */

static void log_request(struct request *r)
{
    struct log *log = r->worker->shared->log;
    struct fields f = r->in.fields;
    h2o_req_t *req = r->req;
    char peer[64];

    if (!log_access_on(log))
        return;
    log_access(log, &(struct access_line){
                        .wall_ms = (int64_t)h2o_now(r->worker->ctx.loop),
                        .client = {peer, connection_peer(req, peer)},
                        .method = {req->input.method.base, req->input.method.len},
                        .host = r->in.authority,
                        .target = {req->input.path.base, req->input.path.len},
                        .route = r->route != NULL ? bytes_of(r->route->counters->name) : BYTES_NONE,
                        .referer = fields_value(f, BYTES_LIT("referer")),
                        .user_agent = fields_value(f, BYTES_LIT("user-agent")),
                        .http2 = req->version >= 0x200,
                        .status = r->started ? req->res.status : 499,
                        .bytes = req->bytes_sent,
                        .duration_us = now_us() - r->begin_us,
                        .cache = r->started ? outcome_word(r->outcome) : "none",
                        .complete = r->finished,
                    });
}

static void end_parking(struct request *r)
{
    flight_leave(&r->waiter);
    request_unwatch(r);
}

static void cancel_restart(struct request *r)
{
    if (!r->restarting)
        return;
    for (struct request **p = &r->worker->restarts; *p != NULL; p = &(*p)->restart_next)
        if (*p == r) {
            *p = r->restart_next;
            break;
        }
    r->restarting = false;
}

/* The request's pool goes: the answer is out, or the client has left. The one place where everything is given back. */
static void on_dispose(void *data)
{
    struct request *r = data;
    struct worker *w = r->worker;

    log_request(r);
    cancel_restart(r);
    forms_leave(r);
    forms_prepare(r);
    if (r->reading)
        stored_reader_stop(&r->reader);
    end_parking(r);
    stored_release(r->stale);
    stored_release(r->partial);
    stored_release(r->sending);
    if (r->packer != NULL)
        packer_destroy(r->packer);
    request_waiting(r, false);
    connection_request_end(r->connection, r->finished     ? REQUEST_ANSWERED
                                          : r->broken_off ? REQUEST_BROKEN_OFF
                                                          : REQUEST_ABANDONED);
    hold_drop(r->hold);
    w->requests_open--;
}

/* --- a client that leaves --- */

static void on_gone(struct hangup *h)
{
    struct request *r = H2O_STRUCT_FROM_MEMBER(struct request, hangup, h);

    r->hangup_on = false;
    if (r->started) {
        respond_to_gone(r);
        return;
    }
    flight_leave(&r->waiter);
    forms_leave(r);
    cancel_restart(r);
    request_waiting(r, false);
    respond_to_nobody(r);
}

static void watch_for_leaving(struct timer *t)
{
    struct request *r = H2O_STRUCT_FROM_MEMBER(struct request, parked_long, t);

    r->hangup.gone = on_gone;
    hangup_watch(r->worker->connections, &r->hangup, r->req);
    r->hangup_on = true;
}

/* Two system calls that most misses are too short for. */
void request_park(struct request *r)
{
    request_waiting(r, true);
    if (!r->hangup_on && !r->in.http2) {
        r->parked_long.fire = watch_for_leaving;
        timer_arm(r->worker->loop, &r->parked_long, WATCH_AFTER_MS);
    }
}

/* --- beginning again --- */

/* Later, from the loop: the caller may be a callback of the fetch that let this request go. */
static void restart(struct request *r)
{
    struct worker *w = r->worker;

    flight_leave(&r->waiter);
    r->as_it_comes = r->awaits_whole;
    stored_release(r->partial);
    r->partial = NULL;
    stored_release(r->stale); /* memory is asked again, and may know better */
    r->stale = NULL;
    r->restarting = true;
    r->restart_next = w->restarts;
    w->restarts = r;
    if (!w->restart_posted) {
        w->restart_posted = true;
        loop_defer(w->loop, &w->restart_message);
    }
}

void requests_restart(struct worker *w)
{
    struct request *r;

    w->restart_posted = false;
    while ((r = w->restarts) != NULL) {
        w->restarts = r->restart_next;
        r->restarting = false;
        r->rounds++;
        look_up(r);
    }
}

/* --- answers from a flight --- */

static int64_t age_of(struct request *r, const struct stored *s)
{
    struct lifetimes lifetimes = stored_lifetimes(s);

    return freshness_age_ms(&lifetimes, s->response_time, loop_now(r->worker->loop));
}

/* Whole seconds, so that Age and ttl add up to the lifetime; negative once it is stale (RFC 9211 section 2.4). */
static void say_ttl(struct request *r, const struct stored *s, int64_t age_ms)
{
    int64_t fresh_ms = span_ms(s->fresh);
    bool fresh = age_ms < fresh_ms && !atomic_load_explicit(&((struct stored *)s)->expired, memory_order_relaxed);
    int64_t left = fresh_ms / 1000 - age_ms / 1000;

    r->status.has_ttl = true;
    r->status.ttl_s = fresh ? (left > 0 ? left : 0) : (left < 0 ? left : -1);
}

static void respond_stale(struct request *r, struct stored *s, const char *detail)
{
    int64_t age = age_of(r, s);

    r->outcome = OUTCOME_STALE;
    r->status.detail = detail;
    say_ttl(r, s, age);
    respond_stored(r, s, age);
}

/* The query was reduced (no_vary.h). */
static bool is_reduced(const struct request *r)
{
    return r->key.whole.p != r->own.whole.p;
}

/* Out of memory by a purge that came while the request waited; one that was evicted may still be used. */
static bool was_purged(struct request *r, struct stored *s)
{
    if (is_reduced(r) && store_purged_since(r->worker->shared->store, r->own.url, s->born))
        return true;
    return !store_holds(r->worker->store, s) && store_purged_since(r->worker->shared->store, r->key.url, s->born);
}

static bool may_stand_in(struct request *r)
{
    if (r->stale == NULL || was_purged(r, r->stale))
        return false;
    struct lifetimes lifetimes = stored_lifetimes(r->stale);

    return freshness_stale_if_error(&lifetimes, age_of(r, r->stale));
}

/* Whole seconds, so that who keeps to them does not come too early. */
static int retry_after_s(int64_t ms)
{
    return ms > 1000 ? (int)((ms + 999) / 1000) : 1;
}

static void respond_failure(struct request *r, int failure, int64_t retry_after_ms)
{
    const char *detail;

    switch (failure) {
    case FETCH_QUEUE_FULL:
        respond_problem(r, 503, "too many requests wait for this backend", 1);
        return;
    case FETCH_QUEUE_TIMEOUT:
        respond_problem(r, 503, "no connection to the backend became free in time", 1);
        return;
    case FETCH_BREAKER_OPEN:
        respond_problem(r, 503, "the backend fails too often and is left alone for a while",
                        retry_after_s(retry_after_ms));
        return;
    case FETCH_TIMEOUT:
        respond_problem(r, 504, "the backend did not answer in time", -1);
        return;
    case FETCH_CONNECT:
        detail = "the backend cannot be reached";
        break;
    case FETCH_BAD_RESPONSE:
        detail = "the backend's answer is not valid HTTP";
        break;
    case FILL_NO_ROOM:
        respond_problem(r, 503, "no memory for this response", 1);
        return;
    case FETCH_TRUNCATED:
        detail = "the backend's answer was cut short";
        break;
    default:
        detail = "the backend closed the connection before it answered";
        break;
    }
    respond_problem(r, 502, detail, -1);
}

static void on_failed(struct request *r, struct flight *f)
{
    int failure = f->failure, status = f->failure_status;
    int64_t retry_after_ms = f->retry_after_ms;

    r->status.collapsed = !r->waiter.leader;
    if (status != 0)
        r->status.fwd_status = status;
    else
        r->status.detail = failure < FILL_FETCH_ENDS ? fetch_end_word((enum fetch_end)failure) : NULL;
    end_parking(r);
    if (may_stand_in(r))
        respond_stale(r, r->stale, "stale-if-error");
    else if (failure == FILL_ORIGIN_ERROR)
        restart(r); /* the origin's error was swallowed for those who hold a stale response: this request does not */
    else
        respond_failure(r, failure, retry_after_ms);
}

static struct bytes build_variant(struct request *r, struct bytes primary, struct bytes spec)
{
    char *buf = h2o_mem_alloc_pool(&r->req->pool, variant_key_bytes_max(primary, spec, r->in.fields));

    return variant_key(r->route->conf, r->worker->hasher, primary, spec, r->in.fields, buf);
}

/* The key as this response has it: it alone says which queries it is for. */
static struct key key_by(struct request *r, const struct stored *s)
{
    struct stored_view view;

    if (!r->route->conf->no_vary_search)
        return r->key;
    return no_vary_reduce(&r->own, stored_fields(s, &view),
                          h2o_mem_alloc_pool(&r->req->pool, no_vary_bytes_max(&r->own)));
}

/* Who joins under a reduced key may have another query than the one that was sent: does the answer, now that it is
 * here, say that it is for both, and has no purge of this request's url come since that fetch began? */
static bool is_for_query(struct request *r, struct flight *f)
{
    struct stored *s = f->response;
    struct bytes primary = key_by(r, s).whole;

    if (is_reduced(r) && store_purged_since(r->worker->shared->store, r->own.url, s->born))
        return false;
    if (r->range.n > 0) /* who shares a part has one key, down to the variant */
        return bytes_eq(primary, r->key.whole);
    return f->spec.n == 0 ? bytes_eq(stored_key(s), primary) : variant_key_is_of(stored_key(s), primary, f->spec);
}

static bool is_for(struct request *r, struct flight *f)
{
    if (f->spec.n == 0)
        return true;
    return bytes_eq(build_variant(r, key_by(r, f->response).whole, f->spec), f->answer_key);
}

/* It does not wait again: the next time it asks for itself. */
static void let_go(struct request *r)
{
    r->let_go = true;
    restart(r);
}

/* Age says that an answer has lain in a cache; one that has just been made has none, unless it came with one. */
static int64_t fetched_age(struct request *r, const struct stored *s)
{
    int64_t age = age_of(r, s);

    return age >= 1000 ? age : -1;
}

static bool is_usable(const struct request *r, const struct stored *s)
{
    return selection_may_use(s, r->personal_authorization, r->personal_cookie);
}

/* Broken off before this request was sent anything. */
static bool comes_too_late(struct request *r, struct stored *s)
{
    if (stored_body_state(s) != BODY_BROKEN)
        return false;
    end_parking(r);
    r->status.detail = "truncated";
    if (may_stand_in(r))
        respond_stale(r, r->stale, "stale-if-error");
    else
        respond_failure(r, FETCH_TRUNCATED, 0);
    return true;
}

static void on_shared(struct request *r, struct flight *f)
{
    struct stored *s = f->response;

    if (r->route->conf->no_vary_search && !r->waiter.leader && !is_for_query(r, f)) {
        let_go(r);
        return;
    }
    if (!is_for(r, f)) {
        restart(r);
        return;
    }
    if (!is_usable(r, s) && !r->waiter.leader) {
        let_go(r);
        return;
    }
    if (comes_too_late(r, s))
        return;
    bool stored = f->note == STORING_OK;

    r->status.collapsed = !r->waiter.leader;
    r->status.stored = stored && r->waiter.leader && !f->validated;
    if (f->validated) {
        r->outcome = r->waiter.leader ? OUTCOME_REVALIDATED : OUTCOME_COALESCED;
        r->status.fwd_status = 304;
    } else if (!r->waiter.leader)
        r->outcome = OUTCOME_COALESCED;
    else
        r->outcome = stored ? OUTCOME_MISS : OUTCOME_BYPASS;
    if (!respond_stored(r, s, stored ? fetched_age(r, s) : -1))
        let_go(r);
}

static void on_leader(struct request *r, struct flight *f)
{
    if (!r->waiter.leader) {
        if (f->note == STORING_PURGED)
            restart(r);
        else
            let_go(r);
        return;
    }
    bool stored = f->note == STORING_OK, personal = r->personal_authorization || r->personal_cookie;

    r->status.stored = stored;
    r->outcome = stored && !personal && r->in.get ? OUTCOME_MISS : OUTCOME_BYPASS;
    if (!respond_stored(r, f->response, stored ? fetched_age(r, f->response) : -1))
        respond_problem(r, 503, "this response cannot be delivered any more", 1);
}

static void on_wake(struct flight_waiter *waiter)
{
    struct request *r = H2O_STRUCT_FROM_MEMBER(struct request, waiter, waiter);
    struct flight *f = waiter->flight;

    if (r->started) {
        respond_more(r);
        return;
    }
    if (r->form_wait != NULL)
        return;
    switch (flight_state(f)) {
    case FLIGHT_FETCHING:
        return;
    case FLIGHT_SHARED:
        on_shared(r, f);
        return;
    case FLIGHT_LEADER:
        on_leader(r, f);
        return;
    case FLIGHT_FAILED:
        on_failed(r, f);
        return;
    case FLIGHT_DECLINED:
        r->from_redis = f->note == FILL_FROM_REDIS;
        restart(r);
        return;
    }
}

/* --- going to the origin --- */

static void out_of_memory(struct request *r)
{
    respond_problem(r, 503, "out of memory", 1);
}

/* A flight that nobody joins. */
static void fly_alone(struct request *r, bool cacheable)
{
    struct worker *w = r->worker;
    struct bytes key = r->variant.n > 0 ? r->variant : r->key.whole;
    struct flight *f = flight_create_alone(w->shared->flights, w->index, key, r->key.url.n, &r->waiter);

    if (f == NULL) {
        out_of_memory(r);
        return;
    }
    fill_start(r, f, cacheable);
    request_park(r);
}

/* The answer concerns nobody else: the client's own conditions and ranges go along. */
static void go_alone(struct request *r, bool cacheable)
{
    r->alone = true;
    fly_alone(r, cacheable);
}

/* A fetch may have ended between this request's look and its own flight, and has stored what it got by then: nobody is
 * to ask for that a second time. */
static bool came_meanwhile(struct request *r)
{
    bool variant = r->variant.n > 0;
    struct stored *s;

    if (r->looked_again)
        return false;
    s = store_peek(r->worker->store, variant ? r->variant_hash : r->hash, variant ? r->variant : r->key.whole);
    r->looked_again = s != NULL && s != r->seen;
    stored_release(s);
    return r->looked_again;
}

/* Whoever has joined it meanwhile begins again. */
static void decline(struct flight *f)
{
    flight_close(f);
    flight_tell(f, FLIGHT_DECLINED);
    flight_end(f);
}

static void lead(struct request *r, struct flight *f)
{
    request_park(r);
    if (came_meanwhile(r))
        decline(f);
    else
        fill_start(r, f, true);
}

static void join(struct request *r)
{
    struct worker *w = r->worker;
    bool created, variant = r->variant.n > 0;
    struct flight *f = flight_join(w->shared->flights, w->index, variant ? r->variant_hash : r->hash,
                                   variant ? r->variant : r->key.whole, r->key.url.n, &r->waiter, &created);

    if (f == NULL)
        out_of_memory(r);
    else if (created)
        lead(r, f);
    else
        request_park(r);
}

/* "bytes=2-5", "bytes=2-" or "bytes=-3": the one range that is asked for, if the origin may be asked for it alone. Not
 * where what is stored, or If-Range, speaks of the whole. */
static struct bytes range_asked_for(struct request *r)
{
    struct range_set set;
    char *text;
    int n;

    if (!r->in.get || (r->stale != NULL && r->stale->head->status != 206) ||
        range_parse(r->in.fields, &set) != RANGE_ONE || fields_has(r->in.fields, BYTES_LIT("if-range")))
        return BYTES_NONE;
    text = h2o_mem_alloc_pool(&r->req->pool, CONTENT_RANGE_MAX);
    if (set.v[0].first < 0)
        n = snprintf(text, CONTENT_RANGE_MAX, "bytes=-%" PRId64, set.v[0].last);
    else if (set.v[0].last == INT64_MAX)
        n = snprintf(text, CONTENT_RANGE_MAX, "bytes=%" PRId64 "-", set.v[0].first);
    else
        n = snprintf(text, CONTENT_RANGE_MAX, "bytes=%" PRId64 "-%" PRId64, set.v[0].first, set.v[0].last);
    return (struct bytes){text, (size_t)n};
}

/* The same range of the same thing is one flight too; what fetches the whole of it will do for any range. */
static void join_range(struct request *r, struct bytes range)
{
    struct worker *w = r->worker;
    struct bytes base = r->variant.n > 0 ? r->variant : r->key.whole;
    bool created;

    if (flight_join_existing(w->shared->flights, w->index, r->variant.n > 0 ? r->variant_hash : r->hash, base,
                             &r->waiter)) {
        request_park(r);
        return;
    }
    char *text = h2o_mem_alloc_pool(&r->req->pool, base.n + 1 + range.n);

    memcpy(text, base.p, base.n);
    text[base.n] = '\0'; /* no variant key goes on like that */
    memcpy(text + base.n + 1, range.p, range.n);
    struct bytes key = {text, base.n + 1 + range.n};
    struct flight *f = flight_join(w->shared->flights, w->index, store_hash(w->shared->store, key), key, r->key.url.n,
                                   &r->waiter, &created);

    if (f == NULL) {
        out_of_memory(r);
        return;
    }
    r->range = range;
    if (created)
        lead(r, f);
    else
        request_park(r);
}

/* Nobody waits for it: what is stale has been sent. */
static void refresh(struct request *r, struct stored *s)
{
    struct worker *w = r->worker;
    bool created, variant = r->variant.n > 0;
    struct flight *f = flight_join(w->shared->flights, w->index, variant ? r->variant_hash : r->hash,
                                   variant ? r->variant : r->key.whole, r->key.url.n, NULL, &created);

    if (f == NULL)
        return;
    if (!store_holds(w->store, s)) { /* another refresh has just ended */
        decline(f);
        return;
    }
    r->refreshing = true;
    stored_release(r->stale);
    r->stale = stored_retain(s);
    fill_start(r, f, true);
}

/* RFC 9111 section 5.2.1.7. */
static void respond_not_cached(struct request *r)
{
    r->status.fwd = FWD_REQUEST;
    r->status.detail = "only-if-cached";
    respond_problem(r, 504, "nothing is stored that could be used, and the request forbids to fetch it", -1);
}

static void forward(struct request *r)
{
    const struct conf_route *route = r->route->conf;

    if (r->wish.only_if_cached) {
        respond_not_cached(r);
        return;
    }
    if (r->wish.no_store) {
        r->status.fwd = FWD_REQUEST;
        r->status.detail = "no-store";
        go_alone(r, false);
        return;
    }

    struct bytes range = range_asked_for(r);

    r->range = BYTES_NONE;
    if (r->partial != NULL)
        r->status.fwd = FWD_PARTIAL;
    if (r->stale != NULL && r->status.fwd == FWD_NONE)
        r->status.fwd = FWD_STALE;
    if (r->status.fwd == FWD_NONE)
        r->status.fwd = r->variant.n > 0 ? FWD_VARY_MISS : FWD_URI_MISS;
    /* A HEAD that memory cannot answer asks the origin as it is; the body is not fetched for it. */
    if (r->let_go || r->rounds >= ROUNDS_MAX || r->in.head)
        go_alone(r, r->in.get);
    else if (!route->coalesce)
        fly_alone(r, true);
    else if (range.n > 0)
        join_range(r, range);
    else
        join(r);
}

/* --- memory --- */

struct selection request_selection(const struct request *r)
{
    struct worker *w = r->worker;

    return (struct selection){
        .store = w->shared->store,
        .thread = w->store,
        .now = loop_now(w->loop),
        .primary = r->key.whole,
        .variant = r->variant,
        .request = r->in.fields,
        .authorization = r->personal_authorization,
        .cookie = r->personal_cookie,
        .own = is_reduced(r) ? &r->own : NULL,
    };
}

/* In two levels (RFC 9111 section 4.1). */
static struct stored *find_under_key(struct request *r)
{
    struct worker *w = r->worker;
    struct mono_ms now = loop_now(w->loop);
    struct stored *s = store_acquire(w->store, r->hash, r->key.whole, now), *marker = s;

    r->variant = BYTES_NONE;
    if (s == NULL || s->head->kind != STORED_VARY)
        return s;
    r->variant = build_variant(r, r->key.whole, stored_spec(marker));
    r->variant_hash = store_hash(w->shared->store, r->variant);
    s = store_acquire(w->store, r->variant_hash, r->variant, now);
    if (s == NULL) {
        struct selection q = request_selection(r);

        s = selection_match(&q, marker);
    }
    stored_release(marker);
    return s;
}

static void take_key(struct request *r, struct key key)
{
    r->key = key;
    r->hash = store_hash(r->worker->shared->store, key.whole);
}

/* A response that says nothing of its query lies under the key of that, whatever others of its path say. Takes and
 * gives a reference. */
static struct stored *prefer_own(struct request *r, struct stored *found)
{
    struct key reduced = r->key;
    struct key_hash hash = r->hash, variant_hash = r->variant_hash;
    struct bytes variant = r->variant;

    take_key(r, r->own);
    struct stored *own = find_under_key(r);

    if (no_vary_prefers_own(own, found) && (found == NULL || is_usable(r, own))) {
        stored_release(found);
        return own;
    }
    stored_release(own);
    r->key = reduced;
    r->hash = hash;
    r->variant = variant;
    r->variant_hash = variant_hash;
    return found;
}

static struct stored *find_reduced(struct request *r)
{
    struct worker *w = r->worker;
    char *buf = h2o_mem_alloc_pool(&r->req->pool, no_vary_bytes_max(&r->own));

    take_key(r, no_vary_reduce_by_marker(w->store, w->shared->store, &r->own, loop_now(w->loop), buf));
    struct stored *s = find_under_key(r);

    if (!is_reduced(r))
        return s;
    if (s != NULL && s->head->kind == STORED_RESPONSE && !no_vary_is_for(w->shared->store, s, &r->own, r->key.whole)) {
        stored_release(s);
        s = NULL;
    }
    return prefer_own(r, s);
}

/* The response or pass marker for this request. */
static struct stored *find(struct request *r)
{
    return r->route->conf->no_vary_search ? find_reduced(r) : find_under_key(r);
}

static bool is_held_down(struct request *r, struct stored *s)
{
    uint32_t now = (uint32_t)(loop_now(r->worker->loop).ms / REFRESH_STEP_MS);

    return atomic_load_explicit(&s->refresh_after, memory_order_relaxed) > now;
}

static enum reuse judge_reuse(struct stored *s, const struct lifetimes *lifetimes, int64_t age)
{
    enum reuse reuse = freshness_reuse(lifetimes, age);

    /* a refresh behind the client's back would fetch the whole */
    if (reuse == REUSE_STALE_WHILE_REVALIDATE && s->head->status == 206)
        return REUSE_VALIDATE;
    if (reuse == REUSE_FRESH && atomic_load_explicit(&s->expired, memory_order_relaxed))
        return lifetimes->stale_while_revalidate_ms > 0 && !lifetimes->must_revalidate ? REUSE_STALE_WHILE_REVALIDATE
                                                                                       : REUSE_VALIDATE;
    return reuse;
}

/* A stored part has not the bytes that are asked for. While it is fresh they may be added to it (RFC 9111 section 3.4).
 */
static void use_in_part(struct request *r, struct stored *s)
{
    struct lifetimes lifetimes = stored_lifetimes(s);

    if (judge_reuse(s, &lifetimes, age_of(r, s)) == REUSE_FRESH && r->in.get) {
        stored_release(r->partial);
        r->partial = stored_retain(s);
    }
    forward(r);
}

static bool lacks_what_is_asked_for(struct request *r, struct stored *s)
{
    struct part part;

    if (s->head->status != 206)
        return false;
    enum part_verdict choice = respond_choose_part(r, s, &part);

    return choice != PART_SOME && choice != PART_UNSATISFIABLE;
}

static bool is_time_to_refresh(struct request *r, struct stored *s, int64_t age)
{
    return s->early_ms > 0 && r->in.get && s->head->status != 206 && !is_held_down(r, s) &&
           freshness_refresh_early(span_ms(s->fresh) - age, s->early_ms, worker_random(r->worker));
}

static void use(struct request *r, struct stored *s)
{
    if (lacks_what_is_asked_for(r, s)) {
        use_in_part(r, s);
        return;
    }
    struct lifetimes lifetimes = stored_lifetimes(s);
    int64_t age = freshness_age_ms(&lifetimes, s->response_time, loop_now(r->worker->loop));
    enum reuse reuse = judge_reuse(s, &lifetimes, age), wished = reuse;

    if (r->route->conf->honor_client)
        wished = client_wish_reuse(&r->wish, &lifetimes, age, reuse);
    if (reuse != REUSE_VALIDATE && wished == REUSE_VALIDATE)
        r->status.fwd = FWD_REQUEST;
    switch (wished) {
    case REUSE_FRESH:
        r->outcome = OUTCOME_HIT;
        if (r->from_redis)
            r->status.detail = "redis";
        say_ttl(r, s, age);
        respond_stored(r, s, age);
        if (is_time_to_refresh(r, s, age))
            refresh(r, s);
        return;
    case REUSE_CLIENT_STALE:
        respond_stale(r, s, "max-stale");
        return;
    case REUSE_STALE_WHILE_REVALIDATE:
        respond_stale(r, s, "stale-while-revalidate");
        if (r->in.get && !is_held_down(r, s))
            refresh(r, s);
        return;
    case REUSE_VALIDATE:
        if (is_held_down(r, s) && freshness_stale_if_error(&lifetimes, age)) {
            respond_stale(r, s, "stale-if-error");
            return;
        }
        stored_release(r->stale);
        r->stale = stored_retain(s);
        forward(r);
        return;
    }
}

static void look_up(struct request *r)
{
    struct stored *s = find(r);
    bool personal = r->personal_authorization || r->personal_cookie;

    r->seen = s;
    r->status = (struct cache_status){.fwd = FWD_NONE};
    if (s != NULL && s->head->kind == STORED_RESPONSE && is_usable(r, s)) {
        /* `s` may go with the request, once the answer is out */
        use(r, s);
        stored_release(s);
        return;
    }
    bool pass = s != NULL && s->head->kind == STORED_PASS &&
                mono_since_ms(s->response_time, loop_now(r->worker->loop)) < stored_useful_ms(s);

    stored_release(s);
    if (personal) {
        r->status = (struct cache_status){.fwd = FWD_BYPASS, .detail = "scope"};
        if (r->wish.only_if_cached)
            respond_not_cached(r);
        else
            go_alone(r, r->in.get && !r->wish.no_store);
        return;
    }
    if (pass) {
        r->status.detail = "hit-for-miss";
        r->let_go = true;
    }
    forward(r);
}

/* --- the beginning --- */

static void build_key(struct request *r, const struct identity *who)
{
    const struct key_rules *rules = &r->route->conf->key;
    struct key_request k = {
        .https = r->in.https,
        .authority = r->in.authority,
        .path = r->in.path,
        .query = r->in.query,
        .has_query = r->in.has_query,
        .fields = r->in.fields,
        .user_scope = who->user_scope,
        .user = who->known && who->user_scope ? (struct bytes){(const char *)who->hash, USER_HASH_BYTES} : BYTES_NONE,
    };

    char *buf = h2o_mem_alloc_pool(&r->req->pool, key_bytes_max(rules, &k) + USER_HASH_BYTES);

    key_build(rules, &k, buf, &r->key);
    key_seal(rules, r->worker->hasher, buf, &r->key);
    r->own = r->key;
    r->hash = store_hash(r->worker->shared->store, r->key.whole);
}

/* Where nothing is cached the query goes out as it came. */
static void keep_query(struct request *r)
{
    struct bytes path = r->in.path, query = r->in.query;
    char *target;

    if (!r->in.has_query)
        return;
    target = h2o_mem_alloc_pool(&r->req->pool, path.n + 1 + query.n);
    memcpy(target, path.p, path.n);
    target[path.n] = '?';
    memcpy(target + path.n + 1, query.p, query.n);
    r->key.target = (struct bytes){target, path.n + 1 + query.n};
}

static void handle_routed(struct request *r)
{
    const struct conf_route *route = r->route->conf;
    struct identity who;

    identity_judge(route, r->in.fields, r->worker->hasher, &who);
    build_key(r, &who);
    r->user_scope = who.user_scope;
    /* Where the key does not hold who asks, what else tells users apart makes a request personal. */
    if (route->cache && (!who.user_scope || !who.known)) {
        struct personal p = personal_judge(&route->personal, r->in.fields);

        r->personal_authorization = p.authorization;
        r->personal_cookie = p.cookie;
    }
    if (!r->in.get && !r->in.head) {
        r->status.fwd = FWD_METHOD;
        r->may_answer_get =
            route->cache && bytes_eq(r->in.method, BYTES_LIT("POST")) && !outgoing_has_override(r->in.fields);
        keep_query(r);
        go_alone(r, false);
        return;
    }
    r->wish = NO_WISH;
    if (route->honor_client)
        r->wish = client_wish_of(r->in.fields);
    bool for_origin = conditional_for_origin(r->in.fields);

    if (!route->cache || r->in.has_body || for_origin) {
        r->status.fwd = FWD_BYPASS;
        r->status.detail = !route->cache ? NULL : r->in.has_body ? "body" : "precondition";
        keep_query(r);
        go_alone(r, false);
        return;
    }
    look_up(r);
}

/* What a route without a list of methods takes, as far as they have names. */
static const struct bytes every_method = BYTES_LIT("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/* A whole member of a list joined by ", ". */
static bool is_listed(struct bytes list, struct bytes word)
{
    for (size_t i = 0; i + word.n <= list.n; i++)
        if ((i == 0 || list.p[i - 1] == ' ') && memcmp(list.p + i, word.p, word.n) == 0 &&
            (i + word.n == list.n || list.p[i + word.n] == ','))
            return true;
    return false;
}

/* Allow (RFC 9110 section 10.2.1): every method that some route lists and that leads somewhere on this path. */
static struct bytes listed_methods(struct request *r)
{
    const struct snapshot *s = r->hold->snapshot;
    char *allow = h2o_mem_alloc_pool(&r->req->pool, ALLOW_MAX);
    size_t n = 0;

    for (size_t i = 0; i < s->conf->nroutes; i++)
        for (size_t j = 0; j < s->conf->routes[i].pattern.nmethods; j++) {
            struct bytes method = s->conf->routes[i].pattern.methods[j];

            if (n + method.n + 3 > ALLOW_MAX || is_listed((struct bytes){allow, n}, method) ||
                route_find(s->index, method, r->in.authority, r->in.path) >= s->conf->nroutes)
                continue;
            n += (size_t)sprintf(allow + n, "%s%.*s", n > 0 ? ", " : "", (int)method.n, method.p);
        }
    return (struct bytes){allow, n};
}

static void respond_no_method(struct request *r)
{
    r->allow = listed_methods(r);
    respond_problem(r, 405, "no route of this path takes this method", -1);
}

/* RFC 9110 section 7.6.2: who asked wants to know of this proxy, not of the backend. */
static bool is_last_hop(const struct request *r)
{
    return bytes_eq(r->in.method, BYTES_LIT("OPTIONS")) && forward_hops_left(r->in.fields) == 0;
}

static void route(struct request *r)
{
    const struct snapshot *s = r->hold->snapshot;
    size_t i = route_find(s->index, r->in.method, r->in.authority, r->in.path);

    if (i == ROUTE_METHOD) {
        respond_no_method(r);
        return;
    }
    if (i == ROUTE_NONE) {
        respond_problem(r, 404, "no route matches this host and path", -1);
        return;
    }
    r->route = &s->routes[i];
    if (is_last_hop(r)) {
        r->allow = r->route->conf->pattern.nmethods > 0 ? listed_methods(r) : every_method;
        respond_options(r);
        return;
    }
    handle_routed(r);
}

static struct request *request_create(h2o_req_t *req, struct worker *w)
{
    struct request *r = h2o_mem_alloc_shared(&req->pool, sizeof *r, on_dispose);

    memset(r, 0, sizeof *r);
    r->req = req;
    r->worker = w;
    r->hold = hold_use(w->hold);
    r->connection = connection_of(req);
    r->begin_us = now_us();
    r->waiter.wake = on_wake;
    r->status.fwd = FWD_BYPASS; /* until memory has been asked: what weir refuses is no hit */
    w->requests_open++;
    return r;
}

int request_handle(h2o_handler_t *self, h2o_req_t *req)
{
    struct worker *w = H2O_STRUCT_FROM_MEMBER(struct worker, ctx, req->conn->ctx);
    struct request *r = request_create(req, w);

    (void)self;
    bool alive = connection_request_begin(r->connection);
    struct request_verdict verdict = guard_check(req, &r->hold->snapshot->limits, &r->in);

    if (!alive) {
        respond_problem(r, 503, "this connection is being closed", -1);
        return 0;
    }
    if (verdict.status != 0) {
        if (verdict.status == 405)
            r->allow = every_method;
        respond_problem(r, verdict.status, verdict.why, -1);
        return 0;
    }
    if (r->hold->snapshot->conf->expose_health && health_public(r))
        return 0;
    route(r);
    return 0;
}
