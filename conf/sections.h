/*
 * The sections of a configuration: their tables, readers and checks. Each is in the file of its name.
 */
#ifndef WEIR_CONF_SECTIONS_H
#define WEIR_CONF_SECTIONS_H

#include "conf/keys.h"

/* Bounds on what is compared with each other. */
#define CONF_LISTENS_MAX 1000
#define CONF_ENTRIES_MAX 10000 /* of tiers, backends and routes, each, over all files */

extern const struct conf_keys conf_listen_keys, conf_admin_keys, conf_tier_keys, conf_backend_keys, conf_route_keys,
    conf_compress_keys, conf_route_compress_keys, conf_redis_keys;

void conf_read_listens(struct loader *l, const struct node *value, void *into);
void conf_check_listens(struct loader *l);

void conf_admin_default(struct loader *l);
void conf_read_admin(struct loader *l, const struct node *value, void *into);
void conf_check_admin(struct loader *l, const struct node *admin);

/* The arrays are made beforehand, large enough for all files. */
void conf_read_tiers(struct loader *l, const struct node *value, void *into);
void conf_read_backends(struct loader *l, const struct node *value, void *into);
void conf_read_routes(struct loader *l, const struct node *value, void *into);
void conf_check_routes(struct loader *l); /* names, and routes that say the same */

void conf_compress_default(struct loader *l);
void conf_read_compress(struct loader *l, const struct node *value, void *into);
/* Once the top level's is known. value: the route's own; NULL: none. */
void conf_settle_compress(struct loader *l, const struct node *value, struct conf_route *route);

void conf_read_redis(struct loader *l, const struct node *value, void *into);

void conf_process_default(struct loader *l);
void conf_check_memory(struct loader *l, const struct node *memory);

#endif
