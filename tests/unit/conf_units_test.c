#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>

#include <stdint.h>

#include <cmocka.h>

#include "conf/conf.h"
#include "conf/units.h"

static void duration_is(const char *text, int64_t expected)
{
    int64_t ms = -1;

    if (!conf_duration_parse(bytes_of(text), &ms))
        fail_msg("'%s' was refused", text);
    assert_int_equal(ms, expected);
}

static void a_duration_has_one_of_five_units(void **state)
{
    (void)state;
    duration_is("250ms", 250);
    duration_is("10s", 10000);
    duration_is("5m", 300000);
    duration_is("1h", 3600000);
    duration_is("7d", 7 * 86400000LL);
    duration_is("0s", 0);
    duration_is("007s", 7000);
}

static void what_is_no_duration_is_refused(void **state)
{
    static const char *const bad[] = {"",     "0",   "10",    "s",     "ms", "10 s", " 10s", "10s ", "-1s", "+1s",
                                      "1.5s", "10S", "10sec", "1h30m", "1w", "1us",  "0x1s", "1e3s", "١s"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t ms;

        if (conf_duration_parse(bytes_of(bad[i]), &ms))
            fail_msg("'%s' was taken for a duration", bad[i]);
    }
}

static void a_duration_that_does_not_fit_is_refused(void **state)
{
    int64_t ms;

    (void)state;
    duration_is("9223372036854775807ms", INT64_MAX);
    assert_false(conf_duration_parse(BYTES_LIT("9223372036854775808ms"), &ms));
    duration_is("106751991167d", 106751991167LL * 86400000LL);
    assert_false(conf_duration_parse(BYTES_LIT("106751991168d"), &ms));
    assert_false(conf_duration_parse(BYTES_LIT("18446744073709551616ms"), &ms));
}

static void size_is(const char *text, uint64_t expected)
{
    uint64_t bytes = 1;

    if (!conf_size_parse(bytes_of(text), &bytes))
        fail_msg("'%s' was refused", text);
    assert_true(bytes == expected);
}

static void sizes_count_in_1024s(void **state)
{
    (void)state;
    size_is("512", 512);
    size_is("16kb", 16384);
    size_is("256mb", 256ULL << 20);
    size_is("2gb", 2ULL << 30);
    size_is("0", 0);
}

static void what_is_no_size_is_refused(void **state)
{
    static const char *const bad[] = {"", "kb", "1k", "1KB", "1 kb", "1b", "-1", "1.5mb", "1tb", "1kib", "gb2"};
    uint64_t bytes;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (conf_size_parse(bytes_of(bad[i]), &bytes))
            fail_msg("'%s' was taken for a size", bad[i]);
    size_is("8589934591gb", 8589934591ULL << 30);
    assert_false(conf_size_parse(BYTES_LIT("8589934592gb"), &bytes));
}

static void the_text_ends_where_its_length_says(void **state)
{
    int64_t ms;
    uint64_t number;

    (void)state;
    assert_true(conf_duration_parse((struct bytes){"10sx", 3}, &ms));
    assert_int_equal(ms, 10000);
    assert_true(units_number_parse((struct bytes){"123", 2}, &number));
    assert_int_equal(number, 12);
    assert_false(conf_duration_parse(BYTES_NONE, &ms));
    assert_false(units_percent_parse(BYTES_LIT("%"), &number));
    assert_true(units_percent_parse(BYTES_LIT("10%"), &number));
    assert_int_equal(number, 10);
}

static void printing_takes_the_largest_unit_without_rest(void **state)
{
    char text[UNITS_PRINT_MAX];

    (void)state;
    units_duration_print(0, text);
    assert_string_equal(text, "0s");
    units_duration_print(1500, text);
    assert_string_equal(text, "1500ms");
    units_duration_print(60000, text);
    assert_string_equal(text, "1m");
    units_duration_print(90000, text);
    assert_string_equal(text, "90s");
    units_size_print(0, text);
    assert_string_equal(text, "0");
    units_size_print(1025, text);
    assert_string_equal(text, "1025");
    units_size_print(8 << 20, text);
    assert_string_equal(text, "8mb");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_duration_has_one_of_five_units),
        cmocka_unit_test(what_is_no_duration_is_refused),
        cmocka_unit_test(a_duration_that_does_not_fit_is_refused),
        cmocka_unit_test(sizes_count_in_1024s),
        cmocka_unit_test(what_is_no_size_is_refused),
        cmocka_unit_test(the_text_ends_where_its_length_says),
        cmocka_unit_test(printing_takes_the_largest_unit_without_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
