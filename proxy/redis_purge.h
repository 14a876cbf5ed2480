/*
 * Purges in Redis: a token is removed (redis_names.h), and with it all records that carry it.
 *
 * A url has a token of its own; by prefix and by tag everything is given up, since nothing in Redis says which records
 * are meant. A purge is owed until Redis has confirmed it, also across an outage; while one is owed, this process takes
 * nothing from Redis that it covers. So nothing older than a purge here is ever read again here. Other instances no
 * longer read it once Redis has been told; what they have in memory they keep.
 *
 * What is owed is bounded: past OWED_MAX everything is given up instead.
 *
 * Threads  Any thread, but for create and destroy (main). All of it is sent from main's loop, in order.
 */
#ifndef WEIR_PROXY_REDIS_PURGE_H
#define WEIR_PROXY_REDIS_PURGE_H

#include "proxy/redis_tier.h"

struct redis_purges *redis_purges_create(struct redis_tier *tier, struct loop *loop);
/* When nobody purges any more. What Redis has not confirmed within a second is lost: a weir that starts later knows
 * nothing of it. */
void redis_purges_destroy(struct redis_purges *p);

/* To be called before memory is purged: a look-up that begins after that finds the purge owed, or done. */
void redis_purge_url(struct redis_tier *tier, struct bytes key_url);
void redis_purge_all(struct redis_tier *tier);

size_t redis_purges_owed(struct redis_purges *p);

/* Is a purge owed that covers this url? */
bool redis_purge_is_owed(struct redis_tier *tier, struct bytes key_url);

#endif
