/* A thousand nodes that join through one, lose a third of their number without a word, and find what they look
 * for all the same: judged against the simulator's own knowledge of who is there. */
#define NODES_MAX 1000
#define LIMITS    "home"
#define CROWDED   true
#include "tests/sim/dht_truth.h"

#define LOOKUPS 100
/* Questions of a search that is over when the nearest three have answered, three at a time: 10.0 among 10^4, 1.4
 * more for each tenfold (performance notes, 3b). A dead peer takes one that an answer would have saved. */
#define MODEL 8.6

/* ---- the story */

static void test_a_thousand_join_and_a_third_dies(void **state)
{
    (void)state;
    set_up_sim(1);
    for (size_t i = 0; i < NODES_MAX; i++) {
        add(WR_DHT_SERVER);
        if (i > 0)
            bootstrap(&nodes[i], &nodes[0]);
        sim_run(sim, 50 * WR_MSEC);
    }
    sim_run(sim, 12 * WR_MIN);
    struct figures f = look_up("all alive", LOOKUPS, 0, 0);
    assert_true(f.recall >= 0.99);
    assert_true(f.hops_median <= 3);
    f = look_up("all alive, the nearest three", LOOKUPS, WR_QUERY_BETA, 0);
    assert_true(f.asked <= 1.1 * MODEL);
    for (unsigned dead = 0; dead < NODES_MAX * 3 / 10;) {
        struct node *n = somebody();
        if (n == &nodes[0])
            continue;
        sim_kill(n->host);
        dead++;
    }
    f = look_up("30 % dead, just now", LOOKUPS, 0, 0);
    assert_true(f.recall >= 0.99);
    assert_true(f.hops_median <= 3);
    f = look_up("30 % dead, the nearest three", LOOKUPS, WR_QUERY_BETA, 0);
    assert_true(f.asked <= 1.1 * MODEL / 0.7);
    tear_down_sim();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_thousand_join_and_a_third_dies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
