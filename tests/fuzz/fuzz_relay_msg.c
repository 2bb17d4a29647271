/* Hop and stop messages: any bytes lead to slices of them or to a refusal, and what was read can be written and read
 * again. The first byte chooses the side. */
#include "relay/relay_msg.h"
#include "transport/err.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(struct wr_bytes part, const uint8_t *data, size_t size)
{
    if (part.len && (part.ptr < data || part.ptr + part.len > data + size))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_relay_msg m, again;
    if (size == 0)
        return 0;
    enum wr_relay_side side = data[0] & 1 ? WR_RELAY_STOP : WR_RELAY_HOP;
    int err = wr_relay_msg_decode(side, WR_BYTES(data + 1, size - 1), &m);
    if (err != 0 && err != WR_EPROTO)
        abort();
    if (err < 0)
        return 0;
    within(m.peer, data, size);
    within(m.voucher, data, size);
    if (m.addr_count > WR_RELAY_ADDRS_MAX || (side == WR_RELAY_STOP && m.type == WR_RELAY_RESERVE))
        abort();
    for (size_t i = 0; i < m.addr_count; i++)
        within(m.addrs[i], data, size);
    struct wr_buf b;
    wr_buf_init(&b, WR_RELAY_MSG_MAX);
    wr_relay_msg_encode(side, &m, &b);
    if (!b.full) {
        if (wr_relay_msg_decode(side, wr_buf_bytes(&b), &again) != 0 || again.type != m.type ||
            again.status != m.status || again.has_limit != m.has_limit ||
            again.limit.duration != m.limit.duration || !wr_bytes_equal(again.peer, m.peer) ||
            again.addr_count != m.addr_count || !wr_bytes_equal(again.voucher, m.voucher))
            abort();
    }
    wr_buf_clear(&b);
    return 0;
}
