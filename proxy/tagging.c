#include "proxy/tagging.h"

_Static_assert((int)TAGS_MAX < (int)GROUPS_MAX,
               "what is left out of a long field makes the response one that any purge takes");

void tagging_read(const struct store *store, struct fields fields, struct tags *out)
{
    static const enum groups_kind kinds[] = {GROUPS_SURROGATE_KEY, GROUPS_CACHE_TAG, GROUPS_CACHE_GROUPS};
    char buf[GROUP_BYTES_MAX];
    struct bytes text;

    out->n = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct groups groups = groups_of(fields, kinds[i]);

        while (groups_next(&groups, buf, &text))
            tags_add(out, store, text, kinds[i] == GROUPS_CACHE_GROUPS);
    }
}
