#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "policies/route.h"

static const struct bytes get[] = {BYTES_LIT("GET")}, post[] = {BYTES_LIT("POST")}, head[] = {BYTES_LIT("HEAD")},
                          get_post[] = {BYTES_LIT("GET"), BYTES_LIT("POST")};

#define PATH(p)                                                                                                        \
    {                                                                                                                  \
        .path = BYTES_LIT(p)                                                                                           \
    }

/* The pattern that is found for GET, as text. */
static void found_is(const struct route_index *index, const struct route_pattern *patterns, const char *path,
                     const char *expected)
{
    size_t i = route_find(index, BYTES_LIT("GET"), BYTES_LIT("h"), bytes_of(path));
    if (expected == NULL) {
        assert_true(i == ROUTE_NONE);
        return;
    }
    assert_true(i < ROUTE_METHOD);
    assert_true(bytes_eq(patterns[i].path, bytes_of(expected)));
}

static void the_most_specific_wins(void **state)
{
    (void)state;
    const struct route_pattern p[] = {PATH("/api/**"),      PATH("/api/*"),     PATH("/api/clips"),
                                      PATH("/api/clips/*"), PATH("/api/*/top"), PATH("/api/clips/**"),
                                      PATH("/a"),           PATH("/a/"),        PATH("/*/b/c"),
                                      PATH("/x/*/d"),       PATH("/x/b/**")};
    struct route_index *index = route_index_create(p, sizeof p / sizeof *p);
    found_is(index, p, "/api", "/api/**");
    found_is(index, p, "/api/", "/api/**");
    found_is(index, p, "/api/me", "/api/*");
    found_is(index, p, "/api/me/", "/api/**");
    found_is(index, p, "/api/clips", "/api/clips");
    found_is(index, p, "/api/clips/", "/api/clips/**");
    found_is(index, p, "/api/clips/1", "/api/clips/*");
    found_is(index, p, "/api/clips/top", "/api/clips/*");
    found_is(index, p, "/api/tags/top", "/api/*/top");
    found_is(index, p, "/api/clips/1/comments", "/api/clips/**");
    found_is(index, p, "/apis", NULL);
    found_is(index, p, "/a", "/a");
    found_is(index, p, "/a/", "/a/");
    found_is(index, p, "/a/b", NULL);
    found_is(index, p, "/q/b/c", "/*/b/c");
    found_is(index, p, "/x/b/d", "/x/b/**");
    found_is(index, p, "/x/c/d", "/x/*/d");
    found_is(index, p, "/x/b/c", "/x/b/**");
    found_is(index, p, "/", NULL);
    found_is(index, p, "//b/c", NULL);
    found_is(index, p, "", NULL);
    route_index_destroy(index);
}

static void whole_trees_and_the_root(void **state)
{
    (void)state;
    const struct route_pattern p[] = {PATH("/**"), PATH("/"), PATH("/*")};
    struct route_index *index = route_index_create(p, 3);
    found_is(index, p, "/", "/");
    found_is(index, p, "/a", "/*");
    found_is(index, p, "/a/b", "/**");
    found_is(index, p, "//", "/**");
    route_index_destroy(index);
    index = route_index_create(p, 1);
    found_is(index, p, "/", "/**");
    route_index_destroy(index);
    index = route_index_create(p, 0);
    found_is(index, p, "/", NULL);
    route_index_destroy(index);
    route_index_destroy(NULL);
}

static void a_host_is_more_specific_than_none(void **state)
{
    (void)state;
    const struct route_pattern p[] = {
        {.path = BYTES_LIT("/a")},
        {.path = BYTES_LIT("/a"), .host = BYTES_LIT("z.example")},
        {.path = BYTES_LIT("/a"), .host = BYTES_LIT("b.example")},
        {.path = BYTES_LIT("/a"), .host = BYTES_LIT("[::1]")},
        {.path = BYTES_LIT("/only"), .host = BYTES_LIT("b.example")},
        {.path = BYTES_LIT("/**"), .host = BYTES_LIT("z.example")},
    };
    struct route_index *index = route_index_create(p, sizeof p / sizeof *p);
    assert_int_equal(route_find(index, BYTES_LIT("GET"), BYTES_LIT("b.example"), BYTES_LIT("/a")), 2);
    assert_int_equal(route_find(index, BYTES_LIT("GET"), BYTES_LIT("b.example:8080"), BYTES_LIT("/a")), 2);
    assert_int_equal(route_find(index, BYTES_LIT("GET"), BYTES_LIT("z.example"), BYTES_LIT("/a")), 1);
    assert_int_equal(route_find(index, BYTES_LIT("GET"), BYTES_LIT("[::1]:80"), BYTES_LIT("/a")), 3);
    assert_int_equal(route_find(index, BYTES_LIT("GET"), BYTES_LIT("c.example"), BYTES_LIT("/a")), 0);
    assert_int_equal(route_find(index, BYTES_LIT("GET"), BYTES_LIT(""), BYTES_LIT("/a")), 0);
    assert_int_equal(route_find(index, BYTES_LIT("GET"), BYTES_LIT("z.example"), BYTES_LIT("/only")), 5);
    assert_true(route_find(index, BYTES_LIT("GET"), BYTES_LIT("c.example"), BYTES_LIT("/only")) == ROUTE_NONE);
    assert_true(route_find(index, BYTES_LIT("GET"), BYTES_LIT(""), BYTES_LIT("/only")) == ROUTE_NONE);
    route_index_destroy(index);
}

static void methods_choose(void **state)
{
    (void)state;
    const struct route_pattern p[] = {
        {.path = BYTES_LIT("/a")},
        {.path = BYTES_LIT("/a"), .methods = get, .nmethods = 1},
        {.path = BYTES_LIT("/a/**"), .methods = post, .nmethods = 1},
        {.path = BYTES_LIT("/a/*"), .methods = get, .nmethods = 1},
    };
    struct route_index *index = route_index_create(p, sizeof p / sizeof *p);
    assert_int_equal(route_find(index, BYTES_LIT("GET"), BYTES_LIT("h"), BYTES_LIT("/a")), 1);
    assert_int_equal(route_find(index, BYTES_LIT("HEAD"), BYTES_LIT("h"), BYTES_LIT("/a")), 1);
    assert_int_equal(route_find(index, BYTES_LIT("PUT"), BYTES_LIT("h"), BYTES_LIT("/a")), 0);
    assert_int_equal(route_find(index, BYTES_LIT("GET"), BYTES_LIT("h"), BYTES_LIT("/a/1")), 3);
    assert_int_equal(route_find(index, BYTES_LIT("POST"), BYTES_LIT("h"), BYTES_LIT("/a/1")), 2);
    assert_true(route_find(index, BYTES_LIT("PUT"), BYTES_LIT("h"), BYTES_LIT("/a/1")) == ROUTE_METHOD);
    assert_true(route_find(index, BYTES_LIT("get"), BYTES_LIT("h"), BYTES_LIT("/a/1")) == ROUTE_METHOD);
    assert_true(route_find(index, BYTES_LIT("HEAD"), BYTES_LIT("h"), BYTES_LIT("/a/1/2")) == ROUTE_METHOD);
    assert_true(route_find(index, BYTES_LIT("PUT"), BYTES_LIT("h"), BYTES_LIT("/b")) == ROUTE_NONE);
    route_index_destroy(index);
}

static void patterns_judged(void **state)
{
    (void)state;
    static const char *const good[] = {"/", "/a", "/a/", "/*", "/**", "/a/*/b/**", "//", "/a%2Fb", "/a;b=c", "/~a"};
    static const char *const bad[] = {"",     "a",     "*",    "/**/a", "/**/", "/a*",  "/*a",  "/***",      "/a/..",
                                      "/./a", "/%7ea", "/%2f", "/%zz",  "/a?b", "/a#b", "/a b", "/\xc3\xa4", "/a/.."};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_null(route_pattern_check(bytes_of(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_non_null(route_pattern_check(bytes_of(bad[i])));
    char path[1026];
    memset(path, 'a', sizeof path);
    path[0] = '/';
    assert_null(route_pattern_check((struct bytes){path, 1024}));
    assert_non_null(route_pattern_check((struct bytes){path, 1025}));
}

static void compared(const struct route_pattern *a, const struct route_pattern *b, int expected)
{
    int order = route_pattern_compare(a, b), back = route_pattern_compare(b, a);
    assert_int_equal((order > 0) - (order < 0), expected);
    assert_int_equal((back > 0) - (back < 0), -expected);
}

static void specificity(void **state)
{
    (void)state;
    static const char *const falling[] = {"/a",      "/a/b",  "/a/*", "/a/*/c", "/a/*/*",
                                          "/a/*/**", "/a/**", "/*",   "/*/b",   "/**"};
    const size_t n = sizeof falling / sizeof *falling;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            struct route_pattern a = {.path = bytes_of(falling[i])}, b = {.path = bytes_of(falling[j])};
            compared(&a, &b, (i > j) - (i < j));
        }
    const struct route_pattern plain = PATH("/a"), host = {.path = BYTES_LIT("/a"), .host = BYTES_LIT("h")};
    const struct route_pattern by_get = {.path = BYTES_LIT("/a"), .methods = get, .nmethods = 1};
    const struct route_pattern by_post = {.path = BYTES_LIT("/a"), .methods = post, .nmethods = 1};
    const struct route_pattern by_head = {.path = BYTES_LIT("/a"), .methods = head, .nmethods = 1};
    const struct route_pattern by_both = {.path = BYTES_LIT("/a"), .methods = get_post, .nmethods = 2};
    compared(&host, &plain, -1);
    compared(&host, &by_get, -1);
    compared(&by_get, &plain, -1);
    compared(&by_get, &by_post, -1);
    compared(&by_get, &by_both, 0);
    compared(&by_post, &by_both, 0);
    compared(&by_get, &by_head, 0);
    compared(&by_post, &by_head, 1);
}

static bool segments_match(const char *pattern, const char *path)
{
    if (strcmp(pattern, "/**") == 0)
        return true;
    if (*pattern == 0 || *path == 0)
        return *pattern == *path;
    size_t n = strcspn(pattern + 1, "/"), m = strcspn(path + 1, "/");
    bool star = n == 1 && pattern[1] == '*';
    if (star ? m == 0 : n != m || memcmp(pattern, path, n + 1) != 0)
        return false;
    return segments_match(pattern + 1 + n, path + 1 + m);
}

static unsigned seed = 11;

static void random_path(char *out, bool pattern)
{
    static const char *const segments[] = {"/a", "/b", "/", "/*"};
    *out = 0;
    for (int left = 1 + rand_r(&seed) % 4; left > 0; left--)
        strcat(out, segments[rand_r(&seed) % (pattern ? 4 : 3)]);
    if (pattern && rand_r(&seed) % 3 == 0)
        strcat(out, "/**");
}

/* The index finds what a look at every pattern finds. */
static void index_agrees_with_a_full_search(void **state)
{
    (void)state;
    enum { N = 24 };
    static const char *const hosts[] = {"", "", "h", "i"};
    unsigned found = 0, missed = 0;
    for (int round = 0; round < 3000; round++) {
        char paths[N][40], path[40];
        struct route_pattern p[N];
        for (int i = 0; i < N; i++) {
            random_path(paths[i], true);
            p[i] = (struct route_pattern){.path = bytes_of(paths[i]), .host = bytes_of(hosts[rand_r(&seed) % 4])};
            if (rand_r(&seed) % 3 == 0)
                p[i].methods = get_post + rand_r(&seed) % 2, p[i].nmethods = 1;
        }
        struct route_index *index = route_index_create(p, N);
        for (int tries = 0; tries < 40; tries++) {
            random_path(path, false);
            struct bytes host = bytes_of(hosts[rand_r(&seed) % 4]), method = get_post[rand_r(&seed) % 2];
            size_t best = ROUTE_NONE;
            bool other_method = false;
            for (size_t i = 0; i < N; i++) {
                if (!segments_match(paths[i], path) || (p[i].host.n > 0 && !bytes_eq(p[i].host, host)))
                    continue;
                if (p[i].nmethods > 0 && !bytes_eq(p[i].methods[0], method))
                    other_method = true;
                else if (best == ROUTE_NONE || route_pattern_compare(&p[i], &p[best]) < 0)
                    best = i;
            }
            if (best == ROUTE_NONE && other_method)
                best = ROUTE_METHOD;
            assert_true(route_find(index, method, host, bytes_of(path)) == best);
            found += best < ROUTE_METHOD;
            missed += best >= ROUTE_METHOD;
        }
        route_index_destroy(index);
    }
    assert_true(found > 1000 && missed > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_specific_wins),
        cmocka_unit_test(whole_trees_and_the_root),
        cmocka_unit_test(a_host_is_more_specific_than_none),
        cmocka_unit_test(methods_choose),
        cmocka_unit_test(patterns_judged),
        cmocka_unit_test(specificity),
        cmocka_unit_test(index_agrees_with_a_full_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
