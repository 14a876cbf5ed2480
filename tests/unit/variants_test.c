#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "policies/variants.h"

/* In a heap buffer of its own size, so that a sanitizer sees a byte too many read. */
static struct bytes add(struct bytes list, struct bytes variant, size_t without)
{
    static char out[VARIANTS_BYTES_MAX];
    size_t n = variants_add(list, variant, without, out);
    char *copy = malloc(n);
    memcpy(copy, out, n);
    free((void *)(uintptr_t)list.p);
    return (struct bytes){copy, n};
}

static struct bytes of(const char *words)
{
    struct bytes list = BYTES_NONE;
    for (size_t n = strlen(words); n > 0; n--)
        list = add(list, (struct bytes){words + n - 1, 1}, VARIANTS_MAX);
    return list;
}

static void is(struct bytes list, const char *words)
{
    struct bytes variant, left = list;
    size_t n = 0;
    for (; variants_next(&left, &variant); n++)
        assert_true(n < strlen(words) && bytes_eq(variant, (struct bytes){words + n, 1}));
    assert_int_equal(n, strlen(words));
    assert_int_equal(variants_count(list), n);
    free((void *)(uintptr_t)list.p);
}

static void the_newest_comes_first(void **state)
{
    (void)state;
    struct bytes none = BYTES_NONE, variant;
    assert_false(variants_next(&none, &variant));
    assert_false(variants_have(none, BYTES_NONE));
    is(of("a"), "a");
    is(add(of("bc"), BYTES_LIT("a"), VARIANTS_MAX), "abc");
}

static void one_of_the_others_can_be_left_out(void **state)
{
    (void)state;
    is(add(of("bcd"), BYTES_LIT("a"), 0), "acd");
    is(add(of("bcd"), BYTES_LIT("a"), 2), "abc");
    is(add(of("bcd"), BYTES_LIT("a"), 3), "abcd");
}

static void sixteen_are_kept_but_not_seventeen(void **state)
{
    (void)state;
    is(add(of("bcdefghijklmnop"), BYTES_LIT("a"), VARIANTS_MAX), "abcdefghijklmnop");
    is(add(of("bcdefghijklmnopq"), BYTES_LIT("a"), VARIANTS_MAX), "abcdefghijklmnop");
    is(add(of("bcdefghijklmnopq"), BYTES_LIT("a"), 3), "abcdfghijklmnopq");
}

static void only_a_whole_variant_is_had(void **state)
{
    (void)state;
    struct bytes list = add(add(BYTES_NONE, BYTES_LIT("long"), VARIANTS_MAX), BYTES_NONE, VARIANTS_MAX);
    assert_true(variants_have(list, BYTES_LIT("long")));
    assert_true(variants_have(list, BYTES_NONE));
    assert_false(variants_have(list, BYTES_LIT("lon")));
    assert_false(variants_have(list, BYTES_LIT("longe")));
    free((void *)(uintptr_t)list.p);
}

static void the_longest_fill_the_room_and_no_more(void **state)
{
    (void)state;
    static char text[VARIANT_MAX];
    struct bytes list = BYTES_NONE, variant;
    for (int i = 0; i < VARIANTS_MAX + 1; i++) {
        memset(text, 'a' + i, sizeof text);
        list = add(list, (struct bytes){text, sizeof text}, VARIANTS_MAX);
    }
    assert_int_equal(list.n, VARIANTS_BYTES_MAX);
    struct bytes left = list;
    for (int i = VARIANTS_MAX; variants_next(&left, &variant); i--)
        assert_true(variant.n == VARIANT_MAX && variant.p[0] == 'a' + i && variant.p[VARIANT_MAX - 1] == 'a' + i);
    free((void *)(uintptr_t)list.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_comes_first),
        cmocka_unit_test(one_of_the_others_can_be_left_out),
        cmocka_unit_test(sixteen_are_kept_but_not_seventeen),
        cmocka_unit_test(only_a_whole_variant_is_had),
        cmocka_unit_test(the_longest_fill_the_room_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
