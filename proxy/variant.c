#include "proxy/variant.h"

#include "policies/variants.h"
#include "policies/vary.h"

enum { VALUES = '=', HASHED = '#' }; /* how a variant begins */

static bool is_credential(struct bytes name, struct bytes identity)
{
    return bytes_eq(name, BYTES_LIT("authorization")) || bytes_eq(name, BYTES_LIT("cookie")) ||
           bytes_eq(name, BYTES_LIT("proxy-authorization")) || (identity.n > 0 && bytes_eq(name, identity));
}

static bool spec_has_credential(const struct conf_route *route, struct bytes spec)
{
    struct bytes identity = route->identity == CONF_IDENTITY_HEADER ? route->identity_name : BYTES_NONE;

    while (spec.n > 0) {
        const char *comma = memchr(spec.p, ',', spec.n);
        size_t n = comma != NULL ? (size_t)(comma - spec.p) : spec.n;

        if (is_credential((struct bytes){spec.p, n}, identity))
            return true;
        n += comma != NULL;
        spec.p += n;
        spec.n -= n;
    }
    return false;
}

size_t variant_key_bytes_max(struct bytes primary, struct bytes spec, struct fields request)
{
    size_t values_n = vary_key_bytes_max(spec, request);

    return primary.n + spec.n + 2 + (values_n > USER_HASH_BYTES ? values_n : USER_HASH_BYTES);
}

static char *put(char *to, struct bytes part)
{
    memcpy(to, part.p, part.n);
    return to + part.n;
}

/* The names are in the key: what was stored when responses varied on other names has another one. No name holds a NUL.
 */
static char *put_names(char *to, struct bytes primary, struct bytes spec)
{
    to = put(put(to, primary), spec);
    *to++ = '\0';
    return to;
}

struct bytes variant_key(const struct conf_route *route, struct hasher *hasher, struct bytes primary, struct bytes spec,
                         struct fields request, char *buf)
{
    char *kind = put_names(buf, primary, spec), *values = kind + 1;
    size_t n = vary_key_build(spec, request, values);

    *kind = VALUES;
    if (n >= VARIANT_MAX || spec_has_credential(route, spec)) {
        *kind = HASHED;
        hasher_hash(hasher, (struct bytes){values, n}, (unsigned char *)values);
        n = USER_HASH_BYTES;
    }
    return (struct bytes){buf, (size_t)(values - buf) + n};
}

bool variant_key_is_of(struct bytes key, struct bytes primary, struct bytes spec)
{
    return key.n > primary.n + spec.n + 1 && bytes_starts(key, primary) &&
           memcmp(key.p + primary.n, spec.p, spec.n) == 0 && key.p[primary.n + spec.n] == '\0';
}

struct bytes variant_names(struct bytes key, size_t primary_n)
{
    const char *names = key.p + primary_n, *end = memchr(names, '\0', key.n - primary_n);

    return end == NULL ? BYTES_NONE : (struct bytes){names, (size_t)(end - names)};
}

struct bytes variant_of(struct bytes key, struct bytes primary, struct bytes spec)
{
    size_t before = primary.n + spec.n + 1;

    return (struct bytes){key.p + before, key.n - before};
}

struct bytes variant_key_again(struct bytes primary, struct bytes spec, struct bytes variant, char *buf)
{
    char *end = put(put_names(buf, primary, spec), variant);

    return (struct bytes){buf, (size_t)(end - buf)};
}

bool variant_values(struct bytes variant, struct bytes *values)
{
    *values = (struct bytes){variant.p + 1, variant.n - 1};
    return variant.p[0] == VALUES;
}

/* Which cookie is a session's, or which field an API key, nobody can tell; those of content negotiation are neither. */
bool key_is_sealed(const struct key_rules *rules)
{
    for (size_t i = 0; i < rules->nheaders; i++)
        if (!bytes_starts(rules->headers[i], BYTES_LIT("accept")))
            return true;
    return rules->ncookies > 0;
}

void key_seal(const struct key_rules *rules, struct hasher *hasher, char *buf, struct key *key)
{
    size_t url_n = key->url.n;

    if (!key_is_sealed(rules))
        return;
    hasher_hash(hasher, (struct bytes){buf + url_n, key->whole.n - url_n}, (unsigned char *)buf + url_n);
    key->whole.n = url_n + USER_HASH_BYTES;
}
