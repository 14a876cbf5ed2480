#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "policies/request_check.h"

static const struct request_limits limits = {.header_bytes_max = 1000, .fields_max = 4, .body_bytes_max = 100};

static int line_status(bool http2, const char *method, const char *target, const char *authority)
{
    const struct request_line line = {http2, bytes_of(method), bytes_of(target), bytes_of(authority)};
    struct request_verdict verdict = request_check(&line, (struct fields){NULL, 0}, &limits);
    assert_int_equal(verdict.status == 0, verdict.why == NULL);
    return verdict.status;
}

static int field_status(bool http2, const char *name, const char *value)
{
    const struct request_line line = {http2, BYTES_LIT("GET"), BYTES_LIT("/"), BYTES_LIT("h")};
    const struct field f = {bytes_of(name), NULL, bytes_of(value)};
    return request_check(&line, (struct fields){&f, 1}, &limits).status;
}

/* RFC 9112 sections 3 and 3.1, RFC 9110 sections 9.3.6 and 9.3.8. */
static void methods(void **state)
{
    (void)state;
    static const struct {
        const char *method;
        int status;
    } cases[] = {{"GET", 0},
                 {"PROPFIND", 0},
                 {"M-SEARCH", 0},
                 {"get", 0},
                 {"", 400},
                 {"G(T", 400},
                 {"GET /evil HTTP/1.1", 400},
                 {"G\x01T", 400},
                 {"G\xc3\xa4", 400},
                 {"CONNECT", 405},
                 {"TRACE", 405},
                 {"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF", 0},
                 {"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG", 501}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(line_status(false, cases[i].method, "/", "h"), cases[i].status);
        assert_int_equal(line_status(true, cases[i].method, "/", "h"), cases[i].status);
    }
}

/* RFC 9112 sections 3, 3.2 and 3.2.1. */
static void targets(void **state)
{
    (void)state;
    assert_int_equal(line_status(true, "GET", "/a?b=%zz&c=!\"$<>[]^`{|}~", "h"), 0);
    static const char *const bad[] = {"",      "*",     "foo", "http://h/", "/x HTTP/1.1", "/a#b",
                                      "/\x7f", "/\x1f", "/\t", "/\xc3\xa4", "/a?b#c"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(line_status(i & 1, "GET", bad[i], "h"), 400);
    char target[1002];
    memset(target, 'a', sizeof target);
    target[0] = '/';
    target[1000] = 0;
    assert_int_equal(line_status(false, "GET", target, "h"), 0);
    target[1000] = 'a';
    target[1001] = 0;
    assert_int_equal(line_status(false, "GET", target, "h"), 414);
}

/* RFC 9110 sections 5.1 and 5.6.2, RFC 9113 section 8.2.1. */
static void field_names(void **state)
{
    (void)state;
    assert_int_equal(field_status(true, "x-a!#$%&'*+.^_`|~1", "v"), 0);
    static const char *const bad[] = {"",      "a b",      "a:", ":path", "a\t", "(a)", "a\"", "a/b",
                                      "a\x7f", "\xc3\xa4", "a@", "[",     "a,b", "{",   "a;"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(field_status(true, bad[i], "v"), 400);
        assert_int_equal(field_status(false, bad[i], "v"), 400);
    }
    assert_int_equal(field_status(true, "X-a", "v"), 400);
    assert_int_equal(field_status(false, "X-a", "v"), 0);
    const struct field nul = {{"a\0b", 3}, NULL, BYTES_NONE};
    const struct request_line line = {false, BYTES_LIT("GET"), BYTES_LIT("/"), BYTES_LIT("h")};
    assert_int_equal(request_check(&line, (struct fields){&nul, 1}, &limits).status, 400);
}

/* Long texts are read eight bytes at a time. RFC 9110 sections 5.1 and 5.5. */
static void each_byte_counts_wherever_it_stands(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 26; n++)
        for (size_t at = 0; at < n; at++)
            for (int c = 0; c < 256; c++) {
                bool control = (c < 0x20 && c != '\t') || c == 0x7f;
                bool token = c != 0 && (isalnum(c) != 0 || strchr("!#$%&'*+-.^_`|~", c) != NULL);
                struct request_line line = {true, BYTES_LIT("GET"), BYTES_LIT("/"), BYTES_LIT("h")};
                char text[27] = {'/'};
                struct field f = {BYTES_LIT("x"), NULL, {text + 1, n}};
                memset(text + 1, 'b', n);
                text[1 + at] = (char)c;
                assert_int_equal(request_check(&line, (struct fields){&f, 1}, &limits).status, control ? 400 : 0);
                f = (struct field){{text + 1, n}, NULL, BYTES_LIT("v")};
                assert_int_equal(request_check(&line, (struct fields){&f, 1}, &limits).status,
                                 token && (c < 'A' || c > 'Z') ? 0 : 400);
                line.http2 = false;
                assert_int_equal(request_check(&line, (struct fields){&f, 1}, &limits).status, token ? 0 : 400);
                line.target = (struct bytes){text, n + 1};
                assert_int_equal(request_check(&line, (struct fields){NULL, 0}, &limits).status,
                                 c < 0x21 || c > 0x7e || c == '#' ? 400 : 0);
            }
}

/* RFC 9110 section 5.5, without the controls that a recipient may retain. */
static void field_values(void **state)
{
    (void)state;
    const struct request_line line = {true, BYTES_LIT("GET"), BYTES_LIT("/"), BYTES_LIT("h")};
    for (int c = 0; c < 256; c++) {
        char text[3] = {'a', (char)c, 'b'};
        const struct field f = {BYTES_LIT("x"), NULL, {text, 3}};
        bool bad = (c < 0x20 && c != '\t') || c == 0x7f;
        assert_int_equal(request_check(&line, (struct fields){&f, 1}, &limits).status, bad ? 400 : 0);
    }
    assert_int_equal(field_status(true, "x", ""), 0);
}

/* RFC 9113 section 8.2.2. */
static void connection_fields_on_http2(void **state)
{
    (void)state;
    static const char *const names[] = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(field_status(true, names[i], "x"), 400);
        assert_int_equal(field_status(false, names[i], "x"), 0);
    }
    assert_int_equal(field_status(true, "te", "trailers"), 0);
    assert_int_equal(field_status(true, "te", "gzip"), 400);
    assert_int_equal(field_status(true, "te", "trailers, gzip"), 400);
    assert_int_equal(field_status(false, "te", "gzip"), 0);
}

/* RFC 9110 sections 8.6, 10.1.1 and 15.5.14. */
static void bodies_and_expectations(void **state)
{
    (void)state;
    assert_int_equal(field_status(true, "content-length", "100"), 0);
    assert_int_equal(field_status(true, "content-length", "101"), 413);
    assert_int_equal(field_status(true, "content-length", "99999999999999999999999"), 413);
    assert_int_equal(field_status(true, "content-length", "18446744073709551616"), 413);
    static const char *const bad[] = {"", "+5", "-5", "0x5", "5, 5", "5 ", "99999999999999999999999x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(field_status(true, "content-length", bad[i]), 400);
    assert_int_equal(field_status(false, "Content-Length", "101"), 413);
    assert_int_equal(field_status(false, "expect", "100-Continue"), 0);
    assert_int_equal(field_status(false, "expect", "200-ok"), 417);
    const struct field twice[] = {{BYTES_LIT("content-length"), NULL, BYTES_LIT("5")},
                                  {BYTES_LIT("content-length"), NULL, BYTES_LIT("5")}};
    const struct request_line line = {true, BYTES_LIT("GET"), BYTES_LIT("/"), BYTES_LIT("h")};
    assert_int_equal(request_check(&line, (struct fields){twice, 2}, &limits).status, 400);
}

/* RFC 6585 section 5; counted as in RFC 9113 section 6.5.2. */
static void sizes(void **state)
{
    (void)state;
    char text[1000];
    memset(text, 'a', sizeof text);
    const struct request_line line = {false, BYTES_LIT("GET"), BYTES_LIT("/"), BYTES_LIT("h")};
    struct field f[5];
    for (int i = 0; i < 5; i++)
        f[i] = (struct field){BYTES_LIT("x"), NULL, BYTES_LIT("1")};
    assert_int_equal(request_check(&line, (struct fields){f, 4}, &limits).status, 0);
    assert_int_equal(request_check(&line, (struct fields){f, 5}, &limits).status, 431);
    f[0].value = (struct bytes){text, 1000 - 1 - 1 - 32};
    assert_int_equal(request_check(&line, (struct fields){f, 1}, &limits).status, 0);
    f[0].value.n++;
    assert_int_equal(request_check(&line, (struct fields){f, 1}, &limits).status, 431);
}

/* In a heap buffer without a byte to spare. */
static int head_status_of(const char *head, size_t n)
{
    char *copy = malloc(n);
    memcpy(copy, head, n);
    struct request_verdict verdict = request_check_raw_head((struct bytes){copy, n});
    assert_int_equal(verdict.status == 0, verdict.why == NULL);
    free(copy);
    return verdict.status;
}

static int head_status(const char *head)
{
    return head_status_of(head, strlen(head));
}

#define GET_11 "GET /a HTTP/1.1\r\n"
#define HOST "Host: h\r\n"
#define END "\r\n"

/* RFC 9112 sections 3, 3.2, 5.1 and 6. */
static void heads_that_are_fine(void **state)
{
    (void)state;
    static const char *const good[] = {
        GET_11 HOST END,
        "GET /a HTTP/1.0\r\n" END,
        "GET /a HTTP/1.0\r\n" HOST END,
        "GET /a HTTP/1.0\r\nhost:\r\n" END,
        GET_11 "host:h" END END,
        GET_11 HOST "content-length: 5\r\n" END,
        GET_11 HOST "Content-Length:\t5 \r\n" END "hello",
        GET_11 HOST "transfer-encoding: chunked\r\n" END "5\nhello",
        GET_11 HOST "Transfer-Encoding: ChunkeD\r\n" END "5\nhello",
        GET_11 HOST "X-Content-Length: 5\r\ncontent-lengthx: 6\r\nhostx: 1\r\n" END,
        GET_11 HOST "x:\r\ny: : \r\n" END GET_11 "\n\n",
        "POST http://h/ HTTP/1.1\r\n" HOST END,
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(head_status(good[i]), 0);
}

/* RFC 9112 sections 2.3 and 3; of 1.2 RFC 9110 section 6.2 would have made 1.1. */
static void request_lines_refused(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        int status;
    } cases[] = {{"GET /a HTTP/1.2", 505},
                 {"GET /a HTTP/2.0", 505},
                 {"GET /a HTTP/0.9", 505},
                 {"GET /a", 400},
                 {"GET  /a HTTP/1.1", 400},
                 {"GET /a  HTTP/1.1", 400},
                 {"GET /a b HTTP/1.1", 400},
                 {" GET /a HTTP/1.1", 400},
                 {"GET /a HTTP/1.1 ", 400},
                 {"GET /a http/1.1", 400},
                 {"GET /a HTTP/11", 400},
                 {"GET HTTP/1.1", 400},
                 {"GET  HTTP/1.1", 400},
                 {" HTTP/1.1", 400},
                 {"", 400},
                 {"GET\t/a\tHTTP/1.1", 400}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char head[128] = "";
        strcat(strcat(head, cases[i].line), "\r\n" HOST END);
        assert_int_equal(head_status(head), cases[i].status);
    }
}

/* RFC 9112 sections 2.2, 5.1 and 5.2; a bare LF, too, which section 2.2 lets a recipient take. */
static void line_ends_and_folds_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "GET /a HTTP/1.1\n" HOST END,
        GET_11 "Host: h\n" END,
        GET_11 HOST "\n",
        GET_11 HOST "a: b\n\r\n",
        GET_11 HOST "a: b\rc\r\n" END,
        GET_11 HOST "a: b\r\r\n" END,
        GET_11 HOST "\r\r\n",
        GET_11 HOST "\rGET",
        "GET /a\r HTTP/1.1\r\n" HOST END,
        GET_11 HOST "a: b\r\n folded\r\n" END,
        GET_11 HOST "a: b\r\n\tfolded\r\n" END,
        GET_11 " Host: h\r\n" END,
        GET_11 "Host : h\r\n" END,
        GET_11 HOST "a\t: b\r\n" END,
        GET_11 HOST "a : b\r\n" END,
        GET_11 HOST ": b\r\n" END,
        GET_11 HOST "no colon\r\n" END,
        END GET_11 HOST END,
        GET_11 HOST,
        GET_11 HOST "\r",
        GET_11 HOST "a: b",
        GET_11,
        "GET /a HTTP/1.1",
        "\n",
        "",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(head_status(bad[i]), 400);
}

/* RFC 9112 sections 3.2, 6.1 and 6.3, RFC 9110 section 8.6. */
static void framing_refused(void **state)
{
    (void)state;
    static const struct {
        const char *head;
        int status;
    } cases[] = {
        {GET_11 HOST "content-length: 3\r\nContent-Length: 5\r\n" END, 400},
        {GET_11 HOST "content-length: 3\r\ncontent-length: 3\r\n" END, 400},
        {GET_11 HOST "content-length: 3\r\ntransfer-encoding: chunked\r\n" END, 400},
        {GET_11 HOST "transfer-encoding: chunked\r\ncontent-length: 3\r\n" END, 400},
        {GET_11 HOST "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n" END, 400},
        {GET_11 HOST "transfer-encoding: identity\r\nTransfer-Encoding: chunked\r\n" END, 501},
        {GET_11 HOST "transfer-encoding: gzip, chunked\r\n" END, 501},
        {GET_11 HOST "transfer-encoding: xchunked\r\n" END, 501},
        {GET_11 HOST "transfer-encoding: chunked,\r\n" END, 501},
        {GET_11 HOST "transfer-encoding: \vchunked\r\n" END, 501},
        {GET_11 HOST "transfer-encoding:\r\n" END, 501},
        {"GET /a HTTP/1.0\r\ntransfer-encoding: chunked\r\n" END, 400},
        {GET_11 HOST "content-length: +5\r\n" END, 400},
        {GET_11 HOST "content-length: 5, 5\r\n" END, 400},
        {GET_11 HOST "content-length:\r\n" END, 400},
        {GET_11 END, 400},
        {GET_11 "Host:\r\n" END, 400},
        {GET_11 "Host: \t \r\n" END, 400},
        {GET_11 HOST "hOST: h\r\n" END, 400},
        {"GET /a HTTP/1.0\r\n" HOST HOST END, 400},
        {GET_11 "xHost: h\r\n" END, 400},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(head_status(cases[i].head), cases[i].status);
}

/* Whatever is cut off or changed in a head, no byte beside it is touched; a head cut short is never fine. */
static void heads_cut_and_changed(void **state)
{
    (void)state;
    static const char head[] = GET_11 HOST "accept: */*\r\ncontent-length: 3\r\n" END;
    const size_t n = sizeof head - 1;
    unsigned seed = 3;
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(head_status_of(head, cut), 400);
    for (int round = 0; round < 100000; round++) {
        static const char letters[] = "\r\n :\tH1,\0c";
        char changed[sizeof head];
        memcpy(changed, head, n);
        for (int left = 1 + rand_r(&seed) % 3; left > 0; left--)
            changed[(size_t)rand_r(&seed) % n] = letters[(size_t)rand_r(&seed) % (sizeof letters - 1)];
        head_status_of(changed, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods),
        cmocka_unit_test(targets),
        cmocka_unit_test(field_names),
        cmocka_unit_test(field_values),
        cmocka_unit_test(each_byte_counts_wherever_it_stands),
        cmocka_unit_test(connection_fields_on_http2),
        cmocka_unit_test(bodies_and_expectations),
        cmocka_unit_test(sizes),
        cmocka_unit_test(heads_that_are_fine),
        cmocka_unit_test(request_lines_refused),
        cmocka_unit_test(line_ends_and_folds_refused),
        cmocka_unit_test(framing_refused),
        cmocka_unit_test(heads_cut_and_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
