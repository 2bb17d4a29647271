/* identify_msg.h - what a peer says of itself: encode within the size rules, decode with a cap on every list.
 * Value. Spec: libp2p identify/README.md; sizes as deployed (transport sheet 10.2).
 *
 *   message Identify {
 *     optional bytes publicKey = 1;          repeated bytes listenAddrs = 2;
 *     repeated string protocols = 3;         optional bytes observedAddr = 4;
 *     optional string protocolVersion = 5;   optional string agentVersion = 6;
 *     optional bytes signedPeerRecord = 8;   (7 was a delta)
 *   }
 *
 * A stream carries one message, or several that are merged: scalars overwrite, lists append - which is what
 * decoding the concatenated bodies does. So a reader collects bodies and decodes once. */
#ifndef WR_IDENTIFY_MSG_H
#define WR_IDENTIFY_MSG_H

#include "transport/maddr.h"
#include "transport/protocols.h"

#define WR_IDENTIFY_NAME "/ipfs/id/1.0.0"
#define WR_IDENTIFY_PUSH "/ipfs/id/push/1.0.0"

#define WR_IDENTIFY_FIRST_MAX  4096    /* bytes of our first message; rust-libp2p reads no more */
#define WR_IDENTIFY_JOINT_MAX  2048    /* bytes up to which the record goes into the first; go-libp2p id.go */
#define WR_IDENTIFY_BODY_MAX   8192    /* bytes of one message taken; go, js */
#define WR_IDENTIFY_BODIES_MAX 10      /* messages taken from one stream; go, js */

#define WR_IDENTIFY_ADDRS_MAX     64     /* addresses looked at, the rest dropped; ours, go 500 */
#define WR_IDENTIFY_PROTOCOLS_MAX 128    /* names looked at; ours as WR_PEER_PROTOCOLS_MAX, go 1024 */

/* What a peer said; every slice points into the decoded bytes, empty when it said nothing. */
struct wr_identify_msg {
    struct wr_bytes pubkey, observed, record, protocol_version, agent;
    size_t addr_count, protocol_count;
    struct wr_bytes addrs[WR_IDENTIFY_ADDRS_MAX];    /* not checked yet: wr_maddr_decode */
    struct wr_bytes protocols[WR_IDENTIFY_PROTOCOLS_MAX];
};

/* Decodes one body, or several put behind each other. 0, WR_EPROTO. Unknown fields are skipped. */
int wr_identify_decode(struct wr_bytes in, struct wr_identify_msg *out);

/* What we say. All borrowed. */
struct wr_identify_self {
    struct wr_bytes pubkey, observed, record;    /* the latter two may be empty */
    const char *agent, *protocol_version;
    const struct wr_maddr *addrs;                /* best first */
    size_t addr_count;
    const struct wr_protocols *protocols;        /* hidden ones are left out */
};

/* How many of the addresses fit the first message beside all the rest. The signed record is made of just
 * these, so that it fits its message, too. */
size_t wr_identify_fit(const struct wr_identify_self *self);
/* Appends one or two length-prefixed messages: what goes on the stream. The first holds all but the record
 * and at most WR_IDENTIFY_FIRST_MAX bytes (names, then addresses, that do not fit are left out); the record is
 * in it when both fit WR_IDENTIFY_JOINT_MAX, else alone in the second. out->full when out is too small. */
void wr_identify_encode(const struct wr_identify_self *self, struct wr_buf *out);

#endif
