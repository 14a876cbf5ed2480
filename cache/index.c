#include "cache/index.h"

#include <assert.h>
#include <stddef.h>

#include "cache/alloc.h"
#include "cache/store_private.h"
#include "cache/tsan.h"

enum { TAG_SHIFT = 48, LOAD_PERCENT = INDEX_LOAD_PERCENT };

/* A map's bytes, with room in front for what its end needs. */
struct map {
    ck_epoch_entry_t entry;
    struct store *store; /* NULL: not charged */
    size_t cost;
};
_Static_assert(sizeof(struct map) % 16 == 0, "maps stay aligned");

/* libck's allocator is given no context: the writer leaves it here. */
static _Thread_local struct store_thread *writer;
static _Thread_local bool refused;

static void *map_malloc(size_t bytes)
{
    struct map *m = alloc_bytes(sizeof *m + bytes);

    if (m == NULL) {
        refused = true;
        return NULL;
    }
    m->store = writer == NULL ? NULL : writer->store;
    m->cost = alloc_cost(m);
    if (m->store != NULL)
        budget_take(m->store, m->cost);
    return m + 1;
}

static void map_free_now(struct map *m)
{
    struct store *store = m->store;
    size_t cost = m->cost;

    alloc_free(m);
    if (store != NULL)
        budget_return(store, cost);
}

static void map_free_later(ck_epoch_entry_t *entry)
{
    struct map *m = (struct map *)(void *)((char *)entry - offsetof(struct map, entry));

    if (m->store != NULL)
        TSAN_ACQUIRE(&m->store->epoch);
    map_free_now(m);
}

static void map_free(void *p, size_t bytes, bool defer)
{
    struct map *m = (struct map *)p - 1;

    (void)bytes;
    if (!defer) {
        map_free_now(m);
        return;
    }
    ck_pr_fence_memory(); /* as in store_retire */
    ck_epoch_call(&writer->record, &m->entry, map_free_later);
}

static struct ck_malloc map_allocator = {.malloc = map_malloc, .free = map_free};

/* Lowest bit: it is a key that is looked for, and no response. */
#define IS_KEY ((uintptr_t)1)

static const void *word_with(const void *p, uint64_t hash)
{
    assert((uintptr_t)p >> TAG_SHIFT == 0);
    return (const void *)((uintptr_t)p | (uintptr_t)(hash >> TAG_SHIFT) << TAG_SHIFT);
}

static const void *word_of(const struct stored *s)
{
    return word_with(s, s->hash);
}

static uintptr_t address_in(const void *word)
{
    return (uintptr_t)word & (((uintptr_t)1 << TAG_SHIFT) - 1);
}

static struct stored *stored_of(const void *word)
{
    return (struct stored *)address_in(word);
}

static struct index_key key_of(const void *word)
{
    uintptr_t address = address_in(word);
    const struct stored *s = (const struct stored *)address;

    if ((address & IS_KEY) != 0)
        return *(const struct index_key *)(address - IS_KEY);
    return (struct index_key){s->hash, stored_key(s)};
}

static unsigned long hash_word(const void *word, unsigned long seed)
{
    (void)seed;
    return stored_of(word)->hash;
}

/* The table's own first, whose response is read only where the tags agree. */
static bool compare_words(const void *word, const void *wanted_word)
{
    const struct stored *s = stored_of(word);

    if (((uintptr_t)word ^ (uintptr_t)wanted_word) >> TAG_SHIFT != 0)
        return false;
    /* Most likely it is the one: its key's text, which follows the struct, and its counters come along with the hash.
     */
    __builtin_prefetch(s + 1);
    __builtin_prefetch(&s->refs, 1);
    TSAN_ACQUIRE(s);
    struct index_key wanted = key_of(wanted_word);

    return s->hash == wanted.hash && bytes_eq(stored_key(s), wanted.key);
}

bool index_init(struct index *x, size_t capacity)
{
    writer = NULL;
    if (!ck_rhs_init(&x->table, CK_RHS_MODE_SPMC | CK_RHS_MODE_DIRECT | CK_RHS_MODE_READ_MOSTLY, hash_word,
                     compare_words, &map_allocator, capacity, 0))
        return false;
    return ck_rhs_set_load_factor(&x->table, LOAD_PERCENT);
}

void index_fini(struct index *x)
{
    ck_rhs_destroy(&x->table);
}

struct stored *index_get(struct index *x, const struct index_key *key)
{
    const void *wanted = word_with((const char *)key + IS_KEY, key->hash);
    const void *word = ck_rhs_get(&x->table, key->hash, wanted);

    return word == NULL ? NULL : stored_of(word);
}

bool index_set(struct index *x, struct store_thread *t, struct stored *s, struct stored **previous)
{
    void *word = NULL;

    writer = t;
    TSAN_RELEASE(s);
    if (!ck_rhs_set(&x->table, s->hash, word_of(s), &word))
        return false;
    *previous = word == NULL ? NULL : stored_of(word);
    return true;
}

void index_remove(struct index *x, struct stored *s)
{
    const void *word = ck_rhs_remove(&x->table, s->hash, word_of(s));

    assert(stored_of(word) == s);
}

bool index_grow(struct index *x, struct store_thread *t, size_t capacity)
{
    writer = t;
    refused = false;
    /* False also where the table has grown by itself already. */
    return ck_rhs_grow(&x->table, capacity) || !refused;
}

size_t index_bytes(size_t capacity)
{
    enum { SLOT = 2 * sizeof(void *), MAP_HEAD = 5 * 1024 };

    return MAP_HEAD + capacity * SLOT;
}
