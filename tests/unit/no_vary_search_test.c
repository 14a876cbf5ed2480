/* Sections are those of draft-ietf-httpbis-no-vary-search-05. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "policies/no_vary_search.h"
#include "tests/unit/mutate.h"

static bool read_field(const char *value, struct no_vary_search *out)
{
    static struct field field;

    field = (struct field){BYTES_LIT("no-vary-search"), NULL, bytes_of(value)};
    return no_vary_search_read((struct fields){&field, 1}, out);
}

static struct no_vary_search nvs_of(const char *value)
{
    struct no_vary_search nvs;

    if (!read_field(value, &nvs))
        fail_msg("without effect: %s", value);
    return nvs;
}

static struct bytes reduced(const struct no_vary_search *nvs, struct bytes query, char *out, size_t cap)
{
    assert_true(no_vary_search_bytes_max(query) <= cap);
    size_t n = no_vary_search_reduce(nvs, query, out);

    assert_true(n <= no_vary_search_bytes_max(query));
    return (struct bytes){out, n};
}

/* Equal, and then reduced to the same; or neither. */
static bool equal_bytes(const struct no_vary_search *nvs, struct bytes a, struct bytes b)
{
    static char text[2][65536];
    bool equal = no_vary_search_equal(nvs, a, b);

    assert_int_equal(no_vary_search_equal(nvs, b, a), equal);
    if (bytes_eq(reduced(nvs, a, text[0], sizeof text[0]), reduced(nvs, b, text[1], sizeof text[1])) != equal)
        fail_msg("equal: %d, but reduced: %.*s | %.*s", equal, (int)a.n, a.p, (int)b.n, b.p);
    return equal;
}

static bool equal(const char *field, const char *a, const char *b)
{
    struct no_vary_search nvs = nvs_of(field);

    return equal_bytes(&nvs, bytes_of(a), bytes_of(b));
}

static void assert_reduced(const char *field, const char *query, const char *expected)
{
    struct no_vary_search nvs = nvs_of(field);
    char out[1024];
    struct bytes got = reduced(&nvs, bytes_of(query), out, sizeof out);

    if (!bytes_eq(got, bytes_of(expected)))
        fail_msg("%s: %s came to %.*s in place of %s", field, query, (int)got.n, got.p, expected);
}

/* The draft's section 5.1; the examples are those of its section 5.2.1, and more. */
static void what_is_not_as_the_draft_has_it_is_without_effect(void **state)
{
    static const char *const none[] = {
        "key-order=\"not a boolean\"",
        "params=\"not an inner list\"",
        "params=(not-a-string)",
        "params=?0",
        "params=(\"a\"), except=(\"x\")",
        "params=(), except=()",
        "params=?0, except=(\"x\")",
        "except=\"not an inner list\"",
        "except=(not-a-string)",
        "except=?1",
        "except=(\"a\" b)",
        "params=(\"a\"), key-order=1",
        "params=()",
        "key-order=?0",
        "",
        "unknown",
        "params=(\"a\",",
        "params=(\"a\"), &",
    };
    struct no_vary_search nvs;

    (void)state;
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        if (read_field(none[i], &nvs))
            fail_msg("has an effect: %s", none[i]);
        assert_true(nvs.kind == NO_VARY_NONE && !nvs.any_order && nvs.names.n == 0);
        assert_true(equal_bytes(&nvs, BYTES_LIT("a=1"), BYTES_LIT("a=1")));
        assert_false(equal_bytes(&nvs, BYTES_LIT("a=1"), BYTES_LIT("a=%31")));
    }
    assert_false(no_vary_search_read((struct fields){NULL, 0}, &nvs));
}

/* The draft's section 5.1; `params` as a Boolean is from earlier versions. */
static void the_forms_of_the_field(void **state)
{
    (void)state;
    assert_int_equal(nvs_of("params=(\"a\" \"b\");x").kind, NO_VARY_PARAMS);
    assert_int_equal(nvs_of("except=()").kind, NO_VARY_EXCEPT);
    assert_int_equal(nvs_of("params").kind, NO_VARY_EXCEPT);
    assert_int_equal(nvs_of("params=?1, except=(\"x\")").kind, NO_VARY_EXCEPT);
    assert_int_equal(nvs_of("key-order").kind, NO_VARY_NONE);
    assert_true(nvs_of("key-order=?1, unknown=1").any_order);
    assert_false(nvs_of("key-order=?0, params=(\"a\")").any_order);
    assert_true(nvs_of("except=(\"x\"), key-order").any_order);
    assert_int_equal(nvs_of("params=?0, params").kind, NO_VARY_EXCEPT);
}

/* The draft's sections 5.3 and 6. */
static void named_parameters_do_not_count(void **state)
{
    const char *field = "params=(\"utm_source\" \"b c\" \"d\\\"\\\\\")";

    (void)state;
    assert_reduced(field, "a=1&utm_source=x&b=2", "a=1&b=2");
    assert_reduced(field, "utm_source&b+c=1&b%20c=2&%62+c&d%22%5c=3", "");
    assert_true(equal(field, "a=1&utm_source=x", "utm_source=y&utm_source=z&a=1"));
    assert_true(equal(field, "utm_source=x", ""));
    assert_false(equal(field, "a=1&b=2", "b=2&a=1"));
    assert_false(equal(field, "a=1", "a=2"));
    assert_false(equal(field, "a=1", "a=1&a=1"));
    assert_false(equal(field, "Utm_source=x", ""));
    assert_false(equal(field, "utm_sourc=x", ""));
    assert_false(equal(field, "utm_source2=x", ""));
}

/* The draft's sections 5.3 and 6. */
static void all_but_the_named_do_not_count(void **state)
{
    (void)state;
    assert_reduced("except=(\"id\")", "a=1&id=2&b&id=1", "id=2&id=1");
    assert_reduced("params, except=(\"id\")", "a=1&id=2&b&id=1", "id=2&id=1");
    assert_reduced("except=()", "a=1&id=2", "");
    assert_reduced("params", "a=1&id=2", "");
    assert_true(equal("except=(\"id\")", "a=1&id=2", "id=2&b=3"));
    assert_false(equal("except=(\"id\")", "id=1&id=2", "id=2&id=1"));
    assert_true(equal("except=(\"%C3%A9+%E6%B0%97\"), key-order", "x&\xc3\xa9+\xe6\xb0\x97=1", "%c3%a9%20%E6%B0%97=1"));
}

/* The sort is stable: values of one name keep their order (the draft's section 6). */
static void the_order_of_names_may_not_count(void **state)
{
    (void)state;
    assert_reduced("key-order", "b=2&a=1&b=1&a", "a=1&a=&b=2&b=1");
    assert_true(equal("key-order", "b=2&a=1&b=1", "a=1&b=2&b=1"));
    assert_false(equal("key-order", "b=2&b=1", "b=1&b=2"));
    assert_true(equal("key-order, params=(\"x\")", "c=3&x=1&a=1", "a=1&c=3"));
}

/* The draft's section 6; the first examples are those of its section 6.1. */
static void spellings_of_one_query_are_equal(void **state)
{
    static const char *const same[][2] = {
        {"a=x", "%61=%78"},
        {"a=\xc3\xa9", "a=%C3%A9"},
        {"a=%f6", "a=%ef%bf%bd"},
        {"a=x&&&&", "a=x"},
        {"a=", "a"},
        {"a=%20", "a= &"},
        {"a=+", "a= &"},
        {"a=%", "a=%25"},
        {"a=%4", "a=%254"},
        {"a=%zz", "a=%25zz"},
        {"a=%e4%b8", "a=%ef%bf%bd"},
        {"a=%e4b", "a=%ef%bf%bdb"},
        {"a=%e4%e4%b8%ad", "a=%ef%bf%bd\xe4\xb8\xad"},
        {"a==b", "a=%3d%62"},
        {"=", "=&&"},
        {"a=%c0%80", "a=%ef%bf%bd%ef%bf%bd"},
        {"a=%ed%a0%80", "a=%ff%fe%fd"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        if (!equal("key-order", same[i][0], same[i][1]))
            fail_msg("not equal: %s and %s", same[i][0], same[i][1]);
    assert_false(equal("key-order", "a=%2b", "a=+"));
    assert_false(equal("key-order", "a%26b", "a&b"));
    assert_false(equal("key-order", "a%3db", "a=b"));
    assert_false(equal("key-order", "=", ""));
    assert_reduced("key-order", "a=%f0%9f%98%80*-._~%00'&%3D==%26", "%3D=%3D%26&a=%F0%9F%98%80*-._%7E%00%27");
}

static void a_query_of_too_many_parameters_is_left_as_it_is(void **state)
{
    static char most[4 * NO_VARY_PAIRS_MAX + 64], more[sizeof(most) + 2];
    struct no_vary_search nvs = nvs_of("params=(\"x\")");
    char *p = most;

    (void)state;
    for (int i = 0; i < NO_VARY_PAIRS_MAX - 1; i++)
        p += sprintf(p, "a=&");
    sprintf(p, "x=1");
    sprintf(more, "%s&x", most);
    assert_true(equal_bytes(&nvs, bytes_of(most), (struct bytes){most, (size_t)(p - most)}));
    assert_false(equal_bytes(&nvs, bytes_of(more), bytes_of(most)));
    assert_true(equal_bytes(&nvs, bytes_of(more), bytes_of(more)));
}

static void a_field_of_too_many_names_is_without_effect(void **state)
{
    static char text[4 * NO_VARY_NAMES_MAX + 64];
    struct no_vary_search nvs;
    char *p = text + sprintf(text, "params=(");

    (void)state;
    for (int i = 0; i < NO_VARY_NAMES_MAX; i++)
        p += sprintf(p, "\"a\" ");
    strcpy(p, ")");
    assert_true(read_field(text, &nvs));
    strcpy(p, "\"b\")");
    assert_false(read_field(text, &nvs));
}

static uint64_t seed = 88172645463325252U;

static unsigned dice(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed % n);
}

static struct bytes random_query(char *out)
{
    static const char *const pieces[] = {"a", "b", "=", "&", "%61", "+", "%20", " ", "%c3", "\xa9", "%", "%25", "\xff"};
    size_t n = 0, count = dice(8);

    for (size_t i = 0; i < count; i++) {
        const char *piece = pieces[dice(sizeof(pieces) / sizeof(pieces[0]))];

        memcpy(out + n, piece, strlen(piece));
        n += strlen(piece);
    }
    return (struct bytes){out, n};
}

/* However many there are: by name, and among those of one name as they came. */
static void sorts_stably(unsigned n)
{
    static char query[8 * NO_VARY_PAIRS_MAX], expected[sizeof query], out[10 * sizeof query + 1];
    struct no_vary_search nvs = nvs_of("key-order");
    char names[NO_VARY_PAIRS_MAX], *p = query, *e = expected;

    for (unsigned i = 0; i < n; i++) {
        names[i] = (char)('a' + dice(8));
        p += sprintf(p, "%s%c=%u", i > 0 ? "&" : "", names[i], i);
    }
    for (char name = 'a'; name < 'a' + 8; name++)
        for (unsigned i = 0; i < n; i++)
            if (names[i] == name)
                e += sprintf(e, "%s%c=%u", e > expected ? "&" : "", name, i);
    assert_true(bytes_eq(reduced(&nvs, bytes_of(query), out, sizeof out), bytes_of(expected)));
}

/* The draft's section 6. */
static void any_number_of_parameters_is_sorted(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= NO_VARY_PAIRS_MAX; n++)
        sorts_stably(n);
}

/* Whatever the queries: they are equal where what they are reduced to is, and what is reduced stays so. The draft's
 * section 6. */
static void reduced_queries_are_the_same_where_queries_are_equal(void **state)
{
    const char *fields[] = {"key-order", "params=(\"a\")", "except=(\"a\" \"%C3%A9\"), key-order",
                            "params=(\" \"), key-order"};
    const size_t runs = mutate_runs(20000);
    size_t nequal = 0;

    (void)state;
    for (size_t i = 0; i < runs; i++) {
        struct no_vary_search nvs = nvs_of(fields[dice(4)]);
        char a[64], b[64], once[1024], twice[16384];
        struct bytes qa = random_query(a), qb = random_query(b), r;

        nequal += equal_bytes(&nvs, qa, qb);
        r = reduced(&nvs, qa, once, sizeof once);
        assert_true(bytes_eq(r, reduced(&nvs, r, twice, sizeof twice)));
        assert_true(no_vary_search_equal(&nvs, qa, r));
    }
    assert_true(nequal > runs / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_as_the_draft_has_it_is_without_effect),
        cmocka_unit_test(the_forms_of_the_field),
        cmocka_unit_test(named_parameters_do_not_count),
        cmocka_unit_test(all_but_the_named_do_not_count),
        cmocka_unit_test(the_order_of_names_may_not_count),
        cmocka_unit_test(spellings_of_one_query_are_equal),
        cmocka_unit_test(a_query_of_too_many_parameters_is_left_as_it_is),
        cmocka_unit_test(a_field_of_too_many_names_is_without_effect),
        cmocka_unit_test(any_number_of_parameters_is_sorted),
        cmocka_unit_test(reduced_queries_are_the_same_where_queries_are_equal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
