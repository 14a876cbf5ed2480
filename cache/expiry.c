#include "cache/expiry.h"

#include <assert.h>

enum { CHILDREN = 4 };

int64_t expiry_of(const struct stored *s)
{
    int64_t when;

    /* Age counts from the response time on, beginning with the initial age. */
    if (__builtin_add_overflow(stored_useful_ms(s) - span_ms(s->initial_age), s->response_time.ms, &when))
        return EXPIRY_NEVER;
    return when;
}

struct entry {
    struct stored *s;
    uint32_t when;
};

static uint32_t when_of(const struct stored *s)
{
    int64_t step = expiry_of(s) / EXPIRY_STEP_MS;

    return step < 0 ? 0 : step > UINT32_MAX ? UINT32_MAX : (uint32_t)step;
}

static struct entry at(const struct expiry *e, uint32_t slot)
{
    return (struct entry){e->v[slot], e->when[slot]};
}

static bool is_before(struct entry a, struct entry b)
{
    return a.when != b.when ? a.when < b.when : expiry_of(a.s) < expiry_of(b.s);
}

static void put(struct expiry *e, uint32_t slot, struct entry entry)
{
    e->v[slot] = entry.s;
    e->when[slot] = entry.when;
    entry.s->expiry_slot = slot;
}

static void rise(struct expiry *e, uint32_t slot, struct entry entry)
{
    while (slot > 0) {
        uint32_t parent = (slot - 1) / CHILDREN;

        if (!is_before(entry, at(e, parent)))
            break;
        put(e, slot, at(e, parent));
        slot = parent;
    }
    put(e, slot, entry);
}

static uint32_t earliest_child(const struct expiry *e, uint32_t slot)
{
    uint32_t child = slot * CHILDREN + 1, end = child + CHILDREN, best = child;

    if (end > e->count)
        end = e->count;
    while (++child < end)
        if (is_before(at(e, child), at(e, best)))
            best = child;
    return best;
}

static void sink(struct expiry *e, uint32_t slot, struct entry entry)
{
    while (slot * CHILDREN + 1 < e->count) {
        uint32_t child = earliest_child(e, slot);

        if (!is_before(at(e, child), entry))
            break;
        put(e, slot, at(e, child));
        slot = child;
    }
    put(e, slot, entry);
}

void expiry_add(struct expiry *e, struct stored *s)
{
    assert(!expiry_is_full(e));
    rise(e, e->count++, (struct entry){s, when_of(s)});
}

void expiry_remove(struct expiry *e, struct stored *s)
{
    uint32_t slot = s->expiry_slot;
    struct entry moved = at(e, --e->count);

    assert(moved.s == s || e->v[slot] == s);
    if (moved.s == s)
        return;
    if (slot > 0 && is_before(moved, at(e, (slot - 1) / CHILDREN)))
        rise(e, slot, moved);
    else
        sink(e, slot, moved);
}

void expiry_replace(struct expiry *e, const struct stored *from, struct stored *to)
{
    e->v[from->expiry_slot] = to;
    to->expiry_slot = from->expiry_slot;
}

void expiry_move(const struct expiry *from, struct expiry *to)
{
    for (uint32_t i = 0; i < from->count; i++) {
        to->v[i] = from->v[i];
        to->when[i] = from->when[i];
    }
    to->count = from->count;
}
