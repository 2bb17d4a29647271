/* The methods of the DHT over the control socket. */
#include "tests/sim/methods_world.h"

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
    struct kv_mem_disk *disk = kv_mem_disk_for(w->of[SERVERS - 1].env, "/data");
    disk->fail = WR_EFULL;
    assert_null(call_text(&w->c, w->sim, "join", "name", "second-chat"));
    expect_error(&w->c, "WR_EFULL", "not on the disk");
    (void)rows(call(&w->c, w->sim, "joined"), "names", 2);
    disk->fail = 0;
    assert_non_null(call_text(&w->c, w->sim, "leave", "name", "second-chat"));
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
        TEST(test_dht_that_is_off),
        ISLAND(test_find_and_connect_by_id),
        ISLAND(test_provide_and_join),
        ISLAND(test_an_empty_second_table),
        ISLAND(test_put_and_get),
        ISLAND(test_searchers_that_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
