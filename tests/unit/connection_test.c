#include "edge.h"

/*
 * Limits of connections, over real ones. Times are short: the sweep comes 4 times a second, so that a limit of T ends a
 * connection between T and T + 0.25 s, plus what a loaded machine adds.
 */

enum { HEADER_MS = 300, IDLE_MS = 600, LATE_MS = 5000 };

static struct edge *make(void)
{
    struct edge *e = edge_make();
    e->conf.header_timeout_ms = HEADER_MS;
    e->conf.idle_timeout_ms = IDLE_MS;
    return e;
}

static struct edge *start(void)
{
    struct edge *e = make();
    edge_start(e);
    return e;
}

/* Sends `piece` every 50 ms for at most `ms`, and stops when the connection has ended. How long that took. */
static int64_t drip(int fd, const void *piece, size_t n, int64_t ms)
{
    int64_t begin = edge_ms();
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};

    while (edge_ms() - begin < ms) {
        if (poll(&p, 1, 50) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0)
            break;
        if (send(fd, piece, n, MSG_NOSIGNAL) < 0)
            break;
    }
    return edge_ms() - begin;
}

static int64_t time_to_end(int fd)
{
    int64_t begin = edge_ms();
    assert_true(edge_ends(fd));
    return edge_ms() - begin;
}

static void assert_between(int64_t value, int64_t low, int64_t high)
{
    if (value < low || value >= high)
        fail_msg("%lld is not in [%lld, %lld)", (long long)value, (long long)low, (long long)high);
}

static void silent_connection_ends(void **state)
{
    struct edge *e = start();
    int fd = edge_connect(e);
    (void)state;

    assert_between(time_to_end(fd), HEADER_MS - 10, LATE_MS);
    close(fd);
    edge_stop(e);
}

static void dripped_head_gets_a_408(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    int fd = edge_connect(e);
    (void)state;

    edge_say(fd, "GET / HTTP/1.1\r\nHost: a\r\n");
    assert_between(drip(fd, "X-A: 1\r\n", 8, LATE_MS), HEADER_MS - 10, LATE_MS);
    edge_read(fd, &t, NULL);
    assert_int_equal(edge_status(&t), 408);
    close(fd);
    edge_stop(e);
}

/* A later head has its own time from its first byte, and the wait before it has idle_timeout. */
static void later_heads_are_timed_from_their_first_byte(void **state)
{
    struct edge *e = make();
    struct edge_text t;
    (void)state;

    e->conf.idle_timeout_ms = 60000;
    edge_start(e);
    int fd = edge_connect(e);
    edge_say(fd, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    edge_read(fd, &t, "GET /1");
    poll(NULL, 0, 3 * HEADER_MS); /* more than a head may take, less than a connection may idle */
    edge_say(fd, "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    edge_read(fd, &t, "GET /2");
    assert_int_equal(edge_status(&t), 200);
    edge_say(fd, "GET /3 HTTP/1.1\r\n");
    assert_between(drip(fd, "X-A: 1\r\n", 8, LATE_MS), HEADER_MS - 10, LATE_MS);
    edge_read(fd, &t, NULL);
    assert_int_equal(edge_status(&t), 408);
    close(fd);
    edge_stop(e);
}

static void idle_connection_ends(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    int fd = edge_connect(e);
    (void)state;

    edge_say(fd, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    edge_read(fd, &t, "GET /1");
    assert_between(time_to_end(fd), IDLE_MS - 10, LATE_MS);
    close(fd);
    edge_stop(e);
}

static void slow_upload_is_told_from_a_drip(void **state)
{
    struct edge *e = start();
    struct edge_text t;
    char piece[50] = {0};
    (void)state;

    /* 1000 bytes a second for three times idle_timeout */
    int fd = edge_connect(e);
    edge_say(fd, "POST /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1850\r\n\r\n");
    for (int i = 0; i < 37; i++) {
        edge_write(fd, piece, 50);
        poll(NULL, 0, 50);
    }
    edge_read(fd, &t, NULL);
    assert_int_equal(edge_status(&t), 200);
    close(fd);

    /* 20 bytes a second */
    fd = edge_connect(e);
    edge_say(fd, "POST /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1850\r\n\r\n");
    assert_between(drip(fd, piece, 1, LATE_MS), IDLE_MS - 10, LATE_MS);
    edge_read(fd, &t, NULL);
    assert_int_equal(edge_status(&t), 408);
    close(fd);

    /* nothing */
    fd = edge_connect(e);
    edge_say(fd, "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab");
    assert_between(time_to_end(fd), IDLE_MS - 10, LATE_MS);
    close(fd);
    edge_stop(e);
}

static int connect_with_small_buffer(struct edge *e)
{
    struct sockaddr_in sin = {.sin_family = AF_INET,
                              .sin_port = htons(listeners_port(e->listeners, e->listen[0].address)),
                              .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0), small = 32 * 1024;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    return fd;
}

static void unread_answer_ends_the_connection(void **state)
{
    struct edge *e = start();
    int64_t begin = edge_ms();
    int fd = connect_with_small_buffer(e);
    (void)state;

    edge_say(fd, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    edge_await(e->begun, 1);
    edge_await(e->open, 0);
    assert_between(edge_ms() - begin, IDLE_MS - 10, LATE_MS);
    close(fd);
    edge_stop(e);
}

static void slowly_read_answer_goes_on(void **state)
{
    struct edge *e = start();
    static char sink[1 << 20];
    size_t got = 0;
    int64_t begin = edge_ms();
    int fd = connect_with_small_buffer(e);
    ssize_t n;
    (void)state;

    edge_say(fd, "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    while (edge_ms() - begin < 4 * IDLE_MS) {
        n = recv(fd, sink, 16 * 1024, 0);
        assert_true(n > 0);
        got += (size_t)n;
        poll(NULL, 0, 20);
    }
    assert_int_equal(e->open, 1);
    while ((n = recv(fd, sink, sizeof(sink), 0)) > 0)
        got += (size_t)n;
    assert_int_equal(n, 0);
    assert_true(got > BIG);
    close(fd);
    edge_stop(e);
}

/* HTTP/2 */

static const char CONTINUATION[] = "\0\0\0\x09\0\0\0\0\x01", CONTINUATION_3[] = "\0\0\0\x09\0\0\0\0\x03";
static const char PING[] = "\0\0\x08\x06\0\0\0\0\0pingping";

static void pings_keep_no_idle_connection(void **state)
{
    struct edge *e = start();
    int fd = h2_connect(e);
    (void)state;

    h2_request(fd, 1, H2_END_STREAM, H2_GET("/"), NULL);
    assert_int_equal(h2_answer(fd), 200);
    assert_between(drip(fd, PING, 17, LATE_MS + 1000), IDLE_MS, LATE_MS);
    assert_true(edge_ends(fd));
    close(fd);
    edge_stop(e);
}

static void unfinished_head_keeps_no_connection(void **state)
{
    struct edge *e = start();
    int fd = h2_connect(e);
    (void)state;

    h2_write(fd, H2_HEADERS, H2_END_STREAM, 1, "\x82", 1);
    assert_between(drip(fd, CONTINUATION, 9, LATE_MS + 1000), HEADER_MS - 10, LATE_MS);
    close(fd);
    edge_stop(e);
}

static struct edge *start_with_long_idle(void)
{
    struct edge *e = make();
    e->conf.idle_timeout_ms = 60000;
    edge_start(e);
    return e;
}

/* Each head of a connection has header_timeout: behind others, beside a request that goes on, as frames or as the bytes
 * of one. */
static void every_http2_head_has_header_timeout(void **state)
{
    static const char part[] = "\0\x0f\0\x01\x05\0\0\0\x03";
    (void)state;

    for (int how = 0; how < 3; how++) {
        struct edge *e = start_with_long_idle();
        int fd = h2_connect(e);

        h2_request(fd, 1, H2_END_STREAM, H2_GET("/park"), NULL);
        if (how == 2)
            edge_write(fd, part, 9);
        else
            h2_write(fd, H2_HEADERS, H2_END_STREAM, 3, "\x82", 1);
        edge_await(e->begun, 1);
        if (how == 0)
            assert_between(time_to_end(fd), HEADER_MS - 10, LATE_MS);
        else
            assert_between(drip(fd, how == 1 ? CONTINUATION_3 : "x", how == 1 ? 9 : 1, LATE_MS + 1000), HEADER_MS - 10,
                           LATE_MS);
        close(fd);
        edge_stop(e);
    }
}

/* Streams that PRIORITY frames have opened stay without a head for ever, and heads in several frames may follow each
 * other for long. */
static void http2_heads_that_come_in_time_are_no_fault(void **state)
{
    struct edge *e = start_with_long_idle();
    int fd = h2_connect(e);
    (void)state;

    h2_write(fd, H2_PRIORITY, 0, 101, "\0\0\0\0\x0f", 5);
    for (uint32_t i = 0; i < 12; i++) {
        /* GET http / and the authority, as a table index and a literal; the second half comes later */
        h2_write(fd, H2_HEADERS, H2_END_STREAM, 2 * i + 1, "\x82\x86\x84", 3);
        poll(NULL, 0, 120);
        h2_write(fd, H2_CONTINUATION, H2_END_HEADERS, 2 * i + 1,
                 "\x01\x01"
                 "a",
                 3);
        assert_int_equal(h2_answer(fd), 200);
    }
    poll(NULL, 0, 3 * HEADER_MS);
    h2_request(fd, 103, H2_END_STREAM, H2_GET("/"), NULL);
    assert_int_equal(h2_answer(fd), 200);
    close(fd);
    edge_stop(e);
}

static void preface_has_header_timeout(void **state)
{
    struct edge *e = start();
    int fd = edge_connect(e);
    (void)state;

    edge_say(fd, "PRI * HTTP/2.0\r\n\r\n");
    assert_between(time_to_end(fd), HEADER_MS - 10, LATE_MS);
    close(fd);
    edge_stop(e);
}

static int connect_without_window(struct edge *e)
{
    int fd = h2_connect(e);
    h2_write(fd, H2_SETTINGS, 0, 0, "\0\x04\0\0\0\0", 6); /* INITIAL_WINDOW_SIZE 0 */
    return fd;
}

static void answer_without_window_ends_the_connection(void **state)
{
    struct edge *e = start();
    int fd = connect_without_window(e);
    (void)state;

    h2_request(fd, 1, H2_END_STREAM, H2_GET("/"), NULL);
    assert_int_equal(h2_answer(fd), 200);
    assert_between(drip(fd, PING, 17, LATE_MS), IDLE_MS - 10, LATE_MS);
    close(fd);
    edge_stop(e);
}

/* A client that opens its window bit by bit is slow, not stuck. */
static void answer_with_a_little_window_goes_on(void **state)
{
    struct edge *e = start();
    struct h2_frame f;
    int fd = connect_without_window(e);
    (void)state;

    h2_request(fd, 1, H2_END_STREAM, H2_GET("/big"), NULL);
    assert_int_equal(h2_answer(fd), 200);
    assert_between(drip(fd, "\0\0\x04\x08\0\0\0\0\x01\0\0\0\x05", 13, 4 * IDLE_MS), 4 * IDLE_MS, LATE_MS);
    assert_int_equal(e->open, 1);
    assert_true(h2_read_type(fd, &f, H2_DATA));
    close(fd);
    edge_stop(e);
}

static void answer_that_waits_for_weir_is_not_stuck(void **state)
{
    struct edge *e = start();
    int two = h2_connect(e), one = edge_connect(e);
    (void)state;

    h2_request(two, 1, H2_END_STREAM, H2_GET("/park"), NULL);
    edge_say(one, "GET /park HTTP/1.1\r\nHost: a\r\n\r\n");
    edge_await(e->begun, 2);
    poll(NULL, 0, 4 * IDLE_MS);
    assert_int_equal(e->open, 2);
    close(one);
    close(two);
    edge_await(e->gone, 1);
    edge_stop(e);
}

static void dripped_http2_upload_ends(void **state)
{
    struct edge *e = start();
    int fd = h2_connect(e);
    (void)state;

    h2_request(fd, 1, 0, H2_POST("/"), NULL);
    assert_between(drip(fd, "\0\0\x01\0\0\0\0\0\x01x", 10, LATE_MS), IDLE_MS - 10, LATE_MS);
    close(fd);

    fd = h2_connect(e);
    h2_request(fd, 1, 0, H2_POST("/"), NULL);
    char frame[9 + 40] = "\0\0\x28\0\0\0\0\0\x01"; /* about 1000 bytes a second */
    assert_between(drip(fd, frame, sizeof(frame), 4 * IDLE_MS), 4 * IDLE_MS, LATE_MS);
    h2_write(fd, H2_DATA, H2_END_STREAM, 1, "", 0);
    assert_int_equal(h2_answer(fd), 200);
    close(fd);
    edge_stop(e);
}

/* Requests whose content never ends do not come to the guard: their fields are counted by the sweep. */
static void hpack_bomb_without_end_ends_the_connection(void **state)
{
    struct edge *e = make();
    uint8_t block[4000];
    (void)state;

    e->conf.idle_timeout_ms = 60000;
    edge_start(e);
    int fd = h2_connect(e);
    memset(block, 0x80 | 62, sizeof(block));
    memcpy(block,
           "\x83\x86\x84\x41\x01"
           "a\x40\x01x\x01y",
           11);
    h2_write(fd, H2_HEADERS, H2_END_HEADERS, 1, block, sizeof(block));
    assert_true(edge_ends(fd));
    close(fd);
    edge_stop(e);
}

static void resets_are_limited(void **state)
{
    (void)state;
    for (uint32_t resets = 10; resets <= 11; resets++) {
        struct edge *e = edge_make(); /* 10 in a minute */
        edge_start(e);
        int fd = h2_connect(e);
        for (uint32_t i = 0; i < resets; i++) {
            h2_request(fd, 2 * i + 1, H2_END_STREAM, H2_GET("/park"), NULL);
            edge_await(e->begun, i + 1);
            h2_write(fd, H2_RST, 0, 2 * i + 1, "\0\0\0\x08", 4);
        }
        edge_await(e->reset, resets);
        if (resets == 10) {
            h2_request(fd, 101, H2_END_STREAM, H2_GET("/"), NULL);
            assert_int_equal(h2_answer(fd), 200);
        } else {
            assert_true(edge_ends(fd));
            edge_await(e->open, 0);
        }
        close(fd);
        edge_stop(e);
    }
}

/* What had been read before the connection was ended still comes to the handler, which is told to do nothing for it. */
static void dead_connection_is_refused_more_work(void **state)
{
    struct edge *e = edge_make();
    static char frames[64 * 1024];
    size_t n = 0;
    (void)state;

    edge_start(e);
    int fd = h2_connect(e);
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t id[4] = {0, 0, (uint8_t)((2 * i + 1) >> 8), (uint8_t)(2 * i + 1)};
        static const char block[] = "\x82\x86\x44\x05/park\x41\x01"
                                    "a";
        memcpy(frames + n, "\0\0\x0c\x01\x05", 5);
        memcpy(frames + n + 5, id, 4);
        memcpy(frames + n + 9, block, 12);
        memcpy(frames + n + 21, "\0\0\x04\x03\0", 5);
        memcpy(frames + n + 26, id, 4);
        memcpy(frames + n + 30, "\0\0\0\x08", 4);
        n += 34;
    }
    send(fd, frames, n, MSG_NOSIGNAL);
    assert_true(edge_ends(fd));
    edge_await(e->open, 0);
    assert_int_equal(e->begun - e->refused, 11);
    close(fd);
    edge_stop(e);
}

/* Counts and limits */

static void connections_are_limited(void **state)
{
    struct edge *e = edge_make();
    struct edge_text t;
    int fds[3];
    (void)state;

    e->conf.connections_max = 2;
    edge_start(e);
    for (int i = 0; i < 2; i++) {
        fds[i] = edge_connect(e);
        edge_say(fds[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        edge_read(fds[i], &t, "GET /");
        assert_int_equal(edge_status(&t), 200);
    }
    fds[2] = edge_connect(e);
    edge_read(fds[2], &t, NULL);
    assert_int_equal(edge_status(&t), 503);
    assert_int_equal(e->open, 2);
    close(fds[2]);

    close(fds[0]);
    edge_await(e->open, 1);
    fds[2] = edge_connect(e);
    edge_say(fds[2], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    edge_read(fds[2], &t, "GET /");
    assert_int_equal(edge_status(&t), 200);
    close(fds[1]);
    close(fds[2]);
    edge_await(e->open, 0);
    edge_stop(e);
}

/* A reload's limits hold for connections that are open. */
static void limits_can_change(void **state)
{
    struct edge *e = edge_make();
    struct edge_text t;
    int fd;
    (void)state;

    edge_start(e);
    fd = edge_connect(e);
    edge_say(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    edge_read(fd, &t, "GET /");
    e->conf.idle_timeout_ms = IDLE_MS;
    assert_int_equal(edge_prepare(e), 0);
    edge_post(e, &e->sync_message);
    assert_between(time_to_end(fd), 0, LATE_MS);
    close(fd);
    edge_stop(e);
}

/* Clients that leave */

static void leave_by(struct edge *e, const char *request, int how, unsigned nth)
{
    int fd = edge_connect(e);
    struct linger reset = {1, 0};

    edge_say(fd, request);
    edge_await(e->begun, nth);
    if (how == SHUT_WR)
        shutdown(fd, SHUT_WR);
    if (how == SHUT_RDWR)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    if (how != SHUT_WR)
        close(fd);
    edge_await(e->gone, nth);
    if (how == SHUT_WR)
        close(fd);
    edge_await(e->open, 0);
}

static void leaving_clients_are_noticed(void **state)
{
    static const char one[] = "GET /park HTTP/1.1\r\nHost: a\r\n\r\n";
    static const char more[] = "GET /park HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    struct edge *e = edge_make();
    (void)state;

    edge_start(e);
    leave_by(e, one, SHUT_RD, 1); /* FIN */
    leave_by(e, one, SHUT_RDWR, 2);
    leave_by(e, one, SHUT_WR, 3); /* half close */
    leave_by(e, more, SHUT_RD, 4);
    edge_stop(e);
}

/* Draining */

static void drain_closes_idle_connections(void **state)
{
    struct edge *e = edge_make();
    struct edge_text t;
    struct h2_frame f;
    int64_t begin;
    (void)state;

    edge_start(e);
    int idle = edge_connect(e), busy = edge_connect(e), two = h2_connect(e), parked = h2_connect(e);
    edge_say(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    edge_read(idle, &t, "GET /");
    h2_request(two, 1, H2_END_STREAM, H2_GET("/"), NULL);
    assert_int_equal(h2_answer(two), 200);
    h2_request(parked, 1, H2_END_STREAM, H2_GET("/park"), NULL);
    edge_await(e->begun, 3);
    edge_say(busy, "GET /busy HTTP/1.1\r\nHost: a\r\n");
    edge_await(e->open, 4);

    begin = edge_ms();
    edge_post(e, &e->drain_message);
    edge_read(idle, &t, NULL);
    assert_between(edge_ms() - begin, 0, 900); /* at once, not by the sweep */
    assert_int_equal(t.n, 0);
    assert_int_equal(t.error, 0);
    edge_say(busy, "\r\n");
    edge_read(busy, &t, NULL);
    assert_int_equal(edge_status(&t), 200);
    assert_non_null(strstr(t.p, "Connection: close"));
    assert_true(h2_read_type(two, &f, H2_GOAWAY));
    assert_true(edge_ends(two));
    assert_true(h2_read_type(parked, &f, H2_GOAWAY));
    assert_between(edge_ms() - begin, 0, LATE_MS);
    assert_int_equal(e->reset, 0); /* the parked request goes on */
    close(parked);
    edge_await(e->open, 0);
    close(idle), close(busy), close(two);
    edge_stop(e);
}

static void connections_accepted_in_the_drain_are_served_and_closed(void **state)
{
    struct edge *e = edge_make();
    struct edge_text t;
    (void)state;

    e->keeps_listening = true;
    edge_start(e);
    edge_post(e, &e->drain_message);
    int silent = edge_connect(e), two = h2_connect(e), one = edge_connect(e);
    edge_say(one, "GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
    edge_read(one, &t, NULL);
    assert_int_equal(edge_status(&t), 200);
    assert_non_null(strstr(t.p, "Connection: close"));
    h2_request(two, 1, H2_END_STREAM, H2_GET("/"), NULL);
    assert_int_equal(h2_answer(two), 200);
    assert_between(time_to_end(two), 0, LATE_MS);
    assert_between(time_to_end(silent), 0, LATE_MS);
    edge_await(e->open, 0);
    close(one), close(two), close(silent);
    edge_stop(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silent_connection_ends),
        cmocka_unit_test(dripped_head_gets_a_408),
        cmocka_unit_test(later_heads_are_timed_from_their_first_byte),
        cmocka_unit_test(idle_connection_ends),
        cmocka_unit_test(slow_upload_is_told_from_a_drip),
        cmocka_unit_test(unread_answer_ends_the_connection),
        cmocka_unit_test(slowly_read_answer_goes_on),
        cmocka_unit_test(pings_keep_no_idle_connection),
        cmocka_unit_test(unfinished_head_keeps_no_connection),
        cmocka_unit_test(every_http2_head_has_header_timeout),
        cmocka_unit_test(http2_heads_that_come_in_time_are_no_fault),
        cmocka_unit_test(preface_has_header_timeout),
        cmocka_unit_test(answer_without_window_ends_the_connection),
        cmocka_unit_test(answer_with_a_little_window_goes_on),
        cmocka_unit_test(answer_that_waits_for_weir_is_not_stuck),
        cmocka_unit_test(dripped_http2_upload_ends),
        cmocka_unit_test(hpack_bomb_without_end_ends_the_connection),
        cmocka_unit_test(resets_are_limited),
        cmocka_unit_test(dead_connection_is_refused_more_work),
        cmocka_unit_test(connections_are_limited),
        cmocka_unit_test(limits_can_change),
        cmocka_unit_test(leaving_clients_are_noticed),
        cmocka_unit_test(drain_closes_idle_connections),
        cmocka_unit_test(connections_accepted_in_the_drain_are_served_and_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
