/* Votes on our own addresses: thresholds, liars, expiry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "identify/observed.h"
#include "transport/err.h"

#include <stdio.h>
#include <string.h>

#define VOTES_MAX 1400

static const uint8_t SEED[WR_MAP_SEED] = {9};

struct room {
    struct wr_observed o;
    struct wr_vote votes[VOTES_MAX];
    struct wr_waist local;
    wr_time now;
};

static struct wr_maddr ma(const char *text)
{
    struct wr_maddr m;
    assert_int_equal(wr_maddr_parse(text, &m), 0);
    return m;
}

static struct wr_waist waist(const char *text)
{
    struct wr_waist w;
    struct wr_maddr m = ma(text);
    assert_true(wr_waist_of(wr_maddr_bytes(&m), &w));
    return w;
}

static int setup(void **state)
{
    struct room *r = wr_alloc(sizeof(*r));
    wr_observed_init(&r->o, SEED);
    r->local = waist("/ip4/192.168.1.2/tcp/4001");
    r->now = WR_HOUR;
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct room *r = *state;
    wr_observed_clear(&r->o);
    wr_free(r);
    return 0;
}

/* Connection n, from an address that n stands for, sees us at `seen`. */
static int vote(struct room *r, unsigned n, const char *seen)
{
    struct wr_addr from = {.ip = {.family = 4, .bytes = {9, 1, (uint8_t)(n >> 8), (uint8_t)n}}, .port = 99};
    struct wr_maddr m = ma(seen);
    return wr_observed_vote(&r->o, &r->votes[n], &r->local, &from, wr_maddr_bytes(&m), r->now);
}

static int vote_from(struct room *r, unsigned n, const char *from, const char *seen)
{
    struct wr_waist remote = waist(from);
    struct wr_maddr m = ma(seen);
    return wr_observed_vote(&r->o, &r->votes[n], &r->local, &remote.addr, wr_maddr_bytes(&m), r->now);
}

static bool active(struct room *r, const char *addr)
{
    struct wr_waist w = waist(addr);
    for (size_t i = 0; i < r->o.active_count; i++) {
        if (wr_addr_equal(&r->o.active[i].external.addr, &w.addr) &&
            r->o.active[i].external.udp == w.udp)
            return true;
    }
    return false;
}

static void test_three_networks_make_an_address(void **state)
{
    struct room *r = *state;
    struct wr_candidate c[4];
    assert_int_equal(vote(r, 1, "/ip4/5.5.5.5/tcp/4001"), 0);
    assert_int_equal(vote(r, 2, "/ip4/5.5.5.5/tcp/4001"), 0);
    assert_false(wr_observed_judge(&r->o, r->now));
    /* Visible from the first vote on. */
    assert_int_equal(wr_observed_list(&r->o, c, 4), 1);
    assert_int_equal(c[0].networks, 2);
    assert_false(c[0].active);
    assert_int_equal(vote(r, 3, "/ip4/5.5.5.5/tcp/4001"), 0);
    assert_true(wr_observed_judge(&r->o, r->now));
    assert_false(wr_observed_judge(&r->o, r->now));
    assert_true(active(r, "/ip4/5.5.5.5/tcp/4001"));
    assert_int_equal(wr_observed_list(&r->o, c, 4), 1);
    assert_true(c[0].active && c[0].networks == 3 && c[0].all == 3);
}

/* Two networks of three say the same of each socket, and nothing comes of it: they speak of two sockets. */
static void test_every_listening_address_has_its_own_votes(void **state)
{
    struct room *r = *state;
    static const char *const others[] = {
        "/ip4/192.168.1.2/tcp/4002",
        "/ip4/192.168.1.3/tcp/4001",
        "/ip4/192.168.1.2/udp/4001/quic-v1",
    };
    const struct wr_waist first = r->local;
    struct wr_candidate c[4];
    for (unsigned i = 0; i < 3; i++) {
        struct wr_waist other = waist(others[i]);
        const char *seen = other.udp ? "/ip4/5.5.5.5/udp/4001/quic-v1" : "/ip4/5.5.5.5/tcp/4001";
        wr_observed_clear(&r->o);
        wr_observed_init(&r->o, SEED);
        memset(r->votes, 0, sizeof(r->votes));
        assert_int_equal(vote(r, 1, "/ip4/5.5.5.5/tcp/4001"), 0);
        assert_int_equal(vote(r, 2, "/ip4/5.5.5.5/tcp/4001"), 0);
        r->local = other;
        assert_int_equal(vote(r, 3, seen), 0);
        assert_int_equal(vote(r, 4, seen), 0);
        assert_false(wr_observed_judge(&r->o, r->now));
        assert_int_equal(wr_observed_list(&r->o, c, 4), 2);
        assert_true(c[0].networks == 2 && c[0].all == 2 && c[1].networks == 2 && c[1].all == 2);
        /* Who has judged the one may judge the other: that of the second is enough for it alone. */
        assert_int_equal(vote_from(r, 5, "/ip4/9.1.0.1/tcp/7", seen), 0);
        assert_true(wr_observed_judge(&r->o, r->now));
        assert_int_equal(r->o.active_count, 1);
        assert_true(wr_addr_equal(&r->o.active[0].local.addr, &other.addr));
        assert_int_equal(r->o.active[0].local.udp, other.udp);
        /* The socket that is gone takes its votes along, the other one keeps them. */
        wr_observed_keep(&r->o, &first, 1);
        assert_true(wr_observed_judge(&r->o, r->now));
        assert_int_equal(r->o.active_count, 0);
        assert_int_equal(r->o.map.count, 2);
        r->local = first;
    }
}

static void test_one_network_is_one_observer(void **state)
{
    struct room *r = *state;
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(vote_from(r, i, "/ip4/9.9.9.9/tcp/1", "/ip4/5.5.5.5/tcp/4001"), 0);
    wr_observed_judge(&r->o, r->now);
    assert_false(active(r, "/ip4/5.5.5.5/tcp/4001"));
    /* The latest of them counts, and nobody votes for two. */
    assert_int_equal(vote_from(r, 51, "/ip4/9.9.9.9/tcp/1", "/ip4/6.6.6.6/tcp/4001"), 0);
    struct wr_candidate c[4];
    assert_int_equal(wr_observed_list(&r->o, c, 4), 1);
    assert_true(c[0].external.addr.ip.bytes[0] == 6);
    /* IPv6: a /56 is one household. */
    r->local = waist("/ip6/2a00::9/tcp/4001");
    for (unsigned i = 60; i < 70; i++) {
        char from[64];
        snprintf(from, sizeof(from), "/ip6/2a01:0:0:1%02x::1/tcp/1", i);
        assert_int_equal(vote_from(r, i, from, "/ip6/2a02::9/tcp/4001"), 0);
    }
    assert_int_equal(wr_observed_list(&r->o, c, 4), 2);
    assert_int_equal(c[0].networks, 1);
    assert_int_equal(c[1].networks, 1);
}

static void test_what_is_no_evidence(void **state)
{
    struct room *r = *state;
    static const char *const bad[] = {
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/5.5.5.5/tcp/0",
        "/ip4/5.5.5.5/udp/4001/quic-v1",    /* another transport than the connection's */
        "/ip6/2a00::1/tcp/4001",
        "/ip4/0.0.0.0/tcp/4001",
        "/ip4/224.0.0.1/tcp/4001",
        "/ip4/192.168.1.2/tcp/4001",        /* the local address itself */
        "/ip4/192.168.1.77/tcp/4001",       /* private, says a public peer */
        "/dns4/example.org/tcp/4001",
        "/ip4/5.5.5.5/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit",
        "/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(vote(r, 1, bad[i]), WR_EINVAL);
    assert_int_equal(r->o.map.count, 0);
    r->local = waist("/ip6/2a00::9/tcp/4001");
    assert_int_equal(vote_from(r, 1, "/ip6/2a01::1/tcp/1", "/ip6/64:ff9b::102:304/tcp/4001"), WR_EINVAL);
    /* A neighbour behind the same outer NAT sees a private address rightly. */
    r->local = waist("/ip4/192.168.1.2/tcp/4001");
    assert_int_equal(vote_from(r, 1, "/ip4/100.64.0.9/tcp/1", "/ip4/100.64.0.8/tcp/4001"), 0);
}

static void test_one_liar_in_five_never_wins(void **state)
{
    struct room *r = *state;
    for (unsigned peers = 5; peers <= 1000; peers += peers / 5 * 5) {
        for (unsigned i = 0; i < peers; i++)
            assert_int_equal(vote(r, i, i % 5 ? "/ip4/5.5.5.5/tcp/4001" : "/ip4/6.6.6.6/tcp/4001"), 0);
        wr_observed_judge(&r->o, r->now);
        assert_true(active(r, "/ip4/5.5.5.5/tcp/4001"));
        assert_false(active(r, "/ip4/6.6.6.6/tcp/4001"));
    }
}

static void test_a_nat_with_a_port_per_destination_yields_nothing(void **state)
{
    struct room *r = *state;
    struct wr_candidate c[WR_OBSERVED_LIST_MAX];
    char seen[64];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(seen, sizeof(seen), "/ip4/5.5.5.5/tcp/%u", 10000 + i);
        assert_int_equal(vote(r, i, seen), 0);
    }
    assert_false(wr_observed_judge(&r->o, r->now));
    assert_true(wr_observed_list(&r->o, c, WR_OBSERVED_LIST_MAX) <= WR_OBSERVED_LIST_MAX);
    /* An address that a third agrees on is found among them. */
    for (unsigned i = 0; i < 1000; i += 3)
        assert_int_equal(vote(r, i, "/ip4/7.7.7.7/tcp/4001"), 0);
    assert_true(wr_observed_judge(&r->o, r->now));
    assert_true(active(r, "/ip4/7.7.7.7/tcp/4001"));
    assert_int_equal(wr_observed_list(&r->o, c, 1), 1);
    assert_int_equal(c[0].networks, 334);
    assert_int_equal(c[0].all, 1000);
}

static void test_evidence_outlives_its_connection_by_minutes(void **state)
{
    struct room *r = *state;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(vote(r, i, "/ip4/5.5.5.5/tcp/4001"), 0);
    assert_true(wr_observed_judge(&r->o, r->now));
    assert_true(wr_observed_next(&r->o) == 0);
    r->now += WR_HOUR;    /* an open connection never grows old */
    assert_false(wr_observed_judge(&r->o, r->now));
    wr_observed_leave(&r->o, &r->votes[0], r->now);
    assert_true(wr_observed_next(&r->o) == r->now + WR_OBSERVED_MEMORY);
    r->now += WR_OBSERVED_MEMORY - 1;
    assert_false(wr_observed_judge(&r->o, r->now));
    wr_observed_leave(&r->o, &r->votes[1], r->now);
    r->now += 1;    /* two left are enough to stay */
    assert_false(wr_observed_judge(&r->o, r->now));
    assert_true(active(r, "/ip4/5.5.5.5/tcp/4001"));
    r->now += WR_OBSERVED_MEMORY - 1;
    assert_true(wr_observed_judge(&r->o, r->now));
    assert_int_equal(r->o.active_count, 0);
    assert_int_equal(r->o.map.count, 1);
    /* Not active again at two. */
    assert_int_equal(vote(r, 0, "/ip4/5.5.5.5/tcp/4001"), 0);
    assert_false(wr_observed_judge(&r->o, r->now));
}

static void test_a_changed_mind_moves_the_vote(void **state)
{
    struct room *r = *state;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(vote(r, i, "/ip4/5.5.5.5/tcp/4001"), 0);
    assert_true(wr_observed_judge(&r->o, r->now));
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(vote(r, i, "/ip4/8.8.8.8/tcp/4001"), 0);
    assert_true(wr_observed_judge(&r->o, r->now));
    assert_false(active(r, "/ip4/5.5.5.5/tcp/4001"));
    assert_true(active(r, "/ip4/8.8.8.8/tcp/4001"));
}

static void test_gone_sockets_are_forgotten(void **state)
{
    struct room *r = *state;
    struct wr_waist other = waist("/ip4/192.168.1.3/tcp/4001");
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(vote(r, i, "/ip4/5.5.5.5/tcp/4001"), 0);
    assert_true(wr_observed_judge(&r->o, r->now));
    wr_observed_keep(&r->o, &r->local, 1);
    assert_int_equal(r->o.map.count, 3);
    wr_observed_keep(&r->o, &other, 1);
    assert_int_equal(r->o.map.count, 0);
    assert_null(r->votes[0].of);
    assert_true(wr_observed_judge(&r->o, r->now));
    wr_observed_leave(&r->o, &r->votes[0], r->now);
}

static void test_top_three_per_socket(void **state)
{
    struct room *r = *state;
    char seen[64];
    /* Three each of three addresses; a fourth has no quarter left to win. */
    for (unsigned i = 0; i < 12; i++) {
        snprintf(seen, sizeof(seen), "/ip4/5.5.5.%u/tcp/4001", i % 3 + 1);
        assert_int_equal(vote(r, i, seen), 0);
    }
    assert_true(wr_observed_judge(&r->o, r->now));
    assert_int_equal(r->o.active_count, WR_OBSERVED_TOP);
    for (unsigned i = 12; i < 16; i++)
        assert_int_equal(vote(r, i, "/ip4/5.5.5.9/tcp/4001"), 0);
    wr_observed_judge(&r->o, r->now);
    assert_false(active(r, "/ip4/5.5.5.9/tcp/4001"));
}

static void test_the_table_is_bounded(void **state)
{
    struct room *r = *state;
    for (unsigned i = 0; i < WR_OBSERVED_ENTRIES; i++)
        assert_int_equal(vote(r, i, "/ip4/5.5.5.5/tcp/4001"), 0);
    assert_int_equal(vote(r, WR_OBSERVED_ENTRIES, "/ip4/5.5.5.5/tcp/4001"), WR_ELIMIT);
    wr_observed_leave(&r->o, &r->votes[7], r->now);
    assert_int_equal(vote(r, WR_OBSERVED_ENTRIES, "/ip4/5.5.5.5/tcp/4001"), 0);
    assert_int_equal(r->o.map.count, WR_OBSERVED_ENTRIES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_three_networks_make_an_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_listening_address_has_its_own_votes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_network_is_one_observer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_no_evidence, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_liar_in_five_never_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_nat_with_a_port_per_destination_yields_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_evidence_outlives_its_connection_by_minutes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_changed_mind_moves_the_vote, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gone_sockets_are_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_top_three_per_socket, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_table_is_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
