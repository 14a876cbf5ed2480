/*
 * The two clocks. Each is a type of its own, so that mixing them does not compile.
 *
 * wall_s   seconds since 1970-01-01 UTC, as HTTP dates count; may jump.
 * mono_ms  milliseconds of CLOCK_MONOTONIC: residence times, lifetimes, timeouts; never jumps.
 * Time enters the policies only as an argument.
 */
#ifndef WEIR_POLICIES_CLOCK_H
#define WEIR_POLICIES_CLOCK_H

#include <stdint.h>

struct wall_s {
    int64_t s;
};

struct mono_ms {
    int64_t ms;
};

static inline int64_t mono_since_ms(struct mono_ms then, struct mono_ms now)
{
    return now.ms - then.ms;
}

#endif
