#include "transport/channel_impl.h"

#include <sodium.h>
#include <string.h>

#define REOPEN_AFTER      (WR_SEC / 2)   /* until a stream of ours asks again for a place; ours */

static const struct wr_mux_ops mux_ops, circuit_ops;

struct wr_channel *wr_channel_of(const struct wr_conn *c)
{
    return (struct wr_channel *)((uintptr_t)c - offsetof(struct wr_channel, conn));
}

void wr_channel_end(struct wr_channel *ch, int err)
{
    /* Behind a proposal that we do not speak comes what we cannot read. The dialler must hear the refusal,
     * which a reset could overtake, to try the other protocol. */
    bool refused = ch->phase == WR_PHASE_SECURITY && ch->mss && ch->mss->refused;
    wr_wire_close(&ch->wire, !refused);
    wr_conn_ended(&ch->conn, err);
}

/* ---- the wire ---------------------------------------------------------------------------------- */

static void on_connected(void *arg)
{
    struct wr_channel *ch = arg;
    ch->conn.port_reused = wr_sock_reused(ch->wire.sock);
    int rc = wr_channel_start(ch);
    if (rc < 0)
        wr_channel_end(ch, rc);
}

static void on_drain(void *arg)
{
    wr_channel_count_unsent(arg);
    wr_channel_want_flush(arg);
}

static void on_wire_close(void *arg, int err)
{
    struct wr_channel *ch = arg;
    ch->wire.sock = NULL;
    wr_conn_ended(&ch->conn, err == 0 ? WR_ECLOSED : err);
}

static const struct wr_sock_ops wire_ops = {
    .on_open = on_connected,
    .on_read = wr_channel_on_read,
    .on_drain = on_drain,
    .on_close = on_wire_close,
};

static struct wr_channel *create(struct wr_conn_ctx *ctx, const struct wr_mux_ops *ops, bool outbound)
{
    struct wr_channel *ch = wr_alloc(sizeof(*ch));
    if (!ch)
        return NULL;
    wr_conn_init(&ch->conn, ctx, ops);
    ch->conn.outbound = outbound;
    wr_buf_init(&ch->last, WR_CHANNEL_OUT_MAX);
    wr_buf_init(&ch->early, WR_CHANNEL_OUT_MAX);
    return ch;
}

struct wr_conn *wr_channel_dial(struct wr_conn_ctx *ctx, const struct wr_addr *to,
                                const struct wr_addr *from, const struct wr_secure *security,
                                const struct wr_peerid *expect, void *owner, int *err)
{
    struct wr_channel *ch = create(ctx, &mux_ops, true);
    *err = WR_ELIMIT;
    if (ch && expect)
        ch->expect = wr_memdup(expect, sizeof(*expect));
    if (!ch || (expect && !ch->expect)) {
        wr_free(ch);
        return NULL;
    }
    ch->conn.owner = owner;
    ch->conn.security = security;
    ch->conn.remote = *to;
    *err = wr_env_connect(ctx->env, to, from, &wire_ops, ch, &ch->wire.sock);
    if (*err != 0) {
        wr_free(ch->expect);
        wr_free(ch);
        return NULL;
    }
    wr_timer_start(ctx->env, &ch->timer, wr_env_now(ctx->env) + WR_CHANNEL_CONNECT,
                   wr_channel_on_timeout);
    return &ch->conn;
}

/* security and expect: NULL for the listener's part. */
static struct wr_conn *take(struct wr_conn_ctx *ctx, struct wr_sock *sock, const struct wr_secure *security,
                            const struct wr_peerid *expect)
{
    struct wr_channel *ch = create(ctx, &mux_ops, expect != NULL);
    if (ch && expect && !(ch->expect = wr_memdup(expect, sizeof(*expect)))) {
        wr_free(ch);
        ch = NULL;
    }
    if (!ch) {
        wr_sock_close(sock, true);
        return NULL;
    }
    ch->conn.security = security;
    ch->wire.sock = sock;
    ch->conn.port_reused = true;
    wr_sock_attach(sock, &wire_ops, ch);
    int rc = wr_channel_start(ch);
    if (rc < 0) {
        wr_wire_close(&ch->wire, true);
        ch->conn.mux->release(&ch->conn);
        return NULL;
    }
    return &ch->conn;
}

struct wr_conn *wr_channel_accept(struct wr_conn_ctx *ctx, struct wr_sock *sock)
{
    return take(ctx, sock, NULL, NULL);
}

struct wr_conn *wr_channel_accept_server(struct wr_conn_ctx *ctx, struct wr_sock *sock,
                                         const struct wr_secure *security, const struct wr_peerid *expect)
{
    return take(ctx, sock, security, expect);
}

/* The circuit's account of the connection that carries it: a relay's place is where its bytes come from. */
static int set_circuit(struct wr_channel *ch, const struct wr_circuit *circuit, const struct wr_stream *s)
{
    const struct wr_conn *carrier = wr_stream_conn(s);
    ch->conn.circuit = wr_memdup(circuit, sizeof(*circuit));
    if (!ch->conn.circuit)
        return WR_ELIMIT;
    ch->conn.limited = circuit->limited;
    ch->conn.local = carrier->local;
    ch->conn.remote = carrier->remote;
    return 0;
}

struct wr_conn *wr_channel_circuit(struct wr_conn_ctx *ctx, const struct wr_circuit *circuit, struct wr_stream *s,
                                   struct wr_bytes early, const struct wr_circuit_side *side)
{
    struct wr_channel *ch = create(ctx, &circuit_ops, side->outbound);
    int rc = ch && side->expect ? 0 : WR_ELIMIT;
    if (rc == 0) {
        ch->conn.owner = side->owner;
        ch->conn.security = side->security;
        ch->expect = wr_memdup(side->expect, sizeof(*side->expect));
        rc = ch->expect ? set_circuit(ch, circuit, s) : WR_ELIMIT;
    }
    if (rc == 0)
        rc = wr_wire_take(&ch->wire, ctx->env, s, early, ctx->inbox, &wire_ops, ch);
    if (rc == 0)
        rc = wr_channel_start(ch);
    if (rc == 0)
        return &ch->conn;
    wr_stream_reset(s, WR_STREAM_OK);
    if (ch) {
        ch->wire.stream = NULL;
        ch->conn.mux->release(&ch->conn);
    }
    return NULL;
}

/* ---- what the connection asks of its carrier ----------------------------------------------------- */

static int mux_open(struct wr_conn *c, struct wr_stream *s)
{
    struct wr_channel *ch = wr_channel_of(c);
    int err = 0;
    s->mux = wr_yamux_open(ch->yamux, s, &err);
    c->spent = wr_yamux_spent(ch->yamux);
    /* A stream of this session that ends makes room at once; that there is memory again nobody tells. */
    if (err == WR_ELIMIT && !wr_timer_running(&ch->more))
        wr_channel_flush_at(ch, wr_env_now(s->env) + REOPEN_AFTER);
    if (!s->mux)
        return err;
    wr_channel_want_flush(ch);
    return 0;
}

static int mux_write(struct wr_stream *s, const uint8_t *data, size_t len)
{
    struct wr_channel *ch = wr_channel_of(s->conn);
    size_t sent = wr_channel_send_now(ch, s->mux, data, len);
    int n = wr_yamux_write(s->mux, data + sent, len - sent);
    if (sent || n > 0)
        wr_channel_want_flush(ch);
    return n < 0 && !sent ? n : (int)sent + (n > 0 ? n : 0);
}

static size_t mux_space(const struct wr_stream *s)
{
    return wr_yamux_space(s->mux);
}

static size_t mux_queued(const struct wr_stream *s)
{
    return wr_yamux_queued(s->mux);
}

static void mux_shut(struct wr_stream *s)
{
    wr_yamux_shut(s->mux);
    wr_channel_want_flush(wr_channel_of(s->conn));
}

static void mux_reset(struct wr_stream *s, uint32_t code)
{
    wr_yamux_reset(s->mux, code);
    wr_channel_want_flush(wr_channel_of(s->conn));
}

static void mux_consumed(struct wr_stream *s, size_t len)
{
    struct wr_channel *ch = wr_channel_of(s->conn);
    wr_yamux_consumed(s->mux, len, wr_env_now(s->env));
    if (wr_yamux_wants_output(ch->yamux))
        wr_channel_want_flush(ch);
}

static void mux_forget(struct wr_stream *s)
{
    struct wr_channel *ch = wr_channel_of(s->conn);
    wr_yamux_forget(s->mux);
    wr_channel_want_flush(ch);
    if (!wr_list_empty(&ch->conn.waiting))
        wr_channel_flush_at(ch, wr_env_now(s->env));
}

static void mux_steady(struct wr_stream *s)
{
    wr_yamux_steady(s->mux);
}

static void mux_close(struct wr_conn *c, uint32_t code)
{
    struct wr_channel *ch = wr_channel_of(c);
    if (!wr_wire_open(&ch->wire))
        return;
    if (ch->yamux && ch->phase == WR_PHASE_MUXED)
        wr_yamux_goaway(ch->yamux, code);
    if (ch->yamux)
        wr_channel_flush(ch);
    wr_channel_farewell(ch, 0);
    wr_wire_close(&ch->wire, true);
}

static void mux_release(struct wr_conn *c)
{
    struct wr_channel *ch = wr_channel_of(c);
    struct wr_env *env = c->ctx->env;
    wr_timer_stop(env, &ch->timer);
    wr_timer_stop(env, &ch->more);
    wr_task_cancel(&ch->flush);
    if (ch->pnet)
        wr_pnet_clear(ch->pnet);
    wr_free(ch->pnet);
    wr_free(ch->mss);
    if (ch->handshake)
        ch->conn.security->destroy(ch->handshake);
    if (ch->secured)
        ch->conn.security->clear(&ch->session);
    wr_yamux_destroy(ch->yamux);
    wr_free(ch->expect);
    wr_channel_forget_partial(ch);
    wr_channel_count_unsent(ch);
    wr_wire_clear(&ch->wire);
    wr_buf_clear(&ch->last);
    wr_buf_clear(&ch->early);
    wr_conn_clear(&ch->conn);
    sodium_memzero(ch, sizeof(*ch));
    wr_free(ch);
}

static wr_time mux_rtt(const struct wr_conn *c)
{
    const struct wr_channel *ch = wr_channel_of(c);
    wr_time rtt = ch->yamux ? wr_yamux_rtt(ch->yamux) : 0;
    return rtt || !wr_wire_open(&ch->wire) ? rtt : wr_wire_rtt(&ch->wire);
}

static void mux_stats(const struct wr_conn *c, struct wr_conn_stats *out)
{
    const struct wr_channel *ch = wr_channel_of(c);
    struct wr_sock_stats tcp;
    if (!ch->wire.sock)
        return;
    wr_sock_stats(ch->wire.sock, &tcp);
    *out = (struct wr_conn_stats){.rtt = tcp.rtt,
                                  .cwnd = tcp.cwnd,
                                  .in_flight = tcp.in_flight,
                                  .retransmits = tcp.retransmits,
                                  .mtu = tcp.mtu};
}

/* What carries the bytes makes no difference to yamux, only to what is said of the connection. */
#define MUX_OPS(carrier)                                                                                   \
    {                                                                                                      \
        .transport = (carrier),                                                                            \
        .muxer = "/yamux/1.0.0",                                                                           \
        .open = mux_open,                                                                                  \
        .write = mux_write,                                                                                \
        .space = mux_space,                                                                                \
        .queued = mux_queued,                                                                              \
        .shut = mux_shut,                                                                                  \
        .reset = mux_reset,                                                                                \
        .consumed = mux_consumed,                                                                          \
        .forget = mux_forget,                                                                              \
        .steady = mux_steady,                                                                              \
        .close = mux_close,                                                                                \
        .release = mux_release,                                                                            \
        .rtt = mux_rtt,                                                                                    \
        .stats = mux_stats,                                                                                \
    }

static const struct wr_mux_ops mux_ops = MUX_OPS("tcp");
static const struct wr_mux_ops circuit_ops = MUX_OPS("circuit");
