/* Good manners of a swarm on the network: a victim named by a thousand false peers is left alone, the household's
 * router keeps room for others, and what lies on our own link is free. */
#include "tests/sim/simnode.h"

#define VICTIM_PEERS 1000

static unsigned answers;

static void on_connected(void *arg, int err, struct wr_conn *conn)
{
    (void)arg;
    (void)err;
    (void)conn;
    answers++;
}

static struct wr_peerid made_up(unsigned i)
{
    struct wr_peerid id = {.len = 38, .bytes = {0x00, 0x24, 0x08, 0x01, 0x12, 0x20, (uint8_t)(i >> 8), (uint8_t)i}};
    return id;
}

static void dial(struct node *n, unsigned peer, unsigned host, uint16_t port, bool quic, enum wr_addr_origin origin)
{
    struct wr_addr at = {.ip = {4, {11, 9, (uint8_t)(host / 250), (uint8_t)(2 + host % 250)}}, .port = port};
    struct wr_maddr addr;
    struct wr_peerid id = made_up(peer);
    assert_int_equal(wr_maddr_from_addr(&at, quic, &addr), 0);
    if (wr_swarm_connect(n->swarm, &id, &addr, 1, origin, 0, on_connected, NULL, NULL) != 0)
        answers++;
}

/* A hostile DHT answer: a thousand peers, all at one address that never answers, each on another port, too. */
static void a_victim_is_left_alone(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
        struct node n = {0};
        node_start(&n, sim, 1);
        sim_run(sim, WR_SEC);
        uint64_t cap = n.limits.of[WR_LIMIT_SILENT_TRIES].max;
        struct sim_traffic before = *sim_host_traffic(n.host);
        answers = 0;
        for (unsigned i = 0; i < VICTIM_PEERS; i++) {
            dial(&n, i, 7, kind == 0 ? 4001 : (uint16_t)(1000 + i), kind == 2, WR_ORIGIN_STRANGER);
            sim_run(sim, 20 * WR_MSEC);
        }
        sim_run(sim, 5 * WR_MIN);
        assert_int_equal(answers, VICTIM_PEERS);
        const struct sim_traffic *after = sim_host_traffic(n.host);
        /* Half a minute of naming, and dials that waited: the burst, and a try a minute. */
        if (kind < 2)
            assert_in_range(after->connects - before.connects, 1, cap + 2);
        else
            assert_in_range(after->datagrams - before.datagrams, 1, 9 * (cap + 2));
        assert_true(kind == 0 || n.limits.of[WR_LIMIT_SILENT_TRIES].refused > 0);
        node_stop(&n);
        sim_destroy(sim);
    }
}

/* The same dead address, named by many: it is knocked at now and then, not once for each. */
static void a_dead_address_is_not_dialled_for_everybody(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 3});
    struct node n = {0};
    node_start(&n, sim, 1);
    uint64_t before = sim_host_traffic(n.host)->connects;
    dial(&n, 0, 7, 4001, false, WR_ORIGIN_STRANGER);
    sim_run(sim, WR_DIAL_ADDR_TIMEOUT + 2 * WR_SEC);
    assert_int_equal(sim_host_traffic(n.host)->connects, before + 1);
    for (unsigned i = 1; i < 5; i++) {    /* within the back-off that the first one left behind */
        dial(&n, i, 7, 4001, false, WR_ORIGIN_STRANGER);
        sim_run(sim, 200 * WR_MSEC);
    }
    assert_int_equal(sim_host_traffic(n.host)->connects, before + 1);
    sim_run(sim, WR_DIAL_ADDR_TIMEOUT + 5 * WR_SEC);    /* and later again */
    dial(&n, 9, 7, 4001, false, WR_ORIGIN_STRANGER);
    sim_run(sim, 200 * WR_MSEC);
    assert_int_equal(sim_host_traffic(n.host)->connects, before + 2);
    node_stop(&n);
    sim_destroy(sim);
}

/* Behind a router of 64 sessions: never more than 48 for us, with what it remembers of the past. */
static void a_small_router_is_not_filled(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
    struct node n = {.host = sim_host_add(sim, &(struct sim_host_options){.lan = 3, .ip4 = {4, {192, 168, 1, 10}}})};
    node_start(&n, sim, 1);
    wr_limits_sessions(&n.limits, 64);
    uint64_t before = sim_host_traffic(n.host)->connects, most = 0, dialled = 0;
    for (unsigned i = 0; i < 600; i++) {
        dial(&n, i, i, 4001, i % 2 == 0, WR_ORIGIN_STRANGER);
        sim_run(sim, WR_SEC);
        uint64_t sessions = n.limits.of[WR_LIMIT_SESSIONS].used;
        most = sessions > most ? sessions : most;
    }
    dialled = sim_host_traffic(n.host)->connects - before;
    assert_int_equal(most, 48);
    assert_int_equal(n.limits.of[WR_LIMIT_SESSIONS].peak, 48);
    assert_true(n.limits.of[WR_LIMIT_SESSIONS].refused > 0);
    /* SYNs that nobody answers are remembered for two minutes: the rest of ten minutes' dials got their turn. */
    assert_in_range(dialled, 48, 48 * 6);
    sim_run(sim, 3 * WR_MIN);
    assert_int_equal(n.limits.of[WR_LIMIT_SESSIONS].used, 0);
    node_stop(&n);
    sim_destroy(sim);
}

/* Neighbours cost nothing, and the owner's word counts more than an address that was silent. */
static void our_own_link_is_free(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
    struct node a = {.host = sim_host_add(sim, &(struct sim_host_options){.lan = 3, .ip4 = {4, {192, 168, 1, 10}}})};
    struct node b = {.host = sim_host_add(sim, &(struct sim_host_options){.lan = 3, .ip4 = {4, {192, 168, 1, 11}}})};
    node_start(&a, sim, 1);
    node_start(&b, sim, 2);
    wr_limits_sessions(&a.limits, 64);
    assert_int_equal(node_connect(sim, &a, &b), 0);
    assert_int_equal(a.limits.of[WR_LIMIT_SESSIONS].peak, 0);
    assert_int_equal(b.limits.of[WR_LIMIT_SESSIONS].peak, 0);
    uint64_t before = sim_host_traffic(a.host)->connects;
    for (unsigned i = 0; i < 40; i++) {
        dial(&a, i, 7, 4001, false, WR_ORIGIN_OWNER);
        sim_run(sim, 10 * WR_SEC);
    }
    assert_int_equal(sim_host_traffic(a.host)->connects - before, 40);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* A neighbour is still somebody else: strangers cannot have us knock at his ports, from inside his firewall. */
static void a_neighbour_is_no_target(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
    struct node n = {.host = sim_host_add(sim, &(struct sim_host_options){.lan = 3, .ip4 = {4, {11, 9, 0, 10}}})};
    node_start(&n, sim, 1);
    sim_run(sim, WR_SEC);
    struct wr_ip neighbour = {4, {11, 9, 0, 9}};
    assert_true(wr_policy_on_link(wr_swarm_policy(n.swarm), &neighbour));
    uint64_t before = sim_host_traffic(n.host)->connects;
    for (unsigned i = 0; i < 300; i++) {
        dial(&n, i, 7, (uint16_t)(1000 + i), false, WR_ORIGIN_STRANGER);
        sim_run(sim, 20 * WR_MSEC);
    }
    assert_in_range(sim_host_traffic(n.host)->connects - before, 1, n.limits.of[WR_LIMIT_SILENT_TRIES].max + 2);
    assert_int_equal(n.limits.of[WR_LIMIT_SESSIONS].peak, 0);    /* no router in between */
    /* Who told of himself on the link is tried all the same. */
    before = sim_host_traffic(n.host)->connects;
    for (unsigned i = 300; i < 340; i++) {
        dial(&n, i, 7, (uint16_t)(1000 + i), false, WR_ORIGIN_LAN);
        sim_run(sim, 10 * WR_SEC);
    }
    assert_int_equal(sim_host_traffic(n.host)->connects - before, 40);
    node_stop(&n);
    sim_destroy(sim);
}

static bool out(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    (void)now;
    head->from.ip = gateway->ip4;
    return true;
}

static bool in(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    (void)gateway;
    (void)now;
    head->to.ip = (struct wr_ip){4, {10, 0, 0, 10}};
    return true;
}

/* A connection holds its session as long as it lives, behind a NAT that lets strangers in. */
static void connections_hold_their_sessions(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
    struct sim_gateway router = {.ip4 = {4, {11, 3, 0, 2}}, .outbound = out, .inbound = in};
    sim_gateway_add(sim, &router);
    struct node far = {0}, home = {
        .host = sim_host_add(sim, &(struct sim_host_options){.ip4 = {4, {10, 0, 0, 10}}, .gateway = &router})};
    node_start(&home, sim, 1);
    node_start(&far, sim, 2);
    struct wr_addr outside = {.ip = router.ip4, .port = PORT};
    assert_int_equal(wr_maddr_from_addr(&outside, false, &home.addr), 0);
    assert_int_equal(node_connect(sim, &home, &far), 0);
    sim_run(sim, 10 * WR_MIN);
    assert_int_equal(home.limits.of[WR_LIMIT_SESSIONS].used, 1);
    assert_int_equal(far.limits.of[WR_LIMIT_SESSIONS].used, 0);    /* it has a public address */
    wr_swarm_disconnect(home.swarm, wr_swarm_self(far.swarm), WR_CONN_OK);
    sim_run(sim, WR_MIN);
    assert_int_equal(home.limits.of[WR_LIMIT_SESSIONS].used, 0);
    /* The other way round it counts as well. */
    assert_int_equal(node_connect(sim, &far, &home), 0);
    sim_run(sim, WR_MIN);
    assert_int_equal(home.limits.of[WR_LIMIT_SESSIONS].used, 1);
    node_stop(&home);
    node_stop(&far);
    sim_destroy(sim);
}

enum { CROWD = 12, CALLS = 6 };    /* strangers of one network, and how often each calls: more than a router of 64 has */

static void nothing(void *arg)
{
    (void)arg;
}

static void ignore_bytes(void *arg, uint8_t *data, size_t len)
{
    (void)arg, (void)data, (void)len;
}

static void on_hung_up(void *arg, int err)
{
    (void)err;
    *(struct wr_sock **)arg = NULL;
}

static const struct wr_sock_ops silent_ops = {
    .on_open = nothing, .on_read = ignore_bytes, .on_drain = nothing, .on_close = on_hung_up};

/* Strangers call in through a NAT that lets them, and say nothing. We still call out, and others get in. */
static void who_calls_in_keeps_nobody_out(void **state)
{
    (void)state;
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1, .rtt = 40 * WR_MSEC});
    struct sim_gateway router = {.ip4 = {4, {11, 3, 0, 2}}, .outbound = out, .inbound = in};
    sim_gateway_add(sim, &router);
    struct node far = {0}, late = {0}, home = {
        .host = sim_host_add(sim, &(struct sim_host_options){.ip4 = {4, {10, 0, 0, 10}}, .gateway = &router})};
    struct sim_host *crowd[CROWD];
    struct wr_sock *calls[CROWD * CALLS] = {0};
    struct wr_addr outside = {.ip = router.ip4, .port = PORT};
    node_start(&home, sim, 1);
    node_start(&far, sim, 2);
    node_start(&late, sim, 3);
    wr_limits_sessions(&home.limits, 64);
    assert_int_equal(wr_maddr_from_addr(&outside, false, &home.addr), 0);
    for (unsigned i = 0; i < CROWD; i++) {
        struct wr_ip ip = {4, {77, 7, (uint8_t)i, 1}};
        crowd[i] = sim_host_add(sim, &(struct sim_host_options){.name = "crowd", .ip4 = ip});
    }
    for (unsigned i = 0; i < CROWD * CALLS; i++) {
        struct wr_env *env = sim_host_env(crowd[i % CROWD]);
        assert_int_equal(wr_env_connect(env, &outside, NULL, &silent_ops, &calls[i], &calls[i]), 0);
        sim_run(sim, 10 * WR_MSEC);
    }
    sim_run(sim, 100 * WR_MSEC);
    assert_in_range(home.limits.of[WR_LIMIT_SESSIONS].used, 30, 40);
    assert_int_equal(node_connect(sim, &home, &far), 0);
    assert_int_equal(node_connect(sim, &late, &home), 0);
    for (unsigned i = 0; i < CROWD * CALLS; i++)
        if (calls[i])
            wr_sock_close(calls[i], true);
    node_stop(&home);
    node_stop(&far);
    node_stop(&late);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_victim_is_left_alone),
        cmocka_unit_test(a_dead_address_is_not_dialled_for_everybody),
        cmocka_unit_test(a_small_router_is_not_filled),
        cmocka_unit_test(our_own_link_is_free),
        cmocka_unit_test(a_neighbour_is_no_target),
        cmocka_unit_test(connections_hold_their_sessions),
        cmocka_unit_test(who_calls_in_keeps_nobody_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
