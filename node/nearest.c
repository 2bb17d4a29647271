#include "node/nearest.h"

#include <string.h>

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

size_t wr_nearest_distance(const char *a, const char *b)
{
    size_t a_len = strnlen(a, WR_NEAREST_MAX), b_len = strnlen(b, WR_NEAREST_MAX);
    size_t row[WR_NEAREST_MAX + 1];
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[b_len];
}
