/*
 * A flight's dealings with Redis: it asks there before the origin is asked, so once for all who wait, and writes there
 * what came of its fetch.
 *
 * What is found goes into memory: a response, fresh or stale, a Vary marker, or word that nobody should wait for this
 * key. Then the flight is over, and those who waited look into memory again, where everything is decided as ever:
 * freshness, age, validation, stale windows, variants. What memory does not take, or has as new already, counts as not
 * found. So nothing is ever served from Redis that would not be served from memory.
 *
 * Not for requests of a user's scope, for ranges, for what flies alone, for routes with no_vary_search, and for keys
 * that hold a hash under this process' own secret: no other process would find them.
 *
 * Ownership  Holds copies of what it is given; borrows the ask and the flight, which the fill keeps.
 * Threads    The worker's.
 */
#ifndef WEIR_PROXY_REDIS_FLIGHT_H
#define WEIR_PROXY_REDIS_FLIGHT_H

#include "proxy/ask.h"

struct redis_flight;

/* in_memory: look there again; else the origin is to be asked. */
typedef void redis_flight_done(void *data, bool in_memory);

/* stale: what memory has, or NULL. request: what would be fetched, kept until then. NULL: Redis is not asked. */
struct redis_flight *redis_flight_start(const struct ask *ask, struct flight *f, const struct stored *stale,
                                        const struct fetch_request *request, redis_flight_done *done, void *data);
const struct fetch_request *redis_flight_request(const struct redis_flight *rf);

/* What has been stored in memory. Not written: what came before a purge, or was fetched without asking here. */
void redis_flight_write(struct redis_flight *rf, struct stored *s);
void redis_flight_write_pass(struct redis_flight *rf, struct bytes key, size_t key_url_n, int why);

void redis_flight_free(struct redis_flight *rf); /* NULL is allowed; cancels what is on its way */

#endif
