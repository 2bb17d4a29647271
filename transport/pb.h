/* pb.h - protobuf-c under a memory cap. Value.
 * A message of n bytes can ask for many times n when decoded (an empty repeated message costs two
 * bytes on the wire and a hundred in memory). This decodes into one arena with a stated ceiling and
 * frees it in one go; reaching the ceiling, running out of memory and malformed bytes are one error. */
#ifndef WR_PB_H
#define WR_PB_H

#include "transport/bytes.h"

#include <protobuf-c/protobuf-c.h>

/* Decoded message, or NULL. Free with wr_pb_free (never with protobuf-c's own). memory_max in bytes, of
 * which an ordinary message takes one allocation of about four times its length. Strings may hold any
 * bytes but end at the first NUL. */
ProtobufCMessage *wr_pb_unpack(const ProtobufCMessageDescriptor *type, struct wr_bytes in,
                               size_t memory_max);
void wr_pb_free(ProtobufCMessage *message);    /* NULL is allowed */
/* Appends the encoded message to out (out->full when it does not fit). */
void wr_pb_pack(const ProtobufCMessage *message, struct wr_buf *out);
/* A bytes field that borrows. */
static inline ProtobufCBinaryData wr_pb_bytes(struct wr_bytes b)
{
    union {
        const uint8_t *in;
        uint8_t *out;    /* protobuf-c has no const; packing only reads */
    } ptr = {.in = b.ptr};
    return (ProtobufCBinaryData){.len = b.len, .data = ptr.out};
}

/* ---- reading in place: for small messages whose fields stay slices of the input, without memory */
enum wr_pb_wire { WR_PB_VARINT = 0, WR_PB_FIXED64 = 1, WR_PB_BYTES = 2, WR_PB_FIXED32 = 5 };

struct wr_pb_field {
    uint32_t number;
    enum wr_pb_wire wire;
    uint64_t value;           /* of the three numeric wire types, else 0 */
    struct wr_bytes bytes;    /* of WR_PB_BYTES: borrowed from the input */
};

/* Takes the next field off *rest. 1; 0: at the end; WR_EPROTO: malformed, or the groups of old. A field
 * that comes twice is the caller's to judge (protobuf: the last one counts). */
int wr_pb_next(struct wr_bytes *rest, struct wr_pb_field *field);

#endif
