#include "transport/pb.h"

#include "transport/err.h"

#include <assert.h>
#include <stdalign.h>
#include <string.h>

#define ARENA_SLACK 512  /* bytes beside the message's own in a first block */
#define ARENA_BLOCK 4096 /* bytes of a further block, at least */

/* The arena is a list of blocks. The first one begins with the arena itself and the decoded message
 * follows at once, so that wr_pb_free finds one from the other. */
struct block {
    struct block *next;
    size_t size, used; /* bytes behind the header */
    alignas(max_align_t) uint8_t data[];
};

struct arena {
    size_t left;          /* bytes that may still be asked of the system */
    struct block *blocks; /* newest first */
};

static size_t rounded(size_t size)
{
    size_t unit = alignof(max_align_t);
    return (size + unit - 1) / unit * unit;
}

static struct block *add_block(struct arena *a, size_t size)
{
    if (size > a->left)
        return NULL;
    struct block *b = wr_alloc(sizeof(*b) + size);
    if (!b)
        return NULL;
    b->size = size;
    b->next = a->blocks;
    a->blocks = b;
    a->left -= size;
    return b;
}

static void *arena_alloc(void *arg, size_t size)
{
    struct arena *a = arg;
    struct block *b = a->blocks;
    if (size > a->left + b->size)
        return NULL;
    size = rounded(size);
    if (size > b->size - b->used) {
        size_t want = size > ARENA_BLOCK ? size : ARENA_BLOCK;
        b = add_block(a, want < a->left ? want : size);
        if (!b)
            return NULL;
    }
    void *out = b->data + b->used;
    b->used += size;
    return out;
}

static void arena_free(void *arg, void *memory)
{
    /* Everything goes at once, in wr_pb_free. */
    (void)arg;
    (void)memory;
}

static void free_blocks(struct block *b)
{
    while (b) {
        struct block *next = b->next;
        wr_free(b);
        b = next;
    }
}

ProtobufCMessage *wr_pb_unpack(const ProtobufCMessageDescriptor *type, struct wr_bytes in,
                               size_t memory_max)
{
    struct arena *a;
    size_t head = rounded(sizeof(*a));
    size_t first = head + rounded(type->sizeof_message);
    if (first > memory_max)
        return NULL;
    size_t guess = 4 * in.len + ARENA_SLACK;
    if (in.len > memory_max || guess > memory_max - first)
        guess = memory_max - first;
    struct arena seed = {.left = memory_max};
    struct block *b = add_block(&seed, first + guess);
    if (!b)
        return NULL;
    a = (struct arena *)(void *)b->data;
    *a = seed;
    b->used = head;
    ProtobufCAllocator allocator = {arena_alloc, arena_free, a};
    ProtobufCMessage *message =
        protobuf_c_message_unpack(type, &allocator, in.len, in.len ? in.ptr : (const uint8_t *)"");
    if (!message) {
        free_blocks(a->blocks);
        return NULL;
    }
    assert((uint8_t *)message == b->data + head);
    return message;
}

void wr_pb_free(ProtobufCMessage *message)
{
    if (!message)
        return;
    struct arena *a = (struct arena *)(void *)((uint8_t *)message - rounded(sizeof(*a)));
    free_blocks(a->blocks);
}

void wr_pb_pack(const ProtobufCMessage *message, struct wr_buf *out)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *room = wr_buf_reserve(out, len);
    if (room)
        wr_buf_grew(out, protobuf_c_message_pack(message, room));
}

/* Protobuf's varint: up to ten bytes, any length of the same value, bits above 64 dropped. */
static bool take_varint(struct wr_bytes *rest, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 70 && rest->len; shift += 7) {
        uint8_t byte = wr_bytes_take(rest, 1).ptr[0];
        *v |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

static bool take_fixed(struct wr_bytes *rest, size_t len, uint64_t *v)
{
    *v = 0;
    if (rest->len < len)
        return false;
    struct wr_bytes b = wr_bytes_take(rest, len);
    for (size_t i = 0; i < len; i++)
        *v |= (uint64_t)b.ptr[i] << (8 * i);
    return true;
}

int wr_pb_next(struct wr_bytes *rest, struct wr_pb_field *field)
{
    uint64_t tag, len;
    if (!rest->len)
        return 0;
    *field = (struct wr_pb_field){0};
    if (!take_varint(rest, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
        return WR_EPROTO;
    field->number = (uint32_t)(tag >> 3);
    field->wire = (enum wr_pb_wire)(tag & 7);
    switch (field->wire) {
    case WR_PB_VARINT:
        return take_varint(rest, &field->value) ? 1 : WR_EPROTO;
    case WR_PB_FIXED64:
        return take_fixed(rest, 8, &field->value) ? 1 : WR_EPROTO;
    case WR_PB_FIXED32:
        return take_fixed(rest, 4, &field->value) ? 1 : WR_EPROTO;
    case WR_PB_BYTES:
        if (!take_varint(rest, &len) || len > rest->len)
            return WR_EPROTO;
        field->bytes = wr_bytes_take(rest, (size_t)len);
        return 1;
    default:
        return WR_EPROTO;
    }
}
