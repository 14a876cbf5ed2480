#include "proxy/interim.h"

#include <assert.h>
#include <stdio.h>

#include "policies/forward.h"
#include "proxy/respond.h"

/* Of one request. */
enum {
    RESPONSES_MAX = 32,
    BYTES_MAX = 64 * 1024,
    LINES_MAX = 96, /* the status line, Via and the empty line */
};

/* The beginning of the answer, until the interim responses are written. */
struct held {
    h2o_ostream_t super;
    h2o_req_t *req;
    bool waits;
    h2o_iovec_t *bufs;
    size_t n;
    h2o_send_state_t state;
    h2o_timestamp_string_t *date; /* what libh2o would have written at the time (see send_first in respond.c) */
};

struct interim {
    h2o_req_t *req;
    h2o_iovec_t texts[RESPONSES_MAX];
    size_t n, written, bytes;
    bool broken; /* the connection is */
    struct held *held;
};

static h2o_socket_t *socket_of(h2o_req_t *req)
{
    return req->conn->callbacks->get_socket(req->conn);
}

/* --- the answer that waits --- */

/* h2o_ostream_send_next puts off what is empty (see chunked.c). */
static void send_next(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t n, h2o_send_state_t state)
{
    if (n == 0 && h2o_send_state_is_in_progress(state))
        self->next->do_send(self->next, req, bufs, 0, state);
    else
        h2o_ostream_send_next(self, req, bufs, n, state);
}

static void hold(struct held *held, h2o_req_t *req, h2o_iovec_t *bufs, size_t n, h2o_send_state_t state)
{
    h2o_timestamp_t now;

    h2o_get_timestamp(req->conn->ctx, &req->pool, &now); /* the pool keeps it */
    held->date = now.str;
    held->bufs = h2o_mem_alloc_pool(&req->pool, n * sizeof *bufs);
    if (n > 0)
        memcpy(held->bufs, bufs, n * sizeof *bufs);
    held->n = n;
    held->state = state;
    held->waits = true;
}

static void send_or_hold(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t n, h2o_send_state_t state)
{
    struct held *held = (struct held *)self;

    assert(!held->waits); /* libh2o asks for more only when it has sent what it was given */
    if (*connection_interim(socket_of(req)) != NULL)
        hold(held, req, bufs, n, state);
    else
        send_next(self, req, bufs, n, state);
}

static void let_go(struct held *held)
{
    h2o_context_t *ctx = held->req->conn->ctx;

    held->waits = false;
    h2o_get_timestamp(ctx, NULL, NULL);
    h2o_timestamp_string_t *own = ctx->_timestamp_cache.value;

    ctx->_timestamp_cache.value = held->date;
    send_next(&held->super, held->req, held->bufs, held->n, held->state);
    ctx->_timestamp_cache.value = own;
}

static void setup(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct interim *in_air = req->version < 0x200 ? *connection_interim(socket_of(req)) : NULL;

    (void)self;
    if (in_air != NULL) {
        struct held *held = (struct held *)h2o_add_ostream(req, sizeof *held, slot);

        held->super.do_send = send_or_hold;
        held->req = req;
        held->waits = false;
        in_air->held = held;
        slot = &held->super.next;
    }
    h2o_setup_next_ostream(req, slot);
}

void interim_install(h2o_pathconf_t *path)
{
    h2o_create_filter(path, sizeof(h2o_filter_t))->on_setup_ostream = setup;
}

/* --- writing --- */

static void on_written(h2o_socket_t *sock, const char *err);

static void write_rest(struct interim *i)
{
    h2o_socket_t *sock = socket_of(i->req);
    h2o_iovec_t *begin = i->texts + i->written;
    size_t n = i->n - i->written;

    i->written = i->n;
    *connection_interim(sock) = i;
    h2o_socket_write(sock, begin, n, on_written);
}

/* On an error the answer finds out by itself, as any answer does whose client has gone. */
static void on_written(h2o_socket_t *sock, const char *err)
{
    struct interim **place = connection_interim(sock), *i = *place;

    *place = NULL;
    i->broken = err != NULL;
    if (!i->broken && i->written < i->n)
        write_rest(i);
    else if (i->held != NULL && i->held->waits)
        let_go(i->held);
}

/* --- what is written --- */

/* End-to-end fields (RFC 9110 section 7.6.1); Content-Length has no place in a 1xx (section 8.6). */
static bool passes(struct bytes name, struct fields all)
{
    return !forward_is_hop_by_hop(name, all) && !bytes_eq(name, BYTES_LIT("content-length"));
}

static size_t text_bytes_max(struct fields fields)
{
    size_t n = LINES_MAX;

    for (size_t i = 0; i < fields.n; i++)
        n += fields.v[i].name.n + fields.v[i].value.n + 4;
    return n;
}

static char *put(char *at, const char *text, size_t n)
{
    if (n > 0)
        memcpy(at, text, n);
    return at + n;
}

/* With a Via of our own (RFC 9110 section 7.6.3). */
static size_t put_head(char *out, int status, struct fields fields)
{
    char *at = out + snprintf(out, LINES_MAX, "HTTP/1.1 %d %s\r\n", status, status_reason(status));

    for (size_t i = 0; i < fields.n; i++) {
        const struct field *f = &fields.v[i];

        if (!passes(f->name, fields))
            continue;
        at = put(at, f->orig_name, f->name.n);
        at = put(at, ": ", 2);
        at = put(at, f->value.p, f->value.n);
        at = put(at, "\r\n", 2);
    }
    return (size_t)(put(at, H2O_STRLIT("Via: 1.1 weir\r\n\r\n")) - out);
}

static struct interim *interim_of(struct request *r)
{
    if (r->interim == NULL) {
        r->interim = h2o_mem_alloc_pool(&r->req->pool, sizeof *r->interim);
        *r->interim = (struct interim){.req = r->req};
    }
    return r->interim;
}

/* RFC 9110 section 15.2 has a proxy forward them, 103 (RFC 8297 section 2) among them, but none to HTTP/1.0. See the
 * header for 100 (section 10.1.1), and for HTTP/2, which goes without against that section. */
void interim_pass(struct request *r, int status, struct fields fields)
{
    if (status == 100 || r->req->version != 0x101)
        return;
    struct interim *i = interim_of(r);
    size_t bytes_max = text_bytes_max(fields);

    if (i->broken || i->n == RESPONSES_MAX || i->bytes + bytes_max > BYTES_MAX)
        return;
    i->bytes += bytes_max;
    h2o_iovec_t *text = &i->texts[i->n++];

    text->base = h2o_mem_alloc_pool(&r->req->pool, bytes_max);
    text->len = put_head(text->base, status, fields);
    if (!h2o_socket_is_writing(socket_of(r->req)))
        write_rest(i);
}
