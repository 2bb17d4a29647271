/* Size of the network from distances: drawn from networks of known size, and the threshold checked
 * against the distribution that it comes from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dht/netsize.h"

#include <stdlib.h>
#include <string.h>

static uint64_t rnd(void)
{
    static uint64_t s = 11;
    uint64_t z = s += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Distance of the 20th nearest of n peers, and how many of them lie within `limit`. */
static double draw(size_t n, double limit, size_t *within)
{
    static double distances[20000];
    *within = 0;
    for (size_t i = 0; i < n; i++) {
        distances[i] = (double)(rnd() >> 11) / 9007199254740992.0;
        *within += distances[i] < limit;
    }
    qsort(distances, n, sizeof(distances[0]), by_value);
    return distances[WR_KBUCKET_SIZE - 1];
}

static void test_share(void **state)
{
    (void)state;
    uint8_t a[WR_KAD_KEY] = {0}, b[WR_KAD_KEY] = {0};
    assert_true(wr_kad_share(a, b) == 0);
    b[0] = 0x80;
    assert_true(wr_kad_share(a, b) == 0.5);
    b[0] = 0x81;
    b[1] = 0x80;
    assert_true(wr_kad_share(a, b) == 0.505859375);
    memset(b, 0xff, sizeof(b));
    assert_true(wr_kad_share(a, b) > 0.9999999 && wr_kad_share(a, b) <= 1);
}

static void test_estimates(void **state)
{
    (void)state;
    static const size_t sizes[] = {50, 500, 10000};
    for (size_t i = 0; i < 3; i++) {
        struct wr_netsize n;
        size_t within;
        wr_netsize_init(&n);
        for (unsigned j = 0; j < WR_NETSIZE_SAMPLES; j++) {
            if (j < WR_NETSIZE_SAMPLES_MIN)
                assert_int_equal(wr_netsize_estimate(&n, WR_SEC), 0);
            wr_netsize_add(&n, draw(sizes[i], 0, &within), WR_SEC);
        }
        uint64_t size = wr_netsize_estimate(&n, WR_SEC);
        assert_true(size > sizes[i] * 85 / 100 && size < sizes[i] * 115 / 100);
        assert_int_equal(wr_netsize_estimate(&n, WR_SEC + WR_NETSIZE_AGE), size);
        assert_int_equal(wr_netsize_estimate(&n, 2 * WR_SEC + WR_NETSIZE_AGE), 0);
    }
}

/* The network grows: the old samples make room. */
static void test_follows_change(void **state)
{
    (void)state;
    struct wr_netsize n;
    size_t within;
    wr_netsize_init(&n);
    for (unsigned j = 0; j < 40; j++)
        wr_netsize_add(&n, draw(200, 0, &within), WR_SEC);
    for (unsigned j = 0; j < WR_NETSIZE_SAMPLES; j++)
        wr_netsize_add(&n, draw(2000, 0, &within), WR_MIN);
    uint64_t size = wr_netsize_estimate(&n, WR_MIN);
    assert_true(size > 1700 && size < 2300);
}

/* P(a, x) = 1 - e^-x (1 + x + ... + x^(a-1)/(a-1)!), e^x by its series. Half of chi-square's 10 %
 * point for 40 degrees of freedom (29.051, any table) is where P(20, x) is 0.1. */
static void test_threshold(void **state)
{
    (void)state;
    double x = WR_NETSIZE_SURE, term = 1, sum = 0, head = 0;
    for (unsigned i = 0; i < 200; i++) {
        if (i == WR_KBUCKET_SIZE)
            head = sum;
        sum += term;
        term *= x / (i + 1);
    }
    double p = 1 - head / sum;
    assert_true(p > 0.0999 && p < 0.1001);
    assert_true(x > 29.04 / 2 && x < 29.06 / 2);
}

/* Nine of ten peers taken for sure are among the 20 nearest, or more. */
static void test_sure_means_sure(void **state)
{
    (void)state;
    struct wr_netsize n;
    size_t within, many = 0;
    wr_netsize_init(&n);
    assert_false(wr_netsize_sure(&n, 0, WR_SEC));
    for (unsigned j = 0; j < WR_NETSIZE_SAMPLES; j++)
        wr_netsize_add(&n, 20.0 / 1000, WR_SEC);
    assert_true(wr_netsize_sure(&n, 0.0144, WR_SEC));
    assert_false(wr_netsize_sure(&n, 0.0147, WR_SEC));
    for (unsigned j = 0; j < 300; j++) {
        draw(1000, 0.0145, &within);
        many += within > WR_KBUCKET_SIZE;
    }
    assert_true(many <= 300 / 10 + 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),           cmocka_unit_test(test_estimates),
        cmocka_unit_test(test_follows_change),  cmocka_unit_test(test_threshold),
        cmocka_unit_test(test_sure_means_sure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
