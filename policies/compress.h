/*
 * May the body of a response be sent in another content coding than it came in, and is that worth while?
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_COMPRESS_H
#define WEIR_POLICIES_COMPRESS_H

#include <stdint.h>

#include "policies/coding.h"

struct compress_rules {
    bool on;
    bool user;                          /* responses of scope user, too */
    enum coding encodings[CODINGS - 1]; /* in the order in which they are preferred */
    size_t nencodings;
    uint64_t min_size;
    unsigned levels[CODINGS];
    const struct bytes *types; /* lower case: type/subtype, or type/ and an asterisk, or two of them */
    size_t ntypes;
    bool stream; /* what is still arriving, too, and what is not stored */
};

struct compress_facts {
    int status;
    struct fields fields;   /* of the response */
    int64_t content_length; /* -1: not known yet */
    bool no_transform;      /* as told by the field that counts for weir */
    bool user_scope;
};

enum compress {
    COMPRESS_NEVER,  /* it goes out as it came */
    COMPRESS_MAY,    /* it has no coding, and may get one of the rules' */
    COMPRESS_UNPACK, /* it came in a coding that weir can undo for those who do not accept it */
};

/* Never: no-transform (RFC 9110 section 7.7, RFC 9111 section 5.2.2.6), a part or a response without content, a coding
 * that is not known, or a digest. Content-Digest is of the content that is sent, and Repr-Digest of the representation
 * with its content coding (RFC 9530 sections 2 and 3; so is Content-MD5, and the Digest of RFC 3230): with another
 * coding the one that the origin has stated would be wrong, and weir does not take away what protects a body.
 *
 * Responses of scope user have no coding unless the route says so: where a response has both a secret and what an
 * attacker can make it repeat, its compressed length betrays the secret (BREACH). Unpacking betrays nothing. */
enum compress compress_judge(const struct compress_rules *rules, const struct compress_facts *facts);

/* Why never. */
enum compress_bar {
    COMPRESS_NO_BAR,
    COMPRESS_OFF,
    COMPRESS_NO_TRANSFORM,
    COMPRESS_STATUS,
    COMPRESS_DIGEST,
    COMPRESS_EMPTY,
    COMPRESS_CODING,
    COMPRESS_USER,
    COMPRESS_TYPE,
    COMPRESS_SIZE,
};
enum compress_bar compress_bar(const struct compress_rules *rules, const struct compress_facts *facts);

/* The fields of a response whose body is in another coding than it came in (RFC 9110 section 7.7): Content-Encoding as
 * it is now, an ETag that is weak, since the bytes are not the origin's (sections 8.8.1 and 8.8.3.3), a Vary that names
 * Accept-Encoding (section 12.5.5), and no Accept-Ranges: a range is always one of the body as it came. `out` has room
 * for two more, etag for two bytes more than the response's. Borrows from all. Returns how many. */
size_t compress_fields(struct fields in, enum coding coding, struct field *out, char *etag);

/* Is Accept-Encoding, or an asterisk, among the names of a Vary? */
bool compress_vary_names_it(struct bytes vary);

/* Is it worth its memory? Less than a twentieth is not. */
bool compress_pays(uint64_t before, uint64_t after);

/* The most that compress_pays allows. */
uint64_t compress_bytes_max(uint64_t before);

/* The most that a body of so many bytes may unpack to, where a response may be object_max in all: a hundred times as
 * many, for what is more is a bomb; but a short text that repeats itself is none. */
uint64_t unpack_bytes_max(uint64_t packed, uint64_t object_max);

#endif
