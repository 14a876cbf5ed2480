/*
 * Is a request personal, and whose is it (RFC 9111 section 3.5; `scope` and `ignore_cookies` of
 * weir.conf)?
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_PERSONAL_H
#define WEIR_POLICIES_PERSONAL_H

#include "policies/field.h"
#include "policies/pattern.h"

struct cookie {
    struct bytes name, value;
};

/* Takes the next cookie of a Cookie field's value; *rest starts as the whole value and shrinks. A pair without '=' is a
 * value without a name (as browsers send it): no list of names covers it. */
bool cookie_next(struct bytes *rest, struct cookie *out);

/* The value of a cookie in all Cookie lines, the first of that name; BYTES_NONE without. An empty value has p != NULL.
 */
struct bytes cookie_value(struct fields request, struct bytes name);

struct personal_rules {
    bool ignore_all_cookies;         /* ignore_cookies: on */
    struct patterns ignore_cookies;  /* list */
    const struct bytes *key_cookies; /* those in the key do not make a request personal */
    size_t nkey_cookies;
};

/* Authorization is what RFC 9111 section 3.5 is about; that a cookie makes personal is no rule of it. */
struct personal {
    bool authorization;
    bool cookie; /* at least one that neither the key nor ignore_cookies names */
};

struct personal personal_judge(const struct personal_rules *rules, struct fields request);

#endif
