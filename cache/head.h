/*
 * What stored responses have in common, kept once: status, windows, field names, and the values that repeat.
 *
 * A response holds one reference to its head and has in its own memory what differs: the values of the fields that are
 * not HEAD_SHARED, one after the other. So readers, who hold the response, count nothing here.
 *
 * Ownership  head_table.h, by the responses.
 * Threads    Immutable but for the store's own.
 */
#ifndef WEIR_CACHE_HEAD_H
#define WEIR_CACHE_HEAD_H

#include <stddef.h>
#include <stdint.h>

#include "policies/bytes.h"
#include "policies/field.h"

struct store;

enum stored_kind {
    STORED_RESPONSE,
    STORED_VARY, /* the key's responses vary: look again with the vary key (policies/vary.h); its spec holds the names
                  */
    STORED_PASS, /* hit-for-miss: do not wait for another's fetch of this key */
    STORED_NO_VARY, /* of a path: its spec says how queries are reduced for the key (proxy/no_vary.h) */
};

enum head_value {
    HEAD_SHARED,
    HEAD_OWN,  /* the response's */
    HEAD_DATE, /* as the response's date gives it */
};

struct head {
    const struct field *fields; /* nfields; without the values that are not shared */
    const uint8_t *values;      /* enum head_value of each */
    void *prepared;             /* the caller's (head_preparation) */
    uint32_t nfields;
    uint32_t nown;
    uint8_t kind; /* enum stored_kind */
    bool user_scope, with_authorization, with_cookie;
    uint8_t forms; /* 0: it has none (form.h); else the caller's own, below 128 */
    uint8_t rule;
    bool explicit_, revalidate_always, must_revalidate;
    int status;
    int64_t stale_while_revalidate_ms, stale_if_error_ms;

    /* the table's own */
    struct store *store;
    struct head *next;
    uint64_t hash;
    size_t bytes; /* of its allocation */
    size_t refs;  /* the table's lock */
    size_t text_n;
    char text[]; /* all of the above that is constant */
};

/* What the caller makes of a head once, for all responses that have it. The same for all of a store. */
struct head_preparation {
    size_t (*bytes)(size_t nfields);
    void (*fill)(const struct head *head, void *room); /* zeroed, aligned to 16 */
};

/* The next of the values that a response has of its own, in the order of the fields. */
static inline struct bytes own_value_next(const char **at)
{
    const unsigned char *p = (const unsigned char *)*at;
    uint32_t n = *p++;

    if (n == UINT8_MAX) {
        memcpy(&n, p, sizeof n);
        p += sizeof n;
    }
    *at = (const char *)p + n;
    return (struct bytes){(const char *)p, n};
}

static inline size_t own_value_bytes(size_t n)
{
    return (n < UINT8_MAX ? 1 : 1 + sizeof(uint32_t)) + n;
}

static inline void own_value_put(char **to, struct bytes value)
{
    uint32_t n = (uint32_t)value.n;
    char *p = *to;

    *p++ = (char)(n < UINT8_MAX ? n : UINT8_MAX);
    if (n >= UINT8_MAX) {
        memcpy(p, &n, sizeof n);
        p += sizeof n;
    }
    if (n > 0)
        memcpy(p, value.p, n);
    *to = p + n;
}

#endif
