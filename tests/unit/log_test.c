/* The access log: lines that any client may have had a hand in, files that move, and readers that do not read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proxy/log.h"

enum { VALUE_MAX = 2048, WAIT_MS = 60000 };

static char dir[64], path[128];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/weir-log-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/access.log", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void configure(struct log *log, const char *name, enum conf_log_format format)
{
    struct conf conf = {.access_log = name, .access_format = format, .log_level = CONF_LOG_ERROR};
    char err[512];

    assert_int_equal(log_configure(log, &conf, err, sizeof err), 0);
}

static char *contents(const char *name)
{
    char *text = calloc(1, 1 << 20);
    int fd = open(name, O_RDONLY);

    assert_true(fd >= 0);
    assert_true(read(fd, text, (1 << 20) - 1) >= 0);
    close(fd);
    return text;
}

static char *line_of(enum conf_log_format format, const struct access_line *a)
{
    struct log *log = log_create();

    configure(log, path, format);
    log_access(log, a);
    log_end(log, WAIT_MS);
    log_destroy(log);
    char *text = contents(path);

    unlink(path);
    return text;
}

static struct bytes repeated(char c, size_t n)
{
    static char memory[8][8192];
    static unsigned next;
    char *p = memory[next++ % 8];

    memset(p, c, n);
    return (struct bytes){p, n};
}

static struct access_line line_with(struct bytes value)
{
    return (struct access_line){.wall_ms = 1700000000123,
                                .client = BYTES_LIT("2001:db8::1"),
                                .method = value,
                                .host = value,
                                .target = value,
                                .route = value,
                                .referer = value,
                                .user_agent = value,
                                .status = 200,
                                .bytes = UINT64_MAX / 2,
                                .duration_us = UINT64_MAX / 2,
                                .cache = "revalidated",
                                .complete = true};
}

/* Whatever is in every field at once, a line of JSON is an object with all its members. */
static void json_lines_are_json(void **state)
{
    static const char bytes[] = {'a', '"', '\\', '\x01', '\xe9'};
    static const size_t lengths[] = {0, 1, VALUE_MAX - 1, VALUE_MAX, VALUE_MAX + 1, 8192};
    (void)state;

    for (size_t b = 0; b < sizeof bytes; b++)
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            struct access_line a = line_with(repeated(bytes[b], lengths[i]));
            char *text = line_of(CONF_LOG_JSON, &a);
            size_t n = strlen(text);
            json_t *line = json_loads(text, 0, NULL);

            if (line == NULL)
                fail_msg("no JSON for %zu times %02x: ...%s", lengths[i], (unsigned char)bytes[b],
                         text + (n > 80 ? n - 80 : 0));
            assert_int_equal(text[n - 1], '\n');
            assert_int_equal(json_object_size(line), 14);
            assert_true(json_is_true(json_object_get(line, "complete")));
            json_decref(line);
            free(text);
        }
}

static size_t json_value_n(struct bytes target)
{
    struct access_line a = line_with(BYTES_LIT("x"));

    a.target = target;
    char *text = line_of(CONF_LOG_JSON, &a);
    json_t *line = json_loads(text, 0, NULL);
    size_t n = json_string_length(json_object_get(line, "target"));

    json_decref(line);
    free(text);
    return n;
}

/* 2048 bytes of the line are a value's, and no escape is cut in two. */
static void long_values_are_cut(void **state)
{
    (void)state;
    assert_int_equal(json_value_n(repeated('a', VALUE_MAX)), VALUE_MAX);
    assert_int_equal(json_value_n(repeated('a', VALUE_MAX + 1)), VALUE_MAX);
    assert_int_equal(json_value_n(repeated('"', VALUE_MAX / 2)), VALUE_MAX / 2);
    assert_int_equal(json_value_n(repeated('"', VALUE_MAX / 2 + 1)), VALUE_MAX / 2);
    assert_int_equal(json_value_n(repeated('\x01', VALUE_MAX / 6)), VALUE_MAX / 6);
    assert_int_equal(json_value_n(repeated('\x01', VALUE_MAX / 6 + 1)), VALUE_MAX / 6);
}

static void combined_lines_end(void **state)
{
    struct access_line a = line_with(repeated('\xe9', 8192));
    char *text = line_of(CONF_LOG_COMBINED, &a);
    size_t quotes = 0, n = strlen(text);
    (void)state;

    for (const char *p = text; *p != '\0'; p++)
        quotes += *p == '"';
    assert_int_equal(quotes, 6);
    assert_string_equal(text + n - 2, "\"\n");
    free(text);
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* The program's own standard output or error is a pipe that nobody reads. Returns the other end. */
static int make_pipe(int fd, int *saved)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    *saved = dup(fd);
    assert_int_equal(dup2(ends[1], fd), fd);
    close(ends[1]);
    return ends[0];
}

static void restore(int fd, int saved)
{
    dup2(saved, fd);
    close(saved);
}

static void write_many(struct log *log, unsigned n)
{
    struct access_line a = line_with(repeated('a', 100));

    while (n-- > 0)
        log_access(log, &a);
}

/* Nobody waits for a reader that does not read longer than was said; lines that it took are whole. */
static void unread_output_is_given_up(void **state)
{
    int saved, reader;
    struct log *log = log_create();
    (void)state;

    fflush(stdout);
    reader = make_pipe(STDOUT_FILENO, &saved);
    configure(log, "-", CONF_LOG_JSON);
    write_many(log, 1000);
    int64_t begun = now_ms();

    log_end(log, 300);
    log_destroy(log);
    int64_t took = now_ms() - begun;

    restore(STDOUT_FILENO, saved);
    assert_true(took >= 300 && took < 5000);
    char *text = calloc(1, 1 << 20);
    ssize_t n = read(reader, text, 1 << 20);

    assert_true(n > 0);
    assert_int_equal(text[n - 1], '\n');
    close(reader);
    free(text);
}

static void *read_all(void *data)
{
    static char sink[4096];
    size_t n = 0;
    ssize_t got;

    for (int fd = *(int *)data; (got = read(fd, sink, sizeof sink)) > 0; n += (size_t)got)
        poll(NULL, 0, 1);
    return (void *)n;
}

/* A reader that is merely slow gets everything. */
static void slowly_read_output_is_waited_for(void **state)
{
    int saved, reader;
    struct log *log = log_create();
    struct access_line a = line_with(repeated('a', 100));
    char *text = line_of(CONF_LOG_JSON, &a);
    pthread_t thread;
    void *n;
    (void)state;

    fflush(stdout);
    reader = make_pipe(STDOUT_FILENO, &saved);
    configure(log, "-", CONF_LOG_JSON);
    pthread_create(&thread, NULL, read_all, &reader);
    write_many(log, 1000);
    log_end(log, WAIT_MS);
    log_destroy(log);
    restore(STDOUT_FILENO, saved);
    pthread_join(thread, &n);
    assert_int_equal((size_t)n, 1000 * strlen(text));
    close(reader);
    free(text);
}

/* Events come from the event loops: an unread standard error may hold them up once, for a moment. */
static void unread_events_are_dropped(void **state)
{
    int saved, reader;
    struct log *log = log_create();
    (void)state;

    reader = make_pipe(STDERR_FILENO, &saved);
    fcntl(reader, F_SETPIPE_SZ, 4096);
    int64_t begun = now_ms();

    for (int i = 0; i < 40; i++)
        log_event(log, CONF_LOG_ERROR, "%0*d", 900, i);
    int64_t took = now_ms() - begun;

    log_end(log, WAIT_MS);
    log_destroy(log);
    restore(STDERR_FILENO, saved);
    close(reader);
    assert_true(took < 1000);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(json_lines_are_json),
        TEST(long_values_are_cut),
        TEST(combined_lines_end),
        TEST(unread_output_is_given_up),
        TEST(slowly_read_output_is_waited_for),
        TEST(unread_events_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
