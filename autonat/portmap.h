/* portmap.h - has the routers of this machine open our ports, and keeps them open. Service.
 * Spec: PCP (RFC 6887; IPv4 mappings and IPv6 pinholes), NAT-PMP (RFC 6886), UPnP-IGD (mappings, and the pinholes of
 * version 2). For every default gateway all that fit its family are tried side by side and the best one that
 * answers is used; every listening port gets one mapping there, renewed, made anew when the router restarted, and
 * removed when the node ends.
 *
 * A mapping is a promise. Its outside address goes into the address book as WR_ADDR_MAPPED, which nobody is
 * told until autonat got through to it; one that cannot be meant for the internet (private, carrier, none)
 * does not even get there. What was found out, good or bad, can be read for `check`. */
#ifndef WR_PORTMAP_H
#define WR_PORTMAP_H

#include "transport/swarm.h"

struct wr_portmap;
struct wr_upnp_task;

#define WR_PORTMAP_PATIENCE                                                                                \
    (1 * WR_SEC) /* a better protocol is waited for; tailscale 250 ms, its UPnP later */
#define WR_PORTMAP_CHECK                                                                                   \
    (4 * WR_MIN) /* the router is asked whether it is still the same within this; ours */
#define WR_PORTMAP_AGAIN                                                                                   \
    (30 * WR_SEC) /* after nothing worked, doubling: a router takes a minute to start ... */
#define WR_PORTMAP_AGAIN_MAX    (10 * WR_MIN) /* ... up to this; tailscale */
/* Restarts of a router that are believed, so many at once and then one each. A restart makes us learn the whole network
 * anew; some routers count from zero in every answer, and anybody on the link can speak for them. Ours. */
#define WR_PORTMAP_RESTARTS      6
#define WR_PORTMAP_RESTART_EVERY (30 * WR_MIN)
#define WR_PORTMAP_FINDINGS_MAX 88 /* entries, at most: 8 gateways, each 3 protocols and 8 ports */

enum wr_portmap_protocol { WR_PORTMAP_PCP, WR_PORTMAP_NATPMP, WR_PORTMAP_UPNP };
#define WR_PORTMAP_PROTOCOLS 3

#define WR_PORTMAP_REASON_MAP(X)                                                                           \
    X(OK, "mapped", "the router promises the mapping")                                                     \
    X(ASKING, "asking", "not answered yet")                                                                \
    X(UNUSED, "unused", "spoken, but a better one is used")                                                \
    X(SILENT, "no-answer", "the router does not speak it, or it is switched off there")                    \
    X(VERSION, "version", "the router speaks another version of it")                                       \
    X(REFUSED, "refused", "the router does not allow it: look for UPnP or PCP in its settings")            \
    X(RESOURCES, "no-room", "the router has no room for another mapping")                                  \
    X(NO_NETWORK, "no-network", "the router itself is not connected, or knows no outside address")         \
    X(NESTED, "nested-nat", "another NAT stands between this machine and that router")                     \
    X(CARRIER, "carrier-nat", "the outside address is the carrier's, shared with other customers")         \
    X(DOUBLE, "double-nat", "the outside address is private: another router stands before this one")       \
    X(NO_EXTERNAL, "no-external", "the router names an outside address that cannot be one")                \
    X(ERROR, "error", "the router answered with an error that has no name here")

enum wr_portmap_reason {
#define WR_PORTMAP_REASON_ENUM(name, code, text) WR_PORTMAP_##name,
    WR_PORTMAP_REASON_MAP(WR_PORTMAP_REASON_ENUM)
#undef WR_PORTMAP_REASON_ENUM
};

/* About one protocol of one gateway (port 0), or one port by the protocol in use. */
struct wr_portmap_finding {
    enum wr_portmap_protocol protocol;
    enum wr_portmap_reason reason;
    struct wr_ip gateway, source; /* source: our address on its link */
    bool udp;
    uint16_t port;           /* of ours; 0: the entry is about the protocol as such */
    struct wr_addr external; /* what the router promised; family 0: nothing */
    wr_time left;            /* of its lifetime */
};

struct wr_portmap_options {
    struct wr_swarm *swarm;
    /* Carries a task of upnp.h out, on another thread: wr_upnp_run. NULL: UPnP is left out. */
    void (*upnp)(struct wr_upnp_task *task);
};

/* NULL: out of memory. */
struct wr_portmap *wr_portmap_create(const struct wr_portmap_options *options);
/* Has all mappings removed: one packet each, or by a last task of UPnP that ends after this. NULL is
 * allowed. */
void wr_portmap_destroy(struct wr_portmap *p);

size_t wr_portmap_findings(const struct wr_portmap *p, struct wr_portmap_finding *out, size_t max);
const char *wr_portmap_protocol_name(enum wr_portmap_protocol protocol); /* "pcp", "nat-pmp", "upnp" */
const char *wr_portmap_reason_name(enum wr_portmap_reason reason);       /* "carrier-nat" */
const char *wr_portmap_reason_text(enum wr_portmap_reason reason);

#endif
