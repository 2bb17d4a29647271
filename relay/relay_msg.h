/* relay_msg.h - the messages of circuit relay v2: to the relay (hop) and from it (stop). Value.
 * Spec: libp2p relay/circuit-v2.md. Each goes behind its length, at most WR_RELAY_MSG_MAX bytes:
 *
 *   message HopMessage {                        message StopMessage {
 *     Type type = 1;                              Type type = 1;
 *     Peer peer = 2;                              Peer peer = 2;
 *     Reservation reservation = 3;
 *     Limit limit = 4;                            Limit limit = 3;
 *     Status status = 5; }                        Status status = 4; }
 *   Peer { bytes id = 1; repeated bytes addrs = 2; }    Limit { uint32 duration = 1; uint64 data = 2; }
 *   Reservation { uint64 expire = 1; repeated bytes addrs = 2; bytes voucher = 3; }
 *
 * The type is always written, zero too: rust-libp2p and js-libp2p refuse a message without. */
#ifndef WR_RELAY_MSG_H
#define WR_RELAY_MSG_H

#include "transport/bytes.h"

#define WR_RELAY_HOP_NAME  "/libp2p/circuit/relay/0.2.0/hop"
#define WR_RELAY_STOP_NAME "/libp2p/circuit/relay/0.2.0/stop"

#define WR_RELAY_MSG_MAX   4096    /* bytes of one message; go, rust and js alike */
#define WR_RELAY_ADDRS_MAX 32      /* addresses looked at, the rest dropped; ours */

enum wr_relay_side { WR_RELAY_HOP, WR_RELAY_STOP };

enum wr_relay_type { WR_RELAY_RESERVE, WR_RELAY_CONNECT, WR_RELAY_STATUS };

enum wr_relay_status {
    WR_RELAY_UNUSED = 0,
    WR_RELAY_OK = 100,
    WR_RELAY_REFUSED = 200,      /* no reservation for you */
    WR_RELAY_FULL = 201,
    WR_RELAY_DENIED = 202,       /* by a rule, or asked over a relayed connection */
    WR_RELAY_FAILED = 203,       /* the other side did not answer */
    WR_RELAY_NOT_THERE = 204,    /* the other side has no reservation */
    WR_RELAY_MALFORMED = 400,
    WR_RELAY_UNEXPECTED = 401,
};

struct wr_relay_limit {
    uint32_t duration;    /* seconds; 0: none */
    uint64_t data;        /* bytes each way; 0: none */
};

struct wr_relay_msg {
    enum wr_relay_type type;
    struct wr_bytes peer;                           /* id, not checked yet; empty: none */
    bool has_reservation;
    uint64_t expire;                                /* of the reservation: seconds since 1970 */
    struct wr_bytes voucher;
    size_t addr_count;                              /* of the reservation */
    struct wr_bytes addrs[WR_RELAY_ADDRS_MAX];      /* not checked yet */
    bool has_limit;                                 /* even one of zeros makes the circuit a limited one */
    struct wr_relay_limit limit;
    unsigned status;                                /* 0 when there is none */
};

/* Every slice points into `in`. Unknown fields are skipped; a missing type reads as zero, the side's first. 0,
 * WR_EPROTO. */
int wr_relay_msg_decode(enum wr_relay_side side, struct wr_bytes in, struct wr_relay_msg *out);
/* Appends the body, without its length; out->full when it does not fit. */
void wr_relay_msg_encode(enum wr_relay_side side, const struct wr_relay_msg *m, struct wr_buf *out);
/* What a status that is not OK means here: WR_EREFUSED, WR_EFULL, WR_EPERM, WR_EUNREACH (203), WR_ENOTFOUND (204), else
 * WR_EPROTO. 0 for OK. */
int wr_relay_msg_err(unsigned status);

#endif
