/*
 * Stored parts of a body put together (RFC 9111 section 3.4).
 *
 * Ownership  What is returned is a reference of the caller's. Errors NULL or false: no room, or they are not of a kind.
 * Threads    The one whose store_thread it is; the parts' bodies are complete.
 */
#ifndef WEIR_PROXY_PARTS_H
#define WEIR_PROXY_PARTS_H

#include "cache/store.h"

/* Copies the body of `from`, from `offset` on, to the end of `to`'s. */
bool parts_append(struct store_thread *t, struct stored *to, struct stored *from, uint64_t offset,
                  struct mono_ms now) MUST_USE;

/* Two stored 206 of one key, the second newer, that touch or overlap and have the same strong validator (RFC 9111
 * section 3.4): one that holds the bytes of both with the head of the newer one, and is a 200 when nothing is missing
 * any more. */
struct stored *parts_join(struct store_thread *t, struct stored *older, struct stored *newer, struct mono_ms now,
                          struct wall_s wall, uint64_t bytes_max) MUST_USE;

#endif
