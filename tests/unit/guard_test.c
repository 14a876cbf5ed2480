#include "edge.h"

/* What the guard lets through, refuses, and how answers are framed, over real connections. */

static struct edge *start(void)
{
    struct edge *e = edge_make();
    edge_start(e);
    return e;
}

#define CLOSE "Connection: close\r\n\r\n"

static void plain_request_is_described(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    (void)state;

    edge_ask(e, "GET /a/./b%7e?x=%2f&y HTTP/1.1\r\nHost: EXAMPLE.com:80\r\nX-Thing:  1 \r\n" CLOSE, &t);
    assert_int_equal(edge_status(&t), 200);
    assert_non_null(strstr(t.p, "GET /a/b~?x=%2f&y authority=example.com https=0 http2=0 body=0,0 peer=127.0.0.1"));
    assert_non_null(strstr(t.p, "[x-thing: 1]"));
    assert_null(strstr(t.p, "[host"));
    edge_stop(e);
}

static void expect_status(const char *request, int status)
{
    struct edge *e = start();
    struct edge_text t;

    edge_ask(e, request, &t);
    if (edge_status(&t) != status)
        fail_msg("%s\nexpected %d, got:\n%s", request, status, t.p);
    if (status >= 400)
        assert_non_null(strstr(t.p, "onnection: close"));
    edge_stop(e);
}

/* RFC 9112 section 3.2.2: the target's authority wins over Host. */
static void absolute_form_is_split(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    (void)state;

    edge_ask(e, "GET http://Other.example:8080/p/../q?z HTTP/1.1\r\nHost: example.com\r\n" CLOSE, &t);
    assert_non_null(strstr(t.p, "GET /q?z authority=other.example:8080 https=0"));
    edge_ask(e, "GET https://other.example?z HTTP/1.1\r\nHost: example.com\r\n" CLOSE, &t);
    assert_non_null(strstr(t.p, "GET /?z authority=other.example https=0"));
    edge_ask(e, "GET http://user@other.example/ HTTP/1.1\r\nHost: example.com\r\n" CLOSE, &t);
    assert_int_equal(edge_status(&t), 400);
    edge_stop(e);
}

static void host_is_required_by_1_1_only(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    (void)state;

    edge_ask(e, "GET /x HTTP/1.0\r\n\r\n", &t);
    assert_non_null(strstr(t.p, "GET /x authority=localhost "));
    edge_ask(e, "GET /x HTTP/1.0\r\nHost: h\r\n\r\n", &t);
    assert_non_null(strstr(t.p, "GET /x authority=h "));
    edge_stop(e);
    expect_status("GET /x HTTP/1.1\r\n" CLOSE, 400);
    expect_status("GET /x HTTP/1.1\r\nHost:\r\n" CLOSE, 400);
    expect_status("GET /x HTTP/1.1\r\nHost: a b\r\n" CLOSE, 400);
    expect_status("GET /x HTTP/1.1\r\nHost: a/b@c\r\n" CLOSE, 400);
}

static void ambiguous_requests_are_refused(void **state)
{
    (void)state;
    expect_status("GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n" CLOSE, 400);
    expect_status("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello", 400);
    expect_status("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400);
    expect_status("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                  400);
    expect_status("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                  400);
    expect_status("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "0\r\n\r\n",
                  501);
    expect_status("POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
    expect_status("GET /x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n folded\r\n" CLOSE, 400);
    expect_status("GET /x HTTP/1.1\nHost: a\n\n", 400);
    expect_status("GET /x HTTP/1.1\r\nHost: a\nX-B: 1\r\n" CLOSE, 400);
    expect_status("GET /x HTTP/1.1\r\nHost: a\r\nX-B : 1\r\n" CLOSE, 400);
}

static void odd_targets_and_methods_are_refused(void **state)
{
    (void)state;
    expect_status("OPTIONS * HTTP/1.1\r\nHost: a\r\n" CLOSE, 400);
    expect_status("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n" CLOSE, 405);
    expect_status("TRACE / HTTP/1.1\r\nHost: a\r\n" CLOSE, 405);
    expect_status("GET foo HTTP/1.1\r\nHost: a\r\n" CLOSE, 400);
    expect_status("GET /a#b HTTP/1.1\r\nHost: a\r\n" CLOSE, 400);
    expect_status("GET /%00 HTTP/1.1\r\nHost: a\r\n" CLOSE, 400);
    expect_status("GET /../x HTTP/1.1\r\nHost: a\r\n" CLOSE, 400);
    expect_status("G(T / HTTP/1.1\r\nHost: a\r\n" CLOSE, 400);
    expect_status("OPTIONS / HTTP/1.1\r\nHost: a\r\n" CLOSE, 200);
    expect_status("PURGE / HTTP/1.1\r\nHost: a\r\n" CLOSE, 200);
}

static void fields_are_limited(void **state)
{
    struct edge *e = start();
    char request[4096];
    struct edge_text t;
    (void)state;

    for (int fields = 49; fields <= 50; fields++) { /* with Connection: 50 and 51; Host is not among them */
        int n = sprintf(request, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
        for (int i = 0; i < fields; i++)
            n += sprintf(request + n, "X-%d: 1\r\n", i);
        strcpy(request + n, "\r\n");
        edge_ask(e, request, &t);
        assert_int_equal(edge_status(&t), fields == 49 ? 200 : 431);
    }
    edge_stop(e);
}

/* The head of a request with a body is still there when the handler runs: a duplicate is seen behind a body that came
 * in one piece, in several, and in many more than libh2o's first buffer holds. */
static void heads_before_bodies_are_seen(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    static char body[90000];
    (void)state;

    memset(body, 'b', sizeof(body));
    for (int duplicate = 0; duplicate < 2; duplicate++) {
        const char *lengths =
            duplicate ? "Content-Length: 90000\r\nContent-Length: 90000\r\n" : "Content-Length: 90000\r\n";
        char head[256];
        int fd = edge_connect(e);
        snprintf(head, sizeof(head), "POST /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n", lengths);
        edge_say(fd, head);
        edge_write(fd, body, 1000);
        edge_write(fd, body, 50000);
        edge_write(fd, body, sizeof(body) - 51000);
        edge_read(fd, &t, NULL);
        assert_int_equal(edge_status(&t), duplicate ? 400 : 200);
        if (!duplicate)
            assert_non_null(strstr(t.p, "body=1,90000"));
        close(fd);
    }
    edge_stop(e);
}

static void pipelined_heads_are_each_seen(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    (void)state;

    edge_ask(e,
             "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
             "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
             "GET /3 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
             "GET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
             &t);
    assert_non_null(strstr(t.p, "POST /1 authority=a https=0 http2=0 body=1,3"));
    assert_non_null(strstr(t.p, "GET /2 authority=a https=0 http2=0 body=0,0"));
    assert_non_null(strstr(t.p, "HTTP/1.1 400"));
    assert_null(strstr(t.p, "GET /4"));
    edge_stop(e);
}

/* libh2o reads chunk sizes laxly (0x3 as 0): what follows such a body is never taken for a request. */
static void connection_closes_after_a_chunked_body(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    (void)state;

    edge_ask(e,
             "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
             "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
             &t);
    assert_int_equal(edge_status(&t), 200);
    assert_non_null(strstr(t.p, "body=1,3"));
    assert_non_null(strstr(t.p, "Connection: close"));
    assert_null(strstr(t.p, "GET /2"));
    edge_stop(e);
}

static void bodies_are_limited(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    static char body[100001];
    (void)state;

    memset(body, 'b', sizeof(body));
    for (size_t n = 100000; n <= 100001; n++) {
        int fd = edge_connect(e);
        char head[128];
        snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
                 n);
        edge_say(fd, head);
        edge_write(fd, body, n);
        edge_read(fd, &t, NULL);
        assert_int_equal(edge_status(&t), n == 100000 ? 200 : 413);
        close(fd);
    }
    edge_ask(e, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", &t);
    assert_int_equal(edge_status(&t), 413); /* at once, without waiting for it */
    edge_ask(e, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", &t);
    assert_non_null(strstr(t.p, "body=1,0"));
    edge_stop(e);
}

static void continue_is_sent(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    int fd = edge_connect(e);
    (void)state;

    edge_say(fd,
             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
    edge_read(fd, &t, "100 Continue\r\n\r\n");
    edge_say(fd, "ok");
    edge_read(fd, &t, NULL);
    assert_non_null(strstr(t.p, "body=1,2"));
    close(fd);
    edge_stop(e);
}

/* Framing of answers */

static void every_status_is_chunked(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    (void)state;

    edge_ask(e, "GET /chunks/404 HTTP/1.1\r\nHost: a\r\n\r\nGET /chunks/200 HTTP/1.1\r\nHost: a\r\n" CLOSE, &t);
    assert_int_equal(edge_status(&t), 404);
    assert_non_null(strstr(t.p, "HTTP/1.1 200"));
    char *first = strstr(t.p, "a\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\nHTTP/1.1 200");
    assert_non_null(first);
    assert_string_equal(t.p + t.n - 35, "a\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n");
    edge_stop(e);
}

static void answers_without_content_are_not_chunked(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    (void)state;

    edge_ask(e, "HEAD /chunks/200 HTTP/1.1\r\nHost: a\r\n" CLOSE, &t);
    assert_int_equal(edge_status(&t), 200);
    assert_null(strstr(t.p, "chunked"));
    edge_stop(e);
}

static void broken_answers_do_not_end_cleanly(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    (void)state;

    edge_ask(e, "GET /break/404 HTTP/1.1\r\nHost: a\r\n\r\n", &t);
    assert_int_equal(edge_status(&t), 404);
    assert_non_null(strstr(t.p, "chunked"));
    assert_null(strstr(t.p, "\r\n0\r\n"));

    /* Until-close framing: the end must be a reset. What had been sent before may be lost with it. */
    edge_ask(e, "GET /chunks/200 HTTP/1.0\r\n\r\n", &t);
    assert_int_equal(t.error, 0);
    assert_non_null(strstr(t.p, "\r\n\r\n01234567890123456789"));
    edge_ask(e, "GET /break/200 HTTP/1.0\r\n\r\n", &t);
    assert_int_equal(t.error, ECONNRESET);
    edge_stop(e);
}

/* HTTP/2 */

static void http2_request_is_described(void **state)
{
    struct edge *e = start();
    struct h2_frame f;
    int fd = h2_connect(e);
    (void)state;

    /* :scheme is the client's own word and does not count. */
    h2_request(fd, 1, H2_END_STREAM, ":method", "GET", ":scheme", "https", ":authority", "Example.com", ":path", "/a?b",
               "x-y", "z", "te", "trailers", NULL);
    assert_int_equal(h2_answer(fd), 200);
    assert_true(h2_read_type(fd, &f, H2_DATA));
    f.payload[f.n] = '\0';
    assert_non_null(strstr((char *)f.payload, "GET /a?b authority=example.com https=0 http2=1 body=0,0"));
    assert_non_null(strstr((char *)f.payload, "[x-y: z]"));
    h2_request(fd, 3, 0, H2_POST("/up"), NULL);
    h2_write(fd, H2_DATA, H2_END_STREAM, 3, "12345", 5);
    assert_int_equal(h2_answer(fd), 200);
    assert_true(h2_read_type(fd, &f, H2_DATA));
    f.payload[f.n] = '\0';
    assert_non_null(strstr((char *)f.payload, "body=1,5"));
    close(fd);
    edge_stop(e);
}

static void http2_oddities_are_refused(void **state)
{
    struct edge *e = start();
    int fd = h2_connect(e);
    (void)state;

    h2_request(fd, 1, H2_END_STREAM, ":method", "GET", ":scheme", "http", ":path", "/", NULL);
    assert_int_equal(h2_answer(fd), 400);
    h2_request(fd, 3, H2_END_STREAM, ":method", "GET", ":scheme", "http", ":path", "/", "host", "a", NULL);
    assert_int_equal(h2_answer(fd), 400);
    h2_request(fd, 5, H2_END_STREAM, ":method", "GET /evil HTTP/1.1", ":scheme", "http", ":authority", "a", ":path",
               "/", NULL);
    assert_int_equal(h2_answer(fd), 400);
    h2_request(fd, 7, H2_END_STREAM, H2_GET("/x HTTP/1.1"), NULL);
    assert_int_equal(h2_answer(fd), 400);
    h2_request(fd, 9, H2_END_STREAM, H2_GET("x"), NULL);
    assert_int_equal(h2_answer(fd), 400);
    h2_request(fd, 11, H2_END_STREAM, H2_GET(""), NULL);
    assert_int_equal(h2_answer(fd), 400);
    h2_request(fd, 13, H2_END_STREAM, ":method", "GET", ":scheme", "http", ":authority", "a/b@c d", ":path", "/", NULL);
    assert_int_equal(h2_answer(fd), 400);
    h2_request(fd, 15, H2_END_STREAM, H2_GET("/"), "keep-alive", "1", NULL);
    assert_int_equal(h2_answer(fd), 400);
    h2_request(fd, 17, H2_END_STREAM, H2_GET("/"), NULL); /* the connection has not suffered */
    assert_int_equal(h2_answer(fd), 200);
    close(fd);
    edge_stop(e);
}

static void http2_bodies_get_a_413(void **state)
{
    struct edge *e = start();
    static char piece[16384];
    int fd = h2_connect(e);
    (void)state;

    h2_request(fd, 1, 0, H2_POST("/"), NULL);
    for (int i = 0; i < 6; i++)
        h2_write(fd, H2_DATA, 0, 1, piece, sizeof(piece));
    h2_write(fd, H2_DATA, H2_END_STREAM, 1, piece, 100001 - 6 * sizeof(piece));
    assert_int_equal(h2_answer(fd), 413);
    h2_request(fd, 3, 0, H2_POST("/"), NULL);
    for (int i = 0; i < 6; i++)
        h2_write(fd, H2_DATA, 0, 3, piece, sizeof(piece));
    h2_write(fd, H2_DATA, H2_END_STREAM, 3, piece, 100000 - 6 * sizeof(piece));
    assert_int_equal(h2_answer(fd), 200);
    close(fd);
    edge_stop(e);
}

/* Thousands of fields from few bytes (HPACK): 431, then the connection goes. */
static void hpack_bomb_ends_the_connection(void **state)
{
    struct edge *e = start();
    uint8_t block[12000];
    size_t n = 0;
    int fd = h2_connect(e);
    (void)state;

    static const uint8_t start_of_request[] = {0x82, 0x86, 0x84, 0x41, 0x01, 'a'}; /* GET http / a */
    memcpy(block, start_of_request, sizeof(start_of_request));
    n = sizeof(start_of_request);
    block[n++] = 0x40; /* x: y into the table, and then again and again */
    memcpy(block + n, "\x01x\x01y", 4);
    n += 4;
    while (n < sizeof(block))
        block[n++] = 0x80 | 62;
    h2_write(fd, H2_HEADERS, H2_END_HEADERS | H2_END_STREAM, 1, block, n);
    assert_int_equal(h2_answer(fd), 431);
    assert_true(edge_ends(fd));
    close(fd);
    edge_stop(e);
}

/* HTTP/1 fields of the upgrade stay behind. */
static void upgrade_to_http2(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    struct h2_frame f;
    int fd = edge_connect(e);
    (void)state;

    edge_say(fd, "GET /up?1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                 "HTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Kept: yes\r\n\r\n");
    for (t.n = 0; t.n < 4 || memcmp(t.p + t.n - 4, "\r\n\r\n", 4) != 0; t.n++)
        assert_int_equal(recv(fd, t.p + t.n, 1, 0), 1);
    assert_memory_equal(t.p, "HTTP/1.1 101", 12);
    edge_say(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    h2_write(fd, H2_SETTINGS, 0, 0, "", 0);
    assert_int_equal(h2_answer(fd), 200);
    assert_true(h2_read_type(fd, &f, H2_DATA));
    f.payload[f.n] = '\0';
    assert_non_null(strstr((char *)f.payload, "GET /up?1 authority=a https=0 http2=1 body=0,0"));
    assert_non_null(strstr((char *)f.payload, "[x-kept: yes]"));
    assert_null(strstr((char *)f.payload, "[connection"));
    assert_null(strstr((char *)f.payload, "[http2-settings"));
    close(fd);
    edge_stop(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_request_is_described),
        cmocka_unit_test(absolute_form_is_split),
        cmocka_unit_test(host_is_required_by_1_1_only),
        cmocka_unit_test(ambiguous_requests_are_refused),
        cmocka_unit_test(odd_targets_and_methods_are_refused),
        cmocka_unit_test(fields_are_limited),
        cmocka_unit_test(heads_before_bodies_are_seen),
        cmocka_unit_test(pipelined_heads_are_each_seen),
        cmocka_unit_test(connection_closes_after_a_chunked_body),
        cmocka_unit_test(bodies_are_limited),
        cmocka_unit_test(continue_is_sent),
        cmocka_unit_test(every_status_is_chunked),
        cmocka_unit_test(answers_without_content_are_not_chunked),
        cmocka_unit_test(broken_answers_do_not_end_cleanly),
        cmocka_unit_test(http2_request_is_described),
        cmocka_unit_test(http2_oddities_are_refused),
        cmocka_unit_test(http2_bodies_get_a_413),
        cmocka_unit_test(hpack_bomb_ends_the_connection),
        cmocka_unit_test(upgrade_to_http2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
