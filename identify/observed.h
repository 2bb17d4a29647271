/* observed.h - votes of peers on the address they see us at. Value.
 * What one peer says may be a lie or a NAT's whim; an address counts as ours once peers of several networks
 * agree (transport sheet 10.5). Votes are kept per local socket address - the listening one that the
 * connection uses - and per network of the observer (IPv4 /32, IPv6 /56): many peers of one network are one
 * observer, the latest of them counts. Evidence lasts as long as its connections and some minutes more.
 *
 * An external address is active when enough networks saw it and more than a quarter of all that judge the
 * same socket did: so one liar in five never wins, however many they are, and a NAT that gives every
 * destination another port yields nothing. Every candidate is visible from its first vote on.
 *
 * An observer's network is as small as go's (observedaddrs: IPv4 /32, IPv6 /56, four of them), not the /16 and /32 that
 * AutoNAT's verdicts ask for (autonat/verdict.h): swarms of a few machines at one provider have to work, and what
 * is won by being many here is little. Whoever owns a whole /24 needs more than a quarter of all observers to have us
 * name an address that nobody got through to; it is not announced once that is refuted, nor at all in a family where
 * strangers do not reach us (addrbook.h), and a connection to it proves a key that only we have. */
#ifndef WR_OBSERVED_H
#define WR_OBSERVED_H

#include "transport/env.h"
#include "transport/maddr.h"
#include "transport/map.h"

#define WR_OBSERVED_ACTIVATE  3                /* networks that make an address ours; policy, go 4 */
#define WR_OBSERVED_KEEP      2                /* fewer and it is given up; policy */
#define WR_OBSERVED_SHARE     4                /* more than 1/4 of the networks must agree; ours */
#define WR_OBSERVED_TOP       3                /* active addresses per local socket; go */
#define WR_OBSERVED_MEMORY    (10 * WR_MIN)    /* after the last connection of the observer; policy */
#define WR_OBSERVED_ENTRIES   1024             /* observers times sockets; ours */
#define WR_OBSERVED_LIST_MAX  64               /* candidates counted; ours: rarer ones than 1 in 65 drop out */

/* ip and port of one end, and over what. */
struct wr_waist {
    struct wr_addr addr;
    bool udp;
};

struct wr_observation;

/* One connection's vote; embedded by whoever keeps connections, zeroed before first use. */
struct wr_vote {
    struct wr_list node;
    struct wr_observation *of;    /* NULL: none */
};

struct wr_candidate {
    struct wr_waist local, external;
    unsigned networks;    /* that saw us there */
    unsigned all;         /* that judged this local socket */
    bool active;
};

struct wr_observed {
    struct wr_map map;       /* of struct wr_observation, by socket and observer's network */
    struct wr_list order;    /* longest without news first */
    struct wr_candidate active[WR_OBSERVED_LIST_MAX];
    size_t active_count;
};

void wr_observed_init(struct wr_observed *o, const uint8_t seed[static WR_MAP_SEED]);
void wr_observed_clear(struct wr_observed *o);    /* votes are empty afterwards */

/* A multiaddr down to its waist, when it is ip and tcp, or ip and udp (what follows is ignored), without a
 * relay; else false. */
bool wr_waist_of(struct wr_bytes ma, struct wr_waist *out);

/* A peer at `remote` says that it sees us at `seen`, over a connection that has `local` at our end; local
 * must be a listening socket. Replaces the earlier vote. 0; WR_EINVAL: no evidence (loopback, relayed,
 * another family or transport, private as seen from a public network, or simply the local address);
 * WR_ELIMIT. */
int wr_observed_vote(struct wr_observed *o, struct wr_vote *vote, const struct wr_waist *local,
                     const struct wr_addr *remote, struct wr_bytes seen, wr_time now);
/* The connection ended: its vote counts for WR_OBSERVED_MEMORY more. */
void wr_observed_leave(struct wr_observed *o, struct wr_vote *vote, wr_time now);
/* Forgets what was said about sockets that are not among these any more. */
void wr_observed_keep(struct wr_observed *o, const struct wr_waist *locals, size_t count);
/* Forgets what is over at now, and counts. True when the set of active addresses changed. */
bool wr_observed_judge(struct wr_observed *o, wr_time now);
/* When judge has something to forget; 0: never. */
wr_time wr_observed_next(const struct wr_observed *o);
/* Candidates, most networks first; returns how many of at most max. */
size_t wr_observed_list(const struct wr_observed *o, struct wr_candidate *out, size_t max);
/* Where somebody saw us last: distinct ones, newest first; returns how many of at most max. */
size_t wr_observed_fresh(const struct wr_observed *o, struct wr_waist *out, size_t max);

#endif
