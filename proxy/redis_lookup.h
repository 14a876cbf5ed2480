/*
 * One look-up in Redis: the record of a key, and the tokens that count now (redis_names.h).
 *
 * A record is found only if it is whole, of this very key, and no purge has come since its fetch began. Tokens that are
 * missing are made, so that what is fetched next can be written with them; that is the only case of a second round
 * trip.
 *
 * Ownership  The look-up is the caller's, who keeps it until `done` or redis_lookup_cancel. The key is copied. What is
 *            found is borrowed for the call.
 * Errors     None: without an answer within `timeout`, in all, nothing is found.
 * Threads    The worker's.
 */
#ifndef WEIR_PROXY_REDIS_LOOKUP_H
#define WEIR_PROXY_REDIS_LOOKUP_H

#include "cache/record.h"
#include "proxy/redis_names.h"
#include "proxy/redis_tier.h"

struct redis_found {
    const struct record_epoch *epoch; /* NULL: not known; nothing is to be written */
    const struct record *record;      /* NULL: none */
};

struct redis_lookup {
    void (*done)(struct redis_lookup *l, const struct redis_found *found);
    struct redis_thread *thread;
    char *key;
    size_t key_n, key_url_n;
    struct redis_name all, url, name;
    struct redis_call get, set_all, set_url;
    struct record_epoch epoch;
    bool has_all, has_url;
    struct timer limit;
};

/* False: Redis is not to be asked now; `done` is not called. It never is from within this call. */
bool redis_lookup_start(struct redis_lookup *l, struct redis_thread *t, struct bytes key, size_t key_url_n) MUST_USE;
void redis_lookup_cancel(struct redis_lookup *l);

#endif
