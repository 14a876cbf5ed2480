/*
 * Answers: head and body towards libh2o, from stored responses (complete or still arriving) or made by weir
 * (problem+json, RFC 9457).
 *
 * Threads  The request's worker.
 */
#ifndef WEIR_PROXY_RESPOND_H
#define WEIR_PROXY_RESPOND_H

#include "policies/part.h"
#include "proxy/request.h"

/* What hangs off a stored response for the proxy: its fields as libh2o takes them, so that a hit copies pointers only.
 */
struct prepared {
    int64_t date_s;
    _Atomic int64_t refresh_after_ms; /* hold-down after a failed refresh: mono time before which none is tried */
    _Atomic unsigned refresh_failures;
    uint32_t early_ms;      /* how long its fetch took, where it is to be refreshed early; else 0 */
    _Atomic bool withdrawn; /* not offered to the origin beside others any more (proxy/selection.h) */
    uint32_t nheaders;
    h2o_header_t headers[];
};

size_t prepared_bytes(size_t nfields);
/* Once, by the builder. date: of the origin, or the response time. */
void prepared_fill(struct stored *s, struct wall_s date);

static inline struct prepared *prepared_of(struct stored *s)
{
    return s->prepared;
}

/* Sends `s` (a reference is taken); from a flight while the request's waiter is joined. Conditional requests are
 * answered 304 where that is right, requests for a range 206 or 416. r->status and r->outcome are set. age_ms <
 * 0: no Age. False, and nothing has happened: its body is being passed through and its beginning is gone. */
bool respond_stored(struct request *r, struct stored *s, int64_t age_ms);

/* Which bytes of `s` the request asks for: the whole where it is no GET, has no Range, or goes alone. */
enum part_verdict respond_choose_part(struct request *r, struct stored *s, struct part *part);

/* More of the body may be there. */
void respond_more(struct request *r);

/* weir's own answer to OPTIONS: 204 with r->allow. */
void respond_options(struct request *r);

/* weir's own answer. retry_after_s < 0: none. r->allow is sent where it is set. */
void respond_problem(struct request *r, int status, const char *detail, int retry_after_s);

/* The client has gone: ends the request and its connection. Not counted. */
void respond_to_nobody(struct request *r);

/* The client has gone while its answer, which has begun, waited for more: ends the request and its connection. */
void respond_to_gone(struct request *r);

/* A small body of weir's own (health). */
void respond_text(struct request *r, int status, struct bytes content_type, struct bytes body);

const char *status_reason(int status);

/* The answer waits for weir (the origin), not for the client, or no longer does: for the connection's progress timer.
 */
void request_waiting(struct request *r, bool waiting);
/* No longer looks whether the client leaves. */
void request_unwatch(struct request *r);

#endif
