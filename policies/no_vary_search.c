#include "policies/no_vary_search.h"

#include "policies/structured_field.h"
#include "policies/utf8.h"

enum { REPLACEMENT = 0xfffd, END = -1 };

/* Text of a query, or of a String of the field, and how far it is decoded: '+' is a space, %XX a byte, and the bytes
 * are UTF-8, with U+FFFD for those that are not (URL Standard, "application/x-www-form-urlencoded parsing"; the draft's
 * section 5.3 for the field's). */
struct text {
    struct bytes rest;
    bool quoted; /* a String, with its backslashes */
};

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A plain character, a String's escapes undone. Percent-decoding comes after it. */
static int char_next(struct text *t)
{
    if (t->quoted && t->rest.n > 1 && t->rest.p[0] == '\\')
        t->rest.p++, t->rest.n--;
    if (t->rest.n == 0)
        return END;
    t->rest.n--;
    return (unsigned char)*t->rest.p++;
}

static int byte_next(struct text *t)
{
    struct text ahead;
    int c = char_next(t), high, low;

    if (c == '+')
        return ' ';
    if (c != '%')
        return c;
    ahead = *t;
    high = char_next(&ahead);
    low = high == END ? END : char_next(&ahead);
    if (low == END || hex((char)high) < 0 || hex((char)low) < 0)
        return '%';
    *t = ahead;
    return hex((char)high) * 16 + hex((char)low);
}

/* The next character, or END. */
static int32_t code_next(struct text *t)
{
    struct utf8 utf8 = {.code = 0};

    for (bool first = true;; first = false) {
        struct text before = *t;
        int byte = byte_next(t);

        if (byte == END)
            return first ? END : REPLACEMENT;
        switch (utf8_feed(&utf8, (unsigned char)byte)) {
        case UTF8_DONE:
            return (int32_t)utf8.code;
        case UTF8_WRONG:
            if (!first) /* the byte may begin a character of its own */
                *t = before;
            return REPLACEMENT;
        case UTF8_MORE:
            break;
        }
    }
}

static int text_compare(struct text a, struct text b)
{
    for (;;) {
        int32_t x = code_next(&a), y = code_next(&b);

        if (x != y)
            return x < y ? -1 : 1;
        if (x == END)
            return 0;
    }
}

static struct text text_of(struct bytes s)
{
    return (struct text){s, false};
}

static bool is_named(struct bytes names, struct bytes name)
{
    struct sf_item item;

    while (sf_inner_next(&names, &item))
        if (text_compare((struct text){item.text, true}, text_of(name)) == 0)
            return true;
    return false;
}

/* The draft's section 5.1: an array, and each item a string. */
static bool read_names(const struct sf_item *item, struct bytes *names)
{
    struct bytes rest = item->text;
    struct sf_item name;
    size_t n = 0;

    if (item->type != SF_INNER_LIST)
        return false;
    while (sf_inner_next(&rest, &name))
        if (name.type != SF_STRING || ++n > NO_VARY_NAMES_MAX)
            return false;
    *names = item->text;
    return true;
}

/* The draft's section 5.1: a Boolean. */
static bool read_key_order(const struct sf *field, struct no_vary_search *out)
{
    struct sf_item item;

    if (!sf_find(*field, BYTES_LIT("key-order"), &item))
        return true;
    out->any_order = item.type == SF_BOOLEAN && item.number == 1;
    return item.type == SF_BOOLEAN;
}

/* The draft's section 5.1: one of the two; see the header for what earlier versions allowed besides. */
static bool read_params(const struct sf *field, struct no_vary_search *out)
{
    struct sf_item params, except;
    bool has_params = sf_find(*field, BYTES_LIT("params"), &params);
    bool has_except = sf_find(*field, BYTES_LIT("except"), &except);
    bool all = has_params && params.type == SF_BOOLEAN && params.number == 1;

    if (has_except) {
        out->kind = NO_VARY_EXCEPT;
        return (!has_params || all) && read_names(&except, &out->names);
    }
    if (all)
        out->kind = NO_VARY_EXCEPT; /* nothing */
    if (all || !has_params)
        return true;
    out->kind = NO_VARY_PARAMS;
    return read_names(&params, &out->names);
}

/* Is it the default of the draft's section 4, said at length? */
static bool is_default(const struct no_vary_search *nvs)
{
    struct bytes names = nvs->names;
    struct sf_item item;

    if (nvs->any_order || nvs->kind == NO_VARY_EXCEPT)
        return false;
    return nvs->kind == NO_VARY_NONE || !sf_inner_next(&names, &item);
}

bool no_vary_search_read(struct fields fields, struct no_vary_search *out)
{
    struct sf field;

    *out = (struct no_vary_search){.kind = NO_VARY_NONE};
    if (sf_dictionary_read(fields, BYTES_LIT("no-vary-search"), &field) == SF_OK && read_key_order(&field, out) &&
        read_params(&field, out) && !is_default(out))
        return true;
    *out = (struct no_vary_search){.kind = NO_VARY_NONE};
    return false;
}

struct pair {
    struct bytes name, value;
};

struct pairs {
    struct pair v[NO_VARY_PAIRS_MAX];
    size_t n;
};

static struct pair pair_of(struct bytes s)
{
    const char *equals = memchr(s.p, '=', s.n);
    size_t n = equals == NULL ? s.n : (size_t)(equals - s.p);

    return (struct pair){{s.p, n}, equals == NULL ? BYTES_NONE : (struct bytes){equals + 1, s.n - n - 1}};
}

static bool counts(const struct no_vary_search *nvs, struct bytes name)
{
    switch (nvs->kind) {
    case NO_VARY_NONE:
        return true;
    case NO_VARY_PARAMS:
        return !is_named(nvs->names, name);
    case NO_VARY_EXCEPT:
        return is_named(nvs->names, name);
    }
    return true;
}

/* Two sorted runs that stand behind each other, into one. */
static void merge(const struct pair *from, size_t first_n, size_t n, struct pair *to)
{
    size_t a = 0, b = first_n;

    while (a < first_n || b < n) {
        bool first = b == n || (a < first_n && text_compare(text_of(from[a].name), text_of(from[b].name)) <= 0);

        *to++ = first ? from[a++] : from[b++];
    }
}

/* By name, those of equal ones stay in their order (the draft's section 6: a stable sort). How much there is to compare
 * is the client's choice, so it is never quadratic. */
static void sort(struct pairs *pairs)
{
    struct pair scratch[NO_VARY_PAIRS_MAX];

    for (size_t run = 1; run < pairs->n; run *= 2) {
        for (size_t at = 0; at < pairs->n; at += 2 * run) {
            size_t left = pairs->n - at;

            merge(pairs->v + at, left < run ? left : run, left < 2 * run ? left : 2 * run, scratch + at);
        }
        memcpy(pairs->v, scratch, pairs->n * sizeof scratch[0]);
    }
}

/* The pairs of the query that count (the draft's section 6). False: it has too many. */
static bool pairs_of(const struct no_vary_search *nvs, struct bytes query, struct pairs *out)
{
    size_t seen = 0;

    out->n = 0;
    while (query.n > 0) {
        const char *and = memchr(query.p, '&', query.n);
        size_t n = and == NULL ? query.n : (size_t)(and-query.p);
        struct pair pair = pair_of((struct bytes){query.p, n});

        if (n > 0 && ++seen > NO_VARY_PAIRS_MAX)
            return false;
        if (n > 0 && counts(nvs, pair.name))
            out->v[out->n++] = pair;
        n += and != NULL;
        query.p += n;
        query.n -= n;
    }
    if (nvs->any_order)
        sort(out);
    return true;
}

static bool is_effective(const struct no_vary_search *nvs)
{
    return nvs->kind != NO_VARY_NONE || nvs->any_order;
}

/* The draft's section 6, from its second step on. */
bool no_vary_search_equal(const struct no_vary_search *nvs, struct bytes query_a, struct bytes query_b)
{
    struct pairs a, b;

    if (bytes_eq(query_a, query_b))
        return true;
    if (!is_effective(nvs) || !pairs_of(nvs, query_a, &a) || !pairs_of(nvs, query_b, &b) || a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (text_compare(text_of(a.v[i].name), text_of(b.v[i].name)) != 0 ||
            text_compare(text_of(a.v[i].value), text_of(b.v[i].value)) != 0)
            return false;
    return true;
}

/* Of a query's byte at worst a replacement character in three escapes; and an '=' for each pair. */
size_t no_vary_search_bytes_max(struct bytes query)
{
    return 10 * query.n + 1;
}

static bool is_unescaped(int32_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '*' || c == '-' ||
           c == '.' || c == '_';
}

static size_t escape(unsigned byte, char *out)
{
    static const char digits[] = "0123456789ABCDEF";

    out[0] = '%';
    out[1] = digits[byte >> 4 & 15];
    out[2] = digits[byte & 15];
    return 3;
}

static size_t write_code(uint32_t c, char *out)
{
    size_t n = 0;

    if (is_unescaped((int32_t)c) || c == ' ') {
        *out = c == ' ' ? '+' : (char)c;
        return 1;
    }
    if (c < 0x80)
        return escape(c, out);
    if (c < 0x800) {
        n = escape(0xc0 | c >> 6, out);
    } else {
        n = c < 0x10000 ? escape(0xe0 | c >> 12, out) : escape(0xf0 | c >> 18, out);
        if (c >= 0x10000)
            n += escape(0x80 | (c >> 12 & 0x3f), out + n);
        n += escape(0x80 | (c >> 6 & 0x3f), out + n);
    }
    return n + escape(0x80 | (c & 0x3f), out + n);
}

static size_t write_text(struct bytes s, char *out)
{
    struct text t = text_of(s);
    size_t n = 0;
    int32_t c;

    while ((c = code_next(&t)) != END)
        n += write_code((uint32_t)c, out + n);
    return n;
}

size_t no_vary_search_reduce(const struct no_vary_search *nvs, struct bytes query, char *out)
{
    struct pairs pairs;
    size_t n = 0;

    if (!is_effective(nvs) || !pairs_of(nvs, query, &pairs)) {
        if (query.n > 0)
            memcpy(out, query.p, query.n);
        return query.n;
    }
    for (size_t i = 0; i < pairs.n; i++) {
        if (i > 0)
            out[n++] = '&';
        n += write_text(pairs.v[i].name, out + n);
        out[n++] = '=';
        n += write_text(pairs.v[i].value, out + n);
    }
    return n;
}
