#include "transport/timers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT 500
#define STEPS 200000

static void nothing(struct wr_timer *timer)
{
    (void)timer;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void empty(void **state)
{
    (void)state;
    struct wr_timers t;
    struct wr_timer timer = {0};
    wr_timers_init(&t);
    assert_int_equal(wr_timers_next(&t), 0);
    assert_null(wr_timers_pop(&t, INT64_MAX, UINT64_MAX));
    wr_timers_stop(&t, &timer);
    assert_false(wr_timer_running(&timer));
}

static void ties_fire_in_the_order_started(void **state)
{
    (void)state;
    struct wr_timers t;
    struct wr_timer timers[20] = {0};
    wr_timers_init(&t);
    for (size_t i = 0; i < 20; i++)
        wr_timers_start(&t, &timers[i], 7, nothing);
    wr_timers_start(&t, &timers[3], 7, nothing);    /* moved: now the last one */
    for (size_t i = 0; i < 20; i++)
        if (i != 3)
            assert_ptr_equal(wr_timers_pop(&t, 7, UINT64_MAX), &timers[i]);
    assert_ptr_equal(wr_timers_pop(&t, 7, UINT64_MAX), &timers[3]);
    assert_null(wr_timers_pop(&t, 7, UINT64_MAX));
}

static void a_round_ends(void **state)
{
    (void)state;
    struct wr_timers t;
    struct wr_timer a = {0}, b = {0};
    wr_timers_init(&t);
    wr_timers_start(&t, &a, 10, nothing);
    wr_timers_start(&t, &b, 10, nothing);
    uint64_t before = t.next_order;
    assert_ptr_equal(wr_timers_pop(&t, 10, before), &a);
    wr_timers_start(&t, &a, 10, nothing);
    assert_ptr_equal(wr_timers_pop(&t, 10, before), &b);
    assert_null(wr_timers_pop(&t, 10, before));
    assert_ptr_equal(wr_timers_pop(&t, 10, t.next_order), &a);
}

/* The earliest running timer by looking at all of them. */
static struct wr_timer *earliest(struct wr_timer *timers)
{
    struct wr_timer *best = NULL;
    for (size_t i = 0; i < COUNT; i++) {
        struct wr_timer *x = &timers[i];
        if (x->at && (!best || x->at < best->at || (x->at == best->at && x->order < best->order)))
            best = x;
    }
    return best;
}

static void like_a_plain_table(void **state)
{
    (void)state;
    struct wr_timers t;
    struct wr_timer *timers = test_calloc(COUNT, sizeof(*timers));
    uint64_t random = 88172645463325252;
    wr_timers_init(&t);
    for (size_t i = 0; i < STEPS; i++) {
        struct wr_timer *x = &timers[next_random(&random) % COUNT];
        uint64_t act = next_random(&random) % 8;
        if (act < 4) {
            wr_timers_start(&t, x, 1 + (wr_time)(next_random(&random) % 300), nothing);
        } else if (act < 6) {
            wr_timers_stop(&t, x);
            assert_int_equal(x->at, 0);
        } else if (i % 16 == 0) {
            struct wr_timer *expected = earliest(timers);
            assert_int_equal(wr_timers_next(&t), expected ? expected->at : 0);
            if (expected) {
                wr_time at = expected->at;
                assert_null(wr_timers_pop(&t, at - 1, UINT64_MAX));
                assert_ptr_equal(wr_timers_pop(&t, at, UINT64_MAX), expected);
            }
        }
    }
    for (struct wr_timer *expected; (expected = earliest(timers));)
        assert_ptr_equal(wr_timers_pop(&t, INT64_MAX, UINT64_MAX), expected);
    assert_null(t.root);
    test_free(timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty),
        cmocka_unit_test(ties_fire_in_the_order_started),
        cmocka_unit_test(a_round_ends),
        cmocka_unit_test(like_a_plain_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
