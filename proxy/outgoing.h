/*
 * The request that goes to the origin: the client's end-to-end fields, what a proxy adds (RFC 9110 section 7.6, RFC
 * 7239), validators.
 *
 * Ownership  What it points to lives in the request's pool or in the stored response.
 * Threads    The request's worker.
 */
#ifndef WEIR_PROXY_OUTGOING_H
#define WEIR_PROXY_OUTGOING_H

#include "proxy/ask.h"

enum { OUTGOING_FIELDS_MAX = 128 };

struct outgoing {
    struct field v[OUTGOING_FIELDS_MAX];
    size_t n;
};

/* What goes along besides the request's own fields. */
struct outgoing_extra {
    const struct stored *validate; /* whose validators; NULL: none's */
    struct bytes tags;             /* If-None-Match, where nothing is to be validated */
    struct bytes range;            /* Range; empty: none */
    struct bytes if_range;         /* with a range: only of this representation; empty: whatever it is */
};

void outgoing_collect(struct request *r, const struct ask *ask, const struct outgoing_extra *extra,
                      struct outgoing *out);
/* Has it a field by which an origin may take another method, host or path for what was meant? The key does not hold it.
 */
bool outgoing_has_override(struct fields request);
/* The target as the backend knows it. */
struct bytes outgoing_target(struct request *r);

#endif
