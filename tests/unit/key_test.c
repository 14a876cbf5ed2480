#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "policies/key.h"
#include "policies/uri.h"
#include "tests/unit/mutate.h"

#define FIELD(n, v)                                                                                                    \
    {                                                                                                                  \
        BYTES_LIT(n), NULL, BYTES_LIT(v)                                                                               \
    }
#define FIELDS(array) ((struct fields){(array), sizeof(array) / sizeof *(array)})

static const struct key_rules all = {.query = KEY_QUERY_ALL};

static struct key_request request(const char *query)
{
    return (struct key_request){
        .authority = BYTES_LIT("h"), .path = BYTES_LIT("/a"), .query = bytes_of(query), .has_query = query != NULL};
}

/* In a heap buffer of exactly the promised size, so that a sanitizer sees a byte too many. Free *buf. */
static struct key build(const struct key_rules *rules, const struct key_request *r, char **buf)
{
    struct key key;
    size_t max = key_bytes_max(rules, r);
    *buf = malloc(max);
    key_build(rules, r, *buf, &key);
    assert_true(key.whole.n <= max);
    assert_ptr_equal(key.whole.p, key.url.p);
    assert_true(key.url.n < key.whole.n);
    return key;
}

static bool same(const struct key_rules *rules, const struct key_request *a, const struct key_request *b)
{
    char *x, *y;
    struct key key_a = build(rules, a, &x), key_b = build(rules, b, &y);
    bool equal = bytes_eq(key_a.whole, key_b.whole);
    free(x);
    free(y);
    return equal;
}

static void target_is(const struct key_rules *rules, const char *query, const char *expected)
{
    struct key_request r = request(query);
    char *buf;
    struct key key = build(rules, &r, &buf);
    assert_true(bytes_eq(key.target, bytes_of(expected)));
    free(buf);
}

/* Goes beyond RFC 9110 section 4.2.3. */
static void query_is_sorted_by_name_and_stable(void **state)
{
    (void)state;
    target_is(&all, NULL, "/a");
    target_is(&all, "", "/a?");
    target_is(&all, "x", "/a?x");
    target_is(&all, "b=1&a=2", "/a?a=2&b=1");
    target_is(&all, "b=2&a=1&b=1&a=2", "/a?a=1&a=2&b=2&b=1");
    target_is(&all, "c&b&a", "/a?a&b&c");
    target_is(&all, "a&b&c", "/a?a&b&c");
    target_is(&all, "e&d&c&b&a", "/a?a&b&c&d&e");
    target_is(&all, "ab=1&a=2", "/a?a=2&ab=1");
    target_is(&all, "a==&a", "/a?a==&a");
    target_is(&all, "b&&a&", "/a?&&a&b");
    target_is(&all, "%62=1&%61=%2f", "/a?a=%2F&b=1");
}

static void query_is_chosen(void **state)
{
    (void)state;
    const struct bytes names[] = {BYTES_LIT("page"), BYTES_LIT("utm_*")};
    const struct key_rules none = {.query = KEY_QUERY_NONE};
    const struct key_rules only = {.query = KEY_QUERY_ONLY, .query_names = {names, 2}};
    const struct key_rules except = {.query = KEY_QUERY_EXCEPT, .query_names = {names, 2}};
    target_is(&none, "a=1", "/a");
    target_is(&none, "", "/a");
    target_is(&only, "utm_b=2&x=1&page=3&pages=4", "/a?page=3&utm_b=2");
    target_is(&only, "x=1", "/a");
    target_is(&only, "%70age=1", "/a?page=1");
    target_is(&except, "x=2&utm_b=2&page=1&b=1", "/a?b=1&x=2");
    target_is(&except, "utm_b=2", "/a");
    target_is(&except, "%75tm_b=2&x", "/a?x");
    target_is(&except, "x=utm_a", "/a?x=utm_a");
}

/* As many parameters as the longest head has room for are sorted in a time that nobody notices. */
static void long_queries_are_sorted(void **state)
{
    (void)state;
    enum { N = 20000, WIDTH = 7 };
    char *query = malloc(N * WIDTH);
    for (unsigned i = 0; i < N; i++) {
        unsigned name = N - 1 - i;
        for (int digit = WIDTH - 2; digit >= 0; digit--, name /= 10)
            query[i * WIDTH + (unsigned)digit] = (char)('0' + name % 10);
        query[i * WIDTH + WIDTH - 1] = '&';
    }
    struct key_request r = request("");
    r.query = (struct bytes){query, N * WIDTH - 1};
    char *buf;
    struct key key = build(&all, &r, &buf);
    const char *sorted = key.target.p + 3;
    assert_int_equal(key.target.n, 3 + N * WIDTH - 1);
    for (size_t i = 1; i < N; i++)
        assert_true(memcmp(sorted + (i - 1) * WIDTH, sorted + i * WIDTH, WIDTH - 1) < 0);
    free(buf);
    free(query);
}

static void scopes_differ(void **state)
{
    (void)state;
    char hash[USER_HASH_BYTES] = {1}, other[USER_HASH_BYTES] = {2};
    struct key_request shared = request(NULL), anonymous = shared, user = shared, user2 = shared;
    anonymous.user_scope = user.user_scope = user2.user_scope = true;
    user.user = (struct bytes){hash, sizeof hash};
    user2.user = (struct bytes){other, sizeof other};
    assert_false(same(&all, &shared, &anonymous));
    assert_false(same(&all, &shared, &user));
    assert_false(same(&all, &anonymous, &user));
    assert_false(same(&all, &user, &user2));
    assert_true(same(&all, &user, &user));

    char *x, *y;
    struct key a = build(&all, &shared, &x), b = build(&all, &user, &y);
    assert_true(bytes_eq(a.url, b.url));
    free(x);
    free(y);
}

static void headers_and_cookies_count_where_chosen(void **state)
{
    (void)state;
    const struct bytes header = BYTES_LIT("accept-language"), cookie = BYTES_LIT("currency");
    const struct key_rules by_header = {.headers = &header, .nheaders = 1},
                           by_cookie = {.cookies = &cookie, .ncookies = 1};
    const struct field de[] = {FIELD("accept-language", "de"), FIELD("cookie", "a=1; currency=EUR")};
    const struct field en[] = {FIELD("accept-language", "en"), FIELD("cookie", "currency=USD; a=1")};
    const struct field empty[] = {FIELD("accept-language", ""), FIELD("cookie", "currency=")};
    const struct field twice[] = {FIELD("cookie", "currency=EUR"), FIELD("cookie", "currency=USD")};
    struct key_request r[5];
    for (int i = 0; i < 5; i++)
        r[i] = request(NULL);
    r[0].fields = FIELDS(de);
    r[1].fields = FIELDS(en);
    r[2].fields = FIELDS(empty);
    r[4].fields = FIELDS(twice);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++) {
            assert_true(same(&all, &r[i], &r[j]));
            assert_int_equal(same(&by_cookie, &r[i], &r[j]), i == j);
            if (i < 4 && j < 4)
                assert_int_equal(same(&by_header, &r[i], &r[j]), i == j);
        }
}

/* The shortest cookies take more room in the key than in the request. */
static void short_cookies_fit(void **state)
{
    (void)state;
    const struct bytes names[] = {BYTES_LIT("a"), BYTES_LIT("b")};
    const struct key_rules rules = {.cookies = names, .ncookies = 2};
    const struct field f[] = {FIELD("cookie", "a=;b=;a=;b=;a=;b=;a=;b="), FIELD("cookie", "b=;b=;b=;b=;b=;b=;b=")};
    struct key_request r = request(NULL);
    r.fields = FIELDS(f);
    assert_true(same(&rules, &r, &r));
}

/* A reload that keys by another header must not find what was stored under the first one's value. */
static void names_of_headers_count(void **state)
{
    (void)state;
    const struct bytes x = BYTES_LIT("x"), y = BYTES_LIT("y");
    const struct key_rules rules[] = {
        {.headers = &x, .nheaders = 1}, {.headers = &y, .nheaders = 1}, {.cookies = &x, .ncookies = 1}};
    const struct field f[] = {FIELD("x", "1"), FIELD("y", "1"), FIELD("cookie", "x=1")};
    struct key_request r = request(NULL);
    r.fields = FIELDS(f);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            char *a, *b;
            struct key key_a = build(&rules[i], &r, &a), key_b = build(&rules[j], &r, &b);
            assert_int_equal(bytes_eq(key_a.whole, key_b.whole), i == j);
            free(a);
            free(b);
        }
}

static void url_is(const struct key_rules *rules, const char *url, const char *printed)
{
    struct bytes in = bytes_of(url);
    struct key key;
    char *buf = malloc(3 * in.n + 64), text[128];
    bool ok = key_url_of(rules, in, buf, &key);
    assert_int_equal(ok, printed != NULL);
    if (ok) {
        size_t n = key_url_print(key.url, text, sizeof text);
        assert_true(bytes_eq((struct bytes){text, n}, bytes_of(printed)));
        for (size_t cap = 0; cap < n; cap++)
            assert_int_equal(key_url_print(key.url, text, cap), cap);
    }
    free(buf);
}

/* RFC 9110 sections 4.2.3 and 4.2.4. */
static void urls_make_url_parts(void **state)
{
    (void)state;
    const struct key_rules none = {.query = KEY_QUERY_NONE};
    url_is(&all, "http://H:80", "http://h/");
    url_is(&all, "http://h?", "http://h/?");
    url_is(&all, "https://H.:443/a/../%7eb?b&a", "https://h/~b?a&b");
    url_is(&all, "https://[::1]:80/", "https://[::1]:80/");
    url_is(&none, "http://h/a?x", "http://h/a");
    url_is(&all, "http://h/..", NULL);
    url_is(&all, "http://h/%zz", NULL);
    url_is(&all, "http://u@h/", NULL);
    url_is(&all, "h/a", NULL);
    char text[8];
    assert_int_equal(key_url_print(BYTES_LIT("h"), text, sizeof text), 0);
    assert_int_equal(key_url_print(BYTES_LIT("h\xff\xff\xff\xff________"), text, sizeof text), 0);
}

/* RFC 9110 section 4.2.3. */
static void url_of_a_request_is_that_of_its_url(void **state)
{
    (void)state;
    struct key_request r = request("b=1&a");
    struct key key;
    char *buf, url[128];
    struct key built = build(&all, &r, &buf);
    assert_true(key_url_of(&all, BYTES_LIT("HTTP://H:80/x/../a?%62=1&a"), url, &key));
    assert_true(bytes_eq(built.url, key.url));
    assert_true(bytes_eq(built.target, key.target));
    assert_true(key_url_of(&all, BYTES_LIT("https://h/a?b=1&a"), url, &key));
    assert_false(bytes_eq(built.url, key.url));
    free(buf);
}

static bool has_prefix(const char *url, const char *prefix)
{
    struct key key;
    char buf[512];
    assert_true(key_url_of(&all, bytes_of(url), buf, &key));
    return key_url_has_prefix(key.url, bytes_of(prefix));
}

static const char *normalized(const char *prefix)
{
    static char out[256];
    size_t n;

    if (!key_prefix_normalize(bytes_of(prefix), out, &n))
        return "refused";
    out[n] = '\0';
    assert_true(n <= strlen(prefix));
    return out;
}

/* What is written in another way in a prefix means the same keys, as it does in a URL. RFC 9110 section 4.2.3. */
static void prefixes_are_normalized(void **state)
{
    (void)state;
    assert_string_equal(normalized("HTTP://A.Test:80/b%7e%2fC%c3"), "http://a.test/b~%2FC%C3");
    assert_string_equal(normalized("https://a.test.:8443"), "https://a.test:8443");
    assert_string_equal(normalized("http://a?%61"), "http://a?a");
    assert_string_equal(normalized("http://a/%7"), "http://a/%7"); /* cut in the middle of an escape */
    assert_string_equal(normalized("http://a/%"), "http://a/%");
    assert_string_equal(normalized("http://a/%zz"), "http://a/%zz");
    assert_string_equal(normalized("ftp://a/"), "refused");
    assert_string_equal(normalized("http://"), "refused");
    assert_string_equal(normalized("http:///a"), "refused");
    assert_string_equal(normalized("/a"), "refused");
    assert_string_equal(normalized(""), "refused");
}

static void prefixes(void **state)
{
    (void)state;
    assert_true(has_prefix("https://h/api/clips/1", "https://h/api/clips"));
    assert_true(has_prefix("https://h/api/clips?x=1", "https://h/api/clips"));
    assert_true(has_prefix("https://h/api/clips", "https://h/api/clips"));
    assert_true(has_prefix("https://h/api/clips2", "https://h/api/clips"));
    assert_true(has_prefix("https://h/api/clips", "HTTPS://H:443"));
    assert_true(has_prefix("https://h/api/clips", "https://h/"));
    assert_true(has_prefix("https://h/a?x=1", "https://h/a?x"));
    assert_true(has_prefix("https://h/?x=1", "https://h?x"));
    assert_false(has_prefix("https://h/a", "https://h?x"));
    assert_false(has_prefix("https://h/api/clip", "https://h/api/clips"));
    assert_false(has_prefix("https://h/api/clips", "http://h/api/clips"));
    assert_false(has_prefix("https://h2/api", "https://h"));
    assert_false(has_prefix("https://h:8443/api", "https://h"));
    assert_false(has_prefix("https://h/api", "https://h/api?"));
    assert_false(has_prefix("https://h/api", ""));
    assert_false(has_prefix("https://h/api", "https://"));
    assert_false(key_url_has_prefix(BYTES_NONE, BYTES_LIT("https://h")));
}

static uint64_t random_state = 0x2545f4914f6cdd1d;

static unsigned random_below(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)((random_state >> 33) % n);
}

static struct bytes random_pick(const char *const *v, unsigned n)
{
    return bytes_of(v[random_below(n)]);
}

static const char *const texts[] = {"",    "a", "b",  "ab",         "a=1",
                                    "a&b", "h", "ha", "currency=a", "currency=b; currency=a"};

/* Few values, so that equal requests are met often, and such as try to run together with their neighbours. */
static struct key_request random_request(struct field fields[2], const char hash[2][USER_HASH_BYTES])
{
    static const char *const hosts[] = {"h", "h:8", "ha"}, *const paths[] = {"/", "/a", "/a/b", "a/"};
    struct key_request r = {.https = random_below(2),
                            .authority = random_pick(hosts, 3),
                            .path = random_pick(paths, 4),
                            .query = random_pick(texts, 5),
                            .has_query = random_below(2),
                            .user_scope = random_below(2)};
    if (!r.has_query)
        r.query = BYTES_NONE;
    if (r.user_scope && random_below(2))
        r.user = (struct bytes){hash[random_below(2)], USER_HASH_BYTES};
    fields[0] = (struct field){BYTES_LIT("x"), NULL, random_pick(texts, 8)};
    fields[1] = (struct field){BYTES_LIT("cookie"), NULL, random_pick(texts, 10)};
    unsigned first = random_below(2);
    r.fields = (struct fields){fields + first, random_below(3 - first)};
    return r;
}

static bool values_same(struct bytes a, struct bytes b)
{
    return (a.p == NULL) == (b.p == NULL) && bytes_eq(a, b);
}

static bool cookies_same(struct bytes a, struct bytes b)
{
    const struct bytes keyed[] = {BYTES_LIT("currency=a"), BYTES_LIT("currency=b; currency=a")};
    for (int i = 0; i < 2; i++)
        if (bytes_eq(a, keyed[i]) != bytes_eq(b, keyed[i]))
            return false;
    return true;
}

/* RFC 9111 section 2. Two requests have one key exactly when all their parts are the same. */
static void keys_are_equal_when_all_parts_are(void **state)
{
    (void)state;
    const struct bytes header = BYTES_LIT("x"), cookie = BYTES_LIT("currency");
    const struct key_rules rules = {.headers = &header, .nheaders = 1, .cookies = &cookie, .ncookies = 1};
    const char hash[2][USER_HASH_BYTES] = {{1}, {2}};
    unsigned equal = 0;
    for (size_t run = mutate_runs(60000); run > 0; run--) {
        struct field f[2], g[2];
        struct key_request a = random_request(f, hash), b = random_request(g, hash);
        if (random_below(2)) { /* nearly the same */
            b.https = a.https;
            b.authority = a.authority;
            b.path = a.path;
            b.user_scope = a.user_scope;
            b.user = a.user;
        }
        bool expected =
            a.https == b.https && bytes_eq(a.authority, b.authority) && bytes_eq(a.path, b.path) &&
            a.has_query == b.has_query && bytes_eq(a.query, b.query) && a.user_scope == b.user_scope &&
            bytes_eq(a.user, b.user) && values_same(fields_value(a.fields, header), fields_value(b.fields, header)) &&
            cookies_same(fields_value(a.fields, BYTES_LIT("cookie")), fields_value(b.fields, BYTES_LIT("cookie")));
        assert_int_equal(same(&rules, &a, &b), expected);
        equal += expected;
    }
    assert_true(equal > 1000);
}

static bool name_before(struct bytes a, struct bytes b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = memcmp(a.p, b.p, n);
    return order != 0 ? order < 0 : a.n < b.n;
}

static struct bytes name_of(struct bytes param)
{
    const char *equals = param.n == 0 ? NULL : memchr(param.p, '=', param.n);
    return equals == NULL ? param : (struct bytes){param.p, (size_t)(equals - param.p)};
}

/* What the query should come to: an insertion sort over a list of parameters. Returns the length. */
static size_t model(const struct key_rules *rules, struct bytes query, char *out, bool *present)
{
    struct bytes v[64];
    size_t n = 0, len = 0;
    const char *end = query.p + query.n;
    for (const char *p = query.p; p <= end;) {
        const char *stop = p;
        while (stop < end && *stop != '&')
            stop++;
        struct bytes param = {p, (size_t)(stop - p)};
        bool listed = patterns_match(rules->query_names, name_of(param));
        p = stop + 1;
        if (rules->query != KEY_QUERY_ALL && listed != (rules->query == KEY_QUERY_ONLY))
            continue;
        size_t at = n++;
        for (; at > 0 && name_before(name_of(param), name_of(v[at - 1])); at--)
            v[at] = v[at - 1];
        v[at] = param;
    }
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            out[len++] = '&';
        if (v[i].n > 0)
            memcpy(out + len, v[i].p, v[i].n);
        len += v[i].n;
    }
    *present = n > 0;
    return len;
}

/* The canonical query is the model's, and its own canonical form. */
static void queries_agree_with_a_model(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", "b", "c", "=", "&", "&", "1", "2", "%61", "%", "%31", "%26"};
    const struct bytes names[] = {BYTES_LIT("a"), BYTES_LIT("b*")};
    for (size_t run = mutate_runs(40000); run > 0; run--) {
        static const enum key_query choices[] = {KEY_QUERY_ALL, KEY_QUERY_ONLY, KEY_QUERY_EXCEPT};
        struct key_rules rules = {.query = choices[random_below(3)], .query_names = {names, 2}};
        char query[128], normal[128], expected[132] = "/a?";
        size_t n = 0;
        for (unsigned left = random_below(30); left > 0; left--) {
            struct bytes piece = random_pick(pieces, sizeof pieces / sizeof *pieces);
            memcpy(query + n, piece.p, piece.n);
            n += piece.n;
        }
        bool present;
        size_t normal_n = uri_query_normalize((struct bytes){query, n}, normal);
        size_t expected_n = 3 + model(&rules, (struct bytes){normal, normal_n}, expected + 3, &present);
        struct key_request r = request("");
        r.query = (struct bytes){query, n};
        char *once_buf, *twice_buf;
        struct key once = build(&rules, &r, &once_buf);
        assert_true(bytes_eq(once.target, (struct bytes){expected, present ? expected_n : 2}));

        r.has_query = present;
        r.query = present ? (struct bytes){once.target.p + 3, once.target.n - 3} : BYTES_NONE;
        struct key twice = build(&rules, &r, &twice_buf);
        assert_true(bytes_eq(once.whole, twice.whole));
        free(once_buf);
        free(twice_buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(query_is_sorted_by_name_and_stable),
        cmocka_unit_test(query_is_chosen),
        cmocka_unit_test(long_queries_are_sorted),
        cmocka_unit_test(scopes_differ),
        cmocka_unit_test(headers_and_cookies_count_where_chosen),
        cmocka_unit_test(short_cookies_fit),
        cmocka_unit_test(names_of_headers_count),
        cmocka_unit_test(urls_make_url_parts),
        cmocka_unit_test(url_of_a_request_is_that_of_its_url),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(prefixes_are_normalized),
        cmocka_unit_test(keys_are_equal_when_all_parts_are),
        cmocka_unit_test(queries_agree_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
