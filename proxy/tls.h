/*
 * TLS towards clients: OpenSSL contexts with certificates chosen by SNI, ALPN for HTTP/2 and HTTP/1.1, session tickets
 * whose keys are shared by all threads and survive reloads (rotated hourly, the previous two still accepted).
 *
 * Threads  tls_create in the main thread; the SSL_CTX is shared read-only by all threads.
 */
#ifndef WEIR_PROXY_TLS_H
#define WEIR_PROXY_TLS_H

#include <openssl/ssl.h>

#include "conf/conf.h"

struct tls; /* one listener's: default context and those chosen by SNI; reference counted, atomically */

/* NULL and a text in err (FILE: what) when a certificate, key or cipher list is not usable. */
struct tls *tls_create(const struct conf_tls *conf, char *err, size_t err_cap);
/* All that keeps tls_create from succeeding, each with its place. What conf/ has found wrong (NULL) is left out. */
void tls_check(const struct conf_tls *conf, struct conf_errors *errors);
void tls_check_all(const struct conf *conf, struct conf_errors *errors); /* conf_load_with's check */
/* Was it made of the same files and settings? */
bool tls_is_of(const struct tls *t, const struct conf_tls *conf);
struct tls *tls_retain(struct tls *t); /* NULL is allowed */
void tls_release(struct tls *t);       /* NULL is allowed; handshakes under way go on */
SSL_CTX *tls_ctx(struct tls *t);

/* A new ticket key now, ahead of the hour; tickets of the two before it are still accepted. Any thread. */
void tls_rotate_ticket_key(void);

#endif
