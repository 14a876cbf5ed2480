/*
 * What weir knows of each client connection: limits, progress, abuse. libh2o has no output timeout, one timeout for
 * idle, head and body together on HTTP/1, none that PING or dripped DATA would not reset on HTTP/2, and calls the
 * handler for every reset stream.
 *
 * A sweep over the thread's connections (4 times a second) ends: a head (on HTTP/2 one of its many) or TLS handshake
 * not complete within header_timeout of its first byte (or of the accept); a keep-alive connection without a request
 * for idle_timeout; a request body or an answer without progress for idle_timeout (an answer that waits for weir
 * itself, not for the client, is not stuck); a request body slower than 256 bytes a second over an idle_timeout; HTTP/2
 * connections on which only PING, SETTINGS or window updates come. Progress of an answer is what the peer's TCP has
 * acknowledged. On unix sockets, where nothing counts what comes in, the slow HTTP/2 body is left to libh2o's idle
 * timeout.
 *
 * The process ignores SIGPIPE: connections are ended by shutdown(2), and libh2o writes with writev(2).
 *
 * Ownership  Made at accept, freed when libh2o closes the socket.
 * Threads    The connection's own thread. Limits come from the snapshot given to connections_configure; the count of
 * open connections is shared by all threads.
 */
#ifndef WEIR_PROXY_CONNECTION_H
#define WEIR_PROXY_CONNECTION_H

#include <h2o.h>

#include "conf/conf.h"
#include "proxy/loop.h"

struct connection;
struct connections; /* all of one thread */

struct connections *connections_create(struct loop *loop, h2o_context_t *ctx, _Atomic unsigned *open_total);
void connections_destroy(struct connections *all); /* before h2o_context_dispose */
/* At start and at every reload: limits for all connections, old and new. Sets libh2o's own timeouts (which only back up
 * the sweep), h2_streams and the largest content in the context's h2o_globalconf_t, which therefore is this thread's
 * alone. libh2o's limit of content is 1 MiB above conf's: what is between comes to the handler, for a 413 that an
 * HTTP/2 client can read (beyond, libh2o refuses the stream, and clients try again). libh2o announces 100 streams,
 * whatever h2_streams says; beyond h2_streams requests wait their turn. */
void connections_configure(struct connections *all, const struct conf *conf);

/* A freshly accepted socket: counts it, applies the limit (503 and close where plain, close where TLS), sets
 * TCP_NODELAY and TCP_USER_TIMEOUT, and hands it to h2o_accept. `accept` must outlive the TLS handshake. */
void connections_accept(struct connections *all, h2o_socket_t *sock, h2o_accept_ctx_t *accept);

struct connection *connection_of(h2o_req_t *req);

/* An authority as one of its requests named it, and in its canonical form (policies/uri.h): most requests of a
 * connection name the same. Both are empty until connection_remember, of which the first counts; they live as long as
 * the connection, and `canonical` ends in '\0'. */
struct authority_memo {
    struct bytes raw, canonical;
};
const struct authority_memo *connection_authority(const struct connection *c);
void connection_remember(struct connection *c, struct bytes raw, struct bytes canonical); /* copied */

/* For each request that the handler sees: begin (false: the connection is dead for abuse or a limit; answer trivially,
 * fetch nothing), and how it ended. waiting: the answer waits for weir (origin), not for the client. */
enum request_end {
    REQUEST_ANSWERED,
    REQUEST_BROKEN_OFF, /* by weir: the origin did not finish */
    REQUEST_ABANDONED,  /* libh2o disposed of it before its answer was finished: a reset, for h2_resets */
};
bool connection_request_begin(struct connection *c);                 /* also when false, end is to be called */
void connection_request_waiting(struct connection *c, bool waiting); /* true and false in turn, false before end */
void connection_request_end(struct connection *c, enum request_end how);

/* HTTP/2: no request is taken any more, and the connection is shut down once its answers are out or 1 s has passed. */
void connection_close_soon(struct connection *c);

/* Reports once, from the loop, that an HTTP/1 client has gone while its request is parked (FIN or RST; a half close
 * counts as gone). Unwatch before the answer is written, and when the request is disposed of. HTTP/2 needs none of
 * this: libh2o disposes of the request. */
struct hangup {
    struct watch watch;
    void (*gone)(struct hangup *h); /* set by the caller; no longer watched when it is called */
    struct connections *all;        /* connection.c's */
};
void hangup_watch(struct connections *all, struct hangup *h, h2o_req_t *req);
void hangup_unwatch(struct connections *all, struct hangup *h);

/* Before an answer that has begun is broken off with H2O_SEND_STATE_ERROR, so that the client sees no clean end. On
 * HTTP/1 it resets the connection at once: what is still in the kernel's queue is lost, and a send that is under way
 * fails in this or the next turn, whereupon libh2o disposes of the request. On HTTP/2 it does nothing: the error itself
 * is an RST_STREAM. So, for both: connection_break(req), and then
 *     no send under way:  h2o_send(req, NULL, 0, H2O_SEND_STATE_ERROR)
 *     a send under way:   the same in the generator's proceed; on HTTP/1 stop or dispose come instead.
 * Answers with a length or chunks are recognised as cut short without it, and what was sent before still arrives: there
 * H2O_SEND_STATE_ERROR alone will do. chunked.c calls it for the others by itself. */
void connection_break(h2o_req_t *req);

/* The place for what interim.c is writing to an HTTP/1 connection; it holds NULL while nothing of that is under way. */
struct interim;
struct interim **connection_interim(h2o_socket_t *sock);

/* Breaks an answer off while a send may be under way, for a client that takes nothing: HTTP/1 as connection_break,
 * HTTP/2 by an RST_STREAM, after which nothing of what was handed to h2o_send is read any more. The request may be
 * disposed of before this returns, and otherwise will be as soon as libh2o is through with the send. Nothing more may
 * be sent, but on HTTP/1, where proceed may still be called: then H2O_SEND_STATE_ERROR. Not from within one of libh2o's
 * callbacks for that request. */
void connection_cut(h2o_req_t *req);

/* The peer's address as text ("127.0.0.1", "::1", "unix", "unknown"), for logs and Forwarded. */
size_t connection_peer(h2o_req_t *req, char out[64]);

/* Begins the drain: idle HTTP/1 connections are closed (those in the middle of a request answer with Connection:
 * close), HTTP/2 gets GOAWAY. New connections, also those accepted later, get 1 s for a first request. In the loop. */
void connections_drain(struct connections *all);
unsigned connections_open(const struct connections *all);

#endif
