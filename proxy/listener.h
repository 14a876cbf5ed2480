/*
 * Listening sockets, kept until the drain: for each address one per thread (SO_REUSEPORT), for unix: one that all
 * threads share by dup. Closing a SO_REUSEPORT socket loses the connections in its queue, so a reload keeps what stays,
 * opens what is new and drains what goes. TLS contexts hang off them and are swapped by a reload.
 *
 * Errors     As text in err (what, address, why), for FILE:LINE:COLUMN messages.
 * An address is taken only if nobody else listens on it. [::] is IPv6 only, so that 0.0.0.0 can stand beside it.
 *
 * Threads    listeners_* in the main thread; listener_thread_* in the thread of the loop.
 */
#ifndef WEIR_PROXY_LISTENER_H
#define WEIR_PROXY_LISTENER_H

#include "conf/conf.h"
#include "proxy/connection.h"

struct listeners;

/* Process-wide; nthreads sockets for each address. */
struct listeners *listeners_create(unsigned nthreads);

/* Opens what conf lists and is not yet open, loads its TLS certificates; two steps so that a bad file changes nothing:
 * prepare does all that can fail; commit takes effect for new connections at once in all threads; abort takes prepare
 * back. A unix path that exists is taken over only if it is a socket nobody listens on. */
int listeners_prepare(struct listeners *all, const struct conf *conf, struct conf_errors *errors);
/* What prepare let pass: certificates that may no longer be read, and stay as they were loaded. */
const struct conf_errors *listeners_warnings(const struct listeners *all);
void listeners_commit(struct listeners *all);
void listeners_abort(struct listeners *all);

/* In thread `index`: starts accepting on all committed listeners, and sync again after each commit (also stops what was
 * removed: accepts what is queued, then closes). create, sync and stop within the loop or before it runs; destroy after
 * the thread's last connection has gone. */
struct listener_thread;
struct listener_thread *listener_thread_create(struct listeners *all, unsigned index, struct loop *loop,
                                               h2o_context_t *ctx, h2o_hostconf_t **hosts,
                                               struct connections *connections);
void listener_thread_sync(struct listener_thread *t);
/* Drain: handshakes that have begun may end for a moment, then what is queued is accepted, and all is closed: who comes
 * later is refused at once. */
void listener_thread_stop(struct listener_thread *t);
bool listener_thread_is_closed(const struct listener_thread *t);
void listener_thread_destroy(struct listener_thread *t);

void listeners_drain(struct listeners *all);   /* removes unix socket files; before the threads stop */
void listeners_destroy(struct listeners *all); /* removes unix socket files; after all threads have ended */

/* The port of a committed or prepared address: for port 0, the one that the kernel chose. 0: unix, or not open. Main
 * thread. */
uint16_t listeners_port(struct listeners *all, const char *address);

#endif
