/* The whole way: nodes that know nothing meet a few others, learn how they are seen and what their NAT is like, get a
 * place at a relay, are found through it, and end up with a direct connection. All services are the real ones. */
#include "tests/sim/home_world.h"

#include <stdlib.h>

#define RTT     (80 * WR_MSEC)
#define SERVERS 4
#define SETTLE  (30 * WR_SEC)    /* verdicts are due by then; the bound */

struct world {
    struct sim *sim;
    struct home server[SERVERS], a, b;
};

/* with: what the homes listen on, as site_swarm_with has it. */
static void world_start_with(struct world *w, enum kind a, enum kind b, uint64_t seed, unsigned with)
{
    memset(w, 0, sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = seed, .rtt = RTT});
    for (unsigned i = 0; i < SERVERS; i++)
        home_start(&w->server[i], w->sim, PUBLIC, FIRST_SERVER + i);
    relay_start(&w->server[0]);
    home_start_with(&w->a, w->sim, a, 2, with);
    home_start_with(&w->b, w->sim, b, 3, with);
}

static void world_start(struct world *w, enum kind a, enum kind b, uint64_t seed)
{
    world_start_with(w, a, b, seed, 3);
}

static void world_stop(struct world *w)
{
    home_stop(&w->a);
    home_stop(&w->b);
    for (unsigned i = 0; i < SERVERS; i++)
        home_stop(&w->server[i]);
    sim_destroy(w->sim);
    site_free(&w->a.site);
    site_free(&w->b.site);
}

static void meet_all(struct world *w, struct home *h)
{
    for (unsigned i = 0; i < SERVERS; i++)
        for (int quic = 0; quic < 2; quic++)
            site_dial(w->sim, &h->site, &w->server[i].site, quic);
}

static void settle(struct world *w, wr_time time)
{
    meet_all(w, &w->a);
    meet_all(w, &w->b);
    assert_int_equal(wr_relay_client_hold(w->b.client, site_id(&w->server[0].site)), 0);
    assert_true(sim_run_while(w->sim, hold_waits, &w->b, 5 * WR_SEC));
    sim_run(w->sim, time);
}

/* Settles, dials through the relay, and says whether it became direct. */
static bool upgrade(struct world *w, wr_time time)
{
    struct dialled d;
    settle(w, time);
    dial_through(&w->a, &w->server[0], &w->b, &d);
    assert_true(sim_run_while(w->sim, dial_waits, &d, 10 * WR_SEC));
    assert_int_equal(d.err, 0);
    struct pair p = {&w->a, &w->b};
    return sim_run_while(w->sim, pair_waits, &p, 25 * WR_SEC);
}

static unsigned direct_count, first_count;

static void check(enum kind a, enum kind b, uint64_t seed)
{
    struct world w;
    world_start(&w, a, b, seed);
    bool direct = upgrade(&w, SETTLE);
    if (direct != kinds_meet_predicted(a, b))
        fail_msg("%s (a) and %s (b), seed %llu: %s; b: %s, attempt %u, trick %s, %u reports", kind_names[a],
                 kind_names[b], (unsigned long long)seed, direct ? "direct" : "relayed",
                 wr_dcutr_outcome_name(w.b.last.outcome), w.b.last.attempt, wr_plan_trick_name(w.b.last.trick),
                 w.b.reports);
    direct_count += direct;
    first_count += direct && w.b.last.attempt <= 1;
    /* Nobody is left with nothing. */
    assert_non_null(wr_swarm_conn(w.a.site.swarm, site_id(&w.b.site)));
    world_stop(&w);
}

/* Each kind in both roles, against an easy, a counting and a doubly translated one. */
static void each_kind(void **state)
{
    static const enum kind others[] = {PORT_RESTRICTED, SEQUENTIAL, CARRIER};
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        for (unsigned i = 0; i < 3; i++) {
            check((enum kind)kind, others[i], 1 + (uint64_t)kind);
            check(others[i], (enum kind)kind, 100 + (uint64_t)kind);
        }
    }
    print_message("%u direct, %u of them at the first attempt\n", direct_count, first_count);
}

/* WARREN_SEEDS: how many. */
static void by_chance(void **state)
{
    const char *text = getenv("WARREN_SEEDS");
    unsigned long seeds = text ? strtoul(text, NULL, 10) : 20;
    (void)state;
    for (unsigned long seed = 1; seed <= seeds; seed++) {
        uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15);
        check((enum kind)((x >> 20) % KINDS), (enum kind)((x >> 40) % KINDS), 1000 + seed);
    }
}

/* A counting NAT whose newest port nobody has seen for hours: one is looked for before it is reckoned with. */
static void hours_later(void **state)
{
    (void)state;
    static const enum kind others[] = {PORT_RESTRICTED, SEQUENTIAL};
    for (unsigned i = 0; i < 2; i++) {
        struct world w;
        world_start(&w, SEQUENTIAL, others[i], 31 + i);
        assert_true(upgrade(&w, 3 * WR_HOUR));
        world_stop(&w);
    }
}

/* The home that counts has dialled the other one's endpoint just before, in vain: its NAT goes on with that mapping, and
 * what comes next is not where it is. */
static void a_dial_before(void **state)
{
    (void)state;
    for (unsigned quic = 0; quic < 2; quic++) {
        struct world w;
        struct dialled d = {0};
        world_start(&w, SEQUENTIAL, PORT_RESTRICTED, 51 + quic);
        settle(&w, SETTLE);
        struct wr_addr at = {.ip = *simnat_ip4(w.b.site.nat), .port = PORT};
        struct wr_maddr outside;
        assert_int_equal(wr_maddr_from_addr(&at, quic, &outside), 0);
        assert_int_equal(wr_swarm_connect(w.a.site.swarm, site_id(&w.b.site), &outside, 1, WR_ORIGIN_OWNER, 0,
                                          site_on_dialled, &d, NULL),
                         0);
        assert_true(sim_run_while(w.sim, dial_waits, &d, 20 * WR_SEC));
        assert_int_not_equal(d.err, 0);
        dial_through(&w.a, &w.server[0], &w.b, &d);
        assert_true(sim_run_while(w.sim, dial_waits, &d, 10 * WR_SEC));
        assert_int_equal(d.err, 0);
        struct pair p = {&w.a, &w.b};
        assert_true(sim_run_while(w.sim, pair_waits, &p, 25 * WR_SEC));
        sim_run(w.sim, WR_MSEC);
        assert_int_equal(w.b.last.outcome, WR_DCUTR_PUNCHED);
        assert_int_equal(w.b.last.attempt, 1);
        world_stop(&w);
    }
}

struct round {
    struct home *b;
    const struct wr_peerid *a;
};

static bool sending_waits(void *arg)
{
    struct round *r = arg;
    struct wr_dcutr_now now;
    return !wr_dcutr_now(r->b->dcutr, r->a, &now) || !now.sending;
}

static bool attempt_waits(void *arg)
{
    return !sending_waits(arg);
}

static struct simnat *outermost(const struct site *s)
{
    return s->carrier ? s->carrier : s->nat;
}

/* What the two send each other over UDP gets lost, or does not any more. */
static void lose(struct world *w, bool lost)
{
    struct simnat *a = outermost(&w->a.site), *b = outermost(&w->b.site);
    simnat_deaf(a, lost ? simnat_ip4(b) : NULL);
    simnat_deaf(b, lost ? simnat_ip4(a) : NULL);
}

/* Whatever is sent in the first attempts is lost. What they took of the allowance of an address, and of a
 * counting NAT's ports, keeps the next one from nothing. */
static void attempts_that_are_lost(void **state)
{
    static const enum kind pairs[][2] = {{SEQUENTIAL, PORT_RESTRICTED},
                                         {PORT_RESTRICTED, SEQUENTIAL},
                                         {CARRIER, SEQUENTIAL},
                                         {SEQUENTIAL, SEQUENTIAL}};
    (void)state;
    for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        for (unsigned lost = 1; lost < WR_PLAN_ATTEMPTS; lost++) {
            struct world w;
            struct dialled d;
            world_start_with(&w, pairs[i][0], pairs[i][1], 61 + i, 2);
            struct round r = {&w.b, site_id(&w.a.site)};
            settle(&w, SETTLE);
            dial_through(&w.a, &w.server[0], &w.b, &d);
            for (unsigned k = 0; k < lost; k++) {
                assert_true(sim_run_while(w.sim, sending_waits, &r, 20 * WR_SEC));
                lose(&w, true);
                assert_true(sim_run_while(w.sim, attempt_waits, &r, 20 * WR_SEC));
                lose(&w, false);
                assert_int_equal(w.b.last.attempt, k + 1);
            }
            struct pair p = {&w.a, &w.b};
            if (!sim_run_while(w.sim, pair_waits, &p, 10 * WR_SEC))
                fail_msg("%s (a) and %s (b), %u lost: %s", kind_names[pairs[i][0]], kind_names[pairs[i][1]], lost,
                         wr_dcutr_outcome_name(w.b.last.outcome));
            sim_run(w.sim, WR_MSEC);
            assert_int_equal(w.b.last.attempt, lost + 1);
            world_stop(&w);
        }
    }
}

/* A home is late at the agreed moment, and its router has taken the peer's first packet for itself: it gives our own
 * another port than anybody has seen, and goes on so. */
static void a_router_that_took_the_first_packet(void **state)
{
    static const enum kind others[] = {SEQUENTIAL, PORT_RESTRICTED, CARRIER, ANSWERING};
    (void)state;
    for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        for (unsigned asks = 0; asks < 2; asks++) {
            struct world w;
            struct dialled d;
            world_start_with(&w, asks ? others[i] : ANSWERING, asks ? ANSWERING : others[i], 81 + i, 2);
            struct home *late = asks ? &w.b : &w.a;
            struct round r = {&w.b, site_id(&w.a.site)};
            settle(&w, SETTLE);
            dial_through(&w.a, &w.server[0], &w.b, &d);
            assert_true(sim_run_while(w.sim, sending_waits, &r, 20 * WR_SEC));
            sim_run(w.sim, RTT / 2);
            sim_pause(late->site.host, true);
            sim_run(w.sim, 3 * RTT);
            sim_pause(late->site.host, false);
            struct pair p = {&w.a, &w.b};
            if (!sim_run_while(w.sim, pair_waits, &p, 20 * WR_SEC))
                fail_msg("%s, %s: %s", kind_names[others[i]], asks ? "which was reached" : "which reached the other",
                         wr_dcutr_outcome_name(w.b.last.outcome));
            sim_run(w.sim, WR_MSEC);
            assert_true(simnat_count(late->site.nat)->moved > 0);
            assert_int_equal(w.b.last.attempt, 2);
            /* The port is that connection's, and goes with it. */
            unsigned open = sim_descriptors(late->site.host);
            wr_swarm_disconnect(w.a.site.swarm, site_id(&w.b.site), WR_CONN_OK);
            sim_run(w.sim, 10 * WR_SEC);
            assert_int_equal(sim_descriptors(late->site.host), open - 1);
            world_stop(&w);
        }
    }
}

/* Nothing came of it, until the router of the other home opens a port: identify tells over the relay, and it is tried
 * again, no sooner than half a minute after the last time. */
static void an_opened_port_ends_the_relaying(void **state)
{
    struct world w;
    struct wr_addr at = {.port = PORT};
    struct wr_maddr mapped;
    (void)state;
    world_start(&w, PORT_RESTRICTED, RANDOM, 41);
    assert_false(upgrade(&w, SETTLE));
    simnat_forward(w.a.site.nat, sim_host_ip4(w.a.site.host), PORT);
    at.ip = *simnat_ip4(w.a.site.nat);
    assert_int_equal(wr_maddr_from_addr(&at, true, &mapped), 0);
    wr_addrbook_put(wr_swarm_addrbook(w.a.site.swarm), wr_maddr_bytes(&mapped), WR_ADDR_CONFIGURED, sim_now(w.sim));
    wr_swarm_addrs_changed(w.a.site.swarm);
    struct pair p = {&w.a, &w.b};
    assert_true(sim_run_while(w.sim, pair_waits, &p, WR_DCUTR_REST_CHANGE + 5 * WR_SEC));
    world_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind),
        cmocka_unit_test(by_chance),
        cmocka_unit_test(hours_later),
        cmocka_unit_test(a_dial_before),
        cmocka_unit_test(attempts_that_are_lost),
        cmocka_unit_test(a_router_that_took_the_first_packet),
        cmocka_unit_test(an_opened_port_ends_the_relaying),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
