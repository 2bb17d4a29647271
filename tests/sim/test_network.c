/* The network below a swarm changes: which changes are told to the services, and what is cleared away. */
#include "tests/sim/simnode.h"

struct ear {
    struct wr_swarm_watch watch;
    unsigned network, addrs;
    bool in_order;    /* the change of network came before that of addresses */
};

static void on_heard(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct ear *ear = wr_list_entry(watch, struct ear, watch);
    ear->network += event->type == WR_SWARM_NETWORK_CHANGED;
    ear->addrs += event->type == WR_SWARM_ADDRS;
    if (event->type == WR_SWARM_ADDRS)
        ear->in_order = ear->network > 0;
}

static void expect(struct sim *sim, struct ear *ear, unsigned network, unsigned addrs)
{
    sim_run(sim, WR_SEC);
    assert_int_equal(ear->network, network);
    assert_int_equal(ear->addrs, addrs);
    ear->network = ear->addrs = 0;
}

static void changes_that_matter_are_told_once(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
    struct node n = {0};
    struct ear ear = {.watch.on_event = on_heard};
    node_start(&n, sim, 1);
    struct wr_maddr everywhere;
    assert_int_equal(wr_maddr_parse("/ip4/0.0.0.0/tcp/4002", &everywhere), 0);
    assert_int_equal(wr_swarm_listen(n.swarm, wr_maddr_bytes(&everywhere)), 0);
    wr_swarm_watch(n.swarm, &ear.watch);
    sim_run(sim, WR_SEC);
    ear.network = ear.addrs = 0;
    sim_move(n.host, (struct wr_ip){4, {11, 0, 0, 9}}, (struct wr_ip){0}, 0);
    expect(sim, &ear, 1, 1);
    assert_true(ear.in_order);
    sim_cut(n.host);    /* a new lease with the same address */
    expect(sim, &ear, 1, 0);
    sim_set_routes(n.host, false);
    expect(sim, &ear, 1, 0);
    sim_set_routes(n.host, true);
    expect(sim, &ear, 1, 0);
    sim_set_routes(n.host, true);    /* word of nothing */
    expect(sim, &ear, 0, 0);
    sim_pause(n.host, true);
    sim_run(sim, 3 * WR_SEC);
    sim_pause(n.host, false);
    expect(sim, &ear, 0, 0);
    sim_pause(n.host, true);
    sim_run(sim, 10 * WR_MIN);
    sim_pause(n.host, false);
    expect(sim, &ear, 1, 0);
    wr_swarm_network_changed(n.swarm);    /* a service knows better */
    wr_swarm_network_changed(n.swarm);
    expect(sim, &ear, 1, 0);
    wr_swarm_unwatch(&ear.watch);
    node_stop(&n);
    sim_destroy(sim);
}

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    (void)conn;
    *(int *)arg = err;
}

/* A connection that left from an address we no longer have is closed at once, not after minutes; the peer
 * is reached anew, whatever failed before. */
static void stranded_connections_are_closed(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 2});
    struct node a = {0}, b = {0};
    int err = 1;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(b.swarm), &b.addr, 1, WR_ORIGIN_OWNER, 0,
                                      on_connected, &err, NULL), 0);
    sim_run(sim, 5 * WR_SEC);
    assert_int_equal(err, 0);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 1);
    sim_cut(a.host);    /* our address is still there: nothing is stranded */
    sim_run(sim, WR_SEC);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 1);
    sim_move(a.host, (struct wr_ip){4, {11, 0, 0, 9}}, (struct wr_ip){0}, 0);
    sim_run(sim, WR_SEC);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 0);
    err = 1;
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(b.swarm), &b.addr, 1, WR_ORIGIN_STRANGER, 0,
                                      on_connected, &err, NULL), 0);
    sim_run(sim, 5 * WR_SEC);
    assert_int_equal(err, 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_that_matter_are_told_once),
        cmocka_unit_test(stranded_connections_are_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
