#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/crowds.h"

static const uint8_t seed[WR_MAP_SEED] = {1, 2, 3, 4, 5, 6, 7, 8};

static struct wr_ip ip4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    return (struct wr_ip){.family = 4, .bytes = {a, b, c, d}};
}

static void test_networks(void **state)
{
    (void)state;
    struct wr_crowds c;
    struct wr_ip a = ip4(45, 66, 1, 1), same = ip4(45, 66, 250, 9), other = ip4(45, 67, 1, 1);
    struct wr_ip six = {.family = 6, .bytes = {0x20, 1, 0x0d, 0xb9, 1}};
    struct wr_ip six_same = {.family = 6, .bytes = {0x20, 1, 0x0d, 0xb9, 9, 9}};
    struct wr_ip six_other = {.family = 6, .bytes = {0x20, 1, 0x0d, 0xba, 1}};
    wr_crowds_init(&c, seed);
    assert_int_equal(wr_crowds_of(&c, &a), wr_crowds_of(&c, &same));
    assert_int_not_equal(wr_crowds_of(&c, &a), wr_crowds_of(&c, &other));
    assert_int_equal(wr_crowds_of(&c, &six), wr_crowds_of(&c, &six_same));
    assert_int_not_equal(wr_crowds_of(&c, &six), wr_crowds_of(&c, &six_other));
}

/* Who has as many as the newcomer would then have gives nothing up. */
static void test_larger(void **state)
{
    (void)state;
    struct wr_crowds c;
    struct wr_ip big = ip4(45, 66, 1, 1), small = ip4(45, 67, 1, 1), newcomer = ip4(45, 68, 1, 1);
    wr_crowds_init(&c, seed);
    assert_int_equal(wr_crowds_larger(&c, &newcomer), -1);
    wr_crowds_add(&c, &big);
    wr_crowds_add(&c, &small);
    assert_int_equal(wr_crowds_larger(&c, &newcomer), -1);
    wr_crowds_add(&c, &small);
    assert_int_equal(wr_crowds_larger(&c, &newcomer), wr_crowds_of(&c, &small));
    assert_int_equal(wr_crowds_larger(&c, &big), -1);
    for (int i = 0; i < 2; i++)
        wr_crowds_add(&c, &big);
    assert_int_equal(wr_crowds_larger(&c, &newcomer), wr_crowds_of(&c, &big));
    assert_int_equal(wr_crowds_larger(&c, &small), -1);
    assert_int_equal(wr_crowds_larger(&c, &big), -1);
}

/* Networks fall together, but not the same ones for everybody, and not many. */
static void test_spread(void **state)
{
    (void)state;
    static const uint8_t other_seed[WR_MAP_SEED] = {9, 9, 9};
    struct wr_crowds c, d;
    unsigned shared = 0, moved = 0;
    wr_crowds_init(&c, seed);
    wr_crowds_init(&d, other_seed);
    for (unsigned i = 0; i < 256; i++) {
        struct wr_ip ip = ip4(45, (uint8_t)i, 1, 1);
        shared += c.size[wr_crowds_of(&c, &ip)] > 0;
        moved += wr_crowds_of(&c, &ip) != wr_crowds_of(&d, &ip);
        wr_crowds_add(&c, &ip);
    }
    assert_in_range(shared, 0, 24);    /* 8 are expected by chance */
    assert_in_range(moved, 240, 256);
}

static void test_counters_do_not_wrap(void **state)
{
    (void)state;
    struct wr_crowds c;
    struct wr_ip big = ip4(45, 66, 1, 1), newcomer = ip4(45, 68, 1, 1);
    wr_crowds_init(&c, seed);
    for (unsigned i = 0; i < UINT16_MAX + 5u; i++)
        wr_crowds_add(&c, &big);
    assert_int_equal(wr_crowds_larger(&c, &newcomer), wr_crowds_of(&c, &big));
    assert_int_equal(c.size[wr_crowds_of(&c, &big)], UINT16_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_larger),
        cmocka_unit_test(test_spread),
        cmocka_unit_test(test_counters_do_not_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
