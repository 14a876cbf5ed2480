/* Tags: what responses carry, purges by them, and that these win against what was fetched before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cache/alloc.h"
#include "cache/store_private.h"
#include "tests/unit/stored_make.h"

struct fixture {
    struct store *store;
    struct store_thread *t;
};

static struct fixture *fixture_create(size_t bytes_max, unsigned shards)
{
    struct fixture *f = malloc(sizeof *f);

    f->store =
        store_create(&(struct store_options){.bytes_max = bytes_max, .shards = shards, .threads = 2, .seed = 42});
    assert_non_null(f->store);
    f->t = store_thread_create(f->store);
    assert_non_null(f->t);
    return f;
}

static void fixture_destroy(struct fixture *f)
{
    store_thread_destroy(f->t);
    store_destroy(f->store);
    free(f);
}

static uint64_t tag_of(struct fixture *f, const char *text, bool group)
{
    struct tags tags = {.n = 0};

    tags_add(&tags, f->store, bytes_of(text), group);
    return tags.v[0];
}

/* tags: words with a space behind each; a group begins with '='. */
static struct tags tags_of(struct fixture *f, const char *text)
{
    struct tags tags = {.n = 0};

    for (const char *end; (end = strchr(text, ' ')) != NULL; text = end + 1) {
        bool group = *text == '=';

        text += group;
        tags_add(&tags, f->store, (struct bytes){text, (size_t)(end - text)}, group);
    }
    return tags;
}

static void make_url(struct made_key *m, const char *url)
{
    const struct key_rules rules = {0};

    assert_true(key_url_of(&rules, bytes_of(url), m->buf, &m->key));
}

static struct stored *make(struct fixture *f, const char *url, const char *text, uint64_t born)
{
    struct tags tags = tags_of(f, text);
    struct made_key m;

    make_url(&m, url);
    struct stored_options o = options_for(f->store, &m);

    o.tags = tags.v;
    o.ntags = tags.n;
    o.born = born != 0 ? born : o.born;
    return make_complete(f->t, o, 10, T0);
}

static bool put_born(struct fixture *f, const char *url, const char *tags, uint64_t born)
{
    struct stored *s = make(f, url, tags, born);
    bool ok = store_put(f->t, s, T0);

    stored_release(s);
    return ok;
}

static void put(struct fixture *f, const char *url, const char *tags)
{
    assert_true(put_born(f, url, tags, 0));
}

static struct stored *find(struct fixture *f, const char *url)
{
    struct made_key m;

    make_url(&m, url);
    return store_acquire(f->t, store_hash(f->store, m.key.whole), m.key.whole, T0);
}

static bool has(struct fixture *f, const char *url)
{
    struct stored *s = find(f, url);

    stored_release(s);
    return s != NULL;
}

static size_t purge(struct fixture *f, const char *tag, bool soft)
{
    struct tag_target target = tag_target_anywhere(f->store, bytes_of(tag));

    return store_purge_tag(f->t, &target, soft);
}

static size_t purge_group(struct fixture *f, const char *url, const char *group)
{
    struct made_key m;

    make_url(&m, url);
    struct tag_target target = tag_target_group(f->store, m.key.url, bytes_of(group));

    return store_purge_tag(f->t, &target, false);
}

/* ---- what a response carries ---- */

static void each_tag_is_kept_once(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 1);
    struct tags tags = tags_of(f, "a b a =b c ");

    (void)state;
    assert_int_equal(tags.n, 3);
    assert_int_equal(tags.v[0], tag_of(f, "a", false));
    assert_int_equal(tags.v[1], tag_of(f, "b", true));
    assert_int_equal(tags.v[2] & TAG_GROUP, 0);
    assert_int_not_equal(tag_of(f, "a", false), tag_of(f, "A", false));
    fixture_destroy(f);
}

/* One more than can be kept: such a response goes with any tag, so that none of its own is missed. */
static void too_many_tags_are_any_tag(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 1);
    struct tags tags = {.n = 0};
    char text[32];

    (void)state;
    for (unsigned i = 0; i < TAGS_MAX; i++) {
        snprintf(text, sizeof text, "t%u", i);
        tags_add(&tags, f->store, bytes_of(text), false);
    }
    assert_int_equal(tags.n, TAGS_MAX);
    tags_add(&tags, f->store, bytes_of("t5"), false);
    assert_int_equal(tags.n, TAGS_MAX);
    tags_add(&tags, f->store, bytes_of("more"), false);
    assert_int_equal(tags.n, 1);
    assert_int_equal(tag_hash(tags.v[0]), TAG_ANY);
    tags_add(&tags, f->store, bytes_of("and more"), false);
    assert_int_equal(tags.n, 1);

    struct stored_options o = options_of(f->store, "/many");

    o.tags = tags.v;
    o.ntags = tags.n;
    assert_true(put_complete(f->t, o, 10, T0));
    put(f, "http://example.org/one", "one ");
    assert_int_equal(purge(f, "anything", false), 1);
    assert_true(has(f, "http://example.org/one"));
    assert_false(put_complete(f->t, o, 10, T0)); /* born before */
    o.born = store_birth(f->store);
    assert_true(put_complete(f->t, o, 10, T0));
    assert_int_equal(purge_group(f, "http://elsewhere.org/", "g"), 0);
    assert_int_equal(purge_group(f, "http://example.org/", "g"), 1);
    fixture_destroy(f);
}

static void what_has_no_tags_pays_nothing(void **state)
{
    struct fixture *f = fixture_create(1 << 20, 4);
    char url[64];

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        snprintf(url, sizeof url, "http://example.org/%u", i);
        put(f, url, "");
    }
    for (unsigned i = 0; i < 4; i++)
        assert_null(f->store->shards[i].tags.chains);
    assert_int_equal(purge(f, "a", false), 0);
    fixture_destroy(f);
}

static void tags_and_their_index_are_charged(void **state)
{
    struct fixture *f = fixture_create(64 << 20, 2);
    size_t bare, tagged, chains = 0;
    char url[64], tags[64];

    (void)state;
    struct stored *s = make(f, "http://example.org/a", "", 0), *u = make(f, "http://example.org/a", "a b c d ", 0);

    bare = stored_weight(s);
    tagged = stored_weight(u);
    assert_in_range(tagged - bare, 4 * sizeof(struct stored_tag) - 32, 4 * sizeof(struct stored_tag) + 64);
    stored_release(s);
    stored_release(u);
    assert_int_equal(used_bytes(f->store), 0);
    for (unsigned i = 0; i < 60; i++) { /* the tables stay as small as they began */
        snprintf(url, sizeof url, "http://example.org/%u", i);
        snprintf(tags, sizeof tags, "all odd%u t%u u%u v%u ", i % 2, i, i, i);
        put(f, url, tags);
    }
    assert_int_equal(purge(f, "all", false), 60);
    store_thread_poll(f->t);
    for (unsigned i = 0; i < 2; i++) {
        chains += alloc_cost(f->store->shards[i].tags.chains);
        assert_int_equal(f->store->shards[i].tags.count, 0);
    }
    assert_true(chains > 0);
    assert_int_equal(used_bytes(f->store), chains);
    fixture_destroy(f);
}

/* ---- purges ---- */

static void takes_all_that_carry_it(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 4);

    (void)state;
    put(f, "http://example.org/1", "red big ");
    put(f, "http://example.org/2", "red ");
    put(f, "https://other.org/3", "=red small ");
    put(f, "http://example.org/4", "blue ");
    put(f, "http://example.org/5", "");
    assert_int_equal(purge(f, "re", false), 0);
    assert_int_equal(purge(f, "RED", false), 0);
    assert_int_equal(purge(f, "", false), 0);
    assert_int_equal(purge(f, "red", false), 3);
    assert_int_equal(purge(f, "red", false), 0);
    assert_false(has(f, "http://example.org/1") || has(f, "http://example.org/2") || has(f, "https://other.org/3"));
    assert_true(has(f, "http://example.org/4") && has(f, "http://example.org/5"));
    assert_int_equal(purge(f, "big", false), 0); /* gone with the rest of what it was a tag of */
    fixture_destroy(f);
}

/* RFC 9875 section 2.1: groups are those of one origin, that is scheme, host and port; other tags are none. */
static void a_group_is_its_origins(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 4);

    (void)state;
    put(f, "http://example.org/1", "=g ");
    put(f, "http://example.org/2?q", "=h =g ");
    put(f, "https://example.org/3", "=g ");
    put(f, "http://example.org:81/4", "=g ");
    put(f, "http://example.or/5", "=g ");
    put(f, "http://example.org/6", "g ");
    put(f, "http://example.org/7", "=G ");
    assert_int_equal(purge_group(f, "http://example.org/elsewhere", "g"), 2);
    assert_false(has(f, "http://example.org/1") || has(f, "http://example.org/2?q"));
    assert_true(has(f, "https://example.org/3") && has(f, "http://example.org:81/4") && has(f, "http://example.or/5"));
    assert_true(has(f, "http://example.org/6") && has(f, "http://example.org/7"));
    assert_int_equal(purge(f, "g", false), 4);
    fixture_destroy(f);
}

static void a_soft_purge_marks_once(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 2);
    char url[64];

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(url, sizeof url, "http://example.org/%u", i);
        put(f, url, i % 2 ? "odd all " : "even all ");
    }
    assert_int_equal(purge(f, "odd", true), 1000);
    assert_int_equal(purge(f, "all", true), 1000);
    assert_int_equal(purge(f, "all", true), 0);
    struct stored *s = find(f, "http://example.org/7");

    assert_true(atomic_load(&s->expired));
    assert_false(put_born(f, "http://example.org/7", "odd ", s->born));
    stored_release(s);
    assert_int_equal(purge(f, "all", false), 2000);
    fixture_destroy(f);
}

/* Chains of many, over the bound of one step, with all tags in few chains: each is found, and nothing else. */
static void finds_all_in_long_chains(void **state)
{
    struct fixture *f = fixture_create(64 << 20, 1);
    char url[64], tags[64];

    (void)state;
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(url, sizeof url, "http://example.org/%u", i);
        snprintf(tags, sizeof tags, "all mod%u own%u ", i % 7, i);
        put(f, url, tags);
    }
    assert_int_equal(purge(f, "own4999", false), 1);
    assert_int_equal(purge(f, "mod0", false), 715);
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(url, sizeof url, "http://example.org/%u", i);
        assert_int_equal(has(f, url), i % 7 != 0 && i != 4999);
    }
    assert_int_equal(purge(f, "all", false), 4284);
    assert_int_equal(f->store->shards[0].tags.count, 0);
    for (uint32_t i = 0; i < f->store->shards[0].tags.size; i++)
        assert_null(f->store->shards[0].tags.chains[i]);
    fixture_destroy(f);
}

static void what_is_replaced_or_removed_leaves_the_index(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 1);

    (void)state;
    put(f, "http://example.org/1", "old ");
    put(f, "http://example.org/1", "new ");
    assert_int_equal(purge(f, "old", false), 0);
    assert_true(has(f, "http://example.org/1"));
    struct stored *s = find(f, "http://example.org/1");

    assert_true(store_holds(f->t, s));
    store_remove(f->t, s);
    assert_false(store_holds(f->t, s));
    stored_release(s);
    assert_int_equal(purge(f, "new", false), 0);
    assert_int_equal(f->store->shards[0].tags.count, 0);
    fixture_destroy(f);
}

static void a_freshened_response_has_tags_of_its_own(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 1);
    struct stored *old = make(f, "http://example.org/1", "old ", 0), *s;
    struct tags tags = tags_of(f, "new ");
    struct made_key m;

    (void)state;
    make_url(&m, "http://example.org/1");
    struct stored_options o = options_for(f->store, &m);

    o.tags = tags.v;
    o.ntags = tags.n;
    s = stored_create_freshened(f->t, &o, old, T0);
    assert_int_equal(s->ntags, 1);
    assert_int_equal(stored_tags(s)[0].tag, tags.v[0]);
    stored_release(old);
    stored_release(s);
    fixture_destroy(f);
}

/* ---- against what was fetched before ---- */

static void a_purge_wins_over_an_older_birth(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 2);

    (void)state;
    for (unsigned group = 0; group < 2; group++) {
        uint64_t before = store_birth(f->store);

        assert_int_equal(group ? purge_group(f, "http://example.org/", "t") : purge(f, "t", false), 0);
        assert_false(put_born(f, "http://example.org/1", "s =t ", before));
        assert_false(has(f, "http://example.org/1"));
        assert_true(put_born(f, "http://example.org/2", "s =u ", before));
        assert_true(put_born(f, "http://example.org/3", "", before));
        assert_int_equal(put_born(f, "http://example.org/4", "t ", before), group);
        assert_int_equal(put_born(f, "http://other.org/5", "=t ", before), group);
        assert_true(put_born(f, "http://example.org/1", "s =t ", 0));
        (void)store_purge_all(f->t, false);
    }
    fixture_destroy(f);
}

/* What an unsafe request's answer invalidates is not that answer itself; a purge since it was asked is. */
static void a_purge_of_a_target_spares_its_own_answer(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 2);
    const char *url = "http://example.org/1";
    struct made_key m;

    (void)state;
    make_url(&m, url);
    for (unsigned kind = 0; kind < 5; kind++) {
        uint64_t birth = store_birth(f->store), other = store_birth(f->store);

        put(f, url, "");
        if (kind == 1)
            assert_int_equal(store_purge_url(f->t, m.key.url, false), 1);
        if (kind == 2)
            assert_int_equal(store_purge_prefix(f->t, BYTES_LIT("http://example.org/"), true), 1);
        if (kind == 3)
            assert_int_equal(store_purge_all(f->t, false), 1);
        if (kind == 4)
            (void)store_purge_target(f->t, m.key.url, &(uint64_t){birth});
        assert_int_equal(store_purge_target(f->t, m.key.url, &birth), kind == 0 || kind == 2);
        assert_false(put_born(f, url, "", other));
        assert_int_equal(put_born(f, url, "", birth), kind == 0);
        (void)store_purge_url(f->t, m.key.url, false);
        assert_false(put_born(f, url, "", birth));
    }
    fixture_destroy(f);
}

/* What a purge comes upon that was born after it stays. */
static void a_purge_spares_what_was_born_later(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 1);
    struct tag_target target = tag_target_anywhere(f->store, bytes_of("t"));

    (void)state;
    put(f, "http://example.org/1", "t ");
    assert_true(put_born(f, "http://example.org/2", "t ", UINT64_MAX));
    assert_int_equal(store_purge_tag(f->t, &target, false), 1);
    assert_true(has(f, "http://example.org/2"));
    fixture_destroy(f);
}

/* The log forgets, and then says yes for too many; never no. */
static void the_purge_log_errs_on_the_safe_side(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 1);
    uint64_t birth = store_birth(f->store);
    unsigned refused = 0;
    char text[32];

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "few%u", i);
        (void)purge(f, text, false);
    }
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(text, sizeof text, "other%u ", i);
        struct stored *s = make(f, "http://example.org/1", text, birth);

        refused += store_tags_purged_since(f->store, s, s->born);
        stored_release(s);
    }
    assert_in_range(refused, 0, 20); /* a tag is told from another */
    for (unsigned i = 0; i < 3 * PURGE_LOG_TAGS; i++) {
        snprintf(text, sizeof text, "many%u", i);
        (void)purge(f, text, false);
    }
    for (unsigned i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "few%u ", i);
        struct stored *s = make(f, "http://example.org/1", text, birth), *t = make(f, "http://example.org/1", text, 0);

        assert_true(store_tags_purged_since(f->store, s, s->born));
        assert_false(store_tags_purged_since(f->store, t, t->born));
        stored_release(s);
        stored_release(t);
    }
    fixture_destroy(f);
}

/* An index that cannot grow costs the response, and nothing else. */
static bool refuse_chains(size_t bytes)
{
    return bytes == TAG_CHAINS_MIN * sizeof(struct stored_tag *);
}

static void a_put_survives_when_memory_runs_out(void **state)
{
    struct fixture *f = fixture_create(8 << 20, 1);

    (void)state;
    alloc_set_fault(refuse_chains);
    assert_false(put_born(f, "http://example.org/1", "t ", 0));
    assert_true(put_born(f, "http://example.org/2", "", 0));
    alloc_set_fault(NULL);
    assert_int_equal(purge(f, "t", false), 0);
    put(f, "http://example.org/1", "t ");
    assert_int_equal(purge(f, "t", false), 1);
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_tag_is_kept_once),
        cmocka_unit_test(too_many_tags_are_any_tag),
        cmocka_unit_test(what_has_no_tags_pays_nothing),
        cmocka_unit_test(tags_and_their_index_are_charged),
        cmocka_unit_test(takes_all_that_carry_it),
        cmocka_unit_test(a_group_is_its_origins),
        cmocka_unit_test(a_soft_purge_marks_once),
        cmocka_unit_test(finds_all_in_long_chains),
        cmocka_unit_test(what_is_replaced_or_removed_leaves_the_index),
        cmocka_unit_test(a_freshened_response_has_tags_of_its_own),
        cmocka_unit_test(a_purge_wins_over_an_older_birth),
        cmocka_unit_test(a_purge_of_a_target_spares_its_own_answer),
        cmocka_unit_test(a_purge_spares_what_was_born_later),
        cmocka_unit_test(the_purge_log_errs_on_the_safe_side),
        cmocka_unit_test(a_put_survives_when_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
