#include "policies/compress.h"

enum { UNPACK_RATIO = 100, UNPACK_ALWAYS = 64 * 1024 };

static bool has_content(int status)
{
    return status >= 200 && status != 204 && status != 205 && status != 206 && status != 304;
}

static bool has_digest(struct fields fields)
{
    static const struct bytes digests[] = {BYTES_LIT("content-digest"), BYTES_LIT("repr-digest"),
                                           BYTES_LIT("content-md5"), BYTES_LIT("digest")};

    for (size_t i = 0; i < fields.n; i++)
        if (bytes_is_one_of(fields.v[i].name, digests, sizeof digests / sizeof digests[0]))
            return true;
    return false;
}

/* Without parameters (RFC 9110 section 8.3.1). */
static struct bytes media_type(struct bytes value)
{
    const char *semicolon = value.n > 0 ? memchr(value.p, ';', value.n) : NULL;

    return bytes_trim((struct bytes){value.p, semicolon != NULL ? (size_t)(semicolon - value.p) : value.n});
}

static bool covers(struct bytes pattern, struct bytes type)
{
    if (bytes_eq(pattern, BYTES_LIT("*/*")))
        return true;
    if (pattern.p[pattern.n - 1] != '*')
        return bytes_eq_nocase(pattern, type);
    pattern.n--;
    return type.n > pattern.n && bytes_eq_nocase(pattern, (struct bytes){type.p, pattern.n});
}

static bool is_listed(const struct compress_rules *rules, struct fields fields)
{
    struct bytes type = media_type(fields_value(fields, BYTES_LIT("content-type")));

    for (size_t i = 0; i < rules->ntypes; i++)
        if (type.n > 0 && covers(rules->types[i], type))
            return true;
    return false;
}

enum compress_bar compress_bar(const struct compress_rules *rules, const struct compress_facts *facts)
{
    if (!rules->on)
        return COMPRESS_OFF;
    if (facts->no_transform)
        return COMPRESS_NO_TRANSFORM;
    if (!has_content(facts->status))
        return COMPRESS_STATUS;
    if (has_digest(facts->fields))
        return COMPRESS_DIGEST;
    if (facts->content_length == 0)
        return COMPRESS_EMPTY;
    enum coding coding = coding_of_response(facts->fields);

    /* "identity" is no value of Content-Encoding (RFC 9110 section 12.5.3): who says so all the same is left alone */
    if (coding == CODING_OTHER ||
        (coding == CODING_IDENTITY && fields_has(facts->fields, BYTES_LIT("content-encoding"))))
        return COMPRESS_CODING;
    if (coding != CODING_IDENTITY)
        return COMPRESS_NO_BAR;
    if (facts->user_scope && !rules->user)
        return COMPRESS_USER;
    if (rules->nencodings == 0 || !is_listed(rules, facts->fields))
        return COMPRESS_TYPE;
    return facts->content_length < 0 || (uint64_t)facts->content_length >= rules->min_size ? COMPRESS_NO_BAR
                                                                                           : COMPRESS_SIZE;
}

enum compress compress_judge(const struct compress_rules *rules, const struct compress_facts *facts)
{
    if (compress_bar(rules, facts) != COMPRESS_NO_BAR)
        return COMPRESS_NEVER;
    return coding_of_response(facts->fields) == CODING_IDENTITY ? COMPRESS_MAY : COMPRESS_UNPACK;
}

bool compress_vary_names_it(struct bytes vary)
{
    while (vary.n > 0) {
        const char *comma = memchr(vary.p, ',', vary.n);
        size_t n = comma != NULL ? (size_t)(comma - vary.p) : vary.n;
        struct bytes name = bytes_trim((struct bytes){vary.p, n});

        if (bytes_eq_nocase(name, BYTES_LIT("accept-encoding")) || bytes_eq(name, BYTES_LIT("*")))
            return true;
        n += comma != NULL;
        vary.p += n;
        vary.n -= n;
    }
    return false;
}

static struct bytes weak(struct bytes tag, char *room)
{
    if (bytes_starts(tag, BYTES_LIT("W/")))
        return tag;
    memcpy(room, "W/", 2);
    memcpy(room + 2, tag.p, tag.n);
    return (struct bytes){room, tag.n + 2};
}

size_t compress_fields(struct fields in, enum coding coding, struct field *out, char *etag)
{
    const struct bytes vary = BYTES_LIT("vary"), encoding = BYTES_LIT("content-encoding"), tag = BYTES_LIT("etag");
    bool varies = false, tagged = false;
    size_t n = 0;

    for (size_t i = 0; i < in.n; i++) {
        const struct field *f = &in.v[i];

        if (bytes_eq(f->name, encoding) || bytes_eq(f->name, BYTES_LIT("accept-ranges")) ||
            (tagged && bytes_eq(f->name, tag)))
            continue;
        varies |= bytes_eq(f->name, vary) && compress_vary_names_it(f->value);
        out[n++] = *f;
        if (f->value.n > 0 && bytes_eq(f->name, tag)) {
            out[n - 1].value = weak(f->value, etag);
            tagged = true;
        }
    }
    if (coding != CODING_IDENTITY)
        out[n++] = (struct field){encoding, "Content-Encoding", coding_name(coding)};
    if (!varies)
        out[n++] = (struct field){vary, "Vary", BYTES_LIT("Accept-Encoding")};
    return n;
}

uint64_t compress_bytes_max(uint64_t before)
{
    return before - before / 20 - (before % 20 != 0);
}

bool compress_pays(uint64_t before, uint64_t after)
{
    return before > 0 && after <= compress_bytes_max(before);
}

uint64_t unpack_bytes_max(uint64_t packed, uint64_t object_max)
{
    uint64_t most = packed < UINT64_MAX / UNPACK_RATIO ? packed * UNPACK_RATIO : UINT64_MAX;

    if (most < UNPACK_ALWAYS)
        most = UNPACK_ALWAYS;
    return most < object_max ? most : object_max;
}
