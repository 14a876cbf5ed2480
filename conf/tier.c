/* ttl: the tiers, by name. */
#include "conf/sections.h"
#include "conf/value.h"

#define LIFETIME_MS_MAX (3650 * DAY_MS)
#define STATUSES_MAX 500
#define STATUS_EXAMPLE "a map of lifetimes, such as { 404: 30s, 5xx: 1s }"

/* 404 or 4xx. */
static bool status_parse(struct bytes text, struct tier_status *out)
{
    uint64_t code;

    if (text.n != 3 || text.p[0] < '2' || text.p[0] > '5')
        return false;
    if (text.p[1] == 'x' && text.p[2] == 'x') {
        out->first = (text.p[0] - '0') * 100;
        out->last = out->first + 99;
        return true;
    }
    if (!units_number_parse(text, &code))
        return false;
    out->first = out->last = (int)code;
    return true;
}

static bool is_there(const struct tier_status *v, size_t n, const struct tier_status *status)
{
    for (size_t i = 0; i < n; i++)
        if (v[i].first == status->first && v[i].last == status->last)
            return true;
    return false;
}

static void read_status(struct loader *l, const struct node *value, void *into)
{
    struct conf_tier *tier = into;
    struct tier_status *v;

    if (value->kind != NODE_MAP || value->n > STATUSES_MAX) {
        conf_expected(l, value, STATUS_EXAMPLE);
        return;
    }
    tier->tier.statuses = v = arena_array(l->keep, value->n, sizeof(*v));
    for (const struct node *item = value->first; item != NULL; item = item->next) {
        struct tier_status status = {0, 0, 0};

        if (!status_parse(item->key->text, &status))
            conf_problem(l, item->key->mark, "'%s' is not a status; expected 200 to 599, or 2xx to 5xx",
                         conf_show(l, item->key->text));
        else if (is_there(v, tier->tier.nstatuses, &status))
            conf_problem(l, item->key->mark, "duplicate status '%s'", item->key->text.p);
        else if (conf_duration_read(l, item, 0, LIFETIME_MS_MAX, &status.fresh_ms))
            v[tier->tier.nstatuses++] = status;
    }
}

#define LIFETIME(field) KEY_DURATION, offsetof(struct conf_tier, tier.field), 0, LIFETIME_MS_MAX, .standard = NULL

static const struct conf_key tier_table[] = {
    {"fresh", LIFETIME(fresh_ms)},
    {"stale_while_revalidate", LIFETIME(stale_while_revalidate_ms)},
    {"stale_if_error", LIFETIME(stale_if_error_ms)},
    {"jitter", KEY_PERCENT, offsetof(struct conf_tier, tier.jitter_percent), 0, 100, .standard = "0%"},
    {"status", KEY_OTHER, .read = read_status},
    {"early_refresh", KEY_SWITCH, offsetof(struct conf_tier, early_refresh), .standard = "off"},
    {"memory", KEY_DURATION, offsetof(struct conf_tier, memory_ms), SECOND_MS, LIFETIME_MS_MAX, .standard = NULL},
};
const struct conf_keys conf_tier_keys = KEYS(tier_table);

static const struct conf_tier *find(const struct conf *conf, struct bytes name)
{
    for (size_t i = 0; i < conf->ntiers; i++)
        if (bytes_eq(name, bytes_of(conf->tiers[i].tier.name)))
            return &conf->tiers[i];
    return NULL;
}

static void read_tier(struct loader *l, const struct node *value, struct conf *conf)
{
    const struct conf_tier *first = find(conf, value->key->text);
    struct conf_tier *tier = &conf->tiers[conf->ntiers];

    if (!conf_name_check(l, value->key))
        return;
    if (first != NULL) {
        conf_problem(l, value->key->mark, "duplicate tier '%s' (the first is at %s:%u:%u)", first->tier.name,
                     first->mark.file, first->mark.line, first->mark.column);
        return;
    }
    conf->ntiers++;
    tier->tier.name = arena_dup(l->keep, value->key->text);
    tier->tier.fresh_ms = tier->tier.stale_while_revalidate_ms = tier->tier.stale_if_error_ms = -1;
    tier->memory_ms = -1;
    tier->mark = value->key->mark;
    conf_keys_default(&conf_tier_keys, tier);
    if (value->kind == NODE_MAP)
        conf_keys_read(l, &conf_tier_keys, value, tier);
    else
        conf_duration_read(l, value, 0, LIFETIME_MS_MAX, &tier->tier.fresh_ms);
}

void conf_read_tiers(struct loader *l, const struct node *value, void *into)
{
    if (value->kind != NODE_MAP) {
        conf_expected(l, value, "a map of tiers, such as { list: 10m }");
        l->names_unknown = true;
        return;
    }
    for (const struct node *item = value->first; item != NULL; item = item->next)
        read_tier(l, item, into);
}
