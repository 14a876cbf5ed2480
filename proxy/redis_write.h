/*
 * What goes into Redis, behind the clients' backs: nobody waits for it, and nothing is lost with it but hits.
 *
 * Writes wait in a bounded queue, and only so much of them is on its way at a time: a look-up on the same connection
 * comes after a record at most, not after a megabyte of them. What does not fit into the queue is dropped; so is all of
 * it when the connection ends.
 *
 * Ownership  A write holds its response, and encodes it when it goes out. All else is copied.
 * Threads    The worker's.
 */
#ifndef WEIR_PROXY_REDIS_WRITE_H
#define WEIR_PROXY_REDIS_WRITE_H

#include "cache/record.h"
#include "proxy/redis_tier.h"

enum { REDIS_BODY_MAX = 1024 * 1024 };

struct redis_writer *redis_writer_create(struct redis_thread *t);
void redis_writer_destroy(struct redis_writer *writer); /* after the link */

/* A complete response, under its own key. Redis keeps it until nothing could use it any more. */
void redis_write_response(struct redis_thread *t, const struct record_epoch *epoch, struct stored *s);
/* The key's responses vary on these names; kept for a day. */
void redis_write_vary(struct redis_thread *t, const struct record_epoch *epoch, struct bytes key, size_t key_url_n,
                      struct bytes spec);
/* Nobody is to wait for this key for so long (hit-for-miss). */
void redis_write_pass(struct redis_thread *t, const struct record_epoch *epoch, struct bytes key, size_t key_url_n,
                      int why, int64_t ms);

#endif
