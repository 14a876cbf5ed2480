#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/freshness.h"
#include "policies/targeted.h"

static const struct bytes names[] = {BYTES_LIT("weir-cache-control"), BYTES_LIT("cdn-cache-control"),
                                     BYTES_LIT("surrogate-control")};

static struct cache_control cc; /* as the last call of counts() or read() has left it */

static bool counts_of(const char *name, const char *value)
{
    const struct field v[] = {{BYTES_LIT("cache-control"), NULL, BYTES_LIT("no-store, max-age=1")},
                              {bytes_of(name), NULL, bytes_of(value)}};

    return targeted_cache_control((struct fields){v, 2}, names, 3, &cc);
}

static bool counts(const char *value)
{
    return counts_of("cdn-cache-control", value);
}

static const struct cache_control *read(const char *value)
{
    assert_true(counts(value));
    assert_true(cc.present && cc.targeted);
    return &cc;
}

static const struct cache_control *surrogate(const char *value)
{
    assert_true(counts_of("surrogate-control", value));
    assert_true(cc.present && cc.targeted);
    return &cc;
}

static void assert_nothing(void)
{
    assert_false(cc.present || cc.targeted || cc.no_store || cc.no_cache || cc.private_ || cc.must_revalidate);
    assert_true(cc.max_age_s < 0 && cc.s_maxage_s < 0 && cc.stale_while_revalidate_s < 0 && cc.stale_if_error_s < 0);
}

/* RFC 9213 section 2.2: the first in the list's order, not in the message's. */
static void the_first_of_the_list_counts(void **state)
{
    const struct field v[] = {{BYTES_LIT("cdn-cache-control"), NULL, BYTES_LIT("max-age=2")},
                              {BYTES_LIT("weir-cache-control"), NULL, BYTES_LIT("max-age=3")},
                              {BYTES_LIT("other-cache-control"), NULL, BYTES_LIT("no-store")}};

    (void)state;
    assert_true(targeted_cache_control((struct fields){v, 3}, names, 3, &cc));
    assert_int_equal(cc.max_age_s, 3);
    assert_false(cc.no_store);
    assert_true(targeted_cache_control((struct fields){v, 3}, names + 1, 1, &cc));
    assert_int_equal(cc.max_age_s, 2);
    assert_false(targeted_cache_control((struct fields){v, 3}, names + 2, 1, &cc));
    assert_nothing();
    assert_false(targeted_cache_control((struct fields){v, 3}, NULL, 0, &cc));
    assert_nothing();
}

/* RFC 9213 sections 2.1 and 2.2: as if it were not there; nothing of it is left over. */
static void an_empty_or_invalid_field_leaves_it_to_the_next(void **state)
{
    static const char *const unusable[] = {
        "",
        " ",
        "max-age=10000, &&&&&",
        "max-age =100",
        "max-age= 100",
        "max-age=5,",
        "MaX-aGe=5",
        "no-store;",
        "\"no-store\"",
        "max-age=1234567890123456",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(unusable) / sizeof(unusable[0]); i++) {
        const struct field v[] = {{BYTES_LIT("weir-cache-control"), NULL, bytes_of(unusable[i])},
                                  {BYTES_LIT("cdn-cache-control"), NULL, BYTES_LIT("must-revalidate")}};

        assert_true(targeted_cache_control((struct fields){v, 2}, names, 3, &cc));
        assert_true(cc.must_revalidate && cc.max_age_s < 0 && !cc.no_store);
        assert_false(counts(unusable[i]));
        assert_nothing();
    }
}

/* RFC 9213 section 3.1's example. */
static void what_nobody_knows_counts_too(void **state)
{
    (void)state;
    assert_true(read("none")->max_age_s < 0);
    assert_int_equal(read("foobar, max-age=3600")->max_age_s, 3600);
    assert_int_equal(read("max-age=3600;a=1;b, x=(1 2)")->max_age_s, 3600);
}

/* RFC 9651 sections 4.2 and 4.2.2. */
static void all_lines_are_one_field_and_the_last_duplicate_counts(void **state)
{
    const struct field v[] = {{BYTES_LIT("cdn-cache-control"), NULL, BYTES_LIT("max-age=9, no-store")},
                              {BYTES_LIT("cdn-cache-control"), NULL, BYTES_LIT("max-age=10, no-store=?0")}};

    (void)state;
    assert_true(targeted_cache_control((struct fields){v, 2}, names, 3, &cc));
    assert_int_equal(cc.max_age_s, 10);
    assert_false(cc.no_store);
    assert_int_equal(read("max-age=10, max-age=9")->max_age_s, 9);
    assert_int_equal(read("max-age=10, max-age=?1")->max_age_s, 0);
    assert_true(read("no-cache=\"a\", no-cache")->no_cache && !cc.no_cache_qualified && cc.no_cache_fields.n == 0);
    assert_true(read("private, private=?0")->max_age_s < 0 && !cc.private_ && !cc.private_qualified);
}

/* RFC 9213 section 2.1, RFC 9111 section 4.2.1. */
static void lifetimes_are_integers_and_anything_else_is_none(void **state)
{
    static const char *const none[] = {"max-age=0", "max-age=-1", "max-age=1.0", "max-age=\"10000\"", "max-age=abc",
                                       "max-age",   "max-age=?0", "max-age=@5",  "max-age=(5)",       "max-age=:AAAA:"};

    (void)state;
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_int_equal(read(none[i])->max_age_s, 0);
    assert_int_equal(read("max-age=1")->max_age_s, 1);
    assert_int_equal(read("max-age=2147483647")->max_age_s, INT64_C(2147483647));
    assert_int_equal(read("max-age=2147483648")->max_age_s, DELTA_SECONDS_MAX);
    assert_int_equal(read("max-age=99999999999")->max_age_s, DELTA_SECONDS_MAX);
    read("s-maxage=1, stale-while-revalidate=2, stale-if-error=3");
    assert_int_equal(cc.s_maxage_s, 1);
    assert_int_equal(cc.stale_while_revalidate_s, 2);
    assert_int_equal(cc.stale_if_error_s, 3);
    assert_int_equal(read("stale-if-error=1.5")->stale_if_error_s, 0);
}

/* RFC 9213 section 2.1. */
static void boolean_directives_count_when_they_are_true(void **state)
{
    (void)state;
    read("no-store, public, must-revalidate, proxy-revalidate, must-understand, no-transform, immutable");
    assert_true(cc.no_store && cc.public_ && cc.must_revalidate && cc.proxy_revalidate);
    assert_true(cc.must_understand && cc.no_transform && cc.immutable);
    assert_true(read("no-store=?1;x=?0")->no_store);
    assert_false(read("no-store=?0")->no_store);
    assert_false(read("no-store=1")->no_store);
    assert_false(read("no-store=\"x\"")->no_store);
    assert_false(read("must-revalidate=yes")->must_revalidate);
}

/* RFC 9213 section 2.1, RFC 9111 sections 5.2.2.4 and 5.2.2.7. */
static void no_cache_and_private_may_name_fields(void **state)
{
    static const char *const bare[] = {"private",       "private=?1", "private=\"\"",    "private=x",
                                       "private=(a b)", "private=1",  "private=\"a b\"", "private=\"a\\\\b\""};

    (void)state;
    read("no-cache=\"set-cookie, x-a\", private=\"x-b\"");
    assert_true(cc.no_cache_qualified && !cc.no_cache && cache_control_lists(cc.no_cache_fields, BYTES_LIT("x-a")));
    assert_true(cc.private_qualified && !cc.private_ && cache_control_lists(cc.private_fields, BYTES_LIT("X-B")));
    for (size_t i = 0; i < sizeof(bare) / sizeof(bare[0]); i++)
        assert_true(read(bare[i])->private_ && !cc.private_qualified && cc.private_fields.n == 0);
    assert_true(read("no-cache")->no_cache && !cc.private_);
    assert_false(read("no-cache=?0")->no_cache || cc.no_cache_qualified);
}

/* Edge Architecture Specification, sections 2.2.1 to 2.2.4. */
static void surrogate_control_is_read_leniently(void **state)
{
    (void)state;
    assert_int_equal(surrogate("max-age=3600")->max_age_s, 3600);
    assert_true(cc.stale_while_revalidate_s < 0);
    assert_int_equal(surrogate("Max-Age=3600+600, content=\"ESI/1.0\"")->max_age_s, 3600);
    assert_int_equal(cc.stale_while_revalidate_s, 600);
    assert_int_equal(surrogate("max-age=0+0")->max_age_s, 0);
    assert_int_equal(cc.stale_while_revalidate_s, 0);
    assert_int_equal(surrogate("max-age=60+30, stale-while-revalidate=10")->stale_while_revalidate_s, 10);
    assert_int_equal(surrogate("stale-while-revalidate=40, max-age=60+30")->stale_while_revalidate_s, 30);
    assert_true(surrogate("NO-STORE, , x")->no_store);
    assert_true(surrogate("content=\"ESI/1.0, no-cache\", no-store")->no_store && !cc.no_cache);
    assert_true(surrogate("private=\"a;b\\\";c\"")->private_);
}

static void an_unreadable_surrogate_lifetime_is_none(void **state)
{
    static const char *const none[] = {"max-age=60+",    "max-age=+60", "max-age=60+x", "max-age=60+30+1",
                                       "max-age=60 +30", "max-age",     "max-age=x"};

    (void)state;
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_int_equal(surrogate(none[i])->max_age_s, 0);
}

/* Section 2.3 of the same. */
static void surrogate_directives_for_others_do_not_count_and_ours_come_first(void **state)
{
    (void)state;
    assert_int_equal(surrogate("max-age=60;weir, max-age=600")->max_age_s, 60);
    assert_int_equal(surrogate("max-age=60, max-age=600 ; WEIR")->max_age_s, 600);
    assert_int_equal(surrogate("max-age=60, max-age=600;abc, no-store;abc")->max_age_s, 60);
    assert_false(cc.no_store);
    assert_int_equal(surrogate("max-age=60+5;weir, max-age=9+90")->stale_while_revalidate_s, 5);
    assert_true(surrogate("no-cache=\"a\";weir, no-cache")->no_cache_qualified && !cc.no_cache);
    assert_true(surrogate("private;weir, private=\"a\"")->private_ && !cc.private_qualified);
    assert_true(surrogate("no-store;")->no_store);
}

/* Nothing about storing is said to us: Cache-Control's turn. */
static void surrogate_control_without_a_directive_for_us_counts_for_nothing(void **state)
{
    static const char *const others[] = {"content=\"ESI/1.0\"", "no-store-remote", "no-store;abc", "", ", ,", "foo=1"};

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_false(counts_of("surrogate-control", others[i]));
        assert_nothing();
    }
}

static struct lifetimes lifetimes(bool targeted, const struct cache_control *from)
{
    static const struct field v[] = {{BYTES_LIT("date"), NULL, BYTES_LIT("Thu, 01 Jan 2026 00:00:00 GMT")},
                                     {BYTES_LIT("expires"), NULL, BYTES_LIT("Thu, 01 Jan 2026 00:01:00 GMT")}};
    struct cache_control used = *from;

    used.targeted = targeted;
    return freshness_of(&(struct freshness_facts){
        .status = 200,
        .fields = {v, 2},
        .cc = &used,
        .response_time = {1767225600},
    });
}

/* RFC 9213 section 2.2. */
static void expires_does_not_count_beside_a_targeted_field(void **state)
{
    (void)state;
    read("none");
    assert_int_equal(lifetimes(false, &cc).fresh_ms, 60000);
    assert_true(lifetimes(false, &cc).explicit_);
    assert_int_equal(lifetimes(true, &cc).fresh_ms, 0);
    assert_false(lifetimes(true, &cc).explicit_);
    read("max-age=7");
    assert_int_equal(lifetimes(true, &cc).fresh_ms, 7000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_of_the_list_counts),
        cmocka_unit_test(an_empty_or_invalid_field_leaves_it_to_the_next),
        cmocka_unit_test(what_nobody_knows_counts_too),
        cmocka_unit_test(all_lines_are_one_field_and_the_last_duplicate_counts),
        cmocka_unit_test(lifetimes_are_integers_and_anything_else_is_none),
        cmocka_unit_test(boolean_directives_count_when_they_are_true),
        cmocka_unit_test(no_cache_and_private_may_name_fields),
        cmocka_unit_test(surrogate_control_is_read_leniently),
        cmocka_unit_test(an_unreadable_surrogate_lifetime_is_none),
        cmocka_unit_test(surrogate_directives_for_others_do_not_count_and_ours_come_first),
        cmocka_unit_test(surrogate_control_without_a_directive_for_us_counts_for_nothing),
        cmocka_unit_test(expires_does_not_count_beside_a_targeted_field),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
