/*
 * Vary in two levels (RFC 9111 section 4.1): the spec is the sorted list of nominated field names, the
 * vary key is what one request has in those fields, normalised, each length-prefixed.
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_VARY_H
#define WEIR_POLICIES_VARY_H

#include "policies/field.h"

#define VARY_NAMES_MAX 16
#define VARY_SPEC_MAX 512 /* bytes of a spec's text */

enum vary {
    VARY_NONE = 0, /* no Vary: every request matches */
    VARY_SOME,
    VARY_STAR, /* matches nothing, also: too many or invalid names */
};

/* All Vary lines of a response. On VARY_SOME writes the spec: lower-case names, sorted, without duplicates,
 * joined by ','. */
enum vary vary_spec_of(struct fields response, char out[VARY_SPEC_MAX], size_t *len);

/* Bytes vary_key_build needs at most. */
size_t vary_key_bytes_max(struct bytes spec, struct fields request);

/* Values: lines joined by a comma, no OWS around commas outside quoted strings; accept-encoding and accept-language
 * lower-case and without OWS around ';' either; an absent field differs from an empty one. Returns the length. */
size_t vary_key_build(struct bytes spec, struct fields request, char *buf);

#endif
