/* Where we listen, who may come in there, and the addresses that this gives us. */
#include "transport/channel.h"
#include "transport/swarm_impl.h"

static size_t from_network(const struct wr_list *conns, const struct wr_ip *net)
{
    size_t n = 0;
    for (const struct wr_list *it = conns->next; it != conns; it = it->next) {
        const struct wr_conn *c =
            (const struct wr_conn *)((uintptr_t)it - offsetof(struct wr_conn, node));
        if (c->outbound || c->circuit)
            continue;
        struct wr_ip other = wr_policy_network(&c->remote.ip);
        n += wr_ip_equal(&other, net);
    }
    return n;
}

/* May a stranger from here begin a handshake? */
static bool may_accept(struct wr_swarm *sw, const struct wr_addr *from)
{
    wr_time now = wr_env_now(sw->env);
    bool allowed = wr_policy_net_allowed(&sw->policy, &from->ip);
    if (wr_swarm_punch_awaits(sw, &from->ip) ? wr_policy_net_blocked(&sw->policy, &from->ip)
                                             : wr_policy_may_accept(&sw->policy, &from->ip, now) != 0)
        return false;
    if (!allowed && wr_ip_classify(&from->ip) != WR_IP_LOOPBACK) {
        struct wr_ip net = wr_policy_network(&from->ip);
        uint64_t max = sw->limits->of[WR_LIMIT_CONNS_PER_NET].max;
        if (from_network(&sw->conns, &net) + from_network(&sw->opening, &net) >= max) {
            wr_limits_refuse(sw->limits, WR_LIMIT_CONNS_PER_NET);
            return false;
        }
    }
    /* Full of handshakes: one that has dragged on, or is one of a crowd, makes room, so that a flood of silent
     * connections cannot keep good peers out. What a router may have to remember is full first where there is one. */
    bool made = !wr_swarm_flow_may_come(sw, &from->ip);
    if (made && !wr_swarm_room_half_open(sw, &from->ip))
        return false;
    if (wr_limits_take(sw->limits, WR_LIMIT_CONNS_HALF_OPEN, 1))
        return true;
    if (!made && !wr_swarm_room_half_open(sw, &from->ip) && !allowed)
        return false;
    wr_limits_charge(sw->limits, WR_LIMIT_CONNS_HALF_OPEN, 1);
    return true;
}

static void on_accept(void *arg, struct wr_sock *sock)
{
    struct wr_swarm *sw = ((struct wr_swarm_listener *)arg)->swarm;
    struct wr_addr from;
    wr_sock_remote(sock, &from);
    if (!may_accept(sw, &from)) {
        wr_sock_close(sock, true);
        return;
    }
    const struct wr_peerid *server = wr_swarm_punch_client_of(sw, &from.ip);
    struct wr_conn *c = server ? wr_channel_accept_server(&sw->ctx, sock, sw->ctx.security[0], server)
                               : wr_channel_accept(&sw->ctx, sock);
    if (!c || server)    /* as its dialler we have a place for it */
        wr_limits_give(sw->limits, WR_LIMIT_CONNS_HALF_OPEN, 1);
    if (!c)
        return;
    wr_list_append(&sw->opening, &c->node);
    wr_swarm_flow_came(sw, c);
}

static void on_starved(void *arg, int err)
{
    struct wr_swarm *sw = ((struct wr_swarm_listener *)arg)->swarm;
    wr_log(wr_env_log(sw->env), WR_LOG_WARN, "swarm",
           "cannot accept, closing idle connections err=%s hint=\"raise the open file limit or lower "
           "limits\"",
           wr_err_name(err));
    wr_swarm_room_starved(sw);
}

static bool may_accept_quic(void *arg, const struct wr_addr *from)
{
    return may_accept(arg, from);
}

static void on_accept_quic(void *arg, struct wr_conn *c)
{
    struct wr_swarm *sw = arg;
    wr_list_append(&sw->opening, &c->node);
    wr_swarm_flow_came(sw, c);
}

static bool awaits_quic(void *arg, const struct wr_addr *from)
{
    return wr_swarm_punch_awaits(arg, &from->ip);
}

static void on_stray_quic(void *arg, const struct wr_addr *from)
{
    wr_swarm_punch_stray(arg, from);
}

static bool make_room_quic(void *arg, const struct wr_addr *newcomer)
{
    return wr_swarm_room_memory(arg, newcomer);
}

const struct wr_quic_ops wr_swarm_quic_ops = {.may_accept = may_accept_quic,
                                              .on_accept = on_accept_quic,
                                              .make_room = make_room_quic,
                                              .awaits = awaits_quic,
                                              .on_stray = on_stray_quic};

static const struct wr_listener_ops listener_ops = {.on_accept = on_accept, .on_starved = on_starved};

int wr_swarm_listen(struct wr_swarm *sw, struct wr_bytes addr)
{
    struct wr_addr at;
    enum wr_maddr_kind kind = wr_maddr_kind(addr);
    if ((kind != WR_MADDR_TCP && (kind != WR_MADDR_QUIC || !sw->quic)) || !wr_maddr_addr(addr, &at))
        return WR_EUNSUPPORTED;
    if (sw->listener_count >= WR_SWARM_LISTENERS_MAX)
        return WR_ELIMIT;
    struct wr_swarm_listener *l = &sw->listeners[sw->listener_count];
    *l = (struct wr_swarm_listener){.swarm = sw};
    int rc = kind == WR_MADDR_QUIC ? wr_quic_listen(sw->quic, &at, &l->addr)
                                   : wr_env_listen(sw->env, &at, &listener_ops, l, &l->socket);
    if (rc != 0)
        return rc;
    if (l->socket)
        wr_listener_addr(l->socket, &l->addr);
    sw->listener_count++;
    wr_swarm_refresh_links(sw);
    return 0;
}

size_t wr_swarm_listening(const struct wr_swarm *sw, struct wr_maddr *out, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < sw->listener_count && n < max; i++)
        if (wr_maddr_from_addr(&sw->listeners[i].addr, !sw->listeners[i].socket, &out[n]) == 0)
            n++;
    return n;
}

/* A wildcard socket listens on every interface of its family. */
static void announce_listener(struct wr_swarm *sw, const struct wr_swarm_listener *l)
{
    wr_time now = wr_env_now(sw->env);
    struct wr_maddr ma;
    if (wr_ip_classify(&l->addr.ip) != WR_IP_UNSPECIFIED) {
        if (wr_maddr_from_addr(&l->addr, !l->socket, &ma) == 0)
            wr_addrbook_put(&sw->addrbook, wr_maddr_bytes(&ma), WR_ADDR_LISTEN, now);
        return;
    }
    for (size_t i = 0; i < sw->policy.link_count; i++) {
        const struct wr_ifaddr *link = &sw->policy.links[i];
        struct wr_addr at = {.ip = link->ip, .port = l->addr.port};
        /* Link-local addresses mean something only together with an interface of the reader's; deprecated ones are
         * gone before most have read of them. */
        if (link->ip.family != l->addr.ip.family || wr_ip_classify(&link->ip) == WR_IP_LINK_LOCAL || link->deprecated)
            continue;
        if (wr_maddr_from_addr(&at, !l->socket, &ma) == 0)
            wr_addrbook_put(&sw->addrbook, wr_maddr_bytes(&ma), WR_ADDR_LISTEN, now);
    }
}

/* True when the listening addresses differ from those in `old`. */
static bool listen_set_differs(const struct wr_addrbook *old, const struct wr_addrbook *now)
{
    if (old->count != now->count)
        return true;
    for (size_t i = 0; i < now->count; i++)
        if (!wr_addrbook_has(old, wr_maddr_bytes(&now->of[i].addr)))
            return true;
    return false;
}

void wr_swarm_refresh_links(struct wr_swarm *sw)
{
    struct wr_ifaddr links[WR_IFADDRS_MAX];
    size_t count = wr_env_ifaddrs(sw->env, links, WR_IFADDRS_MAX);
    wr_policy_set_links(&sw->policy, links, count);
    struct wr_addrbook *old = wr_memdup(&sw->addrbook, sizeof(sw->addrbook));
    wr_addrbook_clear_source(&sw->addrbook, WR_ADDR_LISTEN);
    for (size_t i = 0; i < sw->listener_count; i++)
        announce_listener(sw, &sw->listeners[i]);
    if (old)
        wr_addrbook_inherit(&sw->addrbook, old);
    if (!old || listen_set_differs(old, &sw->addrbook))
        wr_swarm_addrs_changed(sw);
    else
        sw->addrbook.generation = old->generation;
    wr_free(old);
}

const struct wr_addr *wr_swarm_port_for(const struct wr_swarm *sw, const struct wr_addr *to)
{
    bool loopback = wr_ip_classify(&to->ip) == WR_IP_LOOPBACK;
    const struct wr_addr *best = NULL;
    for (size_t i = 0; i < sw->listener_count; i++) {
        const struct wr_addr *at = &sw->listeners[i].addr;
        enum wr_ip_class class = wr_ip_classify(&at->ip);
        if (!sw->listeners[i].socket || at->ip.family != to->ip.family ||
            (class == WR_IP_LOOPBACK && !loopback))
            continue;
        /* A socket on one address may be on the wrong interface; a wildcard never is. */
        if (!best || class == WR_IP_UNSPECIFIED || (loopback && class == WR_IP_LOOPBACK))
            best = at;
    }
    return best;
}

void wr_swarm_part(struct wr_swarm *sw, const struct wr_conn *c)
{
    if (c->udp || c->circuit || !c->port_reused || c->id == 0)
        return;
    sw->parted[sw->next_parted] = (struct wr_swarm_parted){.from = c->remote, .at = wr_env_now(sw->env)};
    sw->next_parted = (sw->next_parted + 1) % WR_SWARM_PARTED;
}

bool wr_swarm_just_parted(const struct wr_swarm *sw, const struct wr_addr *to)
{
    wr_time now = wr_env_now(sw->env);
    for (size_t i = 0; i < WR_SWARM_PARTED; i++)
        if (sw->parted[i].at && now - sw->parted[i].at < WR_SWARM_PARTED_FOR && wr_addr_equal(&sw->parted[i].from, to))
            return true;
    return false;
}
