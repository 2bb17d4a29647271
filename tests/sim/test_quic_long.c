/* One stream over a long fat path: what it uses of the line once it has started. In virtual time,
 * so that it does not matter what else the machine does that runs this. */
#include "tests/sim/flow.h"
#include "tests/sim/quic_world.h"
#include "transport/quic_impl.h"

#define SINK "/test/sink/1.0.0"
#define LINE 12500000        /* bytes a second */
#define RTT  (400 * WR_MSEC) /* so that 5 MB are under way: more than a stream may queue at first  \
                              */
#define START (6 * WR_SEC)
#define LOOK  (1 * WR_SEC)
static const char *const sink_offer[] = {SINK, NULL};

/* A stream from a to b that never ends; what arrives is counted. */
static void pour_over(struct sim *sim, struct node *a, struct node *b, uint64_t line,
                      uint64_t *taken)
{
    int err;
    node_start(a, sim, 1);
    node_start(b, sim, 2);
    sim_set_bandwidth(a->host, line);
    struct wr_protocol p = {.name = SINK, .on_stream = on_sink, .arg = taken, .inbound_max = 1};
    assert_int_equal(wr_swarm_handle(b->swarm, &p), 0);
    wr_peerstore_add_addr(wr_swarm_peerstore(a->swarm), wr_swarm_self(b->swarm),
                          wr_maddr_bytes(&b->addr), WR_TTL_PERMANENT, false);
    assert_non_null(
        wr_swarm_open(a->swarm, wr_swarm_self(b->swarm), sink_offer, &source_ops, NULL, &err));
}

static void pour(struct sim *sim, struct node *a, struct node *b, uint64_t *taken)
{
    pour_over(sim, a, b, LINE, taken);
}

static void test_a_long_line_is_filled_and_not_overfilled(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = RTT});
    struct node a = {0}, b = {0};
    uint64_t taken = 0;
    pour(sim, &a, &b, &taken);
    sim_run(sim, START);
    uint64_t before = taken;
    sim_run(sim, LOOK);
    /* Packet heads and seals, which the line carries as well, are 3 % of it. */
    assert_in_range(taken - before, LINE / 100 * 92 * (LOOK / WR_SEC), LINE * (LOOK / WR_SEC));
    struct wr_conn_stats stats;
    struct wr_conn *conn = wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm));
    assert_non_null(conn);
    wr_conn_stats(conn, &stats);
    /* The queue before the line holds a tenth of a second. */
    assert_int_equal(stats.loss_events, 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* 250 Mbit/s over 600 ms: 19 MB are under way, more than any window begins with. How far a stream
 * gets is up to the memory that one connection may take of a node's (limits home). */
static void test_a_long_fat_line_is_filled(void **state)
{
    (void)state;
    const uint64_t line = 31250000;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 600 * WR_MSEC});
    struct node a = {0}, b = {0};
    uint64_t taken = 0;
    pour_over(sim, &a, &b, line, &taken);
    sim_run(sim, 14 * WR_SEC);
    uint64_t before = taken;
    sim_run(sim, 3 * WR_SEC);
    assert_in_range(taken - before, line / 100 * 80 * 3, line * 3);
    struct wr_conn_stats stats;
    wr_conn_stats(wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm)), &stats);
    assert_int_equal(stats.loss_events, 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* With next to no queue before the line each step too far is lost in many small pieces: the peer,
 * which may be on ngtcp2 0.12, must not have a thousand gaps in the stream. */
static void test_a_long_line_without_a_queue_keeps_its_connection(void **state)
{
    (void)state;
    for (uint64_t line = 5000000; line <= 40000000; line += 5000000) {
        struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 400 * WR_MSEC});
        struct node a = {0}, b = {0};
        uint64_t taken = 0;
        pour_over(sim, &a, &b, line, &taken);
        sim_set_queue(a.host, 2 * WR_MSEC);
        sim_run(sim, 15 * WR_SEC);
        assert_int_equal(a.opened, 1);
        assert_int_equal(a.closed, 0);
        node_stop(&a);
        node_stop(&b);
        sim_destroy(sim);
    }
}

/* Pacing goes by timers, and a busy machine comes late to them: that must not cost the pace. */
static void test_a_sender_that_comes_late_fills_a_line(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 60 * WR_MSEC});
    struct node a = {0}, b = {0};
    uint64_t taken = 0;
    pour(sim, &a, &b, &taken);
    sim_set_late(a.host, 12 * WR_MSEC);
    sim_run(sim, 4 * WR_SEC);
    uint64_t before = taken;
    sim_run(sim, 2 * LOOK);
    assert_in_range(taken - before, LINE / 100 * 90 * (2 * LOOK / WR_SEC),
                    LINE / 100 * 110 * (2 * LOOK / WR_SEC));
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* The most that a stream may hold while it fills a line. */
static uint64_t held_at_most(uint64_t line, wr_time rtt, wr_time start)
{
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = rtt});
    struct node a = {0}, b = {0};
    uint64_t taken = 0, most = 0;
    pour_over(sim, &a, &b, line, &taken);
    for (unsigned i = 0; i < 50; i++) {
        sim_run(sim, start / 50);
        const struct wr_conn *conn = wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm));
        uint64_t cap = conn ? ((const struct wr_quic_conn *)(const void *)conn)->send_cap : 0;
        most = cap > most ? cap : most;
    }
    uint64_t before = taken;
    sim_run(sim, 10 * WR_MSEC);
    assert_in_range(taken - before, line / 100 * 90 / 100, line / 100);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
    return most;
}

/* To a peer that is near, what a stream holds beyond what fills the line would only be out of the core's cache when it is
 * sent. */
static void test_to_a_near_peer_little_is_held(void **state)
{
    (void)state;
    const uint64_t fast = 1250000000;    /* 10 Gbit/s */
    assert_int_equal(held_at_most(fast, 200 * WR_USEC, 50 * WR_MSEC), 512 * 1024);
    assert_in_range(held_at_most(fast, WR_MSEC, 50 * WR_MSEC), 2 * fast / 1000, 2 * fast / 1000 + 10000);
    assert_int_equal(held_at_most(fast / 10, 20 * WR_MSEC, 800 * WR_MSEC), WR_QUIC_SEND_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_long_line_is_filled_and_not_overfilled),
        cmocka_unit_test(test_a_long_fat_line_is_filled),
        cmocka_unit_test(test_a_long_line_without_a_queue_keeps_its_connection),
        cmocka_unit_test(test_a_sender_that_comes_late_fills_a_line),
        cmocka_unit_test(test_to_a_near_peer_little_is_held),
    };
    return cmocka_run_group_tests_name("quic_long", tests, NULL, NULL);
}
