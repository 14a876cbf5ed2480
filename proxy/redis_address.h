/*
 * The address of the Redis server, by its name where the configuration has one. Names are looked up by a thread of
 * their own, for no loop may wait for that: who wants to connect gets what the last look-up found, and asks for the
 * next one.
 *
 * Threads  redis_address_get: any. Create and destroy: main.
 */
#ifndef WEIR_PROXY_REDIS_ADDRESS_H
#define WEIR_PROXY_REDIS_ADDRESS_H

#include <netinet/in.h>

#include "conf/conf.h"

struct redis_address;

struct redis_address *redis_address_create(const struct conf_redis *conf); /* conf lives as long */
void redis_address_destroy(struct redis_address *a);

enum redis_known {
    REDIS_KNOWN,
    REDIS_UNKNOWN, /* there is no such name, or nobody can be asked */
    REDIS_PENDING, /* the first look-up is not over */
};
enum redis_known redis_address_get(struct redis_address *a, char out[INET6_ADDRSTRLEN]);

#endif
