/* Examples and boundaries; structured_field_property_test.c compares with a second parser. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/structured_field.h"

static const struct bytes name = BYTES_LIT("x");
static struct field lines[4];
static struct sf field;
static struct sf_item item;

static struct fields message(const char *a, const char *b)
{
    lines[0] = (struct field){BYTES_LIT("y"), NULL, BYTES_LIT("(")};
    lines[1] = (struct field){name, NULL, bytes_of(a)};
    lines[2] = (struct field){BYTES_LIT("y"), NULL, BYTES_LIT("(")};
    lines[3] = (struct field){name, NULL, bytes_of(b)};
    return (struct fields){lines, b == NULL ? 3 : 4};
}

static enum sf_err list(const char *value)
{
    return sf_list_read(message(value, NULL), name, &field);
}

static enum sf_err dictionary(const char *value)
{
    return sf_dictionary_read(message(value, NULL), name, &field);
}

static void assert_text(struct bytes b, const char *text)
{
    assert_int_equal(b.n, strlen(text));
    assert_memory_equal(b.p, text, b.n);
}

/* The one item of a list. */
static const struct sf_item *only(const char *value)
{
    if (list(value) != SF_OK || !sf_next(&field, &item))
        fail_msg("not read: %s", value);
    struct sf_item another;

    assert_false(sf_next(&field, &another));
    return &item;
}

static void assert_number(const char *value, enum sf_type type, int64_t number)
{
    assert_int_equal(only(value)->type, type);
    assert_int_equal(item.number, number);
}

static void assert_decoded(const char *value, enum sf_type type, const char *text, size_t n)
{
    char out[64];

    assert_int_equal(only(value)->type, type);
    assert_int_equal(sf_text(&item, out), n);
    assert_memory_equal(out, text, n);
    assert_true(n <= item.text.n);
}

static void assert_invalid(const char *const *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (list(values[i]) != SF_INVALID || sf_next(&field, &item))
            fail_msg("taken for valid: %s", values[i]);
}
#define ASSERT_INVALID(...)                                                                                            \
    do {                                                                                                               \
        static const char *const values[] = {__VA_ARGS__};                                                             \
        assert_invalid(values, sizeof(values) / sizeof(values[0]));                                                    \
    } while (0)

/* RFC 9651 section 4.2. */
static void an_absent_field_is_told_from_an_empty_one(void **state)
{
    (void)state;
    assert_int_equal(sf_list_read((struct fields){NULL, 0}, name, &field), SF_ABSENT);
    assert_false(sf_next(&field, &item));
    assert_int_equal(list(""), SF_OK);
    assert_false(sf_next(&field, &item));
    assert_int_equal(dictionary("  "), SF_OK);
    assert_false(sf_next(&field, &item));
    assert_false(sf_find(field, BYTES_LIT("a"), &item));
}

/* RFC 9651 section 4.2.4. */
static void numbers(void **state)
{
    (void)state;
    assert_number("0", SF_INTEGER, 0);
    assert_number("-0", SF_INTEGER, 0);
    assert_number("042", SF_INTEGER, 42);
    assert_number("999999999999999", SF_INTEGER, INT64_C(999999999999999));
    assert_number("-999999999999999", SF_INTEGER, INT64_C(-999999999999999));
    assert_number("1.5", SF_DECIMAL, 1500);
    assert_number("-0.001", SF_DECIMAL, -1);
    assert_number("999999999999.999", SF_DECIMAL, INT64_C(999999999999999));
    ASSERT_INVALID("1000000000000000", "-", "--1", "+1", "1.", ".1", "1.0001", "1.5.1", "1000000000000.0", "1e5",
                   "- 1");
}

/* RFC 9651 sections 4.2.5, 4.2.6. */
static void strings_and_tokens(void **state)
{
    (void)state;
    assert_decoded("\"\"", SF_STRING, "", 0);
    assert_decoded("\"a, b\"", SF_STRING, "a, b", 4);
    assert_decoded("\"a\\\"\\\\b\"", SF_STRING, "a\"\\b", 4);
    assert_text(item.text, "a\\\"\\\\b");
    assert_decoded("a", SF_TOKEN, "a", 1);
    assert_decoded("*/:!#$%&'*+-.^_`|~Z9", SF_TOKEN, "*/:!#$%&'*+-.^_`|~Z9", 20);
    ASSERT_INVALID("\"", "\"a", "\"\\\"", "\"\\", "\"\\a\"", "\"\t\"", "\"\x7f\"", "\"\xc3\xa9\"", "'a'", "a\"b\"",
                   "/a", "\x80");
}

/* RFC 9651 section 4.2.7. */
static void byte_sequences(void **state)
{
    (void)state;
    assert_decoded("::", SF_BYTE_SEQUENCE, "", 0);
    assert_decoded(":aGVsbG8=:", SF_BYTE_SEQUENCE, "hello", 5);
    assert_decoded(":aGVsbG8:", SF_BYTE_SEQUENCE, "hello", 5);
    assert_decoded(":iZ==:", SF_BYTE_SEQUENCE, "\x89", 1);
    assert_decoded(":/+Ah:", SF_BYTE_SEQUENCE, "\xff\xe0\x21", 3);
    ASSERT_INVALID(":", ":aGVsbG8=", ":a:", ":aGVsb:", ":=aGV:", ":aG=V:", ":aGVsbG8==:", ":aGVs=:", ":aGVs====:",
                   ":a===:", ":_-Ah:", ":aG Vs:");
}

/* RFC 9651 sections 4.2.8, 4.2.9. */
static void booleans_and_dates(void **state)
{
    (void)state;
    assert_number("?1", SF_BOOLEAN, 1);
    assert_number("?0", SF_BOOLEAN, 0);
    assert_number("@1659578233", SF_DATE, 1659578233);
    assert_number("@-1", SF_DATE, -1);
    ASSERT_INVALID("?", "?2", "?T", "?01", "@", "@1.0", "@a", "@@1", "@1000000000000000");
}

/* RFC 9651 section 4.2.10. */
static void display_strings(void **state)
{
    (void)state;
    assert_decoded("%\"\"", SF_DISPLAY_STRING, "", 0);
    assert_decoded("%\"f%c3%bc%22 \\\"", SF_DISPLAY_STRING, "f\xc3\xbc\" \\", 6);
    assert_decoded("%\"%f4%8f%bf%bf%00\"", SF_DISPLAY_STRING, "\xf4\x8f\xbf\xbf\0", 5);
    ASSERT_INVALID("%", "%\"", "%a", "%\"%C3%BC\"", "%\"%c3\"", "%\"%c3%\"", "%\"%c\"", "%\"%bc\"", "%\"%c0%80\"",
                   "%\"%ed%a0%80\"", "%\"%f4%90%80%80\"", "%\"%e0%9f%bf\"", "%\"\xc3\xbc\"", "%\"%f5%80%80%80\"",
                   "% \"\"");
}

/* RFC 9651 sections 4.2.1, 4.2.1.2. */
static void lists(void **state)
{
    struct bytes rest;

    (void)state;
    assert_int_equal(list("  a ,\t2,(\"b\"  c;q=1 );d  "), SF_OK);
    assert_true(sf_next(&field, &item) && item.type == SF_TOKEN && item.key.n == 0);
    assert_true(sf_next(&field, &item) && item.type == SF_INTEGER);
    assert_true(sf_next(&field, &item) && item.type == SF_INNER_LIST);
    assert_text(item.params, ";d");
    rest = item.text;
    assert_true(sf_inner_next(&rest, &item) && item.type == SF_STRING && item.params.n == 0);
    assert_true(sf_inner_next(&rest, &item) && item.type == SF_TOKEN);
    assert_text(item.params, ";q=1");
    assert_false(sf_inner_next(&rest, &item));
    assert_false(sf_next(&field, &item));
    assert_int_equal(only("()")->type, SF_INNER_LIST);
    rest = item.text;
    assert_false(sf_inner_next(&rest, &item));
    ASSERT_INVALID(",", "a,", "a, ", ",a", "a,,b", "a b", "\ta", "(", "(a", "(a,b)", "(\"a\"\"b\")", "((a))", "(a\tb)",
                   ")", "(a)b");
}

/* RFC 9651 section 4.2.2. */
static void dictionaries(void **state)
{
    (void)state;
    assert_int_equal(dictionary("a=1, b;x=2, *c-._9=(1 2), a=3;y, d=?0"), SF_OK);
    assert_true(sf_find(field, BYTES_LIT("a"), &item) && item.number == 3);
    assert_text(item.params, ";y");
    assert_true(sf_next(&field, &item) && item.number == 1);
    assert_text(item.key, "a");
    assert_true(sf_next(&field, &item) && item.type == SF_BOOLEAN && item.number == 1);
    assert_text(item.params, ";x=2");
    assert_true(sf_next(&field, &item) && item.type == SF_INNER_LIST);
    assert_text(item.key, "*c-._9");
    assert_true(sf_find(field, BYTES_LIT("d"), &item) && item.type == SF_BOOLEAN && item.number == 0);
    assert_false(sf_find(field, BYTES_LIT("b"), &item)); /* it is behind us */

    static const char *const wrong[] = {"A=1",  "a=",      "a =1", "a= 1", "1=a",     "=a",  "a=1,",
                                        "a,,b", "a=1 b=2", "a;",   "-a",   "\"a\"=1", "a==1"};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (dictionary(wrong[i]) != SF_INVALID)
            fail_msg("taken for valid: %s", wrong[i]);
}

/* RFC 9651 section 4.2.3.2. */
static void parameters(void **state)
{
    struct bytes rest;

    (void)state;
    rest = only("1;a;  b=\"x;y\";a=2")->params;
    assert_true(sf_param_next(&rest, &item) && item.type == SF_BOOLEAN && item.number == 1);
    assert_text(item.key, "a");
    assert_true(sf_param_next(&rest, &item) && item.type == SF_STRING);
    assert_text(item.text, "x;y");
    assert_true(sf_param_next(&rest, &item) && item.number == 2);
    assert_false(sf_param_next(&rest, &item));
    ASSERT_INVALID("1;", "1; ", "1;A", "1;a=", "1;a= 1", "1 ;a", "1;\ta", "1;a=(1)");
}

/* RFC 9651 section 4.2: joined by ", ". */
static void all_lines_are_one_field(void **state)
{
    static const char *const wrong[][2] = {{"a", ""},      {"", "a"},    {"a,", "b"}, {"a", ",b"},
                                           {"\"a", "b\""}, {"(a", "b)"}, {"a", "&"},  {"", ""}};

    (void)state;
    assert_int_equal(sf_list_read(message("a, b", "c"), name, &field), SF_OK);
    for (const char *p = "abc"; *p != '\0'; p++)
        assert_true(sf_next(&field, &item) && item.text.n == 1 && item.text.p[0] == *p);
    assert_false(sf_next(&field, &item));
    assert_int_equal(sf_dictionary_read(message("a=1 ", " a=2"), name, &field), SF_OK);
    assert_true(sf_find(field, BYTES_LIT("a"), &item) && item.number == 2);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(sf_list_read(message(wrong[i][0], wrong[i][1]), name, &field), SF_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_absent_field_is_told_from_an_empty_one),
        cmocka_unit_test(numbers),
        cmocka_unit_test(strings_and_tokens),
        cmocka_unit_test(byte_sequences),
        cmocka_unit_test(booleans_and_dates),
        cmocka_unit_test(display_strings),
        cmocka_unit_test(lists),
        cmocka_unit_test(dictionaries),
        cmocka_unit_test(parameters),
        cmocka_unit_test(all_lines_are_one_field),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
