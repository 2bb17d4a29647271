/* peerstore.h - what we know of other peers: addresses, protocols, agent, round trip. Value.
 * Bounded in peers (limit PEERSTORE), in addresses per peer and in text; all of it counts under limit
 * MEMORY. Addresses expire. Peers that are connected or protected stay; of the rest those never connected
 * go first, then the longest unseen, so that a flood of names pushes out no peer that was met. */
#ifndef WR_PEERSTORE_H
#define WR_PEERSTORE_H

#include "transport/env.h"
#include "transport/intern.h"
#include "transport/limits.h"
#include "transport/maddr.h"
#include "transport/map.h"

#define WR_PEER_ADDRS_MAX     16     /* addresses kept per peer; ours, go keeps 500 connected, 20 after */
#define WR_PEER_PROTOCOLS_MAX 128    /* names kept per peer; ours, go 1024 */
#define WR_PEER_PROTOCOLS_LEN 4096   /* bytes of one peer's names with their NULs; ours, kubo ~800 */
#define WR_PEER_AGENT_LEN     128    /* bytes of an agent or protocol version; the rest is cut; ours */

/* How long an address is believed, by who told it; go-libp2p peerstore. */
#define WR_TTL_TEMP      (2 * WR_MIN)      /* mentioned in passing */
#define WR_TTL_DHT       (30 * WR_MIN)     /* from a DHT answer */
#define WR_TTL_RECENT    (60 * WR_MIN)     /* was connected; go 15 min, home nodes return */
#define WR_TTL_CONNECTED (365 * 24 * WR_HOUR)    /* until the connection ends */
#define WR_TTL_PERMANENT (366 * 24 * WR_HOUR)    /* given by the owner */

/* One address of a peer. Common ones (ip and port) lie inside, long ones (relayed, names) on the heap. */
#define WR_PEER_ADDR_INLINE 24    /* bytes: ip6/udp/quic-v1 takes 23 */

struct wr_peer_addr {
    wr_time expires_at;        /* INT64_MAX: permanent; INT64_MAX - 1: while connected */
    wr_time dialled_ok_at;     /* last time a dial to it succeeded; 0 never */
    union {
        uint8_t in[WR_PEER_ADDR_INLINE];
        uint8_t *heap;         /* owned */
    } bytes;                   /* without /p2p */
    uint8_t len;
    bool certified;            /* from a signed peer record */
};

struct wr_peer {
    struct wr_peerid id;
    struct wr_list node;                /* recency */
    struct wr_peer_addr *addrs;         /* owned; sized to need */
    uint8_t addr_count, addr_cap;
    uint8_t failed_dials;               /* in a row */
    uint8_t security;                   /* 1 + index in wr_secure_all of what our last dial agreed on; 0 unknown */
    uint16_t connections;               /* open now; pins the entry */
    uint16_t protections;               /* see wr_peerstore_protect; pins the entry */
    const struct wr_interned *agent, *protocol_version;    /* shared, or NULL; printable text */
    const struct wr_interned *protocols;    /* shared; NULL before identify; wr_peer_protocol reads it */
    uint64_t record_seq;                /* of the newest signed record seen; the record is not kept */
    wr_time seen_at;                    /* last time connected or identified */
    wr_time rtt;                        /* smoothed, 0 unknown */
};

struct wr_peerstore {
    struct wr_env *env;
    struct wr_limits *limits;
    struct wr_map map;
    struct wr_intern texts;             /* protocol lists and agents: most peers share a few */
    struct wr_list fresh;               /* never connected: the first to go, oldest first */
    struct wr_list recent;              /* connected once; least recently seen first */
    size_t cursor;                      /* of the sweep */
};

void wr_peerstore_init(struct wr_peerstore *ps, struct wr_env *env, struct wr_limits *limits);
void wr_peerstore_clear(struct wr_peerstore *ps);
struct wr_peer *wr_peerstore_find(const struct wr_peerstore *ps, const struct wr_peerid *id);
/* Finds or makes; NULL when the ceiling is reached and every entry is pinned, or out of memory. */
struct wr_peer *wr_peerstore_get(struct wr_peerstore *ps, const struct wr_peerid *id);
/* Adds or extends one address (a trailing /p2p of this peer is dropped, of another: WR_EPEERID). When full
 * the worst goes: expired, never dialled with success, soonest to expire. 0, WR_EINVAL, WR_ELIMIT. */
int wr_peerstore_add_addr(struct wr_peerstore *ps, const struct wr_peerid *id, struct wr_bytes addr,
                          wr_time ttl, bool certified);
/* Replaces what identify said: addresses that are not repeated fall back to WR_TTL_TEMP. */
int wr_peerstore_set_addrs(struct wr_peerstore *ps, const struct wr_peerid *id,
                           const struct wr_maddr *addrs, size_t count, wr_time ttl, bool certified);
/* Replaces the protocol names (copied, printable ones only, sorted, repeats dropped; beyond the bounds
 * the rest is dropped). 0, WR_ELIMIT. */
int wr_peerstore_set_protocols(struct wr_peerstore *ps, const struct wr_peerid *id,
                               const struct wr_bytes *names, size_t count);
int wr_peerstore_set_agent(struct wr_peerstore *ps, const struct wr_peerid *id, struct wr_bytes agent,
                           struct wr_bytes protocol_version);
/* Notes the seq of a signed record that was verified. 0, WR_ESTALE when one at least as new was seen,
 * WR_ELIMIT. */
int wr_peerstore_set_record(struct wr_peerstore *ps, const struct wr_peerid *id, uint64_t seq);
/* 1 yes, 0 no, -1 not known yet (no identify). */
int wr_peerstore_speaks(const struct wr_peerstore *ps, const struct wr_peerid *id, const char *protocol);
/* Addresses that have not expired, best first; at most max; returns how many. */
size_t wr_peerstore_addrs(const struct wr_peerstore *ps, const struct wr_peerid *id,
                          struct wr_maddr *out, size_t max);
void wr_peerstore_dialled(struct wr_peerstore *ps, const struct wr_peerid *id, struct wr_bytes addr,
                          bool ok);
/* It was found to lead nowhere; what the owner gave stays. */
void wr_peerstore_drop_addr(struct wr_peerstore *ps, const struct wr_peerid *id, struct wr_bytes addr);
void wr_peerstore_protect(struct wr_peerstore *ps, const struct wr_peerid *id, bool on);    /* counted */
/* The last connection went: addresses that were good while connected now last for ttl. */
void wr_peerstore_demote(struct wr_peerstore *ps, const struct wr_peerid *id, wr_time ttl);
/* Drops expired addresses and empty unpinned entries, at most `budget` entries a call. */
void wr_peerstore_sweep(struct wr_peerstore *ps, size_t budget);

/* ---- reading an entry */
struct wr_bytes wr_peer_addr_bytes(const struct wr_peer_addr *addr);
/* The next protocol name, or NULL at the end; start with *cursor = 0. In byte order. */
const char *wr_peer_protocol(const struct wr_peer *peer, size_t *cursor);
const char *wr_peer_agent(const struct wr_peer *peer);    /* "" when unknown */
/* Does its agent begin with one of these, of which the last is NULL? peer may be NULL. */
bool wr_peer_is_one_of(const struct wr_peer *peer, const char *const *agents);

#endif
