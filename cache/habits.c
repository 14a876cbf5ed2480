#include "cache/habits.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { OFTEN = 160, SELDOM = 64, SHIFT = 3 };

/* What is known of them before the first has come. */
static bool is_of_one_response(struct bytes name)
{
    static const struct bytes names[] = {
        BYTES_LIT("age"),           BYTES_LIT("cache-groups"),  BYTES_LIT("cache-tag"),    BYTES_LIT("content-digest"),
        BYTES_LIT("content-range"), BYTES_LIT("date"),          BYTES_LIT("etag"),         BYTES_LIT("expires"),
        BYTES_LIT("last-modified"), BYTES_LIT("location"),      BYTES_LIT("repr-digest"),  BYTES_LIT("set-cookie"),
        BYTES_LIT("surrogate-key"), BYTES_LIT("server-timing"), BYTES_LIT("x-request-id"),
    };

    return bytes_is_one_of(name, names, sizeof names / sizeof names[0]);
}

static uint32_t hash_of(struct bytes text)
{
    return (uint32_t)XXH3_64bits(text.p, text.n);
}

/* Moves it to the front. False: it is none of the last. */
static bool was_there(struct habit *h, uint32_t value)
{
    unsigned i = 0;

    while (i < HABIT_VALUES - 1 && h->values[i] != value)
        i++;
    bool found = h->values[i] == value;

    memmove(h->values + 1, h->values, i * sizeof h->values[0]);
    h->values[0] = value;
    return found;
}

bool habits_is_own(struct habits *habits, struct bytes name, struct bytes value)
{
    uint32_t name_hash = hash_of(name);
    struct habit *h = &habits->v[name_hash % HABITS];

    if (h->name != name_hash) {
        *h = (struct habit){.name = name_hash, .own = is_of_one_response(name)};
        h->novelty = h->own ? UINT8_MAX : 0;
    }
    if (was_there(h, hash_of(value)))
        h->novelty -= h->novelty >> SHIFT;
    else
        h->novelty += (UINT8_MAX - h->novelty) >> SHIFT;
    /* between the two it stays what it was, so that there are not two heads for one kind of response */
    if (h->novelty > OFTEN)
        h->own = true;
    else if (h->novelty < SELDOM)
        h->own = false;
    return h->own;
}
