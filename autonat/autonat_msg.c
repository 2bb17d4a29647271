#include "autonat/autonat_msg.h"

#include "transport/err.h"
#include "transport/pb.h"
#include "transport/varint.h"

#include <string.h>

#define FIELD_STRANGER 4250 /* ours; see autonat_msg.h */
#define FIELD_PEER     4251

/* ---- fields ---------------------------------------------------------------------------------------- */

static void put_uint(struct wr_buf *b, uint32_t field, uint64_t v)
{
    wr_buf_put_uvarint(b, (uint64_t)field << 3 | WR_PB_VARINT);
    wr_buf_put_uvarint(b, v);
}

/* proto3 leaves out what is zero. */
static void put_set(struct wr_buf *b, uint32_t field, uint64_t v)
{
    if (v)
        put_uint(b, field, v);
}

static void put_fixed64(struct wr_buf *b, uint32_t field, uint64_t v)
{
    wr_buf_put_uvarint(b, (uint64_t)field << 3 | WR_PB_FIXED64);
    for (unsigned i = 0; i < 8; i++)
        wr_buf_put_u8(b, (uint8_t)(v >> (8 * i)));
}

static void put_bytes(struct wr_buf *b, uint32_t field, struct wr_bytes v)
{
    wr_buf_put_uvarint(b, (uint64_t)field << 3 | WR_PB_BYTES);
    wr_buf_put_prefixed(b, v);
}

/* One level of nesting: everything since `start` becomes the bytes of `field`. */
static void nest(struct wr_buf *b, size_t start, uint32_t field)
{
    if (b->full)
        return;
    size_t len = b->len - start;
    struct wr_buf inner;
    wr_buf_init(&inner, len);
    if (len)
        wr_buf_put(&inner, b->data + start, len);
    b->full = inner.full;
    b->len = b->full ? b->len : start;
    put_bytes(b, field, wr_buf_bytes(&inner));
    wr_buf_clear(&inner);
}

static bool is(const struct wr_pb_field *f, uint32_t number, enum wr_pb_wire wire)
{
    return f->number == number && f->wire == wire;
}

/* ---- version 2: reading ---------------------------------------------------------------------------- */

static int decode_request(struct wr_bytes in, struct wr_autonat_msg *out)
{
    struct wr_pb_field f;
    int rc;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (is(&f, 1, WR_PB_BYTES) && out->addr_count < WR_AUTONAT_ADDRS)
            out->addrs[out->addr_count++] = f.bytes;
        else if (is(&f, 2, WR_PB_FIXED64))
            out->nonce = f.value;
        else if (is(&f, FIELD_STRANGER, WR_PB_VARINT))
            out->stranger = f.value != 0;
        else if (is(&f, FIELD_PEER, WR_PB_BYTES))
            out->peer = f.bytes;
        else if (f.number == 1 ? f.wire != WR_PB_BYTES : f.number == 2)
            return WR_EPROTO;
    }
    return rc;
}

static int decode_response(struct wr_bytes in, struct wr_autonat_msg *out)
{
    struct wr_pb_field f;
    int rc;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number <= 3 && f.wire != WR_PB_VARINT)
            return WR_EPROTO;
        if (f.number == 1)
            out->status = (uint32_t)f.value;
        else if (f.number == 2)
            out->index = (uint32_t)f.value;
        else if (f.number == 3)
            out->dial_status = (uint32_t)f.value;
        else if (is(&f, FIELD_STRANGER, WR_PB_VARINT))
            out->stranger = f.value != 0;
    }
    return rc;
}

static int decode_data_request(struct wr_bytes in, struct wr_autonat_msg *out)
{
    struct wr_pb_field f;
    int rc;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number <= 2 && f.wire != WR_PB_VARINT)
            return WR_EPROTO;
        if (f.number == 1)
            out->index = (uint32_t)f.value;
        else if (f.number == 2)
            out->bytes = f.value;
    }
    return rc;
}

static int decode_data(struct wr_bytes in, struct wr_autonat_msg *out)
{
    struct wr_pb_field f;
    int rc;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number == 1 && f.wire != WR_PB_BYTES)
            return WR_EPROTO;
        if (f.number == 1)
            out->data = f.bytes;
    }
    return rc;
}

int wr_autonat_msg_decode(struct wr_bytes in, struct wr_autonat_msg *out)
{
    struct wr_pb_field f, last = {.number = 0};
    int rc;
    memset(out, 0, sizeof(*out));
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number > WR_AUTONAT_DATA_RESPONSE)
            continue;
        if (f.wire != WR_PB_BYTES)
            return WR_EPROTO;
        last = f; /* of a oneof the last one counts */
    }
    if (rc < 0)
        return rc;
    out->type = (enum wr_autonat_type)last.number;
    switch (last.number) {
    case WR_AUTONAT_DIAL_REQUEST:
        return decode_request(last.bytes, out);
    case WR_AUTONAT_DIAL_RESPONSE:
        return decode_response(last.bytes, out);
    case WR_AUTONAT_DATA_REQUEST:
        return decode_data_request(last.bytes, out);
    case WR_AUTONAT_DATA_RESPONSE:
        return decode_data(last.bytes, out);
    default:
        return WR_EPROTO;
    }
}

int wr_autonat_msg_decode_back(struct wr_bytes in, uint64_t *nonce)
{
    struct wr_pb_field f;
    int rc;
    *nonce = 0;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number == 1 && f.wire != WR_PB_FIXED64)
            return WR_EPROTO;
        if (f.number == 1)
            *nonce = f.value;
    }
    return rc;
}

int wr_autonat_msg_decode_back_response(struct wr_bytes in, uint32_t *status)
{
    struct wr_pb_field f;
    int rc;
    *status = 0;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number == 1 && f.wire != WR_PB_VARINT)
            return WR_EPROTO;
        if (f.number == 1)
            *status = (uint32_t)f.value;
    }
    return rc;
}

/* ---- version 2: writing ---------------------------------------------------------------------------- */

void wr_autonat_msg_encode(const struct wr_autonat_msg *m, struct wr_buf *out)
{
    size_t start = out->len;
    switch (m->type) {
    case WR_AUTONAT_DIAL_REQUEST:
        for (size_t i = 0; i < m->addr_count; i++)
            put_bytes(out, 1, m->addrs[i]);
        put_fixed64(out, 2, m->nonce);
        put_set(out, FIELD_STRANGER, m->stranger);
        if (m->peer.len)
            put_bytes(out, FIELD_PEER, m->peer);
        break;
    case WR_AUTONAT_DIAL_RESPONSE:
        put_set(out, 1, m->status);
        put_set(out, 2, m->index);
        put_set(out, 3, m->dial_status);
        put_set(out, FIELD_STRANGER, m->stranger);
        break;
    case WR_AUTONAT_DATA_REQUEST:
        put_set(out, 1, m->index);
        put_set(out, 2, m->bytes);
        break;
    case WR_AUTONAT_DATA_RESPONSE:
        put_bytes(out, 1, m->data);
        break;
    }
    nest(out, start, (uint32_t)m->type);
}

void wr_autonat_msg_encode_back(uint64_t nonce, struct wr_buf *out)
{
    put_fixed64(out, 1, nonce);
}

/* ---- version 1 ------------------------------------------------------------------------------------- */

static int decode_peer(struct wr_bytes in, struct wr_autonat_v1_msg *out)
{
    struct wr_pb_field f;
    int rc;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number <= 2 && f.wire != WR_PB_BYTES)
            return WR_EPROTO;
        if (f.number == 1)
            out->peer = f.bytes;
        else if (f.number == 2 && out->addr_count < WR_AUTONAT_V1_ADDRS)
            out->addrs[out->addr_count++] = f.bytes;
    }
    return rc;
}

static int decode_dial(struct wr_bytes in, struct wr_autonat_v1_msg *out)
{
    struct wr_pb_field f;
    int rc;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number != 1)
            continue;
        if (f.wire != WR_PB_BYTES || decode_peer(f.bytes, out) < 0)
            return WR_EPROTO;
    }
    return rc;
}

static int decode_v1_response(struct wr_bytes in, struct wr_autonat_v1_msg *out)
{
    struct wr_pb_field f;
    int rc;
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if ((f.number == 1 && f.wire != WR_PB_VARINT) || (f.number == 3 && f.wire != WR_PB_BYTES))
            return WR_EPROTO;
        if (f.number == 1)
            out->status = (uint32_t)f.value;
        else if (f.number == 3)
            out->addr = f.bytes;
    }
    return rc;
}

int wr_autonat_msg_decode_v1(struct wr_bytes in, struct wr_autonat_v1_msg *out)
{
    struct wr_pb_field f;
    uint64_t type = UINT64_MAX;
    int rc;
    memset(out, 0, sizeof(*out));
    while ((rc = wr_pb_next(&in, &f)) == 1) {
        if (f.number <= 3 && f.wire != (f.number == 1 ? WR_PB_VARINT : WR_PB_BYTES))
            return WR_EPROTO;
        if (f.number == 1)
            type = f.value;
        else if (f.number == 2 && decode_dial(f.bytes, out) < 0)
            return WR_EPROTO;
        else if (f.number == 3 && decode_v1_response(f.bytes, out) < 0)
            return WR_EPROTO;
    }
    out->response = type == 1;
    return rc < 0 || type > 1 ? WR_EPROTO : 0;
}

void wr_autonat_msg_encode_v1(const struct wr_autonat_v1_msg *m, struct wr_buf *out)
{
    put_uint(out, 1, m->response); /* proto2: written also when it is zero */
    size_t start = out->len;
    if (m->response) {
        put_uint(out, 1, m->status);
        if (m->addr.len)
            put_bytes(out, 3, m->addr);
        nest(out, start, 3);
        return;
    }
    put_bytes(out, 1, m->peer);
    for (size_t i = 0; i < m->addr_count; i++)
        put_bytes(out, 2, m->addrs[i]);
    nest(out, start, 1);
    nest(out, start, 2);
}
