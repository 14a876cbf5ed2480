#include "proxy/connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <h2o/http2.h>
#include <h2o/http2_internal.h>
#include <limits.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* glibc's struct tcp_info ends before the counts of bytes */
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "proxy/bind.h"

enum {
    SWEEP_MS = 250,
    CLOSE_SOON_MS = 1000,      /* for an answer to get out before an abusive HTTP/2 connection is closed */
    DRAIN_IDLE_MS = 1000,      /* for a first request on a connection accepted while draining */
    IDLE_GRACE_MS = 1000,      /* libh2o's own idle timeout goes first: it says GOAWAY */
    UPLOAD_BYTES_PER_S = 256,  /* slower is not an upload but a way to hold a connection */
    UPLOAD_FIELDS_MAX = 1024,  /* of a request that has not come to the handler yet */
    SLACK_BYTES = 128 * 1024,  /* what libh2o may hold of HTTP/2 output beyond the kernel's queue */
    BODY_MARGIN = 1024 * 1024, /* see connections_configure */
    YEAR_S = 365 * 24 * 3600,
};

enum phase {
    OPENING, /* nothing but a TLS handshake or part of an HTTP/2 preface has come yet */
    HTTP1_IDLE,
    HTTP1_HEAD,
    HTTP1_UPLOAD,
    HTTP1_ANSWER,
    HTTP2
};

struct connection {
    h2o_linklist_t link; /* of connections.list */
    struct connections *all;
    h2o_socket_t *sock;
    SSL_CTX *tls; /* a reference: libh2o makes the SSL only when the first byte comes, from the bare pointer */
    struct interim *interim;
    struct authority_memo authority;
    char peer[INET6_ADDRSTRLEN]; /* connection_peer's text, once somebody has asked */
    bool tcp, http2;
    bool is_new;    /* no request has come yet */
    bool ended;     /* shut down: libh2o is about to notice */
    bool read_shut; /* by the drain: no more requests are read */
    bool closing;   /* to be shut down when its answers are out, or at close_due_ms */
    unsigned active, waiting;

    int64_t opened_ms; /* accepted, or out of the handshake */
    int64_t idle_ms;   /* since when no request has begun or ended */
    int64_t close_due_ms;
    unsigned resets;
    int64_t resets_ms; /* when the first of them came */

    /* found by each sweep */
    unsigned seen1, seen2; /* the sweep in which libh2o listed it as HTTP/1; as HTTP/2 with streams */
    enum phase phase;
    uint64_t sent;    /* content, over all its streams */
    uint64_t input;   /* HTTP/1: bytes that wait to be a request */
    unsigned uploads; /* HTTP/2: streams whose content has not come completely */
    bool too_many_fields;
    bool open_block;            /* HTTP/2: a header block waits for its CONTINUATION */
    int64_t head_ms;            /* when the first byte of a head was seen */
    unsigned begun, head_begun; /* requests so far, and when that head was seen */

    /* the client takes what it is sent */
    int64_t taken_ms, taken_look_ms;
    uint64_t taken_acked, taken_sent, taken_until;
    unsigned answered, taken_answered;

    /* the client sends what it announced; upload_begin_ms 0: no upload */
    int64_t upload_begin_ms, upload_moved_ms;
    uint64_t upload_begin, upload_bytes;
};

struct connections {
    struct loop *loop;
    h2o_context_t *ctx;
    _Atomic unsigned *open_total;
    h2o_linklist_t list;
    unsigned n;
    struct timer sweep;
    unsigned round;
    bool draining;
    int64_t drain_ms;

    unsigned connections_max, h2_resets;
    int64_t header_timeout_ms, idle_timeout_ms, h2_resets_ms;
};

static int64_t now_ms(const struct connections *all)
{
    return loop_now(all->loop).ms;
}

/* Sockets */

static void tell(h2o_socket_t *sock, const char *answer)
{
    ssize_t n = send(h2o_socket_get_fd(sock), answer, strlen(answer), MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)n; /* who does not get it learns as much from the close */
}

/* libh2o finds a shut down socket readable (end of file) and its writes failing, and closes it. */
static void end(struct connection *c)
{
    c->ended = true;
    shutdown(h2o_socket_get_fd(c->sock), SHUT_RDWR);
}

static void end_with_408(struct connection *c)
{
    if (c->sock->ssl == NULL && !h2o_socket_is_writing(c->sock))
        tell(c->sock, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    end(c);
}

/* Disconnecting from AF_UNSPEC is the one way to send a reset at once: with SO_LINGER it would come at close(2), after
 * libh2o has said close_notify on TLS. A unix socket knows no reset. */
static void abort_socket(h2o_socket_t *sock)
{
    int fd = h2o_socket_get_fd(sock);
    struct sockaddr unspec = {.sa_family = AF_UNSPEC};
    struct linger linger = {1, 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    if (connect(fd, &unspec, sizeof(unspec)) != 0)
        shutdown(fd, SHUT_RDWR);
}

/* The kernel gives up on a peer that takes nothing even where nobody here waits for it any more. */
static void set_tcp_options(const struct connections *all, int fd)
{
    int on = 1;
    unsigned ms = all->idle_timeout_ms > INT_MAX ? INT_MAX : (unsigned)all->idle_timeout_ms;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

struct kernel_counts {
    uint64_t acked, received, queued;
};

static void ask_kernel(const struct connection *c, struct kernel_counts *out)
{
    int fd = h2o_socket_get_fd(c->sock), queued = 0;
    struct tcp_info info = {0};
    socklen_t n = sizeof(info);

    ioctl(fd, SIOCOUTQ, &queued);
    out->queued = queued < 0 ? 0 : (uint64_t)queued;
    if (c->tcp && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) == 0) {
        out->acked = info.tcpi_bytes_acked;
        out->received = info.tcpi_bytes_received;
        return;
    }
    /* A unix socket counts only what is queued: any change of it is taken for progress. */
    out->acked = c->sock->bytes_written - out->queued;
    out->received = 0;
}

/* The sweep: what libh2o says of its connections */

static struct connection *of_socket(h2o_socket_t *sock)
{
    return sock == NULL ? NULL : sock->on_close.data;
}

static int look_at_http1(h2o_req_t *req, void *data)
{
    struct connections *all = data;
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);
    struct connection *c = of_socket(sock);

    if (c == NULL)
        return 0;
    c->seen1 = all->round;
    c->input = sock->input->size;
    c->sent = req->bytes_sent;
    if (req->pathconf != NULL)
        c->phase = HTTP1_ANSWER;
    else if (req->version != 0)
        c->phase = HTTP1_UPLOAD;
    else
        c->phase = c->input > 0 ? HTTP1_HEAD : HTTP1_IDLE;
    return 0;
}

static int look_at_http2(h2o_req_t *req, void *data)
{
    struct connections *all = data;
    struct connection *c = of_socket(req->conn->callbacks->get_socket(req->conn));

    if (c == NULL)
        return 0;
    if (c->seen2 != all->round) {
        c->seen2 = all->round;
        c->sent = 0;
        c->uploads = 0;
        c->too_many_fields = c->open_block = false;
    }
    c->sent += req->bytes_sent;
    /* Without a pathconf it has not come to the handler yet. A stream that a PRIORITY frame opened has no method. */
    if (req->pathconf == NULL && req->input.method.base != NULL && req->entity.base == NULL) {
        c->uploads++;
        c->too_many_fields |= req->headers.size > UPLOAD_FIELDS_MAX;
    }
    /* HEADERS have come, but not all of the block: they begin the request, and its end gives the method. */
    c->open_block |= req->input.method.base == NULL && req->timestamps.request_begin_at.tv_sec != 0;
    return 0;
}

static void find_phase(struct connection *c)
{
    unsigned round = c->all->round;

    if (c->seen2 != round) {
        c->uploads = 0;
        c->open_block = false;
    }
    if (c->seen1 == round)
        return;
    /* Not HTTP/1: libh2o's first bytes (above TLS) are HTTP/2's SETTINGS. */
    c->phase = c->http2 || c->sock->bytes_written > 0 ? HTTP2 : OPENING;
    if (c->seen2 != round)
        c->sent = 0;
}

/* Progress */

static void set_taken_until(struct connection *c, const struct kernel_counts *k)
{
    c->taken_until = k->acked + k->queued + (h2o_socket_is_writing(c->sock) ? SLACK_BYTES : 0);
}

static void begin_taking(struct connection *c, int64_t now)
{
    struct kernel_counts k;

    ask_kernel(c, &k);
    c->taken_ms = c->taken_look_ms = now;
    c->taken_acked = k.acked;
    c->taken_sent = c->sent;
    c->taken_answered = c->answered;
    set_taken_until(c, &k);
}

static int64_t look_every_ms(const struct connections *all)
{
    int64_t ms = all->idle_timeout_ms / 8;
    return ms < SWEEP_MS ? 0 : ms;
}

/* HTTP/2 has chatter (answers to PING and SETTINGS) that a client may take while it takes no content: what the kernel
 * sends counts only up to where content was last put into its queue. */
static bool new_content(struct connection *c, const struct kernel_counts *k)
{
    bool more = c->sent > c->taken_sent || c->answered != c->taken_answered;

    c->taken_sent = c->sent;
    c->taken_answered = c->answered;
    if (more)
        set_taken_until(c, k);
    return more;
}

static bool took_some(struct connection *c, const struct kernel_counts *k)
{
    bool more = c->phase == HTTP2 && new_content(c, k);

    if (k->acked != c->taken_acked && (!c->tcp || c->phase != HTTP2 || c->taken_acked < c->taken_until))
        more = true;
    c->taken_acked = k->acked;
    return more;
}

static bool client_takes_nothing(struct connection *c, int64_t now)
{
    /* Where it is not HTTP/1 whose answer waits in a socket, it is HTTP/2 whose answers wait for windows. */
    bool owed = h2o_socket_is_writing(c->sock) || (c->phase == HTTP2 && c->active > c->waiting);
    struct kernel_counts k;

    if (!owed) {
        c->taken_ms = 0;
        return false;
    }
    if (c->taken_ms == 0) {
        begin_taking(c, now);
        return false;
    }
    if (now - c->taken_look_ms < look_every_ms(c->all))
        return false;
    c->taken_look_ms = now;
    ask_kernel(c, &k);
    if (took_some(c, &k))
        c->taken_ms = now;
    return now - c->taken_ms >= c->all->idle_timeout_ms;
}

static uint64_t uploaded(const struct connection *c, int64_t now)
{
    struct kernel_counts k;

    if (c->phase == HTTP1_UPLOAD)
        return c->input;
    if (!c->tcp) /* nothing counts for unix sockets: left to libh2o's idle timeout */
        return (uint64_t)now * UPLOAD_BYTES_PER_S;
    ask_kernel(c, &k);
    return k.received;
}

static void begin_upload(struct connection *c, int64_t now, uint64_t bytes)
{
    c->upload_begin_ms = c->upload_moved_ms = now;
    c->upload_begin = c->upload_bytes = bytes;
}

/* A step of an upload is idle_timeout long and brings at least UPLOAD_BYTES_PER_S. */
static bool client_sends_too_little(struct connection *c, int64_t now)
{
    int64_t step_ms = c->all->idle_timeout_ms;
    uint64_t bytes = uploaded(c, now);

    if (c->upload_begin_ms == 0 || bytes < c->upload_begin) {
        begin_upload(c, now, bytes);
        return false;
    }
    if (bytes != c->upload_bytes) {
        c->upload_bytes = bytes;
        c->upload_moved_ms = now;
    }
    if (now - c->upload_moved_ms >= step_ms)
        return true;
    if (now - c->upload_begin_ms < step_ms)
        return false;
    if (bytes - c->upload_begin < (uint64_t)step_ms * UPLOAD_BYTES_PER_S / 1000)
        return true;
    begin_upload(c, now, bytes);
    return false;
}

/* The sweep: judgement */

static bool idle_too_long(const struct connection *c, int64_t now, int64_t limit_ms)
{
    if (c->all->draining) {
        int64_t since = c->idle_ms > c->all->drain_ms ? c->idle_ms : c->all->drain_ms;
        if (now - since >= DRAIN_IDLE_MS)
            return true;
    }
    return now - c->idle_ms >= limit_ms;
}

/* Until its first request a connection has header_timeout_ms in all; later ones have idle_timeout_ms. */
static void judge_http1_idle(struct connection *c, int64_t now)
{
    if (idle_too_long(c, now, c->is_new ? c->all->header_timeout_ms : c->all->idle_timeout_ms))
        end(c);
}

static void judge_head(struct connection *c, int64_t now)
{
    if (c->head_ms == 0)
        c->head_ms = c->is_new ? c->opened_ms : now;
    if (now - c->head_ms >= c->all->header_timeout_ms)
        end_with_408(c);
}

/* Part of a HEADERS frame is at the head of the input, where libh2o leaves it until all of it has come. */
static bool has_part_of_headers(const struct connection *c)
{
    enum { TYPE_AT = 3, HEADERS = 1 };
    const h2o_buffer_t *input = c->sock->input;

    return input->size > TYPE_AT && input->bytes[TYPE_AT] == HEADERS;
}

/* As long as no request has begun it is the same head. */
static bool http2_head_is_late(struct connection *c, int64_t now)
{
    if (!c->open_block && !has_part_of_headers(c)) {
        c->head_ms = 0;
        return false;
    }
    if (c->head_ms == 0 || c->head_begun != c->begun) {
        c->head_ms = now;
        c->head_begun = c->begun;
    }
    return now - c->head_ms >= c->all->header_timeout_ms;
}

static void judge_http2(struct connection *c, int64_t now)
{
    if (http2_head_is_late(c, now)) {
        end(c);
        return;
    }
    if (c->too_many_fields && c->uploads > 0) {
        end(c);
        return;
    }
    if (c->uploads == 0)
        c->upload_begin_ms = 0;
    else if (client_sends_too_little(c, now))
        end(c);
    if (client_takes_nothing(c, now))
        end(c);
    if (c->active == 0 && c->uploads == 0 && idle_too_long(c, now, c->all->idle_timeout_ms + IDLE_GRACE_MS))
        end(c);
}

static void judge_phase(struct connection *c, int64_t now)
{
    switch (c->phase) {
    case OPENING:
        if (now - c->opened_ms >= c->all->header_timeout_ms)
            end(c);
        break;
    case HTTP1_IDLE:
        judge_http1_idle(c, now);
        break;
    case HTTP1_HEAD:
        judge_head(c, now);
        break;
    case HTTP1_UPLOAD:
        if (client_sends_too_little(c, now))
            end_with_408(c);
        break;
    case HTTP1_ANSWER:
        if (client_takes_nothing(c, now))
            end(c);
        break;
    case HTTP2:
        judge_http2(c, now);
        break;
    }
}

static void judge(struct connection *c, int64_t now)
{
    enum phase before = c->phase;

    find_phase(c);
    if (c->ended)
        return;
    if (c->closing && (now >= c->close_due_ms || (c->active == 0 && !h2o_socket_is_writing(c->sock)))) {
        end(c);
        return;
    }
    if (before == OPENING && c->phase != OPENING && c->sock->ssl != NULL && c->is_new)
        c->opened_ms = c->idle_ms = now; /* out of the handshake */
    if (c->phase != HTTP1_HEAD && c->phase != HTTP2)
        c->head_ms = 0;
    if (c->phase != HTTP1_UPLOAD && c->phase != HTTP2)
        c->upload_begin_ms = 0;
    if (c->phase != HTTP1_ANSWER && c->phase != HTTP2)
        c->taken_ms = 0;
    judge_phase(c, now);
}

static void sweep(struct timer *t)
{
    struct connections *all = H2O_STRUCT_FROM_MEMBER(struct connections, sweep, t);
    const h2o_globalconf_t *conf = all->ctx->globalconf;
    int64_t now = now_ms(all);

    all->round++;
    conf->http1.callbacks.foreach_request(all->ctx, look_at_http1, all);
    conf->http2.callbacks.foreach_request(all->ctx, look_at_http2, all);
    for (h2o_linklist_t *at = all->list.next; at != &all->list; at = at->next)
        judge(H2O_STRUCT_FROM_MEMBER(struct connection, link, at), now);
    if (all->n > 0)
        timer_arm(all->loop, &all->sweep, SWEEP_MS);
}

/* Accepting */

static void forget(struct connection *c)
{
    h2o_linklist_unlink(&c->link);
    c->all->n--;
    atomic_fetch_sub_explicit(c->all->open_total, 1, memory_order_relaxed);
    SSL_CTX_free(c->tls);
    free((char *)c->authority.raw.p);
    free(c);
}

static void on_close(void *data)
{
    struct connection *c = data;
    if (c->all->n == 1)
        timer_disarm(c->all->loop, &c->all->sweep);
    forget(c);
}

static void turn_away(h2o_socket_t *sock, bool tls)
{
    int fd = h2o_socket_get_fd(sock);
    char sink[4096];

    if (!tls) {
        tell(sock,
             "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n");
        shutdown(fd, SHUT_WR);
        /* Closing with a request unread would reset the connection and take the answer back. */
        for (int i = 0; i < 16 && recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0; i++)
            ;
    }
    h2o_socket_close(sock);
}

static void make_connection(struct connections *all, h2o_socket_t *sock, SSL_CTX *tls)
{
    struct connection *c = h2o_mem_alloc(sizeof(*c));
    int64_t now = now_ms(all);
    int fd = h2o_socket_get_fd(sock);

    if (tls != NULL)
        SSL_CTX_up_ref(tls);
    *c = (struct connection){
        .all = all, .sock = sock, .tls = tls, .tcp = bind_is_tcp(fd), .is_new = true, .opened_ms = now, .idle_ms = now};
    if (c->tcp)
        set_tcp_options(all, fd);
    sock->on_close.cb = on_close;
    sock->on_close.data = c;
    h2o_linklist_insert(&all->list, &c->link);
    if (all->n++ == 0)
        timer_arm(all->loop, &all->sweep, SWEEP_MS);
}

void connections_accept(struct connections *all, h2o_socket_t *sock, h2o_accept_ctx_t *accept)
{
    if (atomic_fetch_add_explicit(all->open_total, 1, memory_order_relaxed) >= all->connections_max) {
        atomic_fetch_sub_explicit(all->open_total, 1, memory_order_relaxed);
        turn_away(sock, accept->ssl_ctx != NULL);
        return;
    }
    make_connection(all, sock, accept->ssl_ctx);
    h2o_accept(accept, sock);
}

/* Requests */

struct connection *connection_of(h2o_req_t *req)
{
    struct connection *c = of_socket(req->conn->callbacks->get_socket(req->conn));
    if (req->version >= 0x200)
        c->http2 = true;
    return c;
}

const struct authority_memo *connection_authority(const struct connection *c)
{
    return &c->authority;
}

void connection_remember(struct connection *c, struct bytes raw, struct bytes canonical)
{
    if (c->authority.raw.n > 0)
        return;
    char *text = h2o_mem_alloc(raw.n + canonical.n + 1);

    memcpy(text, raw.p, raw.n);
    memcpy(text + raw.n, canonical.p, canonical.n);
    text[raw.n + canonical.n] = '\0';
    c->authority = (struct authority_memo){{text, raw.n}, {text + raw.n, canonical.n}};
}

bool connection_request_begin(struct connection *c)
{
    c->active++;
    c->begun++;
    c->is_new = false;
    c->idle_ms = now_ms(c->all);
    return !c->ended && !c->closing;
}

void connection_request_waiting(struct connection *c, bool waiting)
{
    if (waiting)
        c->waiting++;
    else if (c->waiting > 0)
        c->waiting--;
}

/* The window begins with a reset and ends h2_resets_ms later. */
static void count_reset(struct connection *c)
{
    int64_t now = now_ms(c->all);

    if (c->resets == 0 || now - c->resets_ms >= c->all->h2_resets_ms) {
        c->resets = 0;
        c->resets_ms = now;
    }
    if (++c->resets > c->all->h2_resets && !c->ended)
        end(c);
}

void connection_request_end(struct connection *c, enum request_end how)
{
    if (c->active > 0)
        c->active--;
    if (c->waiting > c->active)
        c->waiting = c->active;
    c->idle_ms = now_ms(c->all);
    if (how == REQUEST_ANSWERED)
        c->answered++;
    else if (how == REQUEST_ABANDONED && c->http2)
        count_reset(c);
}

void connection_close_soon(struct connection *c)
{
    if (c->closing)
        return;
    c->closing = true;
    c->close_due_ms = now_ms(c->all) + CLOSE_SOON_MS;
}

void connection_break(h2o_req_t *req)
{
    if (req->version >= 0x200)
        return;
    req->http1_is_persistent = 0;
    abort_socket(req->conn->callbacks->get_socket(req->conn));
}

struct interim **connection_interim(h2o_socket_t *sock)
{
    return &of_socket(sock)->interim;
}

/* What libh2o does itself when the client resets the stream, and an RST_STREAM. h2o_send cannot be called for that: it
 * asserts that nothing is under way. */
static void reset_stream(h2o_req_t *req)
{
    h2o_http2_stream_t *stream = H2O_STRUCT_FROM_MEMBER(h2o_http2_stream_t, req, req);
    h2o_http2_conn_t *conn = (h2o_http2_conn_t *)req->conn;

    if (conn->state < H2O_HTTP2_CONN_STATE_IS_CLOSING) {
        h2o_http2_encode_rst_stream_frame(&conn->_write.buf, stream->stream_id, -H2O_HTTP2_ERROR_INTERNAL);
        h2o_http2_conn_request_write(conn);
    }
    h2o_http2_stream_reset(conn, stream);
}

void connection_cut(h2o_req_t *req)
{
    if (req->version < 0x200)
        connection_break(req);
    else
        reset_stream(req);
}

static void find_peer(h2o_req_t *req, char out[INET6_ADDRSTRLEN])
{
    struct sockaddr_storage addr = {.ss_family = AF_UNSPEC};
    socklen_t n = req->conn->callbacks->get_peername(req->conn, (struct sockaddr *)&addr);
    const void *ip = NULL;

    if (n > 0 && addr.ss_family == AF_INET)
        ip = &((struct sockaddr_in *)&addr)->sin_addr;
    else if (n > 0 && addr.ss_family == AF_INET6)
        ip = &((struct sockaddr_in6 *)&addr)->sin6_addr;
    if (ip == NULL || inet_ntop(addr.ss_family, ip, out, INET6_ADDRSTRLEN) == NULL)
        strcpy(out, n > 0 && addr.ss_family == AF_UNIX ? "unix" : "unknown");
}

size_t connection_peer(h2o_req_t *req, char out[64])
{
    struct connection *c = connection_of(req);
    size_t n;

    if (c->peer[0] == '\0')
        find_peer(req, c->peer);
    n = strlen(c->peer);
    memcpy(out, c->peer, n + 1);
    return n;
}

/* Clients that leave */

static void on_hangup(struct watch *w, uint32_t events)
{
    struct hangup *h = H2O_STRUCT_FROM_MEMBER(struct hangup, watch, w);

    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0)
        return;
    hangup_unwatch(h->all, h);
    h->gone(h);
}

void hangup_watch(struct connections *all, struct hangup *h, h2o_req_t *req)
{
    h->all = all;
    h->watch = (struct watch){.ready = on_hangup, .fd = -1};
    if (req->version >= 0x200)
        return;
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);
    struct connection *c = of_socket(sock);

    /* It would be our own shutdown that is seen: a request that was on its way when the drain began is answered. */
    if (c == NULL || c->read_shut)
        return;
    h->watch.fd = h2o_socket_get_fd(sock);
    /* Where the kernel has no room for it, the client's leaving is noticed when it is answered. */
    (void)watch_add(all->loop, &h->watch, EPOLLRDHUP);
}

void hangup_unwatch(struct connections *all, struct hangup *h)
{
    if (h->watch.fd < 0)
        return;
    watch_remove(all->loop, &h->watch);
}

/* All of one thread */

struct connections *connections_create(struct loop *loop, h2o_context_t *ctx, _Atomic unsigned *open_total)
{
    struct connections *all = h2o_mem_alloc(sizeof(*all));

    *all = (struct connections){.loop = loop, .ctx = ctx, .open_total = open_total, .sweep = {.fire = sweep}};
    h2o_linklist_init_anchor(&all->list);
    return all;
}

void connections_destroy(struct connections *all)
{
    timer_disarm(all->loop, &all->sweep);
    h2o_timeout_unlink(&all->ctx->http2._graceful_shutdown_timeout); /* h2o_context_dispose asserts that it is not */
    while (!h2o_linklist_is_empty(&all->list)) {
        struct connection *c = H2O_STRUCT_FROM_MEMBER(struct connection, link, all->list.next);
        c->sock->on_close.cb = NULL;
        c->sock->on_close.data = NULL;
        forget(c);
    }
    free(all);
}

/* libh2o's one timeout of HTTP/1 spans the wait, the head and the content: the longest that the sweep allows. */
static uint64_t http1_backstop_ms(const struct conf *conf)
{
    uint64_t upload_s = conf->request_body_bytes_max / UPLOAD_BYTES_PER_S;
    uint64_t upload_ms = upload_s < YEAR_S ? upload_s * 1000 : YEAR_S * UINT64_C(1000);
    return (uint64_t)(2 * conf->header_timeout_ms + 2 * conf->idle_timeout_ms) + upload_ms + IDLE_GRACE_MS;
}

/* libh2o refuses an HTTP/2 stream over its own limit with REFUSED_STREAM, which tells the client to try again: a body
 * that is over the limit by less than BODY_MARGIN gets through to the handler, which answers 413. */
void connections_configure(struct connections *all, const struct conf *conf)
{
    h2o_globalconf_t *global = all->ctx->globalconf;
    uint64_t body_max = conf->request_body_bytes_max;

    all->connections_max = conf->connections_max;
    all->header_timeout_ms = conf->header_timeout_ms;
    all->idle_timeout_ms = conf->idle_timeout_ms;
    all->h2_resets = conf->h2_resets;
    all->h2_resets_ms = conf->h2_resets_ms;

    global->max_request_entity_size = body_max < SIZE_MAX - BODY_MARGIN ? body_max + BODY_MARGIN : SIZE_MAX;
    global->http2.max_concurrent_requests_per_connection = conf->h2_streams;
    global->handshake_timeout = all->ctx->handshake_timeout.timeout = (uint64_t)conf->header_timeout_ms + IDLE_GRACE_MS;
    global->http1.req_timeout = all->ctx->http1.req_timeout.timeout = http1_backstop_ms(conf);
    global->http2.idle_timeout = all->ctx->http2.idle_timeout.timeout = (uint64_t)conf->idle_timeout_ms;

    for (h2o_linklist_t *at = all->list.next; at != &all->list; at = at->next) {
        struct connection *c = H2O_STRUCT_FROM_MEMBER(struct connection, link, at);
        if (c->tcp)
            set_tcp_options(all, h2o_socket_get_fd(c->sock));
    }
}

/* A new connection's first request may be on its way: it gets DRAIN_IDLE_MS. */
static int drain_http1(h2o_req_t *req, void *data)
{
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);
    struct connection *c = of_socket(sock);
    (void)data;

    if (c == NULL || req->version != 0 || sock->input->size > 0)
        req->http1_is_persistent = 0;
    else if (!c->is_new) {
        c->read_shut = true;
        shutdown(h2o_socket_get_fd(sock), SHUT_RD);
    }
    return 0;
}

void connections_drain(struct connections *all)
{
    if (all->draining)
        return;
    all->draining = true;
    all->drain_ms = now_ms(all);
    h2o_context_request_shutdown(all->ctx);
    all->ctx->globalconf->http1.callbacks.foreach_request(all->ctx, drain_http1, all);
}

unsigned connections_open(const struct connections *all)
{
    return all->n;
}
