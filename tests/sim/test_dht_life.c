/* The DHT over time: restarts, peers that come and go, names joined and left. */
#include "tests/sim/dht_world.h"

/* ---- coming and going ----------------------------------------------------------------------- */

/* Five nodes come back after a week with every bootstrap address dead: from the table that each
 * saved. */
static void test_restart_from_disk(void **state)
{
    (void)state;
    make_swarm(6, 10);
    sim_run(sim, 15 * WR_MIN);
    for (size_t i = 0; i < 6; i++)
        switch_off(&nodes[i]);
    sim_run(sim, 7 * 24 * WR_HOUR);
    for (size_t i = 1; i < 6; i++) {
        switch_on(&nodes[i], WR_DHT_SERVER);
        bootstrap(&nodes[i], &nodes[0]);
    }
    sim_run(sim, 10 * WR_SEC);
    for (size_t i = 1; i < 6; i++)
        assert_true(table_of(&nodes[i]) >= 3);
    assert_int_equal(find_peer(&nodes[1], wr_swarm_self(nodes[5].swarm)), 0);
    tear_down_sim();
}

static void ignore_connect(void *arg, int err, struct wr_conn *conn)
{
    (void)arg;
    (void)err;
    (void)conn;
}

static void hang_up(struct wr_conn *c, void *arg)
{
    (void)arg;
    wr_conn_close(c, WR_CONN_OK);
}

/* A crowd of visitors brings a server above its high water: of the connections that have to go none is of a peer in its
 * table, though those came before the last of the visitors. */
static void test_the_table_outlives_a_crowd(void **state)
{
    (void)state;
    enum { EARLY = 20, SERVERS = 9, LATE = 8, PLACES = 40, LOW = 30 };
    static struct node visitors[EARLY + LATE];
    make_swarm(1, 15);
    nodes[0].limits.of[WR_LIMIT_CONNS_INBOUND].max = PLACES;
    memset(visitors, 0, sizeof(visitors));
    for (unsigned i = 0; i < EARLY + LATE; i++) {
        struct node *v = &visitors[i];
        uint8_t seed[WR_ED25519_SEED] = {(uint8_t)(i + 1), 9};
        if (i == EARLY) {
            for (unsigned k = 1; k <= SERVERS; k++) {
                add(WR_DHT_SERVER);
                bootstrap(&nodes[k], &nodes[0]);
            }
            sim_run(sim, WR_MIN);
            assert_int_equal(table_of(&nodes[0]), SERVERS);
        }
        v->host = sim_host_add(sim, &(struct sim_host_options){.name = "visitor"});
        v->env = sim_host_env(v->host);
        wr_key_generate(&v->key, seed);
        assert_int_equal(wr_limits_init(&v->limits, LIMITS), 0);
        v->swarm = wr_swarm_create(
            &(struct wr_swarm_options){.env = v->env, .limits = &v->limits, .identity = &v->key});
        assert_non_null(v->swarm);
        assert_int_equal(wr_swarm_connect(v->swarm, wr_swarm_self(nodes[0].swarm), &nodes[0].addr, 1, WR_ORIGIN_OWNER,
                                          0, ignore_connect, NULL, NULL),
                         0);
        sim_run(sim, WR_SEC);
    }
    assert_int_equal(nodes[0].limits.of[WR_LIMIT_CONNS_INBOUND].used, EARLY + SERVERS + LATE);
    sim_run(sim, 2 * WR_MIN);
    assert_int_equal(nodes[0].limits.of[WR_LIMIT_CONNS_INBOUND].used, LOW);
    for (unsigned k = 1; k <= SERVERS; k++)
        assert_non_null(wr_swarm_conn(nodes[0].swarm, wr_swarm_self(nodes[k].swarm)));
    for (unsigned i = 0; i < EARLY + LATE; i++)
        wr_swarm_destroy(visitors[i].swarm);
    tear_down_sim();
}

/* What we provide is announced again after a restart, without anybody asking for it. */
static void test_provided_keys_outlive_a_restart(void **state)
{
    (void)state;
    make_swarm(6, 11);
    sim_run(sim, WR_MIN);
    struct wr_multihash key = key_of("mine"), dropped = key_of("not mine any more");
    provide(&nodes[5], &key, 0);
    provide(&nodes[5], &dropped, 0);
    assert_true(wr_dht_unprovide(nodes[5].dht, WR_BYTES(dropped.bytes, dropped.len)));
    assert_false(wr_dht_unprovide(nodes[5].dht, WR_BYTES(dropped.bytes, dropped.len)));
    sim_run(sim, 15 * WR_MIN);
    switch_off(&nodes[5]);
    sim_run(sim, 49 * WR_HOUR);
    assert_int_equal(find_providers(&nodes[2], &key, 0), 0);
    switch_on(&nodes[5], WR_DHT_SERVER);
    bootstrap(&nodes[5], &nodes[0]);
    sim_run(sim, WR_MIN);
    assert_int_equal(find_providers(&nodes[2], &key, 0), 1);
    assert_int_equal(find_providers(&nodes[2], &dropped, 0), 0);
    /* And every day from then on. */
    sim_run(sim, 49 * WR_HOUR);
    size_t records = 0;
    for (size_t i = 0; i < 5; i++)
        records += nodes[i].dht->store.providers;
    assert_int_equal(records, 5);
    tear_down_sim();
}

/* Connections come and go; the peers of the table are found again at the addresses kept with them.
 */
static void test_table_outlives_connections(void **state)
{
    (void)state;
    make_swarm(5, 30);
    sim_run(sim, WR_MIN);
    for (unsigned i = 0; i < 300; i++) {
        for (size_t j = 0; j < 5; j++) {
            assert_int_equal(wr_dht_set_bootstrap(nodes[j].dht, NULL, 0), 0);
            wr_swarm_each(nodes[j].swarm, hang_up, NULL);
        }
        sim_run(sim, WR_MIN);
    }
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(table_of(&nodes[i]), 4);
    assert_int_equal(find_peer(&nodes[1], wr_swarm_self(nodes[4].swarm)), 0);
    tear_down_sim();
}

/* The only bootstrap peer is off when we start, and comes ten minutes later: two minutes and we are
 * in. */
static void test_bootstrap_comes_late(void **state)
{
    (void)state;
    set_up_sim(12);
    struct node *server = add(WR_DHT_SERVER);
    struct node *early = add(WR_DHT_SERVER);
    switch_off(server);
    bootstrap(early, server);
    sim_run(sim, 10 * WR_MIN);
    assert_int_equal(table_of(early), 0);
    switch_on(server, WR_DHT_SERVER);
    sim_run(sim, 3 * WR_MIN);
    assert_int_equal(table_of(early), 1);
    tear_down_sim();
}

/* Two nodes whose bootstrap is each other, started a moment apart, in both orders. */
static void test_start_order(void **state)
{
    (void)state;
    for (unsigned order = 0; order < 2; order++) {
        set_up_sim(13 + order);
        struct node *a = add(WR_DHT_SERVER), *b = add(WR_DHT_SERVER);
        struct node *late = order ? a : b;
        switch_off(late);
        bootstrap(order ? b : a, late);
        sim_run(sim, 1600 * WR_MSEC);
        switch_on(late, WR_DHT_SERVER);
        bootstrap(late, order ? b : a);
        sim_run(sim, 10 * WR_SEC);
        assert_int_equal(table_of(a), 1);
        assert_int_equal(table_of(b), 1);
        tear_down_sim();
    }
}

/* Cut off from everybody, a node keeps its table: it is what brings it back. */
static void test_cut_off(void **state)
{
    (void)state;
    make_swarm(20, 15);
    sim_run(sim, WR_MIN);
    struct wr_peerid nobody = {.len = 34, .bytes = {0x12, 0x20, 9}};
    size_t before = table_of(&nodes[4]);
    sim_set_side(nodes[4].host, 1);
    sim_run(sim, 2 * WR_MIN);
    find_peer(&nodes[4], &nobody);
    find_peer(&nodes[4], &nobody);
    assert_true(table_of(&nodes[4]) * 4 >= before * 3);
    sim_heal(sim);
    sim_run(sim, 5 * WR_SEC);
    assert_int_equal(find_peer(&nodes[4], wr_swarm_self(nodes[9].swarm)), 0);
    tear_down_sim();
}

/* Forty nodes restarted within one second find together within a minute. */
static void test_restart_storm(void **state)
{
    (void)state;
    make_swarm(40, 16);
    sim_run(sim, 12 * WR_MIN);
    for (size_t i = 0; i < 40; i++)
        switch_off(&nodes[i]);
    sim_run(sim, WR_MIN);
    for (size_t i = 0; i < 40; i++) {
        switch_on(&nodes[i], WR_DHT_SERVER);
        sim_run(sim, 15 * WR_MSEC);
    }
    sim_run(sim, WR_MIN);
    for (size_t i = 0; i < 40; i++)
        assert_true(table_of(&nodes[i]) >= 20);
    tear_down_sim();
}

/* Nodes that get their power back in the same moment do not all ask in the same one. */
static void test_restarts_are_jittered(void **state)
{
    (void)state;
    make_swarm(20, 23);
    sim_run(sim, 12 * WR_MIN);
    for (size_t i = 1; i < 20; i++)
        switch_off(&nodes[i]);
    sim_run(sim, WR_MIN);
    for (size_t i = 1; i < 20; i++)
        switch_on(&nodes[i], WR_DHT_SERVER);
    unsigned asking = 0, half = 0;
    for (unsigned at = 0; at < 12; at++) {
        sim_run(sim, 100 * WR_MSEC);
        asking = 0;
        for (size_t i = 1; i < 20; i++)
            asking += nodes[i].dht->counted.asked > 0;
        half = at == 4 ? asking : half;
    }
    assert_in_range(half, 3, 16);
    assert_int_equal(asking, 19);
    tear_down_sim();
}

/* What was announced in one moment is announced again spread over an hour, each key within its day. */
static void test_announcements_are_jittered(void **state)
{
    enum { KEYS = 40, PARTS = 6 };
    (void)state;
    make_swarm(6, 24);
    sim_run(sim, 15 * WR_MIN);
    struct node *host = &nodes[5];
    for (unsigned i = 0; i < KEYS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "key %u", i);
        struct wr_multihash key = key_of(name);
        provide(host, &key, 0);
    }
    sim_run(sim, WR_DHT_REANNOUNCE - 62 * WR_MIN);
    uint64_t before = host->dht->counted.asked, all = 0, parts[PARTS];
    for (unsigned i = 0; i < PARTS; i++) {
        sim_run(sim, 62 * WR_MIN / PARTS);
        parts[i] = host->dht->counted.asked - before - all;
        all += parts[i];
    }
    assert_true(all >= KEYS); /* at least one question each */
    for (unsigned i = 0; i < PARTS; i++)
        assert_in_range(parts[i], all / 20, all / 3);
    tear_down_sim();
}

static void expect_twin(const struct node *n, const struct node *twin)
{
    struct wr_addr at;
    assert_true(wr_swarm_twin(n->swarm, &at));
    assert_true(wr_ip_equal(&at.ip, sim_host_ip4(twin->host)));
}

/* A copy of our identity runs elsewhere, on no link of ours and dialled by nobody: those who know both tell. */
static void test_one_identity_on_two_machines(void **state)
{
    struct wr_addr at;
    (void)state;
    make_swarm(8, 54);
    sim_run(sim, WR_MIN);
    struct node *a = add(WR_DHT_SERVER);
    bootstrap(a, &nodes[0]);
    sim_run(sim, 30 * WR_MIN);
    assert_false(wr_swarm_twin(a->swarm, &at));
    struct node *b = add_as(&a->key, (struct wr_ip){0}, WR_DHT_SERVER);
    bootstrap(b, &nodes[0]);
    sim_run(sim, 3 * WR_HOUR);
    expect_twin(a, b);
    expect_twin(b, a);
    for (size_t i = 0; i < 8; i++)
        assert_false(wr_swarm_twin(nodes[i].swarm, &at));
    tear_down_sim();
}

/* Only the local part is up: no traffic beyond refreshing, and less and less of it. */
static void test_quiet_when_idle(void **state)
{
    (void)state;
    make_swarm(10, 17);
    sim_run(sim, 6 * WR_HOUR);
    uint64_t before = asked_by_all();
    sim_run(sim, 6 * WR_HOUR);
    /* Per node and hour: a search of its own every two hours (9 questions) and a check of each
     * entry. */
    assert_true(asked_by_all() - before <= 10 * 6 * 25);
    tear_down_sim();
}

/* ---- names ---------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    (void)state;
    static const struct wr_dht_ops name_ops = {.on_peer = on_peer};
    struct result met[5];
    struct wr_dht_name *names[5];
    int err;
    make_swarm(15, 19);
    sim_run(sim, WR_MIN);
    for (size_t i = 0; i < 5; i++) {
        met[i] = fresh_result();
        names[i] =
            wr_dht_join(nodes[3 * i].dht, WR_BYTES_STR("example-chat"), &name_ops, &met[i], &err);
        assert_non_null(names[i]);
        sim_run(sim, 20 * WR_SEC);
    }
    sim_run(sim, 12 * WR_MIN);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(met[i].peers, 4);
        for (size_t j = 0; j < 5; j++)
            assert_int_equal(told_of(&met[i], &nodes[3 * j]), i != j);
    }
    struct wr_multihash key;
    wr_namespace_key(WR_BYTES_STR("example-chat"), &key);
    assert_int_equal(find_providers(&nodes[1], &key, 0), 5);
    assert_true(wr_dht_provides(nodes[0].dht, WR_BYTES(key.bytes, key.len)));
    wr_dht_leave(names[0]);
    assert_false(wr_dht_provides(nodes[0].dht, WR_BYTES(key.bytes, key.len)));
    uint64_t asked = asked_by_all();
    for (size_t i = 1; i < 5; i++)
        wr_dht_leave(names[i]);
    sim_run(sim, WR_MIN);
    assert_true(asked_by_all() - asked < 10);
    assert_null(wr_dht_join(nodes[1].dht, WR_BYTES_NONE, &name_ops, &met[0], &err));
    assert_int_equal(err, WR_EINVAL);
    tear_down_sim();
}

/* Joined and provided before there is anybody to tell: told as soon as somebody turns up. */
static void test_announced_before_the_first_peer(void **state)
{
    (void)state;
    static const struct wr_dht_ops name_ops = {.on_peer = on_peer};
    struct result met[2] = {fresh_result(), fresh_result()};
    struct wr_multihash key = key_of("early"), key_waited = key_of("early, and waited for");
    int err;
    make_swarm(10, 51);
    sim_run(sim, WR_MIN);
    struct node *n = add(WR_DHT_SERVER);
    provide(n, &key_waited, WR_EUNREACH);
    assert_null(wr_dht_provide(n->dht, WR_BYTES(key.bytes, key.len), NULL, NULL, &err));
    assert_int_equal(err, 0);
    struct wr_dht_name *early =
        wr_dht_join(n->dht, WR_BYTES_STR("early birds"), &name_ops, &met[0], &err);
    struct wr_dht_name *there =
        wr_dht_join(nodes[4].dht, WR_BYTES_STR("early birds"), &name_ops, &met[1], &err);
    sim_run(sim, 20 * WR_SEC);
    bootstrap(n, &nodes[0]);
    sim_run(sim, 15 * WR_SEC);
    assert_int_equal(met[0].peers, 1);
    size_t records = 0;
    for (size_t i = 0; i < 10; i++)
        records += nodes[i].dht->store.providers;
    assert_true(records >= 3 * 10 + 9);
    wr_dht_leave(early);
    wr_dht_leave(there);
    tear_down_sim();
}

/* What was joined is left for good, also by a node that was restarted meanwhile; what the owner
 * provides under the same key stays. */
static void test_a_name_left_after_a_restart(void **state)
{
    (void)state;
    static const struct wr_dht_ops name_ops = {.on_peer = on_peer};
    struct result met = fresh_result();
    struct wr_multihash key;
    int err;
    wr_namespace_key(WR_BYTES_STR("tea"), &key);
    make_swarm(2, 52);
    struct node *n = &nodes[1];
    for (unsigned provided = 0; provided < 2; provided++) {
        assert_non_null(wr_dht_join(n->dht, WR_BYTES_STR("tea"), &name_ops, &met, &err));
        if (provided)
            provide(n, &key, 0);
        sim_run(sim, WR_MIN);
        switch_off(n);
        sim_run(sim, WR_MIN);
        switch_on(n, WR_DHT_SERVER);
        bootstrap(n, &nodes[0]);
        struct wr_dht_name *again =
            wr_dht_join(n->dht, WR_BYTES_STR("tea"), &name_ops, &met, &err);
        assert_non_null(again);
        assert_true(wr_dht_provides(n->dht, WR_BYTES(key.bytes, key.len)));
        wr_dht_leave(again);
        assert_int_equal(wr_dht_provides(n->dht, WR_BYTES(key.bytes, key.len)), provided);
    }
    assert_true(wr_dht_unprovide(n->dht, WR_BYTES(key.bytes, key.len)));
    assert_false(wr_dht_provides(n->dht, WR_BYTES(key.bytes, key.len)));
    tear_down_sim();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restart_from_disk),
        cmocka_unit_test(test_the_table_outlives_a_crowd),
        cmocka_unit_test(test_provided_keys_outlive_a_restart),
        cmocka_unit_test(test_table_outlives_connections),
        cmocka_unit_test(test_bootstrap_comes_late),
        cmocka_unit_test(test_start_order),
        cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_restart_storm),
        cmocka_unit_test(test_restarts_are_jittered),
        cmocka_unit_test(test_announcements_are_jittered),
        cmocka_unit_test(test_one_identity_on_two_machines),
        cmocka_unit_test(test_quiet_when_idle),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_announced_before_the_first_peer),
        cmocka_unit_test(test_a_name_left_after_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
