#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/client_wish.h"

static const struct lifetimes minute = {.fresh_ms = 60000};

static enum reuse wish_in(const char *name, const char *value, const struct lifetimes *l, int64_t age_ms)
{
    struct field f = {bytes_of(name), NULL, bytes_of(value)};
    struct client_wish wish = client_wish_of((struct fields){&f, 1});

    return client_wish_reuse(&wish, l, age_ms, freshness_reuse(l, age_ms));
}

static enum reuse reuse(const char *value, int64_t age_ms)
{
    return wish_in("cache-control", value, &minute, age_ms);
}

/* RFC 9111 sections 5.2.1.5 to 5.2.1.7: none of the three asks for validation. */
static void without_a_wish_nothing_changes(void **state)
{
    (void)state;
    assert_int_equal(reuse("x", 59999), REUSE_FRESH);
    assert_int_equal(reuse("no-store, only-if-cached, no-transform", 59999), REUSE_FRESH);
    assert_int_equal(reuse("x", 60000), REUSE_VALIDATE);
}

/* RFC 9111 sections 5.2.1.4 and 5.4. */
static void no_cache_asks_for_validation(void **state)
{
    struct field both[2] = {{BYTES_LIT("cache-control"), NULL, BYTES_LIT("x")},
                            {BYTES_LIT("pragma"), NULL, BYTES_LIT("no-cache")}};

    (void)state;
    assert_int_equal(reuse("no-cache", 0), REUSE_VALIDATE);
    assert_int_equal(wish_in("pragma", "No-Cache", &minute, 0), REUSE_VALIDATE);
    assert_int_equal(wish_in("pragma", "other", &minute, 0), REUSE_FRESH);
    assert_false(client_wish_of((struct fields){both, 2}).no_cache);
}

/* RFC 9111 sections 5.2.1.1 and 5.2.1.3. */
static void max_age_and_min_fresh_narrow(void **state)
{
    (void)state;
    assert_int_equal(reuse("max-age=10", 10000), REUSE_FRESH);
    assert_int_equal(reuse("max-age=10", 10001), REUSE_VALIDATE);
    assert_int_equal(reuse("max-age=0", 1), REUSE_VALIDATE);
    assert_int_equal(reuse("min-fresh=10", 50000), REUSE_FRESH);
    assert_int_equal(reuse("min-fresh=10", 50001), REUSE_VALIDATE);
    assert_int_equal(reuse("max-age=10, max-stale", 61000), REUSE_VALIDATE);
}

/* RFC 9111 section 5.2.1.2; what the origin forbids comes first (section 4.2.4). */
static void max_stale_puts_up_with_what_is_stale(void **state)
{
    struct lifetimes l = minute;

    (void)state;
    assert_int_equal(reuse("max-stale=10", 59999), REUSE_FRESH);
    assert_int_equal(reuse("max-stale=10", 70000), REUSE_CLIENT_STALE);
    assert_int_equal(reuse("max-stale=10", 70001), REUSE_VALIDATE);
    assert_int_equal(reuse("max-stale", INT64_C(1) << 50), REUSE_CLIENT_STALE);
    l.must_revalidate = true;
    assert_int_equal(wish_in("cache-control", "max-stale", &l, 70000), REUSE_VALIDATE);
    l = (struct lifetimes){.fresh_ms = 60000, .revalidate_always = true};
    assert_int_equal(wish_in("cache-control", "max-stale", &l, 70000), REUSE_VALIDATE);
}

static void a_soft_purge_is_not_undone_by_max_stale(void **state)
{
    struct field f = {BYTES_LIT("cache-control"), NULL, BYTES_LIT("max-stale")};
    struct client_wish wish = client_wish_of((struct fields){&f, 1});

    (void)state;
    assert_int_equal(client_wish_reuse(&wish, &minute, 1000, REUSE_VALIDATE), REUSE_VALIDATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_wish_nothing_changes),
        cmocka_unit_test(no_cache_asks_for_validation),
        cmocka_unit_test(max_age_and_min_fresh_narrow),
        cmocka_unit_test(max_stale_puts_up_with_what_is_stale),
        cmocka_unit_test(a_soft_purge_is_not_undone_by_max_stale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
