/*
 * What libh2o does not give back when a thread ends: its free lists, and the queue of each context. LeakSanitizer is
 * told as they are made. A suppressions file that names these functions would do, too; for that the debug information
 * of the program and of all libraries is read whenever a program ends, in 0.2 s.
 *
 * Linked into builds with AddressSanitizer alone, where these stand in the way of libh2o's own.
 */
#include <dlfcn.h>
#include <sanitizer/lsan_interface.h>
#include <stddef.h>

typedef void *(*alloc_fn)(void *allocator, size_t n);
typedef void *(*create_fn)(void *loop);

static alloc_fn their_alloc;
static create_fn their_create;

void *h2o_mem_alloc_recycle(void *allocator, size_t n);
void *h2o_multithread_create_queue(void *loop);

__attribute__((constructor)) static void find_theirs(void)
{
    *(void **)&their_alloc = dlsym(RTLD_NEXT, "h2o_mem_alloc_recycle");
    *(void **)&their_create = dlsym(RTLD_NEXT, "h2o_multithread_create_queue");
}

void *h2o_mem_alloc_recycle(void *allocator, size_t n)
{
    __lsan_disable();
    void *p = their_alloc(allocator, n);
    __lsan_enable();
    return p;
}

void *h2o_multithread_create_queue(void *loop)
{
    __lsan_disable();
    void *queue = their_create(loop);
    __lsan_enable();
    return queue;
}
