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
#include <signal.h>
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

static const struct answer *take_request(struct origin_conn *c, char *text, size_t n, const char **greeting)
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
    *greeting = o->greeting;
    pthread_mutex_unlock(&o->lock);
    return &o->answers[nth < o->nanswers ? nth : o->nanswers - 1];
}

static void conn_close(struct origin_conn *c, bool reset)
{
    struct linger now = {1, 0};
    if (reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    if (c->ssl != NULL) {
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
    }
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
        const char *greeting;
        const struct answer *a = take_request(&c, text, n, &greeting);
        conn_write(&c, a->text, a->n);
        after = a->after;
        if (greeting != NULL && !greeted)
            conn_write(&c, greeting, strlen(greeting));
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
    for (unsigned i = 0; errno = 0, i < o->accepted; i++)
        n += o->fds[i] >= 0 && (recv(o->fds[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0 || errno == EAGAIN);
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
static const char *request_of(struct origin *o, unsigned nth)
{
    pthread_mutex_lock(&o->lock);
    const char *text = o->requests[nth];
    pthread_mutex_unlock(&o->lock);
    assert_non_null(text);
    return text;
}

static void origin_hold(struct origin *o, unsigned until)
{
    pthread_mutex_lock(&o->lock);
    o->hold_until = until;
    pthread_cond_broadcast(&o->changed);
    pthread_mutex_unlock(&o->lock);
}

static void origin_greet(struct origin *o, const char *text)
{
    pthread_mutex_lock(&o->lock);
    o->greeting = text;
    pthread_mutex_unlock(&o->lock);
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
    c->up = upstream_create(c->loop, c->all, NULL);
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
    unsigned interims;
    char interim[256]; /* of each: status, "\n", fields as above */
    char *body;
    size_t n;
    size_t room; /* of body */
    enum fetch_end end;
    int64_t done_ms;
    /* what to do */
    unsigned pause_every; /* refuse the first of so many pieces */
    unsigned asked, paused;
    bool cancel_in_head, cancel_in_body, cancel_in_sent, cancel_in_interim;
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

static void put_fields(char *out, size_t size, struct fields fields)
{
    size_t at = 0;

    for (size_t i = 0; i < fields.n && at < size; i++) {
        const struct field *x = &fields.v[i];
        for (size_t k = 0; k < x->name.n; k++)
            assert_int_equal(x->name.p[k], ascii_lower(x->orig_name[k]));
        at += (size_t)snprintf(out + at, size - at, "%.*s: %.*s\n", (int)x->name.n, x->orig_name, (int)x->value.n,
                               x->value.p);
    }
}

static void on_interim(struct fetch *f, void *data, int status, struct fields fields)
{
    struct got *g = data;
    size_t at = strlen(g->interim);

    assert_ptr_equal(g->fetch, f);
    assert_int_equal(g->heads, 0);
    g->interims++;
    at += (size_t)snprintf(g->interim + at, sizeof(g->interim) - at, "%d\n", status);
    if (at < sizeof(g->interim))
        put_fields(g->interim + at, sizeof(g->interim) - at, fields);
    if (g->cancel_in_interim)
        cancel(g);
}

static void on_head(struct fetch *f, void *data, int status, struct fields fields, int64_t content_length)
{
    struct got *g = data;

    assert_ptr_equal(g->fetch, f);
    g->heads++;
    g->status = status;
    g->content_length = content_length;
    put_fields(g->fields, sizeof(g->fields), fields);
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
    if (g->n + piece.n >= g->room)
        g->body = realloc(g->body, g->room = 2 * (g->n + piece.n) + 1);
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

static const struct fetch_callbacks callbacks = {on_head, on_body, on_done, on_sent, on_interim};

static void fetch(struct client *c, struct got *g, const struct fetch_request *request)
{
    struct fetch_request r = *request;
    unsigned done = g->done;
    r.backend = c->backend;
    g->client = c;
    g->request = request;
    g->heads = 0;
    g->n = 0;
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

    r.target = BYTES_LIT("/a/../b//c?q=%41{x}|\"'");
    r.fields = (struct fields){fields, sizeof(fields) / sizeof(*fields)};
    client_open(&c, o);
    fetch(&c, &g, &r);
    run(&c);
    assert_hello(&g);
    assert_int_equal(g.sent, 1);
    assert_int_equal(g.content_length, 5);
    assert_string_equal(g.fields, "Content-Length: 5\nX-One: a b\nx-ONE: \nEmpty: \nLocation: http://[bad\n"
                                  "Content-Encoding: gzip\n");
    assert_string_equal(request_of(o, 0), "GET /a/../b//c?q=%41{x}|\"' HTTP/1.1\r\nHost: h\r\nx-at: @/etc/passwd\r\n"
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
    assert_string_equal(request_of(o, 0), "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    got_free(&g);

    r.body = BYTES_NONE;
    fetch(&c, &g, &r);
    run(&c);
    assert_string_equal(request_of(o, 1), "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    got_free(&g);

    r.has_body = false;
    r.method = BYTES_LIT("DELETE");
    fetch(&c, &g, &r);
    run(&c);
    assert_string_equal(request_of(o, 2), "DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n");
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
    assert_memory_equal(request_of(o, 3), lines, sizeof(lines) - 1);
    got_free(&g);

    fetch(&c, &g, &get); /* nothing of the former ones sticks */
    run(&c);
    assert_hello(&g);
    assert_string_equal(request_of(o, 4), "GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
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
    assert_int_equal(COUNT(o, accepted), 3); /* those of HEAD are not used again */
    client_fini(&c);
    origin_stop(o);
    got_free(&g);
}

/* RFC 9110 section 15.2: any number of 1xx may come before the answer, and none of their fields is the answer's. */
static void interim_responses_are_told_apart_from_the_answer_and_trailers_passed_over(void **state)
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
    assert_string_equal(g.interim, "100\nX-Early: 1\n103\nLink: </a>\nContent-Length: 3\n");
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
        {"until the close, an unknown coding", SAY(CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: a\r\n\r\nhello"),
         FETCH_OK, 1},
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
        {"only interim responses, reset", SAY(RESET, "HTTP/1.1 103 E\r\n\r\nHTTP/1.1 103 E\r\n\r\n"), FETCH_RESET, 0},
        {"half an interim response", SAY(CLOSE, "HTTP/1.1 103 E\r\nLink: <"), FETCH_RESET, 0},
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
        FINE("status 199 first", "HTTP/1.1 199 X\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n"),
        BAD("status 101 after another", "HTTP/1.1 103 X\r\n\r\nHTTP/1.1 101 X\r\nUpgrade: x\r\n\r\nxx"),
        BAD("an interim response's field without a colon",
            "HTTP/1.1 103 X\r\nfoo\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n"),
        BAD("NUL in an interim response",
            "HTTP/1.1 103 X\r\nfoo: a\0b\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n"),
        BAD("no status line after an interim response", "HTTP/1.1 103 X\r\n\r\nfoo: bar\r\n\r\n"),
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
        BAD("two unknown ones", "HTTP/1.1 200 OK\r\nTransfer-Encoding: a, b\r\n\r\n"),
        BAD("unknown and length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: a\r\nContent-Length: 5\r\n\r\nhello"),
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
    (void)state;

    check_endings(endings, 2);
    free(fits);
    free(does_not);
}

/* Many 1xx, then a head that brings all of it to so many bytes. */
static char *heads_of(size_t bytes, enum after after, struct answer *out)
{
    static const char hint[] = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n";
    size_t n = 0;
    char *last = head_of(bytes - 1000 * (sizeof(hint) - 1), after, out), *text = malloc(bytes);

    while (n < 1000 * (sizeof(hint) - 1))
        n += (size_t)sprintf(text + n, "%s", hint);
    memcpy(text + n, last, bytes - n);
    free(last);
    *out = (struct answer){text, bytes, after};
    return text;
}

/* No origin holds a request for ever by interim responses. */
static void interim_responses_count_for_the_64_kib(void **state)
{
    struct ending endings[2] = {{"64 KiB", {0}, FETCH_OK, 1}, {"64 KiB + 1", {0}, FETCH_BAD_RESPONSE, 0}};
    char *fits = heads_of(65536, KEEP, &endings[0].answer), *does_not = heads_of(65537, HOLD, &endings[1].answer);
    (void)state;

    check_endings(endings, 2);
    free(fits);
    free(does_not);
}

/* Connections */

static void get_hello(struct client *c, unsigned sent)
{
    struct got g = {0};
    fetch(c, &g, &get);
    while (g.done == 0)
        loop_run(c->loop, 100);
    assert_hello(&g);
    assert_int_equal(g.sent, sent);
    got_free(&g);
}

static void a_connection_is_used_again(void **state)
{
    struct origin *o = ORIGIN(OK_HELLO);
    struct client c;
    (void)state;

    client_open(&c, o);
    for (int i = 0; i < 20; i++)
        get_hello(&c, 1);
    assert_int_equal(COUNT(o, accepted), 1);
    client_fini(&c);
    origin_stop(o);
}

static void bytes_that_belong_to_no_answer_are_not_the_next_one(void **state)
{
    static const struct {
        const struct fetch_request *request;
        struct answer answer;
    } cases[] = {
        {&head, SAY(KEEP, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nevil!")},
        {&get, SAY(KEEP, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")},
        {&get, SAY(KEEP, "HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")},
        {&get, SAY(KEEP, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
                         "evil")},
        {&get, SAY(KEEP, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n"
                         "Content-Length: 4\r\n\r\nevil")},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct answer answers[] = {cases[i].answer, OK_HELLO};
        struct origin *o = origin_start(answers, 2);
        struct client c;
        struct got g = {0};

        client_open(&c, o);
        fetch(&c, &g, cases[i].request);
        run(&c);
        assert_int_equal(g.end, FETCH_OK);
        assert_int_equal(g.n, 0);
        got_free(&g);
        get_hello(&c, 1); /* on a new connection, or after libcurl has dropped what it had read */
        client_fini(&c);
        origin_stop(o);
    }
}

static void bytes_on_an_idle_connection_end_it(void **state)
{
    struct origin *o = ORIGIN(OK_HELLO);
    struct client c;
    (void)state;

    origin_greet(o, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    client_open(&c, o);
    for (unsigned i = 0; i < 3; i++) {
        get_hello(&c, 1);
        RUN_UNTIL(&c, o, closed, i + 1);
    }
    assert_int_equal(COUNT(o, accepted), 3);
    client_fini(&c);
    origin_stop(o);
}

static void an_idle_connection_is_closed_after_keepalive(void **state)
{
    struct origin *o = ORIGIN(OK_HELLO);
    struct client c;
    int64_t begin;
    (void)state;

    client_init(&c);
    client_serve_by(&c, o);
    c.conf.keepalive_ms = 300;
    client_apply(&c);
    begin = now_ms();
    get_hello(&c, 1);
    get_hello(&c, 1);
    assert_int_equal(COUNT(o, accepted), 1);
    RUN_UNTIL(&c, o, closed, 1);
    assert_true(now_ms() - begin >= 300);
    assert_true(now_ms() - begin < 5000);
    get_hello(&c, 1);
    assert_int_equal(COUNT(o, accepted), 2);
    client_fini(&c);
    origin_stop(o);
}

/* Sent again, or not */

static void check_resend(const struct answer *answers, size_t n, bool warm, const struct fetch_request *request,
                         enum fetch_end end, unsigned seen, unsigned sent, unsigned heads)
{
    struct origin *o = origin_start(answers, n);
    struct client c;
    struct got g = {0};
    struct fetch_request r = *request;
    static const struct field credentials[] = {{BYTES_LIT("authorization"), NULL, BYTES_LIT("Bearer x")},
                                               {BYTES_LIT("cookie"), NULL, BYTES_LIT("a=b")}};

    client_open(&c, o);
    if (warm)
        get_hello(&c, 1);
    r.fields = (struct fields){credentials, 2};
    fetch(&c, &g, &r);
    run(&c);
    assert_int_equal(g.end, end);
    assert_int_equal(g.sent, sent);
    assert_int_equal(g.heads, heads);
    assert_int_equal(COUNT(o, nrequests), seen + warm);
    for (unsigned i = warm + 1; i < seen + warm; i++)
        assert_string_equal(request_of(o, i), request_of(o, i - 1));
    client_fini(&c);
    origin_stop(o);
    got_free(&g);
}

static void a_safe_request_is_sent_again_once_if_nothing_of_an_answer_came(void **state)
{
    static const struct answer dies_new[] = {{NULL, 0, CLOSE}, OK_HELLO};
    static const struct answer dies_reset[] = {{NULL, 0, RESET}, OK_HELLO};
    static const struct answer dies_reused[] = {OK_HELLO, {NULL, 0, CLOSE}, OK_HELLO};
    static const struct answer dies_reused_reset[] = {OK_HELLO, {NULL, 0, RESET}, OK_HELLO};
    static const struct answer dies_twice[] = {{NULL, 0, CLOSE}, {NULL, 0, CLOSE}, OK_HELLO};
    static const struct answer dies_reused_twice[] = {OK_HELLO, {NULL, 0, CLOSE}, {NULL, 0, CLOSE}, OK_HELLO};
    static const struct answer dies_in_head[] = {SAY(CLOSE, "HTTP/1.1 200 OK\r\n"), OK_HELLO};
    static const struct answer dies_reused_in_head[] = {OK_HELLO, SAY(CLOSE, "HTTP/1.1 200 OK\r\n"), OK_HELLO};
    static const struct answer dies_in_body[] = {SAY(CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), OK_HELLO};
    (void)state;

    check_resend(dies_new, 2, false, &get, FETCH_OK, 2, 2, 1);
    check_resend(dies_reset, 2, false, &get, FETCH_OK, 2, 2, 1);
    check_resend(dies_reused, 3, true, &get, FETCH_OK, 2, 2, 1);
    check_resend(dies_reused_reset, 3, true, &get, FETCH_OK, 2, 1,
                 1); /* a reset does not tell whether it had arrived */
    check_resend(dies_twice, 3, false, &get, FETCH_RESET, 2, 2, 0);
    check_resend(dies_reused_twice, 4, true, &get, FETCH_RESET, 2, 2, 0);
    check_resend(dies_in_head, 2, false, &get, FETCH_RESET, 1, 1, 0);
    check_resend(dies_reused_in_head, 3, true, &get, FETCH_RESET, 1, 1, 0);
    check_resend(dies_in_body, 2, false, &get, FETCH_TRUNCATED, 1, 1, 1);
}

static void an_unsafe_request_is_never_sent_again(void **state)
{
    static const struct answer dies_new[] = {{NULL, 0, CLOSE}, OK_HELLO};
    static const struct answer dies_reused[] = {OK_HELLO, {NULL, 0, CLOSE}, OK_HELLO};
    static const struct answer dies_reset[] = {OK_HELLO, {NULL, 0, RESET}, OK_HELLO};
    (void)state;

    check_resend(dies_new, 2, false, &post, FETCH_RESET, 1, 1, 0);
    check_resend(dies_reused, 3, true, &post, FETCH_RESET, 1, 1, 0);
    check_resend(dies_reset, 3, true, &post, FETCH_RESET, 1, 1, 0);
}

/* Three idle connections, all of which die when they are used: libcurl by itself would go through them. */
static void check_dead_kept(struct origin *o, enum fetch_end end)
{
    struct client c;
    struct got g[3] = {{0}};

    origin_hold(o, 3);
    client_open(&c, o);
    for (int i = 0; i < 3; i++)
        fetch(&c, &g[i], &get);
    run(&c);
    assert_int_equal(COUNT(o, accepted), 3);
    got_free(&g[0]);
    fetch(&c, &g[0], &get);
    run(&c);
    assert_int_equal(g[0].end, end);
    assert_int_equal(g[0].sent, 2);
    assert_int_equal(COUNT(o, nrequests), 5);
    assert_int_equal(COUNT(o, accepted), 4);
    client_fini(&c);
    origin_stop(o);
    for (int i = 0; i < 3; i++)
        got_free(&g[i]);
}

static void libcurls_own_retries_count_too(void **state)
{
    (void)state;
    check_dead_kept(ORIGIN(OK_HELLO, OK_HELLO, OK_HELLO, {NULL, 0, CLOSE}, {NULL, 0, CLOSE}, OK_HELLO), FETCH_RESET);
}

static void after_a_dead_connection_comes_a_new_one(void **state)
{
    (void)state;
    check_dead_kept(ORIGIN(OK_HELLO, OK_HELLO, OK_HELLO, {NULL, 0, CLOSE}, OK_HELLO), FETCH_OK);
}

static void an_unsafe_request_goes_out_on_a_connection_of_its_own(void **state)
{
    struct origin *o = ORIGIN(OK_HELLO);
    struct client c;
    struct got g = {0};
    (void)state;

    client_open(&c, o);
    get_hello(&c, 1);
    fetch(&c, &g, &post);
    run(&c);
    assert_hello(&g);
    assert_int_equal(COUNT(o, accepted), 2);
    get_hello(&c, 1); /* and later ones may use it */
    get_hello(&c, 1);
    assert_int_equal(COUNT(o, accepted), 2);
    client_fini(&c);
    origin_stop(o);
    got_free(&g);
}

/* Servers */

static void add_refusing(struct client *c, uint16_t port)
{
    c->servers[c->conf.nservers++] =
        (struct conf_server){.url = "refuses", .host = "127.0.0.1", .port = port, .weight = 1};
}

static void a_server_that_refuses_is_passed_over_for_another(void **state)
{
    struct origin *o = ORIGIN(OK_HELLO);
    struct client c;
    uint16_t port;
    int fd = refusing_port(&port);
    struct got g = {0};
    struct backend_figures figures;
    (void)state;

    client_init(&c);
    add_refusing(&c, port);
    client_apply(&c);
    fetch(&c, &g, &get);
    run(&c);
    assert_int_equal(g.end, FETCH_CONNECT);
    assert_int_equal(g.sent, 0);
    backend_figures(c.backend, &figures);
    assert_int_equal(figures.requests, 0);
    assert_int_equal(figures.failures, 1);
    assert_int_equal(figures.in_flight, 0);
    got_free(&g);

    client_serve_by(&c, o);
    client_apply(&c);
    for (int i = 0; i < 10; i++) {
        fetch(&c, &g, i % 2 ? &post : &get);
        run(&c);
        assert_hello(&g);
        assert_int_equal(g.sent, 1);
        got_free(&g);
    }
    backend_figures(c.backend, &figures);
    assert_int_equal(figures.requests, 10);
    assert_int_equal(figures.failures, 1);
    assert_string_equal(figures.name, "b");
    client_fini(&c);
    origin_stop(o);
    close(fd);
}

static void requests_are_shared_out_to_the_servers(void **state)
{
    struct origin *a = ORIGIN(OK_HELLO), *b = ORIGIN(OK_HELLO);
    struct client c;
    (void)state;

    client_init(&c);
    client_serve_by(&c, a);
    client_serve_by(&c, b);
    c.servers[0].weight = 3;
    client_apply(&c);
    for (int i = 0; i < 40; i++)
        get_hello(&c, 1);
    assert_int_equal(COUNT(a, nrequests), 30);
    assert_int_equal(COUNT(b, nrequests), 10);
    client_fini(&c);
    origin_stop(a);
    origin_stop(b);
}

static void servers_may_be_unix_ipv6_or_named(void **state)
{
    static const struct answer hello[] = {OK_HELLO};
    struct origin *u = origin_start_as(AF_UNIX, hello, 1, NULL), *v6 = origin_start_as(AF_INET6, hello, 1, NULL);
    struct origin *named = origin_start(hello, 1);
    struct origin *all[] = {u, v6, named};
    (void)state;

    for (int i = 0; i < 3; i++) {
        struct client c;
        client_init(&c);
        client_serve_by(&c, all[i]);
        if (all[i] == named)
            c.servers[0].host = "localhost";
        client_apply(&c);
        get_hello(&c, 1);
        get_hello(&c, 1);
        assert_int_equal(COUNT(all[i], accepted), 1);
        client_fini(&c);
        origin_stop(all[i]);
    }
}

static void a_name_that_is_not_found_is_a_failed_connect(void **state)
{
    struct client c;
    struct got g = {0};
    (void)state;

    client_init(&c);
    c.servers[c.conf.nservers++] = (struct conf_server){.url = "x", .host = "no-such-host.invalid", .weight = 1};
    client_apply(&c);
    fetch(&c, &g, &get);
    run(&c);
    assert_int_equal(g.end, FETCH_CONNECT);
    client_fini(&c);
}

static void a_reload_replaces_servers_and_changes_limits(void **state)
{
    struct origin *a = ORIGIN(OK_HELLO), *b = ORIGIN(OK_HELLO);
    struct client c;
    struct got g = {0}, h = {0};
    (void)state;

    origin_hold(a, 3);
    client_init(&c);
    client_serve_by(&c, a);
    c.conf.max_connections = 1;
    client_apply(&c);
    fetch(&c, &g, &get);
    RUN_UNTIL(&c, a, nrequests, 1);
    fetch(&c, &h, &get); /* in line */
    loop_run(c.loop, 0);
    assert_int_equal(COUNT(a, nrequests), 1);
    c.conf.max_connections = 2; /* lets it through at once */
    client_apply(&c);
    RUN_UNTIL(&c, a, nrequests, 2);

    c.conf.nservers = 0;
    client_serve_by(&c, b);
    client_apply(&c);
    get_hello(&c, 1);
    assert_int_equal(COUNT(b, nrequests), 1);
    origin_hold(a, 0);
    run(&c);
    assert_hello(&g);
    assert_hello(&h);
    RUN_UNTIL(&c, a, closed, 2);
    client_fini(&c);
    origin_stop(a);
    origin_stop(b);
    got_free(&g);
    got_free(&h);
}

/* Timeouts */

static void check_timeout(struct client *c, struct got *g, int64_t at_least_ms)
{
    int64_t begin = now_ms();
    fetch(c, g, &get);
    run(c);
    assert_int_equal(g->end, FETCH_TIMEOUT);
    assert_true(g->done_ms - begin >= at_least_ms - 1);
    assert_true(g->done_ms - begin < at_least_ms + 2000);
}

static void the_first_byte_the_next_and_the_whole_have_their_times(void **state)
{
    struct origin *o = ORIGIN(SAY(HOLD, ""), SAY(HOLD, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhe"),
                              SAY(HOLD, "HTTP/1.1 100 Continue\r\n\r\n"), SAY(HOLD, ""));
    struct client c;
    struct got g = {0};
    (void)state;

    client_init(&c);
    client_serve_by(&c, o);
    c.conf.first_byte_ms = 80;
    c.conf.idle_ms = 120;
    client_apply(&c);
    check_timeout(&c, &g, 80);
    assert_int_equal(g.heads, 0);
    got_free(&g);
    check_timeout(&c, &g, 120);
    assert_int_equal(g.n, 2);
    got_free(&g);
    check_timeout(&c, &g, 80);
    assert_int_equal(g.heads, 0);
    got_free(&g);
    c.conf.first_byte_ms = 5000;
    c.conf.total_ms = 90;
    client_apply(&c);
    check_timeout(&c, &g, 90);
    got_free(&g);
    client_fini(&c);
    origin_stop(o);
}

/* Method: a listener whose queue is full neither refuses nor accepts. */
static void a_connect_that_takes_too_long_is_a_timeout(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int listener = socket(AF_INET, SOCK_STREAM, 0), fill[8];
    struct client c;
    struct got g = {0};
    struct origin *o = ORIGIN(OK_HELLO);
    (void)state;

    assert_int_equal(bind(listener, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(listener, 0), 0);
    getsockname(listener, (struct sockaddr *)&a, &n);
    for (int i = 0; i < 8; i++) {
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fill[i], (struct sockaddr *)&a, sizeof(a));
    }
    client_init(&c);
    c.conf.connect_ms = 100;
    add_refusing(&c, ntohs(a.sin_port));
    client_apply(&c);
    check_timeout(&c, &g, 100);
    assert_int_equal(g.sent, 0);
    got_free(&g);
    client_serve_by(&c, o); /* with another server there it is tried, once */
    client_apply(&c);
    get_hello(&c, 1);
    client_fini(&c);
    origin_stop(o);
    for (int i = 0; i < 8; i++)
        close(fill[i]);
    close(listener);
}

/* Pauses */

static struct answer big_answer(size_t n)
{
    char *text = malloc(n + 200);
    int head_n = sprintf(text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
    for (size_t i = 0; i < n; i++)
        text[(size_t)head_n + i] = (char)(i * 31 + i / 251);
    return (struct answer){text, (size_t)head_n + n, KEEP};
}

static void assert_big(const struct got *g, size_t n)
{
    assert_int_equal(g->end, FETCH_OK);
    assert_int_equal(g->n, n);
    for (size_t i = 0; i < n; i++)
        if (g->body[i] != (char)(i * 31 + i / 251))
            fail_msg("byte %zu differs", i);
}

static void a_piece_that_is_not_taken_comes_again(void **state)
{
    enum { N = 3 << 20 };
    struct answer answer = big_answer(N);
    struct origin *o = origin_start(&answer, 1);
    struct client c;
    struct got g = {.pause_every = 2};
    (void)state;

    client_open(&c, o);
    fetch(&c, &g, &get);
    while (c.running > 0) {
        unsigned paused = g.paused;
        loop_run(c.loop, 1);
        if (g.paused != paused && c.running > 0)
            fetch_resume(g.fetch);
    }
    assert_true(g.paused > 100);
    assert_big(&g, N);
    got_free(&g);
    fetch(&c, &g, &get);
    run(&c);
    assert_big(&g, N);
    assert_int_equal(COUNT(o, accepted), 1);
    client_fini(&c);
    origin_stop(o);
    got_free(&g);
    free((char *)answer.text);
}

static void a_pause_is_not_idle_time_and_costs_no_turns(void **state)
{
    enum { N = 8 << 20 };
    struct answer answer = big_answer(N);
    struct origin *o = origin_start(&answer, 1);
    struct client c;
    struct got g = {.pause_every = 1000000};
    unsigned turns = 0;
    (void)state;

    client_init(&c);
    client_serve_by(&c, o);
    c.conf.idle_ms = 50;
    client_apply(&c);
    fetch(&c, &g, &get);
    while (g.paused == 0)
        loop_run(c.loop, 100);
    for (int64_t begin = now_ms(); now_ms() - begin < 300; turns++)
        loop_run(c.loop, 100);
    assert_true(turns < 20);
    assert_int_equal(g.done, 0);
    fetch_resume(g.fetch);
    run(&c);
    assert_big(&g, N);
    client_fini(&c);
    origin_stop(o);
    got_free(&g);
    free((char *)answer.text);
}

/* Cancelled */

static void a_fetch_may_be_cancelled_in_each_of_its_callbacks(void **state)
{
    enum { N = 1 << 20 };
    struct answer answer = big_answer(N);
    struct origin *o = origin_start(&answer, 1);
    struct client c;
    struct got g = {0};
    (void)state;

    client_open(&c, o);
    for (int i = 0; i < 4; i++) {
        g.cancel_in_head = i == 0;
        g.cancel_in_body = i == 1;
        g.cancel_in_sent = i == 2;
        if (i == 3)
            g.pause_every = 1;
        fetch(&c, &g, &get);
        while (i == 3 && g.paused == 0)
            loop_run(c.loop, 10);
        if (i == 3)
            cancel(&g);
        run(&c);
        assert_int_equal(g.done, 0);
        got_free(&g);
    }
    struct backend_figures figures;
    loop_run(c.loop, 0);
    backend_figures(c.backend, &figures);
    assert_int_equal(figures.in_flight, 0);
    assert_int_equal(figures.failures, 0);
    RUN_UNTIL(&c, o, closed, COUNT(o, accepted)); /* unfinished: closed */
    fetch(&c, &g, &get);
    run(&c);
    assert_big(&g, N);
    client_fini(&c);
    origin_stop(o);
    got_free(&g);
    free((char *)answer.text);
}

static void a_fetch_may_be_cancelled_in_an_interim_response(void **state)
{
    struct origin *o = ORIGIN(SAY(KEEP, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
                                        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
                              OK_HELLO);
    struct client c;
    struct got g = {.cancel_in_interim = true};
    (void)state;

    client_open(&c, o);
    fetch(&c, &g, &get);
    run(&c);
    assert_int_equal(g.interims, 1);
    assert_int_equal(g.heads + g.done, 0);
    RUN_UNTIL(&c, o, closed, 1);
    got_free(&g);
    fetch(&c, &g, &get);
    run(&c);
    assert_hello(&g);
    assert_int_equal(g.interims, 0);
    client_fini(&c);
    origin_stop(o);
    got_free(&g);
}

static void a_fetch_may_be_cancelled_from_outside_at_any_time(void **state)
{
    struct origin *o = ORIGIN(OK_HELLO);
    struct client c;
    struct got g = {0};
    (void)state;

    client_open(&c, o);
    for (int turns = 0; turns < 6; turns++) {
        for (int i = 0; i < 50; i++) {
            g.client = &c;
            fetch(&c, &g, i % 2 ? &post : &get);
            for (int t = 0; t < turns && c.running > 0; t++)
                loop_run(c.loop, 0);
            if (c.running > 0)
                cancel(&g);
            got_free(&g);
        }
    }
    get_hello(&c, 1);
    client_fini(&c);
    origin_stop(o);
}

static void fetches_may_cancel_and_start_others(void **state)
{
    struct origin *o = ORIGIN(OK_HELLO);
    struct client c;
    struct got a = {0}, b = {0}, d = {0};
    (void)state;

    client_open(&c, o);
    for (int i = 0; i < 50; i++) {
        if (i % 2)
            a.cancel_other_in_head = &b;
        else
            a.cancel_when_done = &b;
        b.cancel_other_in_head = &a;
        d.start_in_done = true;
        fetch(&c, &a, &get);
        fetch(&c, &b, &get);
        fetch(&c, &d, &get);
        run(&c);
        assert_true(a.done + b.done >= 1);
        assert_int_equal(d.done, 2);
        got_free(&a);
        got_free(&b);
        got_free(&d);
    }
    client_fini(&c);
    origin_stop(o);
}

static void what_is_in_flight_is_cancelled_when_the_upstream_goes(void **state)
{
    struct origin *o = ORIGIN(SAY(HOLD, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"));
    struct client c;
    struct got g[8] = {0};
    (void)state;

    client_init(&c);
    client_serve_by(&c, o);
    c.conf.max_connections = 2;
    client_apply(&c);
    for (int i = 0; i < 7; i++)
        fetch(&c, &g[i], &get);
    RUN_UNTIL(&c, o, nrequests, 2);
    cancel(&g[0]);          /* a slot passes on; its message is under way */
    fetch(&c, &g[7], &get); /* in line */
    client_fini(&c);
    for (int i = 0; i < 8; i++)
        assert_int_equal(g[i].done, 0);
    origin_stop(o);
}

/* The line */

static void who_finds_no_slot_waits_in_a_line_of_bounded_length_and_time(void **state)
{
    struct origin *o = ORIGIN(SAY(HOLD, ""));
    struct client c;
    struct got g[5] = {0};
    struct backend_figures figures;
    int64_t begin;
    (void)state;

    client_init(&c);
    client_serve_by(&c, o);
    c.conf.max_connections = 1;
    c.conf.queue_size = 2;
    c.conf.queue_timeout_ms = 100;
    client_apply(&c);
    begin = now_ms();
    for (int i = 0; i < 4; i++)
        fetch(&c, &g[i], &get);
    backend_figures(c.backend, &figures);
    assert_int_equal(figures.in_flight, 1);
    assert_int_equal(figures.queued, 2);
    loop_run(c.loop, 0);
    assert_int_equal(g[3].done, 1);
    assert_int_equal(g[3].end, FETCH_QUEUE_FULL);
    cancel(&g[1]); /* leaves room for one */
    fetch(&c, &g[4], &get);
    while (g[4].done == 0)
        loop_run(c.loop, 100);
    assert_int_equal(g[2].end, FETCH_QUEUE_TIMEOUT);
    assert_int_equal(g[4].end, FETCH_QUEUE_TIMEOUT);
    assert_true(g[2].done_ms - begin >= 100);
    assert_true(g[2].done_ms - begin < 2000);
    assert_int_equal(g[0].done, 0);
    backend_figures(c.backend, &figures);
    assert_int_equal(figures.queued, 0);
    client_fini(&c);
    origin_stop(o);
}

static void the_line_is_served_first_come_first_served(void **state)
{
    struct origin *o = ORIGIN(OK_HELLO);
    struct client c;
    struct got g[10] = {0};
    char target[10][16];
    struct fetch_request r[10];
    (void)state;

    client_init(&c);
    client_serve_by(&c, o);
    c.conf.max_connections = 1;
    client_apply(&c);
    for (int i = 0; i < 10; i++) {
        snprintf(target[i], sizeof(target[i]), "/%d", i);
        r[i] = get;
        r[i].target = bytes_of(target[i]);
        fetch(&c, &g[i], &r[i]);
    }
    run(&c);
    for (int i = 0; i < 10; i++) {
        assert_hello(&g[i]);
        assert_int_equal(request_of(o, i)[5], '0' + i);
        got_free(&g[i]);
    }
    assert_int_equal(COUNT(o, accepted), 1);
    client_fini(&c);
    origin_stop(o);
}

/* Many threads, few connections: the origin never sees more than max_connections open. */

enum { THREADS = 3, EACH = 400, AT_ONCE = 6 };

struct crowd {
    pthread_t thread;
    struct backends *all;
    struct backend *backend;
    unsigned left, ok;
    bool posts;
};

struct crowd_thread {
    struct client client;
    struct crowd *crowd;
};

static void on_crowd_head(struct fetch *f, void *data, int status, struct fields fields, int64_t content_length)
{
    (void)f, (void)data, (void)fields, (void)content_length;
    assert_int_equal(status, 200);
}

static bool on_crowd_body(struct fetch *f, void *data, struct bytes piece)
{
    (void)f, (void)data, (void)piece;
    return true;
}

static void crowd_fetch(struct crowd_thread *t);

static void on_crowd_done(struct fetch *f, void *data, enum fetch_end end)
{
    struct crowd_thread *t = data;
    (void)f;
    t->client.running--;
    t->crowd->ok += end == FETCH_OK;
    if (end != FETCH_OK)
        print_error("ended as %s\n", fetch_end_word(end));
    if (t->crowd->left > 0)
        crowd_fetch(t);
}

static void crowd_fetch(struct crowd_thread *t)
{
    static const struct fetch_callbacks cb = {.head = on_crowd_head, .body = on_crowd_body, .done = on_crowd_done};
    struct fetch_request r = t->crowd->posts && t->crowd->left % 3 == 0 ? post : get;
    r.backend = t->crowd->backend;
    t->crowd->left--;
    t->client.running++;
    fetch_start(t->client.up, &r, &cb, t);
}

static void *crowd_run(void *arg)
{
    struct crowd_thread t = {.crowd = arg};
    t.client.loop = loop_create();
    t.client.up = upstream_create(t.client.loop, t.crowd->all, NULL);
    for (int i = 0; i < AT_ONCE; i++)
        crowd_fetch(&t);
    while (t.client.running > 0)
        loop_run(t.client.loop, 100);
    upstream_destroy(t.client.up);
    loop_destroy(t.client.loop);
    return NULL;
}

static void check_crowd(unsigned max_connections, bool posts)
{
    struct origin *o = ORIGIN(OK_HELLO);
    struct crowd crowd[THREADS];
    struct client c;
    struct backend_figures figures;

    client_init(&c);
    client_serve_by(&c, o);
    c.conf.max_connections = max_connections;
    c.conf.queue_size = 1000;
    c.conf.queue_timeout_ms = 20000;
    client_apply(&c);
    for (int i = 0; i < THREADS; i++) {
        crowd[i] = (struct crowd){.all = c.all, .backend = c.backend, .left = EACH, .posts = posts};
        pthread_create(&crowd[i].thread, NULL, crowd_run, &crowd[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(crowd[i].thread, NULL);
        assert_int_equal(crowd[i].ok, EACH);
    }
    assert_in_range(COUNT(o, open_max), 1, max_connections);
    backend_figures(c.backend, &figures);
    assert_int_equal(figures.in_flight, 0);
    assert_int_equal(figures.queued, 0);
    assert_int_equal(figures.failures, 0);
    assert_int_equal(figures.requests, COUNT(o, nrequests));
    client_fini(&c);
    origin_stop(o);
}

static void the_origin_sees_no_more_connections_than_allowed(void **state)
{
    (void)state;
    check_crowd(1, false);
    check_crowd(4, false);
    check_crowd(4, true);
    check_crowd(100, true);
}

/* TLS */

struct identity {
    SSL_CTX *ctx;
    char ca_file[64];
};

static void identity_create(struct identity *id, const char *names, int max_version)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    X509V3_CTX v3;

    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), (long)(intptr_t)id & 0xffff);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"origin", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509V3_set_ctx(&v3, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, &v3, NID_subject_alt_name, names);
    X509_add_ext(cert, san, -1);
    X509_EXTENSION_free(san);
    X509_sign(cert, key, EVP_sha256());

    snprintf(id->ca_file, sizeof(id->ca_file), "/tmp/weir-ca-%d-%p.pem", (int)getpid(), (void *)id);
    FILE *f = fopen(id->ca_file, "w");
    assert_non_null(f);
    PEM_write_X509(f, cert);
    fclose(f);
    id->ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(id->ctx, cert);
    SSL_CTX_use_PrivateKey(id->ctx, key);
    SSL_CTX_set_cipher_list(id->ctx, "ALL:@SECLEVEL=0");
    SSL_CTX_set_max_proto_version(id->ctx, max_version);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void identity_destroy(struct identity *id)
{
    SSL_CTX_free(id->ctx);
    unlink(id->ca_file);
}

struct tls_case {
    const char *name, *names, *host, *server_name;
    bool trusted, verify;
    int max_version;
    enum fetch_end end;
    const char *sni;
};

static void check_tls(const struct tls_case *t)
{
    static const struct answer hello[] = {OK_HELLO};
    struct identity id;
    struct client c;
    struct got g = {0};

    identity_create(&id, t->names, t->max_version);
    struct origin *o = origin_start_as(AF_INET, hello, 1, id.ctx);
    client_init(&c);
    client_serve_by(&c, o);
    c.servers[0].host = t->host;
    c.servers[0].tls_server_name = t->server_name;
    c.servers[0].tls_ca_file = t->trusted ? id.ca_file : NULL;
    c.servers[0].tls_verify = t->verify;
    client_apply(&c);
    for (int i = 0; i < 2; i++) {
        fetch(&c, &g, &get);
        run(&c);
        if (g.end != t->end)
            fail_msg("%s: ended as %s", t->name, fetch_end_word(g.end));
        got_free(&g);
    }
    if (t->end == FETCH_OK) {
        assert_int_equal(COUNT(o, accepted), 1);
        assert_string_equal(o->sni, t->sni);
        assert_string_equal(request_of(o, 0), "GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
    } else {
        assert_int_equal(COUNT(o, nrequests), 0);
    }
    client_fini(&c);
    origin_stop(o);
    identity_destroy(&id);
}

static void tls_origins_must_prove_who_they_are(void **state)
{
    static const struct tls_case cases[] = {
        {"trusted", "DNS:localhost", "localhost", NULL, true, true, TLS1_3_VERSION, FETCH_OK, "localhost"},
        {"TLS 1.2", "DNS:localhost", "localhost", NULL, true, true, TLS1_2_VERSION, FETCH_OK, "localhost"},
        {"TLS 1.1", "DNS:localhost", "localhost", NULL, true, true, TLS1_1_VERSION, FETCH_CONNECT, ""},
        {"by address", "IP:127.0.0.1", "127.0.0.1", NULL, true, true, TLS1_3_VERSION, FETCH_OK, ""},
        {"not trusted", "DNS:localhost", "localhost", NULL, false, true, TLS1_3_VERSION, FETCH_CONNECT, ""},
        {"another name", "DNS:other", "localhost", NULL, true, true, TLS1_3_VERSION, FETCH_CONNECT, ""},
        {"another name, 1.2", "DNS:other", "localhost", NULL, true, true, TLS1_2_VERSION, FETCH_CONNECT, ""},
        {"another address", "IP:127.0.0.2", "127.0.0.1", NULL, true, true, TLS1_3_VERSION, FETCH_CONNECT, ""},
        {"server_name", "DNS:api.example", "127.0.0.1", "api.example", true, true, TLS1_3_VERSION, FETCH_OK,
         "api.example"},
        {"server_name does not fit", "IP:127.0.0.1", "127.0.0.1", "api.example", true, true, TLS1_3_VERSION,
         FETCH_CONNECT, ""},
        {"not verified", "DNS:other", "localhost", NULL, false, false, TLS1_3_VERSION, FETCH_OK, "localhost"},
        {"not verified, server_name", "DNS:other", "127.0.0.1", "api.example", false, false, TLS1_3_VERSION, FETCH_OK,
         "api.example"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        check_tls(&cases[i]);
}

/* In a turn no more comes than a quarter of a MiB and what libcurl has read already, however much the origin has; also
 * where that is just the end. */
static void a_large_body_leaves_turns_to_others(void **state)
{
    enum { PIECE = 256 << 10, TURN_MAX = PIECE + (64 << 10) };
    static const size_t sizes[] = {PIECE - 1, PIECE, PIECE + 1, 300000, 4 * PIECE, 8 << 20};
    (void)state;

    for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(*sizes); i++) {
        struct answer answer = big_answer(sizes[i / 2]);
        struct identity id;
        struct client c;
        struct got g = {0};

        identity_create(&id, "DNS:localhost", TLS1_3_VERSION);
        struct origin *o = origin_start_as(AF_INET, &answer, 1, i % 2 == 1 ? id.ctx : NULL);
        client_init(&c);
        client_serve_by(&c, o);
        c.servers[0].tls_verify = false;
        c.conf.idle_ms = 2000;
        client_apply(&c);
        fetch(&c, &g, &get);
        while (c.running > 0) {
            size_t before = g.n;

            loop_run(c.loop, 100);
            assert_true(g.n - before <= TURN_MAX);
            assert_int_equal(g.done, g.n == sizes[i / 2]); /* whoever has all of it may ask again at once */
        }
        assert_big(&g, sizes[i / 2]);
        client_fini(&c);
        origin_stop(o);
        identity_destroy(&id);
        got_free(&g);
        free((char *)answer.text);
    }
}

static void plain_http_is_not_taken_for_tls(void **state)
{
    struct origin *o = ORIGIN(OK_HELLO);
    struct client c;
    struct got g = {0};
    (void)state;

    client_init(&c);
    client_serve_by(&c, o);
    c.servers[0].https = true;
    c.servers[0].tls_verify = false;
    c.conf.connect_ms = 300; /* the origin waits for the end of what it takes for a request */
    client_apply(&c);
    fetch(&c, &g, &get);
    run(&c);
    assert_true(g.end == FETCH_CONNECT || g.end == FETCH_TIMEOUT);
    assert_int_equal(g.sent, 0);
    client_fini(&c);
    origin_stop(o);
}

/* A TLS connection that ends without close_notify may have been cut by anyone (RFC 9112 section 9.8). That matters
 * where nothing else tells the end. */
static void a_tls_body_until_the_close_needs_close_notify(void **state)
{
    static const struct answer open_end[] = {SAY(CLOSE, "HTTP/1.1 200 OK\r\n\r\nhello")};
    static const struct answer length[] = {SAY(CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")};
    static const struct {
        int version;
        bool notify;
        const struct answer *answer;
        enum fetch_end end;
    } cases[] = {
        {TLS1_3_VERSION, false, open_end, FETCH_TRUNCATED}, {TLS1_2_VERSION, false, open_end, FETCH_TRUNCATED},
        {TLS1_3_VERSION, true, open_end, FETCH_OK},         {TLS1_2_VERSION, true, open_end, FETCH_OK},
        {TLS1_3_VERSION, false, length, FETCH_OK},          {TLS1_2_VERSION, true, length, FETCH_OK},
    };
    (void)state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct identity id;
        struct client c;
        struct got g = {0};

        identity_create(&id, "DNS:localhost", cases[i].version);
        struct origin *o = origin_start_as(AF_INET, cases[i].answer, 1, id.ctx);
        SSL_CTX_set_quiet_shutdown(id.ctx, !cases[i].notify);
        client_init(&c);
        client_serve_by(&c, o);
        c.servers[0].tls_verify = false;
        client_apply(&c);
        fetch(&c, &g, &get);
        run(&c);
        assert_int_equal(g.end, cases[i].end);
        assert_int_equal(g.n, 5);
        client_fini(&c);
        origin_stop(o);
        identity_destroy(&id);
        got_free(&g);
    }
}

static void each_end_has_a_word(void **state)
{
    (void)state;
    for (int i = FETCH_OK; i <= FETCH_TIMEOUT; i++)
        assert_string_not_equal(fetch_end_word((enum fetch_end)i), "unknown");
    assert_string_equal(fetch_end_word((enum fetch_end)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_get_goes_out_as_given_and_its_answer_comes_back),
        cmocka_unit_test(methods_and_bodies_go_out_as_given),
        cmocka_unit_test(the_environment_does_not_matter),
        cmocka_unit_test(answers_without_a_body_end_at_their_head),
        cmocka_unit_test(interim_responses_are_told_apart_from_the_answer_and_trailers_passed_over),
        cmocka_unit_test(a_message_cut_short_is_never_ok),
        cmocka_unit_test(an_answer_that_ends_in_its_head_is_a_reset),
        cmocka_unit_test(answers_that_could_be_read_in_two_ways_are_refused),
        cmocka_unit_test(a_head_may_have_64_kib_and_not_one_byte_more),
        cmocka_unit_test(interim_responses_count_for_the_64_kib),
        cmocka_unit_test(a_connection_is_used_again),
        cmocka_unit_test(bytes_that_belong_to_no_answer_are_not_the_next_one),
        cmocka_unit_test(bytes_on_an_idle_connection_end_it),
        cmocka_unit_test(an_idle_connection_is_closed_after_keepalive),
        cmocka_unit_test(a_safe_request_is_sent_again_once_if_nothing_of_an_answer_came),
        cmocka_unit_test(an_unsafe_request_is_never_sent_again),
        cmocka_unit_test(libcurls_own_retries_count_too),
        cmocka_unit_test(after_a_dead_connection_comes_a_new_one),
        cmocka_unit_test(an_unsafe_request_goes_out_on_a_connection_of_its_own),
        cmocka_unit_test(a_server_that_refuses_is_passed_over_for_another),
        cmocka_unit_test(requests_are_shared_out_to_the_servers),
        cmocka_unit_test(servers_may_be_unix_ipv6_or_named),
        cmocka_unit_test(a_name_that_is_not_found_is_a_failed_connect),
        cmocka_unit_test(a_reload_replaces_servers_and_changes_limits),
        cmocka_unit_test(the_first_byte_the_next_and_the_whole_have_their_times),
        cmocka_unit_test(a_connect_that_takes_too_long_is_a_timeout),
        cmocka_unit_test(a_piece_that_is_not_taken_comes_again),
        cmocka_unit_test(a_pause_is_not_idle_time_and_costs_no_turns),
        cmocka_unit_test(a_fetch_may_be_cancelled_in_each_of_its_callbacks),
        cmocka_unit_test(a_fetch_may_be_cancelled_in_an_interim_response),
        cmocka_unit_test(a_fetch_may_be_cancelled_from_outside_at_any_time),
        cmocka_unit_test(fetches_may_cancel_and_start_others),
        cmocka_unit_test(what_is_in_flight_is_cancelled_when_the_upstream_goes),
        cmocka_unit_test(who_finds_no_slot_waits_in_a_line_of_bounded_length_and_time),
        cmocka_unit_test(the_line_is_served_first_come_first_served),
        cmocka_unit_test(the_origin_sees_no_more_connections_than_allowed),
        cmocka_unit_test(tls_origins_must_prove_who_they_are),
        cmocka_unit_test(a_large_body_leaves_turns_to_others),
        cmocka_unit_test(plain_http_is_not_taken_for_tls),
        cmocka_unit_test(a_tls_body_until_the_close_needs_close_notify),
        cmocka_unit_test(each_end_has_a_word),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
