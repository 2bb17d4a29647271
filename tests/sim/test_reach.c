/* Nodes find out whether they can be reached: AutoNAT between whole swarms, behind NATs of every kind,
 * and among few. Servers that lie, or cost: test_reach_servers.c. */
#include "tests/sim/reach_world.h"

#include <stdio.h>

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
    {"restricted, hairpin",
     false,
     {.filtering = SIMNAT_ADF, .hairpin = true},
     PRIVATE,
     20,
     EIM,
     ADF,
     KEEPS,
     YES},
    {"port restricted, hairpin",
     false,
     {.filtering = SIMNAT_APDF, .hairpin = true},
     PRIVATE,
     20,
     EIM,
     APDF,
     KEEPS,
     YES},
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
     MAYBE},
    {"symmetric, in sequence",
     false,
     {.mapping = SIMNAT_APDM, .filtering = SIMNAT_APDF, .alloc = SIMNAT_SEQUENTIAL},
     PRIVATE,
     20,
     APDM,
     APDF,
     ROW,
     MAYBE},
    {"symmetric, steps of four, lets friends in",
     false,
     {.mapping = SIMNAT_APDM, .filtering = SIMNAT_ADF, .alloc = SIMNAT_SEQUENTIAL, .step = 4},
     PRIVATE,
     20,
     APDM,
     ADF,
     ROW,
     MAYBE},
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

/* Of a NAT that has a port for each address or for each address and port, servers with two ports tell which. */
static void test_servers_with_two_ports(void **state)
{
    (void)state;
    for (int mapping = SIMNAT_ADM; mapping <= SIMNAT_APDM; mapping++) {
        for (int quic = 0; quic <= 1; quic++) {
            struct world w;
            struct simnat_options nat = {.mapping = (enum simnat_mapping)mapping,
                                         .filtering = SIMNAT_APDF,
                                         .alloc = SIMNAT_RANDOM};
            start(&w, SERVERS, 0, &nat);
            for (unsigned i = 0; i < SERVERS; i++) {
                struct wr_addr at = {.ip = *sim_host_ip4(w.s[i].n.host), .port = 4100};
                struct wr_maddr second;
                assert_int_equal(wr_maddr_from_addr(&at, quic, &second), 0);
                assert_int_equal(wr_swarm_listen(w.s[i].n.swarm, wr_maddr_bytes(&second)), 0);
            }
            meet_all(&w, quic);
            sim_run(w.sim, 30 * WR_SEC);
            const struct wr_nat *found = wr_swarm_nat(w.c.n.swarm);
            assert_int_equal((quic ? &found->udp : &found->tcp)->mapping, mapping == SIMNAT_ADM ? ADM : APDM);
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

/* A home with IPv6 beside a translated IPv4: what its router lets in by one family is not what it lets in by the other. Who
 * gets in by IPv6 from a fresh port proves it, though he is known; not behind a filter that lets in all whom we know. */
static void test_another_wall_of_ip6(void **state)
{
    static const struct {
        enum simnat_filtering filtering;
        bool open;
        enum wr_reachability is;
    } homes[] = {{SIMNAT_APDF, true, WR_REACH_PUBLIC}, {SIMNAT_APDF, false, WR_REACH_PRIVATE},
                 {SIMNAT_ADF, false, WR_REACH_PRIVATE}};
    (void)state;
    for (size_t i = 0; i < sizeof(homes) / sizeof(homes[0]); i++) {
        struct world w;
        struct simnat_options home = {.filtering = homes[i].filtering, .open6 = homes[i].open,
                                      .ip4 = {4, {140, 1, 0, 9}}, .ip6 = {6, {0x2a, 0x0e, 1, [15] = 9}}};
        struct wr_addr at = {.ip = home.ip6, .port = PORT};
        struct wr_maddr addr;
        start(&w, SERVERS, 0, &home);
        for (int quic = 0; quic <= 1; quic++) {
            assert_int_equal(wr_maddr_from_addr(&at, quic, &addr), 0);
            assert_int_equal(wr_swarm_listen(w.c.n.swarm, wr_maddr_bytes(&addr)), 0);
        }
        meet_all(&w, true);
        sim_run(w.sim, 2 * WR_MIN);
        assert_int_equal(wr_swarm_reachability(w.c.n.swarm, 4), WR_REACH_PRIVATE);
        assert_int_equal(wr_swarm_reachability(w.c.n.swarm, 6), homes[i].is);
        stop(&w);
    }
}

static void listen6(struct member *m, const struct wr_ip *ip)
{
    struct wr_addr at = {.ip = *ip, .port = PORT};
    struct wr_maddr addr;
    for (int quic = 0; quic <= 1; quic++) {
        assert_int_equal(wr_maddr_from_addr(&at, quic, &addr), 0);
        assert_int_equal(wr_swarm_listen(m->n.swarm, wr_maddr_bytes(&addr)), 0);
    }
}

static void meet_all6(struct world *w, bool quic)
{
    for (unsigned k = 0; k < w->servers; k++) {
        struct wr_maddr four = w->s[k].n.addr;
        struct wr_addr at = {.ip = *sim_host_ip6(w->s[k].n.host), .port = PORT};
        listen6(&w->s[k], &at.ip);
        assert_int_equal(wr_maddr_from_addr(&at, quic, &w->s[k].n.addr), 0);
        assert_int_equal(node_connect(w->sim, &w->c.n, &w->s[k].n), 0);
        w->s[k].n.addr = four;
    }
}

/* As dialling prefers it, every server is met by IPv6. What stands in the way of IPv4 is found out all the same, and of IPv6
 * that nothing is translated there, and who gets in. */
static void test_whoever_is_met_by_ip6(void **state)
{
    static const struct {
        enum simnat_filtering filtering;
        bool open;
        enum wr_reachability is;
        enum wr_nat_filtering found, found6;
    } homes[] = {{SIMNAT_APDF, true, WR_REACH_PUBLIC, APDF, EIF}, {SIMNAT_APDF, false, WR_REACH_PRIVATE, APDF, APDF}};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct world w;
        bool quic = i % 2;
        struct simnat_options home = {.filtering = homes[i / 2].filtering, .open6 = homes[i / 2].open,
                                      .ip4 = {4, {140, 1, 0, 9}}, .ip6 = {6, {0x2a, 0x0e, 1, [15] = 9}}};
        start(&w, SERVERS, OTHERS, &home);
        listen6(&w.c, &home.ip6);
        meet_all6(&w, quic);
        sim_run(w.sim, 30 * WR_SEC);
        const struct wr_nat *nat = wr_swarm_nat(w.c.n.swarm);
        const struct wr_nat_kind *four = quic ? &nat->udp : &nat->tcp, *six = quic ? &nat->udp6 : &nat->tcp6;
        assert_int_equal(reach(&w), WR_REACH_PRIVATE);
        assert_int_equal(four->mapping, EIM);
        assert_int_equal(four->filtering, homes[i / 2].found);
        assert_int_equal(wr_swarm_reachability(w.c.n.swarm, 6), homes[i / 2].is);
        assert_int_equal(six->mapping, NONE);
        assert_int_equal(six->filtering, homes[i / 2].found6);
        /* And it stays so: what is checked again is checked by those we know. */
        sim_run(w.sim, 3 * WR_HOUR);
        assert_int_equal(reach(&w), WR_REACH_PRIVATE);
        assert_int_equal(wr_swarm_reachability(w.c.n.swarm, 6), homes[i / 2].is);
        stop(&w);
    }
}

/* Who is met by both families is asked about each address by the connection that shows it, and so wants no dial data. */
static void test_both_families_cost_nothing(void **state)
{
    enum { THREE = 3 };    /* as many as are met by IPv4, too */
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct world w;
        struct simnat_options home = {.filtering = SIMNAT_APDF, .open6 = i / 2 == 0,
                                      .ip4 = {4, {140, 1, 0, 9}}, .ip6 = {6, {0x2a, 0x0e, 1, [15] = 9}}};
        start(&w, THREE, OTHERS, &home);
        listen6(&w.c, &home.ip6);
        meet_all6(&w, i % 2);
        sim_run(w.sim, 30 * WR_SEC);
        assert_int_equal(reach(&w), WR_REACH_PRIVATE);
        assert_int_equal(wr_swarm_reachability(w.c.n.swarm, 6), i / 2 == 0 ? WR_REACH_PUBLIC : WR_REACH_PRIVATE);
        assert_int_equal(stats(&w).data_bytes, 0);
        stop(&w);
    }
}

/* In the open, and the servers want to know the same of themselves: they dial us where we dial them. */
static void test_who_is_met_by_ip6_in_the_open(void **state)
{
    (void)state;
    for (int quic = 0; quic <= 1; quic++) {
        struct world w;
        start(&w, SERVERS, 1, NULL);
        listen6(&w.c, sim_host_ip6(w.c.n.host));
        for (unsigned i = 0; i < SERVERS; i++)
            member_ask(&w.s[i]);
        sim_run(w.sim, 10 * WR_SEC); /* they wait for more than the one peer that they have */
        meet_all6(&w, quic);
        sim_run(w.sim, 20 * WR_SEC);
        const struct wr_nat *nat = wr_swarm_nat(w.c.n.swarm);
        assert_int_equal((quic ? &nat->udp : &nat->tcp)->mapping, NONE);
        assert_int_equal((quic ? &nat->udp6 : &nat->tcp6)->mapping, NONE);
        assert_int_equal(reach(&w), WR_REACH_PUBLIC);
        assert_int_equal(wr_swarm_reachability(w.c.n.swarm, 6), WR_REACH_PUBLIC);
        stop(&w);
    }
}

/* IPv6 comes when it is long known that IPv4 lets nobody in, and there is no stranger far and wide: who is known gets in from
 * a fresh port, and the filter of IPv4 says nothing against that. */
static void test_ip6_that_comes_later(void **state)
{
    (void)state;
    for (int open = 0; open <= 1; open++) {
        struct world w;
        struct simnat_options home = {.filtering = SIMNAT_APDF, .open6 = open,
                                      .ip4 = {4, {140, 1, 0, 9}}, .ip6 = {6, {0x2a, 0x0e, 1, [15] = 9}}};
        start(&w, SERVERS, 0, &home);
        meet_all(&w, true);
        sim_run(w.sim, 20 * WR_SEC);
        assert_int_equal(reach(&w), WR_REACH_PRIVATE);
        for (unsigned i = 0; i < SERVERS; i++)
            wr_swarm_disconnect(w.c.n.swarm, wr_swarm_self(w.s[i].n.swarm), WR_CONN_OK);
        sim_run(w.sim, WR_SEC);
        listen6(&w.c, &home.ip6);
        meet_all6(&w, true);
        sim_run(w.sim, 30 * WR_SEC);
        const struct wr_addrbook *book = wr_swarm_addrbook(w.c.n.swarm);
        unsigned open6 = 0;
        for (size_t i = 0; i < book->count; i++) {
            struct wr_addr at;
            open6 += wr_maddr_addr(wr_maddr_bytes(&book->of[i].addr), &at) && at.ip.family == 6 &&
                     book->of[i].verdict == WR_ADDR_REACHABLE;
        }
        assert_int_equal(open6, open ? 2 : 0); /* over both transports */
        assert_int_equal(wr_swarm_reachability(w.c.n.swarm, 6), open ? WR_REACH_PUBLIC : WR_REACH_PRIVATE);
        assert_int_equal(reach(&w), WR_REACH_PRIVATE);
        stop(&w);
    }
}

/* A server that is met by IPv6 may name any address as its IPv4: a few packets go there, and nothing else is tried with it. */
static void test_an_address_that_is_only_named(void **state)
{
    (void)state;
    struct world w;
    struct simnat_options nat = {.filtering = SIMNAT_APDF, .ip4 = {4, {140, 1, 0, 9}}, .ip6 = {6, {0x2a, 0x0e, 1, [15] = 9}}};
    struct simnat_options wall = {.mapping = SIMNAT_NONE};
    struct wr_maddr victim;
    start(&w, SERVERS, 0, &nat);
    listen6(&w.c, &nat.ip6);
    struct simnat *silent = simnat_add(w.sim, &wall);
    (void)sim_host_add(w.sim, &(struct sim_host_options){.gateway = simnat_gateway(silent), .ip4 = *simnat_ip4(silent)});
    struct wr_addr at = {.ip = *simnat_ip4(silent), .port = PORT};
    assert_int_equal(wr_maddr_from_addr(&at, true, &victim), 0);
    meet_all6(&w, true);
    for (unsigned t = 0; t < 600; t++) {
        for (unsigned k = 0; k < SERVERS; k++)
            assert_int_equal(wr_peerstore_set_addrs(wr_swarm_peerstore(w.c.n.swarm), wr_swarm_self(w.s[k].n.swarm), &victim, 1,
                                                    WR_TTL_CONNECTED, false), 0);
        sim_run(w.sim, WR_SEC);
    }
    uint64_t packets = simnat_count(silent)->unsolicited;
    print_message("%u packets\n", (unsigned)packets);
    assert_in_range(packets, 1, 16);
    stop(&w);
    simnat_free(silent);
}

static void on_known(void *arg, int err, struct wr_conn *conn)
{
    assert_true(err == 0 && conn);
    ++*(int *)arg;
}

/* A mapping of the router's; true: it does as it says. */
static void open_router(struct world *w, bool honest)
{
    struct wr_addr outside = {.ip = *simnat_ip4(w->nat), .port = PORT};
    struct wr_ip inner = {4, {192, 168, 1, 10}};
    struct wr_maddr mapped;
    if (honest)
        simnat_forward(w->nat, &inner, PORT);
    for (int quic = 0; quic <= 1; quic++) {
        assert_int_equal(wr_maddr_from_addr(&outside, quic, &mapped), 0);
        assert_true(wr_addrbook_put(wr_swarm_addrbook(w->c.n.swarm), wr_maddr_bytes(&mapped), WR_ADDR_MAPPED,
                                    sim_now(w->sim)));
    }
    wr_swarm_addrs_changed(w->c.n.swarm);
}

/* It forgets the port, and says so: no mapping is named any more. */
static void shut_router(struct world *w)
{
    struct wr_addr outside = {.ip = *simnat_ip4(w->nat), .port = PORT};
    static const struct wr_ip nobody = {4, {192, 168, 1, 250}};
    struct wr_maddr mapped;
    simnat_forward(w->nat, &nobody, PORT);
    for (int quic = 0; quic <= 1; quic++) {
        assert_int_equal(wr_maddr_from_addr(&outside, quic, &mapped), 0);
        assert_true(wr_addrbook_del(wr_swarm_addrbook(w->c.n.swarm), wr_maddr_bytes(&mapped), WR_ADDR_MAPPED));
    }
    wr_swarm_addrs_changed(w->c.n.swarm);
}

/* Packets have gone to everybody over TCP as well. */
static void known_over_both(struct world *w)
{
    int over = 0;
    for (unsigned i = 0; i < w->servers; i++)
        assert_int_equal(wr_swarm_connect_addr(w->c.n.swarm, wr_maddr_bytes(&w->s[i].n.addr), on_known, &over, NULL), 0);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(over, w->servers);
}

/* What was found out about both ports together; UNKNOWN: about one of them something else than about the other. */
static enum wr_addr_verdict of_mapped(const struct world *w)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(w->c.n.swarm);
    unsigned count[3] = {0};
    for (size_t i = 0; i < book->count; i++)
        count[book->of[i].verdict] += book->of[i].source == WR_ADDR_MAPPED;
    assert_int_equal(count[0] + count[1] + count[2], 2);
    return count[WR_ADDR_REACHABLE] == 2     ? WR_ADDR_REACHABLE
           : count[WR_ADDR_UNREACHABLE] == 2 ? WR_ADDR_UNREACHABLE
                                             : WR_ADDR_UNKNOWN;
}

/* The router opened the port, and there is no stranger far and wide: whoever could be had dial is a contact of ours. Where
 * the filter lets nobody in from another port than was talked to, a friend from a fresh one proves it as well, also when
 * he speaks nothing but the protocol that everybody speaks. A router that only says so is found out. */
static void test_an_opened_port_without_strangers(void **state)
{
    (void)state;
    for (int honest = 0; honest <= 1; honest++) {
        for (int plain = 0; plain <= 1; plain++) {
            struct world w;
            struct simnat_options nat = {.filtering = SIMNAT_APDF};
            start(&w, SERVERS, 0, &nat);
            for (unsigned i = 0; plain && i < SERVERS; i++)
                wr_swarm_unhandle(w.s[i].n.swarm, WR_AUTONAT_STRANGER);
            for (unsigned i = 0; i < SERVERS; i++)
                connect_to(&w, &w.s[i], &w.s[(i + 1) % SERVERS], true);
            open_router(&w, honest);
            meet_all(&w, true);
            known_over_both(&w);
            sim_run(w.sim, 30 * WR_SEC);
            assert_int_equal(reach(&w), honest ? WR_REACH_PUBLIC : WR_REACH_PRIVATE);
            assert_int_equal(of_mapped(&w), honest ? WR_ADDR_REACHABLE : WR_ADDR_UNREACHABLE);
            assert_int_equal(wr_swarm_nat(w.c.n.swarm)->udp.filtering, APDF);
            sim_run(w.sim, 2 * WR_HOUR);
            assert_int_equal(reach(&w), honest ? WR_REACH_PUBLIC : WR_REACH_PRIVATE);
            stop(&w);
        }
    }
}

/* Where friends get in from any port a stranger has to be found. Each of the servers knows one, among four whom we know,
 * too. */
static void test_an_opened_port_among_friends(void **state)
{
    (void)state;
    for (int honest = 0; honest <= 1; honest++) {
        struct world w;
        struct simnat_options nat = {.filtering = SIMNAT_ADF};
        start(&w, SERVERS, 1, &nat);
        for (unsigned i = 0; i < SERVERS; i++)
            for (unsigned k = 0; k < i; k++)
                connect_to(&w, &w.s[i], &w.s[k], true);
        open_router(&w, honest);
        meet_all(&w, true);
        known_over_both(&w);
        sim_run(w.sim, 40 * WR_SEC);
        assert_int_equal(reach(&w), honest ? WR_REACH_PUBLIC : WR_REACH_PRIVATE);
        assert_int_equal(of_mapped(&w) == WR_ADDR_REACHABLE, honest);
        assert_int_equal(stats(&w).strangers > 0, honest);
        stop(&w);
    }
}

/* The same, and the strangers come only when everybody has been asked in vain: the servers are asked again, and soon. */
static void test_strangers_who_come_late(void **state)
{
    (void)state;
    struct world w;
    struct simnat_options nat = {.filtering = SIMNAT_ADF};
    start(&w, SERVERS, 0, &nat);
    for (unsigned i = 0; i < SERVERS; i++)
        for (unsigned k = 0; k < i; k++)
            connect_to(&w, &w.s[i], &w.s[k], true);
    open_router(&w, true);
    meet_all(&w, true);
    known_over_both(&w);
    sim_run(w.sim, 8 * WR_SEC);
    assert_int_equal(reach(&w), WR_REACH_UNKNOWN);
    for (w.others = 0; w.others < OTHERS; w.others++) {
        member_start(&w, &w.x[w.others], 20 + w.others);
        for (unsigned i = 0; i < SERVERS; i++)
            connect_to(&w, &w.x[w.others], &w.s[i], false);
    }
    sim_run(w.sim, 12 * WR_SEC);
    assert_true(stats(&w).strangers > 0);
    assert_int_equal(reach(&w), WR_REACH_PUBLIC);
    stop(&w);
}

/* The owner turns port mapping on at a router where the node was found unreachable long ago: that is found out soon. When
 * the router takes it back, that as well. */
static void test_a_router_opened_later(void **state)
{
    (void)state;
    struct world w;
    struct simnat_options nat = {.filtering = SIMNAT_APDF};
    start(&w, SERVERS, OTHERS, &nat);
    meet_all(&w, true);
    sim_run(w.sim, 3 * WR_HOUR);
    assert_int_equal(reach(&w), WR_REACH_PRIVATE);
    open_router(&w, true);
    sim_run(w.sim, 30 * WR_SEC);
    assert_int_equal(of_mapped(&w), WR_ADDR_REACHABLE);
    assert_int_equal(reach(&w), WR_REACH_PUBLIC);
    sim_run(w.sim, 3 * WR_HOUR);
    assert_int_equal(reach(&w), WR_REACH_PUBLIC);
    shut_router(&w);
    sim_run(w.sim, WR_MIN);
    assert_int_equal(reach(&w), WR_REACH_PRIVATE);
    stop(&w);
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

/* Of the addresses that are known to lead to the client for a second: how many does this server not know of? */
static unsigned untold(const struct world *w, const struct member *server)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(w->c.n.swarm);
    struct wr_maddr list[WR_PEER_ADDRS_MAX];
    size_t count = wr_peerstore_addrs(wr_swarm_peerstore(server->n.swarm), wr_swarm_self(w->c.n.swarm), list,
                                      WR_PEER_ADDRS_MAX);
    unsigned missing = 0;
    for (size_t i = 0; i < book->count; i++) {
        const struct wr_own_addr *own = &book->of[i];
        if (own->verdict != WR_ADDR_REACHABLE || sim_now(w->sim) - own->since < WR_SEC)
            continue;
        size_t k = 0;
        while (k < count && !wr_bytes_equal(wr_maddr_bytes(&list[k]), wr_maddr_bytes(&own->addr)))
            k++;
        missing += k == count;
    }
    return missing;
}

/* Whatever is found out, one address after the other: within a second of each verdict everybody knows of it. */
static void test_a_verdict_is_pushed(void **state)
{
    (void)state;
    struct world w;
    struct simnat_options nat = {.filtering = SIMNAT_EIF};
    start(&w, SERVERS, 2, &nat);
    for (unsigned i = 0; i < SERVERS; i++)
        connect_to(&w, &w.c, &w.s[i], i < SERVERS / 2);
    for (unsigned ms = 0; ms < 60000; ms += 50) {
        sim_run(w.sim, 50 * WR_MSEC);
        for (unsigned i = 0; i < SERVERS; i++)
            assert_int_equal(untold(&w, &w.s[i]), 0);
    }
    unsigned reachable = 0;
    const struct wr_addrbook *book = wr_swarm_addrbook(w.c.n.swarm);
    for (size_t i = 0; i < book->count; i++)
        reachable += book->of[i].verdict == WR_ADDR_REACHABLE;
    assert_int_equal(reachable, 2);
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

/* Behind a router that counts, connections made again while it remembers the last ones, in another order: the ports of
 * their mappings stand in no row, but those of fresh sockets do. */
static void test_ports_out_of_order(void **state)
{
    (void)state;
    static const unsigned order[SERVERS] = {2, 0, 3, 1};
    struct world w;
    start(&w, SERVERS, OTHERS,
          &(struct simnat_options){
              .mapping = SIMNAT_APDM, .filtering = SIMNAT_APDF, .alloc = SIMNAT_SEQUENTIAL});
    meet_all(&w, true);
    for (unsigned i = 0; i < SERVERS; i++)
        wr_swarm_disconnect(w.c.n.swarm, wr_swarm_self(w.s[i].n.swarm), WR_CONN_OK);
    sim_run(w.sim, WR_SEC);
    for (unsigned i = 0; i < SERVERS; i++)
        connect_to(&w, &w.c, &w.s[order[i]], true);
    sim_run(w.sim, WR_SEC);
    const struct wr_nat_kind *udp = &wr_swarm_nat(w.c.n.swarm)->udp;
    assert_int_equal(udp->mapping, WR_NAT_MAP_APDM);
    assert_int_equal(udp->alloc, WR_NAT_ALLOC_UNKNOWN);
    sim_run(w.sim, 20 * WR_SEC);
    assert_int_equal(udp->alloc, WR_NAT_ALLOC_SEQUENTIAL);
    assert_int_equal(udp->step, 1);
    stop(&w);
}

/* ---- connections made to be looked at ---------------------------------------------------------------- */

/* Somebody who begins a conversation over the connection of the other transport as soon as there is one. */
struct user {
    struct wr_swarm_watch watch;
    struct wr_env *env;
    struct wr_stream *stream;
    uint64_t conn_id;
    unsigned begun, broken;
};

static void user_close(struct wr_stream *s, void *arg, int err)
{
    struct user *u = arg;
    (void)s, (void)err;
    u->broken++;
    u->stream = NULL;
}

static void user_event(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    static const char *const offer[] = {"/test/talk", NULL};
    static const struct wr_stream_ops ops = {.on_close = user_close};
    struct user *u = wr_list_entry(watch, struct user, watch);
    int err = 0;
    if (event->type != WR_SWARM_OPENED || !event->conn->outbound || !event->conn->udp || u->stream)
        return;
    u->stream = wr_conn_open_stream(event->conn, offer, &ops, u, &err);
    u->conn_id = event->conn->id;
    u->begun += u->stream != NULL;
}

static void on_talk(struct wr_stream *s, void *arg)
{
    static const struct wr_stream_ops ops = {0};
    wr_stream_set_ops(s, &ops, arg);
}

struct udp_count {
    const struct user *user;
    unsigned all, used;
};

static void count_udp(struct wr_conn *c, void *arg)
{
    struct udp_count *n = arg;
    n->all += c->udp && c->outbound && !c->closing;
    n->used += c->id == n->user->conn_id && !c->closing;
}

static struct udp_count udp_conns(struct world *w, const struct user *user)
{
    struct udp_count n = {.user = user};
    wr_swarm_each(w->c.n.swarm, count_udp, &n);
    return n;
}

/* A connection made for what its peer sees of us goes when that is known and nobody uses it: not under a conversation
 * that somebody began over it, however long that lasts; after a long one it is a connection like others. */
static void test_extra_connections_do_not_break_what_runs(void **state)
{
    static const wr_time lasts[] = {3 * WR_SEC, 40 * WR_SEC};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct world w;
        struct simnat_options nat = {.filtering = SIMNAT_APDF};
        struct user user = {.watch.on_event = user_event};
        start(&w, 3, 0, &nat);
        for (unsigned k = 0; k < 3; k++)
            node_handle(&w.s[k].n, "/test/talk", on_talk, NULL);
        wr_swarm_watch(w.c.n.swarm, &user.watch);
        meet_all(&w, false);
        for (unsigned ms = 0; ms < 30000 && !user.begun; ms += 10)
            sim_run(w.sim, 10 * WR_MSEC);
        assert_int_equal(user.begun, 1);
        sim_run(w.sim, lasts[i]);
        assert_int_equal(user.broken, 0);
        assert_int_equal(wr_swarm_nat(w.c.n.swarm)->udp.mapping, EIM);
        wr_stream_reset(user.stream, WR_STREAM_OK);
        sim_run(w.sim, 20 * WR_SEC); /* questions of our own are over by then, too */
        assert_int_equal(udp_conns(&w, &user).all, i);
        assert_int_equal(udp_conns(&w, &user).used, i);
        wr_swarm_unwatch(&user.watch);
        stop(&w);
    }
}

static void count_one(struct wr_conn *c, void *arg)
{
    unsigned *count = arg;
    (void)c;
    ++*count;
}

/* Peers that called us from the port they listen on, as those of go do. A second connection to them cannot leave from
 * ours, so it shows nothing, and does not stay either. */
static void test_extra_connections_that_show_nothing_go(void **state)
{
    (void)state;
    struct world w;
    unsigned most = 0;
    start(&w, 3, 0, NULL);
    for (unsigned i = 0; i < 3; i++)
        connect_to(&w, &w.s[i], &w.c, false);
    for (unsigned s = 0; s < 30; s++) {
        unsigned count = 0;
        sim_run(w.sim, 500 * WR_MSEC);
        wr_swarm_each(w.c.n.swarm, count_one, &count);
        most = count > most ? count : most;
    }
    sim_run(w.sim, 20 * WR_SEC);
    unsigned left = 0;
    wr_swarm_each(w.c.n.swarm, count_one, &left);
    assert_true(most > 3); /* there were some */
    assert_int_equal(left, 3);
    stop(&w);
}

/* ---- memory, and the end -------------------------------------------------------------------- */

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
        cmocka_unit_test(test_servers_with_two_ports),
        cmocka_unit_test(test_three_nodes_are_a_swarm),
        cmocka_unit_test(test_one_server_and_a_firewall),
        cmocka_unit_test(test_friends_only),
        cmocka_unit_test(test_another_wall_of_ip6),
        cmocka_unit_test(test_whoever_is_met_by_ip6),
        cmocka_unit_test(test_both_families_cost_nothing),
        cmocka_unit_test(test_who_is_met_by_ip6_in_the_open),
        cmocka_unit_test(test_ip6_that_comes_later),
        cmocka_unit_test(test_an_address_that_is_only_named),
        cmocka_unit_test(test_an_opened_port_without_strangers),
        cmocka_unit_test(test_an_opened_port_among_friends),
        cmocka_unit_test(test_strangers_who_come_late),
        cmocka_unit_test(test_a_router_opened_later),
        cmocka_unit_test(test_nobody_to_ask),
        cmocka_unit_test(test_a_verdict_is_pushed),
        cmocka_unit_test(test_another_network_another_verdict),
        cmocka_unit_test(test_ports_out_of_order),
        cmocka_unit_test(test_extra_connections_do_not_break_what_runs),
        cmocka_unit_test(test_extra_connections_that_show_nothing_go),
        cmocka_unit_test(test_allocations_may_fail),
        cmocka_unit_test(test_the_end_may_come_at_any_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
