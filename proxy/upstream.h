/*
 * Fetches from backends: libcurl's multi-socket interface on one thread's loop, behind gates that all
 * threads share (max_connections, queue).
 *
 * Not for caching, coalescing or what a client is told: that is up to the caller.
 *
 * Ownership  A fetch belongs to the upstream it was started on until `done` has been called or fetch_cancel has
 * returned. What fetch_request points to is copied. Fields and body bytes handed to callbacks are borrowed for the
 * call. Errors     As enum fetch_end in `done`, which is called exactly once, unless the fetch is cancelled. Threads
 * One struct upstream for each loop, used in its thread only. struct backends is shared; its counters are atomic.
 * Standards  RFC 9112 (framing of the answer; a message cut short is never complete), RFC 9110.
 */
#ifndef WEIR_PROXY_UPSTREAM_H
#define WEIR_PROXY_UPSTREAM_H

#include <stdatomic.h>

#include "conf/conf.h"
#include "policies/field.h"
#include "proxy/loop.h"

/* A server's gate and counters, over all threads and reloads (known by backend name and server url). */
struct backend;
struct backends;

struct backends *backends_create(void);
void backends_destroy(struct backends *all);

/* The backend's runtime for a conf's backend: found by name and changed to the new limits, or made. Any one thread at a
 * time (start and reload). The struct backend lives as long as `all`. `conf` is copied as far as needed. */
struct backend *backends_apply(struct backends *all, const struct conf_backend *conf);

struct backend_figures {
    const char *name;
    /* by its last attempts to connect: up (a server was reached), down (none was, or their breakers are open), unknown
     * (not tried yet) */
    const char *state;
    const char *breaker; /* the worst of its servers': closed, half-open (may be tried, or is), open; or off */
    uint64_t in_flight, queued, requests, failures;
};
void backend_figures(struct backend *backend, struct backend_figures *out); /* any thread */

struct log;
struct upstream;
/* log: for what becomes of breakers; NULL: nobody is told. */
struct upstream *upstream_create(struct loop *loop, struct backends *all, struct log *log);
void upstream_destroy(struct upstream *up); /* cancels what is in flight; no callback is called */

enum fetch_end {
    FETCH_OK = 0,
    FETCH_QUEUE_FULL,    /* 503 */
    FETCH_QUEUE_TIMEOUT, /* 503 */
    FETCH_BREAKER_OPEN,  /* 503: its servers fail too often and are left alone; nothing was sent */
    FETCH_CONNECT,       /* 502: refused, unreachable, name not found, TLS not acceptable */
    FETCH_RESET,         /* 502: the connection ended before an answer */
    FETCH_BAD_RESPONSE,  /* 502: not HTTP, a head that is too large (64 KiB), ambiguous framing */
    FETCH_TRUNCATED,     /* the body ended early: short of its Content-Length, no last chunk, a reset */
    FETCH_TIMEOUT,       /* 504: connect, first byte, idle or total */
};
const char *fetch_end_word(enum fetch_end e); /* for logs: "connect", "reset", ... */

struct fetch;

struct fetch_callbacks {
    /* The head of the final answer (never a 1xx). Names are lower case, orig_name holds the origin's case; values are
     * trimmed. Hop-by-hop fields are still in it. content_length < 0: not stated. May call fetch_cancel. */
    void (*head)(struct fetch *f, void *data, int status, struct fields fields, int64_t content_length);
    /* A piece of the body. Returning false pauses the transfer *before* this piece: it is handed out again
     * after fetch_resume. May call fetch_cancel. */
    bool (*body)(struct fetch *f, void *data, struct bytes piece);
    /* The end. The fetch is gone after this returns. */
    void (*done)(struct fetch *f, void *data, enum fetch_end end);
    /* The request goes out now (once for each attempt, but not again after one on a kept connection that turned out
     * dead): for counting. May be NULL. */
    void (*sent)(struct fetch *f, void *data);
    /* An interim response (1xx, never 101) before the head of the final answer, fields as there. All of them and that
     * head together are bounded (ANSWER_HEAD_BYTES_MAX), and first_byte goes on counting. May be NULL. May call
     * fetch_cancel. */
    void (*interim)(struct fetch *f, void *data, int status, struct fields fields);
};

struct fetch_request {
    struct backend *backend;
    struct bytes method;
    struct bytes target;    /* origin form */
    struct bytes authority; /* goes out as Host */
    struct fields fields;   /* everything else that goes out; no Host, no Content-Length, no hop-by-hop */
    struct bytes body;      /* BYTES_NONE: none */
    bool has_body;          /* send Content-Length even when it is 0 */
    bool safe;              /* GET, HEAD, OPTIONS: retried once on a connection that died before an answer.
                               Others are never sent twice */
};

/* Never NULL. Callbacks come later, never from within this call. */
struct fetch *fetch_start(struct upstream *up, const struct fetch_request *request, const struct fetch_callbacks *cb,
                          void *data);
void fetch_cancel(struct fetch *f); /* no further callback; the connection is closed if the answer was not complete */
void fetch_resume(struct fetch *f); /* after body() returned false */
/* In done(), with FETCH_BREAKER_OPEN: how long until the backend may be tried again; 0: not known. */
int64_t fetch_retry_after_ms(const struct fetch *f);

#endif
