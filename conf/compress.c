/* compress: at top level, what holds for all routes; in a route, what is different there. */
#include "conf/sections.h"
#include "conf/value.h"

#define FIELD(field) offsetof(struct compress_rules, field)
#define ENCODINGS_EXAMPLE "a list of codings, such as [zstd, br, gzip]"
#define TYPES_EXAMPLE "a list of media types, such as [text/*, application/json]"

static const char *check_encoding(struct loader *l, struct bytes *word)
{
    enum coding coding = coding_named(*word);

    (void)l;
    if (coding == CODING_OTHER || coding == CODING_IDENTITY || !bytes_eq(*word, coding_name(coding)))
        return "no coding that is made here; expected zstd, br or gzip";
    return NULL;
}

static void read_encodings(struct loader *l, const struct node *value, void *into)
{
    struct compress_rules *rules = into;
    struct words words = conf_words_read(l, value, ENCODINGS_EXAMPLE, check_encoding);

    if (value->kind == NODE_LIST && value->n == 0)
        conf_problem(l, value->mark,
                     "'encodings' is an empty list; expected " ENCODINGS_EXAMPLE ", or 'compress: off'");
    rules->nencodings = words.n;
    for (size_t i = 0; i < words.n; i++)
        rules->encodings[i] = coding_named(words.v[i]);
}

/* type/subtype, type/STAR or STAR/STAR; becomes lower case. */
static const char *check_type(struct loader *l, struct bytes *word)
{
    const char *slash = memchr(word->p, '/', word->n);
    size_t type_n = slash == NULL ? 0 : (size_t)(slash - word->p);
    struct bytes type = {word->p, type_n}, subtype = {slash + 1, word->n - type_n - 1};
    const struct bytes star = BYTES_LIT("*");

    if (slash == NULL || type.n == 0 || subtype.n == 0 || (bytes_eq(type, star) && !bytes_eq(subtype, star)) ||
        (!bytes_eq(type, star) && conf_check_token(l, &type) != NULL) ||
        (!bytes_eq(subtype, star) && conf_check_token(l, &subtype) != NULL))
        return "not a media type, such as application/json or text/*";
    char *lower = arena_dup(l->keep, *word);

    for (size_t i = 0; i < word->n; i++)
        lower[i] = ascii_lower(lower[i]);
    word->p = lower;
    return NULL;
}

static void read_types(struct loader *l, const struct node *value, void *into)
{
    struct compress_rules *rules = into;
    struct words words = conf_words_read(l, value, TYPES_EXAMPLE, check_type);

    rules->types = words.v;
    rules->ntypes = words.n;
}

static const struct bytes types_standard[] = {BYTES_LIT("text/*"), BYTES_LIT("application/json")};

static const struct conf_key compress_table[] = {
    {"encodings", KEY_OTHER, .read = read_encodings, .standard = "[zstd, br, gzip]"},
    {"min_size", KEY_SIZE, FIELD(min_size), 0, GIB, .standard = "1kb"},
    {"gzip_level", KEY_COUNT, FIELD(levels[CODING_GZIP]), 1, 9, .standard = "6"},
    {"br_level", KEY_COUNT, FIELD(levels[CODING_BR]), 0, 11, .standard = "5"},
    {"zstd_level", KEY_COUNT, FIELD(levels[CODING_ZSTD]), 1, 19, .standard = "3"},
    {"types", KEY_OTHER, .read = read_types, .standard = "[text/*, application/json]"},
    {"stream", KEY_SWITCH, FIELD(stream), .standard = "off"},
};
const struct conf_keys conf_compress_keys = KEYS(compress_table);

/* What a route does not say is as at top level. */
static const struct conf_key route_compress_table[] = {
    {"encodings", KEY_OTHER, .read = read_encodings},
    {"min_size", KEY_SIZE, FIELD(min_size), 0, GIB, .standard = NULL},
    {"gzip_level", KEY_COUNT, FIELD(levels[CODING_GZIP]), 1, 9, .standard = NULL},
    {"br_level", KEY_COUNT, FIELD(levels[CODING_BR]), 0, 11, .standard = NULL},
    {"zstd_level", KEY_COUNT, FIELD(levels[CODING_ZSTD]), 1, 19, .standard = NULL},
    {"types", KEY_OTHER, .read = read_types},
    {"stream", KEY_SWITCH, FIELD(stream), .standard = NULL},
};
const struct conf_keys conf_route_compress_keys = KEYS(route_compress_table);

static void read_rules(struct loader *l, const struct conf_keys *keys, const struct node *value,
                       struct compress_rules *rules)
{
    if (value->kind == NODE_MAP) {
        rules->on = true;
        conf_keys_read(l, keys, value, rules);
    } else if (value->kind == NODE_WORD && bytes_eq(value->text, BYTES_LIT("on"))) {
        rules->on = true;
    } else if (value->kind == NODE_WORD && bytes_eq(value->text, BYTES_LIT("off"))) {
        rules->on = false;
    } else {
        conf_expected(l, value, "on, off, or a map, such as { encodings: [br, gzip] }");
    }
}

void conf_compress_default(struct loader *l)
{
    l->conf->compress = (struct compress_rules){
        .on = true,
        .encodings = {CODING_ZSTD, CODING_BR, CODING_GZIP},
        .nencodings = 3,
        .types = types_standard,
        .ntypes = sizeof(types_standard) / sizeof(types_standard[0]),
    };
    conf_keys_default(&conf_compress_keys, &l->conf->compress);
}

void conf_read_compress(struct loader *l, const struct node *value, void *into)
{
    struct conf *conf = into;

    read_rules(l, &conf_compress_keys, value, &conf->compress);
}

void conf_settle_compress(struct loader *l, const struct node *value, struct conf_route *route)
{
    route->compress = l->conf->compress;
    if (value == NULL)
        return;
    route->compress.user = true;
    read_rules(l, &conf_route_compress_keys, value, &route->compress);
}
