/*
 * Cache-Control directives of a request or a response (RFC 9111 section 5.2, RFC 5861, RFC 8246).
 *
 * Not for Targeted fields (RFC 9213), which are Structured Fields and parsed apart.
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_CACHE_CONTROL_H
#define WEIR_POLICIES_CACHE_CONTROL_H

#include <stdint.h>

#include "policies/field.h"

/* Largest delta-seconds we distinguish (RFC 9111 section 1.2.2). */
#define DELTA_SECONDS_MAX INT64_C(2147483648)

/* A delta: < 0 means that the directive is absent. */
struct cache_control {
    bool present; /* there was a Cache-Control field at all */
    bool no_store, no_cache, private_, public_, must_revalidate, proxy_revalidate, must_understand, no_transform,
        immutable, only_if_cached;
    bool no_cache_qualified, private_qualified; /* only in the form with field names: see the raw lists */
    struct bytes no_cache_fields, private_fields;
    int64_t max_age_s, s_maxage_s, stale_while_revalidate_s, stale_if_error_s, min_fresh_s;
    int64_t max_stale_s; /* INT64_MAX: without a value, any staleness */
};

/* All Cache-Control lines of the message together. An unreadable max-age or s-maxage counts as 0
 * (RFC 9111 section 4.2.1: treat as stale); of duplicates the smallest value counts. */
struct cache_control cache_control_parse(struct fields fields);

#endif
