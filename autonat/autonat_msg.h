/* autonat_msg.h - the messages of AutoNAT, version 1 and 2. Value.
 * Spec: libp2p autonat/autonat-v1.md (proto2), autonat/autonat-v2.md (proto3); behaviour of others in the
 * NAT sheet 2 and 3. Each is a protobuf behind its length; unknown fields are skipped, here and by every
 * other implementation, which is what carries the two fields of our own:
 *
 *   v1  Message { type = 1; dial = 2 { peer = 1 { id = 1; addrs = 2 } };
 *                 dialResponse = 3 { status = 1; statusText = 2; addr = 3 } }
 *   v2  Message { dialRequest = 1 { addrs = 1; nonce = 2 (fixed64); stranger = 4250; peer = 4251 };
 *                 dialResponse = 2 { status = 1; addrIdx = 2; dialStatus = 3; stranger = 4250 };
 *                 dialDataRequest = 3 { addrIdx = 1; numBytes = 2 };
 *                 dialDataResponse = 4 { data = 1 } }
 *       DialBack { nonce = 1 (fixed64) }     DialBackResponse { status = 1 }
 *
 * stranger: asked for, or done: the dial comes from a peer that the client never talked to, on the server's
 * behalf. peer: who is to be dialled, when that is not who asks (only in WR_AUTONAT_STRANGER and WR_AUTONAT_WAKE). */
#ifndef WR_AUTONAT_MSG_H
#define WR_AUTONAT_MSG_H

#include "transport/bytes.h"

#define WR_AUTONAT_V1      "/libp2p/autonat/1.0.0"
#define WR_AUTONAT_REQUEST "/libp2p/autonat/2/dial-request"
#define WR_AUTONAT_BACK    "/libp2p/autonat/2/dial-back"
#define WR_AUTONAT_STRANGER                                                                                \
    "/warren/autonat/stranger/1" /* server to server: dial-request for somebody else */
#define WR_AUTONAT_WAKE                                                                                    \
    "/warren/autonat/wake/1" /* dial-request, over QUIC from the listening port, of another socket of ours */

#define WR_AUTONAT_MSG_MAX  8192 /* bytes of a message taken; go, js (rust 4104) */
#define WR_AUTONAT_BACK_MAX 1024 /* bytes of one on a dial-back stream; go */
#define WR_AUTONAT_SENT_MAX                                                                                \
    1024                      /* bytes of a request of ours; rust-libp2p v1/protocol.rs takes no more      \
                               */
#define WR_AUTONAT_ADDRS 50   /* addresses looked at, the rest dropped; go autonatv2 server.go */
#define WR_AUTONAT_CHUNK 4000 /* bytes of dial data in one message; go; the spec allows 4096 */

/* ---- version 2 */
enum wr_autonat_status {
    WR_AUTONAT_INTERNAL = 0,
    WR_AUTONAT_REJECTED = 100, /* rate or resource limit */
    WR_AUTONAT_REFUSED = 101,  /* nothing it could or wanted to dial */
    WR_AUTONAT_OK = 200,       /* it dialled: see the dial status */
};

enum wr_autonat_dial {
    WR_AUTONAT_DIAL_UNUSED = 0,
    WR_AUTONAT_DIAL_ERROR = 100,      /* nobody there */
    WR_AUTONAT_DIAL_BACK_ERROR = 101, /* connected, but the nonce was not taken */
    WR_AUTONAT_DIAL_OK = 200,
};

/* Numbers of the fields of Message. */
enum wr_autonat_type {
    WR_AUTONAT_DIAL_REQUEST = 1,
    WR_AUTONAT_DIAL_RESPONSE = 2,
    WR_AUTONAT_DATA_REQUEST = 3,
    WR_AUTONAT_DATA_RESPONSE = 4,
};

/* Slices point into the decoded bytes. Fields that the type does not have are zero. */
struct wr_autonat_msg {
    enum wr_autonat_type type;
    uint64_t nonce;                          /* request */
    struct wr_bytes peer;                    /* request: id bytes, or empty */
    bool stranger;                           /* request, response */
    size_t addr_count;                       /* request */
    struct wr_bytes addrs[WR_AUTONAT_ADDRS]; /* not checked yet: wr_maddr_decode */
    uint32_t status, dial_status;            /* response: enums above, or any other number */
    uint32_t index;                          /* response, data request: which address */
    uint64_t bytes;                          /* data request */
    struct wr_bytes data;                    /* data response */
};

/* 0, WR_EPROTO (also when it is none of the four). */
int wr_autonat_msg_decode(struct wr_bytes in, struct wr_autonat_msg *out);
void wr_autonat_msg_encode(const struct wr_autonat_msg *m, struct wr_buf *out); /* out->full: too small */

/* On the dial-back stream. A response of status 0 is an empty message. */
int wr_autonat_msg_decode_back(struct wr_bytes in, uint64_t *nonce); /* 0, WR_EPROTO */
void wr_autonat_msg_encode_back(uint64_t nonce, struct wr_buf *out);
int wr_autonat_msg_decode_back_response(struct wr_bytes in, uint32_t *status); /* 0, WR_EPROTO */

/* ---- version 1 */
enum wr_autonat_v1_status {
    WR_AUTONAT_V1_OK = 0,
    WR_AUTONAT_V1_DIAL_ERROR = 100, /* tried, all failed */
    WR_AUTONAT_V1_REFUSED = 101,    /* did not try */
    WR_AUTONAT_V1_BAD_REQUEST = 200,
    WR_AUTONAT_V1_INTERNAL = 300,
};

#define WR_AUTONAT_V1_ADDRS 16 /* addresses looked at; go svc.go */

struct wr_autonat_v1_msg {
    bool response;
    struct wr_bytes peer; /* dial: id bytes */
    size_t addr_count;    /* dial */
    struct wr_bytes addrs[WR_AUTONAT_V1_ADDRS];
    uint32_t status;      /* response */
    struct wr_bytes addr; /* response OK: which one worked */
};

int wr_autonat_msg_decode_v1(struct wr_bytes in, struct wr_autonat_v1_msg *out); /* 0, WR_EPROTO */
void wr_autonat_msg_encode_v1(const struct wr_autonat_v1_msg *m, struct wr_buf *out);

#endif
