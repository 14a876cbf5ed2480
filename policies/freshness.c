#include "policies/freshness.h"

#include <math.h>

#include "policies/http_date.h"
#include "policies/storing.h"

/* No duration is told apart above this; sums of a few of them stay far from overflow. */
#define DURATION_MAX_MS (DELTA_SECONDS_MAX * 1000)
#define HEURISTIC_MAX_MS (INT64_C(24) * 3600 * 1000)
#define EARLY_MAX 40         /* -log of the smallest chance that a random number of 53 bits has is below this */
#define HEURISTIC_DIVISOR 10 /* RFC 9111 section 4.2.2: a typical setting is 10 % */

static int64_t clamp_ms(int64_t ms)
{
    return ms < 0 ? 0 : ms > DURATION_MAX_MS ? DURATION_MAX_MS : ms;
}

static int64_t ms_of_seconds(int64_t s)
{
    return s < 0 ? 0 : s > DELTA_SECONDS_MAX ? DURATION_MAX_MS : s * 1000;
}

static bool date_read(const struct freshness_facts *f, struct bytes name, struct wall_s *out)
{
    size_t i = fields_find(f->fields, name, 0);

    return i < f->fields.n && http_date_parse(f->fields.v[i].value, f->response_time, out);
}

/* Without a readable Date the time of receipt stands in for it (RFC 9110 section 6.6.1). */
static struct wall_s date_of(const struct freshness_facts *f)
{
    struct wall_s date;

    return date_read(f, BYTES_LIT("date"), &date) ? date : f->response_time;
}

/* The earliest of all Expires lines, already past when one of them cannot be read (RFC 9111 sections 4.2.1, 5.3). */
static bool expires_lifetime(const struct freshness_facts *f, int64_t *out)
{
    const struct bytes name = BYTES_LIT("expires");
    struct wall_s date = date_of(f), expires;
    int64_t lifetime = DURATION_MAX_MS;
    size_t i = fields_find(f->fields, name, 0);

    if (i == f->fields.n)
        return false;
    for (; i < f->fields.n; i = fields_find(f->fields, name, i + 1)) {
        int64_t ms = 0;

        if (http_date_parse(f->fields.v[i].value, f->response_time, &expires))
            ms = ms_of_seconds(expires.s - date.s);
        lifetime = ms < lifetime ? ms : lifetime;
    }
    *out = lifetime;
    return true;
}

/* RFC 9111 section 4.2.1: the first of s-maxage, which is for shared caches alone (section 5.2.2.10), max-age and
 * Expires. */
static enum lifetime_rule origin_lifetime(const struct freshness_facts *f, int64_t *out)
{
    bool shared = !f->user_scope && f->cc->s_maxage_s >= 0;

    if (shared || f->cc->max_age_s >= 0) {
        *out = ms_of_seconds(shared ? f->cc->s_maxage_s : f->cc->max_age_s);
        return f->cc->targeted ? LIFETIME_TARGETED : shared ? LIFETIME_S_MAXAGE : LIFETIME_MAX_AGE;
    }
    /* RFC 9213 section 2.2 */
    return !f->cc->targeted && expires_lifetime(f, out) ? LIFETIME_EXPIRES : LIFETIME_NONE;
}

/* The tier's entry with the narrowest range around the status: 404 before 4xx, whatever the order. */
static const struct tier_status *tier_status_find(const struct tier *tier, int status)
{
    const struct tier_status *best = NULL;

    for (size_t i = 0; i < tier->nstatuses; i++) {
        const struct tier_status *s = &tier->statuses[i];

        if (s->fresh_ms < 0 || status < s->first || status > s->last)
            continue;
        if (best == NULL || s->last - s->first < best->last - best->first)
            best = s;
    }
    return best;
}

/* May a lifetime be assumed that nobody stated for this status (RFC 9111 section 4.2.2)? */
static bool heuristics_allowed(const struct freshness_facts *f)
{
    return storing_heuristic_status(f->status) || (!f->ignore_origin && f->cc->public_);
}

/* A tier's plain lifetime is not for statuses that no cache keeps unasked, a 500 or a 302: those need an entry. */
static enum lifetime_rule tier_lifetime(const struct freshness_facts *f, int64_t *out)
{
    const struct tier_status *s;

    if (f->tier == NULL)
        return LIFETIME_NONE;
    s = tier_status_find(f->tier, f->status);
    if (s != NULL) {
        *out = clamp_ms(s->fresh_ms);
        return LIFETIME_TIER_STATUS;
    }
    if (f->tier->fresh_ms < 0 || !heuristics_allowed(f))
        return LIFETIME_NONE;
    *out = clamp_ms(f->tier->fresh_ms);
    return LIFETIME_TIER;
}

/* RFC 9111 section 4.2.2, and never more than a day. */
static int64_t heuristic_lifetime(const struct freshness_facts *f)
{
    struct wall_s modified;
    int64_t ms;

    if (!heuristics_allowed(f) || !date_read(f, BYTES_LIT("last-modified"), &modified))
        return 0;
    ms = ms_of_seconds(date_of(f).s - modified.s) / HEURISTIC_DIVISOR;
    return ms < HEURISTIC_MAX_MS ? ms : HEURISTIC_MAX_MS;
}

static int64_t jittered(const struct freshness_facts *f, int64_t ms)
{
    unsigned percent;

    if (f->tier == NULL || f->tier->jitter_percent == 0)
        return ms;
    percent = f->tier->jitter_percent < 100 ? f->tier->jitter_percent : 100;
    return ms - (int64_t)((double)ms * percent / 100 * ((double)f->random / 4294967296.0));
}

/* delta-seconds (RFC 9111 sections 5.1 and 1.2.2). */
static bool age_member_read(struct bytes s, int64_t *out)
{
    int64_t value = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (value < DELTA_SECONDS_MAX)
            value = value * 10 + (s.p[i] - '0');
    }
    *out = value;
    return s.n > 0;
}

/* The first readable member of all Age lines; 0 without. RFC 9111 section 5.1 would have the field ignored where its
 * first member cannot be read; an age that somebody states after it is believed. */
static int64_t age_value_ms(struct fields fields)
{
    const struct bytes name = BYTES_LIT("age");
    int64_t age;

    for (size_t i = fields_find(fields, name, 0); i < fields.n; i = fields_find(fields, name, i + 1)) {
        struct bytes rest = fields.v[i].value;

        while (rest.n > 0) {
            const char *comma = memchr(rest.p, ',', rest.n);
            size_t n = comma == NULL ? rest.n : (size_t)(comma - rest.p);

            if (age_member_read(bytes_trim((struct bytes){rest.p, n}), &age))
                return ms_of_seconds(age);
            n += comma != NULL;
            rest.p += n;
            rest.n -= n;
        }
    }
    return 0;
}

/* corrected_initial_age (RFC 9111 section 4.2.3). */
static int64_t initial_age(const struct freshness_facts *f)
{
    int64_t apparent = ms_of_seconds(f->response_time.s - date_of(f).s);
    int64_t corrected = age_value_ms(f->fields) + clamp_ms(f->response_delay_ms);

    return apparent > corrected ? apparent : corrected;
}

/* What is stated, else a tier's word; a heuristic only without both (RFC 9111 section 4.2.2). */
static void set_fresh(const struct freshness_facts *f, struct lifetimes *l)
{
    int64_t ms = 0;

    l->rule = f->ignore_origin ? LIFETIME_NONE : (uint8_t)origin_lifetime(f, &ms);
    if (l->rule != LIFETIME_NONE) {
        l->explicit_ = true;
        l->fresh_ms = jittered(f, ms);
    } else if ((l->rule = (uint8_t)tier_lifetime(f, &ms)) != LIFETIME_NONE) {
        /* An operator's lifetime counts from receipt: a second for an error that took the origin two still is a
         * second, and an Age from a cache further up does not use up what was never that cache's to grant. */
        l->fresh_ms = l->initial_age_ms + jittered(f, ms);
    } else if (!f->ignore_origin) {
        l->fresh_ms = jittered(f, heuristic_lifetime(f));
        l->rule = l->fresh_ms > 0 ? LIFETIME_HEURISTIC : LIFETIME_NONE;
    }
}

static int64_t window_ms(int64_t origin_s, int64_t tier_ms)
{
    return origin_s >= 0 ? ms_of_seconds(origin_s) : clamp_ms(tier_ms);
}

/* RFC 5861 sections 3 and 4; a tier's are the configuration that RFC 9111 section 4.2.4 allows for. */
static void set_windows(const struct freshness_facts *f, struct lifetimes *l)
{
    const struct cache_control *cc = f->cc;
    bool heed = !f->ignore_origin;

    /* RFC 9111 section 4.2.4: these forbid stale responses, also where a window was stated. */
    if (l->must_revalidate || l->revalidate_always)
        return;
    l->stale_while_revalidate_ms =
        window_ms(heed ? cc->stale_while_revalidate_s : -1, f->tier == NULL ? 0 : f->tier->stale_while_revalidate_ms);
    l->stale_if_error_ms =
        window_ms(heed ? cc->stale_if_error_s : -1, f->tier == NULL ? 0 : f->tier->stale_if_error_ms);
}

/* RFC 9111: no-cache (section 5.2.2.4) is about every use; must-revalidate (5.2.2.2) and, in a shared cache,
 * proxy-revalidate (5.2.2.8) and s-maxage (5.2.2.10) are about use once stale. */
struct lifetimes freshness_of(const struct freshness_facts *facts)
{
    const struct cache_control *cc = facts->cc;
    bool heed = !facts->ignore_origin;
    struct lifetimes l = {
        .initial_age_ms = initial_age(facts),
        .revalidate_always = heed && cc->no_cache,
        .must_revalidate =
            heed && (cc->must_revalidate || (!facts->user_scope && (cc->proxy_revalidate || cc->s_maxage_s >= 0))),
    };

    set_fresh(facts, &l);
    set_windows(facts, &l);
    return l;
}

int64_t freshness_age_ms(const struct lifetimes *l, struct mono_ms response_time, struct mono_ms now)
{
    int64_t resident = mono_since_ms(response_time, now);

    return l->initial_age_ms + (resident > 0 ? resident : 0);
}

enum reuse freshness_reuse(const struct lifetimes *l, int64_t age_ms)
{
    if (l->revalidate_always)
        return REUSE_VALIDATE;
    if (age_ms < l->fresh_ms)
        return REUSE_FRESH;
    if (!l->must_revalidate && age_ms - l->fresh_ms < l->stale_while_revalidate_ms)
        return REUSE_STALE_WHILE_REVALIDATE;
    return REUSE_VALIDATE;
}

bool freshness_is_error(int status)
{
    return status == 500 || status == 502 || status == 503 || status == 504;
}

bool freshness_stale_if_error(const struct lifetimes *l, int64_t age_ms)
{
    if (l->revalidate_always || l->must_revalidate)
        return false;
    /* also of what a soft purge made stale before its time */
    return l->stale_if_error_ms > 0 && age_ms - l->fresh_ms < l->stale_if_error_ms;
}

int64_t freshness_useful_ms(const struct lifetimes *l)
{
    int64_t stale =
        l->stale_while_revalidate_ms > l->stale_if_error_ms ? l->stale_while_revalidate_ms : l->stale_if_error_ms;

    if (l->revalidate_always)
        return 0;
    return l->must_revalidate ? l->fresh_ms : l->fresh_ms + stale;
}

const char *freshness_rule_word(enum lifetime_rule rule)
{
    switch (rule) {
    case LIFETIME_TARGETED:
        return "a targeted field (RFC 9213)";
    case LIFETIME_S_MAXAGE:
        return "s-maxage (RFC 9111 5.2.2.10)";
    case LIFETIME_MAX_AGE:
        return "max-age (RFC 9111 5.2.2.1)";
    case LIFETIME_EXPIRES:
        return "Expires (RFC 9111 5.3)";
    case LIFETIME_TIER_STATUS:
        return "the tier's lifetime for this status";
    case LIFETIME_TIER:
        return "the tier's lifetime";
    case LIFETIME_HEURISTIC:
        return "a tenth of the time since Last-Modified (RFC 9111 4.2.2)";
    case LIFETIME_NONE:
        break;
    }
    return "nothing: stale at once";
}

bool freshness_refresh_early(int64_t left_ms, int64_t fetch_ms, uint64_t random)
{
    if (left_ms > EARLY_MAX * fetch_ms)
        return false;
    /* uniform in (0, 1] */
    double u = ((double)(random >> 11) + 1) / 9007199254740992.0;

    return -(double)fetch_ms * log(u) >= (double)left_ms;
}

int64_t freshness_age_field(int64_t age_ms)
{
    int64_t s = age_ms / 1000;

    return s < 0 ? 0 : s > DELTA_SECONDS_MAX ? DELTA_SECONDS_MAX : s;
}
