#include "conf/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK_BYTES 16384

struct block {
    struct block *next;
    size_t used, size;
    alignas(max_align_t) char data[];
};

struct arena {
    struct block *blocks; /* the first is the one being filled */
};

static void *checked(void *p)
{
    if (p == NULL) {
        fputs("out of memory while reading the configuration\n", stderr);
        abort();
    }
    return p;
}

struct arena *arena_create(void)
{
    return checked(calloc(1, sizeof(struct arena)));
}

void arena_destroy(struct arena *arena)
{
    if (arena == NULL)
        return;
    while (arena->blocks != NULL) {
        struct block *block = arena->blocks;

        arena->blocks = block->next;
        explicit_bzero(block->data, block->used);
        free(block);
    }
    free(arena);
}

static struct block *block_for(struct arena *arena, size_t size)
{
    size_t capacity = size > BLOCK_BYTES ? size : BLOCK_BYTES;
    struct block *block = arena->blocks;

    if (block != NULL && block->size - block->used >= size)
        return block;
    block = checked(calloc(1, sizeof(*block) + capacity));
    block->size = capacity;
    block->next = arena->blocks;
    arena->blocks = block;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    size_t rounded = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    struct block *block = block_for(arena, rounded);
    void *p = block->data + block->used;

    block->used += rounded;
    return p;
}

void *arena_array(struct arena *arena, size_t n, size_t size)
{
    size_t total;

    if (n == 0)
        return NULL;
    if (__builtin_mul_overflow(n, size, &total) || total > SIZE_MAX / 2)
        checked(NULL);
    return arena_alloc(arena, total);
}

char *arena_dup(struct arena *arena, struct bytes text)
{
    char *p = arena_alloc(arena, text.n + 1);

    if (text.n > 0)
        memcpy(p, text.p, text.n);
    return p;
}

struct bytes arena_bytes(struct arena *arena, struct bytes text)
{
    return (struct bytes){arena_dup(arena, text), text.n};
}

char *arena_print(struct arena *arena, const char *format, ...)
{
    va_list args, again;
    int n;
    char *p;

    va_start(args, format);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    p = arena_alloc(arena, (n < 0 ? 0 : (size_t)n) + 1);
    vsnprintf(p, (n < 0 ? 0 : (size_t)n) + 1, format, again);
    va_end(again);
    return p;
}
