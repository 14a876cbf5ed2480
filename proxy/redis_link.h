/*
 * A connection to Redis on one loop: hiredis' asynchronous client, with what it lacks. Commands are pipelined; each has
 * a deadline, and only so many may be on their way.
 *
 * The link looks after itself. It is up once Redis has taken the password and the database and has answered a PING; it
 * is down after its connection has ended, or after FAILURES_MAX commands in a row without an answer in time, or with
 * one that says that Redis cannot serve at all; a PING each second is one of them. While it is down nothing is sent and
 * nobody waits; a timer tries again, never a request.
 *
 * Ownership  A call is its caller's, who keeps it until `done` or redis_call_cancel.
 * Errors     A reply that is NULL: no answer, whatever the reason. Replies are borrowed for the call.
 * Threads    The loop's, but for redis_figures (any).
 */
#ifndef WEIR_PROXY_REDIS_LINK_H
#define WEIR_PROXY_REDIS_LINK_H

#include <hiredis/hiredis.h>
#include <stdatomic.h>

#include "cache/thread.h"
#include "conf/conf.h"
#include "policies/bytes.h"
#include "proxy/log.h"
#include "proxy/loop.h"
#include "proxy/redis_address.h"

/* Of all links together. Any thread. */
struct redis_state {
    struct log *log;
    _Atomic unsigned links, up;
    _Atomic bool said_down;
    _Atomic uint64_t hit, miss, error; /* look-ups that were answered, and commands that failed */
    _Atomic uint64_t written, dropped; /* records */
};

static inline void redis_count(_Atomic uint64_t *figure)
{
    atomic_fetch_add_explicit(figure, 1, memory_order_relaxed);
}

struct redis_link;
struct redis_pending;

struct redis_call {
    void (*done)(struct redis_call *call, const redisReply *reply);
    struct redis_pending *pending; /* the link's; NULL: nothing is on its way */
};

struct redis_link_options {
    struct loop *loop;
    const struct conf_redis *conf; /* lives as long as the link */
    struct redis_address *address;
    struct redis_state *state;
    void (*came_up)(void *context); /* may be NULL */
    void *context;
};

struct redis_link *redis_link_create(const struct redis_link_options *options);
/* Who still waits is not told. */
void redis_link_destroy(struct redis_link *link);

bool redis_link_is_up(const struct redis_link *link);

/* False: it is down, or too much is on its way; `done` is not called then. call NULL: nobody wants the answer. */
bool redis_call(struct redis_link *link, struct redis_call *call, const struct bytes *words, size_t n) MUST_USE;
void redis_call_cancel(struct redis_call *call); /* also when nothing is on its way */

bool redis_is_error(const redisReply *reply);       /* NULL is one */
struct bytes redis_string(const redisReply *reply); /* BYTES_NONE: it is none */

#endif
