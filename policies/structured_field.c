#include "policies/structured_field.h"

#include "policies/utf8.h"

/* Each read_ function takes what it reads off the beginning of *s. False: that is an error of the field. */

enum { INTEGER_DIGITS_MAX = 15, DECIMAL_DIGITS_MAX = 12, FRACTION_DIGITS_MAX = 3 };

static void advance(struct bytes *s, size_t n)
{
    s->p += n;
    s->n -= n;
}

static bool take_char(struct bytes *s, char c)
{
    if (s->n == 0 || s->p[0] != c)
        return false;
    advance(s, 1);
    return true;
}

static void skip_sp(struct bytes *s)
{
    while (take_char(s, ' '))
        ;
}

static void skip_ows(struct bytes *s)
{
    while (take_char(s, ' ') || take_char(s, '\t'))
        ;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_alpha(char c)
{
    return is_lower(ascii_lower(c));
}

static bool is_printable(char c)
{
    return c >= 0x20 && c < 0x7f;
}

/* RFC 9651 section 4.2.3.3. */
static bool read_key(struct bytes *s, struct bytes *key)
{
    size_t n = 1;

    if (s->n == 0 || (!is_lower(s->p[0]) && s->p[0] != '*'))
        return false;
    while (n < s->n && (is_lower(s->p[n]) || is_digit(s->p[n]) || (s->p[n] != '\0' && strchr("_-.*", s->p[n]))))
        n++;
    *key = (struct bytes){s->p, n};
    advance(s, n);
    return true;
}

/* RFC 9651 section 4.2.4. */
static bool read_number(struct bytes *s, struct sf_item *out)
{
    bool negative = take_char(s, '-'), decimal = false;
    size_t digits = 0, fraction = 0;
    int64_t value = 0;

    for (; s->n > 0; advance(s, 1)) {
        if (is_digit(s->p[0])) {
            value = value * 10 + (s->p[0] - '0');
            *(decimal ? &fraction : &digits) += 1;
        } else if (s->p[0] == '.' && !decimal && digits > 0) {
            decimal = true;
        } else {
            break;
        }
        if (digits > (decimal ? DECIMAL_DIGITS_MAX : INTEGER_DIGITS_MAX) || fraction > FRACTION_DIGITS_MAX)
            return false;
    }
    if (digits == 0 || (decimal && fraction == 0))
        return false;
    for (; decimal && fraction < FRACTION_DIGITS_MAX; fraction++)
        value *= 10;
    out->type = decimal ? SF_DECIMAL : SF_INTEGER;
    out->number = negative ? -value : value;
    return true;
}

/* RFC 9651 section 4.2.5. */
static bool read_string(struct bytes *s, struct sf_item *out)
{
    out->type = SF_STRING;
    for (size_t i = 1; i < s->n; i++) {
        if (s->p[i] == '"') {
            out->text = (struct bytes){s->p + 1, i - 1};
            advance(s, i + 1);
            return true;
        }
        if (s->p[i] == '\\' && (++i == s->n || (s->p[i] != '"' && s->p[i] != '\\')))
            return false;
        if (!is_printable(s->p[i]))
            return false;
    }
    return false;
}

/* RFC 9651 section 4.2.6. */
static bool is_token_char(char c)
{
    return is_alpha(c) || is_digit(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~:/", c) != NULL);
}

static bool read_token(struct bytes *s, struct sf_item *out)
{
    size_t n = 1;

    while (n < s->n && is_token_char(s->p[n]))
        n++;
    out->type = SF_TOKEN;
    out->text = (struct bytes){s->p, n};
    advance(s, n);
    return true;
}

/* The six bits of a character of base64, or -1. */
static int base64_bits(char c)
{
    if (is_alpha(c))
        return is_lower(c) ? c - 'a' + 26 : c - 'A';
    if (is_digit(c))
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 9651 section 4.2.7: padding may be missing, and the bits that pad need not be zero. */
static bool read_byte_sequence(struct bytes *s, struct sf_item *out)
{
    size_t n = 1, pads = 0;

    while (n < s->n && base64_bits(s->p[n]) >= 0)
        n++;
    while (n + pads < s->n && s->p[n + pads] == '=')
        pads++;
    if (n + pads == s->n || s->p[n + pads] != ':' || (n - 1) % 4 == 1)
        return false;
    if (pads > 0 && (pads > 2 || (n - 1 + pads) % 4 != 0))
        return false;
    out->type = SF_BYTE_SEQUENCE;
    out->text = (struct bytes){s->p + 1, n - 1};
    advance(s, n + pads + 1);
    return true;
}

/* RFC 9651 section 4.2.8. */
static bool read_boolean(struct bytes *s, struct sf_item *out)
{
    if (s->n < 2 || (s->p[1] != '0' && s->p[1] != '1'))
        return false;
    out->type = SF_BOOLEAN;
    out->number = s->p[1] == '1';
    advance(s, 2);
    return true;
}

/* RFC 9651 section 4.2.9. */
static bool read_date(struct bytes *s, struct sf_item *out)
{
    advance(s, 1);
    if (!read_number(s, out) || out->type != SF_INTEGER)
        return false;
    out->type = SF_DATE;
    return true;
}

static int lower_hex(char c)
{
    return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that a Display String has at *i, an escape or itself; -1: none. *i is left at its last character. RFC 9651
 * section 4.2.10. */
static int display_byte(struct bytes s, size_t *i)
{
    int high, low;

    if (!is_printable(s.p[*i]))
        return -1;
    if (s.p[*i] != '%')
        return s.p[*i];
    if (s.n - *i < 3)
        return -1;
    high = lower_hex(s.p[*i + 1]);
    low = lower_hex(s.p[*i + 2]);
    *i += 2;
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* RFC 9651 section 4.2.10. */
static bool read_display_string(struct bytes *s, struct sf_item *out)
{
    struct utf8 utf8 = {.code = 0};

    if (s->n < 2 || s->p[1] != '"')
        return false;
    out->type = SF_DISPLAY_STRING;
    for (size_t i = 2; i < s->n; i++) {
        int byte;

        if (s->p[i] == '"') {
            out->text = (struct bytes){s->p + 2, i - 2};
            advance(s, i + 1);
            return utf8.need == 0;
        }
        byte = display_byte(*s, &i);
        if (byte < 0 || utf8_feed(&utf8, (unsigned char)byte) == UTF8_WRONG)
            return false;
    }
    return false;
}

/* RFC 9651 section 4.2.3.1. */
static bool read_bare_item(struct bytes *s, struct sf_item *out)
{
    if (s->n == 0)
        return false;
    switch (s->p[0]) {
    case '"':
        return read_string(s, out);
    case ':':
        return read_byte_sequence(s, out);
    case '?':
        return read_boolean(s, out);
    case '@':
        return read_date(s, out);
    case '%':
        return read_display_string(s, out);
    case '*':
        return read_token(s, out);
    default:
        return is_alpha(s->p[0]) ? read_token(s, out) : read_number(s, out);
    }
}

/* A key, and whether it has a value; without one it is Boolean true (RFC 9651 sections 4.2.2 and 4.2.3.2). */
static bool read_keyed(struct bytes *s, struct sf_item *out, bool *has_value)
{
    struct bytes key;

    if (!read_key(s, &key))
        return false;
    *has_value = take_char(s, '=');
    *out = (struct sf_item){.key = key, .type = SF_BOOLEAN, .number = *has_value ? 0 : 1};
    return true;
}

/* RFC 9651 section 4.2.3.2, a single one with its ';'. */
static bool read_parameter(struct bytes *s, struct sf_item *out)
{
    bool has_value;

    advance(s, 1);
    skip_sp(s);
    return read_keyed(s, out, &has_value) && (!has_value || read_bare_item(s, out));
}

static bool read_parameters(struct bytes *s, struct bytes *params)
{
    const char *begin = s->p;
    struct sf_item param;

    while (s->n > 0 && s->p[0] == ';')
        if (!read_parameter(s, &param))
            return false;
    *params = (struct bytes){begin, (size_t)(s->p - begin)};
    return true;
}

/* RFC 9651 section 4.2.3. */
static bool read_item(struct bytes *s, struct sf_item *out)
{
    return read_bare_item(s, out) && read_parameters(s, &out->params);
}

/* RFC 9651 section 4.2.1.2. */
static bool read_inner_list(struct bytes *s, struct sf_item *out)
{
    const char *begin = s->p + 1;
    struct sf_item item;

    advance(s, 1);
    for (;;) {
        skip_sp(s);
        if (s->n > 0 && s->p[0] == ')')
            break;
        item = (struct sf_item){.number = 0};
        if (!read_item(s, &item) || s->n == 0 || (s->p[0] != ' ' && s->p[0] != ')'))
            return false;
    }
    out->type = SF_INNER_LIST;
    out->text = (struct bytes){begin, (size_t)(s->p - begin)};
    advance(s, 1);
    return read_parameters(s, &out->params);
}

/* RFC 9651 section 4.2.1.1. */
static bool read_value(struct bytes *s, struct sf_item *out)
{
    return s->n > 0 && s->p[0] == '(' ? read_inner_list(s, out) : read_item(s, out);
}

/* Of a List (RFC 9651 section 4.2.1) or a Dictionary (section 4.2.2). */
static bool read_member(struct bytes *s, bool dictionary, struct sf_item *out)
{
    bool has_value;

    *out = (struct sf_item){.number = 0};
    if (!dictionary)
        return read_value(s, out);
    if (!read_keyed(s, out, &has_value))
        return false;
    return has_value ? read_value(s, out) : read_parameters(s, &out->params);
}

enum step { STEP_MEMBER, STEP_END, STEP_WRONG };

/* RFC 9651 sections 4.2.1 and 4.2.2: a member, and the comma after it: a ',', or the end of the line with another line
 * after it. That no member follows a comma is seen by the next step. */
static enum step step(struct sf *f, struct sf_item *out)
{
    if (f->line >= f->fields.n)
        return STEP_END;
    if (!read_member(&f->rest, f->dictionary, out))
        return STEP_WRONG;
    skip_ows(&f->rest);
    if (f->rest.n == 0) {
        f->line = fields_find(f->fields, f->name, f->line + 1);
        if (f->line < f->fields.n)
            f->rest = f->fields.v[f->line].value;
        skip_ows(&f->rest);
        return STEP_MEMBER;
    }
    if (!take_char(&f->rest, ','))
        return STEP_WRONG;
    skip_ows(&f->rest);
    return STEP_MEMBER;
}

/* RFC 9651 section 4.2. */
static enum sf_err read_field(struct fields fields, struct bytes name, bool dictionary, struct sf *out)
{
    struct sf f = {fields, name, BYTES_NONE, fields_find(fields, name, 0), dictionary}, check;
    struct sf_item item;
    enum step last;

    *out = (struct sf){fields, name, BYTES_NONE, fields.n, dictionary};
    if (f.line >= fields.n)
        return SF_ABSENT;
    f.rest = fields.v[f.line].value;
    skip_sp(&f.rest);
    if (f.rest.n == 0 && fields_find(fields, name, f.line + 1) >= fields.n)
        return SF_OK;
    check = f;
    while ((last = step(&check, &item)) == STEP_MEMBER)
        ;
    if (last == STEP_WRONG)
        return SF_INVALID;
    *out = f;
    return SF_OK;
}

enum sf_err sf_list_read(struct fields fields, struct bytes name, struct sf *out)
{
    return read_field(fields, name, false, out);
}

enum sf_err sf_dictionary_read(struct fields fields, struct bytes name, struct sf *out)
{
    return read_field(fields, name, true, out);
}

bool sf_next(struct sf *field, struct sf_item *out)
{
    return step(field, out) == STEP_MEMBER;
}

bool sf_find(struct sf field, struct bytes key, struct sf_item *out)
{
    struct sf_item item;
    bool found = false;

    while (sf_next(&field, &item))
        if (bytes_eq(item.key, key)) {
            *out = item;
            found = true;
        }
    return found;
}

bool sf_inner_next(struct bytes *rest, struct sf_item *out)
{
    *out = (struct sf_item){.number = 0};
    skip_sp(rest);
    return rest->n > 0 && read_item(rest, out);
}

bool sf_param_next(struct bytes *rest, struct sf_item *out)
{
    return rest->n > 0 && read_parameter(rest, out);
}

static size_t base64_decode(struct bytes s, char *out)
{
    uint32_t bits = 0;
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        bits = (bits << 6) | (uint32_t)base64_bits(s.p[i]);
        if (i % 4 > 0)
            out[n++] = (char)(bits >> (6 - 2 * (i % 4)));
    }
    return n;
}

size_t sf_text(const struct sf_item *item, char *out)
{
    struct bytes s = item->text;
    size_t n = 0;

    switch (item->type) {
    case SF_STRING:
        for (size_t i = 0; i < s.n; i++) {
            i += s.p[i] == '\\';
            out[n++] = s.p[i];
        }
        return n;
    case SF_DISPLAY_STRING:
        for (size_t i = 0; i < s.n; i++)
            out[n++] = (char)display_byte(s, &i);
        return n;
    case SF_BYTE_SEQUENCE:
        return base64_decode(s, out);
    case SF_TOKEN:
        if (s.n > 0)
            memcpy(out, s.p, s.n);
        return s.n;
    case SF_INTEGER:
    case SF_DECIMAL:
    case SF_BOOLEAN:
    case SF_DATE:
    case SF_INNER_LIST:
        return 0;
    }
    return 0;
}
