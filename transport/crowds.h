/* crowds.h - how many each network has of something for which strangers compete. Value.
 * When all places are taken, one from the largest network makes room for a newcomer of a smaller one: so a crowd
 * competes with itself, and the others stay. Networks are large for this: a /16 of IPv4, a /32 of IPv6, about what
 * one party can rent at once. Counters are few and networks fall together by chance now and then; which, nobody
 * outside can know. */
#ifndef WR_CROWDS_H
#define WR_CROWDS_H

#include "transport/addr.h"
#include "transport/map.h"

#define WR_CROWDS_MAX 4096    /* counters; ours: of 256 networks 6 in 100 share one */

struct wr_crowds {
    uint64_t seed;
    uint16_t size[WR_CROWDS_MAX];
};

void wr_crowds_init(struct wr_crowds *c, const uint8_t seed[static WR_MAP_SEED]);
/* The number of an address's network, below WR_CROWDS_MAX. */
unsigned wr_crowds_of(const struct wr_crowds *c, const struct wr_ip *ip);
void wr_crowds_add(struct wr_crowds *c, const struct wr_ip *ip);
/* The largest network among those that are larger than the newcomer's, he counted in; -1: none is. */
int wr_crowds_larger(const struct wr_crowds *c, const struct wr_ip *newcomer);

#endif
