/*
 * Content negotiation by weighted lists (RFC 9110 sections 12.4.2, 12.5.2 to 12.5.4): Accept-Charset, Accept-Encoding
 * and Accept-Language, what they mean, and which stored response they prefer.
 *
 * Ownership  Preferences borrow from the request's fields.
 * Threads    Pure, any thread.
 */
#ifndef WEIR_POLICIES_NEGOTIATE_H
#define WEIR_POLICIES_NEGOTIATE_H

#include "policies/field.h"

enum { PREFERENCES_MAX = 32, Q_MAX = 1000 };

struct preference {
    struct bytes name; /* in the sender's case; an alias (x-gzip) gives way to what it stands for */
    unsigned q;        /* thousandths; 0: not wanted at all */
};

/* The most wanted first, of equal weight by name: the order in which they came means nothing. */
struct preferences {
    struct preference v[PREFERENCES_MAX];
    size_t n;
};

/* Is it a field of that kind? name is lower case. */
bool negotiate_knows(struct bytes name);

/* All lines of that field, of which `first` is the first (fields_find); none at all are an empty list. What is named
 * twice with the same weight counts once. False: it cannot be read, is too long, or gives one name two weights. */
bool negotiate_parse(struct fields request, struct bytes name, size_t first, struct preferences *out);

/* The one text of all lists that mean the same, so that they match (RFC 9111 section 4.1): lower case, no blanks, no q
 * of 1. Never longer than the lines with a comma after each. Returns the length. */
size_t negotiate_write(const struct preferences *p, char *to);

/* Is this the language that is wanted most, and no other as much (RFC 9110 section 12.5.4)? `content_language` as in
 * the field: more than one language is not. */
bool negotiate_language_is_best(const struct preferences *p, struct bytes content_language);

/* Is it, or is no language stated? A range stands for all that begin with it (RFC 4647 section 3.3.1), and "*" for all
 * that match no other range. Without preferences all are. */
bool negotiate_language_is_acceptable(const struct preferences *p, struct bytes content_language);

/* May the coding be sent; is none wanted more? Empty: no coding. Without preferences (no Accept-Encoding, or an empty
 * one) that is no coding alone: RFC 9110 section 12.5.3 allows any where there is no field, but clients that send none
 * often understand none. */
bool negotiate_coding_is_best(const struct preferences *p, struct bytes content_encoding);
bool negotiate_coding_is_acceptable(const struct preferences *p, struct bytes content_encoding);

/* How much a coding is wanted, in thousandths, by its own weight or that of "*"; -1: neither is there. Lower case. */
int negotiate_coding_weight(const struct preferences *p, struct bytes coding);

#endif
