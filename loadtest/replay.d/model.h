/*
 * What the store is held against: caches that are models only, with one list or heap, exact, and of the same weights.
 *
 * LRU       exact least recently used.
 * SIEVE     as in the paper (cache/store.h): one list, a hand.
 * SIEVE_COST  the same, but what was slow to fetch has more rounds: one for each time that its fetch took the mean of
 *           all fetches so far, at most COST_ROUNDS_MAX, when it comes and at each use.
 * GDSF, GDSF_COST  L. Cherkasova: Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy, HP
 *           Labs 1998: what lives longest has the most uses (times fetch time) for its size. A measure of what knowing
 *           the fetch time can bring.
 * BELADY    L. A. Belady, IBM Systems Journal 1966: the one whose next use is farthest away goes, and what would go at
 *           once is not taken. It knows the future. With sizes it is no bound, but what can be had is near it.
 */
#ifndef WEIR_LOADTEST_MODEL_H
#define WEIR_LOADTEST_MODEL_H

#include "loadtest/replay.d/trace.h"

struct hits {
    double requests, bytes, fetch_s; /* answered from the cache */
};

enum model { MODEL_LRU, MODEL_SIEVE, MODEL_SIEVE_COST, MODEL_GDSF, MODEL_GDSF_COST, MODEL_BELADY };

enum { COST_ROUNDS_MAX = 3 };

struct hits model_run(enum model model, const struct trace *t, const uint32_t *next, uint64_t capacity);

/*
 * What no cache of the capacity can exceed, not even one that knows the future: the bound PFOO-L of D. S. Berger,
 * N. Beckmann, M. Harchol-Balter, Practical Bounds on Optimal Caching with Variable Object Sizes, SIGMETRICS 2018. To
 * have a hit an object has to lie in the cache since its last use, which takes its weight times that while; all hits
 * together have no more than the capacity times the trace's length. The cheapest ones are taken: by themselves for
 * requests, and for their bytes for bytes. One for each capacity.
 */
void bound_run(const struct trace *t, const uint32_t *next, const uint64_t *capacities, size_t n, struct hits *out);

#endif
