/* The wall clock that can be believed: stories of clocks that are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/wall.h"

#define DAY    (24 * WR_HOUR)
#define YEAR   (365 * DAY)
#define TODAY  (WR_WALL_FLOOR + 200 * DAY)

static struct wr_wall w;
static wr_time now;       /* monotonic */
static int64_t clock_;    /* the system's */

static void start(int64_t saved, int64_t system)
{
    now = 5 * WR_SEC;
    clock_ = system;
    wr_wall_init(&w, saved, clock_, now);
}

static int64_t after(wr_time time)
{
    now += time;
    clock_ += time;
    return wr_wall_read(&w, clock_, now);
}

static int64_t jump(int64_t by)
{
    clock_ += by;
    return after(0);
}

static void test_right_clock(void **state)
{
    (void)state;
    start(0, TODAY);
    assert_true(after(WR_HOUR) == TODAY + WR_HOUR);
    assert_false(w.suspect);
    start(TODAY - 20 * DAY, TODAY);    /* three weeks off */
    assert_true(after(0) == TODAY);
    assert_true(after(10 * YEAR) == TODAY + 10 * YEAR);    /* running for long is no jump */
}

static void test_sleep_is_no_jump(void **state)
{
    (void)state;
    start(0, TODAY);
    assert_true(jump(3 * DAY) == TODAY + 3 * DAY);    /* the monotonic clock stood still */
    assert_true(jump(29 * DAY) == TODAY + 32 * DAY);
}

static void test_years_ahead_at_start(void **state)
{
    (void)state;
    start(TODAY, TODAY + 20 * YEAR);
    assert_true(w.suspect);
    assert_true(after(10 * WR_MIN) == TODAY + 10 * WR_MIN);
    assert_true(jump(-20 * YEAR + 2 * DAY) == TODAY + 2 * DAY + 10 * WR_MIN);    /* set right */
    assert_false(w.suspect);
}

static void test_years_behind_at_start(void **state)
{
    (void)state;
    start(TODAY, 0);
    assert_true(after(WR_MIN) == TODAY + WR_MIN);
    assert_true(after(3 * DAY) == TODAY + 3 * DAY + WR_MIN);    /* before the floor: never confirmed */
    assert_true(w.suspect);
    assert_true(jump(TODAY + 5 * DAY) == TODAY + 8 * DAY + WR_MIN);
}

static void test_first_start_without_a_clock(void **state)
{
    (void)state;
    start(0, 0);
    assert_true(after(WR_MIN) == WR_WALL_FLOOR + WR_MIN);
    assert_true(jump(TODAY) == TODAY + WR_MIN);    /* nothing was believed: at once */
    assert_true(jump(3 * YEAR) == TODAY + WR_MIN);    /* now something is */
    assert_true(w.suspect);
}

static void test_off_for_years(void **state)
{
    (void)state;
    start(TODAY, TODAY + 3 * YEAR);
    assert_true(after(59 * WR_MIN) == TODAY + 59 * WR_MIN);
    assert_true(after(WR_MIN) == TODAY + 3 * YEAR + WR_HOUR);    /* confirmed */
    assert_false(w.suspect);
}

static void test_set_back_for_good(void **state)
{
    (void)state;
    start(0, TODAY + 10 * YEAR);
    assert_true(jump(-10 * YEAR) == TODAY + 10 * YEAR);
    assert_true(after(WR_HOUR / 2) == TODAY + 10 * YEAR + WR_HOUR / 2);
    assert_true(after(WR_HOUR / 2) == TODAY + WR_HOUR);
}

static void test_restless_clock_is_never_confirmed(void **state)
{
    (void)state;
    start(TODAY, TODAY + 5 * YEAR);
    for (int i = 1; i < 100; i++) {
        jump(DAY);
        assert_true(after(50 * WR_MIN) == TODAY + i * 50 * WR_MIN);
    }
}

static void test_small_steps_back_do_not_show(void **state)
{
    (void)state;
    start(0, TODAY);
    assert_true(jump(-5 * WR_MIN) == TODAY);
    assert_false(w.suspect);
    assert_true(after(WR_MIN) == TODAY + WR_MIN);
    assert_true(jump(-6 * WR_MIN) == TODAY + WR_MIN);    /* eleven in all */
    assert_true(w.suspect);
    assert_true(jump(11 * WR_MIN) == TODAY + WR_MIN);
    assert_false(w.suspect);
}

static void test_nonsense_saved(void **state)
{
    (void)state;
    start(-7, TODAY);
    assert_true(after(0) == TODAY);
    start(WR_WALL_FLOOR - 1, TODAY);
    assert_true(after(0) == TODAY);
}

/* Clocks and memories at the ends of their type: no sum overflows, nothing is believed. */
static void test_absurd_clocks(void **state)
{
    static const int64_t absurd[] = {INT64_MIN, -1, INT64_MAX, WR_WALL_CEILING};
    (void)state;
    for (size_t i = 0; i < sizeof(absurd) / sizeof(absurd[0]); i++) {
        start(TODAY, absurd[i]);
        assert_true(after(0) == TODAY);
        assert_true(w.suspect);
        start(absurd[i], TODAY);
        assert_true(jump(YEAR) >= TODAY);
    }
    start(0, INT64_MAX);
    now += YEAR;
    assert_true(wr_wall_read(&w, INT64_MAX, now) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right_clock),
        cmocka_unit_test(test_sleep_is_no_jump),
        cmocka_unit_test(test_years_ahead_at_start),
        cmocka_unit_test(test_years_behind_at_start),
        cmocka_unit_test(test_first_start_without_a_clock),
        cmocka_unit_test(test_off_for_years),
        cmocka_unit_test(test_set_back_for_good),
        cmocka_unit_test(test_restless_clock_is_never_confirmed),
        cmocka_unit_test(test_small_steps_back_do_not_show),
        cmocka_unit_test(test_nonsense_saved),
        cmocka_unit_test(test_absurd_clocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
