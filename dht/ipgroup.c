#include "dht/ipgroup.h"

/* Legacy class A blocks with one holder each (go-libp2p-kbucket, peerdiversity). */
static bool whole_class_a(uint8_t first)
{
    static const uint8_t holders[] = {12, 17, 19, 38, 48, 53, 56, 73};
    for (size_t i = 0; i < sizeof(holders); i++) {
        if (holders[i] == first)
            return true;
    }
    return false;
}

uint64_t wr_ipgroup(const struct wr_ip *ip)
{
    if (wr_ip_classify(ip) != WR_IP_PUBLIC)
        return WR_IPGROUP_NONE;
    const uint8_t *b = ip->bytes;
    if (ip->family == 4 && whole_class_a(b[0]))
        return (uint64_t)0x0408 << 32 | b[0];
    if (ip->family == 4)
        return (uint64_t)0x0416 << 32 | (uint64_t)b[0] << 8 | b[1];
    if (ip->family == 6)
        return (uint64_t)0x0632 << 32 | (uint64_t)b[0] << 24 | (uint64_t)b[1] << 16 |
               (uint64_t)b[2] << 8 | b[3];
    return WR_IPGROUP_NONE;
}

uint64_t wr_ipgroup_maddr(struct wr_bytes ma)
{
    struct wr_addr addr;
    return wr_maddr_addr(ma, &addr) ? wr_ipgroup(&addr.ip) : WR_IPGROUP_NONE;
}

void wr_ipgroup_add(uint64_t groups[static WR_IPGROUPS_MAX], uint64_t group)
{
    if (group == WR_IPGROUP_NONE)
        return;
    for (size_t i = 0; i < WR_IPGROUPS_MAX; i++) {
        if (groups[i] == group)
            return;
        if (groups[i] == WR_IPGROUP_NONE) {
            groups[i] = group;
            return;
        }
    }
}

bool wr_ipgroup_has(const uint64_t groups[static WR_IPGROUPS_MAX], uint64_t group)
{
    for (size_t i = 0; i < WR_IPGROUPS_MAX; i++) {
        if (group != WR_IPGROUP_NONE && groups[i] == group)
            return true;
    }
    return false;
}
