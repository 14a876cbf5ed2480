#include "proxy/respond.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "policies/compress.h"
#include "policies/conditional.h"
#include "policies/http_date.h"
#include "proxy/forms.h"
#include "proxy/packer.h"

enum {
    RUNS = 16,             /* pieces of a body handed to libh2o at once */
    SEND_MAX = 256 * 1024, /* ... and bytes: TLS over HTTP/1.1 encrypts all that it is given in one go */
    FIELDS_ADDED = 4,      /* Age, Via, Cache-Status, one to spare */
};

const char *status_reason(int status)
{
    switch (status) {
    case 102:
        return "Processing";
    case 103:
        return "Early Hints";
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 202:
        return "Accepted";
    case 203:
        return "Non-Authoritative Information";
    case 204:
        return "No Content";
    case 205:
        return "Reset Content";
    case 206:
        return "Partial Content";
    case 300:
        return "Multiple Choices";
    case 301:
        return "Moved Permanently";
    case 302:
        return "Found";
    case 303:
        return "See Other";
    case 304:
        return "Not Modified";
    case 307:
        return "Temporary Redirect";
    case 308:
        return "Permanent Redirect";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 406:
        return "Not Acceptable";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 410:
        return "Gone";
    case 411:
        return "Length Required";
    case 412:
        return "Precondition Failed";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 415:
        return "Unsupported Media Type";
    case 416:
        return "Range Not Satisfiable";
    case 417:
        return "Expectation Failed";
    case 421:
        return "Misdirected Request";
    case 422:
        return "Unprocessable Content";
    case 425:
        return "Too Early";
    case 428:
        return "Precondition Required";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 451:
        return "Unavailable For Legal Reasons";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Status";
    }
}

static bool status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* --- prepared heads --- */

enum { NOWHERE = UINT16_MAX };

static size_t prepared_bytes(size_t nfields)
{
    /* and a Vary */
    return sizeof(struct prepared) + (nfields + 1) * (sizeof(h2o_header_t) + sizeof(uint16_t) + sizeof(bool));
}

/* Of what could have been sent in another coding (RFC 9110 section 12.5.5). */
static void add_vary(const struct head *head, struct prepared *p)
{
    static const h2o_iovec_t vary = {H2O_STRLIT("vary")};

    for (size_t i = 0; i < head->nfields; i++)
        if (bytes_eq(head->fields[i].name, BYTES_LIT("vary")) && head->values[i] == HEAD_SHARED &&
            compress_vary_names_it(head->fields[i].value))
            return;
    p->in_not_modified[p->nheaders] = true;
    p->headers[p->nheaders++] =
        (h2o_header_t){(h2o_iovec_t *)&vary, "Vary", h2o_iovec_init(H2O_STRLIT("Accept-Encoding"))};
}

static void prepared_fill(const struct head *head, void *room)
{
    struct prepared *p = room;
    size_t own = 0;

    _Static_assert(sizeof(h2o_iovec_t) == sizeof(struct bytes) &&
                       offsetof(h2o_iovec_t, len) == offsetof(struct bytes, n),
                   "a field's name is handed to libh2o in place");
    p->own_at = (uint16_t *)(void *)(p->headers + head->nfields + 1);
    p->in_not_modified = (bool *)(void *)(p->own_at + head->nfields + 1);
    for (size_t i = 0; i < head->nfields; i++) {
        const struct field *f = &head->fields[i];
        const h2o_token_t *token = h2o_lookup_token(f->name.p, f->name.n);
        bool is_date = token == H2O_TOKEN_DATE;

        if (head->values[i] == HEAD_OWN)
            p->own_at[own++] = is_date ? NOWHERE : (uint16_t)p->nheaders;
        /* libh2o writes Date itself (see send_first); a token's address is how it knows the field. */
        if (is_date)
            continue;
        /* For what calls itself MSIE libh2o writes `Cache-Control: private` in the place of a Vary that it knows. */
        if (token == H2O_TOKEN_VARY)
            token = NULL;
        p->in_not_modified[p->nheaders] = conditional_in_not_modified(f->name);
        p->headers[p->nheaders++] = (h2o_header_t){
            .name = token != NULL ? (h2o_iovec_t *)&token->buf : (h2o_iovec_t *)&f->name,
            .orig_name = f->orig_name,
            .value = h2o_iovec_init(f->value.p, f->value.n),
        };
    }
    if (head->forms != 0)
        add_vary(head, p);
}

const struct head_preparation prepared_heads = {prepared_bytes, prepared_fill};

static const struct prepared *prepared_of(const struct stored *s)
{
    return s->head->prepared;
}

/* --- heads --- */

static h2o_timestamp_string_t *date_text(struct worker *w, int64_t s)
{
    size_t slot = (size_t)s % DATES;
    h2o_timestamp_string_t *text = w->dates[slot].text;

    if (text != NULL && w->dates[slot].s == s)
        return text;
    if (text != NULL)
        h2o_mem_release_shared(text);
    text = h2o_mem_alloc_shared(NULL, sizeof *text, NULL);
    http_date_format((struct wall_s){s}, text->rfc1123);
    text->log[0] = '\0';
    w->dates[slot].s = s;
    w->dates[slot].text = text;
    return text;
}

/* libh2o always writes a Date of its own, from its context's cache. A stored response keeps the origin's: the cache is
 * lent that one for the moment in which the head is written. */
static void send_first(struct request *r, int64_t date_s, h2o_iovec_t *bufs, size_t n, h2o_send_state_t state)
{
    h2o_context_t *ctx = &r->worker->ctx;

    if (date_s < 0) {
        h2o_send(r->req, bufs, n, state);
        return;
    }
    h2o_get_timestamp(ctx, NULL, NULL); /* renews the cache now, so that it is not renewed while lent */
    h2o_timestamp_string_t *own = ctx->_timestamp_cache.value;

    ctx->_timestamp_cache.value = date_text(r->worker, date_s);
    h2o_send(r->req, bufs, n, state);
    ctx->_timestamp_cache.value = own;
}

/* name: with capitals, for HTTP/1. */
static void add_header(h2o_req_t *req, const h2o_token_t *token, const char *name, const char *value, size_t n)
{
    h2o_headers_t *h = &req->res.headers;

    assert(h->size < h->capacity);
    h->entries[h->size++] = (h2o_header_t){(h2o_iovec_t *)&token->buf, name, h2o_iovec_init(value, n)};
}

static void add_age(struct request *r, int64_t age_ms)
{
    char *text = h2o_mem_alloc_pool(&r->req->pool, 24);
    char *p = text + 24;
    uint64_t n = (uint64_t)freshness_age_field(age_ms);

    do
        *--p = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    add_header(r->req, H2O_TOKEN_AGE, "Age", p, (size_t)(text + 24 - p));
}

static void add_own(struct request *r)
{
    static const h2o_iovec_t cache_status = {H2O_STRLIT("cache-status")};
    static const char *const cache_status_case = "Cache-Status";
    char *text = h2o_mem_alloc_pool(&r->req->pool, CACHE_STATUS_MAX);
    size_t n = cache_status_format(&r->status, text);
    h2o_headers_t *h = &r->req->res.headers;

    if (r->in.http2)
        add_header(r->req, H2O_TOKEN_VIA, "Via", H2O_STRLIT("2 weir"));
    else
        add_header(r->req, H2O_TOKEN_VIA, "Via", H2O_STRLIT("1.1 weir"));
    h->entries[h->size++] = (h2o_header_t){(h2o_iovec_t *)&cache_status, cache_status_case, h2o_iovec_init(text, n)};
}

static void reserve_headers(struct request *r, size_t n)
{
    size_t capacity = n + FIELDS_ADDED;

    r->req->res.headers =
        (h2o_headers_t){h2o_mem_alloc_pool(&r->req->pool, capacity * sizeof(h2o_header_t)), 0, capacity};
}

static uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Before the first byte goes out, so that whoever has seen the answer sees it counted. */
static void count(struct request *r)
{
    if (r->unlisted)
        return;
    struct route_counters *c = r->route != NULL ? r->route->counters : counters_unrouted(r->worker->shared->counters);

    counter_add(&c->threads[r->worker->index].outcomes[r->outcome], 1);
}

static void count_latency(struct request *r)
{
    if (r->route != NULL)
        histogram_add(&r->route->counters->threads[r->worker->index].latency, now_us() - r->begin_us);
}

void request_waiting(struct request *r, bool waiting)
{
    if (r->waiting == waiting)
        return;
    r->waiting = waiting;
    connection_request_waiting(r->connection, waiting);
}

void request_unwatch(struct request *r)
{
    timer_disarm(r->worker->loop, &r->parked_long);
    if (r->hangup_on) {
        hangup_unwatch(r->worker->connections, &r->hangup);
        r->hangup_on = false;
    }
}

static void stop_parking(struct request *r)
{
    request_unwatch(r);
    request_waiting(r, false);
}

static void proceed(h2o_generator_t *generator, h2o_req_t *req);
static void stop(h2o_generator_t *generator, h2o_req_t *req);

static void start(struct request *r, int status, size_t content_length)
{
    assert(!r->started);
    stop_parking(r);
    r->started = true;
    /* HTTP/2 has been told by GOAWAY */
    if (!r->in.http2 && atomic_load_explicit(&r->worker->shared->draining, memory_order_relaxed))
        r->req->http1_is_persistent = 0;
    r->req->res.status = status;
    r->req->res.reason = status_reason(status);
    r->req->res.content_length = content_length;
    /* what retain_original_response would copy: nobody reads it */
    r->req->res.original.status = status;
    r->generator = (h2o_generator_t){proceed, stop};
    count(r);
    h2o_start_response(r->req, &r->generator);
}

static void finish(struct request *r)
{
    r->finished = true;
    count_latency(r);
}

/* --- bodies --- */

/* What a paused fetch waits for may be the memory that this reader held: it goes first. */
static void stop_reading(struct request *r)
{
    if (r->reading)
        stored_reader_stop(&r->reader);
    r->reading = false;
    flight_leave(&r->waiter);
}

/* The client is to see that something is missing. */
static void break_off(struct request *r)
{
    r->parked = false;
    r->broken_off = true;
    h2o_send(r->req, NULL, 0, H2O_SEND_STATE_ERROR);
}

static bool is_cut_off(struct request *r)
{
    struct flight *f = r->waiter.flight;

    return f != NULL && r->reader.position < atomic_load_explicit(&f->cut_below, memory_order_relaxed);
}

/* Up to where the part begins that is sent. False: not there yet. */
static bool skip(struct request *r)
{
    struct bytes runs[RUNS];

    while (r->skip > 0) {
        size_t n = stored_reader_peek(&r->reader, runs, RUNS, r->skip < SEND_MAX ? r->skip : SEND_MAX), sum = 0;

        for (size_t i = 0; i < n; i++)
            sum += runs[i].n;
        if (sum == 0)
            return false;
        stored_reader_advance(&r->reader, sum);
        r->skip -= sum;
    }
    return true;
}

/* A client that takes nothing holds all that came since in memory: that ends although a send is under way. On HTTP/1
 * the kernel may be reading what the reader holds until the request is disposed of. */
static void cut_off(struct request *r)
{
    r->broken_off = true;
    if (r->in.http2)
        stop_reading(r);
    connection_cut(r->req);
}

/* In the place of what goes in. False: no memory. */
static bool pack(struct request *r, const struct bytes *runs, size_t *n, bool final, h2o_iovec_t *bufs)
{
    struct bytes packed;

    if (*n == 0 && !final)
        return true;
    if (!packer_pack(r->packer, runs, *n, final, &packed))
        return false;
    bufs[0] = h2o_iovec_init(packed.p, packed.n);
    *n = 1;
    return true;
}

static void send_body(struct request *r, bool first)
{
    struct stored *s = r->sending;
    /* The state before the bytes: what is complete now has all its bytes published. */
    enum body_state state = stored_body_state(s);
    uint64_t length = stored_length(s);
    struct bytes runs[RUNS];
    h2o_iovec_t bufs[RUNS];
    size_t most = r->packer == NULL ? SEND_MAX : PACKER_PIECE_MAX, max = r->left < most ? r->left : most;
    size_t n = skip(r) ? stored_reader_peek(&r->reader, runs, RUNS, max) : 0, sum = 0;

    for (size_t i = 0; i < n; i++) {
        bufs[i] = h2o_iovec_init(runs[i].p, runs[i].n);
        sum += runs[i].n;
    }
    bool final = sum == r->left || (state == BODY_COMPLETE && r->reader.position + sum == length);

    if (is_cut_off(r) || (state == BODY_BROKEN && n == 0 && !first)) {
        break_off(r);
        return;
    }
    if (n == 0 && !final && !first) {
        r->parked = true;
        request_park(r);
        return;
    }
    if (r->packer != NULL && !pack(r, runs, &n, final, bufs)) {
        break_off(r);
        return;
    }
    r->parked = false;
    r->in_flight_bytes = sum;
    r->left -= sum;
    if (final)
        finish(r);
    send_first(r, first ? stored_date(s).s : -1, bufs, n, final ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

static void proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    struct request *r = (struct request *)generator;

    (void)req;
    if (r->broken_off) {
        break_off(r);
        return;
    }
    if (!r->reading)
        return;
    stored_reader_advance(&r->reader, r->in_flight_bytes);
    r->in_flight_bytes = 0;
    if (r->waiter.flight != NULL)
        flight_consumed(r->waiter.flight, r->reader.position);
    send_body(r, false);
}

/* The connection is gone; what is held is given back when the request is disposed of. */
static void stop(h2o_generator_t *generator, h2o_req_t *req)
{
    struct request *r = (struct request *)generator;

    (void)req;
    r->parked = false;
    stop_reading(r);
}

void respond_more(struct request *r)
{
    if (r->broken_off || r->finished)
        return;
    if (!r->parked) {
        if (is_cut_off(r))
            cut_off(r);
        return;
    }
    request_unwatch(r);
    request_waiting(r, false);
    send_body(r, false);
}

void respond_to_gone(struct request *r)
{
    r->parked = false;
    request_waiting(r, false);
    stop_reading(r);
    connection_break(r->req);
    h2o_send(r->req, NULL, 0, H2O_SEND_STATE_ERROR);
}

static bool start_reading(struct request *r, struct stored *s)
{
    r->reading = r->waiter.flight != NULL && s == r->waiter.flight->response
                     ? flight_reader_start(r->waiter.flight, &r->reader)
                     : stored_reader_start(&r->reader, s);
    return r->reading;
}

static void respond_without_body(struct request *r, struct stored *s, int status, size_t content_length)
{
    start(r, status, content_length);
    finish(r);
    send_first(r, stored_date(s).s, NULL, 0, H2O_SEND_STATE_FINAL);
}

/* What the answer to this very request has for its client alone. */
static struct fields withheld(const struct request *r, const struct stored *s)
{
    const struct flight *f = r->waiter.flight;

    return f != NULL && r->waiter.leader && f->response == s ? f->withheld : (struct fields){NULL, 0};
}

static void add_withheld(struct request *r, struct fields fields)
{
    for (size_t i = 0; i < fields.n; i++) {
        h2o_iovec_t name = h2o_strdup(&r->req->pool, fields.v[i].name.p, fields.v[i].name.n);
        h2o_iovec_t value = h2o_strdup(&r->req->pool, fields.v[i].value.p, fields.v[i].value.n);
        h2o_iovec_t orig_name = h2o_strdup(&r->req->pool, fields.v[i].orig_name, name.len);

        h2o_add_header_by_str(&r->req->pool, &r->req->res.headers, name.base, name.len, 1, orig_name.base, value.base,
                              value.len);
    }
}

/* extra: so many more are to come, beside weir's own. */
static void copy_headers(struct request *r, struct stored *s, size_t extra)
{
    const struct prepared *p = prepared_of(s);
    h2o_headers_t *h = &r->req->res.headers;
    const char *at = stored_own_values(s);

    reserve_headers(r, p->nheaders + extra);
    memcpy(h->entries, p->headers, p->nheaders * sizeof p->headers[0]);
    h->size = p->nheaders;
    for (uint32_t i = 0; i < s->head->nown; i++) {
        struct bytes value = own_value_next(&at);

        if (p->own_at[i] != NOWHERE)
            h->entries[p->own_at[i]].value = h2o_iovec_init(value.p, value.n);
    }
}

/* The fields of a 206 (RFC 9110 section 15.3.7): all, with the range that is sent. */
static void copy_part_headers(struct request *r, struct stored *s, size_t extra, const struct content_range *range)
{
    h2o_headers_t *h = &r->req->res.headers;
    char *text = h2o_mem_alloc_pool(&r->req->pool, CONTENT_RANGE_MAX);
    size_t kept = 0;

    copy_headers(r, s, extra);
    for (size_t i = 0; i < h->size; i++)
        if (h->entries[i].name != &H2O_TOKEN_CONTENT_RANGE->buf)
            h->entries[kept++] = h->entries[i];
    h->size = kept;
    add_header(r->req, H2O_TOKEN_CONTENT_RANGE, "Content-Range", text, content_range_format(range, text));
}

static void copy_not_modified_headers(struct request *r, struct stored *s, size_t extra)
{
    h2o_headers_t *h = &r->req->res.headers;
    size_t kept = 0;

    copy_headers(r, s, extra);
    for (size_t i = 0; i < h->size; i++)
        if (prepared_of(s)->in_not_modified[i])
            h->entries[kept++] = h->entries[i];
    h->size = kept;
}

/* What is made of the body on the way, or would be if there were one, has the fields that compress_fields gives what is
 * made beforehand; the Vary is there. */
static void recode_headers(struct request *r, bool not_modified)
{
    h2o_headers_t *h = &r->req->res.headers;
    size_t kept = 0;
    bool tagged = false;

    for (size_t i = 0; i < h->size; i++) {
        h2o_header_t header = h->entries[i];
        bool tag = header.name == &H2O_TOKEN_ETAG->buf;

        if (header.name == &H2O_TOKEN_CONTENT_ENCODING->buf || header.name == &H2O_TOKEN_ACCEPT_RANGES->buf ||
            (tag && tagged))
            continue;
        if (tag && header.value.len > 0 &&
            !bytes_starts((struct bytes){header.value.base, header.value.len}, BYTES_LIT("W/")))
            header.value = h2o_concat(&r->req->pool, h2o_iovec_init(H2O_STRLIT("W/")), header.value);
        tagged |= tag;
        h->entries[kept++] = header;
    }
    h->size = kept;
    if (!not_modified && r->coding != CODING_IDENTITY)
        add_header(r->req, H2O_TOKEN_CONTENT_ENCODING, "Content-Encoding", coding_name(r->coding).p,
                   coding_name(r->coding).n);
}

/* As much of a response as these conditions are about. */
static struct validators validators_of(const struct stored *s, const struct conditions *c, size_t nfields)
{
    struct validators v = {.date = stored_date(s)};

    if (c->if_none_match < nfields)
        v.etag = stored_value(s, BYTES_LIT("etag"));
    else
        v.last_modified = stored_value(s, BYTES_LIT("last-modified"));
    return v;
}

/* A client's conditions are weir's to judge where weir answers from what it keeps; what the origin answered to a
 * request that went alone has been judged by the origin. */
static enum conditional judge(struct request *r, struct stored *s)
{
    struct conditions c;

    if (!conditions_find(r->in.fields, &c) || (s->head->status != 200 && s->head->status != 206) || r->alone ||
        !(r->in.get || r->in.head))
        return CONDITIONAL_SEND;
    struct validators v = validators_of(s, &c, r->in.fields.n);

    return conditional_judge(r->in.fields, &c, &v, loop_wall(r->worker->loop));
}

static void send_problem(struct request *r, int status, const char *detail, int retry_after_s);

static uint64_t length_of(const struct stored *s)
{
    int64_t stated = stored_content_length(s);

    return stated >= 0 ? (uint64_t)stated : stored_body_state(s) == BODY_COMPLETE ? stored_length(s) : SIZE_MAX;
}

enum part_verdict respond_choose_part(struct request *r, struct stored *s, struct part *part)
{
    uint64_t length = length_of(s);
    struct stored_view view;

    if (!r->in.get || r->alone || !fields_has(r->in.fields, BYTES_LIT("range")))
        return PART_WHOLE;
    return part_choose(
        r->in.fields,
        &(struct part_facts){s->head->status, stored_fields(s, &view), length == SIZE_MAX ? -1 : (int64_t)length},
        loop_wall(r->worker->loop), part);
}

static void send_unsatisfiable(struct request *r, const struct content_range *range)
{
    char *text = h2o_mem_alloc_pool(&r->req->pool, CONTENT_RANGE_MAX);

    r->unsatisfied = (struct bytes){text, content_range_format(range, text)};
    send_problem(r, 416, "no byte of this response is in the range that was asked for", -1);
}

/* The origin's own 206 goes out as it came. */
static bool is_just_what_was_asked_for(struct request *r, struct stored *s)
{
    struct flight *f = r->waiter.flight;

    return s->head->status == 206 && f != NULL && f->response == s && !f->validated;
}

static bool respond_form(struct request *r, struct stored *whole, struct stored *s, enum conditional verdict,
                         int64_t age_ms);

static void recode(struct request *r, enum coding coding)
{
    r->recoded = true;
    r->coding = coding;
}

/* False: it goes out as it is. */
static bool stream(struct request *r, struct stored *s, enum coding coding, enum conditional verdict)
{
    if (!forms_may_stream(r, s))
        return false;
    if (r->in.get && verdict == CONDITIONAL_SEND) {
        r->packer = packer_create(r->worker, coding, &r->route->conf->compress);
        if (r->packer == NULL)
            return false;
    }
    recode(r, coding);
    return true;
}

/* What is not in the coding that is wanted is wanted from now on; meanwhile it goes out as it is, if it can. A HEAD
 * alone is not worth the work. */
static bool respond_in_best_form(struct request *r, struct stored *s, int64_t age_ms)
{
    struct form_choice choice = forms_choose(r, s);
    enum conditional verdict = judge(r, choice.form);
    bool lacks = choice.form == s && choice.coding != coder_came_in(s);

    if (lacks && !stream(r, s, choice.coding, verdict) && verdict == CONDITIONAL_SEND &&
        (r->in.get || choice.must_wait)) {
        bool coming = forms_want(r, s, choice.coding);

        if (choice.must_wait && coming && forms_wait(r, s, choice.coding, age_ms))
            return true;
        /* it may have been made meanwhile */
        if (choice.must_wait && stored_form(s, choice.coding) != NULL)
            choice.form = stored_form(s, choice.coding);
    }
    return respond_form(r, s, choice.form, verdict, age_ms);
}

/* It will be stored, and forms of it made. One that turned out too large for that, so that this request began again, is
 * taken as it comes. */
static bool will_have_forms(struct request *r, struct stored *s)
{
    const struct flight *f = r->waiter.flight;

    return coder_has_forms(s) && f != NULL && f->note == STORING_OK && stored_body_state(s) == BODY_OPEN &&
           !r->as_it_comes;
}

/* The flight wakes the request again. False: it is passed through by now. */
static bool await_whole(struct request *r)
{
    struct stored_reader reader;

    if (!flight_reader_start(r->waiter.flight, &reader))
        return false;
    stored_reader_stop(&reader);
    r->awaits_whole = true;
    return true;
}

/* Still arriving; or only its head has come, to be like the one that a GET would get. */
static bool respond_on_arrival(struct request *r, struct stored *s, int64_t age_ms)
{
    struct form_choice choice = forms_choose(r, s);
    enum conditional verdict = judge(r, s);

    if (choice.coding != coder_came_in(s) && !stream(r, s, choice.coding, verdict) && choice.must_wait) {
        if (r->in.head)
            recode(r, choice.coding);
        else if (verdict == CONDITIONAL_SEND && will_have_forms(r, s))
            return await_whole(r);
    }
    return respond_form(r, s, s, verdict, age_ms);
}

bool respond_stored(struct request *r, struct stored *s, int64_t age_ms)
{
    if (s->head->forms != 0 && (r->in.get || r->in.head)) {
        if (coder_has_forms(s) && stored_body_state(s) == BODY_COMPLETE)
            return respond_in_best_form(r, s, age_ms);
        if (s->head->status != 206)
            return respond_on_arrival(r, s, age_ms);
    }
    return respond_form(r, s, s, judge(r, s), age_ms);
}

void respond_again(struct request *r, struct stored *s, int64_t age_ms)
{
    if (!respond_stored(r, s, age_ms))
        respond_problem(r, 503, "this response cannot be delivered any more", 1);
}

/* s: `whole`, or a form of it. */
static bool respond_form(struct request *r, struct stored *whole, struct stored *s, enum conditional verdict,
                         int64_t age_ms)
{
    if (verdict != CONDITIONAL_SEND && r->status.fwd != FWD_NONE && r->status.fwd_status == 0)
        r->status.fwd_status = s->head->status;
    struct part part;
    enum part_verdict choice = PART_WHOLE;

    if (verdict == CONDITIONAL_SEND && !is_just_what_was_asked_for(r, s))
        choice = respond_choose_part(r, s, &part);

    if (choice == PART_UNSATISFIABLE) {
        send_unsatisfiable(r, &part.range);
        return true;
    }
    bool with_body = verdict == CONDITIONAL_SEND && !r->in.head && status_has_body(s->head->status);

    if (with_body && !start_reading(r, s)) {
        packer_destroy(r->packer);
        r->packer = NULL;
        r->recoded = false;
        return false;
    }
    size_t extra = withheld(r, whole).n;

    r->sending = stored_retain(s);
    if (verdict == CONDITIONAL_NOT_MODIFIED)
        copy_not_modified_headers(r, s, extra);
    else if (choice == PART_SOME)
        copy_part_headers(r, s, extra, &part.range);
    else
        copy_headers(r, s, extra);
    add_withheld(r, withheld(r, whole));
    if (age_ms >= 0)
        add_age(r, age_ms);
    add_own(r);

    size_t length = r->in.head && r->alone && stored_content_length(s) < 0 ? SIZE_MAX : (size_t)length_of(s);

    if (r->recoded) {
        recode_headers(r, verdict == CONDITIONAL_NOT_MODIFIED);
        length = SIZE_MAX;
    }
    r->skip = 0;
    r->left = UINT64_MAX;
    if (choice == PART_SOME) {
        r->skip = part.offset;
        r->left = part.n;
        start(r, 206, part.n);
        send_body(r, true);
    } else if (with_body) {
        start(r, s->head->status, length);
        send_body(r, true);
    } else if (verdict == CONDITIONAL_NOT_MODIFIED)
        respond_without_body(r, s, 304, SIZE_MAX);
    else
        respond_without_body(r, s, s->head->status, status_has_body(s->head->status) ? length : SIZE_MAX);
    return true;
}

void respond_to_nobody(struct request *r)
{
    static h2o_generator_t none;

    r->req->http1_is_persistent = 0;
    connection_break(r->req);
    r->req->res.status = 503;
    r->req->res.reason = status_reason(503);
    r->req->res.content_length = 0;
    h2o_start_response(r->req, &none);
    h2o_send(r->req, NULL, 0, H2O_SEND_STATE_FINAL);
}

static void respond_bytes(struct request *r, int status, h2o_iovec_t body)
{
    start(r, status, body.len);
    finish(r);
    h2o_send(r->req, &body, r->in.head ? 0 : 1, H2O_SEND_STATE_FINAL);
}

static void send_problem(struct request *r, int status, const char *detail, int retry_after_s)
{
    json_t *problem = json_pack("{s:s, s:i, s:s}", "title", status_reason(status), "status", status, "detail", detail);
    char *text = json_dumps(problem, JSON_COMPACT);
    size_t n = strlen(text);
    h2o_iovec_t body = h2o_strdup(&r->req->pool, text, n);

    free(text);
    json_decref(problem);
    reserve_headers(r, 4);
    if (r->unsatisfied.n > 0)
        add_header(r->req, H2O_TOKEN_CONTENT_RANGE, "Content-Range", r->unsatisfied.p, r->unsatisfied.n);
    if (r->allow.n > 0)
        add_header(r->req, H2O_TOKEN_ALLOW, "Allow", r->allow.p, r->allow.n);
    add_header(r->req, H2O_TOKEN_CONTENT_TYPE, "Content-Type", H2O_STRLIT("application/problem+json"));
    add_header(r->req, H2O_TOKEN_CACHE_CONTROL, "Cache-Control", H2O_STRLIT("no-store"));
    if (retry_after_s >= 0) {
        char *seconds = h2o_mem_alloc_pool(&r->req->pool, 12);

        add_header(r->req, H2O_TOKEN_RETRY_AFTER, "Retry-After", seconds,
                   (size_t)snprintf(seconds, 12, "%d", retry_after_s));
    }
    add_own(r);
    respond_bytes(r, status, body);
}

void respond_problem(struct request *r, int status, const char *detail, int retry_after_s)
{
    r->outcome = OUTCOME_ERROR;
    send_problem(r, status, detail, retry_after_s);
}

void respond_options(struct request *r)
{
    r->outcome = OUTCOME_BYPASS;
    reserve_headers(r, 2);
    add_header(r->req, H2O_TOKEN_ALLOW, "Allow", r->allow.p, r->allow.n);
    add_header(r->req, H2O_TOKEN_CACHE_CONTROL, "Cache-Control", H2O_STRLIT("no-store"));
    add_own(r);
    start(r, 204, SIZE_MAX);
    finish(r);
    h2o_send(r->req, NULL, 0, H2O_SEND_STATE_FINAL);
}

void respond_text(struct request *r, int status, struct bytes content_type, struct bytes body)
{
    reserve_headers(r, 2);
    add_header(r->req, H2O_TOKEN_CONTENT_TYPE, "Content-Type", content_type.p, content_type.n);
    add_header(r->req, H2O_TOKEN_CACHE_CONTROL, "Cache-Control", H2O_STRLIT("no-store"));
    respond_bytes(r, status, h2o_strdup(&r->req->pool, body.p, body.n));
}
