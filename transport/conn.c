#include "transport/conn_impl.h"

void wr_conn_init(struct wr_conn *c, struct wr_conn_ctx *ctx, const struct wr_mux_ops *mux)
{
    c->ctx = ctx;
    c->mux = mux;
    c->state = WR_CONN_OPENING;
    c->memory.limits = ctx->limits;
    wr_list_init(&c->node);
    wr_list_init(&c->peer_node);
    wr_list_init(&c->streams);
    wr_list_init(&c->waiting);
    wr_list_init(&c->writers);
    c->begun_at = c->opened_at = c->used_at = wr_env_now(ctx->env);
}

void wr_conn_opened(struct wr_conn *c)
{
    c->state = WR_CONN_OPEN;
    c->opened_at = c->used_at = wr_env_now(c->ctx->env);
    c->ctx->events->on_open(c->ctx->events_arg, c);
}

void wr_conn_mute(struct wr_conn *c, bool mute)
{
    bool before = c->mute;
    c->mute = mute;
    if (mute == before || c->state != WR_CONN_OPEN || c->closing || !c->outbound)
        return;
    if (mute)
        c->mute_in = c->bytes_in;
    c->ctx->events->on_mute(c->ctx->events_arg, c);
}

void wr_conn_moved(struct wr_conn *c)
{
    if (c->state == WR_CONN_OPEN && !c->closing)
        c->ctx->events->on_moved(c->ctx->events_arg, c);
}

void wr_conn_await(struct wr_conn *c, bool moved)
{
    bool heard = c->bytes_in != c->asked_in;
    if (heard || !(c->asked || c->doubted)) {
        c->asked_at = wr_env_now(c->ctx->env);
        c->asked_in = c->bytes_in;
        c->asked = c->doubted = false;
    }
    c->asked |= !moved;
    c->doubted |= moved;
}

bool wr_conn_silent(const struct wr_conn *c)
{
    if (c->mute)
        return true;
    if (!(c->asked || c->doubted) || c->bytes_in != c->asked_in)
        return false;
    return c->doubted || wr_env_now(c->ctx->env) - c->asked_at >= WR_CONN_SILENCE + 2 * wr_conn_rtt(c);
}

static void dispose(struct wr_task *task)
{
    struct wr_conn *c = wr_list_entry(task, struct wr_conn, task);
    c->mux->release(c);
}

static void fail_all(struct wr_list *streams, int err)
{
    while (!wr_list_empty(streams))
        wr_stream_fail(wr_list_entry(streams->next, struct wr_stream, node), err);
}

void wr_conn_ended(struct wr_conn *c, int err)
{
    if (c->state == WR_CONN_CLOSED)
        return;
    c->state = WR_CONN_CLOSED;
    c->closing = true;
    wr_task_cancel(&c->task);
    fail_all(&c->streams, err);
    fail_all(&c->waiting, err);
    c->ctx->events->on_close(c->ctx->events_arg, c, err);
    wr_env_dispose(c->ctx->env, &c->task, dispose);
}

static void close_now(struct wr_task *task)
{
    struct wr_conn *c = wr_list_entry(task, struct wr_conn, task);
    c->mux->close(c, c->close_code);
    wr_conn_ended(c, WR_ECLOSED);
}

void wr_conn_close(struct wr_conn *c, uint32_t code)
{
    if (c->closing)
        return;
    c->closing = true;
    c->close_code = code;
    wr_env_defer(c->ctx->env, &c->task, close_now);
}

void wr_conn_retry_opens(struct wr_conn *c)
{
    wr_list_each(it, &c->waiting)
    {
        struct wr_stream *s = wr_list_entry(it, struct wr_stream, node);
        int rc = wr_stream_put(s);
        if (rc == WR_ELIMIT)
            return;
        if (rc != 0)
            wr_stream_fail(s, rc);
    }
}

void wr_conn_writable(struct wr_conn *c)
{
    /* A writer that comes up short again joins a fresh round, not this one. */
    struct wr_list round;
    wr_list_init(&round);
    while (!wr_list_empty(&c->writers))
        wr_list_append(&round, wr_list_pop(&c->writers));
    for (struct wr_list *it; (it = wr_list_pop(&round));) {
        struct wr_stream *s = wr_list_entry(it, struct wr_stream, write_node);
        if (!s->mux || !wr_stream_flush(s)) {
            if (!s->finished && wr_list_empty(&s->write_node))
                wr_list_append(&c->writers, &s->write_node);
            continue;
        }
        wr_stream_tell_writable(s);
    }
}

bool wr_conn_drop_protocol(struct wr_conn *c, const char *name)
{
    wr_list_each(it, &c->streams)
    {
        struct wr_stream *s = wr_list_entry(it, struct wr_stream, node);
        if (s->outbound || s->protocol != name)
            continue;
        wr_stream_fail(s, WR_ECLOSED);
        return true;
    }
    return false;
}

struct wr_stream *wr_conn_inbound_stream(struct wr_conn *c, void *mux)
{
    if (c->state != WR_CONN_OPEN || c->closing)
        return NULL;
    return wr_stream_create_accept(c, mux);
}

struct wr_stream *wr_conn_open_stream(struct wr_conn *c, const char *const *offer,
                                      const struct wr_stream_ops *ops, void *arg, int *err)
{
    if (c->state != WR_CONN_OPEN || c->closing) {
        *err = WR_ECLOSED;
        return NULL;
    }
    struct wr_stream *s = wr_stream_create_dial(c->ctx->env, c->ctx->limits, offer, ops, arg);
    if (!s) {
        *err = WR_ELIMIT;
        return NULL;
    }
    int rc = wr_stream_attach(s, c);
    if (rc == WR_ECLOSED) {
        wr_stream_reset(s, WR_STREAM_OK);
        *err = rc;
        return NULL;
    }
    return s;
}

struct wr_bytes wr_conn_pubkey(const struct wr_conn *c)
{
    return c->pubkey.len ? c->pubkey : wr_peerid_pubkey(&c->peer);
}

int wr_conn_set_peer(struct wr_conn *c, const struct wr_peerid *peer, struct wr_bytes pubkey)
{
    c->peer = *peer;
    if (wr_peerid_pubkey(&c->peer).len)
        return 0;
    c->pubkey = WR_BYTES(wr_memdup(pubkey.ptr, pubkey.len), pubkey.len);
    if (c->pubkey.ptr)
        return 0;
    c->pubkey = WR_BYTES_NONE;
    return WR_ELIMIT;
}

void wr_conn_clear(struct wr_conn *c)
{
    wr_free((void *)(uintptr_t)c->pubkey.ptr);
    c->pubkey = WR_BYTES_NONE;
    wr_free(c->circuit);
    c->circuit = NULL;
}

const char *wr_conn_security(const struct wr_conn *c)
{
    if (c->mux->security)
        return c->mux->security;
    return c->security ? c->security->name : "";
}

wr_time wr_conn_rtt(const struct wr_conn *c)
{
    return c->state == WR_CONN_OPEN ? c->mux->rtt(c) : 0;
}

void wr_conn_stats(const struct wr_conn *c, struct wr_conn_stats *out)
{
    *out = (struct wr_conn_stats){0};
    if (c->mux->stats)
        c->mux->stats(c, out);
}

void wr_conn_remote(const struct wr_conn *c, struct wr_maddr *out)
{
    if (c->circuit)
        *out = c->circuit->addr;
    else if (wr_maddr_from_addr(&c->remote, c->udp, out) != 0)
        out->len = 0;
}

void wr_conn_local(const struct wr_conn *c, struct wr_maddr *out)
{
    if (c->circuit ? wr_maddr_parse("/p2p-circuit", out) : wr_maddr_from_addr(&c->local, c->udp, out))
        out->len = 0;
}
