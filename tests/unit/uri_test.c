#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "policies/uri.h"

/* Outputs go to heap buffers of exactly the promised size, so that a sanitizer sees a byte too many. */
static void path_is(const char *raw, const char *expected)
{
    struct bytes in = bytes_of(raw);
    char *out = malloc(in.n);
    size_t n = 0;
    bool ok = uri_path_normalize(in, out, &n);
    assert_int_equal(ok, expected != NULL);
    if (ok) {
        assert_true(n <= in.n);
        assert_true(bytes_eq((struct bytes){out, n}, bytes_of(expected)));
    }
    free(out);
}

static void query_is(const char *raw, const char *expected)
{
    struct bytes in = bytes_of(raw);
    char *out = malloc(in.n);
    size_t n = uri_query_normalize(in, out);
    assert_true(n <= in.n);
    assert_true(bytes_eq((struct bytes){out, n}, bytes_of(expected)));
    free(out);
}

static void authority_is(const char *raw, bool https, const char *expected)
{
    struct bytes in = bytes_of(raw);
    char *out = malloc(in.n);
    size_t n = 0;
    bool ok = uri_authority_normalize(in, https, out, &n);
    assert_int_equal(ok, expected != NULL);
    if (ok) {
        assert_true(n <= in.n);
        assert_true(bytes_eq((struct bytes){out, n}, bytes_of(expected)));
    }
    free(out);
}

/* RFC 3986 sections 6.2.2.1 and 6.2.2.2. */
static void path_escapes(void **state)
{
    (void)state;
    path_is("/", "/");
    path_is("/api/clips/1", "/api/clips/1");
    path_is("/%7Euser/%41%2d%5f", "/~user/A-_");
    path_is("/a%2fb", "/a%2Fb");
    path_is("/a%2Fb", "/a%2Fb");
    path_is("/%e4%BD%a0", "/%E4%BD%A0");
    path_is("/a;b=1,c//d", "/a;b=1,c//d");
    path_is("/%", NULL);
    path_is("/%4", NULL);
    path_is("/%zz", NULL);
    path_is("/%4g", NULL);
    path_is("/%00", NULL);
    path_is("/%01", "/%01");
    path_is("", NULL);
    path_is("a", NULL);
    path_is("*", NULL);
}

/* RFC 3986 sections 5.2.4 and 6.2.2.3, but above the root there is nothing. */
static void path_dot_segments(void **state)
{
    (void)state;
    path_is("/a/./b", "/a/b");
    path_is("/./a", "/a");
    path_is("/a/.", "/a/");
    path_is("/.", "/");
    path_is("/a/b/../c", "/a/c");
    path_is("/a/b/..", "/a/");
    path_is("/a/..", "/");
    path_is("/a/b/c/./../../g", "/a/g");
    path_is("/a/%2e%2E/b", "/b");
    path_is("/a/.%2e/b", "/b");
    path_is("/%2e/b", "/b");
    path_is("/a//../b", "/a/b");
    path_is("//..", "/");
    path_is("/a/...", "/a/...");
    path_is("/.a/..b/c.", "/.a/..b/c.");
    path_is("/a/..%2f..%2fb", "/a/..%2F..%2Fb");
    path_is("/..", NULL);
    path_is("/../a", NULL);
    path_is("/a/../..", NULL);
    path_is("/a/../../b", NULL);
    path_is("/%2e%2e/b", NULL);
}

/* RFC 3986 sections 6.2.2.1 and 6.2.2.2. */
static void query_escapes(void **state)
{
    (void)state;
    query_is("", "");
    query_is("a=1&b=2", "a=1&b=2");
    query_is("%61=%7e&x=%2f%26%3d%2B+", "a=~&x=%2F%26%3D%2B+");
    query_is("a=%", "a=%");
    query_is("a=%4", "a=%4");
    query_is("a=%zz", "a=%zz");
    query_is("a=%00", "a=%00");
}

/* A '%' that begins no escape must not become one because what follows it was decoded: the origin would then read
 * another value than the client wrote. RFC 3986 section 2.4. */
static void query_makes_no_new_escape(void **state)
{
    (void)state;
    query_is("%%341", "%%341");
    query_is("%4%31", "%4%31");
    query_is("%%34%31", "%%341");
    query_is("%%7a1", "%z1");
    query_is("%&%31", "%&1");
}

/* RFC 3986 sections 6.2.2.1 and 6.2.3, RFC 9110 section 4.2.3. */
static void authority_forms(void **state)
{
    (void)state;
    authority_is("Example.COM", false, "example.com");
    authority_is("example.com:80", false, "example.com");
    authority_is("example.com:80", true, "example.com:80");
    authority_is("example.com:443", true, "example.com");
    authority_is("example.com:443", false, "example.com:443");
    authority_is("example.com:", false, "example.com");
    authority_is("example.com:0080", false, "example.com");
    authority_is("example.com:08080", false, "example.com:8080");
    authority_is("example.com.", false, "example.com");
    authority_is("example.com.:8080", false, "example.com:8080");
    authority_is("127.0.0.1:9000", false, "127.0.0.1:9000");
    authority_is("my_host-1", false, "my_host-1");
    authority_is("[2001:DB8::1]", false, "[2001:db8::1]");
    authority_is("[::1]:80", false, "[::1]");
    authority_is("[::1]:81", false, "[::1]:81");
    authority_is("[::ffff:1.2.3.4]", false, "[::ffff:1.2.3.4]");
    authority_is("h:1", false, "h:1");
    authority_is("h:65535", false, "h:65535");
}

/* RFC 3986 section 3.2.2, RFC 9110 sections 4.2.1 and 4.2.4. */
static void authority_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",      ":80",  ".",    "..",   "a..",          ".a",       "a..b",          "a/b@c",  "user@host", "a b",
        "a\tb",  "a,b",  "a;b",  "a%41", "h:0",          "h:65536",  "h:99999999999", "h:8o",   "h:+1",      "h:1:2",
        "h: 80", "[::1", "::1]", "[]",   "[::g]",        "[::1]x",   "[::1]]",        "[::1]8", "::1",       "[v1.x]",
        "a~b",   "a\\b", "h?",   "h#",   "[::1%25eth0]", "\xc3\xa4", "[1.2.3.4]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        authority_is(bad[i], false, NULL);
    char name[URI_AUTHORITY_MAX + 2], out[URI_AUTHORITY_MAX + 2];
    size_t n;
    memset(name, 'a', sizeof name);
    assert_true(uri_authority_normalize((struct bytes){name, URI_AUTHORITY_MAX}, false, out, &n));
    assert_false(uri_authority_normalize((struct bytes){name, URI_AUTHORITY_MAX + 1}, false, out, &n));
    assert_false(uri_authority_normalize((struct bytes){"[\0::1]", 6}, false, out, &n));
    assert_false(uri_authority_normalize((struct bytes){"a\0b", 3}, false, out, &n));
}

static void parts_are(const char *url, bool https, const char *authority, const char *path, const char *query)
{
    struct uri_parts parts;
    assert_true(uri_parse(bytes_of(url), &parts));
    assert_int_equal(parts.https, https);
    assert_true(bytes_eq(parts.authority, bytes_of(authority)));
    assert_true(bytes_eq(parts.path, bytes_of(path)));
    assert_int_equal(parts.has_query, query != NULL);
    assert_true(bytes_eq(parts.query, bytes_of(query)));
}

/* RFC 9110 sections 4.2.1 to 4.2.5. */
static void urls_taken_apart(void **state)
{
    (void)state;
    parts_are("http://h", false, "h", "/", NULL);
    parts_are("HTTPS://h/", true, "h", "/", NULL);
    parts_are("http://h:8080/a/b?x=1", false, "h:8080", "/a/b", "x=1");
    parts_are("http://h?x", false, "h", "/", "x");
    parts_are("http://h/a?", false, "h", "/a", "");
    parts_are("http://h/a?b?c/d@e", false, "h", "/a", "b?c/d@e");
    parts_are("http://h/a@b", false, "h", "/a@b", NULL);
    static const char *const bad[] = {
        "",          "h",           "//h/a",       "ftp://h/",     "http:/h", "http://",       "http:///",
        "http://?a", "http://u@h/", "http://h/#f", "http://h/a b", "/a",      "http://h/\x7f", "http://h/\xc3\xa4",
        "https:",    "http:h"};
    struct uri_parts parts;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(uri_parse(bytes_of(bad[i]), &parts));
}

static uint64_t random_state = 0x9e3779b97f4a7c15;

static unsigned random_below(unsigned n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)((random_state >> 33) % n);
}

static size_t random_text(const char *const *pieces, unsigned npieces, unsigned max, char *out)
{
    size_t n = 0;
    for (unsigned left = random_below(max); left > 0; left--) {
        const char *piece = pieces[random_below(npieces)];
        memcpy(out + n, piece, strlen(piece));
        n += strlen(piece);
    }
    return n;
}

/* Normalising twice equals once; in place equals apart. RFC 3986 section 6.2.2. */
static void normal_forms_are_stable(void **state)
{
    (void)state;
    static const char *const pieces[] = {"/",   "/",   ".", "..", "%2e", "%2F", "%2f", "a", "4",   "%",   "%34",
                                         "%31", "%7e", "&", "=",  "%41", "%c3", "1",   "F", "%46", "%66", ";"};
    const unsigned npieces = sizeof pieces / sizeof *pieces;
    char raw[256], once[256], twice[256];
    unsigned accepted = 0, plain = 0;
    for (int round = 0; round < 200000; round++) {
        size_t n = random_text(pieces, npieces, 14, raw), once_n, twice_n;
        once_n = uri_query_normalize((struct bytes){raw, n}, once);
        twice_n = uri_query_normalize((struct bytes){once, once_n}, twice);
        assert_true(bytes_eq((struct bytes){once, once_n}, (struct bytes){twice, twice_n}));
        bool canonical = uri_path_is_canonical((struct bytes){raw, n});

        plain += canonical;
        if (!uri_path_normalize((struct bytes){raw, n}, once, &once_n)) {
            assert_false(canonical);
            continue;
        }
        assert_true(!canonical || bytes_eq((struct bytes){raw, n}, (struct bytes){once, once_n}));
        accepted++;
        assert_true(uri_path_normalize((struct bytes){once, once_n}, twice, &twice_n));
        assert_true(bytes_eq((struct bytes){once, once_n}, (struct bytes){twice, twice_n}));
        assert_true(uri_path_normalize((struct bytes){raw, n}, raw, &n));
        assert_true(bytes_eq((struct bytes){once, once_n}, (struct bytes){raw, n}));
    }
    assert_true(accepted > 1000 && plain > 1000);
}

/* Wherever in a path the bytes lie that matter. */
static void a_canonical_path_is_seen_as_one(void **state)
{
    (void)state;
    for (size_t n = 1; n < 40; n++)
        for (size_t at = 1; at < n; at++) {
            char path[40];

            memset(path, 'a', n);
            path[0] = '/';
            assert_true(uri_path_is_canonical((struct bytes){path, n}));
            path[at] = '.';
            assert_int_equal(uri_path_is_canonical((struct bytes){path, n}), at > 1);
            path[at - 1] = '/';
            assert_false(uri_path_is_canonical((struct bytes){path, n}));
            path[at - 1] = '.';
            assert_int_equal(uri_path_is_canonical((struct bytes){path, n}), at > 2 && path[0] == '/');
            path[at - 1] = path[0] = '/';
            path[at] = '%';
            assert_false(uri_path_is_canonical((struct bytes){path, n}));
        }
    assert_false(uri_path_is_canonical(BYTES_NONE));
    assert_false(uri_path_is_canonical(BYTES_LIT("a")));
}

/* RFC 3986 section 6.2. */
static void authorities_are_stable(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", "B", ".", ":", "80", "443", "0", "[", "]", "::1", "1", "-", "_"};
    char raw[64], once[64], twice[64];
    unsigned accepted = 0;
    for (int round = 0; round < 200000; round++) {
        bool https = round & 1;
        size_t n = random_text(pieces, sizeof pieces / sizeof *pieces, 7, raw), once_n, twice_n;
        if (!uri_authority_normalize((struct bytes){raw, n}, https, once, &once_n))
            continue;
        accepted++;
        assert_true(uri_authority_normalize((struct bytes){once, once_n}, https, twice, &twice_n));
        assert_true(bytes_eq((struct bytes){once, once_n}, (struct bytes){twice, twice_n}));
    }
    assert_true(accepted > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_escapes),
        cmocka_unit_test(path_dot_segments),
        cmocka_unit_test(query_escapes),
        cmocka_unit_test(query_makes_no_new_escape),
        cmocka_unit_test(authority_forms),
        cmocka_unit_test(authority_refused),
        cmocka_unit_test(urls_taken_apart),
        cmocka_unit_test(normal_forms_are_stable),
        cmocka_unit_test(a_canonical_path_is_seen_as_one),
        cmocka_unit_test(authorities_are_stable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
