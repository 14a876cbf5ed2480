/* The declarations of the fortified functions are this file's own. */
#undef _FORTIFY_SOURCE
#include "proxy/quick_sprintf.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { DIGITS_MAX = 20 }; /* of a size_t */

int __sprintf_chk(char *to, int flag, size_t size, const char *format, ...);
int __vsprintf_chk(char *to, int flag, size_t size, const char *format, va_list arguments);

static char *put(char *to, const char *text, size_t n)
{
    memcpy(to, text, n);
    return to + n;
}

static char *put_size(char *to, size_t value)
{
    char digits[DIGITS_MAX], *end = digits + sizeof digits, *p = end;

    do {
        *--p = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return put(to, p, (size_t)(end - p));
}

static char *put_int(char *to, int value)
{
    if (value >= 0)
        return put_size(to, (size_t)value);
    *to = '-';
    return put_size(to + 1, (size_t)0 - (size_t)value);
}

bool quick_vsprintf(char *to, const char *format, va_list arguments, int *n)
{
    char *p = to;

    for (;;) {
        const char *percent = strchrnul(format, '%');

        p = put(p, format, (size_t)(percent - format));
        format = percent;
        if (*format == '\0') {
            break;
        } else if (format[1] == 's') {
            const char *text = va_arg(arguments, const char *);

            if (text == NULL)
                return false;
            p = put(p, text, strlen(text));
            format += 2;
        } else if (format[1] == 'd') {
            p = put_int(p, va_arg(arguments, int));
            format += 2;
        } else if (format[1] == 'z' && format[2] == 'u') {
            p = put_size(p, va_arg(arguments, size_t));
            format += 3;
        } else
            return false;
    }
    *p = '\0';
    *n = (int)(p - to);
    return true;
}

/* size: of what `to` points to, where the caller's compiler knows it; then the C library checks it. */
int __sprintf_chk(char *to, int flag, size_t size, const char *format, ...)
{
    va_list arguments;
    bool done = false;
    int n;

    if (size == SIZE_MAX) {
        va_start(arguments, format);
        done = quick_vsprintf(to, format, arguments, &n);
        va_end(arguments);
    }
    if (done)
        return n;
    va_start(arguments, format);
    n = __vsprintf_chk(to, flag, size, format, arguments);
    va_end(arguments);
    return n;
}
