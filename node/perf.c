#include "node/perf.h"

#include <string.h>

#define HEADER 8 /* bytes of the wanted length */

struct wr_perf {
    struct wr_swarm *sw;
    struct wr_env *env;
    struct wr_list served, runs;
    bool everybody; /* serves strangers, too */
    uint8_t block[WR_PERF_BLOCK]; /* what is sent: zeros, which ciphers do not mind */
};

/* ---- serving */

struct serve {
    struct wr_list node;
    struct wr_perf *perf;
    struct wr_stream *stream;
    uint8_t header[HEADER];
    size_t have;   /* bytes of the header */
    uint64_t left; /* bytes to write */
    bool answering;
    struct wr_timer idle;
};

static void serve_free(struct serve *s)
{
    wr_timer_stop(s->perf->env, &s->idle);
    wr_list_remove(&s->node);
    wr_free(s);
}

static void on_serve_idle(struct wr_timer *timer)
{
    struct serve *s = wr_list_entry(timer, struct serve, idle);
    wr_stream_reset(s->stream, WR_STREAM_OK);
    serve_free(s);
}

static void serve_moved(struct serve *s)
{
    wr_timer_start(s->perf->env, &s->idle, wr_env_now(s->perf->env) + WR_PERF_IDLE, on_serve_idle);
}

/* Writes up to *left zeros; false when the stream is broken. */
static bool write_zeros(struct wr_perf *p, struct wr_stream *s, uint64_t *left)
{
    while (*left) {
        size_t len = *left < WR_PERF_BLOCK ? (size_t)*left : WR_PERF_BLOCK;
        int took = wr_stream_write(s, p->block, len);
        if (took < 0)
            return false;
        *left -= (uint64_t)took;
        if ((size_t)took < len)
            return true; /* on_writable follows */
    }
    return true;
}

static void serve_write(struct serve *s)
{
    serve_moved(s);
    if (!write_zeros(s->perf, s->stream, &s->left)) {
        wr_stream_reset(s->stream, WR_STREAM_LIMIT);
        serve_free(s);
    } else if (!s->left) {
        wr_stream_close(s->stream);
        serve_free(s);
    }
}

static void on_serve_data(struct wr_stream *stream, void *arg, struct wr_bytes data)
{
    struct serve *s = arg;
    (void)stream;
    while (s->have < HEADER && data.len)
        s->header[s->have++] = wr_bytes_take(&data, 1).ptr[0];
    serve_moved(s);
}

static void on_serve_eof(struct wr_stream *stream, void *arg)
{
    struct serve *s = arg;
    if (s->have < HEADER) {
        wr_stream_reset(stream, WR_STREAM_VIOLATION);
        serve_free(s);
        return;
    }
    struct wr_reader r;
    wr_reader_init(&r, WR_BYTES(s->header, HEADER));
    s->left = wr_read_u64be(&r);
    s->answering = true;
    serve_write(s);
}

static void on_serve_writable(struct wr_stream *stream, void *arg)
{
    struct serve *s = arg;
    (void)stream;
    if (s->answering)
        serve_write(s);
}

static void on_serve_close(struct wr_stream *stream, void *arg, int err)
{
    (void)stream;
    (void)err;
    serve_free(arg);
}

static void on_stream(struct wr_stream *stream, void *arg)
{
    static const struct wr_stream_ops ops = {
        .on_data = on_serve_data,
        .on_eof = on_serve_eof,
        .on_writable = on_serve_writable,
        .on_close = on_serve_close,
    };
    struct wr_perf *p = arg;
    const struct wr_peerid *peer = &wr_stream_conn(stream)->peer;
    bool welcome = p->everybody || wr_policy_peer_allowed(wr_swarm_policy(p->sw), peer);
    struct serve *s = welcome ? wr_alloc(sizeof(*s)) : NULL;
    if (!s) {
        wr_stream_reset(stream, WR_STREAM_LIMIT);
        return;
    }
    s->perf = p;
    s->stream = stream;
    wr_list_append(&p->served, &s->node);
    wr_stream_set_ops(stream, &ops, s);
    serve_moved(s);
}

/* ---- asking */

struct wr_perf_run {
    struct wr_list node;
    struct wr_perf *perf;
    struct wr_perf_options o;
    struct wr_stream *stream;
    uint64_t left; /* bytes still to send */
    bool header_sent, shut;
    wr_time opened_at, answered_at, moved_at;
    struct wr_perf_result result;
    struct wr_timer tick;
};

static void run_free(struct wr_perf_run *run)
{
    wr_timer_stop(run->perf->env, &run->tick);
    wr_list_remove(&run->node);
    wr_free(run);
}

static void run_done(struct wr_perf_run *run, int err)
{
    struct wr_env *env = run->perf->env;
    if (run->opened_at && !run->answered_at)
        run->answered_at = wr_env_now(env);
    if (!err) {
        run->result.up_took = run->answered_at - run->opened_at;
        run->result.down_took = wr_env_now(env) - run->answered_at;
    }
    run->o.on_done(run->o.arg, err, &run->result);
    run_free(run);
}

static void run_break(struct wr_perf_run *run, int err)
{
    wr_stream_reset(run->stream, WR_STREAM_OK);
    run_done(run, err);
}

static void on_tick(struct wr_timer *timer)
{
    struct wr_perf_run *run = wr_list_entry(timer, struct wr_perf_run, tick);
    struct wr_env *env = run->perf->env;
    if (run->opened_at && wr_env_now(env) - run->moved_at >= WR_PERF_IDLE) {
        run_break(run, WR_ETIMEOUT);
        return;
    }
    wr_timer_start(env, timer, wr_env_now(env) + WR_SEC, on_tick);
    if (run->opened_at && run->o.on_progress)
        run->o.on_progress(run->o.arg, &run->result);
}

static void run_write(struct wr_perf_run *run)
{
    uint64_t before = run->left;
    if (!run->header_sent) {
        uint8_t bytes[HEADER];
        for (unsigned i = 0; i < HEADER; i++)
            bytes[i] = (uint8_t)(run->o.down >> (56 - 8 * i));
        run->header_sent = wr_stream_write(run->stream, bytes, HEADER) == HEADER;
        if (!run->header_sent) { /* a stream that takes not even this is broken */
            run_break(run, WR_ELIMIT);
            return;
        }
    }
    if (!write_zeros(run->perf, run->stream, &run->left)) {
        run_break(run, WR_ELIMIT);
        return;
    }
    if (before != run->left)
        run->moved_at = wr_env_now(run->perf->env);
    run->result.up = run->o.up - run->left;
    if (!run->left && !run->shut) {
        run->shut = true;
        wr_stream_shut(run->stream);
    }
}

static void on_run_open(struct wr_stream *stream, void *arg)
{
    struct wr_perf_run *run = arg;
    run->result.conn = wr_stream_conn(stream);
    run->opened_at = run->moved_at = wr_env_now(run->perf->env);
    run_write(run);
}

static void on_run_data(struct wr_stream *stream, void *arg, struct wr_bytes data)
{
    struct wr_perf_run *run = arg;
    wr_time now = wr_env_now(run->perf->env);
    (void)stream;
    if (!run->answered_at) {
        run->answered_at = now;
        run->result.up_took = now - run->opened_at;
    }
    run->moved_at = now;
    run->result.down += data.len;
    if (run->result.down > run->o.down)
        run_break(run, WR_EPROTO);
}

static void on_run_eof(struct wr_stream *stream, void *arg)
{
    struct wr_perf_run *run = arg;
    int err = run->result.down == run->o.down && run->shut ? 0 : WR_EPROTO;
    wr_stream_close(stream);
    run_done(run, err);
}

static void on_run_writable(struct wr_stream *stream, void *arg)
{
    struct wr_perf_run *run = arg;
    (void)stream;
    if (run->opened_at && !run->shut)
        run_write(run);
}

static void on_run_close(struct wr_stream *stream, void *arg, int err)
{
    (void)stream;
    run_done(arg, err ? err : WR_ECLOSED);
}

int wr_perf_start(struct wr_perf *p, const struct wr_perf_options *options,
                  struct wr_perf_run **out)
{
    static const char *const offer[] = {WR_PERF_NAME, NULL};
    static const struct wr_stream_ops ops = {
        .on_open = on_run_open,
        .on_data = on_run_data,
        .on_eof = on_run_eof,
        .on_writable = on_run_writable,
        .on_close = on_run_close,
    };
    struct wr_perf_run *run = wr_alloc(sizeof(*run));
    int err = WR_ELIMIT;
    if (!run)
        return err;
    run->perf = p;
    run->o = *options;
    run->left = options->up;
    run->stream = wr_swarm_open(p->sw, &options->peer, offer, &ops, run, &err);
    if (!run->stream) {
        wr_free(run);
        return err;
    }
    wr_list_append(&p->runs, &run->node);
    wr_timer_start(p->env, &run->tick, wr_env_now(p->env) + WR_SEC, on_tick);
    *out = run;
    return 0;
}

void wr_perf_cancel(struct wr_perf_run *run)
{
    wr_stream_reset(run->stream, WR_STREAM_OK);
    run_free(run);
}

/* ---- life */

static int answer(struct wr_perf *p)
{
    struct wr_protocol protocol = {
        .name = WR_PERF_NAME,
        .on_stream = on_stream,
        .arg = p,
        .inbound_max = WR_PERF_STREAMS,
        .hidden = !p->everybody,
    };
    return wr_swarm_handle(p->sw, &protocol);
}

struct wr_perf *wr_perf_create(struct wr_swarm *sw)
{
    struct wr_perf *p = wr_alloc(sizeof(*p));
    if (!p)
        return NULL;
    p->sw = sw;
    p->env = wr_swarm_env(sw);
    wr_list_init(&p->served);
    wr_list_init(&p->runs);
    if (answer(p)) {
        wr_free(p);
        return NULL;
    }
    return p;
}

int wr_perf_serve_all(struct wr_perf *p, bool on)
{
    if (p->everybody == on)
        return 0;
    wr_swarm_unhandle(p->sw, WR_PERF_NAME);
    p->everybody = on;
    if (answer(p) == 0)
        return 0;
    p->everybody = !on;
    return WR_ELIMIT;
}

void wr_perf_destroy(struct wr_perf *p)
{
    if (!p)
        return;
    wr_swarm_unhandle(p->sw, WR_PERF_NAME);
    while (!wr_list_empty(&p->runs))
        wr_perf_cancel(wr_list_entry(p->runs.next, struct wr_perf_run, node));
    while (!wr_list_empty(&p->served)) {
        struct serve *s = wr_list_entry(p->served.next, struct serve, node);
        wr_stream_reset(s->stream, WR_STREAM_OK);
        serve_free(s);
    }
    wr_free(p);
}
