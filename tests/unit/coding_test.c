#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>

#include <stdint.h>

#include <cmocka.h>

#include "policies/coding.h"

static struct coding_wishes wishes(const char *accept)
{
    const struct field f = {BYTES_LIT("accept-encoding"), NULL, bytes_of(accept)};

    return coding_wishes_of((struct fields){&f, accept != NULL}, 0);
}

static const enum coding all[] = {CODING_ZSTD, CODING_BR, CODING_GZIP};

static void chooses(const char *accept, enum coding wanted)
{
    struct coding_wishes w = wishes(accept);
    enum coding got = coding_choose(&w, all, 3);

    if (got != wanted)
        fail_msg("%s: %.*s", accept, (int)coding_name(got).n, coding_name(got).p);
}

/* RFC 9110 section 12.5.3. */
static void the_highest_weight_wins(void **state)
{
    (void)state;
    chooses("gzip", CODING_GZIP);
    chooses("br;q=0.999, gzip", CODING_GZIP);
    chooses("br;q=0.5, gzip;q=0.501", CODING_GZIP);
    chooses("br;q=0.501, gzip;q=0.5", CODING_BR);
    chooses("gzip;q=0.001", CODING_GZIP);
    chooses("gzip;q=0", CODING_IDENTITY);
    chooses("gzip;q=0.000, br", CODING_BR);
}

static void the_order_of_the_configuration_decides_between_equals(void **state)
{
    const enum coding others[] = {CODING_GZIP, CODING_ZSTD};
    struct coding_wishes w = wishes("zstd, gzip, br");

    (void)state;
    chooses("gzip, deflate, br, zstd", CODING_ZSTD);
    chooses("gzip, br", CODING_BR);
    chooses("gzip;q=0.5, br;q=0.5", CODING_BR);
    assert_int_equal(coding_choose(&w, others, 2), CODING_GZIP);
    assert_int_equal(coding_choose(&w, others, 0), CODING_IDENTITY);
}

static void a_star_stands_for_what_is_not_named(void **state)
{
    (void)state;
    chooses("*", CODING_ZSTD);
    chooses("*;q=0.5, gzip", CODING_GZIP);
    chooses("zstd;q=0, *", CODING_BR);
    chooses("*;q=0", CODING_IDENTITY);
    chooses("gzip, *;q=0", CODING_GZIP);
}

static void identity_may_be_wanted_more(void **state)
{
    (void)state;
    chooses("identity", CODING_IDENTITY);
    chooses("identity, gzip;q=0.5", CODING_IDENTITY);
    chooses("identity;q=0.5, gzip;q=0.5", CODING_GZIP);
    chooses("identity;q=0.4, gzip;q=0.5", CODING_GZIP);
    chooses("identity;q=0, gzip;q=0.1", CODING_GZIP);
    chooses("identity;q=0", CODING_IDENTITY); /* nothing else: section 12.4.1 */
}

static void x_gzip_is_gzip_and_names_know_no_case(void **state)
{
    (void)state;
    chooses("x-gzip", CODING_GZIP);
    chooses("GZip;Q=0.5, BR;q=0.4", CODING_GZIP);
    assert_int_equal(coding_named(BYTES_LIT("X-GZIP")), CODING_GZIP);
    assert_int_equal(coding_named(BYTES_LIT("Br")), CODING_BR);
    assert_int_equal(coding_named(BYTES_LIT("deflate")), CODING_OTHER);
    assert_int_equal(coding_named(BYTES_LIT("")), CODING_OTHER);
}

static void none_and_nonsense_are_identity(void **state)
{
    struct coding_wishes none = wishes(NULL), empty = wishes(""), nonsense = wishes("gzip;q=2");

    (void)state;
    chooses(NULL, CODING_IDENTITY);
    chooses("", CODING_IDENTITY);
    chooses("gzip;q=2", CODING_IDENTITY);
    chooses("gzip;q=1, gzip;q=0", CODING_IDENTITY);
    chooses("deflate", CODING_IDENTITY);
    assert_false(none.stated || empty.stated || nonsense.stated);
    assert_true(wishes("deflate").stated);
}

static void several_lines_are_one_list(void **state)
{
    const struct field v[] = {{BYTES_LIT("accept-encoding"), NULL, BYTES_LIT("gzip;q=0.5")},
                              {BYTES_LIT("accept"), NULL, BYTES_LIT("zstd")},
                              {BYTES_LIT("accept-encoding"), NULL, BYTES_LIT("br")}};
    struct coding_wishes w = coding_wishes_of((struct fields){v, 3}, 0);

    (void)state;
    assert_int_equal(coding_choose(&w, all, 3), CODING_BR);
}

static void what_may_be_sent(void **state)
{
    struct coding_wishes none = wishes(NULL), gzip = wishes("gzip"), only = wishes("br, *;q=0"), any = wishes("*");

    (void)state;
    assert_true(coding_is_acceptable(&none, CODING_IDENTITY));
    assert_false(coding_is_acceptable(&none, CODING_GZIP));
    assert_true(coding_is_acceptable(&gzip, CODING_GZIP));
    assert_true(coding_is_acceptable(&gzip, CODING_IDENTITY));
    assert_false(coding_is_acceptable(&gzip, CODING_BR));
    assert_false(coding_is_acceptable(&only, CODING_IDENTITY));
    assert_false(coding_is_acceptable(&only, CODING_GZIP));
    assert_true(coding_is_acceptable(&only, CODING_BR));
    assert_true(coding_is_acceptable(&any, CODING_ZSTD));
    assert_false(coding_is_acceptable(&any, CODING_OTHER));
}

static enum coding of(const char *first, const char *second)
{
    const struct field v[] = {{BYTES_LIT("content-encoding"), NULL, bytes_of(first)},
                              {BYTES_LIT("content-encoding"), NULL, bytes_of(second)}};

    return coding_of_response((struct fields){v, (first != NULL) + (second != NULL)});
}

/* RFC 9110 section 8.4. */
static void a_response_has_one_coding_that_weir_knows_or_another(void **state)
{
    (void)state;
    assert_int_equal(of(NULL, NULL), CODING_IDENTITY);
    assert_int_equal(of("gzip", NULL), CODING_GZIP);
    assert_int_equal(of("x-gzip", NULL), CODING_GZIP);
    assert_int_equal(of("zstd", NULL), CODING_ZSTD);
    assert_int_equal(of("deflate", NULL), CODING_OTHER);
    assert_int_equal(of("gzip, br", NULL), CODING_OTHER);
    assert_int_equal(of("gzip", "gzip"), CODING_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_weight_wins),
        cmocka_unit_test(the_order_of_the_configuration_decides_between_equals),
        cmocka_unit_test(a_star_stands_for_what_is_not_named),
        cmocka_unit_test(identity_may_be_wanted_more),
        cmocka_unit_test(x_gzip_is_gzip_and_names_know_no_case),
        cmocka_unit_test(none_and_nonsense_are_identity),
        cmocka_unit_test(several_lines_are_one_list),
        cmocka_unit_test(what_may_be_sent),
        cmocka_unit_test(a_response_has_one_coding_that_weir_knows_or_another),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
