#include "transport/msg.h"

#include "transport/conn.h"
#include "transport/varint.h"

/* Queued answers a peer may leave unread before the conversation is reset. */
#define OUT_MAX (256 * 1024)    /* bytes; ours */

/* Follows what in and out hold. False: more than this connection may make us keep. */
static bool count_kept(struct wr_msg *m)
{
    struct wr_conn *c = wr_stream_conn(m->stream);
    size_t now = m->in.len + m->out.len;
    if (!c)
        return true;    /* not connected yet: only words of ours */
    if (now > m->kept && !wr_account_take(&c->memory, now - m->kept))
        return false;
    if (now < m->kept)
        wr_account_give(&c->memory, m->kept - now);
    m->kept = now;
    return true;
}

static void end(struct wr_msg *m)
{
    wr_timer_stop(m->env, &m->deadline);
    wr_task_cancel(&m->again);
    wr_buf_clear(&m->in);
    wr_buf_clear(&m->out);
    (void)count_kept(m);
    m->stream = NULL;
}

static void fail(struct wr_msg *m, int err)
{
    wr_stream_reset(m->stream, err == WR_ELIMIT ? WR_STREAM_LIMIT : WR_STREAM_VIOLATION);
    end(m);
    m->ops->on_close(m, err);
}

/* Takes one whole message off *in. 1 taken, 0 more bytes needed, <0 malformed. */
static int take(const struct wr_msg *m, struct wr_bytes *in, struct wr_bytes *body)
{
    uint64_t len;
    int used = wr_uvarint_decode(in->ptr, in->len, &len);
    if (used < 0 || (used > 0 && len > m->in_max))
        return WR_EPROTO;
    if (used == 0 || len > in->len - (size_t)used)
        return 0;
    wr_bytes_take(in, (size_t)used);
    *body = wr_bytes_take(in, (size_t)len);
    return 1;
}

/* on_message may end the conversation, and begin another in its place: that one gets nothing of this stream. */
static void drain(struct wr_msg *m, const struct wr_stream *s, struct wr_bytes *in)
{
    while (m->stream == s && !m->paused) {
        struct wr_bytes body;
        int rc = take(m, in, &body);
        if (rc == 0)
            return;
        if (rc < 0) {
            fail(m, rc);
            return;
        }
        m->unread = in;
        m->ops->on_message(m, body);
        m->unread = NULL;
    }
}

/* Messages are handed out of a buffer of the call's own: on_message may end the conversation. */
static void drain_kept(struct wr_msg *m, const struct wr_stream *s)
{
    struct wr_buf have = m->in;
    wr_buf_init(&m->in, have.max);
    struct wr_bytes rest = wr_buf_bytes(&have);
    drain(m, s, &rest);
    if (m->stream == s && rest.len) {
        wr_buf_consume(&have, have.len - rest.len);
        m->in = have;
    } else {
        wr_buf_clear(&have);
    }
    if (m->stream == s)
        (void)count_kept(m);    /* never more than before, but for answers, which have counted themselves */
}

static void on_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct wr_msg *m = arg;
    if (m->in.len == 0)
        drain(m, s, &data);
    if (m->stream != s || data.len == 0)
        return;
    wr_buf_put_bytes(&m->in, data);
    if (m->in.full) {
        fail(m, WR_EPROTO);
        return;
    }
    if (!count_kept(m)) {
        fail(m, WR_ELIMIT);
        return;
    }
    drain_kept(m, s);
}

static void flush(struct wr_msg *m)
{
    if (m->out.len) {
        int n = wr_stream_write(m->stream, m->out.data, m->out.len);
        if (n > 0)
            wr_buf_consume(&m->out, (size_t)n);
        if (m->out.len)
            return;
        wr_buf_clear(&m->out);
    }
    if (m->shut)
        wr_stream_shut(m->stream);
}

static void on_open(struct wr_stream *s, void *arg)
{
    struct wr_msg *m = arg;
    (void)s;
    m->agreed = true;
    flush(m);
    (void)count_kept(m);
}

static void on_writable(struct wr_stream *s, void *arg)
{
    (void)s;
    flush(arg);
    (void)count_kept(arg);
}

static void on_eof(struct wr_stream *s, void *arg)
{
    struct wr_msg *m = arg;
    (void)s;
    if (m->in.len) {
        fail(m, WR_EPROTO);
        return;
    }
    if (m->ops->on_eof) {
        m->ops->on_eof(m);
        return;
    }
    wr_msg_close(m);
    m->ops->on_close(m, WR_ECLOSED);
}

static void on_close(struct wr_stream *s, void *arg, int err)
{
    struct wr_msg *m = arg;
    m->code = wr_stream_reset_code(s);
    end(m);
    m->ops->on_close(m, err == 0 ? WR_ECLOSED : err);
}

static const struct wr_stream_ops stream_ops = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_writable = on_writable,
    .on_close = on_close,
};

void wr_msg_start(struct wr_msg *m, struct wr_env *env, struct wr_stream *s, size_t in_max,
                  const struct wr_msg_ops *ops)
{
    *m = (struct wr_msg){.env = env, .stream = s, .ops = ops, .in_max = in_max};
    wr_buf_init(&m->in, in_max + WR_UVARINT_MAX + WR_MSG_READ_AHEAD);
    wr_buf_init(&m->out, OUT_MAX);
    wr_stream_set_ops(s, &stream_ops, m);
}

int wr_msg_send(struct wr_msg *m, struct wr_bytes body)
{
    if (!m->stream || m->shut)
        return WR_ECLOSED;
    wr_buf_put_prefixed(&m->out, body);
    if (m->out.full) {
        wr_msg_reset(m, WR_STREAM_LIMIT);
        return WR_ELIMIT;
    }
    flush(m);
    if (count_kept(m))
        return 0;
    wr_msg_reset(m, WR_STREAM_LIMIT);
    return WR_ELIMIT;
}

void wr_msg_shut(struct wr_msg *m)
{
    if (!m->stream || m->shut)
        return;
    m->shut = true;
    flush(m);
}

static void on_again(struct wr_task *task)
{
    struct wr_msg *m = wr_list_entry(task, struct wr_msg, again);
    struct wr_stream *s = m->stream;
    drain_kept(m, s);
    if (m->stream == s && !m->paused)
        wr_stream_pause(s, false);
}

void wr_msg_pause(struct wr_msg *m, bool paused)
{
    if (!m->stream || m->paused == paused)
        return;
    m->paused = paused;
    if (!paused) {
        wr_env_defer(m->env, &m->again, on_again);
        return;
    }
    wr_task_cancel(&m->again);
    wr_stream_steady(m->stream);
    wr_stream_pause(m->stream, true);
}

static void on_deadline(struct wr_timer *timer)
{
    struct wr_msg *m = wr_list_entry(timer, struct wr_msg, deadline);
    wr_stream_reset(m->stream, WR_STREAM_OK);
    end(m);
    m->ops->on_close(m, WR_ETIMEOUT);
}

void wr_msg_deadline(struct wr_msg *m, wr_time at)
{
    if (!m->stream)
        return;
    if (at)
        wr_timer_start(m->env, &m->deadline, at, on_deadline);
    else
        wr_timer_stop(m->env, &m->deadline);
}

void wr_msg_close(struct wr_msg *m)
{
    if (!m->stream)
        return;
    struct wr_stream *s = m->stream;
    /* What the carrier did not take yet would be lost with this struct: only a peer that left more than
     * a window unread gets there, and it loses the stream. */
    if (m->out.len)
        wr_stream_reset(s, WR_STREAM_LIMIT);
    else
        wr_stream_close(s);
    end(m);
}

struct wr_stream *wr_msg_release(struct wr_msg *m, struct wr_buf *rest)
{
    struct wr_stream *s = m->stream;
    if (m->unread)
        wr_buf_put_bytes(rest, *m->unread);
    wr_buf_put_bytes(rest, wr_buf_bytes(&m->in));
    if (m->out.len || rest->full) {
        wr_msg_reset(m, WR_STREAM_LIMIT);
        return NULL;
    }
    end(m);
    return s;
}

void wr_msg_reset(struct wr_msg *m, uint32_t code)
{
    if (!m->stream)
        return;
    wr_stream_reset(m->stream, code);
    end(m);
}
