/*
 * Files: their names and their bytes.
 *
 * Errors     A sentence without the file's name, e.g. "No such file or directory"; NULL when all is well.
 */
#ifndef WEIR_CONF_SOURCE_H
#define WEIR_CONF_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/arena.h"

struct source {
    struct bytes text; /* NUL-terminated besides */
    uint64_t device, inode;
};

/* A name as the file that says it means it: relative to that file's directory. */
const char *source_resolve(struct arena *arena, const char *by, struct bytes name);

/* A whole file of at most bytes_max. special: pipes and devices will do as well. */
const char *source_read(struct arena *arena, const char *file, size_t bytes_max, bool special, struct source *out);

/* Is it a regular file that can be read? */
const char *source_check(const char *file);
bool source_is_forbidden(const char *file); /* it may be there, but may not be read */

#endif
