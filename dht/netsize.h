/* netsize.h - how many servers the network has, from how near the nearest are. Value.
 * Keys are spread evenly, so the distance of the k-th nearest of N peers to a random point, as a
 * share of the key space, follows a gamma distribution of shape k and rate N. Of several such
 * distances the sum does, with the shapes added: N is estimated from that (go-libp2p-kad-dht,
 * netsize, fits a line instead). The same distribution says how near a peer must be to belong to
 * the k nearest. */
#ifndef WR_NETSIZE_H
#define WR_NETSIZE_H

#include "dht/kbucket.h"

#define WR_NETSIZE_SAMPLES     32            /* searches remembered; ours: within 4 % */
#define WR_NETSIZE_SAMPLES_MIN 5             /* fewer say nothing; go netsize.go */
#define WR_NETSIZE_AGE         (6 * WR_HOUR) /* of a sample; ours: an idle node refreshes every 2 h */

/* P(20, x) = 0.1: a peer nearer than x/N is one of the 20 nearest with 90 %; go lookup_optim.go. */
#define WR_NETSIZE_SURE 14.525

struct wr_netsize {
    struct {
        double distance; /* of the k-th nearest, share of the key space */
        wr_time at;
    } of[WR_NETSIZE_SAMPLES];
    size_t count, next;
};

void wr_netsize_init(struct wr_netsize *n);
/* A search for a random point found its WR_KBUCKET_SIZE nearest, the last one at this distance. */
void wr_netsize_add(struct wr_netsize *n, double distance, wr_time now);
uint64_t wr_netsize_estimate(const struct wr_netsize *n, wr_time now); /* 0: unknown */
/* Is a peer at this distance surely one of the nearest? */
bool wr_netsize_sure(const struct wr_netsize *n, double distance, wr_time now);

#endif
