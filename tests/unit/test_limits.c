/* Ceilings from one knob: columns, sizes between and beyond them, taking and refusing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/err.h"
#include "transport/limits.h"

#include <stdbool.h>
#include <string.h>

static uint64_t max_of(const char *knob, enum wr_limit limit)
{
    struct wr_limits l;
    assert_int_equal(wr_limits_init(&l, knob), 0);
    return l.of[limit].max;
}

static void test_columns(void **state)
{
    (void)state;
    assert_int_equal(max_of("small", WR_LIMIT_CONNS), 192);
    assert_int_equal(max_of("home", WR_LIMIT_CONNS), 512);
    assert_int_equal(max_of("server", WR_LIMIT_CONNS), 8192);
    assert_int_equal(max_of("server", WR_LIMIT_MEMORY), 896 * WR_MIB);
    assert_string_equal(wr_limit_name(WR_LIMIT_CLIENTS), "control-clients");
    assert_string_equal(wr_limit_unit(WR_LIMIT_WINDOW_EXTRA), "bytes");
}

static void test_sizes_between_columns(void **state)
{
    (void)state;
    assert_int_equal(max_of("32M", WR_LIMIT_CONNS), 192);
    assert_int_equal(max_of("128m", WR_LIMIT_CONNS), 512);
    assert_int_equal(max_of("1G", WR_LIMIT_CONNS), 8192);
    assert_int_equal(max_of("1024M", WR_LIMIT_CONNS), 8192);
    assert_int_equal(max_of("80M", WR_LIMIT_CONNS), 192 + (512 - 192) / 2);
    assert_int_equal(max_of("576M", WR_LIMIT_CONNS), 512 + (8192 - 512) / 2);
    assert_int_equal(max_of("33554432", WR_LIMIT_CONNS), 192);
    assert_int_equal(max_of("32768K", WR_LIMIT_CONNS), 192);
}

static void test_sizes_outside_columns(void **state)
{
    (void)state;
    assert_int_equal(max_of("16M", WR_LIMIT_CONNS), 96);
    assert_int_equal(max_of("16M", WR_LIMIT_MEMORY), 8 * WR_MIB);
    assert_int_equal(max_of("1920M", WR_LIMIT_CONNS), 2 * 8192 - 512);
    assert_int_equal(max_of("4G", WR_LIMIT_CONNS_PER_PEER), 8);
    assert_true(max_of("1024G", WR_LIMIT_MEMORY) > 512 * WR_GIB);
}

static void test_every_ceiling_is_positive_and_grows(void **state)
{
    (void)state;
    static const char *const knobs[] = {"16M",  "17M",    "small", "home",
                                        "500M", "server", "8G",    "1024G"};
    struct wr_limits before, l;
    for (size_t k = 0; k < sizeof(knobs) / sizeof(knobs[0]); k++) {
        assert_int_equal(wr_limits_init(&l, knobs[k]), 0);
        for (size_t i = 0; i < WR_LIMIT_COUNT; i++) {
            assert_true(l.of[i].max > 0);
            if (k)
                assert_true(l.of[i].max >= before.of[i].max);
        }
        before = l;
    }
}

static void test_bad_knobs(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "tiny",
                                      "15M",
                                      "16777215",
                                      "1.5G",
                                      "-64M",
                                      " 64M",
                                      "64MB",
                                      "64T",
                                      "1025G",
                                      "99999999999999999999G",
                                      "18446744073709551615G",
                                      "17179869185G",
                                      "M",
                                      "0x40000000",
                                      "Small"};
    struct wr_limits l;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(wr_limits_init(&l, bad[i]), WR_EINVAL);
    assert_int_equal(wr_limits_init(&l, NULL), WR_EINVAL);
}

static void test_take_give_refuse(void **state)
{
    (void)state;
    struct wr_limits l;
    wr_limits_init(&l, "small");
    assert_true(wr_limits_take(&l, WR_LIMIT_DIALS, 30));
    assert_false(wr_limits_take(&l, WR_LIMIT_DIALS, 3));
    assert_false(wr_limits_take(&l, WR_LIMIT_DIALS, UINT64_MAX));
    assert_true(wr_limits_take(&l, WR_LIMIT_DIALS, 2));
    assert_false(wr_limits_take(&l, WR_LIMIT_DIALS, 1));
    wr_limits_give(&l, WR_LIMIT_DIALS, 31);
    wr_limits_refuse(&l, WR_LIMIT_DIALS);
    assert_int_equal(l.of[WR_LIMIT_DIALS].used, 1);
    assert_int_equal(l.of[WR_LIMIT_DIALS].peak, 32);
    assert_int_equal(l.of[WR_LIMIT_DIALS].refused, 4);
}

static void test_change_below_use(void **state)
{
    (void)state;
    struct wr_limits l;
    wr_limits_init(&l, "server");
    assert_true(wr_limits_take(&l, WR_LIMIT_CONNS, 1000));
    assert_int_equal(wr_limits_change(&l, "nonsense"), WR_EINVAL);
    assert_int_equal(l.of[WR_LIMIT_CONNS].max, 8192);
    assert_int_equal(wr_limits_change(&l, "home"), 0);
    assert_int_equal(l.of[WR_LIMIT_CONNS].used, 1000);
    assert_false(wr_limits_take(&l, WR_LIMIT_CONNS, 1));
    wr_limits_give(&l, WR_LIMIT_CONNS, 489);
    assert_true(wr_limits_take(&l, WR_LIMIT_CONNS, 1));
}

static void test_fit_descriptors(void **state)
{
    (void)state;
    struct wr_limits l, whole;
    assert_int_equal(wr_limits_init(&whole, "small"), 0);
    l = whole;
    assert_false(wr_limits_fit(&l, UINT64_MAX));
    assert_false(wr_limits_fit(&l, 192 + 256 + 32 + 16 + WR_LIMITS_FILES));
    assert_memory_equal(&l, &whole, sizeof(l));
    assert_true(wr_limits_fit(&l, 240 + 16 + WR_LIMITS_FILES));    /* half of it */
    assert_int_equal(l.of[WR_LIMIT_CONNS].max, 96);
    assert_int_equal(l.of[WR_LIMIT_CONNS_INBOUND].max, 64);
    assert_int_equal(l.of[WR_LIMIT_CONNS_HALF_OPEN].max, 128);
    assert_int_equal(l.of[WR_LIMIT_DIALS].max, 16);
    assert_int_equal(l.of[WR_LIMIT_STREAMS].max, whole.of[WR_LIMIT_STREAMS].max);
    assert_true(wr_limits_fit(&l, 3));
    assert_int_equal(l.of[WR_LIMIT_CONNS].max, 1);
    assert_int_equal(l.of[WR_LIMIT_DIALS].max, 1);
}

/* Whatever a crowd takes, and in whatever order, everybody finds his part. */
static void test_fair_shares(void **state)
{
    (void)state;
    struct wr_limits l;
    uint64_t held[192] = {0}, alone = 0;
    wr_limits_init(&l, "small");
    uint64_t max = l.of[WR_LIMIT_STREAMS].max, part = max / 2 / 192;
    while (wr_limits_take_fair(&l, WR_LIMIT_STREAMS, alone, 1))
        alone++;
    assert_int_equal(alone, max / 4);
    wr_limits_give(&l, WR_LIMIT_STREAMS, alone);
    for (size_t i = 0; i < 191; i++)
        while (wr_limits_take_fair(&l, WR_LIMIT_STREAMS, held[i], 1))
            held[i]++;
    assert_true(held[0] > 40 * part && held[190] >= part);
    for (uint64_t i = 0; i < part; i++)
        assert_true(wr_limits_take_fair(&l, WR_LIMIT_STREAMS, i, 1));
    assert_false(wr_limits_take_fair(&l, WR_LIMIT_STREAMS, part, 1));
    assert_true(l.of[WR_LIMIT_STREAMS].used <= max);
}

static void test_account(void **state)
{
    (void)state;
    struct wr_limits l;
    struct wr_account a = {.limits = &l}, uncounted = {0};
    wr_limits_init(&l, "small");
    uint64_t room = wr_account_room(&a), max = l.of[WR_LIMIT_MEMORY].max;
    assert_int_equal(room, max / 4);
    assert_false(wr_account_take(&a, room + 1));
    assert_true(wr_account_take(&a, room));
    assert_int_equal(wr_account_room(&a), 0);
    wr_account_charge(&a, max);    /* what is there counts, ceiling or not */
    assert_int_equal(l.of[WR_LIMIT_MEMORY].used, room + max);
    assert_int_equal(l.of[WR_LIMIT_MEMORY].peak, room + max);
    assert_int_equal(a.held, room + max);
    wr_account_give(&a, room + max);
    assert_int_equal(l.of[WR_LIMIT_MEMORY].used, 0);
    assert_true(wr_account_take(&uncounted, 1 << 30));
    wr_account_give(&uncounted, 1 << 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_sizes_between_columns),
        cmocka_unit_test(test_sizes_outside_columns),
        cmocka_unit_test(test_every_ceiling_is_positive_and_grows),
        cmocka_unit_test(test_bad_knobs),
        cmocka_unit_test(test_take_give_refuse),
        cmocka_unit_test(test_change_below_use),
        cmocka_unit_test(test_fit_descriptors),
        cmocka_unit_test(test_fair_shares),
        cmocka_unit_test(test_account),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
