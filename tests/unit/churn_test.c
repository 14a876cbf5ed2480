/* What a store really takes that has been full for long: sizes shift, and some of what is old stays in use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/stored_make.h"

enum {
    MIB = 1024 * 1024,
    HOT_EACH = 50,  /* 2 % of all */
    HOT_SHARE = 10, /* of the store, at most */
    HOT_MAX = 20000,
    ROUNDS = 20, /* the store is filled so often, twice for each of the phases */
    PHASES = 10, /* sizes shift so often meanwhile */
    LOOKS = 16,  /* at what is hot, and at what is taken, while it is filled once */
};

/* Sanitizers have memory of their own for each byte: what the store takes is not judged there. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const unsigned rounds = 2;
#else
static const unsigned rounds = ROUNDS;
#endif

static size_t resident(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    size_t all, resident;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%zu %zu", &all, &resident), 2);
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* Where there is the allocator that weir has: sanitizers have memory of their own for each byte. */
extern void MallocExtension_ReleaseToSystem(size_t bytes) __attribute__((weak));

struct sizes {
    double least, most;
    bool lengths_are_known;
};

struct churn {
    struct store *store;
    struct store_thread *t;
    const struct sizes *sizes;
    size_t limit, put, before, most_used, most_resident;
    int64_t ms;
    unsigned puts;
    uint32_t random;
    unsigned hot[HOT_MAX];
    size_t hots, hot_max, asked, lost;
};

static const char *path_of(unsigned n)
{
    static char path[32];

    snprintf(path, sizeof path, "/n/%u", n);
    return path;
}

/* Below 1. */
static double dice(struct churn *c)
{
    c->random = c->random * 1664525 + 1013904223;
    return (c->random >> 8) / (double)(1 << 24);
}

/* A quarter of any size, the others of those of this phase: all evenly by their orders of magnitude. */
static size_t next_size(struct churn *c)
{
    static const double at[PHASES] = {0.2, 0.8, 0.1, 0.5, 0.95, 0.3, 0.7, 0, 0.6, 0.4};
    double from = log(c->sizes->least), all = log(c->sizes->most) - from, wide = all * 0.4;
    unsigned phase = (unsigned)(c->put * PHASES / (c->limit * rounds)) % PHASES;

    return (size_t)exp(dice(c) < 0.25 ? from + all * dice(c) : from + (all - wide) * at[phase] + wide * dice(c));
}

static bool put(struct churn *c, size_t bytes)
{
    static const char piece[16 * 1024];
    struct stored_options o = options_of(c->store, path_of(c->puts));
    bool ok = true;

    o.content_length = c->sizes->lengths_are_known ? (int64_t)bytes : -1;
    o.useful_ms = INT64_MAX;
    struct stored *s = stored_create(c->t, &o, at_ms(c->ms));

    if (s == NULL)
        return false;
    for (size_t n; ok && bytes > 0; bytes -= n) {
        n = bytes < sizeof piece ? bytes : sizeof piece;
        ok = stored_append(c->t, s, (struct bytes){piece, n}, at_ms(c->ms));
    }
    stored_finish_body(s, ok ? BODY_COMPLETE : BODY_BROKEN);
    ok = ok && store_put(c->t, s, at_ms(c->ms));
    stored_release(s);
    return ok;
}

/* What is not there any more is replaced by something newer. */
static void use_hot(struct churn *c)
{
    for (size_t i = 0; i < c->hots; i++) {
        struct stored *s = acquire(c->t, c->store, path_of(c->hot[i]), at_ms(c->ms));

        c->asked++;
        if (s == NULL) {
            c->lost++;
            c->hot[i] = c->puts - 1;
        }
        stored_release(s);
    }
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void look(struct churn *c)
{
    use_hot(c);
    c->most_used = larger(c->most_used, used_bytes(c->store));
    if (c->put > c->limit * rounds / 3)
        c->most_resident = larger(c->most_resident, resident() > c->before ? resident() - c->before : 0);
    c->ms += 100; /* 10 looks a second: as much as a fast network brings */
    if (c->ms % 1000 == 0)
        store_trim(c->store);
    store_thread_poll(c->t);
}

static void add_hot(struct churn *c)
{
    if (c->hots < c->hot_max)
        c->hot[c->hots++] = c->puts;
    else
        c->hot[(size_t)(dice(c) * (double)c->hots)] = c->puts;
}

static void churn(struct churn *c)
{
    size_t looked = 0, refused = 0;

    while (c->put < c->limit * rounds) {
        size_t bytes = next_size(c);

        refused += !put(c, bytes);
        if (c->puts % HOT_EACH == 0)
            add_hot(c);
        c->puts++;
        c->put += bytes;
        if (c->put - looked > c->limit / LOOKS) {
            look(c);
            looked = c->put;
        }
    }
    assert_int_equal(refused, 0);
}

static size_t payload(struct churn *c)
{
    struct made_key m;
    size_t sum = 0;

    for (unsigned n = 0; n < c->puts; n++) {
        make_key(&m, path_of(n), NULL);
        struct stored *s = store_peek(c->t, store_hash(c->store, m.key.whole), m.key.whole);

        sum += s != NULL ? stored_length(s) : 0;
        stored_release(s);
    }
    return sum;
}

/* What is hot stays, there is room for what is there to be stored, and the process takes no more than 15 % beyond the
 * limit. */
static void churn_with(size_t limit, const struct sizes *sizes, unsigned percent_of_payload)
{
    static struct churn c;
    double of = (double)limit / 100;

    c = (struct churn){.random = 1, .sizes = sizes, .limit = limit};
    c.hot_max = (size_t)((double)limit / HOT_SHARE / sqrt(sizes->least * sizes->most));
    if (c.hot_max > HOT_MAX)
        c.hot_max = HOT_MAX;
    c.before = resident();
    c.store =
        store_create(&(struct store_options){.bytes_max = limit, .threads = 1, .seed = 7, .eviction = STORE_SIEVE});
    c.t = store_thread_create(c.store);
    churn(&c);
    look(&c);
    size_t stored = payload(&c);

    print_message("of %zu MiB: %.1f %% resident, %.1f %% used, %.1f %% bodies; %zu of %zu uses lost\n", limit / MIB,
                  (double)c.most_resident / of, (double)c.most_used / of, (double)stored / of, c.lost, c.asked);
    assert_true(used_bytes(c.store) <= limit);
    assert_true(c.most_used <= limit + limit / 50);
    assert_true(c.lost <= c.asked / 100);
    assert_true(stored >= limit / 100 * percent_of_payload);
    if (MallocExtension_ReleaseToSystem != NULL)
        assert_true(c.most_resident <= limit + limit * 15 / 100);
    store_thread_destroy(c.t);
    store_destroy(c.store);
}

static void small_ones(void **state)
{
    (void)state;
    churn_with(64 * MIB, &(struct sizes){300, 5000, true}, 70);
}

static void small_ones_without_lengths(void **state)
{
    (void)state;
    churn_with(64 * MIB, &(struct sizes){300, 5000, false}, 50);
}

static void middle_ones(void **state)
{
    (void)state;
    churn_with(64 * MIB, &(struct sizes){8000, 65000, true}, 70);
}

static void all_sizes(void **state)
{
    (void)state;
    churn_with(64 * MIB, &(struct sizes){1024, MIB, true}, 70);
}

static void all_sizes_without_lengths(void **state)
{
    (void)state;
    churn_with(64 * MIB, &(struct sizes){1024, MIB, false}, 55);
}

static void all_sizes_in_a_large_store(void **state)
{
    (void)state;
    churn_with(256 * MIB, &(struct sizes){1024, MIB, true}, 70);
}

static void a_small_store(void **state)
{
    (void)state;
    churn_with(8 * MIB, &(struct sizes){300, 5000, true}, 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_store),
        cmocka_unit_test(small_ones),
        cmocka_unit_test(small_ones_without_lengths),
        cmocka_unit_test(middle_ones),
        cmocka_unit_test(all_sizes),
        cmocka_unit_test(all_sizes_without_lengths),
        cmocka_unit_test(all_sizes_in_a_large_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
