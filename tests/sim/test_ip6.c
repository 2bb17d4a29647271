/* IPv6 in virtual time: networks where it leads nowhere, privacy addresses that come and go, and providers that give
 * out another prefix. */
#include "tests/sim/quic_world.h"
#include "transport/dial.h"

static struct sim *world(uint64_t seed)
{
    return sim_create(&(struct sim_options){.seed = seed, .rtt = 60 * WR_MSEC});
}

static struct wr_maddr maddr_of(const struct wr_ip *ip, uint16_t port, bool quic)
{
    struct wr_addr at = {.ip = *ip, .port = port};
    struct wr_maddr ma;
    assert_int_equal(wr_maddr_from_addr(&at, quic, &ma), 0);
    return ma;
}

/* ---- networks where IPv6 leads nowhere ------------------------------------------------------------------ */

/* The path of one machine: IPv6 gets lost on it, or UDP does. */
struct path {
    struct sim_gateway gateway;
    struct wr_ip inner;
    bool drops_ip6, drops_udp;
};

static bool lost_on(const struct path *p, const struct sim_head *head)
{
    return (p->drops_ip6 && head->to.ip.family == 6) || (p->drops_udp && head->kind == SIM_DATAGRAM);
}

static bool path_out(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    (void)now;
    if (head->from.ip.family == 4)
        head->from.ip = gateway->ip4;
    return !lost_on(gateway->state, head);
}

static bool path_in(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    const struct path *p = gateway->state;
    (void)now;
    if (head->to.ip.family == 4)
        head->to.ip = p->inner;
    return !lost_on(p, head);
}

static const struct wr_ip home6 = {6, {0x2a, 0x0e, 7, [15] = 9}};

static void start_behind(struct path *p, struct sim *sim, struct node *n)
{
    p->inner = (struct wr_ip){4, {192, 168, 1, 2}};
    p->gateway = (struct sim_gateway){.ip4 = {4, {45, 7, 7, 1}}, .ip6 = home6, .outbound = path_out,
                                      .inbound = path_in, .state = p};
    sim_gateway_add(sim, &p->gateway);
    n->host = sim_host_add(sim, &(struct sim_host_options){
        .name = "inside", .ip4 = p->inner, .ip6 = home6, .gateway = &p->gateway});
    node_start(n, sim, 1);
}

/* Listens on both families over both transports. */
static void start_everywhere(struct node *n, struct sim *sim, uint8_t seed, struct wr_maddr out[static 4])
{
    node_start(n, sim, seed);
    out[0] = n->addr;
    out[1] = maddr_of(sim_host_ip4(n->host), 4001, false);
    out[2] = maddr_of(sim_host_ip6(n->host), 4001, true);
    out[3] = maddr_of(sim_host_ip6(n->host), 4001, false);
    for (int i = 1; i < 4; i++)
        assert_int_equal(wr_swarm_listen(n->swarm, wr_maddr_bytes(&out[i])), 0);
}

struct way {
    bool ip6, udp;
    wr_time took;
};

static struct way connect_over(struct sim *sim, struct node *a, struct node *b, const struct wr_maddr *addrs,
                               size_t count)
{
    struct result r = {0};
    wr_time begun = sim_now(sim);
    assert_int_equal(wr_swarm_connect(a->swarm, wr_swarm_self(b->swarm), addrs, count, WR_ORIGIN_OWNER, 0,
                                      on_connect, &r, NULL),
                     0);
    while (!r.done)
        sim_run(sim, 5 * WR_MSEC);
    assert_int_equal(r.err, 0);
    struct way way = {r.conn->remote.ip.family == 6, r.conn->udp, sim_now(sim) - begun};
    sim_run(sim, WR_SEC);
    wr_swarm_disconnect(a->swarm, wr_swarm_self(b->swarm), WR_CONN_OK);
    sim_run(sim, 6 * WR_SEC);    /* a stranger may come every five */
    return way;
}

static void test_a_network_without_ip6_costs_nothing_after_a_while(void **state)
{
    (void)state;
    struct sim *sim = world(31);
    struct node a = {0}, b = {0};
    struct path path = {.drops_ip6 = true};
    struct wr_maddr addrs[4];
    struct way way;
    int tries = 0;
    start_behind(&path, sim, &a);
    start_everywhere(&b, sim, 2, addrs);
    for (int i = 0; i < WR_BLACKHOLE_WINDOW; i++) {
        way = connect_over(sim, &a, &b, addrs, 4);
        assert_true(!way.ip6 && way.udp);
        assert_in_range(way.took, 305 * WR_MSEC, 330 * WR_MSEC);    /* IPv6's head start and a round trip */
    }
    way = connect_over(sim, &a, &b, addrs, 4);
    assert_true(!way.ip6 && way.udp);    /* UDP is not to blame */
    assert_in_range(way.took, 55 * WR_MSEC, 75 * WR_MSEC);
    assert_int_equal(a.swarm->udp.lost, 0);
    /* It works again: noticed when its turn comes to go first, and believed at once. */
    path.drops_ip6 = false;
    while (!connect_over(sim, &a, &b, addrs, 4).ip6)
        assert_in_range(++tries, 1, WR_BLACKHOLE_PROBE);
    way = connect_over(sim, &a, &b, addrs, 4);
    assert_true(way.ip6 && way.udp);
    assert_in_range(way.took, 55 * WR_MSEC, 75 * WR_MSEC);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* Who can be met over IPv6 alone is, and that ends the suspicion, too. */
static void test_a_peer_with_ip6_alone_shows_that_it_works(void **state)
{
    (void)state;
    struct sim *sim = world(32);
    struct node a = {0}, b = {0}, six = {0};
    struct path path = {.drops_ip6 = true};
    struct wr_maddr addrs[4], addrs6[4];
    start_behind(&path, sim, &a);
    start_everywhere(&b, sim, 2, addrs);
    start_everywhere(&six, sim, 3, addrs6);
    for (int i = 0; i < WR_BLACKHOLE_WINDOW; i++)
        (void)connect_over(sim, &a, &b, addrs, 4);
    assert_int_equal(a.swarm->ip6.lost, WR_BLACKHOLE_WINDOW);
    path.drops_ip6 = false;
    struct way way = connect_over(sim, &a, &six, &addrs6[2], 2);
    assert_true(way.ip6 && way.udp);
    assert_in_range(way.took, 55 * WR_MSEC, 75 * WR_MSEC);
    assert_int_equal(a.swarm->ip6.lost, 0);
    assert_true(connect_over(sim, &a, &b, addrs, 4).ip6);
    node_stop(&a);
    node_stop(&b);
    node_stop(&six);
    sim_destroy(sim);
}

/* Each is told from the other: where UDP is dropped in both families IPv6 stays first, and where both are broken TCP
 * over IPv4 ends up alone in front. */
static void test_udp_and_ip6_are_judged_apart(void **state)
{
    (void)state;
    struct sim *sim = world(33);
    struct node a = {0}, b = {0};
    struct path path = {.drops_udp = true};
    struct wr_maddr addrs[4];
    struct way way = {0};
    start_behind(&path, sim, &a);
    start_everywhere(&b, sim, 2, addrs);
    for (int i = 0; i <= WR_BLACKHOLE_WINDOW; i++)
        way = connect_over(sim, &a, &b, addrs, 4);
    assert_true(way.ip6 && !way.udp);
    assert_in_range(way.took, 115 * WR_MSEC, 135 * WR_MSEC);
    assert_int_equal(a.swarm->ip6.lost, 0);
    path.drops_ip6 = true;
    for (int i = 0; i <= WR_BLACKHOLE_WINDOW; i++)
        way = connect_over(sim, &a, &b, addrs, 4);
    if (way.took > 135 * WR_MSEC)    /* it was UDP's turn to go first */
        way = connect_over(sim, &a, &b, addrs, 4);
    assert_true(!way.ip6 && !way.udp);
    assert_in_range(way.took, 115 * WR_MSEC, 135 * WR_MSEC);
    node_stop(&a);
    node_stop(&b);
    sim_destroy(sim);
}

/* ---- addresses of ours that come and go ----------------------------------------------------------------- */

/* Listens on all addresses of both families over QUIC, and counts the changes of its network. */
struct mobile {
    struct node node;
    struct sim_host *host;
    struct wr_swarm_watch watch;
    int networks;
};

static void on_mobile_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    wr_list_entry(watch, struct mobile, watch)->networks += event->type == WR_SWARM_NETWORK_CHANGED;
}

static void mobile_start(struct mobile *m, struct sim *sim)
{
    struct wr_maddr any6 = maddr_of(&(struct wr_ip){.family = 6}, 4001, true);
    node_start_at(&m->node, sim, 1, &(struct wr_addr){.ip.family = 4, .port = 4001});
    assert_int_equal(wr_swarm_listen(m->node.swarm, wr_maddr_bytes(&any6)), 0);
    m->host = m->node.host;
    m->watch.on_event = on_mobile_event;
    wr_swarm_watch(m->node.swarm, &m->watch);
    sim_run(sim, WR_SEC);
    assert_int_equal(m->networks, 0);
}

static void mobile_stop(struct mobile *m)
{
    wr_swarm_unwatch(&m->watch);
    node_stop(&m->node);
}

static bool announces(const struct mobile *m, const struct wr_ip *ip)
{
    struct wr_maddr all[WR_ADDRBOOK_MAX], want = maddr_of(ip, 4001, true);
    size_t count = wr_addrbook_announce(&m->node.swarm->addrbook, NULL, all, WR_ADDRBOOK_MAX);
    for (size_t i = 0; i < count; i++)
        if (wr_bytes_equal(wr_maddr_bytes(&all[i]), wr_maddr_bytes(&want)))
            return true;
    return false;
}

static const struct wr_ip privacy6 = {6, {0x2a, 0x0e, 9, [8] = 0x5e, [15] = 0x77}};

/* A connection leaves from the privacy address, as the system wants it, and outlives it; the lasting address is what
 * others are told once the other one is on its way out; and none of that is another network. */
static void test_a_privacy_address_runs_out(void **state)
{
    (void)state;
    struct sim *sim = world(34);
    struct mobile m = {0};
    struct node b = {0};
    struct wr_maddr addrs[4];
    struct client c;
    mobile_start(&m, sim);
    start_everywhere(&b, sim, 2, addrs);
    b.addr = addrs[2];
    const struct wr_ip *lasting = sim_host_ip6(m.host);
    sim_set_bandwidth(m.host, 1250000);
    sim_set_temporary(m.host, privacy6, false);
    assert_true(announces(&m, &privacy6) && announces(&m, lasting));
    talk(&m.node, &b, &c, 3 << 20);
    sim_run(sim, WR_SEC);
    const struct wr_conn *there = wr_swarm_conn(b.swarm, wr_swarm_self(m.node.swarm));
    assert_non_null(there);
    assert_true(wr_ip_equal(&there->remote.ip, &privacy6));
    sim_set_temporary(m.host, privacy6, true);
    assert_true(!announces(&m, &privacy6) && announces(&m, lasting));
    sim_run(sim, WR_SEC);
    assert_true(wr_ip_equal(&there->remote.ip, &privacy6));    /* still good for what is open */
    assert_false(c.closed);
    sim_set_temporary(m.host, (struct wr_ip){0}, false);
    sim_run(sim, 20 * WR_SEC);
    assert_whole(&c);
    assert_int_equal(m.node.opened, 1);
    assert_int_equal(b.opened, 1);
    assert_true(wr_ip_equal(&there->remote.ip, lasting));
    assert_int_equal(there->remote.port, 4001);
    assert_int_equal(m.networks, 0);
    mobile_stop(&m);
    node_stop(&b);
    sim_destroy(sim);
}

/* The provider gives out another prefix: the socket on :: is there too, the new address is what others are told, who
 * was connected stays, and who read the new address gets in. */
static void test_another_prefix(void **state)
{
    (void)state;
    struct sim *sim = world(35);
    struct mobile m = {0};
    struct node b = {0}, other = {0};
    struct wr_maddr addrs[4], fresh;
    struct client c;
    struct wr_ip next = {6, {0x2a, 0x0e, 8, 1, [15] = 9}};
    mobile_start(&m, sim);
    start_everywhere(&b, sim, 2, addrs);
    b.addr = addrs[2];
    node_start(&other, sim, 3);
    struct wr_ip before = *sim_host_ip6(m.host), ip4 = *sim_host_ip4(m.host);
    sim_set_bandwidth(m.host, 1250000);
    talk(&m.node, &b, &c, 3 << 20);
    sim_run(sim, WR_SEC);
    assert_true(announces(&m, &before));
    sim_move(m.host, ip4, next, 0);
    sim_run(sim, WR_MSEC);
    assert_true(!announces(&m, &before) && announces(&m, &next));
    assert_int_equal(m.networks, 1);
    sim_run(sim, 20 * WR_SEC);
    assert_whole(&c);
    assert_int_equal(b.opened, 1);
    const struct wr_conn *there = wr_swarm_conn(b.swarm, wr_swarm_self(m.node.swarm));
    assert_non_null(there);
    assert_true(wr_ip_equal(&there->remote.ip, &next));
    fresh = maddr_of(&next, 4001, true);
    struct way way = connect_over(sim, &other, &m.node, &fresh, 1);
    assert_true(way.ip6 && way.udp);
    mobile_stop(&m);
    node_stop(&b);
    node_stop(&other);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_network_without_ip6_costs_nothing_after_a_while),
        cmocka_unit_test(test_a_peer_with_ip6_alone_shows_that_it_works),
        cmocka_unit_test(test_udp_and_ip6_are_judged_apart),
        cmocka_unit_test(test_a_privacy_address_runs_out),
        cmocka_unit_test(test_another_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
