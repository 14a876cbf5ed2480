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

/* All Vary lines of a response (RFC 9110 section 12.5.5). On VARY_SOME writes the spec: lower-case names, sorted,
 * without duplicates, joined by ','. */
enum vary vary_spec_of(struct fields response, char out[VARY_SPEC_MAX], size_t *len);

/* Bytes vary_key_build needs at most. */
size_t vary_key_bytes_max(struct bytes spec, struct fields request);

/* Values, equal where they match in the sense of RFC 9111 section 4.1: Accept-Charset, Accept-Encoding and
 * Accept-Language that can be read are written as negotiate.h does; of all else the lines are joined by a comma,
 * without OWS around commas outside quoted strings, in Accept (whose media ranges are lower case) neither around ';'.
 * An absent field differs from an empty one. Returns the length. */
size_t vary_key_build(struct bytes spec, struct fields request, char *buf);

/* In which fields two requests differ. */
struct vary_difference {
    bool encoding, language, media; /* Accept-Encoding, Accept-Language, Accept */
    bool other;
};

/* a, b: vary keys of that spec. */
struct vary_difference vary_keys_compare(struct bytes spec, struct bytes a, struct bytes b);

/* Is the (lower-case) name one of the spec's? */
bool vary_spec_names(struct bytes spec, struct bytes name);

#endif
