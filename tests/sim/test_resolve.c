/* Multiaddrs with names, over a resolver in virtual time: what is followed, what is left out, and
 * where it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/sim/sim.h"
#include "transport/resolve.h"

#include <stdio.h>
#include <string.h>

#define PEER  "12D3KooWRXsRYQuMtoGvoGZmJjP9X1ofXcX9tTDy35qFzGuoXVrk"
#define OTHER "12D3KooWCvrwP6m7Cw3KhoJLEyeD2gyR2oQAcxZpnyGfqAs5Ugmp"

struct asked {
    struct wr_resolve *resolve;
    unsigned found, done;
    int err;
    char text[4][WR_MADDR_TEXT]; /* the first ones */
};

static struct sim *sim;
static struct wr_env *env;

static int set_up(void **state)
{
    (void)state;
    sim = sim_create(&(struct sim_options){.seed = 1});
    env = sim_host_env(sim_host_add(sim, &(struct sim_host_options){.name = "asker"}));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sim_destroy(sim);
    return 0;
}

static void txt(const char *name, const char *record)
{
    sim_name_add(sim, name, WR_LOOKUP_TXT, wr_bytes_cstr(record));
}

static void on_addr(void *arg, struct wr_bytes addr)
{
    struct asked *a = arg;
    assert_int_equal(a->done, 0);
    if (a->found < 4)
        wr_maddr_print(addr, a->text[a->found], WR_MADDR_TEXT);
    a->found++;
}

static void on_done(void *arg, int err)
{
    struct asked *a = arg;
    a->done++;
    a->err = err;
}

static const struct wr_resolve_ops ops = {.on_addr = on_addr, .on_done = on_done};

static void start(const char *text, struct asked *a)
{
    struct wr_maddr addr;
    *a = (struct asked){0};
    assert_int_equal(wr_maddr_parse(text, &addr), 0);
    a->resolve = wr_resolve_start(env, wr_maddr_bytes(&addr), &ops, a);
    assert_non_null(a->resolve);
    assert_int_equal(a->found + a->done, 0);
}

static void resolve(const char *text, struct asked *a)
{
    start(text, a);
    sim_run(sim, 10 * WR_SEC);
    assert_int_equal(a->done, 1);
}

static void test_names_and_plain_addresses(void **state)
{
    struct asked a;
    (void)state;
    sim_name_add(sim, "host.test", WR_LOOKUP_A, WR_BYTES_STR("\x01\x02\x03\x04"));
    sim_name_add(sim, "host.test", WR_LOOKUP_AAAA,
                 WR_BYTES_STR("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"));
    resolve("/ip4/9.9.9.9/tcp/1", &a);
    assert_true(a.err == 0 && a.found == 1);
    assert_string_equal(a.text[0], "/ip4/9.9.9.9/tcp/1");
    resolve("/dns4/host.test/tcp/4001/p2p/" PEER, &a);
    assert_true(a.err == 0 && a.found == 1);
    assert_string_equal(a.text[0], "/ip4/1.2.3.4/tcp/4001/p2p/" PEER);
    resolve("/dns6/host.test/udp/4001/quic-v1", &a);
    assert_true(a.err == 0 && a.found == 1);
    assert_string_equal(a.text[0], "/ip6/2001:db8::1/udp/4001/quic-v1");
    resolve("/dns/host.test/tcp/4001", &a);
    assert_true(a.err == 0 && a.found == 2);
    resolve("/dns4/nobody.test/tcp/4001", &a);
    assert_true(a.err == WR_ENOTFOUND && a.found == 0);
}

/* The public bootstrap name is of two levels; what ends in another peer is somebody else's. */
static void test_dnsaddr_is_followed_to_the_peer_that_was_meant(void **state)
{
    struct asked a;
    (void)state;
    txt("_dnsaddr.boot.test", "dnsaddr=/dnsaddr/one.boot.test/p2p/" PEER);
    txt("_dnsaddr.boot.test", "dnsaddr=/dnsaddr/two.boot.test/p2p/" OTHER);
    txt("_dnsaddr.one.boot.test", "dnsaddr=/ip4/1.2.3.4/tcp/4001/p2p/" PEER);
    txt("_dnsaddr.one.boot.test", "dnsaddr=/dns4/host.test/udp/4001/quic-v1/p2p/" PEER);
    txt("_dnsaddr.two.boot.test", "dnsaddr=/ip4/5.6.7.8/tcp/4001/p2p/" OTHER);
    sim_name_add(sim, "host.test", WR_LOOKUP_A, WR_BYTES_STR("\x05\x05\x05\x05"));
    resolve("/dnsaddr/boot.test/p2p/" PEER, &a);
    assert_true(a.err == 0 && a.found == 2);
    assert_string_equal(a.text[0], "/ip4/1.2.3.4/tcp/4001/p2p/" PEER);
    assert_string_equal(a.text[1], "/ip4/5.5.5.5/udp/4001/quic-v1/p2p/" PEER);
    resolve("/dnsaddr/boot.test", &a);
    assert_true(a.err == 0 && a.found == 3);
}

/* multiformats/js-multiaddr PR 313: one bad record must not cost the others. */
static void test_a_malformed_record_costs_only_itself(void **state)
{
    struct asked a;
    char huge[4000];
    (void)state;
    memset(huge, 'x', sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = 0;
    memcpy(huge, "dnsaddr=/", 9);
    txt("_dnsaddr.boot.test", "dnsaddr=");
    txt("_dnsaddr.boot.test", "dnsaddr=/ip4/1.2.3");
    txt("_dnsaddr.boot.test", "dnsaddr=nonsense");
    txt("_dnsaddr.boot.test", "v=spf1 -all");
    txt("_dnsaddr.boot.test", huge);
    sim_name_add(sim, "_dnsaddr.boot.test", WR_LOOKUP_TXT,
                 WR_BYTES_STR("dnsaddr=/ip4/1.2.3.4/tcp/1\0/tcp/2"));
    txt("_dnsaddr.boot.test", "dnsaddr=/ip4/1.2.3.4/tcp/4001");
    resolve("/dnsaddr/boot.test", &a);
    assert_true(a.err == 0 && a.found == 1);
    assert_string_equal(a.text[0], "/ip4/1.2.3.4/tcp/4001");
}

/* Names that lead to themselves, to more names than anybody needs, or to more addresses. */
static void test_what_names_lead_to_is_bounded(void **state)
{
    struct asked a;
    char name[64], record[128];
    (void)state;
    txt("_dnsaddr.loop.test", "dnsaddr=/dnsaddr/loop.test");
    resolve("/dnsaddr/loop.test", &a);
    assert_int_equal(a.found, 0);
    for (unsigned i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof(name), "_dnsaddr.n%u.test", i);
        (void)snprintf(record, sizeof(record), "dnsaddr=/dnsaddr/n%u.test", i);
        txt("_dnsaddr.wide.test", record);
        txt(name, "dnsaddr=/ip4/1.2.3.4/tcp/4001");
        (void)snprintf(record, sizeof(record), "dnsaddr=/ip4/1.2.3.4/tcp/%u", 1 + i);
        txt("_dnsaddr.many.test", record);
        txt("_dnsaddr.many.test", record);
    }
    resolve("/dnsaddr/wide.test", &a);
    assert_int_equal(a.found, WR_RESOLVE_LOOKUPS_MAX - 1);
    resolve("/dnsaddr/many.test", &a);
    assert_int_equal(a.found, WR_RESOLVE_ADDRS_MAX);
}

static void test_no_answer_and_cancelling(void **state)
{
    struct asked a;
    (void)state;
    txt("_dnsaddr.boot.test", "dnsaddr=/dns4/host.test/tcp/1");
    sim_names_down(sim, true);
    start("/dnsaddr/boot.test", &a);
    sim_run(sim, 5 * WR_MIN);
    assert_true(a.done == 1 && a.err == WR_ETIMEOUT);
    sim_names_down(sim, false);
    for (wr_time after = 0; after < 100 * WR_MSEC; after += 7 * WR_MSEC) {
        start("/dnsaddr/boot.test", &a);
        sim_run(sim, after);
        if (a.done == 0)
            wr_resolve_cancel(a.resolve);
        unsigned done = a.done;
        sim_run(sim, WR_MIN);
        assert_int_equal(a.done, done);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_names_and_plain_addresses),
        TEST(test_dnsaddr_is_followed_to_the_peer_that_was_meant),
        TEST(test_a_malformed_record_costs_only_itself),
        TEST(test_what_names_lead_to_is_bounded),
        TEST(test_no_answer_and_cancelling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
