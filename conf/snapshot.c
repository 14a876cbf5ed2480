#include "conf/snapshot.h"

#include <assert.h>
#include <stdatomic.h>

struct snapshot {
    struct conf conf; /* first: what others point to is this */
    struct arena *arena;
    atomic_uint references; /* any thread */
};

struct conf *snapshot_conf_create(struct arena *arena)
{
    struct snapshot *s = arena_alloc(arena, sizeof(*s));

    s->arena = arena;
    atomic_init(&s->references, 1);
    return &s->conf;
}

struct conf *conf_acquire(struct conf *conf)
{
    unsigned before = atomic_fetch_add_explicit(&((struct snapshot *)conf)->references, 1, memory_order_relaxed);

    assert(before > 0);
    (void)before;
    return conf;
}

/* acq_rel: what any holder did with the snapshot is over before its memory goes. */
void conf_release(struct conf *conf)
{
    struct snapshot *s = (struct snapshot *)conf;

    if (s != NULL && atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) == 1)
        arena_destroy(s->arena);
}
