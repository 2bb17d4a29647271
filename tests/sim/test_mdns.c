/* LAN discovery between swarms on simulated links: who finds whom, how loud it is, what strangers can do. */
#include "tests/sim/simnode.h"

#include "node/mdns.h"

#include <stdio.h>

#define OTHER "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"

struct lan_node {
    struct node node;
    struct wr_mdns *mdns;
    unsigned told;
    struct wr_peerid last;
    struct wr_maddr last_addr;
    size_t last_count;
};

static void on_peer(void *arg, const struct wr_peerid *peer, const struct wr_maddr *addrs, size_t count)
{
    struct lan_node *n = arg;
    n->told++;
    n->last = *peer;
    n->last_addr = addrs[0];
    n->last_count = count;
}

static struct wr_ip ip4(unsigned net, unsigned host)
{
    return (struct wr_ip){.family = 4, .bytes = {192, 168, (uint8_t)net, (uint8_t)host}};
}

static void place(struct lan_node *n, struct sim *sim, unsigned lan, unsigned host)
{
    n->node.host =
        sim_host_add(sim, &(struct sim_host_options){.name = "lan", .lan = lan, .ip4 = ip4(lan, host)});
    node_start(&n->node, sim, lan * 256 + host);
}

static void discover(struct lan_node *n, const char *fingerprint)
{
    n->mdns = wr_mdns_create(&(struct wr_mdns_options){
        .swarm = n->node.swarm, .fingerprint = fingerprint, .on_peer = on_peer, .arg = n});
    assert_non_null(n->mdns);
}

static void leave(struct lan_node *n)
{
    wr_mdns_destroy(n->mdns);
    node_stop(&n->node);
}

static struct wr_mdns_stats stats(const struct lan_node *n)
{
    struct wr_mdns_stats s;
    wr_mdns_stats(n->mdns, &s);
    return s;
}

static bool found(const struct lan_node *n, const struct lan_node *peer)
{
    return n->told > 0 && wr_peerid_equal(&n->last, wr_swarm_self(peer->node.swarm));
}

struct world {
    struct sim *sim;
    struct lan_node a, b, far, secret, also;
};

static int setup(void **state)
{
    struct world *w = wr_alloc(sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = 31});
    place(&w->a, w->sim, 1, 10);
    place(&w->b, w->sim, 1, 11);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    leave(&w->a);
    leave(&w->b);
    sim_destroy(w->sim);
    wr_free(w);
    return 0;
}

static void test_two_on_a_link_find_each_other(void **state)
{
    struct world *w = *state;
    discover(&w->a, NULL);
    sim_run(w->sim, 10 * WR_SEC);
    assert_int_equal(w->a.told, 0);    /* nobody there, and we are not news to ourselves */
    discover(&w->b, NULL);
    sim_run(w->sim, WR_SEC);
    assert_true(found(&w->a, &w->b) && found(&w->b, &w->a));
    assert_int_equal(w->a.last_count, 1);
    assert_true(wr_bytes_equal(wr_maddr_bytes(&w->a.last_addr), wr_maddr_bytes(&w->b.node.addr)));
    /* It stands in the peerstore: a dial by name alone works. */
    int result = 1;
    assert_int_equal(wr_swarm_connect(w->a.node.swarm, wr_swarm_self(w->b.node.swarm), NULL, 0,
                                      WR_ORIGIN_LAN, 0, node_on_connect, &result, NULL),
                     0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(result, 0);
    /* Told once, not again with every answer. */
    sim_run(w->sim, 2 * WR_HOUR);
    assert_int_equal(w->a.told, 1);
    assert_int_equal(w->b.told, 1);
    assert_true(stats(&w->a).peers == 1 && stats(&w->a).bad == 0);
}

static void test_it_is_quiet(void **state)
{
    struct world *w = *state;
    discover(&w->a, NULL);
    discover(&w->b, NULL);
    sim_run(w->sim, 5 * WR_MIN);
    uint64_t queries = stats(&w->a).queries, answers = stats(&w->a).answers;
    assert_true(queries >= 8 && queries <= 10);
    sim_run(w->sim, 10 * WR_MIN);
    /* A question a minute each, and an answer to each question. */
    assert_true(stats(&w->a).queries - queries <= 11);
    assert_true(stats(&w->a).answers - answers <= 22);
}

static void test_other_links_and_networks_are_apart(void **state)
{
    struct world *w = *state;
    place(&w->far, w->sim, 2, 12);
    place(&w->secret, w->sim, 1, 13);
    place(&w->also, w->sim, 1, 14);
    discover(&w->a, NULL);
    discover(&w->far, NULL);
    discover(&w->secret, "0123456789abcdef");
    discover(&w->also, "0123456789abcdef");
    sim_run(w->sim, WR_MIN);
    assert_int_equal(w->a.told, 0);
    assert_int_equal(w->far.told, 0);
    assert_true(found(&w->secret, &w->also) && found(&w->also, &w->secret));
    leave(&w->far);
    leave(&w->secret);
    leave(&w->also);
}

static void test_goodbyes_and_silence(void **state)
{
    struct world *w = *state;
    discover(&w->a, NULL);
    discover(&w->b, NULL);
    sim_run(w->sim, 5 * WR_SEC);
    assert_int_equal(stats(&w->a).peers, 1);
    wr_mdns_destroy(w->b.mdns);
    w->b.mdns = NULL;
    sim_run(w->sim, WR_SEC);
    assert_int_equal(stats(&w->a).peers, 0);
    /* Back again is news. */
    discover(&w->b, NULL);
    sim_run(w->sim, 5 * WR_SEC);
    assert_int_equal(w->a.told, 2);
    /* Gone without a word: forgotten when its records expire. */
    sim_set_side(w->b.node.host, 1);
    sim_run(w->sim, 30 * WR_MIN);
    assert_int_equal(stats(&w->a).peers, 1);
    sim_run(w->sim, 45 * WR_MIN);
    assert_int_equal(stats(&w->a).peers, 0);
}

static void test_a_new_address_is_announced(void **state)
{
    struct world *w = *state;
    struct wr_maddr any;
    discover(&w->a, NULL);
    discover(&w->b, NULL);
    sim_run(w->sim, 30 * WR_SEC);
    assert_int_equal(wr_maddr_parse("/ip4/0.0.0.0/tcp/4002", &any), 0);
    assert_int_equal(wr_swarm_listen(w->b.node.swarm, wr_maddr_bytes(&any)), 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->a.told, 2);
    assert_int_equal(w->a.last_count, 2);
    /* Another address altogether, by moving: questions and answers start afresh. */
    sim_move(w->b.node.host, ip4(1, 77), (struct wr_ip){0}, 1);
    sim_run(w->sim, 2 * WR_SEC);
    assert_int_equal(w->a.told, 3);
    char text[WR_MADDR_TEXT];
    assert_string_equal(wr_maddr_print(wr_maddr_bytes(&w->a.last_addr), text, sizeof(text)),
                        "/ip4/192.168.1.77/tcp/4002");
}

/* Our own answers say nothing to us, the same id at another address does: the node has it proved. */
static void test_a_copy_of_our_key_on_the_link_is_news(void **state)
{
    struct world *w = *state;
    struct lan_node copy = {.node.host = sim_host_add(
                                w->sim, &(struct sim_host_options){
                                            .name = "copy", .lan = 1, .ip4 = ip4(1, 12)})};
    node_start(&copy.node, w->sim, 256 + 10); /* the seed of a */
    discover(&w->a, NULL);
    sim_run(w->sim, 3 * WR_SEC);
    discover(&copy, NULL);
    sim_run(w->sim, 2 * WR_MIN);
    assert_int_equal(w->a.told, 1);
    assert_true(wr_peerid_equal(&w->a.last, wr_swarm_self(w->a.node.swarm)));
    assert_int_equal(w->a.last_count, 1);
    assert_true(wr_bytes_equal(wr_maddr_bytes(&w->a.last_addr), wr_maddr_bytes(&copy.node.addr)));
    assert_null(wr_peerstore_find(wr_swarm_peerstore(w->a.node.swarm), &w->a.last));
    leave(&copy);
}

static void test_a_silenced_connection_makes_news_of_the_next_answer(void **state)
{
    struct world *w = *state;
    discover(&w->a, NULL);
    discover(&w->b, NULL);
    sim_run(w->sim, 5 * WR_SEC);
    assert_int_equal(node_connect(w->sim, &w->a.node, &w->b.node), 0);
    /* Closed in order: somebody meant it. */
    wr_swarm_disconnect(w->b.node.swarm, wr_swarm_self(w->a.node.swarm), WR_CONN_OK);
    sim_run(w->sim, 3 * WR_MIN);
    assert_int_equal(w->a.told, 1);
    /* The cable was pulled out for a while. */
    assert_int_equal(node_connect(w->sim, &w->a.node, &w->b.node), 0);
    sim_set_side(w->b.node.host, 1);
    sim_run(w->sim, 10 * WR_MIN);
    assert_int_equal(w->a.node.closed, 2);
    assert_int_equal(w->a.told, 1);
    sim_heal(w->sim);
    sim_run(w->sim, 70 * WR_SEC);
    assert_int_equal(w->a.told, 2);
    sim_run(w->sim, 10 * WR_MIN);
    assert_int_equal(w->a.told, 2);
    /* And after a change of our own network everybody who answers is news. */
    sim_move(w->a.node.host, ip4(1, 70), (struct wr_ip){0}, 1);
    sim_run(w->sim, 5 * WR_SEC);
    assert_int_equal(w->a.told, 3);
}

/* ---- a stranger on the link, with a socket of its own */

struct stranger {
    struct wr_udp *socket;
    unsigned heard;
    size_t last_len;
    uint8_t last[2048];
};

static void on_stranger(void *arg, const struct wr_addr *from, uint32_t ifindex, uint8_t *data, size_t len)
{
    struct stranger *s = arg;
    (void)from;
    (void)ifindex;
    s->heard++;
    s->last_len = len < sizeof(s->last) ? len : sizeof(s->last);
    memcpy(s->last, data, s->last_len);
}

static void stranger_open(struct stranger *s, struct sim_host *host, uint16_t port)
{
    static const struct wr_udp_ops ops = {.on_datagram = on_stranger};
    struct wr_addr any = {.ip = {.family = 4}, .port = port};
    assert_int_equal(wr_env_udp(sim_host_env(host), &any, true, &ops, s, &s->socket), 0);
}

static void stranger_send(struct stranger *s, struct wr_ip to, const struct wr_buf *packet)
{
    struct wr_addr at = {.ip = to, .port = WR_MDNS_PORT};
    assert_int_equal(wr_udp_send(s->socket, &at, 0, wr_buf_bytes(packet)), 0);
}

static const struct wr_ip mdns_group = {.family = 4, .bytes = {224, 0, 0, 251}};

static void make_names(struct wr_mdns_names *names)
{
    uint8_t chance[WR_MDNS_INSTANCE] = {5};
    assert_int_equal(wr_mdns_names_init(names, chance, NULL), 0);
}

static void count_peer(void *arg, const struct wr_mdns_peer *peer)
{
    (void)peer;
    ++*(unsigned *)arg;
}

static void test_who_asks_from_another_port_is_answered_alone(void **state)
{
    struct world *w = *state;
    struct stranger s = {0};
    struct wr_mdns_names names;
    struct wr_mdns_packet packet;
    struct wr_buf query;
    unsigned peers = 0;
    make_names(&names);
    wr_buf_init(&query, 1400);
    wr_mdns_put_query(&names, &query);
    query.data[1] = 99;    /* the id comes back */
    discover(&w->a, NULL);
    sim_run(w->sim, 30 * WR_SEC);
    stranger_open(&s, w->b.node.host, 0);
    stranger_send(&s, mdns_group, &query);
    sim_run(w->sim, 10 * WR_MSEC);
    assert_int_equal(s.heard, 1);
    assert_int_equal(wr_mdns_read(&names, WR_BYTES(s.last, s.last_len), &packet, count_peer, &peers), 0);
    assert_true(packet.id == 99 && peers == 1);
    /* Ten at once, then ten a second. */
    for (int i = 0; i < 200; i++)
        stranger_send(&s, mdns_group, &query);
    sim_run(w->sim, 50 * WR_MSEC);
    assert_true(s.heard <= 1 + WR_MDNS_UNICAST_BURST);
    sim_run(w->sim, WR_SEC);
    assert_true(stats(&w->a).refused >= 190);
    /* Whoever lists all services learns of ours. */
    struct wr_dns_name browse;
    static const uint16_t counts[4] = {1, 0, 0, 0};
    assert_int_equal(wr_dns_name_parse("_services._dns-sd._udp.local", &browse), 0);
    wr_buf_reset(&query);
    wr_dns_put_header(&query, 7, false, counts);
    wr_dns_put_question(&query, &browse, WR_DNS_PTR);
    s.heard = 0;
    stranger_send(&s, mdns_group, &query);
    sim_run(w->sim, 10 * WR_MSEC);
    assert_int_equal(s.heard, 1);
    assert_int_equal(wr_mdns_read(&names, WR_BYTES(s.last, s.last_len), &packet, count_peer, &peers), 0);
    assert_true(packet.id == 7 && peers == 1);
    wr_udp_close(s.socket);
    wr_buf_clear(&query);
}

static void test_who_is_not_on_the_link_gets_nothing(void **state)
{
    struct world *w = *state;
    struct stranger s = {0};
    struct wr_mdns_names names;
    struct wr_buf query;
    struct lan_node *home = &w->secret;
    /* Both with public addresses, so that the question does arrive. */
    struct sim_host_options on_two = {.name = "far", .lan = 2}, on_three = {.name = "home", .lan = 3};
    w->far.node.host = sim_host_add(w->sim, &on_two);
    home->node.host = sim_host_add(w->sim, &on_three);
    node_start(&home->node, w->sim, 777);
    make_names(&names);
    wr_buf_init(&query, 1400);
    wr_mdns_put_query(&names, &query);
    discover(home, NULL);
    stranger_open(&s, w->far.node.host, 0);
    stranger_send(&s, *sim_host_ip4(home->node.host), &query);
    sim_run(w->sim, 5 * WR_SEC);
    assert_int_equal(s.heard, 0);
    wr_udp_close(s.socket);
    wr_buf_clear(&query);
    leave(home);
}

static void test_multicast_answers_come_once_a_second(void **state)
{
    struct world *w = *state;
    struct stranger s = {0};
    struct wr_mdns_names names;
    struct wr_buf query;
    make_names(&names);
    wr_buf_init(&query, 1400);
    wr_mdns_put_query(&names, &query);
    discover(&w->a, NULL);
    sim_run(w->sim, 30 * WR_SEC);
    uint64_t before = stats(&w->a).answers;
    stranger_open(&s, w->b.node.host, WR_MDNS_PORT);
    for (int i = 0; i < 100; i++) {
        stranger_send(&s, mdns_group, &query);
        sim_run(w->sim, 100 * WR_MSEC);
    }
    assert_true(stats(&w->a).answers - before >= 9 && stats(&w->a).answers - before <= 12);
    wr_udp_close(s.socket);
    wr_buf_clear(&query);
}

/* Tells of a peer at an address. */
static void tell(struct stranger *s, const char *peer, const char *addr)
{
    struct wr_mdns_names names;
    struct wr_maddr m;
    struct wr_peerid id;
    struct wr_buf packet;
    make_names(&names);
    assert_int_equal(wr_maddr_parse(addr, &m), 0);
    assert_int_equal(wr_peerid_parse(peer, &id), 0);
    wr_buf_init(&packet, 1400);
    wr_mdns_put_answer(&names, 0, &id, &m, 1, false, &packet);
    stranger_send(s, mdns_group, &packet);
    wr_buf_clear(&packet);
}

static void test_only_addresses_on_the_link_are_believed(void **state)
{
    struct world *w = *state;
    struct stranger s = {0};
    struct wr_peerid id;
    struct wr_maddr out[4];
    static const char *const bad[] = {
        "/ip4/8.8.8.8/tcp/53",   "/ip4/127.0.0.1/tcp/22",      "/ip4/10.9.9.9/tcp/22",
        "/ip4/224.0.0.1/tcp/1",  "/ip4/192.168.1.11/tcp/0",    "/ip4/192.168.1.11/tcp/1/ws",
        "/ip6/::1/tcp/22",       "/ip4/192.168.2.11/tcp/4001",
    };
    assert_int_equal(wr_peerid_parse(OTHER, &id), 0);
    discover(&w->a, NULL);
    stranger_open(&s, w->b.node.host, WR_MDNS_PORT);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        tell(&s, OTHER, bad[i]);
        sim_run(w->sim, WR_SEC);
        if (w->a.told)
            fail_msg("believed %s", bad[i]);
    }
    tell(&s, OTHER, "/ip4/192.168.1.11/tcp/4001");
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->a.told, 1);
    assert_int_equal(wr_peerstore_addrs(wr_swarm_peerstore(w->a.node.swarm), &id, out, 4), 1);
    /* A blocked peer is none. */
    assert_int_equal(wr_policy_rule(wr_swarm_policy(w->a.node.swarm), true, OTHER, true), 0);
    tell(&s, OTHER, "/ip4/192.168.1.11/tcp/4002");
    sim_run(w->sim, WR_SEC);
    assert_int_equal(w->a.told, 1);
    wr_udp_close(s.socket);
}

static void test_a_flood_of_peers_is_bounded(void **state)
{
    struct world *w = *state;
    struct stranger s = {0};
    discover(&w->a, NULL);
    stranger_open(&s, w->b.node.host, WR_MDNS_PORT);
    for (unsigned i = 0; i < 2000; i++) {
        struct wr_peerid id = {.len = 34, .bytes = {0x12, 0x20, (uint8_t)i, (uint8_t)(i >> 8)}};
        char text[WR_PEERID_TEXT];
        tell(&s, wr_peerid_print(&id, text), "/ip4/192.168.1.11/tcp/4001");
        sim_run(w->sim, 100 * WR_MSEC);
    }
    /* 32, and two a second for 200 seconds. */
    assert_true(w->a.told >= 400 && w->a.told <= 440);
    assert_int_equal(stats(&w->a).peers, WR_MDNS_KNOWN_MAX);
    wr_udp_close(s.socket);
}

static void test_a_taken_port_is_lived_with(void **state)
{
    struct world *w = *state;
    static const struct wr_udp_ops ops = {.on_datagram = on_stranger};
    struct stranger s = {0};
    struct wr_addr any = {.ip = {.family = 4}, .port = WR_MDNS_PORT};
    assert_int_equal(wr_env_udp(w->a.node.env, &any, false, &ops, &s, &s.socket), 0);
    discover(&w->a, NULL);
    discover(&w->b, NULL);
    sim_run(w->sim, 5 * WR_SEC);
    assert_int_equal(stats(&w->a).sockets, 1);    /* IPv6's */
    assert_int_equal(w->a.told, 0);
    /* Tried again when the network changes. */
    wr_udp_close(s.socket);
    sim_run(w->sim, WR_SEC);
    sim_move(w->a.node.host, ip4(1, 99), (struct wr_ip){0}, 1);
    sim_run(w->sim, 5 * WR_SEC);
    assert_int_equal(stats(&w->a).sockets, 2);
    assert_true(found(&w->a, &w->b));
}

static void test_each_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t count = 0;
    for (uint64_t run = 0; run <= count; run++) {
        struct world w = {.sim = sim_create(&(struct sim_options){.seed = 3})};
        place(&w.a, w.sim, 1, 10);
        place(&w.b, w.sim, 1, 11);
        discover(&w.a, NULL);
        discover(&w.b, NULL);
        sim_alloc_fail(run - 1, 1);    /* the first run only counts */
        sim_run(w.sim, 2 * WR_SEC);
        count = run == 0 ? sim_alloc_count() : count;
        sim_alloc_fail(0, 0);
        sim_run(w.sim, 5 * WR_MIN);
        assert_true(found(&w.a, &w.b) && found(&w.b, &w.a));
        leave(&w.a);
        leave(&w.b);
        sim_destroy(w.sim);
    }
    assert_true(count > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_two_on_a_link_find_each_other, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_is_quiet, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_links_and_networks_are_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_goodbyes_and_silence, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_new_address_is_announced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_copy_of_our_key_on_the_link_is_news, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_silenced_connection_makes_news_of_the_next_answer, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_who_asks_from_another_port_is_answered_alone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_who_is_not_on_the_link_gets_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_multicast_answers_come_once_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_addresses_on_the_link_are_believed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_flood_of_peers_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_taken_port_is_lived_with, setup, teardown),
        cmocka_unit_test(test_each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
