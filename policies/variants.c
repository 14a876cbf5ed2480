#include "policies/variants.h"

#include <assert.h>

enum { LENGTH_BYTES = 2 };

bool variants_next(struct bytes *list, struct bytes *variant)
{
    if (list->n == 0)
        return false;
    size_t n = (unsigned char)list->p[0] | (size_t)(unsigned char)list->p[1] << 8;

    *variant = (struct bytes){list->p + LENGTH_BYTES, n};
    list->p += LENGTH_BYTES + n;
    list->n -= LENGTH_BYTES + n;
    return true;
}

size_t variants_count(struct bytes list)
{
    struct bytes variant;
    size_t n = 0;

    while (variants_next(&list, &variant))
        n++;
    return n;
}

bool variants_have(struct bytes list, struct bytes variant)
{
    struct bytes one;

    while (variants_next(&list, &one))
        if (bytes_eq(one, variant))
            return true;
    return false;
}

static char *put(char *to, struct bytes variant)
{
    assert(variant.n <= VARIANT_MAX);
    *to++ = (char)(variant.n & 0xff);
    *to++ = (char)(variant.n >> 8);
    if (variant.n > 0)
        memcpy(to, variant.p, variant.n);
    return to + variant.n;
}

size_t variants_add(struct bytes list, struct bytes variant, size_t without, char *out)
{
    struct bytes other;
    char *to = put(out, variant);
    size_t n = 1;

    for (size_t i = 0; n < VARIANTS_MAX && variants_next(&list, &other); i++) {
        if (i == without)
            continue;
        to = put(to, other);
        n++;
    }
    return (size_t)(to - out);
}
