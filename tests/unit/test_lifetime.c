/* How long a NAT remembers, from single silences: any lifetime is found within a tenth, side by side and by halving, also
 * when packets get lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "autonat/lifetime.h"

static void within_a_tenth(const struct wr_lifetime *l, wr_time truth)
{
    bool least;
    wr_time found = wr_lifetime_judge(l, &least);
    if (found < truth - truth / 10 || found > truth + truth / 10)
        print_message("%d s taken for %d s\n", (int)(truth / WR_SEC), (int)(found / WR_SEC));
    assert_false(least);
    assert_true(found >= truth - truth / 10 && found <= truth + truth / 10);
}

static void test_side_by_side(void **state)
{
    (void)state;
    for (wr_time truth = 16 * WR_SEC; truth < 282 * WR_SEC; truth += WR_SEC / 2) {
        struct wr_lifetime l = {.lived = {0}};
        for (unsigned i = 0; i < WR_LIFETIME_STEPS; i++)
            wr_lifetime_note(&l, i, wr_lifetime_silence(i) < truth);
        within_a_tenth(&l, truth);
        assert_int_equal(wr_lifetime_next(&l), -1);
    }
}

static void test_one_after_the_other(void **state)
{
    (void)state;
    for (wr_time truth = 16 * WR_SEC; truth < 320 * WR_SEC; truth += WR_SEC / 2) {
        struct wr_lifetime l = {.lived = {0}};
        unsigned tries = 0;
        for (int i; (i = wr_lifetime_next(&l)) >= 0; tries++) {
            assert_true(wr_lifetime_open(&l, (unsigned)i) && tries < 10);
            wr_lifetime_note(&l, (unsigned)i, wr_lifetime_silence((unsigned)i) < truth);
        }
        within_a_tenth(&l, truth);
        assert_true(tries <= 6);
    }
}

/* Any one packet that gets lost: what was taken for death is put right by a longer silence that was survived, or by
 * asking again. */
static void test_a_lost_packet(void **state)
{
    (void)state;
    const wr_time truth = 120 * WR_SEC;
    for (unsigned lost = 0; lost < WR_LIFETIME_STEPS && wr_lifetime_silence(lost + 1) < truth; lost++) {
        struct wr_lifetime l = {.lived = {0}};
        for (unsigned i = 0; i < WR_LIFETIME_STEPS; i++)
            wr_lifetime_note(&l, i, wr_lifetime_silence(i) < truth && i != lost);
        within_a_tenth(&l, truth);
    }
}

static void test_the_ends(void **state)
{
    (void)state;
    struct wr_lifetime l = {.lived = {0}};
    bool least;
    assert_true(wr_lifetime_judge(&l, &least) == 0 && !least);
    /* One death alone is no proof. */
    wr_lifetime_note(&l, 0, false);
    assert_true(wr_lifetime_judge(&l, &least) == 0);
    assert_int_equal(wr_lifetime_next(&l), 0);
    wr_lifetime_note(&l, 0, false);
    assert_true(wr_lifetime_judge(&l, &least) == WR_LIFETIME_FIRST && !least);
    l = (struct wr_lifetime){.lived = {0}};
    wr_lifetime_note(&l, WR_LIFETIME_STEPS - 1, true);
    assert_true(wr_lifetime_judge(&l, &least) == wr_lifetime_silence(WR_LIFETIME_STEPS - 1) && least);
    assert_int_equal(wr_lifetime_next(&l), -1);
    assert_false(wr_lifetime_open(&l, 3));
    wr_lifetime_note(&l, WR_LIFETIME_STEPS, true); /* no such step */
    assert_in_range(wr_lifetime_silence(WR_LIFETIME_STEPS - 1), 320 * WR_SEC, 330 * WR_SEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_side_by_side),
        cmocka_unit_test(test_one_after_the_other),
        cmocka_unit_test(test_a_lost_packet),
        cmocka_unit_test(test_the_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
