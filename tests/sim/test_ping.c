/* ping between swarms in virtual time: round trips, kept and lost streams, peers that misbehave. */
#include "tests/sim/simnode.h"

#include "identify/ping.h"

#define RTT (40 * WR_MSEC)

struct world {
    struct sim *sim;
    struct node a, b;
    struct wr_pong *pong;
    struct wr_ping *ping;
    unsigned replies;
    struct wr_ping_reply last;    /* conn only good as a pointer */
    unsigned close_after;
};

static int setup(void **state)
{
    struct world *w = wr_alloc(sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = 21, .rtt = RTT});
    node_start(&w->a, w->sim, 1);
    node_start(&w->b, w->sim, 2);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    wr_ping_close(w->ping);
    wr_pong_destroy(w->pong);
    node_stop(&w->a);
    node_stop(&w->b);
    sim_destroy(w->sim);
    wr_free(w);
    return 0;
}

static void on_reply(void *arg, const struct wr_ping_reply *reply)
{
    struct world *w = arg;
    assert_int_equal(reply->number, w->replies + 1);
    w->replies++;
    w->last = *reply;
    if (w->replies == w->close_after) {
        wr_ping_close(w->ping);
        w->ping = NULL;
    }
}

static void start(struct world *w, wr_time every)
{
    assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w->a.swarm), wr_swarm_self(w->b.swarm),
                                           wr_maddr_bytes(&w->b.addr), WR_TTL_PERMANENT, false),
                     0);
    w->ping = wr_ping_open(w->a.swarm, wr_swarm_self(w->b.swarm),
                           &(struct wr_ping_options){.every = every, .on_reply = on_reply, .arg = w});
    assert_non_null(w->ping);
}

static void test_round_trips(void **state)
{
    struct world *w = *state;
    w->pong = wr_pong_create(w->b.swarm);
    start(w, WR_SEC);
    assert_int_equal(w->replies, 0);
    sim_run(w->sim, 900 * WR_MSEC);
    /* Making the connection does not count. */
    assert_int_equal(w->replies, 1);
    assert_int_equal(w->last.err, 0);
    assert_true(w->last.rtt >= RTT && w->last.rtt < RTT + RTT / 10);
    assert_ptr_equal(w->last.conn, node_conn(&w->a, &w->b));
    sim_run(w->sim, 9 * WR_SEC);
    assert_int_equal(w->replies, 10);
    assert_int_equal(w->last.err, 0);
    /* One stream carried them all. */
    assert_int_equal(node_conn(&w->b, &w->a)->stream_count, 1);
    assert_true(node_peer(&w->a, &w->b)->rtt >= RTT && node_peer(&w->a, &w->b)->rtt < RTT + RTT / 10);
    /* Closing from inside the callback is fine, and ends the stream. */
    w->close_after = 12;
    sim_run(w->sim, 10 * WR_SEC);
    assert_int_equal(w->replies, 12);
    assert_int_equal(node_conn(&w->b, &w->a)->stream_count, 0);
}

static void test_by_hand(void **state)
{
    struct world *w = *state;
    w->pong = wr_pong_create(w->b.swarm);
    start(w, 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->replies, 0);
    assert_int_equal(wr_ping_send(w->ping), 0);
    assert_int_equal(wr_ping_send(w->ping), WR_EINUSE);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->replies, 1);
    /* The server ends idle streams; the next ping opens another, unnoticed. */
    sim_run(w->sim, 2 * WR_PING_IDLE);
    assert_int_equal(node_conn(&w->b, &w->a)->stream_count, 0);
    assert_int_equal(wr_ping_send(w->ping), 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->replies, 2);
    assert_int_equal(w->last.err, 0);
    assert_true(w->last.rtt < RTT + RTT / 10);
    /* So does a connection that went away, by dialling again. */
    wr_swarm_disconnect(w->b.swarm, wr_swarm_self(w->a.swarm), WR_CONN_OK);
    sim_run(w->sim, WR_SEC);
    assert_null(node_conn(&w->a, &w->b));
    assert_int_equal(wr_ping_send(w->ping), 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->last.err, 0);
    assert_int_equal(w->replies, 3);
}

static void test_a_peer_that_does_not_speak_it(void **state)
{
    struct world *w = *state;
    start(w, WR_SEC);
    sim_run(w->sim, 1500 * WR_MSEC);
    assert_int_equal(w->replies, 2);
    assert_int_equal(w->last.err, WR_EUNSUPPORTED);
}

static void test_an_unreachable_peer(void **state)
{
    struct world *w = *state;
    start(w, 0);
    sim_set_side(w->b.host, 1);
    assert_int_equal(wr_ping_send(w->ping), 0);
    sim_run(w->sim, WR_MIN);
    assert_int_equal(w->replies, 1);
    assert_true(w->last.err == WR_ETIMEOUT || w->last.err == WR_EUNREACH);
    assert_null(w->last.conn);
    assert_int_equal(wr_ping_send(w->ping), 0);
    sim_run(w->sim, WR_MIN);
    assert_int_equal(w->replies, 2);
    assert_true(w->last.err < 0);
}

/* ---- servers that misbehave */

struct odd {
    unsigned streams, swallow;    /* end this many streams without an answer */
    bool in_order;                 /* end them with an end, not with a reset */
    bool wrong, silent, pieces;
    struct wr_buf held;
};

static void odd_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct odd *o = arg;
    uint8_t back[WR_PING_LEN];
    assert_int_equal(data.len, WR_PING_LEN);
    if (o->swallow) {
        o->swallow--;
        if (o->in_order)
            wr_stream_close(s);
        else
            wr_stream_reset(s, WR_STREAM_OK);
        return;
    }
    memcpy(back, data.ptr, data.len);
    back[31] ^= o->wrong;
    if (o->silent)
        return;
    if (o->pieces) {
        wr_stream_write(s, back, 5);
        wr_buf_put(&o->held, back + 5, 27);
        return;
    }
    wr_stream_write(s, back, data.len);
}

static void odd_eof(struct wr_stream *s, void *arg)
{
    (void)arg;
    wr_stream_close(s);
}

static const struct wr_stream_ops odd_ops = {.on_data = odd_data, .on_eof = odd_eof};
static struct wr_stream *odd_stream;

static void on_odd(struct wr_stream *s, void *arg)
{
    struct odd *o = arg;
    o->streams++;
    odd_stream = s;
    wr_stream_set_ops(s, &odd_ops, o);
}

static void test_a_swallowed_ping_goes_once_more(void **state)
{
    struct world *w = *state;
    struct odd o = {.swallow = 1};
    node_handle(&w->b, WR_PING_NAME, on_odd, &o);
    start(w, 0);
    assert_int_equal(wr_ping_send(w->ping), 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->last.err, 0);
    assert_int_equal(o.streams, 2);
    assert_true(w->last.rtt < RTT + RTT / 10);    /* of the try that came back */
    o.swallow = 2;
    assert_int_equal(wr_ping_send(w->ping), 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->replies, 2);
    assert_int_equal(w->last.err, WR_ERESET);
    o.in_order = true;
    o.streams = 0;
    o.swallow = 2;
    assert_int_equal(wr_ping_send(w->ping), 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->last.err, WR_ECLOSED);
    assert_int_equal(o.streams, 2);
}

static void test_wrong_late_and_partial_echoes(void **state)
{
    struct world *w = *state;
    struct odd o = {.wrong = true};
    wr_buf_init(&o.held, 64);
    node_handle(&w->b, WR_PING_NAME, on_odd, &o);
    start(w, 0);
    assert_int_equal(wr_ping_send(w->ping), 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->last.err, WR_EPROTO);
    o = (struct odd){.silent = true, .held = o.held};
    assert_int_equal(wr_ping_send(w->ping), 0);
    sim_run(w->sim, WR_PING_TIMEOUT - WR_SEC);
    assert_int_equal(w->replies, 1);
    sim_run(w->sim, 2 * WR_SEC);
    assert_int_equal(w->replies, 2);
    assert_int_equal(w->last.err, WR_ETIMEOUT);
    o = (struct odd){.pieces = true, .held = o.held};
    assert_int_equal(wr_ping_send(w->ping), 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->replies, 2);
    wr_stream_write(odd_stream, o.held.data, o.held.len);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->replies, 3);
    assert_int_equal(w->last.err, 0);
    assert_true(w->last.rtt > WR_SEC);
    /* Bytes that nobody asked for end the stream, and the next ping works. */
    wr_stream_write(odd_stream, "unasked", 7);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(node_conn(&w->a, &w->b)->stream_count, 0);
    wr_buf_clear(&o.held);
}

/* ---- clients that misbehave */

static void count_close(struct wr_stream *s, void *arg, int err)
{
    (void)s;
    *(int *)arg = err ? err : 1;
}

static void test_the_server_is_bounded(void **state)
{
    struct world *w = *state;
    static const char *const offer[] = {WR_PING_NAME, NULL};
    static const struct wr_stream_ops ops = {.on_close = count_close};
    static uint8_t flood[64 * 1024];
    int ended[3] = {0}, err = 0;
    w->pong = wr_pong_create(w->b.swarm);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    struct wr_conn *c = node_conn(&w->a, &w->b);
    struct wr_stream *s[3];
    for (int i = 0; i < 3; i++) {
        s[i] = wr_conn_open_stream(c, offer, &ops, &ended[i], &err);
        wr_stream_write(s[i], flood, WR_PING_LEN);
    }
    sim_run(w->sim, WR_SEC);
    assert_int_equal(ended[2], WR_ERESET);    /* the third at once */
    assert_int_equal(node_conn(&w->b, &w->a)->stream_count, 2);
    /* One that never reads its echoes is cut off long before megabytes gather. */
    wr_stream_pause(s[0], true);
    int sent = 0;
    for (int i = 0; i < 100 && !ended[0]; i++) {
        int n = wr_stream_write(s[0], flood, sizeof(flood));
        sent += n > 0 ? n : 0;
        sim_run(w->sim, 100 * WR_MSEC);
    }
    assert_int_equal(ended[0], WR_ERESET);
    assert_true(sent < 2 * 1024 * 1024);
    /* An idle one goes after a minute. */
    sim_run(w->sim, 2 * WR_PING_IDLE);
    assert_int_equal(node_conn(&w->b, &w->a)->stream_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trips, setup, teardown),
        cmocka_unit_test_setup_teardown(test_by_hand, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_peer_that_does_not_speak_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_unreachable_peer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_swallowed_ping_goes_once_more, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_late_and_partial_echoes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_server_is_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
