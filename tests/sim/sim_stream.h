/* sim_stream.h - what sim_conn.c and sim_sock.c share. */
#ifndef SIM_STREAM_H
#define SIM_STREAM_H

#include "tests/sim/sim_priv.h"

#define SYN_RETRY WR_SEC    /* first of the doubling intervals; RFC 6298 */

enum state { DIALING, OPENING, OPEN, ENDED };

struct piece {
    struct piece *next;
    wr_time arrives_at;
    size_t len, off;    /* off: read so far */
    bool fin;
    uint8_t data[];
};

struct queue {
    struct piece *first, *last;
};

struct direction {
    struct queue network, unread;
    struct sim_event pump;     /* arrival of network.first */
    size_t unacked;            /* bytes in the network or unread, or read and the sender not told */
    struct queue acks;         /* under way to the sender: len says for how much */
    struct sim_event ack;      /* arrival of acks.first */
    wr_time stuck_since, resend;    /* when the way was first found shut; the interval now */
};

struct sim_conn {
    struct wr_list node;    /* on sim->conns */
    struct sim *sim;
    unsigned refs;          /* ends, packets and running events */
    struct sim_conn *merged;         /* a simultaneous open: the other dialer's took over; counted */
    struct wr_sock *end[2];          /* NULL: none yet, or closed, or gone */
    struct sim_host *host[2];
    struct wr_addr from[2], to[2];   /* addresses as each side's end writes them on its packets */
    struct direction dir[2];         /* [i] leads to end[i] */
    wr_time latency;                 /* one way, when last used */
    bool local;
};

struct wr_sock {
    struct sim_dead dead;    /* first */
    struct sim_host *host;
    struct sim_conn *conn;   /* counted; NULL once ended or cut off */
    unsigned side;
    const struct wr_sock_ops *ops;
    void *arg;
    enum state state;
    bool paused, reused, counted, listed, drained_due;
    bool ended, shut, fin_sent;    /* the peer finished writing; we do, behind the backlog; and have */
    struct wr_addr local, remote;
    uint8_t key[48];
    struct wr_list node;     /* on host->socks */
    struct wr_list waiting;  /* on listener->waiting */
    struct wr_listener *listener;    /* whose accept is to come */
    struct queue kept;       /* the backlog */
    size_t backlog;
    struct sim_event poke;   /* look at this end: unread bytes, room */
    struct sim_event retry;  /* the next SYN, or the end of waiting for an ACK */
    wr_time retry_after, give_up_at;
};

struct wr_listener {
    struct sim_dead dead;    /* first */
    struct sim_host *host;
    struct wr_addr at;
    char *path;              /* owned; local sockets */
    const struct wr_listener_ops *ops;
    void *arg;
    struct wr_list node;
    struct wr_list waiting;  /* wr_sock.waiting: open, not accepted for want of descriptors */
    size_t waiting_count;
    bool starved, counted, closed;
    struct sim_event retry;
};

/* ---- sim_conn.c ---- */
void sim_queue_put(struct queue *q, struct piece *piece);
struct piece *sim_queue_take(struct queue *q);
void sim_queue_clear(struct queue *q);
struct sim_conn *sim_conn_create(struct sim *sim);    /* uncounted yet; or NULL */
void sim_conn_free(struct sim_conn *conn);            /* one that never was counted */
struct sim_conn *sim_conn_ref(struct sim_conn *conn);
void sim_conn_unref(struct sim_conn *conn);
/* Nothing more arrives at this side. The caller holds a reference. */
void sim_conn_clear(struct sim_conn *conn, unsigned side);
/* Sends a packet without data from this side. */
void sim_conn_send(struct sim_conn *conn, unsigned side, enum sim_packet_kind kind);
wr_time sim_conn_latency(struct sim_conn *conn, unsigned side);    /* one way, to this side */
/* Puts a piece on its way to the other side; of the backlog: what there is room for, or all. */
void sim_conn_submit(struct wr_sock *s, struct piece *piece);
void sim_conn_submit_kept(struct wr_sock *s, bool all);
/* Ends our direction, once the backlog is on its way. */
void sim_conn_finish(struct wr_sock *s);
/* Hands what arrived to the end's owner, until it pauses or closes. */
void sim_conn_read(struct wr_sock *s);

/* ---- sim_sock.c ---- */
void sim_conn_deliver(struct sim_packet *packet, struct sim_host *host);
/* The end that the network brings. Not within a turn. */
void sim_sock_end(struct wr_sock *s, int err);
/* Looks at this end soon: unread bytes, room, the end. */
void sim_sock_poke(struct wr_sock *s);
/* The ACK came, or bytes that say as much. */
void sim_sock_established(struct wr_sock *s);

#endif
