/* Which address next, and when: the ranking table of go-libp2p's dial_ranker.go, staggered starts, back-off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/dial.h"

#include <stdio.h>
#include <string.h>

#define RELAY "/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit"
#define START (100 * WR_SEC)

static struct wr_maddr ma(const char *text)
{
    struct wr_maddr m;
    assert_int_equal(wr_maddr_parse(text, &m), 0);
    return m;
}

struct row {
    const char *addr;
    int ms;    /* expected start after the plan's beginning */
};

static void check_plan(const struct row *rows, size_t count)
{
    struct wr_maddr addrs[WR_DIAL_ADDRS_MAX];
    struct wr_dial d;
    for (size_t i = 0; i < count; i++)
        addrs[i] = ma(rows[i].addr);
    wr_dial_plan(&d, addrs, count, START);
    assert_int_equal(d.count, count);
    for (size_t i = 0; i < count; i++) {
        int ms = (int)((d.addrs[i].start_at - START) / WR_MSEC);
        if (ms != rows[i].ms)
            fail_msg("%s starts at %d ms, not %d", rows[i].addr, ms, rows[i].ms);
    }
}

static void test_ranking_table(void **state)
{
    (void)state;
    /* QUIC of both families, then TCP of both: dial_ranker.go, NewDialRanker's comment. */
    static const struct row mixed[] = {
        {"/ip4/8.8.8.8/tcp/1", 750},          {"/ip4/8.8.8.8/udp/1/quic-v1", 250},
        {"/ip6/2a00::1/tcp/1", 500},
        {"/ip6/2a00::1/udp/1/quic-v1", 0},
    };
    static const struct row tcp[] = {
        {"/ip4/8.8.8.8/tcp/2", 500}, {"/ip4/8.8.8.8/tcp/1", 250}, {"/ip6/2a00::1/tcp/9", 0},
        {"/ip6/2a00::2/tcp/10", 500},
    };
    static const struct row tcp4[] = {
        {"/ip4/8.8.8.8/tcp/1", 0}, {"/ip4/8.8.4.4/tcp/2", 250}, {"/ip4/9.9.9.9/tcp/3", 500},
        {"/ip4/9.9.9.9/tcp/4", 500},
    };
    static const struct row quic4[] = {
        {"/ip4/8.8.8.8/udp/3/quic-v1", 250}, {"/ip4/8.8.8.8/udp/1/quic-v1", 0},
        {"/ip4/8.8.8.8/udp/2/quic-v1", 250},
    };
    static const struct row lan_beside_public[] = {
        {"/ip4/8.8.8.8/tcp/1", 0}, {"/ip4/192.168.1.9/tcp/1", 0}, {"/ip4/10.0.0.1/tcp/2", 30},
        {"/ip4/127.0.0.1/tcp/3", 60},
    };
    static const struct row relays[] = {
        {"/ip4/8.8.8.8/tcp/1", 0}, {"/ip4/9.9.9.9/tcp/1" RELAY, 750},
        {"/ip4/9.9.9.9/udp/1/quic-v1" RELAY, 500},
    };
    static const struct row only_relay[] = {{"/ip4/9.9.9.9/tcp/1" RELAY, 0}, {"/ip4/10.1.1.1/tcp/1", 0}};
    static const struct row odd[] = {
        {"/ip4/8.8.8.8/tcp/1/ws", 1000}, {"/ip4/8.8.8.8/tcp/1", 0}, {"/ip4/10.0.0.2/tcp/1/ws", 100},
        {"/ip4/10.0.0.2/tcp/1", 0},
    };
    check_plan(mixed, 4);
    check_plan(tcp, 4);
    check_plan(tcp4, 4);
    check_plan(quic4, 3);
    check_plan(lan_beside_public, 4);
    check_plan(relays, 3);
    check_plan(only_relay, 2);
    check_plan(odd, 4);
}

static void test_starts_are_staggered_and_failures_hurry(void **state)
{
    (void)state;
    struct wr_maddr addrs[] = {ma("/ip4/8.8.8.8/tcp/1"), ma("/ip4/8.8.8.8/tcp/2"),
                               ma("/ip4/8.8.8.8/tcp/3")};
    struct wr_dial d;
    wr_dial_plan(&d, addrs, 3, START);
    assert_true(wr_dial_wait(&d) == START);
    assert_int_equal(wr_dial_next(&d, START), 0);
    assert_int_equal(wr_dial_next(&d, START), -1);
    assert_true(wr_dial_wait(&d) == START + WR_DIAL_STAGGER);
    wr_dial_failed(&d, 0, WR_EREFUSED);
    assert_int_equal(wr_dial_next(&d, START + 5 * WR_MSEC), 1);    /* nothing in flight: at once */
    assert_int_equal(wr_dial_next(&d, START + 5 * WR_MSEC), -1);
    assert_int_equal(wr_dial_next(&d, START + 2 * WR_DIAL_STAGGER), 2);
    assert_true(wr_dial_wait(&d) == 0);
    assert_false(wr_dial_done(&d));
    wr_dial_failed(&d, 1, WR_ETIMEOUT);
    wr_dial_failed(&d, 2, WR_EUNREACH);
    assert_true(wr_dial_done(&d));
    assert_int_equal(wr_dial_error(&d), WR_EREFUSED);
}

static void test_no_more_than_the_maximum_at_once(void **state)
{
    (void)state;
    struct wr_maddr addrs[WR_DIAL_PARALLEL + 2];
    char text[64];
    struct wr_dial d;
    for (int i = 0; i < WR_DIAL_PARALLEL + 2; i++) {
        snprintf(text, sizeof(text), "/ip4/8.8.8.%d/tcp/1", i + 1);
        addrs[i] = ma(text);
    }
    wr_dial_plan(&d, addrs, WR_DIAL_PARALLEL + 2, START);
    int started = 0;
    while (wr_dial_next(&d, START + WR_SEC) >= 0)
        started++;
    assert_int_equal(started, WR_DIAL_PARALLEL);
    assert_true(wr_dial_wait(&d) == 0);
    wr_dial_failed(&d, 3, WR_ETIMEOUT);
    assert_true(wr_dial_next(&d, START + WR_SEC) >= 0);
    assert_int_equal(wr_dial_next(&d, START + WR_SEC), -1);
}

static void test_duplicates_and_trailing_peer_ids_fold(void **state)
{
    (void)state;
    struct wr_maddr addrs[] = {
        ma("/ip4/8.8.8.8/tcp/1"), ma("/ip4/8.8.8.8/tcp/1"),
        ma("/ip4/8.8.8.8/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN")};
    struct wr_dial d;
    wr_dial_plan(&d, addrs, 3, START);
    assert_int_equal(d.count, 1);
    wr_dial_plan(&d, NULL, 0, START);
    assert_true(wr_dial_done(&d));
    assert_int_equal(wr_dial_error(&d), WR_EUNREACH);
}

static void test_a_full_plan_drops_the_worst(void **state)
{
    (void)state;
    struct wr_maddr addrs[WR_DIAL_ADDRS_MAX];
    char text[64];
    struct wr_dial d;
    for (int i = 0; i < WR_DIAL_ADDRS_MAX; i++) {
        snprintf(text, sizeof(text), "/ip4/8.8.8.%d/tcp/1/ws", i + 1);
        addrs[i] = ma(text);
    }
    wr_dial_plan(&d, addrs, WR_DIAL_ADDRS_MAX, START);
    wr_dial_add(&d, wr_maddr_bytes(&addrs[0]), START);
    struct wr_maddr good = ma("/ip4/8.8.8.8/tcp/7"), bad = ma("/ip4/9.9.9.9/tcp/1/ws");
    wr_dial_add(&d, wr_maddr_bytes(&bad), START);
    wr_dial_add(&d, wr_maddr_bytes(&good), START);
    assert_int_equal(d.count, WR_DIAL_ADDRS_MAX);
    int i = wr_dial_next(&d, START);
    assert_true(i >= 0 && d.addrs[i].addr.len == good.len);
    assert_memory_equal(d.addrs[i].addr.bytes, good.bytes, good.len);
    for (size_t k = 0; k < d.count; k++)
        assert_false(wr_bytes_equal(wr_maddr_bytes(&d.addrs[k].addr), wr_maddr_bytes(&bad)));
}

static void test_names_that_resolve_late_keep_the_order(void **state)
{
    (void)state;
    struct wr_maddr four = ma("/ip4/8.8.8.8/tcp/1"), six = ma("/ip6/2a00::1/tcp/1");
    struct wr_dial d;
    wr_dial_plan(&d, NULL, 0, START);
    wr_time later = START + 3 * WR_SEC;    /* a slow name: the row starts when the first answer is there */
    wr_dial_add(&d, wr_maddr_bytes(&four), later);
    wr_dial_add(&d, wr_maddr_bytes(&six), later);
    assert_int_equal(wr_dial_next(&d, later), 1);    /* IPv6 first */
    assert_int_equal(wr_dial_next(&d, later), -1);
    assert_true(wr_dial_wait(&d) == later + WR_DIAL_STAGGER);
    /* One more while it runs: indexes stay, and it takes its place in the row. */
    struct wr_maddr late = ma("/ip4/8.8.8.9/tcp/1");
    wr_dial_add(&d, wr_maddr_bytes(&late), later + WR_MSEC);
    assert_int_equal(d.addrs[1].state, WR_DIAL_RUNNING);
    assert_int_equal(wr_dial_next(&d, later + 250 * WR_MSEC), 0);
    assert_int_equal(wr_dial_next(&d, later + 250 * WR_MSEC), -1);
    assert_int_equal(wr_dial_next(&d, later + 500 * WR_MSEC), 2);
}

/* ---- back-off */

static struct wr_peerid peer(uint8_t n)
{
    struct wr_peerid id = {.len = 34, .bytes = {0x12, 0x20, n}};
    return id;
}

static void test_backoff_grows_and_forgets(void **state)
{
    (void)state;
    static const uint8_t seed[WR_MAP_SEED] = {1};
    struct wr_backoff b;
    wr_backoff_init(&b, seed);
    struct wr_peerid p = peer(1), q = peer(2);
    struct wr_maddr a = ma("/ip4/8.8.8.8/tcp/1"), c = ma("/ip4/8.8.8.8/tcp/2");
    wr_time now = START;
    /* 5 s + tries^2 x 1 s, at most 5 min; go swarm_dial.go. */
    static const int seconds[] = {5, 6, 9, 14, 21, 30};
    for (size_t i = 0; i < 6; i++) {
        wr_backoff_failed(&b, &p, wr_maddr_bytes(&a), now);
        now += seconds[i] * WR_SEC;
        assert_true(wr_backoff_waits(&b, &p, wr_maddr_bytes(&a), now - 1));
        assert_false(wr_backoff_waits(&b, &p, wr_maddr_bytes(&a), now));
        assert_false(wr_backoff_waits(&b, &q, wr_maddr_bytes(&a), now - 1));
        assert_false(wr_backoff_waits(&b, &p, wr_maddr_bytes(&c), now - 1));
    }
    for (size_t i = 0; i < 60; i++)
        wr_backoff_failed(&b, &p, wr_maddr_bytes(&a), now);
    assert_true(wr_backoff_waits(&b, &p, wr_maddr_bytes(&a), now + WR_BACKOFF_MAX - 1));
    assert_false(wr_backoff_waits(&b, &p, wr_maddr_bytes(&a), now + WR_BACKOFF_MAX));
    now += 3 * WR_BACKOFF_MAX;    /* long quiet: starts anew */
    wr_backoff_failed(&b, &p, wr_maddr_bytes(&a), now);
    assert_false(wr_backoff_waits(&b, &p, wr_maddr_bytes(&a), now + WR_BACKOFF_BASE));
    wr_backoff_failed(&b, &p, wr_maddr_bytes(&a), now);
    wr_backoff_forget(&b, &p, wr_maddr_bytes(&a));
    assert_false(wr_backoff_waits(&b, &p, wr_maddr_bytes(&a), now));
    wr_backoff_clear(&b);
}

static void test_backoff_is_bounded(void **state)
{
    (void)state;
    static const uint8_t seed[WR_MAP_SEED] = {2};
    struct wr_backoff b;
    wr_backoff_init(&b, seed);
    struct wr_maddr a = ma("/ip4/8.8.8.8/tcp/1");
    struct wr_peerid first = {0};
    for (unsigned i = 0; i < WR_BACKOFF_ENTRIES + 10; i++) {
        struct wr_peerid p = peer((uint8_t)i);
        p.bytes[3] = (uint8_t)(i >> 8);
        if (i == 0)
            first = p;
        wr_backoff_failed(&b, &p, wr_maddr_bytes(&a), START);
    }
    assert_int_equal(b.map.count, WR_BACKOFF_ENTRIES);
    assert_false(wr_backoff_waits(&b, &first, wr_maddr_bytes(&a), START));
    wr_backoff_clear(&b);
}

static wr_time start_of(const struct wr_dial *d, const char *addr)
{
    struct wr_maddr m = ma(addr);
    for (size_t i = 0; i < d->count; i++)
        if (wr_bytes_equal(wr_maddr_bytes(&d->addrs[i].addr), wr_maddr_bytes(&m)))
            return d->addrs[i].start_at - START;
    return -1;
}

/* Where UDP leads nowhere TCP goes first, on public addresses alone. */
static void test_quic_last(void **state)
{
    static const char *const of[] = {"/ip4/8.8.8.8/udp/1/quic-v1", "/ip4/8.8.8.8/tcp/1",
                                     "/ip4/10.0.0.1/udp/1/quic-v1", "/ip4/10.0.0.1/tcp/1"};
    (void)state;
    struct wr_dial d;
    wr_dial_plan(&d, NULL, 0, START);
    d.quic_last = true;
    for (size_t i = 0; i < 4; i++) {
        struct wr_maddr m = ma(of[i]);
        wr_dial_add(&d, wr_maddr_bytes(&m), START);
    }
    assert_int_equal(start_of(&d, of[0]), 250 * WR_MSEC);
    assert_int_equal(start_of(&d, of[1]), 0);
    assert_int_equal(start_of(&d, of[2]), 0);
    assert_int_equal(start_of(&d, of[3]), 30 * WR_MSEC);
}

/* Where IPv6 leads nowhere IPv4 has the head start, on public addresses alone. */
static void test_ip6_last(void **state)
{
    static const struct row rows[] = {
        {"/ip6/2a00::1/udp/1/quic-v1", 250}, {"/ip4/8.8.8.8/udp/1/quic-v1", 0}, {"/ip6/2a00::1/tcp/1", 750},
        {"/ip4/8.8.8.8/tcp/1", 500},         {"/ip6/fd00::1/tcp/1", 0},         {"/ip4/10.0.0.1/tcp/1", 30},
    };
    (void)state;
    struct wr_dial d;
    wr_dial_plan(&d, NULL, 0, START);
    d.ip6_last = true;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct wr_maddr m = ma(rows[i].addr);
        wr_dial_add(&d, wr_maddr_bytes(&m), START);
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(start_of(&d, rows[i].addr), rows[i].ms * WR_MSEC);
}

static void test_black_hole(void **state)
{
    (void)state;
    struct wr_blackhole b = {0};
    for (int i = 0; i < WR_BLACKHOLE_WINDOW - 1; i++)
        wr_blackhole_note(&b, false);
    assert_false(wr_blackhole_suspects(&b));
    wr_blackhole_note(&b, true);    /* one success outweighs them all */
    for (int i = 0; i < WR_BLACKHOLE_WINDOW; i++) {
        assert_false(wr_blackhole_suspects(&b));
        wr_blackhole_note(&b, false);
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < WR_BLACKHOLE_PROBE - 1; i++)
            assert_true(wr_blackhole_suspects(&b));
        assert_false(wr_blackhole_suspects(&b));
        wr_blackhole_note(&b, false);
    }
    wr_blackhole_note(&b, true);
    assert_false(wr_blackhole_suspects(&b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranking_table),
        cmocka_unit_test(test_quic_last),
        cmocka_unit_test(test_ip6_last),
        cmocka_unit_test(test_black_hole),
        cmocka_unit_test(test_starts_are_staggered_and_failures_hurry),
        cmocka_unit_test(test_no_more_than_the_maximum_at_once),
        cmocka_unit_test(test_duplicates_and_trailing_peer_ids_fold),
        cmocka_unit_test(test_a_full_plan_drops_the_worst),
        cmocka_unit_test(test_names_that_resolve_late_keep_the_order),
        cmocka_unit_test(test_backoff_grows_and_forgets),
        cmocka_unit_test(test_backoff_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
