#include "proxy/variant.h"

#include "policies/vary.h"

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
    return primary.n + spec.n + 1 + vary_key_bytes_max(spec, request) + USER_HASH_BYTES;
}

struct bytes variant_key(const struct conf_route *route, struct hasher *hasher, struct bytes primary, struct bytes spec,
                         struct fields request, char *buf)
{
    memcpy(buf, primary.p, primary.n);
    memcpy(buf + primary.n, spec.p, spec.n);
    buf[primary.n + spec.n] = '\0';
    size_t n = spec.n + 1;

    n += vary_key_build(spec, request, buf + primary.n + n);

    if (spec_has_credential(route, spec)) {
        hasher_hash(hasher, (struct bytes){buf + primary.n, n}, (unsigned char *)buf + primary.n);
        n = USER_HASH_BYTES;
    }
    return (struct bytes){buf, primary.n + n};
}

/* Which cookie is a session's, or which field an API key, nobody can tell; those of content negotiation are neither. */
static bool rules_have_credential(const struct key_rules *rules)
{
    for (size_t i = 0; i < rules->nheaders; i++)
        if (!bytes_starts(rules->headers[i], BYTES_LIT("accept")))
            return true;
    return rules->ncookies > 0;
}

void key_seal(const struct key_rules *rules, struct hasher *hasher, char *buf, struct key *key)
{
    size_t url_n = key->url.n;

    if (!rules_have_credential(rules))
        return;
    hasher_hash(hasher, (struct bytes){buf + url_n, key->whole.n - url_n}, (unsigned char *)buf + url_n);
    key->whole.n = url_n + USER_HASH_BYTES;
}
