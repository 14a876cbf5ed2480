/*
 * Targeted fields: cache directives for some caches alone, which count in place of Cache-Control (RFC 9213), and
 * Surrogate-Control, their forerunner (W3C Note "Edge Architecture Specification", 4 August 2001, section 2.2).
 *
 * Where one counts, the caller heeds nothing of Cache-Control and Expires (RFC 9213 section 2.2) nor of Pragma: it uses
 * the struct that is filled here in place of cache_control_parse()'s; its `targeted` keeps freshness_of() off Expires.
 * All of the fields are passed on as they are (section 3 leaves that open for those that counted, section 2.2 asks it
 * of those that are not listed).
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_TARGETED_H
#define WEIR_POLICIES_TARGETED_H

#include "policies/cache_control.h"

/* The first of the names (lower case, the most important one first) whose field is there, valid and not empty, fills
 * *out (RFC 9213 section 2.2). False: none, and *out is without directives; Cache-Control, Expires and Pragma count.
 * Lists of field names borrow from the fields.
 *
 * A targeted field is a Dictionary (RFC 9213 section 2.1): with one error in it none of it counts. Of duplicates the
 * last counts; parameters do not. A field that is valid and names nothing known still counts ("CDN-Cache-Control: none"
 * in section 3.1). Values of another type than the directive's are not consumed:
 *   - max-age, s-maxage, stale-while-revalidate, stale-if-error that are no Integer from 0 on: 0. That is what a
 * lifetime nobody can read comes to (RFC 9111 section 4.2.1), and no heuristic takes its place.
 *   - no-store, must-revalidate and the like: Boolean true alone counts.
 *   - no-cache, private: a String that is a list of field names qualifies them, Boolean false is absence, all else
 * counts as the bare form.
 *
 * "surrogate-control" is read leniently, as Cache-Control is, and knows all of its directives. Besides:
 *   - max-age=60+30: the 30 seconds, in which the Note lets a stale response be served before it is validated, are a
 *     stale-while-revalidate.
 *   - what ends in ";weir" comes before the same directive without a target; what has another target is ignored.
 *   - content is ignored: nothing is processed; so is no-store-remote: weir is the origin's own surrogate, not a remote
 *     one. A field in which no directive is left counts for nothing: the next one's turn. */
bool targeted_cache_control(struct fields fields, const struct bytes *names, size_t n, struct cache_control *out);

#endif
