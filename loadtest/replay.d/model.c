#include "loadtest/replay.d/model.h"

#include <err.h>
#include <stdlib.h>

#define NONE UINT32_MAX

static void *must(void *p)
{
    if (p == NULL)
        errx(1, "out of memory");
    return p;
}

static void count(struct hits *hits, const struct object *o)
{
    hits->requests += 1;
    hits->bytes += o->bytes;
    hits->fetch_s += o->fetch_s;
}

/* ---- lists ---- */

struct node {
    uint32_t newer, older;
    uint8_t rounds;
    bool cached;
};

struct list {
    const struct trace *t;
    struct node *nodes; /* by object */
    uint32_t newest, oldest, hand;
    uint64_t used, capacity;
    double fetch_s, fetches;
    enum model model;
};

static void unlink_node(struct list *l, uint32_t o)
{
    struct node *n = &l->nodes[o];

    *(n->newer != NONE ? &l->nodes[n->newer].older : &l->newest) = n->older;
    *(n->older != NONE ? &l->nodes[n->older].newer : &l->oldest) = n->newer;
}

static void link_newest(struct list *l, uint32_t o)
{
    l->nodes[o].newer = NONE;
    l->nodes[o].older = l->newest;
    *(l->newest != NONE ? &l->nodes[l->newest].newer : &l->oldest) = o;
    l->newest = o;
}

/* SIEVE's hand: rounds are used up as it passes. */
static uint32_t list_victim(struct list *l)
{
    uint32_t o = l->hand != NONE ? l->hand : l->oldest;

    if (l->model == MODEL_LRU)
        return l->oldest;
    while (l->nodes[o].rounds > 0) {
        l->nodes[o].rounds--;
        o = l->nodes[o].newer != NONE ? l->nodes[o].newer : l->oldest;
    }
    l->hand = l->nodes[o].newer;
    return o;
}

static uint8_t rounds_for_cost(const struct list *l, const struct object *o)
{
    double times = o->fetch_s / (l->fetch_s / l->fetches);

    return l->model != MODEL_SIEVE_COST ? 0 : times > COST_ROUNDS_MAX ? COST_ROUNDS_MAX : (uint8_t)times;
}

static void list_use(struct list *l, uint32_t o)
{
    if (l->model == MODEL_LRU) {
        unlink_node(l, o);
        link_newest(l, o);
    } else {
        l->nodes[o].rounds = 1 + rounds_for_cost(l, &l->t->objects[o]);
    }
}

static void list_put(struct list *l, uint32_t o)
{
    const struct object *object = &l->t->objects[o];

    l->fetch_s += object->fetch_s;
    l->fetches++;
    if (object->weight > l->capacity)
        return;
    while (l->used + object->weight > l->capacity) {
        uint32_t victim = list_victim(l);

        unlink_node(l, victim);
        l->nodes[victim].cached = false;
        l->used -= l->t->objects[victim].weight;
    }
    link_newest(l, o);
    l->nodes[o].cached = true;
    l->nodes[o].rounds = rounds_for_cost(l, object);
    l->used += object->weight;
}

static struct hits list_run(enum model model, const struct trace *t, uint64_t capacity)
{
    struct list l = {.t = t, .newest = NONE, .oldest = NONE, .hand = NONE, .capacity = capacity, .model = model};
    struct hits hits = {0};

    l.nodes = must(calloc(t->nobjects, sizeof(struct node)));
    for (size_t i = 0; i < t->nrequests; i++) {
        uint32_t o = t->requests[i];

        if (l.nodes[o].cached) {
            count(&hits, &t->objects[o]);
            list_use(&l, o);
        } else {
            list_put(&l, o);
        }
    }
    free(l.nodes);
    return hits;
}

/* ---- heaps ---- */

struct entry {
    double rank; /* the highest leaves first; it counts where it is still its object's */
    uint32_t object;
};

struct heap {
    const struct trace *t;
    struct entry *v;
    size_t n, room;
    /* by object */
    double *ranks;
    uint32_t *uses; /* 0: is not cached */
    uint64_t used, capacity;
    double age; /* GDSF's: what has left last was worth so much */
    enum model model;
};

static void heap_push(struct heap *h, struct entry e)
{
    size_t i = h->n++;

    if (h->n > h->room) {
        h->room = h->room == 0 ? 1024 : h->room * 2;
        h->v = must(realloc(h->v, h->room * sizeof(struct entry)));
    }
    for (; i > 0 && h->v[(i - 1) / 2].rank < e.rank; i = (i - 1) / 2)
        h->v[i] = h->v[(i - 1) / 2];
    h->v[i] = e;
}

static struct entry heap_pop(struct heap *h)
{
    struct entry top = h->v[0], moved = h->v[--h->n];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < h->n) {
        if (child + 1 < h->n && h->v[child + 1].rank > h->v[child].rank)
            child++;
        if (h->v[child].rank <= moved.rank)
            break;
        h->v[i] = h->v[child];
        i = child;
    }
    h->v[i] = moved;
    return top;
}

static bool is_cached(const struct heap *h, uint32_t o)
{
    return h->uses[o] > 0;
}

static double rank_of(const struct heap *h, uint32_t o, uint32_t next)
{
    const struct object *object = &h->t->objects[o];
    double cost = h->model == MODEL_GDSF_COST ? object->fetch_s : 1;

    if (h->model == MODEL_BELADY)
        return next;
    return -(h->age + h->uses[o] * cost / object->weight);
}

static void heap_use(struct heap *h, uint32_t o, uint32_t next)
{
    h->uses[o]++;
    h->ranks[o] = rank_of(h, o, next);
    heap_push(h, (struct entry){h->ranks[o], o});
}

static void heap_put(struct heap *h, uint32_t o, uint32_t next)
{
    if (h->t->objects[o].weight > h->capacity)
        return;
    heap_use(h, o, next);
    h->used += h->t->objects[o].weight;
    while (h->used > h->capacity) {
        struct entry e = heap_pop(h);

        if (!is_cached(h, e.object) || h->ranks[e.object] != e.rank)
            continue;
        if (h->model != MODEL_BELADY)
            h->age = -e.rank;
        h->uses[e.object] = 0;
        h->used -= h->t->objects[e.object].weight;
    }
}

static struct hits heap_run(enum model model, const struct trace *t, const uint32_t *next, uint64_t capacity)
{
    struct heap h = {.t = t, .capacity = capacity, .model = model};
    struct hits hits = {0};

    h.ranks = must(calloc(t->nobjects, sizeof(double)));
    h.uses = must(calloc(t->nobjects, sizeof(uint32_t)));
    for (size_t i = 0; i < t->nrequests; i++) {
        uint32_t o = t->requests[i];

        if (is_cached(&h, o)) {
            count(&hits, &t->objects[o]);
            heap_use(&h, o, next[i]);
        } else {
            heap_put(&h, o, next[i]);
        }
    }
    free(h.v);
    free(h.ranks);
    free(h.uses);
    return hits;
}

struct hits model_run(enum model model, const struct trace *t, const uint32_t *next, uint64_t capacity)
{
    if (model == MODEL_LRU || model == MODEL_SIEVE || model == MODEL_SIEVE_COST)
        return list_run(model, t, capacity);
    return heap_run(model, t, next, capacity);
}

/* ---- bound ---- */

struct interval {
    double takes; /* weight times requests */
    double price; /* of one unit of what is counted */
    double value;
    uint32_t weight;
};

static int cheaper_first(const void *a, const void *b)
{
    double x = ((const struct interval *)a)->price, y = ((const struct interval *)b)->price;

    return (x > y) - (x < y);
}

/* A part of the first that does not fit any more counts as that part: the bound is then a little too high. */
static double fill(const struct interval *v, size_t n, uint64_t capacity, double room)
{
    double value = 0;

    for (size_t i = 0; i < n; i++) {
        if (v[i].weight > capacity)
            continue;
        if (v[i].takes > room)
            return value + v[i].value * room / v[i].takes;
        room -= v[i].takes;
        value += v[i].value;
    }
    return value;
}

static struct interval interval_of(const struct trace *t, const uint32_t *next, size_t i, bool bytes)
{
    const struct object *o = &t->objects[t->requests[i]];
    struct interval v = {.takes = (double)o->weight * (next[i] - (double)i), .weight = o->weight};

    v.value = bytes ? o->bytes : 1;
    v.price = v.takes / v.value;
    return v;
}

void bound_run(const struct trace *t, const uint32_t *next, const uint64_t *capacities, size_t n, struct hits *out)
{
    struct interval *v = must(malloc(t->nrequests * sizeof(struct interval)));

    for (unsigned bytes = 0; bytes < 2; bytes++) {
        size_t found = 0;

        for (size_t i = 0; i < t->nrequests; i++)
            if (next[i] < t->nrequests)
                v[found++] = interval_of(t, next, i, bytes);
        qsort(v, found, sizeof v[0], cheaper_first);
        for (size_t i = 0; i < n; i++)
            *(bytes ? &out[i].bytes : &out[i].requests) =
                fill(v, found, capacities[i], (double)capacities[i] * (double)t->nrequests);
    }
    free(v);
}
