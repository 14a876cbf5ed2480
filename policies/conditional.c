#include "policies/conditional.h"

#include "policies/http_date.h"

/* Most fields fail this one comparison: the conditions are looked for on every hit. */
static bool may_be_condition(struct bytes name)
{
    return name.n >= 8 && name.p[0] == 'i' && name.p[1] == 'f' && name.p[2] == '-';
}

bool conditions_find(struct fields request, struct conditions *c)
{
    size_t none = request.n;

    *c = (struct conditions){none, none, false};
    for (size_t i = 0; i < request.n; i++) {
        struct bytes name = request.v[i].name;

        if (!may_be_condition(name))
            continue;
        if (bytes_eq(name, BYTES_LIT("if-none-match"))) {
            c->if_none_match = c->if_none_match < none ? c->if_none_match : i;
        } else if (bytes_eq(name, BYTES_LIT("if-modified-since"))) {
            c->modified_since_twice = c->if_modified_since < none;
            c->if_modified_since = i;
        }
    }
    return c->if_none_match < none || c->if_modified_since < none;
}

bool conditional_for_origin(struct fields request)
{
    for (size_t i = 0; i < request.n; i++)
        if (may_be_condition(request.v[i].name) && (bytes_eq(request.v[i].name, BYTES_LIT("if-match")) ||
                                                    bytes_eq(request.v[i].name, BYTES_LIT("if-unmodified-since"))))
            return true;
    return false;
}

/* The next entity-tag of a list (RFC 9110 sections 8.8.3 and 5.6.1.2). What is not quoted ends at a comma: origins send
 * such tags, and clients send them back, so equal bytes still are an equal tag. */
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

/* RFC 9110 section 8.8.3.2, the weak comparison. */
static bool tags_match(struct bytes a, struct bytes b)
{
    return bytes_eq(opaque(a), opaque(b));
}

/* Does If-None-Match, in all its lines from the first on, name the stored response (RFC 9110 section 13.1.2)? An empty
 * etag: it has none. */
static bool list_matches(struct fields request, size_t first, struct bytes etag)
{
    struct bytes name = request.v[first].name;

    for (size_t i = first; i < request.n; i = fields_find(request, name, i + 1)) {
        struct bytes rest = request.v[i].value;

        if (bytes_eq(rest, BYTES_LIT("*")))
            return true; /* there is a current representation: the stored one */
        while (rest.n > 0) {
            struct bytes tag = tag_next(&rest);

            if (tag.n > 0 && etag.n > 0 && tags_match(tag, etag))
                return true;
        }
    }
    return false;
}

/* Date stands in for a missing Last-Modified (RFC 9111 section 4.3.2). What is no date, or came twice, is no condition
 * (RFC 9110 section 13.1.3). */
static bool unmodified_since(struct bytes condition, const struct validators *stored, struct wall_s now)
{
    struct wall_s since, modified = stored->date;

    if (stored->last_modified.n > 0 && !http_date_parse(stored->last_modified, now, &modified))
        return false;
    return http_date_parse(condition, now, &since) && modified.s <= since.s;
}

enum conditional conditional_judge(struct fields request, const struct conditions *c, const struct validators *stored,
                                   struct wall_s now)
{
    bool not_modified = false;

    if (c->if_none_match < request.n)
        not_modified = list_matches(request, c->if_none_match, stored->etag);
    else if (c->if_modified_since < request.n && !c->modified_since_twice)
        not_modified = unmodified_since(request.v[c->if_modified_since].value, stored, now);
    return not_modified ? CONDITIONAL_NOT_MODIFIED : CONDITIONAL_SEND;
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
