/*
 * Cache-Control directives of a request or a response (RFC 9111 section 5.2, RFC 5861 sections 3 and 4, RFC
 * 8246 section 2).
 *
 * Not for targeted fields (RFC 9213), which are Structured Fields and parsed apart (targeted.h).
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
    bool present;  /* there was a Cache-Control field at all */
    bool targeted; /* they are a targeted field's: Cache-Control and Expires do not count (RFC 9213 section 2.2) */
    bool no_store, no_cache, private_, public_, must_revalidate, proxy_revalidate, must_understand, no_transform,
        immutable, only_if_cached;
    /* no_cache and private_ are the bare forms; these are true instead when there was only the form with field names
     * (one readable list; anything else counts as the bare form). */
    bool no_cache_qualified, private_qualified;
    struct bytes no_cache_fields, private_fields;
    int64_t max_age_s, s_maxage_s, stale_while_revalidate_s, stale_if_error_s, min_fresh_s;
    int64_t max_stale_s; /* INT64_MAX: without a value, any staleness */
};

/* All Cache-Control lines of the message together. An unreadable max-age, s-maxage, stale-while-revalidate or
 * stale-if-error counts as 0 (RFC 9111 section 4.2.1: treat as stale), an unreadable min-fresh or max-stale as absent;
 * of duplicates the smallest value counts, which is never fresher than the first, as that section has it. The lists of
 * field names borrow from the fields. */
struct cache_control cache_control_parse(struct fields fields);

/* For other fields that hold directives (targeted.h): none so far; the next member of a list, trimmed and maybe empty,
 * taken off a rest that is not (*open: false before the first); one directive added as above (false: it is not known);
 * delta-seconds, which saturate; can that be read as a list of field names? */
struct cache_control cache_control_none(void);
struct bytes cache_control_member_next(struct bytes *rest, bool *open);
bool cache_control_add(struct cache_control *cc, struct bytes directive);
bool cache_control_seconds_read(struct bytes s, int64_t *out);
bool cache_control_is_names(struct bytes names);

/* Is that field name (any case) in a list of field names such as no_cache_fields (RFC 9111 section 5.2.2.4)? */
bool cache_control_lists(struct bytes names, struct bytes name);

#endif
