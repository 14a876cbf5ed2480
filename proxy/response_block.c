/*
 * Response heads on HTTP/2, in the place of libh2o's function of this name. That one puts every field into the dynamic
 * table and looks through up to 32 of them for each, where Age and Cache-Status, other ones every second, push out what
 * does not change: a sixth of all instructions of a hit. And it knows nothing of a client whose table is smaller than
 * 4096 bytes (RFC 7541 section 4.2, RFC 9113 section 4.3.1).
 *
 * Here a few fields go there that many responses of a connection have alike, Cache-Status for its name's sake, and the
 * rest stands as it is (RFC 7541 sections 6.1, 6.2.1, 6.2.2 and 6.2.3).
 *
 * Threads  Any thread; a connection's table belongs to the thread of the connection.
 */
#include <h2o.h>
#include <h2o/http2.h>
#include <h2o/http2_internal.h>
#include <stdbool.h>

enum {
    INT_BYTES_MAX = 6,      /* of an integer up to 2^32 (RFC 7541 section 5.1) */
    LENGTH_DIGITS_MAX = 20, /* of a size_t */
    STATUS_BYTES_MAX = 5,
    NEVER_INDEXED = 0x10,
    STATUS_INDEX = 8, /* of :status in the static table */
    CONTENT_LENGTH_INDEX = 28,
    DYNAMIC_INDEX = 62, /* of what came last into the dynamic table */
    INDEXED = 0x80,
    INSERTED = 0x40,
    SIZE_UPDATE = 0x20,
    ENTRY_OVERHEAD = 32, /* RFC 7541 section 4.1 */
    ENTRIES_MAX = 16,
    ENTRY_VALUE_MAX = 100,
    STATIC_NAMES = 62,
};

/* Fields that many responses of a connection have alike. */
enum common {
    COMMON_NONE,
    COMMON_CACHE_CONTROL,
    COMMON_CONTENT_TYPE,
    COMMON_DATE,
    COMMON_SERVER,
    COMMON_VIA,
    COMMON_CACHE_STATUS, /* for its name's sake, which is long and in no static table */
    COMMONS,
};

/* By the index of the name in the static table (RFC 7541 appendix A). */
static const uint8_t common_names[STATIC_NAMES] = {
    [24] = COMMON_CACHE_CONTROL, [31] = COMMON_CONTENT_TYPE, [33] = COMMON_DATE,
    [54] = COMMON_SERVER,        [60] = COMMON_VIA,
};

/* What the table's `entries` points to: libh2o gives it back in one piece. Entries are numbered from 1 as they come. */
struct entries {
    h2o_hpack_header_table_entry_t v[ENTRIES_MAX];
    uint64_t inserted;      /* the number of what came last */
    uint64_t last[COMMONS]; /* ... of what was last used of such a name; 0: none */
};

static uint8_t *put_int(uint8_t *p, uint8_t pattern, unsigned prefix_bits, size_t value)
{
    size_t most = ((size_t)1 << prefix_bits) - 1;

    if (value < most) {
        *p++ = (uint8_t)(pattern | value);
        return p;
    }
    *p++ = (uint8_t)(pattern | most);
    for (value -= most; value >= 128; value >>= 7)
        *p++ = (uint8_t)(0x80 | (value & 0x7f));
    *p++ = (uint8_t)value;
    return p;
}

static uint8_t *put_text(uint8_t *p, const char *text, size_t n)
{
    p = put_int(p, 0, 7, n);
    if (n > 0)
        memcpy(p, text, n);
    return p + n;
}

/* --- the dynamic table: libh2o's struct, which it disposes of with the connection --- */

static struct entries *entries_of(const h2o_hpack_header_table_t *t)
{
    return (struct entries *)(void *)t->entries;
}

static h2o_hpack_header_table_entry_t *entry_at(const h2o_hpack_header_table_t *t, size_t i)
{
    return t->entries + (t->entry_start_index + i) % ENTRIES_MAX;
}

/* Where in the table; no less than num_entries: it is not there any more, or never was. */
static size_t last_used(const h2o_hpack_header_table_t *t, enum common which)
{
    return t->num_entries > 0 ? entries_of(t)->inserted - entries_of(t)->last[which] : 0;
}

static void use(h2o_hpack_header_table_t *t, enum common which, size_t i)
{
    entries_of(t)->last[which] = entries_of(t)->inserted - i;
}

static size_t entry_bytes(const h2o_iovec_t *name, size_t value_n)
{
    return name->len + value_n + ENTRY_OVERHEAD;
}

static void drop_oldest(h2o_hpack_header_table_t *t)
{
    h2o_hpack_header_table_entry_t *e = entry_at(t, --t->num_entries);

    t->hpack_size -= entry_bytes(e->name, e->value->len);
    if (!h2o_iovec_is_token(e->name))
        h2o_mem_release_shared(e->name);
    h2o_mem_release_shared(e->value);
    memset(e, 0, sizeof *e);
}

/* A text as the table's entries hold it. */
static h2o_iovec_t *shared_text(const char *text, size_t n)
{
    h2o_iovec_t *copy = h2o_mem_alloc_shared(NULL, sizeof *copy + n, NULL);

    *copy = h2o_iovec_init((char *)(copy + 1), n);
    memcpy(copy->base, text, n);
    return copy;
}

/* False: it has no room there. */
static bool insert(h2o_hpack_header_table_t *t, h2o_iovec_t *name, const char *value, size_t n)
{
    size_t bytes = entry_bytes(name, n);

    if (bytes > t->hpack_capacity)
        return false;
    while (t->num_entries == ENTRIES_MAX || t->hpack_size + bytes > t->hpack_capacity)
        drop_oldest(t);
    if (t->entries == NULL) {
        struct entries *entries = h2o_mem_alloc(sizeof *entries);

        memset(entries, 0, sizeof *entries);
        t->entries = entries->v;
        t->entry_capacity = ENTRIES_MAX;
    }
    t->entry_start_index = (t->entry_start_index + ENTRIES_MAX - 1) % ENTRIES_MAX;
    t->num_entries++;
    entries_of(t)->inserted++;
    t->hpack_size += bytes;
    *entry_at(t, 0) = (h2o_hpack_header_table_entry_t){
        .name = h2o_iovec_is_token(name) ? name : shared_text(name->base, name->len), .value = shared_text(value, n)};
    return true;
}

/* The client may have made its table smaller, which is to be said before anything else. It is never made larger again:
 * what is in it fits. */
static uint8_t *put_size_update(uint8_t *p, h2o_hpack_header_table_t *t)
{
    h2o_http2_conn_t *conn = H2O_STRUCT_FROM_MEMBER(h2o_http2_conn_t, _output_header_table, t);
    size_t most = conn->peer_settings.header_table_size;

    if (most >= t->hpack_capacity)
        return p;
    t->hpack_capacity = most;
    while (t->hpack_size > most)
        drop_oldest(t);
    return put_int(p, SIZE_UPDATE, 5, most);
}

/* --- fields --- */

static size_t field_bytes_max(const h2o_iovec_t *name, size_t value_n)
{
    return name->len + value_n + 2 * INT_BYTES_MAX + 1;
}

/* NULL: a name that libh2o does not know. As h2o_iovec_is_token has it, which is a call for each field. */
static const h2o_token_t *token_of(const h2o_iovec_t *name)
{
    const h2o_token_t *token = H2O_STRUCT_FROM_MEMBER(h2o_token_t, buf, name);

    return token >= h2o__tokens && token < h2o__tokens + H2O_MAX_TOKENS ? token : NULL;
}

static uint8_t *put_unknown(uint8_t *p, const h2o_iovec_t *name, const char *value, size_t value_n)
{
    *p++ = 0;
    p = put_text(p, name->base, name->len);
    return put_text(p, value, value_n);
}

static uint8_t *put_known(uint8_t *p, const h2o_token_t *token, const char *value, size_t value_n)
{
    uint8_t pattern = token->dont_compress ? NEVER_INDEXED : 0;

    p = put_int(p, pattern, 4, (size_t)token->http2_static_table_name_index);
    if (token->http2_static_table_name_index == 0)
        p = put_text(p, token->buf.base, token->buf.len);
    return put_text(p, value, value_n);
}

static bool entry_is(const h2o_hpack_header_table_entry_t *e, const h2o_iovec_t *name, const char *value, size_t n)
{
    return e->name == name && e->value->len == n && memcmp(e->value->base, value, n) == 0;
}

static uint8_t *insert_common(uint8_t *p, h2o_hpack_header_table_t *t, enum common which, const h2o_token_t *token,
                              const char *value, size_t n)
{
    if (n > ENTRY_VALUE_MAX || !insert(t, (h2o_iovec_t *)&token->buf, value, n))
        return put_known(p, token, value, n);
    use(t, which, 0);
    p = put_int(p, INSERTED, 6, (size_t)token->http2_static_table_name_index);
    return put_text(p, value, n);
}

/* It is where it was the last time, or anywhere in the table, or has yet to come there. */
static inline uint8_t *put_common(uint8_t *p, h2o_hpack_header_table_t *t, enum common which, const h2o_token_t *token,
                                  const char *value, size_t n)
{
    size_t i = last_used(t, which);

    if (i >= t->num_entries || !entry_is(entry_at(t, i), &token->buf, value, n)) {
        for (i = 0; i < t->num_entries && !entry_is(entry_at(t, i), &token->buf, value, n); i++)
            ;
        if (i == t->num_entries)
            return insert_common(p, t, which, token, value, n);
        use(t, which, i);
    }
    return put_int(p, INDEXED, 7, DYNAMIC_INDEX + i);
}

static bool is_cache_status(const h2o_iovec_t *name)
{
    static const char text[] = "cache-status";

    return name->len == sizeof text - 1 && memcmp(name->base, text, sizeof text - 1) == 0;
}

static uint8_t *put_cache_status(uint8_t *p, h2o_hpack_header_table_t *t, h2o_iovec_t *name, const char *value,
                                 size_t n)
{
    size_t i = last_used(t, COMMON_CACHE_STATUS);

    if (i < t->num_entries) {
        p = put_int(p, 0, 4, DYNAMIC_INDEX + i);
        return put_text(p, value, n);
    }
    if (n > ENTRY_VALUE_MAX || !insert(t, name, value, n))
        return put_unknown(p, name, value, n);
    use(t, COMMON_CACHE_STATUS, 0);
    *p++ = INSERTED;
    p = put_text(p, name->base, name->len);
    return put_text(p, value, n);
}

static inline uint8_t *put_header(uint8_t *p, h2o_hpack_header_table_t *t, const h2o_header_t *h)
{
    const h2o_token_t *token = token_of(h->name);
    const char *value = h->value.base;
    size_t n = h->value.len;

    if (token == NULL)
        return is_cache_status(h->name) ? put_cache_status(p, t, h->name, value, n) : put_unknown(p, h->name, value, n);
    enum common which = (enum common)common_names[(size_t)token->http2_static_table_name_index];

    return which != COMMON_NONE ? put_common(p, t, which, token, value, n) : put_known(p, token, value, n);
}

static uint8_t *put_status(uint8_t *p, int status)
{
    static const short indexed[] = {200, 204, 206, 304, 400, 404, 500};

    for (size_t i = 0; i < sizeof indexed / sizeof indexed[0]; i++)
        if (status == indexed[i]) {
            *p++ = (uint8_t)(0x80 | (STATUS_INDEX + i));
            return p;
        }
    p = put_int(p, 0, 4, STATUS_INDEX);
    *p++ = 3;
    *p++ = (uint8_t)('0' + status / 100);
    *p++ = (uint8_t)('0' + status / 10 % 10);
    *p++ = (uint8_t)('0' + status % 10);
    return p;
}

static uint8_t *put_content_length(uint8_t *p, size_t length)
{
    char digits[LENGTH_DIGITS_MAX], *end = digits + sizeof digits, *d = end;

    do {
        *--d = (char)('0' + length % 10);
        length /= 10;
    } while (length > 0);
    p = put_int(p, 0, 4, CONTENT_LENGTH_INDEX);
    return put_text(p, d, (size_t)(end - d));
}

static size_t block_bytes_max(const h2o_res_t *res, const h2o_iovec_t *server_name)
{
    size_t n = STATUS_BYTES_MAX + 3 * INT_BYTES_MAX + LENGTH_DIGITS_MAX;

    n += field_bytes_max(&H2O_TOKEN_SERVER->buf, server_name->len);
    n += field_bytes_max(&H2O_TOKEN_DATE->buf, H2O_TIMESTR_RFC1123_LEN);
    for (size_t i = 0; i < res->headers.size; i++)
        n += field_bytes_max(res->headers.entries[i].name, res->headers.entries[i].value.len);
    return n;
}

static void put_frame_header(h2o_buffer_t *buf, size_t at, size_t n, bool first, bool last, uint32_t stream_id)
{
    h2o_http2_encode_frame_header((uint8_t *)buf->bytes + at, n,
                                  first ? H2O_HTTP2_FRAME_TYPE_HEADERS : H2O_HTTP2_FRAME_TYPE_CONTINUATION,
                                  last ? H2O_HTTP2_FRAME_FLAG_END_HEADERS : 0, stream_id);
}

/* The block lies behind the room for one frame header; what a frame cannot hold follows in others (RFC 9113 section
 * 6.10). */
static void put_frames(h2o_buffer_t **buf, size_t at, uint32_t stream_id, size_t max_frame_size)
{
    size_t left = (*buf)->size - at - H2O_HTTP2_FRAME_HEADER_SIZE;

    for (bool first = true;; first = false) {
        bool last = left <= max_frame_size;

        put_frame_header(*buf, at, last ? left : max_frame_size, first, last, stream_id);
        if (last)
            return;
        at += H2O_HTTP2_FRAME_HEADER_SIZE + max_frame_size;
        left -= max_frame_size;
        h2o_buffer_reserve(buf, H2O_HTTP2_FRAME_HEADER_SIZE);
        memmove((*buf)->bytes + at + H2O_HTTP2_FRAME_HEADER_SIZE, (*buf)->bytes + at, left);
        (*buf)->size += H2O_HTTP2_FRAME_HEADER_SIZE;
    }
}

void h2o_hpack_flatten_response(h2o_buffer_t **buf, h2o_hpack_header_table_t *header_table, uint32_t stream_id,
                                size_t max_frame_size, h2o_res_t *res, h2o_timestamp_t *ts,
                                const h2o_iovec_t *server_name, size_t content_length)
{
    size_t at = (*buf)->size;
    h2o_iovec_t room = h2o_buffer_reserve(buf, H2O_HTTP2_FRAME_HEADER_SIZE + block_bytes_max(res, server_name));
    uint8_t *p = (uint8_t *)room.base + H2O_HTTP2_FRAME_HEADER_SIZE;

    p = put_size_update(p, header_table);
    p = put_status(p, res->status);
    if (server_name->len > 0)
        p = put_common(p, header_table, COMMON_SERVER, H2O_TOKEN_SERVER, server_name->base, server_name->len);
    p = put_common(p, header_table, COMMON_DATE, H2O_TOKEN_DATE, ts->str->rfc1123, H2O_TIMESTR_RFC1123_LEN);
    for (size_t i = 0; i < res->headers.size; i++)
        p = put_header(p, header_table, &res->headers.entries[i]);
    if (content_length != SIZE_MAX)
        p = put_content_length(p, content_length);
    (*buf)->size = (size_t)((char *)p - (*buf)->bytes);
    put_frames(buf, at, stream_id, max_frame_size);
}
