/*
 * The tags that an answer carries, as the store keeps them.
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_PROXY_TAGGING_H
#define WEIR_PROXY_TAGGING_H

#include "cache/tag.h"
#include "policies/groups.h"

/* Surrogate-Key, Cache-Tag, and Cache-Groups (RFC 9875 section 2). */
void tagging_read(const struct store *store, struct fields fields, struct tags *out);

#endif
