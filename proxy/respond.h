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

/* What the proxy has made of the head of stored responses: its fields as libh2o takes them. A hit copies pointers, and
 * fills in where the response's own values lie. */
struct prepared {
    uint32_t nheaders;
    uint16_t *own_at;      /* to which header each of the response's own values belongs */
    bool *in_not_modified; /* does a 304 carry it? of each header */
    h2o_header_t headers[];
};

extern const struct head_preparation prepared_heads;

/* Sends `s` (a reference is taken); from a flight while the request's waiter is joined. Conditional requests are
 * answered 304 where that is right, requests for a range 206 or 416. What is complete goes out in the coding that the
 * client wants most, where it is there (forms.h). r->status and r->outcome are set. age_ms <
 * 0: no Age. The answer may wait
 * until it is whole, or a form of it made. False, and nothing has happened: its body is being passed through and its
 * beginning is gone. */
bool respond_stored(struct request *r, struct stored *s, int64_t age_ms);

/* The same, for a request that has waited for a form of `s` (forms.h). */
void respond_again(struct request *r, struct stored *s, int64_t age_ms);

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
