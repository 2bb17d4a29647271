/* state.h - what a node remembers over restarts, in its store: the time it believes, the sequence number
 * of its signed records, and the peers it met. Service.
 * Everything here may be lost without harm but inconvenience, so damaged records are dropped and writing
 * never fails loudly. No file is touched: in a simulation it runs on the store in memory.
 *
 * The store is shared: each part of the program has an area of it, named by a letter, and within that one
 * per network (wr_state_prefix). */
#ifndef WR_STATE_H
#define WR_STATE_H

#include "transport/kv.h"
#include "transport/maddr.h"

#define WR_STATE_ADDRS_MAX  4           /* addresses saved per peer; ours: v4 and v6, TCP and QUIC */
#define WR_STATE_PEERS_MAX  50000       /* the most that any options may ask for; ours */
#define WR_STATE_SAVE_EVERY WR_HOUR     /* of the time believed, and of a peer's last sight; ours */
#define WR_STATE_SEQ_MARGIN WR_MIN      /* in the unit of seq: more than a crash can make us forget */
#define WR_STATE_PREFIX     8           /* bytes: the area's letter and a digest of the network's name */

/* Areas of the store. */
enum wr_state_area {
    WR_STATE_AREA_NODE = 'n',     /* this file's own records; the same for all networks */
    WR_STATE_AREA_PEERS = 'p',    /* this file's peers */
    WR_STATE_AREA_DHT = 'd',      /* provider and value records (dht/store.h) */
    WR_STATE_AREA_NAT = 'a',      /* what was learnt about the NAT of each network we sat in */
};

struct wr_state;

struct wr_state_options {
    struct wr_env *env;      /* borrowed */
    struct wr_kv *kv;        /* borrowed; closed after the state */
    const char *network;     /* name of the swarm: each has its own peers; copied */
    size_t peers_max;        /* at most WR_STATE_PEERS_MAX; beyond it the longest unseen goes */
};

/* Reads what is saved. 0, WR_ELIMIT, WR_EIO. Damaged records are dropped, with a log line. */
int wr_state_open(const struct wr_state_options *options, struct wr_state **out);
void wr_state_close(struct wr_state *s);    /* writes what is due; wr_kv_close makes it durable */

void wr_state_prefix(const struct wr_state *s, enum wr_state_area area,
                     uint8_t out[static WR_STATE_PREFIX]);

/* ---- time */
/* Nanoseconds since 1970 as far as they can be believed; see wall.h. */
int64_t wr_state_unix(struct wr_state *s);
/* The system's clock is not believed at present: worth a warning to the owner. */
bool wr_state_clock_suspect(struct wr_state *s);
/* Greater than every one before, over restarts, crashes and clocks that go back; in ordinary times the
 * nanoseconds since 1970, as go-libp2p has it. */
uint64_t wr_state_next_seq(struct wr_state *s);

/* ---- peers */
struct wr_state_peer {
    struct wr_peerid id;
    int64_t seen_at;     /* nanoseconds since 1970, to the second */
    uint8_t security;    /* see wr_state_peer_set_security */
    size_t count;        /* addresses */
    struct wr_maddr addrs[WR_STATE_ADDRS_MAX];    /* without /p2p, best first */
};

/* We met this peer at these addresses (the first WR_STATE_ADDRS_MAX are kept; none: those known stay).
 * Written only when something changed or the last writing is old. 0, WR_ELIMIT (out of memory, or the store's
 * overlay is full). */
int wr_state_peer_seen(struct wr_state *s, const struct wr_peerid *id, const struct wr_maddr *addrs,
                       size_t count);
/* What secured our last dial of this peer, so that the next life begins with it: a number of the caller's, at most
 * WR_STATE_SECURITY_MAX, that means the same in all versions; 0: not known. 0, WR_ENOTFOUND (never seen), WR_ELIMIT. */
#define WR_STATE_SECURITY_MAX 3
int wr_state_peer_set_security(struct wr_state *s, const struct wr_peerid *id, uint8_t security);
uint8_t wr_state_peer_security(const struct wr_state *s, const struct wr_peerid *id);    /* from memory */
/* Visits the peers, last seen first, until visit returns false. visit must not call this state or its store. */
void wr_state_peers(struct wr_state *s, bool (*visit)(void *arg, const struct wr_state_peer *peer), void *arg);

#endif
