#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "cache/alloc.h"
#include "cache/store_private.h"
#include "tests/unit/stored_make.h"

struct fixture {
    struct store *store;
    struct store_thread *t;
};

static int set_up(void **state)
{
    struct fixture *f = malloc(sizeof *f);

    f->store = store_create(&(struct store_options){.bytes_max = 64 << 20, .threads = 2, .seed = 7});
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

#define DATE_S 784111777
#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"

/* As an origin of JSON sends them: all but the path repeats. */
static struct stored *respond(struct store_thread *t, struct store *store, const char *path, const char *etag)
{
    const struct field fields[] = {
        {BYTES_LIT("server"), "Server", BYTES_LIT("origin/1.0")},
        {BYTES_LIT("date"), "Date", BYTES_LIT(DATE)},
        {BYTES_LIT("content-type"), "Content-Type", BYTES_LIT("application/json")},
        {BYTES_LIT("etag"), "ETag", bytes_of(etag)},
        {BYTES_LIT("x-path"), NULL, bytes_of(path)},
        {BYTES_LIT("x-empty"), "X-EMPTY", BYTES_NONE},
    };
    struct stored_options o = options_of(store, path);

    o.fields = (struct fields){fields, sizeof fields / sizeof fields[0]};
    o.date = (struct wall_s){DATE_S};
    o.content_length = 0;
    return stored_create(t, &o, T0);
}

static void is_right(struct stored *s, const char *path, const char *etag)
{
    struct stored_view view;
    struct fields fields = stored_fields(s, &view);

    assert_int_equal(fields.n, 6);
    assert_true(bytes_eq(fields_value(fields, BYTES_LIT("server")), BYTES_LIT("origin/1.0")));
    assert_true(bytes_eq(fields_value(fields, BYTES_LIT("date")), BYTES_LIT(DATE)));
    assert_true(bytes_eq(fields_value(fields, BYTES_LIT("etag")), bytes_of(etag)));
    assert_true(bytes_eq(fields_value(fields, BYTES_LIT("x-path")), bytes_of(path)));
    assert_true(bytes_eq(fields.v[5].name, BYTES_LIT("x-empty")));
    assert_int_equal(fields.v[5].value.n, 0);
    assert_memory_equal(fields.v[5].orig_name, "X-EMPTY", 7);
    assert_ptr_equal(fields.v[4].orig_name, NULL);
    assert_true(bytes_eq(stored_value(s, BYTES_LIT("etag")), bytes_of(etag)));
    assert_true(bytes_eq(stored_value(s, BYTES_LIT("x-path")), bytes_of(path)));
    assert_int_equal(stored_value(s, BYTES_LIT("x-none")).n, 0);
}

/* Whatever is learned on the way, each has its own values; and once it is learned, no more is kept for each. */
static void what_repeats_is_kept_once(void **state)
{
    enum { N = 200 };
    struct fixture *f = *state;
    struct stored *s[N];
    char path[N][32], etag[N][32];

    for (unsigned i = 0; i < N; i++) {
        snprintf(path[i], sizeof path[i], "/path/%u", i);
        snprintf(etag[i], sizeof etag[i], "\"%u\"", i * 7919);
        s[i] = respond(f->t, f->store, path[i], etag[i]);
        assert_non_null(s[i]);
    }
    for (unsigned i = 0; i < N; i++)
        is_right(s[i], path[i], etag[i]);
    assert_ptr_equal(s[N / 2]->head, s[N - 1]->head);
    assert_int_equal(s[N - 1]->head->nown, 2);
    assert_int_equal(s[N - 1]->head->values[1], HEAD_DATE);
    assert_true(stored_weight(s[N - 1]) < sizeof(struct stored) + 160);
    for (unsigned i = 0; i < N; i++)
        stored_release(s[i]);
}

/* A value that is known for its own repeats here: it moves over to what is shared. */
static void what_turns_out_to_repeat_is_shared(void **state)
{
    struct fixture *f = *state;
    struct stored *first = respond(f->t, f->store, "/a", "\"same\""), *last = NULL;

    assert_true(first->head->nown >= 1);
    for (unsigned i = 0; i < 50; i++) {
        stored_release(last);
        last = respond(f->t, f->store, "/a", "\"same\"");
    }
    assert_int_equal(last->head->nown, 0);
    is_right(first, "/a", "\"same\"");
    is_right(last, "/a", "\"same\"");
    stored_release(first);
    stored_release(last);
}

static const struct head *head_of(struct fixture *f, struct stored_options o, struct stored **out)
{
    *out = stored_create(f->t, &o, T0);
    assert_non_null(*out);
    return (*out)->head;
}

/* Whatever a head says tells it from others. */
static void heads_differ_in_all_that_they_say(void **state)
{
    struct fixture *f = *state;
    struct field plain[] = {{BYTES_LIT("x-a"), NULL, BYTES_LIT("1")}},
                 spelt[] = {{BYTES_LIT("x-a"), "X-A", BYTES_LIT("1")}},
                 other[] = {{BYTES_LIT("x-a"), NULL, BYTES_LIT("2")}},
                 named[] = {{BYTES_LIT("x-b"), NULL, BYTES_LIT("1")}};
    struct stored_options o = options_of(f->store, "/a"), v[14];
    struct stored *s[14], *again;
    const struct head *head[14];

    o.fields = (struct fields){plain, 1};
    for (unsigned i = 0; i < 14; i++)
        v[i] = o;
    v[1].status = 201;
    v[2].user_scope = true;
    v[3].with_authorization = true;
    v[4].with_cookie = true;
    v[5].lifetimes.stale_while_revalidate_ms = 1;
    v[6].lifetimes.stale_if_error_ms = 1;
    v[7].lifetimes.must_revalidate = true;
    v[8].lifetimes.revalidate_always = true;
    v[9].lifetimes.rule = LIFETIME_TIER;
    v[10].lifetimes.explicit_ = true;
    v[11].fields.v = spelt;
    v[12].fields.v = other;
    v[13].fields.v = named;
    for (unsigned i = 0; i < 14; i++) {
        head[i] = head_of(f, v[i], &s[i]);
        for (unsigned j = 0; j < i; j++)
            assert_ptr_not_equal(head[i], head[j]);
    }
    /* and in nothing else */
    o.lifetimes.fresh_ms = 5;
    o.lifetimes.initial_age_ms = 6;
    o.response_time.ms++;
    o.useful_ms++;
    o.date.s = 1;
    o.born++;
    assert_ptr_equal(head_of(f, o, &again), head[0]);
    struct lifetimes l = stored_lifetimes(again);

    assert_int_equal(l.fresh_ms, 5);
    assert_int_equal(l.initial_age_ms, 6);
    stored_release(again);
    for (unsigned i = 0; i < 14; i++)
        stored_release(s[i]);
}

/* The length of an own value is written in one byte or in five. */
static void own_values_of_any_length(void **state)
{
    const size_t lengths[] = {0, 1, 254, 255, 256, 65536};
    char *text = calloc(1, 65536), *buf = malloc(70000);

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char *end = buf;
        const char *at = buf;

        memset(text, 'a' + (int)i, lengths[i]);
        own_value_put(&end, (struct bytes){text, lengths[i]});
        assert_int_equal(end - buf, own_value_bytes(lengths[i]));
        own_value_put(&end, BYTES_LIT("next"));
        assert_true(bytes_eq(own_value_next(&at), (struct bytes){text, lengths[i]}));
        assert_true(bytes_eq(own_value_next(&at), BYTES_LIT("next")));
        assert_ptr_equal(at, end);
    }
    free(text);
    free(buf);
}

static void lengths_of_time_come_back(void **state)
{
    const int64_t exact[] = {0, 1, 999, SPAN_MS_MAX - 1, 31536000000, 2147483648000};

    (void)state;
    for (size_t i = 0; i < sizeof exact / sizeof exact[0]; i++)
        assert_int_equal(span_ms(span_of(exact[i])), exact[i]);
    assert_int_equal(span_ms(span_of(SPAN_MS_MAX)), SPAN_MS_MAX / 1000 * 1000);
    assert_int_equal(span_ms(span_of(31536000999)), 31536000000);
    assert_int_equal(span_ms(span_of(INT64_MAX)), INT64_MAX);
    assert_int_equal(span_ms(span_of(4000000000000)), INT64_MAX);
    assert_int_equal(span_ms(span_of(-1)), 0);
}

/* Each with a head of its own: chains grow, and heads go with their responses. */
static void many_heads_are_found_again(void **state)
{
    enum { N = 3000 };
    struct fixture *f = *state;
    static struct stored *s[N];

    for (unsigned i = 0; i < N; i++) {
        struct stored_options o = options_of(f->store, "/a");

        o.status = (int)i;
        s[i] = stored_create(f->t, &o, T0);
    }
    for (unsigned i = 0; i < N; i++) {
        struct stored_options o = options_of(f->store, "/a");
        struct stored *again;

        o.status = (int)i;
        assert_ptr_equal(head_of(f, o, &again), s[i]->head);
        stored_release(s[i]);
        assert_int_equal(again->head->status, i);
        stored_release(again);
    }
    /* what is left are the chains */
    assert_true(used_bytes(f->store) < 100000);
    for (unsigned i = 0; i < HEAD_LOCKS; i++) {
        struct head_chains *part = &f->store->heads.parts[i];

        assert_int_equal(part->count, 0);
        assert_true(part->size > HEAD_CHAINS_MIN);
        budget_return(f->store, alloc_cost(part->v));
    }
}

static unsigned fills;

static size_t room_bytes(size_t nfields)
{
    return nfields * sizeof(size_t) + 1;
}

static void room_fill(const struct head *head, void *room)
{
    assert_int_equal((uintptr_t)room % 16, 0);
    for (size_t i = 0; i < room_bytes(head->nfields); i++)
        assert_int_equal(((char *)room)[i], 0);
    memset(room, 'r', room_bytes(head->nfields));
    fills++;
}

static void the_callers_room_is_filled_once(void **state)
{
    static const struct head_preparation preparation = {room_bytes, room_fill};
    struct fixture *f = *state;
    struct field fields[] = {{BYTES_LIT("x-a"), NULL, BYTES_LIT("1")}, {BYTES_LIT("x-b"), NULL, BYTES_LIT("1")}};
    struct stored_options o = options_of(f->store, "/a");
    struct stored *s[10];

    fills = 0;
    o.fields = (struct fields){fields, 2};
    o.prepared = &preparation;
    for (unsigned i = 0; i < 10; i++)
        s[i] = stored_create(f->t, &o, T0);
    assert_int_equal(fills, 1);
    assert_int_equal(((char *)s[9]->head->prepared)[0], 'r');
    for (unsigned i = 0; i < 10; i++)
        stored_release(s[i]);
}

enum { THREADS = 4, ROUNDS = 3000, KINDS = 5 };

static void *come_and_go(void *data)
{
    struct store *store = data;
    struct store_thread *t = store_thread_create(store);
    struct stored *kept[KINDS] = {NULL};
    char path[32], etag[KINDS][32] = {""};

    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned k = i * 7 % KINDS;

        if (kept[k] != NULL) {
            struct bytes value = stored_value(kept[k], BYTES_LIT("etag"));

            if (!bytes_eq(value, bytes_of(etag[k])))
                abort();
        }
        stored_release(kept[k]);
        snprintf(path, sizeof path, "/%u", k);
        snprintf(etag[k], sizeof etag[k], "\"%u\"", i % 3 == 0 ? i : k);
        kept[k] = respond(t, store, path, etag[k]);
    }
    for (unsigned k = 0; k < KINDS; k++)
        stored_release(kept[k]);
    store_thread_destroy(t);
    return NULL;
}

/* Heads come and go with the first and the last of their responses, in several threads at once. */
static void threads_share_heads(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[THREADS];

    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, f->store), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_repeats_is_kept_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_turns_out_to_repeat_is_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(heads_differ_in_all_that_they_say, set_up, tear_down),
        cmocka_unit_test_setup_teardown(own_values_of_any_length, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lengths_of_time_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_heads_are_found_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_callers_room_is_filled_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(threads_share_heads, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
