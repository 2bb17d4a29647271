/* The network below changes: which of it matters, what is void then, and who is told. */
#include "transport/swarm_impl.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

static void raise_network(struct wr_task *task)
{
    struct wr_swarm *sw = wr_list_entry(task, struct wr_swarm, network_task);
    /* Failures of before say nothing about this network. */
    wr_backoff_clear(&sw->backoff);
    wr_backoff_init(&sw->backoff, wr_env_hash_seed(sw->env));
    wr_flows_forgive(&sw->flows);
    sw->udp = sw->ip6 = (struct wr_blackhole){0};
    wr_log(wr_env_log(sw->env), WR_LOG_INFO, "swarm", "network changed");
    wr_swarm_raise(sw, WR_SWARM_NETWORK_CHANGED, NULL, NULL, 0);
}

void wr_swarm_network_changed(struct wr_swarm *sw)
{
    wr_env_defer(sw->env, &sw->network_task, raise_network);
}

static void digest_bytes(struct wr_swarm *sw, uint64_t *digest, const void *data, size_t len)
{
    uint8_t both[sizeof(*digest) + sizeof(struct wr_ip) + 3 * sizeof(uint32_t)];
    assert(len <= sizeof(both) - sizeof(*digest));
    memcpy(both, digest, sizeof(*digest));
    memcpy(both + sizeof(*digest), data, len);
    crypto_shorthash((unsigned char *)digest, both, sizeof(*digest) + len, wr_env_hash_seed(sw->env));
}

/* Does it say where we are? Privacy addresses change by the day on one and the same network. */
static bool is_telling(const struct wr_ifaddr *link)
{
    return !link->loopback && !link->temporary && !link->deprecated && wr_ip_classify(&link->ip) != WR_IP_LINK_LOCAL;
}

/* What makes a network another one: our addresses, the ways out, and whether we were cut off meanwhile. */
static uint64_t network_digest(struct wr_swarm *sw)
{
    struct wr_ifaddr links[WR_IFADDRS_MAX];
    struct wr_gateway gateways[WR_GATEWAYS_MAX];
    size_t link_count = wr_env_ifaddrs(sw->env, links, WR_IFADDRS_MAX);
    size_t gateway_count = wr_env_gateways(sw->env, gateways, WR_GATEWAYS_MAX);
    uint64_t digest = wr_env_net_cuts(sw->env);
    for (size_t i = 0; i < link_count; i++)
        if (is_telling(&links[i]))
            digest_bytes(sw, &digest, &links[i].ip, sizeof(links[i].ip));
    for (size_t i = 0; i < gateway_count; i++) {
        digest_bytes(sw, &digest, &gateways[i].ip, sizeof(gateways[i].ip));
        digest_bytes(sw, &digest, &gateways[i].index, sizeof(gateways[i].index));
    }
    return digest;
}

static bool is_our_address(const struct wr_swarm *sw, const struct wr_ip *ip)
{
    for (size_t i = 0; i < sw->policy.link_count; i++)
        if (wr_ip_equal(&sw->policy.links[i].ip, ip))
            return true;
    return ip->family == 0 || wr_ip_classify(ip) == WR_IP_LOOPBACK;
}

/* Over TCP nothing more can come to an address that is gone; the kernel would wait many minutes to say so. */
static void close_if_stranded(struct wr_conn *c, void *arg)
{
    if (!c->udp && !is_our_address(arg, &c->local.ip))
        wr_conn_close(c, WR_CONN_OK);
}

static void on_net_change(struct wr_net_watch *watch)
{
    struct wr_swarm *sw = wr_list_entry(watch, struct wr_swarm, net_watch);
    uint64_t seen = network_digest(sw);
    if (seen != sw->net_seen)
        wr_swarm_network_changed(sw);
    sw->net_seen = seen;
    wr_swarm_refresh_links(sw);
    wr_swarm_each(sw, close_if_stranded, sw);
    if (sw->quic)
        wr_quic_moved(sw->quic);
}

void wr_swarm_net_watch(struct wr_swarm *sw)
{
    sw->net_watch.on_change = on_net_change;
    wr_env_watch_net(sw->env, &sw->net_watch);
    sw->net_seen = network_digest(sw);
}
