/*
 * Which files an include pattern means.
 */
#ifndef WEIR_CONF_INCLUDE_H
#define WEIR_CONF_INCLUDE_H

#include "conf/loader.h"

#define INCLUDED_FILES_MAX 10000
#define CONF_FILE_BYTES_MAX (4 << 20)

/* Reads a file's tree and appends it to the loader's documents. False: reported. by: the include that names it, or
 * NULL for the main file. */
bool document_read(struct loader *l, const char *file, const struct node *by);

/* Reads the files that the main file's `include` names, in order. */
void documents_include(struct loader *l, const struct node *include);

/* Nothing is left to do when its turn comes among the other keys: documents_include came first. */
void conf_read_include(struct loader *l, const struct node *value, void *conf);

#endif
