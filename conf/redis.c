/* redis: the tier that several weirs share. */
#include "conf/address.h"
#include "conf/sections.h"
#include "conf/value.h"

#define REDIS_PORT 6379
#define NAMESPACE_MAX_BYTES 64
#define SERVERS_EXAMPLE "a list, such as [127.0.0.1:6379]"
#define SERVER_EXAMPLE "host:port or unix:/path"

static void read_server(struct loader *l, const struct node *item, struct conf_redis *redis)
{
    struct bytes text;
    const char *wrong;

    if (!conf_word_read(l, item, SERVER_EXAMPLE, &text))
        return;
    redis->server = arena_dup(l->keep, text);
    redis->port = REDIS_PORT;
    wrong = target_parse(l->keep, text, &redis->host, &redis->port, &redis->unix_path);
    if (wrong != NULL)
        conf_expected(l, item, arena_print(l->scratch, SERVER_EXAMPLE ": %s", wrong));
}

static void read_servers(struct loader *l, const struct node *value, void *into)
{
    if (value->kind != NODE_LIST || value->n == 0)
        conf_expected(l, value, SERVERS_EXAMPLE);
    else if (value->n > 1)
        conf_problem(l, value->first->next->mark, "'servers': 'mode: single' has one server");
    else
        read_server(l, value->first, into);
}

static void read_password_file(struct loader *l, const struct node *value, void *into)
{
    struct conf_redis *redis = into;

    redis->password = conf_secret_line_read(l, value, "password", &redis->password_file);
}

/* It stands before every key, and people look for keys by it. */
static void read_namespace(struct loader *l, const struct node *value, void *into)
{
    static const char example[] = "at most 64 letters, digits, '_', '-', '.' and ':', such as weir";
    struct conf_redis *redis = into;
    struct bytes word;

    if (!conf_word_read(l, value, example, &word))
        return;
    for (size_t i = 0; i < word.n; i++) {
        char c = ascii_lower(word.p[i]);

        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && (c == '\0' || strchr("_-.:", c) == NULL)) {
            conf_expected(l, value, example);
            return;
        }
    }
    if (word.n > NAMESPACE_MAX_BYTES)
        conf_expected(l, value, example);
    else
        redis->namespace = arena_bytes(l->keep, word);
}

#define FIELD(field) offsetof(struct conf_redis, field)

static const struct choice modes[] = {
    {"single", CONF_REDIS_SINGLE},
    {"sentinel", CHOICE_LATER},
    {"cluster", CHOICE_LATER},
    {NULL, 0},
};

static const struct conf_key redis_table[] = {
    {"servers", KEY_OTHER, .read = read_servers, .example = "[127.0.0.1:6379]"},
    {"mode", KEY_CHOICE, FIELD(mode), .choices = modes, .standard = "single"},
    {"master", KEY_LATER, .standard = NULL},
    {"database", KEY_COUNT, FIELD(database), 0, 65535, .standard = "0"},
    {"password_file", KEY_OTHER, .read = read_password_file},
    {"namespace", KEY_OTHER, .read = read_namespace, .standard = "weir"},
    {"timeout", KEY_DURATION, FIELD(timeout_ms), 1, 10 * SECOND_MS, .standard = "50ms"},
    {"lease", KEY_LATER, .standard = "0"},
};
const struct conf_keys conf_redis_keys = KEYS(redis_table);

void conf_read_redis(struct loader *l, const struct node *value, void *into)
{
    struct conf *conf = into;
    struct conf_redis *redis = arena_alloc(l->keep, sizeof(*redis));

    *redis = (struct conf_redis){.namespace = BYTES_LIT("weir")};
    conf_keys_default(&conf_redis_keys, redis);
    if (conf_keys_read(l, &conf_redis_keys, value, redis))
        conf->redis = redis;
}
