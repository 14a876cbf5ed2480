#include "proxy/redis_purge.h"

#include <pthread.h>
#include <stdlib.h>

#include "proxy/redis_names.h"

enum {
    OWED_MAX = 10000,
    AT_ONCE = 15,
    RETRY_MS = 200,
    END_MS = 1000, /* for what is owed, when weir ends */
    SLOTS = 256,   /* urls share them: one that is purged holds back look-ups for its neighbours, for a round trip */
    SLOT_ALL = SLOTS,
};

struct owed {
    struct owed *next;
    unsigned slot;
    struct redis_name name;
};

struct redis_purges {
    struct redis_tier *tier;
    _Atomic unsigned slots[SLOTS + 1]; /* how many are owed; any thread */

    pthread_mutex_t lock;
    /* under the lock */
    struct owed *first, *last;
    size_t n;
    size_t under_way; /* of the first ones: sent, not confirmed */
    bool posted;

    /* main only */
    struct loop *loop;
    struct redis_link *link;
    struct message message;
    struct redis_call call;
    struct timer retry;
};

static unsigned slot_of(const struct redis_name *url)
{
    const char *hash = memchr(url->text, '{', url->n);
    unsigned slot = 0;

    for (int i = 1; i <= 4; i++)
        slot = slot * 31 + (unsigned char)hash[i];
    return slot % SLOTS;
}

/* --- main: sending --- */

static void send_owed(struct redis_purges *p);

/* Those that are confirmed are owed no longer. */
static void settle(struct redis_purges *p, bool confirmed)
{
    pthread_mutex_lock(&p->lock);
    for (; confirmed && p->under_way > 0; p->under_way--) {
        struct owed *o = p->first;

        p->first = o->next;
        p->last = o->next == NULL ? NULL : p->last;
        p->n--;
        atomic_fetch_sub(&p->slots[o->slot], 1);
        free(o);
    }
    p->under_way = 0;
    pthread_mutex_unlock(&p->lock);
}

static void on_unlinked(struct redis_call *call, const redisReply *reply)
{
    struct redis_purges *p = (struct redis_purges *)((char *)call - offsetof(struct redis_purges, call));

    settle(p, !redis_is_error(reply));
    if (redis_is_error(reply))
        timer_arm(p->loop, &p->retry, RETRY_MS);
    else
        send_owed(p);
}

static size_t collect(struct redis_purges *p, struct bytes words[AT_ONCE + 1])
{
    size_t n = 0;

    words[0] = BYTES_LIT("UNLINK");
    pthread_mutex_lock(&p->lock);
    for (const struct owed *o = p->first; o != NULL && n < AT_ONCE; o = o->next)
        words[++n] = redis_name(&o->name);
    p->under_way = n;
    pthread_mutex_unlock(&p->lock);
    return n;
}

static void send_owed(struct redis_purges *p)
{
    struct bytes words[AT_ONCE + 1];

    if (p->call.pending != NULL || !redis_link_is_up(p->link))
        return;
    size_t n = collect(p, words);

    if (n > 0 && !redis_call(p->link, &p->call, words, n + 1)) {
        settle(p, false);
        timer_arm(p->loop, &p->retry, RETRY_MS);
    }
}

static void on_retry(struct timer *t)
{
    send_owed((struct redis_purges *)((char *)t - offsetof(struct redis_purges, retry)));
}

static void on_up(void *context)
{
    send_owed(context);
}

static void on_message(struct message *m)
{
    struct redis_purges *p = (struct redis_purges *)((char *)m - offsetof(struct redis_purges, message));

    pthread_mutex_lock(&p->lock);
    p->posted = false;
    pthread_mutex_unlock(&p->lock);
    send_owed(p);
}

/* --- any thread: owing --- */

/* One for everything that has not been sent covers all that comes before it, and this one too. */
static bool is_covered(const struct redis_purges *p)
{
    return p->last != NULL && p->last->slot == SLOT_ALL && p->n > p->under_way;
}

static void append(struct redis_purges *p, struct owed *o)
{
    o->next = NULL;
    if (p->last != NULL)
        p->last->next = o;
    else
        p->first = o;
    p->last = o;
    p->n++;
    atomic_fetch_add(&p->slots[o->slot], 1);
}

static void owe(struct redis_tier *tier, const struct redis_name *name, unsigned slot)
{
    struct redis_purges *p = tier->purges;
    struct owed *o = malloc(sizeof *o);

    if (o == NULL)
        abort();
    *o = (struct owed){.slot = slot, .name = *name};
    pthread_mutex_lock(&p->lock);
    if (p->n >= OWED_MAX) {
        o->slot = SLOT_ALL;
        redis_name_all(redis_conf(tier)->namespace, &o->name);
    }
    if (is_covered(p))
        free(o);
    else
        append(p, o);
    bool post = !p->posted;

    p->posted = true;
    pthread_mutex_unlock(&p->lock);
    if (post)
        loop_post(p->loop, &p->message);
}

void redis_purge_url(struct redis_tier *tier, struct bytes key_url)
{
    struct redis_name name;

    if (tier == NULL)
        return;
    redis_name_url(redis_conf(tier)->namespace, key_url, &name);
    owe(tier, &name, slot_of(&name));
}

void redis_purge_all(struct redis_tier *tier)
{
    struct redis_name name;

    if (tier == NULL)
        return;
    redis_name_all(redis_conf(tier)->namespace, &name);
    owe(tier, &name, SLOT_ALL);
}

size_t redis_purges_owed(struct redis_purges *p)
{
    pthread_mutex_lock(&p->lock);
    size_t n = p->n;

    pthread_mutex_unlock(&p->lock);
    return n;
}

bool redis_purge_is_owed(struct redis_tier *tier, struct bytes key_url)
{
    struct redis_purges *p = tier->purges;
    struct redis_name name;

    redis_name_url(redis_conf(tier)->namespace, key_url, &name);
    return atomic_load(&p->slots[slot_of(&name)]) > 0 || atomic_load(&p->slots[SLOT_ALL]) > 0;
}

/* --- life --- */

struct redis_purges *redis_purges_create(struct redis_tier *tier, struct loop *loop)
{
    struct redis_purges *p = calloc(1, sizeof *p);

    if (p == NULL)
        abort();
    pthread_mutex_init(&p->lock, NULL);
    p->tier = tier;
    p->loop = loop;
    p->message.run = on_message;
    p->call.done = on_unlinked;
    p->retry.fire = on_retry;
    p->link = redis_link_create(&(struct redis_link_options){
        .loop = loop,
        .conf = redis_conf(tier),
        .address = tier->address,
        .state = &tier->state,
        .came_up = on_up,
        .context = p,
    });
    return p;
}

static bool has_work(struct redis_purges *p)
{
    pthread_mutex_lock(&p->lock);
    bool has = p->posted || (p->n > 0 && redis_link_is_up(p->link));

    pthread_mutex_unlock(&p->lock);
    return has;
}

void redis_purges_destroy(struct redis_purges *p)
{
    struct owed *o;
    struct mono_ms began = loop_now(p->loop);

    while (has_work(p) && mono_since_ms(began, loop_now(p->loop)) < END_MS)
        loop_run(p->loop, 1);
    redis_link_destroy(p->link);
    timer_disarm(p->loop, &p->retry);
    while ((o = p->first) != NULL) {
        p->first = o->next;
        free(o);
    }
    pthread_mutex_destroy(&p->lock);
    free(p);
}
