/* Addresses: text both ways, what each special block counts as, prefixes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/addr.h"

#include <netinet/in.h>
#include "transport/err.h"

#include <stdio.h>
#include <string.h>

static struct wr_ip ip_of(const char *text)
{
    struct wr_ip ip;
    assert_int_equal(wr_ip_parse(text, &ip), 0);
    return ip;
}

static void test_text_round_trip(void **state)
{
    (void)state;
    /* IPv6: RFC 5952, sections 4 and 5. */
    static const struct {
        const char *in, *out;
    } vectors[] = {
        {"1.2.3.4", "1.2.3.4"},
        {"255.255.255.255", "255.255.255.255"},
        {"::", "::"},
        {"::1", "::1"},
        {"1::", "1::"},
        {"2001:0db8::0001", "2001:db8::1"},
        {"2001:db8:0:0:0:0:2:1", "2001:db8::2:1"},
        {"2001:db8::0:1", "2001:db8::1"},
        {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
        {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
        {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
        {"2001:DB8::AaAa:1", "2001:db8::aaaa:1"},
        {"0:0:0:1:0:0:0:0", "0:0:0:1::"},
        {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
        {"::ffff:c000:201", "::ffff:192.0.2.1"},
        {"::1.2.3.4", "::102:304"},
        {"64:ff9b::1.2.3.4", "64:ff9b::102:304"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    };
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        char out[WR_ADDR_TEXT];
        struct wr_ip ip = ip_of(vectors[i].in);
        wr_ip_print(&ip, out);
        assert_string_equal(out, vectors[i].out);
        struct wr_ip again = ip_of(out);
        assert_true(wr_ip_equal(&ip, &again));
    }
}

static void test_bad_text(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "1.2.3",
                                      "1.2.3.4.5",
                                      "1.2.3.256",
                                      "01.2.3.4",
                                      "1.2.3.4 ",
                                      " 1.2.3.4",
                                      "0x1.2.3.4",
                                      "1.2.3.-4",
                                      ":",
                                      ":::",
                                      "1::2::3",
                                      "12345::",
                                      "::g",
                                      "1:2:3:4:5:6:7",
                                      "1:2:3:4:5:6:7:8:9",
                                      "fe80::1%1",
                                      "[::1]",
                                      "::1.2.3",
                                      "::1.2.3.4.5",
                                      "1:2:3:4:5:6:7::8:9"};
    struct wr_ip ip;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(wr_ip_parse(bad[i], &ip), WR_EINVAL);
}

/* IANA special-purpose address registries, both edges of each block. */
static const struct {
    const char *ip;
    enum wr_ip_class class;
} classes[] = {
    {"0.0.0.0", WR_IP_UNSPECIFIED},
    {"0.0.0.1", WR_IP_RESERVED},
    {"0.255.255.255", WR_IP_RESERVED},
    {"1.0.0.0", WR_IP_PUBLIC},
    {"9.255.255.255", WR_IP_PUBLIC},
    {"10.0.0.0", WR_IP_PRIVATE},
    {"10.255.255.255", WR_IP_PRIVATE},
    {"11.0.0.0", WR_IP_PUBLIC},
    {"11.255.255.255", WR_IP_PUBLIC},
    {"100.63.255.255", WR_IP_PUBLIC},
    {"100.64.0.0", WR_IP_PRIVATE},
    {"100.127.255.255", WR_IP_PRIVATE},
    {"100.128.0.0", WR_IP_PUBLIC},
    {"126.255.255.255", WR_IP_PUBLIC},
    {"127.0.0.1", WR_IP_LOOPBACK},
    {"127.255.255.255", WR_IP_LOOPBACK},
    {"128.0.0.0", WR_IP_PUBLIC},
    {"169.253.255.255", WR_IP_PUBLIC},
    {"169.254.0.0", WR_IP_LINK_LOCAL},
    {"169.254.255.255", WR_IP_LINK_LOCAL},
    {"169.255.0.0", WR_IP_PUBLIC},
    {"172.15.255.255", WR_IP_PUBLIC},
    {"172.16.0.0", WR_IP_PRIVATE},
    {"172.31.255.255", WR_IP_PRIVATE},
    {"172.32.0.0", WR_IP_PUBLIC},
    {"192.0.0.0", WR_IP_RESERVED},
    {"192.0.0.255", WR_IP_RESERVED},
    {"192.0.1.0", WR_IP_PUBLIC},
    {"192.0.2.0", WR_IP_RESERVED},
    {"192.0.2.255", WR_IP_RESERVED},
    {"192.0.3.0", WR_IP_PUBLIC},
    {"192.88.99.1", WR_IP_RESERVED},
    {"192.167.255.255", WR_IP_PUBLIC},
    {"192.168.0.0", WR_IP_PRIVATE},
    {"192.168.255.255", WR_IP_PRIVATE},
    {"192.169.0.0", WR_IP_PUBLIC},
    {"198.17.255.255", WR_IP_PUBLIC},
    {"198.18.0.0", WR_IP_RESERVED},
    {"198.19.255.255", WR_IP_RESERVED},
    {"198.20.0.0", WR_IP_PUBLIC},
    {"198.51.100.7", WR_IP_RESERVED},
    {"198.51.101.0", WR_IP_PUBLIC},
    {"203.0.113.255", WR_IP_RESERVED},
    {"203.0.114.0", WR_IP_PUBLIC},
    {"223.255.255.255", WR_IP_PUBLIC},
    {"224.0.0.251", WR_IP_MULTICAST},
    {"239.255.255.255", WR_IP_MULTICAST},
    {"240.0.0.0", WR_IP_RESERVED},
    {"255.255.255.254", WR_IP_RESERVED},
    {"255.255.255.255", WR_IP_MULTICAST},
    {"::", WR_IP_UNSPECIFIED},
    {"::1", WR_IP_LOOPBACK},
    {"::2", WR_IP_RESERVED},
    {"::1.2.3.4", WR_IP_RESERVED},
    {"::ffff:8.8.8.8", WR_IP_RESERVED},
    {"64:ff9b::808:808", WR_IP_RESERVED},
    {"64:ff9b:1::1", WR_IP_RESERVED},
    {"100::1", WR_IP_RESERVED},
    {"1fff:ffff::", WR_IP_RESERVED},
    {"2000::", WR_IP_PUBLIC},
    {"2001::1", WR_IP_RESERVED},
    {"2001:2::1", WR_IP_RESERVED},
    {"2001:20::1", WR_IP_RESERVED},
    {"2001:1ff:ffff::", WR_IP_RESERVED},
    {"2001:200::", WR_IP_PUBLIC},
    {"2001:db7:ffff::", WR_IP_PUBLIC},
    {"2001:db8::1", WR_IP_RESERVED},
    {"2001:db8:ffff::1", WR_IP_RESERVED},
    {"2001:db9::", WR_IP_PUBLIC},
    {"2001:4860:4860::8888", WR_IP_PUBLIC},
    {"2002:808:808::1", WR_IP_RESERVED},
    {"2003::1", WR_IP_PUBLIC},
    {"2606:4700::1111", WR_IP_PUBLIC},
    {"3ffe:b17::1", WR_IP_PUBLIC},
    {"3fff::1", WR_IP_RESERVED},
    {"3fff:fff:ffff::", WR_IP_RESERVED},
    {"3fff:1000::", WR_IP_PUBLIC},
    {"4000::", WR_IP_RESERVED},
    {"5f00::1", WR_IP_RESERVED},
    {"fbff::1", WR_IP_RESERVED},
    {"fc00::1", WR_IP_PRIVATE},
    {"fdff:ffff::1", WR_IP_PRIVATE},
    {"fe00::1", WR_IP_RESERVED},
    {"fe80::1", WR_IP_LINK_LOCAL},
    {"febf::1", WR_IP_LINK_LOCAL},
    {"fec0::1", WR_IP_RESERVED},
    {"ff02::fb", WR_IP_MULTICAST},
};

static void test_classes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        struct wr_ip ip = ip_of(classes[i].ip);
        if (wr_ip_classify(&ip) != classes[i].class)
            print_error("%s\n", classes[i].ip);
        assert_int_equal(wr_ip_classify(&ip), classes[i].class);
    }
    struct wr_ip none = {.family = 0};
    assert_int_equal(wr_ip_classify(&none), WR_IP_UNSPECIFIED);
}

static void test_prefixes(void **state)
{
    (void)state;
    struct wr_ip a = ip_of("10.1.2.3"), b = ip_of("10.1.3.3"), six = ip_of("a01:203::");
    assert_true(wr_ip_same_prefix(&a, &b, 23));
    assert_false(wr_ip_same_prefix(&a, &b, 24));
    assert_true(wr_ip_same_prefix(&a, &b, 0));
    assert_false(wr_ip_same_prefix(&a, &a, 33));
    assert_false(wr_ip_same_prefix(&a, &six, 0));
    assert_true(wr_ip_same_prefix(&six, &six, 128));
    assert_false(wr_ip_equal(&a, &six));
    char out[WR_ADDR_TEXT];
    for (unsigned bits = 0; bits <= 32; bits++) {
        struct wr_ip masked = wr_ip_mask(&a, bits);
        assert_true(wr_ip_same_prefix(&a, &masked, bits));
        struct wr_ip twice = wr_ip_mask(&masked, bits);
        assert_true(wr_ip_equal(&masked, &twice));
    }
    struct wr_ip masked = wr_ip_mask(&a, 23);
    wr_ip_print(&masked, out);
    assert_string_equal(out, "10.1.2.0");
    six = ip_of("2001:db8:1234:5678:9abc::1");
    masked = wr_ip_mask(&six, 52);
    wr_ip_print(&masked, out);
    assert_string_equal(out, "2001:db8:1234:5000::");
}

static void test_cidr(void **state)
{
    (void)state;
    struct wr_cidr c;
    assert_int_equal(wr_cidr_parse("10.0.0.0/8", &c), 0);
    struct wr_ip in = ip_of("10.255.0.1"), out = ip_of("11.0.0.1"), six = ip_of("a00::");
    assert_true(wr_cidr_contains(&c, &in));
    assert_false(wr_cidr_contains(&c, &out));
    assert_false(wr_cidr_contains(&c, &six));
    assert_int_equal(wr_cidr_parse("11.0.0.1", &c), 0);
    assert_int_equal(c.prefix, 32);
    assert_true(wr_cidr_contains(&c, &out));
    assert_false(wr_cidr_contains(&c, &in));
    assert_int_equal(wr_cidr_parse("0.0.0.0/0", &c), 0);
    assert_true(wr_cidr_contains(&c, &in));
    assert_int_equal(wr_cidr_parse("2001:db8::/32", &c), 0);
    six = ip_of("2001:db8:ffff::1");
    assert_true(wr_cidr_contains(&c, &six));
    assert_int_equal(wr_cidr_parse("::/128", &c), 0);
    static const char *const bad[] = {"",
                                      "/",
                                      "/8",
                                      "10.0.0.0/",
                                      "10.0.0.0/33",
                                      "10.0.0.0/-1",
                                      "10.0.0.0/+8",
                                      "10.0.0.0/8 ",
                                      "10.0.0.0/8/8",
                                      "10.0.0.0/0008",
                                      "::/129",
                                      "::/256",
                                      "10.0.0/8",
                                      "1111:2222:3333:4444:5555:6666:7777:8888:9999:0000/64"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(wr_cidr_parse(bad[i], &c), WR_EINVAL);
}

static void test_addr_print(void **state)
{
    (void)state;
    char out[WR_ADDR_TEXT];
    struct wr_addr a = {.ip = ip_of("1.2.3.4"), .port = 4001};
    wr_addr_print(&a, out);
    assert_string_equal(out, "1.2.3.4:4001");
    struct wr_addr b = {.ip = ip_of("fe80::1"), .port = 65535, .scope = 4294967295u};
    wr_addr_print(&b, out);
    assert_string_equal(out, "[fe80::1%4294967295]:65535");
    b.ip = ip_of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    wr_addr_print(&b, out);
    assert_string_equal(out, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535");
    b.scope = 0;
    wr_addr_print(&b, out);
    assert_string_equal(out, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
    struct wr_addr c = a;
    assert_true(wr_addr_equal(&a, &c));
    c.port++;
    assert_false(wr_addr_equal(&a, &c));
    c = a;
    c.scope = 1;
    assert_false(wr_addr_equal(&a, &c));
}

/* To the system's form and back, each part of it; a family that is none of ours is nothing. */
static void test_sockaddr(void **state)
{
    (void)state;
    struct wr_addr four = {.port = 4001}, six = {.port = 65535, .scope = 7}, back;
    struct sockaddr_storage sa;
    assert_int_equal(wr_ip_parse("192.0.2.1", &four.ip), 0);
    assert_int_equal(wr_ip_parse("fe80::1", &six.ip), 0);
    assert_int_equal(wr_addr_to_sockaddr(&four, &sa), sizeof(struct sockaddr_in));
    assert_int_equal(((struct sockaddr_in *)&sa)->sin_port, htons(4001));
    wr_addr_from_sockaddr((struct sockaddr *)&sa, &back);
    assert_true(wr_addr_equal(&back, &four));
    assert_int_equal(wr_addr_to_sockaddr(&six, &sa), sizeof(struct sockaddr_in6));
    wr_addr_from_sockaddr((struct sockaddr *)&sa, &back);
    assert_true(wr_addr_equal(&back, &six));
    assert_int_equal(back.scope, 7);
    sa.ss_family = AF_UNIX;
    wr_addr_from_sockaddr((struct sockaddr *)&sa, &back);
    assert_int_equal(back.ip.family, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sockaddr),
        cmocka_unit_test(test_text_round_trip),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_cidr),
        cmocka_unit_test(test_addr_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
