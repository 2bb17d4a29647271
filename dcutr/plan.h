/* plan.h - which addresses of ours a peer is to punch towards, by what is known of our NAT. Value: a pure
 * function of candidates, NAT and attempt, and so a table of its tests.
 * Addresses go into the ordinary list of DCUtR (libp2p relay/DCUtR.md allows predicted ones), so all this
 * works against peers that know nothing of it.
 *
 * Behind a mapping that depends on the remote endpoint (RFC 4787: ADM, APDM) the port that somebody saw is
 * worth nothing to anybody else. If the NAT keeps our port it is that one; if it counts, the next ones are
 * named in the order in which our own packets will use them up: nothing else may be sent on the way, or the
 * count is off. So such a node spends one transport in an attempt. Where something was sent to the peer not long ago, a
 * plain dial say, its NAT uses that mapping on: the ports before the newest are named, too. If the ports are random, what was seen is
 * named all the same: the peer's NAT may let us in from any port.
 *
 * A NAT that keeps one port for all may have given our socket another one since anybody saw it: routers that answer
 * themselves do, for what is new, when a packet came too early (lab notes 3), and do not go back while it is in use.
 * Who opens nothing new does not hear of it. So such a node makes one attempt from a new socket.
 *
 *   attempt   ours
 *   1st       public addresses, IPv6, predicted ports of QUIC
 *   2nd       and private ones, if the peer has our external address; predicted ports of TCP (in every attempt, if
 *             nobody sees us over UDP). Behind a NAT that keeps our port for everybody: a new port of ours for the
 *             one that is seen
 *   3rd       as the first; half of the predicted ports are further on, or, where something was sent to the peer,
 *             further back */
#ifndef WR_PLAN_H
#define WR_PLAN_H

#include "dcutr/dcutr_msg.h"
#include "transport/addrbook.h"
#include "transport/nat.h"

#define WR_PLAN_ATTEMPTS    3       /* DCUtR.md: "up to three" */
#define WR_PLAN_PREDICTED   8       /* ports named at most; lab notes 5: 8 of UDP, fewer of TCP */
#define WR_PLAN_PREDICT_TCP 4
#define WR_PLAN_BEHIND      2       /* ports behind the newest, when there may be a mapping already: of QUIC's eight,
                                       of TCP beside its four; ours ... */
#define WR_PLAN_BEHIND_LAST 4       /* ... and in the third attempt: the first two moved the newest on, each by a look
                                       and by what it sent to; ours */
#define WR_PLAN_PRIVATE_MAX 4       /* private addresses named, and tried; nat sheet 12.5 */
#define WR_PLAN_STALE       (10 * WR_MIN)    /* an older port tells nothing of the next; ours */

enum wr_plan_trick {
    WR_PLAN_PLAIN,
    WR_PLAN_PREDICT,    /* predicted ports are among them */
    WR_PLAN_SITE,       /* private addresses are */
};

struct wr_plan_input {
    const struct wr_own_addr *own;    /* the address book */
    size_t count;
    const struct wr_policy *policy;   /* what counts as public; may be NULL */
    const struct wr_nat *nat;
    unsigned attempt;                 /* from 0 */
    bool same_external;               /* the peer is behind our external address */
    bool met_tcp, met_udp;            /* our NAT may have a mapping towards an address of the peer's */
    uint16_t port;                    /* of a socket that no router has met; 0: there is none */
    wr_time now;
};

struct wr_plan {
    struct wr_maddr addrs[WR_DCUTR_ADDRS_MAX];    /* best first */
    size_t count;
    enum wr_plan_trick trick;
    bool counts;                      /* our NAT counts, so that its newest port tells the next ones ... */
    bool counts_udp;                  /* ... of UDP, else of TCP */
    bool tcp, quic;                   /* what of the peer's we dial in this attempt: a NAT that counts must not
                                         be made to count for nothing */
};

/* Whether this attempt goes over QUIC from a port of its own: its outside port is the same, as far as is known. */
bool wr_plan_wants_port(const struct wr_plan_input *in);
void wr_plan_make(const struct wr_plan_input *in, struct wr_plan *out);

/* Whether one of the peer's addresses has the external address that ours have: then we are behind one NAT. */
bool wr_plan_same_external(const struct wr_plan *ours, const struct wr_maddr *theirs, size_t count);
/* Whether nothing can come of it: our ports are random, and the peer's list shows a port for each of its
 * observers, so that neither side can tell the other where to send. */
bool wr_plan_hopeless(const struct wr_nat *nat, const struct wr_maddr *theirs, size_t count);

const char *wr_plan_trick_name(enum wr_plan_trick trick);    /* "plain", "predict", "site" */

#endif
