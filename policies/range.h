/*
 * Byte ranges: Range, If-Range and Content-Range (RFC 9110 section 14), and which parts of a representation may be put
 * together (RFC 9111 sections 3.3 and 3.4).
 *
 * Positions are int64_t. A larger number in a request counts as INT64_MAX, which no representation reaches; a larger
 * one in a Content-Range makes that field invalid.
 * Not for deciding whether a response may be stored, nor for making multipart/byteranges.
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_RANGE_H
#define WEIR_POLICIES_RANGE_H

#include <stdint.h>

#include "policies/clock.h"
#include "policies/field.h"

#define RANGE_SPECS_MAX 16

struct range_spec {
    int64_t first; /* -1: a suffix, the last `last` bytes */
    int64_t last;  /* inclusive, >= first; INT64_MAX: to the end. Of a suffix: its length, perhaps 0 */
};

struct range_set {
    size_t n; /* 0 after RANGE_NONE */
    struct range_spec v[RANGE_SPECS_MAX];
};

enum range_kind {
    RANGE_NONE, /* the request is one for the whole representation */
    RANGE_ONE,
    RANGE_MANY,
};

/* The byte ranges that a request asks for. RANGE_NONE also for what is to be ignored, or may be: another unit, an
 * invalid set, a repeated field (RFC 9110 section 14.2), and sets that cost far more than they are worth (section
 * 17.15): more than RANGE_SPECS_MAX ranges, more than two that overlap others, more than four tiny ones out of order.
 * Only for GET (section 14.2); If-Range is asked apart. */
enum range_kind range_parse(struct fields request, struct range_set *out);

/* Bytes first to last, both of them included. */
struct span {
    uint64_t first, last;
};

enum range_fit {
    RANGE_SATISFIABLE,
    RANGE_UNSATISFIABLE, /* 416 (RFC 9110 section 15.5.17), when no range of the set is satisfiable */
    RANGE_EMPTY, /* a suffix of an empty representation: satisfiable, but no Content-Range can say so. Send the 200 */
};

/* Where the range lies in a representation of that length (RFC 9110 section 14.1.2). *out is set if satisfiable. */
enum range_fit range_resolve(const struct range_spec *spec, uint64_t length, struct span *out);

struct content_range {
    int64_t first, last; /* both -1: the unsatisfied form, bytes and a star */
    int64_t complete;    /* the representation's length; -1: not known, a star */
};

/* False for another unit than bytes and for all that is invalid (RFC 9110 section 14.4): the last position before the
 * first, or not below the complete length. Such a response is no part of anything. *out is set if true. */
bool content_range_parse(struct bytes value, struct content_range *out);

#define CONTENT_RANGE_MAX 72

/* Writes the field's value (RFC 9110 section 14.4) and a NUL; returns its length without the NUL. The unsatisfied form
 * is that of a 416 and takes a complete length that is known. */
size_t content_range_format(const struct content_range *range, char out[CONTENT_RANGE_MAX]);

/* Does If-Range let the Range of the request count against that stored response (RFC 9110 section 13.1.5)? True
 * without If-Range. An entity tag compares strongly; a date is equal to a Last-Modified that is strong (section
 * 8.8.2.2), at least a second before Date. When false, the whole representation is sent. */
bool range_if_range_holds(struct fields request, struct fields stored_response, struct wall_s now);

/* Are these two responses of one URL and variant from the same representation, byte for byte: the same strong entity
 * tag or, with no entity tag in either, the same strong Last-Modified (RFC 9110 section 15.3.7.3, RFC 9111 section
 * 3.4)? */
bool validators_agree_strongly(struct fields a, struct fields b, struct wall_s now);

#endif
