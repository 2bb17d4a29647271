/* What a QUIC connection tells of its path. */
#include "tests/sim/quic_world.h"

static struct wr_conn_stats stats_of(const struct node *of, const struct node *with)
{
    struct wr_conn_stats stats;
    const struct wr_conn *conn = wr_swarm_conn(of->swarm, wr_swarm_self(with->swarm));
    assert_non_null(conn);
    wr_conn_stats(conn, &stats);
    return stats;
}

static void test_a_clean_path(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 60 * WR_MSEC});
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    talk(&a, &b, &c, 1 << 20);
    sim_run(sim, 10 * WR_SEC);
    assert_whole(&c);
    struct wr_conn_stats s = stats_of(&a, &b);
    assert_in_range(s.rtt, 59 * WR_MSEC, 65 * WR_MSEC);
    assert_true(s.cwnd > 100000);
    assert_int_equal(s.in_flight, 0);
    assert_int_equal(s.loss_events, 0);
    assert_int_equal(s.migrations, 0);
    assert_in_range(s.mtu, 1400, 1452);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_losses_are_counted_by_who_sends(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 2, .rtt = 60 * WR_MSEC});
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    talk(&a, &b, &c, 1 << 20);
    sim_run(sim, 200 * WR_MSEC);
    sim_set_loss(sim, 0.02, 0);
    sim_run(sim, 60 * WR_SEC);
    assert_whole(&c);
    /* Some 800 packets each way, of which 16 are lost. */
    assert_in_range(stats_of(&a, &b).loss_events, 2, 40);
    assert_in_range(stats_of(&b, &a).loss_events, 2, 40);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_moves_are_counted_by_who_sees_them(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 3, .rtt = 60 * WR_MSEC});
    struct node a = {0}, b = {0};
    struct nat nat;
    struct client c;
    nat_start(&nat, sim, &a);
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    sim_set_bandwidth(a.host, 1250000);
    talk(&a, &b, &c, 6 << 20);
    for (int i = 0; i < 3; i++) {
        sim_run(sim, WR_SEC);
        nat.port++;
    }
    sim_run(sim, 60 * WR_SEC);
    assert_whole(&c);
    assert_int_equal(stats_of(&b, &a).migrations, 3);
    /* Behind the NAT nothing is to be seen of it. */
    assert_int_equal(stats_of(&a, &b).migrations, 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_clean_path),
        cmocka_unit_test(test_losses_are_counted_by_who_sends),
        cmocka_unit_test(test_moves_are_counted_by_who_sees_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
