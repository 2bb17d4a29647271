/* Plain loops for the benchmarks: fresh connections, fresh streams, messages, pings, connections held. */
#include "peer.h"
#include "pinger.h"

#include <string.h>

struct bench;

/* One round under way. */
struct lane {
    struct bench *bench;
    struct wr_connect *request;
    struct wr_stream *stream;
    struct wr_conn *conn;
    wr_time begun_at;
    bool got;
};

struct bench {
    struct command *command;
    struct wr_peerid peer;
    struct wr_maddr addr;
    bool fresh;             /* a connection per round */
    size_t count, started, done, failed, parallel;
    wr_time *times;
    json_t *errors;
    struct lane *lanes;
    struct wr_task next;
    bool over;
};

static void lane_start(struct lane *l);

static int by_time(const void *a, const void *b)
{
    wr_time x = *(const wr_time *)a, y = *(const wr_time *)b;
    return (x > y) - (x < y);
}

static void bench_free(struct bench *b)
{
    json_decref(b->errors);
    wr_free(b->times);
    wr_free(b->lanes);
    wr_free(b);
}

static void bench_finish(struct bench *b)
{
    struct command *c = b->command;
    if (b->over || b->done + b->failed < b->count)
        return;
    b->over = true;
    qsort(b->times, b->done, sizeof(*b->times), by_time);
    wr_time p50 = b->done ? b->times[b->done / 2] : 0, p99 = b->done ? b->times[b->done * 99 / 100] : 0;
    json_t *fields = json_pack("{s:I,s:I,s:O,s:f,s:o,s:o}", "done", (json_int_t)b->done, "failed",
                               (json_int_t)b->failed, "errors", b->errors, "ms", command_ms(c), "p50",
                               json_ms(p50), "p99", json_ms(p99));
    bench_free(b);
    command_ok(c, fields);
}

static void lane_end(struct lane *l, int err)
{
    struct bench *b = l->bench;
    l->stream = NULL;
    if (err == 0) {
        b->times[b->done++] = wr_env_now(b->command->host->peer->env) - l->begun_at;
    } else {
        b->failed++;
        if (json_array_size(b->errors) < 5)
            json_array_append_new(b->errors, json_string(wr_err_text(err)));
    }
    if (b->fresh && l->conn)
        wr_conn_close(l->conn, WR_CONN_OK);
    l->conn = NULL;
    if (b->started < b->count)
        lane_start(l);
    bench_finish(b);
}

static void lane_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct lane *l = arg;
    (void)data;
    l->got = true;
    if (!l->bench->fresh)
        return;
    wr_stream_reset(s, WR_STREAM_OK);
    lane_end(l, 0);
}

static void lane_close(struct wr_stream *s, void *arg, int err)
{
    struct lane *l = arg;
    (void)s;
    lane_end(l, err == 0 && !l->got ? WR_EPROTO : err);
}

static const struct wr_stream_ops lane_ops = {.on_data = lane_data, .on_close = lane_close};

static int lane_talk(struct lane *l, struct wr_conn *conn)
{
    int err = 0;
    l->got = false;
    l->stream = wr_conn_open_stream(conn, offer_echo, &lane_ops, l, &err);
    if (!l->stream)
        return err;
    wr_stream_write(l->stream, "x", 1);
    if (!l->bench->fresh)
        wr_stream_shut(l->stream);
    return 0;
}

static void on_connect(void *arg, int err, struct wr_conn *conn)
{
    struct lane *l = arg;
    l->request = NULL;
    l->conn = conn;
    if (err == 0)
        err = lane_talk(l, conn);
    if (err != 0)
        lane_end(l, err);
}

static void lane_start(struct lane *l)
{
    struct bench *b = l->bench;
    struct host *h = b->command->host;
    b->started++;
    l->begun_at = wr_env_now(h->peer->env);
    int err;
    if (b->fresh) {
        err = wr_swarm_connect(h->swarm, &b->peer, &b->addr, 1, WR_ORIGIN_OWNER, WR_CONNECT_FRESH,
                               on_connect, l, &l->request);
    } else {
        struct wr_conn *conn = wr_swarm_conn(h->swarm, &b->peer);
        err = conn ? lane_talk(l, conn) : WR_ECLOSED;
    }
    if (err != 0)
        lane_end(l, err);
}

static void bench_timeout(struct command *c)
{
    struct bench *b = c->state;
    b->over = true;
    for (size_t i = 0; i < b->parallel; i++) {
        wr_connect_cancel(b->lanes[i].request);
        if (b->lanes[i].stream)
            wr_stream_reset(b->lanes[i].stream, WR_STREAM_OK);
    }
    bench_free(b);
}

static void begin(struct wr_task *task)
{
    struct bench *b = wr_list_entry(task, struct bench, next);
    size_t lanes = b->parallel;
    for (size_t i = 0; i < lanes && b->started < b->count; i++)
        lane_start(&b->lanes[i]);
}

static struct bench *bench_create(struct command *c, bool fresh)
{
    struct bench *b = wr_alloc(sizeof(*b));
    b->command = c;
    b->fresh = fresh;
    b->count = (size_t)arg_u64(c, "count", 1);
    b->parallel = (size_t)arg_u64(c, "parallel", 1);
    b->errors = json_array();
    b->times = wr_alloc_array(b->count, sizeof(*b->times));
    b->lanes = wr_alloc_array(b->parallel, sizeof(*b->lanes));
    for (size_t i = 0; i < b->parallel; i++)
        b->lanes[i].bench = b;
    c->state = b;
    c->on_timeout = bench_timeout;
    return b;
}

static void cmd_conns(struct command *c)
{
    struct wr_maddr addr;
    struct wr_peerid peer;
    if (wr_maddr_parse(arg_text(c, "addr"), &addr) != 0 || !wr_maddr_peer(wr_maddr_bytes(&addr), &peer)) {
        command_fail(c, "'addr' is no address with /p2p/ID");
        return;
    }
    struct bench *b = bench_create(c, true);
    b->addr = addr;
    b->peer = peer;
    wr_env_defer(c->host->peer->env, &b->next, begin);
}

static void cmd_streams(struct command *c)
{
    struct wr_conn *conn;
    if (!arg_conn(c, &conn))
        return;
    struct bench *b = bench_create(c, false);
    b->peer = conn->peer;
    wr_env_defer(c->host->peer->env, &b->next, begin);
}

/* ---- messages ------------------------------------------------------------------------------------------- */

#define MESSAGE_MAX 65536    /* bytes */

struct messages {
    struct command *command;
    struct wr_stream *stream;
    size_t len, got, done, count;    /* got: bytes of the answer under way */
    wr_time begun_at, *times;
};

static void messages_end(struct messages *m, int err)
{
    struct command *c = m->command;
    qsort(m->times, m->done, sizeof(*m->times), by_time);
    json_t *fields = json_pack("{s:I,s:I,s:[],s:f,s:o,s:o}", "done", (json_int_t)m->done, "failed",
                               (json_int_t)(m->count - m->done), "errors", "ms", command_ms(c), "p50",
                               json_ms(m->done ? m->times[m->done / 2] : 0), "p99",
                               json_ms(m->done ? m->times[m->done * 99 / 100] : 0));
    wr_free(m->times);
    wr_free(m);
    if (err == 0) {
        command_ok(c, fields);
        return;
    }
    command_fail_with(c, fields, "%s", wr_err_text(err));
}

static void message_send(struct messages *m)
{
    m->got = 0;
    m->begun_at = wr_env_now(m->command->host->peer->env);
    wr_stream_write(m->stream, pattern(), m->len);
}

static void message_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct messages *m = arg;
    m->got += data.len;
    if (m->got < m->len)
        return;
    m->times[m->done++] = wr_env_now(m->command->host->peer->env) - m->begun_at;
    if (m->done < m->count) {
        message_send(m);
        return;
    }
    wr_stream_reset(s, WR_STREAM_OK);
    messages_end(m, 0);
}

static void message_close(struct wr_stream *s, void *arg, int err)
{
    (void)s;
    messages_end(arg, err ? err : WR_ECLOSED);
}

static const struct wr_stream_ops message_ops = {.on_data = message_data, .on_close = message_close};

static void messages_timeout(struct command *c)
{
    struct messages *m = c->state;
    wr_stream_reset(m->stream, WR_STREAM_OK);
    wr_free(m->times);
    wr_free(m);
}

static void cmd_messages(struct command *c)
{
    struct wr_conn *conn;
    size_t count = (size_t)arg_u64(c, "count", 1), len = (size_t)arg_u64(c, "bytes", 1200);
    if (!arg_conn(c, &conn))
        return;
    if (count == 0 || len == 0 || len > MESSAGE_MAX) {
        command_fail(c, "'count' or 'bytes' is out of range");
        return;
    }
    struct messages *m = wr_alloc(sizeof(*m));
    *m = (struct messages){.command = c, .count = count, .len = len};
    m->times = wr_alloc_array(count, sizeof(*m->times));
    int err = 0;
    m->stream = wr_conn_open_stream(conn, offer_echo, &message_ops, m, &err);
    if (!m->stream) {
        wr_free(m->times);
        wr_free(m);
        command_fail(c, "%s", wr_err_text(err));
        return;
    }
    c->state = m;
    c->on_timeout = messages_timeout;
    message_send(m);
}

/* ---- pings -------------------------------------------------------------------------------------------- */

struct pings {
    struct command *command;
    struct pinger *run;
    size_t done, count;
    wr_time *times;
};

static void on_pong(void *arg, int err, wr_time rtt, unsigned left)
{
    struct pings *p = arg;
    struct command *c = p->command;
    if (err == 0)
        p->times[p->done++] = rtt;
    if (err == 0 && left)
        return;
    qsort(p->times, p->done, sizeof(*p->times), by_time);
    json_t *fields = json_pack("{s:I,s:I,s:[],s:f,s:o,s:o}", "done", (json_int_t)p->done, "failed",
                               (json_int_t)(p->count - p->done), "errors", "ms", command_ms(c), "p50",
                               json_ms(p->done ? p->times[p->done / 2] : 0), "p99",
                               json_ms(p->done ? p->times[p->done * 99 / 100] : 0));
    wr_free(p->times);
    wr_free(p);
    command_ok(c, fields);
}

static void pings_timeout(struct command *c)
{
    struct pings *p = c->state;
    pinger_cancel(p->run);
    wr_free(p->times);
    wr_free(p);
}

static void cmd_pings(struct command *c)
{
    struct wr_conn *conn;
    if (!arg_conn(c, &conn))
        return;
    struct pings *p = wr_alloc(sizeof(*p));
    p->command = c;
    p->count = (size_t)arg_u64(c, "count", 1);
    p->times = wr_alloc_array(p->count, sizeof(*p->times));
    c->state = p;
    c->on_timeout = pings_timeout;
    p->run = pinger_start(c->host->swarm, &conn->peer, (unsigned)p->count, 0, on_pong, p);
    if (!p->run) {
        wr_free(p->times);
        wr_free(p);
        command_fail(c, "cannot ping");
    }
}

/* ---- hosts that connect and stay ----------------------------------------------------------------------- */

struct hold {
    struct command *command;
    size_t count, done, failed;
    json_t *errors;
    bool over;
};

static void hold_finish(struct hold *k)
{
    struct command *c = k->command;
    if (k->over || k->done + k->failed < k->count)
        return;
    json_t *fields = json_pack("{s:I,s:I,s:o,s:f}", "done", (json_int_t)k->done, "failed",
                               (json_int_t)k->failed, "errors", k->errors, "ms", command_ms(c));
    wr_free(k);
    command_ok(c, fields);
}

static void on_held(void *arg, int err, struct wr_conn *conn)
{
    struct hold *k = arg;
    (void)conn;
    k->done += err == 0;
    k->failed += err != 0;
    if (err != 0 && json_array_size(k->errors) < 5)
        json_array_append_new(k->errors, json_string(wr_err_text(err)));
    hold_finish(k);
}

static void cmd_hold(struct command *c)
{
    struct wr_maddr addr;
    struct wr_peerid peer;
    size_t first = c->host->index, count = (size_t)arg_u64(c, "count", 1);
    if (wr_maddr_parse(arg_text(c, "addr"), &addr) != 0 ||
        !wr_maddr_peer(wr_maddr_bytes(&addr), &peer) || first + count > c->host->peer->host_count) {
        command_fail(c, "'addr' is no address with /p2p/ID, or there are not as many hosts");
        return;
    }
    /* A timeout leaves the count behind: the requests still under way refer to it. */
    struct hold *k = wr_alloc(sizeof(*k));
    *k = (struct hold){.command = c, .count = count, .errors = json_array()};
    wr_timer_stop(c->host->peer->env, &c->timeout);
    for (size_t i = 0; i < count; i++)
        if (wr_swarm_connect(c->host->peer->hosts[first + i].swarm, &peer, &addr, 1, WR_ORIGIN_OWNER, 0,
                             on_held, k, NULL) != 0)
            k->failed++;
    hold_finish(k);
}

bool command_bench(struct command *c, const char *name)
{
    if (strcmp(name, "bench-conns") == 0)
        cmd_conns(c);
    else if (strcmp(name, "bench-streams") == 0)
        cmd_streams(c);
    else if (strcmp(name, "bench-messages") == 0)
        cmd_messages(c);
    else if (strcmp(name, "bench-ping") == 0)
        cmd_pings(c);
    else if (strcmp(name, "hold") == 0)
        cmd_hold(c);
    else
        return false;
    return true;
}
