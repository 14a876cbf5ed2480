#include "policies/cache_status.h"

/* On the way of every hit: copies of constants and digits, no format strings. */

#define INT64_DIGITS_MAX 20 /* with the sign */

static char *put(char *p, struct bytes s)
{
    memcpy(p, s.p, s.n);
    return p + s.n;
}

static char *put_number(char *p, int64_t value)
{
    char digits[INT64_DIGITS_MAX];
    char *end = digits + sizeof(digits), *d = end;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    do {
        *--d = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0)
        *--d = '-';
    return put(p, (struct bytes){d, (size_t)(end - d)});
}

static struct bytes member_of(enum cache_fwd fwd)
{
    switch (fwd) {
    case FWD_NONE:
        return BYTES_LIT("weir; hit");
    case FWD_URI_MISS:
        return BYTES_LIT("weir; fwd=uri-miss");
    case FWD_VARY_MISS:
        return BYTES_LIT("weir; fwd=vary-miss");
    case FWD_STALE:
        return BYTES_LIT("weir; fwd=stale");
    case FWD_REQUEST:
        return BYTES_LIT("weir; fwd=request");
    case FWD_METHOD:
        return BYTES_LIT("weir; fwd=method");
    case FWD_BYPASS:
        return BYTES_LIT("weir; fwd=bypass");
    case FWD_MISS:
        return BYTES_LIT("weir; fwd=miss");
    case FWD_PARTIAL:
        return BYTES_LIT("weir; fwd=partial");
    }
    return BYTES_LIT("weir; fwd=miss");
}

/* Everything but detail has a bounded length, and all of it together must leave room. */
_Static_assert(sizeof("weir; fwd=vary-miss; fwd-status=; ttl=; stored; collapsed") + 2 * INT64_DIGITS_MAX <=
                   CACHE_STATUS_MAX,
               "the longest Cache-Status without detail fits");

size_t cache_status_format(const struct cache_status *s, char out[CACHE_STATUS_MAX])
{
    char *p = put(out, member_of(s->fwd));

    if (s->fwd_status != 0) {
        p = put(p, BYTES_LIT("; fwd-status="));
        p = put_number(p, s->fwd_status);
    }
    if (s->has_ttl) {
        p = put(p, BYTES_LIT("; ttl="));
        p = put_number(p, s->ttl_s);
    }
    if (s->stored)
        p = put(p, BYTES_LIT("; stored"));
    if (s->collapsed)
        p = put(p, BYTES_LIT("; collapsed"));
    if (s->detail != NULL) {
        const struct bytes name = BYTES_LIT("; detail="), value = bytes_of(s->detail);

        if ((size_t)(p - out) + name.n + value.n <= CACHE_STATUS_MAX)
            p = put(put(p, name), value);
    }
    return (size_t)(p - out);
}
