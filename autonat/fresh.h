/* fresh.h - a swarm of its own, for a question about our NAT that the node's own sockets cannot answer. Service.
 * Nobody has met its identity, and the router has no mapping for its socket. It has the node's limits and its private
 * network. */
#ifndef WR_FRESH_H
#define WR_FRESH_H

#include "transport/swarm.h"

/* Fills an identity; the caller wipes it. */
void wr_fresh_key(struct wr_env *env, struct wr_key *key);
/* key is borrowed for the swarm's life. The caller destroys it. NULL: out of memory. */
struct wr_swarm *wr_fresh_swarm(struct wr_swarm *home, const struct wr_key *key);
/* On a port that the system chooses, of all addresses of a family (4, 6); false: it did not work. */
bool wr_fresh_listen(struct wr_swarm *fresh, bool udp, uint8_t family);

#endif
