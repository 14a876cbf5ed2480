/*
 * Which bytes of a stored response answer a request, and what is missing of a stored part (RFC 9110 section 14, RFC
 * 9111 sections 3.3 and 3.4).
 *
 * A stored part is a 206 with one range, kept with its Content-Range. Its body may be shorter than the range that the
 * origin claims for it: then it is used alone, never put together with another.
 * Not for multipart/byteranges: a request for several ranges gets the whole.
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_PART_H
#define WEIR_POLICIES_PART_H

#include "policies/range.h"

/* What is known of a response. */
struct part_facts {
    int status;
    struct fields fields; /* of the response */
    int64_t length;       /* of its body; -1: not known yet */
};

enum part_verdict {
    PART_WHOLE,         /* send it as it is */
    PART_SOME,          /* 206 with *out */
    PART_UNSATISFIABLE, /* 416 with out->range */
    PART_MISSING,       /* a stored part that does not hold what is asked for */
};

struct part {
    uint64_t offset, n; /* in the body */
    struct content_range range;
};

/* For GET (RFC 9110 section 14.2). A response that is no 200 and no 206, one whose length is not known yet, and a
 * request whose If-Range does not hold (section 13.1.5): the whole. */
enum part_verdict part_choose(struct fields request, const struct part_facts *response, struct wall_s now,
                              struct part *out);

/* May that 206 be stored (RFC 9111 section 3.3): one range, and a body that is not longer than it says? */
bool part_is_storable(const struct part_facts *response);

enum part_gap {
    PART_GAP_NONE, /* not to be completed by one more range */
    PART_GAP_TAIL, /* its beginning is there */
    PART_GAP_HEAD, /* its end is there */
};

/* What a stored part lacks, as the range to be asked for (RFC 9111 section 3.3). *out is set unless PART_GAP_NONE. */
enum part_gap part_gap(const struct part_facts *part, struct content_range *out);

/* Do two parts of one representation overlap or touch (RFC 9111 section 3.4)? *out: what they cover together; *tail:
 * where in the second body the bytes begin that the first does not hold, when the second goes on where the first ends
 * (first->first is not after the second's). */
bool part_joins(const struct part_facts *first, const struct part_facts *second, struct content_range *out,
                uint64_t *tail);

#endif
