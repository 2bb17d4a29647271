/* How long the NAT remembers a silent socket: measured at once when the owner asks, learnt one try at a time else. */
#include "tests/sim/reach_world.h"

#include "autonat/ask.h"
#include "autonat/lifetime.h"

#define KEPT 3 /* servers */

struct asked {
    struct wr_autonat_measure m;
    bool over;
};

static void on_measured(struct wr_autonat_measure *m)
{
    wr_list_entry(m, struct asked, m)->over = true;
}

static bool not_over(void *arg)
{
    return !((struct asked *)arg)->over;
}

static const struct wr_nat_kind *udp_of(const struct world *w)
{
    return &wr_swarm_nat(w->c.n.swarm)->udp;
}

static void expect_about(const struct world *w, wr_time truth)
{
    wr_time found = udp_of(w)->lifetime;
    print_message("%d s are taken for %d.%d s\n", (int)(truth / WR_SEC), (int)(found / WR_SEC),
                  (int)(found / (WR_SEC / 10) % 10));
    assert_true(found >= truth - truth / 10 && found <= truth + truth / 10);
    assert_false(udp_of(w)->lifetime_least);
}

static const wr_time lifetimes[] = {30 * WR_SEC, 60 * WR_SEC, 120 * WR_SEC, 180 * WR_SEC, 300 * WR_SEC};

static const struct simnat_options kinds[] = {
    {.filtering = SIMNAT_APDF},
    {.filtering = SIMNAT_ADF, .alloc = SIMNAT_RANDOM},
    {.mapping = SIMNAT_APDM, .filtering = SIMNAT_APDF, .alloc = SIMNAT_SEQUENTIAL},
    {.mapping = SIMNAT_NONE, .filtering = SIMNAT_APDF},
    {.filtering = SIMNAT_EIF},
};

static void test_measured_within_six_minutes(void **state)
{
    (void)state;
    const size_t count = sizeof(lifetimes) / sizeof(lifetimes[0]);
    for (size_t i = 0; i < count; i++) {
        struct world w;
        struct asked a = {.m.on_done = on_measured};
        struct simnat_options nat = kinds[i];
        nat.udp_stream = lifetimes[i];
        start(&w, KEPT, 0, &nat);
        meet_all(&w, true);
        wr_autonat_client_measure(w.c.client, &a.m);
        wr_time from = sim_now(w.sim);
        assert_true(sim_run_while(w.sim, not_over, &a, 6 * WR_MIN));
        print_message("after %d s: ", (int)((sim_now(w.sim) - from) / WR_SEC));
        expect_about(&w, lifetimes[i]);
        /* What is known is said at once. */
        struct asked again = {.m.on_done = on_measured};
        wr_autonat_client_measure(w.c.client, &again.m);
        assert_true(sim_run_while(w.sim, not_over, &again, WR_SEC));
        stop(&w);
    }
}

static void test_longer_than_anything(void **state)
{
    (void)state;
    struct world w;
    struct asked a = {.m.on_done = on_measured};
    struct simnat_options nat = {.filtering = SIMNAT_APDF, .udp_stream = 20 * WR_MIN};
    start(&w, KEPT, 0, &nat);
    meet_all(&w, true);
    wr_autonat_client_measure(w.c.client, &a.m);
    assert_true(sim_run_while(w.sim, not_over, &a, 6 * WR_MIN));
    print_message("%d s at least: %d\n", (int)(udp_of(&w)->lifetime / WR_SEC), udp_of(&w)->lifetime_least);
    assert_true(udp_of(&w)->lifetime > 5 * WR_MIN && udp_of(&w)->lifetime_least);
    stop(&w);
}

static bool not_learnt(void *arg)
{
    return udp_of(arg)->lifetime == 0;
}

static void test_learnt_in_normal_life(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct world w;
        struct simnat_options nat = {.filtering = SIMNAT_APDF, .udp_stream = lifetimes[i]};
        start(&w, KEPT, 0, &nat);
        meet_all(&w, true);
        sim_run(w.sim, 2 * WR_MIN);
        assert_true(not_learnt(&w));
        assert_true(sim_run_while(w.sim, not_learnt, &w, WR_HOUR));
        expect_about(&w, lifetimes[i]);
        /* Another network has another one. */
        wr_swarm_network_changed(w.c.n.swarm);
        sim_run(w.sim, WR_SEC);
        assert_true(not_learnt(&w));
        stop(&w);
    }
}

/* ---- over restarts */

struct memory {
    struct wr_lifetime known;
    bool there;
    unsigned asked, kept, forgotten;
};

static bool recall(void *arg, const struct wr_nat *nat, struct wr_lifetime *out)
{
    struct memory *m = arg;
    assert_true(nat->external.family == 4 && nat->udp.mapping && nat->udp.filtering);
    m->asked++;
    *out = m->known;
    return m->there;
}

static void keep(void *arg, const struct wr_nat *nat, const struct wr_lifetime *known)
{
    struct memory *m = arg;
    (void)nat;
    m->there = known != NULL;
    m->kept += known != NULL;
    m->forgotten += known == NULL;
    if (known)
        m->known = *known;
}

/* A node starts that remembers, behind a router that forgets after so long. */
static void start_again(struct world *w, struct memory *m, wr_time truth)
{
    struct simnat_options nat = {.filtering = SIMNAT_APDF, .udp_stream = truth};
    struct wr_autonat_memory memory = {.recall = recall, .keep = keep, .arg = m};
    start(w, KEPT, 0, &nat);
    wr_autonat_client_set_memory(w->c.client, &memory);
    meet_all(w, true);
}

static void test_remembered_over_restarts(void **state)
{
    (void)state;
    struct world w;
    struct memory m = {.there = false};
    /* How far the search got, too. */
    start_again(&w, &m, 120 * WR_SEC);
    sim_run(w.sim, 9 * WR_MIN);
    assert_true(not_learnt(&w) && m.asked == 1 && m.there);
    stop(&w);
    unsigned tries = m.kept;
    start_again(&w, &m, 120 * WR_SEC);
    assert_true(sim_run_while(w.sim, not_learnt, &w, WR_HOUR));
    expect_about(&w, 120 * WR_SEC);
    assert_true(tries > 0 && m.kept <= 8);    /* no more than without the restart, and the one that tries what is remembered */
    stop(&w);
    /* What is known is used at once, and tried once. */
    tries = m.kept;
    start_again(&w, &m, 120 * WR_SEC);
    assert_true(sim_run_while(w.sim, not_learnt, &w, 30 * WR_SEC));
    sim_run(w.sim, WR_HOUR);
    expect_about(&w, 120 * WR_SEC);
    assert_int_equal(m.kept, tries + 1);
    stop(&w);
    /* Measured when that is asked for. */
    struct asked a = {.m.on_done = on_measured};
    start_again(&w, &m, 120 * WR_SEC);
    assert_true(sim_run_while(w.sim, not_learnt, &w, 30 * WR_SEC));
    wr_autonat_client_measure(w.c.client, &a.m);
    assert_true(not_learnt(&w));
    assert_true(sim_run_while(w.sim, not_over, &a, 6 * WR_MIN));
    expect_about(&w, 120 * WR_SEC);
    stop(&w);
    assert_int_equal(m.forgotten, 0);
}

/* The router was set otherwise meanwhile: two tries go against what is remembered, and it is learnt anew. */
static void test_what_is_remembered_may_be_wrong(void **state)
{
    (void)state;
    struct world w;
    struct memory m = {.there = false};
    start_again(&w, &m, 180 * WR_SEC);
    assert_true(sim_run_while(w.sim, not_learnt, &w, WR_HOUR));
    stop(&w);
    start_again(&w, &m, 60 * WR_SEC);
    assert_true(sim_run_while(w.sim, not_learnt, &w, 30 * WR_SEC));
    sim_run(w.sim, WR_HOUR);
    assert_int_equal(m.forgotten, 1);
    expect_about(&w, 60 * WR_SEC);
    /* A network of which nothing is known has nothing remembered. */
    m.there = false;
    wr_swarm_network_changed(w.c.n.swarm);
    sim_run(w.sim, WR_MIN);
    assert_true(not_learnt(&w) && m.asked == 2 + 1);
    stop(&w);
}

/* Sooner than the shortest silence that is tried. */
static void test_forgets_very_soon(void **state)
{
    (void)state;
    struct world w;
    struct asked a = {.m.on_done = on_measured};
    struct simnat_options nat = {.filtering = SIMNAT_APDF, .alloc = SIMNAT_RANDOM, .udp_stream = 12 * WR_SEC};
    start(&w, KEPT, 0, &nat);
    meet_all(&w, true);
    wr_autonat_client_measure(w.c.client, &a.m);
    assert_true(sim_run_while(w.sim, not_over, &a, 6 * WR_MIN));
    assert_true(udp_of(&w)->lifetime == WR_LIFETIME_FIRST && !udp_of(&w)->lifetime_least);
    stop(&w);
}

static void test_nobody_can_help(void **state)
{
    (void)state;
    for (int open = 0; open <= 1; open++) {
        struct world w;
        struct asked a = {.m.on_done = on_measured};
        struct simnat_options nat = {.filtering = SIMNAT_APDF};
        start(&w, KEPT, 0, open ? NULL : &nat);
        for (unsigned i = 0; i < KEPT; i++)
            wr_swarm_unhandle(w.s[i].n.swarm, WR_AUTONAT_WAKE);
        meet_all(&w, true);
        wr_autonat_client_measure(w.c.client, &a.m);
        assert_true(sim_run_while(w.sim, not_over, &a, 70 * WR_SEC));
        assert_true(not_learnt(&w));
        sim_run(w.sim, WR_HOUR);
        assert_true(not_learnt(&w));
        stop(&w);
    }
}

struct liar {
    struct wr_msg msg;
    struct wr_env *env;
    unsigned asked;
};

static void deny(struct wr_msg *m, struct wr_bytes body)
{
    struct liar *liar = wr_list_entry(m, struct liar, msg);
    struct wr_autonat_msg say = {
        .type = WR_AUTONAT_DIAL_RESPONSE, .status = WR_AUTONAT_OK, .dial_status = WR_AUTONAT_DIAL_ERROR};
    struct wr_buf out;
    (void)body;
    liar->asked++;
    wr_buf_init(&out, 100);
    wr_autonat_msg_encode(&say, &out);
    (void)wr_msg_send(m, wr_buf_bytes(&out));
    wr_buf_clear(&out);
    wr_msg_close(m);
}

static void on_denied(struct wr_stream *s, void *arg)
{
    static const struct wr_msg_ops ops = {.on_message = deny, .on_close = lie_over};
    struct liar *liar = arg;
    if (wr_msg_open(&liar->msg))
        wr_stream_reset(s, WR_STREAM_LIMIT);
    else
        wr_msg_start(&liar->msg, liar->env, s, 8192, &ops);
}

/* Whoever says that nobody answered, whatever it is asked for, fails the control and is not used. */
static void test_a_liar_is_found_out(void **state)
{
    (void)state;
    struct world w;
    struct asked a = {.m.on_done = on_measured};
    struct simnat_options nat = {.filtering = SIMNAT_APDF, .udp_stream = 60 * WR_SEC};
    start(&w, KEPT, 0, &nat);
    struct liar liar = {.env = w.s[1].n.env};
    wr_swarm_unhandle(w.s[1].n.swarm, WR_AUTONAT_WAKE);
    node_handle(&w.s[1].n, WR_AUTONAT_WAKE, on_denied, &liar);
    meet_all(&w, true);
    wr_autonat_client_measure(w.c.client, &a.m);
    assert_true(sim_run_while(w.sim, not_over, &a, 6 * WR_MIN));
    assert_int_equal(liar.asked, 1);
    expect_about(&w, 60 * WR_SEC);
    stop(&w);
}

static void test_the_end_may_come_at_any_moment(void **state)
{
    (void)state;
    struct simnat_options nat = {.filtering = SIMNAT_APDF, .udp_stream = 30 * WR_SEC};
    for (wr_time at = 0; at < 50 * WR_SEC; at += 1300 * WR_MSEC) {
        struct world w;
        struct asked a = {.m.on_done = on_measured};
        start(&w, 2, 0, &nat);
        meet_all(&w, true);
        sim_run(w.sim, 15 * WR_SEC);
        wr_autonat_client_measure(w.c.client, &a.m);
        sim_run(w.sim, at);
        if (at % (2600 * WR_MSEC) == 0)
            wr_autonat_measure_cancel(&a.m);
        stop(&w);
    }
}

static void on_refused(struct wr_ask *ask, enum wr_ask_result result)
{
    (void)ask;
    assert_int_equal(result, WR_ASK_REFUSED);
}

/* Nobody else is dialled for it: only sockets at the address of him who asks. */
static void test_only_the_asker_is_dialled(void **state)
{
    (void)state;
    struct world w;
    struct wr_autonat_server_stats before, after;
    struct wr_ask ask;
    start(&w, 2, 0, NULL);
    connect_to(&w, &w.s[0], &w.s[1], true);
    sim_run(w.sim, 10 * WR_SEC);
    wr_autonat_server_stats(w.s[1].server, &before);
    struct wr_ask_question q = {.addr = &w.c.quic, .peer = wr_swarm_self(w.c.n.swarm)};
    struct wr_conn *conn = node_conn(&w.s[0].n, &w.s[1].n);
    assert_non_null(conn);
    assert_int_equal(wr_ask_start(&ask, w.s[0].n.env, conn, WR_AUTONAT_WAKE, &q, on_refused), 0);
    sim_run(w.sim, 20 * WR_SEC);
    wr_autonat_server_stats(w.s[1].server, &after);
    assert_int_equal(after.dialled, before.dialled);
    assert_int_equal(after.refused, before.refused + 1);
    stop(&w);
}

/* Nor is anybody at the addresses that we know of him, when it is his name that is given. */
static void test_whom_we_know_is_not_dialled(void **state)
{
    (void)state;
    struct world w;
    struct wr_autonat_server_stats before, after;
    struct wr_ask ask;
    start(&w, 2, 0, NULL);
    const struct wr_peerid *third = wr_swarm_self(w.c.n.swarm);
    connect_to(&w, &w.s[0], &w.s[1], true);
    sim_run(w.sim, 10 * WR_SEC);
    struct wr_addr at = {.ip = *sim_host_ip4(w.s[0].n.host), .port = 9999};
    struct wr_maddr own;
    assert_int_equal(wr_maddr_from_addr(&at, true, &own), 0);
    wr_peerstore_add_addr(wr_swarm_peerstore(w.s[1].n.swarm), third, wr_maddr_bytes(&w.c.quic), WR_TTL_RECENT, false);
    assert_null(wr_swarm_conn(w.s[1].n.swarm, third));
    wr_autonat_server_stats(w.s[1].server, &before);
    struct wr_ask_question q = {.addr = &own, .peer = third};
    struct wr_conn *conn = node_conn(&w.s[0].n, &w.s[1].n);
    assert_non_null(conn);
    assert_int_equal(wr_ask_start(&ask, w.s[0].n.env, conn, WR_AUTONAT_WAKE, &q, on_refused), 0);
    sim_run(w.sim, 20 * WR_SEC);
    wr_autonat_server_stats(w.s[1].server, &after);
    assert_null(wr_swarm_conn(w.s[1].n.swarm, third));
    assert_int_equal(after.dialled, before.dialled);
    assert_int_equal(after.refused, before.refused + 1);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measured_within_six_minutes),
        cmocka_unit_test(test_longer_than_anything),
        cmocka_unit_test(test_learnt_in_normal_life),
        cmocka_unit_test(test_remembered_over_restarts),
        cmocka_unit_test(test_what_is_remembered_may_be_wrong),
        cmocka_unit_test(test_forgets_very_soon),
        cmocka_unit_test(test_nobody_can_help),
        cmocka_unit_test(test_a_liar_is_found_out),
        cmocka_unit_test(test_only_the_asker_is_dialled),
        cmocka_unit_test(test_whom_we_know_is_not_dialled),
        cmocka_unit_test(test_the_end_may_come_at_any_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
