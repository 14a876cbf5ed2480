#include "cache/head_table.h"

#include <assert.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "cache/alloc.h"
#include "cache/budget.h"
#include "cache/store_private.h"
#include "policies/http_date.h"

enum { HEADS_PER_CHAIN = 2, ALIGNMENT = 16 };

/* The text by which heads are told apart: these, then for each field its line, its name, the sender's spelling where it
 * is another, and its value where that is shared. */
struct facts {
    int64_t stale_while_revalidate_ms, stale_if_error_ms;
    int32_t status;
    uint32_t nfields;
    uint8_t kind, scope_and_forms, with_authorization, with_cookie, rule, explicit_, revalidate_always, must_revalidate;
};
_Static_assert(sizeof(struct facts) == 32, "no byte of it is left to chance");

struct line {
    uint32_t name_n, value_n; /* no value: UINT32_MAX */
    uint8_t value;            /* enum head_value */
    uint8_t spelling;         /* enum spelling */
    uint16_t zero;
};
_Static_assert(sizeof(struct line) == 12, "no byte of it is left to chance");

enum spelling { SPELT_NOT, SPELT_SAME, SPELT_OTHERWISE };

static enum spelling spelling_of(const struct field *f)
{
    if (f->orig_name == NULL)
        return SPELT_NOT;
    return f->name.n > 0 && memcmp(f->orig_name, f->name.p, f->name.n) != 0 ? SPELT_OTHERWISE : SPELT_SAME;
}

static bool is_the_date(const struct field *f, struct wall_s date)
{
    char text[HTTP_DATE_LEN + 1];

    if (f->value.n != HTTP_DATE_LEN || !bytes_eq(f->name, BYTES_LIT("date")))
        return false;
    http_date_format(date, text);
    return memcmp(f->value.p, text, HTTP_DATE_LEN) == 0;
}

static enum head_value value_of(struct store_thread *t, const struct field *f, struct wall_s date)
{
    if (is_the_date(f, date))
        return HEAD_DATE;
    return habits_is_own(&t->habits, f->name, f->value) ? HEAD_OWN : HEAD_SHARED;
}

static char *put(char *to, const void *p, size_t n)
{
    if (n > 0)
        memcpy(to, p, n);
    return to + n;
}

static char *facts_put(const struct stored_options *o, char *to)
{
    const struct lifetimes *l = &o->lifetimes;
    struct facts facts = {
        .stale_while_revalidate_ms = l->stale_while_revalidate_ms,
        .stale_if_error_ms = l->stale_if_error_ms,
        .status = o->status,
        .nfields = (uint32_t)o->fields.n,
        .kind = (uint8_t)o->kind,
        .scope_and_forms = (uint8_t)(o->user_scope + 2 * o->forms),
        .with_authorization = o->with_authorization,
        .with_cookie = o->with_cookie,
        .rule = l->rule,
        .explicit_ = l->explicit_,
        .revalidate_always = l->revalidate_always,
        .must_revalidate = l->must_revalidate,
    };

    return put(to, &facts, sizeof facts);
}

static char *line_put(struct store_thread *t, const struct field *f, struct wall_s date, char *to)
{
    struct line line = {.name_n = (uint32_t)f->name.n, .value_n = UINT32_MAX};

    line.value = (uint8_t)value_of(t, f, date);
    line.spelling = (uint8_t)spelling_of(f);
    if (line.value == HEAD_SHARED)
        line.value_n = (uint32_t)f->value.n;
    to = put(to, &line, sizeof line);
    to = put(to, f->name.p, f->name.n);
    if (line.spelling == SPELT_OTHERWISE)
        to = put(to, f->orig_name, f->name.n);
    return line.value == HEAD_SHARED ? put(to, f->value.p, f->value.n) : to;
}

static size_t text_bytes_max(const struct stored_options *o)
{
    size_t n = sizeof(struct facts);

    for (size_t i = 0; i < o->fields.n; i++)
        n += sizeof(struct line) + 2 * o->fields.v[i].name.n + o->fields.v[i].value.n;
    return n;
}

static size_t text_put(struct store_thread *t, const struct stored_options *o, char *to)
{
    char *end = facts_put(o, to);

    for (size_t i = 0; i < o->fields.n; i++)
        end = line_put(t, &o->fields.v[i], o->date, end);
    return (size_t)(end - to);
}

static size_t align(size_t n)
{
    return (n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

/* One allocation: the struct, the text, the fields, the kinds of their values, the caller's room. */
struct layout {
    size_t fields, values, prepared, total;
};

static struct layout layout_of(const struct stored_options *o, size_t text_n)
{
    struct layout l;

    l.fields = align(sizeof(struct head) + text_n);
    l.values = l.fields + o->fields.n * sizeof(struct field);
    l.prepared = align(l.values + o->fields.n);
    l.total = l.prepared + (o->prepared != NULL ? o->prepared->bytes(o->fields.n) : 0);
    return l;
}

static const char *line_get(const char *p, struct field *f, uint8_t *value)
{
    struct line line;

    memcpy(&line, p, sizeof line);
    p += sizeof line;
    f->name = (struct bytes){p, line.name_n};
    p += line.name_n;
    f->orig_name = line.spelling == SPELT_NOT ? NULL : line.spelling == SPELT_SAME ? f->name.p : p;
    if (line.spelling == SPELT_OTHERWISE)
        p += line.name_n;
    f->value = BYTES_NONE;
    *value = line.value;
    if (line.value != HEAD_SHARED)
        return p;
    f->value = (struct bytes){p, line.value_n};
    return p + line.value_n;
}

static void head_fill(struct head *h, const struct stored_options *o, const struct layout *l)
{
    const struct lifetimes *lifetimes = &o->lifetimes;
    struct field *fields = (struct field *)(void *)((char *)h + l->fields);
    uint8_t *values = (uint8_t *)h + l->values;
    const char *p = h->text + sizeof(struct facts);

    h->kind = (uint8_t)o->kind;
    h->user_scope = o->user_scope;
    h->with_authorization = o->with_authorization;
    h->with_cookie = o->with_cookie;
    h->forms = o->forms;
    h->status = o->status;
    h->rule = lifetimes->rule;
    h->explicit_ = lifetimes->explicit_;
    h->revalidate_always = lifetimes->revalidate_always;
    h->must_revalidate = lifetimes->must_revalidate;
    h->stale_while_revalidate_ms = lifetimes->stale_while_revalidate_ms;
    h->stale_if_error_ms = lifetimes->stale_if_error_ms;
    h->fields = fields;
    h->values = values;
    h->nfields = (uint32_t)o->fields.n;
    h->nown = 0;
    for (size_t i = 0; i < o->fields.n; i++) {
        p = line_get(p, &fields[i], &values[i]);
        h->nown += values[i] == HEAD_OWN;
    }
    h->prepared = (char *)h + l->prepared;
    memset(h->prepared, 0, l->total - l->prepared);
    if (o->prepared != NULL)
        o->prepared->fill(h, h->prepared);
}

static struct head *head_create(struct store_thread *t, const struct stored_options *o, struct bytes text,
                                uint64_t hash, struct mono_ms now)
{
    struct layout l = layout_of(o, text.n);
    struct head *h = budget_alloc(t, SLAB_FIXED, l.total, now);

    if (h == NULL)
        return NULL;
    memset(h, 0, sizeof *h);
    h->store = t->store;
    h->hash = hash;
    h->bytes = l.total;
    h->refs = 1;
    h->text_n = text.n;
    memcpy(h->text, text.p, text.n);
    head_fill(h, o, &l);
    return h;
}

static void head_free(struct head *h)
{
    budget_free(h->store, h, h->bytes);
}

/* ---- the table ---- */

void head_table_init(struct head_table *table)
{
    for (unsigned i = 0; i < HEAD_LOCKS; i++) {
        struct head_chains *part = &table->parts[i];

        pthread_mutex_init(&part->lock, NULL);
        part->v = part->first;
        part->size = HEAD_CHAINS_MIN;
    }
}

void head_table_fini(struct head_table *table)
{
    for (unsigned i = 0; i < HEAD_LOCKS; i++) {
        struct head_chains *part = &table->parts[i];

        assert(part->count == 0);
        if (part->v != part->first)
            alloc_free(part->v);
        pthread_mutex_destroy(&part->lock);
    }
}

static struct head_chains *part_of(struct store *store, uint64_t hash)
{
    return &store->heads.parts[hash % HEAD_LOCKS];
}

static struct head **chain_of(const struct head_chains *part, uint64_t hash)
{
    return &part->v[hash / HEAD_LOCKS & (part->size - 1)];
}

/* Without memory the chains get longer. */
static void grow(struct store *store, struct head_chains *part)
{
    struct head_chains grown = {.size = part->size * 2};

    if (part->count < part->size * HEADS_PER_CHAIN)
        return;
    grown.v = alloc_bytes(grown.size * sizeof grown.v[0]);
    if (grown.v == NULL)
        return;
    memset(grown.v, 0, grown.size * sizeof grown.v[0]);
    for (uint32_t i = 0; i < part->size; i++) {
        for (struct head *h = part->v[i], *next; h != NULL; h = next) {
            struct head **chain = chain_of(&grown, h->hash);

            next = h->next;
            h->next = *chain;
            *chain = h;
        }
    }
    budget_take(store, alloc_cost(grown.v));
    if (part->v != part->first) {
        budget_return(store, alloc_cost(part->v));
        alloc_free(part->v);
    }
    part->v = grown.v;
    part->size = grown.size;
}

/* Under the lock. With one reference more. */
static struct head *find(const struct head_chains *part, struct bytes text, uint64_t hash)
{
    struct head *h = *chain_of(part, hash);

    while (h != NULL && !(h->hash == hash && bytes_eq((struct bytes){h->text, h->text_n}, text)))
        h = h->next;
    if (h != NULL)
        h->refs++;
    return h;
}

static struct head *find_or_add(struct store *store, struct bytes text, uint64_t hash, struct head *made)
{
    struct head_chains *part = part_of(store, hash);
    struct head *h;

    pthread_mutex_lock(&part->lock);
    h = find(part, text, hash);
    if (h == NULL && made != NULL) {
        grow(store, part);
        made->next = *chain_of(part, hash);
        *chain_of(part, hash) = h = made;
        part->count++;
    }
    pthread_mutex_unlock(&part->lock);
    return h;
}

static struct head *acquire(struct store_thread *t, const struct stored_options *o, struct bytes text,
                            struct mono_ms now)
{
    uint64_t hash = XXH3_64bits_withSeed(text.p, text.n, t->store->seed);
    struct head *found = find_or_add(t->store, text, hash, NULL), *made;

    if (found != NULL)
        return found;
    /* without a lock: to make room is to end others */
    made = head_create(t, o, text, hash, now);
    if (made == NULL)
        return NULL;
    found = find_or_add(t->store, text, hash, made);
    if (found != made)
        head_free(made);
    return found;
}

const struct head *head_acquire(struct store_thread *t, const struct stored_options *o, struct mono_ms now)
{
    char *text = alloc_bytes(text_bytes_max(o));
    struct head *h;

    if (text == NULL)
        return NULL;
    h = acquire(t, o, (struct bytes){text, text_put(t, o, text)}, now);
    alloc_free(text);
    return h;
}

static void unlink_head(struct head_chains *part, struct head *head)
{
    struct head **at = chain_of(part, head->hash);

    while (*at != head)
        at = &(*at)->next;
    *at = head->next;
    part->count--;
}

void head_release(const struct head *head)
{
    struct head *h = (struct head *)head;
    struct head_chains *part = part_of(h->store, h->hash);

    pthread_mutex_lock(&part->lock);
    bool last = --h->refs == 0;

    if (last)
        unlink_head(part, h);
    pthread_mutex_unlock(&part->lock);
    if (last)
        head_free(h);
}
