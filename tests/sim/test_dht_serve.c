/* The DHT's answers to peers of every make: streams written byte by byte by the test. */
#include "tests/sim/dht_guest.h"

/* A server that knows ten others, and a client connected to it. */
static void set_up(uint64_t seed)
{
    make_swarm(11, seed);
    sim_run(sim, WR_MIN);
    client = add(WR_DHT_CLIENT);
    bootstrap(client, &nodes[0]);
    server = &nodes[0];
    sim_run(sim, 10 * WR_SEC);
}

/* ---- streams -------------------------------------------------------------------------------- */

/* go: several requests on one stream, here all in one write, then one after the answers. */
static void test_pipelined_requests(void **state)
{
    (void)state;
    set_up(1);
    struct guest g;
    struct wr_buf b;
    struct wr_dht_msg request = find_node(wr_swarm_self(nodes[3].swarm));
    guest_start(&g);
    wr_buf_init(&b, 4096);
    put_request(&b, &request);
    put_request(&b, &request);
    guest_write(&g, wr_buf_bytes(&b));
    sim_run(sim, 2 * WR_SEC);
    assert_int_equal(count_answers(&g), 2);
    guest_ask(&g, &request);
    sim_run(sim, 2 * WR_SEC);
    assert_int_equal(count_answers(&g), 3);
    assert_false(g.closed);
    wr_stream_close(g.stream);
    g.stream = NULL;
    sim_run(sim, WR_SEC);
    assert_int_equal(server->dht->guest_count, 0);
    wr_buf_clear(&b);
    guest_stop(&g);
    tear_down_sim();
}

/* rust and js: one request and the end of writing; the answer comes all the same. */
static void test_half_closed_request(void **state)
{
    (void)state;
    set_up(2);
    client = &nodes[5]; /* whom the server has in its table */
    struct guest g;
    struct wr_dht_msg request = find_node(wr_swarm_self(nodes[3].swarm)), answer;
    size_t at = 0;
    guest_start(&g);
    guest_ask(&g, &request);
    wr_stream_shut(g.stream);
    sim_run(sim, 2 * WR_SEC);
    assert_true(next_answer(&g, &at, &answer));
    assert_int_equal(answer.type, WR_DHT_FIND_NODE);
    assert_int_equal(answer.key.len, 0);
    assert_true(wr_peerid_equal(&answer.closer[0].id, wr_swarm_self(nodes[3].swarm)));
    assert_true(answer.closer_count >= 8);
    for (size_t i = 0; i < answer.closer_count; i++) {
        assert_true(answer.closer[i].count > 0);
        assert_false(wr_peerid_equal(&answer.closer[i].id, wr_swarm_self(client->swarm)));
        assert_false(wr_peerid_equal(&answer.closer[i].id, wr_swarm_self(server->swarm)));
    }
    wr_dht_msg_clear(&answer);
    assert_true(g.eof && g.closed && g.err == 0);
    assert_int_equal(server->dht->guest_count, 0);
    guest_stop(&g);
    tear_down_sim();
}

static void test_request_in_pieces(void **state)
{
    (void)state;
    set_up(3);
    struct guest g;
    struct wr_buf b;
    struct wr_dht_msg request = find_node(wr_swarm_self(nodes[3].swarm));
    wr_buf_init(&b, 4096);
    put_request(&b, &request);
    guest_start(&g);
    for (size_t i = 0; i < b.len; i++) {
        guest_write(&g, WR_BYTES(b.data + i, 1));
        sim_run(sim, 200 * WR_MSEC);
    }
    sim_run(sim, WR_SEC);
    assert_int_equal(count_answers(&g), 1);
    wr_buf_clear(&b);
    guest_stop(&g);
    tear_down_sim();
}

/* An idle stream is given up after a minute, an idle one in the middle of a message too. */
static void test_idle_streams_end(void **state)
{
    (void)state;
    set_up(4);
    struct guest idle, cut;
    guest_start(&idle);
    guest_start(&cut);
    guest_write(&cut, WR_BYTES_STR("\x20\x08"));
    sim_run(sim, 50 * WR_SEC);
    assert_false(idle.closed || cut.closed);
    assert_int_equal(server->dht->guest_count, 2);
    sim_run(sim, 20 * WR_SEC);
    assert_true(idle.closed && cut.closed);
    assert_int_equal(server->dht->guest_count, 0);
    guest_stop(&idle);
    guest_stop(&cut);
    tear_down_sim();
}

static void test_malformed_requests(void **state)
{
    (void)state;
    /* Length prefixes included: too long, over-long varint, not protobuf, unknown type, empty key,
     * a key too long for providers. */
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"\x80\x80\x40", 3},          {"\x80\x00", 2},     {"\x02\xff\xff", 3},
        {"\x05\x08\x63\x12\x01x", 6}, {"\x02\x08\x04", 3}, {"\x02\x08\x01", 3},
    };
    set_up(5);
    for (size_t i = 0; i <= sizeof(bad) / sizeof(bad[0]); i++) {
        struct guest g;
        uint8_t key[WR_DHT_PROVIDER_KEY_MAX + 1] = {1};
        struct wr_dht_msg too_long = {.type = WR_DHT_GET_PROVIDERS,
                                      .key = WR_BYTES(key, sizeof(key))};
        guest_start(&g);
        if (i < sizeof(bad) / sizeof(bad[0]))
            guest_write(&g, WR_BYTES(bad[i].bytes, bad[i].len));
        else
            guest_ask(&g, &too_long);
        sim_run(sim, WR_SEC);
        assert_true(g.closed && g.err == WR_ERESET);
        assert_int_equal(g.in.len, 0);
        guest_stop(&g);
    }
    assert_int_equal(server->dht->guest_count, 0);
    tear_down_sim();
}

/* go still answers the dead PING. */
static void test_ping(void **state)
{
    (void)state;
    set_up(6);
    struct guest g;
    guest_start(&g);
    guest_ask(&g, &(struct wr_dht_msg){.type = WR_DHT_PING});
    sim_run(sim, WR_SEC);
    assert_int_equal(count_answers(&g), 1);
    guest_stop(&g);
    tear_down_sim();
}

/* ---- records -------------------------------------------------------------------------------- */

/* ADD_PROVIDER has no answer: of two requests on a stream only the second is answered. Providers
 * for others and without addresses are dropped. */
static void test_add_provider(void **state)
{
    (void)state;
    set_up(7);
    struct wr_multihash key = key_of("content");
    struct wr_maddr ma;
    struct wr_bytes addr = one_addr(&ma, "/ip4/8.8.8.8/tcp/4001");
    struct {
        const struct wr_peerid *id;
        size_t addrs;
        size_t found;
    } cases[] = {
        {wr_swarm_self(nodes[2].swarm), 1, 0},
        {wr_swarm_self(client->swarm), 0, 0},
        {wr_swarm_self(client->swarm), 1, 1},
    };
    for (size_t i = 0; i < 3; i++) {
        struct guest g;
        struct wr_dht_peer me = {.id = *cases[i].id, .count = cases[i].addrs, .addrs = &addr};
        struct wr_dht_msg put = {.type = WR_DHT_ADD_PROVIDER,
                                 .key = WR_BYTES(key.bytes, key.len),
                                 .provider_count = 1,
                                 .providers = &me};
        struct wr_dht_msg get = {.type = WR_DHT_GET_PROVIDERS, .key = WR_BYTES(key.bytes, key.len)};
        struct wr_dht_msg answer;
        size_t at = 0;
        guest_start(&g);
        guest_ask(&g, &put);
        guest_ask(&g, &get);
        sim_run(sim, 2 * WR_SEC);
        assert_int_equal(count_answers(&g), 1);
        assert_true(next_answer(&g, &at, &answer));
        assert_int_equal(answer.type, WR_DHT_GET_PROVIDERS);
        assert_int_equal(answer.provider_count, cases[i].found);
        assert_true(answer.closer_count >= 8);
        if (cases[i].found) {
            assert_true(wr_peerid_equal(&answer.providers[0].id, wr_swarm_self(client->swarm)));
            assert_true(wr_bytes_equal(answer.providers[0].addrs[0], addr));
        }
        wr_dht_msg_clear(&answer);
        guest_stop(&g);
    }
    tear_down_sim();
}

/* Whoever provides a key itself says so when asked. */
static void test_own_provision(void **state)
{
    (void)state;
    set_up(8);
    struct wr_multihash key = key_of("mine");
    int err;
    wr_dht_provide(server->dht, WR_BYTES(key.bytes, key.len), NULL, NULL, &err);
    assert_int_equal(err, 0);
    struct guest g;
    struct wr_dht_msg answer;
    size_t at = 0;
    guest_start(&g);
    guest_ask(&g, &(struct wr_dht_msg){.type = WR_DHT_GET_PROVIDERS,
                                       .key = WR_BYTES(key.bytes, key.len)});
    sim_run(sim, 2 * WR_SEC);
    assert_true(next_answer(&g, &at, &answer));
    assert_int_equal(answer.provider_count, 1);
    assert_true(wr_peerid_equal(&answer.providers[0].id, wr_swarm_self(server->swarm)));
    assert_true(answer.providers[0].count > 0);
    wr_dht_msg_clear(&answer);
    guest_stop(&g);
    tear_down_sim();
}

/* A record, and when its sender says that it got it. */
static struct wr_dht_msg put_of(const struct wr_buf *key, const struct wr_buf *value)
{
    return (struct wr_dht_msg){.type = WR_DHT_PUT_VALUE,
                               .key = wr_buf_bytes(key),
                               .has_record = true,
                               .record = {.key = wr_buf_bytes(key),
                                          .value = wr_buf_bytes(value),
                                          .time_received = WR_BYTES_STR("2999-01-01T00:00:00Z")}};
}

/* PUT_VALUE is echoed when kept; GET_VALUE tells when it was received, and everybody has his own public key. */
static void test_values(void **state)
{
    (void)state;
    set_up(9);
    struct wr_buf key, value, own_key, own_value;
    pk_of(&nodes[3], &key, &value);
    pk_of(server, &own_key, &own_value);
    struct wr_dht_msg put = put_of(&key, &value), answer;
    struct guest g;
    size_t at = 0;
    guest_start(&g);
    guest_ask(&g, &put);
    guest_ask(&g, &(struct wr_dht_msg){.type = WR_DHT_GET_VALUE, .key = wr_buf_bytes(&key)});
    guest_ask(&g, &(struct wr_dht_msg){.type = WR_DHT_GET_VALUE, .key = wr_buf_bytes(&own_key)});
    guest_ask(&g, &(struct wr_dht_msg){.type = WR_DHT_GET_VALUE, .key = WR_BYTES_STR("/pk/other")});
    sim_run(sim, 2 * WR_SEC);
    assert_int_equal(count_answers(&g), 4);
    next_answer(&g, &at, &answer);
    assert_true(answer.type == WR_DHT_PUT_VALUE && answer.has_record && answer.closer_count == 0);
    assert_true(wr_bytes_equal(answer.record.value, wr_buf_bytes(&value)));
    wr_dht_msg_clear(&answer);
    next_answer(&g, &at, &answer);
    assert_true(answer.has_record && answer.record.time_received.len >= 20);
    /* py-libp2p 1426: the time is ours, whatever the sender wrote. */
    assert_false(wr_bytes_starts(answer.record.time_received, WR_BYTES_STR("2999")));
    assert_true(wr_bytes_equal(answer.key, wr_buf_bytes(&key)));
    wr_dht_msg_clear(&answer);
    next_answer(&g, &at, &answer);
    assert_true(answer.has_record && wr_bytes_equal(answer.record.value, wr_buf_bytes(&own_value)));
    wr_dht_msg_clear(&answer);
    next_answer(&g, &at, &answer);
    assert_true(!answer.has_record && answer.closer_count >= 8);
    wr_dht_msg_clear(&answer);
    guest_stop(&g);
    wr_buf_clear(&key);
    wr_buf_clear(&value);
    wr_buf_clear(&own_key);
    wr_buf_clear(&own_value);
    tear_down_sim();
}

/* A value that breaks the rule, a record of another key, no record, no rule for the key: the stream is reset. */
static void test_values_that_are_refused(void **state)
{
    (void)state;
    set_up(9);
    struct wr_buf key, value, own_key, own_value;
    struct guest g;
    pk_of(&nodes[3], &key, &value);
    pk_of(server, &own_key, &own_value);
    for (unsigned i = 0; i < 4; i++) {
        struct wr_dht_msg bad = put_of(&key, &value);
        if (i == 0)
            bad.record.value = WR_BYTES_STR("wrong");
        if (i == 1)
            bad.record.key = wr_buf_bytes(&own_key);
        if (i == 2)
            bad.has_record = false;
        if (i == 3)
            bad.key = bad.record.key = WR_BYTES_STR("/nobody/knows");
        guest_start(&g);
        guest_ask(&g, &bad);
        sim_run(sim, 2 * WR_SEC);
        assert_true(g.closed && g.err == WR_ERESET);
        assert_int_equal(g.in.len, 0);
        guest_stop(&g);
    }
    wr_buf_clear(&key);
    wr_buf_clear(&value);
    wr_buf_clear(&own_key);
    wr_buf_clear(&own_value);
    tear_down_sim();
}

/* go tests a newcomer by asking for its own id: never an empty answer, not even from a node that is
 * alone with the asker. */
static void test_asked_for_itself(void **state)
{
    (void)state;
    set_up_sim(10);
    server = add(WR_DHT_SERVER);
    client = add(WR_DHT_CLIENT);
    bootstrap(client, server);
    sim_run(sim, 5 * WR_SEC);
    struct guest g;
    struct wr_dht_msg request = find_node(wr_swarm_self(server->swarm)), answer;
    size_t at = 0;
    guest_start(&g);
    guest_ask(&g, &request);
    sim_run(sim, 2 * WR_SEC);
    assert_true(next_answer(&g, &at, &answer));
    assert_int_equal(answer.closer_count, 1);
    assert_true(wr_peerid_equal(&answer.closer[0].id, wr_swarm_self(server->swarm)));
    wr_dht_msg_clear(&answer);
    guest_stop(&g);
    tear_down_sim();
}

/* ---- bounds --------------------------------------------------------------------------------- */

/* A guest that asks without end is answered at its rate, on however many streams; others notice nothing. */
static void test_rate(void **state)
{
    (void)state;
    set_up(11);
    struct wr_dht_msg request = find_node(wr_swarm_self(nodes[3].swarm));
    struct guest g[4];
    for (unsigned i = 0; i < 4; i++)
        guest_start(&g[i]);
    for (unsigned i = 0; i < 1000; i++) {
        guest_ask(&g[i % 4], &request);
        sim_run(sim, 2 * WR_MSEC);
    }
    sim_run(sim, 8 * WR_SEC);
    size_t answered = 0;
    for (unsigned i = 0; i < 4; i++) {
        assert_false(g[i].closed);
        answered += count_answers(&g[i]);
        guest_stop(&g[i]);
    }
    assert_in_range(answered, WR_DHT_RATE_BURST + 8 * WR_DHT_RATE, WR_DHT_RATE_BURST + 11 * WR_DHT_RATE);
    assert_int_equal(find_peer(&nodes[5], wr_swarm_self(nodes[7].swarm)), 0);
    sim_run(sim, 5 * WR_SEC);
    guest_start(&g[0]);
    guest_ask(&g[0], &request);
    sim_run(sim, WR_SEC);
    assert_int_equal(count_answers(&g[0]), 1);
    guest_stop(&g[0]);
    tear_down_sim();
}

/* Who publishes hundreds of keys writes them in a row and ends the stream, as go's accelerated client does: all are
 * taken. What it asks meanwhile on another stream is answered in time for a crawl. */
static void test_much_at_once(void **state)
{
    (void)state;
    enum { KEYS = 500, CRAWL = 16 };
    struct guest g, crawler;
    set_up(25);
    struct wr_dht_msg question = find_node(wr_swarm_self(nodes[3].swarm));
    size_t before = server->dht->store.providers;
    struct wr_bytes addr = wr_maddr_bytes(&client->addr);
    guest_start(&g);
    for (unsigned i = 0; i < KEYS; i++) {
        char text[16];
        snprintf(text, sizeof(text), "key %u", i);
        struct wr_multihash key = key_of(text);
        struct wr_dht_peer self = {.id = *wr_swarm_self(client->swarm), .count = 1, .addrs = &addr};
        struct wr_dht_msg add_provider = {.type = WR_DHT_ADD_PROVIDER,
                                          .key = WR_BYTES(key.bytes, key.len),
                                          .provider_count = 1,
                                          .providers = &self};
        guest_ask(&g, &add_provider);
    }
    wr_stream_shut(g.stream);
    sim_run(sim, 3 * WR_SEC);
    assert_in_range(server->dht->store.providers - before, WR_DHT_RATE_BURST, WR_DHT_RATE_BURST + 4 * WR_DHT_RATE);
    guest_start(&crawler);
    for (size_t i = 0; i < CRAWL; i++) {
        guest_ask(&crawler, &question);
        sim_run(sim, WR_SEC / 4);
        assert_int_equal(count_answers(&crawler), i + 1);
    }
    guest_stop(&crawler);
    sim_run(sim, (KEYS - WR_DHT_RATE_BURST) / WR_DHT_RATE * WR_SEC);
    assert_int_equal(server->dht->store.providers - before, KEYS);
    assert_true(g.closed && g.err == 0);
    guest_stop(&g);
    tear_down_sim();
}

/* Whoever says that it is asked too much keeps its place in the asker's table, unless that is all it has said
 * for long. */
static void test_a_busy_peer_keeps_its_place(void **state)
{
    (void)state;
    const struct wr_peerid *busy;
    uint8_t key[WR_KAD_KEY];
    set_up(24);
    server->dht->rate = 1; /* a second until it answers again */
    busy = wr_swarm_self(server->swarm);
    wr_kad_key(wr_peerid_bytes(busy), key);
    for (unsigned old = 0; old < 2; old++) {
        struct wr_dht_msg request = find_node(wr_swarm_self(nodes[3].swarm));
        struct guest g[4];
        struct wr_kentry *entry = wr_kbucket_find(&client->dht->table, key);
        uint64_t failed = client->dht->counted.failed;
        assert_non_null(entry);
        entry->useful_at -= old * WR_DHT_BUSY_MAX;
        for (unsigned k = 0; k < 4; k++)
            guest_start(&g[k]);
        for (unsigned i = 0; i < 1000; i++) {
            if (!g[i % 4].closed)
                guest_ask(&g[i % 4], &request);
            sim_run(sim, 2 * WR_MSEC);
        }
        /* The first ones wait for their turn, the last would wait for too long. */
        assert_true(g[3].closed && g[3].err == WR_ERESET && g[3].code == WR_STREAM_RATE);
        assert_true(wr_dht_table_check(client->dht, busy));
        sim_run(sim, WR_SEC);
        for (unsigned k = 0; k < 4; k++)
            guest_stop(&g[k]);
        assert_int_equal(client->dht->counted.failed, failed + 1);
        assert_int_equal(wr_kbucket_find(&client->dht->table, key) != NULL, !old);
        sim_run(sim, 10 * WR_SEC);
    }
    tear_down_sim();
}

/* A record that all refuse was not left with anybody: that is said, and tried again. */
static void test_a_refused_record_does_not_count(void **state)
{
    (void)state;
    struct wr_multihash key = key_of("content");
    make_swarm(6, 21);
    sim_run(sim, WR_MIN);
    uint64_t max = nodes[0].limits.of[WR_LIMIT_PROVIDERS].max;
    for (size_t i = 0; i < 5; i++)
        nodes[i].limits.of[WR_LIMIT_PROVIDERS].max = 0;
    provide(&nodes[5], &key, WR_EREFUSED);
    assert_int_equal(table_of(&nodes[5]), 5); /* they are good peers all the same */
    assert_int_equal(nodes[2].dht->store.providers, 0);
    nodes[2].limits.of[WR_LIMIT_PROVIDERS].max = max;
    sim_run(sim, 10 * WR_MIN);
    assert_int_equal(nodes[2].dht->store.providers, 1);
    tear_down_sim();
}

/* Whom the owner allows, as a peer or by address, is never refused for its rate. */
static void test_rate_of_the_allowed(void **state)
{
    (void)state;
    char what[2][WR_PEERID_TEXT] = {{0}, "0.0.0.0/0"};
    set_up(11);
    struct wr_policy *policy = wr_swarm_policy(server->swarm);
    struct wr_dht_msg request = find_node(wr_swarm_self(nodes[3].swarm));
    wr_peerid_print(wr_swarm_self(client->swarm), what[0]);
    for (unsigned round = 0; round < 2; round++) {
        struct guest g;
        assert_int_equal(wr_policy_rule(policy, false, what[round], true), 0);
        guest_start(&g);
        for (unsigned i = 0; i < 2 * WR_DHT_RATE_BURST; i++) {
            guest_ask(&g, &request);
            sim_run(sim, 2 * WR_MSEC);
        }
        sim_run(sim, WR_SEC);
        assert_false(g.closed);
        assert_int_equal(count_answers(&g), 2 * WR_DHT_RATE_BURST);
        guest_stop(&g);
        assert_int_equal(wr_policy_rule(policy, false, what[round], false), 0);
    }
    tear_down_sim();
}

/* No more streams of one connection than rust and js open. */
static void test_streams_are_bounded(void **state)
{
    (void)state;
    static struct guest guests[100];
    set_up(12);
    for (size_t i = 0; i < 100; i++)
        guest_start(&guests[i]);
    sim_run(sim, 2 * WR_SEC);
    assert_int_equal(server->dht->guest_count, WR_DHT_INBOUND_PER_CONN);
    for (size_t i = 0; i < 100; i++)
        guest_stop(&guests[i]);
    sim_run(sim, 2 * WR_SEC);
    assert_int_equal(server->dht->guest_count, 0);
    tear_down_sim();
}

/* A crowd of one network holds all the streams that there are. Somebody from elsewhere is answered
 * at once, and it is one of the crowd that goes; one more of the crowd has to wait until one of
 * them has been silent for a while. */
static void test_hoarders(void **state)
{
    (void)state;
    enum { HOARDERS = WR_DHT_INBOUND_MAX / WR_DHT_INBOUND_PER_CONN, PER = WR_DHT_INBOUND_PER_CONN };
    static struct guest held[HOARDERS][PER];
    struct guest g;
    set_up(14);
    struct node *honest = client;
    struct wr_dht_msg request = find_node(wr_swarm_self(nodes[3].swarm));
    struct node *crowd = &nodes[node_count];
    for (size_t i = 0; i <= HOARDERS; i++) {
        client = add_at((struct wr_ip){.family = 4, .bytes = {45, 66, 1, (uint8_t)(i + 1)}},
                        WR_DHT_CLIENT);
        bootstrap(client, &nodes[0]);
        sim_run(sim, WR_SEC);
    }
    sim_run(sim, 10 * WR_SEC);
    for (size_t i = 0; i < HOARDERS; i++) {
        client = &crowd[i];
        for (size_t k = 0; k < PER; k++) {
            guest_start(&held[i][k]);
            guest_ask(&held[i][k], &request);
        }
    }
    sim_run(sim, WR_SEC);
    assert_int_equal(server->dht->guest_count, WR_DHT_INBOUND_MAX);
    client = &crowd[HOARDERS];
    guest_start(&g); /* of the last of the crowd */
    guest_ask(&g, &request);
    sim_run(sim, WR_SEC);
    assert_true(g.closed && g.code == WR_STREAM_LIMIT);
    guest_stop(&g);
    struct node *last = client;
    client = honest;
    guest_start(&g);
    guest_ask(&g, &request);
    sim_run(sim, WR_SEC);
    assert_int_equal(count_answers(&g), 1);
    assert_false(g.closed);
    /* The crowd has questions of its own now and then. */
    assert_in_range(server->dht->guest_count, WR_DHT_INBOUND_MAX - 10, WR_DHT_INBOUND_MAX);
    client = last;
    sim_run(sim, 5 * WR_SEC);
    struct guest late;
    guest_start(&late);
    guest_ask(&late, &request);
    sim_run(sim, WR_SEC);
    assert_int_equal(count_answers(&late), 1);
    assert_false(g.closed);
    guest_stop(&late);
    guest_stop(&g);
    for (size_t i = 0; i < HOARDERS; i++) {
        for (size_t k = 0; k < PER; k++)
            guest_stop(&held[i][k]);
    }
    tear_down_sim();
}

/* Client mode: the protocol is not there for anybody, and streams that were open are reset. */
static void test_client_mode(void **state)
{
    (void)state;
    set_up(13);
    struct guest g;
    guest_start(&g);
    sim_run(sim, WR_SEC);
    assert_int_equal(server->dht->guest_count, 1);
    wr_dht_set_mode(server->dht, WR_DHT_CLIENT);
    sim_run(sim, WR_SEC);
    assert_true(g.closed && g.err == WR_ERESET);
    guest_stop(&g);
    guest_start(&g);
    sim_run(sim, WR_SEC);
    assert_true(g.closed && g.err == WR_EUNSUPPORTED);
    guest_stop(&g);
    tear_down_sim();
}

/* A peer that says it is a server and never answers does not get into a table. */
static const struct wr_stream_ops mute_ops;

static void swallow(struct wr_stream *s, void *arg)
{
    (void)arg;
    wr_stream_set_ops(s, &mute_ops, NULL);
}

static void test_admission(void **state)
{
    (void)state;
    set_up(14);
    struct wr_protocol mute = {.name = PROTOCOL, .on_stream = swallow, .inbound_max = 10};
    assert_int_equal(wr_swarm_handle(client->swarm, &mute), 0);
    sim_run(sim, 30 * WR_SEC);
    assert_int_equal(wr_peerstore_speaks(wr_swarm_peerstore(server->swarm),
                                         wr_swarm_self(client->swarm), PROTOCOL),
                     1);
    assert_false(in_table(server, client));
    tear_down_sim();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipelined_requests),
        cmocka_unit_test(test_half_closed_request),
        cmocka_unit_test(test_request_in_pieces),
        cmocka_unit_test(test_idle_streams_end),
        cmocka_unit_test(test_malformed_requests),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_add_provider),
        cmocka_unit_test(test_own_provision),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_values_that_are_refused),
        cmocka_unit_test(test_asked_for_itself),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_much_at_once),
        cmocka_unit_test(test_a_busy_peer_keeps_its_place),
        cmocka_unit_test(test_rate_of_the_allowed),
        cmocka_unit_test(test_a_refused_record_does_not_count),
        cmocka_unit_test(test_streams_are_bounded),
        cmocka_unit_test(test_hoarders),
        cmocka_unit_test(test_client_mode),
        cmocka_unit_test(test_admission),
    };
    if (getenv("DHT_TEST"))
        cmocka_set_test_filter(getenv("DHT_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
