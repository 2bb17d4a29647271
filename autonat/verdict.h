/* verdict.h - from single answers of AutoNAT servers to a verdict on each address of ours. Machine: no
 * I/O. NAT sheet 3. One server may lie, be ill or sit in an odd place, so a verdict takes agreeing
 * answers of servers in several networks (IPv4 /16, IPv6 /32; where the servers have fewer than three of
 * these, smaller ones), or of all that there are when there are fewer; refusals and silence are no
 * evidence.
 *
 * Behind a NAT an answer means less: the dial-back of a server that we talk to also gets through a NAT
 * that lets in whomever we have talked to (address-dependent filtering, go-libp2p #3467). So an address
 * that only a NAT's mapping keeps alive is reachable only when a stranger, from whose IP nothing came
 * before, got through to it too. One exception: where the filter is known to let nobody in from another port
 * than was talked to, and the router says that it opened this one, whoever gets in from a fresh port will do.
 *
 *     put every address (begin, put ..., end); then each time round:
 *       i = wr_verdict_due(...)      ask a server that wr_verdict_wants, wr_verdict_asked
 *       the outcome                  wr_verdict_note: true when a verdict changed
 *
 * A known verdict is checked again from time to time: one answer that agrees is enough, one that does
 * not opens a round in which only new answers count. */
#ifndef WR_VERDICT_H
#define WR_VERDICT_H

#include "transport/addrbook.h"

#define WR_VERDICT_ADDRS    16 /* addresses judged; ours, go 50 */
#define WR_VERDICT_EVIDENCE 24 /* answers kept for each; ours */
#define WR_VERDICT_NEED     3  /* networks that agree; go: 3 net successes */
#define WR_VERDICT_BITS     16 /* of a network, see wr_verdict_networks; policy */
#define WR_VERDICT_PARALLEL 3  /* questions about one address at once; ours */

#define WR_VERDICT_EXPIRES     (5 * WR_HOUR) /* an answer; go */
#define WR_VERDICT_RECHECK     (1 * WR_HOUR) /* of a reachable address, and at most; go */
#define WR_VERDICT_RETRY       (5 * WR_MIN)  /* of an unreachable one, doubling up to the above; ours */
#define WR_VERDICT_DOUBT       (10 * WR_SEC) /* between the questions of a round that an answer opened */
#define WR_VERDICT_BACKOFF     (5 * WR_SEC)  /* after an answer that says nothing, doubling ...; go */
#define WR_VERDICT_BACKOFF_MAX (5 * WR_MIN)  /* ... up to; go */
#define WR_VERDICT_ROUND_MAX   8             /* questions of one round that may stay without result; ours */
#define WR_VERDICT_FRIENDS     2 /* answers of friends wanted about an unreachable address; ours */
#define WR_VERDICT_STRANGER_AGAIN                                                                          \
    (2 * WR_MIN) /* a server that found no stranger is asked for one again; ours ... */
#define WR_VERDICT_STRANGER_SOON                                                                           \
    (5 * WR_SEC) /* ... where nothing else is missing so soon, and then as late as half of what has been waited for it */

enum wr_verdict_outcome { WR_VERDICT_NOTHING, WR_VERDICT_REACHED, WR_VERDICT_FAILED };

struct wr_verdict_evidence {
    struct wr_ip from; /* the server */
    bool reached;
    bool stranger;        /* the dial came, or would have come, from somebody whom we never talked to */
    bool stranger_wanted; /* it was asked for */
    wr_time at;
};

struct wr_verdict_addr {
    struct wr_maddr addr;
    uint8_t family;
    bool udp, natted; /* natted: only the mapping of a NAT */
    bool opened;      /* the router says that it opened this one */
    bool marked;
    enum wr_addr_verdict verdict;
    wr_time since;    /* of the verdict */
    wr_time next_at;  /* when to ask again */
    wr_time round_at; /* answers before this one do not count any more; 0: all do */
    unsigned round_asked;
    unsigned running; /* questions under way */
    unsigned nothing; /* answers in a row that said nothing */
    unsigned checks;  /* of an unreachable address in a row */
    unsigned
        curious; /* friends still to be asked, though the verdict stands: they tell the kind of filter */
    size_t count;
    struct wr_verdict_evidence of[WR_VERDICT_EVIDENCE];
};

struct wr_verdict {
    struct wr_verdict_addr of[WR_VERDICT_ADDRS];
    size_t count;
    unsigned bits; /* of an IPv4 network, twice as many of an IPv6 one; 0: WR_VERDICT_BITS */
};

/* How many networks an answer can come from now. settled: no new one has turned up for a while; before that
 * fewer than WR_VERDICT_NEED are not taken for all. */
struct wr_verdict_world {
    unsigned networks;
    bool settled;
    uint32_t jitter; /* any number: spreads the checks */
};

/* Chooses how large a network is, so that these servers stand in at least WR_VERDICT_NEED of them if
 * they can, and returns in how many they do. */
unsigned wr_verdict_networks(struct wr_verdict *v, const struct wr_ip *servers, size_t count);

/* The set of addresses: what is not put between begin and end is forgotten; what was there keeps its
 * evidence. */
void wr_verdict_begin(struct wr_verdict *v);
bool wr_verdict_put(struct wr_verdict *v, struct wr_bytes addr, bool natted, wr_time now); /* false: full */
void wr_verdict_end(struct wr_verdict *v);
void wr_verdict_reset(struct wr_verdict *v); /* another network: forgets everything */
int wr_verdict_find(const struct wr_verdict *v, struct wr_bytes addr); /* index or -1 */
/* The router says that it has opened address i, or not any more. Where that is news, what was found out before says
 * nothing, and it is asked for at once; what was reachable is so until others say no. True when its verdict changed. */
bool wr_verdict_opened(struct wr_verdict *v, size_t i, bool opened, wr_time now);

/* The next address from index `from` on whose time has come, or -1. */
int wr_verdict_due(const struct wr_verdict *v, size_t from, wr_time now);
wr_time wr_verdict_next(const struct wr_verdict *v); /* when one is due; 0: none */

enum wr_verdict_wish { WR_VERDICT_NOT, WR_VERDICT_ANY, WR_VERDICT_STRANGER };
/* Would an answer of this server say something new? delegates: the server can have a stranger dial. */
enum wr_verdict_wish wr_verdict_wants(const struct wr_verdict *v, size_t i, const struct wr_ip *server,
                                      bool delegates, wr_time now);
/* When a server that was asked for a stranger, and found none, is worth asking again, or to be looked at again; 0: that is
 * not what is missing of it. */
wr_time wr_verdict_again(const struct wr_verdict *v, size_t i, const struct wr_ip *server, wr_time now);
void wr_verdict_asked(struct wr_verdict *v, size_t i, wr_time now);
void wr_verdict_postpone(struct wr_verdict *v, size_t i, wr_time until); /* nobody there to ask */
/* The outcome of a question about address i. True when its verdict changed. */
bool wr_verdict_note(struct wr_verdict *v, size_t i, const struct wr_verdict_evidence *answer,
                     enum wr_verdict_outcome outcome, const struct wr_verdict_world *world, wr_time now);
/* Judges anew: fewer networks may be enough now. True when its verdict changed. */
bool wr_verdict_judge(struct wr_verdict *v, size_t i, const struct wr_verdict_world *world, wr_time now);

/* What stands behind a verdict: networks of each kind of answer. */
struct wr_verdict_tally {
    unsigned reached; /* got through and proves it */
    unsigned half;    /* got through, but a NAT may have let it for having been talked to */
    unsigned failed;
};
void wr_verdict_count(const struct wr_verdict *v, size_t i, wr_time now, struct wr_verdict_tally *out);

#endif
