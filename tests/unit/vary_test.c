#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "policies/vary.h"

#define FIELD(n, v)                                                                                                    \
    {                                                                                                                  \
        BYTES_LIT(n), NULL, BYTES_LIT(v)                                                                               \
    }
#define FIELDS(array) ((struct fields){(array), sizeof(array) / sizeof *(array)})

static void spec_is(const char *one, const char *two, enum vary expected, const char *spec)
{
    const struct field f[] = {
        {BYTES_LIT("vary"), NULL, bytes_of(one)}, FIELD("etag", "*"), {BYTES_LIT("vary"), NULL, bytes_of(two)}};
    char out[VARY_SPEC_MAX];
    size_t n = 0;
    assert_int_equal(vary_spec_of((struct fields){f, two == NULL ? 2 : 3}, out, &n), expected);
    if (expected == VARY_SOME)
        assert_true(bytes_eq((struct bytes){out, n}, bytes_of(spec)));
}

/* RFC 9110 section 12.5.5, RFC 9111 section 4.1. */
static void specs(void **state)
{
    (void)state;
    char out[VARY_SPEC_MAX];
    size_t n;
    assert_int_equal(vary_spec_of((struct fields){NULL, 0}, out, &n), VARY_NONE);
    spec_is("", NULL, VARY_NONE, NULL);
    spec_is(" , ,", NULL, VARY_NONE, NULL);
    spec_is("Accept-Encoding", NULL, VARY_SOME, "accept-encoding");
    spec_is("Origin, accept-encoding", "ORIGIN,Accept", VARY_SOME, "accept,accept-encoding,origin");
    spec_is("b,a,c,a,B", NULL, VARY_SOME, "a,b,c");
    spec_is("*", NULL, VARY_STAR, NULL);
    spec_is("accept, *", NULL, VARY_STAR, NULL);
    spec_is("accept", "*", VARY_STAR, NULL);
    spec_is("accept encoding", NULL, VARY_STAR, NULL);
    spec_is("accept;q=1", NULL, VARY_STAR, NULL);
}

static void sixteen_names_but_not_seventeen(void **state)
{
    (void)state;
    spec_is("p,o,n,m,l,k,j,i,h,g,f,e,d,c,b,a", "A,P", VARY_SOME, "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p");
    spec_is("p,o,n,m,l,k,j,i,h,g,f,e,d,c,b,a", "q", VARY_STAR, NULL);
}

static void spec_fills_its_space_and_no_more(void **state)
{
    (void)state;
    char name[VARY_SPEC_MAX + 1];
    memset(name, 'a', sizeof name);
    name[VARY_SPEC_MAX - 1] = 0;
    spec_is(name, NULL, VARY_SOME, name);
    name[VARY_SPEC_MAX - 1] = 'a';
    name[VARY_SPEC_MAX] = 0;
    spec_is(name, NULL, VARY_STAR, NULL);
}

/* Built in a heap buffer of the promised size, so that a sanitizer sees a byte too many. */
static struct bytes build(const char *spec, struct fields request)
{
    char *buf = malloc(vary_key_bytes_max(bytes_of(spec), request));
    size_t n = vary_key_build(bytes_of(spec), request, buf);
    assert_true(n <= vary_key_bytes_max(bytes_of(spec), request));
    return (struct bytes){buf, n};
}

static bool same(const char *name, const char *one, const char *two)
{
    const struct field f = {bytes_of(name), NULL, bytes_of(one)}, g = {bytes_of(name), NULL, bytes_of(two)};
    struct bytes a = build(name, (struct fields){&f, one != NULL}), b = build(name, (struct fields){&g, two != NULL});
    bool equal = bytes_eq(a, b);
    free((void *)(uintptr_t)a.p);
    free((void *)(uintptr_t)b.p);
    return equal;
}

/* RFC 9111 section 4.1. */
static void values_that_mean_the_same(void **state)
{
    (void)state;
    assert_true(same("accept", "text/html, a/b", "text/html ,\ta/b"));
    assert_true(same("accept", "text/html, a/b", "text/html,a/b"));
    assert_true(same("accept-encoding", "GZip; q=0.5, br", "gzip;q=0.5,BR"));
    assert_true(same("accept-language", "de-DE , en ; q=0.1", "de-de,en;q=0.1"));
    assert_true(same("accept-language", "en, de", "de, en;q=1.0"));
    assert_true(same("accept-encoding", "gzip, x-gzip", "gzip"));
    assert_true(same("accept-encoding", "", " , "));
    /* RFC 9110 section 8.3.1: a media type knows no case; section 12.5.1: blanks around ';' */
    assert_true(same("accept", "Text/HTML ; q=0.5, */*", "text/html;q=0.5,*/*"));
    assert_true(same("accept", "a/B;c=\"x,Y/Z\",D/e", "A/b;c=\"x,Y/Z\",d/E"));
}

/* RFC 9111 section 4.1. */
static void values_that_differ(void **state)
{
    (void)state;
    assert_false(same("accept", NULL, ""));
    assert_false(same("accept", "a", "A"));
    assert_false(same("accept", "a b", "ab"));
    assert_false(same("x", "a; b", "a;b"));
    assert_false(same("x", "A/b", "a/b"));
    assert_false(same("accept", "a/b;c=D", "a/b;c=d"));
    assert_false(same("accept", "a/b;c=\"x,Y/Z\"", "a/b;c=\"x,y/z\""));
    assert_false(same("accept", "a /B", "a /b"));
    assert_false(same("accept", "a/b, c/d", "c/d, a/b"));
    assert_false(same("accept-encoding", NULL, ""));
    assert_false(same("accept-encoding", "gzip", "gzip;q=0"));
    assert_false(same("accept-encoding", "gzip", "gzip, identity;q=0"));
    assert_false(same("accept-language", "d e", "de"));
    assert_false(same("x", "\"a, b\"", "\"a,b\""));
    assert_false(same("x", "\"a\\\", b\"", "\"a\\\",b\""));
    assert_true(same("x", "\"a\\\\\", b", "\"a\\\\\",b"));
    assert_false(same("accept-encoding", "gzip", "br"));
    assert_false(same("accept-encoding", "gzip, br", "gzip"));
    /* no list of weighted names: kept as it came */
    assert_false(same("accept-encoding", "GZIP;level=9", "gzip;level=9"));
    assert_false(same("accept-encoding", "gzip;level=9, br", "br, gzip;level=9"));
    assert_false(same("accept-language", "en;q=0.5, en", "en, en;q=0.5"));
}

/* RFC 9111 section 4.1, RFC 9110 section 5.3. */
static void lines_are_joined(void **state)
{
    (void)state;
    const struct field lines[] = {FIELD("x", "a"), FIELD("y", "0"), FIELD("x", "b ,c")},
                       line[] = {FIELD("x", "a, b, c")};
    struct bytes a = build("x", FIELDS(lines)), b = build("x", FIELDS(line));
    assert_true(bytes_eq(a, b));
    free((void *)(uintptr_t)a.p);
    free((void *)(uintptr_t)b.p);
}

/* Moving a byte from one field's value to the next one's gives another key. */
static void fields_do_not_run_together(void **state)
{
    (void)state;
    const struct field f[] = {FIELD("a", "12"), FIELD("b", "3")}, g[] = {FIELD("a", "1"), FIELD("b", "23")};
    struct bytes x = build("a,b", FIELDS(f)), y = build("a,b", FIELDS(g)), z = build("", FIELDS(f));
    assert_false(bytes_eq(x, y));
    assert_int_equal(z.n, 0);
    free((void *)(uintptr_t)x.p);
    free((void *)(uintptr_t)y.p);
    free((void *)(uintptr_t)z.p);
}

static struct vary_difference differ(struct fields f, struct fields g)
{
    const char *spec = "accept,accept-encoding,accept-language,x";
    struct bytes a = build(spec, f), b = build(spec, g);
    struct vary_difference d = vary_keys_compare(bytes_of(spec), a, b);
    free((void *)(uintptr_t)a.p);
    free((void *)(uintptr_t)b.p);
    return d;
}

static void keys_say_in_what_they_differ(void **state)
{
    (void)state;
    const struct field f[] = {FIELD("accept", "a/b"), FIELD("accept-language", "de"), FIELD("x", "1")};
    struct field g[] = {f[0], f[1], f[2]};
    struct vary_difference d = differ(FIELDS(f), FIELDS(g));
    assert_false(d.media || d.encoding || d.language || d.other);
    g[1].value = BYTES_LIT("en");
    d = differ(FIELDS(f), FIELDS(g));
    assert_true(d.language && !d.media && !d.encoding && !d.other);
    g[0].value = BYTES_LIT("a/c");
    d = differ(FIELDS(f), FIELDS(g));
    assert_true(d.language && d.media && !d.encoding && !d.other);
    d = differ(FIELDS(f), (struct fields){g, 2});
    assert_true(d.other && !d.encoding);
    g[2] = (struct field)FIELD("accept-encoding", "");
    d = differ(FIELDS(f), FIELDS(g));
    assert_true(d.other && d.encoding);
}

static void a_key_cut_short_differs_in_everything(void **state)
{
    (void)state;
    const struct field f[] = {FIELD("x", "12")};
    struct bytes key = build("x", FIELDS(f));
    for (size_t n = 0; n <= key.n; n++) {
        struct vary_difference d = vary_keys_compare(BYTES_LIT("x"), key, (struct bytes){key.p, n});
        assert_int_equal(d.other && d.media, n < key.n);
    }
    free((void *)(uintptr_t)key.p);
}

static void specs_name_whole_names(void **state)
{
    (void)state;
    const struct bytes spec = BYTES_LIT("accept,accept-encoding,origin");
    assert_true(vary_spec_names(spec, BYTES_LIT("accept")));
    assert_true(vary_spec_names(spec, BYTES_LIT("accept-encoding")));
    assert_true(vary_spec_names(spec, BYTES_LIT("origin")));
    assert_false(vary_spec_names(spec, BYTES_LIT("accept-language")));
    assert_false(vary_spec_names(spec, BYTES_LIT("encoding")));
    assert_false(vary_spec_names(BYTES_NONE, BYTES_LIT("accept")));
}

/* A key of a value's own normal form is the key of the value, whatever the value, and the bound holds. */
static void random_values_stay_in_bounds(const char *name)
{
    static const char letters[] = "aB1 \t,,;=\"\\/q.";
    unsigned seed = 7;
    for (int round = 0; round < 50000; round++) {
        char text[2][16];
        struct field f[2];
        for (int i = 0; i < 2; i++) {
            size_t n = (size_t)rand_r(&seed) % sizeof text[i];
            for (size_t j = 0; j < n; j++)
                text[i][j] = letters[(size_t)rand_r(&seed) % (sizeof letters - 1)];
            f[i] = (struct field){bytes_of(name), NULL, bytes_trim((struct bytes){text[i], n})};
        }
        struct bytes once = build(name, FIELDS(f));
        struct field normal = {f[0].name, NULL, {once.p + 4, once.n - 4}};
        struct bytes twice = build(name, (struct fields){&normal, 1});
        assert_true(bytes_eq(once, twice));
        free((void *)(uintptr_t)once.p);
        free((void *)(uintptr_t)twice.p);
    }
}

static void values_of_any_field_stay_in_bounds(void **state)
{
    (void)state;
    random_values_stay_in_bounds("accept");
    random_values_stay_in_bounds("accept-encoding");
    random_values_stay_in_bounds("x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(specs),
        cmocka_unit_test(sixteen_names_but_not_seventeen),
        cmocka_unit_test(spec_fills_its_space_and_no_more),
        cmocka_unit_test(values_that_mean_the_same),
        cmocka_unit_test(values_that_differ),
        cmocka_unit_test(lines_are_joined),
        cmocka_unit_test(fields_do_not_run_together),
        cmocka_unit_test(keys_say_in_what_they_differ),
        cmocka_unit_test(a_key_cut_short_differs_in_everything),
        cmocka_unit_test(specs_name_whole_names),
        cmocka_unit_test(values_of_any_field_stay_in_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
