/*
 * What the tests of the store build their responses with.
 */
#ifndef WEIR_TESTS_STORED_MAKE_H
#define WEIR_TESTS_STORED_MAKE_H

#include <stdio.h>
#include <stdlib.h>

#include "cache/store.h"
#include "policies/key.h"

#define T0 ((struct mono_ms){1000000})

static inline struct mono_ms at_ms(int64_t ms)
{
    return (struct mono_ms){T0.ms + ms};
}

/* Keys as policies/key.h makes them, so that purges by prefix see real ones. */
struct made_key {
    char buf[1024];
    struct key key;
};

static inline void make_key(struct made_key *m, const char *path, const char *user)
{
    const struct key_rules rules = {0};
    char hash[USER_HASH_BYTES + 1] = {0};
    struct key_request r = {.authority = BYTES_LIT("example.org"), .path = bytes_of(path)};

    if (user != NULL) {
        snprintf(hash, sizeof hash, "%-32s", user);
        r.user_scope = true;
        r.user = (struct bytes){hash, USER_HASH_BYTES};
    }
    key_build(&rules, &r, m->buf, &m->key);
}

static inline struct stored_options options_for(struct store *store, const struct made_key *m)
{
    return (struct stored_options){
        .kind = STORED_RESPONSE,
        .hash = store_hash(store, m->key.whole),
        .key = m->key.whole,
        .key_url_n = m->key.url.n,
        .status = 200,
        .response_time = T0,
        .useful_ms = 3600 * 1000,
        .born = store_birth(store),
        .content_length = -1,
    };
}

static inline struct stored_options options_of(struct store *store, const char *path)
{
    static _Thread_local struct made_key m;

    make_key(&m, path, NULL);
    return options_for(store, &m);
}

static inline struct stored *acquire(struct store_thread *t, struct store *store, const char *path, struct mono_ms now)
{
    struct made_key m;

    make_key(&m, path, NULL);
    return store_acquire(t, store_hash(store, m.key.whole), m.key.whole, now);
}

/* A body whose bytes tell their own place. */
static inline char body_byte(uint64_t at)
{
    return (char)('a' + at % 23 + (at / 4096) % 3);
}

static inline bool append_body(struct store_thread *t, struct stored *s, size_t bytes, struct mono_ms now)
{
    uint64_t from = stored_length(s);
    char *piece = malloc(bytes + 1);

    for (size_t i = 0; i < bytes; i++)
        piece[i] = body_byte(from + i);
    bool ok = stored_append(t, s, (struct bytes){piece, bytes}, now);

    free(piece);
    return ok;
}

/* Complete, with a body of that many bytes; NULL when there was no room. */
static inline struct stored *make_complete(struct store_thread *t, struct stored_options o, size_t bytes,
                                           struct mono_ms now)
{
    struct stored *s;

    if (o.kind == STORED_RESPONSE)
        o.content_length = (int64_t)bytes;
    s = stored_create(t, &o, now);
    if (s == NULL)
        return NULL;
    if (!append_body(t, s, o.kind == STORED_RESPONSE ? bytes : 0, now)) {
        stored_release(s);
        return NULL;
    }
    stored_finish_body(s, BODY_COMPLETE);
    return s;
}

/* Makes and puts; gives its own reference up. */
static inline bool put_complete(struct store_thread *t, struct stored_options o, size_t bytes, struct mono_ms now)
{
    struct stored *s = make_complete(t, o, bytes, now);
    bool ok = s != NULL && store_put(t, s, now);

    stored_release(s);
    return ok;
}

/* Reads n bytes from where the reader is, in runs of at most `step`, and compares them. */
static inline bool read_and_check(struct stored_reader *r, uint64_t n, size_t step)
{
    while (n > 0) {
        struct bytes runs[3];
        size_t max = n < step ? (size_t)n : step, count = stored_reader_peek(r, runs, 3, max), total = 0;

        for (size_t i = 0; i < count; i++) {
            for (size_t j = 0; j < runs[i].n; j++)
                if (runs[i].p[j] != body_byte(r->position + total + j))
                    return false;
            total += runs[i].n;
        }
        if (total == 0 || total > max)
            return false;
        stored_reader_advance(r, total);
        n -= total;
    }
    return true;
}

static inline bool body_is_right(struct stored *s)
{
    struct stored_reader r;
    bool ok = stored_reader_start(&r, s) && read_and_check(&r, stored_length(s), 70000);

    stored_reader_stop(&r);
    return ok;
}

static inline uint64_t used_bytes(struct store *store)
{
    struct store_figures f;

    store_figures(store, &f);
    return f.used_bytes;
}

#endif
