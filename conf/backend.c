/* backends: the origins, by name. */
#include "conf/address.h"
#include "conf/sections.h"
#include "conf/value.h"

#define SERVERS_MAX 256

static void take_url(struct loader *l, const struct node *value, struct conf_server *server)
{
    struct bytes text;
    const char *wrong;

    if (!conf_word_read(l, value, URL_EXAMPLE, &text))
        return;
    wrong = url_parse(l->keep, text, server);
    if (wrong != NULL)
        conf_expected(l, value, arena_print(l->scratch, URL_EXAMPLE ": %s", wrong));
}

static void read_url(struct loader *l, const struct node *value, void *into)
{
    take_url(l, value, into);
}

static void read_ca_file(struct loader *l, const struct node *value, void *into)
{
    ((struct conf_server *)into)->tls_ca_file = conf_file_read(l, value);
}

static void read_server_name(struct loader *l, const struct node *value, void *into)
{
    struct conf_server *server = into;
    struct bytes name;

    if (!conf_word_read(l, value, "a host's name, such as api.example", &name))
        return;
    if (host_name_check(name))
        server->tls_server_name = arena_dup(l->keep, name);
    else
        conf_expected(l, value, "a host's name, such as api.example");
}

static const struct conf_key server_tls_table[] = {
    {"verify", KEY_SWITCH, offsetof(struct conf_server, tls_verify), .standard = "on"},
    {"ca_file", KEY_OTHER, .read = read_ca_file},
    {"server_name", KEY_OTHER, .read = read_server_name},
};
static const struct conf_keys server_tls_keys = KEYS(server_tls_table);

static const struct conf_key server_table[] = {
    {"url", KEY_OTHER, .read = read_url, .example = "http://127.0.0.1:9000"},
    {"weight", KEY_COUNT, offsetof(struct conf_server, weight), 1, 1000, .standard = "1"},
    {"tls", KEY_MAP, .keys = &server_tls_keys},
};
static const struct conf_keys server_keys = KEYS(server_table);

static void read_server(struct loader *l, const struct node *item, struct conf_server *server)
{
    const struct node *tls = conf_child(item, "tls");

    server->mark = item->mark;
    conf_keys_default(&server_keys, server);
    if (item->kind == NODE_MAP)
        conf_keys_read(l, &server_keys, item, server);
    else
        take_url(l, item, server);
    if (tls != NULL && server->host != NULL && !server->https)
        conf_problem(l, tls->key->mark, "'tls' is for https:// servers only, and this one is '%s'",
                     conf_show(l, bytes_of(server->url)));
}

static void read_servers(struct loader *l, const struct node *value, void *into)
{
    struct conf_backend *backend = into;

    if (value->kind != NODE_LIST) {
        conf_expected(l, value, "a list, such as [http://127.0.0.1:9000]");
        return;
    }
    if (value->n < 1 || value->n > SERVERS_MAX) {
        conf_problem(l, value->mark, "'servers' has %zu entries; expected 1 to %d", value->n, SERVERS_MAX);
        return;
    }
    backend->servers = arena_array(l->keep, value->n, sizeof(*backend->servers));
    for (const struct node *item = value->first; item != NULL; item = item->next)
        read_server(l, item, &backend->servers[backend->nservers++]);
}

#define FIELD(field) offsetof(struct conf_backend, field)

static const struct choice balances[] = {
    {"round_robin", CONF_ROUND_ROBIN},
    {"least_requests", CONF_LEAST_REQUESTS},
    {"consistent_hash", CHOICE_LATER},
    {NULL, 0},
};

static const struct conf_key queue_table[] = {
    {"size", KEY_COUNT, FIELD(queue_size), 0, 1000000, .standard = "1024"},
    {"timeout", KEY_DURATION, FIELD(queue_timeout_ms), 1, HOUR_MS, .standard = "2s"},
};
static const struct conf_keys queue_keys = KEYS(queue_table);

static const struct conf_key timeouts_table[] = {
    {"connect", KEY_DURATION, FIELD(connect_ms), 1, 10 * MINUTE_MS, .standard = "1s"},
    {"first_byte", KEY_DURATION, FIELD(first_byte_ms), 1, DAY_MS, .standard = "30s"},
    {"idle", KEY_DURATION, FIELD(idle_ms), 1, DAY_MS, .standard = "30s"},
    {"total", KEY_DURATION, FIELD(total_ms), 1, 30 * DAY_MS, .standard = "5m"},
};
static const struct conf_keys timeouts_keys = KEYS(timeouts_table);

static const struct conf_key breaker_table[] = {
    {"errors", KEY_PERCENT, FIELD(breaker.errors_percent), 1, 100, .standard = "50%"},
    {"minimum", KEY_COUNT, FIELD(breaker.minimum), 1, 1000000, .standard = "20"},
    {"window", KEY_DURATION, FIELD(breaker.window_ms), 100, HOUR_MS, .standard = "10s"},
    {"open", KEY_DURATION, FIELD(breaker.open_ms), 100, HOUR_MS, .standard = "5s"},
};
static const struct conf_keys breaker_keys = KEYS(breaker_table);

/* Its keys have their defaults only where there is a breaker at all. */
static void read_breaker(struct loader *l, const struct node *value, void *into)
{
    struct conf_backend *backend = into;

    if (value->kind == NODE_WORD && bytes_eq(value->text, BYTES_LIT("off")))
        return;
    if (value->kind != NODE_MAP) {
        conf_expected(l, value, "off or a map, such as { errors: 50% }");
        return;
    }
    conf_keys_default(&breaker_keys, backend);
    conf_keys_read(l, &breaker_keys, value, backend);
}

static const struct conf_key backend_table[] = {
    {"servers", KEY_OTHER, .read = read_servers, .keys = &server_keys, .example = "[http://127.0.0.1:9000]"},
    {"balance", KEY_CHOICE, FIELD(balance), .choices = balances, .standard = "round_robin"},
    {"max_connections", KEY_COUNT, FIELD(max_connections), 1, 65535, .standard = "64"},
    {"queue", KEY_MAP, .keys = &queue_keys},
    {"keepalive", KEY_DURATION, FIELD(keepalive_ms), 0, DAY_MS, .standard = "60s"},
    {"timeouts", KEY_MAP, .keys = &timeouts_keys},
    {"retry", KEY_LATER, .standard = NULL},
    {"hedge", KEY_LATER, .standard = "off"},
    {"circuit_breaker", KEY_OTHER, .read = read_breaker, .keys = &breaker_keys, .standard = "off"},
    {"health", KEY_LATER, .standard = "off"},
};
const struct conf_keys conf_backend_keys = KEYS(backend_table);

static const struct conf_backend *find(const struct conf *conf, struct bytes name)
{
    for (size_t i = 0; i < conf->nbackends; i++)
        if (bytes_eq(name, bytes_of(conf->backends[i].name)))
            return &conf->backends[i];
    return NULL;
}

static void read_backend(struct loader *l, const struct node *value, struct conf *conf)
{
    const struct conf_backend *first = find(conf, value->key->text);
    struct conf_backend *backend = &conf->backends[conf->nbackends];

    if (!conf_name_check(l, value->key))
        return;
    if (first != NULL) {
        conf_problem(l, value->key->mark, "duplicate backend '%s' (the first is at %s:%u:%u)", first->name,
                     first->mark.file, first->mark.line, first->mark.column);
        return;
    }
    conf->nbackends++;
    backend->name = arena_dup(l->keep, value->key->text);
    backend->mark = value->key->mark;
    conf_keys_default(&conf_backend_keys, backend);
    conf_keys_read(l, &conf_backend_keys, value, backend);
}

void conf_read_backends(struct loader *l, const struct node *value, void *into)
{
    if (value->kind != NODE_MAP) {
        conf_expected(l, value, "a map of backends, such as { api: { servers: [http://127.0.0.1:9000] } }");
        l->names_unknown = true;
        return;
    }
    for (const struct node *item = value->first; item != NULL; item = item->next)
        read_backend(l, item, into);
}
