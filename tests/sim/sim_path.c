/* Who reaches whom, and how long it takes. */
#include "tests/sim/sim_priv.h"

#include <string.h>

#define HOPS_MAX 8    /* gateways one behind the other */

/* ---- addresses ------------------------------------------------------------------------------------- */

static void make_key(uint8_t key[static 24], const struct sim_gateway *scope, const struct wr_ip *ip)
{
    uint32_t id = scope ? scope->id + 1 : 0;
    memset(key, 0, 24);
    memcpy(key, &id, sizeof(id));
    key[4] = ip->family;
    memcpy(key + 5, ip->bytes, ip->family == 4 ? 4 : 16);
}

void sim_address_add(struct sim *sim, struct sim_node *node, const struct sim_gateway *scope,
                     const struct wr_ip *ip)
{
    make_key(node->key, scope, ip);
    int err = wr_map_put(&sim->nodes, WR_BYTES(node->key, sizeof(node->key)), node);
    assert(!err && "two machines with one address");
    (void)err;
}

void sim_address_remove(struct sim *sim, struct sim_node *node)
{
    wr_map_del(&sim->nodes, WR_BYTES(node->key, sizeof(node->key)));
}

static struct sim_node *lookup(struct sim *sim, const struct sim_gateway *scope, const struct wr_ip *ip)
{
    uint8_t key[24];
    make_key(key, scope, ip);
    return wr_map_get(&sim->nodes, WR_BYTES(key, sizeof(key)));
}

void sim_gateway_add_ip(struct sim *sim, struct sim_gateway *gateway, const struct wr_ip *ip)
{
    struct sim_node *node = wr_alloc(sizeof(*node));
    node->gateway = gateway;
    sim_address_add(sim, node, gateway->outer, ip);
}

void sim_gateway_add(struct sim *sim, struct sim_gateway *gateway)
{
    gateway->id = sim->next_id++;
    sim->gateway_count++;
    if (gateway->ip4.family)
        sim_gateway_add_ip(sim, gateway, &gateway->ip4);
    if (gateway->ip6.family)
        sim_gateway_add_ip(sim, gateway, &gateway->ip6);
}

unsigned sim_gateway_count(const struct sim *sim)
{
    return sim->gateway_count;
}

bool sim_is_loopback(const struct wr_ip *ip)
{
    return wr_ip_classify(ip) == WR_IP_LOOPBACK;
}

bool sim_ip_is_ours(const struct sim_host *host, const struct wr_ip *ip)
{
    return wr_ip_equal(ip, &host->ip4) || wr_ip_equal(ip, &host->ip6) || wr_ip_equal(ip, &host->temporary) ||
           sim_is_loopback(ip);
}

bool sim_source_ip(const struct sim_host *host, const struct wr_ip *to, struct wr_ip *out)
{
    const struct wr_ip *ip6 = host->temporary.family && !host->temporary_deprecated ? &host->temporary : &host->ip6;
    *out = sim_is_loopback(to) ? *to : to->family == 4 ? host->ip4 : *ip6;
    return out->family != 0;
}

/* ---- time ------------------------------------------------------------------------------------------- */

/* e to the x with nothing but sums and products, which are the same everywhere. */
static double exponential(double x)
{
    double y = x / 1024, sum = 1 + y * (1 + y / 2 * (1 + y / 3 * (1 + y / 4)));
    for (int i = 0; i < 10; i++)
        sum *= sum;
    return sum;
}

/* The same for both directions and the whole run. */
static wr_time pair_rtt(const struct sim *sim, unsigned a, unsigned b)
{
    if (sim->o.rtt)
        return sim->o.rtt;
    uint64_t x = sim->o.seed ^ ((uint64_t)(a < b ? a : b) << 32 | (a < b ? b : a));
    double normal = -6;    /* the sum of twelve uniform draws is near enough */
    for (int i = 0; i < 12; i++) {
        x = sim_mix(x);
        normal += (double)(x >> 11) / 9007199254740992.0;
    }
    return (wr_time)((double)sim->o.rtt_median * exponential(sim->o.rtt_sigma * normal));
}

bool sim_lost(struct sim *sim)
{
    return sim->o.loss > 0 && sim_chance_unit(&sim->chance) < sim->o.loss;
}

static wr_time serialise(wr_time *free_at, wr_time at, size_t len, uint64_t bandwidth)
{
    if (!bandwidth)
        return at;
    wr_time start = at > *free_at ? at : *free_at;
    *free_at = start + (wr_time)((double)len * 1e9 / (double)bandwidth);
    return *free_at;
}

wr_time sim_arrival(struct sim_host *from, struct sim_host *to, size_t len, wr_time latency,
                    wr_time after)
{
    wr_time at = serialise(&from->uplink_free, from->sim->now, len, from->bandwidth) + latency;
    if (to)
        at = serialise(&to->downlink_free, at, len, to->bandwidth);
    return at > after ? at : after;
}

/* ---- the way --------------------------------------------------------------------------------------------- */

static unsigned outermost(const struct sim_host *host)
{
    const struct sim_gateway *gateway = host->gateway;
    while (gateway && gateway->outer)
        gateway = gateway->outer;
    return gateway ? gateway->id : host->id;
}

/* Private addresses lead nowhere on the internet, only within a LAN. */
static bool routable(const struct sim_host *source, const struct sim_head *head,
                     const struct sim_node *node, const struct sim_gateway *scope)
{
    if (scope || wr_ip_classify(&head->to.ip) == WR_IP_PUBLIC)
        return true;
    return node->host && source->lan && node->host->lan == source->lan;
}

wr_time sim_leave(struct sim_host *source, struct sim_head *head, struct sim_node **next)
{
    struct sim *sim = source->sim;
    /* What left an address that we moved away from is nobody's. */
    if (head->from.ip.family && !sim_ip_is_ours(source, &head->from.ip))
        return -1;
    if (sim_is_loopback(&head->to.ip)) {
        *next = source->ip4.family ? &source->node4 : &source->node6;
        return SIM_LOOPBACK;
    }
    struct sim_gateway *scope = source->gateway;
    for (int hops = 0; hops < HOPS_MAX; hops++) {
        struct sim_node *node = lookup(sim, scope, &head->to.ip);
        if (node) {
            *next = node;
            if (node->host == source)
                return SIM_LOOPBACK;
            if (!routable(source, head, node, scope))
                return -1;
            if (node->host && (scope || (source->lan && node->host->lan == source->lan)))
                return sim->o.lan_rtt / 2;
            unsigned to = node->host ? node->host->id : node->gateway->id;
            if (to == outermost(source))
                return sim->o.lan_rtt / 2;    /* turned around by our own */
            return pair_rtt(sim, outermost(source), to) / 2;
        }
        if (!scope || !scope->outbound(scope, head, sim->now))
            return -1;
        scope = scope->outer;
    }
    return -1;
}

struct sim_host *sim_enter(struct sim_host *source, struct sim_head *head, struct sim_node *next)
{
    for (int hops = 0; next && next->gateway && hops < HOPS_MAX; hops++) {
        struct sim_gateway *gateway = next->gateway;
        if (!gateway->inbound(gateway, head, source->sim->now))
            return NULL;
        next = lookup(source->sim, gateway, &head->to.ip);
    }
    struct sim_host *host = next ? next->host : NULL;
    if (!host || !host->up || host->side != source->side)
        return NULL;
    return host;
}

static void on_arrival(struct sim_event *event)
{
    struct sim_packet *packet = wr_list_entry(event, struct sim_packet, event);
    struct sim_host *host = packet->event.host;
    if (!host) {
        struct sim_head as_sent = packet->head;
        host = packet->next ? sim_enter(packet->source, &packet->head, packet->next) : NULL;
        if (!host && packet->head.refused)
            sim_packet_refuse(packet, &as_sent);
        if (host && (host->paused || host->late)) {    /* it got there: from now on it waits in that machine */
            packet->event.host = host;
            sim_event_at(packet->sim, &packet->event, packet->sim->now, on_arrival);
            return;
        }
    }
    packet->deliver(packet, host && host->up ? host : NULL);
}

void sim_packet_send_on(struct sim_packet *packet, wr_time at)
{
    sim_event_at(packet->sim, &packet->event, at, on_arrival);
}

void sim_packet_refuse(const struct sim_packet *packet, const struct sim_head *as_sent)
{
    struct sim *sim = packet->sim;
    const struct sim_gateway *by = packet->next->gateway;
    struct sim_packet *back = sim_conn_make_reset(packet);
    if (!back)
        return;
    back->head.from = as_sent->to;
    back->head.to = as_sent->from;
    back->next = lookup(sim, by->outer, &back->head.to.ip);
    sim_packet_send_on(back, sim->now + pair_rtt(sim, outermost(packet->source), by->id) / 2);
}

void sim_packet_send(struct sim_packet *packet, wr_time late)
{
    wr_time latency = sim_leave(packet->source, &packet->head, &packet->next);
    if (latency < 0) {
        packet->next = NULL;
        latency = 0;
    }
    struct sim_host *to = packet->next ? packet->next->host : NULL;
    wr_time at = sim_arrival(packet->source, to, packet->head.len, latency, 0);
    sim_packet_send_on(packet, at + late);
}
