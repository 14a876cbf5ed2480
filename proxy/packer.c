#include "proxy/packer.h"

#include <stdlib.h>

#include "proxy/codec.h"

struct packer {
    struct worker *worker;
    struct codec_stream *stream;
    struct codec_buffer out;
};

struct packer *packer_create(struct worker *w, enum coding coding, const struct compress_rules *rules)
{
    struct packer *p = w->packers < PACKERS_MAX ? calloc(1, sizeof *p) : NULL;

    if (p == NULL)
        return NULL;
    p->stream = codec_stream_create(coding, rules->levels[coding]);
    if (p->stream == NULL) {
        free(p);
        return NULL;
    }
    p->worker = w;
    w->packers++;
    coder_count_stream(w->shared->coder);
    return p;
}

bool packer_pack(struct packer *p, const struct bytes *runs, size_t n, bool final, struct bytes *out)
{
    p->out.n = 0;
    for (size_t i = 0; i < n; i++)
        if (codec_stream_add(p->stream, runs[i], final && i + 1 == n, &p->out) != CODEC_OK)
            return false;
    if (n == 0 && final && codec_stream_add(p->stream, BYTES_LIT(""), true, &p->out) != CODEC_OK)
        return false;
    *out = (struct bytes){p->out.p, p->out.n};
    return true;
}

void packer_destroy(struct packer *p)
{
    if (p == NULL)
        return;
    p->worker->packers--;
    codec_stream_destroy(p->stream);
    codec_buffer_free(&p->out);
    free(p);
}
