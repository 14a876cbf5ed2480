/*
 * Memory that is given back all at once: a snapshot's, or that of one load.
 *
 * Errors     Out of memory ends the program, as it does in libh2o: a configuration is small, and a process that cannot
 * hold it cannot serve either.
 * Threads  One at a time.
 */
#ifndef WEIR_CONF_ARENA_H
#define WEIR_CONF_ARENA_H

#include "policies/bytes.h"

struct arena;

struct arena *arena_create(void);
void arena_destroy(struct arena *arena); /* wipes what it held: it may be a token */

void *arena_alloc(struct arena *arena, size_t size);              /* zeroed; aligned for any type */
void *arena_array(struct arena *arena, size_t n, size_t size);    /* NULL when n is 0 */
char *arena_dup(struct arena *arena, struct bytes text);          /* NUL-terminated */
struct bytes arena_bytes(struct arena *arena, struct bytes text); /* the same, with its length */
char *arena_print(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
