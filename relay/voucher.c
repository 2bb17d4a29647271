#include "relay/voucher.h"

#include "transport/err.h"
#include "transport/pb.h"

#define DOMAIN "libp2p-relay-rsvp"
#define TYPE   WR_BYTES_STR("\x03\x02")    /* as deployed; the specification's text calls it multicodec 0x0302 */

enum { RELAY = 1, PEER, EXPIRE };

static int decode(struct wr_bytes in, struct wr_voucher *v)
{
    struct wr_pb_field f;
    struct wr_bytes relay = WR_BYTES_NONE, peer = WR_BYTES_NONE;
    int rc;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number == 0 || f.number > EXPIRE)
            continue;
        if (f.wire != (f.number == EXPIRE ? WR_PB_VARINT : WR_PB_BYTES))
            return WR_EPROTO;
        if (f.number == RELAY)
            relay = f.bytes;
        else if (f.number == PEER)
            peer = f.bytes;
        else
            v->expire = f.value;
    }
    if (rc == 0)
        rc = wr_peerid_decode(relay, &v->relay);
    return rc == 0 ? wr_peerid_decode(peer, &v->peer) : rc;
}

int wr_voucher_open(struct wr_bytes in, struct wr_voucher *v)
{
    struct wr_envelope e;
    *v = (struct wr_voucher){.expire = 0};
    int rc = in.len <= WR_VOUCHER_MAX ? wr_envelope_open(in, DOMAIN, &e) : WR_EPROTO;
    if (rc == 0 && !wr_bytes_equal(e.payload_type, TYPE))
        rc = WR_EPROTO;
    if (rc == 0)
        rc = decode(e.payload, v);
    if (rc == 0 && !wr_peerid_equal(&e.signer, &v->relay))
        rc = WR_EPEERID;
    return rc;
}

void wr_voucher_seal(const struct wr_key *key, const struct wr_voucher *v, struct wr_buf *out)
{
    uint8_t memory[2 * (WR_PEERID_MAX + 2) + 12];
    struct wr_buf payload;
    wr_buf_over(&payload, memory, sizeof(memory));
    wr_buf_put_u8(&payload, RELAY << 3 | WR_PB_BYTES);
    wr_buf_put_prefixed(&payload, wr_peerid_bytes(&v->relay));
    wr_buf_put_u8(&payload, PEER << 3 | WR_PB_BYTES);
    wr_buf_put_prefixed(&payload, wr_peerid_bytes(&v->peer));
    wr_buf_put_u8(&payload, EXPIRE << 3 | WR_PB_VARINT);
    wr_buf_put_uvarint(&payload, v->expire & INT64_MAX);
    wr_envelope_seal(key, DOMAIN, TYPE, wr_buf_bytes(&payload), out);
    out->full = out->full || payload.full;
}
