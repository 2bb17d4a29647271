/* dcutr.h - from a relayed connection to a direct one. Service.
 * Spec: libp2p relay/DCUtR.md; who does what in the nat sheet, section 7.
 *
 *   A dialled the relayed connection, B was reached by it. L is the round trip through the relay.
 *
 *   B  --- dials A's announced public addresses, if it has any (connection reversal) --->   A
 *   B  --- opens /libp2p/dcutr on the relayed connection: CONNECT(addresses of B) ------>   A
 *   B  <----------------------------------------------- CONNECT(addresses of A) ---------   A     L is known
 *   B  --- SYNC, then waits L/2 -------------------------------------------------------->   A
 *   B  === punches as the server ============================== punches as the client ===   A
 *
 * Whoever stands behind a NAT that counts looks for its newest port (wr_swarm_look) before it sends its CONNECT. When A
 * takes that time, B measures it as part of L, and so A punches half of it after the SYNC.
 *
 * B starts as soon as it has the relayed connection and one address of its own; the reversal runs beside. When
 * an attempt fails it makes the next one, each another trick (plan.h), three in all; in the third B is the
 * client, which is what go-libp2p before 0.41 understands. Then it rests, until an address of either side
 * changes or time has passed. A relayed connection that ends in between cuts the round short; with the next one it
 * begins anew, unless the peer broke off again and again. The first direct connection ends everything, whoever made it.
 *
 * What was tried is kept per peer, for `why`: the last attempts with times and errors. */
#ifndef WR_DCUTR_H
#define WR_DCUTR_H

#include "dcutr/plan.h"
#include "transport/punch.h"

#define WR_DCUTR_NAME        "/libp2p/dcutr"
#define WR_DCUTR_EXCHANGE    (10 * WR_SEC)    /* CONNECT to SYNC; rust 10 s, go 60 s, js 5 s */
#define WR_DCUTR_LOOK        (2 * WR_SEC)     /* for the newest port of our NAT, before ports are named; ours */
#define WR_DCUTR_RETRY       (500 * WR_MSEC)  /* between attempts; ours */
#define WR_DCUTR_REST        (10 * WR_MIN)    /* between rounds of three towards one peer; policy */
#define WR_DCUTR_REST_CHANGE (30 * WR_SEC)    /* the same when addresses changed, doubling when they change again
                                                 and it was in vain; ours */
#define WR_DCUTR_ASKED_MAX   9                /* attempts in vain of one peer that we take part in, in
                                                 WR_DCUTR_REST; ours: go makes three for each relayed
                                                 connection */
#define WR_DCUTR_CUTS_MAX    3                /* rounds towards one peer that the end of the relayed connection cut
                                                 short, in WR_DCUTR_REST; then it rests as after a whole one; ours */
#define WR_DCUTR_PEERS_MAX   256              /* remembered, 14 KiB each at most; ours, the longest idle goes */
#define WR_DCUTR_REPORTS     6                /* attempts remembered for each */
#define WR_DCUTR_TRIES       8                /* addresses remembered for each attempt */

/* How an attempt ended, or why none was made. */
enum wr_dcutr_outcome {
    WR_DCUTR_PUNCHED,         /* a direct connection */
    WR_DCUTR_REVERSED,        /* the plain dial to the peer's announced address got through */
    WR_DCUTR_MET,             /* the peer's own dial did */
    WR_DCUTR_NO_ADDRESS,      /* nobody told us yet how we are seen */
    WR_DCUTR_UNSUPPORTED,     /* the peer does not speak it */
    WR_DCUTR_NO_ANSWER,       /* the exchange broke off or was not in order: err */
    WR_DCUTR_NOTHING_TO_DIAL, /* the peer named no address that may be dialled */
    WR_DCUTR_HOPELESS,        /* neither side can know the other's ports */
    WR_DCUTR_FAILED,          /* both sent and nothing came: err */
    WR_DCUTR_OUTCOMES,
};

struct wr_dcutr_report {
    enum wr_dcutr_outcome outcome;
    int err;
    bool initiator;           /* we were B */
    bool udp;                 /* of the connection that came */
    enum wr_punch_role role;
    enum wr_plan_trick trick;
    unsigned attempt;         /* from 1; 0: no attempt was made */
    wr_time at;               /* when it began */
    wr_time rtt;              /* through the relay; 0: not measured */
    wr_time took;
    size_t own_count, count;
    struct wr_punch_try tries[WR_DCUTR_TRIES];    /* towards the peer, `count` of them */
};

struct wr_dcutr;

struct wr_dcutr_options {
    struct wr_swarm *swarm;    /* outlives the service */
    /* An attempt ended; both borrowed for the call. NULL: nobody wants to hear. */
    void (*on_report)(void *arg, const struct wr_peerid *peer, const struct wr_dcutr_report *report);
    void *arg;
};

/* Registers the protocol and watches the swarm. NULL: out of memory. */
struct wr_dcutr *wr_dcutr_create(const struct wr_dcutr_options *options);
/* Before the swarm is destroyed. NULL is allowed. */
void wr_dcutr_destroy(struct wr_dcutr *d);

/* ---- for `why` and `metrics` */

/* Attempts with this peer, newest first; returns how many of at most max. */
size_t wr_dcutr_reports(const struct wr_dcutr *d, const struct wr_peerid *peer, struct wr_dcutr_report *out,
                        size_t max);
/* The attempt that is under way; false: none is. */
struct wr_dcutr_now {
    bool initiator;
    bool sending;          /* both send by now, or will at the agreed moment; before that they agree on it */
    unsigned attempt;      /* from 1 */
    wr_time since;
};
bool wr_dcutr_now(const struct wr_dcutr *d, const struct wr_peerid *peer, struct wr_dcutr_now *out);
/* When it will try again by itself; 0: it is at work, or there is nothing to upgrade. */
wr_time wr_dcutr_next_at(const struct wr_dcutr *d, const struct wr_peerid *peer);

struct wr_dcutr_stats {
    uint64_t outcomes[WR_DCUTR_OUTCOMES];
    uint64_t punched[3][2];       /* by trick (enum wr_plan_trick) and transport: TCP, QUIC */
    uint64_t refused;             /* exchanges that a bound or a rule refused */
    unsigned running;             /* attempts under way */
};
void wr_dcutr_stats(const struct wr_dcutr *d, struct wr_dcutr_stats *out);

/* "punched", "reversed", "met", "no-address" ... ; static. */
const char *wr_dcutr_outcome_name(enum wr_dcutr_outcome outcome);

#endif
