/*
 * A circuit breaker in front of one server: it is left alone while too many of the exchanges with it fail.
 *
 *     closed -> open       minimum exchanges or more ended in the window, and too many of them failed
 *     open -> half-open    open_ms have passed, and the next exchange begins: the probe
 *     half-open -> closed  the probe succeeds; counting begins anew
 *     half-open -> open    the probe fails
 *
 * A probe that ends without a verdict changes nothing: the next exchange is another.
 * While half-open there is one probe at a time. The verdict on an exchange that began before the last change of state
 * comes too late and counts for nothing: it says nothing of the server as it is now.
 *
 * Not for what a failure is: the caller judges.
 *
 * Ownership  Plain structs, embedded in the caller's.
 * Errors     None.
 * Threads    Pure; whoever shares a breaker keeps threads apart. Times of different threads may be a little out of
 * order.
 */
#ifndef WEIR_POLICIES_BREAKER_H
#define WEIR_POLICIES_BREAKER_H

#include <stdbool.h>

#include "policies/clock.h"

struct breaker_rules {
    unsigned minimum;        /* exchanges; 0: there is no breaker, and the rest does not matter */
    unsigned errors_percent; /* 1 to 100 */
    int64_t window_ms;       /* > 0 */
    int64_t open_ms;         /* > 0 */
};

/* The window moves by a tenth of its length: what ended nine tenths of it ago counts, what ended a whole one ago does
 * not. */
#define BREAKER_PARTS 10

enum breaker_state { BREAKER_CLOSED, BREAKER_HALF_OPEN, BREAKER_OPEN }; /* the worst last */

struct breaker_count {
    unsigned all, failed;
};

struct breaker {
    enum breaker_state state;
    bool probing;
    uint64_t era; /* one more with each change of state; from 1 */
    int64_t open_until_ms;
    int64_t part; /* the newest one's number, counted since the clock's zero */
    struct breaker_count parts[BREAKER_PARTS];
};

/* One exchange's leave to go to the server. */
struct breaker_pass {
    uint64_t era; /* 0: none, or its verdict has been given */
    bool probe;
};

enum breaker_verdict { BREAKER_NO_VERDICT, BREAKER_SUCCESS, BREAKER_FAILURE };

enum breaker_change {
    BREAKER_UNCHANGED,
    BREAKER_OPENS,
    BREAKER_OPENS_AGAIN, /* the probe failed */
    BREAKER_CLOSES,
};

struct breaker_news {
    enum breaker_change change;
    struct breaker_count counted; /* in the window, where it opens */
};

/* Closed, nothing counted, and all passes void. A breaker begins zeroed, and then with this. */
void breaker_reset(struct breaker *b);

/* May an exchange begin? */
bool breaker_admits(const struct breaker *b, struct mono_ms now);

/* It begins: the breaker admits. */
struct breaker_pass breaker_begin(struct breaker *b, struct mono_ms now);

/* The verdict on an exchange, once: the pass is none afterwards, and with none nothing happens. */
struct breaker_news breaker_end(struct breaker *b, const struct breaker_rules *rules, struct breaker_pass *pass,
                                enum breaker_verdict verdict, struct mono_ms now);

/* As it is now: an open one whose time has passed is half-open. */
enum breaker_state breaker_state(const struct breaker *b, struct mono_ms now);

/* How long until it admits by itself. 0: it does now, or will when the probe has ended, whenever that is. */
int64_t breaker_wait_ms(const struct breaker *b, struct mono_ms now);

static inline bool breaker_rules_same(const struct breaker_rules *a, const struct breaker_rules *b)
{
    return a->minimum == b->minimum && a->errors_percent == b->errors_percent && a->window_ms == b->window_ms &&
           a->open_ms == b->open_ms;
}

#endif
