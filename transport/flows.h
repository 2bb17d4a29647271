/* flows.h - one budget for what routers between us and the world have to remember. Value.
 * A home router holds an entry for every remote address and port that we talk to, and for a while after. Some hold a few
 * hundred, cheap ones and some carriers 64, for the whole household: when the table is full, nobody there gets out.
 * So whoever opens a flow asks here first (on our own link only silence counts, and only what strangers named):
 *
 *   sessions   entries that the router holds for us, those of the past included until it has forgotten them
 *              (WR_LIMIT_SESSIONS). Counted where there is a NAT; flows that come in count too, but leave a quarter to
 *              ours: whoever can call in must not keep us from calling out
 *   new flows  begun in a second (WR_LIMIT_NEW_FLOWS), bursts of two seconds' worth
 *   silence    tries towards one IP address (of IPv6 one /64: who has one address there has them all), whichever port,
 *              whoever named it, until a libp2p peer proved to be there: WR_LIMIT_SILENT_TRIES at once, then one each
 *              WR_FLOWS_SILENT_EVERY. A try is at most 3 packets of TCP or 9 of QUIC. However many peers are said to
 *              live at a victim's address, that is what it gets
 *
 * Refusals are counted under those limits. Not here: bytes a second; what a punch may send (punch.h has a cap of its
 * own). */
#ifndef WR_FLOWS_H
#define WR_FLOWS_H

#include "transport/env.h"
#include "transport/limits.h"
#include "transport/map.h"

/* How long a router remembers. Linux conntrack's defaults; RFC 4787 and 5382 ask for as much. */
#define WR_FLOWS_LINGER_UDP    (120 * WR_SEC)    /* answered; nf_conntrack_udp_timeout_stream */
#define WR_FLOWS_LINGER_SILENT (30 * WR_SEC)     /* UDP that was not; nf_conntrack_udp_timeout */
#define WR_FLOWS_LINGER_SYN    (120 * WR_SEC)    /* TCP that was not; nf_conntrack_tcp_timeout_syn_sent */
#define WR_FLOWS_LINGER_TCP    (10 * WR_SEC)     /* closed; nf_conntrack_tcp_timeout_close */
#define WR_FLOWS_BURST         (2 * WR_SEC)      /* of new flows, at the allowed rate; ours */
#define WR_FLOWS_SILENT_EVERY  (60 * WR_SEC)     /* a further try; ours */
#define WR_FLOWS_SILENT_IPS    8192              /* addresses remembered, or as many as there can be new flows until each
                                                    may be tried again, if that is less: else busy nodes would forget
                                                    some that count. Ours; the least tried goes, and whoever is new then
                                                    counts as tried as often: it may be one that went */
#define WR_FLOWS_LINGERS       4
#define WR_FLOWS_OWN_PART      4                 /* a quarter of the sessions is for flows of ours only; ours */

struct wr_flow;

struct wr_flows {
    struct wr_limits *limits;    /* borrowed */
    struct wr_map of;            /* struct wr_flow by protocol, address, port, port of ours and which of several */
    struct wr_map silent;        /* by IP address */
    struct wr_list silent_order;
    uint64_t silent_gone;        /* tries of the most tried one that is not remembered any more ... */
    wr_time silent_gone_at;      /* ... which is right for this moment */
    uint64_t came;               /* of `of`, those that others began */
    uint32_t apart;              /* so many had a port of their own */
    struct wr_list idle[2][WR_FLOWS_LINGERS];    /* struct wr_flow without users, ours and those that came, by how long
                                                    they linger; oldest first */
    wr_time next_at;             /* when flows begun so far would be through at the allowed rate */
};

void wr_flows_init(struct wr_flows *f, struct wr_limits *limits, const uint8_t seed[static WR_MAP_SEED]);
void wr_flows_clear(struct wr_flows *f);    /* flows still held are void */

struct wr_flow_ask {
    const struct wr_addr *to;
    bool udp;
    uint16_t port;  /* of ours, when it is not the one that most leave from; else 0 */
    bool nat;       /* a router remembers it: sessions are counted */
    bool link;      /* no router is on the way: it does not count for the rate */
    bool apart;     /* from another port than what else leads there: the router has an entry for it alone */
    bool insist;    /* the owner wants it, or a cap of its own holds: silence and rate do not hold it back */
};

/* Under which address silence and caps are counted: IPv4 itself, IPv6 its /64. */
struct wr_ip wr_flows_host(const struct wr_ip *ip);
/* When the next flow may begin as far as the rate goes: 0 now. Counts a refusal when not. */
wr_time wr_flows_wait(struct wr_flows *f, wr_time now);
/* A flow begins. 0 with *out set, to be ended (NULL: nothing to remember); WR_EBACKOFF (silence), WR_ELIMIT
 * (sessions, memory). The rate is only noted. */
int wr_flows_begin(struct wr_flows *f, const struct wr_flow_ask *ask, wr_time now, struct wr_flow **out);
/* One came in, through a NAT; port: as of an ask. NULL: out of memory. */
struct wr_flow *wr_flows_came(struct wr_flows *f, const struct wr_addr *from, bool udp, uint16_t port);
/* May one come in? Where those that came have all that is theirs, one that is over makes room, although the router may
 * remember it still. Counts a refusal. */
bool wr_flows_may_come(struct wr_flows *f, wr_time now);
/* A libp2p peer proved to be at this address. */
void wr_flows_answered(struct wr_flows *f, const struct wr_ip *ip);
/* Another network: who was silent there may answer here. */
void wr_flows_forgive(struct wr_flows *f);
/* The user of a flow is gone; answered: something came back over it. NULL is allowed. */
void wr_flows_end(struct wr_flows *f, struct wr_flow *flow, bool answered, wr_time now);
/* What the router still holds of `gone`, whose sockets are closed, is remembered here. Both have the same limits. */
void wr_flows_inherit(struct wr_flows *f, struct wr_flows *gone, wr_time now);
/* Whether a router may remember something that was sent there, from the port that most leave from. */
bool wr_flows_known(struct wr_flows *f, const struct wr_addr *to, bool udp, wr_time now);
/* Forgets what routers have forgotten. begin does it too. */
void wr_flows_expire(struct wr_flows *f, wr_time now);

#endif
