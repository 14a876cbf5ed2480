/*
 * Whose request is it? The keyed hash of a credential, never the credential (HMAC-SHA-256, RFC 2104).
 *
 * Threads  A hasher is one thread's own.
 */
#ifndef WEIR_PROXY_IDENTITY_H
#define WEIR_PROXY_IDENTITY_H

#include "conf/conf.h"

/* HMAC with the process's secret. */
struct hasher;
struct hasher *hasher_create(const unsigned char secret[32]);
void hasher_destroy(struct hasher *h);
void hasher_hash(struct hasher *h, struct bytes what, unsigned char out[USER_HASH_BYTES]); /* out may lie in what */

struct identity {
    bool user_scope;
    bool known; /* false: the anonymous user */
    unsigned char hash[USER_HASH_BYTES];
};

/* The route's scope and user rules applied to a request. */
void identity_judge(const struct conf_route *route, struct fields request, struct hasher *hasher, struct identity *out);

#endif
