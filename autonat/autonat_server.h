/* autonat_server.h - tells others whether they can be reached: AutoNAT version 1 and 2, answering side.
 * Service. Spec: libp2p autonat/autonat-v1.md, autonat-v2.md; NAT sheet 2 and 3. Messages in
 * autonat_msg.h, the dialling in dialback.h. Answers every direct peer; what it could be misused for is
 * bounded:
 *
 *   a third party    an address on another IP than the one the peer is seen at is dialled only after the peer has sent us
 *                    more bytes than the dial will cost (dial data), and after a random wait; one target that did not
 *                    answer gets WR_AUTONAT_SERVER_TARGET_BURST dials and then one each
 *                    WR_AUTONAT_SERVER_TARGET_INTERVAL, however many peers name it. A dial is one TCP connect or one
 *                    QUIC handshake of at most ten seconds. Version 1 dials the peer's own IP only: the ports that it
 *                    names, or, where it names none, the one it is seen at
 *   our neighbours   public addresses only, TCP and QUIC only (wr_dialback_may)
 *   ourselves        rates below, WR_AUTONAT_SERVER_TALKS at once
 *   each other       with all talks taken, one of a larger crowd than the newcomer's that still waits for its asker makes
 *                    room (crowds.h)
 *
 * Where strangers do not reach ourselves (per IP family) every dial is refused: it would cost a mapping of our NAT,
 * and those are counted on.
 *
 * A warren peer may ask to be dialled at another socket of its own, at the IP we see it at, from our listening port
 * (WR_AUTONAT_WAKE): so it learns how long its NAT remembers a silent socket (lifetest.h). Peers whom we know, at any
 * address, are not dialled for that.
 *
 * A warren peer may ask for a dial by a stranger: then another warren peer of ours is asked to do it
 * (WR_AUTONAT_STRANGER; it demands dial data of us in turn). Only that tells a client whether its NAT
 * lets in everybody or just those it has talked to. Most of a network are behind NATs and dial for nobody: who said that
 * is left out for ten minutes, and a few others are asked before we dial ourselves. */
#ifndef WR_AUTONAT_SERVER_H
#define WR_AUTONAT_SERVER_H

#include "autonat/dialback.h"

#define WR_AUTONAT_SERVER_TALKS     64            /* conversations at once; ours: as many as the rate lets begin */
#define WR_AUTONAT_SERVER_READ      (15 * WR_SEC) /* for the request and the dial data; go */
#define WR_AUTONAT_SERVER_WHOLE     (30 * WR_SEC) /* a conversation, then; ours: two dials and a wait */
#define WR_AUTONAT_SERVER_WAIT      (3 * WR_SEC)  /* before the dial of a third party, at most; go */
#define WR_AUTONAT_SERVER_DATA      30000         /* bytes of dial data asked for; the least that the spec allows: with its
                                                     100,000 they are more packets than all the rest of a question */
#define WR_AUTONAT_SERVER_CHUNK_MIN 100           /* bytes in each message but the last; go */
#define WR_AUTONAT_SERVER_NETS      4096          /* networks remembered for the rates; ours */
/* Requests a minute: from everybody, from one network (IPv4 /32, IPv6 /56); go autonatv2. With dial data: as go in bytes,
 * which asks for twice as much each time. */
#define WR_AUTONAT_SERVER_RATE      60
#define WR_AUTONAT_SERVER_RATE_NET  12
#define WR_AUTONAT_SERVER_RATE_DATA 24
/* The same for version 1; go autonat. */
#define WR_AUTONAT_SERVER_V1_RATE         30
#define WR_AUTONAT_SERVER_V1_RATE_NET     3
#define WR_AUTONAT_SERVER_TARGET_BURST    3 /* dials of a third party that never answered; ours ... */
#define WR_AUTONAT_SERVER_TARGET_INTERVAL (5 * WR_MIN) /* ... then one each; ours */

struct wr_autonat_server;

/* Registers the protocols. NULL: out of memory. */
struct wr_autonat_server *wr_autonat_server_create(struct wr_swarm *sw);
void wr_autonat_server_destroy(struct wr_autonat_server *s); /* before the swarm; NULL is allowed */

struct wr_autonat_server_stats {
    uint64_t requests, requests_v1; /* that were read */
    uint64_t rejected;              /* by a rate or bound */
    uint64_t refused;               /* nothing to dial */
    uint64_t dialled, reached;
    uint64_t delegated, for_others; /* dials that a stranger did for us; that we did as one */
    uint64_t broken;                /* peers that broke the protocol or left */
    uint64_t data_bytes;            /* of dial data taken */
};
void wr_autonat_server_stats(const struct wr_autonat_server *s, struct wr_autonat_server_stats *out);

#endif
