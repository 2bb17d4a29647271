/* What a node remembers: time, sequence numbers and peers, over restarts, crashes, damage and clocks that
 * are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/kv_mem.c"
#include "tests/unit/still_env.h"

#include "node/state.h"
#include "transport/wall.h"

#include <stdio.h>

#define DAY   (24 * WR_HOUR)
#define YEAR  (365 * DAY)
#define TODAY (WR_WALL_FLOOR + 100 * DAY)
#define PEERS 20

static struct kv_mem_disk disk;
static struct wr_kv *kv;
static struct wr_state *s;
static size_t peers_max;

struct kv_mem_disk *kv_mem_disk_for(struct wr_env *env, const char *path)
{
    (void)env;
    (void)path;
    return &disk;
}

static void open_state_of(const char *network)
{
    struct wr_kv_options o = {"disk", 8 << 20, 1 << 20};
    struct wr_state_options so = {&still.env, NULL, network, peers_max};
    assert_int_equal(wr_kv_open(&still.env, &o, &kv), 0);
    so.kv = kv;
    assert_int_equal(wr_state_open(&so, &s), 0);
}

static void open_state(void)
{
    open_state_of("ipfs");
}

static void close_state(void)
{
    wr_state_close(s);
    wr_kv_close(kv);
    still_run();
    s = NULL;
    kv = NULL;
}

static void restart(void)
{
    close_state();
    open_state();
}

/* Power failure, this long after the last event. */
static void crash_after(wr_time time)
{
    still_pass(time);
    kv_mem_disk_crash(&disk);
    close_state();
}

static int set_up(void **state)
{
    (void)state;
    still_start(TODAY);
    kv_mem_disk_init(&disk, 1);
    peers_max = PEERS;
    open_state();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (s)
        close_state();
    kv_mem_disk_clear(&disk);
    return 0;
}

/* ---- peers by number --------------------------------------------------------------------------------- */

static struct wr_peerid id_of(unsigned n)
{
    struct wr_peerid id = {.len = 34, .bytes = {0x12, 0x20}};
    memcpy(id.bytes + 2, &n, sizeof(n));
    return id;
}

static struct wr_maddr addr_of(unsigned n)
{
    char text[64];
    struct wr_maddr ma;
    snprintf(text, sizeof(text), "/ip4/10.%u.%u.%u/tcp/4001", n >> 16 & 255, n >> 8 & 255, n & 255);
    assert_int_equal(wr_maddr_parse(text, &ma), 0);
    return ma;
}

static int see_at(unsigned n, unsigned addr)
{
    struct wr_peerid id = id_of(n);
    struct wr_maddr ma = addr_of(addr);
    return wr_state_peer_seen(s, &id, &ma, 1);
}

static int see(unsigned n)
{
    return see_at(n, n);
}

struct looking {
    struct wr_peerid id;
    struct wr_state_peer *out;
    bool found;
};

static bool look(void *arg, const struct wr_state_peer *peer)
{
    struct looking *l = arg;
    l->found = wr_peerid_equal(&peer->id, &l->id);
    if (l->found)
        *l->out = *peer;
    return !l->found;
}

static bool get(unsigned n, struct wr_state_peer *out)
{
    struct looking l = {.id = id_of(n), .out = out};
    wr_state_peers(s, look, &l);
    return l.found;
}

static bool knows(unsigned n)
{
    struct wr_state_peer peer;
    return get(n, &peer);
}

static bool count_one(void *arg, const struct wr_state_peer *peer)
{
    (void)peer;
    ++*(size_t *)arg;
    return true;
}

static size_t count(void)
{
    size_t all = 0;
    wr_state_peers(s, count_one, &all);
    return all;
}

struct listing {
    char text[1024];
    size_t len, stop_after;
};

static bool list(void *arg, const struct wr_state_peer *peer)
{
    struct listing *l = arg;
    unsigned n;
    memcpy(&n, peer->id.bytes + 2, sizeof(n));
    l->len += (size_t)snprintf(l->text + l->len, sizeof(l->text) - l->len, "%u ", n);
    return l->stop_after == 0 || --l->stop_after;
}

static void expect_list(const char *want)
{
    struct listing l = {.len = 0};
    wr_state_peers(s, list, &l);
    assert_string_equal(l.text, want);
}

/* ---- tests of peers ------------------------------------------------------------------------------------- */

static void test_peers_come_back(void **state)
{
    (void)state;
    struct wr_peerid id = id_of(2);
    struct wr_maddr addrs[6];
    struct wr_state_peer peer;
    for (unsigned i = 0; i < 6; i++)
        addrs[i] = addr_of(70 + i);
    see(1);
    still_pass(WR_SEC);
    assert_int_equal(wr_state_peer_seen(s, &id, addrs, 6), 0);
    still_pass(WR_SEC);
    see(3);
    for (int round = 0; round < 3; round++) {
        expect_list("3 2 1 ");
        assert_true(get(2, &peer));
        assert_int_equal(peer.count, WR_STATE_ADDRS_MAX);
        assert_true(peer.seen_at == TODAY + WR_SEC);
        for (unsigned i = 0; i < WR_STATE_ADDRS_MAX; i++)
            assert_true(wr_bytes_equal(wr_maddr_bytes(&peer.addrs[i]), wr_maddr_bytes(&addrs[i])));
        restart();
    }
    struct listing l = {.stop_after = 2};
    wr_state_peers(s, list, &l);
    assert_string_equal(l.text, "3 2 ");
}

/* Also when nothing else is news. */
static void test_what_a_peer_speaks_comes_back(void **state)
{
    (void)state;
    struct wr_peerid one = id_of(1), nobody = id_of(9);
    struct wr_state_peer peer;
    see(1);
    see(2);
    assert_int_equal(wr_state_peer_security(s, &one), 0);
    for (uint8_t security = 1; security <= WR_STATE_SECURITY_MAX; security++) {
        assert_int_equal(wr_state_peer_set_security(s, &one, security), 0);
        restart();
        assert_int_equal(wr_state_peer_security(s, &one), security);
        assert_true(get(1, &peer));
        assert_int_equal(peer.security, security);
        assert_int_equal(peer.count, 1);
        see_at(1, 40u + security);
        restart();
        assert_int_equal(wr_state_peer_security(s, &one), security);
    }
    assert_int_equal(wr_state_peer_security(s, &nobody), 0);
    assert_int_equal(wr_state_peer_set_security(s, &nobody, 1), WR_ENOTFOUND);
}

static void test_addresses_change_and_stay(void **state)
{
    (void)state;
    struct wr_peerid id = id_of(1);
    struct wr_state_peer peer;
    see_at(1, 5);
    wr_state_peer_seen(s, &id, NULL, 0);    /* met, nothing new about where */
    assert_true(get(1, &peer));
    assert_int_equal(peer.count, 1);
    see_at(1, 6);
    restart();
    struct wr_maddr want = addr_of(6);
    assert_true(get(1, &peer));
    assert_int_equal(peer.count, 1);
    assert_true(wr_bytes_equal(wr_maddr_bytes(&peer.addrs[0]), wr_maddr_bytes(&want)));
}

static void test_the_same_again_is_not_written(void **state)
{
    (void)state;
    see(1);
    still_pass(WR_MIN);
    uint64_t commits = disk.commits;
    for (int i = 0; i < 50; i++) {
        see(1);
        still_pass(WR_MIN);
    }
    assert_true(disk.commits == commits);
    for (int i = 0; i < 120; i++) {
        see(1);
        still_pass(WR_MIN);
    }
    assert_in_range(disk.commits - commits, 2, 4);    /* once an hour, and the time itself */
    restart();
    struct wr_state_peer peer;
    assert_true(get(1, &peer));
    assert_true(peer.seen_at == TODAY + 170 * WR_MIN);    /* closing wrote the last sight */
}

static void test_full_of_peers(void **state)
{
    (void)state;
    for (unsigned n = 0; n < PEERS; n++) {
        see(n);
        still_pass(WR_SEC);
    }
    see(2);    /* again: the newest now */
    for (unsigned n = 100; n < 100 + PEERS - 2; n++)
        assert_int_equal(see(n), 0);
    assert_int_equal(count(), PEERS);
    assert_true(knows(2) && knows(PEERS - 1));
    assert_false(knows(0) || knows(1) || knows(3) || knows(PEERS - 2));
    restart();
    assert_int_equal(count(), PEERS);
    size_t stored = 0;
    for (const struct wr_kvtree_entry *e = wr_kvtree_seek(&disk.committed, WR_BYTES_STR("p"), false);
         e && e->key.ptr[0] == 'p'; e = wr_kvtree_next(e))
        stored++;
    assert_int_equal(stored, PEERS);    /* the store forgot them too */
}

static void test_smaller_limit_keeps_the_newest(void **state)
{
    (void)state;
    for (unsigned n = 0; n < PEERS; n++) {
        see(n);
        still_pass(WR_SEC);
    }
    see(0);    /* again: the newest now */
    peers_max = 5;
    restart();
    expect_list("0 19 18 17 16 ");
    peers_max = PEERS;
    restart();
    expect_list("0 19 18 17 16 ");
}

static void test_networks_do_not_mix(void **state)
{
    (void)state;
    see(1);
    close_state();
    open_state_of("lab");
    expect_list("");
    see(2);
    see(3);
    uint8_t ours[WR_STATE_PREFIX], again[WR_STATE_PREFIX];
    wr_state_prefix(s, WR_STATE_AREA_DHT, ours);
    close_state();
    open_state();
    wr_state_prefix(s, WR_STATE_AREA_DHT, again);
    assert_memory_not_equal(ours, again, WR_STATE_PREFIX);
    assert_int_equal(ours[0], 'd');
    expect_list("1 ");
}

static struct wr_bytes stored_key(unsigned n, uint8_t out[64])
{
    struct wr_peerid id = id_of(n);
    wr_state_prefix(s, WR_STATE_AREA_PEERS, out);
    memcpy(out + WR_STATE_PREFIX, id.bytes, id.len);
    return WR_BYTES(out, WR_STATE_PREFIX + (size_t)id.len);
}

/* Every one-bit change and every truncation of a record either reads as some record or is dropped. */
static void test_damaged_records(void **state)
{
    (void)state;
    uint8_t name[64], record[256];
    struct wr_buf b;
    see(1);
    see(2);
    see(3);
    struct wr_bytes key = stored_key(2, name);
    wr_buf_init(&b, sizeof(record));
    assert_int_equal(wr_kv_get(kv, key, &b), 0);
    size_t len = b.len, dropped = 0;
    memcpy(record, b.data, len);
    wr_buf_clear(&b);
    for (size_t i = 0; i < len * 9 + 1; i++) {
        size_t cut = i < len * 8 ? len : i - len * 8;
        if (i < len * 8)
            record[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(wr_kv_put(kv, key, WR_BYTES(record, cut)), 0);
        if (i < len * 8)
            record[i / 8] ^= (uint8_t)(1u << i % 8);
        restart();
        assert_true(knows(1) && knows(3));
        dropped += !knows(2);
    }
    assert_in_range(dropped, 10, len * 9);
    record[0] = 2;    /* a version that does not exist */
    assert_int_equal(wr_kv_put(kv, key, WR_BYTES(record, len)), 0);
    restart();
    assert_false(knows(2));
    record[0] = 1;
    assert_int_equal(wr_kv_put(kv, key, WR_BYTES(record, len)), 0);
    restart();
    assert_true(knows(2));
    kv_mem_disk_damage(&disk, stored_key(2, name));    /* the store's own check fails */
    restart();
    assert_true(knows(1) && knows(3));
    see(3);
    still_pass(WR_SEC);
    assert_int_equal(see(2), 0);
    name[9] ^= 0xff;    /* a key that is no peer id */
    assert_int_equal(wr_kv_put(kv, WR_BYTES(name, 12), WR_BYTES(record, len)), 0);
    restart();
    assert_int_equal(count(), 3);
}

static void test_store_that_refuses_writes(void **state)
{
    (void)state;
    disk.fail = WR_EIO;
    see(1);
    still_pass(WR_MIN);
    assert_int_equal(wr_kv_error(kv), WR_EIO);
    assert_true(knows(1));
    uint64_t seq = wr_state_next_seq(s);
    assert_true(wr_state_next_seq(s) > seq);
    disk.fail = 0;
    restart();
    assert_true(knows(1));
}

/* ---- tests of time ------------------------------------------------------------------------------------- */

static void test_clock_years_wrong_at_start(void **state)
{
    (void)state;
    see(1);
    still_pass(WR_HOUR);
    close_state();
    for (int i = 0; i < 2; i++) {
        int64_t right = still.unix_now + DAY;    /* off for a day */
        still.unix_now = i ? 1000 * WR_SEC : right + 30 * YEAR;
        open_state();
        assert_true(wr_state_clock_suspect(s));
        assert_true(wr_state_unix(s) >= TODAY && wr_state_unix(s) < TODAY + 10 * DAY);
        assert_true(knows(1));
        see(1);
        still_pass(10 * WR_MIN);
        still.unix_now = right + 10 * WR_MIN;    /* synchronised */
        assert_true(wr_state_unix(s) == right + 10 * WR_MIN);
        assert_false(wr_state_clock_suspect(s));
        close_state();
    }
    open_state();
    assert_true(knows(1));
}

/* The time of a life that never saw a plausible clock is no evidence in the next one. */
static void test_no_clock_ever(void **state)
{
    (void)state;
    close_state();
    kv_mem_disk_clear(&disk);
    kv_mem_disk_init(&disk, 1);
    still.unix_now = 0;
    open_state();
    assert_true(wr_state_clock_suspect(s));
    assert_true(wr_state_unix(s) >= WR_WALL_FLOOR);
    see(1);
    restart();
    still.unix_now = TODAY + 3 * YEAR;
    assert_true(wr_state_unix(s) == TODAY + 3 * YEAR);
    assert_true(knows(1));
}

static void test_seen_in_the_future(void **state)
{
    (void)state;
    struct wr_state_peer peer;
    close_state();
    kv_mem_disk_clear(&disk);
    kv_mem_disk_init(&disk, 1);
    still.unix_now = TODAY + 20 * YEAR;    /* the first clock is the wrong one, and nobody can know */
    open_state();
    see(1);
    close_state();
    still.unix_now = TODAY;
    open_state();
    still_pass(WR_HOUR / 2);
    assert_true(wr_state_unix(s) > TODAY + 20 * YEAR);
    still_pass(WR_HOUR / 2);
    assert_true(wr_state_unix(s) == TODAY + WR_HOUR);    /* confirmed */
    see(2);
    restart();
    assert_true(get(1, &peer));
    assert_true(peer.seen_at <= TODAY + 3 * WR_HOUR);
}

static void test_seq_only_grows(void **state)
{
    (void)state;
    uint64_t last = 0;
    static const int64_t jumps[] = {0, -20 * YEAR, 40 * YEAR, -YEAR, 0, -19 * YEAR, DAY};
    assert_true(wr_state_next_seq(s) == (uint64_t)TODAY);
    for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
        still.unix_now += jumps[i];
        for (int n = 0; n < 10; n++) {
            uint64_t seq = wr_state_next_seq(s);
            assert_true(seq > last);
            last = seq;
            if (n % 3 == 0)
                still_pass(WR_SEC);
        }
        if (i % 2)
            restart();
    }
}

/* Crashes before the last numbers were committed, with a clock set back at the same time. */
static void test_seq_grows_over_crashes(void **state)
{
    (void)state;
    uint64_t last = 0;
    still_pass(WR_MIN);
    for (int i = 0; i < 30; i++) {
        for (int n = 0; n < 100; n++) {
            uint64_t seq = wr_state_next_seq(s);
            assert_true(seq > last);
            last = seq;
            if (n % 10 == 0)
                still_pass(WR_KV_COMMIT_EVERY / 10 * (i % 11));
        }
        if (i % 4 == 3) {    /* before even that which was asked for is on disk */
            assert_true((last = wr_state_next_seq(s)) > 0);
            kv_mem_disk_crash(&disk);
            close_state();
        } else {
            crash_after(WR_KV_COMMIT_EVERY / 7 * (i % 3));
        }
        still.unix_now -= i % 2 ? 3 * YEAR : WR_SEC;
        open_state();
    }
    assert_true(last < (uint64_t)TODAY + (uint64_t)WR_HOUR);
}

static void test_nonsense_numbers(void **state)
{
    (void)state;
    static const uint8_t ones[] = {0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    for (size_t len = 0; len <= sizeof(ones); len++) {
        close_state();
        open_state();
        assert_int_equal(wr_kv_put(kv, WR_BYTES_STR("nseq"), WR_BYTES(ones, len)), 0);
        assert_int_equal(wr_kv_put(kv, WR_BYTES_STR("ntime"), WR_BYTES(ones, len)), 0);
        wr_kv_commit(kv, NULL, NULL);
        still_run();
        kv_mem_disk_crash(&disk);
        close_state();
        open_state();
        assert_true(wr_state_unix(s) == still.unix_now);
        assert_true(wr_state_next_seq(s) == (uint64_t)still.unix_now);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_peers_come_back),
        TEST(test_what_a_peer_speaks_comes_back),
        TEST(test_addresses_change_and_stay),
        TEST(test_the_same_again_is_not_written),
        TEST(test_full_of_peers),
        TEST(test_smaller_limit_keeps_the_newest),
        TEST(test_networks_do_not_mix),
        TEST(test_damaged_records),
        TEST(test_store_that_refuses_writes),
        TEST(test_clock_years_wrong_at_start),
        TEST(test_no_clock_ever),
        TEST(test_seen_in_the_future),
        TEST(test_seq_only_grows),
        TEST(test_seq_grows_over_crashes),
        TEST(test_nonsense_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
