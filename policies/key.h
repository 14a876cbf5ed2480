/*
 * The cache key: what makes two requests the same (RFC 9111 section 2).
 *
 * Parts, each with its length in a fixed width, so that no two lists of parts give the same bytes: scheme, host, path,
 * query, then the scope with the user's keyed hash, chosen header fields and chosen cookies with their names (a reload
 * may choose others). The first four are the key's url part, which purges and invalidations address in all scopes and
 * variants. An absent query, field or cookie differs from an empty one. HEAD has the key of GET
 * (RFC 9110 section 9.3.1).
 *
 * Threads  Pure, any thread; writes only to the caller's buffer.
 */
#ifndef WEIR_POLICIES_KEY_H
#define WEIR_POLICIES_KEY_H

#include "policies/field.h"
#include "policies/pattern.h"

enum key_query { KEY_QUERY_ALL, KEY_QUERY_NONE, KEY_QUERY_ONLY, KEY_QUERY_EXCEPT };

struct key_rules {
    enum key_query query;
    struct patterns query_names; /* ONLY, EXCEPT */
    const struct bytes *headers; /* lower-case names */
    size_t nheaders;
    const struct bytes *cookies; /* names */
    size_t ncookies;
};

#define USER_HASH_BYTES 32

struct key_request {
    bool https;
    struct bytes authority; /* already normalised (uri.h) */
    struct bytes path;      /* already normalised */
    struct bytes query;     /* raw, without '?' */
    bool has_query;
    struct fields fields;
    bool user_scope;
    struct bytes user; /* USER_HASH_BYTES, or empty for the anonymous user; only in user_scope */
};

struct key {
    struct bytes whole;  /* everything: compared on a hit */
    struct bytes url;    /* the prefix of whole that purges address */
    struct bytes target; /* path ["?" query] in canonical form: goes upstream. Points into url */
};

/* Bytes that key_build may need at most for this request. */
size_t key_bytes_max(const struct key_rules *rules, const struct key_request *r);

/* Query parameters are filtered as the rules say and stably sorted by name, which goes beyond RFC 9110 section 4.2.3
 * and is what the origin gets too; parameters of one name keep their order; when the rules leave none there is no
 * query. buf holds key_bytes_max() bytes and lives as long as *out. */
void key_build(const struct key_rules *rules, const struct key_request *r, char *buf, struct key *out);

/* The url part alone, as key_build makes it, of an absolute URL. `rules` are those of the URL's route. Returns false
 * for a bad URL. whole is url. buf: at least 3 * url.n + 64 bytes. */
bool key_url_of(const struct key_rules *rules, struct bytes url, char *buf, struct key *out);

/* Does the url part begin with this url prefix? (purge by prefix.) The prefix is an absolute URL, cut anywhere after
 * the authority; it is compared with scheme://authority/path?query of the key, after normalising the prefix's scheme
 * and authority. */
bool key_url_has_prefix(struct bytes key_url, struct bytes prefix);

/* The origin of a url part (RFC 9110 section 4.3.1); *authority points into it. */
bool key_url_origin(struct bytes key_url, bool *https, struct bytes *authority);

/* A url prefix in the form in which key_url_has_prefix finds it in keys: scheme, authority and escapes as they are in
 * those; what cannot be an escape, also one that is cut at the end, stays. At most prefix.n bytes to out. False: not an
 * absolute URL up to its authority. */
bool key_prefix_normalize(struct bytes prefix, char *out, size_t *len);

/* The query of a url part, canonical, without '?'. False: it has none. */
bool key_url_query(struct bytes key_url, struct bytes *query);

/* The same key with another query (NULL: with none), taken as it is; target is its own. buf: key->whole.n + query->n +
 * 1 bytes, lives as long as *out. */
void key_with_query(const struct key *key, const struct bytes *query, char *buf, struct key *out);

/* Writes the url part back as a URL for people (logs, explain), at most cap bytes; returns the length. */
size_t key_url_print(struct bytes key_url, char *out, size_t cap);

#endif
