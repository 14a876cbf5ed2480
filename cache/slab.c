#include "cache/slab.h"

#include <assert.h>
#include <string.h>

#include "cache/alloc.h"

enum { ALIGNMENT = 16 };

struct slab {
    struct slab *next, *prev; /* while it has a free cell */
    void *free;               /* cells that were given back, through their first bytes */
    uint16_t cells;
    uint16_t used;
    uint16_t fresh; /* cells from here on were never given out */
};
_Static_assert(sizeof(struct slab) <= SLAB_HEAD, "room for the head");

/* All numbers up to 64, then every fourth: steps of 2 to 6 %, which keeps the slabs that are not full few. */
static unsigned cells_for(size_t bytes)
{
    size_t cell = bytes < ALIGNMENT ? ALIGNMENT : (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    size_t cells = (SLAB_BYTES - SLAB_HEAD) / cell;

    assert(cells >= SLAB_CELLS_MIN);
    if (cells > SLAB_CELLS_MAX)
        return SLAB_CELLS_MAX;
    return (unsigned)(cells <= 64 ? cells : cells & ~(size_t)3);
}

static size_t cell_bytes(unsigned cells)
{
    return (SLAB_BYTES - SLAB_HEAD) / cells & ~(size_t)(ALIGNMENT - 1);
}

size_t slab_cost_of(size_t bytes)
{
    return SLAB_BYTES / cells_for(bytes);
}

void slabs_init(struct slabs *slabs)
{
    memset(slabs, 0, sizeof *slabs);
    pthread_mutex_init(&slabs->lock, NULL);
}

void slabs_fini(struct slabs *slabs)
{
    for (unsigned i = 0; i <= SLAB_CELLS_MAX; i++)
        assert(slabs->partial[i] == NULL);
    while (slabs->nspares > 0)
        alloc_free(slabs->spares[--slabs->nspares]);
    pthread_mutex_destroy(&slabs->lock);
}

static void enter(struct slabs *slabs, struct slab *slab)
{
    struct slab **first = &slabs->partial[slab->cells];

    slab->prev = NULL;
    slab->next = *first;
    if (*first != NULL)
        (*first)->prev = slab;
    *first = slab;
}

static void leave(struct slabs *slabs, struct slab *slab)
{
    if (slab->prev != NULL)
        slab->prev->next = slab->next;
    else
        slabs->partial[slab->cells] = slab->next;
    if (slab->next != NULL)
        slab->next->prev = slab->prev;
}

static struct slab *slab_create(struct slabs *slabs, unsigned cells)
{
    struct slab *slab = slabs->nspares > 0 ? slabs->spares[--slabs->nspares] : alloc_aligned(SLAB_BYTES, SLAB_BYTES);

    if (slab == NULL)
        return NULL;
    *slab = (struct slab){.cells = (uint16_t)cells};
    enter(slabs, slab);
    return slab;
}

static void *cell_take(struct slab *slab)
{
    void *p = slab->free;

    if (p != NULL)
        memcpy(&slab->free, p, sizeof slab->free);
    else
        p = (char *)slab + SLAB_HEAD + slab->fresh++ * cell_bytes(slab->cells);
    slab->used++;
    return p;
}

void *slabs_alloc(struct slabs *slabs, size_t bytes)
{
    unsigned cells = cells_for(bytes);
    void *p = NULL;

    if (alloc_is_refused(bytes))
        return NULL;
    pthread_mutex_lock(&slabs->lock);
    struct slab *slab = slabs->partial[cells];

    if (slab == NULL)
        slab = slab_create(slabs, cells);
    if (slab != NULL) {
        p = cell_take(slab);
        if (slab->used == slab->cells)
            leave(slabs, slab);
    }
    pthread_mutex_unlock(&slabs->lock);
    return p;
}

/* Those that were full come first: they are filled again, and the others have time to become empty. */
void slabs_free(struct slabs *slabs, void *p)
{
    struct slab *slab = (struct slab *)((uintptr_t)p & ~(uintptr_t)(SLAB_BYTES - 1));

    pthread_mutex_lock(&slabs->lock);
    memcpy(p, &slab->free, sizeof slab->free);
    slab->free = p;
    if (slab->used-- == slab->cells)
        enter(slabs, slab);
    bool empty = slab->used == 0, kept = empty && slabs->nspares < SLAB_SPARES;

    if (empty)
        leave(slabs, slab);
    if (kept)
        slabs->spares[slabs->nspares++] = slab;
    pthread_mutex_unlock(&slabs->lock);
    if (empty && !kept)
        alloc_free(slab);
}
