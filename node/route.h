/* route.h - one router of several: a peer without addresses is looked for in every table at once.
 * Service. The public network has two, for the internet and for the local network (dht.h); a peer
 * may be known to either. The first that finds it answers, the others are asked no more. */
#ifndef WR_ROUTE_H
#define WR_ROUTE_H

#include "transport/swarm.h"

#define WR_ROUTE_MAX 2 /* routers; ours: the tables of one node */

/* Filled by the caller; outlives the searches. */
struct wr_route {
    struct wr_env *env;
    size_t count;
    struct wr_router of[WR_ROUTE_MAX];
    /* Has that one nobody to ask? Then it is not waited for once another has answered. */
    bool (*alone)(void *arg, size_t which);
    void *arg;
};

/* Reports 0, or the most telling error: that nobody could be asked says less than that nobody knew.
 */
struct wr_router wr_route_router(struct wr_route *route);

#endif
