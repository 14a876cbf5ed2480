/*
 * Which fields pass a proxy, and the fields that a proxy adds (RFC 9110 section 7.6, RFC 7239).
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_FORWARD_H
#define WEIR_POLICIES_FORWARD_H

#include "policies/field.h"

/* Hop-by-hop by definition, or named by a Connection field of the same message: never forwarded. Names lower case.
 * `connection` is the message's fields (looked at for Connection lines). Content-Length and Host are not hop-by-hop,
 * but weir writes them itself. */
bool forward_is_hop_by_hop(struct bytes name, struct fields message);

/* A node for Forwarded: quoted and bracketed where it is IPv6 (RFC 7239 section 6). Returns the length; out >= 64. */
size_t forward_node(struct bytes address, char out[64]);

#endif
