#include "proxy/outgoing.h"

#include <inttypes.h>
#include <stdio.h>

#include "policies/forward.h"

static void add_field(struct outgoing *out, struct bytes name, struct bytes value)
{
    if (out->n < OUTGOING_FIELDS_MAX)
        out->v[out->n++] = (struct field){name, NULL, value};
}

/* CGI and its heirs (WSGI, PHP) cannot tell X_Forwarded_For from X-Forwarded-For. */
static bool is_named(struct bytes name, const struct bytes *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = 0;

        if (name.n != names[i].n)
            continue;
        while (at < name.n && (name.p[at] == '_' ? '-' : name.p[at]) == names[i].p[at])
            at++;
        if (at == name.n)
            return true;
    }
    return false;
}

/* weir's own business, or written anew below. */
static bool is_rewritten(struct bytes name)
{
    static const struct bytes names[] = {
        BYTES_LIT("host"),
        BYTES_LIT("content-length"),
        BYTES_LIT("via"),
        BYTES_LIT("forwarded"),
        BYTES_LIT("x-forwarded-for"),
        BYTES_LIT("x-forwarded-proto"),
        BYTES_LIT("x-forwarded-host"),
        BYTES_LIT("expect"),
    };
    return is_named(name, names, sizeof names / sizeof names[0]);
}

/* One client's conditions and ranges have no place in a request whose answer others get. */
static bool is_selective(struct bytes name)
{
    static const struct bytes names[] = {
        BYTES_LIT("if-none-match"),       BYTES_LIT("if-modified-since"), BYTES_LIT("if-match"),
        BYTES_LIT("if-unmodified-since"), BYTES_LIT("if-range"),          BYTES_LIT("range"),
    };
    return bytes_is_one_of(name, names, sizeof names / sizeof names[0]);
}

/* Overrides of method, host or path that an origin may heed and the key does not hold: what is stored must not depend
 * on them (cache poisoning). */
static bool is_unkeyed_override(struct bytes name)
{
    static const struct bytes names[] = {
        BYTES_LIT("x-http-method-override"),
        BYTES_LIT("x-http-method"),
        BYTES_LIT("x-method-override"),
        BYTES_LIT("x-original-url"),
        BYTES_LIT("x-rewrite-url"),
        BYTES_LIT("x-original-host"),
        BYTES_LIT("x-host"),
        BYTES_LIT("x-forwarded-server"),
        BYTES_LIT("x-forwarded-port"),
        BYTES_LIT("x-forwarded-prefix"),
        BYTES_LIT("x-forwarded-scheme"),
        BYTES_LIT("x-forwarded-path"),
        BYTES_LIT("x-forwarded-protocol"),
        BYTES_LIT("x-forwarded-ssl"),
        BYTES_LIT("x-forwarded-uri"),
        BYTES_LIT("x-forwarded-method"),
        BYTES_LIT("x-http-host-override"),
        BYTES_LIT("x-http-path-override"),
        BYTES_LIT("x-original-uri"),
        BYTES_LIT("x-url-scheme"),
        BYTES_LIT("x-scheme"),
        BYTES_LIT("x-script-name"),
        BYTES_LIT("front-end-https"),
    };
    return is_named(name, names, sizeof names / sizeof names[0]);
}

bool outgoing_has_override(struct fields request)
{
    for (size_t i = 0; i < request.n; i++)
        if (is_unkeyed_override(request.v[i].name) || bytes_eq(request.v[i].name, BYTES_LIT("forwarded")))
            return true;
    return false;
}

/* All lines of a list field in the request, then one member more. */
static struct bytes append_member(h2o_mem_pool_t *pool, struct fields request, struct bytes name, struct bytes member)
{
    size_t n = member.n;

    for (size_t i = fields_find(request, name, 0); i < request.n; i = fields_find(request, name, i + 1))
        n += request.v[i].value.n + 2;
    char *text = h2o_mem_alloc_pool(pool, n), *p = text;

    for (size_t i = fields_find(request, name, 0); i < request.n; i = fields_find(request, name, i + 1)) {
        if (request.v[i].value.n == 0)
            continue;
        memcpy(p, request.v[i].value.p, request.v[i].value.n);
        p += request.v[i].value.n;
        *p++ = ',';
        *p++ = ' ';
    }
    memcpy(p, member.p, member.n);
    return (struct bytes){text, (size_t)(p - text) + member.n};
}

/* Host goes out as it came, so that there is no host= to say. */
static struct bytes forwarded_member(struct request *r, struct bytes peer)
{
    char *text = h2o_mem_alloc_pool(&r->req->pool, 96);
    size_t n;

    memcpy(text, "for=", 4);
    n = 4 + forward_node(peer, text + 4);
    memcpy(text + n, ";proto=", 7);
    n += 7;
    memcpy(text + n, "https", 5);
    return (struct bytes){text, n + (r->in.https ? 5 : 4)};
}

/* The client's own Forwarded may claim another host or scheme: what is stored must not depend on that. */
static struct bytes forwarded(struct request *r, bool cacheable, struct bytes peer)
{
    h2o_mem_pool_t *pool = &r->req->pool;
    struct bytes all = append_member(pool, r->in.fields, BYTES_LIT("forwarded"), forwarded_member(r, peer));

    if (!cacheable || !fields_has(r->in.fields, BYTES_LIT("forwarded")))
        return all;
    struct bytes own = forwarded_member(r, peer);
    char *text = h2o_mem_alloc_pool(pool, all.n + 2);
    size_t n = forward_addresses((struct bytes){all.p, all.n - own.n}, text);

    if (n > 0) {
        text[n++] = ',';
        text[n++] = ' ';
    }
    memcpy(text + n, own.p, own.n);
    return (struct bytes){text, n + own.n};
}

static void add_proxy_fields(struct request *r, bool cacheable, struct outgoing *out)
{
    h2o_mem_pool_t *pool = &r->req->pool;
    struct fields in = r->in.fields;
    char *text = h2o_mem_alloc_pool(pool, 64);
    struct bytes peer = {text, connection_peer(r->req, text)};

    add_field(out, BYTES_LIT("via"),
              append_member(pool, in, BYTES_LIT("via"), r->in.http2 ? BYTES_LIT("2 weir") : BYTES_LIT("1.1 weir")));
    add_field(out, BYTES_LIT("x-forwarded-for"), append_member(pool, in, BYTES_LIT("x-forwarded-for"), peer));
    add_field(out, BYTES_LIT("x-forwarded-proto"), r->in.https ? BYTES_LIT("https") : BYTES_LIT("http"));
    add_field(out, BYTES_LIT("forwarded"), forwarded(r, cacheable, peer));
}

/* RFC 9110 section 7.6.2. Where none is left, weir has answered. */
static struct bytes one_hop_less(struct request *r, struct bytes value)
{
    int64_t hops = forward_hops_left(r->in.fields);
    char *text;

    if (hops <= 0)
        return value;
    text = h2o_mem_alloc_pool(&r->req->pool, 12);
    return (struct bytes){text, (size_t)snprintf(text, 12, "%" PRId64, hops - 1)};
}

void outgoing_collect(struct request *r, const struct ask *ask, const struct outgoing_extra *extra,
                      struct outgoing *out)
{
    bool options = bytes_eq(r->in.method, BYTES_LIT("OPTIONS"));

    out->n = 0;
    for (size_t i = 0; i < r->in.fields.n; i++) {
        const struct field *f = &r->in.fields.v[i];
        bool hops = options && bytes_eq(f->name, BYTES_LIT("max-forwards"));

        if (is_rewritten(f->name) || forward_is_hop_by_hop(f->name, r->in.fields) ||
            (ask->cacheable && is_unkeyed_override(f->name)) ||
            (ask->cacheable && !ask->alone && is_selective(f->name)))
            continue;
        if (out->n < OUTGOING_FIELDS_MAX)
            out->v[out->n++] = hops ? (struct field){f->name, f->orig_name, one_hop_less(r, f->value)} : *f;
    }
    add_proxy_fields(r, ask->cacheable, out);
    if (extra->range.n > 0)
        add_field(out, BYTES_LIT("range"), extra->range);
    if (extra->range.n > 0 && extra->if_range.n > 0)
        add_field(out, BYTES_LIT("if-range"), extra->if_range);
    if (extra->tags.n > 0)
        add_field(out, BYTES_LIT("if-none-match"), extra->tags);
    if (extra->validate != NULL) {
        struct bytes etag = stored_value(extra->validate, BYTES_LIT("etag"));
        struct bytes modified = stored_value(extra->validate, BYTES_LIT("last-modified"));

        if (etag.n > 0)
            add_field(out, BYTES_LIT("if-none-match"), etag);
        if (modified.n > 0)
            add_field(out, BYTES_LIT("if-modified-since"), modified);
    }
}

static struct bytes without_prefix(struct bytes target, struct bytes prefix)
{
    if (prefix.n == 0 || !bytes_starts(target, prefix))
        return target;
    target.p += prefix.n;
    target.n -= prefix.n;
    return target.n > 0 ? target : BYTES_LIT("/");
}

/* The target as the backend knows it: always with a leading slash, also where the whole path was the prefix. */
struct bytes outgoing_target(struct request *r)
{
    struct bytes target = without_prefix(r->key.target, r->route->conf->strip_prefix);

    if (target.p[0] == '/')
        return target;
    char *text = h2o_mem_alloc_pool(&r->req->pool, target.n + 1);

    text[0] = '/';
    memcpy(text + 1, target.p, target.n);
    return (struct bytes){text, target.n + 1};
}
