/*
 * The parser of Structured Fields against a second one, which follows RFC 9651 section 4.2 step by step, on the joined
 * text of all lines: random text, valid fields and mutations of these. What is compared is whether a field is valid,
 * and every value in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/structured_field.h"
#include "tests/unit/mutate.h"
#include <math.h>

enum {
    RUNS = 20000,
    LINES_MAX = 4,
    TEXT_MAX = LINES_MAX * (MUTATE_MAX + 2),
    DUMP_MAX = 1 << 16,
    ENTRIES_MAX = 1024,
};

/* Values as text, to be compared. */

struct dump {
    char text[DUMP_MAX];
    size_t n;
};

static void dump_bytes(struct dump *d, const char *p, size_t n)
{
    assert_true(d->n + n <= sizeof d->text);
    if (n > 0)
        memcpy(d->text + d->n, p, n);
    d->n += n;
}

static void dump_char(struct dump *d, char c)
{
    dump_bytes(d, &c, 1);
}

static void dump_number(struct dump *d, char type, int64_t number)
{
    char digits[24];
    size_t at = sizeof digits;
    uint64_t rest = number < 0 ? (uint64_t)-number : (uint64_t)number;

    do
        digits[--at] = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (number < 0)
        digits[--at] = '-';
    dump_char(d, type);
    dump_bytes(d, digits + at, sizeof digits - at);
    dump_char(d, ' ');
}

static void dump_text(struct dump *d, char type, const char *p, size_t n)
{
    dump_number(d, type, (int64_t)n);
    dump_bytes(d, p, n);
}

/* A Dictionary or Parameters: values (parts of a dump) by key. The last counts, in the place of the first. */
struct map {
    struct {
        struct bytes key;
        size_t from, to;
    } v[ENTRIES_MAX];
    size_t n;
};

static void map_put(struct map *m, struct bytes key, size_t from, size_t to)
{
    size_t i = 0;

    while (i < m->n && !bytes_eq(m->v[i].key, key))
        i++;
    if (i == m->n) {
        assert_true(m->n < ENTRIES_MAX);
        m->v[m->n++].key = key;
    }
    m->v[i].from = from;
    m->v[i].to = to;
}

static void dump_map(struct dump *d, const struct map *m, const struct dump *values)
{
    for (size_t i = 0; i < m->n; i++) {
        dump_text(d, 'k', m->v[i].key.p, m->v[i].key.n);
        dump_bytes(d, values->text + m->v[i].from, m->v[i].to - m->v[i].from);
    }
}

/* The reference: input_string of the RFC is text[at..n), and `failed` is "fail parsing". */

static struct {
    char text[TEXT_MAX];
    bool joint[TEXT_MAX]; /* of the ", " between two lines */
    size_t n, at;
    bool failed;
} in;

static void fail_parsing(void)
{
    in.failed = true;
    in.at = in.n;
}

static bool is_empty(void)
{
    return in.at >= in.n;
}

static char first(void)
{
    return is_empty() ? '\0' : in.text[in.at];
}

static bool first_is(const char *set)
{
    return !is_empty() && first() != '\0' && strchr(set, first()) != NULL;
}

static void discard(const char *set)
{
    while (first_is(set))
        in.at++;
}

#define DIGIT "0123456789"
#define LCALPHA "abcdefghijklmnopqrstuvwxyz"
#define ALPHA LCALPHA "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static void consume(char c)
{
    if (is_empty() || first() != c)
        fail_parsing();
    else
        in.at++;
}

/* 4.2.3.3 */
static struct bytes ref_key(void)
{
    size_t from = in.at;

    if (!first_is(LCALPHA "*")) {
        fail_parsing();
        return BYTES_NONE;
    }
    while (first_is(LCALPHA DIGIT "_-.*"))
        in.at++;
    return (struct bytes){in.text + from, in.at - from};
}

/* 4.2.4: true for a Decimal */
static bool ref_number(int64_t *value)
{
    bool decimal = false;
    int64_t sign = 1;
    char number[32] = "";
    size_t n = 0;

    *value = 0;
    if (first() == '-') {
        in.at++;
        sign = -1;
    }
    if (!first_is(DIGIT)) {
        fail_parsing();
        return false;
    }
    while (!is_empty()) {
        char c = first();

        in.at++;
        if (c >= '0' && c <= '9') {
            number[n++] = c;
        } else if (!decimal && c == '.') {
            if (n > 12) {
                fail_parsing();
                return false;
            }
            number[n++] = c;
            decimal = true;
        } else {
            in.at--;
            break;
        }
        if (n > (decimal ? 16 : 15)) {
            fail_parsing();
            return false;
        }
    }
    if (!decimal) {
        *value = sign * strtoll(number, NULL, 10);
        return false;
    }
    if (number[n - 1] == '.' || strlen(strchr(number, '.')) - 1 > 3)
        fail_parsing();
    *value = sign * llround(strtod(number, NULL) * 1000);
    return true;
}

/* 4.2.5 */
static void ref_string(struct dump *out)
{
    char text[TEXT_MAX];
    size_t n = 0;

    consume('"');
    while (!is_empty()) {
        char c = first();

        if (in.joint[in.at]) /* section 4.2 allows that */
            break;
        in.at++;
        if (c == '\\') {
            if (!first_is("\"\\"))
                break;
            text[n++] = first();
            in.at++;
        } else if (c == '"') {
            dump_text(out, 's', text, n);
            return;
        } else if ((unsigned char)c <= 0x1f || (unsigned char)c >= 0x7f) {
            break;
        } else {
            text[n++] = c;
        }
    }
    fail_parsing();
}

/* 4.2.6 */
static void ref_token(struct dump *out)
{
    size_t from = in.at;

    if (!first_is(ALPHA "*")) {
        fail_parsing();
        return;
    }
    while (first_is(ALPHA DIGIT "!#$%&'*+-.^_`|~:/"))
        in.at++;
    dump_text(out, 't', in.text + from, in.at - from);
}

/* 4.2.7 */
static void ref_byte_sequence(struct dump *out)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char coded[TEXT_MAX], decoded[TEXT_MAX];
    size_t n = 0, pads = 0, bits = 0;

    consume(':');
    while (!is_empty() && first() != ':') {
        coded[n++] = first();
        in.at++;
    }
    consume(':');
    while (n > 0 && coded[n - 1] == '=') {
        n--;
        pads++;
    }
    if (n % 4 == 1 || pads > 2 || (pads > 0 && (n + pads) % 4 != 0))
        fail_parsing();
    memset(decoded, 0, n + 1);
    for (size_t i = 0; i < n; i++) {
        const char *at = coded[i] == '\0' ? NULL : strchr(alphabet, coded[i]);

        if (at == NULL) {
            fail_parsing();
            return;
        }
        for (int bit = 5; bit >= 0; bit--, bits++)
            if ((at - alphabet) >> bit & 1)
                decoded[bits / 8] = (char)(decoded[bits / 8] | 0x80 >> bits % 8);
    }
    dump_text(out, 'b', decoded, bits / 8);
}

/* 4.2.8 */
static void ref_boolean(struct dump *out)
{
    consume('?');
    if (!first_is("01")) {
        fail_parsing();
        return;
    }
    dump_number(out, '?', first() - '0');
    in.at++;
}

/* 4.2.9 */
static void ref_date(struct dump *out)
{
    int64_t value;

    consume('@');
    if (ref_number(&value))
        fail_parsing();
    dump_number(out, '@', value);
}

/* Is that UTF-8? Each character written again must come out as it went in. */
static bool is_utf8(const unsigned char *p, size_t n)
{
    size_t i = 0;

    while (i < n) {
        unsigned length = p[i] < 0x80 ? 1 : p[i] < 0xc0 ? 0 : p[i] < 0xe0 ? 2 : p[i] < 0xf0 ? 3 : p[i] < 0xf8 ? 4 : 0;
        uint32_t code = length == 1 ? p[i] : length == 2 ? p[i] & 0x1f : length == 3 ? p[i] & 0x0f : p[i] & 0x07;

        if (length == 0 || i + length > n)
            return false;
        for (unsigned k = 1; k < length; k++) {
            if ((p[i + k] & 0xc0) != 0x80)
                return false;
            code = code << 6 | (p[i + k] & 0x3f);
        }
        if (length != (code < 0x80      ? 1U
                       : code < 0x800   ? 2U
                       : code < 0x10000 ? 3U
                                        : 4U) ||
            code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
            return false;
        i += length;
    }
    return true;
}

/* 4.2.10 */
static void ref_display_string(struct dump *out)
{
    unsigned char bytes[TEXT_MAX];
    size_t n = 0;

    consume('%');
    consume('"');
    while (!is_empty()) {
        char c = first();

        if (in.joint[in.at] || (unsigned char)c <= 0x1f || (unsigned char)c >= 0x7f)
            break;
        in.at++;
        if (c == '%') {
            char octet[3] = {0};

            for (int i = 0; i < 2 && first_is(DIGIT "abcdef"); i++)
                octet[i] = in.text[in.at++];
            if (strlen(octet) < 2)
                break;
            bytes[n++] = (unsigned char)strtoul(octet, NULL, 16);
        } else if (c == '"') {
            if (!is_utf8(bytes, n))
                break;
            dump_text(out, 'u', (char *)bytes, n);
            return;
        } else {
            bytes[n++] = (unsigned char)c;
        }
    }
    fail_parsing();
}

/* 4.2.3.1 */
static void ref_bare_item(struct dump *out)
{
    int64_t value;

    if (first_is("-" DIGIT)) {
        bool decimal = ref_number(&value);

        dump_number(out, decimal ? 'd' : 'i', value);
    } else if (first_is("\""))
        ref_string(out);
    else if (first_is(ALPHA "*"))
        ref_token(out);
    else if (first_is(":"))
        ref_byte_sequence(out);
    else if (first_is("?"))
        ref_boolean(out);
    else if (first_is("@"))
        ref_date(out);
    else if (first_is("%"))
        ref_display_string(out);
    else
        fail_parsing();
}

/* 4.2.3.2 */
static void ref_parameters(struct dump *out)
{
    static struct map params;
    static struct dump values;

    params.n = values.n = 0;
    while (first_is(";")) {
        size_t from = values.n;
        struct bytes key;

        in.at++;
        discard(" ");
        key = ref_key();
        if (first() == '=') {
            in.at++;
            ref_bare_item(&values);
        } else {
            dump_number(&values, '?', 1);
        }
        map_put(&params, key, from, values.n);
    }
    dump_char(out, '{');
    dump_map(out, &params, &values);
    dump_char(out, '}');
}

/* 4.2.3 */
static void ref_item(struct dump *out)
{
    ref_bare_item(out);
    ref_parameters(out);
}

/* 4.2.1.2 */
static void ref_inner_list(struct dump *out)
{
    consume('(');
    dump_char(out, '(');
    while (!is_empty()) {
        discard(" ");
        if (first() == ')') {
            in.at++;
            dump_char(out, ')');
            ref_parameters(out);
            return;
        }
        ref_item(out);
        if (!first_is(" )"))
            fail_parsing();
    }
    fail_parsing();
}

/* 4.2.1.1 */
static void ref_item_or_inner_list(struct dump *out)
{
    if (first() == '(')
        ref_inner_list(out);
    else
        ref_item(out);
}

/* The end of steps that 4.2.1 and 4.2.2 share: true when another member follows. */
static bool ref_another_follows(void)
{
    discard(" \t");
    if (is_empty())
        return false;
    consume(',');
    discard(" \t");
    if (is_empty())
        fail_parsing();
    return !is_empty();
}

/* 4.2.1 */
static void ref_list(struct dump *out)
{
    if (!is_empty())
        do
            ref_item_or_inner_list(out);
        while (ref_another_follows());
}

/* 4.2.2 */
static void ref_dictionary(struct map *members, struct dump *values)
{
    if (is_empty())
        return;
    do {
        struct bytes key = ref_key();
        size_t from = values->n;

        if (first() == '=') {
            in.at++;
            ref_item_or_inner_list(values);
        } else {
            dump_number(values, '?', 1);
            ref_parameters(values);
        }
        map_put(members, key, from, values->n);
    } while (ref_another_follows());
}

/* 4.2 */
static bool reference(bool dictionary, struct dump *out)
{
    static struct map members;
    static struct dump values;

    members.n = values.n = 0;
    in.at = 0;
    in.failed = false;
    discard(" ");
    if (dictionary)
        ref_dictionary(&members, &values);
    else
        ref_list(out);
    discard(" ");
    if (!is_empty())
        fail_parsing();
    dump_map(out, &members, &values);
    return !in.failed;
}

/* The same of the parser that is tested. */

static void dump_bare(struct dump *out, const struct sf_item *item)
{
    static const char types[] = "idstb?@u";
    char text[TEXT_MAX];
    size_t n = sf_text(item, text);

    assert_true(item->type < SF_INNER_LIST && n <= item->text.n);
    if (item->text.p != NULL)
        dump_text(out, types[item->type], text, n);
    else
        dump_number(out, types[item->type], item->number);
}

static void dump_params(struct dump *out, struct bytes rest)
{
    static struct map params;
    static struct dump values;
    struct sf_item param;

    params.n = values.n = 0;
    dump_char(out, '{');
    while (sf_param_next(&rest, &param)) {
        size_t from = values.n;

        assert_int_equal(param.params.n, 0);
        dump_bare(&values, &param);
        map_put(&params, param.key, from, values.n);
    }
    assert_int_equal(rest.n, 0);
    dump_map(out, &params, &values);
    dump_char(out, '}');
}

static void dump_item(struct dump *out, const struct sf_item *item)
{
    if (item->type == SF_INNER_LIST) {
        struct bytes rest = item->text;
        struct sf_item inner;

        dump_char(out, '(');
        while (sf_inner_next(&rest, &inner)) {
            assert_true(inner.type != SF_INNER_LIST && inner.key.n == 0);
            dump_item(out, &inner);
        }
        assert_int_equal(rest.n, 0);
        dump_char(out, ')');
    } else {
        dump_bare(out, item);
    }
    dump_params(out, item->params);
}

static void check_find(struct sf field, const struct map *members, const struct dump *values)
{
    static struct dump found;
    struct sf_item item;

    for (size_t i = 0; i < members->n; i++) {
        found.n = 0;
        assert_true(sf_find(field, members->v[i].key, &item));
        dump_item(&found, &item);
        assert_int_equal(found.n, members->v[i].to - members->v[i].from);
        assert_memory_equal(found.text, values->text + members->v[i].from, found.n);
    }
}

static bool subject(bool dictionary, struct fields fields, struct dump *out)
{
    static struct map members;
    static struct dump values;
    const struct bytes name = BYTES_LIT("x");
    struct sf field, whole;
    struct sf_item item;
    enum sf_err err = (dictionary ? sf_dictionary_read : sf_list_read)(fields, name, &field);

    members.n = values.n = 0;
    whole = field;
    while (sf_next(&field, &item)) {
        size_t from = values.n;

        assert_int_equal(err, SF_OK);
        dump_item(&values, &item);
        assert_int_equal(item.key.n > 0, dictionary);
        if (dictionary)
            map_put(&members, item.key, from, values.n);
    }
    if (dictionary) {
        dump_map(out, &members, &values);
        check_find(whole, &members, &values);
    } else {
        dump_bytes(out, values.text, values.n);
    }
    assert_true(err != SF_ABSENT);
    return err == SF_OK;
}

/* Inputs. */

static const char *const pieces[] = {"a",  "b", "*",   "c1",  "x-",  "_",    "..",   "\"",   "\\", ":",  "?1",
                                     "@0", "%", "(",   ")",   ";",   "=",    ",",    ", ",   " ",  "\t", "/",
                                     "+",  "A", "%\"", ";a=", "(a)", "\"\"", "\x7f", "\xc3", NULL};
static struct mutate random_source = {.pieces = pieces};

static unsigned dice(unsigned n)
{
    return (unsigned)mutate_below(&random_source, n);
}

struct line {
    char text[MUTATE_MAX];
    size_t n;
};

static struct line made[LINES_MAX];
static size_t nmade;

static void add(struct line *l, const char *s)
{
    size_t n = strlen(s);

    if (l->n + n <= sizeof l->text / 2) { /* leaves room for mutations */
        memcpy(l->text + l->n, s, n);
        l->n += n;
    }
}

#define PICK(...)                                                                                                      \
    (((const char *const[]){__VA_ARGS__})[dice(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))])

static void add_wrong(struct line *l)
{
    add(l, PICK("1000000000000000", "-", "1234567890123.1", "1.2345", "1.", "\"\\a\"", "\"a",
                ":YQ=:", ":Y:", ":====:", "?2", "@1.5", "%\"%c3\"", "%\"%C3%BC\"", "%\"%ed%a0%80\"", "(a)", ""));
}

static void add_bare(struct line *l)
{
    if (dice(40) == 0) {
        add_wrong(l);
        return;
    }
    switch (dice(8)) {
    case 0:
        add(l, PICK("0", "-1", "42", "00", "999999999999999", "-0"));
        break;
    case 1:
        add(l, PICK("1.5", "-0.25", "0.125", "999999999999.999", "-0.0", "10.01"));
        break;
    case 2:
        add(l, PICK("\"\"", "\"a\"", "\"a, b\"", "\"\\\"\"", "\"\\\\;\"", "\"(\""));
        break;
    case 3:
        add(l, PICK("a", "*", "A/b:c", "tok-en", "a!#$%&'*+-.^_`|~"));
        break;
    case 4:
        add(l, PICK("::", ":YQ==:", ":YWI=:", ":YWJj:", ":YWI:", ":YZ==:", ":+/+/:"));
        break;
    case 5:
        add(l, PICK("?0", "?1"));
        break;
    case 6:
        add(l, PICK("@0", "@-1", "@1700000000"));
        break;
    default:
        add(l, PICK("%\"\"", "%\"a b\"", "%\"%c3%bc\"", "%\"%f0%9f%98%80%25\""));
    }
}

static void add_key(struct line *l)
{
    add(l, PICK("a", "b", "c", "*", "a1", "x-_.*"));
}

static void add_params(struct line *l)
{
    for (unsigned n = dice(6); n > 3; n--) {
        add(l, PICK(";", "; ", ";  "));
        add_key(l);
        if (dice(2) == 0) {
            add(l, "=");
            add_bare(l);
        }
    }
}

static void add_value(struct line *l)
{
    if (dice(4) > 0) {
        add_bare(l);
    } else {
        add(l, "(");
        for (unsigned n = dice(4); n > 0; n--) {
            add_bare(l);
            add_params(l);
            add(l, n > 1 ? PICK(" ", "  ") : PICK("", " "));
        }
        add(l, ")");
    }
    add_params(l);
}

static void add_member(struct line *l, bool dictionary)
{
    if (dictionary) {
        add_key(l);
        if (dice(4) == 0) {
            add_params(l);
            return;
        }
        add(l, "=");
    }
    add_value(l);
}

static void make_field(struct line *l, bool dictionary)
{
    for (unsigned n = 1 + dice(4); n > 0; n--) {
        add_member(l, dictionary);
        if (n > 1)
            add(l, PICK(",", ", ", " ,", " \t, \t", ",\t"));
    }
    if (dice(8) == 0)
        add(l, PICK(" ", "\t", ",", " \t "));
}

static void make_random(struct line *l)
{
    for (unsigned n = dice(12); n > 0; n--)
        add(l, mutate_one_of(&random_source, pieces));
}

static void make_lines(bool dictionary)
{
    nmade = dice(3) > 0 ? 1 : 1 + dice(LINES_MAX);
    for (size_t i = 0; i < nmade; i++) {
        struct line *l = &made[i];
        unsigned kind = dice(8);

        l->n = 0;
        if (kind == 0)
            make_random(l);
        else
            make_field(l, dictionary);
        for (unsigned n = kind < 4 ? 1 + dice(3) : 0; n > 0; n--)
            mutate_once(&random_source, l->text, &l->n);
    }
}

static void join_lines(void)
{
    in.n = 0;
    memset(in.joint, 0, sizeof in.joint);
    for (size_t i = 0; i < nmade; i++) {
        if (i > 0) {
            in.joint[in.n] = in.joint[in.n + 1] = true;
            memcpy(in.text + in.n, ", ", 2);
            in.n += 2;
        }
        memcpy(in.text + in.n, made[i].text, made[i].n);
        in.n += made[i].n;
    }
}

static void show(void)
{
    for (size_t i = 0; i < nmade; i++)
        print_message("line %zu: %s\n", i, mutate_show((struct bytes){made[i].text, made[i].n}));
}

/* Each line in memory of its own, which ends where the line does. */
static void with_lines(bool dictionary, struct dump *out, bool *valid)
{
    struct field v[LINES_MAX];
    char *memory[LINES_MAX];

    for (size_t i = 0; i < nmade; i++) {
        memory[i] = malloc(made[i].n > 0 ? made[i].n : 1);
        assert_non_null(memory[i]);
        memcpy(memory[i], made[i].text, made[i].n);
        v[i] = (struct field){BYTES_LIT("x"), NULL, {memory[i], made[i].n}};
    }
    *valid = subject(dictionary, (struct fields){v, nmade}, out);
    for (size_t i = 0; i < nmade; i++)
        free(memory[i]);
}

static void compare(bool dictionary)
{
    static struct dump expected, got;
    size_t runs = mutate_runs(RUNS), nvalid = 0;

    random_source.seed = dictionary;
    for (size_t i = 0; i < runs; i++) {
        bool valid, expected_valid;

        make_lines(dictionary);
        join_lines();
        expected.n = got.n = 0;
        expected_valid = reference(dictionary, &expected);
        with_lines(dictionary, &got, &valid);
        nvalid += valid;
        if (valid == expected_valid && (!valid || (got.n == expected.n && memcmp(got.text, expected.text, got.n) == 0)))
            continue;
        show();
        fail_msg("valid: %d, expected %d; %.*s, expected %.*s", valid, expected_valid, (int)got.n, got.text,
                 (int)expected.n, expected.text);
    }
    assert_true(nvalid > runs / 8 && nvalid < runs - runs / 8); /* or else little was compared */
}

/* RFC 9651 section 4.2.1. */
static void lists_are_read_as_the_rfc_has_it(void **state)
{
    (void)state;
    compare(false);
}

/* RFC 9651 section 4.2.2. */
static void dictionaries_are_read_as_the_rfc_has_it(void **state)
{
    (void)state;
    compare(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_read_as_the_rfc_has_it),
        cmocka_unit_test(dictionaries_are_read_as_the_rfc_has_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
