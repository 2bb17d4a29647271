#include "transport/channel.h"

#include "transport/conn_impl.h"
#include "transport/mss.h"
#include "transport/pnet.h"
#include "transport/wire.h"
#include "transport/yamux.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

/* Bytes sent in one turn before others get theirs; ours: a dozen full writes. */
#define FLUSH_TURN_MAX (12 * WR_CONN_SCRATCH)

#define HANDSHAKE_OUT_MAX (16 * 1024)    /* bytes queued in clear while shaking hands; ours */
#define OUTBOUND_SHARE    2              /* streams of ours at once: half of what we take; by default 128: go
                                            resets the 65th of one protocol, rust closes above 512 in all */

#define REOPEN_AFTER      (WR_SEC / 2)   /* until a stream of ours asks again for a place; ours */

enum phase {
    CONNECTING,    /* dialler: TCP under way */
    SECURITY,      /* multistream for the security protocol */
    HANDSHAKE,     /* that one's messages */
    MUXER,         /* multistream for yamux inside it, unless inlined */
    MUXED,
};

struct channel {
    struct wr_conn conn;
    struct wr_wire wire;           /* a socket, or a stream through a relay */
    struct wr_pnet *pnet;          /* owned, or NULL */
    struct wr_mss *mss;            /* owned, while negotiating */
    void *handshake;               /* owned; conn.security's, while shaking hands */
    struct wr_peerid *expect;      /* owned, or NULL; dialler until the handshake is done */
    struct wr_yamux *yamux;        /* owned, from the peer's proof on */
    struct wr_secure_session session;
    const char *offer[2];          /* the name proposed; NULL */
    struct wr_buf partial;         /* start of a frame that is not complete */
    struct wr_buf early;           /* muxer negotiation to send before yamux frames */
    struct wr_task flush;
    struct wr_timer timer;         /* connect, handshake, then keepalive */
    struct wr_timer more;          /* output left over for the next turn */
    uint64_t bytes_in_last;        /* at the last keepalive tick */
    size_t unsent;                 /* of the wire's backlog, in conn.memory */
    uint8_t silent_ticks;
    enum phase phase;
    bool secured;
};

static const char *const muxer_offer[] = {"/yamux/1.0.0", NULL};
static const struct wr_mux_ops mux_ops, circuit_ops;

static void flush_task(struct wr_task *task);

static struct channel *of_conn(const struct wr_conn *c)
{
    return (struct channel *)((uintptr_t)c - offsetof(struct channel, conn));
}

/* ---- what the peer makes us keep ------------------------------------------------------------------ */

/* Bytes that the kernel did not take; they are there already. */
static void count_unsent(struct channel *ch)
{
    size_t now = wr_wire_open(&ch->wire) ? wr_wire_backlog(&ch->wire) : 0;
    if (now > ch->unsent)
        wr_account_charge(&ch->conn.memory, now - ch->unsent);
    else
        wr_account_give(&ch->conn.memory, ch->unsent - now);
    ch->unsent = now;
}

static void clear_partial(struct channel *ch, struct wr_buf *partial)
{
    wr_account_give(&ch->conn.memory, partial->len);
    wr_buf_clear(partial);
}

/* Keeps part of a frame. 0, WR_ELIMIT. */
static int keep_partial(struct channel *ch, const uint8_t *data, size_t len)
{
    if (!wr_account_take(&ch->conn.memory, len))
        return WR_ELIMIT;
    wr_buf_put(&ch->partial, data, len);
    if (!ch->partial.full)
        return 0;
    wr_account_give(&ch->conn.memory, len);
    return WR_ELIMIT;
}

static void end(struct channel *ch, int err)
{
    /* Behind a proposal that we do not speak comes what we cannot read. The dialler must hear the refusal,
     * which a reset could overtake, to try the other protocol. */
    bool refused = ch->phase == SECURITY && ch->mss && ch->mss->refused;
    wr_wire_close(&ch->wire, !refused);
    wr_conn_ended(&ch->conn, err);
}

/* The name of a security protocol that is spoken here. */
static const char *match_security(void *arg, struct wr_bytes name)
{
    const struct channel *ch = arg;
    const struct wr_secure *found = wr_secure_by_name(name);
    for (size_t i = 0; ch->conn.ctx->security[i]; i++)
        if (ch->conn.ctx->security[i] == found)
            return found->name;
    return NULL;
}

static const char *match_one(void *arg, struct wr_bytes name)
{
    const char *const *offer = arg;
    return wr_bytes_equal(name, wr_bytes_cstr(offer[0])) ? offer[0] : NULL;
}

/* ---- sending ------------------------------------------------------------------------------------ */

static void want_flush(struct channel *ch)
{
    if (wr_wire_open(&ch->wire))
        wr_env_defer(ch->conn.ctx->env, &ch->flush, flush_task);
}

/* Bytes below the encryption. */
static int send_clear(struct channel *ch, struct wr_buf *out)
{
    int rc = out->full ? WR_ELIMIT : 0;
    if (rc == 0 && out->len && wr_wire_open(&ch->wire)) {
        if (ch->pnet)
            wr_pnet_encrypt(ch->pnet, out->data, out->len);
        ch->conn.bytes_out += out->len;
        rc = wr_wire_write(&ch->wire, out->data, out->len);
    }
    wr_buf_clear(out);
    return rc;
}

/* Seals one frame at `frame` out of what waits; returns its size, 0 when nothing does. */
static int seal_next(struct channel *ch, uint8_t *frame, size_t room)
{
    const struct wr_secure *security = ch->conn.security;
    size_t len = 0;
    room -= security->overhead;
    if (room > security->plain_max)
        room = security->plain_max;
    if (ch->early.len) {
        len = ch->early.len;
        memcpy(frame + security->header, ch->early.data, len);
        wr_buf_clear(&ch->early);
    }
    /* A listener must not go on before it heard which muxer the dialler takes. */
    if (ch->phase == MUXED || ch->conn.outbound)
        len += wr_yamux_output(ch->yamux, frame + security->header + len, room - len,
                               wr_env_now(ch->conn.ctx->env));
    return len ? security->seal(&ch->session, frame, len) : 0;
}

/* Fills one write; returns bytes sent, 0 when nothing waits, <0 on failure. */
static int send_batch(struct channel *ch)
{
    /* A frame is begun only where a useful one fits. */
    const size_t frame_min = ch->conn.security->overhead + HANDSHAKE_OUT_MAX;
    struct wr_conn_ctx *ctx = ch->conn.ctx;
    size_t used = 0, most = wr_wire_batch(&ch->wire);
    /* What the kernel does not take stays with us: with memory short, no more than one small frame. */
    uint64_t room = wr_account_room(&ch->conn.memory);
    if (most > WR_CONN_SCRATCH)
        most = WR_CONN_SCRATCH;
    if (most > room)
        most = (size_t)room;
    if (most < frame_min)
        most = frame_min;
    while (most - used >= frame_min) {
        int size = seal_next(ch, ctx->scratch + used, most - used);
        if (size < 0)
            return size;
        if (size == 0)
            break;
        used += (size_t)size;
    }
    if (used == 0)
        return 0;
    if (ch->pnet)
        wr_pnet_encrypt(ch->pnet, ctx->scratch, used);
    ch->conn.bytes_out += used;
    int rc = wr_wire_write(&ch->wire, ctx->scratch, used);
    count_unsent(ch);
    return rc < 0 ? rc : (int)used;
}

static void on_more(struct wr_timer *timer)
{
    struct channel *ch = wr_list_entry(timer, struct channel, more);
    wr_conn_retry_opens(&ch->conn);
    want_flush(ch);
}

static void flush_task(struct wr_task *task)
{
    struct channel *ch = wr_list_entry(task, struct channel, flush);
    size_t sent = 0;
    while (wr_wire_open(&ch->wire) && ch->secured && wr_wire_backlog(&ch->wire) == 0) {
        if (sent >= FLUSH_TURN_MAX) {
            wr_timer_start(ch->conn.ctx->env, &ch->more, wr_env_now(ch->conn.ctx->env), on_more);
            return;
        }
        int n = send_batch(ch);
        if (n < 0) {
            end(ch, n);
            return;
        }
        sent += (size_t)n;
        if (ch->phase == MUXED || ch->conn.outbound)
            wr_conn_writable(&ch->conn);
        if (n == 0 && !wr_yamux_wants_output(ch->yamux))
            return;
    }
}

/* Tells the peer why, when the security protocol has words for it and nothing waits to be sent before. */
static void say_farewell(struct channel *ch, int err)
{
    uint8_t *frame = ch->conn.ctx->scratch;
    if (!wr_wire_open(&ch->wire) || !ch->secured || wr_wire_backlog(&ch->wire) != 0)
        return;
    int size = ch->conn.security->farewell(&ch->session, err, frame);
    if (size <= 0)
        return;
    if (ch->pnet)
        wr_pnet_encrypt(ch->pnet, frame, (size_t)size);
    ch->conn.bytes_out += (uint64_t)size;
    wr_wire_write(&ch->wire, frame, (size_t)size);
}

/* ---- becoming a connection ----------------------------------------------------------------------- */

/* Starts the handshake of conn.security. */
static int start_handshake(struct channel *ch, struct wr_buf *out)
{
    struct wr_conn_ctx *ctx = ch->conn.ctx;
    struct wr_secure_config config = {
        .aead = ctx->aead,
        .identity = ctx->identity,
        .noise = &ctx->noise,
        .tls = ctx->tls,
        .now = wr_env_unix(ctx->env) / WR_SEC,
        .expect = ch->expect,
        .muxer = muxer_offer[0],
    };
    wr_env_random(ctx->env, config.random, sizeof(config.random));
    ch->handshake = ch->conn.security->create(&config, ch->conn.outbound, out);
    sodium_memzero(&config, sizeof(config));
    return ch->handshake ? 0 : WR_ELIMIT;
}

static void on_keepalive(struct wr_timer *timer);

static void muxed(struct channel *ch)
{
    struct wr_env *env = ch->conn.ctx->env;
    ch->phase = MUXED;
    wr_free(ch->mss);
    ch->mss = NULL;
    /* Ticks on a common grid, so that many quiet connections share one wake-up. */
    wr_time now = wr_env_now(env);
    wr_timer_start(env, &ch->timer, now - now % WR_CHANNEL_KEEPALIVE + 2 * WR_CHANNEL_KEEPALIVE,
                   on_keepalive);
    want_flush(ch);
}

/* The peer has proved who it is. */
static int secured(struct channel *ch, const struct wr_secure_result *result)
{
    struct wr_conn_ctx *ctx = ch->conn.ctx;
    struct wr_yamux_config config = {
        .dialer = ch->conn.outbound,
        .streams_max = (uint32_t)ctx->limits->of[WR_LIMIT_STREAMS_PER_CONN].max,
        .outbound_max = (uint32_t)ctx->limits->of[WR_LIMIT_STREAMS_PER_CONN].max / OUTBOUND_SHARE,
        .limits = ctx->limits,
    };
    wr_env_random(ctx->env, &config.salt, sizeof(config.salt));
    ch->session = result->session;
    ch->secured = true;
    wr_buf_init(&ch->partial, ch->conn.security->frame_max);
    int rc = wr_conn_set_peer(&ch->conn, &result->peer, result->pubkey);
    ch->conn.security->destroy(ch->handshake);
    ch->handshake = NULL;
    wr_free(ch->expect);
    ch->expect = NULL;
    ch->yamux = wr_yamux_create(&config);
    if (rc != 0 || !ch->yamux)
        return WR_ELIMIT;
    ch->phase = MUXER;
    if (result->muxer_agreed) {
        muxed(ch);
    } else {
        ch->mss = wr_alloc(sizeof(*ch->mss));
        if (!ch->mss)
            return WR_ELIMIT;
        if (ch->conn.outbound)
            wr_mss_dial(ch->mss, muxer_offer, &ch->early);
        else
            wr_mss_listen(ch->mss, match_one, (void *)(uintptr_t)muxer_offer);
    }
    if (ch->conn.outbound || ch->phase == MUXED) {
        wr_yamux_ping(ch->yamux, wr_env_now(ctx->env));
        wr_conn_opened(&ch->conn);
    }
    want_flush(ch);
    return 0;
}

/* Multistream and the handshake's messages. 0 wants more; 1 the rest of *in is frames. */
static int handshake_input(struct channel *ch, struct wr_bytes *in, struct wr_buf *out)
{
    if (ch->phase == SECURITY) {
        int rc = wr_mss_input(ch->mss, in, out);
        if (rc <= 0)
            return rc;
        ch->conn.security = wr_secure_by_name(wr_bytes_cstr(ch->mss->agreed));
        wr_free(ch->mss);
        ch->mss = NULL;
        ch->phase = HANDSHAKE;
        rc = ch->conn.outbound ? 0 : start_handshake(ch, out);
        if (rc < 0)
            return rc;
    }
    struct wr_secure_result result;
    int rc = ch->conn.security->input(ch->handshake, in, out, &result);
    if (rc != 1)
        return rc;
    int sent = send_clear(ch, out);
    rc = secured(ch, &result);
    sodium_memzero(&result, sizeof(result));
    if (sent < 0)
        return sent;
    return rc < 0 ? rc : 1;
}

/* ---- receiving ----------------------------------------------------------------------------------- */

static void on_yamux_event(struct channel *ch, const struct wr_yamux_event *event)
{
    struct wr_stream *s = event->stream ? wr_yamux_arg(event->stream) : NULL;
    switch (event->type) {
    case WR_YAMUX_OPENED:
        s = wr_conn_inbound_stream(&ch->conn, event->stream);
        if (s) {
            wr_yamux_set_arg(event->stream, s);
            return;
        }
        wr_yamux_reset(event->stream, WR_STREAM_LIMIT);
        wr_yamux_forget(event->stream);
        return;
    case WR_YAMUX_DATA:
        if (s)
            wr_stream_input(s, event->data);
        return;
    case WR_YAMUX_EOF:
        if (s)
            wr_stream_input_eof(s);
        return;
    case WR_YAMUX_RESET:
        if (s)
            wr_stream_input_reset(s, event->code);
        return;
    case WR_YAMUX_WRITABLE:
        wr_conn_writable(&ch->conn);
        return;
    case WR_YAMUX_ACKED:
        wr_conn_retry_opens(&ch->conn);
        return;
    case WR_YAMUX_PONG:
        return;
    case WR_YAMUX_GOAWAY:
        end(ch, WR_ECLOSED);
        return;
    }
}

/* Decrypted bytes: the muxer's negotiation, then yamux. */
static int plain_input(struct channel *ch, struct wr_bytes in)
{
    if (ch->phase == MUXER) {
        int rc = wr_mss_input(ch->mss, &in, &ch->early);
        if (rc < 0)
            return rc;
        want_flush(ch);
        if (rc == 0)
            return 0;
        muxed(ch);
        if (!ch->conn.outbound)
            wr_conn_opened(&ch->conn);
    }
    while (wr_wire_open(&ch->wire)) {
        struct wr_yamux_event event;
        int rc = wr_yamux_input(ch->yamux, &in, wr_env_now(ch->conn.ctx->env), &event);
        if (rc < 0)
            return rc;
        if (rc == 0)
            break;
        on_yamux_event(ch, &event);
    }
    if (wr_wire_open(&ch->wire) && wr_yamux_wants_output(ch->yamux))
        want_flush(ch);
    return 0;
}

/* Opens one whole frame in place. */
static int frame_input(struct channel *ch, uint8_t *frame, size_t body_len)
{
    const struct wr_secure *security = ch->conn.security;
    int n = security->open(&ch->session, frame, body_len);
    return n <= 0 ? n : plain_input(ch, WR_BYTES(frame + security->header, (size_t)n));
}

/* Completes the frame that is held in part; advances *data. */
static int complete_partial(struct channel *ch, uint8_t **data, size_t *len)
{
    const struct wr_secure *security = ch->conn.security;
    while (ch->partial.len && *len && wr_wire_open(&ch->wire)) {
        int body = 0;
        if (ch->partial.len >= security->header)
            body = security->body_len(ch->partial.data);
        if (body < 0)
            return body;
        size_t want = security->header + (size_t)body - ch->partial.len;
        want = want < *len ? want : *len;
        int rc = keep_partial(ch, *data, want);
        if (rc < 0)
            return rc;
        *data += want;
        *len -= want;
        if (ch->partial.len < security->header)
            continue;
        body = security->body_len(ch->partial.data);
        if (body < 0)
            return body;
        if (ch->partial.len < security->header + (size_t)body)
            continue;
        struct wr_buf whole = ch->partial;
        wr_buf_init(&ch->partial, whole.max);
        rc = frame_input(ch, whole.data, (size_t)body);
        clear_partial(ch, &whole);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int frames_input(struct channel *ch, uint8_t *data, size_t len)
{
    const struct wr_secure *security = ch->conn.security;
    int rc = complete_partial(ch, &data, &len);
    while (rc >= 0 && wr_wire_open(&ch->wire) && len >= security->header) {
        int body = security->body_len(data);
        if (body < 0)
            return body;
        size_t whole = security->header + (size_t)body;
        if (len < whole)
            break;
        rc = frame_input(ch, data, (size_t)body);
        data += whole;
        len -= whole;
    }
    if (rc < 0 || !wr_wire_open(&ch->wire) || len == 0)
        return rc;
    return keep_partial(ch, data, len);
}

static int input(struct channel *ch, uint8_t *data, size_t len)
{
    if (!ch->secured) {
        struct wr_bytes in = {data, len};
        struct wr_buf out;
        wr_buf_init(&out, HANDSHAKE_OUT_MAX);
        int rc = handshake_input(ch, &in, &out);
        int sent = send_clear(ch, &out);
        if (rc < 0 || sent < 0)
            return rc < 0 ? rc : sent;
        data += len - in.len;
        len = in.len;
        if (rc == 0)
            return 0;
    }
    return frames_input(ch, data, len);
}

static void on_read(void *arg, uint8_t *data, size_t len)
{
    struct channel *ch = arg;
    if (ch->conn.closing)
        return;
    ch->conn.bytes_in += len;
    if (ch->pnet) {
        size_t skip = wr_pnet_decrypt(ch->pnet, data, len);
        data += skip;
        len -= skip;
    }
    int rc = len ? input(ch, data, len) : 0;
    if (rc >= 0 || !wr_wire_open(&ch->wire))
        return;
    if (rc != WR_ECLOSED)
        wr_log(wr_env_log(ch->conn.ctx->env), WR_LOG_DEBUG, "conn", "broken phase=%d err=%s why=\"%s\"",
               (int)ch->phase, wr_err_name(rc),
               ch->handshake ? ch->conn.security->why(ch->handshake) : "");
    if (ch->yamux && ch->secured && rc == WR_EPROTO)
        flush_task(&ch->flush);
    say_farewell(ch, rc);
    end(ch, rc);
}

/* ---- the wire ---------------------------------------------------------------------------------- */

static void on_handshake_timeout(struct wr_timer *timer)
{
    end(wr_list_entry(timer, struct channel, timer), WR_ETIMEOUT);
}

static void on_keepalive(struct wr_timer *timer)
{
    struct channel *ch = wr_list_entry(timer, struct channel, timer);
    struct wr_env *env = ch->conn.ctx->env;
    if (ch->conn.bytes_in != ch->bytes_in_last)
        ch->silent_ticks = 0;
    else if (++ch->silent_ticks > 1) {
        end(ch, WR_ETIMEOUT);
        return;
    }
    ch->bytes_in_last = ch->conn.bytes_in;
    if (ch->silent_ticks) {
        wr_yamux_ping(ch->yamux, wr_env_now(env));
        want_flush(ch);
    }
    wr_timer_start(env, &ch->timer, wr_env_now(env) + WR_CHANNEL_KEEPALIVE, on_keepalive);
}

/* Our nonce goes out at once; the rest of the first flight is the dialler's. */
static int start(struct channel *ch)
{
    struct wr_conn_ctx *ctx = ch->conn.ctx;
    struct wr_buf nonce, out;
    wr_buf_init(&nonce, WR_PNET_NONCE);
    wr_buf_init(&out, HANDSHAKE_OUT_MAX);
    if (ch->wire.sock) {
        wr_sock_local(ch->wire.sock, &ch->conn.local);
        wr_sock_remote(ch->wire.sock, &ch->conn.remote);
    }
    ch->phase = SECURITY;
    wr_timer_start(ctx->env, &ch->timer,
                   wr_env_now(ctx->env) +
                       (ch->conn.circuit ? WR_CHANNEL_CIRCUIT_HANDSHAKE : WR_CHANNEL_HANDSHAKE),
                   on_handshake_timeout);
    ch->mss = wr_alloc(sizeof(*ch->mss));
    if (!ch->mss)
        return WR_ELIMIT;
    if (ctx->psk) {
        uint8_t random[WR_PNET_NONCE];
        ch->pnet = wr_alloc(sizeof(*ch->pnet));
        if (!ch->pnet)
            return WR_ELIMIT;
        wr_env_random(ctx->env, random, sizeof(random));
        wr_pnet_start(ch->pnet, ctx->psk, random, &nonce);
    }
    if (ch->conn.outbound) {
        ch->offer[0] = ch->conn.security->name;
        wr_mss_dial(ch->mss, ch->offer, &out);
        int rc = start_handshake(ch, &out);
        if (rc < 0) {
            wr_buf_clear(&nonce);
            wr_buf_clear(&out);
            return rc;
        }
    } else {
        wr_mss_listen(ch->mss, match_security, ch);
    }
    int rc = 0;
    if (nonce.len)
        rc = wr_wire_write(&ch->wire, nonce.data, nonce.len);
    wr_buf_clear(&nonce);
    int sent = send_clear(ch, &out);
    return rc < 0 ? rc : sent;
}

static void on_connected(void *arg)
{
    struct channel *ch = arg;
    ch->conn.port_reused = wr_sock_reused(ch->wire.sock);
    int rc = start(ch);
    if (rc < 0)
        end(ch, rc);
}

static void on_drain(void *arg)
{
    count_unsent(arg);
    want_flush(arg);
}

static void on_wire_close(void *arg, int err)
{
    struct channel *ch = arg;
    ch->wire.sock = NULL;
    wr_conn_ended(&ch->conn, err == 0 ? WR_ECLOSED : err);
}

static const struct wr_sock_ops wire_ops = {
    .on_open = on_connected,
    .on_read = on_read,
    .on_drain = on_drain,
    .on_close = on_wire_close,
};

static struct channel *create(struct wr_conn_ctx *ctx, const struct wr_mux_ops *ops, bool outbound)
{
    struct channel *ch = wr_alloc(sizeof(*ch));
    if (!ch)
        return NULL;
    wr_conn_init(&ch->conn, ctx, ops);
    ch->conn.outbound = outbound;
    wr_buf_init(&ch->early, HANDSHAKE_OUT_MAX);
    return ch;
}

struct wr_conn *wr_channel_dial(struct wr_conn_ctx *ctx, const struct wr_addr *to,
                                const struct wr_addr *from, const struct wr_secure *security,
                                const struct wr_peerid *expect, void *owner, int *err)
{
    struct channel *ch = create(ctx, &mux_ops, true);
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
                   on_handshake_timeout);
    return &ch->conn;
}

/* security and expect: NULL for the listener's part. */
static struct wr_conn *take(struct wr_conn_ctx *ctx, struct wr_sock *sock, const struct wr_secure *security,
                            const struct wr_peerid *expect)
{
    struct channel *ch = create(ctx, &mux_ops, expect != NULL);
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
    int rc = start(ch);
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
static int set_circuit(struct channel *ch, const struct wr_circuit *circuit, const struct wr_stream *s)
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
    struct channel *ch = create(ctx, &circuit_ops, side->outbound);
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
        rc = start(ch);
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
    struct channel *ch = of_conn(c);
    int err = 0;
    s->mux = wr_yamux_open(ch->yamux, s, &err);
    /* A stream of this session that ends makes room at once; that there is memory again nobody tells. */
    if (err == WR_ELIMIT && !wr_timer_running(&ch->more))
        wr_timer_start(s->env, &ch->more, wr_env_now(s->env) + REOPEN_AFTER, on_more);
    if (!s->mux)
        return err;
    want_flush(ch);
    return 0;
}

static int mux_write(struct wr_stream *s, const uint8_t *data, size_t len)
{
    int n = wr_yamux_write(s->mux, data, len);
    if (n > 0)
        want_flush(of_conn(s->conn));
    return n;
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
    want_flush(of_conn(s->conn));
}

static void mux_reset(struct wr_stream *s, uint32_t code)
{
    wr_yamux_reset(s->mux, code);
    want_flush(of_conn(s->conn));
}

static void mux_consumed(struct wr_stream *s, size_t len)
{
    struct channel *ch = of_conn(s->conn);
    wr_yamux_consumed(s->mux, len, wr_env_now(s->env));
    if (wr_yamux_wants_output(ch->yamux))
        want_flush(ch);
}

static void mux_forget(struct wr_stream *s)
{
    struct channel *ch = of_conn(s->conn);
    wr_yamux_forget(s->mux);
    want_flush(ch);
    if (!wr_list_empty(&ch->conn.waiting))
        wr_timer_start(s->env, &ch->more, wr_env_now(s->env), on_more);
}

static void mux_steady(struct wr_stream *s)
{
    wr_yamux_steady(s->mux);
}

static void mux_close(struct wr_conn *c, uint32_t code)
{
    struct channel *ch = of_conn(c);
    if (!wr_wire_open(&ch->wire))
        return;
    if (ch->yamux && ch->phase == MUXED) {
        wr_yamux_goaway(ch->yamux, code);
        flush_task(&ch->flush);
    }
    say_farewell(ch, 0);
    wr_wire_close(&ch->wire, true);
}

static void mux_release(struct wr_conn *c)
{
    struct channel *ch = of_conn(c);
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
    clear_partial(ch, &ch->partial);
    count_unsent(ch);
    wr_wire_clear(&ch->wire);
    wr_buf_clear(&ch->early);
    wr_conn_clear(&ch->conn);
    sodium_memzero(ch, sizeof(*ch));
    wr_free(ch);
}

static wr_time mux_rtt(const struct wr_conn *c)
{
    const struct channel *ch = of_conn(c);
    wr_time rtt = ch->yamux ? wr_yamux_rtt(ch->yamux) : 0;
    return rtt || !wr_wire_open(&ch->wire) ? rtt : wr_wire_rtt(&ch->wire);
}

static void mux_stats(const struct wr_conn *c, struct wr_conn_stats *out)
{
    const struct channel *ch = of_conn(c);
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

static const struct wr_mux_ops mux_ops = {
    .transport = "tcp",
    .muxer = "/yamux/1.0.0",
    .open = mux_open,
    .write = mux_write,
    .space = mux_space,
    .queued = mux_queued,
    .shut = mux_shut,
    .reset = mux_reset,
    .consumed = mux_consumed,
    .forget = mux_forget,
    .steady = mux_steady,
    .close = mux_close,
    .release = mux_release,
    .rtt = mux_rtt,
    .stats = mux_stats,
};

static const struct wr_mux_ops circuit_ops = {
    .transport = "circuit",
    .muxer = "/yamux/1.0.0",
    .open = mux_open,
    .write = mux_write,
    .space = mux_space,
    .queued = mux_queued,
    .shut = mux_shut,
    .reset = mux_reset,
    .consumed = mux_consumed,
    .forget = mux_forget,
    .steady = mux_steady,
    .close = mux_close,
    .release = mux_release,
    .rtt = mux_rtt,
    .stats = mux_stats,
};
