#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "record_make.h"

static const struct bytes body = BYTES_LIT("the body\0with a NUL");

static bool decodes(struct bytes text)
{
    static struct field room[RECORD_FIELDS_MAX];
    struct record out;

    return record_decode(text, &out, room);
}

static bool survives(const struct record *r)
{
    struct bytes text = record_make(r, body);
    bool whole = decodes(text);

    record_free(text);
    return whole;
}

static bool same(struct bytes a, struct bytes b)
{
    return bytes_eq(a, b);
}

static void what_goes_in_comes_out(void **state)
{
    struct record r = record_sample(), out;
    struct bytes text = record_make(&r, body);
    struct field room[RECORD_FIELDS_MAX];

    (void)state;
    assert_true(record_decode(text, &out, room));
    assert_int_equal(out.kind, RECORD_RESPONSE);
    assert_false(out.with_authorization);
    assert_true(out.with_cookie);
    assert_int_equal(out.status, 200);
    assert_int_equal(out.early_ms, 7);
    assert_int_equal(out.response_ms, r.response_ms);
    assert_int_equal(out.date.s, r.date.s);
    assert_memory_equal(&out.epoch, &r.epoch, sizeof r.epoch);
    assert_int_equal(out.lifetimes.fresh_ms, 60000);
    assert_int_equal(out.lifetimes.stale_while_revalidate_ms, 30000);
    assert_int_equal(out.lifetimes.stale_if_error_ms, 3600000);
    assert_int_equal(out.lifetimes.initial_age_ms, 1500);
    assert_int_equal(out.lifetimes.rule, LIFETIME_MAX_AGE);
    assert_true(out.lifetimes.explicit_ && out.lifetimes.must_revalidate && !out.lifetimes.revalidate_always);
    assert_true(same(out.key, r.key) && out.key_url_n == r.key_url_n && out.spec.n == 0 && same(out.body, body));
    assert_int_equal(out.fields.n, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(same(out.fields.v[i].name, record_fields[i].name));
        assert_true(same(out.fields.v[i].value, record_fields[i].value));
        assert_int_equal(out.fields.v[i].orig_name != NULL, record_fields[i].orig_name != NULL);
    }
    assert_memory_equal(out.fields.v[0].orig_name, "Content-Type", 12);
    record_free(text);
}

static void a_flipped_bit_anywhere_is_a_miss(void **state)
{
    struct record r = record_sample();
    struct bytes text = record_make(&r, body);
    char *p = (char *)(uintptr_t)text.p;

    (void)state;
    for (size_t i = 0; i < text.n * 8; i++) {
        p[i / 8] = (char)(p[i / 8] ^ (1 << i % 8));
        assert_false(decodes(text));
        p[i / 8] = (char)(p[i / 8] ^ (1 << i % 8));
    }
    assert_true(decodes(text));
    record_free(text);
}

static void each_shorter_and_longer_one_is_a_miss(void **state)
{
    struct record r = record_sample();
    struct bytes text = record_make(&r, body);

    (void)state;
    for (size_t n = 0; n < text.n; n++) {
        char *cut = malloc(n + 1);

        memcpy(cut, text.p, n);
        assert_false(decodes((struct bytes){cut, n}));
        free(cut);
    }
    char *longer = calloc(1, text.n + 1);

    memcpy(longer, text.p, text.n);
    assert_false(decodes((struct bytes){longer, text.n + 1}));
    free(longer);
    record_free(text);
}

/* A good checksum over a byte that is not as it should be: another version, another kind, an unknown flag. */
static bool resealed_decodes(size_t at, char value)
{
    struct record r = record_sample();
    struct bytes text = record_make(&r, body);
    char *p = (char *)(uintptr_t)text.p;

    p[at] = value;
    record_seal(p, text.n);
    bool whole = decodes(text);

    record_free(text);
    return whole;
}

static void other_versions_kinds_and_flags_are_misses(void **state)
{
    (void)state;
    assert_true(resealed_decodes(0, 'w'));
    assert_false(resealed_decodes(0, 'W'));
    assert_true(resealed_decodes(4, RECORD_VERSION));
    assert_false(resealed_decodes(4, RECORD_VERSION + 1));
    assert_false(resealed_decodes(4, RECORD_VERSION - 1));
    assert_true(resealed_decodes(5, RECORD_RESPONSE));
    assert_false(resealed_decodes(5, 0));
    assert_false(resealed_decodes(5, RECORD_VARY)); /* it has no spec */
    assert_false(resealed_decodes(5, RECORD_PASS + 1));
    assert_true(resealed_decodes(6, 31));
    assert_false(resealed_decodes(6, 32));
    assert_false(resealed_decodes(7, 1));
}

/* The number at that place in the record, as struct fixed in record.c has them. */
enum { STATUS, EARLY, RESPONSE, DATE, FRESH, SWR, SIE, AGE, RULE, KEY, KEY_URL, SPEC, FIELDS, BODY };

static bool numbered_decodes(int number, int64_t value)
{
    struct record r = record_sample();
    struct bytes text = record_make(&r, body);
    char *p = (char *)(uintptr_t)text.p;

    memcpy(p + 40 + number * 8, &value, sizeof value);
    record_seal(p, text.n);
    bool whole = decodes(text);

    record_free(text);
    return whole;
}

static void numbers_out_of_bounds_are_misses(void **state)
{
    static const struct {
        int number;
        int64_t min, max;
    } bounds[] = {
        {STATUS, 200, 599},      {EARLY, 0, INT32_MAX},     {RESPONSE, 0, RECORD_MS_MAX},
        {DATE, 0, UINT32_MAX},   {FRESH, 0, RECORD_MS_MAX}, {SWR, 0, RECORD_MS_MAX},
        {SIE, 0, RECORD_MS_MAX}, {AGE, 0, RECORD_MS_MAX},   {RULE, LIFETIME_NONE, LIFETIME_HEURISTIC},
        {KEY_URL, 0, 28},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        assert_true(numbered_decodes(bounds[i].number, bounds[i].min));
        assert_false(numbered_decodes(bounds[i].number, bounds[i].min - 1));
        assert_true(numbered_decodes(bounds[i].number, bounds[i].max));
        assert_false(numbered_decodes(bounds[i].number, bounds[i].max + 1));
    }
}

static void lengths_are_never_trusted(void **state)
{
    static const int64_t wrong[] = {-1, INT64_MIN, INT64_MAX, 1 << 20, (1 << 20) + 1, UINT32_MAX, 1000};

    (void)state;
    for (int number = KEY; number <= BODY; number++)
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
            assert_false(numbered_decodes(number, wrong[i]));
    assert_true(numbered_decodes(KEY, 28));
    assert_false(numbered_decodes(KEY, 0));
    assert_false(numbered_decodes(KEY, 27));
    assert_true(numbered_decodes(FIELDS, 3));
    assert_false(numbered_decodes(FIELDS, 2));
    assert_true(numbered_decodes(BODY, (int64_t)body.n));
    assert_false(numbered_decodes(BODY, (int64_t)body.n - 1));
}

static bool with_field(struct bytes name, const char *orig_name, struct bytes value)
{
    const struct field field = {name, orig_name, value};
    struct record r = record_sample();

    r.fields = (struct fields){&field, 1};
    return survives(&r);
}

/* Whoever can write into Redis must not be able to split an answer in two. */
static void fields_that_break_an_answer_are_misses(void **state)
{
    (void)state;
    assert_true(with_field(BYTES_LIT("x-a"), "X-A", BYTES_LIT("b\tc")));
    assert_false(with_field(BYTES_LIT("x-a"), "X-B", BYTES_LIT("b")));
    assert_false(with_field(BYTES_LIT("X-a"), NULL, BYTES_LIT("b")));
    assert_false(with_field(BYTES_LIT("x a"), NULL, BYTES_LIT("b")));
    assert_false(with_field(BYTES_LIT("x-a\0"), NULL, BYTES_LIT("b")));
    assert_false(with_field(BYTES_LIT(""), NULL, BYTES_LIT("b")));
    assert_false(with_field(BYTES_LIT("x-a"), NULL, BYTES_LIT("b\r")));
    assert_false(with_field(BYTES_LIT("x-a"), NULL, BYTES_LIT("b\nc")));
    assert_false(with_field(BYTES_LIT("x-a"), NULL, BYTES_LIT("\0")));
    assert_false(with_field(BYTES_LIT("content-length"), NULL, BYTES_LIT("1")));
    assert_false(with_field(BYTES_LIT("transfer-encoding"), NULL, BYTES_LIT("chunked")));
    assert_false(with_field(BYTES_LIT("connection"), NULL, BYTES_LIT("close")));
}

static void as_many_fields_as_a_response_may_have(void **state)
{
    static struct field fields[RECORD_FIELDS_MAX + 1];
    struct record r = record_sample();

    (void)state;
    for (size_t i = 0; i <= RECORD_FIELDS_MAX; i++)
        fields[i] = (struct field){BYTES_LIT("x-a"), NULL, BYTES_LIT("b")};
    r.fields = (struct fields){fields, RECORD_FIELDS_MAX};
    assert_true(survives(&r));
    r.fields.n++;
    assert_false(survives(&r));
    r.fields.n = 0;
    assert_true(survives(&r));
}

static void markers_have_no_body_and_a_word_of_their_own(void **state)
{
    struct record r = {.kind = RECORD_VARY, .key = BYTES_LIT("k"), .spec = BYTES_LIT("accept-language")}, out;
    struct field room[RECORD_FIELDS_MAX];
    struct bytes text = record_make(&r, BYTES_LIT(""));

    (void)state;
    assert_true(record_decode(text, &out, room));
    assert_int_equal(out.kind, RECORD_VARY);
    assert_true(same(out.spec, r.spec) && out.body.n == 0);
    record_free(text);
    r.spec = BYTES_LIT("");
    assert_false(survives(&r));
    r.kind = RECORD_PASS;
    r.status = 3;
    assert_true(survives(&r));
}

/* What is fresh for ever in memory is fresh for ever in Redis. */
static void for_ever_stays_within_bounds(void **state)
{
    struct record r = record_sample();

    (void)state;
    r.lifetimes.fresh_ms = r.lifetimes.stale_if_error_ms = INT64_MAX;
    assert_true(survives(&r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(a_flipped_bit_anywhere_is_a_miss),
        cmocka_unit_test(each_shorter_and_longer_one_is_a_miss),
        cmocka_unit_test(other_versions_kinds_and_flags_are_misses),
        cmocka_unit_test(numbers_out_of_bounds_are_misses),
        cmocka_unit_test(lengths_are_never_trusted),
        cmocka_unit_test(fields_that_break_an_answer_are_misses),
        cmocka_unit_test(as_many_fields_as_a_response_may_have),
        cmocka_unit_test(markers_have_no_body_and_a_word_of_their_own),
        cmocka_unit_test(for_ever_stays_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
