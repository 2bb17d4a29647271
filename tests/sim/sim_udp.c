/* Datagram sockets. */
#include "tests/sim/sim_priv.h"

#include <string.h>

#define DATAGRAM_MAX 65507    /* bytes; IPv4 */
#define GROUPS_MAX 4
#define INTERFACE 2           /* eth0, as wr_env_ifaddrs says */

enum { NOTE_DATAGRAM = 32 };

struct wr_udp {
    struct sim_dead dead;    /* first */
    struct sim_host *host;
    struct wr_addr at;
    bool shared, counted;
    const struct wr_udp_ops *ops;
    void *arg;
    struct wr_list node;     /* on host->udps; alone once cut off */
    struct wr_ip groups[GROUPS_MAX];
    size_t group_count;
};

static bool is_any(const struct wr_ip *ip)
{
    static const uint8_t any[16];
    return memcmp(ip->bytes, any, 16) == 0;
}

static bool is_multicast(const struct wr_ip *ip)
{
    return wr_ip_classify(ip) == WR_IP_MULTICAST;
}

static bool in_use(const struct sim_host *host, const struct wr_addr *at, bool shared)
{
    wr_list_each(node, &host->udps) {
        struct wr_udp *u = wr_list_entry(node, struct wr_udp, node);
        if (u->at.port != at->port || u->at.ip.family != at->ip.family || (u->shared && shared))
            continue;
        if (is_any(&u->at.ip) || is_any(&at->ip) || wr_ip_equal(&u->at.ip, &at->ip))
            return true;
    }
    return false;
}

int wr_env_udp(struct wr_env *env, const struct wr_addr *at, bool shared, const struct wr_udp_ops *ops,
               void *arg, struct wr_udp **out)
{
    struct sim_host *host = sim_host_from(env);
    struct wr_addr bound = *at;
    if (!is_any(&at->ip) && !is_multicast(&at->ip) && !sim_ip_is_ours(host, &at->ip))
        return WR_EINVAL;
    while (bound.port == 0 || (at->port == 0 && in_use(host, &bound, false))) {
        bound.port = host->next_port;
        host->next_port = bound.port < 60999 ? (uint16_t)(bound.port + 1) : 32768;
    }
    if (in_use(host, &bound, shared))
        return WR_EINUSE;
    if (host->descriptors_max && host->descriptors >= host->descriptors_max)
        return WR_ENOFD;
    struct wr_udp *u = wr_alloc(sizeof(*u));
    if (!u)
        return WR_ELIMIT;
    *u = (struct wr_udp){.host = host, .at = bound, .shared = shared, .ops = ops, .arg = arg};
    u->counted = true;
    host->descriptors++;
    wr_list_init(&u->node);
    wr_list_append(&host->udps, &u->node);
    *out = u;
    return 0;
}

int wr_udp_join(struct wr_udp *u, const struct wr_ip *group, uint32_t ifindex)
{
    (void)ifindex;
    if (!is_multicast(group) || group->family != u->at.ip.family)
        return WR_EINVAL;
    if (u->group_count == GROUPS_MAX)
        return WR_ELIMIT;
    u->groups[u->group_count++] = *group;
    return 0;
}

static bool hears(const struct wr_udp *u, const struct wr_addr *to)
{
    if (u->at.port != to->port || u->at.ip.family != to->ip.family)
        return false;
    if (!is_multicast(&to->ip))
        return is_any(&u->at.ip) || wr_ip_equal(&u->at.ip, &to->ip);
    for (size_t i = 0; i < u->group_count; i++)
        if (wr_ip_equal(&u->groups[i], &to->ip))
            return true;
    return false;
}

/* A unicast datagram goes to one socket only, the most specific. */
static struct wr_udp *hearer(struct sim_host *host, const struct wr_addr *to)
{
    struct wr_udp *best = NULL;
    wr_list_each(node, &host->udps) {
        struct wr_udp *u = wr_list_entry(node, struct wr_udp, node);
        if (hears(u, to) && (!best || is_any(&best->at.ip)))
            best = u;
    }
    return best;
}

static void hand_over(struct wr_udp *u, struct sim_packet *packet)
{
    struct sim_host *host = u->host;
    sim_note(host->sim, NOTE_DATAGRAM, host, packet->head.len);
    sim_note_bytes(host->sim, packet->data, packet->head.len < 64 ? packet->head.len : 64);
    sim_begin(host);
    u->ops->on_datagram(u->arg, &packet->head.from, sim_is_loopback(&packet->head.to.ip) ? 1 : INTERFACE,
                        packet->data, packet->head.len);
    sim_end(host);
}

static void deliver(struct sim_packet *packet, struct sim_host *host)
{
    if (host && is_multicast(&packet->head.to.ip)) {
        /* Handlers may close sockets: the list is walked anew for each, by position. */
        for (size_t skip = 0;; skip++) {
            struct wr_udp *found = NULL;
            size_t seen = 0;
            wr_list_each(node, &host->udps) {
                struct wr_udp *u = wr_list_entry(node, struct wr_udp, node);
                if (!found && hears(u, &packet->head.to) && seen++ == skip)
                    found = u;
            }
            if (!found)
                break;
            hand_over(found, packet);
        }
    } else if (host) {
        struct wr_udp *u = hearer(host, &packet->head.to);
        if (u)
            hand_over(u, packet);
    }
    wr_free(packet);
}

static void drop(struct sim_event *event)
{
    wr_free(event);
}

static struct sim_packet *make(struct wr_udp *u, const struct wr_addr *to, struct wr_bytes data)
{
    struct sim_packet *packet = wr_alloc(sizeof(*packet) + data.len);
    if (!packet)
        return NULL;
    packet->sim = u->host->sim;
    packet->source = u->host;
    packet->event.drop = drop;
    packet->deliver = deliver;
    packet->head = (struct sim_head){SIM_DATAGRAM, u->at, *to, data.len};
    if (data.len)
        memcpy(packet->data, data.ptr, data.len);
    return packet;
}

/* One copy for each machine of the LAN, our own included. */
static int send_to_group(struct wr_udp *u, const struct wr_addr *to, struct wr_bytes data)
{
    struct sim *sim = u->host->sim;
    wr_list_each(node, &sim->hosts) {
        struct sim_host *host = wr_list_entry(node, struct sim_host, node);
        if (host != u->host && (!u->host->lan || host->lan != u->host->lan || sim_lost(sim)))
            continue;
        struct sim_packet *packet = make(u, to, data);
        if (!packet)
            return WR_ELIMIT;
        sim_source_ip(u->host, &to->ip, &packet->head.from.ip);
        packet->next = to->ip.family == 4 ? &host->node4 : &host->node6;
        wr_time latency = host == u->host ? SIM_LOOPBACK : sim->o.lan_rtt / 2;
        sim_packet_send_on(packet, sim_arrival(u->host, host, data.len, latency, 0));
    }
    return 0;
}

int wr_udp_send(struct wr_udp *u, const struct wr_addr *to, uint32_t ifindex, struct wr_bytes data)
{
    struct sim_host *host = u->host;
    struct sim *sim = host->sim;
    struct wr_ip from = u->at.ip;
    (void)ifindex;
    if (to->ip.family != u->at.ip.family || !to->port)
        return WR_EUNREACH;
    if (data.len > DATAGRAM_MAX)
        return WR_EIO;
    if (!host->up || wr_list_empty(&u->node))
        return 0;    /* nothing leaves a machine that is off */
    if ((is_any(&from) || is_multicast(&from)) && !sim_source_ip(host, &to->ip, &from))
        return WR_EUNREACH;
    host->traffic.datagrams++;
    host->traffic.datagram_bytes += data.len;
    if (is_multicast(&to->ip))
        return send_to_group(u, to, data);
    if (sim_lost(sim))
        return 0;
    struct sim_packet *packet = make(u, to, data);
    if (!packet)
        return WR_ELIMIT;
    packet->head.from.ip = from;
    wr_time late = 0;
    if (sim->o.reorder > 0 && sim_chance_unit(&sim->chance) < sim->o.reorder)
        late = (wr_time)(sim_chance_unit(&sim->chance) * (double)(20 * WR_MSEC));
    sim_packet_send(packet, late);
    return 0;
}

void wr_udp_addr(const struct wr_udp *u, struct wr_addr *out)
{
    *out = u->at;
}

static void release(struct sim_dead *dead)
{
    wr_free(dead);
}

void wr_udp_close(struct wr_udp *u)
{
    assert(!u->dead.release && "closed already");
    wr_list_remove(&u->node);
    if (u->counted) {
        u->host->descriptors--;
        sim_streams_retry(u->host);
    }
    sim_bury(u->host, &u->dead, release);
}

void sim_udps_cut(struct sim_host *host)
{
    for (struct wr_list *node; (node = wr_list_pop(&host->udps));)
        wr_list_entry(node, struct wr_udp, node)->counted = false;
}
