/* portmap_impl.h - the inside of port mapping, shared by portmap.c (routers, choice, address book,
 * findings), portmap_udp.c (PCP and NAT-PMP) and portmap_upnp.c. Service, private. */
#ifndef WR_PORTMAP_IMPL_H
#define WR_PORTMAP_IMPL_H

#include "autonat/lease.h"
#include "autonat/natpmp.h"
#include "autonat/pcp.h"
#include "autonat/portmap.h"
#include "autonat/upnp.h"

#define WR_PORTMAP_ROUTERS 8 /* gateway and address of ours towards it; ours */
#define WR_PORTMAP_PORTS   8 /* listening ports of one address; ours */

enum wr_portmap_state { WR_PORTMAP_PROBING, WR_PORTMAP_ALIVE, WR_PORTMAP_FAILED };

/* One protocol of one router. */
struct wr_portmap_way {
    enum wr_portmap_state state;
    enum wr_portmap_reason reason;
    struct wr_lease probe; /* a question that changes nothing, repeated as a check */
    struct wr_epoch epoch;
};

/* One listening port at one router. */
struct wr_portmap_port {
    bool udp;
    uint16_t port;
    struct wr_lease lease;
    uint8_t nonce[WR_PCP_NONCE];
    enum wr_portmap_reason reason;
    struct wr_addr external; /* family 0: none */
    bool pinholed;           /* over UPnP, IPv6: the router gave it this number */
    uint16_t pinhole;
    bool in_book;
    bool asked;              /* over PCP or NAT-PMP, and not answered yet */
    wr_time answered_at;     /* the last answer that was listened to */
};

struct wr_portmap_router {
    struct wr_portmap *p;
    struct wr_addr gateway; /* port 5351 */
    uint32_t index;         /* interface */
    struct wr_ip source;
    struct wr_udp *udp; /* owned; bound to source */
    struct wr_portmap_way ways[WR_PORTMAP_PROTOCOLS];
    int active; /* enum wr_portmap_protocol, or -1 */
    wr_time began_at, again_at, remade_at;
    wr_time trusted_at; /* when WR_PORTMAP_RESTARTS of its restarts would be believed in a row again */
    unsigned failures;     /* in a row, of all ways */
    struct wr_ip external; /* outside address by NAT-PMP or UPnP */
    struct wr_portmap_port ports[WR_PORTMAP_PORTS];
    size_t port_count;
    struct wr_upnp_igd igd;
    struct wr_portmap_job *job; /* under way, or NULL */
    bool gone;                  /* looked for and not found any more; used by sync */
};

struct wr_portmap {
    struct wr_env *env;
    struct wr_swarm *swarm;
    void (*upnp)(struct wr_upnp_task *task);
    struct wr_portmap_router *routers[WR_PORTMAP_ROUTERS]; /* owned */
    size_t router_count;
    struct wr_udp *ears[2]; /* announcements over IPv4 and IPv6; NULL: the port is not to be had */
    struct wr_swarm_watch watch;
    struct wr_timer timer;
    bool remaking; /* the network change that is raised is our own */
};

/* ---- portmap.c */
/* A router answered by this way, or will not. */
void wr_portmap_way_alive(struct wr_portmap_router *r, enum wr_portmap_protocol way);
void wr_portmap_way_failed(struct wr_portmap_router *r, enum wr_portmap_protocol way,
                           enum wr_portmap_reason reason);
/* The router granted a mapping. Seconds 0 counts as a refusal. */
void wr_portmap_granted(struct wr_portmap_router *r, struct wr_portmap_port *port,
                        const struct wr_ip *external, uint16_t outside, uint32_t seconds);
/* An answer carried the router's count of seconds. */
void wr_portmap_epoch(struct wr_portmap_router *r, enum wr_portmap_protocol way, uint32_t seconds);
/* Looks again what is due; arms the timer. */
void wr_portmap_look(struct wr_portmap *p);

/* ---- portmap_udp.c */
int wr_portmap_udp_open(struct wr_portmap_router *r);
void wr_portmap_udp_listen(struct wr_portmap *p); /* for announcements */
void wr_portmap_udp_probe(struct wr_portmap_router *r, enum wr_portmap_protocol way);
void wr_portmap_udp_ask(struct wr_portmap_router *r, struct wr_portmap_port *port, uint32_t lifetime);

/* ---- portmap_upnp.c */
/* Starts a task that finds the router and changes these ports (NULL, 0: none). Only when none is under way.
 */
void wr_portmap_upnp_run(struct wr_portmap_router *r, struct wr_portmap_port *const *ports, size_t count);
/* The router is let go of: what is mapped there is removed by a task that nobody waits for. */
void wr_portmap_upnp_leave(struct wr_portmap_router *r);

#endif
