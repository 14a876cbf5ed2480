#include "cache/record.h"

#include <assert.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "policies/forward.h"

/*
 *  0  magic            4
 *  4  version, kind    1 1
 *  6  flags            2
 *  8  epoch            32
 * 40  numbers          see struct fixed
 *     key, spec, fields, body
 *     checksum         16
 *
 * A field is the length of its name (2), whether it has the sender's own case as well (1), the length of its value (4),
 * name, the name in that case, value.
 */
static const char MAGIC[4] = {'w', 'e', 'i', 'r'};

enum {
    FLAG_AUTHORIZATION = 1,
    FLAG_COOKIE = 2,
    FLAG_EXPLICIT = 4,
    FLAG_REVALIDATE_ALWAYS = 8,
    FLAG_MUST_REVALIDATE = 16,
    FLAGS_ALL = 31,

    HEAD_BYTES = 40,
    NUMBERS = 14,
    FIXED_BYTES = HEAD_BYTES + NUMBERS * 8,
    CHECKSUM_BYTES = 16,
    FIELD_BYTES = 2 + 1 + 4,
};

/* Numbers are all alike, eight bytes each: a record is some hundred bytes of them, its body thousands. */
struct fixed {
    int64_t status, early_ms, response_ms, date, fresh_ms, stale_while_revalidate_ms, stale_if_error_ms, initial_age_ms,
        rule, key_n, key_url_n, spec_n, nfields, body_n;
};
_Static_assert(sizeof(struct fixed) == (size_t)NUMBERS * 8, "each is written");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they are");

static size_t field_bytes(const struct field *f)
{
    return FIELD_BYTES + f->name.n * (f->orig_name != NULL ? 2 : 1) + f->value.n;
}

size_t record_bytes(const struct record *r, size_t body_n)
{
    size_t n = FIXED_BYTES + r->key.n + r->spec.n + body_n + CHECKSUM_BYTES;

    for (size_t i = 0; i < r->fields.n; i++)
        n += field_bytes(&r->fields.v[i]);
    return n;
}

static char *put(char *to, const void *what, size_t n)
{
    if (n > 0)
        memcpy(to, what, n);
    return to + n;
}

static char *put_field(char *to, const struct field *f)
{
    uint16_t name_n = (uint16_t)f->name.n;
    uint32_t value_n = (uint32_t)f->value.n;
    unsigned char has_case = f->orig_name != NULL;

    assert(f->name.n <= UINT16_MAX && f->value.n <= UINT32_MAX);
    to = put(to, &name_n, sizeof name_n);
    to = put(to, &has_case, 1);
    to = put(to, &value_n, sizeof value_n);
    to = put(to, f->name.p, f->name.n);
    to = put(to, f->orig_name, has_case ? f->name.n : 0);
    return put(to, f->value.p, f->value.n);
}

static int64_t bounded(int64_t ms)
{
    return ms > RECORD_MS_MAX ? RECORD_MS_MAX : ms;
}

static uint16_t flags_of(const struct record *r)
{
    return (uint16_t)((r->with_authorization ? FLAG_AUTHORIZATION : 0) | (r->with_cookie ? FLAG_COOKIE : 0) |
                      (r->lifetimes.explicit_ ? FLAG_EXPLICIT : 0) |
                      (r->lifetimes.revalidate_always ? FLAG_REVALIDATE_ALWAYS : 0) |
                      (r->lifetimes.must_revalidate ? FLAG_MUST_REVALIDATE : 0));
}

char *record_begin(const struct record *r, size_t body_n, char *out)
{
    const struct lifetimes *l = &r->lifetimes;
    const struct fixed fixed = {
        .status = r->status,
        .early_ms = r->early_ms,
        .response_ms = r->response_ms,
        .date = r->date.s,
        .fresh_ms = bounded(l->fresh_ms),
        .stale_while_revalidate_ms = bounded(l->stale_while_revalidate_ms),
        .stale_if_error_ms = bounded(l->stale_if_error_ms),
        .initial_age_ms = bounded(l->initial_age_ms),
        .rule = l->rule,
        .key_n = (int64_t)r->key.n,
        .key_url_n = (int64_t)r->key_url_n,
        .spec_n = (int64_t)r->spec.n,
        .nfields = (int64_t)r->fields.n,
        .body_n = (int64_t)body_n,
    };
    const unsigned char version[] = {RECORD_VERSION, (unsigned char)r->kind};
    uint16_t flags = flags_of(r);
    char *to = put(out, MAGIC, sizeof MAGIC);

    to = put(to, version, sizeof version);
    to = put(to, &flags, sizeof flags);
    to = put(to, &r->epoch, sizeof r->epoch);
    to = put(to, &fixed, sizeof fixed);
    to = put(to, r->key.p, r->key.n);
    to = put(to, r->spec.p, r->spec.n);
    for (size_t i = 0; i < r->fields.n; i++)
        to = put_field(to, &r->fields.v[i]);
    return to;
}

void record_seal(char *record, size_t bytes)
{
    XXH128_canonical_t sum;

    XXH128_canonicalFromHash(&sum, XXH3_128bits(record, bytes - CHECKSUM_BYTES));
    memcpy(record + bytes - CHECKSUM_BYTES, &sum, CHECKSUM_BYTES);
}

static bool is_whole(struct bytes text)
{
    XXH128_canonical_t sum;

    if (text.n < FIXED_BYTES + CHECKSUM_BYTES || memcmp(text.p, MAGIC, sizeof MAGIC) != 0 ||
        (unsigned char)text.p[4] != RECORD_VERSION)
        return false;
    XXH128_canonicalFromHash(&sum, XXH3_128bits(text.p, text.n - CHECKSUM_BYTES));
    return memcmp(text.p + text.n - CHECKSUM_BYTES, &sum, CHECKSUM_BYTES) == 0;
}

static bool take(struct bytes *from, size_t n, struct bytes *out)
{
    if (n > from->n)
        return false;
    *out = (struct bytes){from->p, n};
    from->p += n;
    from->n -= n;
    return true;
}

static bool is_name(struct bytes name)
{
    static const char others[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && (c == '\0' || strchr(others, c) == NULL))
            return false;
    }
    return name.n > 0;
}

static bool is_value(struct bytes value)
{
    return memchr(value.p, '\r', value.n) == NULL && memchr(value.p, '\n', value.n) == NULL &&
           memchr(value.p, '\0', value.n) == NULL;
}

/* Framing is weir's own, and what is stored has no field of one connection. */
static bool is_weirs_own(struct bytes name)
{
    return bytes_eq(name, BYTES_LIT("content-length")) || forward_is_hop_by_hop(name, (struct fields){NULL, 0});
}

static bool take_field(struct bytes *from, struct field *out)
{
    struct bytes fixed, cased = BYTES_NONE;
    uint16_t name_n;
    uint32_t value_n;

    if (!take(from, FIELD_BYTES, &fixed))
        return false;
    memcpy(&name_n, fixed.p, sizeof name_n);
    memcpy(&value_n, fixed.p + 3, sizeof value_n);
    if ((unsigned char)fixed.p[2] > 1 || !take(from, name_n, &out->name) ||
        (fixed.p[2] == 1 && !take(from, name_n, &cased)) || !take(from, value_n, &out->value))
        return false;
    out->orig_name = cased.p;
    return is_name(out->name) && (cased.p == NULL || bytes_eq_nocase(cased, out->name)) && is_value(out->value) &&
           !is_weirs_own(out->name);
}

static bool is_between(int64_t x, int64_t min, int64_t max)
{
    return x >= min && x <= max;
}

/* Nothing that is reckoned with later overflows. */
static bool is_sane(const struct fixed *f, enum record_kind kind)
{
    const int64_t ms_max = RECORD_MS_MAX, text_max = (int64_t)RECORD_TEXT_MAX;
    int status_min = kind == RECORD_RESPONSE ? 200 : 0;

    return is_between(f->status, status_min, 599) && is_between(f->early_ms, 0, INT32_MAX) &&
           is_between(f->response_ms, 0, ms_max) && is_between(f->date, 0, UINT32_MAX) &&
           is_between(f->fresh_ms, 0, ms_max) && is_between(f->stale_while_revalidate_ms, 0, ms_max) &&
           is_between(f->stale_if_error_ms, 0, ms_max) && is_between(f->initial_age_ms, 0, ms_max) &&
           is_between(f->rule, LIFETIME_NONE, LIFETIME_HEURISTIC) && is_between(f->key_n, 1, text_max) &&
           is_between(f->key_url_n, 0, f->key_n) && is_between(f->spec_n, kind == RECORD_VARY, text_max) &&
           is_between(f->nfields, 0, RECORD_FIELDS_MAX) && f->body_n >= 0;
}

static void take_numbers(const struct fixed *f, uint16_t flags, struct record *out)
{
    out->with_authorization = flags & FLAG_AUTHORIZATION;
    out->with_cookie = flags & FLAG_COOKIE;
    out->status = (int)f->status;
    out->early_ms = (uint32_t)f->early_ms;
    out->response_ms = f->response_ms;
    out->date.s = f->date;
    out->key_url_n = (size_t)f->key_url_n;
    out->lifetimes = (struct lifetimes){
        .fresh_ms = f->fresh_ms,
        .stale_while_revalidate_ms = f->stale_while_revalidate_ms,
        .stale_if_error_ms = f->stale_if_error_ms,
        .initial_age_ms = f->initial_age_ms,
        .rule = (uint8_t)f->rule,
        .explicit_ = flags & FLAG_EXPLICIT,
        .revalidate_always = flags & FLAG_REVALIDATE_ALWAYS,
        .must_revalidate = flags & FLAG_MUST_REVALIDATE,
    };
}

bool record_decode(struct bytes text, struct record *out, struct field room[RECORD_FIELDS_MAX])
{
    struct fixed fixed;
    uint16_t flags;

    if (!is_whole(text))
        return false;
    struct bytes rest = {text.p + FIXED_BYTES, text.n - FIXED_BYTES - CHECKSUM_BYTES};
    unsigned char kind = (unsigned char)text.p[5];

    memcpy(&flags, text.p + 6, sizeof flags);
    memcpy(&out->epoch, text.p + 8, sizeof out->epoch);
    memcpy(&fixed, text.p + HEAD_BYTES, sizeof fixed);
    if (kind < RECORD_RESPONSE || kind > RECORD_PASS || (flags & ~FLAGS_ALL) != 0)
        return false;
    out->kind = (enum record_kind)kind;
    if (!is_sane(&fixed, out->kind) || !take(&rest, (size_t)fixed.key_n, &out->key) ||
        !take(&rest, (size_t)fixed.spec_n, &out->spec))
        return false;
    out->fields = (struct fields){room, (size_t)fixed.nfields};
    for (size_t i = 0; i < out->fields.n; i++)
        if (!take_field(&rest, &room[i]))
            return false;
    take_numbers(&fixed, flags, out);
    out->body = rest;
    return rest.n == (size_t)fixed.body_n;
}
