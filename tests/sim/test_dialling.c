/* Two to a few nodes in virtual time: whom a dial leads to, how it ends, and how many there are at once. */
#include "tests/sim/swarm_world.h"

#include "transport/conn_impl.h"
#include "transport/err.h"

static wr_time time_to_answer(struct sim *sim, struct node *a, struct node *b)
{
    struct client c;
    wr_time begun = sim_now(sim);
    talk_over(a, b, echo_offer, &c, 1);
    sim_run(sim, 2 * WR_SEC);
    assert_true(c.closed);
    assert_int_equal(c.err, 0);
    return c.first_at - begun;
}

/* The first dial finds out that the favourite is not spoken, the next knows. */
static void test_a_peer_that_speaks_only_the_other(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 60 * WR_MSEC});
    struct node a = {0}, b = {0};
    node_start(&a, sim, 1, "home", NULL);
    start_speaking(&b, sim, 2, spoken[1]);
    /* Two round trips to the refusal, then three as always. */
    assert_in_range(time_to_answer(sim, &a, &b), 300 * WR_MSEC, 306 * WR_MSEC);
    struct wr_conn *c = wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm));
    assert_string_equal(wr_conn_security(c), spoken[1]->name);
    wr_conn_close(c, WR_CONN_OK);
    sim_run(sim, WR_SEC);
    assert_null(wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm)));
    assert_in_range(time_to_answer(sim, &a, &b), 180 * WR_MSEC, 185 * WR_MSEC);
    /* Who dials in proposes what it speaks. */
    c = wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm));
    wr_conn_close(c, WR_CONN_OK);
    sim_run(sim, WR_SEC);
    assert_in_range(time_to_answer(sim, &b, &a), 180 * WR_MSEC, 185 * WR_MSEC);
    c = wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm));
    assert_string_equal(wr_conn_security(c), spoken[1]->name);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_nothing_in_common(void **state)
{
    (void)state;
    struct sim *sim = world(3);
    struct node a = {0}, b = {0};
    struct result r;
    start_speaking(&a, sim, 1, spoken[0]);
    start_speaking(&b, sim, 2, spoken[1]);
    dial(&a, &b, &r);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_EUNSUPPORTED);
    assert_int_equal(wr_swarm_conn_count(a.swarm) + wr_swarm_conn_count(b.swarm), 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_wrong_peer_id_is_refused(void **state)
{
    (void)state;
    struct sim *sim = world(3);
    struct node a = {0}, b = {0}, other = {0};
    struct result r = {0};
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    node_start(&other, sim, 3, "home", NULL);
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(other.swarm), &b.addr, 1, WR_ORIGIN_OWNER, 0,
                                      on_connect, &r, NULL),
                     0);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_EPEERID);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 0);
    node_stop(&a);
    node_stop(&b);
    node_stop(&other);
    sim_destroy(sim);
}

static void test_dialling_oneself_is_noticed(void **state)
{
    (void)state;
    struct sim *sim = world(4);
    struct node a = {0};
    struct result r = {0};
    node_start(&a, sim, 1, "home", NULL);
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(a.swarm), &a.addr, 1, WR_ORIGIN_OWNER, 0,
                                      on_connect, &r, NULL),
                     WR_ESELF);
    assert_int_equal(wr_swarm_connect_addr(a.swarm, wr_maddr_bytes(&a.addr), on_connect, &r, NULL), 0);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_ESELF);
    struct wr_addr at;
    assert_false(wr_swarm_twin(a.swarm, &at));
    node_stop(&a);
    sim_destroy(sim);
}

/* A copy of our key on another machine is told apart from ourselves, and said for a day. */
static void test_one_identity_on_two_machines_is_noticed(void **state)
{
    (void)state;
    struct sim *sim = world(24);
    struct node a = {0}, b = {0};
    struct result r = {0};
    struct wr_addr at;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 1, "home", NULL);
    assert_true(wr_peerid_equal(wr_swarm_self(a.swarm), wr_swarm_self(b.swarm)));
    /* What a stranger says of us is not worth a dial. */
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(a.swarm), &b.addr, 1, WR_ORIGIN_STRANGER, 0,
                                      on_connect, &r, NULL),
                     WR_ESELF);
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(a.swarm), &b.addr, 1, WR_ORIGIN_OWNER, 0,
                                      on_connect, &r, NULL),
                     0);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_ESELF);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 0);
    assert_true(wr_swarm_twin(a.swarm, &at));
    assert_true(wr_ip_equal(&at.ip, sim_host_ip4(b.host)));
    sim_run(sim, 25 * WR_HOUR);
    assert_false(wr_swarm_twin(a.swarm, &at));
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_nobody_there(void **state)
{
    (void)state;
    struct sim *sim = world(10);
    struct node a = {0}, b = {0};
    struct result r;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    sim_kill(b.host);
    dial(&a, &b, &r);
    sim_run(sim, 10 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_ETIMEOUT);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* No more dials at once than the ceiling says; the others wait for their turn, and come. */
static void test_dials_under_way_have_a_ceiling(void **state)
{
    (void)state;
    enum { TARGETS = 7, PLACES = 2 };
    struct sim *sim = world(28);
    struct node a = {0}, targets[TARGETS] = {0};
    struct result r[TARGETS];
    node_start(&a, sim, 1, "home", NULL);
    a.limits.of[WR_LIMIT_DIALS].max = PLACES;
    for (unsigned i = 0; i < TARGETS; i++) {
        node_start(&targets[i], sim, (uint8_t)(10 + i), "home", NULL);
        if (i < TARGETS - 1)
            sim_kill(targets[i].host);
        dial(&a, &targets[i], &r[i]);
    }
    for (unsigned turn = 0; turn < TARGETS / PLACES; turn++) {
        sim_run(sim, WR_SEC);
        assert_int_equal(a.limits.of[WR_LIMIT_DIALS].used, PLACES);
        assert_int_equal(sim_host_traffic(a.host)->connects, PLACES * (turn + 1));
        assert_false(r[PLACES * turn].done || r[PLACES * turn + 1].done);
        sim_run(sim, WR_DIAL_ADDR_TIMEOUT - WR_SEC / 2);
        assert_int_equal(r[PLACES * turn].err, WR_ETIMEOUT);
    }
    sim_run(sim, WR_SEC);
    assert_true(r[TARGETS - 1].done && r[TARGETS - 1].err == 0);
    assert_int_equal(a.limits.of[WR_LIMIT_DIALS].used, 0);
    node_stop(&a);
    for (unsigned i = 0; i < TARGETS; i++)
        node_stop(&targets[i]);
    sim_destroy(sim);
}

/* Somebody else answers at the address that strangers name: it is no good for that peer for a while, longer each time,
 * and as good as ever for the other. */
static void test_an_address_that_failed_is_left_alone(void **state)
{
    (void)state;
    struct sim *sim = world(27);
    struct node a = {0}, b = {0}, other = {0};
    struct client c;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    node_start(&other, sim, 3, "home", NULL);
    const wr_time waits[] = {5 * WR_SEC, 6 * WR_SEC, 9 * WR_SEC};    /* 5 s + tries^2 x 1 s; go swarm backoff */
    struct wr_maddr right = b.addr;
    b.addr = other.addr;
    talk_over(&a, &b, echo_offer, &c, 1);
    sim_run(sim, 2 * WR_SEC);
    wr_time failed = sim_now(sim) - 2 * WR_SEC;
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        assert_true(c.closed);
        assert_int_equal(c.err, WR_EPEERID);
        uint64_t before = sim_host_traffic(a.host)->connects;
        sim_run_until(sim, failed + waits[i] - 500 * WR_MSEC);
        talk_over(&a, &b, echo_offer, &c, 1);
        sim_run(sim, 400 * WR_MSEC);
        assert_true(c.closed);
        assert_int_equal(c.err, WR_EBACKOFF);
        assert_int_equal(sim_host_traffic(a.host)->connects, before);
        sim_run_until(sim, failed + waits[i] + 500 * WR_MSEC);
        failed = sim_now(sim);
        talk_over(&a, &b, echo_offer, &c, 1);
        sim_run(sim, 2 * WR_SEC);
        assert_true(sim_host_traffic(a.host)->connects > before);
    }
    talk_over(&a, &other, echo_offer, &c, 1);
    sim_run(sim, 2 * WR_SEC);
    assert_true(c.closed && c.err == 0);
    /* What the owner says is tried at once. */
    struct result r;
    b.addr = right;
    dial(&a, &b, &r);
    sim_run(sim, 2 * WR_SEC);
    assert_true(r.done && r.err == 0);
    node_stop(&a);
    node_stop(&b);
    node_stop(&other);
    sim_destroy(sim);
}

static void test_two_dials_share_one_connection(void **state)
{
    (void)state;
    struct sim *sim = world(11);
    struct node a = {0}, b = {0};
    struct result r1, r2, cancelled = {0};
    struct wr_connect *request = NULL;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    dial(&a, &b, &r1);
    dial(&a, &b, &r2);
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(b.swarm), &b.addr, 1, WR_ORIGIN_OWNER, 0,
                                      on_connect, &cancelled, &request),
                     0);
    wr_connect_cancel(request);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r1.done && r2.done && r1.conn == r2.conn);
    assert_false(cancelled.done);
    assert_int_equal(a.opened, 1);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_connections_per_peer_are_bounded(void **state)
{
    (void)state;
    struct sim *sim = world(12);
    struct node a = {0}, b = {0};
    struct result r[20];
    node_start(&a, sim, 1, "server", NULL);
    node_start(&b, sim, 2, "small", NULL);
    for (int i = 0; i < 20; i++) {
        r[i] = (struct result){0};
        assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(b.swarm), &b.addr, 1, WR_ORIGIN_OWNER,
                                          WR_CONNECT_FRESH, on_connect, &r[i], NULL),
                         0);
        sim_run(sim, 6 * WR_SEC);
    }
    assert_int_equal(wr_swarm_conn_count(b.swarm), b.limits.of[WR_LIMIT_CONNS_PER_PEER].max);
    assert_true(b.limits.of[WR_LIMIT_CONNS_PER_PEER].refused > 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void break_it(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    (void)watch;
    if (event->type != WR_SWARM_OPENED)
        return;
    event->conn->mux->close(event->conn, WR_CONN_OK);
    wr_conn_ended(event->conn, WR_ERESET);
}

/* Who speaks over a connection as soon as it is open may find it broken before the dial has told of it: nobody is handed
 * what is gone, and the next dial begins anew. */
static void test_broken_by_the_first_word(void **state)
{
    (void)state;
    struct sim *sim = world(14);
    struct node a = {0}, b = {0};
    struct wr_swarm_watch watch = {.on_event = break_it};
    struct result r, next;
    node_start(&a, sim, 1, "home", NULL);
    node_start(&b, sim, 2, "home", NULL);
    wr_swarm_watch(a.swarm, &watch);
    dial(&a, &b, &r);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_ECLOSED);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 0);
    wr_swarm_unwatch(&watch);
    sim_run(sim, WR_MIN);
    dial(&a, &b, &next);
    sim_run(sim, 5 * WR_SEC);
    assert_true(next.done);
    assert_int_equal(next.err, 0);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 1);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_peer_that_speaks_only_the_other),
        cmocka_unit_test(test_nothing_in_common),
        cmocka_unit_test(test_wrong_peer_id_is_refused),
        cmocka_unit_test(test_dialling_oneself_is_noticed),
        cmocka_unit_test(test_one_identity_on_two_machines_is_noticed),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_dials_under_way_have_a_ceiling),
        cmocka_unit_test(test_an_address_that_failed_is_left_alone),
        cmocka_unit_test(test_two_dials_share_one_connection),
        cmocka_unit_test(test_connections_per_peer_are_bounded),
        cmocka_unit_test(test_broken_by_the_first_word),
    };
    int failed = 0;
    for (size_t i = 0; i < WR_SECURE_COUNT; i++)
        failed += cmocka_run_group_tests_name(prefer(i), tests, NULL, NULL);
    return failed;
}
