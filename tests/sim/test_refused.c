/* The system refuses an allocation while much is sent over TCP: whoever it was for may end, others go on, and nothing is lost
 * track of. */
#include "tests/sim/swarm_world.h"

#define SIZE 300000    /* bytes: more than a window */

struct trio {
    struct sim *sim;
    struct node a, b, c;
    struct client to_b, to_c;
};

static void trio_start(struct trio *t)
{
    memset(t, 0, sizeof(*t));
    t->sim = world(1);
    node_start(&t->a, t->sim, 1, "home", NULL);
    node_start(&t->b, t->sim, 2, "home", NULL);
    node_start(&t->c, t->sim, 3, "home", NULL);
}

static void trio_stop(struct trio *t)
{
    node_stop(&t->a);
    node_stop(&t->b);
    node_stop(&t->c);
    sim_run(t->sim, WR_SEC);
    assert_int_equal(t->a.limits.of[WR_LIMIT_MEMORY].used, 0);
    assert_int_equal(t->b.limits.of[WR_LIMIT_MEMORY].used, 0);
    assert_int_equal(t->c.limits.of[WR_LIMIT_MEMORY].used, 0);
    sim_destroy(t->sim);
}

static void talk_to_both(struct trio *t, size_t size)
{
    talk_over(&t->a, &t->b, echo_offer, &t->to_b, size);
    talk_over(&t->a, &t->c, echo_offer, &t->to_c, size);
}

static bool answers(const struct client *c)
{
    return c->closed && c->err == 0 && c->got == c->size;
}

/* So many allocations in a row, at every place that is reached in a transfer each way to both. */
static void refuse(uint64_t count, uint64_t step, bool connected)
{
    bool all = false;
    for (uint64_t skip = 0; !all; skip += step) {
        static struct trio t;
        static struct client b, c;
        trio_start(&t);
        if (connected) {
            talk_to_both(&t, 1);
            sim_run(t.sim, 2 * WR_SEC);
            assert_true(answers(&t.to_b) && answers(&t.to_c));
        }
        talk_to_both(&t, SIZE);
        sim_alloc_fail(skip, count);
        sim_run(t.sim, 10 * WR_SEC);
        all = sim_alloc_count() <= skip;
        sim_alloc_fail(0, 0);
        if ((all || (connected && count == 1)) && t.to_b.got < SIZE && t.to_c.got < SIZE)
            fail_msg("%s: both are cut by allocation %u", spoken[0]->name, (unsigned)skip);
        sim_run(t.sim, WR_MIN);    /* who was not told that a connection ended has found out */
        talk_over(&t.a, &t.b, echo_offer, &b, 1000);
        talk_over(&t.a, &t.c, echo_offer, &c, 1000);
        sim_run(t.sim, WR_MIN);
        if (!answers(&b) || !answers(&c))
            fail_msg("%s: nobody answers after allocation %u", spoken[0]->name, (unsigned)skip);
        trio_stop(&t);
    }
}

static void test_one_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < WR_SECURE_COUNT; i++) {
        prefer(i);
        refuse(1, 1, true);
    }
}

static void test_some_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < WR_SECURE_COUNT; i++) {
        prefer(i);
        refuse(7, 5, true);
    }
}

static void test_handshakes_too(void **state)
{
    (void)state;
    for (size_t i = 0; i < WR_SECURE_COUNT; i++) {
        prefer(i);
        refuse(1, 3, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_is_refused),
        cmocka_unit_test(test_some_are_refused),
        cmocka_unit_test(test_handshakes_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
