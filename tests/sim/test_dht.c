/* The DHT as a service, in virtual time: swarm, identify and DHT on each machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dht/dht.h"
#include "dht/namespace.h"
#include "identify/identify.h"
#include "tests/sim/sim.h"
#include "transport/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROTOCOL  "/test/kad/1.0.0"
#define NODES_MAX 64

struct node {
    struct sim_host *host;
    struct wr_env *env;
    struct wr_limits limits;
    struct wr_key key;
    struct wr_kv *kv;
    struct wr_swarm *swarm;
    struct wr_identify *identify;
    struct wr_dht *dht;
    struct wr_maddr addr; /* with /p2p */
    unsigned events[4];
};

static struct sim *sim;
static struct node nodes[NODES_MAX];
static size_t node_count;

static void print_line(void *arg, enum wr_log_level level, const char *line)
{
    (void)arg;
    (void)level;
    fprintf(stderr, "%s\n", line);
}

static struct wr_log debug_log = {.sink = print_line, .level = WR_LOG_DEBUG};

static void on_event(void *arg, enum wr_dht_event_type event)
{
    struct node *n = arg;
    n->events[event]++;
}

static void open_dht(struct node *n, enum wr_dht_mode mode)
{
    int err;
    n->dht = wr_dht_create(&(struct wr_dht_options){.swarm = n->swarm,
                                                    .kv = n->kv,
                                                    .protocol = PROTOCOL,
                                                    .mode = mode,
                                                    .on_event = on_event,
                                                    .arg = n},
                           &err);
    assert_non_null(n->dht);
}

/* Swarm, identify and DHT on a machine that is on. */
static void start(struct node *n, enum wr_dht_mode mode)
{
    assert_int_equal(wr_limits_init(&n->limits, "small"), 0);
    assert_int_equal(wr_kv_open(n->env,
                                &(struct wr_kv_options){
                                    .path = "store", .size_max = 64 << 20, .overlay_max = 4 << 20},
                                &n->kv),
                     0);
    n->swarm = wr_swarm_create(
        &(struct wr_swarm_options){.env = n->env, .limits = &n->limits, .identity = &n->key});
    assert_non_null(n->swarm);
    struct wr_addr at = {.ip = *sim_host_ip4(n->host), .port = 4001};
    assert_int_equal(wr_maddr_from_addr(&at, false, &n->addr), 0);
    assert_int_equal(wr_swarm_listen(n->swarm, wr_maddr_bytes(&n->addr)), 0);
    assert_int_equal(wr_maddr_append_peer(&n->addr, wr_swarm_self(n->swarm)), 0);
    n->identify = wr_identify_create(&(struct wr_identify_options){.swarm = n->swarm});
    assert_non_null(n->identify);
    open_dht(n, mode);
}

static void stop(struct node *n)
{
    wr_dht_destroy(n->dht);
    wr_identify_destroy(n->identify);
    wr_swarm_destroy(n->swarm);
    wr_kv_close(n->kv);
    n->dht = NULL;
}

/* A new machine with a node on it. */
static struct node *add(enum wr_dht_mode mode)
{
    struct node *n = &nodes[node_count++];
    uint8_t seed[WR_ED25519_SEED] = {(uint8_t)node_count, 7};
    memset(n, 0, sizeof(*n));
    n->host = sim_host_add(sim, &(struct sim_host_options){.name = "node"});
    n->env = sim_host_env(n->host);
    wr_key_generate(&n->key, seed);
    start(n, mode);
    return n;
}

static void bootstrap(struct node *n, const struct node *at)
{
    assert_int_equal(wr_dht_set_bootstrap(n->dht, &at->addr, 1), 0);
}

static void set_up_sim(uint64_t seed)
{
    node_count = 0;
    sim = sim_create(
        &(struct sim_options){.seed = seed, .log = getenv("DHT_LOG") ? &debug_log : NULL});
    assert_non_null(sim);
}

static void tear_down_sim(void)
{
    for (size_t i = 0; i < node_count; i++) {
        if (nodes[i].dht)
            stop(&nodes[i]);
    }
    sim_destroy(sim);
}

/* `count` servers; the others know the first. */
static void make_swarm(size_t count, uint64_t seed)
{
    set_up_sim(seed);
    for (size_t i = 0; i < count; i++) {
        add(WR_DHT_SERVER);
        if (i > 0)
            bootstrap(&nodes[i], &nodes[0]);
    }
}

/* ---- results */

struct result {
    bool done;
    int err;
    unsigned peers;
    struct wr_peerid ids[200];
    size_t addrs;
    struct wr_buf value;
};

static void on_peer(void *arg, const struct wr_dht_peer *peer)
{
    struct result *r = arg;
    assert_false(r->done);
    if (r->peers < 200)
        r->ids[r->peers] = peer->id;
    r->peers++;
    r->addrs += peer->count;
}

static void on_value(void *arg, struct wr_bytes value)
{
    struct result *r = arg;
    wr_buf_put_bytes(&r->value, value);
}

static void on_done(void *arg, int err)
{
    struct result *r = arg;
    assert_false(r->done);
    r->done = true;
    r->err = err;
}

static const struct wr_dht_ops ops = {.on_peer = on_peer, .on_value = on_value, .on_done = on_done};

static bool waiting(void *arg)
{
    return !((struct result *)arg)->done;
}

static struct result fresh_result(void)
{
    struct result r = {0};
    wr_buf_init(&r.value, 16384);
    return r;
}

static void await(struct result *r)
{
    sim_run_while(sim, waiting, r, 70 * WR_SEC);
    assert_true(r->done);
}

static bool told_of(const struct result *r, const struct node *n)
{
    for (unsigned i = 0; i < r->peers && i < 200; i++) {
        if (wr_peerid_equal(&r->ids[i], wr_swarm_self(n->swarm)))
            return true;
    }
    return false;
}

static size_t table_of(const struct node *n)
{
    struct wr_dht_stats stats;
    wr_dht_stats(n->dht, &stats);
    return stats.table;
}

static struct wr_multihash key_of(const char *text)
{
    struct wr_multihash key;
    wr_multihash_sha256(wr_bytes_cstr(text), &key);
    return key;
}

/* ---- stories */

/* Two nodes that know of each other by one bootstrap address are a network. */
static void test_two_nodes(void **state)
{
    (void)state;
    make_swarm(2, 1);
    sim_run(sim, 5 * WR_SEC);
    assert_int_equal(table_of(&nodes[0]), 1);
    assert_int_equal(table_of(&nodes[1]), 1);
    assert_int_equal(nodes[0].events[WR_DHT_READY], 1);
    struct wr_multihash key = key_of("something");
    struct result put = fresh_result(), found = fresh_result();
    int err;
    assert_non_null(wr_dht_provide(nodes[0].dht, WR_BYTES(key.bytes, key.len), &ops, &put, &err));
    await(&put);
    assert_int_equal(put.err, 0);
    assert_non_null(
        wr_dht_find_providers(nodes[1].dht, WR_BYTES(key.bytes, key.len), 1, &ops, &found, &err));
    await(&found);
    assert_int_equal(found.err, 0);
    assert_int_equal(found.peers, 1);
    assert_true(told_of(&found, &nodes[0]) && found.addrs > 0);
    tear_down_sim();
}

static void test_everybody_finds_everybody(void **state)
{
    (void)state;
    make_swarm(30, 2);
    sim_run(sim, WR_MIN);
    for (size_t i = 0; i < 30; i++)
        assert_true(table_of(&nodes[i]) >= 15);
    for (size_t i = 0; i < 30; i++) {
        struct result r = fresh_result();
        struct node *target = &nodes[(i * 7 + 3) % 30];
        int err;
        if (target == &nodes[i])
            continue;
        assert_non_null(
            wr_dht_find_peer(nodes[i].dht, wr_swarm_self(target->swarm), &ops, &r, &err));
        await(&r);
        assert_int_equal(r.err, 0);
        assert_true(told_of(&r, target) && r.addrs > 0);
    }
    tear_down_sim();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_nodes),
        cmocka_unit_test(test_everybody_finds_everybody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
