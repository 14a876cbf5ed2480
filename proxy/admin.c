#include "proxy/admin.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <h2o.h>
#include <h2o/http1.h>
#include <jansson.h>
#include <netdb.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "conf/address.h"
#include "policies/groups.h"
#include "proxy/bind.h"
#include "proxy/explain.h"
#include "proxy/health.h"
#include "proxy/no_vary.h"
#include "proxy/redis_purge.h"
#include "proxy/respond.h"

enum {
    ACCEPTS_A_TURN = 16,
    BODY_MAX = 64 * 1024,
    PAUSE_MS = 100,      /* out of descriptors or memory */
    CLOSE_MAX_MS = 1000, /* for libh2o to close what was shut down */
};

struct admin {
    struct shared *shared;
    struct loop *loop;
    struct snapshot *snapshot;
    struct store_thread *store;
    h2o_globalconf_t globalconf;
    h2o_context_t ctx;
    h2o_accept_ctx_t accept;
    h2o_socket_t *listener;
    struct timer resume;
    /* of the listener */
    char *host; /* NULL: a unix socket */
    uint16_t port;
    struct unix_file unix_file;
    struct timer housekeeping;
};

enum { HOUSEKEEPING_MS = 250 };

/* What this thread has taken out of the store is given back when all others have moved on. */
static void keep_house(struct timer *t)
{
    struct admin *a = H2O_STRUCT_FROM_MEMBER(struct admin, housekeeping, t);

    store_thread_poll(a->store);
    timer_arm(a->loop, t, HOUSEKEEPING_MS);
}

/* --- answers --- */

static void answer(h2o_req_t *req, int status, const char *type, const char *body)
{
    static h2o_generator_t none;
    size_t n = strlen(body);
    h2o_iovec_t copy = h2o_strdup(&req->pool, body, n);
    bool head = h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD"));

    req->res.status = status;
    req->res.reason = status_reason(status);
    req->res.content_length = n;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, type, strlen(type));
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CACHE_CONTROL, NULL, H2O_STRLIT("no-store"));
    h2o_start_response(req, &none);
    h2o_send(req, &copy, head ? 0 : 1, H2O_SEND_STATE_FINAL);
}

static void send_json(h2o_req_t *req, int status, char *body)
{
    answer(req, status, "application/json", body);
    free(body);
}

static void send_problem(h2o_req_t *req, int status, const char *detail)
{
    json_t *problem = json_pack("{s:s, s:i, s:s}", "title", status_reason(status), "status", status, "detail", detail);
    char *text = json_dumps(problem, JSON_COMPACT);

    answer(req, status, "application/problem+json", text);
    free(text);
    json_decref(problem);
}

static void send_json_object(h2o_req_t *req, int status, json_t *object)
{
    /* digits enough for milliseconds, and not for what is behind them in a double */
    send_json(req, status, json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15)));
    json_decref(object);
}

/* --- who may --- */

static bool is_allowed(struct admin *a, h2o_req_t *req)
{
    const char *token = a->snapshot->conf->admin_token;
    ssize_t i = h2o_find_header(&req->headers, H2O_TOKEN_AUTHORIZATION, -1);

    if (token == NULL)
        return true;
    if (i == -1)
        return false;
    h2o_iovec_t value = req->headers.entries[i].value;
    size_t n = strlen(token);

    return value.len == n + 7 && h2o_lcstris(value.base, 7, H2O_STRLIT("bearer ")) &&
           CRYPTO_memcmp(value.base + 7, token, n) == 0;
}

/* A page in a browser must not purge or read by a name that was made to point here (DNS rebinding): with no token, the
 * Host has to be an address or localhost. */
static bool is_local_name(struct admin *a, h2o_req_t *req)
{
    unsigned char address[16];
    char host[256];
    h2o_iovec_t name;
    uint16_t port;

    if (a->snapshot->conf->admin_token != NULL || a->unix_file.path != NULL)
        return true;
    if (h2o_url_parse_hostport(req->authority.base, req->authority.len, &name, &port) == NULL ||
        name.len >= sizeof host)
        return false;
    snprintf(host, sizeof host, "%.*s", (int)name.len, name.base);
    return strcasecmp(host, "localhost") == 0 || inet_pton(AF_INET, host, address) == 1 ||
           inet_pton(AF_INET6, host, address) == 1 || h2o_memis(host, strlen(host), H2O_STRLIT("default"));
}

static bool field_is(h2o_req_t *req, const char *name, const char *a, const char *b)
{
    ssize_t i = h2o_find_header_by_str(&req->headers, name, strlen(name), -1);
    h2o_iovec_t value = i == -1 ? h2o_iovec_init(NULL, 0) : req->headers.entries[i].value;

    return h2o_memis(value.base, value.len, a, strlen(a)) || h2o_memis(value.base, value.len, b, strlen(b));
}

/* Any page may make a browser send a POST to an address that it can reach, in which the browser says so: with Origin,
 * and the newer ones with Sec-Fetch-Site. With no token that is all there is to tell it by. */
static bool is_from_a_page(struct admin *a, h2o_req_t *req)
{
    bool site = h2o_find_header_by_str(&req->headers, H2O_STRLIT("sec-fetch-site"), -1) != -1;

    if (a->snapshot->conf->admin_token != NULL)
        return false;
    return h2o_find_header_by_str(&req->headers, H2O_STRLIT("origin"), -1) != -1 ||
           (site && !field_is(req, "sec-fetch-site", "none", "same-origin"));
}

/* --- purge --- */

static const struct key_rules *rules_for(struct admin *a, struct bytes url)
{
    static const struct key_rules all;
    const struct snapshot *s = a->snapshot;
    size_t route = explain_route(s->index, BYTES_LIT("GET"), url);

    return route < s->conf->nroutes ? &s->conf->routes[route].key : &all;
}

static size_t purge_key_url(struct admin *a, struct bytes key_url, bool soft)
{
    redis_purge_url(a->shared->redis, key_url);
    size_t purged = store_purge_url(a->store, key_url, soft);

    flights_doom_url(a->shared->flights, key_url);
    return purged;
}

/* What lies under the key that its query is reduced to (no_vary.h) is this url's, too. */
static size_t purge_reduced(struct admin *a, const struct key *own, bool soft)
{
    char *buf = malloc(no_vary_bytes_max(own));

    if (buf == NULL)
        abort();
    struct key key = no_vary_reduce_by_marker(a->store, a->shared->store, own, loop_now(a->loop), buf);
    size_t purged = key.url.p != own->url.p ? purge_key_url(a, key.url, soft) : 0;

    free(buf);
    return purged;
}

static int purge_url(struct admin *a, struct bytes url, bool soft, size_t *purged)
{
    char *buf = malloc(3 * url.n + 64);
    struct key key;
    bool ok;

    if (buf == NULL)
        abort();
    ok = key_url_of(rules_for(a, url), url, buf, &key);
    if (ok) {
        *purged = purge_key_url(a, key.url, soft);
        *purged += purge_reduced(a, &key, soft);
    }
    free(buf);
    return ok ? 0 : -1;
}

static int purge_prefix(struct admin *a, struct bytes prefix, bool soft, size_t *purged)
{
    struct bytes normal = {malloc(prefix.n + 1), 0};
    bool ok;

    if (normal.p == NULL)
        abort();
    ok = key_prefix_normalize(prefix, (char *)normal.p, &normal.n);
    if (ok) {
        redis_purge_all(a->shared->redis);
        *purged = store_purge_prefix(a->store, normal, soft);
        flights_doom_prefix(a->shared->flights, normal);
    }
    free((char *)normal.p);
    return ok ? 0 : -1;
}

/* Of all origins, in whatever field responses carry it. */
static size_t purge_tag(struct admin *a, struct bytes tag, bool soft)
{
    struct tag_target target = tag_target_anywhere(a->shared->store, tag);
    redis_purge_all(a->shared->redis);
    size_t purged = store_purge_tag(a->store, &target, soft);

    flights_doom_tag(a->shared->flights, &target);
    return purged;
}

/* Exactly one of url, prefix, tag, all; and soft. NULL: fine, else what is wrong. */
static const char *check_purge(json_t *body)
{
    const char *name;
    json_t *value;
    int targets = 0;

    if (!json_is_object(body))
        return "the body is not a JSON object; send for example {\"url\":\"http://host/path\"}";
    json_object_foreach(body, name, value)
    {
        if (strcmp(name, "soft") == 0) {
            if (!json_is_boolean(value))
                return "\"soft\" is true or false";
        } else if (strcmp(name, "url") == 0 || strcmp(name, "prefix") == 0 || strcmp(name, "tag") == 0) {
            if (!json_is_string(value))
                return "\"url\", \"prefix\" and \"tag\" are strings";
            targets++;
        } else if (strcmp(name, "all") == 0) {
            if (!json_is_true(value))
                return "\"all\" can only be true";
            targets++;
        } else
            return "unknown member; there are url, prefix, tag, all and soft";
    }
    return targets == 1 ? NULL : "give exactly one of url, prefix, tag and all";
}

static struct bytes string_of(json_t *value)
{
    return (struct bytes){json_string_value(value), json_string_length(value)};
}

static const char *purge(struct admin *a, json_t *body, size_t *purged)
{
    json_t *url = json_object_get(body, "url"), *prefix = json_object_get(body, "prefix");
    json_t *tag = json_object_get(body, "tag");
    bool soft = json_is_true(json_object_get(body, "soft"));
    const char *wrong = check_purge(body);

    if (wrong != NULL)
        return wrong;
    if (url != NULL)
        return purge_url(a, string_of(url), soft, purged) == 0
                   ? NULL
                   : "\"url\" is not an absolute http:// or https:// URL with a valid path";
    if (prefix != NULL)
        return purge_prefix(a, string_of(prefix), soft, purged) == 0
                   ? NULL
                   : "\"prefix\" does not begin with http:// or https:// and a host";
    if (tag != NULL) {
        if (json_string_length(tag) == 0 || json_string_length(tag) > GROUP_BYTES_MAX)
            return "\"tag\" is empty, or longer than tags may be";
        *purged = purge_tag(a, string_of(tag), soft);
        return NULL;
    }
    redis_purge_all(a->shared->redis);
    *purged = store_purge_all(a->store, soft);
    flights_doom_all(a->shared->flights);
    return NULL;
}

static void handle_purge(struct admin *a, h2o_req_t *req)
{
    json_error_t error;
    json_t *body =
        json_loadb(req->entity.base == NULL ? "" : req->entity.base, req->entity.len, JSON_REJECT_DUPLICATES, &error);
    char text[256];
    size_t purged = 0;

    if (body == NULL) {
        snprintf(text, sizeof text, "the body is not JSON: %s", error.text);
        send_problem(req, 400, text);
        return;
    }
    const char *wrong = purge(a, body, &purged);

    json_decref(body);
    if (wrong != NULL)
        send_problem(req, 400, wrong);
    else
        send_json_object(req, 200, json_pack("{s:I}", "purged", (json_int_t)purged));
}

/* --- explain --- */

enum { EXPLAINED_FIELDS_MAX = 64 };

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The nth query parameter of that name, from 0, decoded; NULL and 0 without. */
static struct bytes parameter(h2o_req_t *req, const char *name, size_t nth)
{
    size_t n = strlen(name);
    const char *p, *end = req->path.base + req->path.len;

    if (req->query_at == SIZE_MAX)
        return BYTES_NONE;
    for (p = req->path.base + req->query_at + 1; p < end;) {
        const char *stop = memchr(p, '&', (size_t)(end - p));

        if (stop == NULL)
            stop = end;
        if ((size_t)(stop - p) > n && memcmp(p, name, n) == 0 && p[n] == '=' && nth-- == 0) {
            char *out = h2o_mem_alloc_pool(&req->pool, (size_t)(stop - p)), *q = out;

            for (p += n + 1; p < stop; p++) {
                if (*p == '%' && stop - p > 2 && hex(p[1]) >= 0 && hex(p[2]) >= 0) {
                    *q++ = (char)(hex(p[1]) * 16 + hex(p[2]));
                    p += 2;
                } else
                    *q++ = *p == '+' ? ' ' : *p;
            }
            return (struct bytes){out, (size_t)(q - out)};
        }
        p = stop + 1;
    }
    return BYTES_NONE;
}

/* "header=Name: value", any number of times. */
static bool fields_to_explain(h2o_req_t *req, struct fields *out, struct field v[EXPLAINED_FIELDS_MAX])
{
    struct bytes text;

    for (size_t n = 0; (text = parameter(req, "header", n)).p != NULL; n++) {
        char *colon = memchr(text.p, ':', text.n);
        struct bytes name = {text.p, colon != NULL ? (size_t)(colon - text.p) : 0};

        if (n == EXPLAINED_FIELDS_MAX || !token_valid(name))
            return false;
        for (char *p = (char *)text.p; p < colon; p++)
            *p = ascii_lower(*p);
        v[n] = (struct field){name, NULL, bytes_trim((struct bytes){colon + 1, text.n - name.n - 1})};
        out->n = n + 1;
    }
    return true;
}

static void handle_explain(struct admin *a, h2o_req_t *req)
{
    struct bytes url = parameter(req, "url", 0), method = parameter(req, "method", 0);
    const char *why = NULL;
    const struct snapshot *s = a->snapshot;
    struct field fields[EXPLAINED_FIELDS_MAX];
    struct explain_request q = {
        .method = method.p != NULL ? method : BYTES_LIT("GET"), .url = url, .fields = {fields, 0}};

    if (url.p == NULL) {
        send_problem(req, 400, "give the URL to explain: /explain?url=http://host/path&method=GET");
        return;
    }
    if (!token_valid(q.method)) {
        send_problem(req, 400, "\"method\" is not a method token");
        return;
    }
    if (!fields_to_explain(req, &q.fields, fields)) {
        send_problem(req, 400, "\"header\" is not NAME: VALUE, or there are too many");
        return;
    }
    json_t *out = explain(s->conf, s->index, &q, a->shared, a->store, loop_now(a->loop), &why);

    if (out == NULL)
        send_problem(req, 400, why);
    else
        send_json_object(req, 200, out);
}

/* --- requests --- */

static bool path_is(h2o_req_t *req, const char *path)
{
    size_t n = req->query_at != SIZE_MAX ? req->query_at : req->path.len;

    return h2o_memis(req->path.base, n, path, strlen(path));
}

static bool method_is(h2o_req_t *req, const char *method)
{
    return h2o_memis(req->method.base, req->method.len, method, strlen(method));
}

static void refuse_method(h2o_req_t *req, const char *allow)
{
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_ALLOW, NULL, allow, strlen(allow));
    send_problem(req, 405, "this endpoint takes another method");
}

static void handle_get(struct admin *a, h2o_req_t *req)
{
    int status = 200;

    if (path_is(req, "/health")) {
        char *body = health_json(a->shared, &status);

        send_json(req, status, body);
    } else if (path_is(req, "/health/cache"))
        send_json(req, 200, health_cache_json(a->shared, a->snapshot, loop_now(a->loop)));
    else
        handle_explain(a, req);
}

static int on_req(h2o_handler_t *self, h2o_req_t *req)
{
    struct admin *a = H2O_STRUCT_FROM_MEMBER(struct admin, ctx, req->conn->ctx);
    bool get = path_is(req, "/health") || path_is(req, "/health/cache") || path_is(req, "/explain");

    (void)self;
    if (!is_local_name(a, req))
        send_problem(req, 421, "without a token the admin listener answers to addresses and localhost only");
    else if (!is_allowed(a, req)) {
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_WWW_AUTHENTICATE, NULL, H2O_STRLIT("Bearer"));
        send_problem(req, 401, "send the token of token_file as: Authorization: Bearer TOKEN");
    } else if (path_is(req, "/purge")) {
        if (!method_is(req, "POST"))
            refuse_method(req, "POST");
        else if (is_from_a_page(a, req))
            send_problem(req, 403, "without a token no page in a browser may purge (Origin, Sec-Fetch-Site)");
        else
            handle_purge(a, req);
    } else if (!get)
        send_problem(req, 404, "there are /health, /health/cache, /purge and /explain");
    else if (method_is(req, "GET") || method_is(req, "HEAD"))
        handle_get(a, req);
    else
        refuse_method(req, "GET, HEAD");
    return 0;
}

/* --- the listener --- */

static void on_accept(h2o_socket_t *listener, const char *err)
{
    struct admin *a = listener->data;

    if (err != NULL)
        return;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener);

        if (sock != NULL) {
            h2o_accept(&a->accept, sock);
            continue;
        }
        if (bind_is_exhaustion(errno)) {
            h2o_socket_read_stop(listener);
            timer_arm(a->loop, &a->resume, PAUSE_MS);
        }
        return;
    }
}

static void on_resume(struct timer *t)
{
    struct admin *a = H2O_STRUCT_FROM_MEMBER(struct admin, resume, t);

    h2o_socket_read_start(a->listener, on_accept);
}

static int listen_unix(const char *path, struct unix_file *file)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return bind_unix(&address, 0660, file);
}

static int listen_tcp(const char *host, uint16_t port)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *ai;
    char service[8];
    int fd, saved;

    snprintf(service, sizeof service, "%u", port);
    if (getaddrinfo(host, service, &hints, &ai) != 0) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    fd = bind_tcp(ai, false);
    if (fd >= 0 && listen(fd, SOMAXCONN) != 0) {
        saved = errno;
        close(fd);
        errno = saved;
        fd = -1;
    }
    freeaddrinfo(ai);
    return fd;
}

static void close_listener(struct admin *a)
{
    if (a->listener == NULL)
        return;
    timer_disarm(a->loop, &a->resume);
    h2o_socket_close(a->listener);
    unix_file_remove(&a->unix_file);
    free(a->host);
    a->listener = NULL;
    a->host = NULL;
}

static bool listens_on(const struct admin *a, const struct conf_listen *conf)
{
    const struct conf_listen now = {.host = a->host, .port = a->port, .unix_path = a->unix_file.path};

    return a->listener != NULL && address_same(&now, conf);
}

static void say_why_not(const struct admin *a, const struct conf_listen *conf, int error, char *err, size_t err_cap)
{
    const struct conf_listen now = {.host = a->host, .port = a->port};
    bool overlaps = a->listener != NULL && error == EADDRINUSE && address_overlaps(&now, conf);
    int n = snprintf(err, err_cap, "%s:%u:%u: cannot listen on %s", conf->mark.file, conf->mark.line, conf->mark.column,
                     conf->address);

    if (n < 0 || (size_t)n >= err_cap)
        return;
    if (overlaps)
        snprintf(err + n, err_cap - (size_t)n, " beside %s:%u, " BIND_OVERLAP_ADVICE, a->host, a->port);
    else
        snprintf(err + n, err_cap - (size_t)n, ": %s", bind_error(error));
}

static int open_listener(struct admin *a, const struct conf_listen *conf)
{
    struct unix_file file = {.path = NULL};
    int fd = conf->unix_path != NULL ? listen_unix(conf->unix_path, &file) : listen_tcp(conf->host, conf->port);

    if (fd < 0)
        return -1;
    close_listener(a);
    a->listener = h2o_evloop_socket_create(loop_h2o(a->loop), fd, H2O_SOCKET_FLAG_DONT_READ);
    a->listener->data = a;
    a->host = conf->host != NULL ? strdup(conf->host) : NULL;
    a->port = conf->port;
    a->unix_file = file;
    h2o_socket_read_start(a->listener, on_accept);
    return 0;
}

int admin_apply(struct admin *a, struct snapshot *snapshot, char *err, size_t err_cap)
{
    const struct conf_listen *conf = snapshot->conf->admin;

    if (conf == NULL)
        close_listener(a);
    else if (!listens_on(a, conf) && open_listener(a, conf) != 0) {
        say_why_not(a, conf, errno, err, err_cap);
        return -1;
    }
    snapshot_retain(snapshot);
    if (a->snapshot != NULL)
        snapshot_release(a->snapshot);
    a->snapshot = snapshot;
    return 0;
}

struct admin *admin_create(struct shared *shared, struct loop *loop)
{
    struct admin *a = calloc(1, sizeof *a);

    if (a == NULL)
        abort();
    a->shared = shared;
    a->loop = loop;
    a->store = store_thread_create(shared->store);
    if (a->store == NULL)
        abort();
    h2o_config_init(&a->globalconf);
    a->globalconf.server_name = h2o_iovec_init(H2O_STRLIT(""));
    a->globalconf.max_request_entity_size = BODY_MAX;
    a->globalconf.http1.upgrade_to_http2 = 0; /* nor by prior knowledge: its connections could not be closed at once */
    h2o_hostconf_t *host = h2o_config_register_host(&a->globalconf, h2o_iovec_init(H2O_STRLIT("default")), 65535);

    h2o_create_handler(h2o_config_register_path(host, "/", 0), sizeof(h2o_handler_t))->on_req = on_req;
    h2o_context_init(&a->ctx, loop_h2o(loop), &a->globalconf);
    a->accept = (h2o_accept_ctx_t){.ctx = &a->ctx, .hosts = a->globalconf.hosts};
    a->resume.fire = on_resume;
    a->housekeeping.fire = keep_house;
    timer_arm(loop, &a->housekeeping, HOUSEKEEPING_MS);
    return a;
}

static int close_idle(h2o_req_t *req, void *data)
{
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);

    (void)data;
    shutdown(h2o_socket_get_fd(sock), SHUT_RDWR);
    return 0;
}

/* libh2o closes what has been shut down when it next reads or writes. */
static bool close_all(struct admin *a)
{
    h2o_linklist_t *open = &a->ctx.http1._conns;

    h2o_context_request_shutdown(&a->ctx);
    a->globalconf.http1.callbacks.foreach_request(&a->ctx, close_idle, NULL);
    for (int i = 0; i < CLOSE_MAX_MS && !h2o_linklist_is_empty(open); i++)
        loop_run(a->loop, 1);
    return h2o_linklist_is_empty(open) && h2o_linklist_is_empty(&a->ctx.http2._conns);
}

bool admin_destroy(struct admin *a)
{
    timer_disarm(a->loop, &a->housekeeping);
    close_listener(a);
    if (!close_all(a))
        return false;
    h2o_timeout_unlink(&a->ctx.http2._graceful_shutdown_timeout);
    h2o_context_dispose(&a->ctx);
    h2o_config_dispose(&a->globalconf);
    store_thread_destroy(a->store);
    if (a->snapshot != NULL)
        snapshot_release(a->snapshot);
    free(a);
    return true;
}
