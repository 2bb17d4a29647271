/* diagnose.h - what stands between this node and the world: evidence in, reasons out. Value.
 * `check` prints them; `status` warns by them. The first finding is the verdict: how strangers reach this node.
 * The others follow, what hurts most first. */
#ifndef WR_DIAGNOSE_H
#define WR_DIAGNOSE_H

#include "node/reason.h"
#include "transport/nat.h"

enum wr_diagnose_mapping {
    WR_DIAGNOSE_MAPPING_OFF,        /* not asked for */
    WR_DIAGNOSE_MAPPING_LEARNING,   /* asked, no answer yet */
    WR_DIAGNOSE_MAPPING_NONE,       /* no router answered */
    WR_DIAGNOSE_MAPPING_REFUSED,
    WR_DIAGNOSE_MAPPING_MADE,
};

struct wr_diagnose_input {
    bool online;                  /* an interface has an address beyond this machine */
    bool public4, global6;        /* an interface has a public address of that family */
    bool only6;                   /* we listen by IPv6 alone, beyond this machine */
    enum wr_reachability reach4, reach6;
    struct wr_nat nat;
    enum wr_diagnose_mapping mapping;
    struct wr_ip mapped;          /* outside address that the router names; family 0: none */
    bool carrier, nested;         /* it is the carrier's; another NAT stands behind the router */
    bool udp_blocked;
    bool clock_wrong;
    bool twin;
    bool no_peers;
    bool port_in_use;
    uint64_t punched, punch_failed;    /* attempts that ended in a direct connection; that both sides made in vain */
    bool relay_wanted, relayed;   /* strangers cannot reach us; a relay holds a place for us */
    bool relay_full, relay_refused; /* the last relay's answer, where one is wanted or was named by the owner */
};

/* NATs one behind the other, of IPv4. How many more than two cannot be told from here. */
enum wr_diagnose_layers {
    WR_DIAGNOSE_LAYERS_UNKNOWN,
    WR_DIAGNOSE_LAYERS_NONE,    /* peers see our own address */
    WR_DIAGNOSE_LAYERS_ONE,     /* the router's outside address is the one that peers see */
    WR_DIAGNOSE_LAYERS_MORE,    /* the router itself stands behind another one: two at least */
};

#define WR_DIAGNOSE_PUNCHES 6 /* attempts in vain, and none else, that mean something: two peers, three each; ours */

#define WR_FINDINGS_MAX 14 /* reasons below that can hold at once */

struct wr_findings {
    enum wr_reason of[WR_FINDINGS_MAX];
    size_t count; /* at least 1 */
};

void wr_diagnose(const struct wr_diagnose_input *in, struct wr_findings *out);
/* What the router says of its outside address is held against what peers see. Without a router that says anything, and
 * where it names a public address at which nobody sees us (it has several, or lies), it is not known. */
enum wr_diagnose_layers wr_diagnose_layers(const struct wr_diagnose_input *in);
const char *wr_diagnose_layers_name(enum wr_diagnose_layers layers); /* "unknown", "none", "one", "two-or-more" */

#endif
