#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/freshness.h"

#define FIELD(name, value) ((struct field){BYTES_LIT(name), NULL, BYTES_LIT(value)})
#define DATE(value) FIELD("date", value)
#define CC(value) FIELD("cache-control", value)
#define EXPIRES(value) FIELD("expires", value)
#define MODIFIED(value) FIELD("last-modified", value)
#define AGE(value) FIELD("age", value)
#define FIELDS(...)                                                                                                    \
    ((struct fields){(const struct field[]){__VA_ARGS__},                                                              \
                     sizeof((const struct field[]){__VA_ARGS__}) / sizeof(struct field)})

/* The response comes at T0, and says so, unless a test has it otherwise. */
#define T0 "Thu, 01 Jan 2026 00:00:00 GMT"
#define T0_MINUS_7 "Wed, 31 Dec 2025 23:59:53 GMT"
#define T0_PLUS_10 "Thu, 01 Jan 2026 00:00:10 GMT"
#define T0_PLUS_60 "Thu, 01 Jan 2026 00:01:00 GMT"
#define T0_MINUS_DAY "Wed, 31 Dec 2025 00:00:00 GMT"
#define T0_MINUS_10_DAYS "Mon, 22 Dec 2025 00:00:00 GMT"
#define T0_MINUS_11_DAYS "Sun, 21 Dec 2025 00:00:00 GMT"
#define T0_WALL ((struct wall_s){INT64_C(1767225600)})
#define SECOND INT64_C(1000)
#define HOUR (3600 * SECOND)

static const struct tier never = {"never", 0, -1, -1, 0, NULL, 0};
static const struct tier silent = {"silent", -1, -1, -1, 0, NULL, 0};

/* Judges the fields with the facts given; by default a 200 that came at T0. */
static struct lifetimes judge(struct freshness_facts facts, struct fields fields)
{
    struct cache_control cc = cache_control_parse(fields);

    facts.fields = fields;
    facts.cc = &cc;
    if (facts.status == 0)
        facts.status = 200;
    if (facts.response_time.s == 0)
        facts.request_time = facts.response_time = T0_WALL;
    return freshness_of(&facts);
}

static int64_t fresh_ms(struct fields fields)
{
    return judge((struct freshness_facts){0}, fields).fresh_ms;
}

static int64_t initial_ms(struct fields fields)
{
    return judge((struct freshness_facts){0}, fields).initial_age_ms;
}

static void nothing_said_is_no_time(void **state)
{
    struct lifetimes l = judge((struct freshness_facts){0}, (struct fields){NULL, 0});

    (void)state;
    assert_int_equal(l.fresh_ms, 0);
    assert_int_equal(l.stale_while_revalidate_ms, 0);
    assert_int_equal(l.stale_if_error_ms, 0);
    assert_false(l.explicit_ || l.revalidate_always || l.must_revalidate);
}

/* RFC 9111 section 4.2.1: s-maxage, max-age, Expires, in this order. */
static void the_order_of_what_an_origin_states(void **state)
{
    (void)state;
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), CC("max-age=5, s-maxage=7"), EXPIRES(T0_PLUS_60))), 7 * SECOND);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), CC("s-maxage=0, max-age=5"), EXPIRES(T0_PLUS_60))), 0);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), CC("max-age=5"), EXPIRES(T0_PLUS_60))), 5 * SECOND);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), CC("max-age=5"), EXPIRES("0"))), 5 * SECOND);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), CC("max-age=0"), EXPIRES(T0_PLUS_60))), 0);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), CC("public"), EXPIRES(T0_PLUS_60))), 60 * SECOND);
    assert_true(judge((struct freshness_facts){0}, FIELDS(DATE(T0), EXPIRES(T0_PLUS_60))).explicit_);
    assert_true(judge((struct freshness_facts){0}, FIELDS(CC("max-age=0"))).explicit_);
    assert_false(judge((struct freshness_facts){0}, FIELDS(CC("public"))).explicit_);
}

/* RFC 9111 sections 5.2.2.8 and 5.2.2.10: they are for shared caches. */
static void s_maxage_does_not_bind_a_users_own_cache(void **state)
{
    struct freshness_facts user = {.user_scope = true};
    struct lifetimes l = judge(user, FIELDS(CC("max-age=5, s-maxage=7, proxy-revalidate, stale-if-error=9")));

    (void)state;
    assert_int_equal(l.fresh_ms, 5 * SECOND);
    assert_false(l.must_revalidate);
    assert_int_equal(l.stale_if_error_ms, 9 * SECOND);
    assert_int_equal(judge(user, FIELDS(CC("s-maxage=7"))).fresh_ms, 0);
    assert_false(judge(user, FIELDS(CC("s-maxage=7"))).explicit_);
}

/* RFC 9111 section 4.2.1; without a Date from receipt (RFC 9110 section 6.6.1). */
static void expires_counts_from_date(void **state)
{
    (void)state;
    assert_int_equal(fresh_ms(FIELDS(DATE(T0_PLUS_10), EXPIRES(T0_PLUS_60))), 50 * SECOND);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), EXPIRES(T0))), 0);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0_PLUS_60), EXPIRES(T0_PLUS_10))), 0);
    assert_int_equal(fresh_ms(FIELDS(EXPIRES(T0_PLUS_60))), 60 * SECOND);
    assert_int_equal(fresh_ms(FIELDS(DATE("foo"), EXPIRES(T0_PLUS_60))), 60 * SECOND);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), EXPIRES("Fri, 31 Dec 9999 23:59:59 GMT"))), DELTA_SECONDS_MAX * SECOND);
}

/* RFC 9111 section 5.3: an invalid date, especially "0", is in the past, and that is explicit. */
static void an_unreadable_expires_is_already_stale(void **state)
{
    const struct tier tier = {"t", HOUR, -1, -1, 0, NULL, 0};
    struct lifetimes l =
        judge((struct freshness_facts){.tier = &tier}, FIELDS(DATE(T0), EXPIRES("0"), MODIFIED(T0_MINUS_DAY)));

    (void)state;
    assert_int_equal(l.fresh_ms, 0);
    assert_true(l.explicit_);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), EXPIRES(""))), 0);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), EXPIRES(T0_PLUS_60), EXPIRES(T0_PLUS_10))), 10 * SECOND);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), EXPIRES(T0_PLUS_60), EXPIRES("-1"))), 0);
}

/* RFC 9111 section 4.2.2. */
static void heuristics_take_a_tenth_and_at_most_a_day(void **state)
{
    (void)state;
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), MODIFIED(T0_MINUS_DAY))), 24 * HOUR / 10);
    assert_int_equal(fresh_ms(FIELDS(MODIFIED(T0_MINUS_DAY))), 24 * HOUR / 10);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), MODIFIED(T0_MINUS_7))), 700);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), MODIFIED(T0_MINUS_10_DAYS))), 24 * HOUR);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), MODIFIED(T0_MINUS_11_DAYS))), 24 * HOUR);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), MODIFIED(T0))), 0);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), MODIFIED(T0_PLUS_10))), 0);
    assert_int_equal(fresh_ms(FIELDS(DATE(T0), MODIFIED("long ago"))), 0);
    assert_false(judge((struct freshness_facts){0}, FIELDS(DATE(T0), MODIFIED(T0_MINUS_DAY))).explicit_);
}

/* RFC 9111 section 4.2.2: only for statuses defined so, or with an explicit public. */
static void heuristics_are_for_some_statuses(void **state)
{
    const struct fields plain = FIELDS(DATE(T0), MODIFIED(T0_MINUS_DAY));
    const struct fields open = FIELDS(DATE(T0), MODIFIED(T0_MINUS_DAY), CC("public"));
    static const int yes[] = {200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501};
    static const int no[] = {201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599};

    (void)state;
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
        assert_int_equal(judge((struct freshness_facts){.status = yes[i]}, plain).fresh_ms, 24 * HOUR / 10);
    for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
        assert_int_equal(judge((struct freshness_facts){.status = no[i]}, plain).fresh_ms, 0);
        assert_int_equal(judge((struct freshness_facts){.status = no[i]}, open).fresh_ms, 24 * HOUR / 10);
    }
}

static void a_tier_speaks_where_the_origin_does_not(void **state)
{
    const struct tier tier = {"t", 30 * SECOND, -1, -1, 0, NULL, 0};
    struct freshness_facts f = {.tier = &tier};

    (void)state;
    assert_int_equal(judge(f, FIELDS(DATE(T0))).fresh_ms, 30 * SECOND);
    assert_false(judge(f, FIELDS(DATE(T0))).explicit_);
    assert_int_equal(judge(f, FIELDS(DATE(T0), MODIFIED(T0_MINUS_DAY))).fresh_ms, 30 * SECOND);
    assert_int_equal(judge(f, FIELDS(DATE(T0), CC("max-age=5"))).fresh_ms, 5 * SECOND);
    assert_int_equal(judge(f, FIELDS(DATE(T0), CC("max-age=0"))).fresh_ms, 0);
    assert_int_equal(judge(f, FIELDS(DATE(T0), EXPIRES(T0_PLUS_60))).fresh_ms, 60 * SECOND);
    f.tier = &silent;
    assert_int_equal(judge(f, FIELDS(DATE(T0), MODIFIED(T0_MINUS_DAY))).fresh_ms, 24 * HOUR / 10);
    f.tier = &never;
    assert_int_equal(judge(f, FIELDS(DATE(T0), MODIFIED(T0_MINUS_DAY))).fresh_ms, 0);
}

static void a_tiers_plain_lifetime_is_not_for_errors(void **state)
{
    const struct tier tier = {"t", 30 * SECOND, -1, -1, 0, NULL, 0};

    (void)state;
    assert_int_equal(judge((struct freshness_facts){.tier = &tier, .status = 404}, FIELDS(DATE(T0))).fresh_ms,
                     30 * SECOND);
    assert_int_equal(judge((struct freshness_facts){.tier = &tier, .status = 302}, FIELDS(DATE(T0))).fresh_ms, 0);
    assert_int_equal(judge((struct freshness_facts){.tier = &tier, .status = 403}, FIELDS(DATE(T0))).fresh_ms, 0);
    assert_int_equal(judge((struct freshness_facts){.tier = &tier, .status = 500}, FIELDS(DATE(T0))).fresh_ms, 0);
    assert_int_equal(
        judge((struct freshness_facts){.tier = &tier, .status = 500}, FIELDS(DATE(T0), CC("public"))).fresh_ms,
        30 * SECOND);
}

static void a_tiers_entry_for_a_status_comes_first_and_the_narrowest_wins(void **state)
{
    const struct tier_status statuses[] = {{400, 499, 2 * SECOND}, {404, 404, 9 * SECOND}, {500, 599, 1 * SECOND},
                                           {503, 503, -1},         {410, 410, 0},          {200, 200, 4 * SECOND},
                                           {200, 299, 3 * SECOND}};
    const struct tier tier = {"t", 30 * SECOND, -1, -1, 0, statuses, 7};
    static const struct {
        int status;
        int64_t fresh_ms;
    } want[] = {{200, 4000}, {201, 3000}, {399, 0},    {400, 2000}, {403, 2000}, {404, 9000}, {405, 2000},
                {410, 0},    {499, 2000}, {500, 1000}, {503, 1000}, {599, 1000}, {301, 30000}};

    (void)state;
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
        assert_int_equal(
            judge((struct freshness_facts){.tier = &tier, .status = want[i].status}, FIELDS(DATE(T0))).fresh_ms,
            want[i].fresh_ms);
    /* the origin's own word still wins */
    assert_int_equal(judge((struct freshness_facts){.tier = &tier, .status = 404}, FIELDS(CC("max-age=1"))).fresh_ms,
                     1 * SECOND);
}

/* A tier counts from receipt, so that an answer which came late, or by way of another cache, gets all of it. */
static void a_tiers_lifetime_counts_from_receipt(void **state)
{
    const struct tier tier = {"t", 1 * SECOND, -1, -1, 0, NULL, 0};
    const struct fields aged = FIELDS(DATE(T0), AGE("86400"));
    struct freshness_facts f = {.tier = &tier, .response_delay_ms = 2500};
    struct lifetimes l = judge(f, aged);

    (void)state;
    assert_int_equal(l.initial_age_ms, 86402500);
    assert_int_equal(l.fresh_ms - l.initial_age_ms, 1 * SECOND);
    f.ignore_origin = true;
    l = judge(f, FIELDS(DATE(T0), AGE("86400"), CC("max-age=3600")));
    assert_int_equal(l.fresh_ms - l.initial_age_ms, 1 * SECOND);
    f.ignore_origin = false;
    l = judge(f, FIELDS(DATE(T0), AGE("86400"), CC("max-age=3600")));
    assert_int_equal(l.fresh_ms, 3600 * SECOND);
}

static void ignoring_the_origin_the_tier_alone_decides(void **state)
{
    const struct tier_status statuses[] = {{500, 599, 1 * SECOND}};
    const struct tier tier = {"t", 30 * SECOND, 4 * SECOND, 6 * SECOND, 0, statuses, 1};
    struct freshness_facts f = {.tier = &tier, .ignore_origin = true};
    struct lifetimes l = judge(f, FIELDS(DATE(T0),
                                         CC("no-cache, must-revalidate, proxy-revalidate, s-maxage=0, max-age=0, "
                                            "stale-while-revalidate=0, stale-if-error=99"),
                                         EXPIRES("0")));

    (void)state;
    assert_int_equal(l.fresh_ms, 30 * SECOND);
    assert_int_equal(l.stale_while_revalidate_ms, 4 * SECOND);
    assert_int_equal(l.stale_if_error_ms, 6 * SECOND);
    assert_false(l.explicit_ || l.revalidate_always || l.must_revalidate);
    f.status = 503;
    assert_int_equal(judge(f, FIELDS(DATE(T0), CC("max-age=77"))).fresh_ms, 1 * SECOND);
    f.status = 302;
    assert_int_equal(judge(f, FIELDS(DATE(T0), CC("public, max-age=77"))).fresh_ms, 0);
    f.status = 200;
    f.tier = &silent;
    assert_int_equal(judge(f, FIELDS(DATE(T0), CC("max-age=77"), MODIFIED(T0_MINUS_DAY))).fresh_ms, 0);
    f.tier = NULL;
    assert_int_equal(judge(f, FIELDS(DATE(T0), CC("max-age=77"), MODIFIED(T0_MINUS_DAY))).fresh_ms, 0);
}

/* RFC 5861 sections 3 and 4: the origin's window, also one of zero, stands before the tier's. */
static void stale_windows_are_the_origins_else_the_tiers(void **state)
{
    const struct tier tier = {"t", -1, 4 * SECOND, 6 * SECOND, 0, NULL, 0};
    struct freshness_facts f = {.tier = &tier};
    struct lifetimes l = judge(f, FIELDS(CC("max-age=5, stale-while-revalidate=0, stale-if-error=60")));

    (void)state;
    assert_int_equal(l.stale_while_revalidate_ms, 0);
    assert_int_equal(l.stale_if_error_ms, 60 * SECOND);
    l = judge(f, FIELDS(CC("max-age=5")));
    assert_int_equal(l.stale_while_revalidate_ms, 4 * SECOND);
    assert_int_equal(l.stale_if_error_ms, 6 * SECOND);
    f.tier = &silent;
    l = judge(f, FIELDS(CC("max-age=5")));
    assert_int_equal(l.stale_while_revalidate_ms, 0);
    assert_int_equal(l.stale_if_error_ms, 0);
}

/* RFC 9111 sections 4.2.4, 5.2.2.2, 5.2.2.4, 5.2.2.8 and 5.2.2.10. */
static void some_directives_forbid_stale_responses(void **state)
{
    const struct {
        struct field field;
        bool must, always;
    } cases[] = {
        {CC("max-age=5, stale-if-error=9, stale-while-revalidate=9, must-revalidate"), true, false},
        {CC("max-age=5, stale-if-error=9, stale-while-revalidate=9, proxy-revalidate"), true, false},
        {CC("s-maxage=5, stale-if-error=9, stale-while-revalidate=9"), true, false},
        {CC("s-maxage=0, stale-if-error=9, stale-while-revalidate=9"), true, false},
        {CC("max-age=5, stale-if-error=9, stale-while-revalidate=9, no-cache"), false, true},
    };
    const struct tier tier = {"t", 30 * SECOND, 4 * SECOND, 6 * SECOND, 0, NULL, 0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct lifetimes l = judge((struct freshness_facts){.tier = &tier}, (struct fields){&cases[i].field, 1});

        assert_int_equal(l.must_revalidate, cases[i].must);
        assert_int_equal(l.revalidate_always, cases[i].always);
        assert_int_equal(l.stale_while_revalidate_ms, 0);
        assert_int_equal(l.stale_if_error_ms, 0);
    }
    /* with field names no-cache is about those fields */
    assert_false(judge((struct freshness_facts){0}, FIELDS(CC("max-age=5, no-cache=\"a\""))).revalidate_always);
    assert_true(judge((struct freshness_facts){.user_scope = true}, FIELDS(CC("must-revalidate"))).must_revalidate);
}

static void jitter_only_shortens(void **state)
{
    const struct tier tier = {"t", 100 * SECOND, 4 * SECOND, -1, 10, NULL, 0};
    const struct tier whole = {"t", 100 * SECOND, -1, -1, 100, NULL, 0};
    const struct tier beyond = {"t", 100 * SECOND, -1, -1, 1000, NULL, 0};
    struct freshness_facts f = {.tier = &tier, .random = 0};

    (void)state;
    assert_int_equal(judge(f, FIELDS(DATE(T0))).fresh_ms, 100 * SECOND);
    f.random = UINT32_MAX / 2 + 1;
    assert_int_equal(judge(f, FIELDS(DATE(T0))).fresh_ms, 95 * SECOND);
    assert_int_equal(judge(f, FIELDS(DATE(T0), CC("max-age=10"))).fresh_ms, 9500);
    assert_int_equal(judge(f, FIELDS(DATE(T0), CC("max-age=10"))).stale_while_revalidate_ms, 4 * SECOND);
    f.random = UINT32_MAX;
    assert_in_range(judge(f, FIELDS(DATE(T0))).fresh_ms, 90 * SECOND, 90 * SECOND + 1);
    assert_int_equal(judge(f, FIELDS(CC("max-age=0"))).fresh_ms, 0);
    f.tier = &whole;
    assert_in_range(judge(f, FIELDS(DATE(T0))).fresh_ms, 0, 1);
    f.tier = &beyond;
    assert_in_range(judge(f, FIELDS(DATE(T0))).fresh_ms, 0, 1);
    assert_in_range(judge(f, FIELDS(CC("max-age=99999999999"))).fresh_ms, 0, 1000);
}

/* RFC 9111 section 4.2.3. */
static void initial_age_is_the_greater_of_apparent_and_corrected(void **state)
{
    struct freshness_facts slow = {.response_delay_ms = 300};

    (void)state;
    assert_int_equal(initial_ms(FIELDS(DATE(T0))), 0);
    assert_int_equal(initial_ms(FIELDS(DATE(T0_MINUS_7))), 7 * SECOND);
    assert_int_equal(initial_ms(FIELDS(DATE(T0_PLUS_10))), 0);
    assert_int_equal(initial_ms(FIELDS(AGE("5"))), 5 * SECOND);
    assert_int_equal(initial_ms(FIELDS(DATE(T0_MINUS_7), AGE("5"))), 7 * SECOND);
    assert_int_equal(judge(slow, FIELDS(DATE(T0))).initial_age_ms, 300);
    assert_int_equal(judge(slow, FIELDS(DATE(T0_MINUS_7), AGE("7"))).initial_age_ms, 7300);
    slow.response_delay_ms = -5;
    assert_int_equal(judge(slow, FIELDS(DATE(T0))).initial_age_ms, 0);
}

/* RFC 9111 section 5.1, which would not look beyond a first member that cannot be read. */
static void the_first_readable_age_counts(void **state)
{
    (void)state;
    assert_int_equal(initial_ms(FIELDS(AGE("7200, 0"))), 7200 * SECOND);
    assert_int_equal(initial_ms(FIELDS(AGE("0, 7200"))), 0);
    assert_int_equal(initial_ms(FIELDS(AGE("7200"), AGE("0"))), 7200 * SECOND);
    assert_int_equal(initial_ms(FIELDS(AGE("0"), AGE("7200"))), 0);
    assert_int_equal(initial_ms(FIELDS(AGE("abc"))), 0);
    assert_int_equal(initial_ms(FIELDS(AGE("abc, 5"))), 5 * SECOND);
    assert_int_equal(initial_ms(FIELDS(AGE("abc"), AGE("6"))), 6 * SECOND);
    assert_int_equal(initial_ms(FIELDS(AGE("-7200"))), 0);
    assert_int_equal(initial_ms(FIELDS(AGE("7200.0"))), 0);
    assert_int_equal(initial_ms(FIELDS(AGE("7200;foo=bar"))), 0);
    assert_int_equal(initial_ms(FIELDS(AGE(""))), 0);
    assert_int_equal(initial_ms(FIELDS(AGE(","))), 0);
    assert_int_equal(initial_ms(FIELDS(AGE("2147483647"))), INT64_C(2147483647) * SECOND);
    assert_int_equal(initial_ms(FIELDS(AGE("2147483649"))), DELTA_SECONDS_MAX * SECOND);
    assert_int_equal(initial_ms(FIELDS(AGE("99999999999999999999999999"))), DELTA_SECONDS_MAX * SECOND);
}

/* RFC 9111 section 4.2.3. */
static void current_age_grows_with_residence_and_is_never_negative(void **state)
{
    const struct lifetimes l = {.initial_age_ms = 700};

    (void)state;
    assert_int_equal(freshness_age_ms(&l, (struct mono_ms){5000}, (struct mono_ms){5000}), 700);
    assert_int_equal(freshness_age_ms(&l, (struct mono_ms){5000}, (struct mono_ms){6001}), 1701);
    assert_int_equal(freshness_age_ms(&l, (struct mono_ms){5000}, (struct mono_ms){4000}), 700);
}

/* RFC 9111 section 4.2, RFC 5861 section 3; must-revalidate and no-cache: RFC 9111 sections 5.2.2.2 and 5.2.2.4. */
static void reuse_on_both_sides_of_each_boundary(void **state)
{
    struct lifetimes l = {.fresh_ms = 1000, .stale_while_revalidate_ms = 500};

    (void)state;
    assert_int_equal(freshness_reuse(&l, 0), REUSE_FRESH);
    assert_int_equal(freshness_reuse(&l, 999), REUSE_FRESH);
    assert_int_equal(freshness_reuse(&l, 1000), REUSE_STALE_WHILE_REVALIDATE);
    assert_int_equal(freshness_reuse(&l, 1499), REUSE_STALE_WHILE_REVALIDATE);
    assert_int_equal(freshness_reuse(&l, 1500), REUSE_VALIDATE);
    l.must_revalidate = true;
    assert_int_equal(freshness_reuse(&l, 999), REUSE_FRESH);
    assert_int_equal(freshness_reuse(&l, 1000), REUSE_VALIDATE);
    l.revalidate_always = true;
    assert_int_equal(freshness_reuse(&l, 0), REUSE_VALIDATE);
}

/* RFC 5861 section 4, RFC 9111 section 4.2.4. */
static void stale_if_error_on_both_sides_of_its_end(void **state)
{
    struct lifetimes l = {.fresh_ms = 1000, .stale_if_error_ms = 500};

    (void)state;
    assert_true(freshness_stale_if_error(&l, 0));
    assert_true(freshness_stale_if_error(&l, 1499));
    assert_false(freshness_stale_if_error(&l, 1500));
    l.must_revalidate = true;
    assert_false(freshness_stale_if_error(&l, 1200));
    l.must_revalidate = false;
    l.revalidate_always = true;
    assert_false(freshness_stale_if_error(&l, 0));
}

static void useful_until_the_longer_window_ends(void **state)
{
    struct lifetimes l = {.fresh_ms = 1000, .stale_while_revalidate_ms = 500, .stale_if_error_ms = 700};

    (void)state;
    assert_int_equal(freshness_useful_ms(&l), 1700);
    l.stale_while_revalidate_ms = 800;
    assert_int_equal(freshness_useful_ms(&l), 1800);
    l.must_revalidate = true;
    assert_int_equal(freshness_useful_ms(&l), 1000);
    l.revalidate_always = true;
    assert_int_equal(freshness_useful_ms(&l), 0);
}

/* RFC 9111 sections 5.1 and 1.2.2. */
static void the_age_field_is_whole_seconds_within_bounds(void **state)
{
    (void)state;
    assert_int_equal(freshness_age_field(-1), 0);
    assert_int_equal(freshness_age_field(INT64_MIN), 0);
    assert_int_equal(freshness_age_field(999), 0);
    assert_int_equal(freshness_age_field(1000), 1);
    assert_int_equal(freshness_age_field(DELTA_SECONDS_MAX * 1000 - 1), DELTA_SECONDS_MAX - 1);
    assert_int_equal(freshness_age_field(DELTA_SECONDS_MAX * 1000), DELTA_SECONDS_MAX);
    assert_int_equal(freshness_age_field(INT64_MAX), DELTA_SECONDS_MAX);
}

/* Nothing a tier holds may overflow. */
static void absurd_tiers_are_held_to_the_greatest_duration(void **state)
{
    const struct tier tier = {"t", INT64_MAX, INT64_MAX, INT64_MAX, 100, NULL, 0};
    struct freshness_facts f = {.tier = &tier, .response_delay_ms = INT64_MAX};
    struct lifetimes l = judge(f, FIELDS(DATE(T0), AGE("99999999999")));

    (void)state;
    assert_int_equal(l.fresh_ms, 3 * DELTA_SECONDS_MAX * SECOND);
    assert_int_equal(freshness_useful_ms(&l), 4 * DELTA_SECONDS_MAX * SECOND);
}

/* XFetch: the chance that it is time is exp(-left / fetch), for each use alone. */
static void early_refresh_grows_likely_towards_the_end(void **state)
{
    uint64_t random = 1;
    unsigned early = 0, runs = 100000;

    (void)state;
    assert_true(freshness_refresh_early(0, 100, UINT64_MAX));
    assert_false(freshness_refresh_early(1, 100, UINT64_MAX));
    assert_true(freshness_refresh_early(3600, 100, 0));
    assert_false(freshness_refresh_early(4001, 100, 0));
    for (unsigned i = 0; i < runs; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        early += freshness_refresh_early(100, 100, random);
    }
    assert_in_range(early, (unsigned)(0.36 * runs), (unsigned)(0.376 * runs)); /* 1 / e */
}

static void each_rule_has_a_name(void **state)
{
    (void)state;
    for (int rule = LIFETIME_NONE; rule <= LIFETIME_HEURISTIC; rule++)
        assert_true(strlen(freshness_rule_word((enum lifetime_rule)rule)) > 0);
    assert_string_not_equal(freshness_rule_word(LIFETIME_TIER), freshness_rule_word(LIFETIME_TIER_STATUS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_said_is_no_time),
        cmocka_unit_test(the_order_of_what_an_origin_states),
        cmocka_unit_test(s_maxage_does_not_bind_a_users_own_cache),
        cmocka_unit_test(expires_counts_from_date),
        cmocka_unit_test(an_unreadable_expires_is_already_stale),
        cmocka_unit_test(heuristics_take_a_tenth_and_at_most_a_day),
        cmocka_unit_test(heuristics_are_for_some_statuses),
        cmocka_unit_test(a_tier_speaks_where_the_origin_does_not),
        cmocka_unit_test(a_tiers_plain_lifetime_is_not_for_errors),
        cmocka_unit_test(a_tiers_entry_for_a_status_comes_first_and_the_narrowest_wins),
        cmocka_unit_test(a_tiers_lifetime_counts_from_receipt),
        cmocka_unit_test(ignoring_the_origin_the_tier_alone_decides),
        cmocka_unit_test(stale_windows_are_the_origins_else_the_tiers),
        cmocka_unit_test(some_directives_forbid_stale_responses),
        cmocka_unit_test(jitter_only_shortens),
        cmocka_unit_test(initial_age_is_the_greater_of_apparent_and_corrected),
        cmocka_unit_test(the_first_readable_age_counts),
        cmocka_unit_test(current_age_grows_with_residence_and_is_never_negative),
        cmocka_unit_test(reuse_on_both_sides_of_each_boundary),
        cmocka_unit_test(stale_if_error_on_both_sides_of_its_end),
        cmocka_unit_test(useful_until_the_longer_window_ends),
        cmocka_unit_test(the_age_field_is_whole_seconds_within_bounds),
        cmocka_unit_test(absurd_tiers_are_held_to_the_greatest_duration),
        cmocka_unit_test(early_refresh_grows_likely_towards_the_end),
        cmocka_unit_test(each_rule_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
