#include "transport/nat.h"

const char *wr_reachability_name(enum wr_reachability reachability)
{
    static const char *const names[] = {"unknown", "public", "private"};
    return names[reachability];
}

bool wr_nat_translates(const struct wr_nat *nat)
{
    return nat->udp.mapping > WR_NAT_MAP_NONE || nat->tcp.mapping > WR_NAT_MAP_NONE;
}
