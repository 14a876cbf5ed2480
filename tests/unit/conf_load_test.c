#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>

#include <stdint.h>

#include <cmocka.h>

#include <sched.h>

#include "conf_support.h"

static bool is(struct bytes text, const char *expected)
{
    return bytes_eq(text, bytes_of(expected));
}

#define SMALL                                                                                                          \
    "listen: [{ address: '127.0.0.1:8080' }]\n"                                                                        \
    "backends: { api: { servers: [http://127.0.0.1:9000] } }\n"                                                        \
    "routes: [{ path: /**, backend: api }]\n"

static void defaults_are_as_documented(void **state)
{
    struct conf *c = support_load(SMALL);
    const struct conf_backend *b = &c->backends[0];
    const struct conf_route *r = &c->routes[0];
    cpu_set_t cpus;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
    assert_int_equal(c->threads, CPU_COUNT(&cpus));
    assert_string_equal(c->file, support_path("weir.conf"));
    assert_null(c->user);
    assert_string_equal(c->admin->host, "127.0.0.1");
    assert_int_equal(c->admin->port, 9090);
    assert_null(c->admin_token);
    assert_false(c->expose_health);
    assert_null(c->access_log);
    assert_int_equal(c->access_format, CONF_LOG_JSON);
    assert_int_equal(c->log_level, CONF_LOG_INFO);
    assert_int_equal(c->memory_bytes, 256 << 20);
    assert_int_equal(c->memory_object_bytes_max, 8 << 20);
    assert_int_equal(c->memory_shards, 0);
    assert_int_equal(c->memory_eviction, CONF_SIEVE);
    assert_int_equal(c->request_body_bytes_max, 10 << 20);
    assert_int_equal(c->request_header_bytes_max, 32 << 10);
    assert_int_equal(c->connections_max, 10000);
    assert_int_equal(c->header_timeout_ms, 10000);
    assert_int_equal(c->idle_timeout_ms, 60000);
    assert_int_equal(c->h2_streams, 128);
    assert_int_equal(c->h2_resets, 200);
    assert_int_equal(c->h2_resets_ms, 10000);
    assert_int_equal(b->balance, CONF_ROUND_ROBIN);
    assert_int_equal(b->max_connections, 64);
    assert_int_equal(b->queue_size, 1024);
    assert_int_equal(b->queue_timeout_ms, 2000);
    assert_int_equal(b->keepalive_ms, 60000);
    assert_int_equal(b->connect_ms, 1000);
    assert_int_equal(b->first_byte_ms, 30000);
    assert_int_equal(b->idle_ms, 30000);
    assert_int_equal(b->total_ms, 300000);
    assert_int_equal(b->servers[0].weight, 1);
    assert_true(b->servers[0].tls_verify);
    assert_ptr_equal(r->backend, b);
    assert_true(r->cache);
    assert_true(r->coalesce);
    assert_null(r->ttl);
    assert_false(r->ignore_origin);
    assert_int_equal(r->scope, CONF_SHARED);
    assert_int_equal(r->identity, CONF_IDENTITY_NONE);
    assert_int_equal(r->key.query, KEY_QUERY_ALL);
    assert_int_equal(r->strip_prefix.n, 0);
    conf_release(c);
}

static void the_process_is_told_everything(void **state)
{
    struct conf *c;

    (void)state;
    support_write("secret", "s3cr3t\r\n");
    c = support_load("threads: 3\nadmin: { address: '[::]:9091', token_file: secret, profiling: off }\n"
                     "expose_health: on\nlog: { access: a/x.log, format: combined, level: debug }\n"
                     "memory: { size: 16mb, max_object: 16mb, shards: 64, eviction: lru }\ncompress: off\n"
                     "limits: { request_body: 0, request_headers: 1kb, connections: 1, header_timeout: 100ms,\n"
                     "  idle_timeout: 1d, h2_streams: 1024, h2_resets: 1/1h }\n" SMALL);
    assert_int_equal(c->threads, 3);
    assert_string_equal(c->admin->address, "[::]:9091");
    assert_string_equal(c->admin->host, "::");
    assert_string_equal(c->admin_token, "s3cr3t");
    assert_true(c->expose_health);
    assert_string_equal(c->access_log, support_path("a/x.log"));
    assert_int_equal(c->access_format, CONF_LOG_COMBINED);
    assert_int_equal(c->log_level, CONF_LOG_DEBUG);
    assert_int_equal(c->memory_bytes, 16 << 20);
    assert_int_equal(c->memory_object_bytes_max, 16 << 20);
    assert_int_equal(c->memory_shards, 64);
    assert_int_equal(c->memory_eviction, CONF_LRU);
    assert_int_equal(c->request_body_bytes_max, 0);
    assert_int_equal(c->request_header_bytes_max, 1024);
    assert_int_equal(c->connections_max, 1);
    assert_int_equal(c->header_timeout_ms, 100);
    assert_int_equal(c->idle_timeout_ms, 86400000);
    assert_int_equal(c->h2_streams, 1024);
    assert_int_equal(c->h2_resets, 1);
    assert_int_equal(c->h2_resets_ms, 3600000);
    conf_release(c);
}

static void admin_may_be_off_in_two_ways_and_the_access_log_on_stdout(void **state)
{
    struct conf *c = support_load("admin: off\nlog: { access: \"-\" }\n" SMALL);

    (void)state;
    assert_null(c->admin);
    assert_string_equal(c->access_log, "-");
    conf_release(c);
    c = support_load("admin: { address: off }\nlog: { access: off }\n" SMALL);
    assert_null(c->admin);
    assert_null(c->access_log);
    conf_release(c);
    c = support_load("admin: { address: unix:/run/admin.sock }\n" SMALL);
    assert_string_equal(c->admin->unix_path, "/run/admin.sock");
    conf_release(c);
    c = support_load("admin: { address: '127.255.0.1:1' }\n" SMALL);
    assert_int_equal(c->admin->port, 1);
    conf_release(c);
}

static void listeners_are_addresses_or_unix_sockets_with_tls_or_without(void **state)
{
    struct conf *c;
    const struct conf_tls *tls;

    (void)state;
    support_write("a.crt", "x");
    support_write("a.key", "x");
    c = support_load("listen:\n"
                     "  - address: 0.0.0.0:8080\n"
                     "    proxy_protocol: off\n"
                     "  - address: \"[0:0::1]:65535\"\n"
                     "    tls: { certificate: a.crt, key: a.key }\n"
                     "  - address: unix:/run/weir.sock\n"
                     "    tls:\n"
                     "      - { certificate: a.crt, key: a.key, min_version: \"1.3\", ciphersuites: X, ciphers: Y }\n"
                     "      - { certificate: ./a.crt, key: a.key }\n"
                     "backends: { api: { servers: [http://127.0.0.1:9000] } }\n"
                     "routes: [{ path: /**, backend: api }]\n");
    assert_int_equal(c->nlistens, 3);
    assert_string_equal(c->listens[0].host, "0.0.0.0");
    assert_int_equal(c->listens[0].port, 8080);
    assert_null(c->listens[0].tls);
    assert_int_equal(c->listens[0].mark.line, 2);
    assert_int_equal(c->listens[0].mark.column, 5);
    assert_string_equal(c->listens[1].address, "[0:0::1]:65535");
    assert_string_equal(c->listens[1].host, "::1");
    assert_int_equal(c->listens[1].tls->ncertificates, 1);
    assert_int_equal(c->listens[1].tls->min_version, 0x0303);
    assert_null(c->listens[1].tls->ciphersuites);
    assert_string_equal(c->listens[1].tls->certificates[0].certificate, support_path("a.crt"));
    assert_string_equal(c->listens[1].tls->certificates[0].key, support_path("a.key"));
    assert_null(c->listens[2].host);
    assert_string_equal(c->listens[2].unix_path, "/run/weir.sock");
    tls = c->listens[2].tls;
    assert_int_equal(tls->ncertificates, 2);
    assert_int_equal(tls->min_version, 0x0304);
    assert_string_equal(tls->ciphersuites, "X");
    assert_string_equal(tls->ciphers, "Y");
    conf_release(c);
}

static const struct tier_status *status_of(const struct tier *tier, int first)
{
    for (size_t i = 0; i < tier->nstatuses; i++)
        if (tier->statuses[i].first == first)
            return &tier->statuses[i];
    return NULL;
}

static void a_tier_is_a_duration_or_a_map(void **state)
{
    struct conf *c =
        support_load("ttl:\n"
                     "  session: 30m\n"
                     "  list: { fresh: 0s, stale_while_revalidate: 30s, stale_if_error: 1h, jitter: 100%,\n"
                     "          early_refresh: off, status: { 404: 30s, 410: 1h, 5xx: 1s } }\n"
                     "  empty: {}\n" SMALL);
    const struct tier *t = &c->tiers[0].tier;

    (void)state;
    assert_int_equal(c->ntiers, 3);
    assert_string_equal(t->name, "session");
    assert_int_equal(t->fresh_ms, 1800000);
    assert_int_equal(t->stale_while_revalidate_ms, -1);
    assert_int_equal(t->stale_if_error_ms, -1);
    assert_int_equal(t->jitter_percent, 0);
    assert_int_equal(c->tiers[0].mark.line, 2);
    t = &c->tiers[1].tier;
    assert_int_equal(t->fresh_ms, 0);
    assert_int_equal(t->stale_while_revalidate_ms, 30000);
    assert_int_equal(t->stale_if_error_ms, 3600000);
    assert_int_equal(t->jitter_percent, 100);
    assert_int_equal(t->nstatuses, 3);
    assert_int_equal(status_of(t, 404)->last, 404);
    assert_int_equal(status_of(t, 404)->fresh_ms, 30000);
    assert_int_equal(status_of(t, 500)->last, 599);
    assert_int_equal(status_of(t, 500)->fresh_ms, 1000);
    assert_int_equal(c->tiers[2].tier.fresh_ms, -1);
    conf_release(c);
}

static void servers_are_urls_of_three_kinds(void **state)
{
    struct conf *c;
    const struct conf_server *s;

    (void)state;
    support_write("ca.pem", "x");
    c = support_load("listen: [{ address: '0.0.0.0:1' }]\n"
                     "backends:\n"
                     "  a:\n"
                     "    servers:\n"
                     "      - http://api.example\n"
                     "      - https://10.0.0.7/\n"
                     "      - { url: 'https://[0:0::7]:8443', weight: 1000,\n"
                     "          tls: { verify: off, ca_file: ca.pem, server_name: api.example } }\n"
                     "      - unix:/run/api.sock\n"
                     "    balance: least_requests\n"
                     "    max_connections: 65535\n"
                     "    queue: { size: 0, timeout: 1h }\n"
                     "    keepalive: 0s\n"
                     "    timeouts: { connect: 1ms, first_byte: 2ms, idle: 3ms, total: 30d }\n"
                     "    hedge: off\n"
                     "    circuit_breaker: off\n"
                     "    health: off\n"
                     "routes: [{ path: /, backend: a }]\n");
    s = c->backends[0].servers;
    assert_int_equal(c->backends[0].nservers, 4);
    assert_string_equal(s[0].url, "http://api.example");
    assert_string_equal(s[0].host, "api.example");
    assert_int_equal(s[0].port, 80);
    assert_false(s[0].https);
    assert_string_equal(s[1].host, "10.0.0.7");
    assert_int_equal(s[1].port, 443);
    assert_true(s[1].https);
    assert_true(s[1].tls_verify);
    assert_string_equal(s[2].host, "::7");
    assert_int_equal(s[2].port, 8443);
    assert_int_equal(s[2].weight, 1000);
    assert_false(s[2].tls_verify);
    assert_string_equal(s[2].tls_ca_file, support_path("ca.pem"));
    assert_string_equal(s[2].tls_server_name, "api.example");
    assert_string_equal(s[3].unix_path, "/run/api.sock");
    assert_string_equal(s[3].host, "localhost");
    assert_int_equal(c->backends[0].balance, CONF_LEAST_REQUESTS);
    assert_int_equal(c->backends[0].queue_size, 0);
    assert_int_equal(c->backends[0].queue_timeout_ms, 3600000);
    assert_int_equal(c->backends[0].keepalive_ms, 0);
    assert_int_equal(c->backends[0].connect_ms, 1);
    assert_int_equal(c->backends[0].first_byte_ms, 2);
    assert_int_equal(c->backends[0].idle_ms, 3);
    assert_true(c->backends[0].total_ms == 30LL * 86400000);
    assert_int_equal(c->backends[0].breaker.minimum, 0);
    conf_release(c);
}

static struct conf *load_with_breaker(const char *line)
{
    char conf[1024];

    snprintf(conf, sizeof(conf),
             "listen: [{ address: '0.0.0.0:1' }]\n"
             "backends: { a: { servers: [http://a], %s } }\n"
             "routes: [{ path: /, backend: a }]\n",
             line);
    return support_load(conf);
}

static void a_breaker_has_defaults_only_where_there_is_one(void **state)
{
    struct conf *c = load_with_breaker("max_connections: 1");

    (void)state;
    assert_int_equal(c->backends[0].breaker.minimum, 0);
    conf_release(c);
    c = load_with_breaker("circuit_breaker: {}");
    assert_int_equal(c->backends[0].breaker.errors_percent, 50);
    assert_int_equal(c->backends[0].breaker.minimum, 20);
    assert_int_equal(c->backends[0].breaker.window_ms, 10000);
    assert_int_equal(c->backends[0].breaker.open_ms, 5000);
    conf_release(c);
    c = load_with_breaker("circuit_breaker: { errors: 7%, minimum: 8, window: 9s, open: 1m }");
    assert_int_equal(c->backends[0].breaker.errors_percent, 7);
    assert_int_equal(c->backends[0].breaker.minimum, 8);
    assert_int_equal(c->backends[0].breaker.window_ms, 9000);
    assert_int_equal(c->backends[0].breaker.open_ms, 60000);
    conf_release(c);
}

/* What a route does not say is as at top level, wherever that stands. */
static void a_route_has_the_compression_of_the_top_level_but_for_what_it_says(void **state)
{
    struct conf *c =
        support_load("routes:\n"
                     "  - { path: /a, backend: api }\n"
                     "  - { path: /b, backend: api, compress: off }\n"
                     "  - { path: /c, backend: api, compress: on }\n"
                     "  - { path: /d, backend: api, compress: { min_size: 10, encodings: [gzip], stream: off } }\n"
                     "compress: { br_level: 9, types: [Text/*, application/xml], stream: on }\n"
                     "backends: { api: { servers: [http://127.0.0.1:9000] } }\n"
                     "listen: [{ address: '127.0.0.1:8080' }]\n");
    const struct compress_rules *a = &c->routes[0].compress, *d = &c->routes[3].compress;

    (void)state;
    assert_true(a->on);
    assert_false(a->user);
    assert_int_equal(a->nencodings, 3);
    assert_int_equal(a->encodings[0], CODING_ZSTD);
    assert_int_equal(a->encodings[1], CODING_BR);
    assert_int_equal(a->encodings[2], CODING_GZIP);
    assert_int_equal(a->min_size, 1024);
    assert_int_equal(a->levels[CODING_GZIP], 6);
    assert_int_equal(a->levels[CODING_BR], 9);
    assert_int_equal(a->levels[CODING_ZSTD], 3);
    assert_int_equal(a->ntypes, 2);
    assert_true(is(a->types[0], "text/*"));
    assert_false(c->routes[1].compress.on);
    assert_true(c->routes[2].compress.on && c->routes[2].compress.user);
    assert_int_equal(c->routes[2].compress.min_size, 1024);
    assert_true(a->stream && c->routes[2].compress.stream && !d->stream);
    assert_true(d->on && d->user);
    assert_int_equal(d->min_size, 10);
    assert_int_equal(d->nencodings, 1);
    assert_int_equal(d->encodings[0], CODING_GZIP);
    assert_int_equal(d->levels[CODING_BR], 9);
    conf_release(c);
    c = support_load("compress: off\nroutes: [{ path: /a, backend: api }, { path: /b, backend: api, compress: on }]\n"
                     "backends: { api: { servers: [http://127.0.0.1:9000] } }\n"
                     "listen: [{ address: '127.0.0.1:8080' }]\n");
    assert_false(c->routes[0].compress.on);
    assert_true(c->routes[1].compress.on);
    conf_release(c);
}

/* Routes come before what they name, which must not matter. */
static void a_route_is_told_everything(void **state)
{
    struct conf *c = support_load("routes:\n"
                                  "  - path: /api/clips/*\n"
                                  "    host: API.Example.com\n"
                                  "    methods: [GET, M-SEARCH]\n"
                                  "    backend: api\n"
                                  "    strip_prefix: /api/\n"
                                  "    cache: off\n"
                                  "    ttl: t\n"
                                  "    origin_cache_control: ignore\n"
                                  "    targeted: [Example-Cache-Control, surrogate-control]\n"
                                  "    client_cache_control: ignore\n"
                                  "    scope: user\n"
                                  "    user: { cookie: Session }\n"
                                  "    key: { query: { except: [utm_*, fbclid] }, headers: [Accept-Language],\n"
                                  "           cookies: [currency] }\n"
                                  "    no_vary_search: on\n"
                                  "    ignore_cookies: [_ga*, _gid]\n"
                                  "    coalesce: off\n"
                                  "    compress: off\n"
                                  "ttl: { t: 1s }\n"
                                  "backends: { api: { servers: [http://127.0.0.1:9000] } }\n"
                                  "listen: [{ address: '127.0.0.1:8080' }]\n");
    const struct conf_route *r = &c->routes[0];

    (void)state;
    assert_true(is(r->pattern.path, "/api/clips/*"));
    assert_true(is(r->pattern.host, "api.example.com"));
    assert_int_equal(r->pattern.nmethods, 2);
    assert_true(is(r->pattern.methods[1], "M-SEARCH"));
    assert_ptr_equal(r->backend, &c->backends[0]);
    assert_ptr_equal(r->ttl, &c->tiers[0]);
    assert_true(is(r->strip_prefix, "/api"));
    assert_false(r->cache);
    assert_true(r->ignore_origin);
    assert_int_equal(r->ntargeted, 2);
    assert_true(is(r->targeted[0], "example-cache-control"));
    assert_true(is(r->targeted[1], "surrogate-control"));
    assert_int_equal(r->scope, CONF_USER);
    assert_int_equal(r->identity, CONF_IDENTITY_COOKIE);
    assert_true(is(r->identity_name, "Session"));
    assert_int_equal(r->key.query, KEY_QUERY_EXCEPT);
    assert_int_equal(r->key.query_names.n, 2);
    assert_true(is(r->key.query_names.v[0], "utm_*"));
    assert_int_equal(r->key.nheaders, 1);
    assert_true(is(r->key.headers[0], "accept-language"));
    assert_int_equal(r->key.ncookies, 1);
    assert_true(is(r->personal.key_cookies[0], "currency"));
    assert_int_equal(r->personal.nkey_cookies, 1);
    assert_false(r->personal.ignore_all_cookies);
    assert_int_equal(r->personal.ignore_cookies.n, 2);
    assert_true(r->no_vary_search);
    assert_false(r->coalesce);
    assert_int_equal(r->mark.line, 2);
    conf_release(c);
}

static void short_forms_of_a_route(void **state)
{
    struct conf *c =
        support_load("listen: [{ address: '127.0.0.1:8080' }]\n"
                     "backends: { api: { servers: [http://127.0.0.1:9000] } }\n"
                     "routes:\n"
                     "  - { path: /a, backend: api, key: { query: none }, ignore_cookies: on, targeted: [] }\n"
                     "  - { path: /b, backend: api, key: { query: all }, ignore_cookies: off }\n"
                     "  - { path: /c, backend: api, key: { query: [page] }, scope: auto }\n"
                     "  - { path: /d, backend: api, key: { query: [] }, scope: auto,\n"
                     "      user: { header: X-Token }, strip_prefix: /d }\n"
                     "  - { path: /d, backend: api, host: a.example }\n"
                     "  - { path: /d, backend: api, methods: [GET] }\n"
                     "  - { path: /d, backend: api, methods: [POST], host: '[::1]' }\n");

    (void)state;
    assert_int_equal(c->nroutes, 7);
    assert_int_equal(c->routes[0].key.query, KEY_QUERY_NONE);
    assert_true(c->routes[0].personal.ignore_all_cookies);
    assert_int_equal(c->routes[0].ntargeted, 0);
    assert_false(c->routes[0].no_vary_search);
    assert_int_equal(c->routes[1].ntargeted, 2);
    assert_true(is(c->routes[1].targeted[0], "weir-cache-control"));
    assert_true(is(c->routes[1].targeted[1], "cdn-cache-control"));
    assert_int_equal(c->routes[1].key.query, KEY_QUERY_ALL);
    assert_false(c->routes[1].personal.ignore_all_cookies);
    assert_int_equal(c->routes[2].key.query, KEY_QUERY_ONLY);
    assert_int_equal(c->routes[2].identity, CONF_IDENTITY_HEADER);
    assert_true(is(c->routes[2].identity_name, "authorization"));
    assert_int_equal(c->routes[3].key.query, KEY_QUERY_NONE);
    assert_true(is(c->routes[3].identity_name, "x-token"));
    assert_true(is(c->routes[3].strip_prefix, "/d"));
    conf_release(c);
}

static void a_snapshot_lives_as_long_as_its_last_reference(void **state)
{
    struct conf *c = support_load(SMALL);

    (void)state;
    assert_ptr_equal(conf_acquire(c), c);
    conf_release(c);
    assert_string_equal(c->backends[0].name, "api");
    conf_release(c);
    conf_release(NULL);
}

static void redis_is_read(void **state)
{
    struct conf *c = support_load(SMALL);

    (void)state;
    assert_null(c->redis);
    conf_release(c);
    c = support_load("redis: { servers: ['[0::1]:7000'] }\nttl: { a: { memory: 5m }, b: 1s }\n" SMALL);
    assert_string_equal(c->redis->host, "::1");
    assert_int_equal(c->redis->port, 7000);
    assert_int_equal(c->redis->timeout_ms, 50);
    assert_int_equal(c->redis->database, 0);
    assert_true(bytes_eq(c->redis->namespace, BYTES_LIT("weir")));
    assert_null(c->redis->password);
    assert_int_equal(c->tiers[0].memory_ms, 5 * 60 * 1000);
    assert_int_equal(c->tiers[1].memory_ms, -1);
    conf_release(c);
    support_write("password", "secret\r\n");
    c = support_load(
        "redis: { servers: [redis.test], database: 3, password_file: password, namespace: a:b, timeout: 5ms,"
        " mode: single }\n" SMALL);
    assert_string_equal(c->redis->host, "redis.test");
    assert_int_equal(c->redis->port, 6379);
    assert_int_equal(c->redis->database, 3);
    assert_int_equal(c->redis->timeout_ms, 5);
    assert_string_equal(c->redis->password, "secret");
    assert_true(bytes_eq(c->redis->namespace, BYTES_LIT("a:b")));
    conf_release(c);
    c = support_load("redis: { servers: ['unix:/run/redis.sock'] }\n" SMALL);
    assert_null(c->redis->host);
    assert_string_equal(c->redis->unix_path, "/run/redis.sock");
    conf_release(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(redis_is_read),
        cmocka_unit_test(defaults_are_as_documented),
        cmocka_unit_test(the_process_is_told_everything),
        cmocka_unit_test(admin_may_be_off_in_two_ways_and_the_access_log_on_stdout),
        cmocka_unit_test(listeners_are_addresses_or_unix_sockets_with_tls_or_without),
        cmocka_unit_test(a_tier_is_a_duration_or_a_map),
        cmocka_unit_test(servers_are_urls_of_three_kinds),
        cmocka_unit_test(a_breaker_has_defaults_only_where_there_is_one),
        cmocka_unit_test(a_route_has_the_compression_of_the_top_level_but_for_what_it_says),
        cmocka_unit_test(a_route_is_told_everything),
        cmocka_unit_test(short_forms_of_a_route),
        cmocka_unit_test(a_snapshot_lives_as_long_as_its_last_reference),
    };

    return cmocka_run_group_tests(tests, support_begin, support_end);
}
