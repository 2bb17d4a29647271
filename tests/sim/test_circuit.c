/* Connections through a third node: what a circuit is like to those at its ends. The relay of these stories is a toy;
 * the real one is in folder relay. */
#include "tests/sim/sender.h"
#include "tests/sim/simnode.h"
#include "tests/sim/toy_relay.h"

#define SMALL "/test/small"    /* opted in to limited connections */
#define LARGE "/test/large"

static const char *const small_offer[] = {SMALL, NULL};
static const char *const large_offer[] = {LARGE, NULL};

struct world {
    struct sim *sim;
    struct node a, b, relay;
    struct toy toy;
    unsigned small, large;    /* streams of these protocols that b got */
    size_t got;               /* bytes that came over them */
};

/* ---- what the ends speak */

static void count_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct world *w = arg;
    (void)s;
    w->got += data.len;
}

static void count_eof(struct wr_stream *s, void *arg)
{
    (void)arg;
    wr_stream_shut(s);
}

static const struct wr_stream_ops count_ops = {.on_data = count_data, .on_eof = count_eof};

static void on_small(struct wr_stream *s, void *arg)
{
    struct world *w = arg;
    w->small++;
    wr_stream_set_ops(s, &count_ops, w);
}

static void on_large(struct wr_stream *s, void *arg)
{
    struct world *w = arg;
    w->large++;
    wr_stream_set_ops(s, &count_ops, w);
}

static void world_up(struct world *w, const struct sim_options *options)
{
    memset(w, 0, sizeof(*w));
    w->sim = sim_create(options);
    node_start(&w->a, w->sim, 1);
    node_start(&w->b, w->sim, 2);
    node_start(&w->relay, w->sim, 3);
    node_handle(&w->b, LARGE, on_large, w);
    struct wr_protocol p = {.name = SMALL, .on_stream = on_small, .arg = w, .inbound_max = 100, .limited = true};
    assert_int_equal(wr_swarm_handle(w->b.swarm, &p), 0);
    w->toy = (struct toy){.relay = w->relay.swarm, .a = w->a.swarm, .b = w->b.swarm};
    toy_start(&w->toy, &w->relay.addr);
    w->toy.announced.duration = 2 * WR_MIN;
    w->toy.announced.data = 131072;
    assert_int_equal(node_connect(w->sim, &w->b, &w->relay), 0);
    assert_int_equal(node_connect(w->sim, &w->a, &w->relay), 0);
}

static void world_down(struct world *w)
{
    wr_swarm_set_circuits(w->a.swarm, NULL);
    node_stop(&w->a);
    node_stop(&w->b);
    node_stop(&w->relay);
    sim_destroy(w->sim);
}

static int connect_with(struct world *w, const struct wr_maddr *addrs, size_t count, unsigned flags)
{
    int result = 1;
    assert_int_equal(wr_swarm_connect(w->a.swarm, wr_swarm_self(w->b.swarm), addrs, count, WR_ORIGIN_OWNER, flags,
                                      node_on_connect, &result, NULL),
                     0);
    for (int i = 0; i < 65000 && result == 1; i++)
        sim_run(w->sim, WR_MSEC);
    return result;
}

/* a does, so that a stream to b makes the connection. */
static void know_the_way(struct world *w)
{
    assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w->a.swarm), wr_swarm_self(w->b.swarm),
                                           wr_maddr_bytes(&w->toy.announced.addr), WR_TTL_TEMP, false),
                     0);
}

static void open_small(struct world *w, struct sender *c)
{
    int err;
    assert_non_null(wr_swarm_open_with(w->a.swarm, wr_swarm_self(w->b.swarm), WR_OPEN_LIMITED, small_offer,
                                       &sender_ops, c, &err));
}

/* ---- stories */

static void test_a_circuit_is_a_connection(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 1, .rtt = 60 * WR_MSEC, .ragged = true});
    wr_time begun = sim_now(w.sim);
    assert_int_equal(connect_with(&w, &w.toy.announced.addr, 1, 0), 0);
    wr_time took = sim_now(w.sim) - begun;
    sim_run(w.sim, 100 * WR_MSEC);    /* the listener's side waits for one message more */
    struct wr_conn *there = node_conn(&w.a, &w.b), *here = node_conn(&w.b, &w.a);
    assert_non_null(there);
    assert_non_null(here);
    assert_true(there->outbound && !here->outbound);
    assert_true(there->limited && here->limited);
    assert_int_equal(there->circuit->data, 131072);
    assert_int_equal(here->circuit->duration, 2 * WR_MIN);
    assert_string_equal(there->mux->transport, "circuit");
    assert_string_equal(wr_conn_security(there), "/noise");
    struct wr_maddr remote;
    wr_conn_remote(there, &remote);
    assert_true(wr_bytes_equal(wr_maddr_bytes(&remote), wr_maddr_bytes(&w.toy.announced.addr)));
    wr_conn_local(there, &remote);
    assert_true(wr_maddr_is_circuit(wr_maddr_bytes(&remote)));
    /* The toy answers half a round trip to it late; the handshake takes one round trip and a half to the far end. */
    assert_in_range(took, 100 * WR_MSEC, 400 * WR_MSEC);
    struct sender c = {.err = 1, .left = 3 << 20};
    open_small(&w, &c);
    sim_run(w.sim, 60 * WR_SEC);
    assert_int_equal(c.err, 0);
    assert_int_equal(w.got, 3 << 20);
    sim_run(w.sim, 5 * WR_MIN);    /* idle ones are kept, and say little */
    assert_ptr_equal(node_conn(&w.a, &w.b), there);
    assert_true(wr_conn_rtt(there) >= 100 * WR_MSEC);
    world_down(&w);
}

/* The relay says who comes; only he may. */
static void test_the_relay_lies(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 2});
    w.toy.says = wr_swarm_self(w.relay.swarm);
    connect_with(&w, &w.toy.announced.addr, 1, 0);
    sim_run(w.sim, 20 * WR_SEC);
    assert_null(node_conn(&w.b, &w.a));
    assert_null(node_conn(&w.a, &w.b));
    assert_int_equal(w.b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
    world_down(&w);
}

static void test_only_protocols_that_opted_in(void **state)
{
    struct world w;
    int err;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 3});
    assert_int_equal(connect_with(&w, &w.toy.announced.addr, 1, 0), 0);
    struct sender c = {.err = 1}, late = {.err = 1};
    /* One that insists on this very connection is told no by the other end. */
    assert_non_null(wr_conn_open_stream(node_conn(&w.a, &w.b), large_offer, &sender_ops, &c, &err));
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(c.err, WR_EUNSUPPORTED);
    assert_int_equal(w.large, 0);
    /* Others wait for a direct one, and are told why it did not come. */
    assert_non_null(wr_swarm_open(w.a.swarm, wr_swarm_self(w.b.swarm), large_offer, &sender_ops, &late, &err));
    sim_run(w.sim, 59 * WR_SEC);
    assert_int_equal(late.err, 1);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(late.err, WR_ELIMITED);
    /* When the circuit goes meanwhile, there is nothing to wait for. */
    late.err = 1;
    assert_non_null(wr_swarm_open(w.a.swarm, wr_swarm_self(w.b.swarm), large_offer, &sender_ops, &late, &err));
    sim_run(w.sim, WR_SEC);
    wr_conn_close(node_conn(&w.b, &w.a), WR_CONN_OK);
    sim_run(w.sim, WR_SEC);
    assert_true(late.err < 0);
    world_down(&w);
}

/* Who waits gets the direct connection at once; the circuit goes when its last stream has ended. */
static void test_direct_takes_over(void **state)
{
    struct world w;
    int err;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 4});
    assert_int_equal(connect_with(&w, &w.toy.announced.addr, 1, 0), 0);
    struct wr_conn *circuit = node_conn(&w.a, &w.b);
    struct sender old = {.err = 1}, waiting = {.err = 1};
    static const struct wr_stream_ops quiet = {.on_close = sender_close};
    struct wr_stream *kept = wr_conn_open_stream(circuit, small_offer, &quiet, &old, &err);
    assert_non_null(kept);
    assert_non_null(
        wr_swarm_open(w.a.swarm, wr_swarm_self(w.b.swarm), large_offer, &sender_ops, &waiting, &err));
    sim_run(w.sim, WR_SEC);
    assert_int_equal(w.large, 0);
    assert_int_equal(connect_with(&w, &w.b.addr, 1, WR_CONNECT_DIRECT), 0);
    struct wr_conn *direct = node_conn(&w.a, &w.b);
    assert_ptr_not_equal(direct, circuit);
    assert_null(direct->circuit);
    sim_run(w.sim, WR_SEC);
    assert_int_equal(w.large, 1);
    assert_int_equal(waiting.err, 0);
    sim_run(w.sim, 30 * WR_SEC);
    assert_int_equal(old.err, 1);
    assert_int_equal(w.a.closed, 0);
    wr_stream_reset(kept, WR_STREAM_OK);
    sim_run(w.sim, 3 * WR_SEC);
    assert_int_equal(w.a.closed, 1);
    assert_int_equal(w.b.closed, 1);
    assert_ptr_equal(node_conn(&w.a, &w.b), direct);
    world_down(&w);
}

static struct wr_maddr listen_quic(struct node *n)
{
    const struct wr_addr at = {.ip = *sim_host_ip4(n->host), .port = PORT};
    struct wr_maddr addr;
    assert_int_equal(wr_maddr_from_addr(&at, true, &addr), 0);
    assert_int_equal(wr_swarm_listen(n->swarm, wr_maddr_bytes(&addr)), 0);
    return addr;
}

struct directs {
    struct wr_conn *of[4];
    size_t count;
};

static void collect_direct(struct wr_conn *c, void *arg)
{
    struct directs *d = arg;
    if (!c->circuit && d->count < 4)
        d->of[d->count++] = c;
}

/* Those between a and b: the relay's are of TCP. */
static struct directs directs_of(struct node *n, struct node *relay)
{
    struct directs all = {.count = 0}, d = {.count = 0};
    wr_swarm_each(n->swarm, collect_direct, &all);
    for (size_t i = 0; i < all.count; i++)
        if (!wr_peerid_equal(&all.of[i]->peer, wr_swarm_self(relay->swarm)))
            d.of[d.count++] = all.of[i];
    return d;
}

/* Both ends find a direct way at once, by a dial of their own each. They keep the same of the two connections, and the
 * other one until its last stream has ended. */
static void test_of_two_direct_ones_one_stays(void **state)
{
    struct world w;
    int from_a = 1, from_b = 1, err;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 9, .rtt = 40 * WR_MSEC});
    struct wr_maddr at_a = listen_quic(&w.a), at_b = listen_quic(&w.b);
    const struct wr_peerid *a = wr_swarm_self(w.a.swarm), *b = wr_swarm_self(w.b.swarm);
    assert_int_equal(connect_with(&w, &w.toy.announced.addr, 1, 0), 0);
    sim_run(w.sim, WR_SEC);
    unsigned flags = WR_CONNECT_FRESH | WR_CONNECT_DIRECT;
    assert_int_equal(
        wr_swarm_connect(w.a.swarm, b, &at_b, 1, WR_ORIGIN_OWNER, flags, node_on_connect, &from_a, NULL), 0);
    assert_int_equal(
        wr_swarm_connect(w.b.swarm, a, &at_a, 1, WR_ORIGIN_OWNER, flags, node_on_connect, &from_b, NULL), 0);
    sim_run(w.sim, 200 * WR_MSEC);
    assert_true(from_a == 0 && from_b == 0);
    struct directs of_a = directs_of(&w.a, &w.relay), of_b = directs_of(&w.b, &w.relay);
    assert_int_equal(of_a.count, 2);
    assert_int_equal(of_b.count, 2);
    struct wr_conn *stays = node_conn(&w.a, &w.b), *here = node_conn(&w.b, &w.a);
    struct wr_conn *goes = of_a.of[of_a.of[0] == stays];
    assert_int_equal(stays->outbound, wr_bytes_compare(wr_peerid_bytes(a), wr_peerid_bytes(b)) < 0);
    assert_int_equal(here->outbound, !stays->outbound);
    struct sender late = {.err = 1};
    static const struct wr_stream_ops quiet = {.on_close = sender_close};
    struct wr_stream *kept = wr_conn_open_stream(goes, small_offer, &quiet, &late, &err);
    assert_non_null(kept);
    sim_run(w.sim, 30 * WR_SEC);    /* the circuit goes, as nothing is on it */
    assert_int_equal(late.err, 1);
    assert_int_equal(directs_of(&w.a, &w.relay).count, 2);
    wr_stream_reset(kept, WR_STREAM_OK);
    sim_run(w.sim, 3 * WR_SEC);
    assert_int_equal(directs_of(&w.a, &w.relay).count, 1);
    assert_int_equal(directs_of(&w.b, &w.relay).count, 1);
    assert_ptr_equal(node_conn(&w.a, &w.b), stays);
    assert_ptr_equal(node_conn(&w.b, &w.a), here);
    /* A dial of the peer's that comes later, when nothing is being replaced, closes none: it may be that it does not
     * hear us on ours any more. */
    from_a = from_b = 1;
    struct wr_swarm *again = here->outbound ? w.a.swarm : w.b.swarm;
    assert_int_equal(wr_swarm_connect(again, again == w.a.swarm ? b : a, again == w.a.swarm ? &at_b : &at_a, 1,
                                      WR_ORIGIN_OWNER, flags, node_on_connect, &from_a, NULL),
                     0);
    sim_run(w.sim, 30 * WR_SEC);
    assert_int_equal(from_a, 0);
    assert_int_equal(directs_of(&w.a, &w.relay).count, 2);
    assert_int_equal(directs_of(&w.b, &w.relay).count, 2);
    world_down(&w);
}

/* What stays of the two breaks before the other one has gone: that one is kept then. */
static void test_the_one_that_stays_breaks(void **state)
{
    struct world w;
    int from_a = 1, from_b = 1;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 10, .rtt = 40 * WR_MSEC});
    struct wr_maddr at_a = listen_quic(&w.a), at_b = listen_quic(&w.b);
    assert_int_equal(connect_with(&w, &w.toy.announced.addr, 1, 0), 0);
    sim_run(w.sim, WR_SEC);
    unsigned flags = WR_CONNECT_FRESH | WR_CONNECT_DIRECT;
    assert_int_equal(wr_swarm_connect(w.a.swarm, wr_swarm_self(w.b.swarm), &at_b, 1, WR_ORIGIN_OWNER, flags,
                                      node_on_connect, &from_a, NULL),
                     0);
    assert_int_equal(wr_swarm_connect(w.b.swarm, wr_swarm_self(w.a.swarm), &at_a, 1, WR_ORIGIN_OWNER, flags,
                                      node_on_connect, &from_b, NULL),
                     0);
    sim_run(w.sim, WR_SEC);
    assert_true(from_a == 0 && from_b == 0);
    struct wr_conn *stays = node_conn(&w.a, &w.b);
    wr_conn_close(stays, WR_CONN_OK);
    sim_run(w.sim, 30 * WR_SEC);
    assert_int_equal(directs_of(&w.a, &w.relay).count, 1);
    assert_int_equal(directs_of(&w.b, &w.relay).count, 1);
    assert_false(node_conn(&w.a, &w.b)->retiring);
    assert_false(node_conn(&w.b, &w.a)->retiring);
    world_down(&w);
}

/* Somebody who wants a direct connection neither gets a circuit nor makes one, whoever else asks. */
static void test_direct_only(void **state)
{
    struct world w;
    struct wr_maddr dead;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 5});
    assert_int_equal(wr_maddr_parse("/ip4/9.9.9.9/tcp/1", &dead), 0);
    struct wr_maddr both[] = {w.toy.announced.addr, dead};
    assert_true(connect_with(&w, both, 2, WR_CONNECT_DIRECT) < 0);
    assert_int_equal(w.toy.asked, 0);
    int direct = 1, any = 1;
    const struct wr_peerid *b = wr_swarm_self(w.b.swarm);
    /* That no relay was wanted is nothing that went wrong with it. */
    struct wr_dial_report tried[4];
    assert_int_equal(wr_swarm_dial_report(w.a.swarm, b, tried, 4), 1);
    assert_true(wr_bytes_equal(wr_maddr_bytes(&tried[0].addr), wr_maddr_bytes(&dead)));
    assert_int_equal(wr_swarm_connect(w.a.swarm, b, &dead, 1, WR_ORIGIN_OWNER, WR_CONNECT_DIRECT, node_on_connect,
                                      &direct, NULL),
                     0);
    assert_int_equal(
        wr_swarm_connect(w.a.swarm, b, both, 2, WR_ORIGIN_OWNER, 0, node_on_connect, &any, NULL), 0);
    sim_run(w.sim, 3 * WR_SEC);
    assert_int_equal(any, 0);
    assert_int_equal(w.toy.asked, 1);
    sim_run(w.sim, 10 * WR_SEC);
    assert_true(direct < 0);
    assert_non_null(node_conn(&w.a, &w.b)->circuit);
    world_down(&w);
}

/* Direct addresses have half a second before a relay is asked. */
static void test_relays_come_behind(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 6, .rtt = 60 * WR_MSEC});
    struct wr_maddr both[] = {w.toy.announced.addr, w.b.addr};
    assert_int_equal(connect_with(&w, both, 2, 0), 0);
    assert_null(node_conn(&w.a, &w.b)->circuit);
    assert_int_equal(w.toy.asked, 0);
    world_down(&w);
}

/* The relay goes while a handshake and streams are under way. */
static void test_the_relay_goes(void **state)
{
    (void)state;
    for (unsigned ms = 0; ms < 400; ms += 20) {
        struct world w;
        struct sender c = {.err = 1, .left = 1 << 20};
        world_up(&w, &(struct sim_options){.seed = 7, .rtt = 60 * WR_MSEC});
        int result = 1;
        assert_int_equal(wr_swarm_connect(w.a.swarm, wr_swarm_self(w.b.swarm), &w.toy.announced.addr, 1,
                                          WR_ORIGIN_OWNER, 0, node_on_connect, &result, NULL),
                         0);
        open_small(&w, &c);
        sim_run(w.sim, ms * WR_MSEC);
        node_stop(&w.relay);
        sim_run(w.sim, 20 * WR_SEC);
        assert_int_not_equal(result, 1);
        assert_true(c.err < 0);
        assert_null(node_conn(&w.a, &w.b));
        assert_null(node_conn(&w.b, &w.a));
        wr_swarm_set_circuits(w.a.swarm, NULL);
        node_stop(&w.a);
        node_stop(&w.b);
        sim_destroy(w.sim);
    }
}

/* From some byte on the relay drops everything, changes one bit, or ends: at any stage both ends give up within ten
 * seconds, also where nothing is heard any more (a changed length may have them wait for the rest of a frame). */
static void test_a_relay_that_harms(void **state)
{
    (void)state;
    for (enum toy_harm harm = TOY_DROPS; harm <= TOY_CUTS; harm++) {
        for (size_t after = 0; after < 3000; after += 100) {
            struct world w;
            struct sender c = {.err = 1, .left = 1 << 20};
            world_up(&w, &(struct sim_options){.seed = 10, .rtt = 60 * WR_MSEC});
            w.toy.harm = harm;
            w.toy.after = after;
            know_the_way(&w);
            open_small(&w, &c);
            sim_run(w.sim, 11 * WR_SEC);    /* one for what went well before */
            assert_true(c.err < 0);
            assert_null(node_conn(&w.a, &w.b));
            assert_null(node_conn(&w.b, &w.a));
            assert_non_null(node_conn(&w.a, &w.relay));
            assert_int_equal(w.b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
            world_down(&w);
        }
    }
}

static void delayed(wr_time delay, size_t after)
{
    struct world w;
    struct sender c = {.err = 1, .left = 100000};
    world_up(&w, &(struct sim_options){.seed = 11, .rtt = 60 * WR_MSEC});
    w.toy.harm = TOY_DELAYS;
    w.toy.delay = delay;
    w.toy.after = after;
    know_the_way(&w);
    open_small(&w, &c);
    wr_time began = sim_now(w.sim);
    for (unsigned ms = 0; ms < 120000 && c.err == 1; ms += 10)
        sim_run(w.sim, 10 * WR_MSEC);
    wr_time took = sim_now(w.sim) - began;
    print_message("%d ms from byte %zu on: %s after %d ms, %zu bytes\n", (int)(delay / WR_MSEC), after,
                  c.err ? wr_err_name(c.err) : "done", (int)(took / WR_MSEC), w.got);
    assert_int_not_equal(c.err, 1);
    if (delay <= 1 * WR_SEC)
        assert_true(c.err == 0 && w.got == 100000 && node_conn(&w.a, &w.b));
    if (delay > 8 * WR_SEC) {
        assert_true(c.err < 0 && took <= 11 * WR_SEC);    /* one for what went well before */
        sim_run(w.sim, 10 * WR_SEC);
        assert_true(!node_conn(&w.a, &w.b) && !node_conn(&w.b, &w.a));
    }
    assert_non_null(node_conn(&w.a, &w.relay));
    sim_run(w.sim, 60 * WR_SEC);
    assert_int_equal(w.a.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
    assert_int_equal(w.b.limits.of[WR_LIMIT_CONNS_HALF_OPEN].used, 0);
    world_down(&w);
}

/* From the first byte on, or once the circuit stands, the relay keeps everything for a while before it passes it on. What
 * is only slow is used as it is; where nothing is heard for longer than a circuit may be silent, both ends give up within
 * ten seconds, and nothing leaks. */
static void test_a_relay_that_delays(void **state)
{
    static const wr_time delays[] = {100 * WR_MSEC, 500 * WR_MSEC, 1 * WR_SEC, 3 * WR_SEC, 8 * WR_SEC, 12 * WR_SEC,
                                     30 * WR_SEC};
    (void)state;
    for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
        delayed(delays[i], 0);
        delayed(delays[i], 5000);
    }
}

/* All places are taken, and the connection that is worth least is the one to the relay, over which the circuit comes
 * about. It is not that one which makes room for the circuit: another one goes, or the circuit. */
static void test_no_room_for_a_circuit(void **state)
{
    (void)state;
    for (unsigned others = 0; others < 2; others++) {
        struct world w;
        struct node more = {0};
        world_up(&w, &(struct sim_options){.seed = 17});
        node_start(&more, w.sim, 9);
        if (others)
            assert_int_equal(node_connect(w.sim, &w.a, &more), 0);
        sim_run(w.sim, 30 * WR_SEC);    /* nobody is new any more */
        w.a.limits.of[WR_LIMIT_CONNS].max = 1 + others;
        int result = connect_with(&w, &w.toy.announced.addr, 1, 0);
        sim_run(w.sim, 20 * WR_SEC);
        assert_non_null(node_conn(&w.a, &w.relay));
        assert_null(node_conn(&w.a, &more));
        assert_int_equal(result, others ? 0 : WR_ELIMIT);
        assert_int_equal(w.a.limits.of[WR_LIMIT_CONNS].used, 1 + others);
        node_stop(&more);
        world_down(&w);
    }
}

static void test_destroy_in_flight(void **state)
{
    (void)state;
    for (unsigned ms = 0; ms < 400; ms += 20) {
        struct world w;
        struct sender c = {.err = 1, .left = 1 << 20};
        world_up(&w, &(struct sim_options){.seed = 8, .rtt = 60 * WR_MSEC});
        open_small(&w, &c);
        know_the_way(&w);
        sim_run(w.sim, ms * WR_MSEC);
        world_down(&w);
        assert_int_not_equal(c.err, 1);
    }
}

static void test_each_allocation_may_fail(void **state)
{
    (void)state;
    for (uint64_t skip = 0;; skip++) {
        struct world w;
        struct sender c = {.err = 1, .left = 400000};
        world_up(&w, &(struct sim_options){.seed = 9, .rtt = 60 * WR_MSEC});
        struct wr_peer *known = wr_peerstore_get(wr_swarm_peerstore(w.a.swarm), wr_swarm_self(w.b.swarm));
        assert_non_null(known);
        know_the_way(&w);
        open_small(&w, &c);
        sim_alloc_fail(skip, 1);
        sim_run(w.sim, 70 * WR_SEC);
        bool all = sim_alloc_count() <= skip;
        sim_alloc_fail(0, 0);
        assert_int_not_equal(c.err, 1);
        world_down(&w);
        if (all)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_circuit_is_a_connection),
        cmocka_unit_test(test_the_relay_lies),
        cmocka_unit_test(test_only_protocols_that_opted_in),
        cmocka_unit_test(test_direct_takes_over),
        cmocka_unit_test(test_of_two_direct_ones_one_stays),
        cmocka_unit_test(test_the_one_that_stays_breaks),
        cmocka_unit_test(test_direct_only),
        cmocka_unit_test(test_relays_come_behind),
        cmocka_unit_test(test_the_relay_goes),
        cmocka_unit_test(test_a_relay_that_harms),
        cmocka_unit_test(test_a_relay_that_delays),
        cmocka_unit_test(test_no_room_for_a_circuit),
        cmocka_unit_test(test_destroy_in_flight),
        cmocka_unit_test(test_each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
