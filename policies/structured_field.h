/*
 * Structured Fields: Lists and Dictionaries, strictly (RFC 9651 section 4.2).
 *
 * A field is validated as a whole before anything of it is seen: one error anywhere, and none of it counts (section
 * 4.2: it MUST be ignored). What is not here: single Items as a field, and serialising.
 *
 *     struct sf field;
 *     struct sf_item item;
 *
 *     if (sf_dictionary_read(fields, BYTES_LIT("cdn-cache-control"), &field) == SF_OK)
 *         while (sf_next(&field, &item))
 *             ...
 *
 * All lines of the name are one field, as if joined by ", " (section 4.2); a line that is empty among others is an
 * error, as the joined text is. A String or Display String must end in the line that it begins in, which the section
 * leaves to the parser.
 *
 * Ownership  Nothing is copied or allocated: items borrow from the fields, for as long as these live.
 * Errors     A field is data from the network: it is judged, and enum sf_err says how.
 * Bounds     No lengths or counts beyond the grammar's own; time is linear in the field's length, and the depth is
 * fixed by the grammar (an Inner List holds Items alone). Threads    Pure, any thread.
 */
#ifndef WEIR_POLICIES_STRUCTURED_FIELD_H
#define WEIR_POLICIES_STRUCTURED_FIELD_H

#include <stdint.h>

#include "policies/field.h"

enum sf_err {
    SF_OK = 0, /* valid; it may be empty */
    SF_ABSENT, /* no field of that name */
    SF_INVALID,
};

enum sf_type {
    SF_INTEGER,
    SF_DECIMAL,
    SF_STRING,
    SF_TOKEN,
    SF_BYTE_SEQUENCE,
    SF_BOOLEAN,
    SF_DATE,
    SF_DISPLAY_STRING,
    SF_INNER_LIST,
};

struct sf_item {
    struct bytes key; /* of a Dictionary's member and of a parameter; else empty */
    enum sf_type type;
    int64_t number;      /* Integer: itself; Decimal: thousandths; Date: seconds since 1970; Boolean: 0 or 1 */
    struct bytes text;   /* String, Token, Byte Sequence, Display String: as sent, without the delimiters (sf_text()
                          * decodes   it); Inner List: its items, for sf_inner_next() */
    struct bytes params; /* for sf_param_next() */
};

struct sf { /* a validated field, and how far it has been gone through; a copy goes its own way */
    struct fields fields;
    struct bytes name, rest;
    size_t line;
    bool dictionary;
};

/* name: lower case. On anything but SF_OK *out has no members. */
enum sf_err sf_list_read(struct fields fields, struct bytes name, struct sf *out);
enum sf_err sf_dictionary_read(struct fields fields, struct bytes name, struct sf *out);

/* The next member, in the order sent. A key of a Dictionary that comes again is given again, and overrides what it said
 * before (section 4.2.2: its place stays that of the first): whoever goes through assigns, and does not add up. */
bool sf_next(struct sf *field, struct sf_item *out);

/* The member of that key that counts, the last one, from where the field has been gone through to. */
bool sf_find(struct sf field, struct bytes key, struct sf_item *out);

/* The next Item of an Inner List, or the next parameter; takes it off *rest, which is the text or params of an item. Of
 * a parameter that comes again the last counts (section 4.2.3.2). */
bool sf_inner_next(struct bytes *rest, struct sf_item *out);
bool sf_param_next(struct bytes *rest, struct sf_item *out);

/* What the text of a String, Token, Byte Sequence or Display String stands for; never longer than the text itself,
 * which is how long `out` must be. Returns the length; 0 for other types. */
size_t sf_text(const struct sf_item *item, char *out);

#endif
