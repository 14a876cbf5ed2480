/*
 * sprintf for the few formats that libh2o writes its heads with: it formats the status line of each HTTP/1 response
 * that way, and the C library's takes a fifth of all instructions of a hit. Defined as __sprintf_chk, what sprintf is
 * called as where headers are fortified, it takes the place of the C library's in the whole program; what is not one of
 * those formats goes there all the same.
 *
 * Threads  Any thread.
 */
#ifndef WEIR_PROXY_QUICK_SPRINTF_H
#define WEIR_PROXY_QUICK_SPRINTF_H

#include <stdarg.h>
#include <stdbool.h>

/* Formats of text, %d, %zu and %s (with anything else none of it is a success). *n: bytes written, without the NUL.
 * False: not one of them; what `to` points to may be overwritten. */
bool quick_vsprintf(char *to, const char *format, va_list arguments, int *n);

#endif
