/* Routing table: distance, splitting, who may replace whom, address groups, nearest, upkeep. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dht/kbucket.h"
#include "transport/err.h"

#include <stdlib.h>
#include <string.h>

#define NOW (1000 * WR_SEC)

static const uint8_t self_key[WR_KAD_KEY]; /* all zero: the CPL of a key is its leading zero bits */

static uint64_t rnd_state;

static uint64_t rnd(void)
{
    uint64_t z = rnd_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 27);
}

/* An entry whose key shares exactly cpl bits with us; `n` makes it distinct. */
static struct wr_kentry entry_at(unsigned cpl, unsigned n)
{
    struct wr_kentry e = {0};
    e.id.len = 34;
    e.id.bytes[0] = (uint8_t)cpl;
    memcpy(e.id.bytes + 2, &n, sizeof(n));
    e.key[cpl / 8] = (uint8_t)(0x80 >> cpl % 8);
    memcpy(e.key + 28, &n, sizeof(n));
    return e;
}

static struct wr_kentry random_entry(void)
{
    struct wr_kentry e = {0};
    e.id.len = 34;
    for (size_t i = 0; i < WR_KAD_KEY; i++)
        e.key[i] = e.id.bytes[i + 2] = (uint8_t)rnd();
    return e;
}

static int add(struct wr_kbucket *t, struct wr_kentry e, wr_time now)
{
    return wr_kbucket_add(t, &e, false, now, NULL);
}

static void test_distance(void **state)
{
    (void)state;
    uint8_t a[WR_KAD_KEY] = {0}, b[WR_KAD_KEY] = {0}, target[WR_KAD_KEY] = {0};
    assert_int_equal(wr_kad_cpl(a, b), 256);
    b[31] = 1;
    assert_int_equal(wr_kad_cpl(a, b), 255);
    b[0] = 0x10;
    assert_int_equal(wr_kad_cpl(a, b), 3);
    assert_true(wr_kad_compare(target, a, b) < 0);
    target[0] = 0x1f;
    assert_true(wr_kad_compare(target, a, b) > 0);
    assert_int_equal(wr_kad_compare(target, a, a), 0);
}

/* sha256("abc"), FIPS 180-2: keys and peer ids alike are hashed before distances are taken. */
static void test_key_is_hashed(void **state)
{
    (void)state;
    static const uint8_t abc[4] = {0xba, 0x78, 0x16, 0xbf};
    uint8_t key[WR_KAD_KEY];
    wr_kad_key(WR_BYTES_STR("abc"), key);
    assert_memory_equal(key, abc, sizeof(abc));
}

static void test_last_bucket_splits(void **state)
{
    (void)state;
    struct wr_kbucket t;
    wr_kbucket_init(&t, self_key, 1000);
    for (unsigned cpl = 0; cpl < 8; cpl++) {
        for (unsigned n = 0; n < WR_KBUCKET_SIZE; n++)
            assert_int_equal(add(&t, entry_at(cpl, n), NOW), 1);
    }
    assert_int_equal(t.count, 8 * WR_KBUCKET_SIZE);
    for (unsigned cpl = 0; cpl < 7; cpl++)
        assert_int_equal(add(&t, entry_at(cpl, 99), NOW), WR_EFULL);
    assert_int_equal(add(&t, entry_at(200, 0), NOW), 1);
    assert_non_null(wr_kbucket_find(&t, entry_at(200, 0).key));
    assert_non_null(wr_kbucket_find(&t, entry_at(0, 5).key));
    assert_null(wr_kbucket_find(&t, entry_at(0, 99).key));
    assert_true(wr_kbucket_remove(&t, entry_at(0, 5).key));
    assert_false(wr_kbucket_remove(&t, entry_at(0, 5).key));
    assert_int_equal(add(&t, entry_at(0, 99), NOW), 1);
    wr_kbucket_clear(&t);
}

static void test_same_and_self(void **state)
{
    (void)state;
    struct wr_kbucket t;
    struct wr_kentry me = {0};
    wr_kbucket_init(&t, self_key, 1000);
    assert_int_equal(add(&t, me, NOW), WR_ESELF);
    assert_false(wr_kbucket_wants(&t, &me, NOW));
    assert_int_equal(add(&t, entry_at(3, 1), NOW), 1);
    assert_int_equal(add(&t, entry_at(3, 1), NOW + WR_MIN), 0);
    assert_int_equal(t.count, 1);
    assert_true(wr_kbucket_find(&t, entry_at(3, 1).key)->success_at == NOW + WR_MIN);
    wr_kbucket_clear(&t);
}

static void test_ceiling(void **state)
{
    (void)state;
    struct wr_kbucket t;
    wr_kbucket_init(&t, self_key, 3);
    for (unsigned cpl = 0; cpl < 3; cpl++)
        assert_int_equal(add(&t, entry_at(cpl, 0), NOW), 1);
    assert_int_equal(add(&t, entry_at(4, 0), NOW), WR_ELIMIT);
    assert_int_equal(t.count, 3);
    wr_kbucket_clear(&t);
}

/* Good old entries stay; the longest useless goes first, and those taken in a hurry go. */
static void test_replacement(void **state)
{
    (void)state;
    struct wr_kbucket t;
    struct wr_peerid evicted;
    wr_kbucket_init(&t, self_key, 1000);
    add(&t, entry_at(1, 0), NOW);
    for (unsigned n = 0; n < WR_KBUCKET_SIZE; n++)
        add(&t, entry_at(0, n), NOW + (n == 7 ? -WR_MIN : 0));
    struct wr_kentry fresh = entry_at(0, 50);
    wr_time later = NOW + WR_KBUCKET_USELESS_AFTER;
    assert_false(wr_kbucket_wants(&t, &fresh, NOW));
    assert_int_equal(wr_kbucket_add(&t, &fresh, false, NOW, &evicted), WR_EFULL);
    assert_int_equal(wr_kbucket_add(&t, &fresh, false, later, &evicted), 1);
    assert_memory_equal(evicted.bytes, entry_at(0, 7).id.bytes, 34);
    assert_int_equal(wr_kbucket_add(&t, &(struct wr_kentry){.id = {.len = 1}, .key = {0x80, 9}},
                                    false, later, &evicted),
                     WR_EFULL);
    wr_kbucket_find(&t, entry_at(0, 3).key)->replaceable = true;
    fresh = entry_at(0, 51);
    assert_true(wr_kbucket_wants(&t, &fresh, later));
    assert_int_equal(wr_kbucket_add(&t, &fresh, false, later, &evicted), 1);
    assert_memory_equal(evicted.bytes, entry_at(0, 3).id.bytes, 34);
    wr_kbucket_find(&t, entry_at(0, 4).key)->replaceable = true;
    wr_kbucket_settle(&t);
    fresh = entry_at(0, 52);
    assert_int_equal(wr_kbucket_add(&t, &fresh, false, later, &evicted), WR_EFULL);
    assert_int_equal(t.count, WR_KBUCKET_SIZE + 1);
    wr_kbucket_clear(&t);
}

static struct wr_kentry of_group(unsigned cpl, unsigned n, const char *ip)
{
    struct wr_kentry e = entry_at(cpl, n);
    struct wr_ip parsed;
    assert_int_equal(wr_ip_parse(ip, &parsed), 0);
    wr_ipgroup_add(e.groups, wr_ipgroup(&parsed));
    return e;
}

/* go-libp2p-kad-dht: 3 of a group in the table, 2 in a bucket. */
static void test_address_groups(void **state)
{
    (void)state;
    struct wr_kbucket t;
    wr_kbucket_init(&t, self_key, 1000);
    for (unsigned n = 0; n < WR_KBUCKET_SIZE; n++)
        add(&t, entry_at(1, 100 + n), NOW);
    assert_int_equal(add(&t, of_group(0, 1, "8.8.1.1"), NOW), 1);
    assert_int_equal(add(&t, of_group(0, 2, "8.8.2.1"), NOW), 1);
    assert_int_equal(add(&t, of_group(0, 3, "8.8.3.1"), NOW), WR_EGATED);
    assert_int_equal(add(&t, of_group(0, 3, "8.9.3.1"), NOW), 1);
    assert_int_equal(add(&t, of_group(3, 1, "8.8.4.1"), NOW), 1);
    assert_int_equal(add(&t, of_group(4, 1, "8.8.5.1"), NOW), WR_EGATED);
    /* Removing one makes room; so does one that may be replaced, in its own bucket. */
    assert_true(wr_kbucket_remove(&t, entry_at(3, 1).key));
    assert_int_equal(add(&t, of_group(4, 1, "8.8.5.1"), NOW), 1);
    wr_kbucket_find(&t, entry_at(0, 1).key)->replaceable = true;
    assert_int_equal(add(&t, of_group(0, 4, "8.8.6.1"), NOW), 1);
    assert_null(wr_kbucket_find(&t, entry_at(0, 1).key));
    wr_kbucket_clear(&t);
}

static void test_groups_of_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"8.8.1.1", "8.8.200.9", true},
        {"8.8.1.1", "8.9.1.1", false},
        {"12.1.1.1", "12.200.1.1", true},
        {"13.1.1.1", "13.200.1.1", false},
        {"2a01:4f8:1::1", "2a01:4f8:ffff::2", true},
        {"2a01:4f8::1", "2a01:4f9::1", false},
        {"2002:808:1::1", "2002:808:2::1", true},
    };
    static const char *exempt[] = {"127.0.0.1",  "10.1.2.3",    "192.168.1.1",
                                   "100.64.1.1", "169.254.1.1", "::1",
                                   "fe80::1",    "fd00::1",     "0.0.0.0"};
    struct wr_ip a, b;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(wr_ip_parse(cases[i].a, &a), 0);
        assert_int_equal(wr_ip_parse(cases[i].b, &b), 0);
        assert_int_equal(wr_ipgroup(&a) == wr_ipgroup(&b), cases[i].same);
    }
    for (size_t i = 0; i < sizeof(exempt) / sizeof(exempt[0]); i++) {
        assert_int_equal(wr_ip_parse(exempt[i], &a), 0);
        assert_true(wr_ipgroup(&a) == WR_IPGROUP_NONE);
    }
}

static const uint8_t *sort_target;

static int by_distance(const void *a, const void *b)
{
    return wr_kad_compare(sort_target, ((const struct wr_kentry *)a)->key,
                          ((const struct wr_kentry *)b)->key);
}

/* Against sorting the whole table, for targets near and far. */
static void test_closest_is_exact(void **state)
{
    (void)state;
    static struct wr_kentry all[1000];
    const struct wr_kentry *got[500];
    struct wr_kbucket t;
    rnd_state = 7;
    wr_kbucket_init(&t, self_key, 1000);
    for (unsigned i = 0; i < 3000; i++) {
        struct wr_kentry e = random_entry();
        if (i % 3 == 0)
            memset(e.key, 0, i % 5);
        add(&t, e, NOW);
    }
    for (unsigned round = 0; round < 200; round++) {
        struct wr_kentry target = random_entry();
        if (round % 2)
            memset(target.key, 0, round % 4);
        size_t count = 0, cursor = 0, want = 1 + round * 7 % 500;
        for (struct wr_kentry *e; (e = wr_kbucket_next(&t, &cursor));)
            all[count++] = *e;
        assert_int_equal(count, t.count);
        sort_target = target.key;
        qsort(all, count, sizeof(all[0]), by_distance);
        size_t have = wr_kbucket_closest(&t, target.key, got, want);
        assert_int_equal(have, want < count ? want : count);
        for (size_t i = 0; i < have; i++)
            assert_memory_equal(got[i]->key, all[i].key, WR_KAD_KEY);
    }
    wr_kbucket_clear(&t);
    assert_int_equal(wr_kbucket_closest(&t, self_key, got, 5), 0);
}

/* Doubling intervals while nothing new comes; a full, lively bucket rests. */
static void test_refresh(void **state)
{
    (void)state;
    struct wr_kbucket t;
    unsigned cpl = 99;
    wr_kbucket_init(&t, self_key, 1000);
    assert_false(wr_kbucket_refresh_due(&t, NOW, &cpl));
    add(&t, entry_at(0, 0), NOW);
    assert_true(wr_kbucket_refresh_due(&t, NOW, &cpl));
    assert_int_equal(cpl, 0);
    wr_time now = NOW;
    static const wr_time waits[] = {10 * WR_MIN, 20 * WR_MIN,  40 * WR_MIN,
                                    80 * WR_MIN, 120 * WR_MIN, 120 * WR_MIN};
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        wr_kbucket_refreshed(&t, entry_at(0, 77).key, now);
        assert_true(wr_kbucket_refresh_at(&t) == now + waits[i]);
        assert_false(wr_kbucket_refresh_due(&t, now + waits[i] - 1, &cpl));
        now += waits[i];
        assert_true(wr_kbucket_refresh_due(&t, now, &cpl));
    }
    for (unsigned n = 1; n < WR_KBUCKET_SIZE; n++)
        add(&t, entry_at(0, n), now);
    wr_kbucket_find(&t, entry_at(0, 0).key)->success_at = now;
    assert_false(wr_kbucket_refresh_due(&t, now, &cpl));
    assert_true(wr_kbucket_refresh_at(&t) == now + WR_KBUCKET_CHECK_AFTER);
    assert_null(wr_kbucket_check_due(&t, now + WR_KBUCKET_CHECK_AFTER));
    wr_kbucket_find(&t, entry_at(0, 9).key)->success_at = now - WR_MIN;
    assert_ptr_equal(wr_kbucket_check_due(&t, now + WR_KBUCKET_CHECK_AFTER),
                     wr_kbucket_find(&t, entry_at(0, 9).key));
    wr_kbucket_clear(&t);
}

/* The last bucket holds its two of a group, and splitting would part them: worth asking the newcomer. */
static void test_wanted_after_a_split(void **state)
{
    (void)state;
    struct wr_kbucket t;
    wr_kbucket_init(&t, self_key, 1000);
    add(&t, of_group(0, 1, "8.8.1.1"), NOW);
    add(&t, of_group(0, 2, "8.8.2.1"), NOW);
    for (unsigned n = 3; n < 3 + WR_KBUCKET_SIZE - 2; n++)
        add(&t, entry_at(n % 3, n), NOW);
    struct wr_kentry third = of_group(4, 1, "8.8.3.1");
    assert_true(wr_kbucket_wants(&t, &third, NOW));
    assert_int_equal(add(&t, third, NOW), 1);
    wr_kbucket_clear(&t);
}

/* A lookup of ourselves passes through every bucket that the network cannot fill. */
static void test_own_lookup_refreshes_sparse_buckets(void **state)
{
    (void)state;
    struct wr_kbucket t;
    unsigned cpl = 99;
    wr_kbucket_init(&t, self_key, 1000);
    for (unsigned n = 0; n < 30; n++)
        add(&t, entry_at(n % 6, n), NOW);
    for (unsigned n = 0; n < WR_KBUCKET_SIZE; n++)
        add(&t, entry_at(0, 100 + n), NOW - 2 * WR_HOUR);
    wr_kbucket_refreshed(&t, self_key, NOW);
    assert_true(wr_kbucket_refresh_due(&t, NOW, &cpl));
    assert_int_equal(cpl, 0);
    wr_kbucket_refreshed(&t, entry_at(0, 1).key, NOW);
    assert_false(wr_kbucket_refresh_due(&t, NOW, &cpl));
    wr_kbucket_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_key_is_hashed),
        cmocka_unit_test(test_last_bucket_splits),
        cmocka_unit_test(test_same_and_self),
        cmocka_unit_test(test_ceiling),
        cmocka_unit_test(test_replacement),
        cmocka_unit_test(test_address_groups),
        cmocka_unit_test(test_groups_of_addresses),
        cmocka_unit_test(test_closest_is_exact),
        cmocka_unit_test(test_wanted_after_a_split),
        cmocka_unit_test(test_refresh),
        cmocka_unit_test(test_own_lookup_refreshes_sparse_buckets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
