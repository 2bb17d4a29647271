#include "autonat/pcp.h"

#include "transport/err.h"

#include <string.h>

#define VERSION     2
#define OP_ANNOUNCE 0
#define OP_MAP      1
#define OP_ANSWER   128
#define PROTO_TCP   6
#define PROTO_UDP   17

/* 16 bytes: IPv4 addresses are written as IPv4-mapped ones. */
static void put_ip(struct wr_buf *b, const struct wr_ip *ip)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (ip->family == 4) {
        wr_buf_put(b, mapped, sizeof(mapped));
        wr_buf_put(b, ip->bytes, 4);
    } else {
        wr_buf_put(b, ip->bytes, 16);
    }
}

static struct wr_ip get_ip(struct wr_bytes in)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct wr_ip ip = {.family = memcmp(in.ptr, mapped, sizeof(mapped)) == 0 ? 4 : 6};
    size_t skip = ip.family == 4 ? sizeof(mapped) : 0;
    memcpy(ip.bytes, in.ptr + skip, 16 - skip);
    return ip;
}

static void put_head(struct wr_buf *b, uint8_t op, uint32_t lifetime, const struct wr_ip *client)
{
    wr_buf_put_u8(b, VERSION);
    wr_buf_put_u8(b, op);
    wr_buf_put_u16be(b, 0);
    wr_buf_put_u32be(b, lifetime);
    put_ip(b, client);
}

size_t wr_pcp_ask_announce(uint8_t out[static WR_PCP_ASK_MAX], const struct wr_ip *client)
{
    struct wr_buf b;
    wr_buf_over(&b, out, WR_PCP_ASK_MAX);
    put_head(&b, OP_ANNOUNCE, 0, client);
    return b.len;
}

size_t wr_pcp_ask_map(uint8_t out[static WR_PCP_ASK_MAX], const struct wr_ip *client,
                      const struct wr_pcp_map *map, uint32_t lifetime)
{
    /* "Any address" is written in the family that is wanted (section 11.2). */
    struct wr_ip any = {.family = client->family};
    struct wr_buf b;
    wr_buf_over(&b, out, WR_PCP_ASK_MAX);
    put_head(&b, OP_MAP, lifetime, client);
    wr_buf_put(&b, map->nonce, WR_PCP_NONCE);
    wr_buf_put_u8(&b, map->udp ? PROTO_UDP : PROTO_TCP);
    wr_buf_put_u8(&b, 0);
    wr_buf_put_u16be(&b, 0);
    wr_buf_put_u16be(&b, map->internal);
    wr_buf_put_u16be(&b, map->outside);
    put_ip(&b, map->external.family ? &map->external : &any);
    return b.len;
}

static int read_map(struct wr_reader *r, struct wr_pcp_answer *out)
{
    struct wr_bytes nonce = wr_read_bytes(r, WR_PCP_NONCE);
    uint8_t protocol = wr_read_u8(r);
    (void)wr_read_bytes(r, 3);
    out->mapping.internal = wr_read_u16be(r);
    out->mapping.outside = wr_read_u16be(r);
    struct wr_bytes ip = wr_read_bytes(r, 16);
    if (r->bad || (protocol != PROTO_TCP && protocol != PROTO_UDP))
        return WR_EPROTO;
    memcpy(out->mapping.nonce, nonce.ptr, WR_PCP_NONCE);
    out->mapping.udp = protocol == PROTO_UDP;
    out->mapping.external = get_ip(ip);
    out->map = true;
    return 0;
}

int wr_pcp_decode(struct wr_bytes in, struct wr_pcp_answer *out)
{
    struct wr_reader r;
    wr_reader_init(&r, in);
    *out = (struct wr_pcp_answer){0};
    uint8_t version = wr_read_u8(&r), op = wr_read_u8(&r);
    (void)wr_read_u8(&r);
    out->result = wr_read_u8(&r);
    out->lifetime = wr_read_u32be(&r);
    out->epoch = wr_read_u32be(&r);
    (void)wr_read_bytes(&r, 12);
    if (!r.bad && version != VERSION)
        return WR_EUNSUPPORTED;
    if (r.bad || in.len > WR_PCP_PACKET_MAX || in.len % 4 != 0 || op < OP_ANSWER)
        return WR_EPROTO;
    if (op == OP_ANSWER + OP_MAP)
        return read_map(&r, out);
    return op == OP_ANSWER + OP_ANNOUNCE || out->result == WR_PCP_VERSION ? 0 : WR_EPROTO;
}
