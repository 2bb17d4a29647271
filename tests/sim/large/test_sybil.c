/* Sybils around a key: forty identities made for the purpose, each in a network of its own, stand
 * nearer to it than anybody honest. They have called on everybody, keep nothing that is left with
 * them, and name nobody but one another. Among 140 honest nodes, with the same seed:
 *
 *                            found by    questions of a search    questions to leave it
 *   crowded key, undefended   0 of 20    20.6                     44
 *   crowded key              20 of 20    44.4                     44
 *   a key beside the crowd   20 of 20    20.9                     26
 *   any other key            20 of 20     2.7                     33
 *
 * and 120 sybils change little: 0 of 20 undefended, 20 of 20 at 48.4 questions. */
#define NODES_MAX 180
#define LIMITS    "home"
#define CROWDED   true
#include "tests/sim/dht_truth.h"

#include "transport/msg.h"

#define HONEST    140
#define SYBILS    40
#define SEARCHERS 20

/* ---- a sybil: swarm and identify as everybody's, and answers of its own */

static struct node *const sybils = &nodes[HONEST];

struct lie {
    struct wr_msg msg;
    struct wr_env *env;
    struct wr_task dispose;
};

static void lie_dispose(struct wr_task *task)
{
    wr_free(wr_list_entry(task, struct lie, dispose));
}

static void lie_over(struct wr_msg *m, int err)
{
    struct lie *lie = wr_list_entry(m, struct lie, msg);
    (void)err;
    wr_env_dispose(lie->env, &lie->dispose, lie_dispose);
}

static void lie_eof(struct wr_msg *m)
{
    wr_msg_close(m);
    lie_over(m, 0);
}

/* Twenty sybils, whatever was asked for; a value is taken with thanks. */
static void lie_answer(struct wr_msg *m, struct wr_bytes body)
{
    struct wr_dht_peer closer[WR_KBUCKET_SIZE];
    struct wr_bytes addrs[WR_KBUCKET_SIZE];
    struct wr_dht_msg request;
    struct wr_buf answer;
    assert_int_equal(wr_dht_msg_decode(body, &request), 0);
    if (request.type != WR_DHT_ADD_PROVIDER) {
        size_t first = (size_t)sim_random(sim, SYBILS);
        for (size_t i = 0; i < WR_KBUCKET_SIZE; i++) {
            const struct node *n = &sybils[(first + i) % SYBILS];
            addrs[i] = wr_maddr_strip_peer(wr_maddr_bytes(&n->addr));
            closer[i] = (struct wr_dht_peer){
                .id = *wr_swarm_self(n->swarm), .count = 1, .addrs = &addrs[i]};
        }
        struct wr_dht_msg msg = {.type = request.type,
                                 .key = request.key,
                                 .has_record = request.type == WR_DHT_PUT_VALUE,
                                 .record = request.record,
                                 .closer_count = WR_KBUCKET_SIZE,
                                 .closer = closer};
        wr_buf_init(&answer, WR_DHT_SEND_MAX);
        assert_int_equal(wr_dht_msg_encode(&msg, WR_DHT_SEND_MAX, &answer), 0);
        (void)wr_msg_send(m, wr_buf_bytes(&answer));
        wr_buf_clear(&answer);
    }
    wr_dht_msg_clear(&request);
}

static const struct wr_msg_ops lie_ops = {
    .on_message = lie_answer, .on_eof = lie_eof, .on_close = lie_over};

static void on_question(struct wr_stream *s, void *arg)
{
    struct node *n = arg;
    struct lie *lie = wr_alloc(sizeof(*lie));
    assert_non_null(lie);
    lie->env = n->env;
    wr_msg_start(&lie->msg, n->env, s, WR_DHT_RECV_MAX, &lie_ops);
}

/* Keys made until one falls nearer than `share` of the key space. */
static void grind(struct wr_key *key, const uint8_t target[static WR_KAD_KEY], double share)
{
    static uint32_t tries;
    uint8_t at[WR_KAD_KEY];
    do {
        tries++;
        uint8_t seed[WR_ED25519_SEED] = {9, 9, (uint8_t)tries, (uint8_t)(tries >> 8), (uint8_t)(tries >> 16)};
        struct wr_buf public;
        struct wr_peerid id;
        wr_key_generate(key, seed);
        wr_buf_init(&public, WR_PUBKEY_MAX);
        wr_key_encode_public(key, &public);
        assert_int_equal(wr_peerid_from_pubkey(wr_buf_bytes(&public), &id), 0);
        wr_buf_clear(&public);
        wr_kad_key(wr_peerid_bytes(&id), at);
    } while (wr_kad_share(at, target) >= share);
}

static void add_sybil(const uint8_t target[static WR_KAD_KEY])
{
    struct wr_key key;
    grind(&key, target, 0.5 / HONEST);
    struct node *n = add_as(&key, (struct wr_ip){0}, WR_DHT_CLIENT);
    struct wr_protocol p = {
        .name = PROTOCOL, .on_stream = on_question, .arg = n, .inbound_max = 1000};
    assert_int_equal(wr_swarm_handle(n->swarm, &p), 0);
}

static void on_called(void *arg, int err, struct wr_conn *conn)
{
    (void)arg;
    (void)err;
    (void)conn;
}

/* Every sybil calls on every honest node, which then asks it what its table wants to know. */
static void introduce_sybils(void)
{
    for (size_t h = 0; h < HONEST; h++) {
        for (size_t i = 0; i < SYBILS; i++)
            (void)wr_swarm_connect(sybils[i].swarm, wr_swarm_self(nodes[h].swarm), &nodes[h].addr,
                                   1, WR_ORIGIN_OWNER, 0, on_called, NULL, NULL);
        sim_run(sim, 200 * WR_MSEC);
    }
}

/* ---- the story */

/* A key that has from `least` to `most` leading bits in common with the crowd. */
static struct wr_multihash key_beside(const uint8_t target[static WR_KAD_KEY], unsigned least,
                                      unsigned most)
{
    for (unsigned i = 0;; i++) {
        char name[16];
        uint8_t at[WR_KAD_KEY];
        (void)snprintf(name, sizeof(name), "key %u", i);
        struct wr_multihash key = key_of(name);
        wr_kad_key(WR_BYTES(key.bytes, key.len), at);
        unsigned cpl = wr_kad_cpl(at, target);
        if (cpl >= least && cpl <= most)
            return key;
    }
}

static struct node *searcher(size_t i)
{
    return &nodes[30 + 5 * i];
}

/* Leaves a record with the network and lets the searchers look for it; returns how many find it. */
static unsigned try_key(const char *which, struct node *provider, const struct wr_multihash *key)
{
    unsigned found = 0;
    size_t holders = 0;
    uint64_t before = asked_by_all();
    provide(provider, key, 0);
    uint64_t left = asked_by_all() - before;
    sim_run(sim, 20 * WR_SEC);
    before = asked_by_all();
    wr_time begun = sim_now(sim);
    for (size_t i = 0; i < SEARCHERS; i++)
        found += find_providers(searcher(i), key, 1) > 0;
    for (size_t i = 0; i < HONEST; i++)
        holders += nodes[i].dht->store.providers;
    printf("%s: found by %u of %d, %.1f questions and %.0f ms each; %llu to leave it; %zu records "
           "by now\n",
           which, found, SEARCHERS, (double)(asked_by_all() - before) / SEARCHERS,
           (double)(sim_now(sim) - begun) / WR_MSEC / SEARCHERS, (unsigned long long)left, holders);
    return found;
}

static size_t sybils_in_tables(void)
{
    size_t sum = 0;
    for (size_t h = 0; h < HONEST; h++)
        for (size_t i = 0; i < SYBILS; i++)
            sum += in_table(&nodes[h], &sybils[i]);
    return sum / HONEST;
}

static void swap_sizes(struct wr_netsize sizes[static NODES_MAX])
{
    for (size_t i = 0; i < node_count; i++) {
        struct wr_netsize swap = nodes[i].dht->netsize;
        nodes[i].dht->netsize = sizes[i];
        sizes[i] = swap;
    }
}

static void test_records_are_found_in_spite_of_a_crowd(void **state)
{
    static struct wr_netsize unknown[NODES_MAX];
    struct wr_multihash key = key_of("wanted");
    uint8_t target[WR_KAD_KEY];
    (void)state;
    set_up_sim(1);
    for (size_t i = 0; i < HONEST; i++) {
        add(WR_DHT_SERVER);
        if (i > 0)
            bootstrap(&nodes[i], &nodes[0]);
        sim_run(sim, 50 * WR_MSEC);
    }
    sim_run(sim, 20 * WR_MIN);
    wr_kad_key(WR_BYTES(key.bytes, key.len), target);
    for (size_t i = 0; i < SYBILS; i++)
        add_sybil(target);
    introduce_sybils();
    sim_run(sim, 10 * WR_MIN);
    printf("%zu sybils in a table\n", sybils_in_tables());
    struct wr_multihash lost = key_beside(target, 9, WR_KBUCKET_CPL_MAX);
    struct wr_multihash aside = key_beside(target, 3, 4), calm = key_beside(target, 0, 0);
    /* The control: nodes that do not know the size of the network see no crowd. */
    swap_sizes(unknown);
    unsigned undefended = try_key("crowded key, undefended", &nodes[20], &lost);
    swap_sizes(unknown);
    assert_true(undefended <= SEARCHERS / 2);
    assert_true(try_key("crowded key", &nodes[21], &key) >= SEARCHERS * 9 / 10);
    assert_true(try_key("a key beside the crowd", &nodes[22], &aside) >= SEARCHERS * 9 / 10);
    assert_int_equal(try_key("any other key", &nodes[23], &calm), SEARCHERS);
    tear_down_sim();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records_are_found_in_spite_of_a_crowd)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
