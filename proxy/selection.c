#include "proxy/selection.h"

#include <stdlib.h>

#include "policies/negotiate.h"
#include "policies/vary.h"
#include "proxy/no_vary.h"
#include "proxy/respond.h"
#include "proxy/variant.h"

enum { TAG_MAX = 256 }; /* longer ones are not offered */

#define ACCEPT_ENCODING BYTES_LIT("accept-encoding")
#define ACCEPT_LANGUAGE BYTES_LIT("accept-language")

/* Each variant of a marker, with its values. */
struct walk {
    const struct selection *q;
    struct bytes spec, left;
    char *buf; /* for keys */
};

static void walk_begin(struct walk *walk, const struct selection *q, const struct stored *marker)
{
    *walk = (struct walk){.q = q, .spec = stored_spec(marker), .left = stored_list(marker)};
    walk->buf = malloc(q->primary.n + stored_spec(marker).n + 1 + VARIANT_MAX);
    if (walk->buf == NULL)
        abort();
}

static bool walk_next(struct walk *walk, struct bytes *variant, struct bytes *values)
{
    while (variants_next(&walk->left, variant))
        if (variant_values(*variant, values))
            return true;
    return false;
}

/* A response of status 200 that such a request may have: only those are representations among which was chosen. */
static struct stored *walk_peek(struct walk *walk, struct bytes variant)
{
    const struct selection *q = walk->q;
    struct bytes key = variant_key_again(q->primary, walk->spec, variant, walk->buf);
    struct stored *s = store_peek(q->thread, store_hash(q->store, key), key);

    if (s == NULL)
        return NULL;
    if (s->head->kind == STORED_RESPONSE && s->head->status == 200 &&
        selection_may_use(s, q->authorization, q->cookie) &&
        (q->own == NULL || no_vary_is_for(q->store, s, q->own, q->primary)))
        return s;
    stored_release(s);
    return NULL;
}

static void walk_end(struct walk *walk)
{
    free(walk->buf);
}

/* False: the request's values are hashed, or its key was made for other names than the marker has by now. */
static bool own_values(const struct selection *q, const struct stored *marker, struct bytes *values)
{
    return marker->head->kind == STORED_VARY && variant_key_is_of(q->variant, q->primary, stored_spec(marker)) &&
           variant_values(variant_of(q->variant, q->primary, stored_spec(marker)), values);
}

/* What a request wants; `known`: it can be read. */
struct wants {
    struct preferences encodings, languages;
    bool encodings_known, languages_known;
};

static bool wants_of(struct fields request, struct bytes name, struct preferences *out)
{
    return negotiate_parse(request, name, fields_find(request, name, 0), out);
}

static struct wants wants_read(struct fields request)
{
    struct wants w;

    w.encodings_known = wants_of(request, ACCEPT_ENCODING, &w.encodings);
    w.languages_known = wants_of(request, ACCEPT_LANGUAGE, &w.languages);
    return w;
}

/* The value of a field that is there at most once; false: there is more than one. */
static bool only_value(struct fields f, struct bytes name, struct bytes *value)
{
    size_t i = fields_find(f, name, 0);

    *value = i < f.n ? f.v[i].value : BYTES_NONE;
    return i == f.n || fields_find(f, name, i + 1) == f.n;
}

/* Would such a request be answered by this response, though it differs in these fields from the one that was (RFC 9111
 * section 4.1: mechanisms for ranking preference)? */
static bool is_wanted(const struct wants *wants, struct vary_difference difference, const struct stored *s)
{
    struct stored_view view;
    struct bytes value;
    struct fields fields;

    if (!difference.language && !difference.encoding)
        return true;
    fields = stored_fields(s, &view);
    if (difference.language && !(wants->languages_known && only_value(fields, BYTES_LIT("content-language"), &value) &&
                                 negotiate_language_is_best(&wants->languages, value)))
        return false;
    return !difference.encoding ||
           (wants->encodings_known && only_value(fields, BYTES_LIT("content-encoding"), &value) &&
            negotiate_coding_is_best(&wants->encodings, value));
}

static bool spec_negotiates(struct bytes spec)
{
    return vary_spec_names(spec, ACCEPT_ENCODING) || vary_spec_names(spec, ACCEPT_LANGUAGE);
}

struct stored *selection_match(const struct selection *q, const struct stored *marker)
{
    struct bytes own, variant, values;
    struct stored *best = NULL;
    struct walk walk;

    if (!spec_negotiates(stored_spec(marker)) || !own_values(q, marker, &own))
        return NULL;
    struct wants wants = wants_read(q->request);

    walk_begin(&walk, q, marker);
    while (walk_next(&walk, &variant, &values)) {
        struct vary_difference difference = vary_keys_compare(stored_spec(marker), own, values);
        struct stored *s = difference.media || difference.other ? NULL : walk_peek(&walk, variant);

        /* the list is newest first: of equal dates the first stays */
        if (s == NULL || !is_wanted(&wants, difference, s) ||
            (best != NULL && stored_date(s).s <= stored_date(best).s)) {
            stored_release(s);
            continue;
        }
        stored_release(best);
        best = s;
    }
    walk_end(&walk);
    if (best != NULL)
        store_use(q->thread, best, q->now);
    return best;
}

/* --- several validators --- */

static bool is_weak(struct bytes tag)
{
    return bytes_starts(tag, BYTES_LIT("W/"));
}

static struct bytes opaque(struct bytes tag)
{
    return is_weak(tag) ? (struct bytes){tag.p + 2, tag.n - 2} : tag;
}

/* RFC 9110 section 8.8.3: one that is not would spoil the list. */
static bool is_tag(struct bytes tag)
{
    tag = opaque(tag);
    if (tag.n < 2 || tag.n > TAG_MAX || tag.p[0] != '"' || tag.p[tag.n - 1] != '"')
        return false;
    for (size_t i = 1; i + 1 < tag.n; i++)
        if ((unsigned char)tag.p[i] < 0x21 || tag.p[i] == '"' || tag.p[i] == 0x7f)
            return false;
    return true;
}

static struct bytes tag_of(const struct stored *s)
{
    return stored_value(s, BYTES_LIT("etag"));
}

bool selection_may_build_on(struct store *store, const struct stored *s)
{
    return !store_purged_since(store, stored_key_url(s), s->born) && !store_tags_purged_since(store, s, s->born);
}

/* Origins that give all forms of a resource one tag are many, though RFC 9110 section 8.8.3.3 wants strong ones
 * distinct. What such a request would not want is not offered, nor what may be of another format. */
static bool may_offer(const struct wants *wants, struct vary_difference difference, struct stored *s)
{
    struct bytes coding, language;
    struct stored_view view;
    struct fields fields;

    if (!is_tag(tag_of(s)) || atomic_load_explicit(&s->withdrawn, memory_order_relaxed))
        return false;
    fields = stored_fields(s, &view);
    if (difference.language &&
        !(wants->languages_known && only_value(fields, BYTES_LIT("content-language"), &language) &&
          negotiate_language_is_acceptable(&wants->languages, language)))
        return false;
    return wants->encodings_known && only_value(fields, BYTES_LIT("content-encoding"), &coding) &&
           negotiate_coding_is_acceptable(&wants->encodings, coding);
}

void offers_collect(const struct selection *q, const struct stored *marker, struct offers *out)
{
    struct bytes own, variant, values;
    struct walk walk;

    out->n = 0;
    if (!own_values(q, marker, &own))
        return;
    struct wants wants = wants_read(q->request);

    walk_begin(&walk, q, marker);
    while (walk_next(&walk, &variant, &values)) {
        struct vary_difference difference = vary_keys_compare(stored_spec(marker), own, values);
        struct stored *s = difference.media ? NULL : walk_peek(&walk, variant);

        if (s != NULL && may_offer(&wants, difference, s) && selection_may_build_on(q->store, s))
            out->v[out->n++] = s;
        else
            stored_release(s);
    }
    walk_end(&walk);
}

static bool is_repeated(const struct offers *o, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (bytes_eq(tag_of(o->v[j]), tag_of(o->v[i])))
            return true;
    return false;
}

size_t offers_write(const struct offers *o, char *to)
{
    size_t n = 0;

    for (size_t i = 0; i < o->n; i++) {
        struct bytes tag = tag_of(o->v[i]);

        if (is_repeated(o, i))
            continue;
        if (n > 0 && to != NULL)
            memcpy(to + n, ", ", 2);
        n += n > 0 ? 2 : 0;
        if (to != NULL)
            memcpy(to + n, tag.p, tag.n);
        n += tag.n;
    }
    return n;
}

static struct stored *newest_named(const struct offers *o, struct bytes tag, bool strong)
{
    struct stored *best = NULL;

    for (size_t i = 0; i < o->n; i++) {
        struct stored *s = o->v[i];
        bool named = strong ? !is_weak(tag) && bytes_eq(tag_of(s), tag) : bytes_eq(opaque(tag_of(s)), opaque(tag));

        if (named && (best == NULL || stored_date(s).s > stored_date(best).s))
            best = s;
    }
    return best;
}

struct stored *offers_named(const struct offers *o, struct fields not_modified)
{
    struct bytes tag = fields_value(not_modified, BYTES_LIT("etag"));

    if (tag.n == 0)
        return o->n == 1 ? o->v[0] : NULL;
    struct stored *strong = newest_named(o, tag, true);

    return strong != NULL ? strong : newest_named(o, tag, false);
}

void offers_withdraw(const struct offers *o)
{
    for (size_t i = 0; i < o->n; i++)
        atomic_store_explicit(&o->v[i]->withdrawn, true, memory_order_relaxed);
}

void offers_fini(struct offers *o)
{
    while (o->n > 0)
        stored_release(o->v[--o->n]);
}
