/*
 * Request targets in their one canonical form (RFC 3986 section 6.2.2, RFC 9110 section 4.2.3): what is
 * keyed is also what is sent upstream, so that no disagreement between the two can poison the cache.
 *
 * Threads  Pure, any thread. Nothing allocates: outputs go to buffers of the caller.
 */
#ifndef WEIR_POLICIES_URI_H
#define WEIR_POLICIES_URI_H

#include "policies/bytes.h"

/* RFC 3986 sections 6.2.2.1 to 6.2.2.3: decodes escapes of unreserved characters, upper-cases the others' hex digits,
 * removes dot segments (also %2e ones), keeps %2F, ';' and empty segments. `raw` begins with '/' and has neither query
 * nor fragment. Writes at most raw.n bytes to out and sets *len. False: an invalid escape (%zz, %, %00) or a path that
 * climbs above the root. out may be raw.p. */
bool uri_path_normalize(struct bytes raw, char *out, size_t *len);

/* True: uri_path_normalize would give back the same bytes. False: it may. */
bool uri_path_is_canonical(struct bytes path);

/* Decodes escapes of unreserved characters and upper-cases the others' hex digits (RFC 3986 sections 6.2.2.1 and
 * 6.2.2.2). An invalid escape is kept as it is. At most raw.n bytes; out may be raw.p. Never makes an escape of what
 * was none: after such a bare '%' digits stay escaped. */
size_t uri_query_normalize(struct bytes raw, char *out);

/* Longest authority that is taken for one: a name of 255 bytes, its dot, ':' and a port with leading zeros. */
#define URI_AUTHORITY_MAX 272

/* Lower-case (RFC 3986 section 6.2.2.1), without the scheme's default port (section 6.2.3), without a trailing dot of
 * the name. At most authority.n bytes to out. False: not a host [":" port] (RFC 9110 section 7.2; userinfo is refused:
 * section 4.2.4). */
bool uri_authority_normalize(struct bytes authority, bool https, char *out, size_t *len);

/* http://host[:port]/path[?query] taken apart (borrowed from url; RFC 9110 sections 4.2.1 and 4.2.2); no fragment, no
 * userinfo. path is "/" where it is empty (section 4.2.3). */
struct uri_parts {
    bool https;
    struct bytes authority, path, query; /* query without '?' */
    bool has_query;
};
bool uri_parse(struct bytes url, struct uri_parts *out);

#endif
