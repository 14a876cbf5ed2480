/*
 * Where to listen and where to connect to, as an operator writes it.
 *
 * Errors     NULL, or what is wrong in a few words; *out is then undefined.
 */
#ifndef WEIR_CONF_ADDRESS_H
#define WEIR_CONF_ADDRESS_H

#include "conf/arena.h"
#include "conf/conf.h"

#define ADDRESS_EXAMPLE "an address, such as 0.0.0.0:8080, [::]:8080 or unix:/run/weir.sock"
#define URL_EXAMPLE "a url, such as http://127.0.0.1:9000, https://10.0.0.7 or unix:/run/api.sock"

/* Fills in address, host and port, or unix_path. */
const char *address_parse(struct arena *arena, struct bytes text, struct conf_listen *out);
bool address_same(const struct conf_listen *a, const struct conf_listen *b);
/* Different, and yet some connections would be for both: the same port, and one of them is all addresses. */
bool address_overlaps(const struct conf_listen *a, const struct conf_listen *b);
bool address_local(const struct conf_listen *a); /* loopback or unix */

/* Fills in url, https, host and port, or unix_path. */
const char *url_parse(struct arena *arena, struct bytes text, struct conf_server *out);

/* A host's name or IPv4 address: letters, digits, '-', '_' and '.', no empty label but the last. */
bool host_name_check(struct bytes host);

/* What weir connects to without HTTP: host:port, a host alone (then the port stays as it is), or unix:/path. Names are
 * looked up later. */
const char *target_parse(struct arena *arena, struct bytes text, const char **host, uint16_t *port,
                         const char **unix_path);

#endif
