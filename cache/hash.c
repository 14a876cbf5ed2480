#include "cache/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "cache/store_private.h"

struct key_hash store_hash(const struct store *store, struct bytes key)
{
    XXH128_hash_t h = XXH3_128bits_withSeed(key.p, key.n, store->seed);

    return (struct key_hash){h.low64, h.high64};
}

uint32_t url_hash_of(const struct store *store, struct bytes key_url)
{
    return (uint32_t)XXH3_64bits_withSeed(key_url.p, key_url.n, store->seed);
}

uint64_t tag_hash_of(const struct store *store, struct bytes text)
{
    return XXH3_64bits_withSeed(text.p, text.n, store->seed);
}
