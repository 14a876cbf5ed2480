/* Counters and quantiles: what /health/cache adds up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "proxy/counters.h"

/* Outcomes are disjoint and add up over threads, routes and requests that no route took. */
static void totals_add_up_over_threads_and_routes(void **state)
{
    struct counters *all = counters_create(2);
    struct route_counters *a = counters_route(all, "/a"), *b = counters_route(all, "/b");
    struct route_totals t;

    (void)state;
    counter_add(&a->threads[0].outcomes[OUTCOME_HIT], 3);
    counter_add(&a->threads[1].outcomes[OUTCOME_HIT], 4);
    counter_add(&b->threads[1].outcomes[OUTCOME_MISS], 2);
    counter_add(&counters_unrouted(all)->threads[0].outcomes[OUTCOME_ERROR], 1);
    counter_add(&b->threads[0].origin_requests, 5);

    route_totals(a, &t);
    assert_int_equal(t.total, 7);
    counters_totals(all, &t);
    assert_int_equal(t.total, 10);
    assert_int_equal(t.outcomes[OUTCOME_HIT], 7);
    assert_int_equal(t.outcomes[OUTCOME_ERROR], 1);
    assert_int_equal(t.origin_requests, 5);
    counters_destroy(all);
}

/* A reload asks for the same name again and goes on counting. */
static void a_route_keeps_its_counters_by_name(void **state)
{
    struct counters *all = counters_create(1);
    struct route_counters *a = counters_route(all, "/a");

    (void)state;
    assert_ptr_equal(counters_route(all, "/a"), a);
    assert_ptr_not_equal(counters_route(all, "/a/"), a);
    counters_destroy(all);
}

static void hit_rate_is_the_share_that_cost_the_origin_nothing(void **state)
{
    uint64_t o[OUTCOMES] = {0};

    (void)state;
    assert_true(hit_rate(o) < 0); /* nothing cacheable yet: null */
    o[OUTCOME_BYPASS] = o[OUTCOME_ERROR] = 100;
    assert_true(hit_rate(o) < 0);
    o[OUTCOME_MISS] = 1;
    assert_true(hit_rate(o) == 0);
    o[OUTCOME_HIT] = o[OUTCOME_STALE] = o[OUTCOME_COALESCED] = 1;
    assert_true(hit_rate(o) == 0.75);
    o[OUTCOME_REVALIDATED] = 2;
    assert_true(hit_rate(o) == 0.5);
}

/* Within a sixteenth, on both sides of a power of two, and at the ends. */
static void quantiles_are_right_within_a_sixteenth(void **state)
{
    static const uint64_t values[] = {0, 1, 15, 16, 17, 31, 32, 33, 1000, 1023, 1024, 999999, 1u << 30};

    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct counters *all = counters_create(1);
        struct route_counters *r = counters_route(all, "/");
        struct route_totals t;

        histogram_add(&r->threads[0].latency, values[i]);
        route_totals(r, &t);
        assert_true(t.p50_ms * 1000 >= (double)values[i] * 15 / 16);
        assert_true(t.p50_ms * 1000 <= (double)values[i] * 17 / 16);
        assert_true(t.p50_ms == t.p99_ms);
        assert_true(t.origin_p95_ms < 0);
        counters_destroy(all);
    }
}

static void quantiles_divide_what_was_measured(void **state)
{
    struct counters *all = counters_create(1);
    struct route_counters *r = counters_route(all, "/");
    struct route_totals t;

    (void)state;
    for (int i = 0; i < 90; i++)
        histogram_add(&r->threads[0].latency, 10);
    for (int i = 0; i < 10; i++)
        histogram_add(&r->threads[0].latency, 100000);
    route_totals(r, &t);
    assert_true(t.p50_ms < 0.02);
    assert_true(t.p95_ms > 90);
    counters_destroy(all);
}

/* Many names, and each is found again. */
static void every_name_is_found_again(void **state)
{
    enum { NAMES = 1000 };
    struct counters *all = counters_create(1);
    struct route_counters *made[NAMES];
    char name[16];
    size_t n = 0;
    (void)state;

    for (int i = 0; i < NAMES; i++) {
        snprintf(name, sizeof name, "/%d", i);
        made[i] = counters_route(all, name);
    }
    for (int i = 0; i < NAMES; i++) {
        snprintf(name, sizeof name, "/%d", i);
        assert_ptr_equal(counters_route(all, name), made[i]);
    }
    for (struct route_counters *c = counters_first(all); c != NULL; c = c->next)
        n++;
    assert_int_equal(n, NAMES);
    counters_destroy(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(totals_add_up_over_threads_and_routes),
        cmocka_unit_test(a_route_keeps_its_counters_by_name),
        cmocka_unit_test(hit_rate_is_the_share_that_cost_the_origin_nothing),
        cmocka_unit_test(quantiles_are_right_within_a_sixteenth),
        cmocka_unit_test(quantiles_divide_what_was_measured),
        cmocka_unit_test(every_name_is_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
