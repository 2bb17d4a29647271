/* The table of the internet: addresses that mean something only where they come from are neither
 * asked, nor kept, nor handed out (go-libp2p-kad-dht 357, kubo 6932: answers full of private
 * addresses, and hosters who take the dials for a scan). */
#define SCOPE WR_DHT_WAN
#include "tests/sim/dht_guest.h"

static const char *const home_addrs[] = {
    "/ip4/192.168.7.7/tcp/4001", "/ip4/10.1.1.1/tcp/4001",  "/ip4/172.16.0.9/udp/4001/quic-v1",
    "/ip4/100.64.3.3/tcp/4001",  "/ip4/127.0.0.1/tcp/4001", "/ip4/169.254.1.1/tcp/4001",
    "/ip6/fd00::1/tcp/4001",     "/ip6/::1/tcp/4001",
};
#define HOME_COUNT (sizeof(home_addrs) / sizeof(home_addrs[0]))
#define PUBLIC     "/ip4/45.1.2.3/tcp/4001"

static struct wr_maddr room[HOME_COUNT + 1];

/* All of them, and the public one last when asked for. */
static size_t fill_addrs(struct wr_bytes out[static HOME_COUNT + 1], bool with_public)
{
    size_t count = 0;
    for (; count < HOME_COUNT; count++)
        out[count] = one_addr(&room[count], home_addrs[count]);
    if (with_public) {
        out[count] = one_addr(&room[count], PUBLIC);
        count++;
    }
    return count;
}

static struct wr_peerid stranger(uint8_t n)
{
    return (struct wr_peerid){.len = 34, .bytes = {0x12, 0x20, n, 77}};
}

static struct wr_dht_msg get_providers(const struct wr_multihash *key)
{
    return (struct wr_dht_msg){.type = WR_DHT_GET_PROVIDERS, .key = WR_BYTES(key->bytes, key->len)};
}

static void set_up(uint64_t seed)
{
    make_swarm(4, seed);
    sim_run(sim, WR_MIN);
    client = add(WR_DHT_CLIENT);
    bootstrap(client, &nodes[0]);
    server = &nodes[0];
    sim_run(sim, 10 * WR_SEC);
}

/* Of what a provider says of itself only the public address is kept; one without any is kept by its
 * id, as go does. */
static void test_records_keep_public_addresses_only(void **state)
{
    (void)state;
    set_up(1);
    for (int with_public = 0; with_public < 2; with_public++) {
        struct wr_multihash key = key_of(with_public ? "a" : "b");
        struct wr_bytes addrs[HOME_COUNT + 1];
        struct wr_dht_peer me = {.id = *wr_swarm_self(client->swarm), .addrs = addrs};
        struct wr_dht_msg get = get_providers(&key), answer;
        struct wr_dht_msg put = {
            .type = WR_DHT_ADD_PROVIDER, .key = get.key, .provider_count = 1, .providers = &me};
        struct guest g;
        size_t at = 0;
        me.count = fill_addrs(addrs, with_public);
        guest_start(&g);
        guest_ask(&g, &put);
        guest_ask(&g, &get);
        sim_run(sim, 2 * WR_SEC);
        assert_true(next_answer(&g, &at, &answer));
        assert_int_equal(answer.provider_count, 1);
        assert_int_equal(answer.providers[0].count, with_public);
        if (with_public)
            assert_true(
                wr_bytes_equal(answer.providers[0].addrs[0], wr_maddr_bytes(&room[HOME_COUNT])));
        wr_dht_msg_clear(&answer);
        guest_stop(&g);
    }
    tear_down_sim();
}

/* ---- a server that names them */

struct liar {
    struct wr_msg msg;
    struct wr_env *env;
    struct wr_task dispose;
};

static unsigned asked_liar;

static void liar_dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct liar, dispose));
}

static void liar_close(struct wr_msg *m, int err)
{
    struct liar *l = wr_list_entry(m, struct liar, msg);
    (void)err;
    wr_env_dispose(l->env, &l->dispose, liar_dispose);
}

static void liar_eof(struct wr_msg *m)
{
    wr_msg_close(m);
    liar_close(m, 0);
}

static void liar_answer(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_bytes home[HOME_COUNT + 1], both[HOME_COUNT + 1];
    struct wr_dht_peer peers[2] = {{.id = stranger(1), .addrs = home},
                                   {.id = stranger(2), .addrs = both}};
    struct wr_dht_msg request, answer = {.closer_count = 2, .closer = peers};
    struct wr_buf b;
    assert_int_equal(wr_dht_msg_decode(body, &request), 0);
    answer.type = request.type;
    peers[0].count = fill_addrs(home, false);
    peers[1].count = fill_addrs(both, true);
    if (request.type == WR_DHT_GET_PROVIDERS) {
        answer.provider_count = 2;
        answer.providers = peers;
    }
    wr_buf_init(&b, 1 << 16);
    assert_int_equal(wr_dht_msg_encode(&answer, 1 << 16, &b), 0);
    (void)wr_msg_send(m, wr_buf_bytes(&b));
    wr_buf_clear(&b);
    wr_dht_msg_clear(&request);
    asked_liar++;
}

static const struct wr_msg_ops liar_ops = {
    .on_message = liar_answer, .on_eof = liar_eof, .on_close = liar_close};

static void on_question(struct wr_stream *s, void *arg)
{
    struct node *n = arg;
    struct liar *l = wr_alloc(sizeof(*l));
    assert_non_null(l);
    l->env = n->env;
    wr_msg_start(&l->msg, n->env, s, WR_DHT_RECV_MAX, &liar_ops);
}

static void check_known(struct node *n, const struct wr_peerid *id, size_t expected)
{
    const struct wr_peer *known = wr_peerstore_find(wr_swarm_peerstore(n->swarm), id);
    size_t count = known ? known->addr_count : 0;
    assert_int_equal(count, expected);
    for (size_t i = 0; i < count; i++) {
        struct wr_addr at;
        assert_true(wr_maddr_addr(wr_peer_addr_bytes(&known->addrs[i]), &at));
        assert_int_equal(wr_ip_classify(&at.ip), WR_IP_PUBLIC);
    }
}

/* Whom a search hears of there is dialled at public addresses or not at all, and told of likewise.
 */
static void test_searches_follow_public_addresses_only(void **state)
{
    (void)state;
    set_up_sim(2);
    struct node *n = add(WR_DHT_SERVER), *liar = add(WR_DHT_CLIENT);
    struct wr_protocol p = {
        .name = PROTOCOL, .on_stream = on_question, .arg = liar, .inbound_max = 100};
    struct wr_multihash key = key_of("anything");
    struct wr_peerid hidden = stranger(1), open = stranger(2);
    struct result r = fresh_result();
    int err;
    assert_int_equal(wr_swarm_handle(liar->swarm, &p), 0);
    bootstrap(n, liar);
    sim_run(sim, WR_MIN);
    assert_true(in_table(n, liar));
    asked_liar = 0;
    assert_non_null(wr_dht_find_providers(n->dht, WR_BYTES(key.bytes, key.len), 0, &ops, &r, &err));
    await(&r);
    assert_true(asked_liar > 0);
    assert_int_equal(r.peers, 2);
    assert_int_equal(r.addrs, 1);
    check_known(n, &hidden, 0);
    check_known(n, &open, 1);
    tear_down_sim();
}

/* ---- our own records */

static struct node *add_inside(struct sim_gateway *gateway)
{
    struct node *n = &nodes[node_count++];
    uint8_t seed[WR_ED25519_SEED] = {(uint8_t)node_count, 8};
    memset(n, 0, sizeof(*n));
    n->host =
        sim_host_add(sim, &(struct sim_host_options){
                              .name = "inside", .ip4 = {4, {192, 168, 1, 2}}, .gateway = gateway});
    n->env = sim_host_env(n->host);
    wr_key_generate(&n->key, seed);
    start(n, WR_DHT_CLIENT);
    return n;
}

static bool pass_out(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    (void)now;
    head->from.ip = gateway->ip4;
    return true;
}

static bool pass_in(struct sim_gateway *gateway, struct sim_head *head, wr_time now)
{
    (void)gateway;
    (void)now;
    head->to.ip = (struct wr_ip){4, {192, 168, 1, 2}};
    return true;
}

/* Behind a NAT, with no address known that leads to us, nobody is told; as soon as one is known,
 * all are. */
static void test_a_provider_without_an_address_says_so(void **state)
{
    (void)state;
    struct sim_gateway gateway = {
        .ip4 = {4, {45, 7, 7, 1}}, .outbound = pass_out, .inbound = pass_in};
    struct wr_multihash key = key_of("content");
    struct wr_maddr outside;
    make_swarm(2, 3); /* too few to see together where we are */
    sim_gateway_add(sim, &gateway);
    struct node *n = add_inside(&gateway);
    bootstrap(n, &nodes[0]);
    sim_run(sim, WR_MIN);
    assert_false(wr_dht_alone(n->dht));
    provide(n, &key, WR_ENOADDR);
    uint64_t before = n->dht->counted.asked;
    sim_run(sim, WR_HOUR);
    /* Tried again and again, and no question spent on it: those are upkeep's. */
    assert_true(n->dht->counted.asked - before < 40);
    assert_int_equal(find_providers(&nodes[1], &key, 1), 0);
    struct wr_bytes addr = one_addr(&outside, "/ip4/45.7.7.1/tcp/4001");
    assert_true(
        wr_addrbook_put(wr_swarm_addrbook(n->swarm), addr, WR_ADDR_CONFIGURED, wr_env_now(n->env)));
    wr_swarm_addrs_changed(n->swarm);
    sim_run(sim, WR_MIN);
    assert_int_equal(find_providers(&nodes[1], &key, 1), 1);
    tear_down_sim();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_keep_public_addresses_only),
        cmocka_unit_test(test_searches_follow_public_addresses_only),
        cmocka_unit_test(test_a_provider_without_an_address_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
