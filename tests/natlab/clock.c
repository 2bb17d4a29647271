/* A clock that is wrong: preloaded, it puts the system's time off by LAB_CLOCK seconds for one program. Other clocks, by
 * which time is measured, stay as they are. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PRELOADED __attribute__((visibility("default")))

PRELOADED int clock_gettime(clockid_t which, struct timespec *out)
{
    const char *off = getenv("LAB_CLOCK");
    int result = (int)syscall(SYS_clock_gettime, which, out);
    if (result == 0 && which == CLOCK_REALTIME && off)
        out->tv_sec += atol(off);
    return result;
}

PRELOADED time_t time(time_t *out)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
