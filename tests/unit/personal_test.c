#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/personal.h"

#define FIELD(n, v)                                                                                                    \
    {                                                                                                                  \
        BYTES_LIT(n), NULL, BYTES_LIT(v)                                                                               \
    }
#define FIELDS(array) ((struct fields){(array), sizeof(array) / sizeof *(array)})

static void cookies_are(const char *value, const char *expected[][2], size_t n)
{
    struct bytes rest = bytes_of(value);
    struct cookie cookie;
    for (size_t i = 0; i < n; i++) {
        assert_true(cookie_next(&rest, &cookie));
        assert_true(bytes_eq(cookie.name, bytes_of(expected[i][0])));
        assert_true(bytes_eq(cookie.value, bytes_of(expected[i][1])));
    }
    assert_false(cookie_next(&rest, &cookie));
}

static void cookies_taken_apart(void **state)
{
    (void)state;
    const char *two[][2] = {{"a", "1"}, {"b", "2"}};
    cookies_are("a=1; b=2", two, 2);
    cookies_are("a=1;b=2", two, 2);
    cookies_are(" ; a = 1 ;;\tb=2; ", two, 2);
    const char *odd[][2] = {{"", "alone"}, {"a", ""}, {"", "x"}, {"b", "c=d"}, {"e", "\"1"}, {"", "2\""}};
    cookies_are("alone; a=; =x; b=c=d; e=\"1;2\"", odd, 6);
    cookies_are("", NULL, 0);
    cookies_are(" ;; ", NULL, 0);
}

static void first_cookie_of_a_name(void **state)
{
    (void)state;
    const struct field f[] = {FIELD("x", "sid=0"), FIELD("cookie", "a=1; sid2=9"), FIELD("cookie", "sid=2; sid=3; e=")};
    assert_true(bytes_eq(cookie_value(FIELDS(f), BYTES_LIT("sid")), BYTES_LIT("2")));
    assert_true(bytes_eq(cookie_value(FIELDS(f), BYTES_LIT("a")), BYTES_LIT("1")));
    assert_null(cookie_value(FIELDS(f), BYTES_LIT("SID")).p);
    assert_null(cookie_value(FIELDS(f), BYTES_LIT("none")).p);
    assert_non_null(cookie_value(FIELDS(f), BYTES_LIT("e")).p);
    assert_int_equal(cookie_value(FIELDS(f), BYTES_LIT("e")).n, 0);
}

static struct personal judge(const struct personal_rules *rules, const char *cookie)
{
    const struct field f[] = {{BYTES_LIT("accept"), NULL, BYTES_LIT("*/*")},
                              {BYTES_LIT("cookie"), NULL, bytes_of(cookie)}};
    return personal_judge(rules, FIELDS(f));
}

static void any_cookie_left_makes_personal(void **state)
{
    (void)state;
    const struct bytes ignored[] = {BYTES_LIT("_ga*"), BYTES_LIT("_gid")}, keyed[] = {BYTES_LIT("currency")};
    const struct personal_rules none = {.ignore_all_cookies = false};
    const struct personal_rules some = {.ignore_cookies = {ignored, 2}, .key_cookies = keyed, .nkey_cookies = 1};
    const struct personal_rules all = {.ignore_all_cookies = true};
    assert_true(judge(&none, "a=1").cookie);
    assert_true(judge(&none, "alone").cookie);
    assert_false(judge(&none, "").cookie);
    assert_false(judge(&none, " ; ").cookie);
    assert_false(judge(&all, "session=1").cookie);
    assert_false(judge(&some, "_ga_X=1; _gid=2; currency=EUR").cookie);
    assert_true(judge(&some, "_ga_X=1; session=2; currency=EUR").cookie);
    assert_true(judge(&some, "_gid2=1").cookie);
    assert_true(judge(&some, "Currency=EUR").cookie);
    assert_true(judge(&some, "_gax").cookie); /* a value without a name */
    assert_false(judge(&some, "_gax=").cookie);
    assert_false(judge(&some, "a=1").authorization);
}

static void every_line_counts(void **state)
{
    (void)state;
    const struct bytes ignored[] = {BYTES_LIT("ok")};
    const struct personal_rules rules = {.ignore_cookies = {ignored, 1}};
    const struct field f[] = {FIELD("cookie", "ok=1"), FIELD("host", "h"), FIELD("cookie", "ok=2; session=1")};
    assert_true(personal_judge(&rules, FIELDS(f)).cookie);
    assert_false(personal_judge(&rules, (struct fields){f, 2}).cookie);
}

/* RFC 9111 section 3.5. */
static void authorization_is_told_apart(void **state)
{
    (void)state;
    const struct personal_rules rules = {.ignore_all_cookies = true};
    const struct field f[] = {FIELD("cookie", "a=1"), FIELD("authorization", "")};
    assert_true(personal_judge(&rules, FIELDS(f)).authorization);
    assert_false(personal_judge(&rules, FIELDS(f)).cookie);
    assert_false(personal_judge(&rules, (struct fields){f, 1}).authorization);
    assert_false(personal_judge(&rules, (struct fields){NULL, 0}).authorization);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cookies_taken_apart),
        cmocka_unit_test(first_cookie_of_a_name),
        cmocka_unit_test(any_cookie_left_makes_personal),
        cmocka_unit_test(every_line_counts),
        cmocka_unit_test(authorization_is_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
