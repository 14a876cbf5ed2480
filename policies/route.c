#include "policies/route.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "policies/uri.h"

/*
 * A trie over segments. Nodes stand in one array, the children of a node side by side and sorted, so that a literal
 * is found by bisection. A walk tries literal, then '*', then '**' at each node, deepest first: the first pattern it
 * meets is the most specific. Each node is visited at most once, whatever the path.
 */
struct range {
    uint32_t first, n; /* in order[], for routes; in nodes[], for children */
};

struct node {
    struct bytes segment;  /* literal; nothing for '*' and the root */
    struct range ends;     /* routes that end here */
    struct range rests;    /* routes that go on with '**' */
    struct range literals; /* children */
    uint32_t star;         /* child, or 0: none (the root is nobody's child) */
    struct range below;    /* all routes whose patterns pass here */
    uint32_t depth_n;      /* bytes of the pattern up to here */
};

struct route_index {
    const struct route_pattern *patterns;
    size_t n;
    uint32_t *order; /* patterns by pattern_order */
    struct node *nodes;
    uint32_t nnodes;
};

/* Takes "/segment" from the front. False at the end. */
static bool segment_next(struct bytes *rest, struct bytes *segment)
{
    if (rest->n == 0)
        return false;
    const char *p = rest->p + 1;
    size_t n = rest->n - 1;
    const char *slash = n == 0 ? NULL : memchr(p, '/', n);
    size_t segment_n = slash == NULL ? n : (size_t)(slash - p);
    *segment = (struct bytes){p, segment_n};
    rest->p += 1 + segment_n;
    rest->n -= 1 + segment_n;
    return true;
}

enum segment_kind { SEGMENT_END, SEGMENT_LITERAL, SEGMENT_STAR, SEGMENT_REST }; /* the most specific first */

static enum segment_kind segment_kind(struct bytes segment)
{
    if (bytes_eq(segment, BYTES_LIT("*")))
        return SEGMENT_STAR;
    return bytes_eq(segment, BYTES_LIT("**")) ? SEGMENT_REST : SEGMENT_LITERAL;
}

#define PATTERN_PATH_MAX 1024

const char *route_pattern_check(struct bytes path)
{
    char normal[PATTERN_PATH_MAX];
    size_t normal_n;
    struct bytes rest = path, segment;
    if (path.n == 0 || path.p[0] != '/')
        return "a path begins with '/'";
    if (path.n > PATTERN_PATH_MAX)
        return "a path has at most 1024 bytes";
    while (segment_next(&rest, &segment)) {
        enum segment_kind kind = segment_kind(segment);
        if (kind == SEGMENT_REST && rest.n > 0)
            return "'**' stands at the end of a path only";
        if (kind == SEGMENT_LITERAL && segment.n > 0 && memchr(segment.p, '*', segment.n) != NULL)
            return "'*' and '**' stand for whole segments";
    }
    for (size_t i = 0; i < path.n; i++)
        if (path.p[i] < 0x21 || path.p[i] > 0x7e || path.p[i] == '?' || path.p[i] == '#')
            return "a path has no blanks, '?', '#' or bytes beyond ASCII (escape them as %XX)";
    if (!uri_path_normalize(path, normal, &normal_n) || !bytes_eq(path, (struct bytes){normal, normal_n}))
        return "a path is compared in its normal form, which this is not: no '.' and '..' segments, no escapes of "
               "letters, digits, '-', '.', '_' and '~', others as %XX in upper case";
    return NULL;
}

static int bytes_compare(struct bytes a, struct bytes b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n == 0 ? 0 : memcmp(a.p, b.p, n);
    return order != 0 ? order : (a.n > b.n) - (a.n < b.n);
}

static int path_compare(struct bytes a, struct bytes b)
{
    for (;;) {
        struct bytes x, y;
        enum segment_kind kind_x = segment_next(&a, &x) ? segment_kind(x) : SEGMENT_END;
        enum segment_kind kind_y = segment_next(&b, &y) ? segment_kind(y) : SEGMENT_END;
        if (kind_x != kind_y)
            return kind_x < kind_y ? -1 : 1;
        if (kind_x == SEGMENT_END)
            return 0;
        int order = kind_x == SEGMENT_LITERAL ? bytes_compare(x, y) : 0;
        if (order != 0)
            return order;
    }
}

/* Hosts before none. */
static int host_compare(struct bytes a, struct bytes b)
{
    if (a.n == 0 || b.n == 0)
        return (a.n == 0) - (b.n == 0);
    return bytes_compare(a, b);
}

static bool method_listed(const struct route_pattern *pattern, struct bytes method)
{
    for (size_t i = 0; i < pattern->nmethods; i++)
        if (bytes_eq(pattern->methods[i], method) ||
            (bytes_eq(pattern->methods[i], BYTES_LIT("GET")) && bytes_eq(method, BYTES_LIT("HEAD"))))
            return true;
    return false;
}

static bool methods_overlap(const struct route_pattern *a, const struct route_pattern *b)
{
    for (size_t i = 0; i < a->nmethods; i++)
        if (method_listed(b, a->methods[i]))
            return true;
    for (size_t i = 0; i < b->nmethods; i++)
        if (method_listed(a, b->methods[i]))
            return true;
    return false;
}

int route_pattern_compare(const struct route_pattern *a, const struct route_pattern *b)
{
    int order = path_compare(a->path, b->path);
    if (order == 0)
        order = host_compare(a->host, b->host);
    if (order != 0)
        return order;
    if (a->nmethods == 0 || b->nmethods == 0)
        return (a->nmethods == 0) - (b->nmethods == 0);
    return methods_overlap(a, b) ? 0 : bytes_compare(a->methods[0], b->methods[0]);
}

/* Total, where route_pattern_compare is not transitive among overlapping lists of methods. */
static int pattern_order(const void *a, const void *b, void *patterns)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    const struct route_pattern *x = (const struct route_pattern *)patterns + i;
    const struct route_pattern *y = (const struct route_pattern *)patterns + j;
    int order = path_compare(x->path, y->path);
    if (order == 0)
        order = host_compare(x->host, y->host);
    if (order == 0)
        order = (x->nmethods == 0) - (y->nmethods == 0);
    return order != 0 ? order : (i > j) - (i < j);
}

/* The kind and text of the segment that pattern order[at] has behind a node. */
static enum segment_kind segment_behind(const struct route_index *index, const struct node *node, uint32_t at,
                                        struct bytes *segment)
{
    struct bytes path = index->patterns[index->order[at]].path;
    struct bytes rest = {path.p + node->depth_n, path.n - node->depth_n};
    return segment_next(&rest, segment) ? segment_kind(*segment) : SEGMENT_END;
}

/* How many of the node's routes from `at` on have that kind, and that literal, behind it. */
static struct range range_of(const struct route_index *index, const struct node *node, uint32_t at,
                             enum segment_kind kind, struct bytes segment)
{
    struct range range = {at, 0};
    struct bytes other;
    while (at + range.n < node->below.first + node->below.n &&
           segment_behind(index, node, at + range.n, &other) == kind &&
           (kind != SEGMENT_LITERAL || bytes_eq(other, segment)))
        range.n++;
    return range;
}

static uint32_t node_append(struct route_index *index, const struct node *parent, struct bytes segment,
                            struct range below)
{
    index->nodes[index->nnodes] =
        (struct node){.segment = segment, .below = below, .depth_n = parent->depth_n + 1 + (uint32_t)segment.n};
    return index->nnodes++;
}

/* Its routes stand in the order of enum segment_kind, literals sorted. */
static void node_fill(struct route_index *index, struct node *node)
{
    uint32_t at = node->below.first, end = at + node->below.n;
    while (at < end) {
        struct bytes segment = BYTES_NONE;
        enum segment_kind kind = segment_behind(index, node, at, &segment);
        struct range range = range_of(index, node, at, kind, segment);
        uint32_t child;
        switch (kind) {
        case SEGMENT_END:
            node->ends = range;
            break;
        case SEGMENT_LITERAL:
            child = node_append(index, node, segment, range);
            if (node->literals.n++ == 0)
                node->literals.first = child;
            break;
        case SEGMENT_STAR:
            node->star = node_append(index, node, segment, range);
            break;
        case SEGMENT_REST:
            node->rests = range;
            break;
        }
        at += range.n;
    }
}

static size_t nodes_max(const struct route_pattern *patterns, size_t n)
{
    size_t nodes = 1;
    for (size_t i = 0; i < n; i++) {
        struct bytes rest = patterns[i].path, segment;
        while (segment_next(&rest, &segment))
            nodes++;
    }
    return nodes;
}

struct route_index *route_index_create(const struct route_pattern *patterns, size_t n)
{
    size_t nodes = nodes_max(patterns, n);
    assert(nodes <= UINT32_MAX);
    struct route_index *index = calloc(1, sizeof *index);
    if (index == NULL)
        return NULL;
    index->order = calloc(n + 1, sizeof *index->order);
    if (index->order == NULL)
        goto free_index;
    index->nodes = calloc(nodes, sizeof *index->nodes);
    if (index->nodes == NULL)
        goto free_order;

    index->patterns = patterns;
    index->n = n;
    for (uint32_t i = 0; i < n; i++)
        index->order[i] = i;
    qsort_r(index->order, n, sizeof *index->order, pattern_order, (void *)(uintptr_t)patterns);
    index->nodes[0].below = (struct range){0, (uint32_t)n};
    index->nnodes = 1;
    for (uint32_t i = 0; i < index->nnodes; i++)
        node_fill(index, &index->nodes[i]);
    return index;

free_order:
    free(index->order);
free_index:
    free(index);
    return NULL;
}

void route_index_destroy(struct route_index *index)
{
    if (index == NULL)
        return;
    free(index->nodes);
    free(index->order);
    free(index);
}

struct wanted {
    const struct route_index *index;
    struct bytes method, host; /* host without port */
    bool method_missed;
};

/* The first of the routes first..end-1 with exactly this host, or host-less ones when host is empty. */
static size_t range_find_host(struct wanted *wanted, uint32_t first, uint32_t end, struct bytes host)
{
    const struct route_index *index = wanted->index;
    uint32_t low = first, high = end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (host_compare(index->patterns[index->order[middle]].host, host) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < end && bytes_eq(index->patterns[index->order[low]].host, host); low++) {
        const struct route_pattern *pattern = &index->patterns[index->order[low]];
        if (pattern->nmethods == 0 || method_listed(pattern, wanted->method))
            return index->order[low];
        wanted->method_missed = true;
    }
    return ROUTE_NONE;
}

static size_t range_find(struct wanted *wanted, struct range range)
{
    const struct route_index *index = wanted->index;
    size_t found = ROUTE_NONE;
    if (range.n == 0)
        return found;
    /* those with a host come first */
    if (wanted->host.n > 0 && index->patterns[index->order[range.first]].host.n > 0)
        found = range_find_host(wanted, range.first, range.first + range.n, wanted->host);
    return found != ROUTE_NONE ? found : range_find_host(wanted, range.first, range.first + range.n, BYTES_NONE);
}

static const struct node *literal_find(const struct route_index *index, const struct node *node, struct bytes segment)
{
    const struct node *children = index->nodes + node->literals.first;
    uint32_t low = 0, high = node->literals.n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = bytes_compare(children[middle].segment, segment);
        if (order == 0)
            return children + middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Recursion ends with the trie: a pattern has at most PATTERN_PATH_MAX segments. */
static size_t node_find(struct wanted *wanted, const struct node *node, struct bytes path)
{
    struct bytes segment;
    size_t found = ROUTE_NONE;
    if (!segment_next(&path, &segment)) {
        found = range_find(wanted, node->ends);
    } else {
        const struct node *literal = literal_find(wanted->index, node, segment);
        if (literal != NULL)
            found = node_find(wanted, literal, path);
        if (found == ROUTE_NONE && node->star != 0 && segment.n > 0)
            found = node_find(wanted, &wanted->index->nodes[node->star], path);
    }
    return found != ROUTE_NONE ? found : range_find(wanted, node->rests);
}

static struct bytes host_without_port(struct bytes authority)
{
    if (authority.n == 0)
        return authority;
    const char *from = authority.p[0] == '[' ? memchr(authority.p, ']', authority.n) : authority.p;
    if (from == NULL)
        return authority;
    const char *colon = memchr(from, ':', authority.n - (size_t)(from - authority.p));
    return colon == NULL ? authority : (struct bytes){authority.p, (size_t)(colon - authority.p)};
}

size_t route_find(const struct route_index *index, struct bytes method, struct bytes host, struct bytes path)
{
    struct wanted wanted = {index, method, host_without_port(host), false};
    size_t found = node_find(&wanted, &index->nodes[0], path);
    return found == ROUTE_NONE && wanted.method_missed ? ROUTE_METHOD : found;
}
