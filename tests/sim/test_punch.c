/* Punching holes: two swarms that were told addresses and an instant, through every pair of NATs. */
#include "tests/sim/nat_world.h"

#include "transport/swarm_impl.h"

#include <stdlib.h>

#define RTT (80 * WR_MSEC)

struct outcome {
    bool done;
    int err;
    struct wr_conn *conn;
    wr_time at;
    struct wr_env *env;
    size_t count;
    struct wr_punch *punch;
    struct wr_punch_try tries[WR_PUNCH_ADDRS_MAX + WR_PUNCH_LEARNT_MAX];
};

static void on_punched(void *arg, int err, struct wr_conn *conn)
{
    struct outcome *o = arg;
    assert_false(o->done);
    o->done = true;
    o->err = err;
    o->conn = conn;
    o->at = wr_env_now(o->env);
    o->count = wr_punch_tries(o->punch, o->tries, WR_PUNCH_ADDRS_MAX + WR_PUNCH_LEARNT_MAX);
}

static int begin(struct site *from, struct site *to, const struct wr_maddr *addrs, size_t count,
                 enum wr_punch_role role, wr_time at, struct outcome *o)
{
    *o = (struct outcome){.env = from->env};
    return wr_punch_start(from->swarm,
                          &(struct wr_punch_options){.peer = site_id(to), .addrs = addrs, .count = count,
                                                     .role = role, .at = at, .rtt = RTT},
                          on_punched, o, &o->punch);
}

struct world {
    struct sim *sim;
    struct site server, a, b;
};

static void start(struct world *w, enum kind a, enum kind b, uint64_t seed)
{
    w->sim = sim_create(&(struct sim_options){.seed = seed, .rtt = RTT});
    site_start(&w->server, w->sim, PUBLIC, 1);
    site_start(&w->a, w->sim, a, 2);
    site_start(&w->b, w->sim, b, 3);
    site_learn(w->sim, &w->a, &w->server);
    site_learn(w->sim, &w->b, &w->server);
}

static void stop(struct world *w)
{
    site_stop(&w->a);
    site_stop(&w->b);
    site_stop(&w->server);
    sim_destroy(w->sim);
    site_free(&w->a);
    site_free(&w->b);
    site_free(&w->server);
}

static bool both_wait(void *arg)
{
    struct outcome *o = arg;
    return !o[0].done || !o[1].done;
}

/* Both at once, a as the client. Returns the instant agreed on. */
static wr_time punch(struct world *w, bool quic, struct outcome o[static 2])
{
    wr_time at = sim_now(w->sim) + 100 * WR_MSEC;
    assert_int_equal(begin(&w->a, &w->b, quic ? &w->b.quic : &w->b.tcp, 1, WR_PUNCH_CLIENT, at, &o[0]), 0);
    assert_int_equal(begin(&w->b, &w->a, quic ? &w->a.quic : &w->a.tcp, 1, WR_PUNCH_SERVER, at, &o[1]), 0);
    assert_true(sim_run_while(w->sim, both_wait, o, 10 * WR_SEC));
    return at;
}

/* ---- every pair --------------------------------------------------------------------------------- */

static void check_pair(enum kind a, enum kind b, bool quic)
{
    struct world w;
    struct outcome o[2];
    bool direct = kinds_meet(a, b);
    start(&w, a, b, 1 + (uint64_t)a * KINDS + b);
    wr_time at = punch(&w, quic, o);
    for (int i = 0; i < 2; i++) {
        if ((o[i].err == 0) != direct)
            fail_msg("%s (client) and %s over %s: side %d says %s", kind_names[a], kind_names[b],
                     quic ? "QUIC" : "TCP", i, o[i].err ? wr_err_name(o[i].err) : "direct");
        if (!direct)
            continue;
        assert_false(o[i].conn->limited);
        assert_int_equal(o[i].conn->udp, quic);
        assert_int_equal(o[i].conn->outbound, i == 0);
        wr_time most = quic ? RTT * 5 / 2 : RTT * 3;
        if (o[i].at - at > most)
            fail_msg("%s (client) and %s over %s: side %d took %d ms", kind_names[a], kind_names[b],
                     quic ? "QUIC" : "TCP", i, (int)((o[i].at - at) / WR_MSEC));
    }
    sim_run(w.sim, 2 * WR_SEC);
    if (direct) {
        assert_non_null(wr_swarm_conn(w.a.swarm, site_id(&w.b)));
        assert_non_null(wr_swarm_conn(w.b.swarm, site_id(&w.a)));
    }
    stop(&w);
}

static void pairs(bool quic)
{
    for (int a = 0; a < KINDS; a++)
        for (int b = 0; b < KINDS; b++)
            check_pair((enum kind)a, (enum kind)b, quic);
}

static void every_pair_over_tcp(void **state)
{
    (void)state;
    pairs(false);
}

static void every_pair_over_quic(void **state)
{
    (void)state;
    pairs(true);
}

/* ---- when the other side only listens ---------------------------------------------------------------- */

/* A client that is not behind a NAT and dials from another port than the one it listens on, as js does: our SYN meets
 * its listener, which takes us for the dialler. Whoever should answer proposes then. */
static void a_listener_is_met(void **state)
{
    (void)state;
    struct world w;
    struct outcome o;
    start(&w, PUBLIC, PORT_RESTRICTED, 77);
    wr_time at = sim_now(w.sim) + 100 * WR_MSEC;
    assert_int_equal(begin(&w.b, &w.a, &w.a.tcp, 1, WR_PUNCH_SERVER, at, &o), 0);
    sim_run(w.sim, 6 * WR_SEC);
    assert_true(o.done);
    assert_int_equal(o.err, 0);
    assert_true(o.conn->outbound);
    /* the SYN and its answer, the silence of 200 ms and two round trips, the proposal */
    assert_true(o.at - at <= 6 * RTT + 200 * WR_MSEC);
    assert_int_equal(w.b.swarm->limits->of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
    stop(&w);
}

/* ---- when one side is late ---------------------------------------------------------------------- */

/* One way is 40 ms: 60 ms are too early for a hole that is not there yet. */
static void skewed(enum kind late, bool late_is_client, bool quic, bool works)
{
    struct world w;
    struct outcome o[2];
    start(&w, PORT_RESTRICTED, late, 5);
    struct site *client = late_is_client ? &w.b : &w.a, *server = late_is_client ? &w.a : &w.b;
    wr_time at = sim_now(w.sim) + 100 * WR_MSEC, later = at + 60 * WR_MSEC;
    assert_int_equal(begin(client, server, quic ? &server->quic : &server->tcp, 1, WR_PUNCH_CLIENT,
                           late_is_client ? later : at, &o[0]),
                     0);
    assert_int_equal(begin(server, client, quic ? &client->quic : &client->tcp, 1, WR_PUNCH_SERVER,
                           late_is_client ? at : later, &o[1]),
                     0);
    assert_true(sim_run_while(w.sim, both_wait, o, 10 * WR_SEC));
    if ((o[0].err == 0) != works || (o[1].err == 0) != works)
        fail_msg("%s, late as the %s, over %s", kind_names[late], late_is_client ? "client" : "server",
                 quic ? "QUIC" : "TCP");
    stop(&w);
}

/* Only a router that takes early datagrams for its own cannot be met any more: TCP's resets leave nothing behind. */
static void an_early_side_is_waited_for(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool client = i & 1, quic = i & 2;
        skewed(PORT_RESTRICTED, client, quic, true);
        skewed(REFUSING, client, quic, true);
        skewed(ANSWERING, client, quic, !quic);
    }
}

/* What came before there was a hole is repeated after three of the round trips that were expected: the usual first guess
 * of QUIC would make that a second. */
static void what_came_too_early_is_repeated_soon(void **state)
{
    (void)state;
    struct world w;
    struct outcome o[2];
    start(&w, PORT_RESTRICTED, PORT_RESTRICTED, 5);
    wr_time at = sim_now(w.sim) + 100 * WR_MSEC;
    assert_int_equal(begin(&w.a, &w.b, &w.b.quic, 1, WR_PUNCH_CLIENT, at, &o[0]), 0);
    assert_int_equal(begin(&w.b, &w.a, &w.a.quic, 1, WR_PUNCH_SERVER, at + 60 * WR_MSEC, &o[1]), 0);
    assert_true(sim_run_while(w.sim, both_wait, o, 10 * WR_SEC));
    assert_int_equal(o[0].err, 0);
    assert_in_range(o[0].at - at, 3 * RTT, 4 * RTT + 20 * WR_MSEC);
    stop(&w);
}

/* Under load strangers have to prove their address first. Whom we punch has not, from whichever port he comes: the hole
 * may not wait. */
static void an_expected_peer_proves_nothing(void **state)
{
    (void)state;
    static const enum kind clients[] = {PORT_RESTRICTED, RANDOM};
    for (size_t i = 0; i < 2; i++) {
        wr_time took[2];
        for (int load = 0; load < 2; load++) {
            struct world w;
            struct outcome o[2];
            start(&w, clients[i], RESTRICTED, 5);
            wr_quic_retry_always(w.b.swarm->quic, load);
            wr_time at = punch(&w, true, o);
            assert_int_equal(o[0].err, 0);
            took[load] = o[0].at - at;
            stop(&w);
        }
        assert_in_range(took[1], took[0] - RTT / 8, took[0] + RTT / 8);
    }
}

/* A server behind a NAT with a port for each remote, whose datagrams get in: the client dials where they are from. */
static void a_port_is_learnt(void **state)
{
    (void)state;
    struct world w;
    struct outcome o[2];
    start(&w, RESTRICTED, RANDOM, 5);
    punch(&w, true, o);
    assert_int_equal(o[0].err, 0);
    assert_int_equal(o[0].count, 2);
    assert_true(o[0].tries[1].learnt && o[0].tries[1].packets == 1);
    assert_true(o[0].conn->remote.port != 0);
    struct wr_addr told;
    wr_maddr_addr(wr_maddr_bytes(&w.b.quic), &told);
    assert_true(wr_ip_equal(&told.ip, &o[0].conn->remote.ip) && told.port != o[0].conn->remote.port);
    stop(&w);
}

/* The server's SYN was taken by a listener that knew nothing yet: both ends would wait for the other's proposal. */
static void a_server_that_was_first(void **state)
{
    (void)state;
    struct world w;
    struct outcome o[2];
    start(&w, FULL_CONE, FIREWALL, 5);
    assert_int_equal(begin(&w.b, &w.a, &w.a.tcp, 1, WR_PUNCH_SERVER, 0, &o[1]), 0);
    sim_run(w.sim, 200 * WR_MSEC);
    wr_time at = sim_now(w.sim);
    assert_int_equal(begin(&w.a, &w.b, &w.b.tcp, 1, WR_PUNCH_CLIENT, 0, &o[0]), 0);
    assert_true(sim_run_while(w.sim, both_wait, o, 10 * WR_SEC));
    assert_int_equal(o[0].err, 0);
    assert_int_equal(o[1].err, 0);
    assert_true(o[1].at - at < 2 * WR_SEC);
    stop(&w);
}

/* The plain dial that nobody answers holds the ports; it makes room, and its caller gets the punched connection. */
static void a_dial_in_the_way_makes_room(void **state)
{
    (void)state;
    struct world w;
    struct outcome o[2];
    struct dialled d = {0};
    start(&w, PORT_RESTRICTED, PORT_RESTRICTED, 5);
    wr_time at = sim_now(w.sim) + 300 * WR_MSEC;
    assert_int_equal(wr_swarm_connect(w.b.swarm, site_id(&w.a), &w.a.tcp, 1, WR_ORIGIN_STRANGER, 0,
                                      site_on_dialled, &d, NULL),
                     0);
    assert_int_equal(begin(&w.a, &w.b, &w.b.tcp, 1, WR_PUNCH_CLIENT, at, &o[0]), 0);
    assert_int_equal(begin(&w.b, &w.a, &w.a.tcp, 1, WR_PUNCH_SERVER, at, &o[1]), 0);
    assert_true(sim_run_while(w.sim, both_wait, o, 10 * WR_SEC));
    assert_int_equal(o[0].err, 0);
    assert_int_equal(o[1].err, 0);
    assert_true(o[1].at - at < RTT * 3);
    stop(&w);
}

/* ---- manners ------------------------------------------------------------------------------------ */

/* Peers that name somebody else's address, one after the other, with both roles. */
static void a_victim_gets_no_more_than_the_cap(void **state)
{
    (void)state;
    for (int kind = PORT_RESTRICTED; kind <= REFUSING; kind += REFUSING - PORT_RESTRICTED) {
        struct world w;
        start(&w, PUBLIC, (enum kind)kind, 5);
        unsigned before = simnat_count(w.b.nat)->unsolicited;
        for (unsigned i = 0; i < 40; i++) {
            struct outcome o = {.env = w.a.env};
            struct wr_peerid liar = *site_id(&w.server);
            struct wr_maddr named[2] = {w.b.tcp, w.b.quic};
            liar.bytes[liar.len - 1] = (uint8_t)(liar.bytes[liar.len - 1] + 1 + i);
            struct wr_punch_options options = {.peer = &liar, .addrs = named, .count = 2,
                                               .role = i % 2 ? WR_PUNCH_CLIENT : WR_PUNCH_SERVER, .rtt = RTT};
            assert_int_equal(wr_punch_start(w.a.swarm, &options, on_punched, &o, &o.punch), 0);
            sim_run(w.sim, 7 * WR_SEC);
            assert_int_equal(o.err, WR_ETIMEOUT);
        }
        unsigned got = simnat_count(w.b.nat)->unsolicited - before;
        if (got > WR_PUNCH_QUIET_MAX || got < WR_PUNCH_QUIET_MAX / 4)
            fail_msg("%s: %u packets", kind_names[kind], got);
        stop(&w);
    }
}

/* A peer nobody has met, all of whose addresses are somebody else's. How many of them are aimed at. */
static size_t aim(struct world *w, unsigned i, const struct wr_maddr *addrs, size_t count, enum wr_punch_role role,
                  wr_time time)
{
    struct outcome o = {.env = w->a.env};
    struct wr_peerid liar = *site_id(&w->server);
    size_t got = 0;
    liar.bytes[liar.len - 1] = (uint8_t)(liar.bytes[liar.len - 1] + 1 + i);
    liar.bytes[liar.len - 2] = (uint8_t)(liar.bytes[liar.len - 2] + (i >> 7));
    struct wr_punch_options options = {.peer = &liar, .addrs = addrs, .count = count, .role = role,
                                       .rtt = RTT};
    assert_int_equal(wr_punch_start(w->a.swarm, &options, on_punched, &o, &o.punch), 0);
    sim_run(w->sim, time);
    if (!o.done)
        o.count = wr_punch_tries(o.punch, o.tries, WR_PUNCH_ADDRS_MAX);
    for (size_t k = 0; k < o.count; k++)
        got += o.tries[k].packets > 0;
    if (!o.done)
        wr_punch_cancel(o.punch);
    return got;
}

/* Sixteen addresses a liar, a hundred liars: more than can be remembered. Honest peers are punched all the same. */
static void liars_do_not_use_up_the_memory(void **state)
{
    (void)state;
    struct world w;
    struct outcome o[2];
    start(&w, PORT_RESTRICTED, PORT_RESTRICTED, 5);
    for (unsigned i = 0; i < 100; i++) {
        struct wr_maddr named[16];
        for (unsigned k = 0; k < 16; k++) {
            struct wr_addr to = {.ip = {4, {11, 77, (uint8_t)i, (uint8_t)(1 + k)}}, .port = 4001};
            assert_int_equal(wr_maddr_from_addr(&to, true, &named[k]), 0);
        }
        assert_int_equal(aim(&w, i, named, 16, WR_PUNCH_SERVER, 500 * WR_MSEC), 16);
    }
    punch(&w, true, o);
    assert_int_equal(o[0].err, 0);
    assert_int_equal(o[1].err, 0);
    stop(&w);
}

/* Nor do they get us to forget whom we have sent enough: others, who had less, are forgotten first. */
static void liars_do_not_hide_a_victim(void **state)
{
    (void)state;
    struct world w;
    start(&w, PUBLIC, REFUSING, 5);
    unsigned before = simnat_count(w.b.nat)->unsolicited;
    for (unsigned i = 0; i < 60; i++) {
        struct wr_maddr named[16];
        for (unsigned k = 0; k < 16; k++) {
            struct wr_addr to = {.ip = {4, {11, 77, (uint8_t)i, (uint8_t)(1 + k)}}, .port = 4001};
            assert_int_equal(wr_maddr_from_addr(&to, true, &named[k]), 0);
        }
        (void)aim(&w, i, &w.b.quic, 1, WR_PUNCH_SERVER, 4 * WR_SEC);
        (void)aim(&w, 100 + i, named, 16, WR_PUNCH_SERVER, 10 * WR_MSEC);
    }
    assert_in_range(simnat_count(w.b.nat)->unsolicited - before, 1, WR_PUNCH_QUIET_MAX);
    stop(&w);
}

/* Nor when the others had more, and two victims would take turns in being forgotten. */
static void victims_do_not_push_each_other_out(void **state)
{
    (void)state;
    struct world w;
    unsigned lies = 0;
    start(&w, PUBLIC, REFUSING, 5);
    for (unsigned i = 0; i < WR_PUNCH_QUIET_IPS / 16; i++) {
        struct wr_maddr named[16];
        for (unsigned k = 0; k < 16; k++) {
            struct wr_addr to = {.ip = {4, {11, 77, (uint8_t)i, (uint8_t)(1 + k)}}, .port = 4001};
            assert_int_equal(wr_maddr_from_addr(&to, true, &named[k]), 0);
        }
        (void)aim(&w, lies++, named, 16, WR_PUNCH_SERVER, 500 * WR_MSEC);
    }
    struct wr_addr other = {.ip = {4, {11, 78, 1, 1}}, .port = 4001};
    struct wr_maddr named[2] = {w.b.quic};
    assert_int_equal(wr_maddr_from_addr(&other, true, &named[1]), 0);
    unsigned before = simnat_count(w.b.nat)->unsolicited;
    for (unsigned i = 0; i < 20; i++)
        (void)aim(&w, lies++, named, 2, WR_PUNCH_SERVER, 6 * WR_SEC);
    assert_in_range(simnat_count(w.b.nat)->unsolicited - before, WR_PUNCH_QUIET_MAX / 4, WR_PUNCH_QUIET_MAX);
    stop(&w);
}

/* As many liars as may be punched at once agreed on a moment far ahead. They keep nobody out for long. */
static void liars_do_not_take_all_places(void **state)
{
    (void)state;
    struct world w;
    struct outcome o[2], lies[WR_PUNCH_MAX];
    struct wr_addr to = {.ip = {4, {11, 77, 1, 1}}, .port = 4001};
    struct wr_maddr named;
    assert_int_equal(wr_maddr_from_addr(&to, true, &named), 0);
    start(&w, PORT_RESTRICTED, PORT_RESTRICTED, 5);
    for (unsigned i = 0; i < WR_PUNCH_MAX; i++) {
        struct wr_peerid liar = *site_id(&w.server);
        liar.bytes[liar.len - 1] = (uint8_t)(liar.bytes[liar.len - 1] + 1 + i);
        lies[i] = (struct outcome){.env = w.a.env};
        struct wr_punch_options options = {.peer = &liar, .addrs = &named, .count = 1, .role = WR_PUNCH_SERVER,
                                           .at = sim_now(w.sim) + 5 * WR_SEC, .rtt = RTT};
        assert_int_equal(wr_punch_start(w.a.swarm, &options, on_punched, &lies[i], &lies[i].punch), 0);
    }
    assert_int_equal(begin(&w.a, &w.b, &w.b.quic, 1, WR_PUNCH_CLIENT, 0, &o[0]), WR_ELIMIT);
    sim_run(w.sim, WR_PUNCH_FAIR);
    punch(&w, true, o);
    assert_int_equal(o[0].err, 0);
    assert_int_equal(o[1].err, 0);
    assert_int_equal(lies[0].err, WR_ETIMEOUT);    /* he made room */
    assert_false(lies[1].done);
    sim_run(w.sim, 10 * WR_SEC);
    assert_int_equal(w.a.swarm->punch_count, 0);
    stop(&w);
}

/* Somebody does live there, and is none of those who are said to: he is not called up as often as a silent address gets
 * packets. */
static void a_stranger_who_answers(void **state)
{
    (void)state;
    struct world w;
    start(&w, PUBLIC, PORT_RESTRICTED, 5);
    struct wr_maddr at = site_at(&w.server, false);
    struct wr_conn *c = wr_swarm_conn(w.a.swarm, site_id(&w.server));
    if (c)
        wr_conn_close(c, WR_CONN_OK);
    sim_run(w.sim, WR_SEC);
    uint64_t before = sim_host_traffic(w.a.host)->connects;
    for (unsigned i = 0; i < 20; i++)
        (void)aim(&w, i, &at, 1, WR_PUNCH_CLIENT, 6 * WR_SEC);
    assert_in_range(sim_host_traffic(w.a.host)->connects - before, 2,
                    WR_PUNCH_QUIET_MAX / (1 + WR_PUNCH_SYN_REPEATS + WR_PUNCH_HELLO_COST) + 1);
    stop(&w);
}

/* In IPv6 it is the network that counts: whoever has one address there can name any number. */
static void a_victim_with_many_addresses(void **state)
{
    (void)state;
    struct world w;
    size_t aimed = 0;
    start(&w, PUBLIC, PORT_RESTRICTED, 5);
    for (unsigned i = 0; i < 100; i++) {
        struct wr_maddr named[8];
        for (unsigned k = 0; k < 8; k++) {
            struct wr_addr to = {.ip = {6, {0x2a, 1, 2, 3, 4, 5, 6, 7, [14] = (uint8_t)i, [15] = (uint8_t)(1 + k)}},
                                 .port = 4001};
            assert_int_equal(wr_maddr_from_addr(&to, true, &named[k]), 0);
        }
        aimed += aim(&w, i, named, 8, WR_PUNCH_SERVER, 5 * WR_MSEC);
    }
    assert_int_equal(aimed, WR_PUNCH_QUIET_MAX);
    stop(&w);
}

static void what_may_not_be_tried_is_not(void **state)
{
    (void)state;
    struct world w;
    struct outcome o, other;
    struct wr_maddr bad[4], good;
    start(&w, PUBLIC, PORT_RESTRICTED, 5);
    wr_maddr_parse("/ip4/192.168.1.7/tcp/4001", &bad[0]);
    wr_maddr_parse("/ip4/127.0.0.1/tcp/22", &bad[1]);
    wr_maddr_parse("/ip4/224.0.0.1/udp/4001/quic-v1", &bad[2]);
    bad[3] = site_at(&w.a, false);    /* our own */
    assert_int_equal(begin(&w.a, &w.b, bad, 4, WR_PUNCH_CLIENT, 0, &o), WR_EUNREACH);
    /* A private one only when it is said that some may be. */
    struct wr_punch_options options = {.peer = site_id(&w.b), .addrs = bad, .count = 4, .private_max = 1};
    o = (struct outcome){.env = w.a.env};
    assert_int_equal(wr_punch_start(w.a.swarm, &options, on_punched, &o, &o.punch), 0);
    assert_int_equal(wr_punch_tries(o.punch, o.tries, WR_PUNCH_ADDRS_MAX), 1);
    wr_punch_cancel(o.punch);
    wr_maddr_parse("/ip4/10.0.0.7/tcp/4001", &bad[1]);    /* and no more than so many */
    assert_int_equal(wr_punch_start(w.a.swarm, &options, on_punched, &o, &o.punch), 0);
    assert_int_equal(wr_punch_tries(o.punch, o.tries, WR_PUNCH_ADDRS_MAX), 1);
    assert_int_equal(begin(&w.a, &w.b, &w.b.tcp, 1, WR_PUNCH_CLIENT, 0, &other), WR_EEXIST);
    wr_punch_cancel(o.punch);
    assert_int_equal(begin(&w.a, &w.a, &w.b.tcp, 1, WR_PUNCH_CLIENT, 0, &o), WR_ESELF);
    good = site_at(&w.server, false);
    wr_policy_rule(wr_swarm_policy(w.a.swarm), true, "40.0.0.0/8", true);
    assert_int_equal(begin(&w.a, &w.b, &good, 1, WR_PUNCH_CLIENT, 0, &o), WR_EUNREACH);
    stop(&w);
}

static void who_is_connected_is_not_punched(void **state)
{
    (void)state;
    struct world w;
    struct outcome o;
    start(&w, PORT_RESTRICTED, PORT_RESTRICTED, 5);
    assert_int_equal(begin(&w.a, &w.server, &w.b.tcp, 1, WR_PUNCH_CLIENT, sim_now(w.sim) + WR_SEC, &o), 0);
    sim_run(w.sim, WR_MSEC);
    assert_true(o.done && o.err == 0 && o.conn == wr_swarm_conn(w.a.swarm, site_id(&w.server)));
    assert_int_equal(o.tries[0].packets, 0);
    stop(&w);
}

/* The swarm ends in the middle of it. */
static void an_end_in_between(void **state)
{
    (void)state;
    struct world w;
    struct outcome o[2];
    struct wr_maddr to_a[2], to_b[2];
    start(&w, PORT_RESTRICTED, RANDOM, 5);
    memcpy(to_a, (struct wr_maddr[]){w.a.tcp, w.a.quic}, sizeof(to_a));
    memcpy(to_b, (struct wr_maddr[]){w.b.tcp, w.b.quic}, sizeof(to_b));
    assert_int_equal(begin(&w.a, &w.b, to_b, 2, WR_PUNCH_CLIENT, 0, &o[0]), 0);
    assert_int_equal(begin(&w.b, &w.a, to_a, 2, WR_PUNCH_SERVER, 0, &o[1]), 0);
    sim_run(w.sim, WR_SEC);
    stop(&w);
    assert_int_equal(o[0].err, WR_ECLOSED);
    assert_int_equal(o[1].err, WR_ECLOSED);
}

/* Each allocation fails in turn: it is a failed punch then, or a slower one. */
static void memory_runs_out(void **state)
{
    (void)state;
    bool reached = true;
    for (uint64_t skip = 0; reached && skip < 400; skip += 7) {
        struct world w;
        struct outcome o[2];
        struct wr_maddr to_a[2], to_b[2];
        start(&w, PORT_RESTRICTED, PORT_RESTRICTED, 5);
        memcpy(to_a, (struct wr_maddr[]){w.a.tcp, w.a.quic}, sizeof(to_a));
        memcpy(to_b, (struct wr_maddr[]){w.b.tcp, w.b.quic}, sizeof(to_b));
        assert_int_equal(begin(&w.a, &w.b, to_b, 2, WR_PUNCH_CLIENT, 0, &o[0]), 0);
        assert_int_equal(begin(&w.b, &w.a, to_a, 2, WR_PUNCH_SERVER, 0, &o[1]), 0);
        sim_alloc_fail(skip, 1);
        sim_run_while(w.sim, both_wait, o, 10 * WR_SEC);
        reached = sim_alloc_count() > skip;
        sim_alloc_fail(0, 0);
        assert_true(o[0].done && o[1].done);
        stop(&w);
    }
    assert_false(reached);
}

/* Ports for punches: few, shared when there are more punches, and gone with them; who is not awaited finds nobody. */
static void ports_of_their_own(void **state)
{
    (void)state;
    struct world w;
    uint16_t ports[9];
    struct dialled d = {0};
    start(&w, PUBLIC, PORT_RESTRICTED, 5);
    unsigned open = sim_descriptors(w.a.host);
    for (unsigned i = 0; i < 9; i++) {
        ports[i] = wr_punch_port(w.a.swarm);
        assert_int_not_equal(ports[i], 0);
        assert_int_not_equal(ports[i], PORT);
    }
    assert_in_range(sim_descriptors(w.a.host) - open, 2, 4);
    struct wr_addr at = {.ip = *sim_host_ip4(w.a.host), .port = ports[0]};
    struct wr_maddr to;
    assert_int_equal(wr_maddr_from_addr(&at, true, &to), 0);
    assert_int_equal(wr_swarm_connect(w.server.swarm, site_id(&w.a), &to, 1, WR_ORIGIN_OWNER, WR_CONNECT_FRESH,
                                      site_on_dialled, &d, NULL),
                     0);
    assert_true(sim_run_while(w.sim, dial_waits, &d, 20 * WR_SEC));
    assert_int_not_equal(d.err, 0);
    for (unsigned i = 0; i < 9; i++)
        wr_punch_port_give(w.a.swarm, ports[i]);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(sim_descriptors(w.a.host), open);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_over_tcp),
        cmocka_unit_test(every_pair_over_quic),
        cmocka_unit_test(a_listener_is_met),
        cmocka_unit_test(an_early_side_is_waited_for),
        cmocka_unit_test(what_came_too_early_is_repeated_soon),
        cmocka_unit_test(an_expected_peer_proves_nothing),
        cmocka_unit_test(a_port_is_learnt),
        cmocka_unit_test(a_server_that_was_first),
        cmocka_unit_test(a_dial_in_the_way_makes_room),
        cmocka_unit_test(a_victim_gets_no_more_than_the_cap),
        cmocka_unit_test(liars_do_not_use_up_the_memory),
        cmocka_unit_test(liars_do_not_hide_a_victim),
        cmocka_unit_test(victims_do_not_push_each_other_out),
        cmocka_unit_test(liars_do_not_take_all_places),
        cmocka_unit_test(a_victim_with_many_addresses),
        cmocka_unit_test(a_stranger_who_answers),
        cmocka_unit_test(what_may_not_be_tried_is_not),
        cmocka_unit_test(who_is_connected_is_not_punched),
        cmocka_unit_test(an_end_in_between),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(ports_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
