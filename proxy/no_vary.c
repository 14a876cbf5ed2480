#include "proxy/no_vary.h"

#include <stdlib.h>

#include "policies/no_vary_search.h"
#include "proxy/respond.h"

#define FIELD BYTES_LIT("no-vary-search")

/* No scope begins with it (key.h). */
enum { MARKER = 'n', MARKER_MS = INT32_MAX /* 24 days: a marker lost too early costs fetches */ };

/* How long the field's lines are as one. */
static size_t text_bytes(struct fields fields)
{
    size_t n = 0;

    for (size_t i = fields_find(fields, FIELD, 0); i < fields.n; i = fields_find(fields, FIELD, i + 1))
        n += (n > 0 ? 2 : 0) + fields.v[i].value.n;
    return n;
}

static bool read_field(struct fields fields, struct no_vary_search *out)
{
    return text_bytes(fields) <= NO_VARY_TEXT_MAX && no_vary_search_read(fields, out);
}

size_t no_vary_text(struct fields fields, char out[NO_VARY_TEXT_MAX])
{
    struct no_vary_search nvs;
    size_t n = 0;

    if (!read_field(fields, &nvs))
        return 0;
    for (size_t i = fields_find(fields, FIELD, 0); i < fields.n; i = fields_find(fields, FIELD, i + 1)) {
        struct bytes line = fields.v[i].value;

        if (n > 0) {
            out[n++] = ',';
            out[n++] = ' ';
        }
        memcpy(out + n, line.p, line.n);
        n += line.n;
    }
    return n;
}

size_t no_vary_bytes_max(const struct key *key)
{
    struct bytes query;

    return key->whole.n + 1 + (key_url_query(key->url, &query) ? 2 * no_vary_search_bytes_max(query) : 0);
}

struct key no_vary_reduce(const struct key *key, struct fields fields, char *buf)
{
    struct no_vary_search nvs;
    struct bytes query, reduced;
    struct key out;

    if (!key_url_query(key->url, &query) || !read_field(fields, &nvs))
        return *key;
    char *text = buf + key->whole.n + 1 + no_vary_search_bytes_max(query);

    reduced = (struct bytes){text, no_vary_search_reduce(&nvs, query, text)};
    key_with_query(key, reduced.n > 0 ? &reduced : NULL, buf, &out);
    out.target = key->target;
    return bytes_eq(out.whole, key->whole) ? *key : out;
}

bool no_vary_is_for(struct store *store, const struct stored *s, const struct key *key, struct bytes primary)
{
    char *buf = malloc(no_vary_bytes_max(key));
    struct stored_view view;

    if (buf == NULL)
        abort();
    bool is = bytes_eq(no_vary_reduce(key, stored_fields(s, &view), buf).whole, primary);

    free(buf);
    return is && !store_purged_since(store, key->url, s->born);
}

/* RFC 9111 section 4: of several that are suitable the most recent, by its Date. */
bool no_vary_prefers_own(struct stored *own, struct stored *reduced)
{
    if (own == NULL || reduced == NULL)
        return own != NULL;
    if (own->head->kind != STORED_RESPONSE || reduced->head->kind != STORED_RESPONSE)
        return own->head->kind == STORED_RESPONSE;
    int64_t its = stored_date(own).s, other = stored_date(reduced).s;

    return its != other ? its > other : own->born > reduced->born;
}

/* What the marker for this key lies under (the draft's section 7); all of it but the last byte is its url part. */
static struct bytes marker_key(const struct key *key, char *buf)
{
    struct key url = {.whole = key->url, .url = key->url}, path;

    key_with_query(&url, NULL, buf, &path);
    buf[path.url.n] = MARKER;
    return (struct bytes){buf, path.url.n + 1};
}

static bool put_marker(struct store_thread *t, struct key_hash hash, struct bytes key, struct bytes spec, uint64_t born,
                       struct mono_ms now)
{
    struct stored *marker = stored_create(t,
                                          &(struct stored_options){
                                              .kind = STORED_NO_VARY,
                                              .hash = hash,
                                              .key = key,
                                              .key_url_n = key.n - 1,
                                              .spec = spec,
                                              .response_time = now,
                                              .useful_ms = MARKER_MS,
                                              .born = born,
                                          },
                                          now);

    if (marker == NULL)
        return false;
    stored_finish_body(marker, BODY_COMPLETE);
    bool put = store_put(t, marker, now);

    stored_release(marker);
    return put;
}

bool no_vary_mark(struct store_thread *t, const struct store *store, const struct key *key, struct fields fields,
                  uint64_t born, struct mono_ms now)
{
    char text[NO_VARY_TEXT_MAX], *buf;
    struct bytes spec = {text, no_vary_text(fields, text)};

    if (spec.n == 0)
        return true;
    buf = malloc(no_vary_bytes_max(key));
    if (buf == NULL)
        abort();
    struct bytes name = marker_key(key, buf);
    struct key_hash hash = store_hash(store, name);
    struct stored *marker = store_acquire(t, hash, name, now);
    bool marked = (marker != NULL && bytes_eq(stored_spec(marker), spec)) || put_marker(t, hash, name, spec, born, now);

    stored_release(marker);
    free(buf);
    return marked;
}

static struct stored *find_marker(struct store_thread *t, const struct store *store, const struct key *key,
                                  struct mono_ms now, char *buf)
{
    struct bytes name = marker_key(key, buf);

    return store_acquire(t, store_hash(store, name), name, now);
}

struct key no_vary_reduce_by_marker(struct store_thread *t, const struct store *store, const struct key *key,
                                    struct mono_ms now, char *buf)
{
    struct bytes query;
    struct stored *marker = key_url_query(key->url, &query) ? find_marker(t, store, key, now, buf) : NULL;

    if (marker == NULL)
        return *key;
    struct field field = {FIELD, NULL, stored_spec(marker)};
    struct key reduced = no_vary_reduce(key, (struct fields){&field, 1}, buf);

    stored_release(marker);
    return reduced;
}
