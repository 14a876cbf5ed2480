/*
 * Response heads on HTTP/2, in the place of libh2o's function of this name. That one looks through up to 32 entries of
 * the dynamic table for each field, where Date, Age and Cache-Status, new every second, push out what does not change:
 * a sixth of all instructions of a hit. Here nothing is ever put into that table, as in nginx and HAProxy: a name of
 * the static table is its index, all else stands as it is (RFC 7541 sections 6.1, 6.2.2 and 6.2.3).
 *
 * Threads  Any thread.
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

static size_t field_bytes_max(const h2o_iovec_t *name, size_t value_n)
{
    return name->len + value_n + 2 * INT_BYTES_MAX + 1;
}

static uint8_t *put_field(uint8_t *p, const h2o_iovec_t *name, const char *value, size_t value_n)
{
    const h2o_token_t *token = h2o_iovec_is_token(name) ? H2O_STRUCT_FROM_MEMBER(h2o_token_t, buf, name) : NULL;
    uint8_t pattern = token != NULL && token->dont_compress ? NEVER_INDEXED : 0;

    if (token != NULL && token->http2_static_table_name_index != 0)
        p = put_int(p, pattern, 4, (size_t)token->http2_static_table_name_index);
    else {
        *p++ = pattern;
        p = put_text(p, name->base, name->len);
    }
    return put_text(p, value, value_n);
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
    size_t n = STATUS_BYTES_MAX + 2 * INT_BYTES_MAX + LENGTH_DIGITS_MAX;

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
    uint8_t *p = put_status((uint8_t *)room.base + H2O_HTTP2_FRAME_HEADER_SIZE, res->status);

    (void)header_table;
    if (server_name->len > 0)
        p = put_field(p, &H2O_TOKEN_SERVER->buf, server_name->base, server_name->len);
    p = put_field(p, &H2O_TOKEN_DATE->buf, ts->str->rfc1123, H2O_TIMESTR_RFC1123_LEN);
    for (size_t i = 0; i < res->headers.size; i++) {
        const h2o_header_t *h = &res->headers.entries[i];

        p = put_field(p, h->name, h->value.base, h->value.len);
    }
    if (content_length != SIZE_MAX)
        p = put_content_length(p, content_length);
    (*buf)->size = (size_t)((char *)p - (*buf)->bytes);
    put_frames(buf, at, stream_id, max_frame_size);
}
