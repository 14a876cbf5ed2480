/*
 * UTF-8, byte by byte (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
 *
 * Threads  Pure functions, any thread.
 */
#ifndef WEIR_POLICIES_UTF8_H
#define WEIR_POLICIES_UTF8_H

#include <stdint.h>

struct utf8 { /* all zero: between two characters */
    uint32_t code;
    unsigned need;              /* so many more bytes */
    unsigned char lower, upper; /* between which the next one lies */
};

enum utf8_step {
    UTF8_MORE,
    UTF8_DONE,  /* `code` is a character */
    UTF8_WRONG, /* the byte cannot come here; the state is that between two characters again. If more bytes were needed
                 * before it, the byte may yet begin a character */
};

static inline enum utf8_step utf8_begin(struct utf8 *u, unsigned char c)
{
    if (c < 0x80) {
        u->code = c;
        return UTF8_DONE;
    }
    if (c < 0xc2 || c > 0xf4)
        return UTF8_WRONG;
    u->need = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    u->code = c & (0x3fu >> u->need);
    u->lower = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    u->upper = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    return UTF8_MORE;
}

static inline enum utf8_step utf8_feed(struct utf8 *u, unsigned char c)
{
    if (u->need == 0)
        return utf8_begin(u, c);
    if (c < u->lower || c > u->upper) {
        *u = (struct utf8){.code = 0};
        return UTF8_WRONG;
    }
    u->lower = 0x80;
    u->upper = 0xbf;
    u->code = (u->code << 6) | (c & 0x3f);
    return --u->need > 0 ? UTF8_MORE : UTF8_DONE;
}

#endif
