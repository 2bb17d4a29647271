/* relay_server_impl.h - the inside of the relay: relay_server.c (who may have what), relay_server_circuit.c (bytes).
 * Service, private. */
#ifndef WR_RELAY_SERVER_IMPL_H
#define WR_RELAY_SERVER_IMPL_H

#include "relay/bucket.h"
#include "relay/relay_server.h"
#include "transport/msg.h"

enum { CALLER, GUEST };

/* What one end sends, and what waits to be sent to it. */
struct half {
    struct circuit *of;
    struct wr_stream *s;      /* NULL once over */
    uint64_t got;             /* bytes that came from it and were passed on */
    struct wr_buf kept;       /* for it: it reads slower than the other writes */
    bool over;                /* no more is taken from it: its end, or the limit */
    bool full;                /* the other end does not take more just now */
    bool slow;                /* the circuit's bucket is overdrawn */
    bool queued;              /* stands in the line for the bucket of all */
    struct wr_list line;
};

/* A stream of the hop protocol, from its first message on. */
struct circuit {
    struct wr_list node;      /* server->streams */
    struct wr_list held;      /* server->circuits, while it is counted */
    struct wr_relay_server *server;
    struct wr_msg hop, stop;  /* until both ends have agreed */
    struct wr_peerid caller, guest;
    struct wr_ip from;        /* the caller's address */
    struct wr_buf early;      /* what the guest sent behind its answer */
    struct half side[2];
    bool counted;             /* under limit RELAY_CIRCUITS */
    uint64_t over;            /* the connection over which the guest was asked last */
    bool open;
    wr_time since;            /* it waits for the guest; open: it is so */
    struct wr_bucket bucket;
    struct wr_bucket share;   /* of the bucket of all: what it may have without waiting in line */
    struct wr_timer until;    /* the end of its time, or of patience */
    struct wr_timer pace;
    struct wr_task task;      /* disposal */
};

struct guest {
    struct wr_relay_guest of;
    wr_time paid_until;       /* its RESERVEs so far would have come by then, one each WR_RELAY_RESERVE_EVERY */
    struct wr_list node;      /* server->guests */
};

struct wr_relay_server {
    struct wr_relay_server_options options;
    struct wr_swarm *swarm;
    struct wr_env *env;
    struct wr_limits *limits;
    struct wr_swarm_watch watch;
    struct wr_map by_peer;    /* struct guest by id */
    struct wr_list guests, streams;
    struct wr_list circuits;  /* of streams, those that count as circuits: strangers make the others as they like */
    struct wr_bucket bucket;
    struct wr_list line;      /* struct half.line: waiting for it, in the order in which they came */
    struct wr_timer pace, sweep;
    bool offered;
    struct wr_relay_server_stats stats;
};

struct guest *wr_relay_server_guest(struct wr_relay_server *rs, const struct wr_peerid *peer);

/* relay_server_circuit.c */
/* Both ends have agreed: bytes flow. The conversations are over. */
void wr_relay_server_join(struct circuit *c);
/* The rates of now for an open circuit, with nothing owed: who waits for the old ones goes on. */
void wr_relay_server_set_pace(struct circuit *c);
/* Ends it from anywhere; streams that are left are reset. */
void wr_relay_server_end(struct circuit *c);

#endif
