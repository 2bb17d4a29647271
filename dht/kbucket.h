/* kbucket.h - the routing table: peers by XOR distance of sha256(peer id) from our own. Value.
 * Spec: libp2p kad-dht/README.md, "Kademlia routing table"; admission and diversity rules as in
 * go-libp2p-kbucket. Buckets by common prefix length (CPL), the last one holds all that is deeper
 * and is split when it overflows. Good old entries stay: a newcomer enters a full bucket only in
 * the place of an entry that was taken in a hurry (replaceable) or has been of no use for long.
 * That, and the ceiling on peers of one address group, is what makes the table hard to take over.
 * Only peers that answered us belong in here; the caller sees to that. */
#ifndef WR_KBUCKET_H
#define WR_KBUCKET_H

#include "dht/ipgroup.h"
#include "transport/env.h"
#include "transport/peerid.h"

#define WR_KAD_KEY               32  /* bytes of a place in the key space */
#define WR_KBUCKET_SIZE          20  /* k; kad-dht/README.md */
#define WR_KBUCKET_CPL_MAX       255 /* the deepest bucket there can be */
#define WR_KBUCKET_GROUP_MAX     3   /* peers of a group in the table; go-libp2p-kad-dht */
#define WR_KBUCKET_GROUP_BUCKET  2   /* the same in one bucket; go-libp2p-kad-dht */
#define WR_KBUCKET_USELESS_AFTER (86 * WR_MIN) /* twice the 43 min grace of go-libp2p-kad-dht */
#define WR_KBUCKET_REFRESH_MIN   (10 * WR_MIN) /* kad-dht/README.md */
#define WR_KBUCKET_REFRESH_MAX   (2 * WR_HOUR) /* ours: when refreshing brings nothing new */
#define WR_KBUCKET_CHECK_AFTER   WR_HOUR       /* ours: silent that long, an entry is to be asked */

struct wr_kentry {
    struct wr_peerid id;
    uint8_t key[WR_KAD_KEY];          /* sha256(id) */
    uint64_t groups[WR_IPGROUPS_MAX]; /* of the addresses it was really reached at */
    wr_time added_at;
    wr_time useful_at;  /* last answer that helped; what replacement looks at */
    wr_time success_at; /* last sign of life of any kind */
    bool replaceable;   /* taken before the table had settled */
};

struct wr_kbucket_slot;

struct wr_kbucket {
    uint8_t self[WR_KAD_KEY];
    struct wr_kbucket_slot *buckets; /* owned; [cpl], the last takes all deeper ones */
    size_t bucket_count, count, max;
};

/* ---- the key space */
void wr_kad_key(struct wr_bytes of, uint8_t out[static WR_KAD_KEY]); /* sha256 */
unsigned wr_kad_cpl(const uint8_t a[static WR_KAD_KEY], const uint8_t b[static WR_KAD_KEY]);
/* How far apart two places are, as a share of the key space, [0, 1). */
double wr_kad_share(const uint8_t a[static WR_KAD_KEY], const uint8_t b[static WR_KAD_KEY]);
/* <0: a is nearer to target than b. */
int wr_kad_compare(const uint8_t target[static WR_KAD_KEY], const uint8_t a[static WR_KAD_KEY],
                   const uint8_t b[static WR_KAD_KEY]);

/* ---- table. max: entries in all. Memory is taken as buckets come into use. */
void wr_kbucket_init(struct wr_kbucket *t, const uint8_t self[static WR_KAD_KEY], size_t max);
void wr_kbucket_clear(struct wr_kbucket *t);

/* Takes in a peer that answered (id, key and groups of *entry are read). 1: added, and *evicted is
 * the peer whose place it took (len 0: none; may be NULL). 0: was there, groups and life signs
 * renewed. WR_EFULL: the bucket is full of better ones; WR_EGATED: too many of its address group;
 * WR_ELIMIT: max is reached or out of memory; WR_ESELF. */
int wr_kbucket_add(struct wr_kbucket *t, const struct wr_kentry *entry, bool replaceable,
                   wr_time now, struct wr_peerid *evicted);
/* True when wr_kbucket_add could succeed: worth the question that admission asks. */
bool wr_kbucket_wants(const struct wr_kbucket *t, const struct wr_kentry *entry, wr_time now);
bool wr_kbucket_remove(struct wr_kbucket *t, const uint8_t key[static WR_KAD_KEY]);
/* Borrowed until the table changes; the caller may set its times. NULL: not there. */
struct wr_kentry *wr_kbucket_find(const struct wr_kbucket *t, const uint8_t key[static WR_KAD_KEY]);
/* Up to n entries nearest to target, nearest first, borrowed until the table changes. */
size_t wr_kbucket_closest(const struct wr_kbucket *t, const uint8_t target[static WR_KAD_KEY],
                          const struct wr_kentry **out, size_t n);
/* Every entry, bucket by bucket; start with *cursor = 0; NULL at the end. The current entry may be
 * removed between calls only by starting over. */
struct wr_kentry *wr_kbucket_next(const struct wr_kbucket *t, size_t *cursor);
/* The table has settled: nobody is replaceable any more. */
void wr_kbucket_settle(struct wr_kbucket *t);

/* ---- upkeep. A bucket asks for a refresh when no lookup has passed through it for an interval
 * that doubles as long as refreshing finds nobody new. A full bucket whose entries have all shown
 * life needs none, whoever started the traffic. */
/* The shallowest bucket due at now; false when none is. */
bool wr_kbucket_refresh_due(const struct wr_kbucket *t, wr_time now, unsigned *cpl);
/* A lookup towards a target in this bucket has ended. */
void wr_kbucket_refreshed(struct wr_kbucket *t, const uint8_t target[static WR_KAD_KEY],
                          wr_time now);
/* When wr_kbucket_refresh_due may next be true; 0: never. */
wr_time wr_kbucket_refresh_at(const struct wr_kbucket *t);
/* The entry silent for longest, if longer than WR_KBUCKET_CHECK_AFTER; else NULL. */
struct wr_kentry *wr_kbucket_check_due(const struct wr_kbucket *t, wr_time now);

#endif
