#include "cache/pages.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "cache/alloc.h"

#define PAGE_NONE UINT32_MAX

enum { IN_REGION = PAGES_REGION / PAGE_BYTES, USED = 1 << 15 };

/* What is known of a region's pages, in its first ones. A page's number is its region's by IN_REGION and its own. */
struct region {
    uint32_t index;
    uint16_t run[IN_REGION]; /* at the first and the last page of a run: its length, and USED */
    struct {
        uint32_t next, prev;
    } links[IN_REGION];                /* of a free run, at its first page */
    uint64_t resident[IN_REGION / 64]; /* pages that take memory */
};

enum { HEAD_PAGES = (sizeof(struct region) + PAGE_BYTES - 1) / PAGE_BYTES };
_Static_assert(IN_REGION <= USED, "room for a run's length");

void pages_init(struct pages *pages, size_t unit_bytes, size_t keep_bytes)
{
    memset(pages, 0, sizeof *pages);
    memset(pages->bins, 0xff, sizeof pages->bins);
    pages->unit = (uint32_t)(unit_bytes / PAGE_BYTES);
    pages->max = (size_t)PAGES_MAX * PAGE_BYTES;
    pages->keep = keep_bytes / PAGE_BYTES;
    pthread_mutex_init(&pages->lock, NULL);
}

static struct region *region_of(const struct pages *pages, uint32_t page)
{
    return pages->regions[page / IN_REGION];
}

static void *address_of(const struct pages *pages, uint32_t page)
{
    return (char *)region_of(pages, page) + (size_t)(page % IN_REGION) * PAGE_BYTES;
}

static uint16_t *run_at(const struct pages *pages, uint32_t page)
{
    return &region_of(pages, page)->run[page % IN_REGION];
}

static void run_mark(const struct pages *pages, uint32_t page, uint32_t n, uint32_t used)
{
    *run_at(pages, page) = *run_at(pages, page + n - 1) = (uint16_t)(n | used);
}

/* ---- free runs ---- */

static unsigned bin_of(uint32_t n)
{
    return n < PAGES_BINS ? n : PAGES_BINS - 1;
}

static void enter(struct pages *pages, uint32_t page, uint32_t n)
{
    struct region *r = region_of(pages, page);
    unsigned bin = bin_of(n);
    uint32_t next = pages->bins[bin];

    run_mark(pages, page, n, 0);
    r->links[page % IN_REGION].next = next;
    r->links[page % IN_REGION].prev = PAGE_NONE;
    if (next != PAGE_NONE)
        region_of(pages, next)->links[next % IN_REGION].prev = page;
    pages->bins[bin] = page;
    pages->any[bin / 64] |= (uint64_t)1 << bin % 64;
}

static void leave(struct pages *pages, uint32_t page)
{
    const struct region *r = region_of(pages, page);
    uint32_t next = r->links[page % IN_REGION].next, prev = r->links[page % IN_REGION].prev;
    unsigned bin = bin_of(*run_at(pages, page));

    if (prev != PAGE_NONE)
        region_of(pages, prev)->links[prev % IN_REGION].next = next;
    else
        pages->bins[bin] = next;
    if (next != PAGE_NONE)
        region_of(pages, next)->links[next % IN_REGION].prev = prev;
    if (pages->bins[bin] == PAGE_NONE)
        pages->any[bin / 64] &= ~((uint64_t)1 << bin % 64);
}

/* The smallest in which n find room. */
static uint32_t best(const struct pages *pages, uint32_t n)
{
    unsigned i = n / 64;
    uint64_t bits = pages->any[i] & ~(uint64_t)0 << n % 64;

    while (bits == 0 && ++i < sizeof pages->any / sizeof pages->any[0])
        bits = pages->any[i];
    return bits == 0 ? PAGE_NONE : pages->bins[i * 64 + (unsigned)__builtin_ctzll(bits)];
}

/* ---- what takes memory ---- */

static bool is_resident(const struct pages *pages, uint32_t page)
{
    return region_of(pages, page)->resident[page % IN_REGION / 64] >> page % 64 & 1;
}

/* Returns how many of them were. */
static uint32_t set_resident(struct pages *pages, uint32_t page, uint32_t n, bool to)
{
    struct region *r = region_of(pages, page);
    uint32_t were = 0;

    for (uint32_t i = page % IN_REGION, end = i + n; i < end; i++) {
        uint64_t bit = (uint64_t)1 << i % 64, *word = &r->resident[i / 64];

        were += (*word & bit) != 0;
        *word = to ? *word | bit : *word & ~bit;
    }
    return were;
}

static void give_back(struct pages *pages, uint32_t page, uint32_t n)
{
    if (madvise(address_of(pages, page), (size_t)n * PAGE_BYTES, MADV_DONTNEED) == 0)
        pages->idle -= set_resident(pages, page, n, false);
}

/* The first page of a region that is given out. */
static uint32_t first_page(const struct pages *pages)
{
    return (HEAD_PAGES + pages->unit - 1) & ~(pages->unit - 1);
}

static uint32_t next_run(const struct pages *pages, uint32_t page)
{
    page += *run_at(pages, page) & (USED - 1);
    if (page % IN_REGION != 0)
        return page;
    return (page == pages->nregions * (uint32_t)IN_REGION ? 0 : page) + first_page(pages);
}

static bool has_resident(const struct pages *pages, uint32_t page, uint32_t n)
{
    while (n > 0 && !is_resident(pages, page))
        page++, n--;
    return n > 0;
}

/* Goes on where it stopped the last time, so that what has become free lately is there for the next. The hand stands at
 * a run: whoever changes runs moves it. */
static void give_some_back(struct pages *pages)
{
    enum { STEPS = 1024 };
    size_t down_to = pages->keep - pages->keep / 4;

    for (unsigned steps = 0, given = 0; steps < STEPS && given < PAGES_GIVEN_BACK && pages->idle > down_to; steps++) {
        uint32_t page = pages->hand, n = *run_at(pages, page);

        if ((n & USED) == 0 && has_resident(pages, page, n)) {
            give_back(pages, page, n);
            given++;
        }
        pages->hand = next_run(pages, page);
    }
}

void pages_keep(struct pages *pages, size_t keep_bytes)
{
    bool more = true;

    while (more) {
        pthread_mutex_lock(&pages->lock);
        pages->keep = keep_bytes / PAGE_BYTES;
        more = pages->idle > pages->keep;
        if (more)
            give_some_back(pages);
        pthread_mutex_unlock(&pages->lock);
    }
}

/* ---- regions ---- */

static void *map_aligned(void)
{
    char *p = mmap(NULL, 2 * (size_t)PAGES_REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)p & (PAGES_REGION - 1);

    if (before > 0)
        munmap(p, before);
    munmap(p + before + PAGES_REGION, PAGES_REGION - before);
    /* A huge page would take memory for pages that are free. */
    (void)madvise(p + before, PAGES_REGION, MADV_NOHUGEPAGE);
    return p + before;
}

static bool room_for_region(struct pages *pages)
{
    uint32_t capacity = pages->capacity == 0 ? 8 : pages->capacity * 2;
    struct region **grown;

    if (pages->nregions < pages->capacity)
        return true;
    if (pages->nregions == PAGE_NONE / IN_REGION)
        return false;
    grown = alloc_bytes(capacity * sizeof grown[0]);
    if (grown == NULL)
        return false;
    if (pages->nregions > 0)
        memcpy(grown, pages->regions, pages->nregions * sizeof grown[0]);
    alloc_free(pages->regions);
    pages->regions = grown;
    pages->capacity = capacity;
    return true;
}

static bool region_add(struct pages *pages)
{
    struct region *r = room_for_region(pages) ? map_aligned() : NULL;

    if (r == NULL)
        return false;
    r->index = pages->nregions;
    pages->regions[pages->nregions++] = r;
    if (r->index == 0)
        pages->hand = first_page(pages);
    enter(pages, r->index * IN_REGION + first_page(pages), IN_REGION - first_page(pages));
    return true;
}

void pages_fini(struct pages *pages)
{
    for (uint32_t i = 0; i < pages->nregions; i++) {
        assert(pages->regions[i]->run[first_page(pages)] == IN_REGION - first_page(pages));
        munmap(pages->regions[i], PAGES_REGION);
    }
    alloc_free(pages->regions);
    pthread_mutex_destroy(&pages->lock);
}

/* ---- */

static void *take(struct pages *pages, uint32_t n)
{
    uint32_t page = best(pages, n);

    if (page == PAGE_NONE && region_add(pages))
        page = best(pages, n);
    if (page == PAGE_NONE)
        return NULL;
    uint32_t length = *run_at(pages, page);

    leave(pages, page);
    run_mark(pages, page, n, USED);
    if (length > n)
        enter(pages, page + n, length - n);
    pages->idle -= set_resident(pages, page, n, true);
    return address_of(pages, page);
}

void *pages_alloc(struct pages *pages, size_t bytes)
{
    void *p;

    pthread_mutex_lock(&pages->lock);
    p = take(pages, (uint32_t)(pages_cost_of(bytes) / PAGE_BYTES));
    pthread_mutex_unlock(&pages->lock);
    return p;
}

/* With what is free beside it: [*page, *page + *n). */
static void join(struct pages *pages, uint32_t *page, uint32_t *n)
{
    uint32_t before = *page % IN_REGION > first_page(pages) ? *run_at(pages, *page - 1) : USED;
    uint32_t after = (*page + *n) % IN_REGION != 0 ? *run_at(pages, *page + *n) : USED;

    if ((after & USED) == 0) {
        leave(pages, *page + *n);
        if (pages->hand == *page + *n)
            pages->hand = *page;
        *n += after;
    }
    if ((before & USED) == 0) {
        leave(pages, *page - before);
        if (pages->hand == *page)
            pages->hand = *page - before;
        *page -= before;
        *n += before;
    }
}

void pages_free(struct pages *pages, void *p)
{
    pthread_mutex_lock(&pages->lock);
    const struct region *r = (const struct region *)((uintptr_t)p & ~(uintptr_t)(PAGES_REGION - 1));
    uint32_t page = r->index * IN_REGION + (uint32_t)(((uintptr_t)p & (PAGES_REGION - 1)) / PAGE_BYTES);
    uint32_t n = *run_at(pages, page);

    assert((n & USED) != 0);
    n -= USED;
    pages->idle += n;
    join(pages, &page, &n);
    enter(pages, page, n);
    if (pages->idle > pages->keep)
        give_some_back(pages);
    pthread_mutex_unlock(&pages->lock);
}
