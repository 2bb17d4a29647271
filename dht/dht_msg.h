/* dht_msg.h - Kademlia messages: decode what strangers send, encode what all of them can read.
 * Value. Spec: libp2p kad-dht/README.md. One decoded form serves requests and answers. Decoding is
 * lenient where deployed peers differ (no type field means PUT_VALUE, unknown types and fields are
 * passed on or skipped, an address that does not parse is dropped and never its peer) and strict in
 * size. Encoding trims addresses, then peers, until the message fits. */
#ifndef WR_DHT_MSG_H
#define WR_DHT_MSG_H

#include "transport/bytes.h"
#include "transport/maddr.h"
#include "transport/peerid.h"

#define WR_DHT_SEND_MAX         (16 * 1024) /* bytes; rust-libp2p refuses more, length prefix aside */
#define WR_DHT_RECV_MAX         (256 * 1024) /* bytes; ours: 43 KiB was seen in the wild */
#define WR_DHT_CLOSER_MAX       40           /* peers used of one answer: 2k; go-libp2p-kad-dht */
#define WR_DHT_PROVIDERS_MAX    100 /* providers used of one answer; ours: go's limit per search */
#define WR_DHT_ADDRS_IN_MAX     32  /* addresses used per peer; ours */
#define WR_DHT_ADDRS_OUT_MAX    8   /* addresses sent per peer; ours: 20 peers fit 16 KiB */
#define WR_DHT_KEY_MAX          512 /* bytes of any key; ours: go's longest are /ipns/ ones */
#define WR_DHT_VALUE_MAX        (10 * 1024) /* bytes of a record's value; boxo ipns/record.go */
#define WR_DHT_PROVIDER_KEY_MAX 80          /* bytes; go-libp2p-kad-dht handlers.go */

enum wr_dht_type {
    WR_DHT_PUT_VALUE = 0, /* hence absent on the wire */
    WR_DHT_GET_VALUE = 1,
    WR_DHT_ADD_PROVIDER = 2,
    WR_DHT_GET_PROVIDERS = 3,
    WR_DHT_FIND_NODE = 4,
    WR_DHT_PING = 5, /* dead: answered by go, refused by rust, never sent */
};

/* A peer and where it may be reached. Encoding sorts addrs in place. */
struct wr_dht_peer {
    struct wr_peerid id;
    size_t count;
    struct wr_bytes *addrs; /* checked multiaddrs without a trailing /p2p/<id>; borrowed */
};

struct wr_dht_record {
    struct wr_bytes key, value;
    struct wr_bytes time_received; /* RFC 3339 text; empty: not said */
};

struct wr_dht_msg {
    int type; /* enum wr_dht_type, or whatever else the peer wrote */
    struct wr_bytes key;
    bool has_record;
    struct wr_dht_record record;
    size_t closer_count, provider_count;
    struct wr_dht_peer *closer, *providers;
    void *memory; /* owned: the peers of a decoded message; NULL when encoding */
};

/* 0 with *out set (release it with wr_dht_msg_clear; all its slices point into `in`); WR_EPROTO:
 * malformed or too long; WR_ELIMIT: out of memory. On failure *out is empty. Peers with a malformed
 * id are dropped, as are peers and addresses beyond the maxima above. */
int wr_dht_msg_decode(struct wr_bytes in, struct wr_dht_msg *out);
void wr_dht_msg_clear(struct wr_dht_msg *msg);

/* Appends the protobuf (no length prefix), at most size_max bytes of it: each peer keeps its best
 * addresses, at most WR_DHT_ADDRS_OUT_MAX and fewer when the whole would not fit; then peers are
 * left out from the end, providers first, those being sent again by the next holder. 0; WR_ELIMIT:
 * key and record alone do not fit, or out of memory (out is unchanged). */
int wr_dht_msg_encode(const struct wr_dht_msg *msg, size_t size_max, struct wr_buf *out);

/* Smaller is better for whoever dials: public QUIC, public TCP, names, private, the rest, relayed.
 */
unsigned wr_dht_addr_rank(struct wr_bytes ma);

#endif
