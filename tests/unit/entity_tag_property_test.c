/*
 * Lists of entity tags in If-None-Match against references: valid lists that are made so that the answer
 * is known, and any text against a machine that takes one byte at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mutate.h"
#include "policies/conditional.h"

#define RUNS 20000

static bool not_modified(struct bytes list, struct bytes etag)
{
    const struct field field = {BYTES_LIT("if-none-match"), NULL, list};
    const struct fields request = {&field, 1};
    const struct validators stored = {.etag = etag};
    struct conditions c;

    assert_true(conditions_find(request, &c));
    return conditional_judge(request, &c, &stored, (struct wall_s){0}) == CONDITIONAL_NOT_MODIFIED;
}

/* One tag, as it is in a list: the W of a weak one aside, it is the text to compare. */
struct tag {
    char text[MUTATE_MAX + 1];
    size_t n;
};

static void tag_of(struct tag *tag, const char *p, size_t n)
{
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '	'))
        n--;
    if (n >= 2 && p[0] == 'W' && p[1] == '/')
        p += 2, n -= 2;
    tag->n = n;
    memcpy(tag->text, p, n);
}

static bool tag_equal(const struct tag *a, const struct tag *b)
{
    return a->n == b->n && memcmp(a->text, b->text, a->n) == 0;
}

/*
 * between: white space and commas -> a tag
 * begun:   after nothing or W or W/ of a tag, where a quote opens
 * quoted:  to the closing quote, where there is one
 * rest:    to the next comma
 */
enum machine { BETWEEN, BEGUN, QUOTED, REST };

static enum machine after_begun(char c, size_t place)
{
    if (c == '"' && place != 1)
        return QUOTED;
    return (c == 'W' && place == 0) || (c == '/' && place == 1) ? BEGUN : REST;
}

static bool reference_lists(struct bytes list, const struct tag *etag)
{
    enum machine at = BETWEEN;
    size_t from = 0;
    struct tag tag;

    for (size_t i = 0; i < list.n; i++) {
        char c = list.p[i];

        if (at == BETWEEN && c != ' ' && c != '\t' && c != ',') {
            from = i;
            at = BEGUN;
        }
        if (at == BETWEEN)
            continue;
        if (at == BEGUN)
            at = after_begun(c, i - from);
        else if (at == QUOTED && c == '"')
            at = REST;
        if (c == ',' && at != QUOTED) {
            tag_of(&tag, list.p + from, i - from);
            if (tag_equal(&tag, etag))
                return true;
            at = BETWEEN;
        }
    }
    if (at == BETWEEN)
        return false;
    tag_of(&tag, list.p + from, list.n - from);
    return tag_equal(&tag, etag);
}

/* RFC 9110 sections 13.1.2 and 8.8.3.2. */
static bool reference_matches(struct bytes list, struct bytes etag)
{
    struct tag tag;

    if (list.n == 1 && list.p[0] == '*')
        return true;
    tag_of(&tag, etag.p, etag.n);
    return etag.n > 0 && reference_lists(list, &tag);
}

/* RFC 9110 sections 13.1.2 and 8.8.3.2. */
static void any_text(void **state)
{
    static const char *const samples[] = {"\"a\"",          "W/\"a\"", "\"xyzzy\", \"r2d2xxxx\", W/\"c3piozzzz\"",
                                          "\"a\",\"b\"",    "*",       ", ,\"a\" ,\t W/\"b\",",
                                          "\"a,b\", \"c\"", "a, b, c", "\"\", \"a\"",
                                          "W/\"\"",         NULL};
    static const char *const pieces[] = {"\"", "\"",    "\"",    "W/",      "W",       "/",    "w/",   ",",
                                         ",",  ", ",    " ",     "\t",      "\\",      "*",    "a",    "b",
                                         "ab", "\"a\"", "\"b\"", "W/\"a\"", "\"a,b\"", "\"\"", "\x80", NULL};
    static const char *const etags[] = {"\"a\"",     "W/\"a\"", "\"b\"", "\"\"",   "\"a,b\"", "a", "W/", "W/\"\"",
                                        "\"xyzzy\"", "b",       "\"",    "\"a\"b", "W/a",     "W", NULL};
    struct mutate m = {.samples = samples, .pieces = pieces, .seed = 3};
    size_t found = 0;

    (void)state;
    for (size_t run = mutate_runs(RUNS); run > 0; run--) {
        struct bytes text = bytes_trim(mutate_next(&m)), etag = bytes_of(mutate_one_of(&m, etags));
        bool expected = reference_matches(text, etag);

        if (not_modified(text, etag) != expected)
            fail_msg("%s against %s: not %d", mutate_show(text), etag.p, !expected);
        found += expected;
    }
    assert_true(found > 0);
    mutate_end(&m);
}

static size_t make_opaque(struct mutate *m, char *out)
{
    static const char etagc[] = "!#ab,W/*\\ab[]~\x80\xff";
    size_t n = 0;

    out[n++] = '"';
    for (size_t left = mutate_below(m, 4); left > 0; left--)
        out[n++] = etagc[mutate_below(m, sizeof(etagc) - 1)];
    out[n++] = '"';
    return n;
}

/* RFC 9110 sections 8.8.3 and 5.6.1.2: what the list holds is known from its making. */
static void valid_lists(void **state)
{
    static const char *const none[] = {"", NULL};
    static const char *const gaps[] = {",", ", ", " ,\t", ",,", " , ,", NULL};
    struct mutate m = {.samples = none, .pieces = none, .seed = 4};
    size_t found = 0;

    (void)state;
    for (size_t run = mutate_runs(RUNS); run > 0; run--) {
        char etag[16] = "W/", list[256], *exact;
        size_t weak = mutate_below(&m, 2) * 2, etag_n = make_opaque(&m, etag + weak) + weak, n = 0;
        bool expected = false;

        for (size_t left = mutate_below(&m, 8); left > 0; left--) {
            char opaque[16];
            size_t opaque_n = make_opaque(&m, opaque);
            const char *gap = mutate_one_of(&m, gaps);

            mutate_splice(list, &n, n, 0, "W/", mutate_below(&m, 2) * 2);
            mutate_splice(list, &n, n, 0, opaque, opaque_n);
            mutate_splice(list, &n, n, 0, gap, left > 1 ? strlen(gap) : 0);
            expected = expected || (opaque_n == etag_n - weak && memcmp(opaque, etag + weak, opaque_n) == 0);
        }
        exact = test_malloc(n + 1);
        memcpy(exact, list, n);
        assert_int_equal(not_modified((struct bytes){exact, n}, (struct bytes){etag, etag_n}), expected);
        test_free(exact);
        found += expected;
    }
    assert_true(found > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_text),
        cmocka_unit_test(valid_lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
