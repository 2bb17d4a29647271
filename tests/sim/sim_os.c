/* What libraries ask the system for behind the seam's back: GnuTLS draws its own randomness and looks at
 * the clock. These stand before libc's for the whole program, so that a handshake replays from the seed as
 * all else does. GnuTLS keeps a state of its own for the life of the process: the first simulation of a
 * process replays, a second one in it goes its own way. */
#include "tests/sim/sim_priv.h"

#include <string.h>
#include <sys/random.h>
#include <time.h>

#define OS_EPOCH 1893456000    /* seconds since 1970 that any clock shows: 2030 */

static struct sim_chance os_chance = {{1, 2, 3, 4}};

void sim_os_seed(uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        os_chance.s[i] = seed = sim_mix(seed);
}

__attribute__((visibility("default"))) ssize_t getrandom(void *out, size_t len, unsigned flags)
{
    (void)flags;
    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = sim_chance_next(&os_chance);
        memcpy((uint8_t *)out + at, &word, len - at < 8 ? len - at : 8);
    }
    return (ssize_t)len;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *out)
{
    (void)clock;
    *out = (struct timespec){.tv_sec = OS_EPOCH};
    return 0;
}

__attribute__((visibility("default"))) time_t time(time_t *out)
{
    if (out)
        *out = OS_EPOCH;
    return OS_EPOCH;
}
