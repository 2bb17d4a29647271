/* methods_world.h - nodes with a control socket, and clients of it on the same machine, for the
 * stories told of the methods. Included once per test program. */
#ifndef METHODS_WORLD_H
#define METHODS_WORLD_H

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
#include "tests/sim/kv_mem.h"
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

static inline void on_stop(void *arg)
{
    struct node *n = arg;
    n->stops++;
}

static inline void start_control(struct node *n)
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

static inline void stop_control(struct node *n)
{
    wr_control_destroy(n->control);
    wr_methods_destroy(n->methods);
}

static struct sim_host_options place = {.name = "node"}; /* of nodes that start */

static inline void start(struct node *n, struct sim *sim, uint8_t seed, bool dht)
{
    uint8_t bytes[WR_ED25519_SEED] = {seed};
    const struct wr_kv_options kv = {"/data", 1 << 20, 1 << 20};
    struct wr_maddr at;
    memset(n, 0, sizeof(*n));
    n->host = sim_host_add(sim, &place);
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

static inline void stop(struct node *n)
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
    uint32_t trying; /* rows in it */
};

static inline void take(struct client *c, const struct wr_rpc_message *m)
{
    const msgpack_object *name = wr_rpc_find(m->params, "event");
    const msgpack_object *rtt = wr_rpc_find(m->params, "rtt_ms");
    const msgpack_object *trying = wr_rpc_find(m->params, "trying");
    if (wr_bytes_equal(m->method, WR_BYTES_STR("progress"))) {
        c->progress++;
        if (rtt)
            c->rtt_ms = rtt->via.f64;
        if (trying)
            c->trying = trying->via.array.size;
    } else if (name) {
        c->events++;
        size_t len = strlen(c->note);
        (void)snprintf(c->note + len, sizeof(c->note) - len, "%.*s ", (int)name->via.str.size,
                       name->via.str.ptr);
    }
}

static inline void on_read(void *arg, uint8_t *data, size_t len)
{
    struct client *c = arg;
    wr_buf_put(&c->in, data, len);
}

static inline void on_close(void *arg, int error)
{
    struct client *c = arg;
    (void)error;
    c->sock = NULL;
    c->closed = true;
}

static inline void ignore(void *arg)
{
    (void)arg;
}

static const struct wr_sock_ops client_ops = {
    .on_open = ignore, .on_read = on_read, .on_drain = ignore, .on_close = on_close};

static inline void dial(struct client *c, struct sim *sim, struct node *n)
{
    memset(c, 0, sizeof(*c));
    wr_buf_init(&c->in, 1 << 24);
    wr_buf_init(&c->out, 1 << 16);
    wr_rpc_scan_init(&c->scan, WR_RPC_REPLY_MAX, WR_RPC_REPLY_ITEMS);
    assert_int_equal(wr_env_connect_local(n->env, SOCKET, &client_ops, c, &c->sock), 0);
    sim_run(sim, 10 * WR_MSEC);
}

static inline void forget_reply(struct client *c)
{
    if (c->has_reply) {
        wr_rpc_message_clear(&c->m);
        wr_buf_reset(&c->in); /* it lay there, and nothing behind it */
    }
    c->has_reply = false;
}

static inline void hang_up(struct client *c)
{
    forget_reply(c);
    if (c->sock)
        wr_sock_close(c->sock, false);
    c->sock = NULL;
    wr_buf_clear(&c->in);
    wr_buf_clear(&c->out);
}

static inline struct wr_pack *begin(struct client *c, const char *method)
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

static inline void send_call(struct client *c)
{
    for (int i = 0; i < 3; i++)
        wr_pack_end(&c->pack);
    assert_int_equal(wr_sock_write(c->sock, c->out.data, c->out.len), 0);
}

static inline void look(struct client *c)
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

static inline bool no_reply(void *arg)
{
    struct client *c = arg;
    if (!c->has_reply)
        look(c);
    return !c->has_reply && !c->closed;
}

/* Sends what was begun and runs the world until it is answered. */
static inline const msgpack_object *answer(struct client *c, struct sim *sim)
{
    send_call(c);
    (void)sim_run_while(sim, no_reply, c, 120 * WR_SEC);
    assert_true(c->has_reply);
    return c->m.error ? NULL : c->m.result;
}

static inline const msgpack_object *call(struct client *c, struct sim *sim, const char *method)
{
    (void)begin(c, method);
    return answer(c, sim);
}

static inline const msgpack_object *call_text(struct client *c, struct sim *sim, const char *method,
                                              const char *name, const char *value)
{
    wr_pack_text(begin(c, method), name, value);
    return answer(c, sim);
}

static inline void expect_text(const msgpack_object *map, const char *key, const char *value)
{
    const msgpack_object *o = wr_rpc_find(map, key);
    assert_non_null(o);
    assert_int_equal(o->type, MSGPACK_OBJECT_STR);
    if (!wr_bytes_equal(WR_BYTES(o->via.str.ptr, o->via.str.size), wr_bytes_cstr(value)))
        fail_msg("%s is \"%.*s\", not \"%s\"", key, (int)o->via.str.size, o->via.str.ptr, value);
}

static inline void expect_error(struct client *c, const char *code, const char *says)
{
    assert_non_null(c->m.error);
    expect_text(c->m.error, "code", code);
    const msgpack_object *o = wr_rpc_find(c->m.error, "text");
    if (!memmem(o->via.str.ptr, o->via.str.size, says, strlen(says)))
        fail_msg("\"%.*s\" lacks \"%s\"", (int)o->via.str.size, o->via.str.ptr, says);
}

static inline uint64_t number(const msgpack_object *map, const char *key)
{
    const msgpack_object *o = wr_rpc_find(map, key);
    assert_non_null(o);
    assert_int_equal(o->type, MSGPACK_OBJECT_POSITIVE_INTEGER);
    return o->via.u64;
}

static inline const msgpack_object *rows(const msgpack_object *map, const char *key, uint32_t want)
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

static inline int set_up(void **state)
{
    struct world *w = wr_alloc(sizeof(*w));
    w->sim = sim_create(&(struct sim_options){.seed = 7, .rtt = 40 * WR_MSEC});
    start(&w->a, w->sim, 1, false);
    start(&w->b, w->sim, 2, false);
    dial(&w->c, w->sim, &w->a);
    *state = w;
    return 0;
}

static inline int tear_down(void **state)
{
    struct world *w = *state;
    hang_up(&w->c);
    stop(&w->a);
    stop(&w->b);
    sim_destroy(w->sim);
    wr_free(w);
    return 0;
}

static inline void connect_them(struct world *w)
{
    assert_non_null(call_text(&w->c, w->sim, "connect", "peer", w->b.addr));
    sim_run(w->sim, WR_SEC); /* identify */
}

#endif
