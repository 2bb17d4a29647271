#include "autonat/natpmp.h"

#include "transport/err.h"

#include <string.h>

#define OP_ADDRESS 0
#define OP_MAP_UDP 1
#define OP_MAP_TCP 2
#define OP_ANSWER  128

size_t wr_natpmp_ask_address(uint8_t out[static WR_NATPMP_ASK_MAX])
{
    memset(out, 0, 2);
    return 2;
}

size_t wr_natpmp_ask_map(uint8_t out[static WR_NATPMP_ASK_MAX], bool udp, uint16_t internal,
                         uint16_t outside, uint32_t lifetime)
{
    struct wr_buf b;
    wr_buf_over(&b, out, WR_NATPMP_ASK_MAX);
    wr_buf_put_u8(&b, 0);
    wr_buf_put_u8(&b, udp ? OP_MAP_UDP : OP_MAP_TCP);
    wr_buf_put_u16be(&b, 0);
    wr_buf_put_u16be(&b, internal);
    wr_buf_put_u16be(&b, outside);
    wr_buf_put_u32be(&b, lifetime);
    return b.len;
}

int wr_natpmp_decode(struct wr_bytes in, struct wr_natpmp_answer *out)
{
    struct wr_reader r;
    wr_reader_init(&r, in);
    *out = (struct wr_natpmp_answer){0};
    uint8_t version = wr_read_u8(&r), op = wr_read_u8(&r);
    out->result = wr_read_u16be(&r);
    out->epoch = wr_read_u32be(&r);
    if (r.bad || version != 0 || op < OP_ANSWER)
        return WR_EPROTO;
    out->map = op != OP_ANSWER + OP_ADDRESS;
    out->udp = op == OP_ANSWER + OP_MAP_UDP;
    if (out->result != WR_NATPMP_OK) /* the rest means nothing, and some routers leave it out */
        return 0;
    if (op > OP_ANSWER + OP_MAP_TCP)
        return WR_EPROTO;
    if (!out->map) {
        struct wr_bytes ip = wr_read_bytes(&r, 4);
        if (r.bad)
            return WR_EPROTO;
        out->external.family = 4;
        memcpy(out->external.bytes, ip.ptr, 4);
        return 0;
    }
    out->internal = wr_read_u16be(&r);
    out->outside = wr_read_u16be(&r);
    out->lifetime = wr_read_u32be(&r);
    return r.bad ? WR_EPROTO : 0;
}
