/* The store of a running node goes bad: it is begun anew, and what the node held in memory is in it. */
#include "tests/sim/dht_world.h"
#include "tests/sim/kv_mem.h"

static void test_keys_and_records_after_the_store_was_lost(void **state)
{
    (void)state;
    struct wr_multihash ours = key_of("ours"), theirs = key_of("theirs");
    make_swarm(8, 1);
    sim_run(sim, WR_MIN);
    struct node *n = &nodes[1];
    provide(n, &ours, 0);
    provide(&nodes[2], &theirs, 0);
    sim_run(sim, WR_MIN);
    struct wr_dht_stats stats;
    wr_dht_stats(n->dht, &stats);
    assert_int_equal(stats.providers, 1);
    assert_int_equal(n->limits.of[WR_LIMIT_PROVIDERS].used, 1);
    kv_mem_disk_for(n->env, "store")->rotten = true;
    /* Whoever asks next finds out; he gets what others have. */
    assert_int_equal(find_providers(&nodes[3], &theirs, 1), 1);
    (void)find_providers(n, &theirs, 1);
    sim_run(sim, WR_SEC);
    assert_int_equal(wr_kv_rebuilt(n->kv), 1);
    wr_dht_stats(n->dht, &stats);
    assert_int_equal(stats.providers, 0);
    assert_int_equal(n->limits.of[WR_LIMIT_PROVIDERS].used, 0);
    /* It keeps records again, and its own keys over a restart. */
    provide(&nodes[4], &theirs, 0);
    sim_run(sim, WR_MIN);
    wr_dht_stats(n->dht, &stats);
    assert_int_equal(stats.providers, 1);
    switch_off(n);
    sim_run(sim, WR_MIN);
    switch_on(n, WR_DHT_SERVER);
    assert_true(wr_dht_provides(n->dht, WR_BYTES(ours.bytes, ours.len)));
    /* And it knows peers without being told of any. */
    sim_run(sim, WR_MIN);
    assert_false(wr_dht_alone(n->dht));
    tear_down_sim();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_and_records_after_the_store_was_lost)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
