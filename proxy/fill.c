#include "proxy/fill.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "proxy/answer.h"
#include "proxy/interim.h"
#include "proxy/invalidate.h"
#include "proxy/no_vary.h"
#include "proxy/outgoing.h"
#include "proxy/parts.h"
#include "proxy/pass_marker.h"
#include "proxy/redis_flight.h"
#include "proxy/respond.h"
#include "proxy/selection.h"
#include "proxy/vary_marker.h"

enum {
    WINDOW = 1024 * 1024, /* of a body that is passed through: so far may the origin be ahead of the fastest reader */
    /* that much of it may be in memory before any reader is cut off: the window, and what readers hold of chunks */
    LAG_MIN = WINDOW + 2 * STORED_CHUNK_MAX,
    UNTOLD_MAX = 64 * 1024, /* of a body that comes with its head */
    RETRY_MS = 50,          /* after there was no memory for more of a body that is passed through */
    LET_GO_MS = 2,          /* after which readers that were cut off may have let go of what they held */
    HOLD_DOWN_MS = 1000,    /* after a failed refresh, doubled each time */
    HOLD_DOWN_MAX_MS = 30 * 1000,
};

struct fill {
    struct ask ask;
    struct fill *next, *prev; /* the worker's list */
    struct flight *flight;
    struct fetch *fetch;        /* NULL: Redis is asked first */
    struct redis_flight *redis; /* NULL: it has no part in this */
    bool untold;                /* the head has come, the flight does not know yet */
    struct message tell;
    bool went_out;   /* to the origin, at least once */
    bool refreshing; /* behind the back of the client, which got a stale response: nobody need wait for it */
    bool validating; /* our validators went out with the request */
    bool kept;       /* the body stays whole */
    bool storing;    /* ... and is to be stored */
    bool freshened;  /* a 304 came: `response` is complete */
    bool overtaken;  /* by a purge of one of its tags: the leader's alone */
    uint64_t began;  /* store_birth() before the fetch */
    struct stored *stale;
    struct stored *head_of; /* what this HEAD asks about is stored */
    struct stored *partial; /* a fresh part of what is fetched */
    enum part_gap gap;      /* what of `partial` is fetched to make it whole: */
    struct content_range wanted;
    size_t range_n;          /* bytes of the flight's key that say which range it is about */
    bool completing;         /* and it comes: `response` is the whole */
    bool for_one;            /* those that wait may have asked for another variant */
    struct offers offers;    /* other variants whose tags went out with the request; then `stale` did not */
    struct stored *response; /* the flight's; borrowed */
    uint64_t produced;
    uint64_t sent_us;
    bool cutting;       /* cut_below has risen since the readers were last told */
    struct timer retry; /* while it is paused for want of memory */
    bool starved;       /* ... and has been for RETRY_MS */
};

static uint64_t clock_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void link_fill(struct fill *fill)
{
    fill->next = fill->ask.worker->fills;
    if (fill->next != NULL)
        fill->next->prev = fill;
    fill->ask.worker->fills = fill;
}

static void unlink_fill(struct fill *fill)
{
    if (fill->prev != NULL)
        fill->prev->next = fill->next;
    else
        fill->ask.worker->fills = fill->next;
    if (fill->next != NULL)
        fill->next->prev = fill->prev;
}

static void fill_free(struct fill *fill)
{
    unlink_fill(fill);
    timer_disarm(fill->ask.worker->loop, &fill->retry);
    stored_release(fill->stale);
    stored_release(fill->partial);
    stored_release(fill->head_of);
    offers_fini(&fill->offers);
    redis_flight_free(fill->redis);
    ask_fini(&fill->ask);
    free(fill);
}

/* The key that the flight was made for, without the range that it is about. */
static struct bytes base_key(const struct fill *fill)
{
    struct bytes key = fill->flight->entries[0].key;

    key.n -= fill->range_n;
    return key;
}

static void tell_and_end(struct fill *fill, enum flight_state state)
{
    struct flight *f = fill->flight;

    flight_close(f);
    flight_tell(f, state);
    flight_end(f);
    fill_free(fill);
}

static void hold_down_for(struct fill *fill, int64_t ms)
{
    int64_t until_ms = loop_now(fill->ask.worker->loop).ms + ms;

    atomic_store(&fill->stale->refresh_after, (uint32_t)((until_ms + REFRESH_STEP_MS - 1) / REFRESH_STEP_MS));
}

/* One failure holds back the next tries, for everybody who has this stale response. */
static void hold_down(struct fill *fill, int64_t at_least_ms)
{
    struct stored *s = fill->stale;
    unsigned failures = atomic_load(&s->refresh_failures);
    int64_t delay = HOLD_DOWN_MS << (failures < 5 ? failures : 5);

    delay = delay < HOLD_DOWN_MAX_MS ? delay : HOLD_DOWN_MAX_MS;
    if (failures < UINT8_MAX)
        atomic_store(&s->refresh_failures, (uint8_t)(failures + 1));
    hold_down_for(fill, delay > at_least_ms ? delay : at_least_ms);
}

static void fail(struct fill *fill, int failure, int status)
{
    if (fill->stale != NULL)
        hold_down(fill, 0);
    fill->flight->failure = failure;
    fill->flight->failure_status = status;
    tell_and_end(fill, FLIGHT_FAILED);
}

/* The origin was not asked at all: the next try may be made as soon as it may be. */
static void refuse(struct fill *fill, int64_t retry_after_ms)
{
    if (fill->stale != NULL)
        hold_down_for(fill, retry_after_ms > 0 ? retry_after_ms : HOLD_DOWN_MS);
    fill->flight->failure = FETCH_BREAKER_OPEN;
    fill->flight->retry_after_ms = retry_after_ms;
    tell_and_end(fill, FLIGHT_FAILED);
}

static void put_pass(struct fill *fill, struct bytes key, size_t key_url_n)
{
    struct worker *w = fill->ask.worker;

    if (!pass_marker_put(&fill->ask, fill->flight->born, key, key_url_n, fill->flight->note, loop_now(w->loop)))
        log_event(w->shared->log, CONF_LOG_DEBUG, "a marker was not stored");
    else
        redis_flight_write_pass(fill->redis, key, key_url_n, fill->flight->note);
}

/* Others are sent to the variant's key by a marker under the primary one. The marker comes last: whoever
 * reads it finds the flight there. False: no memory. */
static bool nominate(struct fill *fill, const struct answer *a)
{
    struct flight *f = fill->flight;

    if (a->spec_n == 0 && !a->rekeyed)
        return true;
    if (fill->ask.asked_range) {
        fill->for_one = !bytes_eq(base_key(fill), a->key);
        if (a->spec_n > 0 && a->respec)
            vary_marker_put(&fill->ask, f->born, (struct bytes){a->spec, a->spec_n}, a->key);
        return true;
    }
    if (a->spec_n > 0) {
        char *spec = malloc(a->spec_n);

        if (spec == NULL)
            return false;
        memcpy(spec, a->spec, a->spec_n);
        f->spec = (struct bytes){spec, a->spec_n};
    }
    if (!bytes_eq(f->entries[0].key, a->key) && !flight_add_variant(f, a->hash, a->key, a->primary.url.n))
        return false;
    if (a->spec_n > 0 && a->respec)
        vary_marker_put(&fill->ask, f->born, f->spec, a->key);
    return true;
}

/* Later requests of the path have their queries reduced as this answer says, until another says otherwise. */
static void put_no_vary_marker(struct fill *fill, const struct answer *a)
{
    struct worker *w = fill->ask.worker;
    const struct ask *ask = &fill->ask;

    if (ask->route->conf->no_vary_search && ask->cacheable &&
        !no_vary_mark(w->store, w->shared->store, &ask->own, a->fields, fill->flight->born, loop_now(w->loop)))
        log_event(w->shared->log, CONF_LOG_DEBUG, "a marker was not stored");
}

static bool may_stand_in(struct fill *fill)
{
    if (fill->stale == NULL)
        return false;
    struct lifetimes lifetimes = stored_lifetimes(fill->stale);

    return freshness_stale_if_error(
        &lifetimes, freshness_age_ms(&lifetimes, fill->stale->response_time, loop_now(fill->ask.worker->loop)));
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
    if (fill->kept || fill->untold || atomic_load(&fill->flight->waiters) > 0)
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

    if (!fill->ask.alone && !fill->for_one && !fill->overtaken) {
        struct bytes key = base_key(fill);

        put_pass(fill, key, f->entries[0].key_url_n);
    }
    flight_close(f);
    flight_tell(f, FLIGHT_LEADER); /* the leader, in this thread, starts to read in here */
    if (!fill->kept)
        discard_body(fill);
}

/* What the head said. A small answer is there as a whole by now, head and body, and goes out in one piece. */
static void tell_head(struct fill *fill)
{
    struct flight *f = fill->flight;

    loop_undefer(fill->ask.worker->loop, &fill->tell);
    fill->untold = false;
    if (fill->ask.alone || !fill->kept || (fill->freshened && !fill->storing) || fill->for_one) {
        give_to_leader(fill);
        return;
    }
    if (!fill->storing)
        flight_close(f);
    flight_tell(f, FLIGHT_SHARED);
}

static void on_turn_end(struct message *m)
{
    struct fill *fill = (struct fill *)((char *)m - offsetof(struct fill, tell));

    tell_head(fill);
    end_if_abandoned(fill);
}

/* From the request's start to the answer's head. */
static uint32_t fetch_ms(const struct fill *fill)
{
    int64_t ms = mono_since_ms(fill->ask.sent, loop_now(fill->ask.worker->loop));

    return ms < 1 ? 1 : ms > INT32_MAX ? INT32_MAX : (uint32_t)ms;
}

/* From here on it is about the key that the answer has. */
static void rekey(struct fill *fill, struct answer *a)
{
    struct ask *ask = &fill->ask;

    if (!a->rekeyed)
        return;
    /* no word for those whose queries the reduced key stands for, too */
    if (ask->own.whole.p != ask->primary.p && a->storing != STORING_OK && !answer_is_shared_error(a))
        fill->for_one = true;
    ask->primary = a->primary.whole;
    ask->primary_hash = a->primary_hash;
    ask->url_n = a->primary.url.n;
    ask->primary_memory = a->primary_memory;
    a->primary_memory = NULL;
}

/* RFC 8246 section 2.1: what is immutable is not asked about while it is fresh. */
static bool is_refreshed_early(const struct conf_route *route, const struct answer *a)
{
    return route->ttl != NULL && route->ttl->early_refresh && (route->ignore_origin || !a->cc.immutable);
}

static void publish(struct fill *fill, struct answer *a, struct stored *response)
{
    struct flight *f = fill->flight;

    if (is_refreshed_early(fill->ask.route->conf, a))
        response->early_ms = fetch_ms(fill);
    f->response = response;
    f->answer_key = f->entries[0].key;
    fill->overtaken = fill->ask.alone ? store_tags_purged_since(fill->ask.worker->shared->store, response, fill->began)
                                      : !flight_show_tags(f);
    f->note = fill->overtaken ? STORING_PURGED : (int)a->storing;
    f->withheld = answer_withheld(a);
    fill->response = response;
    rekey(fill, a);
    fill->storing = !fill->overtaken && a->storing == STORING_OK && nominate(fill, a);
    fill->kept =
        fill->storing || (!fill->overtaken && !fill->ask.alone && answer_is_shared_error(a) && nominate(fill, a));
    if (fill->storing)
        put_no_vary_marker(fill, a);
    fill->untold = true;
    fill->tell.run = on_turn_end;
    loop_defer(fill->ask.worker->loop, &fill->tell);
}

static void put_response(struct fill *fill)
{
    struct worker *w = fill->ask.worker;
    struct flight *f = fill->flight;

    if (!fill->storing || atomic_load(&f->doomed))
        return;
    if (!store_put(w->store, fill->response, loop_now(w->loop))) {
        log_event(w->shared->log, CONF_LOG_DEBUG, "a response was not stored: purged meanwhile, or no room");
        return;
    }
    vary_marker_enlist(&fill->ask, f->born, fill->response);
    redis_flight_write(fill->redis, fill->response);
}

static struct bytes without_weakness(struct bytes etag)
{
    return bytes_starts(etag, BYTES_LIT("W/")) ? (struct bytes){etag.p + 2, etag.n - 2} : etag;
}

/* A 304 that names another validator than was asked about speaks of a response that is not here. */
static bool confirms(struct fields not_modified, const struct stored *s)
{
    struct bytes theirs = fields_value(not_modified, BYTES_LIT("etag")), ours = stored_value(s, BYTES_LIT("etag"));

    return theirs.n == 0 || ours.n == 0 || bytes_eq(without_weakness(theirs), without_weakness(ours));
}

/* Was the response that the answer builds on, or the answer itself, purged by a tag meanwhile? */
static bool is_overtaken(struct fill *fill, const struct stored *base)
{
    return fill->overtaken || store_tags_purged_since(fill->ask.worker->shared->store, base, fill->flight->born);
}

static void ask_anew(struct fill *fill)
{
    loop_undefer(fill->ask.worker->loop, &fill->tell);
    if (!fill->freshened)
        stored_finish_body(fill->response, BODY_BROKEN);
    fetch_cancel(fill->fetch);
    tell_and_end(fill, FLIGHT_DECLINED);
}

/* Which stored response a 304 confirms (RFC 9111 section 4.3.4): from here on it is `stale`. False: none that is here.
 */
static bool find_confirmed(struct fill *fill, struct fields not_modified)
{
    struct stored *named;

    if (fill->validating)
        return confirms(not_modified, fill->stale);
    named = offers_named(&fill->offers, not_modified);
    if (named == NULL || !selection_may_build_on(fill->ask.worker->shared->store, named))
        return false;
    stored_release(fill->stale);
    fill->stale = stored_retain(named);
    return true;
}

/* The answer is known; the fetch ends by itself, so that its connection stays. */
static void freshen(struct fill *fill, struct answer *a)
{
    struct worker *w = fill->ask.worker;

    a->content_length = (int64_t)stored_length(fill->stale);
    struct stored_options options = answer_options(a, &fill->ask, fill->flight->born);
    struct stored *response = stored_create_freshened(w->store, &options, fill->stale, loop_now(w->loop));

    if (response == NULL) {
        fetch_cancel(fill->fetch);
        fail(fill, FILL_NO_ROOM, 0);
        return;
    }
    coder_carry_over(w->store, fill->stale, response, loop_now(w->loop));
    fill->freshened = fill->flight->validated = true;
    publish(fill, a, response);
    if (is_overtaken(fill, fill->stale)) {
        ask_anew(fill);
        return;
    }
    fill->kept = true;
    if (fill->storing)
        put_response(fill);
    else if (fill->offers.n == 0)
        store_remove(w->store, fill->stale);
}

static void decline(struct fill *fill)
{
    fetch_cancel(fill->fetch);
    if (fill->offers.n > 0)
        offers_withdraw(&fill->offers);
    else if (fill->stale != NULL)
        store_remove(fill->ask.worker->store, fill->stale);
    if (fill->partial != NULL)
        store_remove(fill->ask.worker->store, fill->partial);
    tell_and_end(fill, FLIGHT_DECLINED);
}

/* Is that answer the very piece that is missing, of the same representation (RFC 9111 section 3.4)? */
static bool is_wanted(const struct fill *fill, int status, struct fields fields)
{
    struct content_range range;
    struct stored_view view;

    return status == 206 && content_range_parse(fields_value(fields, BYTES_LIT("content-range")), &range) &&
           range.first == fill->wanted.first && range.last == fill->wanted.last &&
           range.complete == fill->wanted.complete &&
           validators_agree_strongly(stored_fields(fill->partial, &view), fields, loop_wall(fill->ask.worker->loop));
}

/* What the stored part lacks is coming: whoever waits gets the whole. */
static void complete(struct fill *fill, struct answer *a)
{
    struct worker *w = fill->ask.worker;

    a->content_length = fill->wanted.complete;
    struct stored_options options = answer_options(a, &fill->ask, fill->flight->born);
    struct stored *response = stored_create(w->store, &options, loop_now(w->loop));

    if (response == NULL ||
        (fill->gap == PART_GAP_TAIL && !parts_append(w->store, response, fill->partial, 0, loop_now(w->loop)))) {
        stored_release(response);
        fetch_cancel(fill->fetch);
        fail(fill, FILL_NO_ROOM, 0);
        return;
    }
    fill->completing = true;
    fill->produced = stored_length(response);
    publish(fill, a, response);
    if (is_overtaken(fill, fill->partial))
        ask_anew(fill);
}

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

static void take_answer(struct fill *fill, struct answer *a)
{
    struct worker *w = fill->ask.worker;
    struct stored_options options = answer_options(a, &fill->ask, fill->flight->born);
    struct stored *response = stored_create(w->store, &options, loop_now(w->loop));

    if (response != NULL) {
        publish(fill, a, response);
        return;
    }
    fetch_cancel(fill->fetch);
    fail(fill, FILL_NO_ROOM, 0);
}

static bool is_same(struct fields a, struct fields b, struct bytes name)
{
    return !fields_has(a, name) || bytes_eq(fields_value(a, name), fields_value(b, name));
}

/* The answer to a HEAD says what GET would get: the head of what is stored is renewed by it, unless it speaks of
 * something else; then that is not fresh any more (RFC 9111 section 4.3.5). */
static void update_by_head(struct fill *fill, struct fields fields, int64_t content_length)
{
    struct worker *w = fill->ask.worker;
    struct stored *old = fill->head_of;
    struct stored_view view;
    struct fields known = stored_fields(old, &view);
    struct ask as_get = fill->ask;
    struct answer a;

    if ((content_length >= 0 && (uint64_t)content_length != stored_length(old)) ||
        !is_same(fields, known, BYTES_LIT("etag")) || !is_same(fields, known, BYTES_LIT("last-modified"))) {
        stored_expire(old);
        return;
    }
    as_get.method = BYTES_LIT("GET");
    as_get.cacheable = true;
    as_get.head = false;
    answer_judge(&a, &as_get, old, 304, fields, (int64_t)stored_length(old));
    if (a.storing == STORING_OK && bytes_eq(a.key, stored_key(old))) {
        struct stored_options options = answer_options(&a, &as_get, fill->flight->born);
        struct stored *updated = stored_create_freshened(w->store, &options, old, loop_now(w->loop));

        if (updated != NULL)
            coder_carry_over(w->store, old, updated, loop_now(w->loop));
        if (updated != NULL && !store_put(w->store, updated, loop_now(w->loop)))
            log_event(w->shared->log, CONF_LOG_DEBUG, "a head was not renewed: purged meanwhile, or no room");
        stored_release(updated);
    } else
        stored_expire(old);
    answer_fini(&a);
}

static void on_head(struct fetch *fetch, void *data, int status, struct fields fields, int64_t content_length)
{
    struct fill *fill = data;
    struct worker *w = fill->ask.worker;
    struct answer a;

    (void)fetch;
    histogram_add(&fill->ask.route->counters->threads[w->index].origin, clock_us() - fill->sent_us);
    if (fill->ask.unsafe && status >= 200 && status < 400)
        invalidate(&fill->ask, fields, &fill->flight->born);
    if (freshness_is_error(status) && may_stand_in(fill)) {
        hold_down(fill, retry_after_ms(fields));
        fill->flight->failure = FILL_ORIGIN_ERROR;
        fill->flight->failure_status = status;
        fetch_cancel(fill->fetch);
        tell_and_end(fill, FLIGHT_FAILED);
        return;
    }
    if (fill->head_of != NULL && status == 200)
        update_by_head(fill, fields, content_length);
    bool validated = status == 304 && (fill->validating || fill->offers.n > 0);

    if (validated && !find_confirmed(fill, fields)) {
        decline(fill);
        return;
    }
    bool wanted = fill->gap != PART_GAP_NONE && is_wanted(fill, status, fields);

    if (fill->gap != PART_GAP_NONE && !wanted && (status == 206 || status == 416)) {
        decline(fill);
        return;
    }
    answer_judge(&a, &fill->ask,
                 validated ? fill->stale
                 : wanted  ? fill->partial
                           : NULL,
                 status, fields, content_length);
    if (validated)
        freshen(fill, &a);
    else if (wanted)
        complete(fill, &a);
    else
        take_answer(fill, &a);
    answer_fini(&a);
}

/* What turns out too large to be kept is passed through: those who wait go on, the next ones do not join. */
static void keep_no_longer(struct fill *fill)
{
    struct flight *f = fill->flight;

    if (fill->storing && !fill->ask.alone && !fill->ask.asked_range)
        put_pass(fill, f->answer_key, f->entries[f->entries[1].key.p != NULL].key_url_n);
    flight_close(f);
    discard_body(fill);
}

/* Who is further behind than `lag` is cut off instead of filling memory. The fastest never is: it is the origin that
 * waits for that one. */
static void cut_off(struct fill *fill, size_t lag)
{
    struct flight *f = fill->flight;
    uint64_t consumed = atomic_load(&f->consumed), below = fill->produced > lag ? fill->produced - lag : 0;

    if (below > consumed)
        below = consumed;
    if (below <= atomic_load_explicit(&f->cut_below, memory_order_relaxed))
        return;
    atomic_store(&f->cut_below, below);
    fill->cutting = true;
}

static void tell_body(struct fill *fill)
{
    fill->cutting = false;
    flight_tell_body(fill->flight);
}

static void resume(struct fill *fill)
{
    atomic_store(&fill->flight->paused, false);
    fetch_resume(fill->fetch);
}

static void on_retry(struct timer *t)
{
    struct fill *fill = (struct fill *)((char *)t - offsetof(struct fill, retry));

    if (atomic_load(&fill->flight->paused))
        resume(fill);
}

static void on_starved(struct timer *t)
{
    struct fill *fill = (struct fill *)((char *)t - offsetof(struct fill, retry));

    fill->starved = true;
    on_retry(t);
}

static void retry_in(struct fill *fill, int64_t ms, void (*fire)(struct timer *))
{
    fill->retry.fire = fire;
    timer_arm(fill->ask.worker->loop, &fill->retry, ms);
}

/* Those that are cut off are told now: what they hold may be what it waits for. */
static bool pause_body(struct fill *fill)
{
    if (fill->cutting)
        tell_body(fill);
    return false;
}

/* Nobody holds the origin up but the fastest reader, and for a moment those that were cut off and whose threads have
 * not come round to letting go: what they hold would grow meanwhile, and others' responses go for it. */
static bool must_pause(struct fill *fill)
{
    struct flight *f = fill->flight;
    size_t object_max = fill->ask.hold->snapshot->conf->memory_object_bytes_max;
    size_t lag_max = object_max > LAG_MIN ? object_max : LAG_MIN;
    size_t held = stored_body_bytes(fill->response);

    if (held > lag_max)
        cut_off(fill, lag_max / 2);
    if (held > 2 * lag_max) {
        atomic_store(&f->paused, true);
        retry_in(fill, LET_GO_MS, on_retry);
        return true;
    }
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
    return stored_append(fill->ask.worker->store, fill->response, piece, loop_now(fill->ask.worker->loop));
}

/* False: no memory, until readers have taken more of it or left, or others have given up theirs. */
static bool append_passed(struct fill *fill, struct bytes piece)
{
    struct flight *f = fill->flight;
    bool appended = append(fill, piece);

    if (!appended) {
        atomic_store(&f->paused, true);
        appended = append(fill, piece); /* a reader that just did may have missed the flag */
        if (appended)
            atomic_store(&f->paused, false);
    }
    if (appended) {
        fill->starved = false;
        return true;
    }
    /* So little may be in memory of any body that is passed through, whatever the others hold. */
    if (fill->starved)
        cut_off(fill, STORED_CHUNK_MAX);
    retry_in(fill, RETRY_MS, on_starved);
    return false;
}

static bool on_body(struct fetch *fetch, void *data, struct bytes piece)
{
    struct fill *fill = data;
    bool appended = false;

    (void)fetch;
    bool fits = fill->produced + piece.n <= fill->ask.hold->snapshot->conf->memory_object_bytes_max;

    if (fill->untold && fill->produced + piece.n <= UNTOLD_MAX && (fits || !fill->kept) && append(fill, piece)) {
        fill->produced += piece.n;
        return true;
    }
    if (fill->untold)
        tell_head(fill);
    if (fill->kept) {
        appended = fits && append(fill, piece);
        if (!appended)
            keep_no_longer(fill);
    }
    if (end_if_abandoned(fill))
        return true;
    if (!appended && must_pause(fill))
        return pause_body(fill);
    if (!appended && !append_passed(fill, piece))
        return pause_body(fill);
    fill->produced += piece.n;
    /* Its end, which comes with the last of it, tells that too: who has all of it may ask again, and finds it stored.
     */
    if (fill->cutting || (int64_t)fill->produced != stored_content_length(fill->response))
        tell_body(fill);
    return true;
}

/* Nobody has been sent anything yet: better an error, or something stale, than half an answer. */
static void fail_untold(struct fill *fill, enum fetch_end end)
{
    loop_undefer(fill->ask.worker->loop, &fill->tell);
    stored_finish_body(fill->response, BODY_BROKEN);
    fail(fill, (int)end, 0);
}

/* The new part and the one that was there are one from now on, if they touch and are of one representation. */
static void join_parts(struct fill *fill)
{
    struct worker *w = fill->ask.worker;
    struct mono_ms now = loop_now(w->loop);
    struct stored *joined = parts_join(w->store, fill->partial, fill->response, now, loop_wall(w->loop),
                                       fill->ask.hold->snapshot->conf->memory_object_bytes_max);

    if (joined != NULL && !store_put(w->store, joined, now))
        log_event(w->shared->log, CONF_LOG_DEBUG, "two parts were not joined: purged meanwhile, or no room");
    stored_release(joined);
}

/* The last of what was there follows the first that was missing. False: it does not come to that. */
static bool append_what_was_there(struct fill *fill)
{
    struct worker *w = fill->ask.worker;

    return !fill->completing || fill->gap != PART_GAP_HEAD ||
           parts_append(w->store, fill->response, fill->partial, 0, loop_now(w->loop));
}

static void finish(struct fill *fill)
{
    struct flight *f = fill->flight;

    if (!fill->freshened) {
        stored_finish_body(fill->response, BODY_COMPLETE);
        put_response(fill);
    }
    if (fill->storing && fill->partial != NULL && !fill->completing && fill->response->head->status == 206 &&
        !atomic_load(&f->doomed))
        join_parts(fill);
    /* stored before it is closed: whoever comes in between finds one or the other */
    flight_close(f);
    if (fill->untold)
        tell_head(fill);
    else
        flight_tell_body(f);
    flight_end(f);
    fill_free(fill);
}

static void break_off(struct fill *fill, enum fetch_end end)
{
    struct flight *f = fill->flight;

    log_event(fill->ask.worker->shared->log, CONF_LOG_WARN, "origin answer broken off: %s after %llu bytes, %.*s",
              fetch_end_word(end), (unsigned long long)fill->produced, (int)fill->ask.target.n, fill->ask.target.p);
    stored_finish_body(fill->response, BODY_BROKEN);
    flight_close(f);
    flight_tell_body(f);
    flight_end(f);
    fill_free(fill);
}

static void on_done(struct fetch *fetch, void *data, enum fetch_end end)
{
    struct fill *fill = data;

    if (end == FETCH_BREAKER_OPEN)
        refuse(fill, fetch_retry_after_ms(fetch));
    else if (fill->response == NULL)
        fail(fill, (int)end, 0);
    else if (fill->freshened || (end == FETCH_OK && append_what_was_there(fill)))
        finish(fill);
    else if (fill->untold)
        fail_untold(fill, end);
    else
        break_off(fill, end);
}

static void on_sent(struct fetch *fetch, void *data)
{
    struct fill *fill = data;

    (void)fetch;
    ask_sent(&fill->ask);
    fill->went_out = true;
    fill->sent_us = clock_us();
    counter_add(&fill->ask.route->counters->threads[fill->ask.worker->index].origin_requests, 1);
}

/* For the one whose request was sent; who only waits for the same answer gets that alone. */
static void on_interim(struct fetch *fetch, void *data, int status, struct fields fields)
{
    struct fill *fill = data;
    struct flight_waiter *leader = fill->flight->leader;

    (void)fetch;
    if (leader != NULL)
        interim_pass(H2O_STRUCT_FROM_MEMBER(struct request, waiter, leader), status, fields);
}

static const struct fetch_callbacks callbacks = {
    .head = on_head, .body = on_body, .done = on_done, .sent = on_sent, .interim = on_interim};

/* What a stored part lacks, of the same representation where it has a strong name. */
static void ask_for_the_rest(struct request *r, struct fill *fill, struct outgoing_extra *extra)
{
    struct stored *s = fill->partial;
    struct bytes etag = stored_value(s, BYTES_LIT("etag"));
    struct stored_view view;
    struct part_facts facts = {s->head->status, stored_fields(s, &view), (int64_t)stored_length(s)};
    char *text = h2o_mem_alloc_pool(&r->req->pool, CONTENT_RANGE_MAX);
    int n;

    fill->gap = part_gap(&facts, &fill->wanted);
    if (fill->gap == PART_GAP_NONE)
        return;
    if (fill->gap == PART_GAP_TAIL)
        n = snprintf(text, CONTENT_RANGE_MAX, "bytes=%" PRId64 "-", fill->wanted.first);
    else
        n = snprintf(text, CONTENT_RANGE_MAX, "bytes=0-%" PRId64, fill->wanted.last);
    extra->range = (struct bytes){text, (size_t)n};
    if (etag.n > 0 && !bytes_starts(etag, BYTES_LIT("W/")))
        extra->if_range = etag;
}

/* One client's HEAD may speak for what is stored for others as its GET might: not if it is personal. */
static bool cacheable_head(const struct request *r)
{
    return !r->personal_authorization && !r->personal_cookie;
}

/* For this request nothing is stored that could be asked about, but for others that differ in what responses vary on:
 * one of theirs may be the answer to this one too (RFC 9111 section 4.3.1). The flight is in the table by now, so that
 * a purge from here on finds that. */
static void offer_others(struct fill *fill, struct request *r, struct outgoing_extra *extra)
{
    struct worker *w = r->worker;
    struct selection q = request_selection(r);

    if (fill->ask.alone || !fill->ask.cacheable || fill->ask.asked_range || fill->validating || fill->partial != NULL ||
        r->variant.n == 0)
        return;
    struct stored *marker = store_peek(w->store, r->hash, r->key.whole);

    if (marker != NULL)
        offers_collect(&q, marker, &fill->offers);
    stored_release(marker);
    if (fill->offers.n == 0)
        return;
    char *text = h2o_mem_alloc_pool(&r->req->pool, offers_write(&fill->offers, NULL));

    extra->tags = (struct bytes){text, offers_write(&fill->offers, text)};
}

/* It is there, and by a reduced key also for this request's own query. */
static bool still_counts(const struct request *r, const struct stored *s)
{
    struct worker *w = r->worker;

    return store_holds(w->store, s) &&
           (r->key.whole.p == r->own.whole.p || !store_purged_since(w->shared->store, r->own.url, s->born));
}

static bool has_validator(const struct stored *s)
{
    struct stored_view view;

    return answer_has_validator(stored_fields(s, &view));
}

/* Those who wait look into memory again: it has by now what Redis had. */
static void on_redis(void *data, bool in_memory)
{
    struct fill *fill = data;

    if (!in_memory) {
        fill->fetch = fetch_start(fill->ask.worker->upstream, redis_flight_request(fill->redis), &callbacks, fill);
        return;
    }
    fill->flight->note = FILL_FROM_REDIS;
    tell_and_end(fill, FLIGHT_DECLINED);
}

/* From Redis, if it has it; else from the origin. */
static void begin(struct fill *fill, const struct fetch_request *request)
{
    fill->redis = redis_flight_start(&fill->ask, fill->flight, fill->stale, request, on_redis, fill);
    if (fill->redis == NULL)
        fill->fetch = fetch_start(fill->ask.worker->upstream, request, &callbacks, fill);
}

static void cancel_fetch(struct fill *fill)
{
    if (fill->fetch != NULL)
        fetch_cancel(fill->fetch);
}

void fill_start(struct request *r, struct flight *f, bool cacheable)
{
    struct fill *fill = calloc(1, sizeof *fill);
    struct outgoing out;

    if (fill == NULL)
        abort();
    ask_init(&fill->ask, r, cacheable);
    link_fill(fill);
    fill->flight = f;
    fill->began = f->born;
    fill->refreshing = r->refreshing;
    fill->sent_us = clock_us();
    /* What was purged or replaced while the request waited is not to be confirmed by a 304. The flight is in the table
     * by now: a purge from here on finds that. */
    if (!fill->ask.alone && r->stale != NULL && still_counts(r, r->stale)) {
        fill->stale = stored_retain(r->stale);
        fill->validating = has_validator(r->stale);
    }
    if (r->in.head && r->stale != NULL && r->stale->head->status == 200 && cacheable_head(r) &&
        still_counts(r, r->stale))
        fill->head_of = stored_retain(r->stale);
    struct outgoing_extra extra = {.validate = fill->validating ? fill->stale : NULL, .range = r->range};

    if (r->partial != NULL && !fill->ask.alone) {
        fill->partial = stored_retain(r->partial);
        if (r->range.n == 0 && still_counts(r, r->partial))
            ask_for_the_rest(r, fill, &extra);
    }
    offer_others(fill, r, &extra);
    fill->range_n = r->range.n > 0 ? r->range.n + 1 : 0;
    outgoing_collect(r, &fill->ask, &extra, &out);
    f->home_data = fill;
    begin(fill, &(struct fetch_request){
                    .backend = r->route->backend,
                    .method = r->in.method,
                    .target = outgoing_target(r),
                    .authority = r->in.authority,
                    .fields = {out.v, out.n},
                    .body = r->in.body,
                    .has_body = r->in.has_body,
                    .safe = !fill->ask.unsafe,
                });
}

void fills_cancel(struct worker *w)
{
    while (w->fills != NULL) {
        struct fill *fill = w->fills;

        cancel_fetch(fill);
        loop_undefer(w->loop, &fill->tell);
        if (fill->response != NULL && !fill->freshened)
            stored_finish_body(fill->response, BODY_BROKEN);
        flight_end(fill->flight);
        fill_free(fill);
    }
}
/* Before its answer. An unsafe request is not taken back once it may have had its effect; what may be stored is fetched
 * to its end, but for what the origin has not been asked for yet. */
static bool give_up_if_abandoned(struct fill *fill)
{
    struct flight *f = fill->flight;
    bool taken_back = !fill->ask.unsafe && !fill->refreshing && !(fill->ask.cacheable && fill->went_out);

    if (!taken_back || !flight_close_abandoned(f))
        return false;
    cancel_fetch(fill);
    flight_end(f);
    fill_free(fill);
    return true;
}

void fill_look(struct flight *f)
{
    struct fill *fill = f->home_data;

    flight_home_begin(f);
    if (fill != NULL) {
        bool ended = fill->response != NULL ? end_if_abandoned(fill) : give_up_if_abandoned(fill);

        if (!ended && atomic_load(&f->paused) && fill->produced < atomic_load(&f->consumed) + WINDOW / 2)
            resume(fill);
    }
    flight_home_done(f);
}
