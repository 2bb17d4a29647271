/* conn_impl.h - what a carrier (channel.c) calls, and the inside of a stream. Service, private to the
 * files of this folder that carry connections. */
#ifndef WR_CONN_IMPL_H
#define WR_CONN_IMPL_H

#include "transport/conn.h"
#include "transport/mss.h"

struct wr_stream {
    struct wr_list node;               /* conn->streams or conn->waiting */
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
    bool outbound, paused, let_go;
    bool shut_wanted, shut_done;       /* our direction */
    bool eof_seen, eof_told;           /* theirs */
    bool want_write;                   /* a write came up short */
    bool open_told, finished;
};

/* ---- connections */
void wr_conn_init(struct wr_conn *c, struct wr_conn_ctx *ctx, const struct wr_mux_ops *mux);
/* Carrier: the peer is known and streams may flow. */
void wr_conn_opened(struct wr_conn *c);
/* Carrier: it is over. Ends every stream with err and tells the swarm; release follows at settle. */
void wr_conn_ended(struct wr_conn *c, int err);
/* Carrier: there is room for streams that wait. */
void wr_conn_retry_opens(struct wr_conn *c);
/* Carrier: the peer opened a stream; NULL (reset it) when refused. */
struct wr_stream *wr_conn_inbound_stream(struct wr_conn *c, void *mux);

/* ---- streams, from the carrier */
void wr_stream_input(struct wr_stream *s, struct wr_bytes data);
void wr_stream_input_eof(struct wr_stream *s);
void wr_stream_input_reset(struct wr_stream *s, uint32_t code);
void wr_stream_input_writable(struct wr_stream *s);

/* ---- streams, from conn.c and the swarm */
/* A stream without a connection yet; WR_ELIMIT leaves NULL. */
struct wr_stream *wr_stream_create(struct wr_env *env, struct wr_limits *limits);
int wr_stream_offer(struct wr_stream *s, const char *const *offer);
/* Puts a dialling stream on its connection. */
void wr_stream_attach(struct wr_stream *s, struct wr_conn *c);
void wr_stream_fail(struct wr_stream *s, int err);    /* the connection or the dial is gone */

#endif
