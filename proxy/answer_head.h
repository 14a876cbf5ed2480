/*
 * The head of an origin's answer, line by line, judged more strictly than libcurl does: what could be framed in two
 * ways is refused (RFC 9112 section 6.3). Private to upstream.
 *
 * Ownership  The head owns its buffers and keeps them for the next answer. Fields are borrowed until the next
 *            answer_head_begin. Threads    One at a time.
 */
#ifndef WEIR_PROXY_ANSWER_HEAD_H
#define WEIR_PROXY_ANSWER_HEAD_H

#include <stdint.h>

#include "policies/field.h"

/* All heads of one answer together: 1xx, final and trailers. */
#define ANSWER_HEAD_BYTES_MAX 65536
#define ANSWER_FIELDS_MAX 256 /* of one head: more are refused, for none may go unjudged */

struct answer_line {
    uint32_t name, name_n, value, value_n; /* offsets in text; the lower-case name stands right before the name */
};

struct answer_head {
    char *text;
    size_t text_n, text_cap;
    struct answer_line *lines;
    size_t nlines, lines_cap;
    struct field *fields;
    size_t fields_cap;

    size_t bytes; /* seen in all */
    int status;   /* 0: no status line yet */
    bool version_1_0, complete;
    bool interim;           /* what there is belongs to an interim response that is over */
    bool coded, chunked;    /* there was a Transfer-Encoding; it was "chunked" */
    int64_t content_length; /* < 0: not stated */
};

enum answer_verdict { ANSWER_MORE, ANSWER_INTERIM, ANSWER_COMPLETE, ANSWER_REFUSED };

void answer_head_begin(struct answer_head *head);
void answer_head_fini(struct answer_head *head);

/* One line with its end (CRLF or LF). ANSWER_INTERIM: at the empty line of a 1xx; status and answer_head_fields are
 * valid until the next line. ANSWER_COMPLETE: at the empty line of the final head; status, content_length and
 * answer_head_fields are valid. Lines after that (trailers) are only counted. */
enum answer_verdict answer_head_line(struct answer_head *head, struct bytes line);

struct fields answer_head_fields(struct answer_head *head);

#endif
