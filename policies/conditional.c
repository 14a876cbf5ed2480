#include "policies/conditional.h"

#include "policies/http_date.h"

/* Where the conditions are; the number of fields where there is none. */
struct conditions {
    size_t if_match, if_none_match, if_modified_since, if_unmodified_since;
    bool modified_since_twice, unmodified_since_twice;
};

static void note(size_t *at, bool *twice, size_t i, size_t none)
{
    if (*at == none)
        *at = i;
    else
        *twice = true;
}

/* One pass, and most fields fail the first comparison: this runs on every hit. False when there is no condition. */
static bool conditions_find(struct fields request, struct conditions *c)
{
    size_t none = request.n;
    bool any = false, ignored = false;

    *c = (struct conditions){none, none, none, none, false, false};
    for (size_t i = 0; i < request.n; i++) {
        struct bytes name = request.v[i].name;

        if (name.n < 8 || name.p[0] != 'i' || name.p[1] != 'f' || name.p[2] != '-')
            continue;
        if (bytes_eq(name, BYTES_LIT("if-none-match")))
            note(&c->if_none_match, &ignored, i, none);
        else if (bytes_eq(name, BYTES_LIT("if-modified-since")))
            note(&c->if_modified_since, &c->modified_since_twice, i, none);
        else if (bytes_eq(name, BYTES_LIT("if-match")))
            note(&c->if_match, &ignored, i, none);
        else if (bytes_eq(name, BYTES_LIT("if-unmodified-since")))
            note(&c->if_unmodified_since, &c->unmodified_since_twice, i, none);
        else
            continue;
        any = true;
    }
    return any;
}

/* The next entity-tag of a list. What is not quoted ends at a comma: origins send such tags, and clients send them
 * back, so equal bytes still are an equal tag. */
static struct bytes tag_next(struct bytes *rest)
{
    struct bytes s = *rest;
    size_t n = 0;

    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == ','))
        s.p++, s.n--;
    if (s.n >= 2 && s.p[0] == 'W' && s.p[1] == '/')
        n = 2;
    if (n < s.n && s.p[n] == '"') {
        const char *quote = memchr(s.p + n + 1, '"', s.n - n - 1);

        n = quote == NULL ? s.n : (size_t)(quote - s.p) + 1;
    }
    while (n < s.n && s.p[n] != ',')
        n++;
    *rest = (struct bytes){s.p + n, s.n - n};
    return bytes_trim((struct bytes){s.p, n});
}

static bool is_weak(struct bytes tag)
{
    return tag.n >= 2 && tag.p[0] == 'W' && tag.p[1] == '/';
}

static struct bytes opaque(struct bytes tag)
{
    return is_weak(tag) ? (struct bytes){tag.p + 2, tag.n - 2} : tag;
}

/* RFC 9110 section 8.8.3.2. */
static bool tags_match(struct bytes a, struct bytes b, bool strong)
{
    if (strong && (is_weak(a) || is_weak(b)))
        return false;
    return bytes_eq(opaque(a), opaque(b));
}

/* Does a condition's list, in all its lines from the first on, name the stored response? An empty etag: it has none. */
static bool list_matches(struct fields request, size_t first, struct bytes etag, bool strong)
{
    struct bytes name = request.v[first].name;

    for (size_t i = first; i < request.n; i = fields_find(request, name, i + 1)) {
        struct bytes rest = request.v[i].value;

        if (bytes_eq(rest, BYTES_LIT("*")))
            return true; /* there is a current representation: the stored one */
        while (rest.n > 0) {
            struct bytes tag = tag_next(&rest);

            if (tag.n > 0 && etag.n > 0 && tags_match(tag, etag, strong))
                return true;
        }
    }
    return false;
}

enum order { ORDER_UNKNOWN, ORDER_NOT_MODIFIED, ORDER_MODIFIED };

/* Was the stored response modified after the date of a condition? Date stands in for a missing Last-Modified (RFC 9111
 * section 4.3.2). A condition that is no date, or came twice, is no condition (RFC 9110 section 13.1.3). */
static enum order modified_since(struct bytes condition, bool twice, struct fields response, struct wall_s now)
{
    struct bytes modified = fields_value(response, BYTES_LIT("last-modified"));
    struct wall_s since, date;

    if (twice)
        return ORDER_UNKNOWN;
    if (modified.n == 0)
        modified = fields_value(response, BYTES_LIT("date"));
    if (!http_date_parse(condition, now, &since) || !http_date_parse(modified, now, &date))
        return ORDER_UNKNOWN;
    return date.s > since.s ? ORDER_MODIFIED : ORDER_NOT_MODIFIED;
}

/* If-Match, else If-Unmodified-Since. */
static bool failed(const struct conditions *c, struct fields request, struct fields response, struct wall_s now)
{
    if (c->if_match < request.n)
        return !list_matches(request, c->if_match, fields_value(response, BYTES_LIT("etag")), true);
    if (c->if_unmodified_since < request.n)
        return modified_since(request.v[c->if_unmodified_since].value, c->unmodified_since_twice, response, now) ==
               ORDER_MODIFIED;
    return false;
}

/* If-None-Match, else If-Modified-Since. */
static bool not_modified(const struct conditions *c, struct fields request, struct fields response, struct wall_s now)
{
    if (c->if_none_match < request.n)
        return list_matches(request, c->if_none_match, fields_value(response, BYTES_LIT("etag")), false);
    if (c->if_modified_since < request.n)
        return modified_since(request.v[c->if_modified_since].value, c->modified_since_twice, response, now) ==
               ORDER_NOT_MODIFIED;
    return false;
}

enum conditional conditional_judge(struct fields request, struct fields response, struct wall_s now)
{
    struct conditions c;

    if (!conditions_find(request, &c))
        return CONDITIONAL_SEND;
    if (failed(&c, request, response, now))
        return CONDITIONAL_FAILED;
    return not_modified(&c, request, response, now) ? CONDITIONAL_NOT_MODIFIED : CONDITIONAL_SEND;
}

bool conditional_in_not_modified(struct bytes name)
{
    static const struct bytes left_out[] = {
        BYTES_LIT("content-type"),   BYTES_LIT("content-length"), BYTES_LIT("content-encoding"),
        BYTES_LIT("content-range"),  BYTES_LIT("content-md5"),    BYTES_LIT("content-language"),
        BYTES_LIT("content-digest"), BYTES_LIT("repr-digest"),    BYTES_LIT("digest"),
        BYTES_LIT("accept-ranges"),  BYTES_LIT("trailer"),        BYTES_LIT("transfer-encoding"),
    };

    for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++)
        if (bytes_eq(name, left_out[i]))
            return false;
    return true;
}
