/* Connections through a third node: what a circuit is like to those at its ends. The relay of these stories is a toy
 * that joins two streams; the real one is in folder relay. */
#include "tests/sim/simnode.h"

#define TOY_ASK   "/test/relay/ask"
#define TOY_BRING "/test/relay/bring"
#define SMALL     "/test/small"    /* opted in to limited connections */
#define LARGE     "/test/large"

static const char *const ask_offer[] = {TOY_ASK, NULL};
static const char *const bring_offer[] = {TOY_BRING, NULL};
static const char *const small_offer[] = {SMALL, NULL};
static const char *const large_offer[] = {LARGE, NULL};

/* ---- the toy: everybody who asks is joined to b */

enum harm { HARM_NONE, HARM_DROP, HARM_CORRUPT, HARM_CUT, HARM_DELAY };

struct joint {
    enum harm harm;
    size_t after, passed;       /* bytes until then */
    struct wr_stream *of[2];    /* NULL: over */
    struct wr_buf kept[2];      /* for of[i] */
    bool ended[2];              /* of[i] is to be shut behind what is kept for it */
    struct wr_env *env;
    struct wr_timer timer;      /* HARM_DELAY: what is kept goes on then ... */
    wr_time delay;              /* ... and each time so long after it came */
};

static int side_of(const struct joint *j, const struct wr_stream *s)
{
    return j->of[1] == s;
}

static void joint_end(struct joint *j)
{
    wr_timer_stop(j->env, &j->timer);
    for (int i = 0; i < 2; i++) {
        if (j->of[i])
            wr_stream_reset(j->of[i], WR_STREAM_LIMIT);
        wr_buf_clear(&j->kept[i]);
    }
    wr_free(j);
}

/* False: j is gone. */
static bool joint_flush(struct joint *j, int to)
{
    int n = j->kept[to].len ? wr_stream_write(j->of[to], j->kept[to].data, j->kept[to].len) : 0;
    if (n > 0)
        wr_buf_consume(&j->kept[to], (size_t)n);
    if (n < 0 || j->kept[to].full) {
        joint_end(j);
        return false;
    }
    if (j->ended[to] && j->kept[to].len == 0)
        wr_stream_shut(j->of[to]);
    return true;
}

static void joint_timer(struct wr_timer *timer)
{
    struct joint *j = wr_list_entry(timer, struct joint, timer);
    for (int to = 0; to < 2; to++)
        if (j->of[to] && !joint_flush(j, to))
            return;
}

/* Now, or when the delay has passed. */
static void joint_go(struct joint *j, int to)
{
    if (!j->delay || j->passed <= j->after)
        joint_flush(j, to);
    else if (!j->timer.at || j->timer.at <= wr_env_now(j->env))
        wr_timer_start(j->env, &j->timer, wr_env_now(j->env) + j->delay, joint_timer);
}

static void joint_data(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    struct joint *j = arg;
    int to = !side_of(j, s);
    if (!j->of[to])
        return;
    size_t begun = j->passed;
    j->passed += data.len;
    bool now = j->harm != HARM_NONE && j->passed > j->after;
    if (now && j->harm == HARM_DROP)
        return;
    if (now && j->harm == HARM_CUT) {
        joint_end(j);
        return;
    }
    wr_buf_put_bytes(&j->kept[to], data);
    if (now && j->harm == HARM_CORRUPT && begun <= j->after && !j->kept[to].full)
        j->kept[to].data[j->kept[to].len - 1] ^= 1;
    joint_go(j, to);
}

static void joint_writable(struct wr_stream *s, void *arg)
{
    struct joint *j = arg;
    if (!j->delay)
        joint_flush(j, side_of(j, s));
}

static void joint_eof(struct wr_stream *s, void *arg)
{
    struct joint *j = arg;
    int to = !side_of(j, s);
    j->ended[to] = true;
    if (j->of[to])
        joint_go(j, to);
}

static void joint_close(struct wr_stream *s, void *arg, int err)
{
    struct joint *j = arg;
    int side = side_of(j, s), other = !side;
    j->of[side] = NULL;
    if (j->of[other] && err == 0)
        return;
    joint_end(j);
}

static const struct wr_stream_ops joint_ops = {
    .on_data = joint_data, .on_eof = joint_eof, .on_writable = joint_writable, .on_close = joint_close};

struct world {
    struct sim *sim;
    struct node a, b, relay;
    struct wr_maddr circuit;        /* of the relay, /p2p-circuit behind it */
    struct wr_circuit announced;    /* what the ends are told */
    const struct wr_peerid *says;   /* who the toy says comes */
    struct wr_circuits dialler;
    struct attempt *attempt;
    unsigned asked, small, large;
    enum harm harm;
    size_t after;
    wr_time delay;
    size_t got;
};

static void on_ask(struct wr_stream *s, void *arg)
{
    struct world *w = arg;
    int err = 0;
    struct joint *j = wr_alloc(sizeof(*j));
    if (!j) {
        wr_stream_reset(s, WR_STREAM_LIMIT);
        return;
    }
    j->harm = w->harm;
    j->after = w->after;
    j->env = w->relay.env;
    j->delay = w->harm == HARM_DELAY ? w->delay : 0;
    wr_buf_init(&j->kept[0], 4 << 20);
    wr_buf_init(&j->kept[1], 4 << 20);
    j->of[0] = s;
    j->of[1] = wr_swarm_open(w->relay.swarm, wr_swarm_self(w->b.swarm), bring_offer, &joint_ops, j, &err);
    if (j->of[1]) {
        wr_stream_set_ops(s, &joint_ops, j);
        return;
    }
    wr_free(j);
    wr_stream_reset(s, WR_STREAM_LIMIT);
}

/* b: the toy brings somebody */
static void on_bring(struct wr_stream *s, void *arg)
{
    struct world *w = arg;
    wr_swarm_accept_circuit(w->b.swarm, w->says, &w->announced, s, WR_BYTES_NONE);
}

/* a: the dialler of circuits */
struct attempt {
    struct world *w;
    struct wr_stream *s;
    wr_circuit_done done;
    void *arg;
};

static void attempt_open(struct wr_stream *s, void *arg)
{
    struct attempt *at = arg;
    struct wr_circuit circuit = at->w->announced;
    at->w->attempt = NULL;
    at->done(at->arg, 0, s, &circuit, WR_BYTES_NONE);
    wr_free(at);
}

static void attempt_close(struct wr_stream *s, void *arg, int err)
{
    struct attempt *at = arg;
    (void)s;
    at->w->attempt = NULL;
    at->done(at->arg, err ? err : WR_ECLOSED, NULL, NULL, WR_BYTES_NONE);
    wr_free(at);
}

static const struct wr_stream_ops attempt_ops = {.on_open = attempt_open, .on_close = attempt_close};

static void *toy_dial(void *arg, const struct wr_peerid *peer, struct wr_bytes addr, enum wr_addr_origin origin,
                      wr_circuit_done done, void *done_arg, int *err)
{
    struct world *w = arg;
    struct wr_peerid relay;
    struct attempt *at = wr_alloc(sizeof(*at));
    (void)origin;
    *err = WR_ELIMIT;
    if (!at)
        return NULL;
    assert_true(wr_maddr_relay(addr, &relay));
    assert_true(wr_peerid_equal(&relay, wr_swarm_self(w->relay.swarm)));
    assert_true(wr_peerid_equal(peer, wr_swarm_self(w->b.swarm)));
    *at = (struct attempt){.w = w, .done = done, .arg = done_arg};
    at->s = wr_swarm_open(w->a.swarm, &relay, ask_offer, &attempt_ops, at, err);
    if (!at->s) {
        wr_free(at);
        return NULL;
    }
    w->asked++;
    w->attempt = at;
    return at;
}

static void toy_cancel(void *arg, void *attempt)
{
    struct world *w = arg;
    struct attempt *at = attempt;
    wr_stream_reset(at->s, WR_STREAM_OK);
    w->attempt = NULL;
    wr_free(at);
}

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

struct client {
    const char *spoke;
    int err;
    size_t left;    /* to be written, then the end */
};

static void client_flush(struct wr_stream *s, struct client *c)
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

static void client_open(struct wr_stream *s, void *arg)
{
    struct client *c = arg;
    c->spoke = wr_stream_protocol(s);
    client_flush(s, c);
}

static void client_writable(struct wr_stream *s, void *arg)
{
    client_flush(s, arg);
}

static void client_close(struct wr_stream *s, void *arg, int err)
{
    struct client *c = arg;
    (void)s;
    c->err = err;
}

static const struct wr_stream_ops client_ops = {
    .on_open = client_open, .on_writable = client_writable, .on_close = client_close};

static void world_up(struct world *w, const struct sim_options *options)
{
    memset(w, 0, sizeof(*w));
    w->sim = sim_create(options);
    node_start(&w->a, w->sim, 1);
    node_start(&w->b, w->sim, 2);
    node_start(&w->relay, w->sim, 3);
    node_handle(&w->relay, TOY_ASK, on_ask, w);
    node_handle(&w->b, TOY_BRING, on_bring, w);
    node_handle(&w->b, LARGE, on_large, w);
    struct wr_protocol p = {.name = SMALL, .on_stream = on_small, .arg = w, .inbound_max = 100, .limited = true};
    assert_int_equal(wr_swarm_handle(w->b.swarm, &p), 0);
    w->circuit = w->relay.addr;
    assert_int_equal(wr_maddr_append_peer(&w->circuit, wr_swarm_self(w->relay.swarm)), 0);
    assert_int_equal(wr_maddr_append(&w->circuit, WR_BYTES("\xa2\x02", 2)), 0);
    w->announced = (struct wr_circuit){.relay = *wr_swarm_self(w->relay.swarm),
                                       .addr = w->circuit,
                                       .limited = true,
                                       .duration = 2 * WR_MIN,
                                       .data = 131072};
    w->says = wr_swarm_self(w->a.swarm);
    w->dialler = (struct wr_circuits){.dial = toy_dial, .cancel = toy_cancel, .arg = w};
    wr_swarm_set_circuits(w->a.swarm, &w->dialler);
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

static void open_small(struct world *w, struct client *c)
{
    int err;
    assert_non_null(wr_swarm_open_with(w->a.swarm, wr_swarm_self(w->b.swarm), WR_OPEN_LIMITED, small_offer,
                                       &client_ops, c, &err));
}

/* ---- stories */

static void test_a_circuit_is_a_connection(void **state)
{
    struct world w;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 1, .rtt = 60 * WR_MSEC, .ragged = true});
    wr_time begun = sim_now(w.sim);
    assert_int_equal(connect_with(&w, &w.circuit, 1, 0), 0);
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
    assert_true(wr_bytes_equal(wr_maddr_bytes(&remote), wr_maddr_bytes(&w.circuit)));
    wr_conn_local(there, &remote);
    assert_true(wr_maddr_is_circuit(wr_maddr_bytes(&remote)));
    /* The toy answers half a round trip to it late; the handshake takes one round trip and a half to the far end. */
    assert_in_range(took, 100 * WR_MSEC, 400 * WR_MSEC);
    struct client c = {.err = 1, .left = 3 << 20};
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
    w.says = wr_swarm_self(w.relay.swarm);
    connect_with(&w, &w.circuit, 1, 0);
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
    assert_int_equal(connect_with(&w, &w.circuit, 1, 0), 0);
    struct client c = {.err = 1}, late = {.err = 1};
    /* One that insists on this very connection is told no by the other end. */
    assert_non_null(wr_conn_open_stream(node_conn(&w.a, &w.b), large_offer, &client_ops, &c, &err));
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(c.err, WR_EUNSUPPORTED);
    assert_int_equal(w.large, 0);
    /* Others wait for a direct one, and are told why it did not come. */
    assert_non_null(wr_swarm_open(w.a.swarm, wr_swarm_self(w.b.swarm), large_offer, &client_ops, &late, &err));
    sim_run(w.sim, 59 * WR_SEC);
    assert_int_equal(late.err, 1);
    sim_run(w.sim, 2 * WR_SEC);
    assert_int_equal(late.err, WR_ELIMITED);
    /* When the circuit goes meanwhile, there is nothing to wait for. */
    late.err = 1;
    assert_non_null(wr_swarm_open(w.a.swarm, wr_swarm_self(w.b.swarm), large_offer, &client_ops, &late, &err));
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
    assert_int_equal(connect_with(&w, &w.circuit, 1, 0), 0);
    struct wr_conn *circuit = node_conn(&w.a, &w.b);
    struct client old = {.err = 1}, waiting = {.err = 1};
    static const struct wr_stream_ops quiet = {.on_close = client_close};
    struct wr_stream *kept = wr_conn_open_stream(circuit, small_offer, &quiet, &old, &err);
    assert_non_null(kept);
    assert_non_null(
        wr_swarm_open(w.a.swarm, wr_swarm_self(w.b.swarm), large_offer, &client_ops, &waiting, &err));
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

/* Somebody who wants a direct connection neither gets a circuit nor makes one, whoever else asks. */
static void test_direct_only(void **state)
{
    struct world w;
    struct wr_maddr dead;
    (void)state;
    world_up(&w, &(struct sim_options){.seed = 5});
    assert_int_equal(wr_maddr_parse("/ip4/9.9.9.9/tcp/1", &dead), 0);
    struct wr_maddr both[] = {w.circuit, dead};
    assert_true(connect_with(&w, both, 2, WR_CONNECT_DIRECT) < 0);
    assert_int_equal(w.asked, 0);
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
    assert_int_equal(w.asked, 1);
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
    struct wr_maddr both[] = {w.circuit, w.b.addr};
    assert_int_equal(connect_with(&w, both, 2, 0), 0);
    assert_null(node_conn(&w.a, &w.b)->circuit);
    assert_int_equal(w.asked, 0);
    world_down(&w);
}

/* The relay goes while a handshake and streams are under way. */
static void test_the_relay_goes(void **state)
{
    (void)state;
    for (unsigned ms = 0; ms < 400; ms += 20) {
        struct world w;
        struct client c = {.err = 1, .left = 1 << 20};
        world_up(&w, &(struct sim_options){.seed = 7, .rtt = 60 * WR_MSEC});
        int result = 1;
        assert_int_equal(wr_swarm_connect(w.a.swarm, wr_swarm_self(w.b.swarm), &w.circuit, 1, WR_ORIGIN_OWNER, 0,
                                          node_on_connect, &result, NULL),
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
    for (enum harm harm = HARM_DROP; harm <= HARM_CUT; harm++) {
        for (size_t after = 0; after < 3000; after += 100) {
            struct world w;
            struct client c = {.err = 1, .left = 1 << 20};
            world_up(&w, &(struct sim_options){.seed = 10, .rtt = 60 * WR_MSEC});
            w.harm = harm;
            w.after = after;
            assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w.a.swarm), wr_swarm_self(w.b.swarm),
                                                   wr_maddr_bytes(&w.circuit), WR_TTL_TEMP, false),
                             0);
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
    struct client c = {.err = 1, .left = 100000};
    world_up(&w, &(struct sim_options){.seed = 11, .rtt = 60 * WR_MSEC});
    w.harm = HARM_DELAY;
    w.delay = delay;
    w.after = after;
    assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w.a.swarm), wr_swarm_self(w.b.swarm),
                                           wr_maddr_bytes(&w.circuit), WR_TTL_TEMP, false),
                     0);
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

static void test_destroy_in_flight(void **state)
{
    (void)state;
    for (unsigned ms = 0; ms < 400; ms += 20) {
        struct world w;
        struct client c = {.err = 1, .left = 1 << 20};
        world_up(&w, &(struct sim_options){.seed = 8, .rtt = 60 * WR_MSEC});
        open_small(&w, &c);
        assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w.a.swarm), wr_swarm_self(w.b.swarm),
                                               wr_maddr_bytes(&w.circuit), WR_TTL_TEMP, false),
                         0);
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
        struct client c = {.err = 1, .left = 40000};
        world_up(&w, &(struct sim_options){.seed = 9, .rtt = 60 * WR_MSEC});
        struct wr_peer *known = wr_peerstore_get(wr_swarm_peerstore(w.a.swarm), wr_swarm_self(w.b.swarm));
        assert_non_null(known);
        assert_int_equal(wr_peerstore_add_addr(wr_swarm_peerstore(w.a.swarm), wr_swarm_self(w.b.swarm),
                                               wr_maddr_bytes(&w.circuit), WR_TTL_TEMP, false),
                         0);
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
        cmocka_unit_test(test_direct_only),
        cmocka_unit_test(test_relays_come_behind),
        cmocka_unit_test(test_the_relay_goes),
        cmocka_unit_test(test_a_relay_that_harms),
        cmocka_unit_test(test_a_relay_that_delays),
        cmocka_unit_test(test_destroy_in_flight),
        cmocka_unit_test(test_each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
