/*
 * The record decoder against random and mutated records. Most get a good checksum, for behind it lie the lengths: what
 * is decoded then lies within the record, and encodes to the very same bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mutate.h"
#include "record_make.h"

#define RUNS 50000

static bool is_within(struct bytes part, struct bytes text)
{
    return part.n == 0 || (part.p >= text.p && part.p + part.n <= text.p + text.n);
}

static void is_the_same_again(const struct record *r, struct bytes text)
{
    struct bytes again = record_make(r, r->body);

    assert_true(bytes_eq(again, text));
    record_free(again);
}

static void is_a_record(const struct record *r, struct bytes text)
{
    assert_true(is_within(r->key, text) && is_within(r->spec, text) && is_within(r->body, text));
    assert_true(r->key_url_n <= r->key.n && r->fields.n <= RECORD_FIELDS_MAX);
    for (size_t i = 0; i < r->fields.n; i++) {
        const struct field *f = &r->fields.v[i];

        assert_true(is_within(f->name, text) && is_within(f->value, text));
        assert_true(f->orig_name == NULL || is_within((struct bytes){f->orig_name, f->name.n}, text));
        assert_null(memchr(f->value.p, '\n', f->value.n));
    }
    is_the_same_again(r, text);
}

/* Numbers are where the decoder can be led astray: more of them than chance would hit. */
static void change_a_number(struct mutate *m, char *text, size_t n)
{
    static const int64_t values[] = {0, 1, -1, 16, 28, 599, 4096, INT64_MAX, INT64_MIN, UINT32_MAX, 1 << 20};
    size_t at = 40 + 8 * mutate_below(m, 14);
    int64_t value = mutate_below(m, 4) == 0 ? (int64_t)mutate_below(m, n + 2)
                                            : values[mutate_below(m, sizeof values / sizeof *values)];

    if (at + sizeof value <= n)
        memcpy(text + at, &value, sizeof value);
}

static void change(struct mutate *m, char *text, size_t *length)
{
    static const char *const pieces[] = {"x-a", "\r\n", "weir", "\1", "\3", "", NULL};

    m->pieces = pieces;
    for (size_t n = 1 + mutate_below(m, 3); n > 0; n--)
        if (mutate_below(m, 2) == 0)
            change_a_number(m, text, *length);
        else
            mutate_once(m, text, length);
}

static struct bytes sample(struct mutate *m)
{
    struct record r = record_sample();

    r.kind = (enum record_kind)(RECORD_RESPONSE + mutate_below(m, 3));
    r.spec = r.kind == RECORD_VARY ? BYTES_LIT("accept") : BYTES_LIT("");
    r.fields.n = mutate_below(m, 4);
    return record_make(&r, (struct bytes){"0123456789abcdefghij", mutate_below(m, 20)});
}

static void judge(struct bytes text, size_t *decoded)
{
    static struct field room[RECORD_FIELDS_MAX];
    struct record out;

    if (!record_decode(text, &out, room))
        return;
    is_a_record(&out, text);
    ++*decoded;
}

static void what_is_decoded_is_what_was_encoded(void **state)
{
    struct mutate m = {.seed = 1};
    size_t decoded = 0, runs = mutate_runs(RUNS);

    (void)state;
    for (size_t i = 0; i < runs; i++) {
        char text[MUTATE_MAX];
        struct bytes made = sample(&m);
        size_t n = made.n;

        memcpy(text, made.p, n);
        record_free(made);
        change(&m, text, &n);
        char *exact = malloc(n + 1);

        memcpy(exact, text, n);
        if (n > 16 && mutate_below(&m, 8) != 0)
            record_seal(exact, n);
        judge((struct bytes){exact, n}, &decoded);
        free(exact);
    }
    assert_true(decoded > runs / 100); /* one that meets nothing but misses proves nothing */
    print_message("%zu of %zu were records\n", decoded, runs);
}

static void random_bytes_are_no_record(void **state)
{
    struct mutate m = {.seed = 2};
    size_t decoded = 0, runs = mutate_runs(RUNS) / 10;

    (void)state;
    for (size_t i = 0; i < runs; i++) {
        size_t n = mutate_below(&m, MUTATE_MAX);
        char *text = malloc(n + 1);

        for (size_t k = 0; k < n; k++)
            text[k] = (char)mutate_random(&m);
        if (mutate_below(&m, 2) == 0 && n > 4)
            memcpy(text, "weir\1", 5);
        if (n > 16 && mutate_below(&m, 2) == 0)
            record_seal(text, n);
        judge((struct bytes){text, n}, &decoded);
        free(text);
    }
    assert_int_equal(decoded, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_decoded_is_what_was_encoded),
        cmocka_unit_test(random_bytes_are_no_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
