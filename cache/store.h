/*
 * Stored responses, shared by all threads, inside a fixed budget of bytes.
 *
 * Moves references and counts bytes. Whether a response may be stored or reused is asked of policies/ beforehand.
 * Sharded by the key's hash: N shards, in each a table that many read without a lock while one writer holds the
 * shard's mutex, LRU lists (shared and user-scoped apart), an expiry index, an index by url and one by tag.
 *
 * Ownership  The store owns one reference to each stored response in it and gives it up through its epoch.
 *            store_acquire gives the caller a reference of their own: stored_release, once.
 * Errors     A cache may always decline: store_put false means "not stored".
 * Threads    Any thread that has a struct store_thread of its own (registered before use, kept until the process ends
 * or store_thread_destroy). Nothing waits for I/O. No call into another module while in an epoch section.
 */
#ifndef WEIR_CACHE_STORE_H
#define WEIR_CACHE_STORE_H

#include "cache/stored.h"
#include "cache/tag.h"
#include "cache/thread.h"

struct store;
struct store_thread; /* one thread's epoch record and counters */

/* Who leaves when room is needed and nothing is useless: in each pool (shared and user-scoped) and shard by itself. */
enum store_eviction {
    STORE_LRU, /* who was used least lately */
    /* Y. Zhang, J. Yang, Y. Yue, Y. Vigfusson, K. V. Rashmi: SIEVE is Simpler than LRU: an Efficient Turn-Key Eviction
     * Algorithm for Web Caches, NSDI 2024. A hand goes from the oldest to the newest by arrival, and round again, and
     * takes the first that was not used since it came or since the hand last passed it. So what is asked for once
     * leaves soon, and a scan does not push out what is used. What takes another's place counts as used. */
    STORE_SIEVE,
};

struct store_options {
    size_t bytes_max; /* stored bytes, index, flights' bodies together */
    unsigned shards;  /* 0: auto from threads; rounded up to a power of two */
    unsigned threads;
    uint64_t seed; /* of the hash: random for each process */
    enum store_eviction eviction;
};

struct store *store_create(const struct store_options *options) MUST_USE; /* NULL: out of memory */
void store_destroy(struct store *store);                                  /* no thread uses it any more */
void store_resize(struct store *store, size_t bytes_max);
void store_set_eviction(struct store *store, enum store_eviction eviction); /* any thread; what is stored stays */

struct store_thread *store_thread_create(struct store *store) MUST_USE;
void store_thread_destroy(struct store_thread *t);

/* XXH3-128 of the whole key with the store's seed. */
struct key_hash store_hash(const struct store *store, struct bytes key);

/* What is stored under exactly these key bytes, whatever kind it is (stored.h), fresh or stale; NULL on a miss. Takes
 * no lock. A use, as far as eviction is concerned: the LRU position is renewed at most once in LRU_TOUCH_MS, and then
 * only if the shard's lock is free; eviction passes over what was used since. SIEVE moves nothing: the time of use is
 * all that is written. */
struct stored *store_acquire(struct store_thread *t, struct key_hash hash, struct bytes key,
                             struct mono_ms now) MUST_USE;

/* store_acquire in two steps, for who looks at many and uses one: peek counts as no use. */
struct stored *store_peek(struct store_thread *t, struct key_hash hash, struct bytes key) MUST_USE;
void store_use(struct store_thread *t, struct stored *s, struct mono_ms now);

/* Takes the place of what is stored under the same key. The caller keeps its own reference. Makes room first. False:
 * too large for the budget, or out of memory, or its body is not complete, or it has been stored and has left already,
 * or `born` (stored.h) is older than a purge that covers it (store_purge_*): the check and the insertion are one step.
 */
bool store_put(struct store_thread *t, struct stored *s, struct mono_ms now) MUST_USE;

/* Is that very object still the one stored? Takes the shard's lock. */
bool store_holds(struct store_thread *t, const struct stored *s) MUST_USE;

/* store_put where that depends on what was stored before: only if it is still `old` (NULL: nothing), of which the
 * caller holds a reference. */
enum store_swap {
    STORE_SWAPPED,
    STORE_CHANGED, /* it is another by now */
    STORE_REFUSED, /* as store_put refuses */
};
enum store_swap store_swap(struct store_thread *t, struct stored *s, const struct stored *old,
                           struct mono_ms now) MUST_USE;

/* Removes that very object, if it is still the one stored. */
void store_remove(struct store_thread *t, struct stored *s);

/* Purges take effect, by the time the call returns, for all that was born (store_birth) before it began; what is born
 * later is not touched. soft: marks stale (stored_expire) instead of dropping; what is marked already does not count.
 * Markers (all other kinds) are dropped silently in hard purges and not counted. Returns how many responses
 * were dropped or marked. url: key.h's url part, all scopes and variants. prefix: see key_url_has_prefix.
 * tag: tag.h, all responses that carry it. store_purge_prefix, _all and _tag take each shard's lock in turn, in bounded
 * steps. */
size_t store_purge_url(struct store_thread *t, struct bytes key_url, bool soft);
size_t store_purge_prefix(struct store_thread *t, struct bytes url_prefix, bool soft);
size_t store_purge_all(struct store_thread *t, bool soft);
size_t store_purge_tag(struct store_thread *t, const struct tag_target *target, bool soft);
/* A hard purge of the url that an unsafe request was for, whose own answer may be stored all the same: *birth, that of
 * its fetch, becomes the purge's own, unless a purge covers the url that has come since the fetch began. */
size_t store_purge_target(struct store_thread *t, struct bytes key_url, uint64_t *birth);

/* A ticket to be taken before a fetch starts and kept in the response (stored_options.born): monotonic over the
 * process. */
uint64_t store_birth(struct store *store);
/* Has a purge that covers this url happened since that birth? (Bounded memory: may say yes wrongly after very many url
 * or prefix purges in the meantime, never no wrongly.) */
bool store_purged_since(struct store *store, struct bytes key_url, uint64_t birth);

/* Has a purge of one of its tags happened since that birth? (With the same bound: many purges of tags.) */
bool store_tags_purged_since(struct store *store, const struct stored *s, uint64_t birth);

/* Drops up to `max` entries whose usefulness has ended; called by each thread a few times a second. */
void store_expire(struct store_thread *t, struct mono_ms now, unsigned max);

/* Bytes of bodies still in flight count too: charge before allocating, discharge after freeing. False: no room
 * even after evicting everything else. */
bool store_charge(struct store_thread *t, size_t bytes, struct mono_ms now) MUST_USE;
void store_discharge(struct store_thread *t, size_t bytes);

struct store_figures {
    uint64_t used_bytes, limit_bytes, objects, evicted, expired;
};
void store_figures(struct store *store,
                   struct store_figures *out); /* any thread; responses only, no markers, in `objects` */

/* Gives most of the memory that the process has free back to the system. Once a second or so, from any one thread. */
void store_trim(struct store *store);

/* Runs ck_epoch_poll for this thread; called once in a while from the loop, outside of any section. */
void store_thread_poll(struct store_thread *t);

#endif
