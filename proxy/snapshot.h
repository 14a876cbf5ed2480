/*
 * The running configuration: conf's snapshot with what the proxy needs beside it (route index, backends, counters),
 * swapped as one by a reload. A request keeps the one it began with.
 *
 * Ownership  Counted atomically between threads. In a thread, requests count on the thread's own struct hold, so that
 * they share no cache line. Threads    snapshot_create in the main thread; holds in their own thread.
 */
#ifndef WEIR_PROXY_SNAPSHOT_H
#define WEIR_PROXY_SNAPSHOT_H

#include "conf/conf.h"
#include "policies/request_check.h"
#include "proxy/counters.h"
#include "proxy/upstream.h"

struct snapshot_route {
    const struct conf_route *conf;
    struct backend *backend;
    struct route_counters *counters;
};

struct snapshot {
    _Atomic unsigned refs;
    struct conf *conf;
    struct route_pattern *patterns; /* the index borrows them */
    struct route_index *index;
    struct snapshot_route *routes; /* conf->nroutes */
    struct request_limits limits;
};

/* Takes over the caller's reference to conf. NULL: out of memory. */
struct snapshot *snapshot_create(struct conf *conf, struct counters *counters);
/* Applies its backends, which changes those that are in use: the last step before it is in force. */
void snapshot_connect(struct snapshot *s, struct backends *backends);
void snapshot_retain(struct snapshot *s);
void snapshot_release(struct snapshot *s);

/* The name of a route, for counters, logs and people: its path; where others have the same path its methods and host,
 * too. */
size_t snapshot_route_name(const struct conf_route *route, char *out, size_t cap);

struct hold {
    struct snapshot *snapshot;
    unsigned users; /* requests and fetches of this thread, and 1 while it is the current one */
};

struct hold *hold_create(struct snapshot *s); /* takes a reference; users is 1 */
struct hold *hold_use(struct hold *h);
void hold_drop(struct hold *h);

#endif
