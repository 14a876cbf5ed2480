/*
 * weir.conf(5) against the tables that the loader reads by: each key has its item, with its range and default as they
 * are, and there is no item for a key that is not.
 */
#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>

#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdlib.h>

#include "conf/keys.h"

static char page[1 << 20];

static int read_page(void **state)
{
    char name[PATH_MAX];
    const char *end = strstr(__FILE__, "tests/unit/");
    FILE *file;

    (void)state;
    snprintf(name, sizeof(name), "%.*sman/weir.conf.5", end == NULL ? 0 : (int)(end - __FILE__), __FILE__);
    file = fopen(name, "r");
    if (file == NULL)
        return -1;
    page[fread(page, 1, sizeof(page) - 1, file)] = '\0';
    fclose(file);
    return 0;
}

/* What stands between `.It Ic KEY` and the next item or the list's end. */
static bool item_of(const char *key, char *out, size_t cap)
{
    char head[256];
    const char *from, *to;

    snprintf(head, sizeof(head), "\n.It Ic %s\n", key);
    from = strstr(page, head);
    if (from == NULL)
        return false;
    from += strlen(head) - 1;
    to = strstr(from, "\n.It ");
    if (to == NULL || strstr(from, "\n.El") < to)
        to = strstr(from, "\n.El");
    assert_non_null(to);
    assert_true((size_t)(to - from) + 1 < cap);
    snprintf(out, cap, "%.*s\n", (int)(to - from), from);
    return true;
}

static void must_have(const char *key, const char *item, const char *what)
{
    if (strstr(item, what) == NULL)
        fail_msg("weir.conf(5) does not say of %s: %s", key, what);
}

static void print(enum key_kind kind, int64_t number, char out[UNITS_PRINT_MAX])
{
    if (kind == KEY_DURATION)
        units_duration_print(number, out);
    else if (kind == KEY_SIZE)
        units_size_print(number, out);
    else
        snprintf(out, UNITS_PRINT_MAX, "%d%s", (int)number, kind == KEY_PERCENT ? "%" : "");
}

static void check_range(const struct conf_key *key, const char *path, const char *item)
{
    char from[UNITS_PRINT_MAX], to[UNITS_PRINT_MAX], range[128];

    if (key->kind != KEY_DURATION && key->kind != KEY_SIZE && key->kind != KEY_COUNT && key->kind != KEY_PERCENT)
        return;
    print(key->kind, key->min, from);
    print(key->kind, key->max, to);
    snprintf(range, sizeof(range), "\nRange: %s to %s.\n", from, to);
    if (strcmp(path, "memory.max_object") != 0) /* its upper end is another key */
        must_have(path, item, range);
}

static void check_choices(const struct conf_key *key, const char *path, const char *item)
{
    if (key->kind == KEY_CHOICE)
        for (const struct choice *c = key->choices; c->word != NULL; c++)
            if (c->value != CHOICE_LATER)
                must_have(path, item, c->word);
}

static size_t nkeys;

static void check_key(const struct conf_key *key, const char *path)
{
    char item[4096], text[128];

    nkeys++;
    if (!item_of(path, item, sizeof(item)))
        fail_msg("weir.conf(5) has no item for %s", path);
    check_range(key, path, item);
    check_choices(key, path, item);
    if (key->example != NULL)
        must_have(path, item, "\nNeeded");
    if (key->kind == KEY_LATER && key->standard != NULL) {
        snprintf(text, sizeof(text), "\nOnly\n.Ql %s .\n", key->standard);
        must_have(path, item, text);
    } else if (key->standard != NULL) {
        snprintf(text, sizeof(text), "\nDefault: %s.\n", key->standard);
        must_have(path, item, text);
    }
}

static void walk(const struct conf_keys *keys, const char *above)
{
    for (size_t i = 0; i < keys->n; i++) {
        char path[256];

        snprintf(path, sizeof(path), "%s%s%s", above, above[0] == '\0' ? "" : ".", keys->v[i].name);
        /* The only key of query's map is not needed where there is no map. */
        if (strcmp(path, "routes.key.query.except") != 0)
            check_key(&keys->v[i], path);
        else
            nkeys++;
        if (keys->v[i].keys != NULL)
            walk(keys->v[i].keys, path);
    }
}

static void each_key_is_documented_as_it_is(void **state)
{
    (void)state;
    nkeys = 0;
    walk(&conf_top_keys, "");
    assert_true(nkeys > 80);
}

static void there_is_no_item_for_what_is_no_key(void **state)
{
    size_t items = 0;

    (void)state;
    for (const char *p = page; (p = strstr(p, "\n.It Ic ")) != NULL; p++)
        items++;
    nkeys = 0;
    walk(&conf_top_keys, "");
    assert_int_equal(items, nkeys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_key_is_documented_as_it_is),
        cmocka_unit_test(there_is_no_item_for_what_is_no_key),
    };

    return cmocka_run_group_tests(tests, read_page, NULL);
}
