#include "proxy/redis_tier.h"

#include <stdlib.h>

#include "proxy/redis_purge.h"
#include "proxy/redis_write.h"

struct redis_tier *redis_tier_create(struct conf *conf, struct loop *loop, struct log *log)
{
    struct redis_tier *tier;

    if (conf->redis == NULL)
        return NULL;
    tier = calloc(1, sizeof *tier);
    if (tier == NULL)
        abort();
    tier->conf = conf_acquire(conf);
    tier->state.log = log;
    tier->address = redis_address_create(conf->redis);
    tier->purges = redis_purges_create(tier, loop);
    return tier;
}

void redis_tier_destroy(struct redis_tier *tier)
{
    if (tier == NULL)
        return;
    redis_purges_destroy(tier->purges);
    redis_address_destroy(tier->address);
    conf_release(tier->conf);
    free(tier);
}

struct redis_thread *redis_thread_create(struct redis_tier *tier, struct loop *loop)
{
    struct redis_thread *t;

    if (tier == NULL)
        return NULL;
    t = calloc(1, sizeof *t);
    if (t == NULL)
        abort();
    t->tier = tier;
    t->loop = loop;
    t->link = redis_link_create(&(struct redis_link_options){
        .loop = loop,
        .conf = redis_conf(tier),
        .address = tier->address,
        .state = &tier->state,
    });
    t->writer = redis_writer_create(t);
    return t;
}

void redis_thread_destroy(struct redis_thread *t)
{
    if (t == NULL)
        return;
    redis_link_destroy(t->link);
    redis_writer_destroy(t->writer);
    free(t);
}

void redis_figures(const struct redis_tier *tier, struct redis_figures *out)
{
    struct redis_state *s;

    *out = (struct redis_figures){.state = "off"};
    if (tier == NULL)
        return;
    s = (struct redis_state *)&tier->state;
    out->state = atomic_load(&s->up) == atomic_load(&s->links) ? "up" : "down";
    out->hit = atomic_load_explicit(&s->hit, memory_order_relaxed);
    out->miss = atomic_load_explicit(&s->miss, memory_order_relaxed);
    out->error = atomic_load_explicit(&s->error, memory_order_relaxed);
    out->written = atomic_load_explicit(&s->written, memory_order_relaxed);
    out->owed = redis_purges_owed(tier->purges);
    out->dropped = atomic_load_explicit(&s->dropped, memory_order_relaxed);
}
