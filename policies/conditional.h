/*
 * Conditional requests (RFC 9110 section 13) answered from a stored response, and the validators that
 * go upstream (RFC 9111 section 4.3).
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
    CONDITIONAL_FAILED,       /* 412: If-Match or If-Unmodified-Since */
};

/* Judges a GET or HEAD against a stored 200 response (other statuses are sent as they are: the caller
 * asks only for 200). Precedence as in RFC 9110 section 13.2.2. Names of both are lower case. */
enum conditional conditional_judge(struct fields request, struct fields response, struct wall_s now);

/* Is this response field one that a 304 carries (RFC 9110 section 15.4.5)? All but what describes the content that is
 * not sent: whoever validates here may be a cache, and takes over the fields of the 304. name is lower case. */
bool conditional_in_not_modified(struct bytes name);

#endif
