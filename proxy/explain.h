/*
 * What weir would do with a request, without sending anything: route, tier, scope, the key's parts, and whether it is
 * stored.
 *
 * Threads  Any with a snapshot.
 */
#ifndef WEIR_PROXY_EXPLAIN_H
#define WEIR_PROXY_EXPLAIN_H

#include <jansson.h>

#include "proxy/worker.h"

struct explain_request {
    struct bytes method, url;
    struct fields fields; /* names lower case */
};

/* A new JSON object, or NULL and why (constant text). `store` NULL: memory is not looked at (nothing runs). */
json_t *explain(const struct conf *conf, const struct route_index *index, const struct explain_request *q,
                struct shared *shared, struct store_thread *store, struct mono_ms now, const char **why);

/* The route of an absolute URL, as route_find says it; ROUTE_NONE also where it is no URL. */
size_t explain_route(const struct route_index *index, struct bytes method, struct bytes url);

/* For people: a line for each fact. */
void explain_print(json_t *explanation, FILE *to);

#endif
