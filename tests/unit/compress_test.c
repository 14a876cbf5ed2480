#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>

#include <stdint.h>

#include <cmocka.h>

#include "policies/compress.h"

static const struct bytes types[] = {BYTES_LIT("text/*"), BYTES_LIT("application/json")};

static const struct compress_rules rules = {
    .on = true,
    .encodings = {CODING_GZIP},
    .nencodings = 1,
    .min_size = 1024,
    .types = types,
    .ntypes = 2,
};

static enum compress judge_with(const struct compress_rules *r, const char *type, int64_t length, const char *name,
                                const char *value)
{
    const struct field v[] = {{BYTES_LIT("content-type"), NULL, bytes_of(type)},
                              {bytes_of(name), NULL, bytes_of(value)}};

    return compress_judge(
        r, &(struct compress_facts){.status = 200, .fields = {v, 1 + (name != NULL)}, .content_length = length});
}

static enum compress judge_type(const char *type)
{
    return judge_with(&rules, type, 1024, NULL, NULL);
}

static enum compress judge_field(const char *name, const char *value)
{
    return judge_with(&rules, "text/css", 5000, name, value);
}

static void types_are_listed(void **state)
{
    struct compress_rules any = rules;
    static const struct bytes star[] = {BYTES_LIT("*/*")};

    (void)state;
    assert_int_equal(judge_type("text/css"), COMPRESS_MAY);
    assert_int_equal(judge_type("TEXT/Html ; charset=utf-8"), COMPRESS_MAY);
    assert_int_equal(judge_type("application/json;charset=utf-8"), COMPRESS_MAY);
    assert_int_equal(judge_type("application/jsonp"), COMPRESS_NEVER);
    assert_int_equal(judge_type("application/jso"), COMPRESS_NEVER);
    assert_int_equal(judge_type("text/"), COMPRESS_NEVER);
    assert_int_equal(judge_type("text"), COMPRESS_NEVER);
    assert_int_equal(judge_type("image/png"), COMPRESS_NEVER);
    assert_int_equal(judge_type(""), COMPRESS_NEVER);
    any.types = star;
    any.ntypes = 1;
    assert_int_equal(judge_with(&any, "image/png", 1024, NULL, NULL), COMPRESS_MAY);
    assert_int_equal(judge_with(&any, "", 1024, NULL, NULL), COMPRESS_NEVER);
}

static void small_ones_are_left_alone(void **state)
{
    struct compress_rules all = rules;

    (void)state;
    all.min_size = 0;
    assert_int_equal(judge_with(&rules, "text/css", 1023, NULL, NULL), COMPRESS_NEVER);
    assert_int_equal(judge_with(&rules, "text/css", 1024, NULL, NULL), COMPRESS_MAY);
    assert_int_equal(judge_with(&rules, "text/css", -1, NULL, NULL), COMPRESS_MAY);
    assert_int_equal(judge_with(&all, "text/css", 1, NULL, NULL), COMPRESS_MAY);
    assert_int_equal(judge_with(&all, "text/css", 0, NULL, NULL), COMPRESS_NEVER);
}

/* RFC 9110 section 7.7, RFC 9111 section 5.2.2.6. */
static void no_transform_forbids_it(void **state)
{
    const struct field v[] = {{BYTES_LIT("content-type"), NULL, BYTES_LIT("text/css")},
                              {BYTES_LIT("content-encoding"), NULL, BYTES_LIT("gzip")}};
    struct compress_facts facts = {.status = 200, .fields = {v, 1}, .content_length = -1, .no_transform = true};

    (void)state;
    assert_int_equal(compress_judge(&rules, &facts), COMPRESS_NEVER);
    facts.fields.n = 2;
    assert_int_equal(compress_judge(&rules, &facts), COMPRESS_NEVER);
    facts.no_transform = false;
    assert_int_equal(compress_judge(&rules, &facts), COMPRESS_UNPACK);
}

/* RFC 9530 sections 2 and 3. */
static void what_a_digest_protects_stays_as_it_is(void **state)
{
    (void)state;
    assert_int_equal(judge_field("content-digest", "sha-256=:x:"), COMPRESS_NEVER);
    assert_int_equal(judge_field("repr-digest", "sha-256=:x:"), COMPRESS_NEVER);
    assert_int_equal(judge_field("content-md5", "x"), COMPRESS_NEVER);
    assert_int_equal(judge_field("digest", "x"), COMPRESS_NEVER);
    assert_int_equal(judge_field("want-content-digest", "x"), COMPRESS_MAY);
}

static void what_came_in_a_coding_never_gets_another(void **state)
{
    (void)state;
    assert_int_equal(judge_field("content-encoding", "gzip"), COMPRESS_UNPACK);
    assert_int_equal(judge_field("content-encoding", "X-GZIP"), COMPRESS_UNPACK);
    assert_int_equal(judge_field("content-encoding", "br"), COMPRESS_UNPACK);
    assert_int_equal(judge_field("content-encoding", "zstd"), COMPRESS_UNPACK);
    assert_int_equal(judge_field("content-encoding", "deflate"), COMPRESS_NEVER);
    assert_int_equal(judge_field("content-encoding", "br, gzip"), COMPRESS_NEVER);
    assert_int_equal(judge_field("content-encoding", "identity"), COMPRESS_NEVER);
    /* of whatever type and size */
    assert_int_equal(judge_with(&rules, "image/svg+xml", 30, "content-encoding", "gzip"), COMPRESS_UNPACK);
    assert_int_equal(judge_with(&rules, "image/svg+xml", 0, "content-encoding", "gzip"), COMPRESS_NEVER);
}

static void statuses_without_the_whole_content_do_not_count(void **state)
{
    const struct field v[] = {{BYTES_LIT("content-type"), NULL, BYTES_LIT("text/css")}};
    struct compress_facts facts = {.fields = {v, 1}, .content_length = 5000};

    (void)state;
    for (facts.status = 100; facts.status < 600; facts.status++) {
        int s = facts.status;
        bool never = s < 200 || s == 204 || s == 205 || s == 206 || s == 304;

        assert_int_equal(compress_judge(&rules, &facts), never ? COMPRESS_NEVER : COMPRESS_MAY);
    }
}

static void one_users_responses_need_the_routes_word(void **state)
{
    const struct field v[] = {{BYTES_LIT("content-type"), NULL, BYTES_LIT("text/css")},
                              {BYTES_LIT("content-encoding"), NULL, BYTES_LIT("br")}};
    struct compress_facts facts = {.status = 200, .fields = {v, 1}, .content_length = 5000, .user_scope = true};
    struct compress_rules said = rules, off = rules;

    (void)state;
    said.user = true;
    off.on = false;
    assert_int_equal(compress_judge(&rules, &facts), COMPRESS_NEVER);
    assert_int_equal(compress_judge(&said, &facts), COMPRESS_MAY);
    assert_int_equal(compress_judge(&off, &facts), COMPRESS_NEVER);
    facts.fields.n = 2;
    assert_int_equal(compress_judge(&rules, &facts), COMPRESS_UNPACK);
}

static void a_gain_of_less_than_a_twentieth_does_not_pay(void **state)
{
    (void)state;
    assert_true(compress_pays(1000, 950));
    assert_false(compress_pays(1000, 951));
    assert_true(compress_pays(20, 19));
    assert_false(compress_pays(20, 20));
    assert_true(compress_pays(19, 18));
    assert_false(compress_pays(19, 19));
    assert_false(compress_pays(1, 1));
    assert_false(compress_pays(0, 0));
    for (uint64_t n = 1; n < 500; n++)
        for (uint64_t m = 1; m < 500; m++)
            assert_int_equal(compress_pays(n, m), m * 100 <= n * 95);
}

static void bombs_are_more_than_a_hundred_to_one(void **state)
{
    const uint64_t max = 8 << 20;

    (void)state;
    assert_int_equal(unpack_bytes_max(1000, max), 100000);
    assert_int_equal(unpack_bytes_max(83886, max), 8388600);
    assert_int_equal(unpack_bytes_max(83887, max), max);
    assert_int_equal(unpack_bytes_max(UINT64_MAX, max), max);
    assert_int_equal(unpack_bytes_max(30, max), 65536);
    assert_int_equal(unpack_bytes_max(30, 1000), 1000);
}

static struct bytes value(const struct field *v, size_t n, const char *name)
{
    return fields_value((struct fields){v, n}, bytes_of(name));
}

/* RFC 9110 sections 8.8.3.3 and 12.5.5. */
static void the_fields_say_what_was_done(void **state)
{
    const struct field v[] = {
        {BYTES_LIT("content-type"), NULL, BYTES_LIT("text/css")},
        {BYTES_LIT("etag"), NULL, BYTES_LIT("\"a\"")},
        {BYTES_LIT("accept-ranges"), NULL, BYTES_LIT("bytes")},
        {BYTES_LIT("vary"), NULL, BYTES_LIT("accept")},
        {BYTES_LIT("etag"), NULL, BYTES_LIT("\"b\"")},
    };
    struct field out[7];
    char etag[16];
    size_t n = compress_fields((struct fields){v, 5}, CODING_BR, out, etag);

    (void)state;
    assert_int_equal(n, 5);
    assert_true(bytes_eq(value(out, n, "etag"), BYTES_LIT("W/\"a\"")));
    assert_true(bytes_eq(value(out, n, "content-encoding"), BYTES_LIT("br")));
    assert_true(bytes_eq(value(out, n, "content-type"), BYTES_LIT("text/css")));
    assert_true(bytes_eq(out[4].name, BYTES_LIT("vary")) && bytes_eq(out[4].value, BYTES_LIT("Accept-Encoding")));
    assert_false(fields_has((struct fields){out, n}, BYTES_LIT("accept-ranges")));
}

static void what_is_unpacked_says_so_too(void **state)
{
    const struct field v[] = {
        {BYTES_LIT("content-encoding"), NULL, BYTES_LIT("gzip")},
        {BYTES_LIT("etag"), NULL, BYTES_LIT("W/\"a\"")},
        {BYTES_LIT("vary"), NULL, BYTES_LIT("accept, Accept-Encoding")},
    };
    struct field out[5];
    char etag[16];
    size_t n = compress_fields((struct fields){v, 3}, CODING_IDENTITY, out, etag);

    (void)state;
    assert_int_equal(n, 2);
    assert_true(bytes_eq(value(out, n, "etag"), BYTES_LIT("W/\"a\"")));
    assert_true(bytes_eq(value(out, n, "vary"), BYTES_LIT("accept, Accept-Encoding")));
}

static void a_vary_may_name_it_already(void **state)
{
    (void)state;
    assert_true(compress_vary_names_it(BYTES_LIT("Accept-Encoding")));
    assert_true(compress_vary_names_it(BYTES_LIT("accept ,\taccept-ENCODING ,x")));
    assert_true(compress_vary_names_it(BYTES_LIT("*")));
    assert_false(compress_vary_names_it(BYTES_LIT("accept-encodings, x-accept-encoding")));
    assert_false(compress_vary_names_it(BYTES_LIT("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_are_listed),
        cmocka_unit_test(small_ones_are_left_alone),
        cmocka_unit_test(no_transform_forbids_it),
        cmocka_unit_test(what_a_digest_protects_stays_as_it_is),
        cmocka_unit_test(what_came_in_a_coding_never_gets_another),
        cmocka_unit_test(statuses_without_the_whole_content_do_not_count),
        cmocka_unit_test(one_users_responses_need_the_routes_word),
        cmocka_unit_test(the_fields_say_what_was_done),
        cmocka_unit_test(what_is_unpacked_says_so_too),
        cmocka_unit_test(a_vary_may_name_it_already),
        cmocka_unit_test(a_gain_of_less_than_a_twentieth_does_not_pay),
        cmocka_unit_test(bombs_are_more_than_a_hundred_to_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
