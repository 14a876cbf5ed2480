#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proxy/upstream.h"

/* Scripted origins: real sockets on loopback, a thread for each connection */

enum after { KEEP, CLOSE, RESET, HOLD }; /* HOLD: until the client closes */

struct answer {
    const char *text; /* NULL: nothing is said */
    size_t n;
    enum after after;
};
#define SAY(after, text)                                                                                               \
    {                                                                                                                  \
        text, sizeof(text) - 1, after                                                                                  \
    }

enum { CONNS_MAX = 4096, REQUESTS_MAX = 64 };

struct origin {
    int family, listener;
    uint16_t port;
    char path[64]; /* unix */
    char url[96];
    const struct answer *answers; /* to the nth request; the last one for all that follow */
    size_t nanswers;
    const char *greeting; /* said right after the first answer of a connection was said, in a packet of its own */
    SSL_CTX *tls;
    unsigned hold_until; /* no answer before so many requests have come */
    void (*on_request)(struct origin *o);

    pthread_t acceptor;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    unsigned accepted, open_max, nrequests, closed;
    int fds[CONNS_MAX]; /* -1: closed */
    pthread_t threads[CONNS_MAX];
    char *requests[REQUESTS_MAX];
    size_t request_n[REQUESTS_MAX];
    char sni[64];
};

struct origin_conn {
    struct origin *o;
    int fd;
    unsigned index;
    SSL *ssl;
};

static ssize_t conn_read(struct origin_conn *c, char *p, size_t n)
{
    return c->ssl != NULL ? SSL_read(c->ssl, p, (int)n) : recv(c->fd, p, n, 0);
}

static void conn_write(struct origin_conn *c, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t w = c->ssl != NULL ? SSL_write(c->ssl, p, (int)n) : send(c->fd, p, n, MSG_NOSIGNAL);
        if (w <= 0)
            return;
        p += w;
        n -= (size_t)w;
    }
}

/* Head and, by its Content-Length, body. False: the client is gone. */
static bool read_request(struct origin_conn *c, char **out, size_t *len)
{
    size_t cap = 4096, n = 0, need = 0;
    char *buf = malloc(cap);

    for (;;) {
        if (n + 1 >= cap)
            buf = realloc(buf, cap *= 2);
        ssize_t r = conn_read(c, buf + n, cap - n - 1);
        if (r <= 0)
            break;
        n += (size_t)r;
        buf[n] = '\0';
        char *end = need > 0 ? NULL : strstr(buf, "\r\n\r\n");
        if (end != NULL) {
            char *length = strcasestr(buf, "\r\ncontent-length:");
            need = (size_t)(end + 4 - buf) + (length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0);
        }
        if (need > 0 && n >= need) {
            *out = buf;
            *len = n;
            return true;
        }
    }
    free(buf);
    return false;
}

static const struct answer *take_request(struct origin_conn *c, char *text, size_t n)
{
    struct origin *o = c->o;
    pthread_mutex_lock(&o->lock);
    unsigned nth = o->nrequests++;
    if (nth < REQUESTS_MAX) {
        o->requests[nth] = text;
        o->request_n[nth] = n;
    } else {
        free(text);
    }
    pthread_cond_broadcast(&o->changed);
    while (o->nrequests < o->hold_until)
        pthread_cond_wait(&o->changed, &o->lock);
    pthread_mutex_unlock(&o->lock);
    return &o->answers[nth < o->nanswers ? nth : o->nanswers - 1];
}

static void conn_close(struct origin_conn *c, bool reset)
{
    struct linger now = {1, 0};
    if (reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    if (c->ssl != NULL)
        SSL_free(c->ssl);
    pthread_mutex_lock(&c->o->lock);
    c->o->fds[c->index] = -1;
    close(c->fd);
    c->o->closed++;
    pthread_cond_broadcast(&c->o->changed);
    pthread_mutex_unlock(&c->o->lock);
}

static bool conn_shake(struct origin_conn *c)
{
    if (c->o->tls == NULL)
        return true;
    c->ssl = SSL_new(c->o->tls);
    SSL_set_fd(c->ssl, c->fd);
    if (SSL_accept(c->ssl) != 1)
        return false;
    const char *name = SSL_get_servername(c->ssl, TLSEXT_NAMETYPE_host_name);
    pthread_mutex_lock(&c->o->lock);
    snprintf(c->o->sni, sizeof(c->o->sni), "%s", name != NULL ? name : "");
    pthread_mutex_unlock(&c->o->lock);
    return true;
}

static void *origin_serve(void *arg)
{
    struct origin_conn c = *(struct origin_conn *)arg;
    enum after after = conn_shake(&c) ? KEEP : CLOSE;
    bool greeted = false;
    char *text, rest[4096];
    size_t n;

    free(arg);
    while (after == KEEP && read_request(&c, &text, &n)) {
        const struct answer *a = take_request(&c, text, n);
        if (c.o->on_request != NULL)
            c.o->on_request(c.o);
        conn_write(&c, a->text, a->n);
        after = a->after;
        if (c.o->greeting != NULL && !greeted)
            conn_write(&c, c.o->greeting, strlen(c.o->greeting));
        greeted = true;
    }
    while (after == HOLD && conn_read(&c, rest, sizeof(rest)) > 0)
        ;
    conn_close(&c, after == RESET);
    return NULL;
}

/* How many connections the clients have open: what they have closed is known before a later connection is accepted. */
static unsigned count_open(struct origin *o)
{
    unsigned n = 0;
    char byte;
    for (unsigned i = 0; i < o->accepted; i++)
        n += o->fds[i] >= 0 && recv(o->fds[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0;
    return n;
}

static void *origin_accept(void *arg)
{
    struct origin *o = arg;
    int fd;

    while ((fd = accept(o->listener, NULL, NULL)) >= 0) {
        struct origin_conn *c = malloc(sizeof(*c));
        pthread_mutex_lock(&o->lock);
        assert_true(o->accepted < CONNS_MAX);
        *c = (struct origin_conn){.o = o, .fd = fd, .index = o->accepted++};
        o->fds[c->index] = fd;
        unsigned open = count_open(o);
        if (open > o->open_max)
            o->open_max = open;
        pthread_create(&o->threads[c->index], NULL, origin_serve, c);
        pthread_mutex_unlock(&o->lock);
    }
    return NULL;
}

static void origin_bind(struct origin *o)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } a = {0};
    socklen_t n = sizeof(a);

    a.any.sa_family = (sa_family_t)o->family;
    if (o->family == AF_INET) {
        a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        n = sizeof(a.in);
    } else if (o->family == AF_INET6) {
        a.in6.sin6_addr = in6addr_loopback;
        n = sizeof(a.in6);
    } else {
        snprintf(o->path, sizeof(o->path), "/tmp/weir-origin-%d-%p", (int)getpid(), (void *)o);
        snprintf(a.un.sun_path, sizeof(a.un.sun_path), "%s", o->path);
        n = sizeof(a.un);
    }
    o->listener = socket(o->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(o->listener, &a.any, n), 0);
    assert_int_equal(listen(o->listener, 511), 0);
    getsockname(o->listener, &a.any, &n);
    o->port = o->family == AF_INET ? ntohs(a.in.sin_port) : o->family == AF_INET6 ? ntohs(a.in6.sin6_port) : 0;
    snprintf(o->url, sizeof(o->url), "origin:%d:%u", o->family, o->port);
}

static struct origin *origin_start_as(int family, const struct answer *answers, size_t n, SSL_CTX *tls)
{
    struct origin *o = calloc(1, sizeof(*o));
    o->family = family;
    o->answers = answers;
    o->nanswers = n;
    o->tls = tls;
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->changed, NULL);
    origin_bind(o);
    pthread_create(&o->acceptor, NULL, origin_accept, o);
    return o;
}

static struct origin *origin_start(const struct answer *answers, size_t n)
{
    return origin_start_as(AF_INET, answers, n, NULL);
}
#define ORIGIN(...)                                                                                                    \
    origin_start((const struct answer[]){__VA_ARGS__},                                                                 \
                 sizeof((const struct answer[]){__VA_ARGS__}) / sizeof(struct answer))

static void origin_stop(struct origin *o)
{
    shutdown(o->listener, SHUT_RDWR);
    pthread_join(o->acceptor, NULL);
    close(o->listener);
    if (o->path[0] != '\0')
        unlink(o->path);
    pthread_mutex_lock(&o->lock);
    o->hold_until = 0;
    pthread_cond_broadcast(&o->changed);
    for (unsigned i = 0; i < o->accepted; i++)
        if (o->fds[i] >= 0)
            shutdown(o->fds[i], SHUT_RDWR);
    pthread_mutex_unlock(&o->lock);
    for (unsigned i = 0; i < o->accepted; i++)
        pthread_join(o->threads[i], NULL);
    for (unsigned i = 0; i < REQUESTS_MAX; i++)
        free(o->requests[i]);
    free(o);
}

static unsigned origin_count(struct origin *o, const unsigned *what)
{
    pthread_mutex_lock(&o->lock);
    unsigned n = *what;
    pthread_mutex_unlock(&o->lock);
    return n;
}
#define COUNT(o, what) origin_count(o, &(o)->what)

/* A port that refuses: bound, but nobody listens. */
static int refusing_port(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    getsockname(fd, (struct sockaddr *)&a, &n);
    *port = ntohs(a.sin_port);
    return fd;
}

/* The client side */

struct client {
    struct loop *loop;
    struct backends *all;
    struct upstream *up;
    struct backend *backend;
    struct conf_server servers[4];
    struct conf_backend conf;
    unsigned running;
};

static void client_init(struct client *c)
{
    memset(c, 0, sizeof(*c));
    c->loop = loop_create();
    c->all = backends_create();
    c->up = upstream_create(c->loop, c->all);
    c->conf = (struct conf_backend){.name = "b",
                                    .servers = c->servers,
                                    .max_connections = 64,
                                    .queue_size = 16,
                                    .queue_timeout_ms = 5000,
                                    .keepalive_ms = 60000,
                                    .connect_ms = 5000,
                                    .first_byte_ms = 5000,
                                    .idle_ms = 5000,
                                    .total_ms = 20000};
}

static void client_fini(struct client *c)
{
    upstream_destroy(c->up);
    loop_destroy(c->loop);
    backends_destroy(c->all);
}

static void client_serve_by(struct client *c, const struct origin *o)
{
    const char *host = o->family == AF_INET ? "127.0.0.1" : o->family == AF_INET6 ? "::1" : "localhost";
    c->servers[c->conf.nservers++] = (struct conf_server){.url = o->url,
                                                          .https = o->tls != NULL,
                                                          .host = host,
                                                          .port = o->port,
                                                          .unix_path = o->path[0] != '\0' ? o->path : NULL,
                                                          .weight = 1,
                                                          .tls_verify = true};
}

static void client_apply(struct client *c)
{
    c->backend = backends_apply(c->all, &c->conf);
}

static void client_open(struct client *c, const struct origin *o)
{
    client_init(c);
    client_serve_by(c, o);
    client_apply(c);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

struct got {
    struct client *client;
    struct fetch *fetch;
    unsigned heads, done, sent;
    int status;
    int64_t content_length;
    char fields[4096]; /* orig name, ": ", value, "\n" */
    char *body;
    size_t n;
    enum fetch_end end;
    int64_t done_ms;
    /* what to do */
    unsigned pause_every; /* refuse the first of so many pieces */
    unsigned asked, paused;
    bool cancel_in_head, cancel_in_body, cancel_in_sent;
    struct got *cancel_when_done, *cancel_other_in_head;
    bool start_in_done;
    const struct fetch_request *request;
};

static void gone(struct got *g)
{
    g->fetch = NULL;
    g->client->running--;
}

static void cancel(struct got *g)
{
    fetch_cancel(g->fetch);
    gone(g);
}

static void on_head(struct fetch *f, void *data, int status, struct fields fields, int64_t content_length)
{
    struct got *g = data;
    size_t at = 0;

    assert_ptr_equal(g->fetch, f);
    g->heads++;
    g->status = status;
    g->content_length = content_length;
    for (size_t i = 0; i < fields.n; i++) {
        const struct field *x = &fields.v[i];
        for (size_t k = 0; k < x->name.n; k++)
            assert_int_equal(x->name.p[k], ascii_lower(x->orig_name[k]));
        at += (size_t)snprintf(g->fields + at, sizeof(g->fields) - at, "%.*s: %.*s\n", (int)x->name.n, x->orig_name,
                               (int)x->value.n, x->value.p);
        assert_true(at < sizeof(g->fields));
    }
    if (g->cancel_other_in_head != NULL && g->cancel_other_in_head->fetch != NULL)
        cancel(g->cancel_other_in_head);
    if (g->cancel_in_head)
        cancel(g);
}

static bool on_body(struct fetch *f, void *data, struct bytes piece)
{
    struct got *g = data;

    assert_ptr_equal(g->fetch, f);
    assert_int_equal(g->heads, 1);
    if (g->pause_every > 0 && g->asked++ % g->pause_every == 0) {
        g->paused++;
        return false;
    }
    g->body = realloc(g->body, g->n + piece.n + 1);
    memcpy(g->body + g->n, piece.p, piece.n);
    g->n += piece.n;
    g->body[g->n] = '\0';
    if (g->cancel_in_body)
        cancel(g);
    return true;
}

static void fetch(struct client *c, struct got *g, const struct fetch_request *request);

static void on_done(struct fetch *f, void *data, enum fetch_end end)
{
    struct got *g = data;

    assert_ptr_equal(g->fetch, f);
    gone(g);
    g->end = end;
    g->done++;
    g->done_ms = now_ms();
    if (g->cancel_when_done != NULL && g->cancel_when_done->fetch != NULL)
        cancel(g->cancel_when_done);
    if (g->start_in_done) {
        g->start_in_done = false;
        fetch(g->client, g, g->request);
    }
}

static void on_sent(struct fetch *f, void *data)
{
    struct got *g = data;
    assert_ptr_equal(g->fetch, f);
    g->sent++;
    if (g->cancel_in_sent)
        cancel(g);
}

static const struct fetch_callbacks callbacks = {on_head, on_body, on_done, on_sent};

static void fetch(struct client *c, struct got *g, const struct fetch_request *request)
{
    struct fetch_request r = *request;
    unsigned done = g->done;
    r.backend = c->backend;
    g->client = c;
    g->request = request;
    c->running++;
    g->fetch = fetch_start(c->up, &r, &callbacks, g);
    assert_int_equal(g->done, done); /* never from within */
}

static void run(struct client *c)
{
    int64_t begin = now_ms();
    while (c->running > 0) {
        loop_run(c->loop, 100);
        assert_true(now_ms() - begin < 30000);
    }
}

/* Turns the loop until the origin has seen so many. */
static void run_until_count(struct client *c, struct origin *o, const unsigned *what, unsigned n)
{
    int64_t begin = now_ms();
    while (origin_count(o, what) < n) {
        loop_run(c->loop, 2);
        assert_true(now_ms() - begin < 30000);
    }
}
#define RUN_UNTIL(c, o, what, n) run_until_count(c, o, &(o)->what, n)

static void got_free(struct got *g)
{
    free(g->body);
    memset(g, 0, sizeof(*g));
}

#define GET_REQUEST                                                                                                    \
    {                                                                                                                  \
        .method = BYTES_LIT("GET"), .target = BYTES_LIT("/x"), .authority = BYTES_LIT("h"), .safe = true               \
    }
static const struct fetch_request get = GET_REQUEST;
static const struct fetch_request head = {
    .method = BYTES_LIT("HEAD"), .target = BYTES_LIT("/x"), .authority = BYTES_LIT("h"), .safe = true};
static const struct fetch_request post = {.method = BYTES_LIT("POST"),
                                          .target = BYTES_LIT("/x"),
                                          .authority = BYTES_LIT("h"),
                                          .body = BYTES_LIT("abc"),
                                          .has_body = true};

#define OK_HELLO SAY(KEEP, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

static void assert_hello(const struct got *g)
{
    assert_int_equal(g->done, 1);
    assert_int_equal(g->end, FETCH_OK);
    assert_int_equal(g->status, 200);
    assert_int_equal(g->n, 5);
    assert_string_equal(g->body, "hello");
}

/* What is asked for and how it goes out */

static void a_get_goes_out_as_given_and_its_answer_comes_back(void **state)
{
    struct origin *o = ORIGIN(SAY(KEEP, "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX-One:  a b \t\r\nx-ONE:\r\nEmpty: "
                                        "\r\nLocation: http://[bad\r\nContent-Encoding: gzip\r\n\r\nhello"));
    struct client c;
    struct got g = {0};
    static const struct field fields[] = {
        {BYTES_LIT("x-at"), NULL, BYTES_LIT("@/etc/passwd")},
        {BYTES_LIT("x-empty"), "X-Empty", BYTES_LIT("")},
        {BYTES_LIT("x-semi"), NULL, BYTES_LIT("a;")},
        {BYTES_LIT("x-colon"), NULL, BYTES_LIT(":;x: y")},
        {BYTES_LIT("authorization"), "Authorization", BYTES_LIT("Bearer x")},
        {BYTES_LIT("cookie"), NULL, BYTES_LIT("a=b; c=\"d\"")},
        {BYTES_LIT("cookie"), NULL, BYTES_LIT("e=f")},
        {BYTES_LIT("x-bytes"), NULL, BYTES_LIT("\xff\x80 \"%s%n\\")},
        {BYTES_LIT("expect"), NULL, BYTES_LIT("100-continue")},
    };
    struct fetch_request r = GET_REQUEST;
    (void)state;

    r.target = BYTES_LIT("/a/../b//c?q=%41#{x}|\"' \x7f\xc3\xa4");
    r.target.n -= 4; /* without what is no target: a space and beyond */
    r.fields = (struct fields){fields, sizeof(fields) / sizeof(*fields)};
    client_open(&c, o);
    fetch(&c, &g, &r);
    run(&c);
    assert_hello(&g);
    assert_int_equal(g.sent, 1);
    assert_int_equal(g.content_length, 5);
    assert_string_equal(g.fields, "Content-Length: 5\nX-One: a b\nx-ONE: \nEmpty: \nLocation: http://[bad\n"
                                  "Content-Encoding: gzip\n");
    assert_string_equal(o->requests[0], "GET /a/../b//c?q=%41#{x}|\"' HTTP/1.1\r\nHost: h\r\nx-at: @/etc/passwd\r\n"
                                        "X-Empty:\r\nx-semi: a;\r\nx-colon: :;x: y\r\nAuthorization: Bearer x\r\n"
                                        "cookie: a=b; c=\"d\"\r\ncookie: e=f\r\nx-bytes: \xff\x80 \"%s%n\\\r\n\r\n");
    client_fini(&c);
    origin_stop(o);
    got_free(&g);
}

static void methods_and_bodies_go_out_as_given(void **state)
{
    static char big[3 << 20];
    struct origin *o = ORIGIN(OK_HELLO);
    struct client c;
    struct got g = {0};
    struct fetch_request r = post;
    struct field accept = {BYTES_LIT("accept"), NULL, BYTES_LIT("x/y")};
    (void)state;

    client_open(&c, o);
    fetch(&c, &g, &post);
    run(&c);
    assert_hello(&g);
    assert_string_equal(o->requests[0], "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    got_free(&g);

    r.body = BYTES_NONE;
    fetch(&c, &g, &r);
    run(&c);
    assert_string_equal(o->requests[1], "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    got_free(&g);

    r.has_body = false;
    r.method = BYTES_LIT("DELETE");
    fetch(&c, &g, &r);
    run(&c);
    assert_string_equal(o->requests[2], "DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n");
    got_free(&g);

    memset(big, 'y', sizeof(big));
    r = (struct fetch_request)GET_REQUEST;
    r.method = BYTES_LIT("M-SEARCH");
    r.body = (struct bytes){big, sizeof(big)};
    r.has_body = true;
    r.fields = (struct fields){&accept, 1};
    fetch(&c, &g, &r);
    run(&c);
    assert_hello(&g);
    static const char lines[] = "M-SEARCH /x HTTP/1.1\r\nHost: h\r\naccept: x/y\r\nContent-Length: 3145728\r\n\r\n";
    assert_int_equal(o->request_n[3], sizeof(lines) - 1 + sizeof(big));
    assert_memory_equal(o->requests[3], lines, sizeof(lines) - 1);
    got_free(&g);

    fetch(&c, &g, &get); /* nothing of the former ones sticks */
    run(&c);
    assert_hello(&g);
    assert_string_equal(o->requests[4], "GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
    client_fini(&c);
    origin_stop(o);
    got_free(&g);
}

static void the_environment_does_not_matter(void **state)
{
    struct origin *o = ORIGIN(OK_HELLO);
    struct client c;
    struct got g = {0};
    (void)state;

    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "socks5://127.0.0.1:1", 1);
    client_open(&c, o);
    fetch(&c, &g, &get);
    run(&c);
    assert_hello(&g);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
    client_fini(&c);
    origin_stop(o);
    got_free(&g);
}

static void answers_without_a_body_end_at_their_head(void **state)
{
    struct origin *o = ORIGIN(SAY(KEEP, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
                              SAY(KEEP, "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n"),
                              SAY(KEEP, "HTTP/1.1 204 No Content\r\n\r\n"),
                              SAY(KEEP, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), OK_HELLO);
    static const struct {
        const struct fetch_request *request;
        int status;
        int64_t length;
    } cases[] = {{&head, 200, 1000}, {&get, 304, 77}, {&get, 204, -1}, {&head, 200, -1}};
    struct client c;
    struct got g = {0};
    (void)state;

    client_open(&c, o);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        fetch(&c, &g, cases[i].request);
        run(&c);
        assert_int_equal(g.end, FETCH_OK);
        assert_int_equal(g.status, cases[i].status);
        assert_int_equal(g.content_length, cases[i].length);
        assert_int_equal(g.n, 0);
        got_free(&g);
    }
    fetch(&c, &g, &get);
    run(&c);
    assert_hello(&g);
    assert_int_equal(COUNT(o, accepted), 1);
    client_fini(&c);
    origin_stop(o);
    got_free(&g);
}

static void interim_answers_and_trailers_are_passed_over(void **state)
{
    struct origin *o =
        ORIGIN(SAY(KEEP, "HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n"
                         "Content-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: x\r\n\r\n"
                         "3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\nContent-Length: 9\r\n\r\n"),
               OK_HELLO);
    struct client c;
    struct got g = {0};
    (void)state;

    client_open(&c, o);
    fetch(&c, &g, &get);
    run(&c);
    assert_hello(&g);
    assert_int_equal(g.heads, 1);
    assert_int_equal(g.content_length, -1);
    assert_string_equal(g.fields, "Transfer-Encoding: Chunked\nTrailer: x\n");
    got_free(&g);
    fetch(&c, &g, &get);
    run(&c);
    assert_hello(&g);
    assert_int_equal(COUNT(o, accepted), 1);
    client_fini(&c);
    origin_stop(o);
    got_free(&g);
}

/* What ends how */

struct ending {
    const char *name;
    struct answer answer;
    enum fetch_end end;
    unsigned heads;
};

static void check_endings(const struct ending *endings, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct origin *o = origin_start(&endings[i].answer, 1);
        struct client c;
        struct got g = {0};

        client_open(&c, o);
        fetch(&c, &g, &get);
        run(&c);
        if (g.end != endings[i].end || g.heads != endings[i].heads)
            fail_msg("%s: ended as %s with %u heads", endings[i].name, fetch_end_word(g.end), g.heads);
        client_fini(&c);
        origin_stop(o);
        got_free(&g);
    }
}

static void a_message_cut_short_is_never_ok(void **state)
{
    static const struct ending endings[] = {
        {"short of its length", SAY(CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"), FETCH_TRUNCATED, 1},
        {"exactly its length", SAY(CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), FETCH_OK, 1},
        {"nothing of its length", SAY(CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"), FETCH_TRUNCATED, 1},
        {"reset short of its length", SAY(RESET, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello"), FETCH_TRUNCATED,
         1},
        {"in a chunk", SAY(CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"), FETCH_TRUNCATED, 1},
        {"at a chunk's end", SAY(CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
         FETCH_TRUNCATED, 1},
        {"in a chunk's size", SAY(CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0"),
         FETCH_TRUNCATED, 1},
        {"before any chunk", SAY(CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), FETCH_TRUNCATED, 1},
        {"at the last chunk", SAY(CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), FETCH_OK,
         1},
        {"in the trailers", SAY(CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n"),
         FETCH_TRUNCATED, 1},
        {"no chunk size", SAY(HOLD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), FETCH_TRUNCATED, 1},
        {"a chunk too long", SAY(HOLD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n"),
         FETCH_TRUNCATED, 1},
        {"until the close", SAY(CLOSE, "HTTP/1.1 200 OK\r\n\r\nhello"), FETCH_OK, 1},
        {"until the close, 1.0", SAY(CLOSE, "HTTP/1.0 200 OK\r\n\r\nhello"), FETCH_OK, 1},
        {"until a reset", SAY(RESET, "HTTP/1.1 200 OK\r\n\r\nhello"), FETCH_TRUNCATED, 1},
    };
    (void)state;
    check_endings(endings, sizeof(endings) / sizeof(*endings));
}

static void an_answer_that_ends_in_its_head_is_a_reset(void **state)
{
    static const struct ending endings[] = {
        {"nothing", {NULL, 0, CLOSE}, FETCH_RESET, 0},
        {"nothing, reset", {NULL, 0, RESET}, FETCH_RESET, 0},
        {"half a status line", SAY(CLOSE, "HTTP/1.1 20"), FETCH_RESET, 0},
        {"a status line", SAY(CLOSE, "HTTP/1.1 200 OK\r\n"), FETCH_RESET, 0},
        {"half a field", SAY(CLOSE, "HTTP/1.1 200 OK\r\nContent-Le"), FETCH_RESET, 0},
        {"no empty line", SAY(CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"), FETCH_RESET, 0},
        {"reset in the head", SAY(RESET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"), FETCH_RESET, 0},
        {"only an interim answer", SAY(CLOSE, "HTTP/1.1 100 Continue\r\n\r\n"), FETCH_RESET, 0},
    };
    (void)state;
    check_endings(endings, sizeof(endings) / sizeof(*endings));
}

#define BAD(name, text)                                                                                                \
    {                                                                                                                  \
        name, SAY(HOLD, text), FETCH_BAD_RESPONSE, 0                                                                   \
    }
#define FINE(name, text)                                                                                               \
    {                                                                                                                  \
        name, SAY(HOLD, text), FETCH_OK, 1                                                                             \
    }

static void answers_that_could_be_read_in_two_ways_are_refused(void **state)
{
    static const struct ending endings[] = {
        BAD("0.9", "<html>hello</html>\r\n"),
        BAD("another protocol", "SSH-2.0-x\r\n\r\n"),
        BAD("HTTP/2", "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n"),
        BAD("HTTP/3.1", "HTTP/3.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        BAD("status 99", "HTTP/1.1 99 X\r\nContent-Length: 0\r\n\r\n"),
        BAD("status 099", "HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n"),
        BAD("status 600", "HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n"),
        FINE("status 599", "HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n"),
        BAD("status 1000", "HTTP/1.1 1000 X\r\nContent-Length: 0\r\n\r\n"),
        BAD("status 2x0", "HTTP/1.1 2x0 X\r\nContent-Length: 0\r\n\r\n"),
        BAD("no status", "HTTP/1.1 \r\nContent-Length: 0\r\n\r\n"),
        BAD("status 101", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxx"),
        BAD("two spaces", "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n"),
        FINE("no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
        FINE("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        FINE("one length twice", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"),
        FINE("one length as a list", "HTTP/1.1 200 OK\r\nContent-Length: 0, 0\r\n\r\n"),
        BAD("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\nx"),
        BAD("two lengths, long first", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 0\r\n\r\nx"),
        BAD("two lengths as a list", "HTTP/1.1 200 OK\r\nContent-Length: 0, 1\r\n\r\nx"),
        BAD("length +0", "HTTP/1.1 200 OK\r\nContent-Length: +0\r\n\r\n"),
        BAD("length +5", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
        BAD("length -1", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
        BAD("length 0x5", "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello"),
        BAD("length 5 5", "HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n\r\nhello"),
        BAD("no length", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n"),
        BAD("too large a length", "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nx"),
        BAD("length and coding", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        BAD("coding and length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        BAD("gzip, chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        BAD("gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
        BAD("identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n"),
        BAD("chunked twice",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        BAD("chunked, chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        BAD("xchunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        BAD("empty coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n"),
        BAD("chunked in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        BAD("no colon", "HTTP/1.1 200 OK\r\nfoo\r\nContent-Length: 0\r\n\r\n"),
        BAD("no name", "HTTP/1.1 200 OK\r\n: foo\r\nContent-Length: 0\r\n\r\n"),
        BAD("white space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
        BAD("a name of two words", "HTTP/1.1 200 OK\r\nfoo bar: x\r\nContent-Length: 0\r\n\r\n"),
        BAD("a fold", "HTTP/1.1 200 OK\r\nfoo: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
        BAD("a fold of the length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n 0\r\n\r\n"),
        BAD("a fold at once", "HTTP/1.1 200 OK\r\n foo: a\r\nContent-Length: 0\r\n\r\n"),
        BAD("NUL in a value", "HTTP/1.1 200 OK\r\nfoo: a\0b\r\nContent-Length: 0\r\n\r\n"),
        BAD("NUL in a name", "HTTP/1.1 200 OK\r\nfo\0o: a\r\nContent-Length: 0\r\n\r\n"),
        BAD("a bare carriage return", "HTTP/1.1 200 OK\r\nfoo: a\rContent-Length: 0\r\n\r\n"),
    };
    (void)state;
    check_endings(endings, sizeof(endings) / sizeof(*endings));
}

static char *head_of(size_t bytes, enum after after, struct answer *out)
{
    static const char begin[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
    char *text = malloc(bytes);
    size_t n = sizeof(begin) - 1;

    memcpy(text, begin, n);
    while (n < bytes - 2) {
        size_t line = bytes - 2 - n < 2000 ? bytes - 2 - n : 1000;
        memset(text + n, 'a', line);
        text[n + 1] = ':';
        memcpy(text + n + line - 2, "\r\n", 2);
        n += line;
    }
    memcpy(text + n, "\r\n", 2);
    *out = (struct answer){text, bytes, after};
    return text;
}

static void a_head_may_have_64_kib_and_not_one_byte_more(void **state)
{
    struct ending endings[2] = {{"64 KiB", {0}, FETCH_OK, 1}, {"64 KiB + 1", {0}, FETCH_BAD_RESPONSE, 0}};
    char *fits = head_of(65536, KEEP, &endings[0].answer), *does_not = head_of(65537, HOLD, &endings[1].answer);
    struct origin *o;
    struct client c;
    struct got g = {0};
    (void)state;

    for (int i = 0; i < 2; i++) {
        o = origin_start(&endings[i].answer, 1);
        client_open(&c, o);
        g.fields[0] = '\0';
        struct fetch_request r = get;
        g.cancel_in_head = i == 0; /* that it came is enough; got has no room for it */
        r.backend = c.backend;
        c.running = 1;
        g.client = &c;
        fetch_cancel(fetch_start(c.up, &r, &callbacks, &g));
        c.running = 0;
        client_fini(&c);
        origin_stop(o);
    }
    (void)fits, (void)does_not;
    free(fits);
    free(does_not);
}

int main(void)
{
    return 0;
}
