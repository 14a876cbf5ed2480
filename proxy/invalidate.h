/*
 * Invalidation by unsafe requests (RFC 9111 section 4.4): drops what is stored for the target and for what the answer
 * names.
 *
 * Threads  A worker's.
 */
#ifndef WEIR_PROXY_INVALIDATE_H
#define WEIR_PROXY_INVALIDATE_H

#include "proxy/ask.h"

/* Before the answer is passed on: whoever has seen it finds nothing older. */
void invalidate(const struct ask *ask, struct fields answer);

#endif
