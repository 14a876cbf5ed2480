/* listen: and the TLS of it. */
#include "conf/address.h"
#include "conf/sections.h"
#include "conf/value.h"

#define TLS1_2 0x0303 /* OpenSSL's numbers, without OpenSSL */
#define TLS1_3 0x0304

#define CERTIFICATES_MAX 1000

struct tls_reading {
    struct conf_tls *tls;
    struct conf_certificate *certificate;
    bool first;
};

static void read_address(struct loader *l, const struct node *value, void *into)
{
    struct conf_listen *listen = into;
    struct bytes text;
    const char *wrong;

    if (!conf_word_read(l, value, ADDRESS_EXAMPLE, &text))
        return;
    wrong = address_parse(l->keep, text, listen);
    if (wrong == NULL)
        return;
    conf_expected(l, value, arena_print(l->scratch, ADDRESS_EXAMPLE ": %s", wrong));
    *listen = (struct conf_listen){.tls = listen->tls, .mark = listen->mark};
}

static void read_certificate(struct loader *l, const struct node *value, void *into)
{
    struct conf_certificate *c = ((struct tls_reading *)into)->certificate;

    c->certificate = conf_secret_file_read(l, value);
    c->certificate_mark = value->mark;
}

static void read_key(struct loader *l, const struct node *value, void *into)
{
    struct conf_certificate *c = ((struct tls_reading *)into)->certificate;

    c->key = conf_secret_file_read(l, value);
    c->key_mark = value->mark;
}

static bool in_first(struct loader *l, const struct node *value, const struct tls_reading *r)
{
    if (!r->first)
        conf_problem(l, value->key->mark, "'%s' belongs to the first map of the list: it holds for all of them",
                     value->name);
    return r->first;
}

static void read_min_version(struct loader *l, const struct node *value, void *into)
{
    struct tls_reading *r = into;
    struct bytes word;

    if (!in_first(l, value, r) || !conf_word_read(l, value, "\"1.2\" or \"1.3\"", &word))
        return;
    if (bytes_eq(word, BYTES_LIT("1.2")))
        r->tls->min_version = TLS1_2;
    else if (bytes_eq(word, BYTES_LIT("1.3")))
        r->tls->min_version = TLS1_3;
    else
        conf_expected(l, value, "\"1.2\" or \"1.3\"");
}

static void read_ciphersuites(struct loader *l, const struct node *value, void *into)
{
    struct tls_reading *r = into;
    struct bytes word;

    if (in_first(l, value, r) && conf_word_read(l, value, "OpenSSL's names, such as TLS_AES_128_GCM_SHA256", &word))
        r->tls->ciphersuites = arena_dup(l->keep, word), r->tls->ciphersuites_mark = value->mark;
}

static void read_ciphers(struct loader *l, const struct node *value, void *into)
{
    struct tls_reading *r = into;
    struct bytes word;

    if (in_first(l, value, r) && conf_word_read(l, value, "OpenSSL's names, such as ECDHE+AESGCM", &word))
        r->tls->ciphers = arena_dup(l->keep, word), r->tls->ciphers_mark = value->mark;
}

static const struct conf_key tls_table[] = {
    {"certificate", KEY_OTHER, .read = read_certificate, .example = "site.crt"},
    {"key", KEY_OTHER, .read = read_key, .example = "site.key"},
    {"min_version", KEY_OTHER, .read = read_min_version, .standard = "1.2"},
    {"ciphersuites", KEY_OTHER, .read = read_ciphersuites},
    {"ciphers", KEY_OTHER, .read = read_ciphers},
};
static const struct conf_keys tls_keys = KEYS(tls_table);

static void read_tls(struct loader *l, const struct node *value, void *into)
{
    struct conf_listen *listen = into;
    const struct node *map = value->kind == NODE_LIST ? value->first : value;
    size_t n = value->kind == NODE_LIST ? value->n : 1;
    struct conf_tls *tls = arena_alloc(l->keep, sizeof(*tls));

    if (n == 0 || n > CERTIFICATES_MAX) {
        conf_problem(l, value->mark,
                     "'tls' has %zu maps; expected 1 to %d, such as { certificate: site.crt, key: site.key }", n,
                     CERTIFICATES_MAX);
        return;
    }
    tls->certificates = arena_array(l->keep, n, sizeof(*tls->certificates));
    tls->min_version = TLS1_2;
    for (; map != NULL; map = value->kind == NODE_LIST ? map->next : NULL) {
        struct conf_certificate *c = &tls->certificates[tls->ncertificates];
        struct tls_reading r = {.tls = tls, .certificate = c, .first = tls->ncertificates == 0};

        conf_keys_read(l, &tls_keys, map, &r);
        tls->ncertificates++;
    }
    listen->tls = tls;
}

static const struct conf_key listen_table[] = {
    {"address", KEY_OTHER, .read = read_address, .example = "0.0.0.0:8080"},
    {"tls", KEY_OTHER, .read = read_tls, .keys = &tls_keys},
    {"proxy_protocol", KEY_LATER, .standard = "off"},
};
const struct conf_keys conf_listen_keys = KEYS(listen_table);

void conf_read_listens(struct loader *l, const struct node *value, void *into)
{
    struct conf *conf = into;

    if (value->kind != NODE_LIST) {
        conf_expected(l, value, "a list of maps, such as - address: 0.0.0.0:8080");
        l->listens_unknown = true;
        return;
    }
    if (value->n > CONF_LISTENS_MAX) {
        conf_problem(l, value->mark, "%zu listeners; expected at most %d", value->n, CONF_LISTENS_MAX);
        return;
    }
    conf->listens = arena_array(l->keep, value->n, sizeof(*conf->listens));
    for (const struct node *item = value->first; item != NULL; item = item->next) {
        struct conf_listen *listen = &conf->listens[conf->nlistens++];

        listen->mark = item->mark;
        conf_keys_read(l, &conf_listen_keys, item, listen);
    }
}

static void check_listen(struct loader *l, size_t at)
{
    const struct conf *conf = l->conf;
    const struct conf_listen *listen = &conf->listens[at];

    for (size_t i = 0; i < at; i++)
        if (address_same(listen, &conf->listens[i])) {
            conf_problem(l, listen->mark, "'%s' is listened on already in line %u", listen->address,
                         conf->listens[i].mark.line);
            return;
        }
    if (conf->admin != NULL && address_same(listen, conf->admin))
        conf_problem(l, listen->mark, "'%s' is the admin listener's address; expected another one, or 'admin: off'",
                     listen->address);
}

void conf_check_listens(struct loader *l)
{
    for (size_t i = 0; i < l->conf->nlistens; i++)
        check_listen(l, i);
    if (l->conf->nlistens == 0 && !l->listens_unknown)
        conf_problem(
            l, (struct conf_mark){l->conf->file, 1, 1},
            "there is no 'listen'; expected at least one address, such as listen: [{ address: 0.0.0.0:8080 }]");
}
