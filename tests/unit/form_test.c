#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>

#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "cache/form.h"
#include "cache/store_private.h"
#include "tests/unit/stored_make.h"

struct fixture {
    struct store *store;
    struct store_thread *t;
};

static int set_up(void **state)
{
    struct fixture *f = malloc(sizeof *f);

    f->store = store_create(&(struct store_options){.bytes_max = 8 << 20, .threads = 4, .seed = 7});
    f->t = store_thread_create(f->store);
    *state = f;
    return 0;
}

/* Each test also shows that it has given everything back. */
static int tear_down(void **state)
{
    struct fixture *f = *state;
    uint64_t used;
    size_t pools;

    store_purge_all(f->t, false);
    store_thread_destroy(f->t);
    struct store_thread *t = store_thread_create(f->store);

    store_thread_destroy(t);
    pools = atomic_load(&f->store->pools[0]) + atomic_load(&f->store->pools[1]);
    used = atomic_load(&f->store->lingering) + pools;
    store_destroy(f->store);
    free(f);
    return used == 0 ? 0 : -1;
}

static struct stored *parent(struct fixture *f, const char *path, size_t bytes)
{
    struct stored_options o = options_of(f->store, path);

    o.forms = 1;
    struct stored *s = make_complete(f->t, o, bytes, T0);

    assert_non_null(s);
    return s;
}

static struct stored *form(struct store_thread *t, struct store *store, size_t bytes)
{
    struct stored_options o = options_of(store, "");

    o.key = BYTES_LIT("");
    o.key_url_n = 0;
    return make_complete(t, o, bytes, T0);
}

static size_t pool(struct fixture *f)
{
    return atomic_load(&f->store->pools[0]);
}

static void one_makes_it_and_all_have_it(void **state)
{
    struct fixture *f = *state;
    struct stored *s = parent(f, "/a", 5000), *made;

    assert_true(store_put(f->t, s, T0));
    assert_null(stored_form(s, 1));
    assert_int_equal(stored_form_state(s, 1), FORM_NONE);
    assert_true(form_claim(f->t, s, 1, T0));
    assert_false(form_claim(f->t, s, 1, T0));
    assert_int_equal(stored_form_state(s, 1), FORM_CLAIMED);
    assert_true(form_claim(f->t, s, 2, T0));
    assert_null(stored_form(s, 1));
    made = form(f->t, f->store, 100);
    size_t before = pool(f);

    assert_true(store_put_form(f->t, s, 1, made));
    assert_ptr_equal(stored_form(s, 1), made);
    assert_int_equal(pool(f) - before, stored_weight(made));
    assert_int_equal(stored_form_state(s, 1), FORM_MADE);
    assert_false(form_claim(f->t, s, 1, T0));
    form_give_up(s, 2, false);
    assert_true(form_claim(f->t, s, 2, T0));
    form_give_up(s, 2, true);
    assert_false(form_claim(f->t, s, 2, T0));
    assert_int_equal(stored_form_state(s, 2), FORM_REFUSED);
    stored_release(s);
}

static void what_may_have_none_has_none(void **state)
{
    struct fixture *f = *state;
    struct stored *s = make_complete(f->t, options_of(f->store, "/a"), 10, T0);

    assert_false(form_claim(f->t, s, 1, T0));
    assert_null(stored_form(s, 1));
    stored_release(s);
}

static void it_leaves_with_its_parent(void **state)
{
    struct fixture *f = *state;
    struct stored *s = parent(f, "/a", 5000);

    assert_true(store_put(f->t, s, T0));
    assert_true(form_claim(f->t, s, 0, T0) && form_claim(f->t, s, 1, T0));
    assert_true(store_put_form(f->t, s, 0, form(f->t, f->store, 100000)));
    store_remove(f->t, s);
    assert_int_equal(pool(f), 0);
    assert_false(store_put_form(f->t, s, 1, form(f->t, f->store, 100)));
    assert_null(stored_form(s, 1));
    assert_int_equal(stored_form(s, 0)->capacity + stored_length(stored_form(s, 0)) > 0, 1);
    stored_release(s);
}

/* Room is made for forms like for everything, and their bytes are gone when their parents are evicted. */
static void forms_stay_within_the_budget(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 200; i++) {
        char path[16];

        snprintf(path, sizeof path, "/%d", i);
        struct stored *s = parent(f, path, 40000);

        assert_true(store_put(f->t, s, T0));
        for (unsigned k = 0; k < FORMS_MAX; k++) {
            struct store_figures figures;

            if (!form_claim(f->t, s, k, T0))
                continue;
            struct stored *made = form(f->t, f->store, 60000);

            if (made != NULL)
                store_put_form(f->t, s, k, made);
            store_thread_poll(f->t);
            store_figures(f->store, &figures);
            assert_true(figures.used_bytes <= (8 << 20) + (8 << 20) / 8);
        }
        stored_release(s);
    }
}

static void a_new_parent_takes_them_over(void **state)
{
    struct fixture *f = *state;
    struct stored *s = parent(f, "/a", 5000), *made = form(f->t, f->store, 50);

    assert_true(form_adopt(f->t, s, 1, made, T0));
    assert_true(form_adopt(f->t, s, 2, NULL, T0));
    assert_ptr_equal(stored_form(s, 1), made);
    assert_int_equal(stored_form_state(s, 2), FORM_REFUSED);
    assert_true(store_put(f->t, s, T0));
    assert_int_equal(pool(f), stored_weight(s));
    stored_release(s);
}

enum { THREADS = 4, ROUNDS = 3000, PATHS = 4 };

struct racer {
    struct fixture *f;
    unsigned index;
    _Atomic unsigned *made;
};

/* Each at random puts a parent, takes it out, makes a form or reads one. */
static void *race(void *data)
{
    struct racer *r = data;
    struct store *store = r->f->store;
    struct store_thread *t = store_thread_create(store);
    uint32_t x = r->index + 1;

    for (unsigned i = 0; i < ROUNDS; i++) {
        char path[16];

        x = x * 1664525 + 1013904223;
        snprintf(path, sizeof path, "/%u", x >> 8 & (PATHS - 1));
        struct stored *s = acquire(t, store, path, T0);

        if (s == NULL || (x >> 16 & 15) == 0) {
            struct stored_options o = options_of(store, path);

            o.forms = 1;
            put_complete(t, o, 300, T0);
        } else if ((x >> 16 & 15) == 1)
            store_remove(t, s);
        else if (form_claim(t, s, x >> 20 & 3, T0)) {
            struct stored *made = form(t, store, 100);

            if (made == NULL)
                form_give_up(s, x >> 20 & 3, true);
            else
                store_put_form(t, s, x >> 20 & 3, made);
            atomic_fetch_add(r->made, 1);
        } else {
            struct stored *made = stored_form(s, x >> 20 & 3);
            struct stored_reader reader;

            if (made != NULL) {
                stored_retain(made);
                stored_release(s);
                s = made;
                assert_true(stored_reader_start(&reader, made));
                assert_true(read_and_check(&reader, 100, 64));
                stored_reader_stop(&reader);
            }
        }
        stored_release(s);
        if (i % 64 == 0)
            store_thread_poll(t);
    }
    store_thread_destroy(t);
    return NULL;
}

static void many_threads_at_once(void **state)
{
    pthread_t threads[THREADS];
    struct racer racers[THREADS];
    _Atomic unsigned made = 0;

    for (unsigned i = 0; i < THREADS; i++) {
        racers[i] = (struct racer){*state, i, &made};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(made > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_makes_it_and_all_have_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_may_have_none_has_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_leaves_with_its_parent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(forms_stay_within_the_budget, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_parent_takes_them_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_threads_at_once, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
