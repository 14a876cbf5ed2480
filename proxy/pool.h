/*
 * libcurl on a thread's loop: for each server one multi handle with its connections, and transfers to run on it.
 * Private to upstream.
 *
 * libcurl must not be called from within its own callbacks except where it says so: while pools->inside is not 0, put
 * off transfer_begin and transfer_end.
 *
 * Ownership  Transfers are taken from a pool and given back to it; pools live until pools_fini or, when their server
 *            has left the configuration, until their last transfer was given back. Threads    The loop's.
 */
#ifndef WEIR_PROXY_POOL_H
#define WEIR_PROXY_POOL_H

#include <curl/curl.h>

#include "proxy/answer_head.h"
#include "proxy/gate.h"

struct conn;
struct pool;
struct transfer;

struct pools {
    struct loop *loop;
    /* A new transfer's options that are not the connection's. */
    void (*prepare)(struct transfer *t);
    /* It has come to its end (and was taken off its multi handle). Called outside of libcurl. */
    void (*ended)(struct transfer *t, CURLcode code);
    /* A connection attempt of the transfer begins. Called inside. */
    void (*connecting)(struct transfer *t);

    /* private */
    struct pool *first;
    struct conn **by_fd;
    size_t nfds;
    unsigned inside;
    struct message kick;
    bool kicked;
    struct timer sweep;
};

struct transfer {
    CURL *easy;
    struct pool *pool;
    struct gate_ticket *ticket; /* while running */
    void *user;
    struct answer_head head;
    struct conn *conn;    /* that it uses */
    struct conn *nascent; /* that it has opened, and that may not be connected yet */
    bool running;
    bool arrived;                 /* its last connection was closed after the request had come to the other end */
    bool reused;                  /* the connection that it was last allowed to send on had been used before */
    bool until_close, tls_closed; /* private */
    uint64_t taken, rest_at;      /* of its body: so much, and at so much it lets others go first; private */
    struct timer rest;            /* armed: it lets them; private */
    int method;                   /* prepare's and its owner's: what kind is set */
    struct transfer *next;        /* in the pool's spare list */
};

void pools_init(struct pools *pools, struct loop *loop);
void pools_fini(struct pools *pools); /* all transfers were given back */

/* A transfer towards the ticket's server. NULL: out of memory, or libcurl does not take the server's settings. */
struct transfer *transfer_take(struct pools *pools, struct gate_ticket *ticket);
void transfer_begin(struct transfer *t);
/* When it has not ended by itself: its connection is closed. */
void transfer_end(struct transfer *t);
/* Its connection, if it has one and it is still open, is idle from now on. */
void transfer_give(struct transfer *t);
/* When libcurl is about to send (CURLOPT_PREREQFUNCTION, which gives the connection's own port). False: it must not:
 * the connection that it has chosen is of no more use. */
bool transfer_may_send(struct transfer *t, uint16_t port);
/* From the head's callback: the body ends where the connection does. */
void transfer_until_close(struct transfer *t);
/* It has ended well, as libcurl sees it. But a TLS connection that ends without close_notify may have been cut by
 * anyone (RFC 9112 section 9.8), which libcurl does not tell. */
static inline bool transfer_was_cut(const struct transfer *t)
{
    return t->until_close && !t->tls_closed;
}
/* From the body's callback: so many bytes were taken. libcurl would go on as long as the origin has more, megabytes in
 * one turn of the loop; from time to time others go first. */
void transfer_took(struct transfer *t, size_t n);
/* From the body's callback, which pauses it. */
void transfer_holds(struct transfer *t);
/* After a callback had paused it. Not CURLE_OK: it has failed with that. */
CURLcode transfer_resume(struct transfer *t);

#endif
