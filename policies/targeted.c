#include "policies/targeted.h"

#include "policies/structured_field.h"

/* What a directive without a value is mapped to (RFC 9213 section 2.1). */
static bool is_true(const struct sf_item *item)
{
    return item->type == SF_BOOLEAN && item->number == 1;
}

/* RFC 9213 section 2.1 warns against coercing a decimal; see the header for why it is 0 then. */
static bool take_delta(struct cache_control *cc, const struct sf_item *item)
{
    const struct {
        struct bytes name;
        int64_t *delta;
    } deltas[] = {
        {BYTES_LIT("max-age"), &cc->max_age_s},
        {BYTES_LIT("s-maxage"), &cc->s_maxage_s},
        {BYTES_LIT("stale-while-revalidate"), &cc->stale_while_revalidate_s},
        {BYTES_LIT("stale-if-error"), &cc->stale_if_error_s},
    };

    for (size_t i = 0; i < sizeof(deltas) / sizeof(deltas[0]); i++)
        if (bytes_eq(item->key, deltas[i].name)) {
            int64_t s = item->type == SF_INTEGER && item->number > 0 ? item->number : 0;

            *deltas[i].delta = s < DELTA_SECONDS_MAX ? s : DELTA_SECONDS_MAX;
            return true;
        }
    return false;
}

static void take_flag(struct cache_control *cc, const struct sf_item *item)
{
    const struct {
        struct bytes name;
        bool *flag;
    } flags[] = {
        {BYTES_LIT("no-store"), &cc->no_store},
        {BYTES_LIT("public"), &cc->public_},
        {BYTES_LIT("must-revalidate"), &cc->must_revalidate},
        {BYTES_LIT("proxy-revalidate"), &cc->proxy_revalidate},
        {BYTES_LIT("must-understand"), &cc->must_understand},
        {BYTES_LIT("no-transform"), &cc->no_transform},
        {BYTES_LIT("immutable"), &cc->immutable},
    };

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (bytes_eq(item->key, flags[i].name))
            *flags[i].flag = is_true(item);
}

/* RFC 9213 section 2.1: Boolean true or a String of field names (RFC 9111 sections 5.2.2.4 and 5.2.2.7). */
static void take_qualifiable(bool *bare, bool *qualified, struct bytes *names, const struct sf_item *item)
{
    *qualified = item->type == SF_STRING && cache_control_is_names(item->text);
    *bare = !*qualified && (item->type != SF_BOOLEAN || is_true(item));
    *names = *qualified ? item->text : BYTES_NONE;
}

/* RFC 9213 section 2.2. */
static void take_member(struct cache_control *cc, const struct sf_item *item)
{
    if (take_delta(cc, item))
        return;
    if (bytes_eq(item->key, BYTES_LIT("no-cache")))
        take_qualifiable(&cc->no_cache, &cc->no_cache_qualified, &cc->no_cache_fields, item);
    else if (bytes_eq(item->key, BYTES_LIT("private")))
        take_qualifiable(&cc->private_, &cc->private_qualified, &cc->private_fields, item);
    else
        take_flag(cc, item);
}

static bool dictionary_read(struct fields fields, struct bytes name, struct cache_control *out)
{
    struct sf field;
    struct sf_item item;
    bool any = false;

    sf_dictionary_read(fields, name, &field); /* unless it is valid, it has no members */
    while (sf_next(&field, &item)) {
        take_member(out, &item);
        any = true;
    }
    return any;
}

/* What comes after the last ';' outside quotes, taken off the directive. */
static struct bytes target_take(struct bytes *directive)
{
    struct bytes target = BYTES_NONE;
    bool quoted = false;

    for (size_t i = 0; i < directive->n; i++) {
        if (directive->p[i] == '"')
            quoted = !quoted;
        else if (directive->p[i] == '\\' && quoted)
            i++;
        else if (directive->p[i] == ';' && !quoted)
            target = (struct bytes){directive->p + i + 1, directive->n - i - 1};
    }
    if (target.p == NULL)
        return BYTES_NONE;
    directive->n -= target.n + 1;
    *directive = bytes_trim(*directive);
    return bytes_trim(target);
}

/* max-age=60+30: section 2.2.3 of the Note. What cannot be read stays together, and comes to 0. */
static bool extension_take(struct bytes *directive, int64_t *extension)
{
    const struct bytes name = BYTES_LIT("max-age=");
    const char *plus = memchr(directive->p, '+', directive->n);
    size_t n;

    if (plus == NULL || directive->n < name.n || !bytes_eq_nocase((struct bytes){directive->p, name.n}, name))
        return false;
    n = (size_t)(plus - directive->p);
    if (!cache_control_seconds_read((struct bytes){plus + 1, directive->n - n - 1}, extension))
        return false;
    directive->n = n;
    return true;
}

static bool surrogate_add(struct cache_control *cc, struct bytes directive)
{
    int64_t extension;

    if (directive.n > 0 && extension_take(&directive, &extension) &&
        (cc->stale_while_revalidate_s < 0 || extension < cc->stale_while_revalidate_s))
        cc->stale_while_revalidate_s = extension;
    return cache_control_add(cc, directive);
}

static void prefer(int64_t *delta, int64_t ours)
{
    if (ours >= 0)
        *delta = ours;
}

/* A directive for us comes before the same one for all (section 2.3 of the Note). A flag cannot be taken back. */
static void surrogate_merge(struct cache_control *all, const struct cache_control *ours)
{
    prefer(&all->max_age_s, ours->max_age_s);
    prefer(&all->s_maxage_s, ours->s_maxage_s);
    prefer(&all->stale_while_revalidate_s, ours->stale_while_revalidate_s);
    prefer(&all->stale_if_error_s, ours->stale_if_error_s);
    all->no_store |= ours->no_store;
    all->public_ |= ours->public_;
    all->must_revalidate |= ours->must_revalidate;
    all->proxy_revalidate |= ours->proxy_revalidate;
    all->must_understand |= ours->must_understand;
    all->no_transform |= ours->no_transform;
    all->immutable |= ours->immutable;
    if (ours->no_cache || ours->no_cache_qualified) {
        all->no_cache = ours->no_cache;
        all->no_cache_qualified = ours->no_cache_qualified;
        all->no_cache_fields = ours->no_cache_fields;
    }
    if (ours->private_ || ours->private_qualified) {
        all->private_ = ours->private_;
        all->private_qualified = ours->private_qualified;
        all->private_fields = ours->private_fields;
    }
}

static bool surrogate_read(struct fields fields, struct bytes name, struct cache_control *out)
{
    struct cache_control ours = cache_control_none();
    bool any = false;

    for (size_t i = fields_find(fields, name, 0); i < fields.n; i = fields_find(fields, name, i + 1)) {
        struct bytes rest = fields.v[i].value;
        bool open = false;

        while (rest.n > 0) {
            struct bytes directive = cache_control_member_next(&rest, &open), target = target_take(&directive);

            if (target.n == 0)
                any |= surrogate_add(out, directive);
            else if (bytes_eq_nocase(target, BYTES_LIT("weir")))
                any |= surrogate_add(&ours, directive);
        }
    }
    surrogate_merge(out, &ours);
    return any;
}

bool targeted_cache_control(struct fields fields, const struct bytes *names, size_t n, struct cache_control *out)
{
    for (size_t i = 0; i < n; i++) {
        bool surrogate = bytes_eq(names[i], BYTES_LIT("surrogate-control"));

        *out = cache_control_none();
        if (surrogate ? surrogate_read(fields, names[i], out) : dictionary_read(fields, names[i], out)) {
            out->present = out->targeted = true;
            return true;
        }
    }
    *out = cache_control_none();
    return false;
}
