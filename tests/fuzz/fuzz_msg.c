/* Length-prefixed messages in pieces of any size: each one comes out whole and once, whatever the
 * conversation's owner does in its handlers, and nothing stays behind. Input: a byte that chooses
 * the largest message, then pieces, each with its length in front. */
/* The source itself, over a stream of this file's: the real one is linked too. */
#define wr_stream_write      story_write
#define wr_stream_shut       story_shut
#define wr_stream_conn       story_conn
#define wr_stream_reset_code story_reset_code
#define wr_stream_set_ops    story_set_ops
#define wr_stream_reset      story_reset
#define wr_stream_close      story_close
#define wr_timer_start       story_timer_start
#define wr_timer_stop        story_timer_stop
#include "transport/msg.c"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct wr_stream {
    struct wr_conn conn;
    const struct wr_stream_ops *ops;
    void *arg;
    bool over, shut;
    size_t taken; /* bytes written to it */
};

void wr_stream_set_ops(struct wr_stream *s, const struct wr_stream_ops *ops, void *arg)
{
    s->ops = ops;
    s->arg = arg;
}

int wr_stream_write(struct wr_stream *s, const void *data, size_t len)
{
    (void)data;
    assert(!s->over && !s->shut);
    size_t n = len < 100 ? len : 100;
    s->taken += n;
    return (int)n;
}

void wr_stream_shut(struct wr_stream *s)
{
    s->shut = true;
}

struct wr_conn *wr_stream_conn(const struct wr_stream *s)
{
    static union {
        const struct wr_conn *in;
        struct wr_conn *out;
    } conn;
    conn.in = &s->conn;
    return conn.out;
}

uint32_t wr_stream_reset_code(const struct wr_stream *s)
{
    (void)s;
    return 0;
}

void wr_stream_reset(struct wr_stream *s, uint32_t code)
{
    (void)code;
    assert(!s->over);
    s->over = true;
}

void wr_stream_close(struct wr_stream *s)
{
    assert(!s->over);
    s->over = true;
}

void wr_timer_start(struct wr_env *env, struct wr_timer *timer, wr_time at,
                    void (*on_timer)(struct wr_timer *))
{
    (void)env;
    timer->at = at;
    timer->on_timer = on_timer;
}

void wr_timer_stop(struct wr_env *env, struct wr_timer *timer)
{
    (void)env;
    timer->at = 0;
}

/* ---- an owner that does what the messages tell it to */

struct owner {
    struct wr_msg msg;
    struct wr_stream next; /* of the conversation that may follow in the same struct */
    size_t bytes;          /* of whole messages and their lengths */
    bool closed, again;
};

static void owner_message(struct wr_msg *m, struct wr_bytes body)
{
    struct owner *o = wr_list_entry(m, struct owner, msg);
    assert(!o->closed && !o->again && wr_msg_open(m) && body.len <= m->in_max);
    o->bytes += wr_uvarint_len(body.len) + body.len;
    uint8_t what = body.len ? body.ptr[0] : 0;
    if (what == 1)
        (void)wr_msg_send(m, body);
    else if (what == 2)
        wr_msg_close(m);
    else if (what == 3)
        wr_msg_reset(m, 7);
    else if (what == 4)
        wr_msg_shut(m);
    else if (what == 5)
        wr_msg_deadline(m, WR_SEC);
    else if (what == 6) {
        wr_msg_close(m);
        wr_msg_start(m, NULL, &o->next, m->in_max, m->ops);
        o->again = true;
    }
}

static void owner_eof(struct wr_msg *m)
{
    assert(m->in.len == 0);
    wr_msg_close(m);
}

static void owner_close(struct wr_msg *m, int err)
{
    struct owner *o = wr_list_entry(m, struct owner, msg);
    assert(err < 0 && !o->closed && !wr_msg_open(m));
    o->closed = true;
}

static const struct wr_msg_ops owner_ops = {
    .on_message = owner_message, .on_eof = owner_eof, .on_close = owner_close};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t maxima[] = {0, 16, 300, 70000};
    struct wr_bytes in = WR_BYTES(data, size);
    struct wr_stream s = {.over = false};
    struct owner o = {.bytes = 0};
    size_t fed = 0;
    if (in.len == 0)
        return 0;
    wr_msg_start(&o.msg, NULL, &s, maxima[*wr_bytes_take(&in, 1).ptr % 4], &owner_ops);
    while (in.len > 0 && !s.over) {
        size_t len = *wr_bytes_take(&in, 1).ptr;
        if (len == 255 && s.ops->on_writable) {
            s.ops->on_writable(&s, s.arg);
            continue;
        }
        struct wr_bytes piece = wr_bytes_take(&in, len < in.len ? len : in.len);
        fed += piece.len;
        if (piece.len)
            s.ops->on_data(&s, s.arg, piece);
        assert(o.bytes <= fed);
        assert(s.over || o.msg.in.len == fed - o.bytes);
    }
    if (!s.over)
        s.ops->on_eof(&s, s.arg);
    if (o.again) { /* what the first stream brought besides is not the second's */
        assert(!o.next.over && o.msg.in.len == 0);
        wr_msg_close(&o.msg);
        assert(o.next.conn.memory.held == 0);
    }
    assert(s.over && !wr_msg_open(&o.msg) && o.msg.deadline.at == 0);
    assert(s.conn.memory.held == 0);
    return 0;
}
