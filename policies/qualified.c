#include "policies/qualified.h"

/* What says what the content is, how long it holds and for which requests. */
static bool is_needed(struct bytes name)
{
    static const struct bytes names[] = {
        BYTES_LIT("age"),     BYTES_LIT("cache-control"), BYTES_LIT("date"),
        BYTES_LIT("expires"), BYTES_LIT("location"),      BYTES_LIT("vary"),
    };

    return bytes_starts(name, BYTES_LIT("content-")) || bytes_is_one_of(name, names, sizeof(names) / sizeof(names[0]));
}

static bool names_needed(struct bytes names, struct fields response)
{
    for (size_t i = 0; i < response.n; i++)
        if (is_needed(response.v[i].name) && cache_control_lists(names, response.v[i].name))
            return true;
    return false;
}

void qualified_settle(struct cache_control *cc, struct fields response)
{
    if (cc->no_cache_qualified && names_needed(cc->no_cache_fields, response)) {
        cc->no_cache = true;
        cc->no_cache_qualified = false;
    }
    if (cc->private_qualified && names_needed(cc->private_fields, response)) {
        cc->private_ = true;
        cc->private_qualified = false;
    }
}

bool qualified_withholds(const struct cache_control *cc, bool user_scope, struct bytes name)
{
    return (cc->no_cache_qualified && cache_control_lists(cc->no_cache_fields, name)) ||
           (cc->private_qualified && !user_scope && cache_control_lists(cc->private_fields, name));
}
