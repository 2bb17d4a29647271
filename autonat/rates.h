/* rates.h - so many in a while for each of many: a token bucket per key, bounded. Value.
 * Strangers choose the keys, so the table has a ceiling: the bucket that was longest untouched goes, and
 * with it only its memory of having been used. */
#ifndef WR_RATES_H
#define WR_RATES_H

#include "transport/addr.h"
#include "transport/env.h"
#include "transport/map.h"

struct wr_rates {
    struct wr_map map;
    struct wr_list order; /* longest untouched first */
    size_t max;           /* buckets */
    unsigned burst;       /* tokens of a full bucket */
    wr_time interval;     /* until one token is back */
};

void wr_rates_init(struct wr_rates *r, size_t max, unsigned burst, wr_time interval,
                   const uint8_t seed[static WR_MAP_SEED]);
void wr_rates_clear(struct wr_rates *r);
/* Takes a token of this network's bucket: false when it is empty, or out of memory. */
bool wr_rates_take(struct wr_rates *r, const struct wr_ip *key, wr_time now);
bool wr_rates_left(const struct wr_rates *r, const struct wr_ip *key, wr_time now); /* would take give? */
void wr_rates_give(struct wr_rates *r, const struct wr_ip *key);   /* a token that was taken comes back */
void wr_rates_forget(struct wr_rates *r, const struct wr_ip *key); /* its bucket is full again */

#endif
