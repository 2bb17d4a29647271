/* filtertest.h - whom does the NAT let in to a socket of ours? Service.
 * Our usual sockets have talked to most peers that could try them, so a try proves little. A fresh socket
 * has talked to one peer only, and any other is a stranger to it:
 *
 *   fresh socket --- connect, identify ---> peer A            makes a mapping, and tells where it is
 * outside another one  --- AutoNAT: can that be reached? ---> peer B, C    who gets in there without being
 * known: EIF fresh socket --- the same question ---> peer A            known, but from another port: ADF,
 * or else APDF
 *
 * Both sockets belong to an identity made for it, so that the node's own connections are not confused, and
 * any AutoNAT version 2 server will do. The kind of filter belongs to the NAT, not to the socket. */
#ifndef WR_FILTERTEST_H
#define WR_FILTERTEST_H

#include "autonat/ask.h"
#include "autonat/natkind.h"
#include "autonat/seen.h"

#define WR_FILTERTEST_PEERS   3             /* A, B and C; two strangers, since one may lie */
#define WR_FILTERTEST_TIMEOUT (40 * WR_SEC) /* all of it; ours: three dials at once of 10 s, and waits */

/* One question about the fresh socket. */
struct wr_filtertest_ask {
    struct wr_filtertest *of;
    struct wr_connect *request;
    struct wr_ask ask;
    bool running, over, arrived; /* arrived: the nonce came in by the fresh socket */
    uint64_t nonce;
    enum wr_ask_result result;
};

struct wr_filtertest {
    struct wr_swarm *home; /* NULL: not running */
    struct wr_env *env;
    bool udp;
    struct wr_swarm *fresh, *asker; /* owned; one identity, two sets of sockets */
    struct wr_key key;
    struct wr_maddr peers[WR_FILTERTEST_PEERS];
    size_t peer_count;
    struct wr_connect *request; /* to A */
    struct wr_conn *known;      /* to A; good until it is asked: A may hang up then */
    struct wr_ip known_ip;      /* A's; family 0: not met yet */
    struct wr_seen seen;
    struct wr_maddr outside; /* of the fresh socket */
    struct wr_filtertest_ask asks[WR_FILTERTEST_PEERS];
    struct wr_msg back; /* a dial-back that is coming in */
    struct wr_conn *back_conn;
    struct wr_timer timer;
    /* With what was found out, UNKNOWN: nothing; in a later turn. */
    void (*on_done)(struct wr_filtertest *t, enum wr_nat_filtering filtering);
};

/* peers: public addresses of AutoNAT version 2 servers, all of one transport and family and on IPs of their own, at
 * least two.
 */
void wr_filtertest_start(struct wr_filtertest *t, struct wr_swarm *home, bool udp,
                         const struct wr_maddr *peers, size_t count,
                         void (*on_done)(struct wr_filtertest *t, enum wr_nat_filtering filtering));
void wr_filtertest_cancel(struct wr_filtertest *t); /* also when it does not run */

#endif
