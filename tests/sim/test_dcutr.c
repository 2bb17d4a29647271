/* From a relayed connection to a direct one: every kind of NAT against every other, the times, the manners. */
#include "tests/sim/nat_world.h"

#include "dcutr/dcutr_impl.h"
#include "tests/sim/toy_relay.h"

#include <stdlib.h>

#define L (160 * WR_MSEC)    /* through the relay: two legs */
#define D (80 * WR_MSEC)

#define DATA "/test/data"
static const char *const data_offer[] = {DATA, NULL};

enum transports { TCP = 1, QUIC = 2, BOTH = 3 };

struct end {
    struct site site;
    struct wr_dcutr *dcutr;
    unsigned reports;
    struct wr_dcutr_report last;
    wr_time relayed_at, direct_at;
    struct wr_swarm_watch watch;
    unsigned served;
};

struct world {
    struct sim *sim;
    struct site relay;
    struct end a, b;    /* a dials b through the relay */
    struct toy toy;
};

static void on_report(void *arg, const struct wr_peerid *peer, const struct wr_dcutr_report *report)
{
    struct end *e = arg;
    (void)peer;
    e->reports++;
    e->last = *report;
}

static void on_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct end *e = wr_list_entry(watch, struct end, watch);
    bool peer = event->type == WR_SWARM_OPENED && event->peer->bytes[event->peer->len - 1] != 0;
    if (peer && event->conn->circuit && !e->relayed_at)
        e->relayed_at = wr_env_now(e->site.env);
    if (peer && !event->conn->circuit && e->relayed_at && !e->direct_at)
        e->direct_at = wr_env_now(e->site.env);
}

static void data_in(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    (void)arg;
    wr_stream_write(s, data.ptr, data.len);
}

static const struct wr_stream_ops echo_ops = {.on_data = data_in};

static void on_data_stream(struct wr_stream *s, void *arg)
{
    struct end *e = arg;
    e->served++;
    wr_stream_set_ops(s, &echo_ops, e);
}

/* What the laboratory knows of the NAT, as a node would after a while. */
static void tell_nat(struct site *s)
{
    struct wr_nat *nat = wr_swarm_nat(s->swarm);
    struct wr_nat_kind kind = {.mapping = s->kind < SEQUENTIAL || s->kind == CARRIER ? WR_NAT_MAP_EIM : WR_NAT_MAP_APDM,
                               .filtering = WR_NAT_FILTER_APDF, .last_port_at = wr_env_now(s->env)};
    struct wr_addr seen[2];
    assert_true(wr_maddr_addr(wr_maddr_bytes(&s->tcp), &seen[0]));
    assert_true(wr_maddr_addr(wr_maddr_bytes(&s->quic), &seen[1]));
    kind.alloc = s->kind == SEQUENTIAL ? WR_NAT_ALLOC_SEQUENTIAL
                 : s->kind == RANDOM   ? WR_NAT_ALLOC_RANDOM
                                       : WR_NAT_ALLOC_PRESERVING;
    kind.step = s->kind == SEQUENTIAL;
    nat->external = seen[0].ip;
    nat->tcp = nat->udp = kind;
    /* One counter for both in simnat: the later one of the two observations counts. */
    nat->tcp.last_port = nat->udp.last_port = seen[0].port > seen[1].port ? seen[0].port : seen[1].port;
}

static void know(struct end *e, enum transports with)
{
    struct wr_addrbook *book = wr_swarm_addrbook(e->site.swarm);
    wr_time now = wr_env_now(e->site.env);
    if (with & TCP)
        wr_addrbook_put(book, wr_maddr_bytes(&e->site.tcp), WR_ADDR_CANDIDATE, now);
    if (with & QUIC)
        wr_addrbook_put(book, wr_maddr_bytes(&e->site.quic), WR_ADDR_CANDIDATE, now);
    wr_swarm_addrs_changed(e->site.swarm);
}

static void end_start_here(struct world *w, struct end *e, enum transports with, uint8_t seed)
{
    struct wr_protocol p = {.name = DATA, .on_stream = on_data_stream, .arg = e, .inbound_max = 9, .limited = true};
    site_swarm_with(&e->site, seed, with);
    e->watch.on_event = on_event;
    wr_swarm_watch(e->site.swarm, &e->watch);
    e->dcutr = wr_dcutr_create(
        &(struct wr_dcutr_options){.swarm = e->site.swarm, .on_report = on_report, .arg = e});
    assert_non_null(e->dcutr);
    assert_int_equal(wr_swarm_handle(e->site.swarm, &p), 0);
    site_learn(w->sim, &e->site, &w->relay);
    tell_nat(&e->site);
}

static void end_start(struct world *w, struct end *e, enum kind kind, enum transports with, uint8_t seed)
{
    site_host(&e->site, w->sim, kind, seed);
    end_start_here(w, e, with, seed);
}

static void toy_up(struct world *w)
{
    struct wr_maddr at = site_at(&w->relay, false);
    w->toy = (struct toy){.relay = w->relay.swarm, .a = w->a.site.swarm, .b = w->b.site.swarm};
    toy_start(&w->toy, &at);
}

static void world_start(struct world *w, enum kind a, enum kind b, enum transports with, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = seed, .rtt = D});
    site_start(&w->relay, w->sim, PUBLIC, 1);
    end_start(w, &w->a, a, with, 2);
    end_start(w, &w->b, b, with, 3);
    toy_up(w);
}

static void end_stop(struct end *e)
{
    wr_dcutr_destroy(e->dcutr);
    wr_swarm_unwatch(&e->watch);
    site_stop(&e->site);
}

static void world_stop(struct world *w)
{
    wr_swarm_set_circuits(w->a.site.swarm, NULL);
    end_stop(&w->a);
    end_stop(&w->b);
    site_stop(&w->relay);
    sim_destroy(w->sim);
    site_free(&w->a.site);
    site_free(&w->b.site);
    site_free(&w->relay);
}

static bool b_waits(void *arg)
{
    struct world *w = arg;
    return !wr_swarm_conn(w->b.site.swarm, site_id(&w->a.site));
}

/* a dials b through the relay, and both have the connection. */
static void relay_up(struct world *w)
{
    struct dialled d = {0};
    assert_int_equal(wr_swarm_connect(w->a.site.swarm, site_id(&w->b.site), &w->toy.announced.addr, 1, WR_ORIGIN_OWNER, 0,
                                      site_on_dialled, &d, NULL),
                     0);
    assert_true(sim_run_while(w->sim, dial_waits, &d, 10 * WR_SEC));
    assert_int_equal(d.err, 0);
    assert_non_null(d.conn->circuit);
    assert_true(sim_run_while(w->sim, b_waits, w, WR_SEC));
}

static bool is_direct(struct end *from, struct end *to)
{
    struct wr_conn *c = wr_swarm_conn(from->site.swarm, site_id(&to->site));
    return c && !c->circuit;
}

static bool not_both_direct(void *arg)
{
    struct world *w = arg;
    return !is_direct(&w->a, &w->b) || !is_direct(&w->b, &w->a);
}

struct talk {
    size_t got;
    bool closed;
};

static void talk_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    (void)s;
    ((struct talk *)arg)->got += data.len;
}

static void talk_close(struct wr_stream *s, void *arg, int err)
{
    (void)s, (void)err;
    ((struct talk *)arg)->closed = true;
}

static const struct wr_stream_ops talk_ops = {.on_data = talk_data, .on_close = talk_close};

static bool talk_waits(void *arg)
{
    return ((struct talk *)arg)->got < 5;
}

/* Five bytes there and back over the best connection. */
static void exchange(struct world *w, struct end *from, struct end *to)
{
    struct talk t = {0};
    int err = 0;
    struct wr_stream *s = wr_swarm_open_with(from->site.swarm, site_id(&to->site), WR_OPEN_LIMITED, data_offer, &talk_ops,
                                             &t, &err);
    assert_non_null(s);
    assert_int_equal(wr_stream_write(s, "hello", 5), 5);
    assert_true(sim_run_while(w->sim, talk_waits, &t, 5 * WR_SEC));
    wr_stream_reset(s, WR_STREAM_OK);
}

/* ---- every pair ------------------------------------------------------------------------------------------------ */

/* What issue and laboratory expect: prediction adds the pairs whose ports can be told in advance. */
static bool expect_direct(enum kind a, enum kind b)
{
    bool told_a = kind_is_known(a) || a == SEQUENTIAL, told_b = kind_is_known(b) || b == SEQUENTIAL;
    return (told_a && told_b) || kind_lets_in(a) || kind_lets_in(b);
}

static bool needs_prediction(enum kind a, enum kind b)
{
    return !kinds_meet(a, b);
}

static unsigned first_tries, later_tries;

static void check_pair(enum kind a, enum kind b, enum transports with, uint64_t seed)
{
    struct world w;
    bool expected = expect_direct(a, b);
    world_start(&w, a, b, with, seed);
    know(&w.a, with);
    know(&w.b, with);
    relay_up(&w);
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

/* ---- times ---------------------------------------------------------------------------------------------------- */

/* From the relayed connection at b to the direct one at the client, which may use it from then on; and nobody's
 * first packet came before the other's hole was open. */
static void it_takes_no_longer_than_it_must(void **state)
{
    (void)state;
    for (int quic = 0; quic < 2; quic++) {
        struct world w;
        world_start(&w, PORT_RESTRICTED, REFUSING, quic ? QUIC : TCP, 5);
        know(&w.a, quic ? QUIC : TCP);
        know(&w.b, quic ? QUIC : TCP);
        unsigned before[2] = {simnat_count(w.a.site.nat)->unsolicited, simnat_count(w.b.site.nat)->unsolicited};
        relay_up(&w);
        assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
        wr_time floor = L * 3 / 2 + (quic ? 1 : 2) * D, took = w.a.direct_at - w.b.relayed_at;
        if (took > floor * 11 / 10 || took < floor * 9 / 10)
            fail_msg("%s: %d ms, the floor is %d", quic ? "QUIC" : "TCP", (int)(took / WR_MSEC), (int)(floor / WR_MSEC));
        assert_int_equal(simnat_count(w.a.site.nat)->unsolicited, before[0]);
        assert_int_equal(simnat_count(w.b.site.nat)->unsolicited, before[1]);
        assert_in_range(w.b.last.rtt, L - WR_MSEC, L + WR_MSEC);
        assert_in_range(w.a.last.rtt, L - WR_MSEC, L + WR_MSEC);
        assert_true(w.b.last.took >= L * 3 / 2 && w.b.last.took <= took + D);
        world_stop(&w);
    }
}

/* ---- the plain dial beside it ------------------------------------------------------------------------------------ */

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
    wr_peerstore_add_addr(wr_swarm_peerstore(w.b.site.swarm), site_id(&w.a.site), wr_maddr_bytes(&at), WR_TTL_RECENT,
                          false);
    wr_swarm_identified(w.b.site.swarm, wr_swarm_conn(w.b.site.swarm, site_id(&w.a.site)));
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    struct wr_conn *c = wr_swarm_conn(w.b.site.swarm, site_id(&w.a.site));
    assert_true(c->outbound);
    /* With an address of its own it is both at once, and one direct connection ends all. */
    world_stop(&w);
    world_start(&w, PUBLIC, PORT_RESTRICTED, BOTH, 6);
    know(&w.a, BOTH);
    know(&w.b, BOTH);
    wr_peerstore_add_addr(wr_swarm_peerstore(w.b.site.swarm), site_id(&w.a.site), wr_maddr_bytes(&at), WR_TTL_RECENT,
                          false);
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

/* ---- when it begins ---------------------------------------------------------------------------------------------- */

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
    world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    know(&w.a, BOTH);
    know(&w.b, BOTH);
    wr_dcutr_destroy(w.a.dcutr);
    w.a.dcutr = NULL;
    relay_up(&w);
    sim_run(w.sim, 60 * WR_SEC);
    assert_int_equal(w.b.last.outcome, WR_DCUTR_UNSUPPORTED);
    assert_int_equal(w.b.reports, 1);
    w.a.dcutr = wr_dcutr_create(&(struct wr_dcutr_options){.swarm = w.a.site.swarm, .on_report = on_report, .arg = &w.a});
    struct wr_bytes name = wr_bytes_cstr(WR_DCUTR_NAME);
    wr_peerstore_set_protocols(wr_swarm_peerstore(w.b.site.swarm), site_id(&w.a.site), &name, 1);
    wr_swarm_peer_changed(w.b.site.swarm, site_id(&w.a.site));
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    assert_int_equal(w.b.last.attempt, 1);    /* the other one was none */
    world_stop(&w);
}

/* ---- retries ------------------------------------------------------------------------------------------------------ */

/* Three attempts, the last with the roles of old, then rest: ten minutes, or half a minute when addresses changed. */
static void it_rests_when_it_fails(void **state)
{
    struct world w;
    struct wr_dcutr_report r[WR_DCUTR_REPORTS];
    (void)state;
    world_start(&w, PORT_RESTRICTED, RANDOM, BOTH, 5);
    know(&w.a, BOTH);
    know(&w.b, BOTH);
    relay_up(&w);
    sim_run(w.sim, 25 * WR_SEC);
    assert_int_equal(w.b.reports, 3);
    assert_int_equal(wr_dcutr_reports(w.b.dcutr, site_id(&w.a.site), r, WR_DCUTR_REPORTS), 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(r[i].attempt, 3 - i);
        assert_int_equal(r[i].outcome, WR_DCUTR_FAILED);
        assert_int_equal(r[i].err, WR_ETIMEOUT);
        assert_int_equal(r[i].role, i == 0 ? WR_PUNCH_CLIENT : WR_PUNCH_SERVER);
        assert_int_equal(r[i].count, 2);
        assert_true(r[i].tries[0].packets > 0 && r[i].rtt > 0);
    }
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
    exchange(&w, &w.a, &w.b);
    world_stop(&w);
}

/* Peers that never exchange roles are not met with exchanged ones. */
static void rust_and_js_keep_their_roles(void **state)
{
    static const char *const agents[] = {"rust-libp2p/0.57.0", "js-libp2p/3.3.0 UserAgent=node", "nim-libp2p"};
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct world w;
        world_start(&w, PORT_RESTRICTED, RANDOM, TCP, 5);
        know(&w.a, TCP);
        know(&w.b, TCP);
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
        struct simnat *nat = simnat_add(w.sim, &(struct simnat_options){.filtering = SIMNAT_APDF, .hairpin = hairpin});
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

/* The direct connection breaks while the relayed one is there: it is made again. */
static void a_lost_connection_is_made_again(void **state)
{
    struct world w;
    (void)state;
    world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    know(&w.a, BOTH);
    know(&w.b, BOTH);
    relay_up(&w);
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    wr_conn_close(wr_swarm_conn(w.a.site.swarm, site_id(&w.b.site)), WR_CONN_OK);
    sim_run(w.sim, D);
    assert_false(is_direct(&w.a, &w.b));
    assert_true(sim_run_while(w.sim, not_both_direct, &w, 5 * WR_SEC));
    assert_int_equal(w.b.reports, 2);
    world_stop(&w);
}

/* ---- manners -------------------------------------------------------------------------------------------------------- */

struct liar {
    struct wr_msg msg;
    struct wr_maddr named[2];
    unsigned answers, ends;
    bool silent;    /* says nothing after its CONNECT */
};

static void liar_send(struct liar *l, enum wr_dcutr_type type)
{
    struct wr_dcutr_msg m = {.type = type};
    struct wr_buf b;
    for (size_t i = 0; i < 2 && type == WR_DCUTR_CONNECT; i++)
        m.addrs[m.count++] = l->named[i];
    wr_buf_init(&b, WR_DCUTR_SEND_MAX);
    wr_dcutr_msg_encode(&m, &b);
    wr_msg_send(&l->msg, wr_buf_bytes(&b));
    wr_buf_clear(&b);
}

static void liar_hears(struct wr_msg *m, struct wr_bytes body)
{
    struct liar *l = wr_list_entry(m, struct liar, msg);
    (void)body;
    l->answers++;
    if (!l->silent)
        liar_send(l, WR_DCUTR_SYNC);
}

static void liar_ends(struct wr_msg *m, int err)
{
    (void)err;
    wr_list_entry(m, struct liar, msg)->ends++;
}

static const struct wr_msg_ops liar_ops = {.on_message = liar_hears, .on_close = liar_ends};

/* One exchange of b with a, by hand. */
static void lie(struct world *w, struct liar *l)
{
    static const char *const names[] = {WR_DCUTR_NAME, NULL};
    static const struct wr_stream_ops none;
    int err = 0;
    struct wr_conn *c = wr_swarm_conn(w->b.site.swarm, site_id(&w->a.site));
    assert_true(c && c->circuit);
    struct wr_stream *s = wr_conn_open_stream(c, names, &none, NULL, &err);
    assert_non_null(s);
    wr_msg_start(&l->msg, w->b.site.env, s, WR_DCUTR_READ_MAX, &liar_ops);
    liar_send(l, WR_DCUTR_CONNECT);
}

/* b names somebody else's addresses, over and over. He gets few packets, and b soon no answers. */
static void a_liar_cannot_make_us_shout(void **state)
{
    struct world w;
    struct site victim;
    struct liar l = {0};
    (void)state;
    world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    site_start(&victim, w.sim, REFUSING, 9);
    site_learn(w.sim, &victim, &w.relay);
    know(&w.a, BOTH);
    wr_dcutr_destroy(w.b.dcutr);
    w.b.dcutr = NULL;
    relay_up(&w);
    l.named[0] = victim.tcp;
    l.named[1] = victim.quic;
    unsigned before = simnat_count(victim.nat)->unsolicited;
    for (unsigned i = 0; i < 30; i++) {
        lie(&w, &l);
        sim_run(w.sim, 7 * WR_SEC);
        wr_msg_reset(&l.msg, WR_STREAM_OK);
    }
    unsigned got = simnat_count(victim.nat)->unsolicited - before;
    assert_in_range(got, 10, WR_PUNCH_QUIET_MAX);
    assert_in_range(l.answers, 3, WR_DCUTR_ASKED_MAX);
    site_stop(&victim);
    world_stop(&w);
    site_free(&victim);
}

/* Messages out of order, of the wrong kind, too long, or none: each ends the exchange, and nothing is sent. */
static void what_is_not_in_order(void **state)
{
    struct world w;
    struct liar l = {.silent = true};
    (void)state;
    world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    know(&w.a, BOTH);
    wr_dcutr_destroy(w.b.dcutr);
    w.b.dcutr = NULL;
    relay_up(&w);
    l.named[0] = w.relay.tcp;
    for (unsigned i = 0; i < 5; i++) {
        uint8_t junk[WR_DCUTR_READ_MAX + 64];
        l.ends = 0;
        lie(&w, &l);
        memset(junk, 0xff, sizeof(junk));
        if (i == 1)
            liar_send(&l, WR_DCUTR_CONNECT);    /* a second time */
        if (i == 2)
            wr_msg_send(&l.msg, WR_BYTES(junk, 3));
        if (i == 3)
            wr_msg_send(&l.msg, WR_BYTES(junk, sizeof(junk)));
        if (i == 4)
            wr_msg_shut(&l.msg);
        sim_run(w.sim, 12 * WR_SEC);
        assert_int_equal(w.a.last.outcome, WR_DCUTR_NO_ANSWER);
        assert_int_equal(w.a.last.err, i == 0 ? WR_ETIMEOUT : i == 4 ? WR_ECLOSED : WR_EPROTO);
        assert_int_equal(w.a.reports, i + 1);
        wr_msg_reset(&l.msg, WR_STREAM_OK);
    }
    world_stop(&w);
}

/* Over a direct connection, and from the side that dialled, nobody has a reason to ask. */
static void only_the_reached_side_may_ask(void **state)
{
    struct world w;
    struct liar l = {0};
    struct wr_dcutr_stats stats;
    static const char *const names[] = {WR_DCUTR_NAME, NULL};
    static const struct wr_stream_ops none;
    int err = 0;
    (void)state;
    world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
    know(&w.a, BOTH);
    relay_up(&w);
    struct wr_conn *c = wr_swarm_conn(w.a.site.swarm, site_id(&w.b.site));
    struct wr_stream *s = wr_conn_open_stream(c, names, &none, NULL, &err);
    wr_msg_start(&l.msg, w.a.site.env, s, WR_DCUTR_READ_MAX, &liar_ops);
    liar_send(&l, WR_DCUTR_CONNECT);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(l.ends, 1);
    assert_int_equal(l.answers, 0);
    wr_dcutr_stats(w.b.dcutr, &stats);
    assert_int_equal(stats.refused, 1);
    world_stop(&w);
}

/* ---- breaking off ---------------------------------------------------------------------------------------------------- */

/* The relay is cut at every stage: no leak, no hang, and what was agreed on before is still carried out. */
static void the_relay_breaks(void **state)
{
    (void)state;
    for (wr_time after = 0; after < 400 * WR_MSEC; after += 40 * WR_MSEC) {
        struct world w;
        world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
        know(&w.a, BOTH);
        know(&w.b, BOTH);
        relay_up(&w);
        sim_run(w.sim, after);
        sim_kill(w.relay.host);
        sim_run(w.sim, 60 * WR_SEC);
        struct wr_dcutr_stats stats;
        wr_dcutr_stats(w.b.dcutr, &stats);
        assert_int_equal(stats.running, 0);
        assert_int_equal(is_direct(&w.a, &w.b), is_direct(&w.b, &w.a));
        if (after > L * 3 / 2 + 10 * WR_MSEC)    /* the SYNC had arrived */
            assert_true(is_direct(&w.a, &w.b));
        world_stop(&w);
    }
}

static void an_end_in_between(void **state)
{
    (void)state;
    for (wr_time after = 0; after < 500 * WR_MSEC; after += 30 * WR_MSEC) {
        struct world w;
        world_start(&w, PORT_RESTRICTED, RANDOM, BOTH, 5);
        know(&w.a, BOTH);
        know(&w.b, BOTH);
        relay_up(&w);
        sim_run(w.sim, after);
        world_stop(&w);
    }
}

static void memory_runs_out(void **state)
{
    bool reached = true;
    (void)state;
    for (uint64_t skip = 0; reached && skip < 2000; skip += 11) {
        struct world w;
        world_start(&w, PORT_RESTRICTED, PORT_RESTRICTED, BOTH, 5);
        know(&w.a, BOTH);
        know(&w.b, BOTH);
        relay_up(&w);
        sim_alloc_fail(skip, 1);
        sim_run_while(w.sim, not_both_direct, &w, 10 * WR_SEC);
        reached = sim_alloc_count() > skip;
        sim_alloc_fail(0, 0);
        world_stop(&w);
    }
    assert_false(reached);
}

/* Many peers are remembered, and no more than that. */
static void peers_are_bounded(void **state)
{
    struct world w;
    (void)state;
    world_start(&w, PUBLIC, PUBLIC, BOTH, 5);
    struct wr_peerid id = *site_id(&w.a.site);
    for (unsigned i = 0; i < WR_DCUTR_PEERS_MAX + 20; i++) {
        id.bytes[5] = (uint8_t)i, id.bytes[6] = (uint8_t)(i >> 8), id.bytes[7] = 1;
        struct wr_dcutr_peer *p = wr_dcutr_peer_get(w.b.dcutr, &id);
        assert_non_null(p);
        struct wr_dcutr_report r = {.outcome = WR_DCUTR_FAILED};
        wr_dcutr_note(p, &r);
        sim_run(w.sim, WR_MSEC);
    }
    assert_int_equal(w.b.dcutr->peers.count, WR_DCUTR_PEERS_MAX);
    struct wr_dcutr_report r;
    assert_int_equal(wr_dcutr_reports(w.b.dcutr, &id, &r, 1), 1);
    id.bytes[5] = id.bytes[6] = 0;
    assert_int_equal(wr_dcutr_reports(w.b.dcutr, &id, &r, 1), 0);
    world_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_over_tcp),
        cmocka_unit_test(every_pair_over_quic),
        cmocka_unit_test(by_chance),
        cmocka_unit_test(it_takes_no_longer_than_it_must),
        cmocka_unit_test(a_public_peer_is_simply_dialled),
        cmocka_unit_test(one_address_is_enough),
        cmocka_unit_test(a_peer_without_address),
        cmocka_unit_test(a_peer_that_does_not_speak_it_yet),
        cmocka_unit_test(it_rests_when_it_fails),
        cmocka_unit_test(rust_and_js_keep_their_roles),
        cmocka_unit_test(neighbours_meet_inside),
        cmocka_unit_test(a_lost_connection_is_made_again),
        cmocka_unit_test(a_liar_cannot_make_us_shout),
        cmocka_unit_test(what_is_not_in_order),
        cmocka_unit_test(only_the_reached_side_may_ask),
        cmocka_unit_test(the_relay_breaks),
        cmocka_unit_test(an_end_in_between),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(peers_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
