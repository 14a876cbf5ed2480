#include "proxy/parts.h"

#include <stdlib.h>

#include "policies/part.h"
#include "proxy/answer_head.h"
#include "proxy/coder.h"
#include "proxy/respond.h"

enum { RUNS = 16, RUN_MAX = 256 * 1024 };

bool parts_append(struct store_thread *t, struct stored *to, struct stored *from, uint64_t offset, struct mono_ms now)
{
    struct stored_reader reader;
    bool ok = true;

    if (!stored_reader_start(&reader, from))
        return false;
    while (ok) {
        struct bytes runs[RUNS];
        size_t n = stored_reader_peek(&reader, runs, RUNS, RUN_MAX), sum = 0;

        for (size_t i = 0; i < n && ok; i++) {
            size_t skipped = offset < runs[i].n ? (size_t)offset : runs[i].n;

            offset -= skipped;
            sum += runs[i].n;
            if (skipped < runs[i].n)
                ok = stored_append(t, to, (struct bytes){runs[i].p + skipped, runs[i].n - skipped}, now);
        }
        if (sum == 0)
            break;
        stored_reader_advance(&reader, sum);
    }
    stored_reader_stop(&reader);
    return ok;
}

static struct part_facts facts_of(const struct stored *s, struct stored_view *view)
{
    return (struct part_facts){s->head->status, stored_fields(s, view), (int64_t)stored_length(s)};
}

/* The newer one's fields (RFC 9110 section 15.3.7.3; those that only the older one has are left out), with the range
 * that both cover; without one, when that is everything. */
static size_t joined_fields(const struct stored *newer, const struct content_range *range, bool whole, char *text,
                            struct stored_view *view, struct field out[2 * ANSWER_FIELDS_MAX])
{
    struct fields in = stored_fields(newer, view);
    size_t n = 0;

    for (size_t i = 0; i < in.n; i++) {
        bool is_range = bytes_eq(in.v[i].name, BYTES_LIT("content-range"));

        if (is_range && whole)
            continue;
        out[n] = in.v[i];
        if (is_range)
            out[n].value = (struct bytes){text, content_range_format(range, text)};
        n++;
    }
    return n;
}

/* With the tags of both, and born when the older was, so that a purge that covers one of them covers it. */
static struct stored *join(struct store_thread *t, struct stored *first, struct stored *second, uint64_t tail,
                           const struct content_range *range, struct stored *newer, struct mono_ms now)
{
    struct stored *older = first == newer ? second : first;
    struct tags tags = {.n = 0};

    stored_tags_merge(newer, &tags);
    stored_tags_merge(older, &tags);
    struct stored_view view;
    struct field fields[2 * ANSWER_FIELDS_MAX];
    char text[CONTENT_RANGE_MAX];
    bool whole = range->first == 0 && range->last + 1 == range->complete;
    size_t n = joined_fields(newer, range, whole, text, &view, fields);
    int64_t length = range->last - range->first + 1;
    struct stored *joined = stored_create(t,
                                          &(struct stored_options){
                                              .kind = STORED_RESPONSE,
                                              .hash = {.lo = newer->hash},
                                              .key = stored_key(newer),
                                              .key_url_n = newer->key_url_n,
                                              .user_scope = newer->head->user_scope,
                                              .with_authorization = newer->head->with_authorization,
                                              .with_cookie = newer->head->with_cookie,
                                              .forms = coder_forms_joined(newer, whole),
                                              .status = whole ? 200 : 206,
                                              .fields = {fields, n},
                                              .date = stored_date(newer),
                                              .prepared = &prepared_heads,
                                              .lifetimes = stored_lifetimes(newer),
                                              .response_time = newer->response_time,
                                              .useful_ms = stored_useful_ms(newer),
                                              .tags = tags.v,
                                              .ntags = tags.n,
                                              .born = older->born < newer->born ? older->born : newer->born,
                                              .content_length = length,
                                          },
                                          now);

    if (joined == NULL)
        return NULL;
    if (!parts_append(t, joined, first, 0, now) || !parts_append(t, joined, second, tail, now)) {
        stored_release(joined);
        return NULL;
    }
    stored_finish_body(joined, BODY_COMPLETE);
    return joined;
}

/* RFC 9111 section 3.4. */
struct stored *parts_join(struct store_thread *t, struct stored *older, struct stored *newer, struct mono_ms now,
                          struct wall_s wall, uint64_t bytes_max)
{
    struct stored_view views[2];
    struct part_facts a = facts_of(older, &views[0]), b = facts_of(newer, &views[1]);
    struct content_range range;
    uint64_t tail;
    struct stored *first = older, *second = newer;

    if (!bytes_eq(stored_key(older), stored_key(newer)) || !validators_agree_strongly(a.fields, b.fields, wall))
        return NULL;
    if (!part_joins(&a, &b, &range, &tail)) {
        if (!part_joins(&b, &a, &range, &tail))
            return NULL;
        first = newer;
        second = older;
    }
    if ((uint64_t)(range.last - range.first) >= bytes_max)
        return NULL;
    return join(t, first, second, tail, &range, newer, now);
}
