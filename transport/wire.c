#include "transport/wire.h"

#include <string.h>

#define KEPT_MAX  (256 * 1024)    /* bytes a stream did not take; ours: the largest write, twice */
#define BATCH_MIN (16 * 1024)     /* as a socket's: a window that is shut takes one more small write */
#define BATCH_MAX (64 * 1024)

/* ---- receiving ------------------------------------------------------------------------------------------ */

/* In pieces that may be overwritten: what a stream hands out may not. */
static void hand_up(struct wr_wire *w, struct wr_bytes data)
{
    while (data.len && w->stream) {
        struct wr_bytes part = wr_bytes_take(&data, data.len < WR_WIRE_INBOX ? data.len : WR_WIRE_INBOX);
        memcpy(w->inbox, part.ptr, part.len);
        w->ops->on_read(w->arg, w->inbox, part.len);
    }
}

static void hand_up_early(struct wr_wire *w)
{
    struct wr_buf early = w->early;
    wr_task_cancel(&w->task);
    wr_buf_init(&w->early, WR_WIRE_EARLY);
    hand_up(w, wr_buf_bytes(&early));
    wr_buf_clear(&early);
}

static void early_task(struct wr_task *task)
{
    hand_up_early(wr_list_entry(task, struct wr_wire, task));
}

static void on_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct wr_wire *w = arg;
    (void)s;
    hand_up_early(w);
    hand_up(w, data);
}

static void on_eof(struct wr_stream *s, void *arg)
{
    struct wr_wire *w = arg;
    (void)s;
    hand_up_early(w);
    if (!w->stream)
        return;
    wr_wire_close(w, false);
    w->ops->on_close(w->arg, WR_ECLOSED);
}

static void on_close(struct wr_stream *s, void *arg, int err)
{
    struct wr_wire *w = arg;
    (void)s;
    hand_up_early(w);
    if (!w->stream)
        return;
    w->stream = NULL;
    w->ops->on_close(w->arg, err == 0 ? WR_ECLOSED : err);
}

/* ---- sending -------------------------------------------------------------------------------------------- */

static void on_writable(struct wr_stream *s, void *arg)
{
    struct wr_wire *w = arg;
    int n = w->kept.len ? wr_stream_write(s, w->kept.data, w->kept.len) : 0;
    if (n < 0) {
        wr_wire_close(w, true);
        w->ops->on_close(w->arg, n);
        return;
    }
    wr_buf_consume(&w->kept, (size_t)n);
    if (w->kept.len)
        return;
    wr_buf_clear(&w->kept);
    w->ops->on_drain(w->arg);
}

static int write_stream(struct wr_wire *w, const uint8_t *data, size_t len)
{
    size_t taken = 0;
    if (w->kept.len == 0) {
        int n = wr_stream_write(w->stream, data, len);
        if (n < 0)
            return n;
        taken = (size_t)n;
    }
    wr_buf_put(&w->kept, data + taken, len - taken);
    return w->kept.full ? WR_ELIMIT : 0;
}

int wr_wire_write(struct wr_wire *w, const uint8_t *data, size_t len)
{
    return w->sock ? wr_sock_write(w->sock, data, len) : write_stream(w, data, len);
}

size_t wr_wire_backlog(const struct wr_wire *w)
{
    return w->sock ? wr_sock_backlog(w->sock) : w->kept.len;
}

size_t wr_wire_batch(const struct wr_wire *w)
{
    if (w->sock)
        return wr_sock_batch(w->sock);
    size_t space = wr_stream_space(w->stream);
    if (space < BATCH_MIN)
        return BATCH_MIN;
    return space < BATCH_MAX ? space : BATCH_MAX;
}

wr_time wr_wire_rtt(const struct wr_wire *w)
{
    return w->sock ? wr_sock_rtt(w->sock) : 0;
}

/* ---- life ----------------------------------------------------------------------------------------------- */

static const struct wr_stream_ops stream_ops = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_writable = on_writable,
    .on_close = on_close,
};

int wr_wire_take(struct wr_wire *w, struct wr_env *env, struct wr_stream *s, struct wr_bytes early, uint8_t *inbox,
                 const struct wr_sock_ops *ops, void *arg)
{
    *w = (struct wr_wire){.ops = ops, .arg = arg, .inbox = inbox, .env = env};
    wr_buf_init(&w->kept, KEPT_MAX);
    wr_buf_init(&w->early, WR_WIRE_EARLY);
    wr_buf_put_bytes(&w->early, early);
    if (w->early.full)
        return WR_ELIMIT;
    w->stream = s;
    wr_stream_set_ops(s, &stream_ops, w);
    if (early.len)
        wr_env_defer(env, &w->task, early_task);
    return 0;
}

void wr_wire_close(struct wr_wire *w, bool reset)
{
    if (w->sock)
        wr_sock_close(w->sock, reset);
    else if (w->stream && w->kept.len)
        wr_stream_reset(w->stream, WR_STREAM_OK);
    else if (w->stream)
        wr_stream_close(w->stream);
    w->sock = NULL;
    w->stream = NULL;
    wr_task_cancel(&w->task);
    wr_buf_clear(&w->kept);
    wr_buf_clear(&w->early);
}

void wr_wire_clear(struct wr_wire *w)
{
    wr_task_cancel(&w->task);
    wr_buf_clear(&w->kept);
    wr_buf_clear(&w->early);
}
