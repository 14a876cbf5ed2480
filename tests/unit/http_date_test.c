#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/http_date.h"

#define NOW_2026 ((struct wall_s){INT64_C(1767225600)}) /* 2026-01-01T00:00:00Z */
#define UNTOUCHED INT64_C(-12345)

static int64_t parsed_at(const char *text, struct wall_s now)
{
    struct wall_s out = {UNTOUCHED};

    return http_date_parse(bytes_of(text), now, &out) ? out.s : (out.s == UNTOUCHED ? UNTOUCHED : UNTOUCHED - 1);
}

static int64_t parsed(const char *text)
{
    return parsed_at(text, NOW_2026);
}

static void assert_invalid(const char *text)
{
    if (parsed(text) != UNTOUCHED)
        fail_msg("taken for a date, or the result was touched: '%s'", text);
}

/* The example of RFC 9110 section 5.6.7 in its three formats. */
static void the_three_formats_mean_the_same_moment(void **state)
{
    (void)state;
    assert_int_equal(parsed("Sun, 06 Nov 1994 08:49:37 GMT"), 784111777);
    assert_int_equal(parsed("Sunday, 06-Nov-94 08:49:37 GMT"), 784111777);
    assert_int_equal(parsed("Sun Nov  6 08:49:37 1994"), 784111777);
    assert_int_equal(parsed("Wed Nov 16 08:49:37 1994"), 784111777 + 10 * 86400);
}

/* RFC 9111 section 4.2: a cache should match dates without case; a wrong day of the week costs nothing. */
static void letters_match_in_any_case_and_the_weekday_is_not_checked(void **state)
{
    (void)state;
    assert_int_equal(parsed("SUN, 06 NOV 1994 08:49:37 gMT"), 784111777);
    assert_int_equal(parsed("Mon, 06 Nov 1994 08:49:37 GMT"), 784111777);
}

/* RFC 9110 section 5.6.7; no zone but GMT: RFC 9111 section 4.2. */
static void what_is_nearly_a_date_is_invalid(void **state)
{
    static const char *const texts[] = {
        "",
        "0",
        "-1",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 AEST",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov  1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nob 1994 08:49:37 GMT",
        "Sun, 06 Nov 19x4 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sun Nov 06 08:49:37 1994 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov   6 08:49:37 1994",
        "Sun Nov",
        "Sun,",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_invalid(texts[i]);
}

/* RFC 9110 section 5.6.7. */
static void every_cut_off_date_is_invalid(void **state)
{
    static const char *const texts[] = {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
                                        "Sun Nov  6 08:49:37 1994"};
    struct wall_s out;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        for (size_t n = 0; n < strlen(texts[i]); n++)
            assert_false(http_date_parse((struct bytes){texts[i], n}, NOW_2026, &out));
}

/* RFC 9110 section 5.6.7; never later than was said: RFC 9111 section 4.2. */
static void numbers_are_held_to_the_calendar(void **state)
{
    (void)state;
    assert_int_equal(parsed("Sat, 31 Dec 2016 23:59:59 GMT"), 1483228799);
    assert_int_equal(parsed("Sat, 31 Dec 2016 23:59:60 GMT"), 1483228799); /* not later than was said */
    assert_invalid("Sat, 31 Dec 2016 23:59:61 GMT");
    assert_invalid("Sat, 31 Dec 2016 23:60:00 GMT");
    assert_invalid("Sat, 31 Dec 2016 24:00:00 GMT");
    assert_invalid("Sat, 32 Dec 2016 00:00:00 GMT");
    assert_invalid("Sat, 00 Dec 2016 00:00:00 GMT");
    assert_invalid("Sat, 31 Nov 2016 00:00:00 GMT");
}

/* RFC 9110 section 5.6.7. */
static void leap_days_exist_in_leap_years_only(void **state)
{
    (void)state;
    assert_int_equal(parsed("Tue, 29 Feb 2000 00:00:00 GMT"), 951782400);
    assert_int_equal(parsed("Thu, 29 Feb 2024 00:00:00 GMT"), 1709164800);
    assert_invalid("Wed, 29 Feb 2023 00:00:00 GMT");
    assert_invalid("Mon, 29 Feb 2100 00:00:00 GMT");
}

static void years_far_from_ours_are_read(void **state)
{
    (void)state;
    assert_int_equal(parsed("Thu, 01 Jan 1970 00:00:00 GMT"), 0);
    assert_int_equal(parsed("Wed, 31 Dec 1969 23:59:59 GMT"), -1);
    assert_int_equal(parsed("Tue, 19 Jan 2038 14:14:08 GMT"), 2147523248);
    assert_int_equal(parsed("Sun, 21 Nov 2286 04:46:39 GMT"), 10000039599);
    assert_int_equal(parsed("Fri, 31 Dec 9999 23:59:59 GMT"), INT64_C(253402300799));
    assert_int_equal(parsed("Sat, 01 Jan 0000 00:00:00 GMT"), INT64_C(-62167219200));
}

/* RFC 9110 section 5.6.7: more than 50 years ahead means the past. */
static void two_digit_years_lie_at_most_fifty_years_ahead(void **state)
{
    (void)state;
    assert_int_equal(parsed("Wednesday, 01-Jan-76 00:00:00 GMT"), INT64_C(3345062400)); /* 2076, 50 years ahead */
    assert_int_equal(parsed("Thursday, 01-Jan-76 00:00:01 GMT"), 189302401);            /* 1976 */
    assert_int_equal(parsed("Friday, 01-Jan-77 00:00:00 GMT"), 220924800);
    assert_int_equal(parsed("Tuesday, 29-Feb-00 00:00:00 GMT"), 951782400);
    /* seen from 2090-01-01, 05 is 2105 */
    assert_int_equal(parsed_at("Thursday, 01-Jan-05 00:00:00 GMT", (struct wall_s){INT64_C(3786912000)}),
                     INT64_C(4260211200));
    /* 50 years after 1 March 2022 is 1 March 2072, which has a 29 February before it; 2022 has none. */
    assert_int_equal(parsed_at("Monday, 29-Feb-72 08:00:00 GMT", (struct wall_s){INT64_C(1646092800)}),
                     INT64_C(3223958400));
    assert_int_equal(parsed_at("Tuesday, 29-Feb-72 08:00:00 GMT", (struct wall_s){INT64_C(1646092799)}),
                     INT64_C(68198400));
}

/* RFC 9110 section 5.6.7. */
static void formatting_writes_imf_fixdate(void **state)
{
    char text[HTTP_DATE_LEN + 1];

    (void)state;
    http_date_format((struct wall_s){784111777}, text);
    assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
    http_date_format((struct wall_s){0}, text);
    assert_string_equal(text, "Thu, 01 Jan 1970 00:00:00 GMT");
    http_date_format((struct wall_s){-1}, text);
    assert_string_equal(text, "Wed, 31 Dec 1969 23:59:59 GMT");
    http_date_format((struct wall_s){1709164800}, text);
    assert_string_equal(text, "Thu, 29 Feb 2024 00:00:00 GMT");
    http_date_format((struct wall_s){INT64_MAX}, text);
    assert_string_equal(text, "Fri, 31 Dec 9999 23:59:59 GMT");
    http_date_format((struct wall_s){INT64_MIN}, text);
    assert_string_equal(text, "Mon, 01 Jan 0001 00:00:00 GMT");
}

/* Some 7,000 moments over 2,000 years, each written and read again. */
static void what_is_written_is_read_back(void **state)
{
    char text[HTTP_DATE_LEN + 1];

    (void)state;
    for (int64_t t = INT64_C(-31000000000); t < INT64_C(32000000000); t += 8999993) {
        http_date_format((struct wall_s){t}, text);
        assert_int_equal(parsed(text), t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_three_formats_mean_the_same_moment),
        cmocka_unit_test(letters_match_in_any_case_and_the_weekday_is_not_checked),
        cmocka_unit_test(what_is_nearly_a_date_is_invalid),
        cmocka_unit_test(every_cut_off_date_is_invalid),
        cmocka_unit_test(numbers_are_held_to_the_calendar),
        cmocka_unit_test(leap_days_exist_in_leap_years_only),
        cmocka_unit_test(years_far_from_ours_are_read),
        cmocka_unit_test(two_digit_years_lie_at_most_fifty_years_ahead),
        cmocka_unit_test(formatting_writes_imf_fixdate),
        cmocka_unit_test(what_is_written_is_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
