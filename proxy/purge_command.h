/*
 * `weir purge`: tells a running weir's admin listener what to drop.
 */
#ifndef WEIR_PROXY_PURGE_COMMAND_H
#define WEIR_PROXY_PURGE_COMMAND_H

#include <stdbool.h>

struct purge_command {
    const char *admin; /* http://host:port or unix:/path */
    const char *token_file;
    const char *what, *value; /* "url", "prefix" or "tag" and its value; "all" and NULL */
    bool soft;
};

/* The exit status: 0 purged (prints how many), 1 failed (prints why). */
int purge_command_run(const struct purge_command *command);

#endif
