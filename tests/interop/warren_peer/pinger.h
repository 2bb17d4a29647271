/* pinger.h - so many pings one after the other, for the commands that ping. */
#ifndef PINGER_H
#define PINGER_H

#include "identify/ping.h"

struct pinger;

/* Once per ping with how many are left; after an error none are. */
typedef void (*pinger_fn)(void *arg, int err, wr_time rtt, unsigned left);

/* `gap` between a reply and the next ping. NULL: count is 0, or out of memory. */
struct pinger *pinger_start(struct wr_swarm *sw, const struct wr_peerid *peer, unsigned count,
                            wr_time gap, pinger_fn fn, void *arg);
void pinger_cancel(struct pinger *p);

#endif
