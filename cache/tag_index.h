/*
 * A shard's responses by tag: chains through nodes that lie in the responses themselves. Takes no memory before the
 * first tag comes.
 *
 * Threads  Under the shard's lock.
 */
#ifndef WEIR_CACHE_TAG_INDEX_H
#define WEIR_CACHE_TAG_INDEX_H

#include "cache/stored.h"
#include "cache/tag.h"

enum { TAG_CHAINS_MIN = 16, TAGS_PER_CHAIN = 2 };

struct tag_index {
    struct stored_tag **chains; /* size, a power of two; NULL while size is 0 */
    uint32_t size;
    uint32_t count; /* responses' nodes: purges put nodes of their own into chains for a while */
};

/* Chains wanted for `more` tags beside those that are there. */
static inline uint32_t tag_index_wanted(const struct tag_index *t, size_t more)
{
    size_t size = t->size;

    while (t->count + more > size * TAGS_PER_CHAIN)
        size = size < TAG_CHAINS_MIN ? TAG_CHAINS_MIN : size * 2;
    return (uint32_t)size;
}

static inline void tag_link(struct stored_tag **at, struct stored_tag *node)
{
    node->next = *at;
    node->pprev = at;
    if (*at != NULL)
        (*at)->pprev = &node->next;
    *at = node;
}

static inline void tag_unlink(struct stored_tag *node)
{
    *node->pprev = node->next;
    if (node->next != NULL)
        node->next->pprev = node->pprev;
}

static inline struct stored_tag **tag_chain(const struct tag_index *t, uint64_t tag)
{
    return &t->chains[(tag_hash(tag) >> 1) & (t->size - 1)];
}

static inline void tag_index_add(struct tag_index *t, struct stored *s)
{
    struct stored_tag *tags = stored_tags(s);

    for (size_t i = 0; i < s->ntags; i++)
        tag_link(tag_chain(t, tags[i].tag), &tags[i]);
    t->count += s->ntags;
}

static inline void tag_index_remove(struct tag_index *t, struct stored *s)
{
    struct stored_tag *tags = stored_tags(s);

    for (size_t i = 0; i < s->ntags; i++)
        tag_unlink(&tags[i]);
    t->count -= s->ntags;
}

/* `to`, a copy, in the places of `from`: a purge that is on its way along a chain neither misses it nor meets it twice.
 */
static inline void tag_index_replace(struct stored *from, struct stored *to)
{
    for (size_t i = 0; i < from->ntags; i++) {
        tag_link(&stored_tags(from)[i].next, &stored_tags(to)[i]);
        tag_unlink(&stored_tags(from)[i]);
    }
}

/* Moves everything over to `to`, which is empty. */
static inline void tag_index_move(struct tag_index *from, struct tag_index *to)
{
    for (uint32_t i = 0; i < from->size; i++) {
        struct stored_tag *node;

        while ((node = from->chains[i]) != NULL) {
            tag_unlink(node);
            tag_link(tag_chain(to, node->tag), node);
        }
    }
    to->count = from->count;
}

#endif
