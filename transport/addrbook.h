/* addrbook.h - our own addresses: where we listen, what peers see of us, what is confirmed. Value.
 * Everybody who announces addresses (identify, the signed record, the DHT) reads them here; the
 * generation number tells that something changed. */
#ifndef WR_ADDRBOOK_H
#define WR_ADDRBOOK_H

#include "transport/policy.h"

#define WR_ADDRBOOK_MAX 64    /* addresses; ours */

enum wr_addr_source {
    WR_ADDR_LISTEN,       /* a bound socket, wildcard expanded to the interfaces */
    WR_ADDR_OBSERVED,     /* enough peers saw us there */
    WR_ADDR_MAPPED,       /* a port mapping of the gateway */
    WR_ADDR_RELAYED,      /* through a relay that holds a reservation of ours */
    WR_ADDR_CONFIGURED,   /* the owner says so */
    WR_ADDR_CANDIDATE,    /* somebody saw us there: to be probed, and to punch holes with */
};

enum wr_addr_verdict { WR_ADDR_UNKNOWN, WR_ADDR_REACHABLE, WR_ADDR_UNREACHABLE };
const char *wr_addr_verdict_name(enum wr_addr_verdict verdict);    /* "unknown", "reachable", "unreachable"; static */

struct wr_own_addr {
    struct wr_maddr addr;           /* without /p2p */
    enum wr_addr_source source;
    enum wr_addr_verdict verdict;
    wr_time since;                  /* of the verdict, or of the entry */
};

struct wr_addrbook {
    struct wr_own_addr of[WR_ADDRBOOK_MAX];
    size_t count;
    uint64_t generation;
    const struct wr_policy *policy;    /* borrowed, may be NULL: which addresses count as public */
    bool private4, private6;           /* strangers do not reach us by that family: what peers see is no way in */
};

void wr_addrbook_init(struct wr_addrbook *b);
/* One address may stand there from several sources; they share a verdict. Adds or refreshes. Returns true when the set
 * changed (generation grew). Full: false. */
bool wr_addrbook_put(struct wr_addrbook *b, struct wr_bytes addr, enum wr_addr_source source,
                     wr_time now);
bool wr_addrbook_del(struct wr_addrbook *b, struct wr_bytes addr, enum wr_addr_source source);
/* Removes every address of this source. */
bool wr_addrbook_clear_source(struct wr_addrbook *b, enum wr_addr_source source);
/* After addresses were taken out and put in anew: those that stood in `old` have their verdict back. */
void wr_addrbook_inherit(struct wr_addrbook *b, const struct wr_addrbook *old);
bool wr_addrbook_judge(struct wr_addrbook *b, struct wr_bytes addr, enum wr_addr_verdict verdict,
                       wr_time now);
/* family: 4 or 6. Returns true when that changed what is announced. */
bool wr_addrbook_set_private(struct wr_addrbook *b, unsigned family, bool private);
/* The addresses to announce to a peer that is connected from `to` (NULL: to anybody, as in the DHT:
 * public ones only): loopback only to loopback, private only to private or local peers, link-local only to
 * link-local ones, unreachable ones never, candidates and mappings (and in a private family what peers see) only
 * once they are known to be reachable; sorted best first. Returns how many of at most max. */
size_t wr_addrbook_announce(const struct wr_addrbook *b, const struct wr_ip *to, struct wr_maddr *out,
                            size_t max);
/* Peers of one scope are told the same: a number below WR_ADDRBOOK_SCOPES. */
#define WR_ADDRBOOK_SCOPES 5
unsigned wr_addrbook_scope(const struct wr_addrbook *b, const struct wr_ip *to);
bool wr_addrbook_has(const struct wr_addrbook *b, struct wr_bytes addr);    /* one of ours? */
bool wr_addrbook_public(const struct wr_addrbook *b);    /* a confirmed public address exists */

#endif
