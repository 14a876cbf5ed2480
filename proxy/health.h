/*
 * What weir says of itself: /health and /health/cache (CONFIG's admin listener), and the hit rates of the last minutes.
 *
 * Threads  rates_tick in the main thread, once a second; the rest in any.
 */
#ifndef WEIR_PROXY_HEALTH_H
#define WEIR_PROXY_HEALTH_H

#include "proxy/request.h"

struct rates;
struct rates *rates_create(void);
void rates_destroy(struct rates *rates);
void rates_tick(struct rates *rates, struct shared *shared);

/* JSON, to be freed by the caller; *status is the answer's. */
char *health_json(struct shared *shared, int *status);
char *health_cache_json(struct shared *shared, const struct snapshot *snapshot, struct mono_ms now);

/* expose_health: answers GET and HEAD of /health and /health/cache on a public listener; false: something else was
 * asked for. */
bool health_public(struct request *r);

#endif
