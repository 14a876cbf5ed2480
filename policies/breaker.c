#include "policies/breaker.h"

#include <assert.h>

static const struct breaker_news NO_NEWS = {.change = BREAKER_UNCHANGED};

/* The window */

static int64_t part_of(const struct breaker_rules *rules, struct mono_ms now)
{
    return now.ms / ((rules->window_ms + BREAKER_PARTS - 1) / BREAKER_PARTS);
}

/* Forgets what has left the window. A time before the newest part's counts as that part's. */
static struct breaker_count *move_to(struct breaker *b, int64_t part)
{
    int64_t steps = part - b->part;

    if (steps > BREAKER_PARTS)
        steps = BREAKER_PARTS;
    for (int64_t i = 0; i < steps; i++)
        b->parts[(part - i) % BREAKER_PARTS] = (struct breaker_count){0, 0};
    if (steps > 0)
        b->part = part;
    return &b->parts[b->part % BREAKER_PARTS];
}

static struct breaker_count sum(const struct breaker *b)
{
    struct breaker_count all = {0, 0};

    for (int i = 0; i < BREAKER_PARTS; i++) {
        all.all += b->parts[i].all;
        all.failed += b->parts[i].failed;
    }
    return all;
}

/* Changes of state */

void breaker_reset(struct breaker *b)
{
    *b = (struct breaker){.state = BREAKER_CLOSED, .era = b->era + 1};
}

static void open_up(struct breaker *b, const struct breaker_rules *rules, struct mono_ms now)
{
    b->state = BREAKER_OPEN;
    b->era++;
    b->open_until_ms = now.ms + rules->open_ms;
}

bool breaker_admits(const struct breaker *b, struct mono_ms now)
{
    switch (b->state) {
    case BREAKER_CLOSED:
        return true;
    case BREAKER_HALF_OPEN:
        return !b->probing;
    case BREAKER_OPEN:
        return now.ms >= b->open_until_ms;
    }
    return true;
}

struct breaker_pass breaker_begin(struct breaker *b, struct mono_ms now)
{
    assert(breaker_admits(b, now));
    if (b->state == BREAKER_CLOSED)
        return (struct breaker_pass){b->era, false};
    if (b->state == BREAKER_OPEN) {
        b->state = BREAKER_HALF_OPEN;
        b->era++;
    }
    b->probing = true;
    return (struct breaker_pass){b->era, true};
}

static struct breaker_news count(struct breaker *b, const struct breaker_rules *rules, bool failed, struct mono_ms now)
{
    struct breaker_count *newest = move_to(b, part_of(rules, now));

    newest->all++;
    newest->failed += failed;
    struct breaker_count window = sum(b);

    if (window.all < rules->minimum || (uint64_t)window.failed * 100 < (uint64_t)window.all * rules->errors_percent)
        return NO_NEWS;
    open_up(b, rules, now);
    return (struct breaker_news){BREAKER_OPENS, window};
}

static struct breaker_news end_probe(struct breaker *b, const struct breaker_rules *rules, bool failed,
                                     struct mono_ms now)
{
    if (!failed) {
        breaker_reset(b);
        return (struct breaker_news){.change = BREAKER_CLOSES};
    }
    open_up(b, rules, now);
    return (struct breaker_news){.change = BREAKER_OPENS_AGAIN};
}

struct breaker_news breaker_end(struct breaker *b, const struct breaker_rules *rules, struct breaker_pass *pass,
                                enum breaker_verdict verdict, struct mono_ms now)
{
    bool counts = pass->era == b->era, failed = verdict == BREAKER_FAILURE, probe = pass->probe;

    *pass = (struct breaker_pass){.era = 0};
    if (!counts)
        return NO_NEWS;
    if (probe)
        b->probing = false;
    if (verdict == BREAKER_NO_VERDICT)
        return NO_NEWS;
    return probe ? end_probe(b, rules, failed, now) : count(b, rules, failed, now);
}

enum breaker_state breaker_state(const struct breaker *b, struct mono_ms now)
{
    return b->state == BREAKER_OPEN && breaker_admits(b, now) ? BREAKER_HALF_OPEN : b->state;
}

int64_t breaker_wait_ms(const struct breaker *b, struct mono_ms now)
{
    return b->state == BREAKER_OPEN && !breaker_admits(b, now) ? b->open_until_ms - now.ms : 0;
}
