/*
 * Cache-Control against a reference in two steps: cut into directives byte by byte, then each question asked of all of
 * them anew.
 */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <strings.h>

#include <cmocka.h>

#include "mutate.h"
#include "policies/cache_control.h"

#define RUNS 15000
#define DIRECTIVES_MAX (MUTATE_MAX + 2)

struct directive {
    char name[MUTATE_MAX + 1];
    bool bare;        /* nothing after the name */
    bool well_formed; /* name=token or name="..." */
    struct bytes argument;
};

static struct directive directives[2 * DIRECTIVES_MAX];
static size_t ndirectives;

static bool is_token(const char *p, size_t n)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < n; i++)
        if (p[i] == '\0' || (unsigned char)p[i] >= 0x80 || (!isalnum((unsigned char)p[i]) && !strchr(marks, p[i])))
            return false;
    return n > 0;
}

/* Where the quoted string that begins at p[i] ends (its closing quote); n: nowhere. */
static size_t closing_quote(struct bytes s, size_t i)
{
    for (i++; i < s.n && s.p[i] != '"'; i++)
        if (s.p[i] == '\\')
            i++;
    return i < s.n ? i : s.n;
}

static void add_directive(struct bytes s)
{
    struct directive *d = &directives[ndirectives++];
    size_t name = 0, rest;

    s = bytes_trim(s);
    while (name < s.n && is_token(s.p + name, 1))
        name++;
    memcpy(d->name, s.p, name);
    d->name[name] = '\0';
    rest = s.n - name;
    d->bare = rest == 0;
    d->argument = BYTES_NONE;
    d->well_formed = false;
    if (rest >= 2 && s.p[name] == '=' && is_token(s.p + name + 1, rest - 1)) {
        d->well_formed = true;
        d->argument = (struct bytes){s.p + name + 1, rest - 1};
    } else if (rest >= 3 && s.p[name] == '=' && s.p[name + 1] == '"' && closing_quote(s, name + 1) == s.n - 1) {
        d->well_formed = true;
        d->argument = (struct bytes){s.p + name + 2, rest - 3};
    }
}

/* RFC 9110 section 5.6.1.2: commas outside of quoted strings part the members. A quote without an end is no quote. */
static void add_line(struct bytes s)
{
    size_t from = 0, i = 0;

    while (i < s.n) {
        if (s.p[i] == ',') {
            add_directive((struct bytes){s.p + from, i - from});
            from = i + 1;
        } else if (s.p[i] == '"' && closing_quote(s, i) < s.n) {
            i = closing_quote(s, i);
        }
        i++;
    }
    add_directive((struct bytes){s.p + from, s.n - from});
}

static bool has(const char *name, bool even_with_argument)
{
    for (size_t i = 0; i < ndirectives; i++)
        if (strcasecmp(directives[i].name, name) == 0 && (even_with_argument || directives[i].bare))
            return true;
    return false;
}

/* RFC 9111 section 1.2.2; -1: no delta-seconds. */
static int64_t delta_seconds(const struct directive *d)
{
    size_t digits = 0, zeros = 0;
    char text[16];

    while (digits < d->argument.n && isdigit((unsigned char)d->argument.p[digits]))
        digits++;
    if (!d->well_formed || digits == 0 || digits != d->argument.n)
        return -1;
    while (zeros < digits - 1 && d->argument.p[zeros] == '0')
        zeros++;
    if (digits - zeros > 10)
        return DELTA_SECONDS_MAX;
    memcpy(text, d->argument.p + zeros, digits - zeros);
    text[digits - zeros] = '\0';
    return strtoll(text, NULL, 10) < DELTA_SECONDS_MAX ? strtoll(text, NULL, 10) : DELTA_SECONDS_MAX;
}

/* The smallest of all directives of the name; what cannot be read counts as `unreadable`, or not if that is -1. RFC
 * 9111 section 4.2.1. */
static int64_t smallest(const char *name, int64_t unreadable, int64_t bare)
{
    int64_t result = -1;

    for (size_t i = 0; i < ndirectives; i++) {
        int64_t value = delta_seconds(&directives[i]);

        if (strcasecmp(directives[i].name, name) != 0)
            continue;
        if (value < 0)
            value = directives[i].bare ? bare : unreadable;
        if (value >= 0 && (result < 0 || value < result))
            result = value;
    }
    return result;
}

/* Field names and nothing else, at least one. */
static bool is_list_of_names(struct bytes s)
{
    bool any = false;

    for (size_t from = 0, i = 0; i <= s.n; i++) {
        struct bytes name;

        if (i < s.n && s.p[i] != ',')
            continue;
        name = bytes_trim((struct bytes){s.p + from, i - from});
        if (name.n > 0 && !is_token(name.p, name.n))
            return false;
        any = any || name.n > 0;
        from = i + 1;
    }
    return any;
}

/* RFC 9111 sections 5.2.2.4 and 5.2.2.7. */
static void assert_qualifiable(const char *name, bool bare, bool qualified, struct bytes names, struct bytes line)
{
    size_t count = 0;
    struct bytes expected = BYTES_NONE;

    for (size_t i = 0; i < ndirectives; i++)
        if (strcasecmp(directives[i].name, name) == 0) {
            count++;
            expected = directives[i].well_formed && is_list_of_names(directives[i].argument) ? directives[i].argument
                                                                                             : BYTES_NONE;
        }
    if (count != 1)
        expected = BYTES_NONE;
    if (bare != (count > 0 && expected.n == 0) || qualified != (expected.n > 0) || !bytes_eq(names, expected))
        fail_msg("%s in %s: %d %d", name, mutate_show(line), bare, qualified);
}

static void assert_same(const struct cache_control *cc, struct bytes line)
{
    const struct {
        const char *name;
        bool got, even_with_argument;
    } flags[] = {
        {"no-store", cc->no_store, true},
        {"public", cc->public_, false},
        {"must-revalidate", cc->must_revalidate, true},
        {"proxy-revalidate", cc->proxy_revalidate, true},
        {"must-understand", cc->must_understand, false},
        {"no-transform", cc->no_transform, true},
        {"immutable", cc->immutable, false},
        {"only-if-cached", cc->only_if_cached, true},
    };
    const struct {
        const char *name;
        int64_t got, unreadable, bare;
    } deltas[] = {
        {"max-age", cc->max_age_s, 0, 0},
        {"s-maxage", cc->s_maxage_s, 0, 0},
        {"stale-while-revalidate", cc->stale_while_revalidate_s, 0, 0},
        {"stale-if-error", cc->stale_if_error_s, 0, 0},
        {"min-fresh", cc->min_fresh_s, -1, -1},
        {"max-stale", cc->max_stale_s, -1, INT64_MAX},
    };

    assert_true(cc->present);
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (flags[i].got != has(flags[i].name, flags[i].even_with_argument))
            fail_msg("%s in %s: %d", flags[i].name, mutate_show(line), flags[i].got);
    for (size_t i = 0; i < sizeof(deltas) / sizeof(deltas[0]); i++)
        if (deltas[i].got != smallest(deltas[i].name, deltas[i].unreadable, deltas[i].bare))
            fail_msg("%s in %s: %lld", deltas[i].name, mutate_show(line), (long long)deltas[i].got);
    assert_qualifiable("no-cache", cc->no_cache, cc->no_cache_qualified, cc->no_cache_fields, line);
    assert_qualifiable("private", cc->private_, cc->private_qualified, cc->private_fields, line);
}

/* RFC 9111 section 5.2. */
static void any_text(void **state)
{
    static const char *const samples[] = {"max-age=3600",
                                          "public, max-age=0, s-maxage=2147483648",
                                          "no-cache=\"set-cookie, x\", max-age=5",
                                          "private=\"a\", must-revalidate",
                                          "extension=\"max-age=3600, no-store\", max-age=1",
                                          "max-age=\"10\", stale-while-revalidate=30, stale-if-error=60",
                                          "no-store, must-understand",
                                          "max-stale, min-fresh=5, only-if-cached",
                                          "a=\"\\\", max-age=0, private\", public",
                                          NULL};
    static const char *const pieces[] = {",",
                                         ", ",
                                         ",",
                                         "=",
                                         "=",
                                         "\"",
                                         "\"",
                                         "\\",
                                         "\\\"",
                                         " ",
                                         "\t",
                                         "max-age",
                                         "max-age=",
                                         "s-maxage=",
                                         "no-cache",
                                         "no-cache=",
                                         "private",
                                         "private=\"",
                                         "no-store",
                                         "public",
                                         "immutable",
                                         "must-revalidate",
                                         "proxy-revalidate",
                                         "must-understand",
                                         "no-transform",
                                         "only-if-cached",
                                         "stale-while-revalidate=",
                                         "stale-if-error=",
                                         "max-stale",
                                         "max-stale=",
                                         "min-fresh=",
                                         "0",
                                         "1",
                                         "60",
                                         "2147483647",
                                         "2147483649",
                                         "99999999999",
                                         "a",
                                         "set-cookie",
                                         "-1",
                                         "1.5",
                                         ";",
                                         "Max-Age=",
                                         "\x80",
                                         NULL};
    struct mutate m = {.samples = samples, .pieces = pieces, .seed = 8};

    (void)state;
    for (size_t run = mutate_runs(RUNS); run > 0; run--) {
        struct bytes line = mutate_next(&m), second = BYTES_LIT("Public, max-age=7, no-cache=b");
        const struct field v[] = {{BYTES_LIT("cache-control"), NULL, line},
                                  {BYTES_LIT("pragma"), NULL, BYTES_LIT("no-cache")},
                                  {BYTES_LIT("cache-control"), NULL, second}};
        size_t lines = mutate_below(&m, 4) == 0 ? 3 : 2;
        struct cache_control cc = cache_control_parse((struct fields){v, lines});

        ndirectives = 0;
        add_line(line);
        if (lines == 3)
            add_line(second);
        assert_same(&cc, line);
    }
    mutate_end(&m);
}

/* However a text is made, the time for it grows with its length alone: a text such as a client may send. */
static void quotes_that_do_not_end_cost_no_more_than_others(void **state)
{
    size_t n = 4 << 20;
    char *text = test_malloc(n);
    struct cache_control cc;

    (void)state;
    for (size_t i = 0; i < n; i++)
        text[i] = i == 0 || i % 2 == 0 ? '"' : '\\';
    memcpy(text + n - 10, ",no-store,", 10);
    cc = cache_control_parse((struct fields){&(struct field){BYTES_LIT("cache-control"), NULL, {text, n}}, 1});
    assert_true(cc.no_store);
    test_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_text),
        cmocka_unit_test(quotes_that_do_not_end_cost_no_more_than_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
