#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

#include "policies/negotiate.h"
#include "tests/unit/mutate.h"

static const struct bytes encoding = BYTES_LIT("accept-encoding"), language = BYTES_LIT("accept-language");

static bool parse(struct bytes name, const char *value, struct preferences *p)
{
    const struct field f = {name, NULL, bytes_of(value)};
    return negotiate_parse((struct fields){&f, value != NULL}, name, 0, p);
}

static void writes(struct bytes name, const char *value, const char *expected)
{
    struct preferences p;
    char text[512];
    if (!parse(name, value, &p))
        fail_msg("not read: %s", value);
    size_t n = negotiate_write(&p, text);
    if (n != strlen(expected) || memcmp(text, expected, n) != 0)
        fail_msg("%s is written %.*s", value, (int)n, text);
}

/* RFC 9110 section 12.4.2. */
static void weights_order_and_a_weight_of_one_is_left_out(void **state)
{
    (void)state;
    writes(language, "en, de", "de,en");
    writes(language, "de, en", "de,en");
    writes(language, "fr;q=0.5, de;q=1.0", "de,fr;q=0.5");
    writes(language, "a;q=0.001, b;q=0.01, c;q=0.1, d;q=0.999", "d;q=0.999,c;q=0.1,b;q=0.01,a;q=0.001");
    writes(language, "en-US , \t EN ;\tQ=0.500", "en-us,en;q=0.5");
    writes(language, "a;q=1, b;q=1., c;q=1.0, d;q=1.00, e;q=1.000", "a,b,c,d,e");
    writes(language, "a;q=0, b;q=0., c;q=0.000, d", "d,a;q=0,b;q=0,c;q=0");
    writes(language, "", "");
    writes(language, ",, ,a,,", "a");
    writes(language, "*;q=0.1, da", "da,*;q=0.1");
}

static void duplicates_count_once(void **state)
{
    struct preferences p;
    (void)state;
    writes(encoding, "gzip, GZIP, gzip;q=1.0", "gzip");
    writes(encoding, "br;q=0.5, gzip, br;q=0.50", "gzip,br;q=0.5");
    assert_false(parse(encoding, "br;q=0.5, gzip, br;q=0.6", &p));
    assert_false(parse(encoding, "gzip, x-gzip;q=0.5", &p));
}

/* RFC 9110 sections 8.4.1.1 and 8.4.1.3; in a language they would be something else. */
static void aliases_of_codings(void **state)
{
    (void)state;
    writes(encoding, "x-gzip, X-Compress;q=0.1, x-br", "gzip,x-br,compress;q=0.1");
    writes(language, "x-gzip", "x-gzip");
}

/* RFC 9110 sections 12.4.2 and 12.5.3. */
static void what_is_no_such_list_is_not_read(void **state)
{
    static const char *const values[] = {
        "gzip;level=9", "gzip;q",       "gzip;q=",        "gzip;q=2", "gzip;q=1.001", "gzip;q=0.0001", "gzip;q=.5",
        "gzip;q=-1",    "gzip;q=0.5x",  "gzip;q=0.5;a=b", "gzip;",    ";q=1",         "a b",           "gzip q=1",
        "\"gzip\"",     "gzip;q =1",    "gzip;q= 1",      "g\x80",    "br, a b",      "gzip;q=1.0000", "gzip;q=00",
        "a/b",          "gzip;q=\"1\"",
    };
    struct preferences p;
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (parse(encoding, values[i], &p))
            fail_msg("read: %s", values[i]);
}

static void only_so_many_are_read(void **state)
{
    struct preferences p;
    char text[8 * (PREFERENCES_MAX + 1)] = "";
    (void)state;
    for (int i = 0; i < PREFERENCES_MAX; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "l%d,", i);
    assert_true(parse(language, text, &p));
    assert_int_equal(p.n, PREFERENCES_MAX);
    strcat(text, "l0,");
    assert_true(parse(language, text, &p));
    strcat(text, "m");
    assert_false(parse(language, text, &p));
}

/* RFC 9110 sections 5.3 and 12.5.2 to 12.5.4. */
static void lines_make_one_list(void **state)
{
    const struct field f[] = {{BYTES_LIT("x"), NULL, BYTES_LIT("no list")},
                              {encoding, NULL, BYTES_LIT("gzip;q=0.5")},
                              {language, NULL, BYTES_LIT("de")},
                              {encoding, NULL, BYTES_LIT("br")}};
    struct preferences p;
    char text[32];
    (void)state;
    assert_true(negotiate_parse((struct fields){f, 4}, encoding, 1, &p));
    assert_memory_equal(text, "br,gzip;q=0.5", negotiate_write(&p, text));
    assert_true(negotiate_knows(encoding) && negotiate_knows(language) && negotiate_knows(BYTES_LIT("accept-charset")));
    assert_false(negotiate_knows(BYTES_LIT("accept")) || negotiate_knows(BYTES_LIT("x")));
}

static bool best_language(const char *accept, const char *content)
{
    struct preferences p;
    assert_true(parse(language, accept, &p));
    return negotiate_language_is_best(&p, bytes_of(content));
}

/* RFC 9110 section 12.5.4, RFC 9111 section 4.1. */
static void one_language_is_wanted_most(void **state)
{
    (void)state;
    assert_true(best_language("fr;q=0.5, de;q=1.0", "de"));
    assert_true(best_language("de;q=0.002, fr;q=0.001", "DE"));
    assert_true(best_language("de", "de"));
    assert_false(best_language("fr;q=0.5, de", "fr"));
    assert_false(best_language("fr, de", "de"));
    assert_false(best_language("fr, de", "fr"));
    assert_false(best_language("de, *", "de"));
    assert_false(best_language("*", "de"));
    assert_false(best_language("*", "*"));
    assert_false(best_language("de;q=0", "de"));
    assert_false(best_language("de", "de-at"));
    assert_false(best_language("de", "de, en"));
    assert_false(best_language("de", ""));
    assert_false(best_language("", "de"));
    assert_false(best_language(NULL, "de"));
}

static bool accepts_language(const char *accept, const char *content)
{
    struct preferences p;
    assert_true(parse(language, accept, &p));
    return negotiate_language_is_acceptable(&p, bytes_of(content));
}

/* RFC 4647 section 3.3.1; the longest range that matches counts. */
static void languages_that_are_acceptable(void **state)
{
    (void)state;
    assert_true(accepts_language("de", "de"));
    assert_true(accepts_language("fr, de;q=0.001", "DE-at"));
    assert_true(accepts_language("de-AT", "de-at"));
    assert_false(accepts_language("de-AT", "de"));
    assert_false(accepts_language("de", "den"));
    assert_false(accepts_language("en", "de"));
    assert_false(accepts_language("en, de;q=0", "de"));
    assert_false(accepts_language("de, de-at;q=0", "de-at"));
    assert_true(accepts_language("de;q=0, de-at", "de-at"));
    assert_true(accepts_language("en, *;q=0.1", "de"));
    assert_false(accepts_language("en, *;q=0", "de"));
    assert_false(accepts_language("de;q=0, *;q=0.5", "de"));
    assert_false(accepts_language("*;q=0.5, de;q=0", "de-at"));
    assert_true(accepts_language("en", ""));
    assert_true(accepts_language("", "de"));
    assert_true(accepts_language(NULL, "de"));
}

static int coding(const char *accept, const char *content)
{
    struct preferences p;
    assert_true(parse(encoding, accept, &p));
    bool best = negotiate_coding_is_best(&p, bytes_of(content));
    bool acceptable = negotiate_coding_is_acceptable(&p, bytes_of(content));
    assert_true(acceptable || !best);
    return best ? 2 : acceptable;
}

enum { REFUSED, ACCEPTABLE, BEST };

/* RFC 9110 section 12.5.3, but for what sends no wishes. */
static void codings_that_are_acceptable_or_best(void **state)
{
    (void)state;
    assert_int_equal(coding("gzip, br", "gzip"), BEST);
    assert_int_equal(coding("gzip, br", "BR"), BEST);
    assert_int_equal(coding("gzip, br", "x-gzip"), BEST);
    assert_int_equal(coding("gzip, br", "zstd"), REFUSED);
    assert_int_equal(coding("gzip, br", "gzip, br"), REFUSED);
    assert_int_equal(coding("gzip;q=0.5, br", "gzip"), ACCEPTABLE);
    assert_int_equal(coding("gzip;q=0, br", "gzip"), REFUSED);
    assert_int_equal(coding("gzip;q=0", "gzip"), REFUSED);
    assert_int_equal(coding("gzip, *;q=0.5", "zstd"), ACCEPTABLE);
    assert_int_equal(coding("gzip;q=0.5, *", "zstd"), BEST);
    assert_int_equal(coding("gzip;q=0.5, *", "gzip"), ACCEPTABLE);
    assert_int_equal(coding("*;q=0", "gzip"), REFUSED);
    /* no coding */
    assert_int_equal(coding("gzip", ""), ACCEPTABLE);
    assert_int_equal(coding("gzip, identity", ""), BEST);
    assert_int_equal(coding("gzip, identity;q=0.5", ""), ACCEPTABLE);
    assert_int_equal(coding("gzip, identity;q=0", ""), REFUSED);
    assert_int_equal(coding("gzip, *;q=0", ""), REFUSED);
    assert_int_equal(coding("*;q=0, identity;q=0.1", ""), BEST);
    assert_int_equal(coding("*", ""), BEST);
    /* what sends no wishes is sent no coding */
    assert_int_equal(coding("", ""), BEST);
    assert_int_equal(coding("", "gzip"), REFUSED);
    assert_int_equal(coding(NULL, ""), BEST);
    assert_int_equal(coding(NULL, "identity"), BEST);
    assert_int_equal(coding(NULL, "gzip"), REFUSED);
}

/*
 * The reference: what a list means is which name has which weight. Read the slow way, from a copy without any blanks
 * that the grammar allows, member by member.
 */
struct meaning {
    bool known;
    char names[64][64];
    int q[64];
    size_t n;
};

static bool is_token(const char *s)
{
    for (const char *p = s; *p != 0; p++)
        if (strchr("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz", *p) == NULL)
            return false;
    return *s != 0;
}

/* In thousandths; -1: none. */
static int q_of(const char *s)
{
    static regex_t qvalue;
    static bool compiled;
    if (!compiled)
        assert_int_equal(regcomp(&qvalue, "^(0(\\.[0-9]{0,3})?|1(\\.0{0,3})?)$", REG_EXTENDED | REG_NOSUB), 0);
    compiled = true;
    return regexec(&qvalue, s, 0, NULL, 0) == 0 ? (int)(strtod(s, NULL) * 1000 + 0.5) : -1;
}

static void mean(struct meaning *m, const char *value, bool codings)
{
    char copy[256], *at = copy, *member;
    snprintf(copy, sizeof copy, "%s", value);
    *m = (struct meaning){.known = true};
    while ((member = strsep(&at, ",")) != NULL) {
        char name[256] = "", weight[256] = "", *semicolon = strchr(member, ';');
        member += strspn(member, " \t");
        if (*member == 0)
            continue;
        if (semicolon != NULL) {
            *semicolon++ = 0;
            semicolon += strspn(semicolon, " \t");
            snprintf(weight, sizeof weight, "%s", semicolon);
            for (size_t n = strlen(weight); n > 0 && strchr(" \t", weight[n - 1]) != NULL; n--)
                weight[n - 1] = 0;
            if (weight[0] == 'Q')
                weight[0] = 'q';
        }
        snprintf(name, sizeof name, "%s", member);
        for (size_t n = strlen(name); n > 0 && strchr(" \t", name[n - 1]) != NULL; n--)
            name[n - 1] = 0;
        for (char *p = name; *p != 0; p++)
            *p = ascii_lower(*p);
        int q = semicolon == NULL ? 1000 : strncmp(weight, "q=", 2) == 0 ? q_of(weight + 2) : -1;
        if (!is_token(name) || q < 0) {
            m->known = false;
            return;
        }
        if (codings && (strcmp(name, "x-gzip") == 0 || strcmp(name, "x-compress") == 0))
            memmove(name, name + 2, strlen(name) - 1);
        size_t i = 0;
        while (i < m->n && strcmp(m->names[i], name) != 0)
            i++;
        if (i < m->n && m->q[i] != q) {
            m->known = false;
            return;
        }
        if (i == m->n) {
            snprintf(m->names[m->n], sizeof m->names[0], "%.63s", name);
            m->q[m->n++] = q;
        }
    }
}

static bool same_meaning(const struct meaning *a, const struct meaning *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        size_t j = 0;
        while (j < b->n && strcmp(a->names[i], b->names[j]) != 0)
            j++;
        if (j == b->n || a->q[i] != b->q[j])
            return false;
    }
    return true;
}

static void random_value(unsigned *seed, char *to)
{
    static const char *const parts[] = {"gzip",    "GZip", "x-gzip",   "br",       "de",    "*",    ";q=0.5",
                                        ";q=0.50", ";q=0", ";q=1",     ";q=1.0",   " ",     "\t",   ",",
                                        ",",       ",",    " ; Q=0.9", ";q=1.1",   ";x",    "-",    "\"",
                                        "q=0.5",   ";q=.", "b",        ";q=0.001", ";q=1.", ";q=0."};
    size_t n = (size_t)rand_r(seed) % 7;
    *to = 0;
    while (n-- > 0)
        strcat(to, parts[(size_t)rand_r(seed) % (sizeof parts / sizeof *parts)]);
}

/* Two values are written alike exactly if they mean the same; what is written means what was read. RFC 9111 section
 * 4.1. */
static void values_are_written_alike_if_they_mean_the_same(void **state)
{
    const size_t runs = mutate_runs(200000);
    struct preferences p;
    struct meaning previous = {.known = false}, m, again;
    char value[128], text[128], previous_text[128] = "";
    unsigned seed = 11, equal = 0, unequal = 0, unread = 0;
    (void)state;
    for (size_t i = 0; i < runs; i++) {
        bool codings = i % 4 < 2; /* neighbours of one kind are compared */
        random_value(&seed, value);
        mean(&m, value, codings);
        if (parse(codings ? encoding : language, value, &p) != m.known)
            fail_msg("%s is%s to be read", value, m.known ? "" : " not");
        if (!m.known) {
            unread++;
            continue;
        }
        size_t n = negotiate_write(&p, text);
        assert_true(n <= strlen(value));
        text[n] = 0;
        mean(&again, text, codings);
        assert_true(again.known && same_meaning(&m, &again));
        if (previous.known && i % 2 == 1) {
            bool same = same_meaning(&m, &previous);
            same ? equal++ : unequal++;
            if (same != (strcmp(text, previous_text) == 0))
                fail_msg("%s and %s", text, previous_text);
        }
        previous = m;
        strcpy(previous_text, text);
        if (i % 2 == 1)
            previous.known = false;
    }
    assert_true(equal > runs / 1000 && unequal > runs / 100 && unread > runs / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_order_and_a_weight_of_one_is_left_out),
        cmocka_unit_test(duplicates_count_once),
        cmocka_unit_test(aliases_of_codings),
        cmocka_unit_test(what_is_no_such_list_is_not_read),
        cmocka_unit_test(only_so_many_are_read),
        cmocka_unit_test(lines_make_one_list),
        cmocka_unit_test(one_language_is_wanted_most),
        cmocka_unit_test(languages_that_are_acceptable),
        cmocka_unit_test(codings_that_are_acceptable_or_best),
        cmocka_unit_test(values_are_written_alike_if_they_mean_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
