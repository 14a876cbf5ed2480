/*
 * What a stored response or a marker is outside of this process: one run of bytes, as it lies in Redis.
 *
 * Records travel between machines, so times in them are of the wall clock, numbers are little-endian, and nothing in
 * them depends on the process that wrote them (no seeded hash, no pointer, no monotonic time). The whole cache key is
 * in the record: what is found under a name in Redis counts only where that key is the one that was meant.
 *
 * A record ends with a checksum (XXH3-128) of all that stands before it: what was cut off, mixed up or altered by
 * accident is a miss. It is no MAC: who may write into Redis can make valid records, as he could remove all of them. So
 * decoding trusts no length and no field all the same, and gives out nothing that could break the framing of an answer.
 *
 * Ownership  What is encoded is copied; what is decoded borrows from the record's bytes.
 * Errors     A record that is not perfect is no record: false, and nothing else is said.
 * Threads    Pure, any thread.
 */
#ifndef WEIR_CACHE_RECORD_H
#define WEIR_CACHE_RECORD_H

#include <stdint.h>

#include "cache/stored.h"
#include "cache/thread.h"
#include "policies/field.h"
#include "policies/freshness.h"

enum { RECORD_VERSION = 1, RECORD_TOKEN_BYTES = 16, RECORD_FIELDS_MAX = STORED_FIELDS_MAX };

/* Keys and header blocks are bounded on their way in; what is longer was not written by weir. */
#define RECORD_TEXT_MAX ((size_t)1 << 20)
/* For ever. Sums of a few such still fit. */
#define RECORD_MS_MAX (INT64_MAX / 8)

enum record_kind {
    RECORD_RESPONSE = 1,
    RECORD_VARY, /* the key's responses vary: `spec` says on what */
    RECORD_PASS, /* hit-for-miss: `status` says why (enum storing) */
};

/* Which purges the record has outlived: the tokens that counted when its fetch began (proxy/redis_names.h). */
struct record_epoch {
    unsigned char all[RECORD_TOKEN_BYTES], url[RECORD_TOKEN_BYTES];
};

struct record {
    enum record_kind kind;
    bool with_authorization, with_cookie;
    int status;
    uint32_t early_ms;
    struct record_epoch epoch;
    int64_t response_ms; /* since 1970, when the response came: its age counts from there (RFC 9111 section 4.2.3) */
    struct wall_s date;
    struct lifetimes lifetimes;
    struct bytes key;
    size_t key_url_n;
    struct bytes spec;
    struct fields fields; /* tags are among them: Surrogate-Key, Cache-Tag, Cache-Groups */
    struct bytes body;    /* decoded only */
};

/* Of the whole record, with a body of that length. */
size_t record_bytes(const struct record *r, size_t body_n);

/* Writes all but body and checksum into record_bytes bytes; returns where the body goes. Once that is there,
 * record_seal makes the record whole. */
char *record_begin(const struct record *r, size_t body_n, char *out);
void record_seal(char *record, size_t bytes);

/* False: no record of this version, or not whole. The fields of *out lie in `room`. */
bool record_decode(struct bytes text, struct record *out, struct field room[RECORD_FIELDS_MAX]) MUST_USE;

#endif
