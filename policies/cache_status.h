/*
 * The Cache-Status field (RFC 9211 section 2): one member, named weir.
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_CACHE_STATUS_H
#define WEIR_POLICIES_CACHE_STATUS_H

#include <stdint.h>

#include "policies/bytes.h"

/* RFC 9211 sections 2.1 and 2.2. */
enum cache_fwd {
    FWD_NONE, /* a hit */
    FWD_URI_MISS,
    FWD_VARY_MISS,
    FWD_STALE,
    FWD_REQUEST,
    FWD_METHOD,
    FWD_BYPASS,
    FWD_MISS,
    FWD_PARTIAL,
};

/* RFC 9211 sections 2.2 to 2.6 and 2.8. */
struct cache_status {
    enum cache_fwd fwd;
    int fwd_status; /* 0: not said. Said where it differs from the status sent */
    bool has_ttl;
    int64_t ttl_s; /* negative when stale */
    bool stored, collapsed;
    const char *detail; /* NULL or a token; left out where it does not fit */
};

#define CACHE_STATUS_MAX 160

/* Writes at most CACHE_STATUS_MAX bytes, no NUL; returns the length. Order: hit or fwd, fwd-status, ttl, stored,
 * collapsed, detail. */
size_t cache_status_format(const struct cache_status *s, char out[CACHE_STATUS_MAX]);

#endif
