/*
 * A borrowed run of bytes: a pointer and a length, no terminating NUL, valid for the call (or for as
 * long as whoever handed it out says).
 *
 * Threads  Pure functions, any thread.
 */
#ifndef WEIR_POLICIES_BYTES_H
#define WEIR_POLICIES_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct bytes {
    const char *p;
    size_t n;
};

#define BYTES_LIT(s) ((struct bytes){(s), sizeof(s) - 1})
#define BYTES_NONE ((struct bytes){NULL, 0})

static inline struct bytes bytes_of(const char *s)
{
    return (struct bytes){s, s == NULL ? 0 : strlen(s)};
}

static inline bool bytes_eq(struct bytes a, struct bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* ASCII case-insensitive; independent of the locale. */
static inline bool bytes_eq_nocase(struct bytes a, struct bytes b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
            return false;
    return true;
}

static inline bool bytes_is_one_of(struct bytes s, const struct bytes *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes_eq(s, words[i]))
            return true;
    return false;
}

static inline bool bytes_starts(struct bytes s, struct bytes prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

/* Without leading and trailing OWS (RFC 9110 section 5.6.3). */
static inline struct bytes bytes_trim(struct bytes s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s.p++, s.n--;
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

#endif
