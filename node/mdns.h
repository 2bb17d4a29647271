/* mdns.h - finds peers on the same link, and is found. Service.
 * Spec: libp2p discovery/mdns.md, RFC 6762; messages in mdns_msg.h.
 *
 *   us     --- PTR question, multicast, at 0, 1, 3 s, then every 10 to 60 s --->  link
 *   peer   --- the same --->  us  --- our answer, multicast after 20 to 120 ms, once a second --->  link
 *   peer   --- the same, from another port than 5353 --->  us  --- answer to it alone --->  peer
 *   us     --- our answer unasked, at start and when our addresses change; with TTL 0 at the end --->  link
 *
 * What is announced on a link are the addresses we listen at on that very link. What is heard is no proof of
 * anything: only addresses on a link of ours are kept, and the peer proves who it is when it is dialled. */
#ifndef WR_MDNS_H
#define WR_MDNS_H

#include "node/mdns_msg.h"
#include "transport/swarm.h"

#define WR_MDNS_KNOWN_MAX    256              /* peers remembered; ours, the one that expires next goes */
#define WR_MDNS_LINKS_MAX    16               /* interfaces used; ours */
#define WR_MDNS_TTL_MAX      (1 * WR_HOUR)    /* a record is believed no longer; ours, go says 3200 s */
#define WR_MDNS_UNICAST_RATE (100 * WR_MSEC)  /* answers to single hosts: one per ...; ours */
#define WR_MDNS_UNICAST_BURST 10              /* ... after these */
#define WR_MDNS_PEER_RATE    (500 * WR_MSEC)  /* peers passed on: one per ...; ours */
#define WR_MDNS_PEER_BURST   32               /* ... after these */

struct wr_mdns;

struct wr_mdns_options {
    struct wr_swarm *swarm;
    const char *fingerprint;    /* of the private network (wr_pnet_fingerprint), or NULL; read at once */
    /* A peer turned up on a link of ours, or its addresses changed, or it still answers though the
     * connection to it fell silent or our own network changed. They stand in the peerstore already, unless it
     * claims to be ourselves. NULL: nobody is told. */
    void (*on_peer)(void *arg, const struct wr_peerid *peer, const struct wr_maddr *addrs, size_t count);
    void *arg;
};

/* Works as far as the machine lets it (a port taken by somebody who does not share it is tried again when the
 * network changes). NULL: out of memory. */
struct wr_mdns *wr_mdns_create(const struct wr_mdns_options *options);
/* Says goodbye. Before the swarm; NULL is allowed. */
void wr_mdns_destroy(struct wr_mdns *m);

struct wr_mdns_stats {
    unsigned sockets, links, peers;    /* in use now; peers: heard of and not expired */
    uint64_t queries, answers;         /* sent */
    uint64_t heard, bad, refused;      /* packets; of them malformed; kept back by a rate or bound */
};
void wr_mdns_stats(const struct wr_mdns *m, struct wr_mdns_stats *out);

#endif
