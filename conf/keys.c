#include "conf/keys.h"

#include <assert.h>

#include "conf/value.h"

static const struct conf_key *find(const struct conf_keys *keys, struct bytes name, size_t *at)
{
    for (*at = 0; *at < keys->n; ++*at)
        if (bytes_eq(name, bytes_of(keys->v[*at].name)))
            return &keys->v[*at];
    return NULL;
}

/* The key that may have been meant, or NULL. */
static const struct conf_key *report_unknown(struct loader *l, const struct conf_keys *keys, const struct node *key)
{
    const char *known[KEYS_MAX], *nearest;
    size_t n = 0, at;

    if (key->plain && bytes_eq(key->text, BYTES_LIT("<<"))) {
        conf_problem(l, key->mark, "merge keys (<<) are not supported: write the keys out");
        return NULL;
    }
    for (size_t i = 0; i < keys->n; i++)
        if (keys->v[i].kind != KEY_LATER && (l->in_main || !keys->v[i].main_only))
            known[n++] = keys->v[i].name;
    nearest = conf_nearest(key->text, known, n);
    if (nearest == NULL)
        conf_problem(l, key->mark, "unknown key '%s'", conf_show(l, key->text));
    else
        conf_problem(l, key->mark, "unknown key '%s' (did you mean '%s'?)", conf_show(l, key->text), nearest);
    return nearest == NULL ? NULL : find(keys, bytes_of(nearest), &at);
}

static void read_later(struct loader *l, const struct conf_key *key, const struct node *value)
{
    if (key->standard == NULL)
        conf_problem(l, value->key->mark, "'%s' is not supported by this version", key->name);
    else if (value->kind != NODE_WORD || !bytes_eq(value->text, bytes_of(key->standard)))
        conf_problem(l, value->key->mark, "'%s' is not supported by this version (only '%s: %s' is)", key->name,
                     key->name, key->standard);
}

static void read_value(struct loader *l, const struct conf_key *key, const struct node *value, void *into)
{
    switch (key->kind) {
    case KEY_MAP:
        conf_keys_read(l, key->keys, value, into);
        break;
    case KEY_OTHER:
        if (value->kind != NODE_BAD)
            key->read(l, value, into);
        break;
    case KEY_LATER:
        read_later(l, key, value);
        break;
    default:
        conf_value_read(l, key, value, into);
    }
}

struct map_reading {
    const struct conf_keys *keys;
    void *into;
    const struct node *seen[KEYS_MAX];
    bool meant[KEYS_MAX]; /* but misspelt: not missing as well */
};

static void read_unknown(struct loader *l, struct map_reading *r, const struct node *key)
{
    const struct conf_key *meant = report_unknown(l, r->keys, key);

    if (meant == NULL)
        return;
    r->meant[meant - r->keys->v] = true;
    if (r->keys == &conf_top_keys) /* a whole section may be missing for it */
        *(meant->main_only ? &l->listens_unknown : &l->names_unknown) = true;
}

static void read_entry(struct loader *l, struct map_reading *r, const struct node *value)
{
    const struct node *name = value->key;
    size_t at;
    const struct conf_key *key = find(r->keys, name->text, &at);

    if (name->kind != NODE_WORD)
        return;
    if (key == NULL) {
        read_unknown(l, r, name);
        return;
    }
    if (r->seen[at] != NULL) {
        conf_problem(l, name->mark, "duplicate key '%s' (the first is in line %u)", key->name, r->seen[at]->mark.line);
        return;
    }
    r->seen[at] = name;
    if (key->main_only && !l->in_main)
        conf_problem(l, name->mark,
                     "'%s' is allowed in the main file only; an included file has routes, backends and ttl", key->name);
    else
        read_value(l, key, value, r->into);
}

static void report_missing(struct loader *l, const struct map_reading *r, const struct node *map)
{
    for (size_t i = 0; i < r->keys->n; i++) {
        const struct conf_key *key = &r->keys->v[i];

        if (key->example != NULL && r->seen[i] == NULL && !r->meant[i])
            conf_problem(l, map->mark, "'%s' is missing; expected '%s: %s'", key->name, key->name, key->example);
    }
}

bool conf_keys_read(struct loader *l, const struct conf_keys *keys, const struct node *map, void *into)
{
    struct map_reading r = {.keys = keys, .into = into};

    assert(keys->n <= KEYS_MAX);
    if (map->kind != NODE_MAP) {
        conf_expected(l, map, arena_print(l->scratch, "a map, such as { %s: ... }", keys->v[0].name));
        return false;
    }
    for (const struct node *value = map->first; value != NULL; value = value->next)
        read_entry(l, &r, value);
    report_missing(l, &r, map);
    return true;
}

void conf_keys_default(const struct conf_keys *keys, void *into)
{
    for (size_t i = 0; i < keys->n; i++) {
        const struct conf_key *key = &keys->v[i];

        if (key->kind == KEY_MAP)
            conf_keys_default(key->keys, into);
        else if (key->kind < KEY_MAP && key->standard != NULL)
            conf_value_default(key, into);
    }
}

const struct node *conf_child(const struct node *map, const char *name)
{
    if (map == NULL || map->kind != NODE_MAP)
        return NULL;
    for (const struct node *value = map->first; value != NULL; value = value->next)
        if (bytes_eq(value->key->text, bytes_of(name)))
            return value;
    return NULL;
}
