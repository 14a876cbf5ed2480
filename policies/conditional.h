/*
 * Conditional requests (RFC 9110 section 13) answered from a stored response (RFC 9111 section 4.3.2).
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_CONDITIONAL_H
#define WEIR_POLICIES_CONDITIONAL_H

#include "policies/clock.h"
#include "policies/field.h"

enum conditional {
    CONDITIONAL_SEND,         /* no condition, or it holds: send the response as it is */
    CONDITIONAL_NOT_MODIFIED, /* 304 */
};

/* Where in a request the conditions are that a cache judges; the number of its fields where one is not. */
struct conditions {
    size_t if_none_match, if_modified_since;
    bool modified_since_twice;
};

/* False: there is none. Names are lower case. */
bool conditions_find(struct fields request, struct conditions *c);

/* What they are compared with. Only If-None-Match asks for the tag, and only where there is none for the others. */
struct validators {
    struct bytes etag, last_modified; /* empty: the response has none */
    struct wall_s date; /* the origin's, or the time of the receipt: stands in for a missing Last-Modified */
};

/* Judges If-None-Match, else If-Modified-Since (RFC 9110 section 13.2.2) of a GET or HEAD against a stored 200 or 206
 * (RFC 9111 section 4.3.2: the caller asks only for these). */
enum conditional conditional_judge(struct fields request, const struct conditions *c, const struct validators *stored,
                                   struct wall_s now);

/* Is there an If-Match or If-Unmodified-Since? These are for origin servers, and a cache must not evaluate them (RFC
 * 9110 section 13.2.2, RFC 9111 section 4.3.2): such a request is the origin's to answer. */
bool conditional_for_origin(struct fields request);

/* Is this response field one that a 304 carries (RFC 9110 section 15.4.5)? All but what describes the content that is
 * not sent: whoever validates here may be a cache, and takes over the fields of the 304. name is lower case. */
bool conditional_in_not_modified(struct bytes name);

#endif
