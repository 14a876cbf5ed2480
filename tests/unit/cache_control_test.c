#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/cache_control.h"

static struct cache_control parse(const char *value)
{
    const struct field v[] = {{BYTES_LIT("date"), NULL, BYTES_LIT("x")},
                              {BYTES_LIT("cache-control"), NULL, bytes_of(value)}};

    return cache_control_parse((struct fields){v, 2});
}

static struct cache_control parse_lines(const char *first, const char *second)
{
    const struct field v[] = {{BYTES_LIT("cache-control"), NULL, bytes_of(first)},
                              {BYTES_LIT("cache-control"), NULL, bytes_of(second)},
                              {BYTES_LIT("x-cache-control"), NULL, BYTES_LIT("no-store")},
                              {BYTES_LIT("cache-control"), NULL, BYTES_LIT("no-transform")}};

    return cache_control_parse((struct fields){v, 4});
}

static void assert_bytes(struct bytes b, const char *text)
{
    assert_true(bytes_eq(b, bytes_of(text)));
}

static void without_the_field_nothing_is_said(void **state)
{
    struct cache_control cc = cache_control_parse((struct fields){NULL, 0});

    (void)state;
    assert_false(cc.present);
    assert_false(cc.no_store || cc.no_cache || cc.private_ || cc.public_ || cc.must_revalidate || cc.proxy_revalidate);
    assert_true(cc.max_age_s < 0 && cc.s_maxage_s < 0 && cc.stale_while_revalidate_s < 0 && cc.stale_if_error_s < 0);
    assert_true(cc.min_fresh_s < 0 && cc.max_stale_s < 0);
    assert_true(parse("").present);
}

/* RFC 9111 section 5.2, RFC 5861 sections 3 and 4, RFC 8246 section 2. */
static void each_directive_is_known_in_any_case(void **state)
{
    struct cache_control cc = parse("No-StOrE, NO-CACHE, Private, PUBLIC, must-Revalidate, proxy-revalidate, "
                                    "must-understand, no-transform, immutable, only-if-cached");

    (void)state;
    assert_true(cc.no_store && cc.no_cache && cc.private_ && cc.public_ && cc.must_revalidate && cc.proxy_revalidate);
    assert_true(cc.must_understand && cc.no_transform && cc.immutable && cc.only_if_cached);
    cc = parse("MaX-aGe=1, s-maxage=2, stale-while-revalidate=3,stale-if-error=4 ,\tmin-fresh=5, max-stale=6");
    assert_int_equal(cc.max_age_s, 1);
    assert_int_equal(cc.s_maxage_s, 2);
    assert_int_equal(cc.stale_while_revalidate_s, 3);
    assert_int_equal(cc.stale_if_error_s, 4);
    assert_int_equal(cc.min_fresh_s, 5);
    assert_int_equal(cc.max_stale_s, 6);
    assert_false(cc.no_store || cc.no_cache || cc.private_ || cc.public_);
}

/* RFC 9111 section 5.2.3: what is not known is ignored. */
static void names_only_alike_are_others(void **state)
{
    struct cache_control cc = parse("no-stored, xno-store, nostore, max-agee=5, foobar, =, ;no-store");

    (void)state;
    assert_false(cc.no_store);
    assert_true(cc.max_age_s < 0);
}

/* RFC 9111 section 1.2.2: what is too large counts as the greatest number. */
static void deltas_saturate(void **state)
{
    (void)state;
    assert_int_equal(parse("max-age=0").max_age_s, 0);
    assert_int_equal(parse("max-age=003600").max_age_s, 3600);
    assert_int_equal(parse("max-age=2147483647").max_age_s, INT64_C(2147483647));
    assert_int_equal(parse("max-age=2147483648").max_age_s, DELTA_SECONDS_MAX);
    assert_int_equal(parse("max-age=2147483649").max_age_s, DELTA_SECONDS_MAX);
    assert_int_equal(parse("max-age=99999999999999999999999999999999999999").max_age_s, DELTA_SECONDS_MAX);
}

/* RFC 9111 section 4.2.1: what is invalid makes stale. */
static void unreadable_lifetimes_are_zero(void **state)
{
    static const char *const values[] = {
        "max-age",       "max-age=",       "max-age=-3600",  "max-age=+5",       "max-age=3600.0", "max-age=a3600",
        "max-age=3600a", "max-age='3600'", "max-age =3600",  "max-age= 3600",    "max-age=3600 5", "max-age=\"\"",
        "max-age=\"5",   "max-age=\" 5\"", "max-age=\"5\"x", "max-age=\"3\\6\"", "max-age=3;600",  "max-age==5",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        if (parse(values[i]).max_age_s != 0)
            fail_msg("not 0: %s", values[i]);
    assert_int_equal(parse("s-maxage=x").s_maxage_s, 0);
    assert_int_equal(parse("stale-while-revalidate").stale_while_revalidate_s, 0);
    assert_int_equal(parse("stale-if-error=soon").stale_if_error_s, 0);
    assert_int_equal(parse("max-age=\"3600\"").max_age_s, 3600); /* RFC 9111 section 5.2: either form */
}

/* RFC 9111 section 4.2.1 has the first count, or the response be stale; the smallest lies between. */
static void of_duplicates_the_smallest_counts(void **state)
{
    (void)state;
    assert_int_equal(parse("max-age=1800, max-age=1").max_age_s, 1);
    assert_int_equal(parse("max-age=1, max-age=1800").max_age_s, 1);
    assert_int_equal(parse("max-age=1, max-age=oops").max_age_s, 0);
    assert_int_equal(parse_lines("max-age=1800", "max-age=1").max_age_s, 1);
    assert_int_equal(parse_lines("max-age=1", "s-maxage=9, max-age=1800").max_age_s, 1);
}

/* RFC 9110 section 5.3. */
static void lines_add_up_and_other_fields_do_not(void **state)
{
    struct cache_control cc = parse_lines("public", "max-age=5");

    (void)state;
    assert_true(cc.public_ && cc.no_transform);
    assert_int_equal(cc.max_age_s, 5);
    assert_false(cc.no_store);
}

/* RFC 9111 section 5.2, RFC 9110 section 5.6.4. */
static void quoted_text_is_no_directive(void **state)
{
    struct cache_control cc = parse("extension=\"max-age=3600, no-store\", max-age=1");

    (void)state;
    assert_int_equal(cc.max_age_s, 1);
    assert_false(cc.no_store);
    cc = parse("max-age=1, a=\"\\\", max-age=0, private\", public");
    assert_int_equal(cc.max_age_s, 1);
    assert_true(cc.public_);
    assert_false(cc.private_);
}

/* A quote that never ends must not swallow what forbids. RFC 9110 section 5.6.4 knows no such string. */
static void an_open_quote_hides_nothing(void **state)
{
    (void)state;
    assert_true(parse("a=\"b, no-store").no_store);
    assert_true(parse("max-age=10, private=\"x").private_);
    assert_false(parse("max-age=10, private=\"x").private_qualified);
    assert_true(parse("a=\"\\").present);
}

/* RFC 9111 sections 5.2.2.4 and 5.2.2.7. */
static void lists_of_field_names_are_kept(void **state)
{
    struct cache_control cc = parse("no-cache=\"a, Set-Cookie\", private=X-User, max-age=5");

    (void)state;
    assert_false(cc.no_cache || cc.private_);
    assert_true(cc.no_cache_qualified && cc.private_qualified);
    assert_bytes(cc.no_cache_fields, "a, Set-Cookie");
    assert_bytes(cc.private_fields, "X-User");
    assert_true(cache_control_lists(cc.no_cache_fields, BYTES_LIT("a")));
    assert_true(cache_control_lists(cc.no_cache_fields, BYTES_LIT("set-cookie")));
    assert_false(cache_control_lists(cc.no_cache_fields, BYTES_LIT("cookie")));
    assert_false(cache_control_lists(cc.no_cache_fields, BYTES_LIT("set-cookie2")));
    assert_false(cache_control_lists(BYTES_NONE, BYTES_LIT("a")));
    assert_bytes(parse("no-cache=\"azAZ09-_~\"").no_cache_fields, "azAZ09-_~");
}

/* RFC 9111 sections 5.2.2.4 and 5.2.2.7. The bare form is the stricter one, so whatever is in doubt becomes it. */
static void doubtful_lists_become_the_bare_form(void **state)
{
    static const char *const values[] = {
        "no-cache=\"\"",          "no-cache=",          "no-cache=\" , \"",         "no-cache=\"a b\"",
        "no-cache =\"a\"",        "no-cache=\"a\\b\"",  "no-cache=\"a\", no-cache", "no-cache, no-cache=\"a\"",
        "no-cache=a, no-cache=b", "no-cache=\"a\"junk",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct cache_control cc = parse(values[i]);

        if (!cc.no_cache || cc.no_cache_qualified || cc.no_cache_fields.n != 0)
            fail_msg("not the bare form: %s", values[i]);
    }
    assert_true(parse_lines("private=\"a\"", "private").private_);
}

/* RFC 9111 section 5.2 allows these no argument; that of immutable RFC 8246 section 2 would ignore. */
static void a_senseless_argument_allows_nothing_and_still_forbids(void **state)
{
    struct cache_control cc = parse("no-store=1, public=1, must-understand=0, must-revalidate=x, immutable=\"y\"");

    (void)state;
    assert_true(cc.no_store && cc.must_revalidate);
    assert_false(cc.public_ || cc.must_understand || cc.immutable);
}

/* RFC 9111 sections 5.2.1.2 and 5.2.1.3. */
static void wishes_of_a_request_are_dropped_when_unreadable(void **state)
{
    (void)state;
    assert_int_equal(parse("max-stale").max_stale_s, INT64_MAX);
    assert_int_equal(parse("max-stale, max-stale=7").max_stale_s, 7);
    assert_true(parse("max-stale=x").max_stale_s < 0);
    assert_true(parse("max-stale=").max_stale_s < 0);
    assert_true(parse("min-fresh").min_fresh_s < 0);
    assert_true(parse("min-fresh=-1").min_fresh_s < 0);
}

/* RFC 9110 section 5.6.1.2. */
static void empty_members_are_skipped(void **state)
{
    struct cache_control cc = parse(" ,, max-age=3 ,,no-cache, ");

    (void)state;
    assert_int_equal(cc.max_age_s, 3);
    assert_true(cc.no_cache);
}

/* Bytes of every kind, cut at every length: the sanitizers see to it that nothing beyond is read. */
static void any_bytes_can_be_read(void **state)
{
    static const char alphabet[] = "\",\\= \tmax-ge09no-cachprivt\x80\xff";
    char text[64];
    uint32_t seed = 1;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t n = (seed >> 8) % sizeof(text);

        for (size_t i = 0; i < n; i++) {
            seed = seed * 1664525 + 1013904223;
            text[i] = alphabet[(seed >> 16) % sizeof(alphabet)];
        }
        seed = seed * 1664525 + 1013904223;
        char *exact = test_malloc(n == 0 ? 1 : n);
        memcpy(exact, text, n);
        const struct field v[] = {{BYTES_LIT("cache-control"), NULL, {exact, n}}};
        struct cache_control cc = cache_control_parse((struct fields){v, 1});
        assert_true(cc.max_age_s <= DELTA_SECONDS_MAX);
        assert_false(cc.no_cache && cc.no_cache_qualified);
        test_free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_the_field_nothing_is_said),
        cmocka_unit_test(each_directive_is_known_in_any_case),
        cmocka_unit_test(names_only_alike_are_others),
        cmocka_unit_test(deltas_saturate),
        cmocka_unit_test(unreadable_lifetimes_are_zero),
        cmocka_unit_test(of_duplicates_the_smallest_counts),
        cmocka_unit_test(lines_add_up_and_other_fields_do_not),
        cmocka_unit_test(quoted_text_is_no_directive),
        cmocka_unit_test(an_open_quote_hides_nothing),
        cmocka_unit_test(lists_of_field_names_are_kept),
        cmocka_unit_test(doubtful_lists_become_the_bare_form),
        cmocka_unit_test(a_senseless_argument_allows_nothing_and_still_forbids),
        cmocka_unit_test(wishes_of_a_request_are_dropped_when_unreadable),
        cmocka_unit_test(empty_members_are_skipped),
        cmocka_unit_test(any_bytes_can_be_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
