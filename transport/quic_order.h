/* quic_order.h - which packets of a QUIC peer come late: the order in which they were sent, as far as the callback that
 * opens them can tell. Value. Spec: RFC 9000 sections 12.3 and 17, RFC 9001 section 5.3. */
#ifndef WR_QUIC_ORDER_H
#define WR_QUIC_ORDER_H

#include "transport/bytes.h"

#define WR_QUIC_ORDER_SPACES 3    /* packets are counted apart: Initial, Handshake, 1-RTT */
#define WR_QUIC_ORDER_KEYS   4    /* of one peer that are of use at a time: a handshake's last, then the old one, the one in
                                     use and the next */

/* All zero: nothing was read. */
struct wr_quic_order {
    struct {
        bool begun, acked;        /* one with an acknowledgement was read */
        uint64_t top;             /* the highest number read */
    } space[WR_QUIC_ORDER_SPACES];
    struct {
        const void *key;          /* only compared */
        uint64_t iv;              /* of which the packet's number makes the nonce: its last 8 bytes */
    } keys[WR_QUIC_ORDER_KEYS];   /* a ring */
    size_t next;
};

/* A key that packets may come under from now on, and its vector of at least 8 bytes. The first of each kind of packets need
 * not be told of. */
void wr_quic_order_key(struct wr_quic_order *o, const void *key, struct wr_bytes iv);

enum wr_quic_order_verdict {
    WR_QUIC_ORDER_HEAR,
    WR_QUIC_ORDER_MUTE,       /* it was sent before another one that came: what it acknowledges is not to be heard */
    WR_QUIC_ORDER_DROP        /* nor anything else of it */
};

/* Notes a packet of version 1 that was opened under this key with this nonce; head: its header, no longer masked; acks:
 * whether it acknowledges something. Dropped is what comes under a key that is not known, and of Initial packets what is
 * late once one has acknowledged something: ngtcp2 may act upon a part of those and count none, if something is wrong
 * behind that. */
enum wr_quic_order_verdict wr_quic_order_note(struct wr_quic_order *o, const void *key, struct wr_bytes nonce,
                                              struct wr_bytes head, bool acks);

#endif
