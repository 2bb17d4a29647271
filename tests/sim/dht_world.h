/* dht_world.h - machines with swarm, identify and DHT, for the stories told of it in virtual time.
 * DHT_LOG in the environment shows their log. */
#ifndef DHT_WORLD_H
#define DHT_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dht/dht_impl.h"
#include "dht/namespace.h"
#include "identify/identify.h"
#include "tests/sim/sim.h"
#include "transport/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROTOCOL  "/test/kad/1.0.0"
#ifndef CROWDED
#define CROWDED false
#endif
#ifndef SCOPE
#define SCOPE WR_DHT_ANY
#endif
#ifndef LIMITS
#define LIMITS "small"
#endif
#ifndef NODES_MAX
#define NODES_MAX 64
#endif

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
    unsigned side; /* of a partition, as dht_truth.h sees it */
};

static struct sim *sim;
static struct node nodes[NODES_MAX];
static size_t node_count;

static inline void print_line(void *arg, enum wr_log_level level, const char *line)
{
    (void)arg;
    (void)level;
    fprintf(stderr, "%s\n", line);
}

static struct wr_log debug_log = {.sink = print_line, .level = WR_LOG_DEBUG};

static inline void on_event(void *arg, enum wr_dht_event_type event)
{
    struct node *n = arg;
    n->events[event]++;
}

static inline void open_dht(struct node *n, enum wr_dht_mode mode)
{
    int err;
    n->dht = wr_dht_create(&(struct wr_dht_options){.swarm = n->swarm,
                                                    .kv = n->kv,
                                                    .protocol = PROTOCOL,
                                                    .scope = SCOPE,
                                                    .mode = mode,
                                                    .crowded = CROWDED,
                                                    .on_event = on_event,
                                                    .arg = n},
                           &err);
    assert_non_null(n->dht);
}

/* Swarm, identify and DHT on a machine that is on. */
static inline void start_at(struct node *n, enum wr_dht_mode mode, const struct wr_addr *at,
                            const char *store)
{
    assert_int_equal(wr_limits_init(&n->limits, LIMITS), 0);
    assert_int_equal(wr_kv_open(n->env,
                                &(struct wr_kv_options){
                                    .path = store, .size_max = 64 << 20, .overlay_max = 4 << 20},
                                &n->kv),
                     0);
    n->swarm = wr_swarm_create(
        &(struct wr_swarm_options){.env = n->env, .limits = &n->limits, .identity = &n->key});
    assert_non_null(n->swarm);
    assert_int_equal(wr_maddr_from_addr(at, false, &n->addr), 0);
    assert_int_equal(wr_swarm_listen(n->swarm, wr_maddr_bytes(&n->addr)), 0);
    assert_int_equal(wr_maddr_append_peer(&n->addr, wr_swarm_self(n->swarm)), 0);
    n->identify = wr_identify_create(&(struct wr_identify_options){.swarm = n->swarm});
    assert_non_null(n->identify);
    open_dht(n, mode);
}

static inline void start(struct node *n, enum wr_dht_mode mode)
{
    start_at(n, mode, &(struct wr_addr){.ip = *sim_host_ip4(n->host), .port = 4001}, "store");
}

static inline void stop(struct node *n)
{
    wr_dht_destroy(n->dht);
    wr_identify_destroy(n->identify);
    wr_swarm_destroy(n->swarm);
    wr_kv_close(n->kv);
    n->dht = NULL;
}

/* A new machine at this address (family 0: any) with a node of this identity on it. */
static inline struct node *add_as(const struct wr_key *key, struct wr_ip ip4, enum wr_dht_mode mode)
{
    struct node *n = &nodes[node_count++];
    memset(n, 0, sizeof(*n));
    n->host = sim_host_add(sim, &(struct sim_host_options){.name = "node", .ip4 = ip4});
    n->env = sim_host_env(n->host);
    n->key = *key;
    start(n, mode);
    return n;
}

static inline struct node *add_at(struct wr_ip ip4, enum wr_dht_mode mode)
{
    uint8_t seed[WR_ED25519_SEED] = {(uint8_t)(node_count + 1), 7, (uint8_t)((node_count + 1) >> 8)};
    struct wr_key key;
    wr_key_generate(&key, seed);
    return add_as(&key, ip4, mode);
}

static inline struct node *add(enum wr_dht_mode mode)
{
    return add_at((struct wr_ip){0}, mode);
}

static inline void bootstrap(struct node *n, const struct node *at)
{
    assert_int_equal(wr_dht_set_bootstrap(n->dht, &at->addr, 1), 0);
}

static inline void set_up_sim(uint64_t seed)
{
    node_count = 0;
    sim = sim_create(
        &(struct sim_options){.seed = seed, .log = getenv("DHT_LOG") ? &debug_log : NULL});
    assert_non_null(sim);
}

static inline void tear_down_sim(void)
{
    for (size_t i = 0; i < node_count; i++) {
        if (nodes[i].dht)
            stop(&nodes[i]);
    }
    sim_destroy(sim);
}

/* `count` servers; the others know the first. */
static inline void make_swarm(size_t count, uint64_t seed)
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

static inline void on_peer(void *arg, const struct wr_dht_peer *peer)
{
    struct result *r = arg;
    assert_false(r->done);
    if (r->peers < 200)
        r->ids[r->peers] = peer->id;
    r->peers++;
    r->addrs += peer->count;
}

static inline void on_value(void *arg, struct wr_bytes value)
{
    struct result *r = arg;
    wr_buf_put_bytes(&r->value, value);
}

static inline void on_done(void *arg, int err)
{
    struct result *r = arg;
    assert_false(r->done);
    r->done = true;
    r->err = err;
}

static const struct wr_dht_ops ops = {.on_peer = on_peer, .on_value = on_value, .on_done = on_done};

static inline bool waiting(void *arg)
{
    return !((struct result *)arg)->done;
}

static inline struct result fresh_result(void)
{
    struct result r = {0};
    wr_buf_init(&r.value, 16384);
    return r;
}

static inline void await(struct result *r)
{
    sim_run_while(sim, waiting, r, 70 * WR_SEC);
    assert_true(r->done);
}

static inline bool told_of(const struct result *r, const struct node *n)
{
    for (unsigned i = 0; i < r->peers && i < 200; i++) {
        if (wr_peerid_equal(&r->ids[i], wr_swarm_self(n->swarm)))
            return true;
    }
    return false;
}

static inline size_t table_of(const struct node *n)
{
    struct wr_dht_stats stats;
    wr_dht_stats(n->dht, &stats);
    return stats.table;
}

static inline struct wr_multihash key_of(const char *text)
{
    struct wr_multihash key;
    wr_multihash_sha256(wr_bytes_cstr(text), &key);
    return key;
}

/* ---- acts: each runs to its end */

static inline void provide(struct node *n, const struct wr_multihash *key, int expected)
{
    struct result r = fresh_result();
    int err;
    assert_non_null(wr_dht_provide(n->dht, WR_BYTES(key->bytes, key->len), &ops, &r, &err));
    await(&r);
    assert_int_equal(r.err, expected);
}

/* How many were found; each with an address. */
static inline unsigned find_providers(struct node *n, const struct wr_multihash *key, unsigned want)
{
    struct result r = fresh_result();
    int err;
    assert_non_null(
        wr_dht_find_providers(n->dht, WR_BYTES(key->bytes, key->len), want, &ops, &r, &err));
    await(&r);
    assert_int_equal(r.err, r.peers > 0 ? 0 : WR_ENOTFOUND);
    assert_true(r.addrs >= r.peers);
    return r.peers;
}

static inline int find_peer(struct node *n, const struct wr_peerid *id)
{
    struct result r = fresh_result();
    int err;
    assert_non_null(wr_dht_find_peer(n->dht, id, &ops, &r, &err));
    await(&r);
    if (r.err == 0)
        assert_true(r.peers == 1 && wr_peerid_equal(&r.ids[0], id) && r.addrs > 0);
    return r.err;
}

static inline int put_value(struct node *n, const struct wr_buf *key, const struct wr_buf *value)
{
    struct result r = fresh_result();
    int err;
    assert_non_null(
        wr_dht_put_value(n->dht, wr_buf_bytes(key), wr_buf_bytes(value), &ops, &r, &err));
    await(&r);
    return r.err;
}

static inline int get_value(struct node *n, const struct wr_buf *key, unsigned quorum,
                            struct wr_buf *value)
{
    struct result r = fresh_result();
    int err;
    assert_non_null(wr_dht_get_value(n->dht, wr_buf_bytes(key), quorum, &ops, &r, &err));
    await(&r);
    *value = r.value;
    return r.err;
}

/* Power off without a word; and on again with the disk as it was. */
static inline void switch_off(struct node *n)
{
    sim_kill(n->host);
    stop(n);
}

static inline void switch_on(struct node *n, enum wr_dht_mode mode)
{
    sim_revive(n->host);
    start(n, mode);
}

static inline void judge(struct node *n, enum wr_addr_verdict verdict)
{
    wr_addrbook_judge(wr_swarm_addrbook(n->swarm), wr_maddr_strip_peer(wr_maddr_bytes(&n->addr)),
                      verdict, wr_env_now(n->env));
    wr_swarm_addrs_changed(n->swarm);
}

static inline bool in_table(const struct node *n, const struct node *other)
{
    uint8_t key[WR_KAD_KEY];
    wr_kad_key(wr_peerid_bytes(wr_swarm_self(other->swarm)), key);
    return wr_kbucket_find(&n->dht->table, key) != NULL;
}

static inline uint64_t asked_by_all(void)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < node_count; i++) {
        struct wr_dht_stats stats;
        wr_dht_stats(nodes[i].dht, &stats);
        sum += stats.asked;
    }
    return sum;
}

/* ---- values */

static inline void pk_of(const struct node *n, struct wr_buf *key, struct wr_buf *value)
{
    wr_buf_init(key, 100);
    wr_buf_init(value, 100);
    wr_key_encode_public(&n->key, value);
    wr_buf_put_cstr(key, "/pk/");
    wr_buf_put_bytes(key, wr_peerid_bytes(wr_swarm_self(n->swarm)));
}

static inline void put_field(struct wr_buf *b, unsigned number, struct wr_bytes value)
{
    wr_buf_put_uvarint(b, number << 3 | 2);
    wr_buf_put_prefixed(b, value);
}

/* An IPNS record of the node, valid for ever; see ipns-record.md. */
static inline void ipns_of(const struct node *n, uint8_t sequence, struct wr_buf *key,
                           struct wr_buf *value)
{
    static const char data_head[] = "\xa5\x63TTL\x00\x65Value\x42/x\x68Sequence";
    static const char data_tail[] = "\x68Validity\x54"
                                    "9999-01-01T00:00:00Z"
                                    "\x6cValidityType\x00";
    struct wr_buf message;
    uint8_t sig[WR_SIG_ED25519];
    wr_buf_init(key, 100);
    wr_buf_init(value, 1000);
    wr_buf_init(&message, 1000);
    wr_buf_put_cstr(key, "/ipns/");
    wr_buf_put_bytes(key, wr_peerid_bytes(wr_swarm_self(n->swarm)));
    wr_buf_put_cstr(&message, "ipns-signature:");
    size_t prefix = message.len;
    wr_buf_put(&message, data_head, sizeof(data_head) - 1);
    wr_buf_put_u8(&message, sequence);
    wr_buf_put(&message, data_tail, sizeof(data_tail) - 1);
    wr_key_sign(&n->key, wr_buf_bytes(&message), sig);
    put_field(value, 8, WR_BYTES(sig, sizeof(sig)));
    put_field(value, 9, WR_BYTES(message.data + prefix, message.len - prefix));
    wr_buf_clear(&message);
}

#endif
