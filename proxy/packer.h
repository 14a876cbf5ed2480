/*
 * A packer: one answer's body put into a content coding while it goes out, for what is still arriving and on routes
 * that ask for it (compress: stream). What has been packed so far can be decoded by the client.
 *
 * It works on the event loop, so a call gets no more than PACKER_PIECE_MAX bytes, and a thread has PACKERS_MAX at most:
 * who comes then gets the body as it is.
 *
 * Threads  The worker's.
 */
#ifndef WEIR_PROXY_PACKER_H
#define WEIR_PROXY_PACKER_H

#include "policies/compress.h"
#include "proxy/worker.h"

enum { PACKER_PIECE_MAX = 16 * 1024, PACKERS_MAX = 64 };

struct packer;

/* NULL: there are too many, or no memory. */
struct packer *packer_create(struct worker *w, enum coding coding, const struct compress_rules *rules);
/* final: nothing follows. *out stays as it is until the next call, and is empty only where nothing goes in. False: no
 * memory, and no more calls. */
bool packer_pack(struct packer *p, const struct bytes *runs, size_t n, bool final, struct bytes *out) MUST_USE;
void packer_destroy(struct packer *p); /* NULL is allowed */

#endif
