/*
 * May a response be stored, and for whom (RFC 9111 sections 3 and 3.5).
 *
 * The same verdict decides about sharing it with the requests that wait for it: what may not be stored is
 * never handed to a second client.
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_STORING_H
#define WEIR_POLICIES_STORING_H

#include "policies/freshness.h"

enum storing {
    STORING_OK = 0,
    STORING_METHOD,  /* only GET is stored, and POST as below */
    STORING_STATUS,  /* no cacheable status, nothing explicit; or never: 304, 407, 412, 428, 429, 431, 511 */
    STORING_PARTIAL, /* 416, and 206 but for one range that was asked for (part.h) */
    STORING_NO_STORE,
    STORING_PRIVATE,
    STORING_AUTHORIZATION, /* RFC 9111 section 3.5 */
    STORING_COOKIE,        /* a personal cookie, and no explicit lifetime */
    STORING_SET_COOKIE,
    STORING_VARY_STAR,   /* also: a Vary on the credential that the request carries, on a shared route */
    STORING_NO_LIFETIME, /* fresh for no time, no validator, no stale window: of no use */
    STORING_TOO_LARGE,   /* this and the next two are the caller's own verdicts */
    STORING_OFF,         /* cache: off */
    STORING_PURGED,      /* a tag of it was purged while it was fetched */
};

/* What a route does with a response that has Set-Cookie (RFC 9111 section 7.3 does not forbid to store it). */
enum set_cookie {
    SET_COOKIE_NEVER, /* not stored */
    SET_COOKIE_STORE, /* stored with it, where the origin itself states a lifetime */
    SET_COOKIE_STRIP, /* stored without it, and sent without it: the caller removes it */
};

struct storing_facts {
    struct bytes method;
    bool answers_get; /* a POST whose answer has its target as Content-Location (RFC 9110 section 9.3.3) */
    enum set_cookie set_cookie;
    bool asked_range;       /* for one range, which a 206 may answer */
    int64_t content_length; /* -1: not stated */
    int status;
    struct fields fields; /* of the response, without those that it keeps for one client */
    const struct cache_control *cc;
    const struct lifetimes *lifetimes;
    bool ignore_origin;
    bool user_scope;        /* the key holds the user: private may be stored */
    bool has_authorization; /* of the request, on a shared route */
    bool has_personal_cookie;
};

/* The verdicts about whom a response is for come before STORING_STATUS and STORING_NO_LIFETIME: with these two it holds
 * nothing that is marked as one client's own. What no-cache="field" and private="field" name is not among the fields
 * here and stays out of what is stored and shared (qualified.h). */
enum storing storing_decide(const struct storing_facts *facts);

/* Is it an error's status that concerns others who asked for the same as much (collapsed requests, RFC 9111 section 4)?
 * No redirection (it may hold what is for one client), and none that is about this very request: its conditions, its
 * range, its expectation, its fields, its proxy or network credentials. */
bool storing_may_be_shared(int status);

/* A stored response may be used for a request with Authorization (RFC 9111 section 3.5: public, s-maxage,
 * must-revalidate), with a personal cookie (an explicit lifetime above zero). */
bool storing_usable_with_authorization(const struct cache_control *cc);
bool storing_usable_with_cookie(const struct lifetimes *l);

/* A word for Cache-Status' detail and the log. */
const char *storing_word(enum storing s);

/* Heuristically cacheable statuses (RFC 9110 section 15.1), 206 among them. */
bool storing_heuristic_status(int status);

#endif
