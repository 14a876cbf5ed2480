#include "proxy/answer_head.h"

#include <h2o.h>
#include <stdlib.h>

void answer_head_begin(struct answer_head *head)
{
    head->text_n = head->nlines = head->bytes = 0;
    head->status = 0;
    head->complete = head->interim = false;
}

void answer_head_fini(struct answer_head *head)
{
    free(head->text);
    free(head->lines);
    free(head->fields);
}

static void reserve_text(struct answer_head *head, size_t n)
{
    if (head->text_n + n <= head->text_cap)
        return;
    head->text_cap = (head->text_n + n) * 2;
    head->text = h2o_mem_realloc(head->text, head->text_cap);
}

static void reserve_line(struct answer_head *head)
{
    if (head->nlines < head->lines_cap)
        return;
    head->lines_cap = head->lines_cap == 0 ? 32 : head->lines_cap * 2;
    head->lines = h2o_mem_realloc(head->lines, head->lines_cap * sizeof(*head->lines));
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* RFC 9110 section 5.6.2. */
static bool is_token_char(char c)
{
    static const bool token_chars[256] = {
        ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, ['!'] = true, ['#'] = true, ['$'] = true,
        ['%'] = true,         ['&'] = true,         ['\''] = true,        ['*'] = true, ['+'] = true, ['-'] = true,
        ['.'] = true,         ['^'] = true,         ['_'] = true,         ['`'] = true, ['|'] = true, ['~'] = true,
    };
    return token_chars[(unsigned char)c];
}

/* "HTTP/1." DIGIT SP 3DIGIT [SP reason], RFC 9112 section 4. */
static enum answer_verdict status_line(struct answer_head *head, struct bytes line)
{
    const char *p = line.p;

    if (line.n < 12 || memcmp(p, "HTTP/1.", 7) != 0 || !is_digit(p[7]) || p[8] != ' ' || !is_digit(p[9]) ||
        !is_digit(p[10]) || !is_digit(p[11]) || (line.n > 12 && p[12] != ' '))
        return ANSWER_REFUSED;
    head->version_1_0 = p[7] == '0';
    head->status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
    /* 101: nobody asked to switch protocols. */
    if (head->status < 100 || head->status > 599 || head->status == 101)
        return ANSWER_REFUSED;
    head->chunked = head->coded = false;
    head->content_length = -1;
    head->text_n = head->nlines = 0;
    return ANSWER_MORE;
}

static bool parse_length(struct bytes text, int64_t *out)
{
    int64_t n = 0;
    if (text.n == 0)
        return false;
    for (size_t i = 0; i < text.n; i++)
        if (!is_digit(text.p[i]) || __builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, text.p[i] - '0', &n))
            return false;
    *out = n;
    return true;
}

/* One number, or a list of equal ones (RFC 9112 section 6.3, case 5). */
static bool content_length(struct answer_head *head, struct bytes value)
{
    for (;;) {
        const char *comma = value.n == 0 ? NULL : memchr(value.p, ',', value.n);
        size_t n = comma == NULL ? value.n : (size_t)(comma - value.p);
        int64_t length;
        if (!parse_length(bytes_trim((struct bytes){value.p, n}), &length) ||
            (head->content_length >= 0 && head->content_length != length))
            return false;
        head->content_length = length;
        if (comma == NULL)
            return true;
        value = (struct bytes){comma + 1, value.n - n - 1};
    }
}

/* A coding that would have to be undone, or that may have been meant to be "chunked". */
static bool must_be_decoded(struct bytes coding)
{
    static const struct bytes known[] = {BYTES_LIT("gzip"),       BYTES_LIT("x-gzip"),  BYTES_LIT("compress"),
                                         BYTES_LIT("x-compress"), BYTES_LIT("deflate"), BYTES_LIT("identity")};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (bytes_eq_nocase(coding, known[i]))
            return true;
    for (size_t i = 0; i + 5 <= coding.n; i++)
        if (bytes_eq_nocase((struct bytes){coding.p + i, 5}, BYTES_LIT("chunk")))
            return true;
    return false;
}

static bool is_token(struct bytes text)
{
    for (size_t i = 0; i < text.n; i++)
        if (!is_token_char(text.p[i]))
            return false;
    return text.n > 0;
}

/* Only once; on HTTP/1.0 it means that the framing is faulty (RFC 9112 section 6.1). "chunked", or one coding that
 * nobody knows: then the content ends where the connection does (section 6.3) and is passed on as it is. */
static bool transfer_encoding(struct answer_head *head, struct bytes value)
{
    if (head->coded || head->version_1_0)
        return false;
    head->coded = true;
    head->chunked = bytes_eq_nocase(value, BYTES_LIT("chunked"));
    return head->chunked || (is_token(value) && !must_be_decoded(value));
}

static bool framing(struct answer_head *head, struct bytes name, struct bytes value)
{
    if (bytes_eq(name, BYTES_LIT("content-length")))
        return content_length(head, value) && !head->coded;
    if (bytes_eq(name, BYTES_LIT("transfer-encoding")))
        return transfer_encoding(head, value) && head->content_length < 0;
    return true;
}

static size_t name_length(struct bytes line)
{
    size_t n = 0;
    while (n < line.n && is_token_char(line.p[n]))
        n++;
    return n < line.n && line.p[n] == ':' ? n : 0;
}

/* A fold begins with white space, so it has no name either. */
static enum answer_verdict field_line(struct answer_head *head, struct bytes line)
{
    size_t n = name_length(line);
    if (n == 0 || head->nlines == ANSWER_FIELDS_MAX)
        return ANSWER_REFUSED;

    struct bytes value = bytes_trim((struct bytes){line.p + n + 1, line.n - n - 1});
    reserve_text(head, 2 * n + value.n);
    reserve_line(head);
    char *lower = head->text + head->text_n;
    for (size_t i = 0; i < n; i++)
        lower[i] = ascii_lower(line.p[i]);
    memcpy(lower + n, line.p, n);
    if (value.n > 0)
        memcpy(lower + 2 * n, value.p, value.n);

    uint32_t at = (uint32_t)head->text_n;
    head->lines[head->nlines++] =
        (struct answer_line){at + (uint32_t)n, (uint32_t)n, at + 2 * (uint32_t)n, (uint32_t)value.n};
    head->text_n += 2 * n + value.n;
    return framing(head, (struct bytes){lower, n}, value) ? ANSWER_MORE : ANSWER_REFUSED;
}

static enum answer_verdict end_of_head(struct answer_head *head)
{
    if (head->status < 200) { /* the final one follows (RFC 9110 section 15.2) */
        head->interim = true;
        return ANSWER_INTERIM;
    }
    head->complete = true;
    return ANSWER_COMPLETE;
}

static bool has_forbidden(struct bytes line)
{
    return line.n > 0 && (memchr(line.p, '\0', line.n) != NULL || memchr(line.p, '\r', line.n) != NULL ||
                          memchr(line.p, '\n', line.n) != NULL);
}

enum answer_verdict answer_head_line(struct answer_head *head, struct bytes line)
{
    head->bytes += line.n;
    if (head->bytes > ANSWER_HEAD_BYTES_MAX)
        return ANSWER_REFUSED;
    if (head->complete)
        return ANSWER_MORE;
    if (line.n > 0 && line.p[line.n - 1] == '\n')
        line.n--;
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    if (has_forbidden(line))
        return ANSWER_REFUSED;
    if (head->status == 0 || head->interim) {
        head->interim = false;
        return status_line(head, line);
    }
    return line.n == 0 ? end_of_head(head) : field_line(head, line);
}

struct fields answer_head_fields(struct answer_head *head)
{
    if (head->fields_cap < head->nlines) {
        head->fields_cap = head->lines_cap;
        head->fields = h2o_mem_realloc(head->fields, head->fields_cap * sizeof(*head->fields));
    }
    for (size_t i = 0; i < head->nlines; i++) {
        const struct answer_line *l = &head->lines[i];
        head->fields[i] = (struct field){.name = {head->text + l->name - l->name_n, l->name_n},
                                         .orig_name = head->text + l->name,
                                         .value = {head->text + l->value, l->value_n}};
    }
    return (struct fields){head->fields, head->nlines};
}
