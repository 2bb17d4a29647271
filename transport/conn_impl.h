/* conn_impl.h - what a carrier (channel.c) calls, and the inside of a stream. Service, private to the
 * files of this folder that carry connections. */
#ifndef WR_CONN_IMPL_H
#define WR_CONN_IMPL_H

#include "transport/conn.h"
#include "transport/mss.h"

struct wr_stream {
    struct wr_list node;               /* conn->streams or conn->waiting */
    struct wr_list write_node;         /* conn->writers, while a write is owed */
    struct wr_conn *conn;              /* NULL while dialling */
    struct wr_env *env;
    struct wr_limits *limits;
    void *mux;                         /* the carrier's handle; NULL until it took the stream */
    struct wr_mss *mss;                /* owned; while negotiating */
    const char *const *offer;          /* dialler, while negotiating */
    const char *protocol;
    const struct wr_stream_ops *ops;
    void *arg;
    struct wr_buf tx;                  /* written before the carrier took the stream */
    struct wr_buf rx;                  /* received while paused or negotiating */
    struct wr_timer timer;             /* negotiation, then linger */
    struct wr_task task;               /* delivery after resume; then disposal */
    uint32_t reset_code;
    bool outbound, paused;
    bool let_go;                       /* the owner closed it: no more calls */
    bool shut_wanted, shut_done;       /* our direction: asked for, handed to the carrier */
    bool eof_seen, eof_told;           /* theirs */
    bool reset_sent;                   /* either side's: none is to be sent any more */
    bool finished;
    bool counted;                      /* under limit STREAMS, by us: it has no place on a carrier yet */
    bool steady;                       /* see wr_stream_steady */
    bool limited_too;                  /* while dialling: a circuit with limits will do */
};

/* ---- connections */
void wr_conn_init(struct wr_conn *c, struct wr_conn_ctx *ctx, const struct wr_mux_ops *mux);
/* Frees what the connection itself owns; the carrier does so in release. */
void wr_conn_clear(struct wr_conn *c);
/* Carrier: the peer has proved its key. 0, WR_ELIMIT. */
int wr_conn_set_peer(struct wr_conn *c, const struct wr_peerid *peer, struct wr_bytes pubkey);
/* Carrier: the peer is known and streams may flow. */
void wr_conn_opened(struct wr_conn *c);
/* Carrier: what was sent is not answered although it was sent again, or (false) something came. */
void wr_conn_mute(struct wr_conn *c, bool mute);
/* Carrier: the peer has moved. */
void wr_conn_moved(struct wr_conn *c);
/* The peer has moved on another connection, or (moved is false) a stream is opened: see wr_conn_silent. */
void wr_conn_await(struct wr_conn *c, bool moved);
/* Carrier: it is over. Ends every stream with err and tells the swarm; release follows at settle. */
void wr_conn_ended(struct wr_conn *c, int err);
/* Carrier: there may be room for streams that wait to be opened. */
void wr_conn_retry_opens(struct wr_conn *c);
/* Carrier: there may be room for writes that came up short. */
void wr_conn_writable(struct wr_conn *c);
/* Resets one inbound stream of a protocol that is no longer answered; false: there is none. */
bool wr_conn_drop_protocol(struct wr_conn *c, const char *name);
/* Carrier: the peer opened a stream; NULL (reset it) when refused. */
struct wr_stream *wr_conn_inbound_stream(struct wr_conn *c, void *mux);

/* ---- streams, from the carrier */
void wr_stream_input(struct wr_stream *s, struct wr_bytes data);
void wr_stream_input_eof(struct wr_stream *s);
void wr_stream_input_reset(struct wr_stream *s, uint32_t code);
/* Sends what was written early; true when room is left for the owner. */
bool wr_stream_flush(struct wr_stream *s);
void wr_stream_tell_writable(struct wr_stream *s);

/* ---- streams, from conn.c and the swarm */
/* A stream of ours that offers these names and has no connection yet, or NULL (a limit). */
struct wr_stream *wr_stream_create_dial(struct wr_env *env, struct wr_limits *limits,
                                        const char *const *offer, const struct wr_stream_ops *ops,
                                        void *arg);
/* A stream that the peer opened on c. */
struct wr_stream *wr_stream_create_accept(struct wr_conn *c, void *mux);
/* Puts a stream on its connection. 0; WR_ELIMIT: it waits in conn->waiting; WR_ECLOSED: not attached. */
int wr_stream_attach(struct wr_stream *s, struct wr_conn *c);
/* Hands a waiting stream to the carrier: as attach. */
int wr_stream_put(struct wr_stream *s);
void wr_stream_fail(struct wr_stream *s, int err);    /* the connection or the dial is gone */

#endif
