/* Which relays hold a place for a node at home: found, chosen, lost and replaced. */
#include "tests/sim/relay_choice_world.h"

static void test_two_on_different_networks(void **state)
{
    struct world w;
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        world_up(&w, &(struct sim_options){.seed = seed});
        meet(&w, 0, RELAYS);
        assert_int_equal(held_count(&w), 0);
        wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
        sim_run(w.sim, 2 * WR_SEC);
        assert_int_equal(held_count(&w), 2);
        assert_false(held(&w, 0) && held(&w, 1));
        assert_int_equal(announced(&w), 2);
        assert_int_equal(wr_relay_auto_phase(w.choice), WR_RELAY_AUTO_CONTENT);
        assert_int_equal(w.searched, 0);
        world_down(&w);
    }
}

/* After a while no relay on another network is twice as near as one of ours. */
static void test_near_ones_are_preferred(void **state)
{
    struct world w;
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        world_up(&w, &(struct sim_options){.seed = seed, .rtt_sigma = 1.2});
        wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
        meet(&w, 0, RELAYS);
        sim_run(w.sim, 35 * WR_MIN);
        assert_int_equal(held_count(&w), 2);
        assert_int_equal(announced(&w), 2);
        wr_time farthest = 0, nearest = INT64_MAX;
        for (unsigned i = 0; i < RELAYS; i++) {
            bool twin = i < 2 && (held(&w, 0) || held(&w, 1));
            wr_time rtt = wr_relay_auto_rtt(w.choice, wr_swarm_self(w.relays[i].n.swarm));
            assert_true(rtt > 0);
            if (held(&w, i) && rtt > farthest)
                farthest = rtt;
            if (!held(&w, i) && !twin && rtt < nearest)
                nearest = rtt;
        }
        assert_true(farthest <= 2 * nearest + 10 * WR_MSEC);
        world_down(&w);
    }
}

/* Of all that are there the nearest are asked first, and no other. */
static void test_the_nearest_are_asked_first(void **state)
{
    struct world w;
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        world_up(&w, &(struct sim_options){.seed = seed, .rtt_sigma = 1.2});
        meet(&w, 1, RELAYS);
        wr_time rtt[RELAYS];
        for (unsigned i = 1; i < RELAYS; i++)
            rtt[i] = wr_conn_rtt(node_conn(&w.home, &w.relays[i].n));
        wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
        sim_run(w.sim, 3 * WR_SEC);
        assert_int_equal(held_count(&w), 2);
        for (unsigned i = 1; i < RELAYS; i++)
            for (unsigned k = 1; k < RELAYS; k++)
                assert_false(held(&w, i) && !held(&w, k) && rtt[k] < rtt[i]);
        world_down(&w);
    }
}

/* On a new network nothing is known of it for a while: who needed relays keeps those it has. */
static void test_kept_while_nothing_is_known(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 18});
    meet(&w, 1, 3);
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_UNKNOWN);
    for (unsigned i = 0; i < 60; i++) {
        sim_run(w.sim, WR_SEC);
        assert_int_equal(held_count(&w), 2);
        assert_int_equal(announced(&w), 2);
    }
    assert_int_equal(w.lost, 0);
    world_down(&w);
}

/* One ends in order, then one is switched off without a word. */
static void test_replaced_within_seconds(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 3});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 1, RELAYS);
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    unsigned first = held(&w, 1) ? 1 : held(&w, 2) ? 2 : 3;
    wr_time at = sim_now(w.sim);
    far_down(&w.relays[first]);
    sim_run(w.sim, 5 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    assert_true(w.lost == 1 && w.made == 3);
    assert_true(w.made_at - at <= 5 * WR_SEC);
    assert_int_equal(announced(&w), 2);
    unsigned second = 1;
    while (second == first || !held(&w, second))
        second++;
    at = sim_now(w.sim);
    sim_kill(w.relays[second].n.host);
    far_down(&w.relays[second]);
    sim_run(w.sim, WR_RELAY_AUTO_PING + WR_RELAY_AUTO_PONG + WR_SEC);
    assert_int_equal(w.lost, 2);
    assert_true(w.lost_at - at <= WR_RELAY_AUTO_PING + WR_RELAY_AUTO_PONG + WR_SEC);
    sim_run(w.sim, 5 * WR_SEC);
    assert_true(w.made == 4 && w.made_at - w.lost_at <= 5 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    world_down(&w);
}

/* Both are lost at once, and no other relay is connected: those that are known are called. */
static void test_both_lost(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 4});
    meet(&w, 1, RELAYS);
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    sim_run(w.sim, 2 * WR_SEC);
    for (unsigned i = 1; i < RELAYS; i++)
        if (!held(&w, i))
            wr_swarm_disconnect(w.home.swarm, wr_swarm_self(w.relays[i].n.swarm), WR_CONN_OK);
    sim_run(w.sim, 5 * WR_SEC);
    assert_int_equal(wr_swarm_conn_count(w.home.swarm), 2);
    for (unsigned i = 1; i < RELAYS; i++)
        if (held(&w, i))
            far_down(&w.relays[i]);
    wr_time at = sim_now(w.sim);
    sim_run(w.sim, 5 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    assert_true(w.made_at - at <= 5 * WR_SEC);
    world_down(&w);
}

/* A crowd came, said of itself that it relays, and went: those that we have reached ourselves are called before it. */
static void test_both_lost_among_liars(void **state)
{
    static const struct wr_bytes names[] = {{(const uint8_t *)WR_RELAY_HOP_NAME, sizeof(WR_RELAY_HOP_NAME) - 1}};
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 4});
    meet(&w, 1, RELAYS);
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    sim_run(w.sim, 2 * WR_SEC);
    for (unsigned i = 1; i < RELAYS; i++)
        if (!held(&w, i))
            wr_swarm_disconnect(w.home.swarm, wr_swarm_self(w.relays[i].n.swarm), WR_CONN_OK);
    sim_run(w.sim, 5 * WR_SEC);
    struct wr_peerstore *ps = wr_swarm_peerstore(w.home.swarm);
    for (unsigned i = 0; i < 60; i++) {
        struct wr_addr at = {.ip = {4, {71, (uint8_t)i, 1, 1}}, .port = 4001};
        struct wr_peerid id = *wr_swarm_self(w.relays[0].n.swarm);
        struct wr_maddr addr;
        id.bytes[id.len - 1] ^= (uint8_t)(1 + i);
        assert_int_equal(wr_maddr_from_addr(&at, false, &addr), 0);
        wr_peerstore_get(ps, &id)->seen_at = sim_now(w.sim);
        assert_int_equal(wr_peerstore_add_addr(ps, &id, wr_maddr_bytes(&addr), WR_TTL_RECENT, false), 0);
        assert_int_equal(wr_peerstore_set_protocols(ps, &id, names, 1), 0);
        wr_peerstore_get(ps, &id);
    }
    for (unsigned i = 1; i < RELAYS; i++)
        if (held(&w, i))
            far_down(&w.relays[i]);
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    world_down(&w);
}

/* Both are switched off at once and say nothing. Ten seconds later there are two others. */
static void test_both_are_switched_off(void **state)
{
    (void)state;
    for (uint64_t seed = 20; seed < 30; seed++) {
        struct world w;
        world_up(&w, &(struct sim_options){.seed = seed});
        meet(&w, 1, RELAYS);
        wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
        sim_run(w.sim, WR_MIN + (wr_time)sim_random(w.sim, 15000) * WR_MSEC);
        assert_int_equal(held_count(&w), 2);
        for (unsigned i = 1; i < RELAYS; i++) {
            if (!held(&w, i))
                continue;
            sim_kill(w.relays[i].n.host);
            far_down(&w.relays[i]);
        }
        sim_run(w.sim, 10 * WR_SEC);
        assert_int_equal(held_count(&w), 2);
        world_down(&w);
    }
}

/* A relay that was restarted time and again, and is up now: who has just lost all others calls it, however long it would
 * be left alone otherwise. */
static void test_a_lost_one_is_called_in_need(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 19});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 4, 5);
    for (unsigned i = 0; i < 4; i++) {
        struct sim_host *host = w.relays[4].n.host;
        sim_run(w.sim, 5 * WR_SEC);
        assert_true(held(&w, 4));
        far_down(&w.relays[4]);
        sim_run(w.sim, WR_SEC);
        w.relays[4] = (struct far){.n.host = host};
        far_up(&w.relays[4], w.sim, 14, *sim_host_ip4(host));
        meet(&w, 4, 5);
    }
    sim_run(w.sim, 5 * WR_SEC);
    assert_true(held(&w, 4));
    meet(&w, 2, 4);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    unsigned first = held(&w, 2) ? 2 : 3;
    wr_swarm_disconnect(w.home.swarm, wr_swarm_self(w.relays[4].n.swarm), WR_CONN_OK);
    wr_swarm_disconnect(w.home.swarm, wr_swarm_self(w.relays[5 - first].n.swarm), WR_CONN_OK);
    sim_run(w.sim, 5 * WR_SEC);
    far_down(&w.relays[5 - first]);
    far_down(&w.relays[first]);
    wr_time at = sim_now(w.sim);
    sim_run(w.sim, 5 * WR_SEC);
    assert_true(held(&w, 4));
    assert_true(w.made_at - at <= 3 * WR_SEC);
    world_down(&w);
}

/* Who has no place at all looks for one every few seconds at first, and soon no more than twice a minute. */
static void test_a_search_in_need(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 14});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    sim_run(w.sim, 15 * WR_SEC);
    assert_in_range(w.searched, 3, 4);
    sim_run(w.sim, 10 * WR_MIN);
    assert_in_range(w.searched, 20, 26);
    world_down(&w);
}

/* The cable was pulled for a moment, and a relay went meanwhile: that shows at once, and who was lost through no fault
 * of his own is asked again as soon as he is there. */
static void test_another_network(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 15});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 1, 3);
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    sim_run(w.sim, 4 * WR_SEC);    /* the next pings are far */
    sim_kill(w.relays[1].n.host);
    sim_cut(w.home.host);
    wr_time at = sim_now(w.sim);
    sim_run(w.sim, WR_RELAY_AUTO_PONG + 2 * WR_SEC);    /* one until the watch is told */
    assert_int_equal(w.lost, 1);
    assert_true(w.lost_at - at <= WR_RELAY_AUTO_PONG + 2 * WR_SEC);
    wr_swarm_disconnect(w.home.swarm, wr_swarm_self(w.relays[2].n.swarm), WR_CONN_OK);
    sim_run(w.sim, 4 * WR_SEC);
    assert_int_equal(held_count(&w), 1);
    assert_true(held(&w, 2));
    far_down(&w.relays[1]);
    world_down(&w);
}

/* A relay that was called in vain while it was being restarted has its place again as soon as it is back. */
static void test_a_relay_comes_back(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 16});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 1, 2);
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(held_count(&w), 1);
    struct sim_host *host = w.relays[1].n.host;
    far_down(&w.relays[1]);
    sim_run(w.sim, 40 * WR_SEC);
    assert_int_equal(held_count(&w), 0);
    w.relays[1] = (struct far){.n.host = host};
    far_up(&w.relays[1], w.sim, 11, *sim_host_ip4(host));
    meet(&w, 1, 2);
    sim_run(w.sim, 5 * WR_SEC);
    assert_int_equal(held_count(&w), 1);
    world_down(&w);
}

/* Its owner turns a relay off: the guest hears of it, and has another. */
static void test_a_relay_is_turned_off(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 17});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 2, 5);
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    unsigned off = held(&w, 2) ? 2 : 3;
    wr_relay_server_set_mode(w.relays[off].server, WR_RELAY_OFF);
    sim_run(w.sim, 5 * WR_SEC);
    assert_false(held(&w, off));
    assert_int_equal(held_count(&w), 2);
    assert_int_equal(w.lost, 1);
    world_down(&w);
}

/* Who refuses is asked again after an hour, not before. */
static void test_refusals_are_respected(void **state)
{
    struct world w;
    struct wr_relay_server_stats stats;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 5});
    w.relays[2].n.limits.of[WR_LIMIT_RELAY_RESERVATIONS].max = 0;
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 2, 3);
    sim_run(w.sim, 59 * WR_MIN);
    wr_relay_server_stats(w.relays[2].server, &stats);
    assert_int_equal(stats.refused_full, 1);
    assert_int_equal(wr_relay_auto_phase(w.choice), WR_RELAY_AUTO_SEARCHING);
    assert_in_range(w.searched, 59 * 2 - 5, 59 * 2 + 3);    /* four of the first minute, two of each other */
    sim_run(w.sim, 2 * WR_MIN);
    wr_relay_server_stats(w.relays[2].server, &stats);
    assert_int_equal(stats.refused_full, 2);
    world_down(&w);
}

static void full_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    static const uint8_t full[] = {5, 8, 2, 0x28, 0xc9, 1};    /* STATUS 201 */
    (void)arg, (void)data;
    assert_int_equal(wr_stream_write(s, full, sizeof(full)), (int)sizeof(full));
}

static void on_full(struct wr_stream *s, void *arg)
{
    static const struct wr_stream_ops ops = {.on_data = full_data};
    wr_stream_set_ops(s, &ops, arg);
}

/* A relay that will not prolong has a successor at once, and is kept until its time is over. */
static void test_a_full_relay_has_a_successor(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 8});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    meet(&w, 1, 3);
    sim_run(w.sim, 5 * WR_SEC);
    assert_true(held(&w, 1) && held(&w, 2));
    meet(&w, 3, 4);
    const struct wr_relay_hold *h =
        wr_relay_client_held(wr_relay_auto_client(w.choice), wr_swarm_self(w.relays[1].n.swarm));
    wr_time ends = h->expires_at;
    wr_swarm_unhandle(w.relays[1].n.swarm, WR_RELAY_HOP_NAME);
    node_handle(&w.relays[1].n, WR_RELAY_HOP_NAME, on_full, NULL);
    while (!h->ending && sim_now(w.sim) < ends)
        sim_run(w.sim, WR_SEC);
    assert_true(h->ending);
    sim_run(w.sim, 2 * WR_SEC);
    assert_true(held(&w, 1) && held(&w, 2) && held(&w, 3));
    sim_run(w.sim, ends - sim_now(w.sim) + WR_SEC);
    assert_true(!held(&w, 1) && held(&w, 2) && held(&w, 3));
    world_down(&w);
}

static void test_only_when_wanted(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 6});
    meet(&w, 0, 3);
    assert_int_equal(wr_relay_auto_phase(w.choice), WR_RELAY_AUTO_WAITING);
    /* Nobody says whether we are reachable, and no address of ours is public. */
    sim_run(w.sim, 8 * WR_SEC);
    assert_int_equal(held_count(&w), 0);
    sim_run(w.sim, 8 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PUBLIC);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(held_count(&w), 0);
    assert_int_equal(announced(&w), 0);
    assert_int_equal(wr_relay_auto_phase(w.choice), WR_RELAY_AUTO_OFF);
    /* IPv6 alone is not enough. */
    wr_swarm_set_reachability(w.home.swarm, 6, WR_REACH_PUBLIC);
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    world_down(&w);
}

/* The relay ends, and one of two connections does not hear of it. That is not found out when a ping is due anyway, but as
 * the other one ends. */
static void test_half_an_end(void **state)
{
    struct world w;
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        int again = 1;
        world_up(&w, &(struct sim_options){.seed = 40 + seed, .rtt = 50 * WR_MSEC});
        wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
        meet(&w, 2, 3);
        struct wr_bytes at = wr_maddr_bytes(&w.relays[2].n.addr);
        assert_int_equal(wr_swarm_connect_addr(w.home.swarm, at, node_on_connect, &again, NULL), 0);
        sim_run(w.sim, 3 * WR_SEC + (wr_time)seed * 400 * WR_MSEC);
        assert_true(again == 0 && held(&w, 2));
        wr_conn_close(node_conn(&w.relays[2].n, &w.home), WR_CONN_SHUTDOWN);
        sim_run(w.sim, 10 * WR_MSEC);
        sim_kill(w.relays[2].n.host);
        sim_run(w.sim, WR_RELAY_AUTO_PONG + WR_SEC / 2);
        assert_int_equal(w.lost, 1);
        far_down(&w.relays[2]);
        world_down(&w);
    }
}

/* Nobody says whether we are reachable, and there is a NAT. A port that the router has opened may settle it, or a stranger
 * who gets through. */
static void test_early_behind_a_nat(void **state)
{
    struct world w;
    struct wr_maddr port;
    (void)state;
    for (int mapped = 0; mapped <= 1; mapped++) {
        world_up(&w, &(struct sim_options){.seed = 16});
        struct wr_addrbook *book = wr_swarm_addrbook(w.home.swarm);
        meet(&w, 0, 3);
        assert_int_equal(wr_maddr_parse("/ip4/93.1.2.3/tcp/4001", &port), 0);
        if (mapped)
            assert_true(wr_addrbook_put(book, wr_maddr_bytes(&port), WR_ADDR_MAPPED, 0));
        wr_swarm_nat(w.home.swarm)->udp.mapping = WR_NAT_MAP_EIM;
        sim_run(w.sim, 2 * WR_SEC);
        assert_int_equal(held_count(&w), 0);
        sim_run(w.sim, 3 * WR_SEC);
        assert_int_equal(held_count(&w), mapped ? 0 : 2);
        assert_true(wr_addrbook_judge(book, wr_maddr_bytes(&port), WR_ADDR_UNREACHABLE, 0) == (mapped == 1));
        sim_run(w.sim, 2 * WR_SEC);
        assert_int_equal(held_count(&w), 2);
        wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PUBLIC);
        sim_run(w.sim, 2 * WR_SEC);
        assert_int_equal(held_count(&w), 0);
        world_down(&w);
    }
    world_up(&w, &(struct sim_options){.seed = 17});
    meet(&w, 0, 3);
    wr_swarm_nat(w.home.swarm)->udp.mapping = WR_NAT_MAP_EIM;
    wr_swarm_nat(w.home.swarm)->strangers = true;
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(held_count(&w), 0);
    sim_run(w.sim, 8 * WR_SEC);
    assert_int_equal(held_count(&w), 2);
    world_down(&w);
}

static void test_the_owners_relay(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 7});
    wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PUBLIC);
    struct wr_maddr at = w.relays[4].n.addr;
    assert_int_equal(wr_relay_auto_use(w.choice, wr_maddr_bytes(&at)), WR_EINVAL);
    assert_int_equal(wr_maddr_append_peer(&at, wr_swarm_self(w.relays[4].n.swarm)), 0);
    assert_int_equal(wr_relay_auto_use(w.choice, wr_maddr_bytes(&at)), 0);
    assert_int_equal(wr_relay_auto_use(w.choice, wr_maddr_bytes(&at)), WR_EEXIST);
    sim_run(w.sim, 3 * WR_SEC);
    assert_true(held(&w, 4));
    assert_int_equal(announced(&w), 1);
    /* Lost, it is called again. */
    wr_swarm_disconnect(w.relays[4].n.swarm, wr_swarm_self(w.home.swarm), WR_CONN_OK);
    sim_run(w.sim, WR_SEC);
    assert_false(held(&w, 4));
    sim_run(w.sim, 15 * WR_SEC);
    assert_true(held(&w, 4));
    assert_int_equal(wr_relay_auto_unuse(w.choice, wr_swarm_self(w.relays[4].n.swarm)), 0);
    assert_false(held(&w, 4));
    assert_int_equal(wr_relay_auto_unuse(w.choice, wr_swarm_self(w.relays[4].n.swarm)), WR_ENOTFOUND);
    assert_int_equal(announced(&w), 0);
    world_down(&w);
}

static void test_each_allocation_may_fail(void **state)
{
    (void)state;
    for (uint64_t skip = 0;; skip++) {
        struct world w;
        world_up(&w, &(struct sim_options){.seed = 8});
        meet(&w, 1, 4);
        wr_swarm_set_reachability(w.home.swarm, 4, WR_REACH_PRIVATE);
        sim_alloc_fail(skip, 1);
        sim_run(w.sim, 20 * WR_SEC);
        bool all = sim_alloc_count() <= skip;
        sim_alloc_fail(0, 0);
        sim_run(w.sim, 6 * WR_MIN);
        assert_true(held_count(&w) >= 1);
        world_down(&w);
        if (all || skip > 400)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_on_different_networks),
        cmocka_unit_test(test_near_ones_are_preferred),
        cmocka_unit_test(test_the_nearest_are_asked_first),
        cmocka_unit_test(test_kept_while_nothing_is_known),
        cmocka_unit_test(test_replaced_within_seconds),
        cmocka_unit_test(test_both_lost),
        cmocka_unit_test(test_both_lost_among_liars),
        cmocka_unit_test(test_both_are_switched_off),
        cmocka_unit_test(test_a_lost_one_is_called_in_need),
        cmocka_unit_test(test_a_search_in_need),
        cmocka_unit_test(test_another_network),
        cmocka_unit_test(test_a_relay_comes_back),
        cmocka_unit_test(test_a_relay_is_turned_off),
        cmocka_unit_test(test_refusals_are_respected),
        cmocka_unit_test(test_a_full_relay_has_a_successor),
        cmocka_unit_test(test_only_when_wanted),
        cmocka_unit_test(test_half_an_end),
        cmocka_unit_test(test_early_behind_a_nat),
        cmocka_unit_test(test_the_owners_relay),
        cmocka_unit_test(test_each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
