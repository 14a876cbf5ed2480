#include "loadtest/replay.d/trace.h"

#include <err.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_FROM = 1024, BYTES_TO = 1024 * 1024, SIZE_BITS = 6 };

static const double FETCH_MEDIAN_S = 0.1, FETCH_SIGMA = 1, PI = 3.14159265358979323846;

static void *must(void *p)
{
    if (p == NULL)
        errx(1, "out of memory");
    return p;
}

/* splitmix64 */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static double unit(uint64_t x) /* in (0, 1) */
{
    return ((double)(x >> 12) + 0.5) / (double)(UINT64_C(1) << 52);
}

/* ---- objects ---- */

/* Pareto's law with exponent 1 between the bounds: half of the objects are below 2 KiB, half of the bytes lie in those
 * over 32 KiB. In steps of a few percent, so that there are not too many sizes to weigh. */
static uint32_t size_of(uint64_t draw)
{
    double u = unit(mix(draw ^ 1)), from = BYTES_FROM, to = BYTES_TO;
    uint32_t bytes = (uint32_t)(from / (1 - u * (1 - from / to))), step = 1;

    while (bytes / step >= 1u << SIZE_BITS)
        step *= 2;
    return bytes / step * step;
}

/* Log-normal, whatever its size and popularity. */
static double fetch_of(uint64_t draw)
{
    double normal = sqrt(-2 * log(unit(mix(draw ^ 2)))) * cos(2 * PI * unit(mix(draw ^ 3)));

    return FETCH_MEDIAN_S * exp(FETCH_SIGMA * normal);
}

static struct object object_of(uint64_t draw, uint32_t bytes)
{
    return (struct object){.bytes = bytes > 0 ? bytes : size_of(draw), .fetch_s = fetch_of(draw), .draw = draw};
}

/* ---- made up ---- */

struct zipf {
    double *sum; /* of the weights up to each rank */
    size_t n;
};

static struct zipf zipf_init(double s, size_t n)
{
    struct zipf z = {must(malloc(n * sizeof(double))), n};
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        z.sum[i] = sum += pow((double)(i + 1), -s);
    return z;
}

static uint32_t zipf_draw(const struct zipf *z, uint64_t random)
{
    double wanted = unit(random) * z->sum[z->n - 1];
    size_t from = 0, to = z->n - 1;

    while (from < to) {
        size_t middle = (from + to) / 2;

        if (z->sum[middle] < wanted)
            from = middle + 1;
        else
            to = middle;
    }
    return (uint32_t)from;
}

struct maker {
    const struct zipf_options *o;
    struct zipf zipf;
    uint64_t random;
    uint32_t scanned, scan_left, wonders;
};

static uint32_t make_request(struct maker *m, size_t i)
{
    if (m->o->scans && i % SCAN_EVERY == SCAN_EVERY - 1)
        m->scan_left = SCAN_LENGTH;
    if (m->scan_left > 0) {
        m->scan_left--;
        /* the order has nothing to do with popularity: a multiplier that shares no factor with the number */
        return (uint32_t)((m->scanned++ * UINT64_C(2654435761)) % m->o->objects);
    }
    m->random = mix(m->random);
    if (m->o->wonders && m->random % 100 < WONDERS_PERCENT)
        return (uint32_t)m->o->objects + m->wonders++;
    m->random = mix(m->random);
    return zipf_draw(&m->zipf, m->random);
}

struct trace trace_zipf(const struct zipf_options *o)
{
    struct maker m = {.o = o, .zipf = zipf_init(o->s, o->objects), .random = o->seed};
    struct trace t = {.nrequests = o->requests, .nobjects = o->objects};

    t.requests = must(malloc(o->requests * sizeof(uint32_t)));
    for (size_t i = 0; i < o->requests; i++)
        t.requests[i] = make_request(&m, i);
    t.nobjects += m.wonders;
    t.objects = must(calloc(t.nobjects, sizeof(struct object)));
    for (size_t i = 0; i < t.nobjects; i++)
        t.objects[i] = object_of(mix(o->seed + i), 0);
    free(m.zipf.sum);
    return t;
}

/* ---- from a file ---- */

struct reader {
    struct trace t;
    size_t requests_room, objects_room;
    uint32_t *slots; /* number of an object and 1; by its draw, open addressing */
    size_t nslots;
};

static void slots_grow(struct reader *r)
{
    free(r->slots);
    r->nslots = r->nslots == 0 ? 1 << 16 : r->nslots * 2;
    r->slots = must(calloc(r->nslots, sizeof(uint32_t)));
    for (size_t i = 0; i < r->t.nobjects; i++) {
        size_t slot = r->t.objects[i].draw & (r->nslots - 1);

        while (r->slots[slot] != 0)
            slot = (slot + 1) & (r->nslots - 1);
        r->slots[slot] = (uint32_t)i + 1;
    }
}

static uint32_t object_add(struct reader *r, uint64_t draw, uint32_t bytes)
{
    if (r->t.nobjects == r->objects_room) {
        r->objects_room = r->objects_room == 0 ? 1024 : r->objects_room * 2;
        r->t.objects = must(realloc(r->t.objects, r->objects_room * sizeof(struct object)));
    }
    r->t.objects[r->t.nobjects] = object_of(draw, bytes);
    return (uint32_t)r->t.nobjects++;
}

static uint32_t object_find(struct reader *r, uint64_t draw, uint32_t bytes)
{
    size_t slot;

    if (2 * r->t.nobjects >= r->nslots)
        slots_grow(r);
    for (slot = draw & (r->nslots - 1); r->slots[slot] != 0; slot = (slot + 1) & (r->nslots - 1))
        if (r->t.objects[r->slots[slot] - 1].draw == draw)
            return r->slots[slot] - 1;
    uint32_t number = object_add(r, draw, bytes);

    r->slots[slot] = number + 1;
    return number;
}

static void request_add(struct reader *r, uint32_t object)
{
    if (r->t.nrequests == r->requests_room) {
        r->requests_room = r->requests_room == 0 ? 1024 : r->requests_room * 2;
        r->t.requests = must(realloc(r->t.requests, r->requests_room * sizeof(uint32_t)));
    }
    r->t.requests[r->t.nrequests++] = object;
}

/* FNV-1a, mixed: two keys of one draw would count as one, which 64 bits make unlikely enough. */
static uint64_t draw_of(const char *key, size_t n)
{
    uint64_t h = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)key[i]) * UINT64_C(1099511628211);
    return mix(h);
}

static void read_line(struct reader *r, const char *path, unsigned long number, const char *line)
{
    size_t key_n = strcspn(line, ",\r\n");
    unsigned long bytes = 0;
    char *end = NULL;

    if (line[0] == '#' || key_n == 0)
        return;
    if (line[key_n] == ',') {
        bytes = strtoul(line + key_n + 1, &end, 10);
        if (end == line + key_n + 1 || bytes == 0 || bytes > OBJECT_BYTES_MAX)
            errx(1, "%s:%lu: after the comma 1 to %d bytes are expected", path, number, OBJECT_BYTES_MAX);
    }
    request_add(r, object_find(r, draw_of(line, key_n), (uint32_t)bytes));
}

struct trace trace_read(const char *path)
{
    struct reader r = {.nslots = 0};
    unsigned long number = 0;
    char line[4096];
    FILE *file = fopen(path, "r");

    if (file == NULL)
        err(1, "%s", path);
    while (fgets(line, sizeof line, file) != NULL)
        read_line(&r, path, ++number, line);
    if (ferror(file) != 0)
        err(1, "%s", path);
    fclose(file);
    free(r.slots);
    if (r.t.nrequests == 0)
        errx(1, "%s: there is no request in it", path);
    return r.t;
}

/* ---- both ---- */

void trace_free(struct trace *t)
{
    free(t->requests);
    free(t->objects);
}

uint32_t *trace_next(const struct trace *t)
{
    uint32_t *next = must(malloc(t->nrequests * sizeof(uint32_t)));
    uint32_t *last = must(malloc(t->nobjects * sizeof(uint32_t)));

    for (size_t i = 0; i < t->nobjects; i++)
        last[i] = (uint32_t)t->nrequests;
    for (size_t i = t->nrequests; i-- > 0;) {
        next[i] = last[t->requests[i]];
        last[t->requests[i]] = (uint32_t)i;
    }
    free(last);
    return next;
}
