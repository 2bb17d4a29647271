/* peerstore.h - what we know of other peers: addresses, protocols, agent, round trip. Value.
 * Bounded in peers (limit PEERSTORE) and in addresses per peer; addresses expire; peers that are
 * connected or protected stay, of the rest the longest unseen goes first. */
#ifndef WR_PEERSTORE_H
#define WR_PEERSTORE_H

#include "transport/env.h"
#include "transport/limits.h"
#include "transport/maddr.h"
#include "transport/map.h"

#define WR_PEER_ADDRS_MAX     16     /* addresses kept per peer; ours, go keeps 500 connected, 20 after */
#define WR_PEER_PROTOCOLS_MAX 128    /* names kept per peer; ours, go 1024 */

/* How long an address is believed, by who told it; go-libp2p peerstore. */
#define WR_TTL_TEMP      (2 * WR_MIN)      /* mentioned in passing */
#define WR_TTL_DHT       (30 * WR_MIN)     /* from a DHT answer */
#define WR_TTL_RECENT    (60 * WR_MIN)     /* was connected; go 15 min, home nodes return */
#define WR_TTL_PROVIDER  (24 * WR_HOUR)    /* with a provider record */
#define WR_TTL_CONNECTED (365 * 24 * WR_HOUR)    /* until the connection ends */
#define WR_TTL_PERMANENT (366 * 24 * WR_HOUR)    /* given by the owner */

struct wr_peer_addr {
    struct wr_bytes addr;      /* owned by the store; without /p2p */
    wr_time expires_at;
    wr_time dialled_ok_at;     /* last time a dial to it succeeded; 0 never */
    bool certified;            /* from a signed peer record */
};

struct wr_peer {
    struct wr_peerid id;
    struct wr_list node;                /* recency */
    struct wr_peer_addr addrs[WR_PEER_ADDRS_MAX];
    uint8_t addr_count;
    uint8_t failed_dials;               /* in a row */
    uint16_t connections;               /* open now; pins the entry */
    uint16_t protections;               /* see wr_peerstore_protect; pins the entry */
    char *agent, *protocol_version;     /* owned, or NULL; printable */
    char **protocols;                   /* owned, or NULL before identify */
    size_t protocol_count;
    struct wr_bytes record;             /* owned: the signed peer record as received, or empty */
    uint64_t record_seq;
    wr_time seen_at;                    /* last time connected or identified */
    wr_time rtt;                        /* smoothed, 0 unknown */
    bool muxer_inlined;                 /* what was agreed last time: optimistic next time */
};

struct wr_peerstore {
    struct wr_env *env;
    struct wr_limits *limits;
    struct wr_map map;
    struct wr_list recent;              /* least recently seen first */
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
/* Replaces the protocol names (copied, printable ones only). 0, WR_ELIMIT. */
int wr_peerstore_set_protocols(struct wr_peerstore *ps, const struct wr_peerid *id,
                               const struct wr_bytes *names, size_t count);
int wr_peerstore_set_agent(struct wr_peerstore *ps, const struct wr_peerid *id, struct wr_bytes agent,
                           struct wr_bytes protocol_version);
/* Keeps a signed record when its seq is higher. 0, WR_ESTALE, WR_ELIMIT. */
int wr_peerstore_set_record(struct wr_peerstore *ps, const struct wr_peerid *id, struct wr_bytes record,
                            uint64_t seq);
/* 1 yes, 0 no, -1 not known yet (no identify). */
int wr_peerstore_speaks(const struct wr_peerstore *ps, const struct wr_peerid *id, const char *protocol);
/* Addresses that have not expired, best first; at most max; returns how many. */
size_t wr_peerstore_addrs(const struct wr_peerstore *ps, const struct wr_peerid *id,
                          struct wr_maddr *out, size_t max);
void wr_peerstore_dialled(struct wr_peerstore *ps, const struct wr_peerid *id, struct wr_bytes addr,
                          bool ok);
void wr_peerstore_protect(struct wr_peerstore *ps, const struct wr_peerid *id, bool on);    /* counted */
/* Drops expired addresses and empty unpinned entries, at most `budget` entries a call. */
void wr_peerstore_sweep(struct wr_peerstore *ps, size_t budget);

#endif
