/* Commands that carry data: echo, sink, source, slow, reset, reset-out, perf, ping. */
#include "peer.h"
#include "pinger.h"

#include <string.h>

/* ---- echo ------------------------------------------------------------------------------------------ */

struct echo_stream {
    struct echo *echo;
    struct wr_stream *stream;
    size_t sent, received;
    bool first_back, over;
};

struct echo {
    struct command *command;
    struct echo_stream *streams;
    size_t count, bytes, good, failed, started;
    bool hold, all_first;
    json_t *errors;
};

static void echo_free(struct echo *e)
{
    json_decref(e->errors);
    wr_free(e->streams);
    wr_free(e);
}

static void echo_done(struct echo *e)
{
    struct command *c = e->command;
    if (e->good + e->failed < e->count)
        return;
    json_t *fields = json_pack("{s:I, s:I, s:O, s:f}", "good", (json_int_t)e->good, "failed",
                               (json_int_t)e->failed, "errors", e->errors, "ms", command_ms(c));
    if (e->failed)
        command_fail_with(c, fields, "%zu of %zu streams failed: %s", e->failed, e->count,
                          json_string_value(json_array_get(e->errors, 0)));
    else
        command_ok(c, fields);
    echo_free(e);
}

static void echo_fail(struct echo_stream *es, const char *why)
{
    if (es->over)
        return;
    es->over = true;
    es->echo->failed++;
    if (json_array_size(es->echo->errors) < 5)
        json_array_append_new(es->echo->errors, json_string(why));
}

static void echo_push(struct echo_stream *es)
{
    struct echo *e = es->echo;
    size_t limit = e->hold && !e->all_first ? 1 : e->bytes;
    while (es->sent < limit && es->stream) {
        size_t at = es->sent % PATTERN_LEN;
        size_t len = limit - es->sent < PATTERN_LEN - at ? limit - es->sent : PATTERN_LEN - at;
        int n = wr_stream_write(es->stream, pattern() + at, len);
        if (n <= 0)
            return;
        es->sent += (size_t)n;
        e->command->host->counters.bytes_out += (uint64_t)n;
    }
    if (es->sent == e->bytes && (!e->hold || e->all_first))
        wr_stream_shut(es->stream);
}

static void echo_first_back(struct echo *e)
{
    size_t back = 0;
    for (size_t i = 0; i < e->count; i++)
        back += e->streams[i].first_back || e->streams[i].over;
    if (back < e->count || e->all_first)
        return;
    e->all_first = true;
    for (size_t i = 0; i < e->count; i++)
        if (!e->streams[i].over)
            echo_push(&e->streams[i]);
}

static void echo_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct echo_stream *es = arg;
    struct echo *e = es->echo;
    e->command->host->counters.bytes_in += data.len;
    while (data.len) {
        size_t at = es->received % PATTERN_LEN;
        size_t len = data.len < PATTERN_LEN - at ? data.len : PATTERN_LEN - at;
        if (es->received + len > es->sent || memcmp(data.ptr, pattern() + at, len) != 0) {
            echo_fail(es, "echo differs from what was sent");
            wr_stream_reset(s, WR_STREAM_VIOLATION);
            echo_done(e);
            return;
        }
        es->received += len;
        wr_bytes_take(&data, len);
    }
    if (!es->first_back) {
        es->first_back = true;
        if (e->hold)
            echo_first_back(e);
    }
}

static void echo_writable(struct wr_stream *s, void *arg)
{
    (void)s;
    echo_push(arg);
}

static void echo_close(struct wr_stream *s, void *arg, int err)
{
    struct echo_stream *es = arg;
    (void)s;
    es->stream = NULL;
    if (err == 0 && es->received == es->echo->bytes) {
        es->over = true;
        es->echo->good++;
    } else {
        echo_fail(es, err ? wr_err_text(err) : "the echo ended early");
        if (es->echo->hold)
            echo_first_back(es->echo);
    }
    if (es->echo->started == es->echo->count)
        echo_done(es->echo);
}

static const struct wr_stream_ops echo_ops = {
    .on_data = echo_data, .on_writable = echo_writable, .on_close = echo_close};

static void echo_timeout(struct command *c)
{
    struct echo *e = c->state;
    for (size_t i = 0; i < e->count; i++)
        if (!e->streams[i].over && e->streams[i].stream)
            wr_stream_reset(e->streams[i].stream, WR_STREAM_OK);
    echo_free(e);
}

static void cmd_echo(struct command *c)
{
    struct wr_conn *conn;
    if (!arg_conn(c, &conn))
        return;
    struct echo *e = wr_alloc(sizeof(*e));
    e->command = c;
    e->count = (size_t)arg_u64(c, "streams", 1);
    e->bytes = (size_t)arg_u64(c, "bytes", 1024);
    e->hold = json_is_true(json_object_get(c->request, "hold"));
    e->errors = json_array();
    e->streams = wr_alloc_array(e->count, sizeof(*e->streams));
    c->state = e;
    c->on_timeout = echo_timeout;
    for (size_t i = 0; i < e->count; i++) {
        struct echo_stream *es = &e->streams[i];
        int err = 0;
        es->echo = e;
        es->stream = wr_conn_open_stream(conn, offer_echo, &echo_ops, es, &err);
        if (es->stream)
            echo_push(es);
        else
            echo_fail(es, wr_err_text(err));
    }
    e->started = e->count;
    echo_done(e);
}

/* ---- one stream that sends, then reads: sink, source, slow, perf, reset ------------------------------ */

struct talk {
    struct command *command;
    struct wr_stream *stream;
    const char *kind;
    uint8_t head[8];
    size_t head_len, head_sent;
    uint64_t up, sent;             /* bytes of the pattern to send */
    uint64_t down, received;       /* bytes to receive before the tail */
    size_t chunk;
    uint8_t tail[40];
    size_t tail_len, tail_want;
    EVP_MD_CTX *hash;              /* of what is sent (sink) or received (source, slow) */
    wr_time shut_at, ended_at;
    struct wr_timer resume;
    uint64_t since_pause, pause;
    struct pinger *pinging;
    json_t *rtts;
    bool eof, pings_done, broken;
    int close_err;
    uint32_t close_code;
    bool closed;
};

static void talk_free(struct talk *t)
{
    wr_timer_stop(t->command->host->peer->env, &t->resume);
    EVP_MD_CTX_free(t->hash);
    json_decref(t->rtts);
    if (t->pinging)
        pinger_cancel(t->pinging);
    wr_free(t);
}

static void talk_timeout(struct command *c)
{
    struct talk *t = c->state;
    if (!t->closed)
        wr_stream_reset(t->stream, WR_STREAM_OK);
    talk_free(t);
}

static void talk_push(struct talk *t)
{
    while (t->head_sent < t->head_len) {
        int n = wr_stream_write(t->stream, t->head + t->head_sent, t->head_len - t->head_sent);
        if (n <= 0)
            return;
        t->head_sent += (size_t)n;
    }
    while (t->sent < t->up) {
        size_t at = (size_t)(t->sent % PATTERN_LEN);
        uint64_t left = t->up - t->sent;
        size_t len = PATTERN_LEN - at < left ? PATTERN_LEN - at : (size_t)left;
        if (t->chunk && len > t->chunk)
            len = t->chunk;
        int n = wr_stream_write(t->stream, pattern() + at, len);
        if (n <= 0)
            return;
        if (t->hash && strcmp(t->kind, "sink") == 0)
            EVP_DigestUpdate(t->hash, pattern() + at, (size_t)n);
        t->sent += (uint64_t)n;
        t->command->host->counters.bytes_out += (uint64_t)n;
        if ((size_t)n < len)
            return;
    }
    if (!t->shut_at && strncmp(t->kind, "reset", 5) != 0) {
        t->shut_at = wr_env_now(t->command->host->peer->env);
        wr_stream_shut(t->stream);
    }
}

static void talk_resume(struct wr_timer *timer)
{
    struct talk *t = wr_list_entry(timer, struct talk, resume);
    t->since_pause = 0;
    if (!t->closed)
        wr_stream_pause(t->stream, false);
}

static void talk_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct talk *t = arg;
    struct wr_env *env = t->command->host->peer->env;
    t->command->host->counters.bytes_in += data.len;
    uint64_t body = t->down - t->received;
    size_t take = data.len < body ? data.len : (size_t)body;
    if (t->hash && strcmp(t->kind, "sink") != 0)
        EVP_DigestUpdate(t->hash, data.ptr, take);
    t->received += take;
    t->since_pause += take;
    wr_bytes_take(&data, take);
    if (t->tail_len + data.len > t->tail_want) {
        t->broken = true;
        return;
    }
    memcpy(t->tail + t->tail_len, data.ptr, data.len);
    t->tail_len += data.len;
    if (t->pause && t->since_pause >= t->chunk) {
        wr_stream_pause(s, true);
        /* What arrived meanwhile comes in one piece: it is paid for in time. */
        wr_timer_start(env, &t->resume,
                       wr_env_now(env) + (wr_time)(t->pause * (t->since_pause / t->chunk)) * WR_MSEC,
                       talk_resume);
    }
    if (strcmp(t->kind, "reset-out") == 0 && t->tail_len == 1) {
        t->closed = true;
        wr_stream_reset(s, 0x77);
        t->eof = true;
    }
}

static void talk_writable(struct wr_stream *s, void *arg)
{
    (void)s;
    talk_push(arg);
}

static void talk_eof(struct wr_stream *s, void *arg)
{
    struct talk *t = arg;
    t->eof = true;
    t->ended_at = wr_env_now(t->command->host->peer->env);
    if (strcmp(t->kind, "reset") == 0) {
        wr_stream_shut(s);
    }
}

static void talk_finish(struct talk *t);

static void talk_close(struct wr_stream *s, void *arg, int err)
{
    struct talk *t = arg;
    t->closed = true;
    t->close_err = err;
    t->close_code = wr_stream_reset_code(s);
    if (!t->ended_at)
        t->ended_at = wr_env_now(t->command->host->peer->env);
    talk_finish(t);
}

static const struct wr_stream_ops talk_ops = {.on_data = talk_data,
                                              .on_writable = talk_writable,
                                              .on_eof = talk_eof,
                                              .on_close = talk_close};

static void finish_with(struct talk *t, json_t *fields)
{
    struct command *c = t->command;
    talk_free(t);
    command_ok(c, fields);
}

static void fail_with(struct talk *t, const char *why)
{
    struct command *c = t->command;
    int err = t->close_err;
    talk_free(t);
    command_fail(c, "%s (%s)", why, err ? wr_err_text(err) : "ended");
}

static void talk_finish(struct talk *t)
{
    uint8_t digest[32];
    if (t->pause && !t->pings_done)
        return;
    if (t->broken) {
        fail_with(t, "more bytes than asked for");
        return;
    }
    if (t->close_err != 0 || t->tail_len < t->tail_want || t->received < t->down) {
        fail_with(t, "the answer ended early");
        return;
    }
    double ms = (double)(t->ended_at - t->command->started_at) / 1e6;
    if (strcmp(t->kind, "perf") == 0) {
        finish_with(t, json_pack("{s:f,s:f,s:f}", "ms", ms, "upMs",
                                 (double)(t->shut_at - t->command->started_at) / 1e6, "downMs",
                                 (double)(t->ended_at - t->shut_at) / 1e6));
        return;
    }
    hash_end(t->hash, digest);
    t->hash = NULL;
    if (memcmp(digest, t->tail, 32) != 0) {
        fail_with(t, "the hash differs");
        return;
    }
    uint64_t count = 0;
    for (size_t i = 32; i < t->tail_want; i++)
        count = count << 8 | t->tail[i];
    if (t->tail_want > 32 && count != t->up) {
        fail_with(t, "the count differs");
        return;
    }
    json_t *fields = json_pack("{s:o,s:f}", "sha256", json_hex(WR_BYTES(digest, 32)), "ms", ms);
    if (t->rtts)
        json_object_set(fields, "rtts", t->rtts);
    finish_with(t, fields);
}

static struct talk *talk_open(struct command *c, const char *kind, const char *const *offer)
{
    struct wr_conn *conn;
    if (!arg_conn(c, &conn))
        return NULL;
    struct talk *t = wr_alloc(sizeof(*t));
    int err = 0;
    t->command = c;
    t->kind = kind;
    t->stream = wr_conn_open_stream(conn, offer, &talk_ops, t, &err);
    if (!t->stream) {
        wr_free(t);
        command_fail(c, "cannot open a stream: %s", wr_err_text(err));
        return NULL;
    }
    c->state = t;
    c->on_timeout = talk_timeout;
    return t;
}

static void set_head(struct talk *t, uint64_t count)
{
    for (size_t i = 0; i < 8; i++)
        t->head[i] = (uint8_t)(count >> (8 * (7 - i)));
    t->head_len = 8;
}

static void cmd_sink(struct command *c)
{
    struct talk *t = talk_open(c, "sink", offer_sink);
    if (!t)
        return;
    t->up = arg_u64(c, "bytes", 1024);
    t->chunk = (size_t)arg_u64(c, "chunk", 65536);
    t->tail_want = 40;
    t->hash = hash_start();
    talk_push(t);
}

static void on_slow_ping(void *arg, int err, wr_time rtt, unsigned left)
{
    struct talk *t = arg;
    if (err == 0)
        json_array_append_new(t->rtts, json_ms(rtt));
    else
        t->close_err = err;
    if (left)
        return;
    t->pinging = NULL;
    t->pings_done = true;
    if (t->closed)
        talk_finish(t);
}

static void cmd_source(struct command *c, bool slow)
{
    struct talk *t = talk_open(c, slow ? "slow" : "source", offer_source);
    if (!t)
        return;
    t->down = arg_u64(c, "bytes", slow ? 4194304 : 1024);
    t->tail_want = 32;
    t->hash = hash_start();
    set_head(t, t->down);
    if (slow) {
        struct wr_peerid peer;
        t->chunk = (size_t)arg_u64(c, "chunk", 65536);
        t->pause = arg_u64(c, "pause", 20);
        t->rtts = json_array();
        wr_peerid_parse(arg_text(c, "peer"), &peer);
        uint64_t total_ms = t->down / (t->chunk ? t->chunk : 1) * t->pause;
        uint64_t pings = arg_u64(c, "pings", 5);
        t->pinging = pinger_start(c->host->swarm, &peer, (unsigned)pings,
                                   (wr_time)(total_ms / (pings + 1)) * WR_MSEC, on_slow_ping, t);
        t->pings_done = !t->pinging;
    }
    talk_push(t);
}

static void cmd_perf(struct command *c)
{
    struct talk *t = talk_open(c, "perf", offer_perf);
    if (!t)
        return;
    t->up = arg_u64(c, "up", 0);
    t->down = arg_u64(c, "down", 0);
    set_head(t, t->down);
    talk_push(t);
}

/* ---- reset: the outcome, then a ping on the same connection ------------------------------------------ */

struct reset {
    struct command *command;
    struct wr_stream *stream;
    bool ours, got_data, over;
    const char *outcome;
    uint32_t code;
    bool has_code;
    struct pinger *pinging;
};

static void reset_timeout(struct command *c)
{
    struct reset *r = c->state;
    if (!r->over)
        wr_stream_reset(r->stream, WR_STREAM_OK);
    if (r->pinging)
        pinger_cancel(r->pinging);
    wr_free(r);
}

static void on_reset_ping(void *arg, int err, wr_time rtt, unsigned left)
{
    struct reset *r = arg;
    struct command *c = r->command;
    (void)rtt;
    (void)left;
    json_t *fields = json_pack("{s:b}", "alive", err == 0);
    if (!r->ours) {
        json_object_set_new(fields, "outcome", json_string(r->outcome));
        json_object_set_new(fields, "code", r->has_code ? json_integer(r->code) : json_null());
    }
    wr_free(r);
    if (err == 0) {
        command_ok(c, fields);
        return;
    }
    json_decref(fields);
    command_fail(c, "the connection did not survive: %s", wr_err_text(err));
}

static void reset_over(struct reset *r)
{
    struct wr_peerid peer;
    if (r->over)
        return;
    r->over = true;
    wr_peerid_parse(arg_text(r->command, "peer"), &peer);
    r->pinging = pinger_start(r->command->host->swarm, &peer, 1, 0, on_reset_ping, r);
    if (!r->pinging)
        on_reset_ping(r, WR_ECLOSED, 0, 0);
}

static void reset_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct reset *r = arg;
    r->got_data = true;
    if (r->ours && data.len == 1 && data.ptr[0] == 2) {
        wr_stream_reset(s, 0x77);
        reset_over(r);
    }
}

static void reset_eof(struct wr_stream *s, void *arg)
{
    struct reset *r = arg;
    r->outcome = "eof";
    wr_stream_reset(s, WR_STREAM_OK);
    reset_over(r);
}

static void reset_close(struct wr_stream *s, void *arg, int err)
{
    struct reset *r = arg;
    r->outcome = err == WR_ERESET ? "reset" : wr_err_name(err);
    r->code = wr_stream_reset_code(s);
    r->has_code = err == WR_ERESET;
    reset_over(r);
}

static const struct wr_stream_ops reset_ops = {
    .on_data = reset_data, .on_eof = reset_eof, .on_close = reset_close};

static void cmd_reset(struct command *c, bool ours)
{
    struct wr_conn *conn;
    int err = 0;
    if (!arg_conn(c, &conn))
        return;
    struct reset *r = wr_alloc(sizeof(*r));
    r->command = c;
    r->ours = ours;
    r->stream = wr_conn_open_stream(conn, offer_reset, &reset_ops, r, &err);
    if (!r->stream) {
        wr_free(r);
        command_fail(c, "cannot open a stream: %s", wr_err_text(err));
        return;
    }
    c->state = r;
    c->on_timeout = reset_timeout;
    wr_stream_write(r->stream, ours ? "\x02" : "\x01", 1);
}

/* ---- ping -------------------------------------------------------------------------------------------- */

struct pinging {
    struct command *command;
    struct pinger *run;
    json_t *rtts;
};

static void on_pong(void *arg, int err, wr_time rtt, unsigned left)
{
    struct pinging *p = arg;
    struct command *c = p->command;
    if (err == 0)
        json_array_append_new(p->rtts, json_ms(rtt));
    if (err == 0 && left)
        return;
    json_t *rtts = p->rtts;
    wr_free(p);
    if (err == 0) {
        command_ok(c, json_pack("{s:o}", "rtts", rtts));
        return;
    }
    json_decref(rtts);
    command_fail(c, "ping: %s", wr_err_text(err));
}

static void ping_timeout(struct command *c)
{
    struct pinging *p = c->state;
    pinger_cancel(p->run);
    json_decref(p->rtts);
    wr_free(p);
}

static void cmd_ping(struct command *c)
{
    struct wr_conn *conn;
    struct wr_peerid peer;
    if (!arg_conn(c, &conn))
        return;
    peer = conn->peer;
    struct pinging *p = wr_alloc(sizeof(*p));
    p->command = c;
    p->rtts = json_array();
    c->state = p;
    c->on_timeout = ping_timeout;
    p->run = pinger_start(c->host->swarm, &peer, (unsigned)arg_u64(c, "count", 1), 0, on_pong, p);
    if (!p->run) {
        json_decref(p->rtts);
        wr_free(p);
        command_fail(c, "cannot ping");
    }
}

bool command_stream(struct command *c, const char *name)
{
    if (strcmp(name, "echo") == 0)
        cmd_echo(c);
    else if (strcmp(name, "sink") == 0)
        cmd_sink(c);
    else if (strcmp(name, "source") == 0)
        cmd_source(c, false);
    else if (strcmp(name, "slow") == 0)
        cmd_source(c, true);
    else if (strcmp(name, "perf") == 0)
        cmd_perf(c);
    else if (strcmp(name, "reset") == 0)
        cmd_reset(c, false);
    else if (strcmp(name, "reset-out") == 0)
        cmd_reset(c, true);
    else if (strcmp(name, "ping") == 0)
        cmd_ping(c);
    else
        return false;
    return true;
}
