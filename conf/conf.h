/*
 * The configuration: an immutable snapshot, read from YAML files.
 *
 * Not for what the program does with it: route indexes, TLS contexts and sockets are made by proxy/.
 *
 * Ownership  conf_load gives one reference; conf_acquire and conf_release count. Everything reached from a snapshot
 * lives as long as the snapshot. Errors     All errors of all files in one go, as conf_errors; nothing is half-loaded.
 * Threads    conf_load in one thread at a time; a snapshot may be read by any thread. The count is atomic.
 * Units      Durations in milliseconds, sizes in bytes.
 */
#ifndef WEIR_CONF_CONF_H
#define WEIR_CONF_CONF_H

#include <stdint.h>
#include <stdio.h>

#include "policies/breaker.h"
#include "policies/compress.h"
#include "policies/freshness.h"
#include "policies/key.h"
#include "policies/personal.h"
#include "policies/route.h"
#include "policies/storing.h"

struct conf_mark { /* where in the files something was said */
    const char *file;
    unsigned line, column; /* from 1 */
};

struct conf_certificate {
    const char *certificate, *key; /* resolved file names */
    struct conf_mark certificate_mark, key_mark;
};

struct conf_tls {
    struct conf_certificate *certificates; /* the first is the default; the others are chosen by SNI */
    size_t ncertificates;
    int min_version;          /* TLS1_2_VERSION or TLS1_3_VERSION, as OpenSSL's numbers (0x0303, 0x0304) */
    const char *ciphersuites; /* NULL: default. Of the first map of a list, like min_version */
    const char *ciphers;
    struct conf_mark ciphersuites_mark, ciphers_mark; /* where there are any */
};

struct conf_listen {
    const char *address; /* as written */
    const char *host;    /* "0.0.0.0", "::", NULL for unix */
    uint16_t port;
    const char *unix_path; /* NULL unless unix:/path */
    struct conf_tls *tls;  /* NULL: plain */
    struct conf_mark mark;
};

enum conf_log_format { CONF_LOG_JSON, CONF_LOG_COMBINED };
enum conf_log_level { CONF_LOG_ERROR, CONF_LOG_WARN, CONF_LOG_INFO, CONF_LOG_DEBUG };

struct conf_tier {
    struct tier tier; /* tier.name is the key */
    bool early_refresh;
    int64_t memory_ms; /* how long in the in-process tier at most; < 0: not said */
    struct conf_mark mark;
};

struct conf_server {
    const char *url; /* as written */
    bool https;
    const char *host; /* name or address; "localhost" for unix */
    uint16_t port;
    const char *unix_path; /* NULL unless unix:/path */
    unsigned weight;       /* >= 1 */
    bool tls_verify;
    const char *tls_ca_file;     /* NULL: the system's */
    const char *tls_server_name; /* NULL: host */
    struct conf_mark mark;
};

enum conf_eviction { CONF_LRU, CONF_SIEVE };

enum conf_balance { CONF_ROUND_ROBIN, CONF_LEAST_REQUESTS };

struct conf_backend {
    const char *name;
    struct conf_server *servers;
    size_t nservers; /* >= 1 */
    enum conf_balance balance;
    unsigned max_connections; /* for each server, over all threads */
    unsigned queue_size;
    int64_t queue_timeout_ms;
    int64_t keepalive_ms;
    int64_t connect_ms, first_byte_ms, idle_ms, total_ms;
    struct breaker_rules breaker;
    struct conf_mark mark;
};

enum conf_scope { CONF_SHARED, CONF_USER, CONF_AUTO };
enum conf_identity { CONF_IDENTITY_NONE, CONF_IDENTITY_HEADER, CONF_IDENTITY_COOKIE };

struct conf_route {
    struct route_pattern pattern;
    bool shares_path; /* with others, for other methods or hosts */
    const struct conf_backend *backend;
    struct bytes strip_prefix; /* empty: none. Without a trailing '/' */
    bool cache;
    const struct conf_tier *ttl;  /* NULL: RFC 9111 heuristics */
    bool ignore_origin;           /* origin_cache_control: ignore */
    const struct bytes *targeted; /* fields that come before Cache-Control, in this order; lower case */
    size_t ntargeted;
    enum conf_scope scope;
    enum conf_identity identity;
    struct bytes identity_name; /* header: lower case */
    struct key_rules key;
    struct personal_rules personal;
    enum set_cookie set_cookie;
    bool no_vary_search;
    bool honor_client; /* client_cache_control: honor */
    bool coalesce;
    struct compress_rules compress;
    struct conf_mark mark;
};

enum conf_redis_mode { CONF_REDIS_SINGLE };

struct conf_redis {
    const char *server; /* as written */
    const char *host;   /* name or address; NULL for unix */
    uint16_t port;
    const char *unix_path; /* NULL unless unix:/path */
    enum conf_redis_mode mode;
    unsigned database;
    const char *password; /* NULL: none. Read from password_file, without the trailing newline */
    const char *password_file;
    struct bytes namespace;
    int64_t timeout_ms;
};

struct conf {
    const char *file;
    unsigned threads; /* >= 1; auto is resolved to the usable CPUs */
    const char *user; /* NULL: stay */
    struct conf_mark user_mark;

    struct conf_listen *listens;
    size_t nlistens; /* >= 1 */

    struct conf_listen *admin; /* NULL: off. No tls */
    const char *admin_token;   /* NULL: none. Read from token_file, without the trailing newline */
    const char *admin_token_file;
    bool expose_health;

    const char *access_log; /* NULL: off; "-": stdout; else a file name */
    struct conf_mark access_mark;
    enum conf_log_format access_format;
    enum conf_log_level log_level;

    size_t memory_bytes, memory_object_bytes_max;
    unsigned memory_shards; /* 0: auto; else a power of two */
    enum conf_eviction memory_eviction;

    struct conf_redis *redis; /* NULL: none */

    const char **files; /* the main one, then those that it includes */
    size_t nfiles;

    struct compress_rules compress; /* what routes that say nothing have */

    struct conf_tier *tiers;
    size_t ntiers;
    struct conf_backend *backends;
    size_t nbackends;
    struct conf_route *routes;
    size_t nroutes;

    uint64_t request_body_bytes_max;
    size_t request_header_bytes_max;
    unsigned connections_max;
    int64_t header_timeout_ms, idle_timeout_ms;
    unsigned h2_streams;
    unsigned h2_resets; /* so many in h2_resets_ms */
    int64_t h2_resets_ms;
};

struct conf_error {
    struct conf_mark mark;
    const char *text; /* what is wrong (and what would be right) */
};

struct conf_errors {
    struct conf_error *v;
    size_t n;
};

/* 0 and *out, or -1 and *errors (at least one, sorted by file and line in the order read). conf_errors_free in any
 * case. */
int conf_load(const char *file, struct conf **out, struct conf_errors *errors);
/* The same with a check of what conf/ does not know about (certificates), so that what it finds comes in the same go.
 * It is called although there may be errors already: what was wrong or missing is NULL or a default. */
typedef void conf_check(const struct conf *conf, struct conf_errors *errors);
int conf_load_with(const char *file, conf_check *check, struct conf **out, struct conf_errors *errors);
/* One more, for what only comes to light when the snapshot is put to use (an address in use, a bad certificate).
 * Copies. */
void conf_errors_add(struct conf_errors *errors, struct conf_mark mark, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void conf_errors_print(const struct conf_errors *errors, FILE *to); /* FILE:LINE:COLUMN: text, a line each */
void conf_errors_free(struct conf_errors *errors);

struct conf *conf_acquire(struct conf *conf);
void conf_release(struct conf *conf); /* NULL is allowed */

/* A duration (250ms 10s 5m 1h 7d) or size (512 16kb 256mb 2gb) read strictly. False: not one, or out of range. */
bool conf_duration_parse(struct bytes text, int64_t *ms);
bool conf_size_parse(struct bytes text, uint64_t *bytes);

/* The nearest of some words to a misspelt one, or NULL where none is near (edit distance with transpositions). */
const char *conf_nearest(struct bytes word, const char *const *words, size_t n);

#endif
