#include "policies/coding.h"

#include "policies/negotiate.h"

static const struct bytes names[CODINGS] = {
    [CODING_IDENTITY] = BYTES_LIT("identity"),
    [CODING_GZIP] = BYTES_LIT("gzip"),
    [CODING_BR] = BYTES_LIT("br"),
    [CODING_ZSTD] = BYTES_LIT("zstd"),
};

struct bytes coding_name(enum coding coding)
{
    return names[coding];
}

enum coding coding_named(struct bytes name)
{
    /* RFC 9110 section 8.4.1.3: equivalent */
    if (bytes_eq_nocase(name, BYTES_LIT("x-gzip")))
        return CODING_GZIP;
    for (enum coding c = 0; c < CODINGS; c++)
        if (bytes_eq_nocase(name, names[c]))
            return c;
    return CODING_OTHER;
}

enum coding coding_of_response(struct fields response)
{
    const struct bytes field = BYTES_LIT("content-encoding");
    size_t first = fields_find(response, field, 0);

    if (first == response.n)
        return CODING_IDENTITY;
    /* a second line is a second coding (RFC 9110 sections 5.3 and 8.4) */
    if (fields_find(response, field, first + 1) < response.n)
        return CODING_OTHER;
    return coding_named(bytes_trim(response.v[first].value));
}

struct coding_wishes coding_wishes_of(struct fields request, size_t first)
{
    struct coding_wishes wishes = {.weights = {-1, -1, -1, -1}};
    struct preferences p;

    if (first >= request.n || !negotiate_parse(request, BYTES_LIT("accept-encoding"), first, &p) || p.n == 0)
        return wishes;
    wishes.stated = true;
    for (enum coding c = 0; c < CODINGS; c++)
        wishes.weights[c] = negotiate_coding_weight(&p, names[c]);
    return wishes;
}

enum coding coding_choose(const struct coding_wishes *wishes, const enum coding *offered, size_t n)
{
    enum coding best = CODING_IDENTITY;
    int most = 0;

    for (size_t i = 0; i < n; i++)
        if (wishes->weights[offered[i]] > most) {
            best = offered[i];
            most = wishes->weights[best];
        }
    return wishes->weights[CODING_IDENTITY] > most ? CODING_IDENTITY : best;
}

bool coding_is_acceptable(const struct coding_wishes *wishes, enum coding coding)
{
    if (coding == CODING_IDENTITY)
        return wishes->weights[coding] != 0;
    return coding < CODINGS && wishes->weights[coding] > 0;
}
