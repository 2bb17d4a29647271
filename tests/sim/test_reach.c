/* Nodes find out whether they can be reached: AutoNAT between whole swarms, behind NATs of every kind,
 * among few and among liars. */
#include "tests/sim/simnode.h"

#include "autonat/ask.h"
#include "autonat/autonat_client.h"
#include "autonat/autonat_server.h"
#include "identify/identify.h"
#include "tests/sim/simnat.h"

#include <stdio.h>

#define RTT     (40 * WR_MSEC)
#define SERVERS 4 /* whom the client connects to */
#define OTHERS  2 /* whom only the servers know: strangers to the client */

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
        w->c.n.host = sim_host_add(
            w->sim, &(struct sim_host_options){.gateway = simnat_gateway(w->nat), .ip4 = inner});
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

/* ---- sites ----------------------------------------------------------------------------------------- */

struct site {
    const char *name;
    bool internet;
    struct simnat_options nat;
    enum wr_reachability truth;
    int within; /* seconds */
    enum wr_nat_mapping mapping;
    enum wr_nat_filtering filtering;
    enum wr_nat_alloc alloc;
    enum wr_nat_answer hairpin;
};

#define PUBLIC  WR_REACH_PUBLIC
#define PRIVATE WR_REACH_PRIVATE
#define NONE    WR_NAT_MAP_NONE
#define EIM     WR_NAT_MAP_EIM
#define ADM     WR_NAT_MAP_ADM
#define APDM    WR_NAT_MAP_APDM
#define EIF     WR_NAT_FILTER_EIF
#define ADF     WR_NAT_FILTER_ADF
#define APDF    WR_NAT_FILTER_APDF
#define KEEPS   WR_NAT_ALLOC_PRESERVING
#define ROW     WR_NAT_ALLOC_SEQUENTIAL
#define ANY     WR_NAT_ALLOC_RANDOM
#define MAYBE   WR_NAT_ANSWER_UNKNOWN
#define NO      WR_NAT_ANSWER_NO
#define YES     WR_NAT_ANSWER_YES

static const struct site sites[] = {
    {"on the internet", true, {0}, PUBLIC, 10, NONE, EIF, KEEPS, MAYBE},
    {"firewall",
     false,
     {.mapping = SIMNAT_NONE, .filtering = SIMNAT_APDF},
     PRIVATE,
     20,
     NONE,
     APDF,
     KEEPS,
     MAYBE},
    {"full cone", false, {.filtering = SIMNAT_EIF}, PUBLIC, 10, EIM, EIF, KEEPS, NO},
    {"full cone, hairpin",
     false,
     {.filtering = SIMNAT_EIF, .hairpin = true},
     PUBLIC,
     10,
     EIM,
     EIF,
     KEEPS,
     YES},
    {"full cone, random ports",
     false,
     {.filtering = SIMNAT_EIF, .alloc = SIMNAT_RANDOM},
     PUBLIC,
     10,
     EIM,
     EIF,
     ANY,
     NO},
    {"full cone, ports in a row",
     false,
     {.filtering = SIMNAT_EIF, .alloc = SIMNAT_SEQUENTIAL, .step = 2},
     PUBLIC,
     10,
     EIM,
     EIF,
     ROW,
     NO},
    {"restricted", false, {.filtering = SIMNAT_ADF}, PRIVATE, 20, EIM, ADF, KEEPS, NO},
    {"port restricted", false, {.filtering = SIMNAT_APDF}, PRIVATE, 20, EIM, APDF, KEEPS, NO},
    {"refuses",
     false,
     {.filtering = SIMNAT_APDF, .unsolicited = SIMNAT_REFUSE},
     PRIVATE,
     20,
     EIM,
     APDF,
     KEEPS,
     NO},
    {"answers itself",
     false,
     {.filtering = SIMNAT_APDF, .unsolicited = SIMNAT_ANSWER},
     PRIVATE,
     20,
     EIM,
     APDF,
     KEEPS,
     NO},
    {"symmetric",
     false,
     {.mapping = SIMNAT_APDM, .filtering = SIMNAT_APDF, .alloc = SIMNAT_RANDOM},
     PRIVATE,
     20,
     APDM,
     APDF,
     ANY,
     NO},
    {"symmetric, in sequence",
     false,
     {.mapping = SIMNAT_APDM, .filtering = SIMNAT_APDF, .alloc = SIMNAT_SEQUENTIAL},
     PRIVATE,
     20,
     APDM,
     APDF,
     ROW,
     NO},
    {"symmetric, steps of four, lets friends in",
     false,
     {.mapping = SIMNAT_APDM, .filtering = SIMNAT_ADF, .alloc = SIMNAT_SEQUENTIAL, .step = 4},
     PRIVATE,
     20,
     APDM,
     ADF,
     ROW,
     NO},
};

static void expect_kind(const struct world *w, const struct site *site, bool quic)
{
    const struct wr_nat *nat = wr_swarm_nat(w->c.n.swarm);
    const struct wr_nat_kind *kind = quic ? &nat->udp : &nat->tcp;
    struct wr_autonat_client_stats s = stats(w);
    print_message(
        "%s over %s: asked %u reached %u failed %u refused %u broken %u unproved %u strangers %u; mapping "
        "%d filtering %d alloc %d step %d hairpin %d pooling %d\n",
        site->name, quic ? "QUIC" : "TCP", (unsigned)s.asked, (unsigned)s.reached, (unsigned)s.failed,
        (unsigned)s.refused, (unsigned)s.broken, (unsigned)s.unproved, (unsigned)s.strangers, kind->mapping,
        kind->filtering, kind->alloc, kind->step, kind->hairpin, kind->pooling);
    assert_int_equal(kind->mapping, site->mapping);
    assert_int_equal(kind->filtering, site->filtering);
    assert_int_equal(kind->alloc, site->alloc);
    assert_int_equal(kind->hairpin, site->hairpin);
    assert_int_equal(kind->pooling, WR_NAT_ANSWER_NO);
    assert_true(wr_ip_equal(&nat->external, w->nat ? simnat_ip4(w->nat) : sim_host_ip4(w->c.n.host)));
    if (site->alloc == ROW)
        assert_int_equal(kind->step, site->nat.step ? site->nat.step : 1);
    assert_int_equal(s.broken + s.unproved, 0);
}

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
            print_message("%s over %s: %d after %d s\n", site->name, quic ? "QUIC" : "TCP", (int)reach(&w),
                          took);
            assert_int_equal(reach(&w), site->truth);
            assert_true(took >= 0 && took <= site->within);
            sim_run(w.sim, 40 * WR_SEC);
            expect_kind(&w, site, quic);
            /* And it stays so. */
            sim_run(w.sim, 2 * WR_HOUR);
            assert_int_equal(reach(&w), site->truth);
            stop(&w);
        }
    }
}

/* ---- few ------------------------------------------------------------------------------------------- */

static void test_three_nodes_are_a_swarm(void **state)
{
    (void)state;
    struct world w;
    start(&w, 2, 0, NULL);
    member_ask(&w.s[0]);
    member_ask(&w.s[1]);
    meet_all(&w, false);
    connect_to(&w, &w.s[0], &w.s[1], true);
    sim_run(w.sim, 30 * WR_SEC);
    assert_int_equal(reach(&w), WR_REACH_PUBLIC);
    assert_int_equal(wr_swarm_reachability(w.s[0].n.swarm, 4), WR_REACH_PUBLIC);
    assert_int_equal(wr_swarm_reachability(w.s[1].n.swarm, 4), WR_REACH_PUBLIC);
    assert_true(wr_addrbook_public(wr_swarm_addrbook(w.c.n.swarm)));
    struct wr_verdict_tally t;
    assert_true(wr_autonat_client_tally(w.c.client, wr_maddr_bytes(&w.c.n.addr), &t));
    assert_int_equal(t.reached, 2);
    stop(&w);
}

static void test_one_server_and_a_firewall(void **state)
{
    (void)state;
    struct world w;
    struct simnat_options firewall = {.mapping = SIMNAT_NONE, .filtering = SIMNAT_APDF};
    start(&w, 1, 0, &firewall);
    meet_all(&w, true);
    sim_run(w.sim, WR_MIN);
    assert_int_equal(reach(&w), WR_REACH_PRIVATE);
    stop(&w);
}

/* Two servers, and both have been talked to: their getting in proves nothing, a fresh socket tells all the
 * same. */
static void test_friends_only(void **state)
{
    (void)state;
    for (int filtering = SIMNAT_EIF; filtering <= SIMNAT_APDF; filtering++) {
        static const enum wr_nat_filtering found[] = {EIF, ADF, APDF};
        struct world w;
        struct simnat_options nat = {.filtering = (enum simnat_filtering)filtering};
        start(&w, 2, 0, &nat);
        meet_all(&w, true);
        sim_run(w.sim, WR_MIN);
        assert_int_equal(reach(&w), filtering == SIMNAT_EIF ? WR_REACH_PUBLIC : WR_REACH_PRIVATE);
        assert_int_equal(wr_addrbook_public(wr_swarm_addrbook(w.c.n.swarm)), filtering == SIMNAT_EIF);
        assert_int_equal(wr_swarm_nat(w.c.n.swarm)->udp.filtering, found[filtering]);
        stop(&w);
    }
}

static void test_nobody_to_ask(void **state)
{
    (void)state;
    struct world w;
    start(&w, 0, 0, NULL);
    sim_run(w.sim, WR_HOUR);
    assert_int_equal(reach(&w), WR_REACH_UNKNOWN);
    assert_int_equal(stats(&w).asked, 0);
    stop(&w);
}

/* ---- changes --------------------------------------------------------------------------------------- */

static bool not_known_public(void *arg)
{
    struct world *w = arg;
    struct wr_maddr list[WR_PEER_ADDRS_MAX];
    size_t count = wr_peerstore_addrs(wr_swarm_peerstore(w->s[0].n.swarm), wr_swarm_self(w->c.n.swarm),
                                      list, WR_PEER_ADDRS_MAX);
    for (size_t i = 0; i < count; i++) {
        struct wr_addr at;
        if (wr_maddr_addr(wr_maddr_bytes(&list[i]), &at) && wr_ip_equal(&at.ip, simnat_ip4(w->nat)) &&
            wr_maddr_kind(wr_maddr_bytes(&list[i])) == WR_MADDR_QUIC)
            return false;
    }
    return true;
}

/* Peers hear of a confirmed address soon after the verdict. */
static void test_a_verdict_is_pushed(void **state)
{
    (void)state;
    struct world w;
    struct simnat_options nat = {.filtering = SIMNAT_EIF};
    start(&w, 2, 2, &nat);
    meet_all(&w, true);
    struct wait wait = {.w = &w, .is = WR_REACH_UNKNOWN};
    assert_true(not_known_public(&w));
    assert_true(sim_run_while(w.sim, still, &wait, 60 * WR_SEC));
    assert_int_equal(reach(&w), WR_REACH_PUBLIC);
    assert_true(sim_run_while(w.sim, not_known_public, &w, WR_IDENTIFY_DEBOUNCE + WR_SEC));
    stop(&w);
}

static void test_another_network_another_verdict(void **state)
{
    (void)state;
    struct world w;
    struct simnat_options nat = {.filtering = SIMNAT_EIF};
    start(&w, SERVERS, OTHERS, NULL);
    meet_all(&w, true);
    assert_true(seconds_to_know(&w) >= 0);
    assert_int_equal(reach(&w), WR_REACH_PUBLIC);
    w.nat = simnat_add(w.sim, &nat);
    sim_move(w.c.n.host, (struct wr_ip){4, {10, 0, 0, 7}}, (struct wr_ip){0}, 0);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(reach(&w), WR_REACH_UNKNOWN);
    assert_false(wr_addrbook_public(wr_swarm_addrbook(w.c.n.swarm)));
    assert_int_equal(wr_swarm_nat(w.c.n.swarm)->udp.mapping, WR_NAT_MAP_UNKNOWN);
    stop(&w);
}

/* ---- liars ----------------------------------------------------------------------------------------- */

struct liar {
    struct wr_msg msg;
    bool yes; /* says that it got through, else that it did not */
    unsigned asked;
    struct wr_env *env;
};

static void lie(struct wr_msg *m, struct wr_bytes body)
{
    struct liar *liar = wr_list_entry(m, struct liar, msg);
    struct wr_autonat_msg say = {.type = WR_AUTONAT_DIAL_RESPONSE,
                                 .status = WR_AUTONAT_OK,
                                 .dial_status = liar->yes ? WR_AUTONAT_DIAL_OK : WR_AUTONAT_DIAL_ERROR};
    struct wr_buf out;
    (void)body;
    wr_buf_init(&out, 100);
    wr_autonat_msg_encode(&say, &out);
    (void)wr_msg_send(m, wr_buf_bytes(&out));
    wr_buf_clear(&out);
    wr_msg_close(m);
}

static void lie_over(struct wr_msg *m, int err)
{
    (void)m;
    (void)err;
}

static void on_lie(struct wr_stream *s, void *arg)
{
    static const struct wr_msg_ops ops = {.on_message = lie, .on_close = lie_over};
    struct liar *liar = arg;
    liar->asked++;
    if (wr_msg_open(&liar->msg))
        wr_stream_reset(s, WR_STREAM_LIMIT);
    else
        wr_msg_start(&liar->msg, liar->env, s, 8192, &ops);
}

static void make_liar(struct member *m, struct liar *liar, bool yes)
{
    *liar = (struct liar){.yes = yes, .env = m->n.env};
    wr_swarm_unhandle(m->n.swarm, WR_AUTONAT_REQUEST);
    node_handle(&m->n, WR_AUTONAT_REQUEST, on_lie, liar);
}

/* One server of four, whichever it is, always lies. */
static void test_a_lying_server(void **state)
{
    (void)state;
    struct simnat_options firewall = {.mapping = SIMNAT_NONE, .filtering = SIMNAT_APDF};
    for (unsigned which = 0; which < SERVERS; which++) {
        for (int yes = 0; yes <= 1; yes++) {
            struct world w;
            struct liar liar;
            start(&w, SERVERS, 0, yes ? &firewall : NULL);
            make_liar(&w.s[which], &liar, yes);
            meet_all(&w, true);
            sim_run(w.sim, 40 * WR_SEC);
            assert_int_equal(reach(&w), yes ? WR_REACH_PRIVATE : WR_REACH_PUBLIC);
            assert_true(liar.asked > 0);
            assert_true(!yes || stats(&w).unproved > 0);
            sim_run(w.sim, 3 * WR_HOUR);
            assert_int_equal(reach(&w), yes ? WR_REACH_PRIVATE : WR_REACH_PUBLIC);
            stop(&w);
        }
    }
}

/* Servers that say that they got through are not believed without the nonce, even if they all say so. */
static void test_a_conspiracy(void **state)
{
    (void)state;
    struct world w;
    struct liar liars[SERVERS];
    struct simnat_options firewall = {.mapping = SIMNAT_NONE, .filtering = SIMNAT_APDF};
    start(&w, SERVERS, 0, &firewall);
    for (unsigned i = 0; i < SERVERS; i++)
        make_liar(&w.s[i], &liars[i], true);
    meet_all(&w, true);
    sim_run(w.sim, WR_HOUR);
    assert_int_not_equal(reach(&w), WR_REACH_PUBLIC);
    assert_int_equal(stats(&w).reached, 0);
    stop(&w);
}

/* ---- our server is no weapon ----------------------------------------------------------------------- */

struct attack {
    struct wr_ask ask;
    bool running;
    unsigned answers[WR_ASK_BROKEN + 1];
};

static void on_attack_over(struct wr_ask *ask, enum wr_ask_result result)
{
    struct attack *a = wr_list_entry(ask, struct attack, ask);
    a->running = false;
    a->answers[result]++;
}

static void attack(struct member *from, struct member *server, struct attack *a,
                   const struct wr_maddr *victim, const char *protocol)
{
    struct wr_ask_question q = {.addr = victim, .nonce = 1, .peer = wr_swarm_self(from->n.swarm)};
    struct wr_conn *conn = node_conn(&from->n, &server->n);
    if (!a->running && conn)
        a->running = wr_ask_start(&a->ask, from->n.env, conn, protocol, &q, on_attack_over) == 0;
}

static struct wr_autonat_server_stats served(const struct member *m)
{
    struct wr_autonat_server_stats s;
    wr_autonat_server_stats(m->server, &s);
    return s;
}

/* Six peers name one silent victim for two hours, every ten seconds. */
static void test_a_third_party_is_dialled_so_often_and_no_more(void **state)
{
    (void)state;
    struct world w;
    struct attack attacks[SERVERS + OTHERS] = {0};
    struct simnat_options firewall = {.mapping = SIMNAT_NONE};
    struct wr_maddr victim;
    const unsigned hours = 2;
    start(&w, SERVERS, OTHERS, NULL);
    w.nat = simnat_add(w.sim, &firewall);
    (void)sim_host_add(
        w.sim, &(struct sim_host_options){.gateway = simnat_gateway(w.nat), .ip4 = *simnat_ip4(w.nat)});
    struct wr_addr at = {.ip = *simnat_ip4(w.nat), .port = 4001};
    assert_int_equal(wr_maddr_from_addr(&at, true, &victim), 0);
    for (unsigned i = 0; i < SERVERS; i++)
        connect_to(&w, &w.s[i], &w.c, true);
    for (unsigned i = 0; i < OTHERS; i++)
        connect_to(&w, &w.x[i], &w.c, true);
    sim_run(w.sim, WR_MIN);
    uint64_t before = served(&w.c).dialled, packets = simnat_count(w.nat)->unsolicited;
    for (unsigned t = 0; t < hours * 360; t++) {
        for (unsigned i = 0; i < SERVERS + OTHERS; i++)
            attack(i < SERVERS ? &w.s[i] : &w.x[i - SERVERS], &w.c, &attacks[i], &victim,
                   WR_AUTONAT_REQUEST);
        sim_run(w.sim, 10 * WR_SEC);
    }
    uint64_t dialled = served(&w.c).dialled - before;
    packets = simnat_count(w.nat)->unsolicited - packets;
    print_message("victim dialled %u times, %u packets, for %u bytes of dial data\n", (unsigned)dialled,
                  (unsigned)packets, (unsigned)served(&w.c).data_bytes);
    uint64_t cap =
        (uint64_t)(WR_AUTONAT_SERVER_TARGET_BURST + hours * WR_HOUR / WR_AUTONAT_SERVER_TARGET_INTERVAL);
    assert_true(dialled > 0 && dialled <= cap);
    assert_true(packets > 0 && packets <= 10 * cap);
    /* The attackers sent more than the victim got. */
    assert_true(served(&w.c).data_bytes >= dialled * WR_AUTONAT_SERVER_DATA_MIN);
    assert_true(served(&w.c).data_bytes > packets * 1500);
    stop(&w);
}

/* Whatever else they name: nothing that is not public, nothing of ours, nothing over other transports;
 * and version 1 goes to nobody but him who asks. */
static void test_what_is_never_dialled(void **state)
{
    (void)state;
    static const char *const targets[] = {
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/10.0.0.1/udp/4001/quic-v1",
        "/ip4/192.168.1.1/tcp/80",
        "/ip4/169.254.169.254/tcp/80",
        "/ip4/224.0.0.1/udp/4001/quic-v1",
        "/ip4/0.0.0.0/tcp/4001",
        "/ip4/100.64.0.1/tcp/4001",
        "/ip6/::1/tcp/4001",
        "/ip6/fe80::1/tcp/4001",
        "/ip4/45.9.9.9/tcp/0",
        "/ip4/45.9.9.9/udp/4001",
        "/ip4/45.9.9.9/tcp/4001/ws",
        "/dns4/example.org/tcp/4001",
        "/ip4/45.9.9.9/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
    };
    struct world w;
    struct attack a = {0};
    start(&w, 1, 0, NULL);
    connect_to(&w, &w.s[0], &w.c, true);
    sim_run(w.sim, WR_MIN);
    uint64_t before = served(&w.c).dialled;
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        struct wr_maddr target;
        assert_int_equal(wr_maddr_parse(targets[i], &target), 0);
        attack(&w.s[0], &w.c, &a, &target, WR_AUTONAT_REQUEST);
        sim_run(w.sim, 10 * WR_SEC);
        attack(&w.s[0], &w.c, &a, &target, WR_AUTONAT_STRANGER);
        sim_run(w.sim, 10 * WR_SEC);
    }
    attack(&w.s[0], &w.c, &a, &w.c.n.addr, WR_AUTONAT_REQUEST); /* itself */
    sim_run(w.sim, 20 * WR_SEC);
    assert_int_equal(served(&w.c).dialled, before);
    assert_int_equal(a.answers[WR_ASK_REFUSED], 2 * sizeof(targets) / sizeof(targets[0]) + 1);
    /* Version 1: the port that is named, at the address of the asker. */
    struct wr_maddr elsewhere;
    struct sim_traffic sent = *sim_host_traffic(w.c.n.host);
    assert_int_equal(wr_maddr_parse("/ip4/45.9.9.9/tcp/4001", &elsewhere), 0);
    attack(&w.s[0], &w.c, &a, &elsewhere, WR_AUTONAT_V1);
    sim_run(w.sim, 20 * WR_SEC);
    assert_int_equal(a.answers[WR_ASK_REACHED], 1);
    assert_int_equal(sim_host_traffic(w.c.n.host)->connects, sent.connects + 1);
    stop(&w);
}

/* Who is not reached by strangers dials for nobody: each dial takes a mapping of its NAT. As long as it does not know,
 * it serves. */
static void test_a_home_dials_for_nobody(void **state)
{
    (void)state;
    static const char *const protocols[] = {WR_AUTONAT_REQUEST, WR_AUTONAT_V1, WR_AUTONAT_STRANGER};
    struct simnat_options counting = {
        .mapping = SIMNAT_APDM, .filtering = SIMNAT_APDF, .alloc = SIMNAT_SEQUENTIAL};
    struct world w;
    struct attack a = {0};
    start(&w, SERVERS, OTHERS, &counting);
    meet_all(&w, true);
    assert_int_equal(reach(&w), WR_REACH_UNKNOWN);
    attack(&w.s[0], &w.c, &a, &w.s[0].n.addr, WR_AUTONAT_REQUEST);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(served(&w.c).dialled, 1);
    assert_int_equal(a.answers[WR_ASK_REFUSED], 0);
    assert_true(seconds_to_know(&w) >= 0);
    assert_int_equal(reach(&w), WR_REACH_PRIVATE);
    sim_run(w.sim, WR_MIN);
    uint64_t connects = sim_host_traffic(w.c.n.host)->connects;
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
        attack(&w.s[0], &w.c, &a, i < 2 ? &w.s[0].n.addr : &w.x[0].n.addr, protocols[i]);
        sim_run(w.sim, 5 * WR_SEC);
    }
    assert_int_equal(a.answers[WR_ASK_REFUSED], 3);
    assert_int_equal(served(&w.c).dialled, 1);
    assert_int_equal(served(&w.c).data_bytes, 0);
    assert_int_equal(sim_host_traffic(w.c.n.host)->connects, connects);
    stop(&w);
}

/* ---- how a dial-back ends -------------------------------------------------------------------------- */

struct hasty {
    struct wr_msg msg;
    struct wr_env *env;
    uint64_t nonce;
};

/* As go-libp2p over QUIC: the nonce is read, and the reset overtakes the answer. */
static void take_and_reset(struct wr_msg *m, struct wr_bytes body)
{
    struct hasty *h = wr_list_entry(m, struct hasty, msg);
    assert_int_equal(wr_autonat_msg_decode_back(body, &h->nonce), 0);
    wr_msg_reset(m, WR_STREAM_OK);
}

static void on_hasty(struct wr_stream *s, void *arg)
{
    static const struct wr_msg_ops ops = {.on_message = take_and_reset, .on_close = lie_over};
    struct hasty *h = arg;
    wr_msg_start(&h->msg, h->env, s, WR_AUTONAT_BACK_MAX, &ops);
}

static enum wr_autonat_dial dialled;

static void on_dialled(struct wr_dialback_try *t, enum wr_autonat_dial result, size_t index)
{
    (void)t;
    assert_int_equal(index, 0);
    dialled = result;
}

/* Whoever takes the nonce and resets has been reached; whoever does not speak dial-back has not. */
static void test_a_reset_is_an_answer(void **state)
{
    (void)state;
    for (int speaks = 0; speaks <= 1; speaks++) {
        struct world w = {.sim = sim_create(&(struct sim_options){.seed = 5, .rtt = RTT})};
        struct hasty hasty = {0};
        struct wr_dialback_try try;
        uint64_t nonce = 77;
        node_start(&w.c.n, w.sim, 1);
        node_start(&w.s[0].n, w.sim, 2);
        hasty.env = w.c.n.env;
        if (speaks)
            node_handle(&w.c.n, WR_AUTONAT_BACK, on_hasty, &hasty);
        struct wr_dialback *d = wr_dialback_create(w.s[0].n.swarm);
        assert_non_null(d);
        dialled = 0;
        assert_int_equal(
            wr_dialback_start(d, &try, wr_swarm_self(w.c.n.swarm), &w.c.n.addr, 1, &nonce, on_dialled), 0);
        sim_run(w.sim, 5 * WR_SEC);
        assert_int_equal(dialled, speaks ? WR_AUTONAT_DIAL_OK : WR_AUTONAT_DIAL_BACK_ERROR);
        assert_int_equal(hasty.nonce, speaks ? nonce : 0);
        wr_dialback_destroy(d);
        node_stop(&w.c.n);
        node_stop(&w.s[0].n);
        sim_destroy(w.sim);
    }
}

/* ---- version 1 ------------------------------------------------------------------------------------- */

static void test_version_1_will_do(void **state)
{
    (void)state;
    struct simnat_options firewall = {.mapping = SIMNAT_NONE, .filtering = SIMNAT_APDF};
    for (int walled = 0; walled <= 1; walled++) {
        struct world w;
        start(&w, SERVERS, 0, walled ? &firewall : NULL);
        for (unsigned i = 0; i < SERVERS; i++) {
            wr_swarm_unhandle(w.s[i].n.swarm, WR_AUTONAT_REQUEST);
            wr_swarm_unhandle(w.s[i].n.swarm, WR_AUTONAT_STRANGER);
        }
        meet_all(&w, true);
        sim_run(w.sim, WR_MIN);
        assert_int_equal(reach(&w), walled ? WR_REACH_PRIVATE : WR_REACH_PUBLIC);
        assert_true(stats(&w).asked_v1 > 0 && stats(&w).asked == stats(&w).asked_v1);
        stop(&w);
    }
}

/* ---- memory, and the end
 * ----------------------------------------------------------------------------------- */

/* Allocations fail one at a time, spread over the whole story: the node finds out all the same. */
static void test_allocations_may_fail(void **state)
{
    (void)state;
    const uint64_t runs = 120;
    uint64_t count = 0;
    for (uint64_t run = 0; run <= runs; run++) {
        struct world w;
        struct simnat_options nat = {.filtering = SIMNAT_EIF, .alloc = SIMNAT_RANDOM};
        start(&w, 3, 0, &nat);
        meet_all(&w, true);
        sim_alloc_fail(run ? (run - 1) * count / runs : UINT64_MAX, 1);
        sim_run(w.sim, WR_MIN);
        count = run == 0 ? sim_alloc_count() : count;
        sim_alloc_fail(0, 0);
        sim_run(w.sim, 15 * WR_MIN);
        assert_int_equal(reach(&w), WR_REACH_PUBLIC);
        stop(&w);
    }
    assert_true(count > 1000);
}

static void test_the_end_may_come_at_any_moment(void **state)
{
    (void)state;
    struct simnat_options nat = {.filtering = SIMNAT_ADF, .alloc = SIMNAT_RANDOM};
    for (wr_time at = 0; at < 20 * WR_SEC; at += 170 * WR_MSEC) {
        struct world w;
        start(&w, 3, 1, &nat);
        meet_all(&w, at % (340 * WR_MSEC) == 0);
        sim_run(w.sim, at);
        stop(&w); /* sim_destroy asserts that nothing is left open */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sites),
        cmocka_unit_test(test_three_nodes_are_a_swarm),
        cmocka_unit_test(test_one_server_and_a_firewall),
        cmocka_unit_test(test_friends_only),
        cmocka_unit_test(test_nobody_to_ask),
        cmocka_unit_test(test_a_verdict_is_pushed),
        cmocka_unit_test(test_another_network_another_verdict),
        cmocka_unit_test(test_a_lying_server),
        cmocka_unit_test(test_a_conspiracy),
        cmocka_unit_test(test_a_third_party_is_dialled_so_often_and_no_more),
        cmocka_unit_test(test_what_is_never_dialled),
        cmocka_unit_test(test_a_home_dials_for_nobody),
        cmocka_unit_test(test_a_reset_is_an_answer),
        cmocka_unit_test(test_version_1_will_do),
        cmocka_unit_test(test_allocations_may_fail),
        cmocka_unit_test(test_the_end_may_come_at_any_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
