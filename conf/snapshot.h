/*
 * A snapshot as conf/ makes it: the public part, its count and its memory.
 */
#ifndef WEIR_CONF_SNAPSHOT_H
#define WEIR_CONF_SNAPSHOT_H

#include "conf/arena.h"
#include "conf/conf.h"

struct conf *snapshot_conf_create(struct arena *arena); /* takes the arena; one reference */

#endif
