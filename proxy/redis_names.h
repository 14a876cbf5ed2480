/*
 * What things are called in Redis. Names hold hashes alone: no url, no query, no user, no credential.
 *
 *     NAMESPACE:1:all              the token of everything
 *     NAMESPACE:1:{URL}            the token of a url
 *     NAMESPACE:1:{URL}:KEY        a record (cache/record.h), whose version is the 1 in all of them
 *
 * A token is a random number that stands for "nothing of this has been purged". Each record carries the two that
 * counted when its fetch began, and counts as long as they are still there. So a purge has to remove one key only,
 * finds variants that nobody can list, and wins against whoever writes late; whatever else removes a token (eviction, a
 * restart) costs hits, and nothing worse. The braces keep a url's keys together where keys are spread by name.
 *
 * XXH3-128 without a seed, for all instances must come to the same; the whole key is in the record.
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_PROXY_REDIS_NAMES_H
#define WEIR_PROXY_REDIS_NAMES_H

#include "policies/bytes.h"

enum { REDIS_NAME_MAX = 64 + 3 + 34 + 1 + 32 };

struct redis_name {
    char text[REDIS_NAME_MAX];
    size_t n;
};

static inline struct bytes redis_name(const struct redis_name *name)
{
    return (struct bytes){name->text, name->n};
}

void redis_name_all(struct bytes namespace, struct redis_name *out);
void redis_name_url(struct bytes namespace, struct bytes key_url, struct redis_name *out);
void redis_name_record(struct bytes namespace, struct bytes key, size_t key_url_n, struct redis_name *out);

#endif
