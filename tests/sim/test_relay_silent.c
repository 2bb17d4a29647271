/* Relays that say nothing any more, while their connections stand: who notices, how soon, and what then. */
#include "tests/sim/relay_world.h"

#define GIVEN_UP (10 * WR_SEC)    /* a circuit that carries nothing is over by then */

static const struct wr_relay_server_options free_of = {.mode = WR_RELAY_ON, .ttl = 3600};

struct two {
    struct world w;
    struct member second;    /* the other relay where b has a place */
};

static void two_up(struct two *t, unsigned seed)
{
    memset(t, 0, sizeof(*t));
    world_up(&t->w, &(struct sim_options){.seed = seed, .rtt = 60 * WR_MSEC}, &free_of);
    member_up(&t->second, t->w.sim, 4);
    member_serve(&t->second, &free_of);
    assert_int_equal(node_connect(t->w.sim, &t->w.b.n, &t->second.n), 0);
    assert_int_equal(reserve(t->w.sim, &t->w.b, &t->w.relay), 0);
    assert_int_equal(reserve(t->w.sim, &t->w.b, &t->second), 0);
    assert_int_equal(reach(&t->w, &t->w.a, &t->w.b), 0);
}

static void two_down(struct two *t)
{
    member_down(&t->second);
    world_down(&t->w);
}

/* Milliseconds until neither end has the circuit any more. */
static unsigned until_over(struct two *t)
{
    unsigned ms = 0;
    while (ms < 60000 && (node_conn(&t->w.a.n, &t->w.b.n) || node_conn(&t->w.b.n, &t->w.a.n))) {
        sim_run(t->w.sim, 10 * WR_MSEC);
        ms += 10;
    }
    return ms;
}

/* a is told both ways; the dead one must not keep it from the other. */
static void other_is_used(struct two *t)
{
    struct wr_maddr ways[] = {circuit_of(&t->w.relay), circuit_of(&t->second)};
    int result = 1;
    wr_time at = sim_now(t->w.sim);
    assert_int_equal(wr_swarm_connect(t->w.a.n.swarm, id_of(&t->w.b), ways, 2, WR_ORIGIN_OWNER, 0, node_on_connect,
                                      &result, NULL),
                     0);
    for (int i = 0; i < 600 && result == 1; i++)
        sim_run(t->w.sim, 10 * WR_MSEC);
    assert_int_equal(result, 0);
    assert_true(sim_now(t->w.sim) - at <= 3 * WR_SEC);
    const struct wr_conn *c = node_conn(&t->w.a.n, &t->w.b.n);
    assert_true(c->circuit && wr_peerid_equal(&c->circuit->relay, id_of(&t->second)));
    struct sender more;
    size_t before = t->w.b.got;
    begin(&t->w.a, &t->w.b, &more, 1000);
    sim_run(t->w.sim, 2 * WR_SEC);
    assert_int_equal(more.err, 0);
    assert_int_equal(t->w.b.got, before + 1000);
}

/* Its machine is gone in the middle of a transfer: nobody sends a word, and the connections to it stand. */
static void test_a_relay_vanishes_under_load(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 5; seed++) {
        struct two t;
        struct sender c;
        two_up(&t, seed);
        begin(&t.w.a, &t.w.b, &c, 64u << 20);
        sim_run(t.w.sim, (200 + seed * 17) * WR_MSEC);
        sim_kill(t.w.relay.n.host);
        assert_in_range(until_over(&t), 1000, GIVEN_UP / WR_MSEC);
        assert_true(c.err < 0);
        other_is_used(&t);
        two_down(&t);
    }
}

/* A stream is open and says nothing; then there is none, and the next one that is opened finds out. */
static void test_a_relay_vanishes_in_silence(void **state)
{
    (void)state;
    for (unsigned idle = 0; idle <= 1; idle++) {
        struct two t;
        struct sender c;
        two_up(&t, 10 + idle);
        begin(&t.w.a, &t.w.b, &c, 10);
        sim_run(t.w.sim, WR_SEC);
        assert_int_equal(c.err, 0);
        struct wr_stream *s = NULL;
        int err = 0;
        if (!idle) {
            s = wr_swarm_open_with(t.w.a.n.swarm, id_of(&t.w.b), WR_OPEN_LIMITED, small_offer, &small_ops, &t.w.a, &err);
            assert_non_null(s);
        }
        sim_run(t.w.sim, 25 * WR_SEC);
        sim_kill(t.w.relay.n.host);
        if (idle) {
            sim_run(t.w.sim, WR_SEC);
            begin(&t.w.a, &t.w.b, &c, 10);
        }
        wr_time at = sim_now(t.w.sim);
        while (node_conn(&t.w.a.n, &t.w.b.n) && sim_now(t.w.sim) - at < WR_MIN)
            sim_run(t.w.sim, 10 * WR_MSEC);
        assert_true(sim_now(t.w.sim) - at <= GIVEN_UP);
        assert_true(idle ? c.err < 0 : t.w.a.cut_at > 0);
        sim_run(t.w.sim, 30 * WR_SEC);    /* the listener's end was idle all the time */
        assert_null(node_conn(&t.w.b.n, &t.w.a.n));
        other_is_used(&t);
        two_down(&t);
    }
}

/* What looks after a circuit costs little: of an idle one next to nothing. */
static void test_a_quiet_circuit_stays(void **state)
{
    (void)state;
    for (unsigned open = 0; open <= 1; open++) {
        struct world w;
        int err = 0;
        world_up(&w, &(struct sim_options){.seed = 20, .rtt = 60 * WR_MSEC}, &free_of);
        assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
        assert_int_equal(reach(&w, &w.a, &w.b), 0);
        if (open)
            assert_non_null(wr_swarm_open_with(w.a.n.swarm, id_of(&w.b), WR_OPEN_LIMITED, small_offer, &small_ops,
                                               &w.a, &err));
        sim_run(w.sim, WR_MIN);
        uint64_t before = stats_of(&w.relay).bytes;
        sim_run(w.sim, 10 * WR_MIN);
        assert_non_null(node_conn(&w.a.n, &w.b.n));
        assert_in_range(stats_of(&w.relay).bytes - before, 1, open ? 30000 : 4000);
        world_down(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_relay_vanishes_under_load),
        cmocka_unit_test(test_a_relay_vanishes_in_silence),
        cmocka_unit_test(test_a_quiet_circuit_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
