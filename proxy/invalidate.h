/*
 * Invalidation by unsafe requests (RFC 9111 section 4.4): drops what is stored for the target, for what the answer
 * names and in the groups that it names. Also: what such names are resolved to.
 *
 * Threads  A worker's.
 */
#ifndef WEIR_PROXY_INVALIDATE_H
#define WEIR_PROXY_INVALIDATE_H

#include "proxy/ask.h"

/* The target, and what the answer names of the same origin (RFC 9111 section 4.4; RFC 9875 section 3). Before the
 * answer is passed on: whoever has seen it finds nothing older. *born, of the fetch: see store_purge_target. */
void invalidate(const struct ask *ask, struct fields answer, uint64_t *born);

/* Does a reference (Content-Location) name what the request asked for (RFC 9110 sections 8.7 and 9.3.3)? */
bool reference_is_target(const struct ask *ask, struct bytes reference);

#endif
