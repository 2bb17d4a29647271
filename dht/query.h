/* query.h - one iterative query: whom to ask next, and when it is over. Machine: no I/O, no timers.
 * Spec: libp2p kad-dht/README.md, "Kademlia lookup"; termination as go-libp2p-kad-dht (the beta
 * nearest reachable peers have answered), then everybody of the nearest set is asked as well.
 *
 *   wr_query_seed(q, ...) for the nearest of the table; then, until it returns <0:
 *     while (wr_query_next(q, now, &ask) > 0) send it to ask.peer;    timer at wr_query_deadline(l)
 *     wr_query_reply(q, id, now, &reply) or wr_query_failed(q, id, now) as they come
 *
 * Waiting for dead peers is what makes lookups slow, messages are what makes them dear. So: three
 * at a time; when a reply is slow (by the peer's own round trip, else by what replies usually take)
 * the next peer is asked beside it, one more at a time for each; when it is late nothing waits for
 * it any more, though a late answer still counts while the lookup runs.
 *
 * Where many have died, all neighbours of the target answer with the same twenty, dead ones
 * included, and those behind them are never named. So once the search has converged, a peer of the
 * set is asked about its own neighbourhood (the id of the candidate nearest to it) instead of the
 * target, and for each member that fell, its nearest live neighbour is asked who else is there.
 * That also finds honest peers behind a crowd of false ones.
 */
#ifndef WR_QUERY_H
#define WR_QUERY_H

#include "dht/dht_msg.h"
#include "dht/kbucket.h"

#define WR_QUERY_SET          20  /* k: nearest peers wanted; kad-dht/README.md */
#define WR_QUERY_BETA         3   /* nearest that must have answered; go-libp2p-kad-dht */
#define WR_QUERY_PARALLEL     3   /* at first; ours: alpha 10 costs 2.75x the messages */
#define WR_QUERY_PARALLEL_MAX 10  /* go's alpha; reached as replies are late */
#define WR_QUERY_PEERS_MAX    256 /* candidates remembered; ours */
#define WR_QUERY_RINGS        8   /* by distance, around a crowd; ours */
#define WR_QUERY_GROUP_MAX    3   /* peers of an address group in one answer; go query.go */
#define WR_QUERY_ADDRS_MAX    512 /* bytes of addresses kept per candidate; ours */
#define WR_QUERY_LATE_FIRST   (500 * WR_MSEC) /* patience before anything was measured; ours */
#define WR_QUERY_LATE_MIN     (150 * WR_MSEC) /* ours: scheduling and loss recovery take this */
#define WR_QUERY_LATE_MAX     (10 * WR_SEC)   /* go's read time-out */
#define WR_QUERY_LATE_NUM     7 /* late after 7/4 of what 99 of 100 replies take; ours: at 5/4 */
#define WR_QUERY_LATE_DEN     4 /* a search among a thousand left out one live peer in sixty */
#define WR_QUERY_GIVE_UP_MIN  (2 * WR_SEC) /* waited for the last missing ones; ours */

/* What replies usually take, shared by all lookups of a node: follows their 99th percentile. */
struct wr_pace {
    wr_time p99;
};
void wr_pace_init(struct wr_pace *p);
void wr_pace_sample(struct wr_pace *p, wr_time took);

enum wr_query_kind {
    WR_QUERY_CLOSEST,   /* the nearest set */
    WR_QUERY_PEER,      /* over once the target's own addresses were told */
    WR_QUERY_VALUE,     /* over after `want` valid values; 0: asks the whole set */
    WR_QUERY_PROVIDERS, /* over after `want` new providers; 0: asks the whole set */
};

struct wr_query_config {
    enum wr_query_kind kind;
    struct wr_bytes target;       /* what is asked for: peer id or key; borrowed during create */
    const struct wr_peerid *self; /* never a candidate; borrowed during create */
    struct wr_pace *pace;         /* borrowed for the lookup's life */
    unsigned want;
    unsigned set; /* nearest that must answer: 0 is WR_QUERY_SET; WR_QUERY_BETA makes
                     the cheap lookup that refreshing needs */
};

enum wr_query_state {
    WR_QUERY_HEARD,
    WR_QUERY_ASKED,
    WR_QUERY_SLOW, /* asked for longer than most replies take: another is asked beside it */
    WR_QUERY_LATE, /* asked for longer than nearly all take: nothing waits for it any more */
    WR_QUERY_ANSWERED,
    WR_QUERY_FAILED,
};

/* A candidate. */
struct wr_query_peer {
    struct wr_peerid id;
    uint8_t key[WR_KAD_KEY];
    enum wr_query_state state;
    bool warm;    /* its round trip was known: no sample of what strangers take */
    bool covered; /* fell, and its neighbourhood was asked for */
    uint8_t hops; /* answers that led here; 0: a seed */
    uint16_t addrs_len;
    uint8_t *addrs; /* owned: addresses, each with a uvarint length in front */
    uint32_t value; /* number the caller gave to the value it answered with; 0: none */
    wr_time asked_at, slow_at, late_at, give_up_at;
    wr_time again_until; /* answered, and asked again: not waited for after this; 0: no */
};

struct wr_query_ask {
    const struct wr_query_peer *peer; /* valid until the next call that takes a non-const lookup */
    struct wr_bytes key;              /* what to ask it for; as long */
};

struct wr_query_reply {
    struct wr_dht_peer *closer; /* addrs are sorted in place */
    size_t closer_count;
    unsigned found; /* providers in this answer that were not known before */
    uint32_t value; /* number (from 1) of the valid value in this answer; 0: none */
};

struct wr_query;

struct wr_query *wr_query_create(const struct wr_query_config *config); /* NULL: out of memory */
void wr_query_destroy(struct wr_query *q);                              /* NULL is allowed */
/* Adds a candidate to start from. Out of memory or room: it is left out. */
void wr_query_seed(struct wr_query *q, const struct wr_peerid *id, const struct wr_bytes *addrs,
                   size_t count);
/* 1: ask ask->peer now, and call again; 0: nothing before wr_query_deadline, a reply or a failure;
 * WR_ECLOSED: the lookup is over. */
int wr_query_next(struct wr_query *q, wr_time now, struct wr_query_ask *ask);
/* Right after next: the peer just given is connected, with this round trip. */
void wr_query_warm(struct wr_query *q, const struct wr_peerid *id, wr_time rtt);
/* Answers of peers that were not asked are ignored. */
void wr_query_reply(struct wr_query *q, const struct wr_peerid *id, wr_time now,
                    const struct wr_query_reply *reply);
void wr_query_failed(struct wr_query *q, const struct wr_peerid *id);
/* 0: over, or nothing is under way. */
wr_time wr_query_deadline(const struct wr_query *q);
/* Goes on although it had what it wanted (an address that turned out dead, one more provider). */
void wr_query_resume(struct wr_query *q, unsigned want);

/* ---- a crowd: identities made to stand near the target, who keep nothing and name only one
 * another, however many. The search then goes on by region instead of by rank. Of the candidates
 * within `reach` (the share of the key space where WR_QUERY_SET peers are to be expected) it keeps,
 * in each ring around the middle of the crowd, every one half as wide as the one outside it, twice
 * as many as are to be expected there, and two: so the crowd, which is in the innermost, does not
 * drown those in the others. */
/* At the start: nobody within `share` of the middle is heard of. */
void wr_query_avoid(struct wr_query *q, const uint8_t middle[static WR_KAD_KEY], double share);
/* Forgets whoever was not asked yet and is too many in his ring; what answers name from now on is
 * not heard. */
void wr_query_thin(struct wr_query *q, const uint8_t middle[static WR_KAD_KEY], double reach);
/* The same, and goes on until all within reach have answered. */
void wr_query_widen(struct wr_query *q, const uint8_t middle[static WR_KAD_KEY], double reach);

/* ---- results, at any time */
/* The nearest that answered, nearest first; valid as ask.peer. Returns how many, at most max. */
size_t wr_query_closest(const struct wr_query *q, const struct wr_query_peer **out, size_t max);
/* The nearest that have neither failed nor are late, asked or not: whom a record may be left with.
 */
size_t wr_query_nearest(const struct wr_query *q, const struct wr_query_peer **out, size_t max);
/* The target of WR_QUERY_PEER with the addresses told so far, or NULL. */
const struct wr_query_peer *wr_query_target(const struct wr_query *q);
/* Reads the next address off *rest, which starts as WR_BYTES(peer->addrs, peer->addrs_len). */
bool wr_query_addr(struct wr_bytes *rest, struct wr_bytes *addr);
const uint8_t *wr_query_key(const struct wr_query *q); /* sha256(target) */
unsigned wr_query_asked(const struct wr_query *q);     /* messages so far */
unsigned wr_query_set(const struct wr_query *q);       /* nearest that must answer */
bool wr_query_satisfied(const struct wr_query *q);     /* it has found what it wanted */

#endif
