/*
 * What an answer of the origin is to weir: its end-to-end fields, how long it is fresh, whether it may be stored, and
 * under which key.
 *
 * Ownership  Borrows the fields it was judged by (the fetch's, and on a 304 the stored response's); owns its key until
 * answer_fini. Threads    The worker's.
 */
#ifndef WEIR_PROXY_ANSWER_H
#define WEIR_PROXY_ANSWER_H

#include "cache/tag.h"
#include "policies/http_date.h"
#include "policies/storing.h"
#include "policies/vary.h"
#include "proxy/answer_head.h"
#include "proxy/ask.h"

struct answer {
    int status;
    struct fields fields;    /* end to end; of a 304: the stored ones, updated */
    struct cache_control cc; /* a targeted field's, where one counts */
    struct lifetimes lifetimes;
    enum storing storing;
    struct wall_s date;
    char date_text[HTTP_DATE_LEN + 1]; /* where the fields have weir's own Date */
    int64_t content_length;
    struct key primary; /* the key without what the answer varies on, the query reduced as the answer has it */
    struct key_hash primary_hash;
    bool rekeyed;         /* it is not the ask's */
    char *primary_memory; /* NULL: it lies in the ask's */
    bool respec;          /* the marker under the primary key is missing or says something else */
    char spec[VARY_SPEC_MAX];
    size_t spec_n;
    struct bytes key; /* under which it is stored */
    struct key_hash hash;
    char *key_memory;
    struct tags tags;
    struct fields withheld; /* for the leader alone: named by no-cache="..." or private="..." */
    struct field withheld_v[2 * ANSWER_FIELDS_MAX];
    struct field v[2 * ANSWER_FIELDS_MAX + 1]; /* on a 304: those of the stored response and its own; Date */
};

/* updated: the stored response that a 304 has confirmed, or the stored part that a 206 makes whole; else NULL. */
void answer_judge(struct answer *a, const struct ask *ask, const struct stored *updated, int status,
                  struct fields fields, int64_t content_length);
void answer_fini(struct answer *a);

/* An error that is not to be stored, for want of a lifetime and not for any prohibition: who waits for it gets it too.
 */
bool answer_is_shared_error(const struct answer *a);

struct stored_options answer_options(const struct answer *a, const struct ask *ask, uint64_t born);

/* In which codings a response that was stored elsewhere is to be had here: head->forms. Not of a user's scope. */
uint8_t answer_forms(const struct conf_route *route, int status, struct fields fields, int64_t content_length);

/* A copy of the withheld fields in one block, for free() to release; without any, none is made. */
struct fields answer_withheld(const struct answer *a);

/* The age from which on it is of no use to anybody, not even for its validators; and the same for this process' memory,
 * in which the route's tier may keep it for a shorter time (conf ttl.memory). age_ms: when it comes into memory. */
int64_t answer_useful_ms(const struct lifetimes *lifetimes, struct fields fields);
int64_t answer_useful_here_ms(const struct conf_route *route, const struct lifetimes *lifetimes, int64_t age_ms,
                              struct fields fields);

/* Can it be asked about: ETag or Last-Modified (RFC 9110 section 8.8)? */
bool answer_has_validator(struct fields fields);

#endif
