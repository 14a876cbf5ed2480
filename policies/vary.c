#include "policies/vary.h"

#include <stdint.h>

#include "policies/negotiate.h"
#include "policies/request_check.h"

#define ABSENT UINT32_MAX

struct names {
    struct bytes v[VARY_NAMES_MAX];
    size_t n, bytes;
};

static int compare_nocase(struct bytes a, struct bytes b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    for (size_t i = 0; i < n; i++) {
        int difference = (unsigned char)ascii_lower(a.p[i]) - (unsigned char)ascii_lower(b.p[i]);
        if (difference != 0)
            return difference;
    }
    return (a.n > b.n) - (a.n < b.n);
}

/* Sorted, without duplicates. False: no room. */
static bool names_add(struct names *names, struct bytes name)
{
    size_t at = names->n;
    while (at > 0) {
        int order = compare_nocase(names->v[at - 1], name);
        if (order == 0)
            return true;
        if (order < 0)
            break;
        at--;
    }
    if (names->n == VARY_NAMES_MAX || names->bytes + name.n + 1 > VARY_SPEC_MAX)
        return false;
    memmove(names->v + at + 1, names->v + at, (names->n - at) * sizeof *names->v);
    names->v[at] = name;
    names->n++;
    names->bytes += name.n + 1;
    return true;
}

/* False: "*", or what cannot be told from it (RFC 9110 section 12.5.5). */
static bool names_of_line(struct names *names, struct bytes line)
{
    while (line.n > 0) {
        const char *comma = memchr(line.p, ',', line.n);
        size_t n = comma == NULL ? line.n : (size_t)(comma - line.p);
        size_t taken = comma == NULL ? n : n + 1;
        struct bytes name = bytes_trim((struct bytes){line.p, n});
        line.p += taken;
        line.n -= taken;
        if (name.n == 0)
            continue;
        if (bytes_eq(name, BYTES_LIT("*")) || !token_valid(name) || !names_add(names, name))
            return false;
    }
    return true;
}

enum vary vary_spec_of(struct fields response, char out[VARY_SPEC_MAX], size_t *len)
{
    struct names names = {.n = 0, .bytes = 0};
    const struct bytes vary = BYTES_LIT("vary");
    for (size_t i = fields_find(response, vary, 0); i < response.n; i = fields_find(response, vary, i + 1))
        if (!names_of_line(&names, response.v[i].value))
            return VARY_STAR;
    if (names.n == 0)
        return VARY_NONE;
    char *to = out;
    for (size_t i = 0; i < names.n; i++) {
        if (i > 0)
            *to++ = ',';
        for (size_t j = 0; j < names.v[i].n; j++)
            *to++ = ascii_lower(names.v[i].p[j]);
    }
    *len = (size_t)(to - out);
    return VARY_SOME;
}

static bool spec_next(struct bytes *spec, struct bytes *name)
{
    if (spec->n == 0)
        return false;
    const char *comma = memchr(spec->p, ',', spec->n);
    size_t n = comma == NULL ? spec->n : (size_t)(comma - spec->p);
    size_t taken = comma == NULL ? n : n + 1;
    *name = (struct bytes){spec->p, n};
    spec->p += taken;
    spec->n -= taken;
    return true;
}

size_t vary_key_bytes_max(struct bytes spec, struct fields request)
{
    struct bytes name;
    size_t n = 0;
    while (spec_next(&spec, &name)) {
        n += sizeof(uint32_t);
        for (size_t i = fields_find(request, name, 0); i < request.n; i = fields_find(request, name, i + 1))
            n += request.v[i].value.n + 1;
    }
    return n;
}

/* Members with parameters (RFC 9110 section 12.5.1): blanks around ';' mean nothing, nor does the case of a media
 * range.
 */
static bool has_parameters(struct bytes name)
{
    return bytes_eq(name, BYTES_LIT("accept"));
}

struct writer {
    char *start, *to;
    bool parameters;
    bool quoted; /* inside a quoted-string everything counts; it may go on over joined lines */
};

static bool separates(const struct writer *w, char c)
{
    return c == ',' || (w->parameters && c == ';');
}

/* A run of OWS counts (RFC 9111 section 4.1) unless it stands beside a separator or at either end. Returns where it
 * ends. */
static const char *ows_put(const char *p, const char *end, struct writer *w)
{
    const char *after = p;
    while (after < end && (*after == ' ' || *after == '\t'))
        after++;
    if (after == end || separates(w, *after) || w->to == w->start || separates(w, w->to[-1]))
        return after;
    memcpy(w->to, p, (size_t)(after - p));
    w->to += after - p;
    return after;
}

/* White space inside a quoted string is part of it (RFC 9110 section 5.6.4). */
static void line_put(struct bytes line, struct writer *w)
{
    const char *p = line.p, *end = line.p + line.n;
    while (p < end) {
        if (w->quoted && *p == '\\' && end - p > 1)
            *w->to++ = *p++;
        else if (*p == '"')
            w->quoted = !w->quoted;
        else if (!w->quoted && (*p == ' ' || *p == '\t')) {
            p = ows_put(p, end, w);
            continue;
        }
        *w->to++ = *p++;
    }
}

/* Where the member ends that begins at p: at a comma outside of quoted strings, or at the end. */
static char *member_end(char *p, char *end)
{
    for (bool quoted = false; p < end && (quoted || *p != ','); p++)
        if (*p == '"')
            quoted = !quoted;
        else if (quoted && *p == '\\' && end - p > 1)
            p++;
    return p;
}

/* type "/" subtype, both of which know no case (RFC 9110 section 8.3.1). */
static void fold_media_range(char *p, char *end)
{
    char *semicolon = memchr(p, ';', (size_t)(end - p));

    if (semicolon != NULL)
        end = semicolon;
    char *slash = memchr(p, '/', (size_t)(end - p));

    if (slash == NULL || !token_valid((struct bytes){p, (size_t)(slash - p)}) ||
        !token_valid((struct bytes){slash + 1, (size_t)(end - slash - 1)}))
        return;
    for (; p < end; p++)
        *p = ascii_lower(*p);
}

static void fold_media_ranges(char *p, char *end)
{
    while (p < end) {
        char *stop = member_end(p, end);

        fold_media_range(p, stop);
        p = stop + (stop < end);
    }
}

static void u32_put(char *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (char)(value >> (8 * i));
}

static uint32_t u32_get(const char *p)
{
    uint32_t value = 0;

    for (int i = 0; i < 4; i++)
        value |= (uint32_t)(unsigned char)p[i] << (8 * i);
    return value;
}

/* All lines of the field from the first on as one list (RFC 9110 section 5.3), as they came but for blanks that mean
 * nothing. Returns the end. */
static char *lines_put(struct bytes name, struct fields request, size_t first, char *to)
{
    struct writer w = {.start = to, .to = to, .parameters = has_parameters(name)};

    line_put(request.v[first].value, &w);
    for (size_t i = fields_find(request, name, first + 1); i < request.n; i = fields_find(request, name, i + 1)) {
        *w.to++ = ',';
        line_put(request.v[i].value, &w);
    }
    if (w.parameters)
        fold_media_ranges(w.start, w.to);
    return w.to;
}

/* Length and value; an absent field matches an absent one alone (RFC 9111 section 4.1). Returns where the next
 * begins. */
static char *value_put(struct bytes name, struct fields request, char *to)
{
    struct preferences preferences;
    size_t first = fields_find(request, name, 0);
    char *start = to + sizeof(uint32_t), *end;

    if (first == request.n) {
        u32_put(to, ABSENT);
        return start;
    }
    if (negotiate_knows(name) && negotiate_parse(request, name, first, &preferences))
        end = start + negotiate_write(&preferences, start);
    else
        end = lines_put(name, request, first, start);
    u32_put(to, (uint32_t)(end - start));
    return end;
}

size_t vary_key_build(struct bytes spec, struct fields request, char *buf)
{
    struct bytes name;
    char *to = buf;
    while (spec_next(&spec, &name))
        to = value_put(name, request, to);
    return (size_t)(to - buf);
}

/* The next value with its length. False: none, or cut short. */
static bool value_next(struct bytes *key, struct bytes *value)
{
    if (key->n < sizeof(uint32_t))
        return false;
    uint32_t n = u32_get(key->p);
    size_t whole = sizeof n + (n == ABSENT ? 0 : n);

    if (key->n < whole)
        return false;
    *value = (struct bytes){key->p, whole};
    key->p += whole;
    key->n -= whole;
    return true;
}

static bool *difference_of(struct vary_difference *d, struct bytes name)
{
    if (bytes_eq(name, BYTES_LIT("accept-encoding")))
        return &d->encoding;
    if (bytes_eq(name, BYTES_LIT("accept-language")))
        return &d->language;
    return bytes_eq(name, BYTES_LIT("accept")) ? &d->media : &d->other;
}

struct vary_difference vary_keys_compare(struct bytes spec, struct bytes a, struct bytes b)
{
    struct vary_difference d = {.other = false};
    struct bytes name, x, y;

    while (spec_next(&spec, &name)) {
        if (!value_next(&a, &x) || !value_next(&b, &y))
            return (struct vary_difference){true, true, true, true};
        if (!bytes_eq(x, y))
            *difference_of(&d, name) = true;
    }
    return d;
}

bool vary_spec_names(struct bytes spec, struct bytes name)
{
    struct bytes one;

    while (spec_next(&spec, &one))
        if (bytes_eq(one, name))
            return true;
    return false;
}
