/*
 * The marker under a primary key whose responses vary (RFC 9111 section 4.1): the names of the nominated fields, and
 * which variants are stored. The list is what bounds them: the variant that makes VARIANTS_MAX one too many takes the
 * place of the one that was used least lately.
 *
 * Whoever changes a marker replaces the one it has read, and no other (store_swap), so that no variant is lost from the
 * list when two are stored at once. Hits read the names alone and write nothing.
 *
 * Threads  The worker's.
 */
#ifndef WEIR_PROXY_VARY_MARKER_H
#define WEIR_PROXY_VARY_MARKER_H

#include "policies/variants.h"
#include "proxy/ask.h"

/* The list of a marker (STORED_VARY); policies/variants.h reads it. */
struct bytes vary_marker_list(const struct stored *marker);

/* From now on requests are sent on to the variants of these names, of which `key` is the first. The variants of a
 * marker with other names are removed: nobody finds them any more. */
void vary_marker_put(const struct ask *ask, uint64_t born, struct bytes spec, struct bytes key);

/* `response` has been stored: if that was under a variant key, it is listed. Where it cannot be, because there is no
 * room or responses vary on other names by now, it is taken out of the store: nobody would find it, or nothing bound
 * it. */
void vary_marker_enlist(const struct ask *ask, uint64_t born, struct stored *response);

#endif
