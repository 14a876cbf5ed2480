/*
 * A worker: one thread with its own event loop, libh2o context, listeners, upstream connections and counters; and what
 * all workers share.
 *
 * Threads  struct shared is set up by main before any worker starts; its members say for themselves who may call them.
 * A struct worker is its own thread's, but for worker_reload, worker_drain and worker_join (main).
 */
#ifndef WEIR_PROXY_WORKER_H
#define WEIR_PROXY_WORKER_H

#include <h2o.h>
#include <semaphore.h>

#include "cache/flight.h"
#include "cache/store.h"
#include "proxy/coder.h"
#include "proxy/connection.h"
#include "proxy/identity.h"
#include "proxy/listener.h"
#include "proxy/log.h"
#include "proxy/loop.h"
#include "proxy/redis_tier.h"
#include "proxy/snapshot.h"
#include "proxy/upstream.h"

struct shared {
    unsigned nworkers;
    struct worker **workers;
    struct store *store;
    struct coder *coder;
    struct redis_tier *redis; /* NULL: none */
    struct flights *flights;
    struct backends *backends;
    struct counters *counters;
    struct listeners *listeners;
    struct log *log;
    unsigned char user_secret[32]; /* keys the hash of credentials; random for each process */
    struct mono_ms started;
    _Atomic unsigned connections_open;
    _Atomic bool draining;
    /* All are idle: their loops end together, since those of one may be home to what another's clients wait for. */
    _Atomic bool over;
    pthread_barrier_t all_over; /* the workers and main */
    struct rates *rates;        /* hit rates of the last minutes */
};

struct request;
struct fill;

enum { DATES = 64, WISH_MEMOS = 16, WISH_MEMO_MAX = 63 };

/* What Accept-Encoding says, for those that come again and again. */
struct wish_memo {
    uint8_t n;
    char text[WISH_MEMO_MAX];
    struct coding_wishes wishes;
};

struct worker {
    unsigned index;
    struct shared *shared;
    struct loop *loop;
    h2o_globalconf_t globalconf;
    h2o_hostconf_t *hosts[2];
    h2o_context_t ctx;
    struct connections *connections;
    struct listener_thread *listeners;
    struct upstream *upstream;
    struct store_thread *store;
    struct hasher *hasher;
    struct redis_thread *redis; /* NULL: none */
    struct hold *hold;          /* the current snapshot */

    /* Date fields of stored responses as libh2o wants them, by second */
    struct {
        int64_t s;
        h2o_timestamp_string_t *text;
    } dates[DATES];

    struct wish_memo wish_memos[WISH_MEMOS];
    unsigned packers; /* packer.h */

    /* requests that are to begin again once the callbacks that let them go have returned */
    struct request *restarts;
    struct message restart_message;
    bool restart_posted;

    struct fill *fills; /* fetches in the air */
    struct timer housekeeping;
    uint64_t random;
    unsigned requests_open;
    bool stopping;
    /* from main */
    struct message reload_message, drain_message;
    struct snapshot *reload_to; /* set before the message is posted */
    sem_t reloaded;
    pthread_t thread;
    _Atomic bool idle; /* draining, and its last connection has gone */
};

/* Starts the thread and waits until it accepts. */
struct worker *worker_start(struct shared *shared, unsigned index, struct snapshot *snapshot);
void worker_reload(struct worker *w, struct snapshot *snapshot); /* main; waits until it is in force there */
void worker_drain(struct worker *w);                             /* main: accept no more */
void workers_end(struct shared *shared);                         /* main, when all are idle; then worker_join */
void worker_join(struct worker *w);                              /* main; frees it */

/* flights_options' post and post_home, with struct shared as their context. */
struct sub_message {
    struct message message;
    struct flight_sub *sub;
};
struct home_message {
    struct message message;
    struct flight *flight;
};
void worker_post_sub(void *context, unsigned thread, struct flight_sub *sub);
void worker_post_home(void *context, struct flight *flight);

/* Any number, uniformly distributed. */
static inline uint64_t worker_random(struct worker *w)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

#endif
