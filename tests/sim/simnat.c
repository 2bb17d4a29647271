#include "tests/sim/simnat.h"

#include "tests/sim/sim_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CLOSING         (10 * WR_SEC)    /* a session after a reset; Linux */
#define TAKEN_BY_ROUTER (30 * WR_SEC)
#define TRIES           200    /* for a free random port, then the next free one */

struct session {
    bool datagram;
    bool router;        /* the router's own: see SIMNAT_ANSWER; inner is nobody's */
    bool replied, open;    /* TCP: a handshake was finished; UDP: more than one exchange */
    struct wr_addr inner, outer, remote;
    wr_time expires_at;
};

struct simnat {
    struct sim_gateway gateway;    /* first */
    struct simnat_options o;
    struct sim *sim;
    struct wr_ip pool[SIMNAT_POOL_MAX];
    struct session *of;    /* owned; oldest first */
    size_t count, room;
    uint16_t last_port[2];    /* sequential; of streams, of datagrams */
    struct wr_addr forward;   /* port 0: none */
    struct wr_ip deaf;        /* family 0: to nobody */
    struct simnat_count counted;
};

/* ---- the table ---------------------------------------------------------------------------------- */

static void sweep(struct simnat *nat, wr_time now)
{
    size_t kept = 0;
    for (size_t i = 0; i < nat->count; i++)
        if (nat->of[i].expires_at > now)
            nat->of[kept++] = nat->of[i];
    nat->count = kept;
}

static struct session *add(struct simnat *nat)
{
    if (nat->o.sessions_max && nat->count >= nat->o.sessions_max) {
        nat->counted.over_cap++;
        return NULL;
    }
    if (nat->count == nat->room) {
        nat->room = nat->room ? nat->room * 2 : 16;
        nat->of = sim_alloc_sure(nat->of, nat->room * sizeof(*nat->of));
    }
    struct session *s = &nat->of[nat->count++];
    *s = (struct session){0};
    if (nat->count > nat->counted.sessions_peak)
        nat->counted.sessions_peak = (unsigned)nat->count;
    return s;
}

static void drop(struct simnat *nat, struct session *s)
{
    size_t at = (size_t)(s - nat->of);
    memmove(s, s + 1, (nat->count - at - 1) * sizeof(*s));
    nat->count--;
}

static void refresh(struct simnat *nat, struct session *s, enum sim_packet_kind kind,
                    bool from_inside, wr_time now)
{
    const struct simnat_options *o = &nat->o;
    if (kind == SIM_RST) {
        s->expires_at = now + CLOSING;
        return;
    }
    s->open |= s->datagram ? s->replied && from_inside : kind == SIM_ACK || kind == SIM_DATA;
    s->replied |= !from_inside;
    s->expires_at = now + (s->datagram ? s->open ? o->udp_stream : o->udp_unreplied
                           : s->open   ? o->tcp_open
                                       : o->tcp_opening);
}

/* ---- outer ports -------------------------------------------------------------------------------- */

static bool port_free(const struct simnat *nat, bool datagram, const struct wr_addr *outer,
                      const struct wr_addr *inner, const struct wr_addr *remote)
{
    for (size_t i = 0; i < nat->count; i++) {
        const struct session *s = &nat->of[i];
        if (s->datagram != datagram || !wr_addr_equal(&s->outer, outer))
            continue;
        if (s->router ? wr_addr_equal(&s->remote, remote) : !wr_addr_equal(&s->inner, inner))
            return false;
        /* Kept ports serve all remotes of one inner address; others are another one's each. */
        if (!s->router && nat->o.alloc != SIMNAT_PRESERVING)
            return false;
    }
    return true;
}

static uint16_t next_port(struct simnat *nat, uint16_t port, int step)
{
    int span = nat->o.port_hi - nat->o.port_lo + 1;
    int at = (port - nat->o.port_lo + step) % span;
    return (uint16_t)(nat->o.port_lo + (at < 0 ? at + span : at));
}

static uint16_t random_port(struct simnat *nat)
{
    return (uint16_t)(nat->o.port_lo +
                      sim_random(nat->sim, (uint64_t)(nat->o.port_hi - nat->o.port_lo + 1)));
}

static struct wr_ip outer_ip(struct simnat *nat, const struct wr_addr *inner)
{
    unsigned which = nat->o.paired ? inner->ip.bytes[3] % nat->o.pool
                                   : (unsigned)sim_random(nat->sim, nat->o.pool);
    return nat->pool[which];
}

static struct wr_addr allocate(struct simnat *nat, bool datagram, const struct wr_addr *inner,
                               const struct wr_addr *remote, bool keep)
{
    struct wr_addr outer = {.ip = outer_ip(nat, inner), .port = inner->port};
    if (nat->o.alloc == SIMNAT_PRESERVING && keep &&
        port_free(nat, datagram, &outer, inner, remote))
        return outer;
    for (unsigned i = 0;; i++) {
        if (nat->o.alloc == SIMNAT_SEQUENTIAL)
            outer.port = nat->last_port[datagram] = next_port(nat, nat->last_port[datagram], nat->o.step);
        else
            outer.port = i < TRIES ? random_port(nat) : next_port(nat, outer.port, 1);
        if (port_free(nat, datagram, &outer, inner, remote))
            return outer;
    }
}

/* The session whose mapping a new one of the same inner address goes by, or NULL. */
static const struct session *mapped(const struct simnat *nat, const struct sim_head *head,
                                    bool datagram)
{
    for (size_t i = nat->count; i-- > 0;) {
        const struct session *s = &nat->of[i];
        if (s->router || s->datagram != datagram || !wr_addr_equal(&s->inner, &head->from))
            continue;
        if (nat->o.mapping == SIMNAT_EIM ||
            (nat->o.mapping == SIMNAT_ADM && wr_ip_equal(&s->remote.ip, &head->to.ip)))
            return s;
    }
    return NULL;
}

static bool taken_by_router(const struct simnat *nat, bool datagram, const struct wr_addr *outer,
                            const struct wr_addr *remote)
{
    for (size_t i = 0; i < nat->count; i++) {
        const struct session *s = &nat->of[i];
        if (s->router && s->datagram == datagram && wr_addr_equal(&s->outer, outer) &&
            wr_addr_equal(&s->remote, remote))
            return true;
    }
    return false;
}

static struct wr_addr choose_outer(struct simnat *nat, const struct sim_head *head, bool datagram)
{
    if (nat->o.mapping == SIMNAT_NONE || head->from.ip.family == 6)
        return head->from;
    const struct session *like = mapped(nat, head, datagram);
    if (!like) {
        struct wr_addr kept = {.ip = nat->pool[0], .port = head->from.port};
        bool moved =
            nat->o.alloc == SIMNAT_PRESERVING && taken_by_router(nat, datagram, &kept, &head->to);
        nat->counted.moved += moved;
        return allocate(nat, datagram, &head->from, &head->to, !moved);
    }
    if (!taken_by_router(nat, datagram, &like->outer, &head->to))
        return like->outer;
    nat->counted.moved++;
    return allocate(nat, datagram, &head->from, &head->to, false);
}

/* ---- out ---------------------------------------------------------------------------------------- */

static struct session *find_out(struct simnat *nat, const struct sim_head *head, bool datagram)
{
    for (size_t i = 0; i < nat->count; i++) {
        struct session *s = &nat->of[i];
        if (!s->router && s->datagram == datagram && wr_addr_equal(&s->inner, &head->from) &&
            wr_addr_equal(&s->remote, &head->to))
            return s;
    }
    return NULL;
}

static bool is_ours(const struct simnat *nat, const struct wr_ip *ip)
{
    for (unsigned i = 0; i < nat->o.pool; i++)
        if (wr_ip_equal(&nat->pool[i], ip))
            return true;
    return false;
}

static bool outbound(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    struct simnat *nat = gateway->state;
    bool datagram = head->kind == SIM_DATAGRAM;
    sweep(nat, now);
    if ((datagram && nat->o.no_udp) || (is_ours(nat, &head->to.ip) && !nat->o.hairpin))
        return false;
    struct session *s = find_out(nat, head, datagram);
    if (!s) {
        if (!datagram && head->kind != SIM_SYN)
            return false;    /* the middle of a stream that nobody knows */
        struct wr_addr outer = choose_outer(nat, head, datagram);
        s = add(nat);
        if (!s)
            return false;
        s->datagram = datagram;
        s->inner = head->from;
        s->outer = outer;
        s->remote = head->to;
    }
    refresh(nat, s, head->kind, true, now);
    head->from = s->outer;
    return true;
}

/* ---- in ----------------------------------------------------------------------------------------- */

static struct session *find_in(struct simnat *nat, const struct sim_head *head, bool datagram)
{
    for (size_t i = 0; i < nat->count; i++) {
        struct session *s = &nat->of[i];
        if (s->datagram == datagram && wr_addr_equal(&s->outer, &head->to) &&
            wr_addr_equal(&s->remote, &head->from))
            return s;
    }
    return NULL;
}

/* The session that lets a remote in which was not talked to itself, or NULL. */
static const struct session *lets_in(const struct simnat *nat, const struct sim_head *head,
                                     bool datagram)
{
    for (size_t i = nat->count; i-- > 0;) {
        const struct session *s = &nat->of[i];
        if (s->router || s->datagram != datagram || !wr_addr_equal(&s->outer, &head->to))
            continue;
        if (nat->o.filtering == SIMNAT_EIF ||
            (nat->o.filtering == SIMNAT_ADF && wr_ip_equal(&s->remote.ip, &head->from.ip)))
            return s;
    }
    return NULL;
}

/* The machine inside that a packet is for which belongs to no session, or NULL. */
static const struct wr_addr *door(const struct simnat *nat, const struct sim_head *head, bool datagram)
{
    const struct session *s = lets_in(nat, head, datagram);
    if (nat->forward.port && head->to.port == nat->forward.port && is_ours(nat, &head->to.ip))
        return &nat->forward;
    if (nat->o.open6 && head->to.ip.family == 6)
        return &head->to;
    return s ? &s->inner : NULL;
}

/* Nobody inside asked for it. */
static bool turn_away(struct simnat *nat, struct sim_head *head, bool datagram, wr_time now)
{
    nat->counted.unsolicited++;
    head->refused = nat->o.unsolicited != SIMNAT_DROP && head->kind == SIM_SYN;
    if (nat->o.unsolicited != SIMNAT_ANSWER || !datagram)
        return false;
    struct session *s = find_in(nat, head, datagram);
    s = s ? s : add(nat);
    if (s) {
        s->datagram = s->router = true;
        s->outer = head->to;
        s->remote = head->from;
        s->expires_at = now + TAKEN_BY_ROUTER;
    }
    return false;
}

static bool inbound(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    struct simnat *nat = gateway->state;
    bool datagram = head->kind == SIM_DATAGRAM;
    sweep(nat, now);
    if (datagram && (nat->o.no_udp || wr_ip_equal(&nat->deaf, &head->from.ip)))
        return false;
    struct session *s = find_in(nat, head, datagram);
    if (!s || s->router) {
        const struct wr_addr *to = s ? NULL : door(nat, head, datagram);
        if (!to || (!datagram && head->kind != SIM_SYN))
            return turn_away(nat, head, datagram, now);
        struct wr_addr inner = *to;
        s = add(nat);
        if (!s)
            return false;
        s->datagram = datagram;
        s->inner = inner;
        s->outer = head->to;
        s->remote = head->from;
    }
    refresh(nat, s, head->kind, false, now);
    head->to = s->inner;
    if (head->kind == SIM_RST && nat->o.reset_kills)
        drop(nat, s);
    return true;
}

/* ---- life --------------------------------------------------------------------------------------- */

static void set_defaults(struct simnat_options *o, unsigned id)
{
    o->step = o->step ? o->step : 1;
    o->port_lo = o->port_lo ? o->port_lo : 1024;
    o->port_hi = o->port_hi ? o->port_hi : 65535;
    o->pool = o->pool ? o->pool : 1;
    o->udp_unreplied = o->udp_unreplied ? o->udp_unreplied : 30 * WR_SEC;
    o->udp_stream = o->udp_stream ? o->udp_stream : 120 * WR_SEC;
    o->tcp_opening = o->tcp_opening ? o->tcp_opening : 120 * WR_SEC;
    o->tcp_open = o->tcp_open ? o->tcp_open : 7440 * WR_SEC;
    assert(o->pool <= SIMNAT_POOL_MAX && o->port_lo < o->port_hi);
    if (!o->ip4.family && !o->ip6.family)
        o->ip4 = (struct wr_ip){
            4, {(uint8_t)(130 + id % 30), (uint8_t)(id / 30 % 250), (uint8_t)(id / 7500), 10}};
}

struct simnat *simnat_add(struct sim *sim, const struct simnat_options *options)
{
    struct simnat *nat = calloc(1, sizeof(*nat));
    assert(nat);
    nat->o = *options;
    nat->sim = sim;
    set_defaults(&nat->o, sim_gateway_count(sim));
    nat->gateway = (struct sim_gateway){.outer = nat->o.outer ? &nat->o.outer->gateway : NULL,
                                        .ip4 = nat->o.ip4,
                                        .ip6 = nat->o.ip6,
                                        .outbound = outbound,
                                        .inbound = inbound,
                                        .state = nat};
    sim_gateway_add(sim, &nat->gateway);
    nat->pool[0] = nat->o.ip4;
    for (unsigned i = 1; i < nat->o.pool; i++) {
        nat->pool[i] = nat->o.ip4;
        nat->pool[i].bytes[3] = (uint8_t)(nat->pool[i].bytes[3] + i);
        sim_gateway_add_ip(sim, &nat->gateway, &nat->pool[i]);
    }
    nat->last_port[0] = random_port(nat);
    nat->last_port[1] = random_port(nat);
    return nat;
}

void simnat_free(struct simnat *nat)
{
    if (!nat)
        return;
    free(nat->of);
    free(nat);
}

void simnat_forward(struct simnat *nat, const struct wr_ip *inner, uint16_t port)
{
    nat->forward = (struct wr_addr){.ip = *inner, .port = port};
}

void simnat_deaf(struct simnat *nat, const struct wr_ip *to)
{
    nat->deaf = to ? *to : (struct wr_ip){0};
}

struct sim_gateway *simnat_gateway(struct simnat *nat)
{
    return nat ? &nat->gateway : NULL;
}

const struct wr_ip *simnat_ip4(const struct simnat *nat)
{
    return &nat->gateway.ip4;
}

void simnat_restart(struct simnat *nat)
{
    nat->count = 0;
}

unsigned simnat_sessions(struct simnat *nat)
{
    sweep(nat, sim_now(nat->sim));
    return (unsigned)nat->count;
}

const struct simnat_count *simnat_count(const struct simnat *nat)
{
    return &nat->counted;
}
