#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "policies/groups.h"

static char buf[GROUP_BYTES_MAX];
static struct bytes got;

static void assert_groups(struct groups g, const char *const *expected, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_true(groups_next(&g, buf, &got));
        if (!bytes_eq(got, bytes_of(expected[i])))
            fail_msg("%.*s in place of %s", (int)got.n, got.p, expected[i]);
    }
    assert_false(groups_next(&g, buf, &got));
    assert_false(groups_next(&g, buf, &got));
}
#define ASSERT_GROUPS(g, ...)                                                                                          \
    do {                                                                                                               \
        static const char *const expected[] = {__VA_ARGS__};                                                           \
        assert_groups((g), expected, sizeof(expected) / sizeof(expected[0]));                                          \
    } while (0)

static struct field lines[3];

static struct groups of(const char *name, const char *a, const char *b, enum groups_kind kind)
{
    lines[0] = (struct field){bytes_of(name), NULL, bytes_of(a)};
    lines[1] = (struct field){BYTES_LIT("x"), NULL, BYTES_LIT("x")};
    lines[2] = (struct field){bytes_of(name), NULL, bytes_of(b)};
    return groups_of((struct fields){lines, b == NULL ? 2 : 3}, kind);
}

static struct groups cache_groups(const char *value)
{
    return of("cache-groups", value, NULL, GROUPS_CACHE_GROUPS);
}

/* RFC 9875 sections 2 and 3. */
static void groups_are_a_list_of_strings(void **state)
{
    (void)state;
    ASSERT_GROUPS(cache_groups("\"scripts\""), "scripts");
    ASSERT_GROUPS(cache_groups("\"a\";x=1, \"A\" ,\"b c,d\", \"a\", \"\""), "a", "A", "b c,d", "a", "");
    ASSERT_GROUPS(cache_groups("\"a\\\"b\\\\c\", \"d\""), "a\"b\\c", "d");
    ASSERT_GROUPS(of("cache-groups", "\"a\", \"b\"", "\"c\"", GROUPS_CACHE_GROUPS), "a", "b", "c");
    ASSERT_GROUPS(of("cache-group-invalidation", "\"eurovision-results\", \"australia\"", NULL, GROUPS_INVALIDATION),
                  "eurovision-results", "australia");
}

/* RFC 9651 section 4.2, RFC 9875 sections 2 and 3. */
static void with_an_error_none_of_a_list_counts(void **state)
{
    static const char *const wrong[] = {
        "",       "a",   "\"a\", b",      "\"a\", 1", "\"a\", (\"b\")", "\"a\", ?1", "\"a\" \"b\"",
        "\"a\",", "\"a", "\"a\", :YQ==:", "'a'",      "%\"a\""};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_groups(cache_groups(wrong[i]), NULL, 0);
    assert_groups(of("cache-groups", "\"a\"", "b", GROUPS_CACHE_GROUPS), NULL, 0);
    assert_groups(of("cache-groups", "\"a\"", NULL, GROUPS_INVALIDATION), NULL, 0);
    assert_groups(groups_of((struct fields){NULL, 0}, GROUPS_CACHE_GROUPS), NULL, 0);
    assert_groups(groups_of((struct fields){NULL, 0}, GROUPS_CACHE_TAG), NULL, 0);
}

static void keys_and_tags_are_words(void **state)
{
    (void)state;
    ASSERT_GROUPS(of("surrogate-key", "a b  c\td", "e", GROUPS_SURROGATE_KEY), "a", "b", "c", "d", "e");
    ASSERT_GROUPS(of("cache-tag", "a,b , c,,d ", ", e", GROUPS_CACHE_TAG), "a", "b", "c", "d", "e");
    ASSERT_GROUPS(of("cache-tag", "", "\"x\";y", GROUPS_CACHE_TAG), "\"x\";y");
    ASSERT_GROUPS(of("surrogate-key", "a,b A", NULL, GROUPS_SURROGATE_KEY), "a", "b", "A");
    assert_groups(of("surrogate-key", " , ", "", GROUPS_SURROGATE_KEY), NULL, 0);
    assert_groups(of("surrogate-key", "a", NULL, GROUPS_CACHE_TAG), NULL, 0);
}

static size_t count(const char *name, const char *value, enum groups_kind kind)
{
    struct groups g = of(name, value, NULL, kind);
    size_t n = 0;

    while (groups_next(&g, buf, &got))
        n++;
    return n;
}

/* RFC 9875 sections 2 and 3 ask for 32 groups of 32 characters. */
static void so_many_and_so_long_and_no_more(void **state)
{
    static char text[4 * GROUPS_MAX * 8], tag[GROUP_BYTES_MAX + 64];
    char *p = text;

    (void)state;
    for (int i = 0; i < GROUPS_MAX; i++)
        p += sprintf(p, "%s\"%d\"", i > 0 ? "," : "", i);
    assert_int_equal(count("cache-groups", text, GROUPS_CACHE_GROUPS), GROUPS_MAX);
    assert_int_equal(count("cache-tag", text, GROUPS_CACHE_TAG), GROUPS_MAX);
    strcpy(p, ",\"x\"");
    assert_int_equal(count("cache-groups", text, GROUPS_CACHE_GROUPS), GROUPS_MAX);
    assert_int_equal(count("cache-tag", text, GROUPS_CACHE_TAG), GROUPS_MAX);

    sprintf(tag, "\"%0*d\", \"b\"", GROUP_BYTES_MAX, 0);
    assert_int_equal(count("cache-groups", tag, GROUPS_CACHE_GROUPS), 2);
    sprintf(tag, "\"%0*d\", \"b\"", GROUP_BYTES_MAX + 1, 0);
    ASSERT_GROUPS(cache_groups(tag), "b");
    sprintf(tag, "%0*d,b", GROUP_BYTES_MAX, 0);
    assert_int_equal(count("cache-tag", tag, GROUPS_CACHE_TAG), 2);
    sprintf(tag, "%0*d,b", GROUP_BYTES_MAX + 1, 0);
    assert_int_equal(count("cache-tag", tag, GROUPS_CACHE_TAG), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_are_a_list_of_strings),
        cmocka_unit_test(with_an_error_none_of_a_list_counts),
        cmocka_unit_test(keys_and_tags_are_words),
        cmocka_unit_test(so_many_and_so_long_and_no_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
