/* A crowd is connected, and says as much of itself as is kept: `peers` answers all the same. */
#include "tests/sim/methods_world.h"

#define CROWD 1200
#define NAMES 128    /* of WR_PEER_PROTOCOLS_LEN bytes, all together */

struct one {
    struct wr_limits limits;
    struct wr_key key;
    struct wr_swarm *swarm;
};

static void one_up(struct one *o, struct sim *sim, unsigned i)
{
    uint8_t seed[WR_ED25519_SEED] = {(uint8_t)i, (uint8_t)(i >> 8), 7};
    struct sim_host *host = sim_host_add(sim, &(struct sim_host_options){.name = "one"});
    wr_key_generate(&o->key, seed);
    assert_int_equal(wr_limits_init(&o->limits, "small"), 0);
    o->swarm = wr_swarm_create(&(struct wr_swarm_options){
        .env = sim_host_env(host), .limits = &o->limits, .identity = &o->key});
    assert_non_null(o->swarm);
}

static void on_connected(void *arg, int error, struct wr_conn *conn)
{
    unsigned *connected = arg;
    (void)conn;
    *connected += error == 0;
}

static void say_much(struct wr_peerstore *ps, const struct wr_peerid *id)
{
    char text[NAMES][WR_PEER_PROTOCOLS_LEN / NAMES];
    struct wr_bytes names[NAMES];
    for (unsigned i = 0; i < NAMES; i++) {
        memset(text[i], 'x', sizeof(text[i]));
        (void)snprintf(text[i], 8, "/%06u", i);
        text[i][7] = '/';
        names[i] = WR_BYTES(text[i], sizeof(text[i]) - 1);
    }
    assert_int_equal(wr_peerstore_set_protocols(ps, id, names, NAMES), 0);
}

static uint32_t names_of(const msgpack_object *row)
{
    const msgpack_object *o = wr_rpc_find(row, "protocols");
    assert_true(o && o->type == MSGPACK_OBJECT_ARRAY);
    return o->via.array.size;
}

static void test_a_crowd_is_listed(void **state)
{
    static struct one crowd[CROWD];
    struct sim *sim = sim_create(&(struct sim_options){.seed = 1});
    struct node n;
    struct client c;
    struct wr_maddr at;
    unsigned connected = 0;
    (void)state;
    start(&n, sim, 1, false);
    assert_int_equal(wr_limits_change(&n.limits, "server"), 0);
    assert_int_equal(wr_maddr_parse(n.addr, &at), 0);
    for (unsigned i = 0; i < CROWD; i++) {
        one_up(&crowd[i], sim, i);
        assert_int_equal(wr_swarm_connect(crowd[i].swarm, wr_swarm_self(n.swarm), &at, 1, WR_ORIGIN_OWNER, 0,
                                          on_connected, &connected, NULL),
                         0);
        sim_run(sim, 2 * WR_MSEC);
    }
    sim_run(sim, 5 * WR_SEC);
    assert_int_equal(connected, CROWD);
    for (unsigned i = 0; i < CROWD; i++)
        say_much(wr_swarm_peerstore(n.swarm), wr_swarm_self(crowd[i].swarm));
    dial(&c, sim, &n);
    const msgpack_object *reply = call(&c, sim, "peers");
    assert_non_null(reply);
    assert_int_equal(number(reply, "left_out"), 0);
    const msgpack_object *row = rows(reply, "peers", CROWD);
    assert_int_equal(names_of(&row[0]), NAMES);
    assert_int_equal(names_of(&row[CROWD - 1]), 0);
    hang_up(&c);
    for (unsigned i = 0; i < CROWD; i++)
        wr_swarm_destroy(crowd[i].swarm);
    stop(&n);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_crowd_is_listed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
