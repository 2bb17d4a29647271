/* Who may come in where a node listens, and who may stay: rates and places of a network, the owner's two lists, use,
 * and what happens when there are no descriptors left. */
#include "tests/sim/simnode.h"

#include "transport/err.h"

#include <stdio.h>

struct caller {
    struct wr_sock *sock;
    bool closed;
};

static void ignore(void *arg)
{
    (void)arg;
}

static void ignore_read(void *arg, uint8_t *data, size_t len)
{
    (void)arg;
    (void)data;
    (void)len;
}

static void on_caller_close(void *arg, int err)
{
    struct caller *c = arg;
    (void)err;
    c->sock = NULL;
    c->closed = true;
}

static const struct wr_sock_ops caller_ops = {
    .on_open = ignore, .on_read = ignore_read, .on_drain = ignore, .on_close = on_caller_close};

struct world {
    struct sim *sim;
    struct node target;
};

static int set_up(void **state)
{
    struct world *w = wr_alloc(sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = 31, .rtt = 20 * WR_MSEC});
    node_start(&w->target, w->sim, 1);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    node_stop(&w->target);
    sim_run(w->sim, WR_MIN);
    sim_destroy(w->sim);
    wr_free(w);
    return 0;
}

static struct sim_host *machine(struct world *w, uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    return sim_host_add(w->sim, &(struct sim_host_options){.ip4 = {.family = 4, .bytes = {a, b, c, d}}});
}

/* A connection that says nothing; true when it was let in. */
static bool let_in(struct world *w, struct sim_host *from, struct caller *c)
{
    struct wr_addr to = {.ip = *sim_host_ip4(w->target.host), .port = PORT};
    *c = (struct caller){.closed = false};
    assert_int_equal(wr_env_connect(sim_host_env(from), &to, NULL, &caller_ops, c, &c->sock), 0);
    sim_run(w->sim, 100 * WR_MSEC);
    return !c->closed;
}

static void hang_up(struct world *w, struct caller *c)
{
    if (c->sock)
        wr_sock_close(c->sock, true);
    c->sock = NULL;
    sim_run(w->sim, 100 * WR_MSEC);
}

static bool comes_and_goes(struct world *w, struct sim_host *from)
{
    struct caller c;
    bool in = let_in(w, from, &c);
    assert_int_equal(w->target.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, in);
    hang_up(w, &c);
    assert_int_equal(w->target.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
    return in;
}

/* Nothing of a node is used any more when this returns. */
static void stop(struct world *w, struct node *nodes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        node_stop(&nodes[i]);
    sim_run(w->sim, WR_SEC);
}

static void rule(struct world *w, bool block, const char *what, bool on)
{
    assert_int_equal(wr_policy_rule(wr_swarm_policy(w->target.swarm), block, what, on), 0);
    wr_swarm_apply_policy(w->target.swarm);
}

/* A burst, then one every five seconds; other networks do not notice, and who is on the owner's list has none. */
static void test_a_network_has_a_rate(void **state)
{
    struct world *w = *state;
    struct sim_host *one = machine(w, 45, 1, 1, 1), *other = machine(w, 45, 1, 1, 2);
    /* 16 in 3.2 s: no token has come back by then. */
    for (int i = 0; i < WR_POLICY_RATE_BURST; i++)
        assert_true(comes_and_goes(w, one));
    assert_false(comes_and_goes(w, one));
    assert_true(comes_and_goes(w, other));
    sim_run(w->sim, WR_POLICY_RATE_INTERVAL);
    assert_true(comes_and_goes(w, one));
    assert_false(comes_and_goes(w, one));
    rule(w, false, "45.1.1.1/32", true);
    for (int i = 0; i < 2 * WR_POLICY_RATE_BURST; i++)
        assert_true(comes_and_goes(w, one));
}

/* No more than so many connections at once, whether they have shaken hands or not. */
static void test_a_network_has_so_many_places(void **state)
{
    struct world *w = *state;
    enum { MORE = 4 };
    struct sim_host *one = machine(w, 45, 1, 1, 1), *other = machine(w, 45, 1, 1, 2);
    unsigned places = (unsigned)w->target.limits.of[WR_LIMIT_CONNS_PER_NET].max;
    struct caller callers[16] = {0}, stranger;
    struct node peer = {.host = one};
    assert_true(places + MORE <= 16);
    node_start(&peer, w->sim, 2);
    assert_int_equal(node_connect(w->sim, &peer, &w->target), 0);
    for (unsigned i = 1; i < places; i++)
        assert_true(let_in(w, one, &callers[i]));
    assert_false(let_in(w, one, &callers[places]));
    assert_int_equal(w->target.limits.of[WR_LIMIT_CONNS_PER_NET].refused, 1);
    assert_true(let_in(w, other, &stranger));
    hang_up(w, &stranger);
    hang_up(w, &callers[1]);
    assert_true(let_in(w, one, &callers[1]));
    rule(w, false, "45.1.1.0/24", true);
    for (unsigned i = 0; i < MORE; i++)
        assert_true(let_in(w, one, &callers[places + i]));
    for (unsigned i = 0; i < 16; i++)
        hang_up(w, &callers[i]);
    stop(w, &peer, 1);
}

/* Neither in nor out, and what is open is closed; over QUIC as well. */
static void test_a_blocked_network_stays_out(void **state)
{
    struct world *w = *state;
    struct node peer = {.host = machine(w, 45, 1, 1, 1)}, friend = {.host = machine(w, 45, 1, 2, 1)};
    struct wr_addr at = {.ip = *sim_host_ip4(w->target.host), .port = PORT};
    struct wr_maddr tcp = w->target.addr, quic;
    assert_int_equal(wr_maddr_from_addr(&at, true, &quic), 0);
    assert_int_equal(wr_swarm_listen(w->target.swarm, wr_maddr_bytes(&quic)), 0);
    node_start(&peer, w->sim, 2);
    node_start(&friend, w->sim, 3);
    const struct wr_maddr *ways[] = {&tcp, &quic};
    for (int i = 0; i < 2; i++) {
        w->target.addr = *ways[i];
        assert_int_equal(node_connect(w->sim, &peer, &w->target), 0);
        sim_run(w->sim, WR_SEC);
        assert_int_equal(wr_swarm_conn_count(w->target.swarm), 1);
        rule(w, true, "45.1.1.0/24", true);
        sim_run(w->sim, WR_SEC);
        assert_int_equal(wr_swarm_conn_count(w->target.swarm), 0);
        assert_int_not_equal(node_connect(w->sim, &peer, &w->target), 0);
        assert_int_equal(node_connect(w->sim, &w->target, &peer), WR_EGATED);
        assert_int_equal(node_connect(w->sim, &friend, &w->target), 0);
        wr_swarm_disconnect(friend.swarm, wr_swarm_self(w->target.swarm), WR_CONN_OK);
        rule(w, true, "45.1.1.0/24", false);
        sim_run(w->sim, WR_SEC);
        assert_int_equal(wr_swarm_conn_count(w->target.swarm), 0);
        assert_int_equal(node_connect(w->sim, &peer, &w->target), 0);
        wr_swarm_disconnect(peer.swarm, wr_swarm_self(w->target.swarm), WR_CONN_OK);
        sim_run(w->sim, WR_SEC);
    }
    stop(w, &peer, 1);
    stop(w, &friend, 1);
}

/* ---- who may stay ------------------------------------------------------------------------------------------ */

static void hold_stream(struct wr_stream *s, void *arg)
{
    static const struct wr_stream_ops ops = {0};
    (void)arg;
    wr_stream_set_ops(s, &ops, NULL);
}

static unsigned connected(struct world *w, struct node *peers, unsigned count)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count; i++)
        n += node_conn(&w->target, &peers[i]) != NULL;
    return n;
}

/* Above the high water those go that nobody uses, of equals the longest unused: whom the owner allows, by id or by
 * network, stays, and so do who has a stream open and whom we asked something lately. All of these are of the younger
 * half, of whom somebody has to go, and would be the first of it. */
static void test_who_is_allowed_or_used_stays(void **state)
{
    struct world *w = *state;
    enum { PEERS = 37, PLACES = 40, LOW = 30, BY_ID = 18, BY_NET = 19, IN_USE = 20, LATELY = 21 };
    static const char *const offer[] = {"/test/hold/1.0.0", NULL};
    static const struct wr_stream_ops ops = {0};
    static struct node peers[PEERS];
    char text[WR_PEERID_TEXT];
    int err;
    memset(peers, 0, sizeof(peers));
    w->target.limits.of[WR_LIMIT_CONNS_INBOUND].max = PLACES;
    node_handle(&w->target, offer[0], hold_stream, NULL);
    for (unsigned i = 0; i < PEERS; i++) {
        peers[i].host = machine(w, 46, (uint8_t)i, 1, 1);
        node_start(&peers[i], w->sim, 10 + i);
        assert_int_equal(node_connect(w->sim, &peers[i], &w->target), 0);
    }
    sim_run(w->sim, 100 * WR_MSEC);
    assert_int_equal(w->target.limits.of[WR_LIMIT_CONNS_INBOUND].used, PEERS);
    rule(w, false, wr_peerid_print(wr_swarm_self(peers[BY_ID].swarm), text), true);
    rule(w, false, "46.19.0.0/16", true);
    assert_non_null(wr_swarm_open(peers[IN_USE].swarm, wr_swarm_self(w->target.swarm), offer, &ops, NULL, &err));
    node_handle(&peers[LATELY], offer[0], hold_stream, NULL);
    struct wr_stream *s = wr_swarm_open(w->target.swarm, wr_swarm_self(peers[LATELY].swarm), offer, &ops, NULL, &err);
    assert_non_null(s);
    sim_run(w->sim, WR_SEC);
    wr_stream_reset(s, WR_STREAM_OK);
    sim_run(w->sim, 2 * WR_MIN);
    assert_int_equal(connected(w, peers, PEERS), LOW);
    assert_int_equal(connected(w, peers, LOW / 2), LOW / 2);
    for (unsigned i = BY_ID; i <= LATELY; i++)
        assert_non_null(node_conn(&w->target, &peers[i]));
    stop(w, peers, PEERS);
}

/* Connections of ours count towards the high water of all, and go as well. */
static void test_high_water_of_all_connections(void **state)
{
    struct world *w = *state;
    enum { PEERS = 37, PLACES = 40, LOW = 30 };
    static struct node peers[PEERS];
    memset(peers, 0, sizeof(peers));
    w->target.limits.of[WR_LIMIT_CONNS].max = PLACES;
    for (unsigned i = 0; i < PEERS; i++) {
        node_start(&peers[i], w->sim, 10 + i);
        assert_int_equal(node_connect(w->sim, &w->target, &peers[i]), 0);
    }
    assert_int_equal(w->target.limits.of[WR_LIMIT_CONNS].used, PEERS);
    sim_run(w->sim, 2 * WR_MIN);
    assert_int_equal(w->target.limits.of[WR_LIMIT_CONNS].used, LOW);
    assert_int_equal(connected(w, peers, LOW / 2), LOW / 2);
    stop(w, peers, PEERS);
}

/* The ceilings on connections of a peer, and on all of them where everybody is protected, hold for those alone whom the
 * owner has not allowed. */
static void test_who_is_allowed_is_not_refused(void **state)
{
    struct world *w = *state;
    enum { PEERS = 3 };
    struct node peers[PEERS] = {0};
    struct wr_limits *limits = &w->target.limits;
    char text[WR_PEERID_TEXT];
    limits->of[WR_LIMIT_CONNS_PER_PEER].max = 1;
    limits->of[WR_LIMIT_CONNS_INBOUND].max = PEERS - 1;
    for (unsigned i = 0; i < PEERS; i++) {
        node_start(&peers[i], w->sim, 10 + i);
        wr_swarm_tag(w->target.swarm, wr_swarm_self(peers[i].swarm), "test", 0, true);
    }
    for (unsigned i = 0; i < PEERS - 1; i++)
        assert_int_equal(node_connect(w->sim, &peers[i], &w->target), 0);
    (void)node_connect(w->sim, &peers[PEERS - 1], &w->target);    /* who dials knows first that it stands */
    sim_run(w->sim, WR_SEC);
    assert_int_equal(limits->of[WR_LIMIT_CONNS_INBOUND].used, PEERS - 1);
    assert_null(node_conn(&w->target, &peers[PEERS - 1]));
    rule(w, false, wr_peerid_print(wr_swarm_self(peers[PEERS - 1].swarm), text), true);
    for (unsigned i = 0; i < 2; i++) {
        int result = 1;
        assert_int_equal(wr_swarm_connect(peers[PEERS - 1].swarm, wr_swarm_self(w->target.swarm), &w->target.addr, 1,
                                          WR_ORIGIN_OWNER, WR_CONNECT_FRESH, node_on_connect, &result, NULL),
                         0);
        sim_run(w->sim, 2 * WR_SEC);
        assert_int_equal(result, 0);
        assert_int_equal(limits->of[WR_LIMIT_CONNS_INBOUND].used, PEERS + i);
    }
    for (unsigned i = 0; i < PEERS; i++)
        assert_non_null(node_conn(&w->target, &peers[i]));
    stop(w, peers, PEERS);
    assert_int_equal(limits->of[WR_LIMIT_CONNS_INBOUND].used, 0);
    assert_int_equal(limits->of[WR_LIMIT_CONNS].used, 0);
}

/* No descriptor left: one that nobody uses is closed, and whoever waits at the door has its place. */
static void test_without_descriptors_somebody_makes_room(void **state)
{
    struct world *w = *state;
    enum { PEERS = 8, PROTECTED = 7 };
    struct node peers[PEERS] = {0}, late = {0};
    for (unsigned i = 0; i < PEERS; i++) {
        node_start(&peers[i], w->sim, 10 + i);
        assert_int_equal(node_connect(w->sim, &peers[i], &w->target), 0);
    }
    wr_swarm_tag(w->target.swarm, wr_swarm_self(peers[PROTECTED].swarm), "test", 0, true);
    sim_run(w->sim, WR_MIN);
    node_start(&late, w->sim, 30);
    sim_set_descriptors(w->target.host, sim_descriptors(w->target.host));
    assert_int_equal(node_connect(w->sim, &late, &w->target), 0);
    sim_run(w->sim, WR_SEC);
    assert_non_null(node_conn(&w->target, &late));
    assert_int_equal(connected(w, peers, PEERS), PEERS - 1);
    assert_int_equal(connected(w, peers, PEERS / 2), PEERS / 2);
    assert_non_null(node_conn(&w->target, &peers[PROTECTED]));
    stop(w, peers, PEERS);
    stop(w, &late, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_network_has_a_rate),
        TEST(test_a_network_has_so_many_places),
        TEST(test_a_blocked_network_stays_out),
        TEST(test_who_is_allowed_or_used_stays),
        TEST(test_high_water_of_all_connections),
        TEST(test_who_is_allowed_is_not_refused),
        TEST(test_without_descriptors_somebody_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
