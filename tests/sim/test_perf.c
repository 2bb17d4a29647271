/* Whom the throughput server serves, and how it ends with peers that misbehave. */
#include "tests/sim/simnode.h"

#include "identify/identify.h"
#include "node/perf.h"

#define RTT (40 * WR_MSEC)

struct world {
    struct sim *sim;
    struct node a, b;
    struct wr_perf *client, *server;
    struct wr_identify *id_a, *id_b;
    struct wr_perf_result result;
    int err;
    bool done;
};

static int setup(void **state)
{
    struct world *w = wr_alloc(sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = 41, .rtt = RTT});
    node_start(&w->a, w->sim, 1);
    node_start(&w->b, w->sim, 2);
    w->id_a = wr_identify_create(&(struct wr_identify_options){.swarm = w->a.swarm});
    w->id_b = wr_identify_create(&(struct wr_identify_options){.swarm = w->b.swarm});
    w->client = wr_perf_create(w->a.swarm);
    w->server = wr_perf_create(w->b.swarm);
    assert_int_equal(node_connect(w->sim, &w->a, &w->b), 0);
    sim_run(w->sim, WR_SEC);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    wr_perf_destroy(w->client);
    wr_perf_destroy(w->server);
    wr_identify_destroy(w->id_a);
    wr_identify_destroy(w->id_b);
    node_stop(&w->a);
    node_stop(&w->b);
    sim_destroy(w->sim);
    wr_free(w);
    return 0;
}

static void on_done(void *arg, int err, const struct wr_perf_result *result)
{
    struct world *w = arg;
    assert_false(w->done);
    w->done = true;
    w->err = err;
    w->result = *result;
}

static int measure(struct world *w, uint64_t up, uint64_t down)
{
    struct wr_perf_run *run;
    struct wr_perf_options o = {.peer = *wr_swarm_self(w->b.swarm), .up = up, .down = down,
                                .on_done = on_done, .arg = w};
    w->done = false;
    assert_int_equal(wr_perf_start(w->client, &o, &run), 0);
    for (int i = 0; i < 600 && !w->done; i++)
        sim_run(w->sim, 100 * WR_MSEC);
    assert_true(w->done);
    return w->err;
}

static void allow_a(struct world *w, bool on)
{
    char text[WR_PEERID_TEXT];
    wr_peerid_print(wr_swarm_self(w->a.swarm), text);
    assert_int_equal(wr_policy_rule(wr_swarm_policy(w->b.swarm), false, text, on), 0);
}

static void test_strangers_are_not_served(void **state)
{
    struct world *w = *state;
    assert_int_equal(node_knows(&w->a, &w->b, WR_PERF_NAME), 0);
    assert_int_equal(measure(w, 1000, 100000000), WR_ERESET);
    assert_true(w->result.down == 0);
    assert_true(sim_host_traffic(w->b.host)->stream_bytes < 20000);
}

static void test_allowed_peers_are(void **state)
{
    struct world *w = *state;
    allow_a(w, true);
    assert_int_equal(measure(w, 1000000, 3000000), 0);
    assert_true(w->result.up == 1000000 && w->result.down == 3000000);
    assert_true(w->result.up_took >= RTT && w->result.down_took > 0);
    allow_a(w, false);
    assert_int_equal(measure(w, 1000, 1000), WR_ERESET);
}

static void test_everybody_is_when_the_owner_says_so(void **state)
{
    struct world *w = *state;
    assert_int_equal(wr_perf_serve_all(w->server, true), 0);
    assert_int_equal(wr_perf_serve_all(w->server, true), 0);
    sim_run(w->sim, 10 * WR_SEC);
    assert_int_equal(node_knows(&w->a, &w->b, WR_PERF_NAME), 1);    /* announced by a push */
    assert_int_equal(measure(w, 10, 10), 0);
    assert_int_equal(wr_perf_serve_all(w->server, false), 0);
    sim_run(w->sim, 10 * WR_SEC);
    assert_int_equal(node_knows(&w->a, &w->b, WR_PERF_NAME), 0);
    assert_int_equal(measure(w, 10, 10), WR_ERESET);
}

static void note_close(struct wr_stream *s, void *arg, int err)
{
    (void)s;
    *(int *)arg = err;
}

/* Wants everything there is and reads nothing: the server holds a window's worth and gives up. */
static void test_a_client_that_does_not_read(void **state)
{
    struct world *w = *state;
    static const char *const offer[] = {WR_PERF_NAME, NULL};
    static const struct wr_stream_ops ops = {.on_close = note_close};
    static const uint8_t all[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    int err = 0, ended = 1;
    allow_a(w, true);
    uint64_t before = w->b.limits.of[WR_LIMIT_MEMORY].used;
    struct wr_stream *s = wr_conn_open_stream(node_conn(&w->a, &w->b), offer, &ops, &ended, &err);
    wr_stream_write(s, all, sizeof(all));
    wr_stream_shut(s);
    wr_stream_pause(s, true);
    sim_run(w->sim, WR_PERF_IDLE - WR_SEC);
    assert_int_equal(ended, 1);
    assert_true(w->b.limits.of[WR_LIMIT_MEMORY].used - before < 2 * WR_MIB);
    sim_run(w->sim, 5 * WR_SEC);
    assert_int_equal(ended, WR_ERESET);
    assert_int_equal(node_conn(&w->b, &w->a)->stream_count, 0);
    /* A header that is cut off is no request. */
    ended = 1;
    s = wr_conn_open_stream(node_conn(&w->a, &w->b), offer, &ops, &ended, &err);
    wr_stream_write(s, all, 5);
    wr_stream_shut(s);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(ended, WR_ERESET);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_strangers_are_not_served, setup, teardown),
        cmocka_unit_test_setup_teardown(test_allowed_peers_are, setup, teardown),
        cmocka_unit_test_setup_teardown(test_everybody_is_when_the_owner_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_client_that_does_not_read, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
