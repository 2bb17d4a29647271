#include "transport/quic_order.h"

#define LONG         0x80
#define TYPE_MASK    0x30
#define HANDSHAKE    0x20
#define LENGTH_MASK  0x03    /* of the number in the header, less one */

enum { INITIAL_SPACE, HANDSHAKE_SPACE, DATA_SPACE };

static uint64_t tail_of(struct wr_bytes bytes, size_t len)
{
    uint64_t v = 0;
    for (size_t i = bytes.len - len; i < bytes.len; i++)
        v = v << 8 | bytes.ptr[i];
    return v;
}

static int space_of(uint8_t first)
{
    if (!(first & LONG))
        return DATA_SPACE;
    return (first & TYPE_MASK) == HANDSHAKE ? HANDSHAKE_SPACE : INITIAL_SPACE;
}

static void keep(struct wr_quic_order *o, const void *key, uint64_t iv)
{
    o->keys[o->next].key = key;
    o->keys[o->next].iv = iv;
    o->next = (o->next + 1) % WR_QUIC_ORDER_KEYS;
}

/* The latest one: a key's place in memory may have been another's. */
static const uint64_t *find(const struct wr_quic_order *o, const void *key)
{
    for (size_t i = 1; i <= WR_QUIC_ORDER_KEYS; i++) {
        size_t at = (o->next + WR_QUIC_ORDER_KEYS - i) % WR_QUIC_ORDER_KEYS;
        if (o->keys[at].key == key)
            return &o->keys[at].iv;
    }
    return NULL;
}

void wr_quic_order_key(struct wr_quic_order *o, const void *key, struct wr_bytes iv)
{
    keep(o, key, tail_of(iv, sizeof(uint64_t)));
}

enum wr_quic_order_verdict wr_quic_order_note(struct wr_quic_order *o, const void *key, struct wr_bytes nonce,
                                              struct wr_bytes head, bool acks)
{
    uint64_t tail = tail_of(nonce, sizeof(tail));
    int kind = space_of(head.ptr[0]);
    if (!o->space[kind].begun) {    /* before the first packet none is missing: its number is all in the header */
        uint64_t number = tail_of(head, (size_t)(head.ptr[0] & LENGTH_MASK) + 1);
        keep(o, key, tail ^ number);
        o->space[kind].begun = true;
        o->space[kind].top = number;
        o->space[kind].acked = acks;
        return WR_QUIC_ORDER_HEAR;
    }
    const uint64_t *iv = find(o, key);
    if (!iv)
        return WR_QUIC_ORDER_DROP;
    uint64_t number = tail ^ *iv;
    if (number < o->space[kind].top) {
        if (kind == INITIAL_SPACE && o->space[kind].acked)
            return WR_QUIC_ORDER_DROP;
        return acks ? WR_QUIC_ORDER_MUTE : WR_QUIC_ORDER_HEAR;
    }
    o->space[kind].top = number;
    o->space[kind].acked |= acks;
    return WR_QUIC_ORDER_HEAR;
}
