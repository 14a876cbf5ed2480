#include "cache/purge_log.h"

#include "cache/alloc.h"
#include "policies/key.h"

void purge_log_init(struct purge_log *log)
{
    memset(log, 0, sizeof *log);
    pthread_mutex_init(&log->lock, NULL);
    pthread_mutex_init(&log->order, NULL);
}

void purge_log_fini(struct purge_log *log)
{
    for (size_t i = 0; i < PURGE_LOG_PREFIXES; i++)
        alloc_free((char *)log->prefixes[i].prefix.p);
    pthread_mutex_destroy(&log->lock);
    pthread_mutex_destroy(&log->order);
}

static void raise_to(_Atomic uint64_t *stamp, uint64_t to)
{
    uint64_t seen = atomic_load(stamp);

    while (seen < to && !atomic_compare_exchange_weak(stamp, &seen, to))
        ;
}

static void place_note(struct purge_place *place, uint64_t id, uint64_t stamp)
{
    if (place->id == id)
        place->stamp = place->stamp > stamp ? place->stamp : stamp;
    else {
        uint64_t forgotten = place->stamp > place->forgotten ? place->stamp : place->forgotten;

        *place = (struct purge_place){id, stamp, forgotten};
    }
}

static bool place_covers(const struct purge_place *place, uint64_t id, uint64_t birth)
{
    return birth < place->forgotten || (place->id == id && birth < place->stamp);
}

void purge_log_url(struct purge_log *log, uint32_t url_hash, uint64_t stamp)
{
    pthread_mutex_lock(&log->lock);
    place_note(&log->urls[url_hash % PURGE_LOG_URLS], url_hash, stamp);
    raise_to(&log->url_newest, stamp);
    pthread_mutex_unlock(&log->lock);
}

void purge_log_all(struct purge_log *log, uint64_t stamp)
{
    raise_to(&log->all, stamp);
}

void purge_log_prefix(struct purge_log *log, struct bytes url_prefix, uint64_t stamp)
{
    char *copy = url_prefix.n == 0 ? NULL : alloc_bytes(url_prefix.n);

    if (copy == NULL) {
        purge_log_all(log, stamp);
        return;
    }
    memcpy(copy, url_prefix.p, url_prefix.n);
    pthread_mutex_lock(&log->lock);
    struct purge_prefix *slot = &log->prefixes[log->next++ % PURGE_LOG_PREFIXES];

    /* What is forgotten counts for all urls. */
    raise_to(&log->all, slot->stamp);
    alloc_free((char *)slot->prefix.p);
    *slot = (struct purge_prefix){stamp, {copy, url_prefix.n}};
    raise_to(&log->prefix_newest, stamp);
    pthread_mutex_unlock(&log->lock);
}

static struct purge_place *tag_place(struct purge_log *log, uint64_t id)
{
    return &log->tags[(id >> 1) % PURGE_LOG_TAGS];
}

void purge_log_tag(struct purge_log *log, uint64_t id, uint64_t stamp)
{
    pthread_mutex_lock(&log->lock);
    place_note(tag_place(log, id), id, stamp);
    raise_to(&log->tag_newest, stamp);
    pthread_mutex_unlock(&log->lock);
}

bool purge_log_any_tag(struct purge_log *log, uint64_t birth)
{
    return birth < atomic_load(&log->tag_newest);
}

bool purge_log_covers_tag(struct purge_log *log, uint64_t id, uint64_t birth)
{
    if (!purge_log_any_tag(log, birth))
        return false;
    pthread_mutex_lock(&log->lock);
    bool covers = place_covers(tag_place(log, id), id, birth);

    pthread_mutex_unlock(&log->lock);
    return covers;
}

static bool url_covers(struct purge_log *log, uint32_t url_hash, uint64_t birth)
{
    pthread_mutex_lock(&log->lock);
    bool covers = place_covers(&log->urls[url_hash % PURGE_LOG_URLS], url_hash, birth);

    pthread_mutex_unlock(&log->lock);
    return covers;
}

static bool prefix_covers(struct purge_log *log, struct bytes key_url, uint64_t birth)
{
    bool covers = false;

    pthread_mutex_lock(&log->lock);
    for (size_t i = 0; i < PURGE_LOG_PREFIXES && !covers; i++)
        covers = birth < log->prefixes[i].stamp && key_url_has_prefix(key_url, log->prefixes[i].prefix);
    /* A prefix may have been forgotten since the caller looked. */
    covers = covers || birth < atomic_load(&log->all);
    pthread_mutex_unlock(&log->lock);
    return covers;
}

bool purge_log_covers(struct purge_log *log, uint32_t url_hash, struct bytes key_url, uint64_t birth)
{
    if (birth < atomic_load(&log->all) || (birth < atomic_load(&log->url_newest) && url_covers(log, url_hash, birth)))
        return true;
    return birth < atomic_load(&log->prefix_newest) && prefix_covers(log, key_url, birth);
}
