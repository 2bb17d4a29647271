/* Datagram sockets. */
#include "tests/sim/sim_priv.h"

#include <string.h>

#define DATAGRAM_MAX 65507    /* bytes; IPv4 */
#define GROUPS_MAX 4
#define MTU 1472              /* bytes of a datagram; Ethernet, IPv4 */
#define INTERFACE 2           /* eth0, as wr_env_ifaddrs says */

enum { NOTE_DATAGRAM = 32 };

struct wr_udp {
    struct sim_dead dead;    /* first */
    struct sim_host *host;
    struct wr_addr at;
    bool shared, counted;
    const struct wr_udp_ops *ops;
    const struct wr_dgram_ops *bulk;    /* of a struct wr_dgram; ops is NULL then */
    void *arg;
    struct wr_list node;     /* on host->udps; alone once cut off */
    struct wr_ip groups[GROUPS_MAX];
    size_t group_count;
};

/* The bulk form is the same socket behind other calls. */
struct wr_dgram {
    struct wr_udp udp;    /* first */
    struct sim_event room;
    struct wr_dgram_out kept;    /* data owned; NULL: nothing */
    uint8_t *kept_data;
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

static int open_at(struct sim_host *host, const struct wr_addr *at, bool shared, size_t size,
                   struct wr_udp **out)
{
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
    struct wr_udp *u = wr_alloc(size);
    if (!u)
        return WR_ELIMIT;
    u->host = host;
    u->at = bound;
    u->shared = shared;
    u->counted = true;
    host->descriptors++;
    wr_list_init(&u->node);
    wr_list_append(&host->udps, &u->node);
    *out = u;
    return 0;
}

int wr_env_udp(struct wr_env *env, const struct wr_addr *at, bool shared, const struct wr_udp_ops *ops,
               void *arg, struct wr_udp **out)
{
    int rc = open_at(sim_host_from(env), at, shared, sizeof(**out), out);
    if (rc == 0) {
        (*out)->ops = ops;
        (*out)->arg = arg;
    }
    return rc;
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
    if (u->bulk) {
        struct wr_dgram_in in = {.from = packet->head.from, .to = packet->head.to, .data = packet->data,
                                 .len = packet->head.len, .segment = packet->head.len};
        u->bulk->on_receive(u->arg, &in);
    } else {
        u->ops->on_datagram(u->arg, &packet->head.from,
                            sim_is_loopback(&packet->head.to.ip) ? 1 : INTERFACE, packet->data,
                            packet->head.len);
    }
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
    packet->head = (struct sim_head){.kind = SIM_DATAGRAM, .from = u->at, .to = *to, .len = data.len};
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

/* One datagram from this address of ours, or the one that leads there. */
static int send_one(struct wr_udp *u, const struct wr_addr *to, const struct wr_ip *source,
                    struct wr_bytes data)
{
    struct sim_host *host = u->host;
    struct sim *sim = host->sim;
    struct wr_ip from = source->family ? *source : u->at.ip;
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

int wr_udp_send(struct wr_udp *u, const struct wr_addr *to, uint32_t ifindex, struct wr_bytes data)
{
    static const struct wr_ip any;
    (void)ifindex;
    return send_one(u, to, &any, data);
}

/* ---- in bulk ------------------------------------------------------------------------------------- */

int wr_env_dgram(struct wr_env *env, const struct wr_addr *at, const struct wr_dgram_ops *ops, void *arg,
                 struct wr_dgram **out)
{
    struct wr_udp *u;
    int rc = open_at(sim_host_from(env), at, false, sizeof(**out), &u);
    if (rc != 0)
        return rc;
    u->bulk = ops;
    u->arg = arg;
    *out = (struct wr_dgram *)(void *)u;
    return 0;
}

/* Datagrams of this size and above never pass any link. */
static bool too_large(const struct sim *sim, size_t len)
{
    return len > (sim->mtu ? sim->mtu : MTU);
}

static int send_batch(struct wr_udp *u, const struct wr_dgram_out *out)
{
    for (size_t at = 0; at < out->len; at += out->segment) {
        size_t len = out->len - at < out->segment ? out->len - at : out->segment;
        if (too_large(u->host->sim, len) || u->host->uplink_free > u->host->sim->now + u->host->queue)
            continue;
        int rc = send_one(u, &out->to, &out->from, WR_BYTES(out->data + at, len));
        if (rc == WR_EUNREACH)
            return rc;
    }
    return 0;
}

int wr_dgram_send(struct wr_dgram *d, const struct wr_dgram_out *out)
{
    struct sim_host *host = d->udp.host;
    if (out->to.ip.family != d->udp.at.ip.family)
        return WR_EUNREACH;
    if (d->kept_data)
        return WR_ELIMIT;
    if (!host->jammed)
        return send_batch(&d->udp, out);
    d->kept_data = wr_memdup(out->data, out->len);
    if (!d->kept_data)
        return 0;
    d->kept = *out;
    d->kept.data = d->kept_data;
    return WR_ELIMIT;
}

bool wr_dgram_blocked(const struct wr_dgram *d)
{
    return d->kept_data != NULL;
}

static void drop_kept(struct wr_dgram *d)
{
    wr_free(d->kept_data);
    d->kept_data = NULL;
}

static void on_room(struct sim_event *event)
{
    struct wr_dgram *d = wr_list_entry(event, struct wr_dgram, room);
    struct sim_host *host = d->udp.host;
    if (!d->kept_data || host->jammed)
        return;
    send_batch(&d->udp, &d->kept);
    drop_kept(d);
    sim_begin(host);
    d->udp.bulk->on_writable(d->udp.arg);
    sim_end(host);
}

void sim_jam(struct sim_host *host, bool jammed)
{
    host->jammed = jammed;
    if (jammed)
        return;
    wr_list_each(node, &host->udps) {
        struct wr_udp *u = wr_list_entry(node, struct wr_udp, node);
        if (u->bulk)
            sim_event_at(host->sim, &((struct wr_dgram *)(void *)u)->room, host->sim->now, on_room);
    }
}

void wr_dgram_addr(const struct wr_dgram *d, struct wr_addr *out)
{
    *out = d->udp.at;
}

void wr_dgram_close(struct wr_dgram *d)
{
    drop_kept(d);
    sim_event_stop(d->udp.host->sim, &d->room);
    wr_udp_close(&d->udp);
}

int wr_env_source(struct wr_env *env, const struct wr_addr *to, struct wr_ip *out)
{
    return sim_source_ip(sim_host_from(env), &to->ip, out) ? 0 : WR_EUNREACH;
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
