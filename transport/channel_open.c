/* Becoming a connection: multistream, the handshake, the muxer's name; then the ticks that keep it one. */
#include "transport/channel_impl.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#define OUTBOUND_SHARE    2              /* streams of ours at once: half of what we take; by default 128: go
                                            resets the 65th of one protocol, rust closes above 512 in all */

static const char *const muxer_offer[] = {"/yamux/1.0.0", NULL};

/* The name of a security protocol that is spoken here. */
static const char *match_security(void *arg, struct wr_bytes name)
{
    const struct wr_channel *ch = arg;
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

/* Starts the handshake of conn.security. */
static int start_handshake(struct wr_channel *ch, struct wr_buf *out)
{
    struct wr_conn_ctx *ctx = ch->conn.ctx;
    struct wr_secure_config config = {
        .aead = ctx->aead,
        .identity = ctx->identity,
        .noise = &ctx->noise,
        .verified = ctx->verified,
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

static void on_keepalive(struct wr_timer *timer)
{
    struct wr_channel *ch = wr_list_entry(timer, struct wr_channel, timer);
    struct wr_env *env = ch->conn.ctx->env;
    if (ch->conn.bytes_in != ch->bytes_in_last)
        ch->silent_ticks = 0;
    else if (++ch->silent_ticks > 1) {
        wr_channel_end(ch, WR_ETIMEOUT);
        return;
    }
    ch->bytes_in_last = ch->conn.bytes_in;
    if (ch->silent_ticks) {
        wr_yamux_ping(ch->yamux, wr_env_now(env));
        wr_channel_want_flush(ch);
    }
    wr_timer_start(env, &ch->timer, wr_env_now(env) + WR_CHANNEL_KEEPALIVE, on_keepalive);
}

static void on_circuit_tick(struct wr_timer *timer)
{
    struct wr_channel *ch = wr_list_entry(timer, struct wr_channel, timer);
    wr_time now = wr_env_now(ch->conn.ctx->env);
    if (ch->conn.bytes_in != ch->bytes_in_last)
        ch->silent_ticks = 0;
    else if (++ch->silent_ticks == WR_CHANNEL_CIRCUIT_TICKS) {
        wr_channel_end(ch, WR_ETIMEOUT);
        return;
    }
    ch->bytes_in_last = ch->conn.bytes_in;
    bool awake = ch->silent_ticks || ch->conn.stream_count;
    wr_timer_start(ch->conn.ctx->env, &ch->timer, now + (awake ? WR_CHANNEL_CIRCUIT_TICK : WR_CHANNEL_KEEPALIVE),
                   on_circuit_tick);
    if (ch->silent_ticks) {
        wr_yamux_ping(ch->yamux, now);
        wr_channel_want_flush(ch);
    }
}

void wr_channel_sent(struct wr_channel *ch)
{
    wr_time by = wr_env_now(ch->conn.ctx->env) + WR_CHANNEL_CIRCUIT_TICK;
    if (ch->conn.circuit && ch->phase == WR_PHASE_MUXED && ch->timer.at > by)
        wr_timer_start(ch->conn.ctx->env, &ch->timer, by, on_circuit_tick);
}

void wr_channel_muxed(struct wr_channel *ch)
{
    struct wr_env *env = ch->conn.ctx->env;
    ch->phase = WR_PHASE_MUXED;
    wr_free(ch->mss);
    ch->mss = NULL;
    /* Ticks on a common grid, so that many quiet connections share one wake-up. */
    wr_time now = wr_env_now(env);
    wr_timer_start(env, &ch->timer, now - now % WR_CHANNEL_KEEPALIVE + 2 * WR_CHANNEL_KEEPALIVE,
                   ch->conn.circuit ? on_circuit_tick : on_keepalive);
    wr_channel_want_flush(ch);
}

/* The peer has proved who it is. */
static int secured(struct wr_channel *ch, const struct wr_secure_result *result)
{
    struct wr_conn_ctx *ctx = ch->conn.ctx;
    struct wr_yamux_config config = {
        .dialer = ch->conn.outbound,
        .streams_max = (uint32_t)ctx->limits->of[WR_LIMIT_STREAMS_PER_CONN].max,
        .outbound_max = (uint32_t)ctx->limits->of[WR_LIMIT_STREAMS_PER_CONN].max / OUTBOUND_SHARE,
        .limits = ctx->limits,
        .mark_every = ch->conn.circuit ? WR_CHANNEL_CIRCUIT_MARK : 0,
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
    ch->phase = WR_PHASE_MUXER;
    if (result->muxer_agreed) {
        wr_channel_muxed(ch);
    } else {
        ch->mss = wr_alloc(sizeof(*ch->mss));
        if (!ch->mss)
            return WR_ELIMIT;
        if (ch->conn.outbound)
            wr_mss_dial(ch->mss, muxer_offer, &ch->early);
        else
            wr_mss_listen(ch->mss, match_one, (void *)(uintptr_t)muxer_offer);
    }
    if (ch->conn.outbound || ch->phase == WR_PHASE_MUXED) {
        wr_yamux_ping(ch->yamux, wr_env_now(ctx->env));
        wr_conn_opened(&ch->conn);
    }
    wr_channel_want_flush(ch);
    return 0;
}

int wr_channel_handshake_input(struct wr_channel *ch, struct wr_bytes *in, struct wr_buf *out)
{
    if (ch->phase == WR_PHASE_SECURITY) {
        int rc = wr_mss_input(ch->mss, in, out);
        if (rc <= 0)
            return rc;
        ch->conn.security = wr_secure_by_name(wr_bytes_cstr(ch->mss->agreed));
        wr_free(ch->mss);
        ch->mss = NULL;
        ch->phase = WR_PHASE_HANDSHAKE;
        rc = ch->conn.outbound ? 0 : start_handshake(ch, out);
        if (rc < 0)
            return rc;
    }
    struct wr_secure_result result;
    int rc = ch->conn.security->input(ch->handshake, in, out, &result);
    if (rc != 1)
        return rc;
    /* What there is to say first leaves with it, in one packet, when the turn settles. */
    ch->last = *out;
    wr_buf_init(out, WR_CHANNEL_OUT_MAX);
    rc = ch->last.full ? WR_ELIMIT : secured(ch, &result);
    sodium_memzero(&result, sizeof(result));
    return rc < 0 ? rc : 1;
}

void wr_channel_on_timeout(struct wr_timer *timer)
{
    wr_channel_end(wr_list_entry(timer, struct wr_channel, timer), WR_ETIMEOUT);
}

/* The proposal of conn.security and that one's first message. */
static int propose(struct wr_channel *ch, struct wr_buf *out)
{
    ch->offer[0] = ch->conn.security->name;
    wr_mss_dial(ch->mss, ch->offer, out);
    return start_handshake(ch, out);
}

bool wr_channel_awaits_proposal(const struct wr_conn *c)
{
    const struct wr_channel *ch = wr_channel_of(c);
    return ch->phase == WR_PHASE_SECURITY && !c->outbound && !c->closing && !ch->mss->greeted && ch->mss->have == 0;
}

int wr_channel_propose(struct wr_conn *c)
{
    struct wr_channel *ch = wr_channel_of(c);
    struct wr_buf out;
    assert(wr_channel_awaits_proposal(c) && c->security);
    wr_buf_init(&out, WR_CHANNEL_OUT_MAX);
    c->outbound = true;
    int rc = propose(ch, &out);
    if (rc == 0)
        return wr_channel_send_clear(ch, &out);
    wr_buf_clear(&out);
    return rc;
}

/* Our nonce goes out at once; the rest of the first flight is the dialler's. */
int wr_channel_start(struct wr_channel *ch)
{
    struct wr_conn_ctx *ctx = ch->conn.ctx;
    struct wr_buf nonce, out;
    wr_buf_init(&nonce, WR_PNET_NONCE);
    wr_buf_init(&out, WR_CHANNEL_OUT_MAX);
    if (ch->wire.sock) {
        wr_sock_local(ch->wire.sock, &ch->conn.local);
        wr_sock_remote(ch->wire.sock, &ch->conn.remote);
    }
    ch->phase = WR_PHASE_SECURITY;
    wr_timer_start(ctx->env, &ch->timer,
                   wr_env_now(ctx->env) +
                       (ch->conn.circuit ? WR_CHANNEL_CIRCUIT_HANDSHAKE : WR_CHANNEL_HANDSHAKE),
                   wr_channel_on_timeout);
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
        int rc = propose(ch, &out);
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
    int sent = wr_channel_send_clear(ch, &out);
    return rc < 0 ? rc : sent;
}
