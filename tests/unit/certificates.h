/*
 * Self-signed certificates for tests, as files in a directory of their own.
 */
#ifndef WEIR_TESTS_CERTIFICATES_H
#define WEIR_TESTS_CERTIFICATES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "conf/conf.h"

struct certificates {
    char dir[64];
    char *files[16];
    unsigned n;
};

static inline void certificates_begin(struct certificates *c)
{
    strcpy(c->dir, "/tmp/weir-tls-XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    c->n = 0;
}

static inline const char *certificates_file(struct certificates *c, const char *name)
{
    assert_true(asprintf(&c->files[c->n], "%s/%s", c->dir, name) > 0);
    return c->files[c->n++];
}

static inline void certificates_end(struct certificates *c)
{
    for (unsigned i = 0; i < c->n; i++) {
        unlink(c->files[i]);
        free(c->files[i]);
    }
    rmdir(c->dir);
}

/* For `name` (the common name), good for the names in `sans` ("DNS:a,DNS:*.b"). */
static inline struct conf_certificate certificates_make(struct certificates *c, const char *name, const char *sans)
{
    char file[64];
    struct conf_certificate out = {.certificate_mark = {"test.conf", c->n + 1, 1},
                                   .key_mark = {"test.conf", c->n + 1, 2}};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_NAME *subject = X509_get_subject_name(x);

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, subject);
    X509_set_pubkey(x, key);
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, sans);
    X509_add_ext(x, san, -1);
    X509_EXTENSION_free(san);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);

    snprintf(file, sizeof(file), "%s.crt", name);
    out.certificate = certificates_file(c, file);
    snprintf(file, sizeof(file), "%s.key", name);
    out.key = certificates_file(c, file);
    FILE *f = fopen(out.certificate, "w");
    PEM_write_X509(f, x);
    fclose(f);
    f = fopen(out.key, "w");
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
    return out;
}

#endif
