#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cache/alloc.h"
#include "cache/slab.h"

/* Its slabs are of 32 KiB. */
enum { STORE_BYTES = 16 * 1024 * 1024, SLAB_BYTES = 32 * 1024 };

static void *alloc(struct slabs *slabs, size_t bytes)
{
    size_t grown;

    return slabs_alloc(slabs, SLAB_STORED, bytes, &grown);
}

static void *take(struct slabs *slabs, size_t bytes, unsigned char mark)
{
    void *p = alloc(slabs, bytes);

    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 16, 0);
    memset(p, mark, bytes);
    return p;
}

static void is_marked(const void *p, size_t bytes, unsigned char mark)
{
    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(((const unsigned char *)p)[i], mark);
}

/* All bytes of each are its own, at any size, and no slab is left once all are free (slabs_fini). Method: random sizes,
 * each filled with its own mark, given back at random. */
static void cells_do_not_overlap(void **state)
{
    enum { N = 2000, ROUNDS = 40000 };
    static struct {
        void *p;
        size_t bytes;
    } v[N];
    struct slabs slabs;
    unsigned random = 1;

    (void)state;
    slabs_init(&slabs, STORE_BYTES);
    for (unsigned i = 0; i < ROUNDS; i++) {
        random = random * 1103515245 + 12345;
        unsigned at = random / 65536 % N;

        if (v[at].p != NULL) {
            is_marked(v[at].p, v[at].bytes, (unsigned char)at);
            slabs_free(&slabs, v[at].p);
            v[at].p = NULL;
            continue;
        }
        random = random * 1103515245 + 12345;
        v[at].bytes = 1 + random / 65536 % slab_cell_max(&slabs);
        v[at].p = take(&slabs, v[at].bytes, (unsigned char)at);
    }
    for (unsigned i = 0; i < N; i++)
        if (v[i].p != NULL)
            slabs_free(&slabs, v[i].p);
    slabs_fini(&slabs);
}

/* Each size has a class of its own, and one that is larger has no more cells in a slab. */
static void sizes_do_not_meet(void **state)
{
    static const size_t stores[] = {8 << 20, 100 << 20, 1 << 30};

    (void)state;
    for (size_t i = 0; i < sizeof stores / sizeof stores[0]; i++) {
        struct slabs slabs;
        void *p;

        slabs_init(&slabs, stores[i]);
        for (size_t bytes = 1; bytes <= slab_cell_max(&slabs); bytes += 13) {
            p = take(&slabs, bytes, 1);
            slabs_free(&slabs, p);
        }
        unsigned before = UINT32_MAX, n = 0;

        for (unsigned k = SLAB_CLASSES; k-- > 0;) {
            unsigned cells_of_it = slabs.classes[SLAB_STORED][k].cells;

            if (cells_of_it == 0)
                continue;
            assert_true(cells_of_it < before);
            before = cells_of_it;
            n++;
        }
        assert_true(n > 50);
        slabs_fini(&slabs);
    }
}

/* What is charged for a cell covers its bytes, and rounds by little: from 512 bytes on by 7 % at most, below 4 KiB. */
static void little_is_lost_by_rounding(void **state)
{
    struct slabs slabs;

    (void)state;
    slabs_init(&slabs, STORE_BYTES);
    for (size_t bytes = 1; bytes <= slab_cell_max(&slabs); bytes++) {
        assert_true(slab_cost_of(&slabs, bytes) >= bytes);
        if (bytes >= 512 && bytes <= slab_cell_max(&slabs) / 4)
            assert_true(slab_cost_of(&slabs, bytes) <= bytes + bytes * 7 / 100 + 16);
    }
    slabs_fini(&slabs);
}

static size_t partial(const struct slabs *slabs)
{
    size_t n = 0;

    for (unsigned i = 0; i < SLAB_CLASSES; i++)
        for (unsigned j = 0; j <= SLAB_FILLS; j++)
            n += slabs->classes[SLAB_STORED][i].lists[j] != NULL;
    return n;
}

/* A full slab is in no list, and comes back with its first free cell; the last free cell ends it. */
static void slabs_come_and_go(void **state)
{
    void *p[64];
    size_t n = 0;
    struct slabs slabs;

    (void)state;
    slabs_init(&slabs, STORE_BYTES);
    do
        p[n++] = take(&slabs, 1200, 1);
    while (partial(&slabs) == 1);
    assert_in_range(n, 25, 27);
    slabs_free(&slabs, p[3]);
    assert_int_equal(partial(&slabs), 1);
    assert_ptr_equal(take(&slabs, 1200, 2), p[3]);
    assert_int_equal(partial(&slabs), 0);
    while (n > 0)
        slabs_free(&slabs, p[--n]);
    assert_int_equal(partial(&slabs), 0);
    slabs_fini(&slabs);
}

static bool refuse(size_t bytes)
{
    return bytes == SLAB_BYTES;
}

static void without_memory_there_is_none(void **state)
{
    struct slabs slabs;
    void *p;

    (void)state;
    slabs_init(&slabs, STORE_BYTES);
    alloc_set_fault(refuse);
    assert_null(alloc(&slabs, 100));
    alloc_set_fault(NULL);
    p = take(&slabs, 100, 1);
    alloc_set_fault(refuse);
    void *q = take(&slabs, 100, 2); /* there is room in the slab */

    alloc_set_fault(NULL);
    slabs_free(&slabs, p);
    slabs_free(&slabs, q);
    slabs_fini(&slabs);
}

/* Slabs in proportion to the store, and sizes as fine as there are slabs for them. */
static void a_small_store_has_small_slabs(void **state)
{
    static const struct {
        size_t store;
        unsigned slab;
        unsigned steps;
    } v[] = {{(4 << 20) - 1, 0, 32},
             {4 << 20, 32 << 10, 32},
             {64 << 20, 32 << 10, 32},
             {(64 << 20) + 2048, 64 << 10, 32},
             {128 << 20, 64 << 10, 32},
             {256 << 20, 128 << 10, 64},
             {(size_t)1 << 30, 256 << 10, 128},
             {(size_t)1 << 40, 256 << 10, 128}};

    (void)state;
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        struct slabs slabs;

        slabs_init(&slabs, v[i].store);
        assert_int_equal(slabs.bytes, v[i].slab);
        assert_int_equal(slabs.steps, v[i].steps);
        slabs_fini(&slabs);
    }
}

/* What slabs take is told when it changes; who wants no new slab gets none. */
static void what_slabs_take_is_told(void **state)
{
    struct slabs slabs;
    size_t grown;

    (void)state;
    slabs_init(&slabs, STORE_BYTES);
    assert_null(slabs_take(&slabs, SLAB_FIXED, 1000));
    void *p = slabs_alloc(&slabs, SLAB_FIXED, 1000, &grown);

    assert_int_equal(grown, SLAB_BYTES);
    void *q = slabs_alloc(&slabs, SLAB_FIXED, 1000, &grown), *r = slabs_take(&slabs, SLAB_FIXED, 1000);

    assert_int_equal(grown, 0);
    assert_non_null(r);
    assert_null(slabs_take(&slabs, SLAB_STORED, 1000));
    assert_int_equal(slabs_free(&slabs, p), 0);
    assert_int_equal(slabs_free(&slabs, r), 0);
    assert_int_equal(slabs_free(&slabs, q), SLAB_BYTES);
    slabs_fini(&slabs);
}

/* Eight slabs with 27 cells each, all full: of the slab'th the cells from `from` on go. */
enum { FULL = 8, CELLS = 27 };

static void *cells[FULL][CELLS];

static void fill(struct slabs *slabs)
{
    for (unsigned i = 0; i < FULL; i++)
        for (unsigned j = 0; j < CELLS; j++)
            cells[i][j] = take(slabs, 1200, (unsigned char)i);
    assert_int_equal(slabs->classes[SLAB_STORED][CELLS].slabs, FULL);
}

static void drain(struct slabs *slabs, unsigned i, unsigned from)
{
    for (unsigned j = from; j < CELLS; j++) {
        if (cells[i][j] != NULL)
            slabs_free(slabs, cells[i][j]);
        cells[i][j] = NULL;
    }
}

static void the_emptiest_is_found_once_much_is_free(void **state)
{
    struct slabs slabs;

    (void)state;
    slabs_init(&slabs, STORE_BYTES);
    fill(&slabs);
    assert_null(slabs_sparse(&slabs));
    drain(&slabs, 2, 2);  /* 25 free */
    drain(&slabs, 4, 22); /* 5 free */
    drain(&slabs, 5, 25); /* 2 free: one fewer than a slab's and a 32nd of all */
    assert_null(slabs_sparse(&slabs));
    drain(&slabs, 5, 24);
    assert_int_equal(slabs.classes[SLAB_STORED][CELLS].used, FULL * CELLS - 33);
    struct slab *s = slabs_sparse(&slabs);

    assert_non_null(s);
    assert_int_equal(slab_cells(s), CELLS);
    assert_ptr_equal(slab_cell(&slabs, s, 0), cells[2][0]);
    for (unsigned i = 0; i < 8; i++) { /* nothing of it is given out */
        void *p = slabs_take(&slabs, SLAB_STORED, 1200);

        assert_non_null(p);
        assert_true(p < (void *)s || p > slab_cell(&slabs, s, CELLS - 1));
        cells[i < 5 ? 4 : 5][i < 5 ? 22 + i : 24 + i - 5] = p;
    }
    assert_null(slabs_take(&slabs, SLAB_STORED, 1200));
    drain(&slabs, 2, 0); /* it stays until it is put back */
    assert_int_equal(slabs.classes[SLAB_STORED][CELLS].slabs, FULL);
    assert_int_equal(slabs_put_back(&slabs, s), SLAB_BYTES);
    assert_int_equal(slabs.classes[SLAB_STORED][CELLS].slabs, FULL - 1);
    for (unsigned i = 0; i < FULL; i++)
        drain(&slabs, i, 0);
    slabs_fini(&slabs);
}

/* What could not be moved is not tried again before something has changed. */
static void what_cannot_be_emptied_is_left_alone(void **state)
{
    struct slabs slabs;

    (void)state;
    slabs_init(&slabs, STORE_BYTES);
    fill(&slabs);
    for (unsigned i = 0; i < 3; i++)
        drain(&slabs, i, 2);
    struct slab *v[3];

    for (unsigned i = 0; i < 3; i++) {
        v[i] = slabs_sparse(&slabs);
        assert_non_null(v[i]);
        assert_int_equal(slabs_put_back(&slabs, v[i]), 0);
        for (unsigned j = 0; j < i; j++)
            assert_ptr_not_equal(v[i], v[j]);
    }
    struct slab *more = slabs_sparse(&slabs);

    assert_null(more);
    drain(&slabs, 1, 1);
    more = slabs_sparse(&slabs);
    assert_non_null(more);
    assert_ptr_equal(slab_cell(&slabs, more, 0), cells[1][0]);
    assert_int_equal(slabs_put_back(&slabs, more), 0);
    assert_null(slabs_sparse(&slabs));
    slabs_retry(&slabs); /* but once in a while */
    more = slabs_sparse(&slabs);
    assert_non_null(more);
    assert_int_equal(slabs_put_back(&slabs, more), 0);
    void *p = slabs_take(&slabs, SLAB_STORED, 1200); /* its free cells are as good as others' */

    assert_non_null(p);
    slabs_free(&slabs, p);
    for (unsigned i = 0; i < FULL; i++)
        drain(&slabs, i, 0);
    slabs_fini(&slabs);
}

enum { THREADS = 4 };

static void *churn(void *data)
{
    struct slabs *slabs = data;
    unsigned char *kept[64] = {NULL};

    for (unsigned i = 0; i < 20000; i++) {
        unsigned at = i * 31 % 64;

        if (kept[at] != NULL) {
            if (kept[at][0] != at || kept[at][999] != at)
                abort();
            slabs_free(slabs, kept[at]);
        }
        kept[at] = alloc(slabs, 1000 + i % 3 * 100);
        memset(kept[at], (int)at, 1000);
    }
    for (unsigned i = 0; i < 64; i++)
        slabs_free(slabs, kept[i]);
    return NULL;
}

static void threads_share_slabs(void **state)
{
    pthread_t threads[THREADS];
    struct slabs slabs;

    (void)state;
    slabs_init(&slabs, STORE_BYTES);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &slabs), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    slabs_fini(&slabs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_do_not_overlap),
        cmocka_unit_test(little_is_lost_by_rounding),
        cmocka_unit_test(sizes_do_not_meet),
        cmocka_unit_test(slabs_come_and_go),
        cmocka_unit_test(without_memory_there_is_none),
        cmocka_unit_test(threads_share_slabs),
        cmocka_unit_test(a_small_store_has_small_slabs),
        cmocka_unit_test(what_slabs_take_is_told),
        cmocka_unit_test(the_emptiest_is_found_once_much_is_free),
        cmocka_unit_test(what_cannot_be_emptied_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
