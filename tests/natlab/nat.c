#include "nat.h"

#include "packet.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEC 1000000000LL /* ns */

/* The endpoints of one conversation. A port is the identifier for ICMP echo, whose remote has none.
 */
struct session {
    uint32_t in_addr, out_addr, remote_addr;
    uint16_t in_port, out_port, remote_port;
    uint8_t protocol;
    bool answered; /* something came from outside */
    bool closing;  /* a FIN or a RST passed */
    int64_t expires_at;
};

struct nat {
    struct nat_options options;
    struct session *sessions;
    size_t count, room;
    uint16_t next_udp, next_tcp; /* of NAT_SEQUENTIAL */
    uint64_t random;
};

/* ---- chance */

static uint64_t draw(struct nat *nat)
{
    uint64_t x = nat->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    nat->random = x;
    return x * 0x2545F4914F6CDD1DULL >> 11;
}

struct nat *nat_create(const struct nat_options *options)
{
    struct nat *nat = calloc(1, sizeof(*nat));
    if (!nat)
        return NULL;
    nat->options = *options;
    nat->random = options->seed * 0x9E3779B97F4A7C15ULL + 1;
    uint32_t span = (uint32_t)options->port_max - options->port_min + 1;
    nat->next_udp = (uint16_t)(options->port_min + draw(nat) % span);
    nat->next_tcp = (uint16_t)(options->port_min + draw(nat) % span);
    return nat;
}

void nat_destroy(struct nat *nat)
{
    if (nat)
        free(nat->sessions);
    free(nat);
}

/* ---- sessions */

static void drop_session(struct nat *nat, size_t at)
{
    nat->sessions[at] = nat->sessions[--nat->count];
}

static void expire(struct nat *nat, int64_t now)
{
    for (size_t i = nat->count; i-- > 0;)
        if (nat->sessions[i].expires_at <= now)
            drop_session(nat, i);
}

void nat_forget(struct nat *nat, uint32_t remote)
{
    for (size_t i = nat->count; i-- > 0;)
        if (!remote || nat->sessions[i].remote_addr == remote)
            drop_session(nat, i);
}

size_t nat_sessions(struct nat *nat, uint32_t inside, bool open, int64_t now)
{
    size_t count = 0;
    expire(nat, now);
    for (size_t i = 0; i < nat->count; i++) {
        const struct session *s = &nat->sessions[i];
        count += (!inside || s->in_addr == inside) && !(open && s->closing);
    }
    return count;
}

static bool from_inside_is(const struct session *s, const struct packet *p)
{
    return s->protocol == p->protocol && s->in_addr == p->src && s->in_port == p->src_port;
}

static bool to_outside_is(const struct session *s, const struct packet *p)
{
    return s->protocol == p->protocol && s->out_addr == p->dst && s->out_port == p->dst_port;
}

static struct session *find_inside(struct nat *nat, const struct packet *p)
{
    for (size_t i = 0; i < nat->count; i++) {
        struct session *s = &nat->sessions[i];
        if (from_inside_is(s, p) && s->remote_addr == p->dst && s->remote_port == p->dst_port)
            return s;
    }
    return NULL;
}

static struct session *find_outside(struct nat *nat, const struct packet *p)
{
    for (size_t i = 0; i < nat->count; i++) {
        struct session *s = &nat->sessions[i];
        if (to_outside_is(s, p) && s->remote_addr == p->src && s->remote_port == p->src_port)
            return s;
    }
    return NULL;
}

/* The mapping that a new session of an inside endpoint shares. */
static const struct session *find_mapping(const struct nat *nat, const struct packet *p)
{
    for (size_t i = 0; i < nat->count; i++) {
        const struct session *s = &nat->sessions[i];
        if (!from_inside_is(s, p))
            continue;
        if (nat->options.mapping == NAT_INDEPENDENT ||
            (nat->options.mapping == NAT_ADDRESS && s->remote_addr == p->dst))
            return s;
    }
    return NULL;
}

static void refresh(const struct nat *nat, struct session *s, int64_t now)
{
    const struct nat_options *o = &nat->options;
    int64_t life = s->answered ? o->udp_stream_timeout : o->udp_timeout;
    if (s->protocol == IPPROTO_TCP)
        life = s->closing ? 10 * SEC : s->answered ? o->tcp_timeout : o->tcp_opening_timeout;
    s->expires_at = now + life;
}

static struct session *add_session(struct nat *nat, const struct session *fresh, int64_t now)
{
    uint32_t max = nat->options.sessions_max;
    expire(nat, now);
    if (nat->count >= (max && max < NAT_SESSIONS_MAX ? max : NAT_SESSIONS_MAX))
        return NULL;
    if (nat->count == nat->room) {
        size_t room = nat->room ? 2 * nat->room : 64;
        struct session *grown = realloc(nat->sessions, room * sizeof(*grown));
        if (!grown)
            return NULL;
        nat->sessions = grown;
        nat->room = room;
    }
    struct session *s = &nat->sessions[nat->count++];
    *s = *fresh;
    refresh(nat, s, now);
    return s;
}

/* ---- allocation */

/* Whether a port cannot be had for this packet. Only an APDM that preserves lets flows to different
 * remotes share a port: that is how such a router keeps ports at all. */
static bool is_taken(const struct nat *nat, const struct packet *p, uint32_t out_addr,
                     uint16_t port)
{
    const struct nat_options *o = &nat->options;
    bool overload = o->ports == NAT_PRESERVE && o->mapping == NAT_ENDPOINT;
    for (size_t i = 0; i < nat->count; i++) {
        const struct session *s = &nat->sessions[i];
        if (s->protocol != p->protocol || s->out_addr != out_addr || s->out_port != port)
            continue;
        if (!overload || (s->remote_addr == p->dst && s->remote_port == p->dst_port))
            return true;
    }
    return false;
}

static bool is_busy(const struct nat *nat, const struct packet *p)
{
    for (size_t i = 0; i < nat->options.busy_count; i++)
        if (nat->options.busy[i] == p->dst)
            return true;
    return false;
}

/* 0: every port is taken. */
static uint16_t scan_ports(struct nat *nat, const struct packet *p, uint32_t addr, uint16_t from,
                           uint16_t step)
{
    const struct nat_options *o = &nat->options;
    uint32_t span = (uint32_t)o->port_max - o->port_min + 1;
    uint32_t at = from >= o->port_min && from <= o->port_max ? (uint32_t)(from - o->port_min) : 0;
    for (uint32_t tries = 0; tries < span; tries++, at = (at + step) % span)
        if (!is_taken(nat, p, addr, (uint16_t)(o->port_min + at)))
            return (uint16_t)(o->port_min + at);
    return 0;
}

static uint16_t choose_port(struct nat *nat, const struct packet *p, uint32_t addr)
{
    const struct nat_options *o = &nat->options;
    uint32_t span = (uint32_t)o->port_max - o->port_min + 1;
    if (o->ports == NAT_RANDOM)
        return scan_ports(nat, p, addr, (uint16_t)(o->port_min + draw(nat) % span), 1);
    if (o->ports == NAT_PRESERVE && !is_busy(nat, p) && !is_taken(nat, p, addr, p->src_port))
        return p->src_port;
    uint16_t *next = p->protocol == IPPROTO_TCP ? &nat->next_tcp : &nat->next_udp;
    uint16_t port = scan_ports(nat, p, addr, *next, o->step);
    *next = (uint16_t)(o->port_min + ((uint32_t)(port - o->port_min) + o->step) % span);
    return port;
}

static uint32_t choose_address(struct nat *nat, const struct packet *p)
{
    const struct nat_options *o = &nat->options;
    uint64_t which = o->arbitrary ? draw(nat) : p->src;
    return o->address + (uint32_t)(which % (o->pool ? o->pool : 1));
}

/* ---- the two ways */

static void note_tcp(struct session *s, const struct packet *p)
{
    if (s->protocol != IPPROTO_TCP)
        return;
    if (p->flags & PACKET_SYN)
        s->closing = false;
    if (p->flags & (PACKET_FIN | PACKET_RST))
        s->closing = true;
}

static struct session *session_outward(struct nat *nat, const struct packet *p, int64_t now)
{
    struct session *known = find_inside(nat, p);
    if (known && known->expires_at > now)
        return known;
    expire(nat, now);
    struct session fresh = {.protocol = p->protocol,
                            .in_addr = p->src,
                            .in_port = p->src_port,
                            .remote_addr = p->dst,
                            .remote_port = p->dst_port};
    const struct session *mapping = find_mapping(nat, p);
    if (mapping) {
        fresh.out_addr = mapping->out_addr;
        fresh.out_port = mapping->out_port;
        return add_session(nat, &fresh, now);
    }
    fresh.out_addr = choose_address(nat, p);
    fresh.out_port = choose_port(nat, p, fresh.out_addr);
    return fresh.out_port ? add_session(nat, &fresh, now) : NULL;
}

/* The session that a packet from outside belongs to, or that the filter lets it begin. */
static struct session *session_inward(struct nat *nat, const struct packet *p, int64_t now)
{
    expire(nat, now);
    struct session *known = find_outside(nat, p);
    if (known || nat->options.filter == NAT_ENDPOINT)
        return known;
    for (size_t i = 0; i < nat->count; i++) {
        const struct session *s = &nat->sessions[i];
        if (!to_outside_is(s, p) ||
            (nat->options.filter == NAT_ADDRESS && s->remote_addr != p->src))
            continue;
        struct session fresh = *s;
        fresh.remote_addr = p->src;
        fresh.remote_port = p->src_port;
        fresh.answered = fresh.closing = false;
        return add_session(nat, &fresh, now);
    }
    return NULL;
}

static bool is_ours(const struct nat *nat, uint32_t addr)
{
    uint32_t pool = nat->options.pool ? nat->options.pool : 1;
    return addr >= nat->options.address && addr - nat->options.address < pool;
}

static enum nat_way refuse(const struct nat *nat, const struct packet *p, uint8_t *bytes,
                           size_t *len, enum nat_way back)
{
    if (!nat->options.refuse || !is_ours(nat, p->dst))
        return NAT_DROP;
    return packet_refuse(p, bytes, len) ? back : NAT_DROP;
}

/* An ICMP error quotes a packet that went the other way. */
static enum nat_way pass_error(struct nat *nat, const struct packet *p, bool inbound, int64_t now)
{
    struct packet quoted;
    if (!packet_quoted(p, &quoted))
        return NAT_DROP;
    expire(nat, now);
    struct packet turned = quoted;
    turned.src = quoted.dst;
    turned.dst = quoted.src;
    turned.src_port = quoted.dst_port;
    turned.dst_port = quoted.src_port;
    const struct session *s = inbound ? find_outside(nat, &turned) : find_inside(nat, &turned);
    if (!s)
        return NAT_DROP;
    if (inbound) {
        packet_set_quoted(p, &quoted, true, s->in_addr, s->in_port);
        packet_set_dst(p, s->in_addr, 0);
        return NAT_IN;
    }
    packet_set_quoted(p, &quoted, false, s->out_addr, s->out_port);
    packet_set_src(p, s->out_addr, 0);
    return NAT_OUT;
}

enum nat_way nat_from_outside(struct nat *nat, uint8_t *bytes, size_t *len, int64_t now)
{
    struct packet p;
    if (!packet_parse(&p, bytes, *len))
        return NAT_DROP;
    if (p.is_error)
        return pass_error(nat, &p, true, now);
    struct session *s = session_inward(nat, &p, now);
    if (!s)
        return refuse(nat, &p, bytes, len, NAT_OUT);
    bool syn = p.protocol == IPPROTO_TCP && (p.flags & (PACKET_SYN | PACKET_ACK)) == PACKET_SYN;
    if (syn && nat->options.no_simultaneous && !s->answered)
        return refuse(nat, &p, bytes, len, NAT_OUT);
    packet_set_dst(&p, s->in_addr, s->in_port);
    s->answered = true;
    note_tcp(s, &p);
    refresh(nat, s, now);
    if (nat->options.rst_closes && p.protocol == IPPROTO_TCP && p.flags & PACKET_RST)
        s->expires_at = now;
    return NAT_IN;
}

enum nat_way nat_from_inside(struct nat *nat, uint8_t *bytes, size_t *len, int64_t now)
{
    struct packet p;
    if (!packet_parse(&p, bytes, *len))
        return NAT_DROP;
    bool turns = is_ours(nat, p.dst);
    if (p.is_error)
        return turns ? NAT_DROP : pass_error(nat, &p, false, now);
    if (turns && !nat->options.hairpin)
        return refuse(nat, &p, bytes, len, NAT_IN);
    struct session *s = session_outward(nat, &p, now);
    if (!s)
        return NAT_DROP;
    packet_set_src(&p, s->out_addr, s->out_port);
    note_tcp(s, &p);
    refresh(nat, s, now);
    return turns ? nat_from_outside(nat, bytes, len, now) == NAT_IN ? NAT_IN : NAT_DROP : NAT_OUT;
}
