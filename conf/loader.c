#include "conf/loader.h"

#include <stdarg.h>
#include <stdlib.h>

#define SHOW_MAX 60

void conf_problem(struct loader *l, struct conf_mark mark, const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        abort();
    va_end(args);
    conf_errors_add(l->errors, mark, "%s", text);
    free(text);
}

bool conf_is_null(const struct node *node)
{
    return node->kind == NODE_WORD && node->plain &&
           (node->text.n == 0 || strcmp(node->text.p, "~") == 0 || bytes_eq_nocase(node->text, BYTES_LIT("null")));
}

static const char *found(struct loader *l, const struct node *node)
{
    switch (node->kind) {
    case NODE_LIST:
        return "is a list";
    case NODE_MAP:
        return "is a map";
    case NODE_WORD:
        if (conf_is_null(node))
            return "has no value";
        return arena_print(l->scratch, "is '%s'", conf_show(l, node->text));
    case NODE_BAD:
        break;
    }
    return "";
}

void conf_expected(struct loader *l, const struct node *node, const char *example)
{
    if (node->kind != NODE_BAD)
        conf_problem(l, node->mark, "'%s' %s; expected %s", conf_show(l, bytes_of(node->name)), found(l, node),
                     example);
}

/* The cut falls on the first byte of a UTF-8 character. */
static size_t cut(struct bytes text)
{
    size_t n = SHOW_MAX;

    if (text.n <= SHOW_MAX)
        return text.n;
    while (n > 0 && ((unsigned char)text.p[n] & 0xc0) == 0x80)
        n--;
    return n;
}

const char *conf_show(struct loader *l, struct bytes text)
{
    size_t n = cut(text);
    char *shown = arena_alloc(l->scratch, n + sizeof("..."));

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text.p[i];

        shown[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    if (n < text.n)
        memcpy(shown + n, "...", 3);
    return shown;
}

const char *conf_hint(struct loader *l, struct bytes word, const char *const *words, size_t n)
{
    const char *nearest = conf_nearest(word, words, n);

    return nearest == NULL ? "" : arena_print(l->scratch, " (did you mean '%s'?)", nearest);
}
