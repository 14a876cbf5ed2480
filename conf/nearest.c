#include "conf/conf.h"

#define WORD_MAX 64 /* longer ones are nobody's slip of the finger */

static unsigned min2(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours, without regard to case. */
static unsigned distance(struct bytes a, struct bytes b)
{
    unsigned rows[3][WORD_MAX + 1];
    unsigned *before = rows[0], *above = rows[1], *row = rows[2];

    for (size_t j = 0; j <= b.n; j++)
        above[j] = (unsigned)j;
    for (size_t i = 1; i <= a.n; i++) {
        unsigned *spare = before;

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b.n; j++) {
            bool same = ascii_lower(a.p[i - 1]) == ascii_lower(b.p[j - 1]);

            row[j] = min2(min2(above[j], row[j - 1]) + 1, above[j - 1] + !same);
            if (i > 1 && j > 1 && ascii_lower(a.p[i - 1]) == ascii_lower(b.p[j - 2]) &&
                ascii_lower(a.p[i - 2]) == ascii_lower(b.p[j - 1]))
                row[j] = min2(row[j], before[j - 2] + 1);
        }
        before = above;
        above = row;
        row = spare;
    }
    return above[b.n];
}

/* A third of the letters may be wrong; in a short word one. */
static unsigned tolerance(size_t n)
{
    return n < 6 ? 1 : (unsigned)(n / 3);
}

const char *conf_nearest(struct bytes word, const char *const *words, size_t n)
{
    const char *nearest = NULL;
    unsigned best = tolerance(word.n) + 1;

    if (word.n < 2 || word.n > WORD_MAX)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        struct bytes other = bytes_of(words[i]);
        unsigned d;

        if (other.n > WORD_MAX || other.n + best <= word.n || word.n + best <= other.n)
            continue;
        d = distance(word, other);
        if (d < best) {
            best = d;
            nearest = words[i];
        }
    }
    return nearest;
}
