/* swarm.h - all connections of a node: listen, dial, accept, limits, protocols, events. Service.
 * The services (identify, DHT, ...) talk to peers only through this header and stream.h, and to each other
 * only through its events. */
#ifndef WR_SWARM_H
#define WR_SWARM_H

#include "transport/addrbook.h"
#include "transport/conn.h"
#include "transport/dial.h"
#include "transport/nat.h"
#include "transport/peerstore.h"
#include "transport/policy.h"

struct wr_swarm;

struct wr_swarm_options {
    struct wr_env *env;
    struct wr_limits *limits;         /* borrowed for the swarm's life */
    const struct wr_key *identity;    /* borrowed */
    const uint8_t *psk;               /* WR_PNET_KEY bytes, borrowed, or NULL */
    struct wr_swarm *heir;            /* counts what routers still remember of this one when it is gone; or NULL.
                                         Has the same limits, borrowed for the swarm's life */
    const struct wr_secure *security[WR_SECURE_COUNT + 1];    /* what is spoken over TCP, the favourite first,
                                                                 NULL at the end; empty: all, wr_secure_all */
};

struct wr_swarm *wr_swarm_create(const struct wr_swarm_options *options);    /* NULL: out of memory */
/* Closes every connection and listener at once; on_close calls of streams are made before it returns. */
void wr_swarm_destroy(struct wr_swarm *sw);

/* ---- what it holds, for the services to read and (peerstore, addrbook) to fill */
struct wr_env *wr_swarm_env(const struct wr_swarm *sw);
struct wr_limits *wr_swarm_limits(const struct wr_swarm *sw);
const struct wr_key *wr_swarm_key(const struct wr_swarm *sw);
const struct wr_peerid *wr_swarm_self(const struct wr_swarm *sw);
struct wr_peerstore *wr_swarm_peerstore(struct wr_swarm *sw);
struct wr_verified *wr_swarm_verified(struct wr_swarm *sw);    /* peers' signatures found good; owned by the swarm */
struct wr_addrbook *wr_swarm_addrbook(struct wr_swarm *sw);
struct wr_policy *wr_swarm_policy(struct wr_swarm *sw);
const struct wr_protocols *wr_swarm_protocols(const struct wr_swarm *sw);
const uint8_t *wr_swarm_psk(const struct wr_swarm *sw);    /* of a private network, or NULL */

/* ---- listening. The multiaddr says transport, address and port (0: any). */
/* 0; WR_EUNSUPPORTED (no transport for it); errors of wr_env_listen. */
int wr_swarm_listen(struct wr_swarm *sw, struct wr_bytes addr);
/* Bound addresses, real ports, in the order they were asked for. */
size_t wr_swarm_listening(const struct wr_swarm *sw, struct wr_maddr *out, size_t max);
/* Looks at the interfaces again: expands wildcard listeners into the address book. */
void wr_swarm_refresh_links(struct wr_swarm *sw);

/* ---- protocols that we answer. Changing them raises WR_SWARM_PROTOCOLS. As wr_protocols_add. */
int wr_swarm_handle(struct wr_swarm *sw, const struct wr_protocol *protocol);
void wr_swarm_unhandle(struct wr_swarm *sw, const char *name);
/* Whether identify announces it; what is under way goes on. */
void wr_swarm_hide(struct wr_swarm *sw, const char *name, bool hidden);

/* ---- dialling */
struct wr_connect;    /* a request under way */

typedef void (*wr_connect_fn)(void *arg, int err, struct wr_conn *conn);

#define WR_CONNECT_FRESH  1u    /* a new connection even when one is open */
#define WR_CONNECT_ROUTE  2u    /* ask the router when the peer has no address that answers */
#define WR_CONNECT_DIRECT 4u    /* not through a relay: circuits do not count, and none is dialled for this */

/* Connects to a peer, joining a dial under way. addrs (may be 0) are tried beside what the peerstore knows;
 * when none answers and the flag says so, the router (below) is asked. fn is called once, in a later turn, or never after
 * wr_connect_cancel. 0 with *out (may be NULL) set, WR_ELIMIT, WR_ESELF, WR_EGATED. Our own id at an address
 * that is not ours is dialled nevertheless (unless a stranger named it): whoever proves it is a twin. */
int wr_swarm_connect(struct wr_swarm *sw, const struct wr_peerid *peer, const struct wr_maddr *addrs,
                     size_t count, enum wr_addr_origin origin, unsigned flags, wr_connect_fn fn,
                     void *arg, struct wr_connect **out);
void wr_connect_cancel(struct wr_connect *request);
/* A connection to whoever answers at addr (no peer id known). As above. */
int wr_swarm_connect_addr(struct wr_swarm *sw, struct wr_bytes addr, wr_connect_fn fn, void *arg,
                          struct wr_connect **out);
/* A stream to a peer over the best open connection, or over one that is dialled now to the addresses in
 * the peerstore (the router is not asked). See stream.h. NULL with *err: WR_ELIMIT, WR_ESELF, WR_EGATED,
 * WR_EUNREACH (no address), WR_EBACKOFF.
 * A circuit with limits is not enough for it: while there is only that, it waits for a direct connection, at most
 * WR_DIAL_TIMEOUT, and ends with WR_ELIMITED. */
struct wr_stream *wr_swarm_open(struct wr_swarm *sw, const struct wr_peerid *peer,
                                const char *const *offer, const struct wr_stream_ops *ops, void *arg,
                                int *err);
/* The same for protocols that do with few bytes and a connection that may end any minute. */
#define WR_OPEN_LIMITED 1u    /* also over a circuit with limits */
#define WR_OPEN_DIRECT  2u    /* no circuit is dialled for it */
struct wr_stream *wr_swarm_open_with(struct wr_swarm *sw, const struct wr_peerid *peer, unsigned flags,
                                     const char *const *offer, const struct wr_stream_ops *ops, void *arg,
                                     int *err);
/* Per address: how the last dials of a peer went, newest first, for `why` and errors. */
struct wr_dial_report {
    struct wr_maddr addr;
    int err;             /* 0 succeeded */
    wr_time at;          /* when that was known */
    wr_time took;        /* 0: not begun, a rule or a back-off forbade it */
    bool accepted;       /* the connection came about, and ended before the peer proved who it is */
};
size_t wr_swarm_dial_report(const struct wr_swarm *sw, const struct wr_peerid *peer,
                            struct wr_dial_report *out, size_t max);

/* How the last dial ended as a whole. */
struct wr_dial_outcome {
    int err;
    wr_time at;
    bool routed;         /* the router was asked ... */
    int route_err;       /* ... and found none (0: it did) */
};
/* False: no dial of the peer is remembered. */
bool wr_swarm_dial_outcome(const struct wr_swarm *sw, const struct wr_peerid *peer,
                           struct wr_dial_outcome *out);

/* What a dial of the peer is doing now; returns how many of at most max. */
enum wr_dial_doing {
    WR_DIAL_QUEUED,    /* it waits for others to end */
    WR_DIAL_NAMING,    /* the addresses of a name are looked up: addr */
    WR_DIAL_ROUTING,   /* the router is asked */
    WR_DIAL_TRYING,    /* addr is dialled, or a relay asked for the way: addr */
};
struct wr_dial_now {
    enum wr_dial_doing doing;
    struct wr_maddr addr;    /* or empty */
    wr_time since;
};
size_t wr_swarm_dial_now(struct wr_swarm *sw, const struct wr_peerid *peer, struct wr_dial_now *out, size_t max);

/* Finds addresses of a peer that has none: set by the node, answered by the DHT. The router calls done
 * once, in a later turn; it puts what it found into the peerstore. */
typedef void (*wr_route_done)(void *arg, int err);
struct wr_router {
    void *(*find)(void *router_arg, const struct wr_peerid *peer, wr_route_done done, void *arg);
    void (*cancel)(void *router_arg, void *search);
    void *arg;
};
/* Gives up what the last one was asked. NULL: none; to be said before the router ends. */
void wr_swarm_set_router(struct wr_swarm *sw, const struct wr_router *router);

/* ---- circuits: connections through a relay (struct wr_circuit). The relay client speaks to relays and hands over
 * the stream; what is spoken through it, the swarm does. A direct connection replaces a circuit: new streams take it.
 * Where both ends made one at once (reversal beside a punch), the one that the smaller peer id dialled is kept. */
#define WR_CIRCUIT_RETIRE (5 * WR_SEC)    /* after that, what was replaced is closed once it has no streams; ours */

/* err 0: s leads to the peer, early is what was read behind the relay's answer; both are handed over (early is
 * borrowed for the call). Else why not: WR_EREFUSED and the dial's errors. */
typedef void (*wr_circuit_done)(void *arg, int err, struct wr_stream *s, const struct wr_circuit *circuit,
                                struct wr_bytes early);
struct wr_circuits {
    /* Asks the relay that addr (.../p2p/RELAY/p2p-circuit) names for a way to peer; done is called once, in a later
     * turn, unless cancelled before. NULL with *err; WR_EINUSE: it is being asked, at another of its addresses. */
    void *(*dial)(void *circuits_arg, const struct wr_peerid *peer, struct wr_bytes addr, enum wr_addr_origin origin,
                  wr_circuit_done done, void *arg, int *err);
    void (*cancel)(void *circuits_arg, void *attempt);
    void *arg;
};
/* Gives up what the last one was asked. NULL: none; to be said before it ends. */
void wr_swarm_set_circuits(struct wr_swarm *sw, const struct wr_circuits *circuits);
/* A relay of ours brings a peer: s is taken over (or reset). */
void wr_swarm_accept_circuit(struct wr_swarm *sw, const struct wr_peerid *peer, const struct wr_circuit *circuit,
                             struct wr_stream *s, struct wr_bytes early);

/* ---- connections */
/* The best for streams of ours: direct before circuits, circuits without limits before those with, those that stay before
 * those that were replaced, the newest of equals; or NULL. */
struct wr_conn *wr_swarm_conn(const struct wr_swarm *sw, const struct wr_peerid *peer);
/* Visits every open connection; visit may close the one it is given. */
void wr_swarm_each(struct wr_swarm *sw, void (*visit)(struct wr_conn *c, void *arg), void *arg);
size_t wr_swarm_conn_count(const struct wr_swarm *sw);
void wr_swarm_disconnect(struct wr_swarm *sw, const struct wr_peerid *peer, uint32_t code);
/* Connections of a protected peer are never trimmed; weight decides among the rest (higher stays). The
 * tag names who says so: the same tag replaces itself. */
#define WR_TAGS_MAX 8    /* per peer */
void wr_swarm_tag(struct wr_swarm *sw, const struct wr_peerid *peer, const char *tag, int weight,
                  bool protect);
void wr_swarm_untag(struct wr_swarm *sw, const struct wr_peerid *peer, const char *tag);
/* The owner's rules changed: close what is now blocked. */
void wr_swarm_apply_policy(struct wr_swarm *sw);

/* Another node proved to have our identity within the last WR_SWARM_TWIN_AGE: true with *at set. */
#define WR_SWARM_TWIN_AGE (24 * WR_HOUR)    /* ours: a warning stays on the screen for a day */
bool wr_swarm_twin(const struct wr_swarm *sw, struct wr_addr *at);
/* A stranger names an address as ours. True: it is none of ours that we know, and is dialled, which happens once in
 * WR_SWARM_TWIN_LOOK at most, whatever is said; who proves our identity there, and is not ourselves, is a twin. */
#define WR_SWARM_TWIN_LOOK (30 * WR_MIN)    /* ours: who lies has us knock at two doors an hour */
bool wr_swarm_look_for_twin(struct wr_swarm *sw, struct wr_bytes addr);

/* ---- how the world reaches us. autonat finds it out and says so here; the DHT's mode, the relay and dcutr
 * go by it. */
/* Of one family, 4 or 6; 0: of the better one. */
enum wr_reachability wr_swarm_reachability(const struct wr_swarm *sw, unsigned family);
/* Raises WR_SWARM_REACHABILITY when it is news. family: 4 or 6. */
void wr_swarm_set_reachability(struct wr_swarm *sw, unsigned family, enum wr_reachability reachability);
/* What is known of the NAT in front of us; autonat fills it, dcutr plans by it. */
struct wr_nat *wr_swarm_nat(struct wr_swarm *sw);
/* Is this an address of ours, to which nobody else is dialled? What only peers say of us counts when somebody got through
 * to us there, or at the outside address of our NAT: one liar would keep us away from whomever he names. */
bool wr_swarm_is_own(const struct wr_swarm *sw, struct wr_bytes addr);
/* So long the NAT remembers an idle mapping of UDP (least: or longer; 0: not known): QUIC keeps its connections alive by
 * it. */
void wr_swarm_set_lifetime(struct wr_swarm *sw, wr_time lifetime, bool least);
/* Where a NAT counts, its last port is out of date as soon as anybody behind it opened a flow. autonat can
 * look anew, by one connection from a socket of its own; dcutr asks for it before it names ports. */
typedef void (*wr_ports_done)(void *arg);
struct wr_ports {
    /* done is called once, in a later turn and whether it worked or not, unless cancelled before. NULL: nobody to look
     * with, or too many at once. */
    void *(*look)(void *ports_arg, bool udp, wr_ports_done done, void *arg);
    void (*cancel)(void *ports_arg, void *look);
    void *arg;
};
/* NULL: none; whoever says so has ended the looks under way by calling done. */
void wr_swarm_set_ports(struct wr_swarm *sw, const struct wr_ports *ports);
/* NULL: nobody looks. Else to be ended with wr_swarm_look_cancel, unless done was called. */
void *wr_swarm_look(struct wr_swarm *sw, bool udp, wr_ports_done done, void *arg);
void wr_swarm_look_cancel(struct wr_swarm *sw, void *look);
/* Whether the NAT before us may have a mapping towards that address, from something that was sent there. */
bool wr_swarm_flow_known(struct wr_swarm *sw, const struct wr_addr *to, bool udp);
/* TCP overtook QUIC several times in a row: UDP seems to get nowhere (dial.h). */
bool wr_swarm_udp_blocked(const struct wr_swarm *sw);

/* ---- events */
enum wr_swarm_event_type {
    WR_SWARM_OPENED,         /* a connection: conn */
    WR_SWARM_CLOSED,         /* a connection: conn (its last moment), err */
    WR_SWARM_CONNECTED,      /* a peer's first connection */
    WR_SWARM_DISCONNECTED,   /* a peer's last one went */
    WR_SWARM_IDENTIFIED,     /* identify finished on conn: protocols and addresses are in the peerstore */
    WR_SWARM_PEER_CHANGED,   /* a push changed a peer's protocols or addresses */
    WR_SWARM_ADDRS,          /* our own addresses changed (addrbook) */
    WR_SWARM_PROTOCOLS,      /* our own protocols changed */
    WR_SWARM_DIAL_FAILED,    /* a dial of peer failed: err */
    WR_SWARM_DIALLING,       /* packets of ours go to `to` from now on, over TCP or UDP: a dial, a punch */
    WR_SWARM_OBSERVED,       /* the peer of conn says that it sees us at seen; conn uses a listening port of ours */
    WR_SWARM_REACHABILITY,   /* wr_swarm_reachability has news */
    WR_SWARM_NETWORK_CHANGED, /* we are on another network, or cut off from this one for a moment, or slept:
                                what we knew of our NAT, and what it knew of us, may be void. Raised before the
                                WR_SWARM_ADDRS that it brings along */
};

struct wr_swarm_event {
    enum wr_swarm_event_type type;
    const struct wr_peerid *peer;    /* borrowed during the call */
    struct wr_conn *conn;            /* or NULL */
    const struct wr_addr *to;        /* of DIALLING; else NULL */
    bool udp;                        /* of DIALLING */
    const struct wr_maddr *seen;     /* of OBSERVED: what the peer claims, not believed; else NULL */
    int err;
};

struct wr_swarm_watch {
    struct wr_list node;
    void (*on_event)(struct wr_swarm_watch *watch, const struct wr_swarm_event *event);
};
void wr_swarm_watch(struct wr_swarm *sw, struct wr_swarm_watch *watch);
void wr_swarm_unwatch(struct wr_swarm_watch *watch);
/* identify tells the swarm, which tells everybody. */
void wr_swarm_identified(struct wr_swarm *sw, struct wr_conn *conn);
void wr_swarm_peer_changed(struct wr_swarm *sw, const struct wr_peerid *peer);
void wr_swarm_observed(struct wr_swarm *sw, struct wr_conn *conn, const struct wr_maddr *seen);
/* A service learnt that the network is not what it was (a router that restarted); raised once at the end
 * of the turn. */
void wr_swarm_network_changed(struct wr_swarm *sw);
/* Whoever changed the address book says so; raised once at the end of the turn. */
void wr_swarm_addrs_changed(struct wr_swarm *sw);

#endif
