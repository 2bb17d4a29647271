/* PCP and NAT-PMP: both speak to port 5351 of the gateway, from one socket for each router. */
#include "autonat/portmap_impl.h"

#include <string.h>

#define UNASKED_EVERY (10 * WR_SEC) /* an answer that nobody asked for; ours */

static void send_to(struct wr_portmap_router *r, const uint8_t *data, size_t len)
{
    (void)wr_udp_send(r->udp, &r->gateway, 0, WR_BYTES(data, len));
}

void wr_portmap_udp_probe(struct wr_portmap_router *r, enum wr_portmap_protocol way)
{
    uint8_t packet[WR_PCP_ASK_MAX];
    if (way == WR_PORTMAP_PCP)
        send_to(r, packet, wr_pcp_ask_announce(packet, &r->source));
    else
        send_to(r, packet, wr_natpmp_ask_address(packet));
}

void wr_portmap_udp_ask(struct wr_portmap_router *r, struct wr_portmap_port *port, uint32_t lifetime)
{
    uint8_t packet[WR_PCP_ASK_MAX];
    port->asked = true;
    uint16_t wanted = port->external.port ? port->external.port : port->port;
    if (r->active == WR_PORTMAP_NATPMP) {
        if (lifetime == 0)
            wanted = 0;
        send_to(r, packet, wr_natpmp_ask_map(packet, port->udp, port->port, wanted, lifetime));
        return;
    }
    struct wr_pcp_map map = {
        .udp = port->udp, .internal = port->port, .outside = wanted, .external = port->external.ip};
    memcpy(map.nonce, port->nonce, sizeof(map.nonce));
    send_to(r, packet, wr_pcp_ask_map(packet, &r->source, &map, lifetime));
}

static struct wr_portmap_port *find_port(struct wr_portmap_router *r, bool udp, uint16_t port)
{
    for (size_t i = 0; i < r->port_count; i++)
        if (r->ports[i].udp == udp && r->ports[i].port == port)
            return &r->ports[i];
    return NULL;
}

/* One answer for each question, and now and then one that nobody asked for: a router tells so of another outside address
 * (RFC 6887 section 14.2). More of them would change our addresses, and write to the log, as fast as packets come. */
static bool may_answer(const struct wr_portmap_router *r, struct wr_portmap_port *port)
{
    wr_time now = wr_env_now(r->p->env);
    if (!port->asked && now - port->answered_at < UNASKED_EVERY)
        return false;
    port->asked = false;
    port->answered_at = now;
    return true;
}

/* ---- PCP -------------------------------------------------------------------------------------------- */

static enum wr_portmap_reason pcp_reason(uint8_t result)
{
    switch (result) {
    case WR_PCP_VERSION:
        return WR_PORTMAP_VERSION;
    case WR_PCP_REFUSED:
        return WR_PORTMAP_REFUSED;
    case WR_PCP_NO_NETWORK:
    case WR_PCP_NO_EXTERNAL:
        return WR_PORTMAP_NO_NETWORK;
    case WR_PCP_RESOURCES:
    case WR_PCP_QUOTA:
        return WR_PORTMAP_RESOURCES;
    case WR_PCP_ADDRESS_MISMATCH:
        return WR_PORTMAP_NESTED;
    default:
        return WR_PORTMAP_ERROR;
    }
}

static void on_pcp_map(struct wr_portmap_router *r, const struct wr_pcp_answer *a)
{
    struct wr_portmap_port *port = find_port(r, a->mapping.udp, a->mapping.internal);
    /* Whoever does not know the nonce did not see our request. */
    if (!port || r->active != WR_PORTMAP_PCP || memcmp(port->nonce, a->mapping.nonce, WR_PCP_NONCE) != 0)
        return;
    wr_portmap_epoch(r, WR_PORTMAP_PCP, a->epoch);
    if (!may_answer(r, port))
        return;
    if (a->result == WR_PCP_OK)
        wr_portmap_granted(r, port, &a->mapping.external, a->mapping.outside, a->lifetime);
    else
        wr_portmap_way_failed(r, WR_PORTMAP_PCP, pcp_reason(a->result));
}

static void on_pcp(struct wr_portmap_router *r, struct wr_bytes in, bool announced)
{
    struct wr_pcp_answer a;
    if (wr_pcp_decode(in, &a) != 0)
        return;
    if (a.map && !announced) {
        on_pcp_map(r, &a);
        return;
    }
    if (a.map)
        return;
    /* The answer of a PCP server to what it takes for an old version: our NAT-PMP. */
    if (a.result == WR_PCP_VERSION) {
        if (!announced)
            wr_portmap_way_failed(r, WR_PORTMAP_NATPMP, WR_PORTMAP_VERSION);
        return;
    }
    wr_portmap_epoch(r, WR_PORTMAP_PCP, a.epoch);
    if (announced)
        return;
    if (a.result == WR_PCP_OK)
        wr_portmap_way_alive(r, WR_PORTMAP_PCP);
    else
        wr_portmap_way_failed(r, WR_PORTMAP_PCP, pcp_reason(a.result));
}

/* ---- NAT-PMP ---------------------------------------------------------------------------------------- */

static enum wr_portmap_reason natpmp_reason(uint16_t result)
{
    switch (result) {
    case WR_NATPMP_REFUSED:
        return WR_PORTMAP_REFUSED;
    case WR_NATPMP_NO_NETWORK:
        return WR_PORTMAP_NO_NETWORK;
    case WR_NATPMP_RESOURCES:
        return WR_PORTMAP_RESOURCES;
    default:
        return WR_PORTMAP_ERROR;
    }
}

static void on_natpmp_map(struct wr_portmap_router *r, const struct wr_natpmp_answer *a)
{
    struct wr_portmap_port *port = find_port(r, a->udp, a->internal);
    if (port && r->active == WR_PORTMAP_NATPMP && may_answer(r, port))
        wr_portmap_granted(r, port, &r->external, a->outside, a->lifetime);
}

static void on_natpmp(struct wr_portmap_router *r, struct wr_bytes in, bool announced)
{
    struct wr_natpmp_answer a;
    if (wr_natpmp_decode(in, &a) != 0)
        return;
    if (a.result == WR_NATPMP_VERSION) { /* the answer of an old router to PCP */
        if (!announced)
            wr_portmap_way_failed(r, WR_PORTMAP_PCP, WR_PORTMAP_VERSION);
        return;
    }
    wr_portmap_epoch(r, WR_PORTMAP_NATPMP, a.epoch);
    if (announced)
        return;
    if (a.result != WR_NATPMP_OK)
        wr_portmap_way_failed(r, WR_PORTMAP_NATPMP, natpmp_reason(a.result));
    else if (a.map)
        on_natpmp_map(r, &a);
    else {
        r->external = a.external;
        wr_portmap_way_alive(r, WR_PORTMAP_NATPMP);
    }
}

/* ---- sockets ---------------------------------------------------------------------------------------- */

static void input(struct wr_portmap_router *r, struct wr_bytes in, bool announced)
{
    if (in.len == 0)
        return;
    if (in.ptr[0] == 0)
        on_natpmp(r, in, announced);
    else
        on_pcp(r, in, announced);
}

static void on_answer(void *arg, const struct wr_addr *from, uint32_t ifindex, uint8_t *data, size_t len)
{
    struct wr_portmap_router *r = arg;
    (void)ifindex;
    if (!wr_ip_equal(&from->ip, &r->gateway.ip) || from->port != r->gateway.port)
        return;
    input(r, WR_BYTES(data, len), false);
    wr_portmap_look(r->p);
}

static const struct wr_udp_ops answer_ops = {.on_datagram = on_answer};

int wr_portmap_udp_open(struct wr_portmap_router *r)
{
    struct wr_addr at = {.ip = r->source};
    return wr_env_udp(r->p->env, &at, false, &answer_ops, r, &r->udp);
}

/* A router that came up says so to everybody. Only the count of seconds in it is looked at. */
static void on_announcement(void *arg, const struct wr_addr *from, uint32_t ifindex, uint8_t *data,
                            size_t len)
{
    struct wr_portmap *p = arg;
    for (size_t i = 0; i < p->router_count; i++)
        if (wr_ip_equal(&from->ip, &p->routers[i]->gateway.ip) &&
            (ifindex == 0 || ifindex == p->routers[i]->index))
            input(p->routers[i], WR_BYTES(data, len), true);
    wr_portmap_look(p);
}

static const struct wr_udp_ops announcement_ops = {.on_datagram = on_announcement};

void wr_portmap_udp_listen(struct wr_portmap *p)
{
    static const struct wr_ip groups[2] = {{4, {224, 0, 0, 1}}, {6, {0xff, 2, [15] = 1}}};
    for (size_t k = 0; k < 2; k++) {
        struct wr_addr at = {.ip.family = groups[k].family, .port = WR_PCP_ANNOUNCE_PORT};
        /* Without it a restart is noticed by the next check. */
        if (!p->ears[k] && wr_env_udp(p->env, &at, true, &announcement_ops, p, &p->ears[k]) != 0)
            p->ears[k] = NULL;
        for (size_t i = 0; p->ears[k] && i < p->router_count; i++)
            if (p->routers[i]->source.family == groups[k].family)
                (void)wr_udp_join(p->ears[k], &groups[k], p->routers[i]->index);
    }
}
