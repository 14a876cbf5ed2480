#include "policies/range.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "policies/http_date.h"

/* A part of multipart/byteranges costs about that much besides its bytes (RFC 9110 section 15.3.7.2). */
#define TINY_BYTES 80
#define TINY_UNORDERED_MAX 4
#define OVERLAPPING_MAX 2

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Takes 1*DIGIT from the front; *over says that the number is above INT64_MAX, which it then is. */
static bool take_position(struct bytes *s, int64_t *out, bool *over)
{
    int64_t value = 0;
    size_t n = 0;

    *over = false;
    for (; n < s->n && is_digit(s->p[n]); n++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, s->p[n] - '0', &value)) {
            *over = true;
            value = INT64_MAX;
        }
    *out = *over ? INT64_MAX : value;
    s->p += n;
    s->n -= n;
    return n > 0;
}

static bool take_char(struct bytes *s, char c)
{
    if (s->n == 0 || s->p[0] != c)
        return false;
    s->p++;
    s->n--;
    return true;
}

static bool take_unit(struct bytes *s)
{
    const struct bytes unit = BYTES_LIT("bytes");

    if (s->n < unit.n || !bytes_eq_nocase((struct bytes){s->p, unit.n}, unit)) /* RFC 9110 section 14.1 */
        return false;
    s->p += unit.n;
    s->n -= unit.n;
    return true;
}

/* int-range or suffix-range (RFC 9110 section 14.1.1). */
static bool spec_read(struct bytes s, struct range_spec *out)
{
    bool over;

    if (take_char(&s, '-')) {
        out->first = -1;
        return take_position(&s, &out->last, &over) && s.n == 0;
    }
    if (!take_position(&s, &out->first, &over) || !take_char(&s, '-'))
        return false;
    out->last = INT64_MAX;
    if (s.n > 0 && !take_position(&s, &out->last, &over))
        return false;
    return s.n == 0 && out->last >= out->first;
}

/* Empty members of the list are skipped (RFC 9110 section 5.6.1.2). */
static bool set_read(struct bytes rest, struct range_set *out)
{
    const char *begin = rest.p;

    while (rest.n > 0) {
        const char *comma = memchr(rest.p, ',', rest.n);
        size_t n = comma == NULL ? rest.n : (size_t)(comma - rest.p);
        struct bytes member = bytes_trim((struct bytes){rest.p, n});
        bool after_blank = rest.p == begin && member.p > begin;

        n += comma != NULL;
        rest.p += n;
        rest.n -= n;
        if (member.n == 0)
            continue;
        if (after_blank) /* blanks are around commas only */
            return false;
        if (out->n == RANGE_SPECS_MAX || !spec_read(member, &out->v[out->n]))
            return false;
        out->n++;
    }
    return out->n > 0;
}

static bool is_suffix(const struct range_spec *s)
{
    return s->first < 0;
}

/* As far as that can be known without the length: a suffix overlaps another one, and what goes on to the end. */
static bool overlap(const struct range_spec *a, const struct range_spec *b)
{
    if (is_suffix(a) && is_suffix(b))
        return a->last > 0 && b->last > 0;
    if (is_suffix(a))
        return a->last > 0 && b->last == INT64_MAX;
    if (is_suffix(b))
        return b->last > 0 && a->last == INT64_MAX;
    return a->first <= b->last && b->first <= a->last;
}

static size_t overlapping(const struct range_set *set)
{
    size_t count = 0;

    for (size_t i = 0; i < set->n; i++)
        for (size_t j = 0; j < set->n; j++)
            if (i != j && overlap(&set->v[i], &set->v[j])) {
                count++;
                break;
            }
    return count;
}

static bool is_tiny(const struct range_spec *s)
{
    return is_suffix(s) ? s->last < TINY_BYTES : s->last - s->first < TINY_BYTES - 1;
}

/* A suffix comes after all else. */
static bool in_order(const struct range_set *set)
{
    for (size_t i = 1; i < set->n; i++)
        if (is_suffix(&set->v[i - 1]) || (!is_suffix(&set->v[i]) && set->v[i].first < set->v[i - 1].first))
            return false;
    return true;
}

/* RFC 9110 sections 14.2 and 17.15. */
static bool is_abusive(const struct range_set *set)
{
    size_t tiny = 0;

    for (size_t i = 0; i < set->n; i++)
        tiny += is_tiny(&set->v[i]);
    return overlapping(set) > OVERLAPPING_MAX || (tiny > TINY_UNORDERED_MAX && !in_order(set));
}

enum range_kind range_parse(struct fields request, struct range_set *out)
{
    const struct bytes name = BYTES_LIT("range");
    size_t i = fields_find(request, name, 0);
    struct bytes s;

    out->n = 0;
    if (i == request.n || fields_find(request, name, i + 1) < request.n)
        return RANGE_NONE;
    s = request.v[i].value;
    if (!take_unit(&s) || !take_char(&s, '=') || !set_read(s, out) || is_abusive(out)) {
        out->n = 0;
        return RANGE_NONE;
    }
    return out->n == 1 ? RANGE_ONE : RANGE_MANY;
}

enum range_fit range_resolve(const struct range_spec *spec, uint64_t length, struct span *out)
{
    uint64_t last = (uint64_t)spec->last;

    assert(spec->first <= spec->last && spec->last >= 0);
    if (length > INT64_MAX) /* INT64_MAX stands for all larger numbers too */
        length = INT64_MAX;
    if (is_suffix(spec)) {
        if (last == 0)
            return RANGE_UNSATISFIABLE;
        if (length == 0)
            return RANGE_EMPTY;
        *out = (struct span){last < length ? length - last : 0, length - 1};
        return RANGE_SATISFIABLE;
    }
    if ((uint64_t)spec->first >= length)
        return RANGE_UNSATISFIABLE;
    *out = (struct span){(uint64_t)spec->first, last < length ? last : length - 1};
    return RANGE_SATISFIABLE;
}

/* A number that int64_t cannot hold is none that we could do right by. */
static bool take_exact(struct bytes *s, int64_t *out)
{
    bool over;

    return take_position(s, out, &over) && !over;
}

bool content_range_parse(struct bytes value, struct content_range *out)
{
    struct content_range r = {-1, -1, -1};
    bool unsatisfied;

    if (!take_unit(&value) || !take_char(&value, ' '))
        return false;
    unsatisfied = take_char(&value, '*');
    if (!unsatisfied && (!take_exact(&value, &r.first) || !take_char(&value, '-') || !take_exact(&value, &r.last)))
        return false;
    if (!take_char(&value, '/'))
        return false;
    if ((unsatisfied || !take_char(&value, '*')) && !take_exact(&value, &r.complete))
        return false;
    if (value.n > 0 || r.last < r.first || (r.complete >= 0 && r.last >= r.complete))
        return false;
    *out = r;
    return true;
}

size_t content_range_format(const struct content_range *range, char out[CONTENT_RANGE_MAX])
{
    int n;

    if (range->first < 0) {
        assert(range->complete >= 0);
        n = snprintf(out, CONTENT_RANGE_MAX, "bytes */%" PRId64, range->complete);
    } else if (range->complete < 0) {
        n = snprintf(out, CONTENT_RANGE_MAX, "bytes %" PRId64 "-%" PRId64 "/*", range->first, range->last);
    } else {
        n = snprintf(out, CONTENT_RANGE_MAX, "bytes %" PRId64 "-%" PRId64 "/%" PRId64, range->first, range->last,
                     range->complete);
    }
    assert(n > 0 && n < CONTENT_RANGE_MAX);
    return (size_t)n;
}

enum times { TIMES_NONE, TIMES_ONCE, TIMES_MORE };

static enum times value_of(struct fields fields, struct bytes name, struct bytes *out)
{
    size_t i = fields_find(fields, name, 0);

    if (i == fields.n)
        return TIMES_NONE;
    *out = fields.v[i].value;
    return fields_find(fields, name, i + 1) == fields.n ? TIMES_ONCE : TIMES_MORE;
}

/* An entity-tag without W/ (RFC 9110 section 8.8.3). */
static bool is_strong_tag(struct bytes s)
{
    if (s.n < 2 || s.p[0] != '"' || s.p[s.n - 1] != '"')
        return false;
    for (size_t i = 1; i < s.n - 1; i++)
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == '"' || s.p[i] == 0x7f)
            return false;
    return true;
}

/* RFC 9110 section 8.8.2.2: with a Date at least one second later, nothing was changed after that answer unseen. */
static bool strong_last_modified(struct fields fields, struct wall_s now, struct wall_s *out)
{
    struct bytes modified, at;
    struct wall_s date;

    return value_of(fields, BYTES_LIT("last-modified"), &modified) == TIMES_ONCE &&
           value_of(fields, BYTES_LIT("date"), &at) == TIMES_ONCE && http_date_parse(modified, now, out) &&
           http_date_parse(at, now, &date) && date.s - out->s >= 1;
}

bool range_if_range_holds(struct fields request, struct fields stored_response, struct wall_s now)
{
    struct wall_s asked, modified;
    struct bytes condition, etag;

    switch (value_of(request, BYTES_LIT("if-range"), &condition)) {
    case TIMES_NONE:
        return true;
    case TIMES_ONCE:
        break;
    case TIMES_MORE:
        return false;
    }
    if (is_strong_tag(condition))
        return value_of(stored_response, BYTES_LIT("etag"), &etag) == TIMES_ONCE && bytes_eq(condition, etag);
    return http_date_parse(condition, now, &asked) && strong_last_modified(stored_response, now, &modified) &&
           asked.s == modified.s;
}

bool validators_agree_strongly(struct fields a, struct fields b, struct wall_s now)
{
    struct wall_s modified_a, modified_b;
    struct bytes tag_a, tag_b;
    enum times has_a = value_of(a, BYTES_LIT("etag"), &tag_a), has_b = value_of(b, BYTES_LIT("etag"), &tag_b);

    if (has_a == TIMES_ONCE && has_b == TIMES_ONCE)
        return is_strong_tag(tag_a) && bytes_eq(tag_a, tag_b);
    return has_a == TIMES_NONE && has_b == TIMES_NONE && strong_last_modified(a, now, &modified_a) &&
           strong_last_modified(b, now, &modified_b) && modified_a.s == modified_b.s;
}
