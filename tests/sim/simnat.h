/* simnat.h - NATs and firewalls for the simulator, one for each combination of the words of RFC 4787.
 * A table of sessions as conntrack keeps it: every packet of a machine inside belongs to a session (inner
 * address, outer address, remote address); what a mapping is and who gets in are read off the sessions.
 *
 *     struct simnat *home = simnat_add(sim, &(struct simnat_options){.filtering = SIMNAT_APDF});
 *     sim_host_add(sim, &(struct sim_host_options){.gateway = simnat_gateway(home), .ip4 = ...});
 *
 * All defaults (0) together are the NAT that most homes have but for its filtering: a port for each of
 * ours, kept if it is free. Streams and datagrams are treated alike but for their time-outs. What is left
 * out: port mapping protocols, fragments, ICMP. */
#ifndef SIMNAT_H
#define SIMNAT_H

#include "tests/sim/sim.h"

enum simnat_mapping {
    SIMNAT_EIM,     /* one outer port for each inner one */
    SIMNAT_ADM,     /* another for every remote address */
    SIMNAT_APDM,    /* another for every remote address and port */
    SIMNAT_NONE,    /* a firewall: nothing is rewritten; the machines inside have its addresses */
};

enum simnat_filtering { SIMNAT_EIF, SIMNAT_ADF, SIMNAT_APDF };

enum simnat_alloc {
    SIMNAT_PRESERVING,    /* the inner port; when another machine has it a random one */
    SIMNAT_SEQUENTIAL,    /* `step` after the last; streams and datagrams are counted apart */
    SIMNAT_RANDOM,
};

/* What becomes of packets that nobody inside asked for. */
enum simnat_unsolicited {
    SIMNAT_DROP,
    SIMNAT_REFUSE,    /* a SYN is answered by a reset */
    SIMNAT_ANSWER,    /* the router takes them for its own, as Linux does: a reset for a SYN; after a datagram a
                         session of its own stands in the way, and a machine inside that would use the same outer
                         port and remote address gets another port, for this remote and later ones */
};

#define SIMNAT_POOL_MAX 4

struct simnat_options {
    enum simnat_mapping mapping;
    enum simnat_filtering filtering;
    enum simnat_alloc alloc;
    int step;                         /* 0: 1 */
    uint16_t port_lo, port_hi;        /* of allocated ports; 0: 1024 to 65535 */
    enum simnat_unsolicited unsolicited;
    unsigned pool;                    /* outer addresses, a random one for each mapping; 0: 1 */
    bool paired;                      /* of a pool, always the same one for a machine inside */
    bool hairpin;                     /* machines inside meet under their outer addresses */
    bool reset_kills;                 /* a reset from outside ends the session at once */
    bool no_udp;                      /* datagrams go nowhere */
    unsigned sessions_max;            /* new ones beyond are dropped; 0: no limit */
    wr_time udp_unreplied, udp_stream, tcp_opening, tcp_open;    /* 0: 30 s, 120 s, 120 s, 7440 s; Linux */
    struct wr_ip ip4, ip6;            /* outer addresses; of ip6 the machines inside have the same, it is only
                                         filtered; family 0 for both: a public IPv4 address of its own */
    bool open6;                       /* and ip6 not even that */
    struct simnat *outer;             /* borrowed: a carrier's; NULL: the internet */
};

struct simnat;

/* Lives as long as the simulation; simnat_free after sim_destroy. */
struct simnat *simnat_add(struct sim *sim, const struct simnat_options *options);
void simnat_free(struct simnat *nat);
struct sim_gateway *simnat_gateway(struct simnat *nat);
const struct wr_ip *simnat_ip4(const struct simnat *nat);

void simnat_restart(struct simnat *nat);    /* forgets every session */
/* Whoever calls this port outside, by streams or by datagrams, gets to the same port of a machine inside, as the owner of
 * the router or a protocol has asked it. One machine for each NAT. */
void simnat_forward(struct simnat *nat, const struct wr_ip *inner, uint16_t port);
/* Datagrams that come from this address are lost from now on; NULL: none are. */
void simnat_deaf(struct simnat *nat, const struct wr_ip *to);
unsigned simnat_sessions(struct simnat *nat);    /* alive now */

struct simnat_count {
    unsigned sessions_peak;
    unsigned over_cap;       /* packets out that found no room for a session */
    unsigned unsolicited;    /* packets in that nobody asked for */
    unsigned moved;          /* sessions that had to take another port, see SIMNAT_ANSWER */
};
const struct simnat_count *simnat_count(const struct simnat *nat);

#endif
