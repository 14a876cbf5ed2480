#include "cache/flight.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "policies/key.h"

/* Few flights are in the air at a time, compared with what is stored: a fixed number of chains is enough. */
enum { FLIGHT_SHARDS = 64, FLIGHT_CHAINS = 64 };

struct flight_shard {
    pthread_mutex_t lock;
    size_t count;
    struct flight_entry *chains[FLIGHT_CHAINS];
} __attribute__((aligned(64)));

struct flights {
    struct flights_options options;
    struct flight_shard shards[FLIGHT_SHARDS];
};

static struct flight_shard *shard_of(struct flights *all, struct key_hash hash)
{
    return &all->shards[hash.hi % FLIGHT_SHARDS];
}

static struct flight_entry **chain_of(struct flight_shard *shard, struct key_hash hash)
{
    return &shard->chains[hash.lo % FLIGHT_CHAINS];
}

struct flights *flights_create(const struct flights_options *options)
{
    struct flights *all = aligned_alloc(64, sizeof *all);

    if (all == NULL)
        return NULL;
    memset(all, 0, sizeof *all);
    all->options = *options;
    for (size_t i = 0; i < FLIGHT_SHARDS; i++)
        pthread_mutex_init(&all->shards[i].lock, NULL);
    return all;
}

void flights_destroy(struct flights *all)
{
    for (size_t i = 0; i < FLIGHT_SHARDS; i++) {
        assert(all->shards[i].count == 0);
        pthread_mutex_destroy(&all->shards[i].lock);
    }
    free(all);
}

static void retain(struct flight *f)
{
    atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
}

static void release(struct flight *f)
{
    if (atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
        return;
    stored_release(f->response);
    free((struct field *)f->withheld.v);
    pthread_mutex_destroy(&f->body);
    free((char *)f->spec.p);
    free((char *)f->entries[0].key.p);
    free((char *)f->entries[1].key.p);
    free(f);
}

static struct flight *create(struct flights *all, unsigned thread, struct bytes key, size_t key_url_n)
{
    unsigned n = all->options.threads;
    struct flight *f = calloc(1, sizeof *f + n * sizeof f->subs[0]);
    char *copy = malloc(key.n);

    if (f == NULL || copy == NULL) {
        free(f);
        free(copy);
        return NULL;
    }
    memcpy(copy, key.p, key.n);
    f->entries[0] = (struct flight_entry){.flight = f, .key = {copy, key.n}, .key_url_n = key_url_n};
    f->flights = all;
    f->home = thread;
    f->refs = 1;
    pthread_mutex_init(&f->body, NULL);
    for (unsigned i = 0; i < n; i++)
        f->subs[i].flight = f;
    return f;
}

/* Before the lock goes that the waiter was found under, so that the home never takes a flight that somebody is joining
 * for an abandoned one. Sequentially consistent, against flight_tell: either the home sees the count, or the waiter the
 * state. */
static void count_waiter(struct flight *f, unsigned thread)
{
    retain(f);
    atomic_fetch_add(&f->waiters, 1);
    atomic_fetch_add(&f->subs[thread].waiters, 1);
}

static void post(struct flight *f, unsigned thread)
{
    if (atomic_exchange(&f->subs[thread].posted, true))
        return;
    retain(f);
    f->flights->options.post(f->flights->options.context, thread, &f->subs[thread]);
}

/* In the waiter's own thread. */
static void attach(struct flight *f, struct flight_waiter *w, unsigned thread, bool leader)
{
    struct flight_sub *sub = &f->subs[thread];

    assert(w->flight == NULL);
    w->flight = f;
    w->thread = thread;
    w->leader = leader;
    if (leader)
        f->leader = w;
    w->prev = NULL;
    w->next = sub->first;
    if (sub->first != NULL)
        sub->first->prev = w;
    sub->first = w;
}

static struct flight_entry *find(struct flight_shard *shard, struct key_hash hash, struct bytes key)
{
    struct flight_entry *e = *chain_of(shard, hash);

    while (e != NULL && !(e->hash.lo == hash.lo && e->hash.hi == hash.hi && bytes_eq(e->key, key)))
        e = e->chain;
    return e;
}

static void insert(struct flight_shard *shard, struct flight_entry *e)
{
    struct flight_entry **chain = chain_of(shard, e->hash);

    e->chain = *chain;
    *chain = e;
    e->in_table = true;
    shard->count++;
}

static void take_out(struct flight_shard *shard, struct flight_entry *e)
{
    struct flight_entry **p = chain_of(shard, e->hash);

    if (!e->in_table)
        return;
    while (*p != e)
        p = &(*p)->chain;
    *p = e->chain;
    e->in_table = false;
    shard->count--;
}

struct flight *flight_join(struct flights *all, unsigned thread, struct key_hash hash, struct bytes key,
                           size_t key_url_n, struct flight_waiter *w, bool *created)
{
    struct flight_shard *shard = shard_of(all, hash);
    struct flight *f = NULL;

    *created = false;
    pthread_mutex_lock(&shard->lock);
    struct flight_entry *e = find(shard, hash, key);

    if (e != NULL && w != NULL)
        f = e->flight;
    if (e == NULL && (f = create(all, thread, key, key_url_n)) != NULL) {
        f->entries[0].hash = hash;
        f->born = store_birth(all->options.store);
        insert(shard, &f->entries[0]);
        *created = true;
    }
    if (f != NULL && w != NULL)
        count_waiter(f, thread);
    pthread_mutex_unlock(&shard->lock);

    if (f == NULL || w == NULL)
        return f;
    attach(f, w, thread, *created);
    /* What the home told before it could see this waiter's count reached nobody here. */
    if (!*created && atomic_load(&f->state) != FLIGHT_FETCHING)
        post(f, thread);
    return f;
}

bool flight_join_existing(struct flights *all, unsigned thread, struct key_hash hash, struct bytes key,
                          struct flight_waiter *w)
{
    struct flight_shard *shard = shard_of(all, hash);

    pthread_mutex_lock(&shard->lock);
    struct flight_entry *e = find(shard, hash, key);
    struct flight *f = e != NULL ? e->flight : NULL;

    if (f != NULL)
        count_waiter(f, thread);
    pthread_mutex_unlock(&shard->lock);
    if (f == NULL)
        return false;
    attach(f, w, thread, false);
    if (atomic_load(&f->state) != FLIGHT_FETCHING)
        post(f, thread);
    return true;
}

struct flight *flight_create_alone(struct flights *all, unsigned thread, struct bytes key, size_t key_url_n,
                                   struct flight_waiter *w)
{
    struct flight *f = create(all, thread, key, key_url_n);

    if (f == NULL)
        return NULL;
    f->born = store_birth(all->options.store);
    count_waiter(f, thread);
    attach(f, w, thread, true);
    return f;
}

static void tell_home(struct flight *f)
{
    if (atomic_exchange(&f->home_posted, true))
        return;
    retain(f);
    f->flights->options.post_home(f->flights->options.context, f);
}

void flight_leave(struct flight_waiter *w)
{
    struct flight *f = w->flight;

    if (f == NULL)
        return;
    struct flight_sub *sub = &f->subs[w->thread];

    if (sub->cursor == w)
        sub->cursor = w->next;
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        sub->first = w->next;
    if (w->next != NULL)
        w->next->prev = w->prev;
    if (w->leader) /* this thread is the home: who leads has made the flight */
        f->leader = NULL;
    w->flight = NULL;
    atomic_fetch_sub(&sub->waiters, 1);
    bool last = atomic_fetch_sub(&f->waiters, 1) == 1;

    if ((last || atomic_load(&f->paused)) && !atomic_load(&f->ended))
        tell_home(f);
    release(f);
}

bool flight_add_variant(struct flight *f, struct key_hash hash, struct bytes variant, size_t key_url_n)
{
    struct flight_shard *shard = shard_of(f->flights, hash);
    char *copy = malloc(variant.n);

    assert(f->entries[1].key.p == NULL);
    if (copy == NULL)
        return false;
    memcpy(copy, variant.p, variant.n);
    f->answer_key = (struct bytes){copy, variant.n};
    f->entries[1] = (struct flight_entry){.flight = f, .key = {copy, variant.n}, .key_url_n = key_url_n, .hash = hash};
    pthread_mutex_lock(&shard->lock);
    /* A purge that has passed this shard already is in the store's log. */
    if (store_purged_since(f->flights->options.store, (struct bytes){copy, key_url_n}, f->born) ||
        (f->tagged != NULL && store_tags_purged_since(f->flights->options.store, f->tagged, f->born)))
        atomic_store(&f->doomed, true);
    else if (!atomic_load(&f->doomed) && find(shard, hash, variant) == NULL)
        insert(shard, &f->entries[1]);
    pthread_mutex_unlock(&shard->lock);
    return true;
}

/* Under the table's lock, which a purge takes after it has written the store's log: either it is seen there, or it sees
 * the tags. */
bool flight_show_tags(struct flight *f)
{
    struct flight_shard *shard = shard_of(f->flights, f->entries[0].hash);
    bool purged;

    if (f->response->ntags == 0)
        return true;
    pthread_mutex_lock(&shard->lock);
    f->tagged = f->response;
    purged = store_tags_purged_since(f->flights->options.store, f->response, f->born);
    if (purged) {
        atomic_store(&f->doomed, true);
        take_out(shard, &f->entries[0]);
    }
    pthread_mutex_unlock(&shard->lock);
    return !purged;
}

void flight_close(struct flight *f)
{
    for (size_t i = 0; i < 2 && f->entries[i].key.p != NULL; i++) {
        struct flight_shard *shard = shard_of(f->flights, f->entries[i].hash);

        pthread_mutex_lock(&shard->lock);
        take_out(shard, &f->entries[i]);
        pthread_mutex_unlock(&shard->lock);
    }
}

bool flight_close_abandoned(struct flight *f)
{
    struct flight_shard *shard = shard_of(f->flights, f->entries[0].hash);
    bool abandoned;

    assert(f->entries[1].key.p == NULL);
    pthread_mutex_lock(&shard->lock);
    abandoned = atomic_load(&f->waiters) == 0; /* who joins is counted under this lock */
    if (abandoned)
        take_out(shard, &f->entries[0]);
    pthread_mutex_unlock(&shard->lock);
    return abandoned;
}

static void tell(struct flight *f)
{
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < f->flights->options.threads; i++)
        if (i != f->home && atomic_load(&f->subs[i].waiters) != 0)
            post(f, i);
}

static void wake_own(struct flight_sub *sub)
{
    struct flight_waiter *w;

    assert(sub->cursor == NULL);
    for (w = sub->first; w != NULL; w = sub->cursor) {
        sub->cursor = w->next;
        w->wake(w);
    }
    sub->cursor = NULL;
}

void flight_tell(struct flight *f, enum flight_state state)
{
    retain(f);
    atomic_store(&f->state, state);
    tell(f);
    wake_own(&f->subs[f->home]);
    release(f);
}

void flight_tell_body(struct flight *f)
{
    retain(f);
    tell(f);
    wake_own(&f->subs[f->home]);
    release(f);
}

void flight_end(struct flight *f)
{
    flight_close(f);
    f->home_data = NULL;
    atomic_store(&f->ended, true);
    release(f);
}

static void doom_where(struct flights *all, bool (*matches)(const struct flight_entry *, const void *),
                       const void *what)
{
    for (size_t i = 0; i < FLIGHT_SHARDS; i++) {
        struct flight_shard *shard = &all->shards[i];

        pthread_mutex_lock(&shard->lock);
        for (size_t j = 0; j < FLIGHT_CHAINS && shard->count > 0; j++) {
            for (struct flight_entry *e = shard->chains[j], *next; e != NULL; e = next) {
                next = e->chain;
                if (matches(e, what)) {
                    atomic_store(&e->flight->doomed, true);
                    take_out(shard, e);
                }
            }
        }
        pthread_mutex_unlock(&shard->lock);
    }
}

static struct bytes url_of(const struct flight_entry *e)
{
    return (struct bytes){e->key.p, e->key_url_n};
}

static bool has_url(const struct flight_entry *e, const void *url)
{
    return bytes_eq(url_of(e), *(const struct bytes *)url);
}

static bool has_prefix(const struct flight_entry *e, const void *prefix)
{
    return key_url_has_prefix(url_of(e), *(const struct bytes *)prefix);
}

static bool has_tag(const struct flight_entry *e, const void *target)
{
    const struct stored *s = e->flight->tagged;

    for (size_t i = 0; s != NULL && i < s->ntags; i++)
        if (tag_matches(stored_tags(s)[i].tag, url_of(e), target))
            return true;
    return false;
}

static bool is_any(const struct flight_entry *e, const void *nothing)
{
    (void)e, (void)nothing;
    return true;
}

void flights_doom_url(struct flights *all, struct bytes key_url)
{
    doom_where(all, has_url, &key_url);
}

void flights_doom_prefix(struct flights *all, struct bytes url_prefix)
{
    doom_where(all, has_prefix, &url_prefix);
}

void flights_doom_tag(struct flights *all, const struct tag_target *target)
{
    doom_where(all, has_tag, target);
}

void flights_doom_all(struct flights *all)
{
    doom_where(all, is_any, NULL);
}

bool flight_reader_start(struct flight *f, struct stored_reader *r)
{
    pthread_mutex_lock(&f->body);
    bool ok = stored_reader_start(r, f->response);

    pthread_mutex_unlock(&f->body);
    return ok;
}

void flight_consumed(struct flight *f, uint64_t position)
{
    uint64_t seen = atomic_load_explicit(&f->consumed, memory_order_relaxed);

    while (seen < position && !atomic_compare_exchange_weak(&f->consumed, &seen, position))
        ;
    if (atomic_load(&f->paused))
        tell_home(f);
}

void flight_sub_run(struct flight_sub *sub)
{
    struct flight *f = sub->flight;

    atomic_store(&sub->posted, false);
    wake_own(sub);
    release(f);
}

void flight_home_begin(struct flight *f)
{
    atomic_store(&f->home_posted, false);
}

void flight_home_done(struct flight *f)
{
    release(f);
}

static void add_figures(const struct flight_entry *e, struct flights_figures *out)
{
    for (; e != NULL; e = e->chain) {
        out->places++;
        if (e != &e->flight->entries[0])
            continue;
        out->flights++;
        out->waiters += atomic_load_explicit(&e->flight->waiters, memory_order_relaxed);
    }
}

void flights_figures(struct flights *all, struct flights_figures *out)
{
    *out = (struct flights_figures){0};
    for (size_t i = 0; i < FLIGHT_SHARDS; i++) {
        struct flight_shard *shard = &all->shards[i];

        pthread_mutex_lock(&shard->lock);
        for (size_t j = 0; shard->count > 0 && j < FLIGHT_CHAINS; j++)
            add_figures(shard->chains[j], out);
        pthread_mutex_unlock(&shard->lock);
    }
}
