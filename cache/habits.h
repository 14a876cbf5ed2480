/*
 * Which header fields have values that repeat from response to response, learned from those that a thread stores. Only
 * bytes depend on it: what is taken for the wrong kind is kept in the other place.
 *
 * Threads  One thread.
 */
#ifndef WEIR_CACHE_HABITS_H
#define WEIR_CACHE_HABITS_H

#include <stdbool.h>
#include <stdint.h>

#include "policies/bytes.h"

enum { HABITS = 128, HABIT_VALUES = 4 };

struct habit {
    uint32_t name;                 /* hash; of several with one place the newest counts */
    uint32_t values[HABIT_VALUES]; /* hashes of the last that differed, newest first */
    uint8_t novelty;               /* how often it was none of these */
    bool own;
};

struct habits {
    struct habit v[HABITS];
};

/* Is this to be kept with each response? name: lower case. */
bool habits_is_own(struct habits *habits, struct bytes name, struct bytes value);

#endif
