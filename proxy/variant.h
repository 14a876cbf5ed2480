/*
 * Keys with what must not lie in memory or Redis taken out: a credential that is part of a key (Vary: Authorization,
 * Vary: Cookie, chosen cookies) stands there as a keyed hash.
 *
 * Threads  The hasher's.
 */
#ifndef WEIR_PROXY_VARIANT_H
#define WEIR_PROXY_VARIANT_H

#include "policies/key.h"
#include "proxy/identity.h"

/* Bytes that variant_key needs at most. */
size_t variant_key_bytes_max(struct bytes primary, struct bytes spec, struct fields request);

/* The whole variant key: the primary one, then the request's values of the nominated fields. buf lives as long as the
 * result. */
struct bytes variant_key(const struct conf_route *route, struct hasher *hasher, struct bytes primary, struct bytes spec,
                         struct fields request, char *buf);

/* What follows the url part gives way to its hash where the rules chose credentials: in place, key->whole shrinks or
 * grows to key->url.n + USER_HASH_BYTES. buf is key_build's, with USER_HASH_BYTES to spare. */
void key_seal(const struct key_rules *rules, struct hasher *hasher, char *buf, struct key *key);

#endif
