/*
 * Route match: the most specific wins, whatever the order.
 *
 * A pattern's segments are literals, '*' (exactly one non-empty segment) or, last, '**' (any rest, also an empty one:
 * /api/ ** matches /api, /api/ and /api/x/y). Compared segment by segment from the left: literal > * > **, and a
 * pattern that ends wins over one that goes on with **. Among equals: with host > without, with methods > without.
 * A trailing '/' is an empty literal segment: /a and /a/ differ. Compared with the normalised path.
 *
 * Threads  Built once, then read by any thread.
 */
#ifndef WEIR_POLICIES_ROUTE_H
#define WEIR_POLICIES_ROUTE_H

#include "policies/bytes.h"

struct route_pattern {
    struct bytes path; /* as in conf */
    struct bytes host; /* lower case, without port; empty: any */
    const struct bytes *methods;
    size_t nmethods; /* 0: any */
};

/* NULL when the pattern is well formed, else what is wrong with it. */
const char *route_pattern_check(struct bytes path);

struct route_index;

/* Order of the given patterns is the index that route_find returns. Patterns stay borrowed. Out of memory: NULL. */
struct route_index *route_index_create(const struct route_pattern *patterns, size_t n);
void route_index_destroy(struct route_index *index);

#define ROUTE_NONE ((size_t)-1)   /* no path and host matches */
#define ROUTE_METHOD ((size_t)-2) /* one does, but not for this method */

/* HEAD matches a route that lists GET. host: normalised authority, its port is ignored. */
size_t route_find(const struct route_index *index, struct bytes method, struct bytes host, struct bytes path);

/* <0: a is more specific; 0: the same requests match both (a conf error). */
int route_pattern_compare(const struct route_pattern *a, const struct route_pattern *b);

#endif
