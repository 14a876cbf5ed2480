/*
 * The tags of a response: Cache-Groups and Cache-Group-Invalidation (RFC 9875 sections 2 and 3), and Surrogate-Key and
 * Cache-Tag from practice. What they are for, and that groups hold within one origin alone (RFC 9875 section 2.1), is
 * the caller's.
 *
 *     struct groups groups = groups_of(fields, GROUPS_CACHE_GROUPS);
 *     char buf[GROUP_BYTES_MAX];
 *     struct bytes group;
 *
 *     while (groups_next(&groups, buf, &group))
 *         ...
 *
 * Tags compare byte by byte, case included (section 2.1). One that comes twice is given twice; an empty String is a
 * group like others.
 *
 * Ownership  Allocates nothing; the fields must live as long as the struct.
 * Errors     A field of RFC 9875 is a List of Strings: with an error or a member of another type none of it counts (RFC
 *            9651 section 4.2). The others cannot be wrong.
 * Bounds     Tags longer than GROUP_BYTES_MAX as sent are left out, and so is what comes after GROUPS_MAX tags: both
 * above the 32 groups of 32 characters that RFC 9875 sections 2 and 3 ask for. Threads    Pure, any thread.
 */
#ifndef WEIR_POLICIES_GROUPS_H
#define WEIR_POLICIES_GROUPS_H

#include "policies/structured_field.h"

enum {
    GROUPS_MAX = 256,
    GROUP_BYTES_MAX = 1024,
};

enum groups_kind {
    GROUPS_CACHE_GROUPS,  /* Cache-Groups */
    GROUPS_INVALIDATION,  /* Cache-Group-Invalidation; the caller heeds it for unsafe methods alone (section 3) */
    GROUPS_SURROGATE_KEY, /* Surrogate-Key: words between spaces, tabs or commas */
    GROUPS_CACHE_TAG,     /* Cache-Tag: the same */
};

struct groups {
    bool structured;
    struct sf field; /* where not structured: just the place in the lines */
    size_t left;     /* so many tags more, at most */
};

struct groups groups_of(struct fields fields, enum groups_kind kind);

/* *out is borrowed from the fields or from buf: valid until the next call. */
bool groups_next(struct groups *groups, char buf[static GROUP_BYTES_MAX], struct bytes *out);

#endif
