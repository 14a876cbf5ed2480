/*
 * No-Vary-Search in keys, on routes that say so: what a response says of its query counts for later requests of its
 * path (draft-ietf-httpbis-no-vary-search-05 sections 6 and 7).
 *
 * A response lies under its URL's key with the query reduced by its own field. A marker under the path, one for all
 * scopes, holds the newest field, by which a request's query is reduced before it is looked up. The marker only says
 * where to look: whether what is found there is for the request is for the response's own field to say.
 *
 * Threads  Any, with a store_thread of its own.
 */
#ifndef WEIR_PROXY_NO_VARY_H
#define WEIR_PROXY_NO_VARY_H

#include "cache/store.h"
#include "policies/key.h"

/* A field that is longer has no effect. */
enum { NO_VARY_TEXT_MAX = 1024 };

/* The field's lines as one. Returns the length; 0: there is none that has an effect. */
size_t no_vary_text(struct fields fields, char out[NO_VARY_TEXT_MAX]);

/* Bytes that the functions below need at most for this key. */
size_t no_vary_bytes_max(const struct key *key);

/* The key with its query reduced by these fields; the key itself where that changes nothing. Where nothing is left,
 * there is no query. What goes upstream (target) stays. */
struct key no_vary_reduce(const struct key *key, struct fields fields, char *buf);

/* May a response that lies under `primary`, to which this key was reduced, be used for it: does its own field say so
 * (section 6), and has no purge of this key's url come since it was fetched? Such a purge finds what lies there only by
 * the marker. */
bool no_vary_is_for(struct store *store, const struct stored *s, const struct key *key, struct bytes primary);

/* Of what lies under the request's own key and what may be used for it under the reduced one: is the first to be used?
 * Either may be NULL, or a marker. */
bool no_vary_prefers_own(struct stored *own, struct stored *reduced);

/* Has the key's path marked with what a stored response to it says (section 7), born when that was; without a field
 * that has an effect what others have said stays. False: the marker was not stored. */
bool no_vary_mark(struct store_thread *t, const struct store *store, const struct key *key, struct fields fields,
                  uint64_t born, struct mono_ms now);

/* The key reduced as the marker says; the key itself without one, or without a query. */
struct key no_vary_reduce_by_marker(struct store_thread *t, const struct store *store, const struct key *key,
                                    struct mono_ms now, char *buf);

#endif
