/* dial.h - which address next, and when: ranking, staggered starts, back-off. Machine: no I/O.
 * Delays as go-libp2p's dial ranker (transport sheet 12.1): the best address at once, the other family
 * 250 ms later (30 ms on private addresses), and at once when nothing is in flight any more.
 *
 *   wr_dial_plan(...) once; then, until wr_dial_done:
 *     while ((i = wr_dial_next(d, now)) >= 0) start d->addrs[i];   timer at wr_dial_wait(d)
 *     wr_dial_failed(d, i) when that one failed */
#ifndef WR_DIAL_H
#define WR_DIAL_H

#include "transport/env.h"
#include "transport/maddr.h"
#include "transport/map.h"

#define WR_DIAL_ADDRS_MAX    32                  /* addresses tried for one peer; ours, js 25 */
#define WR_DIAL_PARALLEL     8                   /* at once for one peer; go, rust */
#define WR_DIAL_STAGGER      (250 * WR_MSEC)     /* public; go dial_ranker.go */
#define WR_DIAL_STAGGER_LAN  (30 * WR_MSEC)      /* private; go */
#define WR_DIAL_TIMEOUT      (60 * WR_SEC)       /* whole dial of a peer; go */
#define WR_DIAL_ROUTE_AFTER  (1500 * WR_MSEC)    /* nobody answered: what we know may be stale, the router is asked; ours */
#define WR_DIAL_ROUTE_AGAIN  (3 * WR_SEC)        /* and again: who just moved tells others within seconds; ours */
#define WR_DIAL_ROUTES_MAX   4                   /* in all; ours */
#define WR_DIAL_ADDR_TIMEOUT (5 * WR_SEC)        /* TCP connect of one address; go */

enum wr_dial_state { WR_DIAL_PENDING, WR_DIAL_RUNNING, WR_DIAL_FAILED, WR_DIAL_DONE };

struct wr_dial_addr {
    struct wr_maddr addr;       /* resolved: ip and port; without /p2p */
    wr_time start_at;           /* when it is due; earlier when nothing runs any more */
    enum wr_dial_state state;
    int err;                    /* why it failed */
    bool lan;
};

struct wr_dial {
    struct wr_dial_addr addrs[WR_DIAL_ADDRS_MAX];    /* an index stays good for the dial's life */
    size_t count, running;
    wr_time started_at;
    /* Public addresses: TCP first; IPv4 first. Set between plan and the first add. */
    bool quic_last, ip6_last;
};

/* Ranks (duplicates dropped, beyond the maximum the worst dropped). */
void wr_dial_plan(struct wr_dial *d, const struct wr_maddr *addrs, size_t count, wr_time now);
/* Adds an address that turned up later (a name resolved); it is ranked among those not begun. */
void wr_dial_add(struct wr_dial *d, struct wr_bytes addr, wr_time now);
/* Is it one that failed in this dial, and may be begun again? Then it is ranked anew. For ways through relays: what they
 * lead to comes and goes. */
int wr_dial_again(struct wr_dial *d, struct wr_bytes addr, wr_time now);    /* its index, or -1 */
/* Index to start now (marked running), or -1. */
int wr_dial_next(struct wr_dial *d, wr_time now);
wr_time wr_dial_wait(const struct wr_dial *d);    /* when next may say more; 0: only after a failure */
void wr_dial_failed(struct wr_dial *d, int index, int err);
void wr_dial_done_one(struct wr_dial *d, int index);    /* that one led to a connection, the dial goes on */
bool wr_dial_done(const struct wr_dial *d);       /* nothing runs, nothing is left */
int wr_dial_error(const struct wr_dial *d);       /* the most telling error of all tries */
/* A way through a relay that was asked for it already, at another of its addresses: that one's answer is this one's. */
bool wr_dial_same_relay(const struct wr_dial_addr *a);

/* ---- networks that drop UDP, or IPv6: where TCP got through and QUIC, which had the head start, did not, time and
 * again, QUIC goes last; now and then it is tried first all the same, and one success ends it. IPv4 and IPv6 alike. */
#define WR_BLACKHOLE_WINDOW 16    /* contests lost in a row; ours, go: 5 successes of 100 dials */
#define WR_BLACKHOLE_PROBE  16    /* each so many dials it goes first; ours, go 100 */

#define WR_BLACKHOLE_SIGN   3     /* contests lost in a row that are worth telling the owner of; nat sheet 12.4 */

struct wr_blackhole {
    unsigned lost;      /* contests since the last success */
    unsigned dials;     /* since it went first */
};

/* Whether QUIC (IPv6) is to go last in a dial that begins now. */
bool wr_blackhole_suspects(struct wr_blackhole *b);
/* QUIC (IPv6) to a public address: it got through, or TCP (IPv4) to the same peer overtook it. */
void wr_blackhole_note(struct wr_blackhole *b, bool through);

/* ---- back-off: (peer, address) pairs that failed lately; bounded, seeded hash. */
#define WR_BACKOFF_BASE (5 * WR_SEC)     /* go: 5 s + tries^2 x 1 s */
#define WR_BACKOFF_MAX  (5 * WR_MIN)     /* go */
#define WR_BACKOFF_ENTRIES 4096          /* ours; beyond it the oldest goes */

struct wr_backoff {
    struct wr_map map;
    struct wr_list order;
};

void wr_backoff_init(struct wr_backoff *b, const uint8_t seed[static WR_MAP_SEED]);
void wr_backoff_clear(struct wr_backoff *b);
bool wr_backoff_waits(const struct wr_backoff *b, const struct wr_peerid *peer, struct wr_bytes addr,
                      wr_time now);
void wr_backoff_failed(struct wr_backoff *b, const struct wr_peerid *peer, struct wr_bytes addr,
                       wr_time now);
void wr_backoff_forget(struct wr_backoff *b, const struct wr_peerid *peer, struct wr_bytes addr);

#endif
