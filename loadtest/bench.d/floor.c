/*
 * The floor of the bench: libh2o's event loop with a handler that does nothing but send a response made beforehand.
 * What is built on libh2o cannot cost less per hit, short of a change to libh2o.
 *
 *   floor THREADS PORT TLSPORT CERTIFICATE KEY
 *
 * Any path /obj/SIZE/NAME with a SIZE of 1024, 16384 or 102400 has the same document of that size, whatever the NAME.
 * If-None-Match is answered 304, whatever is in it. PORT speaks HTTP/1.1 and HTTP/2 by prior knowledge, TLSPORT both by
 * ALPN.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <h2o.h>
#include <h2o/http1.h>
#include <h2o/http2.h>

#define BACKLOG 4096
#define THREADS_MAX 64
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* As many fields, and as long, as what a cache says of what it has stored. */
static h2o_header_t fields[] = {
    {&H2O_TOKEN_CONTENT_TYPE->buf, NULL, {H2O_STRLIT("application/json")}},
    {&H2O_TOKEN_CACHE_CONTROL->buf, NULL, {H2O_STRLIT("max-age=3600")}},
    {&H2O_TOKEN_LAST_MODIFIED->buf, NULL, {H2O_STRLIT("Fri, 20 Nov 2020 10:00:00 GMT")}},
    {&H2O_TOKEN_ETAG->buf, NULL, {H2O_STRLIT("\"v1-1024\"")}},
    {&H2O_TOKEN_AGE->buf, NULL, {H2O_STRLIT("42")}},
};

static h2o_iovec_t documents[] = {{NULL, 1024}, {NULL, 16384}, {NULL, 102400}};

static struct {
    int port, tls_port;
    const char *certificate, *key;
} options;

static h2o_globalconf_t config;
static pthread_barrier_t all_set_up;

static h2o_iovec_t *document_at(h2o_iovec_t path)
{
    static const char prefix[] = "/obj/";
    unsigned long size;
    size_t i;

    if (path.len < sizeof(prefix) || memcmp(path.base, prefix, sizeof(prefix) - 1) != 0) {
        return NULL;
    }
    size = strtoul(path.base + sizeof(prefix) - 1, NULL, 10);
    for (i = 0; i < COUNT(documents); i++) {
        if (documents[i].len == size) {
            return &documents[i];
        }
    }
    return NULL;
}

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    static h2o_generator_t generator;
    h2o_iovec_t *document = document_at(req->path);

    (void)self;
    if (document == NULL) {
        return -1;
    }
    req->res.headers = (h2o_headers_t){.entries = fields, .size = COUNT(fields), .capacity = COUNT(fields)};
    if (h2o_find_header(&req->headers, H2O_TOKEN_IF_NONE_MATCH, -1) != -1) {
        req->res.status = 304;
        req->res.reason = "Not Modified";
        h2o_start_response(req, &generator);
        h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
        return 0;
    }
    req->res.status = 200;
    req->res.reason = "OK";
    req->res.content_length = document->len;
    h2o_start_response(req, &generator);
    if (h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD"))) {
        h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
    } else {
        h2o_send(req, document, 1, H2O_SEND_STATE_FINAL);
    }
    return 0;
}

static void on_accept(h2o_socket_t *listener, const char *error)
{
    h2o_socket_t *accepted;

    while (error == NULL && (accepted = h2o_evloop_socket_accept(listener)) != NULL) {
        h2o_accept(listener->data, accepted);
    }
}

static void die(const char *what)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void listen_on(int port, h2o_accept_ctx_t *accepting)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    h2o_socket_t *listener;

    if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, BACKLOG) != 0) {
        die("listen");
    }
    listener = h2o_evloop_socket_create(accepting->ctx->loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    listener->data = accepting;
    h2o_socket_read_start(listener, on_accept);
}

static SSL_CTX *tls(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256");
    if (SSL_CTX_use_certificate_chain_file(ctx, options.certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, options.key, SSL_FILETYPE_PEM) != 1) {
        die("certificate and key");
    }
    h2o_ssl_register_alpn_protocols(ctx, h2o_http2_alpn_protocols);
    return ctx;
}

/* libh2o keeps free lists for each thread: what a thread uses, it makes. */
static void *serve(void *unused)
{
    h2o_context_t ctx;
    h2o_accept_ctx_t plain = {.ctx = &ctx, .hosts = config.hosts}, encrypted = plain;

    (void)unused;
    h2o_context_init(&ctx, h2o_evloop_create(), &config);
    encrypted.ssl_ctx = tls();
    listen_on(options.port, &plain);
    listen_on(options.tls_port, &encrypted);
    pthread_barrier_wait(&all_set_up);
    while (h2o_evloop_run(ctx.loop, INT32_MAX) == 0 || errno == EINTR) {
    }
    die("event loop");
    return NULL;
}

static void make_documents(void)
{
    size_t i;

    for (i = 0; i < COUNT(documents); i++) {
        documents[i].base = h2o_mem_alloc(documents[i].len);
        memset(documents[i].base, 'x', documents[i].len);
    }
}

int main(int argc, char **argv)
{
    h2o_hostconf_t *host;
    pthread_t thread;
    long threads, i;

    threads = argc == 6 ? strtol(argv[1], NULL, 10) : 0;
    if (threads < 1 || threads > THREADS_MAX) {
        fputs("usage: floor THREADS PORT TLSPORT CERTIFICATE KEY\n", stderr);
        return 2;
    }
    options.port = (int)strtol(argv[2], NULL, 10);
    options.tls_port = (int)strtol(argv[3], NULL, 10);
    options.certificate = argv[4];
    options.key = argv[5];
    signal(SIGPIPE, SIG_IGN);
    make_documents();

    h2o_config_init(&config);
    config.server_name = h2o_iovec_init(H2O_STRLIT("floor"));
    host = h2o_config_register_host(&config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_create_handler(h2o_config_register_path(host, "/", 0), sizeof(h2o_handler_t))->on_req = on_request;

    pthread_barrier_init(&all_set_up, NULL, (unsigned)threads);
    for (i = 1; i < threads; i++) {
        if (pthread_create(&thread, NULL, serve, NULL) != 0) {
            die("pthread_create");
        }
    }
    serve(NULL);
    return 1;
}
