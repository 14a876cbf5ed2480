/*
 * One client request's way: route, key, memory, flight, answer.
 *
 *     begin -> refused / problem
 *           -> hit                     (memory: fresh, or stale within its windows)
 *           -> joined a flight         (parked, woken by flight.h)
 *                 -> sending           (streams from the flight's response)
 *                 -> let go            (begins again, or goes alone)
 *           -> alone                   (bypass: a flight of its own)
 *     any   -> disposed                (libh2o: the answer is out, or the client has gone)
 *
 * Ownership  Lives in the h2o request's pool; its dispose is the one place where everything is given back.
 * Threads    The worker's.
 */
#ifndef WEIR_PROXY_REQUEST_H
#define WEIR_PROXY_REQUEST_H

#include "policies/cache_status.h"
#include "policies/client_wish.h"
#include "proxy/guard.h"
#include "proxy/worker.h"

struct form_wait;
struct packer;
struct selection;

struct request {
    h2o_generator_t generator; /* first: libh2o hands it back */
    h2o_req_t *req;
    struct worker *worker;
    struct hold *hold;
    const struct snapshot_route *route; /* NULL: none matched */
    struct connection *connection;
    struct guarded in;
    uint64_t begin_us;

    /* what it asks for */
    struct key key; /* on a route with no_vary_search: as reduced by what is known of the path */
    struct key own; /* by its own query; it is reduced where `key` lies somewhere else */
    struct key_hash hash;
    struct bytes variant; /* whole variant key, once the spec is known; else empty */
    struct key_hash variant_hash;
    bool user_scope;
    struct client_wish wish;                      /* nothing, where the route does not honour it */
    bool personal_authorization, personal_cookie; /* on what is shared */
    unsigned char user[USER_HASH_BYTES];

    /* how it is answered */
    struct flight_waiter waiter;
    struct interim *interim; /* interim responses so far; NULL: none was passed on */
    struct hangup hangup;
    struct timer parked_long;  /* from then on the client's leaving is watched for */
    struct stored *stale;      /* to be validated, or to fall back on */
    const struct stored *seen; /* what the last look found, only to be compared with */
    struct stored *partial;    /* a fresh part that does not hold what is asked for */
    struct bytes range;        /* "bytes=...": what its flight asks for; empty: everything */
    struct stored *sending;
    struct stored_reader reader;
    uint64_t skip, left;    /* of the body: to be passed over, to be sent (UINT64_MAX: to its end) */
    size_t in_flight_bytes; /* handed to libh2o, packed or not, and not yet known to be written */
    struct packer *packer;  /* the body goes out through this; NULL: as it is */
    enum coding coding;     /* where `recoded` says so */
    struct cache_status status;
    struct bytes allow;       /* for 405 and OPTIONS */
    struct bytes unsatisfied; /* Content-Range, for 416 */
    enum outcome outcome;
    unsigned rounds;   /* how often it began again */
    bool looked_again; /* ... because something was stored while it looked: that happens once */
    struct request *restart_next;
    struct form_wait *form_wait; /* what it waits for is being made; NULL: nothing */
    bool hangup_on, waiting, reading, parked, started, finished, restarting;
    bool unlisted;       /* not counted: it asks for the counters */
    bool broken_off;     /* by weir, for want of the rest: no reset of the client's */
    bool may_answer_get; /* a POST whose answer may be stored for GET, if it says so */
    bool alone;          /* its flight is its own: nobody joins, conditions go to the origin */
    bool refreshing;     /* a stale answer goes out while a fill is started in its name */
    bool waited_for_form;
    bool recoded;      /* the answer's fields are those of `coding`, whatever s is in */
    bool awaits_whole; /* the answer is to come whole before it goes out */
    bool as_it_comes;  /* it did once, in vain */
    bool let_go;       /* what it waited for is not for it: no more waiting */
    bool from_redis;   /* what memory has now came from there while it waited */
};

/* libh2o's one handler. */
int request_handle(h2o_handler_t *self, h2o_req_t *req);

/* The answer, or more of it, waits for the origin: counted as that, and an HTTP/1 client that leaves meanwhile is
 * noticed. request_waiting and request_unwatch (proxy/respond.h) end it. */
void request_park(struct request *r);

/* What is looked for among the variants, once r->variant is known. */
struct selection request_selection(const struct request *r);

/* Runs what was put off by request_restart. */
void requests_restart(struct worker *w);

#endif
