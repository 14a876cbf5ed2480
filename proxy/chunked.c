/*
 * The transfer coding "chunked" (RFC 9112 section 7.1) towards HTTP/1.1 clients, and the one way to tell a client that
 * an answer without a length was cut short: no last chunk, or a reset.
 */
#include "proxy/connection.h"
#include "proxy/guard.h"

#include <alloca.h>

struct encoder {
    h2o_ostream_t super;
    char size_line[sizeof(size_t) * 2 + 3];
};

static size_t total(const h2o_iovec_t *bufs, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += bufs[i].len;
    return sum;
}

/* h2o_ostream_send_next puts off what is empty, and with it the head: a client of server-sent events waits for that. */
static void send_next(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t n, h2o_send_state_t state)
{
    if (n == 0 && h2o_send_state_is_in_progress(state))
        self->next->do_send(self->next, req, bufs, 0, state);
    else
        h2o_ostream_send_next(self, req, bufs, n, state);
}

static const h2o_iovec_t CHUNK_END = {H2O_STRLIT("\r\n")};
static const h2o_iovec_t LAST_CHUNK = {H2O_STRLIT("0\r\n\r\n")};
static const h2o_iovec_t CHUNK_END_AND_LAST = {H2O_STRLIT("\r\n0\r\n\r\n")};

static void send_chunk(h2o_ostream_t *super, h2o_req_t *req, h2o_iovec_t *bufs, size_t nbufs, h2o_send_state_t state)
{
    struct encoder *self = (struct encoder *)super;
    h2o_iovec_t *out = alloca(sizeof(*out) * (nbufs + 2));
    size_t n = 0, size = total(bufs, nbufs);
    bool final = state == H2O_SEND_STATE_FINAL;

    req->bytes_sent += size;
    if (size > 0) {
        int len = snprintf(self->size_line, sizeof(self->size_line), "%zx\r\n", size);
        out[n++] = h2o_iovec_init(self->size_line, (size_t)len);
        memcpy(out + n, bufs, sizeof(*bufs) * nbufs);
        n += nbufs;
    }
    if (state != H2O_SEND_STATE_ERROR && (size > 0 || final))
        out[n++] = size == 0 ? LAST_CHUNK : final ? CHUNK_END_AND_LAST : CHUNK_END;
    send_next(super, req, out, n, state);
}

/* The end of the connection is the end of the answer: a broken one must not end in a FIN. */
static void send_until_close(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t nbufs,
                             h2o_send_state_t state)
{
    if (state == H2O_SEND_STATE_ERROR)
        connection_break(req);
    send_next(self, req, bufs, nbufs, state);
}

static void setup_chunked(h2o_req_t *req, h2o_ostream_t **slot)
{
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_TRANSFER_ENCODING, "Transfer-Encoding",
                   H2O_STRLIT("chunked"));
    req->bytes_counted_by_ostream = 1; /* else libh2o counts the framing too */
    h2o_add_ostream(req, sizeof(struct encoder), slot)->do_send = send_chunk;
}

static void setup_until_close(h2o_req_t *req, h2o_ostream_t **slot)
{
    req->http1_is_persistent = 0;
    h2o_add_ostream(req, sizeof(h2o_ostream_t), slot)->do_send = send_until_close;
}

static bool has_content(h2o_req_t *req)
{
    return req->res.status >= 200 && req->res.status != 204 && req->res.status != 304 &&
           !h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));
}

static void setup(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    (void)self;
    if (req->version < 0x200 && req->res.content_length == SIZE_MAX && has_content(req)) {
        if (req->version == 0x101)
            setup_chunked(req, slot);
        else
            setup_until_close(req, slot);
        slot = &(*slot)->next;
    }
    h2o_setup_next_ostream(req, slot);
}

void chunked_install(h2o_pathconf_t *path)
{
    assert(path->filters.size == 1); /* libh2o's own chunked encoder */
    path->filters.entries[0]->on_setup_ostream = setup;
}
