/* ipgroup.h - which addresses are likely to be one owner's. Value.
 * Identities are free, address blocks are not: the routing table, lookups and the provider store
 * each allow only a few peers of one group. The group of an IPv4 address is its /16, or its /8
 * where one holder has the whole legacy class A (as go-libp2p-kad-dht). IPv6 uses the /32, the
 * least a registry hands to a provider: there is no table of autonomous systems here, and a /32 is
 * finer than one in the usual case, so honest peers of a large provider are not shut out more than
 * by other implementations. A 6to4 /32 holds exactly an IPv4 /16. Only public addresses belong to a
 * group: what anybody can have in a laboratory or at home is exempt, so that small networks work.
 */
#ifndef WR_IPGROUP_H
#define WR_IPGROUP_H

#include "transport/addr.h"
#include "transport/maddr.h"

#define WR_IPGROUP_NONE 0 /* exempt, or no address at all */
#define WR_IPGROUPS_MAX 2 /* groups remembered per peer: one IPv4, one IPv6; ours */

uint64_t wr_ipgroup(const struct wr_ip *ip);
/* The group of a checked multiaddr's leading address; a relayed one counts for its relay. */
uint64_t wr_ipgroup_maddr(struct wr_bytes ma);
/* Adds a group to a list of WR_IPGROUPS_MAX ended by zeros, unless it is there or there is no room.
 */
void wr_ipgroup_add(uint64_t groups[static WR_IPGROUPS_MAX], uint64_t group);
bool wr_ipgroup_has(const uint64_t groups[static WR_IPGROUPS_MAX], uint64_t group);

#endif
