#include "proxy/redis_link.h"

#include <fcntl.h>
#include <hiredis/async.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    CALLS_MAX = 4096,
    FAILURES_MAX = 3,
    WORDS_MAX = 16,
    GREETING_MS = 1000, /* for connecting, too: on no request's way */
    PING_MS = 1000,
    PING_AGAIN_MS = 100,
    RETRY_FIRST_MS = 50, /* doubled up to: */
    RETRY_MAX_MS = 800,
    REASON_MAX = 128,
};

/* A command on its way. hiredis cannot take one back: its answer still comes, to nobody. */
struct redis_pending {
    struct redis_link *link;
    struct redis_call *call; /* NULL: nobody waits */
    struct redis_pending *next;
    int64_t due_ms;
    bool late;
};

enum link_state { LINK_DOWN, LINK_GREETING, LINK_UP };

struct redis_link {
    struct redis_link_options options;
    enum link_state state;
    redisAsyncContext *ac; /* NULL: none, or it is being freed */
    struct watch watch;    /* of a copy of hiredis' descriptor, which that may close before it says so */
    bool reading, writing;
    struct redis_pending *first, **end; /* in the order sent, which is that of the answers */
    size_t npending;
    struct redis_pending *next_due; /* the first that is not late */
    unsigned failures;              /* in a row */
    int64_t retry_ms;
    struct timer retry, deadline, ping;
    struct redis_call ping_call;
};

static struct redis_link *link_of(struct timer *t, size_t offset)
{
    return (struct redis_link *)((char *)t - offset);
}

static int64_t now_ms(const struct redis_link *link)
{
    return loop_now(link->options.loop).ms;
}

/* --- hiredis' events --- */

static void set_events(struct redis_link *link)
{
    uint32_t events = (link->reading ? EPOLLIN : 0u) | (link->writing ? EPOLLOUT : 0u);

    if (link->watch.added)
        watch_change(link->options.loop, &link->watch, events);
}

static void add_read(void *data)
{
    struct redis_link *link = data;

    link->reading = true;
    set_events(link);
}

static void del_read(void *data)
{
    struct redis_link *link = data;

    link->reading = false;
    set_events(link);
}

static void add_write(void *data)
{
    struct redis_link *link = data;

    if (link->writing)
        return;
    link->writing = true;
    set_events(link);
}

static void del_write(void *data)
{
    struct redis_link *link = data;

    link->writing = false;
    set_events(link);
}

static void clean_up(void *data)
{
    struct redis_link *link = data;

    if (!link->watch.added)
        return;
    watch_remove(link->options.loop, &link->watch);
    close(link->watch.fd);
}

/* An error is told to whichever side is waited for. */
static void on_ready(struct watch *w, uint32_t events)
{
    struct redis_link *link = (struct redis_link *)((char *)w - offsetof(struct redis_link, watch));
    redisAsyncContext *ac = link->ac;
    bool failed = (events & (EPOLLERR | EPOLLHUP)) != 0;

    if (ac != NULL && link->reading && (failed || (events & EPOLLIN) != 0))
        redisAsyncHandleRead(ac);
    if (link->ac == ac && ac != NULL && link->writing && (failed || (events & EPOLLOUT) != 0))
        redisAsyncHandleWrite(ac);
}

/* --- up and down --- */

/* One line for all links: the first that goes down says why, the last that comes up says so. */
static void say_down(struct redis_link *link, const char *why)
{
    struct redis_state *state = link->options.state;

    if (!atomic_exchange(&state->said_down, true))
        log_event(state->log, CONF_LOG_WARN, "redis %s: %s; going on without it", link->options.conf->server, why);
}

static void say_up(struct redis_link *link)
{
    struct redis_state *state = link->options.state;

    if (atomic_load(&state->up) == atomic_load(&state->links) && atomic_exchange(&state->said_down, false))
        log_event(state->log, CONF_LOG_INFO, "redis %s: in use again", link->options.conf->server);
}

static void enter_down(struct redis_link *link, const char *why)
{
    if (link->state == LINK_UP)
        atomic_fetch_sub(&link->options.state->up, 1);
    link->state = LINK_DOWN;
    say_down(link, why);
    timer_disarm(link->options.loop, &link->ping);
    timer_arm(link->options.loop, &link->retry, link->retry_ms);
    link->retry_ms = link->retry_ms * 2 < RETRY_MAX_MS ? link->retry_ms * 2 : RETRY_MAX_MS;
}

/* hiredis is freeing it, and calls back for all that was on its way. */
static void lose(struct redis_link *link, const redisAsyncContext *ac, const char *why)
{
    if (link->ac != ac)
        return;
    link->ac = NULL;
    enter_down(link, why);
}

static void drop(struct redis_link *link, const char *why)
{
    redisAsyncContext *ac = link->ac;

    lose(link, ac, why);
    if (ac != NULL)
        redisAsyncFree(ac);
}

static void enter_up(struct redis_link *link)
{
    link->state = LINK_UP;
    link->failures = 0;
    link->retry_ms = RETRY_FIRST_MS;
    atomic_fetch_add(&link->options.state->up, 1);
    say_up(link);
    timer_arm(link->options.loop, &link->ping, PING_MS);
    if (link->options.came_up != NULL)
        link->options.came_up(link->options.context);
}

/* Redis' own words, fit for a log. */
static const char *words_of(const redisReply *reply, char out[REASON_MAX])
{
    size_t n = reply->len < REASON_MAX - 1 ? reply->len : REASON_MAX - 1;

    for (size_t i = 0; i < n; i++)
        out[i] = (char)(reply->str[i] >= ' ' && reply->str[i] <= '~' ? reply->str[i] : '?');
    out[n] = '\0';
    return out;
}

/* --- commands --- */

bool redis_is_error(const redisReply *reply)
{
    return reply == NULL || reply->type == REDIS_REPLY_ERROR;
}

struct bytes redis_string(const redisReply *reply)
{
    if (reply == NULL || reply->type != REDIS_REPLY_STRING)
        return BYTES_NONE;
    return (struct bytes){reply->str, reply->len};
}

/* It cannot serve anybody at present. Other errors are about one command or key, or about writing: look-ups may still
 * be answered. */
static bool is_out_of_order(const redisReply *reply)
{
    static const char *const words[] = {"LOADING",    "NOAUTH", "NOPERM",
                                        "MASTERDOWN", "BUSY ",  "ERR max number of clients"};
    struct bytes text = {reply->str, reply->len};

    for (size_t i = 0; reply->type == REDIS_REPLY_ERROR && i < sizeof words / sizeof *words; i++)
        if (bytes_starts(text, bytes_of(words[i])))
            return true;
    return false;
}

static void count_failure(struct redis_link *link, const char *why)
{
    if (++link->failures >= FAILURES_MAX && link->state == LINK_UP)
        drop(link, why);
}

static void arm_deadline(struct redis_link *link)
{
    if (link->next_due != NULL)
        timer_arm(link->options.loop, &link->deadline,
                  link->next_due->due_ms > now_ms(link) ? link->next_due->due_ms - now_ms(link) : 1);
    else
        timer_disarm(link->options.loop, &link->deadline);
}

static void answer(struct redis_pending *p, const redisReply *reply)
{
    struct redis_call *call = p->call;

    p->call = NULL;
    if (call == NULL)
        return;
    call->pending = NULL;
    call->done(call, reply);
}

static void take_out(struct redis_link *link, struct redis_pending *p)
{
    struct redis_pending **at = &link->first;

    while (*at != p) /* the first, but for what hiredis tells out of order when it fails */
        at = &(*at)->next;
    *at = p->next;
    if (p->next == NULL)
        link->end = at;
    if (link->next_due == p)
        link->next_due = p->next;
    link->npending--;
}

static void judge(struct redis_link *link, const redisAsyncContext *ac, const redisReply *reply, bool late)
{
    char reason[REASON_MAX];

    if (reply == NULL)
        lose(link, ac, "the connection has ended");
    else if (is_out_of_order(reply))
        count_failure(link, words_of(reply, reason));
    else if (!late)
        link->failures = 0;
    if (redis_is_error(reply) && !late)
        redis_count(&link->options.state->error);
}

static void on_reply(redisAsyncContext *ac, void *reply, void *data)
{
    struct redis_pending *p = data;
    struct redis_link *link = p->link;

    take_out(link, p);
    judge(link, ac, reply, p->late);
    answer(p, reply);
    free(p);
    arm_deadline(link);
}

static void on_deadline(struct timer *t)
{
    struct redis_link *link = link_of(t, offsetof(struct redis_link, deadline));

    while (link->next_due != NULL && link->next_due->due_ms <= now_ms(link)) {
        struct redis_pending *p = link->next_due;

        link->next_due = p->next;
        p->late = true;
        redis_count(&link->options.state->error);
        answer(p, NULL); /* it stays until hiredis lets go of it */
        if (link->state == LINK_GREETING)
            drop(link, "no answer");
        else
            count_failure(link, "no answer in time");
    }
    arm_deadline(link);
}

static bool send_words(struct redis_link *link, struct redis_call *call, const struct bytes *words, size_t n,
                       int64_t within_ms)
{
    const char *argv[WORDS_MAX];
    size_t lengths[WORDS_MAX];
    struct redis_pending *p;

    if (link->ac == NULL || link->npending >= CALLS_MAX || n > WORDS_MAX || (p = malloc(sizeof *p)) == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        argv[i] = words[i].p;
        lengths[i] = words[i].n;
    }
    *p = (struct redis_pending){.link = link, .call = call, .due_ms = now_ms(link) + within_ms};
    if (redisAsyncCommandArgv(link->ac, on_reply, p, (int)n, argv, lengths) != REDIS_OK) {
        free(p);
        return false;
    }
    if (call != NULL)
        call->pending = p;
    *link->end = p;
    link->end = &p->next;
    link->npending++;
    if (link->next_due == NULL) {
        link->next_due = p;
        arm_deadline(link);
    }
    return true;
}

bool redis_call(struct redis_link *link, struct redis_call *call, const struct bytes *words, size_t n)
{
    return link->state == LINK_UP && send_words(link, call, words, n, link->options.conf->timeout_ms);
}

void redis_call_cancel(struct redis_call *call)
{
    if (call->pending != NULL)
        call->pending->call = NULL;
    call->pending = NULL;
}

bool redis_link_is_up(const struct redis_link *link)
{
    return link->state == LINK_UP;
}

/* --- PING: so that it comes to light without requests, too --- */

static void on_pong(struct redis_call *call, const redisReply *reply)
{
    struct redis_link *link = (struct redis_link *)((char *)call - offsetof(struct redis_link, ping_call));

    if (link->ac != NULL && link->state == LINK_UP)
        timer_arm(link->options.loop, &link->ping, redis_is_error(reply) ? PING_AGAIN_MS : PING_MS);
}

static void on_ping(struct timer *t)
{
    struct redis_link *link = link_of(t, offsetof(struct redis_link, ping));

    link->ping_call.done = on_pong;
    if (!redis_call(link, &link->ping_call, &BYTES_LIT("PING"), 1))
        timer_arm(link->options.loop, &link->ping, PING_MS);
}

/* --- greeting --- */

static void on_greeted(struct redis_call *call, const redisReply *reply)
{
    struct redis_link *link = (struct redis_link *)((char *)call - offsetof(struct redis_link, ping_call));
    char reason[REASON_MAX];

    if (link->ac == NULL)
        return;
    if (redis_is_error(reply))
        drop(link, reply == NULL ? "no answer" : words_of(reply, reason));
    else
        enter_up(link);
}

/* Its own error says more than that of the PING after it. */
static void on_introduced(redisAsyncContext *ac, void *answer_, void *data)
{
    struct redis_link *link = data;
    const redisReply *reply = answer_;
    char reason[REASON_MAX];

    if (reply != NULL && reply->type == REDIS_REPLY_ERROR && link->ac == ac)
        drop(link, words_of(reply, reason));
}

static void on_connect(const redisAsyncContext *ac, int status)
{
    struct redis_link *link = ac->data;

    if (status != REDIS_OK)
        lose(link, ac, ac->errstr != NULL ? ac->errstr : "cannot be reached");
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
    (void)status;
    lose(ac->data, ac, "the connection has ended");
}

static bool attach(struct redis_link *link, redisAsyncContext *ac)
{
    link->reading = link->writing = false;
    link->watch = (struct watch){.ready = on_ready, .fd = fcntl(ac->c.fd, F_DUPFD_CLOEXEC, 3)};
    if (link->watch.fd < 0)
        return false;
    if (watch_add(link->options.loop, &link->watch, 0) != 0) {
        close(link->watch.fd);
        return false;
    }
    ac->data = ac->ev.data = link;
    ac->ev.addRead = add_read;
    ac->ev.delRead = del_read;
    ac->ev.addWrite = add_write;
    ac->ev.delWrite = del_write;
    ac->ev.cleanup = clean_up;
    link->ac = ac;
    redisAsyncSetConnectCallback(ac, on_connect);
    redisAsyncSetDisconnectCallback(ac, on_disconnect);
    return true;
}

static void introduce(struct redis_link *link)
{
    const struct conf_redis *conf = link->options.conf;
    redisAsyncContext *ac = link->ac;

    if (conf->password != NULL)
        redisAsyncCommand(ac, on_introduced, link, "AUTH %s", conf->password);
    if (conf->database != 0)
        redisAsyncCommand(ac, on_introduced, link, "SELECT %u", conf->database);
    link->ping_call.done = on_greeted;
    if (!send_words(link, &link->ping_call, &BYTES_LIT("PING"), 1, GREETING_MS))
        drop(link, "cannot be reached");
}

static void connect_to(struct redis_link *link, const char *host)
{
    const struct conf_redis *conf = link->options.conf;
    redisAsyncContext *ac =
        conf->unix_path != NULL ? redisAsyncConnectUnix(conf->unix_path) : redisAsyncConnect(host, conf->port);

    if (ac == NULL || ac->err != 0 || !attach(link, ac)) {
        enter_down(link, ac != NULL && ac->err != 0 ? ac->errstr : "cannot be reached");
        if (ac != NULL)
            redisAsyncFree(ac);
        return;
    }
    link->state = LINK_GREETING;
    introduce(link);
}

static void on_retry(struct timer *t)
{
    struct redis_link *link = link_of(t, offsetof(struct redis_link, retry));
    char host[INET6_ADDRSTRLEN];

    switch (redis_address_get(link->options.address, host)) {
    case REDIS_KNOWN:
        connect_to(link, host);
        return;
    case REDIS_UNKNOWN:
        enter_down(link, "the name is not known");
        return;
    case REDIS_PENDING:
        timer_arm(link->options.loop, &link->retry, RETRY_FIRST_MS);
        return;
    }
}

/* --- life --- */

struct redis_link *redis_link_create(const struct redis_link_options *options)
{
    struct redis_link *link = calloc(1, sizeof *link);

    if (link == NULL)
        abort();
    link->options = *options;
    link->end = &link->first;
    link->retry_ms = RETRY_FIRST_MS;
    link->retry.fire = on_retry;
    link->deadline.fire = on_deadline;
    link->ping.fire = on_ping;
    atomic_fetch_add(&options->state->links, 1);
    timer_arm(options->loop, &link->retry, 1);
    return link;
}

void redis_link_destroy(struct redis_link *link)
{
    redisAsyncContext *ac = link->ac;

    for (struct redis_pending *p = link->first; p != NULL; p = p->next)
        p->call = NULL;
    link->ac = NULL;
    if (ac != NULL)
        redisAsyncFree(ac);
    timer_disarm(link->options.loop, &link->retry);
    timer_disarm(link->options.loop, &link->ping);
    timer_disarm(link->options.loop, &link->deadline);
    if (link->state == LINK_UP)
        atomic_fetch_sub(&link->options.state->up, 1);
    atomic_fetch_sub(&link->options.state->links, 1);
    free(link);
}
