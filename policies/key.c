#include "policies/key.h"

#include <stdint.h>

#include "policies/personal.h"
#include "policies/uri.h"

/*
 * The url part: scheme, the lengths of authority, path and query, then the three, with '?' before a query. Lengths
 * come first so that path and query stand together as the target that goes upstream.
 */
enum { AT_AUTHORITY_N = 1, AT_PATH_N = 5, AT_QUERY_N = 9, URL_HEAD = 13 };

#define ABSENT UINT32_MAX /* a length that no part has: heads of requests are far shorter */

static char *u32_put(char *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (char)(value >> (8 * i));
    return to + 4;
}

static uint32_t u32_get(const char *p)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++)
        value |= (uint32_t)(unsigned char)p[i] << (8 * i);
    return value;
}

static char *bytes_put(char *to, struct bytes b)
{
    if (b.n > 0)
        memcpy(to, b.p, b.n);
    return to + b.n;
}

static char *part_put(char *to, struct bytes part)
{
    return bytes_put(u32_put(to, (uint32_t)part.n), part);
}

struct param {
    struct bytes text; /* "name=value", "name" or nothing */
    size_t name_n;
};

static struct param param_at(const char *p, const char *end)
{
    size_t n = (size_t)(end - p);
    const char *ampersand = n == 0 ? NULL : memchr(p, '&', n);
    if (ampersand != NULL)
        n = (size_t)(ampersand - p);
    const char *equals = n == 0 ? NULL : memchr(p, '=', n);
    return (struct param){{p, n}, equals == NULL ? n : (size_t)(equals - p)};
}

static int param_compare(const struct param *a, const struct param *b)
{
    size_t n = a->name_n < b->name_n ? a->name_n : b->name_n;
    int order = memcmp(a->text.p, b->text.p, n);
    return order != 0 ? order : (a->name_n > b->name_n) - (a->name_n < b->name_n);
}

/* Where the ascending run of parameters that begins at p ends: at end or at a '&'. */
static const char *run_end(const char *p, const char *end)
{
    struct param previous = param_at(p, end);
    for (;;) {
        const char *stop = previous.text.p + previous.text.n;
        if (stop == end)
            return end;
        struct param next = param_at(stop + 1, end);
        if (param_compare(&next, &previous) < 0)
            return stop;
        previous = next;
    }
}

struct run {
    struct param head;
    const char *end;
};

static struct run run_at(const char *p, const char *end)
{
    return (struct run){param_at(p, end), end};
}

/* False: the head was the last. */
static bool run_next(struct run *run)
{
    const char *stop = run->head.text.p + run->head.text.n;
    if (stop == run->end)
        return false;
    run->head = param_at(stop + 1, run->end);
    return true;
}

/* Merges two runs; among equal names those of a come first. */
static char *runs_merge(struct run a, struct run b, char *to)
{
    for (;;) {
        bool first = param_compare(&a.head, &b.head) <= 0;
        struct run *from = first ? &a : &b, *other = first ? &b : &a;
        to = bytes_put(to, from->head.text);
        *to++ = '&';
        if (!run_next(from))
            return bytes_put(to, (struct bytes){other->head.text.p, (size_t)(other->end - other->head.text.p)});
    }
}

/* One pass of a natural merge sort over the text itself: no array of parameters, so no bound on their number. False:
 * query is sorted, nothing was written. */
static bool runs_merge_pairs(struct bytes query, char *to)
{
    const char *p = query.p, *end = query.p + query.n, *first_end = run_end(p, end);
    if (first_end == end)
        return false;
    for (;;) {
        const char *second_end = run_end(first_end + 1, end);
        to = runs_merge(run_at(p, first_end), run_at(first_end + 1, second_end), to);
        if (second_end == end)
            return true;
        *to++ = '&';
        p = second_end + 1;
        first_end = run_end(p, end);
        if (first_end == end) {
            bytes_put(to, (struct bytes){p, (size_t)(end - p)});
            return true;
        }
    }
}

/* Stable, by name. scratch: n bytes. */
static void query_sort(char *query, size_t n, char *scratch)
{
    char *from = query, *to = scratch;
    while (runs_merge_pairs((struct bytes){from, n}, to)) {
        char *sorted = to;
        to = from;
        from = sorted;
    }
    if (from != query)
        memcpy(query, from, n);
}

/* Drops what the rules do not take, in place. False: nothing is left. */
static bool query_filter(const struct key_rules *rules, char *query, size_t *n)
{
    const char *p = query, *end = query + *n;
    char *to = query;
    bool any = false;
    for (;;) {
        struct param param = param_at(p, end);
        const char *stop = param.text.p + param.text.n;
        bool listed = patterns_match(rules->query_names, (struct bytes){param.text.p, param.name_n});
        if (listed == (rules->query == KEY_QUERY_ONLY)) {
            if (any)
                *to++ = '&';
            memmove(to, param.text.p, param.text.n);
            to += param.text.n;
            any = true;
        }
        if (stop == end)
            break;
        p = stop + 1;
    }
    *n = (size_t)(to - query);
    return any;
}

/* The canonical query; *n bytes at to, of which 2 * raw.n are used meanwhile. False: no query in the key. */
static bool query_put(const struct key_rules *rules, struct bytes raw, char *to, size_t *n)
{
    if (rules->query == KEY_QUERY_NONE)
        return false;
    *n = uri_query_normalize(raw, to);
    if (rules->query != KEY_QUERY_ALL && !query_filter(rules, to, n))
        return false;
    query_sort(to, *n, to + raw.n);
    return true;
}

/* Finishes a url part whose authority and path stand behind each other at buf + URL_HEAD. */
static void url_finish(const struct key_rules *rules, bool https, size_t authority_n, size_t path_n,
                       const struct bytes *query, char *buf, struct key *out)
{
    char *target = buf + URL_HEAD + authority_n, *end = target + path_n;
    size_t query_n = 0;
    bool present = query != NULL && query_put(rules, *query, end + 1, &query_n);
    buf[0] = https ? 's' : 'h';
    u32_put(buf + AT_AUTHORITY_N, (uint32_t)authority_n);
    u32_put(buf + AT_PATH_N, (uint32_t)path_n);
    u32_put(buf + AT_QUERY_N, present ? (uint32_t)query_n : ABSENT);
    if (present) {
        *end = '?';
        end += 1 + query_n;
    }
    out->url = (struct bytes){buf, (size_t)(end - buf)};
    out->target = (struct bytes){target, (size_t)(end - target)};
    out->whole = out->url;
}

/* 'h', the name, the value; lines joined as RFC 9110 section 5.3 allows. No line differs from an empty one. */
static char *header_put(char *to, struct bytes name, struct fields fields)
{
    *to++ = 'h';
    to = part_put(to, name);
    char *length = to, *value = to + 4;
    size_t i = fields_find(fields, name, 0);
    if (i == fields.n)
        return u32_put(length, ABSENT);
    to = bytes_put(value, fields.v[i].value);
    for (i = fields_find(fields, name, i + 1); i < fields.n; i = fields_find(fields, name, i + 1)) {
        *to++ = ',';
        to = bytes_put(to, fields.v[i].value);
    }
    u32_put(length, (uint32_t)(to - value));
    return to;
}

/* 'c', the name, every cookie of that name: which of several an origin takes is its own affair. */
static char *cookie_put(char *to, struct bytes name, struct fields fields)
{
    const struct bytes line_name = BYTES_LIT("cookie");
    *to++ = 'c';
    to = part_put(to, name);
    for (size_t i = fields_find(fields, line_name, 0); i < fields.n; i = fields_find(fields, line_name, i + 1)) {
        struct bytes rest = fields.v[i].value;
        struct cookie cookie;
        while (cookie_next(&rest, &cookie))
            if (bytes_eq(cookie.name, name))
                to = part_put(to, cookie.value);
    }
    return u32_put(to, ABSENT);
}

static char *scope_put(char *to, const struct key_request *r)
{
    if (!r->user_scope) {
        *to++ = 'p';
        return to;
    }
    if (r->user.n == 0) {
        *to++ = 'a';
        return to;
    }
    *to++ = 'u';
    return part_put(to, r->user);
}

static size_t lines_bytes(struct fields fields, struct bytes name)
{
    size_t n = 0;
    for (size_t i = fields_find(fields, name, 0); i < fields.n; i = fields_find(fields, name, i + 1))
        n += fields.v[i].value.n + 1;
    return n;
}

size_t key_bytes_max(const struct key_rules *rules, const struct key_request *r)
{
    enum { SCOPE = 1 + 4, TAG_AND_LENGTHS = 1 + 4 + 4 };
    size_t n = URL_HEAD + r->authority.n + r->path.n + 1 + 2 * r->query.n + SCOPE + r->user.n;
    for (size_t i = 0; i < rules->nheaders; i++)
        n += TAG_AND_LENGTHS + rules->headers[i].n + lines_bytes(r->fields, rules->headers[i]);
    if (rules->ncookies == 0)
        return n;
    /* "a=;" is the shortest cookie with its separator and takes 4 bytes in the key, as a length; others take less than
     * twice their own. */
    size_t cookies_n = 2 * lines_bytes(r->fields, BYTES_LIT("cookie"));
    for (size_t i = 0; i < rules->ncookies; i++)
        n += TAG_AND_LENGTHS + rules->cookies[i].n + cookies_n;
    return n;
}

void key_build(const struct key_rules *rules, const struct key_request *r, char *buf, struct key *out)
{
    char *to = bytes_put(buf + URL_HEAD, r->authority);
    bytes_put(to, r->path);
    url_finish(rules, r->https, r->authority.n, r->path.n, r->has_query ? &r->query : NULL, buf, out);

    to = scope_put(buf + out->url.n, r);
    for (size_t i = 0; i < rules->nheaders; i++)
        to = header_put(to, rules->headers[i], r->fields);
    for (size_t i = 0; i < rules->ncookies; i++)
        to = cookie_put(to, rules->cookies[i], r->fields);
    out->whole.n = (size_t)(to - buf);
}

bool key_url_of(const struct key_rules *rules, struct bytes url, char *buf, struct key *out)
{
    struct uri_parts parts;
    size_t authority_n, path_n;
    if (!uri_parse(url, &parts) ||
        !uri_authority_normalize(parts.authority, parts.https, buf + URL_HEAD, &authority_n) ||
        !uri_path_normalize(parts.path, buf + URL_HEAD + authority_n, &path_n))
        return false;
    url_finish(rules, parts.https, authority_n, path_n, parts.has_query ? &parts.query : NULL, buf, out);
    return true;
}

struct url {
    bool https;
    struct bytes authority, target;
};

/* A url part taken apart; false when it is none (of another version, from elsewhere). */
static bool url_read(struct bytes key_url, struct url *out)
{
    if (key_url.n < URL_HEAD)
        return false;
    size_t authority_n = u32_get(key_url.p + AT_AUTHORITY_N);
    if (authority_n > key_url.n - URL_HEAD)
        return false;
    out->https = key_url.p[0] == 's';
    out->authority = (struct bytes){key_url.p + URL_HEAD, authority_n};
    out->target = (struct bytes){key_url.p + URL_HEAD + authority_n, key_url.n - URL_HEAD - authority_n};
    return true;
}

bool key_url_origin(struct bytes key_url, bool *https, struct bytes *authority)
{
    struct url url;
    if (!url_read(key_url, &url))
        return false;
    *https = url.https;
    *authority = url.authority;
    return true;
}

bool key_url_query(struct bytes key_url, struct bytes *query)
{
    if (key_url.n < URL_HEAD)
        return false;
    size_t n = u32_get(key_url.p + AT_QUERY_N);
    if (n == ABSENT || n > key_url.n - URL_HEAD)
        return false;
    *query = (struct bytes){key_url.p + key_url.n - n, n};
    return true;
}

void key_with_query(const struct key *key, const struct bytes *query, char *buf, struct key *out)
{
    size_t before = URL_HEAD + u32_get(key->url.p + AT_AUTHORITY_N), target = before;
    before += u32_get(key->url.p + AT_PATH_N);
    char *to = bytes_put(buf, (struct bytes){key->url.p, before});
    u32_put(buf + AT_QUERY_N, query != NULL ? (uint32_t)query->n : ABSENT);
    if (query != NULL) {
        *to++ = '?';
        to = bytes_put(to, *query);
    }
    out->url = (struct bytes){buf, (size_t)(to - buf)};
    out->target = (struct bytes){buf + target, out->url.n - target};
    to = bytes_put(to, (struct bytes){key->whole.p + key->url.n, key->whole.n - key->url.n});
    out->whole = (struct bytes){buf, (size_t)(to - buf)};
}

bool key_url_has_prefix(struct bytes key_url, struct bytes prefix)
{
    struct uri_parts parts;
    struct url url;
    char authority[URI_AUTHORITY_MAX];
    size_t authority_n;
    if (!url_read(key_url, &url) || !uri_parse(prefix, &parts) || parts.https != url.https ||
        !uri_authority_normalize(parts.authority, parts.https, authority, &authority_n) ||
        !bytes_eq((struct bytes){authority, authority_n}, url.authority))
        return false;
    const char *rest = parts.authority.p + parts.authority.n;
    struct bytes cut = {rest, prefix.n - (size_t)(rest - prefix.p)};
    if (cut.n > 0 && cut.p[0] == '?') { /* the path that is not written is "/" */
        if (!bytes_starts(url.target, BYTES_LIT("/")))
            return false;
        url.target.p++, url.target.n--;
    }
    return bytes_starts(url.target, cut);
}

bool key_prefix_normalize(struct bytes prefix, char *out, size_t *len)
{
    struct uri_parts parts;
    size_t authority_n;

    if (!uri_parse(prefix, &parts))
        return false;
    const char *rest = parts.authority.p + parts.authority.n;
    char *to = bytes_put(out, parts.https ? BYTES_LIT("https://") : BYTES_LIT("http://"));

    if (!uri_authority_normalize(parts.authority, parts.https, to, &authority_n))
        return false;
    to += authority_n;
    to += uri_query_normalize((struct bytes){rest, prefix.n - (size_t)(rest - prefix.p)}, to);
    *len = (size_t)(to - out);
    return true;
}

size_t key_url_print(struct bytes key_url, char *out, size_t cap)
{
    struct url url;
    if (!url_read(key_url, &url))
        return 0;
    const struct bytes pieces[] = {url.https ? BYTES_LIT("https://") : BYTES_LIT("http://"), url.authority, url.target};
    size_t n = 0;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        size_t take = pieces[i].n < cap - n ? pieces[i].n : cap - n;
        bytes_put(out + n, (struct bytes){pieces[i].p, take});
        n += take;
    }
    return n;
}
