/*
 * Range and Content-Range against references: the grammars as regular expressions, numbers as strings of digits, and
 * what a range means by asking each byte whether it is meant.
 */
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mutate.h"
#include "policies/range.h"

#define RUNS 20000
#define MEMBERS_MAX MUTATE_MAX

static regex_t range_set_form, content_range_form;

/* RFC 9110 sections 14.1.1, 14.2 and 5.6.1.2; the text is one without white space at its ends. */
static int set_up(void **state)
{
    static const char spec[] = "([0-9]+-[0-9]*|-[0-9]+)";
    char pattern[256];

    (void)state;
    snprintf(pattern, sizeof(pattern), "^bytes=%s?([ \t]*,[ \t]*%s?)*$", spec, spec);
    return regcomp(&range_set_form, pattern, REG_EXTENDED | REG_ICASE) |
           regcomp(&content_range_form, "^bytes (([0-9]+)-([0-9]+)/([0-9]+|[*])|[*]/([0-9]+))$",
                   REG_EXTENDED | REG_ICASE);
}

static int tear_down(void **state)
{
    (void)state;
    regfree(&range_set_form);
    regfree(&content_range_form);
    return 0;
}

/* A number as text: no leading zeros, so that the longer one is the greater one. */
struct digits {
    char text[MUTATE_MAX + 1];
};

static struct digits digits_of(const char *p, size_t n)
{
    struct digits d;

    while (n > 1 && *p == '0')
        p++, n--;
    memcpy(d.text, p, n);
    d.text[n] = '\0';
    return d;
}

static int digits_compare(const struct digits *a, const struct digits *b)
{
    size_t n = strlen(a->text), m = strlen(b->text);

    return n != m ? (n < m ? -1 : 1) : strcmp(a->text, b->text);
}

static const struct digits greatest = {"9223372036854775807"};

static int64_t digits_value(const struct digits *d)
{
    return digits_compare(d, &greatest) > 0 ? INT64_MAX : strtoll(d->text, NULL, 10);
}

struct reference {
    struct range_spec v[MEMBERS_MAX];
    size_t n;
};

/* Each member of a set that has the right form. False: a last position before the first. */
static bool reference_members(char *list, struct reference *out)
{
    out->n = 0;
    for (char *at, *s = strtok_r(list, ", \t", &at); s != NULL; s = strtok_r(NULL, ", \t", &at)) {
        size_t n = strspn(s, "0123456789"), m = strlen(s + n + 1);
        struct digits first = digits_of(s, n), last = m == 0 ? greatest : digits_of(s + n + 1, m);
        struct range_spec *spec = &out->v[out->n++];

        spec->first = n == 0 ? -1 : digits_value(&first);
        spec->last = digits_value(&last);
        if (n > 0 && spec->last < spec->first)
            return false;
    }
    return true;
}

static bool reference_tiny(const struct range_spec *s)
{
    for (int64_t length = 0; length < 80; length++)
        if (s->first < 0 ? s->last == length : s->last - s->first == length - 1)
            return true;
    return false;
}

static int64_t at_least(const struct range_spec *s)
{
    return s->first < 0 ? INT64_MAX : s->first;
}

/* Suffixes of an endless representation end where ranges without an end do: both hold its last byte. */
static bool reference_overlap(const struct range_spec *a, const struct range_spec *b)
{
    bool a_nothing = a->first < 0 && a->last == 0, b_nothing = b->first < 0 && b->last == 0;
    int64_t a_last = a->first < 0 ? INT64_MAX : a->last, b_last = b->first < 0 ? INT64_MAX : b->last;
    int64_t from = at_least(a) > at_least(b) ? at_least(a) : at_least(b), to = a_last < b_last ? a_last : b_last;

    return !a_nothing && !b_nothing && from <= to;
}

/* RFC 9110 sections 14.2 and 17.15. */
static bool reference_abusive(const struct reference *r)
{
    size_t overlapping = 0, tiny = 0;
    bool ordered = true;

    if (r->n > 16)
        return true;
    for (size_t i = 0; i < r->n; i++) {
        bool any = false;

        for (size_t j = 0; j < r->n; j++) {
            any = any || (i != j && reference_overlap(&r->v[i], &r->v[j]));
            /* A suffix is last, and at most one is. */
            if (i < j && (r->v[i].first < 0 || (r->v[j].first >= 0 && r->v[j].first < r->v[i].first)))
                ordered = false;
        }
        overlapping += any;
        tiny += reference_tiny(&r->v[i]);
    }
    return overlapping > 2 || (tiny > 4 && !ordered);
}

static void reference_parse(struct bytes value, struct reference *out)
{
    char text[MUTATE_MAX + 1];

    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    out->n = 0;
    if (memchr(text, '\0', value.n) != NULL || regexec(&range_set_form, text, 0, NULL, 0) != 0)
        return;
    if (!reference_members(text + strlen("bytes="), out) || reference_abusive(out))
        out->n = 0;
}

/* RFC 9110 sections 14.1.1, 14.2 and 17.15. */
static void sets_of_ranges(void **state)
{
    static const char *const samples[] = {
        "bytes=0-499",
        "bytes=500-",
        "bytes=-500",
        "bytes=0-0,-1",
        "bytes=500-600,601-999",
        "bytes=0-,0-,0-",
        "bytes=0-9, 20-29,\t40-49 ,60-69,80-89",
        "bytes=9223372036854775806-9223372036854775807",
        "bytes=9223372036854775808-18446744073709551616",
        "bytes=80-159,0-79,200-279,400-479,600-679,700-701",
        "bytes=1-1,3-3,5-5,7-7,9-9,11-11,13-13,15-15,17-17,19-19,21-21,23-23,25-25,27-27,29-29,31-31",
        NULL};
    static const char *const pieces[] = {"bytes=",
                                         "BYTES=",
                                         "bytes",
                                         "=",
                                         "-",
                                         "-",
                                         "-",
                                         ",",
                                         ",",
                                         ", ",
                                         " ",
                                         "\t",
                                         "0",
                                         "1",
                                         "2",
                                         "5",
                                         "9",
                                         "80",
                                         "79",
                                         "100",
                                         "0-",
                                         "-0",
                                         "1-1",
                                         "0-79",
                                         ",5-",
                                         ",-1",
                                         ",0-99",
                                         "9223372036854775807",
                                         "9223372036854775808",
                                         "items=",
                                         NULL};
    struct mutate m = {.samples = samples, .pieces = pieces, .seed = 1};
    static struct reference expected;
    size_t taken = 0;

    (void)state;
    for (size_t run = mutate_runs(RUNS); run > 0; run--) {
        struct bytes text = bytes_trim(mutate_next(&m));
        struct field v = {BYTES_LIT("range"), NULL, text};
        struct range_set set;
        enum range_kind kind = range_parse((struct fields){&v, 1}, &set);

        reference_parse(text, &expected);
        if (set.n != expected.n || memcmp(set.v, expected.v, set.n * sizeof(set.v[0])) != 0)
            fail_msg("%zu ranges, not %zu: %s", set.n, expected.n, mutate_show(text));
        assert_int_equal(kind, set.n == 0 ? RANGE_NONE : set.n == 1 ? RANGE_ONE : RANGE_MANY);
        taken += set.n > 0;
    }
    assert_true(taken > 0);
    mutate_end(&m);
}

/* RFC 9110 section 14.1.2, byte by byte. */
static enum range_fit reference_resolve(const struct range_spec *s, uint64_t length, struct span *out)
{
    bool any = false;

    for (uint64_t at = 0; at < length; at++) {
        bool meant =
            s->first < 0 ? length - at <= (uint64_t)s->last : at >= (uint64_t)s->first && at <= (uint64_t)s->last;

        if (meant && !any)
            out->first = at;
        if (meant)
            out->last = at;
        any = any || meant;
    }
    if (any)
        return RANGE_SATISFIABLE;
    return length == 0 && s->first < 0 && s->last > 0 ? RANGE_EMPTY : RANGE_UNSATISFIABLE;
}

/* RFC 9110 section 14.1.2. */
static void ranges_of_all_short_representations(void **state)
{
    (void)state;
    for (uint64_t length = 0; length < 12; length++)
        for (int64_t first = -1; first < 14; first++)
            for (int64_t last = first < 0 ? 0 : first; last < 15; last++) {
                const struct range_spec spec = {first, last == 14 ? INT64_MAX : last};
                struct span got = {0, 0}, expected = {0, 0};

                assert_int_equal(range_resolve(&spec, length, &got), reference_resolve(&spec, length, &expected));
                assert_int_equal(got.first, expected.first);
                assert_int_equal(got.last, expected.last);
            }
}

static struct digits match_digits(const char *text, const regmatch_t *m)
{
    return digits_of(text + m->rm_so, (size_t)(m->rm_eo - m->rm_so));
}

static bool has_number(const char *text, const regmatch_t *m)
{
    return m->rm_so >= 0 && text[m->rm_so] != '*';
}

/* RFC 9110 section 14.4. */
static bool reference_content_range(struct bytes value, struct content_range *out)
{
    char text[MUTATE_MAX + 1];
    regmatch_t m[6];
    struct digits first, last, complete;

    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    if (memchr(text, '\0', value.n) != NULL || regexec(&content_range_form, text, 6, m, 0) != 0)
        return false;
    *out = (struct content_range){-1, -1, -1};
    if (has_number(text, &m[4]) || has_number(text, &m[5])) {
        complete = match_digits(text, has_number(text, &m[4]) ? &m[4] : &m[5]);
        if (digits_compare(&complete, &greatest) > 0)
            return false;
        out->complete = digits_value(&complete);
    }
    if (!has_number(text, &m[2]))
        return true;
    first = match_digits(text, &m[2]);
    last = match_digits(text, &m[3]);
    if (digits_compare(&last, &greatest) > 0 || digits_compare(&first, &last) > 0)
        return false;
    out->first = digits_value(&first);
    out->last = digits_value(&last);
    return out->complete < 0 || digits_compare(&last, &complete) < 0;
}

/* RFC 9110 section 14.4. */
static void content_ranges(void **state)
{
    static const char *const samples[] = {"bytes 0-499/1234",
                                          "bytes 500-999/*",
                                          "bytes */1234",
                                          "bytes 0-0/1",
                                          "bytes 0-9223372036854775806/9223372036854775807",
                                          "bytes 9223372036854775806-9223372036854775807/*",
                                          NULL};
    static const char *const pieces[] = {"bytes ",
                                         "BYTES ",
                                         "bytes",
                                         " ",
                                         "-",
                                         "-",
                                         "/",
                                         "/",
                                         "*",
                                         "0",
                                         "1",
                                         "2",
                                         "9",
                                         "10",
                                         "99",
                                         "00",
                                         "9223372036854775807",
                                         "9223372036854775808",
                                         "0-",
                                         "-1/",
                                         "/*",
                                         "*/",
                                         "1-2/",
                                         "\t",
                                         NULL};
    struct mutate m = {.samples = samples, .pieces = pieces, .seed = 2};
    size_t taken = 0;

    (void)state;
    for (size_t run = mutate_runs(RUNS); run > 0; run--) {
        struct bytes text = mutate_next(&m);
        struct content_range got = {0, 0, 0}, expected = {0, 0, 0}, again = {0, 0, 0};
        bool is = content_range_parse(text, &got);
        char out[CONTENT_RANGE_MAX];

        if (is != reference_content_range(text, &expected))
            fail_msg("%s: %s", is ? "taken" : "not taken", mutate_show(text));
        if (!is)
            continue;
        taken++;
        assert_memory_equal(&got, &expected, sizeof(got));
        assert_true(content_range_parse((struct bytes){out, content_range_format(&got, out)}, &again));
        assert_memory_equal(&got, &again, sizeof(got));
    }
    assert_true(taken > 0);
    mutate_end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_of_ranges),
        cmocka_unit_test(ranges_of_all_short_representations),
        cmocka_unit_test(content_ranges),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
