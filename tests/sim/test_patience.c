/* How long a stream may keep us: names never agreed on, ends that do not come, places that do not get free. */
#include "tests/sim/simnode.h"

#include "transport/channel_impl.h"
#include "transport/err.h"

#define NAME   "/test/hold/1.0.0"
#define PLACES 128    /* streams of ours on a connection at once; go takes 64 to 128 of a protocol */

static const char *const offer[] = {NAME, NULL};

struct world {
    struct sim *sim;
    struct node a, b;
    unsigned held, over;
    int err;
};

static void held_over(struct wr_stream *s, void *arg, int err)
{
    struct world *w = arg;
    (void)s;
    w->over++;
    w->err = err;
}

static const struct wr_stream_ops hold_ops = {.on_close = held_over}, quiet = {0};

static void hold(struct wr_stream *s, void *arg)
{
    struct world *w = arg;
    w->held++;
    wr_stream_set_ops(s, &quiet, NULL);
}

static int set_up(void **state)
{
    struct world *w = wr_alloc(sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = 42, .rtt = 20 * WR_MSEC});
    node_start(&w->a, w->sim, 1);
    node_start(&w->b, w->sim, 2);
    struct wr_protocol p = {.name = NAME, .on_stream = hold, .arg = w, .inbound_max = 2 * PLACES};
    assert_int_equal(wr_swarm_handle(w->b.swarm, &p), 0);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, WR_SEC);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    node_stop(&w->a);
    node_stop(&w->b);
    sim_run(w->sim, WR_SEC);
    sim_destroy(w->sim);
    wr_free(w);
    return 0;
}

static uint32_t streams_at(struct node *n, struct node *peer)
{
    const struct wr_conn *c = node_conn(n, peer);
    assert_non_null(c);
    return c->stream_count;
}

static struct wr_stream *open_one(struct world *w)
{
    int err;
    struct wr_stream *s = wr_swarm_open(w->a.swarm, wr_swarm_self(w->b.swarm), offer, &hold_ops, w, &err);
    assert_non_null(s);
    return s;
}

/* A peer opens a stream and never says what it is to speak. */
static void test_a_stream_that_never_names_a_protocol(void **state)
{
    struct world *w = *state;
    int err;
    struct wr_channel *ch = wr_channel_of(node_conn(&w->a, &w->b));
    struct wr_yamux_stream *s = wr_yamux_open(ch->yamux, NULL, &err);
    assert_non_null(s);
    wr_channel_want_flush(ch);
    sim_run(w->sim, WR_STREAM_NEGOTIATE_TIMEOUT - WR_SEC);
    assert_int_equal(streams_at(&w->b, &w->a), 1);
    sim_run(w->sim, 2 * WR_SEC);
    assert_int_equal(streams_at(&w->b, &w->a), 0);
    assert_true(wr_yamux_stream_done(s));    /* we were told so */
    wr_yamux_forget(s);
}

/* A peer that went while a stream was opened: that is known long before the connection is given up. */
static void test_a_protocol_that_is_never_agreed(void **state)
{
    struct world *w = *state;
    sim_kill(w->b.host);
    (void)open_one(w);
    sim_run(w->sim, WR_STREAM_NEGOTIATE_TIMEOUT - WR_SEC);
    assert_int_equal(w->over, 0);
    sim_run(w->sim, 2 * WR_SEC);
    assert_int_equal(w->over, 1);
    assert_int_equal(w->err, WR_ETIMEOUT);
    assert_int_equal(streams_at(&w->a, &w->b), 0);
}

/* Closed by us, and never by the peer. */
static void test_an_end_that_does_not_come(void **state)
{
    struct world *w = *state;
    struct wr_stream *s = open_one(w);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->held, 1);
    wr_stream_close(s);
    sim_run(w->sim, WR_STREAM_LINGER - WR_SEC);
    assert_int_equal(streams_at(&w->a, &w->b), 1);
    sim_run(w->sim, 2 * WR_SEC);
    assert_int_equal(streams_at(&w->a, &w->b), 0);
    assert_int_equal(streams_at(&w->b, &w->a), 0);
}

/* All places are taken and stay so: who waits for one is told in the end. */
static void test_a_place_that_does_not_get_free(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < PLACES; i++) {
        (void)open_one(w);
        sim_run(w->sim, WR_MSEC);
    }
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->held, PLACES);
    (void)open_one(w);
    sim_run(w->sim, WR_STREAM_WAIT - WR_SEC);
    assert_int_equal(w->over, 0);
    sim_run(w->sim, 2 * WR_SEC);
    assert_int_equal(w->over, 1);
    assert_int_equal(w->err, WR_ELIMIT);
    assert_int_equal(w->held, PLACES);
    assert_int_equal(streams_at(&w->a, &w->b), PLACES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_stream_that_never_names_a_protocol),
        TEST(test_a_protocol_that_is_never_agreed),
        TEST(test_an_end_that_does_not_come),
        TEST(test_a_place_that_does_not_get_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
