/* Which bytes of a stored response answer a request (RFC 9110 section 14, RFC 9111 sections 3.3 and 3.4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/part.h"

static const struct wall_s now = {1795240000};

static struct fields ranged(const char *range, const char *if_range, struct field v[2])
{
    size_t n = 0;

    if (range != NULL)
        v[n++] = (struct field){BYTES_LIT("range"), NULL, bytes_of(range)};
    if (if_range != NULL)
        v[n++] = (struct field){BYTES_LIT("if-range"), NULL, bytes_of(if_range)};
    return (struct fields){v, n};
}

static enum part_verdict choose_if(const char *range, const char *if_range, int status, const char *content_range,
                                   int64_t length, struct part *out)
{
    struct field r[2], s[2] = {{BYTES_LIT("etag"), NULL, BYTES_LIT("\"a\"")},
                               {BYTES_LIT("content-range"), NULL, bytes_of(content_range)}};
    struct part_facts facts = {status, {s, content_range != NULL ? 2 : 1}, length};

    *out = (struct part){0};
    return part_choose(ranged(range, if_range, r), &facts, now, out);
}

#define ASSERT_SOME(part, o, count, a, b, c)                                                                           \
    do {                                                                                                               \
        assert_int_equal((part).offset, o);                                                                            \
        assert_int_equal((part).n, count);                                                                             \
        assert_int_equal((part).range.first, a);                                                                       \
        assert_int_equal((part).range.last, b);                                                                        \
        assert_int_equal((part).range.complete, c);                                                                    \
    } while (0)

static enum part_verdict of_whole(const char *range, int64_t length, struct part *out)
{
    return choose_if(range, NULL, 200, NULL, length, out);
}

/* RFC 9110 sections 14.1.2, 14.2 and 15.5.17. */
static void ranges_of_a_whole(void **state)
{
    struct part p;

    (void)state;
    assert_int_equal(of_whole(NULL, 10, &p), PART_WHOLE);
    assert_int_equal(of_whole("bytes=0-1", 10, &p), PART_SOME);
    ASSERT_SOME(p, 0, 2, 0, 1, 10);
    assert_int_equal(of_whole("bytes=9-", 10, &p), PART_SOME);
    ASSERT_SOME(p, 9, 1, 9, 9, 10);
    assert_int_equal(of_whole("bytes=10-", 10, &p), PART_UNSATISFIABLE);
    assert_int_equal(p.range.complete, 10);
    assert_int_equal(of_whole("bytes=-3", 10, &p), PART_SOME);
    ASSERT_SOME(p, 7, 3, 7, 9, 10);
    assert_int_equal(of_whole("bytes=-0", 10, &p), PART_UNSATISFIABLE);
    assert_int_equal(of_whole("bytes=-3", 0, &p), PART_WHOLE);
    assert_int_equal(of_whole("bytes=0-1", -1, &p), PART_WHOLE);
    assert_int_equal(of_whole("bytes=0-1,3-4", 10, &p), PART_WHOLE);
    assert_int_equal(of_whole("lines=0-1", 10, &p), PART_WHOLE);
    assert_int_equal(choose_if("bytes=0-1", NULL, 404, NULL, 10, &p), PART_WHOLE);
}

/* RFC 9110 section 13.1.5. */
static void if_range_that_does_not_hold_asks_for_the_whole(void **state)
{
    struct part p;

    (void)state;
    assert_int_equal(choose_if("bytes=0-1", "\"a\"", 200, NULL, 10, &p), PART_SOME);
    assert_int_equal(choose_if("bytes=0-1", "\"b\"", 200, NULL, 10, &p), PART_WHOLE);
    assert_int_equal(choose_if("bytes=0-1", "\"b\"", 206, "bytes 0-4/10", 5, &p), PART_MISSING);
}

static enum part_verdict of_part(const char *range, const char *content_range, int64_t length, struct part *out)
{
    return choose_if(range, NULL, 206, content_range, length, out);
}

/* RFC 9111 section 3.3. */
static void ranges_of_a_part(void **state)
{
    struct part p;

    (void)state;
    assert_int_equal(of_part("bytes=4-6", "bytes 4-6/10", 3, &p), PART_SOME);
    ASSERT_SOME(p, 0, 3, 4, 6, 10);
    assert_int_equal(of_part("bytes=5-5", "bytes 4-6/10", 3, &p), PART_SOME);
    ASSERT_SOME(p, 1, 1, 5, 5, 10);
    assert_int_equal(of_part("bytes=3-5", "bytes 4-6/10", 3, &p), PART_MISSING);
    assert_int_equal(of_part("bytes=5-7", "bytes 4-6/10", 3, &p), PART_MISSING);
    assert_int_equal(of_part("bytes=10-", "bytes 4-6/10", 3, &p), PART_UNSATISFIABLE);
    assert_int_equal(of_part("bytes=7-", "bytes 7-9/10", 3, &p), PART_SOME);
    assert_int_equal(of_part("bytes=-3", "bytes 7-9/10", 3, &p), PART_SOME);
    assert_int_equal(of_part("bytes=-4", "bytes 7-9/10", 3, &p), PART_MISSING);
    assert_int_equal(of_part(NULL, "bytes 4-6/10", 3, &p), PART_MISSING);
    assert_int_equal(of_part("bytes=4-4,6-6", "bytes 4-6/10", 3, &p), PART_MISSING);
    assert_int_equal(of_part("bytes=4-6", "bytes 4-6/10", -1, &p), PART_MISSING);
    assert_int_equal(of_part("bytes=4-6", NULL, 3, &p), PART_MISSING);
    /* of an unknown length */
    assert_int_equal(of_part("bytes=4-6", "bytes 4-6/*", 3, &p), PART_SOME);
    ASSERT_SOME(p, 0, 3, 4, 6, -1);
    assert_int_equal(of_part("bytes=4-", "bytes 4-6/*", 3, &p), PART_MISSING);
    assert_int_equal(of_part("bytes=-1", "bytes 4-6/*", 3, &p), PART_MISSING);
}

/* RFC 9110 section 15.3.7. */
static void a_part_that_is_shorter_than_it_says(void **state)
{
    struct part p;

    (void)state;
    assert_int_equal(of_part("bytes=-5", "bytes 4-9/10", 5, &p), PART_SOME);
    ASSERT_SOME(p, 0, 5, 5, 9, 10);
    assert_int_equal(of_part("bytes=6-8", "bytes 4-9/10", 5, &p), PART_SOME);
    ASSERT_SOME(p, 2, 3, 6, 8, 10);
    assert_int_equal(of_part("bytes=6-", "bytes 4-9/10", 5, &p), PART_SOME);
    ASSERT_SOME(p, 2, 3, 6, 8, 10);
    assert_int_equal(of_part("bytes=9-", "bytes 4-9/10", 5, &p), PART_MISSING);
    assert_int_equal(of_part("bytes=-1", "bytes 4-9/10", 0, &p), PART_MISSING);
    assert_int_equal(of_part("bytes=4-5", "bytes 4-9/10", 7, &p), PART_MISSING);
}

static bool storable(const char *content_range, const char *type, int64_t length)
{
    struct field s[2] = {{BYTES_LIT("content-range"), NULL, bytes_of(content_range)},
                         {BYTES_LIT("content-type"), NULL, bytes_of(type)}};

    return part_is_storable(&(struct part_facts){206, {s, 2}, length});
}

/* RFC 9111 section 3.3; RFC 9110 sections 14.4 and 15.3.7.2. */
static void what_part_may_be_stored(void **state)
{
    (void)state;
    assert_true(storable("bytes 4-9/10", "text/plain", 6));
    assert_true(storable("bytes 4-9/10", "text/plain", 5));
    assert_true(storable("bytes 4-9/10", "text/plain", -1));
    assert_false(storable("bytes 4-9/10", "text/plain", 7));
    assert_false(storable("bytes */10", "text/plain", 0));
    assert_false(storable("bytes 4-9/9", "text/plain", 6));
    assert_false(storable("bytes 4-9/10", "Multipart/ByteRanges; boundary=x", 6));
}

static enum part_gap gap_of(const char *content_range, int64_t length, struct content_range *out)
{
    struct field s = {BYTES_LIT("content-range"), NULL, bytes_of(content_range)};

    return part_gap(&(struct part_facts){206, {&s, 1}, length}, out);
}

/* RFC 9111 section 3.3. */
static void what_a_part_lacks(void **state)
{
    struct content_range r;

    (void)state;
    assert_int_equal(gap_of("bytes 0-4/10", 5, &r), PART_GAP_TAIL);
    assert_true(r.first == 5 && r.last == 9 && r.complete == 10);
    assert_int_equal(gap_of("bytes 1-9/10", 9, &r), PART_GAP_HEAD);
    assert_true(r.first == 0 && r.last == 0);
    assert_int_equal(gap_of("bytes 0-9/10", 10, &r), PART_GAP_NONE);
    assert_int_equal(gap_of("bytes 1-8/10", 8, &r), PART_GAP_NONE);
    assert_int_equal(gap_of("bytes 0-4/10", 4, &r), PART_GAP_NONE);
    assert_int_equal(gap_of("bytes 0-4/*", 5, &r), PART_GAP_NONE);
}

static bool join(const char *a, int64_t an, const char *b, int64_t bn, struct content_range *out, uint64_t *tail)
{
    struct field fa = {BYTES_LIT("content-range"), NULL, bytes_of(a)},
                 fb = {BYTES_LIT("content-range"), NULL, bytes_of(b)};

    return part_joins(&(struct part_facts){206, {&fa, 1}, an}, &(struct part_facts){206, {&fb, 1}, bn}, out, tail);
}

/* RFC 9111 section 3.4, RFC 9110 section 15.3.7.3. */
static void parts_that_touch_are_one(void **state)
{
    struct content_range r;
    uint64_t tail;

    (void)state;
    assert_true(join("bytes 0-4/10", 5, "bytes 5-7/10", 3, &r, &tail));
    assert_true(r.first == 0 && r.last == 7 && r.complete == 10 && tail == 0);
    assert_true(join("bytes 0-4/10", 5, "bytes 3-7/10", 5, &r, &tail));
    assert_true(r.last == 7 && tail == 2);
    assert_true(join("bytes 0-4/10", 5, "bytes 1-3/10", 3, &r, &tail));
    assert_true(r.last == 4 && tail == 4);
    assert_false(join("bytes 0-4/10", 5, "bytes 6-7/10", 2, &r, &tail));
    assert_false(join("bytes 5-7/10", 3, "bytes 0-4/10", 5, &r, &tail));
    assert_false(join("bytes 0-4/10", 5, "bytes 5-7/11", 3, &r, &tail));
    assert_false(join("bytes 0-4/10", 4, "bytes 5-7/10", 3, &r, &tail));
    assert_false(join("bytes 0-4/*", 5, "bytes 5-7/*", 3, &r, &tail));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_of_a_whole),        cmocka_unit_test(if_range_that_does_not_hold_asks_for_the_whole),
        cmocka_unit_test(ranges_of_a_part),         cmocka_unit_test(a_part_that_is_shorter_than_it_says),
        cmocka_unit_test(what_part_may_be_stored),  cmocka_unit_test(what_a_part_lacks),
        cmocka_unit_test(parts_that_touch_are_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
