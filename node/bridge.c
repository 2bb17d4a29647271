#include "node/bridge.h"

#include <assert.h>

/* One read of the environment may find the stream full. */
#define UP_MAX (1024 * 1024)

struct wr_bridge {
    struct wr_env *env;
    struct wr_stream *stream; /* NULL: ended, or let go of */
    struct wr_sock *sock;     /* NULL: the process is gone */
    struct wr_buf up; /* from the process, not taken by the stream yet; then sock is paused */
    bool up_ended;    /* the process writes no more */
    bool down_ended;  /* the peer writes no more */
    void (*on_end)(void *arg);
    void *arg;
    struct wr_task dispose;
};

static void run_dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct wr_bridge, dispose));
}

static void end(struct wr_bridge *b)
{
    wr_buf_clear(&b->up);
    wr_env_dispose(b->env, &b->dispose, run_dispose);
    b->on_end(b->arg);
}

/* Lets go of whatever has nothing left to do. */
static void settle(struct wr_bridge *b)
{
    /* The process is gone: its last bytes still reach the peer. */
    if (!b->sock && b->stream && !b->up.len) {
        wr_stream_close(b->stream);
        b->stream = NULL;
    }
    /* The stream is gone: its last bytes still reach the process. */
    if (!b->stream && b->sock && wr_sock_backlog(b->sock) == 0) {
        wr_sock_close(b->sock, false);
        b->sock = NULL;
    }
    if (!b->sock && !b->stream)
        end(b);
}

/* ---- from the process to the peer */

/* Gives the stream what it takes; false when it is broken. */
static bool push_up(struct wr_bridge *b)
{
    while (b->up.len && b->stream) {
        int took = wr_stream_write(b->stream, b->up.data, b->up.len);
        if (took < 0)
            return false;
        if (took == 0)
            break;
        wr_buf_consume(&b->up, (size_t)took);
    }
    if (b->up.len == 0) {
        wr_buf_clear(&b->up);
        if (b->up_ended && b->stream)
            wr_stream_shut(b->stream);
    }
    if (b->sock)
        wr_sock_pause(b->sock, b->up.len > 0);
    return true;
}

static void break_stream(struct wr_bridge *b)
{
    wr_buf_clear(&b->up);
    if (b->stream)
        wr_stream_reset(b->stream, WR_STREAM_LIMIT);
    b->stream = NULL;
    settle(b);
}

static void on_sock_read(void *arg, uint8_t *data, size_t len)
{
    struct wr_bridge *b = arg;
    if (!b->stream)
        return; /* the peer is gone, the process does not know yet */
    wr_buf_put(&b->up, data, len);
    if (b->up.full || !push_up(b))
        break_stream(b);
}

static void on_sock_eof(void *arg)
{
    struct wr_bridge *b = arg;
    b->up_ended = true;
    if (b->stream && !push_up(b))
        break_stream(b);
}

/* ---- from the peer to the process */

static void on_sock_drain(void *arg)
{
    struct wr_bridge *b = arg;
    if (b->stream)
        wr_stream_pause(b->stream, false);
    else
        settle(b);
}

static void on_sock_close(void *arg, int err)
{
    struct wr_bridge *b = arg;
    (void)err;
    b->sock = NULL;
    if (b->stream)
        wr_stream_pause(b->stream, false);
    settle(b);
}

static void on_stream_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct wr_bridge *b = arg;
    if (!b->sock)
        return;
    if (wr_sock_write(b->sock, data.ptr, data.len)) {
        wr_sock_close(b->sock, true);
        b->sock = NULL;
        break_stream(b);
        return;
    }
    if (wr_sock_backlog(b->sock) > WR_BRIDGE_KEPT)
        wr_stream_pause(s, true);
}

static void on_stream_eof(struct wr_stream *s, void *arg)
{
    struct wr_bridge *b = arg;
    (void)s;
    b->down_ended = true;
    if (b->sock)
        wr_sock_shut(b->sock);
}

static void on_stream_writable(struct wr_stream *s, void *arg)
{
    struct wr_bridge *b = arg;
    (void)s;
    if (!push_up(b))
        break_stream(b);
    else if (!b->sock)
        settle(b);
}

static void on_stream_close(struct wr_stream *s, void *arg, int err)
{
    struct wr_bridge *b = arg;
    (void)s;
    (void)err;
    b->stream = NULL;
    wr_buf_clear(&b->up);
    settle(b);
}

int wr_bridge_create(struct wr_env *env, struct wr_stream *stream, void (*on_end)(void *arg),
                     void *arg, struct wr_bridge **out, int *fd)
{
    static const struct wr_sock_ops sock_ops = {
        .on_read = on_sock_read,
        .on_drain = on_sock_drain,
        .on_close = on_sock_close,
        .on_eof = on_sock_eof,
    };
    static const struct wr_stream_ops stream_ops = {
        .on_data = on_stream_data,
        .on_eof = on_stream_eof,
        .on_writable = on_stream_writable,
        .on_close = on_stream_close,
    };
    struct wr_bridge *b = wr_alloc(sizeof(*b));
    if (!b)
        return WR_ELIMIT;
    int err = wr_env_socketpair(env, &sock_ops, b, &b->sock, fd);
    if (err) {
        wr_free(b);
        return err;
    }
    b->env = env;
    b->stream = stream;
    b->on_end = on_end;
    b->arg = arg;
    wr_buf_init(&b->up, UP_MAX);
    wr_stream_set_ops(stream, &stream_ops, b);
    *out = b;
    return 0;
}

void wr_bridge_destroy(struct wr_bridge *b)
{
    if (b->stream)
        wr_stream_reset(b->stream, WR_STREAM_OK);
    if (b->sock)
        wr_sock_close(b->sock, false);
    wr_buf_clear(&b->up);
    wr_env_dispose(b->env, &b->dispose, run_dispose);
}
