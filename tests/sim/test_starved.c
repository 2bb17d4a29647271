/* A node in the open on a machine that has much else to do: it misses calls of those who find out for it whether
 * strangers get through. That those fail says nothing of its network. */
#include "tests/sim/reach_world.h"

/* For two days, in which each address is looked at again every hour. */
static void it_stays_public(void **state)
{
    static const wr_time late[] = {4 * WR_SEC, 7 * WR_SEC, 10 * WR_SEC};
    (void)state;
    for (size_t i = 0; i < sizeof(late) / sizeof(late[0]); i++) {
        struct world w;
        struct wait wait = {.w = &w, .is = WR_REACH_PUBLIC};
        start(&w, SERVERS, OTHERS, NULL);
        meet_all(&w, false);
        meet_all(&w, true);
        assert_true(seconds_to_know(&w) >= 0);
        assert_int_equal(reach(&w), WR_REACH_PUBLIC);
        sim_set_late(w.c.n.host, late[i]);
        assert_false(sim_run_while(w.sim, still, &wait, 48 * WR_HOUR));
        assert_true(stats(&w).failed > 0);    /* it was not all for nothing */
        stop(&w);
    }
}

/* Who is a little late all the time misses nobody, and finds out that a router is in the way. */
static void a_busy_one_learns(void **state)
{
    static const struct simnat_options closed = {.filtering = SIMNAT_APDF};
    struct world w;
    (void)state;
    start(&w, SERVERS, OTHERS, &closed);
    sim_set_late(w.c.n.host, 500 * WR_MSEC);
    meet_all(&w, false);
    meet_all(&w, true);
    assert_true(seconds_to_know(&w) >= 0);
    assert_int_equal(reach(&w), WR_REACH_PRIVATE);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_stays_public),
        cmocka_unit_test(a_busy_one_learns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
