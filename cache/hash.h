/*
 * Seeded hashes of cache keys (store_hash is in store.h).
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_CACHE_HASH_H
#define WEIR_CACHE_HASH_H

#include <stdint.h>

#include "policies/bytes.h"

struct store;

/* Of a key's url part: what purges look for. */
uint32_t url_hash_of(const struct store *store, struct bytes key_url);

/* Of a tag's text, or of an origin. */
uint64_t tag_hash_of(const struct store *store, struct bytes text);

#endif
