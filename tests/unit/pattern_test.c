#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/pattern.h"

static bool match(const char *pattern, const char *name)
{
    struct bytes v = bytes_of(pattern);
    return patterns_match((struct patterns){&v, 1}, bytes_of(name));
}

/* '*' counts at the end only, and may stand for nothing. */
static void star_is_any_rest(void **state)
{
    (void)state;
    assert_true(match("utm_*", "utm_source"));
    assert_true(match("utm_*", "utm_"));
    assert_false(match("utm_*", "utm"));
    assert_false(match("utm_*", "xutm_a"));
    assert_true(match("*", ""));
    assert_true(match("*", "anything"));
    assert_false(match("a*b", "axb"));
    assert_true(match("a*b", "a*b"));
}

static void without_star_the_whole_name_counts(void **state)
{
    (void)state;
    assert_true(match("page", "page"));
    assert_false(match("page", "pages"));
    assert_false(match("page", "pag"));
    assert_false(match("page", "Page"));
    assert_false(match("", "a"));
    assert_true(match("", ""));
}

static void any_of_a_list_will_do(void **state)
{
    (void)state;
    const struct bytes v[] = {BYTES_LIT("_ga*"), BYTES_LIT("_gid")};
    const struct patterns list = {v, 2};
    assert_true(patterns_match(list, BYTES_LIT("_ga_X1")));
    assert_true(patterns_match(list, BYTES_LIT("_gid")));
    assert_false(patterns_match(list, BYTES_LIT("session")));
    assert_false(patterns_match((struct patterns){NULL, 0}, BYTES_LIT("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(star_is_any_rest),
        cmocka_unit_test(without_star_the_whole_name_counts),
        cmocka_unit_test(any_of_a_list_will_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
