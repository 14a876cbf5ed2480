/*
 * Choosing among the stored variants of a primary key where none was made for exactly the values of this request: the
 * cold side of a lookup (RFC 9111 sections 4.1 and 4.3.1).
 *
 * Variants that were made for credentials are never looked at: which request they were for cannot be told.
 *
 * Ownership  What is returned is the caller's reference, unless it says otherwise.
 * Threads    Those of the store's thread.
 */
#ifndef WEIR_PROXY_SELECTION_H
#define WEIR_PROXY_SELECTION_H

#include "cache/store.h"
#include "policies/variants.h"

/* What is looked for, and where. */
struct selection {
    struct store *store;
    struct store_thread *thread;
    struct mono_ms now;
    struct bytes primary, variant; /* whole keys */
    const struct key *own;         /* which was reduced to the primary one (no_vary.h); NULL: none was */
    struct fields request;
    bool authorization, cookie; /* personal on what is shared: usable is only what says so */
};

/* May this response be used for such a request at all (RFC 9111 section 3.5)? */
static inline bool selection_may_use(const struct stored *s, bool authorization, bool cookie)
{
    return (!authorization || s->head->with_authorization) && (!cookie || s->head->with_cookie);
}

/* RFC 9111 section 4.1: a response to a request whose other nominated fields were the same, and which is in the one
 * language that this request wants most, or in one of the codings of which it wants none more. Of several the newest by
 * its Date (section 4). NULL: none. */
struct stored *selection_match(const struct selection *q, const struct stored *marker);

/* Stored responses one of which the origin may confirm. */
struct offers {
    struct stored *v[VARIANTS_MAX]; /* references */
    size_t n;
};

/* Those of the marker's with an entity-tag (RFC 9111 section 4.3.1) that this request would take: in a coding and a
 * language that it accepts, and made for the same Accept. */
void offers_collect(const struct selection *q, const struct stored *marker, struct offers *out);

/* The field value for If-None-Match (RFC 9110 section 13.1.2), each tag once. Returns the length; to: NULL to learn
 * it. */
size_t offers_write(const struct offers *o, char *to);

/* The one whose entity-tag a 304 names (RFC 9111 section 4.3.4): strongly compared, else weakly, the newest of several.
 * More lenient than that section are these: a strong tag may name a weak one, and where only one was offered a 304
 * without a tag speaks of it. NULL: none. Borrowed. */
struct stored *offers_named(const struct offers *o, struct fields not_modified);

/* Has no purge gone over it since? One that goes through the store now may not have come to it yet. */
bool selection_may_build_on(struct store *store, const struct stored *s);

/* They are not offered again: the origin's 304 does not say which of them it means. */
void offers_withdraw(const struct offers *o);
void offers_fini(struct offers *o);

#endif
