#include "relay/bucket.h"

#define ELAPSED_MAX (60 * WR_SEC)    /* what is saved up longer does not count; keeps the product within 64 bits */

void wr_bucket_init(struct wr_bucket *b, uint64_t rate, uint64_t burst, wr_time now)
{
    if (rate > WR_BUCKET_RATE_MAX)
        rate = 0;
    *b = (struct wr_bucket){.rate = rate, .burst = (int64_t)burst, .tokens = (int64_t)burst, .at = now};
}

static void refill(struct wr_bucket *b, wr_time now)
{
    if (now - b->at > ELAPSED_MAX)
        b->at = now - ELAPSED_MAX;
    int64_t fresh = (now - b->at) * (int64_t)b->rate / WR_SEC;
    b->tokens += fresh;
    b->at += fresh * WR_SEC / (int64_t)b->rate;
    if (b->tokens < b->burst)
        return;
    b->tokens = b->burst;
    b->at = now;
}

void wr_bucket_take(struct wr_bucket *b, size_t len, wr_time now)
{
    if (!b->rate)
        return;
    refill(b, now);
    b->tokens -= (int64_t)len;
}

wr_time wr_bucket_wait(struct wr_bucket *b, wr_time now)
{
    if (!b->rate)
        return 0;
    refill(b, now);
    if (b->tokens >= 0)
        return 0;
    /* Rounded up: woken a moment early, the bucket would still be short. */
    uint64_t lent = (uint64_t)-b->tokens;
    return (wr_time)(lent / b->rate) * WR_SEC + (wr_time)((lent % b->rate) * (uint64_t)WR_SEC / b->rate) + 1;
}
