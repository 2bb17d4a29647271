#include "transport/conn_impl.h"

#include <assert.h>
#include <inttypes.h>

/* A writer hears of room once this much is free, so that it does not fill byte by byte. */
#define WRITE_ROOM_MIN (16 * 1024)    /* bytes; ours */

#define RX_MAX ((size_t)64 * 1024 * 1024)    /* bytes; the carrier's window bounds it before this */

static void on_timeout(struct wr_timer *timer);
static void deliver_kept(struct wr_task *task);

/* ---- birth and end ---------------------------------------------------------------------------- */

static struct wr_stream *create(struct wr_env *env, struct wr_limits *limits)
{
    struct wr_stream *s = wr_alloc(sizeof(*s));
    struct wr_mss *mss = wr_alloc(sizeof(*mss));
    if (!s || !mss) {
        wr_free(s);
        wr_free(mss);
        return NULL;
    }
    s->env = env;
    s->limits = limits;
    s->mss = mss;
    wr_list_init(&s->node);
    wr_list_init(&s->write_node);
    wr_buf_init(&s->tx, WR_STREAM_EARLY_MAX + 2 * WR_MSS_LINE_MAX);
    wr_buf_init(&s->rx, RX_MAX);
    return s;
}

/* Limit STREAMS: the carrier counts what it has taken (it may hold a stream longer than we do), we count those that
 * wait for it. */
static void uncount(struct wr_stream *s)
{
    if (s->counted)
        wr_limits_give(s->limits, WR_LIMIT_STREAMS, 1);
    s->counted = false;
}

static void destroy(struct wr_stream *s)
{
    uncount(s);
    wr_free(s);
}

static void dispose(struct wr_task *task)
{
    destroy(wr_list_entry(task, struct wr_stream, task));
}

static void clear_rx(struct wr_stream *s)
{
    if (s->rx.len)
        wr_account_give(&s->conn->memory, s->rx.len);
    wr_buf_clear(&s->rx);
}

static void reset_mux(struct wr_stream *s, uint32_t code)
{
    if (!s->mux || s->reset_sent)
        return;
    s->reset_sent = true;
    s->conn->mux->reset(s, code);
}

/* The end of a stream from anywhere; the owner hears of it unless it let go. */
static void finish(struct wr_stream *s, int err)
{
    if (s->finished)
        return;
    s->finished = true;
    wr_timer_stop(s->env, &s->timer);
    wr_task_cancel(&s->task);
    wr_list_remove(&s->write_node);
    wr_list_remove(&s->node);
    if (s->conn)
        s->conn->stream_count--;
    if (!s->shut_done || !s->eof_seen)
        reset_mux(s, WR_STREAM_OK);
    if (s->mux) {
        s->conn->mux->forget(s);
        s->mux = NULL;
    }
    wr_free(s->mss);
    s->mss = NULL;
    wr_buf_clear(&s->tx);
    clear_rx(s);
    if (!s->let_go && s->ops && s->ops->on_close)
        s->ops->on_close(s, s->arg, err);
    wr_env_dispose(s->env, &s->task, dispose);
}

static void maybe_finish(struct wr_stream *s)
{
    if (s->shut_done && s->eof_seen && (s->eof_told || s->let_go))
        finish(s, 0);
}

struct wr_stream *wr_stream_create_dial(struct wr_env *env, struct wr_limits *limits,
                                        const char *const *offer, const struct wr_stream_ops *ops,
                                        void *arg)
{
    if (!wr_limits_take(limits, WR_LIMIT_STREAMS, 1))
        return NULL;
    struct wr_stream *s = create(env, limits);
    if (!s) {
        wr_limits_give(limits, WR_LIMIT_STREAMS, 1);
        return NULL;
    }
    s->counted = true;
    s->outbound = true;
    s->offer = offer;
    s->ops = ops;
    s->arg = arg;
    wr_mss_dial(s->mss, offer, &s->tx);
    if (s->tx.full) {
        wr_free(s->mss);
        wr_buf_clear(&s->tx);
        destroy(s);
        return NULL;
    }
    return s;
}

static const char *match_protocol(void *arg, struct wr_bytes name)
{
    struct wr_stream *s = arg;
    const struct wr_protocol *p = wr_protocols_find(&s->conn->ctx->protocols, name);
    if (!p || (s->conn->limited && !p->limited))
        return NULL;
    return p->name;
}

struct wr_stream *wr_stream_create_accept(struct wr_conn *c, void *mux)
{
    struct wr_stream *s = create(c->ctx->env, c->ctx->limits);
    if (!s)
        return NULL;
    s->conn = c;
    s->mux = mux;
    c->stream_count++;
    wr_list_append(&c->streams, &s->node);
    wr_mss_listen(s->mss, match_protocol, s);
    wr_timer_start(s->env, &s->timer, wr_env_now(s->env) + WR_STREAM_NEGOTIATE_TIMEOUT, on_timeout);
    return s;
}

/* ---- sending ------------------------------------------------------------------------------------ */

/* With one name on offer we write on without waiting for the answer; with several the first bytes
 * would belong to whichever is taken. */
static bool awaits_choice(const struct wr_stream *s)
{
    return s->mss && (!s->outbound || s->offer[1]);
}

static void send_raw(struct wr_stream *s, const struct wr_buf *out)
{
    size_t sent = 0;
    if (out->full) {
        s->tx.full = true;
        return;
    }
    if (s->mux && s->tx.len == 0) {
        int n = s->conn->mux->write(s, out->data, out->len);
        sent = n > 0 ? (size_t)n : 0;
    }
    wr_buf_put(&s->tx, out->data + sent, out->len - sent);
}

static void shut_if_due(struct wr_stream *s)
{
    if (!s->shut_wanted || s->shut_done || !s->mux || s->tx.len)
        return;
    /* Not before the protocol is agreed, but with peers that are known to take it: js-libp2p resets a stream whose
     * end it has seen while it still negotiates (its utils cannot push the bytes back). */
    if (s->mss && (!s->conn->early_end || awaits_choice(s)))
        return;
    s->shut_done = true;
    s->conn->mux->shut(s);
}

bool wr_stream_flush(struct wr_stream *s)
{
    if (s->tx.len) {
        int n = s->conn->mux->write(s, s->tx.data, s->tx.len);
        if (n > 0)
            wr_buf_consume(&s->tx, (size_t)n);
        if (s->tx.len) {
            if (wr_list_empty(&s->write_node))
                wr_list_append(&s->conn->writers, &s->write_node);
            return false;
        }
        wr_buf_clear(&s->tx);
    }
    shut_if_due(s);
    return wr_stream_space(s) >= WRITE_ROOM_MIN ||
           (wr_stream_queued(s) == 0 && wr_stream_space(s) > 0);
}

void wr_stream_tell_writable(struct wr_stream *s)
{
    if (!s->let_go && !s->finished && !s->shut_wanted && s->ops && s->ops->on_writable)
        s->ops->on_writable(s, s->arg);
}

int wr_stream_put(struct wr_stream *s)
{
    struct wr_conn *c = s->conn;
    uncount(s);
    int rc = c->mux->open(c, s);
    if (rc != 0) {
        s->counted = true;
        wr_limits_charge(s->limits, WR_LIMIT_STREAMS, 1);
        return rc;
    }
    wr_list_remove(&s->node);
    wr_list_append(&c->streams, &s->node);
    wr_timer_start(s->env, &s->timer, wr_env_now(s->env) + WR_STREAM_NEGOTIATE_TIMEOUT, on_timeout);
    if (!wr_stream_flush(s) && wr_list_empty(&s->write_node))
        wr_list_append(&c->writers, &s->write_node);
    return 0;
}

int wr_stream_attach(struct wr_stream *s, struct wr_conn *c)
{
    if (c->state != WR_CONN_OPEN || c->closing)
        return WR_ECLOSED;
    s->conn = c;
    c->stream_count++;
    c->used_at = wr_env_now(s->env);
    wr_conn_await(c, false);
    wr_list_append(&c->waiting, &s->node);
    int rc = wr_stream_put(s);
    if (rc == WR_ECLOSED) {
        wr_list_remove(&s->node);
        c->stream_count--;
        s->conn = NULL;
    }
    if (rc == WR_ELIMIT)
        wr_timer_start(s->env, &s->timer, wr_env_now(s->env) + WR_STREAM_WAIT, on_timeout);
    return rc;
}

static void want_write(struct wr_stream *s)
{
    if (s->conn && wr_list_empty(&s->write_node))
        wr_list_append(&s->conn->writers, &s->write_node);
}

size_t wr_stream_space(const struct wr_stream *s)
{
    if (s->shut_wanted || s->let_go || s->finished || awaits_choice(s))
        return 0;
    if (!s->mux)
        return s->tx.len < WR_STREAM_EARLY_MAX ? WR_STREAM_EARLY_MAX - s->tx.len : 0;
    return s->tx.len ? 0 : s->conn->mux->space(s);
}

size_t wr_stream_queued(const struct wr_stream *s)
{
    return s->tx.len + (s->mux ? s->conn->mux->queued(s) : 0);
}

int wr_stream_write(struct wr_stream *s, const void *data, size_t len)
{
    if (s->shut_wanted || s->let_go || s->finished)
        return WR_ECLOSED;
    if (len > INT32_MAX)
        len = INT32_MAX;
    size_t take = 0;
    if (s->mux && !s->tx.len && !awaits_choice(s)) {
        /* All of it is shown to the carrier: a write that comes up short makes it tell of room. */
        int n = s->conn->mux->write(s, data, len);
        if (n < 0)
            return n;
        take = (size_t)n;
    } else if (!s->mux) {
        size_t room = wr_stream_space(s);
        take = len < room ? len : room;
        wr_buf_put(&s->tx, data, take);
        if (s->tx.full)
            return WR_ELIMIT;
    }
    if (take < len)
        want_write(s);
    return (int)take;
}

void wr_stream_shut(struct wr_stream *s)
{
    if (s->shut_wanted || s->finished)
        return;
    s->shut_wanted = true;
    shut_if_due(s);
    /* Both directions may be over now, but no handler may run inside this call. */
    if (s->shut_done && s->eof_told)
        wr_env_defer(s->env, &s->task, deliver_kept);
}

/* ---- receiving ---------------------------------------------------------------------------------- */

static void deliver(struct wr_stream *s, struct wr_bytes data)
{
    if (!s->let_go && s->ops && s->ops->on_data)
        s->ops->on_data(s, s->arg, data);
    if (s->mux)
        s->conn->mux->consumed(s, data.len);
}

static void tell_eof(struct wr_stream *s)
{
    if (s->eof_told || s->finished)
        return;
    s->eof_told = true;
    if (!s->let_go && s->ops && s->ops->on_eof)
        s->ops->on_eof(s, s->arg);
    if (!s->finished)
        maybe_finish(s);
}

static void keep(struct wr_stream *s, struct wr_bytes data)
{
    if (wr_account_take(&s->conn->memory, data.len)) {
        wr_buf_put_bytes(&s->rx, data);
        if (!s->rx.full)
            return;
        wr_account_give(&s->conn->memory, data.len);
    }
    reset_mux(s, WR_STREAM_LIMIT);
    finish(s, WR_ELIMIT);
}

/* Bytes as the owner wants them: of a steady stream in pieces, of which each may pause it. Advances data. */
static void deliver_pieces(struct wr_stream *s, struct wr_bytes *data)
{
    do {
        size_t most = s->steady && !s->let_go ? WR_STREAM_STEADY_PIECE : data->len;
        struct wr_bytes piece = {data->ptr, data->len < most ? data->len : most};
        wr_bytes_take(data, piece.len);
        deliver(s, piece);
    } while (data->len && !s->finished && (s->let_go || !s->paused));
}

/* What waited while the stream was paused. */
static void deliver_kept(struct wr_task *task)
{
    struct wr_stream *s = wr_list_entry(task, struct wr_stream, task);
    if (!s->paused && s->rx.len) {
        struct wr_buf kept = s->rx;
        struct wr_bytes left = wr_buf_bytes(&kept);
        wr_buf_init(&s->rx, RX_MAX);
        deliver_pieces(s, &left);
        wr_account_give(&s->conn->memory, kept.len - left.len);
        wr_buf_consume(&kept, kept.len - left.len);
        if (!s->finished && left.len) {
            s->rx = kept;    /* nothing came meanwhile: no input runs inside this */
        } else {
            wr_account_give(&s->conn->memory, kept.len);
            wr_buf_clear(&kept);
        }
    }
    if (!s->finished && !s->paused && s->eof_seen)
        tell_eof(s);
    if (!s->finished)
        maybe_finish(s);
}

void wr_stream_pause(struct wr_stream *s, bool paused)
{
    s->paused = paused;
    if (!paused && !s->finished && (s->rx.len || s->eof_seen))
        wr_env_defer(s->env, &s->task, deliver_kept);
}

void wr_stream_steady(struct wr_stream *s)
{
    s->steady = true;
    if (s->mux && s->conn->mux->steady)
        s->conn->mux->steady(s);
}

/* The protocol is agreed: on to its owner. */
static void agreed(struct wr_stream *s)
{
    s->protocol = s->mss->agreed;
    wr_free(s->mss);
    s->mss = NULL;
    wr_timer_stop(s->env, &s->timer);
    if (s->let_go) {
        wr_timer_start(s->env, &s->timer, wr_env_now(s->env) + WR_STREAM_LINGER, on_timeout);
        shut_if_due(s);
        return;
    }
    if (s->outbound) {
        shut_if_due(s);
        if (s->ops && s->ops->on_open)
            s->ops->on_open(s, s->arg);
        return;
    }
    const struct wr_protocol *p =
        wr_protocols_find(&s->conn->ctx->protocols, wr_bytes_cstr(s->protocol));
    assert(p);
    uint64_t same = 0, most = s->limits->of[WR_LIMIT_STREAMS_PER_PROTOCOL].max;
    most = p->inbound_max < most ? p->inbound_max : most;
    wr_list_each(it, &s->conn->streams)
    {
        struct wr_stream *other = wr_list_entry(it, struct wr_stream, node);
        same += !other->outbound && other->protocol == s->protocol;
    }
    if (same > most) {
        wr_limits_refuse(s->limits, WR_LIMIT_STREAMS_PER_PROTOCOL);
        wr_log(wr_env_log(s->env), WR_LOG_DEBUG, "stream", "refused limit=%s protocol=%s most=%" PRIu64,
               wr_limit_name(WR_LIMIT_STREAMS_PER_PROTOCOL), s->protocol, most);
        reset_mux(s, WR_STREAM_LIMIT);
        finish(s, WR_ELIMIT);
        return;
    }
    p->on_stream(s, p->arg);
}

/* Feeds the negotiation; returns what is left for the protocol. */
static struct wr_bytes negotiate(struct wr_stream *s, struct wr_bytes in)
{
    size_t before = in.len;
    struct wr_buf out;
    wr_buf_init(&out, 4 * WR_MSS_LINE_MAX);
    int rc = wr_mss_input(s->mss, &in, &out);
    if (out.len || out.full)
        send_raw(s, &out);
    wr_buf_clear(&out);
    s->conn->mux->consumed(s, before - in.len);
    if (rc < 0 || s->tx.full) {
        reset_mux(s, WR_STREAM_UNKNOWN);
        finish(s, rc < 0 ? rc : WR_ELIMIT);
    } else if (rc == 1) {
        agreed(s);
    }
    return in;
}

void wr_stream_input(struct wr_stream *s, struct wr_bytes data)
{
    if (s->mss) {
        data = negotiate(s, data);
        if (s->mss || s->finished)
            return;
    }
    if (data.len == 0)
        return;
    if (s->let_go || (!s->paused && s->rx.len == 0))
        deliver_pieces(s, &data);
    if (data.len && !s->finished)
        keep(s, data);
}

void wr_stream_input_eof(struct wr_stream *s)
{
    s->eof_seen = true;
    if (s->mss) {
        reset_mux(s, WR_STREAM_UNKNOWN);
        finish(s, WR_EUNSUPPORTED);
        return;
    }
    if (s->let_go || (!s->paused && s->rx.len == 0))
        tell_eof(s);
}

void wr_stream_input_reset(struct wr_stream *s, uint32_t code)
{
    s->reset_code = code;
    s->reset_sent = true;    /* theirs ended it */
    finish(s, s->mss && code == WR_STREAM_UNKNOWN ? WR_EUNSUPPORTED : WR_ERESET);
}

/* ---- the owner's side ---------------------------------------------------------------------------- */

static void on_timeout(struct wr_timer *timer)
{
    struct wr_stream *s = wr_list_entry(timer, struct wr_stream, timer);
    bool placed = s->mux != NULL;
    reset_mux(s, s->mss ? WR_STREAM_UNKNOWN : WR_STREAM_OK);
    finish(s, placed ? WR_ETIMEOUT : WR_ELIMIT);
}

void wr_stream_fail(struct wr_stream *s, int err)
{
    finish(s, err);
}

void wr_stream_set_ops(struct wr_stream *s, const struct wr_stream_ops *ops, void *arg)
{
    s->ops = ops;
    s->arg = arg;
}

void wr_stream_close(struct wr_stream *s)
{
    if (s->let_go || s->finished)
        return;
    s->let_go = true;
    size_t unread = s->rx.len;
    clear_rx(s);
    if (s->mux && unread)
        s->conn->mux->consumed(s, unread);
    s->shut_wanted = true;
    shut_if_due(s);
    if (s->shut_done && s->eof_seen) {
        finish(s, 0);
        return;
    }
    if (!s->mss)
        wr_timer_start(s->env, &s->timer, wr_env_now(s->env) + WR_STREAM_LINGER, on_timeout);
}

void wr_stream_reset(struct wr_stream *s, uint32_t code)
{
    if (s->finished)
        return;
    s->let_go = true;
    reset_mux(s, code);
    finish(s, WR_ECANCELLED);
}

const char *wr_stream_protocol(const struct wr_stream *s)
{
    return s->protocol;
}

struct wr_conn *wr_stream_conn(const struct wr_stream *s)
{
    return s->conn;
}

uint32_t wr_stream_reset_code(const struct wr_stream *s)
{
    return s->reset_code;
}
