/*
 * Tables of keys: what a map may hold, and how its values are read. Unknown and duplicate keys, types, ranges and
 * defaults are judged here, once for all; weir.conf(5) is checked against the same tables.
 */
#ifndef WEIR_CONF_KEYS_H
#define WEIR_CONF_KEYS_H

#include "conf/loader.h"
#include "conf/units.h"

enum key_kind {
    KEY_DURATION, /* int64_t, milliseconds */
    KEY_SIZE,     /* uint64_t or size_t, bytes */
    KEY_COUNT,    /* unsigned */
    KEY_PERCENT,  /* unsigned */
    KEY_SWITCH,   /* bool */
    KEY_CHOICE,   /* an enum or int */
    KEY_MAP,      /* a map with keys of its own, for the same struct */
    KEY_OTHER,    /* as `read` says */
    KEY_LATER,    /* not supported by this version, but for the one value `standard`, which changes nothing */
};

struct choice {
    const char *word; /* NULL: the end */
    int value;
};
#define CHOICE_LATER (-1) /* a word of the contract that this version does not support */

struct conf_key;

struct conf_keys {
    const struct conf_key *v;
    size_t n;
};

struct conf_key {
    const char *name;
    enum key_kind kind;
    size_t offset;
    int64_t min, max;             /* of durations, sizes, counts and percents */
    const char *standard;         /* the default, as it would be written */
    const struct choice *choices; /* up to the one without a word */
    const struct conf_keys *keys; /* of a map; of KEY_OTHER: of the maps in it */
    void (*read)(struct loader *l, const struct node *value, void *into);
    const char *example; /* of a key that must be there: how it is written */
    bool main_only;      /* not in included files */
};

#define KEYS_MAX 24
#define KEYS(table)                                                                                                    \
    {                                                                                                                  \
        (table), sizeof(table) / sizeof((table)[0])                                                                    \
    }

extern const struct conf_keys conf_top_keys;

/* Writes the defaults of durations, sizes, counts, percents, switches and choices. */
void conf_keys_default(const struct conf_keys *keys, void *into);

/* Reads a map by its table. False: it is no map (reported). */
bool conf_keys_read(struct loader *l, const struct conf_keys *keys, const struct node *map, void *into);

/* The value of a key, or NULL. */
const struct node *conf_child(const struct node *map, const char *name);

#endif
