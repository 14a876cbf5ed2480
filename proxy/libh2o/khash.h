/*
 * In the place of klib's header of that name, which <h2o/http2_internal.h> includes but its package does not bring.
 * That header's structs only point to hash tables: here the type is a name, and nothing that looks into a table may be
 * called.
 */
#ifndef WEIR_PROXY_LIBH2O_KHASH_H
#define WEIR_PROXY_LIBH2O_KHASH_H

#include <stddef.h>
#include <stdint.h>

typedef uint32_t khiter_t;

#define khash_t(name) struct kh_##name
#define KHASH_MAP_INIT_INT64(name, type) khash_t(name);
#define kh_get(name, table, key) ((khiter_t)((void)(table), (void)(key), 0))
#define kh_end(table) ((khiter_t)0)
#define kh_val(table, at) NULL

#endif
