/*
 * For the tests of what stands between clients and weir: a real one-thread server (loop, libh2o, listeners,
 * connections, guard) on a free loopback port or a unix socket, and clients that write raw bytes and HTTP/2 frames.
 *
 * The server answers by path: /park never, until the client leaves; /break/N with status N, 10 bytes and an error;
 * /chunks/N with status N and two pieces; /big with BIG bytes; else a description of what the guard made of the
 * request.
 */
#ifndef WEIR_TESTS_EDGE_H
#define WEIR_TESTS_EDGE_H

#include <errno.h>
#include <h2o.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "proxy/connection.h"
#include "proxy/guard.h"
#include "proxy/listener.h"

enum { BIG = 24 * 1024 * 1024, CLIENT_WAIT_S = 10 };

struct edge {
    struct conf conf;
    struct conf_listen listen[4];
    struct request_limits limits;
    struct listeners *listeners;
    unsigned index;       /* of its thread; > 0: the listeners are another edge's */
    bool keeps_listening; /* while draining */
    bool answers_wait;    /* /park keeps saying that it waits for the origin */

    pthread_t thread;
    pthread_barrier_t ready;
    struct loop *loop;
    h2o_globalconf_t globalconf;
    h2o_hostconf_t *hosts[2];
    h2o_context_t ctx;
    struct connections *connections;
    struct listener_thread *listening;
    _Atomic unsigned open, begun, refused, answered, reset, gone, turns;
    _Atomic bool stop;
    struct message drain_message, sync_message;
    pthread_barrier_t done; /* a message has been run */
};

struct edge_handler {
    h2o_handler_t super;
    struct edge *edge;
};

/* The server's side */

struct edge_answer {
    h2o_generator_t generator; /* first */
    struct edge *edge;
    h2o_req_t *req;
    struct connection *connection;
    struct hangup hangup;
    bool waiting, watching, answered;
    unsigned step;
    bool breaks;
};

static inline void edge_disposed(void *p)
{
    struct edge_answer *a = p;
    if (a->watching)
        hangup_unwatch(a->edge->connections, &a->hangup);
    if (a->waiting)
        connection_request_waiting(a->connection, false);
    connection_request_end(a->connection, a->answered ? REQUEST_ANSWERED : REQUEST_ABANDONED);
    atomic_fetch_add(a->answered ? &a->edge->answered : &a->edge->reset, 1);
}

static inline void edge_send_text(struct edge_answer *a, int status, const char *text, size_t n)
{
    h2o_iovec_t body = h2o_strdup(&a->req->pool, text, n);
    a->req->res.status = status;
    a->req->res.reason = "Some Reason";
    a->req->res.content_length = n;
    h2o_start_response(a->req, &a->generator);
    a->answered = true;
    h2o_send(a->req, &body, 1, H2O_SEND_STATE_FINAL);
}

static inline void edge_gone(struct hangup *h)
{
    struct edge_answer *a = H2O_STRUCT_FROM_MEMBER(struct edge_answer, hangup, h);
    atomic_fetch_add(&a->edge->gone, 1);
    a->watching = false;
    a->waiting = false;
    connection_request_waiting(a->connection, false);
    a->req->http1_is_persistent = 0;
    edge_send_text(a, 499, "gone", 4);
}

static inline void edge_proceed(h2o_generator_t *self, h2o_req_t *req)
{
    struct edge_answer *a = (struct edge_answer *)self;
    h2o_iovec_t piece = {H2O_STRLIT("0123456789")};

    a->step++;
    if (a->breaks) {
        h2o_send(req, NULL, 0, H2O_SEND_STATE_ERROR);
        return;
    }
    a->answered = true;
    h2o_send(req, &piece, 1, H2O_SEND_STATE_FINAL);
}

static inline void edge_stream(struct edge_answer *a, const char *status)
{
    h2o_iovec_t piece = {H2O_STRLIT("0123456789")};
    a->req->res.status = atoi(status);
    a->req->res.reason = "Some Reason";
    a->generator.proceed = edge_proceed;
    h2o_start_response(a->req, &a->generator);
    h2o_send(a->req, &piece, 1, H2O_SEND_STATE_IN_PROGRESS);
}

static inline void edge_park(struct edge_answer *a)
{
    if (a->edge->answers_wait) {
        a->waiting = true;
        connection_request_waiting(a->connection, true);
    }
    a->hangup.gone = edge_gone;
    a->watching = true;
    hangup_watch(a->edge->connections, &a->hangup, a->req);
}

static inline void edge_big(struct edge_answer *a)
{
    static char body[BIG];
    h2o_iovec_t all = {body, sizeof(body)};
    a->req->res.status = 200;
    a->req->res.content_length = sizeof(body);
    h2o_start_response(a->req, &a->generator);
    a->answered = true;
    h2o_send(a->req, &all, 1, H2O_SEND_STATE_FINAL);
}

static inline void edge_describe(struct edge_answer *a, const struct guarded *g)
{
    char text[8192], peer[64];
    int n;

    connection_peer(a->req, peer);
    n = snprintf(text, sizeof(text), "%.*s %.*s%s%.*s authority=%.*s https=%d http2=%d body=%d,%zu peer=%s",
                 (int)g->method.n, g->method.p, (int)g->path.n, g->path.p, g->has_query ? "?" : "", (int)g->query.n,
                 g->query.p, (int)g->authority.n, g->authority.p, g->https, g->http2, g->has_body, g->body.n, peer);
    for (size_t i = 0; i < g->fields.n; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, " [%.*s: %.*s]", (int)g->fields.v[i].name.n,
                      g->fields.v[i].name.p, (int)g->fields.v[i].value.n, g->fields.v[i].value.p);
    edge_send_text(a, 200, text, (size_t)n);
}

static inline int edge_handle(h2o_handler_t *self, h2o_req_t *req)
{
    struct edge *e = ((struct edge_handler *)self)->edge;
    struct edge_answer *a = h2o_mem_alloc_shared(&req->pool, sizeof(*a), edge_disposed);
    struct guarded g;
    char path[64] = "";

    *a = (struct edge_answer){.edge = e, .req = req, .connection = connection_of(req)};
    atomic_fetch_add(&e->begun, 1);
    if (!connection_request_begin(a->connection)) {
        atomic_fetch_add(&e->refused, 1);
        edge_send_text(a, 503, "", 0);
        return 0;
    }
    struct request_verdict verdict = guard_check(req, &e->limits, &g);
    if (verdict.status != 0) {
        edge_send_text(a, verdict.status, verdict.why, strlen(verdict.why));
        return 0;
    }
    memcpy(path, g.path.p, g.path.n < sizeof(path) - 1 ? g.path.n : sizeof(path) - 1);
    if (strcmp(path, "/park") == 0)
        edge_park(a);
    else if (strcmp(path, "/big") == 0)
        edge_big(a);
    else if (strncmp(path, "/break/", 7) == 0)
        a->breaks = true, edge_stream(a, path + 7);
    else if (strncmp(path, "/chunks/", 8) == 0)
        edge_stream(a, path + 8);
    else
        edge_describe(a, &g);
    return 0;
}

static inline void edge_on_drain(struct message *m)
{
    struct edge *e = H2O_STRUCT_FROM_MEMBER(struct edge, drain_message, m);
    if (!e->keeps_listening)
        listener_thread_stop(e->listening);
    connections_drain(e->connections);
    pthread_barrier_wait(&e->done);
}

static inline void edge_on_sync(struct message *m)
{
    struct edge *e = H2O_STRUCT_FROM_MEMBER(struct edge, sync_message, m);
    listener_thread_sync(e->listening);
    connections_configure(e->connections, &e->conf);
    pthread_barrier_wait(&e->done);
}

static inline void edge_set_up(struct edge *e)
{
    h2o_config_init(&e->globalconf);
    h2o_hostconf_t *host = h2o_config_register_host(&e->globalconf, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    chunked_install(path);
    struct edge_handler *handler = (struct edge_handler *)h2o_create_handler(path, sizeof(*handler));
    handler->super.on_req = edge_handle;
    handler->edge = e;
    e->hosts[0] = host;
    e->loop = loop_create();
    h2o_context_init(&e->ctx, loop_h2o(e->loop), &e->globalconf);
    e->connections = connections_create(e->loop, &e->ctx, &e->open);
    connections_configure(e->connections, &e->conf);
    e->listening =
        listener_thread_create(e->listeners, e->index, e->loop, &e->ctx, e->globalconf.hosts, e->connections);
}

static inline int64_t edge_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static inline void *edge_run(void *data)
{
    struct edge *e = data;

    edge_set_up(e);
    pthread_barrier_wait(&e->ready);
    while (!atomic_load(&e->stop)) {
        loop_run(e->loop, 1000);
        atomic_fetch_add(&e->turns, 1);
    }
    pthread_barrier_wait(&e->done);
    listener_thread_stop(e->listening);
    connections_drain(e->connections);
    for (int64_t until = edge_ms() + 15000;
         !(listener_thread_is_closed(e->listening) && connections_open(e->connections) == 0) && edge_ms() < until;)
        loop_run(e->loop, 50);
    assert_int_equal(connections_open(e->connections), 0);
    loop_run(e->loop, 0); /* libh2o frees closed sockets in the next turn */
    listener_thread_destroy(e->listening);
    connections_destroy(e->connections);
    h2o_context_dispose(&e->ctx);
    loop_destroy(e->loop);
    h2o_config_dispose(&e->globalconf);
    return NULL;
}

static inline struct edge *edge_make(void)
{
    struct edge *e = calloc(1, sizeof(*e));

    signal(SIGPIPE, SIG_IGN);
    e->limits = (struct request_limits){.header_bytes_max = 8192, .fields_max = 50, .body_bytes_max = 100000};
    e->listen[0] = (struct conf_listen){.address = "127.0.0.1:0", .host = "127.0.0.1", .mark = {"test.conf", 1, 1}};
    e->conf.listens = e->listen;
    e->conf.nlistens = 1;
    e->conf.request_body_bytes_max = e->limits.body_bytes_max;
    e->conf.request_header_bytes_max = e->limits.header_bytes_max;
    e->conf.connections_max = 100;
    e->conf.header_timeout_ms = 60000;
    e->conf.idle_timeout_ms = 60000;
    e->conf.h2_streams = 100;
    e->conf.h2_resets = 10;
    e->conf.h2_resets_ms = 60000;
    e->answers_wait = true;
    e->listeners = listeners_create(1);
    return e;
}

static inline int edge_prepare(struct edge *e)
{
    struct conf_errors errors = {NULL, 0};
    int result = listeners_prepare(e->listeners, &e->conf, &errors);
    if (result == 0)
        listeners_commit(e->listeners);
    else
        conf_errors_print(&errors, stderr);
    conf_errors_free(&errors);
    return result;
}

static inline void edge_start(struct edge *e)
{
    if (e->index == 0)
        assert_int_equal(edge_prepare(e), 0);
    e->drain_message.run = edge_on_drain;
    e->sync_message.run = edge_on_sync;
    pthread_barrier_init(&e->ready, NULL, 2);
    pthread_barrier_init(&e->done, NULL, 2);
    pthread_create(&e->thread, NULL, edge_run, e);
    pthread_barrier_wait(&e->ready);
}

static inline void edge_post(struct edge *e, struct message *m)
{
    loop_post(e->loop, m);
    pthread_barrier_wait(&e->done);
}

static inline void edge_stop(struct edge *e)
{
    atomic_store(&e->stop, true);
    loop_wake(e->loop);
    pthread_barrier_wait(&e->done); /* the loop stays until it has been woken */
    pthread_join(e->thread, NULL);
    assert_int_equal(e->open, 0);
    assert_int_equal(e->begun, e->answered + e->reset);
    if (e->index == 0)
        listeners_destroy(e->listeners);
    pthread_barrier_destroy(&e->ready);
    pthread_barrier_destroy(&e->done);
    free(e);
}

/* Waits until a count of the server's has come to n. */
#define edge_await(counter, n)                                                                                         \
    do {                                                                                                               \
        int64_t until_ = edge_ms() + CLIENT_WAIT_S * 1000;                                                             \
        while (atomic_load(&(counter)) != (n) && edge_ms() < until_)                                                   \
            poll(NULL, 0, 2);                                                                                          \
        assert_int_equal(atomic_load(&(counter)), (n));                                                                \
    } while (0)

/* The client's side */

static inline int edge_connect_port(uint16_t port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval wait = {.tv_sec = CLIENT_WAIT_S};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    return fd;
}

/* False: a connection is refused; true also where it is not answered. */
static inline bool edge_is_open(uint16_t port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval wait = {.tv_usec = 100000};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)); /* connect(2) heeds it */
    bool refused = connect(fd, (struct sockaddr *)&sin, sizeof(sin)) != 0 && errno == ECONNREFUSED;
    close(fd);
    return !refused;
}

static inline int edge_connect(struct edge *e)
{
    return edge_connect_port(listeners_port(e->listeners, e->listen[0].address));
}

static inline void edge_write(int fd, const void *p, size_t n)
{
    assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
}

static inline void edge_say(int fd, const char *text)
{
    edge_write(fd, text, strlen(text));
}

struct edge_text {
    char p[65536];
    size_t n;
    int error; /* how reading ended: 0 end of file, else errno (EAGAIN: nothing came for CLIENT_WAIT_S) */
};

/* Reads until the end of the connection, or until `marker` has come. */
static inline void edge_read(int fd, struct edge_text *t, const char *marker)
{
    t->n = 0;
    t->error = 0;
    t->p[0] = '\0';
    while (t->n < sizeof(t->p) - 1) {
        ssize_t n = recv(fd, t->p + t->n, sizeof(t->p) - 1 - t->n, 0);
        if (n <= 0) {
            t->error = n == 0 ? 0 : errno;
            return;
        }
        t->n += (size_t)n;
        t->p[t->n] = '\0';
        if (marker != NULL && strstr(t->p, marker) != NULL)
            return;
    }
}

/* One HTTP/1 exchange on a connection of its own; the whole answer until the server closes. */
static inline void edge_ask(struct edge *e, const char *request, struct edge_text *t)
{
    int fd = edge_connect(e);
    edge_say(fd, request);
    edge_read(fd, t, NULL);
    close(fd);
}

static inline int edge_status(const struct edge_text *t)
{
    return strncmp(t->p, "HTTP/1.1 ", 9) == 0 ? atoi(t->p + 9) : -1;
}

/* HTTP/2 frames */

enum {
    H2_DATA = 0,
    H2_HEADERS = 1,
    H2_PRIORITY = 2,
    H2_CONTINUATION = 9,
    H2_RST = 3,
    H2_SETTINGS = 4,
    H2_PING = 6,
    H2_GOAWAY = 7,
    H2_WINDOW = 8
};
enum { H2_END_STREAM = 1, H2_END_HEADERS = 4 };

static inline void h2_write(int fd, uint8_t type, uint8_t flags, uint32_t stream, const void *payload, size_t n)
{
    uint8_t frame[9 + 16384] = {
        (uint8_t)(n >> 16),      (uint8_t)(n >> 8),      (uint8_t)n,     type, flags, (uint8_t)(stream >> 24),
        (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    memcpy(frame + 9, payload, n);
    edge_write(fd, frame, 9 + n);
}

static inline int h2_connect(struct edge *e)
{
    int fd = edge_connect(e);
    edge_say(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    h2_write(fd, H2_SETTINGS, 0, 0, "", 0);
    return fd;
}

/* name, value, ..., NULL, as literals. */
static inline void h2_request(int fd, uint32_t stream, unsigned flags, ...)
{
    uint8_t block[8192];
    size_t n = 0;
    va_list args;

    va_start(args, flags);
    for (const char *text; (text = va_arg(args, const char *)) != NULL;) {
        const char *value = va_arg(args, const char *);
        block[n++] = 0;
        block[n++] = (uint8_t)strlen(text);
        memcpy(block + n, text, strlen(text));
        n += strlen(text);
        block[n++] = (uint8_t)strlen(value);
        memcpy(block + n, value, strlen(value));
        n += strlen(value);
    }
    va_end(args);
    h2_write(fd, H2_HEADERS, (uint8_t)(flags | H2_END_HEADERS), stream, block, n);
}

#define H2_GET(path) ":method", "GET", ":scheme", "http", ":authority", "example.com", ":path", path
#define H2_POST(path) ":method", "POST", ":scheme", "http", ":authority", "example.com", ":path", path

struct h2_frame {
    uint8_t type, flags;
    uint32_t stream;
    size_t n;
    uint8_t payload[65536];
};

static inline bool h2_fill(int fd, void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t got = recv(fd, (char *)p + at, n - at, 0);
        if (got <= 0)
            return false;
        at += (size_t)got;
    }
    return true;
}

/* False: the connection has ended. */
static inline bool h2_read(int fd, struct h2_frame *f)
{
    uint8_t head[9];
    if (!h2_fill(fd, head, sizeof(head)))
        return false;
    f->n = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
    f->type = head[3];
    f->flags = head[4];
    f->stream = (uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8];
    assert_true(f->n < sizeof(f->payload));
    return h2_fill(fd, f->payload, f->n);
}

static inline bool h2_read_type(int fd, struct h2_frame *f, uint8_t type)
{
    while (h2_read(fd, f))
        if (f->type == type)
            return true;
    return false;
}

/* libh2o encodes the status first: by the static table, or as a literal of three digits. */
static inline int h2_status(const struct h2_frame *f)
{
    static const int indexed[] = {200, 204, 206, 304, 400, 404, 500};
    uint8_t first = f->payload[0];
    if (first >= 0x88 && first <= 0x8e)
        return indexed[first - 0x88];
    return (f->payload[2] - '0') * 100 + (f->payload[3] - '0') * 10 + (f->payload[4] - '0');
}

/* The status of the next answer; 0: the connection has ended. */
static inline int h2_answer(int fd)
{
    struct h2_frame *f = malloc(sizeof(*f));
    int status = h2_read_type(fd, f, H2_HEADERS) ? h2_status(f) : 0;
    free(f);
    return status;
}

/* Whether the connection ends, whatever comes before; false: not within CLIENT_WAIT_S of silence. */
static inline bool edge_ends(int fd)
{
    char sink[65536];
    ssize_t n;
    while ((n = recv(fd, sink, sizeof(sink), 0)) > 0)
        ;
    return n == 0 || errno == ECONNRESET;
}

#endif
