#include "identify/ping.h"

#include <string.h>

#define BACKLOG_MAX 1024    /* bytes a pinger may leave unread before it is cut off; ours: 32 pings */
#define RTT_WEIGHT  8       /* a new sample counts an eighth; as TCP, RFC 6298 */

/* ---- serving -------------------------------------------------------------------------------------------- */

struct wr_pong {
    struct wr_swarm *swarm;
    struct wr_env *env;
    struct wr_list served;
};

struct served {
    struct wr_list node;
    struct wr_pong *pong;
    struct wr_stream *stream;
    struct wr_buf back;        /* to be echoed, not yet taken by the stream */
    struct wr_timer idle;
    struct wr_task task;
    bool ended;                /* the peer finished writing */
};

static void free_served(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct served, task));
}

/* The stream has been let go of. */
static void served_over(struct served *s)
{
    wr_timer_stop(s->pong->env, &s->idle);
    wr_buf_clear(&s->back);
    wr_list_remove(&s->node);
    wr_env_dispose(s->pong->env, &s->task, free_served);
}

static void on_idle(struct wr_timer *timer)
{
    struct served *s = wr_list_entry(timer, struct served, idle);
    wr_stream_close(s->stream);
    served_over(s);
}

static void still_alive(struct served *s)
{
    wr_timer_start(s->pong->env, &s->idle, wr_env_now(s->pong->env) + WR_PING_IDLE, on_idle);
}

static void echo(struct served *s)
{
    if (s->back.len) {
        int n = wr_stream_write(s->stream, s->back.data, s->back.len);
        if (n > 0)
            wr_buf_consume(&s->back, (size_t)n);
    }
    if (!s->ended || s->back.len)
        return;
    wr_stream_close(s->stream);
    served_over(s);
}

/* Bytes are echoed as they come: pings may arrive in pieces, and go back the same way. */
static void on_ping(struct wr_stream *stream, void *arg, struct wr_bytes data)
{
    struct served *s = arg;
    int n = s->back.len ? 0 : wr_stream_write(stream, data.ptr, data.len);
    if (n > 0)
        wr_bytes_take(&data, (size_t)n);
    wr_buf_put_bytes(&s->back, data);
    if (s->back.full) {
        wr_stream_reset(stream, WR_STREAM_VIOLATION);
        served_over(s);
        return;
    }
    still_alive(s);
}

static void on_ping_eof(struct wr_stream *stream, void *arg)
{
    struct served *s = arg;
    (void)stream;
    s->ended = true;
    echo(s);
}

static void on_ping_writable(struct wr_stream *stream, void *arg)
{
    (void)stream;
    echo(arg);
}

static void on_ping_closed(struct wr_stream *stream, void *arg, int err)
{
    (void)stream;
    (void)err;
    served_over(arg);
}

static const struct wr_stream_ops served_ops = {
    .on_data = on_ping,
    .on_eof = on_ping_eof,
    .on_writable = on_ping_writable,
    .on_close = on_ping_closed,
};

static void on_stream(struct wr_stream *stream, void *arg)
{
    struct wr_pong *pong = arg;
    struct served *s = wr_alloc(sizeof(*s));
    if (!s) {
        wr_stream_reset(stream, WR_STREAM_LIMIT);
        return;
    }
    s->pong = pong;
    s->stream = stream;
    wr_buf_init(&s->back, BACKLOG_MAX);
    wr_list_append(&pong->served, &s->node);
    wr_stream_set_ops(stream, &served_ops, s);
    still_alive(s);
}

struct wr_pong *wr_pong_create(struct wr_swarm *sw)
{
    struct wr_protocol protocol = {.name = WR_PING_NAME, .on_stream = on_stream,
                                   .inbound_max = WR_PING_STREAMS, .limited = true};
    struct wr_pong *p = wr_alloc(sizeof(*p));
    if (!p)
        return NULL;
    p->swarm = sw;
    p->env = wr_swarm_env(sw);
    wr_list_init(&p->served);
    protocol.arg = p;
    if (wr_swarm_handle(sw, &protocol) == 0)
        return p;
    wr_free(p);
    return NULL;
}

void wr_pong_destroy(struct wr_pong *p)
{
    if (!p)
        return;
    wr_swarm_unhandle(p->swarm, WR_PING_NAME);
    wr_list_each(it, &p->served)
    {
        struct served *s = wr_list_entry(it, struct served, node);
        wr_stream_reset(s->stream, WR_STREAM_OK);
        served_over(s);
    }
    wr_free(p);
}

/* ---- asking --------------------------------------------------------------------------------------------- */

struct wr_ping {
    struct wr_swarm *swarm;
    struct wr_env *env;
    struct wr_peerid peer;
    struct wr_ping_options options;
    struct wr_stream *stream;    /* kept between pings; NULL: none */
    bool agreed;                 /* the stream speaks ping */
    bool out;                    /* a ping is out */
    bool written;                /* ... and on the stream */
    bool again;                  /* ... for the second time, after its stream went away */
    bool closed;
    unsigned number;
    wr_time asked_at, sent_at;
    uint8_t sent[WR_PING_LEN];
    size_t have;                 /* bytes of the echo that came back right */
    struct wr_timer timer;       /* the deadline while a ping is out, else the next ping */
    struct wr_task task;
};

static const char *const offer[] = {WR_PING_NAME, NULL};

static void send_ping(struct wr_ping *p);

static void on_next(struct wr_timer *timer)
{
    send_ping(wr_list_entry(timer, struct wr_ping, timer));
}

static void drop_stream(struct wr_ping *p, bool in_order)
{
    if (!p->stream)
        return;
    if (in_order)
        wr_stream_close(p->stream);
    else
        wr_stream_reset(p->stream, WR_STREAM_OK);
    p->stream = NULL;
}

static void learn_rtt(struct wr_ping *p, wr_time rtt)
{
    struct wr_peer *known = wr_peerstore_find(wr_swarm_peerstore(p->swarm), &p->peer);
    if (known)
        known->rtt = known->rtt ? known->rtt + (rtt - known->rtt) / RTT_WEIGHT : rtt;
}

/* One ping is over, well or not. */
static void reply(struct wr_ping *p, int err)
{
    wr_time now = wr_env_now(p->env);
    struct wr_ping_reply r = {
        .number = p->number,
        .err = err,
        .rtt = err == 0 ? now - p->sent_at : 0,
        .conn = p->stream ? wr_stream_conn(p->stream) : NULL,
    };
    p->out = false;
    wr_timer_stop(p->env, &p->timer);
    if (err < 0)
        drop_stream(p, false);
    else
        learn_rtt(p, r.rtt);
    if (p->options.every) {
        wr_time next = p->asked_at + p->options.every;
        wr_timer_start(p->env, &p->timer, next > now ? next : now, on_next);
    }
    p->options.on_reply(p->options.arg, &r);
}

static void on_late(struct wr_timer *timer)
{
    reply(wr_list_entry(timer, struct wr_ping, timer), WR_ETIMEOUT);
}

static void on_echo(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct wr_ping *p = arg;
    (void)s;
    if (!p->out || !p->written || data.len > WR_PING_LEN - p->have ||
        memcmp(data.ptr, p->sent + p->have, data.len) != 0) {
        if (p->out)
            reply(p, WR_EPROTO);
        else
            drop_stream(p, false);
        return;
    }
    p->have += data.len;
    if (p->have == WR_PING_LEN)
        reply(p, 0);
}

/* The stream went away under a ping, which says little (it may just have been old): once more on a new one.
 * That the peer does not speak it, or that no connection comes about, is the answer. */
static void lost(struct wr_ping *p, int err)
{
    bool retry = p->agreed && !p->again && (err == WR_ERESET || err == WR_ECLOSED || err == 0);
    p->stream = NULL;
    if (!p->out)
        return;
    if (!retry) {
        reply(p, err == 0 ? WR_ECLOSED : err);
        return;
    }
    p->again = true;
    send_ping(p);
}

static void on_closed(struct wr_stream *s, void *arg, int err)
{
    (void)s;
    lost(arg, err);
}

static void on_ended(struct wr_stream *s, void *arg)
{
    (void)s;
    struct wr_ping *p = arg;
    drop_stream(p, true);
    lost(p, WR_ECLOSED);
}

static void write_ping(struct wr_ping *p)
{
    p->written = true;
    p->sent_at = wr_env_now(p->env);
    p->have = 0;
    wr_env_random(p->env, p->sent, WR_PING_LEN);
    int n = wr_stream_write(p->stream, p->sent, WR_PING_LEN);
    if (n != WR_PING_LEN)    /* 32 bytes that do not fit: the path is choked */
        reply(p, n < 0 ? n : WR_ELIMIT);
}

static void on_agreed(struct wr_stream *s, void *arg)
{
    struct wr_ping *p = arg;
    (void)s;
    p->agreed = true;
    if (p->out && !p->written)
        write_ping(p);
}

static const struct wr_stream_ops ping_ops = {
    .on_open = on_agreed, .on_data = on_echo, .on_eof = on_ended, .on_close = on_closed};

static void try_ping(struct wr_ping *p)
{
    int err = 0;
    struct wr_conn *best = wr_swarm_conn(p->swarm, &p->peer);
    if (p->stream && wr_stream_conn(p->stream) != best)
        drop_stream(p, true);    /* a better path came up */
    /* rust-libp2p 0.57 echoes only the first ping of a stream over QUIC (seen from go, too). A new stream
     * costs no round trip there. */
    if (p->stream && best && best->udp)
        drop_stream(p, true);
    if (!p->stream) {
        p->agreed = false;
        p->stream = wr_swarm_open_with(p->swarm, &p->peer, WR_OPEN_LIMITED, offer, &ping_ops, p, &err);
    }
    if (!p->stream) {
        reply(p, err);
        return;
    }
    /* Over an open connection the ping rides with the request. While one is being made it waits, or making
     * it would count as round trip. */
    p->written = false;
    if (wr_stream_conn(p->stream))
        write_ping(p);
}

static void run_ping(struct wr_task *task)
{
    struct wr_ping *p = wr_list_entry(task, struct wr_ping, task);
    if (p->out)
        try_ping(p);
}

/* Sending waits for the end of the turn, so that no reply comes inside a call of the owner's. */
static void send_ping(struct wr_ping *p)
{
    if (!p->out) {
        p->out = true;
        p->again = false;
        p->number++;
        p->asked_at = wr_env_now(p->env);
        wr_time timeout = p->options.timeout ? p->options.timeout : WR_PING_TIMEOUT;
        wr_timer_start(p->env, &p->timer, p->asked_at + timeout, on_late);
    }
    wr_env_defer(p->env, &p->task, run_ping);
}

struct wr_ping *wr_ping_open(struct wr_swarm *sw, const struct wr_peerid *peer,
                             const struct wr_ping_options *options)
{
    struct wr_ping *p = wr_alloc(sizeof(*p));
    if (!p)
        return NULL;
    p->swarm = sw;
    p->env = wr_swarm_env(sw);
    p->peer = *peer;
    p->options = *options;
    if (p->options.every)
        send_ping(p);
    return p;
}

int wr_ping_send(struct wr_ping *p)
{
    if (p->out)
        return WR_EINUSE;
    send_ping(p);
    return 0;
}

static void free_ping(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct wr_ping, task));
}

void wr_ping_close(struct wr_ping *p)
{
    if (!p || p->closed)
        return;
    p->closed = true;
    drop_stream(p, true);
    wr_timer_stop(p->env, &p->timer);
    wr_env_dispose(p->env, &p->task, free_ping);
}
