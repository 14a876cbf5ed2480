#include "conf/units.h"

#include <inttypes.h>
#include <stdio.h>

#include "conf/conf.h"

struct unit {
    struct bytes name;
    uint64_t factor;
};

/* Largest first, for printing. */
static const struct unit durations[] = {
    {{"d", 1}, (uint64_t)DAY_MS},
    {{"h", 1}, (uint64_t)HOUR_MS},
    {{"m", 1}, (uint64_t)MINUTE_MS},
    {{"s", 1}, (uint64_t)SECOND_MS},
    {{"ms", 2}, 1},
};
static const struct unit sizes[] = {
    {{"gb", 2}, (uint64_t)GIB},
    {{"mb", 2}, (uint64_t)MIB},
    {{"kb", 2}, (uint64_t)KIB},
    {{"", 0}, 1},
};
#define NUNITS(units) (sizeof(units) / sizeof(*(units)))

bool units_number_parse(struct bytes text, uint64_t *number)
{
    uint64_t value = 0;

    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text.p[i] - '0'), &value))
            return false;
    }
    *number = value;
    return text.n > 0;
}

static bool parse(struct bytes text, const struct unit *units, size_t n, uint64_t *value)
{
    struct bytes digits = {text.p, 0}, name;

    while (digits.n < text.n && text.p[digits.n] >= '0' && text.p[digits.n] <= '9')
        digits.n++;
    name = (struct bytes){text.p + digits.n, text.n - digits.n};
    for (size_t i = 0; i < n; i++)
        if (bytes_eq(name, units[i].name))
            return units_number_parse(digits, value) && !__builtin_mul_overflow(*value, units[i].factor, value) &&
                   *value <= INT64_MAX;
    return false;
}

bool conf_duration_parse(struct bytes text, int64_t *ms)
{
    uint64_t value;

    if (!parse(text, durations, NUNITS(durations), &value))
        return false;
    *ms = (int64_t)value;
    return true;
}

bool conf_size_parse(struct bytes text, uint64_t *bytes)
{
    uint64_t value;

    if (!parse(text, sizes, NUNITS(sizes), &value))
        return false;
    *bytes = value;
    return true;
}

bool units_percent_parse(struct bytes text, uint64_t *percent)
{
    return text.n > 1 && text.p[text.n - 1] == '%' && units_number_parse((struct bytes){text.p, text.n - 1}, percent);
}

static void print(uint64_t value, const struct unit *units, size_t n, char out[UNITS_PRINT_MAX])
{
    size_t i = 0;

    while (i + 1 < n && (value % units[i].factor != 0 || value == 0))
        i++;
    snprintf(out, UNITS_PRINT_MAX, "%" PRIu64 "%s", value / units[i].factor, units[i].name.p);
}

void units_duration_print(int64_t ms, char out[UNITS_PRINT_MAX])
{
    if (ms == 0)
        snprintf(out, UNITS_PRINT_MAX, "0s");
    else
        print((uint64_t)ms, durations, NUNITS(durations), out);
}

void units_size_print(int64_t bytes, char out[UNITS_PRINT_MAX])
{
    print((uint64_t)bytes, sizes, NUNITS(sizes), out);
}
