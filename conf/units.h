/*
 * Numbers with units, both ways. conf.h has the two that others need as well.
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_CONF_UNITS_H
#define WEIR_CONF_UNITS_H

#include <stdint.h>

#include "policies/bytes.h"

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)

#define KIB (INT64_C(1) << 10)
#define MIB (INT64_C(1) << 20)
#define GIB (INT64_C(1) << 30)

#define UNITS_PRINT_MAX 32

/* Digits only: no sign, no space, no point. False also where it does not fit. */
bool units_number_parse(struct bytes text, uint64_t *number);
bool units_percent_parse(struct bytes text, uint64_t *percent); /* 10% */

/* In the largest unit that leaves no rest. */
void units_duration_print(int64_t ms, char out[UNITS_PRINT_MAX]);
void units_size_print(int64_t bytes, char out[UNITS_PRINT_MAX]);

#endif
