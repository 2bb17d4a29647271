/* The control socket's methods on whole swarms in virtual time: what they answer, what they say
 * when it goes wrong, and that nothing is left when clients or the node go in the middle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dcutr/dcutr.h"
#include "dht/dht.h"
#include "identify/identify.h"
#include "identify/ping.h"
#include "node/methods.h"
#include "node/perf.h"
#include "tests/sim/sim.h"

#include <stdio.h>
#include <string.h>

#define SOCKET "/control"

struct node {
    struct sim_host *host;
    struct wr_env *env;
    struct wr_limits limits;
    struct wr_key key;
    struct wr_swarm *swarm;
    struct wr_identify *identify;
    struct wr_pong *pong;
    struct wr_perf *perf;
    struct wr_dcutr *dcutr;
    struct wr_dht *dht, *lan; /* lan: a second table; usually none */
    struct wr_kv *kv;
    struct wr_state *state;
    struct wr_config config;
    struct wr_control *control;
    struct wr_methods *methods;
    char peer[WR_PEERID_TEXT], addr[WR_MADDR_TEXT]; /* addr: with /p2p */
    int stops;
};

static char err[WR_CONFIG_ERROR];

static void on_stop(void *arg)
{
    struct node *n = arg;
    n->stops++;
}

static void start_control(struct node *n)
{
    const struct wr_control_options control = {n->env, &n->limits, SOCKET, n->peer};
    assert_int_equal(wr_control_create(&control, &n->control), 0);
    const struct wr_methods_options methods = {
        .control = n->control,
        .swarm = n->swarm,
        .identify = n->identify,
        .perf = n->perf,
        .dcutr = n->dcutr,
        .dht = {n->dht, n->lan},
        .kv = n->kv,
        .state = n->state,
        .config = &n->config,
        .on_stop = on_stop,
        .arg = n,
    };
    assert_int_equal(wr_methods_create(&methods, &n->methods), 0);
}

static void stop_control(struct node *n)
{
    wr_control_destroy(n->control);
    wr_methods_destroy(n->methods);
}

static int64_t clock_error; /* of nodes that start */

static void start(struct node *n, struct sim *sim, uint8_t seed, bool dht)
{
    uint8_t bytes[WR_ED25519_SEED] = {seed};
    const struct wr_kv_options kv = {"/data", 1 << 20, 1 << 20};
    struct wr_maddr at;
    memset(n, 0, sizeof(*n));
    n->host =
        sim_host_add(sim, &(struct sim_host_options){.name = "node", .clock_error = clock_error});
    n->env = sim_host_env(n->host);
    wr_key_generate(&n->key, bytes);
    assert_int_equal(wr_limits_init(&n->limits, "home"), 0);
    assert_int_equal(wr_config_init(&n->config, err), 0);
    assert_int_equal(wr_kv_open(n->env, &kv, &n->kv), 0);
    const struct wr_state_options state = {n->env, n->kv, "test", 100};
    assert_int_equal(wr_state_open(&state, &n->state), 0);
    n->swarm = wr_swarm_create(
        &(struct wr_swarm_options){.env = n->env, .limits = &n->limits, .identity = &n->key});
    n->identify = wr_identify_create(&(struct wr_identify_options){.swarm = n->swarm});
    if (dht) {
        int error;
        n->dht = wr_dht_create(&(struct wr_dht_options){.swarm = n->swarm,
                                                        .kv = n->kv,
                                                        .protocol = "/test/kad/1.0.0",
                                                        .mode = WR_DHT_SERVER},
                               &error);
        assert_non_null(n->dht);
        const struct wr_router router = wr_dht_router(n->dht);
        wr_swarm_set_router(n->swarm, &router);
    }
    n->pong = wr_pong_create(n->swarm);
    n->perf = wr_perf_create(n->swarm);
    n->dcutr = wr_dcutr_create(&(struct wr_dcutr_options){.swarm = n->swarm});
    assert_int_equal(wr_perf_serve_all(n->perf, true), 0);
    const struct wr_addr ip = {.ip = *sim_host_ip4(n->host), .port = 4001};
    assert_int_equal(wr_maddr_from_addr(&ip, false, &at), 0);
    assert_int_equal(wr_swarm_listen(n->swarm, wr_maddr_bytes(&at)), 0);
    assert_int_equal(wr_maddr_append_peer(&at, wr_swarm_self(n->swarm)), 0);
    (void)wr_maddr_print(wr_maddr_bytes(&at), n->addr, sizeof(n->addr));
    (void)wr_peerid_print(wr_swarm_self(n->swarm), n->peer);
    start_control(n);
}

static void stop(struct node *n)
{
    stop_control(n);
    wr_dht_destroy(n->dht);
    wr_dht_destroy(n->lan);
    wr_dcutr_destroy(n->dcutr);
    wr_perf_destroy(n->perf);
    wr_pong_destroy(n->pong);
    wr_identify_destroy(n->identify);
    wr_swarm_destroy(n->swarm);
    wr_state_close(n->state);
    wr_kv_close(n->kv);
    wr_config_clear(&n->config);
}

/* ---- a client on the node's machine */

struct client {
    struct wr_sock *sock;
    struct wr_buf in, out;
    struct wr_rpc_scan scan;
    struct wr_pack pack;
    struct wr_rpc_message m; /* the last reply */
    bool has_reply, closed;
    unsigned progress, events;
    char note[4096]; /* names of the events, one after the other */
    double rtt_ms;   /* of the last progress */
};

static void take(struct client *c, const struct wr_rpc_message *m)
{
    const msgpack_object *name = wr_rpc_find(m->params, "event");
    const msgpack_object *rtt = wr_rpc_find(m->params, "rtt_ms");
    if (wr_bytes_equal(m->method, WR_BYTES_STR("progress"))) {
        c->progress++;
        if (rtt)
            c->rtt_ms = rtt->via.f64;
    } else if (name) {
        c->events++;
        size_t len = strlen(c->note);
        (void)snprintf(c->note + len, sizeof(c->note) - len, "%.*s ", (int)name->via.str.size,
                       name->via.str.ptr);
    }
}

static void on_read(void *arg, uint8_t *data, size_t len)
{
    struct client *c = arg;
    wr_buf_put(&c->in, data, len);
}

static void on_close(void *arg, int error)
{
    struct client *c = arg;
    (void)error;
    c->sock = NULL;
    c->closed = true;
}

static void ignore(void *arg)
{
    (void)arg;
}

static const struct wr_sock_ops client_ops = {
    .on_open = ignore, .on_read = on_read, .on_drain = ignore, .on_close = on_close};

static void dial(struct client *c, struct sim *sim, struct node *n)
{
    memset(c, 0, sizeof(*c));
    wr_buf_init(&c->in, 1 << 24);
    wr_buf_init(&c->out, 1 << 16);
    wr_rpc_scan_init(&c->scan, WR_RPC_REPLY_MAX, WR_RPC_REPLY_ITEMS);
    assert_int_equal(wr_env_connect_local(n->env, SOCKET, &client_ops, c, &c->sock), 0);
    sim_run(sim, 10 * WR_MSEC);
}

static void forget_reply(struct client *c)
{
    if (c->has_reply) {
        wr_rpc_message_clear(&c->m);
        wr_buf_reset(&c->in); /* it lay there, and nothing behind it */
    }
    c->has_reply = false;
}

static void hang_up(struct client *c)
{
    forget_reply(c);
    if (c->sock)
        wr_sock_close(c->sock, false);
    c->sock = NULL;
    wr_buf_clear(&c->in);
    wr_buf_clear(&c->out);
}

static struct wr_pack *begin(struct client *c, const char *method)
{
    forget_reply(c);
    wr_buf_reset(&c->out);
    wr_pack_init(&c->pack, &c->out);
    wr_pack_array(&c->pack, NULL);
    wr_pack_u64(&c->pack, NULL, WR_RPC_REQUEST);
    wr_pack_u64(&c->pack, NULL, 1);
    wr_pack_text(&c->pack, NULL, method);
    wr_pack_array(&c->pack, NULL);
    wr_pack_map(&c->pack, NULL);
    return &c->pack;
}

static void send_call(struct client *c)
{
    for (int i = 0; i < 3; i++)
        wr_pack_end(&c->pack);
    assert_int_equal(wr_sock_write(c->sock, c->out.data, c->out.len), 0);
}

static void look(struct client *c)
{
    for (;;) {
        struct wr_rpc_message m;
        int len = wr_rpc_scan(&c->scan, wr_buf_bytes(&c->in));
        assert_true(len >= 0);
        if (len == 0)
            return;
        assert_int_equal(wr_rpc_decode(WR_BYTES(c->in.data, (size_t)len), &m), 0);
        if (m.type == WR_RPC_RESPONSE) {
            forget_reply(c);
            c->m = m;
            c->has_reply = true;
            return; /* it borrows from the buffer: what follows waits */
        }
        take(c, &m);
        wr_rpc_message_clear(&m);
        wr_buf_consume(&c->in, (size_t)len);
    }
}

static bool no_reply(void *arg)
{
    struct client *c = arg;
    if (!c->has_reply)
        look(c);
    return !c->has_reply && !c->closed;
}

/* Sends what was begun and runs the world until it is answered. */
static const msgpack_object *answer(struct client *c, struct sim *sim)
{
    send_call(c);
    (void)sim_run_while(sim, no_reply, c, 120 * WR_SEC);
    assert_true(c->has_reply);
    return c->m.error ? NULL : c->m.result;
}

static const msgpack_object *call(struct client *c, struct sim *sim, const char *method)
{
    (void)begin(c, method);
    return answer(c, sim);
}

static const msgpack_object *call_text(struct client *c, struct sim *sim, const char *method,
                                       const char *name, const char *value)
{
    wr_pack_text(begin(c, method), name, value);
    return answer(c, sim);
}

static void expect_text(const msgpack_object *map, const char *key, const char *value)
{
    const msgpack_object *o = wr_rpc_find(map, key);
    assert_non_null(o);
    assert_int_equal(o->type, MSGPACK_OBJECT_STR);
    if (!wr_bytes_equal(WR_BYTES(o->via.str.ptr, o->via.str.size), wr_bytes_cstr(value)))
        fail_msg("%s is \"%.*s\", not \"%s\"", key, (int)o->via.str.size, o->via.str.ptr, value);
}

static void expect_error(struct client *c, const char *code, const char *says)
{
    assert_non_null(c->m.error);
    expect_text(c->m.error, "code", code);
    const msgpack_object *o = wr_rpc_find(c->m.error, "text");
    if (!memmem(o->via.str.ptr, o->via.str.size, says, strlen(says)))
        fail_msg("\"%.*s\" lacks \"%s\"", (int)o->via.str.size, o->via.str.ptr, says);
}

static uint64_t number(const msgpack_object *map, const char *key)
{
    const msgpack_object *o = wr_rpc_find(map, key);
    assert_non_null(o);
    assert_int_equal(o->type, MSGPACK_OBJECT_POSITIVE_INTEGER);
    return o->via.u64;
}

static const msgpack_object *rows(const msgpack_object *map, const char *key, uint32_t want)
{
    const msgpack_object *o = wr_rpc_find(map, key);
    assert_non_null(o);
    assert_int_equal(o->type, MSGPACK_OBJECT_ARRAY);
    assert_int_equal(o->via.array.size, want);
    return o->via.array.ptr;
}

/* ---- two nodes and a client of the first */

struct world {
    struct sim *sim;
    struct node a, b;
    struct client c;
};

static int set_up(void **state)
{
    struct world *w = wr_alloc(sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = 7, .rtt = 40 * WR_MSEC});
    start(&w->a, w->sim, 1, false);
    start(&w->b, w->sim, 2, false);
    dial(&w->c, w->sim, &w->a);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    hang_up(&w->c);
    stop(&w->a);
    stop(&w->b);
    sim_destroy(w->sim);
    wr_free(w);
    return 0;
}

static void connect_them(struct world *w)
{
    assert_non_null(call_text(&w->c, w->sim, "connect", "peer", w->b.addr));
    sim_run(w->sim, WR_SEC); /* identify */
}

/* ---- looking */

static void test_status_id_and_peers(void **state)
{
    struct world *w = *state;
    const msgpack_object *o = call(&w->c, w->sim, "status");
    expect_text(o, "peer", w->a.peer);
    expect_text(o, "network", "ipfs");
    expect_text(o, "reachable", "unknown");
    (void)rows(o, "warnings", 1);
    assert_int_equal(number(wr_rpc_find(o, "peers"), "connected"), 0);
    connect_them(w);
    o = call(&w->c, w->sim, "status");
    assert_int_equal(number(wr_rpc_find(o, "peers"), "connected"), 1);
    assert_int_equal(number(wr_rpc_find(o, "peers"), "direct"), 1);
    assert_int_equal(number(wr_rpc_find(o, "peers"), "outbound"), 1);
    assert_int_equal(number(wr_rpc_find(o, "peers"), "noise"), 1);
    assert_int_equal(number(wr_rpc_find(o, "peers"), "tls"), 0);
    assert_true(number(o, "bytes_in") > 500);
    assert_true(number(o, "uptime_ms") >= 1000);
    (void)rows(o, "warnings", 0);
    (void)rows(o, "limits", WR_LIMIT_COUNT);
    (void)rows(o, "listen", 1);
    /* A machine whose clock stands in the last century. */
    struct node old;
    struct client c;
    clock_error = -30 * 365 * 24 * WR_HOUR;
    start(&old, w->sim, 9, false);
    clock_error = 0;
    dial(&c, w->sim, &old);
    assert_non_null(call_text(&c, w->sim, "connect", "peer", w->b.addr));
    expect_text(rows(call(&c, w->sim, "status"), "warnings", 1), "command", "date");
    hang_up(&c);
    stop(&old);

    o = call(&w->c, w->sim, "id");
    expect_text(o, "peer", w->a.peer);
    assert_non_null(wr_rpc_find(o, "protocols"));
    o = call(&w->c, w->sim, "peers");
    const msgpack_object *row = rows(o, "peers", 1);
    expect_text(row, "peer", w->b.peer);
    expect_text(row, "path", "direct");
    expect_text(row, "direction", "out");
    expect_text(row, "security", "/noise");
    expect_text(row, "agent", "warren/" WARREN_VERSION);
    assert_true(wr_rpc_find(row, "protocols")->via.array.size >= 4);
    o = call(&w->c, w->sim, "limits");
    expect_text(o, "knob", "home");
    row = rows(o, "limits", WR_LIMIT_COUNT);
    expect_text(row, "name", "connections");
    assert_int_equal(number(row, "used"), 1);
    assert_int_equal(number(row, "max"), 512);
}

static void test_metrics_are_prometheus_text(void **state)
{
    struct world *w = *state;
    connect_them(w);
    const msgpack_object *o = wr_rpc_find(call(&w->c, w->sim, "metrics"), "text");
    struct wr_bytes text = WR_BYTES(o->via.str.ptr, o->via.str.size);
    bool peers = false, noise = false, punched = false;
    unsigned samples = 0;
    while (text.len) {
        const uint8_t *end = memchr(text.ptr, '\n', text.len);
        assert_non_null(end); /* every line is ended */
        struct wr_bytes line = wr_bytes_take(&text, (size_t)(end - text.ptr) + 1);
        peers |= wr_bytes_equal(line, WR_BYTES_STR("warren_peers{path=\"direct\"} 1\n"));
        noise |= wr_bytes_equal(
            line, WR_BYTES_STR("warren_connections_security{protocol=\"noise\"} 1\n"));
        punched |= wr_bytes_equal(
            line, WR_BYTES_STR("warren_punched_total{way=\"plain-quic\"} 0\n"));
        if (wr_bytes_starts(line, WR_BYTES_STR("# ")))
            continue;
        assert_true(wr_bytes_starts(line, WR_BYTES_STR("warren_")));
        assert_non_null(memchr(line.ptr, ' ', line.len));
        samples++;
    }
    assert_true(peers && noise && punched);
    assert_true(samples > 60);
}

/* ---- connecting */

static void test_connect_says_what_went_wrong(void **state)
{
    struct world *w = *state;
    char addr[WR_MADDR_TEXT + WR_PEERID_TEXT];
    const msgpack_object *o;
    assert_null(call_text(&w->c, w->sim, "connect", "peer", "nonsense"));
    expect_error(&w->c, "WR_EINVAL", "neither a peer id (12D3KooW...) nor an address");
    assert_null(call_text(&w->c, w->sim, "connect", "peer", "/ip4/1.2.3"));
    expect_error(&w->c, "WR_EINVAL", "not a multiaddr");
    assert_null(call(&w->c, w->sim, "connect"));
    expect_error(&w->c, "WR_EINVAL", "neither a peer id");
    assert_null(call_text(&w->c, w->sim, "connect", "peer", w->a.peer));
    expect_error(&w->c, "WR_ESELF", "this node itself");
    assert_null(call_text(&w->c, w->sim, "connect", "peer", w->b.peer));
    expect_error(&w->c, "WR_EUNREACH", "connect by address");
    /* Nothing listens on that port. */
    (void)snprintf(addr, sizeof(addr), "%.*s4002/p2p/%s",
                   (int)(strstr(w->b.addr, "4001") - w->b.addr), w->b.addr, w->b.peer);
    assert_null(call_text(&w->c, w->sim, "connect", "peer", addr));
    expect_error(&w->c, "WR_EREFUSED", "/tcp/4002: refused by the peer");
    /* Another one answers there than was named. */
    (void)snprintf(addr, sizeof(addr), "%.*s%s", (int)(strstr(w->b.addr, "12D3") - w->b.addr),
                   w->b.addr, "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN");
    assert_null(call_text(&w->c, w->sim, "connect", "peer", addr));
    expect_error(&w->c, "WR_EPEERID", "another peer answer");
    /* Who it is need not be known. */
    (void)snprintf(addr, sizeof(addr), "%.*s", (int)(strstr(w->b.addr, "/p2p/") - w->b.addr),
                   w->b.addr);
    o = call_text(&w->c, w->sim, "connect", "peer", addr);
    assert_non_null(o);
    expect_text(o, "peer", w->b.peer);
    expect_text(o, "addr", addr);
    expect_text(o, "path", "direct");

    o = call_text(&w->c, w->sim, "disconnect", "peer", w->b.peer);
    expect_text(o, "peer", w->b.peer);
    sim_run(w->sim, WR_SEC);
    assert_null(call_text(&w->c, w->sim, "disconnect", "peer", w->b.peer));
    expect_error(&w->c, "WR_ENOTFOUND", "not connected to");
    assert_int_equal(wr_swarm_conn_count(w->a.swarm), 0);
}

static void test_timeout_ends_a_dial(void **state)
{
    struct world *w = *state;
    sim_kill(w->b.host);
    struct wr_pack *p = begin(&w->c, "connect");
    wr_pack_text(p, "peer", w->b.addr);
    wr_pack_u64(p, "timeout_ms", 700);
    wr_time before = sim_now(w->sim);
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_ETIMEOUT", "700 ms");
    assert_true(sim_now(w->sim) - before < WR_SEC);
    assert_null(call_text(&w->c, w->sim, "connect", "peer", w->b.addr));
    expect_error(&w->c, "WR_ETIMEOUT", "is it online");
}

/* ---- ping */

static void test_ping(void **state)
{
    struct world *w = *state;
    struct wr_pack *p = begin(&w->c, "ping");
    wr_pack_text(p, "peer", w->b.addr); /* connects */
    wr_pack_u64(p, "count", 5);
    wr_pack_u64(p, "every_ms", 200);
    const msgpack_object *o = answer(&w->c, w->sim);
    assert_non_null(o);
    assert_int_equal(number(o, "sent"), 5);
    assert_int_equal(number(o, "received"), 5);
    expect_text(o, "path", "direct");
    assert_int_equal(w->c.progress, 5);
    assert_true(w->c.rtt_ms >= 40 && w->c.rtt_ms < 60);

    assert_null(call_text(&w->c, w->sim, "ping", "peer", w->a.peer));
    expect_error(&w->c, "WR_ESELF", "this node itself");
    assert_null(call_text(&w->c, w->sim, "ping", "peer", "/ip4/1.2.3.4/tcp/1"));
    expect_error(&w->c, "WR_EINVAL", "a peer id is needed");
    wr_pong_destroy(w->b.pong);
    w->b.pong = NULL;
    assert_null(call_text(&w->c, w->sim, "ping", "peer", w->b.peer));
    expect_error(&w->c, "WR_EUNSUPPORTED", "does not answer pings");
}

static void test_lost_pings_are_told(void **state)
{
    struct world *w = *state;
    connect_them(w);
    sim_pause(w->b.host, true);
    struct wr_pack *p = begin(&w->c, "ping");
    wr_pack_text(p, "peer", w->b.peer);
    wr_pack_u64(p, "count", 2);
    wr_pack_u64(p, "every_ms", 100);
    wr_pack_u64(p, "reply_timeout_ms", 500);
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_ETIMEOUT", "no reply from");
    assert_int_equal(w->c.progress, 2);
    sim_pause(w->b.host, false);
}

/* ---- rules */

static void test_block_and_allow(void **state)
{
    struct world *w = *state;
    connect_them(w);
    const msgpack_object *o = call_text(&w->c, w->sim, "block", "what", w->b.peer);
    expect_text(o, "list", "block");
    sim_run(w->sim, WR_SEC);
    assert_int_equal(wr_swarm_conn_count(w->a.swarm), 0);
    assert_null(call_text(&w->c, w->sim, "connect", "peer", w->b.addr));
    expect_error(&w->c, "WR_EGATED", "`warren block` lists the rules");
    assert_non_null(call_text(&w->c, w->sim, "allow", "what", "10.0.0.0/8"));
    assert_null(call_text(&w->c, w->sim, "allow", "what", "10.0.0.0/99"));
    expect_error(&w->c, "WR_EINVAL", "neither a peer id nor a network");
    (void)rows(call(&w->c, w->sim, "rules"), "rules", 2);
    o = rows(call_text(&w->c, w->sim, "rules", "list", "allow"), "rules", 1);
    expect_text(o, "what", "10.0.0.0/8");

    /* They outlive the node. */
    hang_up(&w->c);
    stop_control(&w->a);
    assert_int_equal(wr_policy_rule(wr_swarm_policy(w->a.swarm), true, w->b.peer, false), 0);
    start_control(&w->a);
    dial(&w->c, w->sim, &w->a);
    (void)rows(call(&w->c, w->sim, "rules"), "rules", 2);
    assert_true(wr_policy_peer_blocked(wr_swarm_policy(w->a.swarm), wr_swarm_self(w->b.swarm)));

    struct wr_pack *p = begin(&w->c, "block");
    wr_pack_text(p, "what", w->b.peer);
    wr_pack_bool(p, "remove", true);
    assert_non_null(answer(&w->c, w->sim));
    p = begin(&w->c, "block");
    wr_pack_text(p, "what", w->b.peer);
    wr_pack_bool(p, "remove", true);
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_ENOTFOUND", "`warren block` lists them");
    connect_them(w);
    (void)rows(call(&w->c, w->sim, "rules"), "rules", 1);
}

/* ---- wait, events, stop */

static void test_wait(void **state)
{
    struct world *w = *state;
    struct wr_pack *p = begin(&w->c, "wait");
    wr_pack_u64(p, "timeout_ms", 2000);
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_ETIMEOUT", "2000 ms");
    p = begin(&w->c, "wait");
    wr_pack_text(p, "for", "christmas");
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_EINVAL", "online, reachable or peer");
    p = begin(&w->c, "wait");
    wr_pack_text(p, "for", "peer");
    wr_pack_text(p, "peer", "/ip4/1.2.3.4/tcp/1");
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_EINVAL", "an id is needed");

    struct client other;
    dial(&other, w->sim, &w->a);
    p = begin(&other, "wait");
    wr_pack_text(p, "for", "peer");
    wr_pack_text(p, "peer", w->b.peer);
    send_call(&other);
    sim_run(w->sim, 5 * WR_SEC);
    assert_true(no_reply(&other));
    connect_them(w);
    assert_false(no_reply(&other));
    expect_text(other.m.result, "peer", w->b.peer);
    hang_up(&other);
    assert_non_null(call_text(&w->c, w->sim, "wait", "for", "online"));
    p = begin(&w->c, "wait");
    wr_pack_text(p, "for", "reachable");
    wr_pack_u64(p, "timeout_ms", 500);
    assert_null(answer(&w->c, w->sim));
}

static void test_events_and_stop(void **state)
{
    struct world *w = *state;
    struct client watcher;
    dial(&watcher, w->sim, &w->a);
    assert_non_null(call(&watcher, w->sim, "subscribe"));
    forget_reply(&watcher);
    connect_them(w);
    assert_non_null(call_text(&w->c, w->sim, "disconnect", "peer", w->b.peer));
    sim_run(w->sim, WR_SEC);
    struct wr_dcutr_report report = {.outcome = WR_DCUTR_PUNCHED, .attempt = 1, .udp = true};
    wr_methods_punched(w->a.methods, wr_swarm_self(w->b.swarm), &report);
    report = (struct wr_dcutr_report){.outcome = WR_DCUTR_NO_ADDRESS};
    wr_methods_punched(w->a.methods, wr_swarm_self(w->b.swarm), &report);
    sim_run(w->sim, WR_SEC);
    look(&watcher);
    static const char *const want[] = {"connection-opened ", "peer-connected ", "peer-identified ",
                                       "connection-closed ", "peer-disconnected ",
                                       "punch-succeeded ", "punch-failed "};
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
        if (!strstr(watcher.note, want[i]))
            fail_msg("\"%s\" lacks \"%s\"", watcher.note, want[i]);
    hang_up(&watcher);
    assert_non_null(call(&w->c, w->sim, "stop"));
    assert_int_equal(w->a.stops, 1);
}

/* ---- perf and streams */

static void test_perf(void **state)
{
    struct world *w = *state;
    struct wr_pack *p = begin(&w->c, "perf");
    wr_pack_text(p, "peer", w->b.addr);
    wr_pack_u64(p, "up", 3000001);
    wr_pack_u64(p, "down", 5000002);
    const msgpack_object *o = answer(&w->c, w->sim);
    assert_non_null(o);
    assert_int_equal(number(o, "up_bytes"), 3000001);
    assert_int_equal(number(o, "down_bytes"), 5000002);
    double up = wr_rpc_find(o, "up_seconds")->via.f64,
           down = wr_rpc_find(o, "down_seconds")->via.f64;
    assert_true(up > 0.04 && up < 60 && down > 0 && down < 60);
    /* Nothing either way is fine too. */
    assert_non_null(call_text(&w->c, w->sim, "perf", "peer", w->b.peer));

    wr_perf_destroy(w->b.perf);
    w->b.perf = NULL;
    assert_null(call_text(&w->c, w->sim, "perf", "peer", w->b.peer));
    expect_error(&w->c, "WR_EUNSUPPORTED", "does not speak /perf/1.0.0");
}

static void test_perf_gives_up_on_a_dead_peer(void **state)
{
    struct world *w = *state;
    connect_them(w);
    struct wr_pack *p = begin(&w->c, "perf");
    wr_pack_text(p, "peer", w->b.peer);
    wr_pack_u64(p, "down", UINT64_C(1) << 40);
    send_call(&w->c);
    sim_run(w->sim, 10 * WR_SEC);
    assert_true(no_reply(&w->c));
    assert_true(w->c.progress >= 5);
    sim_pause(w->b.host, true);
    sim_run(w->sim, WR_PERF_IDLE + 2 * WR_SEC);
    assert_false(no_reply(&w->c));
    assert_non_null(w->c.m.error);
    sim_pause(w->b.host, false);
    sim_run(w->sim, WR_PERF_IDLE + 2 * WR_SEC);
}

static void test_streams_need_descriptors(void **state)
{
    struct world *w = *state;
    struct client server;
    connect_them(w);
    struct wr_pack *p = begin(&w->c, "open");
    wr_pack_text(p, "peer", w->b.peer);
    wr_pack_text(p, "protocol", "/chat/1.0.0");
    assert_null(answer(&w->c, w->sim));
    expect_error(&w->c, "WR_EUNSUPPORTED", "does not speak /chat/1.0.0");
    assert_null(call_text(&w->c, w->sim, "accept", "protocol", "chat"));
    expect_error(&w->c, "WR_EINVAL", "is not a protocol name");
    assert_null(call_text(&w->c, w->sim, "accept", "protocol", "/ipfs/ping/1.0.0"));
    expect_error(&w->c, "WR_EEXIST", "the node itself answers");
    /* A simulated machine has none to hand over: both sides are told, and the stream ends. */
    dial(&server, w->sim, &w->b);
    wr_pack_text(begin(&server, "accept"), "protocol", "/chat/1.0.0");
    send_call(&server);
    sim_run(w->sim, WR_SEC);
    size_t before = wr_swarm_protocols(w->b.swarm)->count;
    p = begin(&w->c, "open");
    wr_pack_text(p, "peer", w->b.peer);
    wr_pack_text(p, "protocol", "/chat/1.0.0");
    assert_null(answer(&w->c, w->sim));
    sim_run(w->sim, WR_SEC);
    assert_false(no_reply(&server));
    expect_error(&server, "WR_EUNSUPPORTED", "");
    assert_int_equal(wr_swarm_protocols(w->b.swarm)->count, before - 1);
    hang_up(&server);
    /* Nobody waits any more: the name is withdrawn with the client. */
    dial(&server, w->sim, &w->b);
    wr_pack_text(begin(&server, "accept"), "protocol", "/chat/1.0.0");
    send_call(&server);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(wr_swarm_protocols(w->b.swarm)->count, before);
    hang_up(&server);
    sim_run(w->sim, WR_SEC);
    assert_int_equal(wr_swarm_protocols(w->b.swarm)->count, before - 1);
}

/* ---- ends in the middle */

static void begin_everything(struct world *w, struct client *c)
{
    static const char *const methods[] = {"connect", "ping", "perf", "open"};
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        struct wr_pack *p = begin(c, methods[i]);
        wr_pack_text(p, "peer", w->b.addr);
        wr_pack_text(p, "protocol", "/chat/1.0.0");
        wr_pack_u64(p, "count", 1000);
        wr_pack_u64(p, "up", 1 << 30);
        send_call(c);
    }
    wr_pack_text(begin(c, "accept"), "protocol", "/chat/1.0.0");
    send_call(c);
    struct wr_pack *p = begin(c, "wait");
    wr_pack_text(p, "for", "reachable");
    send_call(c);
}

static void test_clients_that_leave(void **state)
{
    struct world *w = *state;
    /* At every moment of a call's life. */
    for (wr_time when = 0; when < WR_SEC; when += 17 * WR_MSEC) {
        struct client c;
        dial(&c, w->sim, &w->a);
        begin_everything(w, &c);
        sim_run(w->sim, when);
        hang_up(&c);
        sim_run(w->sim, 100 * WR_MSEC);
        (void)call_text(&w->c, w->sim, "disconnect", "peer", w->b.peer);
    }
    sim_run(w->sim, 60 * WR_SEC);
    assert_int_equal(wr_control_clients(w->a.control), 1);
    assert_int_equal(w->a.limits.of[WR_LIMIT_STREAMS].used, 0);
}

static void test_node_that_goes(void **state)
{
    struct world *w = *state;
    for (wr_time when = 0; when < WR_SEC; when += 31 * WR_MSEC) {
        struct client c;
        dial(&c, w->sim, &w->a);
        begin_everything(w, &c);
        sim_run(w->sim, when);
        stop_control(&w->a);
        sim_run(w->sim, 10 * WR_MSEC);
        assert_true(c.closed);
        hang_up(&c);
        start_control(&w->a);
    }
    hang_up(&w->c);
    dial(&w->c, w->sim, &w->a);
}

/* Each allocation of the calls fails once: an error or a closed client, and the node lives on. */
static void test_memory_runs_out(void **state)
{
    struct world *w = *state;
    connect_them(w);
    for (uint64_t skip = 0;; skip++) {
        struct client c;
        dial(&c, w->sim, &w->a);
        sim_alloc_fail(skip, 1);
        begin_everything(w, &c);
        (void)begin(&c, "status");
        send_call(&c);
        (void)begin(&c, "metrics");
        send_call(&c);
        sim_run(w->sim, 300 * WR_MSEC);
        bool reached = sim_alloc_count() > skip;
        sim_alloc_fail(0, 0);
        hang_up(&c);
        sim_run(w->sim, WR_SEC);
        if (!wr_swarm_conn(w->a.swarm, wr_swarm_self(w->b.swarm)))
            (void)call_text(&w->c, w->sim, "connect", "peer", w->b.addr);
        assert_non_null(call(&w->c, w->sim, "status"));
        if (!reached)
            break;
        assert_true(skip < 5000);
    }
    sim_run(w->sim, 60 * WR_SEC);
    assert_int_equal(wr_control_clients(w->a.control), 1);
}

/* ---- the DHT: six servers that know the first, and a client of the last */

#define SERVERS 6
#define CID     "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"

struct island {
    struct sim *sim;
    struct node of[SERVERS], fresh; /* fresh: started by one test */
    struct client c, other;
};

static int set_up_island(void **state)
{
    struct island *w = wr_alloc(sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = 11, .rtt = 40 * WR_MSEC});
    for (uint8_t i = 0; i < SERVERS; i++)
        start(&w->of[i], w->sim, (uint8_t)(i + 1), true);
    for (size_t i = 1; i < SERVERS; i++) {
        struct client c;
        dial(&c, w->sim, &w->of[i]);
        assert_non_null(call_text(&c, w->sim, "connect", "peer", w->of[0].addr));
        hang_up(&c);
    }
    dial(&w->c, w->sim, &w->of[SERVERS - 1]);
    sim_run(w->sim, 30 * WR_SEC);
    *state = w;
    return 0;
}

static int tear_down_island(void **state)
{
    struct island *w = *state;
    hang_up(&w->c);
    hang_up(&w->other);
    if (w->fresh.swarm)
        stop(&w->fresh);
    for (size_t i = 0; i < SERVERS; i++)
        stop(&w->of[i]);
    sim_destroy(w->sim);
    wr_free(w);
    return 0;
}

static void test_find_and_connect_by_id(void **state)
{
    struct island *w = *state;
    const msgpack_object *o = call(&w->c, w->sim, "status");
    expect_text(wr_rpc_find(o, "dht"), "mode", "server");
    assert_true(number(wr_rpc_find(o, "dht"), "table") >= 1);
    assert_non_null(call_text(&w->c, w->sim, "wait", "for", "online"));
    o = call(&w->c, w->sim, "dht.table");
    assert_true(wr_rpc_find(o, "peers")->via.array.size >= 1);
    expect_text(wr_rpc_find(o, "peers")->via.array.ptr, "table", "wan");
    /* A newcomer knows one of them, and finds all others by their ids alone. */
    start(&w->fresh, w->sim, 99, true);
    dial(&w->other, w->sim, &w->fresh);
    assert_null(call_text(&w->other, w->sim, "find", "peer", w->of[3].peer));
    expect_error(&w->other, "WR_EUNREACH", "no peer of the DHT is known yet");
    assert_non_null(call_text(&w->other, w->sim, "connect", "peer", w->of[0].addr));
    assert_non_null(call_text(&w->other, w->sim, "wait", "for", "online"));
    o = call_text(&w->other, w->sim, "find", "peer", w->of[3].peer);
    assert_non_null(o);
    expect_text(o, "peer", w->of[3].peer);
    assert_true(wr_rpc_find(o, "addrs")->via.array.size >= 1);
    o = call_text(&w->other, w->sim, "connect", "peer", w->of[4].peer);
    assert_non_null(o);
    expect_text(o, "peer", w->of[4].peer);
    assert_null(call_text(&w->other, w->sim, "find", "peer",
                          "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"));
    expect_error(&w->other, "WR_ENOTFOUND", "nobody who was asked knows that peer");
}

static void test_provide_and_join(void **state)
{
    struct island *w = *state;
    dial(&w->other, w->sim, &w->of[1]);
    assert_null(call_text(&w->c, w->sim, "dht.provide", "cid", "nonsense"));
    expect_error(&w->c, "WR_EINVAL", "is not a CID");
    assert_non_null(call_text(&w->c, w->sim, "dht.provide", "cid", CID));
    const msgpack_object *o = call_text(&w->other, w->sim, "dht.providers", "cid", CID);
    assert_non_null(o);
    assert_int_equal(number(o, "found"), 1);
    assert_true(w->other.progress >= 1);
    assert_null(call_text(&w->c, w->sim, "dht.providers", "cid", CID));
    expect_error(&w->c, "WR_ENOTFOUND", "nobody but this node");
    assert_non_null(call_text(&w->c, w->sim, "dht.unprovide", "cid", CID));
    assert_null(call_text(&w->c, w->sim, "dht.unprovide", "cid", CID));
    expect_error(&w->c, "WR_ENOTFOUND", "does not provide that");

    assert_null(call(&w->c, w->sim, "join"));
    expect_error(&w->c, "WR_EINVAL", "a name is needed");
    assert_non_null(call_text(&w->c, w->sim, "join", "name", "example-chat"));
    assert_non_null(call_text(&w->c, w->sim, "join", "name", "example-chat"));
    (void)rows(call(&w->c, w->sim, "joined"), "names", 1);
    sim_run(w->sim, 30 * WR_SEC);
    assert_null(call_text(&w->c, w->sim, "find.in", "name", "example-chat"));
    expect_error(&w->c, "WR_ENOTFOUND", "nobody else is there yet");
    o = call_text(&w->other, w->sim, "find.in", "name", "example-chat");
    assert_non_null(o);
    assert_int_equal(number(o, "found"), 1);
    /* It is joined again when the node starts again, until it is left. */
    hang_up(&w->c);
    stop_control(&w->of[SERVERS - 1]);
    start_control(&w->of[SERVERS - 1]);
    dial(&w->c, w->sim, &w->of[SERVERS - 1]);
    expect_text(rows(call(&w->c, w->sim, "joined"), "names", 1), "name", "example-chat");
    assert_non_null(call_text(&w->c, w->sim, "leave", "name", "example-chat"));
    assert_null(call_text(&w->c, w->sim, "leave", "name", "example-chat"));
    expect_error(&w->c, "WR_ENOTFOUND", "was not joined");
    (void)rows(call(&w->c, w->sim, "joined"), "names", 0);
}

/* The public network has a table of the local network beside the internet's: nobody being there delays
 * nothing. */
static void test_an_empty_second_table(void **state)
{
    struct island *w = *state;
    int error;
    start(&w->fresh, w->sim, 99, true);
    stop_control(&w->fresh);
    w->fresh.lan = wr_dht_create(&(struct wr_dht_options){.swarm = w->fresh.swarm,
                                                          .kv = w->fresh.kv,
                                                          .protocol = "/test/lan/kad/1.0.0",
                                                          .scope = WR_DHT_LAN,
                                                          .mode = WR_DHT_SERVER},
                                 &error);
    assert_non_null(w->fresh.lan);
    start_control(&w->fresh);
    dial(&w->other, w->sim, &w->fresh);
    assert_non_null(call_text(&w->other, w->sim, "connect", "peer", w->of[0].addr));
    assert_non_null(call_text(&w->other, w->sim, "wait", "for", "online"));
    wr_time began = sim_now(w->sim);
    assert_non_null(call_text(&w->other, w->sim, "dht.provide", "cid", CID));
    assert_null(call_text(&w->other, w->sim, "dht.providers", "cid", CID));
    expect_error(&w->other, "WR_ENOTFOUND", "nobody but this node");
    assert_true(sim_now(w->sim) - began < 5 * WR_SEC);
}

static void test_put_and_get(void **state)
{
    struct island *w = *state;
    char key[128];
    struct wr_buf value;
    dial(&w->other, w->sim, &w->of[1]);
    wr_buf_init(&value, WR_PUBKEY_MAX);
    wr_key_encode_public(&w->of[SERVERS - 1].key, &value);
    (void)snprintf(key, sizeof(key), "/pk/%s", w->of[SERVERS - 1].peer);
    struct wr_pack *p = begin(&w->c, "dht.put");
    wr_pack_text(p, "key", key);
    wr_pack_bin(p, "value", wr_buf_bytes(&value));
    assert_non_null(answer(&w->c, w->sim));
    const msgpack_object *o = call_text(&w->other, w->sim, "dht.get", "key", key);
    assert_non_null(o);
    o = wr_rpc_find(o, "value");
    assert_int_equal(o->type, MSGPACK_OBJECT_BIN);
    assert_true(wr_bytes_equal(WR_BYTES(o->via.bin.ptr, o->via.bin.size), wr_buf_bytes(&value)));
    /* Records that do not hold. */
    p = begin(&w->c, "dht.put");
    wr_pack_text(p, "key", key);
    wr_pack_bin(p, "value", WR_BYTES_STR("not a key"));
    assert_null(answer(&w->c, w->sim));
    assert_null(call_text(&w->c, w->sim, "dht.put", "key", "/other/x"));
    expect_error(&w->c, "WR_EUNSUPPORTED", "keys are /pk/PEER and /ipns/PEER");
    assert_null(call(&w->c, w->sim, "dht.get"));
    expect_error(&w->c, "WR_EINVAL", "key:");
    (void)snprintf(key, sizeof(key), "/ipns/%s", w->of[2].peer);
    assert_null(call_text(&w->c, w->sim, "dht.get", "key", key));
    expect_error(&w->c, "WR_ENOTFOUND", "nobody who was asked");
    wr_buf_clear(&value);
}

static void test_dht_that_is_off(void **state)
{
    struct world *w = *state;
    static const char *const methods[] = {"dht.table", "find.in", "join", "dht.get"};
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        assert_null(call_text(&w->c, w->sim, methods[i], "name", "x"));
        expect_error(&w->c, "WR_EUNSUPPORTED", "`--dht auto` turns it on");
    }
    expect_text(wr_rpc_find(call(&w->c, w->sim, "status"), "dht"), "mode", "off");
}

/* Searches end with their client, at whatever moment. */
static void test_searchers_that_leave(void **state)
{
    struct island *w = *state;
    for (wr_time when = 0; when < 500 * WR_MSEC; when += 23 * WR_MSEC) {
        struct client c;
        dial(&c, w->sim, &w->of[1]);
        wr_pack_text(begin(&c, "find"), "peer",
                     "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN");
        send_call(&c);
        wr_pack_text(begin(&c, "dht.provide"), "cid", CID);
        send_call(&c);
        wr_pack_text(begin(&c, "dht.providers"), "cid", CID);
        send_call(&c);
        wr_pack_text(begin(&c, "dht.get"), "key", "/pk/x");
        send_call(&c);
        sim_run(w->sim, when);
        hang_up(&c);
    }
    sim_run(w->sim, 120 * WR_SEC);
    struct wr_dht_stats stats;
    wr_dht_stats(w->of[1].dht, &stats);
    assert_int_equal(stats.searches, 0);
    assert_int_equal(wr_control_clients(w->of[1].control), 0);
}

#define TEST(name)   cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define ISLAND(name) cmocka_unit_test_setup_teardown(name, set_up_island, tear_down_island)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_status_id_and_peers),
        TEST(test_metrics_are_prometheus_text),
        TEST(test_connect_says_what_went_wrong),
        TEST(test_timeout_ends_a_dial),
        TEST(test_ping),
        TEST(test_lost_pings_are_told),
        TEST(test_block_and_allow),
        TEST(test_wait),
        TEST(test_events_and_stop),
        TEST(test_perf),
        TEST(test_perf_gives_up_on_a_dead_peer),
        TEST(test_streams_need_descriptors),
        TEST(test_clients_that_leave),
        TEST(test_node_that_goes),
        TEST(test_memory_runs_out),
        TEST(test_dht_that_is_off),
        ISLAND(test_find_and_connect_by_id),
        ISLAND(test_provide_and_join),
        ISLAND(test_an_empty_second_table),
        ISLAND(test_put_and_get),
        ISLAND(test_searchers_that_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
