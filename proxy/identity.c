#include "proxy/identity.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>

/* All lines of a field count: a second Authorization line must not hide behind the first. */
static void feed_field(EVP_MAC_CTX *hmac, struct fields request, struct bytes name)
{
    for (size_t i = fields_find(request, name, 0); i < request.n; i = fields_find(request, name, i + 1)) {
        uint64_t n = request.v[i].value.n;

        EVP_MAC_update(hmac, (const unsigned char *)&n, sizeof n);
        EVP_MAC_update(hmac, (const unsigned char *)request.v[i].value.p, request.v[i].value.n);
    }
}

/* All cookies of that name count too: which of them an origin takes is not known. Returns whether one says anything.
 * hmac may be NULL. */
static bool feed_cookies(EVP_MAC_CTX *hmac, struct fields request, struct bytes name)
{
    const struct bytes field = BYTES_LIT("cookie");
    bool any = false;

    for (size_t i = fields_find(request, field, 0); i < request.n; i = fields_find(request, field, i + 1)) {
        struct bytes rest = request.v[i].value;
        struct cookie cookie;

        while (cookie_next(&rest, &cookie)) {
            uint64_t n = cookie.value.n;

            if (!bytes_eq(cookie.name, name))
                continue;
            any |= n > 0;
            if (hmac == NULL)
                continue;
            EVP_MAC_update(hmac, (const unsigned char *)&n, sizeof n);
            EVP_MAC_update(hmac, (const unsigned char *)cookie.value.p, cookie.value.n);
        }
    }
    return any;
}

static bool has_identity(const struct conf_route *route, struct fields request)
{
    const struct bytes name = route->identity_name;

    if (route->identity == CONF_IDENTITY_COOKIE)
        return feed_cookies(NULL, request, name);
    if (route->identity != CONF_IDENTITY_HEADER)
        return false;
    for (size_t i = fields_find(request, name, 0); i < request.n; i = fields_find(request, name, i + 1))
        if (request.v[i].value.n > 0)
            return true;
    return false;
}

struct hasher {
    EVP_MAC_CTX *ctx;
};

struct hasher *hasher_create(const unsigned char secret[32])
{
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
                           OSSL_PARAM_construct_end()};
    struct hasher *h = malloc(sizeof *h);
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);

    if (h == NULL || mac == NULL || (h->ctx = EVP_MAC_CTX_new(mac)) == NULL ||
        EVP_MAC_init(h->ctx, secret, 32, params) != 1)
        abort();
    EVP_MAC_free(mac);
    return h;
}

void hasher_destroy(struct hasher *h)
{
    EVP_MAC_CTX_free(h->ctx);
    free(h);
}

void hasher_hash(struct hasher *h, struct bytes what, unsigned char out[USER_HASH_BYTES])
{
    size_t n;

    if (EVP_MAC_init(h->ctx, NULL, 0, NULL) != 1 ||
        EVP_MAC_update(h->ctx, (const unsigned char *)what.p, what.n) != 1 ||
        EVP_MAC_final(h->ctx, out, &n, USER_HASH_BYTES) != 1)
        abort();
}

static void hash_credentials(const struct conf_route *route, struct fields request, EVP_MAC_CTX *hmac,
                             unsigned char out[USER_HASH_BYTES])
{
    const struct bytes authorization = BYTES_LIT("authorization");
    size_t n;

    /* without a key it starts over with the one it has */
    if (EVP_MAC_init(hmac, NULL, 0, NULL) != 1)
        abort();
    if (route->identity == CONF_IDENTITY_COOKIE) {
        EVP_MAC_update(hmac, (const unsigned char *)"c", 1);
        feed_cookies(hmac, request, route->identity_name);
    } else {
        EVP_MAC_update(hmac, (const unsigned char *)"h", 1);
        feed_field(hmac, request, route->identity_name);
    }
    /* A session cookie with somebody else's Authorization is not the same user. */
    EVP_MAC_update(hmac, (const unsigned char *)"a", 1);
    feed_field(hmac, request, authorization);
    if (EVP_MAC_final(hmac, out, &n, USER_HASH_BYTES) != 1)
        abort();
}

void identity_judge(const struct conf_route *route, struct fields request, struct hasher *hasher, struct identity *out)
{
    out->user_scope = out->known = false;
    if (route->scope == CONF_SHARED)
        return;
    out->known = has_identity(route, request) || fields_has(request, BYTES_LIT("authorization"));
    out->user_scope = route->scope == CONF_USER || out->known;
    if (out->known)
        hash_credentials(route, request, hasher->ctx, out->hash);
}
