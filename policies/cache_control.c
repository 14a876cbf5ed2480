#include "policies/cache_control.h"

/* One directive: its name, and its argument without quotes where it has a readable one. */
struct directive {
    struct bytes name;
    bool has_argument; /* an '=' follows the name */
    bool readable;     /* the argument is a token or a quoted string as the grammar has them */
    struct bytes argument;
};

/* tchar (RFC 9110 section 5.6.2). */
static bool is_token_char(char c)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static size_t token_length(struct bytes s)
{
    size_t n = 0;

    while (n < s.n && is_token_char(s.p[n]))
        n++;
    return n;
}

/* The length of the quoted string that s begins with (RFC 9110 section 5.6.4), both quotes included; 0 when it has no
 * end. */
static size_t quoted_length(struct bytes s)
{
    for (size_t i = 1; i < s.n; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == '"')
            return i + 1;
    }
    return 0;
}

/* Up to the next comma outside quotes (RFC 9110 section 5.6.1.2). A quote without an end hides nothing: what follows
 * it, a no-store perhaps, is read as if the quote were not there. After such a one none has an end, which *open (false
 * at first) keeps in mind: to look anew at each would take a time that grows with the square of the length. */
struct bytes cache_control_member_next(struct bytes *rest, bool *open)
{
    struct bytes member = {rest->p, 0};

    while (member.n < rest->n && rest->p[member.n] != ',') {
        size_t quoted = 0;

        if (rest->p[member.n] == '"' && !*open) {
            quoted = quoted_length((struct bytes){rest->p + member.n, rest->n - member.n});
            *open = quoted == 0;
        }
        member.n += quoted > 0 ? quoted : 1;
    }
    size_t used = member.n < rest->n ? member.n + 1 : member.n;
    rest->p += used;
    rest->n -= used;
    return bytes_trim(member);
}

/* A token or a quoted string, whichever the directive is defined with (RFC 9111 section 5.2). */
static void argument_read(struct directive *d, struct bytes s)
{
    if (s.n > 0 && s.p[0] == '"') {
        d->readable = quoted_length(s) == s.n;
        if (d->readable)
            d->argument = (struct bytes){s.p + 1, s.n - 2};
        return;
    }
    d->readable = s.n > 0 && token_length(s) == s.n;
    d->argument = s;
}

static struct directive directive_read(struct bytes member)
{
    struct directive d = {.name = {member.p, token_length(member)}};
    struct bytes rest = {member.p + d.name.n, member.n - d.name.n};
    struct bytes trimmed = bytes_trim(rest);

    d.has_argument = trimmed.n > 0;
    if (rest.n > 0 && rest.p[0] == '=')
        argument_read(&d, (struct bytes){rest.p + 1, rest.n - 1});
    return d;
}

/* delta-seconds (RFC 9111 section 1.2.2). */
bool cache_control_seconds_read(struct bytes s, int64_t *out)
{
    int64_t value = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        if (value < DELTA_SECONDS_MAX)
            value = value * 10 + (s.p[i] - '0');
    }
    *out = value < DELTA_SECONDS_MAX ? value : DELTA_SECONDS_MAX;
    return true;
}

/* RFC 9111 section 4.2.1 has the first of duplicates used, or the response taken for stale; the smallest lies
 * between. */
static void take_smaller(int64_t *delta, int64_t value)
{
    if (*delta < 0 || value < *delta)
        *delta = value;
}

/* A lifetime or a stale window: what cannot be read grants no time (RFC 9111 section 4.2.1). */
static void take_grant(int64_t *delta, const struct directive *d)
{
    int64_t value = 0;

    if (!d->readable || !cache_control_seconds_read(d->argument, &value))
        value = 0;
    take_smaller(delta, value);
}

/* Wishes are advisory (RFC 9111 section 5.2.1): what cannot be read is none. */
static void take_wish(int64_t *delta, const struct directive *d)
{
    int64_t value;

    if (d->readable && cache_control_seconds_read(d->argument, &value))
        take_smaller(delta, value);
}

/* Without a value any staleness (RFC 9111 section 5.2.1.2). */
static void take_max_stale(int64_t *delta, const struct directive *d)
{
    if (d->has_argument)
        take_wish(delta, d);
    else
        take_smaller(delta, INT64_MAX);
}

/* #field-name (RFC 9111 sections 5.2.2.4 and 5.2.2.7), at least one. */
bool cache_control_is_names(struct bytes s)
{
    bool any = false, open = false;

    while (s.n > 0) {
        struct bytes name = cache_control_member_next(&s, &open);

        if (token_length(name) != name.n)
            return false;
        any = any || name.n > 0;
    }
    return any;
}

/* RFC 9111 sections 5.2.2.4 and 5.2.2.7: no-cache and private, bare or with field names. A list that cannot be read, or
 * a second one, which one borrowed run of bytes cannot hold, counts as the bare form, the stricter one. */
static void take_qualifiable(bool *bare, bool *qualified, struct bytes *names, const struct directive *d)
{
    if (*bare || *qualified || !d->readable || !cache_control_is_names(d->argument)) {
        *bare = true;
        *qualified = false;
        *names = BYTES_NONE;
        return;
    }
    *qualified = true;
    *names = d->argument;
}

/* RFC 9111 sections 5.2.1.1 to 5.2.1.3, 5.2.2.1 and 5.2.2.10, RFC 5861 sections 3 and 4; the case of names does not
 * count (RFC 9111 section 5.2). */
static bool take_delta(struct cache_control *cc, const struct directive *d)
{
    if (bytes_eq_nocase(d->name, BYTES_LIT("max-age")))
        take_grant(&cc->max_age_s, d);
    else if (bytes_eq_nocase(d->name, BYTES_LIT("s-maxage")))
        take_grant(&cc->s_maxage_s, d);
    else if (bytes_eq_nocase(d->name, BYTES_LIT("stale-while-revalidate")))
        take_grant(&cc->stale_while_revalidate_s, d);
    else if (bytes_eq_nocase(d->name, BYTES_LIT("stale-if-error")))
        take_grant(&cc->stale_if_error_s, d);
    else if (bytes_eq_nocase(d->name, BYTES_LIT("min-fresh")))
        take_wish(&cc->min_fresh_s, d);
    else if (bytes_eq_nocase(d->name, BYTES_LIT("max-stale")))
        take_max_stale(&cc->max_stale_s, d);
    else
        return false;
    return true;
}

/* RFC 9111 section 5.2 allows these no argument. What forbids is heeded with one too; what allows is not, nor is
 * immutable, whose argument RFC 8246 section 2 would ignore. */
static bool take_flag(struct cache_control *cc, const struct directive *d)
{
    const struct {
        struct bytes name;
        bool *flag;
        bool allows;
    } flags[] = {
        {BYTES_LIT("no-store"), &cc->no_store, false},
        {BYTES_LIT("public"), &cc->public_, true},
        {BYTES_LIT("must-revalidate"), &cc->must_revalidate, false},
        {BYTES_LIT("proxy-revalidate"), &cc->proxy_revalidate, false},
        {BYTES_LIT("must-understand"), &cc->must_understand, true},
        {BYTES_LIT("no-transform"), &cc->no_transform, false},
        {BYTES_LIT("immutable"), &cc->immutable, true},
        {BYTES_LIT("only-if-cached"), &cc->only_if_cached, false},
    };

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (bytes_eq_nocase(d->name, flags[i].name)) {
            if (!flags[i].allows || !d->has_argument)
                *flags[i].flag = true;
            return true;
        }
    return false;
}

static bool take_qualifiables(struct cache_control *cc, const struct directive *d)
{
    if (bytes_eq_nocase(d->name, BYTES_LIT("no-cache")))
        take_qualifiable(&cc->no_cache, &cc->no_cache_qualified, &cc->no_cache_fields, d);
    else if (bytes_eq_nocase(d->name, BYTES_LIT("private")))
        take_qualifiable(&cc->private_, &cc->private_qualified, &cc->private_fields, d);
    else
        return false;
    return true;
}

/* What is not known is ignored (RFC 9111 section 5.2.3). */
bool cache_control_add(struct cache_control *cc, struct bytes directive)
{
    struct directive d = directive_read(directive);

    return take_delta(cc, &d) || take_qualifiables(cc, &d) || take_flag(cc, &d);
}

struct cache_control cache_control_none(void)
{
    return (struct cache_control){
        .max_age_s = -1,
        .s_maxage_s = -1,
        .stale_while_revalidate_s = -1,
        .stale_if_error_s = -1,
        .min_fresh_s = -1,
        .max_stale_s = -1,
    };
}

/* All lines are one list (RFC 9110 section 5.3). */
struct cache_control cache_control_parse(struct fields fields)
{
    struct cache_control cc = cache_control_none();

    for (size_t i = fields_find(fields, BYTES_LIT("cache-control"), 0); i < fields.n;
         i = fields_find(fields, BYTES_LIT("cache-control"), i + 1)) {
        struct bytes rest = fields.v[i].value;
        bool open = false;

        cc.present = true;
        while (rest.n > 0)
            cache_control_add(&cc, cache_control_member_next(&rest, &open));
    }
    return cc;
}

bool cache_control_lists(struct bytes names, struct bytes name)
{
    bool open = false;

    while (names.n > 0)
        if (bytes_eq_nocase(cache_control_member_next(&names, &open), name))
            return true;
    return false;
}
