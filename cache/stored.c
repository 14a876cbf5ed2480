#include "cache/stored.h"

#include <assert.h>
#include <string.h>

#include "cache/alloc.h"
#include "cache/budget.h"
#include "cache/hash.h"
#include "cache/store.h"
#include "cache/tag.h"

enum { CHUNK_MIN = 4 * 1024, PASSED_CHUNK_MAX = 64 * 1024, ALIGNMENT = 16 };

/* One allocation: the struct, the texts, the tags, the caller's prepared room, the fields' table, a chunk. */
struct layout {
    size_t texts, prepared, fields, chunk, total;
    bool has_chunk;
    size_t capacity; /* the chunk's */
};

static size_t align(size_t n)
{
    return (n + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

/* The sender's spelling takes room only where it is another. */
static bool has_own_spelling(const struct field *f)
{
    return f->orig_name != NULL && f->name.n > 0 && memcmp(f->orig_name, f->name.p, f->name.n) != 0;
}

static struct layout layout_of(const struct stored_options *o, bool has_chunk, size_t capacity)
{
    struct layout l = {.has_chunk = has_chunk, .capacity = capacity};

    l.texts = sizeof(struct stored);
    l.total = l.texts + o->key.n + o->spec.n;
    for (size_t i = 0; i < o->fields.n; i++) {
        const struct field *f = &o->fields.v[i];

        l.total += f->name.n + f->value.n + (has_own_spelling(f) ? f->name.n : 0);
    }
    l.prepared = align(l.total + o->ntags * sizeof(struct stored_tag));
    l.fields = l.prepared + align(o->prepared_bytes);
    l.chunk = l.fields + o->fields.n * sizeof(struct field);
    l.total = l.chunk + (has_chunk ? sizeof(struct chunk) + capacity : 0);
    return l;
}

static struct bytes text_put(char **to, struct bytes text)
{
    struct bytes copy = {*to, text.n};

    if (text.n > 0)
        memcpy(*to, text.p, text.n);
    *to += text.n;
    return copy;
}

static void fields_put(struct stored *s, struct fields from, struct field *to, char **texts)
{
    for (size_t i = 0; i < from.n; i++) {
        const struct field *f = &from.v[i];

        to[i].name = text_put(texts, f->name);
        to[i].value = text_put(texts, f->value);
        to[i].orig_name = f->orig_name == NULL ? NULL : to[i].name.p;
        if (has_own_spelling(f))
            to[i].orig_name = text_put(texts, (struct bytes){f->orig_name, f->name.n}).p;
    }
    s->fields = to;
    s->nfields = (uint32_t)from.n;
}

static void tags_put(struct stored *s, const struct stored_options *o)
{
    s->ntags = (uint16_t)o->ntags;
    for (size_t i = 0; i < o->ntags; i++)
        stored_tags(s)[i] = (struct stored_tag){.tag = o->tags[i], .owner = s};
}

void stored_tags_merge(const struct stored *s, struct tags *to)
{
    for (size_t i = 0; i < s->ntags; i++)
        tags_add_hash(to, stored_tags(s)[i].tag);
}

/* The references are the stored's own and the builder's. */
static void chunk_embed(struct stored *s, struct chunk *c, size_t capacity)
{
    atomic_init(&c->refs, 2);
    c->capacity = (uint32_t)capacity;
    c->start = 0;
    c->next = NULL;
    c->owner = s;
    c->embedded = true;
    s->first = s->last = c;
}

static void head_fill(struct stored *s, struct store *store, const struct stored_options *o, const struct layout *l)
{
    char *base = (char *)s, *texts = base + l->texts;

    memset(s, 0, sizeof *s);
    s->hash = o->hash;
    s->key = text_put(&texts, o->key);
    s->key_url_n = (uint32_t)o->key_url_n;
    s->url_hash = url_hash_of(store, (struct bytes){s->key.p, s->key_url_n});
    s->spec = text_put(&texts, o->spec);
    fields_put(s, o->fields, (struct field *)(void *)(base + l->fields), &texts);
    s->prepared = base + l->prepared;
    s->prepared_bytes = (uint32_t)o->prepared_bytes;
    memset(s->prepared, 0, o->prepared_bytes);
    tags_put(s, o);
    s->kind = o->kind;
    s->status = o->status;
    s->user_scope = o->user_scope;
    s->with_authorization = o->with_authorization;
    s->with_cookie = o->with_cookie;
    s->lifetimes = o->lifetimes;
    s->response_time = o->response_time;
    s->useful_ms = o->useful_ms;
    s->born = o->born;
    s->content_length = o->content_length;
    s->store = store;
    atomic_init(&s->refs, 1);
    atomic_init(&s->body_state, BODY_OPEN);
    if (l->has_chunk)
        chunk_embed(s, (struct chunk *)(void *)(base + l->chunk), l->capacity);
}

static struct stored *create(struct store_thread *t, const struct stored_options *o, bool has_chunk, size_t capacity,
                             struct mono_ms now)
{
    struct layout l = layout_of(o, has_chunk, capacity);
    struct stored *s;
    size_t cost;

    assert(o->key_url_n <= o->key.n && o->ntags <= TAGS_MAX);
    if (o->key.n > UINT32_MAX || o->prepared_bytes > UINT32_MAX || o->fields.n > UINT32_MAX)
        return NULL;
    s = budget_alloc(t, l.total, now, &cost);
    if (s == NULL)
        return NULL;
    head_fill(s, budget_store(t), o, &l);
    atomic_init(&s->charged, cost);
    return s;
}

struct stored *stored_create(struct store_thread *t, const struct stored_options *options, struct mono_ms now)
{
    bool body = options->kind == STORED_RESPONSE && options->content_length != 0;
    /* Where the length is not known, or large, the embedded chunk is empty: readers have a place to start from before
     * anything has come. */
    bool inlined = body && options->content_length > 0 && options->content_length <= STORED_INLINE_MAX;

    return create(t, options, body, inlined ? (size_t)options->content_length : 0, now);
}

/* A body that was copied, into the embedded chunk. */
static void body_copy(struct stored *s, const struct chunk *from, uint64_t length)
{
    for (const struct chunk *c = from; c != NULL && c->start < length; c = c->next) {
        uint64_t n = length - c->start < c->capacity ? length - c->start : c->capacity;

        memcpy(s->first->data + c->start, c->data, n);
    }
}

/* Chunks stay the first owner's: in a row of validations nobody but the newest and that one lives on. */
static void body_share(struct stored *s, struct stored *old)
{
    struct stored *owner = old->body_of != NULL ? old->body_of : old;

    s->first = owner->first;
    s->body_of = stored_retain(owner);
    atomic_store_explicit(&owner->lent, true, memory_order_release);
}

struct stored *stored_create_freshened(struct store_thread *t, const struct stored_options *options, struct stored *old,
                                       struct mono_ms now)
{
    uint64_t length = stored_length(old);
    bool copied = length > 0 && length <= STORED_INLINE_MAX;
    struct stored *s;

    if (stored_body_state(old) != BODY_COMPLETE || old->discarded)
        return NULL;
    s = create(t, options, copied, copied ? (size_t)length : 0, now);
    if (s == NULL)
        return NULL;
    s->content_length = (int64_t)length;
    if (copied)
        body_copy(s, old->first, length);
    else if (length > 0)
        body_share(s, old);
    atomic_store_explicit(&s->length, length, memory_order_release);
    stored_finish_body(s, BODY_COMPLETE);
    return s;
}

struct stored *stored_retain(struct stored *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

static void chunk_free(struct chunk *c)
{
    struct stored *s = c->owner;
    uint64_t length = stored_length(s), rest = length > c->start ? length - c->start : 0;
    size_t cost = alloc_cost(c);

    atomic_fetch_add_explicit(&s->gone, rest < c->capacity ? rest : c->capacity, memory_order_relaxed);
    atomic_fetch_sub_explicit(&s->charged, cost, memory_order_relaxed);
    alloc_free(c);
    budget_return(s->store, cost);
}

static void chunk_retain(struct chunk *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
}

static void chunk_release(struct chunk *c)
{
    while (c != NULL && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1) {
        struct chunk *next = c->next;

        if (!c->embedded)
            chunk_free(c);
        c = next;
    }
}

static void destroy(struct stored *s)
{
    struct stored *body_of = s->body_of;
    size_t cost = alloc_cost(s);

    chunk_release(s->last);
    if (body_of == NULL)
        chunk_release(s->first);
    budget_return_lingering(s->store, s->lingering);
    budget_return(s->store, cost);
    alloc_free(s);
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
    uint64_t rest = (uint64_t)s->content_length - start;
    size_t block = CHUNK_MIN;

    if (s->content_length >= 0 && (!s->discarded || rest < PASSED_CHUNK_MAX - sizeof(struct chunk)))
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
    size_t capacity = chunk_capacity(s, start, wanted), cost;
    struct chunk *c = budget_alloc(t, sizeof *c + capacity, now, &cost);

    /* What is passed through has to get on, even if others fill the budget with what their clients do not read. Who
     * has read everything still holds the last chunk. */
    if (c == NULL && s->discarded && stored_body_bytes(s) <= STORED_CHUNK_MAX)
        c = budget_alloc_over(t, sizeof *c + capacity, &cost);
    if (c == NULL)
        return NULL;
    atomic_init(&c->refs, 1);
    c->capacity = (uint32_t)capacity;
    c->start = start;
    c->next = NULL;
    c->owner = s;
    c->embedded = false;
    atomic_fetch_add_explicit(&s->charged, cost, memory_order_relaxed);
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

static void builder_move(struct stored *s, struct chunk *to)
{
    struct chunk *from = s->last;

    if (to == from)
        return;
    chunk_retain(to);
    s->last = to;
    chunk_release(from);
}

bool stored_append(struct store_thread *t, struct stored *s, struct bytes piece, struct mono_ms now)
{
    uint64_t length = atomic_load_explicit(&s->length, memory_order_relaxed);
    struct chunk *c = s->last;

    if (piece.n == 0)
        return true;
    if (c == NULL || (s->content_length >= 0 && piece.n > (uint64_t)s->content_length - length))
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
    atomic_store_explicit(&s->length, length, memory_order_release);
    builder_move(s, c);
    return true;
}

void stored_finish_body(struct stored *s, enum body_state state)
{
    struct chunk *last = s->last;

    assert(state != BODY_OPEN && stored_body_state(s) == BODY_OPEN);
    s->last = NULL;
    atomic_store_explicit(&s->body_state, state, memory_order_release);
    chunk_release(last);
}

void stored_discard_body(struct stored *s)
{
    struct chunk *first = s->first;

    s->discarded = true;
    /* Readers of a complete body hold no references to its chunks. */
    if (stored_body_state(s) == BODY_COMPLETE)
        return;
    s->first = NULL;
    chunk_release(first);
}

size_t stored_body_bytes(const struct stored *s)
{
    uint64_t gone = atomic_load_explicit(&((struct stored *)s)->gone, memory_order_relaxed);
    uint64_t length = stored_length(s);

    return length > gone ? (size_t)(length - gone) : 0;
}

bool stored_reader_start(struct stored_reader *r, struct stored *s)
{
    if (s->discarded)
        return false;
    *r = (struct stored_reader){.s = s, .chunk = s->first};
    r->counts = s->first != NULL && stored_body_state(s) != BODY_COMPLETE;
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

size_t stored_reader_peek(struct stored_reader *r, struct bytes *runs, size_t n, size_t max_bytes)
{
    uint64_t length = stored_length(r->s), at = r->position;
    struct chunk *c;
    size_t count = 0;

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
