/* What a peer says of itself: any bytes, also in several bodies, lead to slices of them or to a refusal. */
#include "identify/identify_msg.h"
#include "transport/err.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(struct wr_bytes part, const uint8_t *data, size_t size)
{
    if (part.len && (part.ptr < data || part.ptr + part.len > data + size))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_identify_msg m, half;
    int err = wr_identify_decode(WR_BYTES(data, size), &m);
    if (err != 0 && err != WR_EPROTO)
        abort();
    if (err < 0)
        return 0;
    if (m.addr_count > WR_IDENTIFY_ADDRS_MAX || m.protocol_count > WR_IDENTIFY_PROTOCOLS_MAX)
        abort();
    within(m.pubkey, data, size);
    within(m.observed, data, size);
    within(m.record, data, size);
    within(m.protocol_version, data, size);
    within(m.agent, data, size);
    for (size_t i = 0; i < m.addr_count; i++) {
        struct wr_maddr addr;
        within(m.addrs[i], data, size);
        if (wr_maddr_decode(m.addrs[i], &addr) == 0 &&
            !wr_bytes_equal(wr_maddr_bytes(&addr), m.addrs[i]))
            abort();
    }
    for (size_t i = 0; i < m.protocol_count; i++)
        within(m.protocols[i], data, size);
    /* Twice the same, one behind the other: scalars stay, lists double up to their cap. */
    uint8_t *twice = malloc(2 * size + 1);
    if (!twice)
        return 0;
    if (size) {
        memcpy(twice, data, size);
        memcpy(twice + size, data, size);
    }
    if (wr_identify_decode(WR_BYTES(twice, 2 * size), &half) != 0 ||
        !wr_bytes_equal(half.agent, m.agent) || !wr_bytes_equal(half.record, m.record))
        abort();
    size_t expect = 2 * m.addr_count < WR_IDENTIFY_ADDRS_MAX ? 2 * m.addr_count : WR_IDENTIFY_ADDRS_MAX;
    if (m.addr_count < WR_IDENTIFY_ADDRS_MAX && half.addr_count != expect)
        abort();
    free(twice);
    return 0;
}
