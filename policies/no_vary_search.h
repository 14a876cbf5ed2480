/*
 * No-Vary-Search: which parameters of a query do not tell responses apart (draft-ietf-httpbis-no-vary-search-05;
 * sections are those of that version).
 *
 * A draft, so where its versions differ, what an author can have meant is taken:
 *   - `params` as a Boolean: true stands for all parameters, with `except` beside it for all but those (earlier
 * versions; the present one ignores a field with either).
 *   - `key-order` alone counts (its section 1 has that example; the letter of its section 5.1 would drop it).
 * Whatever else is not as the draft has it leaves the field without effect, which costs hits at most.
 *
 * Ownership  Allocates nothing; what is read borrows from the fields, for as long as these live.
 * Errors     All input is from the network and judged. There is none that cannot be compared.
 * Bounds     Queries of more than NO_VARY_PAIRS_MAX parameters are left as they are; a field with more than
 *            NO_VARY_NAMES_MAX names has no effect.
 * Threads    Pure, any thread.
 */
#ifndef WEIR_POLICIES_NO_VARY_SEARCH_H
#define WEIR_POLICIES_NO_VARY_SEARCH_H

#include "policies/field.h"

enum {
    NO_VARY_PAIRS_MAX = 256,
    NO_VARY_NAMES_MAX = 256,
};

enum no_vary_kind {
    NO_VARY_NONE,   /* all parameters count */
    NO_VARY_PARAMS, /* those named do not */
    NO_VARY_EXCEPT, /* only those named do */
};

struct no_vary_search {
    enum no_vary_kind kind;
    struct bytes names; /* an Inner List of Strings, as sent */
    bool any_order;     /* the order of parameters with different names does not count; key-order */
};

/* Sections 5.1 and 5.2. False: it has no effect (also: there is none), *out is all zero, and queries are compared byte
 * by byte. */
bool no_vary_search_read(struct fields fields, struct no_vary_search *out);

/* Are two queries (without the '?') the same for it (section 6)? An absent query and an empty one are the same to a
 * field that has an effect, and told apart by the caller for one that has none. */
bool no_vary_search_equal(const struct no_vary_search *nvs, struct bytes query_a, struct bytes query_b);

/* The query reduced to what counts in section 6, in one spelling (application/x-www-form-urlencoded): the same for
 * those that are equal, and for no others. Fit for a cache key, together with the field's own names. `out` has room for
 * no_vary_search_bytes_max() bytes. Returns the length. */
size_t no_vary_search_bytes_max(struct bytes query);
size_t no_vary_search_reduce(const struct no_vary_search *nvs, struct bytes query, char *out);

#endif
