/* The whole way: nodes that know nothing meet a few others, learn how they are seen and what their NAT is like, get a
 * place at a relay, are found through it, and end up with a direct connection. All services are the real ones. */
#include "tests/sim/nat_world.h"

#include "autonat/autonat_client.h"
#include "autonat/autonat_server.h"
#include "dcutr/dcutr.h"
#include "identify/identify.h"
#include "identify/ping.h"
#include "relay/relay_client.h"
#include "relay/relay_server.h"

#define RTT     (80 * WR_MSEC)
#define SERVERS 4
#define FIRST_SERVER 10    /* seed of the first; homes are below */
#define SETTLE  (30 * WR_SEC)    /* verdicts are due by then; the bound */

struct home {
    struct site site;
    struct wr_identify *identify;
    struct wr_autonat_client *autonat;
    struct wr_autonat_server *server;
    struct wr_pong *pong;
    struct wr_relay_client *client;
    struct wr_relay_server *relay;
    struct wr_dcutr *dcutr;
    unsigned reports, holds;
    struct wr_dcutr_report last;
};

struct world {
    struct sim *sim;
    struct home server[SERVERS], a, b;
};

static void on_report(void *arg, const struct wr_peerid *peer, const struct wr_dcutr_report *report)
{
    struct home *h = arg;
    (void)peer;
    h->reports++;
    h->last = *report;
}

static void on_hold(void *arg, const struct wr_peerid *relay, int err, unsigned status)
{
    struct home *h = arg;
    (void)relay, (void)status;
    h->holds += err == 0;
}

static void home_start(struct world *w, struct home *h, enum kind kind, uint8_t seed)
{
    site_start(&h->site, w->sim, kind, seed);
    struct wr_swarm *sw = h->site.swarm;
    h->identify = wr_identify_create(&(struct wr_identify_options){.swarm = sw});
    h->pong = wr_pong_create(sw);
    h->server = kind == PUBLIC && seed >= FIRST_SERVER ? wr_autonat_server_create(sw) : NULL;
    h->autonat = wr_autonat_client_create(sw);
    h->client = wr_relay_client_create(
        &(struct wr_relay_client_options){.swarm = sw, .on_hold = on_hold, .arg = h});
    h->dcutr = wr_dcutr_create(&(struct wr_dcutr_options){.swarm = sw, .on_report = on_report, .arg = h});
    assert_true(h->identify && h->pong && h->autonat && h->client && h->dcutr);
}

static void relay_start(struct home *h)
{
    struct wr_relay_server_options o;
    wr_relay_server_defaults(&o, h->site.swarm);
    o.mode = WR_RELAY_ON;
    h->relay = wr_relay_server_create(&o);
    assert_non_null(h->relay);
}

static void home_stop(struct home *h)
{
    wr_dcutr_destroy(h->dcutr);
    wr_relay_client_destroy(h->client);
    wr_relay_server_destroy(h->relay);
    wr_autonat_client_destroy(h->autonat);
    wr_autonat_server_destroy(h->server);
    wr_pong_destroy(h->pong);
    wr_identify_destroy(h->identify);
    site_stop(&h->site);
}

static void world_start(struct world *w, enum kind a, enum kind b, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = seed, .rtt = RTT});
    for (unsigned i = 0; i < SERVERS; i++)
        home_start(w, &w->server[i], PUBLIC, (uint8_t)(FIRST_SERVER + i));
    relay_start(&w->server[0]);
    home_start(w, &w->a, a, 2);
    home_start(w, &w->b, b, 3);
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

struct pair {
    struct home *a, *b;
};

static bool is_direct(const struct home *from, const struct home *to)
{
    struct wr_conn *c = wr_swarm_conn(from->site.swarm, site_id(&to->site));
    return c && !c->circuit;
}

static bool pair_waits(void *arg)
{
    struct pair *p = arg;
    return !is_direct(p->a, p->b) || !is_direct(p->b, p->a);
}

static bool hold_waits(void *arg)
{
    return ((struct home *)arg)->holds == 0;
}

/* Settles, dials through the relay, and says whether it became direct. */
static bool upgrade(struct world *w)
{
    struct dialled d = {0};
    struct wr_maddr at = site_at(&w->server[0].site, false);
    const struct wr_peerid *relay = site_id(&w->server[0].site);
    struct wr_maddr circuit = at, tail;
    meet_all(w, &w->a);
    meet_all(w, &w->b);
    assert_int_equal(wr_relay_client_hold(w->b.client, relay), 0);
    assert_true(sim_run_while(w->sim, hold_waits, &w->b, 5 * WR_SEC));
    sim_run(w->sim, SETTLE);
    assert_int_equal(wr_maddr_append_peer(&circuit, relay), 0);
    assert_int_equal(wr_maddr_parse("/p2p-circuit", &tail), 0);
    assert_int_equal(wr_maddr_append(&circuit, wr_maddr_bytes(&tail)), 0);
    assert_int_equal(wr_swarm_connect(w->a.site.swarm, site_id(&w->b.site), &circuit, 1, WR_ORIGIN_OWNER, 0,
                                      site_on_dialled, &d, NULL),
                     0);
    assert_true(sim_run_while(w->sim, dial_waits, &d, 10 * WR_SEC));
    assert_int_equal(d.err, 0);
    struct pair p = {&w->a, &w->b};
    return sim_run_while(w->sim, pair_waits, &p, 25 * WR_SEC);
}

/* As kinds_meet, and ports that can be told in advance. */
static bool expect_direct(enum kind a, enum kind b)
{
    bool told_a = kind_is_known(a) || a == SEQUENTIAL, told_b = kind_is_known(b) || b == SEQUENTIAL;
    return (told_a && told_b) || kind_lets_in(a) || kind_lets_in(b);
}

static unsigned direct_count, first_count;

static void check(enum kind a, enum kind b, uint64_t seed)
{
    struct world w;
    world_start(&w, a, b, seed);
    bool direct = upgrade(&w);
    if (direct != expect_direct(a, b))
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
