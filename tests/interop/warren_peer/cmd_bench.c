/* Plain loops for the benchmarks: fresh connections, fresh streams, messages, pings, connections held. */
#include "peer.h"
#include "pinger.h"

#include <string.h>

/* ---- rounds: what they took, which is what every command here answers ------------------------------------ */

#define ERRORS_TOLD 5

struct rounds {
    size_t count, done;
    wr_time *times;    /* owned; of those done */
    json_t *errors;    /* owned; texts of the first that failed */
};

static void rounds_init(struct rounds *r, size_t count)
{
    *r = (struct rounds){.count = count, .times = wr_alloc_array(count, sizeof(*r->times)), .errors = json_array()};
}

static void rounds_clear(struct rounds *r)
{
    wr_free(r->times);
    json_decref(r->errors);
}

static void note_error(json_t *errors, int err)
{
    if (json_array_size(errors) < ERRORS_TOLD)
        json_array_append_new(errors, json_string(wr_err_text(err)));
}

static int by_time(const void *a, const void *b)
{
    wr_time x = *(const wr_time *)a, y = *(const wr_time *)b;
    return (x > y) - (x < y);
}

/* The fields of the answer; r is cleared. */
static json_t *rounds_told(struct rounds *r, const struct command *c)
{
    qsort(r->times, r->done, sizeof(*r->times), by_time);
    wr_time p50 = r->done ? r->times[r->done / 2] : 0, p99 = r->done ? r->times[r->done * 99 / 100] : 0;
    json_t *fields = json_pack("{s:I,s:I,s:O,s:f,s:o,s:o}", "done", (json_int_t)r->done, "failed",
                               (json_int_t)(r->count - r->done), "errors", r->errors, "ms", command_ms(c), "p50",
                               json_ms(p50), "p99", json_ms(p99));
    rounds_clear(r);
    return fields;
}

/* "addr" and the peer that it names; false: the command was failed. */
static bool arg_addr(struct command *c, struct wr_maddr *addr, struct wr_peerid *peer)
{
    if (wr_maddr_parse(arg_text(c, "addr"), addr) == 0 && wr_maddr_peer(wr_maddr_bytes(addr), peer))
        return true;
    command_fail(c, "'addr' is no address with /p2p/ID");
    return false;
}

/* ---- connections and streams ------------------------------------------------------------------------------ */

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
    struct rounds rounds;
    size_t started, over, parallel;    /* rounds begun, and over either way */
    struct lane *lanes;
    struct wr_task next;
};

static void lane_start(struct lane *l);

static void bench_free(struct bench *b)
{
    wr_free(b->lanes);
    wr_free(b);
}

static void bench_finish(struct wr_task *task)
{
    struct bench *b = wr_list_entry(task, struct bench, next);
    struct command *c = b->command;
    json_t *fields = rounds_told(&b->rounds, c);
    bench_free(b);
    command_ok(c, fields);
}

static void lane_end(struct lane *l, int err)
{
    struct bench *b = l->bench;
    struct rounds *r = &b->rounds;
    struct wr_env *env = b->command->host->peer->env;
    l->stream = NULL;
    if (err == 0)
        r->times[r->done++] = wr_env_now(env) - l->begun_at;
    else
        note_error(r->errors, err);
    if (b->fresh && l->conn)
        wr_conn_close(l->conn, WR_CONN_OK);
    l->conn = NULL;
    b->over++;
    if (b->started < r->count)
        lane_start(l);
    else if (b->over == r->count)    /* not at once: whoever starts lanes still looks at b */
        wr_env_defer(env, &b->next, bench_finish);
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
    wr_task_cancel(&b->next);
    for (size_t i = 0; i < b->parallel; i++) {
        wr_connect_cancel(b->lanes[i].request);
        if (b->lanes[i].stream)
            wr_stream_reset(b->lanes[i].stream, WR_STREAM_OK);
    }
    rounds_clear(&b->rounds);
    bench_free(b);
}

static void begin(struct wr_task *task)
{
    struct bench *b = wr_list_entry(task, struct bench, next);
    for (size_t i = 0; i < b->parallel && b->started < b->rounds.count; i++)
        lane_start(&b->lanes[i]);
}

static struct bench *bench_create(struct command *c, bool fresh)
{
    struct bench *b = wr_alloc(sizeof(*b));
    b->command = c;
    b->fresh = fresh;
    rounds_init(&b->rounds, (size_t)arg_u64(c, "count", 1));
    b->parallel = (size_t)arg_u64(c, "parallel", 1);
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
    if (!arg_addr(c, &addr, &peer))
        return;
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
    size_t len, got;    /* got: bytes of the answer under way */
    wr_time begun_at;
    struct rounds rounds;
};

static void messages_end(struct messages *m, int err)
{
    struct command *c = m->command;
    json_t *fields = rounds_told(&m->rounds, c);
    wr_free(m);
    if (err == 0)
        command_ok(c, fields);
    else
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
    m->rounds.times[m->rounds.done++] = wr_env_now(m->command->host->peer->env) - m->begun_at;
    if (m->rounds.done < m->rounds.count) {
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
    rounds_clear(&m->rounds);
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
    *m = (struct messages){.command = c, .len = len};
    rounds_init(&m->rounds, count);
    int err = 0;
    m->stream = wr_conn_open_stream(conn, offer_echo, &message_ops, m, &err);
    if (!m->stream) {
        rounds_clear(&m->rounds);
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
    struct rounds rounds;
};

static void on_pong(void *arg, int err, wr_time rtt, unsigned left)
{
    struct pings *p = arg;
    struct command *c = p->command;
    if (err == 0)
        p->rounds.times[p->rounds.done++] = rtt;
    if (err == 0 && left)
        return;
    json_t *fields = rounds_told(&p->rounds, c);
    wr_free(p);
    command_ok(c, fields);
}

static void pings_timeout(struct command *c)
{
    struct pings *p = c->state;
    pinger_cancel(p->run);
    rounds_clear(&p->rounds);
    wr_free(p);
}

static void cmd_pings(struct command *c)
{
    struct wr_conn *conn;
    if (!arg_conn(c, &conn))
        return;
    struct pings *p = wr_alloc(sizeof(*p));
    p->command = c;
    rounds_init(&p->rounds, (size_t)arg_u64(c, "count", 1));
    c->state = p;
    c->on_timeout = pings_timeout;
    p->run = pinger_start(c->host->swarm, &conn->peer, (unsigned)p->rounds.count, 0, on_pong, p);
    if (!p->run) {
        rounds_clear(&p->rounds);
        wr_free(p);
        command_fail(c, "cannot ping");
    }
}

/* ---- hosts that connect and stay ----------------------------------------------------------------------- */

struct hold {
    struct command *command;
    size_t count, done, failed;
    json_t *errors;
};

static void hold_finish(struct hold *k)
{
    struct command *c = k->command;
    if (k->done + k->failed < k->count)
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
    if (err != 0)
        note_error(k->errors, err);
    hold_finish(k);
}

static void cmd_hold(struct command *c)
{
    struct wr_maddr addr;
    struct wr_peerid peer;
    size_t first = c->host->index, count = (size_t)arg_u64(c, "count", 1);
    if (!arg_addr(c, &addr, &peer))
        return;
    if (first + count > c->host->peer->host_count) {
        command_fail(c, "'count': there are not as many hosts");
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
