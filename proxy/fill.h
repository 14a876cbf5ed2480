/*
 * A fill: the fetch behind a flight, in its home thread. It belongs to the worker, not to the client that caused it.
 *
 * It asks policies/ what the answer is (to be stored, shared, or the leader's alone), builds the stored response as the
 * origin sends, tells the flight, and stores the result unless a purge came in between.
 *
 * Threads  The home worker's.
 */
#ifndef WEIR_PROXY_FILL_H
#define WEIR_PROXY_FILL_H

#include "proxy/request.h"

/* flight.failure */
enum fill_failure {
    FILL_FETCH_ENDS = 100,   /* below: an enum fetch_end */
    FILL_ORIGIN_ERROR = 100, /* 500, 502, 503 or 504 where a stale response may stand in; flight.failure_status */
    FILL_NO_ROOM,            /* no memory for the answer */
};

/* flight.note while FLIGHT_SHARED or FLIGHT_LEADER: an enum storing. While FLIGHT_DECLINED: */
enum { FILL_FROM_REDIS = 1000 }; /* memory has what Redis had */

/* Starts the fetch for a flight that the calling thread has just made, with what `r` asks for; `cacheable`: the answer
 * may be stored (GET, by rule). */
void fill_start(struct request *r, struct flight *f, bool cacheable);

/* A waiter left or a pause may end. */
void fill_look(struct flight *f);

/* Ends all fetches of a worker that stops. */
void fills_cancel(struct worker *w);

#endif
