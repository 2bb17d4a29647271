#include "dht/netsize.h"

#include <string.h>

void wr_netsize_init(struct wr_netsize *n)
{
    memset(n, 0, sizeof(*n));
}

void wr_netsize_add(struct wr_netsize *n, double distance, wr_time now)
{
    if (distance <= 0)
        return;
    n->of[n->next].distance = distance;
    n->of[n->next].at = now;
    n->next = (n->next + 1) % WR_NETSIZE_SAMPLES;
    if (n->count < WR_NETSIZE_SAMPLES)
        n->count++;
}

uint64_t wr_netsize_estimate(const struct wr_netsize *n, wr_time now)
{
    double sum = 0;
    uint64_t samples = 0;
    for (size_t i = 0; i < n->count; i++) {
        if (now - n->of[i].at > WR_NETSIZE_AGE)
            continue;
        sum += n->of[i].distance;
        samples++;
    }
    if (samples < WR_NETSIZE_SAMPLES_MIN)
        return 0;
    /* One less than the shape makes the estimate unbiased. */
    return (uint64_t)((double)(WR_KBUCKET_SIZE * samples - 1) / sum);
}

bool wr_netsize_sure(const struct wr_netsize *n, double distance, wr_time now)
{
    uint64_t size = wr_netsize_estimate(n, now);
    return size > 0 && distance * (double)size < WR_NETSIZE_SURE;
}
