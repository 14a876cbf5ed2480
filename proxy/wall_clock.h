/*
 * The wall clock to the millisecond, for times that travel between machines.
 *
 * Threads  Any thread.
 */
#ifndef WEIR_PROXY_WALL_CLOCK_H
#define WEIR_PROXY_WALL_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t wall_clock_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#endif
