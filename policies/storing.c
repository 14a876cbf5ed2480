#include "policies/storing.h"

#include "policies/part.h"
#include "policies/vary.h"

static bool is_2xx(int status)
{
    return status >= 200 && status <= 299;
}

bool storing_heuristic_status(int status)
{
    switch (status) {
    case 200:
    case 203:
    case 204:
    case 206:
    case 300:
    case 301:
    case 308:
    case 404:
    case 405:
    case 410:
    case 414:
    case 501:
        return true;
    default:
        return false;
    }
}

/* Answers to a condition, to one client's conduct or to a network's gate, not to the URL; RFC 6585 (sections 3 to 6)
 * forbids storing 428, 429, 431 and 511, and RFC 9111 section 3 what is not final, whatever the response or a tier
 * says. */
static bool never_stored(int status)
{
    switch (status) {
    case 304:
    case 407:
    case 412:
    case 428:
    case 429:
    case 431:
    case 511:
        return true;
    default:
        return status < 200 || status > 599;
    }
}

/* Statuses whose caching rules weir conforms to, in the sense of must-understand (RFC 9111 section 5.2.2.3). */
static bool understood(int status)
{
    switch (status) {
    case 201:
    case 202:
    case 205:
    case 302:
    case 303:
    case 307:
    case 400:
    case 401:
    case 402:
    case 403:
    case 406:
    case 408:
    case 409:
    case 411:
    case 413:
    case 415:
    case 417:
    case 421:
    case 422:
    case 426:
    case 500:
    case 502:
    case 503:
    case 504:
    case 505:
        return true;
    default:
        return storing_heuristic_status(status);
    }
}

/* RFC 9111 section 3.3. */
static bool is_partial(const struct storing_facts *f)
{
    if (f->status != 206)
        return f->status == 416;
    return !f->asked_range || !part_is_storable(&(struct part_facts){206, f->fields, f->content_length});
}

/* RFC 9111 sections 5.2.2.5 and 5.2.2.3. */
static bool no_store(const struct storing_facts *f)
{
    return f->cc->no_store && !(f->cc->must_understand && understood(f->status));
}

/* private="field" lets a shared cache keep the rest (RFC 9111 section 5.2.2.7), which is all that is judged here. */
static bool is_private(const struct storing_facts *f)
{
    return !f->user_scope && f->cc->private_;
}

/* "*" always fails to match (RFC 9111 section 4.1). A variant's key holds the nominated values as they are: on a shared
 * route a credential must not be one of them. */
static bool varies_beyond_us(const struct storing_facts *f)
{
    char text[VARY_SPEC_MAX];
    size_t n = 0;

    switch (vary_spec_of(f->fields, text, &n)) {
    case VARY_NONE:
        return false;
    case VARY_STAR:
        return true;
    case VARY_SOME:
        break;
    }
    if (f->user_scope)
        return false;
    return (f->has_authorization && vary_spec_names((struct bytes){text, n}, BYTES_LIT("authorization"))) ||
           (f->has_personal_cookie && vary_spec_names((struct bytes){text, n}, BYTES_LIT("cookie")));
}

/* RFC 9111 section 3: explicit, or of a status that needs nothing explicit, or given a lifetime by a tier. */
static bool status_allowed(const struct storing_facts *f)
{
    if (!f->ignore_origin && f->cc->must_understand && !understood(f->status))
        return false;
    if (storing_heuristic_status(f->status) || f->lifetimes->explicit_)
        return true;
    if (!f->ignore_origin && (f->cc->public_ || (f->user_scope && f->cc->private_)))
        return true;
    return f->lifetimes->fresh_ms > f->lifetimes->initial_age_ms;
}

/* A validator is of use where a conditional request can be answered 304 (RFC 9110 section 13.2.1). */
static bool can_be_validated(const struct storing_facts *f)
{
    return is_2xx(f->status) &&
           (fields_has(f->fields, BYTES_LIT("etag")) || fields_has(f->fields, BYTES_LIT("last-modified")));
}

static enum storing decide_origin(const struct storing_facts *f)
{
    if (f->ignore_origin)
        return STORING_OK;
    if (no_store(f))
        return STORING_NO_STORE;
    return is_private(f) ? STORING_PRIVATE : STORING_OK;
}

/* RFC 9111 section 7.3: Set-Cookie by itself forbids nothing. That it does here is the route's word. */
static bool set_cookie_forbids(const struct storing_facts *f)
{
    switch (f->set_cookie) {
    case SET_COOKIE_STORE:
        return f->ignore_origin || !f->lifetimes->explicit_ || f->lifetimes->fresh_ms == 0;
    case SET_COOKIE_STRIP:
        return false;
    default:
        return true;
    }
}

/* RFC 9111 section 3.5 is about Authorization; cookies are our own caution. */
static enum storing decide_personal(const struct storing_facts *f)
{
    if (!f->user_scope && f->has_authorization && !storing_usable_with_authorization(f->cc))
        return STORING_AUTHORIZATION;
    if (!f->user_scope && f->has_personal_cookie && !storing_usable_with_cookie(f->lifetimes))
        return STORING_COOKIE;
    return fields_has(f->fields, BYTES_LIT("set-cookie")) && set_cookie_forbids(f) ? STORING_SET_COOKIE : STORING_OK;
}

/* What is never fresh and cannot be validated is of no use (RFC 9111 section 3, its last note). */
static enum storing decide_use(const struct storing_facts *f)
{
    if (never_stored(f->status) || !status_allowed(f))
        return STORING_STATUS;
    if (freshness_useful_ms(f->lifetimes) <= f->lifetimes->initial_age_ms && !can_be_validated(f))
        return STORING_NO_LIFETIME;
    return STORING_OK;
}

/* The answer to a POST stands for a later GET only where the origin says both, that it is what GET would get and how
 * long (RFC 9110 section 9.3.3). */
static bool method_allowed(const struct storing_facts *f)
{
    if (bytes_eq(f->method, BYTES_LIT("GET")))
        return true;
    return bytes_eq(f->method, BYTES_LIT("POST")) && f->answers_get && is_2xx(f->status) && !f->ignore_origin &&
           f->lifetimes->explicit_ && f->lifetimes->fresh_ms > 0;
}

/* RFC 9111 section 3. */
enum storing storing_decide(const struct storing_facts *facts)
{
    enum storing s;

    if (!method_allowed(facts))
        return STORING_METHOD;
    if (is_partial(facts))
        return STORING_PARTIAL;
    s = decide_origin(facts);
    if (s == STORING_OK)
        s = decide_personal(facts);
    if (s == STORING_OK && varies_beyond_us(facts))
        s = STORING_VARY_STAR;
    return s == STORING_OK ? decide_use(facts) : s;
}

bool storing_may_be_shared(int status)
{
    switch (status) {
    case 407:
    case 412:
    case 416:
    case 417:
    case 428:
    case 431:
    case 511:
        return false;
    default:
        return status >= 400;
    }
}

bool storing_usable_with_authorization(const struct cache_control *cc)
{
    return cc->public_ || cc->s_maxage_s >= 0 || cc->must_revalidate;
}

bool storing_usable_with_cookie(const struct lifetimes *l)
{
    return l->explicit_ && l->fresh_ms > 0;
}

const char *storing_word(enum storing s)
{
    switch (s) {
    case STORING_OK:
        return "ok";
    case STORING_METHOD:
        return "method";
    case STORING_STATUS:
        return "status";
    case STORING_PARTIAL:
        return "partial";
    case STORING_NO_STORE:
        return "no-store";
    case STORING_PRIVATE:
        return "private";
    case STORING_AUTHORIZATION:
        return "authorization";
    case STORING_COOKIE:
        return "cookie";
    case STORING_SET_COOKIE:
        return "set-cookie";
    case STORING_VARY_STAR:
        return "vary";
    case STORING_NO_LIFETIME:
        return "no-lifetime";
    case STORING_TOO_LARGE:
        return "too-large";
    case STORING_OFF:
        return "off";
    case STORING_PURGED:
        return "purged";
    }
    return "unknown";
}
