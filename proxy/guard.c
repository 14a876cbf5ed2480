#include "proxy/guard.h"

#include <alloca.h>
#include <dlfcn.h>
#include <h2o/http2.h>

#include "policies/forward.h"
#include "policies/uri.h"
#include "proxy/connection.h"

enum { CONNECTION_OPTIONS_MAX = 32 }; /* each is compared with each field */

static const struct request_verdict FINE = {0, NULL};

static struct request_verdict refuse(int status, const char *why)
{
    return (struct request_verdict){status, why};
}

static struct bytes bytes_of_iovec(h2o_iovec_t v)
{
    return (struct bytes){v.base, v.len};
}

/* A request that came by `Upgrade: h2c` carries its HTTP/1 fields on; libh2o ends an HTTP/2 connection on which a
 * Connection field comes. */
static bool upgraded(h2o_req_t *req)
{
    return req->version >= 0x200 && h2o_find_header(&req->headers, H2O_TOKEN_CONNECTION, -1) != -1;
}

static bool only_for_the_upgrade(const h2o_header_t *h)
{
    return h->name == &H2O_TOKEN_CONNECTION->buf || h->name == &H2O_TOKEN_HTTP2_SETTINGS->buf;
}

/* RFC 9113 section 8.2.3: what HTTP/2 took apart for its compression is one line again. */
static struct bytes join_cookies(h2o_req_t *req, size_t first)
{
    size_t n = 0;

    for (size_t i = first; i < req->headers.size; i++)
        n += req->headers.entries[i].value.len + 2;
    char *text = h2o_mem_alloc_pool(&req->pool, n), *p = text;

    for (size_t i = first; i < req->headers.size; i++) {
        const h2o_header_t *h = &req->headers.entries[i];

        if (h->name != &H2O_TOKEN_COOKIE->buf)
            continue;
        if (p != text) {
            *p++ = ';';
            *p++ = ' ';
        }
        memcpy(p, h->value.base, h->value.len);
        p += h->value.len;
    }
    return bytes_trim((struct bytes){text, (size_t)(p - text)});
}

static struct fields collect_fields(h2o_req_t *req, bool drop_upgrade)
{
    struct field *v = h2o_mem_alloc_pool(&req->pool, sizeof(*v) * (req->headers.size + 1));
    bool cookies = false;
    size_t n = 0;

    for (size_t i = 0; i < req->headers.size; i++) {
        const h2o_header_t *h = &req->headers.entries[i];
        if (drop_upgrade && only_for_the_upgrade(h))
            continue;
        if (req->version >= 0x200 && h->name == &H2O_TOKEN_COOKIE->buf) {
            if (!cookies)
                v[n++] = (struct field){bytes_of_iovec(*h->name), h->orig_name, join_cookies(req, i)};
            cookies = true;
            continue;
        }
        v[n++] = (struct field){bytes_of_iovec(*h->name), h->orig_name, bytes_trim(bytes_of_iovec(h->value))};
    }
    return (struct fields){v, n};
}

/* libh2o takes a request out of the connection's input only when it has been answered, also one with a body and one
 * that was pipelined: the head stands at the front for as long as the request lives. */
static struct bytes raw_input(h2o_req_t *req)
{
    const h2o_buffer_t *in = req->conn->callbacks->get_socket(req->conn)->input;

    return (struct bytes){in->bytes, in->size};
}

static bool has_transfer_encoding(struct bytes input)
{
    static const char line[] = "\ntransfer-encoding:"; /* libh2o has lower-cased the name in place */
    const char *end = memmem(input.p, input.n, "\r\n\r\n", 4);

    return end != NULL && memmem(input.p, (size_t)(end - input.p), line, sizeof(line) - 1) != NULL;
}

/* libh2o puts the host's configured name where there is neither Host nor :authority. */
static bool authority_missing(h2o_req_t *req)
{
    const h2o_iovec_t *a = &req->input.authority;
    return a->base == NULL || a->len == 0 || a->base == req->hostconf->authority.hostport.base;
}

/* RFC 9112 section 3.2.2: the authority of an absolute-form target wins over Host. Its scheme says nothing: what
 * counts is how the connection is secured. */
static bool split_absolute(h2o_req_t *req, struct request_line *line)
{
    struct uri_parts parts;

    if (line->target.n == 0 || line->target.p[0] == '/' || line->target.p[0] == '*' || !uri_parse(line->target, &parts))
        return false;
    line->authority = parts.authority;
    line->target = parts.path;
    if (parts.has_query) {
        h2o_iovec_t target = h2o_concat(&req->pool, h2o_iovec_init(parts.path.p, parts.path.n),
                                        h2o_iovec_init(H2O_STRLIT("?")), h2o_iovec_init(parts.query.p, parts.query.n));
        line->target = bytes_of_iovec(target);
    }
    return true;
}

static struct request_verdict find_line(h2o_req_t *req, bool http1, struct request_line *line)
{
    line->http2 = !http1;
    line->method = bytes_of_iovec(req->input.method);
    line->target = bytes_of_iovec(req->input.path);
    line->authority = authority_missing(req) ? BYTES_NONE : bytes_of_iovec(req->input.authority);
    if (http1 && split_absolute(req, line))
        return FINE;
    if (line->authority.n > 0)
        return FINE;
    if (req->version == 0x100) {
        line->authority = BYTES_LIT("localhost"); /* HTTP/1.0 knows no Host */
        return FINE;
    }
    return refuse(400, http1 ? "the Host field is missing" : "the :authority pseudo-field is missing");
}

static bool normalize_authority(h2o_req_t *req, struct bytes raw, struct guarded *out)
{
    struct connection *c = connection_of(req);
    const struct authority_memo *memo = connection_authority(c);

    if (bytes_eq(raw, memo->raw)) {
        out->authority = memo->canonical;
        return true;
    }
    char *text = h2o_mem_alloc_pool(&req->pool, raw.n + 1);

    if (!uri_authority_normalize(raw, out->https, text, &out->authority.n))
        return false;
    text[out->authority.n] = '\0';
    out->authority.p = text;
    connection_remember(c, raw, out->authority);
    return true;
}

static bool normalize_path(h2o_req_t *req, struct bytes raw, struct guarded *out)
{
    out->path = raw;
    if (uri_path_is_canonical(raw))
        return true;
    char *path = h2o_mem_alloc_pool(&req->pool, raw.n);

    out->path.p = path;
    return uri_path_normalize(raw, path, &out->path.n);
}

static struct request_verdict normalize(h2o_req_t *req, const struct request_line *line, struct guarded *out)
{
    const char *mark = memchr(line->target.p, '?', line->target.n);
    size_t path_n = mark == NULL ? line->target.n : (size_t)(mark - line->target.p);

    if (!normalize_path(req, (struct bytes){line->target.p, path_n}, out))
        return refuse(400, "the path has an invalid escape or climbs above the root");
    if (!normalize_authority(req, line->authority, out))
        return refuse(400, "the host is not a name or address with an optional port");
    if (mark != NULL) {
        out->has_query = true;
        out->query = (struct bytes){mark + 1, line->target.n - path_n - 1};
    }
    return FINE;
}

/* On HTTP/2 libh2o keeps to itself whether there was a Content-Length: 0; these methods have always had a content
 * (RFC 9110 section 8.6), and some origins insist on a length. */
static bool method_has_content(struct bytes method)
{
    return bytes_eq(method, BYTES_LIT("POST")) || bytes_eq(method, BYTES_LIT("PUT")) ||
           bytes_eq(method, BYTES_LIT("PATCH"));
}

static void fill(h2o_req_t *req, struct guarded *out)
{
    *out = (struct guarded){
        .method = bytes_of_iovec(req->input.method),
        .https = req->conn->callbacks->get_socket(req->conn)->ssl != NULL,
        .http2 = req->version >= 0x200,
        .body = bytes_of_iovec(req->entity),
    };
    out->head = bytes_eq(out->method, BYTES_LIT("HEAD"));
    out->get = bytes_eq(out->method, BYTES_LIT("GET"));
    out->has_body = req->entity.base != NULL || (out->http2 && method_has_content(out->method));
}

static struct request_verdict check_head(h2o_req_t *req)
{
    struct bytes input = raw_input(req);
    struct request_verdict verdict = request_check_raw_head(input);

    /* What libh2o took for chunks may have been framed otherwise by whoever forwarded it: nothing that follows on this
     * connection is trusted to be a request. */
    if (verdict.status == 0 && req->entity.base != NULL && has_transfer_encoding(input))
        req->http1_is_persistent = 0;
    return verdict;
}

/* libh2o answers `Upgrade: h2c` by itself, before any handler sees the request, and keeps no head that could be
 * checked. This takes the place of its function, and calls it: what the check refuses is not upgraded but comes to the
 * handler as HTTP/1.1, which refuses it. */
int h2o_http2_handle_upgrade(h2o_req_t *req, struct timeval connected_at)
{
    int (*upgrade)(h2o_req_t *, struct timeval);

    if (check_head(req).status != 0)
        return -1;
    *(void **)&upgrade = dlsym(RTLD_NEXT, "h2o_http2_handle_upgrade");
    return upgrade != NULL ? upgrade(req, connected_at) : -1;
}

/* What a Connection field names is not part of the request that goes on: it must not choose a key, a variant or a user
 * either, or a client could store the answer to what the origin sees under the key of what it sent (RFC 9110
 * section 7.6.1). */
static void drop_hop_by_hop(struct fields *fields)
{
    struct field *v = (struct field *)fields->v;
    struct fields all = *fields;
    size_t kept = 0;
    bool *drop;

    if (!forward_connection_names_fields(all))
        return;
    drop = alloca(all.n * sizeof *drop);
    for (size_t i = 0; i < all.n; i++)
        drop[i] = forward_is_hop_by_hop(all.v[i].name, all);
    for (size_t i = 0; i < all.n; i++)
        if (!drop[i])
            v[kept++] = v[i];
    fields->n = kept;
}

static struct request_verdict check(h2o_req_t *req, const struct request_limits *limits, struct guarded *out)
{
    bool from_upgrade = upgraded(req);
    bool http1 = !out->http2 || from_upgrade;
    struct request_line line;
    struct request_verdict verdict = FINE;

    /* Before anything is allocated for them: HPACK makes many fields of few bytes. */
    if (req->headers.size > limits->fields_max)
        return refuse(431, "too many header fields");
    if (!out->http2)
        verdict = check_head(req);
    if (verdict.status == 0)
        verdict = find_line(req, http1, &line);
    if (verdict.status != 0)
        return verdict;

    out->fields = collect_fields(req, from_upgrade);
    verdict = request_check(&line, out->fields, limits);
    if (verdict.status == 0 && forward_connection_options(out->fields) > CONNECTION_OPTIONS_MAX)
        verdict = refuse(400, "the Connection field names too many others");
    if (verdict.status == 0)
        drop_hop_by_hop(&out->fields);
    if (verdict.status == 0)
        verdict = normalize(req, &line, out);
    if (verdict.status == 0 && req->entity.len > limits->body_bytes_max)
        verdict = refuse(413, "the request's content is too large");
    return verdict;
}

struct request_verdict guard_check(h2o_req_t *req, const struct request_limits *limits, struct guarded *out)
{
    fill(req, out);
    struct request_verdict verdict = check(req, limits, out);
    if (verdict.status != 0) {
        out->fields = (struct fields){NULL, 0};
        out->path = out->query = out->authority = BYTES_NONE;
        if (!out->http2 || verdict.status == 431)
            guard_close_after(req);
    }
    return verdict;
}

void guard_close_after(h2o_req_t *req)
{
    if (req->version < 0x200)
        req->http1_is_persistent = 0;
    else
        connection_close_soon(connection_of(req));
}
