/* upnp.h - asking a router for ports over UPnP-IGD: blocking, XML and all. Service, run off the loop.
 * Spec: UPnP WANIPConnection:1 and :2, WANPPPConnection:1, and for IPv6 WANIPv6FirewallControl:1, whose pinholes let
 * packets through to an address of ours that nobody translates; the XML is libminiupnpc's to parse. A gateway may
 * lie, dawdle and never end: what it says has a bound (upnp_http.h), and so has the whole task.
 * Only devices at the address of our own gateway are talked to: an answer to the search may name any
 * address, and must not make us call there. Left out: event subscriptions. */
#ifndef WR_UPNP_H
#define WR_UPNP_H

#include "transport/addr.h"

#define WR_UPNP_PORTS_MAX 16  /* mappings in one task; ours */
#define WR_UPNP_TIME      20000 /* milliseconds of one task at most; ours */
#define WR_UPNP_URL       160 /* bytes of a URL or service name with NUL; libminiupnpc: 128 and the root */

/* A router's service, once found. */
struct wr_upnp_igd {
    bool known;
    char control[WR_UPNP_URL], service[WR_UPNP_URL];
};

struct wr_upnp_port {
    bool udp, remove;
    uint16_t internal;
    uint16_t outside;  /* in: what we should like; out: what it is */
    uint16_t spare;    /* in: taken when that one is somebody else's */
    uint32_t lifetime; /* seconds; in: wanted; out: 0 when the router knows only permanent ones */
    bool held;         /* IPv6, in and out: the router gave the pinhole this number */
    uint16_t pinhole;
    int err;           /* out: 0, WR_EPERM, WR_ELIMIT, WR_EREFUSED, WR_EUNREACH */
};

/* Touched by one thread at a time. */
struct wr_upnp_task {
    struct wr_ip gateway, source; /* source: our address on its link */
    uint32_t zone;                /* number of the interface, for IPv6 */
    struct wr_upnp_igd igd;       /* in and out: what the last task found */
    struct wr_ip external;        /* out: family 0 when the router has none; of IPv6 our own */
    int err;                      /* out: 0; WR_ENOTFOUND: no such router; WR_EUNREACH */
    struct wr_upnp_port ports[WR_UPNP_PORTS_MAX];
    size_t count;
};

/* Finds the router unless it is known, asks for its outside address, and makes or removes the mappings.
 * Takes WR_UPNP_TIME at most. A router that does not answer any more is looked for again: after a restart
 * many have another HTTP port. */
void wr_upnp_run(struct wr_upnp_task *task);

/* What to do about an error code of AddPortMapping: true, with the port changed, when it is worth another
 * try. */
bool wr_upnp_adapt(struct wr_upnp_port *port, int code);

#endif
