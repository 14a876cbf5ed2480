/* Which header fields repeat, as it is learned from what is stored. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdio.h>
#include <string.h>

#include "cache/habits.h"

enum { ROUNDS = 200, NAMES = 24 };

static bool is_own(struct habits *h, const char *name, const char *value)
{
    return habits_is_own(h, bytes_of(name), bytes_of(value));
}

/* However many other fields come between, and whatever the seed. */
static void what_is_new_each_time_is_the_responses_own(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct habits h;
        unsigned own = 0;

        memset(&h, 0, sizeof h);
        h.seed = seed;
        for (unsigned i = 0; i < ROUNDS; i++) {
            char value[32];

            snprintf(value, sizeof value, "0.%u", i);
            own += is_own(&h, "x-runtime", value);
            for (unsigned j = 0; j < NAMES; j++) {
                char name[32];

                snprintf(name, sizeof name, "x-constant-%u", j);
                is_own(&h, name, "same");
            }
        }
        assert_true(own >= ROUNDS * 8 / 10);
    }
}

static void what_repeats_is_shared(void **state)
{
    struct habits h;
    unsigned own = 0;

    (void)state;
    memset(&h, 0, sizeof h);
    for (unsigned i = 0; i < ROUNDS; i++) {
        own += is_own(&h, "cache-control", i % 2 ? "max-age=60" : "max-age=300");
        own += is_own(&h, "server", "nginx");
    }
    assert_int_equal(own, 0);
    for (unsigned i = 0; i < ROUNDS; i++)
        own += is_own(&h, "last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_in_range(own, 1, ROUNDS / 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_new_each_time_is_the_responses_own),
        cmocka_unit_test(what_repeats_is_shared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
