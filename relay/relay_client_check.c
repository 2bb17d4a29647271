/* Do circuits through a relay reach us? One to ourselves goes through it, and a few bytes there and back. Whoever else
 * was asked to try could lie; and the relays of go, rust and js make such a circuit like any other. */
#include "relay/relay_client_impl.h"

#include <string.h>

void wr_relay_client_check_stop(struct wr_relay_check *k)
{
    struct wr_stream *there = k->there, *back = k->back;
    k->running = false;
    k->there = k->back = NULL;
    wr_patience_stop(&k->patience);
    wr_msg_reset(&k->hop, WR_STREAM_OK);
    if (there)
        wr_stream_reset(there, WR_STREAM_OK);
    if (back)
        wr_stream_reset(back, WR_STREAM_OK);
}

static void fail(struct wr_relay_check *k, int err, unsigned status)
{
    wr_relay_client_check_stop(k);
    wr_relay_client_checked(k, err, status);
}

static void on_silence(struct wr_patience *patience)
{
    fail(wr_list_entry(patience, struct wr_relay_check, patience), WR_ETIMEOUT, 0);
}

/* ---- the end that we asked for ------------------------------------------------------------------------------ */

static void succeed(struct wr_relay_check *k)
{
    wr_stream_close(k->there);
    wr_stream_close(k->back);
    k->there = k->back = NULL;
    wr_relay_client_check_stop(k);
    wr_relay_client_checked(k, 0, WR_RELAY_OK);
}

/* What comes without having been at the other end is not through the circuit. */
static void there_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct wr_relay_check *k = arg;
    (void)s;
    if (k->returned + data.len > k->echoed || memcmp(data.ptr, k->sent + k->returned, data.len) != 0) {
        fail(k, WR_EPROTO, 0);
        return;
    }
    k->returned += data.len;
    if (k->returned == sizeof(k->sent) && k->back)
        succeed(k);
}

static void there_close(struct wr_stream *s, void *arg, int err)
{
    struct wr_relay_check *k = arg;
    (void)s;
    k->there = NULL;
    fail(k, err ? err : WR_ECLOSED, 0);
}

static void there_eof(struct wr_stream *s, void *arg)
{
    (void)s;
    fail(arg, WR_ECLOSED, 0);
}

static const struct wr_stream_ops there_ops = {
    .on_data = there_data, .on_eof = there_eof, .on_close = there_close};

/* 0, or why not. */
static int send_bytes(struct wr_relay_check *k)
{
    struct wr_buf early;
    wr_buf_init(&early, WR_MSG_READ_AHEAD);
    k->there = wr_msg_release(&k->hop, &early);
    bool too_early = early.len > 0;    /* nothing was sent yet that could come back */
    wr_buf_clear(&early);
    if (!k->there)
        return WR_ELIMIT;
    wr_stream_set_ops(k->there, &there_ops, k);
    if (too_early)
        return WR_EPROTO;
    wr_env_random(k->client->env, k->sent, sizeof(k->sent));
    int n = wr_stream_write(k->there, k->sent, sizeof(k->sent));
    return n == (int)sizeof(k->sent) ? 0 : WR_ELIMIT;
}

static void on_answer(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_relay_check *k = wr_list_entry(m, struct wr_relay_check, hop);
    struct wr_relay_msg answer;
    int err = wr_relay_msg_decode(WR_RELAY_HOP, body, &answer);
    if (err == 0 && answer.type != WR_RELAY_STATUS)
        err = WR_EPROTO;
    unsigned status = err == 0 ? answer.status : 0;
    if (err == 0)
        err = wr_relay_msg_err(status);
    if (err == 0) {
        status = 0;
        err = send_bytes(k);
    }
    if (err != 0)
        fail(k, err, status);
}

static void on_answer_close(struct wr_msg *m, int err)
{
    fail(wr_list_entry(m, struct wr_relay_check, hop), err ? err : WR_ECLOSED, 0);
}

static const struct wr_msg_ops answer_ops = {.on_message = on_answer, .on_close = on_answer_close};

static wr_time patience_with(const struct wr_stream *s)
{
    wr_time time = WR_RELAY_CHECK_TRIPS * wr_conn_rtt(wr_stream_conn(s)) + WR_RELAY_CHECK_SLACK;
    return time < WR_RELAY_CHECK_MIN ? WR_RELAY_CHECK_MIN : time < WR_RELAY_CHECK_MAX ? time : WR_RELAY_CHECK_MAX;
}

void wr_relay_client_check_start(struct wr_relay_check *k, const struct wr_peerid *relay)
{
    struct wr_relay_client *rc = k->client;
    struct wr_relay_msg connect = {.type = WR_RELAY_CONNECT, .peer = wr_peerid_bytes(wr_swarm_self(rc->swarm))};
    int err;
    struct wr_stream *s = k->running ? NULL : wr_relay_client_open(rc, relay, &err);
    if (!s)
        return;
    k->running = true;
    k->asked_at = wr_env_now(rc->env);
    k->returned = k->echoed = 0;
    wr_msg_start(&k->hop, rc->env, s, WR_RELAY_MSG_MAX, &answer_ops);
    if (wr_relay_client_send(&k->hop, WR_RELAY_HOP, &connect) != 0)
        wr_relay_client_check_stop(k);
    else
        wr_patience_start(&k->patience, rc->env, patience_with(s), on_silence);
}

/* ---- the end that came back --------------------------------------------------------------------------------- */

static void back_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct wr_relay_check *k = arg;
    k->echoed += data.len;
    if (k->echoed > sizeof(k->sent))
        fail(k, WR_EPROTO, 0);
    else if (wr_stream_write(s, data.ptr, data.len) != (int)data.len)
        fail(k, WR_ELIMIT, 0);
}

static void back_close(struct wr_stream *s, void *arg, int err)
{
    struct wr_relay_check *k = arg;
    (void)s;
    k->back = NULL;
    fail(k, err ? err : WR_ECLOSED, 0);
}

static void back_eof(struct wr_stream *s, void *arg)
{
    (void)s;
    fail(arg, WR_ECLOSED, 0);
}

static const struct wr_stream_ops back_ops = {.on_data = back_data, .on_eof = back_eof, .on_close = back_close};

void wr_relay_client_check_back(struct wr_relay_check *k, struct wr_stream *s, struct wr_bytes early)
{
    k->back = s;
    wr_stream_set_ops(s, &back_ops, k);
    if (early.len)
        back_data(s, k, early);
}
