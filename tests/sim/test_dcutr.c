/* From a relayed connection to a direct one: every kind of NAT against every other, the times, the retries. */
#include "tests/sim/dcutr_world.h"

#include <stdlib.h>

/* ---- every pair --------------------------------------------------------------------------------- */

static bool needs_prediction(enum kind a, enum kind b)
{
    return !kinds_meet(a, b);
}

static unsigned first_tries, later_tries;

static void check_pair(enum kind a, enum kind b, enum transports with, uint64_t seed)
{
    struct world w;
    bool expected = kinds_meet_predicted(a, b);
    world_start_relayed(&w, a, b, with, seed);
    exchange(&w, &w.a, &w.b);
    sim_run_while(w.sim, not_both_direct, &w, 30 * WR_SEC);
    bool direct = is_direct(&w.a, &w.b) && is_direct(&w.b, &w.a);
    if (direct != expected)
        fail_msg("%s (a) and %s (b) over %s, seed %llu: %s; b: %s attempt %u", kind_names[a], kind_names[b],
                 with == TCP ? "TCP" : with == QUIC ? "QUIC" : "both", (unsigned long long)seed,
                 direct ? "direct" : "relayed", wr_dcutr_outcome_name(w.b.last.outcome), w.b.last.attempt);
    if (direct) {
        sim_run(w.sim, WR_MSEC);
        assert_int_equal(w.b.last.outcome, WR_DCUTR_PUNCHED);
        assert_true(w.b.last.initiator && !w.a.last.initiator);
        if (!needs_prediction(a, b))
            assert_int_equal(w.b.last.attempt, 1);
        first_tries += w.b.last.attempt == 1;
        later_tries += w.b.last.attempt > 1;
    } else {
        /* b's ports are random, and what a names shows that nobody sees its next one: no need to try. */
        bool hopeless = a == SEQUENTIAL && b == RANDOM;
        assert_int_equal(w.b.last.outcome, hopeless ? WR_DCUTR_HOPELESS : WR_DCUTR_FAILED);
        assert_int_equal(w.b.last.attempt, hopeless ? 1 : WR_PLAN_ATTEMPTS);
        assert_true(wr_dcutr_next_at(w.b.dcutr, site_id(&w.a.site)) > sim_now(w.sim));
    }
    exchange(&w, &w.b, &w.a);
    exchange(&w, &w.a, &w.b);
    world_stop(&w);
}

static void pairs(enum transports with)
{
    for (int a = 0; a < KINDS; a++)
        for (int b = 0; b < KINDS; b++)
            check_pair((enum kind)a, (enum kind)b, with, 1 + (uint64_t)(a * KINDS + b));
}

static void every_pair_over_tcp(void **state)
{
    (void)state;
    pairs(TCP);
}

static void every_pair_over_quic(void **state)
{
    (void)state;
    pairs(QUIC);
}

/* Seeds: a pair of kinds, transports and all chance of the run by each. WARREN_SEEDS: how many. */
static void by_chance(void **state)
{
    const char *text = getenv("WARREN_SEEDS");
    unsigned long seeds = text ? strtoul(text, NULL, 10) : 20;
    (void)state;
    for (unsigned long seed = 1; seed <= seeds; seed++) {
        uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15);
        check_pair((enum kind)((x >> 20) % KINDS), (enum kind)((x >> 40) % KINDS),
                   (enum transports)(1 + (x >> 50) % 3), 1000 + seed);
    }
    print_message("%u at the first attempt, %u later\n", first_tries, later_tries);
}

/* Two counting NATs, with ports used up since anybody looked, up to three in all. */
static void ports_used_up_unseen(void **state)
{
    (void)state;
    for (unsigned a = 0; a < 3; a++) {
        for (unsigned b = 0; b < 3; b++) {
            struct world w;
            world_start_knowing(&w, SEQUENTIAL, SEQUENTIAL, QUIC, 7 + a);
            struct wr_nat *nat_a = wr_swarm_nat(w.a.site.swarm), *nat_b = wr_swarm_nat(w.b.site.swarm);
            nat_a->udp.last_port = (uint16_t)(nat_a->udp.last_port - a);
            nat_b->udp.last_port = (uint16_t)(nat_b->udp.last_port - b);
            relay_up(&w);
            bool direct = sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC);
            if (direct != (a + b <= 3))
                fail_msg("%u and %u: %s", a, b, direct ? "direct" : "relayed");
            world_stop(&w);
        }
    }
}

/* IPv6 is not translated: both are behind firewalls only, and their addresses are known without anybody's word. Over
 * IPv4 the same two could not meet. */
static void ipv6_needs_no_observer(void **state)
{
    struct world w = {0};
    struct simnat *nat[2];
    (void)state;
    w.sim = sim_create(&(struct sim_options){.seed = 5, .rtt = D});
    site_start(&w.relay, w.sim, PUBLIC, 1);
    for (unsigned i = 0; i < 2; i++) {
        struct end *e = i ? &w.b : &w.a;
        struct wr_ip ip6 = {6, {0x2a, 0x0e, (uint8_t)(i + 1), [15] = 9}}, ip4 = {4, {140, (uint8_t)(i + 1), 0, 9}};
        struct wr_maddr at;
        nat[i] = simnat_add(w.sim, &(struct simnat_options){.mapping = SIMNAT_APDM, .filtering = SIMNAT_APDF,
                                                            .alloc = SIMNAT_RANDOM, .ip4 = ip4, .ip6 = ip6});
        e->site.kind = RANDOM;
        e->site.host = sim_host_add(w.sim, &(struct sim_host_options){.gateway = simnat_gateway(nat[i]),
                                                                      .ip4 = {4, {192, 168, 1, 2}}, .ip6 = ip6});
        end_start_here(&w, e, BOTH, (uint8_t)(2 + i));
        assert_int_equal(wr_maddr_parse("/ip6/::/udp/4001/quic-v1", &at), 0);
        assert_int_equal(wr_swarm_listen(e->site.swarm, wr_maddr_bytes(&at)), 0);
    }
    toy_up(&w);
    know(&w.a, BOTH);
    know(&w.b, BOTH);
    relay_up(&w);
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    assert_int_equal(wr_swarm_conn(w.a.site.swarm, site_id(&w.b.site))->remote.ip.family, 6);
    sim_run(w.sim, WR_MSEC);
    assert_int_equal(w.b.last.attempt, 1);
    world_stop(&w);
    simnat_free(nat[0]);
    simnat_free(nat[1]);
}

/* ---- times -------------------------------------------------------------------------------------- */

/* From the relayed connection at b to the direct one at the client, which may use it from then on; and nobody's
 * first packet came before the other's hole was open. */
static void it_takes_no_longer_than_it_must(void **state)
{
    (void)state;
    for (int quic = 0; quic < 2; quic++) {
        struct world w;
        world_start_knowing(&w, PORT_RESTRICTED, REFUSING, quic ? QUIC : TCP, 5);
        unsigned before[2] = {simnat_count(w.a.site.nat)->unsolicited,
                              simnat_count(w.b.site.nat)->unsolicited};
        relay_up(&w);
        assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
        wr_time floor = L * 3 / 2 + (quic ? 1 : 2) * D, took = w.a.direct_at - w.b.relayed_at;
        if (took > floor + WR_MSEC || took < floor)
            fail_msg("%s: %d ms, the floor is %d", quic ? "QUIC" : "TCP", (int)(took / WR_MSEC),
                     (int)(floor / WR_MSEC));
        /* a has the relayed connection as soon as it sent the last message of the handshake, b when that arrives. */
        assert_in_range(w.b.relayed_at - w.a.relayed_at, L / 2, L / 2 + WR_MSEC);
        assert_int_equal(simnat_count(w.a.site.nat)->unsolicited, before[0]);
        assert_int_equal(simnat_count(w.b.site.nat)->unsolicited, before[1]);
        assert_in_range(w.b.last.rtt, L - WR_MSEC, L + WR_MSEC);
        assert_in_range(w.a.last.rtt, L - WR_MSEC, L + WR_MSEC);
        assert_true(w.b.last.took >= L * 3 / 2 && w.b.last.took <= took + D);
        world_stop(&w);
    }
}

/* Whoever asks while it lasts hears how far it is. */
static void what_goes_on_is_told(void **state)
{
    struct world w;
    struct wr_dcutr_now now;
    (void)state;
    world_start_knowing(&w, PORT_RESTRICTED, PORT_RESTRICTED, QUIC, 5);
    assert_false(wr_dcutr_now(w.b.dcutr, site_id(&w.a.site), &now));
    relay_up(&w);
    sim_run(w.sim, L / 2);
    assert_true(wr_dcutr_now(w.b.dcutr, site_id(&w.a.site), &now));
    assert_true(now.initiator && !now.sending && now.attempt == 1);
    assert_true(sim_now(w.sim) - now.since >= L / 2 && sim_now(w.sim) - now.since <= L);
    sim_run(w.sim, 3 * L / 4);
    assert_true(wr_dcutr_now(w.b.dcutr, site_id(&w.a.site), &now));
    assert_true(now.sending);
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    sim_run(w.sim, WR_MSEC);
    assert_false(wr_dcutr_now(w.b.dcutr, site_id(&w.a.site), &now));
    world_stop(&w);
}

/* ---- the plain dial beside it ------------------------------------------------------------------- */

/* a is public and says so; nobody told b how it is seen, so it has nothing to punch with. */
static void a_public_peer_is_simply_dialled(void **state)
{
    struct world w;
    (void)state;
    world_start(&w, PUBLIC, RANDOM, BOTH, 5);
    relay_up(&w);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(w.b.last.outcome, WR_DCUTR_NO_ADDRESS);
    assert_int_equal(w.b.reports, 1);
    struct wr_maddr at = site_at(&w.a.site, true);
    wr_peerstore_add_addr(wr_swarm_peerstore(w.b.site.swarm), site_id(&w.a.site), wr_maddr_bytes(&at),
                          WR_TTL_RECENT, false);
    wr_swarm_identified(w.b.site.swarm, wr_swarm_conn(w.b.site.swarm, site_id(&w.a.site)));
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    struct wr_conn *c = wr_swarm_conn(w.b.site.swarm, site_id(&w.a.site));
    assert_true(c->outbound);
    assert_int_equal(w.b.last.outcome, WR_DCUTR_REVERSED);
    assert_int_equal(w.b.reports, 2);
    /* With an address of its own it is both at once, and one direct connection ends all. */
    world_stop(&w);
    world_start_knowing(&w, PUBLIC, PORT_RESTRICTED, BOTH, 6);
    wr_peerstore_add_addr(wr_swarm_peerstore(w.b.site.swarm), site_id(&w.a.site), wr_maddr_bytes(&at),
                          WR_TTL_RECENT, false);
    relay_up(&w);
    wr_swarm_identified(w.b.site.swarm, wr_swarm_conn(w.b.site.swarm, site_id(&w.a.site)));
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    sim_run(w.sim, 10 * WR_SEC);
    assert_true(w.b.last.outcome == WR_DCUTR_REVERSED || w.b.last.outcome == WR_DCUTR_PUNCHED);
    assert_int_equal(w.b.reports, 1);
    struct wr_dcutr_stats stats;
    wr_dcutr_stats(w.b.dcutr, &stats);
    assert_int_equal(stats.running, 0);
    exchange(&w, &w.a, &w.b);
    world_stop(&w);
}

/* Nobody is at the address that a announces. The dial to there takes its time, and the punch does not wait for it. */
static void the_plain_dial_delays_nothing(void **state)
{
    struct world w;
    struct wr_addr nowhere = {.ip = {4, {11, 66, 0, 1}}, .port = PORT};
    (void)state;
    world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    know(&w.a, BOTH);
    for (int quic = 0; quic < 2; quic++) {
        struct wr_maddr at;
        assert_int_equal(wr_maddr_from_addr(&nowhere, quic, &at), 0);
        wr_peerstore_add_addr(wr_swarm_peerstore(w.b.site.swarm), site_id(&w.a.site), wr_maddr_bytes(&at),
                              WR_TTL_RECENT, false);
    }
    relay_up(&w);
    wr_swarm_identified(w.b.site.swarm, wr_swarm_conn(w.b.site.swarm, site_id(&w.a.site)));
    sim_run(w.sim, WR_SEC);
    assert_int_equal(w.b.last.outcome, WR_DCUTR_NO_ADDRESS);
    assert_non_null(wr_dcutr_peer_get(w.b.dcutr, site_id(&w.a.site))->reversal);
    wr_time told_at = sim_now(w.sim);
    know(&w.b, BOTH);
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    assert_true(sim_now(w.sim) - told_at < L * 3 / 2 + 3 * D + 10 * WR_MSEC);
    assert_int_equal(w.b.last.outcome, WR_DCUTR_PUNCHED);
    world_stop(&w);
}

/* ---- when it begins ----------------------------------------------------------------------------- */

/* One candidate of one transport is enough; what a has besides does not matter. */
static void one_address_is_enough(void **state)
{
    struct world w;
    (void)state;
    world_start(&w, FIREWALL, PORT_RESTRICTED, BOTH, 5);
    know(&w.a, BOTH);
    relay_up(&w);
    sim_run(w.sim, 3 * WR_SEC);
    assert_int_equal(w.b.last.outcome, WR_DCUTR_NO_ADDRESS);
    assert_int_equal(w.b.last.attempt, 0);
    wr_time told_at = sim_now(w.sim);
    know(&w.b, TCP);    /* now somebody tells it */
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    assert_true(sim_now(w.sim) - told_at < L * 3 / 2 + 3 * D + 10 * WR_MSEC);
    assert_int_equal(w.b.last.outcome, WR_DCUTR_PUNCHED);
    assert_int_equal(w.b.last.own_count, 1);
    world_stop(&w);
}

/* a does not know how it is seen: it cannot answer, and is asked again. */
static void a_peer_without_address(void **state)
{
    struct world w;
    (void)state;
    world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    know(&w.b, BOTH);
    relay_up(&w);
    sim_run(w.sim, WR_SEC / 2);
    assert_int_equal(w.a.last.outcome, WR_DCUTR_NO_ADDRESS);
    assert_int_equal(w.b.last.outcome, WR_DCUTR_NO_ANSWER);
    know(&w.a, QUIC);
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    assert_int_equal(w.b.last.outcome, WR_DCUTR_PUNCHED);
    world_stop(&w);
}

/* a speaks no dcutr yet: go mounts it only once it knows an address of its own. b waits to be told. */
static void a_peer_that_does_not_speak_it_yet(void **state)
{
    struct world w;
    (void)state;
    world_start_knowing(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    wr_dcutr_destroy(w.a.dcutr);
    w.a.dcutr = NULL;
    relay_up(&w);
    sim_run(w.sim, 60 * WR_SEC);
    assert_int_equal(w.b.last.outcome, WR_DCUTR_UNSUPPORTED);
    assert_int_equal(w.b.reports, 1);
    w.a.dcutr = wr_dcutr_create(
        &(struct wr_dcutr_options){.swarm = w.a.site.swarm, .on_report = on_report, .arg = &w.a});
    struct wr_bytes name = wr_bytes_cstr(WR_DCUTR_NAME);
    wr_peerstore_set_protocols(wr_swarm_peerstore(w.b.site.swarm), site_id(&w.a.site), &name, 1);
    wr_swarm_peer_changed(w.b.site.swarm, site_id(&w.a.site));
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    assert_int_equal(w.b.last.attempt, 1);    /* the other one was none */
    world_stop(&w);
}

/* ---- retries ------------------------------------------------------------------------------------ */

/* Three attempts, the last with the roles of old, then rest: ten minutes, or half a minute when addresses changed. */
static void it_rests_when_it_fails(void **state)
{
    struct world w;
    struct wr_dcutr_report r[WR_DCUTR_REPORTS];
    (void)state;
    world_start_relayed(&w, PORT_RESTRICTED, RANDOM, BOTH, 5);
    sim_run(w.sim, 25 * WR_SEC);
    assert_int_equal(w.b.reports, 3);
    assert_int_equal(wr_dcutr_reports(w.b.dcutr, site_id(&w.a.site), r, WR_DCUTR_REPORTS), 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(r[i].attempt, 3 - i);
        assert_int_equal(r[i].outcome, WR_DCUTR_FAILED);
        assert_int_equal(r[i].err, WR_ETIMEOUT);
        assert_int_equal(r[i].role, i == 0 ? WR_PUNCH_CLIENT : WR_PUNCH_SERVER);
        assert_int_equal(r[i].count, 2);
        assert_int_equal(r[i].trick, WR_PLAN_PLAIN);    /* nothing private to or from a stranger */
        assert_true(r[i].tries[0].packets > 0 && r[i].rtt > 0);
    }
    assert_int_equal(wr_dcutr_reports(w.a.dcutr, site_id(&w.b.site), r, WR_DCUTR_REPORTS), 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(r[i].trick, WR_PLAN_PLAIN);
    assert_int_equal(w.a.last.role, WR_PUNCH_SERVER);
    wr_time next = wr_dcutr_next_at(w.b.dcutr, site_id(&w.a.site));
    sim_run_until(w.sim, next - WR_SEC);
    assert_int_equal(w.b.reports, 3);
    assert_true(next - r[0].at > WR_DCUTR_REST);
    sim_run(w.sim, 25 * WR_SEC);
    assert_int_equal(w.b.reports, 6);
    /* Something changes: no need to wait as long, but not at once either. */
    wr_time began = sim_now(w.sim);
    wr_swarm_addrs_changed(w.b.site.swarm);
    sim_run(w.sim, 20 * WR_SEC);
    assert_int_equal(w.b.reports, 6);
    sim_run(w.sim, 25 * WR_SEC);
    assert_true(w.b.reports > 6);
    assert_true(w.b.last.at < began + 45 * WR_SEC);
    /* So it is when something changes on the other side: identify tells. */
    world_stop(&w);
    world_start_relayed(&w, PORT_RESTRICTED, RANDOM, BOTH, 5);
    sim_run(w.sim, 25 * WR_SEC);
    assert_int_equal(w.b.reports, 3);
    wr_swarm_peer_changed(w.b.site.swarm, site_id(&w.a.site));
    sim_run(w.sim, 5 * WR_SEC);
    assert_int_equal(w.b.reports, 3);
    sim_run(w.sim, 40 * WR_SEC);
    assert_int_equal(w.b.reports, 6);
    exchange(&w, &w.a, &w.b);
    world_stop(&w);
}

/* The relayed connection ends while b makes its third attempt; another one comes soon, or after that. Over it both begin
 * with the first: a counts what it is asked there. */
static void another_relayed_connection_another_round(void **state)
{
    (void)state;
    for (int soon = 0; soon < 2; soon++) {
        struct world w;
        world_start_relayed(&w, PORT_RESTRICTED, RANDOM, BOTH, 5);
        struct wr_conn *c = wr_swarm_conn(w.a.site.swarm, site_id(&w.b.site));
        while (w.b.reports < 2)
            sim_run(w.sim, 10 * WR_MSEC);
        sim_run(w.sim, 2 * WR_SEC);
        wr_conn_close(c, WR_CONN_OK);
        sim_run(w.sim, WR_SEC);
        if (soon)
            relay_up(&w);
        sim_run(w.sim, 3 * WR_SEC);
        assert_int_equal(w.b.reports, 3);
        if (!soon)
            relay_up(&w);
        sim_run(w.sim, 6 * WR_SEC);
        assert_int_equal(w.b.reports, 4);
        assert_int_equal(w.b.last.attempt, 1);
        assert_int_equal(w.b.last.role, WR_PUNCH_SERVER);
        assert_int_equal(w.a.last.attempt, 1);
        assert_int_equal(w.a.last.role, WR_PUNCH_CLIENT);
        world_stop(&w);
    }
}

/* Peers that never exchange roles are not met with exchanged ones. */
static void rust_and_js_keep_their_roles(void **state)
{
    static const char *const agents[] = {"rust-libp2p/0.57.0", "js-libp2p/3.3.0 UserAgent=node",
                                         "nim-libp2p"};
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct world w;
        world_start_knowing(&w, PORT_RESTRICTED, RANDOM, TCP, 5);
        struct wr_bytes agent = wr_bytes_cstr(agents[i]);
        wr_peerstore_set_agent(wr_swarm_peerstore(w.a.site.swarm), site_id(&w.b.site), agent, WR_BYTES_NONE);
        wr_peerstore_set_agent(wr_swarm_peerstore(w.b.site.swarm), site_id(&w.a.site), agent, WR_BYTES_NONE);
        relay_up(&w);
        sim_run(w.sim, 25 * WR_SEC);
        assert_int_equal(w.b.last.attempt, 3);
        assert_int_equal(w.a.last.attempt, 3);
        assert_int_equal(w.b.last.role, WR_PUNCH_SERVER);
        assert_int_equal(w.a.last.role, WR_PUNCH_CLIENT);
        world_stop(&w);
    }
}

/* Two machines behind one NAT that turns nothing around: under their inner addresses, in the second attempt. */
static void neighbours_meet_inside(void **state)
{
    (void)state;
    for (int hairpin = 0; hairpin < 2; hairpin++) {
        struct world w = {0};
        w.sim = sim_create(&(struct sim_options){.seed = 5, .rtt = D});
        site_start(&w.relay, w.sim, PUBLIC, 1);
        struct simnat *nat =
            simnat_add(w.sim, &(struct simnat_options){.filtering = SIMNAT_APDF, .hairpin = hairpin});
        site_neighbour(&w.a.site, w.sim, nat, 2);
        site_neighbour(&w.b.site, w.sim, nat, 3);
        end_start_here(&w, &w.a, BOTH, 2);
        end_start_here(&w, &w.b, BOTH, 3);
        toy_up(&w);
        know(&w.a, BOTH);
        know(&w.b, BOTH);
        relay_up(&w);
        assert_true(sim_run_while(w.sim, not_both_direct, &w, 20 * WR_SEC));
        sim_run(w.sim, WR_MSEC);
        assert_int_equal(w.b.last.attempt, hairpin ? 1 : 2);
        assert_int_equal(w.b.last.trick, hairpin ? WR_PLAN_PLAIN : WR_PLAN_SITE);
        exchange(&w, &w.a, &w.b);
        world_stop(&w);
        simnat_free(nat);
    }
}

/* Two homes behind one carrier that turns nothing around: under the addresses that the carrier gave their routers. */
static void homes_of_one_carrier_meet(void **state)
{
    struct world w = {0};
    struct simnat *home[2];
    (void)state;
    w.sim = sim_create(&(struct sim_options){.seed = 5, .rtt = D});
    site_start(&w.relay, w.sim, PUBLIC, 1);
    struct simnat *carrier =
        simnat_add(w.sim, &(struct simnat_options){.filtering = SIMNAT_APDF, .alloc = SIMNAT_RANDOM});
    for (unsigned i = 0; i < 2; i++) {
        struct end *e = i ? &w.b : &w.a;
        struct wr_addr middle = {.ip = {4, {100, 64, 0, (uint8_t)(2 + i)}}, .port = PORT};
        struct wr_maddr ma;
        home[i] = simnat_add(w.sim, &(struct simnat_options){.outer = carrier, .ip4 = middle.ip});
        site_neighbour(&e->site, w.sim, home[i], 2);
        end_start_here(&w, e, QUIC, (uint8_t)(2 + i));
        assert_int_equal(wr_maddr_from_addr(&middle, true, &ma), 0);
        wr_addrbook_put(wr_swarm_addrbook(e->site.swarm), wr_maddr_bytes(&ma), WR_ADDR_MAPPED,
                        sim_now(w.sim));
    }
    toy_up(&w);
    know(&w.a, QUIC);
    know(&w.b, QUIC);
    relay_up(&w);
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 20 * WR_SEC));
    sim_run(w.sim, WR_MSEC);
    assert_int_equal(w.b.last.attempt, 2);
    assert_int_equal(w.b.last.trick, WR_PLAN_SITE);
    exchange(&w, &w.a, &w.b);
    world_stop(&w);
    for (unsigned i = 0; i < 2; i++)
        simnat_free(home[i]);
    simnat_free(carrier);
}

/* The direct connection breaks while the relayed one is there: it is made again. */
static void a_lost_connection_is_made_again(void **state)
{
    struct world w;
    (void)state;
    world_start_relayed(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    wr_conn_close(wr_swarm_conn(w.a.site.swarm, site_id(&w.b.site)), WR_CONN_OK);
    sim_run(w.sim, D);
    assert_false(is_direct(&w.a, &w.b));
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    assert_int_equal(w.b.reports, 2);
    world_stop(&w);
}

/* What one sends the other over UDP gets lost, or does not any more. */
static void lose(struct world *w, bool lost)
{
    simnat_deaf(w->a.site.nat, lost ? simnat_ip4(w->b.site.nat) : NULL);
    simnat_deaf(w->b.site.nat, lost ? simnat_ip4(w->a.site.nat) : NULL);
}

/* A round in vain, and then a hole: what failed before says nothing of the time when that connection is over. */
static void a_success_ends_the_rest(void **state)
{
    struct world w;
    (void)state;
    world_start_knowing(&w, PORT_RESTRICTED, PORT_RESTRICTED, QUIC, 5);
    lose(&w, true);
    relay_up(&w);
    sim_run(w.sim, 25 * WR_SEC);
    assert_int_equal(w.b.reports, WR_PLAN_ATTEMPTS);
    lose(&w, false);
    wr_swarm_addrs_changed(w.b.site.swarm);
    assert_true(sim_run_while(w.sim, not_both_direct, &w, WR_DCUTR_REST_CHANGE));
    wr_swarm_disconnect(w.a.site.swarm, site_id(&w.b.site), WR_CONN_OK);
    sim_run(w.sim, 10 * WR_SEC);
    assert_false(is_direct(&w.b, &w.a));
    relay_up(&w);
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    world_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_over_tcp),
        cmocka_unit_test(every_pair_over_quic),
        cmocka_unit_test(by_chance),
        cmocka_unit_test(ports_used_up_unseen),
        cmocka_unit_test(ipv6_needs_no_observer),
        cmocka_unit_test(it_takes_no_longer_than_it_must),
        cmocka_unit_test(what_goes_on_is_told),
        cmocka_unit_test(a_public_peer_is_simply_dialled),
        cmocka_unit_test(the_plain_dial_delays_nothing),
        cmocka_unit_test(one_address_is_enough),
        cmocka_unit_test(a_peer_without_address),
        cmocka_unit_test(a_peer_that_does_not_speak_it_yet),
        cmocka_unit_test(it_rests_when_it_fails),
        cmocka_unit_test(another_relayed_connection_another_round),
        cmocka_unit_test(rust_and_js_keep_their_roles),
        cmocka_unit_test(neighbours_meet_inside),
        cmocka_unit_test(homes_of_one_carrier_meet),
        cmocka_unit_test(a_lost_connection_is_made_again),
        cmocka_unit_test(a_success_ends_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
