/*
 * Records for tests, in memory of exactly their size, so that the sanitizers see each byte read beyond it.
 */
#ifndef WEIR_TESTS_UNIT_RECORD_MAKE_H
#define WEIR_TESTS_UNIT_RECORD_MAKE_H

#include <stdlib.h>

#include "cache/record.h"

static const struct field record_fields[] = {
    {BYTES_LIT("content-type"), "Content-Type", BYTES_LIT("text/plain")},
    {BYTES_LIT("etag"), NULL, BYTES_LIT("\"1\"")},
    {BYTES_LIT("x-empty"), "X-Empty", BYTES_LIT("")},
};

static inline struct record record_sample(void)
{
    struct record r = {
        .kind = RECORD_RESPONSE,
        .with_cookie = true,
        .status = 200,
        .early_ms = 7,
        .response_ms = INT64_C(1700000000123),
        .date = {1700000000},
        .lifetimes = {.fresh_ms = 60000,
                      .stale_while_revalidate_ms = 30000,
                      .stale_if_error_ms = 3600000,
                      .initial_age_ms = 1500,
                      .rule = LIFETIME_MAX_AGE,
                      .explicit_ = true,
                      .must_revalidate = true},
        .key = BYTES_LIT("http://api.test/a?b=c\nshared"),
        .key_url_n = 21,
        .fields = {record_fields, 3},
    };

    for (int i = 0; i < RECORD_TOKEN_BYTES; i++) {
        r.epoch.all[i] = (unsigned char)i;
        r.epoch.url[i] = (unsigned char)(0x80 + i);
    }
    return r;
}

static inline struct bytes record_make(const struct record *r, struct bytes body)
{
    size_t n = record_bytes(r, body.n);
    char *text = malloc(n);

    if (text == NULL)
        abort();
    char *at = record_begin(r, body.n, text);

    if (body.n > 0)
        memcpy(at, body.p, body.n);
    record_seal(text, n);
    return (struct bytes){text, n};
}

static inline void record_free(struct bytes text)
{
    free((void *)(uintptr_t)text.p);
}

#endif
