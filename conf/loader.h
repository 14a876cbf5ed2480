/*
 * One load in progress, as the files of conf/ share it.
 *
 * Readers turn nodes into fields of the snapshot. They report what is wrong and go on, so that everything wrong is
 * found in one go; a field whose value was wrong keeps its default.
 *
 * Ownership  Nodes and what conf_show makes live in `scratch`, until the load ends; what goes into the snapshot is
 * copied to `keep`.
 * Threads    One.
 */
#ifndef WEIR_CONF_LOADER_H
#define WEIR_CONF_LOADER_H

#include "conf/arena.h"
#include "conf/conf.h"

enum node_kind {
    NODE_WORD,
    NODE_LIST,
    NODE_MAP,
    NODE_BAD, /* reported already */
};

struct node {
    enum node_kind kind;
    struct conf_mark mark;
    struct bytes text;      /* of a word; NUL-terminated */
    bool plain;             /* the word had no quotes */
    const struct node *key; /* in a map */
    const char *name;       /* the nearest key above it, for messages */
    struct node *next;      /* in the same list or map */
    struct node *first, *last;
    size_t n; /* how many it holds */
};

struct document {
    struct document *next;
    const char *file;
    const struct node *root; /* NULL: nothing in it */
    uint64_t device, inode;
};

/* Of a route, what is looked up once all files are read. */
struct pending_route {
    const struct node *backend, *ttl; /* NULL: not said, or not usable */
    const struct node *compress;      /* read when the top level's is known; NULL: not said */
};

struct loader {
    struct arena *keep, *scratch;
    struct conf *conf;
    struct conf_errors *errors;
    struct document *documents, *documents_last; /* in the order read; the first is the main file */
    size_t ndocuments, nnodes;
    bool in_main;         /* the file being read is the main one */
    bool listens_unknown; /* there may be some, in what could not be read */
    bool names_unknown;   /* the same for routes, backends and tiers: what refers to them cannot be judged */
    struct pending_route *pending;
};

void conf_problem(struct loader *l, struct conf_mark mark, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

bool conf_is_null(const struct node *node); /* nothing, ~ or null without quotes */

/* 'NAME' is a list; expected EXAMPLE. */
void conf_expected(struct loader *l, const struct node *node, const char *example);

/* Text of a file, made fit for a message: no control characters, not too long. */
const char *conf_show(struct loader *l, struct bytes text);

/* " (did you mean 'address'?)", or "" where nothing is near. */
const char *conf_hint(struct loader *l, struct bytes word, const char *const *words, size_t n);

#endif
