/*
 * A server that fails too often is left alone, tried by one exchange at a time, and as good as any other once that
 * succeeds. Time is an argument here, so each boundary is met to the millisecond.
 */
#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>

#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "policies/breaker.h"

static const struct breaker_rules RULES = {.minimum = 20, .errors_percent = 50, .window_ms = 10000, .open_ms = 5000};

/* A whole number of parts of the window, so that the first one begins with it. */
static const struct mono_ms T0 = {1000000};

static struct mono_ms after(int64_t ms)
{
    return (struct mono_ms){T0.ms + ms};
}

static struct breaker begun(void)
{
    struct breaker b = {.era = 0};

    breaker_reset(&b);
    return b;
}

static enum breaker_change exchange(struct breaker *b, const struct breaker_rules *rules, enum breaker_verdict verdict,
                                    struct mono_ms now)
{
    struct breaker_pass pass;

    assert_true(breaker_admits(b, now));
    pass = breaker_begin(b, now);
    return breaker_end(b, rules, &pass, verdict, now).change;
}

/* None of them changes anything. */
static void exchanges(struct breaker *b, const struct breaker_rules *rules, unsigned n, enum breaker_verdict verdict,
                      struct mono_ms now)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(exchange(b, rules, verdict, now), BREAKER_UNCHANGED);
}

static struct breaker opened(void)
{
    struct breaker b = begun();

    exchanges(&b, &RULES, 19, BREAKER_FAILURE, T0);
    assert_int_equal(exchange(&b, &RULES, BREAKER_FAILURE, T0), BREAKER_OPENS);
    return b;
}

/* Closed */

static void it_opens_at_the_minimum_and_not_below(void **state)
{
    struct breaker b = begun();
    struct breaker_pass pass;

    (void)state;
    exchanges(&b, &RULES, 19, BREAKER_FAILURE, T0);
    assert_int_equal(breaker_state(&b, T0), BREAKER_CLOSED);
    pass = breaker_begin(&b, T0);
    struct breaker_news news = breaker_end(&b, &RULES, &pass, BREAKER_FAILURE, T0);
    assert_int_equal(news.change, BREAKER_OPENS);
    assert_int_equal(news.counted.all, 20);
    assert_int_equal(news.counted.failed, 20);
    assert_int_equal(breaker_state(&b, T0), BREAKER_OPEN);

    struct breaker one = begun();
    struct breaker_rules first = RULES;
    first.minimum = 1;
    assert_int_equal(exchange(&one, &first, BREAKER_FAILURE, T0), BREAKER_OPENS);
}

/* The last of `all` is a failure, all that count before it do not suffice. */
static bool opens_at(unsigned failed, unsigned all, unsigned errors_percent)
{
    struct breaker_rules rules = RULES;
    struct breaker b = begun();

    rules.minimum = all;
    rules.errors_percent = errors_percent;
    exchanges(&b, &rules, all - failed, BREAKER_SUCCESS, T0);
    exchanges(&b, &rules, failed - 1, BREAKER_FAILURE, T0);
    return exchange(&b, &rules, BREAKER_FAILURE, T0) == BREAKER_OPENS;
}

static void it_opens_at_the_share_of_errors_and_not_below(void **state)
{
    (void)state;
    assert_true(opens_at(10, 20, 50));
    assert_false(opens_at(9, 20, 50));
    assert_true(opens_at(1, 3, 33));
    assert_false(opens_at(1, 3, 34));
    assert_true(opens_at(1, 100, 1));
    assert_false(opens_at(1, 101, 1));
    assert_true(opens_at(100, 100, 100));
    assert_false(opens_at(99, 100, 100));
    assert_true(opens_at(1000000, 1000000, 100));
}

static void a_success_may_be_the_one_that_makes_the_minimum(void **state)
{
    struct breaker b = begun();

    (void)state;
    exchanges(&b, &RULES, 10, BREAKER_FAILURE, T0);
    exchanges(&b, &RULES, 9, BREAKER_SUCCESS, T0);
    assert_int_equal(exchange(&b, &RULES, BREAKER_SUCCESS, T0), BREAKER_OPENS);
}

static void successes_dilute_failures(void **state)
{
    struct breaker b = begun();

    (void)state;
    exchanges(&b, &RULES, 1000, BREAKER_SUCCESS, T0);
    exchanges(&b, &RULES, 999, BREAKER_FAILURE, T0);
    assert_int_equal(exchange(&b, &RULES, BREAKER_FAILURE, T0), BREAKER_OPENS);
}

static void what_ends_without_a_verdict_does_not_count(void **state)
{
    struct breaker b = begun();

    (void)state;
    exchanges(&b, &RULES, 19, BREAKER_FAILURE, T0);
    exchanges(&b, &RULES, 100, BREAKER_NO_VERDICT, T0);
    assert_int_equal(exchange(&b, &RULES, BREAKER_FAILURE, T0), BREAKER_OPENS);
}

/* The window */

static enum breaker_change twentieth_after(int64_t ms)
{
    struct breaker b = begun();

    exchanges(&b, &RULES, 19, BREAKER_FAILURE, T0);
    return exchange(&b, &RULES, BREAKER_FAILURE, after(ms));
}

static void what_has_left_the_window_counts_no_more(void **state)
{
    (void)state;
    assert_int_equal(twentieth_after(9999), BREAKER_OPENS);
    assert_int_equal(twentieth_after(10000), BREAKER_UNCHANGED);
    assert_int_equal(twentieth_after(1000000), BREAKER_UNCHANGED);
}

/* A tenth at a time: nineteen in the first part, then one in each of the others. */
static void the_window_forgets_part_by_part(void **state)
{
    struct breaker_rules rules = RULES;
    struct breaker b = begun();

    (void)state;
    rules.minimum = 29;
    exchanges(&b, &rules, 19, BREAKER_FAILURE, after(999));
    for (int i = 1; i < 10; i++)
        exchanges(&b, &rules, 1, BREAKER_FAILURE, after(i * 1000));
    exchanges(&b, &rules, 19, BREAKER_FAILURE, after(10000)); /* 28: nine and these */
    assert_int_equal(exchange(&b, &rules, BREAKER_FAILURE, after(10999)), BREAKER_OPENS);
}

static void a_window_that_tenths_do_not_divide_is_a_little_longer(void **state)
{
    struct breaker_rules rules = RULES;
    struct breaker b = begun();

    (void)state;
    rules.window_ms = 101; /* parts of 11 ms */
    rules.minimum = 2;
    int64_t begin = (T0.ms + 10) / 11 * 11 - T0.ms;
    exchanges(&b, &rules, 1, BREAKER_FAILURE, after(begin));
    struct breaker other = b;
    assert_int_equal(exchange(&b, &rules, BREAKER_FAILURE, after(begin + 109)), BREAKER_OPENS);
    assert_int_equal(exchange(&other, &rules, BREAKER_FAILURE, after(begin + 110)), BREAKER_UNCHANGED);
}

static void a_time_from_before_counts_as_the_newest(void **state)
{
    struct breaker b = begun();

    (void)state;
    exchanges(&b, &RULES, 1, BREAKER_FAILURE, after(5000));
    exchanges(&b, &RULES, 18, BREAKER_FAILURE, T0); /* of a thread whose clock is behind */
    assert_int_equal(exchange(&b, &RULES, BREAKER_FAILURE, after(14999)), BREAKER_OPENS);
}

/* Open and half-open */

static void it_stays_open_for_its_time_and_no_longer(void **state)
{
    struct breaker b = opened();

    (void)state;
    assert_false(breaker_admits(&b, T0));
    assert_false(breaker_admits(&b, after(4999)));
    assert_int_equal(breaker_state(&b, after(4999)), BREAKER_OPEN);
    assert_int_equal(breaker_wait_ms(&b, T0), 5000);
    assert_int_equal(breaker_wait_ms(&b, after(4999)), 1);
    assert_true(breaker_admits(&b, after(5000)));
    assert_int_equal(breaker_state(&b, after(5000)), BREAKER_HALF_OPEN);
    assert_int_equal(breaker_wait_ms(&b, after(5000)), 0);
}

static void one_probe_at_a_time(void **state)
{
    struct breaker b = opened();
    struct breaker_pass probe = breaker_begin(&b, after(5000));

    (void)state;
    assert_true(probe.probe);
    assert_false(breaker_admits(&b, after(5000)));
    assert_false(breaker_admits(&b, after(5000000))); /* however long it takes */
    assert_int_equal(breaker_state(&b, after(5000)), BREAKER_HALF_OPEN);
    assert_int_equal(breaker_wait_ms(&b, after(5000)), 0);
}

static void a_probe_that_succeeds_closes_it_with_nothing_counted(void **state)
{
    struct breaker b = opened();

    (void)state;
    assert_int_equal(exchange(&b, &RULES, BREAKER_SUCCESS, after(5000)), BREAKER_CLOSES);
    assert_int_equal(breaker_state(&b, after(5000)), BREAKER_CLOSED);
    exchanges(&b, &RULES, 19, BREAKER_FAILURE, after(5000));
    assert_int_equal(exchange(&b, &RULES, BREAKER_FAILURE, after(5000)), BREAKER_OPENS);
}

static void a_probe_that_fails_opens_it_again_for_as_long(void **state)
{
    struct breaker b = opened();
    struct breaker_pass probe = breaker_begin(&b, after(5000));

    (void)state;
    assert_int_equal(breaker_end(&b, &RULES, &probe, BREAKER_FAILURE, after(7000)).change, BREAKER_OPENS_AGAIN);
    assert_int_equal(breaker_state(&b, after(7000)), BREAKER_OPEN);
    assert_false(breaker_admits(&b, after(11999)));
    assert_true(breaker_admits(&b, after(12000)));
}

static void a_probe_without_a_verdict_makes_place_for_the_next(void **state)
{
    struct breaker b = opened();

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(exchange(&b, &RULES, BREAKER_NO_VERDICT, after(5000)), BREAKER_UNCHANGED);
    assert_int_equal(breaker_state(&b, after(5000)), BREAKER_HALF_OPEN);
    assert_true(breaker_admits(&b, after(5000)));
    assert_int_equal(exchange(&b, &RULES, BREAKER_SUCCESS, after(5000)), BREAKER_CLOSES);
}

/* Verdicts that come late, or twice */

static void what_began_before_it_opened_decides_nothing_afterwards(void **state)
{
    struct breaker b = begun();
    struct breaker_pass good = breaker_begin(&b, T0), bad = good, later = good;

    (void)state;
    exchanges(&b, &RULES, 19, BREAKER_FAILURE, T0);
    exchange(&b, &RULES, BREAKER_FAILURE, T0);
    breaker_end(&b, &RULES, &good, BREAKER_SUCCESS, after(1000)); /* while it is open */
    assert_int_equal(breaker_state(&b, after(1000)), BREAKER_OPEN);
    struct breaker_pass probe = breaker_begin(&b, after(5000));
    breaker_end(&b, &RULES, &bad, BREAKER_FAILURE, after(6000)); /* while there is a probe */
    assert_false(breaker_admits(&b, after(6000)));
    assert_int_equal(breaker_state(&b, after(6000)), BREAKER_HALF_OPEN);
    assert_int_equal(breaker_end(&b, &RULES, &probe, BREAKER_SUCCESS, after(6000)).change, BREAKER_CLOSES);
    breaker_end(&b, &RULES, &later, BREAKER_FAILURE, after(6000)); /* once it is closed */
    exchanges(&b, &RULES, 19, BREAKER_FAILURE, after(6000));
}

static void a_verdict_counts_once(void **state)
{
    struct breaker b = begun();
    struct breaker_pass pass = breaker_begin(&b, T0);

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_int_equal(breaker_end(&b, &RULES, &pass, BREAKER_FAILURE, T0).change, BREAKER_UNCHANGED);
    exchanges(&b, &RULES, 18, BREAKER_FAILURE, T0);
    assert_int_equal(exchange(&b, &RULES, BREAKER_FAILURE, T0), BREAKER_OPENS);
}

static void a_reset_closes_it_and_voids_what_is_under_way(void **state)
{
    struct breaker b = opened();
    struct breaker_pass probe = breaker_begin(&b, after(5000));

    (void)state;
    breaker_reset(&b);
    assert_true(breaker_admits(&b, after(5000)));
    assert_int_equal(breaker_end(&b, &RULES, &probe, BREAKER_FAILURE, after(5000)).change, BREAKER_UNCHANGED);
    exchanges(&b, &RULES, 19, BREAKER_FAILURE, after(5000));
}

static void rules_are_the_same_if_all_of_them_are(void **state)
{
    struct breaker_rules other = RULES;

    (void)state;
    assert_true(breaker_rules_same(&RULES, &other));
    other.minimum++;
    assert_false(breaker_rules_same(&RULES, &other));
    other = RULES;
    other.errors_percent++;
    assert_false(breaker_rules_same(&RULES, &other));
    other = RULES;
    other.window_ms++;
    assert_false(breaker_rules_same(&RULES, &other));
    other = RULES;
    other.open_ms++;
    assert_false(breaker_rules_same(&RULES, &other));
}

/* The window against one that remembers every exchange by its time */

enum { HISTORY = 4000 };

struct history {
    int64_t part[HISTORY];
    bool failed[HISTORY];
    unsigned n;
};

static struct breaker_count remembered(const struct history *h, int64_t part)
{
    struct breaker_count count = {0, 0};

    for (unsigned i = 0; i < h->n; i++) {
        bool inside = h->part[i] > part - BREAKER_PARTS;
        count.all += inside;
        count.failed += inside && h->failed[i];
    }
    return count;
}

static void the_window_is_what_one_that_remembers_everything_says(void **state)
{
    struct breaker_rules rules = {.minimum = 12, .errors_percent = 60, .window_ms = 1000, .open_ms = 1};
    static struct history h;
    struct mono_ms now = T0;
    struct breaker b = begun();
    unsigned opened_n = 0;

    (void)state;
    srand(1);
    for (int i = 0; i < HISTORY; i++) {
        now.ms += rand() % (rand() % 50 == 0 ? 1500 : 120);
        bool failed = rand() % 100 < 55;
        h.part[h.n] = now.ms / 100;
        h.failed[h.n++] = failed;
        struct breaker_count count = remembered(&h, now.ms / 100);
        bool opens = count.all >= rules.minimum && count.failed * 100 >= count.all * rules.errors_percent;

        enum breaker_change change = exchange(&b, &rules, failed ? BREAKER_FAILURE : BREAKER_SUCCESS, now);
        assert_int_equal(change, opens ? BREAKER_OPENS : BREAKER_UNCHANGED);
        if (!opens)
            continue;
        opened_n++;
        breaker_reset(&b);
        h.n = 0;
    }
    assert_in_range(opened_n, 20, 400); /* both ways were gone often enough */
}

/* A server that breaks and is mended, asked all the time, on a clock of its own */

enum { CLIENTS = 30, TAKES_MS = 40 };

struct world {
    struct breaker breaker;
    struct mono_ms now;
    bool broken;
    struct {
        bool on;
        struct breaker_pass pass;
        int64_t end_ms;
    } clients[CLIENTS];
    unsigned asked, refused, probes; /* probes: in the air */
};

static void end_exchange(struct world *w, int i)
{
    bool gone = rand() % 20 == 0; /* the client has left */
    enum breaker_verdict verdict = gone ? BREAKER_NO_VERDICT : w->broken ? BREAKER_FAILURE : BREAKER_SUCCESS;

    w->clients[i].on = false;
    w->probes -= w->clients[i].pass.probe;
    breaker_end(&w->breaker, &RULES, &w->clients[i].pass, verdict, w->now);
}

static void begin_exchange(struct world *w, int i)
{
    if (!breaker_admits(&w->breaker, w->now)) {
        w->refused++;
        return;
    }
    w->asked++;
    w->clients[i].on = true;
    w->clients[i].pass = breaker_begin(&w->breaker, w->now);
    w->clients[i].end_ms = w->now.ms + TAKES_MS / 2 + rand() % TAKES_MS;
    w->probes += w->clients[i].pass.probe;
    assert_in_range(w->probes, 0, 1);
}

static void pass_time(struct world *w, int64_t ms)
{
    for (int64_t end_ms = w->now.ms + ms; w->now.ms < end_ms; w->now.ms++)
        for (int i = 0; i < CLIENTS; i++) {
            if (w->clients[i].on && w->clients[i].end_ms <= w->now.ms)
                end_exchange(w, i);
            else if (!w->clients[i].on && rand() % 10 == 0)
                begin_exchange(w, i);
        }
}

static void pass_time_until(struct world *w, enum breaker_state state, int64_t at_most_ms)
{
    int64_t end_ms = w->now.ms + at_most_ms;

    while (breaker_state(&w->breaker, w->now) != state) {
        assert_true(w->now.ms < end_ms);
        pass_time(w, 1);
    }
}

/* The worst: the probe under way fails yet, then `open` has to pass, and each of a few probes loses its client. */
enum { RECOVERY_MS = 5000 + 10 * 2 * TAKES_MS };

static void it_recovers_from_each_state(void **state)
{
    struct world w = {.breaker = begun(), .now = T0};

    (void)state;
    srand(2);
    for (int round = 0; round < 50; round++) {
        enum breaker_state mended_in = (enum breaker_state)(round % 3);

        w.broken = false;
        pass_time_until(&w, BREAKER_CLOSED, RECOVERY_MS);
        w.refused = 0;
        pass_time(&w, 2000);
        assert_int_equal(w.refused, 0); /* nobody is refused by a server that works */
        w.broken = true;
        if (mended_in == BREAKER_CLOSED) {
            pass_time(&w, 5);
        } else {
            pass_time_until(&w, BREAKER_OPEN, 10000);
            if (mended_in == BREAKER_HALF_OPEN)
                pass_time_until(&w, BREAKER_HALF_OPEN, 5000);
        }
    }
}

static void a_server_that_stays_broken_is_asked_once_in_a_while(void **state)
{
    struct world w = {.breaker = begun(), .now = T0, .broken = true};

    (void)state;
    srand(3);
    pass_time_until(&w, BREAKER_OPEN, 10000);
    pass_time(&w, 2 * TAKES_MS); /* what was under way */
    w.asked = w.refused = 0;
    pass_time(&w, 60000);
    assert_in_range(w.asked, 11, 20); /* once each 5 s, and again where the client left */
    assert_true(w.refused > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_opens_at_the_minimum_and_not_below),
        cmocka_unit_test(it_opens_at_the_share_of_errors_and_not_below),
        cmocka_unit_test(a_success_may_be_the_one_that_makes_the_minimum),
        cmocka_unit_test(successes_dilute_failures),
        cmocka_unit_test(what_ends_without_a_verdict_does_not_count),
        cmocka_unit_test(what_has_left_the_window_counts_no_more),
        cmocka_unit_test(the_window_forgets_part_by_part),
        cmocka_unit_test(a_window_that_tenths_do_not_divide_is_a_little_longer),
        cmocka_unit_test(a_time_from_before_counts_as_the_newest),
        cmocka_unit_test(it_stays_open_for_its_time_and_no_longer),
        cmocka_unit_test(one_probe_at_a_time),
        cmocka_unit_test(a_probe_that_succeeds_closes_it_with_nothing_counted),
        cmocka_unit_test(a_probe_that_fails_opens_it_again_for_as_long),
        cmocka_unit_test(a_probe_without_a_verdict_makes_place_for_the_next),
        cmocka_unit_test(what_began_before_it_opened_decides_nothing_afterwards),
        cmocka_unit_test(a_verdict_counts_once),
        cmocka_unit_test(a_reset_closes_it_and_voids_what_is_under_way),
        cmocka_unit_test(rules_are_the_same_if_all_of_them_are),
        cmocka_unit_test(the_window_is_what_one_that_remembers_everything_says),
        cmocka_unit_test(it_recovers_from_each_state),
        cmocka_unit_test(a_server_that_stays_broken_is_asked_once_in_a_while),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
