/* What QUIC connections hold in memory, and whose it is. */
#include "tests/sim/quic_world.h"
#include "transport/quic_impl.h"

/* All that ngtcp2 and the streams keep for a connection stands in its account, and goes with it. */
static void test_a_connection_pays_for_itself(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 60 * WR_MSEC});
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    talk(&a, &b, &c, 100000);
    sim_run(sim, 2 * WR_SEC);
    assert_whole(&c);
    const struct wr_conn *there = wr_swarm_conn(b.swarm, wr_swarm_self(a.swarm));
    assert_non_null(there);
    assert_true(there->memory.held > 1024);
    /* What is left is the peerstore's. */
    assert_in_range(b.limits.of[WR_LIMIT_MEMORY].used - there->memory.held, 0, 1024);
    node_stop(&a);
    node_stop(&b);
    sim_run(sim, WR_SEC);
    assert_int_equal(a.limits.of[WR_LIMIT_MEMORY].used, 0);
    assert_int_equal(b.limits.of[WR_LIMIT_MEMORY].used, 0);
    sim_destroy(sim);
}

/* Others have taken all of the half that is there for whoever comes first: a connection lives on its part
 * (with limits home; those of small are too small for it, and TCP has to do). */
static void test_a_part_is_enough(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 2, .rtt = 60 * WR_MSEC});
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    uint64_t others = b.limits.of[WR_LIMIT_MEMORY].max / 2;
    wr_limits_charge(&b.limits, WR_LIMIT_MEMORY, others);
    talk(&a, &b, &c, 1);
    sim_run(sim, 10 * WR_SEC);
    assert_whole(&c);
    const struct wr_conn *there = wr_swarm_conn(b.swarm, wr_swarm_self(a.swarm));
    assert_non_null(there);
    assert_true(there->memory.held <= b.limits.of[WR_LIMIT_MEMORY].max / 2 / b.limits.of[WR_LIMIT_CONNS].max);
    wr_limits_give(&b.limits, WR_LIMIT_MEMORY, others);
    node_stop(&a);
    node_stop(&b);
    sim_run(sim, WR_SEC);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_connection_pays_for_itself),
        cmocka_unit_test(test_a_part_is_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
