/* Settings: every key, where each value comes from, what is refused and how it is said, reload. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/config.h"
#include "relay/relay_server.h"
#include "transport/addr.h"
#include "transport/bytes.h"
#include "transport/err.h"
#include "transport/secure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define PEER     "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"

static char err[WR_CONFIG_ERROR];

static int flags(struct wr_config *c, int argc, const char *const *given)
{
    char *argv[8];
    assert_true(argc <= 8);
    for (int i = 0; i < argc; i++)
        argv[i] = (char *)(uintptr_t)given[i]; /* as main has them; nobody writes */
    for (int i = 0; i < argc;) {
        int error = wr_config_flag(c, argc, argv, &i, err);
        if (error)
            return error;
    }
    return 0;
}

#define FLAGS(c, ...)                                                                              \
    flags(c, (int)COUNT(((const char *[]){__VA_ARGS__})), (const char *[]){__VA_ARGS__})

/* A good and a bad value for every key; the table must name them all. */
static const struct {
    enum wr_config_key key;
    const char *good, *bad;
} values[] = {
    {WR_CONFIG_DATA, "/var/lib/warren", ""},
    {WR_CONFIG_CONFIG, "/etc/warren.conf", ""},
    {WR_CONFIG_LISTEN, "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1"},
    {WR_CONFIG_BOOTSTRAP, "/ip4/192.0.2.1/tcp/4001/p2p/" PEER, "/ip4/192.0.2.1/tcp/4001"},
    {WR_CONFIG_NETWORK, "my.lab-1", "a/b"},
    {WR_CONFIG_PSK, "swarm.key", ""},
    {WR_CONFIG_SECURITY, "tls,noise", "noise,noise"},
    {WR_CONFIG_DHT, "server", "servr"},
    {WR_CONFIG_RELAY, "off", "no"},
    {WR_CONFIG_RELAY_RATE, "1M", "15K"},
    {WR_CONFIG_RELAY_RATE_EACH, "none", "65M"},
    {WR_CONFIG_USE_RELAY, "/ip4/192.0.2.1/tcp/4001/p2p/" PEER, "/ip4/192.0.2.1/tcp/4001"},
    {WR_CONFIG_PERF, "all", "yes"},
    {WR_CONFIG_MDNS, "no", "maybe"},
    {WR_CONFIG_PORTMAP, "off", "2"},
    {WR_CONFIG_PUBLIC, "10.0.0.0/8", "10.0.0.0/99"},
    {WR_CONFIG_LIMITS, "64M", "tiny"},
    {WR_CONFIG_NAT_SESSIONS, "64", "15"},
    {WR_CONFIG_HTTP, "[::1]:8080", "8080"},
    {WR_CONFIG_CONTROL, "/run/warren.sock",
     "/a/path/that/is/longer/than/the/one/hundred/and/seven/bytes/that/the/system/has/room/for/in/"
     "a/socket/address.sock"},
    {WR_CONFIG_LOG, "warn,dht=debug", "loud"},
};

static void test_every_key_by_flag_and_file(void **state)
{
    (void)state;
    assert_int_equal(COUNT(values), WR_CONFIG_COUNT);
    for (size_t i = 0; i < COUNT(values); i++) {
        const struct wr_config_info *info = wr_config_info(values[i].key);
        struct wr_config c;
        char flag[64], text[512];
        assert_int_equal(wr_config_init(&c, err), 0);
        assert_true(info->help[0]);

        (void)snprintf(flag, sizeof(flag), "--%s%s", info->name, info->toggle ? "=no" : "");
        (void)snprintf(text, sizeof(text), "\n%s = %s\n", info->name, values[i].good);
        if (values[i].key != WR_CONFIG_CONFIG) {
            assert_int_equal(wr_config_text(&c, "f", text, err), 0);
            assert_string_equal(wr_config_get(&c, values[i].key), values[i].good);
            assert_int_equal(c.items[values[i].key].from, WR_CONFIG_FROM_FILE);
            assert_int_equal(c.items[values[i].key].line, 2);
        }
        if (info->toggle)
            assert_int_equal(FLAGS(&c, flag), 0);
        else
            assert_int_equal(FLAGS(&c, flag, values[i].good), 0);
        assert_int_equal(c.items[values[i].key].count, 1);
        assert_int_equal(c.items[values[i].key].from, WR_CONFIG_FROM_FLAG);

        /* A bad value names the key and the value and says what is allowed; nothing changes. */
        (void)snprintf(text, sizeof(text), "%s = %s\n", info->name, values[i].bad);
        if (values[i].key != WR_CONFIG_CONFIG) {
            assert_int_equal(wr_config_text(&c, "my.conf", text, err), WR_EINVAL);
            assert_non_null(strstr(err, "my.conf:1: "));
            assert_non_null(strstr(err, info->name));
            assert_non_null(strstr(err, values[i].bad));
            assert_non_null(strstr(err, "allowed is"));
        }
        wr_config_clear(&c);
    }
}

static void test_security(void **state)
{
    static const struct {
        const char *value, *first, *second;    /* no first: refused */
    } cases[] = {
        {"noise,tls", "/noise", "/tls/1.0.0"}, {"tls,noise", "/tls/1.0.0", "/noise"},
        {"tls", "/tls/1.0.0", NULL},           {"noise", "/noise", NULL},
        {"", NULL, NULL},                      {"noise,", NULL, NULL},
        {"tls,noise,tls", NULL, NULL},         {"plaintext", NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct wr_config c;
        const struct wr_secure *got[WR_SECURE_COUNT + 1];
        assert_int_equal(wr_config_init(&c, err), 0);
        int rc = wr_config_default(&c, WR_CONFIG_SECURITY, cases[i].value, err);
        assert_int_equal(rc, cases[i].first ? 0 : WR_EINVAL);
        if (rc == 0) {
            wr_config_security(&c, got);
            assert_string_equal(got[0]->name, cases[i].first);
            assert_true(cases[i].second ? strcmp(got[1]->name, cases[i].second) == 0 : !got[1]);
            assert_null(got[WR_SECURE_COUNT]);
        }
        wr_config_clear(&c);
    }
}

static void test_defaults(void **state)
{
    (void)state;
    struct wr_config c;
    assert_int_equal(wr_config_init(&c, err), 0);
    assert_int_equal(c.items[WR_CONFIG_LISTEN].count, 4);
    assert_int_equal(c.items[WR_CONFIG_BOOTSTRAP].count, 5);
    assert_string_equal(wr_config_get(&c, WR_CONFIG_NETWORK), "ipfs");
    assert_int_equal(wr_config_choice(&c, WR_CONFIG_DHT), WR_CONFIG_DHT_AUTO);
    assert_int_equal(wr_config_choice(&c, WR_CONFIG_RELAY), WR_CONFIG_RELAY_AUTO);
    assert_int_equal(wr_config_choice(&c, WR_CONFIG_PERF), WR_CONFIG_PERF_ALLOWED);
    assert_true(wr_config_on(&c, WR_CONFIG_MDNS));
    assert_string_equal(wr_config_get(&c, WR_CONFIG_PSK), "");
    struct wr_addr http;
    assert_false(wr_config_http(&c, &http));
    for (unsigned key = 0; key < WR_CONFIG_COUNT; key++)
        assert_int_equal(c.items[key].from, WR_CONFIG_FROM_DEFAULT);
    assert_int_equal(wr_config_default(&c, WR_CONFIG_DATA, "/home/a b/warren", err), 0);
    assert_string_equal(wr_config_get(&c, WR_CONFIG_DATA), "/home/a b/warren");
    assert_int_equal(c.items[WR_CONFIG_DATA].from, WR_CONFIG_FROM_DEFAULT);
    wr_config_clear(&c);
}

static void test_flag_over_file_over_default(void **state)
{
    (void)state;
    static const char text[] = "# a comment\n"
                               "listen = /ip4/127.0.0.1/tcp/1\n"
                               "listen = /ip4/127.0.0.1/tcp/2 ; another\n"
                               "  /ip4/127.0.0.1/tcp/3\n"
                               "dht: client\n"
                               "no-mdns = yes\n"
                               "log = warn\n";
    for (int order = 0; order < 2; order++) { /* whichever is read first */
        struct wr_config c;
        assert_int_equal(wr_config_init(&c, err), 0);
        if (order)
            assert_int_equal(wr_config_text(&c, "f", text, err), 0);
        assert_int_equal(FLAGS(&c, "--dht", "server", "--log=debug", "--log=info", "--no-portmap"),
                         0);
        if (!order)
            assert_int_equal(wr_config_text(&c, "f", text, err), 0);
        assert_int_equal(wr_config_finish(&c, err), 0);
        assert_int_equal(c.items[WR_CONFIG_LISTEN].count, 3);
        assert_string_equal(c.items[WR_CONFIG_LISTEN].values[1], "/ip4/127.0.0.1/tcp/2");
        assert_string_equal(c.items[WR_CONFIG_LISTEN].values[2], "/ip4/127.0.0.1/tcp/3");
        assert_int_equal(c.items[WR_CONFIG_LISTEN].from, WR_CONFIG_FROM_FILE);
        assert_int_equal(c.items[WR_CONFIG_LISTEN].line, 2);
        assert_int_equal(wr_config_choice(&c, WR_CONFIG_DHT), WR_CONFIG_DHT_SERVER);
        assert_string_equal(wr_config_get(&c, WR_CONFIG_LOG), "info");
        assert_false(wr_config_on(&c, WR_CONFIG_MDNS));
        assert_false(wr_config_on(&c, WR_CONFIG_PORTMAP));
        assert_int_equal(c.items[WR_CONFIG_PORTMAP].from, WR_CONFIG_FROM_FLAG);
        wr_config_clear(&c);
    }
}

static void test_mistakes_say_what_to_do(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } table[] = {
        {"\nlisten = none\nlitsen = x\n", "f:3: unknown key litsen; the nearest is listen"},
        {"bootstrp = none\n", "f:1: unknown key bootstrp; the nearest is bootstrap"},
        {"nomdns = yes\n", "the nearest is no-mdns"},
        {"no-dht = yes\n", "unknown key no-dht; the nearest is dht"},
        {"sten = x\n", "f:1: unknown key sten; `warren help run` lists all"},
        {"dht = auto\n\ndht = off\n", "f:3: dht: given twice, first on line 1"},
        {"[node]\ndht = auto\n", "f:2: section [node]: there are no sections"},
        {"dht = auto\nwhat is this\n", "f:2: not of the form `key = value`"},
        {"config = /etc/other\n", "f:1: config is a flag only"},
        {"no-mdns = perhaps\n", "f:1: no-mdns: \"perhaps\" is not possible; allowed is yes or no"},
        {"listen = /ip4/127.0.0.1/tcp/1/p2p/" PEER "\n", "without /p2p"},
        {"dht = \n", "f:1: dht: \"\" is not possible; allowed is auto, server, client or off"},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct wr_config c;
        assert_int_equal(wr_config_init(&c, err), 0);
        assert_int_equal(wr_config_text(&c, "f", table[i].text, err), WR_EINVAL);
        if (!strstr(err, table[i].says))
            fail_msg("\"%s\" lacks \"%s\"", err, table[i].says);
        wr_config_clear(&c);
    }
    struct wr_config c;
    assert_int_equal(wr_config_init(&c, err), 0);
    assert_int_equal(FLAGS(&c, "--lisen", "x"), WR_EINVAL);
    assert_string_equal(err, "unknown flag --lisen; the nearest is --listen");
    assert_int_equal(FLAGS(&c, "--foo"), WR_EINVAL);
    assert_string_equal(err, "unknown flag --foo; `warren help run` lists all");
    assert_int_equal(FLAGS(&c, "--ntework", "x"), WR_EINVAL);
    assert_string_equal(err, "unknown flag --ntework; the nearest is --network");
    assert_int_equal(FLAGS(&c, "--dht"), WR_EINVAL);
    assert_string_equal(err, "--dht needs MODE");
    assert_int_equal(FLAGS(&c, "here"), WR_EINVAL);
    assert_non_null(strstr(err, "unexpected argument \"here\""));
    assert_int_equal(FLAGS(&c, "--no-mdns=yes"), WR_EINVAL);
    assert_int_equal(FLAGS(&c, "--network="), WR_EINVAL);
    assert_int_equal(FLAGS(&c, "--listen", "none", "--listen", "/ip4/127.0.0.1/tcp/0"), 0);
    assert_int_equal(wr_config_finish(&c, err), WR_EINVAL);
    assert_string_equal(err, "listen: \"none\" stands alone; leave it out, or the other values");
    wr_config_clear(&c);
}

static void test_bounds(void **state)
{
    (void)state;
    struct wr_config c;
    char *text = wr_alloc(WR_CONFIG_FILE_MAX + 16), line[] = "listen = /ip4/127.0.0.1/tcp/1\n";
    assert_int_equal(wr_config_init(&c, err), 0);
    for (int i = 0; i < WR_CONFIG_VALUES_MAX; i++)
        strcat(text, line);
    assert_int_equal(wr_config_text(&c, "f", text, err), 0);
    assert_int_equal(c.items[WR_CONFIG_LISTEN].count, WR_CONFIG_VALUES_MAX);
    wr_config_clear(&c);
    assert_int_equal(wr_config_init(&c, err), 0);
    strcat(text, line);
    assert_int_equal(wr_config_text(&c, "f", text, err), WR_EINVAL);
    assert_non_null(strstr(err, "f:65: listen: more than 64 values"));
    wr_config_clear(&c);

    /* A line that inih would cut in two is refused as a whole. */
    assert_int_equal(wr_config_init(&c, err), 0);
    memset(text, 0, WR_CONFIG_FILE_MAX);
    (void)sprintf(text, "dht = client\ndata = /%0300d\n", 0);
    assert_int_equal(wr_config_text(&c, "f", text, err), WR_EINVAL);
    assert_non_null(strstr(err, "f:2: the line is longer than"));
    assert_int_equal(FLAGS(&c, "--data", memset(text, 'a', 1025)), WR_EINVAL);
    wr_config_clear(&c);
    wr_free(text);
}

static void test_files(void **state)
{
    (void)state;
    struct wr_config c;
    char path[] = "/tmp/warren-config-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    (void)fputs("dht = client", file); /* no newline at the end */
    (void)fflush(file);
    assert_int_equal(wr_config_init(&c, err), 0);
    assert_int_equal(wr_config_file(&c, path, err), 0);
    assert_int_equal(wr_config_choice(&c, WR_CONFIG_DHT), WR_CONFIG_DHT_CLIENT);
    (void)fputc('\0', file);
    (void)fflush(file);
    assert_int_equal(wr_config_file(&c, path, err), WR_EINVAL);
    assert_non_null(strstr(err, "not a text file"));
    assert_int_equal(ftruncate(fd, WR_CONFIG_FILE_MAX + 1), 0);
    assert_int_equal(wr_config_file(&c, path, err), WR_EINVAL);
    assert_non_null(strstr(err, "longer than 65536 bytes"));
    (void)fclose(file);
    (void)unlink(path);
    assert_int_equal(wr_config_file(&c, path, err), WR_ENOTFOUND);
    assert_non_null(strstr(err, path));
    assert_int_equal(wr_config_file(&c, "/tmp", err), WR_EIO);
    wr_config_clear(&c);
}

static void test_own_networks_have_no_builtin_bootstrap(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t want;
    } table[] = {
        {"", 5},
        {"network = ipfs\n", 5},
        {"network = lab\n", 0},
        {"psk = swarm.key\n", 0},
        {"bootstrap = none\n", 0},
        {"network = lab\nbootstrap = /ip4/192.0.2.1/tcp/1/p2p/" PEER "\n", 1},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct wr_config c;
        assert_int_equal(wr_config_init(&c, err), 0);
        assert_int_equal(wr_config_text(&c, "f", table[i].text, err), 0);
        assert_int_equal(wr_config_finish(&c, err), 0);
        assert_int_equal(c.items[WR_CONFIG_BOOTSTRAP].count, table[i].want);
        wr_config_clear(&c);
    }
}

static void test_reload_moves_live_keys_only(void **state)
{
    (void)state;
    struct wr_config running, fresh;
    uint32_t restart;
    assert_int_equal(wr_config_init(&running, err), 0);
    assert_int_equal(wr_config_init(&fresh, err), 0);
    assert_int_equal(wr_config_diff(&running, &fresh), 0);
    assert_int_equal(wr_config_reload(&running, &fresh, &restart), 0);
    assert_int_equal(restart, 0);

    static const char text[] =
        "log = debug\nlimits = small\ndht = off\nlisten = none\nmdns = yes\n";
    assert_int_equal(wr_config_text(&fresh, "f", text, err), 0);
    assert_int_equal(wr_config_finish(&fresh, err), 0);
    uint32_t moved = wr_config_reload(&running, &fresh, &restart);
    assert_int_equal(moved, 1u << WR_CONFIG_LOG | 1u << WR_CONFIG_LIMITS);
    assert_int_equal(restart, 1u << WR_CONFIG_DHT | 1u << WR_CONFIG_LISTEN);
    assert_string_equal(wr_config_get(&running, WR_CONFIG_LOG), "debug");
    assert_int_equal(running.items[WR_CONFIG_LOG].from, WR_CONFIG_FROM_FILE);
    assert_int_equal(wr_config_choice(&running, WR_CONFIG_DHT), WR_CONFIG_DHT_AUTO);
    assert_int_equal(running.items[WR_CONFIG_LISTEN].count, 4);
    wr_config_clear(&running);
    wr_config_clear(&fresh);
}

static void test_http_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
        uint16_t port;
    } table[] = {
        {"127.0.0.1:80", true, 80}, {"[::1]:65535", true, 65535},
        {"0.0.0.0:0", true, 0},     {"127.0.0.1:65536", false, 0},
        {"::1:80", false, 0},       {"[127.0.0.1]:80", false, 0},
        {"127.0.0.1", false, 0},    {":80", false, 0},
        {"[]:80", false, 0},        {"localhost:80", false, 0},
        {"127.0.0.1:", false, 0},   {"127.0.0.1:+1", false, 0},
        {"[::1:80", false, 0},      {"127.0.0.1:123456", false, 0},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct wr_config c;
        struct wr_addr addr;
        assert_int_equal(wr_config_init(&c, err), 0);
        assert_int_equal(FLAGS(&c, "--http", table[i].text), table[i].good ? 0 : WR_EINVAL);
        assert_int_equal(wr_config_http(&c, &addr), table[i].good);
        if (table[i].good)
            assert_int_equal(addr.port, table[i].port);
        wr_config_clear(&c);
    }
}

static void test_rates(void **state)
{
    static const struct {
        const char *text;
        bool good;
        uint64_t rate;
    } table[] = {
        {"none", true, 0},          {"16K", true, 16384},     {"64M", true, 64 << 20},
        {"16384", true, 16384},     {"67108864", true, 64 << 20},
        {"0", false, 0},            {"16383", false, 0},      {"15K", false, 0},
        {"67108865", false, 0},     {"65M", false, 0},        {"1G", false, 0},
        {"1MB", false, 0},          {"M", false, 0},          {"", false, 0},
        {"-1M", false, 0},          {"+1M", false, 0},        {"1 M", false, 0},
        {"99999999M", false, 0},    {"17592186044417M", false, 0},
    };
    struct wr_config c;
    (void)state;
    assert_int_equal(wr_config_init(&c, err), 0);
    assert_int_equal(wr_config_rate(&c, WR_CONFIG_RELAY_RATE), WR_RELAY_RATE_TOTAL);
    assert_int_equal(wr_config_rate(&c, WR_CONFIG_RELAY_RATE_EACH), WR_RELAY_RATE_EACH);
    wr_config_clear(&c);
    for (size_t i = 0; i < COUNT(table); i++) {
        assert_int_equal(wr_config_init(&c, err), 0);
        assert_int_equal(FLAGS(&c, "--relay-rate", table[i].text), table[i].good ? 0 : WR_EINVAL);
        if (table[i].good)
            assert_int_equal(wr_config_rate(&c, WR_CONFIG_RELAY_RATE), table[i].rate);
        wr_config_clear(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_key_by_flag_and_file),
        cmocka_unit_test(test_security),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_flag_over_file_over_default),
        cmocka_unit_test(test_mistakes_say_what_to_do),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_own_networks_have_no_builtin_bootstrap),
        cmocka_unit_test(test_reload_moves_live_keys_only),
        cmocka_unit_test(test_http_addresses),
        cmocka_unit_test(test_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
