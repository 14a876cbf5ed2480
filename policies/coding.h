/*
 * Content codings that weir makes and undoes (RFC 9110 section 8.4.1), and which of them a client is to get.
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_CODING_H
#define WEIR_POLICIES_CODING_H

#include "policies/field.h"

enum coding {
    CODING_IDENTITY,
    CODING_GZIP,
    CODING_BR,
    CODING_ZSTD,
    CODINGS,
    CODING_OTHER = CODINGS, /* one that weir does not know, or several */
};

/* As in Content-Encoding and the configuration; identity has a name, too. Not of CODING_OTHER. */
struct bytes coding_name(enum coding coding);

/* A name in any case, x-gzip among them; CODING_OTHER where it is none of them. */
enum coding coding_named(struct bytes name);

/* What a response's Content-Encoding says, all lines of it; none at all is identity. */
enum coding coding_of_response(struct fields response);

/* What a request says in Accept-Encoding of those that weir knows. */
struct coding_wishes {
    int weights[CODINGS]; /* thousandths; 0: not acceptable; -1: not mentioned */
    bool stated;          /* there is an Accept-Encoding that can be read and is not empty */
};

/* first: where Accept-Encoding is (fields_find). One that cannot be read counts as none. */
struct coding_wishes coding_wishes_of(struct fields request, size_t first);

/* Which of the codings offered (a list in the server's order, without identity) the client is to get: the one with the
 * highest weight, of equal ones the first, and none of them (CODING_IDENTITY) where the client wants identity more, or
 * accepts none of them. Without Accept-Encoding that is identity: RFC 9110 section 12.5.3 allows any then, but clients
 * that send none often understand none.
 * Where not even identity is acceptable the answer is identity all the same: section 12.4.1 lets a server disregard the
 * field rather than send a 406, and a response in some form is of more use than none. */
enum coding coding_choose(const struct coding_wishes *wishes, const enum coding *offered, size_t n);

/* May a response in that coding be sent? Identity may unless it is refused (identity;q=0 or *;q=0), others where they
 * are asked for. */
bool coding_is_acceptable(const struct coding_wishes *wishes, enum coding coding);

#endif
