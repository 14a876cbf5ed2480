#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>

#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "proxy/codec.h"
#include "tests/unit/stored_make.h"

struct fixture {
    struct store *store;
    struct store_thread *t;
};

static const _Atomic bool go_on = false;

static int set_up(void **state)
{
    struct fixture *f = malloc(sizeof *f);

    f->store = store_create(&(struct store_options){.bytes_max = 64 << 20, .threads = 1, .seed = 7});
    f->t = store_thread_create(f->store);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    store_thread_destroy(f->t);
    store_destroy(f->store);
    free(f);
    return 0;
}

/* known: its length is stated; else it lies in several chunks. */
static struct stored *body_of(struct fixture *f, struct bytes text, bool known)
{
    struct stored_options o = options_of(f->store, "/a");

    o.content_length = known ? (int64_t)text.n : -1;
    struct stored *s = stored_create(f->t, &o, T0);

    assert_non_null(s);
    while (text.n > 0) {
        size_t n = text.n < 5000 ? text.n : 5000;

        assert_true(stored_append(f->t, s, (struct bytes){text.p, n}, T0));
        text.p += n;
        text.n -= n;
    }
    stored_finish_body(s, BODY_COMPLETE);
    return s;
}

static struct bytes text_of(size_t n, bool noise)
{
    char *p = malloc(n + 1);
    uint64_t x = 88172645463325252u;

    for (size_t i = 0; i < n; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        p[i] = noise ? (char)x : (char)("a text, again and again "[i % 24] + (x % 64 == 0));
    }
    return (struct bytes){p, n};
}

static const enum coding codings[] = {CODING_GZIP, CODING_BR, CODING_ZSTD};
static const size_t sizes[] = {0, 1, 2, 1023, 16384, 65535, 65536, 300000, 2000000};

static void each_undoes_itself(void **state)
{
    struct fixture *f = *state;
    struct codec_buffer packed = {NULL, 0, 0}, plain = {NULL, 0, 0};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (unsigned k = 0; k < 12; k++) {
            enum coding coding = codings[k % 3];
            struct bytes text = text_of(sizes[i], k / 3 % 2);
            struct stored *s = body_of(f, text, k / 6);

            assert_int_equal(codec_encode(coding, 1, s, SIZE_MAX, &go_on, &packed), CODEC_OK);
            struct stored *p = body_of(f, (struct bytes){packed.p, packed.n}, k / 6);

            /* all that may come out, and one byte less */
            assert_int_equal(codec_decode(coding, p, text.n + 1, &go_on, &plain), CODEC_OK);
            assert_int_equal(plain.n, text.n);
            assert_memory_equal(plain.p, text.p, text.n);
            if (text.n > 0) {
                assert_int_equal(codec_decode(coding, p, text.n, &go_on, &plain), CODEC_OK);
                assert_int_equal(codec_decode(coding, p, text.n - 1, &go_on, &plain), CODEC_TOO_LARGE);
            }
            assert_int_equal(codec_encode(coding, 1, s, packed.n, &go_on, &plain), CODEC_OK);
            assert_int_equal(codec_encode(coding, 1, s, packed.n - 1, &go_on, &plain), CODEC_TOO_LARGE);
            stored_release(s);
            stored_release(p);
            free((char *)text.p);
        }
    codec_buffer_free(&packed);
    codec_buffer_free(&plain);
}

static void what_is_cut_short_or_followed_by_something_else_is_bad(void **state)
{
    struct fixture *f = *state;
    struct codec_buffer packed = {NULL, 0, 0}, plain = {NULL, 0, 0};
    struct bytes text = text_of(3000, false);
    struct stored *s = body_of(f, text, true);

    for (size_t k = 0; k < 3; k++) {
        assert_int_equal(codec_encode(codings[k], 5, s, SIZE_MAX, &go_on, &packed), CODEC_OK);
        char *longer = malloc(packed.n + 1);

        memcpy(longer, packed.p, packed.n);
        longer[packed.n] = 'x';
        for (size_t n = 0; n <= packed.n + 1; n++) {
            struct stored *p = body_of(f, (struct bytes){longer, n}, true);

            assert_int_equal(codec_decode(codings[k], p, 100000, &go_on, &plain), n == packed.n ? CODEC_OK : CODEC_BAD);
            stored_release(p);
        }
        free(longer);
    }
    stored_release(s);
    free((char *)text.p);
    codec_buffer_free(&packed);
    codec_buffer_free(&plain);
}

static void a_stop_is_heeded(void **state)
{
    struct fixture *f = *state;
    struct codec_buffer out = {NULL, 0, 0};
    struct bytes text = text_of(2000000, false);
    struct stored *s = body_of(f, text, false);
    const _Atomic bool stop = true;

    for (size_t k = 0; k < 3; k++)
        assert_int_equal(codec_encode(codings[k], 1, s, SIZE_MAX, &stop, &out), CODEC_STOPPED);
    stored_release(s);
    free((char *)text.p);
    codec_buffer_free(&out);
}

/* In pieces of all sizes, some without anything. */
static void a_stream_of_pieces_is_one_body(void **state)
{
    struct fixture *f = *state;
    struct codec_buffer packed = {NULL, 0, 0}, plain = {NULL, 0, 0};

    for (unsigned k = 0; k < 6; k++) {
        struct bytes text = text_of(700000, k / 3), left = text;
        struct codec_stream *stream = codec_stream_create(codings[k % 3], 9);
        size_t n = 0;

        assert_non_null(stream);
        packed.n = 0;
        do {
            size_t before = packed.n;

            assert_int_equal(codec_stream_add(stream, (struct bytes){left.p, n}, n == left.n, &packed), CODEC_OK);
            assert_true(n == 0 || packed.n > before);
            left.p += n;
            left.n -= n;
            n = n * 3 / 2 + 1;
            n = n > left.n ? left.n : n;
        } while (left.n > 0);
        codec_stream_destroy(stream);
        struct stored *p = body_of(f, (struct bytes){packed.p, packed.n}, true);

        assert_int_equal(codec_decode(codings[k % 3], p, text.n, &go_on, &plain), CODEC_OK);
        assert_int_equal(plain.n, text.n);
        assert_memory_equal(plain.p, text.p, text.n);
        stored_release(p);
        free((char *)text.p);
    }
    codec_buffer_free(&packed);
    codec_buffer_free(&plain);
}

static void a_stream_of_nothing_is_an_empty_body(void **state)
{
    struct fixture *f = *state;
    struct codec_buffer packed = {NULL, 0, 0}, plain = {NULL, 0, 0};

    for (unsigned k = 0; k < 3; k++) {
        struct codec_stream *stream = codec_stream_create(codings[k], 3);

        packed.n = 0;
        assert_int_equal(codec_stream_add(stream, BYTES_LIT(""), true, &packed), CODEC_OK);
        codec_stream_destroy(stream);
        struct stored *p = body_of(f, (struct bytes){packed.p, packed.n}, true);

        assert_int_equal(codec_decode(codings[k], p, 1, &go_on, &plain), CODEC_OK);
        assert_int_equal(plain.n, 0);
        stored_release(p);
    }
    codec_buffer_free(&packed);
    codec_buffer_free(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_undoes_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_cut_short_or_followed_by_something_else_is_bad, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stop_is_heeded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stream_of_pieces_is_one_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stream_of_nothing_is_an_empty_body, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
