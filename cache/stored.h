/*
 * One stored response: status, fields, body, lifetimes. Also the markers that a key may hold instead.
 *
 * A flight builds it while the origin sends: created when the head is known, the body appended, then finished. From
 * creation on any number of readers on any thread read below the published length, without a lock and without a copy;
 * the same object is what the store keeps afterwards, so a body exists once.
 *
 * Ownership  Reference counted, atomically. stored_create gives one. Every byte charged to the store's budget is given
 * back when the last reference goes. What stored_options points to is copied. Errors     NULL: no room in the budget or
 * no memory. False likewise. Threads    Building (append, finish, discard): one thread at a time, the flight's.
 * Reading: any thread. All else is immutable after creation, but for what is marked atomic and what is the store's own.
 */
#ifndef WEIR_CACHE_STORED_H
#define WEIR_CACHE_STORED_H

#include <stdatomic.h>
#include <stdint.h>

#include "cache/thread.h"
#include "policies/bytes.h"
#include "policies/clock.h"
#include "policies/field.h"
#include "policies/freshness.h"

struct store;
struct store_thread;
struct tags;

struct key_hash {
    uint64_t lo, hi;
};

enum stored_kind {
    STORED_RESPONSE,
    STORED_VARY, /* the key's responses vary: look again with the vary key (policies/vary.h); `spec` holds the names */
    STORED_PASS, /* hit-for-miss: do not wait for another's fetch of this key */
    STORED_NO_VARY, /* of a path: `spec` says how queries are reduced for the key (proxy/no_vary.h) */
};

enum body_state {
    BODY_OPEN,     /* more may come */
    BODY_COMPLETE, /* length is final */
    BODY_BROKEN,   /* the origin did not finish: never stored */
};

/* A piece of a body. Nodes are counted one by one, each holds a reference to the next, so that a body that is
 * passed through (stored_discard_body) goes piece by piece as its slowest reader moves on. A piece is full before the
 * next begins. */
struct chunk {
    _Atomic uint32_t refs;
    uint32_t capacity;
    uint64_t start;       /* offset in the body */
    struct chunk *next;   /* set before the length that covers it is published */
    struct stored *owner; /* whose budget: not a counted reference, whoever holds a chunk holds its owner */
    bool embedded;        /* in the stored's own memory: lives as long as that */
    char data[];
};

/* A tag of a response (tag.h), in its own memory. */
struct stored_tag {
    uint64_t tag;
    struct stored *owner; /* NULL: where a purge has come to in its chain */
    /* the shard's lock */
    struct stored_tag *next, **pprev;
};

/* What a lookup compares. */
struct stored_key {
    struct key_hash hash;
    struct bytes key; /* whole; the first key_url_n bytes are its url part */
};

struct stored {
    union {
        struct stored_key id;
        struct {
            struct key_hash hash;
            struct bytes key;
        };
    };
    const struct field *fields; /* nfields */
    void *prepared; /* options.prepared_bytes of the caller's own, aligned to 16, zeroed; filled by the builder before
                       anyone else sees the object */
    struct lifetimes lifetimes;
    struct mono_ms response_time;
    /* age from which it is useless and may be dropped: freshness_useful_ms; markers: their lifetime */
    int64_t useful_ms;
    struct bytes spec; /* STORED_VARY, STORED_NO_VARY */
    uint64_t born;     /* store_birth() before the fetch */
    uint32_t key_url_n;
    uint32_t nfields;
    uint32_t prepared_bytes;
    int status;
    enum stored_kind kind;
    bool user_scope;         /* counted in the user-scoped pool */
    bool with_authorization; /* usable for requests with Authorization on a shared route */
    bool with_cookie;        /* ... with a personal cookie */
    _Atomic bool expired;    /* soft purge: stale from now on */

    /* the body */
    int64_t content_length; /* stated by the origin, or -1 */
    struct chunk *first;    /* NULL: no body, or discarded */
    struct chunk *last;     /* builder only, a counted reference; NULL: finished */
    struct stored *body_of; /* whose chunks these are: a counted reference; NULL: its own */
    bool discarded;
    _Atomic int body_state;  /* enum body_state */
    _Atomic uint64_t length; /* published bytes */
    _Atomic uint64_t gone;   /* bytes at the beginning that are in memory no more */

    /* written at each use, by any thread */
    _Atomic uint32_t refs;
    _Atomic bool lent;          /* another's body_of */
    _Atomic int64_t used_ms;    /* last use */
    _Atomic int64_t touched_ms; /* when its place in the LRU list was renewed; the shard's lock to write */

    /* the store's own */
    struct store *store;
    _Atomic size_t charged; /* given back at the last release */
    size_t lingering;       /* of charged: still held though out of the table */
    struct stored *lru_prev, *lru_next;
    struct stored **url_pprev;
    struct stored *url_next;
    uint32_t url_hash;
    uint32_t expiry_slot;
    bool in_table;
    bool evicted;         /* has left the table: never comes back */
    uint16_t ntags;       /* constant; they lie right before `prepared` */
    void *epoch_entry[2]; /* ck_epoch_entry_t's room; store.c asserts the size */
};

struct stored_options {
    enum stored_kind kind;
    struct key_hash hash;
    struct bytes key;
    size_t key_url_n;
    struct bytes spec;
    bool user_scope, with_authorization, with_cookie;
    int status;
    struct fields fields;
    size_t prepared_bytes;
    const uint64_t *tags; /* tag.h */
    size_t ntags;
    struct lifetimes lifetimes;
    struct mono_ms response_time;
    int64_t useful_ms;
    uint64_t born;
    int64_t content_length; /* -1: not known. Up to STORED_INLINE_MAX the body lies in the object itself */
};

#define STORED_INLINE_MAX (64 * 1024)
#define STORED_CHUNK_MAX (256 * 1024) /* a chunk's allocation */

/* Charged to the budget, making room as needed. Markers and responses without a body are complete at once with
 * stored_finish_body. */
struct stored *stored_create(struct store_thread *t, const struct stored_options *options, struct mono_ms now) MUST_USE;

/* A new response with new head and lifetimes and the body of `old` (complete), shared or, up to STORED_INLINE_MAX,
 * copied: a 304 freshens this way (RFC 9111 section 4.3.4). options.content_length is ignored. */
struct stored *stored_create_freshened(struct store_thread *t, const struct stored_options *options, struct stored *old,
                                       struct mono_ms now) MUST_USE;

struct stored *stored_retain(struct stored *s);
void stored_release(struct stored *s); /* NULL is allowed; any thread */

/* Appends and publishes, all of it or nothing. Chunks grow from 4 KiB to 256 KiB where the length is not known (a first
 * piece that is smaller gets a chunk of its own size: often it is the whole body); never more than the content length
 * where it is: what exceeds it is refused. A body that is passed through (stored_discard_body) may exceed
 * a full budget while no more than STORED_CHUNK_MAX of it is in memory. */
bool stored_append(struct store_thread *t, struct stored *s, struct bytes piece, struct mono_ms now) MUST_USE;
void stored_finish_body(struct stored *s, enum body_state state); /* COMPLETE or BROKEN */

/* From now on the pieces go as the readers move on; the object can never be stored. Readers that start later find no
 * body (stored_reader_start fails). The caller keeps stored_reader_start of other threads out during the call. A body
 * that is complete already goes with the object. */
void stored_discard_body(struct stored *s);

/* Bytes of the body that are in memory now (also those only a slow reader holds). */
size_t stored_body_bytes(const struct stored *s);

/* A place in a body. */
struct stored_reader {
    struct stored *s; /* borrowed: the caller holds a reference while the reader lives */
    struct chunk *chunk;
    uint64_t position;
    bool counts; /* holds a reference to chunk: for bodies that are not complete yet */
};

/* At offset 0. False: the body was discarded. A body of length 0 is fine. */
bool stored_reader_start(struct stored_reader *r, struct stored *s) MUST_USE;
/* Up to n runs of what is published from the position on, at most max_bytes in all; returns how many runs. They stay
 * valid until the reader moves past them. */
size_t stored_reader_peek(struct stored_reader *r, struct bytes *runs, size_t n, size_t max_bytes);
void stored_reader_advance(struct stored_reader *r, size_t bytes); /* at most what peek gave */
void stored_reader_stop(struct stored_reader *r);

static inline struct fields stored_fields(const struct stored *s)
{
    return (struct fields){s->fields, s->nfields};
}

/* ntags */
static inline struct stored_tag *stored_tags(const struct stored *s)
{
    return (struct stored_tag *)s->prepared - s->ntags;
}

/* Adds its tags to `to`. */
void stored_tags_merge(const struct stored *s, struct tags *to);

static inline enum body_state stored_body_state(const struct stored *s)
{
    return (enum body_state)atomic_load_explicit(&((struct stored *)s)->body_state, memory_order_acquire);
}

static inline uint64_t stored_length(const struct stored *s)
{
    return atomic_load_explicit(&((struct stored *)s)->length, memory_order_acquire);
}

/* Marks it stale from now on (soft purge): age and lifetimes no longer make it fresh. */
static inline void stored_expire(struct stored *s)
{
    atomic_store_explicit(&s->expired, true, memory_order_release);
}

#endif
