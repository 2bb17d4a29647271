#include "transport/policy.h"

#include <string.h>

#define NET_BITS_IP4 32    /* one household has one; go groups alike */
#define NET_BITS_IP6 56    /* what a household is given; go conn_limiter.go */

struct rate {
    struct wr_list node;
    struct wr_ip net;       /* the key */
    wr_time counted_at;     /* tokens are right for this moment */
    unsigned tokens;
};

struct peer_rule {
    struct wr_peerid id;    /* the key */
};

void wr_policy_init(struct wr_policy *p, const uint8_t seed[static WR_MAP_SEED])
{
    memset(p, 0, sizeof(*p));
    wr_map_init(&p->blocked_peers, WR_POLICY_RULES_MAX, seed);
    wr_map_init(&p->allowed_peers, WR_POLICY_RULES_MAX, seed);
    wr_map_init(&p->rates, WR_POLICY_RATE_NETS, seed);
    wr_list_init(&p->rate_order);
}

static void clear_rules(struct wr_map *rules)
{
    size_t cursor = 0;
    for (void *rule = wr_map_next(rules, &cursor); rule; rule = wr_map_next(rules, &cursor))
        wr_free(rule);
    wr_map_clear(rules);
}

void wr_policy_clear(struct wr_policy *p)
{
    clear_rules(&p->blocked_peers);
    clear_rules(&p->allowed_peers);
    wr_map_clear(&p->rates);
    wr_list_each(it, &p->rate_order) {
        wr_list_remove(it);
        wr_free(wr_list_entry(it, struct rate, node));
    }
    wr_free(p->links);
    wr_free(p->blocked_nets);
    wr_free(p->allowed_nets);
    p->links = NULL;
    p->blocked_nets = p->allowed_nets = NULL;
    p->link_count = p->blocked_net_count = p->allowed_net_count = p->public_count = 0;
}

/* ---- what addresses mean ------------------------------------------------------------------------------ */

void wr_policy_set_links(struct wr_policy *p, const struct wr_ifaddr *links, size_t count)
{
    if (count > WR_IFADDRS_MAX)
        count = WR_IFADDRS_MAX;
    wr_free(p->links);
    p->links = count ? wr_memdup(links, count * sizeof(*links)) : NULL;
    p->link_count = p->links ? count : 0;
}

int wr_policy_add_public(struct wr_policy *p, const struct wr_cidr *block)
{
    if (p->public_count == WR_POLICY_PUBLIC_MAX)
        return WR_ELIMIT;
    p->public_blocks[p->public_count++] = *block;
    return 0;
}

static bool listed(const struct wr_cidr *nets, size_t count, const struct wr_ip *ip)
{
    for (size_t i = 0; i < count; i++) {
        if (wr_cidr_contains(&nets[i], ip))
            return true;
    }
    return false;
}

bool wr_policy_is_public(const struct wr_policy *p, const struct wr_ip *ip)
{
    return wr_ip_classify(ip) == WR_IP_PUBLIC || listed(p->public_blocks, p->public_count, ip);
}

bool wr_policy_on_link(const struct wr_policy *p, const struct wr_ip *ip)
{
    for (size_t i = 0; i < p->link_count; i++) {
        if (!p->links[i].loopback && wr_ip_same_prefix(&p->links[i].ip, ip, p->links[i].prefix))
            return true;
    }
    return false;
}

struct wr_ip wr_policy_network(const struct wr_ip *ip)
{
    return wr_ip_mask(ip, ip->family == 4 ? NET_BITS_IP4 : NET_BITS_IP6);
}

/* ---- dialling ----------------------------------------------------------------------------------------- */

static bool origin_allows(const struct wr_policy *p, const struct wr_ip *ip, enum wr_addr_origin origin)
{
    if (origin == WR_ORIGIN_OWNER || wr_policy_is_public(p, ip))
        return true;
    /* Loopback told by others would make us knock on our own machine's services. */
    return wr_ip_classify(ip) != WR_IP_LOOPBACK && wr_policy_on_link(p, ip);
}

int wr_policy_may_dial(const struct wr_policy *p, const struct wr_peerid *peer, struct wr_bytes addr,
                       enum wr_addr_origin origin)
{
    struct wr_addr to;
    if (peer && wr_policy_peer_blocked(p, peer))
        return WR_EGATED;
    if (!wr_maddr_addr(addr, &to))
        return 0;
    if (wr_policy_net_blocked(p, &to.ip))
        return WR_EGATED;
    enum wr_ip_class class = wr_ip_classify(&to.ip);
    if (to.port == 0 || class == WR_IP_UNSPECIFIED || class == WR_IP_MULTICAST)
        return WR_EUNREACH;
    return origin_allows(p, &to.ip, origin) ? 0 : WR_EUNREACH;
}

/* ---- accepting ---------------------------------------------------------------------------------------- */

static struct wr_bytes rate_key(const struct rate *r)
{
    return WR_BYTES(&r->net, sizeof(r->net));
}

static void rate_free(struct wr_policy *p, struct rate *r)
{
    wr_map_del(&p->rates, rate_key(r));
    wr_list_remove(&r->node);
    wr_free(r);
}

static struct rate *rate_get(struct wr_policy *p, const struct wr_ip *from, wr_time now)
{
    struct wr_ip net = wr_policy_network(from);
    struct rate *r = wr_map_get(&p->rates, WR_BYTES(&net, sizeof(net)));
    if (r)
        return r;
    if (p->rates.count == WR_POLICY_RATE_NETS)
        rate_free(p, wr_list_entry(p->rate_order.next, struct rate, node));
    r = wr_alloc(sizeof(*r));
    if (!r)
        return NULL;
    r->net = net;
    r->tokens = WR_POLICY_RATE_BURST;
    r->counted_at = now;
    wr_list_init(&r->node);
    if (wr_map_put(&p->rates, rate_key(r), r) == 0)
        return r;
    wr_free(r);
    return NULL;
}

static bool take_token(struct rate *r, wr_time now)
{
    wr_time fresh = (now - r->counted_at) / WR_POLICY_RATE_INTERVAL;
    if (fresh >= WR_POLICY_RATE_BURST - (wr_time)r->tokens) {
        r->tokens = WR_POLICY_RATE_BURST;
        r->counted_at = now;
    } else {
        r->tokens += (unsigned)fresh;
        r->counted_at += fresh * WR_POLICY_RATE_INTERVAL;
    }
    if (r->tokens == 0)
        return false;
    r->tokens--;
    return true;
}

int wr_policy_may_accept(struct wr_policy *p, const struct wr_ip *from, wr_time now)
{
    if (wr_policy_net_blocked(p, from))
        return WR_EGATED;
    if (wr_policy_net_allowed(p, from) || wr_ip_classify(from) == WR_IP_LOOPBACK)
        return 0;
    struct rate *r = rate_get(p, from, now);
    if (!r)
        return WR_ELIMIT;
    wr_list_remove(&r->node);
    wr_list_append(&p->rate_order, &r->node);
    return take_token(r, now) ? 0 : WR_ELIMIT;
}

/* ---- rules of the owner --------------------------------------------------------------------------------- */

bool wr_policy_peer_blocked(const struct wr_policy *p, const struct wr_peerid *peer)
{
    return wr_map_get(&p->blocked_peers, wr_peerid_bytes(peer)) != NULL;
}

bool wr_policy_peer_allowed(const struct wr_policy *p, const struct wr_peerid *peer)
{
    return wr_map_get(&p->allowed_peers, wr_peerid_bytes(peer)) != NULL;
}

bool wr_policy_net_blocked(const struct wr_policy *p, const struct wr_ip *ip)
{
    return listed(p->blocked_nets, p->blocked_net_count, ip);
}

bool wr_policy_net_allowed(const struct wr_policy *p, const struct wr_ip *ip)
{
    return listed(p->allowed_nets, p->allowed_net_count, ip);
}

static int peer_rule(struct wr_map *rules, const struct wr_peerid *id, bool on)
{
    if (!on) {
        struct peer_rule *gone = wr_map_del(rules, wr_peerid_bytes(id));
        wr_free(gone);
        return gone ? 0 : WR_ENOTFOUND;
    }
    struct peer_rule *rule = wr_alloc(sizeof(*rule));
    if (!rule)
        return WR_ELIMIT;
    rule->id = *id;
    int err = wr_map_put(rules, wr_peerid_bytes(&rule->id), rule);
    if (err < 0)
        wr_free(rule);
    return err == WR_EEXIST ? 0 : err;
}

static int net_rule(struct wr_cidr **nets, size_t *count, const struct wr_cidr *net, bool on)
{
    size_t i = 0;
    while (i < *count && !((*nets)[i].prefix == net->prefix &&
                           wr_ip_same_prefix(&(*nets)[i].ip, &net->ip, net->prefix)))
        i++;
    if (!on) {
        if (i == *count)
            return WR_ENOTFOUND;
        (*nets)[i] = (*nets)[--*count];
        return 0;
    }
    if (i < *count)
        return 0;
    if (*count == WR_POLICY_RULES_MAX)
        return WR_ELIMIT;
    struct wr_cidr *more = wr_realloc(*nets, (*count + 1) * sizeof(**nets));
    if (!more)
        return WR_ELIMIT;
    *nets = more;
    more[(*count)++] = *net;
    return 0;
}

int wr_policy_rule(struct wr_policy *p, bool block, const char *what, bool on)
{
    struct wr_peerid id;
    struct wr_cidr net;
    if (wr_peerid_parse(what, &id) == 0)
        return peer_rule(block ? &p->blocked_peers : &p->allowed_peers, &id, on);
    if (wr_cidr_parse(what, &net) < 0)
        return WR_EINVAL;
    if (block)
        return net_rule(&p->blocked_nets, &p->blocked_net_count, &net, on);
    return net_rule(&p->allowed_nets, &p->allowed_net_count, &net, on);
}
