/*
 * The admin listener: health, purge and explain, on the main thread's own loop, so that what takes long there (a purge
 * by prefix of a large store) holds up no client.
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
void admin_destroy(struct admin *admin);

#endif
