/*
 * Random and mutated texts for property tests, which hold a parser against a slow reference that shows by its looks
 * that it is right.
 *
 * A text is one of the samples or a row of pieces, changed a few times or not at all, in memory of exactly its size, so
 * that the sanitizers see each byte read beyond it. The same seed gives the same texts. WEIR_PROPERTY_RUNS=1000000 asks
 * for more texts than an ordinary run has.
 */
#ifndef WEIR_TESTS_UNIT_MUTATE_H
#define WEIR_TESTS_UNIT_MUTATE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policies/bytes.h"

#define MUTATE_MAX 512

struct mutate {
    const char *const *samples; /* each with a NULL at the end */
    const char *const *pieces;
    uint64_t seed;
    char *text;
};

static inline size_t mutate_runs(size_t ordinary)
{
    const char *asked = getenv("WEIR_PROPERTY_RUNS");

    return asked == NULL ? ordinary : (size_t)strtoull(asked, NULL, 10);
}

/* splitmix64 */
static inline uint64_t mutate_random(struct mutate *m)
{
    uint64_t z = m->seed += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline size_t mutate_below(struct mutate *m, size_t n)
{
    return n == 0 ? 0 : (size_t)(mutate_random(m) % n);
}

static inline const char *mutate_one_of(struct mutate *m, const char *const *words)
{
    size_t n = 0;

    while (words[n] != NULL)
        n++;
    return words[mutate_below(m, n)];
}

/* Puts n bytes in place of `gone` bytes at `at`; what does not fit stays as it was. */
static inline void mutate_splice(char *text, size_t *length, size_t at, size_t gone, const char *p, size_t n)
{
    if (*length - gone + n > MUTATE_MAX)
        return;
    memmove(text + at + n, text + at + gone, *length - at - gone);
    memcpy(text + at, p, n);
    *length = *length - gone + n;
}

static inline void mutate_once(struct mutate *m, char *text, size_t *length)
{
    size_t at = mutate_below(m, *length + 1), left = *length - at, n;
    const char *piece = mutate_one_of(m, m->pieces);
    char copy[MUTATE_MAX], any;

    switch (mutate_below(m, 8)) {
    case 0: /* cut out */
        n = mutate_below(m, left < 8 ? left + 1 : 9);
        mutate_splice(text, length, at, n, "", 0);
        break;
    case 1: /* cut off */
        *length = at;
        break;
    case 2: /* double */
        n = mutate_below(m, left < 40 ? left + 1 : 41);
        memcpy(copy, text + at, n);
        mutate_splice(text, length, at, 0, copy, n);
        break;
    case 3: /* any byte in place of one */
        any = (char)mutate_random(m);
        mutate_splice(text, length, at, left > 0, &any, 1);
        break;
    case 4: /* a near one in its place */
        if (left > 0)
            text[at] = (char)(text[at] ^ (1 << mutate_below(m, 8)));
        break;
    case 5: /* a digit in its place */
        any = (char)('0' + mutate_below(m, 10));
        mutate_splice(text, length, at, left > 0, &any, 1);
        break;
    default: /* a piece, between or in place of one byte */
        mutate_splice(text, length, at, left > 0 && mutate_below(m, 2) == 0, piece, strlen(piece));
        break;
    }
}

/* The next text; valid until the next call or mutate_end(). */
static inline struct bytes mutate_next(struct mutate *m)
{
    char text[MUTATE_MAX];
    size_t length = 0, changes;

    if (mutate_below(m, 2) == 0) {
        const char *sample = mutate_one_of(m, m->samples);

        mutate_splice(text, &length, 0, 0, sample, strlen(sample));
        changes = mutate_below(m, 6);
    } else {
        for (size_t n = mutate_below(m, 16); n > 0; n--) {
            const char *piece = mutate_one_of(m, m->pieces);

            mutate_splice(text, &length, length, 0, piece, strlen(piece));
        }
        changes = mutate_below(m, 3);
    }
    while (changes-- > 0)
        mutate_once(m, text, &length);
    free(m->text);
    m->text = malloc(length == 0 ? 1 : length);
    if (m->text == NULL)
        abort();
    memcpy(m->text, text, length);
    return (struct bytes){m->text, length};
}

static inline void mutate_end(struct mutate *m)
{
    free(m->text);
    m->text = NULL;
}

/* For messages: what does not print as \xNN. */
static inline const char *mutate_show(struct bytes s)
{
    static char out[4 * MUTATE_MAX + 1];
    size_t n = 0;

    for (size_t i = 0; i < s.n && i < MUTATE_MAX; i++)
        if (s.p[i] >= ' ' && s.p[i] <= '~' && s.p[i] != '\\')
            out[n++] = s.p[i];
        else
            n += (size_t)snprintf(out + n, 5, "\\x%02x", (unsigned char)s.p[i]);
    out[n] = '\0';
    return out;
}

#endif
