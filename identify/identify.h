/* identify.h - who are you, and where are you seen from: asks every peer, answers every peer, pushes what
 * changed. Service. Spec: libp2p identify/README.md; behaviour of others in transport sheet 10.
 *
 *   we    --- open /ipfs/id/1.0.0 (in the turn the connection opens) --->   peer
 *   we    <--- one or two messages, end of stream ---                       peer
 *   we    --- open /ipfs/id/push/1.0.0, the same messages, end --->         peer, when ours changed; again
 *                                                                           later when the peer refuses it
 *   we    --- open /ipfs/id/1.0.0 again --->                                peer, a few, when our network changed
 *
 * What a peer said goes to the peerstore; the swarm is told (WR_SWARM_IDENTIFIED, WR_SWARM_PEER_CHANGED).
 * What peers see of us is counted in observed.h, and the address book holds as WR_ADDR_OBSERVED what enough
 * of them agree on, and as WR_ADDR_CANDIDATE where a few saw us lately: for AutoNAT to try and to punch holes with. */
#ifndef WR_IDENTIFY_H
#define WR_IDENTIFY_H

#include "identify/identify_msg.h"
#include "identify/observed.h"
#include "transport/swarm.h"

#define WR_IDENTIFY_TIMEOUT     (10 * WR_SEC)    /* one exchange; go waits 5 s, rust 60 s */
#define WR_IDENTIFY_RETRY       (5 * WR_SEC)     /* after one that broke off; once per connection; ours */
#define WR_IDENTIFY_DEBOUNCE    (1 * WR_SEC)     /* changes gather before a push; js */
#define WR_IDENTIFY_PUSH_EVERY  (5 * WR_SEC)     /* per peer, at most; transport sheet 10.4. But where we can be reached from
                                                    now on, or no longer, all peers know within a second of the verdict: */
#define WR_IDENTIFY_PROMPT      (250 * WR_MSEC)  /* such changes gather for no longer; those of places at relays, which seldom
                                                    change alone, for DEBOUNCE; ours */
#define WR_IDENTIFY_PROMPT_MAX  3                /* ... and are pushed at once so often, then one per PUSH_EVERY; ours, go takes
                                                    10 of a network at once */
#define WR_IDENTIFY_PUSH_TRIES  5                /* of news that the peer refuses, each after twice the time; ours */
#define WR_IDENTIFY_PUSHES_MAX  32               /* under way at once; go, js */
#define WR_IDENTIFY_ANSWERS_MAX 64               /* answers and pushes of others under way; go. Then one of a larger
                                                    crowd than the newcomer's goes (crowds.h) */
#define WR_IDENTIFY_PUSH_RATE   (5 * WR_SEC)     /* pushes taken per connection: one per ... */
#define WR_IDENTIFY_PUSH_BURST  10               /* ... after these; go, per network. Who sends more is asked instead */
#define WR_IDENTIFY_JUDGE       (250 * WR_MSEC)  /* from an observation to the address book; ours */
#define WR_IDENTIFY_MOVED       (500 * WR_MSEC)  /* after a change of our network peers are asked where they see us now ... */
#define WR_IDENTIFY_MOVED_PEERS 8                /* ... so many; ours: three networks make an address, one may lie */
#define WR_IDENTIFY_CANDIDATES  8                /* WR_ADDR_CANDIDATE entries in the address book; ours ... */
#define WR_IDENTIFY_FRESH       32               /* ... taken from so many of the newest observations */

struct wr_identify;

struct wr_identify_options {
    struct wr_swarm *swarm;          /* outlives the service */
    const char *agent;               /* borrowed; NULL: "warren/VERSION" */
    const char *protocol_version;    /* borrowed; NULL: "ipfs/0.1.0", as kubo and js say */
    /* The seq of the next signed record: greater than any before, over restarts too. NULL: the wall clock in
     * nanoseconds, forced upwards. */
    uint64_t (*next_seq)(void *arg);
    void *arg;
};

/* Registers both protocols and watches the swarm; connections that are open already are asked. NULL: out of
 * memory. */
struct wr_identify *wr_identify_create(const struct wr_identify_options *options);
/* Before the swarm is destroyed. NULL is allowed. */
void wr_identify_destroy(struct wr_identify *id);

/* Where peers see us, active or not; most witnesses first. Returns how many of at most max. */
size_t wr_identify_candidates(const struct wr_identify *id, struct wr_candidate *out, size_t max);

struct wr_identify_stats {
    uint64_t asked, answered, pushed, taken;     /* exchanges finished; taken: pushes of others */
    uint64_t failed, refused;                    /* that broke off; that a bound refused */
};
void wr_identify_stats(const struct wr_identify *id, struct wr_identify_stats *out);

#endif
