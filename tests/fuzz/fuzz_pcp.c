/* Whatever claims to come from a router, as PCP: decoded without reading beyond it, and what was decoded stays within
 * its bounds when it is asked for in turn. */
#include "autonat/pcp.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct wr_pcp_answer a, again;
    uint8_t ask[WR_PCP_ASK_MAX];
    if (wr_pcp_decode(WR_BYTES(data, len), &a) != 0 || !a.map)
        return 0;
    assert(len >= 60 && len <= WR_PCP_PACKET_MAX);
    assert(a.mapping.external.family == 4 || a.mapping.external.family == 6);
    /* A request differs from an answer in the bit that says so, and in what both call their own. */
    assert(wr_pcp_ask_map(ask, &a.mapping.external, &a.mapping, a.lifetime) == sizeof(ask));
    assert(wr_pcp_decode(WR_BYTES(ask, sizeof(ask)), &again) != 0);
    ask[1] |= 0x80;
    ask[3] = a.result;
    assert(wr_pcp_decode(WR_BYTES(ask, sizeof(ask)), &again) == 0 && again.map);
    assert(again.lifetime == a.lifetime && again.mapping.udp == a.mapping.udp);
    assert(again.mapping.internal == a.mapping.internal && again.mapping.outside == a.mapping.outside);
    assert(memcmp(again.mapping.nonce, a.mapping.nonce, WR_PCP_NONCE) == 0);
    assert(wr_ip_equal(&again.mapping.external, &a.mapping.external));
    return 0;
}
