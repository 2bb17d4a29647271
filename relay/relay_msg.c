#include "relay/relay_msg.h"

#include "transport/err.h"
#include "transport/pb.h"
#include "transport/varint.h"

#include <string.h>

/* Fields as HopMessage numbers them; StopMessage has no reservation and moves up what follows. */
enum field { TYPE = 1, PEER, RESERVATION, LIMIT, STATUS };
enum { PEER_ID = 1 };
enum { RESERVATION_EXPIRE = 1, RESERVATION_ADDRS, RESERVATION_VOUCHER };
enum { LIMIT_DURATION = 1, LIMIT_DATA };

static uint32_t number_of(enum wr_relay_side side, enum field field)
{
    return side == WR_RELAY_STOP && field > RESERVATION ? (uint32_t)field - 1 : (uint32_t)field;
}

static uint32_t field_of(enum wr_relay_side side, uint32_t number)
{
    return side == WR_RELAY_STOP && number >= RESERVATION ? number + 1 : number;
}

/* ---- reading -------------------------------------------------------------------------------------------- */

static int decode_peer(struct wr_bytes in, struct wr_relay_msg *out)
{
    struct wr_pb_field f;
    int rc;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number != PEER_ID)
            continue;
        if (f.wire != WR_PB_BYTES)
            return WR_EPROTO;
        out->peer = f.bytes;
    }
    return rc;
}

static int decode_reservation(struct wr_bytes in, struct wr_relay_msg *out)
{
    struct wr_pb_field f;
    int rc;
    out->has_reservation = true;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number == 0 || f.number > RESERVATION_VOUCHER)
            continue;
        if (f.wire != (f.number == RESERVATION_EXPIRE ? WR_PB_VARINT : WR_PB_BYTES))
            return WR_EPROTO;
        if (f.number == RESERVATION_EXPIRE)
            out->expire = f.value;
        else if (f.number == RESERVATION_VOUCHER)
            out->voucher = f.bytes;
        else if (out->addr_count < WR_RELAY_ADDRS_MAX)
            out->addrs[out->addr_count++] = f.bytes;
    }
    return rc;
}

static int decode_limit(struct wr_bytes in, struct wr_relay_msg *out)
{
    struct wr_pb_field f;
    int rc;
    out->has_limit = true;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number != LIMIT_DURATION && f.number != LIMIT_DATA)
            continue;
        if (f.wire != WR_PB_VARINT)
            return WR_EPROTO;
        if (f.number == LIMIT_DATA)
            out->limit.data = f.value;
        else
            out->limit.duration = f.value < UINT32_MAX ? (uint32_t)f.value : UINT32_MAX;
    }
    return rc;
}

static int take(enum wr_relay_side side, const struct wr_pb_field *f, struct wr_relay_msg *out)
{
    uint32_t field = field_of(side, f->number);
    if (field == 0 || field > STATUS)
        return 0;
    if (f->wire != (field == TYPE || field == STATUS ? WR_PB_VARINT : WR_PB_BYTES))
        return WR_EPROTO;
    switch (field) {
    case TYPE:
        if (f->value > (side == WR_RELAY_HOP ? 2u : 1u))
            return WR_EPROTO;
        out->type = (enum wr_relay_type)(f->value + (side == WR_RELAY_STOP));
        return 0;
    case STATUS:
        out->status = f->value <= UINT16_MAX ? (unsigned)f->value : UINT16_MAX;
        return 0;
    case PEER:
        return decode_peer(f->bytes, out);
    case RESERVATION:
        return decode_reservation(f->bytes, out);
    default:
        return decode_limit(f->bytes, out);
    }
}

int wr_relay_msg_decode(enum wr_relay_side side, struct wr_bytes in, struct wr_relay_msg *out)
{
    struct wr_pb_field f;
    int rc;
    memset(out, 0, sizeof(*out));
    if (in.len > WR_RELAY_MSG_MAX)
        return WR_EPROTO;
    out->type = side == WR_RELAY_HOP ? WR_RELAY_RESERVE : WR_RELAY_CONNECT;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        rc = take(side, &f, out);
        if (rc < 0)
            return rc;
    }
    return rc;
}

int wr_relay_msg_err(unsigned status)
{
    switch (status) {
    case WR_RELAY_OK:
        return 0;
    case WR_RELAY_REFUSED:
        return WR_EREFUSED;
    case WR_RELAY_FULL:
        return WR_EFULL;
    case WR_RELAY_DENIED:
        return WR_EPERM;
    case WR_RELAY_FAILED:
        return WR_EUNREACH;
    case WR_RELAY_NOT_THERE:
        return WR_ENOTFOUND;
    }
    return WR_EPROTO;
}

/* ---- writing -------------------------------------------------------------------------------------------- */

static void put_number(struct wr_buf *b, uint32_t field, uint64_t value)
{
    wr_buf_put_uvarint(b, (uint64_t)field << 3 | WR_PB_VARINT);
    /* Values above 63 bits do not occur here; the varint of multiformats ends there. */
    wr_buf_put_uvarint(b, value & INT64_MAX);
}

static void put_bytes(struct wr_buf *b, uint32_t field, struct wr_bytes value)
{
    wr_buf_put_uvarint(b, (uint64_t)field << 3 | WR_PB_BYTES);
    wr_buf_put_prefixed(b, value);
}

static void put_part(struct wr_buf *b, uint32_t field, struct wr_buf *part)
{
    put_bytes(b, field, wr_buf_bytes(part));
    b->full = b->full || part->full;
    wr_buf_reset(part);
}

void wr_relay_msg_encode(enum wr_relay_side side, const struct wr_relay_msg *m, struct wr_buf *out)
{
    uint8_t memory[WR_RELAY_MSG_MAX];
    struct wr_buf part;
    wr_buf_over(&part, memory, sizeof(memory));
    put_number(out, TYPE, (uint64_t)m->type - (side == WR_RELAY_STOP));
    if (m->peer.len) {
        put_bytes(&part, PEER_ID, m->peer);
        put_part(out, PEER, &part);
    }
    if (m->has_reservation && side == WR_RELAY_HOP) {
        put_number(&part, RESERVATION_EXPIRE, m->expire);
        for (size_t i = 0; i < m->addr_count; i++)
            put_bytes(&part, RESERVATION_ADDRS, m->addrs[i]);
        if (m->voucher.len)
            put_bytes(&part, RESERVATION_VOUCHER, m->voucher);
        put_part(out, RESERVATION, &part);
    }
    if (m->has_limit) {
        if (m->limit.duration)
            put_number(&part, LIMIT_DURATION, m->limit.duration);
        if (m->limit.data)
            put_number(&part, LIMIT_DATA, m->limit.data);
        put_part(out, number_of(side, LIMIT), &part);
    }
    if (m->status)
        put_number(out, number_of(side, STATUS), m->status);
}
