/*
 * Interim responses (1xx, RFC 9110 section 15.2): what the origin says before its answer goes on to the client whose
 * request was sent, and nowhere else.
 *
 * libh2o has no call for them. On HTTP/1.1 they are written to the connection's socket while nothing of the answer has
 * been; libh2o allows one write at a time, so a filter holds the answer's beginning back until that one is through.
 * HTTP/2 clients get none (libh2o keeps its frames and its header compression to itself), HTTP/1.0 clients must not get
 * any. Nor is 100 (Continue) passed on: weir asks no origin for it, and has answered a client's expectation by the time
 * its content was complete (RFC 9110 section 10.1.1).
 *
 * Each request has a bounded number and amount of them; what is beyond is dropped, which harms nobody: a client must do
 * without.
 *
 * Ownership  Everything lies in the request's pool. A connection that is closed while a write is under way takes its
 *            request with it, and libh2o calls nobody back.
 * Threads    The request's worker.
 */
#ifndef WEIR_PROXY_INTERIM_H
#define WEIR_PROXY_INTERIM_H

#include "proxy/request.h"

/* Once for each path, after chunked_install. */
void interim_install(h2o_pathconf_t *path);

/* While r waits for its flight. `fields` as the origin sent them. */
void interim_pass(struct request *r, int status, struct fields fields);

#endif
