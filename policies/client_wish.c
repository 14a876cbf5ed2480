#include "policies/client_wish.h"

/* RFC 9111 sections 5.2.1 and 5.4. */
struct client_wish client_wish_of(struct fields request)
{
    struct cache_control cc = cache_control_parse(request);
    struct client_wish wish = {
        .no_store = cc.no_store,
        .only_if_cached = cc.only_if_cached,
        .no_cache = cc.no_cache,
        .max_age_s = cc.max_age_s,
        .min_fresh_s = cc.min_fresh_s,
        .max_stale_s = cc.max_stale_s,
    };

    if (!cc.present)
        wish.no_cache = bytes_eq_nocase(fields_value(request, BYTES_LIT("pragma")), BYTES_LIT("no-cache"));
    return wish;
}

static int64_t ms_of(int64_t s)
{
    return s > DELTA_SECONDS_MAX ? DELTA_SECONDS_MAX * 1000 : s * 1000;
}

/* RFC 9111 sections 5.2.1.1 to 5.2.1.4. */
enum reuse client_wish_reuse(const struct client_wish *wish, const struct lifetimes *l, int64_t age_ms,
                             enum reuse reuse)
{
    int64_t left = l->fresh_ms - age_ms;

    if (wish->no_cache)
        return REUSE_VALIDATE;
    if (wish->max_age_s >= 0 && age_ms > ms_of(wish->max_age_s))
        return REUSE_VALIDATE;
    if (wish->min_fresh_s >= 0 && left < ms_of(wish->min_fresh_s))
        return REUSE_VALIDATE;
    /* what is stale before its time was made so by a purge: the client cannot have meant that */
    if (reuse == REUSE_VALIDATE && left <= 0 && wish->max_stale_s >= 0 && !l->revalidate_always &&
        !l->must_revalidate && (wish->max_stale_s == INT64_MAX || -left <= ms_of(wish->max_stale_s)))
        return REUSE_CLIENT_STALE;
    return reuse;
}
