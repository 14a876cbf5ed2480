#include "proxy/redis_names.h"

#include <assert.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "cache/record.h"

_Static_assert(RECORD_VERSION == 1, "names say the version");

static void add(struct redis_name *to, struct bytes text)
{
    assert(to->n + text.n <= sizeof to->text);
    memcpy(to->text + to->n, text.p, text.n);
    to->n += text.n;
}

static void add_hash(struct redis_name *to, struct bytes of)
{
    static const char digits[] = "0123456789abcdef";
    XXH128_canonical_t hash;

    XXH128_canonicalFromHash(&hash, XXH3_128bits(of.p, of.n));
    for (size_t i = 0; i < sizeof hash; i++) {
        const char two[] = {digits[hash.digest[i] >> 4], digits[hash.digest[i] & 15]};

        add(to, (struct bytes){two, 2});
    }
}

static void begin(struct bytes namespace, struct redis_name *out)
{
    out->n = 0;
    add(out, namespace);
    add(out, BYTES_LIT(":1:"));
}

void redis_name_all(struct bytes namespace, struct redis_name *out)
{
    begin(namespace, out);
    add(out, BYTES_LIT("all"));
}

void redis_name_url(struct bytes namespace, struct bytes key_url, struct redis_name *out)
{
    begin(namespace, out);
    add(out, BYTES_LIT("{"));
    add_hash(out, key_url);
    add(out, BYTES_LIT("}"));
}

void redis_name_record(struct bytes namespace, struct bytes key, size_t key_url_n, struct redis_name *out)
{
    redis_name_url(namespace, (struct bytes){key.p, key_url_n}, out);
    add(out, BYTES_LIT(":"));
    add_hash(out, key);
}
