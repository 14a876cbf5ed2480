#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/cache_status.h"

static void assert_format(struct cache_status s, const char *want)
{
    char out[CACHE_STATUS_MAX + 8];
    size_t n;

    memset(out, '#', sizeof(out));
    n = cache_status_format(&s, out);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(out, want, n);
    for (size_t i = n; i < sizeof(out); i++)
        assert_int_equal(out[i], '#');
}

/* RFC 9211 section 2. */
static void the_documented_members(void **state)
{
    (void)state;
    assert_format((struct cache_status){.has_ttl = true, .ttl_s = 57}, "weir; hit; ttl=57");
    assert_format((struct cache_status){.fwd = FWD_URI_MISS, .stored = true}, "weir; fwd=uri-miss; stored");
    assert_format((struct cache_status){.fwd = FWD_URI_MISS, .collapsed = true}, "weir; fwd=uri-miss; collapsed");
    assert_format((struct cache_status){.has_ttl = true, .ttl_s = -4, .detail = "stale-while-revalidate"},
                  "weir; hit; ttl=-4; detail=stale-while-revalidate");
    assert_format((struct cache_status){.fwd = FWD_STALE, .fwd_status = 304}, "weir; fwd=stale; fwd-status=304");
    assert_format((struct cache_status){.fwd = FWD_BYPASS, .detail = "scope"}, "weir; fwd=bypass; detail=scope");
    assert_format((struct cache_status){.detail = "redis"}, "weir; hit; detail=redis");
}

/* RFC 9211 sections 2.2 to 2.6 and 2.8; their order is our own. */
static void the_order_of_all_parameters(void **state)
{
    (void)state;
    assert_format((struct cache_status){FWD_STALE, 200, true, 60, true, true, "x"},
                  "weir; fwd=stale; fwd-status=200; ttl=60; stored; collapsed; detail=x");
}

/* RFC 9211 sections 2.1 and 2.2. */
static void every_reason_has_its_word(void **state)
{
    (void)state;
    assert_format((struct cache_status){.fwd = FWD_NONE}, "weir; hit");
    assert_format((struct cache_status){.fwd = FWD_VARY_MISS}, "weir; fwd=vary-miss");
    assert_format((struct cache_status){.fwd = FWD_REQUEST}, "weir; fwd=request");
    assert_format((struct cache_status){.fwd = FWD_METHOD}, "weir; fwd=method");
    assert_format((struct cache_status){.fwd = FWD_MISS}, "weir; fwd=miss");
    assert_format((struct cache_status){.fwd = FWD_PARTIAL}, "weir; fwd=partial");
}

/* RFC 9211 section 2.4. */
static void numbers_at_their_bounds(void **state)
{
    (void)state;
    assert_format((struct cache_status){.has_ttl = true, .ttl_s = 0}, "weir; hit; ttl=0");
    assert_format((struct cache_status){.has_ttl = true, .ttl_s = 10}, "weir; hit; ttl=10");
    assert_format((struct cache_status){.has_ttl = true, .ttl_s = -1}, "weir; hit; ttl=-1");
    assert_format((struct cache_status){.has_ttl = true, .ttl_s = INT64_MAX}, "weir; hit; ttl=9223372036854775807");
    assert_format((struct cache_status){.has_ttl = true, .ttl_s = INT64_MIN}, "weir; hit; ttl=-9223372036854775808");
}

/* RFC 9211 section 2.8. A detail that fills the last byte is written, one byte more and it is left out whole. */
static void a_detail_that_does_not_fit_is_left_out(void **state)
{
    char detail[CACHE_STATUS_MAX + 1], want[CACHE_STATUS_MAX + 1];
    const size_t head = strlen("weir; hit; detail=");
    const size_t room = CACHE_STATUS_MAX - head;

    (void)state;
    memset(detail, 'd', sizeof(detail));
    detail[room] = '\0';
    memcpy(want, "weir; hit; detail=", head);
    memcpy(want + head, detail, room + 1);
    assert_format((struct cache_status){.detail = detail}, want);
    detail[room] = 'd';
    detail[room + 1] = '\0';
    assert_format((struct cache_status){.detail = detail}, "weir; hit");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_documented_members),
        cmocka_unit_test(the_order_of_all_parameters),
        cmocka_unit_test(every_reason_has_its_word),
        cmocka_unit_test(numbers_at_their_bounds),
        cmocka_unit_test(a_detail_that_does_not_fit_is_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
