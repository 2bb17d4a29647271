/* swarm_impl.h - the inside of the swarm, shared by swarm.c (connections, events), swarm_listen.c
 * (who may come in), swarm_dial.c (requests and dials), swarm_room.c (who has to go when all places are taken) and
 * swarm_net.c (the network changes). Service, private. */
#ifndef WR_SWARM_IMPL_H
#define WR_SWARM_IMPL_H

#include "transport/conn_impl.h"
#include "transport/flows.h"
#include "transport/punch.h"
#include "transport/quic.h"
#include "transport/swarm.h"

#define WR_SWARM_LISTENERS_MAX 16     /* sockets; ours */
#define WR_SWARM_REPORTS       128    /* dials remembered for `why`; ours */
#define WR_SWARM_PARTED        16     /* closed TCP connections remembered for where they led; ours */
#define WR_SWARM_PARTED_FOR    (2 * WR_SEC)    /* by then their last packets are through; ours */
#define WR_SWARM_REPORT_ADDRS  8      /* addresses remembered per dial */
#define WR_SWARM_DIAL_QUEUE    1024   /* dials waiting for a free slot; ours */

struct wr_swarm_tag {
    const char *name;    /* static string of the service that set it */
    int weight;
    bool protect;
};

/* What the swarm holds per peer while there is something to hold. */
struct wr_swarm_peer {
    struct wr_peerid id;
    struct wr_list conns;           /* struct wr_conn.peer_node, newest last */
    unsigned conn_count;
    struct wr_swarm_dial *dial;     /* under way, or NULL */
    struct wr_connect *again;       /* part of it: for a connection that is mute just now; or NULL */
    wr_time upgraded_at;            /* when a direct connection joined a circuit; 0: never */
    struct wr_swarm_tag tags[WR_TAGS_MAX];
    unsigned tag_count;
};

struct wr_swarm_listener {
    struct wr_swarm *swarm;
    struct wr_listener *socket;    /* TCP; NULL: QUIC, whose sockets are in swarm->quic */
    struct wr_addr addr;
};

struct wr_swarm_report {
    struct wr_peerid peer;
    struct wr_dial_outcome outcome;
    size_t count;
    struct wr_dial_report of[WR_SWARM_REPORT_ADDRS];
};

/* punch.c: what an address got from us that never answered. */
struct wr_punch_quiet {
    struct wr_ip ip;    /* family 0: nobody's */
    wr_time since;
    unsigned packets;
};

/* A TCP connection from a listening port that is over. */
struct wr_swarm_parted {
    struct wr_addr from;    /* the other end */
    wr_time at;             /* 0: none */
};

struct wr_swarm {
    struct wr_env *env;
    struct wr_limits *limits;
    const struct wr_key *key;
    struct wr_conn_ctx ctx;
    struct wr_quic *quic;               /* owned; NULL in a private network, which QUIC cannot be part of */
    struct wr_peerstore peerstore;
    struct wr_addrbook addrbook;
    struct wr_policy policy;
    struct wr_backoff backoff;
    struct wr_flows flows;
    struct wr_swarm *heir;              /* of the flows; borrowed, or NULL */
    struct wr_blackhole udp, ip6;
    struct wr_list conns;               /* open ones; oldest first */
    struct wr_list opening;             /* handshakes under way; oldest first */
    size_t conn_count;
    uint64_t next_conn_id;
    struct wr_map peers;                /* struct wr_swarm_peer by id */
    struct wr_swarm_listener listeners[WR_SWARM_LISTENERS_MAX];
    size_t listener_count;
    struct wr_list watches;
    struct wr_router router;
    struct wr_list punches;             /* struct wr_punch: under way */
    size_t punch_count;
    struct wr_punch_quiet punch_quiet[WR_PUNCH_QUIET_IPS];
    uint8_t punch_gone[WR_PUNCH_QUIET_GONE];    /* packets of those that are not remembered any more ... */
    wr_time punch_gone_since;                   /* ... from here on */
    struct wr_circuits circuits;
    struct wr_ports ports;
    struct wr_list dials;               /* struct wr_swarm_dial: under way */
    struct wr_list dial_queue;          /* waiting for a slot */
    struct wr_swarm_report *reports[WR_SWARM_REPORTS];    /* owned, ring */
    struct wr_swarm_parted parted[WR_SWARM_PARTED];       /* ring */
    size_t next_parted;
    size_t report_next;
    struct wr_timer upkeep;
    struct wr_timer warm;               /* once, in the first turn */
    struct wr_timer retire;             /* while a circuit waits for its last stream */
    struct wr_net_watch net_watch;
    uint64_t net_seen;                  /* digest of our addresses, gateways and cuts, when last looked at */
    struct wr_task addrs_task, protocols_task, network_task;
    wr_time trimmed_at;
    wr_time met_self_at;                /* a dial of ours ended at ourselves; 0: never */
    wr_time twin_at;                    /* another node proved our identity ...; 0: never */
    struct wr_addr twin;                /* ... from here */
    wr_time twin_looked_at;             /* an address that others call ours was dialled; 0: never */
    enum wr_reachability reach4, reach6;
    struct wr_nat nat;
    bool destroyed;
};

void wr_swarm_raise(struct wr_swarm *sw, enum wr_swarm_event_type type, const struct wr_peerid *peer,
                    struct wr_conn *conn, int err);
/* Before the first packet of a dial or punch: NATs let in from there now. */
void wr_swarm_raise_dialling(struct wr_swarm *sw, const struct wr_peerid *peer, const struct wr_addr *to, bool udp);
/* Finds, or makes when `make` (NULL: out of memory). */
struct wr_swarm_peer *wr_swarm_peer_at(struct wr_swarm *sw, const struct wr_peerid *id, bool make);
void wr_swarm_peer_drop(struct wr_swarm *sw, struct wr_swarm_peer *p);    /* when nothing is held */
/* The listening address to leave from towards `to`, or NULL. */
const struct wr_addr *wr_swarm_port_for(const struct wr_swarm *sw, const struct wr_addr *to);
/* A TCP connection is over. For a moment another one to there is not to leave from the same port: the last packets of
 * this one would meet it on the way, and routers take them for its own (Linux drops its translation for what follows). */
void wr_swarm_part(struct wr_swarm *sw, const struct wr_conn *c);
bool wr_swarm_just_parted(const struct wr_swarm *sw, const struct wr_addr *to);

/* swarm_listen.c: what QUIC asks of us and tells. */
extern const struct wr_quic_ops wr_swarm_quic_ops;

/* swarm_twin.c: this connection proved our own identity. */
void wr_swarm_met_own_identity(struct wr_swarm *sw, const struct wr_conn *c);

/* swarm_connect.c: to whoever answers there; as wr_swarm_connect_addr, which is the owner's. */
int wr_swarm_connect_as(struct wr_swarm *sw, struct wr_bytes addr, enum wr_addr_origin origin, wr_connect_fn fn,
                        void *arg, struct wr_connect **out);

/* swarm_room.c */
/* Above nine tenths of the ceilings, down to three quarters; not too often. */
void wr_swarm_room_trim(struct wr_swarm *sw);
/* Descriptors or memory ran out: closes the connection that is worth least. */
void wr_swarm_room_starved(struct wr_swarm *sw);
/* The owner allows the peer, or the network that he connects from: no ceiling on connections refuses or trims him. */
bool wr_swarm_room_allowed(const struct wr_swarm *sw, const struct wr_conn *c);
/* A place for a connection under a ceiling (CONNS, CONNS_INBOUND). With none left somebody makes room at once: who
 * sits there unused must not keep newcomers out for ever. False: nobody has to, and the newcomer is not allowed to pass
 * the ceiling. */
bool wr_swarm_room_take(struct wr_swarm *sw, enum wr_limit limit, const struct wr_conn *newcomer);
/* There is no memory for a newcomer: somebody makes room as above, when this turn is over. False: nobody has to. */
bool wr_swarm_room_memory(struct wr_swarm *sw, const struct wr_addr *newcomer);
/* All places of handshakes are taken: one of a larger crowd than the newcomer's makes room, one that has dragged on
 * for anybody. */
bool wr_swarm_room_half_open(struct wr_swarm *sw, const struct wr_ip *newcomer);

/* swarm_net.c */
/* From now on changes of the network are looked at. */
void wr_swarm_net_watch(struct wr_swarm *sw);

/* punch.c */
/* Somebody at this address is expected: no Retry, no rate, no stateless reset for him. */
bool wr_swarm_punch_awaits(const struct wr_swarm *sw, const struct wr_ip *ip);
/* A connection accepted from here is that peer's, who waits for our proposal; NULL: an ordinary one. */
const struct wr_peerid *wr_swarm_punch_client_of(const struct wr_swarm *sw, const struct wr_ip *ip);
/* A datagram that belongs to nothing. */
void wr_swarm_punch_stray(struct wr_swarm *sw, const struct wr_addr *from);
void wr_swarm_punch_conn_opened(struct wr_swarm *sw, struct wr_conn *c);
void wr_swarm_punch_conn_failed(struct wr_swarm *sw, const struct wr_conn *c, int err);
void wr_swarm_punches_abort(struct wr_swarm *sw);

/* swarm_flow.c: every way out asks the budget of flows.h; on our own link only the silence of strangers counts. */
/* A dial begins; which router is on the way is filled in here. 0 with *out to be put into the connection, WR_EBACKOFF,
 * WR_ELIMIT. */
int wr_swarm_flow_begin(struct wr_swarm *sw, struct wr_flow_ask ask, struct wr_flow **out);
/* One datagram leaves that begins no connection of ours; port: as of an ask. False: there is no room for what a router
 * remembers of it. */
bool wr_swarm_flow_packet(struct wr_swarm *sw, const struct wr_addr *to, uint16_t port);
/* When the next dial may begin; 0: now. */
wr_time wr_swarm_flow_wait(struct wr_swarm *sw);
bool wr_swarm_flow_free(const struct wr_swarm *sw, const struct wr_ip *to);    /* no router is on the way */
/* Inbound: may it come; it came. */
bool wr_swarm_flow_may_come(struct wr_swarm *sw, const struct wr_ip *from);
void wr_swarm_flow_came(struct wr_swarm *sw, struct wr_conn *c);
/* A connection opened, or is over. */
void wr_swarm_flow_answered(struct wr_swarm *sw, const struct wr_conn *c);
void wr_swarm_flow_over(struct wr_swarm *sw, struct wr_conn *c);

/* swarm_dial.c */
void wr_swarm_dial_conn_opened(struct wr_swarm *sw, struct wr_conn *c, struct wr_swarm_peer *p);
void wr_swarm_dial_conn_failed(struct wr_conn *c, int err);
/* A connection of its peer went: there may be nothing left to wait for. */
void wr_swarm_dial_look_again(struct wr_swarm_dial *d);
/* A request of it was cancelled: it ends at once when that was the last one. */
void wr_swarm_dial_left(struct wr_swarm_dial *d);
void wr_swarm_dials_abort(struct wr_swarm *sw);

/* swarm_circuit.c */
/* c to p opened: those that it replaces are to go, or c itself. */
void wr_swarm_retire(struct wr_swarm *sw, struct wr_swarm_peer *p, struct wr_conn *c);

#endif
