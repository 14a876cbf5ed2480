#include "policies/vary.h"

#include <stdint.h>

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

/* False: "*", or what cannot be told from it. */
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

/* How the values of a field may differ and still mean the same. */
struct syntax {
    bool fold_case;
    bool weighted; /* members have parameters: blanks around ';' mean nothing either */
};

static struct syntax syntax_of(struct bytes name)
{
    bool weighted = bytes_eq(name, BYTES_LIT("accept-encoding")) || bytes_eq(name, BYTES_LIT("accept-language"));
    return (struct syntax){weighted, weighted};
}

static bool separates(struct syntax syntax, char c)
{
    return c == ',' || (syntax.weighted && c == ';');
}

struct writer {
    char *start, *to;
    bool quoted; /* inside a quoted-string everything counts; it may go on over joined lines */
};

/* A run of OWS counts unless it stands beside a separator or at either end. Returns where it ends. */
static const char *ows_put(struct syntax syntax, const char *p, const char *end, struct writer *w)
{
    const char *after = p;
    while (after < end && (*after == ' ' || *after == '\t'))
        after++;
    if (after == end || separates(syntax, *after) || w->to == w->start || separates(syntax, w->to[-1]))
        return after;
    memcpy(w->to, p, (size_t)(after - p));
    w->to += after - p;
    return after;
}

static void line_put(struct syntax syntax, struct bytes line, struct writer *w)
{
    const char *p = line.p, *end = line.p + line.n;
    while (p < end) {
        if (w->quoted && *p == '\\' && end - p > 1)
            *w->to++ = *p++;
        else if (*p == '"')
            w->quoted = !w->quoted;
        else if (!w->quoted && (*p == ' ' || *p == '\t')) {
            p = ows_put(syntax, p, end, w);
            continue;
        }
        *w->to++ = syntax.fold_case ? ascii_lower(*p) : *p;
        p++;
    }
}

static void u32_put(char *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (char)(value >> (8 * i));
}

/* Length and value. Returns where the next begins. */
static char *value_put(struct bytes name, struct fields request, char *to)
{
    struct writer w = {to + sizeof(uint32_t), to + sizeof(uint32_t), false};
    size_t i = fields_find(request, name, 0);
    if (i == request.n) {
        u32_put(to, ABSENT);
        return w.to;
    }
    struct syntax syntax = syntax_of(name);
    line_put(syntax, request.v[i].value, &w);
    for (i = fields_find(request, name, i + 1); i < request.n; i = fields_find(request, name, i + 1)) {
        *w.to++ = ',';
        line_put(syntax, request.v[i].value, &w);
    }
    u32_put(to, (uint32_t)(w.to - w.start));
    return w.to;
}

size_t vary_key_build(struct bytes spec, struct fields request, char *buf)
{
    struct bytes name;
    char *to = buf;
    while (spec_next(&spec, &name))
        to = value_put(name, request, to);
    return (size_t)(to - buf);
}
