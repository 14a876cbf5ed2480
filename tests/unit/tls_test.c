#include "edge.h"

#include <openssl/err.h>

#include "certificates.h"
#include "proxy/tls.h"

/* Handshakes in memory: no sockets, a client and a server SSL that pass bytes to each other. */

struct client {
    const char *name; /* SNI; NULL: none */
    const char *alpn; /* as on the wire */
    int max_version;
    const char *ciphers;
    SSL_SESSION *session; /* to resume; freed */
};

struct outcome {
    bool ok, resumed;
    char common_name[64], alpn[32], cipher[64];
    int version;
    SSL_SESSION *session; /* to be freed */
};

static SSL_SESSION *last_session;

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(last_session);
    last_session = session;
    return 1;
}

static SSL_CTX *client_ctx(const struct client *client)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (client->max_version != 0)
        SSL_CTX_set_max_proto_version(ctx, client->max_version);
    if (client->ciphers != NULL)
        SSL_CTX_set_cipher_list(ctx, client->ciphers);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_session);
    return ctx;
}

static bool shake(SSL *c, SSL *s)
{
    char byte;

    for (int i = 0; i < 10 && !(SSL_is_init_finished(c) && SSL_is_init_finished(s)); i++) {
        SSL_do_handshake(c);
        SSL_do_handshake(s);
    }
    ERR_clear_error();
    if (!SSL_is_init_finished(c) || !SSL_is_init_finished(s))
        return false;
    SSL_write(s, "x", 1); /* brings the client TLS 1.3's tickets too */
    return SSL_read(c, &byte, 1) == 1;
}

static void describe(SSL *c, struct outcome *out)
{
    const unsigned char *alpn = NULL;
    unsigned n = 0;
    X509 *x = SSL_get1_peer_certificate(c);

    X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, out->common_name, sizeof(out->common_name));
    X509_free(x);
    SSL_get0_alpn_selected(c, &alpn, &n);
    snprintf(out->alpn, sizeof(out->alpn), "%.*s", (int)n, n == 0 ? "" : (const char *)alpn);
    snprintf(out->cipher, sizeof(out->cipher), "%s", SSL_get_cipher_name(c));
    out->version = SSL_version(c);
    out->resumed = SSL_session_reused(c);
}

static struct outcome connect_to(struct tls *tls, struct client client)
{
    struct outcome out = {0};
    SSL_CTX *ctx = client_ctx(&client);
    SSL *c = SSL_new(ctx), *s = SSL_new(tls_ctx(tls));
    BIO *a, *b;

    BIO_new_bio_pair(&a, 0, &b, 0);
    SSL_set_bio(c, a, a);
    SSL_set_bio(s, b, b);
    SSL_set_connect_state(c);
    SSL_set_accept_state(s);
    if (client.name != NULL)
        SSL_set_tlsext_host_name(c, client.name);
    if (client.alpn != NULL)
        SSL_set_alpn_protos(c, (const unsigned char *)client.alpn, (unsigned)strlen(client.alpn));
    if (client.session != NULL)
        SSL_set_session(c, client.session);
    last_session = NULL;
    out.ok = shake(c, s);
    if (out.ok)
        describe(c, &out);
    out.session = last_session;
    SSL_SESSION_free(client.session);
    SSL_shutdown(c);
    SSL_free(c);
    SSL_free(s);
    SSL_CTX_free(ctx);
    return out;
}

struct site {
    struct certificates files;
    struct conf_certificate certificates[4];
    struct conf_tls conf;
    struct tls *tls;
};

static void open_site(struct site *site)
{
    char err[256] = "";

    site->tls = tls_create(&site->conf, err, sizeof(err));
    if (site->tls == NULL)
        fail_msg("%s", err);
}

static void begin_site(struct site *site)
{
    *site = (struct site){0};
    certificates_begin(&site->files);
    site->certificates[0] = certificates_make(&site->files, "a", "DNS:a.example");
    site->certificates[1] = certificates_make(&site->files, "wild", "DNS:*.c.example,DNS:b.example");
    site->certificates[2] = certificates_make(&site->files, "exact", "DNS:x.c.example");
    site->conf =
        (struct conf_tls){.certificates = site->certificates, .ncertificates = 3, .min_version = TLS1_2_VERSION};
}

static void end_site(struct site *site)
{
    tls_release(site->tls);
    certificates_end(&site->files);
}

static void expect_certificate(struct tls *tls, const char *name, const char *common_name)
{
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct outcome o = connect_to(tls, (struct client){.name = name, .max_version = version});
        assert_true(o.ok);
        assert_string_equal(o.common_name, common_name);
        assert_int_equal(o.version, version);
        SSL_SESSION_free(o.session);
    }
}

static void certificates_are_chosen_by_name(void **state)
{
    struct site site;
    (void)state;

    begin_site(&site);
    open_site(&site);
    expect_certificate(site.tls, NULL, "a");
    expect_certificate(site.tls, "a.example", "a");
    expect_certificate(site.tls, "b.example", "wild");
    expect_certificate(site.tls, "B.Example", "wild");
    expect_certificate(site.tls, "y.c.example", "wild");
    expect_certificate(site.tls, "x.c.example", "exact"); /* though the wildcard comes first */
    expect_certificate(site.tls, "z.y.c.example", "a");   /* a wildcard is one label */
    expect_certificate(site.tls, "c.example", "a");
    expect_certificate(site.tls, "unknown.example", "a");
    end_site(&site);
}

static void protocols_are_agreed(void **state)
{
    static const struct {
        const char *offer, *agreed, *name;
    } cases[] = {
        {"\x02h2\x08http/1.1", "h2", NULL},
        {"\x08http/1.1\x02h2", "h2", "b.example"},
        {"\x08http/1.1", "http/1.1", "x.c.example"},
        {"\x05other\x02h2", "h2", NULL},
        {NULL, "", NULL},
    };
    struct site site;
    (void)state;

    begin_site(&site);
    open_site(&site);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct outcome o = connect_to(site.tls, (struct client){.name = cases[i].name, .alpn = cases[i].offer});
        assert_true(o.ok);
        assert_string_equal(o.alpn, cases[i].agreed);
        SSL_SESSION_free(o.session);
    }
    assert_false(connect_to(site.tls, (struct client){.alpn = "\x05other"}).ok); /* RFC 7301 section 3.2 */
    end_site(&site);
}

static void versions_and_ciphers_are_limited(void **state)
{
    struct site site;
    struct outcome o;
    (void)state;

    begin_site(&site);
    open_site(&site);
    assert_false(connect_to(site.tls, (struct client){.max_version = TLS1_1_VERSION}).ok);
    assert_false(
        connect_to(site.tls, (struct client){.max_version = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES128-SHA256"})
            .ok);
    o = connect_to(site.tls,
                   (struct client){.max_version = TLS1_2_VERSION, .ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256"});
    assert_true(o.ok);
    SSL_SESSION_free(o.session);
    tls_release(site.tls);

    site.conf.min_version = TLS1_3_VERSION;
    site.conf.ciphersuites = "TLS_CHACHA20_POLY1305_SHA256";
    open_site(&site);
    assert_false(connect_to(site.tls, (struct client){.max_version = TLS1_2_VERSION}).ok);
    o = connect_to(site.tls, (struct client){0});
    assert_string_equal(o.cipher, "TLS_CHACHA20_POLY1305_SHA256");
    SSL_SESSION_free(o.session);
    tls_release(site.tls);

    site.conf.min_version = TLS1_2_VERSION;
    site.conf.ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384";
    open_site(&site);
    o = connect_to(site.tls, (struct client){.max_version = TLS1_2_VERSION});
    assert_string_equal(o.cipher, "ECDHE-ECDSA-AES256-GCM-SHA384");
    SSL_SESSION_free(o.session);
    end_site(&site);
}

/* Tickets outlive a reload (another tls_create) and two rotations, not three. */
static void tickets_are_accepted_for_two_rotations(void **state)
{
    struct site site;
    (void)state;

    begin_site(&site);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        for (int rotations = 0; rotations <= 3; rotations++) {
            open_site(&site);
            struct outcome first = connect_to(site.tls, (struct client){.name = "b.example", .max_version = version});
            assert_true(first.ok);
            assert_false(first.resumed);
            assert_non_null(first.session);
            for (int i = 0; i < rotations; i++)
                tls_rotate_ticket_key();
            for (int i = 0; i < 4; i++) /* other clients' tickets do not use keys up */
                SSL_SESSION_free(connect_to(site.tls, (struct client){.max_version = version}).session);
            tls_release(site.tls);
            open_site(&site);
            struct outcome second = connect_to(
                site.tls, (struct client){.name = "b.example", .max_version = version, .session = first.session});
            assert_true(second.ok);
            assert_int_equal(second.resumed, rotations < 3);
            SSL_SESSION_free(second.session);
            tls_release(site.tls);
            site.tls = NULL;
        }
    }
    end_site(&site);
}

static void expect_error(const struct site *site, const char *file, const char *what)
{
    char err[512] = "";
    assert_null(tls_create(&site->conf, err, sizeof(err)));
    if (strncmp(err, file, strlen(file)) != 0 || strstr(err, what) == NULL)
        fail_msg("expected %s: ...%s..., got %s", file, what, err);
}

static void unusable_files_are_named(void **state)
{
    struct site site;
    struct conf_certificate good;
    (void)state;

    begin_site(&site);
    good = site.certificates[1];
    site.certificates[1].key = site.certificates[0].key;
    expect_error(&site, site.certificates[0].key, "is not the key of the certificate");
    site.certificates[1].key = "/nonexistent/x.key";
    expect_error(&site, "/nonexistent/x.key", "No such file");
    site.certificates[1] = good;
    site.certificates[1].certificate = "/nonexistent/x.crt";
    expect_error(&site, "/nonexistent/x.crt", "No such file");
    site.certificates[1].certificate = good.key; /* not a certificate */
    expect_error(&site, good.key, "cannot be used as a certificate");
    site.certificates[1] = good;
    site.conf.ciphers = "NONSENSE";
    expect_error(&site, "NONSENSE", "cipher");
    site.conf.ciphers = NULL;
    site.conf.ciphersuites = "NONSENSE";
    expect_error(&site, "NONSENSE", "cipher suites");
    end_site(&site);
}

/* A key with a passphrase is refused without asking for it on the terminal. */
static void encrypted_key_is_refused(void **state)
{
    struct site site;
    FILE *f;
    EVP_PKEY *key;
    (void)state;

    begin_site(&site);
    f = fopen(site.certificates[0].key, "r");
    key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    f = fopen(site.certificates[0].key, "w");
    PEM_write_PrivateKey(f, key, EVP_aes_256_cbc(), (const unsigned char *)"secret", 6, NULL, NULL);
    fclose(f);
    EVP_PKEY_free(key);
    expect_error(&site, site.certificates[0].key, "cannot be used as a private key");
    end_site(&site);
}

/* A handshake that began before a reload chooses among certificates that have been let go since. */
static void release_leaves_handshakes_alone(void **state)
{
    struct site site;
    struct client client = {.name = "x.c.example"};
    (void)state;

    begin_site(&site);
    open_site(&site);
    SSL_CTX *ctx = client_ctx(&client);
    SSL *c = SSL_new(ctx), *s = SSL_new(tls_ctx(site.tls));
    BIO *a, *b;
    BIO_new_bio_pair(&a, 0, &b, 0);
    SSL_set_bio(c, a, a);
    SSL_set_bio(s, b, b);
    SSL_set_connect_state(c);
    SSL_set_accept_state(s);
    SSL_set_tlsext_host_name(c, client.name);
    tls_release(site.tls);
    site.tls = NULL;
    last_session = NULL;
    assert_true(shake(c, s));
    struct outcome o = {0};
    describe(c, &o);
    assert_string_equal(o.common_name, "exact");
    SSL_SESSION_free(last_session);
    SSL_free(c);
    SSL_free(s);
    SSL_CTX_free(ctx);
    end_site(&site);
}

/* Over real connections */

static SSL *tls_over(int fd, SSL_CTX *ctx, const char *name)
{
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    SSL_set_tlsext_host_name(ssl, name);
    assert_int_equal(SSL_connect(ssl), 1);
    return ssl;
}

static void tls_read_all(SSL *ssl, struct edge_text *t)
{
    int n;
    for (t->n = 0; t->n < sizeof(t->p) - 1 && (n = SSL_read(ssl, t->p + t->n, (int)(sizeof(t->p) - 1 - t->n))) > 0;)
        t->n += (size_t)n;
    t->p[t->n] = '\0';
}

static void requests_over_tls_are_https(void **state)
{
    struct site site;
    struct edge *e = edge_make();
    struct edge_text t;
    (void)state;

    begin_site(&site);
    e->listen[0].tls = &site.conf;
    edge_start(e);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    int fd = edge_connect(e);
    SSL *ssl = tls_over(fd, ctx, "b.example");
    static const char request[] = "GET /x HTTP/1.1\r\nHost: b.example:443\r\nConnection: close\r\n\r\n";
    SSL_write(ssl, request, sizeof(request) - 1);
    tls_read_all(ssl, &t);
    assert_non_null(strstr(t.p, "GET /x authority=b.example https=1 http2=0"));
    SSL_free(ssl);
    close(fd);
    SSL_CTX_free(ctx);
    edge_stop(e);
    end_site(&site);
}

/* close_notify would make a broken answer that ends with the connection look whole. */
static void broken_answers_do_not_end_cleanly(void **state)
{
    struct site site;
    struct edge *e = edge_make();
    struct edge_text t;
    (void)state;

    begin_site(&site);
    e->listen[0].tls = &site.conf;
    edge_start(e);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    for (int breaks = 0; breaks < 2; breaks++) {
        int fd = edge_connect(e);
        SSL *ssl = tls_over(fd, ctx, "b.example");
        const char *request = breaks ? "GET /break/200 HTTP/1.0\r\n\r\n" : "GET /chunks/200 HTTP/1.0\r\n\r\n";
        SSL_write(ssl, request, (int)strlen(request));
        tls_read_all(ssl, &t);
        assert_int_equal((SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN) != 0, !breaks);
        SSL_free(ssl);
        close(fd);
    }
    SSL_CTX_free(ctx);
    edge_stop(e);
    end_site(&site);
}

static void silent_handshake_ends(void **state)
{
    struct site site;
    struct edge *e = edge_make();
    int64_t begin = edge_ms();
    (void)state;

    begin_site(&site);
    e->listen[0].tls = &site.conf;
    e->conf.header_timeout_ms = 300;
    edge_start(e);
    int fd = edge_connect(e);
    edge_write(fd, "\x16\x03\x01", 3);
    assert_true(edge_ends(fd));
    assert_true(edge_ms() - begin >= 290);
    close(fd);
    edge_await(e->open, 0);

    /* After the handshake the first head has its own time, and a connection that says nothing ends too. */
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    fd = edge_connect(e);
    SSL *ssl = tls_over(fd, ctx, "b.example");
    begin = edge_ms();
    struct edge_text t;
    tls_read_all(ssl, &t);
    assert_true(edge_ms() - begin >= 290);
    SSL_free(ssl);
    close(fd);
    SSL_CTX_free(ctx);
    edge_stop(e);
    end_site(&site);
}

static void certificates_can_be_swapped(void **state)
{
    struct site site;
    struct edge *e = edge_make();
    char name[64];
    (void)state;

    begin_site(&site);
    e->listen[0].tls = &site.conf;
    edge_start(e);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    int old_fd = edge_connect(e); /* its handshake begins with the old certificates */
    edge_await(e->open, 1);
    for (int swapped = 0; swapped < 2; swapped++) {
        int fd = edge_connect(e);
        SSL *ssl = tls_over(fd, ctx, "unknown.example");
        X509 *x = SSL_get1_peer_certificate(ssl);
        X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, sizeof(name));
        assert_string_equal(name, swapped ? "exact" : "a");
        X509_free(x);
        SSL_free(ssl);
        close(fd);
        site.conf.certificates = &site.certificates[2];
        site.conf.ncertificates = 1;
        if (!swapped) {
            assert_int_equal(edge_prepare(e), 0);
            edge_post(e, &e->sync_message);
        }
    }
    SSL *ssl = tls_over(old_fd, ctx, "unknown.example");
    SSL_free(ssl);
    close(old_fd);
    SSL_CTX_free(ctx);
    edge_stop(e);
    end_site(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_are_chosen_by_name),   cmocka_unit_test(protocols_are_agreed),
        cmocka_unit_test(versions_and_ciphers_are_limited),  cmocka_unit_test(tickets_are_accepted_for_two_rotations),
        cmocka_unit_test(unusable_files_are_named),          cmocka_unit_test(encrypted_key_is_refused),
        cmocka_unit_test(release_leaves_handshakes_alone),   cmocka_unit_test(requests_over_tls_are_https),
        cmocka_unit_test(broken_answers_do_not_end_cleanly), cmocka_unit_test(silent_handshake_ends),
        cmocka_unit_test(certificates_can_be_swapped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
