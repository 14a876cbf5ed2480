#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cache/alloc.h"
#include "tests/unit/stored_make.h"

struct fixture {
    struct store *store;
    struct store_thread *t;
};

static int set_up(void **state)
{
    struct fixture *f = malloc(sizeof *f);

    f->store = store_create(&(struct store_options){.bytes_max = 64 << 20, .threads = 1, .seed = 7});
    assert_non_null(f->store);
    f->t = store_thread_create(f->store);
    assert_non_null(f->t);
    *state = f;
    return 0;
}

/* Each test also shows that it has given everything back. */
static int tear_down(void **state)
{
    struct fixture *f = *state;
    uint64_t used;

    store_thread_destroy(f->t);
    used = used_bytes(f->store);
    store_destroy(f->store);
    free(f);
    return used == 0 ? 0 : -1;
}

static struct stored *create(struct fixture *f, int64_t content_length)
{
    struct stored_options o = options_of(f->store, "/a");

    o.content_length = content_length;
    return stored_create(f->t, &o, T0);
}

/* What the options point to is copied: it may change right after the call. */
static void keeps_copies_of_what_it_is_given(void **state)
{
    struct fixture *f = *state;
    char name[] = "x-field", orig[] = "X-Field", value[] = "value";
    char date[] = "Sun, 06 Nov 1994 08:49:37 GMT";
    struct field fields[] = {
        {{name, 7}, orig, {value, 5}},
        {{name, 7}, name, BYTES_NONE},
        {{name, 7}, NULL, {value, 5}},
        {BYTES_LIT("date"), "Date", {date, 29}},
    };
    struct made_key m;

    make_key(&m, "/copied", NULL);
    struct stored_options o = options_for(f->store, &m);
    o.fields = (struct fields){fields, 4};
    o.date = (struct wall_s){784111777};
    o.status = 203;
    o.with_cookie = true;
    o.content_length = 4;
    struct stored *s = stored_create(f->t, &o, T0);

    assert_non_null(s);
    struct made_key again;

    make_key(&again, "/copied", NULL);
    memset(m.buf, 'z', sizeof m.buf);
    memset(name, 'z', 7), memset(orig, 'z', 7), memset(value, 'z', 5), memset(date, 'z', 29);
    assert_true(bytes_eq(stored_key(s), again.key.whole));
    assert_int_equal(s->key_url_n, again.key.url.n);
    struct stored_view view;
    struct fields kept = stored_fields(s, &view);

    assert_int_equal(kept.n, 4);
    assert_true(bytes_eq(kept.v[0].name, BYTES_LIT("x-field")));
    assert_memory_equal(kept.v[0].orig_name, "X-Field", 7);
    assert_true(bytes_eq(kept.v[0].value, BYTES_LIT("value")));
    assert_memory_equal(kept.v[1].orig_name, "x-field", 7);
    assert_int_equal(kept.v[1].value.n, 0);
    assert_null(kept.v[2].orig_name);
    assert_true(bytes_eq(kept.v[3].value, BYTES_LIT("Sun, 06 Nov 1994 08:49:37 GMT")));
    assert_int_equal(stored_date(s).s, 784111777);
    assert_int_equal(s->head->status, 203);
    assert_true(s->head->with_cookie && !s->head->with_authorization && !s->head->user_scope);
    stored_release(s);
}

/* Around every border between inline, embedded and chunked bodies, known and unknown lengths, in pieces of any size. */
static void gives_back_the_body_that_was_appended(void **state)
{
    struct fixture *f = *state;
    const size_t sizes[] = {1, 4047, 4048, 4049, 4096, 65535, 65536, 65537, 262144, 300000, 1000003};
    const size_t pieces[] = {1021, 16384, 1000003};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t j = 0; j < 2 * sizeof pieces / sizeof pieces[0]; j++) {
            struct stored *s = create(f, j % 2 == 0 ? -1 : (int64_t)sizes[i]);

            assert_non_null(s);
            while (stored_length(s) < sizes[i]) {
                size_t rest = sizes[i] - stored_length(s);

                assert_true(append_body(f->t, s, rest < pieces[j / 2] ? rest : pieces[j / 2], T0));
            }
            assert_int_equal(stored_body_state(s), BODY_OPEN);
            assert_true(body_is_right(s));
            stored_finish_body(s, BODY_COMPLETE);
            assert_true(body_is_right(s));
            assert_int_equal(stored_body_bytes(s), sizes[i]);
            stored_release(s);
        }
    }
}

static void inlines_up_to_the_bound(void **state)
{
    struct fixture *f = *state;
    struct stored *at = create(f, STORED_INLINE_MAX), *over = create(f, STORED_INLINE_MAX + 1);

    assert_false(at->chunked);
    assert_int_equal(at->capacity, STORED_INLINE_MAX);
    assert_true(over->chunked);
    stored_release(at);
    stored_release(over);
}

static void refuses_more_than_the_content_length(void **state)
{
    struct fixture *f = *state;
    struct stored *s = create(f, 100);

    assert_true(append_body(f->t, s, 100, T0));
    assert_false(append_body(f->t, s, 1, T0));
    assert_true(append_body(f->t, s, 0, T0));
    assert_int_equal(stored_length(s), 100);
    stored_release(s);
    s = create(f, 0);
    assert_false(append_body(f->t, s, 1, T0));
    stored_finish_body(s, BODY_COMPLETE);
    assert_true(body_is_right(s));
    stored_release(s);
}

/* A small body of unknown length that comes in one piece costs about its size, not a page. */
static void small_bodies_cost_little(void **state)
{
    struct fixture *f = *state;
    enum { MANY = 500 }; /* slabs are charged as a whole */
    uint64_t before = used_bytes(f->store);
    static struct stored *v[MANY];

    for (unsigned i = 0; i < MANY; i++) {
        v[i] = create(f, -1);
        assert_true(append_body(f->t, v[i], 500, T0));
    }
    assert_in_range((used_bytes(f->store) - before) / MANY, 500, 1200);
    for (unsigned i = 0; i < MANY; i++)
        stored_release(v[i]);
}

static void a_reader_follows_what_is_published(void **state)
{
    struct fixture *f = *state;
    struct stored *s = create(f, -1);
    struct stored_reader r;
    struct bytes run;

    assert_true(stored_reader_start(&r, s));
    assert_int_equal(stored_reader_peek(&r, &run, 1, 100), 0);
    for (size_t n = 1; n < 200000; n *= 3) {
        assert_true(append_body(f->t, s, n, T0));
        assert_true(read_and_check(&r, n, 5000));
        assert_int_equal(stored_reader_peek(&r, &run, 1, 100), 0);
    }
    stored_finish_body(s, BODY_COMPLETE);
    assert_int_equal(stored_reader_peek(&r, &run, 1, 100), 0);
    stored_reader_stop(&r);
    stored_release(s);
}

static void peek_keeps_to_its_bounds(void **state)
{
    struct fixture *f = *state;
    struct stored *s = create(f, -1);
    struct stored_reader r;
    struct bytes runs[8];

    for (int i = 0; i < 10; i++)
        assert_true(append_body(f->t, s, 10000, T0));
    assert_true(stored_reader_start(&r, s));
    assert_int_equal(stored_reader_peek(&r, runs, 0, 100), 0);
    assert_int_equal(stored_reader_peek(&r, runs, 8, 0), 0);
    assert_int_equal(stored_reader_peek(&r, runs, 8, 1), 1);
    assert_int_equal(runs[0].n, 1);
    assert_int_equal(stored_reader_peek(&r, runs, 2, SIZE_MAX), 2);
    size_t count = stored_reader_peek(&r, runs, 8, SIZE_MAX), total = 0;

    for (size_t i = 0; i < count; i++)
        total += runs[i].n;
    assert_int_equal(total, 100000);
    stored_reader_stop(&r);
    stored_release(s);
}

/* A body that is passed through is in memory only from its slowest reader on. */
static void a_discarded_body_goes_with_its_slowest_reader(void **state)
{
    struct fixture *f = *state;
    struct stored *s = create(f, -1);
    struct stored_reader slow, fast, late;

    assert_true(stored_reader_start(&slow, s));
    assert_true(stored_reader_start(&fast, s));
    assert_true(append_body(f->t, s, 100000, T0));
    stored_discard_body(s);
    assert_false(stored_reader_start(&late, s));
    assert_int_equal(stored_body_bytes(s), 100000);
    for (int i = 0; i < 20; i++) {
        assert_true(append_body(f->t, s, 100000, T0));
        assert_true(read_and_check(&fast, 100000, 65536));
    }
    assert_int_equal(stored_body_bytes(s), 2100000);
    uint64_t full = used_bytes(f->store);

    assert_true(read_and_check(&slow, 1000000, 65536));
    assert_in_range(stored_body_bytes(s), 1100000, 1100000 + STORED_CHUNK_MAX);
    assert_true(used_bytes(f->store) < full - 700000);
    stored_reader_stop(&slow);
    assert_true(stored_body_bytes(s) < 600000);
    assert_true(read_and_check(&fast, 100000, 65536));
    stored_finish_body(s, BODY_BROKEN);
    stored_reader_stop(&fast);
    assert_int_equal(stored_body_bytes(s), 0);
    stored_release(s);
}

/* With no reader at all the builder goes on, and holds one piece. */
static void a_discarded_body_without_readers_holds_one_chunk(void **state)
{
    struct fixture *f = *state;
    struct stored *s = create(f, -1);

    stored_discard_body(s);
    for (int i = 0; i < 50; i++)
        assert_true(append_body(f->t, s, 99999, T0));
    assert_in_range(stored_body_bytes(s), 0, STORED_CHUNK_MAX);
    stored_release(s);
}

/* Readers of a complete body hold no chunk, so discarding it later must not take it from them. */
static void discarding_a_complete_body_leaves_its_readers_alone(void **state)
{
    struct fixture *f = *state;
    struct stored *s = make_complete(f->t, options_of(f->store, "/a"), 300000, T0);
    struct stored_reader r, late;

    assert_true(stored_reader_start(&r, s));
    stored_discard_body(s);
    assert_false(stored_reader_start(&late, s));
    assert_true(read_and_check(&r, 300000, 4096));
    stored_reader_stop(&r);
    assert_false(store_put(f->t, s, T0));
    stored_release(s);
}

static void freshened(struct fixture *f, size_t bytes)
{
    struct stored_options o = options_of(f->store, "/a");
    struct field field = {BYTES_LIT("etag"), NULL, BYTES_LIT("\"2\"")};
    struct stored *first = make_complete(f->t, o, bytes, T0);

    o.fields = (struct fields){&field, 1};
    o.status = 299;
    struct stored *second = stored_create_freshened(f->t, &o, first, T0);

    assert_non_null(second);
    stored_release(first);
    struct stored *third = stored_create_freshened(f->t, &o, second, T0);

    assert_non_null(third);
    assert_true(body_is_right(second));
    stored_release(second);
    assert_int_equal(stored_body_state(third), BODY_COMPLETE);
    assert_int_equal(stored_length(third), bytes);
    assert_int_equal(third->head->status, 299);
    assert_true(body_is_right(third));
    stored_release(third);
    assert_int_equal(used_bytes(f->store), 0);
}

static void freshening_keeps_the_body(void **state)
{
    freshened(*state, 0);
    freshened(*state, 1);
    freshened(*state, STORED_INLINE_MAX);
    freshened(*state, STORED_INLINE_MAX + 1);
    freshened(*state, 1000000);
}

static void freshening_a_large_body_shares_it(void **state)
{
    struct fixture *f = *state;
    struct stored_options o = options_of(f->store, "/a");
    struct stored *first = make_complete(f->t, o, 1000000, T0);
    struct stored *other = stored_create_freshened(f->t, &o, first, T0); /* in the slab that the next is in */
    uint64_t before = used_bytes(f->store);
    struct stored *second = stored_create_freshened(f->t, &o, first, T0);

    assert_true(used_bytes(f->store) - before < 2000);
    stored_release(first);
    stored_release(other);
    stored_release(second);
}

static void only_a_complete_body_is_freshened(void **state)
{
    struct fixture *f = *state;
    struct stored_options o = options_of(f->store, "/a");
    struct stored *open = create(f, -1);

    assert_null(stored_create_freshened(f->t, &o, open, T0));
    stored_finish_body(open, BODY_BROKEN);
    assert_null(stored_create_freshened(f->t, &o, open, T0));
    stored_release(open);
}

static unsigned long allocations, refuse_at;

static bool refuse_nth(size_t bytes)
{
    (void)bytes;
    return allocations++ == refuse_at;
}

/* Memory that runs out at any allocation fails the call and nothing else: called again, it goes through, and the body
 * is right. Method: fail the first allocation, then the second, and so on, until none is left to fail. */
static void survives_when_memory_runs_out(void **state)
{
    struct fixture *f = *state;
    struct stored_options o = options_of(f->store, "/a");
    unsigned met;

    refuse_at = 0;
    do {
        struct stored *s, *copy;

        met = 0;
        allocations = 0;
        alloc_set_fault(refuse_nth);
        if ((s = stored_create(f->t, &o, T0)) == NULL)
            met++, s = stored_create(f->t, &o, T0);
        assert_non_null(s);
        if (!append_body(f->t, s, 10, T0))
            met++, assert_true(append_body(f->t, s, 10, T0));
        if (!append_body(f->t, s, 900000, T0))
            met++, assert_true(append_body(f->t, s, 900000, T0));
        stored_finish_body(s, BODY_COMPLETE);
        if ((copy = stored_create_freshened(f->t, &o, s, T0)) == NULL)
            met++, copy = stored_create_freshened(f->t, &o, s, T0);
        alloc_set_fault(NULL);
        assert_int_equal(stored_body_bytes(s), 900010);
        assert_true(body_is_right(copy));
        stored_release(s);
        stored_release(copy);
        assert_int_equal(used_bytes(f->store), 0);
        refuse_at++;
    } while (met == 1);
    assert_int_equal(met, 0);
    assert_true(refuse_at > 5); /* a fault test that met no fault proves nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keeps_copies_of_what_it_is_given, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gives_back_the_body_that_was_appended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(inlines_up_to_the_bound, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_more_than_the_content_length, set_up, tear_down),
        cmocka_unit_test_setup_teardown(small_bodies_cost_little, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reader_follows_what_is_published, set_up, tear_down),
        cmocka_unit_test_setup_teardown(peek_keeps_to_its_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_discarded_body_goes_with_its_slowest_reader, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_discarded_body_without_readers_holds_one_chunk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(discarding_a_complete_body_leaves_its_readers_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(freshening_keeps_the_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(freshening_a_large_body_shares_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_a_complete_body_is_freshened, set_up, tear_down),
        cmocka_unit_test_setup_teardown(survives_when_memory_runs_out, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
