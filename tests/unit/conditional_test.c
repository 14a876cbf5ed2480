#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/conditional.h"
#include "policies/http_date.h"

#define NOW ((struct wall_s){INT64_C(1767225600)})
#define EARLIER "Thu, 01 Jan 2015 00:00:00 GMT"
#define MODIFIED "Thu, 01 Jan 2015 00:00:01 GMT"
#define LATER "Thu, 01 Jan 2015 00:00:02 GMT"
#define FIELD(name, value) ((struct field){BYTES_LIT(name), NULL, BYTES_LIT(value)})
#define FIELDS(...)                                                                                                    \
    ((struct fields){(const struct field[]){__VA_ARGS__},                                                              \
                     sizeof((const struct field[]){__VA_ARGS__}) / sizeof(struct field)})
#define STORED FIELDS(FIELD("date", LATER), FIELD("etag", "\"a\""), FIELD("last-modified", MODIFIED))

static const struct fields none = {NULL, 0};

static enum conditional judge(struct fields request, struct fields response, struct wall_s now)
{
    struct validators stored = {.etag = fields_value(response, BYTES_LIT("etag")),
                                .last_modified = fields_value(response, BYTES_LIT("last-modified")),
                                .date = {INT64_MAX}};
    struct conditions c;

    http_date_parse(fields_value(response, BYTES_LIT("date")), now, &stored.date);
    return conditions_find(request, &c) ? conditional_judge(request, &c, &stored, now) : CONDITIONAL_SEND;
}

static enum conditional none_match(const char *condition, const char *etag)
{
    const struct field request = {BYTES_LIT("if-none-match"), NULL, bytes_of(condition)};
    const struct field response = {BYTES_LIT("etag"), NULL, bytes_of(etag)};

    return judge((struct fields){&request, 1}, (struct fields){&response, 1}, NOW);
}

static void without_a_condition_the_response_is_sent(void **state)
{
    (void)state;
    assert_int_equal(judge(none, STORED, NOW), CONDITIONAL_SEND);
    assert_int_equal(judge(FIELDS(FIELD("accept", "*/*"), FIELD("if-range", "\"a\""), FIELD("if", "x"),
                                  FIELD("if-none-matches", "\"a\"")),
                           STORED, NOW),
                     CONDITIONAL_SEND);
}

/* RFC 9110 section 13.1.2: If-None-Match compares weakly. */
static void if_none_match_compares_weakly(void **state)
{
    (void)state;
    assert_int_equal(none_match("\"a\"", "\"a\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("W/\"a\"", "\"a\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("\"a\"", "W/\"a\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("W/\"a\"", "W/\"a\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("\"b\"", "\"a\""), CONDITIONAL_SEND);
    assert_int_equal(none_match("\"A\"", "\"a\""), CONDITIONAL_SEND);
    assert_int_equal(none_match("\"\"", "\"\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("\"abcdef\xfc\"", "\"abcdef\xfc\""), CONDITIONAL_NOT_MODIFIED);
}

/* RFC 9110 sections 13.1.2 and 5.6.1.2. */
static void any_member_of_the_list_may_match(void **state)
{
    (void)state;
    assert_int_equal(none_match("\"a\", \"1\", \"2\"", "\"a\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("\"1\",\"a\" , \"2\"", "\"a\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match(",, \"1\", W/\"2\",\t\"a\",", "\"a\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("\"1\", \"2\"", "\"a\""), CONDITIONAL_SEND);
    assert_int_equal(none_match("\"x, \"a\"", "\"a\""), CONDITIONAL_SEND); /* one tag, then rubbish */
    assert_int_equal(none_match("\"a,b\"", "\"a,b\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("\"x,\"", "\"\""), CONDITIONAL_SEND);
    assert_int_equal(none_match("\"a,\"", "\"a,\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("W/\"a,b\", \"c\"", "\"a,b\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("\"\", \"a\"", "\"a\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("W/\"\", \"a\"", "\"a\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(judge(FIELDS(FIELD("if-none-match", "\"x\""), FIELD("if-none-match", "\"a\"")), STORED, NOW),
                     CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("\"x, a", "a"), CONDITIONAL_SEND);
    assert_int_equal(none_match(",", "\"a\""), CONDITIONAL_SEND);
    assert_int_equal(none_match("", "\"a\""), CONDITIONAL_SEND);
    assert_int_equal(
        judge(FIELDS(FIELD("if-none-match", "\"x\""), FIELD("accept", "a"), FIELD("if-none-match", "\"a\"")), STORED,
              NOW),
        CONDITIONAL_NOT_MODIFIED);
}

/* Unquoted tags come from origins and go back to them; the same bytes are the same tag. RFC 9110 section 8.8.3 has
 * none. */
static void malformed_tags_match_byte_for_byte(void **state)
{
    (void)state;
    assert_int_equal(none_match("abc", "abc"), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("abc, abd", "abd"), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("abc", "\"abc\""), CONDITIONAL_SEND);
    assert_int_equal(none_match("w/\"abc\"", "w/\"abc\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(none_match("w/\"abc\"", "\"abc\""), CONDITIONAL_SEND);
}

/* RFC 9110 section 13.1.2. */
static void a_star_matches_whatever_is_stored(void **state)
{
    (void)state;
    assert_int_equal(none_match("*", "\"a\""), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(judge(FIELDS(FIELD("if-none-match", "*")), none, NOW), CONDITIONAL_NOT_MODIFIED);
}

/* RFC 9110 section 13.1.2. */
static void without_an_etag_no_tag_matches(void **state)
{
    (void)state;
    assert_int_equal(judge(FIELDS(FIELD("if-none-match", "\"a\"")), none, NOW), CONDITIONAL_SEND);
    assert_int_equal(none_match("W/", ""), CONDITIONAL_SEND);
}

/* RFC 9110 section 13.2.2, RFC 9111 section 4.3.2: a cache must not evaluate these. */
static void if_match_and_if_unmodified_since_are_the_origins(void **state)
{
    (void)state;
    assert_int_equal(judge(FIELDS(FIELD("if-match", "\"b\"")), STORED, NOW), CONDITIONAL_SEND);
    assert_int_equal(judge(FIELDS(FIELD("if-unmodified-since", EARLIER)), STORED, NOW), CONDITIONAL_SEND);
    assert_true(conditional_for_origin(FIELDS(FIELD("accept", "*/*"), FIELD("if-match", "\"a\""))));
    assert_true(conditional_for_origin(FIELDS(FIELD("if-unmodified-since", "x"), FIELD("accept", "*/*"))));
    assert_false(conditional_for_origin(FIELDS(FIELD("if-none-match", "\"a\""), FIELD("if-modified-since", LATER),
                                               FIELD("if-range", "\"a\""), FIELD("if-matches", "\"a\""))));
    assert_false(conditional_for_origin(none));
}

/* RFC 9110 section 13.1.3. */
static void if_modified_since_on_both_sides_of_last_modified(void **state)
{
    (void)state;
    assert_int_equal(judge(FIELDS(FIELD("if-modified-since", EARLIER)), STORED, NOW), CONDITIONAL_SEND);
    assert_int_equal(judge(FIELDS(FIELD("if-modified-since", MODIFIED)), STORED, NOW), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(judge(FIELDS(FIELD("if-modified-since", LATER)), STORED, NOW), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(judge(FIELDS(FIELD("if-modified-since", "Thursday, 01-Jan-15 00:00:01 GMT")), STORED, NOW),
                     CONDITIONAL_NOT_MODIFIED);
}

/* RFC 9111 section 4.3.2. */
static void date_stands_in_for_a_missing_last_modified(void **state)
{
    const struct fields dated = FIELDS(FIELD("date", MODIFIED));

    (void)state;
    assert_int_equal(judge(FIELDS(FIELD("if-modified-since", EARLIER)), dated, NOW), CONDITIONAL_SEND);
    assert_int_equal(judge(FIELDS(FIELD("if-modified-since", MODIFIED)), dated, NOW), CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(judge(FIELDS(FIELD("if-modified-since", LATER)), none, NOW), CONDITIONAL_SEND);
}

/* RFC 9110 section 13.1.3. */
static void what_is_no_single_date_is_no_condition(void **state)
{
    (void)state;
    assert_int_equal(judge(FIELDS(FIELD("if-modified-since", "yesterday")), STORED, NOW), CONDITIONAL_SEND);
    assert_int_equal(judge(FIELDS(FIELD("if-modified-since", LATER), FIELD("if-modified-since", LATER)), STORED, NOW),
                     CONDITIONAL_SEND);
    assert_int_equal(judge(FIELDS(FIELD("if-modified-since", LATER)),
                           FIELDS(FIELD("date", EARLIER), FIELD("last-modified", "never")), NOW),
                     CONDITIONAL_SEND);
}

/* RFC 9110 section 13.2.2: with If-None-Match, If-Modified-Since says nothing, whatever the tag. */
static void entity_tags_come_before_dates(void **state)
{
    (void)state;
    assert_int_equal(judge(FIELDS(FIELD("if-none-match", "\"a\""), FIELD("if-modified-since", EARLIER)), STORED, NOW),
                     CONDITIONAL_NOT_MODIFIED);
    assert_int_equal(judge(FIELDS(FIELD("if-modified-since", LATER), FIELD("if-none-match", "\"b\"")), STORED, NOW),
                     CONDITIONAL_SEND);
    assert_int_equal(judge(FIELDS(FIELD("if-modified-since", LATER), FIELD("if-none-match", "\"a\"")),
                           FIELDS(FIELD("last-modified", EARLIER)), NOW),
                     CONDITIONAL_SEND);
}

/* RFC 9110 section 15.4.5. */
static void a_304_carries_all_but_what_describes_content(void **state)
{
    static const char *const kept[] = {"cache-control",
                                       "content-location",
                                       "date",
                                       "etag",
                                       "expires",
                                       "vary",
                                       "last-modified",
                                       "access-control-allow-origin",
                                       "content-security-policy"};
    static const char *const left_out[] = {"content-type",      "content-length", "content-encoding", "content-range",
                                           "content-language",  "content-md5",    "content-digest",   "repr-digest",
                                           "transfer-encoding", "digest",         "accept-ranges",    "trailer"};

    (void)state;
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        assert_true(conditional_in_not_modified(bytes_of(kept[i])));
    for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++)
        assert_false(conditional_in_not_modified(bytes_of(left_out[i])));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_condition_the_response_is_sent),
        cmocka_unit_test(if_none_match_compares_weakly),
        cmocka_unit_test(any_member_of_the_list_may_match),
        cmocka_unit_test(malformed_tags_match_byte_for_byte),
        cmocka_unit_test(a_star_matches_whatever_is_stored),
        cmocka_unit_test(without_an_etag_no_tag_matches),
        cmocka_unit_test(if_match_and_if_unmodified_since_are_the_origins),
        cmocka_unit_test(if_modified_since_on_both_sides_of_last_modified),
        cmocka_unit_test(date_stands_in_for_a_missing_last_modified),
        cmocka_unit_test(what_is_no_single_date_is_no_condition),
        cmocka_unit_test(entity_tags_come_before_dates),
        cmocka_unit_test(a_304_carries_all_but_what_describes_content),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
