/* admin: the listener for operators. */
#include "conf/address.h"
#include "conf/sections.h"
#include "conf/value.h"

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

static void read_token_file(struct loader *l, const struct node *value, void *into)
{
    struct conf *conf = into;

    conf->admin_token = conf_secret_line_read(l, value, "token", &conf->admin_token_file);
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
