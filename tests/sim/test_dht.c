/* Stories of the DHT in virtual time: finding, being found, keeping values, and coming back. */
#include "tests/sim/dht_world.h"
#include "tests/sim/kv_mem.h"

/* ---- finding -------------------------------------------------------------------------------- */

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
    provide(&nodes[0], &key, 0);
    assert_int_equal(find_providers(&nodes[1], &key, 1), 1);
    tear_down_sim();
}

static void test_everybody_finds_everybody(void **state)
{
    (void)state;
    make_swarm(30, 2);
    sim_run(sim, WR_MIN);
    for (size_t i = 0; i < 30; i++) {
        assert_true(table_of(&nodes[i]) >= 15);
        struct node *target = &nodes[(i * 7 + 3) % 30];
        if (target != &nodes[i])
            assert_int_equal(find_peer(&nodes[i], wr_swarm_self(target->swarm)), 0);
    }
    struct wr_peerid nobody = {.len = 34, .bytes = {0x12, 0x20, 9}};
    assert_int_equal(find_peer(&nodes[3], &nobody), WR_ENOTFOUND);
    tear_down_sim();
}

/* Two nodes of one machine that listen for each other only: a record without addresses would be of
 * no use, and go takes none. */
static void test_one_machine(void **state)
{
    (void)state;
    set_up_sim(43);
    struct node *a = add(WR_DHT_SERVER), *b = &nodes[node_count++];
    stop(a);
    *b = *a;
    wr_key_generate(&b->key, (const uint8_t[WR_ED25519_SEED]){42});
    struct wr_addr at = {.ip = {4, {127, 0, 0, 1}}, .port = 5001};
    start_at(a, WR_DHT_SERVER, &at, "one");
    at.port = 5002;
    start_at(b, WR_DHT_SERVER, &at, "other");
    bootstrap(b, a);
    sim_run(sim, 5 * WR_SEC);
    struct wr_multihash key = key_of("something");
    provide(b, &key, 0);
    assert_int_equal(find_providers(a, &key, 1), 1); /* and with an address */
    wr_dht_unprovide(b->dht, WR_BYTES(key.bytes, key.len));
    provide(a, &key, 0);
    assert_int_equal(find_providers(b, &key, 1), 1);
    tear_down_sim();
}

static void on_connect(void *arg, int err, struct wr_conn *conn)
{
    struct result *r = arg;
    (void)conn;
    r->done = true;
    r->err = err;
}

/* A server that is too busy for the first question. */
static void on_any(struct wr_stream *s, void *arg, struct wr_bytes data)
{
    static const uint8_t answer[] = {2, 0x08, WR_DHT_FIND_NODE};
    unsigned *asked = arg;
    if (data.len == 0 || ++*asked == 1)
        return;
    wr_stream_write(s, answer, sizeof(answer));
    wr_stream_shut(s);
}

static void on_over(struct wr_stream *s, void *arg, int err)
{
    (void)s;
    (void)arg;
    (void)err;
}

static void on_half(struct wr_stream *s, void *arg)
{
    (void)s;
    (void)arg;
}

static void on_question(struct wr_stream *s, void *arg)
{
    static const struct wr_stream_ops busy = {
        .on_data = on_any, .on_eof = on_half, .on_close = on_over};
    wr_stream_set_ops(s, &busy, arg);
}

static void test_busy_at_first(void **state)
{
    unsigned asked = 0;
    struct result r = fresh_result();
    struct wr_protocol protocol = {
        .name = PROTOCOL, .on_stream = on_question, .arg = &asked, .inbound_max = 16};
    (void)state;
    make_swarm(12, 44);
    sim_run(sim, 20 * WR_SEC);
    assert_true(table_of(&nodes[0]) >= WR_DHT_TABLE_LOW); /* no need of it drives it */
    struct node *busy = add(WR_DHT_CLIENT);
    wr_dht_destroy(busy->dht);
    assert_int_equal(wr_swarm_handle(busy->swarm, &protocol), 0);
    assert_int_equal(wr_swarm_connect(busy->swarm, wr_swarm_self(nodes[0].swarm), &nodes[0].addr, 1,
                                      WR_ORIGIN_OWNER, 0, on_connect, &r, NULL),
                     0);
    await(&r);
    sim_run(sim, 15 * WR_SEC);
    assert_int_equal(asked, 1);
    assert_false(in_table(&nodes[0], busy));
    sim_run(sim, WR_MIN);
    assert_true(asked >= 2);
    assert_true(in_table(&nodes[0], busy));
    open_dht(busy, WR_DHT_CLIENT);
    tear_down_sim();
}

/* How many of its 20 nearest a node has in its table. */
static unsigned neighbours_known(const struct node *n)
{
    uint8_t mine[WR_KAD_KEY], key[WR_KAD_KEY], other[WR_KAD_KEY];
    unsigned known = 0;
    wr_kad_key(wr_peerid_bytes(wr_swarm_self(n->swarm)), mine);
    for (size_t i = 0; i < node_count; i++) {
        unsigned nearer = 0;
        wr_kad_key(wr_peerid_bytes(wr_swarm_self(nodes[i].swarm)), key);
        for (size_t k = 0; k < node_count; k++) {
            wr_kad_key(wr_peerid_bytes(wr_swarm_self(nodes[k].swarm)), other);
            nearer += &nodes[k] != n && wr_kad_compare(mine, other, key) < 0;
        }
        known += &nodes[i] != n && nearer < 20 && in_table(n, &nodes[i]);
    }
    return known;
}

/* Whom all others have dialled has no address of its own to start from, and meets more peers at once
 * than it asks side by side: it takes in all the same whom it wants. */
static void test_dialled_by_all(void **state)
{
    (void)state;
    make_swarm(60, 42);
    sim_run(sim, 20 * WR_SEC);
    wr_dht_destroy(nodes[0].dht);
    open_dht(&nodes[0], WR_DHT_SERVER);
    assert_int_equal(table_of(&nodes[0]), 0);
    sim_run(sim, 20 * WR_SEC);
    /* Of the far half of the network 20 have room. */
    assert_true(table_of(&nodes[0]) >= 40);
    assert_int_equal(neighbours_known(&nodes[0]), 20);
    tear_down_sim();
}

static void test_nobody_to_ask(void **state)
{
    (void)state;
    set_up_sim(3);
    struct node *lone = add(WR_DHT_SERVER);
    struct wr_peerid nobody = {.len = 34, .bytes = {0x12, 0x20, 9}};
    int err;
    wr_time began = sim_now(sim);
    assert_int_equal(find_peer(lone, &nobody), WR_EUNREACH);
    assert_true(sim_now(sim) - began <= 10 * WR_SEC);
    struct wr_multihash key = key_of("nobody has it");
    struct result r = fresh_result();
    assert_non_null(wr_dht_find_providers(lone->dht, WR_BYTES(key.bytes, key.len), 0, &ops, &r, &err));
    await(&r);
    assert_int_equal(r.err, WR_EUNREACH);
    uint8_t record[40] = "/pk/\x12\x20";
    r = fresh_result();
    assert_non_null(wr_dht_get_value(lone->dht, WR_BYTES(record, 38), 0, &ops, &r, &err));
    await(&r);
    assert_int_equal(r.err, WR_EUNREACH);
    assert_null(wr_dht_find_peer(lone->dht, wr_swarm_self(lone->swarm), &ops, NULL, &err));
    assert_int_equal(err, WR_EINVAL);
    tear_down_sim();
}

/* A question asked before the first peer is known waits for it. */
static void test_question_before_the_first_peer(void **state)
{
    (void)state;
    make_swarm(2, 4);
    assert_int_equal(find_peer(&nodes[1], wr_swarm_self(nodes[0].swarm)), 0);
    tear_down_sim();
}

/* Providers stay findable after a third of the network has died, and records sit where they belong.
 */
static void test_providers_outlive_a_third(void **state)
{
    (void)state;
    make_swarm(30, 5);
    sim_run(sim, WR_MIN);
    struct wr_multihash key = key_of("popular");
    for (size_t i = 0; i < 5; i++)
        provide(&nodes[i], &key, 0);
    size_t records = 0;
    for (size_t i = 0; i < 30; i++)
        records += nodes[i].dht->store.providers;
    assert_true(records >= 5 * 15 && records <= 5 * 20);
    for (size_t i = 10; i < 20; i++)
        switch_off(&nodes[i]);
    wr_time began = sim_now(sim);
    assert_true(find_providers(&nodes[25], &key, 0) == 5);
    assert_true(sim_now(sim) - began < 10 * WR_SEC);
    struct wr_multihash other = key_of("nobody has it");
    assert_int_equal(find_providers(&nodes[25], &other, 0), 0);
    /* A second search knows who is dead. */
    began = sim_now(sim);
    assert_true(find_providers(&nodes[25], &key, 3) == 3);
    assert_true(sim_now(sim) - began < 2 * WR_SEC);
    tear_down_sim();
}

/* How long a connected peer is waited for is its own round trip's business: that strangers take long to answer, or
 * never did, makes no difference. */
static void test_silent_neighbours_are_given_up_soon(void **state)
{
    (void)state;
    make_swarm(30, 22);
    sim_run(sim, WR_MIN);
    struct node *n = &nodes[0];
    struct wr_multihash key = key_of("nobody has it");
    for (size_t i = 0; i < 30; i++)
        assert_true(i == 0 || wr_swarm_conn(n->swarm, wr_swarm_self(nodes[i].swarm)));
    for (size_t i = 1; i < 5; i++)
        sim_pause(nodes[i].host, true);
    n->dht->pace.p99 = 8 * WR_SEC;
    wr_time began = sim_now(sim);
    assert_int_equal(find_providers(n, &key, 0), 0);
    assert_true(sim_now(sim) - began < 4 * WR_SEC);
    for (size_t i = 1; i < 5; i++)
        sim_pause(nodes[i].host, false);
    tear_down_sim();
}

struct put_watch {
    struct wr_dht_request *request;
    struct result result;
    unsigned early;    /* told before the search was over */
};

static bool puts_are_early(void *arg)
{
    struct put_watch *w = arg;
    if (!w->result.done && !w->request->putting)
        w->early = w->request->puts;
    return !w->result.done;
}

static void on_put_over(void *arg, int err)
{
    on_done(&((struct put_watch *)arg)->result, err);
}

/* How many are told of a key before the search for its nearest peers is over. */
static unsigned told_early(struct node *n, const char *name)
{
    static const struct wr_dht_ops watched = {.on_done = on_put_over};
    struct wr_multihash key = key_of(name);
    struct put_watch w = {.result = fresh_result()};
    int err;
    w.request = wr_dht_provide(n->dht, WR_BYTES(key.bytes, key.len), &watched, &w, &err);
    assert_non_null(w.request);
    sim_run_while(sim, puts_are_early, &w, 70 * WR_SEC);
    assert_true(w.result.done);
    assert_int_equal(w.result.err, 0);
    return w.early;
}

/* Who knows the size of the network knows at a peer's answer whether it is one of the nearest, and leaves the record
 * with it at once; who does not waits for the end of the search. */
static void test_optimistic_provide(void **state)
{
    (void)state;
    char name[32];
    make_swarm(NODES_MAX, 9);
    sim_run(sim, 3 * WR_MIN);
    struct node *n = &nodes[NODES_MAX / 2];
    unsigned unknown = 0, known = 0;
    for (unsigned i = 0; i < 10; i++) {
        wr_netsize_init(&n->dht->netsize);
        (void)snprintf(name, sizeof(name), "size unknown %u", i);
        unknown += told_early(n, name);
    }
    assert_int_equal(unknown, 0);
    assert_true(wr_netsize_estimate(&n->dht->netsize, wr_env_now(n->env)) == 0);
    for (unsigned i = 0; i < WR_NETSIZE_SAMPLES_MIN; i++) {
        (void)snprintf(name, sizeof(name), "size learnt %u", i);
        (void)told_early(n, name);
    }
    uint64_t size = wr_netsize_estimate(&n->dht->netsize, wr_env_now(n->env));
    assert_in_range(size, NODES_MAX / 2, NODES_MAX * 2);
    for (unsigned i = 0; i < 10; i++) {
        (void)snprintf(name, sizeof(name), "size known %u", i);
        known += told_early(n, name);
    }
    print_message("told before the search was over: %u of 10 keys' peers\n", known);
    assert_true(known >= 10);
    tear_down_sim();
}

/* A client is found through servers that remember it, though nobody would ask it. */
static void test_client_is_found(void **state)
{
    (void)state;
    make_swarm(10, 6);
    struct node *client = add(WR_DHT_CLIENT);
    bootstrap(client, &nodes[0]);
    sim_run(sim, WR_MIN);
    assert_false(wr_dht_serving(client->dht));
    for (size_t i = 0; i < 10; i++) {
        assert_false(in_table(&nodes[i], client));
        assert_int_not_equal(wr_peerstore_speaks(wr_swarm_peerstore(nodes[i].swarm),
                                                 wr_swarm_self(client->swarm), PROTOCOL),
                             1);
    }
    assert_true(table_of(client) >= 5);
    assert_int_equal(find_peer(&nodes[7], wr_swarm_self(client->swarm)), 0);
    struct wr_multihash key = key_of("the client has it");
    provide(client, &key, 0);
    assert_int_equal(find_providers(&nodes[4], &key, 1), 1);
    tear_down_sim();
}

/* A dial by id alone asks the DHT. */
static void test_dial_by_id(void **state)
{
    (void)state;
    make_swarm(20, 7);
    sim_run(sim, WR_MIN);
    struct node *newcomer = add(WR_DHT_CLIENT);
    bootstrap(newcomer, &nodes[0]);
    struct wr_router router = wr_dht_router(newcomer->dht);
    wr_swarm_set_router(newcomer->swarm, &router);
    struct result r = fresh_result();
    assert_int_equal(wr_swarm_connect(newcomer->swarm, wr_swarm_self(nodes[13].swarm), NULL, 0,
                                      WR_ORIGIN_STRANGER, WR_CONNECT_ROUTE, on_connect, &r, NULL),
                     0);
    await(&r);
    assert_int_equal(r.err, 0);
    struct wr_peerid nobody = {.len = 34, .bytes = {0x12, 0x20, 9}};
    r = fresh_result();
    assert_int_equal(wr_swarm_connect(newcomer->swarm, &nobody, NULL, 0, WR_ORIGIN_STRANGER,
                                      WR_CONNECT_ROUTE, on_connect, &r, NULL),
                     0);
    await(&r);
    assert_int_not_equal(r.err, 0);
    tear_down_sim();
}

/* A router is taken back while a dial waits for it; then the DHT may end, though the swarm lives on. */
static void test_router_taken_back(void **state)
{
    (void)state;
    set_up_sim(34);
    struct node *lone = add(WR_DHT_CLIENT);
    struct wr_router router = wr_dht_router(lone->dht);
    struct wr_peerid nobody = {.len = 34, .bytes = {0x12, 0x20, 9}};
    struct result r;
    struct wr_dht_stats stats;
    for (unsigned end = 0; end < 2; end++) {
        r = fresh_result();
        wr_swarm_set_router(lone->swarm, &router);
        assert_int_equal(wr_swarm_connect(lone->swarm, &nobody, NULL, 0, WR_ORIGIN_STRANGER,
                                          WR_CONNECT_ROUTE, on_connect, &r, NULL),
                         0);
        sim_run(sim, WR_SEC);
        wr_dht_stats(lone->dht, &stats);
        assert_int_equal(stats.searches, 1);
        assert_false(r.done);
        wr_swarm_set_router(lone->swarm, NULL);
        if (end)
            break;
        sim_run(sim, WR_SEC);
        assert_true(r.done);
        assert_int_equal(r.err, WR_EUNREACH);
    }
    stop(lone);
    assert_true(r.done);
    tear_down_sim();
}

/* ---- values --------------------------------------------------------------------------------- */

static void test_public_key_is_kept(void **state)
{
    (void)state;
    make_swarm(12, 8);
    sim_run(sim, WR_MIN);
    struct wr_buf key, value;
    pk_of(&nodes[3], &key, &value);
    assert_int_equal(put_value(&nodes[3], &key, &value), 0);
    struct wr_buf got;
    assert_int_equal(get_value(&nodes[9], &key, 0, &got), 0);
    assert_true(wr_bytes_equal(wr_buf_bytes(&got), wr_buf_bytes(&value)));
    wr_buf_clear(&got);
    int err;
    assert_null(wr_dht_put_value(nodes[3].dht, wr_buf_bytes(&key), WR_BYTES_STR("wrong"), &ops,
                                 NULL, &err));
    assert_int_equal(err, WR_EPROTO);
    assert_null(
        wr_dht_put_value(nodes[3].dht, WR_BYTES_STR("/x/y"), WR_BYTES_STR("v"), &ops, NULL, &err));
    assert_int_equal(err, WR_EUNSUPPORTED);
    key.data[key.len - 1] ^= 1;
    assert_int_equal(get_value(&nodes[9], &key, 0, &got), WR_ENOTFOUND);
    wr_buf_clear(&got);
    wr_buf_clear(&key);
    wr_buf_clear(&value);
    tear_down_sim();
}

static size_t holders(const struct wr_buf *key, const struct wr_buf *value)
{
    size_t count = 0;
    for (size_t i = 0; i < node_count; i++) {
        struct wr_buf got, received;
        wr_buf_init(&got, 16384);
        wr_buf_init(&received, 64);
        if (wr_store_get_value(&nodes[i].dht->store, wr_buf_bytes(key), &got, &received) == 0) {
            count += wr_bytes_equal(wr_buf_bytes(&got), wr_buf_bytes(value));
            assert_true(received.len >= 20);
        }
        wr_buf_clear(&got);
        wr_buf_clear(&received);
    }
    return count;
}

/* Half of the holders miss an update; whoever reads it next repairs them. */
static void test_correction(void **state)
{
    (void)state;
    make_swarm(12, 9);
    sim_run(sim, WR_MIN);
    struct wr_buf key, old, fresh, got;
    ipns_of(&nodes[0], 1, &key, &old);
    wr_buf_clear(&key);
    ipns_of(&nodes[0], 2, &key, &fresh);
    assert_int_equal(put_value(&nodes[0], &key, &old), 0);
    sim_run(sim, 5 * WR_SEC);
    assert_int_equal(holders(&key, &old), 11);
    for (size_t i = 6; i < 12; i++)
        sim_set_side(nodes[i].host, 1);
    assert_int_equal(put_value(&nodes[0], &key, &fresh), 0);
    sim_run(sim, 30 * WR_SEC); /* what is under way to the others is given up */
    sim_heal(sim);
    sim_run(sim, 3 * WR_MIN);
    assert_true(holders(&key, &fresh) <= 6 && holders(&key, &old) >= 5);
    assert_int_equal(get_value(&nodes[11], &key, 0, &got), 0);
    assert_true(wr_bytes_equal(wr_buf_bytes(&got), wr_buf_bytes(&fresh)));
    wr_buf_clear(&got);
    sim_run(sim, 10 * WR_SEC);
    assert_int_equal(holders(&key, &old), 0);
    /* A worse value is refused by those who have the better one. */
    assert_int_equal(put_value(&nodes[5], &key, &old), WR_EREFUSED);
    wr_buf_clear(&key);
    wr_buf_clear(&old);
    wr_buf_clear(&fresh);
    tear_down_sim();
}

/* ---- serving -------------------------------------------------------------------------------- */

static bool still_serving(void *arg)
{
    return wr_dht_serving(((struct node *)arg)->dht);
}

/* In a network of one's own: serving while all are near, resting when peers from afar come and
 * nobody confirms an address of ours, serving again once one is confirmed. */
static void test_mode_follows_reachability(void **state)
{
    (void)state;
    make_swarm(5, 18);
    sim_run(sim, 4 * WR_MIN);
    struct node *n = add(WR_DHT_AUTO);
    assert_true(wr_dht_serving(n->dht));
    bootstrap(n, &nodes[0]);
    sim_run(sim, WR_MIN);
    assert_true(wr_dht_serving(n->dht)); /* not down at once */
    assert_true(in_table(&nodes[0], n));
    sim_run_while(sim, still_serving, n, 11 * WR_MIN);
    assert_false(wr_dht_serving(n->dht));
    assert_int_equal(n->events[WR_DHT_RESTING], 1);
    sim_run(sim, 3 * WR_SEC);
    for (size_t i = 0; i < 5; i++)
        assert_false(in_table(&nodes[i], n)); /* identify's push told them */
    judge(n, WR_ADDR_REACHABLE);
    sim_run(sim, 20 * WR_SEC);
    assert_true(wr_dht_serving(n->dht));
    assert_int_equal(n->events[WR_DHT_SERVING], 2);
    assert_true(in_table(&nodes[0], n));
    judge(n, WR_ADDR_UNREACHABLE);
    sim_run(sim, 5 * WR_MIN);
    judge(n, WR_ADDR_REACHABLE);
    sim_run(sim, 10 * WR_MIN);
    assert_true(wr_dht_serving(n->dht)); /* a short doubt changes nothing */
    assert_int_equal(n->events[WR_DHT_RESTING], 1);
    wr_dht_set_mode(n->dht, WR_DHT_CLIENT);
    assert_false(wr_dht_serving(n->dht));
    tear_down_sim();
}

/* That strangers do not reach us is no doubt: whoever goes on serving then is in everybody's way. */
static void test_private_rests_within_a_second(void **state)
{
    (void)state;
    make_swarm(5, 19);
    struct node *n = add(WR_DHT_AUTO);
    bootstrap(n, &nodes[0]);
    judge(n, WR_ADDR_REACHABLE);
    wr_swarm_set_reachability(n->swarm, 4, WR_REACH_PUBLIC);
    sim_run(sim, WR_MIN);
    assert_true(wr_dht_serving(n->dht));
    judge(n, WR_ADDR_UNREACHABLE);
    wr_swarm_set_reachability(n->swarm, 4, WR_REACH_UNKNOWN);
    sim_run(sim, WR_MIN);
    assert_true(wr_dht_serving(n->dht)); /* nothing is known: wait */
    wr_swarm_set_reachability(n->swarm, 4, WR_REACH_PRIVATE);
    sim_run(sim, WR_SEC);
    assert_false(wr_dht_serving(n->dht));
    sim_run(sim, 3 * WR_SEC);
    assert_false(in_table(&nodes[0], n)); /* identify's push told them */
    judge(n, WR_ADDR_REACHABLE);
    wr_swarm_set_reachability(n->swarm, 4, WR_REACH_PUBLIC);
    sim_run(sim, WR_SEC);
    assert_true(wr_dht_serving(n->dht));
    assert_int_equal(wr_peerstore_speaks(wr_swarm_peerstore(nodes[0].swarm), wr_swarm_self(n->swarm),
                                         PROTOCOL), 1);
    tear_down_sim();
}

/* ---- ends ----------------------------------------------------------------------------------- */

static struct wr_dht_request *to_cancel;

static void cancel_on_peer(void *arg, const struct wr_dht_peer *peer)
{
    (void)peer;
    ++*(unsigned *)arg;
    wr_dht_cancel(to_cancel);
}

static void must_not_end(void *arg, int err)
{
    (void)arg;
    (void)err;
    fail();
}

/* Cancelled from its own callback, or at any moment, a request makes no more calls. */
static void test_cancel(void **state)
{
    (void)state;
    static const struct wr_dht_ops cancelling = {.on_peer = cancel_on_peer,
                                                 .on_done = must_not_end};
    static const struct wr_dht_ops never = {.on_done = must_not_end};
    int err;
    make_swarm(12, 20);
    sim_run(sim, WR_MIN);
    struct wr_multihash key = key_of("shared");
    for (size_t i = 0; i < 6; i++)
        provide(&nodes[i], &key, 0);
    unsigned calls = 0;
    to_cancel = wr_dht_find_providers(nodes[10].dht, WR_BYTES(key.bytes, key.len), 0, &cancelling,
                                      &calls, &err);
    sim_run(sim, 10 * WR_SEC);
    assert_int_equal(calls, 1);
    calls = 0;
    to_cancel =
        wr_dht_find_closest(nodes[10].dht, WR_BYTES(key.bytes, key.len), &cancelling, &calls, &err);
    sim_run(sim, 10 * WR_SEC);
    assert_int_equal(calls, 1);
    for (unsigned ms = 0; ms < 600; ms += 30) {
        struct wr_dht_request *r =
            wr_dht_provide(nodes[10].dht, WR_BYTES(key.bytes, key.len), &never, NULL, &err);
        assert_non_null(r);
        sim_run(sim, ms * WR_MSEC > 250 * WR_MSEC ? 10 * WR_MSEC : ms * WR_MSEC);
        wr_dht_cancel(r);
        sim_run(sim, WR_SEC);
    }
    assert_int_equal(nodes[10].limits.of[WR_LIMIT_QUERIES].used, 0);
    tear_down_sim();
}

/* The DHT is destroyed at some moment of a busy run, everywhere. */
static void test_end_in_the_middle(void **state)
{
    (void)state;
    int err;
    for (unsigned round = 0; round < 12; round++) {
        make_swarm(8, 21 + round);
        static struct result r[8];
        struct wr_multihash key = key_of("busy");
        for (size_t i = 0; i < 8; i++) {
            r[i] = fresh_result();
            wr_dht_provide(nodes[i].dht, WR_BYTES(key.bytes, key.len), &ops, &r[i], &err);
            wr_dht_join(nodes[i].dht, WR_BYTES_STR("name"), &ops, &r[i], &err);
        }
        sim_run(sim, round * 137 * WR_MSEC);
        tear_down_sim();
    }
}

static void disks_fail(int err)
{
    for (size_t i = 0; i < node_count; i++)
        kv_mem_disk_for(nodes[i].env, "store")->fail = err;
}

/* The allocations of a busy while (some 370) fail, three at a time in turn: nothing crashes, leaks
 * or is stuck. */
static void test_out_of_memory(void **state)
{
    (void)state;
    int err;
    for (unsigned skip = 0; skip < 400; skip += 3) {
        make_swarm(4, 40);
        static struct result r[4];
        struct wr_multihash key = key_of("scarce");
        sim_run(sim, 3 * WR_SEC);
        disks_fail(WR_EFULL); /* they are not for running out of memory: kv_mem.c */
        sim_alloc_fail(skip, 3);
        for (size_t i = 0; i < 4; i++) {
            r[i] = fresh_result();
            if (!wr_dht_provide(nodes[i].dht, WR_BYTES(key.bytes, key.len), &ops, &r[i], &err))
                r[i].done = true;
        }
        sim_run(sim, 20 * WR_SEC);
        sim_alloc_fail(0, 0);
        disks_fail(0);
        sim_run(sim, 60 * WR_SEC);
        for (size_t i = 0; i < 4; i++)
            assert_true(r[i].done);
        sim_run(sim, 5 * WR_MIN);
        assert_true(find_providers(&nodes[0], &key, 0) >= 2);
        tear_down_sim();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_nodes),
        cmocka_unit_test(test_everybody_finds_everybody),
        cmocka_unit_test(test_one_machine),
        cmocka_unit_test(test_busy_at_first),
        cmocka_unit_test(test_dialled_by_all),
        cmocka_unit_test(test_nobody_to_ask),
        cmocka_unit_test(test_question_before_the_first_peer),
        cmocka_unit_test(test_providers_outlive_a_third),
        cmocka_unit_test(test_silent_neighbours_are_given_up_soon),
        cmocka_unit_test(test_optimistic_provide),
        cmocka_unit_test(test_client_is_found),
        cmocka_unit_test(test_dial_by_id),
        cmocka_unit_test(test_router_taken_back),
        cmocka_unit_test(test_public_key_is_kept),
        cmocka_unit_test(test_correction),
        cmocka_unit_test(test_mode_follows_reachability),
        cmocka_unit_test(test_private_rests_within_a_second),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_end_in_the_middle),
        cmocka_unit_test(test_out_of_memory),
    };
    if (getenv("DHT_TEST"))
        cmocka_set_test_filter(getenv("DHT_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
