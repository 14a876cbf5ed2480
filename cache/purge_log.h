/*
 * What was purged lately, so that a response whose fetch began before a purge is not stored after it.
 *
 * Memory is bounded: it may take for purged what was not, after many purges within one fetch, never the other way.
 * Unsafe requests are purges too, so one that falls into a url's place, while another is fetched, must not be enough
 * for that. A stamp is a store_birth() of the purge: it covers what was born before.
 *
 * Ownership  Copies what it is given.
 * Errors     None: without memory a prefix counts as a purge of everything.
 * Threads    Any thread.
 */
#ifndef WEIR_CACHE_PURGE_LOG_H
#define WEIR_CACHE_PURGE_LOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "policies/bytes.h"

enum { PURGE_LOG_URLS = 8192, PURGE_LOG_PREFIXES = 64, PURGE_LOG_TAGS = 4096 };

struct purge_prefix {
    uint64_t stamp; /* 0: none */
    struct bytes prefix;
};

/* Of one url or tag, the last that was purged of those whose place it is. */
struct purge_place {
    uint64_t id, stamp;
    uint64_t forgotten; /* the newest stamp of the others: counts for all of them */
};

struct purge_log {
    pthread_mutex_t order;          /* the caller's: around the taking of a stamp and its entry; before `lock` */
    _Atomic uint64_t all;           /* covers every url */
    _Atomic uint64_t prefix_newest; /* no prefix purge is newer */
    _Atomic uint64_t url_newest;    /* no purge of a url is newer */
    _Atomic uint64_t tag_newest;    /* no purge by tag is newer */
    pthread_mutex_t lock;           /* of what follows */
    struct purge_place urls[PURGE_LOG_URLS];
    struct purge_prefix prefixes[PURGE_LOG_PREFIXES];
    unsigned next;
    struct purge_place tags[PURGE_LOG_TAGS];
};

void purge_log_init(struct purge_log *log);
void purge_log_fini(struct purge_log *log);

void purge_log_url(struct purge_log *log, uint32_t url_hash, uint64_t stamp);
void purge_log_prefix(struct purge_log *log, struct bytes url_prefix, uint64_t stamp);
void purge_log_all(struct purge_log *log, uint64_t stamp);
void purge_log_tag(struct purge_log *log, uint64_t id, uint64_t stamp);

bool purge_log_covers(struct purge_log *log, uint32_t url_hash, struct bytes key_url, uint64_t birth);
/* Is any purge by tag newer? */
bool purge_log_any_tag(struct purge_log *log, uint64_t birth);
bool purge_log_covers_tag(struct purge_log *log, uint64_t id, uint64_t birth);

#endif
