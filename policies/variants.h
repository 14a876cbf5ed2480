/*
 * The list of the variants that are stored under one primary key, newest first, as one text: each is what its key has
 * after the nominated names (proxy/variant.h), with its length.
 *
 * Threads  Pure, any thread; writes only to the caller's buffer.
 */
#ifndef WEIR_POLICIES_VARIANTS_H
#define WEIR_POLICIES_VARIANTS_H

#include "policies/bytes.h"

enum {
    VARIANTS_MAX = 16,
    VARIANT_MAX = 1024, /* bytes of one */
    VARIANTS_BYTES_MAX = VARIANTS_MAX * (VARIANT_MAX + 2),
};

/* The next one, taken off the list. False: there is none. */
bool variants_next(struct bytes *list, struct bytes *variant);

size_t variants_count(struct bytes list);
bool variants_have(struct bytes list, struct bytes variant);

/* A list of `variant` and then the others but number `without` (the first is 0; VARIANTS_MAX: no such). out holds
 * VARIANTS_BYTES_MAX bytes; returns how many are used. What exceeds VARIANTS_MAX at the end falls off. */
size_t variants_add(struct bytes list, struct bytes variant, size_t without, char *out);

#endif
