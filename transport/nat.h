/* nat.h - what is known of the NAT in front of us. Value. The words are those of RFC 4787, section 4 and 5.
 * UDP and TCP are translated apart; IPv6 hardly ever is, and of it only mapping and filtering are told. Nothing here is believed without evidence: a field that has
 * none says UNKNOWN or 0. autonat fills it, dcutr plans by it, `check` prints it. */
#ifndef WR_NAT_H
#define WR_NAT_H

#include "transport/addr.h"
#include "transport/env.h"

enum wr_nat_mapping {
    WR_NAT_MAP_UNKNOWN,
    WR_NAT_MAP_NONE,    /* our own address is the one that is seen: no NAT, maybe a firewall */
    WR_NAT_MAP_EIM,     /* endpoint-independent: one outside port for each of ours */
    WR_NAT_MAP_ADM,     /* another one for every remote address */
    WR_NAT_MAP_APDM,    /* another one for every remote address and port */
};

enum wr_nat_filtering {
    WR_NAT_FILTER_UNKNOWN,
    WR_NAT_FILTER_EIF,     /* anybody gets in where there is a mapping */
    WR_NAT_FILTER_ADF,     /* remote addresses that we sent to */
    WR_NAT_FILTER_APDF,    /* remote addresses and ports that we sent to */
};

enum wr_nat_alloc {
    WR_NAT_ALLOC_UNKNOWN,
    WR_NAT_ALLOC_PRESERVING,    /* the outside port is ours, as long as nobody else has it */
    WR_NAT_ALLOC_SEQUENTIAL,    /* the next one is `step` further */
    WR_NAT_ALLOC_BLOCK,         /* random within port_lo to port_hi */
    WR_NAT_ALLOC_RANDOM,
};

enum wr_nat_answer { WR_NAT_ANSWER_UNKNOWN, WR_NAT_ANSWER_NO, WR_NAT_ANSWER_YES };

enum wr_reachability {
    WR_REACH_UNKNOWN,
    WR_REACH_PUBLIC,     /* strangers get through to an address of ours */
    WR_REACH_PRIVATE,    /* they do not: relays are needed */
};
const char *wr_reachability_name(enum wr_reachability reachability);    /* "unknown", "public", "private"; static */

/* One transport. */
struct wr_nat_kind {
    enum wr_nat_mapping mapping;
    enum wr_nat_filtering filtering;
    enum wr_nat_alloc alloc;
    enum wr_nat_answer pooling;    /* several outside addresses in use */
    enum wr_nat_answer hairpin;    /* our own outside address leads back to us */
    int step;                      /* of sequential ports, may be negative */
    unsigned rate_milli;           /* mappings of others in a thousand seconds */
    uint16_t last_port;            /* newest outside port seen; 0 none ... */
    wr_time last_port_at;          /* ... and when its mapping was made */
    uint16_t port_lo, port_hi;     /* of all outside ports seen */
    wr_time lifetime;              /* of an idle mapping; 0: not known. See wr_swarm_set_lifetime */
    bool lifetime_least;           /* so long at least: none was seen to end */
    unsigned samples;              /* observations behind this */
};

struct wr_nat {
    struct wr_nat_kind udp, tcp;      /* of IPv4 */
    struct wr_nat_kind udp6, tcp6;    /* of IPv6: mapping, filtering, samples */
    struct wr_ip external;    /* the outside address most peers see; family 0: none yet */
    bool strangers;           /* one got through to us: no verdict, but it may well become one */
};
/* Something translates our addresses, as far as is known. */
bool wr_nat_translates(const struct wr_nat *nat);

#endif
