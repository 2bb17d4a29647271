/* Relays and those who use them, in virtual time: reservations, circuits, limits, rates, refusals, and relays that
 * break their word. */
#include "identify/ping.h"
#include "relay/relay_client.h"
#include "relay/relay_server.h"
#include "relay/voucher.h"
#include "tests/sim/simnode.h"
#include "transport/msg.h"

#include <malloc.h>
#include <stdio.h>

#define SMALL "/test/small"
#define LARGE 4u << 20

static const char *const small_offer[] = {SMALL, NULL};

/* ---- who takes part */

struct member {
    struct node n;
    struct wr_relay_client *client;
    struct wr_relay_server *server;
    size_t got;
    int hold_err;                 /* 1: nothing heard yet */
    unsigned hold_status, holds;
    wr_time cut_at;               /* when a stream to it last ended badly */
};

static void on_hold(void *arg, const struct wr_peerid *relay, int err, unsigned status)
{
    struct member *m = arg;
    (void)relay;
    m->hold_err = err;
    m->hold_status = status;
    m->holds++;
}

static void small_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct member *m = arg;
    (void)s;
    m->got += data.len;
}

static void small_eof(struct wr_stream *s, void *arg)
{
    (void)arg;
    wr_stream_shut(s);
}

static void small_close(struct wr_stream *s, void *arg, int err)
{
    struct member *m = arg;
    (void)s;
    if (err != 0)
        m->cut_at = wr_env_now(m->n.env);
}

static const struct wr_stream_ops small_ops = {
    .on_data = small_data, .on_eof = small_eof, .on_close = small_close};

static void on_small(struct wr_stream *s, void *arg)
{
    wr_stream_set_ops(s, &small_ops, arg);
}

static void member_up(struct member *m, struct sim *sim, unsigned seed)
{
    struct sim_host *host = m->n.host;
    memset(m, 0, sizeof(*m));
    m->n.host = host;
    m->hold_err = 1;
    node_start(&m->n, sim, seed);
    struct wr_relay_client_options options = {.swarm = m->n.swarm, .on_hold = on_hold, .arg = m};
    m->client = wr_relay_client_create(&options);
    assert_non_null(m->client);
    struct wr_protocol p = {.name = SMALL, .on_stream = on_small, .arg = m, .inbound_max = 100, .limited = true};
    assert_int_equal(wr_swarm_handle(m->n.swarm, &p), 0);
}

static void member_serve(struct member *m, const struct wr_relay_server_options *options)
{
    struct wr_relay_server_options o;
    wr_relay_server_defaults(&o, m->n.swarm);
    if (options)
        o = *options;
    o.swarm = m->n.swarm;
    m->server = wr_relay_server_create(&o);
    assert_non_null(m->server);
}

static void member_down(struct member *m)
{
    wr_relay_server_destroy(m->server);
    wr_relay_client_destroy(m->client);
    node_stop(&m->n);
}

static const struct wr_peerid *id_of(const struct member *m)
{
    return wr_swarm_self(m->n.swarm);
}

struct world {
    struct sim *sim;
    struct member a, b, relay;
};

static const struct wr_relay_server_options lent = {.mode = WR_RELAY_ON,
                                                    .limit = {.duration = 120, .data = 131072},
                                                    .ttl = 3600};

static void world_up(struct world *w, const struct sim_options *options, const struct wr_relay_server_options *server)
{
    memset(w, 0, sizeof(*w));
    w->sim = sim_create(options);
    member_up(&w->a, w->sim, 1);
    member_up(&w->b, w->sim, 2);
    member_up(&w->relay, w->sim, 3);
    if (server)
        member_serve(&w->relay, server);
    assert_int_equal(node_connect(w->sim, &w->b.n, &w->relay.n), 0);
}

static void world_down(struct world *w)
{
    member_down(&w->a);
    member_down(&w->b);
    member_down(&w->relay);
    sim_destroy(w->sim);
}

static int reserve(struct sim *sim, struct member *m, struct member *relay)
{
    m->hold_err = 1;
    int rc = wr_relay_client_hold(m->client, id_of(relay));
    if (rc != 0)
        return rc;
    for (int i = 0; i < 15000 && m->hold_err == 1; i++)
        sim_run(sim, WR_MSEC);
    return m->hold_err;
}

static struct wr_maddr circuit_of(const struct member *relay)
{
    struct wr_maddr at = relay->n.addr, tail;
    assert_int_equal(wr_maddr_append_peer(&at, wr_swarm_self(relay->n.swarm)), 0);
    assert_int_equal(wr_maddr_parse("/p2p-circuit", &tail), 0);
    assert_int_equal(wr_maddr_append(&at, wr_maddr_bytes(&tail)), 0);
    return at;
}

/* a reaches b through the relay; the error. */
static int reach(struct world *w, struct member *from, struct member *to)
{
    struct wr_maddr at = circuit_of(&w->relay);
    int result = 1;
    assert_int_equal(wr_swarm_connect(from->n.swarm, id_of(to), &at, 1, WR_ORIGIN_OWNER, 0, node_on_connect, &result,
                                      NULL),
                     0);
    for (int i = 0; i < 65000 && result == 1; i++)
        sim_run(w->sim, WR_MSEC);
    sim_run(w->sim, 200 * WR_MSEC);
    return result;
}

struct sender {
    size_t left;
    int err;
    wr_time at;    /* of the end */
};

static void sender_go(struct wr_stream *s, struct sender *c)
{
    static const uint8_t zeros[16384];
    while (c->left) {
        int n = wr_stream_write(s, zeros, c->left < sizeof(zeros) ? c->left : sizeof(zeros));
        if (n < 0) {
            c->err = n;
            wr_stream_reset(s, WR_STREAM_LIMIT);
        }
        if (n <= 0)
            return;
        c->left -= (size_t)n;
    }
    wr_stream_shut(s);
}

static void sender_open(struct wr_stream *s, void *arg)
{
    sender_go(s, arg);
}

static void sender_close(struct wr_stream *s, void *arg, int err)
{
    struct sender *c = arg;
    (void)s;
    c->err = err;
}

static const struct wr_stream_ops sender_ops = {
    .on_open = sender_open, .on_writable = sender_open, .on_close = sender_close};

static void begin(struct member *from, struct member *to, struct sender *c, size_t len)
{
    int err;
    *c = (struct sender){.left = len, .err = 1};
    assert_non_null(wr_swarm_open_with(from->n.swarm, id_of(to), WR_OPEN_LIMITED, small_offer, &sender_ops, c, &err));
}

static size_t relayed_addrs(struct member *m)
{
    const struct wr_addrbook *book = wr_swarm_addrbook(m->n.swarm);
    size_t n = 0;
    for (size_t i = 0; i < book->count; i++)
        n += book->of[i].source == WR_ADDR_RELAYED;
    return n;
}

static struct wr_relay_server_stats stats_of(const struct member *relay)
{
    struct wr_relay_server_stats s;
    wr_relay_server_stats(relay->server, &s);
    return s;
}

/* ---- stories */

static void test_reserve_and_connect(void **state)
{
    struct world w;
    struct sender c;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 1, .rtt = 60 * WR_MSEC, .ragged = true}, &lent);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(wr_relay_client_hold(w.b.client, id_of(&w.relay)), WR_EEXIST);
    const struct wr_relay_hold *h = wr_relay_client_held(w.b.client, id_of(&w.relay));
    assert_non_null(h);
    assert_int_equal(h->state, WR_RELAY_HELD);
    assert_true(h->vouched && h->limited);
    assert_int_equal(h->limit.duration, 120);
    assert_int_equal(h->limit.data, 131072);
    assert_in_range(h->expires_at - sim_now(w.sim), 3590 * WR_SEC, 3601 * WR_SEC);
    assert_int_equal(relayed_addrs(&w.b), 1);
    struct wr_maddr at = circuit_of(&w.relay);
    assert_true(wr_addrbook_has(wr_swarm_addrbook(w.b.n.swarm), wr_maddr_bytes(&at)));
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    struct wr_conn *there = node_conn(&w.a.n, &w.b.n), *here = node_conn(&w.b.n, &w.a.n);
    assert_true(there->limited && here->limited);
    assert_int_equal(here->circuit->duration, 120 * WR_SEC);
    assert_int_equal(there->circuit->data, 131072);
    begin(&w.a, &w.b, &c, 50000);
    sim_run(w.sim, 5 * WR_SEC);
    assert_int_equal(c.err, 0);
    assert_int_equal(w.b.got, 50000);
    assert_int_equal(h->circuits, 1);
    struct wr_relay_through through;
    assert_int_equal(wr_relay_server_circuits(w.relay.server, &through, 1), 1);
    assert_true(wr_peerid_equal(&through.caller, id_of(&w.a)));
    assert_true(wr_peerid_equal(&through.guest, id_of(&w.b)));
    assert_true(through.bytes[0] > 50000);
    wr_conn_close(there, WR_CONN_OK);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(stats_of(&w.relay).circuits, 0);
    assert_null(node_conn(&w.b.n, &w.a.n));
    world_down(&w);
}

static void on_pong(void *arg, const struct wr_ping_reply *reply)
{
    int *result = arg;
    *result = reply->err == 0 && reply->conn && !reply->conn->circuit ? WR_EPROTO : reply->err;
}

/* A ping is for circuits, too: nobody waits for a better path before asking how this one does. */
static void test_ping(void **state)
{
    struct world w;
    int result = 1;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 9, .rtt = 60 * WR_MSEC}, &lent);
    struct wr_pong *pong = wr_pong_create(w.b.n.swarm);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    struct wr_ping *ping =
        wr_ping_open(w.a.n.swarm, id_of(&w.b), &(struct wr_ping_options){.on_reply = on_pong, .arg = &result});
    assert_true(pong && ping);
    assert_int_equal(wr_ping_send(ping), 0);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(result, 0);
    wr_ping_close(ping);
    wr_pong_destroy(pong);
    world_down(&w);
}

/* Over three hours the place is asked for again, at three quarters of its hour each time, and stands there throughout. */
static void test_refresh(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 2}, &lent);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    for (int minute = 0; minute < 180; minute++) {
        sim_run(w.sim, WR_MIN);
        assert_int_equal(relayed_addrs(&w.b), 1);
        assert_int_equal(stats_of(&w.relay).guests, 1);
    }
    const struct wr_relay_hold *h = wr_relay_client_held(w.b.client, id_of(&w.relay));
    assert_int_equal(h->refreshed, 4);
    assert_int_equal(stats_of(&w.relay).refreshed, 4);
    assert_int_equal(w.b.holds, 1);
    world_down(&w);
}

/* A clock that is wrong by a year changes nothing. */
static void test_wrong_clock(void **state)
{
    struct world w = {0};
    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        memset(&w, 0, sizeof(w));
        w.sim = sim_create(&(struct sim_options){.seed = 3});
        w.b.n.host = sim_host_add(w.sim, &(struct sim_host_options){.clock_error = sign * 365 * 24 * WR_HOUR});
        member_up(&w.a, w.sim, 1);
        member_up(&w.b, w.sim, 2);
        member_up(&w.relay, w.sim, 3);
        member_serve(&w.relay, &lent);
        assert_int_equal(node_connect(w.sim, &w.b.n, &w.relay.n), 0);
        assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
        sim_run(w.sim, 2 * WR_HOUR);
        assert_int_equal(stats_of(&w.relay).guests, 1);
        assert_int_equal(stats_of(&w.relay).reserved, 1);
        assert_int_equal(reach(&w, &w.a, &w.b), 0);
        world_down(&w);
    }
}

static void test_lost_with_the_connection(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 4}, &lent);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    wr_swarm_disconnect(w.b.n.swarm, id_of(&w.relay), WR_CONN_OK);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(w.b.holds, 2);
    assert_int_equal(w.b.hold_err, WR_ECLOSED);
    assert_int_equal(relayed_addrs(&w.b), 0);
    assert_int_equal(stats_of(&w.relay).guests, 0);
    assert_int_equal(reach(&w, &w.a, &w.b), WR_ENOTFOUND);
    assert_int_equal(stats_of(&w.relay).refused_absent, 1);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), WR_ECLOSED);
    world_down(&w);
}

/* To the byte, and to the second. */
static void test_limits_of_a_circuit(void **state)
{
    struct world w;
    struct sender c;
    struct wr_relay_through through;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 5, .rtt = 60 * WR_MSEC}, &lent);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    begin(&w.a, &w.b, &c, 300000);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(wr_relay_server_circuits(w.relay.server, &through, 1), 1);
    assert_int_equal(through.bytes[0], 131072);
    assert_int_equal(stats_of(&w.relay).cut_data, 1);
    assert_true(c.err < 0);
    assert_in_range(w.b.got, 60000, 131072);    /* a frame that was cut in two is lost */
    struct wr_relay_guest guest;
    assert_int_equal(wr_relay_server_guests(w.relay.server, &guest, 1), 1);
    uint64_t before = guest.bytes;
    assert_true(before > 131072);
    sim_run(w.sim, 10 * WR_SEC);
    assert_null(node_conn(&w.a.n, &w.b.n));
    assert_null(node_conn(&w.b.n, &w.a.n));
    assert_int_equal(stats_of(&w.relay).circuits, 0);
    /* Another one may be had at once. Quiet, it lives two minutes. */
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    assert_int_equal(wr_relay_server_circuits(w.relay.server, &through, 1), 1);
    wr_time end = through.since + 120 * WR_SEC;
    sim_run_until(w.sim, end - WR_MSEC);
    assert_int_equal(stats_of(&w.relay).circuits, 1);
    sim_run_until(w.sim, end + WR_MSEC);
    assert_int_equal(stats_of(&w.relay).circuits, 0);
    assert_int_equal(stats_of(&w.relay).cut_time, 1);
    sim_run(w.sim, WR_SEC);
    assert_null(node_conn(&w.a.n, &w.b.n));
    world_down(&w);
}

/* A relay without limits: an ordinary connection, any amount of data. */
static void test_no_limits(void **state)
{
    static const struct wr_relay_server_options free_of = {.mode = WR_RELAY_ON, .ttl = 3600};
    struct world w;
    struct sender c;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 6, .rtt = 60 * WR_MSEC}, &free_of);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_false(wr_relay_client_held(w.b.client, id_of(&w.relay))->limited);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    assert_false(node_conn(&w.a.n, &w.b.n)->limited);
    assert_non_null(node_conn(&w.a.n, &w.b.n)->circuit);
    begin(&w.a, &w.b, &c, LARGE);
    sim_run(w.sim, 60 * WR_SEC);
    assert_int_equal(c.err, 0);
    assert_int_equal(w.b.got, LARGE);
    assert_int_equal(stats_of(&w.relay).buffered, 0);
    sim_run(w.sim, 10 * WR_MIN);
    assert_non_null(node_conn(&w.a.n, &w.b.n));
    world_down(&w);
}

/* Bytes that the relay passes on, measured after the first burst is over. */
static void measure_rate(uint64_t each, uint64_t total, unsigned pairs, double want)
{
    struct wr_relay_server_options o = {.mode = WR_RELAY_ON, .ttl = 3600, .rate_each = each, .rate_total = total};
    struct world w;
    struct member more[6];
    struct sender c[4];
    assert_true(pairs <= 4);
    world_up(&w, &(struct sim_options){.seed = 7, .rtt = 60 * WR_MSEC}, &o);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    memset(more, 0, sizeof(more));
    for (unsigned i = 0; i < pairs; i++) {
        member_up(&more[i], w.sim, 10 + i);
        assert_int_equal(reach(&w, &more[i], &w.b), 0);
        begin(&more[i], &w.b, &c[i], 64u << 20);
    }
    sim_run(w.sim, 10 * WR_SEC);
    uint64_t before = stats_of(&w.relay).bytes;
    sim_run(w.sim, 200 * WR_SEC);    /* a window's worth comes at once: 256 KiB more or less is little of this */
    double rate = (double)(stats_of(&w.relay).bytes - before) / 200;
    if (rate < want * 0.95 || rate > want * 1.05)
        print_error("rate %.0f, not %.0f\n", rate, want);
    assert_true(rate >= want * 0.95 && rate <= want * 1.05);
    for (unsigned i = 0; i < pairs; i++)
        member_down(&more[i]);
    world_down(&w);
}

static void test_rates_are_kept(void **state)
{
    (void)state;
    measure_rate(100000, 0, 1, 100000);
    measure_rate(0, 300000, 3, 300000);
    measure_rate(50000, 400000, 4, 200000);
    measure_rate(400000, 200000, 2, 200000);
}

/* A guest that does not read: the caller is stopped, what waits is counted, others are not slowed. */
static void test_slow_receiver(void **state)
{
    static const struct wr_relay_server_options free_of = {.mode = WR_RELAY_ON, .ttl = 3600};
    struct world w;
    struct sender c;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 8, .rtt = 60 * WR_MSEC}, &free_of);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    sim_set_bandwidth(w.b.n.host, 20000);
    begin(&w.a, &w.b, &c, 16u << 20);
    sim_run(w.sim, 20 * WR_SEC);
    assert_in_range(stats_of(&w.relay).buffered, 1, 1 << 20);
    assert_true(c.left > 12u << 20);
    assert_int_equal(c.err, 1);
    sim_set_bandwidth(w.b.n.host, 0);
    sim_run(w.sim, 120 * WR_SEC);
    assert_int_equal(c.err, 0);
    assert_int_equal(w.b.got, 16u << 20);
    world_down(&w);
}

static void test_modes(void **state)
{
    struct wr_relay_server_options o = lent;
    struct world w;
    (void)state;
    o.mode = WR_RELAY_AUTO;
    world_up(&w, &(struct sim_options){.seed = 9}, &o);
    assert_false(wr_relay_server_offered(w.relay.server));
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), WR_EREFUSED);
    assert_int_equal(w.b.hold_status, WR_RELAY_REFUSED);
    wr_swarm_set_reachability(w.relay.n.swarm, 4, WR_REACH_PUBLIC);
    assert_true(wr_relay_server_offered(w.relay.server));
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    /* Not reachable any more: no new places, what is there goes on. */
    wr_swarm_set_reachability(w.relay.n.swarm, 4, WR_REACH_PRIVATE);
    assert_false(wr_relay_server_offered(w.relay.server));
    sim_run(w.sim, 30 * WR_SEC);
    assert_non_null(node_conn(&w.a.n, &w.b.n));
    assert_int_equal(node_connect(w.sim, &w.a.n, &w.relay.n), 0);
    assert_int_equal(reserve(w.sim, &w.a, &w.relay), WR_EREFUSED);
    wr_relay_server_set_mode(w.relay.server, WR_RELAY_ON);
    assert_int_equal(reserve(w.sim, &w.a, &w.relay), 0);
    wr_relay_server_set_mode(w.relay.server, WR_RELAY_OFF);
    assert_false(wr_relay_server_offered(w.relay.server));
    world_down(&w);
}

/* Places per network, and circuits per peer. */
static void test_ceilings(void **state)
{
    struct world w;
    struct member crowd[WR_RELAY_GUESTS_PER_NET + 1];
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 10}, &lent);
    memset(crowd, 0, sizeof(crowd));
    for (unsigned i = 0; i <= WR_RELAY_GUESTS_PER_NET; i++) {
        struct wr_ip ip = {.family = 4, .bytes = {9, 9, 9, (uint8_t)(i + 1)}};
        crowd[i].n.host = sim_host_add(w.sim, &(struct sim_host_options){.ip4 = ip});
        member_up(&crowd[i], w.sim, 20 + i);
        assert_int_equal(node_connect(w.sim, &crowd[i].n, &w.relay.n), 0);
        int want = i < WR_RELAY_GUESTS_PER_NET ? 0 : WR_EFULL;
        assert_int_equal(reserve(w.sim, &crowd[i], &w.relay), want);
    }
    assert_int_equal(stats_of(&w.relay).refused_net, 1);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    /* The limit of all. */
    w.relay.n.limits.of[WR_LIMIT_RELAY_RESERVATIONS].max = stats_of(&w.relay).guests;
    assert_int_equal(node_connect(w.sim, &w.a.n, &w.relay.n), 0);
    assert_int_equal(reserve(w.sim, &w.a, &w.relay), WR_EFULL);
    assert_int_equal(w.relay.n.limits.of[WR_LIMIT_RELAY_RESERVATIONS].refused, 1);
    w.relay.n.limits.of[WR_LIMIT_RELAY_CIRCUITS].max = 1;
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    assert_int_equal(reach(&w, &w.a, &crowd[0]), WR_EFULL);
    assert_int_equal(stats_of(&w.relay).refused_full, 2);
    for (unsigned i = 0; i <= WR_RELAY_GUESTS_PER_NET; i++)
        member_down(&crowd[i]);
    world_down(&w);
}

/* A crowd that opens as many circuits as it gets, sends what it can, and knocks for more all the time. */
static void test_floods_leave_the_others_their_rate(void **state)
{
    enum { CROWD = 48 };
    static const struct wr_relay_server_options o = {
        .mode = WR_RELAY_ON, .ttl = 3600, .rate_each = WR_RELAY_RATE_EACH, .rate_total = WR_RELAY_RATE_TOTAL};
    struct world w;
    struct member *crowd = wr_alloc_array(CROWD, sizeof(*crowd)), guests[3];
    struct sender good, *bad = wr_alloc_array(CROWD, sizeof(*bad));
    (void)state;
    assert_true(crowd && bad);
    world_up(&w, &(struct sim_options){.seed = 17, .rtt = 60 * WR_MSEC}, &o);
    assert_int_equal(wr_limits_change(&w.relay.n.limits, "home"), 0);
    assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
    assert_int_equal(reach(&w, &w.a, &w.b), 0);
    begin(&w.a, &w.b, &good, 256u << 20);
    sim_run(w.sim, 5 * WR_SEC);
    size_t before = w.b.got;
    sim_run(w.sim, 30 * WR_SEC);
    size_t alone = w.b.got - before;
    memset(guests, 0, sizeof(guests));
    for (unsigned i = 0; i < 3; i++) {
        member_up(&guests[i], w.sim, 40 + i);
        assert_int_equal(node_connect(w.sim, &guests[i].n, &w.relay.n), 0);
        assert_int_equal(reserve(w.sim, &guests[i], &w.relay), 0);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        member_up(&crowd[i], w.sim, 100 + i);
        assert_int_equal(reach(&w, &crowd[i], &guests[i % 3]), 0);
        begin(&crowd[i], &guests[i % 3], &bad[i], 256u << 20);
    }
    sim_run(w.sim, 10 * WR_SEC);
    before = w.b.got;
    for (unsigned second = 0; second < 30; second++) {
        for (unsigned i = 0; i < CROWD; i++) {    /* to one that has as many as it may */
            struct wr_maddr at = circuit_of(&w.relay);
            static int ignored;    /* answers come when they like */
            (void)wr_swarm_connect(crowd[i].n.swarm, id_of(&guests[(i + 1) % 3]), &at, 1, WR_ORIGIN_OWNER,
                                   WR_CONNECT_FRESH, node_on_connect, &ignored, NULL);
        }
        sim_run(w.sim, WR_SEC);
    }
    assert_true(stats_of(&w.relay).refused_peer >= 1000);
    size_t flooded = w.b.got - before;
    if (flooded < alone * 8 / 10)
        print_error("%zu bytes alone, %zu in the flood\n", alone, flooded);
    assert_true(flooded >= alone * 8 / 10);
    for (unsigned i = 0; i < CROWD; i++) {
        assert_true(bad[i].err == 1 && bad[i].left < 256u << 20);    /* nobody starves */
        member_down(&crowd[i]);
    }
    for (unsigned i = 0; i < 3; i++)
        member_down(&guests[i]);
    world_down(&w);
    wr_free(crowd);
    wr_free(bad);
}

/* What a place costs us, everything of ours together. */
static void test_memory_of_a_reservation(void **state)
{
    enum { GUESTS = 60 };
    struct world w;
    struct member *crowd = wr_alloc_array(GUESTS, sizeof(*crowd));
    (void)state;
    assert_non_null(crowd);
    world_up(&w, &(struct sim_options){.seed = 18}, &lent);
    for (unsigned i = 0; i < GUESTS; i++) {
        member_up(&crowd[i], w.sim, 200 + i);
        assert_int_equal(node_connect(w.sim, &crowd[i].n, &w.relay.n), 0);
    }
    sim_run(w.sim, 30 * WR_SEC);
    size_t before = mallinfo2().uordblks;
    for (unsigned i = 0; i < GUESTS; i++)
        assert_int_equal(reserve(w.sim, &crowd[i], &w.relay), 0);
    sim_run(w.sim, 30 * WR_SEC);
    size_t each = (mallinfo2().uordblks - before) / GUESTS;    /* theirs and ours */
    assert_int_equal(stats_of(&w.relay).guests, GUESTS);
    if (each > 8192)
        print_error("%zu bytes\n", each);
    assert_true(each <= 8192);
    for (unsigned i = 0; i < GUESTS; i++)
        member_down(&crowd[i]);
    world_down(&w);
    wr_free(crowd);
}

/* ---- relays that break their word. They speak hop by hand. */

struct liar {
    struct world *w;
    const uint8_t *says;    /* the bytes of the answer */
    size_t len;
    bool resets, ends;
};

static void liar_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct liar *l = arg;
    (void)data;
    if (l->resets)
        wr_stream_reset(s, WR_STREAM_OK);
    else if (l->len)
        assert_int_equal(wr_stream_write(s, l->says, l->len), (int)l->len);
    if (l->ends && !l->resets)
        wr_stream_close(s);
}

static const struct wr_stream_ops liar_ops = {.on_data = liar_data};

static void on_liar(struct wr_stream *s, void *arg)
{
    wr_stream_set_ops(s, &liar_ops, arg);
}

static void test_relays_that_lie(void **state)
{
    static const struct {
        const char *what, *bytes;
        size_t len;
        bool resets, ends;
        int err;
    } lies[] = {
        {"says nothing", "", 0, false, false, WR_ETIMEOUT},
        {"resets", "", 0, true, false, WR_ERESET},
        {"ends", "", 0, false, true, WR_ECLOSED},
        {"a message without an end", "\x05\x08\x02", 3, false, true, WR_EPROTO},
        {"too long", "\xff\xff\x7f", 3, false, false, WR_EPROTO},
        {"no protobuf", "\x03\xff\xff\xff", 4, false, false, WR_EPROTO},
        {"another type", "\x02\x08\x00", 3, false, false, WR_EPROTO},
        {"no status", "\x02\x08\x02", 3, false, false, WR_EPROTO},
        {"a status nobody knows", "\x05\x08\x02\x28\xe7\x07", 6, false, false, WR_EPROTO},
        {"permission denied", "\x05\x08\x02\x28\xca\x01", 6, false, false, WR_EPERM},
        {"a voucher that is none", "\x09\x08\x02\x1a\x03\x1a\x01\x00\x28\x64", 10, false, false, WR_EPROTO},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
        struct world w;
        world_up(&w, &(struct sim_options){.seed = 11}, NULL);
        struct liar l = {&w, (const uint8_t *)lies[i].bytes, lies[i].len, lies[i].resets, lies[i].ends};
        node_handle(&w.relay.n, WR_RELAY_HOP_NAME, on_liar, &l);
        wr_time begun = sim_now(w.sim);
        int err = reserve(w.sim, &w.b, &w.relay);
        if (err != lies[i].err)
            print_error("%s: %s\n", lies[i].what, wr_err_name(err));
        assert_int_equal(err, lies[i].err);
        assert_true(sim_now(w.sim) - begun <= 11 * WR_SEC);
        assert_null(wr_relay_client_held(w.b.client, id_of(&w.relay)));
        assert_int_equal(relayed_addrs(&w.b), 0);
        /* The same when it is asked for a circuit. */
        assert_true(reach(&w, &w.a, &w.b) < 0);
        world_down(&w);
    }
}

static size_t framed(const struct wr_relay_msg *m, uint8_t out[static 512])
{
    struct wr_buf body, whole;
    wr_buf_init(&body, WR_RELAY_MSG_MAX);
    wr_buf_over(&whole, out, 512);
    wr_relay_msg_encode(WR_RELAY_HOP, m, &body);
    wr_buf_put_prefixed(&whole, wr_buf_bytes(&body));
    assert_false(whole.full);
    wr_buf_clear(&body);
    return whole.len;
}

/* What others are known to answer to RESERVE: no address, one that is none, its own id twice, milliseconds in a field of
 * seconds, an end in the past. All of them are places. */
static void test_strange_reservations(void **state)
{
    (void)state;
    for (int strange = 0; strange < 5; strange++) {
        struct world w;
        uint8_t bytes[512];
        struct wr_maddr twice;
        world_up(&w, &(struct sim_options){.seed = 12}, NULL);
        twice = w.relay.n.addr;
        assert_int_equal(wr_maddr_append_peer(&twice, id_of(&w.relay)), 0);
        assert_int_equal(wr_maddr_append_peer(&twice, id_of(&w.relay)), 0);
        uint64_t now = (uint64_t)(wr_env_unix(w.b.n.env) / WR_SEC);
        struct wr_relay_msg m = {.type = WR_RELAY_STATUS,
                                 .status = WR_RELAY_OK,
                                 .has_reservation = true,
                                 .expire = strange == 4 ? now - 100 : now + 3600,
                                 .has_limit = strange == 3,
                                 .limit = {.duration = 120000, .data = 131072}};
        if (strange == 1)
            m.addrs[m.addr_count++] = WR_BYTES_STR("\xff\xff garbage");
        if (strange == 2)
            m.addrs[m.addr_count++] = wr_maddr_bytes(&twice);
        struct liar l = {.w = &w, .says = bytes, .len = framed(&m, bytes)};
        node_handle(&w.relay.n, WR_RELAY_HOP_NAME, on_liar, &l);
        assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
        const struct wr_relay_hold *h = wr_relay_client_held(w.b.client, id_of(&w.relay));
        struct wr_maddr want = circuit_of(&w.relay);
        assert_int_equal(h->addr_count, 1);
        assert_true(wr_bytes_equal(wr_maddr_bytes(&h->addrs[0]), wr_maddr_bytes(&want)));
        assert_false(h->vouched);
        assert_int_equal(h->limited, strange == 3);
        assert_true(h->expires_at > sim_now(w.sim) + 59 * WR_MIN);
        world_down(&w);
    }
}

/* A voucher of another relay, or for another peer. */
static void test_foreign_vouchers(void **state)
{
    (void)state;
    for (int which = 0; which < 3; which++) {
        struct world w;
        uint8_t bytes[512];
        struct wr_buf voucher;
        world_up(&w, &(struct sim_options){.seed = 13}, NULL);
        struct wr_voucher v = {.relay = *id_of(which == 1 ? &w.a : &w.relay),
                               .peer = *id_of(which == 2 ? &w.a : &w.b),
                               .expire = 1};
        wr_buf_init(&voucher, WR_VOUCHER_MAX);
        wr_voucher_seal(which == 1 ? &w.a.n.key : &w.relay.n.key, &v, &voucher);
        struct wr_relay_msg m = {.type = WR_RELAY_STATUS,
                                 .status = WR_RELAY_OK,
                                 .has_reservation = true,
                                 .voucher = wr_buf_bytes(&voucher)};
        struct liar l = {.w = &w, .says = bytes, .len = framed(&m, bytes)};
        node_handle(&w.relay.n, WR_RELAY_HOP_NAME, on_liar, &l);
        assert_int_equal(reserve(w.sim, &w.b, &w.relay), which == 0 ? 0 : WR_EPEERID);
        wr_buf_clear(&voucher);
        world_down(&w);
    }
}

/* ---- raw callers of our relay */

struct raw {
    uint8_t got[1024];
    size_t len;
    bool eof;
};

static void raw_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct raw *r = arg;
    (void)s;
    for (size_t i = 0; i < data.len && r->len < sizeof(r->got); i++)
        r->got[r->len++] = data.ptr[i];
}

static void raw_eof(struct wr_stream *s, void *arg)
{
    struct raw *r = arg;
    (void)s;
    r->eof = true;
}

static const struct wr_stream_ops raw_ops = {.on_data = raw_data, .on_eof = raw_eof};

static void raw_ask(struct world *w, const char *bytes, size_t len, bool half_close, struct raw *r)
{
    static const char *const offer[] = {WR_RELAY_HOP_NAME, NULL};
    int err;
    *r = (struct raw){.len = 0};
    struct wr_stream *s = wr_conn_open_stream(node_conn(&w->b.n, &w->relay.n), offer, &raw_ops, r, &err);
    assert_non_null(s);
    assert_int_equal(wr_stream_write(s, bytes, len), (int)len);
    if (half_close)
        wr_stream_shut(s);
    sim_run(w->sim, WR_SEC);
}

/* rust-libp2p finishes writing behind RESERVE; nonsense is answered with a word, not with silence. */
static void test_raw_callers(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        unsigned status;
    } words[] = {
        {"\x02\x08\x00", 3, WR_RELAY_OK},
        {"\x02\x08\x02", 3, WR_RELAY_UNEXPECTED},
        {"\x02\x08\x07", 3, WR_RELAY_MALFORMED},
        {"\x02\x08\x01", 3, WR_RELAY_MALFORMED},
    };
    struct world w;
    struct raw r;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 14}, &lent);
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        for (int half_close = 0; half_close < 2; half_close++) {
            struct wr_relay_msg m;
            raw_ask(&w, words[i].bytes, words[i].len, half_close, &r);
            assert_true(r.len > 2 && r.eof);
            size_t head = r.got[0] & 0x80 ? 2 : 1;
            assert_int_equal(wr_relay_msg_decode(WR_RELAY_HOP, WR_BYTES(r.got + head, r.len - head), &m), 0);
            assert_int_equal(m.type, WR_RELAY_STATUS);
            assert_int_equal(m.status, words[i].status);
            assert_true(words[i].status != WR_RELAY_OK || m.addr_count >= 1);
        }
    }
    assert_int_equal(stats_of(&w.relay).guests, 1);
    world_down(&w);
}

static void test_each_allocation_may_fail(void **state)
{
    (void)state;
    for (uint64_t skip = 0;; skip++) {
        struct world w;
        struct sender c;
        world_up(&w, &(struct sim_options){.seed = 15, .rtt = 60 * WR_MSEC}, &lent);
        struct wr_maddr at = circuit_of(&w.relay);
        assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w.a.n.swarm), id_of(&w.b), wr_maddr_bytes(&at),
                                               WR_TTL_TEMP, false),
                         0);
        sim_alloc_fail(skip, 1);
        int err = wr_relay_client_hold(w.b.client, id_of(&w.relay));
        assert_true(err == 0 || err == WR_ELIMIT);
        sim_run(w.sim, WR_SEC);
        begin(&w.a, &w.b, &c, 40000);
        sim_run(w.sim, 70 * WR_SEC);
        bool all = sim_alloc_count() <= skip;
        sim_alloc_fail(0, 0);
        assert_int_not_equal(c.err, 1);
        world_down(&w);
        if (all)
            break;
    }
}

static void test_ends_in_flight(void **state)
{
    (void)state;
    for (unsigned ms = 0; ms < 600; ms += 20) {
        for (int who = 0; who < 3; who++) {
            struct world w;
            struct sender c;
            world_up(&w, &(struct sim_options){.seed = 16, .rtt = 60 * WR_MSEC}, &lent);
            assert_int_equal(reserve(w.sim, &w.b, &w.relay), 0);
            struct wr_maddr at = circuit_of(&w.relay);
            assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w.a.n.swarm), id_of(&w.b), wr_maddr_bytes(&at),
                                                   WR_TTL_TEMP, false),
                             0);
            begin(&w.a, &w.b, &c, 1u << 20);
            sim_run(w.sim, ms * WR_MSEC);
            struct member *of[] = {&w.a, &w.b, &w.relay};
            for (int i = 0; i < 3; i++) {
                member_down(of[(who + i) % 3]);
                sim_run(w.sim, 50 * WR_MSEC);
            }
            assert_true(c.err < 0);
            sim_destroy(w.sim);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reserve_and_connect),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_refresh),
        cmocka_unit_test(test_wrong_clock),
        cmocka_unit_test(test_lost_with_the_connection),
        cmocka_unit_test(test_limits_of_a_circuit),
        cmocka_unit_test(test_no_limits),
        cmocka_unit_test(test_rates_are_kept),
        cmocka_unit_test(test_slow_receiver),
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_ceilings),
        cmocka_unit_test(test_floods_leave_the_others_their_rate),
        cmocka_unit_test(test_memory_of_a_reservation),
        cmocka_unit_test(test_relays_that_lie),
        cmocka_unit_test(test_strange_reservations),
        cmocka_unit_test(test_foreign_vouchers),
        cmocka_unit_test(test_raw_callers),
        cmocka_unit_test(test_each_allocation_may_fail),
        cmocka_unit_test(test_ends_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
