#include "policies/request_check.h"

#include <string.h>

enum { TOKEN = 1, UPPER = 2 };

/* tchar of RFC 9110 section 5.6.2. */
static const unsigned char kinds[256] = {
    ['0' ... '9'] = TOKEN,  ['A' ... 'Z'] = TOKEN | UPPER,
    ['a' ... 'z'] = TOKEN,  ['!'] = TOKEN,
    ['#' ... '\''] = TOKEN, ['*'] = TOKEN,
    ['+'] = TOKEN,          ['-'] = TOKEN,
    ['.'] = TOKEN,          ['^' ... '`'] = TOKEN,
    ['|'] = TOKEN,          ['~'] = TOKEN,
};

static const struct request_verdict fine = {0, NULL};

static struct request_verdict refuse(int status, const char *why)
{
    return (struct request_verdict){status, why};
}

/* Eight bytes at once, as Lamport's "Multiple byte processing with full-word instructions" (1975) has it: EACH puts a
 * byte into all eight, and what is found is told by the bytes' highest bits. */
#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

static uint64_t word_at(const char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

/* Not 0 if one is zero. */
static uint64_t some_zero(uint64_t word)
{
    return (word - EACH(1)) & ~word & EACH(0x80);
}

/* Not 0 if one is below a limit of at most 0x80. */
static uint64_t some_below(uint64_t word, unsigned char limit)
{
    return (word - EACH(limit)) & ~word & EACH(0x80);
}

/* Not 0 if one is neither a small letter nor '-', as the usual names have only these. */
static uint64_t some_unusual(uint64_t word)
{
    uint64_t letters = ((word | EACH(0x80)) - EACH('a')) & (EACH('z' | 0x80) - (word & EACH(0x7f)));
    uint64_t dash = word ^ EACH('-');
    uint64_t dashes = ~((dash & EACH(0x7f)) + EACH(0x7f)) & ~dash;
    return (~(letters | dashes) | word) & EACH(0x80);
}

static uint64_t some_control(uint64_t word)
{
    return some_below(word, 0x20) | some_zero(word ^ EACH(0x7f));
}

/* What no target has: see target_valid. */
static uint64_t some_not_in_target(uint64_t word)
{
    return some_below(word, 0x21) | some_zero(word ^ EACH(0x7f)) | some_zero(word ^ EACH('#')) | (word & EACH(0x80));
}

/* Is there none of these bytes? False also for texts of fewer than 8. */
static inline bool is_free_of(struct bytes text, uint64_t (*some)(uint64_t))
{
    if (text.n < 8)
        return false;
    uint64_t found = some(word_at(text.p + text.n - 8));
    for (size_t i = 0; i + 8 < text.n; i += 8)
        found |= some(word_at(text.p + i));
    return found == 0;
}

/* Which of a token's requirements all bytes meet, and what some byte is. */
static bool name_valid(struct bytes name, unsigned char forbidden)
{
    unsigned char all = TOKEN, some = 0;
    if (is_free_of(name, some_unusual))
        return true;
    for (size_t i = 0; i < name.n; i++) {
        unsigned char kind = kinds[(unsigned char)name.p[i]];
        all &= kind;
        some |= kind;
    }
    return name.n > 0 && all == TOKEN && (some & forbidden) == 0;
}

bool token_valid(struct bytes token)
{
    return name_valid(token, 0);
}

/* RFC 9110 section 5.5, with obs-text and without the controls that a recipient may retain. */
static bool value_valid(struct bytes value)
{
    unsigned char bad = 0;
    if (is_free_of(value, some_control))
        return true;
    for (size_t i = 0; i < value.n; i++) {
        unsigned char c = (unsigned char)value.p[i];
        bad |= (unsigned char)(((c < 0x20) & (c != '\t')) | (c == 0x7f));
    }
    return bad == 0;
}

/* What an origin-form may hold (RFC 9112 section 3.2.1), read leniently but for white space (section 3.2), controls, a
 * fragment (RFC 9110 section 7.1) and what is not ASCII. */
static bool target_valid(struct bytes target)
{
    unsigned char bad = 0;
    if (is_free_of(target, some_not_in_target))
        return true;
    for (size_t i = 0; i < target.n; i++) {
        unsigned char c = (unsigned char)target.p[i];
        bad |= (unsigned char)((c < 0x21) | (c > 0x7e) | (c == '#'));
    }
    return bad == 0;
}

#define METHOD_MAX 32 /* longer than any registered one (RFC 9112 section 3: 501) */

/* RFC 9112 sections 3 and 3.1; CONNECT (RFC 9110 section 9.3.6) and TRACE (section 9.3.8) are not served. */
static struct request_verdict check_method(struct bytes method)
{
    if (bytes_eq(method, BYTES_LIT("GET")))
        return fine;
    if (!token_valid(method))
        return refuse(400, "the method is not a token");
    if (method.n > METHOD_MAX)
        return refuse(501, "the method is longer than any known one");
    if (bytes_eq(method, BYTES_LIT("CONNECT")) || bytes_eq(method, BYTES_LIT("TRACE")))
        return refuse(405, "this method is not served");
    return fine;
}

/* RFC 9112 sections 3 (414) and 3.2.1; "*" (section 3.2.4) is not served. */
static struct request_verdict check_target(const struct request_line *line, const struct request_limits *limits)
{
    if (line->target.n > limits->header_bytes_max)
        return refuse(414, "the request target is too long");
    if (line->target.n == 0 || line->target.p[0] != '/')
        return refuse(400, "the request target does not begin with '/'");
    if (!target_valid(line->target))
        return refuse(400, "the request target has a byte that must be escaped");
    return fine;
}

/* Digits only (RFC 9110 section 8.6). False: not so. What needs more than 64 bits counts as the largest. */
static bool length_read(struct bytes text, uint64_t *length)
{
    bool overflow = false;
    *length = 0;
    for (size_t i = 0; i < text.n; i++) {
        unsigned digit = (unsigned)(unsigned char)text.p[i] - '0';
        if (digit > 9)
            return false;
        overflow |= __builtin_mul_overflow(*length, 10, length) || __builtin_add_overflow(*length, digit, length);
    }
    if (overflow)
        *length = UINT64_MAX;
    return text.n > 0;
}

/* RFC 9110 sections 8.6 and 15.5.14. */
static struct request_verdict check_length(struct bytes value, const struct request_limits *limits)
{
    uint64_t length;
    if (!length_read(value, &length))
        return refuse(400, "Content-Length is not a number");
    if (length > limits->body_bytes_max)
        return refuse(413, "the request body is too long");
    return fine;
}

/* Expect: RFC 9110 section 10.1.1. TE and what belongs to an HTTP/1 connection: RFC 9113 section 8.2.2. */
static struct request_verdict check_known_field(const struct request_line *line, const struct field *f,
                                                const struct request_limits *limits)
{
    static const struct bytes connection_specific[] = {BYTES_LIT("connection"), BYTES_LIT("keep-alive"),
                                                       BYTES_LIT("proxy-connection"), BYTES_LIT("transfer-encoding"),
                                                       BYTES_LIT("upgrade")};
    if (bytes_eq_nocase(f->name, BYTES_LIT("content-length")))
        return check_length(f->value, limits);
    if (bytes_eq_nocase(f->name, BYTES_LIT("expect")) && !bytes_eq_nocase(f->value, BYTES_LIT("100-continue")))
        return refuse(417, "only 100-continue may be expected");
    if (!line->http2)
        return fine;
    if (bytes_eq(f->name, BYTES_LIT("te")) && !bytes_eq_nocase(f->value, BYTES_LIT("trailers")))
        return refuse(400, "TE has only trailers on HTTP/2");
    for (size_t i = 0; i < sizeof connection_specific / sizeof *connection_specific; i++)
        if (bytes_eq(f->name, connection_specific[i]))
            return refuse(400, "a field of HTTP/1 connections has no place on HTTP/2");
    return fine;
}

/* Bit n is set when a name of n bytes may be one that check_known_field knows. */
#define KNOWN_LENGTHS (1u << 2 | 1u << 6 | 1u << 7 | 1u << 10 | 1u << 14 | 1u << 16 | 1u << 17)

/* RFC 9110 sections 5.1 and 5.5; on HTTP/2 a name has no capitals (RFC 9113 section 8.2.1). */
static struct request_verdict check_field(const struct request_line *line, const struct field *f,
                                          const struct request_limits *limits)
{
    if (!name_valid(f->name, line->http2 ? UPPER : 0))
        return refuse(400, "a field name is not a token");
    if (!value_valid(f->value))
        return refuse(400, "a field value has a control character");
    if (f->name.n < 32 && (KNOWN_LENGTHS >> f->name.n & 1) != 0)
        return check_known_field(line, f, limits);
    return fine;
}

/* Too much is a 431 (RFC 6585 section 5). Of Content-Length, equal ones that RFC 9110 section 8.6 lets be one are
 * refused too. */
struct request_verdict request_check(const struct request_line *line, struct fields fields,
                                     const struct request_limits *limits)
{
    size_t lengths = 0, size = line->target.n;
    struct request_verdict verdict = check_method(line->method);
    if (verdict.status == 0)
        verdict = check_target(line, limits);
    if (verdict.status == 0 && fields.n > limits->fields_max)
        return refuse(431, "there are too many fields");
    for (size_t i = 0; i < fields.n && verdict.status == 0; i++) {
        const struct field *f = &fields.v[i];
        size += f->name.n + f->value.n + 32;
        if (size > limits->header_bytes_max)
            return refuse(431, "the fields are too long");
        verdict = check_field(line, f, limits);
        lengths += bytes_eq_nocase(f->name, BYTES_LIT("content-length"));
    }
    if (verdict.status == 0 && lengths > 1)
        return refuse(400, "there is more than one Content-Length");
    return verdict;
}

struct head {
    bool version_1_1;
    unsigned lengths, codings, hosts;
    bool host_named;
};

/* Takes a line that ends in CRLF, given back without it (RFC 9112 section 2.2, which lets a recipient take a bare LF,
 * too). False: none, or a CR or LF stands alone. */
static bool line_next(struct bytes *rest, struct bytes *line)
{
    const char *lf = rest->n == 0 ? NULL : memchr(rest->p, '\n', rest->n);
    if (lf == NULL || lf == rest->p)
        return false;
    size_t n = (size_t)(lf - rest->p);
    if (memchr(rest->p, '\r', n) != lf - 1)
        return false;
    *line = (struct bytes){rest->p, n - 1};
    rest->p += n + 1;
    rest->n -= n + 1;
    return true;
}

/* method SP target SP HTTP/1.0 or 1.1, with these two blanks only (RFC 9112 sections 2.3 and 3). A later minor version
 * is refused as well, which RFC 9110 section 6.2 would have read as 1.1. */
static struct request_verdict head_request_line(struct bytes line, struct head *head)
{
    const size_t tail = sizeof " HTTP/1.1" - 1;
    const char *blank = line.n == 0 ? NULL : memchr(line.p, ' ', line.n);
    if (blank == NULL || blank == line.p || line.n < tail)
        return refuse(400, "the request line is malformed");
    struct bytes version = {line.p + line.n - tail, tail};
    size_t after = line.n - (size_t)(blank + 1 - line.p);
    if (memchr(blank + 1, ' ', after) != version.p || version.p == blank + 1 ||
        !bytes_starts(version, BYTES_LIT(" HTTP/")) || version.p[7] != '.')
        return refuse(400, "the request line is malformed");
    head->version_1_1 = version.p[8] == '1';
    if (version.p[6] != '1' || (version.p[8] != '0' && version.p[8] != '1'))
        return refuse(505, "this version of HTTP is not served");
    return fine;
}

/* 501: RFC 9112 section 6.1. Names of codings know no case (section 7). */
static struct request_verdict head_field(struct bytes name, struct bytes value, struct head *head)
{
    uint64_t length;
    if (name.n == 4 && bytes_eq_nocase(name, BYTES_LIT("host"))) {
        head->hosts++;
        head->host_named = bytes_trim(value).n > 0;
    } else if (name.n == 14 && bytes_eq_nocase(name, BYTES_LIT("content-length"))) {
        head->lengths++;
        if (!length_read(bytes_trim(value), &length))
            return refuse(400, "Content-Length is not a number");
    } else if (name.n == 17 && bytes_eq_nocase(name, BYTES_LIT("transfer-encoding"))) {
        head->codings++;
        if (!bytes_eq_nocase(bytes_trim(value), BYTES_LIT("chunked")))
            return refuse(501, "the only transfer coding served is chunked");
    }
    return fine;
}

/* RFC 9112 sections 2.2, 5.1 and 5.2. */
static struct request_verdict head_field_line(struct bytes line, struct head *head)
{
    if (line.p[0] == ' ' || line.p[0] == '\t')
        return refuse(400, "a header line is folded");
    const char *colon = memchr(line.p, ':', line.n);
    if (colon == NULL || colon == line.p)
        return refuse(400, "a header line has no name");
    if (colon[-1] == ' ' || colon[-1] == '\t')
        return refuse(400, "there is a blank before the colon of a header line");
    struct bytes name = {line.p, (size_t)(colon - line.p)};
    return head_field(name, (struct bytes){colon + 1, line.n - name.n - 1}, head);
}

/* RFC 9112 sections 6.1 and 6.3, and 3.2 for Host, which RFC 9110 section 4.2.1 wants not to be empty. */
static struct request_verdict head_framing(const struct head *head)
{
    if (head->lengths > 1)
        return refuse(400, "there is more than one Content-Length");
    if (head->codings > 1)
        return refuse(400, "there is more than one Transfer-Encoding");
    if (head->lengths > 0 && head->codings > 0)
        return refuse(400, "there are both Content-Length and Transfer-Encoding");
    if (head->codings > 0 && !head->version_1_1)
        return refuse(400, "HTTP/1.0 has no Transfer-Encoding");
    if (head->hosts > 1)
        return refuse(400, "there is more than one Host");
    if (head->version_1_1 && !head->host_named)
        return refuse(400, "there is no Host");
    return fine;
}

struct request_verdict request_check_raw_head(struct bytes head)
{
    struct head seen = {0};
    struct bytes line;
    if (!line_next(&head, &line))
        return refuse(400, "the request line does not end in CRLF");
    struct request_verdict verdict = head_request_line(line, &seen);
    while (verdict.status == 0) {
        if (!line_next(&head, &line))
            return refuse(400, "a header line does not end in CRLF");
        if (line.n == 0)
            return head_framing(&seen);
        verdict = head_field_line(line, &seen);
    }
    return verdict;
}
