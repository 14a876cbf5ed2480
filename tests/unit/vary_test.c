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

static void values_that_mean_the_same(void **state)
{
    (void)state;
    assert_true(same("accept", "text/html, a/b", "text/html ,\ta/b"));
    assert_true(same("accept", "text/html, a/b", "text/html,a/b"));
    assert_true(same("accept-encoding", "GZip; q=0.5, br", "gzip;q=0.5,BR"));
    assert_true(same("accept-language", "de-DE , en ; q=0.1", "de-de,en;q=0.1"));
}

static void values_that_differ(void **state)
{
    (void)state;
    assert_false(same("accept", NULL, ""));
    assert_false(same("accept", "a", "A"));
    assert_false(same("accept", "a b", "ab"));
    assert_false(same("accept", "a; b", "a;b"));
    assert_false(same("accept-language", "d e", "de"));
    assert_false(same("x", "\"a, b\"", "\"a,b\""));
    assert_false(same("x", "\"a\\\", b\"", "\"a\\\",b\""));
    assert_true(same("x", "\"a\\\\\", b", "\"a\\\\\",b"));
    assert_false(same("accept-encoding", "gzip", "br"));
    assert_false(same("accept-encoding", "gzip, br", "gzip"));
}

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

/* A key of a value's own normal form is the key of the value, whatever the value, and the bound holds. */
static void random_values_stay_in_bounds(void **state)
{
    (void)state;
    static const char letters[] = "aB1 \t,,;=\"\\";
    unsigned seed = 7;
    for (int round = 0; round < 50000; round++) {
        char text[2][16];
        struct field f[2];
        for (int i = 0; i < 2; i++) {
            size_t n = (size_t)rand_r(&seed) % sizeof text[i];
            for (size_t j = 0; j < n; j++)
                text[i][j] = letters[(size_t)rand_r(&seed) % (sizeof letters - 1)];
            f[i] = (struct field){BYTES_LIT("accept-encoding"), NULL, bytes_trim((struct bytes){text[i], n})};
        }
        struct bytes once = build("accept-encoding", FIELDS(f));
        struct field normal = {f[0].name, NULL, {once.p + 4, once.n - 4}};
        struct bytes twice = build("accept-encoding", (struct fields){&normal, 1});
        assert_true(bytes_eq(once, twice));
        free((void *)(uintptr_t)once.p);
        free((void *)(uintptr_t)twice.p);
    }
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
        cmocka_unit_test(random_values_stay_in_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
