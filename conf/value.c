#include "conf/value.h"

#include "conf/source.h"

#define NAME_MAX_BYTES 64
#define CHOICES_MAX 8
#define SECRET_MAX_BYTES 4096

static bool is_word(const struct node *value)
{
    return value->kind == NODE_WORD && !conf_is_null(value);
}

static bool number_of(enum key_kind kind, struct bytes text, uint64_t *number)
{
    int64_t ms;

    switch (kind) {
    case KEY_DURATION:
        if (!conf_duration_parse(text, &ms))
            return false;
        *number = (uint64_t)ms;
        return true;
    case KEY_SIZE:
        return conf_size_parse(text, number);
    case KEY_PERCENT:
        return units_percent_parse(text, number);
    default:
        return units_number_parse(text, number);
    }
}

static void print_number(enum key_kind kind, int64_t number, char out[UNITS_PRINT_MAX])
{
    if (kind == KEY_DURATION)
        units_duration_print(number, out);
    else if (kind == KEY_SIZE)
        units_size_print(number, out);
    else
        snprintf(out, UNITS_PRINT_MAX, "%lld%s", (long long)number, kind == KEY_PERCENT ? "%" : "");
}

static const char *example_of(enum key_kind kind)
{
    switch (kind) {
    case KEY_DURATION:
        return "a duration with its unit, such as 250ms, 10s, 5m, 1h or 7d";
    case KEY_SIZE:
        return "a size, such as 512, 16kb, 256mb or 2gb";
    case KEY_PERCENT:
        return "a percentage, such as 10%";
    default:
        return "a number, such as 64";
    }
}

static bool read_number(struct loader *l, enum key_kind kind, const struct node *value, int64_t min, int64_t max,
                        uint64_t *number)
{
    char from[UNITS_PRINT_MAX], to[UNITS_PRINT_MAX];

    if (!is_word(value) || !number_of(kind, value->text, number)) {
        conf_expected(l, value, example_of(kind));
        return false;
    }
    if (*number >= (uint64_t)min && *number <= (uint64_t)max)
        return true;
    print_number(kind, min, from);
    print_number(kind, max, to);
    conf_expected(l, value, arena_print(l->scratch, "%s to %s", from, to));
    return false;
}

bool conf_duration_read(struct loader *l, const struct node *value, int64_t min, int64_t max, int64_t *ms)
{
    uint64_t number;

    if (!read_number(l, KEY_DURATION, value, min, max, &number))
        return false;
    *ms = (int64_t)number;
    return true;
}

/* Fields are reached by their offset in the table, whose kind says their type. */
static void put_number(const struct conf_key *key, void *into, uint64_t number)
{
    char *field = (char *)into + key->offset;
    unsigned narrow = (unsigned)number;

    _Static_assert(sizeof(size_t) == sizeof(uint64_t), "sizes of both types are written alike");
    if (key->kind == KEY_DURATION || key->kind == KEY_SIZE)
        memcpy(field, &number, sizeof(number));
    else
        memcpy(field, &narrow, sizeof(narrow));
}

static void put_choice(const struct conf_key *key, void *into, int value)
{
    memcpy((char *)into + key->offset, &value, sizeof(value));
}

static void put_switch(const struct conf_key *key, void *into, bool value)
{
    memcpy((char *)into + key->offset, &value, sizeof(value));
}

static const struct choice *choice_of(const struct conf_key *key, struct bytes word)
{
    for (const struct choice *c = key->choices; c->word != NULL; c++)
        if (bytes_eq(word, bytes_of(c->word)))
            return c;
    return NULL;
}

static void report_choice(struct loader *l, const struct conf_key *key, const struct node *value)
{
    const char *words[CHOICES_MAX], *list = "";
    size_t n = 0;

    for (const struct choice *c = key->choices; c->word != NULL; c++)
        if (c->value != CHOICE_LATER && n < CHOICES_MAX)
            words[n++] = c->word;
    for (size_t i = 0; i < n; i++)
        list = arena_print(l->scratch, "%s%s%s", list, i == 0 ? "" : i + 1 == n ? " or " : ", ", words[i]);
    conf_expected(l, value, list);
}

static void read_choice(struct loader *l, const struct conf_key *key, const struct node *value, void *into)
{
    const struct choice *c = is_word(value) ? choice_of(key, value->text) : NULL;

    if (c == NULL)
        report_choice(l, key, value);
    else if (c->value == CHOICE_LATER)
        conf_problem(l, value->mark, "'%s' is not supported by this version", c->word);
    else
        put_choice(key, into, c->value);
}

static void read_switch(struct loader *l, const struct conf_key *key, const struct node *value, void *into)
{
    bool on = is_word(value) && bytes_eq(value->text, BYTES_LIT("on"));

    if (on || (is_word(value) && bytes_eq(value->text, BYTES_LIT("off"))))
        put_switch(key, into, on);
    else
        conf_expected(l, value, "on or off");
}

void conf_value_read(struct loader *l, const struct conf_key *key, const struct node *value, void *into)
{
    uint64_t number;

    if (key->kind == KEY_SWITCH)
        read_switch(l, key, value, into);
    else if (key->kind == KEY_CHOICE)
        read_choice(l, key, value, into);
    else if (read_number(l, key->kind, value, key->min, key->max, &number))
        put_number(key, into, number);
}

void conf_value_default(const struct conf_key *key, void *into)
{
    struct bytes text = bytes_of(key->standard);
    uint64_t number;

    if (key->kind == KEY_SWITCH)
        put_switch(key, into, bytes_eq(text, BYTES_LIT("on")));
    else if (key->kind == KEY_CHOICE)
        put_choice(key, into, choice_of(key, text)->value);
    else if (number_of(key->kind, text, &number))
        put_number(key, into, number);
}

bool conf_word_read(struct loader *l, const struct node *value, const char *example, struct bytes *word)
{
    if (!is_word(value) || value->text.n == 0) {
        conf_expected(l, value, example);
        return false;
    }
    *word = value->text;
    return true;
}

static bool is_name_char(char c)
{
    return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') || c == '_' || c == '-' ||
           c == '.';
}

bool conf_name_check(struct loader *l, const struct node *key)
{
    bool good = key->kind == NODE_WORD && key->text.n > 0 && key->text.n <= NAME_MAX_BYTES;

    for (size_t i = 0; good && i < key->text.n; i++)
        good = is_name_char(key->text.p[i]);
    if (good || key->kind == NODE_BAD)
        return good;
    if (key->plain && bytes_eq(key->text, BYTES_LIT("<<")))
        conf_problem(l, key->mark, "merge keys (<<) are not supported: write the keys out");
    else
        conf_problem(l, key->mark, "'%s' is not a name; expected at most %d letters, digits, '_', '-' and '.'",
                     conf_show(l, key->text), NAME_MAX_BYTES);
    return false;
}

static const char *file_read(struct loader *l, const struct node *value, bool is_secret)
{
    struct bytes name;
    const char *file, *wrong;

    if (!conf_word_read(l, value, "a file name, such as site.pem", &name))
        return NULL;
    file = source_resolve(l->keep, value->mark.file, name);
    wrong = source_check(file);
    if (wrong == NULL || (is_secret && source_is_forbidden(file)))
        return file;
    conf_problem(l, value->mark, "'%s': cannot read '%s': %s", conf_show(l, bytes_of(value->name)),
                 conf_show(l, bytes_of(file)), wrong);
    return NULL;
}

const char *conf_file_read(struct loader *l, const struct node *value)
{
    return file_read(l, value, false);
}

const char *conf_secret_file_read(struct loader *l, const struct node *value)
{
    return file_read(l, value, true);
}

static const char *secret_check(struct loader *l, struct bytes secret, const char *what)
{
    if (secret.n == 0)
        return arena_print(l->scratch, "it is empty; expected a %s", what);
    for (size_t i = 0; i < secret.n; i++)
        if (secret.p[i] < 0x21 || secret.p[i] > 0x7e)
            return arena_print(l->scratch, "a %s is one line of visible ASCII characters without spaces", what);
    return NULL;
}

/* The line's end is the editor's, not the secret's. */
static struct bytes without_newline(struct bytes text)
{
    if (text.n > 0 && text.p[text.n - 1] == '\n')
        text.n--;
    if (text.n > 0 && text.p[text.n - 1] == '\r')
        text.n--;
    return text;
}

const char *conf_secret_line_read(struct loader *l, const struct node *value, const char *what, const char **file)
{
    struct source source;
    struct bytes name, secret;
    const char *wrong;

    if (!conf_word_read(l, value, arena_print(l->scratch, "a file name, such as %s.txt", what), &name))
        return NULL;
    *file = source_resolve(l->keep, value->mark.file, name);
    wrong = source_read(l->scratch, *file, SECRET_MAX_BYTES, false, &source);
    if (wrong == NULL) {
        secret = without_newline(source.text);
        wrong = secret_check(l, secret, what);
    }
    if (wrong == NULL)
        return arena_dup(l->keep, secret);
    conf_problem(l, value->mark, "'%s': cannot use '%s': %s", value->name, conf_show(l, bytes_of(*file)), wrong);
    return NULL;
}

static bool has_word(const struct words *words, struct bytes word)
{
    for (size_t i = 0; i < words->n; i++)
        if (bytes_eq(words->v[i], word))
            return true;
    return false;
}

struct words conf_words_read(struct loader *l, const struct node *value, const char *example, conf_word_check *check)
{
    struct words words = {NULL, 0};
    struct bytes *kept;

    if (value->kind != NODE_LIST) {
        conf_expected(l, value, example);
        return words;
    }
    if (value->n > CONF_WORDS_MAX) {
        conf_problem(l, value->mark, "'%s' has %zu entries; expected at most %d", value->name, value->n,
                     CONF_WORDS_MAX);
        return words;
    }
    words.v = kept = arena_array(l->keep, value->n, sizeof(*kept));
    for (const struct node *item = value->first; item != NULL; item = item->next) {
        struct bytes word;
        const char *wrong;

        if (!conf_word_read(l, item, example, &word))
            continue;
        word = arena_bytes(l->keep, word);
        wrong = check(l, &word);
        if (wrong == NULL && has_word(&words, word))
            wrong = "it is there already";
        if (wrong != NULL)
            conf_problem(l, item->mark, "'%s': '%s': %s", item->name, conf_show(l, item->text), wrong);
        else
            kept[words.n++] = word;
    }
    return words;
}

static bool is_token_char(char c)
{
    return is_name_char(c) || (c != '\0' && strchr("!#$%&'+^`|~", c) != NULL);
}

const char *conf_check_token(struct loader *l, struct bytes *word)
{
    (void)l;
    for (size_t i = 0; i < word->n; i++) {
        if (word->p[i] == '*')
            return "patterns are not supported here; expected whole names";
        if (!is_token_char(word->p[i]))
            return "not a name that HTTP allows (letters, digits and !#$%&'+-.^_`|~)";
    }
    return NULL;
}

const char *conf_check_field(struct loader *l, struct bytes *word)
{
    const char *wrong = conf_check_token(l, word);
    char *lower = arena_dup(l->keep, *word);

    for (size_t i = 0; i < word->n; i++)
        lower[i] = ascii_lower(lower[i]);
    word->p = lower;
    return wrong;
}

const char *conf_check_pattern(struct loader *l, struct bytes *word)
{
    const char *star = memchr(word->p, '*', word->n);

    (void)l;
    if (star != NULL && star != word->p + word->n - 1)
        return "a '*' may only be at the end, such as utm_*";
    return NULL;
}
