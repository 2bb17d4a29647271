#include "node/nearest.h"

#include <string.h>

#define SHORT_WORD 5 /* characters; two edits make another word of a shorter one: foo, log; ours */

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

size_t wr_nearest_distance(const char *a, const char *b)
{
    size_t a_len = strnlen(a, WR_NEAREST_MAX), b_len = strnlen(b, WR_NEAREST_MAX);
    size_t rows[3][WR_NEAREST_MAX + 1];
    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
    }
    return rows[a_len % 3][b_len];
}

bool wr_nearest_is_near(const char *typed, size_t distance)
{
    return distance <= (strnlen(typed, WR_NEAREST_MAX) < SHORT_WORD ? 1 : 2);
}
