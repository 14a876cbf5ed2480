#include "policies/groups.h"

static struct bytes name_of(enum groups_kind kind)
{
    switch (kind) {
    case GROUPS_CACHE_GROUPS:
        return BYTES_LIT("cache-groups");
    case GROUPS_INVALIDATION:
        return BYTES_LIT("cache-group-invalidation");
    case GROUPS_SURROGATE_KEY:
        return BYTES_LIT("surrogate-key");
    case GROUPS_CACHE_TAG:
        return BYTES_LIT("cache-tag");
    }
    return BYTES_NONE;
}

/* RFC 9875 sections 2 and 3: a List of Strings, with parameters ignored. */
static bool holds_only_strings(struct sf field)
{
    struct sf_item item;

    while (sf_next(&field, &item))
        if (item.type != SF_STRING)
            return false;
    return true;
}

struct groups groups_of(struct fields fields, enum groups_kind kind)
{
    struct bytes name = name_of(kind);
    struct groups g = {
        .structured = kind == GROUPS_CACHE_GROUPS || kind == GROUPS_INVALIDATION,
        .left = GROUPS_MAX,
    };

    if (g.structured) {
        if (sf_list_read(fields, name, &g.field) != SF_OK || !holds_only_strings(g.field))
            g.left = 0;
        return g;
    }
    g.field = (struct sf){.fields = fields, .name = name, .line = fields_find(fields, name, 0)};
    if (g.field.line < fields.n)
        g.field.rest = fields.v[g.field.line].value;
    return g;
}

static bool string_next(struct sf *field, char *buf, struct bytes *out)
{
    struct sf_item item;

    while (sf_next(field, &item))
        if (item.text.n <= GROUP_BYTES_MAX) {
            *out = (struct bytes){buf, sf_text(&item, buf)};
            return true;
        }
    return false;
}

static bool is_separator(char c)
{
    return c == ' ' || c == '\t' || c == ',';
}

static bool word_of_line_next(struct bytes *rest, struct bytes *out)
{
    size_t begin = 0, end;

    while (begin < rest->n && is_separator(rest->p[begin]))
        begin++;
    for (end = begin; end < rest->n && !is_separator(rest->p[end]);)
        end++;
    if (end == begin)
        return false;
    *out = (struct bytes){rest->p + begin, end - begin};
    rest->p += end;
    rest->n -= end;
    return true;
}

static bool word_next(struct groups *g, struct bytes *out)
{
    struct sf *f = &g->field;

    while (f->line < f->fields.n) {
        while (word_of_line_next(&f->rest, out))
            if (out->n <= GROUP_BYTES_MAX)
                return true;
        f->line = fields_find(f->fields, f->name, f->line + 1);
        if (f->line < f->fields.n)
            f->rest = f->fields.v[f->line].value;
    }
    return false;
}

bool groups_next(struct groups *groups, char buf[static GROUP_BYTES_MAX], struct bytes *out)
{
    if (groups->left == 0)
        return false;
    groups->left--;
    if (groups->structured ? string_next(&groups->field, buf, out) : word_next(groups, out))
        return true;
    groups->left = 0;
    return false;
}
