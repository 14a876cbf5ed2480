/*
 * Header and trailer fields of one message, as a borrowed list (RFC 9110 section 5).
 *
 * Names are lower case where they come from a request or from stored responses (guard and upstream
 * see to it); orig_name, where not NULL, has the same length and the sender's own case.
 */
#ifndef WEIR_POLICIES_FIELD_H
#define WEIR_POLICIES_FIELD_H

#include "policies/bytes.h"

struct field {
    struct bytes name;
    const char *orig_name;
    struct bytes value; /* without surrounding OWS */
};

struct fields {
    const struct field *v;
    size_t n;
};

/* The first field of that (lower-case) name at or after `from`; SIZE_MAX-like f.n when there is none. */
static inline size_t fields_find(struct fields f, struct bytes name, size_t from)
{
    for (size_t i = from; i < f.n; i++)
        if (bytes_eq(f.v[i].name, name))
            return i;
    return f.n;
}

static inline struct bytes fields_value(struct fields f, struct bytes name)
{
    size_t i = fields_find(f, name, 0);
    return i < f.n ? f.v[i].value : BYTES_NONE;
}

static inline bool fields_has(struct fields f, struct bytes name)
{
    return fields_find(f, name, 0) < f.n;
}

#endif
