/* sim_priv.h - what the files of the simulator share. */
#ifndef SIM_PRIV_H
#define SIM_PRIV_H

#include "tests/sim/sim.h"

#include "transport/env_turn.h"
#include "transport/map.h"

#include <assert.h>

#define SIM_LOOPBACK (20 * WR_USEC)    /* one way, within a machine */

/* Something that will happen; embedded in what it happens to. Zeroed: nothing pending. */
struct sim_event {
    wr_time at;             /* 0: not in the queue */
    size_t slot;            /* 1 + its place there */
    void (*happen)(struct sim_event *event);
    struct sim_host *host;  /* whose pausing holds it up; NULL: nobody's */
    struct wr_list held;    /* on host->held meanwhile */
    void (*drop)(struct sim_event *event);    /* the simulation ends first; may be NULL */
};

struct sim_queue {
    struct sim_slot *slots;    /* owned */
    size_t count, cap;
    uint64_t next_order;
};

struct sim_chance {
    uint64_t s[4];
};

struct sim {
    struct sim_options o;    /* with the defaults filled in */
    wr_time now;
    struct sim_queue events;
    uint64_t trace, event_count;
    struct sim_chance chance;    /* of the network; each host has its own besides */
    struct wr_list hosts, conns, names, jobs;
    struct wr_map nodes;    /* struct node by scope and address */
    unsigned host_count, gateway_count, next_id;
    bool names_down;
    size_t mtu;    /* bytes of a datagram; 0: the usual */
};

/* What an address leads to. */
struct sim_node {
    uint8_t key[24];
    struct sim_host *host;          /* or */
    struct sim_gateway *gateway;
};

struct sim_host {
    struct wr_env env;    /* first: see env_turn.h */
    struct sim *sim;
    struct wr_list node;    /* on sim->hosts */
    unsigned index, id, side, lan;
    const char *name;
    struct sim_gateway *gateway;
    struct wr_ip ip4, ip6, temporary;
    struct sim_node node4, node6, node_temporary;
    bool up, paused, jammed, routeless, temporary_deprecated;
    wr_time paused_at;
    struct sim_chance chance;
    int64_t clock_error;
    uint64_t bandwidth;
    wr_time uplink_free, downlink_free, queue;
    wr_time late, runs_at;       /* it slept: its next turn is then, at most so long after what woke it */
    unsigned descriptors, descriptors_max;
    struct sim_event wake;       /* for timers and tasks */
    struct wr_list held;         /* struct sim_event, while paused */
    struct wr_list socks;        /* struct wr_sock, in the network's eyes */
    struct wr_map socks_by;      /* the same by local port and remote address */
    struct wr_list listeners, udps, lookups, disks;
    struct wr_list dead;         /* struct sim_dead: freed when no turn runs */
    uint16_t next_port;
    struct sim_traffic traffic;
};

/* At the start of every object that a caller may still look at until its turn has settled. */
struct sim_dead {
    struct wr_list node;
    void (*release)(struct sim_dead *dead);
};

static inline struct sim_host *sim_host_from(struct wr_env *env)
{
    return (struct sim_host *)(void *)env;
}

/* ---- sim.c ---- */
uint64_t sim_mix(uint64_t x);
uint64_t sim_chance_next(struct sim_chance *chance);
double sim_chance_unit(struct sim_chance *chance);    /* [0, 1) */
void sim_note(struct sim *sim, unsigned what, const struct sim_host *host, uint64_t more);
void sim_note_bytes(struct sim *sim, const uint8_t *data, size_t len);
/* A turn of the host for one handler. */
void sim_begin(struct sim_host *host);
void sim_end(struct sim_host *host);
void sim_bury(struct sim_host *host, struct sim_dead *dead, void (*release)(struct sim_dead *dead));

/* ---- sim_events.c ---- */
/* Happens at that instant, or now when that is past; moves it when it is pending. */
void sim_event_at(struct sim *sim, struct sim_event *event, wr_time at,
                  void (*happen)(struct sim_event *event));
void sim_event_stop(struct sim *sim, struct sim_event *event);
bool sim_event_pending(const struct sim_event *event);
struct sim_event *sim_event_take(struct sim *sim);    /* the next one off the queue, or NULL */

/* ---- sim_path.c: who reaches whom, and how long it takes ---- */
struct sim_packet {
    struct sim_event event;    /* first */
    struct sim *sim;
    struct sim_host *source;
    struct sim_node *next;    /* where it arrives */
    struct sim_head head;
    /* Delivers the packet to the host that it reaches and frees it; host NULL: it reaches none. */
    void (*deliver)(struct sim_packet *packet, struct sim_host *host);
    struct sim_conn *conn;    /* of a stream */
    unsigned side;            /* its sender's end of conn */
    uint8_t data[];
};

void sim_address_add(struct sim *sim, struct sim_node *node, const struct sim_gateway *scope,
                     const struct wr_ip *ip);
void sim_address_remove(struct sim *sim, struct sim_node *node);
/* One way to the node, or -1 when nothing goes there; rewrites the head as gateways do. */
wr_time sim_leave(struct sim_host *source, struct sim_head *head, struct sim_node **next);
struct sim_host *sim_enter(struct sim_host *source, struct sim_head *head, struct sim_node *next);
/* When len bytes sent now have passed both links; not before `after`. */
wr_time sim_arrival(struct sim_host *from, struct sim_host *to, size_t len, wr_time latency,
                    wr_time after);
bool sim_lost(struct sim *sim);
/* Sends it on its way, `late` more than it takes; deliver is called in any case. */
void sim_packet_send(struct sim_packet *packet, wr_time late);
/* A gateway turned this packet away with a reset: sends it back to where the packet came from (packet stays the
 * caller's). `as_sent`: the packet's head before any gateway on the far side rewrote it. */
void sim_packet_refuse(const struct sim_packet *packet, const struct sim_head *as_sent);
/* The reset that answers a packet of a stream, not sent yet and without its way back; or NULL. */
struct sim_packet *sim_conn_make_reset(const struct sim_packet *packet);
/* As sim_packet_send with packet->next known and the instant of arrival. */
void sim_packet_send_on(struct sim_packet *packet, wr_time at);
bool sim_is_loopback(const struct wr_ip *ip);
/* Our address towards `to`; false when we have none of that family. */
bool sim_source_ip(const struct sim_host *host, const struct wr_ip *to, struct wr_ip *out);
bool sim_ip_is_ours(const struct sim_host *host, const struct wr_ip *ip);

/* ---- sim_conn.c, sim_sock.c, sim_udp.c, sim_names.c, sim_disk.c ---- */
void sim_streams_cut(struct sim_host *host, bool listeners_too);
void sim_streams_retry(struct sim_host *host);    /* a descriptor is free again */
void sim_streams_clear(struct sim *sim);
void sim_udps_cut(struct sim_host *host);
void sim_names_clear(struct sim *sim);
void sim_lookups_cut(struct sim_host *host);
void sim_disks_crash(struct sim_host *host);
void sim_disks_clear(struct sim_host *host);

/* ---- sim_os.c: chance and time of libraries ---- */
void sim_os_seed(uint64_t seed);

/* ---- sim_alloc.c: allocations between the two may be made to fail ---- */
void sim_alloc_enter(void);
void sim_alloc_leave(void);
void *sim_alloc_sure(void *old, size_t size);    /* as realloc; never made to fail */

#endif
