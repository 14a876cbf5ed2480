#include "proxy/gate.h"

#include <assert.h>
#include <h2o.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

struct backend {
    char *name;
    struct backend *next;
    _Atomic uint64_t requests, failures;

    pthread_mutex_t lock;
    /* under the lock */
    struct server **servers;
    size_t nservers;
    enum conf_balance balance;
    unsigned max_connections, queue_size;
    struct gate_limits limits;
    struct breaker_rules breaker;
    struct gate_link line; /* tickets that wait */
    unsigned waiting, in_flight;
};

struct backends {
    pthread_mutex_t lock;
    struct backend *first; /* under the lock */
};

#define OF(type, member, ptr) ((type *)((char *)(ptr)-offsetof(type, member)))

static void link_init(struct gate_link *list)
{
    list->prev = list->next = list;
}

static void link_before(struct gate_link *at, struct gate_link *l)
{
    l->prev = at->prev;
    l->next = at;
    at->prev->next = l;
    at->prev = l;
}

static void link_remove(struct gate_link *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->prev = l->next = NULL;
}

/* Servers */

static char *copy_text(const char *text)
{
    return text == NULL ? NULL : h2o_strdup(NULL, text, SIZE_MAX).base;
}

static struct server *server_create(struct backend *backend, const struct conf_server *conf)
{
    struct server *s = h2o_mem_alloc(sizeof(*s));
    *s = (struct server){
        .backend = backend,
        .url = copy_text(conf->url),
        .host = copy_text(conf->host),
        .unix_path = copy_text(conf->unix_path),
        .ca_file = copy_text(conf->tls_ca_file),
        .server_name = copy_text(conf->tls_server_name),
        .port = conf->port,
        .https = conf->https,
        .verify = conf->tls_verify,
        .refs = 1,
    };
    breaker_reset(&s->breaker);
    link_init(&s->pools);
    link_init(&s->idle);
    return s;
}

static void server_unref(struct server *s)
{
    if (--s->refs > 0)
        return;
    free(s->url);
    free(s->host);
    free(s->unix_path);
    free(s->ca_file);
    free(s->server_name);
    free(s);
}

static bool text_eq(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool server_is(const struct server *s, const struct conf_server *conf)
{
    return text_eq(s->url, conf->url) && text_eq(s->host, conf->host) && text_eq(s->unix_path, conf->unix_path) &&
           text_eq(s->ca_file, conf->tls_ca_file) && text_eq(s->server_name, conf->tls_server_name) &&
           s->port == conf->port && s->https == conf->https && s->verify == conf->tls_verify;
}

/* Connections */

static void conn_leave_idle(struct gate_conn *conn)
{
    if (!conn->idle)
        return;
    conn->idle = false;
    conn->pool->idle--;
    link_remove(&conn->link);
}

/* The lock keeps the descriptor from being closed meanwhile (gate_conn_closed comes before close). */
static void conn_shut(struct gate_conn *conn)
{
    char rest[4096];

    conn_leave_idle(conn);
    conn->dead = true;
    conn->pool->server->open--;
    shutdown(conn->fd, SHUT_RDWR);
    /* libcurl takes a connection for alive as long as there is anything to read. */
    while (recv(conn->fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
        ;
}

static struct gate_conn *longest_idle(const struct server *s)
{
    for (struct gate_link *l = s->idle.next; l != &s->idle; l = l->next) {
        struct gate_conn *conn = OF(struct gate_conn, link, l);
        if (conn->pool->idle > conn->pool->reserved)
            return conn;
    }
    return NULL;
}

static void trim(struct server *s, unsigned open_max)
{
    struct gate_conn *conn;
    while (s->open > open_max && (conn = longest_idle(s)) != NULL)
        conn_shut(conn);
}

static struct gate_pool *pool_of(const struct server *s, const void *owner)
{
    for (struct gate_link *l = s->pools.next; l != &s->pools; l = l->next) {
        struct gate_pool *pool = OF(struct gate_pool, link, l);
        if (pool->owner == owner)
            return pool;
    }
    return NULL;
}

static void expect(struct gate_ticket *ticket)
{
    struct server *s = ticket->server;
    struct gate_pool *pool = pool_of(s, ticket->owner);

    if (!ticket->fresh && pool != NULL && pool->idle > pool->reserved) {
        pool->reserved++;
        ticket->expects = GATE_REUSE;
        return;
    }
    ticket->expects = GATE_OPEN;
    s->open++;
    trim(s, s->backend->max_connections);
}

/* What the ticket had been expected to do has been done by other means, or will not be done. */
static void expect_no_more(struct gate_ticket *ticket)
{
    if (ticket->expects == GATE_OPEN)
        ticket->server->open--;
    else if (ticket->expects == GATE_REUSE)
        pool_of(ticket->server, ticket->owner)->reserved--;
    ticket->expects = GATE_NOTHING;
}

void gate_pool_init(struct gate_pool *pool, struct server *server, const void *owner)
{
    *pool = (struct gate_pool){.server = server, .owner = owner};
    pthread_mutex_lock(&server->backend->lock);
    server->refs++;
    link_before(&server->pools, &pool->link);
    pthread_mutex_unlock(&server->backend->lock);
}

void gate_pool_fini(struct gate_pool *pool)
{
    struct backend *b = pool->server->backend;
    assert(pool->idle == 0 && pool->reserved == 0);
    pthread_mutex_lock(&b->lock);
    link_remove(&pool->link);
    server_unref(pool->server);
    pthread_mutex_unlock(&b->lock);
}

void gate_conn_opened(struct gate_conn *conn, struct gate_pool *pool, struct gate_ticket *ticket, int fd)
{
    struct backend *b = pool->server->backend;
    *conn = (struct gate_conn){.pool = pool, .fd = fd};
    pthread_mutex_lock(&b->lock);
    expect_no_more(ticket);
    pool->server->open++;
    trim(pool->server, b->max_connections);
    pthread_mutex_unlock(&b->lock);
}

bool gate_conn_used(struct gate_conn *conn, struct gate_ticket *ticket)
{
    struct backend *b = conn->pool->server->backend;
    pthread_mutex_lock(&b->lock);
    bool alive = !conn->dead;
    conn_leave_idle(conn);
    if (alive)
        expect_no_more(ticket);
    pthread_mutex_unlock(&b->lock);
    return alive;
}

void gate_conn_idle(struct gate_conn *conn, struct mono_ms now)
{
    struct server *s = conn->pool->server;
    pthread_mutex_lock(&s->backend->lock);
    if (!conn->dead && !conn->idle) {
        conn->idle = true;
        conn->idle_since_ms = now.ms;
        conn->pool->idle++;
        link_before(&s->idle, &conn->link);
        if (atomic_load(&s->retired))
            conn_shut(conn);
        else
            trim(s, s->backend->max_connections);
    }
    pthread_mutex_unlock(&s->backend->lock);
}

void gate_conn_closed(struct gate_conn *conn)
{
    struct server *s = conn->pool->server;
    pthread_mutex_lock(&s->backend->lock);
    conn_leave_idle(conn);
    if (!conn->dead)
        s->open--;
    pthread_mutex_unlock(&s->backend->lock);
}

void gate_conn_kill(struct gate_conn *conn)
{
    struct backend *b = conn->pool->server->backend;
    pthread_mutex_lock(&b->lock);
    if (conn->idle)
        conn_shut(conn);
    pthread_mutex_unlock(&b->lock);
}

void gate_pool_expire(struct gate_pool *pool, struct mono_ms now)
{
    struct server *s = pool->server;
    pthread_mutex_lock(&s->backend->lock);
    for (struct gate_link *l = s->idle.next, *next; l != &s->idle; l = next) {
        struct gate_conn *conn = OF(struct gate_conn, link, l);
        next = l->next;
        if (now.ms - conn->idle_since_ms < s->backend->limits.keepalive_ms)
            break;
        if (conn->pool == pool && pool->idle > pool->reserved)
            conn_shut(conn);
    }
    pthread_mutex_unlock(&s->backend->lock);
}

/* Choosing a server */

enum { AVOIDED_TOO = 1, REFUSED_TOO = 2 };

static bool is_shut(const struct server *s, int64_t now_ms)
{
    return !breaker_admits(&s->breaker, (struct mono_ms){now_ms});
}

static bool all_shut(const struct backend *b, int64_t now_ms)
{
    for (size_t i = 0; i < b->nservers; i++)
        if (!is_shut(b->servers[i], now_ms))
            return false;
    return true;
}

/* A breaker is never passed by, whatever else there is to choose from. */
static bool may_take(const struct server *s, const struct gate_ticket *ticket, int wide, int64_t now_ms)
{
    return !is_shut(s, now_ms) && ((wide & REFUSED_TOO) || s != ticket->refused) &&
           ((wide & AVOIDED_TOO) || s->avoid_until_ms <= now_ms);
}

/* How wide the choice must be for there to be any server at all, whether it has room or not. */
static int width(const struct backend *b, const struct gate_ticket *ticket, int64_t now_ms)
{
    static const int widths[] = {0, AVOIDED_TOO};
    for (size_t w = 0; w < sizeof(widths) / sizeof(*widths); w++)
        for (size_t i = 0; i < b->nservers; i++)
            if (may_take(b->servers[i], ticket, widths[w], now_ms))
                return widths[w];
    return AVOIDED_TOO | REFUSED_TOO;
}

static bool less_busy(const struct server *a, const struct server *b)
{
    return (uint64_t)a->in_flight * b->weight < (uint64_t)b->in_flight * a->weight;
}

/* Smooth weighted round robin among the servers that have room; with least_requests only among the least busy. */
static struct server *pick(struct backend *b, const struct gate_ticket *ticket, int64_t now_ms)
{
    int wide = width(b, ticket, now_ms);
    struct server *least = NULL, *best = NULL;
    int64_t total = 0;

    for (size_t i = 0; i < b->nservers; i++) {
        struct server *s = b->servers[i];
        if (s->in_flight < b->max_connections && may_take(s, ticket, wide, now_ms) &&
            (least == NULL || less_busy(s, least)))
            least = s;
    }
    for (size_t i = 0; i < b->nservers; i++) {
        struct server *s = b->servers[i];
        if (s->in_flight >= b->max_connections || !may_take(s, ticket, wide, now_ms) ||
            (b->balance == CONF_LEAST_REQUESTS && less_busy(least, s)))
            continue;
        s->turn += s->weight;
        total += s->weight;
        if (best == NULL || s->turn > best->turn)
            best = s;
    }
    if (best != NULL)
        best->turn -= total;
    return best;
}

/* Slots and the line */

static void grant(struct gate_ticket *ticket, struct server *s, int64_t now_ms)
{
    ticket->server = s;
    if (s->backend->breaker.minimum > 0)
        ticket->pass = breaker_begin(&s->breaker, (struct mono_ms){now_ms});
    s->refs++;
    s->in_flight++;
    s->backend->in_flight++;
    expect(ticket);
}

static void give_back(struct gate_ticket *ticket, int64_t now_ms)
{
    struct server *s = ticket->server;
    expect_no_more(ticket);
    breaker_end(&s->breaker, &s->backend->breaker, &ticket->pass, BREAKER_NO_VERDICT, (struct mono_ms){now_ms});
    ticket->server = NULL;
    s->in_flight--;
    s->backend->in_flight--;
    server_unref(s);
}

static void out_of_line(struct gate_ticket *ticket)
{
    link_remove(&ticket->link);
    ticket->waits = false;
    ticket->backend->waiting--;
}

static void into_line(struct gate_ticket *ticket, bool first)
{
    struct backend *b = ticket->backend;
    link_before(first ? b->line.next : &b->line, &ticket->link);
    ticket->waits = true;
    b->waiting++;
}

static bool has_room(const struct backend *b)
{
    for (size_t i = 0; i < b->nservers; i++)
        if (b->servers[i]->in_flight < b->max_connections)
            return true;
    return false;
}

static int64_t shut_ms(const struct backend *b, int64_t now_ms)
{
    int64_t least_ms = INT64_MAX;

    for (size_t i = 0; i < b->nservers; i++) {
        int64_t wait_ms = breaker_wait_ms(&b->servers[i]->breaker, (struct mono_ms){now_ms});
        if (wait_ms < least_ms)
            least_ms = wait_ms;
    }
    return least_ms;
}

/* Nobody waits for servers that are left alone. */
static void clear_line_if_shut(struct backend *b, int64_t now_ms)
{
    if (b->waiting == 0 || !all_shut(b, now_ms))
        return;
    while (b->waiting > 0) {
        struct gate_ticket *ticket = OF(struct gate_ticket, link, b->line.next);
        out_of_line(ticket);
        ticket->shut_ms = shut_ms(b, now_ms);
        loop_post(ticket->loop, &ticket->granted);
    }
}

/* In order; but one that no server with room will do for holds up nobody else. All that no server has refused are
 * alike.
 */
static void serve_line(struct backend *b, int64_t now_ms)
{
    bool others_only = false;

    for (struct gate_link *l = b->line.next, *next; l != &b->line && has_room(b); l = next) {
        struct gate_ticket *ticket = OF(struct gate_ticket, link, l);
        next = l->next;
        if (others_only && ticket->refused == NULL)
            continue;
        struct server *s = pick(b, ticket, now_ms);
        if (s == NULL) {
            others_only |= ticket->refused == NULL;
            continue;
        }
        out_of_line(ticket);
        grant(ticket, s, now_ms);
        loop_post(ticket->loop, &ticket->granted);
    }
    clear_line_if_shut(b, now_ms);
}

static enum gate_answer shut_out(struct gate_ticket *ticket, int64_t now_ms)
{
    ticket->shut_ms = shut_ms(ticket->backend, now_ms);
    return GATE_SHUT;
}

enum gate_answer gate_enter(struct gate_ticket *ticket, struct backend *b, struct mono_ms now)
{
    enum gate_answer answer = GATE_GRANTED;
    struct server *s;

    ticket->backend = b;
    ticket->server = NULL;
    ticket->refused = NULL;
    ticket->pass = (struct breaker_pass){.era = 0};
    ticket->waits = false;
    pthread_mutex_lock(&b->lock);
    ticket->limits = b->limits;
    serve_line(b, now.ms);
    if ((s = pick(b, ticket, now.ms)) != NULL) /* then none of those who wait could use it */
        grant(ticket, s, now.ms);
    else if (all_shut(b, now.ms))
        answer = shut_out(ticket, now.ms);
    else if (b->waiting >= b->queue_size)
        answer = GATE_FULL;
    else {
        into_line(ticket, false);
        answer = GATE_WAITS;
    }
    clear_line_if_shut(b, now.ms);
    pthread_mutex_unlock(&b->lock);
    return answer;
}

struct breaker_news gate_judge(struct gate_ticket *ticket, enum breaker_verdict verdict, struct mono_ms now)
{
    struct backend *b = ticket->backend;
    struct breaker_news news = {.change = BREAKER_UNCHANGED};

    if (ticket->pass.era == 0)
        return news;
    pthread_mutex_lock(&b->lock);
    news = breaker_end(&ticket->server->breaker, &b->breaker, &ticket->pass, verdict, now);
    if (news.change != BREAKER_UNCHANGED)
        serve_line(b, now.ms);
    pthread_mutex_unlock(&b->lock);
    return news;
}

void gate_leave(struct gate_ticket *ticket, struct mono_ms now)
{
    struct backend *b = ticket->backend;
    pthread_mutex_lock(&b->lock);
    give_back(ticket, now.ms);
    serve_line(b, now.ms);
    pthread_mutex_unlock(&b->lock);
}

bool gate_abandon(struct gate_ticket *ticket)
{
    struct backend *b = ticket->backend;
    pthread_mutex_lock(&b->lock);
    bool waited = ticket->waits;
    if (waited)
        out_of_line(ticket);
    pthread_mutex_unlock(&b->lock);
    return waited;
}

static bool has_other(const struct backend *b, const struct server *than, int64_t now_ms)
{
    for (size_t i = 0; i < b->nservers; i++)
        if (b->servers[i] != than && !is_shut(b->servers[i], now_ms))
            return true;
    return false;
}

enum gate_answer gate_again(struct gate_ticket *ticket, bool unreachable, struct mono_ms now)
{
    struct backend *b = ticket->backend;
    enum gate_answer answer = GATE_WAITS;

    pthread_mutex_lock(&b->lock);
    if (unreachable)
        ticket->server->avoid_until_ms = now.ms + GATE_AVOID_MS;
    ticket->refused = ticket->server;
    bool other = has_other(b, ticket->server, now.ms);
    give_back(ticket, now.ms);
    struct server *s = other || !unreachable ? pick(b, ticket, now.ms) : NULL;
    if (s != NULL) {
        grant(ticket, s, now.ms);
        answer = GATE_GRANTED;
    } else if (all_shut(b, now.ms)) {
        answer = shut_out(ticket, now.ms);
    } else if (!other && unreachable) {
        answer = GATE_NO_OTHER;
    } else {
        into_line(ticket, true);
    }
    serve_line(b, now.ms);
    pthread_mutex_unlock(&b->lock);
    return answer;
}

void gate_count_sent(struct backend *backend)
{
    atomic_fetch_add_explicit(&backend->requests, 1, memory_order_relaxed);
}

void gate_count_failure(struct backend *backend)
{
    atomic_fetch_add_explicit(&backend->failures, 1, memory_order_relaxed);
}

/* Backends */

struct backends *backends_create(void)
{
    struct backends *all = h2o_mem_alloc(sizeof(*all));
    pthread_mutex_init(&all->lock, NULL);
    all->first = NULL;
    return all;
}

static int64_t sooner_ms(int64_t a_ms, int64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}

/* When, after `now`, the next server that is left alone may be chosen again. */
static int64_t next_return_ms(const struct backend *b, int64_t now_ms)
{
    int64_t at_ms = INT64_MAX;

    for (size_t i = 0; i < b->nservers; i++) {
        const struct server *s = b->servers[i];
        int64_t wait_ms = breaker_wait_ms(&s->breaker, (struct mono_ms){now_ms});

        if (s->avoid_until_ms > now_ms)
            at_ms = sooner_ms(at_ms, s->avoid_until_ms);
        if (wait_ms > 0)
            at_ms = sooner_ms(at_ms, now_ms + wait_ms);
    }
    return at_ms;
}

int64_t backends_serve(struct backends *all, struct mono_ms now)
{
    int64_t next_ms = INT64_MAX;

    pthread_mutex_lock(&all->lock);
    for (struct backend *b = all->first; b != NULL; b = b->next) {
        pthread_mutex_lock(&b->lock);
        serve_line(b, now.ms);
        next_ms = sooner_ms(next_ms, next_return_ms(b, now.ms));
        pthread_mutex_unlock(&b->lock);
    }
    pthread_mutex_unlock(&all->lock);
    return next_ms;
}

static void backend_destroy(struct backend *b)
{
    assert(b->line.next == &b->line);
    for (size_t i = 0; i < b->nservers; i++)
        server_unref(b->servers[i]);
    free(b->servers);
    free(b->name);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

void backends_destroy(struct backends *all)
{
    for (struct backend *b = all->first, *next; b != NULL; b = next) {
        next = b->next;
        backend_destroy(b);
    }
    pthread_mutex_destroy(&all->lock);
    free(all);
}

static struct backend *find_or_create(struct backends *all, const char *name)
{
    for (struct backend *b = all->first; b != NULL; b = b->next)
        if (strcmp(b->name, name) == 0)
            return b;
    struct backend *b = h2o_mem_alloc(sizeof(*b));
    *b = (struct backend){.name = copy_text(name), .next = all->first};
    pthread_mutex_init(&b->lock, NULL);
    link_init(&b->line);
    return all->first = b;
}

/* Takes the server out of the old list, or makes it. */
static struct server *claim(struct backend *b, const struct conf_server *conf)
{
    for (size_t i = 0; i < b->nservers; i++) {
        struct server *s = b->servers[i];
        if (s == NULL || !server_is(s, conf))
            continue;
        b->servers[i] = NULL;
        return s;
    }
    return server_create(b, conf);
}

static void retire_rest(struct backend *b)
{
    for (size_t i = 0; i < b->nservers; i++) {
        if (b->servers[i] == NULL)
            continue;
        atomic_store(&b->servers[i]->retired, true);
        breaker_reset(&b->servers[i]->breaker); /* what it still has to answer counts for nothing */
        trim(b->servers[i], 0);
        server_unref(b->servers[i]);
    }
    free(b->servers);
}

static void change_servers(struct backend *b, const struct conf_backend *conf)
{
    struct server **servers = h2o_mem_alloc(conf->nservers * sizeof(*servers));
    for (size_t i = 0; i < conf->nservers; i++) {
        servers[i] = claim(b, &conf->servers[i]);
        servers[i]->weight = conf->servers[i].weight;
        servers[i]->turn = 0;
        trim(servers[i], conf->max_connections);
    }
    retire_rest(b);
    b->servers = servers;
    b->nservers = conf->nservers;
}

/* What was counted by other rules is worth nothing. */
static void change_breaker(struct backend *b, const struct breaker_rules *rules)
{
    if (breaker_rules_same(&b->breaker, rules))
        return;
    b->breaker = *rules;
    for (size_t i = 0; i < b->nservers; i++)
        breaker_reset(&b->servers[i]->breaker);
}

static struct mono_ms clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (struct mono_ms){now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000};
}

struct backend *backends_apply(struct backends *all, const struct conf_backend *conf)
{
    pthread_mutex_lock(&all->lock);
    struct backend *b = find_or_create(all, conf->name);
    pthread_mutex_lock(&b->lock);
    b->balance = conf->balance;
    b->max_connections = conf->max_connections;
    b->queue_size = conf->queue_size;
    b->limits = (struct gate_limits){.queue_ms = conf->queue_timeout_ms,
                                     .connect_ms = conf->connect_ms,
                                     .first_byte_ms = conf->first_byte_ms,
                                     .idle_ms = conf->idle_ms,
                                     .total_ms = conf->total_ms,
                                     .keepalive_ms = conf->keepalive_ms,
                                     .open_ms = conf->breaker.minimum > 0 ? conf->breaker.open_ms : 0};
    change_servers(b, conf);
    change_breaker(b, &conf->breaker);
    serve_line(b, clock_now().ms);
    pthread_mutex_unlock(&b->lock);
    pthread_mutex_unlock(&all->lock);
    return b;
}

/* Under the lock. Up while any server is: not one whose breaker is open, whatever came of its last connection. A server
 * that nobody has asked yet says nothing. */
static const char *state_word(const struct backend *b, struct mono_ms now)
{
    bool down = false;

    for (size_t i = 0; i < b->nservers; i++) {
        bool open = breaker_state(&b->servers[i]->breaker, now) == BREAKER_OPEN;
        int reached = open ? REACHED_NO : atomic_load_explicit(&b->servers[i]->reached, memory_order_relaxed);

        if (reached == REACHED_YES)
            return "up";
        down |= reached == REACHED_NO;
    }
    return down ? "down" : "unknown";
}

/* Under the lock: the worst of its servers'. */
static const char *breaker_word(const struct backend *b, struct mono_ms now)
{
    static const char *const words[] = {
        [BREAKER_CLOSED] = "closed", [BREAKER_HALF_OPEN] = "half-open", [BREAKER_OPEN] = "open"};
    enum breaker_state worst = BREAKER_CLOSED;

    for (size_t i = 0; i < b->nservers; i++) {
        enum breaker_state state = breaker_state(&b->servers[i]->breaker, now);

        if (state > worst)
            worst = state;
    }
    return b->breaker.minimum > 0 ? words[worst] : "off";
}

void backend_figures(struct backend *b, struct backend_figures *out)
{
    struct mono_ms now = clock_now();

    pthread_mutex_lock(&b->lock);
    *out = (struct backend_figures){.name = b->name,
                                    .state = state_word(b, now),
                                    .breaker = breaker_word(b, now),
                                    .in_flight = b->in_flight,
                                    .queued = b->waiting,
                                    .requests = atomic_load_explicit(&b->requests, memory_order_relaxed),
                                    .failures = atomic_load_explicit(&b->failures, memory_order_relaxed)};
    pthread_mutex_unlock(&b->lock);
}

const char *gate_backend_name(const struct backend *backend)
{
    return backend->name;
}

struct server *gate_server(struct backend *backend, size_t index)
{
    pthread_mutex_lock(&backend->lock);
    struct server *s = backend->servers[index];
    pthread_mutex_unlock(&backend->lock);
    return s;
}
