#include "node/diagnose.h"

static void add(struct wr_findings *out, bool holds, enum wr_reason reason)
{
    if (holds && out->count < WR_FINDINGS_MAX)
        out->of[out->count++] = reason;
}

/* RFC 6598: between a provider's NAT and the routers of its customers. */
static bool is_shared(const struct wr_ip *ip)
{
    return ip->family == 4 && ip->bytes[0] == 100 && (ip->bytes[1] & 0xc0) == 64;
}

/* The kind whose evidence is there: UDP, which holes are mostly punched over, before TCP. */
static const struct wr_nat_kind *known_kind(const struct wr_nat *nat)
{
    return nat->udp.mapping != WR_NAT_MAP_UNKNOWN ? &nat->udp : &nat->tcp;
}

static enum wr_reason nat_reason(const struct wr_nat_kind *kind)
{
    switch (kind->mapping) {
    case WR_NAT_MAP_UNKNOWN:
        return WR_REASON_LEARNING;
    case WR_NAT_MAP_NONE:
        return WR_REASON_FIREWALL;
    case WR_NAT_MAP_EIM:
        return WR_REASON_NAT_EASY;
    case WR_NAT_MAP_ADM:
    case WR_NAT_MAP_APDM:
        break;
    }
    if (kind->alloc == WR_NAT_ALLOC_UNKNOWN)
        return WR_REASON_LEARNING;
    bool guessable = kind->alloc == WR_NAT_ALLOC_PRESERVING || kind->alloc == WR_NAT_ALLOC_SEQUENTIAL;
    return guessable && kind->pooling != WR_NAT_ANSWER_YES ? WR_REASON_NAT_PREDICTABLE : WR_REASON_NAT_HARD;
}

static enum wr_reason verdict(const struct wr_diagnose_input *in)
{
    const struct wr_nat_kind *kind = known_kind(&in->nat);
    if (!in->online)
        return WR_REASON_OFFLINE;
    if (in->reach4 == WR_REACH_PUBLIC || in->reach6 == WR_REACH_PUBLIC)
        return WR_REASON_PUBLIC;
    if (kind->mapping == WR_NAT_MAP_UNKNOWN && in->public4 && in->reach4 == WR_REACH_PRIVATE)
        return WR_REASON_FIREWALL;
    /* Who has no IPv4 learns nothing of a NAT there. */
    if (in->only6 && in->global6 && in->reach6 == WR_REACH_PRIVATE)
        return WR_REASON_FIREWALL;
    if (kind->mapping == WR_NAT_MAP_NONE && in->reach4 == WR_REACH_UNKNOWN)
        return WR_REASON_LEARNING; /* nothing says yet that strangers do not get through */
    return nat_reason(kind);
}

/* The router is not the last one: it says so, or names an address that nobody on the internet can see. */
static bool is_nested(const struct wr_diagnose_input *in)
{
    return in->carrier || in->nested || (in->mapped.family && wr_ip_classify(&in->mapped) != WR_IP_PUBLIC);
}

/* What the router does for us. */
static void judge_mapping(const struct wr_diagnose_input *in, struct wr_findings *out)
{
    bool private4 = in->reach4 == WR_REACH_PRIVATE;
    bool needed = private4 && !in->public4;
    bool carrier = in->carrier || is_shared(&in->mapped);
    bool nested = is_nested(in);
    add(out, carrier, WR_REASON_CARRIER_NAT);
    add(out, nested && !carrier, WR_REASON_DOUBLE_NAT);
    add(out, in->mapping == WR_DIAGNOSE_MAPPING_MADE && !nested && private4, WR_REASON_MAPPING_FALSE);
    add(out, in->mapping == WR_DIAGNOSE_MAPPING_MADE && !nested && in->reach4 == WR_REACH_PUBLIC,
        WR_REASON_MAPPED);
    add(out, in->mapping == WR_DIAGNOSE_MAPPING_REFUSED && needed, WR_REASON_MAPPING_REFUSED);
    add(out, in->mapping == WR_DIAGNOSE_MAPPING_NONE && needed, WR_REASON_MAPPING_NONE);
}

enum wr_diagnose_layers wr_diagnose_layers(const struct wr_diagnose_input *in)
{
    const struct wr_nat *nat = &in->nat;
    enum wr_nat_mapping most = nat->udp.mapping > nat->tcp.mapping ? nat->udp.mapping : nat->tcp.mapping;
    if (most == WR_NAT_MAP_NONE)
        return WR_DIAGNOSE_LAYERS_NONE;
    if (is_nested(in))
        return WR_DIAGNOSE_LAYERS_MORE;
    bool same = in->mapped.family && wr_ip_equal(&in->mapped, &nat->external);
    return same && most != WR_NAT_MAP_UNKNOWN ? WR_DIAGNOSE_LAYERS_ONE : WR_DIAGNOSE_LAYERS_UNKNOWN;
}

const char *wr_diagnose_layers_name(enum wr_diagnose_layers layers)
{
    static const char *const names[] = {"unknown", "none", "one", "two-or-more"};
    return names[layers];
}

void wr_diagnose(const struct wr_diagnose_input *in, struct wr_findings *out)
{
    out->count = 0;
    add(out, true, verdict(in));
    if (!in->online)
        return;
    add(out, in->twin, WR_REASON_TWIN);
    add(out, in->clock_wrong, WR_REASON_CLOCK_WRONG);
    add(out, in->port_in_use, WR_REASON_PORT_IN_USE);
    add(out, in->no_peers, WR_REASON_NO_PEERS);
    add(out, in->udp_blocked, WR_REASON_UDP_BLOCKED);
    judge_mapping(in, out);
    add(out, in->relay_wanted && !in->relayed, WR_REASON_NO_RELAY);
    add(out, !in->relayed && in->relay_full, WR_REASON_RELAY_FULL);
    add(out, !in->relayed && in->relay_refused, WR_REASON_RELAY_REFUSED);
    add(out, in->punch_failed >= WR_DIAGNOSE_PUNCHES && !in->punched, WR_REASON_PUNCH_NEVER);
}
