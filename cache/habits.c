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

static uint32_t hash_of(const struct habits *habits, struct bytes text)
{
    return (uint32_t)XXH3_64bits_withSeed(text.p, text.n, habits->seed);
}

/* The name's, in front of its set now; of a new name in the place of the one that was used the longest ago. */
static struct habit *habit_of(struct habits *habits, struct bytes name)
{
    uint32_t hash = hash_of(habits, name);
    struct habit *set = habits->v[hash % HABIT_SETS], found;
    unsigned i = 0;

    if (set[0].name == hash)
        return set;
    while (i < HABITS_EACH - 1 && set[i].name != hash)
        i++;
    found = set[i];
    if (found.name != hash) {
        found = (struct habit){.name = hash, .own = is_of_one_response(name)};
        found.novelty = found.own ? UINT8_MAX : 0;
    }
    memmove(set + 1, set, i * sizeof *set);
    set[0] = found;
    return set;
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
    struct habit *h = habit_of(habits, name);

    if (was_there(h, hash_of(habits, value)))
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
