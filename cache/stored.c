#include "cache/stored.h"

#include <assert.h>
#include <string.h>

#include "cache/budget.h"
#include "cache/form.h"
#include "cache/head_table.h"
#include "cache/store.h"
#include "cache/tag.h"

enum { CHUNK_MIN = 4 * 1024, PASSED_CHUNK_MAX = 64 * 1024, ALIGNMENT = 16 };

/* One allocation: the struct, that of a body in chunks, the texts, the tags, a body. */
struct layout {
    size_t texts, body, total;
    bool chunked;
    size_t capacity; /* the body's */
};

static size_t align(size_t n)
{
    return (n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

static bool is_marker(const struct stored_options *o)
{
    return o->kind != STORED_RESPONSE;
}

static size_t own_values_bytes(const struct stored_options *o, const struct head *head)
{
    size_t n = 0;

    if (is_marker(o))
        return own_value_bytes(o->spec.n) + own_value_bytes(o->list.n);
    for (size_t i = 0; i < o->fields.n; i++)
        if (head->values[i] == HEAD_OWN)
            n += own_value_bytes(o->fields.v[i].value.n);
    return n;
}

static struct layout layout_of(const struct stored_options *o, const struct head *head, bool chunked, size_t capacity)
{
    struct layout l = {.chunked = chunked, .capacity = capacity};

    l.texts = sizeof(struct stored) + (chunked ? sizeof(struct stored_chunks) : 0);
    l.body = l.texts + o->key.n + own_values_bytes(o, head);
    if (o->ntags > 0)
        l.body = align(l.body) + o->ntags * sizeof(struct stored_tag);
    if (o->forms != 0)
        l.body = ((l.body + sizeof(struct forms *) - 1) & ~(sizeof(struct forms *) - 1)) + sizeof(struct forms *);
    l.total = l.body + capacity;
    return l;
}

static void texts_put(const struct stored_options *o, const struct head *head, char *to)
{
    memcpy(to, o->key.p, o->key.n);
    to += o->key.n;
    if (is_marker(o)) {
        own_value_put(&to, o->spec);
        own_value_put(&to, o->list);
        return;
    }
    for (size_t i = 0; i < o->fields.n; i++)
        if (head->values[i] == HEAD_OWN)
            own_value_put(&to, o->fields.v[i].value);
}

struct bytes stored_spec(const struct stored *s)
{
    const char *at = stored_own_values(s);

    assert(s->head->kind != STORED_RESPONSE);
    return own_value_next(&at);
}

struct bytes stored_list(const struct stored *s)
{
    const char *at = stored_own_values(s);

    assert(s->head->kind != STORED_RESPONSE);
    own_value_next(&at);
    return own_value_next(&at);
}

struct fields stored_fields(const struct stored *s, struct stored_view *view)
{
    const struct head *head = s->head;
    const char *at = stored_own_values(s);

    for (uint32_t i = 0; i < head->nfields; i++) {
        view->v[i] = head->fields[i];
        if (head->values[i] == HEAD_OWN)
            view->v[i].value = own_value_next(&at);
        else if (head->values[i] == HEAD_DATE) {
            http_date_format(stored_date(s), view->date);
            view->v[i].value = (struct bytes){view->date, HTTP_DATE_LEN};
        }
    }
    return (struct fields){view->v, head->nfields};
}

struct bytes stored_value(const struct stored *s, struct bytes name)
{
    const struct head *head = s->head;
    const char *at = stored_own_values(s);

    for (uint32_t i = 0; i < head->nfields; i++) {
        struct bytes value = head->values[i] == HEAD_OWN ? own_value_next(&at) : head->fields[i].value;

        if (bytes_eq(head->fields[i].name, name))
            return value;
    }
    return BYTES_NONE;
}

static void tags_put(struct stored *s, const struct stored_options *o)
{
    s->ntags = (uint8_t)o->ntags;
    for (size_t i = 0; i < o->ntags; i++)
        stored_tags(s)[i] = (struct stored_tag){.tag = o->tags[i], .owner = s};
}

void stored_tags_merge(const struct stored *s, struct tags *to)
{
    for (size_t i = 0; i < s->ntags; i++)
        tags_add_hash(to, stored_tags(s)[i].tag);
}

/* Where the length is not known, or large, the first chunk is an empty one. Its references are the stored's own and
 * the builder's. */
static void chunks_begin(struct stored *s, const struct stored_options *o)
{
    struct stored_chunks *body = stored_chunks(s);

    memset(body, 0, sizeof *body);
    body->content_length = o->content_length;
    if (o->no_body)
        return;
    atomic_init(&body->start.refs, 2);
    body->start.owner = s;
    body->first = body->last = &body->start;
}

static uint32_t date_of(const struct stored_options *o)
{
    return o->date.s < 0 ? 0 : o->date.s > UINT32_MAX ? UINT32_MAX : (uint32_t)o->date.s;
}

static void stored_fill(struct stored *s, const struct stored_options *o, const struct head *head,
                        const struct layout *l)
{
    memset(s, 0, sizeof *s);
    s->hash = o->hash.lo;
    s->head = head;
    s->key_n = (uint32_t)o->key.n;
    s->key_url_n = (uint32_t)o->key_url_n;
    s->fresh = span_of(o->lifetimes.fresh_ms);
    s->initial_age = span_of(o->lifetimes.initial_age_ms);
    s->useful = span_of(o->useful_ms);
    s->date = date_of(o);
    s->response_time = o->response_time;
    s->born = o->born;
    s->body = (uint32_t)l->body;
    s->capacity = (uint16_t)(l->chunked ? 0 : l->capacity);
    s->chunked = l->chunked;
    atomic_init(&s->refs, 1);
    atomic_init(&s->body_state, BODY_OPEN);
    if (l->chunked)
        chunks_begin(s, o);
    if (o->forms != 0)
        atomic_init(stored_forms(s), NULL);
    texts_put(o, head, (char *)s + l->texts);
    tags_put(s, o);
}

static struct stored *create_with(struct store_thread *t, const struct stored_options *o, const struct head *head,
                                  bool chunked, size_t capacity, struct mono_ms now)
{
    struct layout l = layout_of(o, head, chunked, capacity);
    struct stored *s;

    if (l.total > UINT32_MAX)
        return NULL;
    s = budget_alloc(t, SLAB_STORED, l.total, now);
    if (s != NULL)
        stored_fill(s, o, head, &l);
    return s;
}

static struct stored *create(struct store_thread *t, const struct stored_options *o, bool chunked, size_t capacity,
                             struct mono_ms now)
{
    const struct head *head;
    struct stored *s;

    assert(o->key_url_n <= o->key.n && o->ntags <= TAGS_MAX);
    if (o->fields.n > STORED_FIELDS_MAX)
        return NULL;
    head = head_acquire(t, o, now);
    if (head == NULL)
        return NULL;
    s = create_with(t, o, head, chunked, capacity, now);
    if (s == NULL)
        head_release(head);
    return s;
}

struct stored *stored_create(struct store_thread *t, const struct stored_options *options, struct mono_ms now)
{
    int64_t length = options->content_length;
    bool chunked =
        !is_marker(options) && (length < 0 || length > STORED_INLINE_MAX || (options->no_body && length > 0));

    return create(t, options, chunked, chunked || is_marker(options) ? 0 : (size_t)length, now);
}

static char *inline_body(const struct stored *s)
{
    return (char *)s + s->body;
}

/* Into the new one's own memory. */
static void body_copy(struct stored *s, const struct stored *old, uint64_t length)
{
    if (!old->chunked) {
        memcpy(inline_body(s), inline_body(old), length);
        return;
    }
    for (const struct chunk *c = stored_chunks(old)->first; c != NULL && c->start < length; c = c->next) {
        uint64_t n = length - c->start < c->capacity ? length - c->start : c->capacity;

        memcpy(inline_body(s) + c->start, c->data, n);
    }
}

/* Chunks stay the first owner's: in a row of validations nobody but the newest and that one lives on. */
static void body_share(struct stored *s, struct stored *old, uint64_t length)
{
    struct stored *owner = stored_chunks(old)->body_of != NULL ? stored_chunks(old)->body_of : old;
    struct stored_chunks *body = stored_chunks(s);

    body->first = stored_chunks(owner)->first;
    body->last = NULL;
    body->body_of = stored_retain(owner);
    body->content_length = (int64_t)length;
    atomic_store_explicit(&stored_chunks(owner)->lent, true, memory_order_release);
    atomic_store_explicit(&body->length, length, memory_order_release);
}

struct stored *stored_create_freshened(struct store_thread *t, const struct stored_options *options, struct stored *old,
                                       struct mono_ms now)
{
    uint64_t length = stored_length(old);
    bool copied = length <= STORED_INLINE_MAX;
    struct stored *s;

    if (stored_body_state(old) != BODY_COMPLETE || old->discarded)
        return NULL;
    s = create(t, options, !copied, copied ? (size_t)length : 0, now);
    if (s == NULL)
        return NULL;
    if (copied) {
        body_copy(s, old, length);
        atomic_store_explicit(&s->length, (uint16_t)length, memory_order_release);
    } else
        body_share(s, old, length);
    stored_finish_body(s, BODY_COMPLETE);
    return s;
}

bool stored_freeze(struct stored *s)
{
    uint32_t one = 1;

    return atomic_compare_exchange_strong_explicit(&s->refs, &one, 1 | REFS_FROZEN, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

void stored_thaw(struct stored *s)
{
    atomic_fetch_and_explicit(&s->refs, ~REFS_FROZEN, memory_order_release);
}

/* Those that are its own. */
static void chunks_move(struct stored *from, struct stored *to)
{
    struct stored_chunks *body = stored_chunks(to);

    if (body->body_of != NULL)
        return;
    if (body->first == &stored_chunks(from)->start)
        body->first = &body->start;
    for (struct chunk *c = body->first; c != NULL; c = c->next)
        c->owner = to;
}

void stored_move(struct stored *from, struct stored *to)
{
    const size_t after_refs = offsetof(struct stored, refs) + sizeof from->refs;

    /* all but its references, which lookups count up and down for a moment still */
    memcpy(to, from, offsetof(struct stored, refs));
    atomic_init(&to->refs, 1);
    memcpy((char *)to + after_refs, (const char *)from + after_refs, stored_bytes(from) - after_refs);
    for (size_t i = 0; i < to->ntags; i++)
        stored_tags(to)[i].owner = to;
    if (to->chunked)
        chunks_move(from, to);
    forms_move(to);
}

size_t stored_move_chunk(struct stored *s, const struct chunk *from, void *room)
{
    struct stored_chunks *body = stored_chunks(s);
    struct chunk *before = s->chunked && body->body_of == NULL ? body->first : NULL, *to = room;

    while (before != NULL && before->next != from)
        before = before->next;
    if (before == NULL)
        return 0;
    memcpy(to, from, sizeof *from + from->capacity);
    before->next = to;
    return sizeof *from + from->capacity;
}

struct stored *stored_retain(struct stored *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

static void chunk_free(struct chunk *c)
{
    struct stored *s = c->owner;
    struct stored_chunks *body = stored_chunks(s);
    uint64_t length = stored_length(s), rest = length > c->start ? length - c->start : 0;
    size_t bytes = sizeof *c + c->capacity;

    atomic_fetch_add_explicit(&body->gone, rest < c->capacity ? rest : c->capacity, memory_order_relaxed);
    atomic_fetch_sub_explicit(&body->charged, budget_cost(s->head->store, c, bytes), memory_order_relaxed);
    budget_free(s->head->store, c, bytes);
}

/* In the stored's own memory: lives as long as that. */
static bool is_embedded(const struct chunk *c)
{
    return c == &stored_chunks(c->owner)->start;
}

static void chunk_retain(struct chunk *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
}

static void chunk_release(struct chunk *c)
{
    while (c != NULL && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1) {
        struct chunk *next = c->next;

        if (!is_embedded(c))
            chunk_free(c);
        c = next;
    }
}

/* Returns whose body it was, if not its own. */
static struct stored *chunks_end(struct stored_chunks *body)
{
    chunk_release(body->last);
    if (body->body_of == NULL)
        chunk_release(body->first);
    return body->body_of;
}

static void destroy(struct stored *s)
{
    const struct head *head = s->head;
    struct stored *body_of = s->chunked ? chunks_end(stored_chunks(s)) : NULL;

    if (s->place == PLACE_LEFT)
        budget_return_lingering(head->store, s->lingering);
    forms_destroy(s);
    budget_free(head->store, s, stored_bytes(s));
    head_release(head);
    stored_release(body_of);
}

void stored_release(struct stored *s)
{
    if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        destroy(s);
}

/* The largest power of two that the bytes fill, or the next if they nearly fill that: allocators keep few sizes of
 * large blocks in better order than many. What is left at the end has its own size. */
static size_t block_for(uint64_t bytes)
{
    size_t block = STORED_CHUNK_MAX;

    if (bytes <= CHUNK_MIN)
        return align((size_t)bytes);
    while (block - block / 8 > bytes)
        block /= 2;
    return block;
}

/* Data bytes of the next chunk, for a body that has come as far as `start` with `wanted` more at hand. */
static size_t chunk_capacity(const struct stored *s, uint64_t start, size_t wanted)
{
    int64_t length = stored_content_length(s);
    uint64_t rest = (uint64_t)length - start;
    size_t block = CHUNK_MIN;

    if (length >= 0 && (!s->discarded || rest < PASSED_CHUNK_MAX - sizeof(struct chunk)))
        return block_for(rest + sizeof(struct chunk)) - sizeof(struct chunk);
    if (start == 0 && wanted < CHUNK_MIN - sizeof(struct chunk))
        return block_for(wanted + sizeof(struct chunk)) - sizeof(struct chunk);
    /* As much again as there is. */
    while (block < (s->discarded ? PASSED_CHUNK_MAX : STORED_CHUNK_MAX) && (block < start || block < wanted))
        block *= 2;
    return block - sizeof(struct chunk);
}

static struct chunk *chunk_create(struct store_thread *t, struct stored *s, uint64_t start, size_t wanted,
                                  struct mono_ms now)
{
    size_t capacity = chunk_capacity(s, start, wanted), bytes = sizeof(struct chunk) + capacity;
    struct chunk *c = budget_alloc(t, SLAB_CHUNKS, bytes, now);

    /* What is passed through has to get on, even if others fill the budget with what their clients do not read. Who
     * has read everything still holds the last chunk. */
    if (c == NULL && s->discarded && stored_body_bytes(s) <= STORED_CHUNK_MAX)
        c = budget_alloc_over(t, SLAB_CHUNKS, bytes);
    if (c == NULL)
        return NULL;
    atomic_init(&c->refs, 1);
    c->capacity = (uint32_t)capacity;
    c->start = start;
    c->next = NULL;
    c->owner = s;
    c->owner_hash = s->hash;
    atomic_fetch_add_explicit(&stored_chunks(s)->charged, budget_cost(s->head->store, c, bytes), memory_order_relaxed);
    return c;
}

/* A row of chunks for `bytes` more from `start` on. */
static struct chunk *chunks_create(struct store_thread *t, struct stored *s, uint64_t start, size_t bytes,
                                   struct mono_ms now)
{
    struct chunk *first = NULL, **end = &first;

    while (bytes > 0) {
        struct chunk *c = chunk_create(t, s, start, bytes, now);

        if (c == NULL) {
            chunk_release(first);
            return NULL;
        }
        *end = c;
        end = &c->next;
        start += c->capacity;
        bytes -= bytes < c->capacity ? bytes : c->capacity;
    }
    return first;
}

static size_t chunk_write(struct chunk *c, uint64_t at, struct bytes piece)
{
    uint64_t room = c->start + c->capacity - at;
    size_t n = piece.n < room ? piece.n : (size_t)room;

    if (n > 0)
        memcpy(c->data + (at - c->start), piece.p, n);
    return n;
}

static void builder_move(struct stored_chunks *body, struct chunk *to)
{
    struct chunk *from = body->last;

    if (to == from)
        return;
    chunk_retain(to);
    body->last = to;
    chunk_release(from);
}

static bool append_inline(struct stored *s, struct bytes piece)
{
    uint16_t length = atomic_load_explicit(&s->length, memory_order_relaxed);

    if (piece.n > (size_t)(s->capacity - length))
        return false;
    memcpy(inline_body(s) + length, piece.p, piece.n);
    atomic_store_explicit(&s->length, (uint16_t)(length + piece.n), memory_order_release);
    return true;
}

static bool append_chunked(struct store_thread *t, struct stored *s, struct bytes piece, struct mono_ms now)
{
    struct stored_chunks *body = stored_chunks(s);
    uint64_t length = atomic_load_explicit(&body->length, memory_order_relaxed);
    struct chunk *c = body->last;

    if (c == NULL || (body->content_length >= 0 && piece.n > (uint64_t)body->content_length - length))
        return false;
    uint64_t room = c->start + c->capacity - length;

    if (piece.n > room) {
        struct chunk *more = chunks_create(t, s, length + room, piece.n - (size_t)room, now);

        if (more == NULL)
            return false;
        c->next = more;
    }
    for (;;) {
        size_t n = chunk_write(c, length, piece);

        length += n;
        piece.p += n;
        piece.n -= n;
        if (piece.n == 0)
            break;
        c = c->next;
    }
    atomic_store_explicit(&body->length, length, memory_order_release);
    builder_move(body, c);
    return true;
}

bool stored_append(struct store_thread *t, struct stored *s, struct bytes piece, struct mono_ms now)
{
    if (piece.n == 0)
        return true;
    return s->chunked ? append_chunked(t, s, piece, now) : append_inline(s, piece);
}

void stored_finish_body(struct stored *s, enum body_state state)
{
    struct chunk *last = NULL;

    assert(state != BODY_OPEN && stored_body_state(s) == BODY_OPEN);
    if (s->chunked) {
        last = stored_chunks(s)->last;
        stored_chunks(s)->last = NULL;
    }
    atomic_store_explicit(&s->body_state, (uint8_t)state, memory_order_release);
    chunk_release(last);
}

void stored_discard_body(struct stored *s)
{
    struct chunk *first;

    s->discarded = true;
    /* Readers of a complete body hold no references to its chunks. */
    if (!s->chunked || stored_body_state(s) == BODY_COMPLETE)
        return;
    first = stored_chunks(s)->first;
    stored_chunks(s)->first = NULL;
    chunk_release(first);
}

size_t stored_body_bytes(const struct stored *s)
{
    uint64_t gone = s->chunked ? atomic_load_explicit(&stored_chunks(s)->gone, memory_order_relaxed) : 0;
    uint64_t length = stored_length(s);

    return length > gone ? (size_t)(length - gone) : 0;
}

bool stored_reader_start(struct stored_reader *r, struct stored *s)
{
    if (s->discarded)
        return false;
    *r = (struct stored_reader){.s = s, .chunk = s->chunked ? stored_chunks(s)->first : NULL};
    r->counts = r->chunk != NULL && stored_body_state(s) != BODY_COMPLETE;
    if (r->counts)
        chunk_retain(r->chunk);
    return true;
}

/* On to the chunk that holds the position, as far as chunks are published. */
static void reader_settle(struct stored_reader *r, uint64_t length)
{
    struct chunk *c = r->chunk;

    while (c != NULL && r->position >= c->start + c->capacity && length > c->start + c->capacity) {
        struct chunk *next = c->next;

        if (r->counts) {
            chunk_retain(next);
            chunk_release(c);
        }
        r->chunk = c = next;
    }
}

static size_t peek_inline(const struct stored_reader *r, size_t length, struct bytes *runs, size_t n, size_t max_bytes)
{
    size_t rest = length - (size_t)r->position, bytes = rest < max_bytes ? rest : max_bytes;

    if (n == 0 || bytes == 0)
        return 0;
    runs[0] = (struct bytes){inline_body(r->s) + r->position, bytes};
    return 1;
}

size_t stored_reader_peek(struct stored_reader *r, struct bytes *runs, size_t n, size_t max_bytes)
{
    uint64_t length = stored_length(r->s), at = r->position;
    struct chunk *c;
    size_t count = 0;

    if (!r->s->chunked)
        return peek_inline(r, (size_t)length, runs, n, max_bytes);
    reader_settle(r, length);
    c = r->chunk;
    while (count < n && max_bytes > 0 && at < length) {
        if (at == c->start + c->capacity)
            c = c->next;
        uint64_t end = c->start + c->capacity < length ? c->start + c->capacity : length;
        size_t bytes = end - at < max_bytes ? (size_t)(end - at) : max_bytes;

        runs[count++] = (struct bytes){c->data + (at - c->start), bytes};
        at += bytes;
        max_bytes -= bytes;
    }
    return count;
}

void stored_reader_advance(struct stored_reader *r, size_t bytes)
{
    uint64_t length = stored_length(r->s);

    assert(bytes <= length - r->position);
    r->position += bytes;
    reader_settle(r, length);
}

void stored_reader_stop(struct stored_reader *r)
{
    if (r->counts)
        chunk_release(r->chunk);
    *r = (struct stored_reader){0};
}
