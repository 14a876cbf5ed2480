#include "cache/tag.h"

#include "cache/hash.h"
#include "policies/key.h"

static uint64_t hash_of(const struct store *store, struct bytes text)
{
    uint64_t hash = tag_hash(tag_hash_of(store, text));

    return hash != TAG_ANY ? hash : hash + 2;
}

static bool has(struct tags *tags, uint64_t hash, uint64_t **at)
{
    for (*at = tags->v; *at < tags->v + tags->n; ++*at)
        if (tag_hash(**at) == hash)
            return true;
    return false;
}

void tags_add_hash(struct tags *tags, uint64_t tag)
{
    uint64_t *at;

    if (tags->n == 1 && tag_hash(tags->v[0]) == TAG_ANY)
        return;
    if (has(tags, tag_hash(tag), &at))
        *at |= tag & TAG_GROUP;
    else if (tags->n == TAGS_MAX || tag_hash(tag) == TAG_ANY)
        *tags = (struct tags){.v = {TAG_ANY | TAG_GROUP}, .n = 1};
    else
        tags->v[tags->n++] = tag;
}

void tags_add(struct tags *tags, const struct store *store, struct bytes text, bool group)
{
    tags_add_hash(tags, hash_of(store, text) | (group ? TAG_GROUP : 0));
}

static bool is_same_origin(struct bytes a, struct bytes b)
{
    bool a_https, b_https;
    struct bytes a_authority, b_authority;

    return key_url_origin(a, &a_https, &a_authority) && key_url_origin(b, &b_https, &b_authority) &&
           a_https == b_https && bytes_eq(a_authority, b_authority);
}

uint64_t tag_group_id(const struct store *store, uint64_t tag, struct bytes key_url)
{
    struct bytes authority = BYTES_NONE;
    bool https = false;

    (void)key_url_origin(key_url, &https, &authority);
    return tag_hash(tag) ^ (tag_hash_of(store, authority) << 1) ^ (https ? 0 : UINT64_MAX << 1);
}

struct tag_target tag_target_anywhere(const struct store *store, struct bytes text)
{
    uint64_t hash = hash_of(store, text);

    return (struct tag_target){.hash = hash, .log_id = hash};
}

struct tag_target tag_target_group(const struct store *store, struct bytes key_url, struct bytes text)
{
    uint64_t hash = hash_of(store, text);

    return (struct tag_target){
        .hash = hash, .log_id = tag_group_id(store, hash, key_url), .group = true, .key_url = key_url};
}

bool tag_matches(uint64_t tag, struct bytes key_url, const struct tag_target *target)
{
    if (tag_hash(tag) != target->hash && tag_hash(tag) != TAG_ANY)
        return false;
    return !target->group || ((tag & TAG_GROUP) != 0 && is_same_origin(key_url, target->key_url));
}
