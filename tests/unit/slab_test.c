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

static void *take(struct slabs *slabs, size_t bytes, unsigned char mark)
{
    void *p = slabs_alloc(slabs, bytes);

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
    slabs_init(&slabs);
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
        v[at].bytes = 1 + random / 65536 % SLAB_BYTES_MAX;
        v[at].p = take(&slabs, v[at].bytes, (unsigned char)at);
    }
    for (unsigned i = 0; i < N; i++)
        if (v[i].p != NULL)
            slabs_free(&slabs, v[i].p);
    slabs_fini(&slabs);
}

/* What is charged for a cell covers its bytes, and rounds by little: from 512 bytes on by 7 % at most, below 4 KiB. */
static void little_is_lost_by_rounding(void **state)
{
    (void)state;
    for (size_t bytes = 1; bytes <= SLAB_BYTES_MAX; bytes++) {
        assert_true(slab_cost_of(bytes) >= bytes);
        if (bytes >= 512 && bytes <= SLAB_BYTES_MAX / 2)
            assert_true(slab_cost_of(bytes) <= bytes + bytes * 7 / 100 + 16);
    }
}

static size_t partial(const struct slabs *slabs)
{
    size_t n = 0;

    for (unsigned i = 0; i <= SLAB_CELLS_MAX; i++)
        n += slabs->partial[i] != NULL;
    return n;
}

/* A full slab is in no list, and comes back with its first free cell; the last free cell ends it. */
static void slabs_come_and_go(void **state)
{
    void *p[64];
    size_t n = 0;
    struct slabs slabs;

    (void)state;
    slabs_init(&slabs);
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
    slabs_init(&slabs);
    alloc_set_fault(refuse);
    assert_null(slabs_alloc(&slabs, 100));
    alloc_set_fault(NULL);
    p = take(&slabs, 100, 1);
    alloc_set_fault(refuse);
    void *q = take(&slabs, 100, 2); /* there is room in the slab */

    alloc_set_fault(NULL);
    slabs_free(&slabs, p);
    slabs_free(&slabs, q);
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
        kept[at] = slabs_alloc(slabs, 1000 + i % 3 * 100);
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
    slabs_init(&slabs);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &slabs), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    slabs_fini(&slabs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_do_not_overlap), cmocka_unit_test(little_is_lost_by_rounding),
        cmocka_unit_test(slabs_come_and_go),    cmocka_unit_test(without_memory_there_is_none),
        cmocka_unit_test(threads_share_slabs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
