/*
 * The gate between libh2o and the rest: every request is validated here before anything else sees it, and leaves
 * as plain fields. libh2o 2.2.5 accepts duplicate and conflicting Content-Length, Transfer-Encoding and Host, folds,
 * bare LF, any method bytes, absolute targets, a client's own :scheme, empty HTTP/2 names, any number of HTTP/2 fields;
 * policies/request_check.h says what is refused.
 *
 * Ownership  What guarded points to lives as long as the request (its pool or libh2o's input).
 * Threads    The request's own.
 */
#ifndef WEIR_PROXY_GUARD_H
#define WEIR_PROXY_GUARD_H

#include <h2o.h>

#include "policies/request_check.h"

struct guarded {
    struct bytes method;
    bool head, get;
    bool https; /* from the socket, never from the client */
    bool http2;
    struct bytes authority; /* normalised (uri.h) */
    struct bytes path;      /* normalised; begins with '/' */
    struct bytes query;     /* raw, without '?' */
    bool has_query;
    struct fields fields; /* names lower case; without Host */
    struct bytes body;
    bool has_body; /* there was a Content-Length or a chunked body */
};

/* Status 0: fine. Otherwise the request is to be answered with that status, only method, head, get, https, http2 and
 * body are set, and on HTTP/1 and for 431 the connection has been marked by guard_close_after. After a chunked request
 * body the HTTP/1 connection is marked to be closed after the answer (its framing is parsed laxly by libh2o). */
struct request_verdict guard_check(h2o_req_t *req, const struct request_limits *limits, struct guarded *out);

/* Marks the connection to be closed after this answer: HTTP/1 by `Connection: close`, HTTP/2 by a GOAWAY-less shutdown
 * once the answer is out or 1 s has passed. */
void guard_close_after(h2o_req_t *req);

/* Puts weir's own chunked encoder in the place of libh2o's, which only encodes status 200 and ends a broken answer
 * cleanly. Once, on the one path of each globalconf, right after h2o_config_register_path. An HTTP/1.0 or
 * close-delimited answer that breaks ends in a TCP reset. */
void chunked_install(h2o_pathconf_t *path);

#endif
