#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/range.h"

#define NOW ((struct wall_s){INT64_C(1767225600)})
#define EARLIER "Thu, 01 Jan 2015 00:00:00 GMT"
#define MODIFIED "Thu, 01 Jan 2015 00:00:01 GMT"
#define LATER "Thu, 01 Jan 2015 00:00:02 GMT"
#define FIELD(name, value) ((struct field){BYTES_LIT(name), NULL, BYTES_LIT(value)})
#define FIELDS(...)                                                                                                    \
    ((struct fields){(const struct field[]){__VA_ARGS__},                                                              \
                     sizeof((const struct field[]){__VA_ARGS__}) / sizeof(struct field)})

static const struct fields none = {NULL, 0};

static enum range_kind parse(const char *value, struct range_set *out)
{
    const struct field v[] = {FIELD("accept", "*/*"), {BYTES_LIT("range"), NULL, bytes_of(value)}};

    return range_parse((struct fields){v, 2}, out);
}

static void assert_one(const char *value, int64_t first, int64_t last)
{
    struct range_set set;

    if (parse(value, &set) != RANGE_ONE || set.n != 1)
        fail_msg("not one range: %s", value);
    assert_int_equal(set.v[0].first, first);
    assert_int_equal(set.v[0].last, last);
}

static void assert_none(const char *value)
{
    struct range_set set;

    if (parse(value, &set) != RANGE_NONE || set.n != 0)
        fail_msg("not ignored: %s", value);
}

static void assert_many(const char *value, size_t n)
{
    struct range_set set;

    if (parse(value, &set) != RANGE_MANY || set.n != n)
        fail_msg("not %zu ranges: %s", n, value);
}

/* RFC 9110 section 14.1.2. */
static void one_range_in_its_three_forms(void **state)
{
    (void)state;
    assert_one("bytes=0-499", 0, 499);
    assert_one("bytes=9500-", 9500, INT64_MAX);
    assert_one("bytes=-500", -1, 500);
    assert_one("bytes=0-0", 0, 0);
    assert_one("bytes=-0", -1, 0);
    assert_one("bytes=000-0099", 0, 99);
    assert_one("ByTeS=5-5", 5, 5); /* range units are case-insensitive: section 14.1 */
}

/* RFC 9110 section 5.6.1.2: empty members and white space around commas. */
static void a_list_with_all_that_its_grammar_allows(void **state)
{
    struct range_set set;

    (void)state;
    assert_int_equal(parse("bytes=0-0,-1", &set), RANGE_MANY);
    assert_int_equal(set.n, 2);
    assert_int_equal(set.v[0].first, 0);
    assert_int_equal(set.v[1].first, -1);
    assert_int_equal(set.v[1].last, 1);
    assert_many("bytes=500-600 ,\t601-999", 2);
    assert_one("bytes=,, 1-2 ,\t,", 1, 2);
    assert_one("bytes= ,1-2", 1, 2);
}

/* RFC 9110 section 14.2: what is no valid set of byte ranges is ignored. */
static void what_is_invalid_is_ignored(void **state)
{
    static const char *const values[] = {
        "",           "bytes",       "bytes=",      "bytes=,",       "bytes=-",       "bytes=--1",  "bytes=1",
        "bytes=a-b",  "bytes=1-a",   "bytes=1-2-3", "bytes=2-1",     "bytes= 1-2",    "bytes =1-2", "bytes=1 -2",
        "bytes=1- 2", "bytes=0x1-2", "bytes=+1-2",  "bytes=1-2;3-4", "bytes:1-2",     "octets=1-2", "items=0-1",
        "byte=1-2",   "bytess=1-2",  "xbytes=1-2",  "bytes=1-2,x",   "bytes=1-2,5-4", "1-2",        "bytes=\xb2-3",
    };
    struct range_set set;

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        assert_none(values[i]);
    assert_int_equal(range_parse(none, &set), RANGE_NONE);
    assert_int_equal(set.n, 0);
    /* No list of lines: two of them are no valid field (section 5.3). */
    assert_int_equal(range_parse(FIELDS(FIELD("range", "bytes=0-1"), FIELD("range", "bytes=2-3")), &set), RANGE_NONE);
}

/* RFC 9110 section 14.1.2: large numerals are to be expected. */
static void numbers_beyond_int64_count_as_its_greatest(void **state)
{
    (void)state;
    assert_one("bytes=9223372036854775806-9223372036854775806", INT64_MAX - 1, INT64_MAX - 1);
    assert_one("bytes=0-9223372036854775807", 0, INT64_MAX);
    assert_one("bytes=0-9223372036854775808", 0, INT64_MAX);
    assert_one("bytes=9223372036854775808-", INT64_MAX, INT64_MAX);
    assert_one("bytes=18446744073709551616-18446744073709551617", INT64_MAX, INT64_MAX);
    assert_one("bytes=-99999999999999999999999999999999999999", -1, INT64_MAX);
    assert_none("bytes=9223372036854775807-9223372036854775806");
}

/* RFC 9110 section 17.15. */
static void sets_that_cost_more_than_they_are_worth_are_ignored(void **state)
{
    (void)state;
    assert_many("bytes=0-99,100-199,200-299,300-399,400-499,500-599,600-699,700-799,800-899,900-999,1000-1099,"
                "1100-1199,1200-1299,1300-1399,1400-1499,1500-1599",
                16);
    assert_none("bytes=0-99,100-199,200-299,300-399,400-499,500-599,600-699,700-799,800-899,900-999,1000-1099,"
                "1100-1199,1200-1299,1300-1399,1400-1499,1500-1599,1600-1699");
    /* Section 14.2: more than two that overlap. */
    assert_many("bytes=0-,0-", 2);
    assert_none("bytes=0-,0-,0-");
    assert_many("bytes=0-100,100-200", 2);
    assert_many("bytes=0-100,100-200,201-300", 3);
    assert_none("bytes=0-100,100-200,200-300");
    assert_many("bytes=0-100,0-100,-500", 3); /* whether that one overlaps, only the length tells */
    assert_none("bytes=0-,0-100,-500");
    assert_none("bytes=-1,-2,-3");
    assert_many("bytes=-0,-0,-1", 3);
    assert_none("bytes=5-,-1,0-5");
    /* Section 14.2: many small ones that are not in order. */
    assert_many("bytes=8-8,6-6,4-4,2-2", 4);
    assert_none("bytes=8-8,6-6,4-4,2-2,0-0");
    assert_many("bytes=0-0,2-2,4-4,6-6,8-8,-1", 6);
    assert_none("bytes=-79,0-0,2-2,4-4,6-6");
    assert_many("bytes=-80,0-0,2-2,4-4,6-6", 5);
    assert_many("bytes=800-879,600-679,400-479,200-279,0-79", 5); /* 80 bytes each: worth a part */
    assert_none("bytes=800-878,600-678,400-478,200-278,0-78");
}

static void assert_span(int64_t first, int64_t last, uint64_t length, uint64_t from, uint64_t to)
{
    const struct range_spec spec = {first, last};
    struct span span;

    assert_int_equal(range_resolve(&spec, length, &span), RANGE_SATISFIABLE);
    assert_int_equal(span.first, from);
    assert_int_equal(span.last, to);
}

static void assert_fit(int64_t first, int64_t last, uint64_t length, enum range_fit fit)
{
    const struct range_spec spec = {first, last};
    struct span span = {7, 7};

    assert_int_equal(range_resolve(&spec, length, &span), fit);
    assert_true(span.first == 7 && span.last == 7);
}

/* RFC 9110 section 14.1.2. */
static void a_range_is_cut_to_the_representation(void **state)
{
    (void)state;
    assert_span(0, 499, 1000, 0, 499);
    assert_span(999, 999, 1000, 999, 999);
    assert_fit(1000, 1000, 1000, RANGE_UNSATISFIABLE);
    assert_span(500, 998, 1000, 500, 998);
    assert_span(500, 999, 1000, 500, 999);
    assert_span(500, 1000, 1000, 500, 999);
    assert_span(500, INT64_MAX, 1000, 500, 999);
    assert_span(0, 0, 1, 0, 0);
    assert_fit(0, INT64_MAX, 0, RANGE_UNSATISFIABLE);
}

/* RFC 9110 section 14.1.2. */
static void a_suffix_counts_from_the_end(void **state)
{
    (void)state;
    assert_fit(-1, 0, 1000, RANGE_UNSATISFIABLE);
    assert_fit(-1, 0, 0, RANGE_UNSATISFIABLE);
    assert_fit(-1, 1, 0, RANGE_EMPTY);
    assert_span(-1, 1, 1000, 999, 999);
    assert_span(-1, 999, 1000, 1, 999);
    assert_span(-1, 1000, 1000, 0, 999);
    assert_span(-1, 1001, 1000, 0, 999);
    assert_span(-1, INT64_MAX, 1000, 0, 999);
}

static void resolving_at_the_edge_of_int64(void **state)
{
    (void)state;
    assert_span(INT64_MAX - 1, INT64_MAX, INT64_MAX, INT64_MAX - 1, INT64_MAX - 1);
    assert_fit(INT64_MAX, INT64_MAX, INT64_MAX, RANGE_UNSATISFIABLE);
    assert_fit(INT64_MAX, INT64_MAX, UINT64_MAX, RANGE_UNSATISFIABLE);
    assert_span(0, INT64_MAX, UINT64_MAX, 0, INT64_MAX - 1);
    assert_span(-1, INT64_MAX, INT64_MAX, 0, INT64_MAX - 1);
}

static void assert_content_range(const char *value, int64_t first, int64_t last, int64_t complete)
{
    struct content_range r;

    if (!content_range_parse(bytes_of(value), &r))
        fail_msg("invalid: %s", value);
    assert_int_equal(r.first, first);
    assert_int_equal(r.last, last);
    assert_int_equal(r.complete, complete);
}

/* RFC 9110 section 14.4. */
static void content_range_in_its_three_forms(void **state)
{
    (void)state;
    assert_content_range("bytes 42-1233/1234", 42, 1233, 1234);
    assert_content_range("bytes 42-1233/*", 42, 1233, -1);
    assert_content_range("bytes */1234", -1, -1, 1234);
    assert_content_range("bytes */0", -1, -1, 0);
    assert_content_range("Bytes 0-0/1", 0, 0, 1);
    assert_content_range("bytes 0-9223372036854775806/9223372036854775807", 0, INT64_MAX - 1, INT64_MAX);
    assert_content_range("bytes 0-9223372036854775807/*", 0, INT64_MAX, -1);
}

/* RFC 9110 section 14.4. */
static void an_invalid_content_range_says_nothing(void **state)
{
    static const char *const values[] = {
        "",
        "bytes",
        "bytes ",
        "bytes 1-2",
        "bytes 1-2/",
        "bytes */*",
        "bytes /10",
        "bytes 1-/10",
        "bytes -2/10",
        "bytes 5-4/10",
        "bytes 5-10/10",
        "bytes 5-9/9",
        "bytes 0-0/0",
        "bytes=0-1/2",
        "bytes: 0-1/2",
        "bytes  0-1/2",
        "bytes 0 - 1/2",
        "bytes 0-1 /2",
        "bytes 0-1/2 ",
        "bytes 0-1/2, bytes 0-1/2",
        "items 0-1/2",
        "bytes 0-1/**",
        "bytes **/2",
        "bytes 0-9223372036854775808/*",
        "bytes 0-1/9223372036854775808",
        "bytes */9223372036854775808",
        "bytes 0-1/18446744073709551618",
    };
    struct content_range r = {7, 8, 9};

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        if (content_range_parse(bytes_of(values[i]), &r) || r.first != 7 || r.last != 8 || r.complete != 9)
            fail_msg("taken: %s", values[i]);
    assert_true(content_range_parse(BYTES_LIT("bytes 5-8/9"), &r));
}

static void assert_formatted(int64_t first, int64_t last, int64_t complete, const char *text)
{
    char out[CONTENT_RANGE_MAX];
    size_t n = content_range_format(&(struct content_range){first, last, complete}, out);

    assert_string_equal(out, text);
    assert_int_equal(n, strlen(text));
}

/* RFC 9110 section 14.4. */
static void content_range_is_written_as_it_is_read(void **state)
{
    (void)state;
    assert_formatted(0, 0, 1, "bytes 0-0/1");
    assert_formatted(42, 1233, -1, "bytes 42-1233/*");
    assert_formatted(-1, -1, 0, "bytes */0");
    assert_formatted(INT64_MAX, INT64_MAX, INT64_MAX,
                     "bytes 9223372036854775807-9223372036854775807/9223372036854775807");
}

static bool holds(const char *condition, struct fields stored)
{
    const struct field v = {BYTES_LIT("if-range"), NULL, bytes_of(condition)};

    return range_if_range_holds((struct fields){&v, 1}, stored, NOW);
}

/* RFC 9110 section 13.1.5: strong comparison. */
static void if_range_with_an_entity_tag(void **state)
{
    const struct fields strong = FIELDS(FIELD("etag", "\"a\"")), weak = FIELDS(FIELD("etag", "W/\"a\""));

    (void)state;
    assert_true(range_if_range_holds(none, strong, NOW));
    assert_true(holds("\"a\"", strong));
    assert_false(holds("\"b\"", strong));
    assert_false(holds("W/\"a\"", strong));
    assert_false(holds("\"a\"", weak));
    assert_false(holds("W/\"a\"", weak));
    assert_false(holds("\"a\"", none));
    assert_false(holds("a", FIELDS(FIELD("etag", "a"))));
    assert_false(holds("\"a", FIELDS(FIELD("etag", "\"a"))));
    assert_false(holds("\"", FIELDS(FIELD("etag", "\""))));
    assert_true(holds("\"\"", FIELDS(FIELD("etag", "\"\""))));
    assert_true(holds("\"\xfc\"", FIELDS(FIELD("etag", "\"\xfc\""))));
    assert_false(holds("\"a\", \"b\"", FIELDS(FIELD("etag", "\"a\", \"b\"")))); /* no list */
    assert_false(holds("*", strong));
    assert_false(range_if_range_holds(FIELDS(FIELD("if-range", "\"a\""), FIELD("if-range", "\"a\"")), strong, NOW));
    assert_false(holds("\"a\"", FIELDS(FIELD("etag", "\"a\""), FIELD("etag", "\"b\""))));
}

/* RFC 9110 sections 13.1.5 and 8.8.2.2: equal, and from at least a second before Date. */
static void if_range_with_a_date(void **state)
{
    const struct fields strong = FIELDS(FIELD("last-modified", MODIFIED), FIELD("date", LATER));

    (void)state;
    assert_true(holds(MODIFIED, strong));
    assert_true(holds("Thursday, 01-Jan-15 00:00:01 GMT", strong)); /* the same moment */
    assert_false(holds(EARLIER, strong));
    assert_false(holds(LATER, strong));
    assert_false(holds("soon", strong));
    assert_false(holds("", strong));
    assert_false(holds(MODIFIED, FIELDS(FIELD("last-modified", MODIFIED), FIELD("date", MODIFIED))));
    assert_false(holds(MODIFIED, FIELDS(FIELD("last-modified", MODIFIED), FIELD("date", EARLIER))));
    assert_false(holds(MODIFIED, FIELDS(FIELD("last-modified", MODIFIED))));
    assert_false(holds(MODIFIED, FIELDS(FIELD("last-modified", MODIFIED), FIELD("date", "x"))));
    assert_false(holds(LATER, FIELDS(FIELD("date", LATER))));
    assert_true(
        holds(MODIFIED, FIELDS(FIELD("etag", "W/\"a\""), FIELD("last-modified", MODIFIED), FIELD("date", LATER))));
}

static bool agree(struct fields a, struct fields b)
{
    assert_int_equal(validators_agree_strongly(a, b, NOW), validators_agree_strongly(b, a, NOW));
    return validators_agree_strongly(a, b, NOW);
}

/* RFC 9110 section 15.3.7.3, RFC 9111 section 3.4. */
static void parts_agree_by_a_strong_validator_only(void **state)
{
    const struct fields a = FIELDS(FIELD("etag", "\"a\"")), b = FIELDS(FIELD("etag", "\"b\"")),
                        weak = FIELDS(FIELD("etag", "W/\"a\"")),
                        dated = FIELDS(FIELD("last-modified", MODIFIED), FIELD("date", LATER)),
                        weakly_dated = FIELDS(FIELD("last-modified", MODIFIED), FIELD("date", MODIFIED)),
                        tagged_and_dated =
                            FIELDS(FIELD("etag", "\"a\""), FIELD("last-modified", MODIFIED), FIELD("date", LATER)),
                        weak_and_dated =
                            FIELDS(FIELD("etag", "W/\"a\""), FIELD("last-modified", MODIFIED), FIELD("date", LATER)),
                        other_date = FIELDS(FIELD("last-modified", EARLIER), FIELD("date", LATER));

    (void)state;
    assert_true(agree(a, a));
    assert_true(agree(a, tagged_and_dated));
    assert_false(agree(a, b));
    assert_false(agree(weak, weak));
    assert_false(agree(a, weak));
    assert_false(agree(a, none));
    assert_false(agree(none, none));
    assert_true(agree(dated, dated));
    assert_false(agree(dated, other_date));
    assert_false(agree(dated, weakly_dated));
    assert_false(agree(weakly_dated, weakly_dated));
    assert_false(agree(dated, tagged_and_dated));
    assert_false(agree(weak_and_dated, weak_and_dated));
    assert_false(agree(FIELDS(FIELD("etag", "a")), FIELDS(FIELD("etag", "a"))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_range_in_its_three_forms),
        cmocka_unit_test(a_list_with_all_that_its_grammar_allows),
        cmocka_unit_test(what_is_invalid_is_ignored),
        cmocka_unit_test(numbers_beyond_int64_count_as_its_greatest),
        cmocka_unit_test(sets_that_cost_more_than_they_are_worth_are_ignored),
        cmocka_unit_test(a_range_is_cut_to_the_representation),
        cmocka_unit_test(a_suffix_counts_from_the_end),
        cmocka_unit_test(resolving_at_the_edge_of_int64),
        cmocka_unit_test(content_range_in_its_three_forms),
        cmocka_unit_test(an_invalid_content_range_says_nothing),
        cmocka_unit_test(content_range_is_written_as_it_is_read),
        cmocka_unit_test(if_range_with_an_entity_tag),
        cmocka_unit_test(if_range_with_a_date),
        cmocka_unit_test(parts_agree_by_a_strong_validator_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
