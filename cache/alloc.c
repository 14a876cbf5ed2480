#include "cache/alloc.h"

#include <malloc.h>
#include <stdlib.h>

/* glibc's header and the rounding to 16 bytes; other allocators have theirs in malloc_usable_size. */
enum { ALLOC_HEADER = 16 };

static bool (*fault)(size_t bytes);

void alloc_set_fault(bool (*refuse)(size_t bytes))
{
    fault = refuse;
}

enum { THREAD_CACHE_BYTES = 1024 * 1024 };

/* tcmalloc's, where it is linked. */
extern int MallocExtension_SetNumericProperty(const char *property, size_t value) __attribute__((weak));
extern int MallocExtension_GetNumericProperty(const char *property, size_t *value) __attribute__((weak));
extern void MallocExtension_ReleaseToSystem(size_t bytes) __attribute__((weak));

void alloc_prepare(unsigned threads)
{
    mallopt(M_ARENA_MAX, 1);
    if (MallocExtension_SetNumericProperty != NULL)
        MallocExtension_SetNumericProperty("tcmalloc.max_total_thread_cache_bytes", (threads + 1) * THREAD_CACHE_BYTES);
}

void alloc_trim(size_t keep)
{
    size_t idle;

    if (MallocExtension_GetNumericProperty != NULL && MallocExtension_ReleaseToSystem != NULL &&
        MallocExtension_GetNumericProperty("tcmalloc.pageheap_free_bytes", &idle) != 0 && idle > keep)
        MallocExtension_ReleaseToSystem(idle - keep);
}

bool alloc_is_refused(size_t bytes)
{
    return fault != NULL && fault(bytes);
}

void *alloc_bytes(size_t bytes)
{
    if (alloc_is_refused(bytes))
        return NULL;
    return malloc(bytes);
}

void *alloc_aligned(size_t alignment, size_t bytes)
{
    if (alloc_is_refused(bytes))
        return NULL;
    return aligned_alloc(alignment, bytes);
}

void alloc_free(void *p)
{
    free(p);
}

size_t alloc_cost(void *p)
{
    return malloc_usable_size(p) + ALLOC_HEADER;
}

size_t alloc_cost_of(size_t bytes)
{
    return bytes + ALLOC_HEADER;
}
