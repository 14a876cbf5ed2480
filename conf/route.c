/* routes: */
#include "conf/sections.h"
#include "conf/value.h"
#include "policies/uri.h"

struct route_reading {
    struct conf_route route;
    struct pending_route names;
    const struct node *strip_prefix, *user, *origin_cache_control;
};

#define FIELD(field) offsetof(struct route_reading, route.field)

static void read_path(struct loader *l, const struct node *value, void *into)
{
    struct route_reading *r = into;
    struct bytes path;
    const char *wrong;

    if (!conf_word_read(l, value, "a path, such as /api/clips/*", &path))
        return;
    wrong = route_pattern_check(path);
    if (wrong == NULL)
        r->route.pattern.path = arena_bytes(l->keep, path);
    else
        conf_expected(l, value, arena_print(l->scratch, "a path, such as /api/clips/* or /files/**: %s", wrong));
}

#define HOST_EXAMPLE "a host's name without a port, such as api.example.com"

static void read_host(struct loader *l, const struct node *value, void *into)
{
    struct route_reading *r = into;
    struct bytes host;
    char normal[URI_AUTHORITY_MAX];
    size_t n, name_n;

    if (!conf_word_read(l, value, HOST_EXAMPLE, &host))
        return;
    name_n = host.p[0] == '[' ? strcspn(host.p, "]") + 1 : strcspn(host.p, ":");
    if (name_n == host.n && host.n <= sizeof(normal) && memchr(host.p, '*', host.n) == NULL &&
        uri_authority_normalize(host, false, normal, &n))
        r->route.pattern.host = arena_bytes(l->keep, (struct bytes){normal, n});
    else
        conf_expected(l, value, HOST_EXAMPLE);
}

static const char *check_method(struct loader *l, struct bytes *word)
{
    for (size_t i = 0; i < word->n; i++)
        if (word->p[i] >= 'a' && word->p[i] <= 'z')
            return "methods are upper case, such as GET";
    return conf_check_token(l, word);
}

#define METHODS_EXAMPLE "a list of methods, such as [GET, HEAD]"

static void read_methods(struct loader *l, const struct node *value, void *into)
{
    struct route_pattern *pattern = &((struct route_reading *)into)->route.pattern;
    struct words words;

    if (value->kind == NODE_LIST && value->n == 0) {
        conf_problem(l, value->mark, "'methods' is an empty list; expected " METHODS_EXAMPLE ", or no 'methods'");
        return;
    }
    words = conf_words_read(l, value, METHODS_EXAMPLE, check_method);
    pattern->methods = words.v;
    pattern->nmethods = words.n;
}

static void read_backend(struct loader *l, const struct node *value, void *into)
{
    struct bytes name;

    if (conf_word_read(l, value, "the name of a backend", &name))
        ((struct route_reading *)into)->names.backend = value;
}

static void read_ttl(struct loader *l, const struct node *value, void *into)
{
    struct bytes name;

    if (conf_word_read(l, value, "the name of a tier", &name))
        ((struct route_reading *)into)->names.ttl = value;
}

static void read_strip_prefix(struct loader *l, const struct node *value, void *into)
{
    struct route_reading *r = into;
    struct bytes prefix;

    r->strip_prefix = value;
    if (!conf_word_read(l, value, "a prefix of the path, such as /api", &prefix))
        return;
    if (prefix.n > 1 && prefix.p[prefix.n - 1] == '/')
        prefix.n--;
    if (prefix.n > 1 && prefix.p[0] == '/')
        r->route.strip_prefix = arena_bytes(l->keep, prefix);
    else
        conf_expected(l, value, "a prefix of the path, such as /api");
}

static void read_origin_cache_control(struct loader *l, const struct node *value, void *into)
{
    struct route_reading *r = into;
    bool ignore = value->kind == NODE_WORD && bytes_eq(value->text, BYTES_LIT("ignore"));

    if (!ignore && !(value->kind == NODE_WORD && bytes_eq(value->text, BYTES_LIT("honor"))))
        conf_expected(l, value, "honor or ignore");
    r->route.ignore_origin = ignore;
    r->origin_cache_control = value;
}

static void read_client_cache_control(struct loader *l, const struct node *value, void *into)
{
    bool honor = value->kind == NODE_WORD && bytes_eq(value->text, BYTES_LIT("honor"));

    if (!honor && !(value->kind == NODE_WORD && bytes_eq(value->text, BYTES_LIT("ignore"))))
        conf_expected(l, value, "ignore or honor");
    ((struct route_reading *)into)->route.honor_client = honor;
}

static void take_identity(struct loader *l, const struct node *value, struct conf_route *route,
                          enum conf_identity identity)
{
    bool header = identity == CONF_IDENTITY_HEADER;
    struct bytes name;
    const char *wrong;

    if (!conf_word_read(l, value,
                        header ? "a header's name, such as Authorization" : "a cookie's name, such as session", &name))
        return;
    name = arena_bytes(l->keep, name);
    wrong = header ? conf_check_field(l, &name) : conf_check_token(l, &name);
    if (wrong == NULL) {
        route->identity = identity;
        route->identity_name = name;
    } else {
        conf_problem(l, value->mark, "'%s': '%s': %s", value->name, conf_show(l, value->text), wrong);
    }
}

static void read_user_header(struct loader *l, const struct node *value, void *into)
{
    take_identity(l, value, into, CONF_IDENTITY_HEADER);
}

static void read_user_cookie(struct loader *l, const struct node *value, void *into)
{
    take_identity(l, value, into, CONF_IDENTITY_COOKIE);
}

static const struct conf_key user_table[] = {
    {"header", KEY_OTHER, .read = read_user_header},
    {"cookie", KEY_OTHER, .read = read_user_cookie},
    {"jwt", KEY_LATER, .standard = NULL},
};
static const struct conf_keys user_keys = KEYS(user_table);

static void read_user(struct loader *l, const struct node *value, void *into)
{
    struct route_reading *r = into;

    r->user = value;
    if (conf_keys_read(l, &user_keys, value, &r->route) && value->n != 1)
        conf_problem(l, value->mark,
                     "'user' names %zu things; expected one: { header: Authorization } or "
                     "{ cookie: session }",
                     value->n);
}

#define QUERY_EXAMPLE "all, none, a list of names such as [page, limit], or { except: [utm_*] }"

static void read_except(struct loader *l, const struct node *value, void *into)
{
    struct key_rules *rules = into;
    struct words words = conf_words_read(l, value, "a list of names, such as [utm_*, fbclid]", conf_check_pattern);

    rules->query = KEY_QUERY_EXCEPT;
    rules->query_names = (struct patterns){words.v, words.n};
}

static const struct conf_key query_table[] = {
    {"except", KEY_OTHER, .read = read_except, .example = "[utm_*, fbclid]"},
};
static const struct conf_keys query_keys = KEYS(query_table);

static void read_query(struct loader *l, const struct node *value, void *into)
{
    struct key_rules *rules = &((struct route_reading *)into)->route.key;
    struct words words;

    if (value->kind == NODE_MAP) {
        conf_keys_read(l, &query_keys, value, rules);
    } else if (value->kind == NODE_LIST) {
        words = conf_words_read(l, value, QUERY_EXAMPLE, conf_check_pattern);
        rules->query = words.n == 0 ? KEY_QUERY_NONE : KEY_QUERY_ONLY;
        rules->query_names = (struct patterns){words.v, words.n};
    } else if (bytes_eq(value->text, BYTES_LIT("none"))) {
        rules->query = KEY_QUERY_NONE;
    } else if (!bytes_eq(value->text, BYTES_LIT("all"))) {
        conf_expected(l, value, QUERY_EXAMPLE);
    }
}

/* The key of a stored response is kept and shown: credentials come into it only hashed, by `scope: user`. */
static const char *check_key_header(struct loader *l, struct bytes *word)
{
    const char *wrong = conf_check_field(l, word);

    if (wrong == NULL && (bytes_eq(*word, BYTES_LIT("authorization")) || bytes_eq(*word, BYTES_LIT("cookie")) ||
                          bytes_eq(*word, BYTES_LIT("proxy-authorization"))))
        return "credentials have no place in a key; expected 'scope: user', or single cookies in 'cookies'";
    if (wrong == NULL && (bytes_eq(*word, BYTES_LIT("forwarded")) || bytes_eq(*word, BYTES_LIT("via")) ||
                          bytes_eq(*word, BYTES_LIT("x-forwarded-for"))))
        return "weir itself writes this field to the origin, so the client's does not say what the origin sees";
    return wrong;
}

static void read_key_headers(struct loader *l, const struct node *value, void *into)
{
    struct key_rules *rules = &((struct route_reading *)into)->route.key;
    struct words words = conf_words_read(l, value, "a list of headers, such as [Accept-Language]", check_key_header);

    rules->headers = words.v;
    rules->nheaders = words.n;
}

static void read_key_cookies(struct loader *l, const struct node *value, void *into)
{
    struct conf_route *route = &((struct route_reading *)into)->route;
    struct words words = conf_words_read(l, value, "a list of cookies, such as [currency]", conf_check_token);

    route->key.cookies = route->personal.key_cookies = words.v;
    route->key.ncookies = route->personal.nkey_cookies = words.n;
}

static const struct conf_key key_table[] = {
    {"query", KEY_OTHER, .read = read_query, .standard = "all", .keys = &query_keys},
    {"headers", KEY_OTHER, .read = read_key_headers},
    {"cookies", KEY_OTHER, .read = read_key_cookies},
};
static const struct conf_keys key_keys = KEYS(key_table);

static void read_ignore_cookies(struct loader *l, const struct node *value, void *into)
{
    struct personal_rules *rules = &((struct route_reading *)into)->route.personal;
    const char *example = "on, off or a list of names, such as [_ga*, _gid]";
    struct words words;

    if (value->kind == NODE_LIST) {
        words = conf_words_read(l, value, example, conf_check_pattern);
        rules->ignore_cookies = (struct patterns){words.v, words.n};
    } else if (value->kind == NODE_WORD && bytes_eq(value->text, BYTES_LIT("on"))) {
        rules->ignore_all_cookies = true;
    } else if (value->kind != NODE_WORD || !bytes_eq(value->text, BYTES_LIT("off"))) {
        conf_expected(l, value, example);
    }
}

#define TARGETED_EXAMPLE "a list of fields, such as [CDN-Cache-Control]"

static const struct bytes targeted_standard[] = {BYTES_LIT("weir-cache-control"), BYTES_LIT("cdn-cache-control")};

static const char *check_targeted(struct loader *l, struct bytes *word)
{
    const char *wrong = conf_check_field(l, word);

    if (wrong == NULL && bytes_eq(*word, BYTES_LIT("cache-control")))
        return "it counts where none of the list does, and has no place in it";
    return wrong;
}

static void read_targeted(struct loader *l, const struct node *value, void *into)
{
    struct conf_route *route = &((struct route_reading *)into)->route;
    struct words words = conf_words_read(l, value, TARGETED_EXAMPLE, check_targeted);

    route->targeted = words.v;
    route->ntargeted = words.n;
}

static void read_compress(struct loader *l, const struct node *value, void *into)
{
    (void)l;
    ((struct route_reading *)into)->names.compress = value;
}

static const struct choice scopes[] = {
    {"shared", CONF_SHARED},
    {"user", CONF_USER},
    {"auto", CONF_AUTO},
    {NULL, 0},
};

static const struct choice set_cookies[] = {
    {"never", SET_COOKIE_NEVER},
    {"store", SET_COOKIE_STORE},
    {"strip", SET_COOKIE_STRIP},
    {NULL, 0},
};

static const struct conf_key route_table[] = {
    {"path", KEY_OTHER, .read = read_path, .example = "/api/**"},
    {"host", KEY_OTHER, .read = read_host},
    {"methods", KEY_OTHER, .read = read_methods},
    {"backend", KEY_OTHER, .read = read_backend, .example = "api"},
    {"strip_prefix", KEY_OTHER, .read = read_strip_prefix},
    {"cache", KEY_SWITCH, FIELD(cache), .standard = "on"},
    {"ttl", KEY_OTHER, .read = read_ttl},
    {"origin_cache_control", KEY_OTHER, .read = read_origin_cache_control, .standard = "honor"},
    {"targeted", KEY_OTHER, .read = read_targeted, .standard = "[Weir-Cache-Control, CDN-Cache-Control]"},
    {"scope", KEY_CHOICE, FIELD(scope), .choices = scopes, .standard = "shared"},
    {"user", KEY_OTHER, .read = read_user, .keys = &user_keys},
    {"key", KEY_MAP, .keys = &key_keys},
    {"no_vary_search", KEY_SWITCH, FIELD(no_vary_search), .standard = "off"},
    {"ignore_cookies", KEY_OTHER, .read = read_ignore_cookies, .standard = "off"},
    {"set_cookie", KEY_CHOICE, FIELD(set_cookie), .choices = set_cookies, .standard = "never"},
    {"coalesce", KEY_SWITCH, FIELD(coalesce), .standard = "on"},
    {"client_cache_control", KEY_OTHER, .read = read_client_cache_control, .standard = "ignore"},
    {"compress", KEY_OTHER, .read = read_compress, .keys = &conf_route_compress_keys},
    {"limits", KEY_LATER, .standard = NULL},
};
const struct conf_keys conf_route_keys = KEYS(route_table);

/* How much of the path comes before its first '*' or '**' segment, without the '/' before that. */
static size_t literal_length(struct bytes path)
{
    size_t at = 0;

    while (at < path.n) {
        const char *next = memchr(path.p + at + 1, '/', path.n - at - 1);
        size_t end = next == NULL ? path.n : (size_t)(next - path.p);

        if (path.p[at + 1] == '*' && at + 1 < path.n)
            return at;
        at = end;
    }
    return path.n;
}

static void check_strip_prefix(struct loader *l, const struct route_reading *r)
{
    struct bytes prefix = r->route.strip_prefix, path = r->route.pattern.path;

    if (prefix.n == 0 || path.n == 0)
        return;
    if (!bytes_starts(path, prefix) || prefix.n > literal_length(path) ||
        (prefix.n < path.n && path.p[prefix.n] != '/'))
        conf_problem(l, r->strip_prefix->mark,
                     "'strip_prefix' is '%s'; expected whole segments from the beginning of '%s', before any '*'",
                     conf_show(l, prefix), conf_show(l, path));
}

static void check_scope(struct loader *l, struct route_reading *r, const struct node *map)
{
    struct conf_route *route = &r->route;

    if (route->scope == CONF_SHARED && r->user != NULL)
        conf_problem(l, r->user->key->mark,
                     "'user' has no effect with 'scope: shared'; expected 'scope: user' or "
                     "'scope: auto'");
    if (route->scope == CONF_USER && r->user == NULL)
        conf_problem(l, map->mark,
                     "'scope: user' needs to know who it is: 'user' is missing; expected "
                     "'user: { header: Authorization }' or 'user: { cookie: session }'");
    if (route->scope == CONF_AUTO && r->user == NULL) {
        route->identity = CONF_IDENTITY_HEADER;
        route->identity_name = BYTES_LIT("authorization");
    }
}

static bool among(struct bytes name, const struct bytes *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes_eq(name, v[i]))
            return true;
    return false;
}

static void check_identity(struct loader *l, const struct route_reading *r)
{
    const struct conf_route *route = &r->route;

    if ((route->identity == CONF_IDENTITY_HEADER &&
         among(route->identity_name, route->key.headers, route->key.nheaders)) ||
        (route->identity == CONF_IDENTITY_COOKIE &&
         among(route->identity_name, route->key.cookies, route->key.ncookies)))
        conf_problem(l, r->user->mark,
                     "'%s' is in 'key' too, where the credential itself would be kept; 'user' is enough",
                     conf_show(l, route->identity_name));
}

static void read_route(struct loader *l, const struct node *map, struct conf *conf)
{
    struct route_reading r = {
        .route.mark = map->mark,
        .route.targeted = targeted_standard,
        .route.ntargeted = sizeof(targeted_standard) / sizeof(targeted_standard[0]),
    };

    conf_keys_default(&conf_route_keys, &r);
    if (!conf_keys_read(l, &conf_route_keys, map, &r))
        return;
    check_strip_prefix(l, &r);
    check_scope(l, &r, map);
    check_identity(l, &r);
    if (r.route.ignore_origin && conf_child(map, "ttl") == NULL)
        conf_problem(
            l, r.origin_cache_control->mark,
            "'origin_cache_control: ignore' leaves it to the tier, and there is none; expected 'ttl: NAME' as well");
    l->pending[conf->nroutes] = r.names;
    conf->routes[conf->nroutes++] = r.route;
}

void conf_read_routes(struct loader *l, const struct node *value, void *into)
{
    if (value->kind != NODE_LIST) {
        conf_expected(l, value, "a list of maps, such as - { path: /api/**, backend: api }");
        l->names_unknown = true;
        return;
    }
    for (const struct node *item = value->first; item != NULL; item = item->next)
        read_route(l, item, into);
}
