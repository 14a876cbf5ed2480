#include "conf/include.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>

#include "conf/keys.h"
#include "conf/source.h"
#include "conf/value.h"
#include "conf/yaml_tree.h"

static const char special[] = "*?[";

static bool report_unreadable(struct loader *l, const char *file, const struct node *by, const char *why)
{
    l->names_unknown = true;
    if (by == NULL)
        conf_problem(l, (struct conf_mark){file, 1, 1}, "cannot be read: %s", why);
    else
        conf_problem(l, by->mark, "'include': cannot read '%s': %s", conf_show(l, bytes_of(file)), why);
    return false;
}

static const struct document *find(const struct loader *l, const struct source *source)
{
    for (const struct document *d = l->documents; d != NULL; d = d->next)
        if (d->device == source->device && d->inode == source->inode)
            return d;
    return NULL;
}

static void append(struct loader *l, const char *file, const struct source *source, const struct node *root)
{
    struct document *d = arena_alloc(l->scratch, sizeof(*d));

    *d = (struct document){NULL, file, root, source->device, source->inode};
    if (l->documents_last == NULL)
        l->documents = d;
    else
        l->documents_last->next = d;
    l->documents_last = d;
    l->ndocuments++;
}

/* A file that two patterns name counts once; the main file would include itself for ever. */
bool document_read(struct loader *l, const char *file, const struct node *by)
{
    struct source source;
    const struct node *root = NULL;
    const struct document *before;
    const char *wrong = source_read(l->scratch, file, CONF_FILE_BYTES_MAX, by == NULL, &source);

    if (wrong != NULL)
        return report_unreadable(l, file, by, wrong);
    before = find(l, &source);
    if (before != NULL) {
        if (before == l->documents)
            conf_problem(l, by->mark, "'include': '%s' is the main file itself", conf_show(l, bytes_of(file)));
        return before != l->documents;
    }
    if (!yaml_tree_read(l, file, source.text, &root)) {
        l->names_unknown = true;
        l->listens_unknown |= by == NULL;
    }
    append(l, file, &source, root);
    return true;
}

/* The directory of the main file may have a name with '*' in it, which means itself. */
static const char *escaped(struct arena *arena, const char *file, size_t directory_n)
{
    char *pattern = arena_alloc(arena, strlen(file) * 2 + 1), *to = pattern;

    for (size_t i = 0; file[i] != '\0'; i++) {
        if (i < directory_n && strchr("*?[\\", file[i]) != NULL)
            *to++ = '\\';
        *to++ = file[i];
    }
    return pattern;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A directory that is not there holds no files; one that may not be read may hold some. */
static int on_error(const char *path, int error)
{
    (void)path;
    return error != ENOENT && error != ENOTDIR;
}

static void include_matches(struct loader *l, const struct node *word, const char *file, size_t directory_n)
{
    glob_t matches;
    int rc = glob(escaped(l->scratch, file, directory_n), GLOB_NOSORT, on_error, &matches);

    if (rc == GLOB_NOSPACE)
        abort();
    if (rc == GLOB_ABORTED)
        report_unreadable(l, file, word, "a directory of it cannot be read");
    if (rc != 0) {
        globfree(&matches);
        return;
    }
    qsort(matches.gl_pathv, matches.gl_pathc, sizeof(char *), by_name);
    for (size_t i = 0; i < matches.gl_pathc; i++) {
        if (l->ndocuments > INCLUDED_FILES_MAX) {
            report_unreadable(l, file, word, "it means more than 10000 files");
            break;
        }
        document_read(l, arena_dup(l->keep, bytes_of(matches.gl_pathv[i])), word);
    }
    globfree(&matches);
}

static void include_word(struct loader *l, const struct node *word)
{
    struct bytes name;
    const char *file;

    if (!conf_word_read(l, word, "file names, such as conf.d/*.conf", &name))
        return;
    file = source_resolve(l->keep, word->mark.file, name);
    if (strpbrk(name.p, special) != NULL)
        include_matches(l, word, file, strlen(file) - name.n);
    else
        document_read(l, file, word);
}

void documents_include(struct loader *l, const struct node *include)
{
    if (include->kind == NODE_LIST)
        for (const struct node *item = include->first; item != NULL; item = item->next)
            include_word(l, item);
    else
        include_word(l, include);
}

void conf_read_include(struct loader *l, const struct node *value, void *conf)
{
    (void)l;
    (void)value;
    (void)conf;
}
