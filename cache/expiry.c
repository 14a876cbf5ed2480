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

static void put(struct expiry *e, uint32_t slot, struct expiry_entry entry)
{
    e->entries[slot] = entry;
    entry.s->expiry_slot = slot;
}

static void rise(struct expiry *e, uint32_t slot, struct expiry_entry entry)
{
    while (slot > 0) {
        uint32_t parent = (slot - 1) / CHILDREN;

        if (e->entries[parent].when_ms <= entry.when_ms)
            break;
        put(e, slot, e->entries[parent]);
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
        if (e->entries[child].when_ms < e->entries[best].when_ms)
            best = child;
    return best;
}

static void sink(struct expiry *e, uint32_t slot, struct expiry_entry entry)
{
    while (slot * CHILDREN + 1 < e->count) {
        uint32_t child = earliest_child(e, slot);

        if (entry.when_ms <= e->entries[child].when_ms)
            break;
        put(e, slot, e->entries[child]);
        slot = child;
    }
    put(e, slot, entry);
}

void expiry_add(struct expiry *e, struct stored *s)
{
    assert(!expiry_is_full(e));
    rise(e, e->count++, (struct expiry_entry){expiry_of(s), s});
}

void expiry_remove(struct expiry *e, struct stored *s)
{
    uint32_t slot = s->expiry_slot;
    struct expiry_entry moved = e->entries[--e->count];

    assert(e->entries[slot].s == s || moved.s == s);
    if (moved.s == s)
        return;
    if (slot > 0 && e->entries[(slot - 1) / CHILDREN].when_ms > moved.when_ms)
        rise(e, slot, moved);
    else
        sink(e, slot, moved);
}

void expiry_move(const struct expiry *from, struct expiry *to)
{
    for (uint32_t i = 0; i < from->count; i++)
        to->entries[i] = from->entries[i];
    to->count = from->count;
}
