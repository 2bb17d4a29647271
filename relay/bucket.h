/* bucket.h - a token bucket that lends: what came is passed on whole, and whoever overdrew waits. Value.
 * So the rate holds over time without cutting what one read brought into pieces. */
#ifndef WR_BUCKET_H
#define WR_BUCKET_H

#include "transport/env.h"

#define WR_BUCKET_RATE_MAX ((uint64_t)100 * 1000 * 1000)    /* bytes a second; ours: keeps the sums within 64 bits */

struct wr_bucket {
    uint64_t rate;     /* bytes a second; 0: no limit */
    int64_t burst;     /* bytes saved up at most */
    int64_t tokens;    /* below zero: lent */
    wr_time at;        /* tokens are right for this instant */
};

/* Full at first. A rate above the maximum is no limit either. */
void wr_bucket_init(struct wr_bucket *b, uint64_t rate, uint64_t burst, wr_time now);
void wr_bucket_take(struct wr_bucket *b, size_t len, wr_time now);
/* Until nothing is lent any more; 0: go on. */
wr_time wr_bucket_wait(struct wr_bucket *b, wr_time now);

#endif
