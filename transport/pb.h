/* pb.h - protobuf-c under a memory cap. Value.
 * A message of n bytes can ask for many times n when decoded (an empty repeated message costs two
 * bytes on the wire and a hundred in memory). This decodes into one arena with a stated ceiling and
 * frees it in one go; reaching the ceiling, running out of memory and malformed bytes are one error. */
#ifndef WR_PB_H
#define WR_PB_H

#include "transport/bytes.h"

#include <protobuf-c/protobuf-c.h>

/* Decoded message, or NULL. Free with wr_pb_free. memory_max in bytes. */
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

#endif
