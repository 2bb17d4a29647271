/* hairtest.h - do two machines behind our NAT meet under their outside addresses? Service.
 * A NAT that filters keeps out whoever was not sent to, its own machines included: that one socket does not reach
 * the outside address of another proves nothing before the other has opened the way. So two fresh sockets:
 *
 *   one, two --- connect, identify ---> peer          each has a mapping, and knows where it is outside
 *   one --- dials the outside of two --->             gets in where the NAT lets in everybody; else it opens the way
 *   two --- dials the outside of one --->             gets in where the NAT turns packets round at all
 *
 * Each socket has an identity of its own, so that whoever answers is known to be the other one. For NATs with
 * one outside port for each of ours, or that keep ours: else nobody knows where to dial. */
#ifndef WR_HAIRTEST_H
#define WR_HAIRTEST_H

#include "autonat/seen.h"
#include "transport/swarm.h"

#define WR_HAIRTEST_TIMEOUT  (15 * WR_SEC)   /* to know where both are outside; ours */
#define WR_HAIRTEST_OPENING  (500 * WR_MSEC) /* for the first dial to get out; ours: the way to a carrier and back */
#define WR_HAIRTEST_GIVEN_UP (WR_DIAL_ADDR_TIMEOUT + WR_SEC) /* over TCP: until it has given up */
#define WR_HAIRTEST_DIAL     (5 * WR_SEC)    /* for the second one to get in; ours: a few packets each */

struct wr_hairtest;

struct wr_hairtest_side {
    struct wr_hairtest *of;
    struct wr_key key;
    struct wr_swarm *swarm;      /* owned; listens on one fresh socket */
    struct wr_connect *request;  /* to the peer, then to the other side */
    struct wr_seen seen;
    struct wr_maddr outside;     /* len 0: not known yet */
};

struct wr_hairtest {
    struct wr_swarm *home;    /* NULL: not running */
    struct wr_env *env;
    bool udp, second, over;   /* second: two dials */
    struct wr_hairtest_side sides[2];
    struct wr_timer timer;
    enum wr_nat_answer found;
    /* UNKNOWN: nothing was found out; in a later turn. */
    void (*on_done)(struct wr_hairtest *t, enum wr_nat_answer found);
};

/* peer: a public address of that transport whose owner answers identify. */
void wr_hairtest_start(struct wr_hairtest *t, struct wr_swarm *home, bool udp, const struct wr_maddr *peer,
                       void (*on_done)(struct wr_hairtest *t, enum wr_nat_answer found));
void wr_hairtest_cancel(struct wr_hairtest *t);    /* also when it does not run */

#endif
