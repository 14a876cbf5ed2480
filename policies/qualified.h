/*
 * no-cache="..." and private="..." with field names (RFC 9111 sections 5.2.2.4 and 5.2.2.7): the fields they name are
 * for the client whose request brought them; the rest of the response is stored and used as if they had never been.
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_QUALIFIED_H
#define WEIR_POLICIES_QUALIFIED_H

#include "policies/cache_control.h"

/* What names a field that the response has and cannot be used without (Vary, Content-Encoding, Location and the like)
 * becomes the bare directive, the stricter one, as which many caches take every such list (notes in both sections). */
void qualified_settle(struct cache_control *cc, struct fields response);

/* Is the field of that name (lower case) kept from storing and from all other clients (RFC 9111 section 3.1)?
 * user_scope: what is stored is for one user, whom private does not bind. */
bool qualified_withholds(const struct cache_control *cc, bool user_scope, struct bytes name);

#endif
