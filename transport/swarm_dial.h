/* swarm_dial.h - a dial and those who wait for it, shared by swarm_dial.c (what is dialled, and when),
 * swarm_connect.c (who asks) and swarm_report.c (what is remembered of it). Service, private. */
#ifndef WR_SWARM_DIAL_H
#define WR_SWARM_DIAL_H

#include "transport/resolve.h"
#include "transport/swarm_impl.h"

#define WR_SWARM_DIAL_RESOLVES 8    /* names of one peer looked up at once; ours */

struct wr_connect {
    struct wr_list node;             /* dial->requests, or none when answered from a task */
    struct wr_swarm *swarm;
    wr_connect_fn fn;
    void *arg;
    struct wr_peerid peer;           /* for the answer from a task */
    struct wr_task task;
    bool over;
    bool direct;                     /* a circuit is not enough */
};

struct wr_swarm_dial {
    struct wr_list node;             /* swarm->dials or swarm->dial_queue */
    struct wr_swarm *swarm;
    struct wr_peerid peer;           /* len 0: whoever answers */
    struct wr_list requests;         /* struct wr_connect */
    struct wr_list streams;          /* struct wr_stream waiting for the connection */
    struct wr_dial plan;
    struct wr_conn *conns[WR_DIAL_ADDRS_MAX];
    wr_time begun_at[WR_DIAL_ADDRS_MAX], took[WR_DIAL_ADDRS_MAX];
    enum wr_addr_origin origins[WR_DIAL_ADDRS_MAX];    /* of circuits */
    struct resolving {
        struct wr_swarm_dial *dial;
        struct wr_resolve *resolve;
        struct wr_maddr name;
        enum wr_addr_origin origin;
    } resolving[WR_SWARM_DIAL_RESOLVES];
    size_t resolving_count;
    struct circuit {
        struct wr_swarm_dial *dial;
        void *attempt;               /* the relay client's, while asked */
    } circuits[WR_DIAL_ADDRS_MAX];
    struct wr_timer timer;
    struct wr_task task;             /* disposal */
    void *search;                    /* the router's, while asked */
    wr_time asked_at;                /* when it got its place */
    bool may_route, started, over;
    unsigned routed;                 /* how often the router was asked */
    wr_time routed_at;
    int route_err;
    bool may_relay;                  /* somebody asked for whom a circuit is dialled */
    bool relayed;                    /* a circuit came of it: no more of them */
    uint32_t accepted;               /* bit per address: TCP connected, or something answered the QUIC dial */
    uint32_t retried;                /* bit per address: dialled again from a port of its own */
    uint8_t security_tried[WR_DIAL_ADDRS_MAX];    /* security protocols that the address did not speak */
    size_t refused;                  /* addresses left out: back-off or filter */
    int refused_err;
    struct wr_swarm_report *report;  /* owned; what to remember, NULL: nothing */
};

/* swarm_dial.c: a dial that waits for its place, of this peer or (NULL) of whoever answers. NULL: out of room. */
struct wr_swarm_dial *wr_swarm_dial_create(struct wr_swarm *sw, const struct wr_peerid *peer);
/* The dial of a peer, made when there is none. relay: circuits count. NULL: out of room. */
struct wr_swarm_dial *wr_swarm_dial_of(struct wr_swarm *sw, const struct wr_peerid *peer, bool relay);
void wr_swarm_dial_add(struct wr_swarm_dial *d, struct wr_bytes addr, enum wr_addr_origin origin);
/* Gives places to those that wait for one. */
void wr_swarm_dial_next(struct wr_swarm *sw);

/* swarm_connect.c: the answer, once. */
void wr_connect_answer(struct wr_connect *r, int err, struct wr_conn *c);

/* swarm_report.c: one more address and how it went; then the whole. */
void wr_swarm_report_note(struct wr_swarm_dial *d, const struct wr_dial_report *entry);
void wr_swarm_report_keep(struct wr_swarm_dial *d, int err, const struct wr_conn *winner);

#endif
