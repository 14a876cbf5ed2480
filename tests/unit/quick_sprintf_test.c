/* sprintf for few formats, held against the C library's. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "proxy/quick_sprintf.h"

enum { ROOM = 512 };

static bool quick(char *to, int *n, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    bool done = quick_vsprintf(to, format, arguments, n);

    va_end(arguments);
    return done;
}

#define SAME(...)                                                                                                      \
    do {                                                                                                               \
        char ours[ROOM], theirs[ROOM];                                                                                 \
        int n, expected = snprintf(theirs, sizeof theirs, __VA_ARGS__);                                                \
                                                                                                                       \
        memset(ours, 'x', sizeof ours);                                                                                \
        assert_true(quick(ours, &n, __VA_ARGS__));                                                                     \
        assert_int_equal(n, expected);                                                                                 \
        assert_string_equal(ours, theirs);                                                                             \
    } while (0)

static void heads(void **state)
{
    (void)state;
    SAME("HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: %s\r\nContent-Length: %zu\r\n", 200, "OK",
         "Sun, 06 Nov 1994 08:49:37 GMT", "keep-alive", (size_t)1024);
    SAME("HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: %s\r\n", 304, "Not Modified", "Sun, 06 Nov 1994 08:49:37 GMT",
         "close");
    SAME("Server: %s\r\n", "");
}

static void numbers(void **state)
{
    static const int ints[] = {0, 1, -1, 9, 10, -10, 99, 100, 999, INT_MAX, INT_MIN, INT_MIN + 1};
    static const size_t sizes[] = {0, 1, 9, 10, 4294967295u, 4294967296u, SIZE_MAX - 1, SIZE_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++)
        SAME("%d", ints[i]);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        SAME("a%zub%zu", sizes[i], sizes[i]);
}

static void what_it_leaves_to_the_c_library(void **state)
{
    static const char *const formats[] = {"%u", "%5d", "%-d", "%zd", "%ld", "%%", "%c", "%.3s", "%", "%z", "abc%x"};
    char to[ROOM];
    int n;

    (void)state;
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        assert_false(quick(to, &n, formats[i], 1));
    assert_false(quick(to, &n, "%s", (char *)NULL));
}

/* Through the name that fortified callers use, libh2o among them. */
int __sprintf_chk(char *to, int flag, size_t size, const char *format, ...);

static void the_whole_program_s(void **state)
{
    volatile size_t unknown = SIZE_MAX;
    char to[ROOM];

    (void)state;
    assert_int_equal(__sprintf_chk(to, 1, unknown, "%d %s", 7, "seven"), 7);
    assert_string_equal(to, "7 seven");
    assert_int_equal(__sprintf_chk(to, 1, unknown, "%s %05.1f %x", "a", 2.25, 255u), 10);
    assert_string_equal(to, "a 002.2 ff");
    assert_int_equal(__sprintf_chk(to, 1, sizeof to, "%d", 12), 2);
    assert_string_equal(to, "12");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads),
        cmocka_unit_test(numbers),
        cmocka_unit_test(what_it_leaves_to_the_c_library),
        cmocka_unit_test(the_whole_program_s),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
