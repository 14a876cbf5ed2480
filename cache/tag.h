/*
 * Tags: names that responses carry across urls, so that one purge takes all that carry one (Surrogate-Key, Cache-Tag,
 * and the groups of RFC 9875).
 *
 * A tag is kept as a seeded hash of its text, whose lowest bit says that it is a group. Two texts with one hash purge
 * too much, never too little. A group names what it names within its origin alone (RFC 9875 section 2.1), when a
 * response invalidates it; an operator's purge takes it wherever it stands, like all others.
 *
 * Threads  Any thread.
 */
#ifndef WEIR_CACHE_TAG_H
#define WEIR_CACHE_TAG_H

#include <stdint.h>

#include "policies/bytes.h"

struct store;

enum { TAGS_MAX = 128 }; /* of one response */

#define TAG_GROUP ((uint64_t)1)
#define TAG_ANY ((uint64_t)0) /* of a response with more than TAGS_MAX: each purge by tag takes it */

static inline uint64_t tag_hash(uint64_t tag)
{
    return tag & ~TAG_GROUP;
}

/* What one response carries, each once. Begins empty: n = 0. */
struct tags {
    uint64_t v[TAGS_MAX];
    size_t n;
};

void tags_add(struct tags *tags, const struct store *store, struct bytes text, bool group);
void tags_add_hash(struct tags *tags, uint64_t tag); /* one that was added elsewhere */

/* What a purge by tag is for. */
struct tag_target {
    uint64_t hash;
    uint64_t log_id;      /* for the purge log */
    bool group;           /* groups only, of the origin that key_url is of */
    struct bytes key_url; /* borrowed */
};

struct tag_target tag_target_anywhere(const struct store *store, struct bytes text);
struct tag_target tag_target_group(const struct store *store, struct bytes key_url, struct bytes text);

/* key_url: of the response that carries the tag. */
bool tag_matches(uint64_t tag, struct bytes key_url, const struct tag_target *target);

/* For the purge log: what a response of that url has to look for, beside the tag's own hash, if it is a group. */
uint64_t tag_group_id(const struct store *store, uint64_t tag, struct bytes key_url);

#endif
