/* Runs of pages: nobody gets what another has, and what is free takes no memory but for a little. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cache/alloc.h"
#include "cache/pages.h"

enum { KIB = 1024, KEEP = 512 * KIB };

struct taken {
    unsigned char *p;
    size_t bytes;
};

static uint32_t random_of(uint32_t *x)
{
    *x = *x * 1664525 + 1013904223;
    return *x >> 8;
}

static void take(struct pages *pages, struct taken *t, size_t bytes, unsigned char mark)
{
    t->p = pages_alloc(pages, bytes);
    t->bytes = bytes;
    assert_non_null(t->p);
    assert_int_equal((uintptr_t)t->p % ((size_t)pages->unit * PAGE_BYTES), 0);
    memset(t->p, mark, bytes);
}

static void give(struct pages *pages, struct taken *t, unsigned char mark)
{
    for (size_t i = 0; i < t->bytes; i += 509)
        assert_int_equal(t->p[i], mark);
    assert_int_equal(t->p[t->bytes - 1], mark);
    pages_free(pages, t->p);
    t->p = NULL;
}

/* As the system says. */
static size_t resident(const struct pages *pages)
{
    static unsigned char in[PAGES_REGION / PAGE_BYTES];
    size_t n = 0;

    for (uint32_t i = 0; i < pages->nregions; i++) {
        assert_int_equal(mincore(pages->regions[i], PAGES_REGION, in), 0);
        for (size_t k = 0; k < sizeof in; k++)
            n += in[k] & 1;
    }
    return n * PAGE_BYTES;
}

/* Runs of all sizes come and go, ever more of them and then fewer. */
static void runs_do_not_overlap_and_what_is_free_is_given_back(void **state)
{
    enum { N = 600, ROUNDS = 60000, HEADS = 64 * KIB };
    static struct taken v[N];
    struct pages pages;
    uint32_t x = 1;
    size_t used = 0;

    (void)state;
    pages_init(&pages, PAGE_BYTES, KEEP);
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned at = random_of(&x) % N;
        size_t bytes = 1 + (random_of(&x) % (random_of(&x) % 4 == 0 ? PAGES_MAX * PAGE_BYTES : 40 * KIB));

        if (v[at].p != NULL) {
            used -= pages_cost_of(v[at].bytes);
            give(&pages, &v[at], (unsigned char)at);
        }
        if (at % 8 >= i * 8 / ROUNDS) {
            take(&pages, &v[at], bytes, (unsigned char)at);
            used += pages_cost_of(bytes);
        }
        if (i % 1000 == 0)
            assert_true(resident(&pages) <= used + KEEP + pages.nregions * (size_t)HEADS);
    }
    for (unsigned i = 0; i < N; i++)
        if (v[i].p != NULL)
            give(&pages, &v[i], (unsigned char)i);
    assert_true(resident(&pages) <= KEEP + pages.nregions * (size_t)HEADS);
    pages_fini(&pages);
}

static void runs_of_units_are_aligned(void **state)
{
    enum { UNIT = 128 * KIB, N = 300 };
    static struct taken v[N];
    struct pages pages;
    uint32_t x = 1;

    (void)state;
    pages_init(&pages, UNIT, KEEP);
    for (unsigned i = 0; i < 5000; i++) {
        unsigned at = random_of(&x) % N;

        if (v[at].p != NULL)
            give(&pages, &v[at], (unsigned char)at);
        else
            take(&pages, &v[at], UNIT, (unsigned char)at);
    }
    for (unsigned i = 0; i < N; i++)
        if (v[i].p != NULL)
            give(&pages, &v[i], (unsigned char)i);
    pages_fini(&pages);
}

/* Also of what is free already, where less is to be kept. */
static void less_may_be_kept(void **state)
{
    struct taken v[32];
    struct pages pages;

    (void)state;
    pages_init(&pages, PAGE_BYTES, 64 * KEEP);
    for (unsigned i = 0; i < 32; i++)
        take(&pages, &v[i], 256 * KIB, 1);
    size_t full = resident(&pages);

    for (unsigned i = 0; i < 32; i += 2)
        give(&pages, &v[i], 1);
    assert_int_equal(resident(&pages), full);
    pages_keep(&pages, KEEP);
    assert_true(resident(&pages) <= full - 16 * (size_t)(256 * KIB) + KEEP);
    pages_keep(&pages, 0);
    assert_int_equal(pages.idle, 0);
    assert_true(resident(&pages) <= full - 16 * (size_t)(256 * KIB));
    for (unsigned i = 1; i < 32; i += 2)
        give(&pages, &v[i], 1);
    assert_int_equal(pages.idle, 0);
    pages_fini(&pages);
}

/* What was freed is given out again, joined with its neighbours, before more is asked of the system. */
static void neighbours_become_one(void **state)
{
    struct pages pages;
    struct taken v[3], all;

    (void)state;
    pages_init(&pages, PAGE_BYTES, KEEP);
    for (unsigned order = 0; order < 3; order++) {
        for (unsigned i = 0; i < 3; i++)
            take(&pages, &v[i], 64 * KIB, 1);
        unsigned char *first = v[0].p;

        for (unsigned i = 0; i < 3; i++)
            give(&pages, &v[(i + order) % 3], 1);
        take(&pages, &all, 192 * KIB, 1);
        assert_ptr_equal(all.p, first);
        give(&pages, &all, 1);
    }
    assert_int_equal(pages.nregions, 1);
    pages_fini(&pages);
}

static bool refuse(size_t bytes)
{
    (void)bytes;
    return true;
}

static void without_memory_there_is_none(void **state)
{
    struct pages pages;

    (void)state;
    pages_init(&pages, PAGE_BYTES, KEEP);
    alloc_set_fault(refuse);
    assert_null(pages_alloc(&pages, 1));
    alloc_set_fault(NULL);
    pages_free(&pages, pages_alloc(&pages, 1));
    pages_fini(&pages);
}

static void *churn(void *data)
{
    struct pages *pages = data;
    struct taken v[32] = {0};
    uint32_t x = (uint32_t)(uintptr_t)&x;

    for (unsigned i = 0; i < 5000; i++) {
        unsigned at = random_of(&x) % 32;

        if (v[at].p != NULL)
            give(pages, &v[at], (unsigned char)at);
        take(pages, &v[at], 1 + random_of(&x) % (100 * KIB), (unsigned char)at);
    }
    for (unsigned i = 0; i < 32; i++)
        if (v[i].p != NULL)
            give(pages, &v[i], (unsigned char)i);
    return NULL;
}

static void threads_share_them(void **state)
{
    pthread_t threads[4];
    struct pages pages;

    (void)state;
    pages_init(&pages, PAGE_BYTES, KEEP);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &pages), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_true(pages.idle <= pages.keep);
    pages_fini(&pages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_do_not_overlap_and_what_is_free_is_given_back),
        cmocka_unit_test(runs_of_units_are_aligned),
        cmocka_unit_test(less_may_be_kept),
        cmocka_unit_test(neighbours_become_one),
        cmocka_unit_test(without_memory_there_is_none),
        cmocka_unit_test(threads_share_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
