#include "proxy/pass_marker.h"

bool pass_marker_put(const struct ask *ask, uint64_t born, struct bytes key, size_t key_url_n, int why,
                     struct mono_ms since)
{
    struct worker *w = ask->worker;
    struct mono_ms now = loop_now(w->loop);
    struct key_hash hash = store_hash(w->shared->store, key);
    struct stored *old = store_peek(w->store, hash, key);
    struct stored *marker = stored_create(w->store,
                                          &(struct stored_options){
                                              .kind = STORED_PASS,
                                              .hash = hash,
                                              .key = key,
                                              .key_url_n = key_url_n,
                                              .user_scope = ask->user_scope,
                                              .status = why,
                                              .response_time = since,
                                              .useful_ms = PASS_MS,
                                              .born = born,
                                          },
                                          now);
    bool put = false;

    if (marker != NULL)
        stored_finish_body(marker, BODY_COMPLETE);
    if (marker != NULL && (old == NULL || old->head->kind != STORED_VARY))
        put = store_swap(w->store, marker, old, now) == STORE_SWAPPED;
    stored_release(marker);
    stored_release(old);
    return put;
}
