/* The store of provider and value records, over a kv double of a sorted array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dht/record.h"
#include "dht/store.h"
#include "transport/err.h"
#include "transport/key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- doubles: an environment that is a clock, a kv store that is a sorted array ------------- */

struct wr_env {
    wr_time now;
    int64_t unix_now;
    uint64_t rng;
};

static struct wr_env env;

wr_time wr_env_now(const struct wr_env *e)
{
    return e->now;
}

int64_t wr_env_unix(const struct wr_env *e)
{
    return e->unix_now;
}

static uint64_t rnd(struct wr_env *e)
{
    uint64_t z = e->rng += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 27);
}

void wr_env_random(struct wr_env *e, void *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)out)[i] = (uint8_t)rnd(e);
}

uint64_t wr_env_random_below(struct wr_env *e, uint64_t below)
{
    return below ? rnd(e) % below : 0;
}

struct entry {
    struct wr_bytes key, value; /* owned */
};

struct wr_kv {
    struct entry *entries;
    size_t count, cap;
    size_t puts, fail_at; /* the put of this number fails; 0: none */
};

static struct wr_kv kv;

static size_t kv_place(struct wr_kv *k, struct wr_bytes key, bool *there)
{
    size_t low = 0, high = k->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = wr_bytes_compare(k->entries[mid].key, key);
        if (order == 0) {
            *there = true;
            return mid;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *there = false;
    return low;
}

static void free_bytes(struct wr_bytes b)
{
    union {
        const uint8_t *in;
        void *out;
    } ptr = {.in = b.ptr};
    free(ptr.out);
}

static struct wr_bytes copy_bytes(struct wr_bytes b)
{
    return WR_BYTES(wr_memdup(b.ptr, b.len), b.len);
}

int wr_kv_get(struct wr_kv *k, struct wr_bytes key, struct wr_buf *out)
{
    bool there;
    size_t at = kv_place(k, key, &there);
    if (!there)
        return WR_ENOTFOUND;
    wr_buf_put_bytes(out, k->entries[at].value);
    return out->full ? WR_ELIMIT : 0;
}

int wr_kv_put(struct wr_kv *k, struct wr_bytes key, struct wr_bytes value)
{
    bool there;
    assert_true(key.len > 0 && key.len <= WR_KV_KEY_MAX && value.len <= WR_KV_VALUE_MAX);
    if (++k->puts == k->fail_at)
        return WR_EFULL;
    size_t at = kv_place(k, key, &there);
    if (there) {
        free_bytes(k->entries[at].value);
        k->entries[at].value = copy_bytes(value);
        return 0;
    }
    if (k->count == k->cap) {
        k->cap = k->cap ? 2 * k->cap : 1024;
        k->entries = realloc(k->entries, k->cap * sizeof(k->entries[0]));
    }
    memmove(&k->entries[at + 1], &k->entries[at], (k->count - at) * sizeof(k->entries[0]));
    k->entries[at] = (struct entry){copy_bytes(key), copy_bytes(value)};
    k->count++;
    return 0;
}

int wr_kv_del(struct wr_kv *k, struct wr_bytes key)
{
    bool there;
    size_t at = kv_place(k, key, &there);
    if (!there)
        return 0;
    free_bytes(k->entries[at].key);
    free_bytes(k->entries[at].value);
    k->count--;
    memmove(&k->entries[at], &k->entries[at + 1], (k->count - at) * sizeof(k->entries[0]));
    return 0;
}

int wr_kv_scan(struct wr_kv *k, struct wr_bytes prefix, struct wr_bytes after, wr_kv_visit visit,
               void *arg)
{
    bool there;
    size_t at = kv_place(k, after.len ? after : prefix, &there);
    for (at += there && after.len > 0; at < k->count; at++) {
        if (!wr_bytes_starts(k->entries[at].key, prefix) ||
            !visit(arg, k->entries[at].key, k->entries[at].value))
            break;
    }
    return 0;
}

/* ---- helpers -------------------------------------------------------------------------------- */

static struct wr_limits limits;
static struct wr_store store;

#define START_UNIX (1777631430 * WR_SEC) /* 2026-05-01T10:30:30Z */

static int set_up(void **state)
{
    (void)state;
    memset(&kv, 0, sizeof(kv));
    env = (struct wr_env){.now = WR_HOUR, .unix_now = START_UNIX, .rng = 1};
    assert_int_equal(wr_limits_init(&limits, "home"), 0);
    assert_int_equal(wr_store_open(&store, &env, &kv, &limits, WR_BYTES_STR("d/")), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < kv.count; i++) {
        free_bytes(kv.entries[i].key);
        free_bytes(kv.entries[i].value);
    }
    free(kv.entries);
    return 0;
}

static void pass(wr_time t)
{
    env.now += t;
    env.unix_now += t;
}

static struct wr_peerid peer_of(unsigned n)
{
    struct wr_peerid id = {.len = 34, .bytes = {0x12, 0x20}};
    memcpy(id.bytes + 2, &n, sizeof(n));
    return id;
}

static const uint8_t addr_bytes[] = {4, 8, 8, 8, 8, 6, 0x0f, 0xa1}; /* /ip4/8.8.8.8/tcp/4001 */

static int announce_at(unsigned key, unsigned peer, const char *ip, bool with_addr)
{
    struct wr_peerid id = peer_of(peer);
    struct wr_bytes addr = WR_BYTES(addr_bytes, sizeof(addr_bytes));
    struct wr_store_source source = {.peer = &id};
    uint8_t hash[34] = {0x12, 0x20};
    memcpy(hash + 2, &key, sizeof(key));
    assert_int_equal(wr_ip_parse(ip, &source.ip), 0);
    return wr_store_add_provider(&store, WR_BYTES(hash, sizeof(hash)), &source, &addr, with_addr);
}

static int announce(unsigned key, unsigned peer, const char *ip)
{
    return announce_at(key, peer, ip, true);
}

static size_t find(unsigned key, struct wr_store_found *found)
{
    uint8_t hash[34] = {0x12, 0x20};
    memcpy(hash + 2, &key, sizeof(key));
    int rc = wr_store_providers(&store, WR_BYTES(hash, sizeof(hash)), found);
    assert_true(rc == 0 || rc == WR_ENOTFOUND);
    return found->count;
}

static bool has(unsigned key, unsigned peer)
{
    static struct wr_store_found found;
    struct wr_peerid id = peer_of(peer);
    bool there = false;
    find(key, &found);
    for (size_t i = 0; i < found.count; i++)
        there = there || wr_peerid_equal(&found.peers[i].id, &id);
    wr_store_found_clear(&found);
    return there;
}

static void sweep_all(void)
{
    while (wr_store_sweep(&store, 100) == 100)
        ;
}

/* Nothing but the entry 'm' is left behind. */
static void assert_empty(void)
{
    assert_int_equal(kv.count, 1);
    assert_int_equal(store.providers + store.values, 0);
    assert_int_equal(limits.of[WR_LIMIT_PROVIDERS].used + limits.of[WR_LIMIT_VALUES].used, 0);
}

/* ---- providers ------------------------------------------------------------------------------ */

static void test_provider_is_found(void **state)
{
    (void)state;
    static struct wr_store_found found;
    assert_int_equal(find(1, &found), 0);
    assert_int_equal(announce_at(1, 10, "8.8.8.8", false), 0);
    assert_int_equal(announce(1, 11, "9.9.9.9"), 0);
    assert_int_equal(announce(1, 11, "9.9.9.9"), 0);
    assert_int_equal(find(1, &found), 2);
    struct wr_peerid first = peer_of(11);
    assert_true(wr_peerid_equal(&found.peers[0].id, &first));
    assert_int_equal(found.peers[0].count, 1);
    assert_true(wr_bytes_equal(found.peers[0].addrs[0], WR_BYTES(addr_bytes, sizeof(addr_bytes))));
    assert_int_equal(found.peers[1].count, 0);
    wr_store_found_clear(&found);
    assert_int_equal(store.providers, 2);
    assert_int_equal(find(2, &found), 0);
    struct wr_peerid id = peer_of(1);
    struct wr_store_source source = {.peer = &id};
    uint8_t key[WR_DHT_PROVIDER_KEY_MAX + 1] = {0};
    assert_int_equal(wr_store_add_provider(&store, WR_BYTES_NONE, &source, NULL, 0), WR_EINVAL);
    assert_int_equal(wr_store_add_provider(&store, WR_BYTES(key, sizeof(key)), &source, NULL, 0),
                     WR_EINVAL);
}

static void test_addresses_go_before_the_record(void **state)
{
    (void)state;
    static struct wr_store_found found;
    announce(1, 10, "8.8.8.8");
    pass(24 * WR_HOUR - WR_SEC);
    assert_int_equal(find(1, &found), 1);
    assert_int_equal(found.peers[0].count, 1);
    wr_store_found_clear(&found);
    pass(2 * WR_SEC);
    assert_int_equal(find(1, &found), 1);
    assert_int_equal(found.peers[0].count, 0);
    wr_store_found_clear(&found);
}

static void test_expiry(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(announce(i % 30, i, "8.8.8.8"), 0);
    pass(22 * WR_HOUR);
    assert_int_equal(announce(0, 0, "8.8.8.8"), 0);
    pass(26 * WR_HOUR - WR_SEC);
    assert_int_equal(wr_store_sweep(&store, 1000), 0);
    assert_true(has(1, 1));
    pass(2 * WR_SEC);
    assert_false(has(1, 1));
    assert_int_equal(wr_store_sweep(&store, 100), 100);
    sweep_all();
    assert_int_equal(store.providers, 1);
    assert_true(has(0, 0));
    pass(22 * WR_HOUR);
    sweep_all();
    assert_empty();
}

/* A flood of the same announcement writes once an hour. */
static void test_announcing_often_costs_little(void **state)
{
    (void)state;
    assert_int_equal(announce(1, 1, "8.8.8.8"), 0);
    size_t before = kv.puts;
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(announce(1, 1, "8.8.8.8"), 0);
    assert_int_equal(kv.puts, before);
    pass(2 * WR_HOUR);
    assert_int_equal(announce(1, 1, "8.8.8.8"), 0);
    assert_int_equal(kv.puts, before + 3); /* addresses, index, record */
}

/* 100,000 announcements of one key by 1,000 identities in three networks: honest providers
 * elsewhere, and those who were there first, stay. */
static void test_flood_of_one_key(void **state)
{
    (void)state;
    static const char *const nets[] = {"77.1.0.1", "78.1.0.1", "79.1.0.1"};
    static const char *const honest[] = {"8.1.0.1", "9.1.0.1", "11.1.0.1", "13.1.0.1", "14.1.0.1"};
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(announce(1, 5000 + i, honest[i]), 0);
    assert_int_equal(announce(1, 6000, nets[0]), 0);
    pass(WR_MIN);
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(announce(1, i % 1000, nets[i % 3]), 0);
    assert_int_equal(store.providers, WR_STORE_PER_KEY);
    for (unsigned i = 0; i < 5; i++)
        assert_true(has(1, 5000 + i));
    assert_true(has(1, 6000));
    /* A newcomer from elsewhere gets in, and stays in. */
    assert_int_equal(announce(1, 7000, "15.1.0.1"), 0);
    for (unsigned i = 0; i < 10000; i++)
        announce(1, i % 1000, nets[i % 3]);
    assert_true(has(1, 7000));
    pass(49 * WR_HOUR);
    sweep_all();
    assert_empty();
}

/* All in different networks: the older half stays, newcomers get in. */
static void test_popular_key(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 200; i++) {
        char ip[32];
        snprintf(ip, sizeof(ip), "%u.%u.0.1", 60 + i / 100, i % 100);
        assert_int_equal(announce(1, i, ip), 0);
        pass(WR_SEC);
    }
    for (unsigned i = 0; i < WR_STORE_PER_KEY / 2; i++)
        assert_true(has(1, i));
    assert_true(has(1, 199));
    assert_false(has(1, 100));
}

static void test_shares_and_ceiling(void **state)
{
    (void)state;
    uint64_t max = 320;
    limits.of[WR_LIMIT_PROVIDERS].max = max;
    unsigned key = 0, taken = 0;
    /* One peer, then its network, then all of the world. */
    while (announce(key, 1, "8.8.8.8") == 0)
        key++;
    assert_int_equal(key, max / WR_STORE_PEER_SHARE);
    assert_int_equal(announce(key, 2, "8.8.1.1"), WR_ELIMIT);
    for (unsigned net = 0; net < 40; net++) {
        char ip[32];
        snprintf(ip, sizeof(ip), "%u.1.0.1", 60 + net);
        for (unsigned i = 0; i < 100; i++)
            taken += announce(key++, 100 + net, ip) == 0;
    }
    assert_int_equal(taken + max / WR_STORE_PEER_SHARE, max);
    assert_true(limits.of[WR_LIMIT_PROVIDERS].refused > 0);
    /* Renewing is no new record; neither refusal nor ceiling is in its way. */
    pass(2 * WR_HOUR);
    assert_int_equal(announce(0, 1, "8.8.8.8"), 0);
    pass(47 * WR_HOUR);
    sweep_all();
    assert_int_equal(store.providers, 1);
    assert_int_equal(limits.of[WR_LIMIT_PROVIDERS].used, 1);
}

/* A restart reads one entry; records, counts and the rest of their lives are kept. */
static void test_restart(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        announce(i, i, "8.8.8.8");
    pass(10 * WR_HOUR);
    wr_store_close(&store);
    assert_int_equal(limits.of[WR_LIMIT_PROVIDERS].used, 0);
    env.unix_now += 30 * WR_HOUR; /* off */
    env.now = WR_SEC;
    assert_int_equal(wr_store_open(&store, &env, &kv, &limits, WR_BYTES_STR("d/")), 0);
    assert_int_equal(store.providers, 100);
    assert_int_equal(limits.of[WR_LIMIT_PROVIDERS].used, 100);
    sweep_all();
    assert_true(has(5, 5));
    pass(9 * WR_HOUR);
    sweep_all();
    assert_empty();
}

/* A wall clock that is years wrong at start purges nothing, and one that was wrong keeps nothing
 * for ever. */
static void test_wrong_wall_clock(void **state)
{
    (void)state;
    static const int64_t wrong[] = {0, START_UNIX + 20 * 365 * 24 * (int64_t)WR_HOUR,
                                    START_UNIX - 365 * 24 * (int64_t)WR_HOUR, INT64_MAX, INT64_MIN};
    announce(1, 1, "8.8.8.8");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        wr_store_close(&store);
        env.unix_now = wrong[i];
        assert_int_equal(wr_store_open(&store, &env, &kv, &limits, WR_BYTES_STR("d/")), 0);
        sweep_all();
        assert_true(has(1, 1));
        assert_true(wr_store_unix(&store) >= START_UNIX && wr_store_unix(&store) <= START_UNIX + 6 * WR_HOUR);
        env.unix_now = START_UNIX;
        env.now += WR_HOUR;
    }
    env.now += 44 * WR_HOUR;
    sweep_all();
    assert_empty();
}

/* Every write of a run fails once: the counts still come down to nothing. */
static void test_failing_writes(void **state)
{
    (void)state;
    for (size_t fail = 1; fail < 40; fail++) {
        kv.puts = 0;
        kv.fail_at = fail;
        for (unsigned i = 0; i < 6; i++)
            announce((unsigned)fail, i, "8.8.8.8");
        kv.fail_at = 0;
        pass(49 * WR_HOUR);
        sweep_all();
        assert_int_equal(store.providers, 0);
        assert_int_equal(limits.of[WR_LIMIT_PROVIDERS].used, 0);
    }
}

/* Two stores in one kv do not see each other. */
static void test_name_spaces(void **state)
{
    (void)state;
    struct wr_store other;
    static struct wr_store_found found;
    uint8_t hash[34] = {0x12, 0x20, 1};
    announce(1, 1, "8.8.8.8");
    assert_int_equal(wr_store_open(&other, &env, &kv, &limits, WR_BYTES_STR("l/")), 0);
    assert_int_equal(wr_store_providers(&other, WR_BYTES(hash, sizeof(hash)), &found),
                     WR_ENOTFOUND);
    wr_store_close(&other);
}

/* ---- values --------------------------------------------------------------------------------- */

static void pk_pair(uint8_t fill, struct wr_buf *key, struct wr_buf *value)
{
    struct wr_key pair;
    struct wr_peerid id;
    uint8_t seed[WR_ED25519_SEED];
    memset(seed, fill, sizeof(seed));
    wr_key_generate(&pair, seed);
    wr_buf_init(key, 256);
    wr_buf_init(value, 256);
    wr_key_encode_public(&pair, value);
    assert_int_equal(wr_peerid_from_pubkey(wr_buf_bytes(value), &id), 0);
    wr_buf_put_cstr(key, "/pk/");
    wr_buf_put_bytes(key, wr_peerid_bytes(&id));
}

static void test_value_is_kept_and_expires(void **state)
{
    (void)state;
    struct wr_buf key, value, got, received;
    struct wr_peerid id = peer_of(1);
    struct wr_store_source source = {.peer = &id, .ip = {.family = 4, .bytes = {8, 8, 8, 8}}};
    pk_pair(1, &key, &value);
    wr_buf_init(&got, 4096);
    wr_buf_init(&received, 64);
    assert_int_equal(wr_store_get_value(&store, wr_buf_bytes(&key), &got, &received), WR_ENOTFOUND);
    assert_int_equal(wr_store_put_value(&store, wr_buf_bytes(&key), wr_buf_bytes(&value), &source),
                     0);
    assert_int_equal(wr_store_get_value(&store, wr_buf_bytes(&key), &got, &received), 0);
    assert_true(wr_bytes_equal(wr_buf_bytes(&got), wr_buf_bytes(&value)));
    assert_true(wr_bytes_equal(wr_buf_bytes(&received), WR_BYTES_STR("2026-05-01T10:30:30Z")));
    pass(20 * WR_HOUR);
    assert_int_equal(wr_store_put_value(&store, wr_buf_bytes(&key), wr_buf_bytes(&value), &source),
                     0);
    assert_int_equal(store.values, 1);
    pass(47 * WR_HOUR);
    sweep_all();
    assert_int_equal(store.values, 1);
    pass(2 * WR_HOUR);
    wr_buf_reset(&got);
    assert_int_equal(wr_store_get_value(&store, wr_buf_bytes(&key), &got, &received), WR_ENOTFOUND);
    sweep_all();
    assert_empty();
    wr_buf_clear(&key);
    wr_buf_clear(&value);
    wr_buf_clear(&got);
    wr_buf_clear(&received);
}

static void test_value_shares(void **state)
{
    (void)state;
    struct wr_peerid id = peer_of(1);
    struct wr_store_source source = {.peer = &id, .ip = {.family = 4, .bytes = {8, 8, 8, 8}}};
    limits.of[WR_LIMIT_VALUES].max = 160;
    unsigned kept = 0;
    for (unsigned i = 0; i < 50; i++) {
        char key[16];
        snprintf(key, sizeof(key), "/pk/%u", i);
        kept += wr_store_put_value(&store, wr_bytes_cstr(key), WR_BYTES_STR("v"), &source) == 0;
    }
    assert_int_equal(kept, 160 / WR_STORE_PEER_SHARE);
    uint8_t big[WR_DHT_VALUE_MAX + 1] = {0};
    assert_int_equal(
        wr_store_put_value(&store, WR_BYTES_STR("/pk/a"), WR_BYTES(big, sizeof(big)), &source),
        WR_EINVAL);
    pass(49 * WR_HOUR);
    sweep_all();
    assert_empty();
}

/* Performance goal B18: bytes of a provider record, names and values of all its entries counted,
 * when a peer has many. */
static void test_size_of_a_record(void **state)
{
    (void)state;
    size_t bytes = 0;
    for (unsigned i = 0; i < 1000; i++)
        announce(i, i % 10, "8.8.8.8");
    for (size_t i = 0; i < kv.count; i++)
        bytes += kv.entries[i].key.len + kv.entries[i].value.len;
    print_message("%zu bytes a provider record\n", bytes / 1000);
    assert_true(bytes / 1000 <= 64); /* LMDB adds two headers of 8 */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_provider_is_found),
        TEST(test_addresses_go_before_the_record),
        TEST(test_expiry),
        TEST(test_announcing_often_costs_little),
        TEST(test_flood_of_one_key),
        TEST(test_popular_key),
        TEST(test_shares_and_ceiling),
        TEST(test_restart),
        TEST(test_wrong_wall_clock),
        TEST(test_failing_writes),
        TEST(test_name_spaces),
        TEST(test_value_is_kept_and_expires),
        TEST(test_value_shares),
        TEST(test_size_of_a_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
