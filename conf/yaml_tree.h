/*
 * YAML text as a tree of nodes with their places.
 *
 * A careful part of YAML: words, lists and maps. Anchors, aliases, merge keys, tags and several documents in a file
 * are refused, so that a file means what it shows; depth and size are bounded.
 *
 * Errors     Reported to the loader. False: the file could not be understood to its end, and there is no tree.
 */
#ifndef WEIR_CONF_YAML_TREE_H
#define WEIR_CONF_YAML_TREE_H

#include "conf/loader.h"

#define YAML_TREE_DEPTH_MAX 16
#define YAML_TREE_NODES_MAX 500000 /* over all files of a load */

bool yaml_tree_read(struct loader *l, const char *file, struct bytes text, const struct node **root);

#endif
