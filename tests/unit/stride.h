/* stride.h - how many of a test's thousands of alike cases are tried: under valgrind, which is
 * thirty times slower than the processor, WARREN_STRIDE=N takes every N-th (tests/valgrind.sh);
 * without it all are. */
#ifndef WR_TEST_STRIDE_H
#define WR_TEST_STRIDE_H

#include <stdlib.h>

static inline size_t stride(void)
{
    const char *text = getenv("WARREN_STRIDE");
    size_t step = text ? (size_t)strtoul(text, NULL, 10) : 1;
    return step ? step : 1;
}

#endif
