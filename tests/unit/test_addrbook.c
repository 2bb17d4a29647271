/* Our own addresses, and which of them are told to whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/addrbook.h"

#include <stdio.h>
#include <string.h>

#define RELAYED "/ip4/9.9.9.9/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit"

static bool put(struct wr_addrbook *b, const char *text, enum wr_addr_source source)
{
    struct wr_maddr m;
    assert_int_equal(wr_maddr_parse(text, &m), 0);
    return wr_addrbook_put(b, wr_maddr_bytes(&m), source, WR_SEC);
}

static bool judge(struct wr_addrbook *b, const char *text, enum wr_addr_verdict verdict)
{
    struct wr_maddr m;
    assert_int_equal(wr_maddr_parse(text, &m), 0);
    return wr_addrbook_judge(b, wr_maddr_bytes(&m), verdict, 2 * WR_SEC);
}

/* The announced list as one line of text. */
static const char *told(const struct wr_addrbook *b, const char *to)
{
    static char line[4096];
    struct wr_maddr list[WR_ADDRBOOK_MAX];
    struct wr_ip ip;
    char one[WR_MADDR_TEXT];
    if (to)
        assert_int_equal(wr_ip_parse(to, &ip), 0);
    size_t n = wr_addrbook_announce(b, to ? &ip : NULL, list, WR_ADDRBOOK_MAX);
    line[0] = 0;
    for (size_t i = 0; i < n; i++) {
        wr_maddr_print(wr_maddr_bytes(&list[i]), one, sizeof(one));
        snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s%s", i ? " " : "", one);
    }
    return line;
}

static void test_who_is_told_what(void **state)
{
    (void)state;
    struct wr_addrbook b;
    wr_addrbook_init(&b);
    assert_true(put(&b, "/ip4/127.0.0.1/tcp/1", WR_ADDR_LISTEN));
    assert_true(put(&b, "/ip4/192.168.1.2/tcp/1", WR_ADDR_LISTEN));
    assert_true(put(&b, "/ip4/169.254.1.2/tcp/1", WR_ADDR_LISTEN));
    assert_true(put(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_OBSERVED));
    assert_true(put(&b, RELAYED, WR_ADDR_RELAYED));
    assert_true(put(&b, "/dns4/example.org/tcp/1", WR_ADDR_CONFIGURED));
    assert_true(put(&b, "/ip4/8.8.8.8/tcp/0", WR_ADDR_MAPPED));    /* a failed mapping: never told */
#define EVERYBODY "/ip4/8.8.8.8/tcp/1 /dns4/example.org/tcp/1"
    assert_string_equal(told(&b, NULL), EVERYBODY " " RELAYED);
    assert_string_equal(told(&b, "1.1.1.1"), EVERYBODY " " RELAYED);
    assert_string_equal(told(&b, "192.168.1.9"), EVERYBODY " /ip4/192.168.1.2/tcp/1 " RELAYED);
    assert_string_equal(told(&b, "169.254.1.9"),
                        EVERYBODY " /ip4/192.168.1.2/tcp/1 /ip4/169.254.1.2/tcp/1 " RELAYED);
    assert_string_equal(told(&b, "127.0.0.1"),
                        EVERYBODY " /ip4/127.0.0.1/tcp/1 /ip4/192.168.1.2/tcp/1 "
                                  "/ip4/169.254.1.2/tcp/1 " RELAYED);
    assert_true(judge(&b, "/dns4/example.org/tcp/1", WR_ADDR_REACHABLE));
    assert_true(judge(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_UNREACHABLE));
    assert_false(judge(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_UNREACHABLE));
    assert_string_equal(told(&b, NULL), "/dns4/example.org/tcp/1 " RELAYED);
    struct wr_maddr one[1];
    assert_int_equal(wr_addrbook_announce(&b, NULL, one, 1), 1);
}

static void test_sources_share_an_address_and_its_verdict(void **state)
{
    (void)state;
    struct wr_addrbook b;
    wr_addrbook_init(&b);
    assert_true(put(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_OBSERVED));
    assert_false(put(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_OBSERVED));
    assert_true(b.generation == 1);
    assert_true(judge(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_REACHABLE));
    assert_true(put(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_MAPPED));
    assert_int_equal(b.of[1].verdict, WR_ADDR_REACHABLE);
    assert_string_equal(told(&b, NULL), "/ip4/8.8.8.8/tcp/1");
    assert_true(wr_addrbook_clear_source(&b, WR_ADDR_OBSERVED));
    assert_false(wr_addrbook_clear_source(&b, WR_ADDR_OBSERVED));
    assert_string_equal(told(&b, NULL), "/ip4/8.8.8.8/tcp/1");
    struct wr_maddr m;
    assert_int_equal(wr_maddr_parse("/ip4/8.8.8.8/tcp/1", &m), 0);
    assert_true(wr_addrbook_has(&b, wr_maddr_bytes(&m)));
    assert_false(wr_addrbook_del(&b, wr_maddr_bytes(&m), WR_ADDR_OBSERVED));
    assert_true(wr_addrbook_del(&b, wr_maddr_bytes(&m), WR_ADDR_MAPPED));
    assert_false(wr_addrbook_has(&b, wr_maddr_bytes(&m)));
    assert_int_equal(b.count, 0);
}

static void test_verdicts_outlive_a_second_look_at_the_interfaces(void **state)
{
    (void)state;
    struct wr_addrbook b, old;
    wr_addrbook_init(&b);
    put(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_LISTEN);
    put(&b, "/ip4/8.8.8.9/tcp/1", WR_ADDR_LISTEN);
    judge(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_REACHABLE);
    old = b;
    assert_true(wr_addrbook_clear_source(&b, WR_ADDR_LISTEN));
    put(&b, "/ip4/8.8.8.7/tcp/1", WR_ADDR_LISTEN);
    put(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_LISTEN);
    assert_int_equal(b.of[1].verdict, WR_ADDR_UNKNOWN);
    wr_addrbook_inherit(&b, &old);
    assert_int_equal(b.of[0].verdict, WR_ADDR_UNKNOWN);
    assert_int_equal(b.of[1].verdict, WR_ADDR_REACHABLE);
    assert_true(b.of[1].since == 2 * WR_SEC);
}

static void test_public_needs_a_confirmed_direct_address(void **state)
{
    (void)state;
    static const uint8_t seed[WR_MAP_SEED] = {3};
    struct wr_addrbook b;
    wr_addrbook_init(&b);
    put(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_LISTEN);
    put(&b, "/ip4/10.0.0.8/tcp/1", WR_ADDR_LISTEN);
    put(&b, RELAYED, WR_ADDR_RELAYED);
    assert_false(wr_addrbook_public(&b));
    judge(&b, RELAYED, WR_ADDR_REACHABLE);
    judge(&b, "/ip4/10.0.0.8/tcp/1", WR_ADDR_REACHABLE);
    assert_false(wr_addrbook_public(&b));
    /* The owner's --public blocks count. */
    struct wr_policy p;
    struct wr_cidr block;
    wr_policy_init(&p, seed);
    assert_int_equal(wr_cidr_parse("10.0.0.0/8", &block), 0);
    assert_int_equal(wr_policy_add_public(&p, &block), 0);
    b.policy = &p;
    assert_true(wr_addrbook_public(&b));
    assert_string_equal(told(&b, NULL), "/ip4/10.0.0.8/tcp/1 /ip4/8.8.8.8/tcp/1 " RELAYED);
    b.policy = NULL;
    judge(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_REACHABLE);
    assert_true(wr_addrbook_public(&b));
    wr_policy_clear(&p);
}

static void test_claims_and_promises_are_told_once_they_are_proven(void **state)
{
    (void)state;
    static const enum wr_addr_source doubtful[] = {WR_ADDR_CANDIDATE, WR_ADDR_MAPPED};
    for (size_t i = 0; i < 2; i++) {
        struct wr_addrbook b;
        struct wr_maddr out[4];
        wr_addrbook_init(&b);
        assert_true(put(&b, "/ip4/8.8.8.8/tcp/1", doubtful[i]));
        assert_int_equal(wr_addrbook_announce(&b, NULL, out, 4), 0);
        judge(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_REACHABLE);
        assert_int_equal(wr_addrbook_announce(&b, NULL, out, 4), 1);
        judge(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_UNREACHABLE);
        assert_int_equal(wr_addrbook_announce(&b, NULL, out, 4), 0);
        /* Enough peers agree: told once, unproven as it is. */
        judge(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_UNKNOWN);
        assert_true(put(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_OBSERVED));
        assert_int_equal(wr_addrbook_announce(&b, NULL, out, 4), 1);
    }
}

static void test_what_peers_see_of_a_private_node_is_no_way_in(void **state)
{
    (void)state;
    struct wr_addrbook b;
    struct wr_maddr out[4];
    wr_addrbook_init(&b);
    assert_true(put(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_OBSERVED));
    assert_true(put(&b, "/ip6/2600::1/tcp/1", WR_ADDR_OBSERVED));
    assert_int_equal(wr_addrbook_announce(&b, NULL, out, 4), 2);
    assert_true(wr_addrbook_set_private(&b, 4, true));
    assert_false(wr_addrbook_set_private(&b, 4, true));
    assert_int_equal(wr_addrbook_announce(&b, NULL, out, 4), 1);
    assert_string_equal(told(&b, NULL), "/ip6/2600::1/tcp/1");
    judge(&b, "/ip4/8.8.8.8/tcp/1", WR_ADDR_REACHABLE);
    assert_int_equal(wr_addrbook_announce(&b, NULL, out, 4), 2);
}

static void test_the_book_is_bounded(void **state)
{
    (void)state;
    struct wr_addrbook b;
    char text[64];
    wr_addrbook_init(&b);
    for (int i = 0; i < WR_ADDRBOOK_MAX; i++) {
        snprintf(text, sizeof(text), "/ip4/8.8.8.8/tcp/%d", i + 1);
        assert_true(put(&b, text, WR_ADDR_LISTEN));
    }
    assert_false(put(&b, "/ip4/9.9.9.9/tcp/1", WR_ADDR_LISTEN));
    assert_true(b.generation == WR_ADDRBOOK_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_told_what),
        cmocka_unit_test(test_sources_share_an_address_and_its_verdict),
        cmocka_unit_test(test_verdicts_outlive_a_second_look_at_the_interfaces),
        cmocka_unit_test(test_public_needs_a_confirmed_direct_address),
        cmocka_unit_test(test_claims_and_promises_are_told_once_they_are_proven),
        cmocka_unit_test(test_what_peers_see_of_a_private_node_is_no_way_in),
        cmocka_unit_test(test_the_book_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
