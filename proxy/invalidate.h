/*
 * Invalidation by unsafe requests (RFC 9111 section 4.4): drops what is stored for the target and for what the answer
 * names. Also: what such names are resolved to.
 *
 * Threads  A worker's.
 */
#ifndef WEIR_PROXY_INVALIDATE_H
#define WEIR_PROXY_INVALIDATE_H

#include "proxy/ask.h"

/* Before the answer is passed on: whoever has seen it finds nothing older. */
void invalidate(const struct ask *ask, struct fields answer);

/* Does a reference (Content-Location) name what the request asked for? */
bool reference_is_target(const struct ask *ask, struct bytes reference);

#endif
