/*
 * Strict validation of requests, before anything else sees them (RFC 9110, 9112, 9113; what libh2o lets
 * through is listed in proxy/guard.h).
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_REQUEST_CHECK_H
#define WEIR_POLICIES_REQUEST_CHECK_H

#include <stdint.h>

#include "policies/field.h"

struct request_limits {
    size_t header_bytes_max; /* names, values and the target together, 32 a field added (as RFC 9113 section 6.5.2
                                counts) */
    size_t fields_max;
    uint64_t body_bytes_max;
};

struct request_line {
    bool http2;
    struct bytes method, target, authority;
};

struct request_verdict {
    int status;      /* 0: fine; else 400, 405, 413, 414, 417, 431, 501, 505 */
    const char *why; /* one line for the problem's detail */
};

/* RFC 9110 section 5.6.2: a method, a field name. */
bool token_valid(struct bytes token);

/* Both protocols: method token, target in origin form (bytes 0x21-0x7e, no '#') or absolute form on HTTP/1 (the caller
 * splits it first), field names (tokens; lower case on HTTP/2) and values (no CR, LF, NUL, other controls
 * than HTAB), forbidden connection-specific fields on HTTP/2 (RFC 9113 section 8.2.2; te: trailers is fine), sizes.
 * CONNECT, TRACE and "*" are refused. The authority is for uri_authority_normalize to judge. */
struct request_verdict request_check(const struct request_line *line, struct fields fields,
                                     const struct request_limits *limits);

/* HTTP/1 only: the raw head once more, from the request line up to and including the empty line: bare LF, bare CR,
 * folds, whitespace before a colon, more than one Content-Length, Transfer-Encoding or Host, both of the first two, a
 * Transfer-Encoding other than exactly "chunked" or on HTTP/1.0, none or an empty Host on HTTP/1.1, a version other
 * than 1.0 and 1.1, other blanks than two in the request line. What follows the empty line (a body, the next request)
 * is not looked at, so the whole input buffer may be given. */
struct request_verdict request_check_raw_head(struct bytes head);

#endif
