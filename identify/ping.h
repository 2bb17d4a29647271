/* ping.h - 32 bytes and back: the answering side, and a client that keeps its stream. Service.
 * Spec: libp2p ping/ping.md; behaviour of others in transport sheet 11.1.
 *
 *   client --- 32 random bytes --> server
 *   client <-- the same ---------- server      again and again on one stream, until the client ends it
 *
 * go ends a ping stream after 30 s, others when they like: an end between two pings is no failure, the next
 * ping opens a new stream, and one that a closing stream swallowed is sent once more. */
#ifndef WR_PING_H
#define WR_PING_H

#include "transport/swarm.h"

#define WR_PING_NAME    "/ipfs/ping/1.0.0"
#define WR_PING_LEN     32
#define WR_PING_STREAMS 2                /* served per connection at once; go, js */
#define WR_PING_IDLE    (60 * WR_SEC)    /* a served stream without pings ends; ours: rust pings every 15 s */
#define WR_PING_TIMEOUT (10 * WR_SEC)    /* for one reply; go, js */

/* ---- serving ---------------------------------------------------------------------------------------- */
struct wr_pong;

/* Registers the protocol. NULL: out of memory. */
struct wr_pong *wr_pong_create(struct wr_swarm *sw);
void wr_pong_destroy(struct wr_pong *p);    /* before the swarm; NULL is allowed */

/* ---- asking ----------------------------------------------------------------------------------------- */
struct wr_ping;

struct wr_ping_reply {
    unsigned number;         /* 1 for the first ping */
    int err;                 /* 0, WR_ETIMEOUT, WR_EUNSUPPORTED, WR_EPROTO (other bytes came back), a dial's */
    wr_time rtt;             /* when err is 0 */
    struct wr_conn *conn;    /* the path it went by, or NULL; good during the call */
};

struct wr_ping_options {
    wr_time every;      /* between the starts of two pings; 0: only when wr_ping_send asks */
    wr_time timeout;    /* 0: WR_PING_TIMEOUT */
    /* Once per ping, in a later turn than its sending. May call wr_ping_close. */
    void (*on_reply)(void *arg, const struct wr_ping_reply *reply);
    void *arg;
};

/* With `every` the first ping goes out at once, connecting if need be; each goes over the best connection of
 * its moment. The replies also feed the peerstore's round trip. NULL: out of memory. */
struct wr_ping *wr_ping_open(struct wr_swarm *sw, const struct wr_peerid *peer,
                             const struct wr_ping_options *options);
/* One ping. 0, WR_EINUSE while one is out. */
int wr_ping_send(struct wr_ping *p);
void wr_ping_close(struct wr_ping *p);    /* no more calls; before the swarm goes; NULL is allowed */

#endif
