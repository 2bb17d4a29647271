/* punch.h - a direct connection to a peer behind a NAT, which dials us at the same moment. Service.
 * Spec: libp2p relay/DCUtR.md; who agrees with whom on the moment and the addresses is dcutr's affair.
 * Everything leaves from the listening ports, since a NAT's mapping belongs to a socket, or from one port more that no
 * router has met (wr_punch_port). The first packet
 * goes out at the agreed instant, never before: routers that answer themselves take an early one for their
 * own and give our peer another port.
 *
 *   TCP   both connect; a refused connect is tried again at once. Whether the two SYNs meet or one of them is
 *         accepted, the role (who proposes, who answers) is the one given here
 *   QUIC  the client dials; the server sends random datagrams, which open its NAT, and accepts. A client that
 *         gets such a datagram from a port it did not know dials that port too: the peer's NAT gave it one
 *         for us alone
 *
 * It succeeds with the first direct connection to the peer, whoever made it; what lost is closed. */
#ifndef WR_PUNCH_H
#define WR_PUNCH_H

#include "transport/swarm.h"

#define WR_PUNCH_ADDRS_MAX  24               /* of one punch: 8 each of TCP and QUIC (nim reads no more), and
                                                private ones; ours */
#define WR_PUNCH_LEARNT_MAX 4                /* ports of the peer found out on the way, besides; ours */
#define WR_PUNCH_MAX        32               /* punches at once; ours */
#define WR_PUNCH_FAIR       (2 * WR_SEC)     /* then whoever has had a place for so long makes room for others: most holes
                                                are open by then; ours */
#define WR_PUNCH_WINDOW     (5 * WR_SEC)     /* from the agreed instant; go and rust send for as long */
#define WR_PUNCH_RETRY      (50 * WR_MSEC)   /* after a refused connect, up to twice that; lab notes 5 */

/* What one IP address (of IPv6: one /64) gets from us that never answered, all peers that name it taken together.
 * A SYN or a random datagram counts one, the system's repeats of a SYN come on top unless it is refused, a QUIC
 * dial counts as often as its first flight may be repeated within the window. */
#define WR_PUNCH_QUIET_MAX  200              /* packets; ours: three tries at a peer that names eight ports take 192 */
#define WR_PUNCH_QUIET_TIME (10 * WR_MIN)
#define WR_PUNCH_QUIET_IPS  512              /* such addresses remembered; beyond, the one that got least goes ... */
#define WR_PUNCH_QUIET_GONE 4096             /* ... and of those that went only this many counts, shared by whoever hashes
                                                alike */
#define WR_PUNCH_HELLO_COST 8                /* packets more, when the connect succeeds and nothing comes of it; ours */
#define WR_PUNCH_SYN_REPEATS 2               /* within the window: after 1 s and 3 s; RFC 6298 */

enum wr_punch_role {
    WR_PUNCH_CLIENT,    /* proposes: TLS client, multistream dialler */
    WR_PUNCH_SERVER,
};

struct wr_punch_options {
    const struct wr_peerid *peer;
    const struct wr_maddr *addrs;    /* TCP and QUIC, of the peer; others and those that may not be dialled are
                                        left out */
    size_t count;
    unsigned private_max;            /* how many private ones among them may be tried; 0: none */
    enum wr_punch_role role;
    wr_time at;                      /* of the first packet; 0 or past: now */
    wr_time rtt;                     /* the round trip to expect; 0: not known */
    uint16_t port;                   /* of wr_punch_port: QUIC over IPv4 leaves from there; 0: from where we listen */
};

/* How one address went. */
struct wr_punch_try {
    struct wr_maddr addr;
    bool learnt;         /* the peer's NAT told, not the peer */
    unsigned packets;    /* SYNs, random datagrams or dials */
    int err;             /* of the last connect that failed; 0: none */
};

struct wr_punch;

/* conn is NULL when err is not 0: WR_ETIMEOUT (the window is over), WR_ECLOSED (the swarm ends). */
typedef void (*wr_punch_fn)(void *arg, int err, struct wr_conn *conn);

/* fn is called once, in a later turn, or never after wr_punch_cancel. 0 with *out set; WR_EEXIST (one to this
 * peer is under way), WR_EUNREACH (no address is left), WR_EGATED, WR_ESELF, WR_ELIMIT. A direct connection that
 * is open already is the answer. */
int wr_punch_start(struct wr_swarm *sw, const struct wr_punch_options *options, wr_punch_fn fn, void *arg,
                   struct wr_punch **out);
void wr_punch_cancel(struct wr_punch *punch);
/* A port for one punch over QUIC and IPv4: what a router remembers of the one where we listen does not concern it. It
 * has to be named to the peer, and given back after the punch; a connection that uses it keeps it. 0: none is to be had. */
uint16_t wr_punch_port(struct wr_swarm *sw);
void wr_punch_port_give(struct wr_swarm *sw, uint16_t port);    /* after the punch; 0 is allowed */
/* Within fn too. Returns how many of at most max. */
size_t wr_punch_tries(const struct wr_punch *punch, struct wr_punch_try *out, size_t max);

#endif
