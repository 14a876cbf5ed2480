/*
 * The codecs: a stored response's body into a content coding, or out of one (RFC 9110 section 8.4.1: gzip, RFC 1952;
 * br, RFC 7932; zstd, RFC 8878).
 *
 * Takes as long as it takes: not for event loops, but for small bodies, and for streams, piece by piece. What the
 * libraries work in is theirs, and not charged to the store.
 *
 * Threads  Any, one at a time for a stream; a body is complete, and the caller holds it.
 */
#ifndef WEIR_PROXY_CODEC_H
#define WEIR_PROXY_CODEC_H

#include "cache/stored.h"
#include "policies/coding.h"

enum codec_end {
    CODEC_OK = 0,
    CODEC_TOO_LARGE, /* more than max bytes would come out */
    CODEC_BAD,       /* it is not in that coding, or ends too early or too late */
    CODEC_NO_MEMORY,
    CODEC_STOPPED,
};

/* Grows as needed and may be used again. Zero before the first use. */
struct codec_buffer {
    char *p;
    size_t n, capacity;
};

/* stop: once it is true they end at the next piece. */
enum codec_end codec_encode(enum coding coding, unsigned level, struct stored *body, uint64_t max,
                            const _Atomic bool *stop, struct codec_buffer *out) MUST_USE;
enum codec_end codec_decode(enum coding coding, struct stored *body, uint64_t max, const _Atomic bool *stop,
                            struct codec_buffer *out) MUST_USE;

/* An encoder for what goes out as it comes: of low levels and small windows. NULL: no memory. */
struct codec_stream;
struct codec_stream *codec_stream_create(enum coding coding, unsigned level) MUST_USE;
/* Whoever has all that was added to `out` since the beginning can decode all that went in. last: nothing follows. */
enum codec_end codec_stream_add(struct codec_stream *stream, struct bytes piece, bool last,
                                struct codec_buffer *out) MUST_USE;
void codec_stream_destroy(struct codec_stream *stream); /* NULL is allowed */

void codec_buffer_free(struct codec_buffer *out);

#endif
