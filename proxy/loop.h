/*
 * One thread's event loop: libh2o's loop, with timers of any duration, a mailbox that other threads post to, and a
 * watch for descriptors that are not libh2o's (a nested epoll).
 *
 * Ownership  All structs here are embedded in the caller's; the caller keeps them alive until disarmed, removed or run.
 * Errors     watch_add and watch_change fail like epoll_ctl(2). The rest cannot fail.
 * Threads    Everything in the loop's own thread, except loop_post (any thread) and loop_wake (any thread, also a
 * signal handler). Callbacks run inside libh2o's loop, so they may write to h2o sockets.
 */
#ifndef WEIR_PROXY_LOOP_H
#define WEIR_PROXY_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policies/clock.h"

struct loop;
struct st_h2o_evloop_t;

struct loop *loop_create(void);       /* in the thread that will run it; aborts when out of memory or descriptors */
void loop_destroy(struct loop *loop); /* runs the messages that are left; nobody may post any more */
struct st_h2o_evloop_t *loop_h2o(struct loop *loop);

/* One turn: waits at most max_wait_ms, runs the callbacks of what is ready, then due timers, then what was deferred. A
 * signal ends it early. */
void loop_run(struct loop *loop, int32_t max_wait_ms);
void loop_wake(struct loop *loop); /* ends the wait of the turn under way, or else of the next one */

/* CLOCK_MONOTONIC, read once a turn (when a callback first asks) and again after loop_refresh. */
struct mono_ms loop_now(const struct loop *loop);
struct wall_s loop_wall(const struct loop *loop); /* as of the turn's begin */
void loop_refresh(struct loop *loop);             /* after work that took long */

/* Timers: one shot. arm on an armed timer moves it. Never early; the wall clock does not matter. */
struct timer {
    void (*fire)(struct timer *t);
    int64_t due_ms;
    size_t slot; /* 0: not armed */
};
void timer_arm(struct loop *loop, struct timer *t, int64_t delay_ms); /* at least 1 ms */
void timer_disarm(struct loop *loop, struct timer *t);                /* also when not armed */
static inline bool timer_armed(const struct timer *t)
{
    return t->slot != 0;
}

/* Watched descriptors: level-triggered epoll events (EPOLLIN ...). A watch removed in a callback gets no further event
 * in that round. */
struct watch {
    void (*ready)(struct watch *w, uint32_t events);
    int fd;
    bool added;
};
int watch_add(struct loop *loop, struct watch *w, uint32_t events);
int watch_change(struct loop *loop, struct watch *w, uint32_t events);
void watch_remove(struct loop *loop, struct watch *w); /* before the fd is closed */

/* Hands out what is ready by now. Not from within a watch's callback. */
void loop_poll(struct loop *loop);

/* Messages: run once in the loop's thread, in the order posted by one thread. */
struct message {
    void (*run)(struct message *m);
    struct message *next; /* the mailbox's */
};
void loop_post(struct loop *loop, struct message *m);

/* The loop's own thread only: runs m before the turn ends, after the callback that is under way has returned; outside
 * of a turn: in the next one, which then does not wait. Once for each call; m must not be deferred twice at a time. */
void loop_defer(struct loop *loop, struct message *m);
void loop_undefer(struct loop *loop, struct message *m); /* also when it is not deferred */

#endif
