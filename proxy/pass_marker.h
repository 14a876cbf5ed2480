/*
 * Hit-for-miss: a marker (STORED_PASS) in a key's place, which says that nobody is to wait for another's fetch of it.
 *
 * Threads  The worker's.
 */
#ifndef WEIR_PROXY_PASS_MARKER_H
#define WEIR_PROXY_PASS_MARKER_H

#include "proxy/ask.h"

enum { PASS_MS = 120 * 1000 }; /* how long nobody waits for a key whose answers cannot be shared */

/* why: an enum storing. since: when that was learnt. Not where the key sends on to variants: the list of these is not
 * given up for it. False: nothing was put; that costs those who come next a round, no more. */
bool pass_marker_put(const struct ask *ask, uint64_t born, struct bytes key, size_t key_url_n, int why,
                     struct mono_ms since);

#endif
