/* QUIC between two nodes in virtual time: handshakes, streams, loss, moves and ends. */
#include "tests/sim/quic_world.h"

static struct sim *world(uint64_t seed)
{
    return sim_create(&(struct sim_options){.seed = seed, .rtt = 60 * WR_MSEC});
}

static void test_a_byte_is_answered_in_two_round_trips(void **state)
{
    (void)state;
    struct sim *sim = world(1);
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    wr_time begun = sim_now(sim);
    talk(&a, &b, &c, 1);
    sim_run(sim, 2 * WR_SEC);
    assert_whole(&c);
    /* The floor: one round trip for the handshake, one for the request. */
    assert_in_range(c.first_at - begun, 120 * WR_MSEC, 123 * WR_MSEC);
    struct wr_conn *conn = wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm));
    assert_non_null(conn);
    struct wr_maddr remote;
    wr_conn_remote(conn, &remote);
    assert_true(wr_bytes_equal(wr_maddr_bytes(&remote), wr_maddr_bytes(&b.addr)));
    assert_in_range(wr_conn_rtt(conn), 59 * WR_MSEC, 62 * WR_MSEC);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_200_streams_at_once(void **state)
{
    (void)state;
    struct sim *sim = world(2);
    struct node a = {0}, b = {0};
    static struct client c[400];
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    for (int i = 0; i < 400; i++)
        talk(i & 1 ? &b : &a, i & 1 ? &a : &b, &c[i], 5000);
    sim_run(sim, 30 * WR_SEC);
    for (int i = 0; i < 400; i++)
        assert_whole(&c[i]);
    assert_int_equal(a.limits.of[WR_LIMIT_STREAMS].used, 0);
    assert_int_equal(b.limits.of[WR_LIMIT_STREAMS].used, 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_byte_is_answered_in_two_round_trips),
        cmocka_unit_test(test_200_streams_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
