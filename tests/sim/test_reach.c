/* Nodes find out whether they can be reached: AutoNAT between whole swarms, behind NATs of every kind, among few and
 * among liars. */
#include "tests/sim/simnode.h"

#include "autonat/autonat_client.h"
#include "autonat/autonat_server.h"
#include "identify/identify.h"
#include "tests/sim/simnat.h"

#include <stdio.h>

#define RTT     (40 * WR_MSEC)
#define SERVERS 4    /* whom the client connects to */
#define OTHERS  2    /* whom only the servers know: strangers to the client */

struct member {
    struct node n;
    struct wr_maddr quic;
    struct wr_identify *identify;
    struct wr_autonat_client *client;
    struct wr_autonat_server *server;
};

struct world {
    struct sim *sim;
    struct simnat *nat;
    struct member c, s[SERVERS], x[OTHERS];
    unsigned servers, others;
};

static void member_start(struct world *w, struct member *m, unsigned seed)
{
    struct wr_addr at;
    node_start(&m->n, w->sim, seed);
    assert_true(wr_maddr_addr(wr_maddr_bytes(&m->n.addr), &at));
    assert_int_equal(wr_maddr_from_addr(&at, true, &m->quic), 0);
    assert_int_equal(wr_swarm_listen(m->n.swarm, wr_maddr_bytes(&m->quic)), 0);
    m->identify = wr_identify_create(&(struct wr_identify_options){.swarm = m->n.swarm});
    m->server = wr_autonat_server_create(m->n.swarm);
    assert_true(m->identify && m->server);
}

static void member_ask(struct member *m)
{
    m->client = wr_autonat_client_create(m->n.swarm);
    assert_non_null(m->client);
}

static void member_stop(struct member *m)
{
    if (!m->n.swarm)
        return;
    wr_autonat_client_destroy(m->client);
    wr_autonat_server_destroy(m->server);
    wr_identify_destroy(m->identify);
    node_stop(&m->n);
}

static void connect_to(struct world *w, struct member *from, struct member *to, bool quic)
{
    struct wr_maddr tcp = to->n.addr;
    if (quic)
        to->n.addr = to->quic;
    assert_int_equal(node_connect(w->sim, &from->n, &to->n), 0);
    to->n.addr = tcp;
}

/* Servers that know each other's strangers; a client behind `site` (NULL: on the internet). */
static void start(struct world *w, unsigned servers, unsigned others, const struct simnat_options *site)
{
    *w = (struct world){.servers = servers, .others = others};
    w->sim = sim_create(&(struct sim_options){.seed = 21, .rtt = RTT});
    for (unsigned i = 0; i < servers; i++)
        member_start(w, &w->s[i], 10 + i);
    for (unsigned i = 0; i < others; i++)
        member_start(w, &w->x[i], 20 + i);
    for (unsigned i = 0; i < servers; i++)
        for (unsigned k = 0; k < others; k++)
            connect_to(w, &w->s[i], &w->x[k], false);
    if (site) {
        w->nat = simnat_add(w->sim, site);
        struct wr_ip inner = {4, {192, 168, 1, 10}};
        if (site->mapping == SIMNAT_NONE)
            inner = *simnat_ip4(w->nat);
        w->c.n.host = sim_host_add(w->sim, &(struct sim_host_options){
                                               .gateway = simnat_gateway(w->nat), .ip4 = inner});
    }
    member_start(w, &w->c, 1);
    member_ask(&w->c);
}

static void stop(struct world *w)
{
    member_stop(&w->c);
    for (unsigned i = 0; i < w->servers; i++)
        member_stop(&w->s[i]);
    for (unsigned i = 0; i < w->others; i++)
        member_stop(&w->x[i]);
    sim_destroy(w->sim);
    if (w->nat)
        simnat_free(w->nat);
}

static void meet_all(struct world *w, bool quic)
{
    for (unsigned i = 0; i < w->servers; i++)
        connect_to(w, &w->c, &w->s[i], quic);
}

static enum wr_reachability reach(struct world *w)
{
    return wr_swarm_reachability(w->c.n.swarm, 4);
}

struct wait {
    struct world *w;
    enum wr_reachability is;
};

static bool still(void *arg)
{
    struct wait *wait = arg;
    return reach(wait->w) == wait->is;
}

/* How long until reachability is no longer unknown; -1: never within a minute and a half. */
static int seconds_to_know(struct world *w)
{
    struct wait wait = {.w = w, .is = WR_REACH_UNKNOWN};
    wr_time from = sim_now(w->sim);
    if (!sim_run_while(w->sim, still, &wait, 90 * WR_SEC))
        return -1;
    return (int)((sim_now(w->sim) - from) / WR_SEC);
}

static struct wr_autonat_client_stats stats(const struct world *w)
{
    struct wr_autonat_client_stats s;
    wr_autonat_client_stats(w->c.client, &s);
    return s;
}

/* ---- sites --------------------------------------------------------------------------------------------- */

struct site {
    const char *name;
    bool internet;
    struct simnat_options nat;
    enum wr_reachability truth;
    int within;    /* seconds */
};

static const struct site sites[] = {
    {"on the internet", true, {0}, WR_REACH_PUBLIC, 10},
    {"firewall", false, {.mapping = SIMNAT_NONE, .filtering = SIMNAT_APDF}, WR_REACH_PRIVATE, 30},
    {"full cone", false, {.filtering = SIMNAT_EIF}, WR_REACH_PUBLIC, 10},
    {"full cone, random ports", false, {.filtering = SIMNAT_EIF, .alloc = SIMNAT_RANDOM}, WR_REACH_PUBLIC, 10},
    {"restricted", false, {.filtering = SIMNAT_ADF}, WR_REACH_PRIVATE, 30},
    {"port restricted", false, {.filtering = SIMNAT_APDF}, WR_REACH_PRIVATE, 30},
    {"port restricted, refuses", false, {.filtering = SIMNAT_APDF, .unsolicited = SIMNAT_REFUSE}, WR_REACH_PRIVATE, 30},
};

static void test_sites(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(sites) / sizeof(sites[0]); i++) {
        for (int quic = 0; quic <= 1; quic++) {
            const struct site *site = &sites[i];
            struct world w;
            start(&w, SERVERS, OTHERS, site->internet ? NULL : &site->nat);
            meet_all(&w, quic);
            int took = seconds_to_know(&w);
            struct wr_autonat_client_stats s = stats(&w);
            print_message("%s over %s: %d after %d s, asked %u reached %u failed %u refused %u broken %u "
                          "strangers %u\n",
                          site->name, quic ? "QUIC" : "TCP", (int)reach(&w), took, (unsigned)s.asked,
                          (unsigned)s.reached, (unsigned)s.failed, (unsigned)s.refused, (unsigned)s.broken,
                          (unsigned)s.strangers);
            assert_int_equal(reach(&w), site->truth);
            assert_true(took >= 0 && took <= site->within);
            /* And it stays so. */
            sim_run(w.sim, 2 * WR_HOUR);
            assert_int_equal(reach(&w), site->truth);
            stop(&w);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sites),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
