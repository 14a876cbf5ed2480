/* admin: the listener for operators. */
#include "conf/address.h"
#include "conf/sections.h"
#include "conf/source.h"
#include "conf/value.h"

#define TOKEN_MAX_BYTES 4096
#define ADMIN_ADDRESS "127.0.0.1:9090"

void conf_admin_default(struct loader *l)
{
    struct conf_listen *admin = arena_alloc(l->keep, sizeof(*admin));

    address_parse(l->keep, BYTES_LIT(ADMIN_ADDRESS), admin);
    admin->mark = (struct conf_mark){l->conf->file, 1, 1};
    l->conf->admin = admin;
}

static void read_address(struct loader *l, const struct node *value, void *into)
{
    struct conf *conf = into;
    struct conf_listen *admin = arena_alloc(l->keep, sizeof(*admin));
    struct bytes text;
    const char *wrong;

    if (!conf_word_read(l, value, ADDRESS_EXAMPLE ", or off", &text))
        return;
    admin->mark = value->mark;
    conf->admin = NULL;
    if (bytes_eq(text, BYTES_LIT("off")))
        return;
    wrong = address_parse(l->keep, text, admin);
    if (wrong == NULL)
        conf->admin = admin;
    else
        conf_expected(l, value, arena_print(l->scratch, ADDRESS_EXAMPLE ", or off: %s", wrong));
}

static const char *token_check(struct bytes token)
{
    if (token.n == 0)
        return "it is empty; expected a token";
    for (size_t i = 0; i < token.n; i++)
        if (token.p[i] < 0x21 || token.p[i] > 0x7e)
            return "a token is one line of visible ASCII characters without spaces";
    return NULL;
}

/* The line's end is the editor's, not the token's. */
static struct bytes without_newline(struct bytes text)
{
    if (text.n > 0 && text.p[text.n - 1] == '\n')
        text.n--;
    if (text.n > 0 && text.p[text.n - 1] == '\r')
        text.n--;
    return text;
}

static void read_token_file(struct loader *l, const struct node *value, void *into)
{
    struct conf *conf = into;
    struct source source;
    struct bytes name, token;
    const char *file, *wrong;

    if (!conf_word_read(l, value, "a file name, such as admin.token", &name))
        return;
    file = source_resolve(l->keep, value->mark.file, name);
    conf->admin_token_file = file;
    wrong = source_read(l->scratch, file, TOKEN_MAX_BYTES, false, &source);
    if (wrong == NULL) {
        token = without_newline(source.text);
        wrong = token_check(token);
    }
    if (wrong == NULL)
        conf->admin_token = arena_dup(l->keep, token);
    else
        conf_problem(l, value->mark, "'token_file': cannot use '%s': %s", conf_show(l, bytes_of(file)), wrong);
}

static const struct conf_key admin_table[] = {
    {"address", KEY_OTHER, .read = read_address, .standard = ADMIN_ADDRESS},
    {"token_file", KEY_OTHER, .read = read_token_file},
    {"profiling", KEY_LATER, .standard = "off"},
};
const struct conf_keys conf_admin_keys = KEYS(admin_table);

void conf_read_admin(struct loader *l, const struct node *value, void *into)
{
    struct conf *conf = into;

    if (value->kind == NODE_MAP)
        conf_keys_read(l, &conf_admin_keys, value, conf);
    else if (value->kind == NODE_WORD && bytes_eq(value->text, BYTES_LIT("off")))
        conf->admin = NULL;
    else
        conf_expected(l, value, "off or a map, such as { address: 127.0.0.1:9090 }");
}

/* A token file that was named but could not be used has been reported; it is not missing as well. */
void conf_check_admin(struct loader *l, const struct node *admin)
{
    const struct conf *conf = l->conf;

    if (conf->admin != NULL && !address_local(conf->admin) && conf_child(admin, "token_file") == NULL)
        conf_problem(l, conf->admin->mark,
                     "the admin address '%s' is neither loopback nor unix: 'token_file' is missing; expected "
                     "'token_file: admin.token'",
                     conf->admin->address);
}
