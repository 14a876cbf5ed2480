/* Keys reduced by No-Vary-Search (draft-ietf-httpbis-no-vary-search-05), and the marker of a path. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdlib.h>

#include "proxy/no_vary.h"
#include "proxy/respond.h"

static const struct key_rules all = {.query = KEY_QUERY_ALL};

static struct key_request request(const char *path, const char *query)
{
    return (struct key_request){
        .authority = BYTES_LIT("h"),
        .path = bytes_of(path),
        .query = query != NULL ? bytes_of(query) : BYTES_NONE,
        .has_query = query != NULL,
    };
}

static struct key key_of(const char *path, const char *query, char **buf)
{
    struct key_request r = request(path, query);
    struct key key;

    *buf = malloc(key_bytes_max(&all, &r));
    key_build(&all, &r, *buf, &key);
    return key;
}

static struct field field(const char *value)
{
    return (struct field){BYTES_LIT("no-vary-search"), NULL, bytes_of(value)};
}

/* A response to `query` lies under the key of `expected`: whole, with what follows the url part. */
static void reduces(const char *said, const char *query, const char *expected)
{
    struct field f = field(said);
    char *own_buf, *expected_buf;
    struct key own = key_of("/a", query, &own_buf), wanted = key_of("/a", expected, &expected_buf);
    char *buf = malloc(no_vary_bytes_max(&own));
    struct key key = no_vary_reduce(&own, (struct fields){&f, 1}, buf);

    assert_true(bytes_eq(key.whole, wanted.whole));
    assert_true(bytes_eq(key.url, wanted.url));
    assert_true(bytes_eq(key.target, own.target)); /* what goes upstream */
    if (bytes_eq(own.whole, wanted.whole))
        assert_ptr_equal(key.whole.p, own.whole.p);
    free(buf);
    free(own_buf);
    free(expected_buf);
}

/* The draft's section 6. */
static void a_query_is_reduced(void **state)
{
    (void)state;
    reduces("params=(\"b\")", "a=1&b=2", "a=1");
    reduces("params=(\"b\")", "a=1", "a=1");
    reduces("params=(\"b\")", "b=2", NULL);
    reduces("params=(\"b\")", "b", NULL);
    reduces("params=(\"b\")", "", NULL);
    reduces("params=(\"b\")", NULL, NULL);
    reduces("params", "a&b", NULL);
    reduces("except=(\"a\")", "a=%20&b", "a=+");
    reduces("params=(\"b\"", "a=1&b=2", "a=1&b=2");
    reduces("params=()", "a=1&b=2", "a=1&b=2");
}

/* Without order; names and values are compared as they are read (the draft's section 6). */
static void an_order_that_does_not_count(void **state)
{
    (void)state;
    reduces("key-order", "b=2&a=1&b=1", "a=1&b=2&b=1");
    reduces("key-order, params=(\"c\")", "a=%20&c", "a=+");
    reduces("key-order=?0, params=(\"c\")", "a=1&c", "a=1");
    reduces("key-order=1, params=(\"c\")", "a=1&c", "a=1&c");
}

/* What follows the url part, the scope above all, is as it was. */
static void the_rest_of_the_key_stays(void **state)
{
    struct field f = field("params=(\"b\")");
    struct key_request r = request("/a", "a=1&b=2"), expected = request("/a", "a=1");
    struct key own, wanted;

    (void)state;
    r.user_scope = expected.user_scope = true;
    r.user = expected.user = BYTES_LIT("ann");
    char *own_buf = malloc(key_bytes_max(&all, &r)), *wanted_buf = malloc(key_bytes_max(&all, &expected));

    key_build(&all, &r, own_buf, &own);
    key_build(&all, &expected, wanted_buf, &wanted);
    char *buf = malloc(no_vary_bytes_max(&own));
    struct key key = no_vary_reduce(&own, (struct fields){&f, 1}, buf);

    assert_true(bytes_eq(key.whole, wanted.whole));
    assert_true(key.whole.n > key.url.n);
    free(buf);
    free(own_buf);
    free(wanted_buf);
}

static void with_field_of(size_t length, const char *expected)
{
    char *text = malloc(length + 1);

    memset(text, ' ', length);
    memcpy(text, "params=(\"b\"", 11);
    text[length - 1] = ')';
    text[length] = '\0';
    reduces(text, "a=1&b=2", expected);
    free(text);
}

static void a_field_that_is_too_long_has_no_effect(void **state)
{
    (void)state;
    with_field_of(NO_VARY_TEXT_MAX, "a=1");
    with_field_of(NO_VARY_TEXT_MAX + 1, "a=1&b=2");
}

/* RFC 9110 section 5.3. */
static void lines_are_one_text(void **state)
{
    struct field lines[] = {field("key-order"), {BYTES_LIT("other"), NULL, BYTES_LIT("x")}, field("params=(\"b\")")};
    struct field half = field("params=(\"b\"");
    char text[NO_VARY_TEXT_MAX];

    (void)state;
    assert_true(bytes_eq((struct bytes){text, no_vary_text((struct fields){lines, 3}, text)},
                         BYTES_LIT("key-order, params=(\"b\")")));
    assert_int_equal(no_vary_text((struct fields){&half, 1}, text), 0);
    assert_int_equal(no_vary_text((struct fields){lines, 0}, text), 0);
}

static void mark(struct store *store, struct store_thread *t, const struct key *key, const char *said)
{
    struct field f = field(said);

    assert_true(no_vary_mark(t, store, key, (struct fields){&f, 1}, store_birth(store), (struct mono_ms){0}));
}

static void reduces_by_marker(struct store *store, struct store_thread *t, const char *path, const char *query,
                              const char *expected)
{
    char *own_buf, *expected_buf;
    struct key own = key_of(path, query, &own_buf), wanted = key_of(path, expected, &expected_buf);
    char *buf = malloc(no_vary_bytes_max(&own));
    struct key key = no_vary_reduce_by_marker(t, store, &own, (struct mono_ms){0}, buf);

    assert_true(bytes_eq(key.whole, wanted.whole));
    free(buf);
    free(own_buf);
    free(expected_buf);
}

/* The draft's section 7. */
static void a_marker_is_for_all_queries_of_its_path(void **state)
{
    struct store *store = store_create(&(struct store_options){.bytes_max = 1 << 20, .threads = 1, .seed = 1});
    struct store_thread *t = store_thread_create(store);
    char *buf;
    struct key key = key_of("/a", "x=1&b=2", &buf);

    (void)state;
    mark(store, t, &key, "params=(\"b\")");
    free(buf);
    reduces_by_marker(store, t, "/a", "c=1&b=2", "c=1");
    reduces_by_marker(store, t, "/a", NULL, NULL);
    reduces_by_marker(store, t, "/a/", "c=1&b=2", "b=2&c=1");
    key = key_of("/a", NULL, &buf);
    mark(store, t, &key, "params=(\"c\")"); /* the newest */
    reduces_by_marker(store, t, "/a", "c=1&b=2", "b=2");
    assert_int_equal(store_purge_url(t, key.url, false), 0); /* markers do not count, and go */
    reduces_by_marker(store, t, "/a", "c=1&b=2", "b=2&c=1");
    free(buf);
    store_thread_destroy(t);
    store_destroy(store);
}

static struct stored *response_to(struct store *store, struct store_thread *t, struct bytes key, const char *said,
                                  int64_t date_s)
{
    struct field f = field(said);
    struct stored *s = stored_create(t,
                                     &(struct stored_options){
                                         .kind = STORED_RESPONSE,
                                         .key = key,
                                         .hash = store_hash(store, key),
                                         .fields = {&f, 1},
                                         .date = {date_s},
                                         .born = store_birth(store),
                                     },
                                     (struct mono_ms){0});

    assert_non_null(s);
    return s;
}

/* What lies under a reduced key is for whom its own field says, until a purge of their own url has come. The draft's
 * sections 6 and 7. */
static void a_response_says_for_which_queries_it_is(void **state)
{
    struct store *store = store_create(&(struct store_options){.bytes_max = 1 << 20, .threads = 1, .seed = 1});
    struct store_thread *t = store_thread_create(store);
    char *buf, *other_buf, *reduced_buf;
    struct key key = key_of("/a", "a=1&b=2", &buf), other = key_of("/a", "a=1&b=3", &other_buf),
               reduced = key_of("/a", "a=1", &reduced_buf);
    struct stored *s = response_to(store, t, reduced.whole, "params=(\"b\")", 0);
    struct stored *silent = response_to(store, t, reduced.whole, "", 0);

    (void)state;
    assert_true(no_vary_is_for(store, s, &key, reduced.whole));
    assert_false(no_vary_is_for(store, s, &key, key.whole));
    assert_false(no_vary_is_for(store, silent, &key, reduced.whole));
    assert_int_equal(store_purge_url(t, key.url, false), 0);
    assert_false(no_vary_is_for(store, s, &key, reduced.whole));
    assert_true(no_vary_is_for(store, s, &other, reduced.whole));
    stored_release(s);
    stored_release(silent);
    free(buf);
    free(other_buf);
    free(reduced_buf);
    store_thread_destroy(t);
    store_destroy(store);
}

/* RFC 9111 section 4: the most recent one, by Date; in one second, the one that was asked for last. */
static void the_most_recent_is_preferred(void **state)
{
    struct store *store = store_create(&(struct store_options){.bytes_max = 1 << 20, .threads = 1, .seed = 1});
    struct store_thread *t = store_thread_create(store);
    struct stored *first = response_to(store, t, BYTES_LIT("first"), "", 10),
                  *second = response_to(store, t, BYTES_LIT("second"), "", 10),
                  *newest = response_to(store, t, BYTES_LIT("newest"), "", 11),
                  *twelve = response_to(store, t, BYTES_LIT("first"), "", 12);
    struct stored_options options = {.kind = STORED_PASS, .key = BYTES_LIT("first"), .born = store_birth(store)};
    struct stored *pass = stored_create(t, &options, (struct mono_ms){0});

    (void)state;
    assert_false(no_vary_prefers_own(NULL, NULL));
    assert_false(no_vary_prefers_own(NULL, first));
    assert_true(no_vary_prefers_own(first, NULL));
    assert_false(no_vary_prefers_own(first, second));
    assert_true(no_vary_prefers_own(second, first));
    assert_true(no_vary_prefers_own(twelve, newest));
    assert_false(no_vary_prefers_own(newest, twelve));
    assert_false(no_vary_prefers_own(pass, second));
    assert_true(no_vary_prefers_own(second, pass));
    stored_release(twelve);
    stored_release(pass);
    stored_release(first);
    stored_release(second);
    stored_release(newest);
    store_thread_destroy(t);
    store_destroy(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_query_is_reduced),
        cmocka_unit_test(an_order_that_does_not_count),
        cmocka_unit_test(the_rest_of_the_key_stays),
        cmocka_unit_test(a_field_that_is_too_long_has_no_effect),
        cmocka_unit_test(lines_are_one_text),
        cmocka_unit_test(a_marker_is_for_all_queries_of_its_path),
        cmocka_unit_test(a_response_says_for_which_queries_it_is),
        cmocka_unit_test(the_most_recent_is_preferred),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
