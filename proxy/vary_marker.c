#include "proxy/vary_marker.h"

#include "proxy/variant.h"

enum { USEFUL_MS = INT32_MAX }; /* 24 days: a marker lost too early costs fetches */

struct bytes vary_marker_list(const struct stored *marker)
{
    return stored_list(marker);
}

static struct stored *peek_variant(const struct ask *ask, struct bytes spec, struct bytes variant)
{
    struct worker *w = ask->worker;
    char *buf = malloc(ask->primary.n + spec.n + 1 + variant.n);

    if (buf == NULL)
        abort();
    struct bytes key = variant_key_again(ask->primary, spec, variant, buf);
    struct stored *s = store_peek(w->store, store_hash(w->shared->store, key), key);

    free(buf);
    return s;
}

static void remove_variant(const struct ask *ask, struct bytes spec, struct bytes variant)
{
    struct stored *s = peek_variant(ask, spec, variant);

    if (s != NULL)
        store_remove(ask->worker->store, s);
    stored_release(s);
}

/* One that is not stored any more, else the one used least lately, of equals the oldest. */
static size_t least_used(const struct ask *ask, const struct stored *marker, struct bytes *least)
{
    struct bytes list = vary_marker_list(marker), variant;
    struct mono_ms now = loop_now(ask->worker->loop);
    int64_t idle_ms = INT64_MIN;
    size_t found = 0;

    for (size_t i = 0; variants_next(&list, &variant); i++) {
        struct stored *s = peek_variant(ask, stored_spec(marker), variant);
        int64_t its = s != NULL ? stored_idle_ms(s, now) : INT64_MAX;

        stored_release(s);
        if (its < idle_ms)
            continue;
        idle_ms = its;
        found = i;
        *least = variant;
    }
    return found;
}

static struct stored *make(const struct ask *ask, uint64_t born, struct bytes spec, struct bytes list)
{
    struct mono_ms now = loop_now(ask->worker->loop);
    struct stored *marker = stored_create(ask->worker->store,
                                          &(struct stored_options){
                                              .kind = STORED_VARY,
                                              .hash = ask->primary_hash,
                                              .key = ask->primary,
                                              .key_url_n = ask->url_n,
                                              .user_scope = ask->user_scope,
                                              .spec = spec,
                                              .list = list,
                                              .response_time = now,
                                              .useful_ms = USEFUL_MS,
                                              .born = born,
                                          },
                                          now);

    if (marker == NULL)
        return NULL;
    stored_finish_body(marker, BODY_COMPLETE);
    return marker;
}

static bool has_names(const struct stored *s, struct bytes spec)
{
    return s != NULL && s->head->kind == STORED_VARY && bytes_eq(stored_spec(s), spec);
}

/* One of the same names with one variant more in place of `old`. */
static enum store_swap grow(const struct ask *ask, uint64_t born, struct stored *old, struct bytes variant)
{
    struct worker *w = ask->worker;
    struct bytes list = vary_marker_list(old), least;
    bool full = variants_count(list) == VARIANTS_MAX;
    size_t without = full ? least_used(ask, old, &least) : VARIANTS_MAX;
    char text[VARIANTS_BYTES_MAX];
    struct stored *marker =
        make(ask, born, stored_spec(old), (struct bytes){text, variants_add(list, variant, without, text)});
    enum store_swap swapped = marker != NULL ? store_swap(w->store, marker, old, loop_now(w->loop)) : STORE_REFUSED;

    if (swapped == STORE_SWAPPED && full)
        remove_variant(ask, stored_spec(old), least);
    stored_release(marker);
    return swapped;
}

/* One with one variant in place of whatever is there. */
static enum store_swap begin(const struct ask *ask, uint64_t born, struct stored *old, struct bytes spec,
                             struct bytes variant)
{
    struct worker *w = ask->worker;
    char text[VARIANT_MAX + 2];
    struct stored *marker =
        make(ask, born, spec, (struct bytes){text, variants_add(BYTES_NONE, variant, VARIANTS_MAX, text)});
    enum store_swap swapped = marker != NULL ? store_swap(w->store, marker, old, loop_now(w->loop)) : STORE_REFUSED;

    stored_release(marker);
    if (swapped != STORE_SWAPPED || old == NULL || old->head->kind != STORED_VARY)
        return swapped;
    struct bytes list = vary_marker_list(old), other;

    while (variants_next(&list, &other))
        remove_variant(ask, stored_spec(old), other);
    return swapped;
}

/* Again and again as long as others come first: each time one of them is through. False: not listed. */
static bool enlist(const struct ask *ask, uint64_t born, struct bytes spec, struct bytes variant, bool over_all)
{
    enum store_swap swapped;

    do {
        struct stored *old = store_peek(ask->worker->store, ask->primary_hash, ask->primary);

        if (has_names(old, spec))
            swapped = variants_have(vary_marker_list(old), variant) ? STORE_SWAPPED : grow(ask, born, old, variant);
        else if (old == NULL || over_all)
            swapped = begin(ask, born, old, spec, variant);
        else
            swapped = STORE_REFUSED;
        stored_release(old);
    } while (swapped == STORE_CHANGED);
    return swapped == STORE_SWAPPED;
}

void vary_marker_put(const struct ask *ask, uint64_t born, struct bytes spec, struct bytes key)
{
    if (!enlist(ask, born, spec, variant_of(key, ask->primary, spec), true))
        log_event(ask->worker->shared->log, CONF_LOG_DEBUG, "a marker was not stored");
}

void vary_marker_enlist(const struct ask *ask, uint64_t born, struct stored *response)
{
    struct bytes spec = variant_names(stored_key(response), ask->primary.n);

    if (spec.n == 0 || enlist(ask, born, spec, variant_of(stored_key(response), ask->primary, spec), false))
        return;
    log_event(ask->worker->shared->log, CONF_LOG_DEBUG, "a variant was not listed, so it was not kept");
    store_remove(ask->worker->store, response);
}
