/*
 * The coder: a few threads that make forms of stored responses (cache/form.h), so that no event loop does.
 *
 * A form is made once, for whoever wants it first; meanwhile the others do without, or wait for it where they cannot
 * (coder_wait). What does not pay, cannot be unpacked or would be a bomb is refused for good, and not tried again.
 * The threads run at a lower priority than the event loops: where processors are short, hits come first.
 *
 * Ownership  A job holds its response. At most JOBS_MAX wait: what comes then is declined, and asked for again by the
 * next request. A response that has left the store meanwhile is not worked on.
 * Threads    coder_create and coder_destroy in main; the rest in any thread.
 */
#ifndef WEIR_PROXY_CODER_H
#define WEIR_PROXY_CODER_H

#include "cache/form.h"
#include "policies/compress.h"
#include "proxy/loop.h"

struct coder;

struct coder *coder_create(struct store *store, unsigned threads);
/* Nobody asks any more. Those who wait are told; jobs that have not begun are dropped. Loops still run. */
void coder_stop(struct coder *coder);
void coder_destroy(struct coder *coder); /* stopped, or NULL */

/* What the body of a stored response is to be had in, as head->forms says it: 0, or 1 and the coding that it came in.
 */
static inline uint8_t coder_forms_of(enum compress may, enum coding came_in)
{
    return (uint8_t)(may == COMPRESS_NEVER ? 0 : 1 + came_in);
}

/* Added to that: not here. It is a part, or the answer to a HEAD, of what has forms where it is whole. */
enum { FORMS_OF_THE_WHOLE = 64 };

/* May have forms itself. */
static inline bool coder_has_forms(const struct stored *s)
{
    return s->head->forms != 0 && s->head->forms < FORMS_OF_THE_WHOLE;
}

/* Of what is made of parts like that one. */
static inline uint8_t coder_forms_joined(const struct stored *part, bool whole)
{
    return whole ? part->head->forms % FORMS_OF_THE_WHOLE : part->head->forms;
}

/* Where head->forms is not 0. */
static inline enum coding coder_came_in(const struct stored *s)
{
    return (enum coding)(s->head->forms % FORMS_OF_THE_WHOLE - 1);
}

/* Wants a complete response in another coding: packed with that level, or (CODING_IDENTITY) unpacked to object_max
 * bytes at most. */
void coder_want(struct coder *coder, struct store_thread *t, struct stored *s, enum coding coding, unsigned level,
                uint64_t object_max, struct mono_ms now);

/* One who waits until a form that is wanted is made or refused. */
struct coder_waiter {
    struct message message; /* run once in the loop's thread: set before */
    struct loop *loop;
    const struct stored *of;
    enum coding coding;
    struct coder_waiter *next;
};

/* False: nobody makes it (any more): look again. */
bool coder_wait(struct coder *coder, struct coder_waiter *waiter) MUST_USE;

/* The forms that `s`, a new response with the body of `old` that nobody else knows yet, has without any work: those of
 * old with the fields of s (a 304 freshens them all: RFC 9111 section 4.3.4). */
void coder_carry_over(struct store_thread *t, struct stored *old, struct stored *s, struct mono_ms now);

struct coder_figures {
    struct {
        uint64_t made, bytes_before, bytes_after, refused;
    } codings[CODINGS]; /* identity: unpacked */
    uint64_t streamed;  /* answers that were packed on their way out (packer.h) */
};
void coder_count_stream(struct coder *coder);
void coder_figures(const struct coder *coder, struct coder_figures *out);

#endif
