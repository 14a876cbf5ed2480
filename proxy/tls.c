#include "proxy/tls.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char DEFAULT_CIPHERS[] = "ECDHE+AESGCM:ECDHE+CHACHA20"; /* TLS 1.2: forward secrecy and AEAD only */

/* Session tickets */

enum {
    TICKET_KEYS = 3,
    TICKET_KEY_S = 3600,
};

struct ticket_key {
    unsigned char name[16], aes[32], hmac[32];
    int64_t begin_s;
    bool set;
};

static struct {
    pthread_rwlock_t lock;
    struct ticket_key keys[TICKET_KEYS]; /* newest first */
} ring = {.lock = PTHREAD_RWLOCK_INITIALIZER};

static int64_t seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static bool newest_is_current(int64_t now_s)
{
    return ring.keys[0].set && now_s - ring.keys[0].begin_s < TICKET_KEY_S;
}

static bool rotate(int64_t now_s)
{
    struct ticket_key fresh = {.begin_s = now_s, .set = true};

    if (RAND_bytes(fresh.name, sizeof(fresh.name)) != 1 || RAND_priv_bytes(fresh.aes, sizeof(fresh.aes)) != 1 ||
        RAND_priv_bytes(fresh.hmac, sizeof(fresh.hmac)) != 1)
        return false;
    memmove(&ring.keys[1], &ring.keys[0], sizeof(ring.keys[0]) * (TICKET_KEYS - 1));
    ring.keys[0] = fresh;
    OPENSSL_cleanse(&fresh, sizeof(fresh));
    return true;
}

void tls_rotate_ticket_key(void)
{
    pthread_rwlock_wrlock(&ring.lock);
    (void)rotate(seconds());
    pthread_rwlock_unlock(&ring.lock);
}

static bool current_key(struct ticket_key *out)
{
    int64_t now_s = seconds();
    bool ok = true;

    pthread_rwlock_rdlock(&ring.lock);
    bool current = newest_is_current(now_s);
    *out = ring.keys[0];
    pthread_rwlock_unlock(&ring.lock);
    if (current)
        return true;

    pthread_rwlock_wrlock(&ring.lock);
    if (!newest_is_current(now_s))
        ok = rotate(now_s);
    *out = ring.keys[0];
    pthread_rwlock_unlock(&ring.lock);
    return ok;
}

/* Nobody may have asked for a key for hours: what is too old is not accepted even if it is still in the ring. */
static bool find_key(const unsigned char name[16], struct ticket_key *out, bool *newest)
{
    bool found = false;

    pthread_rwlock_rdlock(&ring.lock);
    for (int i = 0; i < TICKET_KEYS && !found; i++) {
        const struct ticket_key *k = &ring.keys[i];
        if (!k->set || seconds() - k->begin_s >= TICKET_KEYS * TICKET_KEY_S || memcmp(k->name, name, 16) != 0)
            continue;
        *out = *k;
        *newest = i == 0;
        found = true;
    }
    pthread_rwlock_unlock(&ring.lock);
    return found;
}

static bool use_key(const struct ticket_key *key, const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                    int encrypt)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key->hmac, sizeof(key->hmac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"sha256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->aes, iv, encrypt) == 1 &&
           EVP_MAC_CTX_set_params(mac, params) == 1;
}

static int on_ticket(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                     int encrypt)
{
    struct ticket_key key;
    bool newest = true;
    int result;
    (void)ssl;

    if (encrypt) {
        if (!current_key(&key) || RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
            return -1;
        memcpy(name, key.name, sizeof(key.name));
    } else if (!find_key(name, &key, &newest)) {
        return 0; /* a full handshake */
    }
    result = !use_key(&key, iv, cipher, mac, encrypt) ? -1 : newest ? 1 : 2; /* 2: with a new ticket */
    OPENSSL_cleanse(&key, sizeof(key));
    return result;
}

/* Protocols */

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n, const unsigned char *in, unsigned in_n,
                   void *arg)
{
    static const unsigned char ours[] = "\x02h2\x08http/1.1";
    (void)ssl;
    (void)arg;

    /* RFC 7301 section 3.2: no protocol in common is fatal. */
    return SSL_select_next_proto((unsigned char **)out, out_n, ours, sizeof(ours) - 1, in, in_n) ==
                   OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Certificates chosen by name. They hang off the default context, which OpenSSL keeps for as long as a handshake that
 * began with it, beyond tls_release. */

struct names {
    SSL_CTX **contexts; /* all but the default one */
    size_t n;
};

static pthread_once_t names_once = PTHREAD_ONCE_INIT;
static int names_index = -1;

static void free_names(void *parent, void *data, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
    struct names *names = data;
    (void)parent, (void)ad, (void)index, (void)argl, (void)argp;

    if (names == NULL)
        return;
    for (size_t i = 0; i < names->n; i++)
        SSL_CTX_free(names->contexts[i]);
    free(names->contexts);
    free(names);
}

static void make_names_index(void)
{
    names_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_names);
}

static bool is_for(SSL_CTX *ctx, const char *host, unsigned flags)
{
    X509 *certificate = SSL_CTX_get0_certificate(ctx);
    return certificate != NULL && X509_check_host(certificate, host, 0, flags, NULL) == 1;
}

/* A certificate with the very name is preferred to one with a wildcard, then the earlier one. */
static SSL_CTX *choose(SSL_CTX *standard, const struct names *names, const char *host)
{
    static const unsigned passes[] = {X509_CHECK_FLAG_NO_WILDCARDS, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS};

    for (size_t pass = 0; pass < 2; pass++) {
        if (is_for(standard, host, passes[pass]))
            return standard;
        for (size_t i = 0; i < names->n; i++)
            if (is_for(names->contexts[i], host, passes[pass]))
                return names->contexts[i];
    }
    return standard;
}

static int on_server_name(SSL *ssl, int *alert, void *arg)
{
    SSL_CTX *standard = SSL_get_SSL_CTX(ssl);
    const struct names *names = SSL_CTX_get_ex_data(standard, names_index);
    const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert;
    (void)arg;

    if (host == NULL || names == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    SSL_CTX *chosen = choose(standard, names, host);
    if (chosen != standard)
        SSL_set_SSL_CTX(ssl, chosen);
    return SSL_TLSEXT_ERR_OK;
}

/* Contexts */

struct text {
    char *p;
    size_t cap;
};

static void fail(struct text err, const char *file, const char *what, const char *why)
{
    snprintf(err.p, err.cap, "%s: %s%s%s", file, what, why == NULL ? "" : ": ", why == NULL ? "" : why);
}

/* Why OpenSSL could not read a file. */
static const char *reason(void)
{
    unsigned long e = ERR_peek_error();

    if (ERR_GET_LIB(e) == ERR_LIB_SYS)
        return strerror(ERR_GET_REASON(e));
    return ERR_reason_error_string(e);
}

static int no_password(char *buf, int size, int writing, void *data)
{
    (void)buf, (void)size, (void)writing, (void)data;
    return -1; /* else OpenSSL asks on the terminal */
}

static bool load_key(SSL_CTX *ctx, const struct conf_certificate *files, struct text err)
{
    ERR_clear_error();
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    bool loaded = SSL_CTX_use_PrivateKey_file(ctx, files->key, SSL_FILETYPE_PEM) == 1;
    unsigned long e = ERR_peek_last_error();

    if (loaded && SSL_CTX_get0_certificate(ctx) == NULL)
        return true;

    if (loaded && SSL_CTX_check_private_key(ctx) == 1)
        return true;
    if (loaded || (ERR_GET_LIB(e) == ERR_LIB_X509 && ERR_GET_REASON(e) == X509_R_KEY_VALUES_MISMATCH))
        fail(err, files->key, "is not the key of the certificate", files->certificate);
    else
        fail(err, files->key, "cannot be used as a private key", reason());
    return false;
}

static bool load_certificate(SSL_CTX *ctx, const struct conf_certificate *files, struct text err)
{
    ERR_clear_error();
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    if (SSL_CTX_use_certificate_chain_file(ctx, files->certificate) == 1)
        return true;
    fail(err, files->certificate, "cannot be used as a certificate", reason());
    return false;
}

static bool set_ciphers(SSL_CTX *ctx, const struct conf_tls *conf, struct text err)
{
    const char *ciphers = conf->ciphers == NULL ? DEFAULT_CIPHERS : conf->ciphers;

    if (SSL_CTX_set_cipher_list(ctx, ciphers) == 1)
        return true;
    fail(err, ciphers, "no usable TLS 1.2 cipher", NULL);
    return false;
}

static bool set_ciphersuites(SSL_CTX *ctx, const struct conf_tls *conf, struct text err)
{
    if (conf->ciphersuites == NULL || SSL_CTX_set_ciphersuites(ctx, conf->ciphersuites) == 1)
        return true;
    fail(err, conf->ciphersuites, "not a list of TLS 1.3 cipher suites", NULL);
    return false;
}

static bool set_up(SSL_CTX *ctx)
{
    static const unsigned char session_context[] = "weir";

    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets only */
    SSL_CTX_set_timeout(ctx, (TICKET_KEYS - 1) * TICKET_KEY_S);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    return SSL_CTX_set_session_id_context(ctx, session_context, sizeof(session_context) - 1) == 1 &&
           SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) == 1;
}

static SSL_CTX *make_context(const struct conf_tls *conf, const struct conf_certificate *files, struct text err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (ctx == NULL || !set_up(ctx) ||
        SSL_CTX_set_min_proto_version(ctx, conf->min_version == 0 ? TLS1_2_VERSION : conf->min_version) != 1)
        fail(err, files->certificate, "OpenSSL cannot make a context", reason());
    else if (set_ciphers(ctx, conf, err) && set_ciphersuites(ctx, conf, err) && load_certificate(ctx, files, err) &&
             load_key(ctx, files, err))
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

static bool add_names(SSL_CTX *standard, const struct conf_tls *conf, struct text err)
{
    struct names *names = calloc(1, sizeof(*names));

    if (names == NULL || (names->contexts = calloc(conf->ncertificates, sizeof(SSL_CTX *))) == NULL ||
        SSL_CTX_set_ex_data(standard, names_index, names) != 1) {
        if (names != NULL)
            free(names->contexts);
        free(names);
        fail(err, conf->certificates[0].certificate, "out of memory", NULL);
        return false;
    }
    /* From here on names belong to the default context. */
    SSL_CTX_set_tlsext_servername_callback(standard, on_server_name);
    for (size_t i = 1; i < conf->ncertificates; i++) {
        SSL_CTX *ctx = make_context(conf, &conf->certificates[i], err);
        if (ctx == NULL)
            return false;
        names->contexts[names->n++] = ctx;
    }
    return true;
}

struct tls {
    _Atomic unsigned refs;
    SSL_CTX *ctx;
    char *made_of;
};

static const char *or_none(const char *text)
{
    return text == NULL ? "" : text;
}

static char *describe(const struct conf_tls *conf)
{
    char *text = NULL;
    size_t n;
    FILE *to = open_memstream(&text, &n);

    if (to == NULL)
        return NULL;
    fprintf(to, "%d\n%s\n%s\n", conf->min_version, or_none(conf->ciphersuites), or_none(conf->ciphers));
    for (size_t i = 0; i < conf->ncertificates; i++)
        fprintf(to, "%s\n%s\n", conf->certificates[i].certificate, conf->certificates[i].key);
    return fclose(to) == 0 ? text : NULL;
}

struct tls *tls_create(const struct conf_tls *conf, char *err, size_t err_cap)
{
    struct text text = {err, err_cap};
    struct tls *t = NULL;
    SSL_CTX *ctx = NULL;

    pthread_once(&names_once, make_names_index);
    if (conf->ncertificates == 0) {
        fail(text, "tls", "no certificate", NULL);
        return NULL;
    }
    ctx = make_context(conf, &conf->certificates[0], text);
    if (ctx == NULL || !add_names(ctx, conf, text)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    t = malloc(sizeof(*t));
    if (t == NULL || (t->made_of = describe(conf)) == NULL) {
        fail(text, conf->certificates[0].certificate, "out of memory", NULL);
        free(t);
        SSL_CTX_free(ctx);
        return NULL;
    }
    atomic_init(&t->refs, 1);
    t->ctx = ctx;
    return t;
}

static void check_files(const struct conf_certificate *files, struct text err, struct conf_errors *errors)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (ctx != NULL && files->certificate != NULL && !load_certificate(ctx, files, err))
        conf_errors_add(errors, files->certificate_mark, "%s", err.p);
    if (ctx != NULL && files->key != NULL && !load_key(ctx, files, err))
        conf_errors_add(errors, files->key_mark, "%s", err.p);
    SSL_CTX_free(ctx);
}

void tls_check(const struct conf_tls *conf, struct conf_errors *errors)
{
    char memory[1024];
    struct text err = {memory, sizeof(memory)};
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (ctx != NULL && !set_ciphers(ctx, conf, err))
        conf_errors_add(errors, conf->ciphers_mark, "%s", err.p);
    if (ctx != NULL && !set_ciphersuites(ctx, conf, err))
        conf_errors_add(errors, conf->ciphersuites_mark, "%s", err.p);
    SSL_CTX_free(ctx);
    for (size_t i = 0; i < conf->ncertificates; i++)
        check_files(&conf->certificates[i], err, errors);
}

void tls_check_all(const struct conf *conf, struct conf_errors *errors)
{
    for (size_t i = 0; i < conf->nlistens; i++)
        if (conf->listens[i].tls != NULL)
            tls_check(conf->listens[i].tls, errors);
}

bool tls_is_of(const struct tls *t, const struct conf_tls *conf)
{
    char *text = describe(conf);
    bool same = text != NULL && strcmp(text, t->made_of) == 0;

    free(text);
    return same;
}

struct tls *tls_retain(struct tls *t)
{
    if (t != NULL)
        atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void tls_release(struct tls *t)
{
    if (t == NULL || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
        return;
    SSL_CTX_free(t->ctx);
    free(t->made_of);
    free(t);
}

SSL_CTX *tls_ctx(struct tls *t)
{
    return t->ctx;
}
