/*
 * Name patterns with one '*' at the end or none (utm_*, _ga*), as in conf's query, cookie and header lists.
 */
#ifndef WEIR_POLICIES_PATTERN_H
#define WEIR_POLICIES_PATTERN_H

#include "policies/bytes.h"

struct patterns {
    const struct bytes *v;
    size_t n;
};

bool patterns_match(struct patterns p, struct bytes name); /* case-sensitive */

#endif
