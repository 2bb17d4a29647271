/* What is remembered of the NATs of networks: told again only where it was learnt, and behind a NAT of the same kind; so
 * many and no more; damage and clocks that are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/kv_mem.c"
#include "tests/unit/still_env.h"

#include "node/natbook.h"
#include "transport/err.h"
#include "transport/wall.h"

#define DAY   (24 * WR_HOUR)
#define TODAY (WR_WALL_FLOOR + 100 * DAY)

static struct kv_mem_disk disk;
static struct wr_natbook book;
static struct wr_autonat_memory memory;
static struct wr_nat nat;
static struct wr_gateway way;
static struct wr_ip ours;
static bool online;

struct kv_mem_disk *kv_mem_disk_for(struct wr_env *env, const char *path)
{
    (void)env;
    (void)path;
    return &disk;
}

size_t wr_env_gateways(struct wr_env *env, struct wr_gateway *out, size_t max)
{
    /* A way for IPv6 first, as it may be. */
    struct wr_gateway six = {.family = 6, .ip = {6, {0xfe, 0x80}}};
    (void)env;
    assert_true(max >= 2);
    out[0] = six;
    out[1] = way;
    return online ? 2 : 1;
}

int wr_env_source(struct wr_env *env, const struct wr_addr *to, struct wr_ip *out)
{
    (void)env;
    assert_true(wr_ip_equal(&to->ip, &way.ip));
    *out = ours;
    return ours.family ? 0 : WR_EUNREACH;
}

static void open_book(void)
{
    struct wr_kv_options o = {"disk", 8 << 20, 1 << 20};
    struct wr_state_options so = {&still.env, NULL, "ipfs", 10};
    book.env = &still.env;
    assert_int_equal(wr_kv_open(&still.env, &o, &book.kv), 0);
    so.kv = book.kv;
    assert_int_equal(wr_state_open(&so, &book.state), 0);
    memory = wr_natbook_memory(&book);
}

static void close_book(void)
{
    wr_state_close(book.state);
    wr_kv_close(book.kv);
    still_run();
}

static int set_up(void **state)
{
    (void)state;
    still_start(TODAY);
    kv_mem_disk_init(&disk, 1);
    online = true;
    way = (struct wr_gateway){.family = 4, .ip = {4, {192, 168, 1, 1}}};
    ours = (struct wr_ip){4, {192, 168, 1, 10}};
    nat = (struct wr_nat){.external = {4, {11, 5, 0, 2}}};
    nat.udp.mapping = WR_NAT_MAP_EIM;
    nat.udp.filtering = WR_NAT_FILTER_APDF;
    open_book();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close_book();
    kv_mem_disk_clear(&disk);
    return 0;
}

static void keep(unsigned step)
{
    struct wr_lifetime known = {.lived = {0}};
    known.lived[step] = 1;
    known.died[step + 1] = 300;    /* more than a byte holds */
    memory.keep(memory.arg, &nat, &known);
}

/* The longest silence that is remembered; -1: nothing. */
static int recall(void)
{
    struct wr_lifetime known;
    return memory.recall(memory.arg, &nat, &known) ? wr_lifetime_floor(&known) : -1;
}

static void test_over_restarts(void **state)
{
    struct wr_lifetime known;
    (void)state;
    assert_int_equal(recall(), -1);
    keep(7);
    assert_int_equal(recall(), 7);
    close_book();
    open_book();
    assert_int_equal(recall(), 7);
    assert_true(memory.recall(memory.arg, &nat, &known));
    assert_int_equal(known.died[8], 255);
    keep(9);
    assert_int_equal(recall(), 9);
    memory.keep(memory.arg, &nat, NULL);
    assert_int_equal(recall(), -1);
}

static void test_each_network_has_its_own(void **state)
{
    (void)state;
    keep(3);
    nat.external.bytes[3] = 99;    /* the provider gave us another one */
    assert_int_equal(recall(), 3);
    nat.external.bytes[1] = 6;
    assert_int_equal(recall(), -1);
    keep(4);
    nat.external.bytes[1] = 5;
    assert_int_equal(recall(), 3);
    way.ip.bytes[3] = 254;
    assert_int_equal(recall(), -1);
    way.ip.bytes[3] = 1;
    ours.bytes[3] = 11;
    assert_int_equal(recall(), -1);
    ours.bytes[3] = 10;
    assert_int_equal(recall(), 3);
    /* Nothing is known of a network by which nothing leaves. */
    online = false;
    assert_int_equal(recall(), -1);
    keep(5);
    online = true;
    ours.family = 0;
    assert_int_equal(recall(), -1);
    ours.family = 4;
    assert_int_equal(recall(), 3);
}

static void test_another_kind_of_nat(void **state)
{
    (void)state;
    keep(3);
    nat.udp.alloc = WR_NAT_ALLOC_PRESERVING;    /* known by now */
    assert_int_equal(recall(), 3);
    keep(3);
    nat.udp.alloc = WR_NAT_ALLOC_RANDOM;
    assert_int_equal(recall(), -1);
    nat.udp.alloc = WR_NAT_ALLOC_PRESERVING;
    assert_int_equal(recall(), -1);    /* gone for good */
    keep(4);
    nat.udp.filtering = WR_NAT_FILTER_ADF;
    assert_int_equal(recall(), -1);
    keep(5);
    nat.udp.mapping = WR_NAT_MAP_APDM;
    assert_int_equal(recall(), -1);
}

static void test_it_grows_old(void **state)
{
    (void)state;
    keep(3);
    still.unix_now += WR_NATBOOK_AGE - DAY;
    still.now += WR_NATBOOK_AGE - DAY;
    assert_int_equal(recall(), 3);
    still.unix_now += 2 * DAY;
    still.now += 2 * DAY;
    assert_int_equal(recall(), -1);
}

/* Somebody who travels. */
static void test_so_many_networks(void **state)
{
    unsigned known = 0;
    (void)state;
    for (unsigned i = 0; i < 3 * WR_NATBOOK_MAX; i++) {
        way.ip.bytes[2] = (uint8_t)i;
        keep(i % 20);
        keep(i % 20);
        still.now += WR_MIN;
        still.unix_now += WR_MIN;
    }
    for (unsigned i = 0; i < 3 * WR_NATBOOK_MAX; i++) {
        way.ip.bytes[2] = (uint8_t)i;
        int is = recall();
        known += is >= 0;
        assert_int_equal(is, i < 2 * WR_NATBOOK_MAX ? -1 : (int)(i % 20));
    }
    assert_int_equal(known, WR_NATBOOK_MAX);
}

struct found {
    uint8_t key[WR_KV_KEY_MAX], value[200];
    size_t key_len, value_len;
};

static bool find(void *arg, struct wr_bytes key, struct wr_bytes value)
{
    struct found *f = arg;
    memcpy(f->key, key.ptr, f->key_len = key.len);
    memcpy(f->value, value.ptr, f->value_len = value.len);
    return false;
}

static void test_damage(void **state)
{
    struct found f = {.key_len = 0};
    uint8_t prefix[WR_STATE_PREFIX];
    (void)state;
    keep(3);
    wr_state_prefix(book.state, WR_STATE_AREA_NAT, prefix);
    assert_int_equal(wr_kv_scan(book.kv, WR_BYTES(prefix, sizeof(prefix)), WR_BYTES_NONE, find, &f), 0);
    assert_true(f.value_len > 0);
    struct wr_bytes key = WR_BYTES(f.key, f.key_len);
    for (size_t len = 0; len <= f.value_len + 1; len++) {
        assert_int_equal(wr_kv_put(book.kv, key, WR_BYTES(f.value, len)), 0);
        assert_int_equal(recall(), len == f.value_len ? 3 : -1);
    }
    /* A version, a kind or a ladder that we do not know. */
    static const size_t heads[] = {0, 1, 9, 10, 11, 12};
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        f.value[heads[i]] ^= 0x80;
        assert_int_equal(wr_kv_put(book.kv, key, WR_BYTES(f.value, f.value_len)), 0);
        assert_int_equal(recall(), -1);
        f.value[heads[i]] ^= 0x80;
    }
    keep(6);
    assert_int_equal(recall(), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_over_restarts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_each_network_has_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_kind_of_nat, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_grows_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_so_many_networks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
