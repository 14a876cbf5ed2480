/*
 * What is done about content codings for a request, and why: a part of what explain.h says.
 *
 * Threads  Any with a snapshot.
 */
#ifndef WEIR_PROXY_EXPLAIN_CODING_H
#define WEIR_PROXY_EXPLAIN_CODING_H

#include <jansson.h>

#include "cache/stored.h"
#include "conf/conf.h"

/* A new JSON object. `s` NULL: nothing that is stored is known; cached: something may be. */
json_t *explain_coding(const struct conf_route *route, struct fields request, bool user_scope, bool cached,
                       const struct stored *s);

#endif
