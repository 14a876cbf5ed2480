/*
 * What a client's Cache-Control asks of a cache (RFC 9111 section 5.2.1), where the route honours it.
 *
 * Threads  Pure, any thread. Ages and lifetimes in milliseconds.
 */
#ifndef WEIR_POLICIES_CLIENT_WISH_H
#define WEIR_POLICIES_CLIENT_WISH_H

#include "policies/freshness.h"

struct client_wish {
    bool no_store;       /* what is fetched for it is not stored; what is stored may answer it (section 5.2.1.5) */
    bool only_if_cached; /* nothing is fetched for it: 504 (section 5.2.1.7) */
    bool no_cache;       /* section 5.2.1.4; also Pragma: no-cache without a Cache-Control (section 5.4) */
    int64_t max_age_s, min_fresh_s, max_stale_s; /* < 0: not asked for (sections 5.2.1.1 to 5.2.1.3) */
};

struct client_wish client_wish_of(struct fields request);

/* What of `reuse`, the answer without a wish, is left: a wish may ask for validation of what is fresh, or put up with
 * what is stale where the origin has not forbidden that (RFC 9111 section 4.2.4). */
enum reuse client_wish_reuse(const struct client_wish *wish, const struct lifetimes *l, int64_t age_ms,
                             enum reuse reuse);

#endif
