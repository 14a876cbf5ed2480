/* What is read out of Surrogate-Key, Cache-Tag and Cache-Groups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "cache/store.h"
#include "proxy/tagging.h"

static struct store *store;

static int set_up(void **state)
{
    (void)state;
    store = store_create(&(struct store_options){.bytes_max = 1 << 20, .threads = 1, .seed = 1});
    return store == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    store_destroy(store);
    return 0;
}

static struct field field(const char *name, const char *value)
{
    return (struct field){bytes_of(name), NULL, bytes_of(value)};
}

static bool carries(const struct tags *tags, const char *text, bool group)
{
    struct tag_target target = tag_target_anywhere(store, bytes_of(text));

    for (size_t i = 0; i < tags->n; i++)
        if (tags->v[i] == (target.hash | (group ? TAG_GROUP : 0)))
            return true;
    return false;
}

static void words_stand_between_spaces_and_commas(void **state)
{
    struct field f[] = {field("surrogate-key", "a b\tc,,d , e"), field("cache-tag", ",f"), field("surrogate-key", ""),
                        field("surrogate-key", "a g/1:2"), field("x-other", "h")};
    struct tags tags;

    (void)state;
    tagging_read(store, (struct fields){f, 5}, &tags);
    assert_int_equal(tags.n, 7);
    for (const char *c = "abcdef"; *c != '\0'; c++)
        assert_true(carries(&tags, (char[]){*c, '\0'}, false));
    assert_true(carries(&tags, "g/1:2", false));
    tagging_read(store, (struct fields){f, 0}, &tags);
    assert_int_equal(tags.n, 0);
}

/* RFC 9875 section 2: a List of Strings, parameters ignored; what is no such List is ignored as a whole (RFC 9651
 * section 4.2). */
static void groups_are_a_list_of_strings(void **state)
{
    struct field f[] = {field("cache-groups", "\"a b\";x=1, \"c\\\"\\\\\""), field("cache-groups", "\"d\"")};
    static const char *bad[] = {"a", "\"a\", b", "\"a\" \"b\"", "\"a\",", "(\"a\")", "\"a\", 1", "\"a", ""};
    struct tags tags;

    (void)state;
    tagging_read(store, (struct fields){f, 2}, &tags);
    assert_int_equal(tags.n, 3);
    assert_true(carries(&tags, "a b", true) && carries(&tags, "c\"\\", true) && carries(&tags, "d", true));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct field b[] = {field("cache-groups", bad[i]), field("cache-tag", "t")};

        tagging_read(store, (struct fields){b, 2}, &tags);
        assert_int_equal(tags.n, 1);
        assert_true(carries(&tags, "t", false));
    }
}

/* However much comes: what cannot be kept makes the response one that any purge by tag takes. */
static void more_than_can_be_kept_is_any_tag(void **state)
{
    char value[4096];
    struct tags tags;
    size_t n = 0;

    (void)state;
    for (unsigned i = 0; i <= TAGS_MAX; i++)
        n += (size_t)snprintf(value + n, sizeof value - n, "t%u ", i);
    struct field f = {BYTES_LIT("surrogate-key"), NULL, {value, n}};

    tagging_read(store, (struct fields){&f, 1}, &tags);
    assert_int_equal(tags.n, 1);
    assert_int_equal(tag_hash(tags.v[0]), TAG_ANY);
}

/* RFC 9875 section 2: at least 32 groups of 32 characters. */
static void many_groups_are_kept(void **state)
{
    char value[8192], text[64];
    struct tags tags;
    size_t n = 0;

    (void)state;
    for (unsigned i = 0; i < TAGS_MAX; i++)
        n += (size_t)snprintf(value + n, sizeof value - n, "%s\"%032u\"", i == 0 ? "" : ", ", i);
    struct field f = {BYTES_LIT("cache-groups"), NULL, {value, n}};

    tagging_read(store, (struct fields){&f, 1}, &tags);
    assert_int_equal(tags.n, TAGS_MAX);
    for (unsigned i = 0; i < TAGS_MAX; i++) {
        snprintf(text, sizeof text, "%032u", i);
        assert_true(carries(&tags, text, true));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_stand_between_spaces_and_commas),
        cmocka_unit_test(groups_are_a_list_of_strings),
        cmocka_unit_test(many_groups_are_kept),
        cmocka_unit_test(more_than_can_be_kept_is_any_tag),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
