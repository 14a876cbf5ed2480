#include "policies/negotiate.h"

#define ENCODING BYTES_LIT("accept-encoding")

bool negotiate_knows(struct bytes name)
{
    return bytes_eq(name, ENCODING) || bytes_eq(name, BYTES_LIT("accept-language")) ||
           bytes_eq(name, BYTES_LIT("accept-charset"));
}

/* RFC 9110 sections 8.4.1.1 and 8.4.1.3. */
static struct bytes coding_of(struct bytes name)
{
    if (name.n > 2 && ascii_lower(name.p[0]) == 'x' && name.p[1] == '-' &&
        (bytes_eq_nocase(name, BYTES_LIT("x-gzip")) || bytes_eq_nocase(name, BYTES_LIT("x-compress"))))
        return (struct bytes){name.p + 2, name.n - 2};
    return name;
}

/* tchar (RFC 9110 section 5.6.2), all in lower case; 0: none. This runs on every hit on what varies on such a field. */
static const unsigned char folded[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*', ['+'] = '+',
    ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|',   ['~'] = '~', ['0'] = '0',
    ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6',   ['7'] = '7', ['8'] = '8',
    ['9'] = '9', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e',   ['F'] = 'f', ['G'] = 'g',
    ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm',   ['N'] = 'n', ['O'] = 'o',
    ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u',   ['V'] = 'v', ['W'] = 'w',
    ['X'] = 'x', ['Y'] = 'y', ['Z'] = 'z', ['a'] = 'a', ['b'] = 'b', ['c'] = 'c',   ['d'] = 'd', ['e'] = 'e',
    ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i', ['j'] = 'j', ['k'] = 'k',   ['l'] = 'l', ['m'] = 'm',
    ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r', ['s'] = 's',   ['t'] = 't', ['u'] = 'u',
    ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y', ['z'] = 'z',
};

static char fold(char c)
{
    return (char)folded[(unsigned char)c];
}

static const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

/* qvalue (RFC 9110 section 12.4.2): 0 or 1 and at most three decimals. NULL, here and below: it cannot be read. */
static const char *qvalue_parse(const char *p, const char *end, unsigned *q)
{
    if (p == end || (*p != '0' && *p != '1'))
        return NULL;
    *q = *p++ == '1' ? Q_MAX : 0;
    if (p == end || *p != '.')
        return p;
    p++;
    for (unsigned unit = Q_MAX / 10; unit > 0 && p < end && *p >= '0' && *p <= '9'; unit /= 10)
        *q += (unsigned)(*p++ - '0') * unit;
    return *q <= Q_MAX ? p : NULL;
}

/* What follows a name: nothing, or OWS ";" OWS "q=" qvalue (RFC 9110 section 12.4.2). */
static const char *weight_parse(const char *p, const char *end, unsigned *q)
{
    *q = Q_MAX;
    p = skip_blanks(p, end);
    if (p == end || *p != ';')
        return p;
    p = skip_blanks(p + 1, end);
    if (end - p < 2 || fold(*p) != 'q' || p[1] != '=')
        return NULL;
    p = qvalue_parse(p + 2, end, q);
    return p != NULL ? skip_blanks(p, end) : NULL;
}

/* Both are tokens, and know no case (RFC 9110 sections 8.3.2 and 8.4.1, RFC 4647 section 2). */
static bool same(struct bytes a, struct bytes b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (fold(a.p[i]) != fold(b.p[i]))
            return false;
    return true;
}

static bool before(const struct preference *a, const struct preference *b)
{
    size_t n = a->name.n < b->name.n ? a->name.n : b->name.n;

    if (a->q != b->q)
        return a->q > b->q;
    for (size_t i = 0; i < n; i++)
        if (fold(a->name.p[i]) != fold(b->name.p[i]))
            return fold(a->name.p[i]) < fold(b->name.p[i]);
    return a->name.n < b->name.n;
}

/* Into its place. False: no room, or known with another weight. */
static bool add(struct preferences *p, struct preference member)
{
    size_t at = p->n;

    for (size_t i = 0; i < p->n; i++)
        if (same(p->v[i].name, member.name))
            return p->v[i].q == member.q;
    if (p->n == PREFERENCES_MAX)
        return false;
    while (at > 0 && before(&member, &p->v[at - 1])) {
        p->v[at] = p->v[at - 1];
        at--;
    }
    p->v[at] = member;
    p->n++;
    return true;
}

static const char *member_parse(const char *p, const char *end, bool encoding, struct preferences *out)
{
    struct preference one = {.name.p = p};

    while (p < end && folded[(unsigned char)*p] != 0)
        p++;
    one.name.n = (size_t)(p - one.name.p);
    p = weight_parse(p, end, &one.q);
    if (one.name.n == 0 || p == NULL || (p < end && *p != ','))
        return NULL;
    if (encoding)
        one.name = coding_of(one.name);
    return add(out, one) ? p : NULL;
}

static bool line_parse(struct bytes line, bool encoding, struct preferences *out)
{
    const char *p = line.p, *end = p + line.n;

    for (;;) {
        /* a list may have empty members (RFC 9110 section 5.6.1.2) */
        while (p < end && (*p == ',' || *p == ' ' || *p == '\t'))
            p++;
        if (p == end)
            return true;
        p = member_parse(p, end, encoding, out);
        if (p == NULL)
            return false;
    }
}

/* All lines are one list (RFC 9110 section 5.3). */
bool negotiate_parse(struct fields request, struct bytes name, size_t first, struct preferences *out)
{
    bool encoding = bytes_eq(name, ENCODING);

    out->n = 0;
    for (size_t i = first; i < request.n; i = fields_find(request, name, i + 1))
        if (!line_parse(request.v[i].value, encoding, out))
            return false;
    return true;
}

/* No longer than it can have come: 0 or 0. and as many decimals as it needs. */
static char *q_write(unsigned q, char *to)
{
    memcpy(to, ";q=0", 4);
    to += 4;
    if (q == 0)
        return to;
    *to++ = '.';
    for (unsigned unit = Q_MAX / 10; q > 0; q %= unit, unit /= 10)
        *to++ = (char)('0' + q / unit);
    return to;
}

size_t negotiate_write(const struct preferences *p, char *to)
{
    char *start = to;

    for (size_t i = 0; i < p->n; i++) {
        if (i > 0)
            *to++ = ',';
        for (size_t j = 0; j < p->v[i].name.n; j++)
            *to++ = fold(p->v[i].name.p[j]);
        if (p->v[i].q < Q_MAX)
            to = q_write(p->v[i].q, to);
    }
    return (size_t)(to - start);
}

bool negotiate_language_is_best(const struct preferences *p, struct bytes content_language)
{
    if (p->n == 0 || p->v[0].q == 0 || (p->n > 1 && p->v[1].q == p->v[0].q) || bytes_eq(p->v[0].name, BYTES_LIT("*")))
        return false;
    return bytes_eq_nocase(p->v[0].name, content_language);
}

/* Basic filtering (RFC 4647 section 3.3.1). */
static bool range_covers(struct bytes range, struct bytes language)
{
    return language.n >= range.n && bytes_eq_nocase((struct bytes){language.p, range.n}, range) &&
           (language.n == range.n || language.p[range.n] == '-');
}

bool negotiate_language_is_acceptable(const struct preferences *p, struct bytes content_language)
{
    unsigned q = p->n == 0 ? Q_MAX : 0;
    size_t longest = 0;

    if (content_language.n == 0)
        return true;
    for (size_t i = 0; i < p->n; i++) {
        struct bytes range = p->v[i].name;
        bool any = bytes_eq(range, BYTES_LIT("*"));

        if (any ? longest == 0 : range.n > longest && range_covers(range, content_language)) {
            longest = any ? 0 : range.n;
            q = p->v[i].q;
        }
    }
    return q > 0;
}

/* The weight of a coding: its own, or that of "*", which stands for all that are not listed (RFC 9110 section 12.5.3).
 * Q_MAX + 1: not mentioned. */
static unsigned q_of(const struct preferences *p, struct bytes coding)
{
    unsigned q = Q_MAX + 1;

    for (size_t i = 0; i < p->n; i++) {
        if (bytes_eq_nocase(p->v[i].name, coding))
            return p->v[i].q;
        if (bytes_eq(p->v[i].name, BYTES_LIT("*")))
            q = p->v[i].q;
    }
    return q;
}

/* No coding goes by the name of identity (RFC 9110 section 12.5.3). */
static struct bytes or_identity(struct bytes content_encoding)
{
    return content_encoding.n == 0 ? BYTES_LIT("identity") : coding_of(content_encoding);
}

static bool is_identity(struct bytes coding)
{
    return bytes_eq_nocase(coding, BYTES_LIT("identity"));
}

/* The highest weight that is not 0 is preferred (RFC 9110 section 12.5.3). */
bool negotiate_coding_is_best(const struct preferences *p, struct bytes content_encoding)
{
    struct bytes coding = or_identity(content_encoding);
    unsigned q = q_of(p, coding);

    if (p->n == 0)
        return is_identity(coding);
    return q > 0 && q == p->v[0].q;
}

/* What is not mentioned is not, but for no coding (RFC 9110 section 12.5.3). */
bool negotiate_coding_is_acceptable(const struct preferences *p, struct bytes content_encoding)
{
    struct bytes coding = or_identity(content_encoding);
    unsigned q = q_of(p, coding);

    return q > Q_MAX ? is_identity(coding) : q > 0;
}

int negotiate_coding_weight(const struct preferences *p, struct bytes coding)
{
    unsigned q = q_of(p, coding);

    return q > Q_MAX ? -1 : (int)q;
}
