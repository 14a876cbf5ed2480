/*
 * The gate in front of a backend's servers, over all threads: who may send now, to which server, and who waits.
 * Private to upstream (and its tests).
 *
 * A ticket is one fetch's place: it holds a slot of one server (at most max_connections in flight for each), or waits
 * in the backend's one line, first come, first served; a slot that comes free goes straight to the first in line that
 * can use it.
 * Open connections count as well: a slot for a new connection, when the server has max_connections open already, is
 * made by shutting down an idle one, of whichever thread (libcurl then finds it dead).
 * A server whose breaker admits nobody is not chosen; when that is so of all servers, nobody waits for them.
 *
 * Ownership  Tickets, pools and connections are embedded in the caller's structs; servers are reference counted by
 *            tickets and pools. Threads    Any; one lock for each backend. Tickets are told through their loop's
 * mailbox.
 */
#ifndef WEIR_PROXY_GATE_H
#define WEIR_PROXY_GATE_H

#include <stdatomic.h>

#include "proxy/loop.h"
#include "proxy/upstream.h"

/* How long a server that refused a connection is left alone while there are others. */
#define GATE_AVOID_MS 1000

struct gate_link {
    struct gate_link *prev, *next;
};

enum reached { REACHED_UNKNOWN, REACHED_YES, REACHED_NO };

struct server {
    /* immutable */
    struct backend *backend;
    char *url, *host, *unix_path, *ca_file, *server_name; /* the last three may be NULL */
    uint16_t port;
    bool https, verify;

    _Atomic bool retired; /* no longer in the configuration */
    _Atomic int reached;  /* enum reached */

    /* under the backend's lock */
    unsigned weight, refs;
    int64_t turn; /* smooth weighted round robin */
    unsigned in_flight;
    unsigned open; /* connections that are open or about to be opened */
    int64_t avoid_until_ms;
    struct breaker breaker;
    struct gate_link pools, idle; /* idle: the longest unused first */
};

/* One thread's connections to one server. */
struct gate_pool {
    struct gate_link link;
    struct server *server;
    const void *owner;       /* the thread's upstream */
    unsigned idle, reserved; /* reserved: idle ones that granted tickets are about to use */
};

struct gate_conn {
    struct gate_link link; /* in the server's idle list, when idle */
    struct gate_pool *pool;
    int fd;
    uint16_t port;   /* its own; 0: none (unix) */
    bool idle, dead; /* dead: shut down, only waits to be closed */
    int64_t idle_since_ms;
};

struct gate_limits {
    int64_t queue_ms, connect_ms, first_byte_ms, idle_ms, total_ms, keepalive_ms;
    int64_t open_ms; /* the breaker's; 0: there is none */
};

enum gate_expects { GATE_NOTHING, GATE_OPEN, GATE_REUSE };

struct gate_ticket {
    struct gate_link link; /* in line */
    struct message granted;
    struct backend *backend;
    struct server *server; /* NULL: none granted */
    struct loop *loop;
    const void *owner;
    const struct server *refused; /* not this one again, if there is another */
    struct gate_limits limits;    /* as they were on entering */
    struct breaker_pass pass;     /* the granted server's, until its verdict */
    int64_t shut_ms; /* how long the breakers will admit nobody, where that is why there is no server; 0: not known */
    enum gate_expects expects;
    bool fresh;  /* must open a connection of its own */
    bool single; /* its connection is not used again */
    bool waits;
};

enum gate_answer {
    GATE_GRANTED,
    GATE_WAITS,
    GATE_FULL,
    GATE_NO_OTHER,
    GATE_SHUT, /* no server's breaker admits anybody; ticket->shut_ms is set */
};

/* GATE_GRANTED: ticket->server is set. GATE_WAITS: `granted` will be posted to `loop` once, unless gate_abandon comes
 * first; ticket->server is set then, or it is NULL and shut_ms is set, as for GATE_SHUT. The caller has set loop,
 * owner, fresh and granted.run. */
enum gate_answer gate_enter(struct gate_ticket *ticket, struct backend *backend, struct mono_ms now);

/* The verdict on what was sent to the ticket's server, for its breaker; the first one counts. Without any, a ticket
 * that gives its slot back leaves the breaker as it is. */
struct breaker_news gate_judge(struct gate_ticket *ticket, enum breaker_verdict verdict, struct mono_ms now);

/* Gives the slot back. */
void gate_leave(struct gate_ticket *ticket, struct mono_ms now);

/* Out of the line. False: not in it (any more): it was granted, the message is on its way. */
bool gate_abandon(struct gate_ticket *ticket);

/* Gives the slot back for one at another server, ahead of all who wait. unreachable: the server refused, so it is left
 * alone for a while; GATE_NO_OTHER when there is no other server (the slot is given back all the same). Otherwise its
 * own server will do where there is no other. GATE_SHUT: the slot is given back, too. */
enum gate_answer gate_again(struct gate_ticket *ticket, bool unreachable, struct mono_ms now);

/* Serves all lines: to be called when a server that is left alone may be chosen again, since no other event may come:
 * GATE_AVOID_MS after a gate_again with `unreachable`, and when an open breaker's time has passed. Returns when that is
 * next so; INT64_MAX: never. */
int64_t backends_serve(struct backends *all, struct mono_ms now);

/* What the last attempt to connect came to. Any thread. */
static inline void server_reached(struct server *s, enum reached reached)
{
    if (atomic_load_explicit(&s->reached, memory_order_relaxed) != (int)reached)
        atomic_store_explicit(&s->reached, (int)reached, memory_order_relaxed);
}

void gate_count_sent(struct backend *backend);
void gate_count_failure(struct backend *backend);

void gate_pool_init(struct gate_pool *pool, struct server *server, const void *owner);
void gate_pool_fini(struct gate_pool *pool); /* after its last connection was closed */

/* A connection's life: opened (for a ticket), used (by a ticket), idle, closed (before its descriptor is). */
void gate_conn_opened(struct gate_conn *conn, struct gate_pool *pool, struct gate_ticket *ticket, int fd);
bool gate_conn_used(struct gate_conn *conn, struct gate_ticket *ticket); /* false: it is dead */
void gate_conn_idle(struct gate_conn *conn, struct mono_ms now);
void gate_conn_closed(struct gate_conn *conn);

/* Shuts an idle connection down, so that nothing uses it again. */
void gate_conn_kill(struct gate_conn *conn);

/* Shuts down this pool's connections that have been idle for the backend's keepalive. */
void gate_pool_expire(struct gate_pool *pool, struct mono_ms now);

const char *gate_backend_name(const struct backend *backend);

/* For tests: a server of the backend by its place in the configuration. */
struct server *gate_server(struct backend *backend, size_t index);

#endif
