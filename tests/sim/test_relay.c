/* Relays and those who use them, in virtual time: reservations, circuits, limits, rates, refusals. */
#include "identify/ping.h"
#include "tests/sim/relay_world.h"

#include <malloc.h>
#include <stdio.h>

#define LARGE 4u << 20

static void test_reserve_and_connect(void **state)
{
    struct world w;
    struct sender c;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 1, .rtt = 60 * WR_MSEC, .ragged = true}, &lent);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(wr_relay_client_hold(w.b.client, id_of(&w.relay)), WR_EEXIST);
    const struct wr_relay_hold *h = wr_relay_client_held(w.b.client, id_of(&w.relay));
    assert_non_null(h);
    assert_int_equal(h->state, WR_RELAY_HELD);
    assert_true(h->vouched && h->limited);
    assert_int_equal(h->limit.duration, 120);
    assert_int_equal(h->limit.data, 131072);
    assert_in_range(h->expires_at - sim_now(w.sim), 3590 * WR_SEC, 3601 * WR_SEC);
    assert_int_equal(relayed_addrs(&w.b), 1);
    struct wr_maddr at = circuit_of(&w.relay);
    assert_true(wr_addrbook_has(wr_swarm_addrbook(w.b.n.swarm), wr_maddr_bytes(&at)));
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    struct wr_conn *there = node_conn(&w.a.n, &w.b.n), *here = node_conn(&w.b.n, &w.a.n);
    assert_true(there->limited && here->limited);
    assert_int_equal(here->circuit->duration, 120 * WR_SEC);
    assert_int_equal(there->circuit->data, 131072);
    begin(&w.a, &w.b, &c, 50000);
    sim_run(w.sim, 5 * WR_SEC);
    assert_int_equal(c.err, 0);
    assert_int_equal(w.b.got, 50000);
    assert_int_equal(h->circuits, 1);
    struct wr_relay_through through;
    assert_int_equal(wr_relay_server_circuits(w.relay.server, &through, 1), 1);
    assert_true(wr_peerid_equal(&through.caller, id_of(&w.a)));
    assert_true(wr_peerid_equal(&through.guest, id_of(&w.b)));
    assert_true(through.bytes[0] > 50000);
    wr_conn_close(there, WR_CONN_OK);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(stats_of(&w.relay).circuits, 0);
    assert_null(node_conn(&w.b.n, &w.a.n));
    world_down(&w);
}

static void on_pong(void *arg, const struct wr_ping_reply *reply)
{
    int *result = arg;
    *result = reply->err == 0 && reply->conn && !reply->conn->circuit ? WR_EPROTO : reply->err;
}

/* A ping is for circuits, too: nobody waits for a better path before asking how this one does. */
static void test_ping(void **state)
{
    struct world w;
    int result = 1;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 9, .rtt = 60 * WR_MSEC}, &lent);
    struct wr_pong *pong = wr_pong_create(w.b.n.swarm);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    struct wr_ping *ping =
        wr_ping_open(w.a.n.swarm, id_of(&w.b), &(struct wr_ping_options){.on_reply = on_pong, .arg = &result});
    assert_true(pong && ping);
    assert_int_equal(wr_ping_send(ping), 0);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(result, 0);
    wr_ping_close(ping);
    wr_pong_destroy(pong);
    world_down(&w);
}

/* Over three hours the place is asked for again, at three quarters of its hour each time, and stands there throughout. */
static void test_refresh(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 2}, &lent);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    for (int minute = 0; minute < 180; minute++) {
        sim_run(w.sim, WR_MIN);
        assert_int_equal(relayed_addrs(&w.b), 1);
        assert_int_equal(stats_of(&w.relay).guests, 1);
    }
    const struct wr_relay_hold *h = wr_relay_client_held(w.b.client, id_of(&w.relay));
    assert_int_equal(h->refreshed, 4);
    assert_int_equal(stats_of(&w.relay).refreshed, 4);
    assert_int_equal(w.b.holds, 1);
    world_down(&w);
}

/* A clock that is wrong by a year changes nothing. */
static void test_wrong_clock(void **state)
{
    struct world w = {0};
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        memset(&w, 0, sizeof(w));
        w.sim = sim_create(&(struct sim_options){.seed = 3});
        w.b.n.host = sim_host_add(w.sim, &(struct sim_host_options){.clock_error = sign * 365 * 24 * WR_HOUR});
        member_up(&w.a, w.sim, 1);
        member_up(&w.b, w.sim, 2);
        member_up(&w.relay, w.sim, 3);
        member_serve(&w.relay, &lent);
        assert_int_equal(node_connect(w.sim, &w.b.n, &w.relay.n), 0);
        assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
        sim_run(w.sim, 2 * WR_HOUR);
        assert_int_equal(stats_of(&w.relay).guests, 1);
        assert_int_equal(stats_of(&w.relay).reserved, 1);
        assert_int_equal(reach(&w, &w.a, &w.b), 0);
        world_down(&w);
    }
}

static void test_lost_with_the_connection(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 4}, &lent);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    wr_swarm_disconnect(w.b.n.swarm, id_of(&w.relay), WR_CONN_OK);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(w.b.holds, 2);
    assert_int_equal(w.b.hold_err, WR_ECLOSED);
    assert_int_equal(relayed_addrs(&w.b), 0);
    assert_int_equal(stats_of(&w.relay).guests, 0);
    assert_int_equal(reach(&w, &w.a, &w.b), WR_ENOTFOUND);
    assert_int_equal(stats_of(&w.relay).refused_absent, 1);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), WR_ECLOSED);
    world_down(&w);
}

/* One connection takes another's place, and the relay may see them in another order than we: the place is asked for
 * again. Homes that had been cut off for a while once were at their relay in their own eyes only. */
static void test_asked_again_over_the_next_connection(void **state)
{
    struct world w;
    int result = 1;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 4}, &lent);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    struct wr_conn *first = node_conn(&w.b.n, &w.relay.n);
    assert_int_equal(wr_swarm_connect(w.b.n.swarm, id_of(&w.relay), &w.relay.n.addr, 1, WR_ORIGIN_OWNER,
                                      WR_CONNECT_FRESH, node_on_connect, &result, NULL),
                     0);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(result, 0);
    const struct wr_relay_hold *h = wr_relay_client_held(w.b.client, id_of(&w.relay));
    assert_int_equal(h->refreshed, 0);
    wr_conn_close(first, WR_CONN_OK);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(h->refreshed, 1);
    assert_int_equal(stats_of(&w.relay).refreshed, 1);
    assert_int_equal(w.b.holds, 1);
    assert_int_equal(relayed_addrs(&w.b), 1);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    world_down(&w);
}

/* The guest has two connections, and the one over which it is asked ends before it has answered. */
static void test_a_guest_is_asked_over_what_it_has_left(void **state)
{
    struct world w;
    int result = 1;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 9, .rtt = 60 * WR_MSEC}, &lent);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(wr_swarm_connect(w.b.n.swarm, id_of(&w.relay), &w.relay.n.addr, 1, WR_ORIGIN_OWNER,
                                      WR_CONNECT_FRESH, node_on_connect, &result, NULL),
                     0);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(result, 0);
    struct wr_maddr at = circuit_of(&w.relay);
    result = 1;
    assert_int_equal(wr_swarm_connect(w.a.n.swarm, id_of(&w.b), &at, 1, WR_ORIGIN_OWNER, 0, node_on_connect, &result,
                                      NULL),
                     0);
    for (int i = 0; i < 5000 && stats_of(&w.relay).circuits == 0; i++)
        sim_run(w.sim, WR_MSEC);
    wr_conn_close(node_conn(&w.relay.n, &w.b.n), WR_CONN_OK);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(result, 0);
    assert_int_equal(stats_of(&w.relay).failed, 0);
    /* With the last one it is lost. */
    wr_swarm_disconnect(w.a.n.swarm, id_of(&w.b), WR_CONN_OK);
    sim_run(w.sim, 10 * WR_SEC);    /* and its way through the relay may be tried again */
    result = 1;
    assert_int_equal(wr_swarm_connect(w.a.n.swarm, id_of(&w.b), &at, 1, WR_ORIGIN_OWNER, 0, node_on_connect, &result,
                                      NULL),
                     0);
    for (int i = 0; i < 5000 && stats_of(&w.relay).circuits == 0; i++)
        sim_run(w.sim, WR_MSEC);
    wr_conn_close(node_conn(&w.relay.n, &w.b.n), WR_CONN_OK);
    sim_run(w.sim, 2 * WR_SEC);
    assert_true(result < 0);
    assert_int_equal(stats_of(&w.relay).failed, 1);
    world_down(&w);
}

/* To the byte, and to the second. */
static void test_limits_of_a_circuit(void **state)
{
    struct world w;
    struct sender c;
    struct wr_relay_through through;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 5, .rtt = 60 * WR_MSEC}, &lent);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    begin(&w.a, &w.b, &c, 300000);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(wr_relay_server_circuits(w.relay.server, &through, 1), 1);
    assert_int_equal(through.bytes[0], 131072);
    assert_int_equal(stats_of(&w.relay).cut_data, 1);
    assert_true(c.err < 0);
    assert_in_range(w.b.got, 60000, 131072);    /* a frame that was cut in two is lost */
    struct wr_relay_guest guest;
    assert_int_equal(wr_relay_server_guests(w.relay.server, &guest, 1), 1);
    uint64_t before = guest.bytes;
    assert_true(before > 131072);
    sim_run(w.sim, 10 * WR_SEC);
    assert_null(node_conn(&w.a.n, &w.b.n));
    assert_null(node_conn(&w.b.n, &w.a.n));
    assert_int_equal(stats_of(&w.relay).circuits, 0);
    /* Another one may be had at once. Quiet, it lives two minutes. */
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    assert_int_equal(wr_relay_server_circuits(w.relay.server, &through, 1), 1);
    wr_time end = through.since + 120 * WR_SEC;
    sim_run_until(w.sim, end - WR_MSEC);
    assert_int_equal(stats_of(&w.relay).circuits, 1);
    sim_run_until(w.sim, end + WR_MSEC);
    assert_int_equal(stats_of(&w.relay).circuits, 0);
    assert_int_equal(stats_of(&w.relay).cut_time, 1);
    sim_run(w.sim, WR_SEC);
    assert_null(node_conn(&w.a.n, &w.b.n));
    world_down(&w);
}

/* A relay without limits: an ordinary connection, any amount of data. */
static void test_no_limits(void **state)
{
    static const struct wr_relay_server_options free_of = {.mode = WR_RELAY_ON, .ttl = 3600};
    struct world w;
    struct sender c;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 6, .rtt = 60 * WR_MSEC}, &free_of);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_false(wr_relay_client_held(w.b.client, id_of(&w.relay))->limited);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    assert_false(node_conn(&w.a.n, &w.b.n)->limited);
    assert_non_null(node_conn(&w.a.n, &w.b.n)->circuit);
    begin(&w.a, &w.b, &c, LARGE);
    sim_run(w.sim, 60 * WR_SEC);
    assert_int_equal(c.err, 0);
    assert_int_equal(w.b.got, LARGE);
    assert_int_equal(stats_of(&w.relay).buffered, 0);
    sim_run(w.sim, 10 * WR_MIN);
    assert_non_null(node_conn(&w.a.n, &w.b.n));
    world_down(&w);
}

/* Bytes that the relay passes on, measured after the first burst is over. */
static void measure_rate(uint64_t each, uint64_t total, unsigned pairs, double want)
{
    struct wr_relay_server_options o = {.mode = WR_RELAY_ON, .ttl = 3600, .rate_each = each, .rate_total = total};
    struct world w;
    struct member more[6];
    struct sender c[4];
    assert_true(pairs <= 4);
    world_up(&w, &(struct sim_options){.seed = 7, .rtt = 60 * WR_MSEC}, &o);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    memset(more, 0, sizeof(more));
    for (unsigned i = 0; i < pairs; i++) {
        member_up(&more[i], w.sim, 10 + i);
        assert_int_equal(reach(&w, &more[i], &w.b), 0);
        begin(&more[i], &w.b, &c[i], 64u << 20);
    }
    sim_run(w.sim, 10 * WR_SEC);
    uint64_t before = stats_of(&w.relay).bytes;
    sim_run(w.sim, 200 * WR_SEC);    /* a window's worth comes at once: 256 KiB more or less is little of this */
    double rate = (double)(stats_of(&w.relay).bytes - before) / 200;
    if (rate < want * 0.95 || rate > want * 1.05)
        print_error("rate %.0f, not %.0f\n", rate, want);
    assert_true(rate >= want * 0.95 && rate <= want * 1.05);
    for (unsigned i = 0; i < pairs; i++)
        member_down(&more[i]);
    world_down(&w);
}

static void test_rates_are_kept(void **state)
{
    (void)state;
    measure_rate(100000, 0, 1, 100000);
    measure_rate(0, 300000, 3, 300000);
    measure_rate(50000, 400000, 4, 200000);
    measure_rate(400000, 200000, 2, 200000);
}

/* The owner changes the rates: what is open keeps to the new ones at once. */
static void test_rates_change(void **state)
{
    static const struct {
        uint64_t each, total;
        double want;
    } steps[] = {{50000, 0, 50000}, {0, 20000, 20000}, {200000, 400000, 200000}};
    struct wr_relay_server_options o = {.mode = WR_RELAY_ON, .ttl = 3600, .rate_each = 16384, .rate_total = 16384};
    struct world w;
    struct sender c;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 22, .rtt = 60 * WR_MSEC}, &o);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    begin(&w.a, &w.b, &c, 256u << 20);
    sim_run(w.sim, 10 * WR_SEC);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        wr_relay_server_set_rates(w.relay.server, steps[i].each, steps[i].total);
        assert_int_equal(wr_relay_server_rate_each(w.relay.server), steps[i].each);
        assert_int_equal(wr_relay_server_rate_total(w.relay.server), steps[i].total);
        sim_run(w.sim, 20 * WR_SEC);    /* what was saved up is gone */
        uint64_t before = stats_of(&w.relay).bytes;
        sim_run(w.sim, 200 * WR_SEC);
        double rate = (double)(stats_of(&w.relay).bytes - before) / 200;
        if (rate < steps[i].want * 0.95 || rate > steps[i].want * 1.05)
            print_error("rate %.0f, not %.0f\n", rate, steps[i].want);
        assert_true(rate >= steps[i].want * 0.95 && rate <= steps[i].want * 1.05);
    }
    world_down(&w);
}

/* A guest that does not read: the caller is stopped, what waits is counted, others are not slowed. */
static void test_slow_receiver(void **state)
{
    static const struct wr_relay_server_options free_of = {.mode = WR_RELAY_ON, .ttl = 3600};
    struct world w;
    struct sender c[2];    /* two windows are more than the relay's one */
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 8, .rtt = 60 * WR_MSEC}, &free_of);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    sim_set_bandwidth(w.b.n.host, 20000);
    begin(&w.a, &w.b, &c[0], 8u << 20);
    begin(&w.a, &w.b, &c[1], 8u << 20);
    sim_run(w.sim, 20 * WR_SEC);
    assert_in_range(stats_of(&w.relay).buffered, 1, 1 << 20);
    assert_true(c[0].left + c[1].left > 12u << 20);
    assert_true(c[0].err == 1 && c[1].err == 1);
    sim_set_bandwidth(w.b.n.host, 0);
    sim_run(w.sim, 120 * WR_SEC);
    assert_true(c[0].err == 0 && c[1].err == 0);
    assert_int_equal(w.b.got, 16u << 20);
    world_down(&w);
}

static void test_modes(void **state)
{
    struct wr_relay_server_options o = lent;
    struct world w;
    (void)state;
    o.mode = WR_RELAY_AUTO;
    world_up(&w, &(struct sim_options){.seed = 9}, &o);
    assert_false(wr_relay_server_offered(w.relay.server));
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), WR_EREFUSED);
    assert_int_equal(w.b.hold_status, WR_RELAY_REFUSED);
    wr_swarm_set_reachability(w.relay.n.swarm, 4, WR_REACH_PUBLIC);
    assert_true(wr_relay_server_offered(w.relay.server));
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    /* Not reachable any more: no new places, what is there goes on. */
    wr_swarm_set_reachability(w.relay.n.swarm, 4, WR_REACH_PRIVATE);
    assert_false(wr_relay_server_offered(w.relay.server));
    sim_run(w.sim, 30 * WR_SEC);
    assert_non_null(node_conn(&w.a.n, &w.b.n));
    assert_int_equal(node_connect(w.sim, &w.a.n, &w.relay.n), 0);
    assert_int_equal(reserve(w.sim, &w.a, &w.relay), WR_EREFUSED);
    assert_int_equal(stats_of(&w.relay).guests, 1);
    wr_swarm_disconnect(w.a.n.swarm, id_of(&w.b), WR_CONN_OK);
    sim_run(w.sim, WR_SEC);
    uint64_t off = stats_of(&w.relay).refused_off;
    assert_true(reach(&w, &w.a, &w.b) < 0);    /* nor a new circuit to who is still there */
    assert_int_equal(stats_of(&w.relay).refused_off, off + 1);
    world_down(&w);
}

/* Off is off: circuits and places end at once, and nobody gets any. */
static void test_off(void **state)
{
    struct world w;
    struct sender c;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 21, .rtt = 60 * WR_MSEC}, &lent);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    begin(&w.a, &w.b, &c, 16u << 20);
    sim_run(w.sim, 90 * WR_MSEC);
    assert_int_equal(c.err, 1);
    wr_relay_server_set_mode(w.relay.server, WR_RELAY_OFF);
    assert_false(wr_relay_server_offered(w.relay.server));
    assert_true(stats_of(&w.relay).guests == 0 && stats_of(&w.relay).circuits == 0);
    assert_int_equal(stats_of(&w.relay).cut_off, 1);
    assert_int_equal(w.relay.n.limits.of[WR_LIMIT_RELAY_CIRCUITS].used, 0);
    assert_int_equal(w.relay.n.limits.of[WR_LIMIT_RELAY_RESERVATIONS].used, 0);
    sim_run(w.sim, WR_SEC);
    assert_true(c.err < 0);
    assert_null(node_conn(&w.a.n, &w.b.n));
    assert_null(node_conn(&w.b.n, &w.a.n));
    assert_non_null(node_conn(&w.b.n, &w.relay.n));    /* the connection itself is not the relay's to end */
    assert_true(reach(&w, &w.a, &w.b) < 0);
    wr_relay_client_drop(w.b.client, id_of(&w.relay));
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), WR_EREFUSED);
    wr_relay_server_set_mode(w.relay.server, WR_RELAY_ON);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    world_down(&w);
}

/* Who is dialled through a relay that holds no place for him has no way through that relay: it is forgotten, but not
 * what the owner said, and not other ways. */
static void test_a_stale_way_is_forgotten(void **state)
{
    struct world w;
    struct wr_maddr at, out[4];
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 19}, &lent);
    for (int owners = 0; owners <= 1; owners++) {
        struct wr_peerstore *ps = wr_swarm_peerstore(w.a.n.swarm);
        at = circuit_of(&w.relay);
        assert_int_equal(wr_peerstore_add_addr(ps, id_of(&w.b), wr_maddr_bytes(&at),
                                               owners ? WR_TTL_PERMANENT : WR_TTL_DHT, false),
                         0);
        assert_int_equal(wr_maddr_parse("/ip4/192.0.2.1/tcp/1", &at), 0);
        assert_int_equal(wr_peerstore_add_addr(ps, id_of(&w.b), wr_maddr_bytes(&at), WR_TTL_DHT, false), 0);
        assert_int_equal(wr_peerstore_addrs(ps, id_of(&w.b), out, 4), 2);
        assert_true(reach(&w, &w.a, &w.b) < 0);
        assert_int_equal(stats_of(&w.relay).circuits, 0);
        assert_int_equal(wr_peerstore_addrs(ps, id_of(&w.b), out, 4), 1 + owners);
        assert_true(owners || !wr_maddr_is_circuit(wr_maddr_bytes(&out[0])));
        sim_run(w.sim, 10 * WR_MIN);
    }
    world_down(&w);
}

/* A relay has several addresses: while it is asked at one of them the others wait for that answer. Only what was really
 * tried is told, and the error is the relay's. */
static void test_two_addresses_of_one_relay(void **state)
{
    struct world w;
    struct wr_dial_report tried[4];
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 21, .rtt = 200 * WR_MSEC}, &lent);
    struct wr_maddr both[] = {circuit_of(&w.relay), circuit_of(&w.relay)};
    both[1].bytes[7]++;    /* the port */
    for (int there = 0; there <= 1; there++) {
        int result = 1;
        if (there)
            assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
        assert_int_equal(wr_swarm_connect(w.a.n.swarm, id_of(&w.b), both, 2, WR_ORIGIN_OWNER, 0, node_on_connect,
                                          &result, NULL),
                         0);
        sim_run(w.sim, 10 * WR_SEC);
        assert_int_equal(result, there ? 0 : WR_ENOTFOUND);
        assert_int_equal(wr_swarm_dial_report(w.a.n.swarm, id_of(&w.b), tried, 4), 1);
        assert_int_equal(tried[0].err, result);
        assert_true(tried[0].took >= 200 * WR_MSEC);
        assert_true(wr_bytes_equal(wr_maddr_bytes(&tried[0].addr), wr_maddr_bytes(&both[0])));
        wr_swarm_disconnect(w.a.n.swarm, id_of(&w.b), WR_CONN_OK);
        wr_swarm_disconnect(w.a.n.swarm, id_of(&w.relay), WR_CONN_OK);
        sim_run(w.sim, WR_SEC);
    }
    /* Where we are connected with the relay already that is the way, whatever other address of it was named. */
    int result = 1;
    assert_int_equal(node_connect(w.sim, &w.a.n, &w.relay.n), 0);
    assert_int_equal(reserve(w.sim, &w.a, &w.relay), 0);
    assert_int_equal(wr_swarm_connect(w.b.n.swarm, id_of(&w.a), &both[1], 1, WR_ORIGIN_OWNER, 0, node_on_connect, &result,
                                      NULL),
                     0);
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(result, 0);
    assert_int_equal(wr_swarm_dial_report(w.b.n.swarm, id_of(&w.a), tried, 4), 1);
    assert_true(wr_bytes_equal(wr_maddr_bytes(&tried[0].addr), wr_maddr_bytes(&both[0])));
    world_down(&w);
}

/* Places per network, and circuits per peer. */
static void test_ceilings(void **state)
{
    struct world w;
    struct member crowd[WR_RELAY_GUESTS_PER_NET + 1];
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 10}, &lent);
    memset(crowd, 0, sizeof(crowd));
    for (unsigned i = 0; i <= WR_RELAY_GUESTS_PER_NET; i++) {
        struct wr_ip ip = {.family = 4, .bytes = {9, 9, 9, (uint8_t)(i + 1)}};
        crowd[i].n.host = sim_host_add(w.sim, &(struct sim_host_options){.ip4 = ip});
        member_up(&crowd[i], w.sim, 20 + i);
        assert_int_equal(node_connect(w.sim, &crowd[i].n, &w.relay.n), 0);
        int want = i < WR_RELAY_GUESTS_PER_NET ? 0 : WR_EFULL;
        assert_int_equal(reserve(w.sim, &crowd[i], &w.relay), want);
    }
    assert_int_equal(stats_of(&w.relay).refused_net, 1);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    /* The limit of all. */
    w.relay.n.limits.of[WR_LIMIT_RELAY_RESERVATIONS].max = stats_of(&w.relay).guests;
    assert_int_equal(node_connect(w.sim, &w.a.n, &w.relay.n), 0);
    assert_int_equal(reserve(w.sim, &w.a, &w.relay), WR_EFULL);
    assert_int_equal(w.relay.n.limits.of[WR_LIMIT_RELAY_RESERVATIONS].refused, 1);
    w.relay.n.limits.of[WR_LIMIT_RELAY_CIRCUITS].max = 1;
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    assert_int_equal(reach(&w, &w.a, &crowd[0]), WR_EFULL);
    assert_int_equal(stats_of(&w.relay).refused_full, 2);
    for (unsigned i = 0; i <= WR_RELAY_GUESTS_PER_NET; i++)
        member_down(&crowd[i]);
    world_down(&w);
}

static void allow(struct member *relay, const char *what)
{
    assert_int_equal(wr_policy_rule(wr_swarm_policy(relay->n.swarm), false, what, true), 0);
}

/* Whom the owner allows, by peer id or by network, gets a place and a circuit though all are taken, and may ask as often as
 * it likes. */
static void test_who_is_allowed_finds_room(void **state)
{
    struct world w;
    char text[WR_PEERID_TEXT];
    (void)state;
    struct wr_relay_server_options tight = lent;
    tight.guests_per_net = 1;
    world_up(&w, &(struct sim_options){.seed = 31}, &tight);
    assert_int_equal(node_connect(w.sim, &w.a.n, &w.relay.n), 0);
    w.relay.n.limits.of[WR_LIMIT_RELAY_RESERVATIONS].max = 0;
    w.relay.n.limits.of[WR_LIMIT_RELAY_CIRCUITS].max = 0;
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), WR_EFULL);
    uint64_t refused = w.relay.n.limits.of[WR_LIMIT_RELAY_RESERVATIONS].refused;
    allow(&w.relay, wr_peerid_print(id_of(&w.b), text));
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(stats_of(&w.relay).guests, 1);
    assert_int_equal(w.relay.n.limits.of[WR_LIMIT_RELAY_RESERVATIONS].used, 1);
    assert_int_equal(w.relay.n.limits.of[WR_LIMIT_RELAY_RESERVATIONS].refused, refused);
    for (unsigned i = 0; i < 2 * WR_RELAY_RESERVE_BURST; i++) {
        wr_relay_client_drop(w.b.client, id_of(&w.relay));
        assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    }
    assert_int_equal(reach(&w, &w.a, &w.b), WR_EFULL);
    allow(&w.relay, "0.0.0.0/0");
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    assert_int_equal(w.relay.n.limits.of[WR_LIMIT_RELAY_CIRCUITS].used, 1);
    assert_int_equal(reserve(w.sim, &w.a, &w.relay), 0);
    world_down(&w);
}

/* Callers of one network take half of a guest's places, and half of all, however many identities they have: others
 * still get through. */
static void test_one_network_does_not_take_all(void **state)
{
    enum { HALF = WR_RELAY_CIRCUITS_PER_PEER / 2, CROWD = HALF + 2 };
    struct world w;
    struct member crowd[CROWD];
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 21}, &lent);
    assert_int_equal(wr_limits_change(&w.relay.n.limits, "home"), 0);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    memset(crowd, 0, sizeof(crowd));
    for (unsigned i = 0; i < CROWD; i++) {
        struct wr_ip ip = {.family = 4, .bytes = {9, 9, 9, (uint8_t)(i + 1)}};
        crowd[i].n.host = sim_host_add(w.sim, &(struct sim_host_options){.ip4 = ip});
        member_up(&crowd[i], w.sim, 20 + i);
        assert_int_equal(reach(&w, &crowd[i], &w.b), i < HALF ? 0 : WR_EFULL);
    }
    assert_int_equal(stats_of(&w.relay).refused_net, CROWD - HALF);
    assert_int_equal(stats_of(&w.relay).circuits, HALF);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    /* Of all that there are. */
    w.relay.n.limits.of[WR_LIMIT_RELAY_CIRCUITS].max = 2 * HALF;
    assert_int_equal(node_connect(w.sim, &w.a.n, &w.relay.n), 0);
    assert_int_equal(reserve(w.sim, &w.a, &w.relay), 0);
    assert_int_equal(reach(&w, &crowd[HALF], &w.a), WR_EFULL);
    assert_int_equal(stats_of(&w.relay).refused_net, CROWD - HALF + 1);
    assert_int_equal(w.relay.n.limits.of[WR_LIMIT_RELAY_CIRCUITS].used, HALF + 1);
    for (unsigned i = 0; i < CROWD; i++)
        member_down(&crowd[i]);
    world_down(&w);
}

/* A crowd, of one network or of many, that opens as many circuits as it gets, sends what it can, and knocks for more all
 * the time, for places as well. */
static void flood(bool one_network)
{
    enum { CROWD = 48 };
    static const struct wr_relay_server_options o = {
        .mode = WR_RELAY_ON, .ttl = 3600, .rate_each = WR_RELAY_RATE_EACH, .rate_total = WR_RELAY_RATE_TOTAL};
    struct world w;
    struct member *crowd = wr_alloc_array(CROWD, sizeof(*crowd)), guests[3];
    struct sender good, *bad = wr_alloc_array(CROWD, sizeof(*bad));
    unsigned carried = 0;
    assert_true(crowd && bad);
    memset(crowd, 0, CROWD * sizeof(*crowd));
    world_up(&w, &(struct sim_options){.seed = 17, .rtt = 60 * WR_MSEC}, &o);
    assert_int_equal(wr_limits_change(&w.relay.n.limits, "home"), 0);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    begin(&w.a, &w.b, &good, 256u << 20);
    sim_run(w.sim, 5 * WR_SEC);
    size_t before = w.b.got;
    sim_run(w.sim, 30 * WR_SEC);
    size_t alone = w.b.got - before;
    memset(guests, 0, sizeof(guests));
    for (unsigned i = 0; i < 3; i++) {
        member_up(&guests[i], w.sim, 40 + i);
        assert_int_equal(node_connect(w.sim, &guests[i].n, &w.relay.n), 0);
        assert_int_equal(reserve(w.sim, &guests[i], &w.relay), 0);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        struct wr_ip ip = {.family = 4, .bytes = {9, 9, 9, (uint8_t)(i + 1)}};
        if (one_network)
            crowd[i].n.host = sim_host_add(w.sim, &(struct sim_host_options){.ip4 = ip});
        member_up(&crowd[i], w.sim, 100 + i);
        bad[i] = (struct sender){.err = 1};
        int err = reach(&w, &crowd[i], &guests[i % 3]);
        assert_true(err == 0 || (one_network && err == WR_EFULL));
        if (err == 0)
            begin(&crowd[i], &guests[i % 3], &bad[i], 256u << 20);
        carried += err == 0;
    }
    assert_int_equal(carried, one_network ? 3 * WR_RELAY_CIRCUITS_PER_PEER / 2 : CROWD);
    sim_run(w.sim, 10 * WR_SEC);
    before = w.b.got;
    size_t left[CROWD];
    for (unsigned i = 0; i < CROWD; i++)
        left[i] = bad[i].left;
    for (unsigned second = 0; second < 30; second++) {
        for (unsigned i = 0; i < CROWD; i++) {    /* to one that has as many as it may */
            struct wr_maddr at = circuit_of(&w.relay);
            static int ignored;    /* answers come when they like */
            (void)wr_swarm_connect(crowd[i].n.swarm, id_of(&guests[(i + 1) % 3]), &at, 1, WR_ORIGIN_OWNER,
                                   WR_CONNECT_FRESH, node_on_connect, &ignored, NULL);
            wr_relay_client_drop(crowd[i].client, id_of(&w.relay));
            (void)wr_relay_client_hold(crowd[i].client, id_of(&w.relay));
        }
        sim_run(w.sim, WR_SEC);
    }
    const struct wr_relay_server_stats stats = stats_of(&w.relay);
    assert_true(stats.refused_peer + stats.refused_net >= 1000);
    size_t flooded = w.b.got - before;
    if (flooded < alone * 8 / 10)
        print_error("%zu bytes alone, %zu in the flood\n", alone, flooded);
    assert_true(flooded >= alone * 8 / 10);
    for (unsigned i = 0; i < CROWD; i++) {
        assert_true(bad[i].err == 1 && (bad[i].left < left[i] || !left[i]));    /* nobody starves */
        member_down(&crowd[i]);
    }
    for (unsigned i = 0; i < 3; i++)
        member_down(&guests[i]);
    world_down(&w);
    wr_free(crowd);
    wr_free(bad);
}

static void test_floods_leave_the_others_their_rate(void **state)
{
    (void)state;
    flood(false);
    flood(true);
}

/* Of AddressSanitizer's runtime, where that is the allocator. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t allocated(void)
{
    if (__sanitizer_get_current_allocated_bytes)
        return __sanitizer_get_current_allocated_bytes();
    return mallinfo2().uordblks;
}

/* What a place costs us, everything of ours together. */
static void test_memory_of_a_reservation(void **state)
{
    enum { GUESTS = 60 };
    struct world w;
    struct member *crowd = wr_alloc_array(GUESTS, sizeof(*crowd));
    (void)state;
    assert_non_null(crowd);
    world_up(&w, &(struct sim_options){.seed = 18}, &lent);
    for (unsigned i = 0; i < GUESTS; i++) {
        member_up(&crowd[i], w.sim, 200 + i);
        assert_int_equal(node_connect(w.sim, &crowd[i].n, &w.relay.n), 0);
    }
    sim_run(w.sim, 30 * WR_SEC);
    size_t before = allocated();
    for (unsigned i = 0; i < GUESTS; i++)
        assert_int_equal(reserve(w.sim, &crowd[i], &w.relay), 0);
    sim_run(w.sim, 30 * WR_SEC);
    size_t each = (allocated() - before) / GUESTS;    /* theirs and ours */
    assert_int_equal(stats_of(&w.relay).guests, GUESTS);
    if (each > 8192)
        print_error("%zu bytes\n", each);
    assert_true(each <= 8192);
    for (unsigned i = 0; i < GUESTS; i++)
        member_down(&crowd[i]);
    world_down(&w);
    wr_free(crowd);
}

static void test_each_allocation_may_fail(void **state)
{
    (void)state;
    for (uint64_t skip = 0;; skip++) {
        struct world w;
        struct sender c;
        world_up(&w, &(struct sim_options){.seed = 15, .rtt = 60 * WR_MSEC}, &lent);
        struct wr_maddr at = circuit_of(&w.relay);
        assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w.a.n.swarm), id_of(&w.b), wr_maddr_bytes(&at),
                                               WR_TTL_TEMP, false),
                         0);
        sim_alloc_fail(skip, 1);
        int err = wr_relay_client_hold(w.b.client, id_of(&w.relay));
        assert_true(err == 0 || err == WR_ELIMIT);
        sim_run(w.sim, WR_SEC);
        begin(&w.a, &w.b, &c, 40000);
        sim_run(w.sim, 70 * WR_SEC);
        bool all = sim_alloc_count() <= skip;
        sim_alloc_fail(0, 0);
        assert_int_not_equal(c.err, 1);
        world_down(&w);
        if (all)
            break;
    }
}

static void test_ends_in_flight(void **state)
{
    (void)state;
    for (unsigned ms = 0; ms < 600; ms += 20) {
        for (int who = 0; who < 3; who++) {
            struct world w;
            struct sender c;
            world_up(&w, &(struct sim_options){.seed = 16, .rtt = 60 * WR_MSEC}, &lent);
            assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
            struct wr_maddr at = circuit_of(&w.relay);
            assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w.a.n.swarm), id_of(&w.b), wr_maddr_bytes(&at),
                                                   WR_TTL_TEMP, false),
                             0);
            begin(&w.a, &w.b, &c, 1u << 20);
            sim_run(w.sim, ms * WR_MSEC);
            struct member *of[] = {&w.a, &w.b, &w.relay};
            for (int i = 0; i < 3; i++) {
                member_down(of[(who + i) % 3]);
                sim_run(w.sim, 50 * WR_MSEC);
            }
            assert_true(c.err < 0);
            sim_destroy(w.sim);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reserve_and_connect),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_refresh),
        cmocka_unit_test(test_wrong_clock),
        cmocka_unit_test(test_lost_with_the_connection),
        cmocka_unit_test(test_asked_again_over_the_next_connection),
        cmocka_unit_test(test_a_guest_is_asked_over_what_it_has_left),
        cmocka_unit_test(test_limits_of_a_circuit),
        cmocka_unit_test(test_no_limits),
        cmocka_unit_test(test_rates_are_kept),
        cmocka_unit_test(test_rates_change),
        cmocka_unit_test(test_slow_receiver),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_a_stale_way_is_forgotten),
        cmocka_unit_test(test_two_addresses_of_one_relay),
        cmocka_unit_test(test_ceilings),
        cmocka_unit_test(test_who_is_allowed_finds_room),
        cmocka_unit_test(test_one_network_does_not_take_all),
        cmocka_unit_test(test_floods_leave_the_others_their_rate),
        cmocka_unit_test(test_memory_of_a_reservation),
        cmocka_unit_test(test_each_allocation_may_fail),
        cmocka_unit_test(test_ends_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
