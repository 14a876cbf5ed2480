#include "policies/uri.h"

#include <arpa/inet.h>
#include <stdint.h>

enum { HOST = 1, UNRESERVED = 2 };

/* HOST: what a name or an IPv4 address is made of. RFC 3986 section 3.2.2 also has sub-delims and escapes in a
 * reg-name; no name in the DNS has them, and each is a way to mean two hosts with one text. */
static const unsigned char kinds[256] = {
    ['0' ... '9'] = HOST | UNRESERVED,
    ['A' ... 'Z'] = HOST | UNRESERVED,
    ['a' ... 'z'] = HOST | UNRESERVED,
    ['-'] = HOST | UNRESERVED,
    ['.'] = HOST | UNRESERVED,
    ['_'] = HOST | UNRESERVED,
    ['~'] = UNRESERVED,
};

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that the escape at p stands for, p[0] being '%'; -1: not an escape. */
static int escape_value(const char *p, const char *end)
{
    if (end - p < 3)
        return -1;
    int high = hex_value(p[1]), low = hex_value(p[2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static char *escape_put(int value, char *out)
{
    static const char digits[] = "0123456789ABCDEF";
    *out++ = '%';
    *out++ = digits[value >> 4];
    *out++ = digits[value & 15];
    return out;
}

/* Eight bytes at once (Lamport 1975, as in request_check.c): is one of them '%' or '.'? May say so of others where one
 * is. */
static bool word_may_matter(const char *p)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones * 0x80;
    uint64_t word, percent, dot;

    memcpy(&word, p, sizeof word);
    percent = word ^ ones * '%';
    dot = word ^ ones * '.';
    return (((percent - ones) & ~percent) | ((dot - ones) & ~dot)) & highs;
}

/* Without an escape and without a segment that begins with a dot. */
static bool path_is_plain(struct bytes path)
{
    size_t i = 0;
    char previous = 0;

    while (i + 8 <= path.n && !word_may_matter(path.p + i))
        i += 8;
    if (i > 0)
        previous = path.p[i - 1];
    for (; i < path.n; i++) {
        if (path.p[i] == '%' || (path.p[i] == '.' && previous == '/'))
            return false;
        previous = path.p[i];
    }
    return true;
}

bool uri_path_is_canonical(struct bytes path)
{
    return path.n > 0 && path.p[0] == '/' && path_is_plain(path);
}

/* Copies up to the next '/' or the end, escapes normalised; NULL: an invalid escape. *in is moved on. */
static char *segment_put(const char **in, const char *end, char *out)
{
    const char *p = *in;
    while (p < end && *p != '/') {
        if (*p != '%') {
            *out++ = *p++;
            continue;
        }
        int value = escape_value(p, end);
        if (value <= 0)
            return NULL;
        p += 3;
        if (kinds[value] & UNRESERVED)
            *out++ = (char)value;
        else
            out = escape_put(value, out);
    }
    *in = p;
    return out;
}

/* RFC 3986 section 5.2.4 on the fly: `slash` is where the segment that ends at out began in the output (which begins at
 * begin). Returns where the output goes on; NULL: above the root. */
static char *dot_segment_remove(char *begin, char *slash, char *out, bool last)
{
    if (out - slash == 2 && slash[1] == '.')
        return slash + last;
    if (out - slash != 3 || slash[1] != '.' || slash[2] != '.')
        return out;
    if (slash == begin)
        return NULL;
    do
        slash--;
    while (*slash != '/');
    return slash + last;
}

bool uri_path_normalize(struct bytes raw, char *out, size_t *len)
{
    if (raw.n == 0 || raw.p[0] != '/')
        return false;
    if (path_is_plain(raw)) {
        memmove(out, raw.p, raw.n);
        *len = raw.n;
        return true;
    }
    const char *in = raw.p, *end = raw.p + raw.n;
    char *to = out;
    while (in < end) {
        char *slash = to;
        *to++ = '/';
        in++;
        to = segment_put(&in, end, to);
        if (to != NULL)
            to = dot_segment_remove(out, slash, to, in == end);
        if (to == NULL)
            return false;
    }
    *len = (size_t)(to - out);
    return true;
}

size_t uri_query_normalize(struct bytes raw, char *out)
{
    if (raw.n == 0)
        return 0;
    const char *p = raw.p, *end = raw.p + raw.n;
    const char *escape = memchr(p, '%', raw.n);
    size_t plain = escape == NULL ? raw.n : (size_t)(escape - p);
    memmove(out, p, plain);
    p += plain;

    char *to = out + plain;
    /* How many of the next bytes would join a '%' that begins no escape: a digit decoded there would make one. */
    int joins = 0;
    while (p < end) {
        int value = *p == '%' ? escape_value(p, end) : -1;
        if (value < 0) {
            joins = *p == '%' ? 2 : *p == '&' || joins == 0 ? 0 : joins - 1;
            *to++ = *p++;
            continue;
        }
        p += 3;
        if ((kinds[value] & UNRESERVED) && !(joins > 0 && hex_value((char)value) >= 0)) {
            *to++ = (char)value;
            joins -= joins > 0;
        } else {
            to = escape_put(value, to);
            joins = 0;
        }
    }
    return (size_t)(to - out);
}

/* RFC 3986 section 3.2: [host][:port] at the colon that is not inside an IPv6 literal. */
static bool authority_split(struct bytes authority, struct bytes *host, struct bytes *port)
{
    const char *end = authority.p + authority.n, *p;
    if (authority.p[0] == '[') {
        p = memchr(authority.p, ']', authority.n);
        if (p == NULL)
            return false;
        p++;
    } else {
        p = memchr(authority.p, ':', authority.n);
        if (p == NULL)
            p = end;
    }
    *host = (struct bytes){authority.p, (size_t)(p - authority.p)};
    *port = BYTES_NONE;
    if (p == end)
        return true;
    *port = (struct bytes){p + 1, (size_t)(end - p) - 1};
    return *p == ':';
}

/* RFC 3986 section 3.2.2; without a zone, and no later version of the literal. */
static bool ipv6_literal_valid(struct bytes host)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    size_t n = host.n - 2;
    if (n >= sizeof text || memchr(host.p, 0, host.n) != NULL)
        return false;
    memcpy(text, host.p + 1, n);
    text[n] = 0;
    return inet_pton(AF_INET6, text, &address) == 1;
}

/* Without the root's dot: labels of HOST characters, none empty (RFC 9110 section 4.2.1 for the whole). */
static bool host_name_valid(struct bytes host)
{
    char previous = '.';
    for (size_t i = 0; i < host.n; i++) {
        if (!(kinds[(unsigned char)host.p[i]] & HOST) || (host.p[i] == '.' && previous == '.'))
            return false;
        previous = host.p[i];
    }
    return previous != '.';
}

/* An empty port is no port (RFC 3986 section 6.2.3): *number is 0. Leading zeros go. */
static bool port_read(struct bytes *port, unsigned *number)
{
    *number = 0;
    if (port->n == 0)
        return true;
    while (port->n > 1 && port->p[0] == '0')
        port->p++, port->n--;
    if (port->n > 5)
        return false;
    for (size_t i = 0; i < port->n; i++) {
        if (port->p[i] < '0' || port->p[i] > '9')
            return false;
        *number = *number * 10 + (unsigned)(port->p[i] - '0');
    }
    return *number >= 1 && *number <= 65535;
}

/* Takes an authority apart and judges it; host comes without the root's dot. */
static bool authority_read(struct bytes authority, struct bytes *host, struct bytes *port, unsigned *number)
{
    if (authority.n == 0 || authority.n > URI_AUTHORITY_MAX || !authority_split(authority, host, port))
        return false;
    if (host->n > 0 && host->p[0] == '[')
        return ipv6_literal_valid(*host) && port_read(port, number);
    if (host->n > 1 && host->p[host->n - 1] == '.')
        host->n--;
    return host_name_valid(*host) && port_read(port, number);
}

bool uri_authority_normalize(struct bytes authority, bool https, char *out, size_t *len)
{
    struct bytes host, port;
    unsigned number;
    if (!authority_read(authority, &host, &port, &number))
        return false;
    for (size_t i = 0; i < host.n; i++)
        out[i] = ascii_lower(host.p[i]);
    *len = host.n;
    if (number == 0 || number == (https ? 443 : 80))
        return true;
    out[host.n] = ':';
    memmove(out + host.n + 1, port.p, port.n);
    *len += 1 + port.n;
    return true;
}

/* What comes after "http://" or "https://". A scheme knows no case (RFC 3986 section 6.2.2.1). */
static bool scheme_skip(struct bytes url, bool *https, struct bytes *rest)
{
    static const struct bytes schemes[] = {BYTES_LIT("http://"), BYTES_LIT("https://")};
    for (size_t i = 0; i < 2; i++) {
        size_t n = schemes[i].n;
        if (url.n >= n && bytes_eq_nocase((struct bytes){url.p, n}, schemes[i])) {
            *https = i == 1;
            *rest = (struct bytes){url.p + n, url.n - n};
            return true;
        }
    }
    return false;
}

static bool uri_characters_valid(struct bytes url)
{
    for (size_t i = 0; i < url.n; i++)
        if (url.p[i] < 0x21 || url.p[i] > 0x7e || url.p[i] == '#')
            return false;
    return true;
}

bool uri_parse(struct bytes url, struct uri_parts *out)
{
    struct bytes rest;
    if (!uri_characters_valid(url) || !scheme_skip(url, &out->https, &rest))
        return false;
    const char *end = rest.p + rest.n, *p = rest.p;
    while (p < end && *p != '/' && *p != '?') {
        if (*p == '@')
            return false;
        p++;
    }
    out->authority = (struct bytes){rest.p, (size_t)(p - rest.p)};
    const char *mark = memchr(p, '?', (size_t)(end - p));
    const char *path_end = mark == NULL ? end : mark;
    out->path = path_end == p ? BYTES_LIT("/") : (struct bytes){p, (size_t)(path_end - p)};
    out->has_query = mark != NULL;
    out->query = mark == NULL ? BYTES_NONE : (struct bytes){mark + 1, (size_t)(end - mark) - 1};
    return out->authority.n > 0;
}
