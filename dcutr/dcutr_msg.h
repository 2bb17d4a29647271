/* dcutr_msg.h - the two messages of hole punching: CONNECT tells addresses, SYNC gives the start. Value.
 * Spec: libp2p relay/DCUtR.md.
 *
 *   message HolePunch { required Type type = 1;  repeated bytes ObsAddrs = 2; }    CONNECT = 100, SYNC = 300
 *
 * Unknown fields are skipped, as all implementations do; an unknown type is refused. Addresses that are no
 * multiaddrs or of no use here (names, relays, websockets) are left out, the message stands. */
#ifndef WR_DCUTR_MSG_H
#define WR_DCUTR_MSG_H

#include "transport/maddr.h"

#define WR_DCUTR_SEND_MAX  1000    /* bytes of a message of ours; nim reads 1024 */
#define WR_DCUTR_READ_MAX  4096    /* bytes of a message taken; go, rust, js */
#define WR_DCUTR_EACH_MAX  8       /* addresses of each transport, TCP and QUIC; nim reads no more */
#define WR_DCUTR_ADDRS_MAX (2 * WR_DCUTR_EACH_MAX)

enum wr_dcutr_type { WR_DCUTR_CONNECT = 100, WR_DCUTR_SYNC = 300 };

struct wr_dcutr_msg {
    enum wr_dcutr_type type;
    size_t count;
    struct wr_maddr addrs[WR_DCUTR_ADDRS_MAX];    /* without /p2p; TCP and QUIC with numbers */
};

/* 0, WR_EPROTO. */
int wr_dcutr_msg_decode(struct wr_bytes in, struct wr_dcutr_msg *out);
/* Appends the message without its length; addresses beyond the bounds are left out, the last first. */
void wr_dcutr_msg_encode(const struct wr_dcutr_msg *msg, struct wr_buf *out);

#endif
