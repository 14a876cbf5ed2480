/*
 * A row of requests to be replayed: made up, or read from a file.
 *
 * Ownership  trace_free gives back what trace_zipf and trace_read have made.
 * Errors     Said on stderr; they end the program.
 */
#ifndef WEIR_LOADTEST_TRACE_H
#define WEIR_LOADTEST_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OBJECT_BYTES_MAX = 8 * 1024 * 1024 };

struct object {
    uint32_t bytes;
    uint32_t weight; /* what the store charges for it: set by store_weights */
    double fetch_s;  /* how long the origin takes for it */
    uint64_t draw;   /* what is made up about it comes from here */
};

struct trace {
    uint32_t *requests; /* each the number of an object */
    size_t nrequests;
    struct object *objects;
    size_t nobjects;
};

struct zipf_options {
    double s; /* the r-th most popular is asked for in proportion to r^-s */
    size_t objects, requests;
    bool scans;   /* every SCAN_EVERY requests one goes on through SCAN_LENGTH objects, each once, in a fixed order */
    bool wonders; /* so many percent of the requests are for what is never asked for again */
    uint64_t seed;
};

enum { SCAN_EVERY = 100000, SCAN_LENGTH = 20000, WONDERS_PERCENT = 20 };

struct trace trace_zipf(const struct zipf_options *options);

/* Lines of KEY,BYTES or KEY alone; sizes that are not given are made up, as a Zipf trace's are. A key's first size is
 * its size. What begins with # is skipped. */
struct trace trace_read(const char *path);

void trace_free(struct trace *t);

/* For each request the place of the next one for the same object; nrequests: there is none. To be freed. */
uint32_t *trace_next(const struct trace *t);

#endif
