/* QUIC between two nodes in virtual time: handshakes, streams, loss, moves and ends. */
#include "tests/sim/quic_world.h"
#include "transport/quic_impl.h"

#include <sys/wait.h>
#include <unistd.h>

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

/* Far more streams in a connection's life than may be open at once: what ended gives its place back, at both ends. */
static void test_streams_without_end(void **state)
{
    (void)state;
    struct sim *sim = world(17);
    struct node a = {0}, b = {0};
    static struct client c[100];
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    for (int round = 0; round < 12; round++) {
        for (size_t i = 0; i < 100; i++)
            talk(round % 2 ? &b : &a, round % 2 ? &a : &b, &c[i], 10);
        sim_run(sim, WR_SEC);
        for (size_t i = 0; i < 100; i++)
            assert_whole(&c[i]);
    }
    assert_int_equal(a.opened, 1);
    assert_int_equal(a.limits.of[WR_LIMIT_STREAMS].used, 0);
    assert_int_equal(b.limits.of[WR_LIMIT_STREAMS].used, 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* Most of the streams that we may have stay, and there is room for ever more beside them. */
static void test_streams_that_stay(void **state)
{
    enum { MOST = 16, STAY = MOST / 2 - 1 };    /* half of them are ours */
    static const struct wr_stream_ops idle = {.on_open = NULL};
    (void)state;
    struct sim *sim = world(28);
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    a.limits.of[WR_LIMIT_STREAMS_PER_CONN].max = b.limits.of[WR_LIMIT_STREAMS_PER_CONN].max = MOST;
    talk(&a, &b, &c, 10);
    sim_run(sim, WR_SEC);
    for (int i = 0, err; i < STAY; i++) {
        struct wr_conn *conn = wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm));
        assert_non_null(conn);
        struct wr_stream *s = wr_conn_open_stream(conn, echo_offer, &idle, NULL, &err);
        assert_non_null(s);
        assert_int_equal(wr_stream_write(s, "stay", 4), 4);
    }
    sim_run(sim, WR_SEC);
    for (int round = 0; round < 5 * MOST; round++) {
        talk(&a, &b, &c, 10);
        sim_run(sim, WR_SEC);
        assert_whole(&c);
    }
    assert_int_equal(a.opened, 1);
    assert_int_equal(b.served, 1 + STAY + 5 * MOST);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_loss_and_reordering_cost_time_only(void **state)
{
    (void)state;
    struct sim *sim = sim_create(
        &(struct sim_options){.seed = 3, .rtt = 60 * WR_MSEC, .loss = 0.05, .reorder = 0.2});
    struct node a = {0}, b = {0};
    static struct client c[60];
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    for (int i = 0; i < 60; i++)
        talk(i & 1 ? &b : &a, i & 1 ? &a : &b, &c[i], 20000 + (size_t)i);
    sim_run(sim, 120 * WR_SEC);
    for (int i = 0; i < 60; i++)
        assert_whole(&c[i]);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* From the first byte to the last of an echo, of packets some of which overtake others. */
static wr_time echo_takes(double reorder)
{
    struct sim *sim = world(30);
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    sim_set_bandwidth(a.host, 12500000);
    sim_set_bandwidth(b.host, 12500000);
    sim_set_loss(sim, 0, reorder);
    talk(&a, &b, &c, 20000000);
    sim_run(sim, 60 * WR_SEC);
    assert_whole(&c);
    wr_time took = c.done_at;
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
    return took;
}

/* A packet that comes late counts, although what it acknowledges is not heard (WR_QUIC_ABORTS). */
static void test_what_was_overtaken_is_not_lost(void **state)
{
    (void)state;
    assert_in_range(echo_takes(0.2), 0, echo_takes(0) * 5 / 4);
}

/* What a link carries is used: windows on both sides grow with it, under the node's budget. */
static void test_a_long_fat_path_is_filled(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 4, .rtt = 100 * WR_MSEC});
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    sim_set_bandwidth(a.host, 12500000);    /* 100 Mbit/s: 1.25 MB are under way */
    sim_set_bandwidth(b.host, 12500000);
    wr_time begun = sim_now(sim);
    talk(&a, &b, &c, 24 << 20);
    sim_run(sim, 60 * WR_SEC);
    assert_whole(&c);
    /* 2 s at full rate, there and back at once; as much again for the start. */
    assert_in_range(c.done_at - begun, 2 * WR_SEC, 4500 * WR_MSEC);
    assert_true(b.limits.of[WR_LIMIT_WINDOW_EXTRA].peak > 0);
    node_stop(&a);
    node_stop(&b);
    sim_run(sim, WR_SEC);
    assert_int_equal(b.limits.of[WR_LIMIT_WINDOW_EXTRA].used, 0);
    assert_int_equal(b.limits.of[WR_LIMIT_MEMORY].used, 0);
    assert_int_equal(a.limits.of[WR_LIMIT_MEMORY].used, 0);
    sim_destroy(sim);
}

static void test_wrong_peer_id_is_refused(void **state)
{
    (void)state;
    struct sim *sim = world(5);
    struct node a = {0}, b = {0}, other = {0};
    struct result r = {0};
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    node_start(&other, sim, 3);
    assert_int_equal(wr_swarm_connect(a.swarm, wr_swarm_self(other.swarm), &b.addr, 1, WR_ORIGIN_OWNER, 0,
                                      on_connect, &r, NULL),
                     0);
    sim_run(sim, 5 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_EPEERID);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 0);
    assert_int_equal(wr_swarm_conn_count(b.swarm), 0);
    assert_int_equal(b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
    node_stop(&a);
    node_stop(&b);
    node_stop(&other);
    sim_destroy(sim);
}

static void test_nobody_there(void **state)
{
    (void)state;
    struct sim *sim = world(6);
    struct node a = {0}, b = {0};
    struct result r;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    sim_kill(b.host);
    dial(&a, &b, &r);
    sim_run(sim, 9 * WR_SEC);
    assert_false(r.done);
    sim_run(sim, 2 * WR_SEC);
    assert_true(r.done);
    assert_int_equal(r.err, WR_ETIMEOUT);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

static void test_both_dial_at_once(void **state)
{
    (void)state;
    struct sim *sim = world(7);
    struct node a = {0}, b = {0};
    struct result ab, ba;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    dial(&a, &b, &ab);
    dial(&b, &a, &ba);
    sim_run(sim, 5 * WR_SEC);
    assert_true(ab.done && ab.err == 0);
    assert_true(ba.done && ba.err == 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* ---- Retry --------------------------------------------------------------------------------------- */

static void test_retry_costs_one_round_trip(void **state)
{
    (void)state;
    struct sim *sim = world(12);
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    wr_quic_retry_always(b.swarm->quic, true);
    wr_time begun = sim_now(sim);
    talk(&a, &b, &c, 1);
    sim_run(sim, 2 * WR_SEC);
    assert_whole(&c);
    assert_in_range(c.first_at - begun, 180 * WR_MSEC, 183 * WR_MSEC);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* The time from a stranger's first packet to the answer. */
static wr_time stranger_is_answered(struct sim *sim, struct node *b, uint8_t seed)
{
    struct node a = {0};
    struct client c;
    node_start(&a, sim, seed);
    wr_time begun = sim_now(sim);
    talk(&a, b, &c, 1);
    sim_run(sim, 2 * WR_SEC);
    assert_whole(&c);
    node_stop(&a);
    sim_run(sim, WR_SEC);
    return c.first_at - begun;
}

/* Who comes while many handshakes are under way, or begin, has to prove his address; who comes before and after has not. */
static void test_newcomers_are_told_to_retry_under_load(void **state)
{
    (void)state;
    struct sim *sim = world(19);
    struct node b = {0};
    node_start(&b, sim, 1);
    assert_in_range(stranger_is_answered(sim, &b, 2), 120 * WR_MSEC, 123 * WR_MSEC);
    wr_limits_charge(&b.limits, WR_LIMIT_CONNS_HALF_OPEN, 64);
    assert_in_range(stranger_is_answered(sim, &b, 3), 180 * WR_MSEC, 183 * WR_MSEC);
    wr_limits_give(&b.limits, WR_LIMIT_CONNS_HALF_OPEN, 64);
    assert_in_range(stranger_is_answered(sim, &b, 4), 120 * WR_MSEC, 123 * WR_MSEC);
    b.swarm->quic->unproved = (struct wr_quic_rate){.since = sim_now(sim), .done = 1000};
    assert_in_range(stranger_is_answered(sim, &b, 5), 180 * WR_MSEC, 183 * WR_MSEC);
    node_stop(&b);
    sim_destroy(sim);
}

/* ---- NATs and links that change --------------------------------------------------------------------- */

/* Streams survive a NAT that forgets, whichever side has more to say. */
static void test_a_transfer_outlives_a_new_port_every_second(void **state)
{
    (void)state;
    struct sim *sim = world(13);
    struct node a = {0}, b = {0};
    struct nat nat;
    struct client c;
    nat_start(&nat, sim, &a);
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    sim_set_bandwidth(a.host, 1250000);
    talk(&a, &b, &c, 8 << 20);
    for (int i = 0; i < 120 && !c.closed; i++) {
        sim_run(sim, 900 * WR_MSEC + (wr_time)sim_random(sim, 200) * WR_MSEC);
        nat.port++;
    }
    assert_whole(&c);
    assert_true(nat.port > 20005);
    assert_int_equal(a.opened, 1);
    assert_int_equal(b.opened, 1);
    struct wr_conn *conn = wr_swarm_conn(b.swarm, wr_swarm_self(a.swarm));
    assert_non_null(conn);
    sim_run(sim, 30 * WR_SEC);
    assert_int_equal(conn->remote.port, nat.port);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* A machine that changes networks takes its connections along. */
static void test_streams_survive_a_move_of_ours(void **state)
{
    (void)state;
    struct sim *sim = world(20);
    struct node a = {0}, b = {0};
    struct client c;
    struct result r;
    node_start(&b, sim, 2);
    a.host = sim_host_add(sim, &(struct sim_host_options){.name = "mobile"});
    node_start_at(&a, sim, 1, &(struct wr_addr){.ip.family = 4, .port = 4002});
    sim_set_bandwidth(a.host, 1250000);
    talk(&a, &b, &c, 3 << 20);
    sim_run(sim, WR_SEC);
    struct wr_ip home = *sim_host_ip4(a.host), away = {4, {45, 1, 2, 3}};
    sim_move(a.host, away, (struct wr_ip){0}, 0);
    sim_run(sim, 20 * WR_SEC);
    assert_whole(&c);
    assert_int_equal(a.opened, 1);
    assert_int_equal(b.opened, 1);
    struct wr_conn *conn = wr_swarm_conn(b.swarm, wr_swarm_self(a.swarm));
    assert_non_null(conn);
    assert_true(wr_ip_equal(&conn->remote.ip, &away));
    assert_int_equal(conn->remote.port, 4002);
    /* One that the peer dialled cannot be taken along: it ends, to be dialled again. */
    wr_swarm_disconnect(a.swarm, wr_swarm_self(b.swarm), WR_CONN_OK);
    sim_run(sim, WR_SEC);
    struct wr_addr at = {.ip = away, .port = 4002};
    assert_int_equal(wr_maddr_from_addr(&at, true, &a.addr), 0);
    dial(&b, &a, &r);
    sim_run(sim, WR_SEC);
    assert_true(r.done && r.err == 0);
    sim_move(a.host, home, (struct wr_ip){0}, 0);
    sim_run(sim, WR_SEC);
    assert_int_equal(wr_swarm_conn_count(a.swarm), 0);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* ---- networks without UDP --------------------------------------------------------------------------- */

static bool no_udp_out(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    struct nat *nat = gateway->state;
    (void)now;
    head->from.ip = gateway->ip4;
    return head->kind != SIM_DATAGRAM || nat->port != 0;
}

static bool no_udp_in(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    struct nat *nat = gateway->state;
    (void)now;
    head->to.ip = nat->inner.ip;
    return head->kind != SIM_DATAGRAM || nat->port != 0;
}

/* Connects once more and says over what and how long that took. */
static bool connect_again(struct sim *sim, struct node *a, struct node *b, wr_time *took)
{
    struct result r = {0};
    struct wr_maddr addrs[2] = {b->addr};
    struct wr_addr at = {.ip = *sim_host_ip4(b->host), .port = 4001};
    assert_int_equal(wr_maddr_from_addr(&at, false, &addrs[1]), 0);
    wr_time begun = sim_now(sim);
    assert_int_equal(wr_swarm_connect(a->swarm, wr_swarm_self(b->swarm), addrs, 2, WR_ORIGIN_OWNER, 0,
                                      on_connect, &r, NULL),
                     0);
    while (!r.done)
        sim_run(sim, 5 * WR_MSEC);
    *took = sim_now(sim) - begun;
    assert_int_equal(r.err, 0);
    bool udp = r.conn->udp;
    sim_run(sim, WR_SEC);
    wr_swarm_disconnect(a->swarm, wr_swarm_self(b->swarm), WR_CONN_OK);
    sim_run(sim, 6 * WR_SEC);    /* a stranger may come every five */
    return udp;
}

static void test_a_network_without_udp_costs_nothing_after_a_while(void **state)
{
    (void)state;
    struct sim *sim = world(18);
    struct node a = {0}, b = {0};
    struct nat wall = {.inner.ip = {4, {192, 168, 1, 2}}};
    wr_time took;
    int tries = 0;
    wall.gateway = (struct sim_gateway){.ip4 = {4, {45, 7, 7, 1}}, .outbound = no_udp_out,
                                        .inbound = no_udp_in, .state = &wall};
    sim_gateway_add(sim, &wall.gateway);
    b.host = sim_host_add(sim, &(struct sim_host_options){.name = "far"});
    a.host = sim_host_add(sim, &(struct sim_host_options){
        .name = "walled", .ip4 = wall.inner.ip, .gateway = &wall.gateway});
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    struct wr_addr at = {.ip = *sim_host_ip4(b.host), .port = 4001};
    struct wr_maddr tcp;
    assert_int_equal(wr_maddr_from_addr(&at, false, &tcp), 0);
    assert_int_equal(wr_swarm_listen(b.swarm, wr_maddr_bytes(&tcp)), 0);
    for (int i = 0; i < WR_BLACKHOLE_WINDOW; i++) {
        assert_false(connect_again(sim, &a, &b, &took));
        assert_in_range(took, 365 * WR_MSEC, 390 * WR_MSEC);    /* QUIC's head start and TCP's own time */
    }
    assert_false(connect_again(sim, &a, &b, &took));
    assert_in_range(took, 115 * WR_MSEC, 135 * WR_MSEC);
    wall.port = 1;    /* it lets UDP through */
    while (!connect_again(sim, &a, &b, &took))
        assert_in_range(++tries, 1, WR_BLACKHOLE_PROBE);
    assert_true(connect_again(sim, &a, &b, &took));
    assert_in_range(took, 60 * WR_MSEC, 70 * WR_MSEC);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* Larger packets are tried, and given up again where the way gets narrower. */
static void test_the_path_gets_narrower(void **state)
{
    (void)state;
    struct sim *sim = world(14);
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    talk(&a, &b, &c, 4 << 20);
    sim_run(sim, 10 * WR_SEC);
    assert_whole(&c);
    const struct wr_quic_conn *qc =
        (const void *)wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm));
    assert_in_range(ngtcp2_conn_get_max_tx_udp_payload_size(qc->ng), 1400, 1452);
    sim_set_mtu(sim, 1252);
    talk(&a, &b, &c, 1 << 20);
    sim_run(sim, 60 * WR_SEC);
    assert_whole(&c);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* ---- refusals of the system --------------------------------------------------------------------------- */

static void test_a_full_socket_holds_everything_up_and_lets_it_go(void **state)
{
    (void)state;
    struct sim *sim = world(15);
    struct node a = {0}, b = {0};
    struct client c[2];
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    talk(&a, &b, &c[0], 1 << 20);
    talk(&a, &b, &c[1], 1000);
    for (int i = 0; i < 20; i++) {
        sim_jam(a.host, true);
        sim_run(sim, 200 * WR_MSEC);
        sim_jam(a.host, false);
        sim_run(sim, 200 * WR_MSEC);
    }
    sim_run(sim, 10 * WR_SEC);
    assert_whole(&c[0]);
    assert_whole(&c[1]);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* What the system does not take is neither thrown away nor sent blindly: it waits, and no loss slows the sender down. */
static void test_a_full_socket_loses_nothing(void **state)
{
    (void)state;
    struct sim *sim = world(15);
    struct node a = {0}, b = {0};
    struct client c;
    struct wr_conn_stats stats;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    talk(&a, &b, &c, 8 << 20);
    sim_run(sim, 300 * WR_MSEC);
    for (int i = 0; i < 10; i++) {
        sim_jam(a.host, true);
        sim_run(sim, 20 * WR_MSEC);
        sim_jam(a.host, false);
        sim_run(sim, 20 * WR_MSEC);
    }
    assert_false(c.closed);
    wr_conn_stats(wr_swarm_conn(a.swarm, wr_swarm_self(b.swarm)), &stats);
    assert_in_range(stats.loss_events, 0, 1);    /* a packet that does not fit behind what is kept */
    sim_run(sim, 20 * WR_SEC);
    assert_whole(&c);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* ---- replay ------------------------------------------------------------------------------------- */

static uint64_t lossy_story(uint64_t seed)
{
    struct sim *sim = sim_create(
        &(struct sim_options){.seed = seed, .rtt = 60 * WR_MSEC, .loss = 0.05, .reorder = 0.2});
    struct node a = {0}, b = {0};
    struct client c;
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    talk(&a, &b, &c, 300000);
    sim_run(sim, 20 * WR_SEC);
    node_stop(&a);
    node_stop(&b);
    uint64_t trace = sim_trace(sim);
    sim_destroy(sim);
    return trace;
}

/* In a process of its own: GnuTLS draws from the seed only when it begins. */
static uint64_t in_a_child(uint64_t seed)
{
    int ends[2];
    uint64_t trace = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        trace = lossy_story(seed);
        _exit(write(ends[1], &trace, sizeof(trace)) == sizeof(trace) ? 0 : 1);
    }
    assert_int_equal(read(ends[0], &trace, sizeof(trace)), sizeof(trace));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(ends[0]);
    close(ends[1]);
    return trace;
}

static void test_one_seed_one_run(void **state)
{
    (void)state;
    uint64_t once = in_a_child(7);
    assert_int_equal(in_a_child(7), once);
    assert_int_not_equal(in_a_child(8), once);
}

/* Every allocation of a dial, an echo and a close fails once, in either node: the nodes live on, and what they
 * held is given back. */
static void test_memory_runs_out(void **state)
{
    (void)state;
    uint64_t all = 1, refused = 0;
    for (uint64_t skip = 0; skip < all; skip++) {
        struct sim *sim = world(17);
        struct node a = {0}, b = {0};
        struct result r = {0};
        struct client c = {0};
        node_start(&a, sim, 1);
        node_start(&b, sim, 2);
        sim_alloc_fail(skip, skip ? 1 : 0);
        int rc = wr_swarm_connect(a.swarm, wr_swarm_self(b.swarm), &b.addr, 1, WR_ORIGIN_OWNER, 0,
                                  on_connect, &r, NULL);
        sim_run(sim, WR_SEC);
        if (rc == 0 && r.done && r.err == 0)
            talk_if_open(&a, &b, &c, 50000);
        sim_run(sim, 30 * WR_SEC);
        if (skip == 0)
            all = sim_alloc_count();
        refused += !c.closed || c.err != 0;
        sim_alloc_fail(0, 0);
        assert_true(rc != 0 || r.done);
        /* And then it works. */
        talk(&a, &b, &c, 1000);
        sim_run(sim, 30 * WR_SEC);
        assert_whole(&c);
        node_stop(&a);
        node_stop(&b);
        sim_run(sim, 2 * WR_SEC);
        assert_int_equal(a.limits.of[WR_LIMIT_MEMORY].used, 0);
        assert_int_equal(b.limits.of[WR_LIMIT_MEMORY].used, 0);
        assert_int_equal(b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
        assert_int_equal(b.limits.of[WR_LIMIT_STREAMS].used, 0);
        sim_destroy(sim);
    }
    assert_true(all > 100 && refused > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_byte_is_answered_in_two_round_trips),
        cmocka_unit_test(test_200_streams_at_once),
        cmocka_unit_test(test_streams_without_end),
        cmocka_unit_test(test_streams_that_stay),
        cmocka_unit_test(test_loss_and_reordering_cost_time_only),
        cmocka_unit_test(test_what_was_overtaken_is_not_lost),
        cmocka_unit_test(test_a_long_fat_path_is_filled),
        cmocka_unit_test(test_wrong_peer_id_is_refused),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_both_dial_at_once),
        cmocka_unit_test(test_retry_costs_one_round_trip),
        cmocka_unit_test(test_newcomers_are_told_to_retry_under_load),
        cmocka_unit_test(test_a_transfer_outlives_a_new_port_every_second),
        cmocka_unit_test(test_streams_survive_a_move_of_ours),
        cmocka_unit_test(test_a_network_without_udp_costs_nothing_after_a_while),
        cmocka_unit_test(test_the_path_gets_narrower),
        cmocka_unit_test(test_a_full_socket_holds_everything_up_and_lets_it_go),
        cmocka_unit_test(test_a_full_socket_loses_nothing),
        cmocka_unit_test(test_one_seed_one_run),
        cmocka_unit_test(test_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
