#include "proxy/codec.h"

#include <brotli/decode.h>
#include <brotli/encode.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

enum {
    BUFFER_MIN = 16 * 1024,
    PIECE_MAX = 256 * 1024,
    GZIP_WINDOW = 15 + 16, /* zlib's way of saying gzip */
    GZIP_MEMORY = 8,
    ZSTD_WINDOW_LOG = 23, /* RFC 9659: more than 8 MiB need not be understood */
    /* Of a stream: with these an encoder takes half a MiB, and a piece little time. */
    STREAM_WINDOW_LOG = 17,
    STREAM_LEVEL_MAX = 3,
};

#define LENGTH_UNKNOWN UINT64_MAX /* a stream */

enum step {
    STEP_MORE, /* wants input, or room */
    STEP_DONE, /* at the end of the coding */
    STEP_BAD,
};

/* What a step reads from and writes to. */
struct stream {
    const uint8_t *in;
    size_t in_n;
    uint8_t *to;
    size_t room;
    bool last;  /* no more input after this */
    bool flush; /* all input so far is to come out */
    bool ended;
    union {
        z_stream gzip;
        BrotliEncoderState *br_encoder;
        BrotliDecoderState *br_decoder;
        ZSTD_CCtx *zstd_encoder;
        ZSTD_DCtx *zstd_decoder;
    };
};

struct codec {
    bool (*begin)(struct stream *s, unsigned level, uint64_t length);
    enum step (*step)(struct stream *s);
    void (*end)(struct stream *s);
};

/* --- gzip --- */

static enum step gzip_step(struct stream *s, int (*run)(z_stream *, int), int flush)
{
    s->gzip.next_in = (Bytef *)s->in;
    s->gzip.avail_in = (uInt)s->in_n;
    s->gzip.next_out = s->to;
    s->gzip.avail_out = (uInt)s->room;
    int end = run(&s->gzip, flush);

    s->in += s->in_n - s->gzip.avail_in;
    s->in_n = s->gzip.avail_in;
    s->to += s->room - s->gzip.avail_out;
    s->room = s->gzip.avail_out;
    return end == Z_STREAM_END ? STEP_DONE : end == Z_OK || end == Z_BUF_ERROR ? STEP_MORE : STEP_BAD;
}

static bool gzip_encoder_begin(struct stream *s, unsigned level, uint64_t length)
{
    (void)length;
    return deflateInit2(&s->gzip, (int)level, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY) == Z_OK;
}

static enum step gzip_encoder_step(struct stream *s)
{
    return gzip_step(s, deflate, s->last ? Z_FINISH : s->flush ? Z_SYNC_FLUSH : Z_NO_FLUSH);
}

static void gzip_encoder_end(struct stream *s)
{
    deflateEnd(&s->gzip);
}

static bool gzip_decoder_begin(struct stream *s, unsigned level, uint64_t length)
{
    (void)level;
    (void)length;
    return inflateInit2(&s->gzip, GZIP_WINDOW) == Z_OK;
}

/* There may be several members, one after the other (RFC 1952 section 2.2). */
static enum step gzip_decoder_step(struct stream *s)
{
    if (s->ended && s->in_n > 0) {
        if (inflateReset(&s->gzip) != Z_OK)
            return STEP_BAD;
        s->ended = false;
    }
    return s->ended ? STEP_DONE : gzip_step(s, inflate, Z_NO_FLUSH);
}

static void gzip_decoder_end(struct stream *s)
{
    inflateEnd(&s->gzip);
}

/* --- br --- */

static bool br_encoder_begin(struct stream *s, unsigned level, uint64_t length)
{
    s->br_encoder = BrotliEncoderCreateInstance(NULL, NULL, NULL);
    if (s->br_encoder == NULL || !BrotliEncoderSetParameter(s->br_encoder, BROTLI_PARAM_QUALITY, level))
        return false;
    if (length == LENGTH_UNKNOWN)
        return BrotliEncoderSetParameter(s->br_encoder, BROTLI_PARAM_LGWIN, STREAM_WINDOW_LOG);
    return BrotliEncoderSetParameter(s->br_encoder, BROTLI_PARAM_SIZE_HINT,
                                     length < UINT32_MAX ? (uint32_t)length : UINT32_MAX);
}

static enum step br_encoder_step(struct stream *s)
{
    BrotliEncoderOperation operation = s->last    ? BROTLI_OPERATION_FINISH
                                       : s->flush ? BROTLI_OPERATION_FLUSH
                                                  : BROTLI_OPERATION_PROCESS;

    if (!BrotliEncoderCompressStream(s->br_encoder, operation, &s->in_n, &s->in, &s->room, &s->to, NULL))
        return STEP_BAD;
    return BrotliEncoderIsFinished(s->br_encoder) ? STEP_DONE : STEP_MORE;
}

static void br_encoder_end(struct stream *s)
{
    if (s->br_encoder != NULL)
        BrotliEncoderDestroyInstance(s->br_encoder);
}

static bool br_decoder_begin(struct stream *s, unsigned level, uint64_t length)
{
    (void)level;
    (void)length;
    s->br_decoder = BrotliDecoderCreateInstance(NULL, NULL, NULL);
    return s->br_decoder != NULL;
}

static enum step br_decoder_step(struct stream *s)
{
    if (s->ended)
        return s->in_n == 0 ? STEP_DONE : STEP_BAD;
    switch (BrotliDecoderDecompressStream(s->br_decoder, &s->in_n, &s->in, &s->room, &s->to, NULL)) {
    case BROTLI_DECODER_RESULT_SUCCESS:
        return s->in_n == 0 ? STEP_DONE : STEP_BAD;
    case BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT:
    case BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT:
        return STEP_MORE;
    default:
        return STEP_BAD;
    }
}

static void br_decoder_end(struct stream *s)
{
    if (s->br_decoder != NULL)
        BrotliDecoderDestroyInstance(s->br_decoder);
}

/* --- zstd --- */

static bool zstd_encoder_begin(struct stream *s, unsigned level, uint64_t length)
{
    s->zstd_encoder = ZSTD_createCCtx();
    if (s->zstd_encoder == NULL ||
        ZSTD_isError(ZSTD_CCtx_setParameter(s->zstd_encoder, ZSTD_c_compressionLevel, (int)level)))
        return false;
    if (length == LENGTH_UNKNOWN)
        return !ZSTD_isError(ZSTD_CCtx_setParameter(s->zstd_encoder, ZSTD_c_windowLog, STREAM_WINDOW_LOG));
    return !ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(s->zstd_encoder, length));
}

static void zstd_moved(struct stream *s, const ZSTD_inBuffer *in, const ZSTD_outBuffer *out)
{
    s->in += in->pos;
    s->in_n -= in->pos;
    s->to += out->pos;
    s->room -= out->pos;
}

static enum step zstd_encoder_step(struct stream *s)
{
    ZSTD_inBuffer in = {s->in, s->in_n, 0};
    ZSTD_outBuffer out = {s->to, s->room, 0};
    size_t left = ZSTD_compressStream2(s->zstd_encoder, &out, &in,
                                       s->last    ? ZSTD_e_end
                                       : s->flush ? ZSTD_e_flush
                                                  : ZSTD_e_continue);

    zstd_moved(s, &in, &out);
    return ZSTD_isError(left) ? STEP_BAD : s->last && left == 0 ? STEP_DONE : STEP_MORE;
}

static void zstd_encoder_end(struct stream *s)
{
    ZSTD_freeCCtx(s->zstd_encoder);
}

static bool zstd_decoder_begin(struct stream *s, unsigned level, uint64_t length)
{
    (void)level;
    (void)length;
    s->zstd_decoder = ZSTD_createDCtx();
    return s->zstd_decoder != NULL &&
           !ZSTD_isError(ZSTD_DCtx_setParameter(s->zstd_decoder, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG));
}

/* Frames may follow each other (RFC 8878 section 3.1). */
static enum step zstd_decoder_step(struct stream *s)
{
    ZSTD_inBuffer in = {s->in, s->in_n, 0};
    ZSTD_outBuffer out = {s->to, s->room, 0};

    if (s->ended && s->in_n == 0)
        return STEP_DONE;
    size_t left = ZSTD_decompressStream(s->zstd_decoder, &out, &in);

    zstd_moved(s, &in, &out);
    return ZSTD_isError(left) ? STEP_BAD : left == 0 ? STEP_DONE : STEP_MORE;
}

static void zstd_decoder_end(struct stream *s)
{
    ZSTD_freeDCtx(s->zstd_decoder);
}

/* --- all --- */

static const struct codec encoders[CODINGS] = {
    [CODING_GZIP] = {gzip_encoder_begin, gzip_encoder_step, gzip_encoder_end},
    [CODING_BR] = {br_encoder_begin, br_encoder_step, br_encoder_end},
    [CODING_ZSTD] = {zstd_encoder_begin, zstd_encoder_step, zstd_encoder_end},
};

static const struct codec decoders[CODINGS] = {
    [CODING_GZIP] = {gzip_decoder_begin, gzip_decoder_step, gzip_decoder_end},
    [CODING_BR] = {br_decoder_begin, br_decoder_step, br_decoder_end},
    [CODING_ZSTD] = {zstd_decoder_begin, zstd_decoder_step, zstd_decoder_end},
};

static enum codec_end grow(struct codec_buffer *out, uint64_t max)
{
    size_t capacity = out->capacity < BUFFER_MIN ? BUFFER_MIN : 2 * out->capacity;

    if (out->n >= max)
        return CODEC_TOO_LARGE;
    if (out->n < out->capacity)
        return CODEC_OK;
    char *p = realloc(out->p, capacity);

    if (p == NULL)
        return CODEC_NO_MEMORY;
    out->p = p;
    out->capacity = capacity;
    return CODEC_OK;
}

/* Until the input is used up, and what became of it is out. */
static enum codec_end run(const struct codec *codec, struct stream *s, uint64_t max, struct codec_buffer *out)
{
    for (;;) {
        /* What is complete at exactly max bytes says so without any room. */
        enum codec_end end = s->ended ? CODEC_OK : grow(out, max);
        uint64_t room = out->capacity < max ? out->capacity - out->n : max - out->n;

        if (end == CODEC_NO_MEMORY)
            return end;
        size_t in_n = s->in_n;

        s->to = (uint8_t *)out->p + out->n;
        s->room = (size_t)room;
        enum step step = codec->step(s);
        size_t written = (size_t)room - s->room;

        out->n += written;
        if (step == STEP_BAD)
            return CODEC_BAD;
        s->ended = step == STEP_DONE;
        if (s->in_n == 0 && (s->ended || (!s->last && (s->room > 0 || end == CODEC_TOO_LARGE))))
            return CODEC_OK;
        if (written == 0 && s->in_n == in_n)
            return end == CODEC_TOO_LARGE ? end : CODEC_BAD;
    }
}

static enum codec_end run_body(const struct codec *codec, struct stream *s, struct stored *body, uint64_t max,
                               const _Atomic bool *stop, struct codec_buffer *out)
{
    struct stored_reader reader;
    enum codec_end end = CODEC_OK;

    if (!stored_reader_start(&reader, body))
        return CODEC_BAD;
    do {
        struct bytes piece = BYTES_NONE;
        size_t n = stored_reader_peek(&reader, &piece, 1, PIECE_MAX);

        s->in = (const uint8_t *)piece.p;
        s->in_n = n > 0 ? piece.n : 0;
        s->last = reader.position + s->in_n == stored_length(body);
        end = run(codec, s, max, out);
        if (n > 0)
            stored_reader_advance(&reader, piece.n);
        if (end == CODEC_OK && atomic_load_explicit((_Atomic bool *)stop, memory_order_relaxed))
            end = CODEC_STOPPED;
    } while (end == CODEC_OK && !s->last);
    stored_reader_stop(&reader);
    return end;
}

static enum codec_end code(const struct codec *codec, unsigned level, struct stored *body, uint64_t max,
                           const _Atomic bool *stop, struct codec_buffer *out)
{
    struct stream s = {.in = NULL};
    enum codec_end end = CODEC_NO_MEMORY;

    out->n = 0;
    if (max == 0)
        return CODEC_TOO_LARGE;
    if (codec->begin(&s, level, stored_length(body)))
        end = run_body(codec, &s, body, max, stop, out);
    codec->end(&s);
    return end;
}

enum codec_end codec_encode(enum coding coding, unsigned level, struct stored *body, uint64_t max,
                            const _Atomic bool *stop, struct codec_buffer *out)
{
    return code(&encoders[coding], level, body, max, stop, out);
}

enum codec_end codec_decode(enum coding coding, struct stored *body, uint64_t max, const _Atomic bool *stop,
                            struct codec_buffer *out)
{
    return code(&decoders[coding], 0, body, max, stop, out);
}

/* --- streams --- */

struct codec_stream {
    const struct codec *codec;
    struct stream s;
};

struct codec_stream *codec_stream_create(enum coding coding, unsigned level)
{
    struct codec_stream *stream = calloc(1, sizeof *stream);

    if (stream == NULL)
        return NULL;
    stream->codec = &encoders[coding];
    if (stream->codec->begin(&stream->s, level < STREAM_LEVEL_MAX ? level : STREAM_LEVEL_MAX, LENGTH_UNKNOWN))
        return stream;
    codec_stream_destroy(stream);
    return NULL;
}

enum codec_end codec_stream_add(struct codec_stream *stream, struct bytes piece, bool last, struct codec_buffer *out)
{
    struct stream *s = &stream->s;

    s->in = (const uint8_t *)piece.p;
    s->in_n = piece.n;
    s->last = last;
    s->flush = true;
    return run(stream->codec, s, UINT64_MAX, out);
}

void codec_stream_destroy(struct codec_stream *stream)
{
    if (stream == NULL)
        return;
    stream->codec->end(&stream->s);
    free(stream);
}

void codec_buffer_free(struct codec_buffer *out)
{
    free(out->p);
    *out = (struct codec_buffer){NULL, 0, 0};
}
