/* conf_load: read all files, then the sections, then what only the whole can tell. */
#include <stdlib.h>

#include "conf/include.h"
#include "conf/sections.h"
#include "conf/snapshot.h"

static const struct node *main_child(const struct loader *l, const char *name)
{
    return l->documents == NULL ? NULL : conf_child(l->documents->root, name);
}

static void read_files(struct loader *l, const char *file)
{
    const struct node *include;

    if (!document_read(l, file, NULL))
        return;
    include = main_child(l, "include");
    if (include != NULL)
        documents_include(l, include);
}

/* How many entries all files together have under a key. Too many are reported, and none are read. */
static size_t count(struct loader *l, const char *name)
{
    size_t n = 0;

    for (const struct document *d = l->documents; d != NULL; d = d->next) {
        const struct node *value = conf_child(d->root, name);

        if (value == NULL)
            continue;
        n += value->n;
        if (n > CONF_ENTRIES_MAX) {
            conf_problem(l, value->mark, "more than %d %s in all files", CONF_ENTRIES_MAX, name);
            return SIZE_MAX;
        }
    }
    return n;
}

/* Later readers append; pointers into the arrays stay good because they are made once. */
static bool make_room(struct loader *l)
{
    struct conf *conf = l->conf;
    size_t tiers = count(l, "ttl"), backends = count(l, "backends"), routes = count(l, "routes");

    if (tiers == SIZE_MAX || backends == SIZE_MAX || routes == SIZE_MAX)
        return false;
    conf->tiers = arena_array(l->keep, tiers, sizeof(*conf->tiers));
    conf->backends = arena_array(l->keep, backends, sizeof(*conf->backends));
    conf->routes = arena_array(l->keep, routes, sizeof(*conf->routes));
    l->pending = arena_array(l->scratch, routes, sizeof(*l->pending));
    return true;
}

static bool is_empty(const struct node *root)
{
    return root == NULL || (root->kind == NODE_WORD && root->plain && root->text.n == 0);
}

static void read_sections(struct loader *l)
{
    for (const struct document *d = l->documents; d != NULL; d = d->next) {
        l->in_main = d == l->documents;
        if (!is_empty(d->root))
            conf_keys_read(l, &conf_top_keys, d->root, l->conf);
    }
}

static void check_whole(struct loader *l)
{
    const struct node *memory = main_child(l, "memory");

    if (memory != NULL)
        conf_check_memory(l, memory);
    conf_check_admin(l, main_child(l, "admin"));
    conf_check_listens(l);
    conf_check_routes(l);
}

static void list_files(struct loader *l)
{
    struct conf *conf = l->conf;

    conf->files = arena_array(l->keep, l->ndocuments, sizeof(*conf->files));
    for (const struct document *d = l->documents; d != NULL; d = d->next)
        conf->files[conf->nfiles++] = d->file;
}

struct ranked {
    struct conf_error error;
    size_t file, nth; /* in the order read, and reported */
};

static size_t file_rank(const struct loader *l, const char *file)
{
    size_t rank = 0;

    for (const struct document *d = l->documents; d != NULL && strcmp(d->file, file) != 0; d = d->next)
        rank++;
    return rank;
}

static int by_place(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->file != y->file)
        return x->file < y->file ? -1 : 1;
    if (x->error.mark.line != y->error.mark.line)
        return x->error.mark.line < y->error.mark.line ? -1 : 1;
    if (x->error.mark.column != y->error.mark.column)
        return x->error.mark.column < y->error.mark.column ? -1 : 1;
    return x->nth < y->nth ? -1 : x->nth > y->nth;
}

static void sort_errors(struct loader *l)
{
    struct conf_errors *errors = l->errors;
    struct ranked *ranked = arena_array(l->scratch, errors->n, sizeof(*ranked));

    for (size_t i = 0; i < errors->n; i++)
        ranked[i] = (struct ranked){errors->v[i], file_rank(l, errors->v[i].mark.file), i};
    if (errors->n > 0)
        qsort(ranked, errors->n, sizeof(*ranked), by_place);
    for (size_t i = 0; i < errors->n; i++)
        errors->v[i] = ranked[i].error;
}

int conf_load_with(const char *file, conf_check *check, struct conf **out, struct conf_errors *errors)
{
    struct loader l = {.keep = arena_create(), .scratch = arena_create(), .errors = errors};
    int failed;

    *errors = (struct conf_errors){NULL, 0};
    *out = NULL;
    l.conf = snapshot_conf_create(l.keep);
    l.conf->file = arena_dup(l.keep, bytes_of(file));
    conf_process_default(&l);
    read_files(&l, l.conf->file);
    if (l.documents != NULL && make_room(&l)) {
        read_sections(&l);
        check_whole(&l);
        list_files(&l);
        if (check != NULL)
            check(l.conf, errors);
    }
    sort_errors(&l);
    failed = errors->n > 0;
    arena_destroy(l.scratch);
    if (failed)
        conf_release(l.conf);
    else
        *out = l.conf;
    return failed ? -1 : 0;
}

int conf_load(const char *file, struct conf **out, struct conf_errors *errors)
{
    return conf_load_with(file, NULL, out, errors);
}
