#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cache/alloc.h"
#include "cache/store_private.h"
#include "tests/unit/stored_make.h"

/* Only what an index looks at. */
static struct stored *thing(uint64_t hash, const char *key)
{
    struct stored *s = aligned_alloc(16, (sizeof *s + strlen(key) + 15) & ~(size_t)15);

    memset(s, 0, sizeof *s);
    s->hash = hash;
    s->key_n = (uint32_t)strlen(key);
    memcpy(s + 1, key, s->key_n);
    return s;
}

static struct index_key key_of(const struct stored *s)
{
    return (struct index_key){s->hash, stored_key(s)};
}

static struct stored *get(struct index *x, const struct stored *s)
{
    const struct index_key key = key_of(s);

    return index_get(x, &key);
}

static uint64_t random_hash(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* So many find a place as index_usable says, whatever was removed and put again meanwhile; and no other is found. */
enum { SLOTS_MAX = 4096 };

static void as_many_fit_in(size_t slots, uint64_t random)
{
    struct index x;
    static struct stored *v[SLOTS_MAX];
    struct stored *previous;
    size_t n = index_usable(slots);

    assert_true(index_init(&x, slots));
    assert_int_equal(index_slots(&x), slots);
    for (size_t i = 0; i < n; i++) {
        v[i] = thing(random_hash(&random), "key");
        assert_true(index_set(&x, v[i], &previous));
        assert_null(previous);
    }
    for (size_t i = 0; i < 20 * n; i++) {
        size_t at = random_hash(&random) % n;

        index_remove(&x, v[at]);
        assert_null(get(&x, v[at]));
        v[at]->hash = random_hash(&random);
        assert_true(index_set(&x, v[at], &previous));
    }
    assert_int_equal(x.count, n);
    for (size_t i = 0; i < n; i++)
        assert_ptr_equal(get(&x, v[i]), v[i]);
    for (size_t i = 0; i < n; i++) {
        const struct index_key other = {v[i]->hash, BYTES_LIT("yek")}, another = {v[i]->hash ^ 1, BYTES_LIT("key")};

        assert_null(index_get(&x, &other));
        assert_null(index_get(&x, &another));
        index_remove(&x, v[i]);
        free(v[i]);
    }
    assert_int_equal(x.count, 0);
    index_fini(&x);
}

static void as_many_fit_as_it_says(void **state)
{
    (void)state;
    for (size_t slots = 64; slots <= SLOTS_MAX; slots += slots / 32 * 8)
        as_many_fit_in(slots, slots);
}

/* Of one hash there may be as many as two buckets hold; one more is refused, and the others stay. */
static void one_hash_for_many_keys(void **state)
{
    struct index x;
    struct stored *v[17], *previous;
    char key[8];
    unsigned n = 0;

    (void)state;
    assert_true(index_init(&x, 1024));
    for (; n < 17; n++) {
        snprintf(key, sizeof key, "%u", n);
        v[n] = thing(0x123456789abcdefu, key);
        if (!index_set(&x, v[n], &previous))
            break;
    }
    assert_int_equal(n, 16);
    for (unsigned i = 0; i < n; i++)
        assert_ptr_equal(get(&x, v[i]), v[i]);
    assert_null(get(&x, v[16]));
    struct stored *again = thing(v[3]->hash, "3");

    assert_true(index_set(&x, again, &previous)); /* takes a place that is there */
    assert_ptr_equal(previous, v[3]);
    assert_int_equal(x.count, 16);
    assert_ptr_equal(get(&x, v[3]), again);
    for (unsigned i = 0; i < 17; i++)
        free(v[i]);
    free(again);
    index_fini(&x);
}

/* A lookup finds what is there at all times, also while others come and go beside it, are moved, and the map grows. */
enum { KEPT = 200, COMING = 3000, READERS = 3, LOOKUPS = 60000 };

static struct store *store;
static struct made_key kept[KEPT];
static _Atomic unsigned missed, reading;

static void *look_up(void *data)
{
    struct store_thread *t = store_thread_create(store);

    (void)data;
    for (unsigned i = 0; i < LOOKUPS; i++) {
        struct bytes key = kept[i % KEPT].key.whole;
        struct stored *s = store_peek(t, store_hash(store, key), key);

        if (s == NULL)
            missed++;
        stored_release(s);
    }
    reading--;
    store_thread_destroy(t);
    return NULL;
}

static void what_is_there_is_found_at_all_times(void **state)
{
    pthread_t readers[READERS];
    char path[32];

    (void)state;
    store = store_create(&(struct store_options){.bytes_max = 256 << 20, .shards = 1, .threads = 4, .seed = 5});
    struct store_thread *t = store_thread_create(store);

    for (unsigned i = 0; i < KEPT; i++) {
        snprintf(path, sizeof path, "/kept/%u", i);
        make_key(&kept[i], path, NULL);
        assert_true(put_complete(t, options_for(store, &kept[i]), 1, T0));
    }
    reading = READERS;
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, look_up, NULL), 0);
    for (unsigned i = 0; reading > 0; i++) {
        struct stored *s;

        snprintf(path, sizeof path, "/coming/%u", i % COMING);
        s = acquire(t, store, path, T0);
        if (s != NULL)
            store_remove(t, s);
        else
            assert_true(put_complete(t, options_of(store, path), 1, T0));
        stored_release(s);
    }
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(missed, 0);
    store_thread_destroy(t);
    store_destroy(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_many_fit_as_it_says),
        cmocka_unit_test(one_hash_for_many_keys),
        cmocka_unit_test(what_is_there_is_found_at_all_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
