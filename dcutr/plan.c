#include "dcutr/plan.h"

#include <string.h>

#define SPREAD_MIN 3    /* ports of one address that show a NAT with a port for each remote; ours */

/* ---- the list ----------------------------------------------------------------------------------- */

static bool has(const struct wr_plan *p, struct wr_bytes addr)
{
    for (size_t i = 0; i < p->count; i++)
        if (wr_bytes_equal(wr_maddr_bytes(&p->addrs[i]), addr))
            return true;
    return false;
}

static size_t of_kind(const struct wr_plan *p, enum wr_maddr_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < p->count; i++)
        n += wr_maddr_kind(wr_maddr_bytes(&p->addrs[i])) == kind;
    return n;
}

static bool put(struct wr_plan *p, struct wr_bytes addr)
{
    if (has(p, addr) || of_kind(p, wr_maddr_kind(addr)) == WR_DCUTR_EACH_MAX)
        return false;
    p->addrs[p->count].len = 0;
    if (wr_maddr_append(&p->addrs[p->count], addr) == 0)
        p->count++;
    return true;
}

static bool put_addr(struct wr_plan *p, const struct wr_ip *ip, uint16_t port, bool quic)
{
    struct wr_addr addr = {.ip = *ip, .port = port};
    struct wr_maddr ma;
    return wr_maddr_from_addr(&addr, quic, &ma) == 0 && put(p, wr_maddr_bytes(&ma));
}

/* ---- what our NAT makes of us ------------------------------------------------------------------- */

static const struct wr_nat_kind *kind_of(const struct wr_nat *nat, bool quic)
{
    return quic ? &nat->udp : &nat->tcp;
}

/* Another port for every remote. */
static bool depends(const struct wr_nat_kind *k)
{
    return k->mapping == WR_NAT_MAP_ADM || k->mapping == WR_NAT_MAP_APDM;
}

/* Its next ports can be told by one that is new. */
static bool counts(const struct wr_plan_input *in, bool quic)
{
    const struct wr_nat_kind *k = kind_of(in->nat, quic);
    return depends(k) && k->alloc == WR_NAT_ALLOC_SEQUENTIAL && k->step != 0 &&
           in->nat->external.family == 4 && k->pooling != WR_NAT_ANSWER_YES;
}

/* And there is a new one. */
static bool next_known(const struct wr_plan_input *in, bool quic)
{
    const struct wr_nat_kind *k = kind_of(in->nat, quic);
    return counts(in, quic) && k->last_port != 0 && in->now - k->last_port_at < WR_PLAN_STALE;
}

static bool is_public(const struct wr_plan_input *in, const struct wr_ip *ip)
{
    return in->policy ? wr_policy_is_public(in->policy, ip) : wr_ip_classify(ip) == WR_IP_PUBLIC;
}

/* The one so many mappings after the newest port, or before it; 0: beyond the end. */
static uint16_t port_at(const struct wr_nat_kind *k, long long n)
{
    long long port = (long long)k->last_port + k->step * n;
    return port >= 1024 && port <= 65535 ? (uint16_t)port : 0;
}

/* Mappings of others since the newest port was seen. */
static wr_time others_since(const struct wr_nat_kind *k, wr_time now)
{
    return (wr_time)k->rate_milli * ((now - k->last_port_at) / WR_MSEC) / 1000000;
}

static void predict(const struct wr_plan_input *in, bool quic, struct wr_plan *p)
{
    const struct wr_nat_kind *k = kind_of(in->nat, quic);
    unsigned most = quic ? WR_PLAN_PREDICTED : WR_PLAN_PREDICT_TCP;
    bool last = in->attempt >= 2, met = quic ? in->met_udp : in->met_tcp;
    unsigned behind = !met ? 0 : last ? WR_PLAN_BEHIND_LAST : WR_PLAN_BEHIND;
    unsigned ahead = quic ? most - behind : most;
    wr_time others = others_since(k, in->now);
    for (unsigned i = 0; i < ahead + behind; i++) {
        unsigned skip = last && !met && i >= most / 2 ? most / 2 : 0;
        long long n = i < ahead ? (long long)others + 1 + i + skip : (long long)ahead - 1 - i;
        uint16_t port = port_at(k, n);
        if (port && put_addr(p, &in->nat->external, port, quic))
            p->trick = WR_PLAN_PREDICT;
    }
}

/* ---- candidates --------------------------------------------------------------------------------- */

enum rank { CONFIRMED, OBSERVED, GUESSED, RANKS };

/* How good an address of ours is for a punch; RANKS: none. */
static enum rank rank_of(const struct wr_plan_input *in, const struct wr_own_addr *own,
                         const struct wr_addr *addr)
{
    bool global6 = addr->ip.family == 6 && own->source == WR_ADDR_LISTEN;
    if (!is_public(in, &addr->ip))
        return RANKS;
    if (own->source == WR_ADDR_CONFIGURED || own->verdict == WR_ADDR_REACHABLE)
        return CONFIRMED;
    if (own->source == WR_ADDR_OBSERVED || own->source == WR_ADDR_MAPPED || own->source == WR_ADDR_LISTEN ||
        global6)
        return OBSERVED;
    return own->source == WR_ADDR_CANDIDATE ? GUESSED : RANKS;
}

/* What somebody saw of a NAT that shows everybody something else. */
static bool is_useless(const struct wr_plan_input *in, const struct wr_own_addr *own,
                       const struct wr_addr *addr, bool quic)
{
    bool seen = own->source == WR_ADDR_OBSERVED || own->source == WR_ADDR_CANDIDATE;
    return seen && addr->ip.family == 4 && own->verdict != WR_ADDR_REACHABLE && next_known(in, quic);
}

/* And what somebody saw of the socket that this attempt does not use. */
static bool is_unused(const struct wr_plan_input *in, const struct wr_own_addr *own, const struct wr_addr *addr,
                      bool quic)
{
    bool seen = own->source == WR_ADDR_OBSERVED || own->source == WR_ADDR_CANDIDATE;
    return in->port && quic && seen && addr->ip.family == 4;
}

static void put_public(const struct wr_plan_input *in, enum rank rank, struct wr_plan *p)
{
    for (size_t i = 0; i < in->count; i++) {
        struct wr_bytes ma = wr_maddr_bytes(&in->own[i].addr);
        enum wr_maddr_kind kind = wr_maddr_kind(ma);
        bool quic = kind == WR_MADDR_QUIC;
        struct wr_addr addr;
        if ((kind != WR_MADDR_TCP && !quic) || !(quic ? p->quic : p->tcp) || !wr_maddr_addr(ma, &addr) ||
            rank_of(in, &in->own[i], &addr) != rank || is_useless(in, &in->own[i], &addr, quic) ||
            is_unused(in, &in->own[i], &addr, quic))
            continue;
        put(p, ma);
    }
}

/* A NAT that keeps ports as long as it can: ours, at its address. */
static void put_preserved(const struct wr_plan_input *in, struct wr_plan *p)
{
    for (size_t i = 0; i < in->count && in->nat->external.family == 4; i++) {
        struct wr_bytes ma = wr_maddr_bytes(&in->own[i].addr);
        bool quic = wr_maddr_kind(ma) == WR_MADDR_QUIC;
        const struct wr_nat_kind *k = kind_of(in->nat, quic);
        struct wr_addr addr;
        if (in->own[i].source != WR_ADDR_LISTEN || !wr_maddr_addr(ma, &addr) || addr.ip.family != 4 ||
            !depends(k) || k->alloc != WR_NAT_ALLOC_PRESERVING || wr_ip_classify(&addr.ip) == WR_IP_LOOPBACK)
            continue;
        if (put_addr(p, &in->nat->external, addr.port, quic))
            p->trick = WR_PLAN_PREDICT;
    }
}

static void put_private(const struct wr_plan_input *in, struct wr_plan *p)
{
    unsigned left = WR_PLAN_PRIVATE_MAX;
    for (size_t i = 0; i < in->count && left; i++) {
        struct wr_bytes ma = wr_maddr_bytes(&in->own[i].addr);
        struct wr_addr addr;
        bool ours = in->own[i].source == WR_ADDR_LISTEN || in->own[i].source == WR_ADDR_MAPPED;
        if (!ours || !wr_maddr_addr(ma, &addr) || wr_ip_classify(&addr.ip) != WR_IP_PRIVATE)
            continue;
        if (put(p, ma)) {
            left--;
            p->trick = WR_PLAN_SITE;
        }
    }
}

static bool listens(const struct wr_plan_input *in, enum wr_maddr_kind kind)
{
    for (size_t i = 0; i < in->count; i++)
        if (in->own[i].source == WR_ADDR_LISTEN && wr_maddr_kind(wr_maddr_bytes(&in->own[i].addr)) == kind)
            return true;
    return false;
}

/* Whether a peer can be told anything of it: where UDP is blocked, say, nobody ever saw us over it. */
static bool offers(const struct wr_plan_input *in, enum wr_maddr_kind kind)
{
    for (size_t i = 0; i < in->count; i++) {
        struct wr_bytes ma = wr_maddr_bytes(&in->own[i].addr);
        struct wr_addr addr;
        if (wr_maddr_kind(ma) == kind && wr_maddr_addr(ma, &addr) && rank_of(in, &in->own[i], &addr) != RANKS)
            return true;
    }
    return next_known(in, kind == WR_MADDR_QUIC);
}

bool wr_plan_wants_port(const struct wr_plan_input *in)
{
    const struct wr_nat_kind *k = &in->nat->udp;
    return in->attempt == 1 && !in->same_external && listens(in, WR_MADDR_QUIC) && offers(in, WR_MADDR_QUIC) &&
           k->mapping == WR_NAT_MAP_EIM && k->alloc == WR_NAT_ALLOC_PRESERVING && k->pooling != WR_NAT_ANSWER_YES &&
           in->nat->external.family == 4;
}

void wr_plan_make(const struct wr_plan_input *in, struct wr_plan *p)
{
    memset(p, 0, sizeof(*p));
    p->tcp = p->quic = true;
    bool tcp = listens(in, WR_MADDR_TCP), quic = listens(in, WR_MADDR_QUIC), both = tcp && quic;
    /* QUIC's turn, where only one may count: TCP has the second attempt, or all when there is nothing else. */
    bool first = offers(in, WR_MADDR_QUIC) && (in->attempt != 1 || !offers(in, WR_MADDR_TCP));
    p->counts_udp = quic && (first || !both) && counts(in, true);
    p->counts = p->counts_udp || (tcp && (!first || !both) && counts(in, false));
    if (both && (next_known(in, true) || next_known(in, false))) {
        p->quic = first;
        p->tcp = !p->quic;
    }
    put_public(in, CONFIRMED, p);
    put_preserved(in, p);
    if (in->port)
        put_addr(p, &in->nat->external, in->port, true);
    put_public(in, OBSERVED, p);
    put_public(in, GUESSED, p);
    if (quic && p->quic && next_known(in, true))
        predict(in, true, p);
    if (tcp && p->tcp && next_known(in, false))
        predict(in, false, p);
    if (in->attempt > 0 && in->same_external)
        put_private(in, p);
}

/* ---- the peer's list ---------------------------------------------------------------------------- */

bool wr_plan_same_external(const struct wr_plan *ours, const struct wr_maddr *theirs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct wr_addr their, our;
        if (!wr_maddr_addr(wr_maddr_bytes(&theirs[i]), &their) || their.ip.family != 4 ||
            wr_ip_classify(&their.ip) == WR_IP_PRIVATE)
            continue;
        for (size_t k = 0; k < ours->count; k++)
            if (wr_maddr_addr(wr_maddr_bytes(&ours->addrs[k]), &our) && wr_ip_equal(&our.ip, &their.ip))
                return true;
    }
    return false;
}

/* Several ports of one address, of this transport. */
static bool spreads(const struct wr_maddr *theirs, size_t count, enum wr_maddr_kind kind)
{
    for (size_t i = 0; i < count; i++) {
        struct wr_addr a, b;
        size_t ports = 0;
        if (wr_maddr_kind(wr_maddr_bytes(&theirs[i])) != kind ||
            !wr_maddr_addr(wr_maddr_bytes(&theirs[i]), &a))
            continue;
        for (size_t k = 0; k < count; k++)
            ports += wr_maddr_kind(wr_maddr_bytes(&theirs[k])) == kind &&
                     wr_maddr_addr(wr_maddr_bytes(&theirs[k]), &b) && wr_ip_equal(&a.ip, &b.ip);
        if (ports >= SPREAD_MIN)
            return true;
    }
    return false;
}

static bool names(const struct wr_maddr *theirs, size_t count, enum wr_maddr_kind kind)
{
    for (size_t i = 0; i < count; i++)
        if (wr_maddr_kind(wr_maddr_bytes(&theirs[i])) == kind)
            return true;
    return false;
}

bool wr_plan_hopeless(const struct wr_nat *nat, const struct wr_maddr *theirs, size_t count)
{
    static const enum wr_maddr_kind kinds[] = {WR_MADDR_TCP, WR_MADDR_QUIC};
    for (size_t i = 0; i < 2; i++) {
        const struct wr_nat_kind *k = kind_of(nat, kinds[i] == WR_MADDR_QUIC);
        bool random = depends(k) && (k->alloc == WR_NAT_ALLOC_RANDOM || k->alloc == WR_NAT_ALLOC_BLOCK) &&
                      k->filtering == WR_NAT_FILTER_APDF;
        if (names(theirs, count, kinds[i]) && !(random && spreads(theirs, count, kinds[i])))
            return false;
    }
    return count > 0;
}

const char *wr_plan_trick_name(enum wr_plan_trick trick)
{
    switch (trick) {
    case WR_PLAN_PREDICT:
        return "predict";
    case WR_PLAN_SITE:
        return "site";
    case WR_PLAN_PLAIN:
        break;
    }
    return "plain";
}
