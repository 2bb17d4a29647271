/* The address filter, the owner's rules, inbound rates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/policy.h"

#include <string.h>

static const uint8_t SEED[WR_MAP_SEED] = {7};

static struct wr_ip ip(const char *text)
{
    struct wr_ip out;
    assert_int_equal(wr_ip_parse(text, &out), 0);
    return out;
}

static struct wr_cidr cidr(const char *text)
{
    struct wr_cidr out;
    assert_int_equal(wr_cidr_parse(text, &out), 0);
    return out;
}

static int may_dial(const struct wr_policy *p, const char *addr, enum wr_addr_origin origin)
{
    struct wr_maddr m;
    assert_int_equal(wr_maddr_parse(addr, &m), 0);
    return wr_policy_may_dial(p, NULL, wr_maddr_bytes(&m), origin);
}

static void links(struct wr_policy *p)
{
    struct wr_ifaddr list[] = {
        {.name = "lo", .index = 1, .ip = ip("127.0.0.1"), .prefix = 8, .loopback = true},
        {.name = "eth0", .index = 2, .ip = ip("192.168.7.20"), .prefix = 24},
        {.name = "eth0", .index = 2, .ip = ip("fe80::1"), .prefix = 64},
    };
    wr_policy_set_links(p, list, 3);
}

static void test_address_filter(void **state)
{
    (void)state;
    static const struct {
        const char *addr;
        int owner, lan, stranger;
    } rows[] = {
        {"/ip4/8.8.8.8/tcp/4001", 0, 0, 0},
        {"/ip6/2a00::1/udp/4001/quic-v1", 0, 0, 0},
        {"/ip4/192.168.7.9/tcp/4001", 0, 0, 0},    /* on our link */
        {"/ip4/192.168.8.9/tcp/4001", 0, WR_EUNREACH, WR_EUNREACH},
        {"/ip4/10.0.0.1/tcp/22", 0, WR_EUNREACH, WR_EUNREACH},
        {"/ip4/100.64.1.1/tcp/4001", 0, WR_EUNREACH, WR_EUNREACH},
        {"/ip4/127.0.0.1/tcp/6379", 0, WR_EUNREACH, WR_EUNREACH},
        {"/ip6/::1/tcp/6379", 0, WR_EUNREACH, WR_EUNREACH},
        {"/ip4/169.254.169.254/tcp/80", 0, WR_EUNREACH, WR_EUNREACH},    /* cloud metadata */
        {"/ip6/fe80::9/tcp/4001", 0, 0, 0},
        {"/ip6/fd00::9/tcp/4001", 0, WR_EUNREACH, WR_EUNREACH},
        {"/ip4/203.0.113.5/tcp/4001", 0, WR_EUNREACH, WR_EUNREACH},
        {"/ip4/224.0.0.251/udp/5353/quic-v1", WR_EUNREACH, WR_EUNREACH, WR_EUNREACH},
        {"/ip4/0.0.0.0/tcp/4001", WR_EUNREACH, WR_EUNREACH, WR_EUNREACH},
        {"/ip4/8.8.8.8/tcp/0", WR_EUNREACH, WR_EUNREACH, WR_EUNREACH},
        {"/dns4/example.org/tcp/4001", 0, 0, 0},    /* asked again once resolved */
        {"/ip4/10.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit", 0,
         WR_EUNREACH, WR_EUNREACH},
    };
    struct wr_policy p;
    wr_policy_init(&p, SEED);
    links(&p);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int owner = may_dial(&p, rows[i].addr, WR_ORIGIN_OWNER);
        int lan = may_dial(&p, rows[i].addr, WR_ORIGIN_LAN);
        int stranger = may_dial(&p, rows[i].addr, WR_ORIGIN_STRANGER);
        if (owner != rows[i].owner || lan != rows[i].lan || stranger != rows[i].stranger)
            fail_msg("%s: %d %d %d", rows[i].addr, owner, lan, stranger);
    }
    /* Loopback is no link, and no address of it is dialled for strangers even where one were numbered so. */
    struct wr_ip own = ip("127.0.0.1");
    assert_false(wr_policy_on_link(&p, &own));
    struct wr_ifaddr odd = {.name = "tun0", .index = 9, .ip = ip("127.9.9.9"), .prefix = 8};
    wr_policy_set_links(&p, &odd, 1);
    assert_int_equal(may_dial(&p, "/ip4/127.0.0.1/tcp/6379", WR_ORIGIN_STRANGER), WR_EUNREACH);
    wr_policy_clear(&p);
}

static void test_public_blocks_of_the_owner(void **state)
{
    (void)state;
    struct wr_policy p;
    wr_policy_init(&p, SEED);
    struct wr_cidr lab = cidr("198.51.100.0/24"), loop = cidr("127.0.0.0/8");
    assert_int_equal(may_dial(&p, "/ip4/198.51.100.7/tcp/1", WR_ORIGIN_STRANGER), WR_EUNREACH);
    assert_int_equal(wr_policy_add_public(&p, &lab), 0);
    assert_int_equal(wr_policy_add_public(&p, &loop), 0);
    assert_int_equal(may_dial(&p, "/ip4/198.51.100.7/tcp/1", WR_ORIGIN_STRANGER), 0);
    assert_int_equal(may_dial(&p, "/ip4/127.0.0.1/tcp/1", WR_ORIGIN_STRANGER), 0);
    struct wr_ip inside = ip("198.51.100.99"), outside = ip("198.18.0.1");
    assert_true(wr_policy_is_public(&p, &inside));
    assert_false(wr_policy_is_public(&p, &outside));
    for (int i = 2; i < WR_POLICY_PUBLIC_MAX; i++)
        assert_int_equal(wr_policy_add_public(&p, &lab), 0);
    assert_int_equal(wr_policy_add_public(&p, &lab), WR_ELIMIT);
    wr_policy_clear(&p);
}

static void test_rules(void **state)
{
    (void)state;
    static const char *const ID = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    struct wr_policy p;
    struct wr_peerid id;
    struct wr_ip bad = ip("203.0.113.9"), good = ip("203.0.113.10");
    assert_int_equal(wr_peerid_parse(ID, &id), 0);
    wr_policy_init(&p, SEED);
    assert_int_equal(wr_policy_rule(&p, true, "not a rule", true), WR_EINVAL);
    assert_int_equal(wr_policy_rule(&p, true, ID, false), WR_ENOTFOUND);
    assert_int_equal(wr_policy_rule(&p, true, ID, true), 0);
    assert_int_equal(wr_policy_rule(&p, true, ID, true), 0);
    assert_true(wr_policy_peer_blocked(&p, &id));
    assert_false(wr_policy_peer_allowed(&p, &id));
    assert_int_equal(wr_policy_may_dial(&p, &id, WR_BYTES_NONE, WR_ORIGIN_OWNER), WR_EGATED);
    assert_int_equal(wr_policy_rule(&p, true, ID, false), 0);
    assert_false(wr_policy_peer_blocked(&p, &id));

    assert_int_equal(wr_policy_rule(&p, true, "203.0.113.8/31", true), 0);
    assert_int_equal(wr_policy_may_accept(&p, &bad, WR_SEC), WR_EGATED);
    assert_int_equal(wr_policy_may_accept(&p, &good, WR_SEC), 0);
    assert_int_equal(may_dial(&p, "/ip4/203.0.113.9/tcp/1", WR_ORIGIN_OWNER), WR_EGATED);
    assert_int_equal(wr_policy_rule(&p, false, "203.0.113.0/24", true), 0);
    assert_int_equal(wr_policy_may_accept(&p, &bad, WR_SEC), WR_EGATED);    /* blocking wins */
    assert_int_equal(wr_policy_rule(&p, true, "203.0.113.9/31", false), 0);    /* the same block */
    assert_int_equal(wr_policy_may_accept(&p, &bad, WR_SEC), 0);
    wr_policy_clear(&p);
}

static void test_inbound_rate(void **state)
{
    (void)state;
    struct wr_policy p;
    wr_policy_init(&p, SEED);
    struct wr_ip four = ip("8.8.8.8"), loop = ip("127.0.0.1"), other = ip("8.8.8.9");
    struct wr_ip six = ip("2a00:0:0:1ff::1"), same56 = ip("2a00:0:0:100::9"), next56 = ip("2a00:0:0:200::1");
    wr_time now = WR_SEC;
    for (int i = 0; i < WR_POLICY_RATE_BURST; i++)
        assert_int_equal(wr_policy_may_accept(&p, &four, now), 0);
    assert_int_equal(wr_policy_may_accept(&p, &four, now), WR_ELIMIT);
    assert_int_equal(wr_policy_may_accept(&p, &other, now), 0);
    now += WR_POLICY_RATE_INTERVAL - 1;
    assert_int_equal(wr_policy_may_accept(&p, &four, now), WR_ELIMIT);
    now += 1;
    assert_int_equal(wr_policy_may_accept(&p, &four, now), 0);
    assert_int_equal(wr_policy_may_accept(&p, &four, now), WR_ELIMIT);
    now += WR_HOUR;    /* no more than the burst is saved */
    for (int i = 0; i < WR_POLICY_RATE_BURST; i++)
        assert_int_equal(wr_policy_may_accept(&p, &four, now), 0);
    assert_int_equal(wr_policy_may_accept(&p, &four, now), WR_ELIMIT);

    for (int i = 0; i < WR_POLICY_RATE_BURST; i++)
        assert_int_equal(wr_policy_may_accept(&p, i % 2 ? &six : &same56, now), 0);
    assert_int_equal(wr_policy_may_accept(&p, &six, now), WR_ELIMIT);
    assert_int_equal(wr_policy_may_accept(&p, &next56, now), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(wr_policy_may_accept(&p, &loop, now), 0);
    assert_int_equal(wr_policy_rule(&p, false, "8.8.8.8", true), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(wr_policy_may_accept(&p, &four, now), 0);
    wr_policy_clear(&p);
}

static void test_the_oldest_network_is_forgotten(void **state)
{
    (void)state;
    struct wr_policy p;
    wr_policy_init(&p, SEED);
    for (unsigned i = 0; i < WR_POLICY_RATE_NETS + 5; i++) {
        struct wr_ip from = {.family = 4, .bytes = {9, 1, (uint8_t)(i >> 8), (uint8_t)i}};
        for (int k = 0; k < WR_POLICY_RATE_BURST; k++)
            assert_int_equal(wr_policy_may_accept(&p, &from, WR_SEC), 0);
    }
    assert_int_equal(p.rates.count, WR_POLICY_RATE_NETS);
    struct wr_ip last = {.family = 4, .bytes = {9, 1, 0, 5}}, first = {.family = 4, .bytes = {9, 1, 0, 0}};
    assert_int_equal(wr_policy_may_accept(&p, &last, WR_SEC), WR_ELIMIT);
    assert_int_equal(wr_policy_may_accept(&p, &first, WR_SEC), 0);
    wr_policy_clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address_filter),
        cmocka_unit_test(test_public_blocks_of_the_owner),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_inbound_rate),
        cmocka_unit_test(test_the_oldest_network_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
