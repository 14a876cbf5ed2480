#include "policies/pattern.h"

static bool pattern_match(struct bytes pattern, struct bytes name)
{
    if (pattern.n > 0 && pattern.p[pattern.n - 1] == '*')
        return bytes_starts(name, (struct bytes){pattern.p, pattern.n - 1});
    return bytes_eq(pattern, name);
}

bool patterns_match(struct patterns p, struct bytes name)
{
    for (size_t i = 0; i < p.n; i++)
        if (pattern_match(p.v[i], name))
            return true;
    return false;
}
