/*
 * One stored response: status, fields, body, lifetimes. Also the markers that a key may hold instead.
 *
 * A flight builds it while the origin sends: created when the head is known, the body appended, then finished. From
 * creation on any number of readers on any thread read below the published length, without a lock and without a copy;
 * the same object is what the store keeps afterwards, so a body exists once.
 *
 * One allocation: the struct, what only a body in chunks needs (struct stored_chunks), the key, the values that are not
 * in the head, the tags, a pointer to the body's other codings (form.h) where there may be any, and a body of a known
 * length up to STORED_INLINE_MAX.
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

#include "cache/head.h"
#include "cache/thread.h"
#include "policies/bytes.h"
#include "policies/clock.h"
#include "policies/field.h"
#include "policies/freshness.h"
#include "policies/http_date.h"

struct forms;
struct store;
struct store_thread;
struct tags;

struct key_hash {
    uint64_t lo, hi;
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
    uint64_t owner_hash;  /* to find the owner from here (compact.c) */
    char data[];
};

/* A tag of a response (tag.h), in its own memory. */
struct stored_tag {
    uint64_t tag;
    struct stored *owner; /* NULL: where a purge has come to in its chain */
    /* the shard's lock */
    struct stored_tag *next, **pprev;
};

struct stored {
    /* constant */
    uint64_t hash; /* the lower half of the key's; of a form, its parent's */
    const struct head *head;
    uint32_t key_n;
    uint32_t key_url_n; /* so many of them are the url part */
    uint32_t fresh;     /* span_of, as are the next two */
    uint32_t initial_age;
    uint32_t useful; /* age from which it is useless and may be dropped: freshness_useful_ms; markers: lifetime */
    uint32_t date;   /* seconds since 1970 */
    struct mono_ms response_time;
    uint64_t born; /* store_birth() before the fetch */

    /* written at each use, by any thread */
    _Atomic uint32_t refs;    /* and REFS_FROZEN */
    _Atomic uint32_t used;    /* last use, in milliseconds, which wrap: stored_idle_ms */
    _Atomic uint32_t touched; /* when its place in the LRU list was renewed; the shard's lock to write */

    _Atomic uint16_t length; /* published bytes of a body that lies in here */
    uint16_t capacity;       /* its bytes in all; constant */
    uint32_t body;           /* where it begins; constant. The tags end there */

    /* the shard's lock */
    uint32_t expiry_slot;
    union {
        struct {
            struct stored *lru_prev, *lru_next;
        };
        void *epoch_entry[2];   /* out of the table: ck_epoch_entry_t's room; store.c asserts the size */
        struct stored *form_of; /* of a form */
    };
    union {
        struct stored *url_next;
        size_t lingering;    /* out of the table: bytes that are charged though */
        struct store *store; /* moved elsewhere: whose memory this is */
    };

    /* whoever made it, before anyone else sees it */
    uint32_t early_ms; /* how long its fetch took, where it is to be refreshed early; else 0 */
    /* whoever refreshes it, any thread */
    _Atomic uint32_t refresh_after; /* hold-down after a failed refresh: when one may be tried, in REFRESH_STEP_MS */
    _Atomic uint8_t refresh_failures;
    _Atomic bool withdrawn; /* not offered to the origin beside others any more (proxy/selection.h) */

    _Atomic bool expired;       /* soft purge: stale from now on */
    _Atomic uint8_t body_state; /* enum body_state */
    uint8_t place;              /* enum stored_place; the shard's lock */
    uint8_t ntags;              /* constant */
    bool chunked;               /* constant: struct stored_chunks follows */
    bool discarded;             /* the builder's */
};

enum { REFRESH_STEP_MS = 64 };
_Static_assert(sizeof(struct stored) == 120, "each byte more is paid for each response");

enum stored_place {
    PLACE_NONE,
    PLACE_TABLE,
    PLACE_LEFT, /* never comes back */
};

/* A body that is large, or of unknown length, or that another response has as well. */
struct stored_chunks {
    int64_t content_length;  /* stated by the origin, or -1 */
    struct chunk *first;     /* NULL: no body, or discarded */
    struct chunk *last;      /* builder only, a counted reference; NULL: finished */
    struct stored *body_of;  /* whose chunks these are: a counted reference; NULL: its own */
    _Atomic uint64_t length; /* published bytes */
    _Atomic uint64_t gone;   /* bytes at the beginning that are in memory no more */
    _Atomic size_t charged;  /* for the chunks */
    _Atomic bool lent;       /* another's body_of */
    struct chunk start;      /* where readers start from before anything has come */
};

struct stored_options {
    enum stored_kind kind;
    struct key_hash hash;
    struct bytes key;
    size_t key_url_n;
    struct bytes spec; /* of markers */
    struct bytes list; /* of markers: the caller's own */
    bool user_scope, with_authorization, with_cookie;
    uint8_t forms; /* of head.h */
    int status;
    struct fields fields;                    /* STORED_FIELDS_MAX at most */
    struct wall_s date;                      /* of the origin, or the response time; from 1970 to 2106 */
    const struct head_preparation *prepared; /* NULL: nothing */
    const uint64_t *tags;                    /* tag.h */
    size_t ntags;
    struct lifetimes lifetimes;
    struct mono_ms response_time;
    int64_t useful_ms;
    uint64_t born;
    int64_t content_length; /* -1: not known. Up to STORED_INLINE_MAX the body lies in the object itself */
    bool no_body;           /* content_length is stated, and nothing comes: the answer to a HEAD */
};

enum { STORED_FIELDS_MAX = 2 * 256 + 1 }; /* those of an answer and of the 304 that freshens it, and a Date */

#define STORED_INLINE_MAX UINT16_MAX
#define STORED_CHUNK_MAX (256 * 1024) /* a chunk's allocation */

/* Charged to the budget, making room as needed. Markers and responses without a body are complete at once with
 * stored_finish_body. */
struct stored *stored_create(struct store_thread *t, const struct stored_options *options, struct mono_ms now) MUST_USE;

/* A new response with new head and lifetimes and the body of `old` (complete), shared or, up to STORED_INLINE_MAX,
 * copied: a 304 freshens this way (RFC 9111 section 4.3.4). options.content_length is ignored. */
struct stored *stored_create_freshened(struct store_thread *t, const struct stored_options *options, struct stored *old,
                                       struct mono_ms now) MUST_USE;

/* ---- for who moves one elsewhere in memory (compact.c), under the lock of the shard that has it ---- */

/* In refs: it is being changed. Whoever finds it in the table so takes no reference, and looks again under the lock. */
#define REFS_FROZEN ((uint32_t)1 << 31)

/* False: somebody holds it. Else nobody does or will until it is thawed, and all of it may be changed. */
bool stored_freeze(struct stored *s) MUST_USE;
void stored_thaw(struct stored *s);
/* `from` is frozen; what is in its own memory is in `to` from now on. Tags and other lists are left to the store. */
void stored_move(struct stored *from, struct stored *to);
/* Of its body, into room as large. Returns its bytes; 0: it is none of its chunks. s is frozen. */
size_t stored_move_chunk(struct stored *s, const struct chunk *from, void *room) MUST_USE;

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
    struct stored *s;    /* borrowed: the caller holds a reference while the reader lives */
    struct chunk *chunk; /* NULL: the body lies in s itself */
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

/* Lengths of time, to the millisecond below twelve days, to the second above; longer than 100 years is for ever. */
#define SPAN_MS_MAX ((int64_t)1 << 30)

static inline uint32_t span_of(int64_t ms)
{
    int64_t s = ms / 1000;

    if (ms < SPAN_MS_MAX)
        return ms < 0 ? 0 : (uint32_t)ms;
    return s < UINT32_MAX - SPAN_MS_MAX ? (uint32_t)(SPAN_MS_MAX + s) : UINT32_MAX;
}

static inline int64_t span_ms(uint32_t span)
{
    if (span < SPAN_MS_MAX)
        return span;
    return span == UINT32_MAX ? INT64_MAX : (span - SPAN_MS_MAX) * 1000;
}

static inline int64_t stored_useful_ms(const struct stored *s)
{
    return span_ms(s->useful);
}

static inline struct lifetimes stored_lifetimes(const struct stored *s)
{
    return (struct lifetimes){
        .fresh_ms = span_ms(s->fresh),
        .stale_while_revalidate_ms = s->head->stale_while_revalidate_ms,
        .stale_if_error_ms = s->head->stale_if_error_ms,
        .initial_age_ms = span_ms(s->initial_age),
        .rule = s->head->rule,
        .explicit_ = s->head->explicit_,
        .revalidate_always = s->head->revalidate_always,
        .must_revalidate = s->head->must_revalidate,
    };
}

static inline struct wall_s stored_date(const struct stored *s)
{
    return (struct wall_s){s->date};
}

/* Times of use are of several threads, whose clocks are never so far apart. */
enum { USE_SLACK_MS = 60 * 1000 };

/* Between two times that wrap after 49 days; what seems to come first by a little is 0. */
static inline uint32_t use_ms_since(uint32_t then, uint32_t now)
{
    uint32_t ms = now - then;

    return ms > UINT32_MAX - USE_SLACK_MS ? 0 : ms;
}

static inline int64_t stored_idle_ms(const struct stored *s, struct mono_ms now)
{
    return use_ms_since(atomic_load_explicit(&((struct stored *)s)->used, memory_order_relaxed), (uint32_t)now.ms);
}

/* Of its allocation. */
static inline size_t stored_bytes(const struct stored *s)
{
    return (size_t)s->body + s->capacity;
}

static inline struct stored_chunks *stored_chunks(const struct stored *s)
{
    return (struct stored_chunks *)(s + 1);
}

static inline struct bytes stored_key(const struct stored *s)
{
    return (struct bytes){(const char *)(s + 1) + (s->chunked ? sizeof(struct stored_chunks) : 0), s->key_n};
}

static inline struct bytes stored_key_url(const struct stored *s)
{
    return (struct bytes){stored_key(s).p, s->key_url_n};
}

/* Where its own values begin (own_value_next): of markers the spec and the list, of responses head->nown. */
static inline const char *stored_own_values(const struct stored *s)
{
    return stored_key(s).p + s->key_n;
}

/* Of markers. */
struct bytes stored_spec(const struct stored *s);
struct bytes stored_list(const struct stored *s);

/* All fields of a response, for who wants them as a list. */
struct stored_view {
    struct field v[STORED_FIELDS_MAX];
    char date[HTTP_DATE_LEN + 1];
};

/* Borrows from both. */
struct fields stored_fields(const struct stored *s, struct stored_view *view);

/* The first value of that name (lower case, but not `date`). */
struct bytes stored_value(const struct stored *s, struct bytes name);

/* Where head->forms is not 0: NULL until the first other coding is wanted. It lies right before the body. */
static inline struct forms *_Atomic *stored_forms(const struct stored *s)
{
    return (struct forms * _Atomic *)(void *)((char *)s + s->body) - 1;
}

/* ntags */
static inline struct stored_tag *stored_tags(const struct stored *s)
{
    return (struct stored_tag *)(void *)((char *)s + s->body - (s->head->forms != 0 ? sizeof(struct forms *) : 0)) -
           s->ntags;
}

/* As the origin stated it, or as it is known; -1: neither. */
static inline int64_t stored_content_length(const struct stored *s)
{
    return s->chunked ? stored_chunks(s)->content_length : (int64_t)s->capacity;
}

/* Adds its tags to `to`. */
void stored_tags_merge(const struct stored *s, struct tags *to);

static inline enum body_state stored_body_state(const struct stored *s)
{
    return (enum body_state)atomic_load_explicit(&((struct stored *)s)->body_state, memory_order_acquire);
}

static inline uint64_t stored_length(const struct stored *s)
{
    if (s->chunked)
        return atomic_load_explicit(&stored_chunks(s)->length, memory_order_acquire);
    return atomic_load_explicit(&((struct stored *)s)->length, memory_order_acquire);
}

/* Marks it stale from now on (soft purge): age and lifetimes no longer make it fresh. */
static inline void stored_expire(struct stored *s)
{
    atomic_store_explicit(&s->expired, true, memory_order_release);
}

#endif
