/* sim.h - the seam in virtual time: machines, links and faults, replayed from a seed.
 * Linked instead of env_uv, so that the very objects of the program run here by the thousand. Nothing
 * in it depends on the real clock, on addresses in memory or on other threads: one seed, one run, and
 * sim_trace says so.
 *
 *     struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
 *     struct sim_host *host = sim_host_add(sim, &(struct sim_host_options){0});
 *     ... build a node on sim_host_env(host), one on each host ...
 *     sim_run(sim, 10 * WR_SEC);
 *
 * Streams are reliable and in order: loss costs a retransmission's delay. Datagrams are lost and
 * overtake one another. What is sent to a machine that is off, behind a partition or refused by a
 * gateway vanishes: connects and writes find out by time-outs, as with real ones. */
#ifndef SIM_H
#define SIM_H

#include "transport/env.h"

struct sim;
struct sim_host;

/* ---- the world ------------------------------------------------------------------------------------ */

struct sim_options {
    uint64_t seed;
    const struct wr_log *log;    /* borrowed; for every host that has none of its own */
    /* Round trip between two machines: fixed, or when 0 drawn for each pair, log-normal. */
    wr_time rtt;
    wr_time rtt_median;    /* 0: 80 ms */
    double rtt_sigma;      /* 0: 0.6 */
    wr_time lan_rtt;       /* between machines of one LAN; 0: 300 us */
    double loss;           /* share of packets lost */
    double reorder;        /* share of datagrams that come late */
    size_t send_buffer;    /* bytes a stream has under way in each direction; 0: 1 MiB */
    size_t chunk_max;      /* bytes in one on_read; 0: 64 KiB */
    bool ragged;           /* on_read gets pieces of random size */
    wr_time stream_timeout;    /* unanswered bytes end a stream after this; 0: 120 s */
};

struct sim *sim_create(const struct sim_options *options);
/* Runs what is left to settle; then every socket must be closed (asserted: leaks are bugs). */
void sim_destroy(struct sim *sim);

wr_time sim_now(const struct sim *sim);
/* Lets one event happen; false when there is none. */
bool sim_step(struct sim *sim);
wr_time sim_next(const struct sim *sim);    /* when that will be; 0: none */
/* Runs to an instant, or for a while; time then stands exactly there. */
void sim_run_until(struct sim *sim, wr_time at);
void sim_run(struct sim *sim, wr_time duration);
/* Runs until the condition holds or the time is over; says whether it held. */
bool sim_run_while(struct sim *sim, bool (*waiting)(void *arg), void *arg, wr_time at_most);

/* A digest of every event so far: the same seed gives the same one. */
uint64_t sim_trace(const struct sim *sim);
uint64_t sim_events(const struct sim *sim);    /* their number */
/* Chance for the test itself, from the seed; [0, below). */
uint64_t sim_random(struct sim *sim, uint64_t below);

/* ---- machines ------------------------------------------------------------------------------------- */

struct sim_gateway;

struct sim_host_options {
    const char *name;          /* borrowed; for the reader of logs */
    struct wr_ip ip4, ip6;     /* family 0 for both: one public address of each, in networks of its own */
    unsigned lan;              /* machines of one LAN are near and hear its multicast; 0: none */
    struct sim_gateway *gateway;    /* borrowed; NULL: on the internet itself */
    uint64_t bandwidth;        /* bytes per second, each way; 0: no limit */
    int64_t clock_error;       /* nanoseconds the wall clock is ahead */
    unsigned descriptors;      /* sockets it may hold; 0: no limit */
    const struct wr_log *log;
};

struct sim_host *sim_host_add(struct sim *sim, const struct sim_host_options *options);
struct wr_env *sim_host_env(struct sim_host *host);
struct sim_host *sim_host_of(struct wr_env *env);
const struct wr_ip *sim_host_ip4(const struct sim_host *host);
const struct wr_ip *sim_host_ip6(const struct sim_host *host);
unsigned sim_host_index(const struct sim_host *host);    /* in the order they were added, from 0 */
/* Bytes sent so far, and writes, datagrams and connects begun: to see who is loud. */
struct sim_traffic {
    uint64_t stream_bytes, stream_writes, datagram_bytes, datagrams, connects;
};
const struct sim_traffic *sim_host_traffic(const struct sim_host *host);

/* ---- faults --------------------------------------------------------------------------------------- */

/* Power off: timers stop and the network forgets the machine without a word. Its objects are then
 * destroyed in the usual way (nothing they do leaves the machine); settling still works. Of a store
 * (kv_mem.h: each machine has its own disks) only what was committed is there afterwards. */
void sim_kill(struct sim_host *host);
/* Power on, with nothing open; a new node may be built on the same environment. What peers send to
 * connections of before is answered with a reset. */
void sim_revive(struct sim_host *host);
bool sim_host_up(const struct sim_host *host);
/* Stops a machine in its tracks (as SIGSTOP does): all that arrives meanwhile waits for it. Watches hear
 * of it when it lasted five seconds. */
void sim_pause(struct sim_host *host, bool paused);
/* Packets pass only between machines of one side; all are on side 0 at first. */
void sim_set_side(struct sim_host *host, unsigned side);
void sim_heal(struct sim *sim);    /* all back to side 0 */
void sim_set_loss(struct sim *sim, double loss, double reorder);
/* Larger datagrams of wr_dgram_send vanish; 0: 1472 bytes, as over Ethernet. */
void sim_set_mtu(struct sim *sim, size_t bytes);
/* The system takes no datagrams of wr_dgram_send from now on, or again. */
void sim_jam(struct sim_host *host, bool jammed);
void sim_set_bandwidth(struct sim_host *host, uint64_t bandwidth);
/* Datagrams of wr_dgram_send that would wait longer than this before a machine's line are lost; 0: 100 ms. */
void sim_set_queue(struct sim_host *host, wr_time queue);
/* A machine with other work to do: what comes while it sleeps, timers as well, waits up to so long for its turn, and
 * what comes until then is handled together. 0: it is at once. */
void sim_set_late(struct sim_host *host, wr_time late);
/* How many sockets a machine may hold; 0: any number. Those that are open stay. */
void sim_set_descriptors(struct sim_host *host, unsigned max);
unsigned sim_descriptors(const struct sim_host *host);    /* open now */
/* New addresses (family 0: none) and LAN: what was open on the old ones is cut off, watches are told. */
void sim_move(struct sim_host *host, struct wr_ip ip4, struct wr_ip ip6, unsigned lan);
/* A second IPv6 address, as privacy extensions make them; the machine sends from it until it is deprecated. Family 0:
 * its time is over. Watches are told. */
void sim_set_temporary(struct sim_host *host, struct wr_ip ip6, bool deprecated);
/* A cable pulled and put back at once: nothing differs, and watches are told. */
void sim_cut(struct sim_host *host);
/* Takes the default routes away (what is sent still arrives) or gives them back; watches are told. */
void sim_set_routes(struct sim_host *host, bool routes);

/* Allocations made in handlers fail from now on: those of number `skip`, `skip + 1` ... (from 0), in
 * all `count` of them; count 0 ends it. For all simulations of the process. */
void sim_alloc_fail(uint64_t skip, uint64_t count);
uint64_t sim_alloc_count(void);    /* allocations made in handlers since sim_alloc_fail */

/* ---- names ---------------------------------------------------------------------------------------- */

/* One more record for a name: 4 or 16 bytes, or the text of a TXT record (copied). */
void sim_name_add(struct sim *sim, const char *name, enum wr_lookup_type type, struct wr_bytes record);
void sim_names_down(struct sim *sim, bool down);    /* lookups time out */

/* ---- gateways: NATs and firewalls on the path ------------------------------------------------------- */

enum sim_packet_kind { SIM_SYN, SIM_SYNACK, SIM_ACK, SIM_RST, SIM_DATA, SIM_DATAGRAM };

/* The head of a packet, as a gateway sees and rewrites it. Data of a stream shows as SIM_DATA each time
 * some arrives; its address rewriting only has to lead to the same machine. */
struct sim_head {
    enum sim_packet_kind kind;
    struct wr_addr from, to;
    size_t len;
    bool refused;    /* set by an inbound that says false: a SYN is answered by a reset */
};

/* Sits between an inner network, whose addresses mean nothing outside, and an outer one. */
struct sim_gateway {
    struct sim_gateway *outer;    /* borrowed; NULL: the internet */
    struct wr_ip ip4, ip6;        /* its own addresses outside; family 0: none */
    /* May rewrite `from` (on the way out) or `to` (on the way in); false: dropped. A packet from inside
     * for its own outer address goes out and comes in again. */
    bool (*outbound)(struct sim_gateway *gateway, struct sim_head *head, wr_time now);
    bool (*inbound)(struct sim_gateway *gateway, struct sim_head *head, wr_time now);
    void *state;
    unsigned id;    /* the simulator's */
};

void sim_gateway_add(struct sim *sim, struct sim_gateway *gateway);    /* borrowed for the sim's life */
/* One more address of its outside leads to it. */
void sim_gateway_add_ip(struct sim *sim, struct sim_gateway *gateway, const struct wr_ip *ip);
unsigned sim_gateway_count(const struct sim *sim);

#endif
