/* Datagrams. */
#include "tests/env/contract.h"

struct post {
    struct wr_udp *udp;
    struct wr_addr addr, from;
    unsigned count;
    uint8_t last[2048];
    size_t last_len;
    uint32_t ifindex;
    bool close_in_handler, closed;
};

static void on_datagram(void *arg, const struct wr_addr *from, uint32_t ifindex, uint8_t *data, size_t len)
{
    struct post *p = arg;
    assert_false(p->closed);
    p->count++;
    p->from = *from;
    p->ifindex = ifindex;
    p->last_len = len;
    memcpy(p->last, data, len < sizeof(p->last) ? len : sizeof(p->last));
    memset(data, 0xdd, len);
    if (p->close_in_handler) {
        wr_udp_close(p->udp);
        p->closed = true;
    }
}

static const struct wr_udp_ops ops = {on_datagram};

static void post_open(struct post *p, struct wr_env *env, const struct wr_addr *at, bool shared)
{
    assert_int_equal(wr_env_udp(env, at, shared, &ops, p, &p->udp), 0);
    wr_udp_addr(p->udp, &p->addr);
    assert_int_not_equal(p->addr.port, 0);
}

static void there_and_back(struct contract *c, struct wr_addr at_a, struct wr_addr at_b)
{
    struct post a = {0}, b = {0};
    post_open(&a, c->a, &at_a, false);
    post_open(&b, c->b, &at_b, false);
    assert_int_equal(wr_udp_send(a.udp, &b.addr, 0, WR_BYTES_STR("hello")), 0);
    UNTIL(c, b.count == 1);
    assert_int_equal(b.last_len, 5);
    assert_memory_equal(b.last, "hello", 5);
    assert_true(wr_addr_equal(&b.from, &a.addr));
    assert_int_not_equal(b.ifindex, 0);
    /* Back to where it came from, by the interface it came in by. */
    assert_int_equal(wr_udp_send(b.udp, &b.from, b.ifindex, WR_BYTES_STR("yes")), 0);
    UNTIL(c, a.count == 1);
    assert_memory_equal(a.last, "yes", 3);
    /* An empty one is a datagram as well. */
    assert_int_equal(wr_udp_send(a.udp, &b.addr, 0, WR_BYTES_NONE), 0);
    UNTIL(c, b.count == 2);
    assert_int_equal(b.last_len, 0);
    wr_udp_close(a.udp);
    wr_udp_close(b.udp);
}

static void there_and_back_ipv4(void **state)
{
    struct contract *c = *state;
    there_and_back(c, c->a_addr, c->b_addr);
}

static void there_and_back_ipv6(void **state)
{
    struct contract *c = *state;
    there_and_back(c, c->a_addr6, c->b_addr6);
}

static void many_and_large(void **state)
{
    struct contract *c = *state;
    struct post a = {0}, b = {0};
    static uint8_t large[65000];
    post_open(&a, c->a, &c->a_addr, false);
    post_open(&b, c->b, &c->b_addr, false);
    memset(large, 7, sizeof(large));
    assert_int_equal(wr_udp_send(a.udp, &b.addr, 0, WR_BYTES(large, sizeof(large))), 0);
    UNTIL(c, b.count == 1);
    assert_int_equal(b.last_len, sizeof(large));
    assert_int_equal(b.last[2000], 7);
    assert_int_equal(wr_udp_send(a.udp, &b.addr, 0, WR_BYTES(large, 65536)), WR_EIO);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(wr_udp_send(a.udp, &b.addr, 0, WR_BYTES(large, 1200)), 0);
    UNTIL(c, b.count == 61);
    assert_int_equal(b.last_len, 1200);
    wr_udp_close(a.udp);
    wr_udp_close(b.udp);
}

static void ports(void **state)
{
    struct contract *c = *state;
    struct post a = {0}, again = {0};
    struct wr_udp *none;
    post_open(&a, c->b, &c->b_addr, false);
    assert_int_equal(wr_env_udp(c->b, &a.addr, false, &ops, &again, &none), WR_EINUSE);
    struct wr_addr foreign = {.ip = {4, {192, 0, 2, 7}}, .port = 4001};
    assert_int_equal(wr_env_udp(c->b, &foreign, false, &ops, &again, &none), WR_EINVAL);
    wr_udp_close(a.udp);
    post_open(&again, c->b, &a.addr, false);
    wr_udp_close(again.udp);
}

static void wrong_family(void **state)
{
    struct contract *c = *state;
    struct post a = {0};
    struct wr_addr to = c->b_addr6;
    to.port = 9;
    post_open(&a, c->a, &c->a_addr, false);
    assert_int_equal(wr_udp_send(a.udp, &to, 0, WR_BYTES_STR("x")), WR_EUNREACH);
    wr_udp_close(a.udp);
}

/* Nobody listens there: the answer of the network must not end the socket. */
static void to_a_closed_port(void **state)
{
    struct contract *c = *state;
    struct post a = {0}, b = {0}, gone = {0};
    post_open(&a, c->a, &c->a_addr, false);
    post_open(&b, c->b, &c->b_addr, false);
    post_open(&gone, c->b, &c->b_addr, false);
    wr_udp_close(gone.udp);
    for (int i = 0; i < 3; i++) {
        wr_udp_send(a.udp, &gone.addr, 0, WR_BYTES_STR("lost"));
        contract_run(c, 2 * WR_MSEC);
    }
    assert_int_equal(wr_udp_send(a.udp, &b.addr, 0, WR_BYTES_STR("here")), 0);
    UNTIL(c, b.count == 1);
    wr_udp_close(a.udp);
    wr_udp_close(b.udp);
}

static void close_inside_the_handler(void **state)
{
    struct contract *c = *state;
    struct post a = {0}, b = {.close_in_handler = true};
    post_open(&a, c->a, &c->a_addr, false);
    post_open(&b, c->b, &c->b_addr, false);
    for (int i = 0; i < 10; i++)
        wr_udp_send(a.udp, &b.addr, 0, WR_BYTES_STR("x"));
    UNTIL(c, b.closed);
    contract_run(c, 5 * WR_MSEC);
    assert_int_equal(b.count, 1);
    wr_udp_close(a.udp);
}

static uint32_t interface_with(struct contract *c, const struct wr_ip *ip)
{
    struct wr_ifaddr all[WR_IFADDRS_MAX];
    size_t count = wr_env_ifaddrs(c->a, all, WR_IFADDRS_MAX);
    for (size_t i = 0; i < count; i++)
        if (wr_ip_equal(&all[i].ip, ip))
            return all[i].index;
    return 0;
}

static void multicast(void **state)
{
    struct contract *c = *state;
    struct post a = {0}, b = {0}, deaf = {0};
    struct wr_ip group = {4, {224, 0, 0, 251}};
    struct wr_addr at = {.ip.family = 4};
    uint32_t ifindex = interface_with(c, &c->a_addr.ip);
    assert_int_not_equal(ifindex, 0);
    post_open(&b, c->b, &at, true);
    at.port = b.addr.port;
    post_open(&a, c->a, &at, true);    /* with libuv the very port; on another machine its own */
    post_open(&deaf, c->a, &at, true);
    assert_int_equal(wr_udp_join(a.udp, &group, ifindex), 0);
    assert_int_equal(wr_udp_join(b.udp, &group, ifindex), 0);
    assert_int_equal(wr_udp_join(b.udp, &group, ifindex), 0);
    struct wr_ip no_group = {4, {10, 0, 0, 1}}, other_family = {6, {0xff, 2, [15] = 0xfb}};
    assert_int_equal(wr_udp_join(b.udp, &no_group, ifindex), WR_EINVAL);
    assert_int_equal(wr_udp_join(b.udp, &other_family, ifindex), WR_EINVAL);
    struct wr_addr to = {.ip = group, .port = at.port};
    assert_int_equal(wr_udp_send(a.udp, &to, ifindex, WR_BYTES_STR("who is there")), 0);
    UNTIL(c, b.count == 1 && a.count == 1);    /* the sender's machine hears it, too */
    assert_int_equal(b.last_len, 12);
    if (c->simulated)    /* Linux puts another interface's address on what it sends through lo */
        assert_true(wr_ip_equal(&b.from.ip, &c->a_addr.ip));
    assert_int_equal(b.from.port, at.port);
    assert_int_equal(b.ifindex, ifindex);
    assert_int_equal(deaf.count, 0);
    wr_udp_close(a.udp);
    wr_udp_close(b.udp);
    wr_udp_close(deaf.udp);
}

static void interfaces(void **state)
{
    struct contract *c = *state;
    struct wr_ifaddr all[WR_IFADDRS_MAX], one[1];
    size_t count = wr_env_ifaddrs(c->a, all, WR_IFADDRS_MAX);
    bool own = false, loopback = false;
    for (size_t i = 0; i < count; i++) {
        assert_true(all[i].name[0] && all[i].index && all[i].prefix);
        own |= wr_ip_equal(&all[i].ip, &c->a_addr.ip);
        if (wr_ip_classify(&all[i].ip) == WR_IP_LOOPBACK) {
            assert_true(all[i].loopback);
            assert_int_equal(all[i].prefix, all[i].ip.family == 4 ? 8 : 128);
            loopback = true;
        }
    }
    assert_true(own && loopback);
    assert_int_equal(wr_env_ifaddrs(c->a, one, 1), 1);
}

/* However this machine is connected: every way out is by one of its interfaces, better ones first. */
static void ways_out(void **state)
{
    struct contract *c = *state;
    struct wr_gateway of[WR_GATEWAYS_MAX], one[1];
    struct wr_ifaddr all[WR_IFADDRS_MAX];
    size_t link_count = wr_env_ifaddrs(c->a, all, WR_IFADDRS_MAX);
    size_t count = wr_env_gateways(c->a, of, WR_GATEWAYS_MAX);
    for (size_t i = 0; i < count; i++) {
        bool known = false;
        for (size_t k = 0; k < link_count; k++)
            known |= all[k].index == of[i].index && !all[k].loopback;
        assert_true(known && (of[i].family == 4 || of[i].family == 6));
        assert_true(i == 0 || of[i - 1].family < of[i].family ||
                    (of[i - 1].family == of[i].family && of[i - 1].metric <= of[i].metric));
    }
    assert_int_equal(wr_env_gateways(c->a, one, 1), count ? 1 : 0);
    assert_int_equal(wr_env_gateways(c->a, one, 0), 0);
}

int contract_udp(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TEST(there_and_back_ipv4), CONTRACT_TEST(there_and_back_ipv6),
        CONTRACT_TEST(many_and_large),      CONTRACT_TEST(ports),
        CONTRACT_TEST(wrong_family),        CONTRACT_TEST(to_a_closed_port),
        CONTRACT_TEST(multicast),           CONTRACT_TEST(close_inside_the_handler),
        CONTRACT_TEST(interfaces),          CONTRACT_TEST(ways_out),
    };
    return cmocka_run_group_tests_name("udp", tests, NULL, NULL);
}
