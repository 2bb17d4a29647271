/* Whom AutoNAT's server dials, how often, and how that ends: between whole swarms in virtual time. */
#include "tests/sim/reach_world.h"

#include "autonat/ask.h"

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
    assert_true(served(&w.c).data_bytes >= dialled * WR_AUTONAT_SERVER_DATA);
    assert_true(served(&w.c).data_bytes > packets * 1500);
    stop(&w);
}

struct accomplice {
    struct wr_msg msg;
    struct wr_env *env;
    unsigned asked;
};

/* Says that it got through, and dialled nobody. */
static void say_reached(struct wr_msg *m, struct wr_bytes body)
{
    struct accomplice *a = wr_list_entry(m, struct accomplice, msg);
    struct wr_autonat_msg in, out = {.type = WR_AUTONAT_DIAL_RESPONSE,
                                     .status = WR_AUTONAT_OK,
                                     .dial_status = WR_AUTONAT_DIAL_OK};
    struct wr_buf answer;
    assert_int_equal(wr_autonat_msg_decode(body, &in), 0);
    assert_int_equal(in.type, WR_AUTONAT_DIAL_REQUEST);
    a->asked++;
    wr_buf_init(&answer, WR_AUTONAT_MSG_MAX);
    wr_autonat_msg_encode(&out, &answer);
    assert_int_equal(wr_msg_send(m, wr_buf_bytes(&answer)), 0);
    wr_buf_clear(&answer);
    wr_msg_close(m);
}

static void on_accomplice(struct wr_stream *s, void *arg)
{
    static const struct wr_msg_ops ops = {.on_message = say_reached, .on_close = lie_over};
    struct accomplice *a = arg;
    wr_msg_start(&a->msg, a->env, s, WR_AUTONAT_MSG_MAX, &ops);
}

/* A friend of the attacker's is the stranger who is sent there, and says each time that the victim answered. His word
 * earns the victim no more of our packets. */
static void test_a_false_friend_wins_nothing(void **state)
{
    (void)state;
    struct world w;
    struct attack plain = {0}, by_friend = {0};
    struct accomplice friend = {0};
    struct simnat_options firewall = {.mapping = SIMNAT_NONE};
    struct wr_maddr victim;
    start(&w, 1, 1, NULL);
    w.nat = simnat_add(w.sim, &firewall);
    (void)sim_host_add(
        w.sim, &(struct sim_host_options){.gateway = simnat_gateway(w.nat), .ip4 = *simnat_ip4(w.nat)});
    struct wr_addr at = {.ip = *simnat_ip4(w.nat), .port = 4001};
    assert_int_equal(wr_maddr_from_addr(&at, true, &victim), 0);
    friend.env = w.x[0].n.env;
    wr_autonat_server_destroy(w.x[0].server);
    w.x[0].server = NULL;
    node_handle(&w.x[0].n, WR_AUTONAT_STRANGER, on_accomplice, &friend);
    connect_to(&w, &w.s[0], &w.c, true);
    connect_to(&w, &w.x[0], &w.c, true);
    sim_run(w.sim, WR_MIN);
    uint64_t before = served(&w.c).dialled;
    wr_time begun = sim_now(w.sim);
    while (sim_now(w.sim) - begun < WR_HOUR) {
        struct wr_ask_question q = {.addr = &victim, .nonce = 1, .stranger = true};
        struct wr_conn *conn = node_conn(&w.s[0].n, &w.c.n);
        assert_non_null(conn);
        if (!by_friend.running)
            by_friend.running =
                wr_ask_start(&by_friend.ask, w.s[0].n.env, conn, WR_AUTONAT_REQUEST, &q, on_attack_over) == 0;
        sim_run(w.sim, 10 * WR_SEC);
        attack(&w.s[0], &w.c, &plain, &victim, WR_AUTONAT_REQUEST);
        sim_run(w.sim, 10 * WR_SEC);
    }
    assert_true(friend.asked > 0);
    assert_in_range(served(&w.c).dialled - before, 1,
                    WR_AUTONAT_SERVER_TARGET_BURST + WR_HOUR / WR_AUTONAT_SERVER_TARGET_INTERVAL);
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

static void hear(void *arg, const struct wr_dgram_in *in)
{
    uint64_t *bytes = arg;
    *bytes += in->len;
}

static void ready(void *arg)
{
    (void)arg;
}

/* Version 1 over QUIC asks for no dial data: so nobody but the asker gets a datagram, whoever's address is named, and of
 * what the asker itself gets there is an end. */
static void test_version_1_sends_datagrams_to_the_asker_only(void **state)
{
    (void)state;
    static const struct wr_dgram_ops ops = {.on_receive = hear, .on_writable = ready};
    struct world w;
    struct attack a = {0};
    struct wr_maddr victim;
    struct wr_dgram *dgram;
    uint64_t victim_heard = 0;
    start(&w, 1, 0, NULL);
    connect_to(&w, &w.s[0], &w.c, true);
    struct sim_host *host = sim_host_add(w.sim, &(struct sim_host_options){.name = "victim"});
    struct wr_addr at = {.ip = *sim_host_ip4(host), .port = 4444};
    assert_int_equal(wr_env_dgram(sim_host_env(host), &at, &ops, &victim_heard, &dgram), 0);
    assert_int_equal(wr_maddr_from_addr(&at, true, &victim), 0);
    sim_run(w.sim, WR_MIN);
    uint64_t sent = sim_host_traffic(w.c.n.host)->datagram_bytes, dialled = served(&w.c).dialled;
    for (unsigned i = 0; i < 60; i++) {
        attack(&w.s[0], &w.c, &a, &victim, WR_AUTONAT_V1);
        sim_run(w.sim, WR_SEC);
    }
    dialled = served(&w.c).dialled - dialled;
    sent = sim_host_traffic(w.c.n.host)->datagram_bytes - sent;
    assert_in_range(dialled, 1, 2 * WR_AUTONAT_SERVER_V1_RATE_NET);
    assert_int_equal(victim_heard, 0);
    /* Of each dial a few first packets that nobody answers; the rest is the talk of the two. */
    assert_in_range(sent, dialled * 1200, dialled * 4 * 1452 + 60 * 1000);
    wr_dgram_close(dgram);
    stop(&w);
}

/* Whoever names nothing that could be dialled is dialled where it is seen: go-libp2p knows no address of its own before
 * four peers saw it, and has to hear whether it is behind a NAT all the same. */
static void test_version_1_without_an_address(void **state)
{
    (void)state;
    struct simnat_options nat = {.filtering = SIMNAT_APDF};
    struct wr_maddr useless;
    assert_int_equal(wr_maddr_parse("/ip4/192.168.1.10/tcp/4001/ws", &useless), 0);
    for (int home = 0; home <= 1; home++) {
        struct world w;
        struct attack a = {0};
        start(&w, 1, 0, home ? &nat : NULL);
        connect_to(&w, &w.c, &w.s[0], true);
        sim_run(w.sim, WR_SEC);
        attack(&w.c, &w.s[0], &a, &useless, WR_AUTONAT_V1);
        sim_run(w.sim, 20 * WR_SEC);
        assert_int_equal(a.answers[home ? WR_ASK_FAILED : WR_ASK_REACHED], 1);
        stop(&w);
    }
}

/* As long as nothing is known, a node serves: or nobody would find out. */
static void test_who_knows_nothing_dials(void **state)
{
    (void)state;
    struct world w;
    struct attack a = {0};
    start(&w, SERVERS, OTHERS, NULL);
    meet_all(&w, true);
    assert_int_equal(reach(&w), WR_REACH_UNKNOWN);
    attack(&w.s[0], &w.c, &a, &w.s[0].n.addr, WR_AUTONAT_REQUEST);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(served(&w.c).dialled, 1);
    assert_int_equal(a.answers[WR_ASK_REFUSED], 0);
    stop(&w);
}

/* One peer is enough to tell that there is a NAT, long before its kind is known. */
static void test_who_is_seen_elsewhere_dials_for_nobody(void **state)
{
    (void)state;
    struct world w;
    struct attack a = {0};
    struct simnat_options nat = {.filtering = SIMNAT_APDF};
    start(&w, SERVERS, OTHERS, &nat);
    connect_to(&w, &w.c, &w.s[0], true);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(wr_swarm_nat(w.c.n.swarm)->udp.mapping, WR_NAT_MAP_UNKNOWN);
    attack(&w.s[0], &w.c, &a, &w.s[0].n.addr, WR_AUTONAT_REQUEST);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(a.answers[WR_ASK_REFUSED], 1);
    assert_int_equal(served(&w.c).dialled, 0);
    stop(&w);
}

/* Who is behind a NAT and not reached by strangers, as far as is known, dials for nobody: each dial takes a mapping of
 * its NAT. */
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
    assert_int_equal(a.answers[WR_ASK_REFUSED], 1);
    assert_true(seconds_to_know(&w) >= 0);
    assert_int_equal(reach(&w), WR_REACH_PRIVATE);
    sim_run(w.sim, WR_MIN);
    uint64_t connects = sim_host_traffic(w.c.n.host)->connects;
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
        attack(&w.s[0], &w.c, &a, i < 2 ? &w.s[0].n.addr : &w.x[0].n.addr, protocols[i]);
        sim_run(w.sim, 5 * WR_SEC);
    }
    assert_int_equal(a.answers[WR_ASK_REFUSED], 4);
    assert_int_equal(served(&w.c).dialled, 0);
    assert_int_equal(served(&w.c).data_bytes, 0);
    assert_int_equal(sim_host_traffic(w.c.n.host)->connects, connects);
    stop(&w);
}

struct home {
    struct wr_msg msg;
    struct wr_env *env;
    unsigned asked;
};

static void say_refused(struct wr_msg *m, struct wr_bytes body)
{
    struct home *h = wr_list_entry(m, struct home, msg);
    struct wr_autonat_msg in, out = {.type = WR_AUTONAT_DIAL_RESPONSE, .status = WR_AUTONAT_REFUSED};
    struct wr_buf answer;
    assert_int_equal(wr_autonat_msg_decode(body, &in), 0);
    h->asked++;
    wr_buf_init(&answer, WR_AUTONAT_MSG_MAX);
    wr_autonat_msg_encode(&out, &answer);
    assert_int_equal(wr_msg_send(m, wr_buf_bytes(&answer)), 0);
    wr_buf_clear(&answer);
    wr_msg_close(m);
}

static void on_home(struct wr_stream *s, void *arg)
{
    static const struct wr_msg_ops ops = {.on_message = say_refused, .on_close = lie_over};
    struct home *h = arg;
    wr_msg_start(&h->msg, h->env, s, WR_AUTONAT_MSG_MAX, &ops);
}

static void ask_for_strangers(struct world *w, struct attack *a, unsigned questions)
{
    for (unsigned i = 0; i < questions; i++) {
        struct wr_ask_question q = {.addr = &w->x[0].n.addr, .nonce = 1, .stranger = true};
        a->running = wr_ask_start(&a->ask, w->x[0].n.env, node_conn(&w->x[0].n, &w->c.n), WR_AUTONAT_REQUEST, &q,
                                  on_attack_over) == 0;
        sim_run(w->sim, 20 * WR_SEC);
        assert_false(a->running);
    }
}

/* Of five who could dial as strangers four are homes and dial for nobody. Each of them says so once in ten minutes; the
 * fifth is found all the same. */
static void test_a_stranger_is_found_among_homes(void **state)
{
    enum { QUESTIONS = 8 };
    (void)state;
    struct world w;
    struct home homes[SERVERS] = {0};
    struct attack a = {0};
    unsigned asked = 0;
    start(&w, SERVERS, OTHERS, NULL);
    for (unsigned i = 0; i < SERVERS; i++) {
        homes[i].env = w.s[i].n.env;
        wr_swarm_unhandle(w.s[i].n.swarm, WR_AUTONAT_STRANGER);
        node_handle(&w.s[i].n, WR_AUTONAT_STRANGER, on_home, &homes[i]);
        connect_to(&w, &w.s[i], &w.c, true);
    }
    for (unsigned i = 0; i < OTHERS; i++)
        connect_to(&w, &w.x[i], &w.c, true);
    sim_run(w.sim, WR_MIN);
    struct wr_autonat_server_stats before = served(&w.c);
    ask_for_strangers(&w, &a, QUESTIONS);
    for (unsigned i = 0; i < SERVERS; i++) {
        assert_in_range(homes[i].asked, 0, 1);
        asked += homes[i].asked;
    }
    assert_true(asked > 0);
    /* With all of them asked in vain the server dials itself, once. */
    assert_in_range(served(&w.c).delegated - before.delegated, QUESTIONS - 1, QUESTIONS);
    sim_run(w.sim, 11 * WR_MIN);
    ask_for_strangers(&w, &a, QUESTIONS);
    unsigned again = 0;
    for (unsigned i = 0; i < SERVERS; i++)
        again += homes[i].asked;
    assert_true(again > asked);
    stop(&w);
}

/* Whom all strangers have a rule against asks for dials: that they refuse him keeps them from nobody else. */
static void test_a_blocked_asker_silences_nobody(void **state)
{
    (void)state;
    struct world w;
    struct attack a = {0}, b = {0};
    char who[WR_PEERID_TEXT];
    start(&w, SERVERS, OTHERS, NULL);
    for (unsigned i = 0; i < SERVERS; i++)
        connect_to(&w, &w.s[i], &w.c, true);
    for (unsigned i = 0; i < OTHERS; i++)
        connect_to(&w, &w.x[i], &w.c, true);
    sim_run(w.sim, WR_MIN);
    for (unsigned i = 0; i < SERVERS; i++)
        assert_int_equal(wr_policy_rule(wr_swarm_policy(w.s[i].n.swarm), true,
                                        wr_peerid_print(wr_swarm_self(w.x[0].n.swarm), who), true),
                         0);
    for (unsigned i = 0; i < OTHERS; i++)
        wr_swarm_unhandle(w.x[i].n.swarm, WR_AUTONAT_STRANGER);
    ask_for_strangers(&w, &a, 4);
    struct wr_autonat_server_stats before = served(&w.c);
    struct wr_ask_question q = {.addr = &w.x[1].n.addr, .nonce = 1, .stranger = true};
    b.running = wr_ask_start(&b.ask, w.x[1].n.env, node_conn(&w.x[1].n, &w.c.n), WR_AUTONAT_REQUEST, &q,
                             on_attack_over) == 0;
    sim_run(w.sim, 20 * WR_SEC);
    assert_int_equal(served(&w.c).delegated, before.delegated + 1);
    stop(&w);
}

/* ---- its rates ------------------------------------------------------------------------------------- */

/* A peer who asks every second for a dial of itself gets what one network gets, by either version. */
static void test_questions_have_a_rate(void **state)
{
    (void)state;
    for (int v1 = 0; v1 <= 1; v1++) {
        struct world w;
        struct attack attacks[SERVERS + OTHERS] = {0};
        const char *protocol = v1 ? WR_AUTONAT_V1 : WR_AUTONAT_REQUEST;
        unsigned net = v1 ? WR_AUTONAT_SERVER_V1_RATE_NET : WR_AUTONAT_SERVER_RATE_NET;
        start(&w, SERVERS, OTHERS, NULL);
        for (unsigned i = 0; i < SERVERS + OTHERS; i++)
            connect_to(&w, i < SERVERS ? &w.s[i] : &w.x[i - SERVERS], &w.c, true);
        sim_run(w.sim, WR_MIN);
        uint64_t before = served(&w.c).dialled;
        for (unsigned t = 0; t < 60; t++) {
            attack(&w.s[0], &w.c, &attacks[0], &w.s[0].n.addr, protocol);
            sim_run(w.sim, WR_SEC);
        }
        uint64_t alone = served(&w.c).dialled - before;
        assert_in_range(alone, net, 2 * net + 1);
        assert_int_equal(attacks[0].answers[v1 ? WR_ASK_REACHED : WR_ASK_BACK_ERROR], alone);
        assert_int_equal(attacks[0].answers[WR_ASK_REFUSED], 60 - alone);
        stop(&w);
    }
}

/* Many networks, each within its rate: together they get no more than everybody does. */
static void test_everybody_together_has_a_rate(void **state)
{
    enum { CROWD = WR_AUTONAT_SERVER_V1_RATE / WR_AUTONAT_SERVER_V1_RATE_NET + 4 };
    struct world w;
    struct member crowd[CROWD];
    struct attack attacks[CROWD] = {0};
    (void)state;
    memset(crowd, 0, sizeof(crowd));
    start(&w, 0, 0, NULL);
    for (unsigned i = 0; i < CROWD; i++) {
        member_start(&w, &crowd[i], 100 + i);
        connect_to(&w, &crowd[i], &w.c, true);
    }
    uint64_t before = served(&w.c).dialled;
    for (unsigned t = 0; t < 20; t++) {
        for (unsigned i = 0; i < CROWD; i++)
            attack(&crowd[i], &w.c, &attacks[i], &crowd[i].n.addr, WR_AUTONAT_V1);
        sim_run(w.sim, WR_SEC);
    }
    assert_in_range(served(&w.c).dialled - before, WR_AUTONAT_SERVER_V1_RATE,
                    WR_AUTONAT_SERVER_V1_RATE + 20 * WR_AUTONAT_SERVER_V1_RATE / 60 + 1);
    for (unsigned i = 0; i < CROWD; i++)
        member_stop(&crowd[i]);
    stop(&w);
}

/* Dials of third parties, each of another one, asked for by many. Between the last byte of dial data and the dial lies a
 * time that the asker does not know. */
static void test_third_parties_have_a_rate(void **state)
{
    enum { SECONDS = 120 };
    struct world w;
    struct attack attacks[SERVERS + OTHERS] = {0};
    wr_time waited = 0, fed_at = 0;
    unsigned waits = 0;
    (void)state;
    start(&w, SERVERS, OTHERS, NULL);
    for (unsigned i = 0; i < SERVERS + OTHERS; i++)
        connect_to(&w, i < SERVERS ? &w.s[i] : &w.x[i - SERVERS], &w.c, true);
    sim_run(w.sim, WR_MIN);
    struct wr_autonat_server_stats before = served(&w.c), last = before;
    for (unsigned t = 0; t < SECONDS * 20; t++) {
        if (t % 60 == 0)
            for (unsigned i = 0; i < SERVERS + OTHERS; i++) {
                struct wr_addr at = {.ip = {4, {46, (uint8_t)t, (uint8_t)(t / 256), (uint8_t)i}}, .port = 4001};
                struct wr_maddr victim;
                assert_int_equal(wr_maddr_from_addr(&at, true, &victim), 0);
                attack(i < SERVERS ? &w.s[i] : &w.x[i - SERVERS], &w.c, &attacks[i], &victim, WR_AUTONAT_REQUEST);
            }
        sim_run(w.sim, 50 * WR_MSEC);
        struct wr_autonat_server_stats now = served(&w.c);
        if (now.data_bytes != last.data_bytes)
            fed_at = sim_now(w.sim);
        for (; now.dialled > last.dialled; last.dialled++) {
            waited += sim_now(w.sim) - fed_at;
            waits++;
        }
        last = now;
    }
    assert_in_range(last.dialled - before.dialled, WR_AUTONAT_SERVER_RATE_DATA,
                    WR_AUTONAT_SERVER_RATE_DATA + SECONDS * WR_AUTONAT_SERVER_RATE_DATA / 60 + 1);
    assert_true(waited > (wr_time)waits * WR_AUTONAT_SERVER_WAIT / 10);
    assert_true(waited <= (wr_time)waits * WR_AUTONAT_SERVER_WAIT);
    stop(&w);
}

struct miser {
    struct wr_msg msg;
    size_t chunk;
    unsigned wanted, answered;
    int err;
};

/* Sends what is asked for in pieces that cost the server more than him. */
static void feed_crumbs(struct wr_msg *m, struct wr_bytes body)
{
    static const uint8_t zeros[WR_AUTONAT_SERVER_CHUNK_MIN];
    struct miser *x = wr_list_entry(m, struct miser, msg);
    struct wr_autonat_msg in, out = {.type = WR_AUTONAT_DATA_RESPONSE, .data = WR_BYTES(zeros, x->chunk)};
    struct wr_buf b;
    assert_int_equal(wr_autonat_msg_decode(body, &in), 0);
    x->wanted += in.type == WR_AUTONAT_DATA_REQUEST;
    x->answered += in.type == WR_AUTONAT_DIAL_RESPONSE;
    if (in.type != WR_AUTONAT_DATA_REQUEST)
        return;
    wr_buf_init(&b, WR_AUTONAT_MSG_MAX);
    wr_autonat_msg_encode(&out, &b);
    for (unsigned i = 0; i < 10; i++)
        (void)wr_msg_send(m, wr_buf_bytes(&b));
    wr_buf_clear(&b);
}

static void on_misers_end(struct wr_msg *m, int err)
{
    wr_list_entry(m, struct miser, msg)->err = err;
}

static void test_crumbs_are_no_dial_data(void **state)
{
    static const struct wr_msg_ops ops = {.on_message = feed_crumbs, .on_close = on_misers_end};
    static const struct wr_stream_ops none = {.on_open = NULL};
    static const char *const offer[] = {WR_AUTONAT_REQUEST, NULL};
    (void)state;
    for (size_t chunk = WR_AUTONAT_SERVER_CHUNK_MIN - 1; chunk <= WR_AUTONAT_SERVER_CHUNK_MIN; chunk++) {
        struct world w;
        struct miser miser = {.chunk = chunk};
        struct wr_maddr victim;
        struct wr_buf b;
        int err;
        start(&w, 1, 0, NULL);
        connect_to(&w, &w.s[0], &w.c, true);
        sim_run(w.sim, WR_SEC);
        assert_int_equal(wr_maddr_parse("/ip4/45.9.9.9/udp/4001/quic-v1", &victim), 0);
        struct wr_autonat_msg ask = {.type = WR_AUTONAT_DIAL_REQUEST, .addr_count = 1, .addrs = {wr_maddr_bytes(&victim)}};
        struct wr_stream *s = wr_conn_open_stream(node_conn(&w.s[0].n, &w.c.n), offer, &none, NULL, &err);
        assert_non_null(s);
        wr_msg_start(&miser.msg, w.s[0].n.env, s, WR_AUTONAT_MSG_MAX, &ops);
        wr_buf_init(&b, WR_AUTONAT_MSG_MAX);
        wr_autonat_msg_encode(&ask, &b);
        assert_int_equal(wr_msg_send(&miser.msg, wr_buf_bytes(&b)), 0);
        wr_buf_clear(&b);
        sim_run(w.sim, 5 * WR_SEC);
        assert_int_equal(miser.wanted, 1);
        bool enough = chunk == WR_AUTONAT_SERVER_CHUNK_MIN;
        assert_int_equal(served(&w.c).broken, !enough);
        assert_int_equal(miser.err, enough ? 0 : WR_ERESET);
        assert_int_equal(served(&w.c).data_bytes, enough ? 10 * chunk : 0);
        sim_run(w.sim, 30 * WR_SEC);    /* and who stops half way is not waited for */
        assert_int_equal(served(&w.c).broken, 1);
        assert_int_equal(served(&w.c).dialled, 0);
        stop(&w);
    }
}

/* ---- who dials ------------------------------------------------------------------------------------- */

struct doorman {
    struct wr_swarm_watch watch;
    struct wr_peerid last;
    struct wr_addr from;
    unsigned came;
};

static void on_came(struct wr_swarm_watch *watch, const struct wr_swarm_event *event)
{
    struct doorman *d = wr_list_entry(watch, struct doorman, watch);
    if (event->type != WR_SWARM_OPENED || event->conn->outbound)
        return;
    d->came++;
    d->last = event->conn->peer;
    d->from = event->conn->remote;
}

/* The dial comes from an identity of its own and from a port of its own, over both transports: what lets our usual ones in
 * must not let it in for that reason. And version 1 dials nobody in the name of another. */
static void test_the_dialler_is_somebody_else(void **state)
{
    struct world w;
    struct attack a = {0};
    struct doorman door = {.watch.on_event = on_came};
    (void)state;
    start(&w, 2, 0, NULL);
    connect_to(&w, &w.s[0], &w.c, true);
    connect_to(&w, &w.s[0], &w.c, false);
    sim_run(w.sim, WR_MIN);
    wr_swarm_watch(w.s[0].n.swarm, &door.watch);
    for (unsigned quic = 0; quic <= 1; quic++) {
        struct wr_addr usual;
        attack(&w.s[0], &w.c, &a, quic ? &w.s[0].quic : &w.s[0].n.addr, WR_AUTONAT_REQUEST);
        sim_run(w.sim, 15 * WR_SEC);
        assert_int_equal(door.came, quic + 1);
        assert_false(wr_peerid_equal(&door.last, wr_swarm_self(w.c.n.swarm)));
        assert_true(wr_maddr_addr(wr_maddr_bytes(&w.c.n.addr), &usual));
        assert_true(wr_ip_equal(&door.from.ip, &usual.ip));
        assert_int_not_equal(door.from.port, usual.port);
    }
    wr_swarm_unwatch(&door.watch);
    uint64_t dialled = served(&w.c).dialled;
    struct wr_ask_question q = {.addr = &w.s[0].n.addr, .peer = wr_swarm_self(w.s[1].n.swarm)};
    assert_int_equal(wr_ask_start(&a.ask, w.s[0].n.env, node_conn(&w.s[0].n, &w.c.n), WR_AUTONAT_V1, &q, on_attack_over), 0);
    sim_run(w.sim, 15 * WR_SEC);
    assert_int_equal(a.answers[WR_ASK_BROKEN], 1);
    assert_int_equal(served(&w.c).dialled, dialled);
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

static size_t through;

static void on_first(struct wr_dialback_try *t, enum wr_autonat_dial result, size_t index)
{
    (void)t;
    dialled = result;
    through = index;
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

static void count_one(struct wr_conn *c, void *arg)
{
    unsigned *count = arg;
    (void)c;
    ++*count;
}

static unsigned count_conns(const struct member *m)
{
    unsigned count = 0;
    wr_swarm_each(m->n.swarm, count_one, &count);
    return count;
}

/* Version 1 dials several addresses at once and is content with the first that answers. The others answer, too, a
 * moment later: the peer is not left with a stranger on the line. */
static void test_nothing_stays_behind(void **state)
{
    (void)state;
    struct world w = {.sim = sim_create(&(struct sim_options){.seed = 6, .rtt = RTT})};
    struct wr_dialback_try try;
    member_start(&w, &w.c, 1);
    member_start(&w, &w.s[0], 2);
    struct wr_maddr addrs[] = {w.c.n.addr, w.c.quic};
    struct wr_dialback *d = wr_dialback_create(w.s[0].n.swarm);
    assert_non_null(d);
    dialled = 0;
    through = SIZE_MAX;
    assert_int_equal(wr_dialback_start(d, &try, wr_swarm_self(w.c.n.swarm), addrs, 2, NULL, on_first), 0);
    sim_run(w.sim, 4 * RTT);
    assert_int_equal(dialled, WR_AUTONAT_DIAL_OK);
    assert_int_equal(through, 1);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(count_conns(&w.c), 0);
    wr_dialback_destroy(d);
    member_stop(&w.c);
    member_stop(&w.s[0]);
    sim_destroy(w.sim);
}

/* Strangers of one network begin all the talks that there can be and say nothing: others are served all the same. */
static void test_silent_talks_leave_room_for_others(void **state)
{
    enum { STRANGERS = 8, TALKS_EACH = WR_AUTONAT_SERVER_TALKS / STRANGERS };
    static const char *const protocols[] = {WR_AUTONAT_V1, WR_AUTONAT_REQUEST, WR_AUTONAT_STRANGER, WR_AUTONAT_WAKE};
    static const struct wr_stream_ops quiet = {.on_close = NULL};
    struct node crowd[STRANGERS] = {0};
    struct world w;
    struct attack a = {0};
    (void)state;
    start(&w, 1, 0, NULL);
    connect_to(&w, &w.s[0], &w.c, true);
    for (unsigned i = 0; i < STRANGERS; i++) {
        struct wr_ip ip = {4, {77, 7, (uint8_t)i, 1}};
        crowd[i].host = sim_host_add(w.sim, &(struct sim_host_options){.name = "crowd", .ip4 = ip});
        node_start(&crowd[i], w.sim, 100 + i);
        assert_int_equal(node_connect(w.sim, &crowd[i], &w.c.n), 0);
    }
    sim_run(w.sim, WR_MIN);
    for (unsigned i = 0; i < STRANGERS; i++)
        for (unsigned k = 0; k < TALKS_EACH; k++) {
            const char *const offer[] = {protocols[k % 4], NULL};
            int err = 0;
            assert_non_null(wr_conn_open_stream(node_conn(&crowd[i], &w.c.n), offer, &quiet, NULL, &err));
            sim_run(w.sim, 100 * WR_MSEC);
        }
    struct wr_autonat_server_stats before = served(&w.c);
    attack(&w.s[0], &w.c, &a, &w.s[0].quic, WR_AUTONAT_REQUEST);
    sim_run(w.sim, 10 * WR_SEC);
    assert_false(a.running);
    assert_int_equal(served(&w.c).reached, before.reached + 1);
    assert_int_equal(served(&w.c).rejected, before.rejected + 1);
    for (unsigned i = 0; i < STRANGERS; i++)
        node_stop(&crowd[i]);
    stop(&w);
}

/* Many want a stranger's dial in one moment, and the server knows but one: he is asked for as much as he takes at once,
 * and the others are dialled by the server itself. */
static void test_a_stranger_is_not_asked_for_too_much(void **state)
{
    enum { ASKERS = 5, TAKEN = 2 };
    struct world w;
    struct member askers[ASKERS] = {0};
    struct attack a[ASKERS] = {0};
    (void)state;
    start(&w, 1, 1, NULL);
    for (unsigned i = 0; i < ASKERS; i++) {
        member_start(&w, &askers[i], 40 + i);
        wr_swarm_unhandle(askers[i].n.swarm, WR_AUTONAT_STRANGER);
        connect_to(&w, &askers[i], &w.s[0], true);
    }
    sim_run(w.sim, 10 * WR_SEC);
    for (unsigned i = 0; i < ASKERS; i++) {
        struct wr_ask_question q = {.addr = &askers[i].quic, .nonce = i, .stranger = true};
        assert_int_equal(wr_ask_start(&a[i].ask, askers[i].n.env, node_conn(&askers[i].n, &w.s[0].n), WR_AUTONAT_REQUEST,
                                      &q, on_attack_over),
                         0);
    }
    sim_run(w.sim, 30 * WR_SEC);
    for (unsigned i = 0; i < ASKERS; i++)
        assert_int_equal(a[i].answers[WR_ASK_REFUSED] + a[i].answers[WR_ASK_BROKEN], 0);
    assert_int_equal(served(&w.s[0]).delegated, TAKEN);
    assert_int_equal(served(&w.s[0]).dialled, ASKERS - TAKEN);
    assert_int_equal(w.x[0].n.limits.of[WR_LIMIT_STREAMS_PER_PROTOCOL].refused, 0);
    for (unsigned i = 0; i < ASKERS; i++)
        member_stop(&askers[i]);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent_talks_leave_room_for_others),
        cmocka_unit_test(test_a_stranger_is_not_asked_for_too_much),
        cmocka_unit_test(test_a_third_party_is_dialled_so_often_and_no_more),
        cmocka_unit_test(test_a_false_friend_wins_nothing),
        cmocka_unit_test(test_what_is_never_dialled),
        cmocka_unit_test(test_version_1_sends_datagrams_to_the_asker_only),
        cmocka_unit_test(test_version_1_without_an_address),
        cmocka_unit_test(test_who_knows_nothing_dials),
        cmocka_unit_test(test_who_is_seen_elsewhere_dials_for_nobody),
        cmocka_unit_test(test_a_home_dials_for_nobody),
        cmocka_unit_test(test_a_stranger_is_found_among_homes),
        cmocka_unit_test(test_a_blocked_asker_silences_nobody),
        cmocka_unit_test(test_questions_have_a_rate),
        cmocka_unit_test(test_everybody_together_has_a_rate),
        cmocka_unit_test(test_third_parties_have_a_rate),
        cmocka_unit_test(test_crumbs_are_no_dial_data),
        cmocka_unit_test(test_the_dialler_is_somebody_else),
        cmocka_unit_test(test_a_reset_is_an_answer),
        cmocka_unit_test(test_nothing_stays_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
