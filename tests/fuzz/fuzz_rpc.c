/* Control socket input: the scan under any chunking, then envelopes and parameters. The first byte
 * says how the rest is cut. */
#include "node/rpc.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(struct wr_bytes bytes)
{
    struct wr_rpc_message m;
    char text[32];
    if (wr_rpc_decode(bytes, &m))
        return;
    struct wr_params p = {.map = m.params};
    (void)wr_params_text(&p, "peer", text, sizeof(text));
    (void)wr_params_bytes(&p, "value");
    (void)wr_params_u64(&p, "timeout_ms", 0, 1000);
    (void)wr_params_bool(&p, "in", false);
    (void)wr_rpc_find(m.result, "text");
    wr_rpc_message_clear(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t chunk = (size_t)data[0] + 1;
    const uint8_t *start = data + 1;
    size_t left = size - 1, have = 0;
    struct wr_rpc_scan scan;
    wr_rpc_scan_init(&scan, 4096, 256);
    for (;;) {
        struct wr_rpc_scan whole;
        int len = wr_rpc_scan(&scan, WR_BYTES(start, have));
        if (len < 0)
            break;
        if (len == 0) {
            if (have == left)
                break;
            have = have + chunk < left ? have + chunk : left;
            continue;
        }
        wr_rpc_scan_init(&whole, 4096, 256);
        int again = wr_rpc_scan(&whole, WR_BYTES(start, left));
        assert(again == len);
        look(WR_BYTES(start, (size_t)len));
        start += len;
        left -= (size_t)len;
        have -= (size_t)len;
    }
    return 0;
}
