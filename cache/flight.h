/*
 * Flights: one fetch in the air for a cache key, and who waits for it (collapsed requests, RFC 9111 section 4).
 *
 * A flight belongs to the worker thread that fetches (its home), never to a client: any waiter may leave at any time.
 * Waiters sit in lists of their own thread; a thread is told once that something changed, not once for each waiter.
 * Nothing of the network is known here: who fetches and what a waiter does is up to proxy/.
 *
 * Ownership  Reference counted, atomically: the home holds one from flight_join (created) or flight_create_alone until
 * flight_end; each waiter holds one while it is joined. `response` is a counted reference of the flight's. Errors NULL:
 * out of memory. Threads    Marked at each function. A waiter is touched by its own thread only.
 */
#ifndef WEIR_CACHE_FLIGHT_H
#define WEIR_CACHE_FLIGHT_H

#include <pthread.h>

#include "cache/store.h"

struct flights;
struct flight;

enum flight_state {
    FLIGHT_FETCHING, /* nothing known yet */
    FLIGHT_SHARED,   /* `response` is for everybody whose vary key matches; its body grows */
    FLIGHT_LEADER,   /* the answer is for the leader alone: the others go and ask for themselves, all at once */
    FLIGHT_FAILED,   /* no answer: `failure` says why */
    FLIGHT_DECLINED, /* nobody's answer any more (the leader has gone): ask again */
};

/* One thread's part of a flight. */
struct flight_sub {
    struct flight *flight;
    _Atomic bool posted;
    void *message[4]; /* room for the message with which `post` reaches the thread */
    _Atomic uint32_t waiters;
    /* that thread only */
    struct flight_waiter *first;
    struct flight_waiter *cursor; /* next to be woken in the round that is going on */
};

struct flight_waiter {
    /* Something changed: state, response length or its end. Called in the waiter's thread, may leave. */
    void (*wake)(struct flight_waiter *w);
    struct flight *flight; /* NULL: not joined */
    struct flight_waiter *prev, *next;
    unsigned thread;
    bool leader; /* its request is the one that was sent */
};

/* A place in the table. */
struct flight_entry {
    struct flight *flight;
    struct bytes key;
    size_t key_url_n; /* so much of it is its url part */
    struct key_hash hash;
    /* the table's lock */
    struct flight_entry *chain;
    bool in_table;
};

struct flight {
    _Atomic uint32_t refs;
    struct flights *flights;
    unsigned home;
    uint64_t born; /* store_birth() under the table's lock: purges that come later find the flight or are older */

    /* set by the home before `state` is, constant afterwards */
    struct stored *response;
    struct bytes spec;       /* the Vary spec that answer_key was made by; empty: none */
    struct bytes answer_key; /* under which the answer is stored; constant once `state` says that there is one */
    int failure;             /* proxy's own code */
    int failure_status;      /* of the origin's answer, where there was one */
    int64_t retry_after_ms;  /* until the origin may be asked again, where it was not for its failures; 0: not known */
    bool validated;          /* a 304 freshened what was stored */
    int note;                /* proxy's own: why */
    struct fields withheld;  /* of the answer, for the leader alone: one block of its own, free()d with the flight */

    _Atomic int state; /* enum flight_state; release, so that the above can be read */
    _Atomic uint32_t waiters;
    _Atomic bool ended;  /* the home is through with it */
    _Atomic bool doomed; /* a purge or an invalidation came: deliver, do not store */

    /* a body that is passed through, not kept: any thread */
    _Atomic uint64_t consumed;  /* position of the fastest reader */
    _Atomic uint64_t cut_below; /* readers that have not come this far are cut off */
    _Atomic bool paused;
    pthread_mutex_t body; /* keeps stored_reader_start and stored_discard_body apart */

    /* [0] the key it was made for, [1] that of the answer, once it told what it varies on: found under both */
    struct flight_entry entries[2];
    /* `response`, once purges by tag can find the flight by it; the table's lock */
    const struct stored *tagged;

    struct flight_waiter *leader; /* home only: whose request was sent; NULL: it has left, or nobody waited */
    void *home_data;              /* home only: its fetch */
    void *home_message[4];
    _Atomic bool home_posted;
    struct flight_sub subs[];
};

struct flights_options {
    unsigned threads;
    struct store *store;
    /* Has flight_sub_run(sub) called in thread `thread`; must not call it at once. */
    void (*post)(void *context, unsigned thread, struct flight_sub *sub);
    /* Has the home look at the flight (the last waiter left, a pause may end): calls context's own function with the
     * flight in the home thread, and then flight_home_done. */
    void (*post_home)(void *context, struct flight *flight);
    void *context;
};

struct flights *flights_create(const struct flights_options *options) MUST_USE;
void flights_destroy(struct flights *all); /* none in the air */

/* Joins the flight for that key or makes one whose home is the calling thread (*created; the caller then fetches). w
 * NULL: nobody waits (a refresh): joins nothing; NULL is returned when one is in the air already. Any thread. */
struct flight *flight_join(struct flights *all, unsigned thread, struct key_hash hash, struct bytes key,
                           size_t key_url_n, struct flight_waiter *w, bool *created) MUST_USE;

/* Joins the flight for that key if there is one in the air. Any thread. */
bool flight_join_existing(struct flights *all, unsigned thread, struct key_hash hash, struct bytes key,
                          struct flight_waiter *w) MUST_USE;

/* A flight that nobody can join, with its one waiter. */
struct flight *flight_create_alone(struct flights *all, unsigned thread, struct bytes key, size_t key_url_n,
                                   struct flight_waiter *w) MUST_USE;

/* The waiter's thread. Not joined: nothing. A reader stops reading first: a pause for want of memory may end by it. */
void flight_leave(struct flight_waiter *w);

/* Found under the key of its answer too from now on; sets answer_key. Home, once, before the marker that sends others
 * there is stored. False: no memory. */
bool flight_add_variant(struct flight *f, struct key_hash hash, struct bytes variant, size_t key_url_n) MUST_USE;
/* The answer's tags are known: `response` is set. Home, once, before flight_add_variant and flight_tell. False: one of
 * them has been purged since the flight was born. Nobody could know that it carries the tag, so some may have joined
 * after that purge was answered: only the leader, whose request is older, may have this answer. The flight is doomed,
 * and not found any more. */
bool flight_show_tags(struct flight *f) MUST_USE;
/* Found no more; those who wait stay. Home. */
void flight_close(struct flight *f);
/* The same, if nobody waits for it, which then stays so. True: nobody does. Home, before its variant is added. */
bool flight_close_abandoned(struct flight *f) MUST_USE;
/* Sets the state and tells all threads. Home. The calling thread's own waiters are woken before this returns. */
void flight_tell(struct flight *f, enum flight_state state);
/* There is more of the body, or its end. Home. */
void flight_tell_body(struct flight *f);
/* The home's part is over: closes, gives up the home's reference. */
void flight_end(struct flight *f);

/* A purge: closes and dooms every flight of that url (or with that prefix, or whose answer is known to carry that tag,
 * or all). After the store's purge. Any thread. */
void flights_doom_url(struct flights *all, struct bytes key_url);
void flights_doom_prefix(struct flights *all, struct bytes url_prefix);
void flights_doom_tag(struct flights *all, const struct tag_target *target);
void flights_doom_all(struct flights *all);

/* Reading a body: any waiter. */
bool flight_reader_start(struct flight *f, struct stored_reader *r);
/* A reader of a passed-through body has come so far: lets a paused fetch go on. */
void flight_consumed(struct flight *f, uint64_t position);

void flight_sub_run(struct flight_sub *sub); /* what `post` has called, in its thread */
void flight_home_begin(struct flight *f);    /* before looking: what changes from here on posts anew */
void flight_home_done(struct flight *f);     /* gives up the reference that the message held */

static inline enum flight_state flight_state(const struct flight *f)
{
    return (enum flight_state)atomic_load_explicit(&((struct flight *)f)->state, memory_order_acquire);
}

/* Of those that can be joined. */
struct flights_figures {
    size_t flights, waiters;
    size_t places; /* keys under which they are found */
};

void flights_figures(struct flights *all, struct flights_figures *out); /* any thread */

#endif
