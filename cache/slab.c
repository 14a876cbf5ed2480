#include "cache/slab.h"

#include <assert.h>
#include <string.h>

#include "cache/alloc.h"

enum { STEP_BYTES = 4 * 1024 * 1024, ALIGNMENT = 16, LIST_TRIED = SLAB_FILLS, LIST_NONE };

struct slab {
    struct slab *next, *prev; /* in its list */
    void *free;               /* cells that were given back, through their first bytes */
    uint16_t class;
    uint16_t cells;
    uint16_t used;  /* counting whoever empties it */
    uint16_t fresh; /* cells from here on were never given out */
    uint8_t use;    /* enum slab_use */
    uint8_t list;   /* by how full it is, LIST_TRIED, LIST_NONE */
    bool tried;     /* to be emptied, and cannot be */
    bool held;      /* by whoever empties it */
};
_Static_assert(sizeof(struct slab) <= SLAB_HEAD, "room for the head");

/* Of all numbers of cells those that are in use, the fewer the larger the cells, and each one's place among them. */
static unsigned class_for(const struct slabs *slabs, size_t bytes, unsigned *cells)
{
    size_t cell = bytes < ALIGNMENT ? ALIGNMENT : (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    size_t n = (slabs->bytes - SLAB_HEAD) / cell;
    unsigned base = slabs->steps, class = base;

    assert(n >= SLAB_CELLS_MIN);
    if (n > SLAB_CELLS_MAX)
        n = SLAB_CELLS_MAX;
    for (; n >= 2 * (size_t)base; base *= 2)
        class += slabs->steps / 2;
    unsigned step = base / slabs->steps * 2;

    *cells = (unsigned)(n < base ? n : n / step * step);
    return *cells < base ? *cells : class + (*cells - base) / step;
}

static size_t cell_bytes(const struct slabs *slabs, unsigned cells)
{
    return (slabs->bytes - SLAB_HEAD) / cells & ~(size_t)(ALIGNMENT - 1);
}

size_t slab_cost_of(const struct slabs *slabs, size_t bytes)
{
    unsigned cells;

    (void)class_for(slabs, bytes, &cells);
    return slabs->bytes / cells;
}

/* The power of two from `least` to `most` that is no less than n. */
static uint32_t power_for(size_t n, uint32_t least, uint32_t most)
{
    while (least < most && least < n)
        least *= 2;
    return least;
}

void slabs_init(struct slabs *slabs, size_t store_bytes)
{
    memset(slabs, 0, sizeof *slabs);
    slabs->bytes = power_for(store_bytes / SLAB_SHARE, SLAB_BYTES_MIN, SLAB_BYTES_MAX);
    slabs->steps = power_for(store_bytes / STEP_BYTES, SLAB_STEPS_MIN, SLAB_STEPS_MAX);
    pages_init(&slabs->pages, slabs->bytes, store_bytes / SLAB_SPARES);
    if (store_bytes < PAGES_STORE_MIN)
        slabs->bytes = 0;
    pthread_mutex_init(&slabs->lock, NULL);
}

void slabs_fini(struct slabs *slabs)
{
    for (unsigned use = 0; use < SLAB_USES; use++)
        for (unsigned i = 0; i < SLAB_CLASSES; i++)
            assert(slabs->classes[use][i].slabs == 0);
    pages_fini(&slabs->pages);
    pthread_mutex_destroy(&slabs->lock);
}

void slabs_resize(struct slabs *slabs, size_t store_bytes)
{
    pages_keep(&slabs->pages, store_bytes / SLAB_SPARES);
}

/* ---- under the lock ---- */

static struct slab_class *class_of(struct slabs *slabs, const struct slab *slab)
{
    return &slabs->classes[slab->use][slab->class];
}

static unsigned list_of(const struct slab *slab)
{
    if (slab->held || slab->used == slab->cells)
        return LIST_NONE;
    return slab->tried ? (unsigned)LIST_TRIED : (unsigned)slab->used * SLAB_FILLS / slab->cells;
}

static void enter(struct slab **first, struct slab *slab)
{
    slab->prev = NULL;
    slab->next = *first;
    if (*first != NULL)
        (*first)->prev = slab;
    *first = slab;
}

static void leave(struct slab **first, struct slab *slab)
{
    if (slab->prev != NULL)
        slab->prev->next = slab->next;
    else
        *first = slab->next;
    if (slab->next != NULL)
        slab->next->prev = slab->prev;
}

static void list_change(struct slabs *slabs, struct slab *slab, unsigned list)
{
    struct slab_class *class = class_of(slabs, slab);

    if (list == slab->list)
        return;
    if (slab->list != LIST_NONE)
        leave(&class->lists[slab->list], slab);
    if (list != LIST_NONE)
        enter(&class->lists[list], slab);
    slab->list = (uint8_t)list;
}

static struct slab *slab_create(struct slabs *slabs, enum slab_use use, unsigned class, unsigned cells)
{
    struct slab *slab = alloc_is_refused(slabs->bytes) ? NULL : pages_alloc(&slabs->pages, slabs->bytes);

    if (slab == NULL)
        return NULL;
    *slab = (struct slab){.class = (uint16_t) class, .cells = (uint16_t)cells, .use = (uint8_t)use, .list = LIST_NONE};
    slabs->classes[use][class].cells = cells;
    slabs->classes[use][class].slabs++;
    return slab;
}

static struct slab *fullest(const struct slab_class *class)
{
    for (unsigned i = SLAB_FILLS; i-- > 0;)
        if (class->lists[i] != NULL)
            return class->lists[i];
    return class->lists[LIST_TRIED];
}

/* Is there room for a whole slab's cells in the others, and are more of them free than there should be? */
static bool is_wasteful(const struct slab_class *class)
{
    uint32_t all = class->slabs * class->cells, free = all - class->used;

    return class->slabs > 0 && free >= class->cells + all / SLAB_WASTE;
}

static void class_changed(struct slabs *slabs, const struct slab *slab)
{
    struct slab_class *class = class_of(slabs, slab);
    bool wasteful = slab->use != SLAB_FIXED && is_wasteful(class);

    slabs->nwasteful += (unsigned)wasteful - (unsigned)class->wasteful;
    class->wasteful = wasteful;
}

static void *cell_take(struct slabs *slabs, struct slab *slab)
{
    void *p = slab->free;

    if (p != NULL)
        memcpy(&slab->free, p, sizeof slab->free);
    else
        p = slab_cell(slabs, slab, slab->fresh++);
    slab->used++;
    class_of(slabs, slab)->used++;
    class_changed(slabs, slab);
    list_change(slabs, slab, list_of(slab));
    return p;
}

/* Is it to be freed, once unlocked? */
static bool end_if_empty(struct slabs *slabs, struct slab *slab)
{
    if (slab->used > 0) {
        class_changed(slabs, slab);
        list_change(slabs, slab, list_of(slab));
        return false;
    }
    list_change(slabs, slab, LIST_NONE);
    class_of(slabs, slab)->slabs--;
    class_changed(slabs, slab);
    return true;
}

static size_t slab_free(struct slabs *slabs, struct slab *slab)
{
    pages_free(&slabs->pages, slab);
    return slabs->bytes;
}

/* ---- */

static void *take(struct slabs *slabs, enum slab_use use, unsigned class, unsigned cells, size_t *grown)
{
    void *p = NULL;

    pthread_mutex_lock(&slabs->lock);
    struct slab *slab = fullest(&slabs->classes[use][class]);

    if (slab == NULL && grown != NULL) {
        slab = slab_create(slabs, use, class, cells);
        *grown = slab != NULL ? slabs->bytes : 0;
    }
    if (slab != NULL)
        p = cell_take(slabs, slab);
    pthread_mutex_unlock(&slabs->lock);
    return p;
}

void *slabs_take(struct slabs *slabs, enum slab_use use, size_t bytes)
{
    unsigned cells, class = class_for(slabs, bytes, &cells);

    return take(slabs, use, class, cells, NULL);
}

void *slabs_alloc(struct slabs *slabs, enum slab_use use, size_t bytes, size_t *grown)
{
    unsigned cells, class = class_for(slabs, bytes, &cells);

    *grown = 0;
    return take(slabs, use, class, cells, grown);
}

size_t slabs_free(struct slabs *slabs, void *p)
{
    struct slab *slab = (struct slab *)((uintptr_t)p & ~(uintptr_t)(slabs->bytes - 1));

    pthread_mutex_lock(&slabs->lock);
    memcpy(p, &slab->free, sizeof slab->free);
    slab->free = p;
    slab->used--;
    slab->tried = false;
    class_of(slabs, slab)->used--;
    bool end = end_if_empty(slabs, slab);

    pthread_mutex_unlock(&slabs->lock);
    return end ? slab_free(slabs, slab) : 0;
}

/* ---- making slabs empty ---- */

static struct slab *emptiest(const struct slab_class *class)
{
    for (unsigned i = 0; i < SLAB_FILLS; i++)
        if (class->lists[i] != NULL)
            return class->lists[i];
    return NULL;
}

/* Of those of a use. *most: bytes free in the sizes looked at so far. */
static struct slab *sparse_of(struct slabs *slabs, enum slab_use use, size_t *most)
{
    struct slab *found = NULL;

    for (unsigned i = 0; i < SLAB_CLASSES; i++) {
        const struct slab_class *class = &slabs->classes[use][i];

        if (!class->wasteful)
            continue;
        size_t free = (size_t)(class->slabs * class->cells - class->used) * cell_bytes(slabs, class->cells);
        struct slab *slab = free > *most ? emptiest(class) : NULL;

        if (slab == NULL)
            continue;
        found = slab;
        *most = free;
    }
    return found;
}

struct slab *slabs_sparse(struct slabs *slabs)
{
    struct slab *found = NULL;
    size_t most = 0;

    pthread_mutex_lock(&slabs->lock);
    for (unsigned use = 0; use < SLAB_FIXED && slabs->nwasteful > 0; use++) {
        struct slab *slab = sparse_of(slabs, use, &most);

        found = slab != NULL ? slab : found;
    }
    if (found != NULL) {
        found->held = true;
        found->used++;
        list_change(slabs, found, LIST_NONE);
    }
    pthread_mutex_unlock(&slabs->lock);
    return found;
}

enum slab_use slab_use_of(const struct slab *slab)
{
    return slab->use;
}

void *slabs_take_beside(struct slabs *slabs, const struct slab *slab)
{
    return take(slabs, slab->use, slab->class, slab->cells, NULL);
}

unsigned slab_cells(const struct slab *slab)
{
    return slab->fresh; /* does not change while it is held */
}

void *slab_cell(const struct slabs *slabs, struct slab *slab, unsigned i)
{
    return (char *)slab + SLAB_HEAD + i * cell_bytes(slabs, slab->cells);
}

size_t slabs_put_back(struct slabs *slabs, struct slab *slab)
{
    pthread_mutex_lock(&slabs->lock);
    slab->held = false;
    slab->tried = true;
    slab->used--;
    bool end = end_if_empty(slabs, slab);

    pthread_mutex_unlock(&slabs->lock);
    return end ? slab_free(slabs, slab) : 0;
}

void slabs_retry(struct slabs *slabs)
{
    pthread_mutex_lock(&slabs->lock);
    for (unsigned use = 0; use < SLAB_FIXED; use++)
        for (unsigned class = 0; class < SLAB_CLASSES; class ++) {
            struct slab *slab;

            for (unsigned i = 0; i < SLAB_RETRIES && (slab = slabs->classes[use][class].lists[LIST_TRIED]) != NULL;
                 i++) {
                slab->tried = false;
                list_change(slabs, slab, list_of(slab));
            }
        }
    pthread_mutex_unlock(&slabs->lock);
}
