/*
 * What is wrong is said with its place, what was found and what would be right; all of it in one go.
 */
#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>

#include <stdint.h>

#include <cmocka.h>

#include "conf_support.h"

#define LISTEN "listen: [{ address: '127.0.0.1:8080' }]\n"
#define BACKENDS "backends: { api: { servers: [http://127.0.0.1:9000] } }\n"
#define ROUTES "routes: [{ path: /**, backend: api }]\n"
#define REST LISTEN BACKENDS ROUTES

static void errors_are(const char *conf, const char *expected)
{
    support_write("weir.conf", conf);
    assert_string_equal(support_load_errors(), expected);
}

/* One line in front of a good rest; expected without "weir.conf:1:". */
static void line_is(const char *line, const char *expected)
{
    char conf[4096], text[4096] = "";

    snprintf(conf, sizeof(conf), "%s\n%s", line, REST);
    if (expected[0] != '\0')
        snprintf(text, sizeof(text), "weir.conf:1:%s\n", expected);
    errors_are(conf, text);
}

/* The first line is a route's, after its path and backend. */
static void route_is(const char *rest, const char *expected)
{
    char conf[4096], text[4096] = "";

    snprintf(conf, sizeof(conf), "routes: [{ backend: api,  %s }]\n" LISTEN BACKENDS "ttl: { list: 1s }\n", rest);
    if (expected[0] != '\0')
        snprintf(text, sizeof(text), "weir.conf:1:%s\n", expected);
    errors_are(conf, text);
}

static void backend_is(const char *rest, const char *expected)
{
    char conf[4096], text[4096] = "";

    snprintf(conf, sizeof(conf), "backends: { api: { %s } }\n" LISTEN ROUTES, rest);
    if (expected[0] != '\0')
        snprintf(text, sizeof(text), "weir.conf:1:%s\n", expected);
    errors_are(conf, text);
}

static void unknown_keys_are_answered_with_the_nearest(void **state)
{
    (void)state;
    line_is("thread: 1", "1: unknown key 'thread' (did you mean 'threads'?)");
    line_is("workers: 1", "1: unknown key 'workers'");
    line_is("memory: { sise: 16mb }", "11: unknown key 'sise' (did you mean 'size'?)");
    line_is("rediss: 1", "1: unknown key 'rediss' (did you mean 'redis'?)");
    backend_is("servers: [http://a], retri: 1", "41: unknown key 'retri'"); /* never to a key that would be refused */
    errors_are("listen:\n  - adress: 127.0.0.1:8080\n" BACKENDS ROUTES,
               "weir.conf:2:5: unknown key 'adress' (did you mean 'address'?)\n");
    errors_are("lisen: []\n" BACKENDS ROUTES, "weir.conf:1:1: unknown key 'lisen' (did you mean 'listen'?)\n");
    errors_are("backend: {}\n" LISTEN ROUTES, "weir.conf:1:1: unknown key 'backend' (did you mean 'backends'?)\n");
}

static void duplicate_keys_are_refused(void **state)
{
    (void)state;
    errors_are("threads: 1\n" REST "threads: 2\n", "weir.conf:5:1: duplicate key 'threads' (the first is in line 1)\n");
    support_write("weir.conf", "ttl: { a: 1s, a: 2s }\n" REST);
    assert_ptr_equal(strstr(support_load_errors(), "weir.conf:1:15: duplicate tier 'a' (the first is at "),
                     support_load_errors());
}

static void later_features_are_refused_and_their_harmless_values_are_not(void **state)
{
    (void)state;
    line_is("redis: { servers: [a], mode: sentinel }", "30: 'sentinel' is not supported by this version");
    line_is("redis: { servers: [a], mode: cluster }", "30: 'cluster' is not supported by this version");
    line_is("redis: { servers: [a], master: m }", "24: 'master' is not supported by this version");
    line_is("redis: { servers: [a], lease: 5s }", "24: 'lease' is not supported by this version (only 'lease: 0' is)");
    line_is("redis: { servers: [a], lease: 0 }", "");
    line_is("admin: { profiling: on }", "10: 'profiling' is not supported by this version (only 'profiling: off' is)");
    route_is("path: /a, limits: { rate: 1/s }", "37: 'limits' is not supported by this version");
    route_is("path: /a, scope: user, user: { jwt: { header: A } }", "58: 'jwt' is not supported by this version");
    backend_is("servers: [http://a], retry: { attempts: 1 }", "41: 'retry' is not supported by this version");
    backend_is("servers: [http://a], hedge: { after: p95 }",
               "41: 'hedge' is not supported by this version (only 'hedge: off' is)");
    backend_is("servers: [http://a], balance: consistent_hash",
               "50: 'consistent_hash' is not supported by this version");
    errors_are("listen: [{ address: '0.0.0.0:1', proxy_protocol: on }]\n" BACKENDS ROUTES,
               "weir.conf:1:34: 'proxy_protocol' is not supported by this version (only 'proxy_protocol: off' is)\n");
}

static void compression_is_judged_at_top_level_and_in_routes(void **state)
{
    (void)state;
    line_is("compress: off", "");
    line_is("compress: { gzip_level: 9, br_level: 11, zstd_level: 19, min_size: 0 }", "");
    line_is("compress: { gzip_level: 10 }", "25: 'gzip_level' is '10'; expected 1 to 9");
    line_is("compress: { gzip_level: 0 }", "25: 'gzip_level' is '0'; expected 1 to 9");
    line_is("compress: { br_level: 12 }", "23: 'br_level' is '12'; expected 0 to 11");
    line_is("compress: { zstd_level: 20 }", "25: 'zstd_level' is '20'; expected 1 to 19");
    line_is("compress: { stream: on }", "");
    line_is("compress: { stream: yes }", "21: 'stream' is 'yes'; expected on or off");
    line_is("compress: { min_sise: 1 }", "13: unknown key 'min_sise' (did you mean 'min_size'?)");
    line_is("compress: yes", "11: 'compress' is 'yes'; expected on, off, or a map, such as { encodings: [br, gzip] }");
    line_is("compress: { encodings: [gzip, deflate] }",
            "31: 'encodings': 'deflate': no coding that is made here; expected zstd, br or gzip");
    line_is("compress: { encodings: [br, br] }", "29: 'encodings': 'br': it is there already");
    line_is("compress: { encodings: [] }", "24: 'encodings' is an empty list; expected a list of codings, such as "
                                           "[zstd, br, gzip], or 'compress: off'");
    line_is("compress: { types: [text] }", "21: 'types': 'text': not a media type, such as application/json or text/*");
    line_is("compress: { types: ['*/json'] }",
            "21: 'types': '*/json': not a media type, such as application/json or text/*");
    line_is("compress: { types: ['*/*', application/vnd.api+json] }", "");
    route_is("path: /a, compress: { br_level: 12 }", "59: 'br_level' is '12'; expected 0 to 11");
    route_is("path: /a, compress: maybe",
             "47: 'compress' is 'maybe'; expected on, off, or a map, such as { encodings: [br, gzip] }");
}

static void wrong_types_say_what_was_found_and_what_is_expected(void **state)
{
    (void)state;
    line_is("memory: 256mb", "9: 'memory' is '256mb'; expected a map, such as { size: ... }");
    line_is("memory: { size: [1] }", "17: 'size' is a list; expected a size, such as 512, 16kb, 256mb or 2gb");
    line_is("memory: { size: }", "17: 'size' has no value; expected a size, such as 512, 16kb, 256mb or 2gb");
    line_is("memory: { size: 16MB }", "17: 'size' is '16MB'; expected a size, such as 512, 16kb, 256mb or 2gb");
    line_is("limits: { connections: many }", "24: 'connections' is 'many'; expected a number, such as 64");
    line_is("limits: { idle_timeout: 60 }",
            "25: 'idle_timeout' is '60'; expected a duration with its unit, such as 250ms, 10s, 5m, 1h or 7d");
    line_is("limits: { h2_resets: 200 }", "22: 'h2_resets' is '200'; expected a number in a time, such as 200/10s");
    line_is("expose_health: true", "16: 'expose_health' is 'true'; expected on or off");
    line_is("log: { level: warning }", "15: 'level' is 'warning'; expected error, warn, info or debug");
    line_is("log: { access: on }", "16: 'access' is 'on'; expected off, \"-\" for stdout, or a file name");
    line_is("ttl: { a: { jitter: 10 } }", "21: 'jitter' is '10'; expected a percentage, such as 10%");
    line_is("ttl: { a: 10 }", "11: 'a' is '10'; expected a duration with its unit, such as 250ms, 10s, 5m, 1h or 7d");
    line_is("ttl: [1s]", "6: 'ttl' is a list; expected a map of tiers, such as { list: 10m }");
    line_is("admin: on", "8: 'admin' is 'on'; expected off or a map, such as { address: 127.0.0.1:9090 }");
    line_is("user: ~", "7: 'user' has no value; expected a user's name, such as nobody");
}

static void ranges_have_two_sides(void **state)
{
    (void)state;
    line_is("threads: 1", "");
    line_is("threads: 1024", "");
    line_is("threads: 0", "10: 'threads' is '0'; expected auto or 1 to 1024");
    line_is("threads: 1025", "10: 'threads' is '1025'; expected auto or 1 to 1024");
    line_is("memory: { size: 8mb }", "");
    line_is("memory: { size: 8191kb }", "17: 'size' is '8191kb'; expected 8mb to 16384gb");
    line_is("memory: { size: 9mb, max_object: 9mb }", "");
    line_is("memory: { size: 9mb, max_object: 9437185 }",
            "34: 'max_object' is '9437185'; expected at most memory's size, 9mb");
    line_is("memory: { shards: 65536 }", "");
    line_is("memory: { shards: 131072 }", "19: 'shards' is '131072'; expected auto or a power of two from 1 to 65536");
    line_is("memory: { shards: 3 }", "19: 'shards' is '3'; expected auto or a power of two from 1 to 65536");
    line_is("memory: { eviction: lru }", "");
    line_is("memory: { eviction: sieve }", "");
    line_is("memory: { eviction: fifo }", "21: 'eviction' is 'fifo'; expected lru or sieve");
    line_is("memory: { evicton: lru }", "11: unknown key 'evicton' (did you mean 'eviction'?)");
    line_is("limits: { connections: 1000000 }", "");
    line_is("limits: { connections: 1000001 }", "24: 'connections' is '1000001'; expected 1 to 1000000");
    line_is("limits: { header_timeout: 99ms }", "27: 'header_timeout' is '99ms'; expected 100ms to 1h");
    line_is("limits: { h2_resets: 0/10s }",
            "22: 'h2_resets' is '0/10s'; expected 1 to 1000000 in 1s to 1h, such as 200/10s");
    line_is("ttl: { a: { jitter: 100% } }", "");
    line_is("ttl: { a: { jitter: 101% } }", "21: 'jitter' is '101%'; expected 0% to 100%");
    line_is("ttl: { a: 3650d }", "");
    line_is("ttl: { a: 3651d }", "11: 'a' is '3651d'; expected 0s to 3650d");
    line_is("ttl: { a: { status: { 200: 1s, 599: 1s, 2xx: 1s } } }", "");
    line_is("ttl: { a: { status: { 199: 1s } } }", "23: '199' is not a status; expected 200 to 599, or 2xx to 5xx");
    line_is("ttl: { a: { status: { 600: 1s } } }", "23: '600' is not a status; expected 200 to 599, or 2xx to 5xx");
    line_is("ttl: { a: { status: { 40x: 1s } } }", "23: '40x' is not a status; expected 200 to 599, or 2xx to 5xx");
    line_is("ttl: { a: { status: { 404: 1s, '404': 1s } } }", "32: duplicate status '404'");
    backend_is("servers: [http://a], max_connections: 0", "58: 'max_connections' is '0'; expected 1 to 65535");
    backend_is("servers: [{ url: http://a, weight: 1001 }]", "55: 'weight' is '1001'; expected 1 to 1000");
    backend_is("servers: []", "29: 'servers' has 0 entries; expected 1 to 256");
}

#define BREAKER "servers: [http://a], circuit_breaker: "

static void breakers_are_judged(void **state)
{
    (void)state;
    backend_is(BREAKER "off", "");
    backend_is(BREAKER "on", "58: 'circuit_breaker' is 'on'; expected off or a map, such as { errors: 50% }");
    backend_is(BREAKER "[]", "58: 'circuit_breaker' is a list; expected off or a map, such as { errors: 50% }");
    backend_is(BREAKER "~", "58: 'circuit_breaker' has no value; expected off or a map, such as { errors: 50% }");
    backend_is(BREAKER "{ error: 50% }", "60: unknown key 'error' (did you mean 'errors'?)");
    backend_is(BREAKER "{ windw: 1s }", "60: unknown key 'windw' (did you mean 'window'?)");
    backend_is(BREAKER "{ open: 1s, open: 2s }", "70: duplicate key 'open' (the first is in line 1)");
    backend_is(BREAKER "{ errors: 50 }", "68: 'errors' is '50'; expected a percentage, such as 10%");
    backend_is(BREAKER "{ errors: 1%, minimum: 1, window: 100ms, open: 100ms }", "");
    backend_is(BREAKER "{ errors: 100%, minimum: 1000000, window: 1h, open: 1h }", "");
    backend_is(BREAKER "{ errors: 0% }", "68: 'errors' is '0%'; expected 1% to 100%");
    backend_is(BREAKER "{ errors: 101% }", "68: 'errors' is '101%'; expected 1% to 100%");
    backend_is(BREAKER "{ minimum: 0 }", "69: 'minimum' is '0'; expected 1 to 1000000");
    backend_is(BREAKER "{ minimum: 1000001 }", "69: 'minimum' is '1000001'; expected 1 to 1000000");
    backend_is(BREAKER "{ window: 99ms }", "68: 'window' is '99ms'; expected 100ms to 1h");
    backend_is(BREAKER "{ window: 61m }", "68: 'window' is '61m'; expected 100ms to 1h");
    backend_is(BREAKER "{ open: 99ms }", "66: 'open' is '99ms'; expected 100ms to 1h");
    backend_is(BREAKER "{ open: 61m }", "66: 'open' is '61m'; expected 100ms to 1h");
}

#define ADDRESS "expected an address, such as 0.0.0.0:8080, [::]:8080 or unix:/run/weir.sock"

static void address_is(const char *address, const char *wrong)
{
    char conf[4096], text[4096] = "";

    snprintf(conf, sizeof(conf), "listen: [{ address: '%s' }]\n" BACKENDS ROUTES, address);
    if (wrong[0] != '\0')
        snprintf(text, sizeof(text), "weir.conf:1:21: 'address' is '%s'; " ADDRESS ": %s\n", address, wrong);
    errors_are(conf, text);
}

static void addresses_are_judged(void **state)
{
    const char *name = "names are not looked up here, and IPv6 addresses stand in brackets";
    const char *port = "a port is a number from 1 to 65535";
    char path[128] = "unix:/", conf[512];

    (void)state;
    address_is("1.2.3.4:65535", "");
    address_is("1.2.3.4:65536", port);
    address_is("1.2.3.4:0", port);
    address_is("1.2.3.4:+1", port);
    address_is("1.2.3.4", "it has no port");
    address_is("1.2.3.4:", "it has no port");
    address_is("[::]", "it has no port");
    address_is("[::", "it has no port");
    address_is("8080", "it has no port");
    address_is("localhost:80", name);
    address_is("1.2.3:80", name);
    address_is(":80", name);
    address_is("[1.2.3.4]:80", name);
    address_is("unix:run", "a unix socket's path begins with '/', such as unix:/run/weir.sock");
    memset(path + 6, 'a', 106); /* the longest that a sockaddr_un holds */
    address_is(path, "");
    path[112] = 'a';
    snprintf(conf, sizeof(conf), "listen: [{ address: '%s' }]\n" BACKENDS ROUTES, path);
    support_write("weir.conf", conf);
    assert_non_null(strstr(support_load_errors(), ": a unix socket's path has at most 107 bytes\n"));
    errors_are("listen: [{ address: '0.0.0.0:80' }, { address: '0.0.0.0:80' }, { address: '127.0.0.1:9090' }]\n" //
               BACKENDS ROUTES,
               "weir.conf:1:37: '0.0.0.0:80' is listened on already in line 1\n"
               "weir.conf:1:64: '127.0.0.1:9090' is the admin listener's address; expected another one, or 'admin: "
               "off'\n");
}

static void url_is(const char *url, const char *wrong)
{
    char rest[256], expected[1024] = "";

    snprintf(rest, sizeof(rest), "servers: ['%s']", url);
    if (wrong[0] != '\0')
        snprintf(expected, sizeof(expected),
                 "30: 'servers' is '%s'; expected a url, such as http://127.0.0.1:9000, https://10.0.0.7 or "
                 "unix:/run/api.sock: %s",
                 url, wrong);
    backend_is(rest, expected);
}

static void urls_are_judged(void **state)
{
    const char *host = "that is no host's name or address (IPv6 addresses stand in brackets)";

    (void)state;
    url_is("http://a-b.example_1.:8080/", "");
    url_is("ftp://a", "it begins with neither http://, https:// nor unix:/");
    url_is("127.0.0.1:80", "it begins with neither http://, https:// nor unix:/");
    url_is("http://a/b", "a server has no path: routes and strip_prefix say what is asked for");
    url_is("http://u@a", "a server has no user and password");
    url_is("http://", host);
    url_is("http://a..b", host);
    url_is("http://[fe80::x]", host);
    url_is("http://a:", "the port is missing after ':'");
    url_is("http://a:65536", "a port is a number from 1 to 65535");
    url_is("unix:a", "a unix socket's path begins with '/', such as unix:/run/weir.sock");
    backend_is("servers: [{ url: http://a, tls: { verify: off } }]",
               "47: 'tls' is for https:// servers only, and this one is 'http://a'");
    backend_is("servers: [{ weight: 2 }]", "30: 'url' is missing; expected 'url: http://127.0.0.1:9000'");
}

static void routes_are_judged(void **state)
{
    (void)state;
    errors_are(LISTEN BACKENDS "routes:\n  - { backend: api }\n  - { path: /a }\n",
               "weir.conf:4:5: 'path' is missing; expected 'path: /api/**'\n"
               "weir.conf:5:5: 'backend' is missing; expected 'backend: api'\n");
    errors_are(LISTEN BACKENDS "routes: [{ path: /a, backend: apu }, { path: /b, backend: web }]\n",
               "weir.conf:3:31: unknown backend 'apu' (did you mean 'api'?); expected a name from 'backends'\n"
               "weir.conf:3:59: unknown backend 'web'; expected a name from 'backends'\n");
    route_is("path: /a, ttl: lits",
             "42: unknown tier 'lits' (did you mean 'list'?); expected a name from 'ttl' at top level");
    route_is("path: a",
             "33: 'path' is 'a'; expected a path, such as /api/clips/* or /files/**: a path begins with '/'");
    route_is("path: /a, host: 'a:80'", "43: 'host' is 'a:80'; expected a host's name without a port, such as "
                                       "api.example.com");
    route_is("path: /a, host: '*.a'",
             "43: 'host' is '*.a'; expected a host's name without a port, such as api.example.com");
    route_is("path: /a, methods: [get]", "47: 'methods': 'get': methods are upper case, such as GET");
    route_is("path: /a, methods: [GET, GET]", "52: 'methods': 'GET': it is there already");
    route_is("path: /a, methods: []", "46: 'methods' is an empty list; expected a list of methods, such as [GET, "
                                      "HEAD], or no 'methods'");
    route_is("path: /a, origin_cache_control: ignore",
             "59: 'origin_cache_control: ignore' leaves it to the tier, and there is none; expected 'ttl: NAME' as "
             "well");
    route_is("path: /a, key: { query: some }", "51: 'query' is 'some'; expected all, none, a list of names such as "
                                               "[page, limit], or { except: [utm_*] }");
    route_is("path: /a, key: { query: ['*a'] }", "52: 'query': '*a': a '*' may only be at the end, such as utm_*");
    route_is("path: /a, key: { cookies: [a*] }",
             "54: 'cookies': 'a*': patterns are not supported here; expected whole names");
    route_is("path: /a, targeted: CDN-Cache-Control",
             "47: 'targeted' is 'CDN-Cache-Control'; expected a list of fields, such as [CDN-Cache-Control]");
    route_is("path: /a, targeted: [a, Cache-Control]",
             "51: 'targeted': 'Cache-Control': it counts where none of the list does, and has no place in it");
    route_is("path: /a, targeted: [CDN-Cache-Control, cdn-cache-control]",
             "67: 'targeted': 'cdn-cache-control': it is there already");
    route_is("path: /a, key: { headers: [Cookie] }",
             "54: 'headers': 'Cookie': credentials have no place in a key; expected 'scope: user', or single cookies "
             "in 'cookies'");
    route_is("path: /a, ignore_cookies: yes",
             "53: 'ignore_cookies' is 'yes'; expected on, off or a list of names, such as [_ga*, _gid]");
}

static void prefix_is(const char *path, const char *prefix, bool good)
{
    char conf[1024];

    snprintf(conf, sizeof(conf), LISTEN BACKENDS "routes: [{ path: '%s', backend: api, strip_prefix: '%s' }]\n", path,
             prefix);
    support_write("weir.conf", conf);
    if ((support_load_errors()[0] == '\0') != good)
        fail_msg("%s of %s: %s", prefix, path, support_load_errors());
}

/* Whole segments of the literal part: what is stripped is the same for all requests of the route. */
static void strip_prefix_is_whole_literal_segments(void **state)
{
    (void)state;
    prefix_is("/api/clips/*", "/api", true);
    prefix_is("/api/clips/*", "/api/", true);
    prefix_is("/api/clips/*", "/api/clips", true);
    prefix_is("/api/clips/*", "/api/clip", false);
    prefix_is("/api/clips/*", "/api/clips/*", false);
    prefix_is("/api/**", "/api", true);
    prefix_is("/api", "/api", true);
    prefix_is("/api/*/x", "/api/*/x", false);
    prefix_is("/apis", "/api", false);
    prefix_is("/api", "/web", false);
    prefix_is("/api", "api", false);
    prefix_is("/**", "/", false);
}

static void scope_and_user_go_together(void **state)
{
    (void)state;
    route_is("path: /a, scope: user",
             "10: 'scope: user' needs to know who it is: 'user' is missing; expected 'user: { header: Authorization }' "
             "or 'user: { cookie: session }'");
    route_is("path: /a, user: { header: X }",
             "37: 'user' has no effect with 'scope: shared'; expected 'scope: user' or 'scope: auto'");
    route_is("path: /a, scope: auto, user: { header: X }", "");
    route_is("path: /a, scope: auto, user: {}",
             "56: 'user' names 0 things; expected one: { header: Authorization } or { cookie: session }");
    route_is("path: /a, scope: auto, user: { header: X, cookie: y }",
             "56: 'user' names 2 things; expected one: { header: Authorization } or { cookie: session }");
    route_is("path: /a, scope: auto, user: { header: 'a b' }",
             "66: 'header': 'a b': not a name that HTTP allows (letters, digits and !#$%&'+-.^_`|~)");
    route_is("path: /a, scope: user, user: { cookie: s }, key: { cookies: [s] }",
             "56: 's' is in 'key' too, where the credential itself would be kept; 'user' is enough");
}

static void two_routes_for_the_same_requests_are_refused(void **state)
{
    (void)state;
    support_write("weir.conf", LISTEN BACKENDS "routes:\n"
                                               "  - { path: /a, backend: api, host: a.example, methods: [GET, PUT] }\n"
                                               "  - { path: /a, backend: api, host: A.EXAMPLE, methods: [PUT] }\n");
    assert_ptr_equal(strstr(support_load_errors(), "weir.conf:5:5: '/a' matches the same requests as the route at "),
                     support_load_errors());
    assert_non_null(strstr(support_load_errors(), "/weir.conf:4:5\n"));
    /* others of that path lie between, and each names the first */
    support_write("weir.conf", LISTEN BACKENDS "routes:\n"
                                               "  - { path: /a, backend: api }\n"
                                               "  - { path: /a, backend: api, host: b.example }\n"
                                               "  - { path: /a, backend: api, methods: [PUT] }\n"
                                               "  - { path: /a, backend: api }\n"
                                               "  - { path: /a, backend: api, host: b.example }\n"
                                               "  - { path: /a, backend: api }\n");
    const char *errors = support_load_errors();

    for (int i = 0; i < 3; i++) {
        static const char *const at[] = {"weir.conf:7:5: ", "weir.conf:8:5: ", "weir.conf:9:5: "};
        static const char *const first[] = {"/weir.conf:4:5\n", "/weir.conf:5:5\n", "/weir.conf:4:5\n"};
        const char *line = strstr(errors, at[i]);

        assert_non_null(line);
        errors = strchr(line, '\n') + 1;
        assert_int_equal(strncmp(errors - strlen(first[i]), first[i], strlen(first[i])), 0);
    }
    assert_int_equal(*errors, '\0');
}

static void tls_files_are_looked_at(void **state)
{
    (void)state;
    support_write("a.pem", "x");
    support_write("weir.conf", "listen:\n  - address: 0.0.0.0:1\n    tls: { certificate: none.crt, key: . }\n" //
                  BACKENDS ROUTES);
    assert_non_null(strstr(support_load_errors(), "weir.conf:3:25: 'certificate': cannot read '"));
    assert_non_null(strstr(support_load_errors(), "none.crt': No such file or directory\n"));
    assert_non_null(strstr(support_load_errors(), "/.': it is a directory\n"));
    errors_are("listen:\n"
               "  - address: 0.0.0.0:1\n"
               "    tls: { certificate: a.pem, key: a.pem, min_version: 1.1 }\n"
               "  - address: 0.0.0.0:2\n"
               "    tls: [{ certificate: a.pem, key: a.pem }, { certificate: a.pem, ciphers: X }]\n"
               "  - address: 0.0.0.0:3\n"
               "    tls: []\n" //
               BACKENDS ROUTES,
               "weir.conf:3:57: 'min_version' is '1.1'; expected \"1.2\" or \"1.3\"\n"
               "weir.conf:5:47: 'key' is missing; expected 'key: site.key'\n"
               "weir.conf:5:69: 'ciphers' belongs to the first map of the list: it holds for all of them\n"
               "weir.conf:7:10: 'tls' has 0 maps; expected 1 to 1000, such as { certificate: site.crt, key: site.key "
               "}\n");
}

static void token_is(const char *token, const char *wrong)
{
    support_write("token", token);
    support_write("weir.conf", "admin: { address: '0.0.0.0:9', token_file: token }\n" REST);
    if (wrong[0] == '\0')
        assert_string_equal(support_load_errors(), "");
    else
        assert_non_null(strstr(support_load_errors(), wrong));
}

static void an_admin_for_the_world_needs_a_token(void **state)
{
    (void)state;
    line_is("admin: { address: '0.0.0.0:9' }",
            "19: the admin address '0.0.0.0:9' is neither loopback nor unix: 'token_file' is missing; expected "
            "'token_file: admin.token'");
    line_is("admin: { address: '[::1]:9' }", "");
    line_is("admin: { address: '128.0.0.1:9' }",
            "19: the admin address '128.0.0.1:9' is neither loopback nor unix: 'token_file' is missing; expected "
            "'token_file: admin.token'");
    token_is("abc", "");
    token_is("abc\n", "");
    token_is("", "it is empty; expected a token\n");
    token_is("\n", "it is empty; expected a token\n");
    token_is("a b\n", "a token is one line of visible ASCII characters without spaces\n");
    token_is("a\nb\n", "a token is one line of visible ASCII characters without spaces\n");
    unlink(support_path("token"));
    support_write("weir.conf", "admin: { address: '0.0.0.0:9', token_file: token }\n" REST);
    assert_non_null(strstr(support_load_errors(), "weir.conf:1:44: 'token_file': cannot use '"));
}

static void something_must_be_there(void **state)
{
    (void)state;
    errors_are("",
               "weir.conf:1:1: there is no 'listen'; expected at least one address, such as listen: [{ address: "
               "0.0.0.0:8080 }]\n"
               "weir.conf:1:1: there is no route; expected at least one, such as routes: [{ path: /**, backend: api "
               "}]\n");
    errors_are("- a\n", "weir.conf:1:1: 'the file' is a list; expected a map, such as { threads: ... }\n"
                        "weir.conf:1:1: there is no 'listen'; expected at least one address, such as listen: [{ "
                        "address: 0.0.0.0:8080 }]\n"
                        "weir.conf:1:1: there is no route; expected at least one, such as routes: [{ path: /**, "
                        "backend: api }]\n");
    unlink(support_path("weir.conf"));
    assert_string_equal(support_load_errors(), "weir.conf:1:1: cannot be read: No such file or directory\n");
}

static void yaml_is_taken_with_care(void **state)
{
    (void)state;
    line_is("threads: &a 1", "10: anchors (&a) are not supported: write the value out");
    line_is("threads: *a", "10: aliases (*a) are not supported: write the value out");
    line_is("memory: { <<: { size: 16mb } }", "11: merge keys (<<) are not supported: write the keys out");
    line_is("ttl: { <<: 1s }", "8: merge keys (<<) are not supported: write the keys out");
    line_is("threads: !!int 1", "10: tags (tag:yaml.org,2002:int) are not supported: leave it out");
    line_is("ttl: { 'a b': 1s }", "8: 'a b' is not a name; expected at most 64 letters, digits, '_', '-' and '.'");
    line_is("user: \"a\\0b\"", "7: a NUL character has no place here");
    errors_are("threads: 1\n---\nthreads: 2\n", "weir.conf:2:1: a second document (---) in one file: expected one\n");
    errors_are("{ [a]: b }\n", "weir.conf:1:3: a key is a word, not a list or a map\n");
    errors_are("threads: \x01\n", "weir.conf:1:10: not readable as YAML: control characters are not allowed\n");
    errors_are("# \xc3\xa9\nthr\xc3\xa9\xff: 1\n",
               "weir.conf:2:5: not readable as YAML: invalid leading UTF-8 octet\n");
    errors_are("\xef\xbb\xbfthread: 1\n" REST, "weir.conf:1:1: unknown key 'thread' (did you mean 'threads'?)\n");
}

/* Each level ten times the one before: with aliases a megabyte would become a terabyte. */
static void laughs_are_cut_short(void **state)
{
    size_t size = 1200000, n;
    char *text = malloc(size + 1);

    (void)state;
    n = (size_t)sprintf(text, "routes: ");
    memset(text + n, '[', 40);
    text[n + 40] = '\0';
    errors_are(text, "weir.conf:1:24: too deep: nothing here has more than 16 levels\n");
    n = (size_t)sprintf(text, "ttl: [");
    while (n + 2 < size) {
        text[n++] = 'a';
        text[n++] = ',';
    }
    text[n] = '\0';
    support_write("weir.conf", text);
    assert_non_null(strstr(support_load_errors(), "there is too much in the files"));
    free(text);
}

static void a_file_has_at_most_four_mebibytes(void **state)
{
    size_t size = 4 << 20;
    char *text = malloc(size + 2);

    (void)state;
    memset(text, '#', size + 1);
    memcpy(text, REST "#", sizeof(REST));
    text[size] = '\0';
    errors_are(text, "");
    text[size] = '#';
    text[size + 1] = '\0';
    errors_are(text, "weir.conf:1:1: cannot be read: it is larger than 4194304 bytes\n");
    free(text);
}

/* What is shown of a file is fit for a terminal and a log. */
static void messages_show_no_control_characters_and_no_novels(void **state)
{
    char line[512];

    (void)state;
    line_is("threads: \"\\e[31m\\n\"", "10: 'threads' is '?[31m?'; expected auto or 1 to 1024");
    snprintf(line, sizeof(line), "threads: %0200d", 0);
    line_is(line,
            "10: 'threads' is '000000000000000000000000000000000000000000000000000000000000...'; expected auto or 1 "
            "to 1024");
}

/* In one go, and in the order of the text, whatever order they were found in. */
static void everything_wrong_is_reported_in_order(void **state)
{
    (void)state;
    errors_are("routes: [{ path: /a, backend: b, cache: no }]\n"
               "backends: { a: { keepalive: 1 } }\n"
               "listen: [{ address: x }]\n"
               "foo: 1\n",
               "weir.conf:1:31: unknown backend 'b'; expected a name from 'backends'\n"
               "weir.conf:1:41: 'cache' is 'no'; expected on or off\n"
               "weir.conf:2:16: 'servers' is missing; expected 'servers: [http://127.0.0.1:9000]'\n"
               "weir.conf:2:29: 'keepalive' is '1'; expected a duration with its unit, such as 250ms, 10s, 5m, 1h or "
               "7d\n"
               "weir.conf:3:21: 'address' is 'x'; " ADDRESS ": it has no port\n"
               "weir.conf:4:1: unknown key 'foo'\n");
}

static void errors_print_as_a_compiler_does(void **state)
{
    struct conf_errors errors = {NULL, 0};
    char *text = NULL;
    size_t n;
    FILE *to = open_memstream(&text, &n);

    (void)state;
    conf_errors_add(&errors, (struct conf_mark){"a.conf", 3, 14}, "%s %d", "number", 1);
    conf_errors_add(&errors, (struct conf_mark){"b.conf", 1, 1}, "two");
    conf_errors_print(&errors, to);
    fclose(to);
    assert_string_equal(text, "a.conf:3:14: number 1\nb.conf:1:1: two\n");
    free(text);
    conf_errors_free(&errors);
    assert_int_equal(errors.n, 0);
}

static void redis_is_judged_as_closely(void **state)
{
    const char *server = "host:port or unix:/path";
    char text[256];

    (void)state;
    line_is("redis: 1", "8: 'redis' is '1'; expected a map, such as { servers: ... }");
    line_is("redis: {}", "8: 'servers' is missing; expected 'servers: [127.0.0.1:6379]'");
    line_is("redis: { servers: a }", "19: 'servers' is 'a'; expected a list, such as [127.0.0.1:6379]");
    line_is("redis: { servers: [] }", "19: 'servers' is a list; expected a list, such as [127.0.0.1:6379]");
    line_is("redis: { servers: [a, b] }", "23: 'servers': 'mode: single' has one server");
    snprintf(text, sizeof(text), "20: 'servers' is 'a:0'; expected %s: a port is a number from 1 to 65535", server);
    line_is("redis: { servers: ['a:0'] }", text);
    line_is("redis: { servers: ['a:65535'] }", "");
    line_is("redis: { servers: ['a:1'] }", "");
    line_is("redis: { servers: ['[::1]:6379'] }", "");
    line_is("redis: { servers: [redis.test] }", "");
    line_is("redis: { servers: ['unix:/run/redis.sock'] }", "");
    line_is(
        "redis: { servers: ['unix:run'] }",
        "20: 'servers' is 'unix:run'; expected host:port or unix:/path: a unix socket's path begins with '/', such as "
        "unix:/run/weir.sock");
    line_is("redis: { server: [a] }", "10: unknown key 'server' (did you mean 'servers'?)");
    line_is("redis: { servers: [a], namespace: 'a b' }",
            "35: 'namespace' is 'a b'; expected at most 64 letters, digits, '_', '-', '.' and ':', such as weir");
    line_is("redis: { servers: [a], namespace: 'Team_1:weir-2.x' }", "");
    line_is("redis: { servers: [a], timeout: 0ms }", "33: 'timeout' is '0ms'; expected 1ms to 10s");
    line_is("redis: { servers: [a], timeout: 1ms }", "");
    line_is("redis: { servers: [a], timeout: 10s }", "");
    line_is("redis: { servers: [a], timeout: 11s }", "33: 'timeout' is '11s'; expected 1ms to 10s");
    line_is("redis: { servers: [a], database: 65536 }", "34: 'database' is '65536'; expected 0 to 65535");
    line_is("redis: { servers: [a], database: 65535 }", "");
    line_is("ttl: { a: { memory: 999ms } }", "21: 'memory' is '999ms'; expected 1s to 3650d");
    line_is("ttl: { a: { memory: 1s } }", "");
    support_write("password", "\n");
    support_write("weir.conf", "redis: { servers: [a], password_file: password }\n" REST);
    assert_non_null(strstr(support_load_errors(), ": it is empty; expected a password"));
    support_write("password", "two words\n");
    assert_non_null(
        strstr(support_load_errors(), ": a password is one line of visible ASCII characters without spaces"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(redis_is_judged_as_closely),
        cmocka_unit_test(unknown_keys_are_answered_with_the_nearest),
        cmocka_unit_test(duplicate_keys_are_refused),
        cmocka_unit_test(later_features_are_refused_and_their_harmless_values_are_not),
        cmocka_unit_test(compression_is_judged_at_top_level_and_in_routes),
        cmocka_unit_test(wrong_types_say_what_was_found_and_what_is_expected),
        cmocka_unit_test(ranges_have_two_sides),
        cmocka_unit_test(breakers_are_judged),
        cmocka_unit_test(addresses_are_judged),
        cmocka_unit_test(urls_are_judged),
        cmocka_unit_test(routes_are_judged),
        cmocka_unit_test(strip_prefix_is_whole_literal_segments),
        cmocka_unit_test(scope_and_user_go_together),
        cmocka_unit_test(two_routes_for_the_same_requests_are_refused),
        cmocka_unit_test(tls_files_are_looked_at),
        cmocka_unit_test(an_admin_for_the_world_needs_a_token),
        cmocka_unit_test(something_must_be_there),
        cmocka_unit_test(yaml_is_taken_with_care),
        cmocka_unit_test(laughs_are_cut_short),
        cmocka_unit_test(a_file_has_at_most_four_mebibytes),
        cmocka_unit_test(messages_show_no_control_characters_and_no_novels),
        cmocka_unit_test(everything_wrong_is_reported_in_order),
        cmocka_unit_test(errors_print_as_a_compiler_does),
    };

    return cmocka_run_group_tests(tests, support_begin, support_end);
}
