/*
 * How long a response is fresh and how old it is (RFC 9111 sections 4.2.1 to 4.2.4, RFC 5861), with a
 * tier's word where the origin states no lifetime of its own.
 *
 * Threads  Pure, any thread. All durations in milliseconds.
 */
#ifndef WEIR_POLICIES_FRESHNESS_H
#define WEIR_POLICIES_FRESHNESS_H

#include "policies/cache_control.h"
#include "policies/clock.h"

/* What a tier says (conf `ttl:`). < 0: the tier does not say.
 *
 * A tier's lifetime is for responses whose origin states none, and counts from receipt. Its entry for the status counts
 * first (the narrowest range: 404 before 4xx). Without one, fresh_ms is for the heuristically cacheable statuses (RFC
 * 9110 section 15.1: 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501) and for what the origin calls public;
 * a 302 or a 500 is kept only where an entry or the origin says so. */
struct tier_status {
    int first, last; /* inclusive range of status codes */
    int64_t fresh_ms;
};

struct tier {
    const char *name;
    int64_t fresh_ms;
    int64_t stale_while_revalidate_ms, stale_if_error_ms;
    unsigned jitter_percent; /* 0..100: shortens any lifetime by up to that much, never lengthens it */
    const struct tier_status *statuses;
    size_t nstatuses;
};

/* Which rule gave the lifetime. */
enum lifetime_rule {
    LIFETIME_NONE, /* nothing did: it is stale at once */
    LIFETIME_TARGETED,
    LIFETIME_S_MAXAGE,
    LIFETIME_MAX_AGE,
    LIFETIME_EXPIRES,
    LIFETIME_TIER_STATUS,
    LIFETIME_TIER,
    LIFETIME_HEURISTIC,
};
/* For people: what that rule is called. */
const char *freshness_rule_word(enum lifetime_rule rule);

struct lifetimes {
    int64_t fresh_ms;                  /* freshness lifetime, counted in current age: one that a tier gave has
                                        * initial_age_ms added, so that it counts from receipt */
    int64_t stale_while_revalidate_ms; /* 0: none. Counted from the end of the freshness lifetime */
    int64_t stale_if_error_ms;
    int64_t initial_age_ms; /* corrected_initial_age at response_time */
    uint8_t rule;           /* enum lifetime_rule */
    bool explicit_;         /* the origin stated the lifetime */
    bool revalidate_always; /* no-cache: never used without validation */
    bool must_revalidate;   /* once stale never used without validation (must-revalidate, proxy-revalidate, s-maxage) */
};

struct freshness_facts {
    int status;
    struct fields fields; /* of the response, as the origin sent them */
    const struct cache_control *cc;
    const struct tier *tier; /* NULL: none */
    bool ignore_origin;      /* origin_cache_control: ignore: the tier alone decides */
    bool user_scope;         /* a private cache for one user: s-maxage and proxy-revalidate do not bind */
    struct wall_s request_time, response_time;
    int64_t response_delay_ms; /* monotonic time between request and response */
    uint32_t random;           /* for jitter: any value, uniformly distributed */
};

struct lifetimes freshness_of(const struct freshness_facts *facts);

/* current_age of RFC 9111 section 4.2.3, never negative. */
int64_t freshness_age_ms(const struct lifetimes *l, struct mono_ms response_time, struct mono_ms now);

enum reuse {
    REUSE_FRESH,                  /* send it */
    REUSE_STALE_WHILE_REVALIDATE, /* send it, and refresh behind the client's back */
    REUSE_VALIDATE,               /* ask the origin first */
    REUSE_CLIENT_STALE,           /* send it: the client puts up with it (client_wish.h) */
};
/* Fresh while the lifetime is above the current age (RFC 9111 section 4.2); then stale-while-revalidate (RFC 5861
 * section 3). */
enum reuse freshness_reuse(const struct lifetimes *l, int64_t age_ms);

/* Is an answer with this status an origin's failure (RFC 5861 section 4): 500, 502, 503, 504? */
bool freshness_is_error(int status);

/* May it stand in for an origin that failed (RFC 5861 section 4)? */
bool freshness_stale_if_error(const struct lifetimes *l, int64_t age_ms);

/* The age from which on it is past every window: nothing will use it, but for validation. 0 under revalidate_always. */
int64_t freshness_useful_ms(const struct lifetimes *l);

/* Is it time to refresh what is fresh for `left_ms` yet, when a fetch takes `fetch_ms`? Probably not, the more probably
 * the nearer its end is: XFetch (Vattani, Chierichetti, Lowenstein 2015, Optimal Probabilistic Cache Stampede
 * Prevention) with beta 1. random: any value, uniformly distributed. */
bool freshness_refresh_early(int64_t left_ms, int64_t fetch_ms, uint64_t random);

/* The Age field's value: whole seconds, at most 2^31 (RFC 9111 sections 5.1 and 1.2.2). */
int64_t freshness_age_field(int64_t age_ms);

#endif
