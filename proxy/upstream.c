#include "proxy/upstream.h"

#include <assert.h>
#include <h2o.h>
#include <stdlib.h>

#include "policies/freshness.h"
#include "proxy/log.h"
#include "proxy/pool.h"

struct upstream {
    struct loop *loop;
    struct backends *backends;
    struct log *log;       /* may be NULL */
    struct timer comeback; /* of a server that has been left alone since this thread met its failure */
    struct pools pools;
    h2o_linklist_t fetches, todo;
    struct message on_todo;
    bool todo_deferred, begins; /* begins: some in todo are to begin */
};

enum phase { PHASE_BEGIN, PHASE_LINE, PHASE_CONNECT, PHASE_SENT, PHASE_BODY };

/* What cannot be done from where it was asked for. */
enum todo { TODO_CANCEL = 1, TODO_FAIL = 2, TODO_BEGIN = 4, TODO_RESUME = 8 };

#define NEVER_MS INT64_MAX

struct fetch {
    struct gate_ticket ticket;
    struct upstream *up;
    h2o_linklist_t link, todo_link;
    unsigned todo;
    const struct fetch_callbacks *cb;
    void *data;
    struct transfer *t; /* while one runs */

    enum phase phase;
    int64_t phase_due_ms, total_due_ms, armed_ms;
    int64_t proven_ms; /* when an answer to a breaker's probe that still goes on is a success */
    struct timer timer;

    unsigned sent_here; /* times that t has sent it */
    bool recount;       /* the attempt before this one was counted, but met a dead connection and nobody */
    bool retried, twice, stale, refused, paused, cancelled, safe;
    bool held_back; /* has been paused at least once */
    enum fetch_end end;

    /* the request; all in `memory` */
    struct curl_slist *lines;
    const char *method, *target;
    struct bytes body;
    bool has_body;
    _Alignas(struct curl_slist) char memory[];
};

#define OF(type, member, ptr) ((type *)((char *)(ptr)-offsetof(type, member)))

const char *fetch_end_word(enum fetch_end e)
{
    switch (e) {
    case FETCH_OK:
        return "ok";
    case FETCH_QUEUE_FULL:
        return "queue_full";
    case FETCH_QUEUE_TIMEOUT:
        return "queue_timeout";
    case FETCH_BREAKER_OPEN:
        return "breaker_open";
    case FETCH_CONNECT:
        return "connect";
    case FETCH_RESET:
        return "reset";
    case FETCH_BAD_RESPONSE:
        return "bad_response";
    case FETCH_TRUNCATED:
        return "truncated";
    case FETCH_TIMEOUT:
        return "timeout";
    }
    return "unknown";
}

/* The request as libcurl takes it: a list of lines, without what libcurl would add by itself */

/* Written by libcurl, or no longer of use: the body is here already, so nobody needs to wait for 100 (Continue). */
static bool is_withheld(struct bytes name)
{
    return bytes_eq(name, BYTES_LIT("host")) || bytes_eq(name, BYTES_LIT("content-length")) ||
           bytes_eq(name, BYTES_LIT("transfer-encoding")) || bytes_eq(name, BYTES_LIT("connection")) ||
           bytes_eq(name, BYTES_LIT("expect"));
}

static const char *put_text(char **at, struct bytes text)
{
    char *begin = *at;
    if (text.n > 0)
        memcpy(begin, text.p, text.n);
    begin[text.n] = '\0';
    *at += text.n + 1;
    return begin;
}

struct line_writer {
    struct curl_slist *node;
    char *at;
};

static void put_line(struct line_writer *w, const char *name, size_t name_n, struct bytes value)
{
    w->node->data = w->at;
    w->node->next = w->node + 1;
    w->node++;
    memcpy(w->at, name, name_n);
    w->at += name_n;
    if (value.n == 0) { /* "Name:" would take libcurl's own line of that name out */
        memcpy(w->at, ";", 2);
        w->at += 2;
        return;
    }
    memcpy(w->at, ": ", 2);
    w->at += 2;
    put_text(&w->at, value);
}

static void put_absent(struct line_writer *w, struct fields fields, struct bytes name, const char *line)
{
    if (fields_has(fields, name))
        return;
    w->node->data = (char *)line; /* libcurl only reads it */
    w->node->next = w->node + 1;
    w->node++;
}

static void put_fields(struct line_writer *w, struct fields fields)
{
    for (size_t i = 0; i < fields.n; i++) {
        const struct field *field = &fields.v[i];
        if (!is_withheld(field->name))
            put_line(w, field->orig_name != NULL ? field->orig_name : field->name.p, field->name.n, field->value);
    }
}

enum { LINES_MORE = 4 }; /* Host, Accept, Content-Type, Expect */

static size_t lines_bytes(const struct fetch_request *request)
{
    size_t n = (request->fields.n + LINES_MORE) * sizeof(struct curl_slist) + sizeof("Host: ") + request->authority.n;
    for (size_t i = 0; i < request->fields.n; i++)
        n += request->fields.v[i].name.n + request->fields.v[i].value.n + 3;
    return n;
}

static bool has_body(const struct fetch_request *request)
{
    return (request->has_body || request->body.n > 0) && !bytes_eq(request->method, BYTES_LIT("HEAD"));
}

static void put_request(struct fetch *f, const struct fetch_request *request)
{
    struct line_writer w = {.node = (struct curl_slist *)f->memory};

    w.at = (char *)(w.node + request->fields.n + LINES_MORE);
    f->lines = w.node;
    if (request->authority.n > 0)
        put_line(&w, "Host", 4, request->authority);
    put_fields(&w, request->fields);
    put_absent(&w, request->fields, BYTES_LIT("accept"), "Accept:");
    if (f->has_body) {
        put_absent(&w, request->fields, BYTES_LIT("content-type"), "Content-Type:");
        put_absent(&w, (struct fields){0}, BYTES_LIT("expect"), "Expect:");
    }
    if (w.node == f->lines)
        f->lines = NULL;
    else
        w.node[-1].next = NULL;
    f->method = put_text(&w.at, request->method);
    f->target = put_text(&w.at, request->target);
    f->body = (struct bytes){put_text(&w.at, f->has_body ? request->body : BYTES_NONE), request->body.n};
}

static struct fetch *fetch_create(const struct fetch_request *request)
{
    bool body = has_body(request);
    size_t n = lines_bytes(request) + request->method.n + request->target.n + (body ? request->body.n : 0) + 3;
    struct fetch *f = h2o_mem_alloc(sizeof(*f) + n);

    memset(f, 0, sizeof(*f));
    f->has_body = body;
    f->safe = request->safe;
    put_request(f, request);
    return f;
}

/* Deadlines: one timer, moved only when it would be late */

static int64_t deadline_ms(const struct fetch *f)
{
    return f->phase_due_ms < f->total_due_ms ? f->phase_due_ms : f->total_due_ms;
}

static int64_t due_ms(const struct fetch *f)
{
    return f->proven_ms < deadline_ms(f) ? f->proven_ms : deadline_ms(f);
}

static void set_timer(struct fetch *f)
{
    int64_t due = due_ms(f);
    if (due == NEVER_MS || (timer_armed(&f->timer) && f->armed_ms <= due))
        return;
    f->armed_ms = due;
    timer_arm(f->up->loop, &f->timer, due - loop_now(f->up->loop).ms);
}

static int64_t after_ms(const struct fetch *f, int64_t ms)
{
    return ms > 0 ? loop_now(f->up->loop).ms + ms : NEVER_MS;
}

static void enter_phase(struct fetch *f, enum phase phase, int64_t ms)
{
    f->phase = phase;
    f->phase_due_ms = after_ms(f, ms);
    set_timer(f);
}

/* Put off */

static void put_off(struct fetch *f, enum todo what)
{
    struct upstream *up = f->up;
    f->todo |= what;
    up->begins |= what == TODO_BEGIN;
    if (!h2o_linklist_is_linked(&f->todo_link))
        h2o_linklist_insert(&up->todo, &f->todo_link);
    if (up->todo_deferred)
        return;
    up->todo_deferred = true;
    loop_defer(up->loop, &up->on_todo);
}

/* What it says of its server */

/* Somebody may wait for a server that is left alone until then. */
static void come_back_in(struct upstream *up, int64_t ms)
{
    if (!timer_armed(&up->comeback) || up->comeback.due_ms > loop_now(up->loop).ms + ms)
        timer_arm(up->loop, &up->comeback, ms);
}

static void log_change(const struct fetch *f, const struct breaker_news *news)
{
    const char *name = gate_backend_name(f->ticket.backend), *url = f->ticket.server->url;

    if (f->up->log == NULL)
        return;
    switch (news->change) {
    case BREAKER_UNCHANGED:
        return;
    case BREAKER_OPENS:
        log_event(f->up->log, CONF_LOG_WARN, "backend %s: breaker open for %s: %u of %u exchanges failed", name, url,
                  news->counted.failed, news->counted.all);
        return;
    case BREAKER_OPENS_AGAIN:
        log_event(f->up->log, CONF_LOG_DEBUG, "backend %s: breaker stays open for %s: it still fails", name, url);
        return;
    case BREAKER_CLOSES:
        log_event(f->up->log, CONF_LOG_INFO, "backend %s: breaker closed for %s: it answers again", name, url);
        return;
    }
}

static void report(struct fetch *f, enum breaker_verdict verdict)
{
    struct breaker_news news = gate_judge(&f->ticket, verdict, loop_now(f->up->loop));

    if (news.change == BREAKER_UNCHANGED)
        return;
    log_change(f, &news);
    if (news.change != BREAKER_CLOSES)
        come_back_in(f->up, f->ticket.limits.open_ms);
}

/* Some errors are known for what they are by their head. Of a long answer to a probe the end need not be waited for. */
static void report_head(struct fetch *f)
{
    if (freshness_is_error(f->t->head.status)) {
        report(f, BREAKER_FAILURE);
    } else if (f->ticket.pass.probe) {
        f->proven_ms = after_ms(f, f->ticket.limits.open_ms);
        set_timer(f);
    }
}

/* Servers may close what is idle, just when it is used; and what a slow reader took of the total time is not theirs. */
static bool is_to_blame(const struct fetch *f, enum fetch_end end)
{
    if (end == FETCH_RESET && f->t->reused && f->t->head.bytes == 0)
        return false;
    return !(end == FETCH_TIMEOUT && f->held_back && loop_now(f->up->loop).ms >= f->total_due_ms);
}

static void report_if_proven(struct fetch *f)
{
    if (loop_now(f->up->loop).ms < f->proven_ms)
        return;
    f->proven_ms = NEVER_MS;
    report(f, BREAKER_SUCCESS);
}

static void report_end(struct fetch *f, enum fetch_end end)
{
    if (f->t == NULL) /* nobody was asked */
        return;
    if (end == FETCH_OK)
        report(f, BREAKER_SUCCESS);
    else if (is_to_blame(f, end))
        report(f, BREAKER_FAILURE);
}

/* Ends */

static void drop_transfer(struct fetch *f)
{
    if (f->t == NULL)
        return;
    transfer_end(f->t);
    transfer_give(f->t);
    f->t = NULL;
}

/* False: the message that it was granted a slot is still on its way, and frees it. */
static bool drop(struct fetch *f)
{
    bool mine = true;

    drop_transfer(f);
    timer_disarm(f->up->loop, &f->timer);
    h2o_linklist_unlink(&f->link);
    if (h2o_linklist_is_linked(&f->todo_link))
        h2o_linklist_unlink(&f->todo_link);
    if (f->phase == PHASE_LINE)
        mine = gate_abandon(&f->ticket);
    if (f->ticket.server != NULL)
        gate_leave(&f->ticket, loop_now(f->up->loop));
    f->up = NULL;
    return mine;
}

static void drop_and_free(struct fetch *f)
{
    if (drop(f))
        free(f);
}

static void finish(struct fetch *f, enum fetch_end end)
{
    report_end(f, end);
    if (end != FETCH_OK)
        gate_count_failure(f->ticket.backend);
    bool mine = drop(f);
    assert(mine);
    f->cb->done(f, f->data, end);
    free(f);
}

static enum fetch_end judge(const struct fetch *f, CURLcode code)
{
    if (f->refused)
        return FETCH_BAD_RESPONSE;
    if (f->twice)
        return FETCH_RESET;
    if (code == CURLE_OK && f->t->head.complete)
        return transfer_was_cut(f->t) ? FETCH_TRUNCATED : FETCH_OK;
    if (code == CURLE_OK)
        return FETCH_RESET;
    if (f->sent_here == 0)
        return FETCH_CONNECT;
    if (f->t->head.complete)
        return FETCH_TRUNCATED;
    if (code == CURLE_GOT_NOTHING || code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_PARTIAL_FILE)
        return FETCH_RESET;
    return FETCH_BAD_RESPONSE;
}

/* One attempt */

enum { METHOD_GET, METHOD_HEAD, METHOD_OTHER };

static void set_method(struct transfer *t, const struct fetch *f)
{
    int method = METHOD_OTHER;
    if (!f->has_body && strcmp(f->method, "GET") == 0)
        method = METHOD_GET;
    else if (strcmp(f->method, "HEAD") == 0)
        method = METHOD_HEAD;
    if (method == t->method && method != METHOD_OTHER)
        return;
    t->method = method;
    curl_easy_setopt(t->easy, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt(t->easy, CURLOPT_NOBODY, method == METHOD_HEAD ? 1L : 0L);
    curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, method == METHOD_OTHER ? f->method : NULL);
    if (!f->has_body)
        return;
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)f->body.n);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, f->body.p);
}

static void begin(struct fetch *f)
{
    if (f->total_due_ms == NEVER_MS)
        f->total_due_ms = after_ms(f, f->ticket.limits.total_ms);
    struct transfer *t = transfer_take(&f->up->pools, &f->ticket);
    if (t == NULL) {
        finish(f, FETCH_CONNECT);
        return;
    }
    f->t = t;
    f->sent_here = 0;
    t->user = f;
    set_method(t, f);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, f->lines);
    curl_easy_setopt(t->easy, CURLOPT_REQUEST_TARGET, f->target);
    enter_phase(f, PHASE_CONNECT, f->ticket.limits.connect_ms);
    transfer_begin(t);
}

static void go_on(struct fetch *f, enum gate_answer answer, enum fetch_end end)
{
    switch (answer) {
    case GATE_GRANTED:
        f->phase = PHASE_BEGIN;
        put_off(f, TODO_BEGIN);
        return;
    case GATE_WAITS:
        enter_phase(f, PHASE_LINE, f->ticket.limits.queue_ms);
        return;
    case GATE_FULL:
    case GATE_NO_OTHER:
    case GATE_SHUT:
        finish(f, end);
        return;
    }
}

static void on_comeback(struct timer *timer)
{
    struct upstream *up = OF(struct upstream, comeback, timer);

    loop_refresh(up->loop);
    int64_t now_ms = loop_now(up->loop).ms, next_ms = backends_serve(up->backends, loop_now(up->loop));
    if (next_ms < INT64_MAX)
        timer_arm(up->loop, timer, next_ms - now_ms);
}

/* Where one kept connection was dead, so may the others be. What did not arrive the origin has not seen: it counts
 * once.
 */
static void met_dead_connection(struct fetch *f)
{
    f->ticket.fresh = true;
    f->recount = !f->t->arrived;
}

/* Only one retry in all, libcurl's own included. A request that went out is sent again only if that is safe and nothing
 * of an answer came; one that did not go out, whatever its method, goes to another server. */
static void ended_with(struct fetch *f, enum fetch_end end)
{
    bool unreachable = f->sent_here == 0 && (end == FETCH_CONNECT || end == FETCH_TIMEOUT);
    bool again = unreachable || (end == FETCH_RESET && f->safe && !f->twice && f->t->head.bytes == 0);

    if (unreachable)
        server_reached(f->ticket.server, REACHED_NO);
    if (!again || f->retried) {
        finish(f, end);
        return;
    }
    report_end(f, end);
    f->retried = true;
    if (!unreachable && f->t->reused)
        met_dead_connection(f);
    drop_transfer(f);
    if (unreachable)
        come_back_in(f->up, GATE_AVOID_MS);
    go_on(f, gate_again(&f->ticket, unreachable, loop_now(f->up->loop)), end);
}

static void on_ended(struct transfer *t, CURLcode code)
{
    struct fetch *f = t->user;
    if (f->cancelled) {
        drop_and_free(f);
    } else if (f->stale) { /* nothing was sent; libcurl has closed that connection and takes the next, or a new one */
        f->stale = false;
        drop_transfer(f);
        put_off(f, TODO_BEGIN);
    } else {
        ended_with(f, judge(f, code));
    }
}

static void on_connecting(struct transfer *t)
{
    struct fetch *f = t->user;
    if (f->phase == PHASE_SENT) /* libcurl's retry, on a new connection */
        enter_phase(f, PHASE_CONNECT, f->ticket.limits.connect_ms);
}

static void tell_sent(struct fetch *f)
{
    gate_count_sent(f->ticket.backend);
    if (f->cb->sent != NULL)
        f->cb->sent(f, f->data);
}

/* libcurl sends a request again, whatever its method and up to five times, when a connection that it reused turns out
 * to be dead. */
static int on_send(void *data, char *ip, char *local_ip, int port, int local_port)
{
    struct transfer *t = data;
    struct fetch *f = t->user;
    (void)ip, (void)local_ip, (void)port;

    if (f->cancelled)
        return CURL_PREREQFUNC_ABORT;
    if (f->sent_here > 0 && (!f->safe || f->retried)) {
        f->twice = true;
        return CURL_PREREQFUNC_ABORT;
    }
    bool again = f->sent_here > 0;
    if (again) {
        f->retried = true;
        met_dead_connection(f);
    }
    if (!transfer_may_send(t, (uint16_t)local_port) || (again && t->reused)) {
        f->stale = true;
        return CURL_PREREQFUNC_ABORT;
    }
    f->sent_here++;
    enter_phase(f, PHASE_SENT, f->ticket.limits.first_byte_ms);
    server_reached(f->ticket.server, REACHED_YES);
    if (!f->recount)
        tell_sent(f);
    f->recount = false;
    return f->cancelled ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

static bool is_until_close(const struct transfer *t)
{
    int status = t->head.status;
    return t->head.content_length < 0 && !t->head.chunked && t->method != METHOD_HEAD && status != 204 && status != 304;
}

static void give_interim(struct fetch *f)
{
    if (f->cb->interim != NULL)
        f->cb->interim(f, f->data, f->t->head.status, answer_head_fields(&f->t->head));
}

static size_t on_head_line(char *p, size_t size, size_t n, void *data)
{
    struct transfer *t = data;
    struct fetch *f = t->user;
    (void)size;

    if (f->cancelled)
        return CURL_WRITEFUNC_ERROR;
    switch (answer_head_line(&t->head, (struct bytes){p, n})) {
    case ANSWER_MORE:
        return n;
    case ANSWER_INTERIM:
        give_interim(f);
        return f->cancelled ? CURL_WRITEFUNC_ERROR : n;
    case ANSWER_REFUSED:
        f->refused = true;
        return CURL_WRITEFUNC_ERROR;
    case ANSWER_COMPLETE:
        break;
    }
    if (is_until_close(t))
        transfer_until_close(t);
    enter_phase(f, PHASE_BODY, f->ticket.limits.idle_ms);
    report_head(f);
    f->cb->head(f, f->data, t->head.status, answer_head_fields(&t->head), t->head.content_length);
    return f->cancelled ? CURL_WRITEFUNC_ERROR : n;
}

static size_t on_body(char *p, size_t size, size_t n, void *data)
{
    struct transfer *t = data;
    struct fetch *f = t->user;
    (void)size;

    if (f->cancelled)
        return CURL_WRITEFUNC_ERROR;
    if (!t->head.complete) {
        f->refused = true;
        return CURL_WRITEFUNC_ERROR;
    }
    if (f->cb->body(f, f->data, (struct bytes){p, n})) {
        enter_phase(f, PHASE_BODY, f->ticket.limits.idle_ms);
        if (f->cancelled)
            return CURL_WRITEFUNC_ERROR;
        transfer_took(t, n);
        return n;
    }
    if (f->cancelled)
        return CURL_WRITEFUNC_ERROR;
    f->paused = f->held_back = true;
    f->phase_due_ms = NEVER_MS;
    transfer_holds(t);
    return CURL_WRITEFUNC_PAUSE;
}

static void prepare(struct transfer *t)
{
    curl_easy_setopt(t->easy, CURLOPT_PREREQFUNCTION, on_send);
    curl_easy_setopt(t->easy, CURLOPT_PREREQDATA, t);
    curl_easy_setopt(t->easy, CURLOPT_HEADERFUNCTION, on_head_line);
    curl_easy_setopt(t->easy, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
}

static void resume(struct fetch *f)
{
    if (!f->paused)
        return;
    f->paused = false;
    enter_phase(f, PHASE_BODY, f->ticket.limits.idle_ms);
    CURLcode code = transfer_resume(f->t);
    if (code == CURLE_OK)
        return;
    transfer_end(f->t);
    on_ended(f->t, code);
}

static void on_due(struct timer *timer)
{
    struct fetch *f = OF(struct fetch, timer, timer);

    loop_refresh(f->up->loop);
    if (loop_now(f->up->loop).ms < deadline_ms(f)) {
        report_if_proven(f);
        set_timer(f);
        return;
    }
    if (f->phase != PHASE_LINE) {
        ended_with(f, FETCH_TIMEOUT);
    } else if (gate_abandon(&f->ticket)) {
        f->phase = PHASE_BEGIN;
        finish(f, FETCH_QUEUE_TIMEOUT);
    } else { /* granted in this very moment */
        f->phase_due_ms = NEVER_MS;
    }
}

static void on_granted(struct message *m)
{
    struct fetch *f = OF(struct fetch, ticket.granted, m);
    if (f->up == NULL) {
        free(f);
        return;
    }
    f->phase = PHASE_BEGIN;
    f->phase_due_ms = NEVER_MS;
    if (f->ticket.server == NULL)
        finish(f, FETCH_BREAKER_OPEN);
    else
        put_off(f, TODO_BEGIN);
}

static void do_todo(struct fetch *f)
{
    unsigned todo = f->todo;
    f->todo = 0;
    if (todo & TODO_CANCEL)
        drop_and_free(f);
    else if (todo & TODO_FAIL)
        finish(f, f->end);
    else if (todo & TODO_BEGIN)
        begin(f);
    else if (todo & TODO_RESUME)
        resume(f);
}

/* libcurl reuses connections with input waiting, which could then be taken for the next answer. What came by now is
 * seen here, and ends them, before requests go out. */
static void sort_out_idle(struct upstream *up)
{
    if (up->begins)
        loop_poll(up->loop);
    up->begins = false;
}

static void on_todo(struct message *m)
{
    struct upstream *up = OF(struct upstream, on_todo, m);
    sort_out_idle(up);
    up->todo_deferred = false;
    while (!h2o_linklist_is_empty(&up->todo)) {
        h2o_linklist_t *l = up->todo.next;
        h2o_linklist_unlink(l);
        do_todo(OF(struct fetch, todo_link, l));
    }
}

struct fetch *fetch_start(struct upstream *up, const struct fetch_request *request, const struct fetch_callbacks *cb,
                          void *data)
{
    struct fetch *f = fetch_create(request);

    f->up = up;
    f->cb = cb;
    f->data = data;
    f->timer.fire = on_due;
    f->total_due_ms = f->proven_ms = NEVER_MS;
    f->ticket.loop = up->loop;
    f->ticket.owner = up;
    f->ticket.granted.run = on_granted;
    /* What must not be sent twice does not go out on a connection that the origin may just be closing. */
    f->ticket.fresh = !f->safe;
    /* libcurl drops what it has read of a body that an origin sent all the same; the rest would be the next answer. */
    f->ticket.single = bytes_eq(request->method, BYTES_LIT("HEAD"));
    h2o_linklist_insert(&up->fetches, &f->link);

    switch (gate_enter(&f->ticket, request->backend, loop_now(up->loop))) {
    case GATE_GRANTED:
        put_off(f, TODO_BEGIN);
        break;
    case GATE_WAITS:
        enter_phase(f, PHASE_LINE, f->ticket.limits.queue_ms);
        break;
    case GATE_FULL:
    case GATE_NO_OTHER:
        f->end = FETCH_QUEUE_FULL;
        put_off(f, TODO_FAIL);
        break;
    case GATE_SHUT:
        f->end = FETCH_BREAKER_OPEN;
        put_off(f, TODO_FAIL);
        break;
    }
    return f;
}

void fetch_cancel(struct fetch *f)
{
    f->cancelled = true;
    if (f->up->pools.inside > 0)
        put_off(f, TODO_CANCEL);
    else
        drop_and_free(f);
}

void fetch_resume(struct fetch *f)
{
    put_off(f, TODO_RESUME);
}

int64_t fetch_retry_after_ms(const struct fetch *f)
{
    return f->ticket.shut_ms;
}

struct upstream *upstream_create(struct loop *loop, struct backends *all, struct log *log)
{
    struct upstream *up = h2o_mem_alloc(sizeof(*up));
    memset(up, 0, sizeof(*up));
    up->loop = loop;
    up->backends = all;
    up->log = log;
    up->comeback.fire = on_comeback;
    up->on_todo.run = on_todo;
    h2o_linklist_init_anchor(&up->fetches);
    h2o_linklist_init_anchor(&up->todo);
    up->pools.prepare = prepare;
    up->pools.ended = on_ended;
    up->pools.connecting = on_connecting;
    pools_init(&up->pools, loop);
    return up;
}

void upstream_destroy(struct upstream *up)
{
    assert(up->pools.inside == 0);
    while (!h2o_linklist_is_empty(&up->fetches))
        drop_and_free(OF(struct fetch, link, up->fetches.next));
    pools_fini(&up->pools);
    loop_undefer(up->loop, &up->on_todo);
    timer_disarm(up->loop, &up->comeback);
    free(up);
}
