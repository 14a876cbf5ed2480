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

/* The whole variant key: the primary one, the names, and the variant: the request's values of the nominated fields, or
 * a hash where one of them is a credential or they are longer than VARIANT_MAX. buf lives as long as the result. */
struct bytes variant_key(const struct conf_route *route, struct hasher *hasher, struct bytes primary, struct bytes spec,
                         struct fields request, char *buf);

/* Is it a key that was made of these? */
bool variant_key_is_of(struct bytes key, struct bytes primary, struct bytes spec);

/* The names in a key, of which the primary one has so many bytes; none in the primary one itself. */
struct bytes variant_names(struct bytes key, size_t primary_n);

/* The variant in such a key, VARIANT_MAX bytes at most; and the key of a variant once more, in
 * primary.n + spec.n + 1 + variant.n bytes. */
struct bytes variant_of(struct bytes key, struct bytes primary, struct bytes spec);
struct bytes variant_key_again(struct bytes primary, struct bytes spec, struct bytes variant, char *buf);

/* The values (a vary key, policies/vary.h) of a variant. False: it is a hash. */
bool variant_values(struct bytes variant, struct bytes *values);

/* What follows the url part gives way to its hash where the rules chose credentials: in place, key->whole shrinks or
 * grows to key->url.n + USER_HASH_BYTES. buf is key_build's, with USER_HASH_BYTES to spare. */
bool key_is_sealed(const struct key_rules *rules);
void key_seal(const struct key_rules *rules, struct hasher *hasher, char *buf, struct key *key);

#endif
