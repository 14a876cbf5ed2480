/*
 * The admin listener: health, purge and explain over HTTP/1.1, on the main thread's own loop, so that what takes long
 * there (a purge by prefix of a large store) holds up no client.
 *
 * Threads  The main thread.
 */
#ifndef WEIR_PROXY_ADMIN_H
#define WEIR_PROXY_ADMIN_H

#include "proxy/worker.h"

struct admin;

struct admin *admin_create(struct shared *shared, struct loop *loop);
/* Opens the snapshot's admin address where it is another than before; -1 and a text: nothing changed. Takes a reference
 * to the snapshot. */
int admin_apply(struct admin *admin, struct snapshot *snapshot, char *err, size_t err_cap);
/* False: a connection would not close, which keeps libh2o's part, the store's and the loop in use: leave them as they
 * are, the process is about to end. */
bool admin_destroy(struct admin *admin);

#endif
