/* autonat_client.h - finds out whether we can be reached, and where: AutoNAT version 2 and 1, asking
 * side. Service. Spec: libp2p autonat/autonat-v2.md, autonat-v1.md; NAT sheet 3. What it learns goes to
 * the address book (a verdict for each address), to wr_swarm_set_reachability for each family, and to
 * wr_swarm_nat.
 *
 *   we --- is this address reachable? (ask.h) ---> server
 *   we <-- dial-back: nonce ---- whoever dials for it, to the very address
 *   we --- response ---> him
 *   we <-- what he saw ---- server                 an OK without the nonce is not believed
 *
 * Which address, which server, and what the answers amount to: verdict.h. Servers are connected peers in
 * the public network that speak the protocol; version 1 is spoken when nobody knows version 2. One that
 * refuses to dial (homes do) is not counted among those whose agreement is waited for, until it does. Without
 * servers (LAN, loopback) everything stays unknown and nothing is sent. */
#ifndef WR_AUTONAT_CLIENT_H
#define WR_AUTONAT_CLIENT_H

#include "autonat/lifetime.h"
#include "autonat/verdict.h"
#include "transport/swarm.h"

#define WR_AUTONAT_CLIENT_SERVERS   64              /* remembered; ours: connected ones first */
#define WR_AUTONAT_CLIENT_PROBES    8               /* questions at once; go 5 workers */
#define WR_AUTONAT_CLIENT_BUSY      2               /* questions to one server at once; go takes no more */
/* Bytes of dial data, at once and then a second, for addresses that are not where the server sees us: it wants them for
 * each of those, and a stranger can have seen us anywhere. A question costs 30,000 to 100,000; so three can be asked, which
 * is a verdict. Ours. */
#define WR_AUTONAT_CLIENT_DATA       (192 * 1024)
#define WR_AUTONAT_CLIENT_DATA_RATE  1024
#define WR_AUTONAT_CLIENT_DATA_AFTER (5 * WR_SEC) /* after the first server: by then it is known whether every peer sees
                                                     another port, where none is worth it; ours */
#define WR_AUTONAT_CLIENT_BACKS     16              /* dial-back streams at once; ours */
#define WR_AUTONAT_CLIENT_FIRST     (500 * WR_MSEC) /* from a new address or server to the question; go 1 s */
#define WR_AUTONAT_CLIENT_AGAIN     (2 * WR_MIN)    /* between two questions to one server; go */
#define WR_AUTONAT_CLIENT_FEW       8               /* servers that dial: fewer, or fewer than answers are wanted for all
                                                       addresses, are asked more often ... */
#define WR_AUTONAT_CLIENT_AGAIN_FEW (2 * WR_SEC)    /* ... than that; ours: their rates allow 12 a minute */
#define WR_AUTONAT_CLIENT_QUIET     (10 * WR_MIN)   /* a server that refused is left alone for; go ... */
#define WR_AUTONAT_CLIENT_QUIET_FEW (30 * WR_SEC)   /* ... or, where there are few; ours ... */
#define WR_AUTONAT_CLIENT_BUSY_FEW  (4 * WR_SEC)    /* ... who only had too much to do for this, doubling up to that; ours */
#define WR_AUTONAT_CLIENT_SETTLED                                                                          \
    (5 * WR_SEC) /* without a new server: those known are taken for all; ours */
#define WR_AUTONAT_CLIENT_HARD                                                                             \
    (15 * WR_SEC) /* nothing confirmed, every peer sees another port: private                              \
                   */
#define WR_AUTONAT_CLIENT_PRIVATE                                                                          \
    (60 * WR_SEC) /* nothing confirmed though servers tried, and not all got through: private; sheet 3 */

struct wr_autonat_client;

/* NULL: out of memory. */
struct wr_autonat_client *wr_autonat_client_create(struct wr_swarm *sw);
void wr_autonat_client_destroy(struct wr_autonat_client *c); /* before the swarm; NULL is allowed */

/* What stands behind the verdict on an address of ours; false: it is not judged. */
bool wr_autonat_client_tally(const struct wr_autonat_client *c, struct wr_bytes addr,
                             struct wr_verdict_tally *out);
unsigned wr_autonat_client_servers(const struct wr_autonat_client *c); /* that can be asked now */

/* Embedded by whoever wants to know now how long the NAT remembers a silent socket (wr_nat_kind.lifetime of UDP). It
 * is learnt anyway, but within an hour; this way it takes as long as the NAT remembers, six minutes at most, and some
 * twenty sockets at once. */
struct wr_autonat_measure {
    struct wr_list node;
    struct wr_autonat_client *client;              /* NULL: not waiting */
    void (*on_done)(struct wr_autonat_measure *m); /* in a later turn; also when nothing was found out */
};
void wr_autonat_client_measure(struct wr_autonat_client *c, struct wr_autonat_measure *m);
void wr_autonat_measure_cancel(struct wr_autonat_measure *m); /* also when it does not wait */

/* What outlives this service: how long the NAT remembers, as far as that was found out. The network that it is about is
 * told by what is known of its NAT: the outside address, the mapping and the filtering of UDP. */
struct wr_autonat_memory {
    /* False: nothing is remembered of that network. It is tried before it is relied on for good. */
    bool (*recall)(void *arg, const struct wr_nat *nat, struct wr_lifetime *out);
    void (*keep)(void *arg, const struct wr_nat *nat, const struct wr_lifetime *known); /* NULL: it is not so any more */
    void *arg;
};
void wr_autonat_client_set_memory(struct wr_autonat_client *c, const struct wr_autonat_memory *memory);

struct wr_autonat_client_stats {
    uint64_t asked, asked_v1;
    uint64_t reached, failed, refused, broken; /* answers */
    uint64_t unproved;                         /* said to have got through, without bringing the nonce */
    uint64_t strangers;                        /* got through to us without our having talked to them */
    uint64_t dial_backs;                       /* streams with a nonce of ours; and with none: */
    uint64_t strays;
    uint64_t data_bytes; /* of dial data, asked for by servers */
};
void wr_autonat_client_stats(const struct wr_autonat_client *c, struct wr_autonat_client_stats *out);

#endif
