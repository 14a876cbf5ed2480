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

/* Judges If-None-Match, else If-Modified-Since (RFC 9110 section 13.2.2) of a GET or HEAD against a stored 200 or 206
 * (RFC 9111 section 4.3.2: the caller asks only for these). The stored response has a Date, the origin's or the time of
 * its receipt: it stands in for a missing Last-Modified. Names of both are lower case. */
enum conditional conditional_judge(struct fields request, struct fields response, struct wall_s now);

/* Is there anything for conditional_judge to judge? */
bool conditional_is_asked(struct fields request);

/* Is there an If-Match or If-Unmodified-Since? These are for origin servers, and a cache must not evaluate them (RFC
 * 9110 section 13.2.2, RFC 9111 section 4.3.2): such a request is the origin's to answer. */
bool conditional_for_origin(struct fields request);

/* Is this response field one that a 304 carries (RFC 9110 section 15.4.5)? All but what describes the content that is
 * not sent: whoever validates here may be a cache, and takes over the fields of the 304. name is lower case. */
bool conditional_in_not_modified(struct bytes name);

#endif
