/*
 * What a fetch asks for: a copy of the request behind it, which may be gone before its answer comes.
 *
 * Ownership  Owns its copies and a use of the snapshot, given back by ask_fini.
 * Threads    The worker's.
 */
#ifndef WEIR_PROXY_ASK_H
#define WEIR_PROXY_ASK_H

#include "proxy/request.h"

struct ask {
    struct worker *worker;
    struct hold *hold;
    const struct snapshot_route *route;
    bool cacheable;      /* by rule: the answer may be stored if it allows that itself */
    bool asked_range;    /* for one range, in a flight of its own */
    bool may_answer_get; /* a POST whose answer may be stored for GET, if it says so */
    bool alone;          /* nobody can join: the answer is its one waiter's, though it may be stored */
    bool https, user_scope, personal_authorization, personal_cookie, unsafe, head;
    struct bytes method, authority, target;
    struct fields request;
    struct key own;       /* by the request's own query */
    struct bytes primary; /* the key without what the answer varies on: the request's, then the answer's */
    struct key_hash primary_hash;
    size_t url_n;
    struct mono_ms sent; /* when it went out */
    struct wall_s sent_wall;
    char *memory;         /* what the copies lie in */
    char *primary_memory; /* NULL: that too */
};

void ask_init(struct ask *ask, struct request *r, bool cacheable);
void ask_fini(struct ask *ask);
void ask_sent(struct ask *ask); /* it goes out now */

#endif
