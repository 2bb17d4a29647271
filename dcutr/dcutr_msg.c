#include "dcutr/dcutr_msg.h"

#include "transport/err.h"
#include "transport/pb.h"
#include "transport/varint.h"

#include <string.h>

enum field { FIELD_TYPE = 1, FIELD_ADDR = 2 };

struct counts {
    size_t tcp, quic;
};

/* An address of use, within the bound of its transport. */
static bool counts_in(struct counts *n, struct wr_bytes bare)
{
    struct wr_addr addr;
    enum wr_maddr_kind kind = wr_maddr_kind(bare);
    if ((kind != WR_MADDR_TCP && kind != WR_MADDR_QUIC) || !wr_maddr_addr(bare, &addr))
        return false;
    size_t *count = kind == WR_MADDR_TCP ? &n->tcp : &n->quic;
    if (*count == WR_DCUTR_EACH_MAX)
        return false;
    ++*count;
    return true;
}

static void take_addr(struct wr_dcutr_msg *m, struct counts *n, struct wr_bytes bytes)
{
    struct wr_maddr addr;
    if (wr_maddr_decode(bytes, &addr) != 0)
        return;
    struct wr_bytes bare = wr_maddr_strip_peer(wr_maddr_bytes(&addr));
    if (!counts_in(n, bare))
        return;
    m->addrs[m->count].len = 0;
    if (wr_maddr_append(&m->addrs[m->count], bare) == 0)
        m->count++;
}

int wr_dcutr_msg_decode(struct wr_bytes in, struct wr_dcutr_msg *out)
{
    struct wr_pb_field f;
    struct counts n = {0};
    uint64_t type = 0;
    int rc;
    memset(out, 0, sizeof(*out));
    if (in.len > WR_DCUTR_READ_MAX)
        return WR_EPROTO;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if ((f.number == FIELD_TYPE && f.wire != WR_PB_VARINT) ||
            (f.number == FIELD_ADDR && f.wire != WR_PB_BYTES))
            return WR_EPROTO;
        if (f.number == FIELD_TYPE)
            type = f.value;
        if (f.number == FIELD_ADDR)
            take_addr(out, &n, f.bytes);
    }
    if (rc < 0 || (type != WR_DCUTR_CONNECT && type != WR_DCUTR_SYNC))
        return WR_EPROTO;
    out->type = (enum wr_dcutr_type)type;
    return 0;
}

void wr_dcutr_msg_encode(const struct wr_dcutr_msg *m, struct wr_buf *out)
{
    struct counts n = {0};
    size_t used = 1 + wr_uvarint_len((uint64_t)m->type);
    wr_buf_put_uvarint(out, FIELD_TYPE << 3 | WR_PB_VARINT);
    wr_buf_put_uvarint(out, (uint64_t)m->type);
    for (size_t i = 0; i < m->count; i++) {
        struct wr_bytes addr = wr_maddr_bytes(&m->addrs[i]);
        size_t size = 1 + wr_uvarint_len(addr.len) + addr.len;
        if (used + size > WR_DCUTR_SEND_MAX || !counts_in(&n, addr))
            continue;
        used += size;
        wr_buf_put_uvarint(out, FIELD_ADDR << 3 | WR_PB_BYTES);
        wr_buf_put_prefixed(out, addr);
    }
}
