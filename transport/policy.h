/* policy.h - whom we talk to: allow and block lists, the address filter, inbound rates. Value.
 * The address filter is the good house guest's rule (design section 2): addresses learnt from strangers
 * that are private, loopback, link-local, reserved or multicast are dialled only when they lie on a link of
 * ours, or the owner counts them as public (--public). */
#ifndef WR_POLICY_H
#define WR_POLICY_H

#include "transport/env.h"
#include "transport/maddr.h"
#include "transport/map.h"

#define WR_POLICY_RULES_MAX  1024    /* entries per list; ours */
#define WR_POLICY_PUBLIC_MAX 16      /* --public blocks; ours */

/* New inbound connections per network: a token bucket each; go conn_rate_limiter.go: 0.2/s, burst 16 per
 * IPv4 /32 and IPv6 /56; loopback exempt. */
#define WR_POLICY_RATE_INTERVAL (5 * WR_SEC)    /* one token */
#define WR_POLICY_RATE_BURST    16              /* tokens */
#define WR_POLICY_RATE_NETS     4096            /* networks remembered; ours, oldest goes */

/* Who told us an address. */
enum wr_addr_origin {
    WR_ORIGIN_OWNER,       /* command line, config, API: anything goes */
    WR_ORIGIN_LAN,         /* mDNS: private addresses on our links */
    WR_ORIGIN_STRANGER,    /* DHT, identify, records */
};

struct wr_policy {
    struct wr_cidr public_blocks[WR_POLICY_PUBLIC_MAX];
    size_t public_count;
    struct wr_ifaddr *links;    /* owned; our interfaces, refreshed by the owner */
    size_t link_count;
    struct wr_map blocked_peers, allowed_peers;    /* allowed: never refused for limits or rates */
    struct wr_cidr *blocked_nets, *allowed_nets;   /* owned */
    size_t blocked_net_count, allowed_net_count;
    struct wr_map rates;
    struct wr_list rate_order;
};

void wr_policy_init(struct wr_policy *p, const uint8_t seed[static WR_MAP_SEED]);
void wr_policy_clear(struct wr_policy *p);
/* At most WR_IFADDRS_MAX. Out of memory: none, which errs on the side of not dialling. */
void wr_policy_set_links(struct wr_policy *p, const struct wr_ifaddr *links, size_t count);
int wr_policy_add_public(struct wr_policy *p, const struct wr_cidr *block);    /* 0, WR_ELIMIT */
/* Publicly routable, --public blocks included. */
bool wr_policy_is_public(const struct wr_policy *p, const struct wr_ip *ip);
bool wr_policy_on_link(const struct wr_policy *p, const struct wr_ip *ip);    /* loopback never is */
/* 0, WR_EGATED (block list), WR_EUNREACH (the filter's no), WR_ESELF never (the swarm knows that). peer
 * may be NULL: not known. A name says 0: ask again with what it resolved to. Of a relayed address the
 * relay's is looked at. Blocking wins over allowing. */
int wr_policy_may_dial(const struct wr_policy *p, const struct wr_peerid *peer, struct wr_bytes addr,
                       enum wr_addr_origin origin);
/* 0, WR_EGATED, WR_ELIMIT (rate). Takes a token. */
int wr_policy_may_accept(struct wr_policy *p, const struct wr_ip *from, wr_time now);
bool wr_policy_peer_blocked(const struct wr_policy *p, const struct wr_peerid *peer);
bool wr_policy_peer_allowed(const struct wr_policy *p, const struct wr_peerid *peer);
bool wr_policy_net_blocked(const struct wr_policy *p, const struct wr_ip *ip);
bool wr_policy_net_allowed(const struct wr_policy *p, const struct wr_ip *ip);
/* Rules from the API: what is a peer id or CIDR in text; on = false removes. 0, WR_EINVAL, WR_ELIMIT,
 * WR_ENOTFOUND. */
int wr_policy_rule(struct wr_policy *p, bool block, const char *what, bool on);
/* The network a stranger's address counts under: IPv4 /32, IPv6 /56. */
struct wr_ip wr_policy_network(const struct wr_ip *ip);

#endif
