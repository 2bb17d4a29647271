#include "autonat/portmap_impl.h"

#include <sodium.h>
#include <string.h>

#define GATEWAYS_PER_FAMILY 2 /* asked; ours */
#define SOURCES_PER_GATEWAY                                                                                \
    3 /* public IPv6 addresses that get pinholes; ours: a stable one and two that                          \
         change for privacy */
#define REMAKE_GAP (10 * WR_SEC) /* between two restarts that are believed; ours */
#define REMAKE_SPREAD                                                                                      \
    (1 * WR_SEC) /* after an announcement; RFC 6887 section 14.1.3 has 5 s, for crowds                     \
                  */

static const char *const protocol_names[WR_PORTMAP_PROTOCOLS] = {"pcp", "nat-pmp", "upnp"};

static const struct {
    const char *name, *text;
} reasons[] = {
#define REASON_ROW(name, code, text) [WR_PORTMAP_##name] = {code, text},
    WR_PORTMAP_REASON_MAP(REASON_ROW)
#undef REASON_ROW
};

const char *wr_portmap_protocol_name(enum wr_portmap_protocol protocol)
{
    return protocol_names[protocol];
}

const char *wr_portmap_reason_name(enum wr_portmap_reason reason)
{
    return reasons[reason].name;
}

const char *wr_portmap_reason_text(enum wr_portmap_reason reason)
{
    return reasons[reason].text;
}

static uint64_t dice(struct wr_portmap *p)
{
    return wr_env_random_below(p->env, UINT32_MAX);
}

/* ---- the address book ---------------------------------------------------------------------------------
 */

static bool book_form(const struct wr_portmap_port *port, struct wr_maddr *out)
{
    return wr_maddr_from_addr(&port->external, port->udp, out) == 0;
}

static void withdraw(struct wr_portmap *p, struct wr_portmap_port *port)
{
    struct wr_maddr ma;
    if (port->in_book && book_form(port, &ma) &&
        wr_addrbook_del(wr_swarm_addrbook(p->swarm), wr_maddr_bytes(&ma), WR_ADDR_MAPPED))
        wr_swarm_addrs_changed(p->swarm);
    port->in_book = false;
}

static void enter(struct wr_portmap *p, struct wr_portmap_port *port)
{
    struct wr_maddr ma;
    if (port->in_book || !book_form(port, &ma))
        return;
    port->in_book = true;
    if (wr_addrbook_put(wr_swarm_addrbook(p->swarm), wr_maddr_bytes(&ma), WR_ADDR_MAPPED,
                        wr_env_now(p->env)))
        wr_swarm_addrs_changed(p->swarm);
}

/* What an outside address says about where the router stands. */
static enum wr_portmap_reason judge(const struct wr_portmap *p, const struct wr_ip *external)
{
    static const struct wr_cidr carrier = {{4, {100, 64}}, 10}; /* RFC 6598 */
    if (external->family == 0)
        return WR_PORTMAP_NO_NETWORK;
    if (wr_policy_is_public(wr_swarm_policy(p->swarm), external))
        return WR_PORTMAP_OK;
    if (wr_cidr_contains(&carrier, external))
        return WR_PORTMAP_CARRIER;
    if (wr_ip_classify(external) == WR_IP_UNSPECIFIED)
        return WR_PORTMAP_NO_NETWORK;
    return wr_ip_classify(external) == WR_IP_PRIVATE ? WR_PORTMAP_DOUBLE : WR_PORTMAP_NO_EXTERNAL;
}

/* ---- which way ----------------------------------------------------------------------------------------
 */

static void log_port(const struct wr_portmap_router *r, const struct wr_portmap_port *port,
                     const char *what, uint32_t seconds)
{
    char gateway[WR_ADDR_TEXT], external[WR_ADDR_TEXT];
    wr_ip_print(&r->gateway.ip, gateway);
    wr_addr_print(&port->external, external);
    wr_log(wr_env_log(r->p->env), WR_LOG_INFO, "portmap",
           "%s protocol=%s gateway=%s port=%u/%s external=%s lifetime_s=%u reason=%s", what,
           protocol_names[r->active], gateway, port->port, port->udp ? "udp" : "tcp", external,
           (unsigned)seconds, reasons[port->reason].name);
}

static void activate(struct wr_portmap_router *r, enum wr_portmap_protocol way)
{
    wr_time now = wr_env_now(r->p->env);
    r->active = (int)way;
    r->again_at = 0;
    for (int i = 0; i < WR_PORTMAP_PROTOCOLS; i++)
        if (i != r->active && r->ways[i].state == WR_PORTMAP_ALIVE) {
            r->ways[i].reason = WR_PORTMAP_UNUSED;
            wr_lease_stop(&r->ways[i].probe);
        }
    r->ways[way].reason = WR_PORTMAP_OK;
    for (size_t i = 0; i < r->port_count; i++) {
        r->ports[i].reason = WR_PORTMAP_ASKING;
        wr_lease_start(&r->ports[i].lease, now);
    }
}

static void give_up(struct wr_portmap_router *r)
{
    char gateway[WR_ADDR_TEXT];
    wr_time wait = WR_PORTMAP_AGAIN << (r->failures < 8 ? r->failures : 8);
    r->again_at = wr_env_now(r->p->env) + (wait < WR_PORTMAP_AGAIN_MAX ? wait : WR_PORTMAP_AGAIN_MAX);
    for (size_t i = 0; i < r->port_count; i++) {
        withdraw(r->p, &r->ports[i]);
        r->ports[i].external = (struct wr_addr){0};
    }
    wr_ip_print(&r->gateway.ip, gateway);
    enum wr_log_level level =
        r->failures++ ? WR_LOG_DEBUG : WR_LOG_INFO; /* said once, and again when it changes */
    wr_log(wr_env_log(r->p->env), level, "portmap", "no mapping gateway=%s pcp=%s nat-pmp=%s upnp=%s",
           gateway, reasons[r->ways[WR_PORTMAP_PCP].reason].name,
           reasons[r->ways[WR_PORTMAP_NATPMP].reason].name, reasons[r->ways[WR_PORTMAP_UPNP].reason].name);
}

/* The best one that answers; a better one that has not answered yet is waited for a little. */
static void choose(struct wr_portmap_router *r)
{
    bool patient = wr_env_now(r->p->env) - r->began_at < WR_PORTMAP_PATIENCE, probing = false;
    if (r->active >= 0 || r->again_at)
        return;
    for (int way = 0; way < WR_PORTMAP_PROTOCOLS; way++) {
        if (r->ways[way].state == WR_PORTMAP_ALIVE) {
            activate(r, (enum wr_portmap_protocol)way);
            return;
        }
        if (r->ways[way].state != WR_PORTMAP_PROBING)
            continue;
        if (patient)
            return;
        probing = true;
    }
    if (!probing)
        give_up(r);
}

void wr_portmap_way_alive(struct wr_portmap_router *r, enum wr_portmap_protocol way)
{
    struct wr_portmap_way *w = &r->ways[way];
    if (w->state == WR_PORTMAP_FAILED) /* it speaks, and refused what we asked for */
        return;
    w->state = WR_PORTMAP_ALIVE;
    if (way != WR_PORTMAP_UPNP)
        wr_lease_grant(&w->probe, WR_PORTMAP_CHECK / WR_SEC, wr_env_now(r->p->env), dice(r->p));
    if (r->active >= 0 && r->active != (int)way) {
        w->reason = WR_PORTMAP_UNUSED;
        wr_lease_stop(&w->probe);
    }
    choose(r);
}

void wr_portmap_way_failed(struct wr_portmap_router *r, enum wr_portmap_protocol way,
                           enum wr_portmap_reason reason)
{
    struct wr_portmap_way *w = &r->ways[way];
    w->state = WR_PORTMAP_FAILED;
    w->reason = reason;
    wr_lease_stop(&w->probe);
    if (r->active == (int)way) {
        for (size_t i = 0; i < r->port_count; i++) {
            wr_lease_stop(&r->ports[i].lease);
            r->ports[i].reason = reason;
        }
        r->active = -1;
    }
    choose(r);
}

void wr_portmap_granted(struct wr_portmap_router *r, struct wr_portmap_port *port,
                        const struct wr_ip *external, uint16_t outside, uint32_t seconds)
{
    struct wr_addr now_at = {.ip = *external, .port = outside};
    /* A promise of nothing, or of what is over before others have heard of it: our addresses would come and go without
     * end, and everybody be told each time. */
    if (seconds < WR_LEASE_SHORTEST || outside == 0) {
        wr_portmap_way_failed(r, (enum wr_portmap_protocol)r->active, WR_PORTMAP_ERROR);
        return;
    }
    enum wr_portmap_reason reason = judge(r->p, external);
    bool news = port->reason != reason || !wr_addr_equal(&now_at, &port->external);
    if (news)
        withdraw(r->p, port);
    wr_lease_grant(&port->lease, seconds, wr_env_now(r->p->env), dice(r->p));
    r->failures = 0;
    port->external = now_at;
    port->reason = reason;
    if (reason == WR_PORTMAP_OK)
        enter(r->p, port);
    if (news)
        log_port(r, port, "mapped", seconds);
}

/* All leases of the router are void: asked for anew, a little spread. */
static void remake(struct wr_portmap_router *r)
{
    wr_time now = wr_env_now(r->p->env);
    for (size_t i = 0; i < r->port_count && r->active >= 0; i++)
        wr_lease_start(&r->ports[i].lease,
                       now + (wr_time)wr_env_random_below(r->p->env, (uint64_t)REMAKE_SPREAD));
}

/* Is there a word of a restart left that is believed? Takes it. */
static bool believed(struct wr_portmap_router *r, wr_time now)
{
    if (r->trusted_at < now)
        r->trusted_at = now;
    if (r->trusted_at - now > (WR_PORTMAP_RESTARTS - 1) * WR_PORTMAP_RESTART_EVERY)
        return false;
    r->trusted_at += WR_PORTMAP_RESTART_EVERY;
    return true;
}

void wr_portmap_epoch(struct wr_portmap_router *r, enum wr_portmap_protocol way, uint32_t seconds)
{
    wr_time now = wr_env_now(r->p->env);
    char gateway[WR_ADDR_TEXT];
    if (!wr_epoch_note(&r->ways[way].epoch, seconds, now) ||
        (r->remade_at && now - r->remade_at < REMAKE_GAP))
        return;
    r->remade_at = now;
    remake(r);
    if (!believed(r, now))
        return;
    wr_ip_print(&r->gateway.ip, gateway);
    wr_log(wr_env_log(r->p->env), WR_LOG_INFO, "portmap", "router restarted gateway=%s", gateway);
    /* What it translated for us is forgotten as well. */
    r->p->remaking = true;
    wr_swarm_network_changed(r->p->swarm);
}

/* ---- time ---------------------------------------------------------------------------------------------
 */

/* Why a protocol did not do, as long as it has not answered anything else: asked again after a failure it is not unknown
 * what it said, and who asks in that moment is to hear it. */
static enum wr_portmap_reason last_word(const struct wr_portmap_router *r, enum wr_portmap_reason reason)
{
    bool why = reason != WR_PORTMAP_OK && reason != WR_PORTMAP_UNUSED;
    return r->failures && why ? reason : WR_PORTMAP_ASKING;
}

static void restart(struct wr_portmap_router *r)
{
    wr_time now = wr_env_now(r->p->env);
    r->active = -1;
    r->began_at = now;
    r->again_at = 0;
    for (int way = 0; way < WR_PORTMAP_PROTOCOLS; way++) {
        struct wr_portmap_way *w = &r->ways[way];
        *w = (struct wr_portmap_way){.reason = last_word(r, w->reason), .epoch = w->epoch};
        wr_lease_start(&w->probe, now);
    }
    for (size_t i = 0; i < r->port_count; i++)
        wr_lease_stop(&r->ports[i].lease);
    if (r->gateway.ip.family == 6) { /* it translates, and there is nothing to translate */
        r->ways[WR_PORTMAP_NATPMP].state = WR_PORTMAP_FAILED;
        r->ways[WR_PORTMAP_NATPMP].reason = WR_PORTMAP_SILENT;
        wr_lease_stop(&r->ways[WR_PORTMAP_NATPMP].probe);
    }
    wr_lease_stop(&r->ways[WR_PORTMAP_UPNP].probe);
    wr_portmap_upnp_run(r, NULL, 0);
    if (!r->job) {
        r->ways[WR_PORTMAP_UPNP].state = WR_PORTMAP_FAILED;
        r->ways[WR_PORTMAP_UPNP].reason = WR_PORTMAP_SILENT;
    }
}

static void step_probe(struct wr_portmap_router *r, enum wr_portmap_protocol way, wr_time now)
{
    int rc = wr_lease_step(&r->ways[way].probe, now, dice(r->p));
    if (rc == WR_ESTALE) /* checks went unanswered: a last round of them */
        rc = wr_lease_step(&r->ways[way].probe, now, dice(r->p));
    if (rc == 1)
        wr_portmap_udp_probe(r, way);
    else if (rc == WR_ETIMEOUT)
        wr_portmap_way_failed(r, way, WR_PORTMAP_SILENT);
}

/* Which ports are to be asked for now. */
static size_t due_ports(struct wr_portmap_router *r, wr_time now, struct wr_portmap_port **out)
{
    size_t count = 0;
    for (size_t i = 0; i < r->port_count; i++) {
        struct wr_portmap_port *port = &r->ports[i];
        int rc = wr_lease_step(&port->lease, now, dice(r->p));
        if (rc == WR_ESTALE) {
            log_port(r, port, "expired", 0);
            withdraw(r->p, port);
            rc = wr_lease_step(&port->lease, now, dice(r->p));
        }
        if (rc == WR_ETIMEOUT) {
            wr_portmap_way_failed(r, (enum wr_portmap_protocol)r->active, WR_PORTMAP_SILENT);
            return 0;
        }
        if (rc == 1)
            out[count++] = port;
    }
    return count;
}

static void step(struct wr_portmap_router *r, wr_time now)
{
    struct wr_portmap_port *due[WR_PORTMAP_PORTS];
    if (r->again_at && now >= r->again_at)
        restart(r);
    choose(r);
    step_probe(r, WR_PORTMAP_PCP, now);
    step_probe(r, WR_PORTMAP_NATPMP, now);
    if (r->active < 0 || (r->active == WR_PORTMAP_UPNP && r->job))
        return;
    size_t count = due_ports(r, now, due);
    if (r->active == WR_PORTMAP_UPNP && count)
        wr_portmap_upnp_run(r, due, count);
    for (size_t i = 0; i < count && r->active != WR_PORTMAP_UPNP; i++)
        wr_portmap_udp_ask(r, due[i], WR_LEASE_WANTED);
}

static void sooner(wr_time *wake, wr_time at)
{
    if (at && (!*wake || at < *wake))
        *wake = at;
}

static wr_time wait_of(const struct wr_portmap_router *r, wr_time now)
{
    wr_time wake = r->again_at, patience = r->began_at + WR_PORTMAP_PATIENCE;
    if (r->active < 0 && now < patience)
        sooner(&wake, patience);
    for (int way = 0; way < WR_PORTMAP_PROTOCOLS; way++)
        sooner(&wake, wr_lease_wait(&r->ways[way].probe));
    for (size_t i = 0; i < r->port_count && r->active >= 0 && !(r->active == WR_PORTMAP_UPNP && r->job);
         i++)
        sooner(&wake, wr_lease_wait(&r->ports[i].lease));
    return wake;
}

static void on_timer(struct wr_timer *timer)
{
    wr_portmap_look(wr_list_entry(timer, struct wr_portmap, timer));
}

void wr_portmap_look(struct wr_portmap *p)
{
    wr_time wake = 0, now = wr_env_now(p->env);
    for (size_t i = 0; i < p->router_count; i++) {
        step(p->routers[i], now);
        sooner(&wake, wait_of(p->routers[i], now));
    }
    wr_timer_stop(p->env, &p->timer);
    if (wake)
        wr_timer_start(p->env, &p->timer, wake, on_timer);
}

/* ---- routers and ports --------------------------------------------------------------------------------
 */

/* The same after a restart of ours: a mapping belongs to who knows its nonce, until it expires. */
static void make_nonce(const struct wr_portmap_router *r, struct wr_portmap_port *port)
{
    uint8_t hash[crypto_auth_hmacsha256_BYTES];
    struct {
        char label[16];
        uint8_t ip[16], port[2], udp;
    } what = {.label = "warren portmap",
              .port = {(uint8_t)(port->port >> 8), (uint8_t)port->port},
              .udp = port->udp};
    memcpy(what.ip, r->source.bytes, sizeof(what.ip));
    crypto_auth_hmacsha256(hash, (const unsigned char *)&what, sizeof(what),
                           wr_swarm_key(r->p->swarm)->secret);
    memcpy(port->nonce, hash, sizeof(port->nonce));
    sodium_memzero(hash, sizeof(hash));
}

static bool same_port(const struct wr_portmap_port *a, bool udp, uint16_t port)
{
    return a->udp == udp && a->port == port;
}

static bool has_port(const struct wr_portmap_router *r, bool udp, uint16_t port)
{
    for (size_t i = 0; i < r->port_count; i++)
        if (same_port(&r->ports[i], udp, port))
            return true;
    return false;
}

/* A listener never goes away while the node lives, so ports are only added. */
static void sync_ports(struct wr_portmap_router *r)
{
    struct wr_maddr listening[16];
    size_t count = wr_swarm_listening(r->p->swarm, listening, 16);
    for (size_t i = 0; i < count && r->port_count < WR_PORTMAP_PORTS; i++) {
        struct wr_addr at;
        bool udp = wr_maddr_kind(wr_maddr_bytes(&listening[i])) == WR_MADDR_QUIC;
        if (!wr_maddr_addr(wr_maddr_bytes(&listening[i]), &at) || at.ip.family != r->source.family ||
            (!wr_ip_equal(&at.ip, &r->source) && wr_ip_classify(&at.ip) != WR_IP_UNSPECIFIED) ||
            has_port(r, udp, at.port))
            continue;
        struct wr_portmap_port *port = &r->ports[r->port_count++];
        *port = (struct wr_portmap_port){.udp = udp, .port = at.port, .reason = WR_PORTMAP_ASKING};
        make_nonce(r, port);
        if (r->active >= 0)
            wr_lease_start(&port->lease, wr_env_now(r->p->env));
    }
}

static void let_go(struct wr_portmap_router *r)
{
    for (size_t i = 0; i < r->port_count; i++) {
        if ((r->active == WR_PORTMAP_PCP || r->active == WR_PORTMAP_NATPMP) &&
            r->ports[i].lease.state != WR_LEASE_FAILED)
            wr_portmap_udp_ask(r, &r->ports[i], 0);
        withdraw(r->p, &r->ports[i]);
    }
    wr_portmap_upnp_leave(r);
    wr_udp_close(r->udp);
    wr_free(r);
}

static struct wr_portmap_router *find_router(const struct wr_portmap *p, const struct wr_addr *gateway,
                                             const struct wr_ip *source)
{
    for (size_t i = 0; i < p->router_count; i++)
        if (wr_addr_equal(&p->routers[i]->gateway, gateway) && wr_ip_equal(&p->routers[i]->source, source))
            return p->routers[i];
    return NULL;
}

static void want_router(struct wr_portmap *p, const struct wr_gateway *way, const struct wr_ip *source)
{
    struct wr_addr gateway = {.ip = way->ip, .port = WR_PCP_PORT};
    if (wr_ip_classify(&way->ip) == WR_IP_LINK_LOCAL)
        gateway.scope = way->index;
    struct wr_portmap_router *r = find_router(p, &gateway, source);
    if (r) {
        r->gone = false;
        sync_ports(r);
        return;
    }
    r = p->router_count < WR_PORTMAP_ROUTERS ? wr_alloc(sizeof(*r)) : NULL;
    if (!r)
        return;
    *r = (struct wr_portmap_router){
        .p = p, .gateway = gateway, .index = way->index, .source = *source, .active = -1};
    if (wr_portmap_udp_open(r) != 0) {
        wr_free(r);
        return;
    }
    p->routers[p->router_count++] = r;
    sync_ports(r);
    restart(r);
}

/* IPv4: from our address towards the gateway, unless that is public: then there is no NAT. IPv6: every
 * public address on the gateway's link gets pinholes of its own. */
static void want_gateway(struct wr_portmap *p, const struct wr_gateway *way)
{
    struct wr_addr gateway = {.ip = way->ip, .port = WR_PCP_PORT};
    struct wr_ifaddr links[WR_IFADDRS_MAX];
    struct wr_ip source;
    if (way->family == 4) {
        if (wr_env_source(p->env, &gateway, &source) == 0 && wr_ip_classify(&source) != WR_IP_PUBLIC)
            want_router(p, way, &source);
        return;
    }
    size_t count = wr_env_ifaddrs(p->env, links, WR_IFADDRS_MAX), wanted = 0;
    for (size_t i = 0; i < count && wanted < SOURCES_PER_GATEWAY; i++)
        if (links[i].index == way->index && links[i].ip.family == 6 &&
            wr_policy_is_public(wr_swarm_policy(p->swarm), &links[i].ip)) {
            want_router(p, way, &links[i].ip);
            wanted++;
        }
}

static void drop_gone(struct wr_portmap *p)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->router_count; i++) {
        if (p->routers[i]->gone)
            let_go(p->routers[i]);
        else
            p->routers[kept++] = p->routers[i];
    }
    p->router_count = kept;
}

static void sync(struct wr_portmap *p)
{
    struct wr_gateway ways[WR_GATEWAYS_MAX];
    size_t count = wr_env_gateways(p->env, ways, WR_GATEWAYS_MAX), taken[2] = {0};
    for (size_t i = 0; i < p->router_count; i++)
        p->routers[i]->gone = true;
    for (size_t i = 0; i < count; i++) {
        size_t *family = &taken[ways[i].family == 6];
        if (ways[i].ip.family != ways[i].family || *family == GATEWAYS_PER_FAMILY)
            continue;
        (*family)++;
        want_gateway(p, &ways[i]);
    }
    drop_gone(p);
    wr_portmap_udp_listen(p);
}

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct wr_portmap *p = wr_list_entry(watch, struct wr_portmap, watch);
    if (event->type != WR_SWARM_NETWORK_CHANGED && event->type != WR_SWARM_ADDRS)
        return;
    sync(p);
    for (size_t i = 0; i < p->router_count && event->type == WR_SWARM_NETWORK_CHANGED && !p->remaking; i++)
        restart(p->routers[i]);
    if (event->type == WR_SWARM_NETWORK_CHANGED)
        p->remaking = false;
    wr_portmap_look(p);
}

/* ---- life ---------------------------------------------------------------------------------------------
 */

struct wr_portmap *wr_portmap_create(const struct wr_portmap_options *options)
{
    struct wr_portmap *p = wr_alloc(sizeof(*p));
    if (!p)
        return NULL;
    p->swarm = options->swarm;
    p->env = wr_swarm_env(options->swarm);
    p->upnp = options->upnp;
    p->watch.on_event = on_event;
    wr_swarm_watch(p->swarm, &p->watch);
    sync(p);
    wr_portmap_look(p);
    return p;
}

void wr_portmap_destroy(struct wr_portmap *p)
{
    if (!p)
        return;
    wr_swarm_unwatch(&p->watch);
    wr_timer_stop(p->env, &p->timer);
    for (size_t i = 0; i < p->router_count; i++)
        p->routers[i]->gone = true;
    drop_gone(p);
    for (size_t k = 0; k < 2; k++)
        if (p->ears[k])
            wr_udp_close(p->ears[k]);
    wr_free(p);
}

static void find_out(const struct wr_portmap_router *r, int way, const struct wr_portmap_port *port,
                     wr_time now, struct wr_portmap_finding *out)
{
    *out = (struct wr_portmap_finding){.protocol = (enum wr_portmap_protocol)way,
                                       .reason = r->ways[way].reason,
                                       .gateway = r->gateway.ip,
                                       .source = r->source};
    if (!port)
        return;
    out->reason = port->reason;
    out->udp = port->udp;
    out->port = port->port;
    out->external = port->external;
    if (port->lease.state == WR_LEASE_HELD)
        out->left = port->lease.until > now ? port->lease.until - now : 0;
}

size_t wr_portmap_findings(const struct wr_portmap *p, struct wr_portmap_finding *out, size_t max)
{
    size_t n = 0;
    wr_time now = wr_env_now(p->env);
    for (size_t i = 0; i < p->router_count; i++) {
        const struct wr_portmap_router *r = p->routers[i];
        for (int way = 0; way < WR_PORTMAP_PROTOCOLS && n < max; way++)
            if (r->active != way)
                find_out(r, way, NULL, now, &out[n++]);
        for (size_t k = 0; k < r->port_count && r->active >= 0 && n < max; k++)
            find_out(r, r->active, &r->ports[k], now, &out[n++]);
    }
    return n;
}
