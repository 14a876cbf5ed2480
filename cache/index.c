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

static uintptr_t tag_of(const struct stored_key *id)
{
    return (uintptr_t)(id->hash.hi >> TAG_SHIFT) << TAG_SHIFT;
}

static const void *word_of(const struct stored_key *id)
{
    assert((uintptr_t)id >> TAG_SHIFT == 0);
    return (const void *)((uintptr_t)id | tag_of(id));
}

static const struct stored_key *id_of(const void *word)
{
    return (const struct stored_key *)((uintptr_t)word & (((uintptr_t)1 << TAG_SHIFT) - 1));
}

static struct stored *stored_of(const void *word)
{
    return (struct stored *)(void *)((char *)id_of(word) - offsetof(struct stored, id));
}

static unsigned long hash_word(const void *word, unsigned long seed)
{
    (void)seed;
    return id_of(word)->hash.lo;
}

/* The table's own first, whose response is read only where the tags agree. */
static bool compare_words(const void *word, const void *wanted_word)
{
    const struct stored_key *id = id_of(word), *wanted = id_of(wanted_word);

    if (((uintptr_t)word ^ (uintptr_t)wanted_word) >> TAG_SHIFT != 0)
        return false;
    /* Most likely it is the one: its key's text, which follows the struct, and its counters come along with the hash.
     */
    __builtin_prefetch((const char *)id + sizeof(struct stored));
    __builtin_prefetch((const char *)id + offsetof(struct stored, refs), 1);
    TSAN_ACQUIRE(id);
    return id->hash.lo == wanted->hash.lo && id->hash.hi == wanted->hash.hi && bytes_eq(id->key, wanted->key);
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

struct stored *index_get(struct index *x, const struct stored_key *id)
{
    const void *word = ck_rhs_get(&x->table, id->hash.lo, word_of(id));

    return word == NULL ? NULL : stored_of(word);
}

bool index_set(struct index *x, struct store_thread *t, struct stored *s, struct stored **previous)
{
    void *word = NULL;

    writer = t;
    TSAN_RELEASE(&s->id);
    if (!ck_rhs_set(&x->table, s->hash.lo, word_of(&s->id), &word))
        return false;
    *previous = word == NULL ? NULL : stored_of(word);
    return true;
}

void index_remove(struct index *x, struct stored *s)
{
    const void *word = ck_rhs_remove(&x->table, s->hash.lo, word_of(&s->id));

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
