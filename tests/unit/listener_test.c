#include "edge.h"

#include <sys/resource.h>
#include <sys/stat.h>

/* Listening sockets: opening, refusing, changing and running out of descriptors. */

#define REQUEST "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

static char dir[64], path[128];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/weir-listen-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/sock", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static struct conf_listen on_unix(void)
{
    static char address[160];
    snprintf(address, sizeof(address), "unix:%s", path);
    return (struct conf_listen){.address = address, .unix_path = path, .mark = {"test.conf", 7, 3}};
}

static struct conf_listen on_port(const char *address, const char *host, uint16_t port)
{
    return (struct conf_listen){.address = address, .host = host, .port = port, .mark = {"test.conf", 8, 3}};
}

static int connect_unix(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(addr.sun_path, path);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool exists(void)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* Not to be had: the text of the error. */
static void expect_refusal(struct edge *e, const char *what)
{
    struct conf_errors errors = {NULL, 0};

    assert_int_equal(listeners_prepare(e->listeners, &e->conf, &errors), -1);
    assert_int_equal(errors.n, 1);
    if (strstr(errors.v[0].text, what) == NULL)
        fail_msg("expected ...%s..., got %s", what, errors.v[0].text);
    assert_string_equal(errors.v[0].mark.file, "test.conf");
    conf_errors_free(&errors);
}

static void free_unstarted(struct edge *e)
{
    listeners_destroy(e->listeners);
    free(e);
}

static void unix_socket_is_served_and_removed(void **state)
{
    struct edge *e = edge_make();
    struct edge_text t;
    (void)state;

    e->listen[1] = on_unix();
    e->conf.nlistens = 2;
    edge_start(e);
    int fd = connect_unix();
    assert_true(fd >= 0);
    edge_say(fd, REQUEST);
    edge_read(fd, &t, NULL);
    assert_int_equal(edge_status(&t), 200);
    assert_non_null(strstr(t.p, "peer=unix"));
    close(fd);
    edge_ask(e, REQUEST, &t); /* and beside it the TCP one */
    assert_non_null(strstr(t.p, "peer=127.0.0.1"));
    edge_stop(e);
    assert_false(exists());
}

static int bind_unix_without_weir(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(addr.sun_path, path);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 5), 0);
    return fd;
}

static void unix_path_is_taken_over_only_if_stale(void **state)
{
    struct edge *e = edge_make();
    int other = bind_unix_without_weir();
    (void)state;

    e->listen[0] = on_unix();
    expect_refusal(e, "in use");
    assert_true(exists());
    close(other); /* leaves its file */
    edge_start(e);
    int fd = connect_unix();
    assert_true(fd >= 0);
    close(fd);
    edge_stop(e);
    assert_false(exists());
}

static void files_that_are_no_sockets_are_left_alone(void **state)
{
    struct edge *e = edge_make();
    (void)state;

    fclose(fopen(path, "w"));
    e->listen[0] = on_unix();
    expect_refusal(e, "not a socket");
    assert_true(exists());
    unlink(path);
    free_unstarted(e);
}

/* Another process may have put its own socket in the place of ours. */
static void foreign_socket_is_not_removed(void **state)
{
    struct edge *e = edge_make();
    (void)state;

    e->listen[0] = on_unix();
    edge_start(e);
    unlink(path);
    int other = bind_unix_without_weir();
    edge_stop(e);
    assert_true(exists());
    close(other);
    unlink(path);
}

static void long_unix_path_is_refused(void **state)
{
    char longer[200];
    (void)state;

    for (size_t n = 107; n <= 108; n++) {
        struct edge *e = edge_make();
        snprintf(longer, sizeof(longer), "%s/%0*d", dir, (int)(n - strlen(dir) - 1), 0);
        e->listen[0] = (struct conf_listen){.address = "unix:long", .unix_path = longer, .mark = {"test.conf", 1, 1}};
        if (n == 108)
            expect_refusal(e, "longer than 107 bytes");
        else
            assert_int_equal(edge_prepare(e), 0);
        free_unstarted(e);
    }
}

static void ipv6_stands_beside_ipv4(void **state)
{
    struct edge *e = edge_make();
    struct edge_text t;
    struct sockaddr_in6 sin = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    (void)state;

    e->listen[0] = on_port("0.0.0.0:0", "0.0.0.0", 0);
    edge_start(e);
    uint16_t port = listeners_port(e->listeners, "0.0.0.0:0");
    e->listen[1] = on_port("[::]", "::", port);
    e->conf.nlistens = 2;
    assert_int_equal(edge_prepare(e), 0);
    edge_post(e, &e->sync_message);
    assert_int_equal(listeners_port(e->listeners, "[::]"), port);
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    sin.sin6_port = htons(port);
    assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    edge_say(fd, REQUEST);
    edge_read(fd, &t, NULL);
    assert_non_null(strstr(t.p, "peer=::1"));
    close(fd);
    edge_ask(e, REQUEST, &t);
    assert_non_null(strstr(t.p, "peer=127.0.0.1"));
    edge_stop(e);
}

static int listen_without_weir(uint16_t *port, bool share)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(sin);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    if (share)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    assert_int_equal(listen(fd, 5), 0);
    getsockname(fd, (struct sockaddr *)&sin, &n);
    *port = ntohs(sin.sin_port);
    return fd;
}

/* Also when the other one would share it. And when one address fails, none is opened. */
static void address_in_use_is_refused(void **state)
{
    (void)state;
    for (int share = 0; share < 2; share++) {
        struct edge *e = edge_make();
        uint16_t port;
        int other = listen_without_weir(&port, share != 0);

        e->listen[0] = on_unix();
        e->listen[1] = on_port("127.0.0.1:busy", "127.0.0.1", port);
        e->conf.nlistens = 2;
        expect_refusal(e, "cannot listen on 127.0.0.1:busy: Address already in use");
        assert_false(exists());
        close(other);
        edge_start(e);
        assert_true(exists());
        edge_stop(e);
    }
}

/* A reload that fails changes nothing: what listened goes on, what was new is gone. */
static void failed_reload_changes_nothing(void **state)
{
    struct edge *e = edge_make();
    struct edge_text t;
    uint16_t port;
    int other = listen_without_weir(&port, false);
    (void)state;

    edge_start(e);
    e->listen[1] = on_unix();
    e->listen[2] = on_port("127.0.0.1:busy", "127.0.0.1", port);
    e->conf.nlistens = 3;
    expect_refusal(e, "Address already in use");
    edge_post(e, &e->sync_message);
    assert_false(exists());
    edge_ask(e, REQUEST, &t);
    assert_int_equal(edge_status(&t), 200);
    close(other);
    edge_stop(e);
}

static void reload_opens_and_closes(void **state)
{
    struct edge *e = edge_make();
    struct conf_listen kept = e->listen[0];
    struct edge_text t;
    (void)state;

    edge_start(e);
    uint16_t port = listeners_port(e->listeners, kept.address);
    for (int round = 0; round < 3; round++) {
        e->listen[0] = kept;
        e->listen[1] = on_unix();
        e->conf.nlistens = 2;
        assert_int_equal(edge_prepare(e), 0);
        edge_post(e, &e->sync_message);
        assert_int_equal(listeners_port(e->listeners, kept.address), port);
        int served = connect_unix();
        edge_say(served, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
        edge_read(served, &t, "GET /1");

        e->conf.nlistens = 1;
        assert_int_equal(edge_prepare(e), 0);
        assert_false(exists());
        edge_post(e, &e->sync_message);
        assert_int_equal(connect_unix(), -1);
        edge_say(served, "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"); /* open connections go on */
        edge_read(served, &t, "GET /2");
        assert_int_equal(edge_status(&t), 200);
        close(served);
    }
    edge_ask(e, REQUEST, &t);
    assert_int_equal(edge_status(&t), 200);
    edge_stop(e);
}

/* Holds the thread until the test lets go, then syncs. */
static void hold_and_sync(struct message *m)
{
    struct edge *e = H2O_STRUCT_FROM_MEMBER(struct edge, sync_message, m);
    pthread_barrier_wait(&e->done);
    pthread_barrier_wait(&e->done);
    listener_thread_sync(e->listening);
    pthread_barrier_wait(&e->done);
}

/* What is in the queue when a listener goes is served. */
static void queued_connections_are_served(void **state)
{
    struct edge *e = edge_make();
    struct edge_text t;
    int fds[20];
    (void)state;

    e->listen[1] = on_unix();
    e->conf.nlistens = 2;
    edge_start(e);
    e->sync_message.run = hold_and_sync;
    edge_post(e, &e->sync_message);
    for (int i = 0; i < 20; i++) {
        fds[i] = connect_unix();
        edge_say(fds[i], REQUEST);
    }
    e->conf.nlistens = 1;
    assert_int_equal(edge_prepare(e), 0);
    pthread_barrier_wait(&e->done);
    pthread_barrier_wait(&e->done);
    for (int i = 0; i < 20; i++) {
        edge_read(fds[i], &t, NULL);
        assert_int_equal(edge_status(&t), 200);
        close(fds[i]);
    }
    edge_stop(e);
}

/* Whoever connects after the drain has begun is refused, and whoever had connected before is served. */
static void drain_closes_and_serves_the_queue(void **state)
{
    struct edge *e = edge_make();
    struct edge_text t;
    int fds[40];
    (void)state;

    e->listen[1] = on_unix();
    e->conf.nlistens = 2;
    edge_start(e);
    uint16_t port = listeners_port(e->listeners, e->listen[0].address);
    e->sync_message.run = hold_and_sync;
    edge_post(e, &e->sync_message);
    for (int i = 0; i < 40; i++) {
        fds[i] = i % 2 == 0 ? edge_connect_port(port) : connect_unix();
        edge_say(fds[i], REQUEST);
    }
    listeners_drain(e->listeners);
    assert_false(exists());
    loop_post(e->loop, &e->drain_message);
    pthread_barrier_wait(&e->done);
    pthread_barrier_wait(&e->done);
    pthread_barrier_wait(&e->done); /* drain_message's */
    for (int i = 0; i < 40; i++) {
        edge_read(fds[i], &t, NULL);
        assert_int_equal(edge_status(&t), 200);
        close(fds[i]);
    }
    for (int64_t until = edge_ms() + CLIENT_WAIT_S * 1000; edge_is_open(port) && edge_ms() < until;)
        poll(NULL, 0, 5);
    assert_false(edge_is_open(port));
    edge_stop(e);
}

static void threads_share_a_port(void **state)
{
    struct edge *a = edge_make(), *b = edge_make();
    struct edge_text t;
    (void)state;

    listeners_destroy(a->listeners);
    listeners_destroy(b->listeners);
    a->listeners = b->listeners = listeners_create(2);
    b->index = 1;
    a->listen[1] = on_unix();
    a->conf.nlistens = 2;
    edge_start(a);
    edge_start(b);
    for (int i = 0; i < 60; i++) {
        edge_ask(a, REQUEST, &t);
        assert_int_equal(edge_status(&t), 200);
    }
    assert_int_equal(a->begun + b->begun, 60);
    assert_true(a->begun > 0 && b->begun > 0);
    edge_stop(b);
    edge_stop(a);
}

/* Without descriptors the server waits a little and tries again, instead of turning as fast as it can. */
static void exhaustion_does_not_spin(void **state)
{
    struct edge *e = edge_make();
    struct edge_text t;
    struct rlimit old, few;
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fillers[256], n = 0;
    (void)state;

    edge_start(e);
    sin.sin_port = htons(listeners_port(e->listeners, e->listen[0].address));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    getrlimit(RLIMIT_NOFILE, &old);
    few = old;
    few.rlim_cur = 128;
    setrlimit(RLIMIT_NOFILE, &few);
    while (n < 256 && (fillers[n] = dup(fd)) >= 0)
        n++;
    assert_true(n > 0 && n < 256);
    assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    edge_say(fd, REQUEST);
    poll(NULL, 0, 100);
    unsigned before = e->turns;
    poll(NULL, 0, 500);
    assert_true(e->turns - before < 30);
    assert_int_equal(e->open, 0);

    while (n > 0)
        close(fillers[--n]);
    setrlimit(RLIMIT_NOFILE, &old);
    edge_read(fd, &t, NULL);
    assert_int_equal(edge_status(&t), 200);
    close(fd);
    edge_stop(e);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(unix_socket_is_served_and_removed),
        TEST(unix_path_is_taken_over_only_if_stale),
        TEST(files_that_are_no_sockets_are_left_alone),
        TEST(foreign_socket_is_not_removed),
        TEST(long_unix_path_is_refused),
        TEST(ipv6_stands_beside_ipv4),
        TEST(address_in_use_is_refused),
        TEST(failed_reload_changes_nothing),
        TEST(reload_opens_and_closes),
        TEST(queued_connections_are_served),
        TEST(drain_closes_and_serves_the_queue),
        TEST(threads_share_a_port),
        TEST(exhaustion_does_not_spin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
