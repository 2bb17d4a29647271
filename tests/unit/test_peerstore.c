/* What we know of other peers: bounds, expiry, who goes first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "env_stub.h"
#include "transport/peerstore.h"

#include <stdio.h>
#include <string.h>

#define ID_A "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"

struct fixture {
    struct wr_env env;
    struct wr_limits limits;
    struct wr_peerstore ps;
};

static int setup(void **state)
{
    struct fixture *f = wr_alloc(sizeof(*f));
    f->env.now = 1000 * WR_SEC;
    assert_int_equal(wr_limits_init(&f->limits, "small"), 0);
    wr_peerstore_init(&f->ps, &f->env, &f->limits);
    *state = f;
    return 0;
}

/* Whatever a test did, everything taken is given back. */
static int teardown(void **state)
{
    struct fixture *f = *state;
    wr_peerstore_clear(&f->ps);
    int left = f->limits.of[WR_LIMIT_MEMORY].used != 0 || f->limits.of[WR_LIMIT_PEERSTORE].used != 0;
    wr_free(f);
    return left;
}

static struct wr_peerid peer(unsigned n)
{
    struct wr_peerid id = {.len = 34, .bytes = {0x12, 0x20, (uint8_t)n, (uint8_t)(n >> 8)}};
    return id;
}

static struct wr_maddr ma(const char *text)
{
    struct wr_maddr m;
    assert_int_equal(wr_maddr_parse(text, &m), 0);
    return m;
}

static int add(struct fixture *f, const struct wr_peerid *id, const char *addr, wr_time ttl)
{
    struct wr_maddr m = ma(addr);
    return wr_peerstore_add_addr(&f->ps, id, wr_maddr_bytes(&m), ttl, false);
}

static bool knows(struct fixture *f, const struct wr_peerid *id, const char *addr)
{
    struct wr_maddr list[WR_PEER_ADDRS_MAX], m = ma(addr);
    size_t n = wr_peerstore_addrs(&f->ps, id, list, WR_PEER_ADDRS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (wr_bytes_equal(wr_maddr_bytes(&list[i]), wr_maddr_bytes(&m)))
            return true;
    }
    return false;
}

static void test_addresses_expire(void **state)
{
    struct fixture *f = *state;
    struct wr_peerid p = peer(1);
    assert_int_equal(add(f, &p, "/ip4/8.8.8.8/tcp/1", WR_TTL_TEMP), 0);
    assert_int_equal(add(f, &p, "/ip4/8.8.8.8/tcp/2", WR_TTL_DHT), 0);
    assert_int_equal(add(f, &p, "/ip4/8.8.8.8/tcp/3", WR_TTL_PERMANENT), 0);
    assert_int_equal(add(f, &p, "/ip4/8.8.8.8/tcp/1", 1), 0);    /* a shorter ttl takes nothing away */
    f->env.now += WR_TTL_TEMP - 1;
    assert_true(knows(f, &p, "/ip4/8.8.8.8/tcp/1"));
    f->env.now += 1;
    assert_false(knows(f, &p, "/ip4/8.8.8.8/tcp/1"));
    assert_true(knows(f, &p, "/ip4/8.8.8.8/tcp/2"));
    f->env.now += 1000 * (WR_TTL_CONNECTED / 365);
    wr_peerstore_sweep(&f->ps, 10);
    assert_int_equal(wr_peerstore_find(&f->ps, &p)->addr_count, 1);
    assert_true(knows(f, &p, "/ip4/8.8.8.8/tcp/3"));
}

static void test_addresses_are_checked(void **state)
{
    struct fixture *f = *state;
    struct wr_peerid a;
    assert_int_equal(wr_peerid_parse(ID_A, &a), 0);
    struct wr_peerid other = peer(1);
    assert_int_equal(wr_peerstore_add_addr(&f->ps, &a, WR_BYTES_NONE, WR_TTL_DHT, false), WR_EINVAL);
    assert_int_equal(wr_peerstore_add_addr(&f->ps, &a, WR_BYTES("\x04\x01", 2), WR_TTL_DHT, false),
                     WR_EINVAL);
    assert_int_equal(add(f, &a, "/p2p/" ID_A, WR_TTL_DHT), WR_EINVAL);
    assert_null(wr_peerstore_find(&f->ps, &a));
    assert_int_equal(add(f, &other, "/ip4/8.8.8.8/tcp/1/p2p/" ID_A, WR_TTL_DHT), WR_EPEERID);
    assert_int_equal(add(f, &a, "/ip4/8.8.8.8/tcp/1/p2p/" ID_A, WR_TTL_DHT), 0);
    assert_true(knows(f, &a, "/ip4/8.8.8.8/tcp/1"));
    /* A relay's id inside is no claim about the peer itself; long forms lie on the heap. */
    assert_int_equal(add(f, &other, "/ip4/8.8.8.8/tcp/1/p2p/" ID_A "/p2p-circuit", WR_TTL_DHT), 0);
    assert_true(knows(f, &other, "/ip4/8.8.8.8/tcp/1/p2p/" ID_A "/p2p-circuit"));
    assert_int_equal(add(f, &other, "/ip6/2a00::1/udp/4001/quic-v1", WR_TTL_DHT), 0);
    assert_int_equal(wr_peerstore_find(&f->ps, &other)->addr_count, 2);
}

static void test_full_list_keeps_the_better(void **state)
{
    struct fixture *f = *state;
    struct wr_peerid p = peer(1);
    char text[64];
    for (int i = 1; i <= WR_PEER_ADDRS_MAX; i++) {
        snprintf(text, sizeof(text), "/ip4/8.8.8.8/tcp/%d", i);
        assert_int_equal(add(f, &p, text, WR_TTL_DHT), 0);
    }
    struct wr_maddr first = ma("/ip4/8.8.8.8/tcp/1");
    wr_peerstore_dialled(&f->ps, &p, wr_maddr_bytes(&first), true);
    assert_int_equal(add(f, &p, "/ip4/9.9.9.9/tcp/1", WR_TTL_TEMP), WR_ELIMIT);
    assert_int_equal(add(f, &p, "/ip4/9.9.9.9/tcp/2", WR_TTL_RECENT), 0);
    assert_true(knows(f, &p, "/ip4/8.8.8.8/tcp/1"));
    assert_false(knows(f, &p, "/ip4/8.8.8.8/tcp/2"));
    assert_int_equal(wr_peerstore_find(&f->ps, &p)->addr_count, WR_PEER_ADDRS_MAX);
    /* What worked comes first. */
    struct wr_maddr best[1];
    assert_int_equal(wr_peerstore_addrs(&f->ps, &p, best, 1), 1);
    assert_true(wr_bytes_equal(wr_maddr_bytes(&best[0]), wr_maddr_bytes(&first)));
    /* Nothing pushes out what the owner gave. */
    struct wr_peerid q = peer(2);
    for (int i = 1; i <= WR_PEER_ADDRS_MAX; i++) {
        snprintf(text, sizeof(text), "/ip4/8.8.8.8/tcp/%d", i);
        assert_int_equal(add(f, &q, text, WR_TTL_PERMANENT), 0);
    }
    assert_int_equal(add(f, &q, "/ip4/9.9.9.9/tcp/2", WR_TTL_CONNECTED), WR_ELIMIT);
}

static void test_identify_replaces_and_disconnecting_demotes(void **state)
{
    struct fixture *f = *state;
    struct wr_peerid p = peer(1);
    struct wr_maddr old[] = {ma("/ip4/8.8.8.8/tcp/1"), ma("/ip4/8.8.8.8/tcp/2")};
    struct wr_maddr now[] = {ma("/ip4/8.8.8.8/tcp/2"), ma("/ip4/8.8.8.8/tcp/3")};
    assert_int_equal(add(f, &p, "/ip4/8.8.8.8/tcp/9", WR_TTL_PERMANENT), 0);
    assert_int_equal(wr_peerstore_set_addrs(&f->ps, &p, old, 2, WR_TTL_CONNECTED, true), 0);
    assert_true(wr_peerstore_find(&f->ps, &p)->addrs[1].certified);
    assert_int_equal(wr_peerstore_set_addrs(&f->ps, &p, now, 2, WR_TTL_CONNECTED, false), 0);
    assert_false(wr_peerstore_find(&f->ps, &p)->addrs[2].certified);
    f->env.now += WR_TTL_TEMP;
    assert_false(knows(f, &p, "/ip4/8.8.8.8/tcp/1"));
    f->env.now += WR_TTL_CONNECTED;
    assert_true(knows(f, &p, "/ip4/8.8.8.8/tcp/2"));
    wr_peerstore_demote(&f->ps, &p, WR_TTL_RECENT);
    f->env.now += WR_TTL_RECENT - 1;
    assert_true(knows(f, &p, "/ip4/8.8.8.8/tcp/3"));
    f->env.now += 1;
    assert_false(knows(f, &p, "/ip4/8.8.8.8/tcp/2"));
    assert_false(knows(f, &p, "/ip4/8.8.8.8/tcp/3"));
    assert_true(knows(f, &p, "/ip4/8.8.8.8/tcp/9"));
}

static void test_protocols_are_shared(void **state)
{
    struct fixture *f = *state;
    struct wr_bytes names[] = {WR_BYTES_STR("/b"), WR_BYTES_STR("/a"), WR_BYTES_STR("/b"),
                               WR_BYTES_STR("/bad\n"), WR_BYTES_STR("")};
    struct wr_bytes mixed[] = {WR_BYTES_STR("/a"), WR_BYTES_STR("/b")};
    struct wr_peerid p = peer(1), q = peer(2), r = peer(3);
    assert_int_equal(wr_peerstore_speaks(&f->ps, &p, "/a"), -1);
    assert_int_equal(wr_peerstore_set_protocols(&f->ps, &p, names, 5), 0);
    assert_int_equal(wr_peerstore_set_protocols(&f->ps, &q, mixed, 2), 0);
    assert_ptr_equal(wr_peerstore_find(&f->ps, &p)->protocols, wr_peerstore_find(&f->ps, &q)->protocols);
    assert_int_equal(wr_peerstore_speaks(&f->ps, &p, "/a"), 1);
    assert_int_equal(wr_peerstore_speaks(&f->ps, &p, "/b"), 1);
    assert_int_equal(wr_peerstore_speaks(&f->ps, &p, "/c"), 0);
    size_t cursor = 0;
    const struct wr_peer *entry = wr_peerstore_find(&f->ps, &p);
    assert_string_equal(wr_peer_protocol(entry, &cursor), "/a");
    assert_string_equal(wr_peer_protocol(entry, &cursor), "/b");
    assert_null(wr_peer_protocol(entry, &cursor));
    assert_int_equal(wr_peerstore_set_protocols(&f->ps, &p, NULL, 0), 0);
    assert_int_equal(wr_peerstore_speaks(&f->ps, &p, "/a"), 0);
    assert_int_equal(wr_peerstore_speaks(&f->ps, &q, "/a"), 1);
    assert_int_equal(wr_peerstore_set_agent(&f->ps, &r, WR_BYTES_STR("kubo/0.1\x1b[31m"), WR_BYTES_NONE),
                     0);
    assert_string_equal(wr_peer_agent(wr_peerstore_find(&f->ps, &r)), "kubo/0.1?[31m");
    assert_string_equal(wr_peer_agent(wr_peerstore_find(&f->ps, &q)), "");
    assert_int_equal(f->ps.texts.map.count, 3);
    /* The last holder takes the copy along. */
    assert_int_equal(wr_peerstore_set_protocols(&f->ps, &q, NULL, 0), 0);
    assert_int_equal(f->ps.texts.map.count, 2);
}

static void test_protocol_lists_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct wr_bytes names[WR_PEER_PROTOCOLS_MAX + 10];
    char text[WR_PEER_PROTOCOLS_MAX + 10][64];
    struct wr_peerid p = peer(1);
    for (size_t i = 0; i < WR_PEER_PROTOCOLS_MAX + 10; i++) {
        snprintf(text[i], sizeof(text[i]), "/%060zu", i);
        names[i] = wr_bytes_cstr(text[i]);
    }
    assert_int_equal(wr_peerstore_set_protocols(&f->ps, &p, names, WR_PEER_PROTOCOLS_MAX + 10), 0);
    size_t count = 0, cursor = 0;
    while (wr_peer_protocol(wr_peerstore_find(&f->ps, &p), &cursor))
        count++;
    assert_int_equal(count, WR_PEER_PROTOCOLS_LEN / 62);
    for (size_t i = 0; i < WR_PEER_PROTOCOLS_MAX + 10; i++)
        names[i].len = 59 + (i < 2);    /* "/000..": nearly all alike */
    assert_int_equal(wr_peerstore_set_protocols(&f->ps, &p, names, WR_PEER_PROTOCOLS_MAX + 10), 0);
    assert_true(wr_peerstore_find(&f->ps, &p)->protocols->len < WR_PEER_PROTOCOLS_LEN);
}

static void test_records_only_get_newer(void **state)
{
    struct fixture *f = *state;
    struct wr_peerid p = peer(1);
    assert_int_equal(wr_peerstore_set_record(&f->ps, &p, 7), 0);
    assert_int_equal(wr_peerstore_set_record(&f->ps, &p, 7), WR_ESTALE);
    assert_int_equal(wr_peerstore_set_record(&f->ps, &p, 6), WR_ESTALE);
    assert_int_equal(wr_peerstore_set_record(&f->ps, &p, 8), 0);
}

static void test_a_flood_pushes_out_no_peer_that_was_met(void **state)
{
    struct fixture *f = *state;
    uint64_t max = f->limits.of[WR_LIMIT_PEERSTORE].max;
    struct wr_peerid met = peer(0), pinned = peer(1), connected = peer(2);
    assert_non_null(wr_peerstore_get(&f->ps, &met));
    wr_peerstore_find(&f->ps, &met)->seen_at = f->env.now;
    wr_peerstore_protect(&f->ps, &pinned, true);
    wr_peerstore_get(&f->ps, &connected)->connections = 1;
    for (unsigned i = 3; i < 3 * max; i++) {
        struct wr_peerid p = peer(i);
        assert_int_equal(add(f, &p, "/ip4/8.8.8.8/tcp/1", WR_TTL_DHT), 0);
    }
    assert_int_equal(f->ps.map.count, max);
    assert_non_null(wr_peerstore_find(&f->ps, &met));
    assert_non_null(wr_peerstore_find(&f->ps, &pinned));
    assert_non_null(wr_peerstore_find(&f->ps, &connected));
    struct wr_peerid old = peer(3), young = peer((unsigned)(3 * max - 1));
    assert_null(wr_peerstore_find(&f->ps, &old));
    assert_non_null(wr_peerstore_find(&f->ps, &young));
    wr_peerstore_protect(&f->ps, &pinned, false);
    assert_int_equal(wr_peerstore_find(&f->ps, &pinned)->protections, 0);
}

static void test_full_of_pinned_peers_refuses(void **state)
{
    struct fixture *f = *state;
    uint64_t max = f->limits.of[WR_LIMIT_PEERSTORE].max;
    for (unsigned i = 0; i < max; i++) {
        struct wr_peerid p = peer(i);
        wr_peerstore_protect(&f->ps, &p, true);
    }
    struct wr_peerid more = peer((unsigned)max), third = peer(3);
    assert_null(wr_peerstore_get(&f->ps, &more));
    assert_int_equal(add(f, &more, "/ip4/8.8.8.8/tcp/1", WR_TTL_DHT), WR_ELIMIT);
    assert_true(f->limits.of[WR_LIMIT_PEERSTORE].refused > 0);
    wr_peerstore_protect(&f->ps, &third, false);
    assert_non_null(wr_peerstore_get(&f->ps, &more));
    assert_null(wr_peerstore_find(&f->ps, &third));
}

static void test_sweeping_walks_the_whole_store(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 100; i++) {
        struct wr_peerid p = peer(i);
        assert_int_equal(add(f, &p, "/ip4/8.8.8.8/tcp/1", i % 2 ? WR_TTL_TEMP : WR_TTL_DHT), 0);
    }
    f->env.now += WR_TTL_TEMP;
    for (int i = 0; i < 12; i++)
        wr_peerstore_sweep(&f->ps, 10);
    assert_int_equal(f->ps.map.count, 50);
    f->env.now += WR_TTL_DHT;
    struct wr_peerid kept = peer(4);
    wr_peerstore_find(&f->ps, &kept)->connections = 1;
    for (int i = 0; i < 12; i++)
        wr_peerstore_sweep(&f->ps, 10);
    assert_int_equal(f->ps.map.count, 1);
    assert_non_null(wr_peerstore_find(&f->ps, &kept));
}

static void test_no_memory_left_is_a_refusal(void **state)
{
    struct fixture *f = *state;
    struct wr_peerid p = peer(1);
    assert_int_equal(add(f, &p, "/ip4/8.8.8.8/tcp/1", WR_TTL_DHT), 0);
    f->limits.of[WR_LIMIT_MEMORY].max = f->limits.of[WR_LIMIT_MEMORY].used;
    struct wr_bytes names[] = {WR_BYTES_STR("/a")};
    struct wr_peerid q = peer(2);
    assert_int_equal(add(f, &p, "/ip4/8.8.8.8/tcp/2", WR_TTL_DHT), WR_ELIMIT);
    assert_int_equal(add(f, &p, "/ip4/8.8.8.8/tcp/1/p2p/" ID_A "/p2p-circuit", WR_TTL_DHT), WR_ELIMIT);
    assert_int_equal(wr_peerstore_set_protocols(&f->ps, &p, names, 1), WR_ELIMIT);
    assert_int_equal(wr_peerstore_set_agent(&f->ps, &p, names[0], WR_BYTES_NONE), WR_ELIMIT);
    assert_null(wr_peerstore_get(&f->ps, &q));
    assert_true(knows(f, &p, "/ip4/8.8.8.8/tcp/1"));
}

/* B13 of the performance sheet wants 3 KiB of ours per idle connection, all told. */
static void test_an_entry_is_small(void **state)
{
    struct fixture *f = *state;
    struct wr_bytes names[30];
    char text[30][32];
    for (size_t i = 0; i < 30; i++) {
        snprintf(text[i], sizeof(text[i]), "/ipfs/protocol-%zu/1.0.0", i);
        names[i] = wr_bytes_cstr(text[i]);
    }
    for (unsigned i = 0; i < 100; i++) {
        struct wr_peerid p = peer(i);
        assert_int_equal(add(f, &p, "/ip4/8.8.8.8/tcp/1", WR_TTL_DHT), 0);
        assert_int_equal(add(f, &p, "/ip4/8.8.8.8/udp/1/quic-v1", WR_TTL_DHT), 0);
        assert_int_equal(add(f, &p, "/ip6/2a00::1/tcp/1", WR_TTL_DHT), 0);
        assert_int_equal(add(f, &p, "/ip6/2a00::1/udp/1/quic-v1", WR_TTL_DHT), 0);
        assert_int_equal(wr_peerstore_set_protocols(&f->ps, &p, names, 30), 0);
        assert_int_equal(wr_peerstore_set_agent(&f->ps, &p, WR_BYTES_STR("kubo/0.38.0"),
                                                WR_BYTES_STR("ipfs/0.1.0")),
                         0);
    }
    assert_true(f->limits.of[WR_LIMIT_MEMORY].used / 100 <= 512);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_addresses_expire, setup, teardown),
        cmocka_unit_test_setup_teardown(test_addresses_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_list_keeps_the_better, setup, teardown),
        cmocka_unit_test_setup_teardown(test_identify_replaces_and_disconnecting_demotes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_protocols_are_shared, setup, teardown),
        cmocka_unit_test_setup_teardown(test_protocol_lists_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_records_only_get_newer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_flood_pushes_out_no_peer_that_was_met, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_of_pinned_peers_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweeping_walks_the_whole_store, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory_left_is_a_refusal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_entry_is_small, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
