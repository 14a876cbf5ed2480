#include "policies/part.h"

/* RFC 9110 section 15.3.7.2. */
static bool is_multipart(struct fields fields)
{
    struct bytes type = fields_value(fields, BYTES_LIT("content-type"));
    const struct bytes multipart = BYTES_LIT("multipart/byteranges");

    return type.n >= multipart.n && bytes_eq_nocase((struct bytes){type.p, multipart.n}, multipart);
}

/* The one range of a 206 (RFC 9110 section 15.3.7.1). */
static bool range_of(const struct part_facts *f, struct content_range *out)
{
    return f->status == 206 && !is_multipart(f->fields) &&
           content_range_parse(fields_value(f->fields, BYTES_LIT("content-range")), out) && out->first >= 0;
}

/* Its body is what its range says, byte for byte. */
static bool is_exact(const struct part_facts *f, const struct content_range *range)
{
    return f->length == range->last - range->first + 1;
}

bool part_is_storable(const struct part_facts *response)
{
    struct content_range range;

    return range_of(response, &range) && response->length <= range.last - range.first + 1;
}

/* RFC 9110 sections 14.2 and 15.5.17. */
static enum part_verdict choose_of_whole(const struct range_spec *spec, const struct part_facts *f, struct part *out)
{
    struct span span;

    if (f->length < 0)
        return PART_WHOLE;
    switch (range_resolve(spec, (uint64_t)f->length, &span)) {
    case RANGE_SATISFIABLE:
        *out =
            (struct part){span.first, span.last - span.first + 1, {(int64_t)span.first, (int64_t)span.last, f->length}};
        return PART_SOME;
    case RANGE_UNSATISFIABLE:
        out->range = (struct content_range){-1, -1, f->length};
        return PART_UNSATISFIABLE;
    case RANGE_EMPTY:
        break;
    }
    return PART_WHOLE;
}

/* Where the body is shorter than its claim, what is counted from the end is taken from the body's end, all else from
 * its beginning; less than was asked for is sent as what it is (RFC 9110 section 15.3.7). */
static enum part_verdict choose_of_short(const struct range_spec *spec, struct span span, const struct part_facts *f,
                                         const struct content_range *range, struct part *out)
{
    uint64_t n = span.last - span.first + 1, length = (uint64_t)f->length;
    uint64_t offset = span.first - (uint64_t)range->first;

    if (spec->first < 0) {
        n = n < length ? n : length;
        *out = (struct part){length - n, n, {(int64_t)(span.last - n + 1), (int64_t)span.last, range->complete}};
        return n > 0 ? PART_SOME : PART_MISSING;
    }
    if (offset >= length)
        return PART_MISSING;
    n = n < length - offset ? n : length - offset;
    *out = (struct part){offset, n, {(int64_t)span.first, (int64_t)(span.first + n - 1), range->complete}};
    return PART_SOME;
}

/* Only what lies wholly within the part (RFC 9111 section 3.3). */
static enum part_verdict choose_of_part(const struct range_spec *spec, const struct part_facts *f, struct part *out)
{
    struct content_range range;
    struct span span = {(uint64_t)spec->first, (uint64_t)spec->last};

    if (f->length < 0 || !range_of(f, &range))
        return PART_MISSING;
    if (range.complete >= 0) {
        switch (range_resolve(spec, (uint64_t)range.complete, &span)) {
        case RANGE_SATISFIABLE:
            break;
        case RANGE_UNSATISFIABLE:
            out->range = (struct content_range){-1, -1, range.complete};
            return PART_UNSATISFIABLE;
        case RANGE_EMPTY:
            return PART_MISSING;
        }
    } else if (spec->first < 0)
        return PART_MISSING;
    if (span.first < (uint64_t)range.first || span.last > (uint64_t)range.last)
        return PART_MISSING;
    if (f->length > range.last - range.first + 1)
        return PART_MISSING;
    if (!is_exact(f, &range))
        return choose_of_short(spec, span, f, &range, out);
    *out = (struct part){span.first - (uint64_t)range.first,
                         span.last - span.first + 1,
                         {(int64_t)span.first, (int64_t)span.last, range.complete}};
    return PART_SOME;
}

enum part_verdict part_choose(struct fields request, const struct part_facts *response, struct wall_s now,
                              struct part *out)
{
    struct range_set set;

    if (response->status != 200 && response->status != 206)
        return PART_WHOLE;
    bool one = range_parse(request, &set) == RANGE_ONE && range_if_range_holds(request, response->fields, now);

    if (response->status == 206)
        return one ? choose_of_part(&set.v[0], response, out) : PART_MISSING;
    return one ? choose_of_whole(&set.v[0], response, out) : PART_WHOLE;
}

enum part_gap part_gap(const struct part_facts *part, struct content_range *out)
{
    struct content_range range;

    if (!range_of(part, &range) || !is_exact(part, &range) || range.complete < 0)
        return PART_GAP_NONE;
    if (range.first == 0 && range.last + 1 < range.complete) {
        *out = (struct content_range){range.last + 1, range.complete - 1, range.complete};
        return PART_GAP_TAIL;
    }
    if (range.first > 0 && range.last + 1 == range.complete) {
        *out = (struct content_range){0, range.first - 1, range.complete};
        return PART_GAP_HEAD;
    }
    return PART_GAP_NONE;
}

bool part_joins(const struct part_facts *first, const struct part_facts *second, struct content_range *out,
                uint64_t *tail)
{
    struct content_range a, b;

    if (!range_of(first, &a) || !range_of(second, &b) || !is_exact(first, &a) || !is_exact(second, &b) ||
        a.complete < 0 || a.complete != b.complete || a.first > b.first || b.first > a.last + 1)
        return false;
    *out = (struct content_range){a.first, a.last > b.last ? a.last : b.last, a.complete};
    *tail = (uint64_t)(a.last + 1 - b.first);
    return true;
}
