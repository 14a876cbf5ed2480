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

enum { HABIT_SETS = 32, HABITS_EACH = 4, HABIT_VALUES = 4 };

struct habit {
    uint32_t name;                 /* hash */
    uint32_t values[HABIT_VALUES]; /* hashes of the last that differed, newest first */
    uint8_t novelty;               /* how often it was none of these */
    bool own;
};

/* Zeroed at the beginning, but for the seed: of the hashes, so that nobody can choose names that meet. */
struct habits {
    uint64_t seed;
    struct habit v[HABIT_SETS][HABITS_EACH]; /* of each set the last used first */
};

/* Is this to be kept with each response? name: lower case. */
bool habits_is_own(struct habits *habits, struct bytes name, struct bytes value);

#endif
