/*
 * Which fields pass a proxy, and the fields that a proxy adds (RFC 9110 section 7.6, RFC 7239 section
 * 4).
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_FORWARD_H
#define WEIR_POLICIES_FORWARD_H

#include <stdint.h>

#include "policies/field.h"

/* Hop-by-hop by definition, or named by a Connection field of the same message: never forwarded (RFC 9110 section
 * 7.6.1). Names lower case. `connection` is the message's fields (looked at for Connection lines). Content-Length and
 * Host are not hop-by-hop, but weir writes them itself. */
bool forward_is_hop_by_hop(struct bytes name, struct fields message);

/* Does a Connection field name any field that is not hop-by-hop by definition (RFC 9110 section 7.6.1)? Such fields
 * never reach the origin, so they must be dropped from the request before key, Vary key or scope are made of it:
 * otherwise a client could key a response by a field that the origin did not see. Cheap; false for nearly every
 * request. */
bool forward_connection_names_fields(struct fields message);

/* How many members its Connection fields have in all. */
size_t forward_connection_options(struct fields message);

/* How often an OPTIONS request may still be forwarded (Max-Forwards, RFC 9110 section 7.6.2). -1: it does not say. What
 * exceeds INT32_MAX counts as that. */
int64_t forward_hops_left(struct fields request);

/* A node for Forwarded: quoted and bracketed where it is IPv6 (RFC 7239 section 6); "unknown" (section 6.2) for what is
 * no address (a unix socket's peer). Returns the length; out >= 64. */
size_t forward_node(struct bytes address, char out[64]);

/* What is left of a Forwarded field (RFC 7239 section 4) without what it claims of host and scheme (sections 5.3 and
 * 5.4), which a key does not hold: the `for` and `by` of its members (sections 5.2 and 5.1). out holds value.n bytes.
 * Returns the length. */
size_t forward_addresses(struct bytes value, char *out);

#endif
